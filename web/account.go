package web

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/identity"
	"login-server/session"
	"login-server/templates"
)

func (s *Server) mountAccount(r chi.Router) {
	r.Get("/account", s.page(s.account))
	r.Post("/account/name", s.page(s.signedIn(s.rename)))
	r.Post("/account/undo-merge", s.page(s.signedIn(s.undoMerge)))
	r.Get("/account/profile", s.page(s.signedIn(s.profile)))
	r.Post("/account/profile", s.page(s.signedIn(s.saveProfile)))
	r.Post("/account/profile/restore", s.page(s.signedIn(s.restoreClaim)))
	r.Post("/account/applications/disconnect", s.page(s.signedIn(s.disconnectApplication)))
	r.Get("/account/data", s.page(s.signedIn(s.download)))
}

// signedInHandler is a handler for people who are signed in.
type signedInHandler func(w http.ResponseWriter, r *http.Request, v visitor) error

// signedIn sends everybody else to the login page, also who has deleted the account
// a moment ago.
func (s *Server) signedIn(h signedInHandler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := s.visitor(r)
		if err != nil {
			return err
		}
		if v.account == nil {
			return redirect(w, s.path("login"))
		}
		err = h(w, r, v)
		if isNotFound(err) {
			return redirect(w, s.path("login"))
		}
		return err
	}
}

// account serves GET /account.
func (s *Server) account(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return redirect(w, s.path("login")) // which shows the messages that wait
	}
	left := s.takeFlash(w, r)
	if err := s.Sessions.Roll(r.Context(), w, v.Visit); err != nil {
		return err
	}
	a := *v.account
	page := templates.AccountPage{
		Layout: s.layout(w, r, v),
		ID:     a.ID, URI: a.URI, Name: a.Name, Created: a.Created, LastUsed: a.LastUsed,
		Identities: s.identities(a),
		Merged:     a.Merged,
		NameError:  left.Field,
		NameInput:  cmp.Or(left.Input, a.Name),
	}
	page.Messages = left.Messages
	_, page.Large = s.picturePaths(a)
	for _, p := range s.Providers.All() {
		if _, linked := a.Identities[p.ID]; !linked {
			page.Connectable = append(page.Connectable, s.provider(p.ID, ""))
		}
	}
	for _, x := range a.Absorbed {
		if until := x.At.Add(identity.UndoPeriod); s.Clock.Now().Before(until) {
			undo := templates.Merge{ID: x.ID, Name: x.Name, At: x.At, Until: until}
			for _, id := range x.Providers {
				undo.Providers = append(undo.Providers, s.providerName(id))
			}
			page.Undo = append(page.Undo, undo)
		}
	}
	applications, err := s.connected(r, v)
	if err != nil {
		return err
	}
	var logos []string
	for _, c := range applications {
		view := connectedView(c)
		page.Connected = append(page.Connected, view)
		logos = append(logos, view.Client.Logo)
	}
	s.renderFor(w, page.Nonce, page, "", logos...)
	return nil
}

// identities lists the identities of an account in the order of providers.json.
func (s *Server) identities(a identity.Account) []templates.Identity {
	var order []string
	for _, p := range s.Providers.All() {
		order = append(order, p.ID)
	}
	ids := a.Providers()
	slices.SortStableFunc(ids, func(x, y string) int {
		return cmp.Compare(place(order, x), place(order, y))
	})
	given := s.Users.Exposed(a)
	views := make([]templates.Identity, 0, len(ids))
	for _, id := range ids {
		own := a.Identities[id]
		view := templates.Identity{Provider: s.provider(id, ""), ID: own.ID, URI: own.URI, Name: own.Name, Username: own.Username}
		view.TokenGiven = slices.Contains(given, id)
		if len(ids) > 1 {
			view.DisconnectURL = s.path("disconnect/" + id)
		}
		views = append(views, view)
	}
	return views
}

// place is the index of id in order; behind all when it is not in it.
func place(order []string, id string) int {
	if i := slices.Index(order, id); i >= 0 {
		return i
	}
	return len(order)
}

// rename serves POST /account/name.
func (s *Server) rename(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	_, err = s.Users.Rename(r.Context(), v.account.ID, fields["name"])
	if id := nameMessage(err); id != "" {
		f := flash{
			Field: &templates.FieldError{Field: "name", Message: templates.Message{Kind: "error", ID: id}},
			Input: truncate(fields["name"], 1000),
		}
		return s.redirectNoting(w, s.path("account"), f)
	}
	if err != nil {
		return err
	}
	return s.redirectNoting(w, s.path("account"), note("success", "name_changed", nil))
}

// nameMessage is the message for a name that was refused; empty for other errors.
func nameMessage(err error) string {
	switch {
	case errors.Is(err, identity.ErrNameEmpty):
		return "name_empty"
	case errors.Is(err, identity.ErrNameLong):
		return "name_too_long"
	case errors.Is(err, identity.ErrNameControl):
		return "name_control"
	}
	return ""
}

// undoMerge serves POST /account/undo-merge.
func (s *Server) undoMerge(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	// An identity that is let go is out of reach of the second factor, or takes that along.
	if owes, err := s.owesFactor(r.Context(), v); err != nil {
		return err
	} else if owes {
		return s.stepUp(w, s.Config.Origin()+s.path("account"))
	}
	f := note("success", "merge_undone", nil)
	account, restored, err := s.Users.UndoMerge(r.Context(), v.account.ID, fields["merge"])
	if err == nil {
		err = s.endProvedBy(r, v, account, restored)
	}
	switch {
	case errors.Is(err, identity.ErrUndoExpired):
		f = note("error", "merge_undo_expired", nil)
	case errors.Is(err, identity.ErrUndoImpossible):
		f = note("error", "merge_undo_impossible", nil)
	case err != nil:
		return err
	}
	return s.redirectNoting(w, s.path("account"), f)
}

