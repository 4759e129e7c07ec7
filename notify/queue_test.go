package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/token"
)

// world is a store with a clock, and everything that was sent from it.
type world struct {
	t     *testing.T
	clock *clock.Fake
	store store.Engine
	log   *logged

	mu       sync.Mutex
	sent     []Mail
	ids      []string
	texts    []SMS
	connects int
	answer   func(Mail) error // nil: all is taken
	sms      func(SMS) error
	connect  func() error
	delay    func(context.Context) // while a mail is being sent
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)), log: &logged{}}
	w.store = teststore.Open(t, w.clock.Now)
	return w
}

// logged is a log that is looked at.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Connect implements MailSender.
func (w *world) Connect(context.Context) (MailConnection, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connects++
	if w.connect != nil {
		if err := w.connect(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Send implements MailConnection.
func (w *world) Send(ctx context.Context, id string, m Mail) error {
	if w.delay != nil {
		w.delay(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.answer != nil {
		if err := w.answer(m); err != nil {
			return err
		}
	}
	w.sent, w.ids = append(w.sent, m), append(w.ids, id)
	return nil
}

// Close implements MailConnection.
func (w *world) Close() {}

// phone is a world as an SMSSender.
type phone struct{ w *world }

func (p phone) Send(_ context.Context, _ string, m SMS) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.w.sms != nil {
		if err := p.w.sms(m); err != nil {
			return err
		}
	}
	p.w.texts = append(p.w.texts, m)
	return nil
}

// mails are the subjects that were sent, sorted.
func (w *world) mails() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var subjects []string
	for _, m := range w.sent {
		subjects = append(subjects, m.Subject)
	}
	slices.Sort(subjects)
	return subjects
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) get(what func() int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return what()
}

// open returns a queue in the store, as a start of the program does.
func (w *world) open(change ...func(*Options)) *Queue {
	w.t.Helper()
	sealer, err := token.NewSealer([]string{"the secret of the tests"}, Purpose)
	if err != nil {
		w.t.Fatal(err)
	}
	o := Options{Store: w.store, Sealer: sealer, Clock: w.clock, Log: slog.New(slog.NewTextHandler(w.log, nil)), Mail: w, SMS: phone{w}, Prefixes: []string{"+49"}}
	for _, c := range change {
		c(&o)
	}
	q, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return q
}

// run has a queue deliver until the test ends, or until stop is called.
func (w *world) run(q *Queue) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); q.Run(ctx) }()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// wait waits for what others do.
func (w *world) wait(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain: %s\n%s", what, w.log)
		}
	}
}

// pass lets time pass once the queue has nothing to do: a clock that runs while mails are being
// sent would have their leases end.
func (w *world) pass(q *Queue, d time.Duration) {
	w.t.Helper()
	w.wait("the queue rests", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.lines[ChannelMail].workers+q.lines[ChannelSMS].workers == 0
	})
	w.clock.Advance(d)
}

// list is a page of messages.
func (w *world) list(q *Queue, f Filter) []Item {
	w.t.Helper()
	items, err := q.List(context.Background(), f)
	if err != nil {
		w.t.Fatal(err)
	}
	return items
}

