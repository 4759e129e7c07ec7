package web

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"login-server/credential"
	"login-server/identity"
	"login-server/providers"
	"login-server/templates"
)

// maxPasskeyName is how many characters the name of a passkey may have.
const maxPasskeyName = 64

// mountPasskeyList are the passkeys of who is signed in. Whoever changes them has to have
// signed in a short time ago.
func (s *Server) mountPasskeyList(r chi.Router) {
	const list, add = "security/passkeys", "security/passkeys/add"
	r.Get("/"+list, s.page(s.signedIn(s.passkeyList)))
	r.Get("/"+add, s.page(s.freshly(add, s.passkeyAddPage)))
	r.Post("/"+add+"/begin", s.api(s.beginPasskeyAdd))
	r.Post("/"+add, s.page(s.freshly(add, s.passkeyAdd)))
	r.Post("/"+list+"/rename", s.page(s.freshly(list, s.passkeyRename)))
	r.Post("/"+list+"/remove", s.page(s.freshly(list, s.passkeyRemove)))
}

// passkeysOf is the provider and the credential of who is signed in; its ID is empty if they
// have none yet.
func (s *Server) passkeysOf(r *http.Request, v visitor) (*providers.Provider, credential.Credential, error) {
	p, c, _, err := s.desk.Credential(r.Context(), *v.account)
	if err == nil && (p == nil || !s.passkeysAt(p)) {
		err = errNoPasskeys
	}
	return p, c, err
}

// passkeyList serves GET /security/passkeys.
func (s *Server) passkeyList(w http.ResponseWriter, r *http.Request, v visitor) error {
	_, c, err := s.passkeysOf(r, v)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.PasskeysPage{Layout: s.layout(w, r, v), Full: len(c.Passkeys) >= credential.MaxPasskeys, Add: d.addTo(s.path("security/passkeys/add"))}
	page.Messages = left.Messages
	for _, p := range c.Passkeys {
		view := templates.Passkey{ID: base64.RawURLEncoding.EncodeToString(p.ID), Name: p.Name, Added: p.Added, Used: p.Used, Synced: p.Synced(), Copied: !p.Cloned.IsZero()}
		if left.Field != nil && left.Field.Field == "name-"+view.ID {
			view.Error, view.Input = left.Field, left.Input
		}
		page.Passkeys = append(page.Passkeys, view)
	}
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// passkeyAddPage serves GET /security/passkeys/add.
func (s *Server) passkeyAddPage(w http.ResponseWriter, r *http.Request, v visitor) error {
	_, _, err := s.passkeysOf(r, v)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	left := s.takeFlash(w, r)
	page := templates.PasskeyAddPage{Layout: s.layout(w, r, v), Cancel: d.addTo(s.path("security/passkeys")), Form: &templates.PasskeyForm{
		For: "add", Begin: s.path("security/passkeys/add/begin"), Action: d.addTo(s.path("security/passkeys/add")), Error: left.Field, Name: left.Input,
	}}
	page.Messages = left.Messages
	s.render(w, http.StatusOK, page.Nonce, page)
	return nil
}

// errConfirm has the script load its page anew, which asks for a fresh sign-in.
var errConfirm = &Error{Status: http.StatusForbidden, Code: "confirm", Message: "A fresh sign-in is necessary."}

// beginPasskeyAdd serves POST /security/passkeys/add/begin.
func (s *Server) beginPasskeyAdd(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil || !s.isFresh(v.Session) {
		return errConfirm
	}
	_, c, err := s.passkeysOf(r, v)
	if err != nil {
		return err
	}
	ceremony, err := s.passkeys.BeginAdd(c, s.passkeyOwner(c, *v.account), signInBond(v))
	if errors.Is(err, credential.ErrMany) {
		return &Error{Status: http.StatusConflict, Code: "too_many", Message: "There are too many passkeys."}
	}
	if err != nil {
		return err
	}
	return writeJSON(w, ceremony)
}

// passkeyOwner is how authenticators call somebody whom they keep a passkey of.
func (s *Server) passkeyOwner(c credential.Credential, a identity.Account) string {
	if address := c.Primary(); address != "" {
		return address
	}
	return a.Name
}

// passkeyAdd serves POST /security/passkeys/add: the answer of an authenticator.
func (s *Server) passkeyAdd(w http.ResponseWriter, r *http.Request, v visitor) error {
	_, c, err := s.passkeysOf(r, v)
	if err != nil {
		return err
	}
	d, err := s.destinationOf(r)
	if err != nil {
		return err
	}
	fields, err := form(r)
	if err != nil {
		return err
	}
	again := func(field, message string) error {
		return s.redirectNoting(w, d.addTo(s.path("security/passkeys/add")), flash{
			Field: &templates.FieldError{Field: field, Message: templates.Message{Kind: "error", ID: message}}, Input: fields["name"],
		})
	}
	name := s.newPasskeyName(r, c)
	if fields["name"] != "" {
		var problem string
		if name, problem = passkeyName(fields["name"]); problem != "" {
			return again("name", problem)
		}
	}
	owner, passkey, err := s.passkeys.FinishAdd(r.Context(), fields["ceremony"], signInBond(v), []byte(fields["answer"]), name)
	if err == nil {
		if c, err = s.credentialAs(r, v, owner); err == nil && c.ID != owner {
			err = credential.ErrCeremony // another request has made them one meanwhile
		}
	}
	if err == nil {
		_, err = s.Credentials.AddPasskey(r.Context(), c.ID, passkey)
	}
	if message, ok := passkeyProblem(err); ok {
		s.Log.InfoContext(r.Context(), "passkey not added", "request_id", requestID(w), "err", err)
		return again("", message)
	}
	if err != nil {
		return err
	}
	s.desk.Tell(r.Context(), *v.account, "factor_added", map[string]any{"Factor": s.passkeyText(*v.account, name)})
	f := note("success", "passkey_added", map[string]any{"Name": name})
	if d.redirect != "" {
		return s.redirectNoting(w, d.redirect, f)
	}
	return s.redirectNoting(w, s.path("security/passkeys"), f)
}

// passkeyText names a passkey in the person's language.
func (s *Server) passkeyText(a identity.Account, name string) string {
	return s.Templates.Text(s.Templates.Language(a.Language(), ""), "passkey_named", map[string]any{"Name": name})
}

// newPasskeyName is what a passkey is called that the person gives no name: by the browser, for
// nobody vouches for what authenticators say of themselves.
func (s *Server) newPasskeyName(r *http.Request, c credential.Credential) string {
	lang := s.language(r, "")
	name := truncate(s.browser(lang, r.UserAgent()), maxPasskeyName)
	if name == "" {
		name = s.Templates.Text(lang, "passkey", nil)
	}
	return free(name, c)
}

// free is a name that none of the passkeys has.
func free(name string, c credential.Credential) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(c.Passkeys, func(p credential.Passkey) bool { return p.Name == name })
	}
	candidate := name
	for n := '2'; taken(candidate) && n <= '9'; n++ {
		candidate = name + " " + string(n)
	}
	return candidate
}

