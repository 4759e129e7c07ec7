package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"login-server/accounts"
	"login-server/attempt"
	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
	"login-server/session"
)

// signInFields are those of POST /api/v1/session.
type signInFields struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	// Link: who is signed in keeps their account, and the identity is linked to it. Otherwise
	// who signs in takes the place of whoever was signed in before.
	Link bool `json:"link"`
	// Challenge is needed after some failures only.
	Challenge challengeAnswer `json:"challenge"`
}

// apiSignIn serves POST /api/v1/session.
func (s *Server) apiSignIn(w http.ResponseWriter, r *http.Request, fields signInFields) error {
	p, ok := s.Providers.Local()
	if !ok {
		return errNoLocal
	}
	if err := s.limits.here(r.Context(), clientAddress(r)); err != nil {
		return err
	}
	challenged, err := s.challengedCall(r, "login", fields.Challenge)
	if err != nil {
		return err
	}
	proved, err := s.desk.CheckPassword(r.Context(), accounts.Attempt{
		Email: fields.Email, Password: fields.Password, Network: session.Network(clientAddress(r)), Challenged: challenged,
		Known: func(id string) bool { return s.Sessions.Browser(r).Known(id) },
	})
	s.metrics.login(p.ID, refusal(err))
	if refused, ok := errors.AsType[*accounts.RefusedError](err); ok {
		s.noteWrongPassword(w, r, p, refused.Account)
	}
	if err != nil {
		return s.accountsError(err)
	}
	// Only now: somebody may have signed in, or out, while the password was checked.
	return s.letCallIn(w, r, fields.Link, proof{proved.Profile, proved.Methods})
}

// refusal is an error of package accounts as the metrics know it.
func refusal(err error) error {
	if errors.Is(err, accounts.ErrRefused) || errors.As(err, new(*accounts.NeedError)) {
		return providers.ErrRefused
	}
	return err
}

// noteWrongPassword adds to somebody's history that another password was typed than theirs.
func (s *Server) noteWrongPassword(w http.ResponseWriter, r *http.Request, p *providers.Provider, id string) {
	account, err := s.Users.Get(r.Context(), id)
	if err != nil {
		return // deleted a moment ago
	}
	s.noteRefusal(w, r, account, s.callFrom(r), proof{identity.Profile{Provider: p.ID}, []string{"pwd"}}, session.ResultRefused, "password")
}

// challengedCall spends the challenge that came with a call, if one did.
func (s *Server) challengedCall(r *http.Request, purpose string, answer challengeAnswer) (bool, error) {
	if answer.ID == "" {
		return false, nil
	}
	err := s.spendChallenge(r.Context(), purpose, answer)
	return err == nil, err
}

// callFrom is where a call comes from, as a destination that leads nowhere.
func (s *Server) callFrom(r *http.Request) destination {
	var d destination
	for _, hint := range []string{s.outerReferrer(r), r.Header.Get("Origin") + "/"} {
		if app, ok := s.Config.ApplicationFor(hint); ok {
			d.application, d.mfa = app.Name, app.RequireMFA
			break
		}
	}
	return d
}

// letCallIn is admit for a call.
func (s *Server) letCallIn(w http.ResponseWriter, r *http.Request, link bool, p proof) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	d := s.callFrom(r)
	d.fresh = v.account != nil && !link
	due, err := s.factorDue(r, v, d, p)
	switch {
	case err != nil:
		return s.refuseCall(w, r, d, p, err)
	case due:
		return s.askCallFactor(w, r, v, d, p)
	}
	return s.enterCall(w, r, v, d, p)
}

// enterCall is letCallIn once nothing is missing.
func (s *Server) enterCall(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) error {
	began, _, err := s.enter(w, r, v, d, p)
	if err != nil {
		return s.refuseCall(w, r, d, p, err)
	}
	account, err := s.Users.Get(r.Context(), began.UserID)
	if isNotFound(err) {
		return errUnauthorized // it was deleted a moment ago
	}
	if err != nil {
		return err
	}
	return s.tellSession(w, r, account, began, d.lacksFactor(began))
}

// refuseCall says why somebody who has proved an identity is not let in.
func (s *Server) refuseCall(w http.ResponseWriter, r *http.Request, d destination, p proof, err error) error {
	conflict := func(code, message string) error {
		return &Error{Status: http.StatusConflict, Code: code, Message: message}
	}
	switch {
	case errors.As(err, new(*identity.OwnedError)):
		return conflict("other_account", "This belongs to another account. Accounts are merged on the pages of this server.")
	case errors.As(err, new(*identity.SharedError)):
		return conflict("already_linked", "The account has another identity of this kind already.")
	case errors.Is(err, identity.ErrDisabled):
		s.refuseDisabled(w, r, d, p)
		return &Error{Status: http.StatusForbidden, Code: "account_disabled", Message: "The account is shut."}
	}
	return err
}

