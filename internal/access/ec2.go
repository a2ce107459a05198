package access

import (
	"strings"

	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
)

// ec2Terms says what each operation of EC2 is about, in words of these forms:
//
//	TYPE:MEMBER   the resources that the member of the input names; TYPE/* when it names none
//	TYPE?MEMBER   the same; nothing when it names none
//	TYPE/*        what the operation makes
//	@NAME         what the function NAME of ec2Lookups finds
//	*             no resources: the action as such
var ec2Terms = map[string]string{
	"AllocateAddress":                             "elastic-ip/*",
	"AssignPrivateIpAddresses":                    "network-interface:NetworkInterfaceId",
	"AssociateAddress":                            "@address instance?InstanceId network-interface?NetworkInterfaceId",
	"AssociateDhcpOptions":                        "dhcp-options:DhcpOptionsId vpc:VpcId",
	"AssociateIamInstanceProfile":                 "instance:InstanceId",
	"AssociateRouteTable":                         "route-table:RouteTableId subnet?SubnetId internet-gateway?GatewayId",
	"AssociateSubnetCidrBlock":                    "subnet:SubnetId",
	"AssociateVpcCidrBlock":                       "vpc:VpcId",
	"AttachInternetGateway":                       "internet-gateway:InternetGatewayId vpc:VpcId",
	"AttachNetworkInterface":                      "network-interface:NetworkInterfaceId instance:InstanceId",
	"AttachVolume":                                "volume:VolumeId instance:InstanceId",
	"AuthorizeSecurityGroupEgress":                "security-group:GroupId",
	"AuthorizeSecurityGroupIngress":               "@group",
	"CancelSpotInstanceRequests":                  "spot-instances-request:SpotInstanceRequestIds",
	"CopyImage":                                   "image/*",
	"CreateDefaultSubnet":                         "*",
	"CreateDefaultVpc":                            "*",
	"CreateDhcpOptions":                           "dhcp-options/*",
	"CreateImage":                                 "instance:InstanceId image/* snapshot/*",
	"CreateInternetGateway":                       "internet-gateway/*",
	"CreateKeyPair":                               "@key",
	"CreateLaunchTemplate":                        "launch-template/*",
	"CreateLaunchTemplateVersion":                 "@template",
	"CreateNatGateway":                            "natgateway/* subnet:SubnetId elastic-ip?AllocationId",
	"CreateNetworkAcl":                            "network-acl/* vpc:VpcId",
	"CreateNetworkAclEntry":                       "network-acl:NetworkAclId",
	"CreateNetworkInterface":                      "network-interface/* subnet:SubnetId security-group?Groups",
	"CreatePlacementGroup":                        "placement-group:GroupName",
	"CreateRoute":                                 "route-table:RouteTableId",
	"CreateRouteTable":                            "route-table/* vpc:VpcId",
	"CreateSecurityGroup":                         "security-group/* @vpc",
	"CreateSnapshot":                              "snapshot/* volume:VolumeId",
	"CreateSubnet":                                "subnet/* vpc:VpcId",
	"CreateTags":                                  "@tagged",
	"CreateVolume":                                "volume/* snapshot?SnapshotId",
	"CreateVpc":                                   "vpc/*",
	"DeleteDhcpOptions":                           "dhcp-options:DhcpOptionsId",
	"DeleteInternetGateway":                       "internet-gateway:InternetGatewayId",
	"DeleteKeyPair":                               "@key",
	"DeleteLaunchTemplate":                        "@template",
	"DeleteLaunchTemplateVersions":                "@template",
	"DeleteNatGateway":                            "natgateway:NatGatewayId",
	"DeleteNetworkAcl":                            "network-acl:NetworkAclId",
	"DeleteNetworkAclEntry":                       "network-acl:NetworkAclId",
	"DeleteNetworkInterface":                      "network-interface:NetworkInterfaceId",
	"DeletePlacementGroup":                        "placement-group:GroupName",
	"DeleteRoute":                                 "route-table:RouteTableId",
	"DeleteRouteTable":                            "route-table:RouteTableId",
	"DeleteSecurityGroup":                         "@group",
	"DeleteSnapshot":                              "snapshot:SnapshotId",
	"DeleteSubnet":                                "subnet:SubnetId",
	"DeleteTags":                                  "@tagged",
	"DeleteVolume":                                "volume:VolumeId",
	"DeleteVpc":                                   "vpc:VpcId",
	"DeregisterImage":                             "image:ImageId",
	"DescribeImageAttribute":                      "image:ImageId",
	"DescribeInstanceAttribute":                   "instance:InstanceId",
	"DescribeNetworkInterfaceAttribute":           "network-interface:NetworkInterfaceId",
	"DescribeVolumeAttribute":                     "volume:VolumeId",
	"DescribeVpcAttribute":                        "vpc:VpcId",
	"DetachInternetGateway":                       "internet-gateway:InternetGatewayId vpc:VpcId",
	"DetachNetworkInterface":                      "@attachment",
	"DetachVolume":                                "volume:VolumeId instance?InstanceId",
	"DisableEbsEncryptionByDefault":               "*",
	"DisableImage":                                "image:ImageId",
	"DisableImageDeprecation":                     "image:ImageId",
	"DisableImageDeregistrationProtection":        "image:ImageId",
	"DisableSerialConsoleAccess":                  "*",
	"DisableVgwRoutePropagation":                  "route-table:RouteTableId",
	"DisassociateAddress":                         "@address",
	"DisassociateIamInstanceProfile":              "@profile",
	"DisassociateRouteTable":                      "@association",
	"DisassociateSubnetCidrBlock":                 "subnet/*",
	"DisassociateVpcCidrBlock":                    "vpc/*",
	"EnableEbsEncryptionByDefault":                "*",
	"EnableImage":                                 "image:ImageId",
	"EnableImageDeprecation":                      "image:ImageId",
	"EnableImageDeregistrationProtection":         "image:ImageId",
	"EnableSerialConsoleAccess":                   "*",
	"EnableVgwRoutePropagation":                   "route-table:RouteTableId",
	"GetConsoleOutput":                            "instance:InstanceId",
	"GetInstanceUefiData":                         "instance:InstanceId",
	"GetLaunchTemplateData":                       "instance:InstanceId",
	"GetManagedPrefixListEntries":                 "prefix-list:PrefixListId",
	"GetPasswordData":                             "instance:InstanceId",
	"GetSecurityGroupsForVpc":                     "vpc:VpcId",
	"ImportKeyPair":                               "@key",
	"ModifyAddressAttribute":                      "elastic-ip:AllocationId",
	"ModifyAvailabilityZoneGroup":                 "*",
	"ModifyDefaultCreditSpecification":            "*",
	"ModifyImageAttribute":                        "image:ImageId",
	"ModifyInstanceAttribute":                     "instance:InstanceId security-group?Groups",
	"ModifyInstanceCapacityReservationAttributes": "instance:InstanceId",
	"ModifyInstanceCpuOptions":                    "instance:InstanceId",
	"ModifyInstanceCreditSpecification":           "instance:InstanceCreditSpecifications.InstanceId",
	"ModifyInstanceMaintenanceOptions":            "instance:InstanceId",
	"ModifyInstanceMetadataDefaults":              "*",
	"ModifyInstanceMetadataOptions":               "instance:InstanceId",
	"ModifyInstanceNetworkPerformanceOptions":     "instance:InstanceId",
	"ModifyInstancePlacement":                     "instance:InstanceId",
	"ModifyLaunchTemplate":                        "@template",
	"ModifyNetworkInterfaceAttribute":             "network-interface:NetworkInterfaceId security-group?Groups",
	"ModifyPrivateDnsNameOptions":                 "instance:InstanceId",
	"ModifySecurityGroupRules":                    "security-group:GroupId security-group-rule?SecurityGroupRules.SecurityGroupRuleId",
	"ModifySubnetAttribute":                       "subnet:SubnetId",
	"ModifyVolume":                                "volume:VolumeId",
	"ModifyVolumeAttribute":                       "volume:VolumeId",
	"ModifyVpcAttribute":                          "vpc:VpcId",
	"ModifyVpcTenancy":                            "vpc:VpcId",
	"MonitorInstances":                            "instance:InstanceIds",
	"RebootInstances":                             "instance:InstanceIds",
	"RegisterImage":                               "image/* snapshot?BlockDeviceMappings.Ebs.SnapshotId",
	"ReleaseAddress":                              "@address",
	"ReplaceIamInstanceProfileAssociation":        "@profile",
	"ReplaceNetworkAclAssociation":                "network-acl:NetworkAclId @acl",
	"ReplaceNetworkAclEntry":                      "network-acl:NetworkAclId",
	"ReplaceRoute":                                "route-table:RouteTableId",
	"ReplaceRouteTableAssociation":                "route-table:RouteTableId @association",
	"ReportInstanceStatus":                        "instance:Instances",
	"ResetImageAttribute":                         "image:ImageId",
	"ResetInstanceAttribute":                      "instance:InstanceId",
	"ResetNetworkInterfaceAttribute":              "network-interface:NetworkInterfaceId",
	"RevokeSecurityGroupEgress":                   "security-group:GroupId",
	"RevokeSecurityGroupIngress":                  "@group",
	"RunInstances":                                "@launch",
	"SendDiagnosticInterrupt":                     "instance:InstanceId",
	"StartInstances":                              "instance:InstanceIds",
	"StopInstances":                               "instance:InstanceIds",
	"TerminateInstances":                          "instance:InstanceIds",
	"UnassignPrivateIpAddresses":                  "network-interface:NetworkInterfaceId",
	"UnmonitorInstances":                          "instance:InstanceIds",
	"UpdateSecurityGroupRuleDescriptionsEgress":   "@group",
	"UpdateSecurityGroupRuleDescriptionsIngress":  "@group",
}

