package events

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"login-server/clock"
	"login-server/identity"
	"login-server/session"
	"login-server/token"
)

// ErrTooMany: the session or the address has as many sockets as it may have.
var ErrTooMany = errors.New("too many sockets")

const (
	// renewBefore is how long before a token expires its successor is sent.
	renewBefore = 3 * time.Second
	// retryAfter is when the state of a session is read again after the store failed.
	retryAfter = time.Second
	// maxReaders is how many sessions are read at once.
	maxReaders = 32
)

// Options are what a Hub needs.
type Options struct {
	Sessions *session.Manager
	Users    *identity.Directory
	Tokens   *token.Manager
	Tickets  *token.Tickets
	Clock    clock.Clock
	Log      *slog.Logger
	// About and Providers return the data of the events of that name.
	About, Providers func() json.RawMessage

	// WarnBefore is how long before its end a session's sockets hear of it, and
	// CheckEvery how often the hub looks.
	WarnBefore, CheckEvery time.Duration
	// IdleTimeout closes sockets that belong to no session and say nothing.
	IdleTimeout time.Duration
	// PerSession and PerAddress limit the sockets.
	PerSession, PerAddress int
}

// Hub holds the open sockets of one node, grouped by session. It is safe for
// concurrent use.
//
// What a group's sockets are shown is decided by one goroutine at a time, which
// reads the session and its user, compares that with what each socket has been
// told, and sends the difference. Hints only say that it should look again.
type Hub struct {
	o       Options
	readers chan struct{}

	mu      sync.Mutex
	groups  map[string]*group
	users   map[string]map[*group]bool // by the id of the account, and of the session's user
	loose   map[*Socket]bool           // sockets of no session
	network map[string]int             // sockets by session.Network of their address
	sockets int
	closed  bool

	dropped atomic.Int64
	nobody  atomic.Pointer[issued] // the token of nobody
}

// group is the sockets of one session.
type group struct {
	handle  string
	sockets map[*Socket]bool
	users   []string // under which it is found in Hub.users
	// expires is when the session ends, as far as is known.
	expires time.Time

	dirty, running, removed bool

	// Only the goroutine that runs the group uses these.
	current *state
	token   *issued
	renewal clock.Timer
}

// state is what a session looks like to its sockets. States are compared by pointer.
type state struct {
	user    *identity.User // nil when nobody is signed in
	encoded []byte
	network string // from where the person has signed in
	// asked is the token last made for a client that asked for one.
	asked atomic.Pointer[issued]
}

var signedOut = &state{}

// issued is a token and the state it was made for.
type issued struct {
	token.Token
	at    time.Time
	state *state
}

// NewHub returns a hub that hears of changes on bus.
func NewHub(o Options, bus Bus) *Hub {
	h := &Hub{
		o:       o,
		readers: make(chan struct{}, maxReaders),
		groups:  map[string]*group{},
		users:   map[string]map[*group]bool{},
		loose:   map[*Socket]bool{},
		network: map[string]int{},
	}
	bus.Subscribe(h.hear)
	o.Clock.AfterFunc(o.CheckEvery, h.checkExpiry)
	o.Clock.AfterFunc(o.IdleTimeout/2, h.checkIdle)
	return h
}

// hear takes a hint: caches forget what it names, and groups it concerns look again.
func (h *Hub) hear(hint Hint) {
	switch {
	case hint.Session != "":
		h.o.Sessions.Forget(hint.Session)
	case hint.User != "":
		h.o.Users.Forget(hint.User)
	case hint.Everything:
		h.o.Sessions.ForgetAll()
		h.o.Users.ForgetAll()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case hint.Session != "":
		if g := h.groups[hint.Session]; g != nil {
			g.removed = g.removed || hint.Removed
			h.lookLocked(g)
		}
	case hint.User != "":
		for g := range h.users[hint.User] {
			h.lookLocked(g)
		}
	case hint.Everything:
		for _, g := range h.groups {
			h.lookLocked(g)
		}
	}
}

