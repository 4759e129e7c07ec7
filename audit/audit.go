// Package audit is the record of what administrators, and the server by itself, have
// changed: who, what, whose, when and from where. It is only ever added to.
//
// Entries are numbered, and each has the SHA-256 of the one before it, so that one that was
// altered or taken out shows (Verify). Whoever can write to the database could make the
// whole chain anew: who needs more notes the last hash elsewhere from time to time.
//
// The number is the document's id. Of several writers at once one gets it, the others take
// the next, so that there is no other document to keep in step, and a crash leaves either
// an entry or none.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"login-server/store"
)

// Actors that are no accounts.
const (
	// ActorCommand: somebody at the command line, whom ActorName names.
	ActorCommand = "cli"
	// ActorSystem: the server by itself.
	ActorSystem = "system"
)

const (
	// maxText is how many bytes of a text are kept: it may have come from anywhere.
	maxText = 500
	// maxDetails is how many details an entry may have.
	maxDetails = 30
)

// Entry is one thing that was done.
type Entry struct {
	// Number counts entries from 1; Record sets it, with At and Prev.
	Number int64     `json:"number"`
	At     time.Time `json:"at"`
	// Actor is the id of an account, or one of the actors above; ActorName is for people.
	Actor     string `json:"actor"`
	ActorName string `json:"actorName,omitempty"`
	// Action is a stable code: "user.disable", "client.add", "key.rotate".
	Action string `json:"action"`
	// Target is the id of what it was done to: an account, client, session or key.
	Target     string `json:"target,omitempty"`
	TargetName string `json:"targetName,omitempty"`
	// Address is where the request came from; empty at the command line.
	Address string `json:"address,omitempty"`
	// Detail is what else there is to say, and never a secret.
	Detail map[string]string `json:"detail,omitempty"`
	// Prev is the Hash of the entry before; empty in the first one.
	Prev string `json:"prev,omitempty"`
}

// Hash is the SHA-256, in hex, of the entry as JSON. A field that a later version adds has
// to be left out when it is empty, or older entries would have another hash.
func (e Entry) Hash() string {
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // there is nothing in it that JSON cannot have
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// bounded is the entry as it can be stored and read again as the same.
func (e Entry) bounded() Entry {
	for _, text := range []*string{&e.Actor, &e.ActorName, &e.Action, &e.Target, &e.TargetName, &e.Address} {
		*text = shorten(*text)
	}
	var detail map[string]string
	for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
		if detail == nil {
			detail = map[string]string{}
		}
		if len(detail) < maxDetails {
			detail[shorten(name)] = shorten(e.Detail[name])
		}
	}
	e.Detail = detail
	return e
}

func shorten(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

func (e Entry) index() store.Index {
	i := store.Index{Keys: []string{"actor:" + e.Actor, "action:" + e.Action}}
	if e.Target != "" {
		i.Keys = append(i.Keys, "target:"+e.Target)
	}
	return i
}

// Book is the record of an installation. It is safe for concurrent use, also by several
// processes with one store.
type Book struct {
	entries *store.Collection[Entry]
	now     func() time.Time
}

// NewBook returns the book in engine.
func NewBook(engine store.Engine, now func() time.Time) *Book {
	return &Book{entries: store.NewCollection(engine, "audit", Entry.index), now: now}
}

// entryID is ordered as numbers are.
func entryID(number int64) string { return fmt.Sprintf("%019d", number) }

// Record adds an entry, and is durable when it returns nil. Number, At and Prev of e are
// set here.
func (b *Book) Record(ctx context.Context, e Entry) error {
	_, err := b.record(ctx, e)
	return err
}

func (b *Book) record(ctx context.Context, e Entry) (Entry, error) {
	if e.Actor == "" || e.Action == "" {
		return Entry{}, errors.New("audit: an entry says who has done what")
	}
	e = e.bounded()
	for {
		last, err := b.entries.Find(ctx, store.Query{Descending: true, Limit: 1})
		if err != nil {
			return Entry{}, fmt.Errorf("audit: read the last entry: %w", err)
		}
		e.Number, e.Prev = 1, ""
		if len(last) > 0 {
			e.Number, e.Prev = last[0].Value.Number+1, last[0].Value.Hash()
		}
		e.At = b.now().UTC().Truncate(time.Millisecond)
		_, err = b.entries.Insert(ctx, entryID(e.Number), e)
		if !errors.Is(err, store.ErrExists) {
			if err != nil {
				err = fmt.Errorf("audit: record %s: %w", e.Action, err)
			}
			return e, err
		}
	}
}

// Query asks for a page of entries.
type Query struct {
	// Before is the Number of the last entry of the page before; 0 for the first page.
	Before int64
	// Limit is how many entries to return at the most; 0 means 100, more than 1000 is 1000.
	Limit int
	// Action, Actor and Target, if not empty, are those that entries have to have. An Action
	// that ends in "." stands for all that begin with it: "user.".
	Action, Actor, Target string
	// Since is the earliest time of an entry; zero for any.
	Since time.Time
}

func (q Query) matches(e Entry) bool {
	action := e.Action == q.Action || q.Action == "" || strings.HasSuffix(q.Action, ".") && strings.HasPrefix(e.Action, q.Action)
	return action && (q.Actor == "" || q.Actor == e.Actor) && (q.Target == "" || q.Target == e.Target) && !e.At.Before(q.Since)
}

// key is the look-up key that leaves the fewest entries to go through.
func (q Query) key() string {
	switch {
	case q.Target != "":
		return "target:" + shorten(q.Target)
	case q.Action != "" && !strings.HasSuffix(q.Action, "."):
		return "action:" + shorten(q.Action)
	case q.Actor != "":
		return "actor:" + shorten(q.Actor)
	}
	return ""
}

// clocksApart is how far the times of entries may be out of the order of their numbers:
// several nodes write them.
const clocksApart = time.Hour

// All goes through the entries that q describes, the latest first, whatever its Limit. A
// second value that is not nil ends the sequence.
func (b *Book) All(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		wanted := store.Query{Key: q.key(), Descending: true}
		if q.Before > 0 {
			wanted.After = entryID(q.Before)
		}
		for item, err := range b.entries.All(ctx, wanted) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if item.Value.At.Before(q.Since.Add(-clocksApart)) {
				return
			}
			if q.matches(item.Value) && !yield(item.Value, nil) {
				return
			}
		}
	}
}

// List returns a page of entries, the latest first.
func (b *Book) List(ctx context.Context, q Query) ([]Entry, error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, 1000)
	var page []Entry
	for e, err := range b.All(ctx, q) {
		if err != nil {
			return nil, err
		}
		if page = append(page, e); len(page) == q.Limit {
			break
		}
	}
	return page, nil
}
