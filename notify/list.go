package notify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"login-server/store"
)

// States of a message in a list.
const (
	Waiting = "waiting"
	Failed  = "failed"
)

// Item is a message in a list. What it says is not shown to anybody.
type Item struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
	Kind    string `json:"kind"`
	// To is the recipient; empty if the message cannot be opened.
	To       string    `json:"to"`
	State    string    `json:"state"`
	Queued   time.Time `json:"queued"`
	NotAfter time.Time `json:"notAfter"`
	// Next is when it is tried again, or was given up.
	Next     time.Time `json:"next"`
	Attempts int       `json:"attempts"`
	Problem  string    `json:"problem,omitempty"`
}

// Filter says which messages to list; empty fields leave all.
type Filter struct {
	State, Channel string
	// After is the id of the last one of the page before; Limit as of store.Query.
	After string
	Limit int
}

// key is the look-up key of what the filter leaves.
func (f Filter) key() (string, error) {
	switch {
	case f.Channel == "":
		return f.State, nil
	case f.State == "":
		return "", errors.New("notify: a list of one channel needs a state")
	}
	return keyOf(f.State, f.Channel), nil
}

// List returns a page of messages, the oldest first. Decoys are not in it.
func (q *Queue) List(ctx context.Context, f Filter) ([]Item, error) {
	key, err := f.key()
	if err != nil {
		return nil, err
	}
	found, err := q.messages.Find(ctx, store.Query{Key: key, After: f.After, Limit: f.Limit})
	if err != nil {
		return nil, err
	}
	items := make([]Item, 0, len(found))
	for _, m := range found {
		if item, shown := q.item(m); shown {
			items = append(items, item)
		}
	}
	return items, nil
}

// All goes through all messages that the filter leaves, page by page.
func (q *Queue) All(ctx context.Context, f Filter) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		key, err := f.key()
		if err != nil {
			yield(Item{}, err)
			return
		}
		for m, err := range q.messages.All(ctx, store.Query{Key: key, After: f.After}) {
			if err != nil {
				yield(Item{}, err)
				return
			}
			if item, shown := q.item(m); shown && !yield(item, nil) {
				return
			}
		}
	}
}

// item is a message for a list, unless it is a decoy.
func (q *Queue) item(m store.Item[message]) (item Item, shown bool) {
	x := m.Value
	var c contents
	if err := q.o.Sealer.Open(x.Sealed, &c); err == nil && c.decoy() {
		return Item{}, false
	}
	item = Item{ID: m.ID, Channel: x.Channel, Kind: x.Kind, To: c.to(), State: Waiting, Queued: x.Queued, NotAfter: x.NotAfter, Next: x.Due, Attempts: x.Attempts, Problem: x.Problem}
	if !x.Failed.IsZero() {
		item.State, item.Next = Failed, x.Failed
	}
	return item, true
}

// ErrLate: the message is not worth sending any more.
var ErrLate = errors.New("it is too late to send it")

// Retry has messages sent now, those that were given up among them. store.ErrNotFound and
// ErrLate name the first that cannot be; those before it are on their way.
func (q *Queue) Retry(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if err := q.retry(ctx, id); err != nil {
			return fmt.Errorf("message %s: %w", id, err)
		}
	}
	return nil
}

// RetryAll has all messages sent now that are not too late, and tells how many those are.
func (q *Queue) RetryAll(ctx context.Context) (int, error) {
	n := 0
	for item, err := range q.messages.All(ctx, store.Query{}) {
		if err != nil {
			return n, err
		}
		if _, shown := q.item(item); !shown {
			continue
		}
		switch err := q.retry(ctx, item.ID); {
		case err == nil:
			n++
		case errors.Is(err, ErrLate), errors.Is(err, store.ErrNotFound), errors.Is(err, errUnderWay):
		default:
			return n, err
		}
	}
	return n, nil
}

// errUnderWay: somebody sends it at this moment, or so it seems.
var errUnderWay = errors.New("it is being sent")

func (q *Queue) retry(ctx context.Context, id string) error {
	item, err := q.messages.Update(ctx, id, func(x *message) error {
		now := q.o.Clock.Now()
		if now.After(x.NotAfter) {
			return ErrLate
		}
		// With a lease and no word of how it ended: who has it must not be joined by another.
		if x.Failed.IsZero() && x.Claimed && x.Due.After(now) {
			return errUnderWay
		}
		x.Failed, x.Due, x.Attempts = time.Time{}, now, 0
		return nil
	})
	if err == nil {
		q.queue(item.Value.Channel, id)
	}
	return err
}

// Remove takes a message off the queue unsent. store.ErrNotFound if it is not there.
func (q *Queue) Remove(ctx context.Context, id string) error { return q.messages.Delete(ctx, id) }

// Results of attempts.
const (
	ResultSent    = "sent"
	ResultFailed  = "failed"  // tried again later
	ResultRefused = "refused" // given up: it will never be taken
	ResultLate    = "late"    // given up: not sent in time
	ResultDecoy   = "decoy"   // never meant to be sent
	ResultLimited = "limited" // not queued: there were too many
)

// Result is what attempts are counted by.
type Result struct{ Channel, Kind, Result string }

func (q *Queue) count(x message, result string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts[Result{x.Channel, x.Kind, result}]++
}

// Counts are the attempts of this process, by how they ended.
func (q *Queue) Counts() map[Result]uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.counts)
}

// Stats are numbers of one channel, of all nodes on the store.
type Stats struct {
	Waiting, Failed int
	// Oldest is how long the first that waits has waited; 0 when none does.
	Oldest time.Duration
}

// Stats asks the store for the numbers of a channel.
func (q *Queue) Stats(ctx context.Context, channel string) (Stats, error) {
	var s Stats
	var err error
	if s.Waiting, err = q.messages.Count(ctx, keyOf(keyWaiting, channel)); err != nil {
		return s, err
	}
	if s.Failed, err = q.messages.Count(ctx, keyOf(keyFailed, channel)); err != nil {
		return s, err
	}
	oldest, err := q.messages.Find(ctx, store.Query{Key: keyOf(keyWaiting, channel), Limit: 1})
	if err == nil && len(oldest) == 1 {
		s.Oldest = q.o.Clock.Now().Sub(oldest[0].Value.Queued)
	}
	return s, err
}
