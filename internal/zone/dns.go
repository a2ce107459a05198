package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"skerry/internal/fabric"
)

// Bounds of the resolvers.
const (
	answerTTL      = 60 // seconds, of load balancers' and instances' names
	forwardTimeout = 3 * time.Second
	maxForwards    = 64 // questions under way to the host's resolver
	resolvConf     = "/etc/resolv.conf"
)

// names answers questions from a desired state. It is immutable.
type names struct {
	egress bool
	global map[string]addresses // load balancers, the API
	vpcs   map[string]*vpcNames
}

// addresses are what a name resolves to; local is preferred in share percent of the answers.
type addresses struct {
	all   []netip.Addr
	local netip.Addr
	share int
}

type vpcNames struct {
	forward map[string]addresses
	reverse map[string]string // in-addr.arpa name → host name
}

func buildNames(d Desired) *names {
	n := &names{egress: d.Egress, global: map[string]addresses{}, vpcs: map[string]*vpcNames{}}
	if d.APIName != "" {
		n.global[dns.CanonicalName(d.APIName)] = only(fabric.APIAddr)
	}
	n.global["instance-data."] = only(fabric.IMDSAddr)
	n.global["instance-data.ec2.internal."] = only(fabric.IMDSAddr)
	for _, v := range d.VPCs {
		n.vpcs[v.ID] = &vpcNames{forward: map[string]addresses{}, reverse: map[string]string{}}
	}
	for _, lb := range d.Names {
		a := addresses{lb.Addrs, lb.Local, lb.LocalShare}
		if lb.VPC == "" {
			n.global[dns.CanonicalName(lb.Name)] = a
		} else if v := n.vpcs[lb.VPC]; v != nil {
			v.forward[dns.CanonicalName(lb.Name)] = a
		}
	}
	for _, h := range d.Hosts {
		v := n.vpcs[h.VPC]
		if v == nil {
			continue
		}
		v.forward[dns.CanonicalName(h.Name)] = only(h.IP)
		if h.PublicName != "" {
			v.forward[dns.CanonicalName(h.PublicName)] = only(h.IP)
		}
		if arpa, err := dns.ReverseAddr(h.IP.String()); err == nil {
			v.reverse[arpa] = dns.CanonicalName(h.Name)
		}
	}
	return n
}

func only(a netip.Addr) addresses { return addresses{all: []netip.Addr{a}} }

// preferred counts the answers for names that have a preferred address.
var preferred atomic.Uint32

// pick is what one answer holds.
func (a addresses) pick() []netip.Addr {
	if a.local.IsValid() && int(preferred.Add(1)%100) < a.share {
		return []netip.Addr{a.local}
	}
	return a.all
}

// lookup finds a name's addresses as the VPC sees them. known is also true for a name that is ours and has none.
func (n *names) lookup(vpc, name string) (addrs []netip.Addr, known bool) {
	if v := n.vpcs[vpc]; v != nil {
		if a, ok := v.forward[name]; ok {
			return a.pick(), true
		}
	}
	if a, ok := n.global[name]; ok {
		return a.pick(), true
	}
	return publicName(name)
}

// publicName reads an address out of ec2-A-B-C-D.REGION.compute.amazonaws.com.
func publicName(name string) ([]netip.Addr, bool) {
	host, domain, _ := strings.Cut(name, ".")
	if !strings.HasPrefix(host, "ec2-") || domain != "compute-1.amazonaws.com." && !strings.HasSuffix(domain, ".compute.amazonaws.com.") {
		return nil, false
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(strings.TrimPrefix(host, "ec2-"), "-", "."))
	if err != nil {
		return nil, false
	}
	return []netip.Addr{a}, true
}

// answer fills a reply for a question from what is known, and tells whether it could.
func (n *names) answer(vpc string, q dns.Question, m *dns.Msg) bool {
	name := dns.CanonicalName(q.Name)
	if strings.HasSuffix(name, ".in-addr.arpa.") {
		v := n.vpcs[vpc]
		if v == nil || v.reverse[name] == "" {
			return false
		}
		if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: v.reverse[name]})
		}
		return true
	}
	addrs, known := n.lookup(vpc, name)
	if !known {
		return false
	}
	return fill(m, q, addrs)
}

// turn makes each answer begin with another address than the one before, so that clients spread over a name's zones.
var turn atomic.Uint32

// fill adds the A records for a question; a question of another type has an empty answer.
func fill(m *dns.Msg, q dns.Question, addrs []netip.Addr) bool {
	if q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY {
		first := 0
		if len(addrs) > 1 {
			first = int(turn.Add(1)) % len(addrs)
		}
		for i := range addrs {
			a := addrs[(first+i)%len(addrs)]
			if a.Is4() {
				m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: a.AsSlice()})
			}
		}
	}
	return true
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: answerTTL}
}

// forwarder asks the host's resolver, with a bound on the questions under way.
type forwarder struct {
	server string
	slots  chan struct{}
}

