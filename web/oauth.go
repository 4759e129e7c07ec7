package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/identity"
	"login-server/internal/outbound"
	"login-server/oidc"
	"login-server/templates"
	"login-server/token"
)

// Pages of the OpenID Provider. What the protocol wants is decided in package oidc; here
// people are asked for it.
const (
	pathAuthorize = "/oauth/authorize"
	pathContinue  = "/oauth/continue"
)

// newOpenID makes the OpenID Provider of the installation.
func (s *Server) newOpenID() (*oidc.Provider, error) {
	cfg := s.Config
	var keys [][]byte
	for _, secret := range cfg.SessionSecrets {
		keys = append(keys, token.DeriveKey(secret, "refresh token"))
	}
	codes, err := token.NewSealer(cfg.SessionSecrets, "authorization code")
	if err != nil {
		return nil, err
	}
	var locales []string
	for _, language := range s.Templates.Languages() {
		locales = append(locales, language.Tag)
	}
	var hasFactor func(context.Context, identity.Account) (bool, error)
	if _, ok := s.Providers.Local(); ok {
		hasFactor = s.hasFactor
	}
	return oidc.New(context.Background(), cfg.Applications, oidc.Options{
		HasFactor: hasFactor,
		Issuer:    strings.TrimSuffix(cfg.BaseURL.String(), "/"), Store: s.Store, Users: s.Users, Sessions: s.Sessions, Tokens: s.Tokens,
		HTTP: outbound.New(outbound.Options{
			Loopback: !cfg.Production(), Trusted: oidc.Addresses(cfg.Applications), Version: s.Version,
		}),
		Limit:       s.limitPublic,
		Issued:      func(client, grantType string) { s.metrics.tokens.WithLabelValues(client, grantType).Inc() },
		Refused:     func(endpoint, code string) { s.metrics.refusals.WithLabelValues(endpoint, code).Inc() },
		Changed:     s.Bus.Publish,
		RefreshKeys: keys, Codes: codes, Clock: s.Clock, Log: s.Log, Logouts: s.Logouts, Locales: locales, LegacyFlows: cfg.LegacyFlows,
		Registration: cfg.ClientRegistration, RegistrationLimit: cfg.ClientRegistrationLimit,
		AccessTokenLife: cfg.AccessTokenLife, RefreshIdle: cfg.RefreshIdle, RefreshLife: cfg.RefreshLife,
	})
}

func (s *Server) mountOAuth(r chi.Router) {
	for pattern, endpoint := range s.openid.Endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		if pattern == "POST "+oidc.PathRegister {
			endpoint = s.limitRegistrations(endpoint)
		}
		r.Method(method, path, endpoint)
	}
	r.Get(pathAuthorize, s.page(s.authorize))
	r.Post(pathAuthorize, s.page(s.authorize))
	r.Get(pathContinue, s.page(s.resumeAuthorization))
	r.Post(pathContinue, s.page(s.decideAuthorization))
	r.Get(oidc.PathEndSession, s.page(s.endSessionRequest))
	r.Post(oidc.PathEndSession, s.page(s.endSessionRequest))
	r.Post(pathSignOut, s.page(s.signOutConfirmed))
}

// isProtocolPath tells where clients post from elsewhere: our own pages below /oauth/ are
// not among them.
func isProtocolPath(path string) bool {
	path = strings.TrimSuffix(path, "/") // as the router sees it
	return strings.HasPrefix(path, "/oauth/") && path != pathContinue && path != pathSignOut
}

// person is who is signed in, as the OpenID Provider sees them.
func (v visitor) person() *oidc.Person {
	if v.account == nil {
		return nil
	}
	return &oidc.Person{Session: *v.Session, Account: *v.account}
}

