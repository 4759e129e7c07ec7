package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Index is what the store needs to know of a value beside its JSON.
type Index struct {
	Unique  []string
	Keys    []string
	Expires time.Time
}

// Collection is the typed view of one kind of documents.
type Collection[T any] struct {
	engine Engine
	kind   string
	index  func(T) Index
}

// Item is a value together with what Replace needs to write it back.
type Item[T any] struct {
	ID      string
	Version int64
	Value   T
}

// NewCollection returns the collection of a kind; index tells each value's keys and expiry.
func NewCollection[T any](engine Engine, kind string, index func(T) Index) *Collection[T] {
	return &Collection[T]{engine: engine, kind: kind, index: index}
}

func (c *Collection[T]) encode(id string, version int64, value T) (Doc, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return Doc{}, fmt.Errorf("encode %s: %w", c.kind, err)
	}
	index := c.index(value)
	return Doc{ID: id, Version: version, Data: data, Unique: index.Unique, Keys: index.Keys, Expires: index.Expires}, nil
}

func (c *Collection[T]) decode(doc Doc, err error) (Item[T], error) {
	item := Item[T]{ID: doc.ID, Version: doc.Version}
	if err != nil {
		return item, err
	}
	if err := json.Unmarshal(doc.Data, &item.Value); err != nil {
		return item, fmt.Errorf("decode %s: %w", c.kind, err)
	}
	return item, nil
}

// Get returns a document, or ErrNotFound.
func (c *Collection[T]) Get(ctx context.Context, id string) (Item[T], error) {
	return c.decode(c.engine.Get(ctx, c.kind, id))
}

// GetUnique returns the document that has a unique key, or ErrNotFound.
func (c *Collection[T]) GetUnique(ctx context.Context, key string) (Item[T], error) {
	return c.decode(c.engine.GetUnique(ctx, c.kind, key))
}

// Find returns one page of documents in the order of their ids.
func (c *Collection[T]) Find(ctx context.Context, q Query) ([]Item[T], error) {
	docs, err := c.engine.Find(ctx, c.kind, q)
	if err != nil {
		return nil, err
	}
	items := make([]Item[T], 0, len(docs))
	for _, doc := range docs {
		item, err := c.decode(doc, nil)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// All goes through every document that q describes, page by page. A second
// value that is not nil ends the sequence.
func (c *Collection[T]) All(ctx context.Context, q Query) iter.Seq2[Item[T], error] {
	return func(yield func(Item[T], error) bool) {
		q.Limit = 1000
		for {
			items, err := c.Find(ctx, q)
			if err != nil {
				yield(Item[T]{}, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if len(items) < q.Limit {
				return
			}
			q.After = items[len(items)-1].ID
		}
	}
}

// Count tells how many documents have a look-up key; an empty key counts all.
func (c *Collection[T]) Count(ctx context.Context, key string) (int, error) {
	return c.engine.Count(ctx, c.kind, key)
}

// Insert adds a document; ErrExists if its id or a unique key is taken.
func (c *Collection[T]) Insert(ctx context.Context, id string, value T) (Item[T], error) {
	doc, err := c.encode(id, 0, value)
	if err != nil {
		return Item[T]{}, err
	}
	version, err := c.engine.Insert(ctx, c.kind, doc)
	return Item[T]{ID: id, Version: version, Value: value}, err
}

// Replace writes item.Value if the document still has item.Version, and returns
// the item with its new version. Errors as Engine.Replace.
func (c *Collection[T]) Replace(ctx context.Context, item Item[T]) (Item[T], error) {
	doc, err := c.encode(item.ID, item.Version, item.Value)
	if err != nil {
		return Item[T]{}, err
	}
	item.Version, err = c.engine.Replace(ctx, c.kind, doc)
	return item, err
}

// Update reads a document, lets change alter it and writes it back, again from
// the start as often as somebody else was faster. An error of change ends it and
// nothing is written.
func (c *Collection[T]) Update(ctx context.Context, id string, change func(*T) error) (Item[T], error) {
	for {
		item, err := c.Get(ctx, id)
		if err != nil {
			return item, err
		}
		if err := change(&item.Value); err != nil {
			return item, err
		}
		written, err := c.Replace(ctx, item)
		if !errors.Is(err, ErrConflict) {
			return written, err
		}
	}
}

// Upsert is Update for a document that may not be there yet: change is given the zero value then,
// and what it makes of it is inserted. For kinds without unique keys, which another document
// could have for good.
func (c *Collection[T]) Upsert(ctx context.Context, id string, change func(*T) error) (Item[T], error) {
	for {
		item, err := c.Update(ctx, id, change)
		if !errors.Is(err, ErrNotFound) {
			return item, err
		}
		var value T
		if err := change(&value); err != nil {
			return Item[T]{ID: id, Value: value}, err
		}
		if item, err = c.Insert(ctx, id, value); !errors.Is(err, ErrExists) {
			return item, err
		}
	}
}

// Delete removes a document; of several callers one succeeds, the rest get ErrNotFound.
func (c *Collection[T]) Delete(ctx context.Context, id string) error {
	return c.engine.Delete(ctx, c.kind, id)
}

// Take removes a document and returns it; of several callers one succeeds.
func (c *Collection[T]) Take(ctx context.Context, id string) (Item[T], error) {
	return c.decode(c.engine.Take(ctx, c.kind, id))
}
