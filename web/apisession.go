package web

import (
	"encoding/json"
	"net/http"
	"time"

	"login-server/events"
	"login-server/identity"
	"login-server/session"
	"login-server/token"
)

// The session of the browser, for applications with forms of their own.

// sessionAnswer is what is told of a session: User is as in GET /currentUser, Token as in GET
// /token. Without a session User is null and there is no more.
type sessionAnswer struct {
	User json.RawMessage `json:"user"`
	*sessionDetails
}

type sessionDetails struct {
	Token     string `json:"token"`
	ExpiresIn int    `json:"expiresIn"`
	// AuthTime is when they have signed in, in Unix seconds, Methods how (RFC 8176).
	AuthTime int64    `json:"authTime"`
	Methods  []string `json:"methods"`
	// MultiFactor: more than one factor was given.
	MultiFactor bool `json:"multiFactor"`
	// FactorRequired: the application that asks wants one more, by its entry (require_mfa).
	FactorRequired bool `json:"factorRequired,omitempty"`
}

// apiSession serves GET /api/v1/session.
func (s *Server) apiSession(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return writeJSON(w, sessionAnswer{User: json.RawMessage("null")})
	}
	if err := s.Sessions.Roll(r.Context(), w, v.Visit); err != nil {
		return err
	}
	return s.tellSession(w, r, *v.account, *v.Session, s.callFrom(r).lacksFactor(*v.Session))
}

// tellSession answers with the session of an account; lacking is its FactorRequired.
func (s *Server) tellSession(w http.ResponseWriter, r *http.Request, a identity.Account, sess session.Session, lacking bool) error {
	_, user, err := s.Users.JSON(r.Context(), a.ID)
	if isNotFound(err) {
		return errUnauthorized // it was deleted a moment ago
	}
	if err != nil {
		return err
	}
	claim, err := s.userClaim(r.Context(), a)
	if err != nil {
		return err
	}
	body, err := s.tokens.get(r.Context(), sess.Handle, events.Binding(&sess), claim)
	if err != nil {
		return err
	}
	var signed token.Token
	if err := json.Unmarshal(body, &signed); err != nil {
		return err
	}
	return writeJSON(w, sessionAnswer{User: user, sessionDetails: &sessionDetails{
		Token: signed.Token, ExpiresIn: signed.ExpiresIn, AuthTime: sess.AuthTime.Unix(), Methods: sess.Methods, MultiFactor: sess.MultiFactor(), FactorRequired: lacking,
	}})
}

// apiSignOut serves DELETE /api/v1/session. It is no error if nobody is signed in.
func (s *Server) apiSignOut(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if _, err := s.signOut(w, r, v); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// apiSignOutEverywhere serves DELETE /api/v1/sessions: all sessions of the person, this one
// too.
func (s *Server) apiSignOutEverywhere(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	if err := s.endOthers(r, v); err != nil {
		return err
	}
	return s.apiSignOut(w, r)
}

// apiTicket serves POST /api/v1/accounts/ticket: what opens a socket of the session in its
// URL, once.
func (s *Server) apiTicket(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	if v.account == nil {
		return errUnauthorized
	}
	ticket, err := s.hub.SessionTicket(*v.Session)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"ticket": ticket, "expiresIn": int(token.EventTicketLife / time.Second)})
}
