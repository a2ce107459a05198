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
//	nat    prerouting -110 on_dnat   @services leads a new flow to its service's chain, which marks it, gives it its idle
//	                                 time and chooses the target. A TCP flow begins with a SYN: what does not is reset, by
//	                                 a rule if a target sent it (chain stray), else by the node's own TCP
//	filter prerouting  -90 count     packets and bytes of flows, and resets, both ways
//	raw    output     -300 on_raw    the node's own probes (see CutFlows) are nobody's flow
//	filter output      -90 count_out what targets in this namespace answer, and resets of the node
//	nat    postrouting  90 on_snat   flows of @hidden get the node's address as their source, those of DialAs their client's
//
// Nat chains see the first packet of a connection only. What every packet passes is count: one look at the connection's
// mark, and for TCP one at the flags. Sets carry a counter for each element.
//
// Idle times are named objects: flows point to them, and one that is deleted takes its idle time from them; so they stay
// until the table goes.
const (
	nlbServices  = "services"   // service → its chain; counts new flows
	nlbTraffic   = "traffic"    // mark → what else is counted; counts packets and bytes
	nlbRstClient = "rst_client" // marks; resets by where they come from
	nlbRstTarget = "rst_target"
	nlbRstNode   = "rst_node" // services
	nlbHidden    = "hidden"   // marks
	nlbTargets   = "targets"  // address and port of TCP targets
	nlbLeft      = "left"     // those that were targets until a moment ago
)

// nlbSets are those with an element a service; nlbMarks those of them that are keyed by its mark.
var (
	nlbSets  = []string{nlbServices, nlbTraffic, nlbRstClient, nlbRstTarget, nlbRstNode}
	nlbMarks = map[string]bool{nlbTraffic: true, nlbRstClient: true, nlbRstTarget: true, nlbHidden: true}
)

// nlbSize is how many services a zone's nodes in one VPC may have. With a size the kernel takes a faster kind of set.
const nlbSize = 4096

var (
	nlbKeyType    = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	nlbTargetType = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
)

// nlbLeftFor is how long what a former target still sends to its clients is answered with resets.
const nlbLeftFor = time.Minute

// nlbMark marks the node's probes. The only other mark of packets in a VPC's namespace is a client's address (see DialAs),
// and as an address this one begins with 0.
const nlbMark = 0x796b7300

// nlbWritten is what this process wrote, by namespace and zone, so that a change costs its difference only. Losing it costs
// one full, still atomic, rewrite.
var nlbWritten = struct {
	sync.Mutex // held over a transaction: they are short, and the library's timeout objects share a map
	m          map[nlbPlace]nlbState
}{m: map[nlbPlace]nlbState{}}

type nlbPlace struct{ ns, zone string }

type nlbState struct {
	inode    uint64
	table    bool // there is one
	services map[NLBKey]NLBService
	idles    map[string]bool   // names of objects
	marks    map[NLBKey]uint32 // of connections
}

// mark chooses marks for the services. They follow from the service's name, so that flows keep theirs over a rewrite by
// another process, unless two names meet; then the later one moves on.
func marks(services map[NLBKey]NLBService, have map[NLBKey]uint32) map[NLBKey]uint32 {
	out, used := map[NLBKey]uint32{}, map[uint32]bool{}
	for k, m := range have {
		if _, keeps := services[k]; keeps {
			out[k], used[m] = m, true
		}
	}
	for _, k := range sortedKeys(services) {
		if out[k] != 0 {
			continue
		}
		m := services[k].seed()
		for used[m] || m == 0 {
			m++
		}
		out[k], used[m] = m, true
	}
	return out
}

func nlbTable(zone string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nlb-" + zone}
}

