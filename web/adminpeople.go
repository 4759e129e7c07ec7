package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/accounts"
	"login-server/admin"
	"login-server/credential"
	"login-server/identity"
	"login-server/session"
	"login-server/templates"
)

func (s *Server) mountAdminPeople(r chi.Router) {
	r.Get("/admin/people", s.page(s.administered(s.adminPeople)))
	r.Get("/admin/people/{id}", s.page(s.administered(s.adminPerson)))
	r.Get("/admin/people/{id}/ask/{action}", s.page(s.administered(s.adminAsk)))
	r.Post("/admin/people/{id}/{action}", s.page(s.administered(s.adminAct)))
	r.Get("/admin/invitation", s.page(s.administered(s.adminInvitation)))
	r.Post("/admin/invitation/send", s.page(s.administered(s.adminInvite)))
}

// personAction is what administrators do to somebody.
type personAction struct {
	do func(o *admin.Office, r *http.Request, by admin.By, id string, fields map[string]string) error
	// done is what the administrator is told then.
	done string
	// asks: it cannot be undone, and a page asks once more.
	asks bool
	// typed: the name has to be typed there.
	typed bool
	// mails: it sends one, which is limited more.
	mails bool
}

// personActions by the last part of their path.
var personActions = map[string]personAction{
	"disable": {done: "admin_done_disable", do: func(o *admin.Office, r *http.Request, by admin.By, id string, _ map[string]string) error {
		return o.Disable(r.Context(), by, id)
	}},
	"enable": {done: "admin_done_enable", do: func(o *admin.Office, r *http.Request, by admin.By, id string, _ map[string]string) error {
		return o.Enable(r.Context(), by, id)
	}},
	"sign-out": {done: "admin_done_sign_out", mails: true, do: func(o *admin.Office, r *http.Request, by admin.By, id string, _ map[string]string) error {
		return o.SignOut(r.Context(), by, id)
	}},
	"end-session": {done: "admin_done_end_session", do: func(o *admin.Office, r *http.Request, by admin.By, id string, fields map[string]string) error {
		return o.EndSession(r.Context(), by, id, fields["handle"])
	}},
	"reset-factors": {done: "admin_done_reset_factors", asks: true, mails: true, do: func(o *admin.Office, r *http.Request, by admin.By, id string, _ map[string]string) error {
		return o.ResetFactors(r.Context(), by, id)
	}},
	"send-reset": {done: "admin_done_send_reset", mails: true, do: func(o *admin.Office, r *http.Request, by admin.By, id string, _ map[string]string) error {
		return o.SendReset(r.Context(), by, id)
	}},
	"revoke-admin": {done: "admin_done_revoke_admin", asks: true, do: func(o *admin.Office, r *http.Request, by admin.By, id string, _ map[string]string) error {
		return o.RevokeAdmin(r.Context(), by, id)
	}},
	"delete": {done: "admin_done_delete", asks: true, typed: true, do: func(o *admin.Office, r *http.Request, by admin.By, id string, fields map[string]string) error {
		return o.Delete(r.Context(), by, id, fields["name"])
	}},
}

// actOn does what a form or a call asks for.
func (s *Server) actOn(r *http.Request, v visitor, id, action string, fields map[string]string) error {
	a, ok := personActions[action]
	if !ok {
		return errNotFound
	}
	if a.mails {
		if err := s.limitAdminMail(r, v); err != nil {
			return err
		}
	}
	return a.do(s.office, r, s.by(r, v), id, fields)
}

// limitAdminMail counts mails that an administrator has sent to people.
func (s *Server) limitAdminMail(r *http.Request, v visitor) error {
	return count(r.Context(), s.limits.registrations, "admin mail "+v.account.ID)
}

// adminProblems are the words, and the codes of calls, for what administrators cannot do.
var adminProblems = []struct {
	err                 error
	code, message, text string
}{
	{admin.ErrLast, "last_admin", "admin_error_last_admin", "Nobody else who can sign in would be an administrator."},
	{admin.ErrName, "name_mismatch", "delete_name_mismatch", "This is not the name of the account."},
	{admin.ErrNoFactors, "no_factors", "admin_error_no_factors", "There are no factors to reset."},
	{admin.ErrNoAddress, "no_address", "admin_error_no_address", "There is no address that it could be sent to."},
	{accounts.ErrOff, "not_offered", "admin_error_not_offered", "Accounts with a password are not offered here."},
	{accounts.ErrClosed, "registration_closed", "admin_error_registration_closed", "Registration is closed."},
	{accounts.ErrNoMail, "no_mail", "admin_error_no_mail", "This server sends no mail."},
	{credential.ErrTaken, "taken", "admin_error_taken", "This address has an account already."},
}

