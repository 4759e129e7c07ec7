package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/config"
	"login-server/identity"
	"login-server/oidc"
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

// destination is where a login leads to. It travels in the query of each page on
// the way, so that parallel tabs, the back button, a form left open overnight and
// a restart of the server all keep it.
type destination struct {
	// redirect is an absolute URL that was checked; empty means /account.
	redirect string
	// from is the URL of the listed application that sent the person, when redirect
	// does not tell it; may be empty.
	from string
	// application is its name; may be empty.
	application string
	// fresh: a session is not enough, somebody has to prove who they are; they are signed
	// in then, whoever was before, and nothing is linked.
	fresh bool
	// mfa: the application lets nobody in without a second factor. Of clients it is the
	// request that says so.
	mfa bool
	// says is the message that people are received with, when it is not that they are signed in.
	says string
	// request is what a client waits for with OpenID Connect; nil if none does.
	request *oidc.Ask
}

// destinationOf reads and checks where the login leads to.
func (s *Server) destinationOf(r *http.Request) (destination, error) {
	var d destination
	query, referrer := r.URL.Query(), s.outerReferrer(r)
	target := query.Get("redirect_uri")
	if target == "" && query.Has("redirect_uri") {
		// Given but empty: back to where the person came from, if that may be.
		if checked, err := s.redirectTarget(referrer); err == nil {
			d.redirect = checked
		}
	} else if target != "" {
		checked, err := s.redirectTarget(target)
		if err != nil {
			host := "?"
			if u, err := url.Parse(target); err == nil && u.Host != "" {
				host = u.Host
			}
			return d, &Error{Status: http.StatusBadRequest, Code: "redirect_refused", Message: "This redirect_uri is not allowed.", Detail: host, Link: s.path("login"), Cause: err}
		}
		d.redirect = checked
	}
	var err error
	if d.request, err = s.waiting(r.Context(), d.redirect); err != nil {
		return d, err
	}
	// Only for a request that waits, and pages of ours that need it: a mere link must not have
	// people sign in again. And what was to be proved for one that has ended must not be linked
	// instead.
	if d.fresh = query.Has("fresh"); d.fresh && d.request == nil && !s.confirms(d.redirect) {
		return d, &Error{Status: http.StatusBadRequest, Code: "expired", Message: "The application's request has ended.", Link: s.path("login")}
	}
	if d.request != nil {
		d.application = d.request.Client.Name
		return d, nil
	}
	if app, ok := s.Config.ApplicationFor(d.redirect); ok {
		d.application, d.mfa = app.Name, app.RequireMFA
		return d, nil
	}
	for _, hint := range []string{query.Get("from"), referrer} {
		if app, ok := s.Config.ApplicationFor(hint); ok {
			d.application, d.from = app.Name, app.URL
			break
		}
	}
	return d, nil
}

// wantsFactor tells whether the browser is to give a second factor even if it is trusted.
func (d destination) wantsFactor() bool {
	return d.mfa || d.request != nil && d.request.MultiFactor
}

// lacksFactor tells whether a session is not enough for the application that it leads to.
// What clients want is looked at when their request goes on.
func (d destination) lacksFactor(s session.Session) bool { return d.mfa && !s.MultiFactor() }

// outerReferrer is the page that somebody came from, unless it is one of our own.
func (s *Server) outerReferrer(r *http.Request) string {
	referrer := r.Referer()
	if strings.HasPrefix(referrer, s.Config.BaseURL.String()) {
		return ""
	}
	return referrer
}

// redirectTarget checks where somebody wants to be sent. Our own pages that act when
// they are opened are none: a link from another site could have people sign in and,
// as the last step of that, disconnect an identity without being asked.
func (s *Server) redirectTarget(target string) (string, error) {
	checked, err := s.Config.AllowedRedirect(target)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(checked)
	if err != nil {
		return "", err
	}
	if originOf(checked) == s.Config.Origin() {
		if page := s.pageOf(u.Path); page == "logout" || page == "disconnect" {
			return "", fmt.Errorf("%w: /%s acts when it is opened", config.ErrRedirect, page)
		}
	}
	return checked, nil
}

// pageOf is the first segment below the base of the page that a path may lead to. A
// proxy in front may merge slashes, and may strip a base that mounted strips again.
func (s *Server) pageOf(path string) string {
	slash := func(r rune) bool { return r == '/' }
	base, segments := strings.FieldsFunc(s.base(), slash), strings.FieldsFunc(path, slash)
	for len(base) > 0 && len(segments) > len(base) && slices.Equal(segments[:len(base)], base) {
		segments = segments[len(base):]
	}
	if len(segments) == 0 {
		return ""
	}
	return segments[0]
}

