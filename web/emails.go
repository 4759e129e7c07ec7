package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/credential"
	"login-server/templates"
)

// pageEmails are the addresses of who is signed in.
const pageEmails = "security/emails"

func (s *Server) mountEmails(r chi.Router) {
	r.Get("/security/emails", s.page(s.freshly(pageEmails, s.emailsPage)))
	r.Post("/security/emails", s.page(s.freshly(pageEmails, s.addEmail)))
	r.Get("/security/emails/code", s.page(s.freshly(pageEmails, s.emailCodePage)))
	r.Post("/security/emails/code", s.page(s.freshly(pageEmails, s.emailCode)))
	r.Post("/security/emails/resend", s.page(s.freshly(pageEmails, s.emailResend)))
	r.Get("/security/emails/confirm", s.page(s.freshly(pageEmails, s.emailLink)))
	r.Post("/security/emails/confirm", s.page(s.freshly(pageEmails, s.emailConfirm)))
	r.Post("/security/emails/primary", s.page(s.freshly(pageEmails, s.primaryEmail)))
	r.Post("/security/emails/remove", s.page(s.freshly(pageEmails, s.removeEmail)))
	// The owner of a former address may not be able to sign in any more.
	r.Get("/security/emails/undo", s.page(s.undoLink))
	r.Post("/security/emails/undo", s.page(s.undoEmail))
}

// person is who is signed in, with the credential that they have or get now.
func (s *Server) person(r *http.Request, v visitor) (accounts.Person, error) {
	c, err := s.ownCredential(r, v)
	return accounts.Person{Account: *v.account, Credential: c.ID, Language: s.language(r, v.account.Language())}, err
}

// emailsPage serves GET /security/emails.
func (s *Server) emailsPage(w http.ResponseWriter, r *http.Request, v visitor) error {
	return s.showEmails(w, r, v, http.StatusOK, "", nil)
}

func (s *Server) showEmails(w http.ResponseWriter, r *http.Request, v visitor, status int, typed string, wrong *templates.FieldError) error {
	p, c, ok, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if p == nil {
		return errNoLocal
	}
	page := templates.EmailsPage{
		Layout: s.layout(w, r, v), Add: s.path(pageEmails), Primary: s.path(pageEmails + "/primary"), Remove: s.path(pageEmails + "/remove"),
		Typed: typed, Error: wrong, Back: s.path("security"),
	}
	page.Path = pageEmails
	page.Messages = s.takeFlash(w, r).Messages
	for _, e := range c.Emails {
		page.Emails = append(page.Emails, templates.EmailAddress{Address: e.Address, Primary: e.Primary, Verified: e.Verified})
	}
	if ok {
		waiting, err := s.Credentials.Waiting(r.Context(), credential.PendingEmail, c.ID)
		if err != nil {
			return err
		}
		for _, p := range waiting {
			page.Waiting = append(page.Waiting, templates.WaitingEmail{Address: p.Email, URL: s.emailPath("code", p.ID)})
		}
	}
	s.render(w, status, page.Nonce, page)
	return nil
}

func (s *Server) emailPath(page, id string) string {
	return s.path(pageEmails + "/" + page + "?" + url.Values{"id": {id}}.Encode())
}

// addEmail serves POST /security/emails.
func (s *Server) addEmail(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path(pageEmails)); err != nil {
		return err
	}
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	p, err := s.desk.AddEmail(r.Context(), who, fields["email"])
	if wrong := fieldOf(err); wrong != nil {
		return s.showEmails(w, r, v, http.StatusUnprocessableEntity, truncate(fields["email"], 512), wrong)
	}
	if err != nil {
		return s.deskError(err, s.path(pageEmails))
	}
	return redirect(w, s.emailPath("code", p.ID))
}

// emailCodePage serves GET /security/emails/code.
func (s *Server) emailCodePage(w http.ResponseWriter, r *http.Request, v visitor) error {
	return s.showEmailCode(w, r, v, http.StatusOK, nil)
}

func (s *Server) showEmailCode(w http.ResponseWriter, r *http.Request, v visitor, status int, wrong *templates.FieldError) error {
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	id := r.URL.Query().Get("id")
	p, err := s.desk.AddingEmail(r.Context(), who, id)
	if err != nil {
		return s.deskError(err, s.path(pageEmails))
	}
	page := templates.CodePage{
		Layout: s.layout(w, r, v), Purpose: templates.ForEmail, Email: p.Email, Minutes: int(accounts.EmailLife.Minutes()),
		Action: s.emailPath("code", id), Resend: s.emailPath("resend", id), Back: s.path(pageEmails),
		Error: wrong, Over: p.Tries >= credential.CodeTries,
	}
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, status, page.Nonce, page)
	return nil
}

