package ec2api

import (
	"slices"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/store"
)

func (s *Server) registerKeys(m *api.Mux) {
	on(m, ec2.CreateKeyPair, s.createKeyPair)
	on(m, ec2.ImportKeyPair, s.importKeyPair)
	on(m, ec2.DeleteKeyPair, s.deleteKeyPair)
	on(m, ec2.DescribeKeyPairs, s.describeKeyPairs)
}

func (s *Server) createKeyPair(c *api.Call, in *ec2.CreateKeyPairRequest) (*ec2.KeyPair, error) {
	name, err := need("KeyName", in.KeyName)
	if err != nil {
		return nil, err
	}
	switch f := api.Val(in.KeyFormat); f {
	case "", "pem":
	case "ppk":
		return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "KeyFormat ppk is not supported; pem is.")
	default:
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter keyFormat is invalid. Valid values are: pem, ppk.", f)
	}
	if _, err := compute.GetKeyPair(c.DB.Read(), c.Scope(), name); err == nil { // before the work of making one
		return nil, fault.New(fault.Exists, "InvalidKeyPair.Duplicate", "The keypair '%s' already exists.", name)
	}
	m, err := compute.GenerateKey(s.random(), api.Val(in.KeyType))
	if err != nil {
		return nil, err
	}
	k, tags, err := s.putKey(c, name, m, in.TagSpecifications)
	return &ec2.KeyPair{KeyName: ptr(k.Name), KeyPairId: ptr(k.ID), KeyFingerprint: ptr(k.Fingerprint), KeyMaterial: ptr(m.PrivatePEM), Tags: tags}, err
}

func (s *Server) putKey(c *api.Call, name string, m compute.KeyMaterial, specs []ec2.TagSpecification) (k compute.KeyPair, tags []ec2.Tag, err error) {
	err = c.Update(func(w *store.WriteTx) error {
		if k, err = compute.CreateKeyPair(w, c.Scope(), name, m); err != nil {
			return err
		}
		if err := tagged(w, c.Scope(), k.ID, "key-pair", specs); err != nil {
			return err
		}
		tags = tagsOf(w, c.Scope(), k.ID)
		return nil
	})
	return k, tags, err
}

func (s *Server) importKeyPair(c *api.Call, in *ec2.ImportKeyPairRequest) (*ec2.ImportKeyPairResult, error) {
	name, err := need("KeyName", in.KeyName)
	if err != nil {
		return nil, err
	}
	if len(in.PublicKeyMaterial) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter PublicKeyMaterial")
	}
	m, err := compute.ParsePublicKey(in.PublicKeyMaterial)
	if err != nil {
		return nil, err
	}
	k, tags, err := s.putKey(c, name, m, in.TagSpecifications)
	return &ec2.ImportKeyPairResult{KeyName: ptr(k.Name), KeyPairId: ptr(k.ID), KeyFingerprint: ptr(k.Fingerprint), Tags: tags}, err
}

func (s *Server) deleteKeyPair(c *api.Call, in *ec2.DeleteKeyPairRequest) (*ec2.DeleteKeyPairResult, error) {
	if api.Val(in.KeyName) == "" && api.Val(in.KeyPairId) == "" {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter KeyName or KeyPairId")
	}
	var k compute.KeyPair
	err := c.Update(func(w *store.WriteTx) error {
		k = compute.DeleteKeyPair(w, c.Scope(), api.Val(in.KeyName), api.Val(in.KeyPairId))
		return nil
	})
	return &ec2.DeleteKeyPairResult{Return: ptr(true), KeyPairId: str(k.ID)}, err
}

type keyInfo = ec2.KeyPairInfo

var keyListing = listing[compute.KeyPair, keyInfo]{
	table: compute.KeyPairs, ids: keyIDs, id: func(k compute.KeyPair) string { return k.ID },
	kind: describe.Kind[keyInfo]{Tags: eachTag(func(v *keyInfo) []ec2.Tag { return v.Tags }), Filters: attrs[keyInfo]{
		"key-pair-id": field(func(v *keyInfo) *string { return v.KeyPairId }), "fingerprint": field(func(v *keyInfo) *string { return v.KeyFingerprint }), "key-name": field(func(v *keyInfo) *string { return v.KeyName }),
	}},
	convert: func(tx store.Tx, k compute.KeyPair) ec2.KeyPairInfo {
		return ec2.KeyPairInfo{KeyName: ptr(k.Name), KeyPairId: ptr(k.ID), KeyType: ptr(k.Type), KeyFingerprint: ptr(k.Fingerprint), PublicKey: ptr(k.PublicKey), CreateTime: when(k.CreatedAt), Tags: tagsOf(tx, k.Scope, k.ID)}
	},
}

func (s *Server) describeKeyPairs(c *api.Call, in *ec2.DescribeKeyPairsRequest) (*ec2.DescribeKeyPairsResult, error) {
	ids := slices.Clone(in.KeyPairIds)
	tx := c.DB.Read()
	for _, name := range in.KeyNames {
		k, err := compute.GetKeyPair(tx, c.Scope(), name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, k.ID)
	}
	out, _, err := keyListing.describe(c, ids, in.Filters, nil, nil)
	if !api.Val(in.IncludePublicKey) {
		for i := range out {
			out[i].PublicKey = nil
		}
	}
	return &ec2.DescribeKeyPairsResult{KeyPairs: out}, err
}
