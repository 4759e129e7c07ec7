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

// maxPosted is how many bytes an answer may have that is posted: it is kept for a day,
// whoever has posted it.
const maxPosted = 8 << 10

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
// The names differ from those of mergeProof, which the same key seals.
type departureProof struct {
	Session  string `json:"departingSession"` // events.Binding
	Provider string `json:"departingTo"`
	Expires  int64  `json:"departingUntil"`
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
		Linking:     v.account != nil && !d.fresh,
		Auto:        true,
	}
	if page.Linking {
		page.Back = s.path("account")
	}
	if v.account != nil {
		page.Auto = s.cameFrom(r, "account") || d.fresh && s.cameFrom(r, "login")
	}
	if v.account != nil && s.opened(r) { // scripts of allowed origins can read the page, too
		proof, err := s.sealer.Seal(departureProof{Session: events.Binding(v.Session), Provider: p.ID, Expires: s.Clock.Now().Add(departureLife).Unix()})
		if err != nil {
			return err
		}
		query := d.values()
		query.Set("proof", proof)
		page.Go = s.path("login/" + p.ID + "/auth?" + query.Encode())
	}
	if d.request != nil {
		s.speak(r, &page.Layout, d.request.UILocales)
	}
	page.Path = d.addTo("login/" + p.ID)
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// opened tells that a person has opened the page, in a window of its own: not a picture,
// a frame or a script, and not the browser ahead of time.
func (s *Server) opened(r *http.Request) bool {
	return s.navigation(r) != navigationNone && !isPrefetch(r)
}

// cameFrom tells that somebody followed a link on one of our pages: the account page, or
// the list of providers. Others will not do: after a sign-in they send people to where a
// link from elsewhere said.
func (s *Server) cameFrom(r *http.Request, page string) bool {
	referrer, _, _ := strings.Cut(r.Referer(), "?")
	return referrer == s.Config.BaseURL.String()+page
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
	if !s.opened(r) || v.account != nil && !s.proves(v, p, r.URL.Query().Get("proof")) {
		return redirect(w, d.addTo(s.path("login/"+p.ID)))
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	return s.sendOff(w, r, p, v, d)
}

// sendOff begins a login at a provider's pages: to link an identity there if somebody is
// signed in, to sign somebody in otherwise.
func (s *Server) sendOff(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination) error {
	if v.account != nil && !d.fresh {
		if _, linked := v.account.Identities[p.ID]; linked {
			return s.arrive(w, d, note("info", "already_linked", map[string]any{"Provider": p.Name}))
		}
	}
	if err := s.limits.departure(r.Context(), clientAddress(r)); err != nil {
		if limited, ok := errors.AsType[*Error](err); ok {
			limited.Link = d.addTo(s.path("login/" + p.ID))
		}
		return err
	}
	a := attempt.New(p.ID)
	a.Redirect, a.From, a.Fresh = d.redirect, d.from, d.fresh
	if v.account != nil {
		a.User = v.account.ID
	}
	departure, err := p.Website.Begin(r.Context(), s.loginAt(p, a, s.language(r, "")))
	if err != nil {
		s.metrics.login(p.ID, err)
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
		w.Header().Set("Allow", "GET, HEAD")
		return errMethodNotAllowed
	}
	if _, err := form(r); err != nil {
		return err
	}
	answer := r.PostForm.Encode()
	if len(answer) > maxPosted {
		return errTooLarge
	}
	key, target := r.PostForm.Get(p.AnswerKey), s.path("login/"+p.ID+"/return")
	switch err := s.attempts.Stash(r.Context(), p.ID, key, answer); {
	case errors.Is(err, attempt.ErrUnknown):
		// The page that the browser is sent to says so.
	case err == nil, errors.Is(err, attempt.ErrProvider), errors.Is(err, attempt.ErrUsed), errors.Is(err, attempt.ErrExpired):
		target += "?" + url.Values{p.AnswerKey: {key}}.Encode()
	default:
		return err
	}
	w.Header().Set("Location", target)
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
	if !s.opened(r) {
		return badRequest("This page is for people who come back from "+p.Name+".", nil)
	}
	answer := r.URL.Query()
	a, takeErr := s.attempts.Take(r.Context(), r, p.ID, answer.Get(p.AnswerKey))
	if a.Answer != "" {
		var err error
		if answer, err = url.ParseQuery(a.Answer); err != nil {
			return err
		}
	}
	if takeErr != nil {
		return s.tooLate(w, r, p, a, answer, takeErr)
	}
	profile, err := p.Website.Finish(r.Context(), s.loginAt(p, a, s.language(r, "")), answer)
	s.metrics.login(p.ID, err)
	// Only now: somebody may have signed in, or out, while the provider was asked.
	v, visitErr := s.visitor(r)
	if visitErr != nil {
		return visitErr
	}
	d := s.resumed(r.Context(), a)
	if err == nil {
		err = s.settle(w, r, p, v, d, a, profile)
		if !errors.Is(err, identity.ErrProfile) && !errors.Is(err, identity.ErrDisabled) {
			return err
		}
	}
	return s.failed(w, r, p, v, d, err)
}

// resumed is where an attempt leads to, if that is still allowed.
func (s *Server) resumed(ctx context.Context, a attempt.Attempt) destination {
	d := destination{from: a.From, fresh: a.Fresh}
	if checked, err := s.redirectTarget(a.Redirect); a.Redirect != "" && err == nil {
		d.redirect = checked
	}
	if app, ok := s.Config.ApplicationFor(cmp.Or(d.redirect, d.from)); ok {
		d.application, d.mfa = app.Name, app.RequireMFA
	}
	if ask, err := s.waiting(ctx, d.redirect); err == nil && ask != nil {
		d.request, d.application = ask, ask.Client.Name
	}
	return d
}

// settle lets in whom a provider vouches for, if the attempt may do that in this browser.
func (s *Server) settle(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination, a attempt.Attempt, profile identity.Profile) error {
	verdict, err := s.verdict(r.Context(), v, a)
	if err != nil {
		return err
	}
	switch verdict {
	case attempt.Admit:
		return s.admit(w, r, v, d, proof{profile, []string{"fed"}})
	case attempt.SomebodyElse:
		owner, err := s.Users.Owner(r.Context(), profile.Provider, profile.ID)
		if err != nil && !isNotFound(err) {
			return err
		}
		if err == nil && owner.ID == v.account.ID { // two tabs, one person
			return s.arrive(w, d, note("success", "signed_in", nil))
		}
	}
	return s.notLinked(w, p, v, d, verdict)
}

// verdict is what an attempt may do in the browser of v.
func (s *Server) verdict(ctx context.Context, v visitor, a attempt.Attempt) (attempt.Verdict, error) {
	if a.User != "" {
		account, err := s.Users.Get(ctx, a.User)
		switch {
		case err == nil:
			a.User = account.ID // it may have been merged into another since
		case !isNotFound(err):
			return 0, err
		}
	}
	if v.account == nil {
		return a.Verdict(""), nil
	}
	return a.Verdict(v.account.ID), nil
}

// notLinked says why an attempt came to nothing although the provider's answer was good.
func (s *Server) notLinked(w http.ResponseWriter, p *providers.Provider, v visitor, d destination, verdict attempt.Verdict) error {
	if verdict == attempt.SignedOut {
		return s.redirectNoting(w, d.addTo(s.path("login")), note("error", "link_signed_out", map[string]any{"Provider": p.Name}))
	}
	return s.redirectNoting(w, s.path("account"), note("error", "link_other_user", map[string]any{"Provider": p.Name, "Name": v.account.Name}))
}

// failed leads somebody whose login came to nothing back to where they can go on.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination, err error) error {
	args := map[string]any{"Provider": p.Name}
	linking := v.account != nil && !d.fresh
	// say is a message for who signs in, or for who connects an identity.
	say := func(kind, signingIn, connecting string) flash {
		if linking {
			return note(kind, connecting, args)
		}
		return note(kind, signingIn, args)
	}
	f := say("error", "provider_answer", "link_answer")
	var refused *providers.RefusedError
	var away *providers.UnavailableError
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return err
	case errors.Is(err, providers.ErrCancelled):
		f = say("info", "login_cancelled", "link_cancelled")
	case errors.As(err, &refused):
		args["Reason"] = refused.Reason
		f = say("error", "provider_reason", "link_reason")
	case errors.Is(err, providers.ErrRefused):
		f = say("error", "provider_refused", "link_refused")
	case errors.Is(err, identity.ErrDisabled):
		f = note("error", "account_disabled", nil)
	case errors.As(err, &away):
		f = say("error", "provider_unavailable", "link_unavailable")
		s.Log.Warn("provider could not be asked", "request_id", requestID(w), "provider", p.ID, "err", err)
	default:
		s.Log.Warn("provider's answer cannot be used", "request_id", requestID(w), "provider", p.ID, "err", err)
	}
	if errors.Is(err, providers.ErrCancelled) || errors.Is(err, providers.ErrRefused) {
		// Mostly the person's will; but also what an administrator there has not allowed.
		s.Log.Info("provider has let nobody in", "request_id", requestID(w), "provider", p.ID, "err", err)
	}
	if linking {
		return s.redirectNoting(w, s.path("account"), f)
	}
	return s.redirectNoting(w, d.addTo(s.path("login")), f)
}

