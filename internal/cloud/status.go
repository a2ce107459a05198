package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// Bounds of a status: it is one screen.
const (
	statusTimeout = 10 * time.Second
	statusRows    = 8 // of each list
)

// Overview is what a running control plane tells `skerry status`.
type Overview struct {
	Instances map[string]int          // by state
	Zones     map[string]ZoneOverview // by name, of those in use
	Groups    []GroupOverview         `json:",omitempty"`
	Balancers []BalancerOverview      `json:",omitempty"`
	VPCs      int
}

// ZoneOverview is a zone in an Overview.
type ZoneOverview struct {
	State   string // up, power off
	Running int    // instances
}

// GroupOverview is an Auto Scaling group in an Overview.
type GroupOverview struct {
	Name, Region      string
	Min, Desired, Max int
	InService, Other  int
}

// BalancerOverview is a load balancer in an Overview.
type BalancerOverview struct{ Name, Type, State, DNSName string }

func (c *control) overview() Overview {
	o := Overview{Instances: map[string]int{}, Zones: map[string]ZoneOverview{}}
	if c.zones != nil {
		for _, z := range c.zones.known() {
			state := "restarting"
			if alive(c.zones.pid(z)) {
				state = "up"
			}
			o.Zones[z] = ZoneOverview{State: state}
		}
	}
	c.db.View(func(tx *store.ReadTx) error {
		for _, z := range compute.GetHost(tx).ZonesDown {
			o.Zones[z] = ZoneOverview{State: "power off"}
		}
		for i := range compute.Instances.All(tx) {
			o.Instances[i.State]++
			if i.State == compute.Running {
				z := o.Zones[i.AvailabilityZone]
				z.Running++
				o.Zones[i.AvailabilityZone] = z
			}
		}
		for range network.VPCs.All(tx) {
			o.VPCs++
		}
		members := map[string][2]int{}
		for m := range scaling.Members.All(tx) {
			n := members[m.Key(m.Group)]
			if m.State == scaling.InService {
				n[0]++
			} else {
				n[1]++
			}
			members[m.Key(m.Group)] = n
		}
		for g := range scaling.Groups.All(tx) {
			n := members[g.Key(g.Name)]
			o.Groups = append(o.Groups, GroupOverview{Name: g.Name, Region: g.Region, Min: g.Min, Desired: g.Desired, Max: g.Max, InService: n[0], Other: n[1]})
		}
		for l := range balance.LoadBalancers.All(tx) {
			o.Balancers = append(o.Balancers, BalancerOverview{Name: l.Name, Type: l.Type, State: l.State, DNSName: l.DNSName})
		}
		return nil
	})
	return o
}

// Status prints one screen about the cloud in dir.
func Status(ctx context.Context, dir string, w io.Writer) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s, err := readSettings(abs)
	if err != nil {
		return err
	}
	procs := processes(abs)
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var o Overview
	b, asked := ask(ctx, abs, "GET", "/status")
	if asked == nil {
		asked = json.Unmarshal(b, &o)
	}
	state := "stopped"
	switch {
	case asked == nil:
		state = fmt.Sprintf("running (process %d)", s.PID)
	case len(procs["up"]) > 0:
		state = fmt.Sprintf("process %d does not answer", procs["up"][0])
	case errors.Is(asked, context.DeadlineExceeded): // it listens
		state = "does not answer"
	case len(procs["instances"]) > 0 || len(procs["zones"]) > 0:
		state = "stopped; the workloads go on, and 'skerry up' adopts them"
	}
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("control plane", "%s", state)
	row("api", "http://%s", s.Listen)
	row("data", "%s (cloud %s)", abs, cloudID(abs))
	row("public pool", "%s", s.PublicPool)
	driver := s.Driver
	if driver == "sim" {
		driver = "sim: instances are records only"
	}
	row("driver", "%s", driver)
	if s.TimeScale != 1 {
		row("time scale", "%d", s.TimeScale)
	}
	row("processes", "%d of instances, %d of zones", len(procs["instances"]), len(procs["zones"]))
	if asked != nil {
		return nil
	}
	row("vpcs", "%d", o.VPCs)
	var counts []string
	for _, st := range []string{compute.Running, compute.Pending, compute.Stopping, compute.Stopped, compute.ShuttingDown, compute.Terminated} {
		if o.Instances[st] > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", o.Instances[st], st))
		}
	}
	if len(counts) == 0 {
		counts = []string{"none"}
	}
	row("instances", "%s", strings.Join(counts, ", "))
	var lines []string
	for _, z := range slices.Sorted(maps.Keys(o.Zones)) {
		lines = append(lines, fmt.Sprintf("%s %s, %d running", z, o.Zones[z].State, o.Zones[z].Running))
	}
	rows(row, "zones", lines)
	lines = nil
	for _, g := range o.Groups {
		line := fmt.Sprintf("%s (%s) desired %d of %d to %d, %d in service", g.Name, g.Region, g.Desired, g.Min, g.Max, g.InService)
		if g.Other > 0 {
			line += fmt.Sprintf(", %d on their way", g.Other)
		}
		lines = append(lines, line)
	}
	rows(row, "groups", lines)
	lines = nil
	for _, l := range o.Balancers {
		lines = append(lines, fmt.Sprintf("%s (%s) %s, %s", l.Name, l.Type, l.State, l.DNSName))
	}
	rows(row, "load balancers", lines)
	return nil
}

// rows prints the first of a list, and how many more there are.
func rows(row func(name, format string, args ...any), name string, lines []string) {
	if more := len(lines) - statusRows; more > 0 {
		lines = append(lines[:statusRows:statusRows], fmt.Sprintf("and %d more", more))
	}
	for _, l := range lines {
		row(name, "%s", l)
		name = ""
	}
}
