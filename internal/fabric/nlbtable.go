package fabric

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The table of one zone's network load balancers in a VPC's namespace, written over netlink.
//
//	filter prerouting -152 stray     a target's segment of a flow that is forgotten is answered with a reset
//	filter prerouting -148 offered   counts new flows before the node's security groups
//	nat    prerouting -110 on_dnat   @services leads a new flow to its service's chain, which gives it its idle time and
//	                                 chooses the target; a TCP flow begins with a SYN, the node resets what does not
//	filter prerouting  -90 count     packets and bytes of flows, and resets, both ways
//	raw    output     -300 on_raw    the node's own probes (see CutFlows) are nobody's flow
//	filter output      -90 count_out what targets in this namespace answer, and resets of the node
//	nat    postrouting  90 on_snat   flows of @hidden get the node's address as their source
//
// A set is keyed by a service and carries a counter for each (sets may not share their counters). Idle times are named objects: flows point to them, and one that
// is deleted takes its idle time from them; so they stay until the table goes.
const (
	nlbServices  = "services"   // service → its chain; counts new flows
	nlbOffered   = "offered"    // new flows before security groups
	nlbTraffic   = "traffic"    // packets and bytes
	nlbRstClient = "rst_client" // resets by where they come from
	nlbRstTarget = "rst_target"
	nlbRstNode   = "rst_node"
	nlbHidden    = "hidden"
	nlbTargets   = "targets" // address and port of TCP targets
	nlbLeft      = "left"    // those that were targets until a moment ago
)

// nlbSets are those keyed by a service and counted.
var nlbSets = []string{nlbServices, nlbOffered, nlbTraffic, nlbRstClient, nlbRstTarget, nlbRstNode}

var (
	nlbKeyType    = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	nlbTargetType = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
)

// nlbLeftFor is how long what a former target still sends to its clients is answered with resets.
const nlbLeftFor = time.Minute

// nlbMark marks the node's probes. Nothing else in a VPC's namespace marks packets.
const nlbMark = 0x736b7279

// nlbWritten is what this process wrote, by namespace and zone, so that a change costs its difference only. Losing it costs
// one full, still atomic, rewrite.
var nlbWritten = struct {
	sync.Mutex // held over a transaction: they are short, and the library's timeout objects share a map
	m          map[nlbPlace]nlbState
}{m: map[nlbPlace]nlbState{}}

type nlbPlace struct{ ns, zone string }

type nlbState struct {
	inode    uint64
	services map[NLBKey]NLBService
	idles    map[string]bool // names of objects
}

func nlbTable(zone string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nlb-" + zone}
}

func applyNLB(ns, zone string, services []NLBService) error {
	inode := nsInode(ns)
	if inode == 0 {
		return fmt.Errorf("no network namespace at %s", ns)
	}
	want := nlbState{inode: inode, services: map[NLBKey]NLBService{}, idles: map[string]bool{}}
	for _, s := range services {
		s.Targets = slices.Clone(s.Targets)
		want.services[s.Key()] = s
	}
	nlbWritten.Lock()
	defer nlbWritten.Unlock()
	place := nlbPlace{ns, zone}
	have, known := nlbWritten.m[place]
	known = known && have.inode == inode
	if known && maps.EqualFunc(have.services, want.services, NLBService.same) {
		return nil
	}
	delete(nlbWritten.m, place)
	if len(services) == 0 {
		return dropNLB(ns, zone)
	}
	err := InNamespace(ns, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		w := nlbWriter{c: c, t: nlbTable(zone)}
		if !known {
			have = nlbState{idles: map[string]bool{}}
			if err := w.begin(); err != nil {
				return err
			}
		}
		maps.Copy(want.idles, have.idles)
		w.change(have.services, want)
		if w.err != nil {
			return w.err
		}
		return c.Flush()
	})
	if err != nil {
		return err
	}
	nlbWritten.m[place] = want
	return nil
}

// dropNLB removes a zone's table. Flows go on, with the namespace's own idle times.
func dropNLB(ns, zone string) error {
	return InNamespace(ns, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(nlbTable(zone)) // so that there is one to delete
		c.DelTable(nlbTable(zone))
		return c.Flush()
	})
}

