package zone

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"skerry/internal/proxy"
)

// applyCheckLogs makes the logs of health checks those that the application load balancers want. The caller holds mu.
func (n *nodes) applyCheckLogs() (errs []error) {
	byGroup := map[string]checkLog{}
	balancers := map[string]bool{}
	for _, b := range n.desired.Balancers {
		if b.Type != "application" {
			continue
		}
		balancers[b.ARN] = true
		l := n.healths[b.ARN]
		if l == nil {
			if b.Attributes["health_check_logs.s3.enabled"] != "true" {
				continue
			}
			l = proxy.NewHealthLog(n.o.logs(b), n.o.Now, n.o.Log.With("zone", n.o.Zone, "load_balancer", b.Name))
			n.healths[b.ARN] = l
		}
		if err := l.Use(b.Name, b.Attributes); err != nil {
			errs = append(errs, fmt.Errorf("load balancer %s: %w", b.Name, err))
		}
		if !l.On() {
			continue
		}
		for arn := range n.byGroup {
			if b.uses(arn) {
				byGroup[arn] = checkLog{l, b.Name, b.NodeIP}
			}
		}
	}
	n.checkLogs.Store(&byGroup)
	for arn, l := range n.healths {
		if !balancers[arn] {
			delete(n.healths, arn)
			l.Close()
		}
	}
	return errs
}

// logCheck writes the line of a check, if its group's load balancer has a log of them.
func (n *nodes) logCheck(p checkPlan, r result, at time.Time, took time.Duration) {
	logs := n.checkLogs.Load()
	if logs == nil {
		return
	}
	if l, ok := (*logs)[p.group]; ok {
		l.log.Add(func(b []byte) []byte { return appendCheck(b, l, p, r, at, took) })
	}
}

// checkLog is where a group's checks are logged: the log of the load balancer's node that makes them.
type checkLog struct {
	log  *proxy.LineLog
	name string // of the load balancer
	node netip.Addr
}

// appendCheck appends the line of a check:
//
//	type time latency target_addr target_group_id status status_code reason_code elb ip_address
func appendCheck(b []byte, l checkLog, p checkPlan, r result, at time.Time, took time.Duration) []byte {
	kind := strings.ToLower(p.check.Protocol)
	switch {
	case p.version == proxy.GRPC && kind != "tcp":
		kind = "grpc"
	case p.version == proxy.HTTP2 && kind != "tcp":
		kind = "h2"
	}
	b = append(b, kind...)
	b = append(b, ' ')
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, ' ')
	b = strconv.AppendFloat(b, took.Seconds(), 'f', 9, 64)
	b = append(b, ' ')
	b = p.addr.AppendTo(b)
	b = append(b, ' ')
	name, _, _ := strings.Cut(strings.TrimPrefix(p.group[strings.LastIndexByte(p.group, ':')+1:], "targetgroup/"), "/")
	b = append(b, name...)
	if r.OK {
		b = append(b, " PASS "...)
	} else {
		b = append(b, " FAIL "...)
	}
	if r.Code == 0 && (r.Detail != "GRPCUnexpectedStatus" && !r.OK || kind == "tcp") {
		b = append(b, '-')
	} else {
		b = strconv.AppendInt(b, int64(r.Code), 10)
	}
	b = append(b, ' ')
	if r.OK {
		b = append(b, '-')
	} else {
		b = append(b, r.Detail...)
	}
	b = append(append(append(b, ' '), l.name...), ' ')
	return append(l.node.AppendTo(b), '\n')
}
