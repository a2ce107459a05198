package ec2api

import (
	"encoding/base64"
	"slices"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerInstanceAttributes(m *api.Mux) {
	on(m, ec2.DescribeInstanceAttribute, s.describeInstanceAttribute)
	on(m, ec2.ModifyInstanceAttribute, s.modifyInstanceAttribute)
	on(m, ec2.ResetInstanceAttribute, s.resetInstanceAttribute)
	on(m, ec2.ModifyInstanceMetadataOptions, s.modifyInstanceMetadataOptions)
	on(m, ec2.ModifyInstanceMaintenanceOptions, s.modifyInstanceMaintenanceOptions)
	on(m, ec2.ModifyPrivateDnsNameOptions, s.modifyPrivateDnsNameOptions)
	on(m, ec2.DescribeInstanceCreditSpecifications, s.describeInstanceCreditSpecifications)
	on(m, ec2.ModifyInstanceCreditSpecification, s.modifyInstanceCreditSpecification)
	on(m, ec2.AssociateIamInstanceProfile, s.associateIamInstanceProfile)
	on(m, ec2.DisassociateIamInstanceProfile, s.disassociateIamInstanceProfile)
	on(m, ec2.ReplaceIamInstanceProfileAssociation, s.replaceIamInstanceProfileAssociation)
	on(m, ec2.DescribeIamInstanceProfileAssociations, s.describeIamInstanceProfileAssociations)
}

func unknownAttribute(name string) error {
	return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", name)
}

func (s *Server) describeInstanceAttribute(c *api.Call, in *ec2.DescribeInstanceAttributeRequest) (*ec2.InstanceAttribute, error) {
	id, err := instanceIDs.need("instanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	name, err := need("attribute", in.Attribute)
	if err != nil {
		return nil, err
	}
	tx := c.DB.Read()
	i, err := compute.GetInstance(tx, c.Scope(), id)
	if err != nil {
		return nil, err
	}
	out := &ec2.InstanceAttribute{InstanceId: ptr(id)}
	value := func(v string) *ec2.AttributeValue { return &ec2.AttributeValue{Value: str(v)} }
	switch name {
	case "instanceType":
		out.InstanceType = value(i.InstanceType)
	case "userData":
		out.UserData = value(i.UserData)
	case "disableApiTermination":
		out.DisableApiTermination = boolean(i.DisableAPITermination)
	case "disableApiStop":
		out.DisableApiStop = boolean(i.DisableAPIStop)
	case "instanceInitiatedShutdownBehavior":
		out.InstanceInitiatedShutdownBehavior = value(i.ShutdownBehavior)
	case "rootDeviceName":
		out.RootDeviceName = value(i.RootDeviceName)
	case "blockDeviceMapping":
		out.BlockDeviceMappings = describeInstance(tx, i).BlockDeviceMappings
	case "sourceDestCheck":
		e, _ := network.ENIs.Get(tx, i.Key(i.ENIID))
		out.SourceDestCheck = boolean(e.SourceDestCheck)
	case "groupSet":
		out.Groups = groupsOf(tx, i)
	case "ebsOptimized":
		out.EbsOptimized = boolean(i.EbsOptimized)
	case "enaSupport":
		out.EnaSupport = boolean(true)
	case "enclaveOptions":
		out.EnclaveOptions = &ec2.EnclaveOptions{Enabled: ptr(false)}
	case "sriovNetSupport":
		out.SriovNetSupport = value("simple")
	case "kernel":
		out.KernelId = value("")
	case "ramdisk":
		out.RamdiskId = value("")
	case "productCodes":
	default:
		return nil, unknownAttribute(name)
	}
	return out, nil
}

// byAttribute turns the form with Attribute and Value into the one with a parameter an attribute.
func byAttribute(in *ec2.ModifyInstanceAttributeRequest) error {
	if in.Attribute == nil {
		return nil
	}
	v := &ec2.AttributeValue{Value: in.Value}
	yes := boolean(api.Val(in.Value) == "true")
	if name := *in.Attribute; name == "disableApiTermination" || name == "disableApiStop" || name == "ebsOptimized" || name == "sourceDestCheck" || name == "enaSupport" {
		if t := api.Val(in.Value); t != "true" && t != "false" {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter value is invalid. Valid values are: true, false.", t)
		}
	}
	switch *in.Attribute {
	case "instanceType":
		in.InstanceType = v
	case "kernel":
		in.Kernel = v
	case "ramdisk":
		in.Ramdisk = v
	case "userData":
		raw, err := base64.StdEncoding.DecodeString(api.Val(in.Value))
		if err != nil {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Invalid BASE64 encoding of user data.")
		}
		in.UserData = &ec2.BlobAttributeValue{Value: raw}
	case "disableApiTermination":
		in.DisableApiTermination = yes
	case "disableApiStop":
		in.DisableApiStop = yes
	case "instanceInitiatedShutdownBehavior":
		in.InstanceInitiatedShutdownBehavior = v
	case "ebsOptimized":
		in.EbsOptimized = yes
	case "sourceDestCheck":
		in.SourceDestCheck = yes
	case "enaSupport":
		in.EnaSupport = yes
	case "sriovNetSupport":
		in.SriovNetSupport = v
	case "blockDeviceMapping", "groupSet":
	default:
		return unknownAttribute(*in.Attribute)
	}
	return nil
}

func (s *Server) modifyInstanceAttribute(c *api.Call, in *ec2.ModifyInstanceAttributeRequest) (*ec2.ModifyInstanceAttributeOutput, error) {
	id, err := instanceIDs.need("instanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := byAttribute(in); err != nil {
		return nil, err
	}
	n := 0
	for _, given := range []bool{in.InstanceType != nil, in.Kernel != nil, in.Ramdisk != nil, in.UserData != nil, in.DisableApiTermination != nil, in.DisableApiStop != nil, in.InstanceInitiatedShutdownBehavior != nil,
		in.EbsOptimized != nil, in.SourceDestCheck != nil, in.EnaSupport != nil, in.SriovNetSupport != nil, len(in.BlockDeviceMappings) > 0, len(in.Groups) > 0} {
		if given {
			n++
		}
	}
	if n == 0 {
		return nil, fault.New(fault.Invalid, "InvalidParameterCombination", "No attributes specified.")
	}
	if n > 1 {
		return nil, fault.New(fault.Invalid, "InvalidParameterCombination", "Fields for multiple attribute types specified: the request may change one attribute.")
	}
	if err := unsupported("Kernel", in.Kernel != nil, "Ramdisk", in.Ramdisk != nil, "SriovNetSupport", in.SriovNetSupport != nil && api.Val(in.SriovNetSupport.Value) != "simple"); err != nil {
		return nil, err
	}
	if err := groupIDs.check(in.Groups...); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		i, err := compute.Modify(w, c.Scope(), id, func(i *compute.Instance) error { return applyAttribute(w, i, in) })
		if err != nil {
			return err
		}
		if len(in.Groups) > 0 {
			return compute.SetGroups(w, c.Scope(), id, in.Groups)
		}
		if in.SourceDestCheck != nil {
			e, err := network.GetENI(w, c.Scope(), i.ENIID)
			if err != nil {
				return err
			}
			e.SourceDestCheck = api.Val(in.SourceDestCheck.Value)
			network.ENIs.Put(w, e)
		}
		return nil
	})
}

