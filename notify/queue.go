// Package notify tells people something outside of their browser: by mail and by SMS.
//
// What is to be sent is written to the store first, sealed, since it holds codes and links,
// and delivered by workers beside the requests: Mail and SMS wait for the store and for
// nobody else, and a restart loses nothing. Who delivers a message claims it by
// compare-and-swap, for a time that nobody needs to send it. So it is sent once, by however
// many nodes on one store; only a crash, or a store that goes away, between the answer of a
// server and the write that follows may send it again.
//
// How a message leaves is the matter of a MailSender (SMTP) and of an SMSSender (Twilio, a
// webhook), or of the Catcher of development.
package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"login-server/clock"
	"login-server/store"
	"login-server/token"
)

var (
	// ErrNoSender: the operator has set no way to send such messages.
	ErrNoSender = errors.New("no way to send it is set")
	// ErrAddress: an address or a number that nothing can be sent to, or a subject or a name
	// that cannot stand in a header.
	ErrAddress = errors.New("not an address that can be written to")
	// ErrSize: the text is longer than anything that is sent from here.
	ErrSize = errors.New("too long a message")
)

// ErrLimited: so many SMS were sent that this one is not.
type ErrLimited struct {
	// RetryAfter is when it may be tried again.
	RetryAfter time.Duration
}

func (e *ErrLimited) Error() string {
	return fmt.Sprintf("too many messages, again in %v", e.RetryAfter.Round(time.Second))
}

const (
	// maxText is how many bytes text and HTML of a mail may have together.
	maxText = 256 << 10
	// maxSubject is how many bytes a subject may have, and maxName the name of a recipient.
	maxSubject, maxName = 400, 200
	// maxSMS is how many characters an SMS may have: three parts in the smaller alphabet.
	maxSMS = 459
	// mailLife is how long a mail is tried to be delivered, smsLife an SMS.
	mailLife, smsLife = 48 * time.Hour, 10 * time.Minute
	// failedLife is how long what could not be sent is kept for the operator.
	failedLife = 7 * 24 * time.Hour
)

// Mail is a message to one address.
type Mail struct {
	To string `json:"to"` // the address alone
	// Name of the recipient, for the header; may be empty.
	Name    string `json:"name,omitempty"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html,omitempty"` // may be empty
	// Kind is what it is about, a word of the program ("verify"): for lists and metrics.
	Kind string `json:"kind"`
	// NotAfter is when it is not worth sending any more, such as when its code has expired.
	// Zero, or more than two days, is two days.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Decoy is queued and taken off like any other, and never sent: so that asking for somebody
	// who is not known costs the same.
	Decoy bool `json:"decoy,omitempty"`
}

// SMS is a message to one telephone.
type SMS struct {
	To   string `json:"to"` // E.164: + and digits, see Number
	Text string `json:"text"`
	Kind string `json:"kind"` // as of a mail
	// Network is who has asked for it: client address or network, for limits. May be empty.
	Network string `json:"-"`
	// Proven: the number has been verified, and who asks has proved one factor of its owner.
	// Such SMS are counted apart from those that strangers can ask for.
	Proven bool `json:"-"`
	// NotAfter as of a mail; zero, or more than that, is ten minutes.
	NotAfter time.Time `json:"notAfter,omitzero"`
	Decoy    bool      `json:"decoy,omitempty"` // as of a mail; it counts for number, range and network
}

// MailSender is a way for mails. It is safe for concurrent use.
type MailSender interface {
	// Connect returns a connection for some mails. An error is nobody's who waits: all wait.
	Connect(context.Context) (MailConnection, error)
}

// MailConnection sends mails, one after the other.
type MailConnection interface {
	// Send sends a mail. The id is the same at each attempt. An error may be a *Refusal.
	Send(ctx context.Context, id string, m Mail) error
	// Close says good-bye.
	Close()
}

// SMSSender is a way for SMS. It is safe for concurrent use.
type SMSSender interface {
	// Send sends an SMS. The id is the same at each attempt. An error may be a *Refusal.
	Send(ctx context.Context, id string, m SMS) error
}

