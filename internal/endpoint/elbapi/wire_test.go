package elbapi

import (
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/store"
	"skerry/internal/wiretest"
)

// TestWire plays the conversations of testdata/wire.
func TestWire(t *testing.T) {
	m := api.NewMux(&elbv2.Service)
	(&Server{}).Register(m)
	wiretest.Run(t, m, peer)
}

var contents = regexp.MustCompile(`(<Location>)[^<]*(/trust-store-content\?)[^<]*(</Location>)`)

// peer is a cloud with what conversations name: certificates, an instance, an elastic address, security groups, objects.
func peer(t *testing.T, seed [32]byte) *wiretest.Peer {
	x := serveWith(t, store.Options{Rand: rand.NewChaCha8(seed), Clock: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }})
	p := &wiretest.Peer{URL: x.url, Region: home.Region, Service: "elasticloadbalancing", Version: "2015-12-01",
		Names: map[string]string{"vpc": x.vpc, "subnetA": x.subnets[0], "subnetB": x.subnets[1]},
		Mask:  func(s string) string { return contents.ReplaceAllString(s, "$1…$2…$3") }}
	x.instance("i-0000000000000001a", x.subnets[0], compute.Running)
	p.Names["instance"] = "i-0000000000000001a"
	x.update(func(w *store.WriteTx) error {
		for _, n := range []string{"certA", "certB"} {
			arn := home.ARN("acm", "certificate/"+n)
			certificate.Certificates.Put(w, certificate.Certificate{Scope: home, ARN: arn})
			p.Names[n] = arn
		}
		a, err := network.AllocateAddress(w, home)
		if err != nil {
			return err
		}
		p.Names["allocation"], p.Names["elastic"] = a.AllocationID, a.PublicIP
		for _, n := range []string{"sgA", "sgB"} {
			g, err := network.CreateGroup(w, home, x.vpc, n, n)
			if err != nil {
				return err
			}
			p.Names[n] = g.ID
		}
		return nil
	})
	ca := newAuthority(x.t, "a", nil)
	x.object("certs", "ca.pem", ca.pem())
	x.object("certs", "a.crl", ca.revoke(x.t, 3))
	x.object("certs", "junk", []byte("junk"))
	return p
}
