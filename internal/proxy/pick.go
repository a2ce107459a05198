package proxy

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// nextTarget counts the choices of a group, from table to table.
type nextTarget struct{ n atomic.Uint64 }

// choice is the result of choosing where a request goes.
type choice struct {
	g        *group
	t        *target // nil: nobody can serve it
	setGroup bool    // the answer carries the cookie of the group
	sticky   bool    // the request named its target
	blamed   *target // its failure is counted
}

// chooseGroup takes the group that the request's cookie names, or one by weight. forged says that there was a cookie which was
// none of ours.
func (a *action) chooseGroup(r *request, s *sealer, now time.Time) (g *group, set, forged bool) {
	if len(a.forward) == 1 {
		return a.forward[0].g, false, false
	}
	if a.sticky > 0 {
		for _, name := range [...]string{cookieTG, cookieTGCORS} {
			v, ok := r.cookie(name)
			if !ok {
				continue
			}
			id, genuine, over := s.read(v, cookieTG, now)
			if forged = forged || !genuine; !genuine || over {
				continue
			}
			for i := range a.forward {
				if w := &a.forward[i]; hash(w.g.key) == id {
					return w.g, true, false
				}
			}
		}
	}
	if a.total == 0 {
		return nil, false, forged
	}
	n := rand.IntN(a.total)
	for i := range a.forward {
		if n -= a.forward[i].weight; n < 0 {
			return a.forward[i].g, a.sticky > 0, forged
		}
	}
	return nil, false, forged
}

// choose picks a target of the group, the one that the request's cookie names if it can still serve.
func (g *group) choose(r *request, s *sealer, now time.Time) (t *target, sticky bool) {
	if g.attrs.sticky != notSticky {
		if t := g.named(r, s, now); t != nil {
			return t, true
		}
	}
	return g.pick(nil, now), false
}

// named returns the target that the stickiness cookie names. A draining one keeps the clients that it has until it is gone.
func (g *group) named(r *request, s *sealer, now time.Time) *target {
	names := [...]string{cookieLB, cookieLBCORS}
	if g.attrs.sticky == byAppCookie {
		if _, ok := r.cookie(g.attrs.appCookie); !ok {
			return nil
		}
		names = [...]string{cookieApp, cookieApp}
	}
	for _, name := range names {
		v, ok := r.cookie(name)
		if !ok {
			continue
		}
		id, ok := s.open(v, g.key, now)
		if !ok {
			continue
		}
		if m, ok := g.members[id]; ok {
			switch m.state {
			case Healthy, "", Draining:
				return m.t
			case Unhealthy, Initial:
				if g.failOpen {
					return m.t
				}
			}
		}
	}
	return nil
}

// tries are the targets that an exchange gave up on.
type tries struct {
	targets [maxAttempts]*target
	n       int
}

// next chooses another target for the exchange; it tells whether there is one.
func (r *tries) next(c *choice, now time.Time) bool {
	if r.n >= maxAttempts-1 {
		return false
	}
	r.targets[r.n] = c.t
	r.n++
	t := c.g.pick(r.targets[:r.n], now)
	if t == nil || t.removed.Load() {
		return false
	}
	c.t.inflight.Add(-1)
	c.t = t
	t.inflight.Add(1)
	return true
}

// move chooses another target for a request whose connection broke before anything of the answer came, if the request changes
// nothing. Several targets may break at once: a lost zone's.
func (r *tries) move(q *request, c *choice, now time.Time) bool { return q.safe && r.next(c, now) }

// pick chooses by the group's algorithm among the targets that are not in tried. It returns nil when none is left.
func (g *group) pick(tried []*target, now time.Time) *target {
	n := len(g.healthy)
	if n == 0 {
		return nil
	}
	next := g.next.n.Load()
	if len(tried) == 0 {
		next = g.next.n.Add(1) // a second choice for the same request does not shift the others' turns
	}
	start := int(next % uint64(n))
	switch g.attrs.algorithm {
	case weightedRandom:
		if t := g.random(tried); t != nil {
			return t
		}
	case leastOutstanding:
		var best *target
		var least int64
		for i := range n {
			t := g.healthy[(start+i)%n]
			if f := t.inflight.Load(); (best == nil || f < least) && !contains(tried, t) {
				best, least = t, f
			}
		}
		return best
	}
	all := g.attrs.slowStart == 0 || !g.someSteady(now)
	var ramping *target
	for i := range n {
		t := g.healthy[(start+i)%n]
		if contains(tried, t) {
			continue
		}
		if all || t.rampedUp(now, g.attrs.slowStart) {
			return t
		}
		if ramping == nil {
			ramping = t
		}
		if len(tried) == 0 {
			// Its turn goes to the one whose turn is next, who has none then: nobody gets its share for standing behind it.
			start = int(g.next.n.Add(1)%uint64(n)) - i - 1 + n
		}
	}
	return ramping
}

// someSteady tells whether a target that gets requests is not in its slow start: else nobody ramps up.
func (g *group) someSteady(now time.Time) bool {
	for _, t := range g.healthy {
		if since := t.since.Load(); since == 0 || now.UnixNano()-since >= int64(g.attrs.slowStart) {
			return true
		}
	}
	return false
}

func contains(ts []*target, t *target) bool {
	for _, x := range ts {
		if x == t {
			return true
		}
	}
	return false
}

// rampedUp tells whether a target takes a request now: always after the slow start, in it with a chance that grows linearly.
func (t *target) rampedUp(now time.Time, d time.Duration) bool {
	since := t.since.Load()
	if since == 0 {
		return true
	}
	age := now.UnixNano() - since
	if age >= int64(d) {
		t.since.CompareAndSwap(since, 0)
		return true
	}
	return rand.Int64N(int64(d)) < age
}
