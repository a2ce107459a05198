package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/spf13/cobra"

	"skerry/internal/awsclient"
	"skerry/internal/scaling"
	"skerry/internal/simulate"
)

const simulateLong = `Plays an Auto Scaling group through a traffic trace in virtual time, with the code that the cloud itself decides with.

The group comes from the running cloud (--group), from a file in the CLI's JSON (--group-file), or is part of an example.
Each --policies file is a candidate: what describe-policies prints, or the input of put-scaling-policy; MetricAlarms,
ScheduledUpdateGroupActions and a WarmPoolConfiguration may stand beside ScalingPolicies. --cpu-target N is short for target
tracking at N % of the CPU. The traffic comes from a CSV file of times and requests (--trace), or has a shape (--shape).
Predictive policies need a day of load before their first forecast: a trace that is longer, or --history.
The group begins with its own desired capacity in service, or that of --desired.`

const simulateExamples = `  skerry simulate --example black-friday --peak-instances 100 --cpu-target 30,50,70 --compare
  skerry simulate --group web --cpu-target 40,60 --shape week --peak-rate 2000 --boot-time 90s --svg week.svg
  skerry simulate --group-file group.json --policies today.json --policies other.json --trace traffic.csv --json`

// simulateFlags are the command's settings.
type simulateFlags struct {
	example, group, groupFile, endpoint, region string
	policies                                    []string
	targets                                     []float64
	trace, shape                                string
	peakRate                                    float64
	peakInstances, workers                      int
	metrics                                     map[string]string
	step, service, boot, drain, patience, mtbf  time.Duration
	warmBoot, history                           time.Duration
	bytesIn, bytesOut, memoryIdle, memoryBusy   float64
	desired                                     int
	price, objectiveP95, objectiveUnserved      float64
	seed                                        uint64
	asJSON, compare, points                     bool
	svg, png                                    string
}

func simulateCommand() *cobra.Command {
	c := &cobra.Command{Use: "simulate", Short: "Try scaling policies on a traffic trace, a week in a second", Long: simulateLong, Example: simulateExamples, Args: cobra.NoArgs}
	var o simulateFlags
	f := c.Flags()
	f.StringVar(&o.example, "example", "", "built-in scenario: "+strings.Join(simulate.Examples, ", "))
	f.IntVar(&o.peakInstances, "peak-instances", 100, "instances that an example's busiest minute needs")
	f.StringVar(&o.group, "group", "", "group of the running cloud, with its policies as the first candidate")
	f.StringVar(&o.groupFile, "group-file", "", "file with a group, as describe-auto-scaling-groups prints it")
	f.StringVar(&o.endpoint, "endpoint", os.Getenv("AWS_ENDPOINT_URL"), "endpoint of the running cloud, for --group")
	f.StringVar(&o.region, "region", "us-east-1", "region of --group")
	f.StringArrayVar(&o.policies, "policies", nil, "file with a candidate's policies; may be repeated")
	f.Float64SliceVar(&o.targets, "cpu-target", nil, "a candidate with target tracking at this percentage of the CPU; may be repeated")
	f.StringVar(&o.trace, "trace", "", "CSV file: a time and the requests from then on, per line")
	f.StringVar(&o.shape, "shape", "", "generated traffic: "+strings.Join(simulate.Shapes, ", "))
	f.Float64Var(&o.peakRate, "peak-rate", 1000, "requests a second at the peak of --shape")
	f.DurationVar(&o.step, "step", time.Minute, "length of a step")
	f.DurationVar(&o.service, "service-time", 100*time.Millisecond, "mean time that a request takes in an instance")
	f.IntVar(&o.workers, "workers", 2, "requests that an instance serves at once")
	f.DurationVar(&o.boot, "boot-time", 30*time.Second, "from an instance's launch to its first request")
	f.DurationVar(&o.drain, "drain-time", 30*time.Second, "from the decision to remove an instance to its termination")
	f.DurationVar(&o.patience, "patience", 5*time.Second, "a request that would wait longer is not served")
	f.DurationVar(&o.warmBoot, "warm-boot-time", 10*time.Second, "from the start of a stopped instance of the warm pool to its first request")
	f.Float64Var(&o.bytesIn, "bytes-in", 0, "bytes of a request, for policies on NetworkIn")
	f.Float64Var(&o.bytesOut, "bytes-out", 0, "bytes of a response, for policies on NetworkOut")
	f.Float64Var(&o.memoryIdle, "memory-idle", 0, "percent of its memory that an idle instance uses, for policies on mem_used_percent")
	f.Float64Var(&o.memoryBusy, "memory-busy", 0, "percent of its memory that an instance uses when all its workers are busy")
	f.StringToStringVar(&o.metrics, "metric", nil, "NAME=METRIC: a customized metric goes like this one of "+strings.Join(simulate.MetricNames(), ", ")+"; may be repeated")
	f.IntVar(&o.desired, "desired", -1, "desired capacity at the trace's beginning; -1 is the group's own")
	f.DurationVar(&o.history, "history", 0, "time before the trace in which it has repeated itself, for forecasts")
	f.Float64Var(&o.price, "price", 0.0416, "USD an instance-hour; types in a mixed instances policy have the catalogue's prices")
	f.DurationVar(&o.mtbf, "instance-mtbf", 0, "mean time between failures of an instance; 0 for none")
	f.Uint64Var(&o.seed, "seed", 1, "of the noise in generated traffic, and of failures")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	f.BoolVar(&o.points, "points", false, "with --json: every step too")
	f.StringVar(&o.svg, "svg", "", "write the plot to this file")
	f.StringVar(&o.png, "png", "", "write the plot to this file")
	f.BoolVar(&o.compare, "compare", false, "pick the cheapest candidate that keeps the objective; exit status 1 when none does")
	f.Float64Var(&o.objectiveP95, "max-p95", 100, "objective: milliseconds that 95 % of the requests queue at most")
	f.Float64Var(&o.objectiveUnserved, "max-unserved", 0.001, "objective: share of the requests without capacity")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SilenceUsage = true
		return o.run(cmd.Context(), cmd.OutOrStdout())
	}
	return c
}

