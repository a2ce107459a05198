package identity

import (
	"sync"
	"time"

	"skerry/internal/store"
)

// maxUsage bounds the keys that a Usage remembers between two flushes; more are not noted.
const maxUsage = 10_000

// Usage notes when keys are used, so that requests don't write: Flush, called now and then, stores it. Safe for
// concurrent use. What was noted since the last Flush is lost when the process ends.
type Usage struct {
	mu   sync.Mutex
	seen map[string]use
}

type use struct {
	at              time.Time
	region, service string
}

// Note says that a key was used for a service.
func (u *Usage) Note(accessKeyID, region, service string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[string]use{}
	}
	if _, ok := u.seen[accessKeyID]; ok || len(u.seen) < maxUsage {
		u.seen[accessKeyID] = use{at.UTC().Truncate(time.Second), region, service}
	}
}

// Flush stores what was noted: a long-lived key's last use, and for a session that of its role.
func (u *Usage) Flush(db *store.DB) error {
	u.mu.Lock()
	seen := u.seen
	u.seen = nil
	u.mu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	return db.Update(func(w *store.WriteTx) error {
		for id, x := range seen {
			if k, ok := AccessKeys.Get(w, id); ok && k.UsedAt.Before(x.at) {
				k.UsedAt, k.UsedRegion, k.UsedService = x.at, x.region, x.service
				AccessKeys.Put(w, k)
			}
			s, ok := Sessions.Get(w, id)
			if !ok || s.Role == "" {
				continue
			}
			if r, ok := Roles.Get(w, key(s.Account, s.Role)); ok && r.ID == s.RoleID && r.UsedAt.Before(x.at) {
				r.UsedAt, r.UsedIn = x.at, x.region
				Roles.Put(w, r)
			}
		}
		return nil
	})
}
