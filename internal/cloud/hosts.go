package cloud

import (
	"bytes"
	"os"
	"slices"
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
	return overwrite(path, old, []byte(text))
}

// overwrite changes a file's content from old to text, in place: in containers /etc/hosts is often a bind mount, which
// can't be replaced by rename. Somebody who reads meanwhile finds everything before the first change as it was, and after
// it no half of a line: the file is never cut before the rest is in place, and what is to go is made blank first.
func overwrite(path string, old, text []byte) error {
	same := 0
	for same < len(old) && same < len(text) && old[same] == text[same] {
		same++
	}
	if same == len(old) && same == len(text) {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	blank := bytes.Repeat([]byte("\n"), max(0, len(old)-len(text)))
	if _, err := f.WriteAt(slices.Concat(text[same:], blank), int64(same)); err != nil {
		return err
	}
	if len(blank) > 0 {
		if err := f.Truncate(int64(len(text))); err != nil {
			return err
		}
	}
	return f.Close()
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
