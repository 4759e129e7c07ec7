// Package mongo is the store.Engine that many nodes share: MongoDB, as a stand-alone
// server, a replica set or a sharded cluster. It needs no transactions.
//
// Each kind has a collection (names.go), and each document of ours is one that people
// can read in a shell (document.go). The same collections may hold documents that
// another program wrote, which have no field _meta: no method sees those, and Insert
// puts its document in the place of one that has the same id.
//
// Writes are acknowledged by a majority of the members, each with its journal on disk,
// and reads go to the primary and see what a majority has: what was answered is not
// rolled back.
//
// A method that gets no answer within callTimeout, because a connection was lost or no
// server takes writes, returns store.ErrAway; nothing has to be done for it to work again
// when the database does. A write that fails with it may have happened, and may yet happen.
// A replica set and a sharded cluster are asked once more by the driver, and know a write
// that they have had already (retryable writes), so that the loss of one connection or of
// the primary costs no more than time. A stand-alone server does not. There, Insert and
// Replace look whether their version has arrived; Delete and Take cannot know, and fail.
// Who has to know reads the document.
package mongo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"login-server/store"
)

var _ store.Engine = (*Engine)(nil)

const (
	// callTimeout is how long one call of a method may take, with all that it asks of
	// the database.
	callTimeout = 5 * time.Second
	// selectionTimeout is how long to look for a server that takes writes. An election
	// in a replica set usually takes less.
	selectionTimeout = 3 * time.Second
	// maxConnections is how many requests one process has under way at each server,
	// unless the URI says otherwise; more of them wait.
	maxConnections = 100
	// maxConnecting is how many connections are being made at the same time: after a
	// failure all of them have to be made anew.
	maxConnecting = 8
	// maxIdle is for how long an unused connection stays open.
	maxIdle = 5 * time.Minute
)

// Options of Open; the zero value is good for one server alone.
type Options struct {
	// Now is the clock that expiry goes by. nil is time.Now, and only then the database
	// removes by itself what has expired.
	Now func() time.Time
	// Heard tells whether the other processes hear of writes in another way at this
	// moment. Watch tells them of those that were made while it was false. nil is never.
	Heard func() bool

	monitor *event.CommandMonitor // sees what the database is asked; for tests
}

// Engine is a store.Engine in a MongoDB database. Open returns one.
type Engine struct {
	client *mongo.Client
	db     *mongo.Database
	now    func() time.Time
	expire bool // the database removes what has expired
	heard  func() bool
	// replicated is false for a stand-alone server.
	replicated bool

	collections sync.Map // of kind to *collection
	changes     changes

	// background ends at Close, which waits for what runs until then.
	background context.Context
	stop       context.CancelFunc
	running    sync.WaitGroup

	// calls is held for reading by every call under way, and taken by Close.
	calls  sync.RWMutex
	closed atomic.Bool
}

// Open connects to a database, which MongoDB makes when the first document is written.
// It fails with a *StartError if the database cannot be reached or is not one that can be
// written to. Where the URI says something else about how to read and write than the
// package does (w, readPreference), the package wins.
func Open(ctx context.Context, uri, database string, o Options) (*Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := connect(uri, database, o.monitor)
	if err != nil {
		return nil, err
	}
	e := &Engine{client: c.client, db: c.client.Database(database), now: o.Now, expire: o.Now == nil, heard: o.Heard}
	if e.now == nil {
		e.now = time.Now
	}
	e.background, e.stop = context.WithCancel(context.Background())
	e.changes.init(e.db)
	clock := time.Now
	if o.Now != nil {
		clock = nil // whoever brings a clock wants another time
	}
	server, err := c.greet(ctx, clock)
	if err == nil {
		err = c.explain(ctx, e.changes.prepare(ctx))
	}
	if err != nil {
		e.stop()
		return nil, errors.Join(err, c.client.Disconnect(context.WithoutCancel(ctx)))
	}
	e.replicated = server.replicated()
	e.running.Go(e.announce)
	return e, nil
}

