package metric

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds of a composite alarm's rule.
const (
	maxRule     = 10240 // characters
	maxElements = 500   // functions and operators
	maxChildren = 100
)

// rule is a composite alarm's condition: an operator over other rules, a constant, or the state of an alarm.
type rule struct {
	op    string // AND, OR, NOT, TRUE, FALSE, or a state
	args  []*rule
	alarm string // by name
}

// holds tells whether the rule is met; state gives that of an alarm.
func (r *rule) holds(state func(alarm string) string) bool {
	switch r.op {
	case "TRUE":
		return true
	case "FALSE":
		return false
	case "NOT":
		return !r.args[0].holds(state)
	case "AND":
		return r.args[0].holds(state) && r.args[1].holds(state)
	case "OR":
		return r.args[0].holds(state) || r.args[1].holds(state)
	}
	return state(r.alarm) == r.op
}

// children are the alarms that the rule looks at, each once, in their order.
func (r *rule) children(list []string) []string {
	if r.alarm != "" && !slices.Contains(list, r.alarm) {
		list = append(list, r.alarm)
	}
	for _, a := range r.args {
		list = a.children(list)
	}
	return list
}

type ruleParser struct {
	rest     string
	arn      string // what an alarm's ARN begins with here
	depth    int
	elements int
}

// parseRule reads the rule of a composite alarm. arn is what the ARNs of alarms begin with.
func parseRule(text, arn string) (*rule, error) {
	if len(text) > maxRule {
		return nil, fmt.Errorf("it may have up to %d characters", maxRule)
	}
	p := &ruleParser{rest: text, arn: arn}
	r, err := p.chain("OR", func() (*rule, error) { return p.chain("AND", p.one) })
	if err == nil && p.space() != "" {
		err = fmt.Errorf("'%s' is not expected", p.rest)
	}
	if err == nil && len(r.children(nil)) > maxChildren {
		err = fmt.Errorf("it may look at up to %d alarms", maxChildren)
	}
	return r, err
}

func (p *ruleParser) space() string {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	return p.rest
}

// word takes a word if it is next.
func (p *ruleParser) word(w string) bool {
	rest, ok := strings.CutPrefix(p.space(), w)
	if !ok || rest != "" && strings.IndexByte(letters, rest[0]) >= 0 {
		return false
	}
	p.rest = rest
	p.elements++
	return true
}

func (p *ruleParser) chain(op string, operand func() (*rule, error)) (*rule, error) {
	left, err := operand()
	for err == nil && p.word(op) {
		var right *rule
		if right, err = operand(); err == nil {
			left = &rule{op: op, args: []*rule{left, right}}
		}
	}
	return left, err
}

func (p *ruleParser) one() (*rule, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("it is nested too deep")
	}
	defer func() { p.depth-- }()
	if p.elements > maxElements {
		return nil, fmt.Errorf("it may have up to %d elements", maxElements)
	}
	switch {
	case p.word("NOT"):
		r, err := p.one()
		return &rule{op: "NOT", args: []*rule{r}}, err
	case p.word("TRUE"):
		return &rule{op: "TRUE"}, nil
	case p.word("FALSE"):
		return &rule{op: "FALSE"}, nil
	case p.word("AT_LEAST"):
		return nil, fmt.Errorf("the function AT_LEAST is not supported")
	}
	for _, state := range []string{StateAlarm, StateOK, StateInsufficient} {
		if p.word(state) {
			name, err := p.name()
			return &rule{op: state, alarm: name}, err
		}
	}
	if rest, ok := strings.CutPrefix(p.space(), "("); ok {
		p.rest = rest
		r, err := p.chain("OR", func() (*rule, error) { return p.chain("AND", p.one) })
		if err == nil && !strings.HasPrefix(p.space(), ")") {
			err = fmt.Errorf("')' is missing before '%s'", p.rest)
		}
		p.rest = strings.TrimPrefix(p.rest, ")")
		return r, err
	}
	if p.rest == "" {
		return nil, fmt.Errorf("it ends too early")
	}
	return nil, fmt.Errorf("'%s' is not expected", p.rest)
}

// name reads an alarm's name or ARN, in brackets, and in quotes if it holds blanks or brackets.
func (p *ruleParser) name() (string, error) {
	rest, ok := strings.CutPrefix(p.space(), "(")
	if !ok {
		return "", fmt.Errorf("'(' is missing before '%s'", p.rest)
	}
	p.rest = rest
	var name string
	if p.space(); strings.HasPrefix(p.rest, `"`) {
		if name, p.rest, ok = strings.Cut(p.rest[1:], `"`); !ok {
			return "", fmt.Errorf("a name has no end")
		}
	} else {
		n := strings.IndexAny(p.rest, ") \t\r\n(")
		if n < 0 {
			return "", fmt.Errorf("')' is missing")
		}
		name, p.rest = p.rest[:n], p.rest[n:]
	}
	if p.rest, ok = strings.CutPrefix(p.space(), ")"); !ok {
		return "", fmt.Errorf("')' is missing before '%s'", p.rest)
	}
	if strings.HasPrefix(name, "arn:") {
		if name, ok = strings.CutPrefix(name, p.arn); !ok {
			return "", fmt.Errorf("alarms of other accounts and regions are not supported")
		}
	}
	if name == "" {
		return "", fmt.Errorf("a name is empty")
	}
	return name, nil
}
