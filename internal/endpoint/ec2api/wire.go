package ec2api

import (
	"regexp"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// str is the optional text: empty is absent.
func str(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func ptr[T any](v T) *T { return &v }

func num(n int) *int32 { return ptr(int32(n)) }

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// texts is the value of a filter on one optional text.
func texts(p *string) []string {
	if p == nil {
		return nil
	}
	return []string{*p}
}

func bools(p *bool) []string { return describe.Bool(api.Val(p)) }

func times(p *time.Time) []string {
	if p == nil {
		return nil
	}
	return []string{p.UTC().Format("2006-01-02T15:04:05.000Z")}
}

// tagsOf gives a resource's tags for the wire; nil without any.
func tagsOf(tx store.Tx, s scope.Scope, id string) []ec2.Tag {
	var out []ec2.Tag
	for _, t := range tag.Of(tx, s, id) {
		out = append(out, ec2.Tag{Key: ptr(t.Key), Value: ptr(t.Value)})
	}
	return out
}

// eachTag adapts a described form's tags to describe.
func eachTag[T any](get func(*T) []ec2.Tag) func(*T, func(k, v string) bool) {
	return func(v *T, yield func(k, v string) bool) {
		for _, t := range get(v) {
			if !yield(api.Val(t.Key), api.Val(t.Value)) {
				return
			}
		}
	}
}

// tagSpec checks a create's TagSpecifications, which may name one type of resource, and returns its tags.
func tagSpec(specs []ec2.TagSpecification, resourceType string) (map[string]string, error) {
	m := map[string]string{}
	for n, t := range specs {
		rt := api.Val(t.ResourceType)
		if rt == "" {
			return nil, fault.New(fault.Invalid, "MissingParameter", "Tag specification resource type must have a value")
		}
		if rt != resourceType {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", rt)
		}
		if n > 0 {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Duplicate resource type '%s' in tag specifications", rt)
		}
		if len(t.Tags) == 0 {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Tag specification must have at least one tag")
		}
		for _, p := range t.Tags {
			if _, dup := m[api.Val(p.Key)]; dup {
				return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Duplicate tag key '%s' specified.", api.Val(p.Key))
			}
			m[api.Val(p.Key)] = api.Val(p.Value)
		}
	}
	return m, tag.Check(m)
}

// tagged writes a create's tags.
func tagged(w *store.WriteTx, s scope.Scope, id, resourceType string, specs []ec2.TagSpecification) error {
	m, err := tagSpec(specs, resourceType)
	if err != nil {
		return err
	}
	return tag.Set(w, s, id, m)
}

func filters(in []ec2.Filter) []describe.Filter {
	out := make([]describe.Filter, len(in))
	for i, f := range in {
		out[i] = describe.Filter{Name: api.Val(f.Name), Values: f.Values}
	}
	return out
}

// idKind is how a kind of id looks, and what is said about a wrong one.
type idKind struct {
	prefix    string
	malformed string // code
	notFound  string // code
	text      string // message of one that is missing, with one %s
}

var (
	instanceIDs = idKind{"i", "InvalidInstanceID.Malformed", "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist"}
	imageIDs    = idKind{"ami", "InvalidAMIID.Malformed", "InvalidAMIID.NotFound", "The image id '[%s]' does not exist"}
	vpcIDs      = idKind{"vpc", "InvalidVpcID.Malformed", "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist"}
	subnetIDs   = idKind{"subnet", "InvalidSubnetId.Malformed", "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist"}
	groupIDs    = idKind{"sg", "InvalidGroupId.Malformed", "InvalidGroup.NotFound", "The security group '%s' does not exist"}
	ruleIDs     = idKind{"sgr", "InvalidSecurityGroupRuleId.Malformed", "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist"}
	tableIDs    = idKind{"rtb", "InvalidRouteTableId.Malformed", "InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist"}
	gatewayIDs  = idKind{"igw", "InvalidInternetGatewayId.Malformed", "InvalidInternetGatewayID.NotFound", "The internetGateway ID '%s' does not exist"}
	eniIDs      = idKind{"eni", "InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist"}
	addressIDs  = idKind{"eipalloc", "InvalidAllocationID.Malformed", "InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist"}
	aclIDs      = idKind{"acl", "InvalidNetworkAclId.Malformed", "InvalidNetworkAclID.NotFound", "The networkAcl ID '%s' does not exist"}
	dhcpIDs     = idKind{"dopt", "InvalidDhcpOptionsId.Malformed", "InvalidDhcpOptionID.NotFound", "The dhcpOption ID '%s' does not exist"}
	volumeIDs   = idKind{"vol", "InvalidParameterValue", "InvalidVolume.NotFound", "The volume '%s' does not exist."}
	keyIDs      = idKind{"key", "InvalidParameterValue", "InvalidKeyPair.NotFound", "The key pair ID '%s' does not exist"}
	templateIDs = idKind{"lt", "InvalidLaunchTemplateId.Malformed", "InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist."}
	assocIDs    = idKind{"iip-assoc", "InvalidAssociationID.Malformed", "InvalidAssociationID.NotFound", "An invalid association-id of '%s' was given"}
)

var hexID = regexp.MustCompile(`^([0-9a-f]{8}|[0-9a-f]{17})$`)

// check refuses ids that no resource of the kind can have.
func (k idKind) check(ids ...string) error {
	for _, id := range ids {
		rest, ok := strings.CutPrefix(id, k.prefix+"-")
		if !ok || !hexID.MatchString(rest) {
			return fault.New(fault.Invalid, k.malformed, "Invalid id: \"%s\" (expecting \"%s-...\")", id, k.prefix)
		}
	}
	return nil
}

func (k idKind) missing(ids []string) error {
	text := k.text
	if len(ids) > 1 {
		text = strings.NewReplacer(" ID '", " IDs '", "id '", "ids '", " does not", " do not").Replace(text)
	}
	return fault.New(fault.NotFound, k.notFound, text, strings.Join(ids, ", "))
}

// need refuses an absent parameter.
func need(name string, v *string) (string, error) {
	if v == nil || *v == "" {
		return "", fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter %s", name)
	}
	return *v, nil
}

// needID refuses an absent or malformed id.
func (k idKind) need(name string, v *string) (string, error) {
	id, err := need(name, v)
	if err != nil {
		return "", err
	}
	return id, k.check(id)
}

// unsupported refuses parameters by name: pairs of a name and whether it was given.
func unsupported(pairs ...any) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1].(bool) {
			return fault.New(fault.Unsupported, "UnsupportedOperation", "The parameter %s is not supported.", pairs[i])
		}
	}
	return nil
}
