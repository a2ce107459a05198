package access

import (
	"slices"
	"strings"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/compute"
	"skerry/internal/identity"
	"skerry/internal/scaling"
)

func (f *finder) reads() bool { return strings.HasPrefix(f.op, "Describe") }

// autoscaling is about groups, by their names or by what belongs to them.
func (f *finder) autoscaling() {
	if f.reads() || f.op == "GetPredictiveScalingForecast" {
		return
	}
	if f.op == "CreateLaunchConfiguration" || f.op == "DeleteLaunchConfiguration" {
		name := f.text("LaunchConfigurationName")
		arn := f.scope.ARN("autoscaling", "launchConfiguration:*:launchConfigurationName/"+name)
		if l, ok := scaling.LaunchConfigurations.Get(f.tx, f.scope.Key(name)); ok {
			arn = l.ARN()
		}
		f.add(arn, nil)
		if in, ok := f.in.Addr().Interface().(*as.CreateLaunchConfigurationType); ok {
			f.configuredRole(in.IamInstanceProfile, in.InstanceId)
		}
		return
	}
	names := append(f.texts("AutoScalingGroupName"), f.texts("Tags.ResourceId")...)
	if f.op == "SetInstanceHealth" || f.op == "TerminateInstanceInAutoScalingGroup" {
		for _, id := range f.texts("InstanceId") {
			if i, ok := compute.Instances.Get(f.tx, f.scope.Key(id)); ok && i.ASGName != "" {
				names = append(names, i.ASGName)
			}
		}
	}
	for _, arn := range f.texts("PolicyName") {
		for p := range scaling.Policies.By(f.tx, "arn", arn) {
			names = append(names, p.Group)
		}
	}
	for _, name := range names {
		f.add(f.groupARN(name), nil)
	}
	if len(names) == 0 {
		f.add(f.groupARN("*"), nil)
	}
	if in, ok := f.in.Addr().Interface().(*as.CreateAutoScalingGroupType); ok {
		f.groupLaunches(in.LaunchTemplate, in.MixedInstancesPolicy, in.VPCZoneIdentifier)
		f.configuredRole(nil, in.InstanceId)
	}
	if in, ok := f.in.Addr().Interface().(*as.StartInstanceRefreshType); ok && in.DesiredConfiguration != nil {
		f.groupLaunches(in.DesiredConfiguration.LaunchTemplate, in.DesiredConfiguration.MixedInstancesPolicy, nil)
	}
	if in, ok := f.in.Addr().Interface().(*as.UpdateAutoScalingGroupType); ok {
		f.groupLaunches(in.LaunchTemplate, in.MixedInstancesPolicy, in.VPCZoneIdentifier)
	}
}

func (f *finder) groupARN(name string) string {
	if g, ok := scaling.Groups.Get(f.tx, f.scope.Key(name)); ok {
		return g.ARN()
	}
	return f.scope.ARN("autoscaling", "autoScalingGroup:*:autoScalingGroupName/"+name)
}

// configuredRole asks for the role that a launch configuration gives to instances: its profile's, or that of the instance
// that it is made like.
func (f *finder) configuredRole(profile, instance *string) {
	name := api.Val(profile)
	if i, ok := compute.Instances.Get(f.tx, f.scope.Key(api.Val(instance))); ok && name == "" {
		name = i.IamInstanceProfileArn
	}
	switch {
	case strings.HasPrefix(name, "arn:"):
		f.passRole(&compute.ProfileSpec{Arn: name})
	case name != "":
		f.passRole(&compute.ProfileSpec{Name: name})
	}
}

// groupLaunches asks for the launches of a group that is given a template: who makes it must be allowed to launch.
func (f *finder) groupLaunches(t *as.LaunchTemplateSpecification, m *as.MixedInstancesPolicy, subnets *string) {
	var all []*as.LaunchTemplateSpecification
	if t != nil {
		all = append(all, t)
	}
	if m != nil && m.LaunchTemplate != nil {
		if m.LaunchTemplate.LaunchTemplateSpecification != nil {
			all = append(all, m.LaunchTemplate.LaunchTemplateSpecification)
		}
		for _, o := range m.LaunchTemplate.Overrides {
			if o.LaunchTemplateSpecification != nil {
				all = append(all, o.LaunchTemplateSpecification)
			}
		}
	}
	into := strings.FieldsFunc(api.Val(subnets), func(r rune) bool { return r == ',' || r == ' ' })
	if len(into) == 0 && len(all) > 0 {
		if g, ok := scaling.Groups.Get(f.tx, f.scope.Key(f.text("AutoScalingGroupName"))); ok {
			into = slices.Clone(g.Subnets)
		}
	}
	for _, t := range all {
		f.launches(compute.LaunchSpec{}, api.Val(t.LaunchTemplateId), api.Val(t.LaunchTemplateName), api.Val(t.Version), into)
	}
}

