package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestIndexIsLinear: the index never changes which rule a request meets.
func TestIndexIsLinear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "ab", "A", "x.y", "/a", "/a/b", "/b/", "/", "", "A.x.Y", "k=v", `\*`, "%41"})
		wild := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.OneOf(word, rapid.SampledFrom([]string{"*", "?", "*"})), 1, 4).Draw(t, "parts"), "")
		})
		condition := rapid.Custom(func(t *rapid.T) Condition {
			switch f := rapid.SampledFrom([]string{HostHeader, PathPattern, HTTPHeader, RequestMethod, QueryField, SourceIP}).Draw(t, "field"); f {
			case HTTPHeader:
				return Condition{Field: f, Header: rapid.SampledFrom([]string{"X-A", "x-b"}).Draw(t, "header"), Values: rapid.SliceOfN(wild, 1, 3).Draw(t, "values")}
			case RequestMethod:
				return Condition{Field: f, Values: rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "PUT", "get"}), 1, 2).Draw(t, "values")}
			case SourceIP:
				return Condition{Field: f, Values: rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/32", "::/0"}), 1, 2).Draw(t, "values")}
			case QueryField:
				c := Condition{Field: f}
				for range rapid.IntRange(1, 3).Draw(t, "n") {
					c.Query = append(c.Query, QueryString{Key: rapid.OneOf(rapid.Just(""), wild).Draw(t, "key"), Value: wild.Draw(t, "value")})
				}
				return c
			case PathPattern:
				if rapid.IntRange(0, 5).Draw(t, "regex") == 0 {
					return Condition{Field: f, Regex: []string{"^/a.*b"}}
				}
				return Condition{Field: f, Values: rapid.SliceOfN(wild, 1, 3).Draw(t, "values")}
			default:
				return Condition{Field: f, Values: rapid.SliceOfN(wild, 1, 3).Draw(t, "values")}
			}
		})
		l := Listener{Addr: front, Protocol: HTTP, DefaultActions: fixed(404)}
		for i := range rapid.IntRange(indexFrom, 40).Draw(t, "rules") {
			l.Rules = append(l.Rules, Rule{Priority: i + 1, Conditions: rapid.SliceOfN(condition, 0, 3).Draw(t, "conditions"), Actions: fixed(200)})
		}
		tb, _, err := compile(Config{Listeners: []Listener{l}}, live{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		lt := tb.listeners[front]
		clean := func(s string) string {
			return strings.NewReplacer("*", "", "?", "").Replace(s)
		}
		for range 10 {
			q := strings.Join(rapid.SliceOfN(rapid.Map(wild, clean), 0, 30).Draw(t, "query"), "&")
			head := fmt.Sprintf("%s /%s?%s HTTP/1.0\r\n", rapid.SampledFrom([]string{"GET", "PUT", "POST"}).Draw(t, "method"), strings.TrimPrefix(clean(wild.Draw(t, "path")), "/"), q)
			if h := strings.Trim(strings.NewReplacer("/", "", "\\", "", "=", "", "%", "").Replace(clean(wild.Draw(t, "host"))), "."); h != "" {
				head += "Host: " + h + crlf
			}
			for range rapid.IntRange(0, 3).Draw(t, "headers") {
				head += rapid.SampledFrom([]string{"x-a", "X-B", "X-C"}).Draw(t, "name") + ": " + clean(wild.Draw(t, "value")) + crlf
			}
			var r request
			if err := r.parse([]byte(head + crlf)); err != nil {
				t.Fatalf("%q: %v", head, err)
			}
			peer := netip.MustParseAddr(rapid.SampledFrom([]string{"10.1.2.3", "10.2.2.2", "192.0.2.1", "2001:db8::1", "2002::1"}).Draw(t, "peer"))
			a, n := lt.decide(&r, peer)
			if want, m := lt.decideInTurn(&r, peer); a != want || n != m {
				t.Fatalf("%q from %s: rule %d (%d), one by one %d (%d)\nrules %+v", head, peer, a.priority, n, want.priority, m, l.Rules)
			}
		}
	})
}

// thousand is a listener with n rules of each of which one field differs, and a request that meets the last.
func thousand(tb testing.TB, n int, field string) (*listenerTable, *request) {
	l := Listener{Addr: front, Protocol: HTTP, DefaultActions: fixed(404)}
	for i := range n {
		var c Condition
		switch field {
		case "host":
			c = Condition{Field: HostHeader, Values: []string{fmt.Sprintf("s%d.company.test", i), fmt.Sprintf("*.s%d.company.test", i)}}
		case "path":
			c = Condition{Field: PathPattern, Values: []string{fmt.Sprintf("/api/s%d", i), fmt.Sprintf("/api/s%d/*", i)}}
		case "header":
			c = Condition{Field: HTTPHeader, Header: "X-Tenant", Values: []string{fmt.Sprintf("t%d", i)}}
		case "query":
			c = Condition{Field: QueryField, Query: []QueryString{{Key: "tenant", Value: fmt.Sprintf("t%d", i)}}}
		case "source":
			c = Condition{Field: SourceIP, Values: []string{fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)}}
		}
		l.Rules = append(l.Rules, Rule{Priority: i + 1, Actions: fixed(200), Conditions: []Condition{{Field: PathPattern, Values: []string{"/api/*"}}, c}})
	}
	t, _, err := compile(Config{Listeners: []Listener{l}}, live{}, time.Time{})
	if err != nil {
		tb.Fatal(err)
	}
	var r request
	head := lines(fmt.Sprintf("GET /api/s%d/x?a=b&tenant=t%d HTTP/1.1", n-1, n-1), fmt.Sprintf("Host: S%d.company.test", n-1), fmt.Sprintf("X-Tenant: T%d", n-1),
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept: text/html", "Cookie: a=b")
	if err := r.parse([]byte(head)); err != nil {
		tb.Fatal(err)
	}
	return t.listeners[front], &r
}

