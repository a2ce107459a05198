package scaling

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// AWS's quotas.
const (
	MaxGroups       = 500
	MaxHooks        = 50
	MaxPolicies     = 50
	MaxSchedules    = 125
	MaxTargetGroups = 50
	MaxTags         = 50
	MaxConfigs      = 200
)

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationError", format, args...)
}

// GetGroup finds a group by its name or ARN.
func GetGroup(tx store.Tx, s scope.Scope, name string) (Group, error) {
	if i := strings.Index(name, ":autoScalingGroupName/"); i >= 0 {
		name = name[i+len(":autoScalingGroupName/"):]
	}
	if g, ok := Groups.Get(tx, s.Key(name)); ok {
		return g, nil
	}
	return Group{}, fault.New(fault.NotFound, "ValidationError", "AutoScalingGroup name not found - AutoScalingGroup %s not found", name)
}

// openGroup finds a group that is not being deleted.
func openGroup(tx store.Tx, s scope.Scope, name string) (Group, error) {
	g, err := GetGroup(tx, s, name)
	if err == nil && g.Deleting {
		return g, fault.New(fault.State, "ValidationError", "AutoScalingGroup %s is pending delete.", g.Name)
	}
	return g, err
}

// MembersOf lists a group's members in the order of their ids.
func MembersOf(tx store.Tx, g Group) []Member { return of(tx, Members, g.Scope, g.Name) }

// HooksOf lists a group's hooks in the order of their names.
func HooksOf(tx store.Tx, g Group) []Hook { return of(tx, Hooks, g.Scope, g.Name) }

// CreateGroup makes a group. The caller has filled the settings, with AWS's defaults; desired nil is the least size. The
// loop launches the members.
func (e *Engine) CreateGroup(w *store.WriteTx, g Group, desired *int, hooks []Hook) (Group, error) {
	if err := checkName("AutoScalingGroup", g.Name); err != nil {
		return g, err
	}
	if _, ok := Groups.Get(w, g.Key(g.Name)); ok {
		return g, fault.New(fault.Exists, "AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name %s already exists", g.Name)
	}
	n := 0
	for range Groups.Prefix(w, g.Prefix()) {
		n++
	}
	if n >= MaxGroups {
		return g, fault.New(fault.Limit, "LimitExceeded", "You have already reached the limit of %d Auto Scaling groups.", MaxGroups)
	}
	lo, hi := g.Min, g.Max
	g.Desired = lo
	g, err := bounds(g, &lo, &hi, desired)
	if err != nil {
		return g, err
	}
	g.UUID, g.CreatedAt = newUUID(w.Rand()), w.Now()
	if g.ServiceLinkedRole == "" {
		g.ServiceLinkedRole = "arn:aws:iam::" + g.Account + ":role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
	}
	if g, err = e.settle(w, g); err != nil {
		return g, err
	}
	if len(g.Attachments) > MaxTargetGroups {
		return g, fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d target groups.", MaxTargetGroups)
	}
	for i, a := range g.Attachments {
		if err := e.checkTarget(w, g, a.ARN); err != nil {
			return g, err
		}
		g.Attachments[i].State, g.Attachments[i].AtCreation = "Added", true
	}
	if err := checkTags(g.Tags); err != nil {
		return g, err
	}
	if g.Desired > 0 {
		g.Reasons = []string{said(w.Now(), fmt.Sprintf("a user request created an AutoScalingGroup changing the desired capacity from 0 to %d.", g.Desired))}
	}
	Groups.Put(w, g)
	for _, h := range hooks {
		h.Scope, h.Group = g.Scope, g.Name
		if err := e.PutHook(w, h); err != nil {
			return g, err
		}
	}
	return g, nil
}

func checkName(what, name string) error {
	if len(name) < 1 || len(name) > 255 {
		return invalid("%s name must be between 1 and 255 characters long.", what)
	}
	for i := range len(name) {
		if c := name[i]; c == ':' || c < 33 || c > 126 {
			if c == ' ' && what != "AutoScalingGroup" {
				continue
			}
			return invalid("%s name may not contain the character %q.", what, c)
		}
	}
	return nil
}

func (e *Engine) checkTarget(tx store.Tx, g Group, arn string) error {
	if err := e.Balancer.Check(tx, g.Scope, arn); err != nil {
		return fault.New(fault.Invalid, "ValidationError", "Provided Target Groups may not be valid. Please ensure they exist and try again.").Wrap(err)
	}
	return nil
}

