// Package backoff slows down guessing: it counts failed attempts to prove something, a
// password or a code, and tells what is asked of the next one: nothing, a challenge,
// waiting. Counts are in the store, so that all nodes have the same.
//
// Three things are counted.
//
//   - The pair of an account and a network (session.Network): after 3 failures a challenge,
//     from the 6th on waiting, 1, 2, 4, 8 and then 15 minutes. Who guesses elsewhere does
//     not keep the owner out.
//   - The account, from all networks: beyond 20 failures a challenge is asked of everybody
//     but browsers that are known. The count falls by 20 an hour. Nobody has to wait for
//     what others do to an account: it is never locked.
//   - The network, over all accounts: one password tried on many accounts shows nowhere
//     else. Of each pair the first 3 failures count; beyond 30 a challenge, beyond 100
//     waiting, 15 minutes at most, unless the browser is known. The count falls by 100 an
//     hour.
//
// An account is a name as it was typed, whether there is such an account or not:
// whoever calls has brought it to one spelling. It is stored as an HMAC. All counts
// fade, and end with their documents' expiry.
//
// Attempts that run at once are all asked before the first of them has failed. How many
// may, is for a rate limit to say.
package backoff

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"login-server/clock"
	"login-server/store"
)

const (
	// challengeAfter and waitAfter are the failures of a pair from which on a challenge, and
	// waiting, is asked; forgotten is how long after the last one they count.
	challengeAfter = 3
	waitAfter      = 6
	forgotten      = 24 * time.Hour
	// maxWait is the longest that anybody waits.
	maxWait = 15 * time.Minute
	// excused is how long an unlocked pair is free of what others have done.
	excused = time.Hour

	// Failures of an account, and in a network, beyond which something is asked.
	accountChallenge = 20
	networkChallenge = 30
	networkWait      = 100
)

// Need is what is asked of the next attempt.
type Need struct {
	// Challenge: a challenge has to be answered beside it (package challenge).
	Challenge bool
	// Wait is how long it has to wait; until then it is refused without being looked at,
	// and not counted.
	Wait time.Duration
}

// pair is what is kept of an account and a network.
type pair struct {
	Failures int       `json:"failures"`
	Last     time.Time `json:"last"`
	// Excused: the owner has unlocked it, and what is counted of account and network does
	// not matter here.
	Excused bool `json:"excused,omitempty"`
}

// level is a count that falls by itself: what it was At, less an hourly amount since.
type level struct {
	Count   float64   `json:"count"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"` // when it has fallen to nothing
}

// bucket is how a level falls and how high it can be.
type bucket struct{ hourly, most float64 }

// How full a level can be decides how long it has an effect when the failures end: an
// hour for an account, and for a network no longer than anybody waits.
var (
	accountBucket = bucket{hourly: accountChallenge, most: 2 * accountChallenge}
	networkBucket = bucket{hourly: networkWait, most: networkWait + networkWait*float64(maxWait)/float64(time.Hour)}
)

// Options are what a Book needs.
type Options struct {
	Store store.Engine
	Clock clock.Clock
	// Key is what names and networks are hashed with.
	Key []byte
}

// Book keeps the counts. It is safe for concurrent use, and so are several of them on
// one store: no failure is lost.
type Book struct {
	o      Options
	pairs  *store.Collection[pair]
	levels *store.Collection[level]
}

// New returns the book of an installation.
func New(o Options) *Book {
	return &Book{
		o: o,
		pairs: store.NewCollection(o.Store, "backoff pair", func(p pair) store.Index {
			if p.Excused {
				return store.Index{Expires: p.Last.Add(excused)}
			}
			return store.Index{Expires: p.Last.Add(forgotten)}
		}),
		levels: store.NewCollection(o.Store, "backoff level", func(l level) store.Index {
			return store.Index{Expires: l.Expires}
		}),
	}
}

// Ask tells what is asked of an attempt at an account from a network. known: the browser
// has been signed in to this very account before. An empty account asks what holds for
// any in that network. It writes nothing.
func (b *Book) Ask(ctx context.Context, account, network string, known bool) (Need, error) {
	var p pair
	if account != "" {
		item, err := b.pairs.Get(ctx, b.id("pair", account, network))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return Need{}, fmt.Errorf("read failures: %w", err)
		}
		p = item.Value
	}
	need := b.needOf(p)
	if known || p.Excused {
		return need, nil
	}
	if account != "" {
		count, err := b.level(ctx, accountBucket, b.id("account", account, ""))
		if err != nil {
			return Need{}, err
		}
		need.Challenge = need.Challenge || count > accountChallenge
	}
	count, err := b.level(ctx, networkBucket, b.id("network", "", network))
	if err != nil {
		return Need{}, err
	}
	need.Challenge = need.Challenge || count > networkChallenge
	if count > networkWait {
		need.Wait = max(need.Wait, networkBucket.falling(count-networkWait))
	}
	return need, nil
}

