package zone

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"skerry/internal/fabric"
)

// Waits of the process.
const (
	refreshEvery = 2 * time.Second        // level-triggered: namespaces may have been replaced
	retryFirst   = 5 * time.Millisecond   // when something could not be applied: a namespace may be just being made
	retryEvery   = 200 * time.Millisecond // and later
	stopTimeout  = 2 * time.Second
)

// Options are the settings of a zone's process. Net and Now are for tests; nil means Linux and the real clock.
type Options struct {
	DataDir   string
	CloudID   string
	Zone      string
	TimeScale int
	Resolver  string // host's resolver (host:port); empty reads /etc/resolv.conf
	Log       *slog.Logger
	Net       Net
	Now       func() time.Time
	Loops     int // event loops of load-balancer nodes; 0 is one for each processor
}

// process is the running zone.
type process struct {
	o       Options
	ctx     context.Context // Run's: work that a control request starts must outlive the request
	key     []byte
	signer  *documentSigner
	boot    string
	forward *forwarder
	wake    chan struct{} // asks the apply loop to run

	mu      sync.Mutex // guards what follows
	desired Desired
	byIP    map[string]map[netip.Addr]*Instance // VPC → address → instance
	names   *names
	rep     reporter

	applyMu   sync.Mutex // one apply at a time; guards what follows
	vpcs      map[string]*vpcServers
	nodes     *nodes
	checks    *checker
	problems  []string
	lastApply string
}

// vpcServers are the listeners of one VPC.
type vpcServers struct {
	want  VPC
	ident string
	http  *http.Server
	dns   []interface{ Shutdown() error }
}

func (v *vpcServers) close() {
	if v.http != nil {
		v.http.Close()
	}
	for _, d := range v.dns {
		d.Shutdown()
	}
}

