package api

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// Handler is an operation joined to the function that serves it, its types erased for the gateway.
type Handler struct {
	Service *Service
	Name    string
	In, Out reflect.Type
	NewIn   func() any // a pointer to a zero input
	// Run takes the pointer that NewIn made, and returns a pointer to the output.
	Run func(c *Call, in any) (any, error)
}

// Mux is the table of handlers. Build it at start; reading it is safe for concurrent use.
type Mux struct {
	services []*Service
	handlers map[*Service]map[string]*Handler
}

// NewMux returns a table that knows the services, and no handler yet.
func NewMux(services ...*Service) *Mux {
	m := &Mux{handlers: map[*Service]map[string]*Handler{}}
	for _, s := range services {
		m.add(s)
	}
	return m
}

func (m *Mux) add(s *Service) {
	if m.handlers == nil {
		m.handlers = map[*Service]map[string]*Handler{}
	}
	if m.handlers[s] == nil {
		m.services = append(m.services, s)
		m.handlers[s] = map[string]*Handler{}
	}
}

// Handle joins an operation to its handler. It panics if the operation has one: that is a mistake in the code.
func Handle[In, Out any](m *Mux, op Op[In, Out], fn func(c *Call, in *In) (*Out, error)) {
	m.add(op.Service)
	if m.handlers[op.Service][op.Name] != nil {
		panic(fmt.Sprintf("api: a second handler for %s %s", op.Service.Name, op.Name))
	}
	m.handlers[op.Service][op.Name] = &Handler{
		Service: op.Service, Name: op.Name,
		In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](),
		NewIn: func() any { return new(In) },
		Run: func(c *Call, in any) (any, error) {
			out, err := fn(c, in.(*In))
			if err != nil {
				return nil, err
			}
			if out == nil {
				out = new(Out)
			}
			return out, nil
		},
	}
}

// Services lists the services in the order they were added.
func (m *Mux) Services() []*Service { return slices.Clone(m.services) }

// Lookup finds the handler of a service's operation, or nil.
func (m *Mux) Lookup(s *Service, op string) *Handler { return m.handlers[s][op] }

// Handlers lists the handlers by service, then name.
func (m *Mux) Handlers() []*Handler {
	var all []*Handler
	for _, s := range m.services {
		var mine []*Handler
		for _, h := range m.handlers[s] {
			mine = append(mine, h)
		}
		slices.SortFunc(mine, func(a, b *Handler) int { return cmp.Compare(a.Name, b.Name) })
		all = append(all, mine...)
	}
	return all
}

// Missing lists "service Operation" for each operation of the manifest that has no handler.
func (m *Mux) Missing() []string {
	var names []string
	for _, s := range m.services {
		for _, op := range s.Operations {
			if m.handlers[s][op.Name] == nil {
				names = append(names, s.Name+" "+op.Name)
			}
		}
	}
	return names
}