// needOf is what is asked for the failures of a pair.
func (b *Book) needOf(p pair) Need {
	need := Need{Challenge: p.Failures >= challengeAfter}
	if p.Failures >= waitAfter {
		need.Wait = max(0, p.Last.Add(waitFor(p.Failures)).Sub(b.o.Clock.Now()))
	}
	return need
}

// waitFor is how long a pair waits after its last failure.
func waitFor(failures int) time.Duration {
	return min(maxWait, time.Minute<<min(failures-waitAfter, 10))
}

// Failed counts an attempt that failed, and tells what is asked of the next one by a
// browser that is not known. It does three writes at most.
func (b *Book) Failed(ctx context.Context, account, network string) (Need, error) {
	var p pair
	id, now := b.id("pair", account, network), b.o.Clock.Now()
	err := b.pairsUpdate(ctx, id, func(current *pair) {
		if current.Excused && current.Failures+1 >= challengeAfter {
			current.Excused = false
		}
		current.Failures++
		// Nodes' clocks differ, and writes overtake each other.
		if now.After(current.Last) {
			current.Last = now
		}
		p = *current
	})
	if err != nil {
		return Need{}, fmt.Errorf("count failure: %w", err)
	}
	if err := b.raise(ctx, accountBucket, b.id("account", account, "")); err != nil {
		return Need{}, err
	}
	if p.Failures <= challengeAfter {
		if err := b.raise(ctx, networkBucket, b.id("network", "", network)); err != nil {
			return Need{}, err
		}
	}
	return b.Ask(ctx, account, network, false)
}

// Passed forgets the failures of a pair: whoever it was has proved it. What is counted of
// the account and the network stays, others may be at them. Without failures nothing is
// written.
func (b *Book) Passed(ctx context.Context, account, network string) error {
	id := b.id("pair", account, network)
	_, err := b.pairs.Get(ctx, id)
	if err == nil {
		err = b.pairs.Delete(ctx, id)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("forget failures: %w", err)
	}
	return nil
}

// Unlock is for the owner of an account, who has proved to be it in another way, such as
// by a mail: nothing is asked in this network, whatever others do to the account or
// from the same network, for an hour or until 3 attempts have failed.
func (b *Book) Unlock(ctx context.Context, account, network string) error {
	now := b.o.Clock.Now()
	err := b.pairsUpdate(ctx, b.id("pair", account, network), func(p *pair) {
		*p = pair{Last: now, Excused: true}
	})
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// pairsUpdate changes a pair, which may not be there yet.
func (b *Book) pairsUpdate(ctx context.Context, id string, change func(*pair)) error {
	_, err := b.pairs.Upsert(ctx, id, func(p *pair) error { change(p); return nil })
	return err
}

// level is the present count of a level; 0 if there is none.
func (b *Book) level(ctx context.Context, bucket bucket, id string) (float64, error) {
	item, err := b.levels.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read failures: %w", err)
	}
	return bucket.now(item.Value, b.o.Clock.Now()), nil
}

// raise counts one more. A level that is full is not written again until it has fallen by
// one: a flood of failures costs no flood of writes.
func (b *Book) raise(ctx context.Context, bucket bucket, id string) error {
	now := b.o.Clock.Now()
	_, err := b.levels.Upsert(ctx, id, func(l *level) error {
		count := bucket.now(*l, now) + 1
		if count > bucket.most {
			return errFull
		}
		if now.After(l.At) {
			l.At = now
		}
		l.Count, l.Expires = count, l.At.Add(bucket.falling(count))
		return nil
	})
	if err != nil && !errors.Is(err, errFull) {
		return fmt.Errorf("count failure: %w", err)
	}
	return nil
}

// now is the count that is left of a level.
func (b bucket) now(l level, now time.Time) float64 {
	since := max(0, now.Sub(l.At))
	return math.Max(0, l.Count-b.hourly*since.Hours())
}

// falling is how long a count takes to fall by an amount, in whole milliseconds.
func (b bucket) falling(amount float64) time.Duration {
	return time.Duration(math.Ceil(amount/b.hourly*float64(time.Hour/time.Millisecond))) * time.Millisecond
}

// errFull: a level is as high as it gets, and there is nothing to write.
var errFull = errors.New("full")

// id of what is kept about an account and a network. The length keeps one from running
// into the other.
func (b *Book) id(what, account, network string) string {
	mac := hmac.New(sha256.New, b.o.Key)
	_, _ = fmt.Fprintf(mac, "%s %d %s", what, len(network), network) // hashes do not fail
	mac.Write([]byte(account))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
