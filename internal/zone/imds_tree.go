package zone

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The versions of the metadata service, oldest first. Every one serves the same tree.
var imdsVersions = []string{"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
	"2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30",
	"2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15",
	"2022-09-24", "2024-04-11", "latest"}

// item is one answer of the tree.
type item struct {
	body   []byte
	secret bool // credentials: not to be cached
	binary bool
}

// dir is an inner node: names to *dir, or to leaves (string, []byte, item). A missing value is a missing name.
type dir map[string]any

// put adds a leaf unless it is empty.
func (d dir) put(name, value string) {
	if value != "" {
		d[name] = value
	}
}

// keyDir is the public-keys directory, whose listing shows N=NAME.
type keyDir struct {
	dir
	names map[string]string
}

// lookupItem finds a path in an instance's tree. A directory answers with its listing, with or without a slash behind.
func lookupItem(in *Instance, path string, signer *documentSigner) (item, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "" {
		return item{body: []byte(strings.Join(imdsVersions, "\n"))}, len(parts) == 1
	}
	if !slices.Contains(imdsVersions, parts[0]) {
		return item{}, false
	}
	var node any = root(in, signer)
	for i, p := range parts[1:] {
		if p == "" {
			continue
		}
		var next any
		var ok bool
		switch d := node.(type) {
		case dir:
			next, ok = d[p]
		case keyDir:
			next, ok = d.dir[p]
		case versionDir:
			next, ok = d.dir[p]
		case tagDir:
			// A tag's key may contain a slash: the rest of the path is the key.
			next, ok = d[strings.Join(parts[1+i:], "/")]
			if ok {
				return item{body: []byte(next.(string))}, true
			}
		}
		if !ok {
			return item{}, false
		}
		node = next
	}
	return render(node)
}

// versionDir is a version's directory, whose listing has no slashes.
type versionDir struct{ dir }

// tagDir is tags/instance: leaves only.
type tagDir map[string]any

func render(node any) (item, bool) {
	switch v := node.(type) {
	case string:
		return item{body: []byte(v)}, true
	case item:
		return v, true
	case func() (item, bool):
		return v()
	case keyDir:
		var lines []string
		for _, k := range slices.Sorted(maps.Keys(v.names)) {
			lines = append(lines, k+"="+v.names[k])
		}
		return item{body: []byte(strings.Join(lines, "\n"))}, true
	case versionDir:
		return item{body: []byte(strings.Join(slices.Sorted(maps.Keys(v.dir)), "\n"))}, true
	case tagDir:
		return item{body: []byte(strings.Join(slices.Sorted(maps.Keys(v)), "\n"))}, true
	case dir:
		var lines []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			switch v[k].(type) {
			case dir, keyDir, tagDir:
				k += "/"
			}
			lines = append(lines, k)
		}
		return item{body: []byte(strings.Join(lines, "\n"))}, true
	}
	return item{}, false
}

func root(in *Instance, signer *documentSigner) versionDir {
	top := dir{"meta-data": metaData(in), "dynamic": dynamic(in, signer)}
	if len(in.UserData) > 0 {
		top["user-data"] = item{body: in.UserData, binary: true}
	}
	return versionDir{top}
}

func metaData(in *Instance) dir {
	d := dir{
		"ami-id":               in.ImageID,
		"ami-launch-index":     strconv.Itoa(in.LaunchIndex),
		"ami-manifest-path":    "(unknown)",
		"hostname":             in.LocalHostname,
		"local-hostname":       in.LocalHostname,
		"local-ipv4":           in.IP.String(),
		"instance-id":          in.ID,
		"instance-type":        in.Type,
		"instance-action":      "none",
		"instance-life-cycle":  "on-demand",
		"profile":              "default-hvm",
		"reservation-id":       in.ReservationID,
		"security-groups":      strings.Join(in.SecurityGroups, "\n"),
		"system":               "nitro",
		"hibernation":          dir{"configured": "false"},
		"metrics":              dir{"vhostmd": `<?xml version="1.0" encoding="UTF-8"?>`},
		"services":             dir{"domain": "amazonaws.com", "partition": "aws"},
		"placement":            dir{"availability-zone": in.Zone, "availability-zone-id": in.ZoneID, "region": in.Region},
		"block-device-mapping": blockDevices(in),
	}
	events := dir{"maintenance": dir{"history": "[]", "scheduled": "[]"}}
	if in.Rebalance != "" {
		events["recommendations"] = dir{"rebalance": in.Rebalance}
	}
	d["events"] = events
	d.put("public-ipv4", in.PublicIP)
	d.put("public-hostname", in.PublicHostname)
	if in.Lifecycle != "" {
		d["autoscaling"] = dir{"target-lifecycle-state": in.Lifecycle}
	}
	if in.KeyName != "" && in.PublicKey != "" {
		d["public-keys"] = keyDir{dir: dir{"0": dir{"openssh-key": strings.TrimSpace(in.PublicKey)}}, names: map[string]string{"0": in.KeyName}}
	}
	if in.Profile != nil {
		d["iam"] = iam(in.Profile)
	}
	if in.SpotAction != "" {
		s := dir{"instance-action": in.SpotAction}
		s.put("termination-time", in.SpotTermination)
		d["spot"] = s
	}
	if in.Spot {
		d["instance-life-cycle"] = "spot"
	}
	if in.Options.Tags {
		t := tagDir{}
		for k, v := range in.Tags {
			t[k] = v
		}
		d["tags"] = dir{"instance": t}
	}
	macs := dir{}
	for _, n := range in.Interfaces {
		macs[n.MAC] = networkInterface(in, n)
		if n.DeviceIndex == 0 {
			d.put("mac", n.MAC)
		}
	}
	if len(macs) > 0 {
		d["network"] = dir{"interfaces": dir{"macs": macs}}
	}
	return d
}

