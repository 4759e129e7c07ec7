package events

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"login-server/clock"
	"login-server/identity"
	"login-server/session"
	"login-server/token"
)

// ErrTooMany: the session or the address has as many sockets as it may have, or
// the hub is closed.
var ErrTooMany = errors.New("too many sockets")

// Options are what a Hub needs.
type Options struct {
	Sessions *session.Manager
	Users    *identity.Directory
	Tokens   *token.Manager
	Tickets  *token.Tickets
	// Grants and EventTickets are for clients of the OpenID Provider; nil: there are none.
	Grants       Grants
	EventTickets *token.Tickets
	// Marks seals the ids of events in streams; nil: there are no streams.
	Marks *token.Sealer
	// Heard tells whether the bus brings what other nodes say at this moment. nil: there are
	// no other nodes.
	Heard func() bool
	Clock clock.Clock
	Log   *slog.Logger
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
// told, and sends the difference (group.go). Hints only say that it should look
// again.
//
// Hub.mu may be held when Socket.mu is taken, never the other way round. Neither
// is held while the store is asked or a token is signed.
type Hub struct {
	o   Options
	bus Bus

	mu      sync.Mutex
	groups  map[string]*group          // by their keys
	clients map[string]map[*group]bool // those of clients, by the handle of their session
	users   map[string]map[*group]bool // by the ids of the accounts that lead to the session's user
	loose   map[*Socket]bool           // sockets of no session
	network map[string]int             // sockets by session.Network of their address
	sockets int
	closed  bool
	queue   []*group // waiting for a worker
	workers int
	checks  [4]clock.Timer
	// told counts what all sockets were told; it changes under mu.
	told atomic.Int64

	dropped atomic.Int64
	failing atomic.Bool            // the store did not answer when it was last asked
	nobody  atomic.Pointer[issued] // the token of nobody
}

// NewHub returns a hub that hears of changes on bus.
func NewHub(o Options, bus Bus) *Hub {
	h := &Hub{
		o:       o,
		bus:     bus,
		groups:  map[string]*group{},
		clients: map[string]map[*group]bool{},
		users:   map[string]map[*group]bool{},
		loose:   map[*Socket]bool{},
		network: map[string]int{},
	}
	bus.Subscribe(h.Hear)
	bus.CountSockets(h.ownSockets)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.every(0, o.CheckEvery, h.checkExpiry)
	h.every(1, o.IdleTimeout/2, h.checkIdle)
	if o.Heard != nil {
		h.every(2, time.Second, h.checkUnheard)
		h.every(3, checkLost, h.checkOverlooked)
	}
	return h
}

const (
	// unheardFor is how long what a group shows may be out of date, but for a second, while
	// no bus tells of changes.
	unheardFor = 4 * time.Second
	// overlookedFor is after how long a group is looked at of which nobody has said anything,
	// and up to twice that, so that not all are at once: who changes something can die before
	// saying so. checkLost is how often that is gone into.
	overlookedFor = 2 * time.Minute
	checkLost     = 10 * time.Second
)

// every calls check again and again until the hub is closed; never if period is zero.
func (h *Hub) every(i int, period time.Duration, check func()) {
	if period <= 0 || h.closed {
		return
	}
	h.checks[i] = h.o.Clock.AfterFunc(period, func() {
		check()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.every(i, period, check)
	})
}

// Hear takes a hint: caches forget what it names, and groups it concerns look again.
func (h *Hub) Hear(hint Hint) {
	if hint.Session != "" {
		h.o.Sessions.Forget(hint.Session)
	}
	if hint.User != "" {
		h.o.Users.Forget(hint.User)
	}
	if hint.Ticket != "" {
		h.o.Tickets.SpentElsewhere(hint.Ticket)
	}
	if hint.Everything {
		h.o.Sessions.ForgetAll()
		h.o.Users.ForgetAll()
	}
	if h.o.Grants != nil && (hint.Grant != "" || hint.Client != "" || hint.Everything) {
		h.o.Grants.Forget(hint)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.o.Clock.Now()
	if hint.Session != "" {
		if g := h.groups[hint.Session]; g != nil {
			g.removed = g.removed || hint.Removed
			h.anewLocked(g, now)
		}
		for g := range h.clients[hint.Session] {
			g.removed = g.removed || hint.Removed
			h.anewLocked(g, now)
		}
	}
	if hint.User != "" {
		for g := range h.users[hint.User] {
			h.anewLocked(g, now)
		}
	}
	if hint.Client != "" {
		for _, groups := range h.clients {
			for g := range groups {
				if g.access.Client == hint.Client {
					h.anewLocked(g, now)
				}
			}
		}
	}
	if hint.Everything {
		for _, g := range h.groups {
			h.anewLocked(g, now)
		}
	}
}

// anewLocked looks at a group of which memory has been made to forget all.
func (h *Hub) anewLocked(g *group, now time.Time) {
	g.anew = now
	h.lookLocked(g)
}

// checkUnheard looks at all groups, again and again, while no bus tells of what other
// nodes do.
func (h *Hub) checkUnheard() {
	if !h.o.Heard() {
		h.lookBefore(unheardFor, false)
	}
}

// checkOverlooked looks at groups of which the bus has said nothing for long.
func (h *Hub) checkOverlooked() { h.lookBefore(overlookedFor, true) }

// lookBefore looks at the groups whose state was not read from the store for so long; if
// they are to be spread, at some of them later.
func (h *Hub) lookBefore(age time.Duration, spread bool) {
	now := h.o.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		wait := age
		if spread {
			wait += time.Duration(g.spread * float32(age))
		}
		if now.Sub(g.anew) < wait {
			continue
		}
		h.o.Sessions.Forget(g.handle)
		for _, id := range g.users {
			h.o.Users.Forget(id)
		}
		if g.access != nil {
			h.o.Grants.Forget(Hint{Grant: g.access.Grant, Client: g.access.Client})
		}
		h.anewLocked(g, now)
	}
}

// Entry is how a connection comes to the hub.
type Entry struct {
	// Address is where it comes from.
	Address string
	// Visit is what its cookie says. Access, if there is one, takes its place.
	Visit  session.Visit
	Access *Access
	// Origin is that of the page, if it may be one of a client only.
	Origin string

	// Stream: it is a stream. LastEventID is what the client has heard last, if it has
	// heard anything, and Ticket the id of the ticket with which it came.
	Stream              bool
	LastEventID, Ticket string
}

// Join adds a socket. With the handle of a visit it belongs to that session at
// once. It is sent the greeting; the client may send from now on.
//
// The caller passes every message to Receive and calls Leave when the connection
// has ended, however that came about.
func (h *Hub) Join(ctx context.Context, conn Conn, address string, visit session.Visit) (*Socket, error) {
	return h.Enter(ctx, conn, Entry{Address: address, Visit: visit})
}

// Enter is Join for all that can come.
func (h *Hub) Enter(ctx context.Context, conn Conn, e Entry) (*Socket, error) {
	now, network, visit := h.o.Clock.Now(), session.Network(e.Address), e.Visit
	var greeting [][]byte
	s := &Socket{hub: h, conn: conn, network: network, origin: e.Origin, access: e.Access, lastMessage: now.UnixMilli(), unproven: visit.Session == nil}
	handle := visit.Handle
	if e.Access != nil {
		handle, s.unproven = e.Access.Session, false
	} else if handle != "" && visit.Session == nil {
		// An anonymous cookie is no proof for a session in which somebody has signed in. Not
		// from memory: if they have signed out on another node, the cookie is theirs.
		if _, err := h.o.Sessions.GetAnew(ctx, handle); err == nil {
			handle = ""
		} else if !errors.Is(err, session.ErrNotFound) {
			return nil, err
		}
	}
	standing := TypeAuthenticated
	if handle == "" {
		s.shown, standing = signedOut, TypeLoggedOut
	}
	s.stream = h.newStream(e, groupKey(handle, e.Access))
	back := s.stream != nil && s.stream.resumed != nil
	if back && s.stream.resumed.LoggedOut {
		s.shown, s.stream.resumed = signedOut, nil
	}

	h.lockWith(func() {
		greeting = [][]byte{
			frame(now, TypeOpen, nil),
			frame(now, TypeAbout, h.o.About()),
			frame(now, TypeProviders, h.o.Providers()),
			frame(now, standing, nil),
		}
		if back {
			greeting = h.news(s.stream.mark, now)
		}
	})
	defer h.mu.Unlock()
	if h.closed || h.network[network] >= h.o.PerAddress || handle != "" && h.full(handle) {
		return nil, ErrTooMany
	}
	h.sockets++
	h.network[network]++
	s.send(greeting...)
	if handle == "" {
		h.loose[s] = true
	} else {
		h.bindLocked(s, handle)
	}
	return s, nil
}

// lockWith locks the hub after compose has made what is to be sent, which may take a
// look at the store. If all sockets are told of a change meanwhile, it is made again:
// who heard it afterwards would never know.
func (h *Hub) lockWith(compose func()) {
	for {
		told := h.told.Load()
		compose()
		h.mu.Lock()
		if h.told.Load() == told {
			return
		}
		h.mu.Unlock()
	}
}

// answer sends a socket what is true of the whole server now.
func (h *Hub) answer(s *Socket, kind string, data func() json.RawMessage) {
	var message []byte
	h.lockWith(func() { message = frame(h.o.Clock.Now(), kind, data()) })
	defer h.mu.Unlock()
	s.send(message)
}

// news is what is told of the whole server to a client that has been told before.
func (h *Hub) news(m mark, now time.Time) [][]byte {
	var news [][]byte
	if m.Key != fingerprint([]byte(h.o.Tokens.KeyID())) {
		news = append(news, frame(now, TypeAbout, h.o.About()))
	}
	if providers := frame(now, TypeProviders, h.o.Providers()); m.Providers != fingerprint(read(providers).Data) {
		news = append(news, providers)
	}
	return news
}

func (h *Hub) full(handle string) bool { return h.countLocked(handle) >= h.o.PerSession }

// countLocked counts the sockets of a session.
func (h *Hub) countLocked(handle string) int {
	n := 0
	if g := h.groups[handle]; g != nil {
		n = len(g.sockets)
	}
	for g := range h.clients[handle] {
		n += len(g.sockets)
	}
	return n
}

// groupKey is that of the sockets of a session, or of a client in it.
func groupKey(handle string, a *Access) string {
	if a != nil {
		return a.key()
	}
	return handle
}

// bindLocked makes a socket belong to a session, with the access that it has.
func (h *Hub) bindLocked(s *Socket, handle string) {
	key := groupKey(handle, s.access)
	g := h.groups[key]
	if g == nil {
		g = &group{handle: handle, key: key, sockets: map[*Socket]bool{}, anew: h.o.Clock.Now(), spread: rand.Float32()}
		h.groups[key] = g
		if s.access != nil {
			all := *s.access
			all.Token, all.Issued, all.Expires = "", time.Time{}, time.Time{}
			g.access = &all
			if h.clients[handle] == nil {
				h.clients[handle] = map[*group]bool{}
			}
			h.clients[handle][g] = true
		}
	}
	g.sockets[s] = true
	g.fresh = append(g.fresh, s)
	s.mu.Lock()
	s.group, s.pending = g, true
	s.mu.Unlock()
	h.lookLocked(g)
}

// unbindLocked takes a socket out of its session, and forgets the session with its last socket.
func (h *Hub) unbindLocked(s *Socket) {
	delete(h.loose, s)
	s.mu.Lock()
	g := s.group
	s.group, s.pending = nil, false
	s.mu.Unlock()
	if g == nil {
		return
	}
	delete(g.sockets, s)
	if i := slices.Index(g.fresh, s); i >= 0 {
		g.fresh = slices.Delete(g.fresh, i, i+1)
	}
	if len(g.sockets) == 0 {
		delete(h.groups, g.key)
		if g.access != nil {
			if delete(h.clients[g.handle], g); len(h.clients[g.handle]) == 0 {
				delete(h.clients, g.handle)
			}
		}
		h.listLocked(g, nil)
		stop(&g.renewal)
		stop(&g.retry)
	}
}

// aliveLocked tells whether a group has sockets: without, it has been forgotten.
func (h *Hub) aliveLocked(g *group) bool { return h.groups[g.key] == g }

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
	s.closing, s.queue, s.farewell = true, nil, nil
	s.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.left {
		return
	}
	s.left = true
	h.unbindLocked(s)
	h.sockets--
	if h.network[s.network]--; h.network[s.network] <= 0 {
		delete(h.network, s.network)
	}
}

