package proxy

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// LineLog is the access log of a network load balancer's node: lines that others make, in files like those of an application load
// balancer. Safe for concurrent use.
type LineLog struct {
	w *logWriter
	s atomic.Pointer[logStream]
}

// NewLineLog returns a log that is off.
func NewLineLog(o Logs, clock func() time.Time, log *slog.Logger) *LineLog {
	return &LineLog{w: newLogWriter(o, 0, clock, log)}
}

// Use makes the log what the load balancer's attributes say: off, or on under a bucket and prefix.
func (l *LineLog) Use(lb string, balancer map[string]string) error {
	a := attributes{of: "load balancer " + lb, m: balancer}
	b := balancerAttributes{accessLog: a.logTarget(accessLogs)}
	if a.err != nil {
		return a.err
	}
	s, _ := l.w.use(lb, &b)
	l.s.Store(s)
	return nil
}

// Add writes a line, if the log is on: line appends it, with its end. It does not wait.
func (l *LineLog) Add(line func(dst []byte) []byte) {
	s := l.s.Load()
	if s == nil {
		return
	}
	sh := s.lock(anyShard)
	sh.done(s, line(sh.lines.Begin()))
	sh.mu.Unlock()
}

// Close writes what is left. Nobody may add any more.
func (l *LineLog) Close() { l.w.stop() }
