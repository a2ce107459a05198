package zone

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// reporter holds the zone's observations and wakes those who wait for a change. Safe for concurrent use.
type reporter struct {
	mu      sync.Mutex
	report  Report
	health  map[string]TargetHealth // group ARN and target
	serving map[string]bool
	changed chan struct{} // closed at the next change
}

func (r *reporter) init(zone, boot string) {
	r.report = Report{Zone: zone, Boot: boot, Version: 1}
	r.health, r.serving, r.changed = map[string]TargetHealth{}, map[string]bool{}, make(chan struct{})
}

// bump marks a change; the caller holds mu.
func (r *reporter) bump() {
	r.report.Version++
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *reporter) applied(version string, problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report.Applied != version || !slices.Equal(r.report.Problems, problems) {
		r.report.Applied, r.report.Problems = version, problems
		r.bump()
	}
}

func (r *reporter) setServing(arns map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(arns) == len(r.serving) {
		same := true
		for a := range arns {
			same = same && r.serving[a]
		}
		if same {
			return
		}
	}
	r.serving = arns
	r.bump()
}

func healthKey(group, target string) string { return group + " " + target }

func (r *reporter) setHealth(h TargetHealth) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := healthKey(h.GroupARN, Target{ID: h.TargetID, Port: h.Port}.Key())
	if old, ok := r.health[k]; ok && old.State == h.State && old.Reason == h.Reason && old.Description == h.Description {
		return
	}
	h.Anomalous, h.Mitigated = r.health[k].Anomalous, r.health[k].Mitigated
	r.health[k] = h
	r.bump()
}

// setAnomalies notes which targets of a group are anomalous, and whether they get fewer requests for it.
func (r *reporter) setAnomalies(g TargetGroup, byAddress map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for _, t := range g.Targets {
		k := healthKey(g.ARN, t.Key())
		h, ok := r.health[k]
		mitigated, anomalous := byAddress[netip.AddrPortFrom(t.IP, uint16(t.Port)).String()]
		if ok && (h.Anomalous != anomalous || h.Mitigated != mitigated) {
			h.Anomalous, h.Mitigated = anomalous, mitigated
			r.health[k] = h
			changed = true
		}
	}
	if changed {
		r.bump()
	}
}

func (r *reporter) forget(group, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := healthKey(group, target)
	if _, ok := r.health[k]; ok {
		delete(r.health, k)
		r.bump()
	}
}

// snapshot returns the report without counters.
func (r *reporter) snapshot() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lockedSnapshot()
}

func (r *reporter) lockedSnapshot() Report {
	out := r.report
	for a := range r.serving {
		out.Serving = append(out.Serving, a)
	}
	slices.Sort(out.Serving)
	keys := make([]string, 0, len(r.health))
	for k := range r.health {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		out.Health = append(out.Health, r.health[k])
	}
	return out
}

// wait returns the report once it isn't version since of life boot any more, or when the time is over.
func (r *reporter) wait(done <-chan struct{}, boot string, since uint64, timeout time.Duration) Report {
	t := time.NewTimer(timeout)
	defer t.Stop()
	for {
		r.mu.Lock()
		if boot != r.report.Boot || since != r.report.Version {
			out := r.lockedSnapshot()
			r.mu.Unlock()
			return out
		}
		ch := r.changed
		r.mu.Unlock()
		select {
		case <-ch:
			time.Sleep(gatherFor)
		case <-t.C:
			return r.snapshot()
		case <-done:
			return r.snapshot()
		}
	}
}

// control is the handler of the zone's socket, which only the cloud's owner can open.
func (p *process) control() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthy", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) })
	m.HandleFunc("PUT /desired", func(w http.ResponseWriter, r *http.Request) {
		var d Desired
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDesired)).Decode(&d); err != nil {
			http.Error(w, "the desired state can't be read: "+err.Error(), http.StatusBadRequest)
			return
		}
		if d.Zone != p.o.Zone {
			http.Error(w, "the desired state is for zone "+strconv.Quote(d.Zone), http.StatusBadRequest)
			return
		}
		// The apply must not end with the request: a pusher that goes away leaves a zone that holds the state.
		if err := p.push(p.ctx, d); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	m.HandleFunc("GET /report", func(w http.ResponseWriter, r *http.Request) {
		var rep Report
		if q := r.URL.Query(); q.Has("since") {
			since, err := strconv.ParseUint(q.Get("since"), 10, 64)
			if err != nil {
				http.Error(w, "since is not a number", http.StatusBadRequest)
				return
			}
			rep = p.rep.wait(r.Context().Done(), q.Get("boot"), since, reportWait)
		} else {
			rep = p.rep.snapshot()
			rep.Stats = p.nodes.stats()
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(rep)
	})
	return m
}
