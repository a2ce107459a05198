package proxy

import (
	"math/rand/v2"
	"time"
)

// Anomaly detection compares the targets of a group: one that fails much more often than the others is anomalous. With
// mitigation its weight is cut, and given back in steps once it behaves like the others.
const (
	judgeEvery   = 10 * time.Second
	fewestJudged = 3 // healthy targets
	fewestErrors = 3 // in one period, of an anomalous target
	wholeWeight  = 1024
	leastWeight  = 64
	errorMargin  = 0.1 // of the answers, above twice the others' share
)

// conduct is what a target did in one period, and what is thought of it.
type conduct struct {
	answers, errors int64
	anomalous       bool
	weight          int32
}

// judgeConduct decides which targets are anomalous and what weights they get. Pure; it changes cs in place.
func judgeConduct(cs []conduct, mitigate bool) {
	var answers, errors int64
	for _, c := range cs {
		answers += c.answers
		errors += c.errors
	}
	for i := range cs {
		c := &cs[i]
		others := 0.0
		if n := answers - c.answers; n > 0 {
			others = float64(errors-c.errors) / float64(n)
		}
		share := 0.0
		if c.answers > 0 {
			share = float64(c.errors) / float64(c.answers)
		}
		enough := len(cs) >= fewestJudged && answers > c.answers // there is something to compare with
		switch {
		case enough && c.errors >= fewestErrors && share > 2*others+errorMargin:
			c.anomalous = true
		case !enough || share <= others+errorMargin:
			c.anomalous = false
		}
		switch {
		case !mitigate || len(cs) < fewestJudged:
			c.weight = wholeWeight
		case c.anomalous:
			c.weight = max(c.weight/4, leastWeight)
		default:
			c.weight = min(c.weight*2, wholeWeight)
		}
	}
}

// judge applies it to a group.
func (g *group) judge() {
	var ts []*target
	var cs []conduct
	for _, m := range g.members {
		answers, errors := m.t.answers.Swap(0), m.t.errors.Swap(0)
		if m.state != Healthy && m.state != "" {
			m.t.anomalous.Store(false)
			m.t.cut.Store(0)
			continue
		}
		ts = append(ts, m.t)
		cs = append(cs, conduct{answers, errors, m.t.anomalous.Load(), wholeWeight - m.t.cut.Load()})
	}
	judgeConduct(cs, g.attrs.algorithm == weightedRandom && g.attrs.mitigation && !g.failOpen)
	for i, t := range ts {
		t.anomalous.Store(cs[i].anomalous)
		t.cut.Store(wholeWeight - cs[i].weight)
	}
}

// anomalies lists the group's anomalous targets, and those whose weight is cut, by address: whether it is.
func (g *group) anomalies() map[string]bool {
	var out map[string]bool
	for _, m := range g.members {
		if cut := m.t.cut.Load() > 0; cut || m.t.anomalous.Load() {
			if out == nil {
				out = map[string]bool{}
			}
			out[m.t.addr] = cut
		}
	}
	return out
}

// random picks by weight; nil if chance gave none that is not in tried.
func (g *group) random(tried []*target) *target {
	for range 32 {
		t := g.healthy[rand.IntN(len(g.healthy))]
		if cut := t.cut.Load(); (cut == 0 || rand.Int32N(wholeWeight) >= cut) && !contains(tried, t) {
			return t
		}
	}
	return nil
}

// conducted notes how a request to the target went.
func (t *target) conducted(ok bool) {
	t.answers.Add(1)
	if !ok {
		t.errors.Add(1)
	}
}

// unconnected counts a target that can't be connected to. If the means for it were lacking here, that isn't its fault.
func (c *choice) unconnected(p *Proxy, err error) {
	c.g.counters.inc(cTargetConnectionError)
	if !Exhausted(err) {
		c.blame()
		return
	}
	c.blamed = c.t
	now, last := p.ticks.Load(), p.warned.Load()
	if (last == 0 || now-last >= int64(time.Second)) && p.warned.CompareAndSwap(last, max(now, 1)) {
		p.opt.Log.Warn("no connection to a target", "target", c.t.addr, "err", err)
	}
}

// blame counts against the target that it failed, once for an attempt.
func (c *choice) blame() {
	if c.t != nil && c.t != c.blamed {
		c.blamed = c.t
		c.t.conducted(false)
	}
}
