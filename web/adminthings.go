package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/admin"
	"login-server/audit"
	"login-server/notify"
	"login-server/oidc"
	"login-server/templates"
)

// Clients, messages, providers and the audit log, for administrators.

func (s *Server) mountAdminThings(r chi.Router) {
	r.Get("/admin/clients", s.page(s.administered(s.adminClients)))
	r.Get("/admin/clients/{client}", s.page(s.administered(s.adminClient)))
	r.Get("/admin/clients/{client}/ask/remove", s.page(s.administered(s.adminAskRemoveClient)))
	r.Post("/admin/clients/{client}/{action}", s.page(s.administered(s.adminActOnClient)))
	r.Get("/admin/messages", s.page(s.administered(s.adminMessages)))
	r.Get("/admin/messages/remove", s.page(s.administered(s.adminAskRemoveMessage)))
	r.Post("/admin/messages/{action}", s.page(s.administered(s.adminActOnMessage)))
	r.Get("/admin/providers", s.page(s.administered(s.adminProviders)))
	r.Get("/admin/audit", s.page(s.administered(s.adminAudit)))
	r.Post("/admin/audit/verify", s.page(s.administered(s.adminVerify)))
}

// listedClients are the clients of applications.json, without secrets.
func (s *Server) listedClients() []oidc.Entry {
	var all []oidc.Entry
	for _, app := range s.Config.Applications {
		if app.ClientID != "" {
			all = append(all, oidc.Entry{Name: app.Name, URL: app.URL, Metadata: oidc.Completed(app.Client)})
		}
	}
	return all
}

// adminClientView is a client as pages show it. Nothing of its secrets is read.
func (s *Server) adminClientView(e oidc.Entry, listed bool) templates.AdminClient {
	m := e.Metadata
	return templates.AdminClient{
		ID: m.ClientID, Name: cmp.Or(e.Name, m.ClientID), URL: e.URL, Page: s.path("admin/clients/" + url.PathEscape(m.ClientID)),
		Listed: listed, Self: e.Self, Disabled: e.Disabled, Created: e.Created, Method: m.TokenEndpointAuthMethod,
		Redirects: m.RedirectURIs, Grants: m.GrantTypes, Scope: m.Scope, Secrets: len(e.Secrets),
	}
}

