package scaling

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// row is a member in short: id, zone, age in minutes, template version, and letters: p protected, P pending, T terminating,
// D the instance has ended.
func row(id, zone string, age, version int, letters string) View {
	v := View{Member: Member{Scope: here, ID: id, Group: "g", Zone: zone, SubnetID: "subnet-" + zone, State: InService, Health: Healthy,
		LaunchedAt: noon.Add(-time.Duration(age) * time.Minute), InServiceAt: noon.Add(-time.Duration(age) * time.Minute),
		Template: &TemplateRef{ID: "lt-1", Version: fmt.Sprint(version)}}, Instance: Instance{ID: id, State: "running", Zone: zone}}
	for _, l := range letters {
		switch l {
		case 'p':
			v.Protected = true
		case 'P':
			v.State, v.Instance.State = Pending, "pending"
		case 'T':
			v.State, v.DrainUntil = Terminating, noon.Add(time.Hour)
		case 'D':
			v.Instance.State = "terminated"
		}
	}
	return v
}

func situationOf(desired int, members ...View) Situation {
	return Situation{Now: noon, TimeScale: 1, Group: Group{Scope: here, Name: "g", UUID: "u", Min: 0, Max: 10, Desired: desired, HealthCheckType: "EC2"},
		Subnets: []Subnet{{ID: "subnet-a", Zone: "a"}, {ID: "subnet-b", Zone: "b"}}, Members: members, Current: Template{ID: "lt-1", Version: 2}}
}