func blockDevices(in *Instance) dir {
	rootDevice := in.RootDevice
	if rootDevice == "" {
		rootDevice = "/dev/xvda"
	}
	d := dir{"ami": rootDevice, "root": rootDevice}
	for k, v := range in.BlockDevices {
		d[k] = v
	}
	return d
}

func networkInterface(in *Instance, n Interface) dir {
	d := dir{
		"device-number":          strconv.Itoa(n.DeviceIndex),
		"interface-id":           n.ID,
		"local-hostname":         n.LocalHostname,
		"local-ipv4s":            n.PrivateIP,
		"mac":                    n.MAC,
		"owner-id":               in.Account,
		"security-groups":        strings.Join(n.SecurityGroups, "\n"),
		"security-group-ids":     strings.Join(n.SecurityGroupIDs, "\n"),
		"subnet-id":              n.SubnetID,
		"subnet-ipv4-cidr-block": n.SubnetCIDR,
		"vpc-id":                 n.VpcID,
		"vpc-ipv4-cidr-blocks":   strings.Join(n.VpcCIDRs, "\n"),
	}
	if len(n.VpcCIDRs) > 0 {
		d["vpc-ipv4-cidr-block"] = n.VpcCIDRs[0]
	}
	if n.PublicIP != "" {
		d["public-ipv4s"] = n.PublicIP
		d["ipv4-associations"] = dir{n.PublicIP: n.PrivateIP}
		d.put("public-hostname", n.PublicHostname)
	}
	return d
}

// iam is the profile and its role. A profile whose role is gone, or whose credentials could not be had, says so in the
// form that SDKs expect (Code is not Success).
func iam(p *Profile) dir {
	info := fmt.Sprintf("{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : %s,\n  \"InstanceProfileArn\" : %s,\n  \"InstanceProfileId\" : %s\n}",
		quote(p.lastUpdated()), quote(p.ARN), quote(p.ID))
	d := dir{"info": item{body: []byte(info), secret: true}}
	if p.Role == "" {
		return d
	}
	c := p.Credentials
	var body string
	if c == nil {
		body = fmt.Sprintf("{\n  \"Code\" : \"AssumeRoleUnauthorizedAccess\",\n  \"Message\" : \"EC2 cannot assume the role %s.\",\n  \"LastUpdated\" : %s\n}", p.Role, quote(p.lastUpdated()))
	} else {
		body = fmt.Sprintf("{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : %s,\n  \"Type\" : \"AWS-HMAC\",\n  \"AccessKeyId\" : %s,\n  \"SecretAccessKey\" : %s,\n  \"Token\" : %s,\n  \"Expiration\" : %s\n}",
			quote(rfc3339(c.LastUpdated)), quote(c.AccessKeyID), quote(c.SecretAccessKey), quote(c.Token), quote(rfc3339(c.Expiration)))
	}
	d["security-credentials"] = dir{p.Role: item{body: []byte(body), secret: true}}
	return d
}

func (p *Profile) lastUpdated() string {
	if p.Credentials == nil {
		return rfc3339(time.Unix(0, 0))
	}
	return rfc3339(p.Credentials.LastUpdated)
}

func rfc3339(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func dynamic(in *Instance, signer *documentSigner) dir {
	monitoring := "disabled"
	if in.Monitoring {
		monitoring = "enabled"
	}
	doc := identityDocument(in)
	id := dir{"document": doc}
	if signer != nil {
		for name, sign := range map[string]func(string) (string, error){"signature": signer.signature, "pkcs7": signer.pkcs7, "rsa2048": signer.pkcs7} {
			id[name] = func() (item, bool) {
				s, err := sign(doc)
				return item{body: []byte(s)}, err == nil
			}
		}
	}
	return dir{"fws": dir{"instance-monitoring": monitoring}, "instance-identity": id}
}

// identityDocument is the instance identity document, its keys in the order and layout that its readers know.
func identityDocument(in *Instance) string {
	arch := in.Architecture
	if arch == "" {
		arch = "x86_64"
	}
	return fmt.Sprintf(`{
  "accountId" : %s,
  "architecture" : %s,
  "availabilityZone" : %s,
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : null,
  "imageId" : %s,
  "instanceId" : %s,
  "instanceType" : %s,
  "kernelId" : null,
  "pendingTime" : %s,
  "privateIp" : %s,
  "ramdiskId" : null,
  "region" : %s,
  "version" : "2017-09-30"
}`, quote(in.Account), quote(arch), quote(in.Zone), quote(in.ImageID), quote(in.ID), quote(in.Type), quote(rfc3339(in.LaunchTime)), quote(in.IP.String()), quote(in.Region))
}