func applyNLB(ns, zone string, services []NLBService) error {
	inode := nsInode(ns)
	if inode == 0 {
		return fmt.Errorf("no network namespace at %s", ns)
	}
	want := nlbState{inode: inode, table: len(services) > 0, services: map[NLBKey]NLBService{}, idles: map[string]bool{}}
	for _, s := range services {
		if s.Process { // needs the table, and nothing in it
			continue
		}
		s.Targets = slices.Clone(s.Targets)
		want.services[s.Key()] = s
	}
	nlbWritten.Lock()
	defer nlbWritten.Unlock()
	place := nlbPlace{ns, zone}
	have, known := nlbWritten.m[place]
	known = known && have.inode == inode
	if known && have.table == want.table && maps.EqualFunc(have.services, want.services, NLBService.same) {
		return nil
	}
	delete(nlbWritten.m, place)
	if !known {
		maps.DeleteFunc(nlbWritten.m, func(p nlbPlace, _ nlbState) bool { return nsInode(p.ns) == 0 })
	}
	if len(services) == 0 {
		if err := dropNLB(ns, zone); err != nil {
			return err
		}
		nlbWritten.m[place] = want
		return nil
	}
	err := InNamespace(ns, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		w := nlbWriter{c: c, t: nlbTable(zone)}
		if !known || !have.table {
			have = nlbState{idles: map[string]bool{}}
			if err := w.begin(); err != nil {
				return err
			}
		}
		maps.Copy(want.idles, have.idles)
		want.marks = marks(want.services, have.marks)
		w.change(have, want)
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
	var sets []*nftables.Set
	if slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == w.t.Name }) {
		if sets, err = w.c.GetSets(w.t); err != nil {
			return err
		}
	}
	w.c.AddTable(w.t)
	w.c.FlushTable(w.t)
	for _, s := range sets {
		if !s.Anonymous {
			w.c.DelSet(&nftables.Set{Table: w.t, Name: s.Name})
		}
	}
	for _, c := range chains {
		if c.Table.Name == w.t.Name {
			w.c.DelChain(c)
		}
	}
	for _, name := range nlbSets {
		w.check(w.c.AddSet(w.serviceSet(name), nil))
	}
	w.check(w.c.AddSet(&nftables.Set{Table: w.t, Name: nlbHidden, KeyType: nftables.TypeMark, Size: nlbSize}, nil))
	w.check(w.c.AddSet(&nftables.Set{Table: w.t, Name: nlbTargets, KeyType: nlbTargetType}, nil))
	w.check(w.c.AddSet(&nftables.Set{Table: w.t, Name: nlbLeft, KeyType: nlbTargetType, HasTimeout: true}, nil))
	w.base()
	return nil
}

// set refers to one of the table's sets by its name, which is enough within a transaction too.
func (w *nlbWriter) set(name string) *nftables.Set { return &nftables.Set{Table: w.t, Name: name} }

func (w *nlbWriter) serviceSet(name string) *nftables.Set {
	s := &nftables.Set{Table: w.t, Name: name, KeyType: nlbKeyType, Counter: true, Size: nlbSize}
	if nlbMarks[name] {
		s.KeyType = nftables.TypeMark
	}
	if name == nlbServices || name == nlbTraffic {
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
	stray := w.c.AddChain(&nftables.Chain{Name: "stray", Table: w.t})
	flags := w.c.AddChain(&nftables.Chain{Name: "flags", Table: w.t})
	dnat := w.chain("on_dnat", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -110)
	count := w.chain("count", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -90)
	raw := w.chain("on_raw", nftables.ChainTypeFilter, nftables.ChainHookOutput, -300)
	out := w.chain("count_out", nftables.ChainTypeFilter, nftables.ChainHookOutput, -90)
	snat := w.chain("on_snat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 90)

	w.rule(dnat, notSyn(), verdict(expr.VerdictGoto, "stray"))
	w.rule(dnat, packetKey(16, 2), verdictMap(nlbServices))
	for _, set := range []string{nlbTargets, nlbLeft} {
		w.rule(stray, source(), lookup(set), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	}

	w.rule(count, ctMark(), verdictMap(nlbTraffic))
	w.rule(out, ctMark(), verdictMap(nlbTraffic))
	w.rule(out, isTCP(), isRst(), packetKey(12, 0), lookup(nlbRstNode))
	w.rule(flags, isRst(), direction(0), ctMark(), lookup(nlbRstClient))
	w.rule(flags, isRst(), direction(1), ctMark(), lookup(nlbRstTarget))

	w.rule(raw, []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 8},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 8, Data: binary.NativeEndian.AppendUint32(nil, nlbMark)}, &expr.Notrack{}})

	w.rule(snat, []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 8}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 8, Data: markKey(0)},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8}})
	w.rule(snat, ctMark(), lookup(nlbHidden), []expr.Any{
		&expr.Ct{Key: expr.CtKeyDST, Direction: 0, Register: 8},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8}})
}

