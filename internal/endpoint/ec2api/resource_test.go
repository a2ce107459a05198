package ec2api

import (
	"context"
	"slices"
	"strings"
	"testing"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func (c *cloud) defaultVPC() network.VPC {
	v, _ := network.DefaultVPC(c.db.Read(), c.scope)
	return v
}

func TestSecurityGroupCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	vpc := must(c, ec2.CreateVpc, ec2.CreateVpcRequest{CidrBlock: ptr("10.0.0.0/16")}).Vpc.VpcId
	g := must(c, ec2.CreateSecurityGroup, ec2.CreateSecurityGroupRequest{GroupName: ptr("g"), Description: ptr("d"), VpcId: vpc, TagSpecifications: []ec2.TagSpecification{{ResourceType: ptr("security-group"), Tags: []ec2.Tag{{Key: ptr("a"), Value: ptr("b")}}}}})
	fails(c, ec2.CreateSecurityGroup, ec2.CreateSecurityGroupRequest{GroupName: ptr("h"), Description: ptr("d"), VpcId: vpc, TagSpecifications: []ec2.TagSpecification{{ResourceType: ptr("vpc"), Tags: []ec2.Tag{{Key: ptr("a"), Value: ptr("b")}}}}}, "InvalidParameterValue")
	n := func(v int32) *int32 { return &v }
	perm := func(proto string, from, to *int32, cidr string) []ec2.IpPermission {
		return []ec2.IpPermission{{IpProtocol: &proto, FromPort: from, ToPort: to, IpRanges: []ec2.IpRange{{CidrIp: &cidr, Description: ptr("why")}}}}
	}
	rules := must(c, ec2.AuthorizeSecurityGroupIngress, ec2.AuthorizeSecurityGroupIngressRequest{GroupId: g.GroupId, IpPermissions: append(perm("tcp", n(80), n(80), "0.0.0.0/0"), perm("tcp", n(80), n(80), "10.0.0.0/8")...)}).SecurityGroupRules
	if len(rules) != 2 || *rules[0].IsEgress || *rules[0].Description != "why" || !strings.HasPrefix(*rules[0].SecurityGroupRuleId, "sgr-") {
		t.Errorf("%+v", rules)
	}
	// the older form
	must(c, ec2.AuthorizeSecurityGroupIngress, ec2.AuthorizeSecurityGroupIngressRequest{GroupId: g.GroupId, IpProtocol: ptr("icmp"), FromPort: n(-1), ToPort: n(-1), CidrIp: ptr("0.0.0.0/0")})
	desc := must(c, ec2.DescribeSecurityGroups, ec2.DescribeSecurityGroupsRequest{GroupIds: []string{*g.GroupId}}).SecurityGroups[0]
	if len(desc.IpPermissions) != 2 || len(desc.IpPermissions[0].IpRanges) != 2 || len(desc.IpPermissionsEgress) != 1 || desc.IpPermissionsEgress[0].FromPort != nil || len(desc.Tags) != 1 {
		t.Errorf("%+v", desc)
	}
	for name, p := range map[string][]ec2.IpPermission{"InvalidParameterValue": perm("tcp", n(80), nil, "0.0.0.0/0"), "MissingParameter": nil} {
		fails(c, ec2.AuthorizeSecurityGroupIngress, ec2.AuthorizeSecurityGroupIngressRequest{GroupId: g.GroupId, IpPermissions: p}, name)
	}
	fails(c, ec2.AuthorizeSecurityGroupIngress, ec2.AuthorizeSecurityGroupIngressRequest{GroupId: ptr("sg-00000000000000000"), IpPermissions: perm("tcp", n(1), n(1), "0.0.0.0/0")}, "InvalidGroup.NotFound")
	fails(c, ec2.AuthorizeSecurityGroupIngress, ec2.AuthorizeSecurityGroupIngressRequest{GroupId: ptr("group"), IpPermissions: perm("tcp", n(1), n(1), "0.0.0.0/0")}, "InvalidGroupId.Malformed")

	list := must(c, ec2.DescribeSecurityGroupRules, ec2.DescribeSecurityGroupRulesRequest{Filters: []ec2.Filter{filter("group-id", *g.GroupId)}}).SecurityGroupRules
	if len(list) != 4 {
		t.Errorf("%d rules", len(list))
	}
	must(c, ec2.ModifySecurityGroupRules, ec2.ModifySecurityGroupRulesRequest{GroupId: g.GroupId, SecurityGroupRules: []ec2.SecurityGroupRuleUpdate{{SecurityGroupRuleId: rules[0].SecurityGroupRuleId,
		SecurityGroupRule: &ec2.SecurityGroupRuleRequest{IpProtocol: ptr("tcp"), FromPort: n(8080), ToPort: n(8080), CidrIpv4: ptr("0.0.0.0/0")}}}})
	must(c, ec2.UpdateSecurityGroupRuleDescriptionsIngress, ec2.UpdateSecurityGroupRuleDescriptionsIngressRequest{GroupId: g.GroupId, SecurityGroupRuleDescriptions: []ec2.SecurityGroupRuleDescription{{SecurityGroupRuleId: rules[0].SecurityGroupRuleId, Description: ptr("new")}}})
	one := must(c, ec2.DescribeSecurityGroupRules, ec2.DescribeSecurityGroupRulesRequest{SecurityGroupRuleIds: []string{*rules[0].SecurityGroupRuleId}}).SecurityGroupRules[0]
	if *one.FromPort != 8080 || *one.Description != "new" {
		t.Errorf("%+v", one)
	}
	fails(c, ec2.DescribeSecurityGroupRules, ec2.DescribeSecurityGroupRulesRequest{SecurityGroupRuleIds: []string{"sgr-00000000000000000"}}, "InvalidSecurityGroupRuleId.NotFound")
	must(c, ec2.RevokeSecurityGroupEgress, ec2.RevokeSecurityGroupEgressRequest{GroupId: g.GroupId, IpPermissions: perm("-1", nil, nil, "0.0.0.0/0")})
	fails(c, ec2.RevokeSecurityGroupEgress, ec2.RevokeSecurityGroupEgressRequest{GroupId: g.GroupId, IpPermissions: perm("-1", nil, nil, "0.0.0.0/0")}, "InvalidPermission.NotFound")
	gone := must(c, ec2.RevokeSecurityGroupIngress, ec2.RevokeSecurityGroupIngressRequest{GroupId: g.GroupId, SecurityGroupRuleIds: []string{*rules[0].SecurityGroupRuleId, *rules[1].SecurityGroupRuleId}})
	if len(gone.RevokedSecurityGroupRules) != 2 {
		t.Errorf("%+v", gone)
	}
	must(c, ec2.DeleteSecurityGroup, ec2.DeleteSecurityGroupRequest{GroupId: g.GroupId})
	if e := fails(c, ec2.DescribeSecurityGroups, ec2.DescribeSecurityGroupsRequest{GroupIds: []string{*g.GroupId}}, "InvalidGroup.NotFound"); !strings.Contains(e.Msg, *g.GroupId) {
		t.Error(e.Msg)
	}
}

func TestTagCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	id, vpc := *c.run(1)[0].InstanceId, c.defaultVPC().ID
	tags := func(pairs ...string) []ec2.Tag {
		var out []ec2.Tag
		for n := 0; n < len(pairs); n += 2 {
			out = append(out, ec2.Tag{Key: &pairs[n], Value: &pairs[n+1]})
		}
		return out
	}
	must(c, ec2.CreateTags, ec2.CreateTagsRequest{Resources: []string{id, vpc, c.ami}, Tags: tags("Name", "x", "env", "prod")})
	for _, x := range []struct {
		resources []string
		tags      []ec2.Tag
		code      string
	}{
		{[]string{id, "i-00000000000000000"}, tags("a", "b"), "InvalidInstanceID.NotFound"}, {[]string{"sg-00000000000000000"}, tags("a", "b"), "InvalidGroup.NotFound"}, {[]string{"thing-1"}, tags("a", "b"), "InvalidID"}, {[]string{id, "i-1"}, tags("a", "b"), "InvalidID"},
		{[]string{id}, tags("aws:x", "b"), "InvalidParameterValue"}, {[]string{id}, tags("a", "b", "a", "c"), "InvalidParameterValue"}, {[]string{id}, nil, "MissingParameter"}, {nil, tags("a", "b"), "MissingParameter"},
		{[]string{id}, tags(strings.Repeat("k", 129), ""), "InvalidParameterValue"}, {[]string{id}, tags("k", strings.Repeat("v", 257)), "InvalidParameterValue"},
	} {
		fails(c, ec2.CreateTags, ec2.CreateTagsRequest{Resources: x.resources, Tags: x.tags}, x.code)
	}
	list := must(c, ec2.DescribeTags, ec2.DescribeTagsRequest{Filters: []ec2.Filter{filter("resource-id", id)}}).Tags
	if len(list) != 2 || *list[0].ResourceType != "instance" || *list[0].Key != "Name" {
		t.Errorf("%+v", list)
	}
	must(c, ec2.DeleteTags, ec2.DeleteTagsRequest{Resources: []string{id}, Tags: []ec2.Tag{{Key: ptr("Name"), Value: ptr("other")}, {Key: ptr("env")}, {Key: ptr("none")}}})
	if got := c.instance(id).Tags; len(got) != 1 || *got[0].Key != "Name" {
		t.Errorf("%+v", got)
	}
	must(c, ec2.DeleteTags, ec2.DeleteTagsRequest{Resources: []string{id}})
	if got := c.instance(id).Tags; len(got) != 0 {
		t.Errorf("%+v", got)
	}
	var many []ec2.Tag
	for n := range 51 {
		many = append(many, ec2.Tag{Key: ptr(strings.Repeat("k", n+1)), Value: ptr("")})
	}
	fails(c, ec2.CreateTags, ec2.CreateTagsRequest{Resources: []string{id}, Tags: many}, "TagLimitExceeded")
}

