package web

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/events"
	"login-server/oidc"
	"login-server/token"
)

// The events of the WebSocket as Server-Sent Events (HTML, 9.2), and tickets for those who
// can send neither a header nor a message.

func (s *Server) mountEventStream(r chi.Router) {
	r.Get(oidc.PathEvents, s.api(s.eventStream))
	r.Post(oidc.PathEventTicket, s.api(s.eventTicket))
}

// Errors of those who want to hear events.
var (
	errOriginRefused = &Error{Status: http.StatusForbidden, Code: "origin_refused", Message: "This origin is not allowed."}
	errTooMany       = &Error{Status: http.StatusTooManyRequests, Code: "too_many_streams", Message: "There are too many streams or sockets of this session or address.", RetryAfter: 60}
)

// refusedTicket is what the hub has against a ticket, or against the page that brings it.
func refusedTicket(err error) error {
	if refusal, ok := errors.AsType[events.Refusal](err); ok {
		return &Error{Status: http.StatusUnauthorized, Code: "ticket_refused", Message: string(refusal)}
	}
	return err
}

// pageOrigin is the origin of the page that asks, "" for none. own tells whether cookies
// of this server count for it; pages of clients are somebody else's.
func (s *Server) pageOrigin(r *http.Request) (origin string, own bool, err error) {
	origins := r.Header.Values("Origin")
	switch {
	case len(origins) == 0:
		return "", true, nil
	case len(origins) > 1:
		return "", false, errOriginRefused
	case s.Config.AllowedOrigin(origins[0]):
		return origins[0], true, nil
	case s.openid.AllowsOrigin(r.Context(), origins[0]):
		return origins[0], false, nil
	}
	return "", false, errOriginRefused
}

// entry finds out as whom somebody comes to hear events: with a ticket, or with a cookie.
func (s *Server) entry(r *http.Request) (events.Entry, error) {
	e := events.Entry{Address: clientAddress(r)}
	origin, own, err := s.pageOrigin(r)
	if err != nil {
		return e, err
	}
	e.Origin = origin
	if query := r.URL.Query(); query.Has("ticket") {
		// That of a session is for pages which may hear of it with the cookie as well.
		if own {
			visit, ok, err := s.hub.RedeemSession(r.Context(), query.Get("ticket"))
			if ok || err != nil {
				e.Visit = visit
				return e, refusedTicket(err)
			}
		}
		access, name, err := s.hub.Redeem(r.Context(), query.Get("ticket"), r.Header.Get("Last-Event-ID"), origin)
		if err != nil {
			return e, refusedTicket(err)
		}
		e.Access, e.Ticket = &access, name
		return e, nil
	}
	if own {
		v, err := s.visitor(r)
		if err != nil {
			return e, err
		}
		e.Visit = v.Visit
	}
	return e, nil
}

// eventTicket serves POST /events/ticket, for who has an access token.
func (s *Server) eventTicket(w http.ResponseWriter, r *http.Request) error {
	access, err := s.openid.EventAccess(r)
	if err != nil {
		s.openid.RefuseAccess(w, r, err)
		return nil
	}
	origin, _, err := s.pageOrigin(r)
	if err != nil {
		return err
	}
	ticket, err := s.hub.Ticket(r.Context(), access, origin)
	if refusal, ok := errors.AsType[events.Refusal](err); ok {
		s.openid.RefuseAccess(w, r, oidc.Refused(refusal))
		return nil
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"ticket": ticket, "expires_in": int(token.EventTicketLife / time.Second)})
	if err != nil {
		return err
	}
	writeBody(w, body)
	return nil
}

