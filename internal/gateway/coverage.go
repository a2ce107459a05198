package gateway

import (
	"fmt"
	"strings"

	"skerry/api"
)

// Coverage writes which operations a table serves, as the text of docs/coverage.md.
func Coverage(m *api.Mux) []byte {
	var b strings.Builder
	b.WriteString("# Coverage\n\nGenerated from the table of handlers; do not edit. An operation that is not served is refused by name, and so is one\n" +
		"that is not listed here. Every member of a served operation's input is honoured or refused, but for those named in the\nlast column, which are stored and returned and have no effect yet.\n\n")
	b.WriteString("| Service | API version | Protocols | Served | Listed |\n|---|---|---|---|---|\n")
	for _, s := range m.Services() {
		served := 0
		for _, op := range s.Operations {
			if m.Lookup(s, op.Name) != nil {
				served++
			}
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %d | %d |\n", s.Name, s.Name, s.Version, strings.Join(s.Protocols, ", "), served, len(s.Operations))
	}
	for _, s := range m.Services() {
		fmt.Fprintf(&b, "\n## %s\n\n| Operation | Served | Stored without effect |\n|---|---|---|\n", s.Name)
		for _, op := range s.Operations {
			served := "no"
			if m.Lookup(s, op.Name) != nil {
				served = "yes"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", op.Name, served, strings.Join(op.Inert, ", "))
		}
	}
	return []byte(b.String())
}
