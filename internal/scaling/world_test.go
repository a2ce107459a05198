package scaling

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// The fakes keep their rows in tables, so that they are part of the transactions as the real ones are.
type fakeInstance struct {
	scope.Scope
	Instance
	Tags  map[string]string
	Group string
	Since time.Time
}

type fakeTarget struct {
	scope.Scope
	Group, ID string
	State     TargetState
	Since     time.Time
}

type fakeTemplate struct {
	scope.Scope
	Template
	Latest, Default int
}

type fakeAlarm struct {
	scope.Scope
	AlarmSpec
	State string
	Value float64
}

type fakeGroup struct {
	scope.Scope
	ARN   string
	Delay time.Duration
}

var (
	fakeInstances = store.NewTable("fake-instance", func(i fakeInstance) string { return i.Key(i.ID) })
	fakeTargets   = store.NewTable("fake-target", func(t fakeTarget) string { return t.Key(t.Group + " " + t.ID) })
	fakeTemplates = store.NewTable("fake-template", func(t fakeTemplate) string { return t.Key(t.ID) })
	fakeAlarms    = store.NewTable("fake-alarm", func(a fakeAlarm) string { return a.Key(a.Name) })
	fakeGroups    = store.NewTable("fake-group", func(g fakeGroup) string { return g.Key(g.ARN) })
)

type fakeCompute struct{ w *world }

func (f fakeCompute) Instance(tx store.Tx, s scope.Scope, id string) (Instance, bool) {
	i, ok := fakeInstances.Get(tx, s.Key(id))
	return i.Instance, ok
}

func (f fakeCompute) CheckLaunch(*store.WriteTx, scope.Scope, LaunchRequest) error { return nil }

func (f fakeCompute) Resolve(tx store.Tx, s scope.Scope, ref TemplateRef) (Template, error) {
	for t := range fakeTemplates.All(tx) {
		if t.ID == ref.ID || ref.ID == "" && t.Name == ref.Name {
			out := t.Template
			switch ref.Version {
			case "$Latest":
				out.Version = t.Latest
			case "", "$Default":
				out.Version = t.Default
			default:
				out.Version = int(number(ref.Version))
			}
			if out.Version < 1 || out.Version > t.Latest {
				break
			}
			return out, nil
		}
	}
	return Template{}, fault.New(fault.NotFound, "InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", ref.ID)
}

func (f fakeCompute) Launch(w *store.WriteTx, s scope.Scope, r LaunchRequest) (Instance, error) {
	if f.w.full[r.SubnetID] {
		return Instance{}, fault.New(fault.Capacity, "InsufficientFreeAddressesInSubnet", "%s is full", r.SubnetID)
	}
	zone := strings.TrimPrefix(r.SubnetID, "subnet-")
	zone = strings.TrimRight(zone, "0123456789")
	if r.Spot {
		zone += "/spot"
	}
	if err := f.w.launchFault(zone, r.InstanceType); err != nil {
		return Instance{}, err
	}
	i := fakeInstance{Scope: s, Instance: Instance{ID: w.NewID("i"), State: "pending", ImageID: "ami-1", InstanceType: "t2.micro", SubnetID: r.SubnetID, Zone: strings.TrimSuffix(zone, "/spot"),
		Spot: r.Spot, VpcID: "vpc-1", LaunchTime: w.Now()}, Tags: r.Tags, Group: r.Group, Since: w.Now()}
	if r.InstanceType != "" {
		i.InstanceType = r.InstanceType
	}
	if r.ImageID != "" {
		i.ImageID = r.ImageID
	}
	fakeInstances.Put(w, i)
	return i.Instance, nil
}

func (f fakeCompute) Terminate(w *store.WriteTx, s scope.Scope, id string) error {
	i, ok := fakeInstances.Get(w, s.Key(id))
	if ok && i.State != "terminated" && i.State != "shutting-down" {
		i.State, i.Since = "shutting-down", w.Now()
		fakeInstances.Put(w, i)
	}
	return nil
}

