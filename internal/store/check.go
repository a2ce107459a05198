package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Format is the version of what the file holds. Raise it when an older program would misread or lose what a newer one
// has written; added tables and members need no new one.
const Format = 1

var (
	formatBucket = []byte("_format") // no table may be called so
	formatKey    = []byte("version")
)

// Errors of a file that is there and can't be used. The file is left as it is.
var (
	ErrCorrupt = errors.New("the file is damaged")
	ErrNewer   = errors.New("the file was written by a newer version of skerry")
)

// Check tells whether Open can use what is in dir, reading every page of the file and changing nothing. A directory or
// file that isn't there is fine. Errors: ErrInUse, ErrCorrupt, ErrNewer, or that the file can't be read.
func Check(dir string) (err error) {
	path := filepath.Join(dir, FileName)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a file", ErrCorrupt, path)
	case st.Size() == 0: // made, and never written
		return nil
	}
	// A page that isn't there is a memory fault, one of nonsense a panic: both on this goroutine.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
	}()
	b, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, os.ErrPermission):
		return err
	case err != nil:
		return fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	defer b.Close()
	return b.View(func(tx *bolt.Tx) error {
		if tx.Size() > st.Size() {
			return fmt.Errorf("%w: it has %d bytes of %d", ErrCorrupt, st.Size(), tx.Size())
		}
		if err := checkFormat(tx); err != nil {
			return err
		}
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			return bucket.ForEach(func(k, v []byte) error { return nil })
		})
	})
}

// checkFormat refuses a file of a later format. A file without one is of the first.
func checkFormat(tx *bolt.Tx) error {
	b := tx.Bucket(formatBucket)
	if b == nil {
		return nil
	}
	v, err := strconv.Atoi(string(b.Get(formatKey)))
	switch {
	case err != nil:
		return fmt.Errorf("%w: its format is %q", ErrCorrupt, b.Get(formatKey))
	case v > Format:
		return fmt.Errorf("%w: its format is %d, this one knows %d", ErrNewer, v, Format)
	}
	return nil
}

// stampFormat writes the format into a file that has none.
func stampFormat(db *bolt.DB) error {
	there := false
	err := db.View(func(tx *bolt.Tx) error {
		there = tx.Bucket(formatBucket) != nil
		return checkFormat(tx)
	})
	if err != nil || there {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(formatBucket)
		if err != nil {
			return err
		}
		return b.Put(formatKey, []byte(strconv.Itoa(Format)))
	})
}
