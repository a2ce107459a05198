package iamapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"skerry/api"
	apiiam "skerry/api/iam"
	apists "skerry/api/sts"
	"skerry/internal/access"
	"skerry/internal/awsclient"
	"skerry/internal/endpoint/iamapi"
	"skerry/internal/endpoint/stsapi"
	"skerry/internal/gateway"
	"skerry/internal/identity"
	"skerry/internal/store"
)

// cloud is IAM and STS behind a real gateway, on loopback.
type cloud struct {
	t   *testing.T
	db  *store.DB
	url string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := api.NewMux(&apiiam.Service, &apists.Service)
	(&iamapi.Server{DB: db}).Register(m)
	(&stsapi.Server{DB: db}).Register(m)
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: db,
		Credentials: func(id string, r *http.Request) (gateway.Credential, error) {
			if k, err := identity.Lookup(db.Read(), id); err == nil {
				return gateway.Credential{AccessKeyID: id, Secret: k.Secret, SessionToken: k.SessionToken, Principal: api.Principal(k.Principal)}, nil
			}
			return gateway.WellKnown(id, r)
		},
		Permit: (&access.Checker{DB: db}).Permit, Authorize: (&access.Checker{DB: db}).Authorize}))
	t.Cleanup(func() { srv.Close(); db.Close() })
	return &cloud{t, db, srv.URL}
}

func (c *cloud) config(id, secret, token string) aws.Config {
	return awsclient.Config(c.url, "eu-west-1", id, secret, token)
}

func (c *cloud) root() *iam.Client { return iam.NewFromConfig(c.config("skerry", "skerry", "")) }

// refused checks an error's code and a part of its message.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// TestInstanceProfile is what the reference architecture and Terraform do with a role.
func TestInstanceProfile(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx, i := context.Background(), c.root()
	p := aws.String
	made, err := i.CreateRole(ctx, &iam.CreateRoleInput{RoleName: p("web"), AssumeRolePolicyDocument: p(trust), Tags: []types.Tag{{Key: p("k"), Value: p("v")}}})
	if err != nil {
		t.Fatal(err)
	}
	if *made.Role.Arn != "arn:aws:iam::000000000000:role/web" || !strings.HasPrefix(*made.Role.RoleId, "AROA") || *made.Role.MaxSessionDuration != 3600 {
		t.Errorf("made %+v", made.Role)
	}
	_, err = i.CreateRole(ctx, &iam.CreateRoleInput{RoleName: p("web"), AssumeRolePolicyDocument: p(trust)})
	refused(t, err, "EntityAlreadyExists", "Role with name web already exists.")
	_, err = i.CreateRole(ctx, &iam.CreateRoleInput{RoleName: p("x"), AssumeRolePolicyDocument: p("{")})
	refused(t, err, "MalformedPolicyDocument", "invalid Json")
	got, err := i.GetRole(ctx, &iam.GetRoleInput{RoleName: p("web")})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := url.PathUnescape(*got.Role.AssumeRolePolicyDocument); err != nil || d != trust {
		t.Errorf("the trust policy came back as %q, %v", d, err)
	}
	if len(got.Role.Tags) != 1 || *got.Role.Tags[0].Value != "v" {
		t.Errorf("tags %+v", got.Role.Tags)
	}
	if _, err := i.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: p("web")}); err != nil {
		t.Fatal(err)
	}
	add := &iam.AddRoleToInstanceProfileInput{InstanceProfileName: p("web"), RoleName: p("web")}
	if _, err := i.AddRoleToInstanceProfile(ctx, add); err != nil {
		t.Fatal(err)
	}
	_, err = i.AddRoleToInstanceProfile(ctx, add)
	refused(t, err, "LimitExceeded", "InstanceSessionsPerInstanceProfile")
	prof, err := i.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: p("web")})
	if err != nil || len(prof.InstanceProfile.Roles) != 1 || *prof.InstanceProfile.Roles[0].RoleName != "web" {
		t.Fatalf("the profile: %+v %v", prof, err)
	}
	of, err := i.ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: p("web")})
	if err != nil || len(of.InstanceProfiles) != 1 {
		t.Fatalf("profiles of the role: %+v %v", of, err)
	}
	_, err = i.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: p("web")})
	refused(t, err, "DeleteConflict", "must remove roles from instance profile first")
	if _, err := i.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: p("web"), RoleName: p("web")}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: p("web")}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: p("web")}); err != nil {
		t.Fatal(err)
	}
	_, err = i.GetRole(ctx, &iam.GetRoleInput{RoleName: p("web")})
	refused(t, err, "NoSuchEntity", "The role with name web cannot be found.")
	_, err = i.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: p("web")})
	refused(t, err, "NoSuchEntity", "Instance Profile web cannot be found.")
}

