package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDesync has a request for each oddity: its class and reason, and what the target gets where a mode lets it pass.
func TestDesync(t *testing.T) {
	post := func(ls ...string) string { return lines(append([]string{"POST /x HTTP/1.1", "Host: a"}, ls...)...) }
	get := func(ls ...string) string { return lines(append([]string{"GET /x HTTP/1.1", "Host: a"}, ls...)...) }
	first := func(l string) string { return lines(l, "Host: a") }
	for _, c := range []struct {
		name, head string
		want       string // class, reason: request line | fields other than the proxy's own
	}{
		{"nothing", post("Content-Length: 5"), "- -: POST /x HTTP/1.1|Content-Length: 5"},
		{"zero length of GET", get("Content-Length: 0"), "Acceptable GetHeadZeroContentLength: GET /x HTTP/1.1|Content-Length: 0"},
		{"bytes beyond ASCII", get("X: \xc3\xa9"), "Acceptable NonCompliantHeader: GET /x HTTP/1.1|X: \xc3\xa9"},
		{"control character in a value", get("X: a\x01b"), "Acceptable NonCompliantHeader: GET /x HTTP/1.1|X: a b"},
		{"name that is no token", get("X(A): b", "Y: c"), "Acceptable NonCompliantHeader: GET /x HTTP/1.1|Y: c"},
		{"space before the colon", get("X-A : b"), "Acceptable NonCompliantHeader: GET /x HTTP/1.1"},
		{"HTTP/1.2", first("GET /x HTTP/1.2"), "Acceptable NonCompliantVersion: GET /x HTTP/1.1"},
		{"space in the target", first("GET /x y z HTTP/1.1"), "Acceptable SpaceInUri: GET /x%20y%20z HTTP/1.1"},
		{"spaces around the target", first("GET  /x  HTTP/1.1"), "Acceptable SpaceInUri: GET /x HTTP/1.1"},
		{"control character in the target", first("GET /x\x01\x7f HTTP/1.1"), "Ambiguous AmbiguousUri: GET /x%01%7f HTTP/1.1"},
		{"fragment", first("GET /x#y HTTP/1.1"), "Ambiguous AmbiguousUri: GET /x%23y HTTP/1.1"},
		{"both framings", post("Content-Length: 5", "Transfer-Encoding: chunked"), "Ambiguous BothTeClPresent: POST /x HTTP/1.1|Transfer-Encoding: chunked"},
		{"both framings, the other way round", post("Transfer-Encoding: chunked", "Content-Length: 5"), "Ambiguous BothTeClPresent: POST /x HTTP/1.1|Transfer-Encoding: chunked"},
		{"two equal lengths", post("Content-Length: 5", "Content-Length: 5"), "Ambiguous DuplicateContentLength: POST /x HTTP/1.1|Content-Length: 5"},
		{"list of equal lengths", post("Content-Length: 5, 5"), "Ambiguous DuplicateContentLength: POST /x HTTP/1.1|Content-Length: 5"},
		{"no name", get(": b"), "Ambiguous EmptyHeader: GET /x HTTP/1.1"},
		{"line of spaces", get("X: y", " \t "), "Ambiguous EmptyHeader: GET /x HTTP/1.1|X: y"},
		{"space before the colon of a length", post("Content-Length : 5"), "Ambiguous SuspiciousHeader: POST /x HTTP/1.1"},
		{"underscore for a hyphen", post("Content_Length: 5"), "Ambiguous SuspiciousHeader: POST /x HTTP/1.1"},
		{"no hyphen", post("TransferEncoding: chunked", "Content-Length: 5"), "Ambiguous SuspiciousHeader: POST /x HTTP/1.1|Content-Length: 5"},
		{"control character in the name of a coding", post("Transfer-Encoding\x0b: chunked"), "Ambiguous SuspiciousHeader: POST /x HTTP/1.1"},
		{"body of GET", get("Content-Length: 5"), "Ambiguous UndefinedContentLengthSemantics: GET /x HTTP/1.1|Content-Length: 5"},
		{"chunked body of GET", get("Transfer-Encoding: chunked"), "Ambiguous UndefinedTransferEncodingSemantics: GET /x HTTP/1.1|Transfer-Encoding: chunked"},
		{"identity", post("Transfer-Encoding: identity"), "Ambiguous UndefinedTransferEncodingSemantics: POST /x HTTP/1.1"},
		{"identity and a length", post("Transfer-Encoding: identity", "Content-Length: 5"), "Ambiguous UndefinedTransferEncodingSemantics: POST /x HTTP/1.1|Content-Length: 5"},
		{"signed length", post("Content-Length: +5"), "Severe BadContentLength: POST /x HTTP/1.1"},
		{"length and a bad one", post("Content-Length: 5", "Content-Length: x"), "Severe BadContentLength: POST /x HTTP/1.1|Content-Length: 5"},
		{"length with a control character", post("Content-Length: \v5"), "Severe BadContentLength: POST /x HTTP/1.1"},
		{"NUL in a value", get("X: a\x00b"), "Severe BadHeader: GET /x HTTP/1.1|X: a b"},
		{"bare CR", get("X: a\rContent-Length: 5"), "Severe BadHeader: GET /x HTTP/1.1|X: a Content-Length: 5"},
		{"folded line", get("X: a", " Content-Length: 5"), "Severe BadHeader: GET /x HTTP/1.1|X: a"},
		{"no colon", get("X", "Y: z"), "Severe BadHeader: GET /x HTTP/1.1|Y: z"},
		{"coding with a parameter", post("Transfer-Encoding: chunked;q=1"), "Severe BadTransferEncoding: POST /x HTTP/1.1"},
		{"coding with a control character", post("Transfer-Encoding: \vchunked"), "Severe BadTransferEncoding: POST /x HTTP/1.1"},
		{"chunked, then identity", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), "Severe BadTransferEncoding: POST /x HTTP/1.1|Transfer-Encoding: chunked"},
		{"CR in the target", first("GET /x\ry HTTP/1.1"), "Severe BadUri: GET /x%0dy HTTP/1.1"},
		{"version in lower case", first("GET /x http/1.1"), "Severe BadVersion: GET /x HTTP/1.1"},
		{"two lengths", post("Content-Length: 5", "Content-Length: 6"), "Severe MultipleContentLength: POST /x HTTP/1.1|Content-Length: 5"},
		{"chunked twice", post("Transfer-Encoding: chunked, chunked"), "Severe MultipleTransferEncodingChunked: POST /x HTTP/1.1|Transfer-Encoding: chunked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for mode, name := range desyncModes {
				var r request
				if err := r.parse([]byte(c.head)); err != nil {
					t.Fatal(err)
				}
				blocked := (&balancerAttributes{desync: desyncMode(mode)}).judge(&r)
				got := fmt.Sprintf("%s %s: %s", r.odd.class(), r.odd, forwarded(&r))
				if got != c.want {
					t.Fatalf("got  %q\nwant %q", got, c.want)
				}
				cl := r.odd.class()
				if want := name == "strictest" && cl > compliant || name == "defensive" && cl == severe; blocked != want {
					t.Errorf("%s: blocked %v, want %v", name, blocked, want)
				}
				if !blocked && r.closes != (cl >= ambiguous) {
					t.Errorf("%s: the connections end: %v", name, r.closes)
				}
			}
		})
	}
	// What no mode lets pass.
	for name, head := range map[string]string{
		"bare LF": "GET / HTTP/1.1\nHost: a\n\n", "bare LF in a header": get("X: a\nY: b"), "no version": lines("GET /x", "Host: a"),
		"control character in the method": first("G\x01T /x HTTP/1.1"), "no host": lines("GET /x HTTP/1.1"), "two hosts": get("Host: b"),
		"coding in 1.0": lines("POST /x HTTP/1.0", "Transfer-Encoding: chunked"), "HTTP/3.1": first("GET /x HTTP/3.1"),
		"unknown coding": post("Transfer-Encoding: gzip, chunked"), "relative target": first("GET x HTTP/1.1"),
		"host hidden by a space": lines("GET /x HTTP/1.1", "Host : a"),
	} {
		var r request
		var se *statusError
		if err := r.parse([]byte(head)); !errors.As(err, &se) {
			t.Errorf("%s: accepted as %q", name, forwarded(&r))
		}
	}
	var r request
	r.parse([]byte(get("Content-Length: 5")))
	if (&balancerAttributes{desync: strictest, getBodies: true}).judge(&r) {
		t.Error("getBodies: a body of GET, framed once, is refused")
	}
}