// queue queues mails with these subjects.
func (w *world) queue(q *Queue, subjects ...string) {
	w.t.Helper()
	for _, subject := range subjects {
		if err := q.Mail(context.Background(), Mail{To: "ada@example.org", Subject: subject, Text: "text of " + subject, Kind: "verify"}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) documents() int {
	w.t.Helper()
	n, err := w.store.Count(context.Background(), "message", "")
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// empty waits until nothing is in the store.
func (w *world) empty() {
	w.t.Helper()
	w.wait("all is sent", func() bool { return w.documents() == 0 })
}

// What was queued before a restart is sent after it, on one connection, and nobody who reads the
// store learns what or to whom.
func TestQueueSurvivesRestart(t *testing.T) {
	w := newWorld(t)
	w.queue(w.open(), "one", "two", "three")
	docs, err := w.store.Find(t.Context(), "message", store.Query{})
	if err != nil || len(docs) != 3 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	for _, doc := range docs {
		if bytes.Contains(doc.Data, []byte("ada")) || bytes.Contains(doc.Data, []byte("text")) {
			t.Errorf("the store can be read: %s", doc.Data)
		}
	}
	w.run(w.open())
	w.empty()
	if got := w.mails(); !slices.Equal(got, []string{"one", "three", "two"}) {
		t.Errorf("sent %q", got)
	}
	if n := w.get(func() int { return w.connects }); n > mailWorkers {
		t.Errorf("%d connections for three mails", n)
	}
}

// A mail that is queued while the queue delivers needs no look at the store.
func TestQueueDeliversAtOnce(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	w.run(q)
	w.queue(q, "one")
	w.empty()
	if got := q.Counts()[Result{ChannelMail, "verify", ResultSent}]; got != 1 {
		t.Errorf("%d are counted", got)
	}
}

// Two nodes on one store send nothing twice, and more than fits into a line.
func TestTwoQueuesSendOnce(t *testing.T) {
	w := newWorld(t)
	a, b := w.open(), w.open()
	var want []string
	for i := range 60 {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	w.queue(a, want...)
	w.run(a)
	w.run(b)
	for i := range 20 {
		subject := fmt.Sprintf("%03d", 60+i)
		want = append(want, subject)
		w.queue(a, subject)
		b.Look()
	}
	w.empty()
	if got := w.mails(); !slices.Equal(got, want) {
		t.Errorf("sent %q", got)
	}
}

func TestMoreThanALine(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	var wg sync.WaitGroup
	for i := range lineMost + 100 {
		wg.Go(func() { w.queue(q, fmt.Sprint(i)) })
	}
	wg.Wait()
	w.run(q)
	w.empty()
	if n := len(w.mails()); n != lineMost+100 {
		t.Errorf("%d are sent", n)
	}
}

// A server that wants it later is asked later, and again, until it is two days.
func TestRetries(t *testing.T) {
	w := newWorld(t)
	w.answer = func(Mail) error { return &Refusal{Text: "451 ada@example.org is busy\r\n"} }
	q := w.open()
	w.run(q)
	w.queue(q, "one")
	begin := w.clock.Now()
	for n := 1; ; n++ {
		w.wait("an attempt", func() bool {
			q.Look() // nobody moves the clock to the next look
			items, err := q.messages.Find(t.Context(), store.Query{})
			return err == nil && len(items) == 1 && (!items[0].Value.Failed.IsZero() || items[0].Value.Attempts == n && !items[0].Value.Claimed)
		})
		item := w.list(q, Filter{})[0]
		if item.State == Failed {
			break
		}
		steps := waits[ChannelMail]
		wait, step := item.Next.Sub(w.clock.Now()), steps[min(n, len(steps))-1]
		if wait < step*4/5 || wait > step*6/5 {
			t.Errorf("after attempt %d it waits for %v, want about %v", n, wait, step)
		}
		if item.Problem != "451 (recipient) is busy" {
			t.Errorf("the problem is %q", item.Problem)
		}
		if n > 50 {
			t.Fatal("it is never given up")
		}
		w.clock.Advance(wait)
	}
	if took := w.clock.Now().Sub(begin); took < mailLife || took > mailLife+5*time.Hour {
		t.Errorf("given up after %v", took)
	}
	if got := w.list(q, Filter{State: Failed, Channel: ChannelMail}); len(got) != 1 || got[0].Problem != errLate.Error() {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(w.log.String(), "ada@") {
		t.Error("the recipient is in the log")
	}
	w.clock.Advance(failedLife)
	if got := w.list(q, Filter{}); len(got) != 0 {
		t.Errorf("it is still there a week later: %+v", got)
	}
}

// What will never be taken is given up at once, and is sent when somebody says so.
func TestRefusedAndRetried(t *testing.T) {
	w := newWorld(t)
	w.answer = func(m Mail) error {
		if m.Subject == "two" {
			return nil
		}
		return &Refusal{Text: "550 no such user", Permanent: true}
	}
	q := w.open()
	w.run(q)
	w.queue(q, "one", "two")
	w.wait("one has failed", func() bool { return len(w.list(q, Filter{State: Failed})) == 1 && w.documents() == 1 })
	item := w.list(q, Filter{})[0]
	if item.Attempts != 1 || item.Problem != "550 no such user" || item.To != "ada@example.org" || item.State != Failed {
		t.Errorf("got %+v", item)
	}
	if s, err := q.Stats(t.Context(), ChannelMail); err != nil || s.Failed != 1 || s.Waiting != 0 {
		t.Errorf("Stats: %+v, %v", s, err)
	}
	if err := q.Retry(t.Context(), "nonsense"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Retry of nothing: %v", err)
	}
	w.set(func() { w.answer = nil })
	if err := q.Retry(t.Context(), item.ID); err != nil {
		t.Fatal(err)
	}
	w.empty()
	if got := w.mails(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("sent %q", got)
	}
}

// A code that has expired is not sent, not even when an operator wants it.
func TestNotAfter(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	ctx := t.Context()
	if err := q.Mail(ctx, Mail{To: "a@example.org", Subject: "late", Text: "x", Kind: "verify", NotAfter: w.clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := q.SMS(ctx, SMS{To: "+491511234567", Text: "123456", Kind: "code"}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour + time.Second)
	w.run(q)
	w.wait("both are given up", func() bool { return len(w.list(q, Filter{State: Failed})) == 2 })
	if n, err := q.RetryAll(ctx); n != 0 || err != nil {
		t.Errorf("RetryAll: %d, %v", n, err)
	}
	if err := q.Retry(ctx, w.list(q, Filter{})[0].ID); !errors.Is(err, ErrLate) {
		t.Errorf("Retry: %v", err)
	}
	if got := w.mails(); len(got) != 0 || len(w.texts) != 0 {
		t.Errorf("sent %q, %v", got, w.texts)
	}
}

// While the server is away nobody's attempts are used up, and it is asked by one at a time.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	away := errors.New("connection refused")
	w.connect = func() error { return away }
	q := w.open()
	w.queue(q, "one", "two", "three", "four", "five")
	w.run(q)
	rests := func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		l := q.lines[ChannelMail]
		return l.workers == 0 && l.until.After(w.clock.Now())
	}
	for n := range 6 {
		w.wait("somebody has asked", rests)
		if got, most := w.get(func() int { return w.connects }), n+mailWorkers; got > most {
			t.Errorf("after %d rests: %d connections", n, got)
		}
		w.pass(q, 3*time.Minute)
	}
	w.wait("nobody asks at this moment", rests)
	items := w.list(q, Filter{State: Waiting})
	if len(items) != 5 || slices.ContainsFunc(items, func(i Item) bool { return i.Attempts > 0 && i.Problem != "" }) {
		t.Errorf("got %+v", items)
	}
	if n := strings.Count(w.log.String(), "cannot be used"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	w.set(func() { w.connect = nil })
	w.wait("it is asked again", func() bool { w.pass(q, time.Minute); return w.documents() == 0 })
	if got := w.mails(); len(got) != 5 {
		t.Errorf("sent %q", got)
	}
}

// A decoy costs what others cost, and is never sent or shown.
func TestDecoys(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	ctx := t.Context()
	if err := q.Mail(ctx, Mail{To: "nobody@example.org", Subject: "x", Text: "y", Kind: "reset", Decoy: true}); err != nil {
		t.Fatal(err)
	}
	if err := q.SMS(ctx, SMS{To: "+491511234567", Text: "y", Kind: "code", Decoy: true}); err != nil {
		t.Fatal(err)
	}
	if n := w.documents(); n != 2 {
		t.Errorf("%d are queued", n)
	}
	if got := w.list(q, Filter{}); len(got) != 0 {
		t.Errorf("shown: %+v", got)
	}
	w.run(q)
	w.empty()
	if len(w.mails()) != 0 || len(w.texts) != 0 || w.get(func() int { return w.connects }) != 0 {
		t.Error("a decoy was sent")
	}
}

// At the end a delivery under way is waited for, and nothing else is begun.
func TestStop(t *testing.T) {
	w := newWorld(t)
	begun, end := make(chan struct{}, 10), make(chan struct{})
	w.delay = func(context.Context) { begun <- struct{}{}; <-end }
	q := w.open()
	var many []string
	for i := range 10 {
		many = append(many, fmt.Sprint(i))
	}
	w.queue(q, many...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); q.Run(ctx) }()
	for range mailWorkers {
		<-begun
	}
	cancel()
	w.wait("nothing is begun any more", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.ctx == nil })
	select {
	case <-done:
		t.Error("did not wait for what is being sent")
	default:
	}
	close(end)
	<-done
	if sent, left := len(w.mails()), w.documents(); sent != mailWorkers || left != len(many)-mailWorkers {
		t.Errorf("%d are sent, %d are left", sent, left)
	}
	w.delay = nil
	w.run(w.open())
	w.empty()
	if n := len(w.mails()); n != len(many) {
		t.Errorf("%d are sent in all", n)
	}
}

// A server that hangs does not keep the program from ending. What it may have taken is not
// sent again before the lease is over.
func TestStopIsBounded(t *testing.T) {
	w := newWorld(t)
	begun := make(chan struct{})
	w.delay = func(ctx context.Context) { close(begun); <-ctx.Done() }
	q := w.open()
	w.queue(q, "one")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); q.Run(ctx) }()
	<-begun
	cancel()
	w.wait("nothing is begun any more", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.ctx == nil })
	w.wait("it ends", func() bool {
		w.clock.Advance(grace)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	item, err := q.messages.Get(t.Context(), w.list(q, Filter{})[0].ID)
	if err != nil || !item.Value.Claimed {
		t.Fatalf("got %+v, %v", item.Value, err)
	}
	if err := q.Retry(t.Context(), item.ID); item.Value.Due.After(w.clock.Now()) && !errors.Is(err, errUnderWay) {
		t.Errorf("Retry of what is being sent: %v", err)
	}
	w.delay = nil
	next := w.open()
	w.run(next)
	w.wait("it is sent when the lease is over", func() bool { w.pass(next, time.Minute); return len(w.mails()) == 1 })
}

// forgetful is a store that is away when a message was sent.
type forgetful struct {
	store.Engine
	mu   sync.Mutex
	away bool
}

func (f *forgetful) Delete(ctx context.Context, kind, id string) error {
	f.mu.Lock()
	away := f.away
	f.mu.Unlock()
	if away && kind == "message" {
		return store.ErrAway
	}
	return f.Engine.Delete(ctx, kind, id)
}

// The store goes away between the answer of the server and the write: not sent twice.
func TestStoreAwayAfterSending(t *testing.T) {
	w := newWorld(t)
	f := &forgetful{Engine: w.store, away: true}
	q := w.open(func(o *Options) { o.Store = f })
	w.run(q)
	w.queue(q, "one")
	w.wait("it is sent", func() bool { return len(w.mails()) == 1 })
	for range 10 {
		w.pass(q, time.Minute)
	}
	f.mu.Lock()
	f.away = false
	f.mu.Unlock()
	w.wait("it is off the queue", func() bool { w.pass(q, time.Minute); return w.documents() == 0 })
	if got := w.mails(); len(got) != 1 {
		t.Errorf("sent %q", got)
	}
}

// With another secret nobody can send what is there; it is said, not tried for ever.
func TestOtherSecret(t *testing.T) {
	w := newWorld(t)
	w.queue(w.open(), "one")
	other, err := token.NewSealer([]string{"another secret of theirs"}, Purpose)
	if err != nil {
		t.Fatal(err)
	}
	q := w.open(func(o *Options) { o.Sealer = other })
	w.run(q)
	w.wait("it is given up", func() bool { return len(w.list(q, Filter{State: Failed})) == 1 })
	if item := w.list(q, Filter{})[0]; item.To != "" || !strings.Contains(item.Problem, "SESSION_SECRET") {
		t.Errorf("got %+v", item)
	}
}

func TestNoSender(t *testing.T) {
	w := newWorld(t)
	q := w.open(func(o *Options) { o.Mail, o.SMS = nil, nil })
	if q.CanMail() || q.CanSMS() || q.Catcher() != nil {
		t.Error("says that it can")
	}
	if err := q.Mail(t.Context(), Mail{To: "a@example.org", Subject: "x", Text: "y"}); !errors.Is(err, ErrNoSender) {
		t.Errorf("Mail: %v", err)
	}
	if err := q.SMS(t.Context(), SMS{To: "+491511234567", Text: "y"}); !errors.Is(err, ErrNoSender) {
		t.Errorf("SMS: %v", err)
	}
	if n := w.documents(); n != 0 {
		t.Errorf("%d are queued", n)
	}
}

// What could make another header or another recipient, or fill the store, is not queued.
func TestRefusedBeforeQueued(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	good := Mail{To: "ada@example.org", Name: "Ada", Subject: "Hello", Text: "x", Kind: "verify"}
	for what, change := range map[string]func(*Mail){
		"two addresses":     func(m *Mail) { m.To = "ada@example.org, ben@example.org" },
		"a named address":   func(m *Mail) { m.To = "Ada <ada@example.org>" },
		"a line in it":      func(m *Mail) { m.To = "ada@example.org\r\nBcc: ben@example.org" },
		"a quoted address":  func(m *Mail) { m.To = `"ada ben"@example.org` },
		"a comment":         func(m *Mail) { m.To = "ada@example.org(ben)" },
		"a route":           func(m *Mail) { m.To = "@relay.example:ada@example.org" },
		"a percent route":   func(m *Mail) { m.To = "ada%example.org@relay.example" },
		"an option":         func(m *Mail) { m.To = "-oX@example.org" },
		"a literal":         func(m *Mail) { m.To = "ada@[127.0.0.1]" },
		"a pipe":            func(m *Mail) { m.To = "|ada@example.org" },
		"no address":        func(m *Mail) { m.To = "" },
		"a long address":    func(m *Mail) { m.To = strings.Repeat("a", 65) + "@example.org" },
		"a NUL":             func(m *Mail) { m.To = "ada\x00@example.org" },
		"a subject of two":  func(m *Mail) { m.Subject = "Hello\r\nBcc: ben@example.org" },
		"a subject with LF": func(m *Mail) { m.Subject = "Hello\nX: y" },
		"a name of two":     func(m *Mail) { m.Name = "Ada\r\nBcc: ben@example.org" },
		"no UTF-8":          func(m *Mail) { m.Subject = "\xff" },
	} {
		m := good
		change(&m)
		if err := q.Mail(t.Context(), m); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, change := range map[string]func(*Mail){
		"a text of 10 MB": func(m *Mail) { m.Text = strings.Repeat("x", 10<<20) },
		"a long subject":  func(m *Mail) { m.Subject = strings.Repeat("x", 1000) },
		"a long name":     func(m *Mail) { m.Name = strings.Repeat("x", 1000) },
		"no text":         func(m *Mail) { m.Text = "" },
	} {
		m := good
		change(&m)
		if err := q.Mail(t.Context(), m); !errors.Is(err, ErrSize) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, to := range []string{"a@b", "ada.lovelace+tag@example.org", "o'brien@example.org", "jörg@example.org", "ada@bücher.example"} {
		m := good
		m.To = to
		if err := q.Mail(t.Context(), m); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestCatcher(t *testing.T) {
	w := newWorld(t)
	q := w.open(func(o *Options) { o.Mail, o.SMS, o.Dev, o.Prefixes = nil, nil, true, nil })
	w.run(q)
	for i := range caught + 5 {
		w.queue(q, fmt.Sprintf("%03d", i))
		w.empty()
	}
	if err := q.SMS(t.Context(), SMS{To: "+81312345678", Text: "123456", Kind: "code"}); err != nil {
		t.Fatal(err)
	}
	w.empty()
	mails := q.Catcher().Mails()
	if len(mails) != caught || mails[0].Subject != "104" || mails[caught-1].Subject != "005" {
		t.Errorf("%d mails, from %q to %q", len(mails), mails[0].Subject, mails[len(mails)-1].Subject)
	}
	if texts := q.Catcher().SMS(); len(texts) != 1 || texts[0].Text != "123456" {
		t.Errorf("got %+v", texts)
	}
}