// TerminationPolicies lists the policies that are known.
var TerminationPolicies = []string{"AllocationStrategy", "ClosestToNextInstanceHour", "Default", "NewestInstance", "OldestInstance",
	"OldestLaunchConfiguration", "OldestLaunchTemplate"}

// settle checks a group's settings and derives its zones and subnets.
func (e *Engine) settle(w *store.WriteTx, g Group) (Group, error) {
	g, err := e.checkSource(w, g)
	if err != nil {
		return g, err
	}
	if g, err = e.place(w, g); err != nil {
		return g, err
	}
	if err := e.checkLaunch(w, g); err != nil {
		return g, err
	}
	return g, g.checkSettings()
}

// checkLaunch refuses a template from which nothing could be launched: a missing image, key pair, security group or profile shows
// at once, as EC2's sentence.
func (e *Engine) checkLaunch(w *store.WriteTx, g Group) error {
	r := LaunchRequest{Group: g.Name, Template: g.template(), SubnetID: g.Subnets[0]}
	if r.Template == nil {
		return nil
	}
	if g.Mixed != nil {
		var o Override
		if len(g.Mixed.Overrides) > 0 {
			o = g.Mixed.Overrides[0]
		}
		if r.InstanceType = o.InstanceType; o.Template != nil {
			r.Template = o.Template
		}
		if t, err := e.Compute.Resolve(w, g.Scope, *r.Template); err == nil && o.requirements(t) != nil {
			return nil // whose types depend on the image
		}
	}
	if err := e.Compute.CheckLaunch(w, g.Scope, r); err != nil {
		return templateError(err)
	}
	return nil
}

// checkSource checks what a group launches from, and completes the template's names.
func (e *Engine) checkSource(w *store.WriteTx, g Group) (Group, error) {
	sources := 0
	if g.Template != nil {
		sources++
	}
	if g.Mixed != nil {
		sources++
	}
	if g.LaunchConfiguration != "" {
		sources++
	}
	if sources != 1 {
		return g, invalid("Valid requests must contain either launchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.")
	}
	if ref := g.template(); ref != nil {
		t, err := e.Compute.Resolve(w, g.Scope, *ref)
		if err != nil {
			return g, templateError(err)
		}
		full := TemplateRef{ID: t.ID, Name: t.Name, Version: ref.Version}
		if g.Mixed != nil {
			m := *g.Mixed
			m.Template = full
			g.Mixed = &m
		} else {
			g.Template = &full
		}
		if g.Mixed != nil {
			for _, o := range g.Mixed.Overrides {
				if o.Template == nil {
					continue
				}
				if _, err := e.Compute.Resolve(w, g.Scope, *o.Template); err != nil {
					return g, templateError(err)
				}
			}
		}
	} else if _, ok := LaunchConfigurations.Get(w, g.Key(g.LaunchConfiguration)); !ok {
		return g, fault.New(fault.NotFound, "ValidationError", "Launch configuration name not found - Launch configuration %s not found", g.LaunchConfiguration)
	}
	if g.Warm != nil && (g.Mixed != nil || e.buysSpot(w, g)) {
		return g, invalid(noWarm)
	}
	if g.Mixed != nil {
		if err := e.checkMixed(w, g); err != nil {
			return g, err
		}
	}
	return g, nil
}

func templateError(err error) error {
	if f, ok := fault.As(err); ok {
		return fault.New(fault.Invalid, "ValidationError", "You must use a valid fully-formed launch template. %s", f.Msg).Wrap(err)
	}
	return err
}

// place derives the zones of the subnets, or takes the default subnets of the zones.
func (e *Engine) place(w *store.WriteTx, g Group) (Group, error) {
	if len(g.Subnets) == 0 && len(g.ZoneNames) == 0 {
		return g, invalid("At least one Availability Zone or VPC Subnet is required.")
	}
	if len(g.Subnets) == 0 {
		for _, z := range g.ZoneNames {
			sn, err := e.Compute.DefaultSubnet(w, g.Scope, z)
			if err != nil {
				if f, ok := fault.As(err); ok {
					return g, fault.New(fault.Invalid, "ValidationError", "%s", f.Msg).Wrap(err)
				}
				return g, err
			}
			g.Subnets = append(g.Subnets, sn.ID)
		}
		return g, nil
	}
	var zones []string
	vpc := ""
	for i, id := range g.Subnets {
		sn, err := e.Compute.Subnet(w, g.Scope, id)
		if err != nil {
			return g, fault.New(fault.Invalid, "ValidationError", "The subnet ID '%s' does not exist", id).Wrap(err)
		}
		if slices.Contains(g.Subnets[:i], id) {
			return g, invalid("The VPCZoneIdentifier contains the subnet %s more than once.", id)
		}
		if vpc != "" && sn.VpcID != vpc {
			return g, invalid("The subnets of an Auto Scaling group must be in the same VPC.")
		}
		vpc = sn.VpcID
		if !slices.Contains(zones, sn.Zone) {
			zones = append(zones, sn.Zone)
		}
	}
	if g.ZonesGiven {
		for _, z := range zones {
			if !slices.Contains(g.ZoneNames, z) {
				return g, invalid("The availability zones of the specified subnets and the Auto Scaling group do not match")
			}
		}
	}
	g.ZoneNames = zones
	return g, nil
}

