package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrAway: the database does not answer. Whatever was asked may be asked again soon; a
// write may or may not have happened. Engines of databases on other machines return it for
// a call that was lost, a Guard for all while nothing answers.
var ErrAway = errors.New("the database does not answer")

// GuardOptions are how a Guard behaves. Zero values are for production.
type GuardOptions struct {
	Now func() time.Time // nil is time.Now
	Log *slog.Logger     // nil is none
	// Timeout is how long a call may take; 0 is 4 seconds. Ping may take PingTimeout; 0 is
	// two seconds.
	Timeout, PingTimeout time.Duration
	// AskEvery is how often a database that is away is asked whether it is back; 0 is a
	// second, less than 0 at each call.
	AskEvery time.Duration
}

// Guard is an engine whose database may be away, refuse or hang: no call takes longer than
// it may, and once a database does not even answer a ping, calls fail at once, with
// ErrAway, until it does. The log has one line when that begins and one when it ends.
//
// An error of the database that answers pings is passed on as it is: something else is
// wrong, and waiting will not help.
type Guard struct {
	engine Engine
	o      GuardOptions

	away   atomic.Bool
	failed atomic.Uint64

	mu    sync.Mutex
	ping  *ping     // the one under way
	asked time.Time // when the latest one ended
	since time.Time // from when on the database is away
	lost  uint64    // of failed, before that
}

// ping is one question that several callers wait for.
type ping struct {
	done chan struct{}
	err  error
}

var _ Engine = (*Guard)(nil)

// NewGuard returns engine, guarded.
func NewGuard(engine Engine, o GuardOptions) *Guard {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 4 * time.Second
	}
	if o.PingTimeout == 0 {
		o.PingTimeout = 2 * time.Second
	}
	if o.AskEvery == 0 {
		o.AskEvery = time.Second
	}
	return &Guard{engine: engine, o: o}
}

// GuardStats are numbers for metrics.
type GuardStats struct {
	// Away: the database did not answer the last time.
	Away bool
	// Failed counts calls that failed because of that.
	Failed uint64
}

// Stats returns the present numbers.
func (g *Guard) Stats() GuardStats { return GuardStats{Away: g.away.Load(), Failed: g.failed.Load()} }

// answers asks the database whether it is there, and takes note of it. However many ask at
// once, it is one ping.
func (g *Guard) answers() bool {
	g.mu.Lock()
	p := g.ping
	if p != nil {
		g.mu.Unlock()
		<-p.done
		return p.err == nil
	}
	p = &ping{done: make(chan struct{})}
	g.ping = p
	g.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), g.o.PingTimeout)
	defer cancel()
	p.err = g.engine.Ping(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.o.Now()
	switch was := g.away.Load(); {
	case p.err != nil && !was:
		g.since, g.lost = now, g.failed.Load()
		g.away.Store(true)
		g.o.Log.Error("the database does not answer", "err", p.err)
	case p.err == nil && was:
		g.away.Store(false)
		g.o.Log.Info("the database answers again", "after", now.Sub(g.since), "failed_calls", g.failed.Load()-g.lost)
	}
	g.ping, g.asked = nil, now
	close(p.done)
	return p.err == nil
}

// back tells whether it is worth asking the database again that was away, and whether it
// answers: for all but the one who asks it is away until it does.
func (g *Guard) back() bool {
	g.mu.Lock()
	wait := g.ping != nil || g.o.Now().Sub(g.asked) < g.o.AskEvery
	g.mu.Unlock()
	return !wait && g.answers()
}

// call makes a call of the engine, which may take as long as timeout says; 0 is as long as ctx says.
func (g *Guard) call(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	if g.away.Load() && !g.back() {
		g.failed.Add(1)
		return ErrAway
	}
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		bounded, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	err := f(bounded)
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrConflict), errors.Is(err, ErrInvalid):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return err // the caller has gone
	case g.answers():
		if errors.Is(err, ErrAway) { // who answers the request leaves that to the store
			g.o.Log.Warn("a call to the database was lost", "err", err)
		}
		return err
	}
	g.failed.Add(1)
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// Get implements Engine.
func (g *Guard) Get(ctx context.Context, kind, id string) (doc Doc, err error) {
	err = g.call(ctx, g.o.Timeout, func(ctx context.Context) (err error) {
		doc, err = g.engine.Get(ctx, kind, id)
		return err
	})
	return doc, err
}

// GetUnique implements Engine.
func (g *Guard) GetUnique(ctx context.Context, kind, key string) (doc Doc, err error) {
	err = g.call(ctx, g.o.Timeout, func(ctx context.Context) (err error) {
		doc, err = g.engine.GetUnique(ctx, kind, key)
		return err
	})
	return doc, err
}

// Find implements Engine.
func (g *Guard) Find(ctx context.Context, kind string, q Query) (docs []Doc, err error) {
	err = g.call(ctx, g.o.Timeout, func(ctx context.Context) (err error) {
		docs, err = g.engine.Find(ctx, kind, q)
		return err
	})
	return docs, err
}

// Count implements Engine. It takes its time where there is much to count.
func (g *Guard) Count(ctx context.Context, kind, key string) (n int, err error) {
	err = g.call(ctx, 2*g.o.Timeout, func(ctx context.Context) (err error) {
		n, err = g.engine.Count(ctx, kind, key)
		return err
	})
	return n, err
}

// Insert implements Engine.
func (g *Guard) Insert(ctx context.Context, kind string, doc Doc) (version int64, err error) {
	err = g.call(ctx, g.o.Timeout, func(ctx context.Context) (err error) {
		version, err = g.engine.Insert(ctx, kind, doc)
		return err
	})
	return version, err
}

// Replace implements Engine.
func (g *Guard) Replace(ctx context.Context, kind string, doc Doc) (version int64, err error) {
	err = g.call(ctx, g.o.Timeout, func(ctx context.Context) (err error) {
		version, err = g.engine.Replace(ctx, kind, doc)
		return err
	})
	return version, err
}

// Delete implements Engine.
func (g *Guard) Delete(ctx context.Context, kind, id string) error {
	return g.call(ctx, g.o.Timeout, func(ctx context.Context) error { return g.engine.Delete(ctx, kind, id) })
}

// Take implements Engine.
func (g *Guard) Take(ctx context.Context, kind, id string) (doc Doc, err error) {
	err = g.call(ctx, g.o.Timeout, func(ctx context.Context) (err error) {
		doc, err = g.engine.Take(ctx, kind, id)
		return err
	})
	return doc, err
}

// Sweep implements Engine. Nobody waits for it.
func (g *Guard) Sweep(ctx context.Context) (n int, err error) {
	err = g.call(ctx, 0, func(ctx context.Context) (err error) {
		n, err = g.engine.Sweep(ctx)
		return err
	})
	return n, err
}

// Ping implements Engine.
func (g *Guard) Ping(context.Context) error {
	if g.away.Load() && g.back() || !g.away.Load() && g.answers() {
		return nil
	}
	return ErrAway
}

// Close implements Engine.
func (g *Guard) Close() error { return g.engine.Close() }
