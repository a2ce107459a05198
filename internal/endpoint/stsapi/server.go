package stsapi

import (
	"regexp"

	"skerry/api"
	"skerry/api/sts"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/store"
)

// Server holds the handlers of STS.
type Server struct {
	DB *store.DB
}

// Register adds the handlers to the table.
func (s *Server) Register(m *api.Mux) {
	api.Handle(m, sts.GetCallerIdentity, s.getCallerIdentity)
	api.Handle(m, sts.AssumeRole, s.assumeRole)
	api.Handle(m, sts.GetSessionToken, s.getSessionToken)
	api.Handle(m, sts.GetAccessKeyInfo, s.getAccessKeyInfo)
	api.Handle(m, sts.DecodeAuthorizationMessage, s.decodeAuthorizationMessage)
}

func (s *Server) getCallerIdentity(c *api.Call, _ *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
	return &sts.GetCallerIdentityResponse{Account: &c.Principal.Account, Arn: &c.Principal.ARN, UserId: &c.Principal.UserID}, nil
}

func credentials(c identity.Credentials) *sts.Credentials {
	return &sts.Credentials{AccessKeyId: &c.AccessKeyID, SecretAccessKey: &c.Secret, SessionToken: &c.SessionToken, Expiration: &c.Expiration}
}

// noMFA refuses parameters of multi-factor authentication: there are no devices here, so no code can be right.
func noMFA(serial, code *string) error {
	if serial != nil || code != nil {
		return fault.New(fault.Denied, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	return nil
}

func (s *Server) assumeRole(c *api.Call, in *sts.AssumeRoleRequest) (*sts.AssumeRoleResponse, error) {
	if err := noMFA(in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	if len(in.ProvidedContexts) > 0 {
		return nil, fault.New(fault.Unsupported, "ValidationError", "The parameter ProvidedContexts is not supported.")
	}
	a := identity.Assume{RoleARN: api.Val(in.RoleArn), Session: api.Val(in.RoleSessionName), Duration: int(api.Val(in.DurationSeconds)), ExternalID: api.Val(in.ExternalId),
		SourceIdentity: api.Val(in.SourceIdentity), Tags: map[string]string{}, Keys: c.Keys}
	if in.Policy != nil {
		a.Policies = []string{*in.Policy}
	}
	for _, p := range in.PolicyArns {
		a.PolicyARNs = append(a.PolicyARNs, api.Val(p.Arn))
	}
	for _, t := range in.Tags {
		a.Tags[api.Val(t.Key)] = api.Val(t.Value)
	}
	for _, k := range in.TransitiveTagKeys {
		if _, ok := a.Tags[k]; !ok {
			return nil, fault.New(fault.Invalid, "ValidationError", "The transitive tag key %s is not among the session's tags.", k)
		}
	}
	out := &sts.AssumeRoleResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		cr, err := identity.AssumeRole(w, identity.Principal(c.Principal), a)
		if err != nil {
			return err
		}
		out.Credentials = credentials(cr)
		out.AssumedRoleUser = &sts.AssumedRoleUser{Arn: &cr.Principal.ARN, AssumedRoleId: &cr.Principal.UserID}
		out.SourceIdentity = in.SourceIdentity
		if n := packed(a); n > 0 {
			out.PackedPolicySize = &n
		}
		return nil
	})
}

// packed is how much of a session's room its policies and tags take, in percent.
func packed(a identity.Assume) int32 {
	n := 0
	for _, p := range a.Policies {
		n += len(p)
	}
	for k, v := range a.Tags {
		n += len(k) + len(v)
	}
	for _, p := range a.PolicyARNs {
		n += len(p)
	}
	return int32((n*100 + identity.SessionRoom - 1) / identity.SessionRoom)
}

func (s *Server) getSessionToken(c *api.Call, in *sts.GetSessionTokenRequest) (*sts.GetSessionTokenResponse, error) {
	if err := noMFA(in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	out := &sts.GetSessionTokenResponse{}
	return out, c.Update(func(w *store.WriteTx) error {
		cr, err := identity.SessionToken(w, identity.Principal(c.Principal), int(api.Val(in.DurationSeconds)))
		out.Credentials = credentials(cr)
		return err
	})
}

var keyForm = regexp.MustCompile(`^\w{16,128}$`)

func (s *Server) getAccessKeyInfo(c *api.Call, in *sts.GetAccessKeyInfoRequest) (*sts.GetAccessKeyInfoResponse, error) {
	id := api.Val(in.AccessKeyId)
	if !keyForm.MatchString(id) {
		return nil, fault.New(fault.Invalid, "ValidationError", "1 validation error detected: Value '%s' at 'accessKeyId' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w]*", id)
	}
	if k, ok := identity.AccessKeys.Get(c.DB.Read(), id); ok { // a key of root's may have any form
		return &sts.GetAccessKeyInfoResponse{Account: &k.Account}, nil
	}
	account, ok := identity.AccountOf(id)
	if !ok {
		return nil, fault.New(fault.Invalid, "ValidationError", "Invalid access key ID: %s", id)
	}
	return &sts.GetAccessKeyInfoResponse{Account: &account}, nil
}

func (s *Server) decodeAuthorizationMessage(c *api.Call, in *sts.DecodeAuthorizationMessageRequest) (*sts.DecodeAuthorizationMessageResponse, error) {
	text, err := identity.DecodeMessage(c.DB, c.Account, api.Val(in.EncodedMessage))
	if err != nil {
		return nil, err
	}
	return &sts.DecodeAuthorizationMessageResponse{DecodedMessage: &text}, nil
}
