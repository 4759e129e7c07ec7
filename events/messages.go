package events

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"login-server/session"
)

// Receive handles a message from the client. It answers through the socket; false
// means that the connection is to be dropped.
func (h *Hub) Receive(ctx context.Context, s *Socket, message []byte) bool {
	now := h.o.Clock.Now()
	if messages := s.count(now.UnixMilli()); messages > maxMessages {
		s.close(ClosePolicy, "too many messages")
		return messages <= 2*maxMessages // a client that minds the close frame may read it
	}
	var m struct {
		Type  string `json:"type"`
		Token string `json:"token"`
		// Proof is the DPoP proof of a token that is bound to a key.
		Proof string `json:"dpop"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		s.fail(now, "Message could not be parsed.")
		return true
	}
	switch m.Type {
	case "ping":
		s.send(frame(now, TypePong, nil))
	case "authenticate":
		h.authenticate(ctx, s, m.Token, m.Proof)
	case "token":
		h.sendToken(ctx, s)
	case "about":
		h.answer(s, TypeAbout, h.o.About)
	case "providers":
		h.answer(s, TypeProviders, h.o.Providers)
	default:
		s.fail(now, "Unknown message type.")
	}
	return true
}

func (s *Socket) fail(now time.Time, text string) {
	s.send(frame(now, TypeError, map[string]string{"message": text}))
}

// Binding is what a session's ticket is bound to: it changes with the secret.
func Binding(s *session.Session) string {
	if s == nil {
		return ""
	}
	return hex.EncodeToString(s.Secret[:8])
}

// authenticate makes the socket belong to the session of a token from GET /token, or of a
// client's access token.
func (h *Hub) authenticate(ctx context.Context, s *Socket, signed, proof string) {
	now := h.o.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sealed, err := h.o.Tokens.SessionID(signed)
	if err != nil && signed != "" && h.o.Grants != nil {
		h.openWith(ctx, s, signed, proof)
		return
	}
	if err != nil || sealed == "" {
		s.fail(now, "The token is invalid, has expired or carries no session.")
		return
	}
	ticket, err := h.o.Tickets.Peek(sealed)
	if err != nil {
		s.fail(now, "The token's session can be used for one minute only. Please get a new token.")
		return
	}
	if g, _ := s.belongs(); g != nil && g.key == ticket.Handle {
		// It has proved by its cookie what the ticket proves.
		s.send(frame(now, TypeAuthenticated, nil))
		return
	}
	sess, err := h.o.Sessions.Get(ctx, ticket.Handle)
	var current *session.Session
	switch {
	case err == nil:
		current = &sess
	case !errors.Is(err, session.ErrNotFound):
		s.fail(now, "The session could not be read. Please try again.")
		return
	}
	if err == nil && Binding(current) != ticket.Binding {
		// The sign-in for which it was made may have been on another node, a moment ago.
		if sess, err = h.o.Sessions.GetAnew(ctx, ticket.Handle); err != nil {
			current = nil
		}
	}
	if Binding(current) != ticket.Binding {
		s.fail(now, "The token's session has changed. Please get a new token.")
		return
	}
	if err := h.o.Tickets.Spend(ctx, ticket); err != nil {
		s.fail(now, "The token's session has been used before. Please get a new token.")
		return
	}
	h.bus.Publish(Hint{Ticket: ticket.ID}) // the others may be about to hand it out once more

	h.mu.Lock()
	defer h.mu.Unlock()
	if s.left || h.closed {
		return
	}
	if h.full(ticket.Handle) {
		s.fail(now, "This session has too many sockets.")
		return
	}
	h.unbindLocked(s)
	s.mu.Lock()
	s.unproven = current == nil
	if s.access != nil { // it was told what its client may know, which is something else
		s.access, s.shown = nil, nil
	}
	s.mu.Unlock()
	s.send(frame(now, TypeAuthenticated, nil))
	h.bindLocked(s, ticket.Handle)
}

// sendToken answers a client that asks for a token.
func (h *Hub) sendToken(ctx context.Context, s *Socket) {
	now := h.o.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	g, shown, pending := s.asks()
	if pending {
		return // it is about to be told who is signed in, and gets its token then
	}
	if g == nil || shown == nil {
		shown = signedOut
	}
	if shown.access != nil {
		if err := h.Admit(ctx, *shown.access, ""); errors.As(err, new(Refusal)) {
			h.look(g)
			return // which tells it
		} else if err != nil {
			s.fail(now, "The session could not be read. Please try again.")
			return
		}
	} else if shown != signedOut {
		// The session may have expired since the socket was last told of it.
		_, err := h.o.Sessions.Get(ctx, g.handle)
		switch {
		case errors.Is(err, session.ErrNotFound):
			defer h.look(g)
			shown = signedOut
		case err != nil:
			s.fail(now, "The session could not be read. Please try again.")
			return
		}
	}
	h.answerToken(s, shown, now)
}

// asks notes that the client has asked for a token if it cannot be said yet whose.
func (s *Socket) asks() (g *group, shown *state, pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = s.pending
	return s.group, s.shown, s.pending
}

func (h *Hub) answerToken(s *Socket, st *state, now time.Time) {
	t, err := h.asked(st, now)
	if err != nil {
		h.o.Log.Error("sign token for a socket", "err", err)
		s.fail(now, "The token could not be made. Please try again.")
		return
	}
	s.send(frame(now, TypeToken, t.remaining(now)))
}

// asked returns a token for clients that ask for one, the same one for a tenth of
// its life.
func (h *Hub) asked(st *state, now time.Time) (*issued, error) {
	last := &st.asked
	if st == signedOut { // which all hubs share
		last = &h.nobody
	}
	if t := last.Load(); t != nil && t.keyID == h.o.Tokens.KeyID() && now.Sub(t.at) < t.life/10 {
		return t, nil
	}
	t, err := h.sign(st, now)
	if err != nil {
		return nil, err
	}
	last.Store(t)
	return t, nil
}
