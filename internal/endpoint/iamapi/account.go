package iamapi

import (
	"slices"

	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/identity"
	"skerry/internal/store"
)

func (s *Server) registerAccount(m *api.Mux) {
	api.Handle(m, iam.GetAccountSummary, s.getAccountSummary)
	api.Handle(m, iam.GetAccountAuthorizationDetails, s.getAccountAuthorizationDetails)
	api.Handle(m, iam.CreateAccountAlias, s.createAccountAlias)
	api.Handle(m, iam.DeleteAccountAlias, s.deleteAccountAlias)
	api.Handle(m, iam.ListAccountAliases, s.listAccountAliases)
	api.Handle(m, iam.SimulateCustomPolicy, s.simulateCustomPolicy)
	api.Handle(m, iam.SimulatePrincipalPolicy, s.simulatePrincipalPolicy)
	// What this IAM never has: the lists are empty, and truly so.
	api.Handle(m, iam.ListMFADevices, func(*api.Call, *iam.ListMFADevicesRequest) (*iam.ListMFADevicesResponse, error) {
		return &iam.ListMFADevicesResponse{IsTruncated: api.Ptr(false), MFADevices: []iam.MFADevice{}}, nil
	})
	api.Handle(m, iam.ListVirtualMFADevices, func(*api.Call, *iam.ListVirtualMFADevicesRequest) (*iam.ListVirtualMFADevicesResponse, error) {
		return &iam.ListVirtualMFADevicesResponse{IsTruncated: api.Ptr(false), VirtualMFADevices: []iam.VirtualMFADevice{}}, nil
	})
	api.Handle(m, iam.ListSSHPublicKeys, func(*api.Call, *iam.ListSSHPublicKeysRequest) (*iam.ListSSHPublicKeysResponse, error) {
		return &iam.ListSSHPublicKeysResponse{IsTruncated: api.Ptr(false), SSHPublicKeys: []iam.SSHPublicKeyMetadata{}}, nil
	})
	api.Handle(m, iam.ListServerCertificates, func(*api.Call, *iam.ListServerCertificatesRequest) (*iam.ListServerCertificatesResponse, error) {
		return &iam.ListServerCertificatesResponse{IsTruncated: api.Ptr(false), ServerCertificateMetadataList: []iam.ServerCertificateMetadata{}}, nil
	})
	api.Handle(m, iam.ListServiceSpecificCredentials, func(*api.Call, *iam.ListServiceSpecificCredentialsRequest) (*iam.ListServiceSpecificCredentialsResponse, error) {
		return &iam.ListServiceSpecificCredentialsResponse{IsTruncated: api.Ptr(false), ServiceSpecificCredentials: []iam.ServiceSpecificCredentialMetadata{}}, nil
	})
	api.Handle(m, iam.ListSigningCertificates, func(*api.Call, *iam.ListSigningCertificatesRequest) (*iam.ListSigningCertificatesResponse, error) {
		return &iam.ListSigningCertificatesResponse{IsTruncated: api.Ptr(false), Certificates: []iam.SigningCertificate{}}, nil
	})
}

