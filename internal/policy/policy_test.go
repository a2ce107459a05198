package policy

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"skerry/internal/fault"
)

func parse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := Parse(text, Identity)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// doc wraps statements.
func doc(statements string) string {
	return `{"Version":"2012-10-17","Statement":[` + statements + `]}`
}

func TestParseRefuses(t *testing.T) {
	ok := `{"Effect":"Allow","Action":"ec2:*","Resource":"*"}`
	trust := `{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}`
	for _, tt := range []struct {
		name, text string
		kind       Kind
		want       string // part of the message; empty: it is fine
	}{
		{"fine", doc(ok), Identity, ""},
		{"one statement without a list", `{"Statement":` + ok + `}`, Identity, ""},
		{"not JSON", `{"Statement":`, Identity, "invalid Json"},
		{"two documents", doc(ok) + doc(ok), Identity, "invalid Json"},
		{"empty", ``, Identity, "invalid Json"},
		{"a list", `[]`, Identity, "Syntax errors"},
		{"null", `null`, Identity, "Syntax errors"},
		{"member in other case", doc(`{"effect":"Allow","Action":"ec2:*","Resource":"*"}`), Identity, "Syntax errors"},
		{"effect twice", doc(`{"Effect":"Deny","Effect":"Allow","Action":"ec2:*","Resource":"*"}`), Identity, "Syntax errors"},
		{"condition key twice", doc(`{"Effect":"Deny","Action":"ec2:*","Resource":"*","Condition":{"StringEquals":{"a:b":"x","a:b":"y"}}}`), Identity, "Syntax errors"},
		{"no statement", `{"Version":"2012-10-17"}`, Identity, "Syntax errors"},
		{"empty list", doc(""), Identity, "Syntax errors"},
		{"unknown member", `{"Version":"2012-10-17","Statement":[` + ok + `],"Extra":1}`, Identity, "Syntax errors"},
		{"unknown member of a statement", doc(`{"Effect":"Allow","Action":"ec2:*","Resource":"*","Extra":1}`), Identity, "Syntax errors"},
		{"wrong version", `{"Version":"2020-01-01","Statement":[` + ok + `]}`, Identity, "version 2012-10-17"},
		{"no effect", doc(`{"Action":"ec2:*","Resource":"*"}`), Identity, "Syntax errors"},
		{"wrong effect", doc(`{"Effect":"allow","Action":"ec2:*","Resource":"*"}`), Identity, "Syntax errors"},
		{"no action", doc(`{"Effect":"Allow","Resource":"*"}`), Identity, "must contain actions"},
		{"empty actions", doc(`{"Effect":"Allow","Action":[],"Resource":"*"}`), Identity, "must contain actions"},
		{"both actions", doc(`{"Effect":"Allow","Action":"ec2:*","NotAction":"ec2:*","Resource":"*"}`), Identity, "Syntax errors"},
		{"action without a vendor", doc(`{"Effect":"Allow","Action":"RunInstances","Resource":"*"}`), Identity, "prefaced by a vendor"},
		{"no resource", doc(`{"Effect":"Allow","Action":"ec2:*"}`), Identity, "must contain resources"},
		{"resource that is no ARN", doc(`{"Effect":"Allow","Action":"ec2:*","Resource":"i-1"}`), Identity, "must be in ARN format"},
		{"principal in an identity policy", doc(`{"Effect":"Allow","Action":"ec2:*","Resource":"*","Principal":"*"}`), Identity, "should not specify a principal"},
		{"same sid twice", doc(`{"Sid":"a","Effect":"Allow","Action":"ec2:*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"ec2:*","Resource":"*"}`), Identity, "must be unique"},
		{"sid with a space", doc(`{"Sid":"a b","Effect":"Allow","Action":"ec2:*","Resource":"*"}`), Identity, "alpha-numeric"},
		{"condition that is no object", doc(`{"Effect":"Allow","Action":"ec2:*","Resource":"*","Condition":"x"}`), Identity, "Syntax errors"},
		{"too long", doc(ok) + strings.Repeat(" ", MaxDocument), Identity, "longer than"},
		{"trust", doc(trust), Trust, ""},
		{"trust with a resource", doc(`{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}`), Trust, "prohibited field Resource"},
		{"trust without a principal", doc(`{"Effect":"Allow","Action":"sts:AssumeRole"}`), Trust, "Missing required field Principal"},
		{"trust of another action", doc(`{"Effect":"Allow","Principal":"*","Action":"ec2:RunInstances"}`), Trust, "STS AssumeRole actions"},
		{"trust in nobody", doc(`{"Effect":"Allow","Principal":{"AWS":"bob"},"Action":"sts:AssumeRole"}`), Trust, "Invalid principal"},
		{"trust in a strange service", doc(`{"Effect":"Allow","Principal":{"Service":"ec2"},"Action":"sts:AssumeRole"}`), Trust, "Invalid principal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text, tt.kind)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			f, ok := fault.As(err)
			if !ok || f.Code != "MalformedPolicyDocument" || !strings.Contains(f.Msg, tt.want) {
				t.Fatalf("got %v, want MalformedPolicyDocument with %q", err, tt.want)
			}
		})
	}
}

