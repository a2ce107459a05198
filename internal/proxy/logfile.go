package proxy

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"skerry/internal/gzline"
)

// Logs says where a Proxy's access and connection logs go. Which of them there are, the load balancer's attributes say.
type Logs struct {
	// Dir holds the files as the bucket would hold the objects: Dir/BUCKET/PREFIX/AWSLogs/….  Empty: there are no logs.
	Dir     string
	Account string
	Region  string
	Address string        // of the node, in the files' names
	Every   time.Duration // a file is complete after that; 0 is 5 minutes
	Keep    int64         // bytes that the complete files of one log and node may take: the oldest go; 0 is 256 MiB
}

// Bounds of a log.
const (
	maxLogBuffer = 1 << 20
	wakeAt       = 64 << 10 // so much is written at once, without waiting for the next look
	lookEvery    = time.Second
	maxLogFile   = 64 << 20        // a file is complete when it has that size
	logRest      = 5 * time.Second // after a failed write
	retiredLog   = time.Minute     // a log that is off takes the last lines for so long
	logEvery     = 5 * time.Minute
	keepLogs     = 256 << 20
)

const anyShard = -1

// logStream is one log of a node: the lines of all its exchanges, or of its connections. Lines are appended to shards, one a
// loop and some for goroutines, and packed there at once; the writer's goroutine writes them to the file.
// Nothing that serves a request ever waits for it: a line that finds its shard full is dropped and counted.
type logStream struct {
	name   string
	shards []logShard
	loops  int
	wake   chan struct{}
	lost   atomic.Int64

	// The writer's own.
	kind    logKind
	base    string // the directory that bucket and prefix name
	file    *os.File
	path    string // of file
	size    int64
	until   time.Time // when file is complete
	rest    time.Time // no write before
	retired time.Time // when it was turned off
	last    time.Time // of the latest line
	spare   []byte
	told    int64 // of lost
}

// logShard is a part of a log's buffer.
type logShard struct {
	mu     sync.Mutex
	lines  gzline.Packer
	clock  logClock
	closed bool
	_      [64]byte // apart from the next one's lock
}

type logKind struct {
	attribute string // of the load balancer, without the last part
	test      string // name of the file that shows that the log is on
	line      string // in it
	prefix    string // of the files' names
}

var (
	accessLogs     = logKind{"access_logs.s3", "ELBAccessLogTestFile", "Enable AccessLog for ELB: ", ""}
	connectionLogs = logKind{"connection_logs.s3", "ELBConnectionLogTestFile", "Enable ConnectionLog for ELB: ", "conn_log."}
	healthLogs     = logKind{"health_check_logs.s3", "ELBHealthCheckLogTestFile", "Enable HealthCheckLog for ELB: ", "health_check_log_"}
)

// lock returns a shard whose lock the caller then holds.
func (s *logStream) lock(shard int) *logShard {
	if shard < 0 || shard >= s.loops {
		shard = s.loops + rand.IntN(len(s.shards)-s.loops)
	}
	sh := &s.shards[shard]
	sh.mu.Lock()
	return sh
}

