package asgapi

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/metric"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/scaling/live"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

var here = scope.Scope{Account: "000000000000", Region: "us-east-1"}

// cloud is the domain without a host: instances run when the test says so.
type cloud struct {
	*Server
	t       *testing.T
	now     time.Time
	r       *scaling.Reconciler
	subnets []string
	lt, tg  string
	image   string
}

func newCloud(t *testing.T) *cloud { return newCloudWith(t, nil) }

// newCloudWith is newCloud with a source of its ids, or nil.
func newCloudWith(t *testing.T, ids io.Reader) *cloud {
	t.Helper()
	c := &cloud{t: t, now: time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return c.now }
	db, err := store.Open("", store.Options{Clock: clock, Rand: ids})
	if err != nil {
		t.Fatal(err)
	}
	e := &scaling.Engine{Compute: live.Compute{}, Balancer: live.Balancer{}, Alarms: live.Alarms{}, TimeScale: 20}
	c.Server = &Server{DB: db, Engine: e}
	c.r = &scaling.Reconciler{DB: db, Engine: e, Clock: clock}
	err = db.Update(func(w *store.WriteTx) error {
		v, err := network.CreateVPC(w, here, network.VPCParams{CIDR: "10.20.0.0/16"})
		if err != nil {
			return err
		}
		for i, z := range []string{"a", "b"} {
			sn, err := network.CreateSubnet(w, here, network.SubnetParams{VpcID: v.ID, CIDR: []string{"10.20.10.0/24", "10.20.11.0/24"}[i], AvailabilityZone: here.Region + z})
			if err != nil {
				return err
			}
			c.subnets = append(c.subnets, sn.ID)
		}
		img := compute.PutImage(w, compute.Image{Name: "skerry-nano-1"})
		c.image = img.ID
		lt, err := compute.CreateLaunchTemplate(w, here, "web", "", "", "", []byte(`{"ImageId":"`+img.ID+`","InstanceType":"t2.micro","TagSpecifications":[{"ResourceType":"instance","Tags":[{"Key":"Name","Value":"template"}]}]}`))
		if err != nil {
			return err
		}
		c.lt = lt.ID
		g := balance.TargetGroup{Scope: here, ARN: here.ARN("elasticloadbalancing", "targetgroup/web/0123456789abcdef"), Name: "web", ID: "0123456789abcdef", TargetType: "instance", Port: 80, VpcID: v.ID}
		balance.TargetGroups.Put(w, g)
		c.tg = g.ARN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cloud) call() *api.Call {
	return &api.Call{Ctx: context.Background(), Account: here.Account, Region: here.Region, DB: c.DB, Now: c.now, Authorize: func(_, _ string) error { return nil }}
}

func (c *cloud) update(fn func(w *store.WriteTx) error) {
	c.t.Helper()
	if err := c.DB.Update(fn); err != nil {
		c.t.Fatal(err)
	}
}

// run lets time pass; pending instances run, those that shut down end.
func (c *cloud) run(d time.Duration) {
	c.t.Helper()
	for end := c.now.Add(d); ; c.now = c.now.Add(250 * time.Millisecond) {
		if _, err := c.r.Step(context.Background()); err != nil {
			c.t.Fatal(err)
		}
		if !c.now.Before(end) {
			return
		}
		err := c.DB.Update(func(w *store.WriteTx) error {
			for i := range compute.Instances.All(w) {
				switch i.State {
				case compute.Pending:
					compute.MarkRunning(w, i.Scope, i.ID)
				case compute.Stopping:
					compute.MarkStopped(w, i.Scope, i.ID)
				case compute.ShuttingDown:
					compute.MarkTerminated(w, i.Scope, i.ID)
				}
			}
			return nil
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cloud) request() *as.CreateAutoScalingGroupType {
	return &as.CreateAutoScalingGroupType{AutoScalingGroupName: api.Ptr("g"), MinSize: api.Ptr(int32(2)), MaxSize: api.Ptr(int32(10)), DesiredCapacity: api.Ptr(int32(2)),
		LaunchTemplate:    &as.LaunchTemplateSpecification{LaunchTemplateId: &c.lt, Version: api.Ptr("$Latest")},
		VPCZoneIdentifier: api.Ptr(strings.Join(c.subnets, ",")), TargetGroupARNs: []string{c.tg}, HealthCheckType: api.Ptr("ELB"), HealthCheckGracePeriod: api.Ptr(int32(60)),
		Tags: []as.Tag{{Key: api.Ptr("Name"), Value: api.Ptr("group"), PropagateAtLaunch: api.Ptr(true)}}}
}

func (c *cloud) describe() as.AutoScalingGroup {
	c.t.Helper()
	out, err := c.describeAutoScalingGroups(c.call(), &as.AutoScalingGroupNamesType{AutoScalingGroupNames: []string{"g"}})
	if err != nil || len(out.AutoScalingGroups) != 1 {
		c.t.Fatalf("%d groups, %v", len(out.AutoScalingGroups), err)
	}
	return out.AutoScalingGroups[0]
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantError(t *testing.T, err error, code, part string) {
	t.Helper()
	f, ok := fault.As(err)
	if !ok || f.Code != code || !strings.Contains(f.Msg, part) {
		t.Errorf("wanted %s with %q, got %v", code, part, err)
	}
}

func TestTheReferenceGroup(t *testing.T) {
	c := newCloud(t)
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), c.request()))
	p := must[*as.PolicyARNType](t)(c.putScalingPolicy(c.call(), &as.PutScalingPolicyType{AutoScalingGroupName: api.Ptr("g"), PolicyName: api.Ptr("cpu50"), PolicyType: api.Ptr("TargetTrackingScaling"),
		EstimatedInstanceWarmup: api.Ptr(int32(60)), TargetTrackingConfiguration: &as.TargetTrackingConfiguration{TargetValue: api.Ptr(50.0),
			PredefinedMetricSpecification: &as.PredefinedMetricSpecification{PredefinedMetricType: api.Ptr("ASGAverageCPUUtilization")}}}))
	if len(p.Alarms) != 2 {
		t.Fatalf("alarms %+v", p.Alarms)
	}
	must[*as.PutScheduledUpdateGroupActionOutput](t)(c.putScheduledUpdateGroupAction(c.call(), &as.PutScheduledUpdateGroupActionType{AutoScalingGroupName: api.Ptr("g"), ScheduledActionName: api.Ptr("friday"),
		Recurrence: api.Ptr("0 18 * * 5"), MinSize: api.Ptr(int32(4)), MaxSize: api.Ptr(int32(10)), DesiredCapacity: api.Ptr(int32(4))}))
	c.run(time.Second)
	g := c.describe()
	zones := map[string]bool{}
	for _, i := range g.Instances {
		zones[*i.AvailabilityZone] = true
		if *i.LifecycleState != "InService" || *i.HealthStatus != "Healthy" || *i.LaunchTemplate.Version != "1" || *i.LaunchTemplate.LaunchTemplateName != "web" {
			t.Errorf("instance %+v", i)
		}
		tags := tag.Map(c.DB.Read(), here, *i.InstanceId)
		if tags["Name"] != "group" || tags["aws:autoscaling:groupName"] != "g" || tags["aws:ec2launchtemplate:id"] != c.lt {
			t.Errorf("tags %v", tags)
		}
	}
	if len(zones) != 2 || *g.LaunchTemplate.Version != "$Latest" || *g.VPCZoneIdentifier != strings.Join(c.subnets, ",") || g.AvailabilityZones[1] != "us-east-1b" {
		t.Fatalf("group %+v", g)
	}
	if n := len(balance.Targets(c.DB.Read(), here, c.tg)); n != 2 {
		t.Fatalf("%d targets", n)
	}
	// Its alarm makes the group grow.
	high, err := metric.GetAlarm(c.DB.Read(), here, *p.Alarms[0].AlarmName)
	if err != nil || high.Threshold != 50 || high.Dimensions["AutoScalingGroupName"] != "g" {
		t.Fatalf("alarm %+v, %v", high, err)
	}
	c.run(4 * time.Second) // the warm-up, scaled
	high.State = "ALARM"
	err = c.DB.Update(func(w *store.WriteTx) error {
		return live.OnAction(c.Engine)(w, high, "OK", metric.Verdict{State: "ALARM", Value: 70, HasValue: true}, *p.PolicyARN)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	if g = c.describe(); *g.DesiredCapacity != 3 || len(g.Instances) != 3 {
		t.Fatalf("after the alarm: %+v", g)
	}
	acts := must[*as.ActivitiesType](t)(c.describeScalingActivities(c.call(), &as.DescribeScalingActivitiesType{AutoScalingGroupName: api.Ptr("g")}))
	if cause := *acts.Activities[0].Cause; !strings.Contains(cause, "a monitor alarm "+high.Name+" in state ALARM triggered policy cpu50 changing the desired capacity from 2 to 3.") {
		t.Errorf("cause %q", cause)
	}
	// A terminated instance is replaced.
	victim := *g.Instances[0].InstanceId
	err = c.DB.Update(func(w *store.WriteTx) error { _, err := compute.Terminate(w, here, []string{victim}); return err })
	if err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	g = c.describe()
	if len(g.Instances) != 3 || *g.Instances[0].InstanceId == victim || *g.Instances[1].InstanceId == victim {
		t.Fatalf("instances %+v", g.Instances)
	}
	acts = must[*as.ActivitiesType](t)(c.describeScalingActivities(c.call(), &as.DescribeScalingActivitiesType{AutoScalingGroupName: api.Ptr("g")}))
	if len(acts.Activities) != 5 {
		t.Fatalf("%d activities", len(acts.Activities))
	}
	// Everything goes away.
	must[*as.DeleteAutoScalingGroupOutput](t)(c.deleteAutoScalingGroup(c.call(), &as.DeleteAutoScalingGroupType{AutoScalingGroupName: api.Ptr("g"), ForceDelete: api.Ptr(true)}))
	c.run(time.Second)
	out := must[*as.AutoScalingGroupsType](t)(c.describeAutoScalingGroups(c.call(), &as.AutoScalingGroupNamesType{}))
	if len(out.AutoScalingGroups) != 0 {
		t.Fatalf("groups %+v", out.AutoScalingGroups)
	}
	for i := range compute.Instances.All(c.DB.Read()) {
		if i.State != compute.Terminated {
			t.Errorf("%s is %s", i.ID, i.State)
		}
	}
	for range metric.Alarms.All(c.DB.Read()) {
		t.Error("an alarm is left over")
	}
	for a := range scaling.Schedules.All(c.DB.Read()) {
		t.Errorf("the action %s is left over", a.Name)
	}
}

func TestRefusedGroups(t *testing.T) {
	c := newCloud(t)
	template := func(name, document string) func(in *as.CreateAutoScalingGroupType) {
		if err := c.DB.Update(func(w *store.WriteTx) error {
			_, err := compute.CreateLaunchTemplate(w, here, name, "", "", "", []byte(document))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return func(in *as.CreateAutoScalingGroupType) {
			in.LaunchTemplate = &as.LaunchTemplateSpecification{LaunchTemplateName: api.Ptr(name)}
		}
	}
	for _, x := range []struct {
		code, part string
		edit       func(in *as.CreateAutoScalingGroupType)
	}{
		{"ValidationError", "You must use a valid fully-formed launch template. The image id '[ami-00000000000000000]' does not exist",
			template("image", `{"ImageId":"ami-00000000000000000"}`)},
		{"ValidationError", "You must use a valid fully-formed launch template. The key pair 'k' does not exist", template("key", `{"ImageId":"`+c.image+`","KeyName":"k"}`)},
		{"ValidationError", "Max bound, 1, must be greater than or equal to min bound, 2", func(in *as.CreateAutoScalingGroupType) { in.MaxSize, in.DesiredCapacity = api.Ptr(int32(1)), nil }},
		{"ValidationError", "Desired capacity:11 must be between the specified min size:2 and max size:10", func(in *as.CreateAutoScalingGroupType) { in.DesiredCapacity = api.Ptr(int32(11)) }},
		{"ValidationError", "At least one Availability Zone or VPC Subnet is required.", func(in *as.CreateAutoScalingGroupType) { in.VPCZoneIdentifier = nil }},
		{"ValidationError", "The subnet ID 'subnet-0' does not exist", func(in *as.CreateAutoScalingGroupType) { in.VPCZoneIdentifier = api.Ptr("subnet-0") }},
		{"ValidationError", "You must use a valid fully-formed launch template. The specified launch template, with template ID lt-0, does not exist.", func(in *as.CreateAutoScalingGroupType) { in.LaunchTemplate.LaunchTemplateId = api.Ptr("lt-0") }},
		{"ValidationError", "You must use a valid fully-formed launch template.", func(in *as.CreateAutoScalingGroupType) { in.LaunchTemplate.Version = api.Ptr("7") }},
		{"ValidationError", "Valid requests must contain either launchTemplate", func(in *as.CreateAutoScalingGroupType) { in.LaunchTemplate = nil }},
		{"ValidationError", "Provided Target Groups may not be valid.", func(in *as.CreateAutoScalingGroupType) { in.TargetGroupARNs = []string{c.tg + "0"} }},
		{"ValidationError", "minSize", func(in *as.CreateAutoScalingGroupType) { in.MinSize = nil }},
		{"ValidationError", "autoScalingGroupName", func(in *as.CreateAutoScalingGroupType) { in.AutoScalingGroupName = nil }},
		{"ValidationError", "may not contain", func(in *as.CreateAutoScalingGroupType) { in.AutoScalingGroupName = api.Ptr("a:b") }},
		{"ValidationError", "Launch configuration name not found", func(in *as.CreateAutoScalingGroupType) {
			in.LaunchTemplate, in.LaunchConfigurationName = nil, api.Ptr("none")
		}},
		{"ValidationError", "Invalid availability zone: us-east-1z", func(in *as.CreateAutoScalingGroupType) { in.AvailabilityZones = []string{"us-east-1z"} }},
		{"ValidationError", "do not match", func(in *as.CreateAutoScalingGroupType) { in.AvailabilityZones = []string{"us-east-1a"} }},
		{"ValidationError", "Invalid health check type: X", func(in *as.CreateAutoScalingGroupType) { in.HealthCheckType = api.Ptr("X") }},
		{"ValidationError", "Invalid termination policy: X", func(in *as.CreateAutoScalingGroupType) { in.TerminationPolicies = []string{"X"} }},
		{"ValidationError", "reserved for internal use", func(in *as.CreateAutoScalingGroupType) { in.Tags[0].Key = api.Ptr("aws:x") }},
		{"ValidationError", "Classic Load Balancers", func(in *as.CreateAutoScalingGroupType) { in.LoadBalancerNames = []string{"old"} }},
	} {
		in := c.request()
		x.edit(in)
		_, err := c.createAutoScalingGroup(c.call(), in)
		wantError(t, err, x.code, x.part)
	}
	if out := must[*as.AutoScalingGroupsType](t)(c.describeAutoScalingGroups(c.call(), &as.AutoScalingGroupNamesType{})); len(out.AutoScalingGroups) != 0 {
		t.Fatal("a refused request made a group")
	}
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), c.request()))
	_, err := c.createAutoScalingGroup(c.call(), c.request())
	wantError(t, err, "AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name g already exists")
	_, err = c.setDesiredCapacity(c.call(), &as.SetDesiredCapacityType{AutoScalingGroupName: api.Ptr("g"), DesiredCapacity: api.Ptr(int32(11))})
	wantError(t, err, "ValidationError", "New SetDesiredCapacity value 11 is above max value 10 for the AutoScalingGroup.")
	_, err = c.deleteAutoScalingGroup(c.call(), &as.DeleteAutoScalingGroupType{AutoScalingGroupName: api.Ptr("none")})
	wantError(t, err, "ValidationError", "AutoScalingGroup name not found - AutoScalingGroup none not found")
	_, err = c.describeAutoScalingGroups(c.call(), &as.AutoScalingGroupNamesType{NextToken: api.Ptr("x")})
	wantError(t, err, "InvalidNextToken", "")
	c.run(time.Second)
	id := *c.describe().Instances[0].InstanceId
	_, err = c.terminateInstanceInAutoScalingGroup(c.call(), &as.TerminateInstanceInAutoScalingGroupType{InstanceId: &id, ShouldDecrementDesiredCapacity: api.Ptr(true)})
	wantError(t, err, "ValidationError", "Currently, desiredSize equals minSize (2).")
	_, err = c.terminateInstanceInAutoScalingGroup(c.call(), &as.TerminateInstanceInAutoScalingGroupType{InstanceId: api.Ptr("i-0"), ShouldDecrementDesiredCapacity: api.Ptr(true)})
	wantError(t, err, "ValidationError", "No managed instance found for instance ID i-0")
}

func TestUpdateKeepsWhatIsLeftOut(t *testing.T) {
	c := newCloud(t)
	in := c.request()
	in.InstanceMaintenancePolicy = &as.InstanceMaintenancePolicy{MinHealthyPercentage: api.Ptr(int32(100)), MaxHealthyPercentage: api.Ptr(int32(150))}
	in.DefaultInstanceWarmup = api.Ptr(int32(30))
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), in))
	before := c.describe()
	must[*as.UpdateAutoScalingGroupOutput](t)(c.updateAutoScalingGroup(c.call(), &as.UpdateAutoScalingGroupType{AutoScalingGroupName: api.Ptr("g"), MinSize: api.Ptr(int32(3))}))
	g := c.describe()
	if *g.MinSize != 3 || *g.DesiredCapacity != 3 || *g.HealthCheckType != *before.HealthCheckType || *g.DefaultInstanceWarmup != 30 || *g.InstanceMaintenancePolicy.MaxHealthyPercentage != 150 ||
		*g.VPCZoneIdentifier != *before.VPCZoneIdentifier || *g.LaunchTemplate.LaunchTemplateId != c.lt {
		t.Fatalf("group %+v", g)
	}
	must[*as.UpdateAutoScalingGroupOutput](t)(c.updateAutoScalingGroup(c.call(), &as.UpdateAutoScalingGroupType{AutoScalingGroupName: api.Ptr("g"), DefaultInstanceWarmup: api.Ptr(int32(-1)),
		MixedInstancesPolicy: &as.MixedInstancesPolicy{LaunchTemplate: &as.LaunchTemplate{LaunchTemplateSpecification: &as.LaunchTemplateSpecification{LaunchTemplateName: api.Ptr("web")},
			Overrides: []as.LaunchTemplateOverrides{{InstanceType: api.Ptr("t3.micro")}}}}}))
	g = c.describe()
	if g.DefaultInstanceWarmup != nil || g.LaunchTemplate != nil || *g.MixedInstancesPolicy.LaunchTemplate.Overrides[0].InstanceType != "t3.micro" ||
		*g.MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId != c.lt || *g.MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity != 100 {
		t.Fatalf("group %+v", g)
	}
	c.run(time.Second)
	for _, i := range c.describe().Instances {
		if *i.InstanceType != "t3.micro" {
			t.Errorf("instance %+v", i)
		}
	}
}

func TestPages(t *testing.T) {
	c := newCloud(t)
	for _, n := range []string{"g1", "g2", "g3"} {
		in := c.request()
		in.AutoScalingGroupName = &n
		must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), in))
	}
	var names []string
	var next *string
	for {
		out := must[*as.AutoScalingGroupsType](t)(c.describeAutoScalingGroups(c.call(), &as.AutoScalingGroupNamesType{MaxRecords: api.Ptr(int32(2)), NextToken: next}))
		for _, g := range out.AutoScalingGroups {
			names = append(names, *g.AutoScalingGroupName)
		}
		if next = out.NextToken; next == nil {
			break
		}
	}
	if strings.Join(names, " ") != "g1 g2 g3" {
		t.Fatalf("pages gave %v", names)
	}
	tags := must[*as.TagsType](t)(c.describeTags(c.call(), &as.DescribeTagsType{Filters: []as.Filter{{Name: api.Ptr("auto-scaling-group"), Values: []string{"g2"}}}}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Value != "group" {
		t.Fatalf("tags %+v", tags.Tags)
	}
}

func TestLaunchConfigurations(t *testing.T) {
	c := newCloud(t)
	img := ""
	for i := range compute.Images.All(c.DB.Read()) {
		img = i.ID
	}
	must[*as.CreateLaunchConfigurationOutput](t)(c.createLaunchConfiguration(c.call(), &as.CreateLaunchConfigurationType{LaunchConfigurationName: api.Ptr("lc"), ImageId: &img, InstanceType: api.Ptr("t3.micro")}))
	in := c.request()
	in.LaunchTemplate, in.LaunchConfigurationName = nil, api.Ptr("lc")
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), in))
	c.run(time.Second)
	g := c.describe()
	if len(g.Instances) != 2 || *g.Instances[0].LaunchConfigurationName != "lc" || *g.Instances[0].InstanceType != "t3.micro" || g.Instances[0].LaunchTemplate != nil {
		t.Fatalf("group %+v", g)
	}
	_, err := c.deleteLaunchConfiguration(c.call(), &as.LaunchConfigurationNameType{LaunchConfigurationName: api.Ptr("lc")})
	wantError(t, err, "ResourceInUse", "Cannot delete launch configuration lc because it is attached to AutoScalingGroup g")
	out := must[*as.LaunchConfigurationsType](t)(c.describeLaunchConfigurations(c.call(), &as.LaunchConfigurationNamesType{}))
	if len(out.LaunchConfigurations) != 1 || *out.LaunchConfigurations[0].ImageId != img {
		t.Fatalf("configurations %+v", out.LaunchConfigurations)
	}
}

