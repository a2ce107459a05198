package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	maxConfigFile = 16 << 20
	shutdownTime  = 30 * time.Second
)

// Standalone is the configuration of a proxy without a cloud.
type Standalone struct {
	Config
	Loops     int    // event loops; 0 is one for each processor
	AccessLog string // directory of the access and connection logs; empty: none
}

// LoadStandalone reads a configuration file: strict JSON, as docs/format/proxy.md says. File names of certificates are
// relative to it. It reports all that it finds wrong without serving anything.
func LoadStandalone(path string) (Standalone, error) {
	f, err := os.Open(path)
	if err != nil {
		return Standalone{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return Standalone{}, err
	}
	if len(b) > maxConfigFile {
		return Standalone{}, fmt.Errorf("%s: larger than %d bytes", path, maxConfigFile)
	}
	var s Standalone
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.Config); err != nil {
		return Standalone{}, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Standalone{}, fmt.Errorf("%s: something follows the configuration", path)
	}
	s.strict()
	for i := range s.Listeners {
		for k := range s.Listeners[i].Certificates {
			if err := s.Listeners[i].Certificates[k].load(filepath.Dir(path)); err != nil {
				return Standalone{}, fmt.Errorf("%s: listener %s: %w", path, s.Listeners[i].Addr, err)
			}
		}
		if err := loadTrust(&s.Listeners[i].MutualTLS, filepath.Dir(path)); err != nil {
			return Standalone{}, fmt.Errorf("%s: listener %s: %w", path, s.Listeners[i].Addr, err)
		}
	}
	if err := s.check(); err != nil {
		return Standalone{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

const modeAttribute = "routing.http.desync_mitigation_mode"

// strict sets the default of a proxy without a cloud: strictest, but a body of GET or HEAD passes if it is framed once.
func (s *Standalone) strict() {
	if s.Attributes[modeAttribute] == "" {
		if s.Attributes == nil {
			s.Attributes = map[string]string{}
		}
		s.Attributes[modeAttribute], s.GetBodies = "strictest", true
	}
}

// load reads the files that the certificate names.
func (c *Certificate) load(dir string) error {
	for _, x := range []struct {
		file, text *string
	}{{&c.CertFile, &c.CertPEM}, {&c.KeyFile, &c.KeyPEM}} {
		if *x.file == "" {
			continue
		}
		b, err := readBeside(dir, *x.file)
		if err != nil {
			return err
		}
		*x.text, *x.file = string(b), ""
	}
	return nil
}

// loadTrust reads the files of a trust store.
func loadTrust(m *MutualTLS, dir string) error {
	if m.CAFile != "" {
		b, err := readBeside(dir, m.CAFile)
		if err != nil {
			return err
		}
		m.CAs, m.CAFile = string(b), ""
	}
	for _, name := range m.CRLFiles {
		b, err := readBeside(dir, name)
		if err != nil {
			return err
		}
		m.CRLs = append(m.CRLs, b)
	}
	m.CRLFiles = nil
	return nil
}

func readBeside(dir, name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	return os.ReadFile(name)
}

// check compiles the configuration, and refuses attributes that have no meaning here: nobody else would say so.
func (s Standalone) check() error {
	if len(s.Listeners) == 0 {
		return errors.New("no listener")
	}
	t, _, err := compile(s.Config, live{}, time.Time{})
	if err != nil {
		return err
	}
	unknown := t.attrs.unknown
	for _, g := range t.groups {
		unknown = append(unknown, g.attrs.unknown...)
	}
	for _, l := range t.listeners {
		unknown = append(unknown, l.unknown...)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("attributes without effect in a proxy: %s", strings.Join(slices.Compact(unknown), ", "))
	}
	return nil
}

// Short is the short form of a standalone configuration, as flags give it.
type Short struct {
	HTTP, HTTPS       string // listen addresses; one may be empty
	CertFile, KeyFile string
	Backends          []string // target addresses
}

// Standalone returns the configuration that the short form stands for: every request goes to the backends in turn, with its
// Host as it came.
func (s Short) Standalone() (Standalone, error) {
	var out Standalone
	out.LBName = "proxy"
	out.Attributes = map[string]string{"routing.http.preserve_host_header.enabled": "true"}
	out.strict()
	if len(s.Backends) == 0 {
		return out, errors.New("no backend is given")
	}
	if s.HTTP == "" && s.HTTPS == "" {
		return out, errors.New("neither an HTTP nor an HTTPS address is given")
	}
	g := TargetGroup{Name: "backends"}
	for _, b := range s.Backends {
		g.Targets = append(g.Targets, Target{ID: b, Addr: b})
	}
	out.TargetGroups = map[string]TargetGroup{"backends": g}
	forward := []Action{{Type: Forward, Forward: []Weighted{{GroupARN: "backends", Weight: 1}}}}
	if s.HTTP != "" {
		out.Listeners = append(out.Listeners, Listener{Addr: s.HTTP, Protocol: HTTP, DefaultActions: forward})
	}
	if s.HTTPS != "" {
		if s.CertFile == "" || s.KeyFile == "" {
			return out, errors.New("an HTTPS address needs a certificate and a key")
		}
		c := Certificate{CertFile: s.CertFile, KeyFile: s.KeyFile}
		if err := c.load("."); err != nil {
			return out, err
		}
		out.Listeners = append(out.Listeners, Listener{Addr: s.HTTPS, Protocol: HTTPS, SSLPolicy: "ELBSecurityPolicy-TLS13-1-2-2021-06",
			Certificates: []Certificate{c}, DefaultActions: forward})
	}
	return out, out.check()
}

// nodeAddress is the address that stands in the names of the logs' files.
func (s Standalone) nodeAddress() string {
	if ap, err := netip.ParseAddrPort(s.Listeners[0].Addr); err == nil {
		return ap.Addr().String()
	}
	return ""
}

// RunStandalone serves until ctx ends; then running requests have some seconds to finish.
func RunStandalone(ctx context.Context, s Standalone, log *slog.Logger) error {
	opt := Options{Log: log}
	if s.AccessLog != "" {
		opt.Logs = Logs{Dir: s.AccessLog, Account: "000000000000", Region: "local", Address: s.nodeAddress()}
		s.Attributes = maps.Clone(s.Attributes)
		if s.Attributes == nil {
			s.Attributes = map[string]string{}
		}
		s.Attributes[accessLogs.attribute+".enabled"], s.Attributes[connectionLogs.attribute+".enabled"] = "true", "true"
	} else if s.Attributes[accessLogs.attribute+".enabled"] == "true" || s.Attributes[connectionLogs.attribute+".enabled"] == "true" {
		log.Warn("the attributes turn logs on, but no directory for them is given")
	}
	if e, err := NewEngine(s.Loops); err == nil {
		opt.Engine = e
		defer e.Close()
	} else {
		log.Warn("no event loops, goroutines instead", "err", err)
		opt.Goroutines = true
	}
	p := New(opt)
	err := p.Apply(s.Config)
	if err == nil {
		for _, l := range s.Listeners {
			p.opt.Log.Info("serving", "address", l.Addr, "protocol", l.Protocol)
		}
		<-ctx.Done()
	}
	sctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if serr := p.Shutdown(sctx); err == nil && serr != nil {
		err = fmt.Errorf("requests were cut at the end: %w", serr)
	}
	return err
}
