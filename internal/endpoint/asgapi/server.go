package asgapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/fault"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// Server serves Auto Scaling. Set the fields before Register.
type Server struct {
	DB     *store.DB
	Engine *scaling.Engine
}

// Register joins the operations to their handlers.
func (s *Server) Register(m *api.Mux) {
	api.Handle(m, as.CreateAutoScalingGroup, s.createAutoScalingGroup)
	api.Handle(m, as.UpdateAutoScalingGroup, s.updateAutoScalingGroup)
	api.Handle(m, as.DeleteAutoScalingGroup, s.deleteAutoScalingGroup)
	api.Handle(m, as.DescribeAutoScalingGroups, s.describeAutoScalingGroups)
	api.Handle(m, as.DescribeAutoScalingInstances, s.describeAutoScalingInstances)
	api.Handle(m, as.SetDesiredCapacity, s.setDesiredCapacity)
	api.Handle(m, as.SuspendProcesses, s.suspendProcesses)
	api.Handle(m, as.ResumeProcesses, s.resumeProcesses)
	api.Handle(m, as.EnableMetricsCollection, s.enableMetricsCollection)
	api.Handle(m, as.DisableMetricsCollection, s.disableMetricsCollection)
	api.Handle(m, as.DescribeScalingActivities, s.describeScalingActivities)

	api.Handle(m, as.AttachInstances, s.attachInstances)
	api.Handle(m, as.LaunchInstances, s.launchInstances)
	api.Handle(m, as.DetachInstances, s.detachInstances)
	api.Handle(m, as.EnterStandby, s.enterStandby)
	api.Handle(m, as.ExitStandby, s.exitStandby)
	api.Handle(m, as.SetInstanceHealth, s.setInstanceHealth)
	api.Handle(m, as.SetInstanceProtection, s.setInstanceProtection)
	api.Handle(m, as.TerminateInstanceInAutoScalingGroup, s.terminateInstanceInAutoScalingGroup)

	api.Handle(m, as.AttachLoadBalancerTargetGroups, s.attachLoadBalancerTargetGroups)
	api.Handle(m, as.DetachLoadBalancerTargetGroups, s.detachLoadBalancerTargetGroups)
	api.Handle(m, as.DescribeLoadBalancerTargetGroups, s.describeLoadBalancerTargetGroups)
	api.Handle(m, as.AttachTrafficSources, s.attachTrafficSources)
	api.Handle(m, as.DetachTrafficSources, s.detachTrafficSources)
	api.Handle(m, as.DescribeTrafficSources, s.describeTrafficSources)
	api.Handle(m, as.AttachLoadBalancers, s.attachLoadBalancers)
	api.Handle(m, as.DetachLoadBalancers, s.detachLoadBalancers)
	api.Handle(m, as.DescribeLoadBalancers, s.describeLoadBalancers)

	api.Handle(m, as.PutScalingPolicy, s.putScalingPolicy)
	api.Handle(m, as.DescribePolicies, s.describePolicies)
	api.Handle(m, as.DeletePolicy, s.deletePolicy)
	api.Handle(m, as.ExecutePolicy, s.executePolicy)
	api.Handle(m, as.GetPredictiveScalingForecast, s.getPredictiveScalingForecast)

	api.Handle(m, as.PutScheduledUpdateGroupAction, s.putScheduledUpdateGroupAction)
	api.Handle(m, as.BatchPutScheduledUpdateGroupAction, s.batchPutScheduledUpdateGroupAction)
	api.Handle(m, as.BatchDeleteScheduledAction, s.batchDeleteScheduledAction)
	api.Handle(m, as.DeleteScheduledAction, s.deleteScheduledAction)
	api.Handle(m, as.DescribeScheduledActions, s.describeScheduledActions)

	api.Handle(m, as.PutLifecycleHook, s.putLifecycleHook)
	api.Handle(m, as.DeleteLifecycleHook, s.deleteLifecycleHook)
	api.Handle(m, as.DescribeLifecycleHooks, s.describeLifecycleHooks)
	api.Handle(m, as.CompleteLifecycleAction, s.completeLifecycleAction)
	api.Handle(m, as.RecordLifecycleActionHeartbeat, s.recordLifecycleActionHeartbeat)

	api.Handle(m, as.StartInstanceRefresh, s.startInstanceRefresh)
	api.Handle(m, as.CancelInstanceRefresh, s.cancelInstanceRefresh)
	api.Handle(m, as.RollbackInstanceRefresh, s.rollbackInstanceRefresh)
	api.Handle(m, as.DescribeInstanceRefreshes, s.describeInstanceRefreshes)

	api.Handle(m, as.PutWarmPool, s.putWarmPool)
	api.Handle(m, as.DescribeWarmPool, s.describeWarmPool)
	api.Handle(m, as.DeleteWarmPool, s.deleteWarmPool)

	api.Handle(m, as.CreateOrUpdateTags, s.createOrUpdateTags)
	api.Handle(m, as.DeleteTags, s.deleteTags)
	api.Handle(m, as.DescribeTags, s.describeTags)

	api.Handle(m, as.CreateLaunchConfiguration, s.createLaunchConfiguration)
	api.Handle(m, as.DeleteLaunchConfiguration, s.deleteLaunchConfiguration)
	api.Handle(m, as.DescribeLaunchConfigurations, s.describeLaunchConfigurations)

	api.Handle(m, as.PutNotificationConfiguration, s.putNotificationConfiguration)
	api.Handle(m, as.DeleteNotificationConfiguration, s.deleteNotificationConfiguration)
	api.Handle(m, as.DescribeNotificationConfigurations, s.describeNotificationConfigurations)

	api.Handle(m, as.DescribeAccountLimits, s.describeAccountLimits)
	api.Handle(m, as.DescribeAdjustmentTypes, s.describeAdjustmentTypes)
	api.Handle(m, as.DescribeAutoScalingNotificationTypes, s.describeAutoScalingNotificationTypes)
	api.Handle(m, as.DescribeLifecycleHookTypes, s.describeLifecycleHookTypes)
	api.Handle(m, as.DescribeMetricCollectionTypes, s.describeMetricCollectionTypes)
	api.Handle(m, as.DescribeScalingProcessTypes, s.describeScalingProcessTypes)
	api.Handle(m, as.DescribeTerminationPolicyTypes, s.describeTerminationPolicyTypes)
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationError", format, args...)
}

