package iamapi

import (
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/identity"
	"skerry/internal/store"
)

func (s *Server) registerPolicies(m *api.Mux) {
	api.Handle(m, iam.CreatePolicy, s.createPolicy)
	api.Handle(m, iam.GetPolicy, s.getPolicy)
	api.Handle(m, iam.ListPolicies, s.listPolicies)
	api.Handle(m, iam.DeletePolicy, s.deletePolicy)
	api.Handle(m, iam.CreatePolicyVersion, s.createPolicyVersion)
	api.Handle(m, iam.GetPolicyVersion, s.getPolicyVersion)
	api.Handle(m, iam.ListPolicyVersions, s.listPolicyVersions)
	api.Handle(m, iam.SetDefaultPolicyVersion, s.setDefaultPolicyVersion)
	api.Handle(m, iam.DeletePolicyVersion, s.deletePolicyVersion)
	api.Handle(m, iam.ListEntitiesForPolicy, s.listEntitiesForPolicy)
	api.Handle(m, iam.TagPolicy, s.tagPolicy)
	api.Handle(m, iam.UntagPolicy, s.untagPolicy)
	api.Handle(m, iam.ListPolicyTags, s.listPolicyTags)
}

func policyView(tx store.Tx, account string, p identity.ManagedPolicy, full bool) iam.Policy {
	out := iam.Policy{Arn: api.Ptr(p.ARN()), AttachmentCount: api.Ptr(int32(identity.UsersOf(tx, account, p.ARN(), false).Len())), CreateDate: when(p.CreatedAt),
		DefaultVersionId: &p.Default, IsAttachable: api.Ptr(true), Path: &p.Path, PermissionsBoundaryUsageCount: api.Ptr(int32(identity.UsersOf(tx, account, p.ARN(), true).Len())),
		PolicyId: &p.ID, PolicyName: &p.Name, UpdateDate: when(p.UpdatedAt)}
	if full {
		out.Description, out.Tags = str(p.Description), tagList(p.Tags)
	}
	return out
}

func version(p identity.ManagedPolicy, v identity.Version, doc bool) iam.PolicyVersion {
	out := iam.PolicyVersion{CreateDate: when(v.CreatedAt), IsDefaultVersion: api.Ptr(v.ID == p.Default), VersionId: &v.ID}
	if doc {
		out.Document = document(v.Document)
	}
	return out
}

func (s *Server) createPolicy(c *api.Call, in *iam.CreatePolicyRequest) (*iam.CreatePolicyResponse, error) {
	out := &iam.CreatePolicyResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		p, err := identity.CreatePolicy(w, c.Account, api.Val(in.PolicyName), api.Val(in.Path), api.Val(in.Description), api.Val(in.PolicyDocument), tagMap(in.Tags))
		if err == nil {
			out.Policy = api.Ptr(policyView(w, c.Account, p, true))
		}
		return err
	})
}

func (s *Server) getPolicy(c *api.Call, in *iam.GetPolicyRequest) (*iam.GetPolicyResponse, error) {
	out := &iam.GetPolicyResponse{}
	return out, c.View(func(tx store.Tx) error {
		p, err := identity.GetPolicy(tx, c.Account, api.Val(in.PolicyArn))
		if err == nil {
			out.Policy = api.Ptr(policyView(tx, c.Account, p, true))
		}
		return err
	})
}