type commits struct{ made, removed []string }

func (k *commits) Commit(_ context.Context, _ scope.Scope, imageID, _ string, _ bool) error {
	k.made = append(k.made, imageID)
	return nil
}
func (k *commits) Remove(_ context.Context, i compute.Image) { k.removed = append(k.removed, i.ID) }

func TestImageCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	id := *c.run(1)[0].InstanceId
	create := ec2.CreateImageRequest{InstanceId: &id, Name: ptr("mine"), TagSpecifications: []ec2.TagSpecification{{ResourceType: ptr("image"), Tags: []ec2.Tag{{Key: ptr("a"), Value: ptr("b")}}}}}
	fails(c, ec2.CreateImage, create, "UnsupportedOperation")
	k := &commits{}
	c.s.Images = k
	fails(c, ec2.CreateImage, create, "IncorrectInstanceState")
	c.settle()
	img := *must(c, ec2.CreateImage, create).ImageId
	fails(c, ec2.CreateImage, create, "InvalidAMIName.Duplicate")
	fails(c, ec2.CreateImage, ec2.CreateImageRequest{InstanceId: &id, Name: ptr("no!")}, "InvalidAMIName.Malformed")
	get := func() ec2.Image {
		return must(c, ec2.DescribeImages, ec2.DescribeImagesRequest{ImageIds: []string{img}}).Images[0]
	}
	if i := get(); *i.State != "pending" || *i.SourceInstanceId != id || *i.Public || len(i.Tags) != 1 || !slices.Equal(k.made, []string{img}) {
		t.Errorf("%+v", i)
	}
	one := ptr(int32(1))
	fails(c, ec2.RunInstances, ec2.RunInstancesRequest{ImageId: &img, MinCount: one, MaxCount: one}, "InvalidAMIID.Unavailable")
	c.write(func(w *store.WriteTx) error {
		compute.FinishImage(w, c.scope, img, []string{"/images/mine"}, "mine", "")
		return nil
	})
	must(c, ec2.RunInstances, ec2.RunInstancesRequest{ImageId: &img, MinCount: one, MaxCount: one})

	for owner, n := range map[string]int{"self": 1, "amazon": 1, "000000000000": 1, "111111111111": 0} {
		if got := must(c, ec2.DescribeImages, ec2.DescribeImagesRequest{Owners: []string{owner}}).Images; len(got) != n {
			t.Errorf("owner %s: %d images", owner, len(got))
		}
	}
	other := *c
	other.scope = scope.Scope{Account: "111111111111", Region: c.scope.Region}
	sees := func() int { return len(must(&other, ec2.DescribeImages, ec2.DescribeImagesRequest{}).Images) }
	if sees() != 1 {
		t.Error("another account sees a private image")
	}
	must(c, ec2.ModifyImageAttribute, ec2.ModifyImageAttributeRequest{ImageId: &img, LaunchPermission: &ec2.LaunchPermissionModifications{Add: []ec2.LaunchPermission{{UserId: ptr("111111111111")}}}})
	if p := must(c, ec2.DescribeImageAttribute, ec2.DescribeImageAttributeRequest{ImageId: &img, Attribute: ptr("launchPermission")}).LaunchPermissions; sees() != 2 || len(p) != 1 {
		t.Errorf("%+v", p)
	}
	fails(&other, ec2.DeregisterImage, ec2.DeregisterImageRequest{ImageId: &img}, "AuthFailure")
	must(c, ec2.ResetImageAttribute, ec2.ResetImageAttributeRequest{ImageId: &img, Attribute: ptr("launchPermission")})
	if sees() != 1 {
		t.Error("reset")
	}
	reg := *must(c, ec2.RegisterImage, ec2.RegisterImageRequest{Name: ptr("again"), BlockDeviceMappings: []ec2.BlockDeviceMapping{{DeviceName: ptr("/dev/xvda"), Ebs: &ec2.EbsBlockDevice{SnapshotId: get().BlockDeviceMappings[0].Ebs.SnapshotId}}}}).ImageId
	fails(c, ec2.RegisterImage, ec2.RegisterImageRequest{Name: ptr("none"), BlockDeviceMappings: []ec2.BlockDeviceMapping{{DeviceName: ptr("/dev/xvda"), Ebs: &ec2.EbsBlockDevice{SnapshotId: ptr("snap-00000000000000000")}}}}, "InvalidSnapshot.NotFound")
	must(c, ec2.EnableImageDeregistrationProtection, ec2.EnableImageDeregistrationProtectionRequest{ImageId: &img})
	fails(c, ec2.DeregisterImage, ec2.DeregisterImageRequest{ImageId: &img}, "OperationNotPermitted")
	must(c, ec2.DisableImageDeregistrationProtection, ec2.DisableImageDeregistrationProtectionRequest{ImageId: &img})
	must(c, ec2.DeregisterImage, ec2.DeregisterImageRequest{ImageId: &img})
	if e := fails(c, ec2.DescribeImages, ec2.DescribeImagesRequest{ImageIds: []string{img}}, "InvalidAMIID.NotFound"); e.Msg != "The image id '["+img+"]' does not exist" {
		t.Error(e.Msg)
	}
	if len(k.removed) != 0 {
		t.Error("layers that another image and an instance have were removed")
	}
	must(c, ec2.DisableImage, ec2.DisableImageRequest{ImageId: &reg})
	fails(c, ec2.RunInstances, ec2.RunInstancesRequest{ImageId: &reg, MinCount: one, MaxCount: one}, "InvalidAMIID.Unavailable")
	fails(c, ec2.CopyImage, ec2.CopyImageRequest{Name: ptr("c"), SourceImageId: &c.ami, SourceRegion: ptr("eu-west-1")}, "UnsupportedOperation")
}

func TestKeyCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	k := must(c, ec2.CreateKeyPair, ec2.CreateKeyPairRequest{KeyName: ptr("k"), KeyType: ptr("ed25519")})
	fails(c, ec2.CreateKeyPair, ec2.CreateKeyPairRequest{KeyName: ptr("k")}, "InvalidKeyPair.Duplicate")
	fails(c, ec2.CreateKeyPair, ec2.CreateKeyPairRequest{KeyName: ptr("l"), KeyFormat: ptr("der")}, "InvalidParameterValue")
	info := must(c, ec2.DescribeKeyPairs, ec2.DescribeKeyPairsRequest{KeyNames: []string{"k"}, IncludePublicKey: ptr(true)}).KeyPairs[0]
	if *info.KeyFingerprint != *k.KeyFingerprint || !strings.HasPrefix(*info.PublicKey, "ssh-ed25519 ") {
		t.Errorf("%+v", info)
	}
	if info := must(c, ec2.DescribeKeyPairs, ec2.DescribeKeyPairsRequest{KeyPairIds: []string{*k.KeyPairId}}).KeyPairs[0]; info.PublicKey != nil {
		t.Error("the public key was not asked for")
	}
	imported := must(c, ec2.ImportKeyPair, ec2.ImportKeyPairRequest{KeyName: ptr("mine"), PublicKeyMaterial: []byte(*info.PublicKey)})
	if *imported.KeyFingerprint != *k.KeyFingerprint {
		t.Error("the same ED25519 key has another fingerprint when it is imported")
	}
	fails(c, ec2.ImportKeyPair, ec2.ImportKeyPairRequest{KeyName: ptr("bad"), PublicKeyMaterial: []byte("no")}, "InvalidKey.Format")
	must(c, ec2.DeleteKeyPair, ec2.DeleteKeyPairRequest{KeyPairId: k.KeyPairId})
	must(c, ec2.DeleteKeyPair, ec2.DeleteKeyPairRequest{KeyName: ptr("k")})
	fails(c, ec2.DescribeKeyPairs, ec2.DescribeKeyPairsRequest{KeyNames: []string{"k"}}, "InvalidKeyPair.NotFound")
}

func TestLaunchTemplateCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	data := &ec2.RequestLaunchTemplateData{ImageId: &c.ami, InstanceType: ptr("t2.nano"), InstanceMarketOptions: &ec2.LaunchTemplateInstanceMarketOptionsRequest{MarketType: ptr("spot")}, UserData: b64("x"),
		NetworkInterfaces: []ec2.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{DeviceIndex: ptr(int32(0)), Groups: []string{"sg-1"}}}}
	lt := must(c, ec2.CreateLaunchTemplate, ec2.CreateLaunchTemplateRequest{LaunchTemplateName: ptr("web"), LaunchTemplateData: data}).LaunchTemplate
	fails(c, ec2.CreateLaunchTemplate, ec2.CreateLaunchTemplateRequest{LaunchTemplateName: ptr("web"), LaunchTemplateData: data}, "InvalidLaunchTemplateName.AlreadyExistsException")
	v2 := must(c, ec2.CreateLaunchTemplateVersion, ec2.CreateLaunchTemplateVersionRequest{LaunchTemplateId: lt.LaunchTemplateId, SourceVersion: ptr("1"), LaunchTemplateData: &ec2.RequestLaunchTemplateData{InstanceType: ptr("t2.micro")}}).LaunchTemplateVersion
	// nothing that a client sent is lost, also what has no effect
	if d := v2.LaunchTemplateData; *d.InstanceType != "t2.micro" || *d.ImageId != c.ami || *d.InstanceMarketOptions.MarketType != "spot" || d.NetworkInterfaces[0].Groups[0] != "sg-1" || *d.UserData != *data.UserData || *v2.DefaultVersion {
		t.Errorf("%+v", v2)
	}
	must(c, ec2.ModifyLaunchTemplate, ec2.ModifyLaunchTemplateRequest{LaunchTemplateId: lt.LaunchTemplateId, DefaultVersion: ptr("2")})
	for what, in := range map[string]ec2.DescribeLaunchTemplateVersionsRequest{
		"12": {LaunchTemplateName: ptr("web")}, "2": {LaunchTemplateId: lt.LaunchTemplateId, Versions: []string{"$Latest", "$Default"}}, "1": {LaunchTemplateId: lt.LaunchTemplateId, MaxVersion: ptr("1")}, "2 ": {Versions: []string{"$Default"}}, "2  ": {LaunchTemplateId: lt.LaunchTemplateId, Filters: []ec2.Filter{filter("is-default-version", "true")}},
	} {
		got := ""
		for _, v := range must(c, ec2.DescribeLaunchTemplateVersions, in).LaunchTemplateVersions {
			got += string(rune('0' + *v.VersionNumber))
		}
		if got != strings.TrimSpace(what) {
			t.Errorf("%+v: %s", in, got)
		}
	}
	page := must(c, ec2.DescribeLaunchTemplateVersions, ec2.DescribeLaunchTemplateVersionsRequest{LaunchTemplateName: ptr("web"), MaxResults: ptr(int32(1))})
	if rest := must(c, ec2.DescribeLaunchTemplateVersions, ec2.DescribeLaunchTemplateVersionsRequest{LaunchTemplateName: ptr("web"), NextToken: page.NextToken}).LaunchTemplateVersions; len(rest) != 1 || *rest[0].VersionNumber != 2 {
		t.Errorf("%+v", rest)
	}
	fails(c, ec2.DescribeLaunchTemplateVersions, ec2.DescribeLaunchTemplateVersionsRequest{Versions: []string{"1"}}, "InvalidParameterValue")
	fails(c, ec2.DescribeLaunchTemplateVersions, ec2.DescribeLaunchTemplateVersionsRequest{LaunchTemplateId: lt.LaunchTemplateId, Versions: []string{"9"}}, "InvalidLaunchTemplateId.VersionNotFound")
	fails(c, ec2.DescribeLaunchTemplates, ec2.DescribeLaunchTemplatesRequest{LaunchTemplateIds: []string{"lt-00000000000000000"}}, "InvalidLaunchTemplateId.NotFound")
	del := must(c, ec2.DeleteLaunchTemplateVersions, ec2.DeleteLaunchTemplateVersionsRequest{LaunchTemplateId: lt.LaunchTemplateId, Versions: []string{"1", "2", "7"}})
	if len(del.SuccessfullyDeletedLaunchTemplateVersions) != 1 || len(del.UnsuccessfullyDeletedLaunchTemplateVersions) != 2 || *del.UnsuccessfullyDeletedLaunchTemplateVersions[1].ResponseError.Code != "launchTemplateVersionDoesNotExist" {
		t.Errorf("%+v", del)
	}
	must(c, ec2.DeleteLaunchTemplate, ec2.DeleteLaunchTemplateRequest{LaunchTemplateName: ptr("web")})
	fails(c, ec2.DeleteLaunchTemplate, ec2.DeleteLaunchTemplateRequest{LaunchTemplateName: ptr("web")}, "InvalidLaunchTemplateName.NotFoundException")
}

func TestAddressCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	i := c.run(1)[0]
	a := must(c, ec2.AllocateAddress, ec2.AllocateAddressRequest{Domain: ptr("vpc")})
	must(c, ec2.AssociateAddress, ec2.AssociateAddressRequest{AllocationId: a.AllocationId, InstanceId: i.InstanceId})
	if got := c.instance(*i.InstanceId); *got.PublicIpAddress != *a.PublicIp || *got.NetworkInterfaces[0].Association.IpOwnerId != c.scope.Account {
		t.Errorf("%+v", got)
	}
	fails(c, ec2.ReleaseAddress, ec2.ReleaseAddressRequest{AllocationId: a.AllocationId}, "InvalidIPAddress.InUse")
	list := must(c, ec2.DescribeAddresses, ec2.DescribeAddressesRequest{Filters: []ec2.Filter{filter("instance-id", *i.InstanceId)}}).Addresses
	if len(list) != 1 || *list[0].PublicIp != *a.PublicIp {
		t.Errorf("%+v", list)
	}
	must(c, ec2.DisassociateAddress, ec2.DisassociateAddressRequest{AssociationId: list[0].AssociationId})
	if c.instance(*i.InstanceId).PublicIpAddress != nil {
		t.Error("still there")
	}
	fails(c, ec2.DisassociateAddress, ec2.DisassociateAddressRequest{AssociationId: list[0].AssociationId}, "InvalidAssociationID.NotFound")
	must(c, ec2.ReleaseAddress, ec2.ReleaseAddressRequest{AllocationId: a.AllocationId})
	fails(c, ec2.DescribeAddresses, ec2.DescribeAddressesRequest{AllocationIds: []string{*a.AllocationId}}, "InvalidAllocationID.NotFound")
	fails(c, ec2.DescribeAddresses, ec2.DescribeAddressesRequest{PublicIps: []string{"192.0.2.1"}}, "InvalidAddress.NotFound")
}

func TestInterfaceCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	i := c.run(1)[0]
	eni := i.NetworkInterfaces[0].NetworkInterfaceId
	g := must(c, ec2.CreateSecurityGroup, ec2.CreateSecurityGroupRequest{GroupName: ptr("g"), Description: ptr("d")}).GroupId
	must(c, ec2.ModifyNetworkInterfaceAttribute, ec2.ModifyNetworkInterfaceAttributeRequest{NetworkInterfaceId: eni, Groups: []string{*g}})
	if got := c.instance(*i.InstanceId).SecurityGroups; len(got) != 1 || *got[0].GroupName != "g" {
		t.Errorf("%+v", got)
	}
	fails(c, ec2.DeleteSecurityGroup, ec2.DeleteSecurityGroupRequest{GroupId: g}, "DependencyViolation")
	fails(c, ec2.DeleteNetworkInterface, ec2.DeleteNetworkInterfaceRequest{NetworkInterfaceId: eni}, "InvalidParameterValue")
	fails(c, ec2.DetachNetworkInterface, ec2.DetachNetworkInterfaceRequest{AttachmentId: i.NetworkInterfaces[0].Attachment.AttachmentId}, "OperationNotPermitted")
	list := must(c, ec2.DescribeNetworkInterfaces, ec2.DescribeNetworkInterfacesRequest{Filters: []ec2.Filter{filter("attachment.instance-id", *i.InstanceId)}}).NetworkInterfaces
	if len(list) != 1 || *list[0].Status != "in-use" || *list[0].Attachment.DeviceIndex != 0 {
		t.Errorf("%+v", list)
	}
	own := must(c, ec2.CreateNetworkInterface, ec2.CreateNetworkInterfaceRequest{SubnetId: i.SubnetId, Description: ptr("mine")}).NetworkInterface
	if *own.Status != "available" || own.Attachment != nil {
		t.Errorf("%+v", own)
	}
	fails(c, ec2.AttachNetworkInterface, ec2.AttachNetworkInterfaceRequest{NetworkInterfaceId: own.NetworkInterfaceId, InstanceId: i.InstanceId, DeviceIndex: ptr(int32(1))}, "UnsupportedOperation")
	must(c, ec2.DeleteNetworkInterface, ec2.DeleteNetworkInterfaceRequest{NetworkInterfaceId: own.NetworkInterfaceId})
	fails(c, ec2.DescribeNetworkInterfaces, ec2.DescribeNetworkInterfacesRequest{NetworkInterfaceIds: []string{*own.NetworkInterfaceId}}, "InvalidNetworkInterfaceID.NotFound")
}