// TestUserIsLimited: a user's key works, and only for what its policies allow.
func TestUserIsLimited(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx, i := context.Background(), c.root()
	p := aws.String
	if _, err := i.CreateUser(ctx, &iam.CreateUserInput{UserName: p("ann")}); err != nil {
		t.Fatal(err)
	}
	key, err := i.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: p("ann")})
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.config(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, "")
	ann, annSTS := iam.NewFromConfig(cfg), sts.NewFromConfig(cfg)
	who, err := annSTS.GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:iam::000000000000:user/ann" || !strings.HasPrefix(*who.UserId, "AIDA") {
		t.Fatalf("who: %+v %v", who, err)
	}
	_, err = ann.ListUsers(ctx, nil)
	refused(t, err, "AccessDenied", "User: arn:aws:iam::000000000000:user/ann is not authorized to perform: iam:ListUsers")
	if _, err := i.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: p("ann"), PolicyArn: p("arn:aws:iam::aws:policy/IAMReadOnlyAccess")}); err != nil {
		t.Fatal(err)
	}
	if us, err := ann.ListUsers(ctx, nil); err != nil || len(us.Users) != 1 {
		t.Fatalf("with the policy: %+v %v", us, err)
	}
	if me, err := ann.GetUser(ctx, nil); err != nil || *me.User.UserName != "ann" {
		t.Errorf("GetUser without a name: %+v %v", me, err)
	}
	_, err = ann.DeleteUser(ctx, &iam.DeleteUserInput{UserName: p("ann")})
	refused(t, err, "AccessDenied", "iam:DeleteUser")
	if _, err := i.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: p("ann"), PolicyName: p("no"), PolicyDocument: p(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:ListUsers","Resource":"*"}]}`)}); err != nil {
		t.Fatal(err)
	}
	_, err = ann.ListUsers(ctx, nil)
	refused(t, err, "AccessDenied", "with an explicit deny in an identity-based policy")

	_, err = annSTS.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: key.AccessKey.AccessKeyId})
	refused(t, err, "AccessDenied", "sts:GetAccessKeyInfo")
	info, err := sts.NewFromConfig(c.config("skerry", "skerry", "")).GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: key.AccessKey.AccessKeyId})
	if err != nil || *info.Account != "000000000000" {
		t.Errorf("the key's account: %+v %v", info, err)
	}
	tok, err := annSTS.GetSessionToken(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	temp := sts.NewFromConfig(c.config(*tok.Credentials.AccessKeyId, *tok.Credentials.SecretAccessKey, *tok.Credentials.SessionToken))
	if who, err := temp.GetCallerIdentity(ctx, nil); err != nil || *who.Arn != "arn:aws:iam::000000000000:user/ann" {
		t.Errorf("temporary credentials: %+v %v", who, err)
	}
	wrong := sts.NewFromConfig(c.config(*tok.Credentials.AccessKeyId, *tok.Credentials.SecretAccessKey, "wrong"))
	_, err = wrong.GetCallerIdentity(ctx, nil)
	refused(t, err, "InvalidClientTokenId", "invalid")
	if _, err := i.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: p("ann"), AccessKeyId: key.AccessKey.AccessKeyId, Status: types.StatusTypeInactive}); err != nil {
		t.Fatal(err)
	}
	_, err = annSTS.GetCallerIdentity(ctx, nil)
	refused(t, err, "InvalidClientTokenId", "invalid")
}