// passkeyName is a name as it would be kept, or what is wrong with it.
func passkeyName(typed string) (name, problem string) {
	name, err := identity.CheckName(typed)
	switch {
	case errors.Is(err, identity.ErrNameEmpty):
		return "", "passkey_name_missing"
	case err != nil, utf8.RuneCountInString(name) > maxPasskeyName:
		return "", "passkey_name_wrong"
	}
	return name, ""
}

// onePasskey reads which passkey of the person a form is about.
func (s *Server) onePasskey(r *http.Request, v visitor) (fields map[string]string, c credential.Credential, id []byte, err error) {
	if fields, err = form(r); err != nil {
		return nil, c, nil, err
	}
	if _, c, err = s.passkeysOf(r, v); err != nil {
		return nil, c, nil, err
	}
	id, _ = base64.RawURLEncoding.DecodeString(fields["id"]) // of what is none there is no passkey
	return fields, c, id, nil
}

// passkeyRename serves POST /security/passkeys/rename.
func (s *Server) passkeyRename(w http.ResponseWriter, r *http.Request, v visitor) error {
	fields, c, id, err := s.onePasskey(r, v)
	if err != nil {
		return err
	}
	list := s.path("security/passkeys")
	name, problem := passkeyName(fields["name"])
	if problem != "" {
		f := fieldFlash("name-"+fields["id"], problem, nil)
		f.Input = fields["name"]
		return s.redirectNoting(w, list, f)
	}
	_, err = s.Credentials.RenamePasskey(r.Context(), c.ID, id, name)
	if isNotFound(err) {
		return s.redirectNoting(w, list, note("error", "passkey_unknown", nil))
	}
	if err != nil {
		return err
	}
	return s.redirectNoting(w, list, note("success", "passkey_renamed", map[string]any{"Name": name}))
}

// passkeyRemove serves POST /security/passkeys/remove.
func (s *Server) passkeyRemove(w http.ResponseWriter, r *http.Request, v visitor) error {
	_, c, id, err := s.onePasskey(r, v)
	if err != nil {
		return err
	}
	list := s.path("security/passkeys")
	gone, err := s.Credentials.RemovePasskey(r.Context(), c.ID, id, s.waysBeside(*v.account))
	switch {
	case errors.Is(err, credential.ErrLast):
		return s.redirectNoting(w, list, note("error", "passkey_last", nil))
	case isNotFound(err):
		return s.redirectNoting(w, list, note("error", "passkey_unknown", nil))
	case err != nil:
		return err
	}
	s.desk.Tell(r.Context(), *v.account, "factor_removed", map[string]any{"Factor": s.passkeyText(*v.account, gone.Name)})
	return s.redirectNoting(w, list, note("success", "passkey_removed", map[string]any{"Name": gone.Name}))
}
