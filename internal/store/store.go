package store

import (
	crand "crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/statedb"
	"github.com/cilium/statedb/index"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"skerry/internal/fault"
)

// FileName is the log's name inside the data directory.
const FileName = "state.db"

// lockTimeout is how long Open waits for another process to give the file up.
const lockTimeout = time.Second

// ErrInUse says that another process holds the data directory's state.
var ErrInUse = errors.New("the data directory is in use by another process")

// Options are the injected sources of a DB; zero values mean the real clock and the system's random source.
type Options struct {
	Clock  func() time.Time
	Rand   io.Reader
	Memory *Memory // the log of a DB without a directory; nil: nothing is kept
}

// DB is the state of one cloud. Safe for concurrent use.
type DB struct {
	opts   Options
	bolt   *bolt.DB // nil: memory only
	mem    *statedb.DB
	tables map[AnyTable]any // *Table[T] -> statedb.RWTable[T]
	metas  []statedb.TableMeta

	writer  sync.Mutex // the one writer
	commits atomic.Uint64

	mu      sync.Mutex // guards waiters
	waiters map[string]*waiter
}

type waiter struct {
	tables map[AnyTable]bool
	ch     chan struct{}
}

// AnyTable is a *Table[T] of any T.
type AnyTable interface {
	Name() string
	open(db *DB) error
	load(db *DB, w *WriteTx, each logReader) error
	encode(tx Tx, fn func(key string, v []byte) error) error
}

// logReader yields the rows of a table that a log holds.
type logReader func(table string, fn func(k, v []byte) error) error

var registry struct {
	sync.Mutex
	tables []AnyTable
	names  map[string]bool
}

// Index is a secondary, non-unique index: the keys under which a row is found by Table.By.
type Index[T any] struct {
	Name string
	Keys func(T) []string
}

// Table describes one table. The value is the handle for every DB.
type Table[T any] struct {
	name    string
	key     func(T) string
	primary statedb.Index[T, string]
	indexes map[string]statedb.Index[T, string]
	order   []string
}

// NewTable declares a table; call it once for a package-level variable. key gives a row's primary key.
func NewTable[T any](name string, key func(T) string, idx ...Index[T]) *Table[T] {
	t := &Table[T]{name: name, key: key, indexes: map[string]statedb.Index[T, string]{}}
	t.primary = statedb.Index[T, string]{
		Name: "primary", Unique: true,
		FromObject: func(v T) index.KeySet { return index.NewKeySet(index.String(key(v))) },
		FromKey:    index.String,
	}
	for _, i := range idx {
		keys := i.Keys
		t.indexes[i.Name] = statedb.Index[T, string]{
			Name: i.Name,
			FromObject: func(v T) index.KeySet {
				ks := keys(v)
				if len(ks) == 0 {
					return index.EmptyKeySet
				}
				return index.StringSlice(ks)
			},
			FromKey: index.String,
		}
		t.order = append(t.order, i.Name)
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.names == nil {
		registry.names = map[string]bool{}
	}
	if registry.names[name] {
		panic("store: table " + name + " is declared twice")
	}
	registry.names[name] = true
	registry.tables = append(registry.tables, t)
	return t
}

// Name returns the table's name, which is its bucket in the file.
func (t *Table[T]) Name() string { return t.name }

func (t *Table[T]) open(db *DB) error {
	var second []statedb.Indexer[T]
	for _, n := range t.order {
		second = append(second, t.indexes[n])
	}
	// statedb accepts lower-case names with dashes only.
	mem, err := statedb.NewTableAny(db.mem, strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(t.name, "_", "-"), ".", "-")),
		func() []string { return []string{"key"} }, func(v T) []string { return []string{t.key(v)} }, t.primary, second...)
	if err != nil {
		return fmt.Errorf("opening table %s: %w", t.name, err)
	}
	db.tables[t] = mem
	db.metas = append(db.metas, mem)
	return nil
}

func (t *Table[T]) load(db *DB, w *WriteTx, each logReader) error {
	mem := t.in(db)
	return each(t.name, func(k, v []byte) error {
		var row T
		if err := json.Unmarshal(v, &row); err != nil {
			return fmt.Errorf("reading %s %q: %w", t.name, k, err)
		}
		_, _, err := mem.Insert(w.txn.(statedb.WriteTxn), row)
		return err
	})
}

func (t *Table[T]) in(db *DB) statedb.RWTable[T] {
	mem, ok := db.tables[t]
	if !ok {
		panic("store: table " + t.name + " was declared after Open")
	}
	return mem.(statedb.RWTable[T])
}

