package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/credential"
	"login-server/session"
	"login-server/templates"
)

func (s *Server) mountReset(r chi.Router) {
	r.Get("/reset", s.page(s.resetPage))
	r.Post("/reset", s.page(s.reset))
	s.mountCode(r, codeOfReset, s.resetCode)
	r.Get("/reset/new", s.page(s.resetLink))
	r.Post("/reset/new", s.page(s.resetPassword))
	r.Get("/unlock", s.page(s.unlockPage))
	r.Post("/unlock", s.page(s.unlock))
	r.Get("/unlock/confirm", s.page(s.unlockLink))
	r.Post("/unlock/confirm", s.page(s.unlockConfirm))
}

// resetPage serves GET /reset: the address that a mail is sent to.
func (s *Server) resetPage(w http.ResponseWriter, r *http.Request) error {
	return s.showAskMail(w, r, http.StatusOK, templates.AskMailPage{Purpose: templates.ForReset}, nil)
}

// showAskMail answers with the page that asks for an address, of the page's purpose. fields
// are what was sent before, if anything.
func (s *Server) showAskMail(w http.ResponseWriter, r *http.Request, status int, page templates.AskMailPage, fields map[string]string) error {
	p, ok := s.Providers.Local()
	if !ok || !p.Account.Password {
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
	page.Layout = s.layout(w, r, v)
	page.Action, page.Back = d.addTo(s.path(page.Purpose)), s.localPath(d)
	page.Email = truncate(fields["email"], 512)
	if !page.Sent {
		if page.Challenge, err = s.challengeFor(r, page.Purpose, fields, page.Error); err != nil {
			return err
		}
	}
	if page.Error != nil && page.Error.Field == "challenge" {
		page.Error = nil // it stands beside the challenge
	}
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, status, page.Nonce, page)
	return nil
}

// asked reads and checks the form of showAskMail. What is wrong with its challenge is to stand
// beside the next one.
func (s *Server) asked(r *http.Request, purpose string) (ask accounts.Ask, d destination, fields map[string]string, wrong *templates.FieldError, err error) {
	if fields, err = form(r); err != nil {
		return ask, d, fields, nil, err
	}
	if d, err = s.destinationOf(r); err != nil {
		return ask, d, fields, nil, err
	}
	ask = accounts.Ask{Email: fields["email"], Language: s.language(r, ""), Continue: d.query()}
	if err = s.limitMails(r, d.addTo(s.path(purpose))); err != nil {
		return ask, d, fields, nil, err
	}
	wrong, err = s.passChallenge(r.Context(), purpose, fields)
	return ask, d, fields, wrong, err
}

// reset serves POST /reset.
func (s *Server) reset(w http.ResponseWriter, r *http.Request) error {
	ask, d, fields, wrong, err := s.asked(r, templates.ForReset)
	if err != nil {
		return err
	}
	var i credential.Issued
	if wrong == nil {
		i, err = s.desk.AskReset(r.Context(), ask)
		wrong = fieldOf(err)
	}
	if wrong != nil {
		return s.showAskMail(w, r, http.StatusUnprocessableEntity, templates.AskMailPage{Purpose: templates.ForReset, Error: wrong}, fields)
	}
	if err != nil {
		return s.deskError(err, s.localPath(d))
	}
	s.keepPending(w, r, i)
	return redirect(w, s.pendingPath("reset/code", i.ID, d))
}

// resetCode makes of the code of a reset the key of the page for the new password.
func (s *Server) resetCode(w http.ResponseWriter, r *http.Request, d destination, answer accounts.Answer) error {
	key, err := s.desk.ResetByCode(r.Context(), answer)
	if wrongCode(err) != nil {
		return err
	}
	if err != nil {
		return s.deskError(err, d.addTo(s.path("reset")))
	}
	return redirect(w, s.path("reset/new?"+url.Values{"key": {key}}.Encode()))
}

// resetLink serves GET /reset/new, where the link in the mail leads. It spends nothing.
func (s *Server) resetLink(w http.ResponseWriter, r *http.Request) error {
	return s.showReset(w, r, http.StatusOK, r.URL.Query().Get("key"), nil)
}

