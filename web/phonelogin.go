package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/identity"
	"login-server/notify"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// mountPhoneLogin is signing in with a code that is sent to a phone, where an operator wants
// that. A number that nobody signs in with is answered the same, and so is the code for it.
func (s *Server) mountPhoneLogin(r chi.Router) {
	r.Get("/login/{provider}/phone", s.page(s.phoneLoginPage))
	r.Post("/login/{provider}/phone", s.page(s.phoneLogin))
}

// phoneWanted is wanted for providers where a code to a phone signs in.
func (s *Server) phoneWanted(r *http.Request) (*providers.Provider, visitor, destination, error) {
	p, v, d, err := s.wanted(r)
	if err == nil && (p.Account == nil || !p.Account.PhoneSignIn || !s.Notify.CanSMS()) {
		err = errNoPhone
	}
	return p, v, d, err
}

func (s *Server) phoneLoginURL(p *providers.Provider, d destination, sent string) string {
	query := d.values()
	if sent != "" {
		query.Set("sent", sent)
	}
	path := s.path("login/" + p.ID + "/phone")
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// phoneLoginPage serves GET /login/{provider}/phone: a number, or the code that was sent there.
func (s *Server) phoneLoginPage(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.phoneWanted(r)
	if err != nil {
		return err
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.PhoneLoginPage{
		Layout: s.layout(w, r, v), Provider: s.provider(p.ID, d.query()), Application: d.application,
		Back: d.addTo(s.path("login/" + p.ID)), Number: left.Input, Error: left.Field,
	}
	page.Messages = left.Messages
	sent := r.URL.Query().Get("sent")
	if sent != "" {
		waits, err := s.loginSent(r.Context(), v, sent)
		if err != nil && !isNotFound(err) {
			return err
		}
		if err == nil {
			page.Sent, page.Number = true, waits.Number
		} else {
			sent = ""
		}
	}
	if !page.Sent {
		if page.Challenge, err = s.challengeFor(r, phoneChallenge, nil, page.Error); err != nil {
			return err
		}
		if page.Challenge.Error != nil {
			page.Error = nil // it stands beside the challenge
		}
	}
	page.Action = s.phoneLoginURL(p, d, sent)
	page.Path = strings.TrimPrefix(page.Action, s.base())
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

// phoneChallenge is the purpose of challenges before an SMS for a sign-in: whoever could have
// them sent by a program would use up those of everybody for a day.
const phoneChallenge = "phone"

// phoneBond ties a code for a sign-in to the browser that has asked for it.
func phoneBond(v visitor) string { return "phone of " + visitBond(v) }

// loginSent is a code for a sign-in that waits for this browser, or ErrNotFound.
func (s *Server) loginSent(ctx context.Context, v visitor, id string) (credential.Pending, error) {
	p, err := s.Credentials.Pending(ctx, credential.PendingLogin, id)
	if err != nil {
		return p, err
	}
	var bound string
	if err := s.Credentials.Payload(p, &bound); err != nil {
		return p, err
	}
	if bound != phoneBond(v) {
		return p, credential.ErrNotFound
	}
	return p, nil
}

// phoneLogin serves POST /login/{provider}/phone: a number to send a code to, or the code.
func (s *Server) phoneLogin(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.phoneWanted(r)
	if err != nil {
		return err
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	sent := r.URL.Query().Get("sent")
	switch {
	case sent == "":
		return s.sendLogin(w, r, p, v, d, fields)
	case fields["do"] == "send":
		return s.resendLogin(w, r, p, v, d, sent)
	}
	return s.takeLogin(w, r, p, v, d, sent, fields["code"])
}

// phoneOwner is whose number it is, if they sign in with it, or ErrNotFound.
func (s *Server) phoneOwner(ctx context.Context, number string) (credential.Credential, error) {
	c, err := s.Credentials.ByPhone(ctx, number)
	if err == nil && !c.Phone.SignIn {
		return credential.Credential{}, credential.ErrNotFound
	}
	return c, err
}

// sendLogin sends a code to a number, or does the same work and sends none.
func (s *Server) sendLogin(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination, fields map[string]string) error {
	refused := func(wrong *templates.FieldError) error {
		query := d.values()
		if kind := nextChallenge(fields); kind != "" {
			query.Set("challenge", kind)
		}
		target := url.URL{Path: s.path("login/" + p.ID + "/phone"), RawQuery: query.Encode()}
		return s.redirectNoting(w, target.String(), flash{Field: wrong, Input: truncate(fields["number"], 64)})
	}
	again := func(message string, args map[string]any) error { return refused(fieldError("number", message, args)) }
	number, err := notify.Number(fields["number"], "")
	if err != nil {
		return again("phone_invalid", nil)
	}
	if wrong, err := s.passChallenge(r.Context(), phoneChallenge, fields); err != nil {
		return err
	} else if wrong != nil {
		return refused(wrong)
	}
	if err := s.limits.departure(r.Context(), clientAddress(r)); err != nil {
		return err
	}
	c, err := s.phoneOwner(r.Context(), number)
	if err != nil && !isNotFound(err) {
		return err
	}
	lang := s.language(r, "")
	issued, err := s.Credentials.Begin(r.Context(), credential.Pending{Kind: credential.PendingLogin, Credential: c.ID, Number: number, Language: lang}, phoneBond(v), smsCodeLife)
	if err != nil {
		return err
	}
	err = s.sendCode(r, issued, lang, "login", c.ID == "")
	if message, args, ok := smsProblem(err); ok {
		return again(message, args)
	}
	if err != nil {
		return err
	}
	return redirect(w, s.phoneLoginURL(p, d, issued.ID))
}

// resendLogin sends another code to the same number.
func (s *Server) resendLogin(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination, sent string) error {
	_, err := s.loginSent(r.Context(), v, sent)
	var issued credential.Issued
	if err == nil {
		issued, err = s.Credentials.Resend(r.Context(), credential.PendingLogin, sent)
	}
	if err == nil {
		err = s.sendCode(r, issued, issued.Language, "login", issued.Credential == "")
	}
	if message, args, ok := smsProblem(err); ok {
		return s.redirectNoting(w, s.phoneLoginURL(p, d, sent), fieldFlash("code", message, args))
	}
	if isNotFound(err) {
		return s.redirectNoting(w, s.phoneLoginURL(p, d, ""), fieldFlash("number", "factor_code_expired", nil))
	}
	if err != nil {
		return err
	}
	return redirect(w, s.phoneLoginURL(p, d, sent))
}

// takeLogin signs in with a code. What is said of a wrong one is the same for a number that
// nobody signs in with.
func (s *Server) takeLogin(w http.ResponseWriter, r *http.Request, p *providers.Provider, v visitor, d destination, sent, code string) error {
	ctx := r.Context()
	again := func(message string, args map[string]any) error {
		return s.redirectNoting(w, s.phoneLoginURL(p, d, sent), fieldFlash("code", message, args))
	}
	waits, err := s.loginSent(ctx, v, sent)
	if isNotFound(err) {
		return s.redirectNoting(w, s.phoneLoginURL(p, d, ""), fieldFlash("number", "factor_code_expired", nil))
	}
	if err != nil {
		return err
	}
	name, network := "phone "+waits.Number, session.Network(clientAddress(r))
	need, err := s.backoff.Ask(ctx, name, network, false)
	if err != nil {
		return err
	}
	if need.Wait > 0 {
		return again("factor_wait", map[string]any{"Seconds": seconds(need.Wait)})
	}
	_, err = s.Credentials.TryCode(ctx, credential.PendingLogin, sent, code)
	var c credential.Credential
	if err == nil {
		if c, err = s.phoneOwner(ctx, waits.Number); isNotFound(err) || err == nil && c.ID != waits.Credential {
			err = credential.ErrCode // of a decoy, or the number has changed hands
		}
	}
	if err == nil {
		err = s.Credentials.End(ctx, waits)
	}
	switch {
	case errors.Is(err, credential.ErrCode), errors.Is(err, credential.ErrTries):
		s.metrics.login(p.ID, providers.ErrRefused)
		if err := s.phoneRefused(w, r, p, d, waits, network); err != nil {
			return err
		}
		if errors.Is(err, credential.ErrTries) {
			return again("factor_tries", nil)
		}
		return again("factor_wrong_sms", nil)
	case isNotFound(err):
		return s.redirectNoting(w, s.phoneLoginURL(p, d, ""), fieldFlash("number", "factor_code_expired", nil))
	case err != nil:
		return err
	}
	s.metrics.login(p.ID, nil)
	if err := s.backoff.Passed(ctx, name, network); err != nil {
		return err
	}
	shown, err := s.desk.Shown(ctx, c, "", methodsOf[credential.FactorSMS]...)
	if err != nil {
		return err
	}
	if v, err = s.visitor(r); err != nil {
		return err
	}
	err = s.admit(w, r, v, d, proof{shown.Profile, shown.Methods})
	if errors.Is(err, identity.ErrDisabled) {
		return s.redirectNoting(w, d.addTo(s.path("login/"+p.ID)), beside("account_disabled", nil))
	}
	return err
}

// phoneRefused counts a wrong code, and notes it where it is certain whose sign-in it was.
func (s *Server) phoneRefused(w http.ResponseWriter, r *http.Request, p *providers.Provider, d destination, waits credential.Pending, network string) error {
	if _, err := s.backoff.Failed(r.Context(), "phone "+waits.Number, network); err != nil {
		return err
	}
	if waits.Credential == "" {
		return s.Credentials.Sham(r.Context()) // in the place of the note below
	}
	owner, err := s.Users.Owner(r.Context(), p.ID, waits.Credential)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	s.noteRefusal(w, r, owner, d, proof{identity.Profile{Provider: p.ID, ID: waits.Credential}, methodsOf[credential.FactorSMS]}, session.ResultRefused, "sms")
	return nil
}
