package web

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/ulule/limiter/v3"
	limiterredis "github.com/ulule/limiter/v3/drivers/store/redis"
)

const (
	// redisFirst is how long the program may wait for a connection when it starts.
	redisFirst = 2 * time.Second
	// redisPatience is how long a request waits for Redis to count it.
	redisPatience = 200 * time.Millisecond
	// redisPause is how long Redis is left alone after it has not answered.
	redisPause = time.Second
)

// sharedCounts is Redis, where all nodes of an installation count together. While it
// does not answer, each counts in its own memory: nobody has to wait for Redis, and nobody is
// let in without being counted.
//
// The first that finds Redis silent waits for it, with patience. From then on nobody does: once
// a pause somebody's attempt has a probe count along in the background, and when that has
// succeeded, Redis counts again.
type sharedCounts struct {
	client   redis.UniversalClient
	prefix   string
	patience time.Duration
	log      *slog.Logger

	mu sync.Mutex
	// store is nil until Redis has answered once: the limiter's store cannot be made before.
	store   limiter.Store
	silent  bool // Redis did not answer
	probing bool
	next    time.Time // when to probe again
}

// newSharedCounts returns counts whose keys begin with name, which other installations on
// the same Redis do not have, and for which a request waits no longer than patience. If Redis does not answer yet, that is a
// line in the log.
func newSharedCounts(client redis.UniversalClient, name string, patience time.Duration, log *slog.Logger) *sharedCounts {
	s := &sharedCounts{client: client, prefix: name, patience: patience, log: log, probing: true}
	ctx, cancel := context.WithTimeout(context.Background(), redisFirst)
	defer cancel()
	_ = client.Ping(ctx).Err() // for the connection; what comes of it the probe says
	s.probe()
	return s
}

// shared returns the store of Redis, or nil while it does not answer.
func (s *sharedCounts) shared() limiter.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.silent {
		return s.store
	}
	if !s.probing && !time.Now().Before(s.next) {
		s.probing = true
		go s.probe()
	}
	return nil
}

// inMemory tells whether each node counts for itself now.
func (s *sharedCounts) inMemory() bool { return s.shared() == nil }

// probe counts something, and lets Redis count again if that has succeeded. It is called with
// probing set.
func (s *sharedCounts) probe() {
	store, err := s.open()
	if err == nil {
		ctx, cancel := s.within(context.Background())
		defer cancel()
		_, err = store.Get(ctx, "probe", limiter.Rate{Period: time.Minute, Limit: 1})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = false
	if err != nil {
		s.failLocked(err)
		return
	}
	s.store = store
	if s.silent {
		s.silent = false
		s.log.Info("rate limits are counted in Redis again")
	}
}

// open returns the store of Redis, which it makes the first time.
func (s *sharedCounts) open() (limiter.Store, error) {
	s.mu.Lock()
	store := s.store
	s.mu.Unlock()
	if store != nil {
		return store, nil
	}
	return limiterredis.NewStoreWithOptions(impatient{s.client, s.patience}, limiter.StoreOptions{Prefix: s.prefix})
}

// failed notes that Redis did not answer.
func (s *sharedCounts) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *sharedCounts) failLocked(err error) {
	s.next = time.Now().Add(redisPause)
	if !s.silent {
		s.silent = true
		s.log.Warn("Redis does not answer: each node counts its rate limits for itself", "err", err.Error())
	}
}

// within is the context in which a request asks Redis. That its client has gone is no
// reason to stop: the attempt counts, and Redis has not failed.
func (s *sharedCounts) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.patience)
}

// impatient is a client that loads scripts in time: the limiter's store does so when it is
// made, with a context that never ends.
type impatient struct {
	redis.UniversalClient
	patience time.Duration
}

func (c impatient) ScriptLoad(ctx context.Context, script string) *redis.StringCmd {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	return c.UniversalClient.ScriptLoad(ctx, script)
}

// sharedStore is a limiter.Store in sharedCounts, and in memory while Redis does not answer.
type sharedStore struct {
	*sharedCounts
	prefix string
	own    limiter.Store
}

// try asks the store of Redis, or that in memory.
func (s *sharedStore) try(ctx context.Context, key string, ask func(context.Context, limiter.Store, string) (limiter.Context, error)) (limiter.Context, error) {
	if store := s.shared(); store != nil {
		asking, cancel := s.within(ctx)
		defer cancel()
		state, err := ask(asking, store, s.prefix+":"+key)
		if err == nil {
			return state, nil
		}
		s.failed(err)
	}
	return ask(ctx, s.own, key)
}

// Get implements limiter.Store.
func (s *sharedStore) Get(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return s.try(ctx, key, func(ctx context.Context, store limiter.Store, key string) (limiter.Context, error) {
		return store.Get(ctx, key, rate)
	})
}

// Peek implements limiter.Store.
func (s *sharedStore) Peek(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return s.try(ctx, key, func(ctx context.Context, store limiter.Store, key string) (limiter.Context, error) {
		return store.Peek(ctx, key, rate)
	})
}

// Reset implements limiter.Store.
func (s *sharedStore) Reset(ctx context.Context, key string, rate limiter.Rate) (limiter.Context, error) {
	return s.try(ctx, key, func(ctx context.Context, store limiter.Store, key string) (limiter.Context, error) {
		return store.Reset(ctx, key, rate)
	})
}

// Increment implements limiter.Store.
func (s *sharedStore) Increment(ctx context.Context, key string, count int64, rate limiter.Rate) (limiter.Context, error) {
	return s.try(ctx, key, func(ctx context.Context, store limiter.Store, key string) (limiter.Context, error) {
		return store.Increment(ctx, key, count, rate)
	})
}