func applyAttribute(w *store.WriteTx, i *compute.Instance, in *ec2.ModifyInstanceAttributeRequest) error {
	switch {
	case in.InstanceType != nil:
		return i.SetType(api.Val(in.InstanceType.Value))
	case in.UserData != nil:
		return i.SetUserData(base64.StdEncoding.EncodeToString(in.UserData.Value))
	case in.EbsOptimized != nil:
		if err := i.NeedStopped(); err != nil {
			return err
		}
		i.EbsOptimized = api.Val(in.EbsOptimized.Value)
	case in.EnaSupport != nil:
		return i.NeedStopped()
	case in.DisableApiTermination != nil:
		i.DisableAPITermination = api.Val(in.DisableApiTermination.Value)
	case in.DisableApiStop != nil:
		i.DisableAPIStop = api.Val(in.DisableApiStop.Value)
	case in.InstanceInitiatedShutdownBehavior != nil:
		b := api.Val(in.InstanceInitiatedShutdownBehavior.Value)
		if b != "stop" && b != "terminate" {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter instanceInitiatedShutdownBehavior is invalid. Valid values are: stop, terminate.", b)
		}
		i.ShutdownBehavior = b
	}
	for _, b := range in.BlockDeviceMappings {
		n := slices.IndexFunc(i.BlockDevices, func(d compute.BlockDevice) bool { return d.DeviceName == api.Val(b.DeviceName) })
		if n < 0 {
			return fault.New(fault.Invalid, "InvalidInstanceAttributeValue", "No device is currently mapped at %s", api.Val(b.DeviceName))
		}
		if b.Ebs == nil || b.Ebs.DeleteOnTermination == nil {
			continue
		}
		i.BlockDevices = slices.Clone(i.BlockDevices)
		i.BlockDevices[n].DeleteOnTermination = *b.Ebs.DeleteOnTermination
		if v, ok := compute.Volumes.Get(w, i.Key(i.BlockDevices[n].VolumeID)); ok {
			v.DeleteOnTermination = *b.Ebs.DeleteOnTermination
			compute.Volumes.Put(w, v)
		}
	}
	return nil
}

