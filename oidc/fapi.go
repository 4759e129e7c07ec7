package oidc

import (
	"slices"
	"strings"

	"login-server/config"
)

// checkProfile complains of metadata that contradicts how tokens of the client are bound,
// or the FAPI 2.0 Security Profile, 5.3.2 and 5.4, if the client is held to that. What a
// client does is refused where it does it: requests that were not pushed, tokens without
// a key, assertions for another audience.
func (c *Client) checkProfile(complain func(field, text, remedy string)) {
	if c.DPoPBoundAccessTokens {
		for _, t := range c.ResponseTypes {
			if slices.Contains(strings.Fields(t), "token") {
				complain("response_types", "has "+config.Quote(t)+", but tokens from there are bound to no key, and dpop_bound_access_tokens is set", "write code")
			}
		}
	}
	if !c.FAPI {
		return
	}
	if c.TokenEndpointAuthMethod != authPrivateJWT {
		complain("token_endpoint_auth_method", "of a FAPI 2.0 client is private_key_jwt", "write private_key_jwt")
	}
	for _, field := range []struct{ name, alg string }{
		{"token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg},
		{"id_token_signed_response_alg", c.IDTokenSignedResponseAlg},
		{"userinfo_signed_response_alg", c.UserinfoSignedResponseAlg},
		{"authorization_signed_response_alg", c.AuthorizationSignedResponseAlg},
		{"introspection_signed_response_alg", c.IntrospectionSignedResponseAlg},
		{"request_object_signing_alg", c.RequestObjectSigningAlg},
	} {
		if field.alg != "" && !slices.Contains(fapiAlgs, field.alg) {
			complain(field.name, "of a FAPI 2.0 client is not "+config.Quote(field.alg), "write one of "+strings.Join(fapiAlgs, ", "))
		}
	}
	if c.RequirePKCE != nil && !*c.RequirePKCE {
		complain("require_pkce", "of a FAPI 2.0 client is not false", "remove it")
	}
	if c.allows(grantImplicit) {
		complain("grant_types", "of a FAPI 2.0 client does not have implicit", "remove it")
	}
	for _, t := range c.ResponseTypes {
		if t != "code" {
			complain("response_types", "of a FAPI 2.0 client is code alone", "write code")
		}
	}
	for _, uri := range c.RedirectURIs {
		if !strings.HasPrefix(uri, "https://") {
			complain("redirect_uris", config.QuoteURL(uri)+" is not https, as a FAPI 2.0 client needs it", "write https://…")
		}
	}
}
