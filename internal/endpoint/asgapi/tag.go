package asgapi

import (
	"slices"
	"strconv"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func tagWire(g scaling.Group, t scaling.Tag) as.TagDescription {
	return as.TagDescription{Key: &t.Key, Value: &t.Value, PropagateAtLaunch: &t.Propagate, ResourceId: &g.Name, ResourceType: api.Ptr("auto-scaling-group")}
}

// byGroup checks that tags name groups, and sorts them out by group in order.
func byGroup(tags []as.Tag) (names []string, of map[string][]as.Tag, err error) {
	of = map[string][]as.Tag{}
	for _, t := range tags {
		if typ := api.Val(t.ResourceType); typ != "" && typ != "auto-scaling-group" {
			return nil, nil, invalid("Invalid resource type: %s. The valid type is auto-scaling-group.", typ)
		}
		name := api.Val(t.ResourceId)
		if name == "" {
			return nil, nil, invalid("The ResourceId of a tag must be specified.")
		}
		if of[name] == nil {
			names = append(names, name)
		}
		of[name] = append(of[name], t)
	}
	return names, of, nil
}

func (s *Server) createOrUpdateTags(c *api.Call, in *as.CreateOrUpdateTagsType) (*as.CreateOrUpdateTagsOutput, error) {
	names, of, err := byGroup(in.Tags)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		for _, n := range names {
			g, err := s.group(c, w, &n, "CreateOrUpdateTags")
			if err != nil {
				return err
			}
			var tags []scaling.Tag
			for _, t := range of[n] {
				tags = append(tags, scaling.Tag{Key: api.Val(t.Key), Value: api.Val(t.Value), Propagate: api.Val(t.PropagateAtLaunch)})
			}
			if err := s.Engine.SetTags(w, c.Scope(), g.Name, tags); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) deleteTags(c *api.Call, in *as.DeleteTagsType) (*as.DeleteTagsOutput, error) {
	names, of, err := byGroup(in.Tags)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		for _, n := range names {
			g, err := s.group(c, w, &n, "DeleteTags")
			if err != nil {
				return err
			}
			var keys []string
			for _, t := range of[n] {
				keys = append(keys, api.Val(t.Key))
			}
			if err := s.Engine.DeleteTags(w, c.Scope(), g.Name, keys); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) describeTags(c *api.Call, in *as.DescribeTagsType) (*as.TagsType, error) {
	for _, f := range in.Filters {
		if !slices.Contains([]string{"auto-scaling-group", "key", "value", "propagate-at-launch"}, api.Val(f.Name)) {
			return nil, invalid("Filter type %s is not correct. Allowed Filter types are: auto-scaling-group key value propagate-at-launch", api.Val(f.Name))
		}
	}
	out := &as.TagsType{}
	return out, c.View(func(tx store.Tx) error {
		var rows []as.TagDescription
		for g := range scaling.Groups.Prefix(tx, c.Scope().Prefix()) {
			for _, t := range g.Tags {
				ok := true
				for _, f := range in.Filters {
					v := map[string]string{"auto-scaling-group": g.Name, "key": t.Key, "value": t.Value, "propagate-at-launch": strconv.FormatBool(t.Propagate)}[*f.Name]
					ok = ok && slices.Contains(f.Values, v)
				}
				if ok {
					rows = append(rows, tagWire(g, t))
				}
			}
		}
		rows, next, err := page(rows, func(t as.TagDescription) string { return *t.ResourceId + ":" + *t.Key }, in.MaxRecords, in.NextToken, 50, 100)
		out.Tags, out.NextToken = rows, next
		return err
	})
}
