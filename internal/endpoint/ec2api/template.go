package ec2api

import (
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/store"
)

func (s *Server) registerTemplates(m *api.Mux) {
	on(m, ec2.CreateLaunchTemplate, s.createLaunchTemplate)
	on(m, ec2.CreateLaunchTemplateVersion, s.createLaunchTemplateVersion)
	on(m, ec2.DescribeLaunchTemplates, s.describeLaunchTemplates)
	on(m, ec2.DescribeLaunchTemplateVersions, s.describeLaunchTemplateVersions)
	on(m, ec2.ModifyLaunchTemplate, s.modifyLaunchTemplate)
	on(m, ec2.DeleteLaunchTemplate, s.deleteLaunchTemplate)
	on(m, ec2.DeleteLaunchTemplateVersions, s.deleteLaunchTemplateVersions)
	on(m, ec2.GetLaunchTemplateData, s.getLaunchTemplateData)
}

type template = ec2.LaunchTemplate

var templateListing = listing[compute.LaunchTemplate, template]{
	table: compute.LaunchTemplates, ids: templateIDs, id: func(t compute.LaunchTemplate) string { return t.ID }, convert: describeTemplate,
	kind: describe.Kind[template]{IDs: "LaunchTemplateIds", Min: 1, Max: 200, Tags: eachTag(func(v *template) []ec2.Tag { return v.Tags }), Filters: attrs[template]{
		"create-time": func(v *template) []string { return times(v.CreateTime) }, "launch-template-name": field(func(v *template) *string { return v.LaunchTemplateName }),
	}},
}

func describeTemplate(tx store.Tx, t compute.LaunchTemplate) ec2.LaunchTemplate {
	return ec2.LaunchTemplate{LaunchTemplateId: ptr(t.ID), LaunchTemplateName: ptr(t.Name), CreateTime: when(t.CreatedAt), CreatedBy: ptr(t.CreatedBy), DefaultVersionNumber: ptr(t.DefaultVersion), LatestVersionNumber: ptr(t.LatestVersion), Tags: tagsOf(tx, t.Scope, t.ID)}
}

// document is a template's data as it is kept: the request's own JSON.
func document(d *ec2.RequestLaunchTemplateData) ([]byte, error) {
	if d == nil {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter LaunchTemplateData")
	}
	return json.Marshal(d)
}

// creator is the ARN that a template shows as its maker.
func creator(c *api.Call) string {
	if c.Principal.ARN != "" {
		return c.Principal.ARN
	}
	return "arn:aws:iam::" + c.Account + ":root"
}

