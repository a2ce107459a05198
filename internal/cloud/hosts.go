package cloud

import (
	"os"
	"sort"
	"strings"
	"syscall"
)

const hostsPath = "/etc/hosts"

// hostsBlock replaces this cloud's delimited block in the hosts file; no names removes it. Other clouds' blocks and
// everything else in the file stay as they are. A lock file orders clouds on one machine.
func hostsBlock(path, cloudID string, names map[string][]string) error {
	lock, err := os.OpenFile(path+".skerry.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	text := editHosts(string(old), cloudID, names)
	if text == string(old) {
		return nil
	}
	// Written in place: in containers /etc/hosts is often a bind mount, which can't be replaced by rename.
	return os.WriteFile(path, []byte(text), 0o644)
}

// editHosts is the pure part of hostsBlock.
func editHosts(old, cloudID string, names map[string][]string) string {
	begin, end := "# begin skerry "+cloudID, "# end skerry "+cloudID
	var out []string
	inside := false
	for _, line := range strings.Split(strings.TrimSuffix(old, "\n"), "\n") {
		switch {
		case line == begin:
			inside = true
		case line == end && inside:
			inside = false
		case !inside:
			out = append(out, line)
		}
	}
	if len(names) > 0 {
		out = append(out, begin)
		keys := make([]string, 0, len(names))
		for n := range names {
			keys = append(keys, n)
		}
		sort.Strings(keys)
		for _, n := range keys {
			for _, ip := range names[n] {
				out = append(out, ip+" "+n)
			}
		}
		out = append(out, end)
	}
	return strings.Join(out, "\n") + "\n"
}
