package balance

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Limits of AWS.
const (
	MaxRules          = 100 // a load balancer, without the default ones
	MaxValues         = 5   // of all conditions of a rule
	MaxWildcards      = 6
	maxPriority       = 50000
	maxConditionChars = 128
	maxHeaderChars    = 40
)

// Fields of conditions.
const (
	HostHeader    = "host-header"
	PathPattern   = "path-pattern"
	HTTPHeader    = "http-header"
	RequestMethod = "http-request-method"
	QueryString   = "query-string"
	SourceIP      = "source-ip"
)

// GetRule finds a rule by its ARN; a listener's default rule too (isDefault).
func GetRule(tx store.Tx, s scope.Scope, arn string) (r Rule, isDefault bool, err error) {
	if v, ok := Rules.Get(tx, s.Key(arn)); ok {
		return v, false, nil
	}
	for l := range Listeners.Prefix(tx, s.Prefix()) {
		if l.DefaultRuleARN == arn {
			return DefaultRule(l), true, nil
		}
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":listener-rule/") {
		return Rule{}, false, invalid("'%s' is not a valid listener rule ARN", arn)
	}
	return Rule{}, false, fault.New(fault.NotFound, "RuleNotFound", "One or more rules not found")
}

// DefaultRule is the rule that shows a listener's default actions.
func DefaultRule(l Listener) Rule {
	return Rule{Scope: l.Scope, ARN: l.DefaultRuleARN, ListenerARN: l.ARN, Actions: l.DefaultActions, CreatedAt: l.CreatedAt}
}

// RulesOf lists a listener's rules by priority, without the default one.
func RulesOf(tx store.Tx, l Listener) []Rule {
	var out []Rule
	for r := range Rules.By(tx, "listener", l.Key(l.ARN)) {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Rule) int { return int(a.Priority) - int(b.Priority) })
	return out
}

// RuleParams are the parameters of CreateRule and ModifyRule, where nil leaves what is there.
type RuleParams struct {
	Conditions []Condition
	Transforms []Transform // empty: none any more
	Actions    []Action
}

