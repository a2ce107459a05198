package iamapi

import (
	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/identity"
	"skerry/internal/store"
)

func (s *Server) registerRoles(m *api.Mux) {
	api.Handle(m, iam.CreateRole, s.createRole)
	api.Handle(m, iam.GetRole, s.getRole)
	api.Handle(m, iam.ListRoles, s.listRoles)
	api.Handle(m, iam.UpdateRole, s.updateRole)
	api.Handle(m, iam.UpdateRoleDescription, s.updateRoleDescription)
	api.Handle(m, iam.UpdateAssumeRolePolicy, s.updateAssumeRolePolicy)
	api.Handle(m, iam.DeleteRole, s.deleteRole)
	api.Handle(m, iam.TagRole, s.tagRole)
	api.Handle(m, iam.UntagRole, s.untagRole)
	api.Handle(m, iam.ListRoleTags, s.listRoleTags)
	api.Handle(m, iam.CreateServiceLinkedRole, s.createServiceLinkedRole)
	api.Handle(m, iam.DeleteServiceLinkedRole, s.deleteServiceLinkedRole)
	api.Handle(m, iam.GetServiceLinkedRoleDeletionStatus, s.getServiceLinkedRoleDeletionStatus)
}

// role is the wire form. Lists leave tags, boundary and last use out.
func role(r identity.Role, full bool) iam.Role {
	out := iam.Role{Arn: api.Ptr(r.ARN()), AssumeRolePolicyDocument: document(r.Trust), CreateDate: when(r.CreatedAt), Description: str(r.Description),
		MaxSessionDuration: api.Ptr(int32(r.MaxSession)), Path: &r.Path, RoleId: &r.ID, RoleName: &r.Name}
	if full {
		out.Tags, out.PermissionsBoundary = tagList(r.Tags), boundary(r.Boundary)
		out.RoleLastUsed = &iam.RoleLastUsed{LastUsedDate: when(r.UsedAt), Region: str(r.UsedIn)}
	}
	return out
}

func (s *Server) createRole(c *api.Call, in *iam.CreateRoleRequest) (*iam.CreateRoleResponse, error) {
	out := &iam.CreateRoleResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		r, err := identity.CreateRole(w, c.Account, identity.NewRole{Name: api.Val(in.RoleName), Path: api.Val(in.Path), Trust: api.Val(in.AssumeRolePolicyDocument),
			Description: api.Val(in.Description), Boundary: api.Val(in.PermissionsBoundary), MaxSession: int(api.Val(in.MaxSessionDuration)), Tags: tagMap(in.Tags)})
		v := role(r, true)
		v.RoleLastUsed = nil
		out.Role = &v
		return err
	})
}

func (s *Server) getRole(c *api.Call, in *iam.GetRoleRequest) (*iam.GetRoleResponse, error) {
	out := &iam.GetRoleResponse{}
	return out, c.View(func(tx store.Tx) error {
		r, err := identity.GetRole(tx, c.Account, api.Val(in.RoleName))
		out.Role = api.Ptr(role(r, true))
		return err
	})
}

