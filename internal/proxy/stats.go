package proxy

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are a node's counters since the last call of Proxy.Stats, under CloudWatch's names. Counters that are zero are absent.
type Stats struct {
	Counters map[string]float64
	Gauges   map[string]float64    // ActiveConnectionCount
	Groups   map[string]GroupStats // by the key in Config.TargetGroups
	// AuthLatency sums up ELBAuthLatency, milliseconds.
	AuthLatency Summary
}

// GroupStats are those of one target group.
type GroupStats struct {
	Name     string
	Counters map[string]float64
	Latency  Summary // TargetResponseTime, seconds
	// Anomalies are the targets, by address, that fail more often than the others, or did: whether they get fewer requests.
	Anomalies map[string]bool
	Gauges    map[string]float64
}

// Summary sums up samples.
type Summary struct {
	Count, Sum, Min, Max float64
	Spread               []Bin `json:",omitempty"` // how they are spread, by ascending value
}

// Bin is how many samples are near to a value.
type Bin struct{ Value, Count float64 }

type counter int

const (
	cNewConnection counter = iota
	cRejectedConnection
	cTLSError
	cRequest
	cGRPCRequest
	cProcessedBytes
	cRuleEvaluations
	cELB3xx
	cELB4xx
	cELB5xx
	cELB500
	cELB502
	cELB503
	cELB504
	cFixedResponse
	cRedirect
	cRedirectLimit
	cDesync
	cDroppedHeader
	cForwardedHeader
	cTarget2xx
	cTarget3xx
	cTarget4xx
	cTarget5xx
	cTargetConnectionError
	cTargetTLSError
	cUnhealthyRouting
	cNonSticky
	cAuthSuccess
	cAuthFailure
	cAuthError
	cAuthRefresh
	cAuthClaimsSize
	cJWTSuccess
	cJWTFailure
	numCounters
)

var counterNames = [numCounters]string{
	cNewConnection: "NewConnectionCount", cRejectedConnection: "RejectedConnectionCount", cTLSError: "ClientTLSNegotiationErrorCount",
	cRequest: "RequestCount", cGRPCRequest: "GrpcRequestCount", cProcessedBytes: "ProcessedBytes", cRuleEvaluations: "RuleEvaluations",
	cELB3xx: "HTTPCode_ELB_3XX_Count", cELB4xx: "HTTPCode_ELB_4XX_Count", cELB5xx: "HTTPCode_ELB_5XX_Count",
	cELB500: "HTTPCode_ELB_500_Count", cELB502: "HTTPCode_ELB_502_Count", cELB503: "HTTPCode_ELB_503_Count", cELB504: "HTTPCode_ELB_504_Count",
	cFixedResponse: "HTTP_Fixed_Response_Count", cRedirect: "HTTP_Redirect_Count",
	cRedirectLimit: "HTTP_Redirect_Url_Limit_Exceeded_Count", cDesync: "DesyncMitigationMode_NonCompliant_Request_Count",
	cDroppedHeader: "DroppedInvalidHeaderRequestCount", cForwardedHeader: "ForwardedInvalidHeaderRequestCount",
	cTarget2xx: "HTTPCode_Target_2XX_Count", cTarget3xx: "HTTPCode_Target_3XX_Count", cTarget4xx: "HTTPCode_Target_4XX_Count",
	cTarget5xx: "HTTPCode_Target_5XX_Count", cTargetConnectionError: "TargetConnectionErrorCount", cTargetTLSError: "TargetTLSNegotiationErrorCount",
	cUnhealthyRouting: "UnhealthyRoutingRequestCount", cNonSticky: "NonStickyRequestCount",
	cAuthSuccess: "ELBAuthSuccess", cAuthFailure: "ELBAuthFailure", cAuthError: "ELBAuthError", cAuthRefresh: "ELBAuthRefreshTokenSuccess",
	cAuthClaimsSize: "ELBAuthUserClaimsSizeExceeded", cJWTSuccess: "JWTValidationSuccessCount", cJWTFailure: "JWTValidationFailureCount",
}

// counters is safe for concurrent use.
type counters [numCounters]atomic.Int64

func (c *counters) inc(k counter)          { c[k].Add(1) }
func (c *counters) add(k counter, n int64) { c[k].Add(n) }

func (c *counters) drain() map[string]float64 {
	m := map[string]float64{}
	for i := range c {
		if n := c[i].Swap(0); n != 0 {
			m[counterNames[i]] = float64(n)
		}
	}
	return m
}

// elb counts an answer that the load balancer made itself.
func (c *counters) elb(code int) {
	switch code / 100 {
	case 3:
		c.inc(cELB3xx)
	case 4:
		c.inc(cELB4xx)
	case 5:
		c.inc(cELB5xx)
	}
	switch code {
	case 500:
		c.inc(cELB500)
	case 502:
		c.inc(cELB502)
	case 503:
		c.inc(cELB503)
	case 504:
		c.inc(cELB504)
	}
}

// target counts the status of a target's answer.
func (c *counters) target(code int) {
	switch code / 100 {
	case 2:
		c.inc(cTarget2xx)
	case 3:
		c.inc(cTarget3xx)
	case 4:
		c.inc(cTarget4xx)
	case 5:
		c.inc(cTarget5xx)
	}
}

// latency sums up response times: each loop into a stripe of its own, so that none waits for another.
type latency [latencyStripes]struct {
	mu   sync.Mutex
	s    Summary
	bins [spreadBins]uint32
	_    [64]byte
}

const latencyStripes = 4

// Bins of response times: 16 for each doubling, from a microsecond on; so a time is kept to 3 %.
const (
	spreadSteps = 16
	spreadBins  = 33 * spreadSteps
)

func spreadBin(d time.Duration) int {
	us := uint64(max(d, 0)) / 1000
	if us < spreadSteps {
		return int(us)
	}
	e := bits.Len64(us) - 5 // us>>e is in [16, 32)
	return min((e+1)*spreadSteps+int(us>>e)-spreadSteps, spreadBins-1)
}

// spreadValue is the middle of a bin, in seconds.
func spreadValue(i int) float64 {
	if i < spreadSteps {
		return (float64(i) + 0.5) / 1e6
	}
	e := i/spreadSteps - 1
	return (float64(spreadSteps+i%spreadSteps) + 0.5) * float64(uint64(1)<<e) / 1e6
}

func (l *latency) add(d time.Duration, shard int) {
	x := d.Seconds()
	p := &l[uint(shard)%latencyStripes]
	p.mu.Lock()
	p.s.merge(Summary{Count: 1, Sum: x, Min: x, Max: x})
	p.bins[spreadBin(d)]++
	p.mu.Unlock()
}

func (l *latency) drain() (s Summary) {
	var bins [spreadBins]uint32
	for i := range l {
		p := &l[i]
		p.mu.Lock()
		if p.s.Count > 0 {
			s.merge(p.s)
			for k, n := range p.bins {
				bins[k] += n
			}
			p.s, p.bins = Summary{}, [spreadBins]uint32{}
		}
		p.mu.Unlock()
	}
	if s.Count > 0 {
		for k, n := range bins {
			if n > 0 {
				s.Spread = append(s.Spread, Bin{spreadValue(k), float64(n)})
			}
		}
	}
	return s
}

func (s *Summary) merge(o Summary) {
	switch {
	case o.Count == 0:
		return
	case s.Count == 0:
		*s = o
		return
	}
	s.Count += o.Count
	s.Sum += o.Sum
	s.Min, s.Max = min(s.Min, o.Min), max(s.Max, o.Max)
}
