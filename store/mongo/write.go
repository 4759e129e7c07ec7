package mongo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/store"
)

// newVersion is random, so that a document which was deleted and inserted again does not
// have a version that somebody has read before, and so that who wrote a document knows
// it again. 53 bits also survive a shell that takes every number for a float64.
func newVersion() int64 { return 1 + rand.Int64N(1<<53-1) }

// Several writers may be after the same id or unique key, or at removing the same expired
// document. Who has lost a round, because something was there that is gone when looked
// for, tries again after a pause; callTimeout ends it. It also ends what waits for a write
// of another to become visible: a duplicate is noticed at once, but a read sees what a
// majority has.
const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
)

// untilSettled calls try until it says that the outcome is known.
func untilSettled(ctx context.Context, try func() (settled bool, err error)) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if settled, err := try(); settled || err != nil {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return fmt.Errorf("others keep writing the same: %w", ctx.Err())
		}
	}
}

// Insert implements store.Engine.
func (e *Engine) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := doc.Check(kind); err != nil {
		return 0, err
	}
	doc.Version = newVersion()
	raw, err := encode(doc)
	if err != nil {
		return 0, fmt.Errorf("insert %s: %w", kind, err)
	}
	err = e.write(ctx, "insert", kind, func(ctx context.Context) error {
		c := e.collection(kind)
		if err := e.prepare(ctx, c, len(doc.Unique) > 0); err != nil {
			return err
		}
		return untilSettled(ctx, func() (bool, error) {
			_, err := c.InsertOne(ctx, raw)
			switch {
			case err == nil:
				return true, nil
			case mongo.IsDuplicateKeyError(err):
				return e.takePlace(ctx, c, doc, raw)
			}
			return arrived(ctx, c, doc.ID, doc.Version, err)
		})
	})
	if err != nil {
		return 0, err
	}
	return doc.Version, nil
}

// takePlace inserts a document where others have its id or unique keys, if none of those
// exists for us: all are expired, or the one with the id is another program's. That one is
// replaced and not deleted first, so that a crash between the two loses nothing.
func (e *Engine) takePlace(ctx context.Context, c *collection, doc store.Doc, raw bson.Raw) (settled bool, err error) {
	var place bson.D // the condition for the document to be replaced
	var expired []holder
	err = e.holders(ctx, c, doc, func(h holder) error {
		switch {
		case h.id == doc.ID && h.version == doc.Version:
			settled = true // the answer to this very Insert was lost
		case h.foreign:
			place = bson.D{{Key: fieldID, Value: h.id}, {Key: fieldVersion, Value: bson.D{{Key: "$exists", Value: false}}}}
		case !h.expired:
			return store.ErrExists
		case h.id == doc.ID:
			place = h.condition()
		default:
			expired = append(expired, h)
		}
		return nil
	})
	if settled || err != nil {
		return settled, err
	}
	if err := c.remove(ctx, expired); err != nil || place == nil {
		return false, err
	}
	result, err := c.ReplaceOne(ctx, place, raw)
	switch {
	case err == nil:
		return result.MatchedCount == 1, nil
	case mongo.IsDuplicateKeyError(err):
		return false, nil
	}
	return arrived(ctx, c, doc.ID, doc.Version, err)
}

// Replace implements store.Engine.
func (e *Engine) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := doc.Check(kind); err != nil {
		return 0, err
	}
	old := doc.Version
	doc.Version = newVersion()
	raw, err := encode(doc)
	if err != nil {
		return 0, fmt.Errorf("replace %s: %w", kind, err)
	}
	err = e.write(ctx, "replace", kind, func(ctx context.Context) error {
		c := e.collection(kind)
		if err := e.prepare(ctx, c, len(doc.Unique) > 0); err != nil {
			return err
		}
		return untilSettled(ctx, func() (bool, error) {
			result, err := c.ReplaceOne(ctx, bson.D{{Key: fieldID, Value: doc.ID}, {Key: fieldVersion, Value: old}, e.alive()}, raw)
			switch {
			case err == nil && result.MatchedCount == 1:
				return true, nil
			case err == nil:
				return e.whyNotReplaced(ctx, c, doc.ID, old, doc.Version)
			case mongo.IsDuplicateKeyError(err):
				return false, e.freeKeys(ctx, c, doc)
			}
			return arrived(ctx, c, doc.ID, doc.Version, err)
		})
	})
	if err != nil {
		return 0, err
	}
	return doc.Version, nil
}

