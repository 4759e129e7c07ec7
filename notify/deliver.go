package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"login-server/store"
)

const (
	// mailWorkers is how many connections to the mail server there are at the most, smsWorkers
	// how many SMS are sent at the same time.
	mailWorkers, smsWorkers = 3, 4
	// mailTimeout and smsTimeout are how long one message may take, connecting aside; leases
	// are how long nobody else tries meanwhile, also by a clock that is a little ahead.
	mailTimeout, smsTimeout = 30 * time.Second, 20 * time.Second
	mailLease, smsLease     = 3 * time.Minute, time.Minute
	// connectTimeout is how long a mail server may take to be ready.
	connectTimeout = 20 * time.Second
	// grace is how long deliveries under way may take to end when the server stops.
	grace = 10 * time.Second
	// lookEvery is how often the store is looked through.
	lookEvery = time.Minute
	// lineMost is how many ids wait in memory; others wait in the store.
	lineMost = 1000
	// maxProblem is how many characters of what a server has said are kept.
	maxProblem = 300
)

// waits are how long to wait after each failure; the last one holds for all that follow.
var waits = map[string][]time.Duration{
	ChannelMail: {10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 4 * time.Hour},
	ChannelSMS:  {2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute},
}

// rests are how long nobody tries after a server could not be reached.
var rests = []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute}

// line is what waits to be sent by one channel, in this process.
type line struct {
	channel string
	most    int
	lease   time.Duration

	// guarded by Queue.mu
	ids     []string
	waiting map[string]bool // ids in the line, or with a worker
	workers int
	more    bool      // there are others in the store
	until   time.Time // nobody tries before: the server cannot be reached
	tries   int       // how often in a row it could not be
}

// Run delivers until ctx ends, and then waits for deliveries under way, for ten seconds at
// the most; what is left is for the next start. It is called once.
func (q *Queue) Run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	q.mu.Lock()
	q.ctx, q.sending = ctx, sending
	q.mu.Unlock()
	defer q.work.Wait()
	defer func() {
		q.mu.Lock()
		q.ctx = nil // and nothing is begun any more
		q.mu.Unlock()
		q.o.Clock.AfterFunc(grace, cancel)
	}()
	tick := make(chan struct{}, 1)
	for {
		if err := q.findDue(ctx); err != nil && ctx.Err() == nil {
			q.complain("look through the messages to send", err)
		}
		timer := q.o.Clock.AfterFunc(lookEvery, func() {
			select {
			case tick <- struct{}{}:
			default:
			}
		})
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-tick:
		case <-q.look:
			timer.Stop()
		}
	}
}

// Look has the store looked through, after somebody else has written to it.
func (q *Queue) Look() {
	select {
	case q.look <- struct{}{}:
	default:
	}
}

// findDue puts what is due into its line.
func (q *Queue) findDue(ctx context.Context) error {
	now := q.o.Clock.Now()
	for item, err := range q.messages.All(ctx, store.Query{Key: keyWaiting}) {
		if err != nil {
			return err
		}
		if x := item.Value; !now.Before(x.Due) || now.After(x.NotAfter) {
			q.queue(x.Channel, item.ID)
		}
	}
	return nil
}

// queue has a message delivered, by another worker as long as there are few.
func (q *Queue) queue(channel, id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[channel]
	if l == nil || q.ctx == nil || l.waiting[id] {
		return
	}
	if len(l.ids) == lineMost {
		l.more = true
		return
	}
	l.ids, l.waiting[id] = append(l.ids, id), true
	q.staff(l)
}

// staff begins a worker if one is wanted. q.mu is held.
func (q *Queue) staff(l *line) {
	if q.ctx == nil || l.workers == l.most || len(l.ids) == 0 || q.o.Clock.Now().Before(l.until) {
		return
	}
	if l.tries > 0 && l.workers > 0 {
		return // one is enough to find out whether the server is back
	}
	l.workers++
	ctx := q.sending
	q.work.Go(func() {
		send, done := q.carrier(l.channel)
		for id := q.next(l); id != ""; id = q.next(l) {
			q.deliver(ctx, l, id, send)
			q.mu.Lock()
			delete(l.waiting, id)
			q.mu.Unlock()
		}
		done()
	})
}

