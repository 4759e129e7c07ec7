package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/credential"
	"login-server/providers"
	"login-server/templates"
)

func (s *Server) mountSignUp(r chi.Router) {
	r.Get("/signup", s.page(s.signUpPage))
	r.Post("/signup", s.page(s.signUp))
	s.mountCode(r, codeOfSignUp, s.signUpCode)
	r.Get("/signup/confirm", s.page(s.signUpLink))
	r.Post("/signup/confirm", s.page(s.signUpConfirm))
}

// signUpForm is what was filled in, and what is wrong with it.
type signUpForm struct {
	email, name, invitation string
	invited                 bool
	wrong                   *templates.FieldError
	fields                  map[string]string
}

// signUpPage serves GET /signup. With the key of an invitation the address stands there
// already; nothing is spent by looking.
func (s *Server) signUpPage(w http.ResponseWriter, r *http.Request) error {
	f := signUpForm{invitation: r.URL.Query().Get("invitation")}
	if f.invitation != "" {
		email, name, err := s.desk.Invited(r.Context(), f.invitation)
		if err != nil {
			return s.deskError(err, s.path("login"))
		}
		f.email, f.name, f.invited = email, name, true
		if p, ok := s.Providers.Local(); ok && !p.Account.Password && s.passkeysAt(p) {
			return s.invitedPasskey(w, r, f.invitation)
		}
	}
	return s.showSignUp(w, r, http.StatusOK, f)
}

// invitedPasskey leads who was invited on to a passkey, where there are no passwords.
func (s *Server) invitedPasskey(w http.ResponseWriter, r *http.Request, invitation string) error {
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	return redirect(w, s.passkeySignUpPath(d, invitation))
}

