// Command target is the server that balancing.sh puts on its instances: it misbehaves on request.
//
//	target NAME    HTTP and everything else on TCP port 80, an echo on UDP port 90; on TCP port 91 an answer that says who
//	               connected and, in hexadecimal, what came first; on TCP port 92 HTTP/2 without TLS, also gRPC
//	target idp …   an OpenID provider, see idp.go
package main

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

func main() {
	if os.Args[1] == "idp" {
		fmt.Println(idp(os.Args[2:]))
		os.Exit(1)
	}
	name := os.Args[1]
	var health atomic.Int32
	health.Store(200)
	mux := http.NewServeMux()
	// Who answers whom.
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, name, r.RemoteAddr) })
	// The request as it arrived.
	mux.HandleFunc("/head", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
		r.Header.Write(w)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseFloat(r.URL.RawQuery, 64)
		time.Sleep(time.Duration(n * float64(time.Second)))
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(int(health.Load())) })
	mux.HandleFunc("/health/set", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.RawQuery)
		health.Store(int32(n))
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.RawQuery)
		w.WriteHeader(n)
	})
	raw := func(answer func(c net.Conn, in io.Reader, r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			answer(c, rw, r)
		}
	}
	mux.HandleFunc("/close", raw(func(c net.Conn, _ io.Reader, r *http.Request) {}))
	mux.HandleFunc("/garbage", raw(func(c net.Conn, _ io.Reader, r *http.Request) { io.WriteString(c, "what is this\r\n\r\n") }))
	// A WebSocket handshake, then what comes goes back.
	mux.HandleFunc("/ws", raw(func(c net.Conn, in io.Reader, r *http.Request) {
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		io.Copy(c, in)
	}))
	u, err := net.ListenPacket("udp", ":90")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			u.WriteTo(fmt.Appendf(nil, "%s %s %s", name, from, buf[:n]), from)
		}
	}()
	l, err := net.Listen("tcp", ":91")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256)
				n, _ := c.Read(buf)
				fmt.Fprintf(c, "%s %s %x\n", name, c.RemoteAddr(), buf[:n])
				io.Copy(io.Discard, c)
			}()
		}
	}()
	two := &http.Server{Addr: ":92", Handler: grpc(mux), Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	go func() { fmt.Println(two.ListenAndServe()) }()
	fmt.Println(http.ListenAndServe(":80", mux))
}

// grpc answers gRPC calls: one of them with what it got, all others with UNIMPLEMENTED.
func grpc(other http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			other.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		status, to := "12", io.Discard
		if r.URL.Path == "/echo.Echo/Say" {
			status, to = "0", w
		}
		io.Copy(to, r.Body)                   // all of it: curl doesn't bear an answer before it has sent its request
		http.NewResponseController(w).Flush() // else there is no trailer
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	})
}
