package web

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/events"
	"login-server/identity"
	"login-server/templates"
)

// proofLife is how long somebody may think about a merge.
const proofLife = 15 * time.Minute

func (s *Server) mountMerge(r chi.Router) {
	r.Get("/merge", s.page(s.mergePage))
	r.Post("/merge", s.page(s.merge))
}

// mergeProof says that whoever is signed in in a session has just proved an
// identity that belongs to another account. It is sealed, so that it needs no
// document, and worth nothing in another session, for other accounts, later, or
// after the next sign-in, which the merge itself is: it works once.
type mergeProof struct {
	Session  string   `json:"s"` // events.Binding
	User     string   `json:"u"`
	Other    string   `json:"o"`
	Provider string   `json:"p"`
	ID       string   `json:"i"`
	Methods  []string `json:"m,omitempty"`
	Redirect string   `json:"r,omitempty"`
	Expires  int64    `json:"e"`
}

// askMerge sends the browser to the page that shows both accounts.
func (s *Server) askMerge(w http.ResponseWriter, v visitor, d destination, p proof, owner identity.Account) error {
	proof, err := s.sealer.Seal(mergeProof{
		Session: events.Binding(v.Session), User: v.account.ID, Other: owner.ID, Provider: p.profile.Provider, ID: p.profile.ID, Methods: p.methods,
		Redirect: d.redirect, Expires: s.Clock.Now().Add(proofLife).Unix(),
	})
	if err != nil {
		return err
	}
	return redirect(w, s.path("merge?"+url.Values{"proof": {proof}}.Encode()))
}

// errAnswered tells that a request was answered when it turned out that there is
// nothing left to do.
var errAnswered = errors.New("answered")

func unlessAnswered(err error) error {
	if errors.Is(err, errAnswered) {
		return nil
	}
	return err
}

// proven opens a proof and checks that it still holds: same session, same account,
// same owner of the identity. When it does not it answers and returns errAnswered.
func (s *Server) proven(w http.ResponseWriter, r *http.Request, sealed string) (v visitor, p mergeProof, other identity.Account, err error) {
	if v, err = s.visitor(r); err != nil {
		return v, p, other, err
	}
	if v.account == nil {
		if err = redirect(w, s.path("login")); err == nil {
			err = errAnswered
		}
		return v, p, other, err
	}
	valid := s.sealer.Open(sealed, &p) == nil && p.Session == events.Binding(v.Session) && p.User == v.account.ID && s.Clock.Now().Unix() <= p.Expires
	if valid {
		other, err = s.Users.Owner(r.Context(), p.Provider, p.ID)
		if err != nil && !isNotFound(err) {
			return v, p, other, err
		}
		valid = err == nil && other.ID == p.Other && !other.Disabled
	}
	if !valid {
		if err = s.redirectNoting(w, s.path("account"), note("error", "merge_expired", nil)); err == nil {
			err = errAnswered
		}
	}
	return v, p, other, err
}

// mergePage serves GET /merge: both accounts, and what will happen.
func (s *Server) mergePage(w http.ResponseWriter, r *http.Request) error {
	sealed := r.URL.Query().Get("proof")
	v, _, other, err := s.proven(w, r, sealed)
	if err != nil {
		return unlessAnswered(err)
	}
	page := templates.MergePage{
		Layout:  s.layout(w, r, v),
		Current: s.side(*v.account),
		Other:   s.side(other),
		Action:  s.path("merge"),
		Proof:   sealed,
		Cancel:  s.path("account"),
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

func (s *Server) side(a identity.Account) templates.AccountSide {
	return templates.AccountSide{Name: a.Name, URI: a.URI, Created: a.Created, LastUsed: a.LastUsed, Identities: s.identities(a)}
}

// merge serves POST /merge: the person has said yes.
func (s *Server) merge(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	v, p, other, err := s.proven(w, r, fields["proof"])
	if err != nil {
		return unlessAnswered(err)
	}
	var account identity.Account
	err = s.Users.StepDown(r.Context(), other.ID, identity.RoleAdmin, func() (err error) { // its roles are not given on
		account, err = s.Users.Merge(r.Context(), v.account.ID, other.ID)
		return err
	})
	var shared *identity.SharedError
	switch {
	case errors.Is(err, identity.ErrLastInRole):
		return s.redirectNoting(w, s.path("account"), note("error", "merge_last_admin", nil))
	case errors.As(err, &shared):
		return s.redirectNoting(w, s.path("account"), note("error", "merge_conflict", map[string]any{"Providers": s.providerNames(shared.Providers)}))
	case errors.Is(err, identity.ErrBusy), isNotFound(err):
		return s.redirectNoting(w, s.path("account"), note("error", "merge_expired", nil))
	case err != nil:
		return err
	}
	d := destination{redirect: p.Redirect}
	made := proof{identity.Profile{Provider: p.Provider, ID: p.ID}, p.Methods}
	if _, err := s.bindMore(w, r, v, account, d, made); err != nil {
		return err
	}
	return s.arrive(w, d, note("success", "merged", nil))
}
