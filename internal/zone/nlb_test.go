package zone

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"skerry/internal/fabric"
)

// nlbWorld is a zone's nodes without a process: health and time are what the test says.
type nlbWorld struct {
	*nodes
	net *fakeNet
	now time.Time
	d   Desired
}

func newNLBWorld(t *testing.T, attributes map[string]string) *nlbWorld {
	t.Helper()
	w := &nlbWorld{net: &fakeNet{blocked: map[netip.Addr]fabric.Blocked{}}, now: time.Unix(1e9, 0), d: desired(1001, 1002)}
	o := Options{Zone: "us-east-1a", TimeScale: 1, Log: slog.New(slog.DiscardHandler), Net: w.net, Now: func() time.Time { return w.now }}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that nothing is really checked
	rep := &reporter{}
	rep.init(o.Zone, "boot")
	w.nodes = newNodes(o, rep, newChecker(ctx, o, rep))
	maps.Copy(w.d.Groups[0].Attributes, attributes)
	w.health(Healthy, Healthy)
	return w
}

// health applies the state with these states of its targets.
func (w *nlbWorld) health(states ...string) {
	w.checks.mu.Lock()
	for i, s := range states {
		k := healthKey(groupARN, w.d.Groups[0].Targets[i].Key())
		w.checks.targets[k] = &checked{key: k, cancel: func() {}, m: machine{State: s}, plan: checkPlan{group: groupARN, id: fmt.Sprint(i)}}
	}
	w.checks.mu.Unlock()
	w.apply()
}

func (w *nlbWorld) apply() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.desired, w.byGroup = w.d, map[string]TargetGroup{}
	for _, g := range w.d.Groups {
		w.byGroup[g.ARN] = g
	}
	w.applyNLBs(context.Background(), map[string]bool{})
}

// cut returns the ports of the targets whose flows were ended since the last call.
func (w *nlbWorld) cut() (out []int) {
	for _, a := range w.net.cut {
		out = append(out, int(a.Port()))
	}
	w.net.cut = nil
	return out
}

func TestWhichFlowsEnd(t *testing.T) {
	const (
		sick  = "target_health_state.unhealthy.connection_termination.enabled"
		after = "target_health_state.unhealthy.draining_interval_seconds"
		gone  = "deregistration_delay.connection_termination.enabled"
	)
	for name, c := range map[string]struct {
		attributes map[string]string
		do         func(w *nlbWorld)
		want       []int
	}{
		"an unhealthy target's":             {nil, func(w *nlbWorld) { w.health(Unhealthy, Healthy) }, []int{1001}},
		"only once":                         {nil, func(w *nlbWorld) { w.health(Unhealthy, Healthy); w.cut(); w.apply() }, nil},
		"not where all are unhealthy":       {nil, func(w *nlbWorld) { w.health(Unhealthy, Unhealthy) }, []int{}},
		"when another one recovers":         {nil, func(w *nlbWorld) { w.health(Unhealthy, Unhealthy); w.health(Unhealthy, Healthy) }, []int{1001}},
		"not where the group says so":       {map[string]string{sick: "false"}, func(w *nlbWorld) { w.health(Unhealthy, Healthy) }, nil},
		"nor later, without an interval":    {map[string]string{sick: "false"}, func(w *nlbWorld) { w.health(Unhealthy, Healthy); w.now = w.now.Add(time.Hour); w.apply() }, nil},
		"not before the interval is over":   {map[string]string{sick: "false", after: "60"}, func(w *nlbWorld) { w.health(Unhealthy, Healthy); w.now = w.now.Add(59 * time.Second); w.apply() }, nil},
		"when the interval is over":         {map[string]string{sick: "false", after: "60"}, func(w *nlbWorld) { w.health(Unhealthy, Healthy); w.now = w.now.Add(time.Minute); w.apply() }, []int{1001}},
		"a draining target's go on":         {map[string]string{gone: "true"}, func(w *nlbWorld) { w.d.Groups[0].Targets[0].Draining = true; w.apply() }, nil},
		"those of one that is gone end":     {map[string]string{gone: "true"}, func(w *nlbWorld) { w.d.Groups[0].Targets = w.d.Groups[0].Targets[1:]; w.apply() }, []int{1001}},
		"or go on, where the group says so": {nil, func(w *nlbWorld) { w.d.Groups[0].Targets = w.d.Groups[0].Targets[1:]; w.apply() }, nil},
		"of a target that is unhealthy and goes": {map[string]string{gone: "true", sick: "false"}, func(w *nlbWorld) {
			w.health(Unhealthy, Healthy)
			w.d.Groups[0].Targets = w.d.Groups[0].Targets[1:]
			w.apply()
		}, []int{1001}},
	} {
		w := newNLBWorld(t, c.attributes)
		w.cut()
		w.d.Groups[0].Targets = slices.Clone(w.d.Groups[0].Targets)
		c.do(w)
		if got := w.cut(); !slices.Equal(got, c.want) {
			t.Errorf("%s: flows to %v ended, wanted %v", name, got, c.want)
		}
	}
}

