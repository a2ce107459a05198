package zoneplan

import (
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"testing"
	"time"

	"skerry/internal/balance"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/zone"
)

var home = scope.Scope{Account: "000000000000", Region: "eu-west-1"}

var certARN = home.ARN("acm", "certificate/12345678-1234-1234-1234-123456789012")

// world is a VPC of two zones with an instance in each, behind an application load balancer.
type world struct {
	t     *testing.T
	db    *store.DB
	vpc   network.VPC
	lb    balance.LoadBalancer
	group balance.TargetGroup
	opts  Options
}

func newWorld(t *testing.T, kind string) *world {
	t.Helper()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := &world{t: t, db: db, opts: Options{Namespace: func(id string) string { return "/run/netns/" + id }}}
	x.update(func(w *store.WriteTx) error {
		network.SetPublicPool(w, netip.MustParsePrefix("127.99.0.0/16"))
		if x.vpc, err = network.CreateVPC(w, home, network.VPCParams{CIDR: "10.0.0.0/16"}); err != nil {
			return err
		}
		x.vpc.EnableDNSHostnames = true
		network.VPCs.Put(w, x.vpc)
		igw, err := network.CreateInternetGateway(w, home)
		if err != nil {
			return err
		}
		if err := network.AttachInternetGateway(w, home, igw.ID, x.vpc.ID); err != nil {
			return err
		}
		m, err := compute.GenerateKey(rand.Reader, "ed25519")
		if err != nil {
			return err
		}
		if _, err := compute.CreateKeyPair(w, home, "my-key", m); err != nil {
			return err
		}
		var subnets []balance.SubnetMapping
		for i, z := range []string{"eu-west-1a", "eu-west-1b"} {
			sn, err := network.CreateSubnet(w, home, network.SubnetParams{VpcID: x.vpc.ID, CIDR: []string{"10.0.0.0/24", "10.0.1.0/24"}[i], AvailabilityZone: z})
			if err != nil {
				return err
			}
			subnets = append(subnets, balance.SubnetMapping{SubnetID: sn.ID})
			id := []string{"i-a", "i-b"}[i]
			e, err := network.AllocateENI(w, home, network.ENIParams{SubnetID: sn.ID, InstanceID: id, Public: true})
			if err != nil {
				return err
			}
			compute.Instances.Put(w, compute.Instance{Scope: home, ID: id, State: compute.Running, VpcID: x.vpc.ID, SubnetID: sn.ID, AvailabilityZone: z, PrivateIP: e.PrivateIP,
				PublicIP: e.PublicIP, ENIID: e.ID, SecurityGroupIDs: e.GroupIDs, KeyName: "my-key", UserData: base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n")), IamInstanceProfileArn: "arn:p",
				MetadataOptions: compute.MetadataOptions{HttpTokens: "required", HttpEndpoint: "enabled", HttpPutResponseHopLimit: 2}, LaunchTime: w.Now()})
		}
		if x.lb, err = balance.CreateLoadBalancer(w, home, balance.LoadBalancerParams{Name: "web", Type: kind, Subnets: subnets}); err != nil {
			return err
		}
		p := balance.TargetGroupParams{Name: "web", Protocol: balance.HTTP, Port: 80, VpcID: x.vpc.ID}
		l := balance.ListenerParams{Protocol: balance.HTTPS, Port: 443, Certificate: certARN}
		if kind == balance.Network {
			p.Protocol, l = balance.TCP, balance.ListenerParams{Protocol: balance.TCP, Port: 443}
		}
		if x.group, err = balance.CreateTargetGroup(w, home, p); err != nil {
			return err
		}
		certificate.Certificates.Put(w, certificate.Certificate{Scope: home, ARN: certARN, Certificate: "CERT", Chain: "CHAIN", Key: "KEY"})
		l.DefaultActions = []balance.Action{{Type: "forward", TargetGroupARN: x.group.ARN}}
		if _, err = balance.CreateListener(w, home, x.lb.ARN, l); err != nil {
			return err
		}
		return balance.Register(w, home, x.group.ARN, []balance.Target{{ID: "i-a"}, {ID: "i-b"}})
	})
	return x
}

func (x *world) update(fn func(w *store.WriteTx) error) {
	x.t.Helper()
	if err := x.db.Update(fn); err != nil {
		x.t.Fatal(err)
	}
}

func (x *world) build(z string) zone.Desired {
	x.t.Helper()
	d, err := Build(x.db.Read(), z, x.opts)
	if err != nil {
		x.t.Fatal(err)
	}
	return d
}