// told is a plan in short.
func told(p Plan) string {
	var out []string
	for _, a := range p.Actions {
		s := a.Kind.String()
		if a.Member != "" {
			s += " " + a.Member
		}
		if a.Zone != "" {
			s += " " + a.Zone
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestDecide(t *testing.T) {
	with := func(s Situation, edit func(g *Group)) Situation { edit(&s.Group); return s }
	for _, c := range []struct {
		name string
		s    Situation
		want string
	}{
		{"nothing to do", situationOf(2, row("1", "a", 5, 2, ""), row("2", "b", 5, 2, "")), ""},
		{"the emptiest zone first, the first of equals", situationOf(4, row("1", "b", 5, 2, "")), "Launch a, Launch a, Launch b"},
		{"pending ones count", situationOf(2, row("1", "a", 0, 2, "P"), row("2", "b", 0, 2, "P")), ""},
		{"terminating ones do not", situationOf(2, row("1", "a", 5, 2, "T"), row("2", "b", 5, 2, "")), "Launch a"},
		{"a dead one is replaced in the same plan", situationOf(2, row("1", "a", 5, 2, "D"), row("2", "b", 5, 2, "")), "Mark 1, Retire 1, Launch a"},
		{"a dead pending one is lost", situationOf(1, func() View { v := row("1", "a", 0, 2, "P"); v.Instance.State = "terminated"; return v }()), "Lose 1, Launch a"},
		{"scale in from the fullest zone", situationOf(2, row("1", "a", 50, 2, ""), row("2", "b", 5, 2, ""), row("3", "b", 9, 2, "")), "Retire 3"},
		{"the older template first", situationOf(1, row("1", "a", 50, 2, ""), row("2", "b", 5, 1, "")), "Retire 2"},
		{"then the closest to the next hour", situationOf(1, row("1", "a", 61, 2, ""), row("2", "b", 59, 2, "")), "Retire 2"},
		{"protected ones stay", situationOf(1, row("1", "a", 50, 1, "p"), row("2", "a", 5, 2, "p"), row("3", "b", 5, 2, "")), "Retire 3"},
		{"all protected", situationOf(1, row("1", "a", 50, 1, "p"), row("2", "b", 5, 2, "p")), ""},
		{"the newest", with(situationOf(1, row("1", "a", 50, 1, ""), row("2", "b", 5, 2, "")), func(g *Group) { g.TerminationPolicies = []string{"NewestInstance"} }), "Retire 2"},
		{"the oldest", with(situationOf(1, row("1", "a", 5, 1, ""), row("2", "b", 50, 2, "")), func(g *Group) { g.TerminationPolicies = []string{"OldestInstance", "Default"} }), "Retire 2"},
		{"a zone that holds back", with(situationOf(2), func(g *Group) { g.Backoff = map[string]Backoff{"a": {Until: noon.Add(time.Minute)}} }), "Launch b, Launch b"},
		{"a zone that held back", with(situationOf(2), func(g *Group) { g.Backoff = map[string]Backoff{"a": {Until: noon}} }), "Launch a, Launch b"},
		{"balanced only waits for its zone", with(situationOf(1), func(g *Group) {
			g.BalancedOnly, g.Backoff = true, map[string]Backoff{"a": {Until: noon.Add(time.Minute)}}
		}), ""},
		{"everything holds back", with(situationOf(2), func(g *Group) { g.Backoff = map[string]Backoff{anyZone: {Until: noon.Add(time.Minute)}} }), ""},
		{"no launches while they are suspended", with(situationOf(2), func(g *Group) { g.Suspended = []Suspension{{Process: ProcLaunch}} }), ""},
		{"no scale-in while terminations are suspended", with(situationOf(0, row("1", "a", 5, 2, "")), func(g *Group) { g.Suspended = []Suspension{{Process: ProcTerminate}} }), ""},
		{"unbalanced zones: one launch first", situationOf(3, row("1", "b", 5, 2, ""), row("2", "b", 5, 2, ""), row("3", "b", 5, 2, "")), "Launch a"},
		{"then the extra one goes", situationOf(3, row("0", "a", 1, 2, ""), row("1", "b", 5, 2, ""), row("2", "b", 6, 2, ""), row("3", "b", 7, 2, "")), "Retire 3"},
		{"a member in a zone that is not the group's any more", situationOf(2, row("1", "a", 5, 2, ""), row("2", "c", 5, 2, "")), "Launch b"},
		{"a deleted group without members", with(situationOf(0), func(g *Group) { g.Deleting = true }), "Bury"},
		{"a group deleted by force", with(situationOf(0, row("1", "a", 5, 2, ""), row("2", "a", 5, 2, "T")), func(g *Group) { g.Deleting, g.ForceDeleting = true, true }), "Retire 1, Kill 2"},
		{"an old member, one at a time", with(situationOf(2, row("1", "a", 1500, 2, ""), row("2", "b", 1600, 2, "")), func(g *Group) { g.MaxInstanceLifetime = ptr(86400) }), "Retire 2, Launch b"},
		{"launched first, in the zone of the one that goes", with(situationOf(2, row("1", "a", 5, 2, ""), row("2", "b", 1600, 2, "")), func(g *Group) {
			g.MaxInstanceLifetime, g.MinHealthy, g.MaxHealthy = ptr(86400), ptr(100), ptr(150)
		}), "Launch b"},
	} {
		first := Decide(c.s)
		if got := told(first); got != c.want {
			t.Errorf("%s: %q, wanted %q", c.name, got, c.want)
		}
		// The order in which members are listed does not matter.
		for i, j := 0, len(c.s.Members)-1; i < j; i, j = i+1, j-1 {
			c.s.Members[i], c.s.Members[j] = c.s.Members[j], c.s.Members[i]
		}
		if got := told(Decide(c.s)); got != told(first) {
			t.Errorf("%s: in another order %q, not %q", c.name, got, told(first))
		}
	}
}

func TestDecideLooksAgainInTime(t *testing.T) {
	drain := situationOf(0, row("1", "a", 5, 2, "T"))
	if got := Decide(drain).Wake; !got.Equal(noon.Add(time.Hour)) {
		t.Errorf("the draining member: look again at %v", got)
	}
	held := situationOf(1)
	held.Group.Backoff = map[string]Backoff{"a": {Until: noon.Add(time.Minute)}, "b": {Until: noon.Add(time.Second)}}
	if got := Decide(held).Wake; !got.Equal(noon.Add(time.Second)) {
		t.Errorf("the zones that hold back: look again at %v", got)
	}
	if got := Decide(situationOf(0)).Wake; !got.IsZero() {
		t.Errorf("nothing to wait for: look again at %v", got)
	}
}