// query is the destination as the query of the next page on the way.
func (d destination) query() string { return d.values().Encode() }

func (d destination) values() url.Values {
	q := url.Values{}
	if d.redirect != "" {
		q.Set("redirect_uri", d.redirect)
	}
	if d.from != "" {
		q.Set("from", d.from)
	}
	if d.fresh {
		q.Set("fresh", "1")
	}
	return q
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
	if v.account != nil && !d.fresh {
		if d.lacksFactor(*v.Session) {
			return s.stepUp(w, d.redirect)
		}
		if d.redirect != "" {
			return redirect(w, d.redirect)
		}
		return redirect(w, s.path("account"))
	}
	layout := s.layout(w, r, v)
	if d.request != nil {
		s.speak(r, &layout, d.request.UILocales)
	}
	layout.Path = d.addTo("login") // an empty redirect_uri means nothing on the next page
	layout.Messages = s.takeFlash(w, r).Messages
	if d.request != nil {
		page := s.loginPage(layout, d)
		page.Person = v.personID()
		s.renderFor(w, layout.Nonce, page, d.request.RedirectURI, page.Client.Logo)
		return nil
	}
	if len(layout.Messages) > 0 || v.account != nil {
		s.render(w, http.StatusOK, layout.Nonce, s.loginPage(layout, d))
		return nil
	}
	// Without messages the page depends on the language and the destination alone.
	s.renderKept(w, layout.Lang+"\x00"+d.application+"\x00"+d.query(), func(nonce string) any {
		layout.Nonce = nonce
		return s.loginPage(layout, d)
	})
	return nil
}