// eventStream serves GET /events: with an access token, a ticket, or the cookie.
func (s *Server) eventStream(w http.ResponseWriter, r *http.Request) error {
	var e events.Entry
	if r.Header.Get("Authorization") != "" {
		access, err := s.openid.EventAccess(r)
		if err != nil {
			s.openid.RefuseAccess(w, r, err)
			return nil
		}
		origin, _, err := s.pageOrigin(r)
		if err == nil {
			err = s.hub.Admit(r.Context(), access, origin)
		}
		if refusal, ok := errors.AsType[events.Refusal](err); ok {
			s.openid.RefuseAccess(w, r, oidc.Refused(refusal))
			return nil
		}
		if err != nil {
			return err
		}
		e = events.Entry{Address: clientAddress(r), Origin: origin, Access: &access}
	} else {
		// A picture or a script of another site brings the cookie, too. Its streams would
		// take the place of those that somebody listens to.
		if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") == "" && (site == "cross-site" || site == "same-site") {
			return errOriginRefused
		}
		var err error
		if e, err = s.entry(r); err != nil {
			return err
		}
		if e.Access == nil && e.Visit.Handle == "" {
			return errUnauthorized // it would never hear anything
		}
	}
	e.Stream, e.LastEventID = true, r.Header.Get("Last-Event-ID")

	// The connection is the hub's for as long as the request lasts.
	c := newStreamConn(w)
	defer c.finish()
	c.mu.Lock() // until the head is written
	socket, err := s.hub.Enter(r.Context(), c, e)
	if err != nil {
		c.ended = true
		c.mu.Unlock()
		if errors.Is(err, events.ErrTooMany) {
			return errTooMany
		}
		return err
	}
	defer s.hub.Leave(socket)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.WriteHeader(http.StatusOK)
	err = c.writeLocked([]byte("retry: 3000\n\n"), time.Now().Add(streamTimeout))
	c.mu.Unlock()
	for err == nil {
		ping := make(chan struct{})
		timer := s.Clock.AfterFunc(pingAfter+rand.N(pingSpread), func() { close(ping) })
		select {
		case <-r.Context().Done():
			err = r.Context().Err()
		case <-c.closed:
			err = errStreamEnded
		case <-ping:
			err = c.Write([]byte(": ping\n\n"), time.Now().Add(streamTimeout))
		}
		timer.Stop()
	}
	return nil
}

const (
	// A comment is sent so that nothing on the way takes the connection for dead: 15 to 25
	// seconds after the one before, not to all streams at once.
	pingAfter  = 15 * time.Second
	pingSpread = 10 * time.Second
	// streamTimeout is how long what the server itself writes to a stream may take.
	streamTimeout = 10 * time.Second
)

var errStreamEnded = errors.New("the stream has ended")

// streamConn is a stream as the hub sees it.
type streamConn struct {
	w       http.ResponseWriter
	control *http.ResponseController
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex // held while something is written
	ended bool       // the request is over

	// live guards control against a request that is over, for who does not wait for mu.
	live sync.Mutex
	over bool
}

// newStreamConn takes the deadlines of the server from the request: a stream lasts.
func newStreamConn(w http.ResponseWriter) *streamConn {
	c := &streamConn{w: w, control: http.NewResponseController(w), closed: make(chan struct{})}
	_ = c.control.SetReadDeadline(time.Time{})
	_ = c.control.SetWriteDeadline(time.Time{})
	return c
}

// Write implements events.Conn.
func (c *streamConn) Write(event []byte, deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeLocked(event, deadline)
}

func (c *streamConn) writeLocked(event []byte, deadline time.Time) error {
	if c.ended {
		return errStreamEnded
	}
	select {
	case <-c.closed: // it would take away the deadline that CloseNow has set
		return errStreamEnded
	default:
	}
	if err := c.control.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := c.w.Write(event); err != nil {
		return err
	}
	if err := c.control.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline ends the stream also when nothing is written.
	if err := c.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// Close implements events.Conn. There is no close frame: the response ends, and clients
// come back.
func (c *streamConn) Close(int, string) { c.once.Do(func() { close(c.closed) }) }

// CloseNow implements events.Conn. What is being written is given up.
func (c *streamConn) CloseNow() {
	c.once.Do(func() { close(c.closed) })
	c.live.Lock()
	defer c.live.Unlock()
	if !c.over {
		_ = c.control.SetWriteDeadline(time.Unix(1, 0))
	}
}

// finish is for the end of the request: nothing may be written after it.
func (c *streamConn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.live.Lock()
	defer c.live.Unlock()
	c.over = true
}

// isTicketPath tells where pages of clients get tickets; no cookie counts there.
func isTicketPath(path string) bool { return strings.TrimSuffix(path, "/") == oidc.PathEventTicket }
