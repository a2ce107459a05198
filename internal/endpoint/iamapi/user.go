package iamapi

import (
	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/identity"
	"skerry/internal/store"
)

func (s *Server) registerUsers(m *api.Mux) {
	api.Handle(m, iam.CreateUser, s.createUser)
	api.Handle(m, iam.GetUser, s.getUser)
	api.Handle(m, iam.ListUsers, s.listUsers)
	api.Handle(m, iam.UpdateUser, s.updateUser)
	api.Handle(m, iam.DeleteUser, s.deleteUser)
	api.Handle(m, iam.TagUser, s.tagUser)
	api.Handle(m, iam.UntagUser, s.untagUser)
	api.Handle(m, iam.ListUserTags, s.listUserTags)
	api.Handle(m, iam.CreateAccessKey, s.createAccessKey)
	api.Handle(m, iam.ListAccessKeys, s.listAccessKeys)
	api.Handle(m, iam.UpdateAccessKey, s.updateAccessKey)
	api.Handle(m, iam.DeleteAccessKey, s.deleteAccessKey)
	api.Handle(m, iam.GetAccessKeyLastUsed, s.getAccessKeyLastUsed)
	api.Handle(m, iam.GetLoginProfile, s.getLoginProfile)
	api.Handle(m, iam.DeleteLoginProfile, s.deleteLoginProfile)
}

func user(u identity.User, full bool) iam.User {
	out := iam.User{Arn: api.Ptr(u.ARN()), CreateDate: when(u.CreatedAt), Path: &u.Path, UserId: &u.ID, UserName: &u.Name}
	if full {
		out.Tags, out.PermissionsBoundary = tagList(u.Tags), boundary(u.Boundary)
	}
	return out
}

func (s *Server) createUser(c *api.Call, in *iam.CreateUserRequest) (*iam.CreateUserResponse, error) {
	out := &iam.CreateUserResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		u, err := identity.CreateUser(w, c.Account, api.Val(in.UserName), api.Val(in.Path), api.Val(in.PermissionsBoundary), tagMap(in.Tags))
		out.User = api.Ptr(user(u, true))
		return err
	})
}

// getUser without a name answers about the caller. Root is a user too, of a kind.
func (s *Server) getUser(c *api.Call, in *iam.GetUserRequest) (*iam.GetUserResponse, error) {
	name, err := caller(c, in.UserName)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return &iam.GetUserResponse{User: &iam.User{Arn: &c.Principal.ARN, UserId: &c.Account, CreateDate: when(c.Now), Path: api.Ptr("/"), UserName: api.Ptr("root")}}, nil
	}
	out := &iam.GetUserResponse{}
	return out, c.View(func(tx store.Tx) error {
		u, err := identity.GetUser(tx, c.Account, name)
		out.User = api.Ptr(user(u, true))
		return err
	})
}

func userKey(u identity.User) string { return lower(u.Name) }