func TestCatalogueCalls(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	names := map[string]bool{}
	for token := ptr(""); token != nil; {
		page := must(c, ec2.DescribeInstanceTypes, ec2.DescribeInstanceTypesRequest{MaxResults: ptr(int32(50)), NextToken: token})
		for _, v := range page.InstanceTypes {
			names[*v.InstanceType] = true
		}
		token = page.NextToken
	}
	if len(names) != len(compute.Types) {
		t.Errorf("%d types of %d", len(names), len(compute.Types))
	}
	if e := fails(c, ec2.DescribeInstanceTypes, ec2.DescribeInstanceTypesRequest{InstanceTypes: []string{"t2.nano", "x.y"}}, "InvalidInstanceType"); e.Msg != "The following supplied instance types do not exist: [x.y]" {
		t.Error(e.Msg)
	}
	small := must(c, ec2.DescribeInstanceTypes, ec2.DescribeInstanceTypesRequest{Filters: []ec2.Filter{filter("memory-info.size-in-mib", "512"), filter("processor-info.supported-architecture", "arm64")}}).InstanceTypes
	if len(small) != 1 || *small[0].InstanceType != "t4g.nano" {
		t.Errorf("%+v", small)
	}
	if o := must(c, ec2.DescribeInstanceTypeOfferings, ec2.DescribeInstanceTypeOfferingsRequest{LocationType: ptr("availability-zone"), Filters: []ec2.Filter{filter("instance-type", "t2.micro")}}).InstanceTypeOfferings; len(o) != 3 {
		t.Errorf("%+v", o)
	}
	if z := must(c, ec2.DescribeAvailabilityZones, ec2.DescribeAvailabilityZonesRequest{}).AvailabilityZones; len(z) != 3 || *z[0].ZoneName != "us-east-1a" || *z[0].ZoneId != "use1-az1" {
		t.Errorf("%+v", z)
	}
	fails(c, ec2.DescribeAvailabilityZones, ec2.DescribeAvailabilityZonesRequest{ZoneNames: []string{"us-east-1z"}}, "InvalidParameterValue")
	if r := must(c, ec2.DescribeRegions, ec2.DescribeRegionsRequest{RegionNames: []string{"eu-west-1"}}).Regions; len(r) != 1 || *r[0].Endpoint != "ec2.eu-west-1.amazonaws.com" {
		t.Errorf("%+v", r)
	}
	if a := must(c, ec2.DescribeAccountAttributes, ec2.DescribeAccountAttributesRequest{AttributeNames: []string{"default-vpc"}}).AccountAttributes; *a[0].AttributeValues[0].AttributeValue != c.defaultVPC().ID {
		t.Errorf("%+v", a)
	}
}

