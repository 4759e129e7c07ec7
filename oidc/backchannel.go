package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"login-server/clock"
	"login-server/session"
	"login-server/store"
)

// Clients hear of the end of a session in which they were given something (OpenID
// Connect Back-Channel Logout 1.0).
//
// That a client has to be told is written down before it is given anything, as a
// participant of the session. When the session ends the participant becomes a letter in
// the outbox, and is gone once the client has it: one document, changed by
// compare-and-swap. What a crash leaves behind, and sessions that expire, are found by
// looking for participants whose session is gone.

// participant is a client that was given something in a session.
type participant struct {
	Client string `json:"client"`
	// Subject is what the client knows the person by.
	Subject string `json:"subject"`
	// Session and Began name the session: a handle alone lives on after signing out.
	Session string    `json:"session"`
	Began   time.Time `json:"began"`

	// Ended is when the end of the session was noticed; zero while it lives.
	Ended time.Time `json:"ended,omitzero"`
	// Due is when the client is told, at the earliest. Who tells it moves Due on first.
	Due      time.Time `json:"due,omitzero"`
	Attempts int       `json:"attempts,omitempty"`
	// Problem is what was wrong the last time.
	Problem string `json:"problem,omitempty"`
}

// keyEnded is the look-up key of the outbox.
const keyEnded = "ended"

func (x participant) index() store.Index {
	i := store.Index{Keys: []string{keySession(x.Session)}}
	if !x.Ended.IsZero() {
		i.Keys = append(i.Keys, keyEnded)
		i.Expires = x.Ended.Add(2 * logoutPeriod) // in case that nobody is there to give it up
	}
	return i
}

