package cloud

import (
	"context"
	"os"
	"testing"
	"time"

	"skerry/internal/compute"
	"skerry/internal/driver/sim"
	"skerry/internal/network"
	"skerry/internal/store"
)

// launchOne launches an instance in a zone's default subnet.
func launchOne(t *testing.T, c *control, zone string) (id string) {
	t.Helper()
	if err := c.db.Update(func(w *store.WriteTx) error {
		if err := network.EnsureDefaultVPC(w, here); err != nil {
			return err
		}
		spec := compute.LaunchSpec{InstanceType: "t2.micro"}
		for i := range compute.Images.All(w) {
			spec.ImageID = i.ID
		}
		for s := range network.Subnets.All(w) {
			if s.AvailabilityZone == zone {
				spec.SubnetID = s.ID
			}
		}
		r, err := compute.Launch(w, compute.LaunchParams{Scope: here, MinCount: 1, MaxCount: 1, Spec: spec})
		if err == nil {
			id = r.Instances[0].ID
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func stateOf(c *control, id string) string {
	i, _ := compute.Instances.Get(c.db.Read(), here.Key(id))
	return i.State
}

// shortLived instances end as soon as they have started, before anybody can record that they run.
type shortLived struct{ *sim.Driver }

func (d shortLived) Start(ctx context.Context, id string) error {
	err := d.Driver.Start(ctx, id)
	d.Exit(id, 0, "poweroff")
	for len(d.Events()) > 0 { // until the loop has heard of it
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	return err
}

func TestEndBeforeTheRecordSaysRunning(t *testing.T) {
	t.Parallel()
	o := simOptions(t.TempDir())
	o.driver = shortLived{sim.New(sim.Options{})}
	c, _ := startSim(t, o)
	id := launchOne(t, c, "us-east-1a")
	eventually(t, "the instance that ended at once is stopped", func() bool { return stateOf(c, id) == compute.Stopped })
}

func TestEndOfAnInstanceThatIsToBeRebooted(t *testing.T) {
	t.Parallel()
	o := simOptions(t.TempDir())
	d := sim.New(sim.Options{})
	o.driver = d
	c, _ := startSim(t, o)
	id := launchOne(t, c, "us-east-1a")
	eventually(t, "running", func() bool { return stateOf(c, id) == compute.Running })
	if err := c.db.Update(func(w *store.WriteTx) error {
		d.Exit(id, 0, "poweroff")
		return compute.Reboot(w, here, []string{id})
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what ended before its reboot is stopped", func() bool { return stateOf(c, id) == compute.Stopped })
	eventually(t, "its reboot is over", func() bool {
		i, _ := compute.Instances.Get(c.db.Read(), here.Key(id))
		m, _ := machines.Get(c.db.Read(), here.Key(id))
		return m.Reboots == i.Reboots && i.Reboots == 1
	})
}

func TestLostEventsAreMadeUpFor(t *testing.T) {
	t.Parallel()
	o := simOptions(t.TempDir())
	d := sim.New(sim.Options{})
	o.driver = d
	c, _ := startSim(t, o)
	a, b := launchOne(t, c, "us-east-1a"), launchOne(t, c, "us-east-1b")
	eventually(t, "running", func() bool { return stateOf(c, a) == compute.Running && stateOf(c, b) == compute.Running })
	if err := c.db.Update(func(w *store.WriteTx) error { // holds up the loop, so that the first events are lost
		d.Exit(a, 0, "poweroff")
		time.Sleep(20 * time.Millisecond)
		d.Exit(b, 0, "poweroff")
		select {
		case <-d.Events():
		default:
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	third := launchOne(t, c, "us-east-1a") // whatever else happens makes the loop look
	eventually(t, "both are stopped", func() bool { return stateOf(c, a) == compute.Stopped && stateOf(c, b) == compute.Stopped })
	eventually(t, "the third runs", func() bool { return stateOf(c, third) == compute.Running })
}

// A control plane that was killed after it had started a zone's process and before it had written down which one, or after
// a zone's power had been recorded as cut and before it was.
func TestZoneProcessesOfAnInterruptedControlPlane(t *testing.T) {
	needRoot(t)
	const z = "us-east-1a"
	c, _ := startCloud(t, "127.80.0.0/16")
	id := launchOne(t, c, z)
	eventually(t, "running", func() bool { return stateOf(c, id) == compute.Running })
	pid := c.zones.pid(z)
	if err := os.Remove(c.zones.pidFile(z)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is known again", func() bool { return c.zones.pid(z) > 0 })
	if again := c.zones.pid(z); again != pid || len(processes(c.o.DataDir)["zones"]) != 1 {
		t.Errorf("the zone's process was %d; now it is %d of %v", pid, again, processes(c.o.DataDir)["zones"])
	}
	if err := c.db.Update(func(w *store.WriteTx) error { compute.SetZoneDown(w, z, true); return nil }); err != nil {
		t.Fatal(err)
	}
	c.stayDark(context.Background()) // as at start
	eventually(t, "nothing runs in the dark zone", func() bool {
		return stateOf(c, id) == compute.Stopped && len(processes(c.o.DataDir)["zones"]) == 0
	})
}
