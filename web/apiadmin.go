package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/audit"
	"login-server/identity"
	"login-server/notify"
	"login-server/oidc"
	"login-server/session"
)

// The calls of administrators do what their pages do (admin.go), by the same rules. They are
// for scripts on our own pages and for programs with an administrator's cookie: no other origin may call
// them.

func (s *Server) mountAdminAPI(r chi.Router) {
	r.Get("/api/v1/admin", s.api(s.administeredCall(s.apiOverview)))
	r.Get("/api/v1/admin/people", s.api(s.administeredCall(s.apiPeople)))
	r.Get("/api/v1/admin/people/{id}", s.api(s.administeredCall(s.apiPerson)))
	r.Get("/api/v1/admin/people/{id}/history", s.api(s.administeredCall(s.apiPersonHistory)))
	r.Post("/api/v1/admin/people/{id}/{action}", adminCall(s, s.apiAct))
	r.Post("/api/v1/admin/invitations", adminCall(s, s.apiInvite))
	r.Get("/api/v1/admin/clients", s.api(s.administeredCall(s.apiClients)))
	r.Get("/api/v1/admin/clients/{client}", s.api(s.administeredCall(s.apiClient)))
	r.Post("/api/v1/admin/clients/{client}/{action}", adminCall(s, s.apiActOnClient))
	r.Get("/api/v1/admin/messages", s.api(s.administeredCall(s.apiMessages)))
	r.Post("/api/v1/admin/messages/{action}", adminCall(s, s.apiActOnMessage))
	r.Get("/api/v1/admin/providers", s.api(s.administeredCall(s.apiProviders)))
	r.Get("/api/v1/admin/audit", s.api(s.administeredCall(s.apiAudit)))
	r.Post("/api/v1/admin/audit/verify", adminCall(s, s.apiVerifyAudit))
}

var errFactorRequired = &Error{Status: http.StatusForbidden, Code: "factor_required", Message: "A second factor has to be given first, on the page /factor."}

// administeredCall is administered for calls: who has to give a second factor first is told so.
func (s *Server) administeredCall(h signedInHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := s.administrator(r)
		if err != nil {
			return err
		}
		// What changes something has been looked at by protect; what reads must not be asked for by
		// another site either.
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "none", "same-origin":
		default:
			return errCrossSite
		}
		if !s.mayAct(v) {
			return errFactorRequired
		}
		if r.Method != http.MethodGet {
			if err := s.limitAdmin(r, v); err != nil {
				return err
			}
		}
		err = h(w, r, v)
		if isNotFound(err) {
			return errNotFound
		}
		for _, p := range adminProblems {
			if errors.Is(err, p.err) {
				return &Error{Status: http.StatusUnprocessableEntity, Code: p.code, Message: p.text}
			}
		}
		return err
	}
}

// adminCall makes an http.HandlerFunc of a call of administrators whose fields are a T. Nobody
// else's request is read.
func adminCall[T any](s *Server, h func(w http.ResponseWriter, r *http.Request, v visitor, fields T) error) http.HandlerFunc {
	return s.api(s.administeredCall(func(w http.ResponseWriter, r *http.Request, v visitor) error {
		var fields T
		if err := s.readCall(w, r, &fields); err != nil {
			return err
		}
		return h(w, r, v, fields)
	}))
}

func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// apiOverview serves GET /api/v1/admin.
func (s *Server) apiOverview(w http.ResponseWriter, r *http.Request, _ visitor) error {
	n, err := s.office.Overview(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]int{
		"people": n.People, "admins": n.Admins, "sessions": n.Sessions, "clients": n.Clients + len(s.listedClients()),
		"messagesWaiting": n.MessagesWaiting, "messagesFailed": n.Failed, "providersDown": n.ProvidersDown,
	})
}

// adminAccount is an account as administrators see it.
type adminAccount struct {
	identity.UserWithUsage
	Roles    []string `json:"roles"`
	Disabled bool     `json:"disabled"`
}

func adminAccountOf(a identity.Account) adminAccount {
	roles := a.Roles
	if roles == nil {
		roles = []string{}
	}
	return adminAccount{a.UserWithUsage(), roles, a.Disabled}
}

// apiPeople serves GET /api/v1/admin/people.
func (s *Server) apiPeople(w http.ResponseWriter, r *http.Request, _ visitor) error {
	found, next, err := s.office.People(r.Context(), r.URL.Query().Get("q"), r.URL.Query().Get("after"), adminPage)
	if err != nil {
		return err
	}
	people := make([]adminAccount, 0, len(found))
	for _, a := range found {
		people = append(people, adminAccountOf(a))
	}
	return writeJSON(w, struct {
		People []adminAccount `json:"people"`
		Next   string         `json:"next,omitempty"`
	}{people, next})
}

// adminFactors is what somebody proves themselves with, without any secret.
type adminFactors struct {
	Emails        []adminEmail   `json:"emails"`
	Password      bool           `json:"password"`
	Passkeys      []adminPasskey `json:"passkeys"`
	App           bool           `json:"app"`
	Phone         string         `json:"phone,omitempty"` // masked
	RecoveryCodes int            `json:"recoveryCodes"`
	TwoStep       bool           `json:"twoStep"`
}

