package zone

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"skerry/internal/proxy"
)

// Bounds and waits of health checks.
const (
	maxChecks    = 256                    // under way at once
	minTimeout   = 500 * time.Millisecond // however large the time scale: a real machine must be able to answer
	minInterval  = 100 * time.Millisecond
	firstRetry   = 50 * time.Millisecond // between checks of a target that is still initial, doubling
	maxRetry     = 500 * time.Millisecond
	jitterPart   = 10 // checks are spread by up to interval/jitterPart
	maxCheckHead = 64 << 10
	checkAgent   = "ELB-HealthChecker/2.0"
)

// checker watches targets, one goroutine each. Safe for concurrent use.
type checker struct {
	ctx    context.Context
	o      Options
	rep    *reporter
	log    *slog.Logger
	slots  chan struct{}
	wg     sync.WaitGroup
	change func(group string)                                            // called without mu when a target's state has changed, before it is reported
	noted  func(p checkPlan, r result, at time.Time, took time.Duration) // called after every check

	mu      sync.Mutex // guards what follows
	targets map[string]*checked
}

// checked is one target under watch.
type checked struct {
	key    string
	plan   checkPlan
	cancel context.CancelFunc
	m      machine
}

// checkPlan says how one target is checked; two equal plans are one watch.
type checkPlan struct {
	group      string
	ns         string
	from       netip.Addr
	id         string
	port       int
	addr       netip.AddrPort
	registered int64
	drain      time.Duration // how long an unhealthy target keeps its flows and says so
	version    string        // of HTTP, that the targets speak
	check      HealthCheck
}

func newChecker(ctx context.Context, o Options, rep *reporter) *checker {
	return &checker{ctx: ctx, o: o, rep: rep, log: o.Log, slots: make(chan struct{}, maxChecks), targets: map[string]*checked{}, change: func(string) {},
		noted: func(checkPlan, result, time.Time, time.Duration) {}}
}

// sync makes the watched targets equal to those of the groups. A target whose plan changed keeps its health, unless it was
// registered anew.
func (c *checker) sync(groups []TargetGroup) {
	want := map[string]checkPlan{}
	for _, g := range groups {
		if !g.Check.Enabled {
			continue
		}
		for _, t := range g.Targets {
			if t.Draining {
				continue
			}
			port := t.Port
			if n, err := strconv.Atoi(g.Check.Port); err == nil {
				port = n
			}
			want[healthKey(g.ARN, t.Key())] = checkPlan{group: g.ARN, ns: g.Namespace, from: g.NodeIP, id: t.ID, port: t.Port,
				addr: netip.AddrPortFrom(t.IP, uint16(port)), registered: t.Registered, drain: c.o.sickInterval(g), version: g.ProtocolVersion, check: g.Check}
		}
	}
	var gone []*checked
	c.mu.Lock()
	for k, w := range c.targets {
		if p, ok := want[k]; !ok || p != w.plan {
			w.cancel()
			delete(c.targets, k)
			if !ok || p.registered != w.plan.registered {
				gone = append(gone, w)
			}
			if ok {
				c.start(k, p, w)
			}
		}
	}
	for k, p := range want {
		if c.targets[k] == nil {
			c.start(k, p, nil)
		}
	}
	c.mu.Unlock()
	for _, w := range gone {
		c.rep.forget(w.plan.group, Target{ID: w.plan.id, Port: w.plan.port}.Key())
	}
	for k, p := range want {
		if w := c.get(k); w.State != "" {
			c.rep.setHealth(c.observation(p, w))
		}
	}
}

// start begins a watch; the caller holds mu. before is the watch that it takes the place of, if any.
func (c *checker) start(key string, p checkPlan, before *checked) {
	if c.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	w := &checked{key: key, plan: p, cancel: cancel, m: newMachine(c.o.Now())}
	if before != nil && before.plan.registered == p.registered {
		w.m = before.m
	}
	c.targets[key] = w
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.watch(ctx, w)
	}()
}

func (c *checker) get(key string) machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.targets[key]; w != nil {
		return w.m
	}
	return machine{}
}

// state is a target's state for routing. A target that isn't checked counts as healthy.
func (c *checker) state(g TargetGroup, t Target) string {
	if m := c.get(healthKey(g.ARN, t.Key())); m.State != "" {
		return m.State
	}
	return Healthy
}