// checkExpiry warns the sockets of sessions that are about to expire, and looks
// again at those that have.
func (h *Hub) checkExpiry() {
	now := h.o.Clock.Now()
	var soon []*group
	h.mu.Lock()
	for _, g := range h.groups {
		if !g.expires.IsZero() && g.expires.Sub(now) <= h.o.WarnBefore {
			soon = append(soon, g)
		}
	}
	h.mu.Unlock()
	for _, g := range soon {
		h.warn(g, now)
	}
}

func (h *Hub) warn(g *group, now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
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
	now := h.o.Clock.Now().UnixMilli()
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.loose {
		if now-s.heard() >= h.o.IdleTimeout.Milliseconds() {
			s.close(ClosePolicy, "idle")
		}
	}
}

// KeysChanged tells all clients of the new public key, and those of signed-in
// sessions their token, signed with it.
func (h *Hub) KeysChanged() {
	var about []byte
	h.lockWith(func() { about = frame(h.o.Clock.Now(), TypeAbout, h.o.About()) })
	defer h.mu.Unlock()
	h.sendAllLocked(about)
	for _, g := range h.groups {
		g.due = true
		h.lookLocked(g)
	}
}

// ProvidersChanged tells all clients of the providers as they are now.
func (h *Hub) ProvidersChanged() {
	var message []byte
	h.lockWith(func() { message = frame(h.o.Clock.Now(), TypeProviders, h.o.Providers()) })
	defer h.mu.Unlock()
	h.sendAllLocked(message)
}

