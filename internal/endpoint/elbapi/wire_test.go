package elbapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
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
	"skerry/api/elbv2"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/store"
)

var update = flag.Bool("update", false, "write the responses in testdata/wire anew")

// TestWire plays the conversations of testdata/wire: what a client sends and what it gets back, byte for byte but for
// the indentation. In a file,
//
//	> Operation Member=value …   is a request, with $names replaced and %20 for a space,
//	= name Element               remembers the text of its response's first such element as $name,
//	# …                          is a comment,
//
// and what follows those is the response: the HTTP status, then the XML, in which remembered
// texts stand as their names. go test -run TestWire -update writes the responses.
func TestWire(t *testing.T) {
	files, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	m := api.NewMux(&elbv2.Service)
	(&Server{}).Register(m)
	all := map[string]bool{}
	for _, h := range m.Handlers() {
		all[h.Name] = false
	}
	for _, f := range files {
		for _, op := range play(t, f) {
			all[op] = true
		}
	}
	for op, seen := range all {
		if !seen {
			t.Errorf("no conversation has %s", op)
		}
	}
}

// conversation is one file with the cloud that it talks to.
type conversation struct {
	x     *served
	file  string
	names map[string]string
	out   bytes.Buffer // the file as it should be

	op, reply, want string // of the last request, whose response is still to be compared
}

func play(t *testing.T, file string) (ops []string) {
	t.Helper()
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	x := serveWith(t, store.Options{Rand: rand.NewChaCha8(sha256.Sum256([]byte(file))), Clock: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }})
	c := &conversation{x: x, file: file, names: map[string]string{"vpc": x.vpc, "subnetA": x.subnets[0], "subnetB": x.subnets[1]}}
	c.prepare()
	for _, l := range strings.Split(string(script), "\n") {
		switch {
		case strings.HasPrefix(l, "> "):
			c.compare()
			c.op, c.reply = c.send(strings.Fields(l[2:]))
			ops = append(ops, c.op)
		case strings.HasPrefix(l, "= "):
			f := strings.Fields(l)
			v := regexp.MustCompile(`<` + f[2] + `>([^<]+)</` + f[2] + `>`).FindStringSubmatch(c.reply)
			if v == nil {
				t.Fatalf("%s: %s: the response has no %s:\n%s", file, l, f[2], c.reply)
			}
			c.names[f[1]] = v[1]
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
	return ops
}

// compare ends a request's part of the file.
func (c *conversation) compare() {
	c.x.t.Helper()
	if c.op == "" {
		c.want = ""
		return
	}
	got := c.mask(c.reply)
	if !*update && got != strings.TrimSpace(c.want) {
		c.x.t.Errorf("%s: %s answers\n%s\nwanted\n%s", c.file, c.op, got, c.want)
	}
	c.out.WriteString(got + "\n\n")
	c.op, c.want = "", ""
}

// prepare makes what conversations name: certificates, an instance, an elastic address, security groups, objects.
func (c *conversation) prepare() {
	x := c.x
	x.instance("i-0000000000000001a", x.subnets[0], compute.Running)
	c.names["instance"] = "i-0000000000000001a"
	x.update(func(w *store.WriteTx) error {
		for _, n := range []string{"certA", "certB"} {
			arn := home.ARN("acm", "certificate/"+n)
			certificate.Certificates.Put(w, certificate.Certificate{Scope: home, ARN: arn})
			c.names[n] = arn
		}
		a, err := network.AllocateAddress(w, home)
		if err != nil {
			return err
		}
		c.names["allocation"], c.names["elastic"] = a.AllocationID, a.PublicIP
		for _, n := range []string{"sgA", "sgB"} {
			g, err := network.CreateGroup(w, home, x.vpc, n, n)
			if err != nil {
				return err
			}
			c.names[n] = g.ID
		}
		return nil
	})
	ca := newAuthority(x.t, "a", nil)
	x.object("certs", "ca.pem", ca.pem())
	x.object("certs", "a.crl", ca.revoke(x.t, 3))
	x.object("certs", "junk", []byte("junk"))
}

// mask puts the names in the place of what they stand for, the longest first.
func (c *conversation) mask(s string) string {
	names := make([]string, 0, len(c.names))
	for n := range c.names {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := len(c.names[b]) - len(c.names[a]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, n := range names {
		s = strings.ReplaceAll(s, c.names[n], "$"+n)
	}
	return s
}

var reference = regexp.MustCompile(`\$[A-Za-z0-9]+`)

// send sends a signed request and returns the status and the indented body.
func (c *conversation) send(words []string) (op, reply string) {
	t := c.x.t
	t.Helper()
	form := url.Values{"Action": {words[0]}, "Version": {"2015-12-01"}}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			t.Fatalf("%q is no member with a value", w)
		}
		v = reference.ReplaceAllStringFunc(v, func(r string) string {
			s, ok := c.names[r[1:]]
			if !ok {
				t.Fatalf("nothing is remembered as %s", r)
			}
			return s
		})
		v, err := url.PathUnescape(v)
		if err != nil {
			t.Fatal(err)
		}
		form.Set(k, v)
	}
	body := form.Encode()
	req, err := http.NewRequest("POST", c.x.url+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "skerry", SecretAccessKey: "skerry"}, req, hex.EncodeToString(sum[:]), "elasticloadbalancing", home.Region, time.Now())
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
	text = regexp.MustCompile(`(<Location>)[^<]*(/trust-store-content\?)[^<]*(</Location>)`).ReplaceAllString(text, "$1…$2…$3")
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