type adminEmail struct {
	Address  string    `json:"address"`
	Primary  bool      `json:"primary"`
	Verified time.Time `json:"verified"`
}

type adminPasskey struct {
	Name     string    `json:"name"`
	Added    time.Time `json:"added"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

// apiPerson serves GET /api/v1/admin/people/{id}.
func (s *Server) apiPerson(w http.ResponseWriter, r *http.Request, _ visitor) error {
	p, err := s.office.Person(r.Context(), pathValue(r, "id"))
	if err != nil {
		return err
	}
	c := p.Credential
	factors := adminFactors{Emails: []adminEmail{}, Passkeys: []adminPasskey{}, Password: c.Password != nil, App: c.TOTP != nil, RecoveryCodes: c.RecoveryLeft(), TwoStep: c.TwoStep}
	for _, e := range c.Emails {
		factors.Emails = append(factors.Emails, adminEmail{e.Address, e.Primary, e.Verified})
	}
	for _, k := range c.Passkeys {
		factors.Passkeys = append(factors.Passkeys, adminPasskey{k.Name, k.Added, k.Used})
	}
	if c.Phone != nil {
		factors.Phone = maskNumber(c.Phone.Number)
	}
	sessions := make([]session.Info, 0, len(p.Sessions))
	for _, x := range p.Sessions {
		sessions = append(sessions, x.Info())
	}
	return writeJSON(w, struct {
		adminAccount
		Factors      adminFactors          `json:"factors"`
		Sessions     []session.Info        `json:"sessions"`
		Applications []personalApplication `json:"applications"`
	}{adminAccountOf(p.Account), factors, sessions, personalApplications(p.Connections)})
}

// apiPersonHistory serves GET /api/v1/admin/people/{id}/history.
func (s *Server) apiPersonHistory(w http.ResponseWriter, r *http.Request, _ visitor) error {
	p, err := s.office.Person(r.Context(), pathValue(r, "id"))
	if err != nil {
		return err
	}
	before := r.URL.Query().Get("before")
	if !historyID(before) {
		before = ""
	}
	history, err := s.Sessions.History(r.Context(), session.HistoryQuery{UserIDs: p.IDs, Before: before, Limit: adminPage + 1})
	if err != nil {
		return err
	}
	answer := struct {
		History []session.SignIn `json:"history"`
		Older   string           `json:"older,omitempty"`
	}{History: history}
	if len(history) > adminPage {
		answer.History, answer.Older = history[:adminPage], history[adminPage-1].ID
	}
	if answer.History == nil {
		answer.History = []session.SignIn{}
	}
	return writeJSON(w, answer)
}

// actFields are those of POST /api/v1/admin/people/{id}/{action}: Name for delete, Handle for
// end-session.
type actFields struct {
	Name   string `json:"name"`
	Handle string `json:"handle"`
}

// apiAct serves POST /api/v1/admin/people/{id}/{action}.
func (s *Server) apiAct(w http.ResponseWriter, r *http.Request, v visitor, fields actFields) error {
	if err := s.actOn(r, v, pathValue(r, "id"), pathValue(r, "action"), map[string]string{"name": fields.Name, "handle": fields.Handle}); err != nil {
		return err
	}
	return done(w)
}

// invitationFields are those of POST /api/v1/admin/invitations.
type invitationFields struct {
	Email    string `json:"email"`
	Name     string `json:"name"`
	Language string `json:"language"`
}

// apiInvite serves POST /api/v1/admin/invitations.
func (s *Server) apiInvite(w http.ResponseWriter, r *http.Request, v visitor, fields invitationFields) error {
	if err := s.limitAdminMail(r, v); err != nil {
		return err
	}
	link, err := s.invite(r, v, fields.Email, fields.Name, fields.Language)
	if invalid, ok := errors.AsType[*accounts.InvalidError](err); ok {
		return &Error{Status: http.StatusUnprocessableEntity, Code: invalid.Reason, Message: "The field cannot be used.", Field: invalid.Field}
	}
	if err != nil {
		return err
	}
	answer := map[string]any{"mailed": link == ""}
	if link != "" {
		answer["link"] = link
	}
	return writeJSON(w, answer)
}

// adminClientAnswer is a client as administrators see it, without secrets.
type adminClientAnswer struct {
	ClientID string `json:"client_id"`
	Name     string `json:"client_name"`
	URL      string `json:"url,omitempty"`
	// Source is "applications.json", "command line" or "registration".
	Source       string     `json:"source"`
	Disabled     bool       `json:"disabled"`
	Created      *time.Time `json:"created,omitempty"`
	RedirectURIs []string   `json:"redirect_uris,omitempty"`
	GrantTypes   []string   `json:"grant_types,omitempty"`
	Scope        string     `json:"scope,omitempty"`
	AuthMethod   string     `json:"token_endpoint_auth_method,omitempty"`
}

func adminClientAnswerOf(e oidc.Entry, listed bool) adminClientAnswer {
	m := e.Metadata
	answer := adminClientAnswer{
		ClientID: m.ClientID, Name: e.Name, URL: e.URL, Source: "command line", Disabled: e.Disabled,
		RedirectURIs: m.RedirectURIs, GrantTypes: m.GrantTypes, Scope: m.Scope, AuthMethod: m.TokenEndpointAuthMethod,
	}
	switch {
	case listed:
		answer.Source = "applications.json"
	case e.Self:
		answer.Source = "registration"
	}
	if !e.Created.IsZero() {
		answer.Created = &e.Created
	}
	return answer
}

// apiClients serves GET /api/v1/admin/clients.
func (s *Server) apiClients(w http.ResponseWriter, r *http.Request, _ visitor) error {
	stored, err := s.office.Clients(r.Context())
	if err != nil {
		return err
	}
	clients := []adminClientAnswer{}
	for _, e := range s.listedClients() {
		clients = append(clients, adminClientAnswerOf(e, true))
	}
	for _, e := range stored {
		clients = append(clients, adminClientAnswerOf(e, false))
	}
	return writeJSON(w, map[string]any{"clients": clients})
}

// apiClient serves GET /api/v1/admin/clients/{client}.
func (s *Server) apiClient(w http.ResponseWriter, r *http.Request, _ visitor) error {
	e, listed, err := s.clientEntry(r)
	if err != nil {
		return err
	}
	return writeJSON(w, adminClientAnswerOf(e, listed))
}

// apiActOnClient serves POST /api/v1/admin/clients/{client}/{action}.
func (s *Server) apiActOnClient(w http.ResponseWriter, r *http.Request, v visitor, _ struct{}) error {
	if err := s.actOnClient(r, v, pathValue(r, "action")); err != nil {
		return err
	}
	return done(w)
}

// apiMessages serves GET /api/v1/admin/messages.
func (s *Server) apiMessages(w http.ResponseWriter, r *http.Request, _ visitor) error {
	items, next, err := s.office.Messages(r.Context(), messageFilter(r))
	if err != nil {
		return err
	}
	if items == nil {
		items = []notify.Item{}
	}
	return writeJSON(w, struct {
		Messages []notify.Item `json:"messages"`
		Next     string        `json:"next,omitempty"`
	}{items, next})
}

// messageFields are those of POST /api/v1/admin/messages/{action}.
type messageFields struct {
	ID string `json:"id"`
}

// apiActOnMessage serves POST /api/v1/admin/messages/{action}.
func (s *Server) apiActOnMessage(w http.ResponseWriter, r *http.Request, v visitor, fields messageFields) error {
	err := s.actOnMessage(r, v, pathValue(r, "action"), fields.ID)
	if errors.Is(err, notify.ErrLate) {
		return &Error{Status: http.StatusUnprocessableEntity, Code: "message_late", Message: "It is too late to send it."}
	}
	if err != nil {
		return err
	}
	return done(w)
}

// apiProviders serves GET /api/v1/admin/providers.
func (s *Server) apiProviders(w http.ResponseWriter, r *http.Request, _ visitor) error {
	type provider struct {
		ID       string     `json:"id"`
		Name     string     `json:"name"`
		Strategy string     `json:"strategy"`
		State    string     `json:"state"` // "up", "down" or "unknown"
		Asked    *time.Time `json:"asked,omitempty"`
		Since    *time.Time `json:"since,omitempty"`
		Problem  string     `json:"problem,omitempty"`
	}
	all := []provider{}
	for _, p := range s.Providers.All() {
		h := p.Health()
		x := provider{ID: p.ID, Name: p.Name, Strategy: p.Strategy, State: "unknown"}
		if h.Known {
			x.State, x.Asked, x.Since = "down", &h.At, &h.Since
			if h.Up {
				x.State = "up"
			}
		}
		if h.Err != nil {
			x.Problem = truncate(h.Err.Error(), 500)
		}
		all = append(all, x)
	}
	return writeJSON(w, map[string]any{"providers": all})
}

// apiAudit serves GET /api/v1/admin/audit.
func (s *Server) apiAudit(w http.ResponseWriter, r *http.Request, _ visitor) error {
	_, entries, older, err := s.auditPage(r)
	if err != nil {
		return err
	}
	if entries == nil {
		entries = []audit.Entry{}
	}
	return writeJSON(w, struct {
		Entries []audit.Entry `json:"entries"`
		Older   int64         `json:"older,omitempty"`
	}{entries, older})
}

// apiVerifyAudit serves POST /api/v1/admin/audit/verify.
func (s *Server) apiVerifyAudit(w http.ResponseWriter, r *http.Request, v visitor, _ struct{}) error {
	if err := s.limitAdminMail(r, v); err != nil {
		return err
	}
	report, err := s.Audit.Verify(r.Context())
	if err != nil {
		return err
	}
	faults := make([]map[string]any, 0, len(report.Faults))
	for _, f := range report.Faults {
		faults = append(faults, map[string]any{"number": f.Number, "text": f.Text})
	}
	return writeJSON(w, map[string]any{"entries": report.Entries, "first": report.First, "last": report.Last, "hash": report.Hash, "faults": faults})
}