// done takes the buffer back with the line that was appended to it.
func (sh *logShard) done(s *logStream, b []byte) {
	before := sh.lines.Len()
	if before+len(b) > maxLogBuffer || sh.closed {
		s.lost.Add(1)
		return
	}
	sh.lines.Add(b)
	if before < wakeAt && sh.lines.Len() >= wakeAt {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// logWriter writes a Proxy's logs. One goroutine does it, while there is a log.
type logWriter struct {
	o     Logs
	loops int
	log   *slog.Logger
	clock func() time.Time
	wake  chan struct{}
	end   chan struct{}
	done  chan struct{}

	mu      sync.Mutex // guards what follows
	streams map[string]*logStream
	running bool

	create func(path string) (*os.File, error)
}

func newLogWriter(o Logs, loops int, clock func() time.Time, log *slog.Logger) *logWriter {
	if o.Every <= 0 {
		o.Every = logEvery
	}
	if o.Keep <= 0 {
		o.Keep = keepLogs
	}
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	return &logWriter{o: o, loops: loops, log: log, clock: clock, wake: make(chan struct{}, 1), end: make(chan struct{}), done: make(chan struct{}),
		streams: map[string]*logStream{},
		create: func(path string) (*os.File, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		}}
}

// use makes the running logs those that the attributes want, and returns them; nil is one that is off.
func (w *logWriter) use(lb string, a *balancerAttributes) (access, connections *logStream) {
	s := w.have(lb, map[logKind]logTarget{accessLogs: a.accessLog, connectionLogs: a.connectionLog})
	return s[accessLogs], s[connectionLogs]
}

// have makes the running logs those that are wanted, and returns them.
func (w *logWriter) have(lb string, targets map[logKind]logTarget) map[logKind]*logStream {
	out := map[logKind]*logStream{}
	if w == nil || w.o.Dir == "" {
		return out
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock()
	want := map[string]bool{}
	for kind, to := range targets {
		if !to.on {
			continue
		}
		base := filepath.Join(w.o.Dir, to.bucket, filepath.FromSlash(to.prefix))
		key := kind.attribute + "\x00" + base
		want[key] = true
		s := w.streams[key]
		if s == nil {
			goroutines := 2
			s = &logStream{name: lb, kind: kind, base: base, shards: make([]logShard, w.loops+goroutines), loops: w.loops, wake: w.wake}
			w.streams[key] = s
		}
		s.retired = time.Time{}
		out[kind] = s
	}
	for key, s := range w.streams {
		if !want[key] && s.retired.IsZero() {
			s.retired = now
		}
	}
	if len(w.streams) > 0 && !w.running {
		w.running = true
		go w.run()
	}
	return out
}

func (w *logWriter) run() {
	defer close(w.done)
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-w.wake:
		case <-t.C:
		case <-w.end:
			w.each(func(key string, s *logStream) { w.close(s) })
			return
		}
		w.each(func(key string, s *logStream) {
			w.write(s)
			now := w.clock()
			if s.file != nil && (!now.Before(s.until) || s.size >= maxLogFile) {
				w.complete(s)
			}
			if n := s.lost.Load(); n > s.told {
				w.log.Warn("lines of a log were lost", "log", s.kind.attribute, "load_balancer", s.name, "lines", n-s.told)
				s.told = n
			}
			w.mu.Lock()
			over := !s.retired.IsZero() && now.Sub(s.retired) > retiredLog && now.Sub(s.last) > retiredLog
			if over {
				delete(w.streams, key)
			}
			w.mu.Unlock()
			if over {
				w.close(s)
			}
		})
	}
}

func (w *logWriter) each(fn func(key string, s *logStream)) {
	w.mu.Lock()
	all := make(map[string]*logStream, len(w.streams))
	for k, s := range w.streams {
		all[k] = s
	}
	w.mu.Unlock()
	for k, s := range all {
		fn(k, s)
	}
}

// stop writes what is left and ends the goroutine. Nobody may log any more.
func (w *logWriter) stop() {
	w.mu.Lock()
	running := w.running
	w.mu.Unlock()
	if running {
		close(w.end)
		<-w.done
	}
}

// lost tells how many lines were dropped so far.
func (w *logWriter) lost() (n int64) {
	w.each(func(_ string, s *logStream) { n += s.lost.Load() })
	return n
}

// write writes what the shards hold.
func (w *logWriter) write(s *logStream) {
	w.enabled(s)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		lines := sh.lines.Lines()
		member := sh.lines.Take(s.spare)
		sh.mu.Unlock()
		if lines == 0 {
			continue
		}
		if s.spare = member; cap(s.spare) > 4*wakeAt {
			s.spare = nil
		}
		now := w.clock()
		s.last = now
		if err := w.put(s, member, now); err != nil {
			s.lost.Add(int64(lines))
			s.rest = now.Add(logRest)
			if err != errLogRests {
				w.log.Warn("a log can't be written", "log", s.kind.attribute, "load_balancer", s.name, "err", err)
			}
		}
	}
}

var errLogRests = fmt.Errorf("it is tried again %v after a failure", logRest)

