package teststore

import (
	"context"
	"sync"
	"testing"

	"login-server/store"
)

// Outside returns the engine for use in a bubble of testing/synctest. It is called before
// the bubble, and ends with its test.
//
// What an engine does on a network never looks durably blocked, so that a bubble around
// it would wait for ever; and what it has made before the bubble and within it, channels
// and timers, must not meet. So every call is made by a goroutine outside. To the bubble
// it is one that takes no time and that Wait waits for.
//
// A context counts until a call begins. What becomes of it later stays in the bubble.
func Outside(t testing.TB, engine store.Engine) store.Engine {
	calls := make(chan func())
	go func() {
		for call := range calls {
			go call()
		}
	}()
	t.Cleanup(func() { close(calls) })
	return &outside{engine, calls}
}

type outside struct {
	engine store.Engine
	calls  chan func()
}

// call runs f outside and waits for it.
func call[T any](o *outside, ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	if err := ctx.Err(); err != nil {
		return *new(T), err
	}
	var result T
	var err error
	// Not a channel: one that is made in the bubble cannot be used outside.
	var done sync.Mutex
	done.Lock()
	o.calls <- func() {
		defer done.Unlock()
		result, err = f(context.WithoutCancel(ctx))
	}
	done.Lock()
	return result, err
}

// run is call for what has no result.
func (o *outside) run(ctx context.Context, f func(context.Context) error) error {
	_, err := call(o, ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

func (o *outside) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	return call(o, ctx, func(ctx context.Context) (store.Doc, error) { return o.engine.Get(ctx, kind, id) })
}

func (o *outside) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	return call(o, ctx, func(ctx context.Context) (store.Doc, error) { return o.engine.GetUnique(ctx, kind, key) })
}

func (o *outside) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	return call(o, ctx, func(ctx context.Context) ([]store.Doc, error) { return o.engine.Find(ctx, kind, q) })
}

func (o *outside) Count(ctx context.Context, kind, key string) (int, error) {
	return call(o, ctx, func(ctx context.Context) (int, error) { return o.engine.Count(ctx, kind, key) })
}

func (o *outside) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	return call(o, ctx, func(ctx context.Context) (int64, error) { return o.engine.Insert(ctx, kind, doc) })
}

func (o *outside) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	return call(o, ctx, func(ctx context.Context) (int64, error) { return o.engine.Replace(ctx, kind, doc) })
}

func (o *outside) Delete(ctx context.Context, kind, id string) error {
	return o.run(ctx, func(ctx context.Context) error { return o.engine.Delete(ctx, kind, id) })
}

func (o *outside) Take(ctx context.Context, kind, id string) (store.Doc, error) {
	return call(o, ctx, func(ctx context.Context) (store.Doc, error) { return o.engine.Take(ctx, kind, id) })
}

func (o *outside) Sweep(ctx context.Context) (int, error) {
	return call(o, ctx, o.engine.Sweep)
}

func (o *outside) Ping(ctx context.Context) error { return o.run(ctx, o.engine.Ping) }

func (o *outside) Close() error {
	return o.run(context.Background(), func(context.Context) error { return o.engine.Close() })
}