func (s *Server) getAccountSummary(c *api.Call, _ *iam.GetAccountSummaryInput) (*iam.GetAccountSummaryResponse, error) {
	m := map[string]int32{
		"UsersQuota": identity.MaxUsers, "GroupsQuota": identity.MaxGroups, "RolesQuota": identity.MaxRoles, "InstanceProfilesQuota": identity.MaxProfiles,
		"PoliciesQuota": identity.MaxPolicies, "AccessKeysPerUserQuota": identity.MaxAccessKeys, "AttachedPoliciesPerUserQuota": identity.MaxAttached,
		"AttachedPoliciesPerGroupQuota": identity.MaxAttached, "AttachedPoliciesPerRoleQuota": identity.MaxAttached, "VersionsPerPolicyQuota": identity.MaxVersions,
		"GroupsPerUserQuota": identity.MaxGroupsUser, "UserPolicySizeQuota": 2048, "GroupPolicySizeQuota": 5120, "RolePolicySizeQuota": 10240,
		"AssumeRolePolicySizeQuota": 2048, "PolicySizeQuota": 6144, "PolicyVersionsInUseQuota": 10000, "GlobalEndpointTokenVersion": 1,
		"MFADevices": 0, "MFADevicesInUse": 0, "AccountMFAEnabled": 0, "AccountSigningCertificatesPresent": 0, "ServerCertificates": 0, "ServerCertificatesQuota": 20,
		"SigningCertificatesPerUserQuota": 2, "Providers": 0, "AccountPasswordPresent": 0,
	}
	tx := c.DB.Read()
	m["Users"] = int32(len(identity.List(tx, identity.Users, c.Account)))
	m["Groups"] = int32(len(identity.List(tx, identity.Groups, c.Account)))
	m["Roles"] = int32(len(identity.List(tx, identity.Roles, c.Account)))
	m["InstanceProfiles"] = int32(len(identity.List(tx, identity.InstanceProfiles, c.Account)))
	ps := identity.List(tx, identity.ManagedPolicies, c.Account)
	m["Policies"] = int32(len(ps))
	for _, p := range ps {
		m["PolicyVersionsInUse"] += int32(len(p.Versions))
	}
	m["AccountAccessKeysPresent"] = int32(min(1, len(identity.KeysOf(tx, c.Account, ""))))
	return &iam.GetAccountSummaryResponse{SummaryMap: m}, nil
}

func (s *Server) createAccountAlias(c *api.Call, in *iam.CreateAccountAliasRequest) (*iam.CreateAccountAliasOutput, error) {
	return change[iam.CreateAccountAliasOutput](c, func(w *store.WriteTx) error {
		return identity.SetAlias(w, c.Account, api.Val(in.AccountAlias))
	})
}

func (s *Server) deleteAccountAlias(c *api.Call, in *iam.DeleteAccountAliasRequest) (*iam.DeleteAccountAliasOutput, error) {
	return change[iam.DeleteAccountAliasOutput](c, func(w *store.WriteTx) error {
		return identity.DeleteAlias(w, c.Account, api.Val(in.AccountAlias))
	})
}

func (s *Server) listAccountAliases(c *api.Call, _ *iam.ListAccountAliasesRequest) (*iam.ListAccountAliasesResponse, error) {
	out := &iam.ListAccountAliasesResponse{AccountAliases: []string{}, IsTruncated: api.Ptr(false)}
	if a, ok := identity.Aliases.Get(c.DB.Read(), c.Account); ok {
		out.AccountAliases = append(out.AccountAliases, a.Name)
	}
	return out, nil
}

// item is one entry of the authorization details, which are paged as one list.
type item struct {
	key string
	add func(out *iam.GetAccountAuthorizationDetailsResponse)
}

