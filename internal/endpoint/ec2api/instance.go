package ec2api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/store"
)

// maxInstanceIDs bounds the ids of one request.
const maxInstanceIDs = 1000

func (s *Server) registerInstances(m *api.Mux) {
	on(m, ec2.RunInstances, s.runInstances)
	on(m, ec2.DescribeInstances, s.describeInstances)
	on(m, ec2.TerminateInstances, s.terminateInstances)
	on(m, ec2.StopInstances, s.stopInstances)
	on(m, ec2.StartInstances, s.startInstances)
	on(m, ec2.RebootInstances, s.rebootInstances)
	on(m, ec2.GetConsoleOutput, s.getConsoleOutput)
	on(m, ec2.DescribeInstanceStatus, s.describeInstanceStatus)
	on(m, ec2.MonitorInstances, s.monitorInstances)
	on(m, ec2.UnmonitorInstances, s.unmonitorInstances)
	s.registerInstanceAttributes(m)
	s.registerVolumes(m)
	s.registerTypes(m)
}

// notSpec are the members of a request that say something else than what to launch, and AdditionalInfo, which EC2 reserves.
var notSpec = []string{"ClientToken", "DryRun", "MaxCount", "MinCount", "AdditionalInfo", "LaunchTemplate", "Operator"}

// specOf reads a request, whose JSON names are those of compute.LaunchSpec. What it asks for and LaunchSpec does not know
// is refused by name.
func specOf(in *ec2.RunInstancesRequest) (compute.LaunchSpec, error) {
	doc, err := json.Marshal(in)
	if err != nil {
		return compute.LaunchSpec{}, err
	}
	if no := compute.Unserved(doc, notSpec...); len(no) > 0 {
		return compute.LaunchSpec{}, fault.New(fault.Unsupported, "UnsupportedOperation", "The parameter %s is not supported.", no[0])
	}
	return compute.ParseSpec(doc)
}

func (s *Server) runInstances(c *api.Call, in *ec2.RunInstancesRequest) (*ec2.Reservation, error) {
	if in.MinCount == nil {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter MinCount")
	}
	if in.MaxCount == nil {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter MaxCount")
	}
	spec, err := specOf(in)
	if err != nil {
		return nil, err
	}
	if err := checkLaunchIDs(spec); err != nil {
		return nil, err
	}
	p := compute.LaunchParams{Scope: c.Scope(), Spec: spec, MinCount: int(*in.MinCount), MaxCount: int(*in.MaxCount), ClientToken: api.Val(in.ClientToken)}
	var out *ec2.Reservation
	err = c.Update(func(w *store.WriteTx) error {
		if lt := in.LaunchTemplate; lt != nil {
			v, err := compute.ResolveLaunchTemplate(w, c.Scope(), api.Val(lt.LaunchTemplateId), api.Val(lt.LaunchTemplateName), api.Val(lt.Version))
			if err != nil {
				return err
			}
			if p.Spec, err = compute.Overlay(v.Spec, spec); err != nil {
				return err
			}
			p.From = &v
		}
		if p := p.Spec.IamInstanceProfile; p != nil {
			if err := passRole(c, w, p.Arn, p.Name); err != nil {
				return err
			}
		}
		r, err := compute.Launch(w, p)
		if err != nil {
			return err
		}
		rs := reservations(w, r.Instances)
		out = &rs[0]
		return nil
	})
	return out, err
}

// checkLaunchIDs refuses malformed ids of a launch before anything is looked up.
func checkLaunchIDs(spec compute.LaunchSpec) error {
	if spec.ImageID != "" {
		if err := imageIDs.check(spec.ImageID); err != nil {
			return err
		}
	}
	if spec.SubnetID != "" {
		if err := subnetIDs.check(spec.SubnetID); err != nil {
			return err
		}
	}
	return groupIDs.check(spec.SecurityGroupIDs...)
}

