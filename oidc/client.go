package oidc

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/config"
)

// Client is an application that asks this server for tokens. It is complete: what its
// metadata leaves out has the default of the specification, or ours.
type Client struct {
	config.Client
	// Name and URL are those of the application.
	Name, URL string
	// Registered: it is in the store, not in applications.json.
	Registered bool

	keys jwk.Set // of JWKS; nil when there are none
}

// Names of the metadata's values.
const (
	authBasic      = "client_secret_basic"
	authPost       = "client_secret_post"
	authSecretJWT  = "client_secret_jwt"
	authPrivateJWT = "private_key_jwt"
	authNone       = "none"

	grantCode        = "authorization_code"
	grantRefresh     = "refresh_token"
	grantCredentials = "client_credentials"
	grantDevice      = "urn:ietf:params:oauth:grant-type:device_code"
	grantExchange    = "urn:ietf:params:oauth:grant-type:token-exchange"
	grantImplicit    = "implicit"

	tokenJWT    = "jwt"
	tokenOpaque = "opaque"

	subjectPublic   = "public"
	subjectPairwise = "pairwise"
)

var (
	authMethods = []string{authBasic, authPost, authSecretJWT, authPrivateJWT, authNone}
	grantTypes  = []string{grantCode, grantRefresh, grantCredentials, grantDevice, grantExchange, grantImplicit}

	// signingAlgs are what clients may sign with, and what we may be asked to sign with.
	// HS algorithms are for client_secret_jwt only.
	signingAlgs = []string{"RS256", "ES256", "PS256", "EdDSA"}
	fapiAlgs    = []string{"PS256", "ES256", "EdDSA"}
	secretAlgs  = []string{"HS256", "HS384", "HS512"}
)

// Complaint is one thing that is wrong in the metadata of a client.
type Complaint struct{ Field, Text, Remedy string }

