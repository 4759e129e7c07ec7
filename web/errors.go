package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/store"
	"login-server/templates"
)

// Error is a failure that a client may be told of.
type Error struct {
	Status int
	// Code is stable; clients may rely on it.
	Code string
	// Message is a safe sentence for API clients.
	Message string
	// Field is the one that it is about; empty for most.
	Field string
	// Detail and Link are for the error page; see templates.ErrorPage.
	Detail, Link string
	// RetryAfter is the waiting time in seconds.
	RetryAfter int
	// Cause is for the log and never sent.
	Cause error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Code + ": " + e.Cause.Error()
	}
	return e.Code + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Errors that several handlers return.
var (
	errUnauthorized = &Error{Status: http.StatusUnauthorized, Code: "unauthorized", Message: "Authorization necessary."}
	errTooLarge     = &Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: "The request is too large."}
	errCrossSite    = &Error{Status: http.StatusForbidden, Code: "cross_site", Message: "Requests from other sites are refused."}
	errSignInAgain  = &Error{Status: http.StatusForbidden, Code: "sign_in_again", Message: "This needs a sign-in of the last minutes."}
)

func badRequest(message string, cause error) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "bad_request", Message: message, Cause: cause}
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// handler answers a request or says what went wrong, before it has written anything.
type handler func(w http.ResponseWriter, r *http.Request) error

// page makes an http.HandlerFunc of a handler whose errors are shown as pages.
func (s *Server) page(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.errorPage(w, r, s.publicError(w, r, err))
		}
	}
}

// apiRoots are the first path segments of what programs ask for.
var apiRoots = map[string]bool{
	"about": true, "providers": true, "currentUser": true, "users": true, "token": true,
	".well-known": true, "events": true, "healthz": true, "readyz": true, "metrics": true,
	"challenge": true,
}

// answerError answers where no handler was reached: as JSON what only programs ask
// for, or what asks for JSON, and as a page everything else.
func (s *Server) answerError(w http.ResponseWriter, r *http.Request, e *Error) {
	root, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	accept := r.Header.Get("Accept")
	switch {
	case apiRoots[root], isCallPath(r.URL.Path),
		r.Method == http.MethodPut, r.Method == http.MethodPatch, r.Method == http.MethodDelete,
		strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html"):
		s.errorJSON(w, e)
	default:
		s.errorPage(w, r, e)
	}
}

// api makes an http.HandlerFunc of a handler whose errors are answered as JSON.
func (s *Server) api(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.errorJSON(w, s.publicError(w, r, err))
		}
	}
}

// publicError finds what may be said of an error, and logs what may not.
func (s *Server) publicError(w http.ResponseWriter, r *http.Request, err error) *Error {
	var e *Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
	case errors.As(err, &tooLarge):
		e = errTooLarge
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		// The client has gone; nobody reads the answer.
		return &Error{Status: 499, Code: "canceled", Message: "The request was cancelled."}
	case errors.Is(err, store.ErrAway):
		e = &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Message: "The server cannot reach its database. Please try again soon.", RetryAfter: 5, Cause: err}
	default:
		e = &Error{Status: http.StatusInternalServerError, Code: "internal", Message: "Something went wrong.", Cause: err}
	}
	level := slog.LevelInfo
	if e.Status >= 500 {
		level = slog.LevelError
	}
	deliberate := e == errStopping || e.Code == "busy" && e.Cause == nil
	if (e.Cause != nil || e.Status >= 500) && !deliberate && !errors.Is(err, store.ErrAway) { // of that the store itself speaks
		s.Log.Log(r.Context(), level, "request failed", "request_id", requestID(w), "method", r.Method, "route", routeOf(r), "status", e.Status, "code", e.Code, "err", err)
	}
	return e
}

func (s *Server) errorJSON(w http.ResponseWriter, e *Error) {
	body, err := json.Marshal(struct {
		Status  int    `json:"status"`
		Code    string `json:"code"`
		Message string `json:"message"`
		Field   string `json:"field,omitempty"`
		// RetryAfter is that header again, which pages of other origins cannot read.
		RetryAfter int `json:"retryAfter,omitempty"`
	}{e.Status, e.Code, e.Message, e.Field, e.RetryAfter})
	if err != nil {
		panic(err) // strings and a number
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	if e.Status >= 500 {
		h.Set("X-Request-Id", requestID(w))
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body)
}

// errorPage shows an error. It reads nothing but the request, so that it works when
// the store does not.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, e *Error) {
	page := templates.ErrorPage{
		Layout:     s.layout(w, r, visitor{}),
		Status:     e.Status,
		Code:       e.Code,
		RetryAfter: e.RetryAfter,
		RequestID:  requestID(w),
		Link:       e.Link,
		Detail:     e.Detail,
	}
	if page.Link == "" {
		page.Link = s.path("")
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	s.render(w, e.Status, page.Layout.Nonce, page)
}

var (
	errNotFound         = &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is nothing here."}
	errMethodNotAllowed = &Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "This method is not allowed here."}
)

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) { s.answerError(w, r, errNotFound) }

// methodNotAllowed names the methods that are allowed (RFC 9110, 15.5.6).
func (s *Server) methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if isAdminPath(r.URL.Path) {
			if _, err := s.administrator(r); err != nil {
				s.answerError(w, r, s.publicError(w, r, err))
				return
			}
		}
		path := cmp.Or(chi.RouteContext(r.Context()).RoutePath, r.URL.RawPath, r.URL.Path)
		var allowed []string
		for _, method := range []string{"GET", "POST", "PATCH", "DELETE"} {
			if routes.Match(chi.NewRouteContext(), method, path) {
				allowed = append(allowed, method)
			}
		}
		if slices.Contains(allowed, "GET") {
			allowed = append(allowed, "HEAD")
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.answerError(w, r, errMethodNotAllowed)
	}
}

// writeJSON answers 200 with a value.
func writeJSON(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	writeBody(w, body)
	return nil
}

// writeBody answers 200 with JSON.
func writeBody(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

var (
	jsonType = []string{"application/json; charset=utf-8"}
	noStore  = []string{"no-store"}
)
