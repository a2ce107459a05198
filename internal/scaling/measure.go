package scaling

import (
	"slices"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// GroupMetrics are the metrics of groups that can be collected.
var GroupMetrics = []string{"GroupMinSize", "GroupMaxSize", "GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances", "GroupStandbyInstances",
	"GroupTerminatingInstances", "GroupTotalInstances", "GroupInServiceCapacity", "GroupPendingCapacity", "GroupStandbyCapacity", "GroupTerminatingCapacity", "GroupTotalCapacity",
	"WarmPoolDesiredCapacity", "WarmPoolMinSize", "WarmPoolPendingCapacity", "WarmPoolTerminatingCapacity", "WarmPoolTotalCapacity", "WarmPoolWarmedCapacity",
	"GroupAndWarmPoolDesiredCapacity", "GroupAndWarmPoolTotalCapacity"}

// Measure is one value of a group's metric, or of a predictive policy's; its namespace is AWS/AutoScaling.
type Measure struct {
	scope.Scope
	Group, Policy, Metric string
	Pair                  bool // of a policy: of its pair of metrics
	Value                 float64
}

// Dimensions are the metric's.
func (m Measure) Dimensions() map[string]string {
	d := map[string]string{"AutoScalingGroupName": m.Group}
	if m.Policy != "" {
		d["PolicyName"] = m.Policy
	}
	if m.Pair {
		d["PairIndex"] = "0" // a policy has one
	}
	return d
}

// Measures are the values of the metrics that groups have enabled, now. AWS publishes them every minute.
func Measures(tx store.Tx) []Measure {
	var out []Measure
	for g := range Groups.All(tx) {
		if len(g.Metrics) == 0 {
			continue
		}
		v := map[string]int{"GroupMinSize": g.Min, "GroupMaxSize": g.Max, "GroupDesiredCapacity": g.Desired}
		if g.Warm != nil {
			v["WarmPoolDesiredCapacity"], v["WarmPoolMinSize"] = g.WarmSize(), g.Warm.Min
		}
		v["GroupAndWarmPoolDesiredCapacity"] = g.Desired + g.WarmSize()
		for _, m := range MembersOf(tx, g) {
			kind := ""
			v["GroupAndWarmPoolTotalCapacity"] += max(1, m.Weight)
			switch m.State {
			case WarmedStopped, WarmedRunning:
				kind = "Warmed"
			case WarmedPending, WarmedPendingWait, WarmedPendingProceed:
				kind = "Pending"
			case WarmedTerminating, WarmedTerminatingWait, WarmedTerminatingProceed:
				kind = "Terminating"
			}
			if m.Warmed() {
				v["WarmPool"+kind+"Capacity"]++
				v["WarmPoolTotalCapacity"]++
				continue
			}
			switch m.State {
			case Pending, PendingWait, PendingProceed:
				kind = "Pending"
			case InService, EnteringStandby:
				kind = "InService"
			case Standby:
				kind = "Standby"
			default:
				kind = "Terminating"
			}
			for _, k := range []string{kind, "Total"} {
				v["Group"+k+"Instances"]++
				v["Group"+k+"Capacity"] += max(1, m.Weight)
			}
		}
		for _, name := range GroupMetrics {
			if slices.Contains(g.Metrics, name) {
				out = append(out, Measure{Scope: g.Scope, Group: g.Name, Metric: name, Value: float64(v[name])})
			}
		}
	}
	return out
}

// EnableMetrics begins to collect metrics of a group; none named are all.
func (e *Engine) EnableMetrics(w *store.WriteTx, s scope.Scope, group string, names []string) error {
	g, err := openGroup(w, s, group)
	if err != nil {
		return err
	}
	if names, err = checkMetrics(names); err != nil {
		return err
	}
	var all []string
	for _, m := range GroupMetrics {
		if slices.Contains(g.Metrics, m) || slices.Contains(names, m) {
			all = append(all, m)
		}
	}
	g.Metrics = all
	Groups.Put(w, g)
	return nil
}

// DisableMetrics ends it; none named are all.
func (e *Engine) DisableMetrics(w *store.WriteTx, s scope.Scope, group string, names []string) error {
	g, err := openGroup(w, s, group)
	if err != nil {
		return err
	}
	if names, err = checkMetrics(names); err != nil {
		return err
	}
	g.Metrics = slices.DeleteFunc(slices.Clone(g.Metrics), func(m string) bool { return slices.Contains(names, m) })
	Groups.Put(w, g)
	return nil
}

func checkMetrics(names []string) ([]string, error) {
	if len(names) == 0 {
		return GroupMetrics, nil
	}
	for _, n := range names {
		if !slices.Contains(GroupMetrics, n) {
			return nil, invalid("%s is not a valid metric type", n)
		}
	}
	return names, nil
}
