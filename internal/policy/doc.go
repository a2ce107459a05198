// Package policy reads policy documents and decides what they allow. It is pure: documents and a request in, a decision
// out; no state, no clock, no services.
//
// A Document is parsed once and checked (Parse, with the rules of identity or of trust policies) and never changed.
// Evaluate applies IAM's rule to a set of documents: a statement that denies wins over all, then one that allows, else
// nothing is allowed. Decide combines identity policies, a permissions boundary and session policies.
//
// Invariants: whatever Evaluate cannot understand never allows. A condition operator that IAM does not have keeps a
// statement that allows from applying, and does not keep one that denies from it.
//
// It starts no goroutine and imports only the standard library and fault.
package policy