// Join adds a socket. With the handle of a visit it belongs to that session at
// once. It is sent the greeting; the client may send from now on.
//
// The caller passes every message to Receive and calls Leave when the connection
// has ended, however that came about.
func (h *Hub) Join(ctx context.Context, conn Conn, address string, visit session.Visit) (*Socket, error) {
	now, network := h.o.Clock.Now(), session.Network(address)
	// Made before the hub is locked: it may take a look at the store.
	about, providers := frame(now, TypeAbout, h.o.About()), frame(now, TypeProviders, h.o.Providers())
	s := &Socket{hub: h, conn: conn, network: network, lastMessage: now, unproven: visit.Session == nil}
	handle := visit.Handle
	if handle != "" && visit.Session == nil {
		// An anonymous cookie is no proof for a session in which somebody has signed in.
		if _, err := h.o.Sessions.Get(ctx, handle); err == nil {
			handle = ""
		} else if !errors.Is(err, session.ErrNotFound) {
			return nil, err
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.network[network] >= h.o.PerAddress || handle != "" && h.full(handle) {
		return nil, ErrTooMany
	}
	h.sockets++
	h.network[network]++
	s.send(frame(now, TypeOpen, nil))
	s.send(about)
	s.send(providers)
	if handle == "" {
		h.loose[s] = true
		s.shown = signedOut
		s.send(frame(now, TypeLoggedOut, nil))
		return s, nil
	}
	s.send(frame(now, TypeAuthenticated, nil))
	expires := visit.Issued
	if visit.Session != nil {
		expires = visit.Session.Expires
	}
	h.bindLocked(s, handle, expires)
	return s, nil
}

func (h *Hub) full(handle string) bool {
	g := h.groups[handle]
	return g != nil && len(g.sockets) >= h.o.PerSession
}

// bindLocked makes a socket belong to a session.
func (h *Hub) bindLocked(s *Socket, handle string, expires time.Time) {
	g := h.groups[handle]
	if g == nil {
		g = &group{handle: handle, sockets: map[*Socket]bool{}}
		h.groups[handle] = g
	}
	if expires.After(g.expires) {
		g.expires = expires
	}
	g.sockets[s] = true
	s.mu.Lock()
	s.group = g
	s.mu.Unlock()
	h.lookLocked(g)
}

// unbindLocked takes a socket out of its session, and forgets the session with its last socket.
func (h *Hub) unbindLocked(s *Socket) {
	delete(h.loose, s)
	s.mu.Lock()
	g := s.group
	s.group = nil
	s.mu.Unlock()
	if g == nil {
		return
	}
	delete(g.sockets, s)
	if len(g.sockets) == 0 {
		delete(h.groups, g.handle)
		h.listLocked(g, nil)
		h.lookLocked(g) // stops its timer
	}
}

// listLocked sets under which accounts a group is found.
func (h *Hub) listLocked(g *group, users []string) {
	for _, id := range g.users {
		delete(h.users[id], g)
		if len(h.users[id]) == 0 {
			delete(h.users, id)
		}
	}
	g.users = users
	for _, id := range users {
		if h.users[id] == nil {
			h.users[id] = map[*group]bool{}
		}
		h.users[id][g] = true
	}
}

// Leave removes a socket whose connection has ended.
func (h *Hub) Leave(s *Socket) {
	s.mu.Lock()
	s.closing = true
	s.queue = nil
	s.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unbindLocked(s)
	h.sockets--
	if h.network[s.network]--; h.network[s.network] <= 0 {
		delete(h.network, s.network)
	}
}

// lookLocked makes sure that the group's state is read after now.
func (h *Hub) lookLocked(g *group) {
	g.dirty = true
	if !g.running {
		g.running = true
		go h.run(g)
	}
}

func (h *Hub) look(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lookLocked(g)
}

// run shows the group's state to its sockets until nothing has changed meanwhile.
func (h *Hub) run(g *group) {
	h.readers <- struct{}{}
	defer func() { <-h.readers }()
	for {
		h.mu.Lock()
		if !g.dirty {
			g.running = false
			h.mu.Unlock()
			return
		}
		g.dirty = false
		removed := g.removed
		g.removed = false
		sockets := make([]*Socket, 0, len(g.sockets))
		for s := range g.sockets {
			sockets = append(sockets, s)
		}
		h.mu.Unlock()

		if len(sockets) == 0 {
			h.stopRenewal(g)
			continue
		}
		if removed {
			h.end(sockets)
		}
		if err := h.read(g); err != nil {
			h.o.Log.Warn("read session for its sockets", "err", err)
			h.o.Clock.AfterFunc(retryAfter, func() { h.look(g) })
			continue
		}
		h.show(g, sockets)
	}
}

// end closes the sockets of a session that was removed.
func (h *Hub) end(sockets []*Socket) {
	message := frame(h.o.Clock.Now(), TypeLoggedOut, nil)
	for _, s := range sockets {
		s.send(message)
		s.close(ClosePolicy, "session removed")
	}
}

// read brings g.current up to date with the store.
func (h *Hub) read(g *group) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	next := signedOut
	var ids []string
	var expires time.Time
	sess, err := h.o.Sessions.Get(ctx, g.handle)
	if err == nil {
		var account identity.Account
		account, err = h.o.Users.Get(ctx, sess.UserID)
		// Hints about the session's own user count even when that is gone or merged.
		ids = []string{sess.UserID}
		expires = sess.Expires
		if err == nil {
			if account.ID != sess.UserID {
				ids = append(ids, account.ID)
			}
			user := account.User()
			next = &state{user: &user, network: session.Network(sess.Address)}
			if next.encoded, err = json.Marshal(user); err != nil {
				return err
			}
		}
	}
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return err
	}
	if cur := g.current; cur != nil && next != signedOut && cur.network == next.network && bytes.Equal(cur.encoded, next.encoded) {
		next = cur
	}
	g.current = next

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups[g.handle] == g {
		h.listLocked(g, ids)
		if !expires.IsZero() {
			g.expires = expires
		}
	}
	return nil
}