// Open opens or makes the state in dir ("" keeps it in memory only). Errors: ErrInUse, ErrNewer, or an
// unreadable directory or file; what a damaged file does is undefined, so Check it first.
func Open(dir string, o Options) (*DB, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = crand.Reader
	}
	db := &DB{opts: o, mem: statedb.New(), tables: map[AnyTable]any{}, waiters: map[string]*waiter{}}
	registry.Lock()
	tables := append([]AnyTable(nil), registry.tables...)
	registry.Unlock()
	for _, t := range tables {
		if err := t.open(db); err != nil {
			return nil, err
		}
	}
	if dir == "" {
		if o.Memory == nil {
			return db, nil
		}
		return db, db.loadAll(tables, o.Memory.each)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	b, err := bolt.Open(filepath.Join(dir, FileName), 0o600, &bolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", filepath.Join(dir, FileName), err)
	}
	db.bolt = b
	if err := stampFormat(b); err != nil {
		b.Close()
		return nil, err
	}
	if err := b.View(func(tx *bolt.Tx) error {
		return db.loadAll(tables, func(table string, fn func(k, v []byte) error) error {
			if b := tx.Bucket([]byte(table)); b != nil {
				return b.ForEach(fn)
			}
			return nil
		})
	}); err != nil {
		b.Close()
		return nil, err
	}
	return db, nil
}

func (db *DB) loadAll(tables []AnyTable, each logReader) error {
	w := db.begin()
	txn := w.txn.(statedb.WriteTxn)
	defer txn.Abort()
	for _, t := range tables {
		if err := t.load(db, w, each); err != nil {
			return err
		}
	}
	txn.Commit()
	return nil
}

// Close releases the file. Transactions after it fail.
func (db *DB) Close() error {
	db.writer.Lock()
	defer db.writer.Unlock()
	if db.bolt == nil {
		return nil
	}
	return db.bolt.Close()
}

// Tx is a snapshot to read from: a *ReadTx or a *WriteTx, whose own changes are visible to it.
type Tx interface {
	Now() time.Time
	read() (*DB, statedb.ReadTxn)
}

// ReadTx is a snapshot. It holds nothing that needs releasing.
type ReadTx struct {
	db  *DB
	txn statedb.ReadTxn
	now time.Time
}

// Now is the time at which the snapshot was taken.
func (r *ReadTx) Now() time.Time               { return r.now }
func (r *ReadTx) read() (*DB, statedb.ReadTxn) { return r.db, r.txn }

// WriteTx is the one write transaction. Owned by the function given to Update; not to be kept.
type WriteTx struct {
	ReadTx
	rng     *rand.Rand
	changes map[AnyTable]map[string]any // nil value: deleted
}

// Rand is the transaction's random source.
func (w *WriteTx) Rand() *rand.Rand { return w.rng }

// NewID returns PREFIX-17 hex digits, AWS's form of an id.
func (w *WriteTx) NewID(prefix string) string {
	return fmt.Sprintf("%s-0%016x", prefix, w.rng.Uint64())
}

// Read takes a snapshot.
func (db *DB) Read() *ReadTx {
	return &ReadTx{db: db, txn: db.mem.ReadTxn(), now: db.opts.Clock().UTC()}
}

// View runs fn on a snapshot.
func (db *DB) View(fn func(r *ReadTx) error) error { return fn(db.Read()) }

func (db *DB) begin() *WriteTx {
	txn := db.mem.WriteTxn(db.metas...)
	var seed [32]byte
	if _, err := io.ReadFull(db.opts.Rand, seed[:]); err != nil {
		binary.LittleEndian.PutUint64(seed[:], uint64(db.opts.Clock().UnixNano()))
	}
	return &WriteTx{ReadTx: ReadTx{db: db, txn: txn, now: db.opts.Clock().UTC()}, rng: rand.New(rand.NewChaCha8(seed)),
		changes: map[AnyTable]map[string]any{}}
}

// Update runs fn in the write transaction. If fn returns an error, or the log can't be written, nothing has changed; the
// latter gives a fault of kind Unavailable.
func (db *DB) Update(fn func(w *WriteTx) error) error {
	db.writer.Lock()
	defer db.writer.Unlock()
	w := db.begin()
	txn := w.txn.(statedb.WriteTxn)
	defer txn.Abort()
	if err := fn(w); err != nil {
		return err
	}
	if len(w.changes) == 0 {
		return nil
	}
	if err := db.log(w); err != nil {
		return fault.New(fault.Unavailable, "Unavailable", "The state could not be written to disk, so nothing was changed. Free space in the data directory and try again.").Wrap(err)
	}
	txn.Commit()
	db.commits.Add(1)
	db.notify(w.changes)
	return nil
}

// Commits counts the transactions that have changed something since Open.
func (db *DB) Commits() uint64 { return db.commits.Load() }

