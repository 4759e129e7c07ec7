package notify

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// caught is how many messages a Catcher keeps of each channel.
const caught = 100

// Catcher takes messages in development that have no way out: it keeps the last hundred of
// each channel in memory and sends none. It is safe for concurrent use.
type Catcher struct {
	now func() time.Time

	mu    sync.Mutex
	mails []CaughtMail
	sms   []CaughtSMS
}

// CaughtMail is a mail that would have been sent.
type CaughtMail struct {
	ID string
	At time.Time
	Mail
}

// CaughtSMS is an SMS that would have been sent.
type CaughtSMS struct {
	ID string
	At time.Time
	SMS
}

func newCatcher(now func() time.Time) *Catcher { return &Catcher{now: now} }

// Mails are those that were caught, the one that was queued last first.
func (c *Catcher) Mails() []CaughtMail {
	c.mu.Lock()
	defer c.mu.Unlock()
	mails := slices.Clone(c.mails)
	slices.SortFunc(mails, func(a, b CaughtMail) int { return strings.Compare(b.ID, a.ID) })
	return mails
}

// SMS are those that were caught, the one that was queued last first.
func (c *Catcher) SMS() []CaughtSMS {
	c.mu.Lock()
	defer c.mu.Unlock()
	sms := slices.Clone(c.sms)
	slices.SortFunc(sms, func(a, b CaughtSMS) int { return strings.Compare(b.ID, a.ID) })
	return sms
}

// Connect implements MailSender.
func (c *Catcher) Connect(context.Context) (MailConnection, error) { return c, nil }

// Send implements MailConnection.
func (c *Catcher) Send(_ context.Context, id string, m Mail) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mails = last(append(c.mails, CaughtMail{id, c.now(), m}))
	return nil
}

// Close implements MailConnection.
func (*Catcher) Close() {}

// smsCatcher is a Catcher as an SMSSender.
type smsCatcher struct{ c *Catcher }

func (s smsCatcher) Send(_ context.Context, id string, m SMS) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.sms = last(append(s.c.sms, CaughtSMS{id, s.c.now(), m}))
	return nil
}

// last are the latest of a list.
func last[T any](list []T) []T { return slices.Clone(list[max(0, len(list)-caught):]) }
