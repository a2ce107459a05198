package simulate

import (
	"fmt"
	"time"

	"skerry/internal/scaling"
)

// How machines go, whatever they run.
const (
	goneAfter = 5 * time.Second // from the termination's begin to its end
	stopAfter = 5 * time.Second // from the stop's
	removed   = ""              // state of a member that the next clearing takes away
)

// event is a change of an instance that time brings.
type event struct {
	at    time.Time
	id    string
	state string
}

// follows tells whether an instance is still on the way to the event's state.
func (ev event) follows(state string) bool {
	switch ev.state {
	case "running":
		return state == "pending"
	case "stopped":
		return state == "stopping"
	}
	return true
}

// become changes an instance's state. Instances cost until they are stopped or terminated.
func (w *world) become(v *scaling.View, state string) {
	paid := func(state string) bool { return state != "" && state != "stopped" && state != "terminated" }
	if was, is := paid(v.Instance.State), paid(state); was != is {
		n := map[bool]int{true: 1, false: -1}[is]
		w.alive += n
		w.cost += float64(n) * w.price(v)
	}
	v.Instance.State = state
	w.dirty = true
}

func (w *world) newMember(a scaling.Action) *scaling.View {
	w.serial++
	m := scaling.Member{Scope: w.group.Scope, ID: fmt.Sprintf("i-%017x", w.serial), Group: w.group.Name, Zone: a.Zone, SubnetID: a.Subnet, State: scaling.Pending,
		Health: scaling.Healthy, LaunchedAt: w.now, Protected: w.group.ProtectNew, Rebalance: a.Rebalance, Spot: a.Spot}
	if o, ok := w.offer(a); ok {
		m.InstanceType, m.Weight = o.InstanceType, scaling.WeightOf(w.group, o.Weight)
	}
	w.members = append(w.members, scaling.View{Member: m, Instance: scaling.Instance{ID: m.ID, SubnetID: a.Subnet, Zone: a.Zone, LaunchTime: w.now, Spot: a.Spot}})
	v := &w.members[len(w.members)-1]
	w.become(v, "pending")
	w.boots = append(w.boots, event{w.now.Add(w.s.Boot), v.ID, "running"})
	return v
}

// act carries one action out, as the executor of a cloud does on its rows.
func (w *world) act(a scaling.Action) {
	switch a.Kind {
	case scaling.Launch:
		v := w.newMember(a)
		if w.err != nil {
			return
		}
		if a.Warm {
			v.State = scaling.WarmedPending
			return
		}
		w.pending++
		w.repay(a)
		if a.Rebalance {
			w.group.Balanced = w.now.Add(time.Minute)
		}
		return
	case scaling.Settle:
		w.group.Owed = 0
		if w.group.Cooling > 0 {
			w.group.CoolTill, w.group.Cooling = w.now.Add(time.Duration(w.group.Cooling)*time.Second), 0
		}
		return
	case scaling.Cool:
		w.group.Warm = nil
		return
	}
	if v := w.find(a.Member); v != nil {
		w.member(a, v)
	}
}

// repay counts a launch that replaces an unhealthy member.
func (w *world) repay(a scaling.Action) {
	if a.Replaces && w.group.Owed > 0 {
		w.group.Owed--
	}
}

func (w *world) member(a scaling.Action, v *scaling.View) {
	switch a.Kind {
	case scaling.Mark:
		v.Health, v.Cause = scaling.Unhealthy, a.Cause
	case scaling.Admit:
		v.State, v.InServiceAt, v.Rebalance = scaling.InService, w.now, false
		w.pending--
		w.inService++
		w.units += max(1, v.Weight)
	case scaling.Retire:
		w.retire(a, v)
	case scaling.Draw:
		if v.State == scaling.WarmedStopped {
			w.become(v, "pending")
			w.warmups = append(w.warmups, event{w.now.Add(w.s.WarmBoot), v.ID, "running"})
		}
		v.State, v.Protected, v.DrainUntil = scaling.Pending, w.group.ProtectNew, time.Time{}
		w.pending++
		w.repay(a)
	case scaling.Shelve:
		if w.group.Warm != nil && w.group.Warm.State == "Running" {
			v.State, v.Reused = scaling.WarmedRunning, false
			return
		}
		v.State = scaling.WarmedPendingProceed
		w.become(v, "stopping")
		w.ends = append(w.ends, event{w.now.Add(stopAfter), v.ID, "stopped"})
	case scaling.Rest:
		v.State, v.Reused = scaling.WarmedStopped, false
	case scaling.Kill, scaling.Lose:
		if warmed := v.Warmed(); warmed {
			v.State = scaling.WarmedTerminatingProceed
		} else {
			if a.Kind == scaling.Lose {
				w.pending--
				w.leaving++
			}
			v.State = scaling.TerminatingProceed
		}
		switch v.Instance.State {
		case "terminated":
		case "stopped": // nothing has to be shut down
			w.become(v, "terminated")
		default:
			w.become(v, "shutting-down")
			w.ends = append(w.ends, event{w.now.Add(goneAfter), v.ID, "terminated"})
		}
	case scaling.Remove:
		if !v.Warmed() {
			w.leaving--
		}
		v.State = removed
	default:
		w.err = fmt.Errorf("the action %v is not simulated", a.Kind)
	}
}

// retire takes a member out: to its end, or back into the warm pool.
func (w *world) retire(a scaling.Action, v *scaling.View) {
	switch {
	case v.Warmed():
		v.State = scaling.WarmedTerminating
		return
	case v.State == scaling.InService:
		w.inService--
		w.units -= max(1, v.Weight)
	default:
		w.pending--
	}
	v.DrainUntil = w.now
	if a.Drain {
		v.DrainUntil = w.now.Add(w.s.Drain)
	}
	if !a.Reasoned {
		w.group.Owed++
	}
	if a.Return {
		v.State, v.Reused, v.Protected = scaling.WarmedPending, true, false
		return
	}
	w.leaving++
	v.State = scaling.Terminating
}

// pooled counts the members of the warm pool.
func (w *world) pooled() int {
	if w.group.Warm == nil {
		return 0
	}
	n := 0
	for i := range w.members {
		if w.members[i].Warmed() {
			n++
		}
	}
	return n
}
