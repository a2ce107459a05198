package policy

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// text writes documents, for Parse to read.
func text(t *rapid.T, ss []Statement) *Document {
	var list []map[string]any
	for _, s := range ss {
		m := map[string]any{"Effect": s.Effect}
		for k, v := range map[string][]string{"Action": s.Actions, "NotAction": s.NotActions, "Resource": s.Resources, "NotResource": s.NotResources} {
			if v != nil {
				m[k] = v
			}
		}
		for _, c := range s.Conditions {
			m["Condition"] = map[string]any{c.Operator: map[string]any{c.Key: c.Values}}
		}
		list = append(list, m)
	}
	b, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": list})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(string(b), Identity)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return d
}

// inverted is a statement of which some are NotAction and NotResource.
func inverted() *rapid.Generator[Statement] {
	return rapid.Custom(func(t *rapid.T) Statement {
		s := statement().Draw(t, "statement")
		if rapid.IntRange(0, 3).Draw(t, "not these actions") == 0 {
			s.Actions, s.NotActions = nil, s.Actions
		}
		if rapid.IntRange(0, 3).Draw(t, "not these resources") == 0 {
			s.Resources, s.NotResources = nil, s.Resources
		}
		return s
	})
}

// TestLawsOfDecisions: wherever a statement stands, in an identity policy, a boundary or a session policy: one that denies
// the request wins over all others, and to take one away that allows never grants.
func TestLawsOfDecisions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Request{Action: rapid.SampledFrom([]string{"ec2:RunInstances", "ec2:Stop", "s3:Get1"}).Draw(t, "action"),
			Resource: rapid.SampledFrom([]string{"*", "arn:aws:ec2:r:1:instance/i-1", "arn:aws:s3:::b"}).Draw(t, "resource"), Keys: map[string][]string{"a:b": {"x"}}}
		sets := [3][]Statement{}
		for i := range sets {
			sets[i] = rapid.SliceOfN(inverted(), 1, 4).Draw(t, [3]string{"identity", "boundary", "session"}[i])
		}
		bounded, sessioned := rapid.Bool().Draw(t, "bounded"), rapid.Bool().Draw(t, "sessioned")
		decide := func(sets [3][]Statement) Decision {
			p := Policies{Bounded: bounded, Sessioned: sessioned}
			for i, to := range []*[]*Document{&p.Identity, &p.Boundary, &p.Session} {
				if len(sets[i]) > 0 {
					*to = []*Document{text(t, sets[i])}
				}
			}
			d, by := Decide(p, r)
			if (d == Allowed) != (by == "") {
				t.Fatalf("%s by %q", d, by)
			}
			return d
		}
		before := decide(sets)

		in := []int{0} // the sets that count
		if bounded {
			in = append(in, 1)
		}
		if sessioned {
			in = append(in, 2)
		}
		i := rapid.SampledFrom(in).Draw(t, "in")
		final := Statement{Effect: Deny, Actions: []string{rapid.SampledFrom([]string{"*", r.Action, r.Action[:4] + "*"}).Draw(t, "denied")}, Resources: []string{rapid.SampledFrom([]string{"*", r.Resource}).Draw(t, "denied of")}}
		denied := sets
		denied[i] = slices.Insert(slices.Clone(sets[i]), rapid.IntRange(0, len(sets[i])).Draw(t, "at"), final)
		if d := decide(denied); d != Denied {
			t.Fatalf("%s in spite of %+v", d, final)
		}

		n := rapid.IntRange(0, len(sets[i])-1).Draw(t, "which")
		if sets[i][n].Effect == Allow {
			less := sets
			less[i] = slices.Delete(slices.Clone(sets[i]), n, n+1)
			if d := decide(less); before != Allowed && d == Allowed || before == Denied && d != Denied {
				t.Fatalf("%s, and without an allow %s", before, d)
			}
		}
	})
}