// Refusal is an answer of a server that a message was given to. Errors of other types mean
// that there was none, and that it is tried again.
type Refusal struct {
	// Text is what the server has said, for the operator.
	Text string
	// Permanent: it will never be taken.
	Permanent bool
	// RetryAfter is how long to wait at least; zero where the server has not said so.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return r.Text }

// message is a Mail or an SMS in the store.
type message struct {
	Channel string `json:"channel"`
	Kind    string `json:"kind"`
	// Sealed is the contents, recipient and all.
	Sealed string `json:"sealed"`

	Queued   time.Time `json:"queued"`
	NotAfter time.Time `json:"notAfter"`
	// Due is when it is sent, at the earliest. Who sends it moves Due on first, by lease.
	Due time.Time `json:"due"`
	// Claimed: somebody sends it, until Due.
	Claimed  bool `json:"claimed,omitempty"`
	Attempts int  `json:"attempts,omitempty"`
	// Problem is what was wrong the last time.
	Problem string `json:"problem,omitempty"`
	// Failed is when it was given up; zero while it waits.
	Failed time.Time `json:"failed,omitzero"`
}

// contents is what is sealed.
type contents struct {
	Mail *Mail `json:"mail,omitempty"`
	SMS  *SMS  `json:"sms,omitempty"`
}

func (c contents) decoy() bool { return c.Mail != nil && c.Mail.Decoy || c.SMS != nil && c.SMS.Decoy }

func (c contents) to() string {
	switch {
	case c.Mail != nil:
		return c.Mail.To
	case c.SMS != nil:
		return c.SMS.To
	}
	return ""
}

// Channels are ways to people.
const (
	ChannelMail = "mail"
	ChannelSMS  = "sms"
)

// keyWaiting and keyFailed are look-up keys, of all and of one channel.
const (
	keyWaiting = "waiting"
	keyFailed  = "failed"
)

func keyOf(state, channel string) string { return state + ":" + channel }

func (m message) index() store.Index {
	state, expires := keyWaiting, m.NotAfter.Add(failedLife)
	if !m.Failed.IsZero() {
		state, expires = keyFailed, m.Failed.Add(failedLife)
	}
	return store.Index{Keys: []string{state, keyOf(state, m.Channel)}, Expires: expires}
}

// Purpose is what contents are sealed for (token.NewSealer).
const Purpose = "messages"

// Options are what a Queue stands on.
type Options struct {
	Store store.Engine
	// Sealer seals what is in the store.
	Sealer *token.Sealer
	Clock  clock.Clock
	Log    *slog.Logger
	// Mail and SMS are the ways out; nil where there is none.
	Mail MailSender
	SMS  SMSSender
	// Dev: what has no way out goes to a Catcher, which is in memory.
	Dev bool
	// Prefixes are how numbers may begin that SMS are sent to ("+49"). Empty: with Dev any,
	// otherwise none.
	Prefixes []string
	// SMSPerDay is how many SMS are sent in a day at the most; 0 is DefaultSMSPerDay.
	SMSPerDay int
}

// Queue holds what is to be sent. It is safe for concurrent use, and so are several on one
// store.
type Queue struct {
	o        Options
	messages *store.Collection[message]
	tallies  *store.Collection[tally]
	catcher  *Catcher
	lines    map[string]*line
	look     chan struct{}
	number   atomic.Uint32 // of messages that were queued

	mu      sync.Mutex
	ctx     context.Context // nil where nobody delivers
	sending context.Context // for deliveries: ends some time after ctx
	work    sync.WaitGroup
	sent    map[string]bool // ids whose document could not be deleted yet
	counts  map[Result]uint64
}

// New returns the queue in a store.
func New(o Options) (*Queue, error) {
	if o.Store == nil || o.Sealer == nil || o.Clock == nil || o.Log == nil {
		return nil, errors.New("notify: a queue needs a store, a sealer, a clock and a log")
	}
	if o.SMSPerDay == 0 {
		o.SMSPerDay = DefaultSMSPerDay
	}
	q := &Queue{
		o:        o,
		messages: store.NewCollection(o.Store, "message", message.index),
		tallies:  store.NewCollection(o.Store, "sms count", tally.index),
		look:     make(chan struct{}, 1),
		sent:     map[string]bool{},
		counts:   map[Result]uint64{},
	}
	if o.Dev && (o.Mail == nil || o.SMS == nil) {
		q.catcher = newCatcher(o.Clock.Now)
		if o.Mail == nil {
			q.o.Mail = q.catcher
		}
		if o.SMS == nil {
			q.o.SMS = smsCatcher{q.catcher}
		}
	}
	q.lines = map[string]*line{
		ChannelMail: {channel: ChannelMail, most: mailWorkers, lease: mailLease, waiting: map[string]bool{}},
		ChannelSMS:  {channel: ChannelSMS, most: smsWorkers, lease: smsLease, waiting: map[string]bool{}},
	}
	return q, nil
}

// Catcher is where messages go that have no other way; nil unless Options.Dev.
func (q *Queue) Catcher() *Catcher { return q.catcher }

// CanMail tells whether there is a way for mails.
func (q *Queue) CanMail() bool { return q.o.Mail != nil }

// CanSMS tells whether there is a way for SMS.
func (q *Queue) CanSMS() bool { return q.o.SMS != nil }

// Mail queues a mail. When it returns nil the mail is durable, and will be sent by whoever
// runs a queue on the store. ErrNoSender, ErrAddress, ErrSize, or an error of the store.
func (q *Queue) Mail(ctx context.Context, m Mail) error {
	if !q.CanMail() {
		return ErrNoSender
	}
	if err := checkMail(m); err != nil {
		return err
	}
	return q.add(ctx, ChannelMail, m.Kind, m.NotAfter, mailLife, contents{Mail: &m})
}

// SMS queues an SMS, as Mail does. *ErrLimited when too many were asked for; a number that
// may not be written to is ErrAddress.
func (q *Queue) SMS(ctx context.Context, m SMS) error {
	if !q.CanSMS() {
		return ErrNoSender
	}
	if err := q.Reachable(m.To); err != nil {
		return err
	}
	if n := utf8.RuneCountInString(m.Text); n == 0 || n > maxSMS || !utf8.ValidString(m.Text) {
		return ErrSize
	}
	if err := q.spend(ctx, m); err != nil {
		return err
	}
	return q.add(ctx, ChannelSMS, m.Kind, m.NotAfter, smsLife, contents{SMS: &m})
}

// add writes a message and has it delivered, if that is done here.
func (q *Queue) add(ctx context.Context, channel, kind string, notAfter time.Time, life time.Duration, c contents) error {
	now := q.o.Clock.Now()
	if last := now.Add(life); notAfter.IsZero() || notAfter.After(last) {
		notAfter = last
	}
	if c.SMS != nil {
		c.SMS.NotAfter = notAfter
	}
	sealed, err := q.o.Sealer.Seal(c)
	if err != nil {
		return fmt.Errorf("seal a message: %w", err)
	}
	id := q.newID(now)
	if _, err := q.messages.Insert(ctx, id, message{Channel: channel, Kind: kind, Sealed: sealed, Queued: now, NotAfter: notAfter, Due: now}); err != nil {
		return fmt.Errorf("queue a message: %w", err)
	}
	q.queue(channel, id)
	return nil
}

// newID returns an id that sorts by time, and of one process by the order in which messages
// were queued, so that lists begin with the oldest. Nobody can guess it, though nothing depends
// on that.
func (q *Queue) newID(now time.Time) string {
	return fmt.Sprintf("%011x-%06x%s", now.UnixMilli(), q.number.Add(1)&0xff_ffff, strings.ToLower(rand.Text()[:10]))
}

// checkMail refuses what could make another header, or another recipient, of a mail.
func checkMail(m Mail) error {
	if err := checkAddress(m.To); err != nil {
		return err
	}
	for what, text := range map[string]string{"subject": m.Subject, "name": m.Name} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%w: the %s has control characters", ErrAddress, what)
		}
	}
	if m.Subject == "" || len(m.Subject) > maxSubject || len(m.Name) > maxName || m.Text == "" || len(m.Text)+len(m.HTML) > maxText {
		return ErrSize
	}
	return nil
}

// checkAddress tells whether text is one address and nothing else, without quotes, comments
// and what servers understand in ways of their own.
func checkAddress(text string) error {
	parsed, err := mail.ParseAddress(text)
	local, domain, _ := strings.Cut(text, "@")
	switch {
	case err != nil || parsed.Name != "" || parsed.Address != text:
	case len(text) > 254 || len(local) > 64: // RFC 5321, 4.5.3.1
	case !utf8.ValidString(text) || strings.ContainsAny(text, " \"\\()<>,;:[]%!|`") || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }):
	case strings.Contains(domain, "@"), strings.HasPrefix(local, "-"): // a program may take it for an option
	default:
		return nil
	}
	return ErrAddress
}
