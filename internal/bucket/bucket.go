// Package bucket is what stands for Amazon S3 where another service reads an object or writes one: a folder that holds a
// folder for each bucket, and the objects in it under their keys. The user fills it; docs/howto/buckets.md shows how.
//
// Names never lead outside of the folder, also not by symbolic links. A Dir is safe for concurrent use.
package bucket

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Name is the folder's name inside a data directory.
const Name = "s3"

// maxKey is S3's limit, in bytes.
const maxKey = 1024

// ErrNotFound says that there is no such bucket or object; ErrTooLarge that the object is larger than wanted.
var (
	ErrNotFound = errors.New("no such object")
	ErrTooLarge = errors.New("the object is too large")
)

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ValidName tells whether a bucket may have the name.
func ValidName(bucket string) bool { return bucketName.MatchString(bucket) }

// Dir is the folder of the buckets.
type Dir string

// Read returns an object of at most max bytes.
func (d Dir) Read(bucket, key string, max int64) ([]byte, error) {
	if !ValidName(bucket) || key == "" || len(key) > maxKey || !filepath.IsLocal(key) {
		return nil, ErrNotFound
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, notFound(err)
	}
	defer root.Close()
	name := filepath.Join(bucket, key)
	if i, err := root.Stat(name); err != nil { // before it is opened: a pipe would block
		return nil, notFound(err)
	} else if !i.Mode().IsRegular() {
		return nil, ErrNotFound
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, notFound(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, fmt.Errorf("reading the object %s of bucket %s: %w", key, bucket, err)
	}
	if int64(len(b)) > max {
		return nil, ErrTooLarge
	}
	return b, nil
}

func notFound(err error) error {
	var p *fs.PathError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &p) { // a way that leaves the folder, a part that is no folder
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
