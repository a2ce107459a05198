package zone

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry/internal/fabric"
)

// certificate is a self-signed one for a name.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}))
}

// A network load balancer's listeners that the kernel can't serve: what a target gets, and from whom.
func TestListenersOfTheProcess(t *testing.T) {
	w := newZoneWorld(t)
	ctx := context.Background()
	l, err := fabric.ListenIn(w.server, "tcp4", "10.0.0.11:8081")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // answers with whom it sees and what it got first
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 256)
				n := 0
				for !bytes.HasSuffix(b[:n], []byte("hello")) { // what a connection is closed with unread resets it
					k, err := c.Read(b[n:])
					if n += k; err != nil {
						return
					}
				}
				fmt.Fprintf(c, "%s|%s", c.RemoteAddr(), b[:n])
			}()
		}
	}()
	cert, key := certificate(t, "nlb.test")
	d := w.desired()
	group := d.Groups[1]
	group.Check.Enabled = false
	group.Targets = []Target{{ID: "i-server", Port: 8081, IP: netip.MustParseAddr("10.0.0.11"), Zone: "us-east-1a", Registered: 1}}
	group.ARN, group.Attributes = "g-proxy", map[string]string{"proxy_protocol_v2.enabled": "true", "preserve_client_ip.enabled": "false"}
	d.Groups = append(d.Groups, group)
	group.ARN, group.Attributes = "g-plain", map[string]string{"preserve_client_ip.enabled": "true"}
	d.Groups = append(d.Groups, group)
	to := func(group string) []Action {
		return []Action{{Type: "forward", Forward: []Weighted{{GroupARN: group, Weight: 1}}}}
	}
	nlb := &d.Balancers[1]
	nlb.ARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/net/web/1"
	nlb.Attributes = map[string]string{"access_logs.s3.enabled": "true", "access_logs.s3.bucket": "nlb-logs"}
	nlb.Listeners = append(nlb.Listeners, Listener{ARN: "l3", Protocol: "TCP", Port: 82, Default: to("g-proxy")},
		Listener{ARN: "l4", Protocol: "TLS", Port: 443, Default: to("g-plain"), ALPN: "HTTP2Preferred", Certificates: []Certificate{{CertPEM: cert, KeyPEM: key}}})
	if err := w.c.Push(ctx, d.Seal()); err != nil {
		t.Fatal(err)
	}
	ask := func(c net.Conn) string {
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		b, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("read %q: %v", b, err)
		}
		return string(b)
	}
	dial := func(port int) net.Conn {
		c, err := fabric.DialIn(ctx, w.client, "tcp4", netip.AddrPortFrom(w.nlb, uint16(port)).String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial(82)
	from := c.LocalAddr().(*net.TCPAddr).AddrPort()
	peer, got, _ := strings.Cut(ask(c), "|")
	src, dst := from.Addr().Unmap().As4(), w.nlb.As4()
	head := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00"), got[15])
	head = append(append(append(head, src[:]...), dst[:]...), byte(from.Port()>>8), byte(from.Port()), 0, 82)
	if !bytes.HasPrefix([]byte(got), head) || !strings.HasPrefix(peer, w.nlb.String()+":") {
		t.Errorf("PROXY protocol: the target saw %s and got %q, wanted the node and %q", peer, got, head)
	}
	tc := tls.Client(dial(443), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1", "h2"}})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if p := tc.ConnectionState().NegotiatedProtocol; p != "h2" {
		t.Errorf("ALPN chose %q", p)
	}
	if got := ask(tc); !strings.HasPrefix(got, "10.0.0.10:") || !strings.HasSuffix(got, "|hello") {
		t.Errorf("TLS: the target saw %q, wanted the client's address", got)
	}
	until(t, "the flows are counted", func() bool {
		r, err := w.c.Report(ctx)
		if err != nil || len(r.Stats) != 2 {
			return false
		}
		s := r.Stats[1]
		return s.Counters["NewFlowCount_TCP"] == 1 && s.Counters["NewFlowCount_TLS"] == 1 && s.Counters["NewFlowCount"] == 2 && s.Counters["ProcessedBytes_TLS"] > 0
	})
	until(t, "the connection is in the access log", func() bool {
		files, _ := filepath.Glob(filepath.Join(w.dir, "s3/nlb-logs/AWSLogs/000000000000/elasticloadbalancing/us-east-1/*/*/*/*_net.web.1_*"))
		if len(files) != 1 {
			return false
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			return false
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return false
		}
		text, _ := io.ReadAll(z) // the file may still be open
		return strings.HasPrefix(string(text), "tls 2.0 ") && strings.Contains(string(text), " 10.0.0.10:")
	})
	// the listener goes to the kernel
	d.Groups[2].Attributes = map[string]string{"preserve_client_ip.enabled": "true"}
	if err := w.c.Push(ctx, d.Seal()); err != nil {
		t.Fatal(err)
	}
	if got := ask(dial(82)); !strings.HasPrefix(got, "10.0.0.10:") || !strings.HasSuffix(got, "|hello") {
		t.Errorf("in the kernel: the target saw %q", got)
	}
}