func (o *simulateFlags) run(ctx context.Context, out io.Writer) error {
	s, candidates, err := o.scenario(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var results []simulate.Result
	for _, c := range candidates {
		s.Candidate = c
		r, err := simulate.Run(s)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		results = append(results, r)
	}
	elapsed := time.Since(began)
	for _, f := range []struct {
		name string
		draw func(io.Writer, []simulate.Result) error
	}{{o.svg, s.SVG}, {o.png, s.PNG}} {
		if f.name == "" {
			continue
		}
		if err := writeFile(f.name, func(w io.Writer) error { return f.draw(w, results) }); err != nil {
			return err
		}
	}
	objective := simulate.Objective{P95: o.objectiveP95, Unserved: o.objectiveUnserved}
	best := objective.Cheapest(results)
	if o.asJSON {
		err = o.writeJSON(out, results, best, elapsed)
	} else {
		o.writeText(out, s, results, best, elapsed)
	}
	if err == nil && o.compare && best < 0 {
		err = errors.New("no candidate keeps the objective; raise the group's MaxSize, lower a target, or allow more by --max-p95 and --max-unserved")
	}
	return err
}

// scenario reads the group, the traffic and the candidates.
func (o *simulateFlags) scenario(ctx context.Context) (simulate.Scenario, []simulate.Candidate, error) {
	s := simulate.Scenario{Service: o.service, Workers: o.workers, Boot: o.boot, Drain: o.drain, Patience: o.patience, Price: o.price, MTBF: o.mtbf, Seed: o.seed,
		WarmBoot: o.warmBoot, BytesIn: o.bytesIn, BytesOut: o.bytesOut, MemIdle: o.memoryIdle, MemBusy: o.memoryBusy, History: o.history, Metrics: map[string]simulate.Metric{},
		Start: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
	for name, as := range o.metrics {
		m, err := simulate.ParseMetric(as)
		if err != nil {
			return s, nil, fmt.Errorf("--metric %s: %w", name, err)
		}
		s.Metrics[name] = m
	}
	if o.service <= 0 || o.workers < 1 {
		return s, nil, errors.New("--service-time and --workers must be above 0")
	}
	var candidates []simulate.Candidate
	sources := 0
	for _, x := range []string{o.example, o.group, o.groupFile} {
		if x != "" {
			sources++
		}
	}
	if sources != 1 {
		return s, nil, errors.New("say what to simulate by one of --example, --group and --group-file")
	}
	switch {
	case o.example != "":
		ex, err := simulate.Example(o.example, o.peakInstances, o.step, o.seed)
		if err != nil {
			return s, nil, err
		}
		s.Group, s.Zones, s.Trace = ex.Group, ex.Zones, ex.Trace
		same := float64(o.workers) / float64(ex.Workers) * float64(ex.Service) / float64(o.service) // the peak is in instances
		for i := range s.Trace.Demand {
			s.Trace.Demand[i] *= same
		}
		if len(o.policies) == 0 && len(o.targets) == 0 {
			candidates = append(candidates, ex.Candidate)
		}
	case o.group != "":
		group, policies, err := o.fetch(ctx)
		if err != nil {
			return s, nil, err
		}
		if s.Group, s.Zones, err = simulate.ReadGroup(group); err != nil {
			return s, nil, err
		}
		c, err := simulate.ReadCandidate("as it is", policies)
		if err != nil && !errors.Is(err, simulate.ErrNoPolicies) {
			return s, nil, err
		}
		c.Name = "as it is"
		if err != nil {
			c.Name = "as it is, without policies"
		}
		candidates = append(candidates, c)
	default:
		doc, err := os.ReadFile(o.groupFile)
		if err != nil {
			return s, nil, err
		}
		if s.Group, s.Zones, err = simulate.ReadGroup(doc); err != nil {
			return s, nil, err
		}
	}
	if o.desired >= 0 {
		s.Group.Desired = o.desired
	}
	for _, file := range o.policies {
		doc, err := os.ReadFile(file)
		if err != nil {
			return s, nil, err
		}
		c, err := simulate.ReadCandidate(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), doc)
		if err != nil {
			return s, nil, err
		}
		candidates = append(candidates, c)
	}
	for _, t := range o.targets {
		candidates = append(candidates, simulate.Candidate{Name: fmt.Sprintf("CPU at %g %%", t), Policies: []simulate.Policy{{Policy: scaling.Policy{Name: "cpu", Type: scaling.TargetTracking,
			Enabled: true, Tracking: &scaling.Tracking{Predefined: "ASGAverageCPUUtilization", Target: t}}}}})
	}
	if len(candidates) == 0 {
		return s, nil, errors.New("give at least one candidate by --policies or --cpu-target")
	}
	var err error
	switch {
	case o.trace != "" && o.shape != "":
		return s, nil, errors.New("the traffic is either a --trace or a --shape")
	case o.trace != "":
		f, err := os.Open(o.trace)
		if err != nil {
			return s, nil, err
		}
		defer f.Close()
		var start time.Time
		if s.Trace, start, err = simulate.ReadTrace(f, o.step); err != nil {
			return s, nil, err
		}
		if !start.IsZero() {
			s.Start = start
		}
	case o.shape != "":
		s.Trace, err = simulate.Generate(o.shape, o.step, o.peakRate, o.seed)
	case o.example == "":
		err = errors.New("give the traffic by --trace or --shape")
	}
	return s, candidates, err
}

// fetch reads the group, its policies, their alarms and its scheduled actions from the running cloud, as JSON documents.
func (o *simulateFlags) fetch(ctx context.Context) (group, policies []byte, err error) {
	endpoint := o.endpoint
	if endpoint == "" {
		endpoint = "http://127.0.0.1:4566"
	}
	key, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if key == "" {
		key, secret = "skerry", "skerry"
	}
	cfg := awsclient.Config(endpoint, o.region, key, secret, os.Getenv("AWS_SESSION_TOKEN"))
	as, cw := autoscaling.NewFromConfig(cfg), cloudwatch.NewFromConfig(cfg)
	groups, err := as.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{o.group}})
	var unreachable *net.OpError
	if errors.As(err, &unreachable) {
		return nil, nil, fmt.Errorf("no cloud answers at %s (%w); start one by \"skerry up\", or say where it is by --endpoint", endpoint, unreachable.Err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the group %s from the cloud at %s: %w", o.group, endpoint, err)
	}
	if len(groups.AutoScalingGroups) == 0 {
		return nil, nil, fmt.Errorf("the cloud at %s has no group %q in %s", endpoint, o.group, o.region)
	}
	if group, err = json.Marshal(map[string]any{"AutoScalingGroups": groups.AutoScalingGroups}); err != nil {
		return nil, nil, err
	}
	doc := map[string]any{}
	ps, err := as.DescribePolicies(ctx, &autoscaling.DescribePoliciesInput{AutoScalingGroupName: &o.group})
	if err != nil {
		return nil, nil, err
	}
	doc["ScalingPolicies"] = ps.ScalingPolicies
	var names []string
	for _, p := range ps.ScalingPolicies {
		for _, a := range p.Alarms {
			names = append(names, aws.ToString(a.AlarmName))
		}
	}
	if len(names) > 0 {
		alarms, err := cw.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: names})
		if err != nil {
			return nil, nil, err
		}
		doc["MetricAlarms"] = alarms.MetricAlarms
	}
	scheduled, err := as.DescribeScheduledActions(ctx, &autoscaling.DescribeScheduledActionsInput{AutoScalingGroupName: &o.group})
	if err != nil {
		return nil, nil, err
	}
	doc["ScheduledUpdateGroupActions"] = scheduled.ScheduledUpdateGroupActions
	policies, err = json.Marshal(doc)
	return group, policies, err
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// writeJSON prints the first result's figures, or with several candidates the chosen one's, and all of them below.
func (o *simulateFlags) writeJSON(w io.Writer, rs []simulate.Result, best int, elapsed time.Duration) error {
	type full struct {
		simulate.Result
		Points []simulate.Point `json:"points,omitempty"`
	}
	var all []full
	for _, r := range rs {
		x := full{Result: r}
		if o.points {
			x.Points = r.Points
		}
		all = append(all, x)
	}
	top := full{Result: rs[0]}
	if best >= 0 && len(rs) > 1 {
		top.Result = rs[best]
	}
	if len(rs) == 1 {
		top = all[0]
	}
	doc := struct {
		Elapsed float64 `json:"elapsed_ms"`
		full
		Chosen     *string `json:"chosen,omitempty"`
		Candidates []full  `json:"candidates,omitempty"`
	}{Elapsed: float64(elapsed.Microseconds()) / 1000, full: top}
	if len(rs) > 1 {
		doc.Candidates = all
		if best >= 0 {
			doc.Chosen = &rs[best].Candidate
		}
	}
	return json.NewEncoder(w).Encode(doc)
}

