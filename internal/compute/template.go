package compute

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Quotas of launch templates.
const (
	MaxLaunchTemplates = 5000
	MaxVersions        = 10000
)

// LaunchTemplate is a template; what it launches is in its versions.
type LaunchTemplate struct {
	scope.Scope
	ID, Name, CreatedBy           string
	CreatedAt                     time.Time
	DefaultVersion, LatestVersion int64
	ClientToken                   string
}

// LaunchTemplateVersion is one version; it never changes. Document is the request's data, Spec what of it has an effect.
type LaunchTemplateVersion struct {
	scope.Scope
	TemplateID, TemplateName string
	Version                  int64
	Description, CreatedBy   string
	CreatedAt                time.Time
	Document                 json.RawMessage
	Spec                     LaunchSpec `json:"-"` // filled by the functions that read versions
}

// The tables of launch templates. A version's key is its template's with the number behind, so a template's versions are
// one prefix, in order.
var (
	LaunchTemplates = store.NewTable("launch-template", func(t LaunchTemplate) string { return t.Key(t.ID) },
		store.Index[LaunchTemplate]{Name: "name", Keys: func(t LaunchTemplate) []string { return []string{t.Key(t.Name)} }})
	LaunchTemplateVersions = store.NewTable("launch-template-version", func(v LaunchTemplateVersion) string { return versionKey(v.Scope, v.TemplateID, v.Version) })
)

func versionKey(s scope.Scope, id string, n int64) string {
	return fmt.Sprintf("%s/%010d", s.Key(id), n)
}

var templateName = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)

