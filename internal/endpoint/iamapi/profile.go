package iamapi

import (
	"strings"

	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/store"
)

func noEntity(format string, args ...any) error {
	return fault.New(fault.NotFound, "NoSuchEntity", format, args...)
}

func isTask(id string) bool { return strings.HasPrefix(id, "task/aws-service-role/") }

func (s *Server) registerProfiles(m *api.Mux) {
	api.Handle(m, iam.CreateInstanceProfile, s.createInstanceProfile)
	api.Handle(m, iam.GetInstanceProfile, s.getInstanceProfile)
	api.Handle(m, iam.ListInstanceProfiles, s.listInstanceProfiles)
	api.Handle(m, iam.ListInstanceProfilesForRole, s.listInstanceProfilesForRole)
	api.Handle(m, iam.AddRoleToInstanceProfile, s.addRoleToInstanceProfile)
	api.Handle(m, iam.RemoveRoleFromInstanceProfile, s.removeRoleFromInstanceProfile)
	api.Handle(m, iam.DeleteInstanceProfile, s.deleteInstanceProfile)
	api.Handle(m, iam.TagInstanceProfile, s.tagInstanceProfile)
	api.Handle(m, iam.UntagInstanceProfile, s.untagInstanceProfile)
	api.Handle(m, iam.ListInstanceProfileTags, s.listInstanceProfileTags)
}

func profile(tx store.Tx, p identity.InstanceProfile, full bool) iam.InstanceProfile {
	out := iam.InstanceProfile{Arn: api.Ptr(p.ARN()), CreateDate: when(p.CreatedAt), InstanceProfileId: &p.ID, InstanceProfileName: &p.Name, Path: &p.Path,
		Roles: []iam.Role{}}
	if full {
		out.Tags = tagList(p.Tags)
	}
	if p.Role != "" {
		if r, err := identity.GetRole(tx, p.Account, p.Role); err == nil {
			out.Roles = append(out.Roles, role(r, false))
		}
	}
	return out
}

func (s *Server) createInstanceProfile(c *api.Call, in *iam.CreateInstanceProfileRequest) (*iam.CreateInstanceProfileResponse, error) {
	out := &iam.CreateInstanceProfileResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		p, err := identity.CreateInstanceProfile(w, c.Account, api.Val(in.InstanceProfileName), api.Val(in.Path), tagMap(in.Tags))
		out.InstanceProfile = api.Ptr(profile(w, p, true))
		return err
	})
}

func (s *Server) getInstanceProfile(c *api.Call, in *iam.GetInstanceProfileRequest) (*iam.GetInstanceProfileResponse, error) {
	out := &iam.GetInstanceProfileResponse{}
	return out, c.View(func(tx store.Tx) error {
		p, err := identity.GetInstanceProfile(tx, c.Account, api.Val(in.InstanceProfileName))
		out.InstanceProfile = api.Ptr(profile(tx, p, true))
		return err
	})
}

func profileKey(p identity.InstanceProfile) string { return lower(p.Name) }

func (s *Server) listInstanceProfiles(c *api.Call, in *iam.ListInstanceProfilesRequest) (*iam.ListInstanceProfilesResponse, error) {
	out := &iam.ListInstanceProfilesResponse{InstanceProfiles: []iam.InstanceProfile{}}
	return out, c.View(func(tx store.Tx) error {
		all := under(identity.List(tx, identity.InstanceProfiles, c.Account), func(p identity.InstanceProfile) string { return p.Path }, in.PathPrefix)
		ps, more, next, err := page(all, profileKey, in.Marker, in.MaxItems)
		for _, p := range ps {
			out.InstanceProfiles = append(out.InstanceProfiles, profile(tx, p, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) listInstanceProfilesForRole(c *api.Call, in *iam.ListInstanceProfilesForRoleRequest) (*iam.ListInstanceProfilesForRoleResponse, error) {
	out := &iam.ListInstanceProfilesForRoleResponse{InstanceProfiles: []iam.InstanceProfile{}}
	return out, c.View(func(tx store.Tx) error {
		r, err := identity.GetRole(tx, c.Account, api.Val(in.RoleName))
		if err != nil {
			return err
		}
		ps, more, next, err := page(identity.ProfilesOf(tx, r), profileKey, in.Marker, in.MaxItems)
		for _, p := range ps {
			out.InstanceProfiles = append(out.InstanceProfiles, profile(tx, p, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

// addRoleToInstanceProfile needs iam:PassRole for the role besides its own permission, as giving it to an instance does.
func (s *Server) addRoleToInstanceProfile(c *api.Call, in *iam.AddRoleToInstanceProfileRequest) (*iam.AddRoleToInstanceProfileOutput, error) {
	if c.Authorize != nil {
		if r, err := identity.GetRole(c.DB.Read(), c.Account, api.Val(in.RoleName)); err == nil {
			if err := c.Authorize("iam:PassRole", r.ARN()); err != nil {
				return nil, err
			}
		}
	}
	return change[iam.AddRoleToInstanceProfileOutput](c, func(w *store.WriteTx) error {
		return identity.AddRole(w, c.Account, api.Val(in.InstanceProfileName), api.Val(in.RoleName))
	})
}

func (s *Server) removeRoleFromInstanceProfile(c *api.Call, in *iam.RemoveRoleFromInstanceProfileRequest) (*iam.RemoveRoleFromInstanceProfileOutput, error) {
	return change[iam.RemoveRoleFromInstanceProfileOutput](c, func(w *store.WriteTx) error {
		return identity.RemoveRole(w, c.Account, api.Val(in.InstanceProfileName), api.Val(in.RoleName))
	})
}

func (s *Server) deleteInstanceProfile(c *api.Call, in *iam.DeleteInstanceProfileRequest) (*iam.DeleteInstanceProfileOutput, error) {
	return change[iam.DeleteInstanceProfileOutput](c, func(w *store.WriteTx) error {
		return identity.DeleteInstanceProfile(w, c.Account, api.Val(in.InstanceProfileName))
	})
}

func (s *Server) tagInstanceProfile(c *api.Call, in *iam.TagInstanceProfileRequest) (*iam.TagInstanceProfileOutput, error) {
	return change[iam.TagInstanceProfileOutput](c, func(w *store.WriteTx) error {
		return identity.TagInstanceProfile(w, c.Account, api.Val(in.InstanceProfileName), tagMap(in.Tags), nil)
	})
}

func (s *Server) untagInstanceProfile(c *api.Call, in *iam.UntagInstanceProfileRequest) (*iam.UntagInstanceProfileOutput, error) {
	return change[iam.UntagInstanceProfileOutput](c, func(w *store.WriteTx) error {
		return identity.TagInstanceProfile(w, c.Account, api.Val(in.InstanceProfileName), nil, in.TagKeys)
	})
}

func (s *Server) listInstanceProfileTags(c *api.Call, in *iam.ListInstanceProfileTagsRequest) (*iam.ListInstanceProfileTagsResponse, error) {
	out := &iam.ListInstanceProfileTagsResponse{}
	return out, c.View(func(tx store.Tx) error {
		p, err := identity.GetInstanceProfile(tx, c.Account, api.Val(in.InstanceProfileName))
		if err != nil {
			return err
		}
		out.Tags, out.IsTruncated, out.Marker, err = page(tagList(p.Tags), tagKey, in.Marker, in.MaxItems)
		return err
	})
}
