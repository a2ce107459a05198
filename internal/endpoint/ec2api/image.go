package ec2api

import (
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/store"
)

func (s *Server) registerImages(m *api.Mux) {
	on(m, ec2.DescribeImages, s.describeImages)
	on(m, ec2.CreateImage, s.createImage)
	on(m, ec2.RegisterImage, s.registerImage)
	on(m, ec2.DeregisterImage, s.deregisterImage)
	on(m, ec2.DescribeImageAttribute, s.describeImageAttribute)
	on(m, ec2.ModifyImageAttribute, s.modifyImageAttribute)
	on(m, ec2.ResetImageAttribute, s.resetImageAttribute)
	on(m, ec2.CopyImage, s.copyImage)
	on(m, ec2.EnableImage, s.enableImage)
	on(m, ec2.DisableImage, s.disableImage)
	on(m, ec2.EnableImageDeprecation, s.enableImageDeprecation)
	on(m, ec2.DisableImageDeprecation, s.disableImageDeprecation)
	on(m, ec2.EnableImageDeregistrationProtection, s.enableImageDeregistrationProtection)
	on(m, ec2.DisableImageDeregistrationProtection, s.disableImageDeregistrationProtection)
	s.registerKeys(m)
}

type image = ec2.Image

var imageKind = describe.Kind[image]{IDs: "imagesSet", Min: 1, Max: 1000, Tags: eachTag(func(v *image) []ec2.Tag { return v.Tags }), Filters: attrs[image]{
	"architecture": field(func(v *image) *string { return v.Architecture }), "creation-date": field(func(v *image) *string { return v.CreationDate }), "description": field(func(v *image) *string { return v.Description }),
	"ena-support": func(v *image) []string { return bools(v.EnaSupport) }, "hypervisor": field(func(v *image) *string { return v.Hypervisor }), "image-id": field(func(v *image) *string { return v.ImageId }),
	"image-type": field(func(v *image) *string { return v.ImageType }), "is-public": func(v *image) []string { return bools(v.Public) }, "manifest-location": field(func(v *image) *string { return v.ImageLocation }),
	"name": field(func(v *image) *string { return v.Name }), "owner-alias": field(func(v *image) *string { return v.ImageOwnerAlias }), "owner-id": field(func(v *image) *string { return v.OwnerId }),
	"root-device-name": field(func(v *image) *string { return v.RootDeviceName }), "root-device-type": field(func(v *image) *string { return v.RootDeviceType }),
	"source-instance-id": field(func(v *image) *string { return v.SourceInstanceId }), "source-image-id": field(func(v *image) *string { return v.SourceImageId }),
	"state": field(func(v *image) *string { return v.State }), "virtualization-type": field(func(v *image) *string { return v.VirtualizationType }),
	"block-device-mapping.delete-on-termination": imageDevice(func(b *ec2.BlockDeviceMapping) []string { return bools(b.Ebs.DeleteOnTermination) }),
	"block-device-mapping.device-name":           imageDevice(func(b *ec2.BlockDeviceMapping) []string { return texts(b.DeviceName) }),
	"block-device-mapping.snapshot-id":           imageDevice(func(b *ec2.BlockDeviceMapping) []string { return texts(b.Ebs.SnapshotId) }),
	"block-device-mapping.volume-size":           imageDevice(func(b *ec2.BlockDeviceMapping) []string { return nums(b.Ebs.VolumeSize) }),
	"block-device-mapping.volume-type":           imageDevice(func(b *ec2.BlockDeviceMapping) []string { return texts(b.Ebs.VolumeType) }),
	"block-device-mapping.encrypted":             imageDevice(func(b *ec2.BlockDeviceMapping) []string { return bools(b.Ebs.Encrypted) }),
	"free-tier-eligible":                         fixed[image]("true"), "image-allowed": fixed[image]("true"),
	"kernel-id": none[image](), "platform": none[image](), "product-code": none[image](), "product-code.type": none[image](), "ramdisk-id": none[image](), "source-image-region": none[image](),
	"state-reason-code": none[image](), "sriov-net-support": none[image](),
	"state-reason-message": func(v *image) []string {
		if v.StateReason == nil {
			return nil
		}
		return texts(v.StateReason.Message)
	},
}}

