package ec2api

import (
	"iter"
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/describe"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// listing is a kind of resource as a Describe operation lists it: R are the records, T their described form.
type listing[R, T any] struct {
	table   *store.Table[R]
	ids     idKind
	id      func(R) string
	kind    describe.Kind[T]
	convert func(store.Tx, R) T
	order   func(R) string // of the list, unique; nil: by id
}

// find gives the records of the ids, each once, or an error that names those that are malformed or missing.
func (l *listing[R, T]) find(tx store.Tx, s scope.Scope, ids []string) ([]R, error) {
	if err := l.ids.check(ids...); err != nil {
		return nil, err
	}
	var rows []R
	var missing []string
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	for _, id := range sorted {
		if r, ok := l.table.Get(tx, s.Key(id)); ok {
			rows = append(rows, r)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, l.ids.missing(missing)
	}
	return rows, nil
}

// rows is the records of the ids, or without ids all of the scope.
func (l *listing[R, T]) rows(tx store.Tx, s scope.Scope, ids []string) (iter.Seq[R], error) {
	if len(ids) == 0 {
		return l.table.Prefix(tx, s.Prefix()), nil
	}
	found, err := l.find(tx, s, ids)
	return slices.Values(found), err
}

// describe answers a Describe operation.
func (l *listing[R, T]) describe(c *api.Call, ids []string, fs []ec2.Filter, maxResults *int32, token *string) ([]T, *string, error) {
	var out []T
	var next string
	err := c.View(func(tx store.Tx) error {
		rows, err := l.rows(tx, c.Scope(), ids)
		if err != nil {
			return err
		}
		key := l.id
		if l.order != nil {
			key = l.order
			rows = ordered(rows, key)
		}
		q := describe.Query{Filters: filters(fs), MaxResults: maxResults, NextToken: token, HasIDs: len(ids) > 0}
		out, next, err = describe.Page(&l.kind, q, rows, key, func(r R) T { return l.convert(tx, r) })
		return err
	})
	return out, str(next), err
}

// ordered sorts rows by a key, which is made once for each.
func ordered[R any](rows iter.Seq[R], key func(R) string) iter.Seq[R] {
	type keyed struct {
		key string
		row R
	}
	var all []keyed
	for r := range rows {
		all = append(all, keyed{key(r), r})
	}
	slices.SortFunc(all, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	return func(yield func(R) bool) {
		for _, k := range all {
			if !yield(k.row) {
				return
			}
		}
	}
}

// field makes a filter of one optional text.
func field[T any](get func(*T) *string) func(*T) []string {
	return func(v *T) []string { return texts(get(v)) }
}

// each makes a filter of a text of each element of a list.
func each[T, E any](list func(*T) []E, get func(*E) []string) func(*T) []string {
	return func(v *T) []string {
		var out []string
		l := list(v)
		for i := range l {
			out = append(out, get(&l[i])...)
		}
		return out
	}
}

// fixed makes a filter of a value that all have.
func fixed[T any](value string) func(*T) []string {
	return func(*T) []string { return []string{value} }
}

// none makes a filter of a value that nothing has.
func none[T any]() func(*T) []string { return func(*T) []string { return nil } }
