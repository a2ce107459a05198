package iamapi

import (
	"strings"

	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/identity"
	"skerry/internal/store"
)

// registerGrants adds what users, groups and roles have alike: inline policies, attached ones, and boundaries.
func (s *Server) registerGrants(m *api.Mux) {
	api.Handle(m, iam.PutUserPolicy, func(c *api.Call, in *iam.PutUserPolicyRequest) (*iam.PutUserPolicyOutput, error) {
		return change[iam.PutUserPolicyOutput](c, putInline(c, identity.OfUser, in.UserName, in.PolicyName, in.PolicyDocument))
	})
	api.Handle(m, iam.PutGroupPolicy, func(c *api.Call, in *iam.PutGroupPolicyRequest) (*iam.PutGroupPolicyOutput, error) {
		return change[iam.PutGroupPolicyOutput](c, putInline(c, identity.OfGroup, in.GroupName, in.PolicyName, in.PolicyDocument))
	})
	api.Handle(m, iam.PutRolePolicy, func(c *api.Call, in *iam.PutRolePolicyRequest) (*iam.PutRolePolicyOutput, error) {
		return change[iam.PutRolePolicyOutput](c, putInline(c, identity.OfRole, in.RoleName, in.PolicyName, in.PolicyDocument))
	})
	api.Handle(m, iam.DeleteUserPolicy, func(c *api.Call, in *iam.DeleteUserPolicyRequest) (*iam.DeleteUserPolicyOutput, error) {
		return change[iam.DeleteUserPolicyOutput](c, deleteInline(c, identity.OfUser, in.UserName, in.PolicyName))
	})
	api.Handle(m, iam.DeleteGroupPolicy, func(c *api.Call, in *iam.DeleteGroupPolicyRequest) (*iam.DeleteGroupPolicyOutput, error) {
		return change[iam.DeleteGroupPolicyOutput](c, deleteInline(c, identity.OfGroup, in.GroupName, in.PolicyName))
	})
	api.Handle(m, iam.DeleteRolePolicy, func(c *api.Call, in *iam.DeleteRolePolicyRequest) (*iam.DeleteRolePolicyOutput, error) {
		return change[iam.DeleteRolePolicyOutput](c, deleteInline(c, identity.OfRole, in.RoleName, in.PolicyName))
	})
	api.Handle(m, iam.GetUserPolicy, func(c *api.Call, in *iam.GetUserPolicyRequest) (*iam.GetUserPolicyResponse, error) {
		d, err := getInline(c, identity.OfUser, in.UserName, in.PolicyName)
		return &iam.GetUserPolicyResponse{UserName: in.UserName, PolicyName: in.PolicyName, PolicyDocument: d}, err
	})
	api.Handle(m, iam.GetGroupPolicy, func(c *api.Call, in *iam.GetGroupPolicyRequest) (*iam.GetGroupPolicyResponse, error) {
		d, err := getInline(c, identity.OfGroup, in.GroupName, in.PolicyName)
		return &iam.GetGroupPolicyResponse{GroupName: in.GroupName, PolicyName: in.PolicyName, PolicyDocument: d}, err
	})
	api.Handle(m, iam.GetRolePolicy, func(c *api.Call, in *iam.GetRolePolicyRequest) (*iam.GetRolePolicyResponse, error) {
		d, err := getInline(c, identity.OfRole, in.RoleName, in.PolicyName)
		return &iam.GetRolePolicyResponse{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: d}, err
	})
	api.Handle(m, iam.ListUserPolicies, func(c *api.Call, in *iam.ListUserPoliciesRequest) (out *iam.ListUserPoliciesResponse, err error) {
		out = &iam.ListUserPoliciesResponse{}
		out.PolicyNames, out.IsTruncated, out.Marker, err = inlineNames(c, identity.OfUser, in.UserName, in.Marker, in.MaxItems)
		return out, err
	})
	api.Handle(m, iam.ListGroupPolicies, func(c *api.Call, in *iam.ListGroupPoliciesRequest) (out *iam.ListGroupPoliciesResponse, err error) {
		out = &iam.ListGroupPoliciesResponse{}
		out.PolicyNames, out.IsTruncated, out.Marker, err = inlineNames(c, identity.OfGroup, in.GroupName, in.Marker, in.MaxItems)
		return out, err
	})
	api.Handle(m, iam.ListRolePolicies, func(c *api.Call, in *iam.ListRolePoliciesRequest) (out *iam.ListRolePoliciesResponse, err error) {
		out = &iam.ListRolePoliciesResponse{}
		out.PolicyNames, out.IsTruncated, out.Marker, err = inlineNames(c, identity.OfRole, in.RoleName, in.Marker, in.MaxItems)
		return out, err
	})
	s.registerAttached(m)
}

