package embedded

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed files
var files embed.FS

func read(name string) ([]byte, error) {
	b, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, fmt.Errorf("this build does not carry %s; run 'make embedded' and build again", name)
	}
	return b, nil
}

// Shim returns the program that runs one container instance.
func Shim() ([]byte, error) { return read("skerry-shim") }

// Guest returns the init of the built-in image.
func Guest() ([]byte, error) { return read("skerry-guest") }

// Busybox returns a static busybox.
func Busybox() ([]byte, error) { return read("busybox") }

// Applets returns the names of the programs that this busybox is.
func Applets() ([]string, error) {
	b, err := read("busybox.applets")
	return strings.Fields(string(b)), err
}