func (s *Server) createLaunchTemplate(c *api.Call, in *ec2.CreateLaunchTemplateRequest) (*ec2.CreateLaunchTemplateResult, error) {
	name, err := need("LaunchTemplateName", in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	doc, err := document(in.LaunchTemplateData)
	if err != nil {
		return nil, err
	}
	var out ec2.LaunchTemplate
	err = c.Update(func(w *store.WriteTx) error {
		t, err := compute.CreateLaunchTemplate(w, c.Scope(), name, api.Val(in.VersionDescription), api.Val(in.ClientToken), creator(c), doc)
		if err != nil {
			return err
		}
		if err := tagged(w, c.Scope(), t.ID, "launch-template", in.TagSpecifications); err != nil {
			return err
		}
		out = describeTemplate(w, t)
		return nil
	})
	return &ec2.CreateLaunchTemplateResult{LaunchTemplate: &out}, err
}

func templateID(id *string) error {
	if api.Val(id) == "" {
		return nil
	}
	return templateIDs.check(*id)
}

func (s *Server) createLaunchTemplateVersion(c *api.Call, in *ec2.CreateLaunchTemplateVersionRequest) (*ec2.CreateLaunchTemplateVersionResult, error) {
	if err := templateID(in.LaunchTemplateId); err != nil {
		return nil, err
	}
	doc, err := document(in.LaunchTemplateData)
	if err != nil {
		return nil, err
	}
	var out ec2.LaunchTemplateVersion
	err = c.Update(func(w *store.WriteTx) error {
		n, err := compute.Once(w, c.Scope(), "CreateLaunchTemplateVersion", api.Val(in.ClientToken), in, func() (string, error) {
			v, err := compute.CreateLaunchTemplateVersion(w, c.Scope(), api.Val(in.LaunchTemplateId), api.Val(in.LaunchTemplateName), api.Val(in.SourceVersion), api.Val(in.VersionDescription), creator(c), doc)
			return strconv.FormatInt(v.Version, 10), err
		})
		if err != nil {
			return err
		}
		v, err := compute.ResolveLaunchTemplate(w, c.Scope(), api.Val(in.LaunchTemplateId), api.Val(in.LaunchTemplateName), n)
		if err != nil {
			return err
		}
		out, err = describeVersion(w, v)
		return err
	})
	return &ec2.CreateLaunchTemplateVersionResult{LaunchTemplateVersion: &out}, err
}

func describeVersion(tx store.Tx, v compute.LaunchTemplateVersion) (ec2.LaunchTemplateVersion, error) {
	t, _ := compute.LaunchTemplates.Get(tx, v.Key(v.TemplateID))
	data := &ec2.ResponseLaunchTemplateData{}
	if err := json.Unmarshal(v.Document, data); err != nil {
		return ec2.LaunchTemplateVersion{}, err
	}
	return ec2.LaunchTemplateVersion{LaunchTemplateId: ptr(v.TemplateID), LaunchTemplateName: ptr(v.TemplateName), VersionNumber: ptr(v.Version), VersionDescription: str(v.Description), CreateTime: when(v.CreatedAt), CreatedBy: ptr(v.CreatedBy),
		DefaultVersion: ptr(v.Version == t.DefaultVersion), LaunchTemplateData: data}, nil
}

func (s *Server) describeLaunchTemplates(c *api.Call, in *ec2.DescribeLaunchTemplatesRequest) (*ec2.DescribeLaunchTemplatesResult, error) {
	ids := slices.Clone(in.LaunchTemplateIds)
	tx := c.DB.Read()
	for _, name := range in.LaunchTemplateNames {
		t, err := compute.GetLaunchTemplate(tx, c.Scope(), "", name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, t.ID)
	}
	out, next, err := templateListing.describe(c, ids, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeLaunchTemplatesResult{LaunchTemplates: out, NextToken: next}, err
}

type version = ec2.LaunchTemplateVersion

var versionKind = describe.Kind[version]{Min: 1, Max: 200, Filters: attrs[version]{
	"create-time":        func(v *version) []string { return times(v.CreateTime) },
	"is-default-version": func(v *version) []string { return bools(v.DefaultVersion) },
	"image-id":           field(func(v *version) *string { return v.LaunchTemplateData.ImageId }),
	"instance-type":      field(func(v *version) *string { return v.LaunchTemplateData.InstanceType }),
	"kernel-id":          field(func(v *version) *string { return v.LaunchTemplateData.KernelId }),
	"ram-disk-id":        field(func(v *version) *string { return v.LaunchTemplateData.RamDiskId }),
	"ebs-optimized":      func(v *version) []string { return bools(v.LaunchTemplateData.EbsOptimized) },
	"iam-instance-profile": func(v *version) []string {
		if p := v.LaunchTemplateData.IamInstanceProfile; p != nil {
			return append(texts(p.Arn), texts(p.Name)...)
		}
		return nil
	},
	"http-endpoint": func(v *version) []string {
		if m := v.LaunchTemplateData.MetadataOptions; m != nil {
			return texts(m.HttpEndpoint)
		}
		return nil
	},
	"http-tokens": func(v *version) []string {
		if m := v.LaunchTemplateData.MetadataOptions; m != nil {
			return texts(m.HttpTokens)
		}
		return nil
	},
	"http-protocol-ipv4": none[version](), "host-resource-group-arn": none[version](), "license-configuration-arn": none[version](), "network-card-index": none[version](),
}}

func (s *Server) describeLaunchTemplateVersions(c *api.Call, in *ec2.DescribeLaunchTemplateVersionsRequest) (*ec2.DescribeLaunchTemplateVersionsResult, error) {
	if err := templateID(in.LaunchTemplateId); err != nil {
		return nil, err
	}
	one := api.Val(in.LaunchTemplateId) != "" || api.Val(in.LaunchTemplateName) != ""
	if !one {
		for _, v := range in.Versions {
			if v != "$Latest" && v != "$Default" {
				return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Without a launch template, versions may only be $Latest and $Default.")
			}
		}
		if len(in.Versions) == 0 {
			return nil, fault.New(fault.Invalid, "MissingParameter", "Either a launch template ID or a launch template name must be specified.")
		}
	}
	if len(in.Versions) > 0 && (in.MinVersion != nil || in.MaxVersion != nil) {
		return nil, fault.New(fault.Invalid, "InvalidParameterCombination", "Versions cannot be used with MinVersion or MaxVersion.")
	}
	var out []ec2.LaunchTemplateVersion
	var next string
	err := c.View(func(tx store.Tx) error {
		rows, err := versionRows(tx, c, in, one)
		if err != nil {
			return err
		}
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken}
		key := func(v compute.LaunchTemplateVersion) string { return v.TemplateID + "/" + pad(v.Version) }
		var bad error
		out, next, err = describe.Page(&versionKind, q, rows, key, func(v compute.LaunchTemplateVersion) ec2.LaunchTemplateVersion {
			w, err := describeVersion(tx, v)
			if err != nil {
				bad = err
				w.LaunchTemplateData = &ec2.ResponseLaunchTemplateData{}
			}
			return w
		})
		if err == nil {
			err = bad
		}
		return err
	})
	return &ec2.DescribeLaunchTemplateVersionsResult{LaunchTemplateVersions: out, NextToken: str(next)}, err
}

func pad(n int64) string {
	s := strconv.FormatInt(n, 10)
	return strings.Repeat("0", max(0, 10-len(s))) + s
}

// versionRows is the versions that a request names, of one template or of all.
func versionRows(tx store.Tx, c *api.Call, in *ec2.DescribeLaunchTemplateVersionsRequest, one bool) (iter.Seq[compute.LaunchTemplateVersion], error) {
	var templates []compute.LaunchTemplate
	if one {
		t, err := compute.GetLaunchTemplate(tx, c.Scope(), api.Val(in.LaunchTemplateId), api.Val(in.LaunchTemplateName))
		if err != nil {
			return nil, err
		}
		templates = append(templates, t)
	} else {
		templates = slices.Collect(compute.LaunchTemplates.Prefix(tx, c.Scope().Prefix()))
	}
	var rows []compute.LaunchTemplateVersion
	for _, t := range templates {
		if len(in.Versions) == 0 {
			lo, hi, err := bounds(t, in)
			if err != nil {
				return nil, err
			}
			for _, v := range compute.VersionsOf(tx, t) {
				if v.Version >= lo && v.Version <= hi {
					rows = append(rows, v)
				}
			}
			continue
		}
		seen := map[int64]bool{}
		var found []compute.LaunchTemplateVersion
		for _, name := range in.Versions {
			v, err := compute.ResolveLaunchTemplate(tx, c.Scope(), t.ID, "", name)
			if err != nil {
				return nil, err
			}
			if !seen[v.Version] {
				seen[v.Version] = true
				found = append(found, v)
			}
		}
		slices.SortFunc(found, func(a, b compute.LaunchTemplateVersion) int { return int(a.Version - b.Version) })
		rows = append(rows, found...)
	}
	return slices.Values(rows), nil
}

func bounds(t compute.LaunchTemplate, in *ec2.DescribeLaunchTemplateVersionsRequest) (int64, int64, error) {
	lo, hi := int64(1), t.LatestVersion
	for _, b := range []struct {
		text *string
		dst  *int64
		name string
	}{{in.MinVersion, &lo, "MinVersion"}, {in.MaxVersion, &hi, "MaxVersion"}} {
		if b.text == nil {
			continue
		}
		n, err := strconv.ParseInt(*b.text, 10, 64)
		if err != nil {
			return 0, 0, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be a version number.", *b.text, b.name)
		}
		*b.dst = n
	}
	return lo, hi, nil
}

func (s *Server) modifyLaunchTemplate(c *api.Call, in *ec2.ModifyLaunchTemplateRequest) (*ec2.ModifyLaunchTemplateResult, error) {
	if err := templateID(in.LaunchTemplateId); err != nil {
		return nil, err
	}
	var out ec2.LaunchTemplate
	err := c.Update(func(w *store.WriteTx) error {
		t, err := compute.GetLaunchTemplate(w, c.Scope(), api.Val(in.LaunchTemplateId), api.Val(in.LaunchTemplateName))
		if err != nil {
			return err
		}
		if in.DefaultVersion != nil {
			if t, err = compute.SetDefaultVersion(w, c.Scope(), t.ID, "", *in.DefaultVersion); err != nil {
				return err
			}
		}
		out = describeTemplate(w, t)
		return nil
	})
	return &ec2.ModifyLaunchTemplateResult{LaunchTemplate: &out}, err
}

func (s *Server) deleteLaunchTemplate(c *api.Call, in *ec2.DeleteLaunchTemplateRequest) (*ec2.DeleteLaunchTemplateResult, error) {
	if err := templateID(in.LaunchTemplateId); err != nil {
		return nil, err
	}
	var out ec2.LaunchTemplate
	err := c.Update(func(w *store.WriteTx) error {
		t, err := compute.DeleteLaunchTemplate(w, c.Scope(), api.Val(in.LaunchTemplateId), api.Val(in.LaunchTemplateName))
		out = describeTemplate(w, t)
		return err
	})
	return &ec2.DeleteLaunchTemplateResult{LaunchTemplate: &out}, err
}

func (s *Server) deleteLaunchTemplateVersions(c *api.Call, in *ec2.DeleteLaunchTemplateVersionsRequest) (*ec2.DeleteLaunchTemplateVersionsResult, error) {
	if err := templateID(in.LaunchTemplateId); err != nil {
		return nil, err
	}
	if len(in.Versions) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter LaunchTemplateVersion")
	}
	if len(in.Versions) > 200 {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "A request may name at most 200 versions.")
	}
	out := &ec2.DeleteLaunchTemplateVersionsResult{}
	err := c.Update(func(w *store.WriteTx) error {
		t, err := compute.GetLaunchTemplate(w, c.Scope(), api.Val(in.LaunchTemplateId), api.Val(in.LaunchTemplateName))
		if err != nil {
			return err
		}
		for _, text := range in.Versions {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter LaunchTemplateVersion is invalid. It must be a version number.", text)
			}
			if err := compute.DeleteLaunchTemplateVersion(w, t, n); err != nil {
				f, ok := fault.As(err)
				if !ok {
					return err
				}
				out.UnsuccessfullyDeletedLaunchTemplateVersions = append(out.UnsuccessfullyDeletedLaunchTemplateVersions, ec2.DeleteLaunchTemplateVersionsResponseErrorItem{LaunchTemplateId: ptr(t.ID), LaunchTemplateName: ptr(t.Name),
					VersionNumber: ptr(n), ResponseError: &ec2.ResponseError{Code: ptr(f.Code), Message: ptr(f.Msg)}})
				continue
			}
			out.SuccessfullyDeletedLaunchTemplateVersions = append(out.SuccessfullyDeletedLaunchTemplateVersions, ec2.DeleteLaunchTemplateVersionsResponseSuccessItem{LaunchTemplateId: ptr(t.ID), LaunchTemplateName: ptr(t.Name), VersionNumber: ptr(n)})
		}
		return nil
	})
	return out, err
}

