package tunnel

import (
	"strings"
	"sync/atomic"
	"time"

	"skerry/internal/tlsfront"
)

// Stats are a node's counters since the last call of Tunnel.Stats, under CloudWatch's names. Counters that are zero are absent.
type Stats struct {
	Counters map[string]float64
	Gauges   map[string]float64 // ActiveFlowCount and its parts
}

type counter int

const (
	cNewTCP counter = iota
	cNewTLS
	cBytesTCP
	cBytesTLS
	cRejected
	cRejectedTCP
	cClientReset
	cTargetReset
	cOwnReset
	cClientTLSError
	cTargetTLSError
	cUnhealthyRouting
	cPortError
	numCounters
)

// counterNames are the metrics that a counter adds to.
var counterNames = [numCounters][]string{
	cNewTCP: {"NewFlowCount", "NewFlowCount_TCP"}, cNewTLS: {"NewFlowCount", "NewFlowCount_TLS"},
	cBytesTCP: {"ProcessedBytes", "ProcessedBytes_TCP"}, cBytesTLS: {"ProcessedBytes", "ProcessedBytes_TLS"},
	cRejected: {"RejectedFlowCount"}, cRejectedTCP: {"RejectedFlowCount", "RejectedFlowCount_TCP"},
	cClientReset: {"TCP_Client_Reset_Count"}, cTargetReset: {"TCP_Target_Reset_Count"}, cOwnReset: {"TCP_ELB_Reset_Count"},
	cClientTLSError: {"ClientTLSNegotiationErrorCount"}, cTargetTLSError: {"TargetTLSNegotiationErrorCount"},
	cUnhealthyRouting: {"UnhealthyRoutingFlowCount"}, cPortError: {"PortAllocationErrorCount"},
}

type counters [numCounters]atomic.Int64

func (c *counters) drain() map[string]float64 {
	m := map[string]float64{}
	for i := range c {
		if n := c[i].Swap(0); n != 0 {
			for _, name := range counterNames[i] {
				m[name] += float64(n)
			}
		}
	}
	return m
}

// Entry is what the access log says of one connection to a TLS listener.
type Entry struct {
	LBName      string
	ListenerARN string
	Client      string // host:port
	Target      string
	Created     time.Time
	Ended       time.Time
	Received    int64 // from the client, decrypted
	Sent        int64
	Facts       *tlsfront.Facts
	TargetALPN  string
}

const entryTime = "2006-01-02T15:04:05"

// Append appends the entry as a line of the access log, version 2.0.
func (e *Entry) Append(dst []byte) []byte {
	f := e.Facts
	word := func(s string) {
		if s == "" {
			s = "-"
		}
		dst = append(append(dst, ' '), s...)
	}
	number := func(n int64) { word(itoa(n)) }
	dst = append(dst, "tls 2.0"...)
	word(e.Ended.UTC().Format(entryTime))
	word(e.LBName)
	word(e.ListenerARN[strings.LastIndexByte(e.ListenerARN, '/')+1:])
	word(e.Client)
	word(e.Target)
	number(e.Ended.Sub(e.Created).Milliseconds())
	if f.Version == 0 {
		word("")
	} else {
		number(f.Took.Milliseconds())
	}
	number(e.Received)
	number(e.Sent)
	if f.Alerted {
		number(int64(f.Alert))
	} else {
		word("")
	}
	if f.Certificate != nil {
		word(f.Certificate.ARN)
		word(f.Certificate.Serial)
	} else {
		word("")
		word("")
	}
	if f.Version != 0 {
		word(tlsfront.SuiteName(f.Suite))
		word(strings.ReplaceAll(strings.ToLower(tlsfront.VersionName(f.Version)), ".", ""))
	} else {
		word("")
		word("")
	}
	word(tlsfront.GroupName(f.Group))
	word(clean(f.ServerName))
	word(clean(f.Protocol))
	word(clean(e.TargetALPN))
	var list []string
	for _, p := range f.Offered[:min(len(f.Offered), maxOffered)] {
		list = append(list, `"`+clean(p)+`"`)
	}
	word(strings.Join(list, ","))
	word(e.Created.UTC().Format(entryTime))
	return append(dst, '\n')
}

const maxOffered = 32 // ALPN names in a log line

// clean keeps what a client says from breaking a line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == '"' {
			return '_'
		}
		return r
	}, s)
}
