package acmapi

import (
	"encoding/base64"
	"slices"

	"skerry/api"
	"skerry/api/acm"
	"skerry/internal/certificate"
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// defaultPage is how many certificates a page has when the client names no number.
const defaultPage = 100

// Server serves ACM. UsedBy lists the ARNs of what uses a certificate.
type Server struct {
	UsedBy func(tx store.Tx, s scope.Scope, certificateARN string) []string
}

// Register joins the operations to their handlers.
func (s *Server) Register(m *api.Mux) {
	api.Handle(m, acm.ImportCertificate, s.importCertificate)
	api.Handle(m, acm.DescribeCertificate, s.describeCertificate)
	api.Handle(m, acm.GetCertificate, s.getCertificate)
	api.Handle(m, acm.ListCertificates, s.listCertificates)
	api.Handle(m, acm.DeleteCertificate, s.deleteCertificate)
	api.Handle(m, acm.AddTagsToCertificate, s.addTagsToCertificate)
	api.Handle(m, acm.RemoveTagsFromCertificate, s.removeTagsFromCertificate)
	api.Handle(m, acm.ListTagsForCertificate, s.listTagsForCertificate)
	api.Handle(m, acm.UpdateCertificateOptions, s.updateCertificateOptions)
}

func (s *Server) importCertificate(c *api.Call, in *acm.ImportCertificateRequest) (*acm.ImportCertificateResponse, error) {
	var out certificate.Certificate
	err := c.Update(func(w *store.WriteTx) (err error) {
		out, err = certificate.Import(w, c.Scope(), certificate.Params{ARN: api.Val(in.CertificateArn), Certificate: in.Certificate, Chain: in.CertificateChain, Key: in.PrivateKey, Tags: tagMap(in.Tags)})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &acm.ImportCertificateResponse{CertificateArn: &out.ARN}, nil
}

// view finds a certificate and what uses it.
func (s *Server) view(c *api.Call, arn *string) (out certificate.Certificate, usedBy []string, err error) {
	err = c.View(func(tx store.Tx) error {
		if out, err = certificate.Get(tx, c.Scope(), api.Val(arn)); err == nil {
			usedBy = s.UsedBy(tx, c.Scope(), out.ARN)
		}
		return err
	})
	return out, usedBy, err
}

func (s *Server) describeCertificate(c *api.Call, in *acm.DescribeCertificateRequest) (*acm.DescribeCertificateResponse, error) {
	x, usedBy, err := s.view(c, in.CertificateArn)
	if err != nil {
		return nil, err
	}
	d := &acm.CertificateDetail{CertificateArn: &x.ARN, DomainName: &x.DomainName, SubjectAlternativeNames: x.Names, Subject: &x.Subject, Issuer: &x.Issuer, Serial: &x.Serial,
		KeyAlgorithm: &x.KeyAlgorithm, SignatureAlgorithm: &x.SignatureAlgo, NotBefore: &x.NotBefore, NotAfter: &x.NotAfter, ImportedAt: &x.ImportedAt, CreatedAt: &x.ImportedAt,
		InUseBy: usedBy, Status: api.Ptr(status(c, x)), Type: api.Ptr("IMPORTED"), RenewalEligibility: api.Ptr("INELIGIBLE"),
		Options: &acm.CertificateOptions{CertificateTransparencyLoggingPreference: &x.TransparencyLogging, Export: api.Ptr("DISABLED")}}
	if d.InUseBy == nil {
		d.InUseBy = []string{}
	}
	for _, u := range x.KeyUsages {
		d.KeyUsages = append(d.KeyUsages, acm.KeyUsage{Name: &u})
	}
	for _, u := range x.ExtendedKeyUsages {
		d.ExtendedKeyUsages = append(d.ExtendedKeyUsages, acm.ExtendedKeyUsage{Name: &u})
	}
	return &acm.DescribeCertificateResponse{Certificate: d}, nil
}

func status(c *api.Call, x certificate.Certificate) string {
	if c.Now.After(x.NotAfter) {
		return "EXPIRED"
	}
	return "ISSUED"
}

func (s *Server) getCertificate(c *api.Call, in *acm.GetCertificateRequest) (*acm.GetCertificateResponse, error) {
	x, _, err := s.view(c, in.CertificateArn)
	if err != nil {
		return nil, err
	}
	out := &acm.GetCertificateResponse{Certificate: &x.Certificate}
	if x.Chain != "" {
		out.CertificateChain = &x.Chain
	}
	return out, nil
}

func (s *Server) listCertificates(c *api.Call, in *acm.ListCertificatesRequest) (*acm.ListCertificatesResponse, error) {
	keyTypes := []string{"RSA_1024", "RSA_2048"} // what a request without the filter sees: so it was before other keys came
	if in.Includes != nil && len(in.Includes.KeyTypes) > 0 {
		keyTypes = in.Includes.KeyTypes
	}
	var all []acm.CertificateSummary
	c.View(func(tx store.Tx) error {
		for x := range certificate.Certificates.Prefix(tx, c.Scope().Prefix()) {
			st := status(c, x)
			if !slices.Contains(keyTypes, x.KeyAlgorithm) || len(in.CertificateStatuses) > 0 && !slices.Contains(in.CertificateStatuses, st) {
				continue
			}
			if f := in.Includes; f != nil && (!anyOf(f.KeyUsage, x.KeyUsages) || !anyOf(f.ExtendedKeyUsage, x.ExtendedKeyUsages) ||
				f.ManagedBy != nil || f.ExportOption != nil && *f.ExportOption != "DISABLED") { // nobody manages an imported one, and none can be exported
				continue
			}
			all = append(all, acm.CertificateSummary{CertificateArn: &x.ARN, DomainName: &x.DomainName, SubjectAlternativeNameSummaries: x.Names, HasAdditionalSubjectAlternativeNames: api.Ptr(false),
				Status: &st, Type: api.Ptr("IMPORTED"), KeyAlgorithm: &x.KeyAlgorithm, KeyUsages: x.KeyUsages, ExtendedKeyUsages: x.ExtendedKeyUsages, NotBefore: &x.NotBefore, NotAfter: &x.NotAfter,
				ImportedAt: &x.ImportedAt, CreatedAt: &x.ImportedAt, InUse: api.Ptr(len(s.UsedBy(tx, c.Scope(), x.ARN)) > 0), RenewalEligibility: api.Ptr("INELIGIBLE")})
		}
		return nil
	})
	if err := order(all, in); err != nil {
		return nil, err
	}
	from := 0
	if t := api.Val(in.NextToken); t != "" {
		b, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil {
			return nil, fault.New(fault.Invalid, "ValidationException", "The NextToken is not valid.")
		}
		if from = slices.IndexFunc(all, func(x acm.CertificateSummary) bool { return *x.CertificateArn == string(b) }); from < 0 {
			return nil, fault.New(fault.Invalid, "ValidationException", "The NextToken is not valid any more.")
		}
	}
	size := int(api.Val(in.MaxItems))
	if size == 0 {
		size = defaultPage
	}
	out := &acm.ListCertificatesResponse{CertificateSummaryList: all[from:]}
	if len(out.CertificateSummaryList) > size {
		out.NextToken = api.Ptr(base64.RawURLEncoding.EncodeToString([]byte(*out.CertificateSummaryList[size].CertificateArn)))
		out.CertificateSummaryList = out.CertificateSummaryList[:size]
	}
	return out, nil
}

// order sorts certificates by when they came, if the client asks; else they stand in the order of their ARNs.
func order(all []acm.CertificateSummary, in *acm.ListCertificatesRequest) error {
	if (in.SortBy == nil) != (in.SortOrder == nil) {
		return fault.New(fault.Invalid, "ValidationException", "SortBy and SortOrder must be specified together.")
	}
	if in.SortBy == nil {
		return nil
	}
	sign := 1
	if *in.SortOrder == "DESCENDING" {
		sign = -1
	}
	slices.SortStableFunc(all, func(a, b acm.CertificateSummary) int { return sign * a.CreatedAt.Compare(*b.CreatedAt) })
	return nil
}

// anyOf tells whether any of the wanted is there; none wanted is a match.
func anyOf(wanted, have []string) bool {
	if len(wanted) == 0 {
		return true
	}
	return slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(have, w) })
}

func (s *Server) deleteCertificate(c *api.Call, in *acm.DeleteCertificateRequest) (*acm.DeleteCertificateOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		return certificate.Delete(w, c.Scope(), api.Val(in.CertificateArn), s.UsedBy(w, c.Scope(), api.Val(in.CertificateArn)))
	})
}

