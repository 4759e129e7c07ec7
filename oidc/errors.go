package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"login-server/store"
)

// Error is an error answer of the protocol (RFC 6749, 4.1.2.1 and 5.2; RFC 6750, 3.1).
type Error struct {
	// Code is one of the registered names, such as invalid_grant.
	Code string
	// Description is for the developer of the client.
	Description string
	// Status of the answer where it is not a redirect; 0 is 400.
	Status int
	// Cause is for the log.
	Cause error
}

func (e *Error) Error() string {
	text := e.Code + ": " + e.Description
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Cause }

func (e *Error) status() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

func fail(code, format string, args ...any) *Error {
	return &Error{Code: code, Description: describe(fmt.Sprintf(format, args...))}
}

func invalidRequest(format string, args ...any) *Error {
	return fail("invalid_request", format, args...)
}
func invalidGrant(format string, args ...any) *Error { return fail("invalid_grant", format, args...) }

// invalidClient is 401 (RFC 6749, 5.2).
func invalidClient(format string, args ...any) *Error {
	e := fail("invalid_client", format, args...)
	e.Status = http.StatusUnauthorized
	return e
}

// asError makes a protocol error of any: what is none is the server's own failure, whose
// cause is for the log only.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, store.ErrAway) {
		return &Error{Code: "temporarily_unavailable", Description: "The server cannot reach its database. Please try again soon.", Status: http.StatusServiceUnavailable, Cause: err}
	}
	return &Error{Code: "server_error", Description: "The server could not answer.", Status: http.StatusInternalServerError, Cause: err}
}

// describe makes a text fit for error_description: %x20-21 / %x23-5B / %x5D-7E.
func describe(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, s[:min(len(s), 300)])
}
