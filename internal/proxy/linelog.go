package proxy

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// LineLog is a log of a load balancer's node whose lines others make: the access log of a network load balancer, or one of health
// checks. Its files are like those of an application load balancer's access log. Safe for concurrent use.
type LineLog struct {
	w    *logWriter
	kind logKind
	s    atomic.Pointer[logStream]
}

// NewLineLog returns an access log that is off.
func NewLineLog(o Logs, clock func() time.Time, log *slog.Logger) *LineLog {
	return &LineLog{w: newLogWriter(o, 0, clock, log), kind: accessLogs}
}

// NewHealthLog returns a log of health checks that is off.
func NewHealthLog(o Logs, clock func() time.Time, log *slog.Logger) *LineLog {
	return &LineLog{w: newLogWriter(o, 0, clock, log), kind: healthLogs}
}

// Use makes the log what the load balancer's attributes say: off, or on under a bucket and prefix.
func (l *LineLog) Use(lb string, balancer map[string]string) error {
	a := attributes{of: "load balancer " + lb, m: balancer}
	to := a.logTarget(l.kind)
	if a.err != nil {
		return a.err
	}
	l.s.Store(l.w.have(lb, map[logKind]logTarget{l.kind: to})[l.kind])
	return nil
}

// On tells whether there is somebody to write lines for.
func (l *LineLog) On() bool { return l.s.Load() != nil }

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
