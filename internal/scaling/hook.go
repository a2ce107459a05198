package scaling

import (
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// AWS's bounds of a hook's times, in seconds.
const (
	minHeartbeat     = 30
	maxHeartbeat     = 7200
	defaultHeartbeat = 3600
	maxGlobal        = 48 * 3600
	globalFactor     = 100
)

// GlobalTimeout is the longest that heartbeats can hold a member, in seconds.
func (h Hook) GlobalTimeout() int { return min(maxGlobal, globalFactor*h.Heartbeat) }

// PutHook makes or changes a lifecycle hook; zero fields get AWS's defaults.
func (e *Engine) PutHook(w *store.WriteTx, h Hook) error {
	g, err := openGroup(w, h.Scope, h.Group)
	if err != nil {
		return err
	}
	h.Group = g.Name
	if h.Name == "" || len(h.Name) > 255 {
		return invalid("Lifecycle hook name must be between 1 and 255 characters long.")
	}
	old, exists := Hooks.Get(w, h.Key(h.Group+":"+h.Name))
	if exists { // what the request leaves out stays
		if h.Transition == "" {
			h.Transition = old.Transition
		}
		if h.Heartbeat == 0 {
			h.Heartbeat = old.Heartbeat
		}
		if h.DefaultResult == "" {
			h.DefaultResult = old.DefaultResult
		}
		if h.NotificationTarget == "" {
			h.NotificationTarget, h.Role = old.NotificationTarget, old.Role
		}
		if h.NotificationMetadata == "" {
			h.NotificationMetadata = old.NotificationMetadata
		}
	}
	if h.Heartbeat == 0 {
		h.Heartbeat = defaultHeartbeat
	}
	if h.DefaultResult == "" {
		h.DefaultResult = "ABANDON"
	}
	switch {
	case h.Transition != LaunchHook && h.Transition != TerminateHook:
		return invalid("Lifecycle Transition must be one of %s or %s.", LaunchHook, TerminateHook)
	case h.Heartbeat < minHeartbeat || h.Heartbeat > maxHeartbeat:
		return invalid("Heartbeat Timeout must be between %d and %d seconds.", minHeartbeat, maxHeartbeat)
	case h.DefaultResult != "CONTINUE" && h.DefaultResult != "ABANDON":
		return invalid("Default Result must be CONTINUE or ABANDON.")
	}
	if t := h.NotificationTarget; t != "" && t != old.NotificationTarget {
		if !strings.HasPrefix(t, "arn:aws:sns:") && !strings.HasPrefix(t, "arn:aws:sqs:") {
			return invalid("Invalid Notification Target ARN: %s", t)
		}
		if err := needSink(w); err != nil {
			return err
		}
	}
	if !exists && len(of(w, Hooks, h.Scope, h.Group)) >= MaxHooks {
		return fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d lifecycle hooks.", MaxHooks)
	}
	Hooks.Put(w, h)
	if h.NotificationTarget != "" && h.NotificationTarget != old.NotificationTarget {
		g.tellTest(w, h.NotificationTarget)
	}
	return nil
}

// DeleteHook deletes a hook. Members that wait for it go on as if it had been completed: abandoned when they are
// launching, continued when they are terminating.
func (e *Engine) DeleteHook(w *store.WriteTx, s scope.Scope, group, name string) error {
	g, err := GetGroup(w, s, group)
	if err != nil {
		return err
	}
	if !Hooks.Delete(w, s.Key(g.Name+":"+name)) {
		return fault.New(fault.NotFound, "ValidationError", "No Lifecycle Hook found for Auto Scaling group %s with name %s", g.Name, name)
	}
	for _, m := range MembersOf(w, g) {
		for i, p := range m.Pauses {
			if p.Hook == name && p.Result == "" {
				m.Pauses = slices.Clone(m.Pauses)
				m.Pauses[i].Result = "CONTINUE"
				if m.State == PendingWait || m.State == WarmedPendingWait && !m.Reused {
					m.Pauses[i].Result = "ABANDON"
				}
				m.proceed(w.Now())
				Members.Put(w, m)
				break
			}
		}
	}
	return nil
}

// pause finds an open lifecycle action by its token or by the instance.
func (e *Engine) pause(w *store.WriteTx, s scope.Scope, group, hook, token, instance string) (Member, int, error) {
	g, err := GetGroup(w, s, group)
	if err != nil {
		return Member{}, 0, err
	}
	if token == "" && instance == "" {
		return Member{}, 0, invalid("You must specify either the Lifecycle Action Token or the Instance ID.")
	}
	if _, ok := Hooks.Get(w, s.Key(g.Name+":"+hook)); !ok {
		return Member{}, 0, fault.New(fault.NotFound, "ValidationError", "No Lifecycle Hook found for Auto Scaling group %s with name %s", g.Name, hook)
	}
	for _, m := range MembersOf(w, g) {
		if instance != "" && m.ID != instance {
			continue
		}
		for i, p := range m.Pauses {
			if p.Hook == hook && p.Result == "" && (token == "" || p.Token == token) && strings.HasSuffix(m.State, ":Wait") {
				return m, i, nil
			}
		}
	}
	if token != "" {
		return Member{}, 0, fault.New(fault.NotFound, "ValidationError", "No active Lifecycle Action found with token %s", token)
	}
	return Member{}, 0, fault.New(fault.NotFound, "ValidationError", "No active Lifecycle Action found with instance ID %s", instance)
}

// Complete is CompleteLifecycleAction.
func (e *Engine) Complete(w *store.WriteTx, s scope.Scope, group, hook, token, instance, result string) error {
	if result != "CONTINUE" && result != "ABANDON" {
		return invalid("Lifecycle Action Result must be CONTINUE or ABANDON.")
	}
	m, i, err := e.pause(w, s, group, hook, token, instance)
	if err != nil {
		return err
	}
	m.Pauses = slices.Clone(m.Pauses)
	m.Pauses[i].Result = result
	m.proceed(w.Now())
	Members.Put(w, m)
	return nil
}

// proceedFor is how long a member that comes stays in its Proceed state, so that a client who has completed the action sees
// it. One that goes is in its own until EC2 has ended the instance.
const proceedFor = 200 * time.Millisecond

// proceed takes a member out of its Wait state when all of its hooks are through. One that was abandoned stays for the loop
// to decide about.
func (m *Member) proceed(now time.Time) {
	for _, p := range m.Pauses {
		if p.Result != "CONTINUE" {
			return
		}
	}
	base, waits := strings.CutSuffix(m.State, ":Wait")
	if !waits {
		return
	}
	m.State, m.Pauses, m.ProceedTill = base+":Proceed", nil, now.Add(proceedFor)
}

// Heartbeat is RecordLifecycleActionHeartbeat: the hook's whole timeout begins again, within its global timeout.
func (e *Engine) Heartbeat(w *store.WriteTx, s scope.Scope, group, hook, token, instance string) error {
	m, i, err := e.pause(w, s, group, hook, token, instance)
	if err != nil {
		return err
	}
	m.Pauses = slices.Clone(m.Pauses)
	p := &m.Pauses[i]
	p.Deadline = earlier(w.Now().Add(p.Heartbeat), p.GlobalUntil)
	Members.Put(w, m)
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
