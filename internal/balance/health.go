package balance

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Health states of a target.
const (
	Initial     = "initial"
	Healthy     = "healthy"
	Unhealthy   = "unhealthy"
	Unused      = "unused"
	Draining    = "draining"
	Unavailable = "unavailable"

	UnhealthyDraining = "unhealthy.draining" // of a network load balancer's group: unhealthy, and its flows may still go on
)

// Health is a target's health as ELB describes it.
type Health struct {
	Target      Registration
	State       string
	Reason      string
	Description string
	CheckPort   string
	Anomalous   bool // fails more often than the others, as a zone's node sees it
	Mitigated   bool // and gets fewer requests there
}

// situation is everything that a target's health depends on.
type situation struct {
	draining      bool
	used          bool   // a listener or rule forwards to the group
	instanceState string // empty for other targets
	zoneEnabled   bool
	unusable      bool // the address is a load balancer's own
	checksEnabled bool
	observations  []Observation
}

// judge is a target's state, reason code and description.
//
// The zones' nodes check on their own, so they may differ. One node that reaches the target makes it healthy: a target
// is taken out and replaced only when no node can use it, so a zone's own fault never takes the others' targets down.
func judge(s situation) (state, reason, description string) {
	switch {
	case s.draining:
		return Draining, "Target.DeregistrationInProgress", "Target deregistration is in progress"
	case !s.used:
		return Unused, "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"
	case s.instanceState != "" && s.instanceState != compute.Running && s.instanceState != compute.Pending:
		return Unused, "Target.InvalidState", "Target is in the " + s.instanceState + " state"
	case !s.zoneEnabled:
		return Unused, "Target.NotInUse", "Target is in an Availability Zone that is not enabled for the load balancer"
	case s.unusable:
		return Unused, "Target.IpUnusable", "The IP address cannot be used as a target, as it is in use by a load balancer"
	case !s.checksEnabled:
		return Unavailable, "Target.HealthCheckDisabled", "Health checks are disabled"
	}
	var bad, waiting *Observation
	for i := range s.observations {
		o := &s.observations[i]
		switch o.State {
		case Healthy:
			return Healthy, "", ""
		case Unhealthy, UnhealthyDraining:
			if bad == nil {
				bad = o
			}
		default:
			if waiting == nil {
				waiting = o
			}
		}
	}
	switch {
	case waiting != nil: // a node still finds out; the target isn't given up before it has
		return Initial, waiting.Reason, waiting.Description
	case bad != nil:
		return bad.State, bad.Reason, bad.Description
	}
	return Initial, "Elb.RegistrationInProgress", "Target registration is in progress"
}

// context is what all targets of a group share.
type groupContext struct {
	group    TargetGroup
	balancer *LoadBalancer
}

func contextOf(tx store.Tx, g TargetGroup) groupContext {
	c := groupContext{group: g}
	if used := UsedBy(tx, g); len(used) > 0 {
		if lb, ok := LoadBalancers.Get(tx, g.Key(used[0])); ok {
			c.balancer = &lb
		}
	}
	return c
}

func (c groupContext) health(tx store.Tx, r Registration) Health {
	h := Health{Target: r, CheckPort: c.group.CheckPort(r.Port)}
	s := situation{draining: r.Draining(), used: c.balancer != nil, zoneEnabled: true, checksEnabled: c.group.Check.Enabled}
	zone := r.AvailabilityZone
	if c.group.TargetType == "instance" {
		s.instanceState = compute.Terminated // an instance that is forgotten is gone
		if i, ok := compute.Instances.Get(tx, r.Key(r.TargetID)); ok {
			s.instanceState, zone = i.State, i.AvailabilityZone
		}
	}
	if c.balancer != nil && zone != "" && zone != "all" {
		s.zoneEnabled = slices.ContainsFunc(c.balancer.Nodes, func(n Node) bool { return n.Zone == zone })
	}
	if c.balancer != nil && c.group.TargetType == "ip" {
		s.unusable = slices.ContainsFunc(c.balancer.Nodes, func(n Node) bool { return n.PrivateIP == r.TargetID })
	}
	for o := range Observations.Prefix(tx, targetKey(r.Scope, r.GroupARN, r.TargetID, r.Port)+" ") {
		s.observations = append(s.observations, o)
		h.Anomalous, h.Mitigated = h.Anomalous || o.Anomalous, h.Mitigated || o.Mitigated
	}
	h.State, h.Reason, h.Description = judge(s)
	return h
}

// TargetHealth tells the health of all targets of a group, of those that drain too. An unknown group has none.
func TargetHealth(tx store.Tx, s scope.Scope, groupARN string) []Health {
	g, ok := TargetGroups.Get(tx, s.Key(groupARN))
	if !ok {
		return nil
	}
	c := contextOf(tx, g)
	var out []Health
	for _, r := range Targets(tx, s, groupARN) {
		out = append(out, c.health(tx, r))
	}
	return out
}