func (o *simulateFlags) writeText(w io.Writer, s simulate.Scenario, rs []simulate.Result, best int, elapsed time.Duration) {
	for _, r := range rs {
		fmt.Fprintf(w, "%s\n%s\n", r.Candidate, s.Text(r))
	}
	fmt.Fprintf(w, "%-36s %8s %8s %12s %12s %12s %10s %9s\n", "candidate", "peak", "mean", "hours", "USD", "unserved", "p95 ms", "changes")
	for i, r := range rs {
		mark := ""
		if o.compare && i == best {
			mark = "  <- the cheapest that keeps the objective"
		}
		fmt.Fprintf(w, "%-36.36s %8d %8.1f %12.1f %12.2f %12d %10.1f %9d%s\n", r.Candidate, r.PeakInstances, r.MeanInstances, r.InstanceHours, r.Cost, r.Unserved, r.P95, r.Changes, mark)
	}
	for _, r := range rs {
		for _, n := range r.Notes {
			fmt.Fprintf(w, "note on %s: %s\n", r.Candidate, n)
		}
	}
	fmt.Fprintf(w, "\n%d steps of %v each, %d requests, simulated in %v\n", rs[0].Steps, s.Trace.Step, rs[0].Requests, elapsed.Round(time.Millisecond))
}
