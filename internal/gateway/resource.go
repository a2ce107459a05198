package gateway

import (
	"reflect"
	"strings"

	"skerry/api"
)

// maxResources bounds the resources that one request is asked about.
const maxResources = 1000

// ec2Resources are the resource types of EC2's ARNs by the prefix of their ids.
var ec2Resources = map[string]string{
	"i": "instance", "vpc": "vpc", "subnet": "subnet", "sg": "security-group", "sgr": "security-group-rule", "igw": "internet-gateway",
	"rtb": "route-table", "eni": "network-interface", "vol": "volume", "snap": "snapshot", "ami": "image", "lt": "launch-template",
	"key": "key-pair", "eipalloc": "elastic-ip", "nat": "natgateway", "acl": "network-acl", "dopt": "dhcp-options", "pg": "placement-group",
}

// iamResources are the resource types of IAM's ARNs by the member that names one, the one that a request is about first.
var iamResources = []struct{ member, kind string }{
	{"RoleName", "role"}, {"UserName", "user"}, {"GroupName", "group"}, {"InstanceProfileName", "instance-profile"},
}

// resources lists the ARNs of what a request names, as far as its words alone tell: what a resource-level policy is
// asked about. A request that reads lists, or names nothing, is about "*", as in AWS.
func resources(x *Exchange) []string {
	f := &finder{x: x, seen: map[string]bool{}}
	in := reflect.ValueOf(x.In).Elem()
	read := strings.HasPrefix(x.Operation, "Describe") || strings.HasPrefix(x.Operation, "List")
	switch x.Service.Name {
	case "ec2":
		if !read {
			f.walk(in, f.ec2)
		}
		if x.Operation == "RunInstances" {
			f.add(x.Call.Scope().ARN("ec2", "instance/*"))
		}
	case "elbv2":
		if !read {
			f.walk(in, f.arn("arn:aws:elasticloadbalancing:"))
		}
	case "acm":
		f.walk(in, f.arn("arn:aws:acm:"))
	case "sts":
		f.walk(in, f.arn("arn:aws:iam:"))
	case "autoscaling":
		if !read {
			for _, name := range texts(in.FieldByName("AutoScalingGroupName")) {
				f.add(x.Call.Scope().ARN("autoscaling", "autoScalingGroup:*:autoScalingGroupName/"+name))
			}
		}
	case "cloudwatch":
		if !read {
			for _, member := range []string{"AlarmName", "AlarmNames"} {
				for _, name := range texts(in.FieldByName(member)) {
					f.add(x.Call.Scope().ARN("cloudwatch", "alarm:"+name))
				}
			}
		}
	case "iam":
		f.iam(in)
	}
	if len(f.found) == 0 {
		return []string{"*"}
	}
	return f.found
}

type finder struct {
	x     *Exchange
	found []string
	seen  map[string]bool
}

func (f *finder) add(arn string) {
	if !f.seen[arn] && len(f.found) < maxResources {
		f.seen[arn] = true
		f.found = append(f.found, arn)
	}
}

// walk calls fn for every string of the input with its member's name.
func (f *finder) walk(v reflect.Value, fn func(member, s string)) {
	for i := range v.NumField() {
		name, fv := v.Type().Field(i).Name, v.Field(i)
		if name == "Filters" || name == "Tags" || name == "TagSpecifications" {
			continue
		}
		for _, s := range texts(fv) {
			fn(name, s)
		}
		switch {
		case fv.Kind() == reflect.Pointer && !fv.IsNil() && fv.Elem().Kind() == reflect.Struct && fv.Elem().Type().PkgPath() != "time":
			f.walk(fv.Elem(), fn)
		case fv.Kind() == reflect.Slice && fv.Type().Elem().Kind() == reflect.Struct:
			for n := range fv.Len() {
				f.walk(fv.Index(n), fn)
			}
		}
	}
}

// texts returns the value of a *string member, or of a []string member.
func texts(v reflect.Value) []string {
	if !v.IsValid() {
		return nil
	}
	switch p := v.Interface().(type) {
	case *string:
		if p != nil && *p != "" {
			return []string{*p}
		}
	case []string:
		return p
	}
	return nil
}

func (f *finder) ec2(member, s string) {
	scope := f.x.Call.Scope()
	if member == "KeyName" {
		f.add(scope.ARN("ec2", "key-pair/"+s))
		return
	}
	if !strings.HasSuffix(member, "Id") && !strings.HasSuffix(member, "Ids") && member != "Resources" && member != "Groups" {
		return
	}
	prefix, _, ok := strings.Cut(s, "-")
	kind := ec2Resources[prefix]
	if !ok || kind == "" {
		return
	}
	if kind == "image" || kind == "snapshot" { // may be another account's
		scope.Account = ""
	}
	f.add(scope.ARN("ec2", kind+"/"+s))
}

// arn returns a function that takes the ARNs with a prefix, from members whose name says that they hold one.
func (f *finder) arn(prefix string) func(member, s string) {
	return func(member, s string) {
		if strings.Contains(member, "Arn") && strings.HasPrefix(s, prefix) {
			f.add(s)
		}
	}
}

func (f *finder) iam(in reflect.Value) {
	path := "/"
	if p := texts(in.FieldByName("Path")); len(p) > 0 {
		path = p[0]
	}
	base := "arn:aws:iam::" + f.x.Call.Account + ":"
	for _, r := range iamResources {
		if names := texts(in.FieldByName(r.member)); len(names) > 0 {
			f.add(base + r.kind + path + names[0])
			return
		}
	}
	if arns := texts(in.FieldByName("PolicyArn")); len(arns) > 0 {
		f.add(arns[0])
		return
	}
	if names := texts(in.FieldByName("PolicyName")); len(names) > 0 {
		f.add(base + "policy" + path + names[0])
	}
}

// open lists the operations that any principal may call, as in AWS.
var open = map[string]bool{"sts:GetCallerIdentity": true, "sts:GetSessionToken": true}

// authorize asks whether the principal may do the operation to each of the resources that the request names. Handlers
// ask again for those that only the state knows.
func authorize(x *Exchange) error {
	action := actionPrefix(x.Service) + ":" + x.Operation
	if open[action] {
		return nil
	}
	for _, arn := range resources(x) {
		if err := x.Call.Authorize(action, arn); err != nil {
			return err
		}
	}
	return nil
}

// actionPrefix is the service's part of an IAM action.
func actionPrefix(s *api.Service) string {
	if s.Name == "elbv2" {
		return "elasticloadbalancing"
	}
	return s.Name
}
