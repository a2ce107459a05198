package balance

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func TestJudge(t *testing.T) {
	good, bad, waiting := Observation{Zone: "a", State: Healthy}, Observation{Zone: "b", State: Unhealthy, Reason: "Target.Timeout", Description: "Request timed out"},
		Observation{Zone: "b", State: Initial, Reason: "Elb.InitialHealthChecking", Description: "Initial health checks in progress"}
	fine := situation{used: true, zoneEnabled: true, checksEnabled: true, instanceState: compute.Running}
	with := func(change func(*situation)) situation { s := fine; change(&s); return s }
	for _, c := range []struct {
		name          string
		s             situation
		state, reason string
		description   string
	}{
		{"nobody has looked", fine, Initial, "Elb.RegistrationInProgress", "Target registration is in progress"},
		{"one node finds it well", with(func(s *situation) { s.observations = []Observation{good} }), Healthy, "", ""},
		{"one node that reaches it is enough", with(func(s *situation) { s.observations = []Observation{bad, good} }), Healthy, "", ""},
		{"no node reaches it", with(func(s *situation) { s.observations = []Observation{bad} }), Unhealthy, "Target.Timeout", "Request timed out"},
		{"a node still finds out", with(func(s *situation) { s.observations = []Observation{bad, waiting} }), Initial, "Elb.InitialHealthChecking", "Initial health checks in progress"},
		{"draining comes first", with(func(s *situation) { s.draining, s.used = true, false }), Draining, "Target.DeregistrationInProgress", "Target deregistration is in progress"},
		{"no listener forwards to the group", with(func(s *situation) { s.used = false }), Unused, "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"},
		{"the instance is stopped", with(func(s *situation) { s.instanceState, s.observations = compute.Stopped, []Observation{good} }), Unused, "Target.InvalidState", "Target is in the stopped state"},
		{"an instance that starts is checked", with(func(s *situation) { s.instanceState, s.observations = compute.Pending, []Observation{good} }), Healthy, "", ""},
		{"its zone is not enabled", with(func(s *situation) { s.zoneEnabled = false }), Unused, "Target.NotInUse", "Target is in an Availability Zone that is not enabled for the load balancer"},
		{"the address is a node's", with(func(s *situation) { s.unusable = true }), Unused, "Target.IpUnusable", "The IP address cannot be used as a target, as it is in use by a load balancer"},
		{"checks are off", with(func(s *situation) { s.checksEnabled = false }), Unavailable, "Target.HealthCheckDisabled", "Health checks are disabled"},
	} {
		if state, reason, description := judge(c.s); state != c.state || reason != c.reason || description != c.description {
			t.Errorf("%s: %s %s %q, wanted %s %s %q", c.name, state, reason, description, c.state, c.reason, c.description)
		}
	}
}

var home = scope.Scope{Account: "000000000000", Region: "us-east-1"}

// world is a store with a VPC, a load balancer in two zones, a group behind it, and a clock that tests move.
type world struct {
	t   *testing.T
	db  *store.DB
	now time.Time
	lb  LoadBalancer
	g   TargetGroup
}

func newWorld(t *testing.T) *world {
	t.Helper()
	x := &world{t: t, now: time.Unix(1_700_000_000, 0)}
	var err error
	if x.db, err = store.Open("", store.Options{Clock: func() time.Time { return x.now }}); err != nil {
		t.Fatal(err)
	}
	x.update(func(w *store.WriteTx) error {
		network.SetPublicPool(w, netip.MustParsePrefix("127.99.0.0/16"))
		v, err := network.CreateVPC(w, home, network.VPCParams{CIDR: "10.0.0.0/16"})
		if err != nil {
			return err
		}
		var subnets []SubnetMapping
		for cidr, z := range map[string]string{"10.0.0.0/24": "us-east-1a", "10.0.1.0/24": "us-east-1b"} {
			sn, err := network.CreateSubnet(w, home, network.SubnetParams{VpcID: v.ID, CIDR: cidr, AvailabilityZone: z})
			if err != nil {
				return err
			}
			subnets = append(subnets, SubnetMapping{SubnetID: sn.ID})
		}
		igw, err := network.CreateInternetGateway(w, home)
		if err != nil {
			return err
		}
		if err := network.AttachInternetGateway(w, home, igw.ID, v.ID); err != nil {
			return err
		}
		if x.lb, err = CreateLoadBalancer(w, home, LoadBalancerParams{Name: "Web", Type: Network, Subnets: subnets}); err != nil {
			return err
		}
		if x.g, err = CreateTargetGroup(w, home, TargetGroupParams{Name: "web", Protocol: TCP, Port: 80, VpcID: v.ID, TargetType: "ip"}); err != nil {
			return err
		}
		_, err = CreateListener(w, home, x.lb.ARN, ListenerParams{Protocol: TCP, Port: 80, DefaultActions: []Action{{Type: ForwardType, TargetGroupARN: x.g.ARN}}})
		return err
	})
	return x
}

func (x *world) update(fn func(w *store.WriteTx) error) {
	x.t.Helper()
	if err := x.db.Update(fn); err != nil {
		x.t.Fatal(err)
	}
}

func (x *world) report(zone string, serving bool, states map[string]string) (changed bool) {
	x.t.Helper()
	var obs []Observation
	for id, s := range states {
		obs = append(obs, Observation{GroupARN: x.g.ARN, TargetID: id, Port: 80, State: s, Since: x.now})
	}
	var arns []string
	if serving {
		arns = []string{x.lb.ARN}
	}
	x.update(func(w *store.WriteTx) error { changed = ApplyReport(w, zone, arns, obs); return nil })
	return changed
}

func (x *world) state(id string) string { return HealthOf(x.db.Read(), home, x.g.ARN, id, 0).State }