// factorNeeded is the answer when a second factor has to be given first. Nobody is signed in.
type factorNeeded struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	// Step names the sign-in, in this browser only; Factors are the ways, the best first.
	Step      string   `json:"step"`
	Factors   []string `json:"factors"`
	ExpiresIn int      `json:"expiresIn"`
	// Page is where the factor can be given as well, a passkey only there.
	Page string `json:"page"`
}

// askCallFactor keeps what was proved, and asks for the second factor.
func (s *Server) askCallFactor(w http.ResponseWriter, r *http.Request, v visitor, d destination, p proof) error {
	step, c, err := s.keepProof(w, r, v, d, p)
	if err != nil {
		return s.refuseCall(w, r, d, p, err)
	}
	return answerJSON(w, http.StatusUnauthorized, factorNeeded{
		Status: http.StatusUnauthorized, Code: "factor_needed", Message: "A second factor has to be given.",
		Step: step, Factors: otherFactors(c, p.methods), ExpiresIn: int(attempt.StepLife / time.Second),
		Page: s.Config.Origin() + s.path("factor?"+url.Values{"step": {step}}.Encode()),
	})
}

// factorFields are those of POST /api/v1/session/factor.
type factorFields struct {
	// Step is that of the sign-in; empty: who is signed in gives one more factor.
	Step string `json:"step"`
	// Factor is one of those that were asked for, Code what somebody has typed.
	Factor string `json:"factor"`
	Code   string `json:"code"`
	// Send has a code sent to the phone. What comes back is Sent of the next calls.
	Send bool   `json:"send"`
	Sent string `json:"sent"`
	// Trust spares this browser the second factor for some time.
	Trust bool `json:"trust"`
}

// apiFactor serves POST /api/v1/session/factor.
func (s *Server) apiFactor(w http.ResponseWriter, r *http.Request, fields factorFields) error {
	a := factorAsk{d: s.callFrom(r), step: fields.Step}
	var err error
	if a.v, err = s.visitor(r); err != nil {
		return err
	}
	switch {
	case a.step != "":
		err = s.stepAsked(r, &a)
	case a.v.account == nil:
		err = errUnauthorized
	default:
		err = s.signedInAsked(r, &a)
	}
	if err != nil {
		return err
	}
	way := fields.Factor
	if !slices.Contains(a.ways, way) || way == credential.FactorPasskey {
		return &Error{Status: http.StatusUnprocessableEntity, Code: "factor_unknown", Message: "This factor cannot be given here.", Field: "factor"}
	}
	if fields.Send {
		return s.sendCallCode(w, r, a, fields)
	}
	wait, err := s.tryFactor(w, r, a, way, fields.Sent, fields.Code)
	switch {
	case wait > 0:
		return &Error{Status: http.StatusTooManyRequests, Code: "wait", Message: "There were too many wrong codes.", RetryAfter: seconds(wait)}
	case errors.Is(err, credential.ErrCode), errors.Is(err, credential.ErrTries), isNotFound(err):
		return s.accountsError(err)
	case err != nil:
		return err
	}
	if err := s.factorPassed(r, a); err != nil {
		return err
	}
	return s.goOnCalled(w, r, a, fields)
}

// goOnCalled signs in after a second factor was given, or says so in the session at hand.
func (s *Server) goOnCalled(w http.ResponseWriter, r *http.Request, a factorAsk, fields factorFields) error {
	if a.step == "" {
		began, err := s.Sessions.Elevate(r.Context(), w, a.v.Visit, methodsOf[fields.Factor]...)
		if isNotFound(err) {
			return errUnauthorized // signed out meanwhile
		}
		if err != nil {
			return err
		}
		return s.tellSession(w, r, a.account, began, false)
	}
	if fields.Trust && a.local.Account.TrustFor > 0 && a.account.ID != "" {
		if err := s.trustBrowser(w, r, a.account, a.local.Account.TrustFor); err != nil {
			return err
		}
	}
	v, proved, err := s.endStep(r, a.d, a.step, a.pending, methodsOf[fields.Factor])
	if err != nil {
		return s.errStep(a.d, err)
	}
	a.d.fresh = a.pending.Fresh
	return s.enterCall(w, r, v, a.d, proved)
}

// sendCallCode has a code sent to the phone of a factor.
func (s *Server) sendCallCode(w http.ResponseWriter, r *http.Request, a factorAsk, fields factorFields) error {
	if fields.Factor != credential.FactorSMS {
		return &Error{Status: http.StatusUnprocessableEntity, Code: "factor_unknown", Message: "Codes for this factor are not sent.", Field: "factor"}
	}
	sent, err := s.sendFactorCode(r, a, fields.Sent)
	if err != nil {
		return s.accountsError(err)
	}
	return answerJSON(w, http.StatusAccepted, map[string]string{"sent": sent})
}
