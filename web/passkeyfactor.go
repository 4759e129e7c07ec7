package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/session"
	"login-server/templates"
)

// mountPasskeyFactor is giving a passkey as second factor: in a step, which the query names, or of
// who is signed in. The page is that of /factor.
func (s *Server) mountPasskeyFactor(r chi.Router) {
	r.Post("/factor/passkey/begin", s.api(s.beginPasskeyFactor))
	r.Post("/factor/passkey", s.page(s.givePasskey))
}

// passkeyFactor is the form for a passkey as second factor.
func (s *Server) passkeyFactor(a factorAsk, trustDays int) *templates.PasskeyForm {
	query := a.d.values()
	if a.step != "" {
		query.Set("step", a.step)
	}
	begin := url.Values{}
	if a.step != "" {
		begin.Set("step", a.step)
	}
	return &templates.PasskeyForm{
		For: "factor", Begin: s.path("factor/passkey/begin?" + begin.Encode()), Action: s.path("factor/passkey?" + query.Encode()), TrustDays: trustDays,
	}
}

// beginPasskeyFactor serves POST /factor/passkey/begin. It writes nothing.
func (s *Server) beginPasskeyFactor(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if r.URL.Query().Get("step") == "" && v.account == nil {
		return errConfirm
	}
	a, err := s.factorAsked(w, r)
	if err != nil {
		return err
	}
	if a.local == nil || !s.passkeysAt(a.local) || !slices.Contains(a.ways, credential.FactorPasskey) {
		return errNoPasskeys
	}
	ceremony, err := s.passkeys.BeginFactor(a.c, a.bound())
	if err != nil {
		return err
	}
	return writeJSON(w, ceremony)
}

// givePasskey serves POST /factor/passkey: the answer of an authenticator.
func (s *Server) givePasskey(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	a, err := s.factorAsked(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	if a.local == nil || !s.passkeysAt(a.local) || !slices.Contains(a.ways, credential.FactorPasskey) {
		return errNoPasskeys
	}
	again := func(message string, args map[string]any) error {
		return s.redirectNoting(w, s.factorURL(a, credential.FactorPasskey, ""), flash{Field: beside(message, args).Field})
	}
	if wait, err := s.factorWait(r, a); err != nil {
		return err
	} else if wait > 0 {
		s.noteFactor(w, r, a, credential.FactorPasskey, session.ResultLimited)
		return again("factor_wait", map[string]any{"Seconds": seconds(wait)})
	}
	if a.step != "" {
		var counted pendingSignIn
		if err := s.attempts.TryStep(r.Context(), r, a.step, &counted); err != nil {
			return s.errStep(a.d, err)
		}
	}
	got, err := s.passkeys.FinishFactor(r.Context(), a.c.ID, fields["ceremony"], a.bound(), []byte(fields["answer"]))
	if message, ok := passkeyProblem(err); ok {
		s.Log.InfoContext(r.Context(), "passkey refused", "request_id", requestID(w), "provider", a.local.ID, "err", err)
		if errors.Is(err, credential.ErrCeremony) {
			return again(message, nil) // nothing was tried, it took too long
		}
		if errors.Is(err, credential.ErrCloned) {
			s.desk.Tell(r.Context(), a.account, "passkey_copied", map[string]any{"Factor": got.Passkey.Name})
		}
		s.noteFactor(w, r, a, credential.FactorPasskey, session.ResultFactor)
		if err := s.factorFailed(r, a); err != nil {
			return err
		}
		return again(message, nil)
	}
	if err != nil {
		return err
	}
	got.Verified = false // that there are two factors is said by factorGiven
	return s.factorGiven(w, r, a, fields["trust"] != "", passkeyMethods(got)...)
}