func (s *Server) showSignUp(w http.ResponseWriter, r *http.Request, status int, f signUpForm) error {
	p, ok := s.Providers.Local()
	if !ok {
		return errNoLocal
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	if v.account != nil && f.wrong == nil {
		return s.arrive(w, d, flash{}) // there is nothing to sign up for
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	page := templates.SignUpPage{
		Layout: s.layout(w, r, v), Application: d.application, Action: d.addTo(s.path("signup")), SignIn: s.localPath(d),
		Email: f.email, Name: f.name, Invited: f.invited, Invitation: f.invitation, Least: accounts.MinPassword,
	}
	page.Messages = s.takeFlash(w, r).Messages
	if f.wrong != nil {
		page.Errors = append(page.Errors, f.wrong)
	}
	page.Invitations = p.Account.Registration == providers.RegistrationInvitation
	page.Closed = !p.Account.Password || p.Account.Registration == providers.RegistrationClosed || page.Invitations && !f.invited
	if !f.invited {
		page.Domains = p.Account.Domains
	}
	switch {
	case !s.passkeysAt(p):
	case f.invited:
		page.Passkey = s.passkeySignUpPath(d, f.invitation)
	case p.Account.Registration == providers.RegistrationOpen && len(p.Account.Domains) == 0:
		page.Passkey = s.passkeySignUpPath(d, "")
	}
	if !page.Closed && !page.Invited {
		if page.Challenge, err = s.challengeFor(r, "signup", f.fields, f.wrong); err != nil {
			return err
		}
	}
	if page.Closed && status == http.StatusOK {
		status = http.StatusForbidden
	}
	s.render(w, status, page.Nonce, page)
	return nil
}

// signUp serves POST /signup.
func (s *Server) signUp(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	d, err := s.limitedTo(r, "signup")
	if err != nil {
		return err
	}
	f := signUpForm{email: truncate(fields["email"], 512), name: truncate(fields["name"], 1024), invitation: fields["invitation"], fields: fields}
	wanted := accounts.SignUp{
		Email: fields["email"], Password: fields["password"], Name: fields["name"], Language: s.language(r, ""), Continue: d.query(),
	}
	if f.invitation != "" {
		return s.signUpInvited(w, r, d, f, wanted)
	}
	if fields["email"] == "" {
		f.wrong = fieldError("email", "email_missing", nil)
		return s.showSignUp(w, r, http.StatusUnprocessableEntity, f)
	}
	if f.wrong, err = s.passChallenge(r.Context(), "signup", fields); err != nil {
		return err
	}
	if f.wrong != nil {
		return s.showSignUp(w, r, http.StatusUnprocessableEntity, f)
	}
	i, err := s.desk.SignUp(r.Context(), wanted)
	if f.wrong = fieldOf(err); f.wrong != nil {
		return s.showSignUp(w, r, http.StatusUnprocessableEntity, f)
	}
	if err != nil {
		return s.deskError(err, d.addTo(s.path("signup")))
	}
	s.keepPending(w, r, i)
	return redirect(w, s.pendingPath("signup/code", i.ID, d))
}

// signUpInvited is signUp with the key of an invitation, after which nothing waits any more.
func (s *Server) signUpInvited(w http.ResponseWriter, r *http.Request, d destination, f signUpForm, wanted accounts.SignUp) error {
	shown, err := s.desk.SignUpInvited(r.Context(), f.invitation, wanted)
	if f.wrong = fieldOf(err); f.wrong != nil {
		name := f.name
		if f.email, _, err = s.desk.Invited(r.Context(), f.invitation); err != nil {
			return s.deskError(err, s.path("login"))
		}
		f.name, f.invited = name, true
		return s.showSignUp(w, r, http.StatusUnprocessableEntity, f)
	}
	return s.signedUp(w, r, d, s.path("login"), shown, err)
}

// signUpCode is what the code of a sign-up is good for.
func (s *Server) signUpCode(w http.ResponseWriter, r *http.Request, d destination, answer accounts.Answer) error {
	shown, err := s.desk.ConfirmSignUp(r.Context(), answer)
	if wrongCode(err) != nil {
		return err
	}
	return s.signedUp(w, r, d, d.addTo(s.path("signup")), shown, err)
}

// signedUp ends a sign-up that was confirmed, or leads back to where it begins. Whoever is
// signed in in this browser by then may be somebody else, to whose account nothing is to be linked.
func (s *Server) signedUp(w http.ResponseWriter, r *http.Request, d destination, back string, shown accounts.Proof, err error) error {
	switch {
	case errors.Is(err, credential.ErrTaken):
		return s.redirectNoting(w, s.localPath(d), note("info", "email_taken", nil))
	case err != nil:
		return s.deskError(err, back)
	}
	d.fresh = true // see destination
	d.says = "account_created"
	return s.admitProof(w, r, d, shown)
}

// signUpLink serves GET /signup/confirm, where the link in the mail leads. It spends
// nothing: programs that look at mails open links, too.
func (s *Server) signUpLink(w http.ResponseWriter, r *http.Request) error {
	return s.showSignUpLink(w, r, http.StatusOK, r.URL.Query().Get("key"), nil)
}

func (s *Server) showSignUpLink(w http.ResponseWriter, r *http.Request, status int, key string, wrong *templates.FieldError) error {
	p, err := s.desk.ByLink(r.Context(), credential.PendingSignUp, key)
	if err != nil {
		return s.deskError(err, s.path("signup"))
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	page := templates.LinkPage{
		Layout: s.layout(w, r, v), Purpose: templates.ForSignUp, Email: p.Email, Action: s.continued("signup/confirm", p), Key: key,
		Password: !p.Bound(s.pendingSecret(r, p.ID)), Error: wrong, Cancel: s.path("login"),
	}
	page.Path = "signup/confirm?" + url.Values{"key": {key}}.Encode()
	s.render(w, status, page.Nonce, page)
	return nil
}

// signUpConfirm serves POST /signup/confirm.
func (s *Server) signUpConfirm(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	d, err := s.wantedThen(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path("signup")); err != nil {
		return err
	}
	key := fields["key"]
	p, err := s.desk.ByLink(r.Context(), credential.PendingSignUp, key)
	if err != nil {
		return s.deskError(err, s.path("signup"))
	}
	shown, err := s.desk.ConfirmSignUpByLink(r.Context(), key, s.pendingSecret(r, p.ID), fields["password"])
	switch {
	case errors.Is(err, accounts.ErrBrowser):
		return s.showSignUpLink(w, r, http.StatusUnprocessableEntity, key, fieldError("password", "password_missing", nil))
	case errors.Is(err, accounts.ErrRefused), errors.Is(err, credential.ErrTries):
		return s.showSignUpLink(w, r, http.StatusUnprocessableEntity, key, fieldError("password", "confirm_password_wrong", nil))
	}
	return s.signedUp(w, r, d, d.addTo(s.path("signup")), shown, err)
}
