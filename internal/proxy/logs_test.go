package proxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skerry/internal/gzline"
	"skerry/internal/tlsfront"
)

// logLines reads all lines of the log files beneath dir whose names have the prefix, and the files' paths.
func logLines(t *testing.T, dir, prefix string) (lines, paths []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log.gz") || !strings.HasPrefix(d.Name(), prefix) {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err == io.EOF {
			return nil
		} else if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		paths = append(paths, path)
		return nil
	})
	return lines, paths
}

// logged serves a configuration with both logs on, once on loops and once on goroutines, and returns the lines of use.
func logged(t *testing.T, cfg Config, goroutines bool, use func(b *lb)) (access, connections []string, dir string) {
	t.Helper()
	dir = t.TempDir()
	cfg.Attributes = with(cfg.Attributes, "access_logs.s3.enabled", "true", "access_logs.s3.bucket", "logs", "access_logs.s3.prefix", "my/app",
		"connection_logs.s3.enabled", "true", "connection_logs.s3.bucket", "logs", "connection_logs.s3.prefix", "my/app")
	b := &lb{t: t, addrs: map[string]string{}}
	b.Proxy = New(Options{Goroutines: goroutines, Logs: Logs{Dir: dir, Account: "123456789012", Region: "eu-west-1", Address: "10.0.0.1"},
		Listen: func(network, addr string) (net.Listener, error) {
			l, err := net.Listen(network, "127.0.0.1:0")
			if err == nil {
				b.mu.Lock()
				b.addrs[addr] = l.Addr().String()
				b.mu.Unlock()
			}
			return l, err
		}})
	b.apply(cfg)
	use(b)
	if err := b.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	access, _ = logLines(t, dir, "123")
	connections, _ = logLines(t, dir, "conn_log.")
	return access, connections, dir
}