// emailCode serves POST /security/emails/code.
func (s *Server) emailCode(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path(pageEmails)); err != nil {
		return err
	}
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	_, err = s.desk.ConfirmEmail(r.Context(), who, r.URL.Query().Get("id"), fields["code"])
	if wrong := wrongCode(err); wrong != nil {
		return s.showEmailCode(w, r, v, http.StatusUnprocessableEntity, wrong)
	}
	return s.emailDone(w, r, v, "email_added", err)
}

// emailDone ends a change of addresses on the page that lists them.
func (s *Server) emailDone(w http.ResponseWriter, r *http.Request, v visitor, message string, err error) error {
	if wrong := fieldOf(err); wrong != nil {
		wrong.Message.Kind = "error"
		return s.redirectNoting(w, s.path(pageEmails), flash{Messages: []templates.Message{wrong.Message}})
	}
	switch {
	case errors.Is(err, credential.ErrTaken):
		return s.redirectNoting(w, s.path(pageEmails), note("error", "email_taken_add", nil))
	case errors.Is(err, credential.ErrLast):
		return s.redirectNoting(w, s.path(pageEmails), note("error", "email_last", nil))
	case err != nil:
		return s.deskError(err, s.path(pageEmails))
	}
	return s.redirectNoting(w, s.path(pageEmails), note("success", message, nil))
}

// emailResend serves POST /security/emails/resend.
func (s *Server) emailResend(w http.ResponseWriter, r *http.Request, v visitor) error {
	if err := s.limitMails(r, s.path(pageEmails)); err != nil {
		return err
	}
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	id := r.URL.Query().Get("id")
	_, err = s.desk.ResendEmail(r.Context(), who, id)
	if f, ok := resent(err); ok {
		return s.redirectNoting(w, s.emailPath("code", id), f)
	}
	return s.deskError(err, s.path(pageEmails))
}

// emailLink serves GET /security/emails/confirm, where the link in the mail leads. It
// spends nothing.
func (s *Server) emailLink(w http.ResponseWriter, r *http.Request, v visitor) error {
	return s.showLink(w, r, templates.ForEmail, credential.PendingEmail, pageEmails+"/confirm")
}

// emailConfirm serves POST /security/emails/confirm.
func (s *Server) emailConfirm(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	_, err = s.desk.ConfirmEmailByLink(r.Context(), who, fields["key"])
	return s.emailDone(w, r, v, "email_added", err)
}

// primaryEmail serves POST /security/emails/primary.
func (s *Server) primaryEmail(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path(pageEmails)); err != nil {
		return err
	}
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	_, err = s.desk.MakePrimary(r.Context(), who, fields["email"])
	return s.emailDone(w, r, v, "email_primary_set", err)
}

// removeEmail serves POST /security/emails/remove.
func (s *Server) removeEmail(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path(pageEmails)); err != nil {
		return err
	}
	who, err := s.person(r, v)
	if err != nil {
		return err
	}
	_, err = s.desk.RemoveEmail(r.Context(), who, fields["email"], s.waysBeside(*v.account) > 0)
	return s.emailDone(w, r, v, "email_removed", err)
}

// undoLink serves GET /security/emails/undo, where the link in the mail to a former
// primary address leads. It spends nothing.
func (s *Server) undoLink(w http.ResponseWriter, r *http.Request) error {
	return s.showLink(w, r, templates.ForUndo, credential.PendingUndoEmail, pageEmails+"/undo")
}

// undoEmail serves POST /security/emails/undo, and leads to a new password.
func (s *Server) undoEmail(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path("login")); err != nil {
		return err
	}
	key, err := s.desk.UndoEmail(r.Context(), fields["key"])
	if errors.Is(err, credential.ErrTaken) {
		return s.redirectNoting(w, s.path("login"), note("error", "email_taken_add", nil))
	}
	if err != nil {
		return s.deskError(err, s.path("login"))
	}
	return redirect(w, s.path("reset/new?"+url.Values{"key": {key}}.Encode()))
}