func (s *Server) listUsers(c *api.Call, in *iam.ListUsersRequest) (*iam.ListUsersResponse, error) {
	out := &iam.ListUsersResponse{Users: []iam.User{}}
	return out, c.View(func(tx store.Tx) error {
		all := under(identity.List(tx, identity.Users, c.Account), func(u identity.User) string { return u.Path }, in.PathPrefix)
		us, more, next, err := page(all, userKey, in.Marker, in.MaxItems)
		for _, u := range us {
			out.Users = append(out.Users, user(u, false))
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) updateUser(c *api.Call, in *iam.UpdateUserRequest) (*iam.UpdateUserOutput, error) {
	return change[iam.UpdateUserOutput](c, func(w *store.WriteTx) error {
		return identity.RenameUser(w, c.Account, api.Val(in.UserName), api.Val(in.NewUserName), api.Val(in.NewPath))
	})
}

func (s *Server) deleteUser(c *api.Call, in *iam.DeleteUserRequest) (*iam.DeleteUserOutput, error) {
	return change[iam.DeleteUserOutput](c, func(w *store.WriteTx) error { return identity.DeleteUser(w, c.Account, api.Val(in.UserName)) })
}

func (s *Server) tagUser(c *api.Call, in *iam.TagUserRequest) (*iam.TagUserOutput, error) {
	return change[iam.TagUserOutput](c, func(w *store.WriteTx) error {
		_, err := identity.EditUser(w, c.Account, api.Val(in.UserName), func(u *identity.User) (err error) {
			u.Tags, err = identity.SetTags(u.Tags, tagMap(in.Tags))
			return err
		})
		return err
	})
}

func (s *Server) untagUser(c *api.Call, in *iam.UntagUserRequest) (*iam.UntagUserOutput, error) {
	return change[iam.UntagUserOutput](c, func(w *store.WriteTx) error {
		_, err := identity.EditUser(w, c.Account, api.Val(in.UserName), func(u *identity.User) error {
			u.Tags = identity.DropTags(u.Tags, in.TagKeys)
			return nil
		})
		return err
	})
}

func (s *Server) listUserTags(c *api.Call, in *iam.ListUserTagsRequest) (*iam.ListUserTagsResponse, error) {
	out := &iam.ListUserTagsResponse{}
	return out, c.View(func(tx store.Tx) error {
		u, err := identity.GetUser(tx, c.Account, api.Val(in.UserName))
		if err != nil {
			return err
		}
		out.Tags, out.IsTruncated, out.Marker, err = page(tagList(u.Tags), tagKey, in.Marker, in.MaxItems)
		return err
	})
}

func keyStatus(active bool) *string {
	if active {
		return api.Ptr("Active")
	}
	return api.Ptr("Inactive")
}

func (s *Server) createAccessKey(c *api.Call, in *iam.CreateAccessKeyRequest) (*iam.CreateAccessKeyResponse, error) {
	name, err := caller(c, in.UserName)
	if err != nil {
		return nil, err
	}
	out := &iam.CreateAccessKeyResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		k, err := identity.CreateAccessKey(w, c.Account, name)
		out.AccessKey = &iam.AccessKey{AccessKeyId: &k.ID, SecretAccessKey: &k.Secret, Status: keyStatus(k.Active), UserName: &k.User, CreateDate: when(k.CreatedAt)}
		return err
	})
}

func (s *Server) listAccessKeys(c *api.Call, in *iam.ListAccessKeysRequest) (*iam.ListAccessKeysResponse, error) {
	name, err := caller(c, in.UserName)
	if err != nil {
		return nil, err
	}
	out := &iam.ListAccessKeysResponse{AccessKeyMetadata: []iam.AccessKeyMetadata{}}
	return out, c.View(func(tx store.Tx) error {
		if name != "" {
			if _, err := identity.GetUser(tx, c.Account, name); err != nil {
				return err
			}
		}
		ks, more, next, err := page(identity.KeysOf(tx, c.Account, name), func(k identity.AccessKey) string { return k.ID }, in.Marker, in.MaxItems)
		for _, k := range ks {
			out.AccessKeyMetadata = append(out.AccessKeyMetadata, iam.AccessKeyMetadata{AccessKeyId: &k.ID, Status: keyStatus(k.Active), UserName: str(k.User), CreateDate: when(k.CreatedAt)})
		}
		out.IsTruncated, out.Marker = more, next
		return err
	})
}

func (s *Server) updateAccessKey(c *api.Call, in *iam.UpdateAccessKeyRequest) (*iam.UpdateAccessKeyOutput, error) {
	name, err := caller(c, in.UserName)
	if err != nil {
		return nil, err
	}
	switch api.Val(in.Status) {
	case "Active", "Inactive":
	default:
		return nil, invalidStatus(api.Val(in.Status))
	}
	return change[iam.UpdateAccessKeyOutput](c, func(w *store.WriteTx) error {
		return identity.SetAccessKey(w, c.Account, name, api.Val(in.AccessKeyId), *in.Status == "Active")
	})
}

func (s *Server) deleteAccessKey(c *api.Call, in *iam.DeleteAccessKeyRequest) (*iam.DeleteAccessKeyOutput, error) {
	name, err := caller(c, in.UserName)
	if err != nil {
		return nil, err
	}
	return change[iam.DeleteAccessKeyOutput](c, func(w *store.WriteTx) error {
		return identity.DeleteAccessKey(w, c.Account, name, api.Val(in.AccessKeyId))
	})
}

func (s *Server) getAccessKeyLastUsed(c *api.Call, in *iam.GetAccessKeyLastUsedRequest) (*iam.GetAccessKeyLastUsedResponse, error) {
	k, ok := identity.AccessKeys.Get(c.DB.Read(), api.Val(in.AccessKeyId))
	if !ok || k.Account != c.Account {
		return nil, noEntity("The Access Key with id %s cannot be found.", api.Val(in.AccessKeyId))
	}
	used := &iam.AccessKeyLastUsed{LastUsedDate: when(k.UsedAt), Region: api.Ptr("N/A"), ServiceName: api.Ptr("N/A")}
	if !k.UsedAt.IsZero() {
		used.Region, used.ServiceName = &k.UsedRegion, &k.UsedService
	}
	return &iam.GetAccessKeyLastUsedResponse{UserName: str(k.User), AccessKeyLastUsed: used}, nil
}

// noLogin answers about passwords, which users here don't have.
func (s *Server) noLogin(c *api.Call, name *string) error {
	n, err := caller(c, name)
	if err != nil {
		return err
	}
	if n != "" {
		if _, err := identity.GetUser(c.DB.Read(), c.Account, n); err != nil {
			return err
		}
	}
	return noEntity("Login Profile for User %s cannot be found.", n)
}

func (s *Server) getLoginProfile(c *api.Call, in *iam.GetLoginProfileRequest) (*iam.GetLoginProfileResponse, error) {
	return nil, s.noLogin(c, in.UserName)
}

func (s *Server) deleteLoginProfile(c *api.Call, in *iam.DeleteLoginProfileRequest) (*iam.DeleteLoginProfileOutput, error) {
	return nil, s.noLogin(c, in.UserName)
}
