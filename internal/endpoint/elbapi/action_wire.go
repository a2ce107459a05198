package elbapi

import (
	"cmp"
	"slices"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/fault"
)

// fromActions reads actions in the order of Order.
func fromActions(in []elbv2.Action) ([]balance.Action, error) {
	if in == nil {
		return nil, nil
	}
	out := make([]balance.Action, 0, len(in))
	for _, a := range in {
		b := balance.Action{Type: api.Val(a.Type), Order: api.Val(a.Order), TargetGroupARN: api.Val(a.TargetGroupArn)}
		if f := a.ForwardConfig; f != nil {
			b.Forward = &balance.Forward{}
			for _, g := range f.TargetGroups {
				w := int32(1)
				if g.Weight != nil {
					w = *g.Weight
				}
				b.Forward.Groups = append(b.Forward.Groups, balance.Weighted{ARN: api.Val(g.TargetGroupArn), Weight: w})
			}
			if st := f.TargetGroupStickinessConfig; st != nil {
				if d := st.DurationSeconds; d != nil && (*d < 1 || *d > balance.MaxStickySeconds) {
					return nil, invalid("Target group stickiness duration must be between 1 and %d seconds", balance.MaxStickySeconds)
				}
				b.Forward.Sticky, b.Forward.StickyEnabled, b.Forward.StickySeconds = true, api.Val(st.Enabled), api.Val(st.DurationSeconds)
			}
		}
		if r := a.RedirectConfig; r != nil {
			b.Redirect = &balance.Redirect{Protocol: api.Val(r.Protocol), Host: api.Val(r.Host), Port: api.Val(r.Port), Path: api.Val(r.Path), Query: api.Val(r.Query), StatusCode: api.Val(r.StatusCode)}
			if r.Query == nil { // an empty query that was given drops the request's
				b.Redirect.Query = "#{query}"
			}
		}
		if f := a.FixedResponseConfig; f != nil {
			b.Fixed = &balance.FixedResponse{StatusCode: api.Val(f.StatusCode), ContentType: api.Val(f.ContentType), Body: api.Val(f.MessageBody)}
		}
		if o := a.AuthenticateOidcConfig; o != nil {
			b.OIDC = &balance.OIDC{Issuer: api.Val(o.Issuer), AuthorizationEndpoint: api.Val(o.AuthorizationEndpoint), TokenEndpoint: api.Val(o.TokenEndpoint),
				UserInfoEndpoint: api.Val(o.UserInfoEndpoint), ClientID: api.Val(o.ClientId), ClientSecret: api.Val(o.ClientSecret), UseExistingSecret: api.Val(o.UseExistingClientSecret),
				SessionCookieName: api.Val(o.SessionCookieName), SessionTimeout: api.Val(o.SessionTimeout), Scope: api.Val(o.Scope),
				OnUnauthenticated: api.Val(o.OnUnauthenticatedRequest), ExtraParams: o.AuthenticationRequestExtraParams}
		}
		if j := a.JwtValidationConfig; j != nil {
			b.JWT = &balance.JWT{Issuer: api.Val(j.Issuer), JWKSEndpoint: api.Val(j.JwksEndpoint)}
			for _, c := range j.AdditionalClaims {
				b.JWT.Claims = append(b.JWT.Claims, balance.Claim{Name: api.Val(c.Name), Format: api.Val(c.Format), Values: c.Values})
			}
		}
		if a.AuthenticateCognitoConfig != nil && b.Type != balance.CognitoType {
			return nil, fault.New(fault.Invalid, "InvalidLoadBalancerAction", "An AuthenticateCognitoConfig belongs to an action of type 'authenticate-cognito'")
		}
		out = append(out, b)
	}
	slices.SortStableFunc(out, func(a, b balance.Action) int { return cmp.Compare(a.Order, b.Order) })
	return out, nil
}