// newClient completes and checks metadata. The client is good for nothing if there are
// complaints.
func newClient(name, address string, m config.Client, legacy bool) (*Client, []Complaint) {
	c := &Client{Client: m, Name: name, URL: address}
	var bad []Complaint
	complain := func(field, text, remedy string) { bad = append(bad, Complaint{field, text, remedy}) }

	if m.ClientID == "" || len(m.ClientID) > 200 || strings.ContainsFunc(m.ClientID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		complain("client_id", "is missing, too long or has characters beside printable ASCII", "write a short name without spaces")
	}
	c.complete()

	oneOf := func(field, value string, allowed []string) {
		if value != "" && !slices.Contains(allowed, value) {
			remedy := "write one of " + strings.Join(allowed, ", ")
			if near, ok := config.Nearest(value, allowed); ok {
				remedy = "did you mean " + near + "?"
			}
			complain(field, config.Quote(value)+" is not supported", remedy)
		}
	}
	oneOf("token_endpoint_auth_method", c.TokenEndpointAuthMethod, authMethods)
	oneOf("application_type", c.ApplicationType, []string{"web", "native"})
	oneOf("subject_type", c.SubjectType, []string{subjectPublic, subjectPairwise})
	oneOf("access_token_format", c.AccessTokenFormat, []string{tokenJWT, tokenOpaque})
	for _, g := range c.GrantTypes {
		oneOf("grant_types", g, grantTypes)
	}
	for _, t := range c.ResponseTypes {
		oneOf("response_types", sortedWords(t), responseTypes(legacy))
	}
	for field, alg := range map[string]string{
		"id_token_signed_response_alg": c.IDTokenSignedResponseAlg, "userinfo_signed_response_alg": c.UserinfoSignedResponseAlg,
		"authorization_signed_response_alg": c.AuthorizationSignedResponseAlg, "introspection_signed_response_alg": c.IntrospectionSignedResponseAlg,
	} {
		oneOf(field, alg, signingAlgs)
	}
	oneOf("request_object_signing_alg", c.RequestObjectSigningAlg, signingAlgs)
	if c.TokenEndpointAuthMethod == authSecretJWT {
		oneOf("token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg, secretAlgs)
	} else {
		oneOf("token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg, signingAlgs)
	}

	for _, uri := range c.RedirectURIs {
		if text := checkRedirectURI(uri, c.ApplicationType); text != "" {
			complain("redirect_uris", config.QuoteURL(uri)+" "+text, "write the exact address that the application is sent back to")
		}
	}
	if c.allows(grantCode) && len(c.RedirectURIs) == 0 {
		complain("redirect_uris", "is missing", "write where people are sent back to after signing in")
	}
	for _, uri := range c.PostLogoutRedirectURIs {
		if text := checkRedirectURI(uri, c.ApplicationType); text != "" {
			complain("post_logout_redirect_uris", config.QuoteURL(uri)+" "+text, "write the exact address that people are sent to after signing out")
		}
	}
	for field, uri := range map[string]string{
		"logo_uri": c.LogoURI, "client_uri": c.ClientURI, "policy_uri": c.PolicyURI, "tos_uri": c.TOSURI, "jwks_uri": c.JWKSURI,
		"backchannel_logout_uri": c.BackchannelLogoutURI, "frontchannel_logout_uri": c.FrontchannelLogoutURI,
	} {
		if uri != "" && !isWebURL(uri, true) {
			complain(field, config.QuoteURL(uri)+" is not an https URL", "write https://…")
		}
	}
	for field, uri := range map[string]string{"sector_identifier_uri": c.SectorIdentifierURI, "initiate_login_uri": c.InitiateLoginURI} {
		if uri != "" && !isWebURL(uri, false) {
			complain(field, config.QuoteURL(uri)+" is not an https URL", "write https://…")
		}
	}
	for _, uri := range c.RequestURIs {
		if base, _, _ := strings.Cut(uri, "#"); !isWebURL(base, false) {
			complain("request_uris", config.QuoteURL(uri)+" is not an https URL", "write https://…")
		}
	}

	secret := c.ClientSecret != "" || len(c.ClientSecretHash) > 0
	switch c.TokenEndpointAuthMethod {
	case authNone:
		if secret {
			complain("token_endpoint_auth_method", "is none, but there is a secret", "remove the secret, or write client_secret_basic")
		}
		if c.allows(grantCredentials) {
			complain("grant_types", "has client_credentials, but the client has nothing to prove who it is", "give it a secret or a key")
		}
	case authPrivateJWT:
		if len(c.JWKS) == 0 && c.JWKSURI == "" {
			complain("jwks", "is missing, and so is jwks_uri, for token_endpoint_auth_method private_key_jwt", "write one of them")
		}
	case authSecretJWT:
		// The key of the signature is the secret itself: a hash will not do.
		least := minSecret[cmp.Or(c.TokenEndpointAuthSigningAlg, "HS256")]
		switch {
		case c.ClientSecret == "":
			complain("client_secret", "is missing: client_secret_jwt needs the secret in plain text", "write client_secret or client_secret_file")
		case len(c.ClientSecret) < least:
			complain("client_secret", fmt.Sprintf("is shorter than %d bytes, which its signatures need (RFC 7518, 3.2)", least), "write a long random text, for example the output of: openssl rand -base64 48")
		}
	default:
		if !secret {
			complain("client_secret", "is missing for token_endpoint_auth_method "+c.TokenEndpointAuthMethod, "write client_secret, client_secret_hash or client_secret_file, or token_endpoint_auth_method none for an application without a server")
		}
	}
	if c.ClientSecret != "" && (len(c.ClientSecret) < 16 || !utf8.ValidString(c.ClientSecret)) {
		complain("client_secret", "is shorter than 16 characters", "write a long random text, for example the output of: openssl rand -base64 32")
	}
	for _, h := range c.ClientSecretHash {
		if _, err := decodeHash(h); err != nil {
			complain("client_secret_hash", err.Error(), "write what login-server client secret prints")
		}
	}
	if len(c.JWKS) > 0 && c.JWKSURI != "" {
		complain("jwks", "stands beside jwks_uri", "remove one of them")
	}
	if len(c.JWKS) > 0 {
		keys, err := publicKeys(c.JWKS)
		if err != nil {
			complain("jwks", err.Error(), "write a JSON Web Key Set with public keys")
		}
		c.keys = keys
	}
	if c.SubjectType == subjectPairwise && c.SectorIdentifierURI == "" && len(hosts(c.RedirectURIs)) > 1 {
		complain("sector_identifier_uri", "is missing: redirect_uris are on several hosts, and subject_type is pairwise", "write a sector_identifier_uri")
	}
	c.checkProfile(complain)
	return c, bad
}

// complete fills in defaults (OpenID Connect Dynamic Client Registration, 2).
func (c *Client) complete() {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	method := authBasic
	if c.FAPI {
		method = authPrivateJWT
		c.RequirePushedAuthorizationRequests, c.DPoPBoundAccessTokens = true, true
		set(&c.IDTokenSignedResponseAlg, "PS256")
		set(&c.AuthorizationSignedResponseAlg, "PS256")
	}
	set(&c.TokenEndpointAuthMethod, method)
	set(&c.ApplicationType, "web")
	set(&c.SubjectType, subjectPublic)
	set(&c.AccessTokenFormat, tokenJWT)
	set(&c.Name, c.ClientID)
	if len(c.GrantTypes) == 0 {
		c.GrantTypes = []string{grantCode, grantRefresh}
	}
	if len(c.ResponseTypes) == 0 && c.allows(grantCode) {
		c.ResponseTypes = []string{"code"}
	}
}

func (c *Client) allows(grant string) bool { return slices.Contains(c.GrantTypes, grant) }

// public clients cannot keep a secret (RFC 6749, 2.1).
func (c *Client) public() bool { return c.TokenEndpointAuthMethod == authNone }

// redirectURI returns the registered URI that the given one is, letter by letter; for
// native clients the port of a loopback address may differ (RFC 8252, 7.3). Without one
// it is the only one that is registered.
func (c *Client) redirectURI(given string) (string, bool) {
	if given == "" {
		if len(c.RedirectURIs) == 1 {
			return c.RedirectURIs[0], true
		}
		return "", false
	}
	if slices.Contains(c.RedirectURIs, given) {
		return given, true
	}
	if c.ApplicationType != "native" {
		return "", false
	}
	for _, registered := range c.RedirectURIs {
		if sameLoopback(registered, given) {
			return given, true
		}
	}
	return "", false
}

// sameLoopback tells whether two URIs on the loopback interface differ in the port only.
func sameLoopback(registered, given string) bool {
	a, errA := url.Parse(registered)
	b, errB := url.Parse(given)
	if errA != nil || errB != nil || a.Scheme != "http" || b.Scheme != "http" || b.User != nil || b.Fragment != "" {
		return false
	}
	host := a.Hostname()
	if host != "127.0.0.1" && host != "::1" && host != "localhost" || host != b.Hostname() {
		return false
	}
	if port, err := strconv.ParseUint(b.Port(), 10, 16); b.Host != bracket(host) && (err != nil || port == 0) {
		return false
	}
	// Letter by letter: what net/url reads leniently, such as an empty fragment, is refused.
	path, ok := strings.CutPrefix(registered, "http://"+a.Host)
	return ok && given == "http://"+b.Host+path
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// checkRedirectURI tells what is wrong with a redirect URI at registration.
func checkRedirectURI(uri, applicationType string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "" || len(uri) > 2048 || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }):
		return "is not a URI"
	case strings.Contains(uri, "#"):
		return "has a fragment"
	case u.User != nil:
		return "contains a user name or a password"
	case u.Scheme == "https":
		if u.Host == "" {
			return "has no host"
		}
		return ""
	case u.Scheme == "http":
		if config.Loopback(u.Hostname()) {
			return ""
		}
		return "is not https"
	case applicationType == "native" && strings.Contains(u.Scheme, ".") && u.Opaque == "":
		return "" // RFC 8252, 7.1: a reverse domain name
	}
	return "is not https"
}