func (c *checker) stop() {
	c.mu.Lock()
	for _, w := range c.targets {
		w.cancel()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *checker) observation(p checkPlan, m machine) TargetHealth {
	if m.State == Unhealthy && p.drain > 0 && c.o.Now().Sub(m.Since) < p.drain {
		m.State = UnhealthyDraining
	}
	return TargetHealth{GroupARN: p.group, TargetID: p.id, Port: p.port, State: m.State, Reason: m.Reason, Description: m.Description, Since: m.Since}
}

// scaled divides a wait that is policy by the time scale.
func (o Options) scaled(seconds int) time.Duration {
	return time.Duration(seconds) * time.Second / time.Duration(max(1, o.TimeScale))
}

// watch checks one target until ctx ends: at once, then every interval.
//
// While the target is initial it is looked at more often, because one success is all that it needs: AWS says nothing of
// when the first check happens, only what its result means. Failures count at the pace of the interval nevertheless, so
// that a slow starter has the time that its group's settings give it.
func (c *checker) watch(ctx context.Context, w *checked) {
	interval := max(c.o.scaled(w.plan.check.Interval), minInterval)
	timeout := max(c.o.scaled(w.plan.check.Timeout), minTimeout)
	retry := firstRetry
	var counted time.Time // when a failure counted last
	m := w.m
	for {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		at, began := c.o.Now(), time.Now()
		r := c.once(ctx, w.plan, timeout)
		<-c.slots
		if ctx.Err() != nil {
			return
		}
		c.noted(w.plan, r, at, time.Since(began))
		if r.Reason == reasonInternal {
			c.log.Warn("health check", "zone", c.o.Zone, "target", w.plan.id, "err", "no port, descriptor or memory left for a connection")
		} else if r.OK || m.State != Initial || counted.IsZero() || time.Since(counted) >= interval {
			if !r.OK {
				counted = began
			}
			next := m.step(r, w.plan.check.Healthy, w.plan.check.Unhealthy, c.o.Now())
			if !c.record(w, next) {
				return
			}
			if next.State != m.State {
				c.log.Info("target health", "zone", c.o.Zone, "group", w.plan.group, "target", w.plan.id, "from", m.State, "to", next.State, "reason", next.Reason, "why", next.Description)
				c.change(w.plan.group)
			}
			if next.State != m.State || next.Reason != m.Reason || next.Description != m.Description {
				c.report(w, next)
			}
			m = next
		}
		wait := interval - time.Since(began)
		if m.State == Initial {
			wait = min(retry, interval)
			retry = min(2*retry, maxRetry)
		}
		wait = max(wait, minInterval/2) + rand.N(interval/jitterPart+1) - interval/jitterPart/2
		select {
		case <-time.After(max(wait, firstRetry/2)):
		case <-ctx.Done():
			return
		}
	}
}

// record keeps the machine if w is still the watch of its target.
func (c *checker) record(w *checked, m machine) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.targets[w.key] != w {
		return false
	}
	w.m = m
	return true
}

func (c *checker) report(w *checked, m machine) {
	c.mu.Lock()
	defer c.mu.Unlock() // so that a watch that has ended can't report after its target was forgotten
	if c.targets[w.key] == w {
		c.rep.setHealth(c.observation(w.plan, m))
	}
}

// once does one check. A new connection each time, closed after.
func (c *checker) once(ctx context.Context, p checkPlan, timeout time.Duration) result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	code, err := c.probe(ctx, p)
	switch {
	case err == nil && (p.check.Protocol == "TCP" || codeMatches(p.check.Matcher, code)):
		return result{OK: true, Code: code}
	case err == nil && p.version == proxy.GRPC:
		return result{Reason: reasonMismatch, Code: code, Detail: "GRPCUnexpectedStatus"}
	case err == nil && code >= 500:
		return result{Reason: reasonMismatch, Code: code, Detail: "TargetError"}
	case err == nil:
		return result{Reason: reasonMismatch, Code: code, Detail: "ResponseCodeMismatch"}
	}
	_, unconnected := errors.AsType[*connectError](err)
	switch {
	case unconnected && proxy.Exhausted(err):
		return result{Reason: reasonInternal, Detail: "InternalError"}
	case isTimeout(err):
		return result{Reason: reasonTimeout, Detail: "TimedOut"}
	case err == errNoGRPCStatus:
		return result{Reason: reasonFailed, Detail: "GRPCStatusHeaderEmpty"}
	case unconnected, errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return result{Reason: reasonFailed, Detail: "ConnectionReset"}
	}
	return result{Reason: reasonFailed, Detail: "TargetError"}
}

// connectError is a target that can't be connected to.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// probe connects and, over HTTP, asks for the path. It returns the status code.
func (c *checker) probe(ctx context.Context, p checkPlan) (int, error) {
	conn, err := c.o.Net.Dial(ctx, p.ns, p.from, "tcp", p.addr.String())
	if err != nil {
		return 0, &connectError{err}
	}
	defer conn.Close()
	if p.check.Protocol == "TCP" {
		return 0, nil
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if p.check.Protocol == "HTTPS" {
		// Targets' certificates are not validated, as in AWS.
		cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
		if speaksH2(p.version) {
			cfg.NextProtos = []string{"h2"}
		}
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return 0, err
		}
		conn = t
	}
	if speaksH2(p.version) {
		return probeH2(ctx, conn, p)
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nUser-Agent: %s\r\nAccept-Encoding: gzip, compressed\r\n\r\n", p.check.Path, p.addr, checkAgent)
	if err != nil {
		return 0, err
	}
	req := &http.Request{Method: http.MethodGet}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxCheckHead)), req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// codeMatches reads a matcher: codes and ranges of codes, separated by commas.
func codeMatches(matcher string, code int) bool {
	for _, part := range strings.Split(matcher, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil && code >= a && code <= b {
			return true
		}
	}
	return false
}
