package scaling

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"skerry/internal/store"
)

// Bounds of the history.
const (
	activityLife     = 6 * 7 * 24 * time.Hour
	maxActivities    = 1000 // a group
	pruneActivities  = 1100 // more than this, and the oldest go
	maxCause         = 1023
	maxStatusMessage = 1023 // the model says 255; real capacity errors are longer and come whole
)

// newUUID makes a random UUID.
func newUUID(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

// said is a sentence of a cause with its time.
func said(now time.Time, sentence string) string {
	return "At " + now.UTC().Format("2006-01-02T15:04:05Z") + " " + sentence
}

func causeOf(reasons []string, now time.Time, sentences ...string) string {
	all := slices.Clone(reasons)
	for _, s := range sentences {
		all = append(all, said(now, s))
	}
	return truncate(strings.Join(all, "  "), maxCause)
}

func truncate(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// begin records an activity that starts now.
func begin(w *store.WriteTx, g Group, description, cause string, subnet, zone string, alarms json.RawMessage) Activity {
	details := struct {
		Subnet string          `json:"Subnet ID,omitempty"`
		Zone   string          `json:"Availability Zone,omitempty"`
		Alarms json.RawMessage `json:"InvokingAlarms,omitempty"`
	}{subnet, zone, alarms}
	d, err := json.Marshal(details)
	if err != nil {
		d = []byte("{}")
	}
	a := Activity{Scope: g.Scope, ID: newUUID(w.Rand()), Group: g.Name, GroupARN: g.ARN(), Description: description, Cause: cause,
		Start: w.Now(), Status: StatusInProgress, Details: string(d)}
	Activities.Put(w, a)
	return a
}

// end closes an activity; an empty id or one that has ended is left alone.
func (g Group) end(w *store.WriteTx, id, status, message string) {
	a, ok := Activities.Get(w, g.Key(id))
	if !ok || a.Done() {
		return
	}
	a.End, a.Status, a.StatusMessage, a.Progress = w.Now(), status, truncate(message, maxStatusMessage), 100
	a.Description = strings.TrimSuffix(a.Description, waitingSuffix)
	if message != "" && strings.HasPrefix(a.Description, "Launching") {
		a.Description += ".  Status Reason: " + a.StatusMessage
	}
	Activities.Put(w, a)
	g.tell(w, a)
}

const waitingSuffix = " - Waiting For ELB Connection Draining."

// progress moves an activity that is under way.
func (g Group) progress(w *store.WriteTx, id, status string, percent int) {
	a, ok := Activities.Get(w, g.Key(id))
	if !ok || a.Done() {
		return
	}
	a.Status, a.Progress = status, percent
	a.Description = strings.TrimSuffix(a.Description, waitingSuffix)
	if status == StatusDraining {
		a.Description += waitingSuffix
	}
	Activities.Put(w, a)
}

// History lists a group's activities as AWS orders them: those under way first, then the latest first. An empty group
// lists those of the whole scope.
func History(tx store.Tx, g Group) []Activity {
	out := of(tx, Activities, g.Scope, g.Name)
	SortActivities(out)
	return out
}

// SortActivities orders activities as AWS does.
func SortActivities(list []Activity) {
	slices.SortStableFunc(list, func(a, b Activity) int {
		if a.Done() != b.Done() {
			if b.Done() {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.ID, b.ID))
	})
}

// pruneEvery is after how many actions of a group its old activities are looked at: what an action costs must not grow
// with the history.
const pruneEvery = 64

// prune drops what is older than AWS keeps it, and what is beyond the bound.
func prune(w *store.WriteTx, g Group) {
	list := of(w, Activities, g.Scope, g.Name)
	SortActivities(list)
	tooMany := len(list) > pruneActivities
	for i, a := range list {
		if a.Done() && (w.Now().Sub(a.End) > activityLife || tooMany && i >= maxActivities) {
			Activities.Delete(w, a.Key(a.ID))
		}
	}
}

// failureText is the status message of a launch that failed.
func failureText(message string) string {
	const tail = " Launching EC2 instance failed."
	if message = truncate(message, maxStatusMessage-len(tail)-1); !strings.HasSuffix(message, ".") {
		message += "."
	}
	return message + tail
}
