package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"login-server/session"
	"login-server/store"
	"login-server/token"
)

// Clients of the OpenID Provider hear of a session by an access token that they were
// given in it. What they hear is their own: claims of their scopes, and tokens for
// themselves. They have groups of their own, beside that of the session's other sockets,
// which do not become slower by it.

// Access is what an access token opens: the session in which it was given, for one
// client, as long as the grant that it was made from stands.
type Access struct {
	Client string `json:"client"`
	// Grant is the id of what the person has allowed the client; it opens nothing.
	Grant string `json:"grant"`
	// Session and Began name the session: a handle alone lives on after signing out.
	Session string    `json:"sid"`
	Began   time.Time `json:"began"`
	// Scope, Audience and Thumbprint (of the key of RFC 9449) are those of the token, and
	// of all that follow it.
	Scope      []string `json:"scope"`
	Audience   []string `json:"aud,omitempty"`
	Thumbprint string   `json:"jkt,omitempty"`
	// Token names the access token itself. Revoked before Expires, it takes the socket
	// with it.
	Token   string    `json:"jti"`
	Issued  time.Time `json:"iat"`
	Expires time.Time `json:"exp"`
}

// key is the same for all that are told the same.
func (a *Access) key() string {
	return strings.Join([]string{a.Session, a.Began.UTC().Format(time.RFC3339Nano), a.Grant, a.Thumbprint,
		strings.Join(a.Scope, " "), strings.Join(a.Audience, " ")}, "\x00")
}

// View is what a client may see now.
type View struct {
	// Claims are about the person, as the userinfo endpoint gives them.
	Claims json.RawMessage
	// Origins are those of the client's pages.
	Origins []string
	// Revoked tells of the token in an Access, as long as it has not expired, whether it
	// was revoked.
	Revoked func(Access) bool
}

// Grants are what people have allowed clients.
type Grants interface {
	// Open returns what an access token with the scope session_events opens. proof is the
	// DPoP proof that came with it, if any. Refusals are a Refusal.
	Open(ctx context.Context, token, proof string) (Access, error)
	// View returns what the client may see, or ErrEnded.
	View(ctx context.Context, a Access) (View, error)
	// Sign makes the next access token, or returns ErrEnded.
	Sign(ctx context.Context, a Access) (token.Token, error)
	// Forget makes sure that the grant and the client that a hint names are read anew, or all
	// of them.
	Forget(Hint)
}

// ErrEnded: the grant, its client or its account is no more.
var ErrEnded = errors.New("the access has ended")

// Refusal is why an access token, a ticket or a page is refused; its text is for the
// developer of the client.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// What a Grants refuses may have the same reasons.
const (
	refusedAccess = Refusal("The access token is of no use any more. Please get a new one.")
	refusedOrigin = Refusal("This page's origin is not registered for the client.")
	refusedTicket = Refusal("The ticket is unknown, has expired, or was used before. Please get a new one.")
)

// Admit checks that what a token opens still stands, for a page of an origin; "" is a
// program that is no browser.
func (h *Hub) Admit(ctx context.Context, a Access, origin string) error {
	_, err := h.o.Sessions.Began(ctx, a.Session, a.Began)
	if errors.Is(err, session.ErrNotFound) {
		return refusedAccess
	}
	if err != nil {
		return err
	}
	view, err := h.o.Grants.View(ctx, a)
	switch {
	case errors.Is(err, ErrEnded):
		return refusedAccess
	case err != nil:
		return err
	case origin != "" && !slices.Contains(view.Origins, origin):
		return refusedOrigin
	case h.revoked(view, a):
		return refusedAccess
	}
	return nil
}

// revoked tells whether the token that a socket came with was taken back.
func (h *Hub) revoked(v View, a Access) bool {
	return h.o.Clock.Now().Before(a.Expires) && v.Revoked(a)
}

// Ticket returns a ticket for what an access token opens, to a page of an origin. It is
// good once, and for token.EventTicketLife.
func (h *Hub) Ticket(ctx context.Context, a Access, origin string) (string, error) {
	if err := h.Admit(ctx, a, origin); err != nil {
		return "", err
	}
	opens, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	return h.o.EventTickets.MintFor(a.Session, a.Grant, string(opens))
}

// SessionTicket returns a ticket to open a socket of a session with, in which somebody has
// signed in, where neither cookie nor message can be sent. It is good once, for
// token.EventTicketLife, and until the session gets another secret.
func (h *Hub) SessionTicket(s session.Session) (string, error) {
	return h.o.EventTickets.Mint(s.Handle, Binding(&s))
}

