package tlsfront

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// BenchmarkHandshake is the cost of both sides; the profile tells them apart.
func BenchmarkHandshake(b *testing.B) {
	for name, resumed := range map[string]bool{"full": false, "resumed": true} {
		b.Run(name, func(b *testing.B) {
			s := newServer(b, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", TicketSecret: []byte("k"), Protocols: []string{"http/1.1"}})
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", CurvePreferences: []tls.CurveID{tls.X25519}}
			if resumed {
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					nc, err := l.Accept()
					if err != nil {
						return
					}
					if sess, _, err := s.Accept(nc, time.Now()); err == nil {
						nc.Write(sess.State.Seal(nil, []byte("x")))
					}
					nc.Close()
				}
			}()
			b.ReportAllocs()
			buf := make([]byte, 1)
			for b.Loop() {
				c, err := tls.Dial("tcp", l.Addr().String(), cfg)
				if err != nil {
					b.Fatal(err)
				}
				c.Read(buf)
				if c.ConnectionState().DidResume != resumed && cfg.ClientSessionCache == nil {
					b.Fatal("resumption")
				}
				c.Close()
			}
		})
	}
}