// show tells each socket what it has not been told.
func (h *Hub) show(g *group, sockets []*Socket) {
	now := h.o.Clock.Now()
	if g.current == signedOut {
		h.stopRenewal(g)
		out := frame(now, TypeLoggedOut, nil)
		for _, s := range sockets {
			s.tell(g, func() {
				s.unproven = true
				if s.shown != signedOut {
					s.sendLocked(out)
				}
			})
		}
		return
	}

	var in, updated, signed []byte
	for _, s := range sockets {
		s.tell(g, func() {
			if s.unproven && s.network != g.current.network {
				// It came with an anonymous cookie and from elsewhere than the person
				// who has signed in since. If it is the same browser after all, it
				// comes back with the new cookie.
				s.shown = signedOut
				go s.close(ClosePolicy, "please connect again")
				return
			}
			s.unproven = false
			switch {
			case s.shown == g.current:
			case s.shown == nil || s.shown == signedOut:
				if in == nil {
					in = frame(now, TypeLoggedIn, map[string]any{"user": json.RawMessage(g.current.encoded)})
					if t, err := h.tokenOf(g); err != nil {
						h.o.Log.Error("sign token for sockets", "err", err)
					} else {
						signed = frame(now, TypeToken, remaining(t, now))
					}
				}
				s.sendLocked(in)
				if signed != nil {
					s.sendLocked(signed)
				}
			default:
				if updated == nil {
					updated = frame(now, TypeUpdated, map[string]any{"user": json.RawMessage(g.current.encoded)})
				}
				s.sendLocked(updated)
			}
		})
	}
}

// tell runs do, which sends what the socket does not know yet, and notes that the
// socket has been shown the group's state, unless it has left the group.
func (s *Socket) tell(g *group, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.group != g || s.closing {
		return
	}
	do()
	s.shown = g.current
}

// remaining is a token with what is left of its life.
func remaining(t *issued, now time.Time) token.Token {
	left := t.Token
	left.ExpiresIn -= int(now.Sub(t.at) / time.Second)
	return left
}

