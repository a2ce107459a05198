package identity

import (
	"slices"
	"sort"
	"strings"

	"skerry/internal/store"
)

// CreateUser makes a user.
func CreateUser(w *store.WriteTx, account, name, path, boundary string, tags map[string]string) (User, error) {
	e, err := newEntity(w, account, "AIDA", "userName", name, path, 64, tags)
	if err != nil {
		return User{}, err
	}
	if _, ok := Users.Get(w, e.key()); ok {
		return User{}, exists("User", name)
	}
	if count(w, Users, account) >= MaxUsers {
		return User{}, limit("UsersPerAccount", MaxUsers)
	}
	u := User{Entity: e}
	if boundary != "" {
		if _, _, err := PolicyDocument(w, account, boundary); err != nil {
			return User{}, err
		}
		u.Boundary = boundary
	}
	Users.Put(w, u)
	return u, nil
}

// GetUser finds a user by name.
func GetUser(tx store.Tx, account, name string) (User, error) {
	u, ok := Users.Get(tx, key(account, name))
	if !ok {
		return u, noEntity("The user with name %s cannot be found.", name)
	}
	return u, nil
}

// EditUser changes a user by a function.
func EditUser(w *store.WriteTx, account, name string, edit func(u *User) error) (User, error) {
	u, err := GetUser(w, account, name)
	if err != nil {
		return u, err
	}
	u.Grants, u.Groups = u.clone(), slices.Clone(u.Groups)
	if err := edit(&u); err != nil {
		return u, err
	}
	Users.Put(w, u)
	return u, nil
}

// RenameUser changes a user's name and path; empty ones stay. Keys and memberships go along.
func RenameUser(w *store.WriteTx, account, name, newName, newPath string) error {
	u, err := GetUser(w, account, name)
	if err != nil {
		return err
	}
	old := u
	if newPath != "" {
		if err := checkPath(newPath); err != nil {
			return err
		}
		u.Path = newPath
	}
	if newName != "" {
		if err := checkName("newUserName", newName, 64); err != nil {
			return err
		}
		u.Name = newName
		if _, ok := Users.Get(w, u.key()); ok && u.key() != old.key() {
			return exists("User", newName)
		}
	}
	for _, k := range KeysOf(w, account, old.Name) {
		k.User = u.Name
		AccessKeys.Put(w, k)
	}
	if u.key() != old.key() {
		Users.Delete(w, old.key())
	}
	Users.Put(w, u)
	return nil
}

// DeleteUser removes a user that nothing hangs on.
func DeleteUser(w *store.WriteTx, account, name string) error {
	u, err := GetUser(w, account, name)
	if err != nil {
		return err
	}
	if len(KeysOf(w, account, name)) > 0 {
		return conflict("Cannot delete entity, must delete access keys first.")
	}
	if len(u.Groups) > 0 {
		return conflict("Cannot delete entity, must remove users from group first.")
	}
	if err := u.deletable(); err != nil {
		return err
	}
	Users.Delete(w, u.key())
	return nil
}

// CreateGroup makes a group.
func CreateGroup(w *store.WriteTx, account, name, path string) (Group, error) {
	e, err := newEntity(w, account, "AGPA", "groupName", name, path, 128, nil)
	if err != nil {
		return Group{}, err
	}
	if _, ok := Groups.Get(w, e.key()); ok {
		return Group{}, exists("Group", name)
	}
	if count(w, Groups, account) >= MaxGroups {
		return Group{}, limit("GroupsPerAccount", MaxGroups)
	}
	g := Group{Entity: e}
	Groups.Put(w, g)
	return g, nil
}

// GetGroup finds a group by name.
func GetGroup(tx store.Tx, account, name string) (Group, error) {
	g, ok := Groups.Get(tx, key(account, name))
	if !ok {
		return g, noEntity("The group with name %s cannot be found.", name)
	}
	return g, nil
}

// EditGroup changes a group by a function.
func EditGroup(w *store.WriteTx, account, name string, edit func(g *Group) error) (Group, error) {
	g, err := GetGroup(w, account, name)
	if err != nil {
		return g, err
	}
	g.Grants = g.clone()
	if err := edit(&g); err != nil {
		return g, err
	}
	Groups.Put(w, g)
	return g, nil
}

// RenameGroup changes a group's name and path; empty ones stay.
func RenameGroup(w *store.WriteTx, account, name, newName, newPath string) error {
	g, err := GetGroup(w, account, name)
	if err != nil {
		return err
	}
	old := g
	if newPath != "" {
		if err := checkPath(newPath); err != nil {
			return err
		}
		g.Path = newPath
	}
	if newName != "" {
		if err := checkName("newGroupName", newName, 128); err != nil {
			return err
		}
		g.Name = newName
		if _, ok := Groups.Get(w, g.key()); ok && g.key() != old.key() {
			return exists("Group", newName)
		}
	}
	for _, u := range UsersIn(w, old) {
		if err := removeFromGroup(w, u, old.Name); err != nil {
			return err
		}
		if err := join(w, account, u.Name, g.Name); err != nil {
			return err
		}
	}
	if g.key() != old.key() {
		Groups.Delete(w, old.key())
	}
	Groups.Put(w, g)
	return nil
}

// UsersIn lists a group's users.
func UsersIn(tx store.Tx, g Group) []User {
	var out []User
	for u := range Users.By(tx, "group", g.key()) {
		out = append(out, u)
	}
	return out
}

// AddToGroup makes a user a member; one that is already is a success.
func AddToGroup(w *store.WriteTx, account, user, group string) error {
	g, err := GetGroup(w, account, group)
	if err != nil {
		return err
	}
	return join(w, account, user, g.Name)
}

// join is AddToGroup for a group that is known to exist.
func join(w *store.WriteTx, account, user, group string) error {
	_, err := EditUser(w, account, user, func(u *User) error {
		if slices.Contains(u.Groups, group) {
			return nil
		}
		if len(u.Groups) >= MaxGroupsUser {
			return limit("GroupsPerUser", MaxGroupsUser)
		}
		u.Groups = append(u.Groups, group)
		sort.Strings(u.Groups)
		return nil
	})
	return err
}

// RemoveFromGroup ends a membership.
func RemoveFromGroup(w *store.WriteTx, account, user, group string) error {
	g, err := GetGroup(w, account, group)
	if err != nil {
		return err
	}
	u, err := GetUser(w, account, user)
	if err != nil {
		return err
	}
	return removeFromGroup(w, u, g.Name)
}

func removeFromGroup(w *store.WriteTx, u User, group string) error {
	_, err := EditUser(w, u.Account, u.Name, func(u *User) error {
		i := slices.IndexFunc(u.Groups, func(n string) bool { return strings.EqualFold(n, group) })
		if i < 0 {
			return noEntity("The user with name %s is not in the group %s.", u.Name, group)
		}
		u.Groups = slices.Delete(u.Groups, i, i+1)
		return nil
	})
	return err
}

// DeleteGroup removes a group that has neither users nor policies.
func DeleteGroup(w *store.WriteTx, account, name string) error {
	g, err := GetGroup(w, account, name)
	if err != nil {
		return err
	}
	if len(UsersIn(w, g)) > 0 {
		return conflict("Cannot delete entity, must remove users from group first.")
	}
	if err := g.deletable(); err != nil {
		return err
	}
	Groups.Delete(w, g.key())
	return nil
}
