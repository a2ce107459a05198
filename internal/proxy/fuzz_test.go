package proxy

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// FuzzPattern holds the wildcard matcher to a regular expression of the same meaning, and the rule index's literals to it.
func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"/img/*", "/img/a"}, {"*.example.com", "A.example.COM"}, {`a\*b?`, "a*bc"}, {"a*b*c", "aXbYc"}, {"**", ""}, {`\\*`, `\x`}, {"?", "x"}} {
		f.Add(s[0], s[1], true, true)
		f.Add(s[0], s[1], false, false)
	}
	f.Fuzz(func(t *testing.T, pat, in string, folds, escapes bool) {
		if len(pat) > 128 || len(in) > 4096 || strings.ContainsAny(pat+in, "\x00\x01") {
			return // no head holds these
		}
		for _, c := range []byte(pat + in) {
			if c >= 0x80 {
				return // regular expressions read UTF-8, we bytes
			}
		}
		p := newPattern(pat, folds, escapes)
		re := "(?s)^"
		if folds {
			re = "(?si)^"
		}
		for i := 0; i < len(pat); i++ {
			c := pat[i]
			switch {
			case escapes && c == '\\' && i+1 < len(pat) && strings.IndexByte(`*?\`, pat[i+1]) >= 0:
				i++
				re += regexp.QuoteMeta(pat[i : i+1])
			case c == '*':
				re += ".*"
			case c == '?':
				re += "."
			default:
				re += regexp.QuoteMeta(pat[i : i+1])
			}
		}
		want := regexp.MustCompile(re + "$").MatchString(in)
		if got := p.match([]byte(in)); got != want {
			t.Fatalf("%q on %q (fold %v, escapes %v): %v, want %v", pat, in, folds, escapes, got, want)
		}
		if text, where := p.longest(); want {
			b := in
			if folds {
				b = strings.ToLower(in)
			}
			if where == 0 && b != text || where == 1 && !strings.HasPrefix(b, text) || where == 2 && !strings.HasSuffix(b, text) {
				t.Fatalf("%q matches %q, but not by its literal %q (%d)", pat, in, text, where)
			}
		}
	})
}

// FuzzCookie holds the cookie reader to net/http's, and what comes from clients to the seals.
func FuzzCookie(f *testing.F) {
	s, now := newSealer([]byte("k"), ""), time.Unix(1e9, 0)
	f.Add("a=b; AWSALB=c")
	f.Add("AWSALB=" + string(s.seal(nil, "g", 7, now.Add(time.Hour))))
	f.Add("AWSALBTG=x;AWSALB")
	b, err := newBox([]byte("k"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		head := "GET / HTTP/1.1\r\nHost: a\r\nCookie: " + line + crlf + crlf
		var r request
		if len(line) > 4096 || r.parseStrict([]byte(head)) != nil || len(r.fields) != 2 {
			return
		}
		v, ok := r.cookie("AWSALB")
		if ok != (v != nil) && len(v) > 0 {
			t.Fatal("a value without a cookie")
		}
		req := http.Request{Header: http.Header{"Cookie": {line}}}
		if c, err := req.Cookie("AWSALB"); err == nil && !c.Quoted && c.Value != "" && (!ok || strings.TrimSpace(string(v)) != strings.TrimSpace(c.Value)) {
			t.Fatalf("net/http reads %q, we %q %v in %q", c.Value, v, ok, line)
		}
		if id, ok := s.open(v, "g", now); ok && id != 7 {
			t.Fatalf("opened %q as %d", v, id)
		}
		var ses session
		if b.get(string(bytes.Clone(v)), &ses, "session") {
			t.Fatalf("%q opened as a session", v)
		}
	})
}