// tokenOf returns the token of the group's present state. One is signed per
// session and period, whatever the number of sockets; the next is sent to all of
// them shortly before it expires.
func (h *Hub) tokenOf(g *group) (*issued, error) {
	now := h.o.Clock.Now()
	life := h.o.Tokens.ExpiresIn()
	if g.token != nil && g.token.state == g.current && now.Sub(g.token.at) < life-renewBefore {
		return g.token, nil
	}
	t, err := h.o.Tokens.Sign(json.RawMessage(g.current.encoded), "")
	if err != nil {
		return nil, err
	}
	g.token = &issued{Token: t, at: now, state: g.current}
	if g.renewal != nil {
		g.renewal.Stop()
	}
	g.renewal = h.o.Clock.AfterFunc(life-renewBefore, func() { h.renew(g) })
	return g.token, nil
}

func (h *Hub) stopRenewal(g *group) {
	if g.renewal != nil {
		g.renewal.Stop()
	}
	g.renewal, g.token = nil, nil
}

// renew sends the sockets of a group the next token. It takes the group's turn, so
// that it does not meet a change of the session half-way.
func (h *Hub) renew(g *group) {
	h.mu.Lock()
	if g.running {
		// Whoever runs the group now may have changed its token: look again later.
		h.mu.Unlock()
		h.o.Clock.AfterFunc(100*time.Millisecond, func() { h.renew(g) })
		return
	}
	if h.groups[g.handle] != g {
		h.mu.Unlock()
		return
	}
	g.running = true
	sockets := make([]*Socket, 0, len(g.sockets))
	for s := range g.sockets {
		sockets = append(sockets, s)
	}
	h.mu.Unlock()

	now := h.o.Clock.Now()
	if g.token != nil && now.Sub(g.token.at) >= h.o.Tokens.ExpiresIn()-renewBefore {
		err := h.read(g)
		if err == nil && g.current != signedOut {
			var t *issued
			if t, err = h.tokenOf(g); err == nil {
				h.show(g, sockets)
				message := frame(now, TypeToken, t.Token)
				for _, s := range sockets {
					s.tell(g, func() { s.sendLocked(message) })
				}
			}
		} else if err == nil {
			h.show(g, sockets)
		}
		if err != nil {
			h.o.Log.Warn("renew token for sockets", "err", err)
			g.renewal = h.o.Clock.AfterFunc(retryAfter, func() { h.renew(g) })
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	g.running = false
	if g.dirty {
		h.lookLocked(g)
	}
}

// Receive handles a message from the client. It answers through the socket; false
// means that the connection is to be closed.
func (h *Hub) Receive(ctx context.Context, s *Socket, message []byte) bool {
	now := h.o.Clock.Now()
	if !s.allow(now) {
		s.close(ClosePolicy, "too many messages")
		return false
	}
	var m struct {
		Type  string `json:"type"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		s.fail(now, "Message could not be parsed.")
		return true
	}
	switch m.Type {
	case "ping":
		s.send(frame(now, TypePong, nil))
	case "authenticate":
		h.authenticate(ctx, s, m.Token)
	case "token":
		h.sendToken(s)
	case "about":
		s.send(frame(now, TypeAbout, h.o.About()))
	case "providers":
		s.send(frame(now, TypeProviders, h.o.Providers()))
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

// authenticate makes the socket belong to the session of a token from GET /token.
func (h *Hub) authenticate(ctx context.Context, s *Socket, signed string) {
	now := h.o.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	sealed, err := h.o.Tokens.SessionID(signed)
	if err != nil || sealed == "" {
		s.fail(now, "The token is invalid, has expired or carries no session.")
		return
	}
	ticket, err := h.o.Tickets.Peek(sealed)
	if err != nil {
		s.fail(now, "The token's session can be used for one minute only. Please get a new token.")
		return
	}
	s.mu.Lock()
	already := s.group != nil && s.group.handle == ticket.Handle
	s.mu.Unlock()
	if already {
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
	if Binding(current) != ticket.Binding {
		s.fail(now, "The token's session has changed. Please get a new token.")
		return
	}
	if err := h.o.Tickets.Spend(ctx, ticket); err != nil {
		s.fail(now, "The token's session has been used before. Please get a new token.")
		return
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full(ticket.Handle) {
		s.fail(now, "This session has too many sockets.")
		return
	}
	s.mu.Lock()
	closing := s.closing
	s.unproven = current == nil
	s.mu.Unlock()
	if closing {
		return
	}
	h.unbindLocked(s)
	s.send(frame(now, TypeAuthenticated, nil))
	expires := now
	if current != nil {
		expires = current.Expires
	}
	h.bindLocked(s, ticket.Handle, expires)
}

// sendToken answers a client that asks for a token.
func (h *Hub) sendToken(s *Socket) {
	now := h.o.Clock.Now()
	s.mu.Lock()
	shown := s.shown
	s.mu.Unlock()
	var t *issued
	var err error
	if shown == nil || shown == signedOut {
		t, err = h.asked(nil, &h.nobody, now)
	} else {
		t, err = h.asked(shown, &shown.asked, now)
	}
	if err != nil {
		h.o.Log.Error("sign token for a socket", "err", err)
		s.fail(now, "The token could not be made. Please try again.")
		return
	}
	s.send(frame(now, TypeToken, remaining(t, now)))
}

// asked returns a token for clients that ask for one, the same one for a tenth of
// its life. A state of nil is nobody's.
func (h *Hub) asked(st *state, last *atomic.Pointer[issued], now time.Time) (*issued, error) {
	if t := last.Load(); t != nil && now.Sub(t.at) < h.o.Tokens.ExpiresIn()/10 {
		return t, nil
	}
	var user any
	if st != nil {
		user = json.RawMessage(st.encoded)
	}
	signed, err := h.o.Tokens.Sign(user, "")
	if err != nil {
		return nil, err
	}
	t := &issued{Token: signed, at: now, state: st}
	last.Store(t)
	return t, nil
}

// checkExpiry warns the sockets of sessions that are about to expire, and looks
// again at those that have.
func (h *Hub) checkExpiry() {
	now := h.o.Clock.Now()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	var soon []*group
	for _, g := range h.groups {
		if g.expires.Sub(now) <= h.o.WarnBefore {
			soon = append(soon, g)
		}
	}
	h.mu.Unlock()
	for _, g := range soon {
		h.warn(g, now)
	}
	h.o.Clock.AfterFunc(h.o.CheckEvery, h.checkExpiry)
}

func (h *Hub) warn(g *group, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sess, err := h.o.Sessions.Get(ctx, g.handle)
	if err != nil {
		if errors.Is(err, session.ErrNotFound) {
			h.look(g)
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g.expires = sess.Expires
	if sess.Expires.Sub(now) > h.o.WarnBefore {
		return // it has been used meanwhile
	}
	message := frame(now, TypeSessionAboutToExpire, map[string]any{})
	for s := range g.sockets {
		s.send(message)
	}
}

// checkIdle closes sockets that belong to no session and have nothing to say.
func (h *Hub) checkIdle() {
	now := h.o.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for s := range h.loose {
		s.mu.Lock()
		idle := now.Sub(s.lastMessage)
		s.mu.Unlock()
		if idle >= h.o.IdleTimeout {
			s.close(ClosePolicy, "idle")
		}
	}
	h.o.Clock.AfterFunc(h.o.IdleTimeout/2, h.checkIdle)
}

// Sockets counts the open sockets of each session in handles that this node holds.
func (h *Hub) Sockets(handles ...string) map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := make(map[string]int, len(handles))
	for _, handle := range handles {
		if g := h.groups[handle]; g != nil {
			counts[handle] = len(g.sockets)
		}
	}
	return counts
}

// Stats are numbers for metrics.
type Stats struct {
	Sockets, Sessions int
	// Dropped counts sockets that did not keep up.
	Dropped int64
}

// Stats returns the hub's present numbers.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{Sockets: h.sockets, Sessions: len(h.groups), Dropped: h.dropped.Load()}
}

// Close sends every socket a close frame; clients connect again, to whatever
// answers then. No socket can join any more.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	all := make([]*Socket, 0, h.sockets)
	for s := range h.loose {
		all = append(all, s)
	}
	for _, g := range h.groups {
		for s := range g.sockets {
			all = append(all, s)
		}
	}
	h.mu.Unlock()
	for _, s := range all {
		s.close(CloseGoingAway, "the server is restarting")
	}
}
