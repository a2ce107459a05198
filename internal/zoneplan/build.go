package zoneplan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"skerry/internal/balance"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/store"
	"skerry/internal/tag"
	"skerry/internal/zone"
)

// DefaultAPIName is the name of the API inside VPCs.
const DefaultAPIName = "api.skerry.internal"

// Options are what the state does not hold. A nil function stands for one that knows nothing.
type Options struct {
	// Namespace is the path of a VPC's network namespace (fabric.VPCNamespace).
	Namespace func(vpcID string) string
	// Credentials are the current credentials of an instance's role; ok false for an instance without a profile. The
	// caller renews them: a changed result changes the plan.
	Credentials func(tx store.Tx, i compute.Instance) (p zone.Profile, ok bool)
	// Lifecycle is an instance's target lifecycle state in its Auto Scaling group, empty outside one.
	Lifecycle func(tx store.Tx, i compute.Instance) string
	Egress    bool
	Secret    []byte // of the cloud; the keys of its load balancers' cookies derive from it
	APIName   string // default DefaultAPIName
}

// PortOffset is the offset of a zone's metadata and DNS listeners' ports: its place among its region's zones. The fabric's
// ZonePorts of a VPC must say the same.
func PortOffset(zoneName string) uint16 {
	for i, z := range network.Zones(regionOf(zoneName)) {
		if z.Name == zoneName {
			return uint16(i)
		}
	}
	return 0
}

// regionOf is the region of a zone: its name without the last letter.
func regionOf(zoneName string) string {
	if zoneName == "" {
		return ""
	}
	return zoneName[:len(zoneName)-1]
}

type builder struct {
	o       Options
	tx      store.Tx
	zone    string
	region  string
	groups  map[string]string // scope key → name of a security group
	keys    map[string]string // scope key → public key
	vpcs    map[string]network.VPC
	subnets map[string]network.Subnet
}

// Build is the desired state of one zone (us-east-1a), over all accounts. Its parts are in the order of the state's keys,
// so that equal states give equal plans.
func Build(tx store.Tx, zoneName string, o Options) (zone.Desired, error) {
	if o.Namespace == nil {
		return zone.Desired{}, fmt.Errorf("zoneplan: no Namespace function")
	}
	if o.APIName == "" {
		o.APIName = DefaultAPIName
	}
	b := &builder{o: o, tx: tx, zone: zoneName, region: regionOf(zoneName), groups: map[string]string{}, keys: map[string]string{},
		vpcs: map[string]network.VPC{}, subnets: map[string]network.Subnet{}}
	d := zone.Desired{Zone: zoneName, Egress: o.Egress, APIName: o.APIName}
	if err := b.networks(&d); err != nil {
		return zone.Desired{}, err
	}
	if err := b.instances(&d); err != nil {
		return zone.Desired{}, err
	}
	if err := b.balancers(&d); err != nil {
		return zone.Desired{}, err
	}
	return d.Seal(), nil
}

// networks adds the VPCs that have an interface in the zone: those have a namespace, and somebody who asks.
func (b *builder) networks(d *zone.Desired) error {
	used := map[string]bool{}
	for sn := range network.Subnets.All(b.tx) {
		b.subnets[sn.Key(sn.ID)] = sn
		if sn.AvailabilityZone == b.zone && sn.InUse > 0 {
			used[sn.Key(sn.VpcID)] = true
		}
	}
	for v := range network.VPCs.All(b.tx) {
		if !used[v.Key(v.ID)] {
			continue
		}
		cidr, err := netip.ParsePrefix(v.CIDR)
		if err != nil {
			return fmt.Errorf("vpc %s: %w", v.ID, err)
		}
		b.vpcs[v.Key(v.ID)] = v
		d.VPCs = append(d.VPCs, zone.VPC{ID: v.ID, Namespace: b.o.Namespace(v.ID), PortOffset: PortOffset(b.zone), Region: v.Region, CIDR: cidr,
			DNSSupport: v.EnableDNSSupport, DNSHostname: v.EnableDNSHostnames})
	}
	return nil
}

// instances adds the documents of the zone's instances, and the names of all instances of the zone's VPCs.
func (b *builder) instances(d *zone.Desired) error {
	for i := range compute.Instances.All(b.tx) {
		v, ok := b.vpcs[i.Key(i.VpcID)]
		if !ok || i.PrivateIP == "" || i.State == compute.Terminated {
			continue
		}
		ip, err := netip.ParseAddr(i.PrivateIP)
		if err != nil {
			return fmt.Errorf("instance %s: %w", i.ID, err)
		}
		h := zone.Host{VPC: i.VpcID, IP: ip, Name: i.PrivateDNSName()}
		if i.PublicIP != "" && v.EnableDNSHostnames {
			h.Public, _ = netip.ParseAddr(i.PublicIP)
			h.PublicName = network.PublicDNSName(i.Region, i.PublicIP)
		}
		d.Hosts = append(d.Hosts, h)
		if i.AvailabilityZone != b.zone {
			continue
		}
		doc, err := b.document(i, v, ip)
		if err != nil {
			return err
		}
		d.Instances = append(d.Instances, doc)
	}
	return nil
}

