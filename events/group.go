package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"login-server/clock"
	"login-server/session"
	"login-server/store"
	"login-server/token"
)

const (
	// renewBefore is how long before a token expires its successor is sent.
	renewBefore = 3 * time.Second
	// retryAfter is when the state of a session is read again after the store failed.
	retryAfter = time.Second
	// readTimeout is how long the store may take to answer.
	readTimeout = 10 * time.Second
	// maxWorkers is how many sessions are read at once.
	maxWorkers = 32
)

// group is the sockets of one session that are told the same: those of the older
// protocol, or those of one client. It has been forgotten once it has none.
type group struct {
	handle string
	// key is the handle; for sockets of a client that, and what access they have.
	key string
	// access is that of the client, without the token; nil for the older protocol.
	access *Access

	// All of these are the hub's, guarded by its mutex.

	sockets map[*Socket]bool
	// fresh are sockets that have joined since the others were last shown something.
	fresh []*Socket
	users []string // under which the group is found in Hub.users
	// expires is when the session ends, as far as is known; zero when nobody is signed in.
	expires time.Time
	// anew is when the group was last made to look at what the store has, and not memory.
	// spread, from 0 to 1, tells groups of the same age apart.
	anew   time.Time
	spread float32
	// dirty: look again; running: a worker does, or is about to.
	dirty, running bool
	// removed: the session was ended from elsewhere; due: it is time for the next token.
	removed, due   bool
	renewal, retry clock.Timer
	renewAt        time.Time // of renewal

	// Only the worker that runs the group uses these.

	current *state
	// token is the latest one signed for the group's sockets.
	token *issued
	// behind: not all sockets have been shown current; overdue: nor the next token.
	behind, overdue bool
}

// state is what a session looks like to its sockets. States are compared by pointer.
type state struct {
	encoded []byte // the user, as JSON; nil when nobody is signed in
	// claims is what tokens say of the user when that is more than encoded, else nil. It
	// must not stand in any other message.
	claims []byte
	// handle and began tell sessions apart, also those that follow each other under one handle.
	handle  string
	began   time.Time
	network string // from where the person has signed in
	// access is that of a client, whose claims encoded holds then, and view what it sees
	// beside them.
	access *Access
	view   View
	// asked is the token last made for a client that asked for one.
	asked atomic.Pointer[issued]
}

var signedOut = &state{}

// same tells whether two states differ in nothing.
func (st *state) same(other *state) bool {
	return st.sameSession(other) && st.network == other.network && bytes.Equal(st.encoded, other.encoded) && bytes.Equal(st.claims, other.claims)
}

// sameSession tells whether two states are of one session. st may be nil.
func (st *state) sameSession(other *state) bool {
	return st != nil && st.handle == other.handle && st.began.Equal(other.began)
}

// issued is a token and the state it was made for.
type issued struct {
	token.Token
	at    time.Time
	life  time.Duration
	keyID string
	state *state
}

// remaining is the token with what is left of its life.
func (t *issued) remaining(now time.Time) token.Token {
	left := t.Token
	left.ExpiresIn -= int(now.Sub(t.at) / time.Second)
	return left
}

// lookLocked makes sure that the group's state is read after now.
func (h *Hub) lookLocked(g *group) {
	if h.closed {
		return
	}
	g.dirty = true
	if g.running {
		return
	}
	g.running = true
	h.queue = append(h.queue, g)
	if h.workers < maxWorkers {
		h.workers++
		go h.work()
	}
}

func (h *Hub) look(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.aliveLocked(g) {
		h.lookLocked(g)
	}
}

// work runs the groups in the queue and ends when there is none.
func (h *Hub) work() {
	for {
		h.mu.Lock()
		if len(h.queue) == 0 {
			h.queue = nil
			h.workers--
			h.mu.Unlock()
			return
		}
		g := h.queue[0]
		h.queue[0], h.queue = nil, h.queue[1:]
		h.mu.Unlock()
		h.run(g)
	}
}

// run shows the group's state to its sockets until nothing has changed meanwhile.
func (h *Hub) run(g *group) {
	for {
		h.mu.Lock()
		if !g.dirty || !h.aliveLocked(g) {
			g.running = false
			h.mu.Unlock()
			return
		}
		g.dirty = false
		removed := g.removed
		g.removed = false
		g.overdue = g.overdue || g.due
		g.due = false
		h.mu.Unlock()

		err := h.endRemoved(g, removed)
		if err == nil {
			err = h.bringUpToDate(g)
		}
		if err != nil {
			if !errors.Is(err, store.ErrAway) && !h.failing.Swap(true) { // of that the store itself speaks
				h.o.Log.Warn("sockets are not told of changes until the session can be read", "err", err)
			}
			h.retryLater(g)
		} else if h.failing.Swap(false) {
			h.o.Log.Info("sessions of sockets can be read again")
		}
	}
}

// all lists the sockets of a group; the hub is locked.
func (g *group) all() []*Socket {
	sockets := make([]*Socket, 0, len(g.sockets))
	for s := range g.sockets {
		sockets = append(sockets, s)
	}
	return sockets
}

