package cloud

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"skerry/internal/image"
)

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
	return fmt.Errorf("importing images is not there yet")
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
