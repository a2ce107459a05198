package metric

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"skerry/internal/fault"
	"skerry/internal/scope"
)

// FileName is the store's file inside its directory.
const FileName = "metrics.db"

// Bounds of the store.
const (
	MaxSeries = 200_000             // the index lives in memory, so those that have been idle longest are forgotten for more
	MaxPoints = 100_800             // points that one query may ask for
	idleFor   = 14 * 24 * time.Hour // a metric without data for so long is not listed
)

// The steps of retention: data older than the age is kept at the coarser period, and removed after the last.
var retention = []struct {
	age  time.Duration
	step uint16
}{{3 * time.Hour, 60}, {15 * 24 * time.Hour, 300}, {63 * 24 * time.Hour, 3600}, {455 * 24 * time.Hour, 0}}

var (
	bucketSeries = []byte("series")
	bucketBlocks = []byte("blocks")
)

// Options are the injected sources of a Store.
type Options struct {
	Clock     func() time.Time // nil: the real clock
	MaxSeries int              // 0: MaxSeries
}

// Series is one stored series: a metric in one unit.
type Series struct {
	scope.Scope
	Namespace, Name string
	Dimensions      map[string]string
	Unit            string
	ID              uint64
	Last            time.Time `json:"-"` // of the newest data; kept in memory, and read back from the newest block
}

// Store keeps metrics. Safe for concurrent use.
type Store struct {
	clock func() time.Time
	most  int      // series
	disk  *bolt.DB // nil: memory only

	mu     sync.RWMutex
	series map[string]*Series   // by seriesKey
	metric map[string][]*Series // by metricKey: one entry a unit
	mem    map[string][]byte    // blocks, when there is no disk
	next   uint64

	sweepAt []byte // where the next Sweep goes on
}

// Open opens or makes the store in dir; "" keeps it in memory.
func Open(dir string, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.MaxSeries == 0 {
		o.MaxSeries = MaxSeries
	}
	s := &Store{clock: o.Clock, most: o.MaxSeries, series: map[string]*Series{}, metric: map[string][]*Series{}, mem: map[string][]byte{}, next: 1}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d, err := bolt.Open(filepath.Join(dir, FileName), 0o600, &bolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("opening the metrics in %s: %w", dir, err)
	}
	s.disk = d
	if err := d.Update(s.load); err != nil {
		d.Close()
		return nil, err
	}
	return s, nil
}

// Close releases the file.
func (s *Store) Close() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.Close()
}

func (s *Store) load(tx *bolt.Tx) error {
	sb, err := tx.CreateBucketIfNotExists(bucketSeries)
	if err != nil {
		return err
	}
	bb, err := tx.CreateBucketIfNotExists(bucketBlocks)
	if err != nil {
		return err
	}
	cursor := bb.Cursor()
	return sb.ForEach(func(k, v []byte) error {
		e := &Series{}
		if err := json.Unmarshal(v, e); err != nil {
			return fmt.Errorf("reading a series: %w", err)
		}
		// The newest block is the one before the first key of the next series.
		after, _ := cursor.Seek(blockKey(e.ID+1, 0))
		if after == nil {
			after, _ = cursor.Last()
		} else {
			after, _ = cursor.Prev()
		}
		if len(after) == 16 && binary.BigEndian.Uint64(after) == e.ID {
			e.Last = time.Unix(int64(binary.BigEndian.Uint64(after[8:]))+blockSeconds, 0).UTC()
			if now := s.clock(); e.Last.After(now) {
				e.Last = now
			}
		}
		s.index(e)
		return nil
	})
}

func (s *Store) index(e *Series) {
	s.series[seriesKey(e.Scope, e.Namespace, e.Name, e.Dimensions, e.Unit)] = e
	mk := metricKey(e.Scope, e.Namespace, e.Name, e.Dimensions)
	s.metric[mk] = append(s.metric[mk], e)
	s.next = max(s.next, e.ID+1)
}