func (x *world) register(ids ...string) {
	x.t.Helper()
	x.update(func(w *store.WriteTx) error {
		for _, id := range ids {
			if err := Register(w, home, x.g.ARN, []Target{{ID: id}}); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestDrainingEndsAfterTheScaledDelay(t *testing.T) {
	x := newWorld(t)
	x.register("10.0.0.50")
	x.update(func(w *store.WriteTx) error { return Deregister(w, home, x.g.ARN, []Target{{ID: "10.0.0.50"}}) })
	const scale = 10 // the default delay of 300 s takes 30
	sweep := func() (next time.Time) {
		x.update(func(w *store.WriteTx) error { next = Sweep(w, scale); return nil })
		return next
	}
	if next := sweep(); !next.Equal(x.now.Add(30 * time.Second)) {
		t.Errorf("next sweep at %v, wanted in 30 s of %v", next, x.now)
	}
	x.now = x.now.Add(29 * time.Second)
	if sweep(); x.state("10.0.0.50") != Draining {
		t.Errorf("after 29 s: %s", x.state("10.0.0.50"))
	}
	x.now = x.now.Add(time.Second)
	if next := sweep(); x.state("10.0.0.50") != Unused || !next.IsZero() {
		t.Errorf("after 30 s: %s, next %v", x.state("10.0.0.50"), next)
	}
	for range Observations.All(x.db.Read()) {
		t.Error("an observation outlived its target")
	}
}

func TestReportsReplaceWhatTheZoneSaidBefore(t *testing.T) {
	x := newWorld(t)
	x.register("10.0.0.50", "10.0.1.50")
	if !x.report("us-east-1a", true, map[string]string{"10.0.0.50": Healthy, "10.0.1.50": Unhealthy, "10.0.0.99": Healthy}) {
		t.Error("a first report changed nothing")
	}
	if x.report("us-east-1a", true, map[string]string{"10.0.0.50": Healthy, "10.0.1.50": Unhealthy}) {
		t.Error("the same report again changed something")
	}
	if x.state("10.0.0.50") != Healthy || x.state("10.0.1.50") != Unhealthy || x.state("10.0.0.99") != Unused {
		t.Errorf("states: %s %s %s", x.state("10.0.0.50"), x.state("10.0.1.50"), x.state("10.0.0.99"))
	}
	x.report("us-east-1b", true, map[string]string{"10.0.1.50": Healthy})
	if x.state("10.0.1.50") != Healthy {
		t.Errorf("a target that one zone reaches: %s", x.state("10.0.1.50"))
	}
	x.update(func(w *store.WriteTx) error { ForgetZone(w, "us-east-1b"); return nil })
	if x.state("10.0.1.50") != Unhealthy {
		t.Errorf("the zone that reached it is dead: %s", x.state("10.0.1.50"))
	}
}

func TestAnOldObservationDoesNotCountForANewRegistration(t *testing.T) {
	x := newWorld(t)
	seen := x.now
	x.now = x.now.Add(time.Second)
	x.register("10.0.0.50")
	x.update(func(w *store.WriteTx) error {
		ApplyReport(w, "us-east-1a", nil, []Observation{{GroupARN: x.g.ARN, TargetID: "10.0.0.50", Port: 80, State: Healthy, Since: seen}})
		return nil
	})
	if x.state("10.0.0.50") != Initial {
		t.Errorf("state %s, though nobody looked since it was registered", x.state("10.0.0.50"))
	}
}

func TestNamesLeadToZonesThatAreWell(t *testing.T) {
	x := newWorld(t)
	zones := func() (out []string) {
		n := DNS(x.db.Read())[0]
		for _, node := range x.lb.Nodes {
			if slices.Contains(n.Private, netip.MustParseAddr(node.PrivateIP)) {
				out = append(out, node.Zone[len(node.Zone)-1:])
			}
		}
		if len(n.Public) != len(n.Private) || n.Name != "web-"+x.lb.ID+".elb.us-east-1.amazonaws.com" {
			t.Errorf("name: %+v", n)
		}
		return out
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := zones(); !slices.Equal(got, want) {
			t.Errorf("%s: zones %v, wanted %v", what, got, want)
		}
	}
	expect("before anything serves", "a", "b")
	x.report("us-east-1b", true, nil)
	expect("one zone serves", "b")
	x.report("us-east-1a", true, nil)
	expect("both serve, without a target", "a", "b")
	x.register("10.0.0.50")
	expect("no healthy target anywhere", "a", "b")
	x.report("us-east-1a", true, map[string]string{"10.0.0.50": Healthy})
	expect("one zone has a healthy target", "a")
	x.update(func(w *store.WriteTx) error {
		_, err := ModifyTargetGroupAttributes(w, home, x.g.ARN, map[string]string{"target_group_health.dns_failover.minimum_healthy_targets.count": "2"})
		return err
	})
	expect("one healthy target is not enough for the group", "a", "b")
	x.update(func(w *store.WriteTx) error { ForgetZone(w, "us-east-1a"); return nil })
	expect("that zone is lost", "b")
}

func TestALoadBalancerIsActiveOnceAllNodesServe(t *testing.T) {
	x := newWorld(t)
	get := func() string { lb, _ := GetLoadBalancer(x.db.Read(), home, x.lb.ARN); return lb.State }
	x.report("us-east-1a", true, nil)
	if get() != Provisioning {
		t.Errorf("one of two nodes serves: %s", get())
	}
	x.report("us-east-1b", true, nil)
	if get() != Active {
		t.Errorf("both serve: %s", get())
	}
	x.update(func(w *store.WriteTx) error { ForgetZone(w, "us-east-1a"); return nil })
	if get() != Active {
		t.Errorf("what was active is %s after a zone was lost", get())
	}
}