// same tells whether two services are written alike.
func (s NLBService) same(o NLBService) bool {
	a, b := s, o
	a.Targets, b.Targets = nil, nil
	return a.VIP == b.VIP && a.Port == b.Port && a.Proto == b.Proto && a.PreserveClientIP == b.PreserveClientIP &&
		a.StickySourceIP == b.StickySourceIP && a.idle() == b.idle() && slices.Equal(s.Targets, o.Targets)
}

// nlbWriter collects one transaction.
type nlbWriter struct {
	c   *nftables.Conn
	t   *nftables.Table
	err error
}

func (w *nlbWriter) check(err error) {
	if w.err == nil {
		w.err = err
	}
}

// begin empties the table, but for the idle times that flows point to, and makes its sets and base chains anew.
func (w *nlbWriter) begin() error {
	chains, err := w.c.ListChainsOfTableFamily(w.t.Family)
	if err != nil {
		return err
	}
	w.c.AddTable(w.t)
	w.c.FlushTable(w.t)
	if chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != w.t.Name }); len(chains) > 0 {
		for _, name := range append(slices.Clone(nlbSets), nlbHidden, nlbTargets, nlbLeft) {
			w.c.DelSet(&nftables.Set{Table: w.t, Name: name})
		}
	}
	for _, c := range chains {
		w.c.DelChain(c)
	}
	for _, name := range nlbSets {
		w.check(w.c.AddSet(w.serviceSet(name), nil))
	}
	w.check(w.c.AddSet(&nftables.Set{Table: w.t, Name: nlbHidden, KeyType: nlbKeyType}, nil))
	w.check(w.c.AddSet(&nftables.Set{Table: w.t, Name: nlbTargets, KeyType: nlbTargetType}, nil))
	w.check(w.c.AddSet(&nftables.Set{Table: w.t, Name: nlbLeft, KeyType: nlbTargetType, HasTimeout: true}, nil))
	w.base()
	return nil
}

// set refers to one of the table's sets; within a transaction the name does.
func (w *nlbWriter) set(name string) *nftables.Set { return &nftables.Set{Table: w.t, Name: name} }

func (w *nlbWriter) serviceSet(name string) *nftables.Set {
	s := &nftables.Set{Table: w.t, Name: name, KeyType: nlbKeyType, Counter: true}
	if name == nlbServices {
		s.IsMap, s.DataType = true, nftables.TypeVerdict
	}
	return s
}

func (w *nlbWriter) chain(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio int32) *nftables.Chain {
	return w.c.AddChain(&nftables.Chain{Name: name, Table: w.t, Type: typ, Hooknum: hook, Priority: nftables.ChainPriorityRef(nftables.ChainPriority(prio))})
}

func (w *nlbWriter) rule(c *nftables.Chain, parts ...[]expr.Any) {
	w.c.AddRule(&nftables.Rule{Table: w.t, Chain: c, Exprs: slices.Concat(parts...)})
}

// base writes what is the same whatever the services are.
func (w *nlbWriter) base() {
	resets := w.c.AddChain(&nftables.Chain{Name: "resets", Table: w.t})
	stray := w.chain("stray", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -152)
	offered := w.chain("offered", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -148)
	dnat := w.chain("on_dnat", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -110)
	count := w.chain("count", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -90)
	raw := w.chain("on_raw", nftables.ChainTypeFilter, nftables.ChainHookOutput, -300)
	out := w.chain("count_out", nftables.ChainTypeFilter, nftables.ChainHookOutput, -90)
	snat := w.chain("on_snat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 90)

	// Only the first packet of a connection is not confirmed.
	w.rule(stray, bits(ctLoad(expr.CtKeySTATUS), 4, ctConfirmed, expr.CmpOpNeq), verdict(expr.VerdictAccept, ""))
	for _, set := range []string{nlbTargets, nlbLeft} {
		w.rule(stray, notSyn(), source(), lookup(set), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	}
	w.rule(offered, bits(ctLoad(expr.CtKeySTATUS), 4, ctConfirmed, expr.CmpOpNeq), verdict(expr.VerdictAccept, ""))
	w.rule(offered, notSyn(), verdict(expr.VerdictAccept, ""))
	w.rule(offered, packetKey(16, 2), lookup(nlbOffered))

	w.rule(dnat, notSyn(), verdict(expr.VerdictAccept, ""))
	w.rule(dnat, packetKey(16, 2), []expr.Any{&expr.Lookup{SourceRegister: 8, SetName: nlbServices, DestRegister: 0, IsDestRegSet: true}})

	w.rule(out, isRst(), packetKey(12, 0), lookup(nlbRstNode))
	for _, c := range []*nftables.Chain{count, out} {
		w.rule(c, bits(ctLoad(expr.CtKeySTATUS), 4, ctDNAT, expr.CmpOpEq), verdict(expr.VerdictAccept, ""))
		w.rule(c, flowKey(), lookup(nlbTraffic))
		w.rule(c, isRst(), verdict(expr.VerdictGoto, "resets"))
	}
	w.rule(resets, direction(0), flowKey(), lookup(nlbRstClient))
	w.rule(resets, direction(1), flowKey(), lookup(nlbRstTarget))

	w.rule(raw, []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 8},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 8, Data: binary.NativeEndian.AppendUint32(nil, nlbMark)}, &expr.Notrack{}})

	w.rule(snat, flowKey(), lookup(nlbHidden), []expr.Any{
		&expr.Ct{Key: expr.CtKeyDST, Direction: 0, Register: 8},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8}})
}

