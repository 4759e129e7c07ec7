package web

import (
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"

	"login-server/identity"
	"login-server/oidc"
	"login-server/templates"
)

// mountLeave are the ways out: signing out, disconnecting an identity, deleting the
// account. The GETs act on a link that was really followed on our pages or those of
// an allowed application; they ask when it came from elsewhere, and do nothing as
// an image, a frame or a fetch of another site.
func (s *Server) mountLeave(r chi.Router) {
	r.Get("/logout", s.page(s.logoutLink))
	r.Post("/logout", s.page(s.logout))
	r.Get("/disconnect/{provider}", s.page(s.signedIn(s.disconnectLink)))
	r.Post("/disconnect/{provider}", s.page(s.signedIn(s.disconnect)))
	r.Get("/delete", s.page(s.signedIn(s.deletePage)))
	r.Post("/delete", s.page(s.signedIn(s.deleteAccount)))
}

// logoutLink serves GET /logout.
func (s *Server) logoutLink(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	if v.account != nil && s.navigation(r) == navigationOwn {
		return s.logout(w, r)
	}
	if v.account == nil && d.redirect != "" {
		return redirect(w, d.redirect)
	}
	d.from = "" // which application asks makes no difference here
	page := templates.LogoutPage{Layout: s.layout(w, r, v), Action: d.addTo(s.path("logout")), Done: v.account == nil}
	page.Path = d.addTo("logout")
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// logout serves POST /logout.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	frames, err := s.signOut(w, r, v)
	if err != nil {
		return err
	}
	if d.redirect == "" {
		s.setFlash(w, note("success", "signed_out", nil))
		d.redirect = s.Config.Origin() + s.path("login")
		if len(frames) == 0 {
			d.redirect = s.path("login")
		}
	}
	return s.leaveFor(w, r, d.redirect, frames)
}

// disconnectLink serves GET /disconnect/{provider}.
func (s *Server) disconnectLink(w http.ResponseWriter, r *http.Request, v visitor) error {
	if s.navigation(r) == navigationOwn {
		return s.disconnect(w, r, v)
	}
	id := pathValue(r, "provider")
	if _, linked := v.account.Identities[id]; !linked {
		return s.redirectNoting(w, s.path("account"), note("error", "disconnect_unknown", nil))
	}
	page := templates.ConfirmPage{
		Layout: s.layout(w, r, v), Provider: s.provider(id, ""),
		Action: s.path("disconnect/" + id), Cancel: s.path("account"),
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// disconnect serves POST /disconnect/{provider}.
func (s *Server) disconnect(w http.ResponseWriter, r *http.Request, v visitor) error {
	id := pathValue(r, "provider")
	if last, err := s.lastWay(r.Context(), *v.account, id); err != nil {
		return err
	} else if last {
		return s.redirectNoting(w, s.path("account"), note("error", "disconnect_last", nil))
	}
	if p, ok := s.Providers.Local(); ok && p.ID == id { // with it go password, passkeys and second factors
		if !s.isFresh(v.Session) {
			return redirect(w, s.confirmURL("account"))
		}
		if owes, err := s.owesFactor(r.Context(), v); err != nil {
			return err
		} else if owes {
			return s.stepUp(w, s.Config.Origin()+s.path("account"))
		}
	}
	_, err := s.Users.Disconnect(r.Context(), v.account.ID, id)
	f := note("success", "disconnected", map[string]any{"Provider": s.providerName(id)})
	switch {
	case errors.Is(err, identity.ErrLastIdentity):
		f = note("error", "disconnect_last", nil)
	case errors.Is(err, identity.ErrNotLinked):
		f = note("error", "disconnect_unknown", nil)
	case err != nil:
		return err
	}
	return s.redirectNoting(w, s.path("account"), f)
}

// mustType tells whether the account's name has to be typed before it is deleted:
// whoever finds an open browser should not be able to do it with a click.
func (s *Server) mustType(v visitor) bool {
	return s.Clock.Now().Sub(v.Session.AuthTime) > freshLogin
}

// deletePage serves GET /delete.
func (s *Server) deletePage(w http.ResponseWriter, r *http.Request, v visitor) error {
	page := templates.DeletePage{Layout: s.layout(w, r, v), Name: v.account.Name, Typed: s.mustType(v), Error: s.takeFlash(w, r).Field}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// deleteAccount serves POST /delete.
func (s *Server) deleteAccount(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if typed, err := identity.CheckName(fields["name"]); s.mustType(v) && (err != nil || typed != v.account.Name) {
		return s.redirectNoting(w, s.path("delete"), flash{Field: &templates.FieldError{
			Field: "name", Message: templates.Message{Kind: "error", ID: "delete_name_mismatch"},
		}})
	}
	ctx := r.Context()
	err = s.Users.StepDown(ctx, v.account.ID, identity.RoleAdmin, func() error {
		return oidc.DeleteAccount(ctx, s.Store, s.Sessions, s.Users, v.account.ID, v.Handle)
	})
	if errors.Is(err, identity.ErrLastInRole) {
		return s.redirectNoting(w, s.path("delete"), beside("delete_last_admin", nil))
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	// This browser's own session is signed out, so that its sockets stay.
	if err := s.Sessions.SignOut(ctx, w, v.Visit); err != nil {
		return err
	}
	return s.redirectNoting(w, s.path("login"), note("success", "account_deleted", nil))
}
