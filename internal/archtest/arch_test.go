// Package archtest holds the direction of dependencies that docs/ARCHITECTURE.md describes. It has only this test.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// domain packages know records and rules, not AWS's wire nor the machine.
var domain = []string{"network", "compute", "balance", "scaling", "metric", "identity", "certificate", "policy", "describe", "tag", "fault", "scope", "store", "reconcile"}

// order of the domain: a package imports only those before it.
var order = []string{"scope", "fault", "store", "tag", "policy", "identity", "certificate", "network", "metric", "compute", "balance", "scaling"}

// allowed says what a rule's prefixes do not mean.
var allowed = map[string][]string{
	"internal/proxy":    {"skerry/internal/record", "skerry/internal/tlsfront", "skerry/internal/gzline"},
	"internal/tunnel":   {"skerry/internal/record", "skerry/internal/tlsfront"},
	"internal/tlsfront": {"skerry/internal/record"},
}

// rule forbids imports, by prefix, to packages under a folder.
type rule struct {
	of     string
	not    []string
	reason string
}

func rules() []rule {
	rs := []rule{
		{"api", []string{"skerry/internal/endpoint", "skerry/internal/wire", "net/http"}, "the contract knows no codec and no server"},
		{"internal/proxy", []string{"skerry/"}, "the load balancer runs without a cloud"},
		{"internal/tunnel", []string{"skerry/"}, "the load balancer runs without a cloud"},
		{"internal/tlsfront", []string{"skerry/"}, "the load balancer runs without a cloud"},
		{"internal/record", []string{"skerry/"}, "the record layer knows nothing else"},
		{"internal/gzline", []string{"skerry/"}, "packing lines knows nothing else"},
		{"internal/fabric", []string{"skerry/"}, "the network knows no service"},
		{"internal/driver", []string{"skerry/api", "skerry/internal/compute", "skerry/internal/store", "skerry/internal/cloud"}, "a driver runs what it is told"},
		{"internal/zone", []string{"skerry/api", "skerry/internal/store", "skerry/internal/compute", "skerry/internal/balance", "skerry/internal/cloud"}, "a zone lives without the control plane"},
		{"internal/wire", []string{"skerry/internal/endpoint", "skerry/internal/compute"}, "codecs know no service"},
		{"internal/gateway", []string{"skerry/internal/endpoint", "skerry/internal/compute", "skerry/internal/network"}, "the front door knows no service"},
		{"internal/demo", []string{"skerry/"}, "the demo is a client like any other"},
	}
	for _, d := range domain {
		rs = append(rs, rule{"internal/" + d, []string{"skerry/api", "net/http", "encoding/xml", "os/exec", "skerry/internal/endpoint", "skerry/internal/cloud", "skerry/internal/driver", "skerry/internal/fabric"}, "the domain knows neither the wire nor the machine"})
	}
	for i, d := range order {
		for _, later := range order[i+1:] {
			rs = append(rs, rule{"internal/" + d, []string{"skerry/internal/" + later}, "the domain's packages have one order"})
		}
	}
	return rs
}

func TestDependenciesPointOneWay(t *testing.T) {
	root := "../.."
	checked := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checked++
			for _, r := range rules() {
				if !strings.HasPrefix(rel, r.of+"/") || strings.HasPrefix(name, "skerry/"+r.of) || slices.Contains(allowed[r.of], name) {
					continue
				}
				if slices.ContainsFunc(r.not, func(n string) bool { return name == n || strings.HasPrefix(name, strings.TrimSuffix(n, "/")+"/") }) {
					t.Errorf("%s imports %s: %s", rel, name, r.reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 100 {
		t.Errorf("only %d imports were looked at", checked)
	}
}
