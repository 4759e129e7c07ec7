package storetest

import (
	"context"
	"errors"
	"sync"

	"login-server/store"
)

// ErrKilled is what every method of a FaultyEngine returns once it is dead.
var ErrKilled = errors.New("storetest: the process was killed")

// FaultyEngine is an engine that can die between two writes, as a process does
// that is killed. What was written before stays in the engine below it.
//
// To try every crash of an operation, call KillAfter(0), KillAfter(1) and so on
// until the operation no longer fails with ErrKilled; after each, Revive stands
// for the restart, and the test sees whether the state heals.
type FaultyEngine struct {
	engine store.Engine

	mu     sync.Mutex
	armed  bool
	left   int
	dead   bool
	writes int
}

var _ store.Engine = (*FaultyEngine)(nil)

// Faulty returns engine with the ability to die. It lives until KillAfter is called.
func Faulty(engine store.Engine) *FaultyEngine { return &FaultyEngine{engine: engine} }

// KillAfter lets n more writes through; the next write and every call after it fail
// with ErrKilled. A call of Insert, Replace, Delete, Take or Sweep is a write,
// whether it succeeds or not.
func (f *FaultyEngine) KillAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left, f.dead = true, n, false
}

// Revive makes the engine work again until the next KillAfter.
func (f *FaultyEngine) Revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.dead = false, false
}

// Writes tells how many writes have been let through since Faulty.
func (f *FaultyEngine) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

func (f *FaultyEngine) read() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return ErrKilled
	}
	return nil
}

func (f *FaultyEngine) write() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed && f.left == 0 {
		f.dead = true
	}
	if f.dead {
		return ErrKilled
	}
	if f.armed {
		f.left--
	}
	f.writes++
	return nil
}

// Get implements store.Engine.
func (f *FaultyEngine) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := f.read(); err != nil {
		return store.Doc{}, err
	}
	return f.engine.Get(ctx, kind, id)
}

// GetUnique implements store.Engine.
func (f *FaultyEngine) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	if err := f.read(); err != nil {
		return store.Doc{}, err
	}
	return f.engine.GetUnique(ctx, kind, key)
}

// Find implements store.Engine.
func (f *FaultyEngine) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	return f.engine.Find(ctx, kind, q)
}

// Count implements store.Engine.
func (f *FaultyEngine) Count(ctx context.Context, kind, key string) (int, error) {
	if err := f.read(); err != nil {
		return 0, err
	}
	return f.engine.Count(ctx, kind, key)
}

// Insert implements store.Engine.
func (f *FaultyEngine) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := f.write(); err != nil {
		return 0, err
	}
	return f.engine.Insert(ctx, kind, doc)
}

// Replace implements store.Engine.
func (f *FaultyEngine) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	if err := f.write(); err != nil {
		return 0, err
	}
	return f.engine.Replace(ctx, kind, doc)
}

// Delete implements store.Engine.
func (f *FaultyEngine) Delete(ctx context.Context, kind, id string) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.engine.Delete(ctx, kind, id)
}

// Take implements store.Engine.
func (f *FaultyEngine) Take(ctx context.Context, kind, id string) (store.Doc, error) {
	if err := f.write(); err != nil {
		return store.Doc{}, err
	}
	return f.engine.Take(ctx, kind, id)
}

// Sweep implements store.Engine.
func (f *FaultyEngine) Sweep(ctx context.Context) (int, error) {
	if err := f.write(); err != nil {
		return 0, err
	}
	return f.engine.Sweep(ctx)
}

// Ping implements store.Engine.
func (f *FaultyEngine) Ping(ctx context.Context) error {
	if err := f.read(); err != nil {
		return err
	}
	return f.engine.Ping(ctx)
}

// Close closes the engine below, dead or not.
func (f *FaultyEngine) Close() error { return f.engine.Close() }
