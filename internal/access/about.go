package access

import (
	"strconv"
	"strings"

	"skerry/internal/compute"
	"skerry/internal/identity"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// about is what conditions may ask about a resource that is there: its tags and, for EC2's, its most asked properties.
func about(tx store.Tx, caller, arn string) map[string][]string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[0] != "arn" {
		return nil
	}
	s := scope.Scope{Account: f[4], Region: f[3]}
	if s.Account == "" { // images and snapshots, whose tags each account has of its own
		s.Account = caller
	}
	keys := map[string][]string{}
	switch f[2] {
	case "ec2":
		kind, id, _ := strings.Cut(f[5], "/")
		aboutEC2(keys, tx, s, kind, id)
	case "autoscaling":
		_, rest, _ := strings.Cut(f[5], "autoScalingGroupName/")
		name, _, _ := strings.Cut(rest, ":")
		if g, ok := scaling.Groups.Get(tx, s.Key(name)); ok {
			for _, t := range g.Tags {
				resourceTag(keys, "autoscaling", t.Key, t.Value)
			}
		}
	case "elasticloadbalancing", "cloudwatch", "acm":
		for k, v := range tag.Map(tx, s, arn) {
			resourceTag(keys, f[2], k, v)
		}
	case "iam":
		for k, v := range iamTags(tx, s.Account, f[5]) {
			resourceTag(keys, "iam", k, v)
		}
	}
	return keys
}

func resourceTag(keys map[string][]string, service, key, value string) {
	key = strings.ToLower(key)
	keys["aws:resourcetag/"+key] = []string{value}
	keys[service+":resourcetag/"+key] = []string{value}
}

func iamTags(tx store.Tx, account, resource string) map[string]string {
	kind, path, _ := strings.Cut(resource, "/")
	name := path[strings.LastIndex(path, "/")+1:]
	switch kind {
	case "user":
		u, _ := identity.GetUser(tx, account, name)
		return u.Tags
	case "role":
		r, _ := identity.GetRole(tx, account, name)
		return r.Tags
	case "instance-profile":
		p, _ := identity.GetInstanceProfile(tx, account, name)
		return p.Tags
	}
	return nil
}

// aboutEC2 adds what EC2 says of a resource. The tags that lie under a resource's id identity knows itself.
func aboutEC2(keys map[string][]string, tx store.Tx, s scope.Scope, kind, id string) {
	vpc := func(id string) []string { return []string{s.ARN("ec2", "vpc/"+id)} }
	switch key := s.Key(id); kind {
	case "instance":
		if i, ok := compute.Instances.Get(tx, key); ok {
			keys["ec2:instanceid"], keys["ec2:instancetype"], keys["ec2:availabilityzone"] = []string{i.ID}, []string{i.InstanceType}, []string{i.AvailabilityZone}
			keys["ec2:rootdevicetype"], keys["ec2:tenancy"] = []string{"ebs"}, []string{"default"}
			if i.Tenancy != "" {
				keys["ec2:tenancy"] = []string{i.Tenancy}
			}
			if i.IamInstanceProfileArn != "" {
				keys["ec2:instanceprofile"] = []string{i.IamInstanceProfileArn}
			}
		}
	case "subnet":
		if n, ok := network.Subnets.Get(tx, key); ok {
			keys["ec2:subnetid"], keys["ec2:vpc"], keys["ec2:availabilityzone"] = []string{n.ID}, vpc(n.VpcID), []string{n.AvailabilityZone}
		}
	case "vpc":
		if v, ok := network.VPCs.Get(tx, key); ok {
			keys["ec2:vpcid"], keys["ec2:tenancy"] = []string{v.ID}, []string{v.InstanceTenancy}
		}
	case "security-group":
		if g, ok := network.SecurityGroups.Get(tx, key); ok {
			keys["ec2:securitygroupid"], keys["ec2:vpc"] = []string{g.ID}, vpc(g.VpcID)
		}
	case "network-interface":
		if e, ok := network.ENIs.Get(tx, key); ok {
			keys["ec2:networkinterfaceid"], keys["ec2:vpc"], keys["ec2:availabilityzone"] = []string{e.ID}, vpc(e.VpcID), []string{e.AvailabilityZone}
			keys["ec2:subnet"] = []string{s.ARN("ec2", "subnet/"+e.SubnetID)}
		}
	case "route-table":
		if t, ok := network.RouteTables.Get(tx, key); ok {
			keys["ec2:routetableid"], keys["ec2:vpc"] = []string{t.ID}, vpc(t.VpcID)
		}
	case "network-acl":
		if a, ok := network.NetworkACLs.Get(tx, key); ok {
			keys["ec2:networkaclid"], keys["ec2:vpc"] = []string{a.ID}, vpc(a.VpcID)
		}
	case "elastic-ip":
		if a, ok := network.Addresses.Get(tx, key); ok {
			keys["ec2:allocationid"], keys["ec2:publicipaddress"], keys["ec2:domain"] = []string{a.AllocationID}, []string{a.PublicIP}, []string{"vpc"}
		}
	case "volume":
		if v, ok := compute.Volumes.Get(tx, key); ok {
			keys["ec2:volumeid"], keys["ec2:volumetype"], keys["ec2:volumesize"] = []string{v.ID}, []string{v.Type}, []string{strconv.Itoa(v.SizeGiB)}
			keys["ec2:encrypted"], keys["ec2:availabilityzone"] = []string{strconv.FormatBool(v.Encrypted)}, []string{v.AvailabilityZone}
		}
	case "image", "snapshot":
		if i, err := compute.GetImage(tx, s, id); err == nil {
			keys["ec2:imageid"], keys["ec2:owner"], keys["ec2:public"] = []string{i.ID}, []string{i.OwnerID}, []string{strconv.FormatBool(i.Public)}
			keys["ec2:imagetype"], keys["ec2:rootdevicetype"] = []string{"machine"}, []string{"ebs"}
			if i.OwnerAlias != "" {
				keys["ec2:owner"] = []string{i.OwnerAlias}
			}
		}
		for k, v := range tag.Map(tx, s, id) {
			resourceTag(keys, "ec2", k, v)
		}
	case "key-pair":
		for k := range compute.KeyPairs.By(tx, "name", key) {
			keys["ec2:keypairname"], keys["ec2:keypairtype"] = []string{k.Name}, []string{k.Type}
			for key, v := range tag.Map(tx, s, k.ID) {
				resourceTag(keys, "ec2", key, v)
			}
		}
	}
}