// tooLate answers somebody who comes back with an answer that cannot be used any more.
// Whoever is signed in by now is led on, and an attempt that took too long begins anew, if
// it still may do what it was to do.
func (s *Server) tooLate(w http.ResponseWriter, r *http.Request, p *providers.Provider, a attempt.Attempt, answer url.Values, cause error) error {
	d := s.resumed(r.Context(), a)
	expired := &Error{Status: http.StatusBadRequest, Code: "expired", Message: "This sign-in has expired or was used before.", Link: d.addTo(s.path("login"))}
	switch {
	case errors.Is(cause, attempt.ErrUnknown):
		return expired
	case errors.Is(cause, attempt.ErrProvider):
		expired.Cause = cause
		return expired
	case errors.Is(cause, attempt.ErrBrowser):
		return &Error{Status: http.StatusBadRequest, Code: "other_browser", Message: "This sign-in was begun in another browser.", Link: s.path("login")}
	case !errors.Is(cause, attempt.ErrUsed) && !errors.Is(cause, attempt.ErrExpired):
		return cause
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account != nil && (errors.Is(cause, attempt.ErrUsed) || a.User == "") {
		return redirect(w, cmp.Or(d.redirect, s.path("account")))
	}
	// With an error (RFC 6749, 4.1.2.1) they would be sent back to where they said no.
	if errors.Is(cause, attempt.ErrUsed) || answer.Has("error") {
		return expired
	}
	verdict, err := s.verdict(r.Context(), v, a)
	switch {
	case err != nil:
		return err
	case verdict != attempt.Admit:
		return s.notLinked(w, p, v, d, verdict)
	}
	return s.sendOff(w, r, p, v, d)
}