func imageDevice(get func(*ec2.BlockDeviceMapping) []string) func(*image) []string {
	return each(func(v *image) []ec2.BlockDeviceMapping { return v.BlockDeviceMappings }, get)
}

// isoMillis is the form of an image's times, which are texts.
func isoMillis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func describeImage(tx store.Tx, c *api.Call, i compute.Image) ec2.Image {
	location := i.OwnerID + "/" + i.Name
	if i.OwnerAlias != "" {
		location = i.OwnerAlias + "/" + i.Name
	}
	out := ec2.Image{ImageId: ptr(i.ID), Name: ptr(i.Name), Description: str(i.Description), Architecture: ptr(i.Architecture), State: ptr(i.State), CreationDate: ptr(isoMillis(i.CreatedAt)), OwnerId: ptr(i.OwnerID), ImageOwnerAlias: str(i.OwnerAlias),
		ImageLocation: ptr(location), ImageType: ptr("machine"), Public: ptr(i.Public), RootDeviceName: ptr(i.RootDeviceName), RootDeviceType: ptr("ebs"), VirtualizationType: ptr(i.VirtualizationType), Hypervisor: ptr("xen"), EnaSupport: ptr(true),
		SriovNetSupport: ptr("simple"), PlatformDetails: ptr(i.PlatformDetails), UsageOperation: ptr("RunInstances"), BootMode: str(i.BootMode), ImdsSupport: str(i.ImdsSupport), DeprecationTime: str(isoMillis(i.DeprecationTime)),
		DeregistrationProtection: str(i.DeregistrationProtection), SourceInstanceId: str(i.SourceInstanceID), SourceImageId: str(i.SourceImageID), LastLaunchedTime: str(isoMillis(i.LastLaunchedAt)),
		BlockDeviceMappings: []ec2.BlockDeviceMapping{rootMapping(i)}, Tags: tagsOf(tx, c.Scope(), i.ID)}
	if i.StateReason != "" {
		out.StateReason = &ec2.StateReason{Code: ptr("Server.InternalError"), Message: ptr(i.StateReason)}
	}
	return out
}

func rootMapping(i compute.Image) ec2.BlockDeviceMapping {
	e := &ec2.EbsBlockDevice{SnapshotId: ptr(i.SnapshotID), VolumeSize: num(i.RootSizeGiB), VolumeType: ptr(i.VolumeType), Encrypted: ptr(false), DeleteOnTermination: ptr(!i.DeleteRootOnTerminationIsKept)}
	if i.VolumeType == "gp3" {
		e.Iops, e.Throughput = num(3000), num(125)
	}
	return ec2.BlockDeviceMapping{DeviceName: ptr(i.RootDeviceName), Ebs: e}
}

func (s *Server) describeImages(c *api.Call, in *ec2.DescribeImagesRequest) (*ec2.DescribeImagesResult, error) {
	if err := imageIDs.check(in.ImageIds...); err != nil {
		return nil, err
	}
	var out []ec2.Image
	var next string
	err := c.View(func(tx store.Tx) error {
		var rows []compute.Image
		if len(in.ImageIds) > 0 {
			for _, id := range slices.Compact(slices.Sorted(slices.Values(in.ImageIds))) {
				i, err := compute.GetImage(tx, c.Scope(), id)
				if err != nil {
					return err
				}
				rows = append(rows, i)
			}
		} else {
			rows = compute.VisibleImages(tx, c.Scope())
		}
		rows = slices.DeleteFunc(rows, func(i compute.Image) bool {
			switch {
			case len(in.Owners) > 0 && !ownedBy(i, c.Account, in.Owners), len(in.ExecutableUsers) > 0 && !executableBy(i, c.Account, in.ExecutableUsers):
				return true
			case len(in.ImageIds) > 0 || i.OwnerID == c.Account && i.State != "disabled":
				return false
			}
			return i.State == "disabled" && !api.Val(in.IncludeDisabled) || !i.DeprecationTime.IsZero() && i.DeprecationTime.Before(c.Now) && !api.Val(in.IncludeDeprecated)
		})
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.ImageIds) > 0}
		var err error
		out, next, err = describe.Page(&imageKind, q, slices.Values(rows), func(i compute.Image) string { return i.ID }, func(i compute.Image) ec2.Image { return describeImage(tx, c, i) })
		return err
	})
	return &ec2.DescribeImagesResult{Images: out, NextToken: str(next)}, err
}

