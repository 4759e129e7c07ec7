package web

import (
	"net/http"
	"time"

	"login-server/oidc"
	"login-server/templates"
)

// connected lists the applications that somebody has let in.
func (s *Server) connected(r *http.Request, v visitor) ([]oidc.Connection, error) {
	ids, err := s.Users.IDs(r.Context(), *v.account)
	if err != nil {
		return nil, err
	}
	return s.openid.Connected(r.Context(), ids...)
}

func connectedView(c oidc.Connection) templates.Connected {
	view := templates.Connected{Client: clientView(c.Client), Trusted: c.Trusted, Since: c.Since, Used: c.Used}
	for _, scope := range c.Scopes {
		view.Scopes = append(view.Scopes, scopeInWords(scope).Title)
	}
	return view
}

// disconnectApplication serves POST /account/applications/disconnect.
func (s *Server) disconnectApplication(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	list, err := s.connected(r, v)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Client.ClientID != fields["client"] {
			continue
		}
		ids, err := s.Users.IDs(r.Context(), *v.account)
		if err != nil {
			return err
		}
		if err := s.openid.Disconnect(r.Context(), c.Client.ClientID, ids...); err != nil {
			return err
		}
		return s.redirectNoting(w, s.path("account"), note("success", "application_disconnected", map[string]any{"Application": c.Client.Name}))
	}
	return redirect(w, s.path("account")) // it is disconnected already
}

// personalApplication is a connected application as the person's data has it.
type personalApplication struct {
	ClientID string    `json:"client_id"`
	Name     string    `json:"name"`
	Trusted  bool      `json:"trusted"`
	Scopes   []string  `json:"scopes"`
	Since    time.Time `json:"since"`
	LastUsed time.Time `json:"lastUsed"`
}

func personalApplications(list []oidc.Connection) []personalApplication {
	all := make([]personalApplication, 0, len(list))
	for _, c := range list {
		p := personalApplication{c.Client.ClientID, c.Client.Name, c.Trusted, c.Scopes, c.Since, c.Used}
		if p.Scopes == nil {
			p.Scopes = []string{}
		}
		all = append(all, p)
	}
	return all
}
