package compute

import (
	"slices"
	"testing"

	"skerry/internal/store"
	"skerry/internal/tag"
)

func TestLaunchTemplateVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var lt LaunchTemplate
	w.write(func(tx *store.WriteTx) (err error) {
		lt, err = CreateLaunchTemplate(tx, w.s, "web", "", "", "me", []byte(`{"ImageId":"ami-1","InstanceType":"t2.nano","Unknown":{"Kept":true}}`))
		if err != nil {
			return err
		}
		if _, err = CreateLaunchTemplateVersion(tx, w.s, lt.ID, "", "1", "two", "me", []byte(`{"InstanceType":"t2.micro","KeyName":"k"}`)); err != nil {
			return err
		}
		_, err = CreateLaunchTemplateVersion(tx, w.s, "", "web", "", "three", "me", []byte(`{"KeyName":"other"}`))
		return err
	})
	resolve := func(v string) (LaunchTemplateVersion, error) {
		return ResolveLaunchTemplate(w.db.Read(), w.s, "", "web", v)
	}
	for v, want := range map[string]string{"": `{"ImageId":"ami-1","InstanceType":"t2.nano","Unknown":{"Kept":true}}`, "$Default": `{"ImageId":"ami-1","InstanceType":"t2.nano","Unknown":{"Kept":true}}`,
		"2": `{"ImageId":"ami-1","InstanceType":"t2.micro","KeyName":"k","Unknown":{"Kept":true}}`, "$Latest": `{"KeyName":"other"}`} {
		if got, err := resolve(v); err != nil || string(got.Document) != want {
			t.Errorf("version %q: %s %v", v, got.Document, err)
		}
	}
	for _, v := range []string{"4", "0", "-1", "latest", "$latest"} {
		_, err := resolve(v)
		w.wants("version "+v, err, "InvalidLaunchTemplateId.VersionNotFound")
	}
	w.write(func(tx *store.WriteTx) error {
		var err error
		if lt, err = SetDefaultVersion(tx, w.s, lt.ID, "", "2"); err != nil {
			return err
		}
		w.wants("deleting the default", DeleteLaunchTemplateVersion(tx, lt, 2), "unexpectedError")
		w.wants("deleting one that is not there", DeleteLaunchTemplateVersion(tx, lt, 9), "launchTemplateVersionDoesNotExist")
		return DeleteLaunchTemplateVersion(tx, lt, 1)
	})
	if got, err := resolve(""); err != nil || got.Version != 2 || got.Spec.KeyName != "k" {
		t.Errorf("the new default: %+v %v", got, err)
	}
	w.wants("a name twice", w.db.Update(func(tx *store.WriteTx) error {
		_, err := CreateLaunchTemplate(tx, w.s, "web", "", "", "", []byte(`{}`))
		return err
	}), "InvalidLaunchTemplateName.AlreadyExistsException")
	w.wants("a bad name", w.db.Update(func(tx *store.WriteTx) error {
		_, err := CreateLaunchTemplate(tx, w.s, "we b", "", "", "", []byte(`{}`))
		return err
	}), "InvalidLaunchTemplateName.MalformedException")
	w.write(func(tx *store.WriteTx) error { _, err := DeleteLaunchTemplate(tx, w.s, "", "web"); return err })
	_, err := resolve("")
	w.wants("by name", err, "InvalidLaunchTemplateName.NotFoundException")
	_, err = ResolveLaunchTemplate(w.db.Read(), w.s, lt.ID, "", "")
	w.wants("by id", err, "InvalidLaunchTemplateId.NotFound")
	if n := count(LaunchTemplateVersions.All(w.db.Read())); n != 0 {
		t.Errorf("%d versions are left", n)
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	base := LaunchSpec{ImageID: "ami-1", InstanceType: "t2.nano", SecurityGroups: []string{"a", "b"}, Monitoring: &EnabledSpec{true}, MetadataOptions: &MetadataSpec{HttpTokens: "required", HttpEndpoint: "enabled"},
		TagSpecifications: []TagSpec{{"instance", []TagPair{{"a", "1"}, {"b", "1"}}}}}
	got, err := Overlay(base, LaunchSpec{InstanceType: "m5.large", SecurityGroupIDs: []string{"sg-1"}, Monitoring: &EnabledSpec{false}, MetadataOptions: &MetadataSpec{HttpTokens: "optional"},
		TagSpecifications: []TagSpec{{"instance", []TagPair{{"b", "2"}, {"c", "2"}}}, {"volume", []TagPair{{"v", "2"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got.ImageID != "ami-1" || got.InstanceType != "m5.large" || got.Monitoring.Enabled || got.MetadataOptions.HttpEndpoint != "" || len(got.SecurityGroups) != 0 || !slices.Equal(got.SecurityGroupIDs, []string{"sg-1"}) {
		t.Errorf("%+v", got)
	}
	if want := []TagPair{{"a", "1"}, {"b", "2"}, {"c", "2"}}; !slices.Equal(got.TagSpecifications[0].Tags, want) || got.TagSpecifications[1].ResourceType != "volume" {
		t.Errorf("%+v", got.TagSpecifications)
	}
	if base.TagSpecifications[0].Tags[1].Value != "1" {
		t.Error("the template's own tags changed")
	}
}

func TestLaunchFromTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var r *Reservation
	w.write(func(tx *store.WriteTx) error {
		lt, err := CreateLaunchTemplate(tx, w.s, "web", "", "", "", []byte(`{"ImageId":"`+w.ami+`","IamInstanceProfile":{"Name":"web"},"NetworkInterfaces":[{"DeviceIndex":0,"AssociatePublicIpAddress":false,"Groups":[]}],"TagSpecifications":[{"ResourceType":"instance","Tags":[{"Key":"from","Value":"lt"}]}]}`))
		if err != nil {
			return err
		}
		v, err := ResolveLaunchTemplate(tx, w.s, lt.ID, "", "$Latest")
		if err != nil {
			return err
		}
		sn, err := defaultSubnet(tx, w.s, "eu-west-1c")
		if err != nil {
			return err
		}
		r, err = LaunchFromTemplate(tx, w.s, v, LaunchOverrides{SubnetID: sn.ID, Count: 2, ASGName: "g", InstanceType: "t2.nano", Tags: map[string]string{"aws:autoscaling:groupName": "g"}})
		return err
	})
	if len(r.Instances) != 2 || len(InASG(w.db.Read(), w.s, "g")) != 2 {
		t.Fatalf("%+v", r)
	}
	i := r.Instances[0]
	if i.AvailabilityZone != "eu-west-1c" || i.PublicIP != "" || i.InstanceType != "t2.nano" || i.ASGName != "g" || i.IamInstanceProfileArn != "arn:aws:iam::000000000000:instance-profile/web" {
		t.Errorf("%+v", i)
	}
	tags := tag.Map(w.db.Read(), w.s, i.ID)
	if tags["from"] != "lt" || tags["aws:autoscaling:groupName"] != "g" || tags["aws:ec2launchtemplate:version"] != "1" {
		t.Errorf("%v", tags)
	}
}
