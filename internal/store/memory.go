package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// Memory is a log without a file: what a DB has committed to it is what the next Open finds. Simulations of crashes use
// it. The zero value is empty. Safe for concurrent use, but for one open DB at a time.
type Memory struct {
	mu   sync.Mutex
	rows map[string]map[string][]byte // by table and key
}

// commit writes a transaction's changes, all or none.
func (m *Memory) commit(w *WriteTx) error {
	type change struct {
		table, key string
		value      []byte // nil: deleted
	}
	var changes []change
	for t, rows := range w.changes {
		for k, row := range rows {
			c := change{table: t.Name(), key: k}
			if row != nil {
				var err error
				if c.value, err = json.Marshal(row); err != nil {
					return fmt.Errorf("writing %s %q: %w", c.table, k, err)
				}
			}
			changes = append(changes, c)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		t := m.rows[c.table]
		if t == nil {
			if m.rows == nil {
				m.rows = map[string]map[string][]byte{}
			}
			t = map[string][]byte{}
			m.rows[c.table] = t
		}
		if c.value == nil {
			delete(t, c.key)
		} else {
			t[c.key] = c.value
		}
	}
	return nil
}

func (m *Memory) each(table string, fn func(k, v []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.rows[table] {
		if err := fn([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

// Drift tells of a row that is not as it was committed. Rows are shared by all snapshots: whoever writes into the maps and
// slices of one changes what others see, and what an aborted transaction should have left alone.
func (m *Memory) Drift(db *DB) error {
	tx := db.Read()
	for t := range db.tables {
		n := 0
		if err := t.encode(tx, func(key string, v []byte) error {
			n++
			m.mu.Lock()
			defer m.mu.Unlock()
			if logged := m.rows[t.Name()][key]; !bytes.Equal(v, logged) {
				return fmt.Errorf("%s %q was committed as %s and is %s", t.Name(), key, logged, v)
			}
			return nil
		}); err != nil {
			return err
		}
		if n != len(m.rows[t.Name()]) {
			return fmt.Errorf("%s has %d rows, and %d were committed", t.Name(), n, len(m.rows[t.Name()]))
		}
	}
	return nil
}

func (t *Table[T]) encode(tx Tx, fn func(key string, v []byte) error) error {
	for row := range t.All(tx) {
		v, err := json.Marshal(row)
		if err == nil {
			err = fn(t.key(row), v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