func TestEvaluate(t *testing.T) {
	const arn = "arn:aws:ec2:us-east-1:000000000000:instance/i-1"
	keys := map[string][]string{"aws:username": {"ann"}, "aws:sourceip": {"10.1.2.3"}, "aws:currenttime": {"2024-05-01T12:00:00Z"}, "ec2:resourcetag/team": {"red"},
		"aws:tagkeys": {"a", "b"}, "aws:multifactorauthpresent": {"false"}, "s3:max-keys": {"10"}, "aws:principalarn": {"arn:aws:iam::000000000000:user/x/ann"}}
	base := `"Effect":"Allow","Action":"ec2:TerminateInstances","Resource":"*"`
	cond := func(c string) string { return `{` + base + `,"Condition":{` + c + `}}` }
	for _, tt := range []struct {
		name, statements string
		want             Decision
	}{
		{"nothing said", `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, Implicit},
		{"allowed", `{` + base + `}`, Allowed},
		{"action in other case", `{"Effect":"Allow","Action":"EC2:terminateINSTANCES","Resource":"*"}`, Allowed},
		{"wildcards in the action", `{"Effect":"Allow","Action":"ec2:T*Inst?nces","Resource":"*"}`, Allowed},
		{"not action", `{"Effect":"Allow","NotAction":"ec2:Describe*","Resource":"*"}`, Allowed},
		{"deny wins", `{` + base + `},{"Effect":"Deny","Action":"*","Resource":"` + arn + `"}`, Denied},
		{"deny of another resource", `{` + base + `},{"Effect":"Deny","Action":"*","Resource":"` + arn + `0"}`, Allowed},
		{"resource with wildcards", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/*"}`, Allowed},
		{"resource in other case", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:INSTANCE/*"}`, Implicit},
		{"not resource", `{"Effect":"Allow","Action":"*","NotResource":"arn:aws:ec2:*:*:instance/*"}`, Implicit},
		{"string equals", cond(`"StringEquals":{"ec2:ResourceTag/team":"red"}`), Allowed},
		{"one of several values", cond(`"StringEquals":{"ec2:ResourceTag/team":["blue","red"]}`), Allowed},
		{"string differs", cond(`"StringEquals":{"ec2:ResourceTag/team":"RED"}`), Implicit},
		{"ignoring case", cond(`"StringEqualsIgnoreCase":{"ec2:ResourceTag/team":"RED"}`), Allowed},
		{"not equals, none of several", cond(`"StringNotEquals":{"ec2:ResourceTag/team":["blue","red"]}`), Implicit},
		{"not equals", cond(`"StringNotEquals":{"ec2:ResourceTag/team":["blue","green"]}`), Allowed},
		{"like", cond(`"StringLike":{"ec2:ResourceTag/team":"r*"}`), Allowed},
		{"equals takes wildcards as they are", cond(`"StringEquals":{"ec2:ResourceTag/team":"r*"}`), Implicit},
		{"missing key", cond(`"StringEquals":{"aws:nothing":"x"}`), Implicit},
		{"missing key, negated", cond(`"StringNotEquals":{"aws:nothing":"x"}`), Allowed},
		{"missing key, if exists", cond(`"StringEqualsIfExists":{"aws:nothing":"x"}`), Allowed},
		{"null of a missing key", cond(`"Null":{"aws:nothing":"true"}`), Allowed},
		{"null of a present key", cond(`"Null":{"ec2:ResourceTag/team":"true"}`), Implicit},
		{"not null", cond(`"Null":{"ec2:ResourceTag/team":false}`), Allowed},
		{"address", cond(`"IpAddress":{"aws:SourceIp":"10.1.0.0/16"}`), Allowed},
		{"other address", cond(`"IpAddress":{"aws:SourceIp":"10.2.0.0/16"}`), Implicit},
		{"not address", cond(`"NotIpAddress":{"aws:SourceIp":["10.2.0.0/16","10.1.2.3"]}`), Implicit},
		{"bool", cond(`"Bool":{"aws:MultiFactorAuthPresent":false}`), Allowed},
		{"number", cond(`"NumericLessThanEquals":{"s3:max-keys":10}`), Allowed},
		{"larger number", cond(`"NumericGreaterThan":{"s3:max-keys":"10"}`), Implicit},
		{"numbers that are none", cond(`"NumericEquals":{"ec2:ResourceTag/team":"red"}`), Implicit},
		{"date", cond(`"DateGreaterThan":{"aws:CurrentTime":"2024-01-01"},"DateLessThan":{"aws:CurrentTime":"2024-06-01T00:00:00Z"}`), Allowed},
		{"date over", cond(`"DateLessThan":{"aws:CurrentTime":"2024-01-01"}`), Implicit},
		{"arn", cond(`"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}`), Allowed},
		{"arn by its parts", cond(`"ArnLike":{"aws:PrincipalArn":"arn:aws:*:user/*"}`), Implicit},
		{"two keys, one not met", cond(`"StringEquals":{"ec2:ResourceTag/team":"red","aws:nothing":"x"}`), Implicit},
		{"for all values", cond(`"ForAllValues:StringEquals":{"aws:TagKeys":["a","b","c"]}`), Allowed},
		{"for all values, one too many", cond(`"ForAllValues:StringEquals":{"aws:TagKeys":["a"]}`), Implicit},
		{"for any value", cond(`"ForAnyValue:StringEquals":{"aws:TagKeys":["b"]}`), Allowed},
		{"for any value of none", cond(`"ForAnyValue:StringEquals":{"aws:nothing":["b"]}`), Implicit},
		{"unknown operator never allows", cond(`"StringResembles":{"ec2:ResourceTag/team":"red"}`), Implicit},
		{"unknown operator does not stop a deny", `{` + base + `},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringResembles":{"a:b":"c"}}}`, Denied},
		{"variable", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/*","Condition":{"StringEquals":{"aws:username":"${aws:username}"}}}`, Allowed},
		{"variable without a value", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:*/${aws:nothing}*"}`, Implicit},
		{"variable with a default", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/${aws:nothing, 'i-1'}"}`, Allowed},
		{"escaped star is a star", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/${*}"}`, Implicit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := parse(t, doc(tt.statements))
			if got := Evaluate([]*Document{d}, Request{Action: "ec2:TerminateInstances", Resource: arn, Keys: keys}); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestOldVersion: variables are texts before 2012-10-17.
func TestOldVersion(t *testing.T) {
	d := parse(t, `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/${aws:username}"}}`)
	r := Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/ann", Keys: map[string][]string{"aws:username": {"ann"}}}
	if got := Evaluate([]*Document{d}, r); got != Implicit {
		t.Errorf("expanded: %s", got)
	}
	r.Resource = "arn:aws:s3:::b/${aws:username}"
	if got := Evaluate([]*Document{d}, r); got != Allowed {
		t.Errorf("the text itself: %s", got)
	}
}

// TestValuesAreNoPatterns: what a principal calls itself is not read as a pattern.
func TestValuesAreNoPatterns(t *testing.T) {
	d := parse(t, doc(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/${aws:username}/*"}`))
	r := Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/bob/x", Keys: map[string][]string{"aws:username": {"*"}}}
	if got := Evaluate([]*Document{d}, r); got != Implicit {
		t.Errorf("a user named * reads bob's: %s", got)
	}
}

func TestTrust(t *testing.T) {
	ann := Principal{Account: "111111111111", ARNs: []string{"arn:aws:iam::111111111111:user/ann"}, IDs: []string{"AIDAX"}}
	ec2 := Principal{Service: "ec2.amazonaws.com"}
	for _, tt := range []struct {
		name, principal string
		p               Principal
		want            Decision
	}{
		{"service", `{"Service":"ec2.amazonaws.com"}`, ec2, Allowed},
		{"other service", `{"Service":"lambda.amazonaws.com"}`, ec2, Implicit},
		{"a service is not everybody of AWS", `{"AWS":"*"}`, ec2, Implicit},
		{"user", `{"AWS":"arn:aws:iam::111111111111:user/ann"}`, ann, Allowed},
		{"account", `{"AWS":"111111111111"}`, ann, Delegated},
		{"root of the account", `{"AWS":"arn:aws:iam::111111111111:root"}`, ann, Delegated},
		{"other account", `{"AWS":"222222222222"}`, ann, Implicit},
		{"everybody", `"*"`, ann, Allowed},
		{"user among others", `{"AWS":["222222222222","arn:aws:iam::111111111111:user/ann"]}`, ann, Allowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Parse(doc(`{"Effect":"Allow","Principal":`+tt.principal+`,"Action":"sts:AssumeRole"}`), Trust)
			if err != nil {
				t.Fatal(err)
			}
			if got := Evaluate([]*Document{d}, Request{Action: "sts:AssumeRole", Principal: tt.p}); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	all := []*Document{parse(t, doc(`{"Effect":"Allow","Action":"*","Resource":"*"}`))}
	read := []*Document{parse(t, doc(`{"Effect":"Allow","Action":"ec2:Describe*","Resource":"*"}`))}
	no := []*Document{parse(t, doc(`{"Effect":"Deny","Action":"ec2:*","Resource":"*"}`))}
	run := Request{Action: "ec2:RunInstances", Resource: "*"}
	for _, tt := range []struct {
		name string
		p    Policies
		want Decision
		by   string
	}{
		{"identity alone", Policies{Identity: all}, Allowed, ""},
		{"nothing", Policies{}, Implicit, ByIdentity},
		{"boundary limits", Policies{Identity: all, Bounded: true, Boundary: read}, Implicit, ByBoundary},
		{"boundary grants nothing", Policies{Bounded: true, Boundary: all}, Implicit, ByIdentity},
		{"lost boundary allows nothing", Policies{Identity: all, Bounded: true}, Implicit, ByBoundary},
		{"session limits", Policies{Identity: all, Sessioned: true, Session: read}, Implicit, BySession},
		{"deny in the session", Policies{Identity: all, Sessioned: true, Session: append(no, all...)}, Denied, BySession},
		{"deny in the boundary", Policies{Identity: all, Bounded: true, Boundary: append(no, all...)}, Denied, ByBoundary},
		{"all agree", Policies{Identity: all, Bounded: true, Boundary: all, Sessioned: true, Session: all}, Allowed, ""},
	} {
		if d, by := Decide(tt.p, run); d != tt.want || by != tt.by {
			t.Errorf("%s: %s by %q, want %s by %q", tt.name, d, by, tt.want, tt.by)
		}
	}
}

// TestGlobIsARegularExpression compares with the translation into one.
func TestGlobIsARegularExpression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringOfN(rapid.RuneFrom([]rune("ab:*?")), 0, 12, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab:")), 0, 12, -1).Draw(t, "text")
		re := regexp.MustCompile("^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(p)) + "$")
		if got, want := Glob(p, s), re.MatchString(s); got != want {
			t.Fatalf("Glob(%q, %q) = %v, want %v", p, s, got, want)
		}
	})
}

func statement() *rapid.Generator[Statement] {
	return rapid.Custom(func(t *rapid.T) Statement {
		pick := func(label string, of ...string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(of), 1, 3).Draw(t, label)
		}
		s := Statement{Effect: rapid.SampledFrom([]string{Allow, Deny}).Draw(t, "effect"), Actions: pick("actions", "*", "ec2:*", "ec2:Run*", "s3:Get?", "ec2:Stop"),
			Resources: pick("resources", "*", "arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:r:1:instance/i-1", "arn:aws:s3:::b")}
		if rapid.Bool().Draw(t, "conditional") {
			s.Conditions = []Condition{{Operator: rapid.SampledFrom([]string{"StringEquals", "StringNotLike", "Null", "Odd"}).Draw(t, "operator"), Key: "a:b", Values: pick("values", "x", "y", "true")}}
		}
		return s
	})
}

// TestLaws: a deny is final, more statements that allow never take away, and more that deny never give.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ss := rapid.SliceOfN(statement(), 0, 5).Draw(t, "statements")
		more := statement().Draw(t, "one more")
		r := Request{Action: rapid.SampledFrom([]string{"ec2:RunInstances", "ec2:Stop", "s3:Get1"}).Draw(t, "action"),
			Resource: rapid.SampledFrom([]string{"*", "arn:aws:ec2:r:1:instance/i-1", "arn:aws:s3:::b"}).Draw(t, "resource"), Keys: map[string][]string{"a:b": {rapid.SampledFrom([]string{"x", "z"}).Draw(t, "value")}}}
		eval := func(ss ...Statement) Decision {
			return Evaluate([]*Document{{Version: "2012-10-17", Statements: ss}}, r)
		}
		before, after := eval(ss...), eval(append(append([]Statement{}, ss...), more)...)
		if before == Denied && after != Denied {
			t.Fatalf("a deny was undone by %+v", more)
		}
		if more.Effect == Deny && before != Allowed && after == Allowed {
			t.Fatalf("a deny gave access: %+v", more)
		}
		if more.Effect == Allow && before == Allowed && after != Allowed {
			t.Fatalf("an allow took access: %+v", more)
		}
		split := make([]*Document, len(ss))
		for i := range ss {
			split[len(ss)-1-i] = &Document{Version: "2012-10-17", Statements: ss[i : i+1]}
		}
		if got := Evaluate(split, r); got != before {
			t.Fatalf("the order or the documents of statements matter: %s and %s", before, got)
		}
	})
}

// FuzzParse: whatever is read is a fault or a document that can be asked, and never allows what no statement names.
func FuzzParse(f *testing.F) {
	f.Add(doc(`{"Effect":"Allow","Action":"ec2:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8"]}}}`), false)
	f.Add(doc(`{"Effect":"Deny","Principal":{"AWS":["*"]},"Action":["sts:AssumeRole"]}`), true)
	f.Add(`{"Statement":{"Effect":"Allow","NotAction":"a:${x}","NotResource":"arn:aws:s3:::${aws:username, 'x'}*"}}`, false)
	f.Fuzz(func(t *testing.T, text string, trust bool) {
		kind := Identity
		if trust {
			kind = Trust
		}
		d, err := Parse(text, kind)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("an error that is no fault: %v", err)
			}
			return
		}
		r := Request{Action: "zz:Unheard", Resource: "arn:aws:zz:r:1:x/y", Keys: map[string][]string{"aws:username": {"u*"}, "aws:sourceip": {"10.0.0.1"}}}
		got := Evaluate([]*Document{d}, r)
		allows := false
		for _, s := range d.Statements {
			allows = allows || s.Effect == Allow
		}
		if got == Allowed && !allows {
			t.Fatal("allowed without a statement that allows")
		}
	})
}
