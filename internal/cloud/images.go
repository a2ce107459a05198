package cloud

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/image"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of making images of instances.
const (
	imagesAtOnce   = 2
	rebootForImage = 2 * time.Minute // until the reboot that comes before an image
	commitTimeout  = 10 * time.Minute
)

// imaging makes images of instances. Each under way has a goroutine, which ends with its copy or its timeout; one that the
// control plane's end cut off is failed by the next start.
type imaging struct {
	c     *control
	slots chan struct{}
}

func newImaging(c *control) *imaging {
	m := &imaging{c: c, slots: make(chan struct{}, imagesAtOnce)}
	if c.db == nil { // only asked for its operations
		return m
	}
	err := c.db.Update(func(w *store.WriteTx) error {
		for i := range compute.Images.All(w) {
			if i.State == "pending" {
				compute.FinishImage(w, i.Scope, i.ID, nil, "", "The copy of the instance's disk was interrupted.")
			}
		}
		return nil
	})
	if err != nil {
		c.log.Error("images that were not finished could not be recorded", "err", err)
	}
	m.sweep()
	return m
}

// Commit starts to make the image imageID of an instance; see ec2api.Images.
func (m *imaging) Commit(ctx context.Context, s scope.Scope, imageID, instanceID string, noReboot bool) error {
	select {
	case m.slots <- struct{}{}:
	default:
		return fault.New(fault.Limit, "RequestLimitExceeded", "%d images are being made already. Try again later.", imagesAtOnce)
	}
	if !noReboot {
		// What programs keep in memory is on the disk after they were shut down.
		err := m.c.db.Update(func(w *store.WriteTx) error {
			if i, ok := compute.Instances.Get(w, s.Key(instanceID)); !ok || i.State != compute.Running {
				return nil
			}
			return compute.Reboot(w, s, []string{instanceID})
		})
		if err != nil {
			<-m.slots
			return err
		}
	}
	go func() {
		defer func() { <-m.slots }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
		defer cancel()
		layers, name, err := m.make(ctx, s, imageID, instanceID)
		failure := ""
		if err != nil {
			m.c.log.Error("an image could not be made", "image", imageID, "instance", instanceID, "err", err)
			failure = "The instance's disk could not be copied."
		}
		err = m.c.db.Update(func(w *store.WriteTx) error {
			compute.FinishImage(w, s, imageID, layers, name, failure)
			return nil
		})
		if err != nil {
			m.c.log.Error("an image could not be recorded", "image", imageID, "err", err)
		}
		m.sweep() // the image may have been deregistered meanwhile
	}()
	return nil
}

// make copies what the instance has written into the image store, under the image's id.
func (m *imaging) make(ctx context.Context, s scope.Scope, imageID, instanceID string) (layers []string, name string, err error) {
	m.awaitReboot(ctx, s.Key(instanceID))
	d, ok := m.c.driver.(interface {
		Changes(id string) (upper string, firstID, ids int, layers []string, err error)
	})
	if !ok { // instances without a disk, which therefore differ in nothing from their image
		i, _ := compute.Instances.Get(m.c.db.Read(), s.Key(instanceID))
		return i.Layers, "", nil
	}
	var c image.Changes
	if c.Upper, c.FirstID, c.IDs, c.Layers, err = d.Changes(instanceID); err != nil {
		return nil, "", err
	}
	i, err := m.c.images.Commit(ctx, c, imageID, "")
	return i.Layers, i.Name, err
}

// awaitReboot waits until an instance's reboots are done.
func (m *imaging) awaitReboot(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, rebootForImage)
	defer cancel()
	for ctx.Err() == nil {
		changed := m.c.db.Watch(machines, compute.Instances)
		tx := m.c.db.Read()
		i, ok := compute.Instances.Get(tx, key)
		if done, _ := machines.Get(tx, key); !ok || i.State != compute.Running || done.Reboots >= i.Reboots {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Remove deletes the layers of a deregistered image; see ec2api.Images.
func (m *imaging) Remove(context.Context, compute.Image) { m.sweep() }

// sweep removes the images of instances that no record speaks of and no instance runs from. What an instance still needs
// goes with a later sweep.
func (m *imaging) sweep() {
	all, err := m.c.images.All()
	if err != nil {
		m.c.log.Error("the image store cannot be read", "err", err)
		return
	}
	known := map[string]bool{}
	var layers []string
	tx := m.c.db.Read()
	for i := range compute.Images.All(tx) {
		known[i.ID], known[i.StoreName] = true, true
		layers = append(layers, i.Layers...)
	}
	for i := range compute.Instances.All(tx) {
		if i.State != compute.Terminated {
			layers = append(layers, i.Layers...)
		}
	}
	for again := true; again; { // an image after those that are based on it
		again = false
		for n, i := range all {
			if !i.Private || known[i.Name] || i.Name == "" {
				continue
			}
			if err := m.c.images.Remove(i.Name, layers); err == nil {
				again, all[n].Name = true, ""
			} else {
				m.c.log.Debug("an image stays in the store", "image", i.Name, "because", err)
			}
		}
	}
}

func imageStore(dir string) (*image.Store, string, error) {
	abs, err := filepath.Abs(dir)
	return &image.Store{Dir: filepath.Join(abs, "images")}, abs, err
}

// ListImages prints the images in the store of the cloud in dir.
func ListImages(dir string, w io.Writer) error {
	s, _, err := imageStore(dir)
	if err != nil {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "AMI\tNAME\tARCHITECTURE\tCREATED\tDESCRIPTION")
	for _, i := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", i.ID, i.Name, i.Architecture, i.Created.Format("2006-01-02 15:04"), i.Description)
	}
	return t.Flush()
}

// BuildImage builds an image of the given kind and prints its AMI id; a running control plane publishes it at once.
func BuildImage(ctx context.Context, dir, kind string, out, progress io.Writer) error {
	if kind != "debian" {
		return fmt.Errorf("there is no recipe for %q; 'skerry image build debian' is the one there is, and 'skerry image import' takes any root file system", kind)
	}
	s, abs, err := imageStore(dir)
	if err != nil {
		return err
	}
	i, err := s.BuildDebian(ctx, progress)
	if err != nil {
		return err
	}
	return announce(ctx, abs, i, out)
}

// ImportImage imports a root file system tar, an OCI layout or tar, or an image of a registry.
func ImportImage(ctx context.Context, dir, ref, name string, out io.Writer) error {
	s, abs, err := imageStore(dir)
	if err != nil {
		return err
	}
	i, err := s.Import(ctx, ref, name)
	if err != nil {
		return err
	}
	return announce(ctx, abs, i, out)
}

// announce tells a running control plane about a new image; without one the next `up` finds it.
func announce(ctx context.Context, dir string, i image.Image, out io.Writer) error {
	if fileExists(filepath.Join(dir, controlSocket)) {
		if _, err := ask(ctx, dir, "POST", "/images"); err != nil {
			fmt.Fprintf(out, "%s %s (known to the API after the next 'skerry up')\n", i.ID, i.Name)
			return nil
		}
	}
	fmt.Fprintf(out, "%s %s\n", i.ID, i.Name)
	return nil
}
