package compute

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/network"
	"skerry/internal/store"
)

func TestANewTypeKeepsTheCreditMode(t *testing.T) {
	t.Parallel()
	i := Instance{State: Stopped, Architecture: "x86_64", InstanceType: "t3.nano", CPUCredits: "standard"}
	for _, c := range []struct{ to, want string }{{"t3.micro", "standard"}, {"m5.large", ""}, {"t3.micro", "unlimited"}} {
		if err := i.SetType(c.to); err != nil || i.CPUCredits != c.want {
			t.Errorf("%s: credits %q, wanted %q (%v)", c.to, i.CPUCredits, c.want, err)
		}
	}
}

func TestLifeOfAnInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.launch(1, LaunchSpec{})[0].ID
	ids := []string{id}
	w.wants("stop while pending", w.db.Update(func(tx *store.WriteTx) error { _, err := Stop(tx, w.s, ids, false); return err }), "IncorrectInstanceState")
	w.write(func(tx *store.WriteTx) error {
		if !MarkRunning(tx, w.s, id) || MarkRunning(tx, w.s, id) {
			t.Error("MarkRunning works once")
		}
		return nil
	})
	first := w.get(id)
	if first.State != Running || first.StateReasonCode != "" || first.PublicIP == "" {
		t.Errorf("%+v", first)
	}
	var ch []Change
	w.write(func(tx *store.WriteTx) (err error) { ch, err = Stop(tx, w.s, ids, false); return err })
	if ch[0] != (Change{id, Running, Stopping}) {
		t.Errorf("%+v", ch)
	}
	w.write(func(tx *store.WriteTx) error { MarkStopped(tx, w.s, id); return nil })
	i := w.get(id)
	if i.State != Stopped || i.PublicIP != "" || i.PrivateIP != first.PrivateIP || i.StateReasonCode != "Client.UserInitiatedShutdown" || i.StateTransitionReason != "User initiated (2026-03-01 12:00:00 GMT)" {
		t.Errorf("stopped: %+v", i)
	}
	w.write(func(tx *store.WriteTx) (err error) { ch, err = Stop(tx, w.s, ids, false); return err })
	if ch[0] != (Change{id, Stopped, Stopped}) {
		t.Errorf("stop of a stopped one: %+v", ch)
	}
	w.pass(time.Hour)
	w.write(func(tx *store.WriteTx) (err error) { ch, err = Start(tx, w.s, ids); return err })
	w.write(func(tx *store.WriteTx) error { MarkRunning(tx, w.s, id); return nil })
	if i = w.get(id); i.PublicIP == "" || i.PublicIP == first.PublicIP || !i.LaunchTime.After(first.LaunchTime) {
		t.Errorf("started again: %+v", i)
	}
	w.write(func(tx *store.WriteTx) error { return Reboot(tx, w.s, ids) })
	if i = w.get(id); i.Reboots != 1 || i.State != Running {
		t.Errorf("rebooted: %+v", i)
	}
	w.write(func(tx *store.WriteTx) (err error) { ch, err = Terminate(tx, w.s, ids); return err })
	w.write(func(tx *store.WriteTx) error { MarkTerminated(tx, w.s, id); return nil })
	if i = w.get(id); i.State != Terminated || i.PrivateIP != "" || i.SubnetID != "" || len(i.BlockDevices) != 0 {
		t.Errorf("terminated: %+v", i)
	}
	for range network.ENIs.All(w.db.Read()) {
		t.Error("an interface is left")
	}
	for range network.PublicAddresses.All(w.db.Read()) {
		t.Error("a public address is left")
	}
	w.write(func(tx *store.WriteTx) (err error) { ch, err = Terminate(tx, w.s, ids); return err })
	if ch[0] != (Change{id, Terminated, Terminated}) {
		t.Errorf("terminated twice: %+v", ch)
	}
	w.wants("start a terminated one", w.db.Update(func(tx *store.WriteTx) error { _, err := Start(tx, w.s, ids); return err }), "IncorrectInstanceState")
	w.wants("reboot a terminated one", w.db.Update(func(tx *store.WriteTx) error { return Reboot(tx, w.s, ids) }), "")
	w.pass(59 * time.Minute)
	w.write(func(tx *store.WriteTx) error { Sweep(tx, tx.Now()); return nil })
	w.get(id)
	w.pass(2 * time.Minute)
	w.write(func(tx *store.WriteTx) error { Sweep(tx, tx.Now()); return nil })
	_, err := GetInstance(w.db.Read(), w.s, id)
	w.wants("an hour later", err, "InvalidInstanceID.NotFound")
}

