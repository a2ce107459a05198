package elbapi

import (
	"cmp"
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// listenerParams reads what creating and modifying have in common.
func listenerParams(tx store.Tx, s scope.Scope, protocol *string, port *int32, certificates []elbv2.Certificate, policy *string, alpn []string,
	actions []elbv2.Action, mtls *elbv2.MutualAuthenticationAttributes) (balance.ListenerParams, error) {
	p := balance.ListenerParams{Protocol: api.Val(protocol), Port: api.Val(port), SSLPolicy: api.Val(policy)}
	if len(certificates) > 1 {
		return p, fault.New(fault.Limit, "TooManyCertificates", "Exactly one certificate must be specified")
	}
	if len(certificates) == 1 {
		if certificates[0].IsDefault != nil {
			return p, invalid("You cannot specify IsDefault for a certificate")
		}
		p.Certificate = api.Val(certificates[0].CertificateArn)
		if err := checkCertificate(tx, s, p.Certificate); err != nil {
			return p, err
		}
	}
	if len(alpn) > 1 {
		return p, invalid("Exactly one ALPN policy can be specified")
	}
	if len(alpn) == 1 {
		if !slices.Contains([]string{"None", "HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"}, alpn[0]) {
			return p, fault.New(fault.NotFound, "ALPNPolicyNotFound", "ALPN policy '%s' is not supported", alpn[0])
		}
		p.ALPN = alpn[0]
	}
	if mtls != nil {
		p.MutualTLS = &balance.MutualTLS{Mode: api.Val(mtls.Mode), TrustStoreARN: api.Val(mtls.TrustStoreArn), IgnoreExpiry: api.Val(mtls.IgnoreClientCertificateExpiry), AdvertiseCAs: api.Val(mtls.AdvertiseTrustStoreCaNames)}
		if mtls.TrustStoreAssociationStatus != nil {
			return p, invalid("TrustStoreAssociationStatus cannot be specified")
		}
	}
	var err error
	p.DefaultActions, err = fromActions(actions)
	return p, err
}

func checkCertificate(tx store.Tx, s scope.Scope, arn string) error {
	if arn == "" {
		return invalid("A certificate ARN must be specified")
	}
	if !strings.HasPrefix(arn, "arn:") {
		return invalid("Certificate ARN '%s' is not valid", arn)
	}
	if !certificateExists(tx, s, arn) {
		return fault.New(fault.NotFound, "CertificateNotFound", "Certificate '%s' not found", arn)
	}
	return nil
}

func (s *Server) createListener(c *api.Call, in *elbv2.CreateListenerInput) (*elbv2.CreateListenerOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "CreateListener", arn); err != nil {
		return nil, err
	}
	out := &elbv2.CreateListenerOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		p, err := listenerParams(w, c.Scope(), in.Protocol, in.Port, in.Certificates, in.SslPolicy, in.AlpnPolicy, in.DefaultActions, in.MutualAuthentication)
		if err != nil {
			return err
		}
		p.Tags = tags
		l, err := balance.CreateListener(w, c.Scope(), arn, p)
		if err != nil {
			return err
		}
		out.Listeners = []elbv2.Listener{toListener(l)}
		return nil
	})
}

func (s *Server) modifyListener(c *api.Call, in *elbv2.ModifyListenerInput) (*elbv2.ModifyListenerOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "ModifyListener", arn); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyListenerOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		p, err := listenerParams(w, c.Scope(), in.Protocol, in.Port, in.Certificates, in.SslPolicy, in.AlpnPolicy, in.DefaultActions, in.MutualAuthentication)
		if err != nil {
			return err
		}
		l, err := balance.ModifyListener(w, c.Scope(), arn, p)
		if err != nil {
			return err
		}
		out.Listeners = []elbv2.Listener{toListener(l)}
		return nil
	})
}

func toListener(l balance.Listener) elbv2.Listener {
	out := elbv2.Listener{ListenerArn: &l.ARN, LoadBalancerArn: &l.LoadBalancerARN, Port: &l.Port, Protocol: &l.Protocol, DefaultActions: toActions(l.DefaultActions)}
	if len(l.Certificates) > 0 {
		out.Certificates = []elbv2.Certificate{{CertificateArn: api.Ptr(l.Certificates[0])}}
	}
	if l.SSLPolicy != "" {
		out.SslPolicy = &l.SSLPolicy
	}
	if l.Protocol == balance.HTTPS {
		m := l.MutualTLS
		out.MutualAuthentication = &elbv2.MutualAuthenticationAttributes{Mode: api.Ptr(cmp.Or(m.Mode, "off"))}
		if m.TrustStoreARN != "" {
			out.MutualAuthentication.TrustStoreArn, out.MutualAuthentication.TrustStoreAssociationStatus = &m.TrustStoreARN, api.Ptr("active")
			out.MutualAuthentication.IgnoreClientCertificateExpiry, out.MutualAuthentication.AdvertiseTrustStoreCaNames = &m.IgnoreExpiry, &m.AdvertiseCAs
		}
	}
	if l.ALPN != "" {
		out.AlpnPolicy = []string{l.ALPN}
	}
	return out
}

func (s *Server) deleteListener(c *api.Call, in *elbv2.DeleteListenerInput) (*elbv2.DeleteListenerOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeleteListener", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.DeleteListener(w, c.Scope(), arn) })
}

