package fabric

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NLBFlows names the flows of one service to one target.
type NLBFlows struct {
	Service NLBKey
	Target  netip.AddrPort
}

// CutFlows ends flows in the VPC namespace at ns, as those to a target that has become unhealthy or whose deregistration
// delay is over, and returns how many there were. TCP's two ends are told at once: the node sends each of them a segment
// that it must answer, and resets what it answers. Whoever misses that, or whose answer a security group keeps from the
// node, hears of it when it sends the next time, if ever.
func CutFlows(ns string, cuts []NLBFlows) (int, error) {
	if len(cuts) == 0 {
		return 0, nil
	}
	want := map[NLBFlows]bool{}
	for _, c := range cuts {
		want[c] = true
	}
	return cutFlows(ns, func(f NLBFlows) bool { return want[f] })
}

// CutOthers ends the flows of a service to targets that are not listed.
func CutOthers(ns string, service NLBKey, targets []netip.AddrPort) (int, error) {
	keep := map[netip.AddrPort]bool{}
	for _, t := range targets {
		keep[t] = true
	}
	return cutFlows(ns, func(f NLBFlows) bool { return f.Service == service && !keep[f.Target] })
}

func cutFlows(ns string, ends func(NLBFlows) bool) (int, error) {
	ended := map[[2]netip.AddrPort]netlink.ConntrackFlow{} // TCP flows by their original tuple: a dump may begin anew
	n, err := deleteFlows(ns, matchFunc(func(c *netlink.ConntrackFlow) bool {
		f, ok := flowsOf(c)
		if !ok || !ends(f) {
			return false
		}
		if f.Service.Proto == "tcp" {
			ended[[2]netip.AddrPort{addrPort(c.Forward.SrcIP, c.Forward.SrcPort), addrPort(c.Forward.DstIP, c.Forward.DstPort)}] = *c
		}
		return true
	}))
	return n, errors.Join(err, probe(ns, ended))
}

// flowsOf tells which service and target a flow belongs to.
func flowsOf(c *netlink.ConntrackFlow) (NLBFlows, bool) {
	proto := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[c.Forward.Protocol]
	to, target := addrPort(c.Forward.DstIP, c.Forward.DstPort), addrPort(c.Reverse.SrcIP, c.Reverse.SrcPort)
	return NLBFlows{NLBKey{to.Addr(), to.Port(), proto}, target}, proto != "" && to != target
}

func addrPort(ip []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

// probe sends both ends of flows that conntrack has forgotten a SYN of no connection. TCP answers that with what it
// expects instead (RFC 5961, 4.2); as the answer belongs to no flow, the node resets it, and with the sequence number out
// of the answer the reset is accepted. It is a SYN with ACK, because the connection tracking of others lets that pass.
// Packets carry nlbMark, by which they pass untracked here.
func probe(ns string, flows map[[2]netip.AddrPort]netlink.ConntrackFlow) error {
	if len(flows) == 0 {
		return nil
	}
	return InNamespace(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("resets: %w", err)
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, nlbMark); err != nil {
			return fmt.Errorf("resets: %w", err)
		}
		for _, f := range flows {
			client, node := addrPort(f.Forward.SrcIP, f.Forward.SrcPort), addrPort(f.Forward.DstIP, f.Forward.DstPort)
			target, seen := addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort), addrPort(f.Reverse.DstIP, f.Reverse.DstPort)
			// An end that is gone, or a full queue, is as good as an answer: conntrack has forgotten the flow.
			unix.Sendto(fd, segment(node, client), 0, &unix.SockaddrInet4{Addr: client.Addr().As4()})
			unix.Sendto(fd, segment(seen, target), 0, &unix.SockaddrInet4{Addr: target.Addr().As4()})
		}
		return nil
	})
}

// segment is an IPv4 packet with an empty TCP segment, SYN and ACK, and any sequence number.
func segment(from, to netip.AddrPort) []byte {
	const head, length = 20, 40
	b := make([]byte, length)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP // the kernel fills in length, id and checksum
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	t := b[head:]
	binary.BigEndian.PutUint16(t, from.Port())
	binary.BigEndian.PutUint16(t[2:], to.Port())
	binary.BigEndian.PutUint32(t[4:], rand.Uint32())
	binary.BigEndian.PutUint32(t[8:], rand.Uint32())
	t[12], t[13] = 5<<4, tcpSyn|tcpAck
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(t))
	for _, part := range [][]byte{b[12:20], t} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(t[16:], ^uint16(sum))
	return b
}

// NLBCounts are what the kernel has counted for one service since it was first listed.
type NLBCounts struct {
	Flows          uint64 // new flows that came to the service, also while it had no target
	Packets, Bytes uint64 // both ways
	ClientResets   uint64
	TargetResets   uint64
	NodeResets     uint64 // sent by the node itself
}