func toActions(in []balance.Action) []elbv2.Action {
	out := []elbv2.Action{}
	for _, a := range in {
		w := elbv2.Action{Type: api.Ptr(a.Type)}
		if a.Order > 0 {
			w.Order = api.Ptr(a.Order)
		}
		if a.TargetGroupARN != "" {
			w.TargetGroupArn = api.Ptr(a.TargetGroupARN)
		}
		if f := a.Forward; f != nil {
			w.ForwardConfig = &elbv2.ForwardActionConfig{TargetGroupStickinessConfig: &elbv2.TargetGroupStickinessConfig{Enabled: api.Ptr(f.StickyEnabled)}}
			if f.StickySeconds > 0 {
				w.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds = api.Ptr(f.StickySeconds)
			}
			for _, g := range f.Groups {
				w.ForwardConfig.TargetGroups = append(w.ForwardConfig.TargetGroups, elbv2.TargetGroupTuple{TargetGroupArn: api.Ptr(g.ARN), Weight: api.Ptr(g.Weight)})
			}
		}
		if r := a.Redirect; r != nil {
			w.RedirectConfig = &elbv2.RedirectActionConfig{Protocol: api.Ptr(r.Protocol), Host: api.Ptr(r.Host), Port: api.Ptr(r.Port), Path: api.Ptr(r.Path), Query: api.Ptr(r.Query), StatusCode: api.Ptr(r.StatusCode)}
		}
		if f := a.Fixed; f != nil {
			w.FixedResponseConfig = &elbv2.FixedResponseActionConfig{StatusCode: api.Ptr(f.StatusCode)}
			if f.ContentType != "" {
				w.FixedResponseConfig.ContentType = api.Ptr(f.ContentType)
			}
			if f.Body != "" {
				w.FixedResponseConfig.MessageBody = api.Ptr(f.Body)
			}
		}
		if o := a.OIDC; o != nil { // never with the secret
			w.AuthenticateOidcConfig = &elbv2.AuthenticateOidcActionConfig{Issuer: api.Ptr(o.Issuer), AuthorizationEndpoint: api.Ptr(o.AuthorizationEndpoint), TokenEndpoint: api.Ptr(o.TokenEndpoint),
				UserInfoEndpoint: api.Ptr(o.UserInfoEndpoint), ClientId: api.Ptr(o.ClientID), SessionCookieName: api.Ptr(o.SessionCookieName), SessionTimeout: api.Ptr(o.SessionTimeout),
				Scope: api.Ptr(o.Scope), OnUnauthenticatedRequest: api.Ptr(o.OnUnauthenticated), AuthenticationRequestExtraParams: o.ExtraParams}
		}
		if j := a.JWT; j != nil {
			w.JwtValidationConfig = &elbv2.JwtValidationActionConfig{Issuer: api.Ptr(j.Issuer), JwksEndpoint: api.Ptr(j.JWKSEndpoint)}
			for _, c := range j.Claims {
				w.JwtValidationConfig.AdditionalClaims = append(w.JwtValidationConfig.AdditionalClaims, elbv2.JwtValidationActionAdditionalClaim{Name: api.Ptr(c.Name), Format: api.Ptr(c.Format), Values: c.Values})
			}
		}
		out = append(out, w)
	}
	return out
}

// fromConditions reads conditions in either of their two forms.
func fromConditions(in []elbv2.RuleCondition) ([]balance.Condition, error) {
	if in == nil {
		return nil, nil
	}
	out := make([]balance.Condition, 0, len(in))
	for _, c := range in {
		b := balance.Condition{Field: api.Val(c.Field), Values: c.Values, Regex: c.RegexValues}
		configs := 0
		use := func(field string, values, regex []string) error {
			configs++
			if b.Field == "" {
				return invalid("A condition field must be specified")
			}
			if b.Field != field {
				return invalid("The configuration of a condition does not match its field '%s'", b.Field)
			}
			if len(c.Values) > 0 || len(c.RegexValues) > 0 {
				return invalid("You cannot specify both values and a configuration for condition field '%s'", b.Field)
			}
			b.Values, b.Regex, b.Config = values, regex, true
			return nil
		}
		var err error
		if x := c.HostHeaderConfig; x != nil && err == nil {
			err = use(balance.HostHeader, x.Values, x.RegexValues)
		}
		if x := c.PathPatternConfig; x != nil && err == nil {
			err = use(balance.PathPattern, x.Values, x.RegexValues)
		}
		if x := c.HttpHeaderConfig; x != nil && err == nil {
			err = use(balance.HTTPHeader, x.Values, x.RegexValues)
			b.Header = api.Val(x.HttpHeaderName)
		}
		if x := c.HttpRequestMethodConfig; x != nil && err == nil {
			err = use(balance.RequestMethod, x.Values, nil)
		}
		if x := c.SourceIpConfig; x != nil && err == nil {
			err = use(balance.SourceIP, x.Values, nil)
		}
		if x := c.QueryStringConfig; x != nil && err == nil {
			err = use(balance.QueryString, nil, nil)
			for _, kv := range x.Values {
				b.Query = append(b.Query, balance.KeyValue{Key: api.Val(kv.Key), Value: api.Val(kv.Value)})
			}
		}
		if err != nil {
			return nil, err
		}
		if configs > 1 {
			return nil, invalid("A condition can only have one configuration")
		}
		if configs == 0 && b.Field != "" && b.Field != balance.HostHeader && b.Field != balance.PathPattern && b.Field != balance.RequestMethod && b.Field != balance.SourceIP {
			return nil, invalid("A configuration must be specified for condition field '%s'", b.Field)
		}
		out = append(out, b)
	}
	return out, nil
}

