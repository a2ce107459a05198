package scaling

import (
	"fmt"
	"slices"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// AWS's bounds of one call.
const (
	MaxInstancesPerCall  = 20
	MaxProtectedPerCall  = 50
	MaxAttachmentPerCall = 10
)

// members finds instances in a group, in the order given.
func (e *Engine) members(tx store.Tx, g Group, ids []string) ([]Member, error) {
	var out []Member
	for _, id := range ids {
		m, ok := Members.Get(tx, g.Key(id))
		if !ok || m.Group != g.Name {
			return nil, fault.New(fault.NotFound, "ValidationError", "The instance %s is not part of Auto Scaling group %s.", id, g.Name)
		}
		out = append(out, m)
	}
	return out, nil
}

func checkIDs(ids []string, limit int) error {
	switch {
	case len(ids) == 0:
		return invalid("At least one instance must be specified.")
	case len(ids) > limit:
		return invalid("Up to %d instances can be specified in one call.", limit)
	}
	return nil
}

// findMember finds a member by its instance id alone.
func findMember(tx store.Tx, s scope.Scope, id string) (Member, Group, error) {
	if m, ok := Members.Get(tx, s.Key(id)); ok {
		g, err := GetGroup(tx, s, m.Group)
		return m, g, err
	}
	return Member{}, Group{}, fault.New(fault.NotFound, "ValidationError", "Instance Id not found - No managed instance found for instance ID %s", id)
}

// TerminateMember is TerminateInstanceInAutoScalingGroup: protection does not keep it.
func (e *Engine) TerminateMember(w *store.WriteTx, s scope.Scope, id string, decrement bool) (Activity, error) {
	m, g, err := findMember(w, s, id)
	if err != nil {
		return Activity{}, err
	}
	switch m.State {
	case Terminating, TerminatingWait, TerminatingProceed, Detaching, WarmedTerminating, WarmedTerminatingWait, WarmedTerminatingProceed:
		return Activity{}, fault.New(fault.State, "ScalingActivityInProgress", "Instance %s is already being terminated.", id)
	}
	sentence := "instance " + id + " was taken out of service in response to a user request."
	if decrement && m.State != Standby && !m.Warmed() {
		if g.Desired-max(1, m.Weight) < g.Min {
			return Activity{}, invalid("Currently, desiredSize equals minSize (%d). Terminating instance without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.", g.Min)
		}
		n := g.Desired - max(1, m.Weight)
		sentence = fmt.Sprintf("instance %s was taken out of service in response to a user request, shrinking the capacity from %d to %d.", id, g.Desired, n)
		g.Desired = n
		Groups.Put(w, g)
	}
	alive := false
	if i, ok := e.Compute.Instance(w, s, id); ok {
		alive = i.State == "running" || i.State == "pending"
	}
	if err := e.retire(w, g, m, causeOf(nil, w.Now(), sentence), nil, alive); err != nil {
		return Activity{}, err
	}
	m, _ = Members.Get(w, m.Key(id))
	a, _ := Activities.Get(w, g.Key(m.ActivityID))
	return a, nil
}

// SetHealth is SetInstanceHealth.
func (e *Engine) SetHealth(w *store.WriteTx, s scope.Scope, id, health string, respectGrace bool) error {
	if health != Healthy && health != Unhealthy {
		return invalid("Invalid health status: %s. The valid values are Healthy and Unhealthy.", health)
	}
	m, g, err := findMember(w, s, id)
	if err != nil {
		return err
	}
	switch m.State {
	case Terminating, TerminatingWait, TerminatingProceed, Detaching, WarmedTerminating, WarmedTerminatingWait, WarmedTerminatingProceed:
		return invalid("The health of the instance %s cannot be set while it is in the state %s.", id, m.State)
	}
	if health == Unhealthy && respectGrace && m.State == InService && w.Now().Before(m.InServiceAt.Add(e.grace(g))) {
		return nil
	}
	m.Health, m.Cause = health, "user"
	if health == Healthy {
		m.Cause = ""
	}
	Members.Put(w, m)
	return nil
}

// SetProtection is SetInstanceProtection.
func (e *Engine) SetProtection(w *store.WriteTx, s scope.Scope, group string, ids []string, protected bool) error {
	g, err := openGroup(w, s, group)
	if err != nil {
		return err
	}
	if err := checkIDs(ids, MaxProtectedPerCall); err != nil {
		return err
	}
	list, err := e.members(w, g, ids)
	if err != nil {
		return err
	}
	for _, m := range list {
		switch m.State {
		case InService, EnteringStandby, Standby:
		default:
			return invalid("The instance %s is not in InService or EnteringStandby or Standby.", m.ID)
		}
		m.Protected = protected
		Members.Put(w, m)
	}
	return nil
}

// unsized refuses what a group's sizes don't allow: to do something to n instances.
func (g Group) unsized(verb string, n int) error {
	noun := "instance"
	if n > 1 {
		noun = "instances"
	}
	return invalid("AutoScalingGroup %s has min-size=%d, max-size=%d, and desired-size=%d. To %s %d %s, please update the AutoScalingGroup sizes appropriately.", g.Name, g.Min, g.Max, g.Desired, verb, n, noun)
}

// Detach is DetachInstances.
func (e *Engine) Detach(w *store.WriteTx, s scope.Scope, group string, ids []string, decrement bool) ([]Activity, error) {
	return e.moveOut(w, s, group, ids, decrement, Detaching)
}

// EnterStandby is EnterStandby.
func (e *Engine) EnterStandby(w *store.WriteTx, s scope.Scope, group string, ids []string, decrement bool) ([]Activity, error) {
	return e.moveOut(w, s, group, ids, decrement, EnteringStandby)
}

func (e *Engine) moveOut(w *store.WriteTx, s scope.Scope, group string, ids []string, decrement bool, to string) ([]Activity, error) {
	g, err := openGroup(w, s, group)
	if err != nil {
		return nil, err
	}
	if err := checkIDs(ids, MaxInstancesPerCall); err != nil {
		return nil, err
	}
	list, err := e.members(w, g, ids)
	if err != nil {
		return nil, err
	}
	var out []Activity
	before := g
	for i, m := range list {
		if slices.Contains(ids[:i], m.ID) {
			return nil, invalid("The instance %s is named more than once.", m.ID)
		}
		if m.State != InService && !(to == Detaching && m.State == Standby) {
			if to == Detaching {
				return nil, invalid("The instance %s is not in InService or Standby.", m.ID)
			}
			return nil, invalid("The instance %s is not in InService.", m.ID)
		}
		from := g.Desired
		text, description := "instance "+m.ID+" was moved to standby in response to a user request", "Moving EC2 instance to Standby: "
		verb := "place into standby"
		if to == Detaching {
			text, description, verb = "instance "+m.ID+" was detached in response to a user request", "Detaching EC2 instance: ", "detach"
		}
		if decrement && m.State == InService {
			if g.Desired -= max(1, m.Weight); g.Desired < g.Min {
				return nil, before.unsized(verb, len(list))
			}
			text += fmt.Sprintf(", shrinking the capacity from %d to %d", from, g.Desired)
		}
		if err := e.leave(w, &m, true); err != nil {
			return nil, err
		}
		a := begin(w, g, description+m.ID, causeOf(nil, w.Now(), text+"."), m.SubnetID, m.Zone, nil)
		g.progress(w, a.ID, StatusInProgress, 50)
		if m.DrainUntil.After(w.Now()) {
			g.progress(w, a.ID, StatusDraining, 50)
		}
		m.State, m.ActivityID = to, a.ID
		Members.Put(w, m)
		a, _ = Activities.Get(w, a.Key(a.ID))
		out = append(out, a)
	}
	Groups.Put(w, g)
	return out, nil
}

// ExitStandby is ExitStandby: the members come back by way of Pending, and desired grows by them.
func (e *Engine) ExitStandby(w *store.WriteTx, s scope.Scope, group string, ids []string) ([]Activity, error) {
	g, err := openGroup(w, s, group)
	if err != nil {
		return nil, err
	}
	if err := checkIDs(ids, MaxInstancesPerCall); err != nil {
		return nil, err
	}
	if g.SuspendedProcess(ProcLaunch) {
		return nil, invalid("Instances cannot leave standby while the Launch process is suspended.")
	}
	list, err := e.members(w, g, ids)
	if err != nil {
		return nil, err
	}
	var out []Activity
	before := g
	for _, m := range list {
		if m.State != Standby {
			return nil, invalid("The instance %s is not in Standby.", m.ID)
		}
		from := g.Desired
		if g.Desired += max(1, m.Weight); g.Desired > g.Max {
			return nil, before.unsized("take out of standby", len(list))
		}
		a := begin(w, g, "Moving EC2 instance out of Standby: "+m.ID, causeOf(nil, w.Now(),
			fmt.Sprintf("instance %s was moved out of standby in response to a user request, increasing the capacity from %d to %d.", m.ID, from, g.Desired)), m.SubnetID, m.Zone, nil)
		g.progress(w, a.ID, StatusPreInService, 30)
		m.State, m.ActivityID, m.Adopted, m.Health, m.Cause = Pending, a.ID, true, Healthy, ""
		Members.Put(w, m)
		a, _ = Activities.Get(w, a.Key(a.ID))
		out = append(out, a)
	}
	Groups.Put(w, g)
	return out, nil
}

// AttachInstances is AttachInstances: running instances become members, and desired grows by them.
func (e *Engine) AttachInstances(w *store.WriteTx, s scope.Scope, group string, ids []string) error {
	g, err := openGroup(w, s, group)
	if err != nil {
		return err
	}
	if err := checkIDs(ids, MaxInstancesPerCall); err != nil {
		return err
	}
	if g.SuspendedProcess(ProcLaunch) {
		return invalid("Instances cannot be attached while the Launch process is suspended.")
	}
	before := g
	for _, id := range ids {
		i, ok := e.Compute.Instance(w, s, id)
		if !ok {
			return fault.New(fault.NotFound, "ValidationError", "Invalid Instance ID: %s", id)
		}
		if m, taken := Members.Get(w, s.Key(id)); taken {
			return invalid("The Instance: %s is already part of AutoScalingGroup:%s", id, m.Group)
		}
		if i.State != "running" {
			return invalid("Instance %s [%s] is not in correct state. Instance(s) must be in 'running' state.", id, i.State)
		}
		if !slices.Contains(g.ZoneNames, i.Zone) {
			return invalid("The availability zones of the specified instances and the Auto Scaling group do not match: %s is in %s.", id, i.Zone)
		}
		from := g.Desired
		if len(g.Attachments) > 0 && len(g.Subnets) > 0 {
			if sn, err := e.Compute.Subnet(w, s, g.Subnets[0]); err == nil && sn.VpcID != i.VpcID {
				return invalid("The instance %s is not in the VPC of the load balancers of the Auto Scaling group %s.", id, g.Name)
			}
		}
		weight := 0 // as the override of its type says
		if g.Mixed != nil {
			if o := slices.IndexFunc(g.Mixed.Overrides, func(o Override) bool { return o.InstanceType == i.InstanceType }); o >= 0 {
				weight = g.Mixed.Overrides[o].Weight
			}
		}
		if g.Desired += max(1, weight); g.Desired > g.Max {
			return before.unsized("attach", len(ids))
		}
		a := begin(w, g, "Attaching an existing EC2 instance: "+id, causeOf(nil, w.Now(),
			fmt.Sprintf("an instance was attached in response to a user request, increasing the capacity from %d to %d.", from, g.Desired)), i.SubnetID, i.Zone, nil)
		g.progress(w, a.ID, StatusPreInService, 30)
		if err := e.Compute.SetGroup(w, s, id, g.Name); err != nil {
			return err
		}
		Members.Put(w, Member{Scope: s, ID: id, Group: g.Name, Zone: i.Zone, SubnetID: i.SubnetID, InstanceType: i.InstanceType, ImageID: i.ImageID,
			State: Pending, Health: Healthy, Protected: g.ProtectNew, LaunchedAt: i.LaunchTime, ActivityID: a.ID, Adopted: true, Spot: i.Spot, Weight: weight})
	}
	Groups.Put(w, g)
	return nil
}