func ownedBy(i compute.Image, account string, owners []string) bool {
	return slices.ContainsFunc(owners, func(o string) bool {
		return o == "self" && i.OwnerID == account || o == i.OwnerID || i.OwnerAlias != "" && o == i.OwnerAlias
	})
}

func executableBy(i compute.Image, account string, users []string) bool {
	return slices.ContainsFunc(users, func(u string) bool {
		if u == "all" {
			return i.Public
		}
		if u == "self" {
			u = account
		}
		return slices.Contains(i.LaunchUsers, u)
	})
}

func (s *Server) createImage(c *api.Call, in *ec2.CreateImageRequest) (*ec2.CreateImageResult, error) {
	id, err := instanceIDs.need("instanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	name, err := need("name", in.Name)
	if err != nil {
		return nil, err
	}
	if err := unsupported("SnapshotLocation", in.SnapshotLocation != nil && *in.SnapshotLocation != "regional"); err != nil {
		return nil, err
	}
	if s.Images == nil {
		return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "CreateImage is not supported by this cloud's driver.")
	}
	for _, t := range in.TagSpecifications {
		if rt := api.Val(t.ResourceType); rt != "image" && rt != "snapshot" {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", rt)
		}
	}
	var img compute.Image
	err = c.Update(func(w *store.WriteTx) error {
		i, err := compute.GetInstance(w, c.Scope(), id)
		if err != nil {
			return err
		}
		if i.State != compute.Running && i.State != compute.Stopped {
			return fault.New(fault.State, "IncorrectInstanceState", "The instance '%s' is not in a state from which an image can be created.", id)
		}
		n := compute.Image{Name: name, Description: api.Val(in.Description), State: "pending", Architecture: i.Architecture, SourceInstanceID: i.ID, SourceImageID: i.ImageID, RootDeviceName: i.RootDeviceName, PlatformDetails: i.PlatformDetails}
		for v := range compute.Volumes.By(w, "instance", i.Key(i.ID)) {
			n.RootSizeGiB, n.VolumeType = v.SizeGiB, v.Type
		}
		for _, b := range in.BlockDeviceMappings {
			if api.Val(b.DeviceName) != i.RootDeviceName {
				return fault.New(fault.Unsupported, "UnsupportedOperation", "A volume at %s is not supported: instances have their root volume (%s) only.", api.Val(b.DeviceName), i.RootDeviceName)
			}
			if b.Ebs != nil {
				if z := int(api.Val(b.Ebs.VolumeSize)); z >= n.RootSizeGiB {
					n.RootSizeGiB = z
				}
				if t := api.Val(b.Ebs.VolumeType); t != "" {
					n.VolumeType = t
				}
			}
		}
		if img, err = compute.CreateImage(w, c.Scope(), n); err != nil {
			return err
		}
		var specs []ec2.TagSpecification
		for _, t := range in.TagSpecifications {
			if api.Val(t.ResourceType) == "image" {
				specs = append(specs, t)
			}
		}
		return tagged(w, c.Scope(), img.ID, "image", specs)
	})
	if err != nil {
		return nil, err
	}
	if err := s.Images.Commit(c.Ctx, c.Scope(), img.ID, id, api.Val(in.NoReboot)); err != nil {
		_ = c.Update(func(w *store.WriteTx) error { // the first error is the one to tell
			compute.FinishImage(w, c.Scope(), img.ID, nil, "", "The instance's disk could not be copied.")
			return nil
		})
		return nil, err
	}
	return &ec2.CreateImageResult{ImageId: ptr(img.ID)}, nil
}

