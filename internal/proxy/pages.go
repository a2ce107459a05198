package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// reason returns the reason phrase of a status, in the load balancer's wording.
func reason(code int) string {
	switch code {
	case 414:
		return "Request-URI Too Large"
	case 503:
		return "Service Temporarily Unavailable"
	case 504:
		return "Gateway Time-out"
	}
	if s := http.StatusText(code); s != "" {
		return s
	}
	return "Unknown"
}

// htmlPage is the body of an answer that the load balancer makes itself.
func htmlPage(code int) []byte {
	s := strconv.Itoa(code) + " " + reason(code)
	return []byte("<html>\r\n<head><title>" + s + "</title></head>\r\n<body>\r\n<center><h1>" + s + "</h1></center>\r\n</body>\r\n</html>\r\n")
}

var htmlPages = func() map[int][]byte {
	m := map[int][]byte{}
	for _, c := range []int{301, 302, 400, 401, 403, 404, 405, 408, 413, 414, 417, 431, 463, 464, 500, 501, 502, 503, 504, 505, 561} {
		m[c] = htmlPage(c)
	}
	return m
}()

// ownAnswer is an answer that the load balancer makes itself.
type ownAnswer struct {
	status   int
	ctype    string
	body     []byte
	location []byte
	lines    []byte // more header lines
}

func errorAnswer(code int) ownAnswer {
	return ownAnswer{status: code, ctype: "text/html", body: htmlPages[code]}
}

const maxLocation = 8 << 10

// redirect is a compiled redirect: templates cut at their keywords.
type redirect struct {
	proto, host, port, path, query template
}

type template []templatePart

type templatePart struct {
	text string
	key  byte // p(roto) h(ost) P(ort) a(th) q(uery), or 0 for text
}

var templateKeys = map[string]byte{"#{protocol}": 'p', "#{host}": 'h', "#{port}": 'P', "#{path}": 'a', "#{query}": 'q'}

func newTemplate(s string) (t template) {
	for s != "" {
		i := strings.Index(s, "#{")
		if i < 0 {
			break
		}
		j := strings.IndexByte(s[i:], '}')
		if j < 0 {
			break
		}
		if k, ok := templateKeys[s[i:i+j+1]]; ok {
			if i > 0 {
				t = append(t, templatePart{text: s[:i]})
			}
			t = append(t, templatePart{key: k})
		} else {
			t = append(t, templatePart{text: s[:i+j+1]})
		}
		s = s[i+j+1:]
	}
	if s != "" {
		t = append(t, templatePart{text: s})
	}
	return t
}

func compileRedirect(r Redirect) (action, error) {
	or := func(s, def string) template {
		if s == "" {
			s = def
		}
		return newTemplate(s)
	}
	for _, s := range []string{r.Protocol, r.Host, r.Port, r.Path, r.Query} {
		if !allOf([]byte(s), isValue) {
			return action{}, fmt.Errorf("redirect template %q", s)
		}
	}
	a := action{kind: doRedirect, plain: true, to: redirect{
		proto: or(strings.ToLower(strings.Replace(r.Protocol, "#{PROTOCOL}", "#{protocol}", 1)), "#{protocol}"),
		host:  or(r.Host, "#{host}"), port: or(r.Port, "#{port}"), path: or(r.Path, "/#{path}"), query: or(r.Query, "#{query}"),
	}}
	if r.DropQuery {
		a.to.query = nil
	}
	switch r.StatusCode {
	case "HTTP_301", "301":
		a.status = 301
	case "HTTP_302", "302", "":
		a.status = 302
	default:
		return action{}, fmt.Errorf("redirect status %q", r.StatusCode)
	}
	return a, nil
}

func (t template) expand(dst []byte, r *request, l *listenerTable, host []byte) []byte {
	for _, p := range t {
		switch p.key {
		case 0:
			dst = append(dst, p.text...)
		case 'p':
			dst = append(dst, l.proto...)
		case 'h':
			dst = append(dst, host...)
		case 'P':
			dst = append(dst, l.port...)
		case 'a':
			dst = append(dst, bytes.TrimPrefix(r.path, slash)...)
		case 'q':
			dst = append(dst, r.query...)
		}
	}
	return dst
}

// location returns the redirect's Location; nil if it is too long. The port is always in it, as in the service.
func (to *redirect) location(r *request, l *listenerTable, local []byte) []byte {
	host := r.hostname
	if len(host) == 0 {
		host = local[:max(0, bytes.LastIndexByte(local, ':'))]
	}
	var b []byte
	b = to.proto.expand(b, r, l, host)
	b = append(b, "://"...)
	b = to.host.expand(b, r, l, host)
	b = append(b, ':')
	b = to.port.expand(b, r, l, host)
	b = to.path.expand(b, r, l, host)
	n := len(b)
	b = append(b, '?')
	if b = to.query.expand(b, r, l, host); len(b) == n+1 {
		b = b[:n]
	}
	if len(b) > maxLocation {
		return nil
	}
	return b
}