// next is what a worker takes from a line; when there is nothing the worker has gone.
func (q *Queue) next(l *line) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	stopped := q.ctx == nil || q.ctx.Err() != nil
	if stopped { // the store keeps what is left
		clear(l.waiting)
		l.ids = nil
	}
	if len(l.ids) == 0 || q.o.Clock.Now().Before(l.until) {
		l.workers--
		if len(l.ids) == 0 && l.more && !stopped {
			l.more = false
			q.Look()
		}
		return ""
	}
	id := l.ids[0]
	l.ids = l.ids[1:]
	return id
}

// unreachable: there is no connection to the server, which is not the message's fault.
type unreachable struct{ error }

// carrier returns what a worker sends with: a connection for all mails that it sends, opened
// by the first of them. done closes it.
func (q *Queue) carrier(channel string) (send func(context.Context, string, contents) error, done func()) {
	if channel == ChannelSMS {
		return func(ctx context.Context, id string, c contents) error {
			ctx, cancel := context.WithTimeout(ctx, smsTimeout)
			defer cancel()
			return q.o.SMS.Send(ctx, id, *c.SMS)
		}, func() {}
	}
	var conn MailConnection
	done = func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	return func(ctx context.Context, id string, c contents) error {
		if conn == nil {
			connecting, cancel := context.WithTimeout(ctx, connectTimeout)
			defer cancel()
			var err error
			if conn, err = q.o.Mail.Connect(connecting); err != nil {
				conn = nil
				return unreachable{err}
			}
		}
		sending, cancel := context.WithTimeout(ctx, mailTimeout)
		defer cancel()
		err := conn.Send(sending, id, *c.Mail)
		if _, answered := errors.AsType[*Refusal](err); err != nil && !answered {
			done() // who knows what the server has understood
		}
		return err
	}, done
}

var errLate = errors.New("was not sent in time")

// deliver sends a message, if it is still due and nobody else is at it.
func (q *Queue) deliver(ctx context.Context, l *line, id string, send func(context.Context, string, contents) error) {
	if q.isSent(id) {
		q.remove(ctx, id)
		return
	}
	item, err := q.messages.Get(ctx, id)
	now := q.o.Clock.Now()
	if err != nil || !item.Value.Failed.IsZero() || now.Before(item.Value.Due) && !now.After(item.Value.NotAfter) {
		q.ignore(ctx, err)
		return
	}
	var c contents
	if q.o.Sealer.Open(item.Value.Sealed, &c) != nil || c.to() == "" {
		q.fail(ctx, item, errors.New("cannot be opened: SESSION_SECRET is another one"))
		return
	}
	if now.After(item.Value.NotAfter) {
		if c.decoy() {
			q.remove(ctx, id)
			return
		}
		q.fail(ctx, item, errLate)
		return
	}
	if c.Mail != nil && q.o.Mail == nil || c.SMS != nil && q.o.SMS == nil {
		q.again(ctx, item, ErrNoSender, lookEvery)
		return
	}
	item.Value.Attempts++
	item.Value.Due, item.Value.Claimed = now.Add(l.lease), true
	if item, err = q.messages.Replace(ctx, item); err != nil {
		q.ignore(ctx, err)
		return
	}
	if c.decoy() {
		q.count(item.Value, ResultDecoy)
		q.remove(ctx, id)
		return
	}
	err = send(ctx, id, c)
	if err == nil {
		q.reached(l)
		q.count(item.Value, ResultSent)
		q.remember(id)
		q.remove(ctx, id)
		return
	}
	if ctx.Err() != nil {
		return // the server stops; the next one goes on when the lease is over
	}
	refusal, answered := errors.AsType[*Refusal](err)
	said := describe(err, c)
	if e, ok := errors.AsType[unreachable](err); ok {
		item.Value.Attempts--
		q.again(ctx, item, said, q.rest(l, describe(e.error, c)))
		return
	}
	q.reached(l)
	if answered && refusal.Permanent {
		q.fail(ctx, item, said)
		return
	}
	steps := waits[l.channel]
	wait := jitter(steps[min(item.Value.Attempts, len(steps))-1])
	if answered {
		wait = max(wait, refusal.RetryAfter)
	}
	q.count(item.Value, ResultFailed)
	q.o.Log.Warn("a message was not sent yet", "channel", l.channel, "kind", item.Value.Kind, "id", id, "attempts", item.Value.Attempts, "again_in", wait.Round(time.Second), "err", said)
	q.again(ctx, item, said, wait)
}

