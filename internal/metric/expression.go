package metric

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of an expression.
const (
	maxExpression = 2048 // characters, as in CloudWatch
	maxDepth      = 100  // of nesting
)

// node is a part of an expression. Op is number, id, text, word (REPEAT, DESC), list, call, - (of one operand), or an
// operator of two.
type node struct {
	op     string
	number float64
	name   string // of an id, a word and a called function; of a text the text
	args   []*node
}

// ids calls fn with what the expression reads; METRICS() and SEARCH() read more than they name.
func (n *node) ids(fn func(id string)) {
	if n.op == "id" {
		fn(n.name)
	}
	for _, a := range n.args {
		a.ids(fn)
	}
}

// calls tells whether a function is called somewhere in the expression.
func (n *node) calls(name string) bool {
	if n.op == "call" && n.name == name {
		return true
	}
	for _, a := range n.args {
		if a.calls(name) {
			return true
		}
	}
	return false
}

type parser struct {
	rest  string
	depth int
}

// parse reads an expression. What isn't served is refused by name.
func parse(text string) (*node, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("an expression may have up to %d characters", maxExpression)
	}
	p := &parser{rest: text}
	n, err := p.either()
	if err == nil && p.peek() != 0 {
		err = p.unexpected()
	}
	return n, err
}

func (p *parser) unexpected() error {
	if p.peek() == 0 {
		return fmt.Errorf("it ends too early")
	}
	return fmt.Errorf("'%s' is not expected, or not supported", p.rest)
}

// peek is the next character that isn't a space, or 0 at the end.
func (p *parser) peek() byte {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

func (p *parser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) need(c byte) error {
	if !p.take(c) {
		return fmt.Errorf("'%c' is missing before '%s'", c, p.rest)
	}
	return nil
}

// operator takes one of the operators if it is next. A longer one stands before its beginning.
func (p *parser) operator(ops []string) string {
	p.peek()
	for _, op := range ops {
		if rest, ok := strings.CutPrefix(p.rest, op); ok && (op[0] < 'A' || op[0] > 'Z' || rest == "" || strings.IndexByte(letters, rest[0]) < 0) {
			p.rest = rest
			return op
		}
	}
	return ""
}

// The operators by rank, and what those with two spellings mean.
var (
	orOps      = []string{"OR", "||"}
	andOps     = []string{"AND", "&&"}
	compareOps = []string{"==", "!=", "<=", ">=", "<", ">"}
	sumOps     = []string{"+", "-"}
	productOps = []string{"*", "/"}
	spelling   = map[string]string{"||": "OR", "&&": "AND"}
)

// chain reads operands with operators of one rank between them, which bind to the left.
func (p *parser) chain(operand func() (*node, error), ops []string) (*node, error) {
	left, err := operand()
	for err == nil {
		op := p.operator(ops)
		if op == "" {
			break
		}
		if s, ok := spelling[op]; ok {
			op = s
		}
		var right *node
		if right, err = operand(); err == nil {
			left = &node{op: op, args: []*node{left, right}}
		}
	}
	return left, err
}

func (p *parser) either() (*node, error)   { return p.chain(p.both, orOps) }
func (p *parser) both() (*node, error)     { return p.chain(p.compared, andOps) }
func (p *parser) compared() (*node, error) { return p.chain(p.sum, compareOps) }
func (p *parser) sum() (*node, error)      { return p.chain(p.product, sumOps) }
func (p *parser) product() (*node, error)  { return p.chain(p.signed, productOps) }

func (p *parser) signed() (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("it is nested too deep")
	}
	defer func() { p.depth-- }()
	if p.take('-') {
		n, err := p.signed()
		return &node{op: "-", args: []*node{n}}, err
	}
	base, err := p.operand()
	if err != nil || !p.take('^') {
		return base, err
	}
	by, err := p.signed()
	return &node{op: "^", args: []*node{base, by}}, err
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

func (p *parser) word(of string) string {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, of))
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

func (p *parser) operand() (*node, error) {
	c := p.peek()
	switch {
	case p.take('('):
		n, err := p.either()
		if err == nil {
			err = p.need(')')
		}
		return n, err
	case p.take('['):
		args, err := p.arguments(']')
		return &node{op: "list", args: args}, err
	case c == '\'' || c == '"':
		text, rest, ok := strings.Cut(p.rest[1:], string(c))
		if !ok {
			return nil, fmt.Errorf("a text has no end")
		}
		p.rest = rest
		return &node{op: "text", name: text}, nil
	case c >= '0' && c <= '9' || c == '.':
		text := p.word("0123456789.")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("'%s' is not a number", text)
		}
		return &node{op: "number", number: v}, nil
	case c >= 'a' && c <= 'z':
		return &node{op: "id", name: p.word(letters)}, nil
	case c >= 'A' && c <= 'Z':
		name := p.word(letters)
		if !p.take('(') {
			if !keywords[name] {
				return nil, fmt.Errorf("'%s' is not an id", name)
			}
			return &node{op: "word", name: name}, nil
		}
		if _, ok := functions[name]; !ok {
			return nil, fmt.Errorf("the function %s is not supported", name)
		}
		if p.take(')') {
			return &node{op: "call", name: name}, nil
		}
		args, err := p.arguments(')')
		return &node{op: "call", name: name, args: args}, err
	}
	return nil, p.unexpected()
}

// arguments reads a list up to the closing character.
func (p *parser) arguments(end byte) ([]*node, error) {
	var out []*node
	for {
		n, err := p.either()
		if err != nil {
			return nil, err
		}
		if out = append(out, n); !p.take(',') {
			return out, p.need(end)
		}
	}
}

// keywords are the words that stand for themselves, as arguments.
var keywords = map[string]bool{"REPEAT": true, "LINEAR": true, "ASC": true, "DESC": true, "SUM": true, "AVG": true, "MIN": true, "MAX": true}