// HealthOf tells the health of one target at the group's port (port 0) or another; one that isn't registered is unused.
func HealthOf(tx store.Tx, s scope.Scope, groupARN, id string, port int32) Health {
	g, ok := TargetGroups.Get(tx, s.Key(groupARN))
	if ok {
		if port == 0 {
			port = g.Port
		}
		if r, ok := Registrations.Get(tx, targetKey(s, groupARN, id, port)); ok {
			return contextOf(tx, g).health(tx, r)
		}
	}
	return Health{Target: Registration{Scope: s, GroupARN: groupARN, TargetID: id, Port: port}, State: Unused, Reason: "Target.NotRegistered",
		Description: "Target is not registered to the target group", CheckPort: g.CheckPort(port)}
}

// UsedBy lists the load balancers whose listeners or rules forward to the group.
func UsedBy(tx store.Tx, g TargetGroup) []string {
	var out []string
	add := func(arn string) {
		if arn != "" && !slices.Contains(out, arn) {
			out = append(out, arn)
		}
	}
	for l := range Listeners.By(tx, "group", g.Key(g.ARN)) {
		add(l.LoadBalancerARN)
	}
	for r := range Rules.By(tx, "group", g.Key(g.ARN)) {
		if l, ok := Listeners.Get(tx, r.Key(r.ListenerARN)); ok {
			add(l.LoadBalancerARN)
		}
	}
	slices.Sort(out)
	return out
}

// ApplyReport takes over what a zone's data plane reports: which load balancers' nodes serve, and the health of targets
// as seen from there. It replaces everything that the zone said before, and tells whether anything changed.
func ApplyReport(w *store.WriteTx, zone string, serving []string, health []Observation) (changed bool) {
	up := map[string]bool{}
	for _, arn := range serving {
		up[arn] = true
	}
	for lb := range LoadBalancers.By(w, "zone", zone) {
		if setServing(w, lb, zone, up[lb.ARN]) {
			changed = true
		}
	}
	now := map[string]bool{}
	for _, o := range health {
		o.Scope, o.Zone = ScopeOf(o.GroupARN), zone
		key := targetKey(o.Scope, o.GroupARN, o.TargetID, o.Port)
		r, ok := Registrations.Get(w, key)
		if !ok || o.Since.Before(r.RegisteredAt) { // of an earlier registration
			continue
		}
		now[key] = true
		if old, ok := Observations.Get(w, key+" "+zone); ok && old.State == o.State && old.Reason == o.Reason && old.Description == o.Description && old.Anomalous == o.Anomalous && old.Mitigated == o.Mitigated {
			continue
		}
		Observations.Put(w, o)
		changed = true
	}
	for o := range Observations.By(w, "zone", zone) {
		key := targetKey(o.Scope, o.GroupARN, o.TargetID, o.Port)
		if !now[key] {
			Observations.Delete(w, key+" "+zone)
			changed = true
		}
	}
	return changed
}

// ForgetZone drops everything that a zone's data plane said: it is dead, and its opinions with it.
func ForgetZone(w *store.WriteTx, zone string) bool { return ApplyReport(w, zone, nil, nil) }

func setServing(w *store.WriteTx, lb LoadBalancer, zone string, serving bool) bool {
	all, changed := true, false
	nodes := slices.Clone(lb.Nodes)
	for i := range nodes {
		if nodes[i].Zone == zone && nodes[i].Serving != serving {
			nodes[i].Serving = serving
			changed = true
		}
		all = all && nodes[i].Serving
	}
	if !changed {
		return false
	}
	lb.Nodes = nodes
	if lb.State == Provisioning && all {
		lb.State = Active
	}
	LoadBalancers.Put(w, lb)
	return true
}

// Name is a load balancer's DNS name with the addresses that it resolves to now.
type Name struct {
	Name    string
	VpcID   string
	Public  []netip.Addr // of an internet-facing one; else none
	Private []netip.Addr
}

// DNS lists the names of all load balancers of the cloud, in order. A zone is left out when its data plane doesn't serve
// or when it has no healthy target, as long as another zone is better off; when all are equally bad, all stay.
func DNS(tx store.Tx) []Name {
	var out []Name
	for lb := range LoadBalancers.All(tx) {
		out = append(out, NameOf(tx, lb))
	}
	return out
}

