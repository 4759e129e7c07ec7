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
	"unicode"
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

	self bool     // it has registered itself
	keys jwk.Set  // of JWKS; nil when there are none
	more []string // secrets in plain text beside ClientSecret, while it is replaced
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

// check collects what is wrong with one client.
type check struct {
	*Client
	legacy bool
	bad    []Complaint
}

func (k *check) complain(field, text, remedy string) {
	k.bad = append(k.bad, Complaint{field, text, remedy})
}

// newClient completes and checks metadata. The client is good for nothing if there are
// complaints; they come in the same order each time.
func newClient(name, address string, m config.Client, legacy bool) (*Client, []Complaint) {
	c := &Client{Client: m, Name: name, URL: address}
	c.complete()
	k := &check{Client: c, legacy: legacy}
	k.names()
	k.values()
	k.flows()
	k.redirects()
	k.addresses()
	k.secrets()
	k.publishedKeys()
	k.subjects()
	c.checkProfile(k.complain)
	return c, k.bad
}

// field is a name of the metadata with its value.
type field struct{ name, value string }

func (k *check) names() {
	if k.ClientID == "" || len(k.ClientID) > 200 || strings.ContainsFunc(k.ClientID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		k.complain("client_id", "is missing, too long or has characters beside printable ASCII", "write a short name without spaces")
	}
	if !goodName(k.Name) {
		k.complain("client_name", "is longer than 200 bytes or has characters that do not show", "write a short name")
	}
}

// goodName tells whether people can be shown a name: nothing in it hides or turns round
// what stands beside it on a page.
func goodName(name string) bool {
	return len(name) <= 200 && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) })
}

func (k *check) oneOf(field, value string, allowed []string) {
	if value == "" || slices.Contains(allowed, value) {
		return
	}
	remedy := "write one of " + strings.Join(allowed, ", ")
	if near, ok := config.Nearest(value, allowed); ok {
		remedy = "did you mean " + near + "?"
	}
	k.complain(field, config.Quote(value)+" is not supported", remedy)
}

// values checks what is one of a few words.
func (k *check) values() {
	k.oneOf("token_endpoint_auth_method", k.TokenEndpointAuthMethod, authMethods)
	k.oneOf("application_type", k.ApplicationType, []string{"web", "native"})
	k.oneOf("subject_type", k.SubjectType, []string{subjectPublic, subjectPairwise})
	k.oneOf("access_token_format", k.AccessTokenFormat, []string{tokenJWT, tokenOpaque})
	for _, f := range []field{
		{"id_token_signed_response_alg", k.IDTokenSignedResponseAlg}, {"userinfo_signed_response_alg", k.UserinfoSignedResponseAlg},
		{"authorization_signed_response_alg", k.AuthorizationSignedResponseAlg}, {"introspection_signed_response_alg", k.IntrospectionSignedResponseAlg},
		{"request_object_signing_alg", k.RequestObjectSigningAlg},
	} {
		k.oneOf(f.name, f.value, signingAlgs)
	}
	algs := signingAlgs
	if k.TokenEndpointAuthMethod == authSecretJWT {
		algs = secretAlgs
	}
	k.oneOf("token_endpoint_auth_signing_alg", k.TokenEndpointAuthSigningAlg, algs)
	if k.DefaultMaxAge != nil && *k.DefaultMaxAge < 0 {
		k.complain("default_max_age", "is less than 0", "write a number of seconds")
	}
}

