package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"login-server/oidc"
	"login-server/templates"
)

// pathSignOut is where the page that asks before signing out posts to. Nobody else does.
const pathSignOut = oidc.PathEndSession + "/confirm"

// logoutDelay is how many seconds a page waits for its frames before it goes on without
// JavaScript.
const logoutDelay = "5"

// endSessionRequest serves the end_session_endpoint (OpenID Connect RP-Initiated Logout
// 1.0, 2), by GET and POST.
func (s *Server) endSessionRequest(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	if r.Method == http.MethodPost {
		if _, err := form(r); err != nil {
			return err
		}
		values = r.PostForm
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPost && v.account == nil {
		// A form on a page of the client comes without our cookie: nobody seems to be signed
		// in. What follows it has the cookie.
		query := values.Encode()
		if len(query) > 8<<10 {
			return &Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: "The request is too large.", Link: s.path("logout")}
		}
		return redirect(w, s.path(strings.TrimPrefix(oidc.PathEndSession, "/")+"?"+query))
	}
	l, err := s.openid.EndSession(r.Context(), values, v.person())
	if err != nil {
		return err
	}
	// Pictures and frames of other sites, and browsers that look ahead, sign nobody out.
	if l.To != "" && isPageView(r) {
		frames, err := s.signOut(w, r, v)
		if err != nil {
			return err
		}
		return s.leaveFor(w, r, l.To, frames)
	}
	page := templates.LogoutPage{Layout: s.layout(w, r, v), Action: s.path(strings.TrimPrefix(pathSignOut, "/")), Done: v.account == nil}
	page.Path = "logout" // what the client has sent is not repeated
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// isPageView tells a page that somebody sees from what a page loads.
func isPageView(r *http.Request) bool {
	dest, mode := r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Mode")
	return (dest == "" || dest == "document") && (mode == "" || mode == "navigate") && !isPrefetch(r)
}

// signOutConfirmed serves POST /oauth/logout/confirm: it signs out, says so, and leads
// nowhere.
func (s *Server) signOutConfirmed(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	frames, err := s.signOut(w, r, v)
	if err != nil {
		return err
	}
	s.renderLeaving(w, r, templates.LogoutPage{Done: true, Frames: frames})
	return nil
}

// signOut ends the session of the browser. It returns the addresses that the browser has
// to load in frames, so that clients hear of it.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request, v visitor) ([]string, error) {
	if v.Session == nil {
		return nil, nil
	}
	frames, err := s.openid.FrontChannel(r.Context(), *v.Session)
	if err != nil {
		return nil, err
	}
	return frames, s.Sessions.SignOut(r.Context(), w, v.Visit)
}

// leaveFor sends the browser on after signing out, by way of a page with frames if there
// are any. An address on the way there is absolute.
func (s *Server) leaveFor(w http.ResponseWriter, r *http.Request, to string, frames []string) error {
	if len(frames) == 0 {
		return redirect(w, to)
	}
	// For browsers without JavaScript, and clients that do not answer.
	w.Header().Set("Refresh", logoutDelay+"; url="+to)
	s.renderLeaving(w, r, templates.LogoutPage{Done: true, Frames: frames, Continue: to, Auto: true})
	return nil
}

// renderLeaving answers with a page that loads frames of clients, and of nobody else.
func (s *Server) renderLeaving(w http.ResponseWriter, r *http.Request, page templates.LogoutPage) {
	page.Layout = s.layout(w, r, visitor{})
	page.Path = "logout"
	if len(page.Frames) == 0 {
		s.render(w, http.StatusOK, page.Nonce, page)
		return
	}
	s.renderUnder(w, http.StatusOK, s.policy(page.Nonce)+"; frame-src "+strings.Join(origins(page.Frames), " "), page)
}

// origins are those of addresses, each once, as a source list of a policy has them: what
// is no plain host is left out.
func origins(addresses []string) []string {
	list := []string{}
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || strings.ContainsAny(u.Host, " ;,'\"*") {
			continue
		}
		list = append(list, u.Scheme+"://"+u.Host)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
