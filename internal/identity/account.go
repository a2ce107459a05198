package identity

import (
	"regexp"

	"skerry/internal/fault"
	"skerry/internal/store"
)

var aliasForm = regexp.MustCompile(`^[a-z0-9](([a-z0-9]|-[^-])*[a-z0-9])?$`)

// SetAlias gives an account another name, in the place of one that it has. Names are unique among accounts.
func SetAlias(w *store.WriteTx, account, name string) error {
	if len(name) < 3 || len(name) > 63 || !aliasForm.MatchString(name) {
		return invalid("1 validation error detected: Value '%s' at 'accountAlias' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$", name)
	}
	for a := range Aliases.All(w) {
		if a.Name == name {
			return fault.New(fault.Exists, "EntityAlreadyExists", "The account alias %s already exists.", name)
		}
	}
	Aliases.Put(w, Alias{Account: account, Name: name})
	return nil
}

// DeleteAlias removes an account's alias.
func DeleteAlias(w *store.WriteTx, account, name string) error {
	if a, ok := Aliases.Get(w, account); !ok || a.Name != name {
		return noEntity("The Account Alias %s cannot be found.", name)
	}
	Aliases.Delete(w, account)
	return nil
}