// change turns one list of services into another.
func (w *nlbWriter) change(have map[NLBKey]NLBService, want nlbState) {
	var gone []NLBKey
	for _, k := range sortedKeys(have) {
		if _, keeps := want.services[k]; !keeps {
			gone = append(gone, k)
		}
	}
	for _, k := range gone { // nothing may lead to a chain that goes
		for _, name := range nlbSets {
			w.del(name, have[k])
		}
		c := &nftables.Chain{Table: w.t, Name: k.chain()}
		w.c.FlushChain(c)
		w.c.DelChain(c)
	}
	for _, k := range sortedKeys(want.services) {
		s := want.services[k]
		old, had := have[k]
		c := &nftables.Chain{Table: w.t, Name: k.chain()}
		switch {
		case !had:
			w.c.AddChain(c)
		case old.same(s):
			continue
		default:
			w.c.FlushChain(c)
		}
		w.service(c, s, want.idles)
		if !had {
			for _, name := range nlbSets {
				w.add(name, s)
			}
		}
	}
	w.difference(nlbHidden, hidden(have), hidden(want.services))
	was, is := tcpTargets(have), tcpTargets(want.services)
	w.difference(nlbTargets, was, is)
	left := &nftables.Set{Table: w.t, Name: nlbLeft, HasTimeout: true}
	for part := range slices.Chunk(nlbElements(was, is, nlbLeftFor), maxSlots) {
		w.check(w.c.SetAddElements(left, part))
	}
}

// service fills the chain of one service.
func (w *nlbWriter) service(c *nftables.Chain, s NLBService, idles map[string]bool) {
	slots := s.slots()
	if len(slots) == 0 {
		return // the node itself answers
	}
	idle := fmt.Sprintf("%s-%d", s.Proto, s.idle())
	if !idles[idle] {
		idles[idle] = true
		w.c.AddObject(&nftables.NamedObj{Table: w.t, Name: idle, Type: nftables.ObjTypeCtTimeout, Obj: s.policy()})
	}
	w.rule(c, []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: idle}})
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegProtoMin: 9}
	if len(slots) == 1 {
		w.rule(c, []expr.Any{&expr.Immediate{Register: 8, Data: slots[0].IP.AsSlice()},
			&expr.Immediate{Register: 9, Data: binary.BigEndian.AppendUint16(nil, slots[0].Port)}, nat})
		return
	}
	m := &nftables.Set{Table: w.t, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger, DataType: nlbTargetType}
	var elems []nftables.SetElement
	for i, t := range slots {
		elems = append(elems, nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, uint32(i)), Val: targetKey(t)})
	}
	w.check(w.c.AddSet(m, elems))
	hashed := []expr.Any{network(12, 4, 8), transport(0, 2, 9), network(16, 4, 10), transport(2, 2, 11)}
	length := uint32(16)
	if s.StickySourceIP {
		hashed, length = hashed[:1], 4
	}
	w.rule(c, hashed, []expr.Any{
		&expr.Hash{SourceRegister: 8, DestRegister: 8, Length: length, Modulus: uint32(len(slots)), Seed: s.seed(), Type: expr.HashTypeJenkins},
		&expr.Lookup{SourceRegister: 8, DestRegister: 8, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}, nat})
}