func (s *Server) loginPage(layout templates.Layout, d destination) templates.LoginPage {
	page := templates.LoginPage{Layout: layout, Application: d.application, Fresh: d.fresh && layout.User != ""}
	if d.request != nil {
		client := clientOf(d.request)
		page.Client = &client
		page.Decline, page.Request = s.path(strings.TrimPrefix(pathContinue, "/")), d.request.Interaction
	}
	query := d.query()
	for _, p := range s.Providers.All() {
		view := s.provider(p.ID, query)
		if p.Account == nil || p.Account.Password {
			page.Providers = append(page.Providers, view)
		}
		if s.passkeysAt(p) {
			// The same page, under the name that people look for.
			view.Strategy, view.Image = "passkey", ""
			view.LoginURL = s.path("login/" + p.ID + "?" + strings.TrimPrefix(query+"&passkey=1", "&")) // which asks at once
			page.Providers = append(page.Providers, view)
		}
	}
	if host := hostOf(d.redirect); host != s.Config.BaseURL.Host && d.request == nil {
		page.RedirectHost = host
	}
	return page
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// wanted returns the provider of the path, the visitor and the destination.
func (s *Server) wanted(r *http.Request) (p *providers.Provider, v visitor, d destination, err error) {
	p, ok := s.Providers.Get(pathValue(r, "provider"))
	if !ok {
		return nil, v, d, &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is no such provider.", Link: s.path("login")}
	}
	if v, err = s.visitor(r); err != nil {
		return p, v, d, err
	}
	d, err = s.destinationOf(r)
	return p, v, d, err
}

// credentials serves GET /login/{provider}: the form, or what leads on to the provider's
// own pages. Who is signed in and has an identity there has nothing to do here.
func (s *Server) credentials(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.wanted(r)
	if err != nil {
		return err
	}
	if v.account != nil && !d.fresh {
		if _, linked := v.account.Identities[p.ID]; linked {
			return s.arrive(w, d, note("info", "already_linked", map[string]any{"Provider": p.Name}))
		}
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	switch {
	case p.Website != nil:
		return s.explain(w, r, p, v, d)
	case p.Account != nil:
		return s.localPage(w, r, p, v, d)
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
		Linking:     v.account != nil && !d.fresh,
	}
	if d.request != nil && page.Username == "" {
		page.Username = d.request.LoginHint
	}
	page.Path = d.addTo("login/" + p.ID)
	if page.Linking {
		page.Back = s.path("account")
	}
	page.Messages = left.Messages
	page.Challenge, err = s.askedFor(r, guessed(p.ID, page.Username), false, "login", page.Error)
	if err != nil {
		return err
	}
	if d.request == nil {
		s.render(w, http.StatusOK, page.Nonce, page)
		return nil
	}
	s.speak(r, &page.Layout, d.request.UILocales)
	client := clientOf(d.request)
	page.Client = &client
	s.renderFor(w, page.Nonce, page, d.request.RedirectURI, client.Logo)
	return nil
}

// beside is a message about what was filled in: it stands in the form.
func beside(id string, args map[string]any) flash {
	return flash{Field: &templates.FieldError{Message: templates.Message{Kind: "error", ID: id, Args: args}}}
}

// arrive ends a login: at its destination, or on the account page with a message.
func (s *Server) arrive(w http.ResponseWriter, d destination, f flash) error {
	if d.redirect != "" {
		return redirect(w, d.redirect)
	}
	return s.redirectNoting(w, s.path("account"), f)
}

// signIn serves POST /login/{provider}: credentials become a profile, the profile
// an account, and the browser is bound to it.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	p, _, d, err := s.wanted(r)
	if err != nil {
		return err
	}
	if p.Account != nil && p.Account.Password {
		return s.localSignIn(w, r, p, d)
	}
	if p.Checker == nil {
		w.Header().Set("Allow", "GET, HEAD")
		return errMethodNotAllowed
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	again := func(f flash) error {
		f.Input = fields["username"]
		query := d.values()
		if kind := nextChallenge(fields); kind != "" {
			query.Set("challenge", kind)
		}
		target := url.URL{Path: s.path("login/" + p.ID), RawQuery: query.Encode()}
		return s.redirectNoting(w, target.String(), f)
	}
	for _, name := range []string{"username", "password"} {
		if fields[name] == "" {
			return again(flash{Field: &templates.FieldError{Field: name, Message: templates.Message{Kind: "error", ID: name + "_missing"}}})
		}
	}
	if err := s.limits.credentials(r.Context(), clientAddress(r), p.ID, fields["username"]); err != nil {
		if limited, ok := errors.AsType[*Error](err); ok {
			limited.Link = d.addTo(s.path("login/" + p.ID))
		}
		return err
	}

	account := guessed(p.ID, fields["username"])
	switch problem, err := s.mayTry(r, account, false, "login", fields); {
	case err != nil:
		return err
	case problem != nil:
		return again(flash{Field: problem})
	}

	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	profile, err := p.Checker.Check(ctx, fields["username"], fields["password"])
	s.metrics.login(p.ID, err)
	if err := s.tried(r, account, err); err != nil {
		return err
	}
	var refused *providers.RefusedError
	switch {
	case errors.As(err, &refused):
		return again(beside("credentials_reason", map[string]any{"Reason": refused.Reason}))
	case errors.Is(err, providers.ErrRefused):
		return again(beside("credentials_refused", nil))
	case err != nil:
		s.Log.Warn("provider could not be asked", "request_id", requestID(w), "provider", p.ID, "err", err)
		return again(beside("provider_unavailable", map[string]any{"Provider": p.Name}))
	}
	// Only now: somebody may have signed in, or out, while the provider was asked.
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	err = s.admit(w, r, v, d, proof{profile, []string{"pwd"}})
	if errors.Is(err, identity.ErrDisabled) {
		return again(beside("account_disabled", nil))
	}
	if errors.Is(err, identity.ErrProfile) {
		s.Log.Warn("provider vouches for nobody", "request_id", requestID(w), "provider", p.ID, "err", err)
		return again(beside("provider_unavailable", map[string]any{"Provider": p.Name}))
	}
	return err
}

// proof is what somebody has proved in a request: an identity, and in which ways.
type proof struct {
	profile identity.Profile
	// methods are those of session.Login.
	methods []string
}

// admit lets in who has proved an identity: it signs them in, or links the identity to the
// account of who is signed in. Every way to sign in ends here. Where a second factor is
// due it leads to that first, and comes back when it was given.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) error {
	due, err := s.factorDue(r, v, d, p)
	switch {
	case err != nil:
	case due:
		err = s.askFactor(w, r, v, d, p)
	default:
		err = s.letIn(w, r, v, d, p)
	}
	if errors.Is(err, identity.ErrDisabled) {
		s.refuseDisabled(w, r, d, p)
	}
	return err
}

// letIn is admit once nothing is missing.
func (s *Server) letIn(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) error {
	began, f, err := s.enter(w, r, v, d, p)
	var owned *identity.OwnedError
	var shared *identity.SharedError
	switch {
	case errors.As(err, &owned):
		return s.askMerge(w, v, d, p, owned.Owner)
	case errors.As(err, &shared):
		return s.redirectNoting(w, s.path("account"), note("error", "merge_conflict", map[string]any{"Providers": s.providerNames(shared.Providers)}))
	case errors.Is(err, errSignInAgain) && s.isFresh(v.Session):
		return s.stepUp(w, s.Config.Origin()+s.path("account"))
	case errors.Is(err, errSignInAgain):
		return redirect(w, s.confirmURL("account"))
	case err != nil:
		return err
	}
	return s.arriveIn(w, d, began, f)
}

// enter binds the browser to the account of who has proved an identity, and answers nothing
// yet. An *identity.OwnedError, *identity.SharedError or errSignInAgain says why it was not linked.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) (session.Session, flash, error) {
	signedIn := note("success", cmp.Or(d.says, "signed_in"), nil)
	if v.account != nil && d.fresh {
		began, err := s.signInAnew(w, r, v, d, p)
		return began, signedIn, err
	}
	if v.account != nil {
		began, f, err := s.link(w, r, v, d, p)
		if !isNotFound(err) {
			return began, f, err
		}
		// The account was deleted a moment ago: nobody is signed in any more.
		v = visitor{Visit: session.Visit{Stale: true}}
	}
	account, _, err := s.Users.SignIn(r.Context(), p.profile)
	if err != nil {
		return session.Session{}, flash{}, err
	}
	began, err := s.bind(w, r, v.Visit, account, d, p)
	return began, signedIn, err
}