func (s *Server) listRoles(c *api.Call, in *iam.ListRolesRequest) (*iam.ListRolesResponse, error) {
	out := &iam.ListRolesResponse{Roles: []iam.Role{}}
	return out, c.View(func(tx store.Tx) error {
		all := under(identity.List(tx, identity.Roles, c.Account), func(r identity.Role) string { return r.Path }, in.PathPrefix)
		rs, more, next, err := page(all, func(r identity.Role) string { return lower(r.Name) }, in.Marker, in.MaxItems)
		for _, r := range rs {
			out.Roles = append(out.Roles, role(r, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func maxSession(v *int32) *int {
	if v == nil {
		return nil
	}
	return api.Ptr(int(*v))
}

func (s *Server) updateRole(c *api.Call, in *iam.UpdateRoleRequest) (*iam.UpdateRoleResponse, error) {
	return change[iam.UpdateRoleResponse](c, func(w *store.WriteTx) error {
		_, err := identity.UpdateRole(w, c.Account, api.Val(in.RoleName), in.Description, maxSession(in.MaxSessionDuration))
		return err
	})
}

func (s *Server) updateRoleDescription(c *api.Call, in *iam.UpdateRoleDescriptionRequest) (*iam.UpdateRoleDescriptionResponse, error) {
	out := &iam.UpdateRoleDescriptionResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		r, err := identity.UpdateRole(w, c.Account, api.Val(in.RoleName), in.Description, nil)
		out.Role = api.Ptr(role(r, true))
		return err
	})
}

func (s *Server) updateAssumeRolePolicy(c *api.Call, in *iam.UpdateAssumeRolePolicyRequest) (*iam.UpdateAssumeRolePolicyOutput, error) {
	return change[iam.UpdateAssumeRolePolicyOutput](c, func(w *store.WriteTx) error {
		return identity.UpdateTrust(w, c.Account, api.Val(in.RoleName), api.Val(in.PolicyDocument))
	})
}

func (s *Server) deleteRole(c *api.Call, in *iam.DeleteRoleRequest) (*iam.DeleteRoleOutput, error) {
	return change[iam.DeleteRoleOutput](c, func(w *store.WriteTx) error { return identity.DeleteRole(w, c.Account, api.Val(in.RoleName)) })
}

func (s *Server) tagRole(c *api.Call, in *iam.TagRoleRequest) (*iam.TagRoleOutput, error) {
	return change[iam.TagRoleOutput](c, func(w *store.WriteTx) error {
		_, err := identity.EditRole(w, c.Account, api.Val(in.RoleName), func(r *identity.Role) (err error) {
			r.Tags, err = identity.SetTags(r.Tags, tagMap(in.Tags))
			return err
		})
		return err
	})
}

func (s *Server) untagRole(c *api.Call, in *iam.UntagRoleRequest) (*iam.UntagRoleOutput, error) {
	return change[iam.UntagRoleOutput](c, func(w *store.WriteTx) error {
		_, err := identity.EditRole(w, c.Account, api.Val(in.RoleName), func(r *identity.Role) error {
			r.Tags = identity.DropTags(r.Tags, in.TagKeys)
			return nil
		})
		return err
	})
}

func (s *Server) listRoleTags(c *api.Call, in *iam.ListRoleTagsRequest) (*iam.ListRoleTagsResponse, error) {
	out := &iam.ListRoleTagsResponse{}
	return out, c.View(func(tx store.Tx) error {
		r, err := identity.GetRole(tx, c.Account, api.Val(in.RoleName))
		if err != nil {
			return err
		}
		out.Tags, out.IsTruncated, out.Marker, err = page(tagList(r.Tags), tagKey, in.Marker, in.MaxItems)
		return err
	})
}

func (s *Server) createServiceLinkedRole(c *api.Call, in *iam.CreateServiceLinkedRoleRequest) (*iam.CreateServiceLinkedRoleResponse, error) {
	out := &iam.CreateServiceLinkedRoleResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		r, err := identity.CreateServiceLinkedRole(w, c.Account, api.Val(in.AWSServiceName), api.Val(in.CustomSuffix), api.Val(in.Description))
		out.Role = api.Ptr(role(r, true))
		return err
	})
}

func (s *Server) deleteServiceLinkedRole(c *api.Call, in *iam.DeleteServiceLinkedRoleRequest) (*iam.DeleteServiceLinkedRoleResponse, error) {
	out := &iam.DeleteServiceLinkedRoleResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		r, err := identity.GetRole(w, c.Account, api.Val(in.RoleName))
		if err != nil {
			return err
		}
		out.DeletionTaskId = api.Ptr("task" + r.Path + r.Name + "/" + c.RequestID)
		return identity.DeleteServiceLinkedRole(w, c.Account, r.Name)
	})
}

// getServiceLinkedRoleDeletionStatus answers at once: the deletion was done before its task's id was given out.
func (s *Server) getServiceLinkedRoleDeletionStatus(_ *api.Call, in *iam.GetServiceLinkedRoleDeletionStatusRequest) (*iam.GetServiceLinkedRoleDeletionStatusResponse, error) {
	if !isTask(api.Val(in.DeletionTaskId)) {
		return nil, noEntity("Deletion task not found: %s", api.Val(in.DeletionTaskId))
	}
	return &iam.GetServiceLinkedRoleDeletionStatusResponse{Status: api.Ptr("SUCCEEDED")}, nil
}
