package identity

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/policy"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Query is a question about a principal.
type Query struct {
	Action, Resource string
	// Context are values of condition keys that the caller knows, as aws:SourceIp.
	Context map[string][]string
}

// Authorize tells whether the principal may do the action ("ec2:RunInstances") to the resource (an ARN, or "*"). The
// fault is Denied, with the code and text of the action's service.
func Authorize(tx store.Tx, p Principal, action, resource string) error {
	return AuthorizeQuery(tx, p, Query{Action: action, Resource: resource})
}

// free are actions that need no permission.
var free = map[string]bool{"sts:getcalleridentity": true, "sts:getsessiontoken": true}

// AuthorizeQuery is Authorize with more to ask.
func AuthorizeQuery(tx store.Tx, p Principal, q Query) error { return NewJudge(tx, p).Ask(q) }

// Judge answers many questions about one principal in one transaction. Owned by its caller.
type Judge struct {
	tx       store.Tx
	p        Principal
	policies policy.Policies
	keys     map[string][]string
	known    bool
}

// NewJudge reads the principal's policies.
func NewJudge(tx store.Tx, p Principal) *Judge {
	j := &Judge{tx: tx, p: p}
	if !p.IsRoot() {
		j.policies, j.keys, j.known = gather(tx, p)
	}
	return j
}

// Ask is AuthorizeQuery.
func (j *Judge) Ask(q Query) error {
	if j.p.IsRoot() || free[strings.ToLower(q.Action)] {
		return nil
	}
	if q.Resource == "" {
		q.Resource = "*"
	}
	if !j.known {
		return denied(j.p, q, policy.Implicit, policy.ByIdentity)
	}
	keys := maps.Clone(j.keys)
	for k, v := range resourceKeys(j.tx, q.Resource) {
		keys[k] = v
	}
	for k, v := range q.Context {
		keys[strings.ToLower(k)] = v
	}
	d, by := policy.Decide(j.policies, policy.Request{Action: q.Action, Resource: q.Resource, Keys: keys})
	if d == policy.Allowed {
		return nil
	}
	if d == policy.Implicit && strings.EqualFold(q.Action, "sts:AssumeRole") {
		return nil // the role's trust policy may suffice: AssumeRole asks both
	}
	return denied(j.p, q, d, by)
}

func denied(p Principal, q Query, d policy.Decision, by string) error {
	how := "because no " + strings.TrimPrefix(strings.TrimPrefix(by, "an "), "a ") + " allows the " + q.Action + " action"
	if d == policy.Denied {
		how = "with an explicit deny in " + by
	}
	text := "User: " + p.ARN + " is not authorized to perform: " + q.Action + " on resource: " + q.Resource + " " + how
	service, _, _ := strings.Cut(q.Action, ":")
	switch service {
	case "ec2":
		return fault.New(fault.Denied, "UnauthorizedOperation", "You are not authorized to perform this operation. %s", text)
	case "acm":
		return fault.New(fault.Denied, "AccessDeniedException", "%s", text)
	}
	return fault.New(fault.Denied, "AccessDenied", "%s", text)
}

// PoliciesOf finds the policies of a user, group or role by its ARN, and what is known of it for conditions: for
// simulation.
func PoliciesOf(tx store.Tx, account, arn string) (policy.Policies, map[string][]string, error) {
	kind, path, _ := strings.Cut(strings.TrimPrefix(arn, RootARN(account)[:len(RootARN(account))-len("root")]), "/")
	name := path[strings.LastIndex(path, "/")+1:]
	switch kind {
	case "user":
		u, err := GetUser(tx, account, name)
		if err != nil || u.ARN() != arn {
			return policy.Policies{}, nil, noEntity("The user with name %s cannot be found.", name)
		}
		ps, keys, _ := gather(tx, Principal{ARN: arn, UserID: u.ID, Account: account})
		return ps, keys, nil
	case "group":
		g, err := GetGroup(tx, account, name)
		if err != nil || g.ARN() != arn {
			return policy.Policies{}, nil, noEntity("The group with name %s cannot be found.", name)
		}
		return policy.Policies{Identity: documents(tx, account, g.Grants)}, map[string][]string{}, nil
	case "role":
		r, err := GetRole(tx, account, name)
		if err != nil || r.ARN() != arn {
			return policy.Policies{}, nil, noEntity("The role with name %s cannot be found.", name)
		}
		ps, keys, _ := gather(tx, Principal{ARN: sessionARN(account, r.Name, "simulation"), UserID: r.ID + ":simulation", Account: account})
		return ps, keys, nil
	}
	return policy.Policies{}, nil, fault.New(fault.Invalid, "InvalidInput", "Invalid Entity Arn: %s does not clearly define entity type and name.", arn)
}

