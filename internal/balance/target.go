package balance

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// maxTargets is AWS's quota of targets a group.
const maxTargets = 1000

// terminatedKeep is how long a terminated instance stays registered as unused, before the service takes it out itself.
const terminatedKeep = time.Minute

// Target names a target of a group; port 0 means the group's own (for a deregistration: all ports).
type Target struct {
	ID               string
	Port             int32
	AvailabilityZone string
	QuicServerID     string
}

// ScopeOf reads account and region out of an ARN.
func ScopeOf(arn string) scope.Scope {
	f := strings.SplitN(arn, ":", 6)
	if len(f) < 6 {
		return scope.Scope{}
	}
	return scope.Scope{Account: f[4], Region: f[3]}
}

// GetTargetGroup finds a group by its ARN.
func GetTargetGroup(tx store.Tx, s scope.Scope, arn string) (TargetGroup, error) {
	if g, ok := TargetGroups.Get(tx, s.Key(arn)); ok {
		return g, nil
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":targetgroup/") {
		return TargetGroup{}, fault.New(fault.Invalid, "ValidationError", "'%s' is not a valid target group ARN", arn)
	}
	return TargetGroup{}, fault.New(fault.NotFound, "TargetGroupNotFound", "Target groups '%s' not found", arn)
}

// Targets lists a group's registrations, those that drain too.
func Targets(tx store.Tx, s scope.Scope, groupARN string) []Registration {
	var out []Registration
	for r := range Registrations.Prefix(tx, s.Key(groupARN)+" ") {
		out = append(out, r)
	}
	return out
}

