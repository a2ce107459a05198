package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// wsEcho switches protocols and echoes.
func wsEcho(t *testing.T) string {
	return script(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Connection") != "Upgrade" {
			io.WriteString(c, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, lines("HTTP/1.1 101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x")+"hi")
		io.Copy(c, r)
	})
}

func (c *talk) upgrade() {
	c.t.Helper()
	c.send(lines("GET /ws HTTP/1.1", "Host: a", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k") + "early")
	r := c.answer("GET")
	if r.StatusCode != 101 || r.Header.Get("Sec-WebSocket-Accept") != "x" || r.Header.Get("Upgrade") != "websocket" {
		c.t.Fatalf("%v", r)
	}
	b := make([]byte, 7)
	if _, err := io.ReadFull(c.r, b); err != nil || string(b) != "hiearly" {
		c.t.Fatalf("%q, %v", b, err)
	}
}

// TestIdleWebSocketMemory: what is idle after an upgrade holds no transfer buffers, and goes on at once when something comes.
func TestIdleWebSocketMemory(t *testing.T) {
	const n = 200
	b := newLB(t, simple(wsEcho(t)))
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	var cs []*talk
	for range n {
		c := b.dial()
		c.upgrade()
		cs = append(cs, c)
	}
	if grown := int64(used()-before) / n; grown > 40<<10 { // with the client's and the target's part
		t.Errorf("%d bytes a connection", grown)
	}
	for i, c := range cs {
		msg := strings.Repeat("m", 1+i*500)
		go io.WriteString(c, msg)
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != msg {
			t.Fatalf("message of %d bytes: %v", len(msg), err)
		}
	}
}

// TestSecureWebSocket: pauses and sizes of all kinds pass through TLS.
func TestSecureWebSocket(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b := newLB(t, secure(simple(wsEcho(t)), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test")))
		nc, err := tls.Dial("tcp", b.addr(front), &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(longest))
		c := &talk{nc, t, bufio.NewReader(nc)}
		c.upgrade()
		for i, size := range []int{1, 2, 1000, 16384, 16385, 100000, 1, 40000, 3} {
			msg := strings.Repeat("m", size)
			go io.WriteString(c, msg)
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(c.r, got); err != nil || string(got) != msg {
				t.Fatalf("%s, message %d of %d bytes: %v", tls.VersionName(version), i, len(msg), err)
			}
			time.Sleep(time.Duration(i%3) * 5 * time.Millisecond)
		}
		nc.CloseWrite()
		if rest, err := io.ReadAll(c.r); len(rest) != 0 || err != nil {
			t.Errorf("%s: %q %v", tls.VersionName(version), rest, err)
		}
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	c := newLB(t, simple(wsEcho(t))).dial()
	c.upgrade()
	data := bytes.Repeat([]byte("0123456789"), 100000)
	go c.Write(data)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c.r, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("echo differs: %v", err)
	}
	c.Conn.(*net.TCPConn).CloseWrite() // our end goes through to the target, and its end back
	if b, err := io.ReadAll(c.r); len(b) != 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