// toConditions shows host and path conditions in both forms, as AWS does, and the others in their configuration.
func toConditions(in []balance.Condition) []elbv2.RuleCondition {
	out := []elbv2.RuleCondition{}
	for _, c := range in {
		w := elbv2.RuleCondition{Field: api.Ptr(c.Field)}
		switch c.Field {
		case balance.HostHeader:
			w.Values, w.HostHeaderConfig = c.Values, &elbv2.HostHeaderConditionConfig{Values: c.Values, RegexValues: c.Regex}
		case balance.PathPattern:
			w.Values, w.PathPatternConfig = c.Values, &elbv2.PathPatternConditionConfig{Values: c.Values, RegexValues: c.Regex}
		case balance.HTTPHeader:
			w.HttpHeaderConfig = &elbv2.HttpHeaderConditionConfig{HttpHeaderName: api.Ptr(c.Header), Values: c.Values, RegexValues: c.Regex}
		case balance.RequestMethod:
			w.HttpRequestMethodConfig = &elbv2.HttpRequestMethodConditionConfig{Values: c.Values}
		case balance.SourceIP:
			w.SourceIpConfig = &elbv2.SourceIpConditionConfig{Values: c.Values}
		case balance.QueryString:
			w.QueryStringConfig = &elbv2.QueryStringConditionConfig{}
			for _, kv := range c.Query {
				p := elbv2.QueryStringKeyValuePair{Value: api.Ptr(kv.Value)}
				if kv.Key != "" {
					p.Key = api.Ptr(kv.Key)
				}
				w.QueryStringConfig.Values = append(w.QueryStringConfig.Values, p)
			}
		}
		out = append(out, w)
	}
	return out
}

// fromTransforms reads transforms; each has exactly one rewrite.
func fromTransforms(in []elbv2.RuleTransform) ([]balance.Transform, error) {
	if in == nil {
		return nil, nil
	}
	out := make([]balance.Transform, 0, len(in))
	for _, t := range in {
		b := balance.Transform{Type: api.Val(t.Type)}
		var rewrites []elbv2.RewriteConfig
		host, url := t.HostHeaderRewriteConfig, t.UrlRewriteConfig
		switch {
		case b.Type == "host-header-rewrite" && host != nil && url == nil:
			rewrites = host.Rewrites
		case b.Type == "url-rewrite" && url != nil && host == nil:
			rewrites = url.Rewrites
		default:
			return nil, invalid("A transform must have the configuration of its type '%s' and nothing else", b.Type)
		}
		if len(rewrites) != 1 {
			return nil, invalid("A '%s' transform must have exactly one rewrite", b.Type)
		}
		b.Regex, b.Replace = api.Val(rewrites[0].Regex), api.Val(rewrites[0].Replace)
		out = append(out, b)
	}
	return out, nil
}

func toTransforms(in []balance.Transform) []elbv2.RuleTransform {
	var out []elbv2.RuleTransform
	for _, t := range in {
		w := elbv2.RuleTransform{Type: api.Ptr(t.Type)}
		rewrites := []elbv2.RewriteConfig{{Regex: api.Ptr(t.Regex), Replace: api.Ptr(t.Replace)}}
		if t.Type == "url-rewrite" {
			w.UrlRewriteConfig = &elbv2.UrlRewriteConfig{Rewrites: rewrites}
		} else {
			w.HostHeaderRewriteConfig = &elbv2.HostHeaderRewriteConfig{Rewrites: rewrites}
		}
		out = append(out, w)
	}
	return out
}