// Run is a zone's process: it applies its last desired state, serves its control socket and goes on until the context
// ends. Everything it started has ended when it returns. The control plane isn't needed.
func Run(ctx context.Context, o Options) error {
	if o.Zone == "" || o.DataDir == "" {
		return errors.New("a zone's process needs a data directory and a zone name")
	}
	if o.TimeScale < 1 {
		o.TimeScale = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Net == nil {
		o.Net = kernelNet{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dir := filepath.Join(o.DataDir, "zones")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	p := &process{o: o, ctx: ctx, wake: make(chan struct{}, 1), vpcs: map[string]*vpcServers{}, byIP: map[string]map[netip.Addr]*Instance{}, names: buildNames(Desired{})}
	var boot [8]byte
	rand.Read(boot[:])
	p.boot = hex.EncodeToString(boot[:])
	p.rep.init(o.Zone, p.boot)
	var err error
	if p.key, err = loadKey(filepath.Join(dir, o.Zone+".key")); err != nil {
		return err
	}
	if p.signer, err = loadSigner(dir, o.Now()); err != nil {
		return err
	}
	p.forward = newForwarder(o.Resolver)
	p.checks = newChecker(ctx, o, &p.rep)
	p.nodes = newNodes(o, &p.rep, p.checks)
	p.nodes.names = p.currentNames
	defer p.stop()
	if b, err := os.ReadFile(p.file()); err == nil {
		var d Desired
		if err := json.Unmarshal(b, &d); err != nil { // written by another version, or cut by a power failure
			o.Log.Error("the zone's last state can't be read; it starts empty until it is told", "zone", o.Zone, "file", p.file(), "err", err)
		} else {
			p.set(d)
			p.apply(ctx)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	socket := SocketPath(o.DataDir, o.Zone)
	os.Remove(socket) // a killed process leaves it behind; the supervisor starts one process a zone
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("the zone's socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	srv := &http.Server{Handler: p.control(), ReadHeaderTimeout: requestTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	o.Log.Info("zone serves", "zone", o.Zone, "applied", p.rep.snapshot().Applied)
	tick := time.NewTimer(retryFirst)
	defer tick.Stop()
	retry := retryFirst
	for {
		select {
		case <-ctx.Done():
			srv.Close()
			<-served
			return nil
		case err := <-served:
			return fmt.Errorf("the zone's socket: %w", err)
		case <-p.wake:
			retry = retryFirst
		case <-tick.C:
		}
		again := refreshEvery
		if p.apply(ctx) > 0 {
			again, retry = retry, min(2*retry, retryEvery)
		} else {
			retry = retryFirst
		}
		tick.Reset(again)
	}
}

func (p *process) file() string { return filepath.Join(p.o.DataDir, "zones", p.o.Zone+".json") }

// push keeps a state, makes it current, then applies it.
func (p *process) push(ctx context.Context, d Desired) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := replaceFile(p.file(), b); err != nil {
		return err
	}
	p.set(d)
	p.apply(ctx)
	select {
	case p.wake <- struct{}{}: // the loop takes over what could not be applied
	default:
	}
	return nil
}

// set makes a state current for metadata and names, which read it at each request.
func (p *process) set(d Desired) {
	byIP := map[string]map[netip.Addr]*Instance{}
	for i := range d.Instances {
		in := &d.Instances[i]
		m := byIP[in.VPC]
		if m == nil {
			m = map[netip.Addr]*Instance{}
			byIP[in.VPC] = m
		}
		m[in.IP] = in
	}
	names := buildNames(d)
	p.mu.Lock()
	p.desired, p.byIP, p.names = d, byIP, names
	p.mu.Unlock()
}

func (p *process) lookup(vpc string, ip netip.Addr) (*Instance, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, ok := p.byIP[vpc][ip]
	return in, ok
}

func (p *process) currentNames() *names {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names
}

// apply makes the process equal to the current state and returns how many parts could not be.
func (p *process) apply(ctx context.Context) int {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if ctx.Err() != nil {
		return 0
	}
	p.mu.Lock()
	d := p.desired
	p.mu.Unlock()
	var problems []string
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	keep := map[string]bool{}
	for _, v := range d.VPCs {
		ident, err := p.o.Net.Ident(v.Namespace)
		if err != nil {
			fail("vpc %s: %v", v.ID, err)
			continue
		}
		keep[v.ID] = true
		cur := p.vpcs[v.ID]
		if cur != nil && cur.ident == ident && cur.want == v {
			continue
		}
		if cur != nil {
			cur.close()
			delete(p.vpcs, v.ID)
		}
		s, err := p.openVPC(v, ident)
		if err != nil {
			fail("vpc %s: %v", v.ID, err)
			continue
		}
		p.vpcs[v.ID] = s
	}
	for id, s := range p.vpcs {
		if !keep[id] {
			s.close()
			delete(p.vpcs, id)
		}
	}
	for _, err := range p.nodes.apply(ctx, d) {
		fail("%v", err)
	}
	if len(problems) > 0 && (d.Version != p.lastApply || len(p.problems) == 0) {
		p.o.Log.Warn("the desired state could not be applied whole; it is tried again", "zone", p.o.Zone, "version", d.Version, "first", problems[0], "count", len(problems))
	}
	p.problems, p.lastApply = problems, d.Version
	p.rep.applied(d.Version, problems)
	return len(problems)
}

// openVPC opens a VPC's metadata and DNS listeners, or none of them.
func (p *process) openVPC(v VPC, ident string) (*vpcServers, error) {
	s := &vpcServers{want: v, ident: ident}
	l, err := p.o.Net.Listen(v.Namespace, "tcp4", netip.AddrPortFrom(fabric.IMDSAddr, fabric.IMDSPort+v.PortOffset).String())
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	h := &imds{vpc: v.ID, key: p.key, lookup: p.lookup, signer: p.signer, now: p.o.Now, log: p.o.Log}
	s.http = h.serve(l)
	if err := p.openDNS(s); err != nil {
		s.close()
		return nil, fmt.Errorf("dns: %w", err)
	}
	return s, nil
}

func (p *process) stop() {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	for _, s := range p.vpcs {
		s.close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	p.nodes.stop(ctx)
	p.checks.stop()
}

// loadKey reads the zone's key for metadata tokens, or makes it.
func loadKey(path string) ([]byte, error) {
	if b, err := os.ReadFile(path); err == nil && len(b) == 32 {
		return b, nil
	}
	key := make([]byte, 32)
	rand.Read(key)
	return key, replaceFile(path, key)
}

// replaceFile replaces a file so that a killed process leaves the old or the new content, never a part. It does not wait for
// the disk: a machine that lost power has nothing running, and gets its state from the control plane.
func replaceFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}
