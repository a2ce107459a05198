package cloud

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skerry/internal/event"
)

func TestSinks(t *testing.T) {
	for _, bad := range []string{"file:", "ftp://x", "x", "file:" + filepath.Join(t.TempDir(), "none", "x")} {
		if _, err := newSink(bad); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	list := []event.Record{{Seq: 1, Kind: "EventBridge", Body: json.RawMessage(`{"a":1}`)}, {Seq: 2, Kind: "SNS", Topic: "arn:aws:sns:r:a:t", Body: json.RawMessage(`{"b":2}`)}}
	file := filepath.Join(t.TempDir(), "events")
	s, err := newSink("file:" + file)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.deliver(context.Background(), list, nil); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b, _ := os.ReadFile(file)
	want := "{\"kind\":\"EventBridge\",\"body\":{\"a\":1}}\n{\"kind\":\"SNS\",\"topic\":\"arn:aws:sns:r:a:t\",\"body\":{\"b\":2}}\n"
	if string(b) != want {
		t.Fatalf("file %s", b)
	}
	var got []string
	refused := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !refused { // once: it is sent again
			refused = true
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		b, _ := io.ReadAll(r.Body)
		got = append(got, r.Header.Get("X-Amz-Sns-Topic-Arn")+" "+string(b))
	}))
	defer srv.Close()
	if s, err = newSink(srv.URL); err != nil {
		t.Fatal(err)
	}
	if n, err := s.deliver(context.Background(), list, nil); n != 2 || err != nil || strings.Join(got, "\n") != " {\"a\":1}\narn:aws:sns:r:a:t {\"b\":2}" {
		t.Fatal(n, err, got)
	}
}
