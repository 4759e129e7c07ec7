package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
)

func (s *Server) mountUsers(r chi.Router) {
	r.Get("/currentUser", s.api(s.currentUser))
	r.Get("/users", s.api(s.listUsers))
	r.Get("/users/{id}", s.api(s.getUser))
	r.Patch("/users/{id}", s.api(s.patchUser))
}

// currentUser serves GET /currentUser.
func (s *Server) currentUser(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	_, body, err := s.Users.JSON(r.Context(), v.account.ID)
	if isNotFound(err) {
		return errUnauthorized // it was deleted a moment ago
	}
	if err != nil {
		return err
	}
	writeBody(w, body)
	return nil
}

// listUsers serves GET /users.
func (s *Server) listUsers(http.ResponseWriter, *http.Request) error {
	return &Error{Status: http.StatusForbidden, Code: "forbidden", Message: "Unauthorized access to user list."}
}

// getUser serves GET /users/{id}: the own account, or the way from a merged one to
// the account that has absorbed it.
func (s *Server) getUser(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	id := pathValue(r, "id")
	notFound := &Error{Status: http.StatusNotFound, Code: "not_found", Message: "User not found."}
	if len(id) > 200 || !validText(id) {
		return notFound
	}
	account, moved, err := s.Users.Locate(r.Context(), id)
	switch {
	case isNotFound(err):
		return notFound
	case err != nil:
		return err
	case moved:
		return redirect(w, s.path("users/"+account.ID))
	case v.account == nil || v.account.ID != account.ID:
		return &Error{Status: http.StatusForbidden, Code: "forbidden", Message: "Unauthorized access to user data."}
	}
	return writeJSON(w, account.UserWithUsage())
}

// patchUser serves PATCH /users/{id} with {"name": …}.
func (s *Server) patchUser(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	if id := pathValue(r, "id"); id != v.account.ID && !v.wasKnownAs(id) {
		return &Error{Status: http.StatusForbidden, Code: "forbidden", Message: "Can't modify another user."}
	}
	body, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	if err != nil {
		return badRequest("The request could not be read.", err)
	}
	if !utf8.Valid(body) {
		return badRequest("The request is not valid UTF-8.", nil)
	}
	unprocessable := func(code, message string) error {
		return &Error{Status: http.StatusUnprocessableEntity, Code: code, Message: message}
	}
	var patch map[string]json.RawMessage
	if len(bytes.TrimSpace(body)) > 0 && json.Unmarshal(body, &patch) != nil {
		return badRequest("The request is not a JSON object.", nil)
	}
	raw, ok := patch["name"]
	if !ok {
		return unprocessable("no_change", "No change to be made.")
	}
	var name *string
	if json.Unmarshal(raw, &name) != nil || name == nil {
		return unprocessable("invalid_name", "The name must be a string.")
	}
	account, err := s.Users.Rename(r.Context(), v.account.ID, *name)
	if nameMessage(err) != "" {
		return unprocessable("invalid_name", "The name must have 1 to 200 characters and no control characters.")
	}
	if isNotFound(err) { // deleted a moment ago
		return errUnauthorized
	}
	if err != nil {
		return err
	}
	return writeJSON(w, account.UserWithUsage())
}

// wasKnownAs tells whether an id is that of the account under which the session
// began, which has been merged since: clients go on using its URI for a while.
func (v visitor) wasKnownAs(id string) bool { return v.Session != nil && v.Session.UserID == id }