func TestEndings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := w.launch(4, LaunchSpec{})
	w.write(func(tx *store.WriteTx) error {
		for _, i := range list[1:] {
			MarkRunning(tx, w.s, i.ID)
		}
		_, err := Modify(tx, w.s, list[2].ID, func(i *Instance) error { i.ShutdownBehavior = "terminate"; return nil })
		if err != nil {
			return err
		}
		MarkFailed(tx, w.s, list[0].ID, "Server.InternalError", "no room on disk")
		MarkStopped(tx, w.s, list[1].ID)
		MarkStopped(tx, w.s, list[2].ID)
		MarkFailed(tx, w.s, list[3].ID, "Server.InternalError", "")
		return nil
	})
	for n, want := range []struct{ state, code, message string }{
		{ShuttingDown, "Server.InternalError", "Server.InternalError: no room on disk"},
		{Stopped, "Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"},
		{ShuttingDown, "Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"},
		{Stopped, "Server.InternalError", "Server.InternalError"},
	} {
		if i := w.get(list[n].ID); i.State != want.state || i.StateReasonCode != want.code || i.StateReasonMessage != want.message {
			t.Errorf("%d: %s %s %q", n, i.State, i.StateReasonCode, i.StateReasonMessage)
		}
	}
}

func TestTerminationProtection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := func(z string) LaunchSpec {
		return LaunchSpec{Placement: &PlacementSpec{AvailabilityZone: "eu-west-1" + z}}
	}
	a, b := w.launch(2, in("a")), w.launch(1, in("b"))
	ids := []string{a[0].ID, a[1].ID, b[0].ID}
	w.write(func(tx *store.WriteTx) error {
		_, err := Modify(tx, w.s, a[1].ID, func(i *Instance) error { i.DisableAPITermination = true; return nil })
		return err
	})
	var ch []Change
	var refused error
	w.write(func(tx *store.WriteTx) error { ch, refused = Terminate(tx, w.s, ids); return nil })
	w.wants("a protected one", refused, "OperationNotPermitted")
	if len(ch) != 1 || ch[0].ID != b[0].ID || w.get(a[0].ID).State != Pending || w.get(b[0].ID).State != ShuttingDown {
		t.Errorf("only the other zone's ends: %+v", ch)
	}
	if want := fmt.Sprintf("The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", a[1].ID); !strings.Contains(refused.Error(), want) {
		t.Error(refused)
	}
	w.write(func(tx *store.WriteTx) (err error) { ch, err = TerminateUnprotected(tx, w.s, ids[:2]); return err })
	if len(ch) != 2 || w.get(a[1].ID).State != ShuttingDown {
		t.Errorf("a scale-in is not held back: %+v", ch)
	}
	var missing error
	_ = w.db.Update(func(tx *store.WriteTx) error {
		_, missing = Terminate(tx, w.s, []string{b[0].ID, "i-00000000000000001", "i-00000000000000002"})
		return missing
	})
	w.wants("unknown ids", missing, "InvalidInstanceID.NotFound")
	if !strings.Contains(missing.Error(), "The instance IDs 'i-00000000000000001, i-00000000000000002' do not exist") {
		t.Error(missing)
	}
}

func TestStopProtection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := w.launch(2, LaunchSpec{DisableAPIStop: ptr(true)})
	ids := []string{list[0].ID, list[1].ID}
	w.write(func(tx *store.WriteTx) error { MarkRunning(tx, w.s, ids[0]); MarkRunning(tx, w.s, ids[1]); return nil })
	w.wants("stop", w.db.Update(func(tx *store.WriteTx) error { _, err := Stop(tx, w.s, ids, true); return err }), "OperationNotPermitted")
	w.wants("terminate", w.db.Update(func(tx *store.WriteTx) error { _, err := Terminate(tx, w.s, ids); return err }), "OperationNotPermitted")
}

// edges are the transitions that doc.go allows.
var edges = map[string][]string{
	Pending: {Running, ShuttingDown, Stopped}, Running: {Stopping, Stopped, ShuttingDown}, Stopping: {Stopped, ShuttingDown}, Stopped: {Pending, ShuttingDown}, ShuttingDown: {Terminated}, Terminated: {},
}

