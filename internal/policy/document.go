package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"skerry/internal/fault"
)

// Effects of a statement.
const (
	Allow = "Allow"
	Deny  = "Deny"
)

// Document is a parsed policy. Immutable.
type Document struct {
	Version    string
	ID         string
	Statements []Statement
}

// Statement is one rule of a document. Of Actions and NotActions, and of Resources and NotResources, one is set.
type Statement struct {
	Sid                     string
	Effect                  string
	Actions, NotActions     []string
	Resources, NotResources []string
	Principals              map[string][]string // by kind: AWS, Service, Federated, CanonicalUser; "*" alone is AWS *
	NotPrincipals           map[string][]string
	Conditions              []Condition
}

// Condition is one operator with one key and the values, any of which will do.
type Condition struct {
	Operator string
	Key      string
	Values   []string
}

// Kind says which rules a document must meet.
type Kind int

// The kinds of documents.
const (
	Identity Kind = iota // of a user, group or role; or a session's
	Trust                // who may assume a role
)

const current = "2012-10-17"

func malformed(format string, args ...any) error {
	return fault.New(fault.Invalid, "MalformedPolicyDocument", format, args...)
}

// list is a string or a list of strings.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = list{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return errSyntax
	}
	*l = many
	return nil
}

// scalars is a value of a condition: a string, number or boolean, or a list of them.
type scalars []string

func (l *scalars) UnmarshalJSON(b []byte) error {
	var raw any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&raw); err != nil {
		return err
	}
	many, ok := raw.([]any)
	if !ok {
		many = []any{raw}
	}
	*l = scalars{}
	for _, v := range many {
		switch v.(type) {
		case string, bool, json.Number:
			*l = append(*l, fmt.Sprint(v))
		default:
			return errSyntax
		}
	}
	return nil
}

var errSyntax = errors.New("syntax")

type principals map[string][]string

func (p *principals) UnmarshalJSON(b []byte) error {
	var all string
	if json.Unmarshal(b, &all) == nil {
		if all != "*" {
			return errSyntax
		}
		*p = principals{"*": {"*"}}
		return nil
	}
	m := map[string]list{}
	if err := strict(b, &m); err != nil || len(m) == 0 {
		return errSyntax
	}
	*p = principals{}
	for k, v := range m {
		if k != "AWS" && k != "Service" && k != "Federated" && k != "CanonicalUser" {
			return errSyntax
		}
		(*p)[k] = v
	}
	return nil
}

type rawStatement struct {
	Sid          *string
	Effect       *string
	Action       *list
	NotAction    *list
	Resource     *list
	NotResource  *list
	Principal    *principals
	NotPrincipal *principals
	Condition    conditionBlock
}

type statements []rawStatement

func (l *statements) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '{' {
		var one rawStatement
		if err := strict(b, &one, statementMembers...); err != nil {
			return err
		}
		*l = statements{one}
		return nil
	}
	var many []json.RawMessage
	if err := json.Unmarshal(b, &many); err != nil {
		return errSyntax
	}
	for _, m := range many {
		var one rawStatement
		if err := strict(m, &one, statementMembers...); err != nil {
			return err
		}
		*l = append(*l, one)
	}
	return nil
}

// strict refuses members that policies don't have. encoding/json would take effect for Effect, and the last of two of a
// name: a policy that reads differently to its author and to us.
func strict(b []byte, v any, members ...string) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errSyntax
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		k, ok := t.(string)
		if !ok || seen[k] || (members != nil && !slices.Contains(members, k)) {
			return errSyntax
		}
		seen[k] = true
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return err
		}
	}
	return json.Unmarshal(b, v)
}

var statementMembers = []string{"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition"}

// conditionBlock is operator, key, values; no operator and no key of an operator stands twice.
type conditionBlock map[string]map[string]scalars

func (c *conditionBlock) UnmarshalJSON(b []byte) error {
	var ops map[string]json.RawMessage
	if err := strict(b, &ops); err != nil {
		return err
	}
	*c = conditionBlock{}
	for op, keys := range ops {
		m := map[string]scalars{}
		if err := strict(keys, &m); err != nil {
			return err
		}
		(*c)[op] = m
	}
	return nil
}

// MaxDocument bounds the length of a document.
const (
	MaxDocument = 64 << 10
)

// Parse reads and checks a document. Its faults are MalformedPolicyDocument.
func Parse(text string, kind Kind) (*Document, error) {
	if len(text) > MaxDocument {
		return nil, malformed("The policy is longer than %d characters.", MaxDocument)
	}
	if !json.Valid([]byte(text)) {
		return nil, malformed("This policy contains invalid Json")
	}
	var raw struct {
		Version   *string
		ID        *string `json:"Id"`
		Statement *statements
	}
	if err := strict([]byte(text), &raw, "Version", "Id", "Statement"); err != nil {
		return nil, malformed("Syntax errors in policy.")
	}
	doc := &Document{Version: "2008-10-17"}
	if raw.Version != nil {
		doc.Version = *raw.Version
	}
	if doc.Version != "2008-10-17" && doc.Version != current {
		return nil, malformed("Policy document must be version 2012-10-17 or greater.")
	}
	if raw.ID != nil {
		doc.ID = *raw.ID
	}
	if raw.Statement == nil || len(*raw.Statement) == 0 {
		return nil, malformed("Syntax errors in policy.")
	}
	sids := map[string]bool{}
	for _, r := range *raw.Statement {
		s, err := r.check(kind)
		if err != nil {
			return nil, err
		}
		if s.Sid != "" && sids[s.Sid] {
			return nil, malformed("Statement IDs (SID) in a single policy must be unique.")
		}
		sids[s.Sid] = true
		doc.Statements = append(doc.Statements, s)
	}
	return doc, nil
}

