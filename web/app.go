package web

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/templates"
)

func (s *Server) mountApp(r chi.Router) {
	r.Get("/security/app", s.page(s.freshly("security/app", s.appPage)))
	r.Post("/security/app", s.page(s.freshly("security/app", s.addApp)))
	r.Post("/security/app/remove", s.page(s.freshly("security", s.removeApp)))
}

// appName is what an app for one-time codes calls the account.
func (s *Server) appName(r *http.Request, v visitor) (string, error) {
	address, err := s.desk.Address(r.Context(), *v.account)
	return cmp.Or(address, v.account.Name, v.account.ID), err
}

// appPage serves GET /security/app: another secret each time, of which nothing is stored.
func (s *Server) appPage(w http.ResponseWriter, r *http.Request, v visitor) error {
	if _, ok := s.Providers.Local(); !ok {
		return errNoLocal
	}
	name, err := s.appName(r, v)
	if err != nil {
		return err
	}
	e, err := s.Credentials.NewTOTP(v.account.ID, s.Config.Title, name)
	if err != nil {
		return err
	}
	return s.showApp(w, r, v, e, http.StatusOK, nil)
}

func (s *Server) showApp(w http.ResponseWriter, r *http.Request, v visitor, e credential.Enrolment, status int, wrong *templates.FieldError) error {
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	_, c, _, err := s.desk.Credential(r.Context(), *v.account)
	if err != nil {
		return err
	}
	picture, err := qrPicture(e.URL)
	if err != nil {
		return err
	}
	page := templates.AppPage{
		Layout: s.layout(w, r, v), Replaces: c.TOTP != nil, Action: d.addTo(s.path("security/app")), Picture: []byte(picture),
		URL: e.URL, Key: inGroups(e.Secret), Sealed: e.Sealed, Error: wrong, Cancel: s.next(d),
	}
	page.Path = d.addTo("security/app")
	page.Messages = s.takeFlash(w, r).Messages
	s.render(w, status, page.Nonce, page)
	return nil
}

// inGroups is a text in groups of four, as people copy it.
func inGroups(text string) string {
	var groups []string
	for len(text) > 4 {
		groups, text = append(groups, text[:4]), text[4:]
	}
	return strings.Join(append(groups, text), " ")
}

// addApp serves POST /security/app: the code shows that the app works.
func (s *Server) addApp(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	name, err := s.appName(r, v)
	if err != nil {
		return err
	}
	e, err := s.Credentials.ReadTOTP(v.account.ID, s.Config.Title, name, fields["sealed"])
	if isNotFound(err) {
		return s.redirectNoting(w, d.addTo(s.path("security/app")), note("error", "app_expired", nil))
	}
	if err != nil {
		return err
	}
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	c, err = s.Credentials.AddTOTP(r.Context(), c.ID, e, fields["code"])
	if errors.Is(err, credential.ErrCode) {
		// The same secret again: the app has it by now.
		return s.showApp(w, r, v, e, http.StatusBadRequest, fieldFlash("code", "factor_wrong_totp", nil).Field)
	}
	if err != nil {
		return err
	}
	s.factorTold(r, v, "factor_added", "security_app")
	return s.factorAdded(w, r, v, c, d, methodsOf[credential.FactorTOTP]...)
}

// removeApp serves POST /security/app/remove.
func (s *Server) removeApp(w http.ResponseWriter, r *http.Request, v visitor) error {
	c, err := s.ownCredential(r, v)
	if err != nil {
		return err
	}
	if _, err = s.Credentials.RemoveTOTP(r.Context(), c.ID); isNotFound(err) {
		return redirect(w, s.path("security"))
	}
	if err != nil {
		return err
	}
	s.factorTold(r, v, "factor_removed", "security_app")
	return s.redirectNoting(w, s.path("security"), note("success", "security_removed", nil))
}