func (s *Server) addTagsToCertificate(c *api.Call, in *acm.AddTagsToCertificateRequest) (*acm.AddTagsToCertificateOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		return certificate.AddTags(w, c.Scope(), api.Val(in.CertificateArn), tagMap(in.Tags))
	})
}

func (s *Server) removeTagsFromCertificate(c *api.Call, in *acm.RemoveTagsFromCertificateRequest) (*acm.RemoveTagsFromCertificateOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		x, err := certificate.Get(w, c.Scope(), api.Val(in.CertificateArn))
		if err != nil {
			return err
		}
		for _, t := range in.Tags {
			tag.Delete(w, c.Scope(), x.ARN, api.Val(t.Key), t.Value)
		}
		return nil
	})
}

func (s *Server) listTagsForCertificate(c *api.Call, in *acm.ListTagsForCertificateRequest) (*acm.ListTagsForCertificateResponse, error) {
	out := &acm.ListTagsForCertificateResponse{Tags: []acm.Tag{}}
	return out, c.View(func(tx store.Tx) error {
		x, err := certificate.Get(tx, c.Scope(), api.Val(in.CertificateArn))
		if err != nil {
			return err
		}
		for _, t := range tag.Of(tx, c.Scope(), x.ARN) {
			out.Tags = append(out.Tags, acm.Tag{Key: &t.Key, Value: &t.Value})
		}
		return nil
	})
}

func (s *Server) updateCertificateOptions(c *api.Call, in *acm.UpdateCertificateOptionsRequest) (*acm.UpdateCertificateOptionsOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		x, err := certificate.Get(w, c.Scope(), api.Val(in.CertificateArn))
		if err != nil {
			return err
		}
		if in.Options != nil && api.Val(in.Options.Export) == "ENABLED" {
			return fault.New(fault.State, "InvalidStateException", "Certificate %s is imported and cannot be made exportable.", x.ARN)
		}
		if in.Options != nil && in.Options.CertificateTransparencyLoggingPreference != nil {
			x.TransparencyLogging = *in.Options.CertificateTransparencyLoggingPreference
			certificate.Certificates.Put(w, x)
		}
		return nil
	})
}

func tagMap(tags []acm.Tag) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		m[api.Val(t.Key)] = api.Val(t.Value)
	}
	return m
}
