package identity

import (
	"maps"
	"slices"
	"sort"

	"skerry/internal/fault"
	"skerry/internal/policy"
	"skerry/internal/store"
)

func (g Grants) clone() Grants {
	return Grants{Inline: maps.Clone(g.Inline), Attached: slices.Clone(g.Attached), Boundary: g.Boundary}
}

// deletable refuses the deletion of an entity that has policies.
func (g Grants) deletable() error {
	if len(g.Attached) > 0 {
		return conflict("Cannot delete entity, must detach all policies first.")
	}
	if len(g.Inline) > 0 {
		return conflict("Cannot delete entity, must delete policies first.")
	}
	return nil
}

// InlineNames lists the inline policies.
func (g Grants) InlineNames() []string {
	return slices.Sorted(maps.Keys(g.Inline))
}

// Holder is a kind of entity that has policies.
type Holder int

// The holders.
const (
	OfUser Holder = iota
	OfGroup
	OfRole
)

func (h Holder) kind() string { return [...]string{"user", "group", "role"}[h] }

// GrantsOf finds the policies of a user, group or role.
func GrantsOf(tx store.Tx, h Holder, account, name string) (Grants, error) {
	switch h {
	case OfUser:
		u, err := GetUser(tx, account, name)
		return u.Grants, err
	case OfGroup:
		g, err := GetGroup(tx, account, name)
		return g.Grants, err
	}
	r, err := GetRole(tx, account, name)
	return r.Grants, err
}

func (h Holder) edit(w *store.WriteTx, account, name string, fn func(g *Grants) error) error {
	switch h {
	case OfUser:
		_, err := EditUser(w, account, name, func(u *User) error { return fn(&u.Grants) })
		return err
	case OfGroup:
		_, err := EditGroup(w, account, name, func(g *Group) error { return fn(&g.Grants) })
		return err
	}
	_, err := EditRole(w, account, name, func(r *Role) error { return fn(&r.Grants) })
	return err
}

func (h Holder) inlineQuota() int { return [...]int{maxInlineUser, maxInlineGrp, maxInlineRole}[h] }

// PutInline adds or replaces an inline policy.
func PutInline(w *store.WriteTx, h Holder, account, name, policyName, document string) error {
	if err := checkName("policyName", policyName, 128); err != nil {
		return err
	}
	return h.edit(w, account, name, func(g *Grants) error {
		if _, err := policy.Parse(document, policy.Identity); err != nil {
			return err
		}
		if g.Inline == nil {
			g.Inline = map[string]string{}
		}
		g.Inline[policyName] = document
		n := 0
		for _, d := range g.Inline {
			n += size(d)
		}
		if most := h.inlineQuota(); n > most {
			return fault.New(fault.Limit, "LimitExceeded", "Maximum policy size of %d bytes exceeded for %s %s", most, h.kind(), name)
		}
		return nil
	})
}

// GetInline finds an inline policy.
func GetInline(tx store.Tx, h Holder, account, name, policyName string) (string, error) {
	g, err := GrantsOf(tx, h, account, name)
	if err != nil {
		return "", err
	}
	d, ok := g.Inline[policyName]
	if !ok {
		return "", noEntity("The %s policy with name %s cannot be found.", h.kind(), policyName)
	}
	return d, nil
}

// DeleteInline removes an inline policy.
func DeleteInline(w *store.WriteTx, h Holder, account, name, policyName string) error {
	if _, err := GetInline(w, h, account, name, policyName); err != nil {
		return err
	}
	return h.edit(w, account, name, func(g *Grants) error {
		delete(g.Inline, policyName)
		return nil
	})
}

// Attach gives a managed policy to an entity; one that it has already is a success.
func Attach(w *store.WriteTx, h Holder, account, name, arn string) error {
	if _, _, err := PolicyDocument(w, account, arn); err != nil {
		return err
	}
	return h.edit(w, account, name, func(g *Grants) error {
		if slices.Contains(g.Attached, arn) {
			return nil
		}
		if len(g.Attached) >= MaxAttached {
			return limit([...]string{"PoliciesPerUser", "PoliciesPerGroup", "PoliciesPerRole"}[h], MaxAttached)
		}
		g.Attached = append(g.Attached, arn)
		sort.Strings(g.Attached)
		return nil
	})
}

// Detach takes a managed policy from an entity.
func Detach(w *store.WriteTx, h Holder, account, name, arn string) error {
	return h.edit(w, account, name, func(g *Grants) error {
		i := slices.Index(g.Attached, arn)
		if i < 0 {
			return noEntity("Policy %s was not found.", arn)
		}
		g.Attached = slices.Delete(g.Attached, i, i+1)
		return nil
	})
}

// SetBoundary sets the permissions boundary of a user or role; "" removes it.
func SetBoundary(w *store.WriteTx, h Holder, account, name, arn string) error {
	if arn != "" {
		if _, _, err := PolicyDocument(w, account, arn); err != nil {
			return err
		}
	}
	return h.edit(w, account, name, func(g *Grants) error {
		if arn == "" && g.Boundary == "" {
			return noEntity("The %s %s has no permissions boundary.", h.kind(), name)
		}
		g.Boundary = arn
		return nil
	})
}