func (s *Server) listPolicies(c *api.Call, in *iam.ListPoliciesRequest) (*iam.ListPoliciesResponse, error) {
	out := &iam.ListPoliciesResponse{Policies: []iam.Policy{}}
	return out, c.View(func(tx store.Tx) error {
		var all []identity.ManagedPolicy
		if sc := api.Val(in.Scope); sc != "AWS" {
			all = identity.List(tx, identity.ManagedPolicies, c.Account)
		}
		if sc := api.Val(in.Scope); sc != "Local" {
			all = append(all, identity.AWSPolicies()...)
		}
		boundary := api.Val(in.PolicyUsageFilter) == "PermissionsBoundary"
		all = slices.DeleteFunc(all, func(p identity.ManagedPolicy) bool {
			return !strings.HasPrefix(p.Path, api.Val(in.PathPrefix)) || ((api.Val(in.OnlyAttached) || in.PolicyUsageFilter != nil) && identity.UsersOf(tx, c.Account, p.ARN(), boundary).Len() == 0)
		})
		slices.SortFunc(all, func(a, b identity.ManagedPolicy) int { return strings.Compare(a.ARN(), b.ARN()) })
		ps, more, next, err := page(all, func(p identity.ManagedPolicy) string { return p.ARN() }, in.Marker, in.MaxItems)
		for _, p := range ps {
			out.Policies = append(out.Policies, policyView(tx, c.Account, p, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) deletePolicy(c *api.Call, in *iam.DeletePolicyRequest) (*iam.DeletePolicyOutput, error) {
	return change[iam.DeletePolicyOutput](c, func(w *store.WriteTx) error { return identity.DeletePolicy(w, c.Account, api.Val(in.PolicyArn)) })
}

func (s *Server) createPolicyVersion(c *api.Call, in *iam.CreatePolicyVersionRequest) (*iam.CreatePolicyVersionResponse, error) {
	out := &iam.CreatePolicyVersionResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		p, v, err := identity.CreatePolicyVersion(w, c.Account, api.Val(in.PolicyArn), api.Val(in.PolicyDocument), api.Val(in.SetAsDefault))
		out.PolicyVersion = api.Ptr(version(p, v, false))
		return err
	})
}

func (s *Server) getPolicyVersion(c *api.Call, in *iam.GetPolicyVersionRequest) (*iam.GetPolicyVersionResponse, error) {
	out := &iam.GetPolicyVersionResponse{}
	return out, c.View(func(tx store.Tx) error {
		p, err := identity.GetPolicy(tx, c.Account, api.Val(in.PolicyArn))
		if err != nil {
			return err
		}
		v, err := p.Version(api.Val(in.VersionId))
		out.PolicyVersion = api.Ptr(version(p, v, true))
		return err
	})
}

func (s *Server) listPolicyVersions(c *api.Call, in *iam.ListPolicyVersionsRequest) (*iam.ListPolicyVersionsResponse, error) {
	out := &iam.ListPolicyVersionsResponse{Versions: []iam.PolicyVersion{}}
	return out, c.View(func(tx store.Tx) error {
		p, err := identity.GetPolicy(tx, c.Account, api.Val(in.PolicyArn))
		if err != nil {
			return err
		}
		newest := slices.Clone(p.Versions)
		slices.Reverse(newest)
		// A policy has five versions at most, so a page of less is cut by position; the order of ids would be wrong.
		at := map[string]string{}
		for i, v := range newest {
			at[v.ID] = string(rune('a' + i))
		}
		vs, more, next, err := page(newest, func(v identity.Version) string { return at[v.ID] }, in.Marker, in.MaxItems)
		for _, v := range vs {
			out.Versions = append(out.Versions, version(p, v, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) setDefaultPolicyVersion(c *api.Call, in *iam.SetDefaultPolicyVersionRequest) (*iam.SetDefaultPolicyVersionOutput, error) {
	return change[iam.SetDefaultPolicyVersionOutput](c, func(w *store.WriteTx) error {
		return identity.SetDefaultPolicyVersion(w, c.Account, api.Val(in.PolicyArn), api.Val(in.VersionId))
	})
}

func (s *Server) deletePolicyVersion(c *api.Call, in *iam.DeletePolicyVersionRequest) (*iam.DeletePolicyVersionOutput, error) {
	return change[iam.DeletePolicyVersionOutput](c, func(w *store.WriteTx) error {
		return identity.DeletePolicyVersion(w, c.Account, api.Val(in.PolicyArn), api.Val(in.VersionId))
	})
}

func (s *Server) listEntitiesForPolicy(c *api.Call, in *iam.ListEntitiesForPolicyRequest) (*iam.ListEntitiesForPolicyResponse, error) {
	out := &iam.ListEntitiesForPolicyResponse{PolicyGroups: []iam.PolicyGroup{}, PolicyRoles: []iam.PolicyRole{}, PolicyUsers: []iam.PolicyUser{}}
	return out, c.View(func(tx store.Tx) error {
		arn := api.Val(in.PolicyArn)
		if _, err := identity.GetPolicy(tx, c.Account, arn); err != nil {
			return err
		}
		var all []entity
		for _, b := range []bool{false, true} {
			if f := api.Val(in.PolicyUsageFilter); f != "" && (f == "PermissionsBoundary") != b {
				continue
			}
			u := identity.UsersOf(tx, c.Account, arn, b)
			for _, v := range u.Groups {
				all = append(all, entity{"Group", v.Entity})
			}
			for _, v := range u.Roles {
				all = append(all, entity{"Role", v.Entity})
			}
			for _, v := range u.Users {
				all = append(all, entity{"User", v.Entity})
			}
		}
		all = slices.DeleteFunc(all, func(e entity) bool {
			f := api.Val(in.EntityFilter)
			return (f != "" && f != e.kind) || !strings.HasPrefix(e.Path, api.Val(in.PathPrefix))
		})
		slices.SortFunc(all, func(a, b entity) int { return strings.Compare(a.key(), b.key()) })
		all = slices.CompactFunc(all, func(a, b entity) bool { return a.key() == b.key() })
		es, more, next, err := page(all, entity.key, in.Marker, in.MaxItems)
		for _, e := range es {
			switch e.kind {
			case "Group":
				out.PolicyGroups = append(out.PolicyGroups, iam.PolicyGroup{GroupId: &e.ID, GroupName: &e.Name})
			case "Role":
				out.PolicyRoles = append(out.PolicyRoles, iam.PolicyRole{RoleId: &e.ID, RoleName: &e.Name})
			default:
				out.PolicyUsers = append(out.PolicyUsers, iam.PolicyUser{UserId: &e.ID, UserName: &e.Name})
			}
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

// entity is a user, group or role that has a policy.
type entity struct {
	kind string
	identity.Entity
}

func (e entity) key() string { return e.kind + "/" + lower(e.Name) }

func (s *Server) tagPolicy(c *api.Call, in *iam.TagPolicyRequest) (*iam.TagPolicyOutput, error) {
	return change[iam.TagPolicyOutput](c, func(w *store.WriteTx) error {
		return identity.TagPolicy(w, c.Account, api.Val(in.PolicyArn), tagMap(in.Tags), nil)
	})
}

func (s *Server) untagPolicy(c *api.Call, in *iam.UntagPolicyRequest) (*iam.UntagPolicyOutput, error) {
	return change[iam.UntagPolicyOutput](c, func(w *store.WriteTx) error {
		return identity.TagPolicy(w, c.Account, api.Val(in.PolicyArn), nil, in.TagKeys)
	})
}

func (s *Server) listPolicyTags(c *api.Call, in *iam.ListPolicyTagsRequest) (*iam.ListPolicyTagsResponse, error) {
	out := &iam.ListPolicyTagsResponse{}
	return out, c.View(func(tx store.Tx) error {
		p, err := identity.GetPolicy(tx, c.Account, api.Val(in.PolicyArn))
		if err != nil {
			return err
		}
		out.Tags, out.IsTruncated, out.Marker, err = page(tagList(p.Tags), tagKey, in.Marker, in.MaxItems)
		return err
	})
}
