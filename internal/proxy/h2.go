package proxy

import (
	"runtime/debug"
	"time"
)

// Bounds of HTTP/2 connections. The first three are the service's own.
const (
	maxStreams        = 128
	maxStreamRequests = 10000 // requests on one connection
	maxHeaderBlock    = 8 << 10
	maxClosed         = 128 // closed streams that are remembered
	maxContinuations  = 16  // frames of one header block
	maxResets         = 1000
	maxIdleFrames     = 10000
	h2MaxFrame        = 16384
	maxWindow         = 1<<31 - 1
	streamWindow      = 256 << 10
	connWindow        = 1 << 20
	flushAt           = 32 << 10  // frames are written when they are this many, if not before
	pendingData       = 128 << 10 // no more data are framed while this much waits to be written
	maxPending        = 256 << 10 // no more is read either
	readsABatch       = 4
	h2Linger          = time.Second
)

func stack() string { return string(debug.Stack()) }
