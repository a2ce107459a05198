package elbapi

import (
	"errors"
	"slices"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/bucket"
	"skerry/internal/fault"
	"skerry/internal/store"
)

// object reads what a client names by bucket and key. Buckets here have no versions: "null" is S3's name for the only one.
func (s *Server) object(bucketName, key, version *string, max int64, missing func() error, large func() error) ([]byte, error) {
	if v := api.Val(version); v != "" && v != "null" {
		return nil, missing()
	}
	b, err := s.Buckets.Read(api.Val(bucketName), api.Val(key), max)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		f, _ := fault.As(missing())
		return nil, f.Wrap(err)
	case errors.Is(err, bucket.ErrTooLarge):
		return nil, large()
	}
	return b, err
}

func (s *Server) bundle(bucketName, key, version *string) ([]byte, error) {
	return s.object(bucketName, key, version, balance.MaxBundle, func() error {
		return fault.New(fault.NotFound, "CaCertificatesBundleNotFound", "The CA certificates bundle 's3://%s/%s' does not exist", api.Val(bucketName), api.Val(key))
	}, func() error {
		return fault.New(fault.Invalid, "InvalidCaCertificatesBundle", "The CA certificates bundle is larger than %d bytes", balance.MaxBundle)
	})
}

func toTrustStore(tx store.Tx, t balance.TrustStore) elbv2.TrustStore {
	return elbv2.TrustStore{Name: &t.Name, TrustStoreArn: &t.ARN, Status: api.Ptr("ACTIVE"), NumberOfCaCertificates: &t.Certificates, TotalRevokedEntries: api.Ptr(balance.RevokedEntries(tx, t))}
}

func (s *Server) createTrustStore(c *api.Call, in *elbv2.CreateTrustStoreInput) (*elbv2.CreateTrustStoreOutput, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	b, err := s.bundle(in.CaCertificatesBundleS3Bucket, in.CaCertificatesBundleS3Key, in.CaCertificatesBundleS3ObjectVersion)
	if err != nil {
		return nil, err
	}
	out := &elbv2.CreateTrustStoreOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		t, err := balance.CreateTrustStore(w, c.Scope(), api.Val(in.Name), b, tags)
		if err != nil {
			return err
		}
		out.TrustStores = []elbv2.TrustStore{toTrustStore(w, t)}
		return nil
	})
}

func (s *Server) modifyTrustStore(c *api.Call, in *elbv2.ModifyTrustStoreInput) (*elbv2.ModifyTrustStoreOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "ModifyTrustStore", arn); err != nil {
		return nil, err
	}
	b, err := s.bundle(in.CaCertificatesBundleS3Bucket, in.CaCertificatesBundleS3Key, in.CaCertificatesBundleS3ObjectVersion)
	if err != nil {
		return nil, err
	}
	out := &elbv2.ModifyTrustStoreOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		t, err := balance.ModifyTrustStore(w, c.Scope(), arn, b)
		if err != nil {
			return err
		}
		out.TrustStores = []elbv2.TrustStore{toTrustStore(w, t)}
		return nil
	})
}

func (s *Server) deleteTrustStore(c *api.Call, in *elbv2.DeleteTrustStoreInput) (*elbv2.DeleteTrustStoreOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeleteTrustStore", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.DeleteTrustStore(w, c.Scope(), arn) })
}

