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
	r.Get("/signup/code", s.page(s.signUpCodePage))
	r.Post("/signup/code", s.page(s.signUpCode))
	r.Post("/signup/resend", s.page(s.signUpResend))
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
	}
	return s.showSignUp(w, r, http.StatusOK, f)
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
	if p.Account.Registration == providers.RegistrationOpen && len(p.Account.Domains) == 0 && s.passkeysAt(p) {
		page.Passkey = d.addTo(s.path("signup/passkey"))
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
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, d.addTo(s.path("signup"))); err != nil {
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

// pendingPath is a page about what waits under an id.
func (s *Server) pendingPath(page, id string, d destination) string {
	query := d.values()
	query.Set("id", id)
	return s.path(page + "?" + query.Encode())
}

// signUpCodePage serves GET /signup/code, in the browser in which it began.
func (s *Server) signUpCodePage(w http.ResponseWriter, r *http.Request) error {
	return s.showCode(w, r, http.StatusOK, codeOf{kind: credential.PendingSignUp, purpose: templates.ForSignUp, page: "signup"}, nil)
}

// codeOf is what a code is asked for.
type codeOf struct{ kind, purpose, page string }

// showCode answers with the page that asks for the code in a mail.
func (s *Server) showCode(w http.ResponseWriter, r *http.Request, status int, of codeOf, wrong *templates.FieldError) error {
	id := r.URL.Query().Get("id")
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	back := d.addTo(s.path(of.page))
	p, err := s.desk.Waits(r.Context(), of.kind, id, s.pendingSecret(r, id))
	if err != nil {
		return s.deskError(err, back)
	}
	page := templates.CodePage{
		Layout: s.layout(w, r, v), Purpose: of.purpose, Email: p.Email, Minutes: int(p.Expires.Sub(p.Created).Minutes()),
		Action: s.pendingPath(of.page+"/code", id, d), Resend: s.pendingPath(of.page+"/resend", id, d), Back: back,
		Error: wrong, Over: p.Tries >= credential.CodeTries,
	}
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, status, page.Nonce, page)
	return nil
}

// answerOf is the code of a form.
func (s *Server) answerOf(r *http.Request) (accounts.Answer, error) {
	fields, err := form(r)
	id := r.URL.Query().Get("id")
	return accounts.Answer{ID: id, Code: fields["code"], Browser: s.pendingSecret(r, id)}, err
}

// wrongCode is what to say beside the field of a code; nil for all other errors.
func wrongCode(err error) *templates.FieldError {
	switch {
	case errors.Is(err, credential.ErrCode):
		return fieldError("code", "code_wrong", nil)
	case errors.Is(err, credential.ErrTries):
		return fieldError("code", "code_over", nil)
	}
	return nil
}

// signUpCode serves POST /signup/code.
func (s *Server) signUpCode(w http.ResponseWriter, r *http.Request) error {
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, d.addTo(s.path("signup"))); err != nil {
		return err
	}
	answer, err := s.answerOf(r)
	if err != nil {
		return err
	}
	shown, err := s.desk.ConfirmSignUp(r.Context(), answer)
	if wrong := wrongCode(err); wrong != nil {
		return s.showCode(w, r, http.StatusUnprocessableEntity, codeOf{credential.PendingSignUp, templates.ForSignUp, "signup"}, wrong)
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

// signUpResend serves POST /signup/resend.
func (s *Server) signUpResend(w http.ResponseWriter, r *http.Request) error {
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, d.addTo(s.path("signup"))); err != nil {
		return err
	}
	id := r.URL.Query().Get("id")
	_, err = s.desk.ResendSignUp(r.Context(), id, s.pendingSecret(r, id))
	if f, ok := resent(err); ok {
		return s.redirectNoting(w, s.pendingPath("signup/code", id, d), f)
	}
	return s.deskError(err, d.addTo(s.path("signup")))
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

// continued is a page with the query of where somebody wanted to go, which is checked when
// that page is asked for.
func (s *Server) continued(page string, p credential.Pending) string {
	if p.Continue == "" {
		return s.path(page)
	}
	return s.path(page + "?" + p.Continue)
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

// wantedThen is the destination of something that began a while ago. If the application's
// request has ended since, it leads nowhere in particular.
func (s *Server) wantedThen(r *http.Request) (destination, error) {
	d, err := s.destinationOf(r)
	if e, ok := errors.AsType[*Error](err); ok && (e.Code == "expired" || e.Code == "redirect_refused") {
		return destination{}, nil
	}
	return d, err
}
