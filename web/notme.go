package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/identity"
	"login-server/session"
	"login-server/templates"
)

// mountNotMe is for who gets a mail about a sign-in that was not theirs. They need not be
// signed in: the link is what they prove themselves with. Opening it does nothing.
func (s *Server) mountNotMe(r chi.Router) {
	r.Get("/security/not-me", s.page(s.notMePage))
	r.Post("/security/not-me", s.page(s.notMe))
}

// tellSignIn writes to the owner of an account that somebody has signed in from a browser or a
// country that is new, unless they do not want that.
func (s *Server) tellSignIn(ctx context.Context, a identity.Account, began session.Session) {
	if a.Notices.SignInsOff {
		return
	}
	lang := s.Templates.Language(a.Language(), "")
	place := began.Address
	if where := s.place(lang, began.Country, began.City); where != "" {
		place = where + " (" + began.Address + ")"
	}
	browser := s.browser(lang, began.UserAgent)
	if browser == "" {
		browser = s.Templates.Text(lang, "unknown_browser", nil)
	}
	signedIn := accounts.SignedIn{Handle: began.Handle, UserAgent: began.UserAgent, Place: place, At: began.AuthTime}
	if err := s.desk.TellSignIn(ctx, a, signedIn, browser, lang); err != nil {
		s.Log.Warn("somebody was not told of a sign-in", "user", a.ID, "err", err)
	}
}

// notMePage serves GET /security/not-me.
func (s *Server) notMePage(w http.ResponseWriter, r *http.Request) error {
	told, err := s.desk.Told(r.Context(), r.URL.Query().Get("key"))
	if err != nil {
		return s.notMeError(err)
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	page := templates.NotMePage{
		Layout: s.layout(w, r, v), Action: s.path("security/not-me?" + url.Values{"key": {r.URL.Query().Get("key")}}.Encode()), At: told.At, Place: told.Place,
	}
	page.Browser = s.browser(page.Lang, told.UserAgent)
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// notMe serves POST /security/not-me. Who has a password here chooses another.
func (s *Server) notMe(w http.ResponseWriter, r *http.Request) error {
	resetKey, err := s.desk.NotMe(r.Context(), r.URL.Query().Get("key"))
	if err != nil {
		return s.notMeError(err)
	}
	if resetKey != "" {
		return s.redirectNoting(w, s.path("reset/new?"+url.Values{"key": {resetKey}}.Encode()), note("success", "notme_ended", nil))
	}
	page := templates.NotMePage{Layout: s.layout(w, r, visitor{}), Done: true}
	page.Path = strings.TrimPrefix(s.path("security"), s.base())
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

func (s *Server) notMeError(err error) error {
	if isNotFound(err) {
		return &Error{Status: http.StatusBadRequest, Code: "link_expired", Message: "This link has expired or was used before.", Link: s.path("security")}
	}
	return err
}
