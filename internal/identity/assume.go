package identity

import (
	"reflect"
	"regexp"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/policy"
	"skerry/internal/store"
)

func same(a, b []*policy.Document) bool { return reflect.DeepEqual(a, b) }

func serviceRequest(service string, tx store.Tx) policy.Request {
	return policy.Request{Action: "sts:AssumeRole", Principal: policy.Principal{Service: service},
		Keys: map[string][]string{"aws:currenttime": {tx.Now().UTC().Format(time.RFC3339)}}}
}

// trusts tells whether a role's trust policy lets a service assume it.
func trusts(r Role, q policy.Request) error {
	d, err := policy.Parse(r.Trust, policy.Trust)
	if err == nil && policy.Evaluate([]*policy.Document{d}, q) == policy.Allowed {
		return nil
	}
	return fault.New(fault.Denied, "AccessDenied", "%s is not authorized to perform: sts:AssumeRole on resource: %s", q.Principal.Service, r.ARN())
}

// Assume is the request of AssumeRole.
type Assume struct {
	RoleARN, Session string
	Duration         int // seconds; 0: an hour
	ExternalID       string
	Policies         []string // documents that limit the session
	PolicyARNs       []string
	Tags             map[string]string
	SourceIdentity   string
	Keys             map[string][]string // condition keys of the request, in lower case
}

var sessionForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// SessionRoom is how many characters a session's own policies may have.
const SessionRoom = 2048

// Bounds of a session's life in seconds, and of its policies.
const (
	minAssume      = 900
	chained        = 3600
	maxSessionARNs = 10
)

