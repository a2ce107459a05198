package metric

import (
	"encoding/binary"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Instances come and go and leave their series behind. When there is no room for more, a part of those that have had no
// data for a while is forgotten, the longest idle first.
const (
	forgetPart = 20            // one in so many
	forgetIdle = 3 * time.Hour // without data
)

// idlest lists the series to forget. It spares those that are about to get data. The caller holds the lock.
func (s *Store) idlest(now time.Time, busy map[*Series]time.Time) []*Series {
	idle := []*Series{}
	for _, e := range s.series {
		if _, ok := busy[e]; !ok && now.Sub(e.Last) > forgetIdle {
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(a, b *Series) int {
		if c := a.Last.Compare(b.Last); c != 0 {
			return c
		}
		return int(int64(a.ID) - int64(b.ID))
	})
	return idle[:min(len(idle), max(1, s.most/forgetPart))]
}

// emptied lists the series that have no blocks any more once those without slots are removed. The caller holds the lock.
func (s *Store) emptied(changed map[string][]slot) []*Series {
	ids := map[uint64]bool{}
	for k, b := range changed {
		if len(b) == 0 {
			ids[binary.BigEndian.Uint64([]byte(k))] = true
		}
	}
	if len(ids) == 0 {
		return nil
	}
	oldest := s.clock().Add(-retention[len(retention)-1].age)
	var out []*Series
	for _, e := range s.series {
		if ids[e.ID] && e.Last.Before(oldest) {
			out = append(out, e)
		}
	}
	return out
}

func (s *Store) unindex(gone []*Series) {
	for _, e := range gone {
		delete(s.series, seriesKey(e.Scope, e.Namespace, e.Name, e.Dimensions, e.Unit))
		mk := metricKey(e.Scope, e.Namespace, e.Name, e.Dimensions)
		left := slices.DeleteFunc(slices.Clone(s.metric[mk]), func(o *Series) bool { return o == e })
		if len(left) == 0 {
			delete(s.metric, mk)
		} else {
			s.metric[mk] = left
		}
	}
}

func (s *Store) forgetInMemory(gone []*Series) {
	if len(gone) == 0 {
		return
	}
	ids := map[uint64]bool{}
	for _, e := range gone {
		ids[e.ID] = true
	}
	for k := range s.mem {
		if ids[binary.BigEndian.Uint64([]byte(k))] {
			delete(s.mem, k)
		}
	}
}

func forgetOnDisk(tx *bolt.Tx, gone []*Series) error {
	for _, e := range gone {
		id := binary.BigEndian.AppendUint64(nil, e.ID)
		if err := tx.Bucket(bucketSeries).Delete(id); err != nil {
			return err
		}
		var keys [][]byte // a cursor that deletes loses its place
		c := tx.Bucket(bucketBlocks).Cursor()
		for k, _ := c.Seek(blockKey(e.ID, 0)); len(k) == 16 && binary.BigEndian.Uint64(k) == e.ID; k, _ = c.Next() {
			keys = append(keys, slices.Clone(k))
		}
		for _, k := range keys {
			if err := tx.Bucket(bucketBlocks).Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}
