package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"login-server/accounts"
	"login-server/credential"
	"login-server/notify"
	"login-server/oidc"
	"login-server/providers"
	"login-server/session"
	"login-server/token"
)

// Signing up, resets and passwords, for applications with forms of their own.

// accountsError is an error of packages accounts and credential as calls answer it.
func (s *Server) accountsError(err error) error {
	e := func(status int, code, message string) *Error {
		return &Error{Status: status, Code: code, Message: message}
	}
	var (
		need    *accounts.NeedError
		invalid *accounts.InvalidError
		soon    *credential.TooSoonError
		limited *notify.ErrLimited
	)
	switch {
	case errors.As(err, &need) && need.Wait > 0:
		waiting := e(http.StatusTooManyRequests, "wait", "There were too many failures.")
		waiting.RetryAfter = seconds(need.Wait)
		return waiting
	case errors.As(err, &need):
		return e(http.StatusForbidden, "challenge_needed", "A challenge has to be answered: GET /challenge?for=login.")
	case errors.As(err, &invalid):
		wrong := e(http.StatusUnprocessableEntity, invalid.Reason, "The field cannot be taken.")
		wrong.Field = invalid.Field
		return wrong
	case errors.As(err, &soon):
		waiting := e(http.StatusTooManyRequests, "too_soon", "One was sent a moment ago.")
		waiting.RetryAfter = seconds(soon.RetryAfter)
		return waiting
	case errors.As(err, &limited):
		waiting := e(http.StatusTooManyRequests, "sms_limited", "Too many messages were sent.")
		waiting.RetryAfter = seconds(limited.RetryAfter)
		return waiting
	case errors.Is(err, credential.ErrResent):
		return e(http.StatusTooManyRequests, "resent", "It was sent as often as it can be. Please start over.")
	case errors.Is(err, notify.ErrAddress):
		return e(http.StatusUnprocessableEntity, "sms_unreachable", "No message can be sent there.")
	case errors.Is(err, notify.ErrNoSender):
		return e(http.StatusServiceUnavailable, "no_sender", "This server cannot send such messages.")
	case errors.Is(err, accounts.ErrRefused):
		return e(http.StatusUnauthorized, "refused", "The address or the password is wrong.")
	case errors.Is(err, accounts.ErrBusy):
		busy := e(http.StatusServiceUnavailable, "busy", "Too many passwords are being checked.")
		busy.RetryAfter = 5
		return busy
	case errors.Is(err, accounts.ErrOff):
		return errNoLocal
	case errors.Is(err, accounts.ErrClosed):
		return e(http.StatusForbidden, "closed", "Nobody can sign up here, or only who was invited.")
	case errors.Is(err, accounts.ErrBrowser):
		return e(http.StatusForbidden, "other_browser", "It began elsewhere: the password that was chosen then is needed as well.")
	case errors.Is(err, credential.ErrTries):
		return e(http.StatusForbidden, "tries", "There were too many wrong codes. Please start over.")
	case errors.Is(err, credential.ErrCode):
		return e(http.StatusForbidden, "code_wrong", "The code is wrong.")
	case errors.Is(err, credential.ErrTaken):
		return e(http.StatusConflict, "taken", "The address has an account by now.")
	case isNotFound(err):
		return e(http.StatusNotFound, "unknown", "It is unknown, has expired, or was used before.")
	}
	return err
}

// pendingName is what an application keeps of something that waits for a mail: it names it,
// and shows that it is where it began.
func pendingName(i credential.Issued) string { return i.Kind + "." + i.ID + "." + i.Browser }

// answerOf takes a pendingName apart.
func answerOf(pending, code string) (kind string, a accounts.Answer, err error) {
	parts := strings.Split(pending, ".")
	if len(pending) > 512 || len(parts) != 3 {
		return "", a, credential.ErrNotFound
	}
	return parts[0], accounts.Answer{ID: parts[1], Browser: parts[2], Code: code}, nil
}

// keyOf is the key of a link: what stands behind key= in it, or the key itself.
func keyOf(link string) string {
	if u, err := url.Parse(link); err == nil && u.Query().Has("key") {
		return u.Query().Get("key")
	}
	return link
}

// waitingAnswer is told of what waits for a mail, whoever the address belongs to.
type waitingAnswer struct {
	Pending   string `json:"pending"`
	ExpiresIn int    `json:"expiresIn"`
}

// tellWaiting answers that a mail was queued.
func (s *Server) tellWaiting(w http.ResponseWriter, i credential.Issued) error {
	return answerJSON(w, http.StatusAccepted, waitingAnswer{pendingName(i), int(i.Expires.Sub(s.Clock.Now()) / time.Second)})
}

// answerJSON answers with a value and a status.
func answerJSON(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonType, noStore
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}

// passCall is what everybody has to pass who has a mail sent, or asks for an address: a limit
// by network, and a challenge.
func (s *Server) passCall(r *http.Request, purpose string, answer challengeAnswer) error {
	if _, ok := s.Providers.Local(); !ok {
		return errNoLocal
	}
	if err := s.limitMails(r, ""); err != nil {
		return err
	}
	return s.spendChallenge(r.Context(), purpose, answer)
}

