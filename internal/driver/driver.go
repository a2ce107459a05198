package driver

import (
	"context"
	"errors"
	"time"
)

// State is what an instance is doing, as its driver sees it.
type State string

// The states. An absent instance has none: List does not mention it.
const (
	Created State = "created" // prepared, never started since Create
	Running State = "running"
	Exited  State = "exited" // started at least once, not running now
)

// ErrNotFound means that the driver has no such instance.
var ErrNotFound = errors.New("no such instance")

// EventQueue is the capacity of a driver's event channel. When it is full the oldest event is dropped: readers look at
// List after any event, so only duplicates are lost.
const EventQueue = 1024

// Spec describes one instance. It is stored by the driver at Create. Afterwards only the limits and the environment change,
// by a Create of an instance that does not run.
type Spec struct {
	ID        string            // i-0123456789abcdef0
	ImageDir  string            // directory of the image in the image store; used when Layers is empty
	Layers    []string          // root file system layers, absolute paths, topmost first
	VCPU      float64           // hard limit; 0 = none
	MemoryMiB int               // hard limit; 0 = none
	Hostname  string            // also written to /etc/hostname
	MAC       string            // of eth0; informative, the fabric sets it
	IP        string            // primary private address
	Gateway   string            // of its subnet
	PrefixLen int               // of its subnet
	Env       map[string]string // environment of the init process
	Index     uint32            // unique among a cloud's instances: selects the range of user ids
}

// Status is one row of List.
type Status struct {
	ID         string
	State      State
	StartedAt  time.Time // of the current or last run
	ExitCode   int       // of the last run, 128+n after signal n
	ExitReason string    // poweroff, stopped, killed, exit, failed: ..., lost
}

// Stats are counters since the start of the current run.
type Stats struct {
	CPUNanos uint64
	// CPUWaitNanos is the time for which the instance wanted a processor that the host gave to others, as far as it was
	// measured: a counter that begins with the first call. Its own limit's throttling isn't in it. 0 when the kernel
	// doesn't say.
	CPUWaitNanos uint64
	MemoryBytes  uint64 // without page cache that can be dropped at once
	MemoryLimit  uint64 // 0 = none
	NetRxBytes   uint64 // as the instance counts: received by it
	NetTxBytes   uint64
	NetRxPkts    uint64
	NetTxPkts    uint64
}

// Vitals is how a running instance fares, as far as it shows from outside: nil is well.
type Vitals struct {
	Guest  error // its own processes can't do anything
	Holder error // what holds it doesn't answer
}

// Event says that an instance's state changed.
type Event struct {
	ID    string
	State State
	At    time.Time
}

// Driver runs instances. All methods may be called at the same time, also for one instance; calls for one instance are
// serialised by the driver. Errors wrap ErrNotFound where the instance does not exist.
type Driver interface {
	// Create prepares the root file system and the namespaces and returns the path of the network namespace that eth0
	// is to be plugged into ("" when the driver has none). Idempotent; also repairs what a crash or a reboot of the host
	// left half done.
	Create(ctx context.Context, s Spec) (netns string, err error)
	// Start boots the instance and returns when its init process runs. Running already = success.
	Start(ctx context.Context, id string) error
	// Stop asks the init process to shut down, kills it after timeout (at once when force), and returns when it is gone.
	Stop(ctx context.Context, id string, force bool, timeout time.Duration) error
	// Reboot shuts down and boots again with the same root file system and network.
	Reboot(ctx context.Context, id string) error
	// Destroy removes the instance with everything that Create and Start made. Absent = success.
	Destroy(ctx context.Context, id string) error
	// List returns every instance of this cloud, ordered by id.
	List(ctx context.Context) ([]Status, error)
	// Console returns the last 64 KiB of the console's output.
	Console(ctx context.Context, id string) ([]byte, error)
	// Stats returns the counters of a running instance.
	Stats(ctx context.Context, id string) (Stats, error)
	// Vitals looks at a running instance.
	Vitals(ctx context.Context, id string) (Vitals, error)
	// Events returns the driver's one event channel. It is never closed.
	Events() <-chan Event
}

// Emit puts e into ch and drops the oldest event when ch is full.
func Emit(ch chan Event, e Event) {
	for {
		select {
		case ch <- e:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}
