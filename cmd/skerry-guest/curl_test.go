package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCurl(t *testing.T) {
	tries := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s host=%s x=%s ct=%s ua=%s auth=%s body=%s", r.Method, r.URL.RequestURI(), r.Host, strings.Join(r.Header["X-A"], ","), r.Header.Get("Content-Type"), r.UserAgent(), r.Header.Get("Authorization"), b)
	})
	mux.HandleFunc("/missing", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not here", 404) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/echo?to", 302) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(5 * time.Second):
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/flaky", func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries < 3 {
			w.WriteHeader(503)
		}
		io.WriteString(w, "at last")
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	tls := httptest.NewTLSServer(mux)
	defer tls.Close()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, []byte("a\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ua := "curl/8 (skerry-guest)"
	host := strings.TrimPrefix(s.URL, "http://")
	echo := func(method, uri, ct, body string) string {
		return method + " " + uri + " host=" + host + " x= ct=" + ct + " ua=" + ua + " auth= body=" + body
	}
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		args string
		code int
		out  string
		err  string
	}{
		{"-s U/echo", 0, echo("GET", "/echo", "", ""), ""},
		{"-sX PUT U/echo", 0, echo("PUT", "/echo", "", ""), ""},
		{"-sXPUT U/echo", 0, echo("PUT", "/echo", "", ""), ""},
		{"-s -d a=1 --data b=2 U/echo", 0, echo("POST", "/echo", form, "a=1&b=2"), ""},
		{"-s --data-binary @DATA U/echo", 0, echo("POST", "/echo", form, "a\nb\n"), ""},
		{"-s -d @DATA U/echo", 0, echo("POST", "/echo", form, "ab"), ""},
		{"-s --data-urlencode a&b --data-urlencode =c&d --data-urlencode k=e@f --data-urlencode n@DATA --data-urlencode @DATA U/echo", 0,
			echo("POST", "/echo", form, "a%26b&c%26d&k=e%40f&n=a%0Ab%0A&a%0Ab%0A"), ""},
		{"-s --data-urlencode n@/no/such/file U/echo", 2, "", "curl: open /no/such/file: no such file or directory\n"},
		{"-s -H @DATA U/echo", 2, "", "curl: headers from a file are not supported here\n"},
		{"-s -w @DATA U/echo", 2, "", "curl: a format from a file is not supported here\n"},
		{"-s -G -d q=1 U/echo", 0, echo("GET", "/echo?q=1", "", ""), ""},
		{"-s -d {} -H Content-Type:application/json U/echo", 0, echo("POST", "/echo", "application/json", "{}"), ""},
		{"-s -H X-A:1 -H X-A:2 -H Host:h -A me -u u:p U/echo", 0, "GET /echo host=h x=1,2 ct= ua=me auth=Basic dTpw body=", ""},
		{"-s U/missing", 0, "not here\n", ""},
		{"-sf U/missing", 22, "", ""},
		{"-s --fail-with-body U/missing", 22, "not here\n", ""},
		{"-sSf U/missing", 22, "", "curl: (22) The requested URL returned error: 404\n"},
		{"-s -o /dev/null -w %{http_code}\\n U/missing", 0, "404\n", ""},
		{"-s -o /dev/null -w %{http_code},%{redirect_url} U/moved", 0, "302,U/echo?to", ""},
		{"-sL U/moved", 0, echo("GET", "/echo?to", "", ""), ""},
		{"-sS --max-time 0.1 U/slow", 28, "", "curl: (28) Operation timed out\n"},
		{"-s -w %{http_code} --max-time 0.1 U/slow", 28, "000", ""},
		{"-s --retry 3 --retry-delay 0.01 U/flaky", 0, "at last", ""},
		{"-sk T/missing", 0, "not here\n", ""},
		{"-s T/missing", 60, "", ""},
		{"-s http://127.0.0.1:1/", 7, "", ""},
		{"-s ftp://x/", 3, "", ""},
		{"-s telnet://x:22", 3, "", ""},
		{"-s http://no-such-host.invalid/", 6, "", ""},
		{"-s", 2, "", "curl: no URL specified\n"},
		{"--frobnicate U", 2, "", "curl: option --frobnicate: is unknown to this small curl\n"},
		{"-sF x=y U/echo", 2, "", "curl: option -F: is unknown to this small curl\n"},
		{"-s -m x U/echo", 2, "", "curl: option --m: \"x\" is not a number of seconds\n"},
		{"-s -H", 2, "", "curl: option -H: requires parameter\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			repl := strings.NewReplacer("U/", s.URL+"/", "T/", tls.URL+"/", "@DATA", "@"+data)
			var args []string
			for _, a := range strings.Fields(c.args) {
				args = append(args, repl.Replace(a))
			}
			var out, errs bytes.Buffer
			code := curl(args, strings.NewReader(""), &out, &errs)
			if code != c.code && !(strings.Contains(c.args, "no-such-host") && code == curlTimeout) || out.String() != repl.Replace(c.out) || errs.String() != c.err {
				t.Errorf("status %d, out %q, err %q\nwant %d, %q, %q", code, out.String(), errs.String(), c.code, repl.Replace(c.out), c.err)
			}
		})
	}
	var out bytes.Buffer
	if code := curl([]string{"-sI", s.URL + "/missing"}, nil, &out, io.Discard); code != 0 || !strings.HasPrefix(out.String(), "HTTP/1.1 404 Not Found\r\n") || strings.Contains(out.String(), "not here") {
		t.Errorf("-I: %d %q", code, out.String())
	}
	file := filepath.Join(dir, "out")
	if code := curl([]string{"-so", file, s.URL + "/missing"}, nil, io.Discard, io.Discard); code != 0 {
		t.Errorf("-o: %d", code)
	}
	if b, _ := os.ReadFile(file); string(b) != "not here\n" {
		t.Errorf("-o wrote %q", b)
	}
	if code := curl([]string{"-so", filepath.Join(dir, "no", "file"), s.URL + "/missing"}, nil, io.Discard, io.Discard); code != curlWrite {
		t.Errorf("-o into a missing directory: %d", code)
	}
}