func (s *Server) resetInstanceAttribute(c *api.Call, in *ec2.ResetInstanceAttributeRequest) (*ec2.ResetInstanceAttributeOutput, error) {
	id, err := instanceIDs.need("instanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	switch a := api.Val(in.Attribute); a {
	case "sourceDestCheck":
	case "kernel", "ramdisk":
		return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "The attribute %s is not supported.", a)
	default:
		return nil, unknownAttribute(a)
	}
	_, err = s.modifyInstanceAttribute(c, &ec2.ModifyInstanceAttributeRequest{InstanceId: ptr(id), SourceDestCheck: boolean(true)})
	return nil, err
}

func (s *Server) modifyInstanceMetadataOptions(c *api.Call, in *ec2.ModifyInstanceMetadataOptionsRequest) (*ec2.ModifyInstanceMetadataOptionsResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	spec := &compute.MetadataSpec{HttpTokens: api.Val(in.HttpTokens), HttpEndpoint: api.Val(in.HttpEndpoint), HttpProtocolIpv6: api.Val(in.HttpProtocolIpv6), InstanceMetadataTags: api.Val(in.InstanceMetadataTags)}
	if in.HttpPutResponseHopLimit != nil {
		spec.HttpPutResponseHopLimit = ptr(int(*in.HttpPutResponseHopLimit))
	}
	var out compute.Instance
	err = c.Update(func(w *store.WriteTx) error {
		out, err = compute.Modify(w, c.Scope(), id, func(i *compute.Instance) error {
			i.MetadataOptions, err = compute.MergeMetadata(i.MetadataOptions, spec)
			return err
		})
		return err
	})
	opts := metadataOptions(out)
	opts.State = ptr("pending")
	return &ec2.ModifyInstanceMetadataOptionsResult{InstanceId: ptr(id), InstanceMetadataOptions: opts}, err
}

func (s *Server) modifyInstanceMaintenanceOptions(c *api.Call, in *ec2.ModifyInstanceMaintenanceOptionsRequest) (*ec2.ModifyInstanceMaintenanceOptionsResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := unsupported("RebootMigration", in.RebootMigration != nil && *in.RebootMigration != "default"); err != nil {
		return nil, err
	}
	a := api.Val(in.AutoRecovery)
	if a != "default" && a != "disabled" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter autoRecovery is invalid. Valid values are: default, disabled.", a)
	}
	err = c.Update(func(w *store.WriteTx) error {
		_, err := compute.Modify(w, c.Scope(), id, func(i *compute.Instance) error { i.AutoRecovery = a; return nil })
		return err
	})
	return &ec2.ModifyInstanceMaintenanceOptionsResult{InstanceId: ptr(id), AutoRecovery: ptr(a)}, err
}

func (s *Server) modifyPrivateDnsNameOptions(c *api.Call, in *ec2.ModifyPrivateDnsNameOptionsRequest) (*ec2.ModifyPrivateDnsNameOptionsResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := unsupported("EnableResourceNameDnsAAAARecord", api.Val(in.EnableResourceNameDnsAAAARecord)); err != nil {
		return nil, err
	}
	err = c.Update(func(w *store.WriteTx) error {
		_, err := compute.Modify(w, c.Scope(), id, func(i *compute.Instance) error {
			switch t := api.Val(in.PrivateDnsHostnameType); t {
			case "":
			case "ip-name", "resource-name":
				if err := i.NeedStopped(); err != nil {
					return err
				}
				i.HostnameType = t
			default:
				return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter privateDnsHostnameType is invalid. Valid values are: ip-name, resource-name.", t)
			}
			if in.EnableResourceNameDnsARecord != nil {
				i.ResourceNameDNSA = *in.EnableResourceNameDnsARecord
			}
			return nil
		})
		return err
	})
	return &ec2.ModifyPrivateDnsNameOptionsResult{Return: ptr(true)}, err
}