// put appends a gzip member to the file: what a reader finds is whole at any time.
func (w *logWriter) put(s *logStream, member []byte, now time.Time) error {
	if now.Before(s.rest) {
		return errLogRests
	}
	if s.file == nil {
		if err := w.open(s, now); err != nil {
			return err
		}
	}
	n, err := s.file.Write(member)
	if err != nil {
		if n > 0 {
			if terr := s.file.Truncate(s.size); terr == nil {
				_, terr = s.file.Seek(s.size, io.SeekStart)
			} else {
				s.file.Close()
				s.file = nil
			}
		}
		return err
	}
	s.size += int64(n)
	return nil
}

// dir is where the files of a day go.
func (w *logWriter) dir(s *logStream, day time.Time) string {
	return filepath.Join(s.base, "AWSLogs", w.o.Account, "elasticloadbalancing", w.o.Region, day.UTC().Format("2006/01/02"))
}

// stem is the beginning of the names of this node's files.
func (w *logWriter) stem(s *logStream) string {
	return s.kind.prefix + w.o.Account + "_elasticloadbalancing_" + w.o.Region + "_" + strings.ReplaceAll(s.name, "/", ".") + "_"
}

// open begins a file. Its name says when it will be complete.
func (w *logWriter) open(s *logStream, now time.Time) error {
	s.until = now.Truncate(w.o.Every).Add(w.o.Every)
	dir := w.dir(s, s.until)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	random := make([]byte, 8)
	for i := range random {
		random[i] = letters[rand.IntN(len(letters))]
	}
	stamp := "20060102T1504Z"
	if w.o.Every < time.Minute {
		stamp = "20060102T150405Z"
	}
	s.path = filepath.Join(dir, w.stem(s)+s.until.UTC().Format(stamp)+"_"+w.o.Address+"_"+string(random)+".log.gz")
	f, err := w.create(s.path)
	if err != nil {
		return err
	}
	s.file, s.size = f, 0
	return nil
}

// complete ends a file, and removes the oldest ones if they are too much.
func (w *logWriter) complete(s *logStream) {
	if s.file == nil {
		return
	}
	if err := s.file.Close(); err != nil {
		w.log.Warn("a log's file", "path", s.path, "err", err)
	}
	s.file = nil
	w.prune(s)
}

// prune removes the oldest of this node's files until the rest fits.
func (w *logWriter) prune(s *logStream) {
	type old struct {
		path string
		size int64
		at   time.Time
	}
	var files []old
	var total int64
	stem, node := w.stem(s), "_"+w.o.Address+"_"
	root := filepath.Join(s.base, "AWSLogs", w.o.Account, "elasticloadbalancing", w.o.Region)
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasPrefix(d.Name(), stem) && strings.Contains(d.Name(), node) {
			if fi, err := d.Info(); err == nil {
				files = append(files, old{path, fi.Size(), fi.ModTime()})
				total += fi.Size()
			}
		}
		return nil
	})
	slices.SortFunc(files, func(a, b old) int { return a.at.Compare(b.at) })
	for _, f := range files {
		if total <= w.o.Keep {
			break
		}
		if os.Remove(f.path) == nil {
			total -= f.size
			os.Remove(filepath.Dir(f.path)) // if it was the day's last
		}
	}
}

// enabled leaves the file that shows that the log is on.
func (w *logWriter) enabled(s *logStream) {
	if s.base == "" || !s.last.IsZero() {
		return
	}
	now := w.clock()
	s.last = now
	dir := filepath.Join(s.base, "AWSLogs", w.o.Account)
	path := filepath.Join(dir, s.kind.test)
	if _, err := os.Stat(path); err == nil {
		return
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(s.kind.line+s.name+" at "+now.UTC().Format("2006-01-02T15:04:05.000Z")+"\n"), 0o644)
	}
	if err != nil {
		w.log.Warn("a log can't be written", "log", s.kind.attribute, "load_balancer", s.name, "err", err)
	}
}

// close writes what is left and takes no more.
func (w *logWriter) close(s *logStream) {
	w.write(s)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		s.lost.Add(int64(sh.lines.Lines()))
		sh.lines, sh.closed = gzline.Packer{}, true
		sh.mu.Unlock()
	}
	w.complete(s)
}