// forwarded is what the target gets of a request, without what the proxy adds to every one.
func forwarded(r *request) string {
	out := string(appendRequest(nil, r, testListener(), testPeer(), time.Unix(1e9, 0)))
	var ls []string
	for _, l := range strings.Split(strings.TrimSuffix(out, crlf+crlf), crlf) {
		if !strings.HasPrefix(l, "X-Forwarded-") && !strings.HasPrefix(l, "X-Amzn-") && !strings.HasPrefix(l, "Host:") {
			ls = append(ls, l)
		}
	}
	return strings.Join(ls, "|")
}

// TestDesyncModes sends an ambiguous and a severe request through each mode.
func TestDesyncModes(t *testing.T) {
	t.Parallel()
	both := "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	lengths := "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
	after := lines("GET /after HTTP/1.1", "Host: a")
	for _, c := range []struct {
		mode, send string
		status     int
	}{
		{"monitor", both, 200}, {"defensive", both, 200}, {"strictest", both, 400},
		{"monitor", lengths, 200}, {"defensive", lengths, 400}, {"strictest", lengths, 400},
	} {
		t.Run(c.mode, func(t *testing.T) {
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s %d %v from %s", r.URL.Path, b, r.ContentLength, r.TransferEncoding, r.RemoteAddr)
			})
			cfg := simple(addrOf(s))
			cfg.Attributes[modeAttribute] = c.mode
			b := newLB(t, cfg)
			talk := b.dial()
			talk.send(c.send + after)
			r := talk.answer("POST")
			if r.StatusCode != c.status {
				t.Fatalf("status %d, want %d", r.StatusCode, c.status)
			}
			body := text(r)
			if c.status == 200 && !strings.HasPrefix(body, "/x hello") {
				t.Errorf("the target got %q", body)
			}
			if !talk.ended() {
				t.Error("the connection goes on after a request that could be read in two ways")
			}
			if n := b.Stats().Counters["DesyncMitigationMode_NonCompliant_Request_Count"]; n != 1 {
				t.Errorf("counted %v times", n)
			}
			if next := text(b.dial().get("/y")); c.status == 200 && strings.HasSuffix(next, body[strings.LastIndex(body, "from "):]) {
				t.Error("the connection to the target was used again")
			}
		})
	}
}