// adminProblem is the text for an error that an administrator is told of; empty for others.
func adminProblem(err error) string {
	for _, p := range adminProblems {
		if errors.Is(err, p.err) {
			return p.message
		}
	}
	return ""
}

// personURL is the page of somebody.
func (s *Server) personURL(id string) string { return s.path("admin/people/" + url.PathEscape(id)) }

// adminPeople serves GET /admin/people.
func (s *Server) adminPeople(w http.ResponseWriter, r *http.Request, v visitor) error {
	query, after := r.URL.Query().Get("q"), r.URL.Query().Get("after")
	found, next, err := s.office.People(r.Context(), query, after, adminPage)
	if err != nil {
		return err
	}
	page := templates.AdminPeoplePage{Layout: s.adminLayout(w, r, v), Query: truncate(query, 200)}
	for _, a := range found {
		page.People = append(page.People, s.adminPersonLine(a))
	}
	if after != "" {
		page.First = s.path("admin/people?" + url.Values{"q": {query}}.Encode())
	}
	if next != "" {
		page.Next = s.path("admin/people?" + url.Values{"q": {query}, "after": {next}}.Encode())
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

func (s *Server) adminPersonLine(a identity.Account) templates.AdminPersonLine {
	line := templates.AdminPersonLine{
		ID: a.ID, URL: s.personURL(a.ID), Name: a.Name, Created: a.Created, LastUsed: a.LastUsed,
		Disabled: a.Disabled, Admin: a.Has(identity.RoleAdmin),
	}
	for _, id := range a.Providers() {
		line.Providers = append(line.Providers, s.providerName(id))
	}
	return line
}

// adminPerson serves GET /admin/people/{id}.
func (s *Server) adminPerson(w http.ResponseWriter, r *http.Request, v visitor) error {
	p, err := s.office.Person(r.Context(), pathValue(r, "id"))
	if err != nil {
		return err
	}
	a := p.Account
	page := templates.AdminPersonPage{
		Layout: s.adminLayout(w, r, v), Person: s.adminPersonLine(a), URI: a.URI, Self: a.ID == v.account.ID,
		Identities: s.identities(a), Page: s.personURL(a.ID), Former: a.Merged,
		Resettable: admin.Resettable(p.Credential), Factors: p.Credential.Factors(), TwoStep: p.Credential.TwoStep,
		CanReset: p.Credential.Primary() != "" && s.Notify.CanMail(), Password: p.Credential.Password != nil,
		RecoveryLeft: p.Credential.RecoveryLeft(),
	}
	for _, e := range p.Credential.Emails {
		page.Emails = append(page.Emails, templates.AdminEmail{Address: e.Address, Primary: e.Primary, Verified: e.Verified})
	}
	for _, k := range p.Credential.Passkeys {
		page.Passkeys = append(page.Passkeys, templates.AdminPasskey{Name: k.Name, Added: k.Added, Used: k.Used})
	}
	if p.Credential.TOTP != nil {
		page.TOTP = &templates.AppState{Added: p.Credential.TOTP.Added, Used: p.Credential.TOTP.Used}
	}
	if p.Credential.Phone != nil {
		page.Phone = &templates.PhoneState{Number: maskNumber(p.Credential.Phone.Number), Verified: p.Credential.Phone.Verified, SignIn: p.Credential.Phone.SignIn}
	}
	for _, x := range p.Sessions {
		page.Sessions = append(page.Sessions, templates.Session{
			Handle: x.Handle, Current: x.Handle == v.Handle, Application: x.Application, Browser: s.browser(page.Lang, x.UserAgent),
			Address: x.Address, Place: s.place(page.Lang, x.Country, x.City), Provider: s.providerName(x.Provider),
			Created: x.Created, LastUsed: x.LastSeen, Expires: x.Expires,
		})
	}
	for _, c := range p.Connections {
		page.Applications = append(page.Applications, templates.AdminConnection{Name: cmp.Or(c.Client.Name, c.Client.ClientID), Since: c.Since, Used: c.Used})
	}
	before := r.URL.Query().Get("before")
	if !historyID(before) {
		before = ""
	}
	history, err := s.Sessions.History(r.Context(), session.HistoryQuery{UserIDs: p.IDs, Before: before, Limit: historyPage + 1})
	if err != nil {
		return err
	}
	if before != "" {
		page.Newest = page.Page + "#history"
	}
	if len(history) > historyPage {
		history = history[:historyPage]
		page.Older = page.Page + "?" + url.Values{"before": {history[historyPage-1].ID}}.Encode() + "#history"
	}
	page.History = s.historyViews(page.Lang, history)
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// adminAsk serves GET /admin/people/{id}/ask/{action}: whether somebody is sure.
func (s *Server) adminAsk(w http.ResponseWriter, r *http.Request, v visitor) error {
	action := pathValue(r, "action")
	a, ok := personActions[action]
	if !ok || !a.asks {
		return errNotFound
	}
	p, err := s.office.Person(r.Context(), pathValue(r, "id"))
	if err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.AdminConfirmPage{
		Layout: s.layout(w, r, v), Section: "people", What: strings.ReplaceAll(action, "-", "_"), Name: p.Account.Name, ID: p.Account.ID, Typed: a.typed,
		Action: s.personURL(p.Account.ID) + "/" + action, Cancel: s.personURL(p.Account.ID), Error: left.Field,
	}
	page.Messages = left.Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// adminAct serves POST /admin/people/{id}/{action}.
func (s *Server) adminAct(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	id, action := pathValue(r, "id"), pathValue(r, "action")
	err = s.actOn(r, v, id, action, fields)
	problem := adminProblem(err)
	switch {
	case errors.Is(err, admin.ErrName):
		return s.redirectNoting(w, s.personURL(id)+"/ask/"+action, fieldFlash("name", problem, nil))
	case problem != "":
		return s.redirectNoting(w, s.personURL(id), note("error", problem, nil))
	case err != nil:
		return err
	case action == "delete":
		return s.redirectNoting(w, s.path("admin/people"), note("success", personActions[action].done, nil))
	}
	return s.redirectNoting(w, s.personURL(id), note("success", personActions[action].done, nil))
}

// adminInvitation serves GET /admin/invitation.
func (s *Server) adminInvitation(w http.ResponseWriter, r *http.Request, v visitor) error {
	left := s.takeFlash(w, r)
	page := templates.AdminInvitePage{Layout: s.layout(w, r, v), Error: left.Field, Email: left.Input, Language: s.language(r, v.account.ChosenLanguage())}
	page.Messages = left.Messages
	page.Languages = s.Templates.Languages()
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// adminInvite serves POST /admin/invitation/send.
func (s *Server) adminInvite(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	if err := s.limitAdminMail(r, v); err != nil {
		return err
	}
	link, err := s.invite(r, v, fields["email"], fields["name"], fields["language"])
	again := func(field, message string) error {
		f := fieldFlash(field, message, nil)
		f.Input = truncate(fields["email"], 300)
		return s.redirectNoting(w, s.path("admin/invitation"), f)
	}
	if invalid, ok := errors.AsType[*accounts.InvalidError](err); ok {
		return again("email", cmp.Or(map[string]string{accounts.FieldName: "admin_error_name"}[invalid.Field], "email_invalid"))
	}
	if problem := adminProblem(err); problem != "" {
		return again("email", problem)
	}
	if err != nil {
		return err
	}
	if link != "" {
		// Shown this once: it is in no cookie and no address.
		page := templates.AdminInvitePage{Layout: s.layout(w, r, v), Link: link, Email: fields["email"]}
		page.Path = "admin/invitation"
		s.render(w, http.StatusOK, page.Nonce, page)
		return nil
	}
	return s.redirectNoting(w, s.path("admin/invitation"), note("success", "admin_done_invite", map[string]any{"Address": truncate(fields["email"], 300)}))
}

// invite asks somebody to sign up. The link comes back where no mail is sent.
func (s *Server) invite(r *http.Request, v visitor, email, name, language string) (link string, err error) {
	if name != "" {
		if name, err = identity.CheckName(name); err != nil {
			return "", &accounts.InvalidError{Field: accounts.FieldName, Reason: "name"}
		}
	}
	return s.office.Invite(r.Context(), s.by(r, v), accounts.Invitation{Email: email, Name: name, Language: s.Templates.Language(language, "")})
}