func TestInstanceRefresh(t *testing.T) {
	c := newCloud(t)
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), c.request()))
	c.run(time.Second)
	before := *c.describe().Instances[0].InstanceId
	_, err := c.startInstanceRefresh(c.call(), &as.StartInstanceRefreshType{AutoScalingGroupName: api.Ptr("g"), Preferences: &as.RefreshPreferences{MinHealthyPercentage: api.Ptr(int32(101))}})
	wantError(t, err, "ValidationError", "MinHealthyPercentage must be between 0 and 100.")
	r := must[*as.StartInstanceRefreshAnswer](t)(c.startInstanceRefresh(c.call(), &as.StartInstanceRefreshType{AutoScalingGroupName: api.Ptr("g"),
		Preferences: &as.RefreshPreferences{MinHealthyPercentage: api.Ptr(int32(50)), InstanceWarmup: api.Ptr(int32(20))}}))
	c.run(20 * time.Second)
	out := must[*as.DescribeInstanceRefreshesAnswer](t)(c.describeInstanceRefreshes(c.call(), &as.DescribeInstanceRefreshesType{AutoScalingGroupName: api.Ptr("g")}))
	if len(out.InstanceRefreshes) != 1 {
		t.Fatalf("%d refreshes", len(out.InstanceRefreshes))
	}
	got := out.InstanceRefreshes[0]
	if *got.InstanceRefreshId != *r.InstanceRefreshId || *got.Status != "Successful" || *got.PercentageComplete != 100 || *got.Preferences.MaxHealthyPercentage != 100 || *got.Preferences.MinHealthyPercentage != 50 {
		t.Fatalf("refresh %+v", got)
	}
	for _, i := range c.describe().Instances {
		if *i.InstanceId == before {
			t.Errorf("%s was not replaced", before)
		}
	}
}

