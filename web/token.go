package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"login-server/events"
	"login-server/identity"
	"login-server/token"
)

func (s *Server) mountToken(r chi.Router) {
	r.Get("/token", s.api(s.token))
	r.Get("/.well-known/jwks.json", s.api(s.jwks))
}

// token serves GET /token, signed in or not.
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	user := []byte("null")
	if v.account != nil {
		user, err = s.userClaim(r.Context(), *v.account)
		if isNotFound(err) { // it was deleted a moment ago
			v, user, err = visitor{}, []byte("null"), nil
		}
		if err != nil {
			return err
		}
		if err := s.Sessions.Roll(r.Context(), w, v.Visit); err != nil {
			return err
		}
	}
	body, err := s.tokens.get(r.Context(), v.Handle, events.Binding(v.Session), user)
	if err != nil {
		return err
	}
	writeBody(w, body)
	return nil
}

// userClaim is what a token says of a person, as JSON. It is for tokens only: it may
// hold what a provider gave to act in the person's name.
func (s *Server) userClaim(ctx context.Context, a identity.Account) ([]byte, error) {
	user, _, err := s.Users.JSON(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	claims, err := s.Users.Claims(a)
	if claims == nil {
		claims = user
	}
	return claims, err
}

// jwks serves GET /.well-known/jwks.json (RFC 7517), from memory. A new key is in it for
// longer than it may be cached before anything is signed with it.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", "public, max-age=300")
	body, tag := s.Tokens.TaggedJWKS()
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// maxTokens is how many sessions' latest tokens are kept.
const maxTokens = 10_000

// tokenCache keeps the latest answer of GET /token for each session: signing is
// what costs, and within a tenth of its life a token is as good as a new one, as
// long as the session, the user and the ticket in it are what they were.
type tokenCache struct {
	now     func() time.Time
	tokens  *token.Manager
	tickets *token.Tickets
	heard   func() bool // as in Deps

	mu     sync.Mutex
	latest *simplelru.LRU[string, answered]
}

type answered struct {
	head    []byte // of the answer, up to expiresIn
	signed  time.Time
	user    []byte
	binding string
	keyID   string
	ticket  token.Ticket
	until   time.Time
}

func newTokenCache(now func() time.Time, tokens *token.Manager, tickets *token.Tickets, heard func() bool) *tokenCache {
	if heard == nil {
		heard = func() bool { return true } // for there is nobody to hear of
	}
	latest, _ := simplelru.NewLRU[string, answered](maxTokens, nil) // fails for sizes below one only
	return &tokenCache{now: now, tokens: tokens, tickets: tickets, heard: heard, latest: latest}
}

// get returns the answer for a session, which carries no sessionID when handle is
// empty. user is the token's claim of that name, binding that of the session's ticket.
func (c *tokenCache) get(ctx context.Context, handle, binding string, user []byte) ([]byte, error) {
	now := c.now()
	c.mu.Lock()
	old, ok := c.latest.Get(handle)
	c.mu.Unlock()
	if ok && now.Before(old.until) && old.binding == binding && old.keyID == c.tokens.KeyID() &&
		bytes.Equal(old.user, user) && (handle == "" || !c.tickets.IsSpent(ctx, old.ticket, c.heard())) {
		return old.at(now, c.tokens.ExpiresIn()), nil
	}
	fresh := answered{user: user, binding: binding, keyID: c.tokens.KeyID(), signed: now}
	fresh.until = now.Add(min(c.tokens.ExpiresIn()/10, token.TicketLife/2))
	sessionID := ""
	if handle != "" {
		var err error
		if sessionID, err = c.tickets.Mint(handle, binding); err != nil {
			return nil, err
		}
		if fresh.ticket, err = c.tickets.Peek(sessionID); err != nil {
			return nil, err
		}
	}
	signed, err := c.tokens.Sign(json.RawMessage(user), sessionID)
	if err != nil {
		return nil, err
	}
	fresh.head = []byte(`{"token":"` + signed.Token + `","expiresIn":`)
	c.mu.Lock()
	c.latest.Add(handle, fresh)
	c.mu.Unlock()
	return fresh.at(now, c.tokens.ExpiresIn()), nil
}

// at is the answer with the seconds that are left at a time.
func (a answered) at(now time.Time, life time.Duration) []byte {
	left := int64((life - now.Sub(a.signed)) / time.Second)
	body := make([]byte, len(a.head), len(a.head)+12)
	copy(body, a.head)
	return append(strconv.AppendInt(body, left, 10), '}')
}