func (s *Server) showReset(w http.ResponseWriter, r *http.Request, status int, key string, wrong *templates.FieldError) error {
	p, err := s.desk.ByLink(r.Context(), credential.PendingReset, key)
	if err != nil {
		return s.deskError(err, s.path("reset"))
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	page := templates.PasswordPage{
		Layout: s.layout(w, r, v), Reset: true, Key: key, Action: s.continued("reset/new", p), Email: p.Email, Least: accounts.MinPassword,
	}
	if wrong != nil {
		page.Errors = append(page.Errors, wrong)
	}
	page.Path = "reset/new?" + url.Values{"key": {key}}.Encode()
	s.render(w, status, page.Nonce, page)
	return nil
}

// resetPassword serves POST /reset/new. Whoever was signed in in this browser is not any more: it
// may be somebody else than whose password was reset, to whose account nothing is to be linked.
func (s *Server) resetPassword(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	d, err := s.wantedThen(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path("reset")); err != nil {
		return err
	}
	shown, err := s.desk.Reset(r.Context(), fields["key"], fields["password"])
	if wrong := fieldOf(err); wrong != nil {
		return s.showReset(w, r, http.StatusUnprocessableEntity, fields["key"], wrong)
	}
	if err != nil {
		return s.deskError(err, s.path("reset"))
	}
	d.fresh = true // see destination: signed in anew, nothing linked
	d.says = "password_saved"
	return s.admitProof(w, r, d, shown)
}

// unlockPage serves GET /unlock.
func (s *Server) unlockPage(w http.ResponseWriter, r *http.Request) error {
	return s.showAskMail(w, r, http.StatusOK, templates.AskMailPage{Purpose: templates.ForUnlock}, nil)
}

// unlock serves POST /unlock.
func (s *Server) unlock(w http.ResponseWriter, r *http.Request) error {
	ask, d, fields, wrong, err := s.asked(r, templates.ForUnlock)
	if err != nil {
		return err
	}
	if wrong == nil {
		err = s.desk.AskUnlock(r.Context(), ask, session.Network(clientAddress(r)))
		wrong = fieldOf(err)
	}
	if wrong != nil {
		return s.showAskMail(w, r, http.StatusUnprocessableEntity, templates.AskMailPage{Purpose: templates.ForUnlock, Error: wrong}, fields)
	}
	if err != nil {
		return s.deskError(err, s.localPath(d))
	}
	return s.showAskMail(w, r, http.StatusOK, templates.AskMailPage{Purpose: templates.ForUnlock, Sent: true}, nil)
}

// unlockLink serves GET /unlock/confirm, where the link in the mail leads. It spends nothing.
func (s *Server) unlockLink(w http.ResponseWriter, r *http.Request) error {
	return s.showLink(w, r, templates.ForUnlock, credential.PendingUnlock, "unlock/confirm")
}

// unlockConfirm serves POST /unlock/confirm.
func (s *Server) unlockConfirm(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	d, err := s.wantedThen(r)
	if err != nil {
		return err
	}
	if _, err := s.desk.Unlock(r.Context(), fields["key"]); err != nil {
		return s.deskError(err, s.path("unlock"))
	}
	return s.redirectNoting(w, s.localPath(d), note("success", "unlocked", nil))
}

func (s *Server) mountPassword(r chi.Router) {
	r.Get("/security/password", s.page(s.freshly("security/password", s.passwordPage)))
	r.Post("/security/password", s.page(s.freshly("security/password", s.changePassword)))
}

// passwordPage serves GET /security/password.
func (s *Server) passwordPage(w http.ResponseWriter, r *http.Request, v visitor) error {
	return s.showPassword(w, r, v, http.StatusOK, nil)
}

func (s *Server) showPassword(w http.ResponseWriter, r *http.Request, v visitor, status int, wrong *templates.FieldError) error {
	p, c, _, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if p == nil || !p.Account.Password {
		return errNoLocal
	}
	page := templates.PasswordPage{
		Layout: s.layout(w, r, v), Action: s.path("security/password"), Current: c.Password != nil, Email: c.Primary(),
		Least: accounts.MinPassword, Cancel: s.path("security"), NoEmail: len(c.Emails) == 0, Emails: s.path("security/emails"),
	}
	if page.Challenge, err = s.askedFor(r, accounts.GuessedAt(c.ID), true, "password", wrong); err != nil {
		return err
	}
	if wrong != nil && wrong.Field != "challenge" {
		page.Errors = append(page.Errors, wrong)
	}
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, status, page.Nonce, page)
	return nil
}

// changePassword serves POST /security/password.
func (s *Server) changePassword(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitMails(r, s.path("security/password")); err != nil {
		return err
	}
	_, c, ok, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if !ok {
		return redirect(w, s.path("security/password")) // which says what is missing
	}
	challenged, wrong, err := s.challengedForm(r, "password", fields)
	if err != nil {
		return err
	}
	if wrong != nil {
		return s.showPassword(w, r, v, http.StatusUnprocessableEntity, wrong)
	}
	err = s.desk.ChangePassword(r.Context(), accounts.Change{
		Credential: c.ID, Account: *v.account, Session: v.Handle, Current: fields["current"], Password: fields["password"],
		Network: session.Network(clientAddress(r)), Challenged: challenged, Language: s.language(r, ""),
	})
	if need, ok := errors.AsType[*accounts.NeedError](err); ok && need.Wait == 0 {
		wrong = fieldError("challenge", "challenge_needed", nil)
	} else {
		wrong = fieldOf(err)
	}
	if wrong != nil {
		return s.showPassword(w, r, v, http.StatusUnprocessableEntity, wrong)
	}
	if errors.As(err, new(*accounts.InvalidError)) {
		return redirect(w, s.path("security/password"))
	}
	if err != nil {
		return s.deskError(err, s.path("security/password"))
	}
	return s.redirectNoting(w, s.path("security"), note("success", "password_saved", nil))
}