func (s *Server) getAccountAuthorizationDetails(c *api.Call, in *iam.GetAccountAuthorizationDetailsRequest) (*iam.GetAccountAuthorizationDetailsResponse, error) {
	out := &iam.GetAccountAuthorizationDetailsResponse{GroupDetailList: []iam.GroupDetail{}, Policies: []iam.ManagedPolicyDetail{}, RoleDetailList: []iam.RoleDetail{}, UserDetailList: []iam.UserDetail{}}
	return out, c.View(func(tx store.Tx) error {
		var all []item
		want := func(kind string) bool { return len(in.Filter) == 0 || slices.Contains(in.Filter, kind) }
		if want("Group") {
			for _, g := range identity.List(tx, identity.Groups, c.Account) {
				d := iam.GroupDetail{Arn: api.Ptr(g.ARN()), CreateDate: when(g.CreatedAt), GroupId: &g.ID, GroupName: &g.Name, Path: &g.Path,
					AttachedManagedPolicies: attachedPolicies(g.Attached), GroupPolicyList: inlineDetails(g.Grants)}
				all = append(all, item{"1" + lower(g.Name), func(o *iam.GetAccountAuthorizationDetailsResponse) { o.GroupDetailList = append(o.GroupDetailList, d) }})
			}
		}
		policies := []identity.ManagedPolicy{}
		if want("LocalManagedPolicy") {
			policies = append(policies, identity.List(tx, identity.ManagedPolicies, c.Account)...)
		}
		if want("AWSManagedPolicy") {
			policies = append(policies, identity.AWSPolicies()...)
		}
		for _, p := range policies {
			v := policyView(tx, c.Account, p, true)
			d := iam.ManagedPolicyDetail{Arn: v.Arn, AttachmentCount: v.AttachmentCount, CreateDate: v.CreateDate, DefaultVersionId: v.DefaultVersionId, Description: v.Description,
				IsAttachable: v.IsAttachable, Path: v.Path, PermissionsBoundaryUsageCount: v.PermissionsBoundaryUsageCount, PolicyId: v.PolicyId, PolicyName: v.PolicyName, UpdateDate: v.UpdateDate}
			for _, ver := range p.Versions {
				d.PolicyVersionList = append(d.PolicyVersionList, version(p, ver, true))
			}
			all = append(all, item{"2" + p.ARN(), func(o *iam.GetAccountAuthorizationDetailsResponse) { o.Policies = append(o.Policies, d) }})
		}
		if want("Role") {
			for _, r := range identity.List(tx, identity.Roles, c.Account) {
				d := roleDetail(tx, r)
				all = append(all, item{"3" + lower(r.Name), func(o *iam.GetAccountAuthorizationDetailsResponse) { o.RoleDetailList = append(o.RoleDetailList, d) }})
			}
		}
		if want("User") {
			for _, u := range identity.List(tx, identity.Users, c.Account) {
				d := iam.UserDetail{Arn: api.Ptr(u.ARN()), CreateDate: when(u.CreatedAt), UserId: &u.ID, UserName: &u.Name, Path: &u.Path, GroupList: u.Groups, Tags: tagList(u.Tags),
					AttachedManagedPolicies: attachedPolicies(u.Attached), UserPolicyList: inlineDetails(u.Grants), PermissionsBoundary: boundary(u.Boundary)}
				all = append(all, item{"4" + lower(u.Name), func(o *iam.GetAccountAuthorizationDetailsResponse) { o.UserDetailList = append(o.UserDetailList, d) }})
			}
		}
		slices.SortFunc(all, func(a, b item) int {
			if a.key < b.key {
				return -1
			}
			return 1
		})
		items, more, next, err := page(all, func(i item) string { return i.key }, in.Marker, in.MaxItems)
		for _, i := range items {
			i.add(out)
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func inlineDetails(g identity.Grants) []iam.PolicyDetail {
	var out []iam.PolicyDetail
	for _, n := range g.InlineNames() {
		out = append(out, iam.PolicyDetail{PolicyName: api.Ptr(n), PolicyDocument: document(g.Inline[n])})
	}
	return out
}

func roleDetail(tx store.Tx, r identity.Role) iam.RoleDetail {
	v := role(r, true)
	d := iam.RoleDetail{Arn: v.Arn, AssumeRolePolicyDocument: v.AssumeRolePolicyDocument, CreateDate: v.CreateDate, Path: v.Path, RoleId: v.RoleId, RoleName: v.RoleName,
		RoleLastUsed: v.RoleLastUsed, Tags: v.Tags, PermissionsBoundary: v.PermissionsBoundary, AttachedManagedPolicies: attachedPolicies(r.Attached), RolePolicyList: inlineDetails(r.Grants)}
	for _, p := range identity.ProfilesOf(tx, r) {
		d.InstanceProfileList = append(d.InstanceProfileList, profile(tx, p, false))
	}
	return d
}