func TestNewFlowsGoWhereHealthSays(t *testing.T) {
	w := newNLBWorld(t, nil)
	weights := func() (out []int) {
		for _, t := range w.net.lastNLB()[0].Targets {
			out = append(out, t.Weight)
		}
		return out
	}
	for name, c := range map[string]struct {
		states []string
		want   []int
	}{
		"both healthy":              {[]string{Healthy, Healthy}, []int{1, 1}},
		"one unhealthy":             {[]string{Unhealthy, Healthy}, []int{0, 1}},
		"one not looked at yet":     {[]string{Initial, Healthy}, []int{0, 1}},
		"none healthy: fail open":   {[]string{Unhealthy, Unhealthy}, []int{1, 1}},
		"none healthy, one initial": {[]string{Unhealthy, Initial}, []int{1, 1}},
	} {
		w.health(c.states...)
		if got := weights(); !slices.Equal(got, c.want) {
			t.Errorf("%s: weights %v, wanted %v", name, got, c.want)
		}
	}
	w.d.Groups[0].Targets[0].Draining = true
	w.health(Healthy, Healthy)
	if got := w.net.lastNLB()[0].Targets; len(got) != 2 || got[0].Weight != 1 || got[1].Weight != 0 || got[1].Port != 1001 {
		t.Errorf("with a draining target: %+v", got)
	}
	w.d.Balancers[0].Listeners[0].Attributes = map[string]string{"tcp.idle_timeout.seconds": "60"}
	w.d.Balancers[0].Listeners[0].Protocol = "TCP_UDP"
	w.apply()
	if s := w.net.lastNLB(); len(s) != 2 || s[0].Proto != "tcp" || s[0].Idle != time.Minute || s[1].Proto != "udp" || s[1].Idle != 0 {
		t.Errorf("a listener for both protocols: %+v", s)
	}
}

// TestGroupsShareFlowsByWeight: each target has its part of its group's share, whoever is healthy.
func TestGroupsShareFlowsByWeight(t *testing.T) {
	w := newNLBWorld(t, nil)
	second := w.d.Groups[0]
	second.ARN, second.Targets = groupARN+"b", []Target{{ID: "i-9", Port: 1009, IP: netip.MustParseAddr("127.0.0.1"), Zone: "us-east-1a", Registered: 1}}
	second.Attributes = maps.Clone(second.Attributes)
	w.d.Groups = append(slices.Clone(w.d.Groups), second)
	w.d.Balancers[0].Listeners[0].Default[0].Forward = []Weighted{{GroupARN: groupARN, Weight: 3}, {GroupARN: second.ARN, Weight: 1}}
	of := func() string {
		s := ""
		for _, x := range w.net.lastNLB() {
			if x.Process {
				return "in the process"
			}
			for _, t := range x.Targets {
				s += fmt.Sprintf("%d:%v ", t.Port, float64(t.Weight)/shares)
			}
		}
		return s
	}
	w.apply() // nobody has looked at i-9 yet: it gets flows, as no other of its group is healthy
	if got := of(); got != "1001:1.5 1002:1.5 1009:1 " {
		t.Errorf("all healthy: %s", got)
	}
	w.cut()
	w.health(Unhealthy, Healthy)
	if got := of(); got != "1001:0 1002:3 1009:1 " {
		t.Errorf("one unhealthy: %s", got)
	}
	if got := w.cut(); !slices.Equal(got, []int{1001}) {
		t.Errorf("flows to %v ended", got)
	}
	w.d.Balancers[0].Listeners[0].Default[0].Forward = []Weighted{{GroupARN: groupARN, Weight: 0}, {GroupARN: second.ARN, Weight: 1}}
	w.health(Healthy, Healthy)
	if got := of(); got != "1001:0 1002:0 1009:1 " {
		t.Errorf("the first without a share: %s", got)
	}
	if got := w.cut(); len(got) != 0 {
		t.Errorf("flows to %v ended, though only new ones go elsewhere", got)
	}
	w.d.Groups[1].Targets = append(slices.Clone(second.Targets), w.d.Groups[0].Targets[0])
	w.d.Balancers[0].Listeners[0].Default[0].Forward[0].Weight = 2
	w.apply()
	if got := of(); got != "1001:1.5 1002:1 1009:0.5 " {
		t.Errorf("a target of both: %s", got)
	}
	w.d.Groups[1].Attributes["preserve_client_ip.enabled"] = "false"
	w.apply()
	if got := of(); got != "in the process" {
		t.Errorf("groups that differ: %s", got)
	}
}

