package balance

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Quotas of AWS a load balancer.
const (
	MaxListeners        = 50
	MaxCertificates     = 25 // without the default one
	MaxGroupsPerLB      = 100
	MaxGroupsPerForward = 5
)

// ListenerParams are the parameters of CreateListener, and of ModifyListener where an empty member leaves what is there.
// The caller has checked that the certificate exists.
type ListenerParams struct {
	Protocol       string
	Port           int32
	Certificate    string
	SSLPolicy      string
	ALPN           string
	MutualTLS      *MutualTLS
	DefaultActions []Action
	Tags           map[string]string
}

// GetListener finds a listener by its ARN.
func GetListener(tx store.Tx, s scope.Scope, arn string) (Listener, error) {
	if v, ok := Listeners.Get(tx, s.Key(arn)); ok {
		return v, nil
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":listener/") {
		return Listener{}, invalid("'%s' is not a valid listener ARN", arn)
	}
	return Listener{}, fault.New(fault.NotFound, "ListenerNotFound", "One or more listeners not found")
}

// listenerProtocols by type of load balancer, as AWS's messages list them.
var listenerProtocols = map[string][]string{Application: {HTTPS, HTTP}, Network: {TCP, TLS, UDP, TCPUDP}}

// Protocols.
const (
	HTTP   = "HTTP"
	HTTPS  = "HTTPS"
	TCP    = "TCP"
	UDP    = "UDP"
	TCPUDP = "TCP_UDP"
	TLS    = "TLS"

	GRPC = "GRPC" // a version of HTTP
)

// encrypted tells whether a listener has certificates.
func (l Listener) encrypted() bool { return l.Protocol == HTTPS || l.Protocol == TLS }

// CreateListener makes a listener with its default rule. The same parameters again give the one that is there.
func CreateListener(w *store.WriteTx, s scope.Scope, lbARN string, p ListenerParams) (Listener, error) {
	lb, err := GetLoadBalancer(w, s, lbARN)
	if err != nil {
		return Listener{}, err
	}
	if p.Protocol == "" {
		return Listener{}, invalid("A listener protocol must be specified")
	}
	if p.Port == 0 {
		return Listener{}, invalid("A listener port must be specified")
	}
	l := Listener{Scope: s, LoadBalancerARN: lb.ARN, CreatedAt: w.Now()}
	if l, err = p.apply(w, lb, l); err != nil {
		return Listener{}, err
	}
	n := 0
	for o := range Listeners.By(w, "lb", s.Key(lb.ARN)) {
		n++
		if !portsClash(o, l) {
			continue
		}
		if o.Protocol == l.Protocol && slices.Equal(first(o.Certificates), l.Certificates) && o.SSLPolicy == l.SSLPolicy && o.ALPN == l.ALPN && o.MutualTLS == l.MutualTLS &&
			actionsEqual(o.DefaultActions, l.DefaultActions) {
			return o, nil
		}
		return Listener{}, fault.New(fault.Exists, "DuplicateListener", "A listener already exists on this port for this load balancer '%s'", lb.ARN)
	}
	if n >= MaxListeners {
		return Listener{}, fault.New(fault.Limit, "TooManyListeners", "The maximum number of listeners on this load balancer has been reached")
	}
	id := hex16(w)
	l.ARN = s.ARN("elasticloadbalancing", "listener/"+lb.Dimension()+"/"+id)
	l.DefaultRuleARN = s.ARN("elasticloadbalancing", "listener-rule/"+lb.Dimension()+"/"+id+"/"+hex16(w))
	Listeners.Put(w, l)
	tag.SetSystem(w, s, l.ARN, p.Tags)
	return l, nil
}

func first(s []string) []string {
	if len(s) > 1 {
		return s[:1]
	}
	return s
}

// portsClash tells whether two listeners of one load balancer can't be together: a port has one, of whatever protocol. TCP and
// UDP share it in one of protocol TCP_UDP.
func portsClash(a, b Listener) bool {
	return a.Port == b.Port && (a.ARN == "" || a.ARN != b.ARN)
}