var (
	sidForm    = regexp.MustCompile(`^[A-Za-z0-9]*$`)
	actionForm = regexp.MustCompile(`^[A-Za-z0-9-]+:[A-Za-z0-9*?]+$`)
)

func (r rawStatement) check(kind Kind) (Statement, error) {
	s := Statement{}
	if r.Sid != nil {
		s.Sid = *r.Sid
		if kind == Identity && !sidForm.MatchString(s.Sid) {
			return s, malformed("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")
		}
	}
	if r.Effect == nil || (*r.Effect != Allow && *r.Effect != Deny) {
		return s, malformed("Syntax errors in policy.")
	}
	s.Effect = *r.Effect
	both := func(a, b *list) bool { return a != nil && b != nil }
	if both(r.Action, r.NotAction) || both(r.Resource, r.NotResource) || (r.Principal != nil && r.NotPrincipal != nil) {
		return s, malformed("Syntax errors in policy.")
	}
	if r.Action != nil {
		s.Actions = *r.Action
	}
	if r.NotAction != nil {
		s.NotActions = *r.NotAction
	}
	if len(s.Actions)+len(s.NotActions) == 0 {
		return s, malformed("Policy statement must contain actions.")
	}
	for _, a := range append(append([]string{}, s.Actions...), s.NotActions...) {
		if a == "*" {
			continue
		}
		if !strings.Contains(a, ":") {
			return s, malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
		}
		if !actionForm.MatchString(a) {
			return s, malformed("The policy failed legacy parsing")
		}
		if kind == Trust && !strings.HasPrefix(strings.ToLower(a), "sts:") {
			return s, malformed("AssumeRole policy may only specify STS AssumeRole actions.")
		}
	}
	if err := r.target(kind, &s); err != nil {
		return s, err
	}
	return s, r.conditions(&s)
}

// target checks resources and principals: identity policies name the first and not the second, trust policies the reverse.
func (r rawStatement) target(kind Kind, s *Statement) error {
	if kind == Trust {
		if r.Resource != nil || r.NotResource != nil {
			return malformed("Has prohibited field Resource")
		}
		if r.Principal == nil && r.NotPrincipal == nil {
			return malformed("Missing required field Principal")
		}
		if r.NotPrincipal != nil {
			if s.Effect == Allow {
				return malformed("Allow with NotPrincipal is not allowed.")
			}
			s.NotPrincipals = *r.NotPrincipal
		} else {
			s.Principals = *r.Principal
		}
		return checkPrincipals(s)
	}
	if r.Principal != nil || r.NotPrincipal != nil {
		return malformed("Policy document should not specify a principal.")
	}
	if r.Resource != nil {
		s.Resources = *r.Resource
	}
	if r.NotResource != nil {
		s.NotResources = *r.NotResource
	}
	if len(s.Resources)+len(s.NotResources) == 0 {
		return malformed("Policy statement must contain resources.")
	}
	for _, a := range append(append([]string{}, s.Resources...), s.NotResources...) {
		if a == "*" || strings.HasPrefix(a, "arn:") && strings.Count(a, ":") >= 5 {
			continue
		}
		if strings.HasPrefix(a, "arn:") && strings.HasSuffix(a, "*") { // the rest is inside of the wildcard
			continue
		}
		return malformed(`Resource %s must be in ARN format or "*".`, a)
	}
	return nil
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	iamForm     = regexp.MustCompile(`^arn:aws[a-z-]*:(iam|sts)::([0-9]{12}):(root|(user|role|assumed-role|federated-user)/[\w+=,.@/-]+)$`)
	idForm      = regexp.MustCompile(`^A(IDA|ROA)[A-Z0-9]{12,}$`)
	serviceForm = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com|amazonaws\.com\.cn|aws\.internal)$`)
)

func checkPrincipals(s *Statement) error {
	for _, m := range []map[string][]string{s.Principals, s.NotPrincipals} {
		kinds := make([]string, 0, len(m))
		for k := range m {
			kinds = append(kinds, k)
		}
		sort.Strings(kinds)
		for _, k := range kinds {
			if len(m[k]) == 0 {
				return malformed("Missing required field Principal")
			}
			for _, v := range m[k] {
				ok := v != ""
				switch k {
				case "AWS":
					ok = v == "*" || accountForm.MatchString(v) || iamForm.MatchString(v) || idForm.MatchString(v)
				case "Service":
					ok = serviceForm.MatchString(v)
				}
				if !ok {
					return malformed("Invalid principal in policy: %q:%q", k, v)
				}
			}
		}
	}
	return nil
}

func (r rawStatement) conditions(s *Statement) error {
	ops := make([]string, 0, len(r.Condition))
	for op := range r.Condition {
		ops = append(ops, op)
	}
	sort.Strings(ops)
	for _, op := range ops {
		if op == "" || len(r.Condition[op]) == 0 {
			return malformed("Syntax errors in policy.")
		}
		keys := make([]string, 0, len(r.Condition[op]))
		for k := range r.Condition[op] {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			if !strings.Contains(k, ":") {
				return malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
			}
			s.Conditions = append(s.Conditions, Condition{Operator: op, Key: k, Values: r.Condition[op][k]})
		}
	}
	return nil
}