// fakePools are the prices on demand, in cents, and the room of types; a spot instance costs a third.
var fakePools = map[string]Pool{"t2.micro": {Price: 1, Room: 9}, "c5.large": {Price: 8, Room: 5}, "m5.large": {Price: 10, Room: 20}, "m5.xlarge": {Price: 18, Room: 6}, "t3.nano": {Price: 0.5, Room: 3}}

func (f fakeCompute) Match(tx store.Tx, s scope.Scope, ref TemplateRef, image string, requirements json.RawMessage, spot bool) (out []string, err error) {
	return out, json.Unmarshal(requirements, &out)
}

func (f fakeCompute) Pools(tx store.Tx, s scope.Scope, types []string, zone string, rooms bool) []Pool {
	var out []Pool
	for _, t := range types {
		p, ok := fakePools[t]
		if ok {
			p.VCPU, p.MemoryMiB, p.Spot = max(1, int(p.Price/5)), 1024, p.Price/3
		}
		out = append(out, p)
	}
	return out
}

func (f fakeCompute) move(w *store.WriteTx, s scope.Scope, id, from, to string) error {
	i, ok := fakeInstances.Get(w, s.Key(id))
	if !ok || i.State != from {
		return fault.New(fault.State, "IncorrectInstanceState", "%s is %s", id, i.State)
	}
	i.State, i.Since = to, w.Now()
	fakeInstances.Put(w, i)
	return nil
}

func (f fakeCompute) Stop(w *store.WriteTx, s scope.Scope, id string) error {
	return f.move(w, s, id, "running", "stopping")
}

func (f fakeCompute) Start(w *store.WriteTx, s scope.Scope, id string) error {
	if i, _ := fakeInstances.Get(w, s.Key(id)); true {
		if err := f.w.launchFault(i.Zone, ""); err != nil {
			return err
		}
	}
	return f.move(w, s, id, "stopped", "pending")
}

func (f fakeCompute) SetGroup(w *store.WriteTx, s scope.Scope, id, group string) error {
	i, _ := fakeInstances.Get(w, s.Key(id))
	i.Group = group
	fakeInstances.Put(w, i)
	return nil
}

