package elbapi

import (
	"maps"
	"strings"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// maxTagged is how many resources one request may name.
const maxTagged = 20

// exists refuses an ARN that names nothing, by the code of its kind.
func exists(tx store.Tx, s scope.Scope, arn string) error {
	resource := arn[strings.LastIndex(arn, ":")+1:]
	var err error
	switch kind, _, _ := strings.Cut(resource, "/"); kind {
	case "loadbalancer":
		_, err = balance.GetLoadBalancer(tx, s, arn)
	case "targetgroup":
		_, err = balance.GetTargetGroup(tx, s, arn)
	case "listener":
		_, err = balance.GetListener(tx, s, arn)
	case "listener-rule":
		_, _, err = balance.GetRule(tx, s, arn)
	case "truststore":
		_, err = balance.GetTrustStore(tx, s, arn)
	default:
		err = invalid("'%s' is not a valid load balancer, target group, listener, rule or trust store ARN", arn)
	}
	return err
}

func checkARNs(c *api.Call, op string, arns []string) error {
	if len(arns) == 0 || len(arns) > maxTagged {
		return invalid("Between 1 and %d resource ARNs must be specified", maxTagged)
	}
	for _, a := range arns {
		if err := authorize(c, op, a); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) addTags(c *api.Call, in *elbv2.AddTagsInput) (*elbv2.AddTagsOutput, error) {
	if err := checkARNs(c, "AddTags", in.ResourceArns); err != nil {
		return nil, err
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		return nil, invalid("At least one tag must be specified")
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		for _, arn := range in.ResourceArns {
			if err := exists(w, c.Scope(), arn); err != nil {
				return err
			}
			all := tag.Map(w, c.Scope(), arn)
			maps.Copy(all, tags)
			maps.DeleteFunc(all, func(k, _ string) bool { return reserved(k) })
			if len(all) > tag.MaxUser {
				return fault.New(fault.Limit, "TooManyTags", "The maximum number of tags per resource has been reached")
			}
			tag.SetSystem(w, c.Scope(), arn, tags)
		}
		return nil
	})
}

func (s *Server) removeTags(c *api.Call, in *elbv2.RemoveTagsInput) (*elbv2.RemoveTagsOutput, error) {
	if err := checkARNs(c, "RemoveTags", in.ResourceArns); err != nil {
		return nil, err
	}
	if len(in.TagKeys) == 0 {
		return nil, invalid("At least one tag key must be specified")
	}
	for _, k := range in.TagKeys {
		if reserved(k) {
			return nil, invalid("The tag key '%s' cannot begin with 'aws:'", k)
		}
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		for _, arn := range in.ResourceArns {
			if err := exists(w, c.Scope(), arn); err != nil {
				return err
			}
			for _, k := range in.TagKeys {
				tag.Delete(w, c.Scope(), arn, k, nil)
			}
		}
		return nil
	})
}

func (s *Server) describeTags(c *api.Call, in *elbv2.DescribeTagsInput) (*elbv2.DescribeTagsOutput, error) {
	if err := checkARNs(c, "DescribeTags", in.ResourceArns); err != nil {
		return nil, err
	}
	out := &elbv2.DescribeTagsOutput{TagDescriptions: []elbv2.TagDescription{}}
	return out, c.View(func(tx store.Tx) error {
		for _, arn := range in.ResourceArns {
			if err := exists(tx, c.Scope(), arn); err != nil {
				return err
			}
			d := elbv2.TagDescription{ResourceArn: api.Ptr(arn), Tags: []elbv2.Tag{}}
			for _, t := range tag.Of(tx, c.Scope(), arn) {
				d.Tags = append(d.Tags, elbv2.Tag{Key: api.Ptr(t.Key), Value: api.Ptr(t.Value)})
			}
			out.TagDescriptions = append(out.TagDescriptions, d)
		}
		return nil
	})
}
