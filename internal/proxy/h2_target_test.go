//go:build linux && (amd64 || arm64)

package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// h2server is a target that speaks HTTP/2, in the clear or over TLS.
func h2server(t *testing.T, secured bool, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	if secured {
		c := certificate(t, "target", false, "target.test")
		pair, err := tls.X509KeyPair([]byte(c.CertPEM), []byte(c.KeyPEM))
		if err != nil {
			t.Fatal(err)
		}
		s.Protocols.SetHTTP2(true)
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		go s.ServeTLS(l, "", "")
	} else {
		s.Protocols.SetUnencryptedHTTP2(true)
		go s.Serve(l)
	}
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// withVersion is a TLS configuration whose group's targets speak a version.
func withVersion(t *testing.T, version, protocol, addr string) Config {
	cfg := secure(simple(addr), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"))
	g := cfg.TargetGroups["g"]
	g.ProtocolVersion, g.Protocol = version, protocol
	cfg.TargetGroups["g"] = g
	return cfg
}

func TestHTTP2Targets(t *testing.T) {
	t.Parallel()
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secured), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			conns := map[string]bool{}
			addr := h2server(t, secured, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				conns[r.RemoteAddr] = true
				mu.Unlock()
				w.Header().Set("X-Proto", r.Proto)
				w.Header().Set("X-For", r.Header.Get("X-Forwarded-For"))
				w.Header().Set("X-Host", r.Host)
				switch r.URL.Path {
				case "/echo":
					http.NewResponseController(w).EnableFullDuplex()
					w.WriteHeader(200)
					buf := make([]byte, 32<<10)
					for {
						n, err := r.Body.Read(buf)
						w.Write(buf[:n])
						w.(http.Flusher).Flush()
						if err != nil {
							return
						}
					}
				case "/trail":
					io.Copy(io.Discard, r.Body)
					w.Header().Set("Trailer", "X-Sum")
					io.WriteString(w, "ok")
					w.Header().Set("X-Sum", "1")
				case "/hints":
					w.Header().Set("Link", "</a>")
					w.WriteHeader(103)
					io.WriteString(w, "ok")
				case "/204":
					w.WriteHeader(204)
				case "/reset":
					io.WriteString(w, "half")
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				case "/never":
					panic(http.ErrAbortHandler)
				case "/early":
					w.WriteHeader(413)
				case "/hang":
					<-r.Context().Done()
				default:
					w.Header().Set("Content-Length", "5")
					io.WriteString(w, "hello")
				}
			})
			proto := HTTP
			if secured {
				proto = HTTPS
			}
			cfg := withVersion(t, HTTP2, proto, addr)
			b := newLB(t, cfg)
			cl := b.h2client()
			do := func(method, path string, body io.Reader) (*http.Response, string, error) {
				req, _ := http.NewRequest(method, "https://a.test"+path, body)
				r, err := cl.Do(req)
				if err != nil {
					return nil, "", err
				}
				defer r.Body.Close()
				s, err := io.ReadAll(r.Body)
				return r, string(s), err
			}
			for range 3 {
				r, s, err := do("GET", "/", nil)
				if err != nil || s != "hello" || r.Header.Get("X-Proto") != "HTTP/2.0" || r.ContentLength != 5 || r.Header.Get("X-For") != "127.0.0.1" || r.Header.Get("X-Host") != "a.test" {
					t.Fatal(r, s, err)
				}
			}
			if r, s, err := do("HEAD", "/", nil); err != nil || s != "" || r.ContentLength != 5 {
				t.Error(r, s, err)
			}
			if r, s, err := do("GET", "/204", nil); err != nil || s != "" || r.StatusCode != 204 {
				t.Error(r, s, err)
			}
			if r, s, err := do("POST", "/trail", strings.NewReader("x")); err != nil || s != "ok" || r.Trailer.Get("X-Sum") != "1" {
				t.Error(r, s, err)
			}
			if r, s, err := do("GET", "/hints", nil); err != nil || s != "ok" {
				t.Error(r, s, err)
			}
			big := bytes.Repeat([]byte("0123456789abcdef"), 100<<10)
			if _, s, err := do("POST", "/echo", bytes.NewReader(big)); err != nil || s != string(big) {
				t.Error("echo:", len(s), err)
			}
			if _, s, err := do("POST", "/echo", io.NopCloser(bytes.NewReader(big))); err != nil || s != string(big) { // no length
				t.Error("echo:", len(s), err)
			}
			if _, _, err := do("GET", "/reset", nil); err == nil {
				t.Error("an answer that was cut looks whole")
			}
			if r, _, err := do("GET", "/never", nil); err != nil || r.StatusCode != 502 {
				t.Error(r, err)
			}
			if r, _, err := do("POST", "/early", &endless{}); err != nil || r.StatusCode != 413 {
				t.Error(r, err)
			}
			var wg sync.WaitGroup
			for range 150 {
				wg.Go(func() {
					if _, s, err := do("GET", "/", nil); err != nil || s != "hello" {
						t.Error(s, err)
					}
				})
			}
			wg.Wait()
			mu.Lock()
			if len(conns) > 4 {
				t.Errorf("%d connections to the target", len(conns))
			}
			mu.Unlock()
			cfg.Attributes = with(cfg.Attributes, "idle_timeout.timeout_seconds", "1") // too short for a busy machine before
			b.apply(cfg)
			if r, _, err := do("GET", "/hang", nil); err != nil || r.StatusCode != 504 {
				t.Error(r, err)
			}
		})
	}
}