func (f fakeCompute) Subnet(tx store.Tx, s scope.Scope, id string) (Subnet, error) {
	if !strings.HasPrefix(id, "subnet-") {
		return Subnet{}, fault.New(fault.NotFound, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	}
	return Subnet{ID: id, Zone: strings.TrimRight(strings.TrimPrefix(id, "subnet-"), "0123456789"), VpcID: "vpc-1"}, nil
}

func (f fakeCompute) DefaultSubnet(w *store.WriteTx, s scope.Scope, zone string) (Subnet, error) {
	return f.Subnet(w, s, "subnet-"+zone)
}

func (f fakeCompute) Tables() []store.AnyTable { return []store.AnyTable{fakeInstances} }

type fakeBalancer struct{}

func (fakeBalancer) Check(tx store.Tx, s scope.Scope, arn string) error {
	if _, ok := fakeGroups.Get(tx, s.Key(arn)); !ok {
		return fault.New(fault.NotFound, "TargetGroupNotFound", "Target groups '%s' not found", arn)
	}
	return nil
}

func (fakeBalancer) Register(w *store.WriteTx, s scope.Scope, arn, id string) error {
	fakeTargets.Put(w, fakeTarget{Scope: s, Group: arn, ID: id, State: "initial", Since: w.Now()})
	return nil
}

func (fakeBalancer) Deregister(w *store.WriteTx, s scope.Scope, arn, id string) error {
	if t, ok := fakeTargets.Get(w, s.Key(arn+" "+id)); ok {
		t.State, t.Since = "draining", w.Now()
		fakeTargets.Put(w, t)
	}
	return nil
}

func (fakeBalancer) Health(tx store.Tx, s scope.Scope, arn, id string) TargetState {
	t, _ := fakeTargets.Get(tx, s.Key(arn+" "+id))
	return t.State
}

func (fakeBalancer) Delay(tx store.Tx, s scope.Scope, arn, id string) time.Duration {
	g, _ := fakeGroups.Get(tx, s.Key(arn))
	return g.Delay
}

func (fakeBalancer) Tables() []store.AnyTable { return []store.AnyTable{fakeTargets} }

type fakeCloudWatch struct{}

func (fakeCloudWatch) Put(w *store.WriteTx, s scope.Scope, a AlarmSpec) error {
	fakeAlarms.Put(w, fakeAlarm{Scope: s, AlarmSpec: a, State: "INSUFFICIENT_DATA"})
	return nil
}

func (fakeCloudWatch) Delete(w *store.WriteTx, s scope.Scope, names []string) error {
	for _, n := range names {
		fakeAlarms.Delete(w, s.Key(n))
	}
	return nil
}

func (fakeCloudWatch) CheckMath(queries json.RawMessage, period int) error { return nil }

func (fakeCloudWatch) State(tx store.Tx, s scope.Scope, name string) string {
	a, _ := fakeAlarms.Get(tx, s.Key(name))
	return a.State
}

func (fakeCloudWatch) Value(tx store.Tx, s scope.Scope, name string) (float64, bool) {
	a, _ := fakeAlarms.Get(tx, s.Key(name))
	return a.Value, true
}

func (fakeCloudWatch) ByAction(tx store.Tx, s scope.Scope, arn string) []string {
	var out []string
	for a := range fakeAlarms.Prefix(tx, s.Prefix()) {
		if a.Action == arn {
			out = append(out, a.Name)
		}
	}
	return out
}

// counting is a random source that never repeats and needs no seed.
type counting struct{ n uint64 }

func (c *counting) Read(p []byte) (int, error) {
	for i := 0; i+8 <= len(p); i += 8 {
		c.n += 0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint64(p[i:], c.n)
	}
	return len(p), nil
}

// world is a cloud in virtual time.
type world struct {
	t      fataler
	db     *store.DB
	e      *Engine
	r      *Reconciler
	now    time.Time
	boot   time.Duration // pending to running
	die    time.Duration // shutting-down to terminated
	refuse map[string]string
	full   map[string]bool // subnets
	wrong  error           // every launch fails with it
	types  map[string]bool
	tries  int
}

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

var here = scope.Scope{Account: "000000000000", Region: "us-east-1"}

const (
	tgA = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/a/1"
	tgB = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/b/2"
)

func newWorld(t fataler, scale int) *world { return newWorldIn(t, scale, "", nil) }

func newWorldIn(t fataler, scale int, dir string, log *store.Memory) *world {
	w := &world{t: t, now: time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC), boot: time.Second, die: time.Second, refuse: map[string]string{}}
	w.e = &Engine{Compute: fakeCompute{w}, Balancer: fakeBalancer{}, Alarms: fakeCloudWatch{}, TimeScale: scale}
	w.open(dir, log)
	w.must(func(tx *store.WriteTx) error {
		fakeTemplates.Put(tx, fakeTemplate{Scope: here, Template: Template{ID: "lt-1", Name: "web"}, Latest: 1, Default: 1})
		fakeGroups.Put(tx, fakeGroup{Scope: here, ARN: tgA, Delay: 10 * time.Second})
		fakeGroups.Put(tx, fakeGroup{Scope: here, ARN: tgB, Delay: 30 * time.Second})
		return nil
	})
	return w
}

// open opens the state as a control plane that starts does.
func (w *world) open(dir string, log *store.Memory) {
	db, err := store.Open(dir, store.Options{Memory: log, Clock: func() time.Time { return w.now }, Rand: io.Reader(&counting{n: uint64(w.now.UnixNano())})})
	if err != nil {
		w.t.Fatalf("opening the store: %v", err)
	}
	w.db = db
	w.r = &Reconciler{DB: db, Engine: w.e, Clock: func() time.Time { return w.now }}
}