// ClaimsChanged looks again at all sessions, because tokens may have to say something
// else of people whose accounts are as they were.
func (h *Hub) ClaimsChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		h.lookLocked(g)
	}
}

// sendAllLocked sends a message to every socket of the node.
func (h *Hub) sendAllLocked(message []byte) {
	h.told.Add(1)
	for s := range h.loose {
		s.send(message)
	}
	for _, g := range h.groups {
		for s := range g.sockets {
			s.send(message)
		}
	}
}

// Sockets counts the open sockets of each session in handles, on all nodes. Those of
// nodes that do not answer at once are left out.
func (h *Hub) Sockets(ctx context.Context, handles ...string) map[string]int {
	counts := h.ownSockets(handles...)
	for handle, n := range h.bus.SocketsElsewhere(ctx, handles...) {
		counts[handle] += n
	}
	return counts
}

// ownSockets counts those that this node holds.
func (h *Hub) ownSockets(handles ...string) map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := make(map[string]int, len(handles))
	for _, handle := range handles {
		if n := h.countLocked(handle); n > 0 {
			counts[handle] = n
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
	sessions := len(h.groups)
	for handle, groups := range h.clients {
		sessions -= len(groups)
		if h.groups[handle] == nil {
			sessions++
		}
	}
	return Stats{Sockets: h.sockets, Sessions: sessions, Dropped: h.dropped.Load()}
}

// Close sends every socket a close frame; clients connect again, to whatever
// answers then. No socket can join any more.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	for i := range h.checks {
		stop(&h.checks[i])
	}
	all := make([]*Socket, 0, h.sockets)
	for s := range h.loose {
		all = append(all, s)
	}
	for _, g := range h.groups {
		stop(&g.renewal)
		stop(&g.retry)
		for s := range g.sockets {
			all = append(all, s)
		}
	}
	h.mu.Unlock()
	for _, s := range all {
		s.close(CloseGoingAway, "the server is restarting")
	}
}

// stop stops a timer, if there is one, and forgets it.
func stop(t *clock.Timer) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
}