func (g Group) checkSettings() error {
	if g.DefaultCooldown < 0 {
		return invalid("DefaultCooldown must not be negative.")
	}
	if g.GracePeriod < 0 {
		return invalid("HealthCheckGracePeriod must not be negative.")
	}
	if v := g.DefaultWarmup; v != nil && (*v < 0 || *v > 3600) {
		return invalid("DefaultInstanceWarmup must be between 0 and 3600 seconds.")
	}
	if v := g.MaxInstanceLifetime; v != nil && *v != 0 && (*v < 86400 || *v > 31536000) {
		return invalid("MaxInstanceLifetime must be 0 or between 86400 and 31536000 seconds.")
	}
	for _, t := range splitList(g.HealthCheckType) {
		switch t {
		case "EC2", "ELB":
		case "EBS", "VPC_LATTICE":
			return fault.New(fault.Unsupported, "ValidationError", "The health check type %s is not supported. The supported types are: EC2, ELB.", t)
		default:
			return invalid("Invalid health check type: %s. The valid types are: EC2, EBS, ELB, VPC_LATTICE.", t)
		}
	}
	for i, p := range g.TerminationPolicies {
		if !slices.Contains(TerminationPolicies, p) {
			if strings.HasPrefix(p, "arn:") {
				return fault.New(fault.Unsupported, "ValidationError", "Termination policies that are Lambda functions are not supported: %s", p)
			}
			return invalid("Invalid termination policy: %s", p)
		}
		if p == "Default" && i != len(g.TerminationPolicies)-1 {
			return invalid("The Default termination policy must be the last one.")
		}
	}
	switch g.DeletionProtection {
	case "", "none", "prevent-force-deletion", "prevent-all-deletion":
	default:
		return invalid("Invalid deletion protection: %s", g.DeletionProtection)
	}
	switch g.DesiredCapacityType {
	case "", "units":
	case "vcpu", "memory-mib":
		if !g.attributes() {
			return invalid("DesiredCapacityType %s needs a mixed instances policy with InstanceRequirements.", g.DesiredCapacityType)
		}
	default:
		return invalid("Invalid DesiredCapacityType: %s.", g.DesiredCapacityType)
	}
	return nil
}

// UpdateGroup changes a group: edit sets the settings that the request names, then the sizes follow.
func (e *Engine) UpdateGroup(w *store.WriteTx, s scope.Scope, name string, lo, hi, want *int, edit func(g *Group)) (Group, error) {
	g, err := openGroup(w, s, name)
	if err != nil {
		return g, err
	}
	old, before := g, g.Desired
	edit(&g)
	if g, err = bounds(g, lo, hi, want); err != nil {
		return g, err
	}
	// What stays is not checked again: a group whose template or subnet is gone can still be made smaller.
	resourced := !reflect.DeepEqual([]any{old.Template, old.Mixed, old.LaunchConfiguration}, []any{g.Template, g.Mixed, g.LaunchConfiguration})
	if resourced {
		if r, on := ActiveRefresh(w, g); on && (r.Template != nil || r.Mixed != nil) {
			return g, invalid("An active instance refresh with a desired configuration exists. All configuration options derived from the desired configuration are not available for update while the instance refresh is active.")
		}
		if g, err = e.checkSource(w, g); err != nil {
			return g, err
		}
	}
	if !slices.Equal(old.Subnets, g.Subnets) || !slices.Equal(old.ZoneNames, g.ZoneNames) {
		if g, err = e.place(w, g); err != nil {
			return g, err
		}
	}
	if resourced {
		if err := e.checkLaunch(w, g); err != nil {
			return g, err
		}
	}
	if err := g.checkSettings(); err != nil {
		return g, err
	}
	g.Backoff = nil // what failed may work now
	if g.Desired != before {
		g.reason(w, fmt.Sprintf("a user request update of AutoScalingGroup constraints to min: %d, max: %d, desired: %d changing the desired capacity from %d to %d.",
			g.Min, g.Max, g.Desired, before, g.Desired))
	}
	Groups.Put(w, g)
	return g, nil
}

