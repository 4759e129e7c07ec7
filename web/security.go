package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/identity"
	"login-server/session"
	"login-server/templates"
)

// historyPage is how many entries of the history are on a page.
const historyPage = 20

// mountSecurity is the page of all that one's sign-in is made of. Setting up an app or a phone
// is in app.go and phone.go, addresses, password and passkeys have pages of their own.
func (s *Server) mountSecurity(r chi.Router) {
	r.Get("/security", s.page(s.signedIn(s.security)))
	r.Post("/security/two-step", s.page(s.freshly("security", s.setTwoStep)))
	r.Post("/security/distrust", s.page(s.freshly("security", s.distrust)))
	r.Get("/security/recovery", s.page(s.freshly("security/recovery", s.recoveryPage)))
	r.Post("/security/recovery", s.page(s.freshly("security/recovery", s.renewRecovery)))
	s.mountApp(r)
	s.mountPhone(r)
}

// security serves GET /security.
func (s *Server) security(w http.ResponseWriter, r *http.Request, v visitor) error {
	ctx, a := r.Context(), *v.account
	page := templates.SecurityPage{Layout: s.layout(w, r, v)}
	page.Path = "security"
	if err := s.factorsView(r, &page, a); err != nil {
		return err
	}
	for id := range a.Identities {
		page.Identities = append(page.Identities, s.providerName(id))
	}
	slices.Sort(page.Identities)
	ids, err := s.Users.IDs(ctx, a)
	if err != nil {
		return err
	}
	if page.Sessions, err = s.sessionsOf(ctx, page.Lang, "security", v, ids); err != nil {
		return err
	}
	connections, err := s.connected(r, v)
	if err != nil {
		return err
	}
	page.Applications = len(connections)
	before := r.URL.Query().Get("before")
	if !historyID(before) {
		before = ""
	}
	history, err := s.Sessions.History(ctx, session.HistoryQuery{UserIDs: ids, Before: before, Limit: historyPage + 1})
	if err != nil {
		return err
	}
	if before != "" {
		page.Newest = s.path("security#history")
		page.Path += "?" + url.Values{"before": {before}}.Encode()
	}
	if len(history) > historyPage {
		history = history[:historyPage]
		page.Older = s.path("security?" + url.Values{"before": {history[historyPage-1].ID}}.Encode() + "#history")
	}
	page.History = s.historyViews(page.Lang, history)
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// historyID tells whether something can be the id of an entry.
func historyID(id string) bool {
	return len(id) <= 100 && !strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' })
}

// factorsView fills in what somebody proves themselves with here.
func (s *Server) factorsView(r *http.Request, page *templates.SecurityPage, a identity.Account) error {
	local, c, _, err := s.desk.Credential(r.Context(), a)
	if err != nil || local == nil {
		return err
	}
	page.Local = true
	page.Offered.Emails, page.Offered.Password = local.Account.Password, local.Account.Password
	page.Offered.Passkeys = local.Account.Passkeys
	page.Offered.TOTP, page.Offered.Phone = true, local.Account.Phone && s.Notify.CanSMS()
	for _, e := range c.Emails {
		if e.Primary {
			page.Emails = append([]string{e.Address}, page.Emails...)
		} else {
			page.Emails = append(page.Emails, e.Address)
		}
	}
	if c.Password != nil {
		page.Password = &templates.PasswordState{Set: c.Password.Set}
	}
	page.Passkeys = len(c.Passkeys)
	if c.TOTP != nil {
		page.TOTP = &templates.AppState{Added: c.TOTP.Added, Used: c.TOTP.Used}
	}
	if c.Phone != nil {
		page.Phone = &templates.PhoneState{Number: maskNumber(c.Phone.Number), Verified: c.Phone.Verified, SignIn: c.Phone.SignIn}
	}
	page.Factors, page.TwoStep = len(c.Factors()) > 0, c.TwoStep
	if len(c.Recovery) > 0 {
		page.Recovery = &templates.RecoveryState{Left: c.RecoveryLeft(), Low: c.RecoveryLow()}
	}
	if page.TrustDays = int(local.Account.TrustFor / (24 * time.Hour)); page.TrustDays > 0 {
		page.Trusted, err = s.trusted(r, a, c)
	}
	return err
}

// setTwoStep serves POST /security/two-step.
func (s *Server) setTwoStep(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	on := fields["two_step"] == "on"
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	before := c.TwoStep
	_, err = s.Credentials.SetTwoStep(r.Context(), c.ID, on)
	switch {
	case isNotFound(err):
		return redirect(w, s.path("security"))
	case err != nil:
		return err
	case on:
		if !before {
			s.factorTold(r, v, "factor_added", "security_second")
		}
		return s.redirectNoting(w, s.path("security"), note("success", "security_turned_on", nil))
	}
	if before {
		s.factorTold(r, v, "factor_removed", "security_second")
	}
	return s.redirectNoting(w, s.path("security"), note("success", "security_turned_off", nil))
}

// factorTold tells the owner of an account that something of their sign-in was added or taken
// away; text names it.
func (s *Server) factorTold(r *http.Request, v visitor, kind, text string) {
	lang := s.Templates.Language(v.account.Language(), "")
	s.desk.Tell(r.Context(), *v.account, kind, map[string]any{"Factor": s.Templates.Text(lang, text, nil)})
}

// distrust serves POST /security/distrust: no browser is spared the second step any more.
func (s *Server) distrust(w http.ResponseWriter, r *http.Request, v visitor) error {
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	if _, err := s.Credentials.Distrust(r.Context(), c.ID); err != nil {
		return err
	}
	return s.redirectNoting(w, s.path("security"), note("success", "security_distrusted", nil))
}

// recoveryPage serves GET /security/recovery, which makes nothing.
func (s *Server) recoveryPage(w http.ResponseWriter, r *http.Request, v visitor) error {
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	_, c, _, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	if len(c.Factors()) == 0 {
		return redirect(w, s.path("security"))
	}
	page := templates.RecoveryPage{
		Layout: s.layout(w, r, v), Left: c.RecoveryLeft(), Action: d.addTo(s.path("security/recovery")), Next: s.next(d),
	}
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// next is where somebody goes on from a page of /security.
func (s *Server) next(d destination) string {
	if d.redirect != "" {
		return d.redirect
	}
	return s.path("security")
}

// renewRecovery serves POST /security/recovery: new codes, which are shown this once. They
// are the answer of the request, and in no cookie and no address.
func (s *Server) renewRecovery(w http.ResponseWriter, r *http.Request, v visitor) error {
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	if len(c.Factors()) == 0 {
		return redirect(w, s.path("security"))
	}
	return s.showRecovery(w, r, v, c, d)
}

// showRecovery makes recovery codes, and shows them.
func (s *Server) showRecovery(w http.ResponseWriter, r *http.Request, v visitor, c credential.Credential, d destination) error {
	codes, _, err := s.Credentials.RenewRecovery(r.Context(), c.ID)
	if err != nil {
		return err
	}
	s.factorTold(r, v, "factor_added", "security_recovery")
	page := templates.RecoveryPage{Layout: s.layout(w, r, v), Codes: codes, Left: len(codes), Action: d.addTo(s.path("security/recovery")), Next: s.next(d)}
	page.Path = d.addTo("security/recovery")
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// factorAdded goes on after a factor was set up, which counts as given: with recovery codes
// where there are none yet.
func (s *Server) factorAdded(w http.ResponseWriter, r *http.Request, v visitor, c credential.Credential, d destination, methods ...string) error {
	_, err := s.Sessions.Elevate(r.Context(), w, v.Visit, methods...)
	switch {
	case isNotFound(err):
		return redirect(w, d.addTo(s.path("login")))
	case err != nil:
		return err
	case c.RecoveryLeft() == 0:
		// The cookie is another one by now; what is shown is made in the same request.
		return s.showRecovery(w, r, v, c, d)
	}
	return s.redirectNoting(w, s.next(d), note("success", "security_added", nil))
}

// errLastWay is the answer to taking away what nobody could sign in without.
func (s *Server) errLastWay(w http.ResponseWriter, err error) error {
	if !errors.Is(err, credential.ErrLast) {
		return err
	}
	return s.redirectNoting(w, s.path("security"), note("error", "security_last", nil))
}