// jitter is d, up to a fifth more or less, so that not all come back at once.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5) //nolint:gosec // nothing has to be hard to guess
}

// again has a message sent later. Past NotAfter it is found by the next look, and given up.
func (q *Queue) again(ctx context.Context, item store.Item[message], why error, wait time.Duration) {
	item.Value.Problem, item.Value.Due, item.Value.Claimed = why.Error(), q.o.Clock.Now().Add(wait), false
	if _, err := q.messages.Replace(ctx, item); err != nil {
		q.ignore(ctx, err)
		return
	}
	if wait < lookEvery {
		q.o.Clock.AfterFunc(wait, func() { q.queue(item.Value.Channel, item.ID) })
	}
}

// fail gives a message up. It stays for the operator to see.
func (q *Queue) fail(ctx context.Context, item store.Item[message], why error) {
	item.Value.Failed, item.Value.Problem, item.Value.Claimed = q.o.Clock.Now(), why.Error(), false
	if _, err := q.messages.Replace(ctx, item); err != nil {
		q.ignore(ctx, err)
		return
	}
	result := ResultRefused
	if errors.Is(why, errLate) {
		result = ResultLate
	}
	q.count(item.Value, result)
	q.o.Log.Error("a message could not be sent", "channel", item.Value.Channel, "kind", item.Value.Kind, "id", item.ID, "attempts", item.Value.Attempts, "err", why)
}

// rest has nobody try a server for a while that cannot be reached, and tells for how long.
func (q *Queue) rest(l *line, why error) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := jitter(rests[min(l.tries, len(rests)-1)])
	if q.o.Clock.Now().Before(l.until) { // another worker has come to the same
		return l.until.Sub(q.o.Clock.Now())
	}
	if l.tries++; l.tries == 1 {
		q.o.Log.Error("mails wait: their server cannot be used", "err", why)
	}
	l.until = q.o.Clock.Now().Add(wait)
	q.o.Clock.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.staff(l)
	})
	return wait
}

// reached notes that the server answers.
func (q *Queue) reached(l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.tries > 0 {
		q.o.Log.Info("mails are sent again")
	}
	l.tries = 0
	q.staff(l)
}

// remember notes that a message was sent, until its document is gone: a store that is away
// at that moment must not have it sent again.
func (q *Queue) remember(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent[id] = true
}

func (q *Queue) isSent(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sent[id]
}

// remove takes a message off the queue.
func (q *Queue) remove(ctx context.Context, id string) {
	err := q.messages.Delete(ctx, id)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		q.mu.Lock()
		delete(q.sent, id)
		q.mu.Unlock()
	}
	q.ignore(ctx, err)
}

// ignore logs errors of the store that mean more than that somebody else was faster: the
// store is looked through again.
func (q *Queue) ignore(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		q.complain("messages to send", err)
	}
}

// complain logs what the store has against something; that it is away it says itself.
func (q *Queue) complain(what string, err error) {
	if !errors.Is(err, store.ErrAway) {
		q.o.Log.Error(what, "err", err)
	}
}

// describe is an error for a log and a list: without the recipient, whom servers like to
// repeat, in one line, and not long.
func describe(err error, c contents) error {
	text := strings.ReplaceAll(err.Error(), c.to(), "(recipient)")
	if c.SMS != nil {
		text = strings.ReplaceAll(text, strings.TrimPrefix(c.to(), "+"), "(recipient)")
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxProblem {
		text = string(runes[:maxProblem]) + "…"
	}
	return fmt.Errorf("%s", text)
}
