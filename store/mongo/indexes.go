package mongo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/store"
)

const (
	// indexTimeout is how long the database may take to make an index over the documents
	// that are there already.
	indexTimeout = 30 * time.Minute
	// indexTries is how often indexes are asked for that another process makes as well.
	indexTries = 10
	// expiryGrace is for how long the database keeps what has expired by its own clock:
	// for nodes whose clocks are late, it has not.
	expiryGrace = 5 * time.Minute
)

// once makes something by one goroutine while all wait who need it, until it has succeeded.
type once struct {
	done    atomic.Bool
	mu      sync.Mutex
	attempt *attempt // under way
}

type attempt struct {
	ended chan struct{}
	err   error
}

// do returns when the thing is there. It starts run in the background, which goes on when
// ctx ends.
func (o *once) do(ctx context.Context, start func(func()), run func() error) error {
	if o.done.Load() {
		return nil
	}
	o.mu.Lock()
	a := o.attempt
	if a == nil && !o.done.Load() {
		a = &attempt{ended: make(chan struct{})}
		o.attempt = a
		start(func() {
			a.err = run()
			o.mu.Lock()
			defer o.mu.Unlock()
			o.done.Store(a.err == nil)
			o.attempt = nil
			close(a.ended)
		})
	}
	o.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.ended:
		return a.err
	case <-ctx.Done():
		return fmt.Errorf("indexes are being made: %w", ctx.Err())
	}
}

// prepare makes the indexes that writes of documents need, with unique keys or without: of
// each collection once in a process, and at no cost after that. Collections whose
// documents have no unique keys get no unique index, for MongoDB can shard only those by
// _id.
func (e *Engine) prepare(ctx context.Context, c *collection, unique bool) error {
	err := c.lookup.do(ctx, e.running.Go, func() error {
		expiry := options.Index()
		if e.expire {
			expiry.SetExpireAfterSeconds(int32(expiryGrace / time.Second))
		}
		return e.createIndexes(c, []mongo.IndexModel{
			{Keys: bson.D{{Key: fieldKeys, Value: 1}, {Key: fieldID, Value: 1}}},
			{Keys: bson.D{{Key: fieldExpires, Value: 1}}, Options: expiry},
		})
	})
	if err != nil || !unique {
		return err
	}
	return c.unique.do(ctx, e.running.Go, func() error {
		return e.createIndexes(c, []mongo.IndexModel{
			{Keys: bson.D{{Key: fieldUnique, Value: 1}}, Options: options.Index().SetUnique(true).SetSparse(true)},
		})
	})
}

// Prepare makes the indexes of a kind whose documents have unique keys. Writes do so by
// themselves, within the time of a call: good where nothing is, or only what was written
// here. Over what another program has left in a collection it takes longer, millions of
// documents some minutes; Prepare waits for that, as long as ctx lasts.
func (e *Engine) Prepare(ctx context.Context, kind string) error {
	if err := store.CheckKeys(kind); err != nil {
		return err
	}
	e.calls.RLock()
	defer e.calls.RUnlock()
	if e.closed.Load() {
		return ErrClosed
	}
	return failed(ctx, "make indexes of", kind, e.prepare(ctx, e.collection(kind), true))
}

// createIndexes does nothing for indexes that are there.
func (e *Engine) createIndexes(c *collection, models []mongo.IndexModel) error {
	ctx, cancel := context.WithTimeout(e.background, indexTimeout)
	defer cancel()
	o := options.CreateIndexes()
	if e.replicated {
		// Else a member that is down holds up everything. A stand-alone server does not
		// know the option.
		o.SetCommitQuorumMajority()
	}
	var err error
	for try := range indexTries {
		_, err = c.Indexes().CreateMany(ctx, models, o)
		switch {
		case err == nil:
			return nil
		case hasCode(err, codeIndexOptionsConflict, codeIndexKeySpecsConflict):
			return spoilt{fmt.Errorf("the collection %s has such an index with other options; drop that, and it is made anew: %v", c.Name(), err)}
		case hasCode(err, codeCannotCreateIndex):
			return spoilt{fmt.Errorf("the collection %s must not be sharded by _id, for its documents have unique keys: %v", c.Name(), err)}
		case !hasCode(err, codeNamespaceExists, codeWriteConflict, codeConflictingOperation):
			return err
		}
		// Another process makes the collection or its indexes at this moment.
		select {
		case <-time.After(time.Duration(try+1) * 10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
