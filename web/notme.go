package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/credential"
	"login-server/identity"
	"login-server/session"
	"login-server/templates"
)

// notMeLife is how long the link of a mail about a sign-in works.
const notMeLife = 7 * 24 * time.Hour

// mountNotMe is for who gets a mail about a sign-in that was not theirs. They need not be
// signed in: the link is what they prove themselves with. Opening it does nothing.
func (s *Server) mountNotMe(r chi.Router) {
	r.Get("/security/not-me", s.page(s.notMePage))
	r.Post("/security/not-me", s.page(s.notMe))
}

// unknownSignIn is what waits for somebody to say that it was not them.
type unknownSignIn struct {
	Handle    string    `json:"handle"`
	UserAgent string    `json:"userAgent"`
	Place     string    `json:"place"`
	At        time.Time `json:"at"`
}

// tellSignIn writes to the owner of an account that somebody has signed in from a browser or a
// country that is new, unless they do not want that.
func (s *Server) tellSignIn(ctx context.Context, a identity.Account, began session.Session) {
	if a.Notices.SignInsOff {
		return
	}
	to, err := s.addressOf(ctx, a)
	if err == nil && to == "" {
		return
	}
	lang := s.Templates.Language(a.Language(), "")
	place := began.Address
	if where := s.place(lang, began.Country, began.City); where != "" {
		place = where + " (" + began.Address + ")"
	}
	var issued credential.Issued
	if err == nil {
		_, c, _, findErr := s.credentialOf(ctx, a)
		if err = findErr; err == nil {
			issued, err = s.Credentials.Begin(ctx, credential.Pending{Kind: credential.PendingNotMe, Credential: c.ID, Account: a.ID, Email: to, Language: lang},
				unknownSignIn{Handle: began.Handle, UserAgent: began.UserAgent, Place: place, At: began.AuthTime}, notMeLife)
		}
	}
	if err != nil {
		s.Log.Warn("somebody was not told of a sign-in", "user", a.ID, "err", err)
		return
	}
	browser := s.browser(lang, began.UserAgent)
	if browser == "" {
		browser = s.Templates.Text(lang, "unknown_browser", nil)
	}
	s.mailOwner(ctx, a, templates.Mail{
		Kind: "new_device", Args: map[string]any{"Time": began.AuthTime, "Browser": browser, "Place": place},
		Link: s.Config.BaseURL.String() + "security/not-me?" + url.Values{"key": {issued.Secret}}.Encode(),
	})
}

// toldSignIn is the sign-in that a link is about.
func (s *Server) toldSignIn(r *http.Request) (credential.Pending, unknownSignIn, error) {
	var told unknownSignIn
	p, err := s.Credentials.ByLink(r.Context(), credential.PendingNotMe, r.URL.Query().Get("key"))
	if err == nil {
		err = s.Credentials.Payload(p, &told)
	}
	if isNotFound(err) {
		err = &Error{Status: http.StatusBadRequest, Code: "link_expired", Message: "This link has expired or was used before.", Link: s.path("security")}
	}
	return p, told, err
}

// notMePage serves GET /security/not-me.
func (s *Server) notMePage(w http.ResponseWriter, r *http.Request) error {
	_, told, err := s.toldSignIn(r)
	if err != nil {
		return err
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

// notMe serves POST /security/not-me: the session ends, no browser is trusted any more, and a
// new password is chosen. Who has none here is signed out everywhere: how they sign in is for
// another provider to keep safe.
func (s *Server) notMe(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	p, told, err := s.toldSignIn(r)
	if err != nil {
		return err
	}
	if err := s.Credentials.End(ctx, p); err != nil {
		if isNotFound(err) {
			return redirect(w, s.path("security"))
		}
		return err
	}
	account, err := s.Users.Get(ctx, p.Account)
	if isNotFound(err) {
		return redirect(w, s.path("login")) // deleted meanwhile, sessions and all
	}
	if err != nil {
		return err
	}
	ids, err := s.Users.IDs(ctx, account)
	if err != nil {
		return err
	}
	if err := s.Sessions.Remove(ctx, told.Handle, ids...); err != nil && !isNotFound(err) {
		return err
	}
	local, c, _, err := s.credentialOf(ctx, account)
	if err != nil {
		return err
	}
	if c.ID != "" {
		if c, err = s.Credentials.Distrust(ctx, c.ID); err != nil {
			return err
		}
	}
	if local != nil && local.Account.Password && c.HasEmail(p.Email) {
		issued, err := s.Credentials.Begin(ctx, credential.Pending{Kind: credential.PendingReset, Credential: c.ID, Account: account.ID, Email: p.Email, Language: p.Language}, nil, accounts.ResetLife)
		if err != nil {
			return err
		}
		return s.redirectNoting(w, s.path("reset/new?"+url.Values{"key": {issued.Secret}}.Encode()), note("success", "notme_ended", nil))
	}
	if _, err := s.Sessions.RemoveAll(ctx, "", ids...); err != nil {
		return err
	}
	page := templates.NotMePage{Layout: s.layout(w, r, visitor{}), Done: true}
	page.Path = strings.TrimPrefix(s.path("security"), s.base())
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}
