// Package store keeps all state of the control plane: typed MVCC tables over a durable log.
//
// Tables are package-level values of the domain packages (NewTable); a DB holds one instance of every table that the
// program links. Readers take a snapshot (Read, View) and never block or are blocked. There is one writer at a time
// (Update). A transaction carries its own time and ids, and is one atomic batch in a bbolt file before readers see it:
// what Update acknowledged survives kill -9, what it refused or what was cut off never happened.
//
// Less formally: read from the transaction, put values into the transaction, return nil. You may not assume that a value
// taken from a table is yours to change below its top level: slices and maps inside are shared with every reader, so clone
// them first.
//
// The file holds a bucket a table, key to JSON of the row: row changes and not commands, so a replay needs no determinism.
// It knows no domain and imports none; it starts no goroutine.
package store
