package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// manifest is operations.txt: the services in order of appearance, each with its operations.
type manifest struct{ services []*service }

type service struct {
	name  string
	ops   []string
	inert map[string][]string // operation → members that are accepted and have no effect
	notes map[string]string   // operation → what its handler does, if it does nothing
}

func readManifest(path string) (*manifest, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &manifest{}
	byName := map[string]*service{}
	seen := map[string]bool{}
	for n, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("%s:%d: want SERVICE OPERATION", path, n+1)
		}
		if seen[f[0]+" "+f[1]] {
			return nil, fmt.Errorf("%s:%d: %s %s is listed twice", path, n+1, f[0], f[1])
		}
		seen[f[0]+" "+f[1]] = true
		svc := byName[f[0]]
		if svc == nil {
			svc = &service{name: f[0], inert: map[string][]string{}, notes: map[string]string{}}
			byName[f[0]] = svc
			m.services = append(m.services, svc)
		}
		svc.ops = append(svc.ops, f[1])
		for _, note := range f[2:] {
			members, ok := strings.CutPrefix(note, "inert=")
			if !ok {
				return nil, fmt.Errorf("%s:%d: unknown note %q", path, n+1, note)
			}
			svc.inert[f[1]] = append(svc.inert[f[1]], strings.Split(members, ",")...)
		}
	}
	return m, nil
}

// readInert adds what tools/awsgen/inert found to the manifest. The file need not exist, and an operation that has left
// the manifest does not matter.
func (m *manifest) readInert(path string) error {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		for _, svc := range m.services {
			if svc.name != f[0] || !slices.Contains(svc.ops, f[1]) {
				continue
			}
			if note, ok := strings.CutPrefix(f[2], "!"); ok {
				svc.notes[f[1]] = note
			} else {
				svc.inert[f[1]] = append(svc.inert[f[1]], strings.Split(f[2], ",")...)
			}
		}
	}
	return nil
}
