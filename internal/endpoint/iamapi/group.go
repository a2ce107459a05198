package iamapi

import (
	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/store"
)

func invalidStatus(v string) error {
	return fault.New(fault.Invalid, "ValidationError", "1 validation error detected: Value '%s' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]", v)
}

func (s *Server) registerGroups(m *api.Mux) {
	api.Handle(m, iam.CreateGroup, s.createGroup)
	api.Handle(m, iam.GetGroup, s.getGroup)
	api.Handle(m, iam.ListGroups, s.listGroups)
	api.Handle(m, iam.UpdateGroup, s.updateGroup)
	api.Handle(m, iam.DeleteGroup, s.deleteGroup)
	api.Handle(m, iam.AddUserToGroup, s.addUserToGroup)
	api.Handle(m, iam.RemoveUserFromGroup, s.removeUserFromGroup)
	api.Handle(m, iam.ListGroupsForUser, s.listGroupsForUser)
}

func group(g identity.Group) iam.Group {
	return iam.Group{Arn: api.Ptr(g.ARN()), CreateDate: when(g.CreatedAt), GroupId: &g.ID, GroupName: &g.Name, Path: &g.Path}
}

func groupKey(g identity.Group) string { return lower(g.Name) }

func (s *Server) createGroup(c *api.Call, in *iam.CreateGroupRequest) (*iam.CreateGroupResponse, error) {
	out := &iam.CreateGroupResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		g, err := identity.CreateGroup(w, c.Account, api.Val(in.GroupName), api.Val(in.Path))
		out.Group = api.Ptr(group(g))
		return err
	})
}

func (s *Server) getGroup(c *api.Call, in *iam.GetGroupRequest) (*iam.GetGroupResponse, error) {
	out := &iam.GetGroupResponse{Users: []iam.User{}}
	return out, c.View(func(tx store.Tx) error {
		g, err := identity.GetGroup(tx, c.Account, api.Val(in.GroupName))
		if err != nil {
			return err
		}
		out.Group = api.Ptr(group(g))
		us, more, next, err := page(identity.UsersIn(tx, g), userKey, in.Marker, in.MaxItems)
		for _, u := range us {
			out.Users = append(out.Users, user(u, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) listGroups(c *api.Call, in *iam.ListGroupsRequest) (*iam.ListGroupsResponse, error) {
	out := &iam.ListGroupsResponse{Groups: []iam.Group{}}
	return out, c.View(func(tx store.Tx) error {
		all := under(identity.List(tx, identity.Groups, c.Account), func(g identity.Group) string { return g.Path }, in.PathPrefix)
		gs, more, next, err := page(all, groupKey, in.Marker, in.MaxItems)
		for _, g := range gs {
			out.Groups = append(out.Groups, group(g))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) updateGroup(c *api.Call, in *iam.UpdateGroupRequest) (*iam.UpdateGroupOutput, error) {
	return change[iam.UpdateGroupOutput](c, func(w *store.WriteTx) error {
		return identity.RenameGroup(w, c.Account, api.Val(in.GroupName), api.Val(in.NewGroupName), api.Val(in.NewPath))
	})
}

func (s *Server) deleteGroup(c *api.Call, in *iam.DeleteGroupRequest) (*iam.DeleteGroupOutput, error) {
	return change[iam.DeleteGroupOutput](c, func(w *store.WriteTx) error { return identity.DeleteGroup(w, c.Account, api.Val(in.GroupName)) })
}

func (s *Server) addUserToGroup(c *api.Call, in *iam.AddUserToGroupRequest) (*iam.AddUserToGroupOutput, error) {
	return change[iam.AddUserToGroupOutput](c, func(w *store.WriteTx) error {
		return identity.AddToGroup(w, c.Account, api.Val(in.UserName), api.Val(in.GroupName))
	})
}

func (s *Server) removeUserFromGroup(c *api.Call, in *iam.RemoveUserFromGroupRequest) (*iam.RemoveUserFromGroupOutput, error) {
	return change[iam.RemoveUserFromGroupOutput](c, func(w *store.WriteTx) error {
		return identity.RemoveFromGroup(w, c.Account, api.Val(in.UserName), api.Val(in.GroupName))
	})
}

func (s *Server) listGroupsForUser(c *api.Call, in *iam.ListGroupsForUserRequest) (*iam.ListGroupsForUserResponse, error) {
	out := &iam.ListGroupsForUserResponse{Groups: []iam.Group{}}
	return out, c.View(func(tx store.Tx) error {
		u, err := identity.GetUser(tx, c.Account, api.Val(in.UserName))
		if err != nil {
			return err
		}
		names, more, next, err := page(u.Groups, same, in.Marker, in.MaxItems)
		for _, n := range names {
			if g, err := identity.GetGroup(tx, c.Account, n); err == nil {
				out.Groups = append(out.Groups, group(g))
			}
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}
