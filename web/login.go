package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/identity"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// checkTimeout is how long asking a provider for somebody's credentials may take.
const checkTimeout = 30 * time.Second

func (s *Server) mountLogin(r chi.Router) {
	r.Get("/login", s.page(s.login))
	r.Get("/login/{provider}", s.page(s.credentials))
	r.Post("/login/{provider}", s.page(s.signIn))
}

// errAnswered tells that a handler has found out, and answered, that there is
// nothing left to do.
var errAnswered = errors.New("answered")

// destination is where a login leads to. It travels in the query of each page on
// the way, so that parallel tabs, the back button, a form left open overnight and
// a restart of the server all keep it.
type destination struct {
	// redirect is an absolute URL that was checked; empty means /account.
	redirect string
	// from is a URL of the application that sent the person; may be empty.
	from        string
	application string
}

// destinationOf reads and checks where the login leads to.
func (s *Server) destinationOf(r *http.Request) (destination, error) {
	query := r.URL.Query()
	d := destination{from: query.Get("from")}
	target, given := query.Get("redirect_uri"), query.Has("redirect_uri")
	referrer := r.Referer()
	if given && target == "" {
		// Given but empty: back to where the person came from, if that may be.
		if _, err := s.Config.AllowedRedirect(referrer); err == nil && originOf(referrer) != s.Config.Origin() {
			target = referrer
		}
	}
	if target != "" {
		checked, err := s.Config.AllowedRedirect(target)
		if err != nil {
			host := "?"
			if u, err := url.Parse(target); err == nil && u.Host != "" {
				host = u.Host
			}
			return d, &Error{Status: http.StatusBadRequest, Code: "redirect_refused", Message: "This redirect_uri is not allowed.", Detail: host, Link: s.path("login"), Cause: err}
		}
		d.redirect = checked
	}
	for _, hint := range []string{d.redirect, d.from, referrer} {
		if app, ok := s.Config.ApplicationFor(hint); ok {
			d.application, d.from = app.Name, app.URL
			return d, nil
		}
	}
	d.from = ""
	return d, nil
}

// query is the destination as the query of the next page on the way.
func (d destination) query() string {
	q := url.Values{}
	if d.redirect != "" {
		q.Set("redirect_uri", d.redirect)
	}
	if d.from != "" && d.redirect == "" {
		q.Set("from", d.from)
	}
	return q.Encode()
}

func (d destination) addTo(path string) string {
	if q := d.query(); q != "" {
		return path + "?" + q
	}
	return path
}

// login serves GET /login: the providers to choose from. It gives every browser a
// cookie, so that the next GET /token carries a sessionID.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	if v.account != nil {
		if d.redirect != "" {
			return redirect(w, d.redirect)
		}
		return redirect(w, s.path("account"))
	}
	page := templates.LoginPage{Layout: s.layout(w, r, v), Application: d.application}
	page.Messages = s.takeFlash(w, r).Messages
	query := d.query()
	for _, p := range s.Providers.All() {
		page.Providers = append(page.Providers, s.provider(p.ID, query))
	}
	if host := hostOf(d.redirect); host != s.Config.BaseURL.Host {
		page.RedirectHost = host
	}
	s.render(w, r, http.StatusOK, page.Nonce, page)
	return nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// wanted returns the provider of the path, the visitor and the destination. Who is
// signed in and has an identity there already is sent to the account page.
func (s *Server) wanted(w http.ResponseWriter, r *http.Request) (p *providers.Provider, v visitor, d destination, err error) {
	p, ok := s.Providers.Get(chi.URLParam(r, "provider"))
	if !ok {
		return nil, v, d, &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is no such provider.", Link: s.path("login")}
	}
	if v, err = s.visitor(r); err != nil {
		return p, v, d, err
	}
	if d, err = s.destinationOf(r); err != nil {
		return p, v, d, err
	}
	if v.account != nil {
		if _, linked := v.account.Identities[p.ID]; linked {
			err = s.redirectNoting(w, s.path("account"), note("info", "already_linked", map[string]any{"Provider": p.Name}))
			if err == nil {
				err = errAnswered
			}
		}
	}
	return p, v, d, err
}

