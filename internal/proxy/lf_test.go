package proxy

import "testing"

func TestResponsesMayEndLinesWithLF(t *testing.T) {
	var r response
	for head, ok := range map[string]bool{
		"HTTP/1.0 200 OK\r\nContent-Type: text/plain\n\n": true,
		"HTTP/1.0 200 OK\nContent-Length: 3\n\n":          true,
		"HTTP/1.0 200 OK\nContent-Length: 3\nBad\n\n":     false,
		"HTTP/1.0 200 OK\r\nA: b\rc\n\r\n":                false,
	} {
		err := r.parse([]byte(head))
		if (err == nil) != ok {
			t.Errorf("%q: %v", head, err)
		}
		if ok && (r.status != 200 || len(r.fields) != 1 || string(r.head[len(r.head)-4:]) != "\r\n\r\n") {
			t.Errorf("%q became %q with %d fields", head, r.head, len(r.fields))
		}
	}
	var q request
	if err := q.parse([]byte("GET / HTTP/1.1\r\nHost: a\n\n")); err == nil {
		t.Error("a request with a bare LF is taken")
	}
}