func (db *DB) log(w *WriteTx) error {
	if db.opts.Memory != nil {
		return db.opts.Memory.commit(w)
	}
	if db.bolt == nil {
		return nil
	}
	return db.bolt.Update(func(tx *bolt.Tx) error {
		tables := make([]AnyTable, 0, len(w.changes))
		for t := range w.changes {
			tables = append(tables, t)
		}
		sort.Slice(tables, func(i, j int) bool { return tables[i].Name() < tables[j].Name() })
		for _, t := range tables {
			b, err := tx.CreateBucketIfNotExists([]byte(t.Name()))
			if err != nil {
				return err
			}
			keys := make([]string, 0, len(w.changes[t]))
			for k := range w.changes[t] {
				keys = append(keys, k)
			}
			sort.Strings(keys)
			for _, k := range keys {
				row := w.changes[t][k]
				if row == nil {
					err = b.Delete([]byte(k))
				} else {
					var v []byte
					if v, err = json.Marshal(row); err == nil {
						err = b.Put([]byte(k), v)
					}
				}
				if err != nil {
					return fmt.Errorf("writing %s %q: %w", t.Name(), k, err)
				}
			}
		}
		return nil
	})
}

func (w *WriteTx) note(t AnyTable, key string, row any) {
	m := w.changes[t]
	if m == nil {
		m = map[string]any{}
		w.changes[t] = m
	}
	m[key] = row
}

// Watch returns a channel that closes at the next commit that touches one of the tables. Take it before reading, so that
// no change between is missed. Callers that name the same tables share a channel.
func (db *DB) Watch(tables ...AnyTable) <-chan struct{} {
	names := make([]string, len(tables))
	set := map[AnyTable]bool{}
	for i, t := range tables {
		names[i] = t.Name()
		set[t] = true
	}
	sort.Strings(names)
	id := strings.Join(names, " ")
	db.mu.Lock()
	defer db.mu.Unlock()
	wt := db.waiters[id]
	if wt == nil {
		wt = &waiter{tables: set, ch: make(chan struct{})}
		db.waiters[id] = wt
	}
	return wt.ch
}

func (db *DB) notify(changes map[AnyTable]map[string]any) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for id, wt := range db.waiters {
		for t := range changes {
			if wt.tables[t] {
				close(wt.ch)
				delete(db.waiters, id)
				break
			}
		}
	}
}

// Get returns the row with the primary key.
func (t *Table[T]) Get(tx Tx, key string) (T, bool) {
	db, txn := tx.read()
	v, _, ok := t.in(db).Get(txn, t.primary.Query(key))
	return v, ok
}

// Put inserts or replaces a row.
func (t *Table[T]) Put(w *WriteTx, v T) {
	if _, _, err := t.in(w.db).Insert(w.txn.(statedb.WriteTxn), v); err != nil {
		panic(fmt.Sprintf("store: %s: %v", t.name, err)) // only a transaction kept beyond its Update
	}
	w.note(t, t.key(v), v)
}

// Delete removes the row with the key and tells whether there was one.
func (t *Table[T]) Delete(w *WriteTx, key string) bool {
	v, ok := t.Get(w, key)
	if !ok {
		return false
	}
	if _, _, err := t.in(w.db).Delete(w.txn.(statedb.WriteTxn), v); err != nil {
		panic(fmt.Sprintf("store: %s: %v", t.name, err))
	}
	w.note(t, key, nil)
	return true
}

// All yields every row in the order of primary keys. The table may be changed during the iteration; it goes on over the
// rows that it began with.
func (t *Table[T]) All(tx Tx) iter.Seq[T] { return t.Prefix(tx, "") }

// Prefix yields the rows whose primary key begins with prefix, in order.
func (t *Table[T]) Prefix(tx Tx, prefix string) iter.Seq[T] {
	return func(yield func(T) bool) {
		db, txn := tx.read()
		mem := t.in(db)
		var seq iter.Seq2[T, statedb.Revision]
		if prefix == "" {
			seq = mem.All(txn)
		} else {
			seq = mem.Prefix(txn, t.primary.Query(prefix))
		}
		drain(tx, seq, yield)
	}
}

// By yields the rows that the index gives for value, in the order of primary keys.
func (t *Table[T]) By(tx Tx, index, value string) iter.Seq[T] {
	i, ok := t.indexes[index]
	if !ok {
		panic("store: table " + t.name + " has no index " + index)
	}
	return func(yield func(T) bool) {
		db, txn := tx.read()
		drain(tx, t.in(db).List(txn, i.Query(value)), yield)
	}
}

// drain yields a sequence. Inside a write transaction the rows are collected first, so that the caller may change the
// table while it walks it.
func drain[T any](tx Tx, seq iter.Seq2[T, statedb.Revision], yield func(T) bool) {
	if _, ok := tx.(*WriteTx); !ok {
		for v := range seq {
			if !yield(v) {
				return
			}
		}
		return
	}
	for _, e := range statedb.Collect(seq) {
		if !yield(e) {
			return
		}
	}
}
