package scaling

import (
	"time"

	"skerry/internal/scope"
)

// Refresh is an instance refresh of a group.
type Refresh struct {
	scope.Scope
	ID, Group, Status string
	Start, End        time.Time
}

func (r *Refresh) active() bool {
	switch r.Status {
	case "Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress":
		return true
	}
	return false
}

// refresh replaces members that an instance refresh still has to replace.
func (d *decider) refresh() bool { return false }
