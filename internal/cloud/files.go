package cloud

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// settings is what a running cloud leaves in its data directory for env, status and down.
type settings struct {
	Listen     string
	PublicPool string
	Driver     string
	Egress     bool
	TimeScale  int
	RootKey    string `json:",omitempty"` // path of the key file
	HostsFile  bool
	PID        int
}

const settingsFile = "settings.json"

// cloudID derives the eight hex digits that every name of a cloud on this machine carries from its data directory.
func cloudID(dataDir string) string {
	sum := sha256.Sum256([]byte(resolve(dataDir)))
	return hex.EncodeToString(sum[:4])
}

// resolve is the path without symbolic links, whether or not its last parts exist.
func resolve(path string) string {
	path = filepath.Clean(path)
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(resolve(dir), filepath.Base(path))
}

// errNoCloud says that a directory holds no cloud.
var errNoCloud = errors.New("there is no cloud")

func readSettings(dir string) (settings, error) {
	var s settings
	path := filepath.Join(dir, settingsFile)
	b, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err) || errors.Is(err, syscall.ENOTDIR):
		return s, fmt.Errorf("%w in %s; start one with 'skerry up --data-dir %s'", errNoCloud, dir, dir)
	case err != nil:
		return s, fmt.Errorf("the cloud's settings can't be read: %w; run as the one who started it", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s is damaged (%w); 'skerry up' writes it anew once it is removed", path, err)
	}
	if s.Driver == "auto" { // of a time when it was written as given
		s.Driver = "container"
	}
	return s, nil
}

// writeDurable replaces a file so that a crash leaves the old or the new content, never a part.
func writeDurable(path string, b []byte, mode os.FileMode) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s settings) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeDurable(filepath.Join(dir, settingsFile), b, 0o644)
}

// alive tells whether the process runs.
func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

// Env returns the export lines for the cloud in dir.
func Env(dir string) (string, error) {
	s, err := readSettings(dir)
	if err != nil {
		return "", err
	}
	id, secret := "skerry", "skerry"
	if s.RootKey != "" {
		if id, secret, err = readRootKey(s.RootKey); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("export AWS_ENDPOINT_URL=http://%s\nexport AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\nexport AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1}\n",
		s.Listen, id, secret), nil
}

// readRootKey reads "ACCESS_KEY_ID SECRET" from a file.
func readRootKey(path string) (id, secret string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("the root key file can't be read: %w; name another with --root-key", err)
	}
	f := strings.Fields(string(b))
	if len(f) != 2 {
		return "", "", fmt.Errorf("the root key file %s must hold an access key id and a secret, separated by a space", path)
	}
	return f[0], f[1], nil
}

// loopback tells whether an API address accepts this host's own connections only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// secretFile holds random bytes that the keys of load balancers' cookies derive from; it lives as long as the cloud.
const secretFile = "secret"

// readSecret reads the cloud's secret, or makes it.
func readSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(b) == 32 {
		return b, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the cloud's secret cannot be read: %w", err)
	}
	b = make([]byte, 32)
	rand.Read(b)
	if err := writeDurable(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("the cloud's secret cannot be written: %w", err)
	}
	return b, nil
}
