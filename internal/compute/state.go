package compute

import (
	"time"

	"skerry/internal/event"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// VisibleFor is how long a terminated instance is still described.
const VisibleFor = time.Hour

// Change is one instance's answer to a request.
type Change struct {
	ID                string
	Previous, Current string
}

// stateTime is the form in which transition reasons give the time.
const stateTime = "2006-01-02 15:04:05 GMT"

func (i *Instance) become(w *store.WriteTx, state, code, message string) {
	i.State, i.StateSince, i.StateReasonCode, i.StateReasonMessage, i.Checks = state, w.Now(), code, message, Checks{}
	Instances.Put(w, *i)
	i.tell(w, "EC2 Instance State-change Notification", map[string]string{"instance-id": i.ID, "state": state})
}

// tell tells an event about the instance.
func (i *Instance) tell(w *store.WriteTx, detailType string, detail map[string]string) {
	event.Emit(w, i.Scope, "aws.ec2", detailType, []string{i.ARN()}, detail)
}

func (i *Instance) userInitiated(w *store.WriteTx) {
	i.StateTransitionReason = "User initiated (" + w.Now().UTC().Format(stateTime) + ")"
}

// Terminate begins to end instances. Instances that are ending or have ended are a success. If some are protected, those
// of their zones stay and the others end: then there are changes and an error, and the caller must commit the changes.
func Terminate(w *store.WriteTx, s scope.Scope, ids []string) ([]Change, error) {
	return terminate(w, s, ids, true)
}

// TerminateUnprotected is Terminate for a group's scale-in, which API protection does not hold back.
func TerminateUnprotected(w *store.WriteTx, s scope.Scope, ids []string) ([]Change, error) {
	return terminate(w, s, ids, false)
}

func terminate(w *store.WriteTx, s scope.Scope, ids []string, obey bool) ([]Change, error) {
	list, err := GetInstances(w, s, ids)
	if err != nil {
		return nil, err
	}
	kept := map[string]bool{} // zones
	if obey {
		for _, i := range list {
			if !i.Live() || kept[i.AvailabilityZone] {
				continue
			}
			attr := ""
			if i.DisableAPITermination {
				attr = "disableApiTermination"
			} else if i.DisableAPIStop {
				attr = "disableApiStop"
			}
			if attr != "" {
				kept[i.AvailabilityZone] = true
				if err == nil {
					err = fault.New(fault.Denied, "OperationNotPermitted", "The instance '%s' may not be terminated. Modify its '%s' instance attribute and try again.", i.ID, attr)
				}
			}
		}
	}
	var out []Change
	for _, i := range list {
		if kept[i.AvailabilityZone] {
			continue
		}
		c := Change{ID: i.ID, Previous: i.State}
		if i.Live() {
			i.userInitiated(w)
			i.become(w, ShuttingDown, "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
		}
		c.Current = i.State
		out = append(out, c)
	}
	return out, err
}

// Stop begins to stop instances; those that are stopping or stopped are a success.
func Stop(w *store.WriteTx, s scope.Scope, ids []string, force bool) ([]Change, error) {
	list, err := GetInstances(w, s, ids)
	if err != nil {
		return nil, err
	}
	var out []Change
	for _, i := range list {
		c := Change{ID: i.ID, Previous: i.State, Current: i.State}
		switch i.State {
		case Running:
			if err := i.oneTime("stop"); err != nil {
				return nil, err
			}
			if i.DisableAPIStop {
				return nil, fault.New(fault.Denied, "OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", i.ID)
			}
			i.userInitiated(w)
			i.ForceStop = force
			i.become(w, Stopping, "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
			c.Current = Stopping
		case Stopping:
			if force && !i.ForceStop {
				i.ForceStop = true
				Instances.Put(w, i)
			}
		case Stopped:
		default:
			return nil, fault.New(fault.State, "IncorrectInstanceState", "This instance '%s' is not in a state from which it can be stopped.", i.ID)
		}
		out = append(out, c)
	}
	return out, nil
}

// Start begins to start stopped instances; those that are pending or running are a success.
func Start(w *store.WriteTx, s scope.Scope, ids []string) ([]Change, error) {
	list, err := GetInstances(w, s, ids)
	if err != nil {
		return nil, err
	}
	var out []Change
	for _, i := range list {
		c := Change{ID: i.ID, Previous: i.State, Current: i.State}
		switch i.State {
		case Running, Pending:
		case Stopped:
			t, err := typeFor(i.InstanceType)
			if err != nil {
				return nil, err
			}
			if _, err := capacity(w, s, t, i.AvailabilityZone); err != nil {
				return nil, err
			}
			if e, ok := network.ENIs.Get(w, s.Key(i.ENIID)); ok {
				if e, err = network.TakeAutoPublic(w, e); err != nil {
					return nil, err
				}
				i.PublicIP = e.PublicIP
			}
			i.LaunchTime, i.StateTransitionReason, i.ForceStop = w.Now(), "", false
			i.become(w, Pending, "pending", "pending")
			c.Current = Pending
		default:
			return nil, fault.New(fault.State, "IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", i.ID)
		}
		out = append(out, c)
	}
	return out, nil
}

// Reboot asks for a reboot of running instances. Requests for terminated ones are ignored; others must be running.
func Reboot(w *store.WriteTx, s scope.Scope, ids []string) error {
	list, err := GetInstances(w, s, ids)
	if err != nil {
		return err
	}
	for _, i := range list {
		switch i.State {
		case Running:
			i.Reboots++
			Instances.Put(w, i)
		case Terminated, ShuttingDown:
		default:
			return fault.New(fault.State, "IncorrectInstanceState", "The instance '%s' is not in a state from which it can be rebooted.", i.ID)
		}
	}
	return nil
}

// MarkRunning says that a pending instance runs. False: it was not pending any more.
func MarkRunning(w *store.WriteTx, s scope.Scope, id string) bool {
	i, ok := Instances.Get(w, s.Key(id))
	if !ok || i.State != Pending {
		return false
	}
	i.Booted = true
	i.become(w, Running, "", "")
	return true
}

// MarkStopped says that an instance's processes are gone. A stopping instance is stopped. One that was running ended by
// itself, and its shutdown behaviour decides: stopped, or shutting down for good. False: neither was the case.
func MarkStopped(w *store.WriteTx, s scope.Scope, id string) bool {
	i, ok := Instances.Get(w, s.Key(id))
	if !ok {
		return false
	}
	code, message := i.StateReasonCode, i.StateReasonMessage
	switch i.State {
	case Stopping:
	case Running:
		code, message = "Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
		i.StateTransitionReason = ""
		if i.ShutdownBehavior == "terminate" {
			i.become(w, ShuttingDown, code, message)
			return true
		}
	default:
		return false
	}
	releaseAutoPublic(w, &i)
	i.become(w, Stopped, code, message)
	return true
}

func releaseAutoPublic(w *store.WriteTx, i *Instance) {
	if e, ok := network.ENIs.Get(w, i.Key(i.ENIID)); ok {
		i.PublicIP = network.GiveAutoPublic(w, e).PublicIP
	}
}

// MarkTerminated says that nothing of an instance is left on the host: interfaces and volumes that go with it are
// deleted, the others are free. False: the instance was not shutting down.
func MarkTerminated(w *store.WriteTx, s scope.Scope, id string) bool {
	i, ok := Instances.Get(w, s.Key(id))
	if !ok || i.State != ShuttingDown {
		return false
	}
	release(w, &i)
	i.become(w, Terminated, i.StateReasonCode, i.StateReasonMessage)
	return true
}

func release(w *store.WriteTx, i *Instance) {
	for e := range network.ENIs.By(w, "instance", i.Key(i.ID)) {
		if e.DeleteOnTermination {
			// It exists: the only error of ReleaseENI, a broken elastic address, cannot be the instance's fault.
			_ = network.ReleaseENI(w, i.Scope, e.ID)
		} else {
			network.Detach(w, network.GiveAutoPublic(w, e))
		}
	}
	for v := range Volumes.By(w, "instance", i.Key(i.ID)) {
		if v.DeleteOnTermination {
			Volumes.Delete(w, v.Key(v.ID))
			tag.DeleteAll(w, v.Scope, v.ID)
		} else {
			v.InstanceID, v.Device, v.AttachTime = "", "", time.Time{}
			Volumes.Put(w, v)
		}
	}
	i.ENIID, i.PrivateIP, i.PublicIP, i.SubnetID, i.VpcID, i.SecurityGroupIDs, i.BlockDevices = "", "", "", "", "", nil, nil
}

// MarkFailed says that a pending instance could not be made or started, with a code as Server.InternalError. A launch ends
// as shutting down, so that what was half made is removed; a start goes back to stopped. A running instance whose machine
// was lost fails likewise: it stops. False: the instance was in none of these states.
func MarkFailed(w *store.WriteTx, s scope.Scope, id, code, detail string) bool {
	i, ok := Instances.Get(w, s.Key(id))
	if !ok {
		return false
	}
	message := code
	if detail != "" {
		message += ": " + detail
	}
	i.StateTransitionReason = code
	switch {
	case i.State == Pending && !i.Booted:
		i.become(w, ShuttingDown, code, message)
	case i.State == Pending, i.State == Running, i.State == Stopping:
		releaseAutoPublic(w, &i)
		i.become(w, Stopped, code, message)
	default:
		return false
	}
	return true
}

// Sweep removes records of instances that were terminated long enough ago, and client tokens that have expired; it tells
// how many instances went.
func Sweep(w *store.WriteTx, now time.Time) int {
	n := 0
	for i := range Instances.By(w, "state", Terminated) {
		if now.Sub(i.StateSince) >= VisibleFor {
			Instances.Delete(w, i.Key(i.ID))
			tag.DeleteAll(w, i.Scope, i.ID)
			n++
		}
	}
	for t := range tokens.All(w) {
		if now.Sub(t.At) >= tokenLife {
			tokens.Delete(w, t.Key(t.Token))
		}
	}
	return n
}
