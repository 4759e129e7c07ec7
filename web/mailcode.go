package web

import (
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/credential"
	"login-server/templates"
)

// codeOf is what a code or a link in a mail is asked for: of which kind it waits, what the
// page says, and the page where it began.
type codeOf struct{ kind, purpose, page string }

var (
	codeOfSignUp = codeOf{credential.PendingSignUp, templates.ForSignUp, "signup"}
	codeOfReset  = codeOf{credential.PendingReset, templates.ForReset, "reset"}
)

// mountCode serves the page that asks for the code in a mail, which is shown in the browser
// in which it began only, and that mail once more. confirm is what the code is good for; an
// error of wrongCode is shown beside the field.
func (s *Server) mountCode(r chi.Router, of codeOf, confirm func(http.ResponseWriter, *http.Request, destination, accounts.Answer) error) {
	r.Get("/"+of.page+"/code", s.page(func(w http.ResponseWriter, r *http.Request) error {
		return s.showCode(w, r, http.StatusOK, of, nil)
	}))
	r.Post("/"+of.page+"/code", s.page(func(w http.ResponseWriter, r *http.Request) error {
		d, err := s.limitedTo(r, of.page)
		if err != nil {
			return err
		}
		answer, err := s.answerOf(r)
		if err != nil {
			return err
		}
		err = confirm(w, r, d, answer)
		if wrong := wrongCode(err); wrong != nil {
			return s.showCode(w, r, http.StatusUnprocessableEntity, of, wrong)
		}
		return err
	}))
	r.Post("/"+of.page+"/resend", s.page(func(w http.ResponseWriter, r *http.Request) error {
		d, err := s.limitedTo(r, of.page)
		if err != nil {
			return err
		}
		id := r.URL.Query().Get("id")
		_, err = s.desk.Resend(r.Context(), of.kind, id, s.pendingSecret(r, id))
		if f, ok := resent(err); ok {
			return s.redirectNoting(w, s.pendingPath(of.page+"/code", id, d), f)
		}
		return s.deskError(err, d.addTo(s.path(of.page)))
	}))
}

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

// limitedTo is the destination of a request that may send a mail, or guess at what is in one:
// so many are let through, and whoever is not comes again at a page.
func (s *Server) limitedTo(r *http.Request, page string) (destination, error) {
	d, err := s.destinationOf(r)
	if err != nil {
		return d, err
	}
	return d, s.limitMails(r, d.addTo(s.path(page)))
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

// pendingPath is a page about what waits under an id.
func (s *Server) pendingPath(page, id string, d destination) string {
	query := d.values()
	query.Set("id", id)
	return s.path(page + "?" + query.Encode())
}

// showLink answers with the page of a link in a mail, which does nothing by itself.
func (s *Server) showLink(w http.ResponseWriter, r *http.Request, purpose, kind, action string) error {
	key := r.URL.Query().Get("key")
	p, err := s.desk.ByLink(r.Context(), kind, key)
	if err != nil {
		return s.deskError(err, s.path("login"))
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	page := templates.LinkPage{
		Layout: s.layout(w, r, v), Purpose: purpose, Email: p.Email, Action: s.continued(action, p), Key: key, Cancel: s.path("login"),
	}
	s.render(w, http.StatusOK, page.Nonce, page)
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

// wantedThen is the destination of something that began a while ago. If the application's
// request has ended since, it leads nowhere in particular.
func (s *Server) wantedThen(r *http.Request) (destination, error) {
	d, err := s.destinationOf(r)
	if e, ok := errors.AsType[*Error](err); ok && (e.Code == "expired" || e.Code == "redirect_refused") {
		return destination{}, nil
	}
	return d, err
}