// ReadNLB returns the counts of one zone's services in the VPC namespace at ns, as far as this process has written them.
func ReadNLB(ns, zone string) (map[NLBKey]NLBCounts, error) {
	nlbWritten.Lock()
	state := nlbWritten.m[nlbPlace{ns, zone}]
	nlbWritten.Unlock()
	byMark := map[string]NLBKey{}
	for k, m := range state.marks {
		byMark[string(markKey(m))] = k
	}
	out := map[NLBKey]NLBCounts{}
	if len(byMark) == 0 {
		return out, nil
	}
	err := readSets(ns, nlbTable(zone), nlbSets, func(set string, e nftables.SetElement) {
		k, ok := byMark[string(e.Key)]
		if !nlbMarks[set] {
			k, ok = nlbKeyOf(e.Key)
		}
		if !ok {
			return
		}
		n := out[k]
		switch set {
		case nlbServices:
			n.Flows = e.Counter.Packets
		case nlbTraffic:
			n.Packets, n.Bytes = e.Counter.Packets, e.Counter.Bytes
		case nlbRstClient:
			n.ClientResets = e.Counter.Packets
		case nlbRstTarget:
			n.TargetResets = e.Counter.Packets
		case nlbRstNode:
			n.NodeResets = e.Counter.Packets
		}
		out[k] = n
	})
	if err != nil {
		return nil, fmt.Errorf("counters of network load balancers: %w", err)
	}
	return out, nil
}

// Blocked are the packets that its security groups kept from a node, and those of the node that they kept from others.
type Blocked struct{ In, Out Packets }

// Packets are numbers of packets by protocol.
type Packets struct{ TCP, UDP, ICMP uint64 }

// ReadBlocked returns what the nodes with security groups in the VPC namespace at ns did not get or could not send. The counters
// begin anew with the VPC's table.
func ReadBlocked(ns string) (map[netip.Addr]Blocked, error) {
	out := map[netip.Addr]Blocked{}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: strings.TrimPrefix(vpcTable, "inet ")}
	err := readSets(ns, table, []string{nodeBlocked, nodeBlockedOut}, func(set string, e nftables.SetElement) {
		if len(e.Key) != 8 {
			return
		}
		a := netip.AddrFrom4([4]byte(e.Key[:4]))
		b := out[a]
		n := &b.In
		if set == nodeBlockedOut {
			n = &b.Out
		}
		switch e.Key[4] {
		case unix.IPPROTO_TCP:
			n.TCP = e.Counter.Packets
		case unix.IPPROTO_UDP:
			n.UDP = e.Counter.Packets
		case unix.IPPROTO_ICMP:
			n.ICMP = e.Counter.Packets
		}
		out[a] = b
	})
	if err != nil {
		return nil, fmt.Errorf("counters of security groups: %w", err)
	}
	return out, nil
}

// readSets calls fn for each element with a counter of a table's sets.
func readSets(ns string, t *nftables.Table, sets []string, fn func(set string, e nftables.SetElement)) error {
	return InNamespace(ns, func() error {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		defer c.CloseLasting()
		for _, name := range sets {
			elems, err := c.GetSetElements(&nftables.Set{Table: t, Name: name})
			if err != nil {
				return err
			}
			for _, e := range elems {
				if e.Counter != nil {
					fn(name, e)
				}
			}
		}
		return nil
	})
}

// Conntrack's attributes and TCP states that CountFlows reads.
const (
	ctaStatus, ctaStatusMask    = 3, 26
	ctDNAT                      = 1 << 5
	tcpSynSent, tcpEstablished  = 1, 3
	ctaTupleOrig, ctaProtoInfo  = 1, 4
	ctaTupleIP, ctaTupleProto   = 1, 2
	ctaIPDst                    = 2
	ctaProtoNum, ctaProtoDst    = 1, 3
	ctaInfoTCP, ctaInfoTCPState = 1, 1
)

// CountFlows returns the number of flows of each service that are open now (TCP: until either side closes). It reads the
// whole table of translated connections; call it rarely.
func CountFlows(ns string) (map[NLBKey]int, error) {
	return dump(func() (map[NLBKey]int, error) {
		out := map[NLBKey]int{}
		err := InNamespace(ns, func() error {
			req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
			req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
			only := binary.BigEndian.AppendUint32(nil, ctDNAT)
			req.AddData(nl.NewRtAttr(ctaStatus, only)) // a kernel that doesn't know this filter lists all
			req.AddData(nl.NewRtAttr(ctaStatusMask, only))
			return req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
				if k, ok := openFlow(msg); ok {
					out[k]++
				}
				return true
			})
		})
		return maps.Clone(out), err
	})
}

// openFlow reads one connection out of a dump.
func openFlow(msg []byte) (k NLBKey, open bool) {
	if len(msg) < 4 {
		return k, false
	}
	state := -1
	eachAttr(msg[4:], func(typ uint16, b []byte) {
		switch typ {
		case ctaTupleOrig:
			eachAttr(b, func(typ uint16, b []byte) {
				eachAttr(b, func(field uint16, b []byte) {
					switch {
					case typ == ctaTupleIP && field == ctaIPDst && len(b) == 4:
						k.VIP = netip.AddrFrom4([4]byte(b))
					case typ == ctaTupleProto && field == ctaProtoNum && len(b) == 1:
						k.Proto = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[b[0]]
					case typ == ctaTupleProto && field == ctaProtoDst && len(b) == 2:
						k.Port = binary.BigEndian.Uint16(b)
					}
				})
			})
		case ctaProtoInfo:
			eachAttr(b, func(typ uint16, b []byte) {
				if typ == ctaInfoTCP {
					eachAttr(b, func(typ uint16, b []byte) {
						if typ == ctaInfoTCPState && len(b) == 1 {
							state = int(b[0])
						}
					})
				}
			})
		}
	})
	return k, k.VIP.IsValid() && (k.Proto == "udp" || k.Proto == "tcp" && state >= tcpSynSent && state <= tcpEstablished)
}

// eachAttr calls fn for each netlink attribute in b.
func eachAttr(b []byte, fn func(typ uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		fn(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}
