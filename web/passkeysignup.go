package web

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"time"

	"login-server/accounts"
	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// signUpLife is how long somebody has from their name to their passkey.
const signUpLife = 15 * time.Minute

// passkeySigner is what somebody has said of themselves who signs up with a passkey. It travels
// sealed in the query of the page, so that nothing is stored of who does not go on.
type passkeySigner struct {
	Name    string `json:"signUpName"`
	Browser string `json:"signUpIn"` // the handle of its session
	Once    string `json:"signUpOnce"`
	Expires int64  `json:"signUpUntil"`
	// Invitation is the key of one; empty for most.
	Invitation string `json:"signUpInvitation,omitempty"`
}

// passkeyRegistration is the provider whose accounts somebody may sign up for with nothing but
// a passkey: without being known by an address, unless they were invited.
func (s *Server) passkeyRegistration(invited bool) (*providers.Provider, error) {
	p, ok := s.Providers.Local()
	if !ok || !s.passkeysAt(p) {
		return nil, errNoPasskeys
	}
	if invited {
		return p, nil // the desk says whether it still holds
	}
	if p.Account.Registration != providers.RegistrationOpen || len(p.Account.Domains) > 0 {
		return nil, &Error{Status: http.StatusForbidden, Code: "registration_closed", Message: "Nobody can sign up with a passkey alone.", Link: s.path("login")}
	}
	return p, nil
}

// invitationOf is the key of the invitation that somebody signs up with; empty if there is none.
func (s *Server) invitationOf(r *http.Request, v visitor) string {
	query := r.URL.Query()
	if signer, ok := s.openSignUp(query.Get("signup"), v); ok {
		return signer.Invitation
	}
	return query.Get("invitation")
}

// whoSignsUp reads who signs up. Who is signed in already has nothing to do here: errAnswered.
func (s *Server) whoSignsUp(w http.ResponseWriter, r *http.Request) (p *providers.Provider, v visitor, d destination, err error) {
	if v, err = s.visitor(r); err != nil {
		return p, v, d, err
	}
	if p, err = s.passkeyRegistration(s.invitationOf(r, v) != ""); err != nil {
		return p, v, d, err
	}
	if d, err = s.destinationOf(r); err != nil {
		return p, v, d, err
	}
	if v.account != nil {
		if err = redirect(w, cmp.Or(d.redirect, s.path("account"))); err == nil {
			err = errAnswered
		}
	}
	return p, v, d, err
}