// ec2Types are the resource types of EC2's ARNs by the prefix of their ids.
var ec2Types = map[string]string{
	"i": "instance", "vpc": "vpc", "subnet": "subnet", "sg": "security-group", "sgr": "security-group-rule", "igw": "internet-gateway",
	"rtb": "route-table", "eni": "network-interface", "vol": "volume", "snap": "snapshot", "ami": "image", "lt": "launch-template", "sir": "spot-instances-request",
	"key": "key-pair", "eipalloc": "elastic-ip", "nat": "natgateway", "acl": "network-acl", "dopt": "dhcp-options", "pg": "placement-group",
	"pl": "prefix-list",
}

// ec2Lookups find what an input names in other words than ids.
var ec2Lookups map[string]func(*finder)

func init() { // they refer to finder.ec2's table in turn
	ec2Lookups = map[string]func(*finder){
		"acl": (*finder).aclAssociation, "address": (*finder).address, "association": (*finder).routeAssociation, "attachment": (*finder).attachment,
		"group": (*finder).group, "key": (*finder).keyPair, "launch": (*finder).launch, "profile": (*finder).profile, "tagged": (*finder).tagged,
		"template": (*finder).template, "vpc": (*finder).vpc,
	}
}

func (f *finder) ec2() {
	for _, term := range strings.Fields(ec2Terms[f.op]) {
		if name, ok := strings.CutPrefix(term, "@"); ok {
			ec2Lookups[name](f)
			continue
		}
		if kind, ok := strings.CutSuffix(term, "/*"); ok {
			f.fresh(kind)
			continue
		}
		if kind, member, ok := strings.Cut(term, "?"); ok {
			f.ids(kind, f.texts(member))
		} else if kind, member, ok := strings.Cut(term, ":"); ok {
			f.named(kind, f.texts(member)...)
		}
	}
	if f.op != "RunInstances" {
		f.tagging(f.tagSpecs())
	}
}