// flows checks that grant_types and response_types go together (OpenID Connect Dynamic
// Client Registration 1.0, 2; RFC 7591, 2.1).
func (k *check) flows() {
	for _, g := range k.GrantTypes {
		if g == grantImplicit && !k.legacy {
			k.complain("grant_types", `"implicit" is switched off`, "remove it, or set OIDC_LEGACY_FLOWS=true")
			continue
		}
		k.oneOf("grant_types", g, slices.DeleteFunc(slices.Clone(grantTypes), func(t string) bool { return t == grantImplicit && !k.legacy }))
	}
	for _, t := range k.ResponseTypes {
		words := strings.Fields(t)
		switch same := func(known string) bool { return sortedWords(known) == sortedWords(t) }; {
		case !slices.ContainsFunc(responseTypes(true), same):
			k.oneOf("response_types", t, responseTypes(k.legacy))
			continue
		case !slices.ContainsFunc(responseTypes(k.legacy), same):
			k.complain("response_types", config.Quote(t)+" is switched off", "remove it, or set OIDC_LEGACY_FLOWS=true")
			continue
		}
		if slices.Contains(words, "code") && !k.allows(grantCode) {
			k.complain("response_types", config.Quote(t)+" wants authorization_code in grant_types", "write it there")
		}
		if t != "code" && !k.allows(grantImplicit) {
			k.complain("response_types", config.Quote(t)+" wants implicit in grant_types", "write it there")
		}
	}
	if k.allows(grantRefresh) && !k.allows(grantCode) && !k.allows(grantDevice) {
		k.complain("grant_types", "has refresh_token, but nothing that gives one", "write authorization_code beside it")
	}
}

// redirects checks where browsers are sent to.
func (k *check) redirects() {
	for _, list := range []struct {
		field, remedy string
		uris          []string
	}{
		{"redirect_uris", "write the exact address that the application is sent back to", k.RedirectURIs},
		{"post_logout_redirect_uris", "write the exact address that people are sent to after signing out", k.PostLogoutRedirectURIs},
	} {
		for i, uri := range list.uris {
			if text := checkRedirectURI(uri, k.ApplicationType); text != "" {
				k.complain(list.field, config.QuoteURL(uri)+" "+text, list.remedy)
			} else if slices.Contains(list.uris[:i], uri) {
				k.complain(list.field, config.QuoteURL(uri)+" is given twice", "remove one of them")
			}
		}
	}
	if len(k.RedirectURIs) == 0 && (k.allows(grantCode) || k.allows(grantImplicit)) {
		k.complain("redirect_uris", "is missing", "write where people are sent back to after signing in")
	}
	for _, uri := range k.RedirectURIs {
		if k.ApplicationType == "web" && k.allows(grantImplicit) && strings.HasPrefix(uri, "http:") {
			k.complain("redirect_uris", config.QuoteURL(uri)+" is not https, and tokens are sent there (grant_types has implicit)", "write https://…")
		}
	}
}

// addresses checks what we, or browsers on our pages, ask for.
func (k *check) addresses() {
	for _, f := range []field{{"logo_uri", k.LogoURI}, {"client_uri", k.ClientURI}, {"policy_uri", k.PolicyURI}, {"tos_uri", k.TOSURI}} {
		base, _, _ := strings.Cut(f.value, "#")
		k.https(f, base, true)
	}
	for _, f := range []field{{"jwks_uri", k.JWKSURI}, {"backchannel_logout_uri", k.BackchannelLogoutURI}, {"frontchannel_logout_uri", k.FrontchannelLogoutURI}} {
		k.https(f, f.value, true)
	}
	for _, f := range []field{{"sector_identifier_uri", k.SectorIdentifierURI}, {"initiate_login_uri", k.InitiateLoginURI}} {
		k.https(f, f.value, false)
	}
	for _, uri := range k.RequestURIs {
		base, _, _ := strings.Cut(uri, "#") // OpenID Connect Core, 6.2: the hash of its content
		k.https(field{"request_uris", uri}, base, false)
	}
	// OpenID Connect Front-Channel Logout 1.0, 2.
	if uri := k.FrontchannelLogoutURI; isWebURL(uri, true) && !slices.ContainsFunc(k.RedirectURIs, func(r string) bool { return sameOrigin(r, uri) }) {
		k.complain("frontchannel_logout_uri", config.QuoteURL(uri)+" is at the origin of none of the redirect_uris", "write an address of the application itself")
	}
	for i, origin := range k.Origins {
		normal, text, remedy := config.CheckOrigin(origin)
		if text != "" {
			k.complain("origins", text, remedy)
			continue
		}
		k.Origins[i] = normal
	}
	for _, r := range k.Resources {
		if u, err := url.Parse(r); err != nil || u.Scheme == "" || u.Fragment != "" || len(r) > 2048 { // RFC 8707, 2
			k.complain("resources", config.QuoteURL(r)+" is not a URI without a fragment", "write the address of an API, such as https://api.example.org/")
		}
	}
}