// maxReasons bounds the sentences that wait to become a cause.
const maxReasons = 5

// reason keeps why desired changed until an activity says it.
func (g *Group) reason(w *store.WriteTx, sentence string) {
	g.Reasons = append(slices.Clone(g.Reasons), said(w.Now(), sentence))
	if len(g.Reasons) > maxReasons {
		g.Reasons = g.Reasons[len(g.Reasons)-maxReasons:]
	}
}

// SetDesired is SetDesiredCapacity.
func (e *Engine) SetDesired(w *store.WriteTx, s scope.Scope, name string, want int, honorCooldown bool) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	if want > g.Max {
		return invalid("New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", want, g.Max)
	}
	if want < g.Min {
		return invalid("New SetDesiredCapacity value %d is below min value %d for the AutoScalingGroup.", want, g.Min)
	}
	if honorCooldown && (w.Now().Before(g.CoolTill) || g.Cooling > 0) {
		return fault.New(fault.State, "ScalingActivityInProgress", "Scaling activity %s is in progress and blocks this request", latestActivity(w, g))
	}
	if want == g.Desired {
		return nil
	}
	g.reason(w, fmt.Sprintf("a user request explicitly set group desired capacity changing the desired capacity from %d to %d.", g.Desired, want))
	g.Desired = want
	g.Backoff = nil
	Groups.Put(w, g)
	return nil
}

func latestActivity(tx store.Tx, g Group) string {
	if h := History(tx, g); len(h) > 0 {
		return h[0].ID
	}
	return newUUIDless
}

// newUUIDless stands for the id of an activity that the history does not hold any more.
const newUUIDless = "00000000-0000-4000-8000-000000000000"

// DeleteGroup starts a group's deletion. With force its members are terminated, without it must have none. Its policies
// with their alarms, hooks and schedules go at once; the group itself when its last member is gone.
func (e *Engine) DeleteGroup(w *store.WriteTx, s scope.Scope, name string, force bool) error {
	g, err := GetGroup(w, s, name)
	if err != nil {
		return err
	}
	switch {
	case g.DeletionProtection == "prevent-all-deletion", force && g.DeletionProtection == "prevent-force-deletion":
		return fault.New(fault.State, "ResourceInUse", "You cannot delete an AutoScalingGroup whose deletion protection is %s.", g.DeletionProtection)
	}
	if !force {
		for range Members.By(w, "group", g.Key(g.Name)) {
			return fault.New(fault.Conflict, "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.")
		}
		for _, a := range of(w, Activities, s, g.Name) {
			if !a.Done() {
				return fault.New(fault.State, "ScalingActivityInProgress", "You cannot delete an AutoScalingGroup while there are scaling activities in progress for that group.")
			}
		}
	}
	for _, p := range of(w, Policies, s, g.Name) {
		if err := e.dropPolicy(w, p); err != nil {
			return err
		}
	}
	for _, h := range of(w, Hooks, s, g.Name) {
		Hooks.Delete(w, h.Key(h.Group+":"+h.Name))
	}
	for _, a := range of(w, Schedules, s, g.Name) {
		Schedules.Delete(w, a.Key(a.Group+":"+a.Name))
	}
	for _, n := range of(w, Notifications, s, g.Name) {
		Notifications.Delete(w, n.Key(n.Group+":"+n.Type+":"+n.Topic))
	}
	if !g.Deleting && force {
		g.reason(w, fmt.Sprintf(whyDelete, g.Desired))
	}
	g.Deleting, g.ForceDeleting = true, g.ForceDeleting || force
	g.Min, g.Desired = 0, 0
	Groups.Put(w, g)
	if !force { // nothing to wait for
		(&executor{e: e, w: w, g: g, now: w.Now()}).bury()
	}
	return nil
}

// Suspend suspends processes; none named are all.
func (e *Engine) Suspend(w *store.WriteTx, s scope.Scope, name string, processes []string) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	if processes, err = checkProcesses(processes); err != nil {
		return err
	}
	g.Suspended = slices.Clone(g.Suspended)
	for _, p := range processes {
		if !g.SuspendedProcess(p) {
			g.Suspended = append(g.Suspended, Suspension{Process: p, Reason: "User suspended at " + w.Now().UTC().Format("2006-01-02T15:04:05Z")})
		}
	}
	Groups.Put(w, g)
	return nil
}