func (f *finder) arn(kind, id string) string { return ec2ARN(f.scope, kind, id) }

func ec2ARN(s scope.Scope, kind, id string) string {
	if kind == "image" || kind == "snapshot" { // may be another account's
		s.Account = ""
	}
	return s.ARN("ec2", kind+"/"+id)
}

// fresh asks for what the operation makes; the tags that it gets are known to conditions.
func (f *finder) fresh(kind string) {
	keys := map[string][]string{}
	for _, t := range f.tagSpecs() {
		if t.ResourceType == kind {
			for _, p := range t.Tags {
				tagKey(keys, p.Key, p.Value)
			}
		}
	}
	f.add(f.arn(kind, "*"), keys)
}

func (f *finder) ids(kind string, ids []string) {
	for _, id := range ids {
		f.add(f.arn(kind, id), nil)
	}
}

// named asks for the ids, or for any when there are none.
func (f *finder) named(kind string, ids ...string) {
	n := 0
	for _, id := range ids {
		if id != "" {
			f.add(f.arn(kind, id), nil)
			n++
		}
	}
	if n == 0 {
		f.add(f.arn(kind, "*"), nil)
	}
}

// tagSpecs are the tags that the input gives to what it makes.
func (f *finder) tagSpecs() []compute.TagSpec {
	v := f.in.FieldByName("TagSpecifications")
	if !v.IsValid() {
		return nil
	}
	list, _ := v.Interface().([]ec2.TagSpecification)
	var out []compute.TagSpec
	for _, t := range list {
		s := compute.TagSpec{}
		if t.ResourceType != nil {
			s.ResourceType = *t.ResourceType
		}
		for _, p := range t.Tags {
			if p.Key != nil {
				pair := compute.TagPair{Key: *p.Key}
				if p.Value != nil {
					pair.Value = *p.Value
				}
				s.Tags = append(s.Tags, pair)
			}
		}
		out = append(out, s)
	}
	return out
}

