package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/notify"
	"login-server/providers"
	"login-server/templates"
)

func (s *Server) mountPhone(r chi.Router) {
	r.Get("/security/phone", s.page(s.freshly("security/phone", s.phonePage)))
	r.Post("/security/phone", s.page(s.freshly("security/phone", s.addPhone)))
	r.Post("/security/phone/remove", s.page(s.freshly("security", s.removePhone)))
}

var errNoPhone = &Error{Status: http.StatusNotFound, Code: "not_found", Message: "Phones are not used here."}

// numberPlan is what waits for a code that is sent to a number somebody wants to add.
type numberPlan struct {
	// Bound is the sign-in of the session that it was asked for in.
	Bound  string `json:"bound"`
	SignIn bool   `json:"signIn,omitempty"`
}

// phones returns the provider of the accounts here if they have phones.
func (s *Server) phones() (*providers.Provider, error) {
	local, ok := s.Providers.Local()
	if !ok || !local.Account.Phone || !s.Notify.CanSMS() {
		return nil, errNoPhone
	}
	return local, nil
}

// phonePage serves GET /security/phone: a number, or the code that was sent there.
func (s *Server) phonePage(w http.ResponseWriter, r *http.Request, v visitor) error {
	local, err := s.phones()
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.PhonePage{
		Layout: s.layout(w, r, v), Number: left.Input, SignIn: local.Account.PhoneSignIn, Error: left.Field, Cancel: s.next(d),
	}
	page.Messages = left.Messages
	sent := r.URL.Query().Get("sent")
	if sent != "" {
		p, _, err := s.numberSent(r.Context(), v, sent)
		if err != nil && !isNotFound(err) {
			return err
		}
		if err == nil {
			page.Sent, page.Number = true, maskNumber(p.Number)
		}
	}
	page.Action = s.phoneURL(d, sent)
	page.Path = strings.TrimPrefix(page.Action, s.base())
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

func (s *Server) phoneURL(d destination, sent string) string {
	query := d.values()
	if sent != "" {
		query.Set("sent", sent)
	}
	if len(query) == 0 {
		return s.path("security/phone")
	}
	return s.path("security/phone?" + query.Encode())
}

// numberSent is the number that waits for a code of this person, in this sign-in.
func (s *Server) numberSent(ctx context.Context, v visitor, id string) (credential.Pending, numberPlan, error) {
	var plan numberPlan
	p, err := s.Credentials.Pending(ctx, credential.PendingPhone, id)
	if err == nil {
		err = s.Credentials.Payload(p, &plan)
	}
	if err == nil && (p.Account != v.account.ID || plan.Bound != signInBond(v)) {
		err = credential.ErrNotFound
	}
	return p, plan, err
}

// addPhone serves POST /security/phone: a number to send a code to, or the code.
func (s *Server) addPhone(w http.ResponseWriter, r *http.Request, v visitor) error {
	local, err := s.phones()
	if err != nil {
		return err
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	sent := r.URL.Query().Get("sent")
	switch {
	case sent == "":
		return s.sendNumber(w, r, v, d, fields["number"], local.Account.PhoneSignIn && fields["sign_in"] != "")
	case fields["do"] == "send":
		return s.resendNumber(w, r, v, d, sent)
	}
	again := func(message string) error {
		return s.redirectNoting(w, s.phoneURL(d, sent), fieldFlash("code", message, nil))
	}
	p, plan, err := s.numberSent(r.Context(), v, sent)
	if err == nil {
		p, err = s.Credentials.TryCode(r.Context(), credential.PendingPhone, sent, fields["code"])
	}
	if err == nil {
		err = s.Credentials.End(r.Context(), p)
	}
	switch {
	case errors.Is(err, credential.ErrCode):
		return again("factor_wrong_sms")
	case errors.Is(err, credential.ErrTries):
		return again("factor_tries")
	case isNotFound(err):
		return s.redirectNoting(w, s.phoneURL(d, ""), fieldFlash("number", "factor_code_expired", nil))
	case err != nil:
		return err
	}
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	c, err = s.Credentials.SetPhone(r.Context(), c.ID, p.Number, plan.SignIn && local.Account.PhoneSignIn, s.waysBeside(*v.account))
	if errors.Is(err, credential.ErrTaken) {
		// Said to who has the phone in hand, and to nobody else.
		return s.redirectNoting(w, s.phoneURL(d, ""), fieldFlash("number", "phone_taken", nil))
	}
	if err != nil {
		return s.errLastWay(w, err)
	}
	s.factorTold(r, v, "factor_added", "security_phone")
	return s.factorAdded(w, r, v, c, d, methodsOf[credential.FactorSMS]...)
}

// sendNumber sends a code to a number that somebody says is theirs.
func (s *Server) sendNumber(w http.ResponseWriter, r *http.Request, v visitor, d destination, typed string, signIn bool) error {
	again := func(message string, args map[string]any) error {
		f := fieldFlash("number", message, args)
		f.Input = truncate(typed, 64)
		return s.redirectNoting(w, s.phoneURL(d, ""), f)
	}
	number, err := notify.Number(typed, "")
	if err != nil {
		return again("phone_invalid", nil)
	}
	lang := s.Templates.Language(v.account.Language(), r.Header.Get("Accept-Language"))
	issued, err := s.Credentials.Begin(r.Context(), credential.Pending{Kind: credential.PendingPhone, Account: v.account.ID, Number: number, Language: lang},
		numberPlan{Bound: signInBond(v), SignIn: signIn}, smsCodeLife)
	if err != nil {
		return err
	}
	err = s.sendCode(r, issued, lang, "phone", false)
	if message, args, ok := smsProblem(err); ok {
		if err := s.Credentials.End(r.Context(), issued.Pending); err != nil && !isNotFound(err) {
			return err
		}
		return again(message, args)
	}
	if err != nil {
		return err
	}
	return redirect(w, s.phoneURL(d, issued.ID))
}

// resendNumber sends another code to the same number.
func (s *Server) resendNumber(w http.ResponseWriter, r *http.Request, v visitor, d destination, sent string) error {
	_, _, err := s.numberSent(r.Context(), v, sent)
	var issued credential.Issued
	if err == nil {
		issued, err = s.Credentials.Resend(r.Context(), credential.PendingPhone, sent)
	}
	if err == nil {
		err = s.sendCode(r, issued, issued.Language, "phone", false)
	}
	if message, args, ok := smsProblem(err); ok {
		return s.redirectNoting(w, s.phoneURL(d, sent), fieldFlash("code", message, args))
	}
	if isNotFound(err) {
		return s.redirectNoting(w, s.phoneURL(d, ""), fieldFlash("number", "factor_code_expired", nil))
	}
	if err != nil {
		return err
	}
	return redirect(w, s.phoneURL(d, sent))
}

// removePhone serves POST /security/phone/remove.
func (s *Server) removePhone(w http.ResponseWriter, r *http.Request, v visitor) error {
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	_, err = s.Credentials.RemovePhone(r.Context(), c.ID, s.waysBeside(*v.account))
	if isNotFound(err) {
		return redirect(w, s.path("security"))
	}
	if err != nil {
		return s.errLastWay(w, err)
	}
	s.factorTold(r, v, "factor_removed", "security_phone")
	return s.redirectNoting(w, s.path("security"), note("success", "security_removed", nil))
}
