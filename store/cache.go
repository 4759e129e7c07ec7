package store

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const cacheShards = 32

// Cache keeps the most recently used values in memory. It is safe for concurrent use.
//
// Whoever changes a value calls Forget after the write: from then on no reader
// sees the old one, not even a reader that had begun to load it before. A value
// is used for no longer than its age allows, which bounds how long a change that
// nobody told of goes unseen.
type Cache[T any] struct {
	now    func() time.Time
	age    time.Duration
	seed   maphash.Seed
	shards [cacheShards]cacheShard[T]
}

type cacheShard[T any] struct {
	mu sync.Mutex
	// changes counts calls of Forget: a value is kept only if none came while it was loaded.
	changes uint64
	values  *simplelru.LRU[string, cached[T]]
}

type cached[T any] struct {
	value T
	until time.Time
}

// NewCache returns a cache of up to size values, each used for no longer than age.
func NewCache[T any](size int, age time.Duration, now func() time.Time) *Cache[T] {
	c := &Cache[T]{now: now, age: age, seed: maphash.MakeSeed()}
	for i := range c.shards {
		// NewLRU fails only for sizes below one.
		c.shards[i].values, _ = simplelru.NewLRU[string, cached[T]](max(1, size/cacheShards), nil)
	}
	return c
}

func (c *Cache[T]) shard(key string) *cacheShard[T] {
	return &c.shards[maphash.String(c.seed, key)%cacheShards]
}

// Get returns the value of key, from memory or else by load. An error of load is
// returned and not kept.
func (c *Cache[T]) Get(ctx context.Context, key string, load func(ctx context.Context, key string) (T, error)) (T, error) {
	now := c.now()
	s := c.shard(key)
	s.mu.Lock()
	if hit, ok := s.values.Get(key); ok && now.Before(hit.until) {
		s.mu.Unlock()
		return hit.value, nil
	}
	changes := s.changes
	s.mu.Unlock()

	value, err := load(ctx, key)
	if err != nil {
		return value, err
	}
	s.mu.Lock()
	if s.changes == changes {
		s.values.Add(key, cached[T]{value: value, until: now.Add(c.age)})
	}
	s.mu.Unlock()
	return value, nil
}

// Forget makes the next Get of key load it.
func (c *Cache[T]) Forget(key string) {
	s := c.shard(key)
	s.mu.Lock()
	s.changes++
	s.values.Remove(key)
	s.mu.Unlock()
}

// Clear forgets everything.
func (c *Cache[T]) Clear() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.changes++
		s.values.Purge()
		s.mu.Unlock()
	}
}
