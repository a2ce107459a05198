package iamapi

import (
	"fmt"
	"strings"

	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/policy"
	"skerry/internal/store"
)

// simulation is what the two operations ask in common.
type simulation struct {
	policies           policy.Policies
	keys               map[string][]string
	actions, resources []string
	context            []iam.ContextEntry
	marker             *string
	most               *int32
	boundaries         []string
	resourcePolicy     *string
	handling, owner    *string
}

// maxSimulated bounds the questions of one simulation.
const maxSimulated = 10_000

func (s *Server) simulateCustomPolicy(c *api.Call, in *iam.SimulateCustomPolicyRequest) (*iam.SimulatePolicyResponse, error) {
	docs, err := parseAll(in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	return simulate(simulation{policies: policy.Policies{Identity: docs}, keys: map[string][]string{}, actions: in.ActionNames, resources: in.ResourceArns, context: in.ContextEntries,
		marker: in.Marker, most: in.MaxItems, boundaries: in.PermissionsBoundaryPolicyInputList, resourcePolicy: in.ResourcePolicy, handling: in.ResourceHandlingOption, owner: in.ResourceOwner})
}

func (s *Server) simulatePrincipalPolicy(c *api.Call, in *iam.SimulatePrincipalPolicyRequest) (*iam.SimulatePolicyResponse, error) {
	extra, err := parseAll(in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	var ps policy.Policies
	var keys map[string][]string
	err = c.View(func(tx store.Tx) (err error) {
		ps, keys, err = identity.PoliciesOf(tx, c.Account, api.Val(in.PolicySourceArn))
		return err
	})
	if err != nil {
		return nil, err
	}
	ps.Identity = append(ps.Identity, extra...)
	return simulate(simulation{policies: ps, keys: keys, actions: in.ActionNames, resources: in.ResourceArns, context: in.ContextEntries,
		marker: in.Marker, most: in.MaxItems, boundaries: in.PermissionsBoundaryPolicyInputList, resourcePolicy: in.ResourcePolicy, handling: in.ResourceHandlingOption, owner: in.ResourceOwner})
}

func parseAll(texts []string) ([]*policy.Document, error) {
	var out []*policy.Document
	for _, t := range texts {
		d, err := policy.Parse(t, policy.Identity)
		if err != nil {
			return nil, invalidInput(err)
		}
		out = append(out, d)
	}
	return out, nil
}

// invalidInput gives a malformed document the code that simulations have for it.
func invalidInput(err error) error {
	if f, ok := fault.As(err); ok {
		return fault.New(f.Kind, "InvalidInput", "%s", f.Msg)
	}
	return err
}

func simulate(q simulation) (*iam.SimulatePolicyResponse, error) {
	for name, given := range map[string]bool{"ResourcePolicy": q.resourcePolicy != nil, "ResourceHandlingOption": q.handling != nil, "ResourceOwner": q.owner != nil} {
		if given {
			return nil, fault.New(fault.Unsupported, "InvalidInput", "The parameter %s is not supported.", name)
		}
	}
	if len(q.boundaries) > 0 {
		docs, err := parseAll(q.boundaries)
		if err != nil {
			return nil, err
		}
		q.policies.Bounded, q.policies.Boundary = true, docs
	}
	for _, e := range q.context {
		q.keys[strings.ToLower(api.Val(e.ContextKeyName))] = e.ContextKeyValues
	}
	resources := q.resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	if len(q.actions)*len(resources) > maxSimulated {
		return nil, fault.New(fault.Limit, "InvalidInput", "A simulation may have up to %d pairs of actions and resources.", maxSimulated)
	}
	type pair struct{ key, action, resource string }
	var all []pair
	for _, a := range q.actions {
		if !strings.Contains(a, ":") {
			return nil, fault.New(fault.Invalid, "InvalidInput", "Invalid Action: %s", a)
		}
		for _, r := range resources {
			all = append(all, pair{fmt.Sprintf("%08d", len(all)), a, r})
		}
	}
	pairs, more, next, err := page(all, func(p pair) string { return p.key }, q.marker, q.most)
	if err != nil {
		return nil, err
	}
	out := &iam.SimulatePolicyResponse{EvaluationResults: []iam.EvaluationResult{}, IsTruncated: more, Marker: next}
	for _, p := range pairs {
		d, _ := policy.Decide(q.policies, policy.Request{Action: p.action, Resource: p.resource, Keys: q.keys})
		r := iam.EvaluationResult{EvalActionName: api.Ptr(p.action), EvalResourceName: api.Ptr(p.resource), EvalDecision: api.Ptr(d.String())}
		if q.policies.Bounded {
			b := policy.Evaluate(q.policies.Boundary, policy.Request{Action: p.action, Resource: p.resource, Keys: q.keys})
			r.PermissionsBoundaryDecisionDetail = &iam.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: api.Ptr(b == policy.Allowed)}
		}
		out.EvaluationResults = append(out.EvaluationResults, r)
	}
	return out, nil
}
