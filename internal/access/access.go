package access

import (
	"maps"
	"reflect"
	"strings"

	"skerry/api"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// maxNeeds bounds the questions of one request. Operations take fewer ids than that.
const maxNeeds = 2000

// Checker asks the policies of callers. Safe for concurrent use.
type Checker struct {
	DB *store.DB
}

// Permit asks for all that an operation with this input needs.
func (k *Checker) Permit(c *api.Call, h *api.Handler, in any) error {
	p := identity.Principal(c.Principal)
	if p.IsRoot() {
		return nil
	}
	tx := k.DB.Read()
	judge := identity.NewJudge(tx, p)
	for _, n := range needs(tx, c, h.Service.Name, h.Name, in) {
		if q, err := ask(tx, judge, c, n); err != nil {
			return k.explain(h.Service.Name, p, q, err)
		}
	}
	return nil
}

// explain adds to EC2's refusals what sts:DecodeAuthorizationMessage reads.
func (k *Checker) explain(service string, p identity.Principal, q identity.Query, err error) error {
	f, ok := fault.As(err)
	if service != "ec2" || !ok {
		return err
	}
	text, encErr := identity.EncodeMessage(k.DB, identity.Refusal{Principal: p, Query: q, Explicit: strings.Contains(f.Msg, "with an explicit deny")})
	if encErr != nil || len(text) > identity.MaxMessage {
		return err // the refusal stands without it
	}
	return fault.New(f.Kind, f.Code, "%s. Encoded authorization failure message: %s", f.Msg, text)
}

// Authorize asks for one action on one resource.
func (k *Checker) Authorize(c *api.Call, action, resource string) error {
	p := identity.Principal(c.Principal)
	if p.IsRoot() {
		return nil
	}
	n := need{action: action, arn: resource}
	if action == "iam:PassRole" {
		n.keys = map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}}
	}
	tx := k.DB.Read()
	_, err := ask(tx, identity.NewJudge(tx, p), c, n)
	return err
}

// need is one question: may the caller do this to that.
type need struct {
	action, arn string
	keys        map[string][]string // that this need has and the request as such has not
}

// ask puts one question, with the conditions' keys of the request, of the resource and of the need, the later ones winning.
func ask(tx store.Tx, judge *identity.Judge, c *api.Call, n need) (identity.Query, error) {
	keys := maps.Clone(c.Keys)
	if keys == nil {
		keys = map[string][]string{}
	}
	maps.Copy(keys, about(tx, c.Account, n.arn))
	maps.Copy(keys, n.keys)
	q := identity.Query{Action: n.action, Resource: n.arn, Context: keys}
	return q, judge.Ask(q)
}

// finder collects the needs of one request.
type finder struct {
	tx     store.Tx
	c      *api.Call
	scope  scope.Scope
	action string
	op     string
	in     reflect.Value
	keys   map[string][]string // of all needs for resources that are there
	out    []need
	seen   map[string]bool
}

// needs lists what the operation needs.
func needs(tx store.Tx, c *api.Call, service, op string, in any) []need {
	prefix := service
	if service == "elbv2" {
		prefix = "elasticloadbalancing"
	}
	f := &finder{tx: tx, c: c, scope: c.Scope(), op: op, action: prefix + ":" + op, in: reflect.ValueOf(in).Elem(), seen: map[string]bool{}}
	f.keys = f.requestTags()
	switch service {
	case "ec2":
		f.ec2()
	case "autoscaling":
		f.autoscaling()
	case "elbv2":
		f.elb()
	case "cloudwatch":
		f.cloudwatch()
	case "iam":
		f.iam()
	case "sts":
		f.sts()
	case "acm":
		f.acm()
	}
	if len(f.out) == 0 {
		f.add("*", nil)
	}
	return f.out
}

// add asks for the operation's own action on a resource.
func (f *finder) add(arn string, keys map[string][]string) { f.ask(f.action, arn, keys) }

func (f *finder) ask(action, arn string, keys map[string][]string) {
	id := action + " " + arn
	if f.seen[id] || len(f.out) >= maxNeeds {
		return
	}
	f.seen[id] = true
	if action == f.action && len(f.keys) > 0 {
		all := maps.Clone(f.keys)
		maps.Copy(all, keys)
		keys = all
	}
	f.out = append(f.out, need{action, arn, keys})
}

// texts returns the strings at a path of the input: those of a *string or []string, in structures and lists of them.
func (f *finder) texts(path string) []string { return texts(f.in, path) }

func (f *finder) text(path string) string {
	if l := f.texts(path); len(l) > 0 {
		return l[0]
	}
	return ""
}

func texts(v reflect.Value, path string) []string {
	name, rest, deeper := strings.Cut(path, ".")
	v = v.FieldByName(name)
	if !v.IsValid() {
		return nil
	}
	if !deeper {
		switch p := v.Interface().(type) {
		case *string:
			if p != nil && *p != "" {
				return []string{*p}
			}
		case []string:
			return p
		}
		return nil
	}
	var out []string
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out = texts(v.Elem(), rest)
		}
	case reflect.Slice:
		for i := range v.Len() {
			out = append(out, texts(v.Index(i), rest)...)
		}
	}
	return out
}

// requestTags are the condition keys of the tags that the input's Tags and TagKeys members give.
func (f *finder) requestTags() map[string][]string {
	tags := f.in.FieldByName("Tags")
	if !tags.IsValid() || tags.Kind() != reflect.Slice || tags.Type().Elem().Kind() != reflect.Struct {
		if keys := f.texts("TagKeys"); len(keys) > 0 {
			return map[string][]string{"aws:tagkeys": keys}
		}
		return nil
	}
	keys := map[string][]string{}
	for i := range tags.Len() {
		tagKey(keys, strings.Join(texts(tags.Index(i), "Key"), ""), strings.Join(texts(tags.Index(i), "Value"), ""))
	}
	return keys
}

func tagKey(keys map[string][]string, key, value string) {
	if key == "" {
		return
	}
	keys["aws:requesttag/"+strings.ToLower(key)] = []string{value}
	keys["aws:tagkeys"] = append(keys["aws:tagkeys"], key)
}