func newForwarder(server string) *forwarder {
	if server == "" {
		if c, err := dns.ClientConfigFromFile(resolvConf); err == nil && len(c.Servers) > 0 {
			server = netipJoin(c.Servers[0], c.Port)
		}
	}
	return &forwarder{server: server, slots: make(chan struct{}, maxForwards)}
}

func netipJoin(host, port string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}

func (f *forwarder) exchange(r *dns.Msg, tcp bool) *dns.Msg {
	fail := new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	if f == nil || f.server == "" {
		return fail
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return fail
	}
	c := &dns.Client{Timeout: forwardTimeout}
	if tcp {
		c.Net = "tcp"
	}
	m, _, err := c.Exchange(r, f.server)
	if err != nil {
		return fail
	}
	m.Id = r.Id
	return m
}

// resolve answers one message: known names from n, others from the host's resolver where that is allowed.
func resolve(n *names, vpc string, f *forwarder, r *dns.Msg, tcp bool) *dns.Msg {
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
		return new(dns.Msg).SetRcode(r, dns.RcodeNotImplemented)
	}
	m := new(dns.Msg).SetReply(r)
	m.RecursionAvailable = true
	if n.answer(vpc, r.Question[0], m) {
		return m
	}
	// Names under our own domains never leave the cloud. Without egress nothing does, and a plain "no such name" lets the
	// client fail at once instead of trying its other servers.
	name := dns.CanonicalName(r.Question[0].Name)
	if !n.egress || strings.HasSuffix(name, ".internal.") || strings.HasSuffix(name, ".in-addr.arpa.") || strings.Contains(name, ".elb.") && strings.HasSuffix(name, ".amazonaws.com.") {
		m.Rcode = dns.RcodeNameError
		return m
	}
	return f.exchange(r, tcp)
}

func isTCP(w dns.ResponseWriter) bool { return strings.HasPrefix(w.LocalAddr().Network(), "tcp") }

// openDNS opens a VPC's resolver on its link-local address and on the VPC's base address plus two, UDP and TCP.
func (p *process) openDNS(s *vpcServers) error {
	if !s.want.DNSSupport {
		return nil
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := resolve(p.currentNames(), s.want.ID, p.forward, r, isTCP(w))
		if !isTCP(w) {
			size := dns.MinMsgSize
			if o := r.IsEdns0(); o != nil {
				size = max(size, int(o.UDPSize()))
			}
			m.Truncate(size)
		}
		w.WriteMsg(m)
	})
	base := s.want.CIDR.Masked().Addr().Next().Next()
	for _, addr := range []netip.Addr{fabric.DNSAddr, base} {
		at := netip.AddrPortFrom(addr, fabric.DNSPort+s.want.PortOffset).String()
		u, err := p.o.Net.ListenPacket(s.want.Namespace, "udp4", at)
		if err != nil {
			return err
		}
		us := &dns.Server{PacketConn: u, Handler: h}
		s.dns = append(s.dns, serveDNS(us))
		t, err := p.o.Net.Listen(s.want.Namespace, "tcp4", at)
		if err != nil {
			return err
		}
		s.dns = append(s.dns, serveDNS(&dns.Server{Listener: t, Handler: h}))
	}
	return nil
}

// dnsServer is a started server; Shutdown waits until it has ended.
type dnsServer struct {
	*dns.Server
	done chan struct{}
}

func serveDNS(s *dns.Server) *dnsServer {
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	d := &dnsServer{Server: s, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		s.ActivateAndServe()
	}()
	select {
	case <-started:
	case <-d.done:
	}
	return d
}

// Shutdown closes the server's socket and waits for its goroutine.
func (d *dnsServer) Shutdown() error {
	err := d.Server.Shutdown()
	<-d.done
	return err
}

// HostDNS is a handler for the host's own clients: names that Lookup knows (load balancers'), public names of instances,
// and nothing else. It never forwards: the host has its resolver.
type HostDNS struct {
	Lookup func(name string) ([]netip.Addr, bool) // name without the trailing dot, in lower case
}

// ServeDNS answers one question.
func (h HostDNS) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 {
		w.WriteMsg(m.SetRcode(r, dns.RcodeNotImplemented))
		return
	}
	q := r.Question[0]
	name := dns.CanonicalName(q.Name)
	addrs, ok := h.Lookup(strings.TrimSuffix(name, "."))
	if !ok {
		addrs, ok = publicName(name)
	}
	if !ok {
		w.WriteMsg(m.SetRcode(r, dns.RcodeRefused))
		return
	}
	fill(m, q, addrs)
	w.WriteMsg(m)
}

// ServeHostDNS serves h on an address (UDP and TCP) until the returned function is called.
func ServeHostDNS(addr string, h HostDNS) (stop func(), err error) {
	n := kernelNet{}
	u, err := n.ListenPacket("", "udp4", addr)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	t, err := n.Listen("", "tcp4", u.LocalAddr().String())
	if err != nil {
		u.Close()
		return nil, fmt.Errorf("dns: %w", err)
	}
	us, ts := serveDNS(&dns.Server{PacketConn: u, Handler: h}), serveDNS(&dns.Server{Listener: t, Handler: h})
	return func() { us.Shutdown(); ts.Shutdown() }, nil
}
