package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"login-server/config"
	"login-server/internal/outbound"
	"login-server/store"
)

// Who may register clients: nobody, who has an initial access token, or anybody.
const (
	RegistrationOff   = "off"
	RegistrationToken = "token"
	RegistrationOpen  = "open"
)

const (
	maxRegistration = 64 << 10 // bytes
	// maxURIs is how many entries a list in the metadata may have.
	maxURIs = 50
	// maxSector is how many bytes there may be at a sector_identifier_uri.
	maxSector = 64 << 10
)

// Metadata that clients may register (RFC 7591, 2; OpenID Connect Dynamic Client
// Registration 1.0, 2; those of the logout specifications, JARM, DPoP, PAR, JAR).
var registrable = []string{
	"client_name", "client_uri", "logo_uri", "policy_uri", "tos_uri", "contacts",
	"application_type", "redirect_uris", "grant_types", "response_types", "scope",
	"token_endpoint_auth_method", "token_endpoint_auth_signing_alg", "jwks", "jwks_uri",
	"subject_type", "sector_identifier_uri",
	"id_token_signed_response_alg", "userinfo_signed_response_alg", "authorization_signed_response_alg",
	"introspection_signed_response_alg", "request_object_signing_alg",
	"request_uris", "require_signed_request_object", "require_pushed_authorization_requests", "dpop_bound_access_tokens",
	"default_max_age", "require_auth_time", "default_acr_values", "initiate_login_uri",
	"post_logout_redirect_uris", "backchannel_logout_uri", "backchannel_logout_session_required",
	"frontchannel_logout_uri", "frontchannel_logout_session_required",
	"software_id", "software_version", "access_token_format",
}

// Metadata that only an operator gives: it says who the client is, what it is trusted
// with, or what it reaches.
var reserved = []string{
	"client_id", "client_secret", "client_secret_hash", "client_secret_file",
	"trusted", "require_mfa", "fapi", "require_pkce", "origins", "resources",
}

// registration is what a client asks to be known as.
type registration struct {
	ClientName string `json:"client_name,omitempty"`
	config.Client
}

func invalidMetadata(field, text string) *Error {
	code := "invalid_client_metadata"
	if name, _, _ := strings.Cut(field, " "); name == "redirect_uris" {
		code = "invalid_redirect_uri"
	}
	return fail(code, "%s %s.", field, strings.TrimSuffix(text, "."))
}

// readRegistration reads the body of a request. Names that are not known, and those that
// clients may not choose, are left out (RFC 7591, 2); rest has them.
func readRegistration(r *http.Request) (m registration, rest map[string]json.RawMessage, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return m, nil, fail("invalid_client_metadata", "The body is not application/json.")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRegistration+1))
	if err != nil || len(body) > maxRegistration {
		return m, nil, &Error{Code: "invalid_client_metadata", Description: "The request is too large.", Status: http.StatusRequestEntityTooLarge}
	}
	if err := json.Unmarshal(body, &rest); err != nil || rest == nil {
		return m, nil, fail("invalid_client_metadata", "The body is not a JSON object.")
	}
	wanted := map[string]json.RawMessage{}
	for _, name := range registrable { // letter by letter, which encoding/json is not
		if value, ok := rest[name]; ok {
			wanted[name] = value
			delete(rest, name)
		}
	}
	raw, err := json.Marshal(wanted)
	if err != nil {
		return m, nil, err
	}
	if problems := config.Decode(raw, "", &m); len(problems) > 0 {
		return m, nil, invalidMetadata(problems[0].Field, problems[0].Text)
	}
	for _, list := range []struct {
		field string
		size  int
	}{
		{"redirect_uris", len(m.RedirectURIs)}, {"post_logout_redirect_uris", len(m.PostLogoutRedirectURIs)}, {"request_uris", len(m.RequestURIs)},
		{"contacts", len(m.Contacts)}, {"default_acr_values", len(m.DefaultACRValues)}, {"grant_types", len(m.GrantTypes)}, {"response_types", len(m.ResponseTypes)},
	} {
		if list.size > maxURIs {
			return m, nil, invalidMetadata(list.field, fmt.Sprintf("has more than %d entries", maxURIs))
		}
	}
	return m, rest, nil
}