// authorize serves the authorization endpoint (RFC 6749, 3.1), by GET and POST.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if r.Method == http.MethodPost {
		if err = r.ParseForm(); errors.As(err, new(*http.MaxBytesError)) {
			return err
		}
		values = r.PostForm
	}
	if err != nil {
		// Reading on without what cannot be read would make another request of it.
		return &Error{Status: http.StatusBadRequest, Code: "invalid_request", Message: "The parameters cannot be read.", Link: s.path("")}
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		// Whoever is not signed in leaves a document that waits.
		if err := s.limits.departure(r.Context(), clientAddress(r)); err != nil {
			return err
		}
	}
	var step oidc.Step
	if r.Method == http.MethodPost && v.Session == nil {
		// A form on a page of the client comes without our cookie; what follows it does not.
		step, err = s.openid.Postpone(r.Context(), values)
	} else {
		step, err = s.openid.Authorize(r.Context(), values, v.person())
	}
	if err != nil {
		return err
	}
	if step.Ask != nil {
		return redirect(w, s.continuation(step.Ask.Interaction))
	}
	return s.take(w, r, v, step)
}

// continuation is the page where a request goes on.
func (s *Server) continuation(interaction string) string {
	return s.path(strings.TrimPrefix(pathContinue, "/") + "?" + url.Values{"request": {interaction}}.Encode())
}

// resumeAuthorization serves GET /oauth/continue: what is missing is asked for, and when
// nothing is, the client gets its answer.
func (s *Server) resumeAuthorization(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	step, err := s.openid.Resume(r.Context(), r.URL.Query().Get("request"), v.person())
	if err != nil {
		return err
	}
	return s.take(w, r, v, step)
}

// decideAuthorization serves POST /oauth/continue: the answer to what was asked there.
func (s *Server) decideAuthorization(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	task := oidc.Consent
	if fields["task"] == "choose" {
		task = oidc.Choose
	}
	if fields["person"] != v.personID() {
		// Somebody else has signed in since the page was shown: they are asked themselves.
		return redirect(w, s.continuation(fields["request"]))
	}
	if fields["task"] == "login" {
		step, err := s.openid.Decline(r.Context(), fields["request"])
		if err != nil {
			return err
		}
		return s.take(w, r, v, step)
	}
	step, err := s.openid.Decide(r.Context(), fields["request"], task, fields["decision"] == "allow", v.person())
	if err != nil {
		return err
	}
	return s.take(w, r, v, step)
}

// personID names who a page was shown to.
func (v visitor) personID() string {
	if v.account == nil {
		return ""
	}
	return v.account.ID
}

// take does what has to happen next with an authorization request.
func (s *Server) take(w http.ResponseWriter, r *http.Request, v visitor, step oidc.Step) error {
	switch {
	case step.Refuse != nil:
		return &Error{Status: http.StatusBadRequest, Code: step.Refuse.Code, Message: step.Refuse.Description, Detail: step.Refuse.Description, Link: s.path("")}
	case step.Answer != nil && step.Answer.Post:
		page := templates.FormPostPage{Layout: s.layout(w, r, v), Auto: true, Action: step.Answer.URL, Parameters: map[string]string{}}
		for name := range step.Answer.Parameters {
			page.Parameters[name] = step.Answer.Parameters.Get(name)
		}
		s.renderPosting(w, page)
		return nil
	case step.Answer != nil && s.blocked(step.Answer.URL):
		page := templates.LeavePage{Layout: s.layout(w, r, v), URL: step.Answer.URL, Auto: true}
		s.render(w, http.StatusOK, page.Nonce, page)
		return nil
	case step.Answer != nil:
		return redirect(w, step.Answer.URL)
	}
	ask := step.Ask
	switch ask.Task {
	case oidc.SignIn:
		query := url.Values{"redirect_uri": {s.Config.Origin() + s.continuation(ask.Interaction)}}
		if ask.Fresh {
			query.Set("fresh", "1")
		}
		return redirect(w, s.path("login?"+query.Encode()))
	case oidc.StepUp:
		return s.stepUp(w, s.Config.Origin()+s.continuation(ask.Interaction))
	case oidc.Choose:
		page := templates.ChoosePage{Layout: s.layout(w, r, v), Client: clientOf(ask), Request: ask.Interaction, Person: v.personID(),
			Action: s.path(strings.TrimPrefix(pathContinue, "/")), Other: s.asAnother(ask)}
		s.speak(r, &page.Layout, ask.UILocales)
		s.renderFor(w, page.Nonce, page, ask.RedirectURI, page.Client.Logo)
	case oidc.Consent:
		page := templates.ConsentPage{Layout: s.layout(w, r, v), Client: clientOf(ask), Request: ask.Interaction, Person: v.personID(),
			Action: s.path(strings.TrimPrefix(pathContinue, "/")), Other: s.asAnother(ask)}
		for _, scope := range ask.Scopes {
			page.Scopes = append(page.Scopes, scopeInWords(scope))
		}
		s.speak(r, &page.Layout, ask.UILocales)
		s.renderFor(w, page.Nonce, page, ask.RedirectURI, page.Client.Logo)
	}
	return nil
}

