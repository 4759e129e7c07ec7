package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"login-server/store"
)

// actionPrune is what the book records of itself when entries have passed their time.
const actionPrune = "audit.prune"

// Report is what Verify has found.
type Report struct {
	// Entries is how many there are, and First and Last are the numbers of the ends.
	Entries     int64
	First, Last int64
	// Hash is that of the last entry. Noted elsewhere, it shows later that nothing up to
	// Last was made anew.
	Hash string
	// Faults are what does not fit together; nil when all is in order.
	Faults []Fault
}

// Fault is a place where the chain is broken.
type Fault struct {
	// Number is that of the entry, or of the first of those that are missing.
	Number int64
	Text   string
}

// Verify goes through all entries and tells whether each still is what the next one says of
// it, and none is missing. That the latest ones were taken off shows only by a hash that was
// noted before.
func (b *Book) Verify(ctx context.Context) (Report, error) {
	var r Report
	var prev, first Entry
	var pruned string // what the latest entry of that kind says: number and hash
	var through int64
	for item, err := range b.entries.All(ctx, store.Query{}) {
		if err != nil {
			return r, err
		}
		e := item.Value
		if r.Entries++; r.Entries == 1 {
			first, r.First = e, e.Number
		} else {
			r.compare(prev, e)
		}
		if item.ID != entryID(e.Number) {
			r.fault(e.Number, "is in the place of entry "+item.ID)
		}
		if e.Action == actionPrune && e.Actor == ActorSystem {
			if n, err := strconv.ParseInt(e.Detail["through"], 10, 64); err == nil && n >= through {
				through, pruned = n, e.Detail["hash"]
			}
		}
		prev, r.Last = e, e.Number
	}
	if r.Entries == 0 {
		return r, nil
	}
	r.Hash = prev.Hash()
	switch gone := first.Number - 1; {
	case gone == 0 && first.Prev != "":
		r.fault(1, "was altered")
	case gone > through:
		r.fault(1, missingTo(1, gone)+", and nothing says that its time had passed")
	case gone > 0 && gone == through && first.Prev != pruned:
		r.fault(first.Number, "was altered, or the ones before it were not what is said of them")
	}
	return r, nil
}

// compare looks at two entries that follow each other.
func (r *Report) compare(before, e Entry) {
	switch {
	case e.Number > before.Number+1:
		r.fault(before.Number+1, missingTo(before.Number+1, e.Number-1))
	case e.Prev != before.Hash():
		r.fault(before.Number, "was altered, or what the next entry says of it")
	}
}

func missingTo(first, last int64) string {
	if first == last {
		return "is missing"
	}
	return fmt.Sprintf("is missing, with all up to %d", last)
}

func (r *Report) fault(number int64, text string) {
	r.Faults = append(r.Faults, Fault{Number: number, Text: text})
}

// pruneEvery is how much has to have passed its time before Prune does anything, so that
// the book does not fill with what it says of itself.
const pruneEvery = 24 * time.Hour

// Prune removes the entries from before a time, but for the last one, which the next has to
// refer to. What it removes it records first: up to which number, and the hash there. It
// tells how many entries are gone.
func (b *Book) Prune(ctx context.Context, before time.Time) (int, error) {
	oldest, err := b.entries.Find(ctx, store.Query{Limit: 1})
	if err != nil || len(oldest) == 0 || !oldest[0].Value.At.Before(before.Add(-pruneEvery)) {
		return 0, err
	}
	var last Entry
	var gone []string
	for item, err := range b.entries.All(ctx, store.Query{}) {
		if err != nil {
			return 0, err
		}
		if !item.Value.At.Before(before) {
			break
		}
		last, gone = item.Value, append(gone, item.ID)
	}
	// From here on there is a later entry: this one.
	err = b.Record(ctx, Entry{
		Actor: ActorSystem, Action: actionPrune,
		Detail: map[string]string{"through": strconv.FormatInt(last.Number, 10), "hash": last.Hash()},
	})
	if err != nil {
		return 0, err
	}
	for i, id := range gone {
		if err := b.entries.Delete(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
			return i, err
		}
	}
	return len(gone), nil
}