// endless is a body that never ends.
type endless struct{}

func (*endless) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return len(b), nil
}

// TestVersionMismatch has the requests that a group's targets can't take.
func TestVersionMismatch(t *testing.T) {
	t.Parallel()
	one := named(t, "one")
	two := h2server(t, false, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "two") })
	get := func(b *lb, h2, post bool, ctype string) int {
		t.Helper()
		cl := b.h2client()
		if !h2 {
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, n, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, n, b.addr(front))
			}}
			t.Cleanup(tr.CloseIdleConnections)
			cl = &http.Client{Transport: tr}
		}
		req, _ := http.NewRequest(map[bool]string{false: "GET", true: "POST"}[post], "https://a.test/", nil)
		if ctype != "" {
			req.Header.Set("Content-Type", ctype)
		}
		r, err := cl.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	for _, c := range []struct {
		version, addr string
		h2, post      bool
		ctype         string
		want          int
	}{
		{HTTP1, one, false, true, "application/grpc", 200},
		{HTTP1, one, true, true, "application/grpc", 464},
		{HTTP1, one, true, true, "application/grpc-web", 200},
		{HTTP1, one, true, false, "", 200},
		{HTTP2, two, false, false, "", 464},
		{HTTP2, two, true, false, "", 200},
		{GRPC, two, false, true, "application/grpc", 464},
		{GRPC, two, true, false, "application/grpc", 464},
		{GRPC, two, true, true, "text/plain", 464},
		{GRPC, two, true, true, "application/grpc+proto", 200},
	} {
		b := newLB(t, withVersion(t, c.version, HTTP, c.addr))
		if got := get(b, c.h2, c.post, c.ctype); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// grpcTarget is gRPC's own test service.
type grpcTarget struct {
	pb.UnimplementedTestServiceServer
}

func (grpcTarget) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (grpcTarget) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s := in.GetResponseStatus(); s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	if in.GetResponseSize() < 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", strings.Join(md.Get("x-ask"), "")))
	return &pb.SimpleResponse{Payload: &pb.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

func (grpcTarget) FullDuplexCall(s grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if len(in.GetPayload().GetBody()) == 0 {
			return status.Error(codes.ResourceExhausted, "enough")
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

func (grpcTarget) StreamingInputCall(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	n := 0
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		} else if err != nil {
			return err
		}
		n += len(in.GetPayload().GetBody())
	}
}

func (grpcTarget) StreamingOutputCall(in *pb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range in.ResponseParameters {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	return nil
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, grpcTarget{})
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	b := newLB(t, withVersion(t, GRPC, HTTP, l.Addr().String()))
	dial := func() pb.TestServiceClient {
		cc, err := grpc.NewClient("passthrough:///"+b.addr(front), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close() })
		return pb.NewTestServiceClient(cc)
	}
	c := dial()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()

	var trailer metadata.MD
	out, err := c.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-ask", "yes"), &pb.SimpleRequest{ResponseSize: 300_000, Payload: &pb.Payload{Body: make([]byte, 200_000)}}, grpc.Trailer(&trailer))
	if err != nil || len(out.Payload.Body) != 300_000 || trailer.Get("x-trailer")[0] != "yes" {
		t.Fatal(err, trailer)
	}
	if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: 5, Message: "nothing here"}}); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "nothing here") {
		t.Error(err)
	}
	if _, err := c.UnimplementedCall(ctx, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	dctx, dcancel := context.WithTimeout(ctx, 200*time.Millisecond)
	if _, err := c.UnaryCall(dctx, &pb.SimpleRequest{ResponseSize: -1}); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	dcancel()

	// Both directions at once, one message answered before the next is sent.
	st, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		body := bytes.Repeat([]byte{byte(i)}, 1+i*1000)
		if err := st.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: body}}); err != nil {
			t.Fatal(err)
		}
		in, err := st.Recv()
		if err != nil || !bytes.Equal(in.Payload.Body, body) {
			t.Fatal(i, err)
		}
	}
	st.CloseSend()
	if _, err := st.Recv(); err != io.EOF {
		t.Error(err)
	}
	// The server ends first.
	st, err = c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{}})
	if _, err := st.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	in, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		in.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 20_000)}})
	}
	if sum, err := in.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 800_000 {
		t.Error(sum, err)
	}
	// A client that reads slowly.
	req := &pb.StreamingOutputCallRequest{}
	for range 40 {
		req.ResponseParameters = append(req.ResponseParameters, &pb.ResponseParameters{Size: 50_000})
	}
	os, err := c.StreamingOutputCall(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	for n := 0; ; n++ {
		if _, err := os.Recv(); err == io.EOF {
			if n != 40 {
				t.Errorf("%d messages", n)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() {
			if _, err := c.EmptyCall(ctx, &pb.Empty{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := b.Stats().Counters["GrpcRequestCount"]; n < 305 {
		t.Errorf("GrpcRequestCount is %v", n)
	}
	// Without a target, an error that clients understand.
	cfg := withVersion(t, GRPC, HTTP, l.Addr().String())
	cfg.TargetGroups["g"] = TargetGroup{ProtocolVersion: GRPC}
	b.apply(cfg)
	if _, err := c.EmptyCall(ctx, &pb.Empty{}); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

// TestHTTP2TargetRefuses has targets that did not process a request: it is sent again, whatever its method.
func TestHTTP2TargetRefuses(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(fr *http2.Framer, id uint32){
		"refused stream": func(fr *http2.Framer, id uint32) { fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"going away":     func(fr *http2.Framer, id uint32) { fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			refusals := 0
			addr := frameServer(t, func(fr *http2.Framer, id uint32) {
				mu.Lock()
				refusals++
				first := refusals == 1
				mu.Unlock()
				if first {
					refuse(fr, id)
					return
				}
				var hb bytes.Buffer
				enc := hpack.NewEncoder(&hb)
				enc.SetMaxDynamicTableSize(0)
				enc.WriteField(hpack.HeaderField{Name: ":status", Value: "201"})
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: hb.Bytes(), EndHeaders: true, EndStream: true})
			})
			b := newLB(t, withVersion(t, HTTP2, HTTP, addr))
			r, err := b.h2client().Post("https://a.test/", "text/plain", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != 201 {
				t.Error(r.Status)
			}
		})
	}
}

// frameServer is an HTTP/2 target made of frames: answer is called for each request's end of head.
func frameServer(t *testing.T, answer func(fr *http2.Framer, id uint32)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				fr := http2.NewFramer(c, c)
				fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				fr.WriteSettings()
				for {
					f, err := fr.ReadFrame()
					if err != nil {
						if errors.Is(err, io.EOF) {
							c.Close()
						}
						return
					}
					switch f := f.(type) {
					case *http2.SettingsFrame:
						if !f.IsAck() {
							fr.WriteSettingsAck()
						}
					case *http2.MetaHeadersFrame:
						answer(fr, f.StreamID)
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
