package identity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

const acct = "111111111111"

const ec2Trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// world is a state with a clock that the test moves.
type world struct {
	t   *testing.T
	db  *store.DB
	now time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)}
	db, err := store.Open("", store.Options{Clock: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.db = db
	return w
}

// do runs a transition that must work.
func (w *world) do(fn func(tx *store.WriteTx) error) {
	w.t.Helper()
	if err := w.db.Update(fn); err != nil {
		w.t.Fatal(err)
	}
}

// refused runs a transition that must fail with a code and a part of the message, and change nothing.
func (w *world) refused(code, text string, fn func(tx *store.WriteTx) error) {
	w.t.Helper()
	err := w.db.Update(fn)
	f, ok := fault.As(err)
	if !ok || f.Code != code || !strings.Contains(f.Msg, text) {
		w.t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func (w *world) user(name string, docs ...string) (Principal, AccessKey) {
	w.t.Helper()
	var u User
	var k AccessKey
	w.do(func(tx *store.WriteTx) (err error) {
		if u, err = CreateUser(tx, acct, name, "/", "", nil); err != nil {
			return err
		}
		for i, d := range docs {
			if err := PutInline(tx, OfUser, acct, name, fmt.Sprintf("p%d", i), d); err != nil {
				return err
			}
		}
		k, err = CreateAccessKey(tx, acct, name)
		return err
	})
	return Principal{ARN: u.ARN(), UserID: u.ID, Account: acct}, k
}

func allow(action, resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}]}`
}

func (w *world) may(p Principal, action, resource string) bool {
	w.t.Helper()
	err := Authorize(w.db.Read(), p, action, resource)
	if err != nil && !fault.Is(err, fault.Denied) {
		w.t.Errorf("Authorize: %v", err)
	}
	return err == nil
}

func TestKeys(t *testing.T) {
	w := newWorld(t)
	p, k := w.user("ann")
	got, err := Lookup(w.db.Read(), k.ID)
	if err != nil || got.Secret != k.Secret || got.Principal != p || got.SessionToken != "" {
		t.Fatalf("looked up %+v, %v", got, err)
	}
	if len(k.ID) != 20 || len(k.Secret) != 40 || !strings.HasPrefix(k.ID, "AKIA") {
		t.Errorf("the key's form: %q, a secret of %d", k.ID, len(k.Secret))
	}
	if a, ok := AccountOf(k.ID); !ok || a != acct {
		t.Errorf("the account of %s is %s", k.ID, a)
	}
	w.do(func(tx *store.WriteTx) error { return SetAccessKey(tx, acct, "ann", k.ID, false) })
	if _, err := Lookup(w.db.Read(), k.ID); err == nil {
		t.Error("an inactive key counts")
	}
	w.do(func(tx *store.WriteTx) error { _, err := CreateAccessKey(tx, acct, "ANN"); return err }) // names have no case
	w.refused("LimitExceeded", "AccessKeysPerUser: 2", func(tx *store.WriteTx) error { _, err := CreateAccessKey(tx, acct, "ann"); return err })
	w.refused("DeleteConflict", "access keys", func(tx *store.WriteTx) error { return DeleteUser(tx, acct, "ann") })
	w.refused("NoSuchEntity", "cannot be found", func(tx *store.WriteTx) error { return DeleteAccessKey(tx, "222222222222", "ann", k.ID) })
	w.do(func(tx *store.WriteTx) error {
		for _, k := range KeysOf(tx, acct, "ann") {
			if err := DeleteAccessKey(tx, acct, "ann", k.ID); err != nil {
				return err
			}
		}
		PutRootKey(tx, acct, "AKIAIOSFODNN7EXAMPLE", "s3cret")
		return DeleteUser(tx, acct, "ann")
	})
	if r, err := Lookup(w.db.Read(), "AKIAIOSFODNN7EXAMPLE"); err != nil || !r.Principal.IsRoot() {
		t.Errorf("root's key: %+v %v", r, err)
	}
	if w.may(p, "ec2:DescribeInstances", "*") {
		t.Error("a user who is gone may do something")
	}
}

func TestInstanceCredentials(t *testing.T) {
	w := newWorld(t)
	here := scope.Scope{Account: acct, Region: "eu-west-1"}
	const arn = "arn:aws:iam::" + acct + ":instance-profile/web"
	w.refused("NoSuchEntity", "cannot be found", func(tx *store.WriteTx) error { _, err := InstanceCredentials(tx, here, "i-1", arn); return err })
	w.do(func(tx *store.WriteTx) error { _, err := CreateInstanceProfile(tx, acct, "web", "", nil); return err })
	w.refused("NoSuchEntity", "has no role", func(tx *store.WriteTx) error { _, err := InstanceCredentials(tx, here, "i-1", arn); return err })
	w.do(func(tx *store.WriteTx) error {
		if _, err := CreateRole(tx, acct, NewRole{Name: "web", Trust: ec2Trust}); err != nil {
			return err
		}
		if err := PutInline(tx, OfRole, acct, "web", "p", allow("ec2:Describe*", "*")); err != nil {
			return err
		}
		return AddRole(tx, acct, "web", "web")
	})
	var first Credentials
	w.do(func(tx *store.WriteTx) (err error) {
		first, err = InstanceCredentials(tx, here, "i-1", arn)
		return err
	})
	k, err := Lookup(w.db.Read(), first.AccessKeyID)
	if err != nil || k.SessionToken != first.SessionToken || k.Principal.SourceInstance != "i-1" || k.Principal.ARN != "arn:aws:sts::"+acct+":assumed-role/web/i-1" || first.Role != "web" {
		t.Fatalf("looked up %+v, %v", k, err)
	}
	if d := first.Expiration.Sub(w.now); d != 6*time.Hour {
		t.Errorf("credentials live %v", d)
	}
	if !w.may(k.Principal, "ec2:DescribeInstances", "*") || w.may(k.Principal, "ec2:RunInstances", "*") {
		t.Error("the role's policy does not hold for its instance")
	}

	w.now = w.now.Add(5 * time.Hour)
	var second Credentials
	w.do(func(tx *store.WriteTx) (err error) {
		second, err = InstanceCredentials(tx, here, "i-1", arn)
		return err
	})
	if _, err := Lookup(w.db.Read(), first.AccessKeyID); err != nil {
		t.Errorf("the old credentials ended before their time: %v", err)
	}
	w.now = w.now.Add(time.Hour)
	if _, err := Lookup(w.db.Read(), first.AccessKeyID); err == nil || !strings.Contains(err.Error(), "ExpiredToken") {
		t.Errorf("expired credentials: %v", err)
	}
	if _, err := Lookup(w.db.Read(), second.AccessKeyID); err != nil {
		t.Error(err)
	}

	for range 3 * maxInstanceSessions {
		w.do(func(tx *store.WriteTx) error { _, err := InstanceCredentials(tx, here, "i-1", arn); return err })
	}
	n := 0
	for range Sessions.By(w.db.Read(), "instance", here.Key("i-1")) {
		n++
	}
	if n > maxInstanceSessions {
		t.Errorf("an instance has %d sessions", n)
	}
	w.now = w.now.Add(8 * time.Hour)
	w.do(func(tx *store.WriteTx) error { Prune(tx); return nil })
	for s := range Sessions.All(w.db.Read()) {
		t.Errorf("session %s of %v was not pruned", s.ID, s.ExpiresAt)
	}

	w.do(func(tx *store.WriteTx) error {
		return UpdateTrust(tx, acct, "web", strings.Replace(ec2Trust, "ec2.", "lambda.", 1))
	})
	w.refused("AccessDenied", "sts:AssumeRole", func(tx *store.WriteTx) error { _, err := InstanceCredentials(tx, here, "i-1", arn); return err })
}

// TestRoleIsNotItsNamesake: a session ends with its role, even if another one takes the name.
func TestRoleIsNotItsNamesake(t *testing.T) {
	w := newWorld(t)
	p, _ := w.user("ann", allow("sts:AssumeRole", "*"))
	trust := strings.Replace(ec2Trust, `"Service":"ec2.amazonaws.com"`, `"AWS":"`+acct+`"`, 1)
	var c Credentials
	make := func() {
		w.do(func(tx *store.WriteTx) error {
			if _, err := CreateRole(tx, acct, NewRole{Name: "r", Trust: trust}); err != nil {
				return err
			}
			return PutInline(tx, OfRole, acct, "r", "p", allow("*", "*"))
		})
	}
	make()
	w.do(func(tx *store.WriteTx) (err error) {
		c, err = AssumeRole(tx, p, Assume{RoleARN: "arn:aws:iam::" + acct + ":role/r", Session: "sess"})
		return err
	})
	if !w.may(c.Principal, "ec2:RunInstances", "*") {
		t.Error("the session may nothing")
	}
	w.do(func(tx *store.WriteTx) error {
		if err := DeleteInline(tx, OfRole, acct, "r", "p"); err != nil {
			return err
		}
		return DeleteRole(tx, acct, "r")
	})
	make()
	if w.may(c.Principal, "ec2:RunInstances", "*") {
		t.Error("the session of a deleted role works through a new one of its name")
	}
}

func TestAssumeRole(t *testing.T) {
	w := newWorld(t)
	named, _ := w.user("named")                                       // the trust policy names it
	permitted, _ := w.user("permitted", allow("sts:AssumeRole", "*")) // its own policy permits it
	plain, _ := w.user("plain")
	denied, _ := w.user("denied", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"sts:*","Resource":"*"}]}`)
	const arn = "arn:aws:iam::" + acct + ":role/team/r"
	role := func(name, principal, cond string) {
		w.do(func(tx *store.WriteTx) error {
			_, err := CreateRole(tx, acct, NewRole{Name: name, Path: "/team/", MaxSession: 7200,
				Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":[` + principal + `]},"Action":"sts:AssumeRole"` + cond + `}]}`})
			return err
		})
	}
	role("r", `"`+named.ARN+`","`+denied.ARN+`","`+acct+`"`, "")
	role("ext", `"`+named.ARN+`"`, `,"Condition":{"StringEquals":{"sts:ExternalId":"42"}}`)
	for _, tt := range []struct {
		name  string
		p     Principal
		a     Assume
		code  string
		text  string
		after time.Duration
	}{
		{"named by the trust policy", named, Assume{RoleARN: arn, Session: "ss"}, "", "", time.Hour},
		{"permitted by its own policy", permitted, Assume{RoleARN: arn, Session: "ss", Duration: 7200}, "", "", 2 * time.Hour},
		{"of the account only", plain, Assume{RoleARN: arn, Session: "ss"}, "AccessDenied", "not authorized to perform: sts:AssumeRole on resource: " + arn, 0},
		{"denied by its own policy", denied, Assume{RoleARN: arn, Session: "ss"}, "AccessDenied", "not authorized", 0},
		{"root", Root(acct), Assume{RoleARN: arn, Session: "ss"}, "AccessDenied", "may not be assumed by root", 0},
		{"no such role", named, Assume{RoleARN: arn + "x", Session: "ss"}, "AccessDenied", "not authorized", 0},
		{"wrong path", named, Assume{RoleARN: "arn:aws:iam::" + acct + ":role/r", Session: "ss"}, "AccessDenied", "not authorized", 0},
		{"no ARN", named, Assume{RoleARN: "r", Session: "ss"}, "ValidationError", "is invalid", 0},
		{"longer than the role allows", named, Assume{RoleARN: arn, Session: "ss", Duration: 7201}, "ValidationError", "exceeds the MaxSessionDuration", 0},
		{"too short", named, Assume{RoleARN: arn, Session: "ss", Duration: 899}, "ValidationError", "greater than or equal to 900", 0},
		{"bad session name", named, Assume{RoleARN: arn, Session: "a b"}, "ValidationError", "roleSessionName", 0},
		{"bad session policy", named, Assume{RoleARN: arn, Session: "ss", Policies: []string{"{}"}}, "MalformedPolicyDocument", "Syntax", 0},
		{"without the external id", named, Assume{RoleARN: strings.Replace(arn, "/r", "/ext", 1), Session: "ss"}, "AccessDenied", "", 0},
		{"with the external id", named, Assume{RoleARN: strings.Replace(arn, "team/r", "team/ext", 1), Session: "ss", ExternalID: "42"}, "", "", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.t = t
			var c Credentials
			run := func(tx *store.WriteTx) (err error) { c, err = AssumeRole(tx, tt.p, tt.a); return err }
			if tt.code != "" {
				w.refused(tt.code, tt.text, run)
				return
			}
			w.do(run)
			if c.Expiration.Sub(w.now) != tt.after || !strings.HasSuffix(c.Principal.ARN, "/ss") || !strings.HasPrefix(c.AccessKeyID, "ASIA") {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// TestLimits: boundaries and session policies take away, groups add.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	p, _ := w.user("ann")
	w.do(func(tx *store.WriteTx) error {
		if _, err := CreateGroup(tx, acct, "ops", ""); err != nil {
			return err
		}
		if err := Attach(tx, OfGroup, acct, "ops", "arn:aws:iam::aws:policy/AmazonEC2FullAccess"); err != nil {
			return err
		}
		return AddToGroup(tx, acct, "ann", "OPS")
	})
	if !w.may(p, "ec2:RunInstances", "*") || w.may(p, "iam:CreateUser", "*") {
		t.Error("the group's policy does not hold")
	}
	w.do(func(tx *store.WriteTx) error {
		return SetBoundary(tx, OfUser, acct, "ann", "arn:aws:iam::aws:policy/ReadOnlyAccess")
	})
	if w.may(p, "ec2:RunInstances", "*") || !w.may(p, "ec2:DescribeInstances", "*") {
		t.Error("the boundary does not limit")
	}
	if err := Authorize(w.db.Read(), p, "ec2:RunInstances", "*"); err == nil || !strings.Contains(err.Error(), "because no permissions boundary allows the ec2:RunInstances action") {
		t.Errorf("the refusal: %v", err)
	}
	w.refused("DeleteConflict", "users from group", func(tx *store.WriteTx) error { return DeleteGroup(tx, acct, "ops") })
	w.do(func(tx *store.WriteTx) error { return RenameGroup(tx, acct, "ops", "crew", "/x/") })
	if !w.may(p, "ec2:DescribeInstances", "*") {
		t.Error("a renamed group lost its users")
	}
}

// TestResourceTags: a policy may ask for the tags of EC2's resources.
func TestResourceTags(t *testing.T) {
	w := newWorld(t)
	p, _ := w.user("ann", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:TerminateInstances","Resource":"*","Condition":{"StringEquals":{"ec2:ResourceTag/Owner":"${aws:username}"}}}]}`)
	w.do(func(tx *store.WriteTx) error {
		s := scope.Scope{Account: acct, Region: "us-east-1"}
		if err := tag.Set(tx, s, "i-1", map[string]string{"Owner": "ann"}); err != nil {
			return err
		}
		return tag.Set(tx, s, "i-2", map[string]string{"Owner": "bob"})
	})
	arn := "arn:aws:ec2:us-east-1:" + acct + ":instance/"
	if !w.may(p, "ec2:TerminateInstances", arn+"i-1") || w.may(p, "ec2:TerminateInstances", arn+"i-2") || w.may(p, "ec2:TerminateInstances", arn+"i-3") {
		t.Error("the tag's owner alone may terminate")
	}
}

func TestManagedPolicies(t *testing.T) {
	w := newWorld(t)
	var m ManagedPolicy
	w.do(func(tx *store.WriteTx) (err error) {
		m, err = CreatePolicy(tx, acct, "p", "/a/", "", allow("ec2:*", "*"), nil)
		return err
	})
	if m.ARN() != "arn:aws:iam::"+acct+":policy/a/p" || m.Default != "v1" {
		t.Fatalf("made %+v", m)
	}
	w.refused("EntityAlreadyExists", "already exists", func(tx *store.WriteTx) error {
		_, err := CreatePolicy(tx, acct, "P", "", "", allow("ec2:*", "*"), nil)
		return err
	})
	p, _ := w.user("ann")
	w.do(func(tx *store.WriteTx) error { return Attach(tx, OfUser, acct, "ann", m.ARN()) })
	w.refused("DeleteConflict", "attached", func(tx *store.WriteTx) error { return DeletePolicy(tx, acct, m.ARN()) })
	for range 4 {
		w.do(func(tx *store.WriteTx) error {
			_, _, err := CreatePolicyVersion(tx, acct, m.ARN(), allow("s3:*", "*"), true)
			return err
		})
	}
	if w.may(p, "ec2:RunInstances", "*") || !w.may(p, "s3:GetObject", "*") {
		t.Error("the default version does not count")
	}
	w.refused("LimitExceeded", "5 versions", func(tx *store.WriteTx) error {
		_, _, err := CreatePolicyVersion(tx, acct, m.ARN(), allow("s3:*", "*"), false)
		return err
	})
	w.refused("DeleteConflict", "default version", func(tx *store.WriteTx) error { return DeletePolicyVersion(tx, acct, m.ARN(), "v5") })
	w.do(func(tx *store.WriteTx) error {
		for _, v := range []string{"v1", "v2", "v3", "v4"} {
			if err := DeletePolicyVersion(tx, acct, m.ARN(), v); err != nil {
				return err
			}
		}
		_, v, err := CreatePolicyVersion(tx, acct, m.ARN(), allow("ec2:*", "*"), false)
		if v.ID != "v6" {
			t.Errorf("after v5 comes %s", v.ID)
		}
		return err
	})
	w.refused("AccessDenied", "outside your own account", func(tx *store.WriteTx) error {
		return DeletePolicy(tx, acct, "arn:aws:iam::aws:policy/AdministratorAccess")
	})
	w.refused("NoSuchEntity", "does not exist", func(tx *store.WriteTx) error {
		return Attach(tx, OfUser, acct, "ann", "arn:aws:iam::222222222222:policy/a/p")
	})
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	role := func(n NewRole) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { _, err := CreateRole(tx, acct, n); return err }
	}
	w.do(role(NewRole{Name: "Web", Trust: ec2Trust}))
	w.refused("EntityAlreadyExists", "Role with name web already exists.", role(NewRole{Name: "web", Trust: ec2Trust}))
	w.refused("ValidationError", "roleName", role(NewRole{Name: "a b", Trust: ec2Trust}))
	w.refused("ValidationError", "roleName", role(NewRole{Name: strings.Repeat("a", 65), Trust: ec2Trust}))
	w.refused("ValidationError", "path", role(NewRole{Name: "x", Path: "a", Trust: ec2Trust}))
	w.refused("ValidationError", "maxSessionDuration", role(NewRole{Name: "x", MaxSession: 60, Trust: ec2Trust}))
	w.refused("MalformedPolicyDocument", "Json", role(NewRole{Name: "x", Trust: "{"}))
	w.refused("MalformedPolicyDocument", "Invalid principal", role(NewRole{Name: "x", Trust: strings.Replace(ec2Trust, `"Service":"ec2.amazonaws.com"`, `"AWS":"arn:aws:iam::`+acct+`:user/nobody"`, 1)}))
	w.refused("InvalidInput", "Duplicate tag keys", role(NewRole{Name: "x", Trust: ec2Trust, Tags: map[string]string{"a": "1", "A": "2"}}))
	w.refused("NoSuchEntity", "does not exist", role(NewRole{Name: "x", Trust: ec2Trust, Boundary: "arn:aws:iam::aws:policy/Nope"}))
	w.do(func(tx *store.WriteTx) error {
		if _, err := CreateInstanceProfile(tx, acct, "pr", "", nil); err != nil {
			return err
		}
		return AddRole(tx, acct, "pr", "web")
	})
	w.refused("LimitExceeded", "InstanceSessionsPerInstanceProfile: 1", func(tx *store.WriteTx) error { return AddRole(tx, acct, "pr", "web") })
	w.refused("DeleteConflict", "instance profile first", func(tx *store.WriteTx) error { return DeleteRole(tx, acct, "web") })
	w.refused("DeleteConflict", "remove roles", func(tx *store.WriteTx) error { return DeleteInstanceProfile(tx, acct, "pr") })
	w.refused("NoSuchEntity", "role", func(tx *store.WriteTx) error { return RemoveRole(tx, acct, "pr", "other") })
	w.do(func(tx *store.WriteTx) error {
		if err := RemoveRole(tx, acct, "pr", "WEB"); err != nil {
			return err
		}
		return PutInline(tx, OfRole, acct, "web", "p", allow("ec2:*", "*"))
	})
	w.refused("DeleteConflict", "delete policies first", func(tx *store.WriteTx) error { return DeleteRole(tx, acct, "web") })
	w.refused("LimitExceeded", "Maximum policy size of 10240", func(tx *store.WriteTx) error {
		return PutInline(tx, OfRole, acct, "web", "q", allow("ec2:*", "arn:aws:s3:::"+strings.Repeat("a", maxInlineRole)))
	})
	w.do(func(tx *store.WriteTx) error {
		_, err := CreateServiceLinkedRole(tx, acct, "autoscaling.amazonaws.com", "", "")
		return err
	})
	w.refused("UnmodifiableEntity", "protected role", func(tx *store.WriteTx) error {
		return UpdateTrust(tx, acct, "AWSServiceRoleForAutoScaling", ec2Trust)
	})
}

// TestAccountsAreSeparate: a name in one account is nothing in another.
func TestAccountsAreSeparate(t *testing.T) {
	w := newWorld(t)
	w.user("ann", allow("*", "*"))
	u, ok := Users.Get(w.db.Read(), key(acct, "ann"))
	if !ok {
		t.Fatal("no ann")
	}
	if _, err := GetUser(w.db.Read(), "222222222222", "ann"); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account sees ann: %v", err)
	}
	if w.may(Principal{ARN: strings.Replace(u.ARN(), acct, "222222222222", 1), UserID: u.ID, Account: "222222222222"}, "ec2:RunInstances", "*") {
		t.Error("ann of another account may what ann may")
	}
}

// TestAWSPolicies: each is a policy that is fine, and has its ARN.
func TestAWSPolicies(t *testing.T) {
	w := newWorld(t)
	p, _ := w.user("ann")
	for _, m := range AWSPolicies() {
		if err := checkManaged(m.Versions[0].Document); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if !strings.HasPrefix(m.ARN(), "arn:aws:iam::aws:policy/") || len(m.ID) != 21 {
			t.Errorf("%s %s", m.ARN(), m.ID)
		}
	}
	w.do(func(tx *store.WriteTx) error {
		return Attach(tx, OfUser, acct, "ann", "arn:aws:iam::aws:policy/PowerUserAccess")
	})
	if !w.may(p, "ec2:RunInstances", "*") || w.may(p, "iam:CreateUser", "*") || !w.may(p, "iam:CreateServiceLinkedRole", "*") {
		t.Error("a power user may all but manage users")
	}
}

func TestUsage(t *testing.T) {
	w := newWorld(t)
	_, k := w.user("ann")
	var u Usage
	at := w.now.Add(time.Minute)
	u.Note(k.ID, "eu-west-1", "ec2", at.Add(-time.Second))
	u.Note(k.ID, "eu-west-1", "sts", at)
	u.Note("AKIAUNKNOWN", "eu-west-1", "sts", at)
	if err := u.Flush(w.db); err != nil {
		t.Fatal(err)
	}
	u.Note(k.ID, "us-east-1", "ec2", at.Add(-time.Hour)) // a late note does not go back
	if err := u.Flush(w.db); err != nil {
		t.Fatal(err)
	}
	got, err := GetAccessKey(w.db.Read(), acct, "ann", k.ID)
	if err != nil || !got.UsedAt.Equal(at) || got.UsedService != "sts" || got.UsedRegion != "eu-west-1" {
		t.Errorf("used %+v, %v", got, err)
	}
}