func (k *check) https(f field, address string, loopback bool) {
	if f.value != "" && (len(f.value) > 2048 || !isWebURL(address, loopback)) {
		k.complain(f.name, config.QuoteURL(f.value)+" is not an https URL", "write https://…")
	}
}

// secrets checks that the client can prove who it is in the way it says, and in no other.
func (k *check) secrets() {
	secret := k.ClientSecret != "" || len(k.ClientSecretHash) > 0
	switch k.TokenEndpointAuthMethod {
	case authNone:
		if secret {
			k.complain("token_endpoint_auth_method", "is none, but there is a secret", "remove the secret, or write client_secret_basic")
		}
		if k.allows(grantCredentials) {
			k.complain("grant_types", "has client_credentials, but the client has nothing to prove who it is", "give it a secret or a key")
		}
		if k.RequirePKCE != nil && !*k.RequirePKCE {
			k.complain("require_pkce", "is false, but the client has nothing else to prove who it is (RFC 9700, 2.1.1)", "remove it, or give the client a secret or a key")
		}
	case authPrivateJWT:
		if len(k.JWKS) == 0 && k.JWKSURI == "" {
			k.complain("jwks", "is missing, and so is jwks_uri, for token_endpoint_auth_method private_key_jwt", "write one of them")
		}
		if secret {
			k.complain("token_endpoint_auth_method", "is private_key_jwt, but there is a secret", "remove the secret")
		}
	case authSecretJWT:
		// The key of the signature is the secret itself: a hash will not do.
		least := minSecret[cmp.Or(k.TokenEndpointAuthSigningAlg, "HS256")]
		switch {
		case k.ClientSecret == "":
			k.complain("client_secret", "is missing: client_secret_jwt needs the secret in plain text", "write client_secret or client_secret_file")
		case len(k.ClientSecret) >= 16 && len(k.ClientSecret) < least:
			k.complain("client_secret", fmt.Sprintf("is shorter than %d bytes, which its signatures need (RFC 7518, 3.2)", least), "write a long random text, for example the output of: openssl rand -base64 48")
		}
	default:
		if !secret {
			k.complain("client_secret", "is missing for token_endpoint_auth_method "+config.Printable(k.TokenEndpointAuthMethod), "write client_secret, client_secret_hash or client_secret_file, or token_endpoint_auth_method none for an application without a server")
		}
	}
	for _, s := range k.plainSecrets() {
		if len(s) < 16 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			k.complain("client_secret", "is shorter than 16 characters, or has control characters", "write a long random text, for example the output of: openssl rand -base64 32")
			break
		}
	}
	for _, h := range k.ClientSecretHash {
		if _, err := decodeHash(h); err != nil {
			k.complain("client_secret_hash", err.Error(), `write "sha256:" and the base64url of the SHA-256 of the secret`)
		}
	}
}

func (k *check) publishedKeys() {
	if len(k.JWKS) == 0 {
		return
	}
	if k.JWKSURI != "" {
		k.complain("jwks", "stands beside jwks_uri", "remove one of them")
	}
	keys, err := publicKeys(k.JWKS)
	if err != nil {
		k.complain("jwks", err.Error(), "write a JSON Web Key Set with public keys")
	}
	k.keys = keys
}

func (k *check) subjects() {
	if k.SubjectType == subjectPairwise && k.SectorIdentifierURI == "" && len(hosts(k.RedirectURIs)) > 1 {
		k.complain("sector_identifier_uri", "is missing: redirect_uris are on several hosts, and subject_type is pairwise", "write a sector_identifier_uri")
	}
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
		c.GrantTypes = grantsOf(c.ResponseTypes)
	}
	if len(c.ResponseTypes) == 0 && c.allows(grantCode) {
		c.ResponseTypes = []string{"code"}
	}
}