// whyNotReplaced tells what became of a document that does not have the version any more
// which was to be replaced by another.
func (e *Engine) whyNotReplaced(ctx context.Context, c *collection, id string, old, replacement int64) (settled bool, err error) {
	h, err := e.holderOf(ctx, c, id)
	switch {
	case err != nil:
		return false, err
	case h.foreign || h.expired:
		return false, store.ErrNotFound
	case h.version == replacement:
		return true, nil // the answer to this very Replace was lost
	case h.version != old:
		return false, store.ErrConflict
	}
	return false, nil // a majority does not have the change yet
}

// freeKeys removes the expired documents that have unique keys of doc; store.ErrExists if
// another one has.
func (e *Engine) freeKeys(ctx context.Context, c *collection, doc store.Doc) error {
	var expired []holder
	err := e.holders(ctx, c, doc, func(h holder) error {
		switch {
		case h.id == doc.ID:
		case !h.expired:
			return store.ErrExists
		default:
			expired = append(expired, h)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.remove(ctx, expired)
}

// arrived looks whether a write that has failed with err has written its version all the
// same, if only the answer was lost.
func arrived(ctx context.Context, c *collection, id string, version int64, err error) (bool, error) {
	if !mongo.IsNetworkError(err) || ctx.Err() != nil {
		return false, err
	}
	found := c.FindOne(ctx, bson.D{{Key: fieldID, Value: id}, {Key: fieldVersion, Value: version}}, options.FindOne().SetProjection(onlyMeta)).Err()
	if found != nil {
		return false, err
	}
	return true, nil
}

// onlyMeta leaves out the data.
var onlyMeta = bson.D{{Key: fieldMeta, Value: 1}}

// holder is a document that has an id or unique key that another is to get.
type holder struct {
	id      string
	version int64
	foreign bool // without id and version
	expired bool
}

// condition is met by the document as it was read.
func (h holder) condition() bson.D {
	return bson.D{{Key: fieldID, Value: h.id}, {Key: fieldVersion, Value: h.version}}
}

func (e *Engine) holder(raw bson.Raw) (holder, error) {
	id, _ := raw.Lookup(fieldID).StringValueOK()
	m, err := decodeMeta(raw)
	if errors.Is(err, errForeign) {
		return holder{id: id, foreign: true}, nil
	}
	return holder{id: id, version: m.Version, expired: m.expired(e.now())}, err
}

// holders goes through the documents that have the id or a unique key of doc, until see fails.
func (e *Engine) holders(ctx context.Context, c *collection, doc store.Doc, see func(holder) error) error {
	filter := bson.D{{Key: fieldID, Value: doc.ID}}
	if len(doc.Unique) > 0 {
		filter = bson.D{{Key: "$or", Value: bson.A{filter, bson.D{{Key: fieldUnique, Value: bson.D{{Key: "$in", Value: doc.Unique}}}}}}}
	}
	cursor, err := c.Find(ctx, filter, options.Find().SetProjection(onlyMeta))
	if err != nil {
		return err
	}
	defer func() { _ = cursor.Close(ctx) }() // what counts is the error of reading
	for cursor.Next(ctx) {
		h, err := e.holder(cursor.Current)
		if err != nil {
			return err
		}
		if err := see(h); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// holderOf returns the document with an id, or store.ErrNotFound.
func (e *Engine) holderOf(ctx context.Context, c *collection, id string) (holder, error) {
	raw, err := c.FindOne(ctx, bson.D{{Key: fieldID, Value: id}}, options.FindOne().SetProjection(onlyMeta)).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return holder{}, store.ErrNotFound
	}
	if err != nil {
		return holder{}, err
	}
	return e.holder(raw)
}

// remove deletes documents that nobody has written since they were read.
func (c *collection) remove(ctx context.Context, documents []holder) error {
	for _, h := range documents {
		if _, err := c.DeleteOne(ctx, h.condition()); err != nil {
			return err
		}
	}
	return nil
}

// existing is the condition for the document with an id, if it exists.
func (e *Engine) existing(id string) bson.D {
	return bson.D{{Key: fieldID, Value: id}, ours, e.alive()}
}

// Delete implements store.Engine.
func (e *Engine) Delete(ctx context.Context, kind, id string) error {
	if err := store.CheckKeys(kind, id); err != nil {
		return err
	}
	return e.write(ctx, "delete", kind, func(ctx context.Context) error {
		result, err := e.collection(kind).DeleteOne(ctx, e.existing(id))
		if err == nil && result.DeletedCount == 0 {
			return store.ErrNotFound
		}
		return err
	})
}

// Take implements store.Engine.
func (e *Engine) Take(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := store.CheckKeys(kind, id); err != nil {
		return store.Doc{}, err
	}
	var doc store.Doc
	err := e.write(ctx, "take", kind, func(ctx context.Context) error {
		raw, err := e.collection(kind).FindOneAndDelete(ctx, e.existing(id)).Raw()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return store.ErrNotFound
		}
		if err != nil {
			return err
		}
		doc, err = decode(raw)
		return err
	})
	if err != nil {
		return store.Doc{}, err
	}
	return doc, nil
}

// sweepBatch is how many documents one write of Sweep removes.
const sweepBatch = 500

// Sweep implements store.Engine. Where the database removes what has expired by itself, by its
// own clock, it does nothing: a process whose clock was put ahead would sign everybody out.
func (e *Engine) Sweep(ctx context.Context) (int, error) {
	if e.expire {
		return 0, nil
	}
	var names []string
	err := e.call(ctx, "list", "collections", func(ctx context.Context) (err error) {
		names, err = e.db.ListCollectionNames(ctx, bson.D{{Key: "type", Value: "collection"}})
		return err
	})
	total := 0
	for _, name := range names {
		if !isCollectionName(name) {
			continue
		}
		for more := true; more; {
			swept := 0
			err := e.call(ctx, "sweep", name, func(ctx context.Context) (err error) {
				swept, more, err = e.sweep(ctx, e.db.Collection(name))
				return err
			})
			total += swept
			if err != nil {
				return total, err
			}
		}
	}
	return total, err
}

// sweep removes one batch, and tells whether there may be another. Of what it finds,
// somebody else may remove some.
func (e *Engine) sweep(ctx context.Context, c *mongo.Collection) (swept int, more bool, err error) {
	due := bson.D{e.due()}
	o := options.Find().SetProjection(bson.D{{Key: fieldID, Value: 1}}).SetLimit(sweepBatch).SetBatchSize(sweepBatch)
	cursor, err := c.Find(ctx, due, o)
	if err != nil {
		return 0, false, err
	}
	var found []struct {
		ID bson.RawValue `bson:"_id"`
	}
	if err := cursor.All(ctx, &found); err != nil || len(found) == 0 {
		return 0, false, err
	}
	ids := make(bson.A, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	result, err := c.DeleteMany(ctx, append(due, bson.E{Key: fieldID, Value: bson.D{{Key: "$in", Value: ids}}}))
	if err != nil {
		return 0, false, err
	}
	return int(result.DeletedCount), len(found) == sweepBatch, nil
}
