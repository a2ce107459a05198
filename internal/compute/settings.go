package compute

import (
	"maps"
	"slices"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Settings are a region's defaults for launches. Empty members mean no preference.
type Settings struct {
	scope.Scope
	Metadata MetadataSpec
	Credits  map[string]string // mode by family of burstable types
}

// settings is the table of Settings, one row a region in use.
var settings = store.NewTable("compute-settings", func(s Settings) string { return s.Key("settings") })

// GetSettings reads a region's defaults.
func GetSettings(tx store.Tx, s scope.Scope) Settings {
	v, _ := settings.Get(tx, s.Key("settings"))
	v.Scope = s
	return v
}

// SetMetadataDefaults changes the region's metadata defaults; "no-preference" and a hop limit of -1 clear one.
func SetMetadataDefaults(w *store.WriteTx, s scope.Scope, in MetadataSpec) error {
	v := GetSettings(w, s)
	set := func(dst *string, value string) {
		if value == "no-preference" {
			*dst = ""
		} else if value != "" {
			*dst = value
		}
	}
	check := in
	for _, p := range []*string{&check.HttpTokens, &check.HttpEndpoint, &check.InstanceMetadataTags} {
		if *p == "no-preference" {
			*p = ""
		}
	}
	if in.HttpPutResponseHopLimit != nil && *in.HttpPutResponseHopLimit == -1 {
		check.HttpPutResponseHopLimit, v.Metadata.HttpPutResponseHopLimit = nil, nil
	} else if in.HttpPutResponseHopLimit != nil {
		v.Metadata.HttpPutResponseHopLimit = in.HttpPutResponseHopLimit
	}
	if _, err := MergeMetadata(MetadataOptions{}, &check); err != nil {
		return err
	}
	set(&v.Metadata.HttpTokens, in.HttpTokens)
	set(&v.Metadata.HttpEndpoint, in.HttpEndpoint)
	set(&v.Metadata.InstanceMetadataTags, in.InstanceMetadataTags)
	settings.Put(w, v)
	return nil
}

// DefaultCredits is the credit mode that new instances of a burstable family get.
func DefaultCredits(tx store.Tx, s scope.Scope, family string) (string, error) {
	for _, t := range Types {
		if t.Family == family && t.Burstable {
			if m := GetSettings(tx, s).Credits[family]; m != "" {
				return m, nil
			}
			return t.DefaultCredit, nil
		}
	}
	return "", fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value '%s' for InstanceFamily.", family)
}

// SetDefaultCredits changes it.
func SetDefaultCredits(w *store.WriteTx, s scope.Scope, family, mode string) error {
	if _, err := DefaultCredits(w, s, family); err != nil {
		return err
	}
	if !slices.Contains([]string{"standard", "unlimited"}, mode) {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter cpuCredits is invalid. Valid values are: standard, unlimited.", mode)
	}
	v := GetSettings(w, s)
	v.Credits = maps.Clone(v.Credits)
	if v.Credits == nil {
		v.Credits = map[string]string{}
	}
	v.Credits[family] = mode
	settings.Put(w, v)
	return nil
}