func (s *Server) describeTrustStores(c *api.Call, in *elbv2.DescribeTrustStoresInput) (*elbv2.DescribeTrustStoresOutput, error) {
	if len(in.TrustStoreArns) > 0 && len(in.Names) > 0 {
		return nil, invalid("Trust store names and ARNs cannot be specified at the same time")
	}
	missing := fault.New(fault.NotFound, "TrustStoreNotFound", "One or more trust stores not found")
	out := &elbv2.DescribeTrustStoresOutput{TrustStores: []elbv2.TrustStore{}}
	return out, c.View(func(tx store.Tx) error {
		var rows []balance.TrustStore
		for _, arn := range in.TrustStoreArns {
			t, err := balance.GetTrustStore(tx, c.Scope(), arn)
			if fault.Is(err, fault.NotFound) {
				return missing
			}
			if err != nil {
				return err
			}
			rows = append(rows, t)
		}
		for _, name := range in.Names {
			n := len(rows)
			for t := range balance.TrustStores.By(tx, "name", c.Scope().Key(name)) {
				rows = append(rows, t)
			}
			if len(rows) == n {
				return missing
			}
		}
		if len(in.TrustStoreArns) == 0 && len(in.Names) == 0 {
			for t := range balance.TrustStores.Prefix(tx, c.Scope().Prefix()) {
				rows = append(rows, t)
			}
		}
		rows, next, err := page(rows, func(t balance.TrustStore) string { return t.ARN }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, t := range rows {
			out.TrustStores = append(out.TrustStores, toTrustStore(tx, t))
		}
		return nil
	})
}

func (s *Server) describeTrustStoreAssociations(c *api.Call, in *elbv2.DescribeTrustStoreAssociationsInput) (*elbv2.DescribeTrustStoreAssociationsOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeTrustStoreAssociationsOutput{TrustStoreAssociations: []elbv2.TrustStoreAssociation{}}
	return out, c.View(func(tx store.Tx) error {
		t, err := balance.GetTrustStore(tx, c.Scope(), arn)
		if err != nil {
			return err
		}
		rows, next, err := page(balance.AssociationsOf(tx, t), func(a string) string { return a }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, a := range rows {
			out.TrustStoreAssociations = append(out.TrustStoreAssociations, elbv2.TrustStoreAssociation{ResourceArn: api.Ptr(a)})
		}
		return nil
	})
}

// deleteSharedTrustStoreAssociation: trust stores are not shared between accounts here, so every association is the account's own.
func (s *Server) deleteSharedTrustStoreAssociation(c *api.Call, in *elbv2.DeleteSharedTrustStoreAssociationInput) (*elbv2.DeleteSharedTrustStoreAssociationOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	resource, err := required(in.ResourceArn, "resourceArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeleteSharedTrustStoreAssociation", arn); err != nil {
		return nil, err
	}
	return nil, c.View(func(tx store.Tx) error {
		t, err := balance.GetTrustStore(tx, c.Scope(), arn)
		if err != nil {
			return err
		}
		if slices.Contains(balance.AssociationsOf(tx, t), resource) {
			return fault.New(fault.Invalid, "DeleteAssociationSameAccount", "The association of trust store '%s' with '%s' is within the same account", arn, resource)
		}
		return fault.New(fault.NotFound, "AssociationNotFound", "Trust store '%s' is not associated with '%s'", arn, resource)
	})
}

// getResourcePolicy: a resource has a policy once it is shared, which nothing is here.
func (s *Server) getResourcePolicy(c *api.Call, in *elbv2.GetResourcePolicyInput) (*elbv2.GetResourcePolicyOutput, error) {
	arn, err := required(in.ResourceArn, "resourceArn")
	if err != nil {
		return nil, err
	}
	return nil, c.View(func(tx store.Tx) error {
		if _, err := balance.GetTrustStore(tx, c.Scope(), arn); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		return fault.New(fault.NotFound, "ResourceNotFound", "The resource '%s' has no resource policy", arn)
	})
}

func (s *Server) addTrustStoreRevocations(c *api.Call, in *elbv2.AddTrustStoreRevocationsInput) (*elbv2.AddTrustStoreRevocationsOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	if len(in.RevocationContents) == 0 {
		return nil, invalid("At least one revocation content must be specified")
	}
	if err := authorize(c, "AddTrustStoreRevocations", arn); err != nil {
		return nil, err
	}
	var contents [][]byte
	for _, r := range in.RevocationContents {
		if t := api.Val(r.RevocationType); t != "" && t != "CRL" {
			return nil, invalid("Revocation type '%s' must be one of 'CRL'", t)
		}
		b, err := s.object(r.S3Bucket, r.S3Key, r.S3ObjectVersion, balance.MaxRevocationContent, func() error {
			return fault.New(fault.NotFound, "RevocationContentNotFound", "The revocation content 's3://%s/%s' does not exist", api.Val(r.S3Bucket), api.Val(r.S3Key))
		}, func() error {
			return fault.New(fault.Invalid, "InvalidRevocationContent", "The revocation content is larger than %d bytes", balance.MaxRevocationContent)
		})
		if err != nil {
			return nil, err
		}
		contents = append(contents, b)
	}
	out := &elbv2.AddTrustStoreRevocationsOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		added, err := balance.AddRevocations(w, c.Scope(), arn, contents)
		for _, r := range added {
			out.TrustStoreRevocations = append(out.TrustStoreRevocations, elbv2.TrustStoreRevocation{TrustStoreArn: api.Ptr(arn), RevocationId: api.Ptr(r.ID), RevocationType: api.Ptr("CRL"), NumberOfRevokedEntries: api.Ptr(r.Entries)})
		}
		return err
	})
}

