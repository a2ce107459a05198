package zoneplan

import (
	"cmp"
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
	"skerry/internal/zone"
)

// networks fills in the VPCs that have something in the zone, and the names of all their hosts.
func networks(tx store.Tx, d *zone.Desired, o Options) {
	for v := range network.VPCs.All(tx) {
		here := false
		var hosts []zone.Host
		for e := range network.ENIs.By(tx, "vpc", v.Key(v.ID)) {
			here = here || e.AvailabilityZone == d.Zone
			h := zone.Host{VPC: v.ID, IP: addr(e.PrivateIP), Name: network.PrivateDNSName(v.Region, e.PrivateIP)}
			if e.PublicIP != "" {
				h.Public = addr(e.PublicIP)
				h.PublicName = network.PublicDNSName(v.Region, e.PublicIP)
			}
			hosts = append(hosts, h)
		}
		if !here {
			continue
		}
		offset := 0
		for i, z := range network.Zones(v.Region) {
			if z.Name == d.Zone {
				offset = i
			}
		}
		d.VPCs = append(d.VPCs, zone.VPC{ID: v.ID, Namespace: o.Namespace(v.ID), PortOffset: uint16(offset), Region: v.Region, CIDR: netip.MustParsePrefix(v.CIDR),
			DNSSupport: v.EnableDNSSupport, DNSHostname: v.EnableDNSHostnames})
		d.Hosts = append(d.Hosts, hosts...)
	}
	slices.SortFunc(d.VPCs, func(a, b zone.VPC) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Hosts, func(a, b zone.Host) int { return cmp.Or(cmp.Compare(a.VPC, b.VPC), a.IP.Compare(b.IP)) })
}

// instances fills in the metadata of the zone's instances that have an address.
func instances(tx store.Tx, d *zone.Desired, o Options) {
	for _, state := range []string{compute.Pending, compute.Running, compute.Stopping, compute.ShuttingDown} {
		for i := range compute.Instances.By(tx, "state", state) {
			if i.AvailabilityZone == d.Zone && i.PrivateIP != "" {
				d.Instances = append(d.Instances, document(tx, i, o))
			}
		}
	}
	slices.SortFunc(d.Instances, func(a, b zone.Instance) int { return cmp.Compare(a.ID, b.ID) })
}

// document is what the metadata service says about one instance.
func document(tx store.Tx, i compute.Instance, o Options) zone.Instance {
	m := zone.Instance{VPC: i.VpcID, IP: addr(i.PrivateIP), Account: i.Account, Region: i.Region, Zone: i.AvailabilityZone, ZoneID: network.ZoneID(i.Region, i.AvailabilityZone),
		ID: i.ID, ImageID: i.ImageID, Type: i.InstanceType, Architecture: i.Architecture, ReservationID: i.ReservationID, LaunchIndex: i.AmiLaunchIndex, LaunchTime: i.LaunchTime,
		Monitoring: i.Monitoring, LocalHostname: i.PrivateDNSName(), PublicIP: i.PublicIP, PublicHostname: network.PublicDNSName(i.Region, i.PublicIP), KeyName: i.KeyName,
		RootDevice: i.RootDeviceName, BlockDevices: map[string]string{},
		Options: zone.MetadataOptions{TokensRequired: i.MetadataOptions.HttpTokens == "required", Disabled: i.MetadataOptions.HttpEndpoint == "disabled",
			HopLimit: max(1, i.MetadataOptions.HttpPutResponseHopLimit), Tags: i.MetadataOptions.InstanceMetadataTags == "enabled"}}
	m.UserData, _ = base64.StdEncoding.DecodeString(i.UserData) // checked when it was given
	for k := range compute.KeyPairs.By(tx, "name", i.Key(i.KeyName)) {
		m.PublicKey = k.PublicKey
	}
	n := 0
	for _, b := range i.BlockDevices {
		if b.DeviceName != i.RootDeviceName {
			n++
			m.BlockDevices["ebs"+strconv.Itoa(n)] = strings.TrimPrefix(b.DeviceName, "/dev/")
		}
	}
	for e := range network.ENIs.By(tx, "instance", i.Key(i.ID)) {
		m.Interfaces = append(m.Interfaces, networkInterface(tx, i.Scope, e))
	}
	slices.SortFunc(m.Interfaces, func(a, b zone.Interface) int { return cmp.Compare(a.DeviceIndex, b.DeviceIndex) })
	m.SecurityGroups = groupNames(tx, i.Scope, i.SecurityGroupIDs)
	if o.Credentials != nil {
		if p, ok := o.Credentials(tx, i); ok {
			m.Profile = &p
		}
	}
	if o.Lifecycle != nil {
		m.Lifecycle = o.Lifecycle(tx, i)
	}
	if m.Options.Tags {
		m.Tags = tag.Map(tx, i.Scope, i.ID)
	}
	return m
}

func networkInterface(tx store.Tx, s scope.Scope, e network.ENI) zone.Interface {
	f := zone.Interface{ID: e.ID, MAC: e.MAC, DeviceIndex: e.DeviceIndex, PrivateIP: e.PrivateIP, LocalHostname: network.PrivateDNSName(s.Region, e.PrivateIP),
		PublicIP: e.PublicIP, PublicHostname: network.PublicDNSName(s.Region, e.PublicIP), SecurityGroupIDs: e.GroupIDs, SecurityGroups: groupNames(tx, s, e.GroupIDs),
		SubnetID: e.SubnetID, VpcID: e.VpcID}
	if sn, ok := network.Subnets.Get(tx, s.Key(e.SubnetID)); ok {
		f.SubnetCIDR = sn.CIDR
	}
	if v, ok := network.VPCs.Get(tx, s.Key(e.VpcID)); ok {
		f.VpcCIDRs = []string{v.CIDR}
	}
	return f
}

func groupNames(tx store.Tx, s scope.Scope, ids []string) []string {
	var out []string
	for _, id := range ids {
		if g, ok := network.SecurityGroups.Get(tx, s.Key(id)); ok {
			out = append(out, g.Name)
		}
	}
	return out
}

func addr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}