// change turns one list of services into another.
func (w *nlbWriter) change(have, want nlbState) {
	for _, k := range sortedKeys(have.services) { // nothing may lead to a chain that goes
		if _, keeps := want.services[k]; keeps {
			continue
		}
		for _, name := range nlbSets {
			w.check(w.c.SetDeleteElements(w.set(name), []nftables.SetElement{have.element(name, k)}))
		}
		c := &nftables.Chain{Table: w.t, Name: k.chain()}
		w.c.FlushChain(c)
		w.c.DelChain(c)
	}
	for _, k := range sortedKeys(want.services) {
		s := want.services[k]
		old, had := have.services[k]
		c := &nftables.Chain{Table: w.t, Name: k.chain()}
		switch {
		case !had:
			w.c.AddChain(c)
		case old.same(s):
			continue
		default:
			w.c.FlushChain(c)
		}
		w.service(c, s, want.marks[k], want.idles)
		if !had {
			for _, name := range nlbSets {
				w.check(w.c.SetAddElements(w.set(name), []nftables.SetElement{want.element(name, k)}))
			}
		}
	}
	w.difference(nlbHidden, have.hidden(), want.hidden())
	was, is := tcpTargets(have.services), tcpTargets(want.services)
	w.difference(nlbTargets, was, is)
	left := &nftables.Set{Table: w.t, Name: nlbLeft, HasTimeout: true}
	for part := range slices.Chunk(nlbElements(was, is, nlbLeftFor), maxSlots) {
		w.check(w.c.SetAddElements(left, part))
	}
}

// element is a service's element of a set.
func (s nlbState) element(set string, k NLBKey) nftables.SetElement {
	e := nftables.SetElement{Key: k.bytes()}
	if nlbMarks[set] {
		e.Key = markKey(s.marks[k])
	}
	switch {
	case set == nlbServices:
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: k.chain()}
	case set == nlbTraffic && k.Proto == "tcp":
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: "flags"}
	case set == nlbTraffic:
		e.VerdictData = &expr.Verdict{Kind: expr.VerdictAccept}
	}
	return e
}

func markKey(m uint32) []byte { return binary.NativeEndian.AppendUint32(nil, m) }

// service fills the chain of one service.
func (w *nlbWriter) service(c *nftables.Chain, s NLBService, mark uint32, idles map[string]bool) {
	slots := s.slots()
	if len(slots) == 0 {
		return // the node itself answers
	}
	idle := fmt.Sprintf("%s-%d", s.Proto, s.idle())
	if !idles[idle] {
		idles[idle] = true
		w.c.AddObject(&nftables.NamedObj{Table: w.t, Name: idle, Type: nftables.ObjTypeCtTimeout, Obj: s.policy()})
	}
	w.rule(c, []expr.Any{&expr.Immediate{Register: 8, Data: markKey(mark)}, &expr.Ct{Key: expr.CtKeyMARK, Register: 8, SourceRegister: true},
		&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: idle}})
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

func (s nlbState) hidden() map[string]bool {
	m := map[string]bool{}
	for k, service := range s.services {
		if !service.PreserveClientIP {
			m[string(markKey(s.marks[k]))] = true
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
