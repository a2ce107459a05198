package metric

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Expression is metric math that works point by point: arithmetic over metrics and numbers, ABS, CEIL, FLOOR, FILL(m, n),
// and SUM, AVG, MIN and MAX over a list in brackets.
type Expression struct {
	eval func(at func(id string) (float64, bool)) (float64, bool)
	IDs  []string // the metrics and expressions that it reads
}

// At is the value at one point in time; at gives what the expression reads. A point that any operand lacks is missing,
// and so is one that has no finite value.
func (e Expression) At(at func(id string) (float64, bool)) (float64, bool) {
	v, ok := e.eval(at)
	return v, ok && sane(v)
}

const maxExpression = 2048 // characters, as in CloudWatch

type node = func(at func(id string) (float64, bool)) (float64, bool)

type parser struct {
	rest  string
	depth int
	ids   []string
}

// ParseExpression reads an expression. What isn't served is refused by name.
func ParseExpression(text string) (Expression, error) {
	if len(text) > maxExpression {
		return Expression{}, fmt.Errorf("an expression may have up to %d characters", maxExpression)
	}
	p := &parser{rest: text}
	n, err := p.sum()
	if err == nil && p.peek() != 0 {
		err = fmt.Errorf("'%s' is not expected, or not supported", p.rest)
	}
	return Expression{n, p.ids}, err
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

// chain reads operands with operators of one rank between them, which bind to the left.
func (p *parser) chain(operand func() (node, error), ops string) (node, error) {
	left, err := operand()
	for err == nil && p.peek() != 0 && strings.IndexByte(ops, p.peek()) >= 0 {
		op, l := p.peek(), left
		p.take(op)
		var r node
		if r, err = operand(); err == nil {
			left = operate(op, l, r)
		}
	}
	return left, err
}

func operate(op byte, l, r node) node {
	return func(at func(string) (float64, bool)) (float64, bool) {
		a, ok := l(at)
		b, also := r(at)
		if !ok || !also {
			return 0, false
		}
		switch op {
		case '+':
			return a + b, true
		case '-':
			return a - b, true
		case '*':
			return a * b, true
		case '/':
			return a / b, b != 0
		}
		return math.Pow(a, b), true
	}
}

func (p *parser) sum() (node, error)     { return p.chain(p.product, "+-") }
func (p *parser) product() (node, error) { return p.chain(p.signed, "*/") }

func (p *parser) signed() (node, error) {
	if p.depth++; p.depth > 100 {
		return nil, fmt.Errorf("it is nested too deep")
	}
	defer func() { p.depth-- }()
	if p.take('-') {
		n, err := p.signed()
		return operate('-', number(0), n), err
	}
	base, err := p.operand()
	if err != nil || !p.take('^') {
		return base, err
	}
	by, err := p.signed()
	return operate('^', base, by), err
}

func number(v float64) node {
	return func(func(string) (float64, bool)) (float64, bool) { return v, true }
}

func (p *parser) operand() (node, error) {
	c := p.peek()
	switch {
	case p.take('('):
		n, err := p.sum()
		if err == nil {
			err = p.need(')')
		}
		return n, err
	case c >= '0' && c <= '9' || c == '.':
		text := p.word("0123456789.")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("'%s' is not a number", text)
		}
		return number(v), nil
	case c >= 'a' && c <= 'z':
		id := p.word(letters)
		p.ids = append(p.ids, id)
		return func(at func(string) (float64, bool)) (float64, bool) { return at(id) }, nil
	case c >= 'A' && c <= 'Z':
		return p.function(p.word(letters))
	case c == 0:
		return nil, fmt.Errorf("it ends too early")
	}
	return nil, fmt.Errorf("'%s' is not expected, or not supported", p.rest)
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

func (p *parser) word(of string) string {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, of))
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w
}

// arguments reads a list up to the closing character.
func (p *parser) arguments(end byte) ([]node, error) {
	var out []node
	for {
		n, err := p.sum()
		if err != nil {
			return nil, err
		}
		if out = append(out, n); !p.take(',') {
			return out, p.need(end)
		}
	}
}

func (p *parser) function(name string) (node, error) {
	if !p.take('(') {
		return nil, fmt.Errorf("'%s' is not an id", name)
	}
	switch name {
	case "SUM", "AVG", "MIN", "MAX":
		if !p.take('[') {
			return nil, fmt.Errorf("the function %s is supported over a list in brackets alone", name)
		}
		list, err := p.arguments(']')
		if err == nil {
			err = p.need(')')
		}
		return over(name, list), err
	case "ABS", "CEIL", "FLOOR":
		args, err := p.arguments(')')
		if err == nil && len(args) != 1 {
			err = fmt.Errorf("the function %s takes one argument", name)
		}
		if err != nil {
			return nil, err
		}
		f := map[string]func(float64) float64{"ABS": math.Abs, "CEIL": math.Ceil, "FLOOR": math.Floor}[name]
		return func(at func(string) (float64, bool)) (float64, bool) {
			v, ok := args[0](at)
			return f(v), ok
		}, nil
	case "FILL":
		args, err := p.arguments(')')
		if err == nil && len(args) != 2 {
			err = fmt.Errorf("the function FILL takes two arguments")
		}
		if err != nil {
			return nil, err
		}
		return func(at func(string) (float64, bool)) (float64, bool) {
			if v, ok := args[0](at); ok {
				return v, true
			}
			return args[1](at)
		}, nil
	}
	return nil, fmt.Errorf("the function %s is not supported", name)
}

// over is a function of those of several series that have a value.
func over(name string, list []node) node {
	return func(at func(string) (float64, bool)) (float64, bool) {
		var v, n float64
		for _, e := range list {
			x, ok := e(at)
			switch {
			case !ok:
				continue
			case n == 0:
				v = x
			case name == "MIN":
				v = min(v, x)
			case name == "MAX":
				v = max(v, x)
			default:
				v += x
			}
			n++
		}
		if name == "AVG" && n > 0 {
			v /= n
		}
		return v, n > 0
	}
}
