package web

import (
	"errors"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/attempt"
	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// mountAccounts are the pages of accounts that live here, beside /login/{provider}: signing
// up, the ways back, addresses and passwords.
func (s *Server) mountAccounts(r chi.Router) {
	s.mountSignUp(r)
	s.mountReset(r)
	s.mountPassword(r)
	s.mountEmails(r)
}

// localPage answers with the form for an address and a password.
func (s *Server) localPage(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination) error {
	left := s.takeFlash(w, r)
	page := templates.SignInPage{
		Layout: s.layout(w, r, v), Provider: s.provider(p.ID, d.query()), Application: d.application,
		Password: p.Account.Password, Action: d.addTo(s.path("login/" + p.ID)), Back: d.addTo(s.path("login")),
		Email: left.Input, Error: left.Field, Linking: v.account != nil && !d.fresh,
	}
	page.Path = d.addTo("login/" + p.ID)
	page.Messages = left.Messages
	if d.request != nil && page.Email == "" {
		page.Email = d.request.LoginHint
	}
	if page.Linking {
		page.Back = s.path("account")
	}
	if !page.Linking {
		page.Passkey = s.passkeyForm(p, d)
	}
	if page.Passkey != nil {
		page.Passkey.Beside = page.Password
		page.Passkey.Now = r.URL.Query().Has("passkey") && page.Error == nil
		if !page.Password { // the button is all there is: no field that passkeys could be offered in
			page.Passkey.Error, page.Passkey.Autofill = page.Error, false
		}
	}
	if p.Account.Password {
		page.Reset = d.addTo(s.path("reset"))
		if page.Error != nil && page.Error.Message.ID == "attempts_wait" {
			page.Unlock = d.addTo(s.path("unlock"))
		}
		var err error
		if page.Challenge, err = s.askedFor(r, accounts.GuessedBy(page.Email), false, "login", page.Error); err != nil {
			return err
		}
	}
	if p.Account.PhoneSignIn && s.Notify.CanSMS() {
		page.Phone = d.addTo(s.path("login/" + p.ID + "/phone"))
	}
	if p.Account.Registration == providers.RegistrationOpen && !page.Linking && !d.fresh {
		page.SignUp = d.addTo(s.path("signup"))
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

// localSignIn serves POST /login/{provider} for accounts that live here.
func (s *Server) localSignIn(w http.ResponseWriter, r *http.Request, p *providers.Provider, d destination) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	again := func(e *templates.FieldError) error {
		query := d.values()
		if kind := nextChallenge(fields); kind != "" {
			query.Set("challenge", kind)
		}
		target := url.URL{Path: s.path("login/" + p.ID), RawQuery: query.Encode()}
		return s.redirectNoting(w, target.String(), flash{Field: e, Input: fields["username"]})
	}
	switch {
	case fields["username"] == "":
		return again(fieldError("username", "email_missing", nil))
	case fields["password"] == "":
		return again(fieldError("password", "password_missing", nil))
	}
	if err := s.limits.here(r.Context(), clientAddress(r)); err != nil {
		return linked(err, d.addTo(s.path("login/"+p.ID)))
	}
	challenged, wrong, err := s.challengedForm(r, "login", fields)
	if err != nil {
		return err
	}
	if wrong != nil {
		return again(wrong)
	}
	shown, err := s.desk.CheckPassword(r.Context(), accounts.Attempt{
		Email: fields["username"], Password: fields["password"], Network: session.Network(clientAddress(r)),
		Known:      func(account string) bool { return s.Sessions.Browser(r).Known(account) },
		Challenged: challenged,
	})
	s.metrics.login(p.ID, refusal(err))
	if refused, ok := errors.AsType[*accounts.RefusedError](err); ok {
		s.noteRefusal(w, r, identity.Account{ID: refused.Account}, d, proof{identity.Profile{Provider: p.ID}, []string{"pwd"}}, session.ResultRefused, "password")
	}
	need, waits := errors.AsType[*accounts.NeedError](err)
	switch {
	case waits && need.Wait == 0:
		return again(fieldError("challenge", "challenge_needed", nil))
	case waits:
		return again(fieldError("", "attempts_wait", map[string]any{"Minutes": int(math.Ceil(need.Wait.Minutes()))}))
	case errors.Is(err, accounts.ErrRefused):
		return again(fieldError("", "local_refused", nil))
	case err != nil:
		return s.deskError(err, d.addTo(s.path("login/"+p.ID)))
	}
	// Only now: somebody may have signed in, or out, while the password was looked at.
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	err = s.admit(w, r, v, d, proof{shown.Profile, shown.Methods})
	if errors.Is(err, identity.ErrDisabled) {
		return again(fieldError("", "account_disabled", nil))
	}
	return err
}

// challengedForm takes the answer to the challenge of a form, if it had one. What is wrong with
// it is to stand beside the next one.
func (s *Server) challengedForm(r *http.Request, purpose string, fields map[string]string) (challenged bool, wrong *templates.FieldError, err error) {
	if fields["challenge_id"] == "" {
		return false, nil, nil
	}
	wrong, err = s.passChallenge(r.Context(), purpose, fields)
	return err == nil && wrong == nil, wrong, err
}

// challengeFor is the challenge of a form that always has one: for the first time, or after
// fields were sent, when wrong may be about the one before.
func (s *Server) challengeFor(r *http.Request, purpose string, fields map[string]string, wrong *templates.FieldError) (*templates.Challenge, error) {
	if kind := nextChallenge(fields); kind != "" {
		r = r.Clone(r.Context())
		query := r.URL.Query()
		query.Set("challenge", kind)
		r.URL.RawQuery = query.Encode()
	}
	c, err := s.newChallenge(r, purpose)
	if err == nil && wrong != nil && wrong.Field == "challenge" {
		c.Error = wrong
	}
	return c, err
}

func fieldError(field, id string, args map[string]any) *templates.FieldError {
	return &templates.FieldError{Field: field, Message: templates.Message{Kind: "error", ID: id, Args: args}}
}

// invalid are the messages beside fields that the desk refuses, by its reasons.
var invalid = map[string]string{
	"email_invalid": "email_invalid", "email_domain": "email_domain", "email_own": "email_own", "email_many": "email_many",
	"email_unknown": "email_unknown", "email_primary": "email_primary",
	"password_missing": "password_missing", "password_short": "password_short", "password_long": "password_long",
	"password_characters": "password_characters", "password_common": "password_common", "password_personal": "password_personal",
	"password_same": "password_same", "name_too_long": "name_too_long", "name_control": "name_control", "current_wrong": "current_wrong",
}

// fieldOf is what the desk refuses as a message beside its field; nil for all other errors.
func fieldOf(err error) *templates.FieldError {
	refused, ok := errors.AsType[*accounts.InvalidError](err)
	if !ok || invalid[refused.Reason] == "" {
		return nil
	}
	return fieldError(refused.Field, invalid[refused.Reason], nil)
}

// linked gives an error that may be told the link to go on at.
func linked(err error, link string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Link = link
	}
	return err
}

// busyFor is when to try again while very many passwords wait to be hashed.
const busyFor = 5 * time.Second

// deskError is what may be told of an error of the desk that is not about a field.
func (s *Server) deskError(err error, link string) error {
	need, needs := errors.AsType[*accounts.NeedError](err)
	switch {
	case errors.Is(err, accounts.ErrOff):
		return errNoLocal
	case errors.Is(err, accounts.ErrClosed):
		return &Error{Status: http.StatusForbidden, Code: "registration_closed", Message: "Accounts cannot be created here.", Link: s.path("login")}
	case errors.Is(err, accounts.ErrBusy):
		return &Error{Status: http.StatusServiceUnavailable, Code: "busy", Message: "Too many people are signing in. Please try again soon.", RetryAfter: seconds(busyFor), Link: link}
	case errors.Is(err, accounts.ErrNoMail):
		return &Error{Status: http.StatusServiceUnavailable, Code: "no_mail", Message: "No mail can be sent.", Link: s.path("login"), Cause: err}
	case errors.Is(err, accounts.ErrOther):
		return &Error{Status: http.StatusForbidden, Code: "other_account", Message: "This belongs to another account.", Link: s.path("account")}
	case errors.Is(err, accounts.ErrBrowser):
		return &Error{Status: http.StatusBadRequest, Code: "other_browser", Message: "This was begun in another browser.", Link: link}
	case errors.Is(err, credential.ErrNotFound):
		return &Error{Status: http.StatusBadRequest, Code: "link_expired", Message: "This has expired or was used before.", Link: link}
	case needs:
		return &Error{Status: http.StatusTooManyRequests, Code: "rate_limited", Message: "Too many attempts.", RetryAfter: max(1, seconds(need.Wait)), Link: link}
	}
	return err
}

// What waits for a mail belongs to the browser that it began in. That has a cookie for each,
// with a secret of which the store has the hash; the id of what waits stands in the addresses of
// its pages.

// mostPending is how many of these cookies a browser keeps.
const mostPending = 8

func (s *Server) pendingPrefix() string { return s.Sessions.CookieName() + "-pn-" }

func (s *Server) pendingCookie(id string) string {
	return s.pendingPrefix() + id[:min(len(id), 16)]
}

// keepPending gives the browser the secret of what begins in it.
func (s *Server) keepPending(w http.ResponseWriter, r *http.Request, i credential.Issued) {
	var others []string
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, s.pendingPrefix()) {
			others = append(others, c.Name)
		}
	}
	for _, name := range others[:max(0, len(others)-(mostPending-1))] { // browsers send the oldest first (RFC 6265, 5.4)
		s.setPending(w, name, "", -1)
	}
	s.setPending(w, s.pendingCookie(i.ID), i.Browser, int(i.Expires.Sub(s.Clock.Now())/time.Second))
}