// Resume resumes processes; none named are all.
func (e *Engine) Resume(w *store.WriteTx, s scope.Scope, name string, processes []string) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	if processes, err = checkProcesses(processes); err != nil {
		return err
	}
	g.Suspended = slices.DeleteFunc(slices.Clone(g.Suspended), func(x Suspension) bool { return slices.Contains(processes, x.Process) })
	if slices.Contains(processes, ProcLaunch) {
		g.Failing, g.Backoff = nil, nil
	}
	Groups.Put(w, g)
	if r, on := ActiveRefresh(w, g); on { // it may have waited for the process
		r.Moved = w.Now()
		Refreshes.Put(w, r)
	}
	return nil
}

func checkProcesses(list []string) ([]string, error) {
	if len(list) == 0 {
		return Processes, nil
	}
	var out []string
	for _, p := range list {
		if p == "RemoveFromLoadBalancerLowPriority" {
			continue
		}
		if !slices.Contains(Processes, p) {
			return nil, invalid("Invalid Process type: %s.", p)
		}
		out = append(out, p)
	}
	return out, nil
}

func checkTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case t.Key == "" || len(t.Key) > 128:
			return invalid("Tag keys must be between 1 and 128 characters long.")
		case len(t.Value) > 256:
			return invalid("Tag values must be at most 256 characters long.")
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return invalid("Invalid tag key: %s. Tag keys starting with 'aws:' are reserved for internal use", t.Key)
		case seen[t.Key]:
			return invalid("Duplicate tag key: %s", t.Key)
		}
		seen[t.Key] = true
	}
	if len(tags) > MaxTags {
		return fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d tags.", MaxTags)
	}
	return nil
}

// SetTags adds or overwrites tags of a group; instances that are launched from now on get those that propagate.
func (e *Engine) SetTags(w *store.WriteTx, s scope.Scope, name string, tags []Tag) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	all := slices.Clone(g.Tags)
	for _, t := range tags {
		if i := slices.IndexFunc(all, func(o Tag) bool { return o.Key == t.Key }); i >= 0 {
			all[i] = t
			continue
		}
		all = append(all, t)
	}
	if err := checkTags(all); err != nil {
		return err
	}
	g.Tags = all
	Groups.Put(w, g)
	return nil
}

// DeleteTags removes tags by their keys; a missing one is a success.
func (e *Engine) DeleteTags(w *store.WriteTx, s scope.Scope, name string, keys []string) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	g.Tags = slices.DeleteFunc(slices.Clone(g.Tags), func(t Tag) bool { return slices.Contains(keys, t.Key) })
	Groups.Put(w, g)
	return nil
}

// AttachTargetGroups attaches target groups; the loop registers the members.
func (e *Engine) AttachTargetGroups(w *store.WriteTx, s scope.Scope, name string, arns []string) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	g.Attachments = slices.Clone(g.Attachments)
	for _, arn := range arns {
		if err := e.checkTarget(w, g, arn); err != nil {
			return err
		}
		i := slices.IndexFunc(g.Attachments, func(a Attachment) bool { return a.ARN == arn })
		if i < 0 {
			g.Attachments = append(g.Attachments, Attachment{ARN: arn, State: "Adding"})
		} else if g.Attachments[i].State == "Removing" {
			g.Attachments[i] = Attachment{ARN: arn, State: "Adding"}
		}
	}
	if len(g.Attachments) > MaxTargetGroups {
		return fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d target groups.", MaxTargetGroups)
	}
	Groups.Put(w, g)
	return nil
}

// DetachTargetGroups detaches target groups; the loop deregisters the members and lets them drain.
func (e *Engine) DetachTargetGroups(w *store.WriteTx, s scope.Scope, name string, arns []string) error {
	g, err := openGroup(w, s, name)
	if err != nil {
		return err
	}
	g.Attachments = slices.Clone(g.Attachments)
	for _, arn := range arns {
		i := slices.IndexFunc(g.Attachments, func(a Attachment) bool { return a.ARN == arn })
		if i < 0 {
			return invalid("Trying to remove Target Groups that are not part of the group")
		}
		g.Attachments[i].State = "Removing"
	}
	Groups.Put(w, g)
	return nil
}