// NameOf is a load balancer's name with the addresses that it resolves to now. The name is in lower case, as resolvers ask.
func NameOf(tx store.Tx, lb LoadBalancer) Name {
	best := 0
	rank := make([]int, len(lb.Nodes))
	healthy := healthyZones(tx, lb)
	for i, n := range lb.Nodes {
		if n.Serving {
			rank[i] = 1
			if healthy[n.Zone] {
				rank[i] = 2
			}
		}
		best = max(best, rank[i])
	}
	name := Name{Name: strings.ToLower(lb.DNSName), VpcID: lb.VpcID}
	for i, n := range lb.Nodes {
		if rank[i] < best {
			continue
		}
		if a, err := netip.ParseAddr(n.PrivateIP); err == nil {
			name.Private = append(name.Private, a)
		}
		if a, err := netip.ParseAddr(publicOf(tx, lb, n)); err == nil && lb.SchemeName == InternetFacing {
			name.Public = append(name.Public, a)
		}
	}
	return name
}

// publicOf is the node's public address as its interface has it now: an elastic address may have been associated since.
func publicOf(tx store.Tx, lb LoadBalancer, n Node) string {
	if e, ok := network.ENIs.Get(tx, lb.Key(n.ENIID)); ok && e.PublicIP != "" {
		return e.PublicIP
	}
	return n.PublicIP
}

// ZonalHealth tells of each zone of a load balancer whether its node serves and has the healthy targets that it needs.
func ZonalHealth(tx store.Tx, lb LoadBalancer) map[string]bool {
	out := healthyZones(tx, lb)
	for _, n := range lb.Nodes {
		out[n.Zone] = out[n.Zone] && n.Serving
	}
	return out
}

// healthyZones tells from which zones' nodes at least one target of each used group is healthy.
func healthyZones(tx store.Tx, lb LoadBalancer) map[string]bool {
	groups := GroupsOf(tx, lb)
	out := map[string]bool{}
	for _, n := range lb.Nodes {
		ok := true
		for _, arn := range groups {
			g, found := TargetGroups.Get(tx, lb.Key(arn))
			if !found || len(Targets(tx, lb.Scope, arn)) == 0 {
				continue // a group without targets says nothing about the zone
			}
			ok = ok && groupHealthyFrom(tx, g, n.Zone)
		}
		out[n.Zone] = ok
	}
	return out
}

// groupHealthyFrom tells whether a zone has as many healthy targets as the group wants for the zone to stay in DNS.
func groupHealthyFrom(tx store.Tx, g TargetGroup, zone string) bool {
	return !g.Check.Enabled || zoneState(tx, g, zone).DNS
}

// ZoneState is a target group as one zone's node sees it.
type ZoneState struct {
	Zone               string
	Healthy, Unhealthy int
	DNS                bool // enough are healthy for the zone to stay in DNS
	Routing            bool // enough are healthy for requests to go to them alone
}

// ZoneStates tells how the zones of a load balancer see a group whose targets are checked.
func ZoneStates(tx store.Tx, lb LoadBalancer, g TargetGroup) []ZoneState {
	var out []ZoneState
	for _, n := range lb.Nodes {
		out = append(out, zoneState(tx, g, n.Zone))
	}
	return out
}

func zoneState(tx store.Tx, g TargetGroup, zone string) ZoneState {
	s, all := ZoneState{Zone: zone}, 0
	for o := range Observations.Prefix(tx, g.Key(g.ARN)+" ") {
		if o.Zone != zone {
			continue
		}
		all++
		switch {
		case o.State == Healthy:
			s.Healthy++
		case strings.HasPrefix(o.State, Unhealthy):
			s.Unhealthy++
		}
	}
	wants := func(key string) bool {
		key = "target_group_health." + key + ".minimum_healthy_targets."
		return s.Healthy > 0 && enough(s.Healthy, all, g.Attribute(key+"count"), g.Attribute(key+"percentage"))
	}
	s.DNS, s.Routing = wants("dns_failover"), wants("unhealthy_state_routing")
	return s
}

// enough compares healthy targets with a least number and a least share; "off" is neither.
func enough(healthy, all int, count, percentage string) bool {
	if n, err := strconv.Atoi(count); err == nil && healthy < n {
		return false
	}
	if n, err := strconv.Atoi(percentage); err == nil && healthy*100 < n*all {
		return false
	}
	return true
}

// GroupsOf lists the target groups that a load balancer forwards to, in order.
func GroupsOf(tx store.Tx, lb LoadBalancer) []string {
	var out []string
	add := func(actions []Action) {
		for _, arn := range forwardedGroups(actions) {
			if !slices.Contains(out, arn) {
				out = append(out, arn)
			}
		}
	}
	for l := range Listeners.By(tx, "lb", lb.Key(lb.ARN)) {
		add(l.DefaultActions)
		for r := range Rules.By(tx, "listener", l.Key(l.ARN)) {
			add(r.Actions)
		}
	}
	slices.Sort(out)
	return out
}
