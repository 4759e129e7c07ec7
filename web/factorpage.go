package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/attempt"
	"login-server/credential"
	"login-server/identity"
	"login-server/notify"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

// smsCodeLife is how long a code by SMS is good for.
const smsCodeLife = 5 * time.Minute

func (s *Server) mountFactor(r chi.Router) {
	r.Get("/factor", s.page(s.factorPage))
	r.Post("/factor", s.page(s.giveFactor))
}

// factorAsk is whose second factor is asked for, and on which way: in the middle of a
// sign-in, which has a step, or of somebody who is signed in already (step-up).
type factorAsk struct {
	d destination
	v visitor
	// step names the step, and pending is what it holds; empty when stepping up.
	step    string
	pending pendingSignIn
	// account is the person's, c what they prove themselves with at local.
	account identity.Account
	local   *providers.Provider
	c       credential.Credential
	// ways are those in which the factor can be given, the best first.
	ways []string
}

// methodsOf are the values of amr for what a factor is given with (RFC 8176). A recovery code
// is a one-time password as well: it is on a list that only the person has, and good once. No
// registered value is closer, and clients know no others. A passkey has values of its own.
var methodsOf = map[string][]string{
	credential.FactorTOTP:     {"otp"},
	credential.FactorSMS:      {"sms"},
	credential.FactorRecovery: {"otp"},
}

// wrongFactor is what to say of a code of each way that is not right.
var wrongFactor = map[string]string{
	credential.FactorTOTP:     "factor_wrong_totp",
	credential.FactorSMS:      "factor_wrong_sms",
	credential.FactorRecovery: "factor_wrong_recovery",
}

// otherFactors are the ways that are not what has been proved already: a code on the same
// phone, or a touch of the same key, is no second factor after the first.
func otherFactors(c credential.Credential, methods []string) []string {
	ways := slices.DeleteFunc(c.Factors(), func(way string) bool {
		switch way {
		case credential.FactorSMS:
			return slices.Contains(methods, "sms")
		case credential.FactorPasskey:
			return slices.Contains(methods, "hwk") || slices.Contains(methods, "swk")
		}
		return false
	})
	if slices.Equal(ways, []string{credential.FactorRecovery}) {
		return nil // there is nothing that they could stand in for
	}
	return ways
}

// factorAsked reads what a request for /factor is about. What cannot be gone on with is
// answered, and errAnswered returned.
func (s *Server) factorAsked(w http.ResponseWriter, r *http.Request) (a factorAsk, err error) {
	if a.d, err = s.destinationOf(r); err != nil {
		return a, err
	}
	if a.v, err = s.visitor(r); err != nil {
		return a, err
	}
	if a.step = r.URL.Query().Get("step"); a.step != "" {
		err = s.stepAsked(r, &a)
		return a, err
	}
	if a.v.account == nil {
		if err = redirect(w, a.d.addTo(s.path("login"))); err == nil {
			err = errAnswered
		}
		return a, err
	}
	err = s.signedInAsked(r, &a)
	return a, err
}

// signedInAsked is for a step-up: of whom the factor is asked is who is signed in.
func (s *Server) signedInAsked(r *http.Request, a *factorAsk) (err error) {
	a.account = *a.v.account
	if a.local, a.c, _, err = s.desk.Credential(r.Context(), a.account); err != nil {
		return err
	}
	a.ways = otherFactors(a.c, a.v.Session.Methods)
	return nil
}

// stepAsked reads a step without using it up. It is void when the person has changed what
// they sign in with since.
func (s *Server) stepAsked(r *http.Request, a *factorAsk) error {
	ctx := r.Context()
	if err := s.attempts.PeekStep(ctx, r, a.step, &a.pending); err != nil {
		return s.errStep(a.d, err)
	}
	var err error
	a.account, err = s.ownerOf(ctx, a.pending.Profile)
	if err == nil && a.account.Disabled {
		return s.errStep(a.d, attempt.ErrUnknown)
	}
	if err == nil {
		a.local, a.c, _, err = s.desk.Credential(ctx, a.account)
	}
	switch {
	case isNotFound(err):
		return s.errStep(a.d, attempt.ErrUnknown)
	case err != nil:
		return err
	case a.c.ID != a.pending.Credential || a.c.Changed.UnixMilli() != a.pending.Changed:
		return s.errStep(a.d, attempt.ErrUnknown)
	}
	a.ways = otherFactors(a.c, a.pending.Methods)
	return nil
}