// AssumeRole checks the caller's and the role's policies and makes a session.
func AssumeRole(w *store.WriteTx, p Principal, a Assume) (Credentials, error) {
	if !sessionForm.MatchString(a.Session) {
		return Credentials{}, invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", a.Session)
	}
	if a.Duration == 0 {
		a.Duration = DefaultSession
	}
	if a.Duration < minAssume {
		return Credentials{}, invalid("1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to %d", a.Duration, minAssume)
	}
	if a.Duration > MaxSession {
		return Credentials{}, invalid("1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to %d", a.Duration, MaxSession)
	}
	account, name, ok := roleOf(a.RoleARN)
	if !ok {
		return Credentials{}, invalid("%s is invalid", a.RoleARN)
	}
	if err := checkSessionPolicies(w, account, a); err != nil {
		return Credentials{}, err
	}
	if p.IsRoot() {
		return Credentials{}, fault.New(fault.Denied, "AccessDenied", "Roles may not be assumed by root accounts.")
	}
	refused := fault.New(fault.Denied, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", p.ARN, a.RoleARN)
	r, found := Roles.Get(w, key(account, name))
	if !found || r.ARN() != a.RoleARN {
		return Credentials{}, refused
	}
	if err := mayAssume(w, p, r, a); err != nil {
		return Credentials{}, err
	}
	if a.Duration > r.MaxSession {
		return Credentials{}, invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if strings.Contains(p.ARN, ":assumed-role/") && a.Duration > chained {
		return Credentials{}, invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	r.UsedAt = w.Now()
	Roles.Put(w, r)
	return newSession(w, Session{Account: account, ARN: sessionARN(account, r.Name, a.Session), UserID: r.ID + ":" + a.Session, Role: r.Name, RoleID: r.ID,
		Policies: a.Policies, PolicyARNs: a.PolicyARNs, Tags: a.Tags}, time.Duration(a.Duration)*time.Second), nil
}

// roleOf reads a role's ARN.
func roleOf(arn string) (account, name string, ok bool) {
	rest, ok := strings.CutPrefix(arn, "arn:aws:iam::")
	account, path, found := strings.Cut(rest, ":role/")
	if !ok || !found || len(account) != 12 || path == "" {
		return "", "", false
	}
	return account, path[strings.LastIndex(path, "/")+1:], true
}

func checkSessionPolicies(tx store.Tx, account string, a Assume) error {
	n := 0
	for _, d := range a.Policies {
		if _, err := policy.Parse(d, policy.Identity); err != nil {
			return err
		}
		n += len(d)
	}
	if n > SessionRoom || len(a.PolicyARNs) > maxSessionARNs {
		return fault.New(fault.Invalid, "PackedPolicyTooLarge", "The session policies are larger than %d characters or %d policies.", SessionRoom, maxSessionARNs)
	}
	for _, arn := range a.PolicyARNs {
		if _, _, err := PolicyDocument(tx, account, arn); err != nil {
			return err
		}
	}
	return checkTags(a.Tags)
}

// mayAssume asks the role's trust policy and the caller's own. A caller of the same account that the trust policy names
// itself needs no permission of its own, but must not be denied.
func mayAssume(tx store.Tx, p Principal, r Role, a Assume) error {
	who := policy.Principal{Account: p.Account, ARNs: []string{p.ARN}, IDs: []string{p.UserID}}
	if rest, ok := strings.CutPrefix(p.ARN, "arn:aws:sts::"+p.Account+":assumed-role/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		if own, ok := Roles.Get(tx, key(p.Account, name)); ok {
			who.ARNs, who.IDs = append(who.ARNs, own.ARN()), append(who.IDs, own.ID)
		}
	}
	ps, keys, ok := gather(tx, p)
	if !ok {
		return fault.New(fault.Denied, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", p.ARN, r.ARN())
	}
	for k, v := range a.Keys {
		keys[k] = v
	}
	if a.ExternalID != "" {
		keys["sts:externalid"] = []string{a.ExternalID}
	}
	keys["sts:rolesessionname"] = []string{a.Session}
	if a.SourceIdentity != "" {
		keys["sts:sourceidentity"] = []string{a.SourceIdentity}
	}
	for k, v := range a.Tags {
		keys["aws:requesttag/"+strings.ToLower(k)] = []string{v}
		keys["aws:tagkeys"] = append(keys["aws:tagkeys"], k)
	}
	trust, err := policy.Parse(r.Trust, policy.Trust)
	if err != nil {
		return err
	}
	actions := []string{"sts:AssumeRole"}
	if len(a.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	for _, action := range actions {
		how := policy.Evaluate([]*policy.Document{trust}, policy.Request{Action: action, Principal: who, Keys: keys})
		own, by := policy.Decide(ps, policy.Request{Action: action, Resource: r.ARN(), Keys: keys})
		direct := how == policy.Allowed && p.Account == r.Account && own == policy.Implicit && by == policy.ByIdentity
		if how != policy.Allowed && how != policy.Delegated || own != policy.Allowed && !direct {
			return fault.New(fault.Denied, "AccessDenied", "User: %s is not authorized to perform: %s on resource: %s", p.ARN, action, r.ARN())
		}
	}
	return nil
}

// SessionToken makes temporary credentials of a user, or of root, that may do what they may.
func SessionToken(w *store.WriteTx, p Principal, seconds int) (Credentials, error) {
	most, def := 129600, 43200
	if p.IsRoot() {
		most, def = 3600, 3600
	}
	if seconds == 0 {
		seconds = def
	}
	if seconds < minAssume {
		return Credentials{}, invalid("1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to %d", seconds, minAssume)
	}
	if seconds > 129600 {
		return Credentials{}, invalid("1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 129600", seconds)
	}
	if strings.Contains(p.ARN, ":assumed-role/") {
		return Credentials{}, fault.New(fault.Denied, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	}
	s := Session{Account: p.Account, ARN: p.ARN, UserID: p.UserID}
	if i := strings.LastIndex(p.ARN, "/"); i > 0 {
		s.User = p.ARN[i+1:]
	}
	return newSession(w, s, time.Duration(min(seconds, most))*time.Second), nil
}