// arriveIn is arrive with a session that the application may find lacking.
func (s *Server) arriveIn(w http.ResponseWriter, d destination, began session.Session, f flash) error {
	if d.lacksFactor(began) {
		return s.stepUp(w, d.redirect)
	}
	return s.arrive(w, d, f)
}

// signInAnew signs in who was asked to prove who they are. Somebody else than who was
// signed in gets a session of their own in the place of the other; nothing is linked.
func (s *Server) signInAnew(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) (session.Session, error) {
	account, _, err := s.Users.SignIn(r.Context(), p.profile)
	if err != nil {
		return session.Session{}, err
	}
	visit := v.Visit
	if account.ID != v.account.ID {
		if err := s.Sessions.SignOut(r.Context(), w, visit); err != nil {
			return session.Session{}, err
		}
		visit = session.Visit{Handle: visit.Handle}
	}
	return s.bind(w, r, visit, account, d, p)
}

func (s *Server) loginOf(r *http.Request, userID string, from arrival, d destination, p proof) session.Login {
	return session.Login{
		UserID: userID, Provider: p.profile.Provider, Application: d.application,
		Address: clientAddress(r), UserAgent: truncate(r.UserAgent(), 512), Methods: p.methods,
		Country: from.place.Country, City: from.place.City, Device: from.device,
	}
}

// more is the proof together with what the session stands on already: who proves one more
// identity has not given up a factor.
func (p proof) more(current *session.Session) proof {
	if current != nil && current.MultiFactor() && !slices.Contains(p.methods, session.MethodMFA) {
		p.methods = append(slices.Clone(p.methods), session.MethodMFA)
	}
	return p
}

// truncate cuts s to n bytes of valid UTF-8.
func truncate(s string, n int) string {
	return strings.ToValidUTF8(s[:min(n, len(s))], "")
}

// link adds an identity to the account of who is signed in. Errors are those of
// identity.Directory.Link, and errSignInAgain.
func (s *Server) link(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) (session.Session, flash, error) {
	profile := p.profile
	if own := v.account.Identities[profile.Provider]; own.ID != profile.ID && v.account.Has(identity.RoleAdmin) {
		// Whoever finds an open browser of an administrator could link an identity of their own, with a
		// passkey or where a second factor is set up next, and act as one.
		owes, err := s.owesFactor(r.Context(), v)
		if err != nil {
			return session.Session{}, flash{}, err
		}
		if owes || !s.isFresh(v.Session) {
			return session.Session{}, flash{}, errSignInAgain
		}
	}
	account, err := s.Users.Link(r.Context(), v.account.ID, profile)
	if err != nil {
		return session.Session{}, flash{}, err
	}
	began, err := s.bindMore(w, r, v, account, d, p)
	f := note("success", "linked", map[string]any{"Provider": s.providerName(profile.Provider)})
	if _, before := v.account.Identities[profile.Provider]; before {
		f = note("info", "already_linked", map[string]any{"Provider": s.providerName(profile.Provider)})
	}
	return began, f, err
}