func TestEveryHandlerIsRegistered(t *testing.T) {
	m := api.NewMux(&as.Service)
	(&Server{}).Register(m)
	served := map[string]bool{}
	for _, h := range m.Handlers() {
		served[h.Name] = true
	}
	for _, op := range as.Service.Operations {
		if !served[op.Name] {
			t.Errorf("%s is not served", op.Name)
		}
	}
}

// TestAPageAfterARowThatWent: a listing goes on where it was when its last row is gone meanwhile.
func TestAPageAfterARowThatWent(t *testing.T) {
	t.Parallel()
	rows := []string{"a", "b", "c", "d", "e"}
	key := func(s string) string { return s }
	first, token, err := page(rows, key, api.Ptr(int32(2)), nil, 50, 100)
	if err != nil || strings.Join(first, "") != "ab" {
		t.Fatal(first, err)
	}
	for name, c := range map[string]struct{ rows, want string }{"nothing": {"abcde", "cd"}, "its last": {"acde", "cd"}, "both": {"cde", "cd"}, "the one before": {"bcde", "cd"}, "all that follow": {"ab", ""}} {
		rest, _, err := page(strings.Split(c.rows, ""), key, api.Ptr(int32(2)), token, 50, 100)
		if err != nil || strings.Join(rest, "") != c.want {
			t.Errorf("%s went: %v %v", name, rest, err)
		}
	}
}