// RedeemSession spends a ticket of SessionTicket; ok is false if it is another one, which
// Redeem may know. A ticket that is of no use any more is a Refusal.
func (h *Hub) RedeemSession(ctx context.Context, ticket string) (visit session.Visit, ok bool, err error) {
	t, err := h.o.EventTickets.Peek(ticket)
	if err != nil || t.Opens != "" || t.Binding == "" {
		return visit, false, nil
	}
	s, err := h.o.Sessions.GetAnew(ctx, t.Handle)
	if errors.Is(err, session.ErrNotFound) || err == nil && Binding(&s) != t.Binding {
		return visit, true, refusedTicket
	}
	if err == nil {
		err = h.o.EventTickets.Spend(ctx, t)
	}
	if errors.Is(err, token.ErrInvalid) {
		err = refusedTicket
	}
	return session.Visit{Handle: s.Handle, Session: &s}, true, err
}

// Redeem spends a ticket and returns what it opens, and its id. A stream that was opened
// with it may come again with the id of the last event that it was sent, as browsers do
// by themselves (HTML, 9.2.3): only who has heard the stream knows that.
func (h *Hub) Redeem(ctx context.Context, ticket, lastEvent, origin string) (Access, string, error) {
	if m, ok := h.readMark(lastEvent); ok && m.Access != nil && m.Ticket != "" && m.Ticket == ticketName(ticket) {
		return *m.Access, m.Ticket, h.Admit(ctx, *m.Access, origin)
	}
	t, err := h.o.EventTickets.Peek(ticket)
	if err != nil || t.Opens == "" {
		return Access{}, "", refusedTicket
	}
	var a Access
	if err := json.Unmarshal([]byte(t.Opens), &a); err != nil {
		return a, "", fmt.Errorf("what a ticket opens: %w", err)
	}
	// Whoever may not use it does not use it up.
	if err := h.Admit(ctx, a, origin); err != nil {
		return a, "", err
	}
	if err := h.o.EventTickets.Spend(ctx, t); err != nil {
		if errors.Is(err, token.ErrInvalid) {
			err = refusedTicket
		}
		return a, "", err
	}
	return a, ticketName(ticket), nil
}

// readClient is the state of a session as a client sees it.
func (h *Hub) readClient(ctx context.Context, sess session.Session, a *Access) (*state, error) {
	view, err := h.o.Grants.View(ctx, *a)
	if errors.Is(err, ErrEnded) {
		return signedOut, nil
	}
	if err != nil {
		return signedOut, err
	}
	return &state{encoded: view.Claims, handle: sess.Handle, began: sess.Created, network: session.Network(sess.Address), access: a, view: view}, nil
}

// openWith makes the socket belong to the session of an access token.
func (h *Hub) openWith(ctx context.Context, s *Socket, signed, proof string) {
	a, err := h.o.Grants.Open(ctx, signed, proof)
	if err == nil {
		err = h.Admit(ctx, a, s.origin)
	}
	now := h.o.Clock.Now()
	if refusal, ok := errors.AsType[Refusal](err); ok {
		s.fail(now, string(refusal))
		return
	}
	if err != nil {
		if !errors.Is(err, store.ErrAway) {
			h.o.Log.Warn("an access token of a socket could not be checked", "err", err)
		}
		s.fail(now, "The access token could not be checked. Please try again.")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.left || h.closed {
		return
	}
	if g, _ := s.belongs(); g != nil && g.key == a.key() {
		// What it was shown holds; from now on it hangs on this token.
		s.access = &a
		s.send(frame(now, TypeAuthenticated, nil))
		return
	}
	if h.full(a.Session) {
		s.fail(now, "This session has too many sockets.")
		return
	}
	h.unbindLocked(s)
	s.mu.Lock()
	s.unproven, s.shown = false, nil
	s.mu.Unlock()
	s.send(frame(now, TypeAuthenticated, nil))
	s.access = &a
	h.bindLocked(s, a.Session)
}

// endRevoked closes the sockets of a client that came with a token which was revoked.
func (h *Hub) endRevoked(g *group) {
	var ended []*Socket
	h.mu.Lock()
	for s := range g.sockets {
		if h.revoked(g.current.view, *s.access) {
			ended = append(ended, s)
		}
	}
	h.mu.Unlock()
	out := frame(h.o.Clock.Now(), TypeLoggedOut, nil)
	for _, s := range ended {
		s.send(out)
		s.close(ClosePolicy, "access ended")
	}
}