// retryLater looks at the group again after a failure.
func (h *Hub) retryLater(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g.retry != nil || !h.aliveLocked(g) || h.closed {
		return
	}
	g.retry = h.o.Clock.AfterFunc(retryAfter, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		g.retry = nil
		if h.aliveLocked(g) {
			h.lookLocked(g)
		}
	})
}

// endRemoved closes the sockets of a session that was removed. That a hint says so is not
// enough: other nodes send hints, and the session may stand.
func (h *Hub) endRemoved(g *group, removed bool) error {
	if !removed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	sess, err := h.o.Sessions.Get(ctx, g.handle)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil && !errors.Is(err, session.ErrNotFound):
		g.removed = true // the next look will know
		return err
	case err == nil && (g.current == nil || g.current == signedOut || g.current.began.Equal(sess.Created)):
		return nil
	}
	message := frame(h.o.Clock.Now(), TypeLoggedOut, nil)
	for s := range g.sockets {
		s.send(message)
		s.close(ClosePolicy, "session removed")
	}
	return nil
}

// bringUpToDate reads the state of the group and shows it to the sockets that
// have not been shown it. After an error it is called again.
func (h *Hub) bringUpToDate(g *group) error {
	next, err := h.read(g)
	if err != nil {
		return err
	}
	if g.current != nil && g.access != nil && next != signedOut && g.current.same(next) {
		g.current.view = next.view
	}
	if !g.current.same(next) {
		// What a provider gave to act in the person's name may be good for nothing any
		// more, or not be wanted any more: applications are to have the next token at once.
		g.overdue = g.overdue || g.current.sameSession(next) && !bytes.Equal(g.current.claims, next.claims)
		g.current, g.behind = next, true
	}
	h.mu.Lock()
	sockets := g.fresh
	if g.behind || g.overdue {
		sockets = g.all()
	}
	g.fresh = nil
	h.mu.Unlock()
	if err := h.show(g, sockets); err != nil {
		g.behind = true
		return err
	}
	g.behind, g.overdue = false, false
	if g.access != nil && g.current != signedOut {
		h.endRevoked(g)
	}
	return nil
}

// read returns the state of the group's session as it is now, and sees to it that
// the group hears of changes to it.
func (h *Hub) read(g *group) (*state, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	for {
		st, users, expires := signedOut, []string(nil), time.Time{}
		var sess session.Session
		var err error
		if g.access == nil {
			sess, err = h.o.Sessions.Get(ctx, g.handle)
		} else {
			sess, err = h.o.Sessions.Began(ctx, g.handle, g.access.Began)
		}
		if err == nil {
			st, users, err = h.readUser(ctx, sess, g.access)
			expires = sess.Expires
		}
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			return nil, err
		}
		h.mu.Lock()
		heard := slices.Equal(g.users, users)
		if h.aliveLocked(g) {
			g.expires = expires
			if !heard {
				h.listLocked(g, users)
			}
		} else {
			heard = true
		}
		h.mu.Unlock()
		if heard {
			return st, nil
		}
		// What has changed before the group was listed, it has not heard of.
	}
}

// readUser returns the state of a session, as a client sees it if access is not nil, and
// the accounts on whose changes it depends.
func (h *Hub) readUser(ctx context.Context, sess session.Session, access *Access) (*state, []string, error) {
	account, users, err := h.o.Users.Trace(ctx, sess.UserID)
	if err != nil || account.Disabled {
		return signedOut, users, err
	}
	if access != nil {
		st, err := h.readClient(ctx, sess, access)
		return st, users, err
	}
	encoded, err := json.Marshal(account.User())
	if err != nil {
		return signedOut, users, err
	}
	claims, err := h.o.Users.Claims(account)
	if err != nil {
		return signedOut, users, err
	}
	return &state{encoded: encoded, claims: claims, handle: sess.Handle, began: sess.Created, network: session.Network(sess.Address)}, users, nil
}

