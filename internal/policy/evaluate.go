package policy

import "strings"

// Request is a question to policies.
type Request struct {
	Action    string // service:Action
	Resource  string // an ARN, or "*" for an action that has no resource
	Principal Principal
	// Keys are the values of condition keys, by the key in lower case.
	Keys map[string][]string
}

// Principal is who asks, for trust policies.
type Principal struct {
	Account string
	ARNs    []string // of the user or session, and of the role behind it
	IDs     []string // unique ids
	Service string   // a service that acts for itself, as ec2.amazonaws.com
}

// Decision is the answer of a set of documents.
type Decision int

// The decisions.
const (
	Implicit  Decision = iota // no statement allows it
	Allowed                   // a statement allows it
	Delegated                 // trust only: the principal's account is allowed, so its own policies must allow it too
	Denied                    // a statement denies it
)

// String returns IAM's word for the decision.
func (d Decision) String() string {
	switch d {
	case Allowed:
		return "allowed"
	case Delegated:
		return "delegated"
	case Denied:
		return "explicitDeny"
	}
	return "implicitDeny"
}

// Evaluate applies the documents to the request.
func Evaluate(docs []*Document, r Request) Decision {
	d := Implicit
	for _, doc := range docs {
		if doc == nil {
			continue
		}
		for i := range doc.Statements {
			s := &doc.Statements[i]
			how := s.applies(doc.Version == current, r)
			switch {
			case how == Implicit:
			case s.Effect == Deny:
				return Denied
			case d != Allowed:
				d = how
			}
		}
	}
	return d
}

// Policies are what applies to a principal: its identity policies, and what limits them. nil Boundary or Session is no
// limit; an empty one allows nothing.
type Policies struct {
	Identity, Boundary, Session []*Document
	Bounded, Sessioned          bool
}

// Reasons of a refusal.
const (
	ByIdentity = "an identity-based policy"
	ByBoundary = "a permissions boundary"
	BySession  = "a session policy"
)

// Decide combines the policies. The second result names the policies that refuse.
func Decide(p Policies, r Request) (Decision, string) {
	id := Evaluate(p.Identity, r)
	bd, sn := Allowed, Allowed
	if p.Bounded {
		bd = Evaluate(p.Boundary, r)
	}
	if p.Sessioned {
		sn = Evaluate(p.Session, r)
	}
	switch {
	case id == Denied:
		return Denied, ByIdentity
	case bd == Denied:
		return Denied, ByBoundary
	case sn == Denied:
		return Denied, BySession
	case id != Allowed:
		return Implicit, ByIdentity
	case bd != Allowed:
		return Implicit, ByBoundary
	case sn != Allowed:
		return Implicit, BySession
	}
	return Allowed, ""
}

// applies tells whether the statement speaks about the request: Allowed or Delegated if it does.
func (s *Statement) applies(vars bool, r Request) Decision {
	how := Allowed
	if s.Principals != nil || s.NotPrincipals != nil {
		if s.Principals != nil {
			how = matchPrincipal(s.Principals, r.Principal)
		} else if matchPrincipal(s.NotPrincipals, r.Principal) != Implicit {
			how = Implicit
		}
		if how == Implicit {
			return Implicit
		}
	}
	if !s.matchAction(r.Action) || !s.matchResource(vars, r) {
		return Implicit
	}
	for _, c := range s.Conditions {
		met, known := c.met(vars, r.Keys)
		if !known {
			met = s.Effect == Deny
		}
		if !met {
			return Implicit
		}
	}
	return how
}

func (s *Statement) matchAction(action string) bool {
	action = strings.ToLower(action)
	any := func(l []string) bool {
		for _, a := range l {
			if Glob(strings.ToLower(a), action) {
				return true
			}
		}
		return false
	}
	if s.NotActions != nil {
		return !any(s.NotActions)
	}
	return any(s.Actions)
}

func (s *Statement) matchResource(vars bool, r Request) bool {
	if s.Resources == nil && s.NotResources == nil { // a trust policy: the role itself
		return true
	}
	any := func(l []string) bool {
		for _, a := range l {
			if p, ok := expand(a, vars, r.value); ok && glob(p, r.Resource) {
				return true
			}
		}
		return false
	}
	if s.NotResources != nil {
		return !any(s.NotResources)
	}
	return any(s.Resources)
}

func (r Request) value(key string) []string { return r.Keys[strings.ToLower(key)] }

func matchPrincipal(m map[string][]string, p Principal) Decision {
	how := Implicit
	for kind, values := range m {
		for _, v := range values {
			switch kind {
			case "*":
				return Allowed
			case "Service":
				if p.Service != "" && v == p.Service {
					return Allowed
				}
			case "AWS":
				if p.Service != "" {
					continue
				}
				if v == "*" {
					return Allowed
				}
				if v == p.Account || (strings.HasSuffix(v, ":root") && strings.Contains(v, "::"+p.Account+":")) {
					how = Delegated
				}
				for _, own := range append(append([]string{}, p.ARNs...), p.IDs...) {
					if v == own && !strings.HasSuffix(v, ":root") {
						return Allowed
					}
				}
			}
		}
	}
	return how
}