// id is the same for the same client, person and session.
func (x participant) id() string {
	sum := sha256.Sum256([]byte(x.Session + "\x00" + x.Began.UTC().Format(time.RFC3339Nano) + "\x00" + x.Client + "\x00" + x.Subject))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const (
	// logoutPeriod is how long a client is tried to be told.
	logoutPeriod = 24 * time.Hour
	// logoutTimeout is how long a client may take to answer, and logoutLease how long
	// nobody else tries meanwhile.
	logoutTimeout = 10 * time.Second
	logoutLease   = time.Minute
	// logoutLife is how long a logout token is good for (Back-Channel Logout, 2.4: at the
	// most two minutes are recommended).
	logoutLife = 2 * time.Minute
	// perClient is how many logout tokens a client is sent at the same time.
	perClient = 8
	// lookEvery is how often the outbox, and lookAt participants, are looked through.
	lookEvery = time.Minute
	lookAt    = 5000
)

// backoff is how long to wait after each failure; the last one holds for all that follow.
var backoff = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

// logoutEvent is the only member of events in a logout token (Back-Channel Logout, 2.4).
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// Logouts are the clients to tell of ends of sessions. Those who end sessions need no
// more of the provider than this; it is the provider that tells. It is safe for
// concurrent use.
type Logouts struct {
	participants *store.Collection[participant]
	known        *store.Cache[struct{}] // ids of participants that are written
	clock        clock.Clock
	log          *slog.Logger

	mu       sync.Mutex
	provider *Provider // that tells; nil where none does
	ctx      context.Context
	work     sync.WaitGroup
	lines    map[string]*line // by client
	waiting  map[string]bool  // ids in lines
	look     chan struct{}
	after    string // where the next look at the participants begins

	delivered, refused, failed, dropped atomic.Uint64

	// attempted is told of each attempt that has come to its end, by tests.
	attempted func(client string, err error)
}

// line is what waits to be sent to a client.
type line struct {
	ids     []string
	workers int
}

// NewLogouts returns those in engine.
func NewLogouts(engine store.Engine, c clock.Clock, log *slog.Logger) *Logouts {
	return &Logouts{
		participants: store.NewCollection(engine, "participant", participant.index),
		known:        store.NewCache[struct{}](100_000, time.Hour, c.Now),
		clock:        c, log: log,
		lines: map[string]*line{}, waiting: map[string]bool{},
		look:      make(chan struct{}, 1),
		attempted: func(string, error) {},
	}
}

// wantsLogout tells whether a client has said how to tell it of ends of sessions.
func (c *Client) wantsLogout() bool {
	return c.BackchannelLogoutURI != "" || c.FrontchannelLogoutURI != ""
}

// joins notes that a client is about to be given something in a session. It is written
// once for each session and client, and not at all for clients that want to hear nothing.
func (l *Logouts) joins(ctx context.Context, c *Client, g *grant) error {
	if !c.wantsLogout() || g.Session == "" {
		return nil
	}
	x := participant{Client: c.ClientID, Subject: g.Subject, Session: g.Session, Began: g.SessionBegan}
	_, err := l.known.Get(ctx, x.id(), func(ctx context.Context, id string) (struct{}, error) {
		_, err := l.participants.Insert(ctx, id, x)
		if errors.Is(err, store.ErrExists) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// of goes through the participants of a session, not of another one with its handle.
func (l *Logouts) of(ctx context.Context, s session.Session) iter.Seq2[store.Item[participant], error] {
	return func(yield func(store.Item[participant], error) bool) {
		for item, err := range l.participants.All(ctx, store.Query{Key: keySession(s.Handle)}) {
			if err == nil && !item.Value.Began.Equal(s.Created) {
				continue
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// Ended takes what has to be done when a session was ended: its clients will be told. It
// waits for the store, and for nobody else. What it fails to do is done within minutes.
func (l *Logouts) Ended(ctx context.Context, s session.Session) {
	ctx = context.WithoutCancel(ctx) // a browser that goes away does not undo the end
	var wg sync.WaitGroup
	for item, err := range l.of(ctx, s) {
		if err != nil {
			l.log.Warn("clients are told later of the end of a session", "err", err)
			break
		}
		wg.Go(func() { // all are written together
			if err := l.end(ctx, item.ID); err != nil {
				l.log.Warn("a client is told later of the end of a session", "client", item.Value.Client, "err", err)
			}
		})
	}
	wg.Wait()
	l.background(func(ctx context.Context, p *Provider) {
		if err := p.endGrants(ctx, s); err != nil && ctx.Err() == nil {
			l.log.Warn("grants of an ended session stay until they expire; they open nothing", "err", err)
		}
	})
}

// end puts a participant into the outbox.
func (l *Logouts) end(ctx context.Context, id string) error {
	item, err := l.participants.Update(ctx, id, func(x *participant) error {
		if x.Ended.IsZero() {
			x.Ended = l.clock.Now()
			x.Due = x.Ended
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // told already
	}
	if err == nil {
		l.queue(item.Value.Client, id)
	}
	return err
}

// background runs f where clients are told, and not at all elsewhere.
func (l *Logouts) background(f func(context.Context, *Provider)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return
	}
	ctx, p := l.ctx, l.provider
	l.work.Go(func() { f(ctx, p) })
}

// queue has a letter of the outbox delivered: by another worker of the client, as long as
// it has few. One client that hangs holds up no other.
func (l *Logouts) queue(client, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.waiting[id] {
		return
	}
	q := l.lines[client]
	if q == nil {
		q = &line{}
		l.lines[client] = q
	}
	q.ids, l.waiting[id] = append(q.ids, id), true
	if q.workers == perClient {
		return
	}
	q.workers++
	ctx, p := l.ctx, l.provider
	l.work.Go(func() {
		for id := l.next(client, q); id != ""; id = l.next(client, q) {
			p.deliver(ctx, id)
		}
	})
}

// next is what a worker takes from a line; when there is nothing the worker has gone.
func (l *Logouts) next(client string, q *line) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil { // the outbox keeps what is left
		for _, id := range q.ids {
			delete(l.waiting, id)
		}
		q.ids = nil
	}
	if len(q.ids) == 0 {
		if q.workers--; q.workers == 0 {
			delete(l.lines, client)
		}
		return ""
	}
	id := q.ids[0]
	q.ids = q.ids[1:]
	delete(l.waiting, id)
	return id
}

// Look has the outbox looked through, after somebody else has written to the store.
func (l *Logouts) Look() {
	select {
	case l.look <- struct{}{}:
	default:
	}
}

// Logouts are the clients to tell of ends of sessions.
func (p *Provider) Logouts() *Logouts { return p.logouts }

// TellLogouts tells clients of the ends of sessions until ctx ends.
func (p *Provider) TellLogouts(ctx context.Context) {
	l := p.logouts
	l.mu.Lock()
	l.provider, l.ctx = p, ctx
	l.mu.Unlock()
	defer l.work.Wait()
	defer func() {
		l.mu.Lock()
		l.ctx = nil // and nothing is begun any more
		l.mu.Unlock()
	}()
	tick := make(chan struct{}, 1)
	for whole := true; ; {
		if whole {
			if err := l.findEnded(ctx, p.o.Sessions); err != nil && ctx.Err() == nil {
				l.complain("look for ended sessions", err)
			}
		}
		if err := l.findDue(ctx); err != nil && ctx.Err() == nil {
			l.complain("look through the outbox of logout tokens", err)
		}
		timer := l.clock.AfterFunc(lookEvery, func() { tick <- struct{}{} })
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-tick:
			whole = true
		case <-l.look:
			whole = false
			if !timer.Stop() {
				<-tick
				whole = true
			}
		}
	}
}

// findDue queues what is due in the outbox.
func (l *Logouts) findDue(ctx context.Context) error {
	now := l.clock.Now()
	for item, err := range l.participants.All(ctx, store.Query{Key: keyEnded}) {
		if err != nil {
			return err
		}
		if !now.Before(item.Value.Due) {
			l.queue(item.Value.Client, item.ID)
		}
	}
	return nil
}

// findEnded puts participants into the outbox whose session has ended without a word: it
// has expired, or there was a crash. Each call looks at some, and the next one goes on.
func (l *Logouts) findEnded(ctx context.Context, sessions *session.Manager) error {
	for range lookAt / 1000 {
		items, err := l.participants.Find(ctx, store.Query{After: l.after, Limit: 1000})
		if err != nil {
			return err
		}
		for _, item := range items {
			x := item.Value
			if !x.Ended.IsZero() {
				continue
			}
			if _, err := sessions.Began(ctx, x.Session, x.Began); err == nil {
				continue
			} else if !errors.Is(err, session.ErrNotFound) {
				return err
			}
			if err := l.end(ctx, item.ID); err != nil {
				return err
			}
		}
		if len(items) < 1000 {
			l.after = ""
			return nil
		}
		l.after = items[len(items)-1].ID
	}
	return nil
}

// errTold: the client has answered, and that it could not do it. It makes no difference.
var errTold = errors.New("the client has refused the logout token")

// deliver tells a client, if it is still due and nobody else is at it.
func (p *Provider) deliver(ctx context.Context, id string) {
	l := p.logouts
	item, err := l.participants.Get(ctx, id)
	now := l.clock.Now()
	if err != nil || item.Value.Ended.IsZero() || now.Before(item.Value.Due) {
		l.ignore(ctx, err)
		return
	}
	c, err := p.clients.told(ctx, item.Value.Client)
	if errors.Is(err, errUnknownClient) || err == nil && c.BackchannelLogoutURI == "" {
		l.ignore(ctx, l.participants.Delete(ctx, id))
		return
	}
	if err != nil {
		l.ignore(ctx, err)
		return
	}
	item.Value.Attempts++
	item.Value.Due = now.Add(logoutLease)
	if item, err = l.participants.Replace(ctx, item); err != nil {
		l.ignore(ctx, err)
		return
	}
	x := item.Value
	err = p.tell(ctx, c, x)
	defer func() { l.attempted(x.Client, err) }()
	if ctx.Err() != nil {
		return // the server stops; the next one goes on when the lease is over
	}
	switch now := l.clock.Now(); {
	case err == nil, errors.Is(err, errTold):
		if err != nil {
			l.refused.Add(1)
			l.log.Warn("client has refused a logout token", "client", x.Client, "attempts", x.Attempts)
		} else {
			l.delivered.Add(1)
		}
		l.ignore(ctx, l.participants.Delete(ctx, id))
	case now.Sub(x.Ended) >= logoutPeriod:
		l.dropped.Add(1)
		l.log.Error("client could not be told of the end of a session", "client", x.Client, "attempts", x.Attempts, "err", err)
		l.ignore(ctx, l.participants.Delete(ctx, id))
	default:
		l.failed.Add(1)
		// The last attempt is at the end of the period.
		wait := min(backoff[min(x.Attempts, len(backoff))-1], x.Ended.Add(logoutPeriod).Sub(now))
		l.log.Warn("client not told yet of the end of a session", "client", x.Client, "attempts", x.Attempts, "again_in", wait, "err", err)
		item.Value.Due, item.Value.Problem = now.Add(wait), describe(err.Error())
		if _, err := l.participants.Replace(ctx, item); err != nil {
			l.ignore(ctx, err)
			return
		}
		l.clock.AfterFunc(wait, func() { l.queue(x.Client, id) })
	}
}

// ignore logs errors of the store that mean more than that somebody else was faster: the
// outbox is looked through again.
func (l *Logouts) ignore(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		l.complain("outbox of logout tokens", err)
	}
}

// complain logs what the store has against something; that it is away it says itself.
func (l *Logouts) complain(what string, err error) {
	if !errors.Is(err, store.ErrAway) {
		l.log.Error(what, "err", err)
	}
}

// tell sends a client its logout token (Back-Channel Logout, 2.5).
func (p *Provider) tell(ctx context.Context, c *Client, x participant) error {
	signed, err := p.logoutToken(c, x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, logoutTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.BackchannelLogoutURI, strings.NewReader(url.Values{"logout_token": {signed}}.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// The token goes to the address that is registered and nowhere else.
	client := *p.o.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the address, whose query is the client's
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // so that the connection can be used again
	switch answer.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return nil
	case http.StatusBadRequest:
		return errTold
	}
	return fmt.Errorf("the client has answered with status %d", answer.StatusCode)
}

// logoutToken makes a logout token (Back-Channel Logout, 2.4). Each attempt has its own.
func (p *Provider) logoutToken(c *Client, x participant) (string, error) {
	now := p.o.Clock.Now()
	payload, err := json.Marshal(map[string]any{
		"iss": p.o.Issuer, "aud": c.ClientID, "sub": x.Subject, "sid": x.Session,
		"iat": now.Unix(), "exp": now.Add(logoutLife).Unix(), "jti": random(),
		"events": map[string]any{logoutEvent: struct{}{}},
	})
	if err != nil {
		return "", err
	}
	return p.o.Tokens.SignJWT(c.IDTokenSignedResponseAlg, "logout+jwt", payload)
}

// endGrants revokes what was given for as long as a session lives. It opens nothing any
// more since the session has ended (see inForce).
func (p *Provider) endGrants(ctx context.Context, s session.Session) error {
	for item, err := range p.grants.All(ctx, store.Query{Key: keySession(s.Handle)}) {
		if err != nil {
			return err
		}
		if g := item.Value; g.Offline || g.Revoked || !g.SessionBegan.Equal(s.Created) {
			continue
		}
		if err := p.revoke(ctx, item.ID); err != nil {
			return err
		}
	}
	return nil
}

// PendingLogout is a client that has not been told yet of the end of a session.
type PendingLogout struct {
	Client   string    `json:"client"`
	Session  string    `json:"session"`
	Ended    time.Time `json:"ended"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next"`
	Problem  string    `json:"problem,omitempty"`
}

// Pending lists the outbox.
func (l *Logouts) Pending(ctx context.Context) iter.Seq2[PendingLogout, error] {
	return func(yield func(PendingLogout, error) bool) {
		for item, err := range l.participants.All(ctx, store.Query{Key: keyEnded}) {
			x := item.Value
			if !yield(PendingLogout{x.Client, x.Session, x.Ended, x.Attempts, x.Due, x.Problem}, err) {
				return
			}
		}
	}
}

// LogoutStats are numbers of this process: attempts by how they ended. Dropped were given
// up after a day.
type LogoutStats struct{ Delivered, Refused, Failed, Dropped uint64 }

// Stats returns the numbers.
func (l *Logouts) Stats() LogoutStats {
	return LogoutStats{l.delivered.Load(), l.refused.Load(), l.failed.Load(), l.dropped.Load()}
}

// Waiting counts the outbox.
func (l *Logouts) Waiting(ctx context.Context) (int, error) {
	return l.participants.Count(ctx, keyEnded)
}

// FrontChannel are the addresses that a browser has to load in frames to tell the clients
// of a session (OpenID Connect Front-Channel Logout 1.0, 2). They are asked for before the
// session ends.
func (p *Provider) FrontChannel(ctx context.Context, s session.Session) ([]string, error) {
	var frames []string
	for item, err := range p.logouts.of(ctx, s) {
		if err != nil {
			return nil, err
		}
		if !item.Value.Ended.IsZero() {
			continue
		}
		c, err := p.clients.get(ctx, item.Value.Client)
		if errors.Is(err, errUnknownClient) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c.FrontchannelLogoutURI == "" {
			continue
		}
		frame := withQuery(c.FrontchannelLogoutURI, url.Values{"iss": {p.o.Issuer}, "sid": {item.Value.Session}}.Encode())
		if !slices.Contains(frames, frame) {
			frames = append(frames, frame)
		}
	}
	return frames, nil
}