// isWebURL tells whether an address is an https URL, or one on this machine if loopback.
func isWebURL(address string, loopback bool) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || loopback && u.Scheme == "http" && config.Loopback(u.Hostname())
}

func hosts(uris []string) []string {
	var list []string
	for _, uri := range uris {
		if u, err := url.Parse(uri); err == nil && !slices.Contains(list, u.Host) {
			list = append(list, u.Host)
		}
	}
	return list
}

// sector is what pairwise subjects are computed for (OpenID Connect Core, 8.1).
func (c *Client) sector() string {
	uri := c.SectorIdentifierURI
	if uri == "" && len(c.RedirectURIs) > 0 {
		uri = c.RedirectURIs[0]
	}
	if u, err := url.Parse(uri); err == nil && u.Host != "" {
		return u.Host
	}
	return c.ClientID
}

// publicKeys reads a JWKS that holds nothing private or symmetric.
func publicKeys(raw json.RawMessage) (jwk.Set, error) {
	keys, err := jwk.Parse(raw)
	if err != nil || keys.Len() == 0 {
		return nil, fmt.Errorf("is not a JSON Web Key Set with keys in it")
	}
	for i := range keys.Len() {
		key, _ := keys.Key(i)
		switch key.(type) {
		case jwk.RSAPublicKey, jwk.ECDSAPublicKey, jwk.OKPPublicKey:
		default:
			return nil, fmt.Errorf("has a key that is private or symmetric")
		}
		if n, ok := key.(jwk.RSAPublicKey); ok && len(n.N()) < minRSA/8 {
			return nil, fmt.Errorf("has an RSA key of less than %d bits", minRSA)
		}
	}
	return keys, nil
}

// hashPrefix names how secrets are hashed: they are long and random, so that one round
// of SHA-256 is as good as a slow hash, and does not hold up each request.
const hashPrefix = "sha256:"

// HashSecret is a client secret as it is stored.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

func decodeHash(hash string) ([]byte, error) {
	text, ok := strings.CutPrefix(hash, hashPrefix)
	sum, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("is not the hash of a secret")
	}
	return sum, nil
}

// hasSecret compares with all secrets of the client, in the same time whichever fits.
func (c *Client) hasSecret(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	match := 0
	hashes := c.ClientSecretHash
	if c.ClientSecret != "" {
		hashes = append(slices.Clone(hashes), HashSecret(c.ClientSecret))
	}
	for _, h := range hashes {
		if want, err := decodeHash(h); err == nil {
			match |= subtle.ConstantTimeCompare(sum[:], want)
		}
	}
	return match == 1
}

// sortedWords is a list of words in one order, so that lists can be compared.
func sortedWords(s string) string {
	words := strings.Fields(s)
	slices.Sort(words)
	return strings.Join(words, " ")
}