const stampRE = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z`

func TestAccessLogLines(t *testing.T) {
	t.Parallel()
	target := answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	cfg := simple(target)
	l := &cfg.Listeners[0]
	l.Rules = []Rule{
		{Priority: 5, Conditions: []Condition{{Field: PathPattern, Values: []string{"/old/*"}}}, Actions: []Action{{Type: RedirectTo, Redirect: &Redirect{Host: "new.example", StatusCode: "HTTP_301"}}}},
		{Priority: 9, Conditions: []Condition{{Field: PathPattern, Values: []string{"/fixed"}}}, Actions: []Action{{Type: FixedResponse, Fixed: &Fixed{StatusCode: "404", Body: "no"}}}},
	}
	const front = `app/t/1 127\.0\.0\.1:\d+ `
	trace := `"Root=1-[0-9a-f]{8}-[0-9a-f]{24}"`
	end := ` TID_[0-9a-f]{32} "-" "-" "-"$`
	want := []string{
		`^http ` + stampRE + ` ` + front + regexp.QuoteMeta(target) + ` 0\.\d{3} 0\.\d{3} 0\.000 200 200 \d+ \d+ "POST http://a\.example:80/x\?q=\\x22 HTTP/1\.1" "cu\\x5Crl \\xC3" - - g ` + trace +
			` "-" "-" 0 ` + stampRE + ` "forward" "-" "-" "` + regexp.QuoteMeta(target) + `" "200" "Acceptable" "NonCompliantHeader"` + end,
		`^http ` + stampRE + ` ` + front + `- -1 -1 -1 301 - \d+ \d+ "GET http://a\.example:80/old/y HTTP/1\.1" "-" - - - ` + trace +
			` "-" "-" 5 ` + stampRE + ` "redirect" "http://new\.example:80/old/y" "-" "-" "-" "-" "-"` + end,
		`^http ` + stampRE + ` ` + front + `- -1 -1 -1 404 - \d+ \d+ "GET http://a\.example:80/fixed HTTP/1\.0" "-" - - - ` + trace +
			` "-" "-" 9 ` + stampRE + ` "fixed-response" "-" "-" "-" "-" "-" "-"` + end,
		`^http ` + stampRE + ` ` + front + `- -1 -1 -1 400 - \d+ \d+ "- http://10\.0\.0\.1:80- -" "-" - - - "-" "-" "-" - ` + stampRE + ` "-" "-" "-" "-" "-" "Severe" "BadMethod"` + end,
	}
	for _, goroutines := range []bool{false, true} {
		access, connections, dir := logged(t, cfg, goroutines, func(b *lb) {
			for _, s := range []string{
				"POST /x?q=\" HTTP/1.1\r\nHost: a.example\r\nUser-Agent: cu\\rl \xc3\r\nContent-Length: 4\r\n\r\nbody",
				"GET /old/y HTTP/1.1\r\nHost: a.example\r\n\r\n",
				"GET /fixed HTTP/1.0\r\nHost: a.example\r\n\r\n",
				"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
			} {
				c := b.dial()
				c.send(s)
				text(c.answer("GET"))
				c.Close()
			}
		})
		if len(access) != len(want) {
			t.Fatalf("goroutines %v: %d lines: %q", goroutines, len(access), access)
		}
		for _, w := range want {
			found := false
			for _, line := range access {
				found = found || regexp.MustCompile(w).MatchString(line)
			}
			if !found {
				t.Errorf("goroutines %v: no line is\n%s\nbut\n%s", goroutines, w, strings.Join(access, "\n"))
			}
		}
		for _, line := range access {
			if strings.Contains(line, "POST") {
				if f := strings.Fields(line); f[10] != "85" || f[11] == "0" {
					t.Errorf("goroutines %v: bytes %s received and %s sent", goroutines, f[10], f[11])
				}
			}
		}
		conn := regexp.MustCompile(`^` + stampRE + ` 127\.0\.0\.1 \d+ 80 - - - "-" - - - (TID_[0-9a-f]{32}) -$`)
		if len(connections) != 4 {
			t.Fatalf("goroutines %v: connection lines %q", goroutines, connections)
		}
		for _, line := range connections {
			m := conn.FindStringSubmatch(line)
			if m == nil || !strings.Contains(strings.Join(access, "\n"), m[1]) {
				t.Errorf("goroutines %v: connection line %q; its trace must be in the access log", goroutines, line)
			}
		}
		for _, name := range []string{"ELBAccessLogTestFile", "ELBConnectionLogTestFile"} {
			if b, err := os.ReadFile(filepath.Join(dir, "logs/my/app/AWSLogs/123456789012", name)); err != nil || !bytes.Contains(b, []byte("app/t/1 at ")) {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		_, paths := logLines(t, dir, "")
		re := regexp.MustCompile(`/logs/my/app/AWSLogs/123456789012/elasticloadbalancing/eu-west-1/\d{4}/\d\d/\d\d/(conn_log\.)?123456789012_elasticloadbalancing_eu-west-1_app\.t\.1_\d{8}T\d{4}Z_10\.0\.0\.1_[a-z0-9]{8}\.log\.gz$`)
		for _, p := range paths {
			if !re.MatchString(p) {
				t.Errorf("path %s", p)
			}
		}
	}
}

// The trace in the log is the one that the target gets.
func TestLoggedTrace(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	target := addrOf(server(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("X-Amzn-Trace-Id")) }))
	access, _, _ := logged(t, simple(target), false, func(b *lb) {
		c := b.dial()
		text(c.get("/", "X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678"))
		c.Close()
	})
	if len(access) != 1 || !strings.Contains(access[0], ` "`+got.Load().(string)+`" `) || !strings.HasPrefix(got.Load().(string), "Self=") {
		t.Errorf("target got %q, logged %q", got.Load(), access)
	}
}

// What transforms made of a request stands at the end of its line; the request line is as the client sent it.
func TestLoggedTransform(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "x"))
	cfg.Listeners[0].Rules = []Rule{{Priority: 3, Conditions: []Condition{{Field: PathPattern, Values: []string{"/a*"}}}, Actions: forwardTo("g"),
		Transforms: []Transform{{Type: HostHeaderRewrite, Regex: "^a$", Replace: "b"}, {Type: URLRewrite, Regex: "^/a", Replace: "/z"}}}}
	access, _, _ := logged(t, cfg, false, func(b *lb) {
		c := b.dial()
		c.send("GET /ab HTTP/1.1\r\nHost: a\r\n\r\n")
		text(c.answer("GET"))
		c.Close()
	})
	if len(access) != 1 || !strings.HasSuffix(access[0], ` "b" "/zb" "TransformSuccess"`) || !strings.Contains(access[0], `"GET http://a:80/ab HTTP/1.1"`) {
		t.Errorf("%q", access)
	}
}

func TestConnectionLogTLS(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	e := connEntry{at: at, client: netip.MustParseAddrPort("10.1.2.3:4567"), born: 7, failed: true,
		facts: &tlsfront.Facts{Version: 0x304, Suite: 0x1301, Took: 4 * time.Millisecond, Verified: "Failed:ClientCertExpired", Group: 29}}
	got := string(e.append(&gzline.Packer{}, &logClock{}, "443"))
	if re := regexp.MustCompile(`^2026-01-02T03:04:05\.000006Z 10\.1\.2\.3 4567 443 TLSv1\.3 TLS_AES_128_GCM_SHA256 0\.004 "-" - - Failed:ClientCertExpired TID_[0-9a-f]{32} X25519\n$`); !re.MatchString(got) {
		t.Errorf("%q", got)
	}
}

// fakeLog is a writer without its goroutine, at a time of its own.
func fakeLog(t *testing.T, keep int64) (*logWriter, *logStream, *time.Time) {
	now := time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC)
	w := newLogWriter(Logs{Dir: t.TempDir(), Account: "1", Region: "r", Address: "10.0.0.1", Keep: keep}, 1, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	w.running = true // nobody starts it
	s, _ := w.use("app/l/1", &balancerAttributes{accessLog: logTarget{on: true, bucket: "b"}})
	return w, s, &now
}

func (s *logStream) say(line string) {
	sh := s.lock(0)
	sh.done(s, append(append(sh.lines.Begin(), line...), '\n'))
	sh.mu.Unlock()
}

func TestLogRotation(t *testing.T) {
	t.Parallel()
	w, s, now := fakeLog(t, 0)
	look := func() {
		w.write(s)
		if !now.Before(s.until) {
			w.complete(s)
		}
	}
	s.say("one")
	look()
	s.say("two")
	*now = now.Add(2 * time.Second) // over 03:05
	look()
	s.say("three")
	look()
	w.close(s)
	s.say("four") // too late
	lines, paths := logLines(t, w.o.Dir, "")
	if strings.Join(lines, " ") != "one two three" || len(paths) != 2 || !strings.Contains(paths[0], "_20260102T0305Z_") || !strings.Contains(paths[1], "_20260102T0310Z_") {
		t.Errorf("lines %q in %q", lines, paths)
	}
	if n := w.lost(); n != 1 {
		t.Errorf("%d lines lost, want the one after the end", n)
	}
}

// A full disk costs lines, never requests: they are dropped and counted, what is on the disk stays readable, and the log goes
// on once there is room.
func TestLogDiskFull(t *testing.T) {
	t.Parallel()
	w, s, now := fakeLog(t, 0)
	real := w.create
	w.create = func(string) (*os.File, error) { return nil, &fs.PathError{Op: "open", Err: syscall.ENOSPC} }
	s.say("lost")
	s.say("lost")
	w.write(s)
	if w.lost() != 2 {
		t.Fatalf("%d lines lost, want 2", w.lost())
	}
	w.create = real
	s.say("rests")
	w.write(s)
	*now = now.Add(logRest + time.Second)
	s.say("kept")
	w.write(s)
	// Writing fails in the middle: the file ends where it ended before.
	good := s.file
	broken, err := os.Open(os.DevNull) // not writable
	if err != nil {
		t.Fatal(err)
	}
	s.file = broken
	s.say("lost")
	w.write(s)
	broken.Close()
	s.file = good
	*now = now.Add(logRest + time.Second)
	s.say("again")
	w.close(s)
	if lines, _ := logLines(t, w.o.Dir, ""); strings.Join(lines, " ") != "kept again" {
		t.Errorf("lines %q", lines)
	}
	if w.lost() != 4 {
		t.Errorf("%d lines lost, want 4", w.lost())
	}
}

// A writer that doesn't come along costs lines, and a bounded amount of memory.
func TestLogOverflow(t *testing.T) {
	t.Parallel()
	_, s, _ := fakeLog(t, 0)
	r := rand.New(rand.NewPCG(1, 2))
	line := make([]byte, 1023)
	for range 2000 {
		for i := range line {
			line[i] = '!' + byte(r.IntN(90))
		}
		s.say(string(line))
	}
	if n := s.lost.Load(); n < 900 || n > 1000 {
		t.Errorf("%d lines lost", n)
	}
	if n := s.shards[0].lines.Len(); n > maxLogBuffer {
		t.Errorf("%d bytes of buffer", n)
	}
}

func TestLogPrune(t *testing.T) {
	t.Parallel()
	w, s, now := fakeLog(t, 150)
	for i := range 6 {
		s.say(strings.Repeat(string(rune('a'+i)), 40))
		w.write(s)
		path := s.path
		*now = now.Add(5 * time.Minute)
		os.Chtimes(path, *now, *now)
		w.complete(s)
	}
	foreign := filepath.Join(w.dir(s, *now), "of another.log.gz")
	os.WriteFile(foreign, make([]byte, 1000), 0o644)
	w.prune(s)
	if _, err := os.Stat(foreign); errors.Is(err, fs.ErrNotExist) {
		t.Error("a file of somebody else is gone")
	}
	os.Remove(foreign)
	lines, paths := logLines(t, w.o.Dir, "")
	if len(paths) == 0 || len(paths) >= 6 || lines[len(lines)-1][0] != 'f' {
		t.Errorf("kept %q", lines)
	}
}

func TestAppendLogged(t *testing.T) {
	t.Parallel()
	if got := string(appendLogged(nil, "a \"b\"\\\x00\x7f\xff~")); got != `a \x22b\x22\x5C\x00\x7F\xFF~` {
		t.Error(got)
	}
	for d, want := range map[time.Duration]string{0: "0.000", 1499 * time.Microsecond: "0.001", 61*time.Second + 5*time.Millisecond: "61.005", -1: "0.000"} {
		if got := string(appendSeconds(nil, d)); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

// The answer's way out is timed from its head's arrival.
func TestLoggedTimes(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 0)
	x := &exchange{lt: &listenerTable{}, req: &request{}, peer: &peerInfo{}}
	for want, e := range map[string]entry{
		" - -1 -1 -1 ":             {},
		" - -1 -1 -1 504":          {status: 504, sentAt: at}, // nothing came back
		" - 0.001 0.002 0.003 ":    {sentAt: at.Add(time.Millisecond), gotAt: at.Add(3 * time.Millisecond), begunAt: at.Add(6 * time.Millisecond)},
		" - 0.001 0.002 0.000 ":    {sentAt: at.Add(time.Millisecond), gotAt: at.Add(3 * time.Millisecond)},
		" - 61.000 0.000 0.000 20": {status: 200, sentAt: at.Add(61 * time.Second), gotAt: at.Add(61 * time.Second), begunAt: at.Add(61 * time.Second)},
	} {
		e.created = at
		x.entry = e
		if got := string(x.appendEntry(&logShard{}, "app/l/1", at)); !strings.Contains(got, want) {
			t.Errorf("%q has no %q", got, want)
		}
	}
}

func BenchmarkLogLine(b *testing.B) {
	x := &exchange{lt: &listenerTable{proto: "http", port: "80", addr: "10.0.0.1:80"}, req: &request{}, peer: &peerInfo{addr: netip.MustParseAddrPort("127.0.0.1:4711")}}
	x.choice.g, x.choice.t = &group{groupState: &groupState{key: "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067"}}, &target{addr: "10.0.0.7:80"}
	if err := x.req.parse(benchHead); err != nil {
		b.Fatal(err)
	}
	w := newLogWriter(Logs{Dir: b.TempDir()}, 1, time.Now, slog.New(slog.DiscardHandler))
	w.running = true
	s, _ := w.use("app/l/50dc6c495c0c9188", &balancerAttributes{accessLog: logTarget{on: true}})
	x.p = &Proxy{opt: Options{Clock: time.Now}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.entry.begin(s)
		x.req.trace = nil
		now := time.Now()
		x.noted(x.req, now)
		x.entry.sentAt, x.entry.gotAt, x.entry.status, x.entry.target = now, now, 200, 200
		x.record(0, x.p.opt.Clock())
		if i%200 == 199 {
			w.write(s)
		}
	}
	b.ReportMetric(float64(s.size)/float64(b.N), "bytes/line")
}
