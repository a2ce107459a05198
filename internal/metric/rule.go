package metric

import (
	"fmt"
	"slices"
	"strconv"
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
	op    string // AND, OR, NOT, TRUE, FALSE, AT_LEAST, or a state
	args  []*rule
	alarm string // by name
	least int    // how many of its rules AT_LEAST wants
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
	case "AT_LEAST":
		n := 0
		for _, a := range r.args {
			if a.holds(state) {
				n++
			}
		}
		return n >= r.least
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
		return p.atLeast()
	}
	if state := p.state(); state != "" {
		err := p.need("(")
		if err != nil {
			return nil, err
		}
		r := &rule{op: state}
		if r.alarm, err = p.name(); err == nil {
			err = p.need(")")
		}
		return r, err
	}
	if p.take("(") {
		r, err := p.chain("OR", func() (*rule, error) { return p.chain("AND", p.one) })
		if err == nil {
			err = p.need(")")
		}
		return r, err
	}
	if p.rest == "" {
		return nil, fmt.Errorf("it ends too early")
	}
	return nil, fmt.Errorf("'%s' is not expected", p.rest)
}

// take takes a piece of punctuation if it is next.
func (p *ruleParser) take(c string) bool {
	rest, ok := strings.CutPrefix(p.space(), c)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *ruleParser) need(c string) error {
	switch {
	case p.take(c):
		return nil
	case p.rest == "":
		return fmt.Errorf("'%s' is missing at its end", c)
	}
	return fmt.Errorf("'%s' is missing before '%s'", c, p.rest)
}

// state takes the name of a state if it is next.
func (p *ruleParser) state() string {
	for _, s := range []string{StateAlarm, StateOK, StateInsufficient} {
		if p.word(s) {
			return s
		}
	}
	return ""
}

// atLeast reads what AT_LEAST is given: a number or a percentage, a state or NOT one, and alarms.
func (p *ruleParser) atLeast() (*rule, error) {
	if err := p.need("("); err != nil {
		return nil, err
	}
	digits := p.space()[:len(p.rest)-len(strings.TrimLeft(p.rest, "0123456789"))]
	p.rest = p.rest[len(digits):]
	n, err := strconv.Atoi(digits)
	percent := p.take("%")
	switch {
	case err != nil || n < 1:
		return nil, fmt.Errorf("AT_LEAST begins with a number above 0, or a percentage")
	case percent && n > 100:
		return nil, fmt.Errorf("AT_LEAST takes up to 100%%")
	}
	if err := p.need(","); err != nil {
		return nil, err
	}
	not := p.word("NOT")
	state := p.state()
	if state == "" {
		return nil, fmt.Errorf("AT_LEAST takes ALARM, OK, INSUFFICIENT_DATA or NOT one of them, not '%s'", p.rest)
	}
	if err := p.need(","); err != nil {
		return nil, err
	}
	if err := p.need("("); err != nil {
		return nil, err
	}
	r := &rule{op: "AT_LEAST", least: n}
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		one := &rule{op: state, alarm: name}
		if not {
			one = &rule{op: "NOT", args: []*rule{one}}
		}
		if r.args = append(r.args, one); !p.take(",") {
			break
		}
	}
	switch {
	case percent:
		r.least = (len(r.args)*n + 99) / 100
	case n > len(r.args):
		return nil, fmt.Errorf("AT_LEAST wants %d of %d alarms", n, len(r.args))
	}
	if err := p.need(")"); err != nil {
		return nil, err
	}
	return r, p.need(")")
}

// name reads an alarm's name or ARN, in quotes if it holds blanks, commas or brackets.
func (p *ruleParser) name() (string, error) {
	var name string
	var ok bool
	if p.space(); strings.HasPrefix(p.rest, `"`) {
		if name, p.rest, ok = strings.Cut(p.rest[1:], `"`); !ok {
			return "", fmt.Errorf("a name has no end")
		}
	} else {
		n := strings.IndexAny(p.rest, "), \t\r\n(")
		if n < 0 {
			return "", fmt.Errorf("')' is missing")
		}
		name, p.rest = p.rest[:n], p.rest[n:]
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