// reservations groups instances by reservation in the order of their first instance.
func reservations(tx store.Tx, list []compute.Instance) []ec2.Reservation {
	wire := make([]described, len(list))
	for i, r := range list {
		wire[i] = describeInstance(tx, r)
	}
	return group(wire)
}

func group(list []described) []ec2.Reservation {
	out := []ec2.Reservation{}
	at := map[string]int{}
	for _, d := range list {
		i, ok := at[d.record.ReservationID]
		if !ok {
			i = len(out)
			at[d.record.ReservationID] = i
			out = append(out, ec2.Reservation{ReservationId: ptr(d.record.ReservationID), OwnerId: ptr(d.record.Account), RequesterId: str(d.record.RequesterID), Groups: []ec2.GroupIdentifier{}})
		}
		out[i].Instances = append(out[i].Instances, d.Instance)
	}
	return out
}

func (s *Server) describeInstances(c *api.Call, in *ec2.DescribeInstancesRequest) (*ec2.DescribeInstancesResult, error) {
	list, next, err := instanceListing.describe(c, in.InstanceIds, in.Filters, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeInstancesResult{Reservations: group(list), NextToken: next}, nil
}

// someInstances checks a request's ids.
func someInstances(ids []string) error {
	if len(ids) == 0 {
		return fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter InstanceId")
	}
	if len(ids) > maxInstanceIDs {
		return fault.New(fault.Invalid, "InvalidParameterValue", "A request may name at most %d instances.", maxInstanceIDs)
	}
	return instanceIDs.check(ids...)
}

// change runs one of the state machine's functions on the ids. An error that comes with changes leaves those in force.
func change(c *api.Call, ids []string, fn func(*store.WriteTx) ([]compute.Change, error)) ([]ec2.InstanceStateChange, error) {
	if err := someInstances(ids); err != nil {
		return nil, err
	}
	var changes []compute.Change
	var partial error
	err := c.Update(func(w *store.WriteTx) error {
		var err error
		changes, err = fn(w)
		if len(changes) > 0 {
			partial, err = err, nil
		}
		return err
	})
	if err = errors.Join(err, partial); err != nil {
		return nil, err
	}
	out := []ec2.InstanceStateChange{}
	for _, ch := range changes {
		out = append(out, ec2.InstanceStateChange{InstanceId: ptr(ch.ID), PreviousState: stateOf(ch.Previous), CurrentState: stateOf(ch.Current)})
	}
	return out, nil
}

func stateOf(name string) *ec2.InstanceState {
	return &ec2.InstanceState{Code: ptr(compute.StateCode(name)), Name: ptr(name)}
}

func (s *Server) terminateInstances(c *api.Call, in *ec2.TerminateInstancesRequest) (*ec2.TerminateInstancesResult, error) {
	out, err := change(c, in.InstanceIds, func(w *store.WriteTx) ([]compute.Change, error) {
		return compute.Terminate(w, c.Scope(), in.InstanceIds)
	})
	if err != nil {
		return nil, err
	}
	return &ec2.TerminateInstancesResult{TerminatingInstances: out}, nil
}

func (s *Server) stopInstances(c *api.Call, in *ec2.StopInstancesRequest) (*ec2.StopInstancesResult, error) {
	if api.Val(in.Hibernate) {
		return nil, fault.New(fault.Unsupported, "UnsupportedHibernationConfiguration", "The instance is not configured for hibernation.")
	}
	out, err := change(c, in.InstanceIds, func(w *store.WriteTx) ([]compute.Change, error) {
		return compute.Stop(w, c.Scope(), in.InstanceIds, api.Val(in.Force) || api.Val(in.SkipOsShutdown))
	})
	if err != nil {
		return nil, err
	}
	return &ec2.StopInstancesResult{StoppingInstances: out}, nil
}

func (s *Server) startInstances(c *api.Call, in *ec2.StartInstancesRequest) (*ec2.StartInstancesResult, error) {
	out, err := change(c, in.InstanceIds, func(w *store.WriteTx) ([]compute.Change, error) {
		return compute.Start(w, c.Scope(), in.InstanceIds)
	})
	if err != nil {
		return nil, err
	}
	return &ec2.StartInstancesResult{StartingInstances: out}, nil
}

func (s *Server) rebootInstances(c *api.Call, in *ec2.RebootInstancesRequest) (*ec2.RebootInstancesOutput, error) {
	_, err := change(c, in.InstanceIds, func(w *store.WriteTx) ([]compute.Change, error) {
		return nil, compute.Reboot(w, c.Scope(), in.InstanceIds)
	})
	return &ec2.RebootInstancesOutput{}, err
}

func (s *Server) getConsoleOutput(c *api.Call, in *ec2.GetConsoleOutputRequest) (*ec2.GetConsoleOutputResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	i, err := compute.GetInstance(c.DB.Read(), c.Scope(), id)
	if err != nil {
		return nil, err
	}
	out := &ec2.GetConsoleOutputResult{InstanceId: ptr(id), Timestamp: ptr(c.Now.UTC().Truncate(time.Second))}
	if s.Console == nil || i.State == compute.Pending {
		return out, nil
	}
	ctx := c.Ctx
	if ctx == nil {
		ctx = context.Background()
	}
	text, err := s.Console(ctx, id)
	if err != nil { // gone with its host: described as no output, and told to the log
		s.log().Warn("no console output", "instance", id, "err", err)
		return out, nil
	}
	out.Output = str(base64.StdEncoding.EncodeToString(text))
	return out, nil
}

func (s *Server) monitor(c *api.Call, ids []string, on bool) ([]ec2.InstanceMonitoring, error) {
	out := []ec2.InstanceMonitoring{}
	_, err := change(c, ids, func(w *store.WriteTx) ([]compute.Change, error) {
		list, err := compute.GetInstances(w, c.Scope(), ids)
		if err != nil {
			return nil, err
		}
		for _, i := range list {
			i.Monitoring = on
			compute.Instances.Put(w, i)
			out = append(out, ec2.InstanceMonitoring{InstanceId: ptr(i.ID), Monitoring: monitoring(on)})
		}
		return nil, nil
	})
	return out, err
}

func monitoring(on bool) *ec2.Monitoring {
	if on {
		return &ec2.Monitoring{State: ptr("enabled")}
	}
	return &ec2.Monitoring{State: ptr("disabled")}
}

func (s *Server) monitorInstances(c *api.Call, in *ec2.MonitorInstancesRequest) (*ec2.MonitorInstancesResult, error) {
	out, err := s.monitor(c, in.InstanceIds, true)
	return &ec2.MonitorInstancesResult{InstanceMonitorings: out}, err
}

func (s *Server) unmonitorInstances(c *api.Call, in *ec2.UnmonitorInstancesRequest) (*ec2.UnmonitorInstancesResult, error) {
	out, err := s.monitor(c, in.InstanceIds, false)
	return &ec2.UnmonitorInstancesResult{InstanceMonitorings: out}, err
}

func (s *Server) describeInstanceStatus(c *api.Call, in *ec2.DescribeInstanceStatusRequest) (*ec2.DescribeInstanceStatusResult, error) {
	all := api.Val(in.IncludeAllInstances)
	var out []ec2.InstanceStatus
	var next string
	err := c.View(func(tx store.Tx) error {
		rows, err := instanceListing.rows(tx, c.Scope(), in.InstanceIds)
		if err != nil {
			return err
		}
		var visible iter.Seq[compute.Instance] = func(yield func(compute.Instance) bool) {
			for i := range rows {
				if (all || i.State == compute.Running) && !yield(i) {
					return
				}
			}
		}
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.InstanceIds) > 0}
		out, next, err = describe.Page(&statusKind, q, visible, func(i compute.Instance) string { return i.ID }, func(i compute.Instance) ec2.InstanceStatus { return s.status(i) })
		return err
	})
	return &ec2.DescribeInstanceStatusResult{InstanceStatuses: out, NextToken: str(next)}, err
}
