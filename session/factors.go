package session

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"time"
)

// MethodMFA among the methods of a session says that several factors were given (RFC 8176, 2).
const MethodMFA = "mfa"

// MultiFactor tells whether more than one factor was given for the session.
func (s Session) MultiFactor() bool { return slices.Contains(s.Methods, MethodMFA) }

// proved notes how somebody has proved who they are.
func (s *Session) proved(l Login, now time.Time) {
	s.Methods, s.AuthTime, s.Elevated = l.Methods, now, time.Time{}
	s.SignIn = base64.RawURLEncoding.EncodeToString(random(9))
	if !l.AuthTime.IsZero() {
		s.AuthTime = l.AuthTime
	}
	if s.MultiFactor() {
		s.Elevated = now
		if !l.Elevated.IsZero() {
			s.Elevated = l.Elevated
		}
	}
}

// Elevate notes that one more factor was given in the visit's session: the methods are added
// to those of the sign-in, whose time stays, and the browser gets another secret. ErrNotFound
// if the visit does not open the session any more.
func (m *Manager) Elevate(ctx context.Context, w http.ResponseWriter, v Visit, methods ...string) (Session, error) {
	secret := random(secretSize)
	item, err := m.sessions.Update(ctx, v.Handle, func(s *Session) error {
		if !s.opensWith(v.secret) {
			return ErrNotFound
		}
		now := m.now()
		all := slices.Clone(s.Methods)
		for _, method := range append(methods, MethodMFA) {
			if !slices.Contains(all, method) {
				all = append(all, method)
			}
		}
		s.Secret, s.Methods, s.Elevated = hash(secret), all, now
		s.LastSeen, s.Expires = now, now.Add(m.lifetime)
		return nil
	})
	m.wrote(v.Handle, false)
	if err != nil {
		return Session{}, err
	}
	m.setState(w, m.BrowserState(item.Value))
	return item.Value, m.cookie.set(w, content{kind: kindSession, issued: m.now(), handle: v.Handle, secret: secret})
}