func TestMetricsOfANetworkLoadBalancer(t *testing.T) {
	w := newNLBWorld(t, nil)
	key := w.net.lastNLB()[0].Key()
	w.net.counts, w.net.active = map[fabric.NLBKey]fabric.NLBCounts{}, map[fabric.NLBKey]int{key: 3}
	total := func(flows, packets, bytes uint64) BalancerStats {
		w.now = w.now.Add(10 * time.Second)
		w.net.counts[key] = fabric.NLBCounts{Flows: flows, Packets: packets, Bytes: bytes, ClientResets: 1, TargetResets: 2, NodeResets: 3}
		return w.stats()[0]
	}
	s := total(10, 100, 5000)
	for name, want := range map[string]float64{"NewFlowCount": 10, "NewFlowCount_TCP": 10, "ProcessedBytes": 5000, "ProcessedBytes_TCP": 5000, "ProcessedPackets": 100,
		"TCP_Client_Reset_Count": 1, "TCP_Target_Reset_Count": 2, "TCP_ELB_Reset_Count": 3, "RejectedFlowCount": 0, "UnhealthyRoutingFlowCount": 0} {
		if s.Counters[name] != want {
			t.Errorf("%s is %v, wanted %v", name, s.Counters[name], want)
		}
	}
	w.net.blocked[key.VIP] = fabric.Blocked{In: fabric.Packets{TCP: 4}, Out: fabric.Packets{UDP: 2}}
	s = total(15, 300, 6000)
	if s.Counters["NewFlowCount"] != 15 || s.Gauges["ActiveFlowCount"] != 3 || s.Gauges["ActiveFlowCount_TCP"] != 3 || s.Gauges["PeakPacketsPerSecond"] != 20 ||
		s.Counters["SecurityGroupBlockedFlowCount_Inbound_TCP"] != 4 || s.Counters["SecurityGroupBlockedFlowCount_Outbound_UDP"] != 2 || s.Counters["TCP_ELB_Reset_Count"] != 3 {
		t.Errorf("ten seconds later: %+v", s)
	}
	w.net.counts[key] = fabric.NLBCounts{Flows: 20, Packets: 300}
	w.health(Unhealthy, Unhealthy) // what came before belongs to before
	if s = total(27, 300, 6000); s.Counters["NewFlowCount"] != 27 || s.Counters["UnhealthyRoutingFlowCount"] != 7 {
		t.Errorf("with no healthy target: %+v", s)
	}
	w.d.Groups[0].Targets = nil
	w.apply()
	if s = total(30, 300, 6000); s.Counters["NewFlowCount"] != 27 || s.Counters["RejectedFlowCount"] != 3 || s.Counters["RejectedFlowCount_TCP"] != 3 {
		t.Errorf("without targets: %+v", s)
	}
	if s = total(2, 3, 4); s.Counters["RejectedFlowCount"] != 5 || s.Counters["ProcessedPackets"] != 303 {
		t.Errorf("after the kernel's counters began anew: %+v", s)
	}
}

func TestAnUnhealthyTargetThatDrainsSaysSo(t *testing.T) {
	w := newNLBWorld(t, map[string]string{"target_health_state.unhealthy.connection_termination.enabled": "false",
		"target_health_state.unhealthy.draining_interval_seconds": "60"})
	p := checkPlan{group: groupARN, drain: w.o.sickInterval(w.d.Groups[0])}
	m := machine{State: Unhealthy, Reason: reasonTimeout, Since: w.now}
	for wait, want := range map[time.Duration]string{0: UnhealthyDraining, 59 * time.Second: UnhealthyDraining, time.Minute: Unhealthy} {
		w.now = m.Since.Add(wait)
		if h := w.checks.observation(p, m); h.State != want || h.Reason != reasonTimeout {
			t.Errorf("%v after it failed: %+v, wanted %s", wait, h, want)
		}
	}
	w.d.Groups[0].Attributes = nil
	if d := w.o.sickInterval(w.d.Groups[0]); d != 0 {
		t.Errorf("without the attributes: %v", d)
	}
}
