package elbapi

import (
	"fmt"
	"strconv"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/store"
)

func toRule(r balance.Rule) elbv2.Rule {
	out := elbv2.Rule{RuleArn: api.Ptr(r.ARN), Priority: api.Ptr("default"), IsDefault: api.Ptr(r.Priority == 0), Conditions: toConditions(r.Conditions), Actions: toActions(r.Actions), Transforms: toTransforms(r.Transforms)}
	if r.Priority > 0 {
		out.Priority = api.Ptr(strconv.Itoa(int(r.Priority)))
	}
	return out
}

func ruleParams(conditions []elbv2.RuleCondition, transforms []elbv2.RuleTransform, actions []elbv2.Action) (p balance.RuleParams, err error) {
	if p.Conditions, err = fromConditions(conditions); err != nil {
		return p, err
	}
	if p.Transforms, err = fromTransforms(transforms); err != nil {
		return p, err
	}
	p.Actions, err = fromActions(actions)
	return p, err
}

func (s *Server) createRule(c *api.Call, in *elbv2.CreateRuleInput) (*elbv2.CreateRuleOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	p, err := ruleParams(in.Conditions, in.Transforms, in.Actions)
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "CreateRule", arn); err != nil {
		return nil, err
	}
	out := &elbv2.CreateRuleOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		r, err := balance.CreateRule(w, c.Scope(), arn, api.Val(in.Priority), p, tags)
		if err != nil {
			return err
		}
		out.Rules = []elbv2.Rule{toRule(r)}
		return nil
	})
}

func (s *Server) modifyRule(c *api.Call, in *elbv2.ModifyRuleInput) (*elbv2.ModifyRuleOutput, error) {
	arn, err := required(in.RuleArn, "ruleArn")
	if err != nil {
		return nil, err
	}
	p, err := ruleParams(in.Conditions, in.Transforms, in.Actions)
	if err != nil {
		return nil, err
	}
	if api.Val(in.ResetTransforms) {
		if len(p.Transforms) > 0 {
			return nil, invalid("You cannot specify both Transforms and ResetTransforms")
		}
		p.Transforms = []balance.Transform{}
	}
	if len(p.Conditions) == 0 && len(p.Actions) == 0 && p.Transforms == nil {
		return nil, invalid("Either conditions, actions or transforms must be specified")
	}
	if err := authorize(c, "ModifyRule", arn); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyRuleOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		r, err := balance.ModifyRule(w, c.Scope(), arn, p)
		if err != nil {
			return err
		}
		out.Rules = []elbv2.Rule{toRule(r)}
		return nil
	})
}

func (s *Server) deleteRule(c *api.Call, in *elbv2.DeleteRuleInput) (*elbv2.DeleteRuleOutput, error) {
	arn, err := required(in.RuleArn, "ruleArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeleteRule", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.DeleteRule(w, c.Scope(), arn) })
}

func (s *Server) describeRules(c *api.Call, in *elbv2.DescribeRulesInput) (*elbv2.DescribeRulesOutput, error) {
	listener := api.Val(in.ListenerArn)
	if listener == "" && len(in.RuleArns) == 0 {
		return nil, invalid("You must specify either listener rule ARNs or a listener ARN")
	}
	if listener != "" && len(in.RuleArns) > 0 {
		return nil, invalid("A listener ARN and rule ARNs cannot be specified at the same time")
	}
	out := &elbv2.DescribeRulesOutput{Rules: []elbv2.Rule{}}
	return out, c.View(func(tx store.Tx) error {
		var rows []balance.Rule
		if listener != "" {
			l, err := balance.GetListener(tx, c.Scope(), listener)
			if err != nil {
				return err
			}
			rows = append(balance.RulesOf(tx, l), balance.DefaultRule(l))
		}
		for _, arn := range in.RuleArns {
			r, _, err := balance.GetRule(tx, c.Scope(), arn)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		// The default rule, of priority 0, comes last: 65535.
		rows, next, err := page(rows, func(r balance.Rule) string { return fmt.Sprintf("%05d %s", uint16(r.Priority-1), r.ARN) }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, r := range rows {
			out.Rules = append(out.Rules, toRule(r))
		}
		return nil
	})
}

func (s *Server) setRulePriorities(c *api.Call, in *elbv2.SetRulePrioritiesInput) (*elbv2.SetRulePrioritiesOutput, error) {
	priorities := map[string]int32{}
	for _, p := range in.RulePriorities {
		arn, err := required(p.RuleArn, "ruleArn")
		if err != nil {
			return nil, err
		}
		if _, twice := priorities[arn]; twice {
			return nil, invalid("Rule '%s' is specified more than once", arn)
		}
		priorities[arn] = api.Val(p.Priority)
		if err := authorize(c, "SetRulePriorities", arn); err != nil {
			return nil, err
		}
	}
	if len(priorities) == 0 {
		return nil, invalid("At least one rule priority must be specified")
	}
	out := &elbv2.SetRulePrioritiesOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		rules, err := balance.SetRulePriorities(w, c.Scope(), priorities)
		for _, r := range rules {
			out.Rules = append(out.Rules, toRule(r))
		}
		return err
	})
}
