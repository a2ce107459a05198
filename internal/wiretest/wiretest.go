// Package wiretest plays recorded conversations with a service: what a client sends, and what it gets back. Tests of
// endpoints use it.
package wiretest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"skerry/api"
)

var update = flag.Bool("update", false, "write the responses in testdata/wire anew")

// Peer is the service that one conversation talks to. It must answer the same every time: fixed clock, seeded ids.
type Peer struct {
	URL, Region string
	Service     string // in signatures
	Version     string
	Names       map[string]string         // what conversations may name from the start
	IDs         map[string]*regexp.Regexp // what is named by itself as it appears: the first match is $KIND1, the next $KIND2 …
	Mask        func(reply string) string // takes what differs from run to run out of a reply; nil for nothing
	Do          func(words []string)      // a step beside the service's requests
}

// Run plays the conversations of testdata/wire, byte for byte but for the indentation, each with a peer of its own, whose
// ids the seed makes. In a file,
//
//	> Operation Member=value …   is a request, with $names replaced and %20 for a space,
//	~ words …                    is a step beside the requests, such as time that passes,
//	= name Element               remembers the text of its response's first such element as $name,
//	# …                          is a comment,
//
// and what follows those is the response: the HTTP status, then the XML, in which remembered
// texts stand as their names. go test -run TestWire -update writes the responses. Every operation of m with a handler must
// appear. Run tells which were answered with success, and which with an error.
func Run(t *testing.T, m *api.Mux, start func(t *testing.T, seed [32]byte) *Peer) (good, bad map[string]bool) {
	t.Helper()
	files, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	good, bad = map[string]bool{}, map[string]bool{}
	for _, f := range files {
		play(t, f, start(t, sha256.Sum256([]byte(f))), good, bad)
	}
	for _, h := range m.Handlers() {
		if !good[h.Name] && !bad[h.Name] {
			t.Errorf("no conversation has %s", h.Name)
		}
	}
	return good, bad
}

// conversation is one file with the peer that it talks to.
type conversation struct {
	t *testing.T
	*Peer
	file string
	seen map[string]int // of the ids, by kind
	out  bytes.Buffer   // the file as it should be

	op, reply, want string // of the last request, whose response is still to be compared
}

func play(t *testing.T, file string, p *Peer, good, bad map[string]bool) {
	t.Helper()
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &conversation{t: t, Peer: p, file: file, seen: map[string]int{}}
	for _, l := range strings.Split(string(script), "\n") {
		switch {
		case strings.HasPrefix(l, "> "):
			c.compare()
			c.op, c.reply = c.send(strings.Fields(l[2:]))
			if strings.HasPrefix(c.reply, "2") {
				good[c.op] = true
			} else {
				bad[c.op] = true
			}
		case strings.HasPrefix(l, "~ "):
			c.compare()
			c.Do(strings.Fields(l[2:]))
		case strings.HasPrefix(l, "= "):
			f := strings.Fields(l)
			v := regexp.MustCompile(`<` + f[2] + `>([^<]+)</` + f[2] + `>`).FindStringSubmatch(c.reply)
			if v == nil {
				t.Fatalf("%s: %s: the response has no %s:\n%s", file, l, f[2], c.reply)
			}
			c.Names[f[1]] = v[1]
		case strings.HasPrefix(l, "#"):
			c.compare()
		default:
			c.want += l + "\n"
			continue
		}
		c.out.WriteString(l + "\n")
	}
	c.compare()
	if *update {
		if err := os.WriteFile(file, append(bytes.TrimSpace(c.out.Bytes()), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// compare ends a request's part of the file.
func (c *conversation) compare() {
	c.t.Helper()
	if c.op == "" {
		c.want = ""
		return
	}
	got := c.masked(c.reply)
	if !*update && got != strings.TrimSpace(c.want) {
		c.t.Errorf("%s: %s answers\n%s\nwanted\n%s", c.file, c.op, got, c.want)
	}
	c.out.WriteString(got + "\n\n")
	c.op, c.want = "", ""
}

// name gives the ids of a reply their names.
func (c *conversation) name(reply string) {
	known := map[string]bool{}
	for _, v := range c.Names {
		known[v] = true
	}
	for kind, r := range c.IDs {
		for _, id := range r.FindAllString(reply, -1) {
			if !known[id] {
				known[id] = true
				c.seen[kind]++
				c.Names[fmt.Sprintf("%s%d", kind, c.seen[kind])] = id
			}
		}
	}
}

// masked puts the names in the place of what they stand for, the longest first.
func (c *conversation) masked(s string) string {
	names := make([]string, 0, len(c.Names))
	for n := range c.Names {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(len(c.Names[b])-len(c.Names[a]), strings.Compare(a, b))
	})
	for _, n := range names {
		s = strings.ReplaceAll(s, c.Names[n], "$"+n)
	}
	return s
}

var reference = regexp.MustCompile(`\$[A-Za-z0-9]+`)

// send sends a signed request and returns the status and the indented body.
func (c *conversation) send(words []string) (op, reply string) {
	t := c.t
	t.Helper()
	form := url.Values{"Action": {words[0]}, "Version": {c.Version}}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			t.Fatalf("%s: %q is no member with a value", c.file, w)
		}
		v = reference.ReplaceAllStringFunc(v, func(r string) string {
			if s, ok := c.Names[r[1:]]; ok {
				return s
			}
			if slices.Contains([]string{"$Latest", "$Default"}, r) {
				return r
			}
			t.Fatalf("%s: nothing is remembered as %s", c.file, r)
			return ""
		})
		v, err := url.PathUnescape(v)
		if err != nil {
			t.Fatal(err)
		}
		form.Set(k, v)
	}
	body := form.Encode()
	req, err := http.NewRequest("POST", c.URL+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "skerry", SecretAccessKey: "skerry"}, req, hex.EncodeToString(sum[:]), c.Service, c.Region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`<RequestId>[^<]*</RequestId>`).ReplaceAllString(string(b), "<RequestId>…</RequestId>")
	if c.Mask != nil {
		text = c.Mask(text)
	}
	c.name(text)
	return words[0], fmt.Sprintf("%d\n%s", res.StatusCode, indent(t, text))
}

// indent writes an element a line; an element with nothing but text stays on its own.
func indent(t *testing.T, s string) string {
	t.Helper()
	var out strings.Builder
	depth := 0
	open := "" // a start tag that waits for what comes
	d := xml.NewDecoder(strings.NewReader(s))
	line := func(text string) { fmt.Fprintf(&out, "%s%s\n", strings.Repeat(" ", depth), text) }
	var text string
	for {
		tok, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, s)
		}
		switch v := tok.(type) {
		case xml.StartElement:
			if open != "" {
				line(open)
				depth++
			}
			open, text = "<"+v.Name.Local, ""
			for _, a := range v.Attr {
				open += " " + a.Name.Local + `="` + a.Value + `"`
			}
			open += ">"
		case xml.CharData:
			text += string(v)
		case xml.EndElement:
			end := "</" + v.Name.Local + ">"
			if open != "" {
				line(open + strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(text) + end)
			} else {
				depth--
				line(end)
			}
			open, text = "", ""
		}
	}
	return strings.TrimRight(out.String(), "\n")
}