func (s *Server) getLaunchTemplateData(c *api.Call, in *ec2.GetLaunchTemplateDataRequest) (*ec2.GetLaunchTemplateDataResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	tx := c.DB.Read()
	i, err := compute.GetInstance(tx, c.Scope(), id)
	if err != nil {
		return nil, err
	}
	d := &ec2.ResponseLaunchTemplateData{ImageId: ptr(i.ImageID), InstanceType: ptr(i.InstanceType), KeyName: str(i.KeyName), UserData: str(i.UserData), EbsOptimized: ptr(i.EbsOptimized),
		DisableApiTermination: ptr(i.DisableAPITermination), DisableApiStop: ptr(i.DisableAPIStop), InstanceInitiatedShutdownBehavior: ptr(i.ShutdownBehavior),
		Monitoring: &ec2.LaunchTemplatesMonitoring{Enabled: ptr(i.Monitoring)}, Placement: &ec2.LaunchTemplatePlacement{AvailabilityZone: ptr(i.AvailabilityZone), Tenancy: ptr(i.Tenancy)},
		MetadataOptions:   &ec2.LaunchTemplateInstanceMetadataOptions{HttpTokens: ptr(i.MetadataOptions.HttpTokens), HttpEndpoint: ptr(i.MetadataOptions.HttpEndpoint), HttpPutResponseHopLimit: num(i.MetadataOptions.HttpPutResponseHopLimit)},
		NetworkInterfaces: []ec2.LaunchTemplateInstanceNetworkInterfaceSpecification{{DeviceIndex: num(0), SubnetId: str(i.SubnetID), Groups: i.SecurityGroupIDs, DeleteOnTermination: ptr(true)}}}
	if i.IamInstanceProfileArn != "" {
		d.IamInstanceProfile = &ec2.LaunchTemplateIamInstanceProfileSpecification{Arn: ptr(i.IamInstanceProfileArn)}
	}
	if tags := tagsOf(tx, c.Scope(), id); len(tags) > 0 {
		keep := slices.DeleteFunc(tags, func(t ec2.Tag) bool { return strings.HasPrefix(api.Val(t.Key), "aws:") })
		if len(keep) > 0 {
			d.TagSpecifications = []ec2.LaunchTemplateTagSpecification{{ResourceType: ptr("instance"), Tags: keep}}
		}
	}
	return &ec2.GetLaunchTemplateDataResult{LaunchTemplateData: d}, nil
}