// FuzzRepair: what a repair makes is accepted, says nothing that was not there, and frames the message once.
func FuzzRepair(f *testing.F) {
	for _, s := range []string{
		lines("POST /x HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), lines("GET /a b HTTP/1.2", "Host: a", "X : y", " z", ": q"),
		lines("POST / http/1.1", "Host: a", "Content-Length: 5, 5", "Transfer_Encoding: chunked", "X: \x00\r"), lines("GET /\x01\x00 HTTP/1.1", "Host: a", "Transfer-Encoding: identity"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var sc headScanner
		n, err := sc.scan(b, maxRequestHead)
		if err != nil {
			return
		}
		before := bytes.Clone(b[:n])
		fixed, why := repair(b[:n])
		if !bytes.Equal(before, b[:n]) {
			t.Fatal("the head at hand was changed")
		}
		if fixed == nil {
			return
		}
		var strict request
		if strict.parseStrict(b[:n]) == nil && why.class() > acceptable {
			t.Fatalf("%s found in %q, which is strictly right", why, b[:n])
		}
		var r request
		if err := r.parseStrict(fixed); err != nil {
			// Hosts, targets and expectations are not repaired.
			if !errors.Is(err, errHost) && !errors.Is(err, errBadURI) && !errors.Is(err, errExpectation) && !errors.Is(err, errCodingVersion) && !errors.Is(err, errHeaderTooLarge) {
				t.Fatalf("repaired to %q, which is refused: %v", fixed, err)
			}
			return
		}
		for _, name := range []string{"\ncontent-length:", "\ntransfer-encoding:"} {
			if bytes.Count(bytes.ToLower(fixed), []byte(name)) > 1 {
				t.Fatalf("framed twice: %q", fixed)
			}
		}
		if again, odd := repair(fixed); !bytes.Equal(again, fixed) && again != nil && odd != noOddity {
			t.Fatalf("repaired to %q, then to %q (%s)", fixed, again, odd)
		}
	})
}