// way is the one that a request is about.
func (a factorAsk) way(r *http.Request) string {
	if way := r.URL.Query().Get("way"); slices.Contains(a.ways, way) {
		return way
	}
	if len(a.ways) == 0 {
		return ""
	}
	return a.ways[0]
}

// factorURL is the page for a way, and for the code that was sent if that is one by SMS.
func (s *Server) factorURL(a factorAsk, way, sent string) string {
	query := a.d.values()
	for name, value := range map[string]string{"step": a.step, "way": way, "sent": sent} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return s.path("factor?" + query.Encode())
}

// bound is what a code by SMS is bound to: the step, or the sign-in of the session. Both are
// this browser's alone.
func (a factorAsk) bound() string {
	if a.step != "" {
		return "step " + a.step
	}
	return signInBond(a.v)
}

// factorPage serves GET /factor.
func (s *Server) factorPage(w http.ResponseWriter, r *http.Request) error {
	a, err := s.factorAsked(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	if a.step == "" && a.v.Session.MultiFactor() && s.isFresh(a.v.Session) {
		return redirect(w, s.afterFactor(a))
	}
	left := s.takeFlash(w, r)
	way := a.way(r)
	page := templates.FactorPage{
		Layout: s.layout(w, r, a.v), Application: a.d.application, StepUp: a.step == "", Way: way, Error: left.Field,
	}
	page.Messages = left.Messages
	sent := ""
	if way == credential.FactorSMS {
		page.Number = maskNumber(a.c.Phone.Number)
		if sent = r.URL.Query().Get("sent"); sent != "" {
			_, err := s.sentCode(r.Context(), a, sent)
			if err != nil && !isNotFound(err) {
				return err
			}
			page.Sent = err == nil
		}
	}
	page.Path = strings.TrimPrefix(s.factorURL(a, way, sent), s.base())
	page.Action = s.factorURL(a, way, sent)
	for _, other := range a.ways {
		if other != way {
			page.Other = append(page.Other, templates.FactorWay{Name: other, URL: s.factorURL(a, other, "")})
		}
	}
	if way == "" {
		page.Setup = s.factorsOffered(a)
	} else if a.step != "" {
		page.TrustDays = int(a.local.Account.TrustFor / (24 * time.Hour))
	}
	if way == credential.FactorPasskey {
		page.Passkey = s.passkeyFactor(a, page.TrustDays)
		page.Passkey.Error = left.Field
	}
	page.Cancel = s.path("security")
	if a.step != "" {
		page.Cancel = a.d.addTo(s.path("login"))
	}
	if a.d.request == nil {
		s.render(w, http.StatusOK, page.Nonce, page)
		return nil
	}
	s.speak(r, &page.Layout, a.d.request.UILocales)
	client := clientOf(a.d.request)
	page.Client = &client
	page.Decline, page.Request, page.Person = s.path(strings.TrimPrefix(pathContinue, "/")), a.d.request.Interaction, a.v.personID()
	s.renderFor(w, page.Nonce, page, a.d.request.RedirectURI, client.Logo)
	return nil
}

// factorsOffered are the factors that somebody who has none can set up, on the way to where
// one is wanted.
func (s *Server) factorsOffered(a factorAsk) []templates.FactorWay {
	if a.local == nil {
		return nil
	}
	var offered []templates.FactorWay
	add := func(name, page string) {
		offered = append(offered, templates.FactorWay{Name: name, URL: a.d.addTo(s.path(page))})
	}
	if a.local.Account.Passkeys {
		add(credential.FactorPasskey, "security/passkeys")
	}
	add(credential.FactorTOTP, "security/app")
	if a.local.Account.Phone && s.Notify.CanSMS() {
		add(credential.FactorSMS, "security/phone")
	}
	return offered
}

// afterFactor is where somebody goes who has stepped up.
func (s *Server) afterFactor(a factorAsk) string {
	if a.d.redirect != "" {
		return a.d.redirect
	}
	return s.path("security")
}

// giveFactor serves POST /factor: a code, or the wish to be sent one.
func (s *Server) giveFactor(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	a, err := s.factorAsked(w, r)
	if err != nil {
		return unlessAnswered(err)
	}
	way := a.way(r)
	sent := r.URL.Query().Get("sent")
	again := func(message string, args map[string]any) error {
		return s.redirectNoting(w, s.factorURL(a, way, sent), fieldFlash("code", message, args))
	}
	switch {
	case way == "", way == credential.FactorPasskey:
		return redirect(w, s.factorURL(a, way, "")) // no form leads here
	case way == credential.FactorSMS && fields["do"] == "send":
		id, err := s.sendFactorCode(r, a, sent)
		if message, args, ok := smsProblem(err); ok {
			return again(message, args)
		}
		if err != nil {
			return err
		}
		return s.redirectNoting(w, s.factorURL(a, way, id), flash{})
	case strings.TrimSpace(fields["code"]) == "":
		return again("factor_code_missing", nil)
	}
	wait, err := s.tryFactor(w, r, a, way, sent, fields["code"])
	switch {
	case wait > 0:
		return again("factor_wait", map[string]any{"Seconds": seconds(wait)})
	case errors.Is(err, credential.ErrTries):
		return again("factor_tries", nil)
	case errors.Is(err, credential.ErrCode):
		return again(wrongFactor[way], nil)
	case isNotFound(err):
		return again("factor_code_expired", nil)
	case err != nil:
		return err
	}
	return s.factorGiven(w, r, a, fields["trust"] != "", methodsOf[way]...)
}

// tryFactor takes a code of a way, unless it has to wait; what is wrong is counted, and in the
// person's history. Errors are those of checkFactor and errStep.
func (s *Server) tryFactor(w http.ResponseWriter, r *http.Request, a factorAsk, way, sent, code string) (wait time.Duration, err error) {
	if wait, err = s.factorWait(r, a); err != nil {
		return 0, err
	}
	if wait > 0 {
		s.noteFactor(w, r, a, way, session.ResultLimited)
		return wait, nil
	}
	if a.step != "" {
		var counted pendingSignIn
		if err := s.attempts.TryStep(r.Context(), r, a.step, &counted); err != nil {
			return 0, s.errStep(a.d, err)
		}
	}
	err = s.checkFactor(r.Context(), a, way, sent, code)
	if errors.Is(err, credential.ErrCode) || errors.Is(err, credential.ErrTries) {
		s.noteFactor(w, r, a, way, session.ResultFactor)
		if err := s.factorFailed(r, a); err != nil {
			return 0, err
		}
	}
	return 0, err
}

// checkFactor takes a code of a way. ErrCode, ErrTries, or ErrNotFound for one by SMS whose
// time is over.
func (s *Server) checkFactor(ctx context.Context, a factorAsk, way, sent, code string) error {
	switch way {
	case credential.FactorTOTP:
		_, err := s.Credentials.TryTOTP(ctx, a.c.ID, code)
		return err
	case credential.FactorRecovery:
		c, err := s.Credentials.TryRecovery(ctx, a.c.ID, code)
		if err == nil {
			s.desk.Tell(ctx, a.account, "recovery_used", map[string]any{"Left": c.RecoveryLeft()})
		}
		return err
	}
	if _, err := s.sentCode(ctx, a, sent); err != nil {
		return err
	}
	p, err := s.Credentials.TryCode(ctx, credential.PendingLogin, sent, code)
	if err != nil {
		return err
	}
	return s.Credentials.End(ctx, p)
}

// factorGiven goes on after a second factor was given, in the ways of methods: with the
// sign-in, or to where who is signed in was asked for it. It is the one end of all ways.
func (s *Server) factorGiven(w http.ResponseWriter, r *http.Request, a factorAsk, trust bool, methods ...string) error {
	if err := s.factorPassed(r, a); err != nil {
		return err
	}
	if a.step != "" {
		if trust && a.local.Account.TrustFor > 0 && a.account.ID != "" {
			if err := s.trustBrowser(w, r, a.account, a.local.Account.TrustFor); err != nil {
				return err
			}
		}
		err := s.goOn(w, r, a.d, a.step, a.pending, methods...)
		if errors.Is(err, attempt.ErrUnknown) {
			return s.errStep(a.d, err)
		}
		return err
	}
	_, err := s.Sessions.Elevate(r.Context(), w, a.v.Visit, methods...)
	if isNotFound(err) {
		return redirect(w, a.d.addTo(s.path("login"))) // signed out meanwhile
	}
	if err != nil {
		return err
	}
	return redirect(w, s.afterFactor(a))
}

// sentCode is a code by SMS that waits for this browser, or ErrNotFound.
func (s *Server) sentCode(ctx context.Context, a factorAsk, id string) (credential.Pending, error) {
	p, err := s.Credentials.Pending(ctx, credential.PendingLogin, id)
	if err != nil {
		return p, err
	}
	var bound string
	if err := s.Credentials.Payload(p, &bound); err != nil {
		return p, err
	}
	if bound != a.bound() || p.Credential != a.c.ID || a.c.Phone == nil || p.Number != a.c.Phone.Number {
		return p, credential.ErrNotFound
	}
	return p, nil
}

// sendFactorCode sends a code to the person's phone, another one if sent waits already, and
// returns the id of what waits for it.
func (s *Server) sendFactorCode(r *http.Request, a factorAsk, sent string) (string, error) {
	ctx := r.Context()
	lang := s.Templates.Language(a.account.Language(), r.Header.Get("Accept-Language"))
	var issued credential.Issued
	_, err := s.sentCode(ctx, a, sent)
	switch {
	case err == nil:
		issued, err = s.Credentials.Resend(ctx, credential.PendingLogin, sent)
	case isNotFound(err):
		issued, err = s.Credentials.Begin(ctx, credential.Pending{
			Kind: credential.PendingLogin, Credential: a.c.ID, Account: a.account.ID, Number: a.c.Phone.Number, Language: lang,
		}, a.bound(), smsCodeLife)
	}
	if err != nil {
		return "", err
	}
	return issued.ID, s.sendCode(r, issued, lang, "factor", false)
}

// sendCode queues an SMS with the code of what waits for one. As a decoy it is never sent, and
// costs the same.
func (s *Server) sendCode(r *http.Request, issued credential.Issued, lang, kind string, decoy bool) error {
	text := s.Templates.SMS(templates.SMS{Lang: lang, Title: s.Config.Title, Host: s.Config.BaseURL.Hostname(), Code: issued.Code})
	return s.Notify.SMS(r.Context(), notify.SMS{
		To: issued.Number, Text: text, Kind: kind, Network: session.Network(clientAddress(r)), NotAfter: issued.Expires, Decoy: decoy,
		Proven: kind == "factor", // who is asked for a second one has given the first
	})
}

// smsProblem finds what to say beside the field of why no code was sent; false if there is
// nothing that a person could do about it, or no error.
func smsProblem(err error) (message string, args map[string]any, ok bool) {
	var limited *notify.ErrLimited
	var soon *credential.TooSoonError
	switch {
	case errors.As(err, &limited):
		return "sms_limited", map[string]any{"Minutes": int((limited.RetryAfter + time.Minute - 1) / time.Minute)}, true
	case errors.As(err, &soon):
		return "sms_soon", map[string]any{"Seconds": seconds(soon.RetryAfter)}, true
	case errors.Is(err, credential.ErrResent):
		return "sms_resent", nil, true
	case errors.Is(err, notify.ErrAddress):
		return "sms_unreachable", nil, true
	case errors.Is(err, notify.ErrNoSender):
		return "sms_unavailable", nil, true
	}
	return "", nil, false
}

// seconds rounds up, so that whoever waits for as long has waited long enough.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// maskNumber is as much of a number as tells its owner which it is.
func maskNumber(number string) string {
	if len(number) < 6 {
		return number
	}
	return number[:3] + " ••• " + number[len(number)-2:]
}

// fieldFlash is a message beside a field of the page that it leads to.
func fieldFlash(field, message string, args map[string]any) flash {
	return flash{Field: &templates.FieldError{Field: field, Message: templates.Message{Kind: "error", ID: message, Args: args}}}
}

// backoffName is, for the back-off, whose factor is guessed.
func (a factorAsk) backoffName() string { return "factor " + a.c.ID }

// factorWait is how long the next code has to wait: for what was wrong before, by this person
// or from this network.
func (s *Server) factorWait(r *http.Request, a factorAsk) (time.Duration, error) {
	need, err := s.backoff.Ask(r.Context(), a.backoffName(), session.Network(clientAddress(r)), s.Sessions.Browser(r).Known(a.account.ID))
	return need.Wait, err
}

func (s *Server) factorFailed(r *http.Request, a factorAsk) error {
	_, err := s.backoff.Failed(r.Context(), a.backoffName(), session.Network(clientAddress(r)))
	return err
}

func (s *Server) factorPassed(r *http.Request, a factorAsk) error {
	return s.backoff.Passed(r.Context(), a.backoffName(), session.Network(clientAddress(r)))
}

// noteFactor writes into the person's history that a second factor was not taken.
func (s *Server) noteFactor(w http.ResponseWriter, r *http.Request, a factorAsk, way, result string) {
	if a.account.ID == "" {
		return // see ownerOf: there is none whose history it would be
	}
	p := proof{a.pending.Profile, append(slices.Clone(a.pending.Methods), methodsOf[way]...)}
	if a.step == "" {
		p.profile.Provider = a.v.Session.Provider
		p.methods = methodsOf[way]
	}
	s.noteRefusal(w, r, a.account, a.d, p, result, way)
}
