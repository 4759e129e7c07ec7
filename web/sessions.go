package web

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"login-server/session"
	"login-server/templates"
)

func (s *Server) mountSessions(r chi.Router) {
	r.Get("/sessions", s.page(s.signedIn(s.sessionsPage)))
	r.Post("/sessions/remove", s.page(s.signedIn(s.removeSession)))
	r.Post("/sessions/remove-others", s.page(s.signedIn(s.removeOthers)))
	r.Delete("/sessions", s.api(s.deleteSessions))
	r.Delete("/sessions/{id}", s.api(s.deleteSession))
}

// sessionsPage serves GET /sessions.
func (s *Server) sessionsPage(w http.ResponseWriter, r *http.Request, v visitor) error {
	ids, err := s.Users.IDs(r.Context(), *v.account)
	if err != nil {
		return err
	}
	page := templates.SessionsPage{Layout: s.layout(w, r, v)}
	if page.Sessions, err = s.sessionsOf(r.Context(), page.Lang, "sessions", v, ids); err != nil {
		return err
	}
	history, err := s.Sessions.History(r.Context(), session.HistoryQuery{UserIDs: ids, Limit: 20})
	if err != nil {
		return err
	}
	page.SignIns = s.historyViews(page.Lang, history)
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// sessionsOf are the sessions of somebody's accounts, as page shows them, this one first.
func (s *Server) sessionsOf(ctx context.Context, lang, page string, v visitor, ids []string) ([]templates.Session, error) {
	sessions, err := s.Sessions.Of(ctx, ids...)
	if err != nil {
		return nil, err
	}
	handles := make([]string, len(sessions))
	for i, x := range sessions {
		handles[i] = x.Handle
	}
	sockets := s.hub.Sockets(ctx, handles...)
	var views []templates.Session
	for _, x := range sessions {
		view := templates.Session{
			Handle: x.Handle, Current: x.Handle == v.Handle, Application: x.Application, Browser: s.browser(lang, x.UserAgent),
			Address: x.Address, Place: s.place(lang, x.Country, x.City), Provider: s.providerName(x.Provider), Created: x.Created, LastUsed: x.LastSeen, Expires: x.Expires,
			Sockets: sockets[x.Handle], Page: page,
		}
		if view.Current {
			views = append([]templates.Session{view}, views...)
		} else {
			views = append(views, view)
		}
	}
	return views, nil
}

// methodTexts are the words for how somebody has signed in; what they say of a provider's
// website is its name, which stands beside them.
var methodTexts = map[string]string{
	"pwd": "method_pwd", "otp": "method_otp", "sms": "method_sms", "hwk": "method_passkey", "swk": "method_passkey", "mail": "method_mail",
}

// historyViews are entries of the history as pages show them.
func (s *Server) historyViews(lang string, history []session.SignIn) []templates.SignIn {
	var views []templates.SignIn
	for _, x := range history {
		view := templates.SignIn{
			At: x.At, Provider: s.providerName(x.Provider), Address: x.Address, Place: s.place(lang, x.Country, x.City),
			Browser: s.browser(lang, x.UserAgent), Application: x.Application, Result: x.Result, More: x.More,
		}
		for _, method := range x.Methods {
			if id, ok := methodTexts[method]; ok {
				view.Methods = append(view.Methods, templates.Message{ID: id})
			}
		}
		views = append(views, view)
	}
	return views
}

// browser says in words what a User-Agent header means: "Firefox on Linux".
func (s *Server) browser(lang, header string) string {
	browser, system := session.Software(header)
	if browser == "" || system == "" {
		return browser
	}
	return s.Templates.Text(lang, "browser_on", map[string]any{"Browser": browser, "System": system})
}

// removeSession serves POST /sessions/remove.
func (s *Server) removeSession(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	f := note("success", "session_removed", nil)
	err = s.endSession(w, r, v, fields["id"])
	if isNotFound(err) {
		f = note("error", "session_unknown", nil)
	} else if err != nil {
		return err
	}
	return s.redirectNoting(w, s.path(pageOfSessions(fields)), f)
}

// pageOfSessions is the one on which somebody has removed sessions.
func pageOfSessions(fields map[string]string) string {
	if fields["page"] == "security" {
		return "security"
	}
	return "sessions"
}

// endSession ends one of the person's own sessions and closes its sockets. This
// browser's own one is signed out as well, so that its cookie is good for the next login.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request, v visitor, handle string) error {
	ids, err := s.Users.IDs(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if handle == "" || len(handle) > 200 || !validText(handle) {
		return session.ErrNotFound
	}
	if err := s.Sessions.Remove(r.Context(), handle, ids...); err != nil {
		return err
	}
	if handle == v.Handle {
		return s.Sessions.SignOut(r.Context(), w, v.Visit)
	}
	return nil
}

// removeOthers serves POST /sessions/remove-others.
func (s *Server) removeOthers(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.endOthers(r, v); err != nil {
		return err
	}
	return s.redirectNoting(w, s.path(pageOfSessions(fields)), note("success", "sessions_removed", nil))
}

// endOthers ends all sessions of who is signed in but this one. Browsers that were trusted are
// not any more: whoever does this may have lost one.
func (s *Server) endOthers(r *http.Request, v visitor) error {
	ids, err := s.Users.IDs(r.Context(), *v.account)
	if err != nil {
		return err
	}
	_, c, ok, err := s.desk.Credential(r.Context(), *v.account)
	if err == nil && ok {
		_, err = s.Credentials.Distrust(r.Context(), c.ID)
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	_, err = s.Sessions.RemoveAll(r.Context(), v.Handle, ids...)
	return err
}

// deleteSessions serves DELETE /sessions: all sessions of the user but this one.
func (s *Server) deleteSessions(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	if err := s.endOthers(r, v); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteSession serves DELETE /sessions/{id}.
func (s *Server) deleteSession(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	err = s.endSession(w, r, v, pathValue(r, "id"))
	if isNotFound(err) {
		return &Error{Status: http.StatusUnprocessableEntity, Code: "unknown_session", Message: "This is not one of your sessions."}
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