// apply returns the listener with the parameters that are set, checked.
func (p ListenerParams) apply(tx store.Tx, lb LoadBalancer, l Listener) (Listener, error) {
	if p.Protocol != "" {
		if lb.Type == Network && slices.Contains([]string{"QUIC", "TCP_QUIC"}, p.Protocol) {
			return l, fault.New(fault.Unsupported, "UnsupportedProtocol", "Listeners with protocol '%s' are not supported", p.Protocol)
		}
		if ok := listenerProtocols[lb.Type]; !slices.Contains(ok, p.Protocol) {
			return l, invalid("Listener protocol '%s' must be one of '%s'", p.Protocol, strings.Join(ok, ", "))
		}
		l.Protocol = p.Protocol
		l.Attributes = maps.Clone(l.Attributes)
		maps.DeleteFunc(l.Attributes, func(k, _ string) bool {
			return !slices.ContainsFunc(l.known(), func(a attribute) bool { return a.key == k })
		})
	}
	if p.Port != 0 {
		if p.Port < 1 || p.Port > 65535 {
			return l, invalid("1 validation error detected: Value '%d' at 'port' failed to satisfy constraint: Member must have value between 1 and 65535", p.Port)
		}
		l.Port = p.Port
	}
	switch {
	case l.Protocol == TLS && p.ALPN != "":
		l.ALPN = p.ALPN
	case l.Protocol == TLS && l.ALPN == "":
		l.ALPN = "None"
	case l.Protocol != TLS && p.ALPN != "" && p.ALPN != "None":
		return l, fault.New(fault.Invalid, "InvalidConfigurationRequest", "An ALPN policy can be specified for TLS listeners only")
	case l.Protocol != TLS:
		l.ALPN = ""
	}
	if l.encrypted() {
		if p.Certificate != "" {
			others := l.Certificates[min(1, len(l.Certificates)):] // the default one is replaced, the others stay
			l.Certificates = append([]string{p.Certificate}, slices.DeleteFunc(slices.Clone(others), func(a string) bool { return a == p.Certificate })...)
		}
		if len(l.Certificates) == 0 {
			return l, invalid("A certificate must be specified for %s listeners", l.Protocol)
		}
		if p.SSLPolicy != "" {
			if !KnownSSLPolicy(p.SSLPolicy) {
				return l, fault.New(fault.NotFound, "SSLPolicyNotFound", "SSL policy '%s' not found", p.SSLPolicy)
			}
			l.SSLPolicy = p.SSLPolicy
		}
		if l.SSLPolicy == "" {
			l.SSLPolicy = DefaultSSLPolicy
		}
	} else {
		if p.Certificate != "" {
			return l, invalid("A certificate cannot be specified for %s listeners", l.Protocol)
		}
		if p.SSLPolicy != "" {
			return l, invalid("An SSL policy cannot be specified for %s listeners", l.Protocol)
		}
		l.Certificates, l.SSLPolicy = nil, ""
	}
	var err error
	if l.MutualTLS, err = checkMutualTLS(tx, lb, l, p.MutualTLS); err != nil {
		return l, err
	}
	if p.DefaultActions != nil || l.DefaultActions == nil {
		if l.DefaultActions, err = checkActions(tx, lb, l, p.DefaultActions, l.DefaultActions); err != nil {
			return l, err
		}
	} else if p.Protocol != "" { // the groups must still fit
		if _, err := checkActions(tx, lb, l, l.DefaultActions, nil); err != nil {
			return l, err
		}
	}
	return l, nil
}

// ModifyListener changes the members that are set.
func ModifyListener(w *store.WriteTx, s scope.Scope, arn string, p ListenerParams) (Listener, error) {
	l, err := GetListener(w, s, arn)
	if err != nil {
		return Listener{}, err
	}
	lb, err := GetLoadBalancer(w, s, l.LoadBalancerARN)
	if err != nil {
		return Listener{}, err
	}
	if l, err = p.apply(w, lb, l); err != nil {
		return Listener{}, err
	}
	if p.Protocol != "" { // the rules must still fit
		for _, r := range RulesOf(w, l) {
			if _, err := checkActions(w, lb, l, r.Actions, nil); err != nil {
				return Listener{}, err
			}
		}
	}
	for o := range Listeners.By(w, "lb", s.Key(lb.ARN)) {
		if portsClash(o, l) {
			return Listener{}, fault.New(fault.Exists, "DuplicateListener", "A listener already exists on this port for this load balancer '%s'", lb.ARN)
		}
	}
	Listeners.Put(w, l)
	return l, nil
}