// credentials serves GET /login/{provider}: the form.
func (s *Server) credentials(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.wanted(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.CredentialsPage{
		Layout:      s.layout(w, r, v),
		Provider:    s.provider(p.ID, d.query()),
		Application: d.application,
		Action:      d.addTo(s.path("login/" + p.ID)),
		Back:        d.addTo(s.path("login")),
		Username:    left.Input,
		Error:       left.Field,
		Linking:     v.account != nil,
	}
	if page.Linking {
		page.Back = s.path("account")
	}
	page.Messages = left.Messages
	s.render(w, r, http.StatusOK, page.Nonce, page)
	return nil
}

func unlessAnswered(err error) error {
	if errors.Is(err, errAnswered) {
		return nil
	}
	return err
}

// signIn serves POST /login/{provider}: credentials become a profile, the profile
// an account, and the browser is bound to it.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.wanted(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	if p.Checker == nil {
		return s.methodNotAllowed(w, r)
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	again := func(f flash) error {
		f.Input = fields["username"]
		return s.redirectNoting(w, d.addTo(s.path("login/"+p.ID)), f)
	}
	for _, name := range []string{"username", "password"} {
		if fields[name] == "" {
			return again(flash{Field: &templates.FieldError{Field: name, Message: templates.Message{Kind: "error", ID: name + "_missing"}}})
		}
	}
	if err := s.limits.credentials(r.Context(), clientAddress(r), p.ID, fields["username"]); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	profile, err := p.Checker.Check(ctx, fields["username"], fields["password"])
	s.metrics.login(p.ID, err)
	var refused *providers.RefusedError
	switch {
	case errors.As(err, &refused):
		return again(note("error", "credentials_reason", map[string]any{"Reason": refused.Reason}))
	case errors.Is(err, providers.ErrRefused):
		return again(note("error", "credentials_refused", nil))
	case err != nil:
		s.Log.Warn("provider could not be asked", "request_id", requestID(r), "provider", p.ID, "err", err)
		return again(note("error", "provider_unavailable", map[string]any{"Provider": p.Name}))
	}
	return s.admit(w, r, v, d, profile)
}

// admit lets in whom a provider vouches for: it signs them in, or links the
// identity to the account of who is signed in.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, v visitor, d destination, profile identity.Profile) error {
	if v.account != nil {
		return s.link(w, r, v, d, profile)
	}
	account, _, err := s.Users.SignIn(r.Context(), profile)
	if err != nil {
		return err
	}
	if _, err := s.Sessions.SignIn(r.Context(), w, v.Visit, s.loginOf(r, account.ID, profile.Provider, d)); err != nil {
		return err
	}
	if d.redirect != "" {
		return redirect(w, d.redirect)
	}
	return s.redirectNoting(w, s.path("account"), note("success", "signed_in", nil))
}

func (s *Server) loginOf(r *http.Request, userID, provider string, d destination) session.Login {
	return session.Login{
		UserID: userID, Provider: provider, Application: d.application,
		Address: clientAddress(r), UserAgent: truncate(r.UserAgent(), 512),
	}
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}

// link adds an identity to the account of who is signed in, or says why not, or
// asks whether the accounts are to be merged.
func (s *Server) link(w http.ResponseWriter, r *http.Request, v visitor, d destination, profile identity.Profile) error {
	account, err := s.Users.Link(r.Context(), v.account.ID, profile)
	var owned *identity.OwnedError
	var shared *identity.SharedError
	switch {
	case errors.As(err, &owned):
		return s.askMerge(w, v, d, profile, owned.Owner)
	case errors.As(err, &shared):
		return s.redirectNoting(w, s.path("account"), note("error", "merge_conflict", map[string]any{"Providers": s.providerNames(shared.Providers)}))
	case err != nil:
		return err
	}
	// Who has proved one more identity has a session worth more than before.
	if _, err := s.Sessions.SignIn(r.Context(), w, v.Visit, s.loginOf(r, account.ID, profile.Provider, d)); err != nil {
		return err
	}
	if d.redirect != "" {
		return redirect(w, d.redirect)
	}
	return s.redirectNoting(w, s.path("account"), note("success", "linked", map[string]any{"Provider": s.providerName(profile.Provider)}))
}
