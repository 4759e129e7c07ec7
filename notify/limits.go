package notify

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"login-server/store"
)

// SMS cost money, and some numbers pay who has them called. So an SMS is only sent to
// numbers that begin as the operator allows, and only so many: to a number, to a range of
// numbers that follow one another, for a network of clients, and in all.

// DefaultSMSPerDay is how many SMS are sent in a day unless it is said otherwise.
const DefaultSMSPerDay = 200

// allowance is how many there may be in a time that begins with the first of them.
type allowance struct {
	most int
	in   time.Duration
}

var (
	perNumber  = []allowance{{3, 10 * time.Minute}, {6, 24 * time.Hour}}
	perRange   = []allowance{{6, 10 * time.Minute}, {20, 24 * time.Hour}}
	perNetwork = []allowance{{6, 10 * time.Minute}, {20, 24 * time.Hour}}
)

// forStrangers is how many of the SMS of a day are for numbers that anybody can type in, three
// of four: the rest is for who needs a code as second factor, whom nobody else is to keep out.
func forStrangers(perDay int) int { return perDay - perDay/4 }

// rangeDigits is how many digits at its end a number may differ in from others of its range.
const rangeDigits = 4

// tally counts the SMS for one number, range or network, or in all.
type tally struct {
	Windows []window `json:"windows"`
}

type window struct {
	Ends time.Time `json:"ends"`
	Sent int       `json:"sent"`
}

func (t tally) index() store.Index {
	var i store.Index
	for _, w := range t.Windows {
		if w.Ends.After(i.Expires) {
			i.Expires = w.Ends
		}
	}
	return i
}

// spend counts n SMS, in each window or in none; wait is how long there is no room for one.
func (t *tally) spend(now time.Time, allowed []allowance, n int) (wait time.Duration) {
	for len(t.Windows) < len(allowed) {
		t.Windows = append(t.Windows, window{})
	}
	for i, a := range allowed {
		w := &t.Windows[i]
		if !now.Before(w.Ends) {
			*w = window{Ends: now.Add(a.in)}
		}
		if w.Sent >= a.most {
			wait = max(wait, w.Ends.Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for i := range allowed {
		t.Windows[i].Sent += n
	}
	return 0
}

// spend counts an SMS everywhere. Who asks comes first, so that a network that asks too
// often uses up nothing of anybody else's.
func (q *Queue) spend(ctx context.Context, m SMS) error {
	type account struct {
		of, name string
		allowed  []allowance
		n        int
	}
	// A decoy costs nothing, so it takes nothing from everybody: whoever asks for numbers that
	// are nobody's would keep all others from theirs. It is written all the same.
	forAll := 1
	if m.Decoy {
		forAll = 0
	}
	whose := ""
	if m.Proven {
		whose = "proven "
	}
	var accounts []account
	if m.Network != "" {
		accounts = append(accounts, account{"network", whose + "network " + m.Network, perNetwork, 1})
	}
	accounts = append(accounts,
		account{"range", whose + "range " + m.To[:len(m.To)-rangeDigits], perRange, 1},
		account{"number", whose + "number " + m.To, perNumber, 1},
	)
	if !m.Proven {
		accounts = append(accounts, account{"strangers", "strangers", []allowance{{forStrangers(q.o.SMSPerDay), 24 * time.Hour}}, forAll})
	}
	accounts = append(accounts, account{"all", "all", []allowance{{q.o.SMSPerDay, 24 * time.Hour}}, forAll})
	for _, a := range accounts {
		if err := q.spendOf(ctx, a.name, a.allowed, a.n); err != nil {
			if _, limited := errors.AsType[*ErrLimited](err); limited {
				q.o.Log.Warn("an SMS was not sent: too many were", "of", a.of, "kind", m.Kind, "proven", m.Proven)
				q.count(message{Channel: ChannelSMS, Kind: m.Kind}, ResultLimited)
			}
			return err
		}
	}
	return nil
}

// spendOf counts n SMS for one number, range or network.
func (q *Queue) spendOf(ctx context.Context, name string, allowed []allowance, n int) error {
	sum := sha256.Sum256([]byte(name))
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	_, err := q.tallies.Upsert(ctx, id, func(t *tally) error {
		if wait := t.spend(q.o.Clock.Now(), allowed, n); wait > 0 {
			return &ErrLimited{RetryAfter: wait}
		}
		return nil
	})
	return err
}