// grantsOf are the grant types of a client that names none: those that its response
// types want, and refresh tokens.
func grantsOf(responseTypes []string) []string {
	var code, implicit bool
	for _, t := range responseTypes {
		words := strings.Fields(t)
		code = code || slices.Contains(words, "code")
		implicit = implicit || slices.Contains(words, "token") || slices.Contains(words, "id_token")
	}
	grants := []string{grantCode, grantRefresh}
	switch {
	case implicit && !code:
		grants = []string{grantImplicit}
	case implicit:
		grants = append(grants, grantImplicit)
	}
	return grants
}

func (c *Client) allows(grant string) bool { return slices.Contains(c.GrantTypes, grant) }

// label names the client in metrics. Those that have registered themselves are one there: who
// may register could make any number of names.
func (c *Client) label() string {
	if c.self {
		return selfRegistered
	}
	return c.ClientID
}

// public clients cannot keep a secret (RFC 6749, 2.1).
func (c *Client) public() bool { return c.TokenEndpointAuthMethod == authNone }

// requiresPKCE tells whether codes are given to challenges only (RFC 7636). An operator may
// let a confidential client do without: a code is worth nothing then without its secret.
func (c *Client) requiresPKCE() bool {
	return c.RequirePKCE == nil || *c.RequirePKCE || c.public() || c.FAPI
}

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
	case strings.Contains(uri, "*"):
		return "has a wildcard: redirect URIs are compared letter by letter, or codes could be sent where they are stolen (RFC 9700, 4.1)"
	case u.User != nil:
		return "contains a user name or a password"
	case u.Scheme == "https":
		if u.Hostname() == "" {
			return "has no host"
		}
		return ""
	case u.Scheme == "http":
		if config.Loopback(u.Hostname()) {
			return ""
		}
		return "is not https, which is needed but for this machine (localhost, 127.0.0.1)"
	case applicationType == "native" && strings.Contains(u.Scheme, ".") && u.Opaque == "":
		return "" // RFC 8252, 7.1: a reverse domain name
	case applicationType == "native":
		return "is not https, and its scheme is not a domain name in reverse such as org.example.app (RFC 8252, 7.1)"
	}
	return "is not https"
}

// isWebURL tells whether an address is an https URL, or one on this machine if loopback.
func isWebURL(address string, loopback bool) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Contains(address, "#") || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' || r == '"' }) {
		return false
	}
	return u.Scheme == "https" || loopback && u.Scheme == "http" && config.Loopback(u.Hostname())
}

// sameOrigin tells whether two addresses have scheme, host and port in common.
func sameOrigin(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	port := func(u *url.URL) string {
		return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return errX == nil && errY == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Hostname(), y.Hostname()) && port(x) == port(y)
}

// hosts lists the hosts of addresses, without ports, each once.
func hosts(uris []string) []string {
	var list []string
	for _, uri := range uris {
		if u, err := url.Parse(uri); err == nil && !slices.Contains(list, strings.ToLower(u.Hostname())) {
			list = append(list, strings.ToLower(u.Hostname()))
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
	// The host component, without a port. What an app has in its place everybody may write.
	if u, err := url.Parse(uri); err == nil && u.Scheme == "https" && u.Hostname() != "" {
		return strings.ToLower(u.Hostname())
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

// hashClientSecret is a client secret as it is stored.
func hashClientSecret(secret string) string { return hashPrefix + hashSecret(secret) }

func decodeHash(hash string) ([]byte, error) {
	text, ok := strings.CutPrefix(hash, hashPrefix)
	sum, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("is not the hash of a secret")
	}
	return sum, nil
}

// plainSecrets are the secrets of the client that are known in plain text.
func (c *Client) plainSecrets() []string {
	if c.ClientSecret == "" {
		return nil
	}
	return append([]string{c.ClientSecret}, c.more...)
}

// hasSecret compares with all secrets of the client, in the same time whichever fits.
func (c *Client) hasSecret(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	match := 0
	compare := func(known string) {
		want := sha256.Sum256([]byte(known))
		match |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	if c.ClientSecret != "" {
		compare(c.ClientSecret)
		for _, s := range c.more {
			compare(s)
		}
	}
	for _, h := range c.ClientSecretHash {
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