func metricKey(sc scope.Scope, ns, name string, dims map[string]string) string {
	var b strings.Builder
	b.WriteString(sc.Key(ns))
	b.WriteByte(0)
	b.WriteString(name)
	for _, k := range sortedKeys(dims) {
		b.WriteByte(0)
		b.WriteString(k)
		b.WriteByte(0)
		b.WriteString(dims[k])
	}
	return b.String()
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func seriesKey(sc scope.Scope, ns, name string, dims map[string]string, unit string) string {
	return metricKey(sc, ns, name, dims) + "\x00\x00" + unit
}

// blockKey orders blocks by series, then by hour.
func blockKey(id uint64, hour int64) []byte {
	k := binary.BigEndian.AppendUint64(nil, id)
	return binary.BigEndian.AppendUint64(k, uint64(hour))
}

// Put stores data. All of it is checked first: an error means that nothing was stored.
func (s *Store) Put(sc scope.Scope, data []Datum) error {
	now := s.clock()
	slots := make([]slot, len(data))
	for i, d := range data {
		v, err := d.check(now)
		if err != nil {
			return Numbered(err, i)
		}
		slots[i] = v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := map[string]*Series{}
	last := map[*Series]time.Time{}
	blocks := map[string][]slot{}
	var gone []*Series
	leaves := map[*Series]bool{}
	next := s.next
	for i, d := range data {
		if d.Unit == "" {
			d.Unit = "None"
		}
		key := seriesKey(sc, d.Namespace, d.Name, d.Dimensions, d.Unit)
		e := s.series[key]
		if e == nil || leaves[e] {
			e = fresh[key]
		}
		if e == nil {
			if len(s.series)+len(fresh)-len(gone) >= s.most {
				if gone == nil {
					gone = s.idlest(now, last)
					for _, g := range gone {
						leaves[g] = true
					}
				}
				if len(s.series)+len(fresh)-len(gone) >= s.most {
					return fault.New(fault.Limit, "LimitExceeded", "The store holds %d metrics, the most that it can, and all are in use.", s.most)
				}
			}
			e = &Series{Scope: sc, Namespace: d.Namespace, Name: d.Name, Dimensions: maps.Clone(d.Dimensions), Unit: d.Unit, ID: next}
			next++
			fresh[key] = e
		}
		t := d.Timestamp
		if t.IsZero() {
			t = now
		}
		sec := t.Unix()
		if !d.HighResolution {
			sec -= mod(sec, 60)
		}
		hour := sec - mod(sec, blockSeconds)
		slots[i].offset = uint16(sec - hour)
		bk := string(blockKey(e.ID, hour))
		b, ok := blocks[bk]
		if !ok {
			var err error
			if b, err = s.block([]byte(bk)); err != nil {
				return err
			}
		}
		blocks[bk] = merge(b, slots[i])
		if t.After(last[e]) {
			last[e] = t
		}
	}
	if err := s.commit(fresh, blocks, gone); err != nil {
		return fault.New(fault.Unavailable, "ServiceUnavailable", "The metrics could not be written to disk. Free space in the data directory and try again.").Wrap(err)
	}
	s.unindex(gone)
	for _, e := range fresh {
		s.index(e)
	}
	for e, t := range last {
		if t.After(e.Last) {
			e.Last = t.UTC()
		}
	}
	return nil
}

func mod(a, b int64) int64 { return ((a % b) + b) % b }

func (s *Store) block(key []byte) ([]slot, error) {
	var raw []byte
	if s.disk == nil {
		raw = s.mem[string(key)]
		return decodeBlock(raw)
	}
	var out []slot
	err := s.disk.View(func(tx *bolt.Tx) error {
		var err error
		out, err = decodeBlock(tx.Bucket(bucketBlocks).Get(key))
		return err
	})
	return out, err
}

// commit writes new series and blocks, and removes series that are gone with all of their blocks.
func (s *Store) commit(fresh map[string]*Series, blocks map[string][]slot, gone []*Series) error {
	if s.disk == nil {
		s.forgetInMemory(gone)
		for k, b := range blocks {
			if len(b) == 0 {
				delete(s.mem, k)
			} else {
				s.mem[k] = encodeBlock(b)
			}
		}
		return nil
	}
	if len(fresh)+len(blocks)+len(gone) == 0 {
		return nil
	}
	keys := make([]string, 0, len(blocks))
	for k := range blocks {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return s.disk.Update(func(tx *bolt.Tx) error {
		if err := forgetOnDisk(tx, gone); err != nil {
			return err
		}
		for _, e := range fresh {
			v, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if err := tx.Bucket(bucketSeries).Put(binary.BigEndian.AppendUint64(nil, e.ID), v); err != nil {
				return err
			}
		}
		for _, k := range keys {
			var err error
			if b := blocks[k]; len(b) == 0 {
				err = tx.Bucket(bucketBlocks).Delete([]byte(k))
			} else {
				err = tx.Bucket(bucketBlocks).Put([]byte(k), encodeBlock(b))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Point is the aggregate of a metric over the period that begins at Time.
type Point struct {
	Time                               time.Time
	SampleCount, Sum, Minimum, Maximum float64
	Unit                               string
	bins                               []bin
}

// Statistics are the names that Point.Stat knows, besides those of IsExtended.
var Statistics = []string{"SampleCount", "Average", "Sum", "Minimum", "Maximum"}

// Stat returns the statistic by CloudWatch's name.
func (p Point) Stat(name string) (float64, bool) {
	switch name {
	case "SampleCount":
		return p.SampleCount, true
	case "Average":
		return p.Sum / p.SampleCount, true
	case "Sum":
		return p.Sum, true
	case "Minimum":
		return p.Minimum, true
	case "Maximum":
		return p.Maximum, true
	}
	if v, ok := percentile(name); ok {
		return p.Percentile(v)
	}
	if s, ok := readSpread(name); ok {
		return p.spread(s)
	}
	return 0, false
}

// Query returns the points of one metric whose periods begin in [start, end), oldest first. Periods are aligned to
// multiples of their length since the epoch, and shorter ones than a second count as one. The points of several units
// stand apart; unit "" asks for all units.
func (s *Store) Query(sc scope.Scope, ns, name string, dims map[string]string, start, end time.Time, period time.Duration, unit string) ([]Point, error) {
	return s.query(sc, ns, name, dims, start, end, period, unit, 0, false)
}

// QueryFrom is Query with periods that are counted from start, not from the epoch.
func (s *Store) QueryFrom(sc scope.Scope, ns, name string, dims map[string]string, start, end time.Time, period time.Duration, unit string) ([]Point, error) {
	return s.query(sc, ns, name, dims, start, end, period, unit, start.UnixNano(), false)
}

// QueryDistribution is Query, or QueryFrom, with points that know how their values are spread.
func (s *Store) QueryDistribution(sc scope.Scope, ns, name string, dims map[string]string, start, end time.Time, period time.Duration, unit string, from bool) ([]Point, error) {
	anchor := int64(0)
	if from {
		anchor = start.UnixNano()
	}
	return s.query(sc, ns, name, dims, start, end, period, unit, anchor, true)
}

func (s *Store) query(sc scope.Scope, ns, name string, dims map[string]string, start, end time.Time, period time.Duration, unit string, anchor int64, spread bool) ([]Point, error) {
	period = max(period, time.Second)
	if !end.After(start) {
		return nil, nil
	}
	if int64(end.Sub(start)/period) > MaxPoints {
		return nil, invalid("The query asks for more than %d points. Make the period longer or the time shorter.", MaxPoints)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Point
	for _, e := range s.metric[metricKey(sc, ns, name, dims)] {
		if unit != "" && unit != e.Unit {
			continue
		}
		var err error
		if out, err = s.collect(out, e, start, end, period, anchor, spread); err != nil {
			return nil, err
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Time.Before(out[j].Time) })
	return out, nil
}

// collect appends the points of one series; one period begins at anchor, in nanoseconds since the epoch.
func (s *Store) collect(out []Point, e *Series, start, end time.Time, period time.Duration, anchor int64, spread bool) ([]Point, error) {
	from := start.UnixNano() - mod(start.UnixNano()-anchor, int64(period))
	begun := len(out)
	visit := func(hour int64, block []slot) {
		for _, v := range block {
			ns := (hour + int64(v.offset)) * int64(time.Second)
			if ns < from || ns >= end.UnixNano() {
				continue
			}
			at := time.Unix(0, ns-mod(ns-anchor, int64(period))).UTC()
			if n := len(out); n > begun && out[n-1].Time.Equal(at) {
				p := &out[n-1]
				if spread {
					p.bins = mergeBins(&slot{count: p.SampleCount, min: p.Minimum, max: p.Maximum, bins: p.bins}, &v)
				}
				p.SampleCount += v.count
				p.Sum += v.sum
				p.Minimum = math.Min(p.Minimum, v.min)
				p.Maximum = math.Max(p.Maximum, v.max)
			} else {
				out = append(out, Point{Time: at, SampleCount: v.count, Sum: v.sum, Minimum: v.min, Maximum: v.max, Unit: e.Unit, bins: v.bins})
			}
		}
	}
	first := from/int64(time.Second) - mod(from/int64(time.Second), blockSeconds)
	if s.disk == nil {
		for h := first; h < end.Unix()+1; h += blockSeconds {
			b, err := decodeBlock(s.mem[string(blockKey(e.ID, h))])
			if err != nil {
				return nil, err
			}
			visit(h, b)
		}
		return out, nil
	}
	err := s.disk.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketBlocks).Cursor()
		for k, v := c.Seek(blockKey(e.ID, first)); len(k) == 16 && binary.BigEndian.Uint64(k) == e.ID; k, v = c.Next() {
			h := int64(binary.BigEndian.Uint64(k[8:]))
			if h > end.Unix() {
				return nil
			}
			b, err := decodeBlock(v)
			if err != nil {
				return err
			}
			visit(h, b)
		}
		return nil
	})
	return out, err
}

// Filter selects metrics for List. Empty fields select all; a dimension with the value "" selects any value of it.
type Filter struct {
	Namespace, Name string
	Dimensions      map[string]string
	ActiveWithin    time.Duration // 0: two weeks
}

// List returns the metrics that have had data lately, each once, in a fixed order.
func (s *Store) List(sc scope.Scope, f Filter) []Series {
	within := f.ActiveWithin
	if within == 0 {
		within = idleFor
	}
	since := s.clock().Add(-within)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []string
	best := map[string]Series{}
	for k, group := range s.metric {
		e := *group[0]
		if e.Scope != sc || (f.Namespace != "" && f.Namespace != e.Namespace) || (f.Name != "" && f.Name != e.Name) {
			continue
		}
		matches, active := true, false
		for d, v := range f.Dimensions {
			if got, ok := e.Dimensions[d]; !ok || (v != "" && v != got) {
				matches = false
			}
		}
		for _, g := range group {
			active = active || g.Last.After(since)
		}
		if matches && active {
			keys = append(keys, k)
			best[k] = e
		}
	}
	sort.Strings(keys)
	out := make([]Series, len(keys))
	for i, k := range keys {
		out[i] = best[k]
	}
	return out
}

// How many blocks one Sweep looks at and changes in one transaction, so that no writer waits long.
const (
	maxVisit = 20_000
	maxSweep = 1000
)

// Sweep applies the retention to data that has grown old. Call it about once an hour; it tells whether more is left.
func (s *Store) Sweep() (more bool, err error) {
	now := s.clock().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := map[string][]slot{}
	visit := func(k, v []byte) error {
		age := time.Duration(now-int64(binary.BigEndian.Uint64(k[8:]))-blockSeconds) * time.Second
		step, drop := uint16(0), false
		for _, r := range retention {
			if age > r.age {
				step, drop = r.step, r.step == 0
			}
		}
		if drop {
			changed[string(k)] = nil
			return nil
		}
		if step == 0 {
			return nil
		}
		b, err := decodeBlock(v)
		if err != nil {
			return err
		}
		if c := coarsen(b, step); len(c) < len(b) {
			changed[string(k)] = c
		}
		return nil
	}
	if s.disk == nil {
		for k, v := range s.mem {
			if err := visit([]byte(k), v); err != nil {
				return false, err
			}
		}
	} else {
		err := s.disk.View(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketBlocks).Cursor()
			k, v := c.Seek(s.sweepAt)
			for n := 0; k != nil; k, v = c.Next() {
				if n++; n > maxVisit || len(changed) >= maxSweep {
					more = true
					break
				}
				if err := visit(k, v); err != nil {
					return err
				}
			}
			s.sweepAt = slices.Clone(k) // nil at the end: the next sweep begins anew
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	gone := s.emptied(changed)
	if err := s.commit(nil, changed, gone); err != nil {
		return false, err
	}
	s.unindex(gone)
	return more, nil
}