// signUpFields are those of POST /api/v1/accounts.
type signUpFields struct {
	Email     string          `json:"email"`
	Password  string          `json:"password"`
	Name      string          `json:"name"`
	Challenge challengeAnswer `json:"challenge"`
}

// apiSignUp serves POST /api/v1/accounts.
func (s *Server) apiSignUp(w http.ResponseWriter, r *http.Request, fields signUpFields) error {
	if err := s.passCall(r, "signup", fields.Challenge); err != nil {
		return err
	}
	issued, err := s.desk.SignUp(r.Context(), accounts.SignUp{
		Email: fields.Email, Password: fields.Password, Name: fields.Name, Language: s.language(r, ""),
	})
	if err != nil {
		return s.accountsError(err)
	}
	return s.tellWaiting(w, issued)
}

// verifyFields are those of POST /api/v1/accounts/verify: Pending with Code, or Link, which
// elsewhere than it began needs the Password of the sign-up as well.
type verifyFields struct {
	Pending  string `json:"pending"`
	Code     string `json:"code"`
	Link     string `json:"link"`
	Password string `json:"password"`
}

// apiVerify serves POST /api/v1/accounts/verify. Whoever is new is signed in then.
func (s *Server) apiVerify(w http.ResponseWriter, r *http.Request, fields verifyFields) error {
	if _, ok := s.Providers.Local(); !ok {
		return errNoLocal
	}
	if err := s.limits.code(r); err != nil {
		return err
	}
	var proved accounts.Proof
	kind, answer, err := answerOf(fields.Pending, fields.Code)
	switch {
	case fields.Link != "":
		proved, err = s.desk.ConfirmSignUpByLink(r.Context(), keyOf(fields.Link), answer.Browser, fields.Password)
	case err == nil && kind == credential.PendingSignUp:
		proved, err = s.desk.ConfirmSignUp(r.Context(), answer)
	default:
		err = cmp.Or(err, error(credential.ErrNotFound))
	}
	if err != nil {
		return s.accountsError(err)
	}
	return s.letCallIn(w, r, false, proof{proved.Profile, proved.Methods})
}

// resendFields are those of POST /api/v1/accounts/resend.
type resendFields struct {
	Pending string `json:"pending"`
}

// apiResend serves POST /api/v1/accounts/resend: the mail of a sign-up, or of a reset, once more.
func (s *Server) apiResend(w http.ResponseWriter, r *http.Request, fields resendFields) error {
	kind, answer, err := answerOf(fields.Pending, "")
	var waits credential.Pending
	switch {
	case err != nil:
	case kind == credential.PendingSignUp, kind == credential.PendingReset:
		waits, err = s.desk.Resend(r.Context(), kind, answer.ID, answer.Browser)
	default:
		err = credential.ErrNotFound
	}
	if err != nil {
		return s.accountsError(err)
	}
	return s.tellWaiting(w, credential.Issued{Pending: waits, Browser: answer.Browser})
}

// resetFields are those of POST /api/v1/accounts/reset.
type resetFields struct {
	Email     string          `json:"email"`
	Challenge challengeAnswer `json:"challenge"`
}

// apiReset serves POST /api/v1/accounts/reset.
func (s *Server) apiReset(w http.ResponseWriter, r *http.Request, fields resetFields) error {
	if err := s.passCall(r, "reset", fields.Challenge); err != nil {
		return err
	}
	issued, err := s.desk.AskReset(r.Context(), accounts.Ask{Email: fields.Email, Language: s.language(r, "")})
	if err != nil {
		return s.accountsError(err)
	}
	return s.tellWaiting(w, issued)
}

// completeFields are those of POST /api/v1/accounts/reset/complete: Pending with Code, or Link.
type completeFields struct {
	Pending  string `json:"pending"`
	Code     string `json:"code"`
	Link     string `json:"link"`
	Password string `json:"password"`
}

// apiCompleteReset serves POST /api/v1/accounts/reset/complete. The person is signed in then,
// unless a second factor is due.
func (s *Server) apiCompleteReset(w http.ResponseWriter, r *http.Request, fields completeFields) error {
	if _, ok := s.Providers.Local(); !ok {
		return errNoLocal
	}
	if err := s.limits.code(r); err != nil {
		return err
	}
	key := keyOf(fields.Link)
	if fields.Link == "" {
		kind, answer, err := answerOf(fields.Pending, fields.Code)
		if err == nil && kind != credential.PendingReset {
			err = credential.ErrNotFound
		}
		if err == nil {
			key, err = s.desk.ResetByCode(r.Context(), answer)
		}
		if err != nil {
			return s.accountsError(err)
		}
	}
	proved, err := s.desk.Reset(r.Context(), key, fields.Password)
	if invalid, ok := errors.AsType[*accounts.InvalidError](err); ok && fields.Link == "" {
		// The code is spent, the password is not taken: with the key another one can be chosen.
		return answerJSON(w, http.StatusUnprocessableEntity, struct {
			Status  int    `json:"status"`
			Code    string `json:"code"`
			Message string `json:"message"`
			Field   string `json:"field"`
			Link    string `json:"link"`
		}{http.StatusUnprocessableEntity, invalid.Reason, "The field cannot be taken.", invalid.Field, key})
	}
	if err != nil {
		return s.accountsError(err)
	}
	return s.letCallIn(w, r, false, proof{proved.Profile, proved.Methods})
}