// registerImage makes an image of the snapshot of another image's root volume: snapshots of other kinds do not exist.
func (s *Server) registerImage(c *api.Call, in *ec2.RegisterImageRequest) (*ec2.RegisterImageResult, error) {
	name, err := need("Name", in.Name)
	if err != nil {
		return nil, err
	}
	if err := unsupported("ImageLocation", in.ImageLocation != nil, "KernelId", in.KernelId != nil, "RamdiskId", in.RamdiskId != nil, "TpmSupport", in.TpmSupport != nil, "UefiData", in.UefiData != nil, "BillingProduct", len(in.BillingProducts) > 0,
		"VirtualizationType other than hvm", in.VirtualizationType != nil && *in.VirtualizationType != "hvm"); err != nil {
		return nil, err
	}
	rootDevice := api.Val(in.RootDeviceName)
	if rootDevice == "" {
		rootDevice = "/dev/xvda"
	}
	var root *ec2.BlockDeviceMapping
	for n := range in.BlockDeviceMappings {
		if b := &in.BlockDeviceMappings[n]; api.Val(b.DeviceName) == rootDevice {
			root = b
		} else if b.VirtualName == nil && b.NoDevice == nil {
			return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "A volume at %s is not supported: images have their root volume (%s) only.", api.Val(b.DeviceName), rootDevice)
		}
	}
	if root == nil || root.Ebs == nil || root.Ebs.SnapshotId == nil {
		return nil, fault.New(fault.Invalid, "InvalidBlockDeviceMapping", "Root device mapping: the snapshot of the root device %s must be specified.", rootDevice)
	}
	arch := api.Val(in.Architecture)
	if arch == "" {
		arch = "x86_64"
	}
	if arch != "x86_64" && arch != "arm64" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter architecture is invalid. Valid values are: x86_64, arm64.", arch)
	}
	var img compute.Image
	err = c.Update(func(w *store.WriteTx) error {
		var src *compute.Image
		for _, i := range compute.VisibleImages(w, c.Scope()) {
			if i.SnapshotID == *root.Ebs.SnapshotId && i.State == "available" {
				src = &i
				break
			}
		}
		if src == nil {
			return fault.New(fault.NotFound, "InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", *root.Ebs.SnapshotId)
		}
		if src.Architecture != arch {
			return fault.New(fault.Invalid, "InvalidParameterValue", "The architecture '%s' does not match the architecture '%s' of snapshot %s.", arch, src.Architecture, src.SnapshotID)
		}
		n := compute.Image{Name: name, Description: api.Val(in.Description), Architecture: arch, RootDeviceName: rootDevice, RootSizeGiB: max(src.RootSizeGiB, int(api.Val(root.Ebs.VolumeSize))), VolumeType: api.Val(root.Ebs.VolumeType),
			SnapshotID: src.SnapshotID, Layers: src.Layers, StoreName: src.StoreName, DefaultUser: src.DefaultUser, ImdsSupport: api.Val(in.ImdsSupport), BootMode: api.Val(in.BootMode), SourceImageID: src.ID,
			DeleteRootOnTerminationIsKept: root.Ebs.DeleteOnTermination != nil && !*root.Ebs.DeleteOnTermination}
		if img, err = compute.CreateImage(w, c.Scope(), n); err != nil {
			return err
		}
		return tagged(w, c.Scope(), img.ID, "image", in.TagSpecifications)
	})
	return &ec2.RegisterImageResult{ImageId: ptr(img.ID)}, err
}

func (s *Server) deregisterImage(c *api.Call, in *ec2.DeregisterImageRequest) (*ec2.DeregisterImageResult, error) {
	id, err := imageIDs.need("imageId", in.ImageId)
	if err != nil {
		return nil, err
	}
	var gone compute.Image
	used := false
	err = c.Update(func(w *store.WriteTx) error {
		if gone, err = compute.DeregisterImage(w, c.Scope(), id); err != nil {
			return err
		}
		used = compute.LayersInUse(w, gone)
		return nil
	})
	if err == nil && !used && s.Images != nil && len(gone.Layers) > 0 {
		s.Images.Remove(c.Ctx, gone)
	}
	return &ec2.DeregisterImageResult{Return: ptr(true)}, err
}