// settle makes the metadata of a registration explicit where the specification has a
// default, so that the client learns it, and limits it to what clients may give
// themselves.
func (m *registration) settle() error {
	if len(m.GrantTypes) == 0 {
		// RFC 7591, 2: authorization_code and nothing else, unless the response types want it.
		m.GrantTypes = slices.DeleteFunc(grantsOf(m.ResponseTypes), func(g string) bool { return g == grantRefresh })
	}
	if slices.Contains(m.GrantTypes, grantExchange) {
		return invalidMetadata("grant_types", "has token-exchange, which is for clients of the operator")
	}
	if m.Scope != "" {
		// Another scope may mean something to an API behind this server; nobody gives
		// themselves that.
		known := slices.DeleteFunc(strings.Fields(m.Scope), func(s string) bool { return !slices.Contains(scopes, s) })
		if m.Scope = strings.Join(known, " "); m.Scope == "" {
			return invalidMetadata("scope", "has no scope that can be registered")
		}
	}
	format := m.AccessTokenFormat
	c := &Client{Client: m.Client}
	c.complete()
	m.Client = c.Client
	m.AccessTokenFormat = format // a name of our own: unless it was asked for, nobody expects it
	return nil
}

// checkSector asks for what is at the sector_identifier_uri: a list that has all redirect
// URIs in it (OpenID Connect Dynamic Client Registration 1.0, 5).
func (p *Provider) checkSector(ctx context.Context, m *registration) error {
	uri := m.SectorIdentifierURI
	if uri == "" {
		return nil
	}
	if !isWebURL(uri, false) {
		return invalidMetadata("sector_identifier_uri", "is not an https URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := outbound.Get(ctx, p.o.HTTP, uri, "application/json", maxSector)
	if err != nil {
		p.o.Log.InfoContext(ctx, "sector_identifier_uri cannot be read", "err", err)
		return invalidMetadata("sector_identifier_uri", "cannot be read")
	}
	var listed []string
	if err := json.Unmarshal(body, &listed); err != nil {
		return invalidMetadata("sector_identifier_uri", "does not lead to a JSON list of redirect URIs")
	}
	for _, uri := range m.RedirectURIs {
		if !slices.Contains(listed, uri) {
			return invalidMetadata("sector_identifier_uri", "leads to a list without "+config.QuoteURL(uri))
		}
	}
	return nil
}

// Registration returns the handlers of dynamic registration by method and path; none if
// it is off.
func (p *Provider) Registration() map[string]http.Handler {
	if p.o.Registration != RegistrationToken && p.o.Registration != RegistrationOpen {
		return nil
	}
	one := PathRegister + "/{client}"
	return map[string]http.Handler{
		"POST " + PathRegister: p.registering(http.StatusCreated, p.registerClient),
		"GET " + one:           p.registering(http.StatusOK, p.showClient),
		"PUT " + one:           p.registering(http.StatusOK, p.changeClient),
		"DELETE " + one:        p.registering(http.StatusNoContent, p.deleteClient),
	}
}

// registering makes a handler that answers with a status, or an error (RFC 7591, 3.2.2;
// RFC 6750, 3).
func (p *Provider) registering(status int, handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := handle(r)
		switch {
		case err != nil && asError(err).status() == http.StatusUnauthorized:
			challenge := "Bearer"
			if r.Header.Get("Authorization") != "" {
				challenge += ` error="invalid_token"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
			p.fail(w, r, err)
		case err != nil:
			p.fail(w, r, err)
		case status == http.StatusNoContent:
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(status)
		default:
			writeJSON(w, status, value)
		}
	}
}

// bearerOf is the token in the Authorization header: neither the query nor the body is
// looked at.
func bearerOf(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func noRegistration(what string) *Error {
	e := fail("invalid_token", "The %s access token is missing, unknown, has expired or was used up.", what)
	e.Status = http.StatusUnauthorized
	return e
}

// registerClient serves POST (RFC 7591, 3). A use of the initial token is spent after
// everything is checked and before anything is made.
func (p *Provider) registerClient(r *http.Request) (any, error) {
	ctx, registry := r.Context(), p.clients.registry
	token := ""
	if p.o.Registration == RegistrationToken {
		token = bearerOf(r)
		if err := registry.spend(ctx, token, false); errors.Is(err, ErrNoToken) {
			return nil, noRegistration("initial")
		} else if err != nil {
			return nil, err
		}
	}
	m, _, err := readRegistration(r)
	if err != nil {
		return nil, err
	}
	if err := m.settle(); err != nil {
		return nil, err
	}
	now, access := p.o.Clock.Now(), random()
	m.ClientID = newClientID()
	s := storedClient{Name: m.ClientName, URL: m.ClientURI, Client: m.Client, Created: now, Self: true, Access: hashSecret(access)}
	secret := p.secretFor(&s)
	if err := p.acceptable(s); err != nil {
		return nil, err
	}
	if err := p.checkSector(ctx, &m); err != nil {
		return nil, err
	}
	if n, err := registry.stored.Count(ctx, selfRegistered); err != nil {
		return nil, err
	} else if n >= p.o.RegistrationLimit {
		p.o.Log.WarnContext(ctx, "no client can register: there are as many as CLIENT_REGISTRATION_LIMIT allows", "clients", n)
		return nil, &Error{Code: "temporarily_unavailable", Description: "No more clients can be registered.", Status: http.StatusServiceUnavailable}
	}
	if p.o.Registration == RegistrationToken {
		if err := registry.spend(ctx, token, true); errors.Is(err, ErrNoToken) {
			return nil, noRegistration("initial")
		} else if err != nil {
			return nil, err
		}
	}
	if _, err := registry.stored.Insert(ctx, m.ClientID, s); err != nil {
		return nil, err
	}
	p.clientChanged(m.ClientID) // its pages may have asked before it was there
	p.o.Log.InfoContext(ctx, "client registered", "client", m.ClientID)
	return p.information(s, secret, access)
}

// secretFor gives the client a secret if it wants one and has none that serves.
func (p *Provider) secretFor(s *storedClient) string {
	method, now := s.Client.TokenEndpointAuthMethod, p.o.Clock.Now()
	s.Secrets = s.inForce(now)
	switch {
	case !usesSecret(method):
		s.Secrets = nil
	case method == authSecretJWT && !slices.ContainsFunc(s.Secrets, func(x storedSecret) bool { return x.Seed != "" }):
		s.Secrets = nil // they are not known in plain text
		return s.newSecret(now, p.o.RefreshKeys[0])
	case len(s.Secrets) == 0:
		return s.newSecret(now, nil)
	}
	return ""
}

// acceptable checks the metadata of a client that registers itself.
func (p *Provider) acceptable(s storedClient) error {
	if _, bad := s.client(p.o.Clock.Now(), p.o.RefreshKeys, p.o.LegacyFlows); len(bad) > 0 {
		return invalidMetadata(bad[0].Field, bad[0].Text)
	}
	return nil
}

// information is the client information response (RFC 7591, 3.2.1). The secret is in it
// when it has just been made: it is not known afterwards.
func (p *Provider) information(s storedClient, secret, access string) (any, error) {
	raw, err := json.Marshal(registration{ClientName: s.Name, Client: s.Client})
	if err != nil {
		return nil, err
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	for _, name := range reserved {
		delete(all, name)
	}
	all["client_id"] = s.Client.ClientID
	all["client_id_issued_at"] = s.Created.Unix()
	all["registration_client_uri"] = p.o.Issuer + PathRegister + "/" + s.Client.ClientID
	all["registration_access_token"] = access
	if secret != "" {
		all["client_secret"], all["client_secret_expires_at"] = secret, 0
	}
	return all, nil
}

// registered finds the client that a request is about, and checks that it comes from who
// has registered it (RFC 7592, 2). Who has another's token, or asks for a client that is
// gone, hears the same.
func (p *Provider) registered(r *http.Request) (item store.Item[storedClient], token string, err error) {
	token = bearerOf(r)
	item, err = p.clients.registry.stored.Get(r.Context(), path.Base(strings.TrimSuffix(r.URL.Path, "/")))
	if errors.Is(noClient(err), ErrNoClient) {
		return item, "", noRegistration("registration")
	}
	if err != nil {
		return item, "", err
	}
	if token == "" || item.Value.Disabled || item.Value.Access == "" || !sameHash(item.Value.Access, token) {
		return item, "", noRegistration("registration")
	}
	return item, token, nil
}

// showClient serves GET (RFC 7592, 2.1).
func (p *Provider) showClient(r *http.Request) (any, error) {
	item, token, err := p.registered(r)
	if err != nil {
		return nil, err
	}
	return p.information(item.Value, "", token)
}

// changeClient serves PUT (RFC 7592, 2.2): what is not in the request has its default
// again. What only the operator gives, the client_id and the secret stay; a secret comes
// if the client has none and now needs it.
func (p *Provider) changeClient(r *http.Request) (any, error) {
	ctx := r.Context()
	item, token, err := p.registered(r)
	if err != nil {
		return nil, err
	}
	m, rest, err := readRegistration(r)
	if err != nil {
		return nil, err
	}
	var id, given string
	if json.Unmarshal(rest["client_id"], &id) != nil || id != item.ID {
		return nil, invalidMetadata("client_id", "is missing, or not that of the client")
	}
	for _, name := range []string{"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"} {
		if _, ok := rest[name]; ok {
			return nil, invalidMetadata(name, "cannot be changed")
		}
	}
	if raw, ok := rest["client_secret"]; ok {
		c, _ := item.Value.client(p.o.Clock.Now(), p.o.RefreshKeys, true)
		if json.Unmarshal(raw, &given) != nil || !c.hasSecret(given) {
			return nil, invalidMetadata("client_secret", "is not the one that was issued")
		}
	}
	if err := m.settle(); err != nil {
		return nil, err
	}
	if err := p.checkSector(ctx, &m); err != nil {
		return nil, err
	}
	secret := ""
	item, err = p.clients.registry.stored.Update(ctx, item.ID, func(s *storedClient) error {
		if !sameHash(s.Access, token) {
			return noRegistration("registration")
		}
		old := s.Client
		s.Name, s.URL, s.Client = m.ClientName, m.ClientURI, m.Client
		s.Client.ClientID, s.Client.Trusted, s.Client.FAPI = old.ClientID, old.Trusted, old.FAPI
		s.Client.RequireMFA = old.RequireMFA
		s.Client.RequirePKCE, s.Client.Origins, s.Client.Resources = old.RequirePKCE, old.Origins, old.Resources
		secret = p.secretFor(s)
		return p.acceptable(*s)
	})
	p.clientChanged(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noRegistration("registration")
	}
	if err != nil {
		return nil, err
	}
	p.o.Log.InfoContext(ctx, "client changed its registration", "client", id)
	return p.information(item.Value, secret, token)
}

// deleteClient serves DELETE (RFC 7592, 2.3).
func (p *Provider) deleteClient(r *http.Request) (any, error) {
	item, _, err := p.registered(r)
	if err != nil {
		return nil, err
	}
	_, err = p.clients.registry.Remove(r.Context(), item.ID)
	p.clientChanged(item.ID)
	if errors.Is(err, ErrNoClient) {
		return nil, noRegistration("registration")
	}
	if err == nil {
		p.o.Log.InfoContext(r.Context(), "client removed its registration", "client", item.ID)
	}
	return nil, err
}
