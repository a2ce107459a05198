package compute

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/store"
	"skerry/internal/tag"
)

func TestLaunchFillsInAWSDefaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := w.launch(2, LaunchSpec{TagSpecifications: []TagSpec{{ResourceType: "instance", Tags: []TagPair{{"Name", "x"}}}, {ResourceType: "volume", Tags: []TagPair{{"v", "1"}}}}})
	i := list[1]
	if i.State != Pending || i.InstanceType != DefaultType || i.AmiLaunchIndex != 1 || i.ReservationID != list[0].ReservationID || i.PrivateIP == "" || i.PublicIP == "" || i.ShutdownBehavior != "stop" ||
		i.MetadataOptions != (MetadataOptions{"optional", "enabled", 1, "disabled", "disabled"}) || i.CPUCredits != "standard" || i.Layers[0] != "/nano" || i.Index == list[0].Index || i.StateReasonCode != "pending" {
		t.Errorf("%+v", i)
	}
	v, ok := network.DefaultVPC(w.db.Read(), w.s)
	if !ok || i.VpcID != v.ID || len(i.SecurityGroupIDs) != 1 || i.SecurityGroupIDs[0] != v.DefaultGroupID {
		t.Errorf("network of %+v", i)
	}
	e, err := network.GetENI(w.db.Read(), w.s, i.ENIID)
	if err != nil || e.InstanceID != i.ID || !e.DeleteOnTermination || e.PublicIP != i.PublicIP {
		t.Errorf("%+v %v", e, err)
	}
	vol, err := GetVolume(w.db.Read(), w.s, i.BlockDevices[0].VolumeID)
	if err != nil || vol.InstanceID != i.ID || vol.SizeGiB != 8 || vol.Type != "gp3" || !vol.DeleteOnTermination {
		t.Errorf("%+v %v", vol, err)
	}
	if tag.Map(w.db.Read(), w.s, i.ID)["Name"] != "x" || tag.Map(w.db.Read(), w.s, vol.ID)["v"] != "1" {
		t.Error("tags are missing")
	}
}

func TestLaunchRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var arm, private, other, foreign string
	w.write(func(tx *store.WriteTx) error {
		arm = PutImage(tx, Image{Name: "arm", Architecture: "arm64", Layers: []string{"/arm"}}).ID
		img, err := CreateImage(tx, w.s, Image{Name: "soon", State: "pending"})
		private = img.ID
		if err != nil {
			return err
		}
		v, err := network.CreateVPC(tx, w.s, network.VPCParams{CIDR: "10.0.0.0/16"})
		if err != nil {
			return err
		}
		sn, err := network.CreateSubnet(tx, w.s, network.SubnetParams{VpcID: v.ID, CIDR: "10.0.0.0/28"})
		if err != nil {
			return err
		}
		other, foreign = sn.ID, v.DefaultGroupID
		return nil
	})
	big := base64.StdEncoding.EncodeToString(make([]byte, MaxUserData+1))
	for _, c := range []struct {
		name string
		spec LaunchSpec
		n    int
		code string
	}{
		{"no such image", LaunchSpec{ImageID: "ami-00000000000000000"}, 1, "InvalidAMIID.NotFound"},
		{"image not ready", LaunchSpec{ImageID: private}, 1, "InvalidAMIID.Unavailable"},
		{"unknown type", LaunchSpec{InstanceType: "q9.huge"}, 1, "InvalidParameterValue"},
		{"arm type, x86 image", LaunchSpec{InstanceType: "t4g.nano"}, 1, "InvalidParameterValue"},
		{"arm on an x86 host", LaunchSpec{ImageID: arm, InstanceType: "t4g.nano"}, 1, "Unsupported"},
		{"more vCPU than the host", LaunchSpec{InstanceType: "c5.2xlarge"}, 1, "InsufficientInstanceCapacity"},
		{"more memory than the host", LaunchSpec{InstanceType: "r5.large"}, 1, "InsufficientInstanceCapacity"},
		{"more than fit together", LaunchSpec{InstanceType: "m5.large"}, 5, "InsufficientInstanceCapacity"},
		{"no key", LaunchSpec{KeyName: "none"}, 1, "InvalidKeyPair.NotFound"},
		{"no subnet", LaunchSpec{SubnetID: "subnet-00000000000000000"}, 1, "InvalidSubnetID.NotFound"},
		{"group elsewhere", LaunchSpec{SecurityGroupIDs: []string{foreign}}, 1, "InvalidParameter"},
		{"names outside of the default VPC", LaunchSpec{SubnetID: other, SecurityGroups: []string{"default"}}, 1, "InvalidParameterCombination"},
		{"subnet too small", LaunchSpec{SubnetID: other}, 12, "InsufficientFreeAddressesInSubnet"},
		{"big user data", LaunchSpec{UserData: big}, 1, "InvalidParameterValue"},
		{"user data not base64", LaunchSpec{UserData: "***"}, 1, "InvalidParameterValue"},
		{"no profile", LaunchSpec{IamInstanceProfile: &ProfileSpec{Name: "none"}}, 1, "InvalidParameterValue"},
		{"bad tokens", LaunchSpec{MetadataOptions: &MetadataSpec{HttpTokens: "maybe"}}, 1, "InvalidParameterValue"},
		{"bad hop limit", LaunchSpec{MetadataOptions: &MetadataSpec{HttpPutResponseHopLimit: ptr(65)}}, 1, "InvalidParameterValue"},
		{"address for two", LaunchSpec{PrivateIPAddress: "172.31.0.9"}, 2, "InvalidParameterCombination"},
		{"address elsewhere", LaunchSpec{SubnetID: other, PrivateIPAddress: "10.9.9.9"}, 1, "InvalidParameterValue"},
		{"interfaces and subnet", LaunchSpec{SubnetID: other, NetworkInterfaces: []InterfaceSpec{{}}}, 1, "InvalidParameterCombination"},
		{"interfaces and groups", LaunchSpec{SecurityGroupIDs: []string{foreign}, NetworkInterfaces: []InterfaceSpec{{}}}, 1, "InvalidParameterCombination"},
		{"two interfaces", LaunchSpec{NetworkInterfaces: []InterfaceSpec{{}, {}}}, 1, "UnsupportedOperation"},
		{"spot", LaunchSpec{InstanceMarketOptions: &MarketSpec{MarketType: "capacity-block"}}, 1, "UnsupportedOperation"},
		{"a second volume", LaunchSpec{BlockDeviceMappings: []BlockDeviceSpec{{DeviceName: "/dev/sdf", Ebs: &EbsSpec{VolumeSize: ptr(1)}}}}, 1, "UnsupportedOperation"},
		{"root too small", LaunchSpec{BlockDeviceMappings: []BlockDeviceSpec{{DeviceName: "/dev/xvda", Ebs: &EbsSpec{VolumeSize: ptr(1)}}}}, 1, "InvalidBlockDeviceMapping"},
		{"zone elsewhere", LaunchSpec{Placement: &PlacementSpec{AvailabilityZone: "us-east-1a"}}, 1, "InvalidParameterValue"},
		{"tag type", LaunchSpec{TagSpecifications: []TagSpec{{ResourceType: "vpc", Tags: []TagPair{{"a", "b"}}}}}, 1, "InvalidParameterValue"},
		{"empty tags", LaunchSpec{TagSpecifications: []TagSpec{{ResourceType: "instance"}}}, 1, "InvalidParameterValue"},
		{"system tag", LaunchSpec{TagSpecifications: []TagSpec{{ResourceType: "instance", Tags: []TagPair{{"aws:x", "b"}}}}}, 1, "InvalidParameterValue"},
		{"credits without credits", LaunchSpec{InstanceType: "m5.large", CreditSpecification: &CreditSpec{"standard"}}, 1, "InvalidParameterCombination"},
		{"none", LaunchSpec{}, 0, "InvalidParameterValue"},
		{"too many", LaunchSpec{}, MaxLaunch + 1, "InstanceLimitExceeded"},
	} {
		_, err := w.try(c.n, c.spec)
		w.wants(c.name, err, c.code)
	}
	// nothing of them is left
	for i := range Instances.All(w.db.Read()) {
		t.Errorf("instance %s", i.ID)
	}
	for e := range network.ENIs.All(w.db.Read()) {
		t.Errorf("interface %s", e.ID)
	}
	for v := range Volumes.All(w.db.Read()) {
		t.Errorf("volume %s", v.ID)
	}
}

func TestLaunchAsManyAsFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	atLeast := func(n int) func(*LaunchParams) { return func(p *LaunchParams) { p.MinCount = n } }
	// 8 GiB of memory, promised four times over: four instances of 8 GiB
	if got := w.launch(9, LaunchSpec{InstanceType: "m5.large"}, atLeast(1)); len(got) != 4 {
		t.Errorf("%d instances", len(got))
	}
	_, err := w.try(1, LaunchSpec{InstanceType: "t2.nano"})
	w.wants("a full host", err, "InsufficientInstanceCapacity")
	if !fault.Is(err, fault.Capacity) || !strings.Contains(err.Error(), "t2.nano capacity in the Availability Zone you requested (eu-west-1") {
		t.Error(err)
	}
	w.write(func(tx *store.WriteTx) error { SetHost(tx, Host{Unlimited: true}); return nil })
	if got := w.launch(3, LaunchSpec{InstanceType: "r5.24xlarge"}); len(got) != 3 {
		t.Errorf("%d instances without limits", len(got))
	}
}

func TestZoneDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := func(z string) LaunchSpec { return LaunchSpec{Placement: &PlacementSpec{AvailabilityZone: z}} }
	a := w.launch(1, in("eu-west-1a"))[0]
	w.write(func(tx *store.WriteTx) error {
		MarkRunning(tx, w.s, a.ID)
		if _, err := Stop(tx, w.s, []string{a.ID}, false); err != nil {
			return err
		}
		MarkStopped(tx, w.s, a.ID)
		SetZoneDown(tx, "eu-west-1a", true)
		return nil
	})
	_, err := w.try(1, in("eu-west-1a"))
	w.wants("launch in a zone that is down", err, "InsufficientInstanceCapacity")
	if !strings.Contains(fmt.Sprint(err), "choosing eu-west-1b, eu-west-1c.") {
		t.Errorf("the zones that are up aren't offered: %v", err)
	}
	w.write(func(tx *store.WriteTx) error {
		SetHost(tx, Host{VCPU: 1, MemoryMiB: 512, Architectures: []string{"x86_64"}})
		return nil
	})
	_, err = w.try(1, LaunchSpec{InstanceType: "r5.24xlarge", Placement: &PlacementSpec{AvailabilityZone: "eu-west-1b"}})
	w.wants("larger than the machine", err, "InsufficientInstanceCapacity")
	if strings.Contains(fmt.Sprint(err), "choosing") {
		t.Errorf("a zone is offered that can't hold it either: %v", err)
	}
	w.write(func(tx *store.WriteTx) error { SetHost(tx, Host{Unlimited: true}); return nil })
	w.wants("start in it", w.db.Update(func(tx *store.WriteTx) error { _, err := Start(tx, w.s, []string{a.ID}); return err }), "InsufficientInstanceCapacity")
	if got := w.launch(1, LaunchSpec{})[0]; got.AvailabilityZone == "eu-west-1a" {
		t.Error("a launch without a zone chose the one that is down")
	}
	w.write(func(tx *store.WriteTx) error { SetZoneDown(tx, "eu-west-1a", false); return nil })
	w.launch(1, in("eu-west-1a"))
}

func TestClientToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := func(p *LaunchParams) { p.ClientToken = "t" }
	first := w.launch(2, LaunchSpec{InstanceType: "t2.nano"}, token)
	w.write(func(tx *store.WriteTx) error { MarkRunning(tx, w.s, first[0].ID); return nil })
	again := w.launch(2, LaunchSpec{InstanceType: "t2.nano"}, token)
	if len(again) != 2 || again[0].ID != first[0].ID || again[0].State != Running || again[0].ReservationID != first[0].ReservationID {
		t.Errorf("%+v", again)
	}
	_, err := w.try(2, LaunchSpec{InstanceType: "t2.micro"}, token)
	w.wants("other parameters", err, "IdempotentParameterMismatch")
	_, err = w.try(1, LaunchSpec{}, func(p *LaunchParams) { p.ClientToken = strings.Repeat("x", 65) })
	w.wants("a long token", err, "InvalidParameterValue")
	w.pass(25 * time.Hour)
	w.write(func(tx *store.WriteTx) error { Sweep(tx, tx.Now()); return nil })
	if got := w.launch(2, LaunchSpec{InstanceType: "t2.micro"}, token); got[0].ID == first[0].ID {
		t.Error("a token that has expired still counts")
	}
}

func TestExistingInterface(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var e network.ENI
	w.write(func(tx *store.WriteTx) error {
		v, _ := network.DefaultVPC(tx, w.s)
		for sn := range network.Subnets.By(tx, "vpc", w.s.Key(v.ID)) {
			var err error
			e, err = network.AllocateENI(tx, w.s, network.ENIParams{SubnetID: sn.ID})
			return err
		}
		return nil
	})
	spec := LaunchSpec{NetworkInterfaces: []InterfaceSpec{{NetworkInterfaceID: e.ID, DeviceIndex: ptr(0)}}}
	i := w.launch(1, spec)[0]
	if i.PrivateIP != e.PrivateIP || i.ENIID != e.ID || i.SubnetID != e.SubnetID {
		t.Errorf("%+v", i)
	}
	_, err := w.try(1, spec)
	w.wants("an interface in use", err, "InvalidNetworkInterface.InUse")
	w.write(func(tx *store.WriteTx) error {
		if _, err := Terminate(tx, w.s, []string{i.ID}); err != nil {
			return err
		}
		MarkTerminated(tx, w.s, i.ID)
		return nil
	})
	if got, err := network.GetENI(w.db.Read(), w.s, e.ID); err != nil || got.Status() != "available" || got.PrivateIP != e.PrivateIP {
		t.Errorf("the interface that was there before: %+v %v", got, err)
	}
}

func TestRegionDefaultsReachLaunches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write(func(tx *store.WriteTx) error {
		if err := SetDefaultCredits(tx, w.s, "t2", "unlimited"); err != nil {
			return err
		}
		return SetMetadataDefaults(tx, w.s, MetadataSpec{HttpTokens: "required", HttpPutResponseHopLimit: ptr(3)})
	})
	if i := w.launch(1, LaunchSpec{InstanceType: "t2.nano"})[0]; i.CPUCredits != "unlimited" || i.MetadataOptions.HttpTokens != "required" || i.MetadataOptions.HttpPutResponseHopLimit != 3 {
		t.Errorf("%+v", i)
	}
	if i := w.launch(1, LaunchSpec{MetadataOptions: &MetadataSpec{HttpTokens: "optional"}})[0]; i.MetadataOptions.HttpTokens != "optional" || i.MetadataOptions.HttpPutResponseHopLimit != 3 {
		t.Errorf("%+v", i.MetadataOptions)
	}
	w.write(func(tx *store.WriteTx) error {
		return SetMetadataDefaults(tx, w.s, MetadataSpec{HttpTokens: "no-preference", HttpPutResponseHopLimit: ptr(-1)})
	})
	if i := w.launch(1, LaunchSpec{})[0]; i.MetadataOptions.HttpTokens != "optional" || i.MetadataOptions.HttpPutResponseHopLimit != 1 {
		t.Errorf("%+v", i.MetadataOptions)
	}
	w.wants("family without credits", w.db.Update(func(tx *store.WriteTx) error { return SetDefaultCredits(tx, w.s, "m5", "standard") }), "InvalidParameterValue")
}