// TestAssumeRole goes through STS with the SDK and comes back as the role.
func TestAssumeRole(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx, i := context.Background(), c.root()
	p := aws.String
	if _, err := i.CreateUser(ctx, &iam.CreateUserInput{UserName: p("ann")}); err != nil {
		t.Fatal(err)
	}
	key, err := i.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: p("ann")})
	if err != nil {
		t.Fatal(err)
	}
	annTrust := strings.NewReplacer(`"Service":"ec2.amazonaws.com"`, `"AWS":"arn:aws:iam::000000000000:user/ann"`, `"sts:AssumeRole"`, `["sts:AssumeRole","sts:TagSession"]`).Replace(trust)
	if _, err := i.CreateRole(ctx, &iam.CreateRoleInput{RoleName: p("ops"), AssumeRolePolicyDocument: &annTrust}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: p("ops"), PolicyArn: p("arn:aws:iam::aws:policy/AdministratorAccess")}); err != nil {
		t.Fatal(err)
	}
	ann := sts.NewFromConfig(c.config(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, ""))
	arn := p("arn:aws:iam::000000000000:role/ops")
	got, err := ann.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: arn, RoleSessionName: p("job"), Policy: p(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:List*","Resource":"*"}]}`),
		Tags: []ststypes.Tag{{Key: p("team"), Value: p("red")}}})
	if err != nil {
		t.Fatal(err)
	}
	if *got.AssumedRoleUser.Arn != "arn:aws:sts::000000000000:assumed-role/ops/job" || *got.PackedPolicySize < 1 {
		t.Errorf("got %+v", got)
	}
	job := iam.NewFromConfig(c.config(*got.Credentials.AccessKeyId, *got.Credentials.SecretAccessKey, *got.Credentials.SessionToken))
	if _, err := job.ListUsers(ctx, nil); err != nil {
		t.Error(err)
	}
	_, err = job.CreateUser(ctx, &iam.CreateUserInput{UserName: p("eve")})
	refused(t, err, "AccessDenied", "because no session policy allows the iam:CreateUser action")
	_, err = sts.NewFromConfig(c.config("skerry", "skerry", "")).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: arn, RoleSessionName: p("job")})
	refused(t, err, "AccessDenied", "may not be assumed by root")
	_, err = ann.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: arn, RoleSessionName: p("job"), TokenCode: p("123456"), SerialNumber: p("arn:aws:iam::000000000000:mfa/x")})
	refused(t, err, "AccessDenied", "MultiFactorAuthentication")
}