func TestAPlanHoldsWhatItsZoneServes(t *testing.T) {
	x := newWorld(t, balance.Application)
	x.opts.Credentials = func(_ store.Tx, i compute.Instance) (zone.Profile, bool) {
		return zone.Profile{ARN: i.IamInstanceProfileArn, Role: "r", Credentials: &zone.Credentials{AccessKeyID: "ASIA", Expiration: time.Unix(1, 0)}}, true
	}
	d := x.build("eu-west-1b")
	if len(d.VPCs) != 1 || d.VPCs[0].PortOffset != 1 || d.VPCs[0].Namespace != "/run/netns/"+x.vpc.ID {
		t.Errorf("networks: %+v", d.VPCs)
	}
	if len(d.Instances) != 1 || d.Instances[0].ID != "i-b" {
		t.Fatalf("instances: %+v", d.Instances)
	}
	i := d.Instances[0]
	if !i.Options.TokensRequired || i.Options.HopLimit != 2 || string(i.UserData) != "#!/bin/sh\n" || i.Profile.Role != "r" || i.ZoneID != network.ZoneID("eu-west-1", "eu-west-1b") ||
		len(i.SecurityGroups) != 1 || i.SecurityGroups[0] != "default" || i.Interfaces[0].SubnetCIDR != "10.0.1.0/24" || i.PublicKey == "" || i.LocalHostname != network.PrivateDNSName("eu-west-1", i.IP.String()) {
		t.Errorf("document: %+v", i)
	}
	if len(d.Hosts) != 2 {
		t.Errorf("names of instances: %+v", d.Hosts)
	}
	if len(d.Balancers) != 1 || d.Balancers[0].NodeIP.String() != x.lb.Nodes[1].PrivateIP || d.Balancers[0].Name != x.lb.Dimension() {
		t.Fatalf("balancers: %+v", d.Balancers)
	}
	l := d.Balancers[0].Listeners[0]
	if len(l.Certificates) != 1 || l.Certificates[0].CertPEM != "CERT\nCHAIN" || l.Certificates[0].KeyPEM != "KEY" || l.Default[0].Forward[0].GroupARN != x.group.ARN {
		t.Errorf("listener: %+v", l)
	}
	if len(d.Groups) != 1 || len(d.Groups[0].Targets) != 2 || d.Groups[0].NodeIP != d.Balancers[0].NodeIP {
		t.Errorf("an application load balancer's node routes to both zones: %+v", d.Groups)
	}
	if len(d.Names) != 2 || d.Names[0].VPC != "" || d.Names[1].VPC != x.vpc.ID || !d.Names[0].Addrs[0].IsLoopback() || d.Names[1].Addrs[0].IsLoopback() {
		t.Errorf("names: %+v", d.Names)
	}
	if other := x.build("eu-west-1c"); len(other.VPCs)+len(other.Instances)+len(other.Balancers)+len(other.Groups) != 0 {
		t.Errorf("a zone without anything: %+v", other)
	}
}

func TestEqualStatesGiveEqualPlans(t *testing.T) {
	x := newWorld(t, balance.Application)
	first := x.build("eu-west-1a")
	for range 20 {
		if d := x.build("eu-west-1a"); d.Version != first.Version || d.Version == "" {
			t.Fatalf("versions %q and %q of one state", first.Version, d.Version)
		}
	}
	x.update(func(w *store.WriteTx) error {
		_, err := balance.ModifyTargetGroupAttributes(w, home, x.group.ARN, map[string]string{"stickiness.enabled": "true"})
		return err
	})
	if d := x.build("eu-west-1a"); d.Version == first.Version {
		t.Error("a changed attribute left the version as it was")
	}
}

func TestWhichTargetsANodeMayUse(t *testing.T) {
	x := newWorld(t, balance.Network)
	targets := func() map[string]bool { // id → draining
		m := map[string]bool{}
		for _, tg := range x.build("eu-west-1a").Groups[0].Targets {
			m[tg.ID] = tg.Draining
		}
		return m
	}
	if m := targets(); len(m) != 1 || m["i-a"] {
		t.Errorf("a network load balancer's node stays in its zone: %v", m)
	}
	x.update(func(w *store.WriteTx) error {
		_, err := balance.ModifyTargetGroupAttributes(w, home, x.group.ARN, map[string]string{"load_balancing.cross_zone.enabled": "true"})
		return err
	})
	if m := targets(); len(m) != 2 {
		t.Errorf("across zones: %v", m)
	}
	set := func(id, state string) {
		x.update(func(w *store.WriteTx) error {
			i, _ := compute.Instances.Get(w, home.Key(id))
			i.State = state
			compute.Instances.Put(w, i)
			return nil
		})
	}
	set("i-a", compute.ShuttingDown)
	if m := targets(); !m["i-a"] || m["i-b"] {
		t.Errorf("an instance that is going drains: %v", m)
	}
	set("i-a", compute.Terminated)
	if m := targets(); len(m) != 1 {
		t.Errorf("one that is gone is left out: %v", m)
	}
}