// elbMembers are the members whose ARNs an operation of Elastic Load Balancing is about.
var elbMembers = map[string]string{
	"AddListenerCertificates": "ListenerArn", "AddTags": "ResourceArns", "AddTrustStoreRevocations": "TrustStoreArn", "CreateListener": "LoadBalancerArn", "CreateRule": "ListenerArn",
	"DeleteSharedTrustStoreAssociation": "TrustStoreArn", "DeleteTrustStore": "TrustStoreArn", "GetTrustStoreCaCertificatesBundle": "TrustStoreArn",
	"GetTrustStoreRevocationContent": "TrustStoreArn", "GetResourcePolicy": "ResourceArn", "ModifyTrustStore": "TrustStoreArn", "RemoveTrustStoreRevocations": "TrustStoreArn",
	"DeleteListener": "ListenerArn", "DeleteLoadBalancer": "LoadBalancerArn", "DeleteRule": "RuleArn", "DeleteTargetGroup": "TargetGroupArn",
	"DeregisterTargets": "TargetGroupArn", "ModifyCapacityReservation": "LoadBalancerArn", "ModifyIpPools": "LoadBalancerArn",
	"ModifyListener": "ListenerArn", "ModifyListenerAttributes": "ListenerArn", "ModifyLoadBalancerAttributes": "LoadBalancerArn",
	"ModifyRule": "RuleArn", "ModifyTargetGroup": "TargetGroupArn", "ModifyTargetGroupAttributes": "TargetGroupArn", "RegisterTargets": "TargetGroupArn",
	"RemoveListenerCertificates": "ListenerArn", "RemoveTags": "ResourceArns", "SetIpAddressType": "LoadBalancerArn",
	"SetRulePriorities": "RulePriorities.RuleArn", "SetSecurityGroups": "LoadBalancerArn", "SetSubnets": "LoadBalancerArn",
}

func (f *finder) elb() {
	made := ""
	switch f.op {
	case "CreateLoadBalancer":
		kind := "app"
		switch f.text("Type") {
		case "network":
			kind = "net"
		case "gateway":
			kind = "gwy"
		}
		made = f.scope.ARN("elasticloadbalancing", "loadbalancer/"+kind+"/"+f.text("Name")+"/*")
		f.add(made, nil)
	case "CreateTargetGroup":
		made = f.scope.ARN("elasticloadbalancing", "targetgroup/"+f.text("Name")+"/*")
		f.add(made, nil)
	case "CreateTrustStore":
		made = f.scope.ARN("elasticloadbalancing", "truststore/"+f.text("Name")+"/*")
		f.add(made, nil)
	case "CreateListener":
		made = strings.Replace(f.text("LoadBalancerArn"), ":loadbalancer/", ":listener/", 1) + "/*"
	case "CreateRule":
		made = strings.Replace(f.text("ListenerArn"), ":listener/", ":listener-rule/", 1) + "/*"
	}
	for _, arn := range f.texts(elbMembers[f.op]) {
		f.add(arn, nil)
	}
	if made != "" && len(f.keys) > 0 {
		keys := map[string][]string{"elasticloadbalancing:createaction": {f.op}}
		for k, v := range f.keys {
			keys[k] = v
		}
		f.ask("elasticloadbalancing:AddTags", made, keys)
	}
}

func (f *finder) cloudwatch() {
	alarm := func(name string) string { return f.scope.ARN("cloudwatch", "alarm:"+name) }
	switch f.op {
	case "DescribeAlarms", "DescribeAlarmHistory", "DescribeAlarmsForMetric", "DescribeAlarmContributors", "DeleteAlarms", "DisableAlarmActions", "EnableAlarmActions",
		"PutMetricAlarm", "PutCompositeAlarm", "SetAlarmState":
		names := append(f.texts("AlarmNames"), f.texts("AlarmName")...)
		if len(names) == 0 {
			names = []string{"*"}
		}
		for _, name := range names {
			f.add(alarm(name), nil)
			if len(f.keys) > 0 && strings.HasPrefix(f.op, "Put") {
				f.ask("cloudwatch:TagResource", alarm(name), f.keys)
			}
		}
	case "DeleteDashboards", "GetDashboard", "PutDashboard":
		for _, name := range append(f.texts("DashboardNames"), f.texts("DashboardName")...) {
			f.add("arn:aws:cloudwatch::"+f.scope.Account+":dashboard/"+name, nil)
		}
	case "ListTagsForResource", "TagResource", "UntagResource":
		for _, arn := range f.texts("ResourceARN") {
			f.add(arn, nil)
		}
	case "PutMetricData":
		f.add("*", map[string][]string{"cloudwatch:namespace": f.texts("Namespace")})
	}
}