func (s *Server) removeTrustStoreRevocations(c *api.Call, in *elbv2.RemoveTrustStoreRevocationsInput) (*elbv2.RemoveTrustStoreRevocationsOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	if len(in.RevocationIds) == 0 {
		return nil, invalid("At least one revocation ID must be specified")
	}
	if err := authorize(c, "RemoveTrustStoreRevocations", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.RemoveRevocations(w, c.Scope(), arn, in.RevocationIds) })
}

func (s *Server) describeTrustStoreRevocations(c *api.Call, in *elbv2.DescribeTrustStoreRevocationsInput) (*elbv2.DescribeTrustStoreRevocationsOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeTrustStoreRevocationsOutput{TrustStoreRevocations: []elbv2.DescribeTrustStoreRevocation{}}
	return out, c.View(func(tx store.Tx) error {
		t, err := balance.GetTrustStore(tx, c.Scope(), arn)
		if err != nil {
			return err
		}
		rows := balance.RevocationsOf(tx, t)
		if len(in.RevocationIds) > 0 {
			rows = nil
			for _, id := range in.RevocationIds {
				r, err := balance.GetRevocation(tx, c.Scope(), arn, id)
				if err != nil {
					return err
				}
				rows = append(rows, r)
			}
		}
		rows, next, err := page(rows, func(r balance.Revocation) string { return revocationMarker(r.ID) }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, r := range rows {
			out.TrustStoreRevocations = append(out.TrustStoreRevocations, elbv2.DescribeTrustStoreRevocation{TrustStoreArn: api.Ptr(arn), RevocationId: api.Ptr(r.ID), RevocationType: api.Ptr("CRL"), NumberOfRevokedEntries: api.Ptr(r.Entries)})
		}
		return nil
	})
}

func (s *Server) getTrustStoreCaCertificatesBundle(c *api.Call, in *elbv2.GetTrustStoreCaCertificatesBundleInput) (*elbv2.GetTrustStoreCaCertificatesBundleOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "GetTrustStoreCaCertificatesBundle", arn); err != nil {
		return nil, err
	}
	out := &elbv2.GetTrustStoreCaCertificatesBundleOutput{}
	return out, c.View(func(tx store.Tx) error {
		if _, err := balance.GetTrustStore(tx, c.Scope(), arn); err != nil {
			return err
		}
		out.Location = api.Ptr(s.Contents.location(c, arn, 0))
		return nil
	})
}

func (s *Server) getTrustStoreRevocationContent(c *api.Call, in *elbv2.GetTrustStoreRevocationContentInput) (*elbv2.GetTrustStoreRevocationContentOutput, error) {
	arn, err := required(in.TrustStoreArn, "trustStoreArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "GetTrustStoreRevocationContent", arn); err != nil {
		return nil, err
	}
	out := &elbv2.GetTrustStoreRevocationContentOutput{}
	return out, c.View(func(tx store.Tx) error {
		id := api.Val(in.RevocationId)
		if _, err := balance.GetRevocation(tx, c.Scope(), arn, id); err != nil {
			return err
		}
		out.Location = api.Ptr(s.Contents.location(c, arn, id))
		return nil
	})
}
