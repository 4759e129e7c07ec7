package oidc

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
)

// Paths of the endpoints below the issuer.
const (
	PathAuthorize     = "/oauth/authorize"
	PathToken         = "/oauth/token"
	PathUserInfo      = "/oauth/userinfo"
	PathIntrospect    = "/oauth/introspect"
	PathRevoke        = "/oauth/revoke"
	PathPush          = "/oauth/par"
	PathRegister      = "/oauth/register"
	PathDevice        = "/oauth/device_authorization"
	PathEndSession    = "/oauth/logout"
	PathCheckSession  = "/oauth/check_session"
	PathJWKS          = "/.well-known/jwks.json"
	PathConfiguration = "/.well-known/openid-configuration"
	PathServer        = "/.well-known/oauth-authorization-server"
)

// metadata is the provider's configuration (OpenID Connect Discovery 1.0, 3; RFC 8414, 2).
func (p *Provider) metadata() map[string]any {
	at := func(path string) string { return p.o.Issuer + path }
	algs := p.o.Tokens.Algorithms()
	grants := grantTypes[:len(grantTypes)-1]
	if p.o.LegacyFlows {
		grants = grantTypes
	}
	m := map[string]any{
		"issuer":                                                   p.o.Issuer,
		"authorization_endpoint":                                   at(PathAuthorize),
		"token_endpoint":                                           at(PathToken),
		"userinfo_endpoint":                                        at(PathUserInfo),
		"jwks_uri":                                                 at(PathJWKS),
		"introspection_endpoint":                                   at(PathIntrospect),
		"revocation_endpoint":                                      at(PathRevoke),
		"pushed_authorization_request_endpoint":                    at(PathPush),
		"require_pushed_authorization_requests":                    false,
		"request_parameter_supported":                              true,
		"request_uri_parameter_supported":                          true,
		"require_request_uri_registration":                         true,
		"request_object_signing_alg_values_supported":              signingAlgs,
		"scopes_supported":                                         scopes,
		"response_types_supported":                                 responseTypes(p.o.LegacyFlows),
		"response_modes_supported":                                 responseModes,
		"grant_types_supported":                                    grants,
		"acr_values_supported":                                     p.acrValues(),
		"subject_types_supported":                                  []string{subjectPublic, subjectPairwise},
		"id_token_signing_alg_values_supported":                    algs,
		"userinfo_signing_alg_values_supported":                    algs,
		"authorization_signing_alg_values_supported":               algs,
		"token_endpoint_auth_methods_supported":                    authMethods,
		"token_endpoint_auth_signing_alg_values_supported":         append(append([]string{}, signingAlgs...), secretAlgs...),
		"introspection_endpoint_auth_methods_supported":            authMethods[:len(authMethods)-1], // not none
		"revocation_endpoint_auth_methods_supported":               authMethods,
		"introspection_endpoint_auth_signing_alg_values_supported": append(append([]string{}, signingAlgs...), secretAlgs...),
		"revocation_endpoint_auth_signing_alg_values_supported":    append(append([]string{}, signingAlgs...), secretAlgs...),
		"claims_supported":                                         claimNames(),
		"claim_types_supported":                                    []string{"normal"},
		"claims_parameter_supported":                               true,
		"code_challenge_methods_supported":                         []string{"S256"},
		"authorization_response_iss_parameter_supported":           true,
		"prompt_values_supported":                                  prompts,
		"display_values_supported":                                 []string{"page"},
		"device_authorization_endpoint":                            at(PathDevice),
		"dpop_signing_alg_values_supported":                        signingAlgs,
		"introspection_signing_alg_values_supported":               algs,
		"end_session_endpoint":                                     at(PathEndSession),
		"backchannel_logout_supported":                             true,
		"backchannel_logout_session_supported":                     true,
		"frontchannel_logout_supported":                            true,
		"frontchannel_logout_session_supported":                    true,
	}
	if len(p.o.Locales) > 0 {
		m["ui_locales_supported"] = p.o.Locales
	}
	if len(p.Registration()) > 0 {
		m["registration_endpoint"] = at(PathRegister)
	}
	if p.o.Sessions.StateCookie() != "" {
		m["check_session_iframe"] = at(PathCheckSession)
	}
	return m
}

// Configuration serves the metadata, from memory.
func (p *Provider) Configuration() (http.HandlerFunc, error) {
	body, err := json.Marshal(p.metadata())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	length := strconv.Itoa(len(body))
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", length)
		_, _ = w.Write(body)
	}, nil
}