// tagging asks for CreateTags on what gets tags as it is made.
func (f *finder) tagging(specs []compute.TagSpec) {
	for _, t := range specs {
		if len(t.Tags) == 0 || t.ResourceType == "" {
			continue
		}
		keys := map[string][]string{"ec2:createaction": {f.op}}
		for _, p := range t.Tags {
			tagKey(keys, p.Key, p.Value)
		}
		f.ask("ec2:CreateTags", f.arn(t.ResourceType, "*"), keys)
	}
}

func (f *finder) tagged() {
	for _, id := range f.texts("Resources") {
		prefix, _, _ := strings.Cut(id, "-")
		kind := ec2Types[prefix]
		if kind == "" {
			kind = "*"
		}
		if k, ok := compute.KeyPairs.Get(f.tx, f.scope.Key(id)); ok && kind == "key-pair" {
			id = k.Name
		}
		f.add(f.arn(kind, id), nil)
	}
}

func (f *finder) keyPair() {
	byID, _ := compute.KeyPairs.Get(f.tx, f.scope.Key(f.text("KeyPairId")))
	f.named("key-pair", f.text("KeyName"), byID.Name)
}

func (f *finder) template() {
	ids := f.texts("LaunchTemplateId")
	if name := f.text("LaunchTemplateName"); name != "" {
		if t, err := compute.GetLaunchTemplate(f.tx, f.scope, "", name); err == nil {
			ids = append(ids, t.ID)
		}
	}
	f.named("launch-template", ids...)
}

// group is a security group by its id, or by its name in the default VPC.
func (f *finder) group() {
	f.named("security-group", append(f.texts("GroupId"), f.groupsByName(f.texts("GroupName"))...)...)
}

// groupsByName are the security groups of these names in the default VPC.
func (f *finder) groupsByName(names []string) []string {
	var ids []string
	if v, ok := network.DefaultVPC(f.tx, f.scope); ok {
		for _, name := range names {
			if g, err := network.GroupByName(f.tx, f.scope, v.ID, name); err == nil {
				ids = append(ids, g.ID)
			}
		}
	}
	return ids
}

// vpc is the one that is named, or the default one.
func (f *finder) vpc() {
	id := f.text("VpcId")
	if v, ok := network.DefaultVPC(f.tx, f.scope); ok && id == "" {
		id = v.ID
	}
	f.named("vpc", id)
}

func (f *finder) address() {
	ids := f.texts("AllocationId")
	for member, index := range map[string]string{"AssociationId": "association", "PublicIp": "ip"} {
		for _, v := range f.texts(member) {
			for a := range network.Addresses.By(f.tx, index, f.scope.Key(v)) {
				ids = append(ids, a.AllocationID)
			}
		}
	}
	f.named("elastic-ip", ids...)
}

func (f *finder) routeAssociation() {
	table, subnet := "", ""
	id := f.text("AssociationId")
	for t := range network.RouteTables.By(f.tx, "association", f.scope.Key(id)) {
		table = t.ID
		for _, a := range t.Associations {
			if a.ID == id {
				subnet = a.SubnetID
			}
		}
	}
	f.named("route-table", table)
	if subnet != "" {
		f.named("subnet", subnet)
	}
}

func (f *finder) aclAssociation() {
	id := f.text("AssociationId")
	for s := range network.Subnets.Prefix(f.tx, f.scope.Prefix()) {
		if id != "" && s.ACLAssociationID == id {
			f.named("subnet", s.ID)
			f.named("network-acl", s.NetworkACLID)
			return
		}
	}
	f.named("subnet")
}

func (f *finder) attachment() {
	eni, instance := "", ""
	for e := range network.ENIs.By(f.tx, "attachment", f.scope.Key(f.text("AttachmentId"))) {
		eni, instance = e.ID, e.InstanceID
	}
	f.named("network-interface", eni)
	if instance != "" {
		f.named("instance", instance)
	}
}

// profile is the instance of an association with an instance profile.
func (f *finder) profile() {
	id := ""
	for i := range compute.Instances.By(f.tx, "profile", f.scope.Key(f.text("AssociationId"))) {
		id = i.ID
	}
	f.named("instance", id)
}
