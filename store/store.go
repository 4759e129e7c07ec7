// Package store keeps documents: JSON of any type under an id, with unique keys,
// look-up keys, expiry and compare-and-swap. Its interface is what an embedded
// database and a shared one can both do well, so there are no transactions:
// whatever has to be atomic is one document.
//
// Engine is what a database has to provide (store/sqlite); every engine passes
// store/storetest. Collection is the typed view that the other rooms use, and
// Cache keeps hot documents in memory.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Errors that an Engine returns, possibly wrapped: compare with errors.Is.
var (
	// ErrNotFound: there is no such document, or it has expired.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id or one of the unique keys belongs to another live document.
	ErrExists = errors.New("already exists")
	// ErrConflict: the document has changed since it was read.
	ErrConflict = errors.New("changed meanwhile")
	// ErrInvalid: an id, key or kind that no engine takes.
	ErrInvalid = errors.New("invalid id or key")
)

// MaxKey is how many bytes a kind, an id or a key may have.
const MaxKey = 1024

// MaxData is how many bytes the data of one document may have.
const MaxData = 8 << 20

// Doc is one document as an Engine keeps it.
type Doc struct {
	ID string
	// Version changes with every write; the engine sets it. Replace compares it.
	Version int64
	// Data is the JSON of the document.
	Data []byte
	// Unique are keys that no two live documents of a kind share.
	Unique []string
	// Keys are keys by which Find and Count look up.
	Keys []string
	// Expires is when the document ceases to exist; zero means never.
	Expires time.Time
}

// CheckKeys tells whether all of these are good as a kind, id or key: ErrInvalid if not. It
// is for engines.
func CheckKeys(keys ...string) error {
	for _, key := range keys {
		switch {
		case key == "":
			return fmt.Errorf("%w: empty", ErrInvalid)
		case len(key) > MaxKey:
			return fmt.Errorf("%w: %d bytes, %d are allowed", ErrInvalid, len(key), MaxKey)
		case !utf8.ValidString(key):
			return fmt.Errorf("%w: not UTF-8", ErrInvalid)
		}
	}
	return nil
}

// Check tells whether d can be written as a document of a kind: ErrInvalid if not. It is
// for engines.
func (d Doc) Check(kind string) error {
	if err := errors.Join(CheckKeys(kind, d.ID), CheckKeys(d.Unique...), CheckKeys(d.Keys...)); err != nil {
		return err
	}
	if len(d.Data) > MaxData {
		return fmt.Errorf("%w: %d bytes of data, %d are allowed", ErrInvalid, len(d.Data), MaxData)
	}
	return nil
}

// Query asks for a page of documents of one kind, ordered by id.
type Query struct {
	// Key, if not empty, limits the answer to documents that have it among their Keys.
	Key string
	// After is the id to go on behind: the last one of the previous page.
	After string
	// Descending reverses the order.
	Descending bool
	// Limit is how many documents to return at the most; 0 means 100, more than 1000 is 1000.
	Limit int
}

// Engine keeps documents by kind and id; every engine passes storetest.Run.
//
// Methods are safe for concurrent use and honour ctx; a write whose ctx ends may
// or may not have happened. When a write returns nil it is durable: it survives
// the loss of power. Kinds, ids and keys are valid UTF-8 of 1 to MaxKey bytes,
// else ErrInvalid; they are compared byte for byte. Times are UTC in whole
// milliseconds. A document past its expiry does not exist for any method, swept
// or not, and its id and unique keys are free.
type Engine interface {
	// Get returns a document, or ErrNotFound.
	Get(ctx context.Context, kind, id string) (Doc, error)
	// GetUnique returns the document that has key among its Unique, or ErrNotFound.
	GetUnique(ctx context.Context, kind, key string) (Doc, error)
	// Find returns one page of documents in the order of their ids (bytewise).
	Find(ctx context.Context, kind string, q Query) ([]Doc, error)
	// Count tells how many documents of a kind have key among their Keys; an empty key counts all.
	Count(ctx context.Context, kind, key string) (int, error)

	// Insert adds a document and returns its version. ErrExists if the id or a
	// unique key is taken: of any number of concurrent calls exactly one wins.
	Insert(ctx context.Context, kind string, doc Doc) (version int64, err error)
	// Replace writes doc over the document of the same id if that still has
	// doc.Version, and returns the new version. ErrConflict if it has another
	// version, ErrNotFound if it is gone, ErrExists if a unique key is taken.
	Replace(ctx context.Context, kind string, doc Doc) (version int64, err error)
	// Delete removes a document. Of any number of concurrent calls of Delete and
	// Take for one id exactly one succeeds, the rest get ErrNotFound.
	Delete(ctx context.Context, kind, id string) error
	// Take removes a document and returns it: who must be the only one to redeem
	// something takes it.
	Take(ctx context.Context, kind, id string) (Doc, error)

	// Sweep removes documents that have expired and tells how many; nobody but
	// the disk notices whether it has run.
	Sweep(ctx context.Context) (int, error)
	// Ping tells whether the database answers.
	Ping(ctx context.Context) error
	// Close waits for writes under way and releases the database.
	Close() error
}