// endProvedBy ends the sessions of an account that were opened, while it was merged,
// with an identity of the one that was let go: whoever signed in has proved that one.
func (s *Server) endProvedBy(r *http.Request, v visitor, account, other identity.Account) error {
	ids, err := s.Users.IDs(r.Context(), account)
	if err != nil {
		return err
	}
	return s.Sessions.RemoveProvedBy(r.Context(), v.Handle, other.Providers(), ids...)
}

// personalData is what GET /account/data answers: all that is stored about somebody.
type personalData struct {
	Exported time.Time       `json:"exported"`
	Account  personalAccount `json:"account"`
	// Former are accounts that were merged into this one.
	Former   []personalAccount `json:"former"`
	Sessions []session.Info    `json:"sessions"`
	SignIns  []session.SignIn  `json:"signIns"`
	// Applications are those that the person has let in.
	Applications []personalApplication `json:"applications"`
	// Pictures are those that were uploaded, encoded in base64.
	Pictures []personalPicture `json:"pictures"`
	// Credential is what the person signs in with here; absent if that is nothing.
	Credential *personalCredential `json:"credential,omitempty"`
}

// personalCredential is what somebody signs in with here as its owner gets it: without hashes,
// keys and secrets, by which nobody learns anything about themselves.
type personalCredential struct {
	ID            string             `json:"id"`
	Emails        []credential.Email `json:"emails"`
	PasswordSet   time.Time          `json:"passwordSet,omitzero"`
	Passkeys      []personalPasskey  `json:"passkeys"`
	App           *personalApp       `json:"app,omitempty"`
	RecoveryCodes int                `json:"recoveryCodes"`
	Phone         *credential.Phone  `json:"phone,omitempty"`
	TwoStep       bool               `json:"twoStep"`
	Created       time.Time          `json:"created"`
	Changed       time.Time          `json:"changed"`
}

// personalPasskey is a passkey as its owner gets it.
type personalPasskey struct {
	Name   string    `json:"name"`
	Added  time.Time `json:"added"`
	Used   time.Time `json:"used,omitzero"`
	Cloned time.Time `json:"cloned,omitzero"`
}

// personalApp is an app for one-time codes as its owner gets it.
type personalApp struct {
	Added time.Time `json:"added"`
	Used  time.Time `json:"used,omitzero"`
}

func personalCredentialOf(c credential.Credential) *personalCredential {
	p := &personalCredential{
		ID: c.ID, Emails: append([]credential.Email{}, c.Emails...), Passkeys: []personalPasskey{}, RecoveryCodes: c.RecoveryLeft(),
		Phone: c.Phone, TwoStep: c.TwoStep, Created: c.Created, Changed: c.Changed,
	}
	if c.Password != nil {
		p.PasswordSet = c.Password.Set
	}
	for _, k := range c.Passkeys {
		p.Passkeys = append(p.Passkeys, personalPasskey{k.Name, k.Added, k.Used, k.Cloned})
	}
	if c.TOTP != nil {
		p.App = &personalApp{c.TOTP.Added, c.TOTP.Used}
	}
	return p
}

// personalPicture is a picture as its owner gets it.
type personalPicture struct {
	URL   string    `json:"url"`
	Made  time.Time `json:"made"`
	Type  string    `json:"type"`
	Large []byte    `json:"large"`
}

// personalAccount is an account as its owner gets it: what providers gave to act in the
// person's name is not shown, not even sealed, only that it is kept.
type personalAccount struct {
	identity.Account
	// UpstreamTokens are the providers of which something is kept, in place of what that is.
	UpstreamTokens []string `json:"upstreamTokens,omitempty"`
}

func personal(a identity.Account) personalAccount {
	p := personalAccount{Account: a, UpstreamTokens: slices.Sorted(maps.Keys(a.Upstream))}
	p.Upstream, p.Intent = nil, nil
	return p
}

// download serves GET /account/data.
func (s *Server) download(w http.ResponseWriter, r *http.Request, v visitor) error {
	ctx := r.Context()
	former, err := s.Users.Former(ctx, v.account.ID)
	if err != nil {
		return err
	}
	ids, err := s.Users.IDs(ctx, *v.account)
	if err != nil {
		return err
	}
	sessions, err := s.Sessions.Of(ctx, ids...)
	if err != nil {
		return err
	}
	history, err := s.Sessions.History(ctx, session.HistoryQuery{UserIDs: ids})
	if err != nil {
		return err
	}
	data := personalData{Exported: s.Clock.Now(), Account: personal(*v.account), Former: []personalAccount{}, Sessions: []session.Info{}, SignIns: history}
	applications, err := s.openid.Connected(ctx, ids...)
	if err != nil {
		return err
	}
	data.Applications = personalApplications(applications)
	pictures, err := s.pictures.Of(ctx, ids...)
	if err != nil {
		return err
	}
	data.Pictures = []personalPicture{}
	for _, p := range pictures {
		data.Pictures = append(data.Pictures, personalPicture{URL: s.pictureURL(p.ID), Made: p.Made, Type: p.Type, Large: p.Large})
	}
	for _, a := range former {
		data.Former = append(data.Former, personal(a))
	}
	for _, x := range sessions {
		data.Sessions = append(data.Sessions, x.Info())
	}
	switch _, c, ok, err := s.desk.Credential(ctx, *v.account); {
	case err != nil:
		return err
	case ok:
		data.Credential = personalCredentialOf(c)
	}
	w.Header().Set("Content-Disposition", `attachment; filename="account.json"`)
	return writeJSON(w, data)
}