func (s *Server) registerAttached(m *api.Mux) {
	api.Handle(m, iam.AttachUserPolicy, func(c *api.Call, in *iam.AttachUserPolicyRequest) (*iam.AttachUserPolicyOutput, error) {
		return change[iam.AttachUserPolicyOutput](c, attach(c, identity.OfUser, in.UserName, in.PolicyArn))
	})
	api.Handle(m, iam.AttachGroupPolicy, func(c *api.Call, in *iam.AttachGroupPolicyRequest) (*iam.AttachGroupPolicyOutput, error) {
		return change[iam.AttachGroupPolicyOutput](c, attach(c, identity.OfGroup, in.GroupName, in.PolicyArn))
	})
	api.Handle(m, iam.AttachRolePolicy, func(c *api.Call, in *iam.AttachRolePolicyRequest) (*iam.AttachRolePolicyOutput, error) {
		return change[iam.AttachRolePolicyOutput](c, attach(c, identity.OfRole, in.RoleName, in.PolicyArn))
	})
	api.Handle(m, iam.DetachUserPolicy, func(c *api.Call, in *iam.DetachUserPolicyRequest) (*iam.DetachUserPolicyOutput, error) {
		return change[iam.DetachUserPolicyOutput](c, detach(c, identity.OfUser, in.UserName, in.PolicyArn))
	})
	api.Handle(m, iam.DetachGroupPolicy, func(c *api.Call, in *iam.DetachGroupPolicyRequest) (*iam.DetachGroupPolicyOutput, error) {
		return change[iam.DetachGroupPolicyOutput](c, detach(c, identity.OfGroup, in.GroupName, in.PolicyArn))
	})
	api.Handle(m, iam.DetachRolePolicy, func(c *api.Call, in *iam.DetachRolePolicyRequest) (*iam.DetachRolePolicyOutput, error) {
		return change[iam.DetachRolePolicyOutput](c, detach(c, identity.OfRole, in.RoleName, in.PolicyArn))
	})
	api.Handle(m, iam.ListAttachedUserPolicies, func(c *api.Call, in *iam.ListAttachedUserPoliciesRequest) (out *iam.ListAttachedUserPoliciesResponse, err error) {
		out = &iam.ListAttachedUserPoliciesResponse{}
		out.AttachedPolicies, out.IsTruncated, out.Marker, err = attachedList(c, identity.OfUser, in.UserName, in.PathPrefix, in.Marker, in.MaxItems)
		return out, err
	})
	api.Handle(m, iam.ListAttachedGroupPolicies, func(c *api.Call, in *iam.ListAttachedGroupPoliciesRequest) (out *iam.ListAttachedGroupPoliciesResponse, err error) {
		out = &iam.ListAttachedGroupPoliciesResponse{}
		out.AttachedPolicies, out.IsTruncated, out.Marker, err = attachedList(c, identity.OfGroup, in.GroupName, in.PathPrefix, in.Marker, in.MaxItems)
		return out, err
	})
	api.Handle(m, iam.ListAttachedRolePolicies, func(c *api.Call, in *iam.ListAttachedRolePoliciesRequest) (out *iam.ListAttachedRolePoliciesResponse, err error) {
		out = &iam.ListAttachedRolePoliciesResponse{}
		out.AttachedPolicies, out.IsTruncated, out.Marker, err = attachedList(c, identity.OfRole, in.RoleName, in.PathPrefix, in.Marker, in.MaxItems)
		return out, err
	})
	api.Handle(m, iam.PutUserPermissionsBoundary, func(c *api.Call, in *iam.PutUserPermissionsBoundaryRequest) (*iam.PutUserPermissionsBoundaryOutput, error) {
		return change[iam.PutUserPermissionsBoundaryOutput](c, setBoundary(c, identity.OfUser, in.UserName, in.PermissionsBoundary))
	})
	api.Handle(m, iam.PutRolePermissionsBoundary, func(c *api.Call, in *iam.PutRolePermissionsBoundaryRequest) (*iam.PutRolePermissionsBoundaryOutput, error) {
		return change[iam.PutRolePermissionsBoundaryOutput](c, setBoundary(c, identity.OfRole, in.RoleName, in.PermissionsBoundary))
	})
	api.Handle(m, iam.DeleteUserPermissionsBoundary, func(c *api.Call, in *iam.DeleteUserPermissionsBoundaryRequest) (*iam.DeleteUserPermissionsBoundaryOutput, error) {
		return change[iam.DeleteUserPermissionsBoundaryOutput](c, setBoundary(c, identity.OfUser, in.UserName, nil))
	})
	api.Handle(m, iam.DeleteRolePermissionsBoundary, func(c *api.Call, in *iam.DeleteRolePermissionsBoundaryRequest) (*iam.DeleteRolePermissionsBoundaryOutput, error) {
		return change[iam.DeleteRolePermissionsBoundaryOutput](c, setBoundary(c, identity.OfRole, in.RoleName, nil))
	})
}

