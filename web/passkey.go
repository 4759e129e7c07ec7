package web

import (
	"context"
	"errors"
	"math"
	"net/http"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// mountPasskeys are signing in and signing up with a passkey. A script asks for the question
// to the authenticator (…/begin, JSON), and posts its answer as a form: from there on it is a
// sign-in like any other. The passkeys that somebody has are in passkeys.go, those as a second
// factor in passkeyfactor.go.
func (s *Server) mountPasskeys(r chi.Router) {
	r.Post("/login/{provider}/passkey/begin", s.api(s.beginPasskey))
	r.Post("/login/{provider}/passkey", s.page(s.passkeySignIn))
	r.Get("/signup/passkey", s.page(s.passkeySignUpPage))
	r.Post("/signup/passkey", s.page(s.passkeySignUpName))
	r.Post("/signup/passkey/begin", s.api(s.beginPasskeySignUp))
	r.Post("/signup/passkey/finish", s.page(s.passkeySignUp))
	s.mountPasskeyFactor(r)
	s.mountPasskeyList(r)
}

// newPasskeys returns what verifies passkeys; nil where browsers offer none.
func (s *Server) newPasskeys() (*credential.Passkeys, error) {
	passkeys, err := s.Credentials.Passkeys(s.Config.Title, s.Config.BaseURL)
	if errors.Is(err, credential.ErrNoPasskeys) {
		if local, ok := s.Providers.Local(); ok && local.Account.Passkeys {
			s.Log.Warn("no passkeys: browsers offer them over https, or on localhost, and under a name", "base_url", s.Config.BaseURL.String())
		}
		return nil, nil
	}
	return passkeys, err
}

// passkeysAt tells whether people can sign in with passkeys at a provider.
func (s *Server) passkeysAt(p *providers.Provider) bool {
	return s.passkeys != nil && p.Account != nil && p.Account.Passkeys
}

var errNoPasskeys = &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There are no passkeys here."}

// passkeyForm is the button for passkeys on the page of a provider; nil if there
// are none.
func (s *Server) passkeyForm(p *providers.Provider, d destination) *templates.PasskeyForm {
	if !s.passkeysAt(p) {
		return nil
	}
	return &templates.PasskeyForm{
		For: "sign-in", Begin: s.path("login/" + p.ID + "/passkey/begin"), Action: d.addTo(s.path("login/" + p.ID + "/passkey")), Autofill: true,
	}
}

// visitBond ties a ceremony to the browser: to the handle in its cookie, which nobody else can
// make a cookie of.
func visitBond(v visitor) string { return "visit " + v.Handle }

// signInBond ties a ceremony to the sign-in of the session: it is void after the next one, and
// after signing out.
func signInBond(v visitor) string { return "sign-in " + v.Handle + " " + v.Session.SignIn }

// beginPasskey serves POST /login/{provider}/passkey/begin. It writes nothing.
func (s *Server) beginPasskey(w http.ResponseWriter, r *http.Request) error {
	p, ok := s.Providers.Get(pathValue(r, "provider"))
	if !ok || !s.passkeysAt(p) {
		return errNoPasskeys
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.Visit, err = s.Sessions.Welcome(r.Context(), w, v.Visit); err != nil {
		return err
	}
	ceremony, err := s.passkeys.BeginSignIn(visitBond(v))
	if err != nil {
		return err
	}
	return writeJSON(w, ceremony)
}

// passkeySignIn serves POST /login/{provider}/passkey: the answer of an authenticator.
func (s *Server) passkeySignIn(w http.ResponseWriter, r *http.Request) error {
	p, v, d, err := s.wanted(r)
	if err != nil {
		return err
	}
	if !s.passkeysAt(p) {
		return errNoPasskeys
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	page := d.addTo(s.path("login/" + p.ID))
	if err := s.limits.passkey(r.Context(), clientAddress(r)); err != nil {
		if limited, ok := errors.AsType[*Error](err); ok {
			limited.Link = page
		}
		return err
	}
	// Who has presented many that were refused, in this network, waits.
	wrong, err := s.passkeyWait(r)
	if err != nil {
		return err
	}
	if wrong != nil {
		return s.redirectNoting(w, page, flash{Field: wrong})
	}
	a, err := s.passkeys.FinishSignIn(r.Context(), fields["ceremony"], visitBond(v), []byte(fields["answer"]))
	if message, ok := passkeyProblem(err); ok {
		s.metrics.login(p.ID, providers.ErrRefused)
		s.passkeyRefused(w, r, p, d, a, err)
		if err := s.passkeyFailed(r, a, err); err != nil {
			return err
		}
		return s.redirectNoting(w, page, beside(message, nil))
	}
	s.metrics.login(p.ID, err)
	if err != nil {
		return err
	}
	if err := s.tried(r, "passkey\x00"+a.Credential.ID, nil); err != nil {
		return err
	}
	shown, err := s.desk.Shown(r.Context(), a.Credential, "", passkeyMethods(a)...)
	if err != nil {
		return err
	}
	// Only now: somebody may have signed in, or out, meanwhile.
	if v, err = s.visitor(r); err != nil {
		return err
	}
	err = s.admit(w, r, v, d, proof{shown.Profile, shown.Methods})
	if errors.Is(err, identity.ErrDisabled) {
		return s.redirectNoting(w, page, beside("account_disabled", nil))
	}
	return err
}

// passkeyMethods are the values of amr for a passkey (RFC 8176, 2). Its key is in software if it
// can be copied to other devices, in hardware otherwise: so the authenticator says, which nobody
// vouches for. With a touch comes user presence. An authenticator that has verified the person,
// by whichever of PIN and biometrics, is two factors: what they have, and what they know or are.
func passkeyMethods(a credential.Assertion) []string {
	methods := []string{"hwk", "user"}
	if a.Synced {
		methods[0] = "swk"
	}
	if a.Verified {
		methods = append(methods, session.MethodMFA)
	}
	return methods
}

// passkeyProblem finds what to say of an answer that was not taken; false if there is nothing
// to be said, or no error.
func passkeyProblem(err error) (message string, ok bool) {
	switch {
	case errors.Is(err, credential.ErrCeremony):
		return "passkey_expired", true
	case errors.Is(err, credential.ErrPasskey):
		return "passkey_refused", true
	case errors.Is(err, credential.ErrCloned):
		return "passkey_copied", true
	case errors.Is(err, credential.ErrTaken):
		return "passkey_taken", true
	case errors.Is(err, credential.ErrMany):
		return "passkey_many", true
	}
	return "", false
}

// passkeyRefused logs why a passkey was refused, and tells the owner in the history. Of one that
// seems to be copied they hear by mail as well.
func (s *Server) passkeyRefused(w http.ResponseWriter, r *http.Request, p *providers.Provider, d destination, a credential.Assertion, cause error) {
	ctx := r.Context()
	s.Log.InfoContext(ctx, "passkey refused", "request_id", requestID(w), "provider", p.ID, "err", cause)
	if a.Credential.ID == "" {
		return
	}
	owner, err := s.Users.Owner(ctx, p.ID, a.Credential.ID)
	if err != nil {
		return
	}
	reason := "passkey"
	if errors.Is(cause, credential.ErrCloned) {
		reason = "passkey_copied"
		s.desk.Tell(ctx, owner, "passkey_copied", map[string]any{"Factor": a.Passkey.Name})
	}
	tried := proof{identity.Profile{Provider: p.ID, ID: a.Credential.ID}, passkeyMethods(a)[:1]}
	s.noteRefusal(w, r, owner, d, tried, session.ResultRefused, reason)
}

// passkeyWait is what to say to who has to wait before a passkey is looked at; nil: nothing.
func (s *Server) passkeyWait(r *http.Request) (*templates.FieldError, error) {
	need, err := s.backoff.Ask(r.Context(), "", session.Network(clientAddress(r)), false)
	if err != nil || need.Wait <= 0 {
		return nil, err
	}
	return fieldError("", "attempts_wait", map[string]any{"Minutes": int(math.Ceil(need.Wait.Minutes()))}), nil
}

// passkeyFailed counts a passkey that was refused: for the network, and against its owner if it
// has one. What only took too long is none.
func (s *Server) passkeyFailed(r *http.Request, a credential.Assertion, cause error) error {
	if errors.Is(cause, credential.ErrCeremony) {
		return nil
	}
	return s.tried(r, "passkey\x00"+a.Credential.ID, providers.ErrRefused)
}

// passkey counts an answer of an authenticator by address, or refuses it with the time to
// wait. Nothing can be guessed, but a good one is several writes.
func (l limits) passkey(ctx context.Context, address string) error {
	return count(ctx, l.departures, "passkey "+session.Network(address))
}
