// Package access knows what permissions a request needs: which action on which resources, and what the policies'
// conditions may ask about each. It joins the API's inputs to identity's policies in one place, so that no handler has to.
//
// A need is one question to the caller's policies. Needs finds them out of the operation's input and the state; Checker
// asks them all before a handler runs, and every one must be allowed. Resources are named as AWS names them: what is about
// to be made is TYPE/*; an operation that knows no resources asks for "*".
//
// Invariants: every operation that writes and is served is in a table here, or asks for "*" because AWS does (a test holds
// the two lists); a need that the state cannot resolve is asked with a wildcard in the id's place, so a policy that names
// single resources does not allow it; nothing is looked up for root.
//
// It starts no goroutine and writes nothing. Handlers ask for what depends on more than the input (iam:PassRole) through
// Call.Authorize, which comes here too.
package access