func (s *Server) describeListeners(c *api.Call, in *elbv2.DescribeListenersInput) (*elbv2.DescribeListenersOutput, error) {
	lbARN := api.Val(in.LoadBalancerArn)
	if lbARN != "" && len(in.ListenerArns) > 0 {
		return nil, invalid("A load balancer ARN and listener ARNs cannot be specified at the same time")
	}
	if lbARN == "" && len(in.ListenerArns) == 0 {
		return nil, invalid("You must specify either listener ARNs or a load balancer ARN")
	}
	out := &elbv2.DescribeListenersOutput{Listeners: []elbv2.Listener{}}
	return out, c.View(func(tx store.Tx) error {
		var rows []balance.Listener
		if lbARN != "" {
			lb, err := balance.GetLoadBalancer(tx, c.Scope(), lbARN)
			if err != nil {
				return err
			}
			for l := range balance.Listeners.By(tx, "lb", lb.Key(lb.ARN)) {
				rows = append(rows, l)
			}
		}
		for _, arn := range in.ListenerArns {
			l, err := balance.GetListener(tx, c.Scope(), arn)
			if err != nil {
				return err
			}
			rows = append(rows, l)
		}
		rows, next, err := page(rows, func(l balance.Listener) string { return l.ARN }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, l := range rows {
			out.Listeners = append(out.Listeners, toListener(l))
		}
		return nil
	})
}

func toListenerAttributes(list balance.Attributes) []elbv2.ListenerAttribute {
	out := []elbv2.ListenerAttribute{}
	for _, a := range list {
		out = append(out, elbv2.ListenerAttribute{Key: api.Ptr(a.Key), Value: api.Ptr(a.Value)})
	}
	return out
}

func (s *Server) describeListenerAttributes(c *api.Call, in *elbv2.DescribeListenerAttributesInput) (*elbv2.DescribeListenerAttributesOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeListenerAttributesOutput{}
	return out, c.View(func(tx store.Tx) error {
		l, err := balance.GetListener(tx, c.Scope(), arn)
		out.Attributes = toListenerAttributes(l.AllAttributes())
		return err
	})
}

func (s *Server) modifyListenerAttributes(c *api.Call, in *elbv2.ModifyListenerAttributesInput) (*elbv2.ModifyListenerAttributesOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	changes, err := attributes(in.Attributes, func(a elbv2.ListenerAttribute) *string { return a.Key }, func(a elbv2.ListenerAttribute) *string { return a.Value })
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "ModifyListenerAttributes", arn); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyListenerAttributesOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		l, err := balance.ModifyListenerAttributes(w, c.Scope(), arn, changes)
		out.Attributes = toListenerAttributes(l.AllAttributes())
		return err
	})
}

func certificateARNs(in []elbv2.Certificate) ([]string, error) {
	var out []string
	for _, x := range in {
		if x.IsDefault != nil {
			return nil, invalid("You cannot specify IsDefault for a certificate")
		}
		if api.Val(x.CertificateArn) == "" {
			return nil, invalid("A certificate ARN must be specified")
		}
		out = append(out, *x.CertificateArn)
	}
	if len(out) != 1 {
		return nil, invalid("Exactly one certificate must be specified, but %d were", len(out))
	}
	return out, nil
}

func (s *Server) addListenerCertificates(c *api.Call, in *elbv2.AddListenerCertificatesInput) (*elbv2.AddListenerCertificatesOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	arns, err := certificateARNs(in.Certificates)
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "AddListenerCertificates", arn); err != nil {
		return nil, err
	}
	out := &elbv2.AddListenerCertificatesOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		for _, a := range arns {
			if err := checkCertificate(w, c.Scope(), a); err != nil {
				return err
			}
		}
		l, err := balance.AddCertificates(w, c.Scope(), arn, arns)
		if err != nil {
			return err
		}
		for _, a := range arns {
			out.Certificates = append(out.Certificates, elbv2.Certificate{CertificateArn: api.Ptr(a), IsDefault: api.Ptr(a == l.Certificates[0])})
		}
		return nil
	})
}

func (s *Server) removeListenerCertificates(c *api.Call, in *elbv2.RemoveListenerCertificatesInput) (*elbv2.RemoveListenerCertificatesOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	arns, err := certificateARNs(in.Certificates)
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "RemoveListenerCertificates", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.RemoveCertificates(w, c.Scope(), arn, arns) })
}

func (s *Server) describeListenerCertificates(c *api.Call, in *elbv2.DescribeListenerCertificatesInput) (*elbv2.DescribeListenerCertificatesOutput, error) {
	arn, err := required(in.ListenerArn, "listenerArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeListenerCertificatesOutput{Certificates: []elbv2.Certificate{}}
	return out, c.View(func(tx store.Tx) error {
		l, err := balance.GetListener(tx, c.Scope(), arn)
		if err != nil {
			return err
		}
		rows, next, err := page(l.Certificates, func(a string) string { return a }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, a := range rows {
			out.Certificates = append(out.Certificates, elbv2.Certificate{CertificateArn: api.Ptr(a), IsDefault: api.Ptr(a == l.Certificates[0])})
		}
		return nil
	})
}