// adminClients serves GET /admin/clients.
func (s *Server) adminClients(w http.ResponseWriter, r *http.Request, v visitor) error {
	stored, err := s.office.Clients(r.Context())
	if err != nil {
		return err
	}
	page := templates.AdminClientsPage{Layout: s.adminLayout(w, r, v)}
	for _, e := range s.listedClients() {
		page.Clients = append(page.Clients, s.adminClientView(e, true))
	}
	for _, e := range stored {
		page.Clients = append(page.Clients, s.adminClientView(e, false))
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// clientEntry is a client of either place.
func (s *Server) clientEntry(r *http.Request) (e oidc.Entry, listed bool, err error) {
	id := pathValue(r, "client")
	for _, e := range s.listedClients() {
		if e.Metadata.ClientID == id {
			return e, true, nil
		}
	}
	e, err = s.office.Client(r.Context(), id)
	if errors.Is(err, admin.ErrNoClient) {
		err = errNotFound
	}
	return e, false, err
}

// adminClient serves GET /admin/clients/{client}.
func (s *Server) adminClient(w http.ResponseWriter, r *http.Request, v visitor) error {
	e, listed, err := s.clientEntry(r)
	if err != nil {
		return err
	}
	page := templates.AdminClientPage{Layout: s.adminLayout(w, r, v), Client: s.adminClientView(e, listed)}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// adminAskRemoveClient serves GET /admin/clients/{client}/ask/remove.
func (s *Server) adminAskRemoveClient(w http.ResponseWriter, r *http.Request, v visitor) error {
	e, listed, err := s.clientEntry(r)
	if err != nil {
		return err
	}
	if listed {
		return errNotFound
	}
	view := s.adminClientView(e, false)
	page := templates.AdminConfirmPage{
		Layout: s.adminLayout(w, r, v), Section: "clients", What: "remove_client", Name: view.Name, ID: view.ID,
		Action: view.Page + "/remove", Cancel: view.Page,
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// actOnClient does what a form or a call asks for.
func (s *Server) actOnClient(r *http.Request, v visitor, action string) error {
	e, listed, err := s.clientEntry(r)
	if err != nil {
		return err
	}
	if listed {
		return errListed
	}
	id := e.Metadata.ClientID
	switch action {
	case "disable", "enable":
		err = s.office.DisableClient(r.Context(), s.by(r, v), id, action == "disable")
	case "remove":
		err = s.office.RemoveClient(r.Context(), s.by(r, v), id)
	default:
		return errNotFound
	}
	if errors.Is(err, admin.ErrNoClient) {
		return errNotFound
	}
	return err
}

var errListed = &Error{Status: http.StatusConflict, Code: "listed_client", Message: "This client is in applications.json, and is changed there."}

// clientActions and messageActions are what can be done to them, with what is said then.
var (
	clientActions  = map[string]string{"disable": "admin_done_disable_client", "enable": "admin_done_enable_client", "remove": "admin_done_remove_client"}
	messageActions = map[string]string{"retry": "admin_done_retry_message", "remove": "admin_done_remove_message"}
)

// adminActOnClient serves POST /admin/clients/{client}/{action}.
func (s *Server) adminActOnClient(w http.ResponseWriter, r *http.Request, v visitor) error {
	action := pathValue(r, "action")
	if err := s.actOnClient(r, v, action); err != nil {
		return err
	}
	f := note("success", clientActions[action], nil)
	if action == "remove" {
		return s.redirectNoting(w, s.path("admin/clients"), f)
	}
	return s.redirectNoting(w, s.path("admin/clients/"+url.PathEscape(pathValue(r, "client"))), f)
}

// messageFilter reads which messages are asked for.
func messageFilter(r *http.Request) notify.Filter {
	q := r.URL.Query()
	f := notify.Filter{After: q.Get("after"), Limit: adminPage}
	if state := q.Get("state"); state == notify.Waiting || state == notify.Failed {
		f.State = state
	}
	if channel := q.Get("channel"); channel == notify.ChannelMail || channel == notify.ChannelSMS {
		f.Channel = channel
	}
	return f
}

// adminMessages serves GET /admin/messages.
func (s *Server) adminMessages(w http.ResponseWriter, r *http.Request, v visitor) error {
	f := messageFilter(r)
	items, next, err := s.office.Messages(r.Context(), f)
	if err != nil {
		return err
	}
	page := templates.AdminMessagesPage{Layout: s.adminLayout(w, r, v), State: f.State}
	for _, m := range items {
		page.Queue = append(page.Queue, templates.AdminMessage{
			ID: m.ID, Channel: m.Channel, Kind: m.Kind, To: m.To, Failed: m.State == notify.Failed, Queued: m.Queued, Next: m.Next,
			Attempts: m.Attempts, Problem: m.Problem, Late: s.Clock.Now().After(m.NotAfter),
			Remove: s.path("admin/messages/remove?" + url.Values{"id": {m.ID}}.Encode()),
		})
	}
	if f.After != "" {
		page.First = s.path("admin/messages?" + url.Values{"state": {f.State}}.Encode())
	}
	if next != "" {
		page.Next = s.path("admin/messages?" + url.Values{"state": {f.State}, "after": {next}}.Encode())
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// adminAskRemoveMessage serves GET /admin/messages/remove.
func (s *Server) adminAskRemoveMessage(w http.ResponseWriter, r *http.Request, v visitor) error {
	id := r.URL.Query().Get("id")
	if !historyID(id) || id == "" {
		return errNotFound
	}
	page := templates.AdminConfirmPage{
		Layout: s.adminLayout(w, r, v), Section: "messages", What: "remove_message", Name: id, ID: id,
		Action: s.path("admin/messages/remove"), Cancel: s.path("admin/messages"),
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// actOnMessage does what a form or a call asks for.
func (s *Server) actOnMessage(r *http.Request, v visitor, action, id string) error {
	switch action {
	case "retry":
		return s.office.RetryMessage(r.Context(), s.by(r, v), id)
	case "remove":
		return s.office.RemoveMessage(r.Context(), s.by(r, v), id)
	}
	return errNotFound
}

// adminActOnMessage serves POST /admin/messages/{action}.
func (s *Server) adminActOnMessage(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	action := pathValue(r, "action")
	f := note("success", messageActions[action], nil)
	err = s.actOnMessage(r, v, action, fields["id"])
	switch {
	case isNotFound(err):
		f = note("error", "admin_error_message_gone", nil)
	case errors.Is(err, notify.ErrLate):
		f = note("error", "admin_error_message_late", nil)
	case err != nil:
		return err
	}
	return s.redirectNoting(w, s.path("admin/messages"), f)
}

// adminProviders serves GET /admin/providers.
func (s *Server) adminProviders(w http.ResponseWriter, r *http.Request, v visitor) error {
	page := templates.AdminProvidersPage{Layout: s.adminLayout(w, r, v)}
	for _, p := range s.Providers.All() {
		people, err := s.Users.Count(r.Context(), p.ID)
		if err != nil {
			return err
		}
		h := p.Health()
		view := templates.AdminProvider{Provider: s.provider(p.ID, ""), People: people, Known: h.Known, Up: h.Up, At: h.At, Since: h.Since}
		if h.Err != nil {
			view.Problem = truncate(h.Err.Error(), 500)
		}
		page.Providers = append(page.Providers, view)
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// auditQuery reads which entries are asked for.
func auditQuery(r *http.Request) audit.Query {
	q := r.URL.Query()
	text := func(name string) string { return truncate(strings.TrimSpace(q.Get(name)), 500) }
	before, _ := strconv.ParseInt(q.Get("before"), 10, 64)
	return audit.Query{Before: max(0, before), Action: text("action"), Actor: text("actor"), Target: text("target"), Limit: adminPage}
}

// auditActions are those that the page can be limited to.
var auditActions = []string{
	admin.ActionDisable, admin.ActionEnable, admin.ActionSignOut, admin.ActionResetFactors, admin.ActionSendReset, admin.ActionInvite,
	"user.grant", admin.ActionRevoke, "user.update", "user.merge", admin.ActionDelete, admin.ActionEndSession, "session.end_all",
	"client.add", "client.secret", "client.revoke", admin.ActionDisableClient, admin.ActionEnableClient, admin.ActionRemoveClient,
	admin.ActionRetryMessage, admin.ActionRemoveMessage, "key.rotate", "import",
}

// auditPage returns entries that a request asks for, and the number to go on before; 0 when
// that is all.
func (s *Server) auditPage(r *http.Request) (q audit.Query, entries []audit.Entry, older int64, err error) {
	q = auditQuery(r)
	asked := q
	asked.Limit++
	if entries, err = s.Audit.List(r.Context(), asked); err != nil {
		return q, nil, 0, err
	}
	if len(entries) > q.Limit {
		entries = entries[:q.Limit]
		older = entries[q.Limit-1].Number
	}
	return q, entries, older, nil
}

// adminAudit serves GET /admin/audit.
func (s *Server) adminAudit(w http.ResponseWriter, r *http.Request, v visitor) error {
	q, entries, older, err := s.auditPage(r)
	if err != nil {
		return err
	}
	page := templates.AdminAuditPage{
		Layout: s.adminLayout(w, r, v), Entries: s.auditViews(entries), Action: q.Action, Actor: q.Actor, Target: q.Target,
		Actions: slices.Sorted(slices.Values(auditActions)),
	}
	filter := url.Values{"action": {q.Action}, "actor": {q.Actor}, "target": {q.Target}}
	if q.Before > 0 {
		page.Newest = s.path("admin/audit?" + filter.Encode())
	}
	if older > 0 {
		filter.Set("before", strconv.FormatInt(older, 10))
		page.Older = s.path("admin/audit?" + filter.Encode())
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// adminVerify serves POST /admin/audit/verify: it goes through the whole log.
func (s *Server) adminVerify(w http.ResponseWriter, r *http.Request, v visitor) error {
	if err := s.limitAdminMail(r, v); err != nil { // dear, like a mail
		return err
	}
	report, err := s.Audit.Verify(r.Context())
	if err != nil {
		return err
	}
	f := note("success", "admin_audit_in_order", map[string]any{"Count": report.Entries, "Last": report.Last, "Hash": report.Hash})
	if len(report.Faults) > 0 {
		f = note("error", "admin_audit_faults", map[string]any{"Count": len(report.Faults), "Number": report.Faults[0].Number, "Text": report.Faults[0].Text})
	}
	return s.redirectNoting(w, s.path("admin/audit"), f)
}