type credit = ec2.InstanceCreditSpecification

var creditListing = listing[compute.Instance, credit]{
	table: compute.Instances, ids: instanceIDs, id: func(i compute.Instance) string { return i.ID },
	convert: func(_ store.Tx, i compute.Instance) credit {
		return credit{InstanceId: ptr(i.ID), CpuCredits: ptr(i.CPUCredits)}
	},
	kind: describe.Kind[credit]{IDs: "InstanceIds", Min: 5, Max: 1000, Filters: attrs[credit]{"instance-id": field(func(v *credit) *string { return v.InstanceId })}},
}

func (s *Server) describeInstanceCreditSpecifications(c *api.Call, in *ec2.DescribeInstanceCreditSpecificationsRequest) (*ec2.DescribeInstanceCreditSpecificationsResult, error) {
	var out []credit
	var next string
	err := c.View(func(tx store.Tx) error {
		rows, err := creditListing.rows(tx, c.Scope(), in.InstanceIds)
		if err != nil {
			return err
		}
		named := len(in.InstanceIds) > 0
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: named}
		out, next, err = describe.Page(&creditListing.kind, q, func(yield func(compute.Instance) bool) {
			for i := range rows {
				t, _ := compute.TypeByName(i.InstanceType)
				// without ids only those that differ from the type's default are listed
				if t.Burstable && i.State != compute.Terminated && (named || i.CPUCredits == "unlimited") && !yield(i) {
					return
				}
			}
		}, creditListing.id, func(i compute.Instance) credit { return creditListing.convert(tx, i) })
		return err
	})
	return &ec2.DescribeInstanceCreditSpecificationsResult{InstanceCreditSpecifications: out, NextToken: str(next)}, err
}

func (s *Server) modifyInstanceCreditSpecification(c *api.Call, in *ec2.ModifyInstanceCreditSpecificationRequest) (*ec2.ModifyInstanceCreditSpecificationResult, error) {
	out := &ec2.ModifyInstanceCreditSpecificationResult{}
	if len(in.InstanceCreditSpecifications) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter InstanceCreditSpecification")
	}
	err := c.Update(func(w *store.WriteTx) error {
		for _, x := range in.InstanceCreditSpecifications {
			id, err := instanceIDs.need("InstanceId", x.InstanceId)
			if err != nil {
				return err
			}
			if _, err = compute.SetCredits(w, c.Scope(), id, api.Val(x.CpuCredits)); err == nil {
				out.SuccessfulInstanceCreditSpecifications = append(out.SuccessfulInstanceCreditSpecifications, ec2.SuccessfulInstanceCreditSpecificationItem{InstanceId: ptr(id)})
				continue
			}
			f, ok := fault.As(err)
			if !ok {
				return err
			}
			out.UnsuccessfulInstanceCreditSpecifications = append(out.UnsuccessfulInstanceCreditSpecifications, ec2.UnsuccessfulInstanceCreditSpecificationItem{InstanceId: ptr(id),
				Error: &ec2.UnsuccessfulInstanceCreditSpecificationItemError{Code: ptr(f.Code), Message: ptr(f.Msg)}})
		}
		return nil
	})
	return out, err
}

func profileAssociation(i compute.Instance, state string) ec2.IamInstanceProfileAssociation {
	return ec2.IamInstanceProfileAssociation{AssociationId: ptr(i.ProfileAssociationID), InstanceId: ptr(i.ID), State: ptr(state), Timestamp: when(i.ProfileAssociatedAt),
		IamInstanceProfile: &ec2.IamInstanceProfile{Arn: ptr(i.IamInstanceProfileArn), Id: ptr(i.IamInstanceProfileID)}}
}

// passRole asks whether the principal may give the profile's role away.
func passRole(c *api.Call, tx store.Tx, arn, name string) error {
	p, err := identity.ResolveProfile(tx, c.Scope(), arn, name)
	if err != nil {
		return err
	}
	if p.Role == "" || c.Authorize == nil {
		return nil
	}
	r, err := identity.GetRole(tx, c.Account, p.Role)
	if err != nil {
		return nil // the profile names a role that is gone: nothing is passed
	}
	return c.Authorize("iam:PassRole", r.ARN())
}