// required refuses a parameter that is missing, in AWS's words.
func required(name string, p *string) error {
	if api.Val(p) == "" {
		return invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", lowerFirst(name))
	}
	return nil
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return string(s[0]|0x20) + s[1:]
}

// group finds the request's group and asks whether the caller may do the action to it.
func (s *Server) group(c *api.Call, tx store.Tx, name *string, action string) (scaling.Group, error) {
	if err := required("AutoScalingGroupName", name); err != nil {
		return scaling.Group{}, err
	}
	g, err := scaling.GetGroup(tx, c.Scope(), *name)
	if err != nil {
		return g, err
	}
	return g, authorize(c, "autoscaling:"+action, g.ARN())
}

func authorize(c *api.Call, action, arn string) error {
	if c.Authorize == nil {
		return nil
	}
	return c.Authorize(action, arn)
}

// change runs fn on a group in one transaction.
func (s *Server) change(c *api.Call, name *string, action string, fn func(w *store.WriteTx, g scaling.Group) error) error {
	return c.Update(func(w *store.WriteTx) error {
		g, err := s.group(c, w, name, action)
		if err != nil {
			return err
		}
		return fn(w, g)
	})
}

// page cuts a page out of rows that are ordered. The token has the key of the last row that was given, and its place for when
// that row is gone.
func page[T any](rows []T, key func(T) string, maxRecords *int32, token *string, normal, most int) ([]T, *string, error) {
	size := normal
	if maxRecords != nil {
		if *maxRecords < 1 || int(*maxRecords) > most {
			return nil, nil, invalid("1 validation error detected: Value '%d' at 'maxRecords' failed to satisfy constraint: Member must have value between 1 and %d", *maxRecords, most)
		}
		size = int(*maxRecords)
	}
	start := 0
	if api.Val(token) != "" {
		b, err := base64.RawURLEncoding.DecodeString(*token)
		place, last, ok := strings.Cut(string(b), " ")
		n, bad := strconv.Atoi(place)
		if err != nil || !ok || bad != nil || n < 0 {
			return nil, nil, fault.New(fault.Invalid, "InvalidNextToken", "The token '%s' is invalid.", *token)
		}
		start = min(n, len(rows)) // where it was
		byKey := func(a, b T) int { return strings.Compare(key(a), key(b)) }
		if i := slices.IndexFunc(rows, func(r T) bool { return key(r) == last }); i >= 0 {
			start = i + 1
		} else if slices.IsSortedFunc(rows, byKey) {
			start, _ = slices.BinarySearchFunc(rows, last, func(r T, last string) int { return strings.Compare(key(r), last) })
		}
	}
	if len(rows)-start <= size {
		return rows[start:], nil, nil
	}
	end := start + size
	return rows[start:end], api.Ptr(base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", end-1, key(rows[end-1])))), nil
}

func num(v int) *int32 { return api.Ptr(int32(v)) }

func numPtr(v *int) *int32 {
	if v == nil {
		return nil
	}
	return num(*v)
}

func intPtr(v *int32) *int {
	if v == nil {
		return nil
	}
	return api.Ptr(int(*v))
}

// text is a string's pointer, nil for the empty one.
func text(v string) *string {
	if v == "" {
		return nil
	}
	return &v
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// store a setting as it was sent.
func document(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// restore a setting that document has stored; nil when there is none.
func restore[T any](g scaling.Group, name string) *T {
	raw, ok := g.Documents[name]
	if !ok {
		return nil
	}
	v := new(T)
	if json.Unmarshal(raw, v) != nil {
		return nil
	}
	return v
}
