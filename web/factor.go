package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"login-server/attempt"
	"login-server/credential"
	"login-server/identity"
	"login-server/session"
)

// A sign-in to an account with a second factor is in two parts: what was proved first waits
// in a step (attempt.KeepStep), and nobody is signed in before the factor was given.

// pendingSignIn is what a step holds.
type pendingSignIn struct {
	Profile identity.Profile `json:"profile"`
	Methods []string         `json:"methods"`
	// Credential is whose factors have to be given, and Changed what it was at the time:
	// whoever changes a password throws out who has got halfway with the old one.
	Credential string `json:"credential"`
	Changed    int64  `json:"changed"`
	// User was signed in when it began; empty for nobody. Fresh and Says: see destination.
	User  string `json:"user,omitempty"`
	Fresh bool   `json:"fresh,omitempty"`
	Says  string `json:"says,omitempty"`
}

// ownerOf is the account that an identity belongs to, or ErrNotFound. A local identity whose
// account is not found, because the provider had another id when it was linked, has one without
// an id: what it is proved with goes on to ask for its second factor.
func (s *Server) ownerOf(ctx context.Context, p identity.Profile) (identity.Account, error) {
	a, err := s.Users.Owner(ctx, p.Provider, p.ID)
	if local, ok := s.Providers.Local(); ok && isNotFound(err) && local.ID == p.Provider {
		return identity.Account{Identities: map[string]identity.Identity{p.Provider: {ID: p.ID}}}, nil
	}
	return a, err
}

// factorDue tells whether a second factor has to be given before the proof lets anybody in:
// the person whose identity it is wants that, and has not just given one.
func (s *Server) factorDue(r *http.Request, v visitor, d destination, p proof) (bool, error) {
	if slices.Contains(p.methods, session.MethodMFA) {
		return false, nil
	}
	owner, err := s.ownerOf(r.Context(), p.profile)
	if isNotFound(err) {
		return false, nil // somebody new, or an identity to link
	}
	if err != nil {
		return false, err
	}
	if v.account != nil && v.account.ID == owner.ID && !d.fresh {
		return false, nil // nothing is gained by it
	}
	local, c, ok, err := s.desk.Credential(r.Context(), owner)
	if err != nil || !ok || !c.Due() || len(otherFactors(c, p.methods)) == 0 {
		return false, err
	}
	if local.Account.TrustFor == 0 || d.wantsFactor() || owner.ID == "" {
		return true, nil
	}
	trusted, err := s.trusted(r, owner, c)
	return !trusted, err
}

// hasFactor tells whether somebody could give a second factor.
func (s *Server) hasFactor(ctx context.Context, a identity.Account) (bool, error) {
	_, c, ok, err := s.desk.Credential(ctx, a)
	return ok && len(c.Factors()) > 0, err
}

// askFactor keeps what was proved and leads to where the second factor is given.
func (s *Server) askFactor(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) error {
	name, _, err := s.keepProof(w, r, v, d, p)
	if err != nil {
		return err
	}
	query := d.values()
	query.Set("step", name)
	return redirect(w, s.path("factor?"+query.Encode()))
}

// keepProof keeps what was proved in a step, and returns what names that, and whose factors
// have to be given.
func (s *Server) keepProof(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) (string, credential.Credential, error) {
	owner, err := s.ownerOf(r.Context(), p.profile)
	if err != nil {
		return "", credential.Credential{}, err
	}
	if owner.Disabled {
		return "", credential.Credential{}, identity.ErrDisabled
	}
	_, c, _, err := s.desk.Credential(r.Context(), owner)
	if err != nil {
		return "", credential.Credential{}, err
	}
	name, err := s.attempts.KeepStep(r.Context(), w, r, pendingSignIn{
		Profile: p.profile, Methods: p.methods, Credential: c.ID, Changed: c.Changed.UnixMilli(), User: v.personID(), Fresh: d.fresh, Says: d.says,
	})
	return name, c, err
}

// goOn lets somebody in who has given the second factor of a step, in the ways of methods.
// The step is used up: of any number of answers one goes on.
func (s *Server) goOn(w http.ResponseWriter, r *http.Request, d destination, name string, p pendingSignIn, methods ...string) error {
	v, proved, err := s.endStep(r, d, name, p, methods)
	if err != nil {
		return err
	}
	d.fresh, d.says = p.Fresh, p.Says
	return s.letIn(w, r, v, d, proved)
}

// endStep uses a step up whose second factor was given, and returns who has come with what
// was proved by now.
func (s *Server) endStep(r *http.Request, d destination, name string, p pendingSignIn, methods []string) (visitor, proof, error) {
	if err := s.attempts.EndStep(r.Context(), name); err != nil {
		return visitor{}, proof{}, err
	}
	v, err := s.visitor(r)
	if err != nil {
		return v, proof{}, err
	}
	// Whoever signs in, or out, meanwhile changes what the first factor was meant for.
	verdict, err := s.verdict(r.Context(), v, attempt.Attempt{User: p.User, Fresh: p.Fresh})
	if err != nil {
		return v, proof{}, err
	}
	if verdict != attempt.Admit {
		return v, proof{}, &Error{Status: http.StatusBadRequest, Code: "expired", Message: "Somebody else has signed in meanwhile.", Link: d.addTo(s.path("login"))}
	}
	return v, proof{p.Profile, append(slices.Clone(p.Methods), append(slices.Clone(methods), session.MethodMFA)...)}, nil
}

// stepUp leads to where who is signed in gives a second factor, on the way to a page of ours.
func (s *Server) stepUp(w http.ResponseWriter, target string) error {
	return redirect(w, s.path("factor?"+url.Values{"redirect_uri": {target}}.Encode()))
}

// errStep is the answer to a step that cannot be gone on with.
func (s *Server) errStep(d destination, cause error) error {
	switch {
	case errors.Is(cause, attempt.ErrBrowser):
		return &Error{Status: http.StatusBadRequest, Code: "other_browser", Message: "This sign-in was begun in another browser.", Link: d.addTo(s.path("login"))}
	case errors.Is(cause, attempt.ErrUnknown), errors.Is(cause, attempt.ErrUsed):
		return &Error{Status: http.StatusBadRequest, Code: "expired", Message: "This sign-in has expired or was used before.", Link: d.addTo(s.path("login"))}
	}
	return cause
}