func (s *Server) describeImageAttribute(c *api.Call, in *ec2.DescribeImageAttributeRequest) (*ec2.ImageAttribute, error) {
	id, err := imageIDs.need("imageId", in.ImageId)
	if err != nil {
		return nil, err
	}
	name, err := need("attribute", in.Attribute)
	if err != nil {
		return nil, err
	}
	i, err := compute.GetImage(c.DB.Read(), c.Scope(), id)
	if err != nil {
		return nil, err
	}
	value := func(v string) *ec2.AttributeValue { return &ec2.AttributeValue{Value: str(v)} }
	out := &ec2.ImageAttribute{ImageId: ptr(id)}
	switch name {
	case "description":
		out.Description = value(i.Description)
	case "launchPermission":
		if i.OwnerID != c.Account {
			return nil, fault.New(fault.Denied, "AuthFailure", "Not authorized for image:%s", id)
		}
		if i.Public {
			out.LaunchPermissions = append(out.LaunchPermissions, ec2.LaunchPermission{Group: ptr("all")})
		}
		for _, u := range i.LaunchUsers {
			out.LaunchPermissions = append(out.LaunchPermissions, ec2.LaunchPermission{UserId: ptr(u)})
		}
	case "blockDeviceMapping":
		out.BlockDeviceMappings = []ec2.BlockDeviceMapping{rootMapping(i)}
	case "bootMode":
		out.BootMode = value(i.BootMode)
	case "imdsSupport":
		out.ImdsSupport = value(i.ImdsSupport)
	case "lastLaunchedTime":
		out.LastLaunchedTime = value(isoMillis(i.LastLaunchedAt))
	case "deregistrationProtection":
		out.DeregistrationProtection = value(i.DeregistrationProtection)
	case "sriovNetSupport":
		out.SriovNetSupport = value("simple")
	case "kernel", "ramdisk", "productCodes", "tpmSupport", "uefiData":
	default:
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", name)
	}
	return out, nil
}

func (s *Server) modifyImageAttribute(c *api.Call, in *ec2.ModifyImageAttributeRequest) (*ec2.ModifyImageAttributeOutput, error) {
	id, err := imageIDs.need("imageId", in.ImageId)
	if err != nil {
		return nil, err
	}
	if err := unsupported("OrganizationArn", len(in.OrganizationArns) > 0, "OrganizationalUnitArn", len(in.OrganizationalUnitArns) > 0, "ProductCode", len(in.ProductCodes) > 0); err != nil {
		return nil, err
	}
	var add, remove []ec2.LaunchPermission
	if p := in.LaunchPermission; p != nil {
		add, remove = p.Add, p.Remove
	}
	var flat []ec2.LaunchPermission
	for _, u := range in.UserIds {
		flat = append(flat, ec2.LaunchPermission{UserId: ptr(u)})
	}
	for _, g := range in.UserGroups {
		flat = append(flat, ec2.LaunchPermission{Group: ptr(g)})
	}
	if api.Val(in.OperationType) == "remove" {
		remove = append(remove, flat...)
	} else {
		add = append(add, flat...)
	}
	description := in.Description
	if api.Val(in.Attribute) == "description" && description == nil {
		description = &ec2.AttributeValue{Value: in.Value}
	}
	if len(add)+len(remove) == 0 && description == nil && in.ImdsSupport == nil {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter attribute")
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		i, err := compute.OwnImage(w, c.Scope(), id)
		if err != nil {
			return err
		}
		i.LaunchUsers = slices.Clone(i.LaunchUsers)
		for _, p := range append(slices.Clone(add), remove...) {
			if p.OrganizationArn != nil || p.OrganizationalUnitArn != nil {
				return fault.New(fault.Unsupported, "UnsupportedOperation", "Launch permissions of organizations are not supported.")
			}
			if g := api.Val(p.Group); g != "" && g != "all" {
				return fault.New(fault.Invalid, "InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for groupId item type.", g)
			}
			if u := api.Val(p.UserId); u != "" && (len(u) != 12 || strings.Trim(u, "0123456789") != "") {
				return fault.New(fault.Invalid, "InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for userId item type.", u)
			}
		}
		for _, p := range add {
			if p.Group != nil {
				i.Public = true
			} else if u := api.Val(p.UserId); u != "" && !slices.Contains(i.LaunchUsers, u) {
				i.LaunchUsers = append(i.LaunchUsers, u)
			}
		}
		for _, p := range remove {
			if p.Group != nil {
				i.Public = false
			} else {
				i.LaunchUsers = slices.DeleteFunc(i.LaunchUsers, func(u string) bool { return u == api.Val(p.UserId) })
			}
		}
		if description != nil {
			i.Description = api.Val(description.Value)
		}
		if in.ImdsSupport != nil {
			if v := api.Val(in.ImdsSupport.Value); v != "v2.0" {
				return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter imdsSupport is invalid. Valid values are: v2.0.", v)
			}
			i.ImdsSupport = "v2.0"
		}
		compute.Images.Put(w, i)
		return nil
	})
}