// TestPages walks lists by small pages.
func TestPages(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx, i := context.Background(), c.root()
	p := aws.String
	for _, n := range []string{"b", "A", "d", "c", "e"} {
		if _, err := i.CreateUser(ctx, &iam.CreateUserInput{UserName: &n, Path: p("/" + strings.ToLower(n) + "/")}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := iam.NewListUsersPaginator(i, &iam.ListUsersInput{MaxItems: aws.Int32(2)})
	for n := 0; pages.HasMorePages(); n++ {
		page, err := pages.NextPage(ctx)
		if err != nil || n > 3 {
			t.Fatal(n, err)
		}
		for _, u := range page.Users {
			names = append(names, *u.UserName)
		}
	}
	if strings.Join(names, "") != "Abcde" {
		t.Errorf("pages gave %v", names)
	}
	_, err := i.ListUsers(ctx, &iam.ListUsersInput{Marker: p("nonsense")})
	refused(t, err, "ValidationError", "Marker")
	one, err := i.ListUsers(ctx, &iam.ListUsersInput{PathPrefix: p("/c/")})
	if err != nil || len(one.Users) != 1 || *one.Users[0].UserName != "c" {
		t.Errorf("by path: %+v %v", one, err)
	}
	all := 0
	ps := iam.NewListPoliciesPaginator(i, &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeAws, MaxItems: aws.Int32(7)})
	for ps.HasMorePages() {
		page, err := ps.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		all += len(page.Policies)
	}
	if all != len(identity.AWSPolicies()) {
		t.Errorf("%d policies of AWS by pages, there are %d", all, len(identity.AWSPolicies()))
	}
}

// TestPolicies is a managed policy's life.
func TestPolicies(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx, i := context.Background(), c.root()
	p := aws.String
	doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:*","Resource":"*"}]}`
	made, err := i.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: p("pol"), PolicyDocument: &doc, Description: p("d")})
	if err != nil {
		t.Fatal(err)
	}
	arn := made.Policy.Arn
	if v, err := i.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: &doc, SetAsDefault: true}); err != nil || *v.PolicyVersion.VersionId != "v2" || !v.PolicyVersion.IsDefaultVersion {
		t.Fatalf("the second version: %+v %v", v, err)
	}
	vs, err := i.ListPolicyVersions(ctx, &iam.ListPolicyVersionsInput{PolicyArn: arn})
	if err != nil || len(vs.Versions) != 2 || *vs.Versions[0].VersionId != "v2" {
		t.Fatalf("versions: %+v %v", vs, err)
	}
	got, err := i.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: p("v1")})
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := url.PathUnescape(*got.PolicyVersion.Document); d != doc {
		t.Errorf("the document came back as %q", d)
	}
	if _, err := i.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: p("g")}); err != nil {
		t.Fatal(err)
	}
	if _, err := i.AttachGroupPolicy(ctx, &iam.AttachGroupPolicyInput{GroupName: p("g"), PolicyArn: arn}); err != nil {
		t.Fatal(err)
	}
	who, err := i.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{PolicyArn: arn})
	if err != nil || len(who.PolicyGroups) != 1 || len(who.PolicyRoles)+len(who.PolicyUsers) != 0 {
		t.Fatalf("entities: %+v %v", who, err)
	}
	pol, err := i.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})
	if err != nil || *pol.Policy.AttachmentCount != 1 || *pol.Policy.DefaultVersionId != "v2" {
		t.Fatalf("the policy: %+v %v", pol, err)
	}
	_, err = i.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: arn})
	refused(t, err, "DeleteConflict", "attached")
	sum, err := i.GetAccountSummary(ctx, nil)
	if err != nil || sum.SummaryMap["Groups"] != 1 || sum.SummaryMap["Policies"] != 1 || sum.SummaryMap["PolicyVersionsInUse"] != 2 {
		t.Fatalf("the summary: %+v %v", sum, err)
	}
	all, err := i.GetAccountAuthorizationDetails(ctx, &iam.GetAccountAuthorizationDetailsInput{Filter: []types.EntityType{types.EntityTypeGroup, types.EntityTypeLocalManagedPolicy}})
	if err != nil || len(all.GroupDetailList) != 1 || len(all.Policies) != 1 || len(all.Policies[0].PolicyVersionList) != 2 {
		t.Fatalf("the details: %+v %v", all, err)
	}
}

// TestSimulate asks what policies would decide.
func TestSimulate(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx, i := context.Background(), c.root()
	p := aws.String
	made, err := i.CreateRole(ctx, &iam.CreateRoleInput{RoleName: p("r"), Path: p("/x/"), AssumeRolePolicyDocument: p(trust)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: p("r"), PolicyArn: p("arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess")}); err != nil {
		t.Fatal(err)
	}
	got, err := i.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: made.Role.Arn, ActionNames: []string{"ec2:DescribeInstances", "ec2:RunInstances"},
		PolicyInputList: []string{`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ec2:DescribeInstances","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}}]}`},
		ContextEntries:  []types.ContextEntry{{ContextKeyName: p("aws:RequestedRegion"), ContextKeyType: types.ContextKeyTypeEnumString, ContextKeyValues: []string{"eu-west-1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if r := got.EvaluationResults; len(r) != 2 || r[0].EvalDecision != "explicitDeny" || r[1].EvalDecision != "implicitDeny" {
		t.Errorf("decided %+v", r)
	}
	custom, err := i.SimulateCustomPolicy(ctx, &iam.SimulateCustomPolicyInput{ActionNames: []string{"s3:GetObject"}, ResourceArns: []string{"arn:aws:s3:::a/1", "arn:aws:s3:::b/1"},
		PolicyInputList: []string{`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::a/*"}]}`}})
	if err != nil || len(custom.EvaluationResults) != 2 || custom.EvaluationResults[0].EvalDecision != "allowed" || custom.EvaluationResults[1].EvalDecision != "implicitDeny" {
		t.Errorf("decided %+v, %v", custom, err)
	}
	_, err = i.SimulateCustomPolicy(ctx, &iam.SimulateCustomPolicyInput{ActionNames: []string{"s3:GetObject"}, PolicyInputList: []string{"{"}})
	refused(t, err, "InvalidInput", "Json")
	_, err = i.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: p("arn:aws:iam::000000000000:user/nobody"), ActionNames: []string{"s3:GetObject"}})
	refused(t, err, "NoSuchEntity", "nobody")
}