func (b *builder) document(i compute.Instance, v network.VPC, ip netip.Addr) (zone.Instance, error) {
	userData, err := base64.StdEncoding.DecodeString(i.UserData)
	if err != nil {
		return zone.Instance{}, fmt.Errorf("instance %s: user data: %w", i.ID, err)
	}
	doc := zone.Instance{VPC: i.VpcID, IP: ip, Account: i.Account, Region: i.Region, Zone: i.AvailabilityZone, ZoneID: network.ZoneID(i.Region, i.AvailabilityZone),
		ID: i.ID, ImageID: i.ImageID, Type: i.InstanceType, Architecture: i.Architecture, ReservationID: i.ReservationID, LaunchIndex: i.AmiLaunchIndex,
		LaunchTime: i.LaunchTime, Monitoring: i.Monitoring, LocalHostname: i.PrivateDNSName(), PublicIP: i.PublicIP, KeyName: i.KeyName, PublicKey: b.publicKey(i),
		SecurityGroups: b.groupNames(i.Key, i.SecurityGroupIDs), UserData: userData, RootDevice: i.RootDeviceName,
		Options: zone.MetadataOptions{TokensRequired: i.MetadataOptions.HttpTokens == "required", Disabled: i.MetadataOptions.HttpEndpoint == "disabled",
			HopLimit: i.MetadataOptions.HttpPutResponseHopLimit, Tags: i.MetadataOptions.InstanceMetadataTags == "enabled"}}
	if v.EnableDNSHostnames {
		doc.PublicHostname = network.PublicDNSName(i.Region, i.PublicIP)
	}
	n := 0
	for _, dev := range i.BlockDevices {
		if dev.DeviceName != i.RootDeviceName {
			if doc.BlockDevices == nil {
				doc.BlockDevices = map[string]string{}
			}
			n++
			doc.BlockDevices[fmt.Sprintf("ebs%d", n)] = strings.TrimPrefix(dev.DeviceName, "/dev/")
		}
	}
	for e := range network.ENIs.By(b.tx, "instance", i.Key(i.ID)) {
		sn := b.subnets[e.Key(e.SubnetID)]
		f := zone.Interface{ID: e.ID, MAC: e.MAC, DeviceIndex: e.DeviceIndex, PrivateIP: e.PrivateIP, LocalHostname: network.PrivateDNSName(i.Region, e.PrivateIP),
			PublicIP: e.PublicIP, SecurityGroups: b.groupNames(e.Key, e.GroupIDs), SecurityGroupIDs: e.GroupIDs, SubnetID: e.SubnetID, SubnetCIDR: sn.CIDR,
			VpcID: e.VpcID, VpcCIDRs: []string{v.CIDR}}
		if v.EnableDNSHostnames {
			f.PublicHostname = network.PublicDNSName(i.Region, e.PublicIP)
		}
		doc.Interfaces = append(doc.Interfaces, f)
	}
	slices.SortFunc(doc.Interfaces, func(a, b zone.Interface) int { return a.DeviceIndex - b.DeviceIndex })
	if b.o.Credentials != nil && i.IamInstanceProfileArn != "" {
		if p, ok := b.o.Credentials(b.tx, i); ok {
			doc.Profile = &p
		}
	}
	if s := i.Spot; s != nil {
		doc.Spot = true
		if !s.EndsAt.IsZero() {
			doc.SpotTermination = s.EndsAt.UTC().Format(time.RFC3339)
			doc.SpotAction = `{"action":"terminate","time":"` + doc.SpotTermination + `"}`
		}
		if !s.RecommendedAt.IsZero() {
			doc.Rebalance = `{"noticeTime":"` + s.RecommendedAt.UTC().Format(time.RFC3339) + `"}`
		}
	}
	if b.o.Lifecycle != nil {
		doc.Lifecycle = b.o.Lifecycle(b.tx, i)
	}
	if doc.Options.Tags {
		doc.Tags = tag.Map(b.tx, i.Scope, i.ID)
	}
	return doc, nil
}

// publicKey is the key of the instance's key pair, as long as the pair exists.
func (b *builder) publicKey(i compute.Instance) string {
	if i.KeyName == "" {
		return ""
	}
	k := i.Key(i.KeyName)
	if v, ok := b.keys[k]; ok {
		return v
	}
	if kp, err := compute.GetKeyPair(b.tx, i.Scope, i.KeyName); err == nil {
		b.keys[k] = withComment(kp.PublicKey, i.KeyName)
	}
	return b.keys[k]
}

// withComment ends a public key's line with the key pair's name, as metadata shows it.
func withComment(key, name string) string {
	f := strings.Fields(key)
	if len(f) < 2 {
		return key
	}
	return f[0] + " " + f[1] + " " + name
}

func (b *builder) groupNames(key func(string) string, ids []string) []string {
	var out []string
	for _, id := range ids {
		k := key(id)
		name, ok := b.groups[k]
		if !ok {
			if g, found := network.SecurityGroups.Get(b.tx, k); found {
				name = g.Name
			}
			b.groups[k] = name
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// cookieKey is the key of a load balancer's cookies and of what it signs: the same at all of its nodes.
func cookieKey(secret []byte, arn string, created int64) []byte {
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "cookie %s %d", arn, created)
	return m.Sum(nil)
}

// Tables are those that Build reads: a change of another one changes no plan, unless a function of Options does.
var Tables = []store.AnyTable{network.VPCs, network.Subnets, network.ENIs, network.SecurityGroups, compute.Instances, compute.KeyPairs, tag.Tags,
	balance.LoadBalancers, balance.Listeners, balance.Rules, balance.TargetGroups, balance.Registrations, balance.Observations, balance.TrustStores, balance.Revocations, certificate.Certificates}