// Register adds targets to a group. A target that is there already stays as it is; one that drains comes back as new. A
// pending instance is accepted, so that a launch and its registration can be one transaction.
func Register(w *store.WriteTx, s scope.Scope, groupARN string, targets []Target) error {
	g, err := GetTargetGroup(w, s, groupARN)
	if err != nil {
		return err
	}
	count := len(Targets(w, s, groupARN))
	for _, t := range targets {
		if t.Port == 0 {
			t.Port = g.Port
		}
		zone, err := checkTarget(w, g, t)
		if err != nil {
			return err
		}
		old, exists := Registrations.Get(w, targetKey(s, g.ARN, t.ID, t.Port))
		if exists && !old.Draining() {
			continue
		}
		if !exists {
			if count++; count > maxTargets || g.TargetType == "alb" && count > 1 {
				return fault.New(fault.Limit, "TooManyTargets", "You have reached the maximum number of targets for target group '%s'", g.ARN)
			}
		}
		forget(w, s, g.ARN, t.ID, t.Port)
		Registrations.Put(w, Registration{Scope: s, GroupARN: g.ARN, TargetID: t.ID, Port: t.Port, AvailabilityZone: zone,
			QuicServerID: t.QuicServerID, RegisteredAt: w.Now()})
	}
	for _, arn := range UsedBy(w, g) {
		if lb, ok := LoadBalancers.Get(w, s.Key(arn)); ok {
			if err := checkTargets(w, lb, GroupsOf(w, lb)); err != nil {
				return err
			}
			for l := range Listeners.By(w, "lb", s.Key(arn)) {
				if f := l.DefaultActions[0].Forward; lb.Type == Network && f != nil {
					if err := checkAction(w, lb, *f); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// Quotas of AWS: targets of all groups that a load balancer forwards to.
const (
	maxTargetsALB       = 1000
	maxRegistrationsALB = 1000 // of one target
	maxTargetsNLB       = 3000
	maxTargetsNLBZone   = 500
)

// checkAction refuses an action of a network load balancer whose groups have more targets together than one of them may have.
func checkAction(tx store.Tx, lb LoadBalancer, f Forward) error {
	n := 0
	for _, g := range f.Groups {
		n += len(Targets(tx, lb.Scope, g.ARN))
	}
	if len(f.Groups) > 1 && n > maxTargets {
		return fault.New(fault.Limit, "TooManyTargets", "You have reached the maximum number of targets for an action of load balancer '%s'", lb.ARN)
	}
	return nil
}

// checkTargets refuses a load balancer whose groups have too many targets together.
func checkTargets(tx store.Tx, lb LoadBalancer, groups []string) error {
	all, zones, ids := 0, map[string]int{}, map[string]int{}
	for _, arn := range groups {
		for r := range Registrations.Prefix(tx, lb.Key(arn)+" ") {
			if r.Draining() {
				continue
			}
			all++
			if ids[r.TargetID]++; lb.Type == Application && ids[r.TargetID] > maxRegistrationsALB {
				return fault.New(fault.Limit, "TooManyRegistrationsForTargetId", "You have reached the maximum number of times that target '%s' can be registered with load balancer '%s'", r.TargetID, lb.ARN)
			}
			zone := r.AvailabilityZone
			if i, ok := compute.Instances.Get(tx, r.Key(r.TargetID)); ok {
				zone = i.AvailabilityZone
			}
			zones[zone]++
			if lb.Type == Application && all > maxTargetsALB || lb.Type == Network && (all > maxTargetsNLB || zones[zone] > maxTargetsNLBZone) {
				return fault.New(fault.Limit, "TooManyTargets", "You have reached the maximum number of targets for load balancer '%s'", lb.ARN)
			}
		}
	}
	return nil
}

// checkTargetID refuses an id that no target of the group's type has.
func checkTargetID(g TargetGroup, id string) error {
	switch g.TargetType {
	case "instance":
		if !strings.HasPrefix(id, "i-") {
			return invalid("Instance ID '%s' is not valid", id)
		}
	case "ip":
		if a, err := netip.ParseAddr(id); err != nil || !a.Is4() {
			return invalid("The IP address '%s' is not a valid IPv4 address", id)
		}
	case "alb":
		if !strings.HasPrefix(id, "arn:") || !strings.Contains(id, ":loadbalancer/") {
			return invalid("'%s' is not a valid load balancer ARN", id)
		}
	}
	return nil
}

// CheckDescribed refuses the health of what never was a target of the group, nor could be.
func CheckDescribed(tx store.Tx, g TargetGroup, h Health) error {
	id := h.Target.TargetID
	if err := checkTargetID(g, id); err != nil {
		return err
	}
	if g.TargetType == "instance" && h.Reason == "Target.NotRegistered" {
		if _, ok := compute.Instances.Get(tx, g.Key(id)); !ok {
			return fault.New(fault.Invalid, "InvalidTarget", "The following targets do not exist: '%s'", id)
		}
	}
	return nil
}

// checkTarget refuses what can't be a target of the group and finds an address's zone.
func checkTarget(tx store.Tx, g TargetGroup, t Target) (zone string, err error) {
	if t.Port < 1 || t.Port > 65535 {
		return "", fault.New(fault.Invalid, "ValidationError", "Port '%d' is not valid. It must be between 1 and 65535", t.Port)
	}
	if t.AvailabilityZone != "" && g.TargetType != "ip" {
		return "", fault.New(fault.Invalid, "ValidationError", "An Availability Zone cannot be specified for targets of type '%s'", g.TargetType)
	}
	if err := checkTargetID(g, t.ID); err != nil {
		return "", err
	}
	switch g.TargetType {
	case "instance":
		i, ok := compute.Instances.Get(tx, g.Key(t.ID))
		if !ok {
			return "", fault.New(fault.Invalid, "InvalidTarget", "The following targets do not exist: '%s'", t.ID)
		}
		if i.State != compute.Running && i.State != compute.Pending {
			return "", NotRunning(t.ID)
		}
		if i.VpcID != g.VpcID {
			return "", fault.New(fault.Invalid, "InvalidTarget", "The following targets are not in the target group VPC '%s': '%s'", g.VpcID, t.ID)
		}
		return "", nil
	case "ip":
		return checkIP(tx, g, t)
	case "alb":
		lb, ok := LoadBalancers.Get(tx, g.Key(t.ID))
		if !ok || lb.Type != Application {
			return "", fault.New(fault.Invalid, "InvalidTarget", "The Application Load Balancer '%s' does not exist", t.ID)
		}
		if lb.VpcID != g.VpcID {
			return "", fault.New(fault.Invalid, "InvalidTarget", "The following targets are not in the target group VPC '%s': '%s'", g.VpcID, t.ID)
		}
		for l := range Listeners.By(tx, "lb", lb.Key(lb.ARN)) {
			if l.Port == t.Port {
				return "", nil
			}
		}
		return "", fault.New(fault.Invalid, "InvalidTarget", "The Application Load Balancer '%s' has no listener on port %d", t.ID, t.Port)
	}
	return "", fault.New(fault.Invalid, "InvalidTarget", "Targets of type '%s' cannot be registered", g.TargetType)
}

// NotRunning is the refusal of an instance in a wrong state.
func NotRunning(id string) error {
	return fault.New(fault.State, "InvalidTarget", "The following targets are not in a running state and cannot be registered: '%s'", id)
}

// privateRanges are where addresses of targets may lie outside the VPC.
var privateRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")}

func checkIP(tx store.Tx, g TargetGroup, t Target) (string, error) {
	a, _ := netip.ParseAddr(t.ID) // checkTargetID has parsed it
	for sn := range network.Subnets.By(tx, "vpc", g.Key(g.VpcID)) {
		if sn.Prefix().Contains(a) {
			if z := t.AvailabilityZone; z != "" && z != sn.AvailabilityZone {
				return "", invalid("The IP address '%s' is within the VPC, and cannot have its Availability Zone overridden to '%s' from '%s'", t.ID, z, sn.AvailabilityZone)
			}
			return sn.AvailabilityZone, nil
		}
	}
	for _, p := range privateRanges {
		if p.Contains(a) {
			z := t.AvailabilityZone
			if z == "" {
				return "", invalid("The Availability Zone is required for IP address '%s' because it is not in the VPC", t.ID)
			}
			isZone := slices.ContainsFunc(network.Zones(g.Region), func(o network.Zone) bool { return o.Name == z })
			if z != "all" && (!isZone || g.Protocol == HTTP || g.Protocol == HTTPS) {
				return "", invalid("You must specify a valid Availability Zone or select 'all' for all enabled Availability zones, since the IP address '%s' is outside the VPC", t.ID)
			}
			return z, nil
		}
	}
	return "", fault.New(fault.Invalid, "ValidationError", "The IP address '%s' is not within the allowed ranges: the VPC's CIDR blocks, 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16", t.ID)
}

// Deregister starts the draining of targets: no new requests from now on, gone after the group's deregistration delay
// (Sweep). A target that isn't registered is a success, as in AWS; so is one that drains already.
func Deregister(w *store.WriteTx, s scope.Scope, groupARN string, targets []Target) error {
	g, err := GetTargetGroup(w, s, groupARN)
	if err != nil {
		return err
	}
	delay, _ := strconv.Atoi(g.Attribute("deregistration_delay.timeout_seconds"))
	for _, t := range targets {
		if err := checkTargetID(g, t.ID); err != nil {
			return err
		}
		for r := range Registrations.Prefix(w, s.Key(g.ARN)+" "+t.ID+":") {
			if t.Port != 0 && r.Port != t.Port || r.Draining() {
				continue
			}
			if delay == 0 || len(UsedBy(w, g)) == 0 { // nothing flows that could drain
				remove(w, r)
				continue
			}
			r.DrainingSince, r.DrainSeconds = w.Now(), int32(delay)
			Registrations.Put(w, r)
		}
	}
	return nil
}

func remove(w *store.WriteTx, r Registration) {
	forget(w, r.Scope, r.GroupARN, r.TargetID, r.Port)
	Registrations.Delete(w, targetKey(r.Scope, r.GroupARN, r.TargetID, r.Port))
}

// forget drops what the zones observed about a target.
func forget(w *store.WriteTx, s scope.Scope, group, id string, port int32) {
	for o := range Observations.Prefix(w, targetKey(s, group, id, port)+" ") {
		Observations.Delete(w, targetKey(s, group, id, port)+" "+o.Zone)
	}
}

// drained is when a draining target goes, with the policy's wait divided by scale.
func (r Registration) drained(scale int) time.Time {
	return r.DrainingSince.Add(time.Duration(r.DrainSeconds) * time.Second / time.Duration(max(1, scale)))
}

// Sweep ends what is over: draining targets whose delay has passed, and targets whose instance terminated a while ago. It
// returns when to call it again, zero if nothing waits. Call it also after a change of Registrations.
func Sweep(w *store.WriteTx, scale int) (next time.Time) {
	later := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for r := range Registrations.By(w, "draining", "yes") {
		if at := r.drained(scale); at.After(w.Now()) {
			later(at)
		} else {
			remove(w, r)
		}
	}
	keep := terminatedKeep / time.Duration(max(1, scale))
	for i := range compute.Instances.By(w, "state", compute.Terminated) {
		for r := range Registrations.By(w, "target", i.Key(i.ID)) {
			if at := i.StateSince.Add(keep); r.Draining() {
				continue
			} else if at.After(w.Now()) {
				later(at)
			} else {
				remove(w, r)
			}
		}
	}
	return next
}
