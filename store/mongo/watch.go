package mongo

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// watchEvery is how often Watch looks for writes of other processes, and how often a
// process says at the most that it has written.
const watchEvery = time.Second

// changesID is the id of the one document with the counter.
const changesID = "changes"

// changes is the counter by which processes tell each other that they have written.
type changes struct {
	collection *mongo.Collection
	// pending is a write that the counter does not show yet; wake has announce look.
	pending atomic.Bool
	wake    chan struct{}

	// mu keeps ours in step with the counter.
	mu   sync.Mutex
	ours int64 // by how much this process has raised the counter
}

func (c *changes) init(db *mongo.Database) {
	c.collection = db.Collection(changesName)
	c.wake = make(chan struct{}, 1)
}

var changesFilter = bson.D{{Key: fieldID, Value: changesID}}

// prepare makes the counter. It is the first write to a database, and shows whether that
// takes any.
func (c *changes) prepare(ctx context.Context) error {
	_, err := c.collection.UpdateOne(ctx, changesFilter, bson.D{{Key: "$setOnInsert", Value: bson.D{{Key: "n", Value: int64(0)}}}},
		options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) {
		return nil // another process was faster
	}
	return err
}

// announce raises the counter, if something was written that it does not show.
func (c *changes) announce(ctx context.Context) error {
	if !c.pending.Swap(false) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.collection.UpdateOne(ctx, changesFilter, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: int64(1)}}}},
		options.UpdateOne().SetUpsert(true))
	if err != nil {
		// It may have been raised all the same, which then counts as another's write.
		c.pending.Store(true)
		return err
	}
	c.ours++
	return nil
}

// others is the part of the counter that other processes have made.
func (c *changes) others(ctx context.Context) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var counter struct {
		N int64 `bson:"n"`
	}
	err := c.collection.FindOne(ctx, changesFilter).Decode(&counter)
	return counter.N - c.ours, err
}

// wrote notes a write.
func (e *Engine) wrote() {
	if e.heard != nil && e.heard() {
		return
	}
	e.changes.pending.Store(true)
	select {
	case e.changes.wake <- struct{}{}:
	default:
	}
}

// announce tells the other processes of writes, from Open to Close, which tells of the last.
func (e *Engine) announce() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-e.changes.wake:
		case <-e.background.Done():
			return
		}
		ctx, cancel := context.WithTimeout(e.background, callTimeout)
		if err := e.changes.announce(ctx); err != nil {
			select { // it is tried again
			case e.changes.wake <- struct{}{}:
			default:
			}
		}
		cancel()
		select {
		case <-ticker.C:
		case <-e.background.Done():
			return
		}
	}
}

// Watch calls changed after another process has written to the database, such as another
// node or the command line, and could not be sure that its hints are heard. One call may
// stand for many writes. It notices a write within two seconds or so. It may also call
// changed when nothing was written, after a failure to ask: who cannot know must assume.
// Watch returns when ctx ends, or at Close.
func (e *Engine) Watch(ctx context.Context, changed func()) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var last int64
	known := false // last is
	for first := true; ; first = false {
		var now int64
		err := e.call(ctx, "watch", "changes", func(ctx context.Context) (err error) {
			now, err = e.changes.others(ctx)
			return err
		})
		if err == nil {
			if !first && (!known || now != last) {
				changed()
			}
			last, known = now, true
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		case <-e.background.Done():
			return
		}
	}
}
