package scaling

import (
	"encoding/json"
	"strings"
	"time"

	"skerry/internal/event"
	"skerry/internal/fault"
	"skerry/internal/store"
)

// The types of notifications.
const (
	NotifyLaunch         = "autoscaling:EC2_INSTANCE_LAUNCH"
	NotifyLaunchError    = "autoscaling:EC2_INSTANCE_LAUNCH_ERROR"
	NotifyTerminate      = "autoscaling:EC2_INSTANCE_TERMINATE"
	NotifyTerminateError = "autoscaling:EC2_INSTANCE_TERMINATE_ERROR"
	NotifyTest           = "autoscaling:TEST_NOTIFICATION"
)

// NotificationTypes lists them.
var NotificationTypes = []string{NotifyLaunch, NotifyLaunchError, NotifyTerminate, NotifyTerminateError, NotifyTest}

const (
	eventSource = "aws.autoscaling"
	serviceName = "AWS Auto Scaling"
	eventTime   = "2006-01-02T15:04:05.000Z"
)

// instanceIn finds the instance that an activity's description names.
func instanceIn(description string) string {
	i := strings.LastIndex(description, ": i-")
	if i < 0 {
		return ""
	}
	id, _, _ := strings.Cut(description[i+2:], " ")
	return strings.TrimSuffix(id, ".")
}

// tell tells of an activity that has ended: an event, and a notification to each topic that asked for it.
func (g Group) tell(w *store.WriteTx, a Activity) {
	if !event.HasSink(w) {
		return
	}
	launch, terminate := strings.HasPrefix(a.Description, "Launching a new EC2 instance"), strings.HasPrefix(a.Description, "Terminating EC2 instance")
	if !launch && !terminate {
		return
	}
	ok := a.Status == StatusSuccessful
	kind, word, verb := NotifyLaunch, "Launch", "launch"
	origin, destination := "EC2", "AutoScalingGroup"
	if terminate {
		kind, word, verb = NotifyTerminate, "Terminate", "termination"
		origin, destination = "AutoScalingGroup", "EC2"
	}
	switch {
	case strings.Contains(a.Description, "into warm pool"):
		destination = "WarmPool"
	case strings.Contains(a.Description, "from warm pool"):
		origin = "WarmPool"
	}
	detailType := "EC2 Instance " + word + " Successful"
	if !ok {
		kind, detailType, verb = kind+"_ERROR", "EC2 Instance "+word+" Unsuccessful", verb+" error"
	}
	id := instanceIn(a.Description)
	resources := []string{g.ARN()}
	if id != "" {
		resources = append(resources, g.Scope.ARN("ec2", "instance/"+id))
	}
	m := map[string]any{"StatusCode": map[bool]string{true: "InProgress", false: "Failed"}[ok], "Description": a.Description, "AutoScalingGroupName": g.Name, "ActivityId": a.ID,
		"Details": json.RawMessage(a.Details), "RequestId": a.ID, "StatusMessage": a.StatusMessage, "EndTime": a.End.UTC().Format(eventTime), "EC2InstanceId": id,
		"StartTime": a.Start.UTC().Format(eventTime), "Cause": a.Cause, "Origin": origin, "Destination": destination}
	event.Emit(w, g.Scope, eventSource, detailType, resources, m)
	g.notify(w, kind, verb, m)
}

// notify sends a message to the topics that asked for its kind.
func (g Group) notify(w *store.WriteTx, kind, verb string, detail map[string]any) {
	for _, n := range of(w, Notifications, g.Scope, g.Name) {
		if n.Type != kind {
			continue
		}
		m := map[string]any{"Progress": 50, "AccountId": g.Account, "AutoScalingGroupARN": g.ARN(), "Service": serviceName, "Time": w.Now().UTC().Format(eventTime), "Event": kind}
		for k, v := range detail {
			m[k] = v
		}
		event.Notify(w, n.Topic, `Auto Scaling: `+verb+` for group "`+g.Name+`"`, m)
	}
}

// tellHook tells that a member waits for a hook.
func (g Group) tellHook(w *store.WriteTx, h Hook, p Pause, m Member) {
	if !event.HasSink(w) {
		return
	}
	origin, destination, word := "EC2", "AutoScalingGroup", "launch"
	if h.Transition == TerminateHook {
		origin, destination, word = "AutoScalingGroup", "EC2", "terminate"
	}
	switch {
	case m.State == WarmedPendingWait && m.Reused:
		origin, destination = "AutoScalingGroup", "WarmPool"
	case m.State == WarmedPendingWait:
		destination = "WarmPool"
	case m.State == WarmedTerminatingWait:
		origin = "WarmPool"
	}
	d := map[string]any{"LifecycleActionToken": p.Token, "AutoScalingGroupName": g.Name, "LifecycleHookName": h.Name, "EC2InstanceId": m.ID, "LifecycleTransition": h.Transition,
		"Origin": origin, "Destination": destination}
	if h.NotificationMetadata != "" {
		d["NotificationMetadata"] = h.NotificationMetadata
	}
	event.Emit(w, g.Scope, eventSource, "EC2 Instance-"+word+" Lifecycle Action", []string{g.ARN()}, d)
	if h.NotificationTarget != "" {
		d["Service"], d["Time"], d["RequestId"], d["AccountId"] = serviceName, w.Now().UTC().Format(time.RFC3339), p.Token, g.Account
		event.Notify(w, h.NotificationTarget, `Auto Scaling:  Lifecycle action '`+strings.ToUpper(word)+`' for instance `+m.ID+` in progress.`, d)
	}
}

// tellTest sends the message that a new topic or hook gets.
func (g Group) tellTest(w *store.WriteTx, target string) {
	event.Notify(w, target, `Auto Scaling: test notification for group "`+g.Name+`"`, map[string]string{"AccountId": g.Account, "RequestId": newUUID(w.Rand()),
		"AutoScalingGroupARN": g.ARN(), "AutoScalingGroupName": g.Name, "Service": serviceName, "Event": NotifyTest, "Time": w.Now().UTC().Format(eventTime)})
}

// tellRefresh tells of a refresh that has begun, reached a checkpoint or ended.
func (g Group) tellRefresh(w *store.WriteTx, r Refresh, word string) {
	event.Emit(w, g.Scope, eventSource, "EC2 Auto Scaling Instance Refresh "+word, []string{g.ARN()}, map[string]any{"InstanceRefreshId": r.ID, "AutoScalingGroupName": g.Name})
}

// needSink refuses notifications that nobody would take.
func needSink(tx store.Tx) error {
	if event.HasSink(tx) {
		return nil
	}
	return fault.New(fault.Unsupported, "ValidationError", "Notifications are not supported by this cloud: it has no sink that takes them. Start it with 'skerry up --events-sink file:PATH' or an http:// URL.")
}
