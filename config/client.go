package config

import (
	"encoding/json"
	"log/slog"
)

// Client is an application as an OAuth 2.0 client: the metadata of RFC 7591, section 2,
// OpenID Connect Dynamic Client Registration 1.0, section 2, and the logout
// specifications under their own names, and a few of ours. Entries of applications.json
// and clients that have registered themselves are the same. What the names may hold, and
// what goes with what, is checked by package oidc.
type Client struct {
	ClientID string `json:"client_id,omitempty"`
	// ClientSecret in plain text; or its hash, or a file that holds it. Several hashes are
	// valid at once while a secret is replaced.
	ClientSecret     string   `json:"client_secret,omitempty"`
	ClientSecretHash []string `json:"client_secret_hash,omitempty"`
	ClientSecretFile string   `json:"client_secret_file,omitempty"`

	ApplicationType             string          `json:"application_type,omitempty"`
	RedirectURIs                []string        `json:"redirect_uris,omitempty"`
	GrantTypes                  []string        `json:"grant_types,omitempty"`
	ResponseTypes               []string        `json:"response_types,omitempty"`
	Scope                       string          `json:"scope,omitempty"`
	TokenEndpointAuthMethod     string          `json:"token_endpoint_auth_method,omitempty"`
	TokenEndpointAuthSigningAlg string          `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS                        json.RawMessage `json:"jwks,omitempty"`
	JWKSURI                     string          `json:"jwks_uri,omitempty"`

	LogoURI   string   `json:"logo_uri,omitempty"`
	ClientURI string   `json:"client_uri,omitempty"`
	PolicyURI string   `json:"policy_uri,omitempty"`
	TOSURI    string   `json:"tos_uri,omitempty"`
	Contacts  []string `json:"contacts,omitempty"`

	SubjectType         string `json:"subject_type,omitempty"`
	SectorIdentifierURI string `json:"sector_identifier_uri,omitempty"`

	IDTokenSignedResponseAlg       string `json:"id_token_signed_response_alg,omitempty"`
	UserinfoSignedResponseAlg      string `json:"userinfo_signed_response_alg,omitempty"`
	AuthorizationSignedResponseAlg string `json:"authorization_signed_response_alg,omitempty"`
	IntrospectionSignedResponseAlg string `json:"introspection_signed_response_alg,omitempty"`
	RequestObjectSigningAlg        string `json:"request_object_signing_alg,omitempty"`

	RequestURIs                        []string `json:"request_uris,omitempty"`
	RequireSignedRequestObject         bool     `json:"require_signed_request_object,omitempty"`
	RequirePushedAuthorizationRequests bool     `json:"require_pushed_authorization_requests,omitempty"`
	DPoPBoundAccessTokens              bool     `json:"dpop_bound_access_tokens,omitempty"`

	DefaultMaxAge    *int     `json:"default_max_age,omitempty"`
	RequireAuthTime  bool     `json:"require_auth_time,omitempty"`
	DefaultACRValues []string `json:"default_acr_values,omitempty"`
	InitiateLoginURI string   `json:"initiate_login_uri,omitempty"`

	PostLogoutRedirectURIs            []string `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI              string   `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSessionRequired  bool     `json:"backchannel_logout_session_required,omitempty"`
	FrontchannelLogoutURI             string   `json:"frontchannel_logout_uri,omitempty"`
	FrontchannelLogoutSessionRequired bool     `json:"frontchannel_logout_session_required,omitempty"`

	SoftwareID      string `json:"software_id,omitempty"`
	SoftwareVersion string `json:"software_version,omitempty"`

	// Trusted applications are not asked about: no consent page.
	Trusted bool `json:"trusted,omitempty"`
	// RequireMFA lets nobody in without a second factor.
	RequireMFA bool `json:"require_mfa,omitempty"`
	// FAPI holds the client to the FAPI 2.0 Security Profile.
	FAPI bool `json:"fapi,omitempty"`
	// RequirePKCE is true if it is left out. False is for confidential clients whose software
	// knows no PKCE.
	RequirePKCE *bool `json:"require_pkce,omitempty"`
	// AccessTokenFormat is "jwt" (RFC 9068) or "opaque".
	AccessTokenFormat string `json:"access_token_format,omitempty"`
	// Origins are those of its pages: they may call our endpoints and open sockets.
	Origins []string `json:"origins,omitempty"`
	// Resources are the resource indicators (RFC 8707) that it may ask tokens for, and
	// the audiences of its token exchanges (RFC 8693).
	Resources []string `json:"resources,omitempty"`
}

// LogValue implements slog.LogValuer: a client in the log shows no secret.
func (c Client) LogValue() slog.Value { return slog.StringValue(c.ClientID) }
