package web

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/admin"
	"login-server/audit"
	"login-server/identity"
	"login-server/oidc"
	"login-server/templates"
)

// The pages of administrators. For everybody else they do not exist: whoever is signed out, or
// has not the role at this moment, is answered as for any path that there is not. What the
// pages do, package admin does, and the calls below /api/v1/admin do the same (apiadmin.go).

const (
	// adminLife is for how long after a second factor administrators may act.
	adminLife = 30 * time.Minute
	// adminPage is how many people, messages and so on are on a page.
	adminPage = 50
	// apiAdmin is where the calls of administrators begin.
	apiAdmin = apiBase + "admin"
)

func (s *Server) mountAdmin(r chi.Router) {
	r.Get("/admin", s.page(s.administered(s.adminOverview)))
	s.mountAdminPeople(r)
	s.mountAdminThings(r)
	s.mountAdminAPI(r)
}

// isAdminPath tells whether a path is one of administrators. Those are for our own pages
// alone: no other origin reads or calls them, whatever is allowed elsewhere.
func isAdminPath(path string) bool {
	for _, root := range []string{"/admin", apiAdmin} {
		if path == root || strings.HasPrefix(path, root+"/") {
			return true
		}
	}
	return false
}

// newOffice returns the office of administrators of a server.
func (s *Server) newOffice() *admin.Office {
	return admin.New(admin.Options{
		Users: s.Users, Sessions: s.Sessions, Credentials: s.Credentials, Providers: s.Providers, Desk: s.desk,
		Clients: s.openid, Notify: s.Notify, Audit: s.Audit, Tell: s.desk.Tell, Log: s.Log,
		CountClients: func(ctx context.Context) (int, error) { return s.Store.Count(ctx, "client", "") },
		Delete: func(ctx context.Context, id string) error {
			return oidc.DeleteAccount(ctx, s.Store, s.Sessions, s.Users, id, "")
		},
	})
}

// administrator is who a request comes from, if that is an administrator at this moment:
// session and account are read from the store, so that who has lost the role, or whose session was ended,
// is out at once. Everybody else is errNotFound.
func (s *Server) administrator(r *http.Request) (visitor, error) {
	v, err := s.visitor(r)
	if err != nil {
		return v, err
	}
	if v.account == nil {
		return v, errNotFound
	}
	s.Sessions.Forget(v.Handle)
	s.Users.Forget(v.Session.UserID)
	s.Users.Forget(v.account.ID)
	if v, err = s.visitor(r); err != nil {
		return v, err
	}
	if v.account == nil || !v.account.Has(identity.RoleAdmin) {
		return v, errNotFound
	}
	return v, nil
}

// mayAct tells whether an administrator has given a second factor lately.
func (s *Server) mayAct(v visitor) bool {
	return v.Session.MultiFactor() && s.Clock.Now().Sub(v.Session.Elevated) <= adminLife
}

// administered is for pages of administrators. Who has to give a second factor first is led
// there, and to a page of ours then: what a form was to do has to be asked for anew.
func (s *Server) administered(h signedInHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := s.administrator(r)
		if err != nil {
			return err
		}
		if !s.mayAct(v) {
			return s.adminStepUp(w, r, v)
		}
		if r.Method == http.MethodPost {
			if err := s.limitAdmin(r, v); err != nil {
				return err
			}
		}
		if err = h(w, r, v); isNotFound(err) {
			return errNotFound
		}
		return err
	}
}

// adminStepUp leads an administrator to where the second factor is given, or set up.
func (s *Server) adminStepUp(w http.ResponseWriter, r *http.Request, v visitor) error {
	page := pathBelow(r)
	if r.Method != http.MethodGet {
		// Each form of these pages posts to a path below the page that it is on.
		page = strings.TrimPrefix(path.Dir(r.URL.EscapedPath()), "/")
	}
	_, c, _, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if len(otherFactors(c, v.Session.Methods)) == 0 && len(c.Factors()) > 0 {
		// The passkey that they have signed in with is both factors: they sign in with it anew.
		return redirect(w, s.confirmURL(page))
	}
	return s.stepUp(w, s.Config.Origin()+s.path(page))
}

// limitAdmin counts what an administrator does: whoever has got hold of their browser is
// to be slowed down.
func (s *Server) limitAdmin(r *http.Request, v visitor) error {
	return count(r.Context(), s.limits.departures, "admin "+v.account.ID)
}

// by is who acts.
func (s *Server) by(r *http.Request, v visitor) admin.By {
	return admin.By{Account: *v.account, Address: clientAddress(r)}
}

// adminLayout is that of the pages of administrators.
func (s *Server) adminLayout(w http.ResponseWriter, r *http.Request, v visitor) templates.Layout {
	l := s.layout(w, r, v)
	l.Messages = s.takeFlash(w, r).Messages
	return l
}

// adminOverview serves GET /admin.
func (s *Server) adminOverview(w http.ResponseWriter, r *http.Request, v visitor) error {
	numbers, err := s.office.Overview(r.Context())
	if err != nil {
		return err
	}
	latest, err := s.Audit.List(r.Context(), audit.Query{Limit: 10})
	if err != nil {
		return err
	}
	page := templates.AdminPage{
		Layout: s.adminLayout(w, r, v), People: numbers.People, Admins: numbers.Admins, Sessions: numbers.Sessions,
		Clients: numbers.Clients + len(s.listedClients()), Waiting: numbers.MessagesWaiting, Failed: numbers.Failed,
		ProvidersDown: numbers.ProvidersDown, Entries: s.auditViews(latest),
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// auditViews are entries of the audit log as pages show them.
func (s *Server) auditViews(entries []audit.Entry) []templates.AuditEntry {
	views := make([]templates.AuditEntry, 0, len(entries))
	for _, e := range entries {
		view := templates.AuditEntry{
			Number: e.Number, At: e.At, Actor: e.Actor, ActorName: e.ActorName, Action: e.Action,
			Target: e.Target, TargetName: e.TargetName, Address: e.Address, State: e.Detail["state"],
			System: e.Actor == audit.ActorCommand || e.Actor == audit.ActorSystem,
		}
		for name, value := range e.Detail {
			if name != "state" {
				view.Details = append(view.Details, name+"="+value)
			}
		}
		slices.Sort(view.Details)
		if !view.System {
			view.ActorURL = s.path("admin/people/" + url.PathEscape(e.Actor))
		}
		if strings.HasPrefix(e.Action, "user.") && e.Target != "" && e.Action != admin.ActionInvite && e.Action != admin.ActionDelete {
			view.TargetURL = s.path("admin/people/" + url.PathEscape(e.Target))
		}
		views = append(views, view)
	}
	return views
}
