package asgapi

import (
	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/fault"
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
	if m.CustomizedLoadMetricSpecification != nil || m.CustomizedScalingMetricSpecification != nil || m.CustomizedCapacityMetricSpecification != nil {
		return nil, fault.New(fault.Unsupported, "ValidationError", "Customized metrics of predictive scaling policies are not supported. Use a predefined metric pair.")
	}
	p := &scaling.Predictive{Target: api.Val(m.TargetValue), Scale: api.Val(c.Mode) == "ForecastAndScale", Buffer: defaultBuffer,
		IncreaseMax: api.Val(c.MaxCapacityBreachBehavior) == "IncreaseMaxCapacity", MaxBuffer: int(api.Val(c.MaxCapacityBuffer))}
	if b := c.SchedulingBufferTime; b != nil {
		p.Buffer, p.OwnBuffer = int(*b), true
	}
	load, scale := m.PredefinedLoadMetricSpecification, m.PredefinedScalingMetricSpecification
	switch {
	case m.PredefinedMetricPairSpecification != nil && (load != nil || scale != nil):
		return nil, invalid("A PredefinedMetricPairSpecification cannot be specified with a load or scaling metric of its own.")
	case m.PredefinedMetricPairSpecification != nil:
		pair := m.PredefinedMetricPairSpecification
		x, ok := pairs[api.Val(pair.PredefinedMetricType)]
		if !ok {
			return nil, invalid("Invalid PredefinedMetricType: %s.", api.Val(pair.PredefinedMetricType))
		}
		p.Load, p.Scaling, p.ResourceLabel = x[0], x[1], api.Val(pair.ResourceLabel)
	case load != nil && scale != nil:
		p.Apart = true
		p.Load, p.Scaling, p.ResourceLabel = api.Val(load.PredefinedMetricType), api.Val(scale.PredefinedMetricType), api.Val(load.ResourceLabel)
		if api.Val(scale.ResourceLabel) != p.ResourceLabel {
			return nil, invalid("The load and the scaling metric must have the same ResourceLabel.")
		}
	default:
		return nil, invalid("A metric specification must contain a predefined metric pair, or a load and a scaling metric.")
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
	if p.Apart {
		out.PredefinedLoadMetricSpecification = &as.PredictiveScalingPredefinedLoadMetric{PredefinedMetricType: &p.Load, ResourceLabel: text(p.ResourceLabel)}
		out.PredefinedScalingMetricSpecification = &as.PredictiveScalingPredefinedScalingMetric{PredefinedMetricType: &p.Scaling, ResourceLabel: text(p.ResourceLabel)}
		return out
	}
	for name, x := range pairs {
		if x[0] == p.Load {
			out.PredefinedMetricPairSpecification = &as.PredictiveScalingPredefinedMetricPair{PredefinedMetricType: &name, ResourceLabel: text(p.ResourceLabel)}
		}
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