// gather finds the policies that apply to the principal and what is known of it for conditions.
func gather(tx store.Tx, p Principal) (policy.Policies, map[string][]string, bool) {
	now := tx.Now().UTC()
	keys := map[string][]string{
		"aws:currenttime":      {now.Format(time.RFC3339)},
		"aws:epochtime":        {strconv.FormatInt(now.Unix(), 10)},
		"aws:principalarn":     {p.ARN},
		"aws:principalaccount": {p.Account},
		"aws:userid":           {p.UserID},
		"aws:securetransport":  {"false"},
		"aws:viaawsservice":    {"false"},
	}
	var ps policy.Policies
	kind, rest, _ := strings.Cut(p.ARN[strings.LastIndex(p.ARN, ":")+1:], "/")
	var boundary string
	switch kind {
	case "user":
		u, ok := Users.Get(tx, key(p.Account, rest[strings.LastIndex(rest, "/")+1:]))
		if !ok || u.ID != p.UserID {
			return ps, nil, false
		}
		keys["aws:username"], keys["aws:principaltype"] = []string{u.Name}, []string{"User"}
		principalTags(keys, u.Tags)
		boundary = u.Boundary
		ps.Identity = documents(tx, p.Account, u.Grants)
		if s, ok := Sessions.Get(tx, p.AccessKeyID); ok {
			sessionKeys(keys, s)
		}
		for _, g := range u.Groups {
			if g, ok := Groups.Get(tx, key(p.Account, g)); ok {
				ps.Identity = append(ps.Identity, documents(tx, p.Account, g.Grants)...)
			}
		}
	case "assumed-role":
		name, _, _ := strings.Cut(rest, "/")
		r, ok := Roles.Get(tx, key(p.Account, name))
		if id, _, _ := strings.Cut(p.UserID, ":"); !ok || r.ID != id {
			return ps, nil, false
		}
		keys["aws:principaltype"], keys["aws:principalarn"] = []string{"AssumedRole"}, []string{r.ARN()}
		principalTags(keys, r.Tags)
		boundary = r.Boundary
		ps.Identity = documents(tx, p.Account, r.Grants)
		// Without a key the principal does not say which of its live sessions of the same name it is: the limits of all hold.
		found := p.AccessKeyID == ""
		for s := range Sessions.By(tx, "arn", p.ARN) {
			if !tx.Now().Before(s.ExpiresAt) || p.AccessKeyID != "" && s.ID != p.AccessKeyID {
				continue
			}
			found = true
			principalTags(keys, s.Tags)
			sessionKeys(keys, s)
			if len(s.Policies)+len(s.PolicyARNs) == 0 {
				continue
			}
			docs := documents(tx, p.Account, Grants{Attached: s.PolicyARNs})
			for _, d := range s.Policies {
				docs = append(docs, parse(d))
			}
			if ps.Sessioned && !same(ps.Session, docs) {
				docs = nil
			}
			ps.Sessioned, ps.Session = true, docs
		}
		if !found {
			return ps, nil, false
		}
	default:
		return ps, nil, false
	}
	if boundary != "" {
		ps.Bounded = true
		if _, v, err := PolicyDocument(tx, p.Account, boundary); err == nil {
			ps.Boundary = []*policy.Document{parse(v.Document)}
		}
	}
	return ps, keys, true
}

// sessionKeys are what conditions may ask about temporary credentials.
func sessionKeys(keys map[string][]string, s Session) {
	keys["aws:tokenissuetime"] = []string{s.CreatedAt.UTC().Format(time.RFC3339)}
	keys["aws:multifactorauthpresent"] = []string{"false"}
	if f := strings.Split(s.Instance, "/"); len(f) == 3 {
		keys["ec2:sourceinstancearn"] = []string{scope.Scope{Account: f[0], Region: f[1]}.ARN("ec2", "instance/"+f[2])}
		keys["ec2:roledelivery"] = []string{"2.0"}
	}
}

func principalTags(keys map[string][]string, tags map[string]string) {
	for k, v := range tags {
		keys["aws:principaltag/"+strings.ToLower(k)] = []string{v}
	}
}

// documents reads the policies of a grant. One that cannot be read allows nothing.
func documents(tx store.Tx, account string, g Grants) []*policy.Document {
	var out []*policy.Document
	for _, n := range g.InlineNames() {
		out = append(out, parse(g.Inline[n]))
	}
	for _, arn := range g.Attached {
		if _, v, err := PolicyDocument(tx, account, arn); err == nil {
			out = append(out, parse(v.Document))
		}
	}
	return out
}

// parse reads a stored document, which was checked when it was stored.
func parse(text string) *policy.Document {
	d, err := policy.Parse(text, policy.Identity)
	if err != nil {
		return &policy.Document{}
	}
	return d
}

// resourceKeys are what conditions may ask about a resource: its region, account and, for EC2's, its tags.
func resourceKeys(tx store.Tx, arn string) map[string][]string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[0] != "arn" {
		return nil
	}
	keys := map[string][]string{}
	if f[4] != "" {
		keys["aws:resourceaccount"] = []string{f[4]}
	}
	if f[3] != "" {
		keys["aws:requestedregion"] = []string{f[3]}
	}
	if f[2] != "ec2" {
		return keys
	}
	keys["ec2:region"] = []string{f[3]}
	for k, v := range tag.Map(tx, scope.Scope{Account: f[4], Region: f[3]}, f[5][strings.LastIndex(f[5], "/")+1:]) {
		keys["aws:resourcetag/"+strings.ToLower(k)] = []string{v}
		keys["ec2:resourcetag/"+strings.ToLower(k)] = []string{v}
	}
	return keys
}
