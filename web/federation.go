package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/attempt"
	"login-server/events"
	"login-server/identity"
	"login-server/providers"
	"login-server/templates"
)

// departureLife is how long somebody may look at the page that asks before an identity
// is connected.
const departureLife = time.Hour

func (s *Server) mountFederation(r chi.Router) {
	r.Get("/login/{provider}/auth", s.page(s.depart))
	r.Get("/login/{provider}/return", s.page(s.finish))
	r.Post("/login/{provider}/return", s.page(s.posted))
}

// isAnswerPath tells where a form may be posted from another site: a provider's pages
// post their answer there. It is worth what its state is worth, and nothing is read of
// the browser's session.
func isAnswerPath(path string) bool {
	rest, ok := strings.CutPrefix(path, "/login/")
	_, page, found := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	return ok && found && page == "return"
}

// departureProof says that somebody who is signed in has seen the page that asks whether
// an identity is to be connected. Without it a page of another site could, after it has
// signed the browser in to an account of its own at the provider, have that connected.
type departureProof struct {
	Session  string `json:"s"` // events.Binding
	Provider string `json:"p"`
	Expires  int64  `json:"e"`
}

// explain shows that the login goes on at the provider. It goes on by itself, unless
// somebody is signed in and does not come from the account page: then it asks.
func (s *Server) explain(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination) error {
	page := templates.DepartPage{
		Layout:      s.layout(w, r, v),
		Provider:    s.provider(p.ID, d.query()),
		Application: d.application,
		Go:          d.addTo(s.path("login/" + p.ID + "/auth")),
		Back:        d.addTo(s.path("login")),
		Linking:     v.account != nil,
		Auto:        true,
	}
	if page.Linking {
		proof, err := s.sealer.Seal(departureProof{Session: events.Binding(v.Session), Provider: p.ID, Expires: s.Clock.Now().Add(departureLife).Unix()})
		if err != nil {
			return err
		}
		query := url.Values{"proof": {proof}}.Encode()
		if q := d.query(); q != "" {
			query = q + "&" + query
		}
		page.Go = s.path("login/"+p.ID+"/auth") + "?" + query
		page.Back = s.path("account")
		page.Auto = s.fromAccount(r)
	}
	page.Path = d.addTo("login/" + p.ID)
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// fromAccount tells that somebody followed a link on our account page. Another page of
// ours will not do: after a sign-in it sends people to where a link from elsewhere said.
func (s *Server) fromAccount(r *http.Request) bool {
	page, _, _ := strings.Cut(r.Referer(), "?")
	return page == s.Config.BaseURL.String()+"account"
}

// proves tells whether a departure was asked for on the page that asks.
func (s *Server) proves(v visitor, p *providers.Provider, sealed string) bool {
	var proof departureProof
	return s.sealer.Open(sealed, &proof) == nil && proof.Session == events.Binding(v.Session) && proof.Provider == p.ID &&
		s.Clock.Now().Unix() <= proof.Expires
}

// depart serves GET /login/{provider}/auth: it sends the browser to the provider.
func (s *Server) depart(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.wanted(r)
	if err != nil {
		return err
	}
	if p.Website == nil {
		return errNotFound
	}
	if s.navigation(r) == navigationNone || v.account != nil && !s.proves(v, p, r.URL.Query().Get("proof")) {
		return redirect(w, d.addTo(s.path("login/"+p.ID)))
	}
	if v.account != nil {
		if _, linked := v.account.Identities[p.ID]; linked {
			return s.arrive(w, d, note("info", "already_linked", map[string]any{"Provider": p.Name}))
		}
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	return s.sendOff(w, r, p, v, d)
}

// sendOff begins a login at a provider's pages.
func (s *Server) sendOff(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination) error {
	if err := s.limits.departure(r.Context(), clientAddress(r)); err != nil {
		if limited, ok := errors.AsType[*Error](err); ok {
			limited.Link = d.addTo(s.path("login/" + p.ID))
		}
		return err
	}
	a := attempt.New(p.ID)
	a.Redirect, a.From = d.redirect, d.from
	if v.account != nil {
		a.User = v.account.ID
	}
	departure, err := p.Website.Begin(r.Context(), s.loginAt(p, a, s.language(r)))
	if err != nil {
		return s.failed(w, r, p, v, d, err)
	}
	a.Kept = departure.Keep
	if err := s.attempts.Keep(r.Context(), w, r, cmp.Or(departure.Key, a.State), a); err != nil {
		return err
	}
	return redirect(w, departure.URL)
}

func (s *Server) loginAt(p *providers.Provider, a attempt.Attempt, language string) providers.Login {
	return providers.Login{State: a.State, Nonce: a.Nonce, Verifier: a.Verifier, Kept: a.Kept, Callback: p.Callback, Locale: language}
}

// posted serves POST /login/{provider}/return, for providers whose pages post the answer.
// The form comes without our cookies, so it is put to its attempt, and the browser is
// sent to the page that reads them.
func (s *Server) posted(w http.ResponseWriter, r *http.Request) error {
	p, ok := s.Providers.Get(pathValue(r, "provider"))
	if !ok || p.Website == nil || !p.FormPost {
		return errMethodNotAllowed
	}
	if _, err := form(r); err != nil {
		return err
	}
	key := r.PostForm.Get(p.AnswerKey)
	err := s.attempts.Stash(r.Context(), p.ID, key, r.PostForm.Encode())
	switch {
	case errors.Is(err, attempt.ErrUnknown), errors.Is(err, attempt.ErrProvider), errors.Is(err, attempt.ErrUsed), errors.Is(err, attempt.ErrExpired):
		// The page that reads the cookies says what is wrong.
	case err != nil:
		return err
	}
	w.Header().Set("Location", s.path("login/"+p.ID+"/return?"+url.Values{p.AnswerKey: {key}}.Encode()))
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// finish serves GET /login/{provider}/return: the browser comes back from the provider.
func (s *Server) finish(w http.ResponseWriter, r *http.Request) error {
	p, ok := s.Providers.Get(pathValue(r, "provider"))
	if !ok || p.Website == nil {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is no such provider.", Link: s.path("login")}
	}
	if s.navigation(r) == navigationNone {
		return badRequest("This page is for people who come back from "+p.Name+".", nil)
	}
	answer := r.URL.Query()
	a, err := s.attempts.Take(r.Context(), r, p.ID, answer.Get(p.AnswerKey))
	if err != nil {
		return s.tooLate(w, r, p, a, err)
	}
	if a.Answer != "" {
		if answer, err = url.ParseQuery(a.Answer); err != nil {
			return err
		}
	}
	d := s.resumed(a)
	profile, err := p.Website.Finish(r.Context(), s.loginAt(p, a, s.language(r)), answer)
	s.metrics.login(p.ID, err)
	// Only now: somebody may have signed in, or out, while the provider was asked.
	v, visitErr := s.visitor(r)
	if visitErr != nil {
		return visitErr
	}
	if err != nil {
		return s.failed(w, r, p, v, d, err)
	}
	err = s.settle(w, r, v, d, a, profile)
	if errors.Is(err, identity.ErrProfile) {
		return s.failed(w, r, p, v, d, err)
	}
	return err
}

// resumed is where an attempt leads to, if that is still allowed.
func (s *Server) resumed(a attempt.Attempt) destination {
	d := destination{from: a.From}
	if checked, err := s.redirectTarget(a.Redirect); a.Redirect != "" && err == nil {
		d.redirect = checked
	}
	if app, ok := s.Config.ApplicationFor(cmp.Or(d.redirect, d.from)); ok {
		d.application = app.Name
	}
	return d
}

// settle lets in whom a provider vouches for, if the browser still is whose it was when
// the login began.
func (s *Server) settle(w http.ResponseWriter, r *http.Request, v visitor, d destination, a attempt.Attempt, profile identity.Profile) error {
	now, then := "", a.User
	if v.account != nil {
		now = v.account.ID
	}
	if then != "" {
		// It may have been merged into another since.
		account, err := s.Users.Get(r.Context(), then)
		switch {
		case err == nil:
			then = account.ID
		case !isNotFound(err):
			return err
		}
	}
	if now == then {
		return s.admit(w, r, v, d, profile)
	}
	if now == "" { // signed out meanwhile: the identity was to join an account
		return s.redirectNoting(w, d.addTo(s.path("login")), note("error", "link_signed_out", map[string]any{"Provider": s.providerName(profile.Provider)}))
	}
	owner, err := s.Users.Owner(r.Context(), profile.Provider, profile.ID)
	switch {
	case err != nil && !isNotFound(err):
		return err
	case err == nil && owner.ID == now: // two tabs, one person
		return s.arrive(w, d, note("success", "signed_in", nil))
	}
	return s.redirectNoting(w, s.path("account"), note("error", "link_other_user", map[string]any{"Provider": s.providerName(profile.Provider), "Name": v.account.Name}))
}

// failed leads somebody whose login came to nothing back to where they can go on.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination, err error) error {
	args := map[string]any{"Provider": p.Name}
	f := note("error", "provider_answer", args)
	var refused *providers.RefusedError
	var away *providers.UnavailableError
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return err
	case errors.Is(err, providers.ErrCancelled):
		f = note("info", "login_cancelled", args)
	case errors.As(err, &refused):
		f = note("error", "provider_reason", map[string]any{"Provider": p.Name, "Reason": refused.Reason})
	case errors.Is(err, providers.ErrRefused):
		f = note("error", "provider_refused", args)
	case errors.As(err, &away):
		f = note("error", "provider_unavailable", args)
		s.Log.Warn("provider could not be asked", "request_id", requestID(w), "provider", p.ID, "err", err)
	default:
		s.Log.Warn("provider's answer cannot be used", "request_id", requestID(w), "provider", p.ID, "err", err)
	}
	if v.account != nil {
		return s.redirectNoting(w, s.path("account"), f)
	}
	return s.redirectNoting(w, d.addTo(s.path("login")), f)
}

// tooLate answers somebody who comes back with an answer that cannot be used any more:
// an attempt that took too long begins anew, and whoever is signed in already is led on.
func (s *Server) tooLate(w http.ResponseWriter, r *http.Request, p *providers.Provider, a attempt.Attempt, cause error) error {
	d := s.resumed(a)
	again := &Error{Status: http.StatusBadRequest, Code: "expired", Message: "This sign-in has expired or was used before.", Link: d.addTo(s.path("login"))}
	switch {
	case errors.Is(cause, attempt.ErrUnknown):
		return again
	case errors.Is(cause, attempt.ErrBrowser):
		again.Code, again.Message = "other_browser", "This sign-in was begun in another browser."
		return again
	case errors.Is(cause, attempt.ErrProvider):
		again.Cause = cause
		return again
	case !errors.Is(cause, attempt.ErrUsed) && !errors.Is(cause, attempt.ErrExpired):
		return cause
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account != nil {
		return s.arrive(w, d, flash{})
	}
	if errors.Is(cause, attempt.ErrExpired) && a.User == "" {
		return s.sendOff(w, r, p, v, d)
	}
	return again
}