// DeleteListener deletes a listener with its rules.
func DeleteListener(w *store.WriteTx, s scope.Scope, arn string) error {
	l, err := GetListener(w, s, arn)
	if err != nil {
		return err
	}
	for r := range Registrations.By(w, "target", s.Key(l.LoadBalancerARN)) { // behind a network load balancer
		if r.Port == l.Port {
			return fault.New(fault.Conflict, "ResourceInUse", "Listener port '%d' is in use by registered target '%s' and cannot be removed.", l.Port, l.LoadBalancerARN)
		}
	}
	dropListener(w, l)
	return nil
}

func dropListener(w *store.WriteTx, l Listener) {
	for r := range Rules.By(w, "listener", l.Key(l.ARN)) {
		dropRule(w, r)
	}
	Listeners.Delete(w, l.Key(l.ARN))
	tag.DeleteAll(w, l.Scope, l.ARN)
	tag.DeleteAll(w, l.Scope, l.DefaultRuleARN)
}

// AddCertificates adds certificates to an HTTPS or TLS listener; one that is there is a success.
func AddCertificates(w *store.WriteTx, s scope.Scope, arn string, certificates []string) (Listener, error) {
	l, err := GetListener(w, s, arn)
	if err != nil {
		return Listener{}, err
	}
	if !l.encrypted() {
		return Listener{}, invalid("Certificates can be added to HTTPS and TLS listeners only")
	}
	l.Certificates = slices.Clone(l.Certificates)
	extra := 0
	for o := range Listeners.By(w, "lb", s.Key(l.LoadBalancerARN)) {
		if o.ARN != l.ARN && len(o.Certificates) > 0 {
			extra += len(o.Certificates) - 1
		}
	}
	for _, c := range certificates {
		if !slices.Contains(l.Certificates, c) {
			l.Certificates = append(l.Certificates, c)
		}
	}
	if extra+len(l.Certificates)-1 > MaxCertificates {
		return Listener{}, fault.New(fault.Limit, "TooManyCertificates", "The maximum number of certificates on this load balancer has been reached")
	}
	Listeners.Put(w, l)
	return l, nil
}

// RemoveCertificates removes certificates; the default one stays, and refuses.
func RemoveCertificates(w *store.WriteTx, s scope.Scope, arn string, certificates []string) error {
	l, err := GetListener(w, s, arn)
	if err != nil {
		return err
	}
	if len(l.Certificates) > 0 && slices.Contains(certificates, l.Certificates[0]) {
		return fault.New(fault.Denied, "OperationNotPermitted", "Default certificate '%s' cannot be removed", l.Certificates[0])
	}
	l.Certificates = slices.DeleteFunc(slices.Clone(l.Certificates), func(c string) bool { return slices.Contains(certificates, c) })
	Listeners.Put(w, l)
	return nil
}

// CertificateUsers lists the load balancers whose listeners use a certificate.
func CertificateUsers(tx store.Tx, certificateARN string) []string {
	var out []string
	for l := range Listeners.By(tx, "certificate", certificateARN) {
		if !slices.Contains(out, l.LoadBalancerARN) {
			out = append(out, l.LoadBalancerARN)
		}
	}
	slices.Sort(out)
	return out
}

// actionsEqual compares what actions do.
func actionsEqual(a, b []Action) bool {
	return slices.EqualFunc(a, b, func(x, y Action) bool {
		x.Order, y.Order, x.TargetGroupARN, y.TargetGroupARN = 0, 0, "", ""
		return reflect.DeepEqual(x, y)
	})
}
