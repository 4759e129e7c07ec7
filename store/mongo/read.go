package mongo

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/store"
)

// Get implements store.Engine.
func (e *Engine) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	return e.one(ctx, kind, fieldID, id)
}

// GetUnique implements store.Engine.
func (e *Engine) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	return e.one(ctx, kind, fieldUnique, key)
}

// one asks for nothing but the key, which is the query that MongoDB answers fastest, and
// looks here whether the document exists.
func (e *Engine) one(ctx context.Context, kind, field, key string) (store.Doc, error) {
	if err := store.CheckKeys(kind, key); err != nil {
		return store.Doc{}, err
	}
	var doc store.Doc
	err := e.call(ctx, "read", kind, func(ctx context.Context) error {
		raw, err := e.collection(kind).FindOne(ctx, bson.D{{Key: field, Value: key}}).Raw()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return store.ErrNotFound
		}
		if err != nil {
			return err
		}
		doc, err = e.live(raw)
		return err
	})
	if err != nil {
		return store.Doc{}, err
	}
	return doc, nil
}

// live decodes a document; store.ErrNotFound if it has expired or is not ours.
func (e *Engine) live(raw bson.Raw) (store.Doc, error) {
	m, err := decodeMeta(raw)
	if errors.Is(err, errForeign) || err == nil && m.expired(e.now()) {
		return store.Doc{}, store.ErrNotFound
	}
	if err != nil {
		return store.Doc{}, err
	}
	return decode(raw)
}

// Find implements store.Engine.
func (e *Engine) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	for _, key := range []string{q.Key, q.After} {
		if key != "" {
			if err := store.CheckKeys(key); err != nil {
				return nil, err
			}
		}
	}
	if err := store.CheckKeys(kind); err != nil {
		return nil, err
	}
	filter := bson.D{ours, e.alive()}
	if q.Key != "" {
		filter[0] = bson.E{Key: fieldKeys, Value: q.Key}
	}
	beyond, direction := "$gt", 1
	if q.Descending {
		beyond, direction = "$lt", -1
	}
	if q.After != "" {
		filter = append(filter, bson.E{Key: fieldID, Value: bson.D{{Key: beyond, Value: q.After}}})
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	o := options.Find().SetSort(bson.D{{Key: fieldID, Value: direction}}).SetLimit(int64(limit)).SetBatchSize(int32(limit))

	var docs []store.Doc
	err := e.call(ctx, "find", kind, func(ctx context.Context) error {
		cursor, err := e.collection(kind).Find(ctx, filter, o)
		if err != nil {
			return err
		}
		defer func() { _ = cursor.Close(ctx) }() // what counts is the error of reading
		for cursor.Next(ctx) {
			switch doc, err := decode(cursor.Current); {
			case errors.Is(err, errForeign):
			case err != nil:
				return err
			default:
				docs = append(docs, doc)
			}
		}
		return cursor.Err()
	})
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// Count implements store.Engine.
func (e *Engine) Count(ctx context.Context, kind, key string) (int, error) {
	if err := store.CheckKeys(kind); err != nil {
		return 0, err
	}
	filter := bson.D{ours, e.alive()}
	if key != "" {
		if err := store.CheckKeys(key); err != nil {
			return 0, err
		}
		filter[0] = bson.E{Key: fieldKeys, Value: key}
	}
	var count int64
	err := e.call(ctx, "count", kind, func(ctx context.Context) (err error) {
		count, err = e.collection(kind).CountDocuments(ctx, filter)
		return err
	})
	return int(count), err
}
