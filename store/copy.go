package store

import (
	"context"
	"errors"
	"sync"
)

// Copied tells what Copy has done with the documents of a kind.
type Copied struct {
	Kind string `json:"kind"`
	// Copied are those that were written, There those that were in the other store
	// already, under the same id or with the same unique key, and were left as they are.
	Copied int `json:"copied"`
	There  int `json:"alreadyThere"`
}

// copiesAtOnce is how many documents Copy writes at the same time: most of a write to
// another machine is waiting.
const copiesAtOnce = 16

// Copy writes all living documents of a kind from one engine into another; with dryRun it
// only looks. It can be run again after a failure, and then copies what is missing.
// Versions are new in the other engine. Nobody may write into either meanwhile.
func Copy(ctx context.Context, from, to Engine, kind string, dryRun bool) (Copied, error) {
	done := Copied{Kind: kind}
	for after := ""; ; {
		docs, err := from.Find(ctx, kind, Query{After: after, Limit: 1000})
		if err != nil {
			return done, err
		}
		there, err := copyAll(ctx, to, kind, docs, dryRun)
		if err != nil {
			return done, err
		}
		done.There += there
		done.Copied += len(docs) - there
		if len(docs) < 1000 {
			return done, nil
		}
		after = docs[len(docs)-1].ID
	}
}

// copyAll writes docs, some at the same time, and tells how many were there. After an
// error it begins no more.
func copyAll(ctx context.Context, to Engine, kind string, docs []Doc, dryRun bool) (there int, err error) {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		next int
	)
	for range copiesAtOnce {
		wg.Go(func() {
			for {
				mu.Lock()
				if next == len(docs) || err != nil {
					mu.Unlock()
					return
				}
				doc := docs[next]
				next++
				mu.Unlock()
				failed := copyOne(ctx, to, kind, doc, dryRun)
				mu.Lock()
				switch {
				case errors.Is(failed, ErrExists):
					there++
				case failed != nil:
					err = failed
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return there, err
}

// copyOne inserts a document; ErrExists if it is there, or another with a key of it.
func copyOne(ctx context.Context, to Engine, kind string, doc Doc, dryRun bool) error {
	if !dryRun {
		_, err := to.Insert(ctx, kind, doc)
		return err
	}
	_, err := to.Get(ctx, kind, doc.ID)
	for _, key := range doc.Unique {
		if errors.Is(err, ErrNotFound) {
			_, err = to.GetUnique(ctx, kind, key)
		}
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err == nil:
		return ErrExists
	}
	return err
}