// TestThousandRules: a thousand rules that differ in one condition leave few candidates, and cost no memory.
func TestThousandRules(t *testing.T) {
	for _, field := range []string{"host", "path", "header", "query", "source"} {
		lt, r := thousand(t, 1000, field)
		peer := netip.MustParseAddr("10.3.231.9")
		if a, n := lt.decide(r, peer); a.priority != 1000 || n != 1000 {
			t.Errorf("%s: rule %d", field, a.priority)
		}
		var c candidates
		lt.index.find(&c, r, peer)
		n := 0
		for c.next() >= 0 {
			n++
		}
		if n != 1 {
			t.Errorf("%s: %d candidates", field, n)
		}
		if allocs := testing.AllocsPerRun(100, func() { lt.decide(r, peer) }); allocs != 0 {
			t.Errorf("%s: %v allocations a decision", field, allocs)
		}
	}
}

func BenchmarkThousandRules(b *testing.B) {
	peer := netip.MustParseAddr("10.3.231.9")
	for _, field := range []string{"host", "path", "header", "query", "source"} {
		for _, n := range []int{1, 1000} {
			lt, r := thousand(b, n, field)
			b.Run(fmt.Sprintf("%s/%d", field, n), func(b *testing.B) {
				for b.Loop() {
					lt.decide(r, peer)
				}
			})
		}
	}
}

func TestTransforms(t *testing.T) {
	rule := func(ts ...Transform) Listener {
		return Listener{DefaultActions: fixed(404), Rules: []Rule{{Priority: 7, Conditions: []Condition{{Field: PathPattern, Values: []string{"/*"}}}, Transforms: ts, Actions: forwardTo("g")}}}
	}
	for _, c := range []struct {
		name    string
		ts      []Transform
		in, out string // target and host
	}{
		{"host", []Transform{{HostHeaderRewrite, "^mywebsite-(.+).com$", "internal.dev.$1.myweb.com"}}, "/p mywebsite-example.com", "/p internal.dev.example.myweb.com"},
		{"host with a port", []Transform{{HostHeaderRewrite, "^(a)$", "$1.test"}}, "/p a:8080", "/p a.test:8080"},
		{"url", []Transform{{URLRewrite, "^/dp/([A-Za-z0-9]+)/?$", "/product.php?id=$1"}}, "/dp/B09G3HRMW a", "/product.php?id=B09G3HRMW a"},
		{"query", []Transform{{URLRewrite, "user=([0-9]+)", "id=$1&$0$$9$"}}, "/a?user=12 a", "/a?id=12&user=12$$9$ a"},
		{"every match", []Transform{{URLRewrite, "b", "c"}}, "/abb a", "/acc a"},
		{"no match", []Transform{{URLRewrite, "^/x", "/y"}, {HostHeaderRewrite, "^x", "y"}}, "/a a", "/a a"},
		{"an optional group", []Transform{{URLRewrite, "^/(a)|(b)", "/$2"}}, "/a a", "/ a"},
		{"no target", []Transform{{URLRewrite, "^/", ""}}, "/a a", "500"},
		{"no URL", []Transform{{URLRewrite, "^/a", "/ b"}}, "/a a", "500"},
		{"no host", []Transform{{HostHeaderRewrite, ".*", ""}}, "/a a", "500"},
		{"host and port", []Transform{{HostHeaderRewrite, "^a$", "b:1"}}, "/a a", "500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lt := compiled(t, rule(c.ts...), "g")
			target, host, _ := strings.Cut(c.in, " ")
			r := parsed(t, lines("GET "+target+" HTTP/1.1", "Host: "+host))
			a, _ := lt.decide(r, netip.Addr{})
			got := "500"
			if a.transforms.rewrite(r) {
				got = string(r.target) + " " + string(r.host)
			}
			if got != c.out || a.priority != 7 {
				t.Errorf("got %q, want %q", got, c.out)
			}
		})
	}
	for _, ts := range [][]Transform{{{"x", "a", "b"}}, {{URLRewrite, "(", ""}}, {{URLRewrite, "", ""}}, {{URLRewrite, "a", ""}, {URLRewrite, "b", ""}}, {{URLRewrite, "a", strings.Repeat("x", 1025)}}} {
		if _, err := compileTransforms(ts); err == nil {
			t.Errorf("%+.60v accepted", ts)
		}
	}
}

// TestTransformsEndToEnd: what the target gets is rewritten; the rule was chosen by what the client sent.
func TestTransformsEndToEnd(t *testing.T) {
	t.Parallel()
	cfg := simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.RequestURI) })))
	cfg.Attributes["routing.http.preserve_host_header.enabled"] = "true"
	cfg.Listeners[0].Rules = []Rule{{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/old/*"}}}, Actions: forwardTo("g"),
		Transforms: []Transform{{URLRewrite, "^/old/(.*)", "/new/$1"}, {HostHeaderRewrite, "^a$", "inner.test"}}}}
	c := newLB(t, cfg).dial()
	for path, want := range map[string]string{"/old/x?y=z": "inner.test/new/x?y=z", "/other": "a/other", "/old/": "inner.test/new/"} {
		if got := text(c.get(path)); got != want {
			t.Errorf("%s became %q, want %q", path, got, want)
		}
	}
}