func (s *Server) setPending(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.Config.BaseURL.Scheme == "https", SameSite: http.SameSiteLaxMode,
	})
}

// pendingSecret is what the browser keeps for what waits under an id; empty if it began in
// another one.
func (s *Server) pendingSecret(r *http.Request, id string) string {
	c, err := r.Cookie(s.pendingCookie(id))
	if err != nil {
		return ""
	}
	return c.Value
}

// limitMails counts what sends a mail, or is looked at for one, by address.
func (s *Server) limitMails(r *http.Request, link string) error {
	return linked(count(r.Context(), s.limits.address, "mail "+session.Network(clientAddress(r))), link)
}

// resent is what to say of a mail that was to be sent again; false for errors that are no answer.
func resent(err error) (flash, bool) {
	switch {
	case err == nil:
		return note("success", "code_resent", nil), true
	case errors.As(err, new(*credential.TooSoonError)):
		return note("info", "code_resent_soon", nil), true
	case errors.Is(err, credential.ErrResent):
		return note("warning", "code_resent_often", nil), true
	}
	return flash{}, false
}

// admitProof lets in who has shown something to the desk, on the way to where they
// wanted to go when it began.
func (s *Server) admitProof(w http.ResponseWriter, r *http.Request, d destination, shown accounts.Proof) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	err = s.admit(w, r, v, d, proof{shown.Profile, shown.Methods})
	if errors.Is(err, identity.ErrDisabled) {
		return s.redirectNoting(w, d.addTo(s.path("login/"+shown.Profile.Provider)), beside("account_disabled", nil))
	}
	if errors.Is(err, attempt.ErrUnknown) {
		return s.errStep(d, err)
	}
	return err
}

// localPath is the page where people sign in whose accounts live here.
func (s *Server) localPath(d destination) string {
	if p, ok := s.Providers.Local(); ok {
		return d.addTo(s.path("login/" + p.ID))
	}
	return d.addTo(s.path("login"))
}