// show tells each of the sockets what it has not been told.
func (h *Hub) show(g *group, sockets []*Socket) error {
	now := h.o.Clock.Now()
	if g.current == signedOut {
		h.stopRenewal(g)
		out := frame(now, TypeLoggedOut, nil)
		for _, s := range sockets {
			var asked bool
			s.tell(g, func() {
				asked, s.pending, s.asked = s.asked, false, false
				s.unproven = true
				if s.shown != signedOut {
					s.shown = signedOut
					s.sendLocked(out)
				}
				if g.access != nil {
					// Who signs in here next has allowed this client nothing yet.
					asked = false
					s.closeLocked(ClosePolicy, "access ended")
				}
			})
			if asked {
				h.answerToken(s, signedOut, now)
			}
		}
		return nil
	}

	var t *issued
	keyID, lacking := h.o.Tokens.KeyID(), g.overdue
	for _, s := range sockets {
		lacks, until := s.lacksToken(g.current, keyID, now)
		lacking = lacking || lacks
		if !lacks && !until.IsZero() {
			h.renewBy(g, until)
		}
	}
	if lacking {
		var err error
		if t, err = h.tokenOf(g); err != nil {
			return err
		}
	}
	user := map[string]any{"user": json.RawMessage(g.current.encoded)}
	if g.access != nil {
		user["sid"] = g.handle
	}
	in := sync.OnceValue(func() []byte { return frame(now, TypeLoggedIn, user) })
	updated := sync.OnceValue(func() []byte { return frame(now, TypeUpdated, user) })
	signed := sync.OnceValue(func() []byte { return frame(now, TypeToken, t.remaining(now)) })
	tellAll(sockets, func(s *Socket) {
		var asked bool
		s.tell(g, func() {
			before := s.shown
			newcomer := !before.sameSession(g.current)
			changed := !newcomer && !bytes.Equal(before.encoded, g.current.encoded)
			owed := newcomer // a token
			if newcomer && s.returnedTo(g.current) {
				newcomer, changed = false, s.stream.resumed.User != fingerprint(g.current.encoded)
				owed, _ = s.lacksTokenLocked(g.current, keyID, now)
			}
			switch {
			case s.unproven && s.network != g.current.network:
				// It came with an anonymous cookie and from elsewhere than the person
				// who has signed in since. If it is the same browser after all, it
				// comes back with the new cookie.
				s.shown = signedOut
				s.closeLocked(ClosePolicy, "please connect again")
				return
			case owed && t == nil:
				return // it has come back just now, and its turn comes once more
			}
			s.shown, s.unproven = g.current, false
			switch {
			case newcomer:
				s.sendLocked(in())
			case changed:
				s.sendLocked(updated())
			}
			if s.stream != nil {
				s.stream.resumed = nil
			}
			asked, s.pending, s.asked = s.asked, false, false
			if owed || g.overdue {
				asked = false // it gets its token here
				s.sendLocked(signed())
			}
		})
		if asked { // it was away for so short a time that nothing is new to it
			h.answerToken(s, g.current, now)
		}
	})
	return nil
}

// crowd is how many sockets make it worth while to share them among processors.
const crowd = 64

// tellAll calls tell for each of the sockets, for many of them on all processors.
func tellAll(sockets []*Socket, tell func(*Socket)) {
	if len(sockets) <= crowd {
		for _, s := range sockets {
			tell(s)
		}
		return
	}
	var wg sync.WaitGroup
	share := (len(sockets) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	for part := range slices.Chunk(sockets, share) {
		wg.Go(func() {
			for _, s := range part {
				tell(s)
			}
		})
	}
	wg.Wait()
}

// tell runs do, which sends what the socket does not know yet, unless the socket
// has left the group.
func (s *Socket) tell(g *group, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.group == g && !s.closing {
		do()
	}
}

// tokenOf returns the token of the group's present state. One is signed per
// session and period, whatever the number of sockets, and the next one is sent to
// all of them shortly before it expires.
func (h *Hub) tokenOf(g *group) (*issued, error) {
	now := h.o.Clock.Now()
	if t := g.token; t != nil && !g.overdue && t.state == g.current && t.keyID == h.o.Tokens.KeyID() && now.Sub(t.at) < t.period() {
		return t, nil
	}
	t, err := h.sign(g.current, now)
	if err != nil {
		return nil, err
	}
	g.token = t
	h.renewBy(g, now.Add(t.period()))
	return g.token, nil
}

// period is after how long a token is followed by the next.
func (t *issued) period() time.Duration { return max(t.life-renewBefore, time.Second) }

// renewBy sees to it that the sockets of a group get their next token at a time, or
// earlier: if a timer is on that ends before, other sockets hold a token that expires
// earlier.
func (h *Hub) renewBy(g *group, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.aliveLocked(g) || h.closed || g.renewal != nil && !at.Before(g.renewAt) {
		return
	}
	stop(&g.renewal)
	g.renewAt = at
	var timer clock.Timer
	timer = h.o.Clock.AfterFunc(at.Sub(h.o.Clock.Now()), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if g.renewal != timer {
			return // another one has taken its place
		}
		g.renewal = nil
		if h.aliveLocked(g) {
			g.due = true
			h.lookLocked(g)
		}
	})
	g.renewal = timer
}

// sign makes a token for a state.
func (h *Hub) sign(st *state, now time.Time) (*issued, error) {
	keyID := h.o.Tokens.KeyID()
	if st.access != nil {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		t, err := h.o.Grants.Sign(ctx, *st.access)
		return &issued{Token: t, at: now, life: time.Duration(t.ExpiresIn) * time.Second, keyID: keyID, state: st}, err
	}
	var user any
	switch {
	case st.claims != nil:
		user = json.RawMessage(st.claims)
	case st != signedOut:
		user = json.RawMessage(st.encoded)
	}
	t, err := h.o.Tokens.Sign(user, "")
	return &issued{Token: t, at: now, life: h.o.Tokens.ExpiresIn(), keyID: keyID, state: st}, err
}

func (h *Hub) stopRenewal(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stop(&g.renewal)
	g.due, g.overdue, g.token = false, false, nil
}