func (w *world) launchFault(zone, typ string) error {
	w.tries++
	if w.wrong != nil {
		return w.wrong
	}
	if w.types != nil && typ != "" && !w.types[typ] {
		return fault.New(fault.Capacity, "InsufficientInstanceCapacity", "no %s", typ)
	}
	if m, ok := w.refuse[zone]; ok {
		return fault.New(fault.Capacity, "InsufficientInstanceCapacity", "%s", m)
	}
	return nil
}

func (w *world) must(fn func(tx *store.WriteTx) error) {
	w.t.Helper()
	if err := w.db.Update(fn); err != nil {
		w.t.Fatalf("the transaction failed: %v", err)
	}
}

// settings is the group that tests begin with.
func settings(lo, hi int) Group {
	return Group{Scope: here, Name: "g", Min: lo, Max: hi, Template: &TemplateRef{ID: "lt-1", Version: "$Latest"}, Subnets: []string{"subnet-za", "subnet-zb"},
		DefaultCooldown: 300, HealthCheckType: "EC2", TerminationPolicies: []string{"Default"}}
}

func (w *world) create(g Group, desired int, hooks ...Hook) {
	w.t.Helper()
	w.must(func(tx *store.WriteTx) error {
		_, err := w.e.CreateGroup(tx, g, &desired, hooks)
		return err
	})
}

// step moves the virtual machines along and runs the loop once.
func (w *world) step() time.Time {
	w.t.Helper()
	w.must(func(tx *store.WriteTx) error {
		for i := range fakeInstances.All(tx) {
			switch {
			case i.State == "pending" && !w.now.Before(i.Since.Add(w.boot)):
				i.State = "running"
			case i.State == "shutting-down" && !w.now.Before(i.Since.Add(w.die)):
				i.State = "terminated"
			case i.State == "stopping" && !w.now.Before(i.Since.Add(w.die)):
				i.State = "stopped"
			default:
				continue
			}
			i.Since = w.now
			fakeInstances.Put(tx, i)
		}
		for t := range fakeTargets.All(tx) {
			g, _ := fakeGroups.Get(tx, here.Key(t.Group))
			if t.State == "draining" && !w.now.Before(t.Since.Add(w.e.scale(g.Delay))) {
				fakeTargets.Delete(tx, t.Key(t.Group+" "+t.ID))
			}
		}
		return nil
	})
	wake, err := w.r.Step(context.Background())
	if err != nil {
		w.t.Fatalf("Step: %v", err)
	}
	return wake
}

// run lets d pass in steps of a quarter of a second.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	w.step()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
	}
}

func (w *world) group() Group {
	g, _ := Groups.Get(w.db.Read(), here.Key("g"))
	return g
}

func (w *world) members() []Member { return MembersOf(w.db.Read(), w.group()) }

func (w *world) in(state string) []Member {
	return slices.DeleteFunc(w.members(), func(m Member) bool { return m.State != state })
}

func (w *world) history() []Activity { return History(w.db.Read(), Group{Scope: here, Name: "g"}) }

func (w *world) setInstance(id, state string) {
	w.must(func(tx *store.WriteTx) error {
		i, ok := fakeInstances.Get(tx, here.Key(id))
		if !ok {
			w.t.Fatalf("no instance %s", id)
		}
		i.State, i.Since = state, w.now
		fakeInstances.Put(tx, i)
		return nil
	})
}

func (w *world) setTarget(group, id string, state TargetState) {
	w.must(func(tx *store.WriteTx) error {
		t, ok := fakeTargets.Get(tx, here.Key(group+" "+id))
		if !ok {
			w.t.Fatalf("%s is no target of %s", id, group)
		}
		t.State = state
		fakeTargets.Put(tx, t)
		return nil
	})
}

func zonesOf(ms []Member) map[string]int {
	out := map[string]int{}
	for _, m := range ms {
		out[m.Zone]++
	}
	return out
}

func wantError(t *testing.T, err error, code, part string) {
	t.Helper()
	f, ok := fault.As(err)
	if !ok || f.Code != code || !strings.Contains(f.Msg, part) {
		t.Fatalf("wanted %s with %q, got %v", code, part, err)
	}
}
