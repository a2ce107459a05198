package compute

import (
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Volume is an instance's root volume. There are no other volumes yet.
type Volume struct {
	scope.Scope
	ID, AvailabilityZone, Type, SnapshotID string
	SizeGiB                                int
	IOPS, Throughput                       int
	Encrypted                              bool
	InstanceID, Device                     string // attached to; always, for a root volume that outlives its instance is "available"
	DeleteOnTermination                    bool
	AttachTime, CreatedAt                  time.Time
}

// Volumes is the table of volumes.
var Volumes = store.NewTable("volume", func(v Volume) string { return v.Key(v.ID) },
	store.Index[Volume]{Name: "instance", Keys: func(v Volume) []string { return optional(v.Scope, v.InstanceID) }})

// GetVolume finds a volume by its id.
func GetVolume(tx store.Tx, s scope.Scope, id string) (Volume, error) {
	if v, ok := Volumes.Get(tx, s.Key(id)); ok {
		return v, nil
	}
	return Volume{}, fault.New(fault.NotFound, "InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
}

// DeleteVolume deletes a volume that is attached to nothing.
func DeleteVolume(w *store.WriteTx, s scope.Scope, id string) error {
	v, err := GetVolume(w, s, id)
	if err != nil {
		return err
	}
	if v.InstanceID != "" {
		return fault.New(fault.Conflict, "VolumeInUse", "Volume %s is currently attached to %s", id, v.InstanceID)
	}
	Volumes.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return nil
}
