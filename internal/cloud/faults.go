package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"skerry/internal/compute"
	"skerry/internal/fabric"
	"skerry/internal/network"
	"skerry/internal/store"
)

// controlSocket takes orders that AWS has no API for: faults. Only its owner may connect.
const controlSocket = "control.sock"

const controlTimeout = 30 * time.Second

// runControl serves the control socket until ctx ends.
func (c *control) runControl(ctx context.Context) {
	path := filepath.Join(c.o.DataDir, controlSocket)
	os.Remove(path) // the store's lock says that nobody else serves it
	lis, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		c.log.Error("the control socket can't be served; 'skerry fault' won't work", "err", err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /zones/{zone}/{power}", func(w http.ResponseWriter, r *http.Request) {
		zone, power := r.PathValue("zone"), r.PathValue("power")
		if power != "on" && power != "off" {
			http.Error(w, "on or off", http.StatusBadRequest)
			return
		}
		if err := c.powerZone(context.WithoutCancel(r.Context()), zone, power == "on"); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /spot/{instance}/{what}", func(w http.ResponseWriter, r *http.Request) {
		if err := c.troubleSpot(r.PathValue("instance"), r.PathValue("what")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /images", func(w http.ResponseWriter, r *http.Request) {
		if err := c.publishImages(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(c.overview()) })
	srv := newServer(mux)
	go func() { <-ctx.Done(); srv.Close() }()
	srv.Serve(lis)
}

// troubleSpot announces the interruption of a spot instance, or the risk of one.
func (c *control) troubleSpot(id, what string) error {
	return c.db.Update(func(w *store.WriteTx) error {
		for i := range compute.Instances.All(w) {
			if i.ID != id {
				continue
			}
			var err error
			switch what {
			case "interrupt":
				_, err = compute.Interrupt(w, i.Scope, id, compute.InterruptionNotice/time.Duration(c.o.TimeScale))
			case "recommend":
				_, err = compute.Recommend(w, i.Scope, id)
			default:
				err = fmt.Errorf("interrupt or recommend")
			}
			return err
		}
		return fmt.Errorf("there is no instance %s", id)
	})
}

// runInterruptions terminates spot instances when their notice is over, until ctx ends.
func (c *control) runInterruptions(ctx context.Context) {
	for {
		changed := c.db.Watch(compute.Instances)
		var next time.Time
		c.db.View(func(tx *store.ReadTx) error { next = compute.NextInterruption(tx); return nil })
		if !next.IsZero() && !c.clock().Before(next) {
			if err := c.db.Update(func(w *store.WriteTx) error { compute.EndInterrupted(w); return nil }); err != nil {
				c.log.Error("an interrupted spot instance could not be ended; trying again", "err", err)
				if !pause(ctx, nil, retryPause) {
					return
				}
			}
			continue
		}
		wait := time.Duration(0)
		if !next.IsZero() {
			wait = max(next.Sub(c.clock()), batchPause)
		}
		if !pause(ctx, changed, wait) {
			return
		}
	}
}

// powerZone switches a zone off, as a power failure would: its instances and its data plane die at once and nothing can be
// started there; or on again. The switch is part of the state: it outlives the control plane.
func (c *control) powerZone(ctx context.Context, zone string, on bool) error {
	region := regionOf(zone)
	if _, ok := network.ZoneByName(region, zone); !ok {
		return fmt.Errorf("there is no zone %q; zones look like us-east-1a", zone)
	}
	if err := c.db.Update(func(w *store.WriteTx) error { compute.SetZoneDown(w, zone, !on); return nil }); err != nil {
		return err
	}
	c.log.Warn("the power of a zone was switched", "zone", zone, "on", on)
	if !on {
		c.cutPower(ctx, region, zone)
	}
	return nil
}

// cutPower ends what runs in a zone that has no power any more. A control plane that starts repeats it: an earlier one may
// have been killed in the middle.
func (c *control) cutPower(ctx context.Context, region, zone string) {
	var victims []compute.Instance
	c.db.View(func(tx *store.ReadTx) error {
		for _, state := range []string{compute.Running, compute.Pending} {
			for i := range compute.Instances.By(tx, "state", state) {
				if i.AvailabilityZone == zone {
					victims = append(victims, i)
				}
			}
		}
		return nil
	})
	if c.zones != nil {
		c.zones.kill(zone)
		c.silence(ctx, region, zone)
	}
	for _, i := range victims {
		if err := c.driver.Stop(ctx, i.ID, true, 0); err != nil {
			c.log.Debug("a victim of the power failure was gone already", "instance", i.ID, "err", err)
		}
	}
}

// stayDark cuts the power of the zones that have none in the state.
func (c *control) stayDark(ctx context.Context) {
	var down []string
	c.db.View(func(tx *store.ReadTx) error { down = compute.GetHost(tx).ZonesDown; return nil })
	for _, z := range down {
		c.cutPower(ctx, regionOf(z), z)
	}
}

// regionOf is the region of a zone, by its name.
func regionOf(zone string) string { return strings.TrimRight(zone, "abcdefghijklmnopqrstuvwxyz") }

// silence takes the zone's network load balancer nodes out of the kernel, where they outlive the data plane; it writes them
// again when it is back.
func (c *control) silence(ctx context.Context, region, zone string) {
	var vpcs []string
	c.db.View(func(tx *store.ReadTx) error {
		for v := range network.VPCs.All(tx) {
			if v.Region == region {
				vpcs = append(vpcs, v.ID)
			}
		}
		return nil
	})
	for _, id := range vpcs {
		ns := c.fabric.VPCNamespace(id)
		if !fileExists(ns) {
			continue
		}
		if err := fabric.ApplyNLB(ctx, ns, zone, nil); err != nil {
			c.log.Error("a zone's network load balancer nodes could not be silenced", "zone", zone, "vpc", id, "err", err)
		}
	}
}

// zoneOff tells whether the zone has no power.
func (c *control) zoneOff(zone string) bool {
	off := false
	c.db.View(func(tx *store.ReadTx) error { off = slices.Contains(compute.GetHost(tx).ZonesDown, zone); return nil })
	return off
}

// ask sends an order to the control plane of the cloud in dir.
func ask(ctx context.Context, dir, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	cl := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, controlSocket))
	}}}
	defer cl.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := cl.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no control plane runs on %s: %w; start it with 'skerry up'", dir, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", strings.TrimSpace(string(b)))
	}
	return b, err
}

// PowerZone switches a zone of the running cloud in dir off or on.
func PowerZone(ctx context.Context, dir, zone string, on bool) error {
	power := "off"
	if on {
		power = "on"
	}
	_, err := ask(ctx, dir, http.MethodPost, "/zones/"+zone+"/"+power)
	return err
}

// InterruptSpot announces the interruption of a spot instance of the running cloud in dir, or with recommend only the risk
// of one, as a rebalance recommendation does.
func InterruptSpot(ctx context.Context, dir, instance string, recommend bool) error {
	what := "interrupt"
	if recommend {
		what = "recommend"
	}
	_, err := ask(ctx, dir, http.MethodPost, "/spot/"+url.PathEscape(instance)+"/"+what)
	return err
}