func (s *Server) resetImageAttribute(c *api.Call, in *ec2.ResetImageAttributeRequest) (*ec2.ResetImageAttributeOutput, error) {
	if a := api.Val(in.Attribute); a != "launchPermission" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", a)
	}
	return nil, s.changeImage(c, in.ImageId, func(i *compute.Image) { i.Public, i.LaunchUsers = false, nil })
}

func (s *Server) copyImage(*api.Call, *ec2.CopyImageRequest) (*ec2.CopyImageResult, error) {
	return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "CopyImage is not supported: images of the image store are in every region already.")
}

// changeImage changes an image of the account.
func (s *Server) changeImage(c *api.Call, id *string, fn func(*compute.Image)) error {
	image, err := imageIDs.need("imageId", id)
	if err != nil {
		return err
	}
	return c.Update(func(w *store.WriteTx) error {
		i, err := compute.OwnImage(w, c.Scope(), image)
		if err != nil {
			return err
		}
		fn(&i)
		compute.Images.Put(w, i)
		return nil
	})
}

func (s *Server) enableImage(c *api.Call, in *ec2.EnableImageRequest) (*ec2.EnableImageResult, error) {
	return &ec2.EnableImageResult{Return: ptr(true)}, s.changeImage(c, in.ImageId, func(i *compute.Image) {
		if i.State == "disabled" {
			i.State = "available"
		}
	})
}

func (s *Server) disableImage(c *api.Call, in *ec2.DisableImageRequest) (*ec2.DisableImageResult, error) {
	return &ec2.DisableImageResult{Return: ptr(true)}, s.changeImage(c, in.ImageId, func(i *compute.Image) {
		if i.State == "available" {
			i.State, i.Public, i.LaunchUsers = "disabled", false, nil
		}
	})
}

func (s *Server) enableImageDeprecation(c *api.Call, in *ec2.EnableImageDeprecationRequest) (*ec2.EnableImageDeprecationResult, error) {
	if in.DeprecateAt == nil {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter deprecateAt")
	}
	if in.DeprecateAt.Before(c.Now) {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "The deprecation time %s is in the past.", isoMillis(*in.DeprecateAt))
	}
	return &ec2.EnableImageDeprecationResult{Return: ptr(true)}, s.changeImage(c, in.ImageId, func(i *compute.Image) { i.DeprecationTime = in.DeprecateAt.UTC().Truncate(time.Minute) })
}

func (s *Server) disableImageDeprecation(c *api.Call, in *ec2.DisableImageDeprecationRequest) (*ec2.DisableImageDeprecationResult, error) {
	return &ec2.DisableImageDeprecationResult{Return: ptr(true)}, s.changeImage(c, in.ImageId, func(i *compute.Image) { i.DeprecationTime = time.Time{} })
}

func (s *Server) enableImageDeregistrationProtection(c *api.Call, in *ec2.EnableImageDeregistrationProtectionRequest) (*ec2.EnableImageDeregistrationProtectionResult, error) {
	if err := unsupported("WithCooldown", api.Val(in.WithCooldown)); err != nil {
		return nil, err
	}
	return &ec2.EnableImageDeregistrationProtectionResult{Return: ptr("true")}, s.changeImage(c, in.ImageId, func(i *compute.Image) { i.DeregistrationProtection = "enabled-without-cooldown" })
}

func (s *Server) disableImageDeregistrationProtection(c *api.Call, in *ec2.DisableImageDeregistrationProtectionRequest) (*ec2.DisableImageDeregistrationProtectionResult, error) {
	return &ec2.DisableImageDeregistrationProtectionResult{Return: ptr("true")}, s.changeImage(c, in.ImageId, func(i *compute.Image) { i.DeregistrationProtection = "disabled" })
}