// asAnother is where somebody signs in as somebody else for a request that waits.
func (s *Server) asAnother(ask *oidc.Ask) string {
	return s.path("login?" + url.Values{"fresh": {"1"}, "redirect_uri": {s.Config.Origin() + s.continuation(ask.Interaction)}}.Encode())
}

// blocked tells whether browsers would not follow a redirect to an address after a form:
// the policy of our pages allows https, and applications on somebody's own device have
// another scheme, or no encryption (RFC 8252, 7). A page leads them there.
func (s *Server) blocked(address string) bool {
	scheme, _, _ := strings.Cut(address, ":")
	return scheme != "https" && scheme != s.Config.BaseURL.Scheme
}

// waiting finds the request of a client that a login is on the way for; nil if there is none.
func (s *Server) waiting(ctx context.Context, redirect string) (*oidc.Ask, error) {
	query, ok := strings.CutPrefix(redirect, s.Config.Origin()+s.path(strings.TrimPrefix(pathContinue, "/"))+"?")
	if !ok {
		return nil, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, nil
	}
	ask, found, err := s.openid.Waiting(ctx, values.Get("request"))
	if err != nil || !found {
		return nil, err
	}
	return &ask, nil
}

// scopeTexts are the words for scopes on pages; with _text behind them, a sentence.
var scopeTexts = map[string]string{
	"profile": "scope_profile", "email": "scope_email", "phone": "scope_phone", "address": "scope_address",
	"offline_access": "scope_offline_access", "identities": "scope_identities", "session_events": "scope_session_events",
}

func scopeInWords(scope string) templates.Scope {
	id := scopeTexts[scope]
	return templates.Scope{Title: templates.Message{ID: id}, Text: templates.Message{ID: id + "_text"}}
}

// clientView is a client as pages show it; a logo that the policy of pages cannot name is
// left out, and so is a host of which nobody knows whether it is theirs.
func clientView(c *oidc.Client) templates.Client {
	view := templates.Client{ID: c.ClientID, Name: c.Name, URL: c.URL, Policy: c.PolicyURI, Terms: c.TOSURI}
	if !c.Registered {
		view.Host = hostOf(c.URL)
	}
	if picturable(c.LogoURI) {
		view.Logo = c.LogoURI
	}
	return view
}

// clientOf is the client of a request. Its host is that of the address where the answer
// goes: that is what it has proved to be. Of an app it is the scheme, for what comes after
// that may look like anybody's.
func clientOf(ask *oidc.Ask) templates.Client {
	view := clientView(ask.Client)
	scheme, _, _ := strings.Cut(ask.RedirectURI, ":")
	if view.Host = scheme + ":"; scheme == "https" || scheme == "http" {
		view.Host = hostOf(ask.RedirectURI)
	}
	return view
}

// renderPosting answers with a page that posts a form to a client. Its policy names no
// form-action: browsers hold the redirects that follow a form to it as well, and where a
// client sends people on to is not known here.
func (s *Server) renderPosting(w http.ResponseWriter, page templates.FormPostPage) {
	s.renderUnder(w, http.StatusOK, "default-src 'none'; style-src 'self' 'nonce-"+page.Nonce+"'; img-src 'self'; script-src 'nonce-"+page.Nonce+"'; base-uri 'none'; frame-ancestors 'none'", page)
}
