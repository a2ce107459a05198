package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"
)

const (
	recordFile = "image.json"
	rootDir    = "rootfs"
	tmpPrefix  = ".tmp-"
	oldPrefix  = ".old-" // of built-in images that were replaced
	tmpAge     = 24 * time.Hour
)

// Nano is the name of the built-in image.
const Nano = "skerry-nano-1"

// Image is one image in the store.
type Image struct {
	ID           string // ami-…, derived from the name
	Name         string
	Description  string
	Architecture string // x86_64 or arm64
	Created      time.Time
	Layers       []string // absolute paths, topmost first
	RootSizeGiB  int
	Private      bool // made of an instance; whoever made it keeps account of it
}

// Store is a directory of images. Safe for concurrent use, also by several processes.
type Store struct{ Dir string }

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{2,127}$`)

// record is image.json. Layers are the names of the images whose layers lie below this one's.
type record struct {
	Name         string
	Description  string
	Architecture string
	Created      time.Time
	RootSizeGiB  int
	Below        []string `json:",omitempty"` // topmost first
	Private      bool     `json:",omitempty"`
	Sum          string   `json:",omitempty"` // of what the built-in image is made from
}

// ID returns the AMI id of an image name.
func ID(name string) string {
	s := sha256.Sum256([]byte("image " + name))
	return "ami-" + hex.EncodeToString(s[:])[:17]
}

// Architecture is this machine's, in EC2's words.
func Architecture() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	default:
		return runtime.GOARCH
	}
}

// List returns the images that are for everyone, ordered by name.
func (s *Store) List() ([]Image, error) {
	all, err := s.All()
	return slices.DeleteFunc(all, func(i Image) bool { return i.Private }), err
}

// All returns the images, also those of instances, ordered by name.
func (s *Store) All() ([]Image, error) {
	ents, err := os.ReadDir(s.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, e := range ents {
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		img, err := s.Get(e.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Get returns one image.
func (s *Store) Get(name string) (Image, error) {
	if !validName.MatchString(name) {
		return Image{}, fmt.Errorf("image name %q: letters, digits, dots, dashes and underscores, 3 to 128 of them", name)
	}
	r, err := s.read(name)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", name, err)
	}
	img := Image{ID: ID(name), Name: name, Description: r.Description, Architecture: r.Architecture, Created: r.Created, RootSizeGiB: r.RootSizeGiB, Private: r.Private,
		Layers: []string{filepath.Join(s.Dir, name, rootDir)}}
	for _, b := range r.Below {
		img.Layers = append(img.Layers, filepath.Join(s.Dir, b, rootDir))
	}
	return img, nil
}

func (s *Store) read(name string) (record, error) {
	var r record
	b, err := os.ReadFile(filepath.Join(s.Dir, name, recordFile))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

// draft makes a directory for a new image; finish or os.RemoveAll ends it.
func (s *Store) draft() (string, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(s.Dir, tmpPrefix+"*"))
	for _, p := range old {
		if st, err := os.Stat(p); err == nil && time.Since(st.ModTime()) > tmpAge {
			os.RemoveAll(p)
		}
	}
	dir, err := os.MkdirTemp(s.Dir, tmpPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Mkdir(filepath.Join(dir, rootDir), 0o755)
}

// finish gives a draft its name. An image of the same name is refused.
func (s *Store) finish(dir string, r record) (Image, error) {
	if !validName.MatchString(r.Name) {
		return Image{}, fmt.Errorf("image name %q: letters, digits, dots, dashes and underscores, 3 to 128 of them", r.Name)
	}
	if r.Architecture == "" {
		r.Architecture = Architecture()
	}
	if r.RootSizeGiB == 0 {
		r.RootSizeGiB = 8
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, recordFile), b, 0o600); err != nil {
		return Image{}, err
	}
	if err := os.Rename(dir, filepath.Join(s.Dir, r.Name)); err != nil {
		if errors.Is(err, os.ErrExist) || strings.Contains(err.Error(), "not empty") {
			return Image{}, fmt.Errorf("an image named %s exists already", r.Name)
		}
		return Image{}, err
	}
	return s.Get(r.Name)
}