// TestStateMachine does random things to instances and checks after each that only allowed edges were taken and that
// addresses, interfaces and volumes are exactly those of the instances that are there.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		w := newWorld(t)
		w.write(func(tx *store.WriteTx) error { SetHost(tx, Host{Unlimited: true}); return nil })
		r := rand.New(rand.NewPCG(seed, 7))
		state := map[string]string{}
		for step := range 150 {
			err := w.db.Update(func(tx *store.WriteTx) error { return randomStep(tx, w, r) })
			_ = err // refused steps change nothing, which is checked
			w.pass(time.Minute)
			checkWorld(w, state, fmt.Sprintf("seed %d, step %d", seed, step))
			if t.Failed() {
				return
			}
		}
		if len(state) < 5 {
			t.Errorf("seed %d: only %d instances", seed, len(state))
		}
	}
}

func randomStep(tx *store.WriteTx, w *world, r *rand.Rand) error {
	all := slices.Collect(Instances.All(tx))
	if len(all) == 0 || r.IntN(6) == 0 {
		_, err := Launch(tx, LaunchParams{Scope: w.s, Spec: LaunchSpec{ImageID: w.ami, DisableAPITermination: ptr(r.IntN(5) == 0)}, MinCount: 1, MaxCount: 1 + r.IntN(3)})
		return err
	}
	i := all[r.IntN(len(all))]
	ids := []string{i.ID}
	var err error
	switch r.IntN(9) {
	case 0:
		MarkRunning(tx, w.s, i.ID)
	case 1:
		MarkStopped(tx, w.s, i.ID)
	case 2:
		MarkTerminated(tx, w.s, i.ID)
	case 3:
		MarkFailed(tx, w.s, i.ID, "Server.InternalError", "x")
	case 4:
		_, err = Stop(tx, w.s, ids, false)
	case 5:
		_, err = Start(tx, w.s, ids)
	case 6:
		_, err = Terminate(tx, w.s, ids)
	case 7:
		err = Reboot(tx, w.s, ids)
	case 8:
		Sweep(tx, tx.Now())
	}
	return err
}

func checkWorld(w *world, state map[string]string, at string) {
	w.Helper()
	tx := w.db.Read()
	private, public, index := map[string]bool{}, map[string]bool{}, map[uint32]bool{}
	enis, volumes := 0, 0
	for i := range Instances.All(tx) {
		if before, seen := state[i.ID]; seen && before != i.State && !slices.Contains(edges[before], i.State) {
			w.Errorf("%s: %s went from %s to %s", at, i.ID, before, i.State)
		}
		state[i.ID] = i.State
		if index[i.Index] {
			w.Errorf("%s: index %d twice", at, i.Index)
		}
		index[i.Index] = true
		if i.State == Terminated {
			continue
		}
		e, err := network.GetENI(tx, w.s, i.ENIID)
		if err != nil || e.PrivateIP != i.PrivateIP || e.PublicIP != i.PublicIP || private[i.SubnetID+i.PrivateIP] || i.PublicIP != "" && public[i.PublicIP] {
			w.Errorf("%s: addresses of %s: %+v, %v", at, i.ID, e, err)
		}
		if wants := i.State != Stopped; i.State != ShuttingDown && wants != (i.PublicIP != "") {
			w.Errorf("%s: %s is %s with the public address %q", at, i.ID, i.State, i.PublicIP)
		}
		private[i.SubnetID+i.PrivateIP] = true
		if i.PublicIP != "" {
			public[i.PublicIP] = true
		}
		enis, volumes = enis+1, volumes+1
	}
	if n := count(network.ENIs.All(tx)); n != enis {
		w.Errorf("%s: %d interfaces for %d instances", at, n, enis)
	}
	if n := count(Volumes.All(tx)); n != volumes {
		w.Errorf("%s: %d volumes for %d instances", at, n, volumes)
	}
	if n := count(network.PublicAddresses.All(tx)); n != len(public) {
		w.Errorf("%s: %d public addresses, %d of them instances'", at, n, len(public))
	}
	used := 0
	for sn := range network.Subnets.All(tx) {
		used += sn.InUse
	}
	if used != enis {
		w.Errorf("%s: subnets count %d addresses, there are %d", at, used, enis)
	}
}

func count[T any](seq func(func(T) bool)) int {
	n := 0
	for range seq {
		n++
	}
	return n
}