// policy is what conntrack does with the service's flows over time. Each state is named: what is left out would be whatever
// the library's map held last.
func (s NLBService) policy() *expr.CtTimeout {
	if s.Proto == "udp" {
		return &expr.CtTimeout{L3Proto: unix.NFPROTO_IPV4, L4Proto: unix.IPPROTO_UDP,
			Policy: expr.CtStatePolicyTimeout{expr.CtStateUDPUNREPLIED: s.idle(), expr.CtStateUDPREPLIED: s.idle()}}
	}
	answer, closing, half := uint32(nlbAnswer.Seconds()), uint32(nlbClosing.Seconds()), uint32(nlbHalfClose.Seconds())
	return &expr.CtTimeout{L3Proto: unix.NFPROTO_IPV4, L4Proto: unix.IPPROTO_TCP, Policy: expr.CtStatePolicyTimeout{
		expr.CtStateTCPSYNSENT: answer, expr.CtStateTCPSYNSENT2: answer, expr.CtStateTCPSYNRECV: answer, expr.CtStateTCPESTABLISHED: s.idle(),
		expr.CtStateTCPFINWAIT: half, expr.CtStateTCPCLOSEWAIT: half, expr.CtStateTCPLASTACK: answer, expr.CtStateTCPTIMEWAIT: closing,
		expr.CtStateTCPCLOSE: closing, expr.CtStateTCPRETRANS: s.idle(), expr.CtStateTCPUNACK: s.idle()}}
}

func (w *nlbWriter) add(set string, s NLBService) {
	e := nftables.SetElement{Key: s.Key().bytes()}
	if set == nlbServices {
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: s.Key().chain()}
	}
	w.check(w.c.SetAddElements(w.set(set), []nftables.SetElement{e}))
}

func (w *nlbWriter) del(set string, s NLBService) {
	w.check(w.c.SetDeleteElements(w.set(set), []nftables.SetElement{{Key: s.Key().bytes()}}))
}

// difference brings a set without counters from one content to another.
func (w *nlbWriter) difference(set string, have, want map[string]bool) {
	for part := range slices.Chunk(nlbElements(have, want, 0), maxSlots) {
		w.check(w.c.SetDeleteElements(w.set(set), part))
	}
	for part := range slices.Chunk(nlbElements(want, have, 0), maxSlots) {
		w.check(w.c.SetAddElements(w.set(set), part))
	}
}

// nlbElements are the keys of in that are not in without.
func nlbElements(in, without map[string]bool, timeout time.Duration) (out []nftables.SetElement) {
	for _, k := range slices.Sorted(maps.Keys(in)) {
		if !without[k] {
			out = append(out, nftables.SetElement{Key: []byte(k), Timeout: timeout})
		}
	}
	return out
}

func hidden(services map[NLBKey]NLBService) map[string]bool {
	m := map[string]bool{}
	for k, s := range services {
		if !s.PreserveClientIP {
			m[string(k.bytes())] = true
		}
	}
	return m
}

func tcpTargets(services map[NLBKey]NLBService) map[string]bool {
	m := map[string]bool{}
	for k, s := range services {
		if k.Proto == "tcp" {
			for _, t := range s.Targets {
				m[string(targetKey(t))] = true
			}
		}
	}
	return m
}

func sortedKeys(m map[NLBKey]NLBService) []NLBKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b NLBKey) int { return slices.Compare(a.bytes(), b.bytes()) })
}

// number is the protocol's.
func (k NLBKey) number() uint8 {
	if k.Proto == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func (k NLBKey) chain() string { return fmt.Sprintf("%s-%v-%d", k.Proto, k.VIP, k.Port) }

// bytes is the key in the table's sets: each part in a register of its own.
func (k NLBKey) bytes() []byte {
	a := k.VIP.As4()
	return []byte{a[0], a[1], a[2], a[3], k.number(), 0, 0, 0, byte(k.Port >> 8), byte(k.Port), 0, 0}
}

func nlbKeyOf(b []byte) (NLBKey, bool) {
	if len(b) != 12 {
		return NLBKey{}, false
	}
	proto := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[b[4]]
	return NLBKey{netip.AddrFrom4([4]byte(b[:4])), binary.BigEndian.Uint16(b[8:]), proto}, proto != ""
}

func targetKey(t NLBTarget) []byte {
	a := t.IP.As4()
	return []byte{a[0], a[1], a[2], a[3], byte(t.Port >> 8), byte(t.Port), 0, 0}
}