func profileOf(p *ec2.IamInstanceProfileSpecification) (arn, name string, err error) {
	if p == nil {
		return "", "", fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter IamInstanceProfile")
	}
	return api.Val(p.Arn), api.Val(p.Name), nil
}

func (s *Server) associateIamInstanceProfile(c *api.Call, in *ec2.AssociateIamInstanceProfileRequest) (*ec2.AssociateIamInstanceProfileResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	arn, name, err := profileOf(in.IamInstanceProfile)
	if err != nil {
		return nil, err
	}
	var i compute.Instance
	err = c.Update(func(w *store.WriteTx) error {
		if err := passRole(c, w, arn, name); err != nil {
			return err
		}
		i, err = compute.AssociateProfile(w, c.Scope(), id, arn, name)
		return err
	})
	return &ec2.AssociateIamInstanceProfileResult{IamInstanceProfileAssociation: ptr(profileAssociation(i, "associating"))}, err
}

func (s *Server) disassociateIamInstanceProfile(c *api.Call, in *ec2.DisassociateIamInstanceProfileRequest) (*ec2.DisassociateIamInstanceProfileResult, error) {
	id, err := assocIDs.need("AssociationId", in.AssociationId)
	if err != nil {
		return nil, err
	}
	var i compute.Instance
	err = c.Update(func(w *store.WriteTx) error {
		i, err = compute.DisassociateProfile(w, c.Scope(), id)
		return err
	})
	return &ec2.DisassociateIamInstanceProfileResult{IamInstanceProfileAssociation: ptr(profileAssociation(i, "disassociating"))}, err
}

func (s *Server) replaceIamInstanceProfileAssociation(c *api.Call, in *ec2.ReplaceIamInstanceProfileAssociationRequest) (*ec2.ReplaceIamInstanceProfileAssociationResult, error) {
	id, err := assocIDs.need("AssociationId", in.AssociationId)
	if err != nil {
		return nil, err
	}
	arn, name, err := profileOf(in.IamInstanceProfile)
	if err != nil {
		return nil, err
	}
	var i compute.Instance
	err = c.Update(func(w *store.WriteTx) error {
		if err := passRole(c, w, arn, name); err != nil {
			return err
		}
		i, err = compute.ReplaceProfile(w, c.Scope(), id, arn, name)
		return err
	})
	return &ec2.ReplaceIamInstanceProfileAssociationResult{IamInstanceProfileAssociation: ptr(profileAssociation(i, "associating"))}, err
}

type profileAssoc = ec2.IamInstanceProfileAssociation

var profileKind = describe.Kind[profileAssoc]{IDs: "AssociationIds", Min: 5, Max: 1000, Filters: attrs[profileAssoc]{
	"instance-id": field(func(v *profileAssoc) *string { return v.InstanceId }), "state": field(func(v *profileAssoc) *string { return v.State }),
}}

func (s *Server) describeIamInstanceProfileAssociations(c *api.Call, in *ec2.DescribeIamInstanceProfileAssociationsRequest) (*ec2.DescribeIamInstanceProfileAssociationsResult, error) {
	if err := assocIDs.check(in.AssociationIds...); err != nil {
		return nil, err
	}
	var out []profileAssoc
	var next string
	err := c.View(func(tx store.Tx) error {
		for _, id := range in.AssociationIds {
			if _, err := compute.ProfileAssociation(tx, c.Scope(), id); err != nil {
				return err
			}
		}
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.AssociationIds) > 0}
		var err error
		out, next, err = describe.Page(&profileKind, q, func(yield func(compute.Instance) bool) {
			for i := range compute.Instances.Prefix(tx, c.Scope().Prefix()) {
				if i.ProfileAssociationID == "" || !i.Live() || len(in.AssociationIds) > 0 && !slices.Contains(in.AssociationIds, i.ProfileAssociationID) {
					continue
				}
				if !yield(i) {
					return
				}
			}
		}, func(i compute.Instance) string { return i.ID }, func(i compute.Instance) profileAssoc { return profileAssociation(i, "associated") })
		return err
	})
	return &ec2.DescribeIamInstanceProfileAssociationsResult{IamInstanceProfileAssociations: out, NextToken: str(next)}, err
}
