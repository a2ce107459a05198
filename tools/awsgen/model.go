package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

// model is a service's facts. Unknown fields are dropped on reading, so a trimmed model holds only what is read here.
type model struct {
	Metadata   metadata              `json:"metadata"`
	Operations map[string]*operation `json:"operations"`
	Shapes     map[string]*shape     `json:"shapes"`
}

type metadata struct {
	APIVersion      string    `json:"apiVersion"`
	EndpointPrefix  string    `json:"endpointPrefix"`
	SigningName     string    `json:"signingName,omitempty"`
	GlobalEndpoint  string    `json:"globalEndpoint,omitempty"`
	JSONVersion     string    `json:"jsonVersion,omitempty"`
	Protocols       []string  `json:"protocols"`
	TargetPrefix    string    `json:"targetPrefix,omitempty"`
	XMLNamespace    string    `json:"xmlNamespace,omitempty"`
	ServiceID       string    `json:"serviceId"`
	QueryCompatible *struct{} `json:"awsQueryCompatible,omitempty"`
}

type operation struct {
	Input  *ref  `json:"input,omitempty"`
	Output *ref  `json:"output,omitempty"`
	Errors []ref `json:"errors,omitempty"`
}

type ref struct {
	Shape        string `json:"shape"`
	LocationName string `json:"locationName,omitempty"`
	QueryName    string `json:"queryName,omitempty"`
	Idempotency  bool   `json:"idempotencyToken,omitempty"`
}

type shape struct {
	Type         string          `json:"type"`
	Members      map[string]*ref `json:"members,omitempty"`
	Required     []string        `json:"required,omitempty"`
	Member       *ref            `json:"member,omitempty"`
	Key          *ref            `json:"key,omitempty"`
	Value        *ref            `json:"value,omitempty"`
	LocationName string          `json:"locationName,omitempty"`
	Enum         []string        `json:"enum,omitempty"`
	Min          *float64        `json:"min,omitempty"`
	Max          *float64        `json:"max,omitempty"`
	Pattern      string          `json:"pattern,omitempty"`
	Exception    bool            `json:"exception,omitempty"`
	Error        *errorTrait     `json:"error,omitempty"`
}

type errorTrait struct {
	Code        string `json:"code,omitempty"`
	HTTPStatus  int    `json:"httpStatusCode,omitempty"`
	SenderFault bool   `json:"senderFault,omitempty"`
}

func readModel(path string) (*model, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &model{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("reading model %s: %w", path, err)
	}
	return m, nil
}

// trim keeps the operations of the manifest and every shape that they or their errors can reach.
func trim(m *model, svc *service) error {
	ops := map[string]*operation{}
	for _, name := range svc.ops {
		op := m.Operations[name]
		if op == nil {
			return fmt.Errorf("%s has no operation %s", svc.name, name)
		}
		ops[name] = op
	}
	m.Operations = ops
	keep := map[string]*shape{}
	var walk func(r *ref)
	walk = func(r *ref) {
		if r == nil || keep[r.Shape] != nil {
			return
		}
		s := m.Shapes[r.Shape]
		keep[r.Shape] = s
		for _, mem := range s.Members {
			walk(mem)
		}
		walk(s.Member)
		walk(s.Key)
		walk(s.Value)
	}
	for _, op := range ops {
		walk(op.Input)
		walk(op.Output)
		for i := range op.Errors {
			walk(&op.Errors[i])
		}
	}
	m.Shapes = keep
	return nil
}

// writeModel writes one shape or operation a line, sorted, so that a refresh of the facts reads well as a diff.
func writeModel(path string, m *model) error {
	var b bytes.Buffer
	meta, err := json.Marshal(m.Metadata)
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "{\"metadata\":%s,\n\"operations\":{", meta)
	if err := writeLines(&b, m.Operations); err != nil {
		return err
	}
	b.WriteString("},\n\"shapes\":{")
	if err := writeLines(&b, m.Shapes); err != nil {
		return err
	}
	b.WriteString("}}\n")
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func writeLines[T any](b *bytes.Buffer, items map[string]T) error {
	for i, name := range sorted(items) {
		if i > 0 {
			b.WriteByte(',')
		}
		var line bytes.Buffer
		enc := json.NewEncoder(&line)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(items[name]); err != nil {
			return err
		}
		fmt.Fprintf(b, "\n%q:%s", name, bytes.TrimSpace(line.Bytes()))
	}
	return nil
}

func sorted[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