// CreateRule makes a rule of an application load balancer's listener.
func CreateRule(w *store.WriteTx, s scope.Scope, listenerARN string, priority int32, p RuleParams, tags map[string]string) (Rule, error) {
	l, err := GetListener(w, s, listenerARN)
	if err != nil {
		return Rule{}, err
	}
	lb, err := GetLoadBalancer(w, s, l.LoadBalancerARN)
	if err != nil {
		return Rule{}, err
	}
	if lb.Type != Application {
		return Rule{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Rules are not supported for network load balancers")
	}
	if err := checkPriority(priority); err != nil {
		return Rule{}, err
	}
	n := 0
	for o := range Listeners.By(w, "lb", s.Key(lb.ARN)) {
		n += len(RulesOf(w, o))
	}
	for _, r := range RulesOf(w, l) {
		if r.Priority == priority {
			return Rule{}, fault.New(fault.Exists, "PriorityInUse", "Priority '%d' is currently in use", priority)
		}
	}
	if n >= MaxRules {
		return Rule{}, fault.New(fault.Limit, "TooManyRules", "The maximum number of rules on load balancer '%s' has been reached", lb.ARN)
	}
	if err := checkConditions(p.Conditions); err != nil {
		return Rule{}, err
	}
	if err := checkTransforms(p.Transforms); err != nil {
		return Rule{}, err
	}
	actions, err := checkActions(w, lb, l, p.Actions, nil)
	if err != nil {
		return Rule{}, err
	}
	id := l.ARN[strings.LastIndex(l.ARN, "/")+1:]
	r := Rule{Scope: s, ARN: s.ARN("elasticloadbalancing", "listener-rule/"+lb.Dimension()+"/"+id+"/"+hex16(w)), ListenerARN: l.ARN, Priority: priority,
		Conditions: p.Conditions, Transforms: p.Transforms, Actions: actions, CreatedAt: w.Now()}
	Rules.Put(w, r)
	tag.SetSystem(w, s, r.ARN, tags)
	return r, nil
}

func checkPriority(p int32) error {
	if p < 1 || p > maxPriority {
		return invalid("1 validation error detected: Value '%d' at 'priority' failed to satisfy constraint: Member must have value between 1 and %d", p, maxPriority)
	}
	return nil
}

// ModifyRule replaces the parts that are given; the default rule refuses.
func ModifyRule(w *store.WriteTx, s scope.Scope, arn string, p RuleParams) (Rule, error) {
	r, isDefault, err := GetRule(w, s, arn)
	if err != nil {
		return Rule{}, err
	}
	l, err := GetListener(w, s, r.ListenerARN)
	if err != nil {
		return Rule{}, err
	}
	lb, err := GetLoadBalancer(w, s, l.LoadBalancerARN)
	if err != nil {
		return Rule{}, err
	}
	if isDefault { // ModifyListener changes its actions
		return Rule{}, fault.New(fault.Denied, "OperationNotPermitted", "Default rule '%s' cannot be modified", arn)
	}
	if p.Conditions != nil {
		if err := checkConditions(p.Conditions); err != nil {
			return Rule{}, err
		}
		r.Conditions = p.Conditions
	}
	if p.Transforms != nil {
		if err := checkTransforms(p.Transforms); err != nil {
			return Rule{}, err
		}
		r.Transforms = p.Transforms
	}
	if p.Actions != nil {
		if r.Actions, err = checkActions(w, lb, l, p.Actions, r.Actions); err != nil {
			return Rule{}, err
		}
	}
	Rules.Put(w, r)
	return r, nil
}

// DeleteRule deletes a rule; the default one refuses.
func DeleteRule(w *store.WriteTx, s scope.Scope, arn string) error {
	r, isDefault, err := GetRule(w, s, arn)
	if err != nil {
		return err
	}
	if isDefault {
		return fault.New(fault.Denied, "OperationNotPermitted", "Default rule '%s' cannot be deleted", arn)
	}
	dropRule(w, r)
	return nil
}

func dropRule(w *store.WriteTx, r Rule) {
	Rules.Delete(w, r.Key(r.ARN))
	tag.DeleteAll(w, r.Scope, r.ARN)
}

// SetRulePriorities gives rules new priorities, all at once: they may swap.
func SetRulePriorities(w *store.WriteTx, s scope.Scope, priorities map[string]int32) ([]Rule, error) {
	byListener := map[string][]Rule{}
	var changed []Rule
	for _, arn := range sortedKeys(priorities) {
		r, isDefault, err := GetRule(w, s, arn)
		if err != nil {
			return nil, err
		}
		if isDefault {
			return nil, fault.New(fault.Denied, "OperationNotPermitted", "Default rule '%s' priority cannot be modified", arn)
		}
		if err := checkPriority(priorities[arn]); err != nil {
			return nil, err
		}
		r.Priority = priorities[arn]
		changed = append(changed, r)
		byListener[r.ListenerARN] = append(byListener[r.ListenerARN], r)
	}
	for _, arn := range sortedKeys(byListener) {
		taken := map[int32]bool{}
		l, err := GetListener(w, s, arn)
		if err != nil {
			return nil, err
		}
		all := byListener[arn]
		for _, r := range RulesOf(w, l) {
			if _, moved := priorities[r.ARN]; !moved {
				all = append(all, r)
			}
		}
		for _, r := range all {
			if taken[r.Priority] {
				return nil, fault.New(fault.Exists, "PriorityInUse", "Priority '%d' is currently in use", r.Priority)
			}
			taken[r.Priority] = true
		}
	}
	for _, r := range changed {
		Rules.Put(w, r)
	}
	return changed, nil
}

var (
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9.*?-]+$`)
	pathPattern = regexp.MustCompile(`^[A-Za-z0-9_.$/~"'@:+&*?-]+$`)
	headerName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	methodName  = regexp.MustCompile(`^[A-Z_-]+$`)
)

// checkConditions refuses conditions that AWS refuses. They are kept as given.
func checkConditions(conditions []Condition) error {
	if len(conditions) == 0 {
		return invalid("A condition must be specified")
	}
	seen := map[string]bool{}
	values, wildcards := 0, 0
	for _, c := range conditions {
		switch c.Field {
		case HostHeader, PathPattern, RequestMethod, SourceIP:
			if seen[c.Field] {
				return invalid("A rule can only have one '%s' condition", c.Field)
			}
		case HTTPHeader, QueryString:
		case "":
			return invalid("A condition field must be specified")
		default:
			return invalid("Condition field '%s' must be one of '[path-pattern, host-header, http-header, http-request-method, query-string, source-ip]'", c.Field)
		}
		seen[c.Field] = true
		n := len(c.Values) + len(c.Query) + len(c.Regex)
		if n == 0 {
			return invalid("A condition value must be specified")
		}
		values += n
		for _, v := range c.Values {
			if err := checkValue(c, v); err != nil {
				return err
			}
			if c.Field != SourceIP && c.Field != RequestMethod {
				wildcards += strings.Count(v, "*") + strings.Count(v, "?")
			}
		}
		for _, q := range c.Query {
			if !isHeaderValue(q.Key) || !isHeaderValue(q.Value) {
				return badCharacter(q.Key + "=" + q.Value)
			}
			if q.Value == "" || len(q.Key) > maxConditionChars || len(q.Value) > maxConditionChars {
				return invalid("A query-string value must be specified, and key and value can have at most %d characters", maxConditionChars)
			}
			wildcards += strings.Count(q.Key+q.Value, "*") + strings.Count(q.Key+q.Value, "?")
		}
		for _, v := range c.Regex {
			if c.Field != HostHeader && c.Field != PathPattern && c.Field != HTTPHeader {
				return invalid("Regex values are not supported for condition field '%s'", c.Field)
			}
			if _, err := regexp.Compile(v); err != nil || len(v) > maxConditionChars {
				return invalid("The regex value '%s' is not valid", v)
			}
		}
		if c.Field == HTTPHeader {
			if !headerName.MatchString(c.Header) || len(c.Header) > maxHeaderChars || strings.EqualFold(c.Header, "host") {
				return invalid("The HTTP header name '%s' of a condition is not valid", c.Header)
			}
		}
	}
	if values > MaxValues {
		return invalid("A rule can only have '%d' condition values and regex values", MaxValues)
	}
	if wildcards > MaxWildcards {
		return invalid("A rule can only have '%d' condition wildcards", MaxWildcards)
	}
	return nil
}

func badCharacter(v string) error {
	return invalid("Condition value '%s' contains a character that is not valid", v)
}

func checkValue(c Condition, v string) error {
	if v == "" || len(v) > maxConditionChars {
		return invalid("The condition value '%s' must contain between 1 and %d characters", v, maxConditionChars)
	}
	switch c.Field {
	case HostHeader:
		last := v[strings.LastIndex(v, ".")+1:]
		if !hostPattern.MatchString(v) {
			return badCharacter(v)
		}
		if !strings.Contains(v, ".") && !strings.Contains(v, "*") || strings.IndexFunc(last, isNotHostTail) >= 0 {
			return invalid("The host name '%s' of a condition is not valid", v)
		}
	case PathPattern:
		if !pathPattern.MatchString(v) {
			return badCharacter(v)
		}
	case RequestMethod:
		if !methodName.MatchString(v) || len(v) > maxHeaderChars {
			return badCharacter(v)
		}
	case HTTPHeader:
		if !isHeaderValue(v) {
			return badCharacter(v)
		}
	case SourceIP:
		p, err := netip.ParsePrefix(v)
		if err != nil || v == "255.255.255.255/32" {
			return invalid("The source IP '%s' of a condition is not a valid CIDR block", v)
		}
		_ = p
	case QueryString:
		return invalid("A query-string condition must have a QueryStringConfig")
	}
	return nil
}

func isNotHostTail(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '*' || r == '?')
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