// passkeySignUpPage serves GET /signup/passkey: it asks for a name, and then for the passkey.
func (s *Server) passkeySignUpPage(w http.ResponseWriter, r *http.Request) error {
	_, v, d, err := s.whoSignsUp(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	return s.showPasskeySignUp(w, r, v, d, http.StatusOK, nil, nil)
}

// showPasskeySignUp answers with the page; fields were sent before, and something is wrong with
// one of them.
func (s *Server) showPasskeySignUp(w http.ResponseWriter, r *http.Request, v visitor, d destination, status int, fields map[string]string, wrong *templates.FieldError) error {
	var err error
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.PasskeySignUpPage{
		Layout: s.layout(w, r, v), Application: d.application, Action: s.passkeySignUpPath(d, ""), Back: d.addTo(s.path("login")),
		Name: truncate(fields["name"], 1024), Error: wrong,
	}
	page.Path, page.Messages = d.addTo("signup/passkey"), left.Messages
	sealed, invitation := r.URL.Query().Get("signup"), s.invitationOf(r, v)
	if invitation != "" {
		email, name, err := s.desk.Invited(r.Context(), invitation)
		if err != nil {
			return s.deskError(err, s.path("login"))
		}
		if page.Invited = email; fields == nil {
			page.Name = name
		}
		page.Action = s.passkeySignUpPath(d, invitation)
		page.Path = strings.TrimPrefix(page.Action, s.base())
	}
	if signer, ok := s.openSignUp(sealed, v); ok {
		page.Name = signer.Name
		page.Form = &templates.PasskeyForm{
			For: "sign-up", Error: left.Field,
			Begin: s.withSignUp(destination{}, "signup/passkey/begin", sealed, invitation), Action: s.withSignUp(d, "signup/passkey/finish", sealed, invitation),
		}
		s.render(w, status, page.Nonce, page)
		return nil
	}
	if sealed != "" {
		page.Messages = append(page.Messages, templates.Message{Kind: "info", ID: "passkey_signup_expired"})
	}
	if invitation == "" {
		if page.Challenge, err = s.challengeFor(r, passkeyChallenge, fields, wrong); err != nil {
			return err
		}
	}
	s.render(w, status, page.Nonce, page)
	return nil
}

// passkeyChallenge is the purpose of challenges on the way to an account with a passkey alone.
const passkeyChallenge = "signup-passkey"

// passkeySignUpPath is the page where a sign-up with a passkey begins; invitation is the key of
// one, empty for most.
func (s *Server) passkeySignUpPath(d destination, invitation string) string {
	query := d.values()
	if invitation != "" {
		query.Set("invitation", invitation)
	}
	if len(query) == 0 {
		return s.path("signup/passkey")
	}
	return s.path("signup/passkey?" + query.Encode())
}

// withSignUp is the address of a page below Base that goes on with a sign-up.
func (s *Server) withSignUp(d destination, page, sealed, invitation string) string {
	query := d.values()
	query.Set("signup", sealed)
	if invitation != "" { // for when what is sealed has expired
		query.Set("invitation", invitation)
	}
	return s.path(page + "?" + query.Encode())
}

func (s *Server) openSignUp(sealed string, v visitor) (passkeySigner, bool) {
	var signer passkeySigner
	if sealed == "" || s.sealer.Open(sealed, &signer) != nil {
		return signer, false
	}
	return signer, signer.Browser == v.Handle && signer.Once != "" && s.Clock.Now().Unix() < signer.Expires
}

// passkeySignUpName serves POST /signup/passkey: how somebody wants to be called.
func (s *Server) passkeySignUpName(w http.ResponseWriter, r *http.Request) error {
	_, v, d, err := s.whoSignsUp(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	again := func(wrong *templates.FieldError) error {
		return s.showPasskeySignUp(w, r, v, d, http.StatusUnprocessableEntity, fields, wrong)
	}
	name, err := identity.CheckName(fields["name"])
	if err != nil {
		return again(fieldError("name", nameMessage(err), nil))
	}
	invitation := r.URL.Query().Get("invitation")
	if invitation != "" {
		if _, _, err := s.desk.Invited(r.Context(), invitation); err != nil {
			return s.deskError(err, s.path("login"))
		}
	} else if wrong, err := s.passChallenge(r.Context(), passkeyChallenge, fields); err != nil {
		return err
	} else if wrong != nil {
		return again(wrong)
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	sealed, err := s.sealer.Seal(passkeySigner{
		Name: name, Browser: v.Handle, Once: session.NewHandle(), Expires: s.Clock.Now().Add(signUpLife).Unix(), Invitation: invitation,
	})
	if err != nil {
		return err
	}
	return redirect(w, s.withSignUp(d, "signup/passkey", sealed, invitation))
}

// beginPasskeySignUp serves POST /signup/passkey/begin. It writes nothing.
func (s *Server) beginPasskeySignUp(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if _, err := s.passkeyRegistration(s.invitationOf(r, v) != ""); err != nil {
		return err
	}
	signer, ok := s.openSignUp(r.URL.Query().Get("signup"), v)
	if !ok || v.account != nil {
		return errConfirm
	}
	ceremony, err := s.passkeys.BeginSignUp(signer.Name, signer.Once, visitBond(v))
	if err != nil {
		return err
	}
	return writeJSON(w, ceremony)
}

// passkeySignUp serves POST /signup/passkey/finish: with the answer of the authenticator, and not
// before, there is somebody new.
func (s *Server) passkeySignUp(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.whoSignsUp(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	sealed := r.URL.Query().Get("signup")
	again := func(message string) error {
		return s.redirectNoting(w, s.withSignUp(d, "signup/passkey", sealed, s.invitationOf(r, v)), beside(message, nil))
	}
	signer, ok := s.openSignUp(sealed, v)
	if !ok {
		return again("passkey_expired")
	}
	if err := s.limits.passkey(r.Context(), clientAddress(r)); err != nil {
		return err
	}
	var fill func(*credential.Credential) error
	if signer.Invitation != "" {
		fill = func(c *credential.Credential) error { return s.desk.Accept(r.Context(), signer.Invitation, c) }
	}
	c, err := s.passkeys.FinishSignUp(r.Context(), fields["ceremony"], signer.Once, visitBond(v), []byte(fields["answer"]), s.newPasskeyName(r, credential.Credential{}), fill)
	// Between the two looks at the address somebody else may have come.
	if errors.Is(err, accounts.ErrAddressTaken) || signer.Invitation != "" && errors.Is(err, credential.ErrTaken) {
		return s.redirectNoting(w, s.localPath(d), note("info", "email_taken", nil))
	}
	if message, ok := passkeyProblem(err); ok {
		s.Log.InfoContext(r.Context(), "sign-up refused", "request_id", requestID(w), "provider", p.ID, "err", err)
		return again(message)
	}
	if err != nil {
		return s.deskError(err, s.path("login"))
	}
	shown, err := s.desk.Shown(r.Context(), c, signer.Name, passkeyMethods(credential.Assertion{Verified: true, Synced: c.Passkeys[0].Synced()})...)
	if err != nil {
		return err
	}
	// From here on it is a sign-in: what fails now, the next one makes up for.
	began, _, err := s.enter(w, r, v, d, proof{shown.Profile, shown.Methods})
	if err != nil {
		return err
	}
	if d.redirect == "" {
		welcome := "passkey_welcome"
		if signer.Invitation != "" {
			welcome = "passkey_welcome_invited"
		}
		return s.redirectNoting(w, s.path("security/passkeys"), note("success", welcome, map[string]any{"Name": signer.Name}))
	}
	return s.arriveIn(w, d, began, flash{})
}