func (f *finder) acm() {
	arns := f.texts("CertificateArn")
	if f.op == "ImportCertificate" && len(arns) == 0 {
		arns = []string{f.scope.ARN("acm", "certificate/*")}
	}
	for _, arn := range arns {
		f.add(arn, nil)
		if f.op == "ImportCertificate" && len(f.keys) > 0 {
			f.ask("acm:AddTagsToCertificate", arn, f.keys)
		}
	}
}

func (f *finder) sts() {
	if f.op != "AssumeRole" {
		return
	}
	keys := map[string][]string{}
	for key, member := range map[string]string{"sts:externalid": "ExternalId", "sts:rolesessionname": "RoleSessionName", "sts:sourceidentity": "SourceIdentity"} {
		if v := f.texts(member); len(v) > 0 {
			keys[key] = v
		}
	}
	for _, arn := range f.texts("RoleArn") {
		f.add(arn, keys)
	}
}

// iam is about one entity: the one that the operation is named after.
func (f *finder) iam() {
	keys := map[string][]string{}
	for key, member := range map[string]string{"iam:policyarn": "PolicyArn", "iam:permissionsboundary": "PermissionsBoundary", "iam:awsservicename": "AWSServiceName"} {
		if v := f.texts(member); len(v) > 0 {
			keys[key] = v
		}
	}
	kind, arn := f.entity()
	if arn == "" {
		return
	}
	f.add(arn, keys)
	if tag := map[string]string{"user": "TagUser", "role": "TagRole", "policy": "TagPolicy", "instance-profile": "TagInstanceProfile"}[kind]; tag != "" && len(f.keys) > 0 && strings.HasPrefix(f.op, "Create") {
		f.ask("iam:"+tag, arn, f.keys)
	}
}

// entity finds the kind and the ARN of what an operation of IAM is about.
func (f *finder) entity() (kind, arn string) {
	account := f.scope.Account
	path := f.text("Path")
	if path == "" {
		path = "/"
	}
	base := "arn:aws:iam::" + account + ":"
	switch {
	case f.op == "CreateServiceLinkedRole":
		return "role", base + "role/aws-service-role/" + f.text("AWSServiceName") + "/*"
	case f.op == "DeleteServiceLinkedRole":
		return "role", f.role(base, "/")
	case f.op == "GetAccessKeyLastUsed":
		if k, ok := identity.AccessKeys.Get(f.tx, f.text("AccessKeyId")); ok && k.User != "" && k.Account == account {
			return "user", f.user(base, path, k.User)
		}
		return "", ""
	case f.op == "SimulatePrincipalPolicy":
		return "", f.text("PolicySourceArn")
	case f.op == "CreatePolicy":
		return "policy", base + "policy" + path + f.text("PolicyName")
	case strings.Contains(f.op, "InstanceProfile") && f.text("InstanceProfileName") != "":
		name := f.text("InstanceProfileName")
		if p, err := identity.GetInstanceProfile(f.tx, account, name); err == nil {
			return "instance-profile", p.ARN()
		}
		return "instance-profile", base + "instance-profile" + path + name
	case strings.Contains(f.op, "Group") && f.text("GroupName") != "":
		name := f.text("GroupName")
		if g, err := identity.GetGroup(f.tx, account, name); err == nil {
			return "group", g.ARN()
		}
		return "group", base + "group" + path + name
	case f.text("RoleName") != "":
		return "role", f.role(base, path)
	case f.text("UserName") != "":
		return "user", f.user(base, path, f.text("UserName"))
	case f.text("PolicyArn") != "":
		return "policy", f.text("PolicyArn")
	case f.in.FieldByName("UserName").IsValid() && strings.Contains(f.c.Principal.ARN, ":user/"): // who names no user means itself
		return "user", f.c.Principal.ARN
	}
	return "", ""
}

func (f *finder) role(base, path string) string {
	if r, err := identity.GetRole(f.tx, f.scope.Account, f.text("RoleName")); err == nil {
		return r.ARN()
	}
	return base + "role" + path + f.text("RoleName")
}

func (f *finder) user(base, path, name string) string {
	if u, err := identity.GetUser(f.tx, f.scope.Account, name); err == nil {
		return u.ARN()
	}
	return base + "user" + path + name
}
