// Package identity keeps who may call the cloud: users, groups, roles, instance profiles, managed policies, access keys
// and sessions, all of them records; and answers who a key is (Lookup) and what a principal may do (Authorize).
//
// IAM is one for all regions, so its records live in scope.Global of their account; names are unique without regard to
// case. Root, the owner of an account, needs no record: every account has it, and it may do everything.
//
// Invariants: a policy document is stored only after policy.Parse has accepted it; an entity is deleted only when nothing
// hangs on it (DeleteConflict); an attached policy exists; a session outlives neither its expiry nor, in effect, its role
// (a session whose role is gone may do nothing). Sessions stay until their expiry even when newer ones exist, and an
// instance has at most maxInstanceSessions of them.
//
// Transitions take the caller's transaction, which gives time and randomness. Secrets come from its random source, which
// the store seeds from the system's. The package starts no goroutine. It must not import api, net/http, encoding/xml or
// os/exec.
package identity