// passwordFields are those of POST /api/v1/accounts/password.
type passwordFields struct {
	Current   string          `json:"current"`
	New       string          `json:"new"`
	Challenge challengeAnswer `json:"challenge"`
}

// apiPassword serves POST /api/v1/accounts/password, for who is signed in. Their other sessions
// end.
func (s *Server) apiPassword(w http.ResponseWriter, r *http.Request, fields passwordFields) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	_, c, ok, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if !ok {
		return &Error{Status: http.StatusConflict, Code: "email_first", Message: "There is no address to sign in with yet."}
	}
	// The password that they have shows who they are; without one a recent sign-in does. The second
	// factor is given to POST /api/v1/session/factor before.
	owes, err := s.owesFactor(r.Context(), v)
	if err != nil {
		return err
	}
	if owes || c.Password == nil && !s.isFresh(v.Session) {
		return errSignInAgain
	}
	challenged, err := s.challengedCall(r, "login", fields.Challenge)
	if err != nil {
		return err
	}
	err = s.desk.ChangePassword(r.Context(), accounts.Change{
		Credential: c.ID, Account: *v.account, Session: v.Handle, Current: fields.Current, Password: fields.New,
		Network: session.Network(clientAddress(r)), Challenged: challenged, Language: s.language(r, ""),
	})
	if err != nil {
		return s.accountsError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// existsFields are those of POST /api/v1/accounts/exists.
type existsFields struct {
	Email     string          `json:"email"`
	Challenge challengeAnswer `json:"challenge"`
}

// apiExists serves POST /api/v1/accounts/exists, where an operator has allowed it.
func (s *Server) apiExists(w http.ResponseWriter, r *http.Request, fields existsFields) error {
	p, ok := s.Providers.Local()
	if !ok || !p.Account.RevealAccounts {
		return errNotFound
	}
	if err := s.passCall(r, "exists", fields.Challenge); err != nil {
		return err
	}
	address, err := accounts.ParseAddress(fields.Email)
	if err != nil {
		return s.accountsError(err)
	}
	_, err = s.Credentials.ByEmail(r.Context(), address)
	if err != nil && !isNotFound(err) {
		return err
	}
	return writeJSON(w, map[string]bool{"exists": err == nil})
}

// policyAnswer is what an application has to know to draw its forms.
type policyAnswer struct {
	// Registration is open, invitation or closed; Domains are those that new addresses have to
	// be in, if there are any.
	Registration string   `json:"registration"`
	Domains      []string `json:"domains,omitempty"`
	// SignIn are the ways to sign in: password, passkey, phone. Only the first has calls here.
	SignIn   []string       `json:"signIn"`
	Password passwordPolicy `json:"password"`
	// Challenges are the calls that need one each time, and those that may.
	Challenges challengePolicy `json:"challenges"`
	// Exists: POST /api/v1/accounts/exists is allowed.
	Exists     bool             `json:"exists"`
	Encryption encryptionPolicy `json:"encryption"`
}

type passwordPolicy struct {
	MinLength int `json:"minLength"` // in characters
}

type challengePolicy struct {
	Always    []string `json:"always"`
	Sometimes []string `json:"sometimes"`
	URL       string   `json:"url"`
}

type encryptionPolicy struct {
	Alg     string `json:"alg"`
	Enc     string `json:"enc"`
	Nonce   string `json:"nonce"`
	JWKSURI string `json:"jwksUri"`
}

// apiPolicy serves GET /api/v1/accounts/policy.
func (s *Server) apiPolicy(w http.ResponseWriter, r *http.Request) error {
	p, ok := s.Providers.Local()
	if !ok {
		return errNoLocal
	}
	at := func(path string) string { return s.Config.Origin() + s.path(strings.TrimPrefix(path, "/")) }
	policy := policyAnswer{
		Registration: p.Account.Registration, Domains: p.Account.Domains, SignIn: []string{},
		Password:   passwordPolicy{accounts.MinPassword},
		Challenges: challengePolicy{Always: []string{"signup", "reset"}, Sometimes: []string{"login"}, URL: at("challenge")},
		Exists:     p.Account.RevealAccounts,
		Encryption: encryptionPolicy{token.Encryption, token.ContentEncryption, at(apiBase + "nonce"), at(oidc.PathJWKS)},
	}
	if p.Account.RevealAccounts {
		policy.Challenges.Always = append(policy.Challenges.Always, "exists")
	}
	if policy.Registration == providers.RegistrationOpen && !s.Notify.CanMail() {
		policy.Registration = providers.RegistrationClosed
	}
	add := func(way string, offered bool) {
		if offered {
			policy.SignIn = append(policy.SignIn, way)
		}
	}
	add("password", p.Account.Password)
	add("passkey", s.passkeysAt(p))
	add("phone", p.Account.PhoneSignIn)
	return writeJSON(w, policy)
}