type txFunc = func(w *store.WriteTx) error

func putInline(c *api.Call, h identity.Holder, name, policy, doc *string) txFunc {
	return func(w *store.WriteTx) error {
		return identity.PutInline(w, h, c.Account, api.Val(name), api.Val(policy), api.Val(doc))
	}
}

func deleteInline(c *api.Call, h identity.Holder, name, policy *string) txFunc {
	return func(w *store.WriteTx) error {
		return identity.DeleteInline(w, h, c.Account, api.Val(name), api.Val(policy))
	}
}

func getInline(c *api.Call, h identity.Holder, name, policy *string) (*string, error) {
	d, err := identity.GetInline(c.DB.Read(), h, c.Account, api.Val(name), api.Val(policy))
	return document(d), err
}

func inlineNames(c *api.Call, h identity.Holder, name, marker *string, most *int32) ([]string, *bool, *string, error) {
	g, err := identity.GrantsOf(c.DB.Read(), h, c.Account, api.Val(name))
	if err != nil {
		return nil, nil, nil, err
	}
	return page(g.InlineNames(), same, marker, most)
}

func attach(c *api.Call, h identity.Holder, name, arn *string) txFunc {
	return func(w *store.WriteTx) error { return identity.Attach(w, h, c.Account, api.Val(name), api.Val(arn)) }
}

func detach(c *api.Call, h identity.Holder, name, arn *string) txFunc {
	return func(w *store.WriteTx) error { return identity.Detach(w, h, c.Account, api.Val(name), api.Val(arn)) }
}

func setBoundary(c *api.Call, h identity.Holder, name, arn *string) txFunc {
	return func(w *store.WriteTx) error {
		return identity.SetBoundary(w, h, c.Account, api.Val(name), api.Val(arn))
	}
}

func attachedList(c *api.Call, h identity.Holder, name, prefix, marker *string, most *int32) ([]iam.AttachedPolicy, *bool, *string, error) {
	g, err := identity.GrantsOf(c.DB.Read(), h, c.Account, api.Val(name))
	if err != nil {
		return nil, nil, nil, err
	}
	arns := under(append([]string{}, g.Attached...), pathOf, prefix)
	arns, more, next, err := page(arns, same, marker, most)
	return attachedPolicies(arns), more, next, err
}

// pathOf is the path in a policy's ARN.
func pathOf(arn string) string {
	_, rest, _ := strings.Cut(arn, ":policy/")
	return "/" + rest[:strings.LastIndex(rest, "/")+1]
}

func attachedPolicies(arns []string) []iam.AttachedPolicy {
	out := []iam.AttachedPolicy{}
	for _, a := range arns {
		out = append(out, iam.AttachedPolicy{PolicyArn: api.Ptr(a), PolicyName: api.Ptr(a[strings.LastIndex(a, "/")+1:])})
	}
	return out
}