// CreateLaunchTemplate makes a template with version 1.
func CreateLaunchTemplate(w *store.WriteTx, s scope.Scope, name, description, clientToken, createdBy string, document []byte) (LaunchTemplate, error) {
	if !templateName.MatchString(name) {
		return LaunchTemplate{}, fault.New(fault.Invalid, "InvalidLaunchTemplateName.MalformedException", "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the following characters: ( ) . / _ -")
	}
	for t := range LaunchTemplates.By(w, "name", s.Key(name)) {
		if v, err := ResolveLaunchTemplate(w, s, t.ID, "", "1"); err == nil && clientToken != "" && t.ClientToken == clientToken && string(v.Document) == string(document) {
			return t, nil
		}
		return LaunchTemplate{}, fault.New(fault.Exists, "InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
	}
	n := 0
	for range LaunchTemplates.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxLaunchTemplates {
		return LaunchTemplate{}, fault.New(fault.Limit, "LaunchTemplateLimitExceeded", "The maximum number of launch templates has been reached.")
	}
	t := LaunchTemplate{Scope: s, ID: w.NewID("lt"), Name: name, CreatedBy: createdBy, CreatedAt: w.Now(), DefaultVersion: 1, ClientToken: clientToken}
	t, _, err := addVersion(w, t, description, createdBy, document)
	return t, err
}

func addVersion(w *store.WriteTx, t LaunchTemplate, description, createdBy string, document []byte) (LaunchTemplate, LaunchTemplateVersion, error) {
	if t.LatestVersion >= MaxVersions {
		return t, LaunchTemplateVersion{}, fault.New(fault.Limit, "VersionLimitExceeded", "The maximum number of versions of launch template %s has been reached.", t.ID)
	}
	if len(description) > 255 {
		return t, LaunchTemplateVersion{}, fault.New(fault.Invalid, "InvalidParameterValue", "The version description must be at most 255 characters.")
	}
	spec, err := ParseSpec(document)
	if err != nil {
		return t, LaunchTemplateVersion{}, err
	}
	if err := CheckUserData(spec.UserData); err != nil {
		return t, LaunchTemplateVersion{}, err
	}
	t.LatestVersion++
	v := LaunchTemplateVersion{Scope: t.Scope, TemplateID: t.ID, TemplateName: t.Name, Version: t.LatestVersion, Description: description, CreatedBy: createdBy, CreatedAt: w.Now(), Document: document, Spec: spec}
	LaunchTemplates.Put(w, t)
	LaunchTemplateVersions.Put(w, v)
	return t, v, nil
}

// CreateLaunchTemplateVersion adds a version: document alone, or over that of the source version if one is named.
func CreateLaunchTemplateVersion(w *store.WriteTx, s scope.Scope, id, name, source, description, createdBy string, document []byte) (LaunchTemplateVersion, error) {
	t, err := GetLaunchTemplate(w, s, id, name)
	if err != nil {
		return LaunchTemplateVersion{}, err
	}
	if source != "" {
		src, err := ResolveLaunchTemplate(w, s, t.ID, "", source)
		if err != nil {
			return LaunchTemplateVersion{}, err
		}
		if document, err = OverlayDocument(src.Document, document); err != nil {
			return LaunchTemplateVersion{}, err
		}
	}
	_, v, err := addVersion(w, t, description, createdBy, document)
	return v, err
}

// GetLaunchTemplate finds a template by exactly one of id and name.
func GetLaunchTemplate(tx store.Tx, s scope.Scope, id, name string) (LaunchTemplate, error) {
	switch {
	case id != "" && name != "":
		return LaunchTemplate{}, fault.New(fault.Invalid, "InvalidParameterCombination", "The request may contain either a launch template ID or a launch template name, not both.")
	case id != "":
		if t, ok := LaunchTemplates.Get(tx, s.Key(id)); ok {
			return t, nil
		}
		return LaunchTemplate{}, fault.New(fault.NotFound, "InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
	case name != "":
		for t := range LaunchTemplates.By(tx, "name", s.Key(name)) {
			return t, nil
		}
		return LaunchTemplate{}, fault.New(fault.NotFound, "InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", name)
	}
	return LaunchTemplate{}, fault.New(fault.Invalid, "MissingParameter", "Either a launch template ID or a launch template name must be specified.")
}

// ResolveLaunchTemplate finds a version: a number, $Latest, $Default, or "" for the default one.
func ResolveLaunchTemplate(tx store.Tx, s scope.Scope, id, name, version string) (LaunchTemplateVersion, error) {
	t, err := GetLaunchTemplate(tx, s, id, name)
	if err != nil {
		return LaunchTemplateVersion{}, err
	}
	n := int64(0)
	switch version {
	case "", "$Default":
		n = t.DefaultVersion
	case "$Latest":
		n = t.LatestVersion
	default:
		if n, err = strconv.ParseInt(version, 10, 64); err != nil || n < 1 {
			return LaunchTemplateVersion{}, fault.New(fault.Invalid, "InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", version, t.ID)
		}
	}
	v, ok := LaunchTemplateVersions.Get(tx, versionKey(s, t.ID, n))
	if !ok {
		return LaunchTemplateVersion{}, fault.New(fault.NotFound, "InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", strconv.FormatInt(n, 10), t.ID)
	}
	v.Spec, err = ParseSpec(v.Document)
	return v, err
}

// VersionsOf lists a template's versions, oldest first.
func VersionsOf(tx store.Tx, t LaunchTemplate) []LaunchTemplateVersion {
	var out []LaunchTemplateVersion
	for v := range LaunchTemplateVersions.Prefix(tx, t.Key(t.ID)+"/") {
		v.Spec, _ = ParseSpec(v.Document)
		out = append(out, v)
	}
	return out
}

// SetDefaultVersion makes a version the default one.
func SetDefaultVersion(w *store.WriteTx, s scope.Scope, id, name, version string) (LaunchTemplate, error) {
	t, err := GetLaunchTemplate(w, s, id, name)
	if err != nil {
		return LaunchTemplate{}, err
	}
	v, err := ResolveLaunchTemplate(w, s, t.ID, "", version)
	if err != nil {
		return LaunchTemplate{}, err
	}
	t.DefaultVersion = v.Version
	LaunchTemplates.Put(w, t)
	return t, nil
}

// DeleteLaunchTemplate deletes a template with all its versions.
func DeleteLaunchTemplate(w *store.WriteTx, s scope.Scope, id, name string) (LaunchTemplate, error) {
	t, err := GetLaunchTemplate(w, s, id, name)
	if err != nil {
		return LaunchTemplate{}, err
	}
	for v := range LaunchTemplateVersions.Prefix(w, s.Key(t.ID)+"/") {
		LaunchTemplateVersions.Delete(w, versionKey(s, t.ID, v.Version))
	}
	LaunchTemplates.Delete(w, s.Key(t.ID))
	tag.DeleteAll(w, s, t.ID)
	return t, nil
}

// DeleteLaunchTemplateVersion deletes one version that is not the default one. $Latest goes on with the highest that is left.
func DeleteLaunchTemplateVersion(w *store.WriteTx, t LaunchTemplate, n int64) error {
	t, ok := LaunchTemplates.Get(w, t.Key(t.ID))
	if !ok {
		return fault.New(fault.NotFound, "InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", t.ID)
	}
	if n == t.DefaultVersion {
		return fault.New(fault.State, "unexpectedError", "The default version %d of launch template %s cannot be deleted.", n, t.ID)
	}
	if !LaunchTemplateVersions.Delete(w, versionKey(t.Scope, t.ID, n)) {
		return fault.New(fault.NotFound, "launchTemplateVersionDoesNotExist", "Could not find the specified version %d for the launch template with ID %s.", n, t.ID)
	}
	return nil
}

// LaunchOverrides is what a group adds to its template.
type LaunchOverrides struct {
	SubnetID     string
	Tags         map[string]string // on the instances; aws: tags are allowed
	ASGName      string
	Count        int // as many as this
	MinCount     int // and not fewer; 0 = Count
	InstanceType string
	TargetZone   string // without SubnetID: the default subnet of this zone
	ClientToken  string
	Market       *MarketSpec // in place of the template's
}

// LaunchFromTemplate launches what a version says, with the overrides in it.
func LaunchFromTemplate(w *store.WriteTx, s scope.Scope, v LaunchTemplateVersion, o LaunchOverrides) (*Reservation, error) {
	p, err := fromTemplate(s, v, o)
	if err != nil {
		return nil, err
	}
	return Launch(w, p)
}

// CheckTemplate tells why LaunchFromTemplate would fail, but for a want of capacity or addresses and for quotas, which may pass. It changes nothing.
func CheckTemplate(w *store.WriteTx, s scope.Scope, v LaunchTemplateVersion, o LaunchOverrides) error {
	p, err := fromTemplate(s, v, o)
	if err != nil {
		return err
	}
	if _, err = prepare(w, p); fault.Is(err, fault.Capacity) || fault.Is(err, fault.Limit) {
		return nil
	}
	return err
}

func fromTemplate(s scope.Scope, v LaunchTemplateVersion, o LaunchOverrides) (LaunchParams, error) {
	spec, err := ParseSpec(v.Document)
	if err != nil {
		return LaunchParams{}, err
	}
	if o.InstanceType != "" {
		spec.InstanceType, spec.InstanceRequirements = o.InstanceType, nil
	}
	if o.Market != nil {
		spec.InstanceMarketOptions = o.Market
	}
	if o.SubnetID != "" {
		if len(spec.NetworkInterfaces) > 0 {
			spec.NetworkInterfaces[0].SubnetID = o.SubnetID
		} else {
			spec.SubnetID = o.SubnetID
		}
		spec.Placement = withZone(spec.Placement, "")
	} else if o.TargetZone != "" {
		spec.Placement = withZone(spec.Placement, o.TargetZone)
	}
	if o.MinCount == 0 {
		o.MinCount = o.Count
	}
	return LaunchParams{Scope: s, Spec: spec, From: &v, MinCount: o.MinCount, MaxCount: o.Count, ClientToken: o.ClientToken,
		ASGName: o.ASGName, RequesterID: "autoscaling.amazonaws.com", SystemTags: o.Tags}, nil
}

func withZone(p *PlacementSpec, zone string) *PlacementSpec {
	var out PlacementSpec
	if p != nil {
		out = *p
	}
	out.AvailabilityZone, out.AvailabilityZoneID = zone, ""
	return &out
}
