package asgapi

import (
	"encoding/json"
	"strings"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// pairs are the load and scaling metrics of the predefined pairs.
var pairs = map[string][2]string{"ASGCPUUtilization": {"ASGTotalCPUUtilization", "ASGAverageCPUUtilization"}, "ASGNetworkIn": {"ASGTotalNetworkIn", "ASGAverageNetworkIn"},
	"ASGNetworkOut": {"ASGTotalNetworkOut", "ASGAverageNetworkOut"}, "ALBRequestCount": {"ALBTargetGroupRequestCount", "ALBRequestCountPerTarget"}}

const defaultBuffer = 300

func predictive(c *as.PredictiveScalingConfiguration) (*scaling.Predictive, error) {
	if len(c.MetricSpecifications) != 1 {
		return nil, invalid("MetricSpecifications must contain exactly one metric specification.")
	}
	m := c.MetricSpecifications[0]
	p := &scaling.Predictive{Target: api.Val(m.TargetValue), Scale: api.Val(c.Mode) == "ForecastAndScale", Buffer: defaultBuffer,
		IncreaseMax: api.Val(c.MaxCapacityBreachBehavior) == "IncreaseMaxCapacity", MaxBuffer: int(api.Val(c.MaxCapacityBuffer))}
	if b := c.SchedulingBufferTime; b != nil {
		p.Buffer, p.OwnBuffer = int(*b), true
	}
	load, scale := m.PredefinedLoadMetricSpecification, m.PredefinedScalingMetricSpecification
	if l := m.CustomizedLoadMetricSpecification; l != nil {
		p.LoadQueries = document(l.MetricDataQueries)
	}
	if x := m.CustomizedScalingMetricSpecification; x != nil {
		p.ScalingQueries = document(x.MetricDataQueries)
	}
	if x := m.CustomizedCapacityMetricSpecification; x != nil {
		p.CapacityQueries = document(x.MetricDataQueries)
	}
	if pair := m.PredefinedMetricPairSpecification; pair != nil {
		if load != nil || scale != nil || p.LoadQueries != nil || p.ScalingQueries != nil {
			return nil, invalid("A PredefinedMetricPairSpecification cannot be specified with a load or scaling metric of its own.")
		}
		x, ok := pairs[api.Val(pair.PredefinedMetricType)]
		if !ok {
			return nil, invalid("Invalid PredefinedMetricType: %s.", api.Val(pair.PredefinedMetricType))
		}
		p.Load, p.Scaling, p.ResourceLabel = x[0], x[1], api.Val(pair.ResourceLabel)
		return p, nil
	}
	if (load == nil) == (p.LoadQueries == nil) || (scale == nil) == (p.ScalingQueries == nil) {
		return nil, invalid("A metric specification must contain a predefined metric pair, or a load and a scaling metric, each either predefined or customized.")
	}
	p.Apart = true
	if load != nil {
		p.Load, p.ResourceLabel = api.Val(load.PredefinedMetricType), api.Val(load.ResourceLabel)
	}
	if scale != nil {
		p.Scaling = api.Val(scale.PredefinedMetricType)
		if l := api.Val(scale.ResourceLabel); p.ResourceLabel == "" {
			p.ResourceLabel = l
		} else if l != "" && l != p.ResourceLabel {
			return nil, invalid("The load and the scaling metric must have the same ResourceLabel.")
		}
	}
	return p, nil
}

func predictiveWire(p *scaling.Predictive) *as.PredictiveScalingConfiguration {
	if p == nil {
		return nil
	}
	out := &as.PredictiveScalingConfiguration{Mode: api.Ptr("ForecastOnly"), MaxCapacityBreachBehavior: api.Ptr("HonorMaxCapacity"),
		MetricSpecifications: []as.PredictiveScalingMetricSpecification{metricSpecification(p)}}
	if p.OwnBuffer {
		out.SchedulingBufferTime = num(p.Buffer)
	}
	if p.Scale {
		out.Mode = api.Ptr("ForecastAndScale")
	}
	if p.IncreaseMax {
		out.MaxCapacityBreachBehavior, out.MaxCapacityBuffer = api.Ptr("IncreaseMaxCapacity"), num(p.MaxBuffer)
	}
	return out
}

func metricSpecification(p *scaling.Predictive) as.PredictiveScalingMetricSpecification {
	out := as.PredictiveScalingMetricSpecification{TargetValue: &p.Target}
	queries := func(doc json.RawMessage) (qs []as.MetricDataQuery) {
		if json.Unmarshal(doc, &qs) != nil {
			return nil
		}
		return qs
	}
	if len(p.CapacityQueries) > 0 {
		out.CustomizedCapacityMetricSpecification = &as.PredictiveScalingCustomizedCapacityMetric{MetricDataQueries: queries(p.CapacityQueries)}
	}
	if !p.Apart {
		for name, x := range pairs {
			if x[0] == p.Load {
				out.PredefinedMetricPairSpecification = &as.PredictiveScalingPredefinedMetricPair{PredefinedMetricType: &name, ResourceLabel: text(p.ResourceLabel)}
			}
		}
		return out
	}
	label := func(metric string) *string {
		if strings.HasPrefix(metric, "ALB") {
			return text(p.ResourceLabel)
		}
		return nil
	}
	if len(p.LoadQueries) > 0 {
		out.CustomizedLoadMetricSpecification = &as.PredictiveScalingCustomizedLoadMetric{MetricDataQueries: queries(p.LoadQueries)}
	} else {
		out.PredefinedLoadMetricSpecification = &as.PredictiveScalingPredefinedLoadMetric{PredefinedMetricType: &p.Load, ResourceLabel: label(p.Load)}
	}
	if len(p.ScalingQueries) > 0 {
		out.CustomizedScalingMetricSpecification = &as.PredictiveScalingCustomizedScalingMetric{MetricDataQueries: queries(p.ScalingQueries)}
	} else {
		out.PredefinedScalingMetricSpecification = &as.PredictiveScalingPredefinedScalingMetric{PredefinedMetricType: &p.Scaling, ResourceLabel: label(p.Scaling)}
	}
	return out
}

func (s *Server) getPredictiveScalingForecast(c *api.Call, in *as.GetPredictiveScalingForecastType) (*as.GetPredictiveScalingForecastAnswer, error) {
	if in.StartTime == nil || in.EndTime == nil || !in.StartTime.Before(*in.EndTime) {
		return nil, invalid("StartTime must be before EndTime.")
	}
	out := &as.GetPredictiveScalingForecastAnswer{}
	return out, c.View(func(tx store.Tx) error {
		p, err := s.ofPolicy(c, tx, in.AutoScalingGroupName, in.PolicyName, "GetPredictiveScalingForecast")
		if err != nil {
			return err
		}
		f, err := s.Engine.ForecastOf(tx, p)
		if err != nil {
			return err
		}
		times, load, capacity := f.Between(*in.StartTime, *in.EndTime, s.Engine.Hour())
		out.UpdateTime = &f.At
		out.CapacityForecast = &as.CapacityForecast{Timestamps: times, Values: capacity}
		out.LoadForecast = []as.LoadForecast{{Timestamps: times, Values: load, MetricSpecification: api.Ptr(metricSpecification(p.Predictive))}}
		return nil
	})
}