func TestRegionsAreSeparate(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.run(1)
	away := *c
	away.scope = c.scope.In("eu-central-1")
	if v := must(&away, ec2.DescribeVpcs, ec2.DescribeVpcsRequest{}).Vpcs; len(v) != 1 || *v[0].VpcId == c.defaultVPC().ID || !*v[0].IsDefault {
		t.Errorf("a region's first call makes its default VPC: %+v", v)
	}
	if r := must(&away, ec2.DescribeInstances, ec2.DescribeInstancesRequest{}).Reservations; len(r) != 0 {
		t.Errorf("%+v", r)
	}
	if n := must(&away, ec2.RunInstances, ec2.RunInstancesRequest{ImageId: &c.ami, MinCount: ptr(int32(1)), MaxCount: ptr(int32(1))}); *n.Instances[0].Placement.AvailabilityZone < "eu-central-1" {
		t.Errorf("%+v", n)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	if n := must(c, ec2.DescribeNatGateways, ec2.DescribeNatGatewaysRequest{Filter: []ec2.Filter{filter("vpc-id", "vpc-1")}}); len(n.NatGateways) != 0 {
		t.Errorf("%+v", n)
	}
	fails(c, ec2.DescribeNatGateways, ec2.DescribeNatGatewaysRequest{NatGatewayIds: []string{"nat-00000000000000000"}}, "NatGatewayNotFound")
	fails(c, ec2.DescribePlacementGroups, ec2.DescribePlacementGroupsRequest{GroupNames: []string{"g"}}, "InvalidPlacementGroup.Unknown")
	for _, e := range []string{
		fails(c, ec2.CreateNatGateway, ec2.CreateNatGatewayRequest{}, "UnsupportedOperation").Msg,
		fails(c, ec2.CreateVolume, ec2.CreateVolumeRequest{}, "UnsupportedOperation").Msg,
		fails(c, ec2.CreateNetworkAcl, ec2.CreateNetworkAclRequest{}, "UnsupportedOperation").Msg,
	} {
		if !strings.HasPrefix(e, "Create") || !strings.Contains(e, "is not supported: ") {
			t.Errorf("a refusal that does not name itself and its reason: %q", e)
		}
	}
}

func TestVpcAttributes(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	id := must(c, ec2.CreateVpc, ec2.CreateVpcRequest{CidrBlock: ptr("10.0.0.0/16")}).Vpc.VpcId
	get := func(name string) *ec2.DescribeVpcAttributeResult {
		return must(c, ec2.DescribeVpcAttribute, ec2.DescribeVpcAttributeRequest{VpcId: id, Attribute: &name})
	}
	if !*get("enableDnsSupport").EnableDnsSupport.Value || *get("enableDnsHostnames").EnableDnsHostnames.Value {
		t.Error("a new VPC resolves names and gives none")
	}
	must(c, ec2.ModifyVpcAttribute, ec2.ModifyVpcAttributeRequest{VpcId: id, EnableDnsHostnames: boolean(true)})
	if !api.Val(get("enableDnsHostnames").EnableDnsHostnames.Value) {
		t.Error("not changed")
	}
	fails(c, ec2.ModifyVpcAttribute, ec2.ModifyVpcAttributeRequest{VpcId: id}, "InvalidParameterCombination")
	fails(c, ec2.DescribeVpcAttribute, ec2.DescribeVpcAttributeRequest{VpcId: id, Attribute: ptr("colour")}, "InvalidParameterValue")
	acl := must(c, ec2.DescribeNetworkAcls, ec2.DescribeNetworkAclsRequest{Filters: []ec2.Filter{filter("vpc-id", *id), filter("default", "true")}}).NetworkAcls
	if len(acl) != 1 || len(acl[0].Entries) != 4 {
		t.Errorf("%+v", acl)
	}
	d := must(c, ec2.CreateDhcpOptions, ec2.CreateDhcpOptionsRequest{DhcpConfigurations: []ec2.NewDhcpConfiguration{{Key: ptr("domain-name"), Values: []string{"corp.test"}}, {Key: ptr("ntp-servers"), Values: []string{"10.0.0.9"}}}}).DhcpOptions
	must(c, ec2.AssociateDhcpOptions, ec2.AssociateDhcpOptionsRequest{VpcId: id, DhcpOptionsId: d.DhcpOptionsId})
	if v := must(c, ec2.DescribeVpcs, ec2.DescribeVpcsRequest{VpcIds: []string{*id}}).Vpcs[0]; *v.DhcpOptionsId != *d.DhcpOptionsId {
		t.Errorf("%+v", v)
	}
	fails(c, ec2.DeleteDhcpOptions, ec2.DeleteDhcpOptionsRequest{DhcpOptionsId: d.DhcpOptionsId}, "DependencyViolation")
	fails(c, ec2.CreateDhcpOptions, ec2.CreateDhcpOptionsRequest{DhcpConfigurations: []ec2.NewDhcpConfiguration{{Key: ptr("colour"), Values: []string{"red"}}}}, "InvalidParameterValue")
}
