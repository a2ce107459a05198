package compute

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// The owner of the images that come with the cloud.
const (
	SystemOwnerID    = "137112412989"
	SystemOwnerAlias = "amazon"
)

// Shared is the scope of images that every account has in every region.
var Shared = scope.Scope{Account: "*", Region: "*"}

// Image is an AMI: layers of a root file system, and what to know of them. Those of the image store are in scope Shared.
type Image struct {
	scope.Scope
	ID, Name, Description         string
	Architecture                  string // x86_64, arm64
	OwnerID, OwnerAlias           string
	State                         string // pending, available, failed, disabled
	StateReason                   string
	Public                        bool
	LaunchUsers                   []string // accounts that may launch it
	Layers                        []string // absolute paths, topmost first
	StoreName                     string   // in the image store
	RootDeviceName                string
	RootSizeGiB                   int
	VolumeType                    string
	SnapshotID                    string
	SourceInstanceID              string
	SourceImageID                 string
	ImdsSupport                   string // v2.0 or empty
	BootMode                      string
	DeprecationTime               time.Time
	DeregistrationProtection      string // disabled, enabled-without-cooldown, enabled-with-cooldown
	PlatformDetails               string
	CreatedAt                     time.Time
	LastLaunchedAt                time.Time
	VirtualizationType            string
	DefaultUser                   string
	DeleteRootOnTerminationIsKept bool // the mapping says that the root volume outlives the instance
}

// Images is the table of images.
var Images = store.NewTable("image", func(i Image) string { return i.Key(i.ID) },
	store.Index[Image]{Name: "id", Keys: func(i Image) []string { return []string{i.ID} }},
	store.Index[Image]{Name: "name", Keys: func(i Image) []string { return []string{i.Key(i.Name)} }})

var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

// PutImage makes an image that all accounts and regions share, or refreshes the one of that name, whose id stays.
func PutImage(w *store.WriteTx, i Image) Image {
	i.Scope = Shared
	if i.ID == "" {
		for old := range Images.By(w, "name", Shared.Key(i.Name)) {
			i.ID, i.SnapshotID, i.LastLaunchedAt = old.ID, old.SnapshotID, old.LastLaunchedAt
			if i.CreatedAt.IsZero() {
				i.CreatedAt = old.CreatedAt
			}
			break
		}
	}
	if i.ID == "" {
		i.ID = w.NewID("ami")
	}
	i = withImageDefaults(w, i)
	i.OwnerID, i.OwnerAlias, i.Public = SystemOwnerID, SystemOwnerAlias, true
	Images.Put(w, i)
	return i
}

func withImageDefaults(w *store.WriteTx, i Image) Image {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&i.Architecture, "x86_64")
	set(&i.State, "available")
	set(&i.RootDeviceName, "/dev/xvda")
	set(&i.VolumeType, "gp3")
	set(&i.SnapshotID, w.NewID("snap"))
	set(&i.PlatformDetails, "Linux/UNIX")
	set(&i.VirtualizationType, "hvm")
	set(&i.DeregistrationProtection, "disabled")
	set(&i.BootMode, "uefi-preferred")
	if i.RootSizeGiB < 1 {
		i.RootSizeGiB = 8
	}
	if i.CreatedAt.IsZero() {
		i.CreatedAt = w.Now()
	}
	return i
}

// CreateImage makes an image of the account; its name must be free. The caller gives the layers, or state pending and
// finishes it with FinishImage.
func CreateImage(w *store.WriteTx, s scope.Scope, i Image) (Image, error) {
	if !imageName.MatchString(i.Name) {
		return Image{}, fault.New(fault.Invalid, "InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")
	}
	for old := range Images.By(w, "name", s.Key(i.Name)) {
		return Image{}, fault.New(fault.Exists, "InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", i.Name, old.ID)
	}
	if len(i.Description) > 255 {
		return Image{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter description is invalid. The length must be at most 255 characters.", i.Description)
	}
	i.Scope, i.ID, i.OwnerID = s, w.NewID("ami"), s.Account
	i = withImageDefaults(w, i)
	Images.Put(w, i)
	return i, nil
}

// FinishImage makes a pending image available with its layers, or failed with a reason.
func FinishImage(w *store.WriteTx, s scope.Scope, id string, layers []string, storeName, failure string) {
	i, ok := Images.Get(w, s.Key(id))
	if !ok || i.State != Pending {
		return
	}
	if failure != "" {
		i.State, i.StateReason = "failed", failure
	} else {
		i.State, i.Layers, i.StoreName = "available", layers, storeName
	}
	Images.Put(w, i)
}

// Visible tells whether an account may see an image in a region.
func (i Image) Visible(s scope.Scope) bool {
	return i.Scope == Shared || i.Scope == s || i.Region == s.Region && (i.Public || slices.Contains(i.LaunchUsers, s.Account))
}

// GetImage finds an image that the account may use.
func GetImage(tx store.Tx, s scope.Scope, id string) (Image, error) {
	for i := range Images.By(tx, "id", id) {
		if i.Visible(s) {
			return i, nil
		}
	}
	return Image{}, fault.New(fault.NotFound, "InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
}

// OwnImage finds an image that the account may change.
func OwnImage(tx store.Tx, s scope.Scope, id string) (Image, error) {
	i, err := GetImage(tx, s, id)
	if err != nil {
		return Image{}, err
	}
	if i.Scope != s {
		return Image{}, fault.New(fault.Denied, "AuthFailure", "Not authorized for image:%s", id)
	}
	return i, nil
}

// VisibleImages lists the images that an account may see in a region, by id.
func VisibleImages(tx store.Tx, s scope.Scope) []Image {
	var out []Image
	for i := range Images.All(tx) {
		if i.Visible(s) {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// DeregisterImage removes an image of the account; its instances are unaffected.
func DeregisterImage(w *store.WriteTx, s scope.Scope, id string) (Image, error) {
	i, err := OwnImage(w, s, id)
	if err != nil {
		return Image{}, err
	}
	if i.DeregistrationProtection != "disabled" {
		return Image{}, fault.New(fault.Denied, "OperationNotPermitted", "The image %s is protected from deregistration. Disable deregistration protection and try again.", id)
	}
	Images.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return i, nil
}

func launchableImage(tx store.Tx, s scope.Scope, id string) (Image, error) {
	i, err := GetImage(tx, s, id)
	if err != nil {
		return Image{}, err
	}
	if i.State != "available" {
		return Image{}, fault.New(fault.State, "InvalidAMIID.Unavailable", "The image id '[%s]' is no longer available", id)
	}
	return i, nil
}

// LayersInUse tells whether another image or an instance still has one of an image's layers of its own.
func LayersInUse(tx store.Tx, gone Image) bool {
	if len(gone.Layers) == 0 {
		return false
	}
	top := gone.Layers[0]
	for i := range Images.All(tx) {
		if slices.Contains(i.Layers, top) {
			return true
		}
	}
	for i := range Instances.All(tx) {
		if i.State != Terminated && slices.Contains(i.Layers, top) {
			return true
		}
	}
	return false
}