// clientOptions are how every client of this package talks to the database.
func clientOptions(uri string) *options.ClientOptions {
	journal := true
	concern := writeconcern.Majority()
	concern.Journal = &journal
	return options.Client().
		SetMaxPoolSize(maxConnections).SetMaxConnecting(maxConnecting).SetMaxConnIdleTime(maxIdle).
		SetConnectTimeout(selectionTimeout).SetServerSelectionTimeout(selectionTimeout).
		SetAppName("login-server").
		ApplyURI(uri).
		SetWriteConcern(concern).SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary())
}

// call runs what one method asks of the database.
func (e *Engine) call(ctx context.Context, what, kind string, run func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.calls.RLock()
	defer e.calls.RUnlock()
	if e.closed.Load() {
		return ErrClosed
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := run(limited)
	if deadline, ok := ctx.Deadline(); ok && mongo.IsTimeout(err) && time.Until(deadline) < early {
		return context.DeadlineExceeded
	}
	return failed(ctx, what, kind, err)
}

// early is by how much the driver or the database may notice that the caller's time is up
// before the context does.
const early = 250 * time.Millisecond

// write is call for what changes something. Once it has begun it goes on when ctx ends: a
// request that was given up could still be carried out, at any time. So an error of ctx means
// that nothing was written.
func (e *Engine) write(ctx context.Context, what, kind string, run func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return e.call(context.WithoutCancel(ctx), what, kind, func(ctx context.Context) error {
		err := run(ctx)
		if err == nil || !isVerdict(err) && unavailable(err) {
			e.wrote()
		}
		return err
	})
}

// Ping implements store.Engine: it asks a server that takes writes.
func (e *Engine) Ping(ctx context.Context) error {
	return e.call(ctx, "ping", "the database", func(ctx context.Context) error {
		return e.client.Ping(ctx, readpref.Primary())
	})
}

// Close waits for the calls under way, lets the other processes know of what was written,
// and releases the connections. A second call does nothing.
func (e *Engine) Close() error {
	e.calls.Lock()
	defer e.calls.Unlock()
	if e.closed.Swap(true) {
		return nil
	}
	e.stop()
	e.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	err := failed(ctx, "announce", "writes", e.changes.announce(ctx))
	return errors.Join(err, e.client.Disconnect(ctx))
}

// collection is where the documents of one kind are.
type collection struct {
	*mongo.Collection
	lookup, unique once // indexes
}

func (e *Engine) collection(kind string) *collection {
	if c, ok := e.collections.Load(kind); ok {
		return c.(*collection)
	}
	c, _ := e.collections.LoadOrStore(kind, &collection{Collection: e.db.Collection(collectionName(kind))})
	return c.(*collection)
}

// alive is a condition that documents past their expiry do not meet, and those without do.
func (e *Engine) alive() bson.E {
	return bson.E{Key: fieldExpires, Value: bson.D{{Key: "$not", Value: e.due().Value}}}
}

// due is a condition that documents past their expiry meet.
func (e *Engine) due() bson.E {
	return bson.E{Key: fieldExpires, Value: bson.D{{Key: "$lte", Value: bson.DateTime(e.now().UnixMilli())}}}
}

// ours is a condition that documents of other programs do not meet.
var ours = bson.E{Key: fieldVersion, Value: bson.D{{Key: "$exists", Value: true}}}

// isVerdict tells whether err is an answer of package store.
func isVerdict(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) ||
		errors.Is(err, store.ErrInvalid)
}

// failed tells what was tried when err was met; the errors of package store and of the
// caller's context stay as they are. It never names an id: some are secrets.
func failed(ctx context.Context, what, kind string, err error) error {
	switch {
	case err == nil:
		return nil
	case isVerdict(err), errors.Is(err, ErrClosed):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case unavailable(err):
		// Not wrapped: the deadline that has passed is none of the caller's.
		return fmt.Errorf("%s %s: %w: %v", what, kind, store.ErrAway, withoutQuotes(err))
	}
	return fmt.Errorf("%s %s: %w", what, kind, withoutQuotes(err))
}
