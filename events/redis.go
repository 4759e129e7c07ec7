package events

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// quiet turns off what go-redis writes to stderr by itself: all that matters of it
// comes back as an error, too.
var quiet = sync.OnceFunc(logging.Disable)

// OpenRedis returns a client of one Redis server, given as redis://, rediss:// or
// unix:// URL. It does not connect yet, so that it succeeds while Redis is down. Clients of
// Sentinel and of a cluster have other URLs, and are not made here.
//
// Errors quote nothing of the URL: a password that is not escaped may be anywhere in it.
func OpenRedis(url string) (*redis.Client, error) {
	quiet()
	o, err := redis.ParseURL(url)
	if err != nil || strings.Contains(url, "#") { // what follows is not read: a password, maybe
		return nil, errors.New("it is no URL of a Redis server (special characters in its password are written as %XX)")
	}
	// Whoever calls knows how long it can wait, and what may be done a second time: counting
	// an attempt may not.
	o.ContextTimeoutEnabled = true
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout = within(o.DialTimeout, 2*time.Second)
	o.ReadTimeout = within(o.ReadTimeout, 2*time.Second)
	o.WriteTimeout = within(o.WriteTimeout, 2*time.Second)
	if o.ClientName == "" {
		o.ClientName = "login-server" // in CLIENT LIST
	}
	// The handshake is for what every Redis since 6 understands.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.TLSConfig != nil && o.TLSConfig.MinVersion < tls.VersionTLS12 {
		o.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return redis.NewClient(o), nil
}

// within is a time-out that an operator has set, or the usual one. Never is no time-out.
func within(set, usual time.Duration) time.Duration {
	if set <= 0 {
		return usual
	}
	return set
}

// RedisHealth is what CheckRedis has found.
type RedisHealth struct {
	// Version of the server, or empty if this user may not ask for it.
	Version string
	// RoundTrip is the time from a question to its answer, once connected.
	RoundTrip time.Duration
}

// CheckRedis asks whether Redis answers and lets this server do what it does there:
// publish on a channel, and run the scripts that count. It changes nothing.
func CheckRedis(ctx context.Context, client redis.UniversalClient, channel string) (RedisHealth, error) {
	var h RedisHealth
	if err := client.Ping(ctx).Err(); err != nil {
		return h, fmt.Errorf("redis does not answer: %w", err)
	}
	start := time.Now()
	if err := client.Ping(ctx).Err(); err != nil {
		return h, fmt.Errorf("redis does not answer: %w", err)
	}
	h.RoundTrip = time.Since(start)
	if info, err := client.InfoMap(ctx, "server").Result(); err == nil {
		h.Version = info["Server"]["redis_version"]
	}
	if err := client.Publish(ctx, channel+checkSuffix, "").Err(); err != nil {
		return h, fmt.Errorf("redis lets this user publish nothing: %w", err)
	}
	if err := client.Eval(ctx, "return 1", nil).Err(); err != nil {
		return h, fmt.Errorf("redis lets this user run no scripts: %w", err)
	}
	return h, nil
}

const checkSuffix = ":check"

// RedisOptions are what a RedisBus needs.
type RedisOptions struct {
	// Channel is where the nodes of one installation hear each other. It has to differ
	// between installations that share a Redis: its databases do not keep channels apart. The
	// replies to each node come on Channel, a colon, and the name of the node.
	Channel string
	// Node names this process among the nodes; empty: it gets a name.
	Node string
	Log  *slog.Logger

	// Tests have less time.
	pingEvery, lostAfter, answersWithin, backOff time.Duration
}

const (
	// maxWaiting is how many different hints wait for Redis or for receivers before they
	// become one that says: everything.
	maxWaiting = 4096
	// maxReplies is how many answers for other nodes wait for Redis.
	maxReplies = 256
	// maxMessage is the length of the longest message that is read, in bytes, and
	// maxAsked how many sessions are asked about at once.
	maxMessage, maxAsked = 512 << 10, 4000
	// maxID is the length of the longest id of a session, an account or a node, in bytes.
	maxID = 1 << 10
	// maxBatch is how many messages are published in one go.
	maxBatch = 256
	// publishTimeout and closeTimeout bound a go, and the last ones.
	publishTimeout, closeTimeout = 2 * time.Second, 2 * time.Second
	// maxBackOff is the longest pause between two attempts.
	maxBackOff = 2 * time.Second
)

// protocol is the version of the messages. A node takes a newer one for: something has
// changed.
const protocol = 1

// busMessage is what nodes tell each other. It has one of Hint, Ask and Answer. None of
// them is believed anything that the store does not say: who can write to Redis can make
// nodes look again, and show wrong numbers of sockets.
type busMessage struct {
	Version int     `json:"v"`
	Node    string  `json:"node"`
	Hint    *Hint   `json:"hint,omitempty"`
	Ask     *ask    `json:"ask,omitempty"`
	Answer  *answer `json:"answer,omitempty"`
}

// ask is the question how many sockets the sessions have.
type ask struct {
	ID       string   `json:"id"`
	Sessions []string `json:"sessions"`
}

// answer is what one node says; sessions without sockets are left out.
type answer struct {
	ID      string         `json:"id"`
	Sockets map[string]int `json:"sockets,omitempty"`
}

// RedisBus is the bus of several nodes, over publish/subscribe of one Redis.
//
// Receivers hear this node's hints before Publish returns, as on a LocalBus, and those of
// other nodes in their order, one after the other, on a goroutine of their own. Redis
// forgets what nobody hears, so after each interruption they are told that everything may
// have changed. Hints that Redis has not taken wait for it.
//
// Publish never waits for Redis, for the receivers of other nodes, or for this node's
// while they are busy with hints from elsewhere.
type RedisBus struct {
	client redis.UniversalClient
	o      RedisOptions
	own    LocalBus
	in     *backlog // hints of other nodes, for the receivers

	mu      sync.Mutex
	out     *backlog // hints of this node, for the others
	replies []reply  // to other nodes
	closed  bool
	pending map[string]*collection // questions that wait for answers, by their ids
	count   func(sessions ...string) map[string]int

	wake chan struct{} // something waits for Redis

	subscribed, refusing atomic.Bool // refusing: what was published last was not taken
	published, received  atomic.Int64
	dropped, invalid     atomic.Int64
	interruptions        atomic.Int64

	stop       context.CancelFunc // of everything
	closing    chan struct{}
	publishing sync.WaitGroup
	listening  sync.WaitGroup
	down       atomic.Bool // it was said in the log
}

// reply is a message for one node.
type reply struct{ channel, text string }

// NewRedisBus returns a bus that has begun to connect. While Redis is down it is one
// of a single node. The client remains the caller's, who closes it after the bus; it
// should be one of OpenRedis.
func NewRedisBus(client redis.UniversalClient, o RedisOptions) *RedisBus {
	if o.Node == "" {
		o.Node = uuid.NewString()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.pingEvery = within(o.pingEvery, time.Second)
	o.lostAfter = within(o.lostAfter, 3*time.Second)
	o.answersWithin = within(o.answersWithin, 150*time.Millisecond)
	o.backOff = within(o.backOff, 100*time.Millisecond)
	ctx, stop := context.WithCancel(context.Background())
	b := &RedisBus{
		client: client, o: o, in: newBacklog(), out: newBacklog(),
		pending: map[string]*collection{}, wake: make(chan struct{}, 1),
		stop: stop, closing: make(chan struct{}),
	}
	b.publishing.Go(func() { b.publishAll(ctx) })
	b.listening.Go(func() { b.listen(ctx) })
	b.listening.Go(func() { b.deliver(ctx) })
	return b
}

// Publish implements Bus.
func (b *RedisBus) Publish(h Hint) {
	b.mu.Lock()
	if !b.closed {
		b.dropped.Add(b.out.add(h))
		b.signal()
	}
	b.mu.Unlock()
	b.own.Publish(h)
}

// Subscribe implements Bus.
func (b *RedisBus) Subscribe(receive func(Hint)) { b.own.Subscribe(receive) }

// signal wakes the publisher.
func (b *RedisBus) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Connected tells whether hints reach the other nodes and theirs this one: Redis has
// confirmed the subscription and answers on it, and has taken what was published last.
func (b *RedisBus) Connected() bool { return b.subscribed.Load() && !b.refusing.Load() }

// BusStats are numbers for metrics.
type BusStats struct {
	Connected bool
	// Published counts hints that Redis has taken, Received those of other nodes, and
	// Dropped those that became part of one hint about everything, because too many were waiting.
	Published, Received, Dropped int64
	// Invalid counts messages on the channel that were none of ours.
	Invalid int64
	// Interruptions counts how often the connection was lost.
	Interruptions int64
}

// Stats returns the bus's present numbers.
func (b *RedisBus) Stats() BusStats {
	return BusStats{
		Connected: b.Connected(), Published: b.published.Load(), Received: b.received.Load(), Dropped: b.dropped.Load(),
		Invalid: b.invalid.Load(), Interruptions: b.interruptions.Load(),
	}
}

// Close publishes what waits, for two seconds at most, and ends the bus. Hints that
// come later reach this node's receivers only.
func (b *RedisBus) Close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	b.mu.Unlock()
	timer := time.AfterFunc(closeTimeout, b.stop)
	defer timer.Stop()
	close(b.closing)
	b.publishing.Wait()
	b.stop()
	b.listening.Wait()
	b.subscribed.Store(false)
}

// publishAll gives Redis what waits, until the bus is closed.
func (b *RedisBus) publishAll(ctx context.Context) {
	pause := b.o.backOff
	for {
		b.mu.Lock()
		hints := b.out.take(maxBatch)
		replies := b.replies
		b.replies = nil
		last := b.closed
		b.mu.Unlock()
		if len(hints)+len(replies) == 0 {
			if last {
				return
			}
			select {
			case <-b.wake:
			case <-b.closing:
			}
			continue
		}
		err := b.send(ctx, hints, replies)
		if err == nil {
			b.published.Add(int64(len(hints)))
			b.refusing.Store(false)
			b.note(nil)
			pause = b.o.backOff
			continue
		}
		if ctx.Err() != nil {
			return
		}
		// To be heard twice does a hint no harm. An answer is worth nothing by then.
		b.refusing.Store(true)
		b.note(err)
		b.mu.Lock()
		b.dropped.Add(b.out.putBack(hints))
		b.mu.Unlock()
		if !sleep(ctx, pause) {
			return
		}
		pause = longer(pause)
	}
}

// send publishes messages in one go.
func (b *RedisBus) send(ctx context.Context, hints []Hint, replies []reply) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	pipe := b.client.Pipeline()
	for _, h := range hints {
		pipe.Publish(ctx, b.o.Channel, b.encode(busMessage{Hint: &h}))
	}
	for _, r := range replies {
		pipe.Publish(ctx, r.channel, r.text)
	}
	results, err := pipe.Exec(ctx)
	if err == nil {
		return nil
	}
	for _, r := range results[:min(len(hints), len(results))] {
		if r.Err() != nil {
			return r.Err()
		}
	}
	if len(hints) > 0 && len(results) == 0 {
		return err
	}
	return nil // only replies have failed: nobody waits for them any more
}

func (b *RedisBus) encode(m busMessage) string {
	m.Version, m.Node = protocol, b.o.Node
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // it is ours and marshals
	}
	return string(text)
}

// listen keeps a subscription until ctx ends.
func (b *RedisBus) listen(ctx context.Context) {
	pause := b.o.backOff
	for ctx.Err() == nil {
		err := b.subscription(ctx)
		if ctx.Err() != nil {
			return
		}
		if b.subscribed.Swap(false) {
			b.interruptions.Add(1)
			pause = b.o.backOff
		}
		b.note(err)
		sleep(ctx, pause)
		pause = longer(pause)
	}
}

// errSilent: Redis has not answered for lostAfter. It may be stopped, or gone without
// closing the connection.
var errSilent = errors.New("no answer on the subscription")

// subscription subscribes and listens until the connection is lost, and returns why.
//
// What go-redis does by itself is not enough here: its PubSub connects again without a
// word, and its pings are only written, never missed. So there is one PubSub for each
// connection, and a watch on what comes.
func (b *RedisBus) subscription(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sub := b.client.Subscribe(ctx) // to nothing yet: this connects to nothing
	defer func() { _ = sub.Close() }()

	var heard atomic.Int64 // nanoseconds since the beginning
	begin := time.Now()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() {
		tick := time.NewTicker(b.o.pingEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
			case <-tick.C:
				if time.Since(begin)-time.Duration(heard.Load()) < b.o.lostAfter {
					if heard.Load() > 0 {
						_ = sub.Ping(ctx) // not written: nothing will come
					}
					continue
				}
				cancel(errSilent) // first, so that closing waits for no attempt to connect
			}
			_ = sub.Close()
			return
		}
	})

	replies := b.o.Channel + ":" + b.o.Node
	if err := sub.Subscribe(ctx, b.o.Channel, replies); err != nil {
		return because(ctx, err)
	}
	confirmed := 0
	for {
		received, err := sub.Receive(ctx)
		if err != nil {
			return because(ctx, err)
		}
		heard.Store(int64(max(1, time.Since(begin))))
		switch m := received.(type) {
		case *redis.Subscription:
			if confirmed++; confirmed == 2 {
				b.subscribed.Store(true)
				b.note(nil)
				b.receive(Hint{Everything: true})
			}
		case *redis.Message:
			if confirmed >= 2 {
				b.read(m.Channel, m.Payload)
			}
		}
	}
}

// because is the error, or why its context was ended.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// read takes a message of a channel; it must not wait for anything.
func (b *RedisBus) read(channel, text string) {
	// What a node of a later version says may have another form altogether.
	var version struct {
		Version int             `json:"v"`
		Ask     json.RawMessage `json:"ask"`
	}
	var m busMessage
	switch err := b.decode(text, &version); {
	case err != nil || version.Version < 1:
		b.invalid.Add(1)
	case version.Version > protocol:
		if channel == b.o.Channel && version.Ask == nil {
			b.received.Add(1)
			b.receive(Hint{Everything: true})
		}
	case b.decode(text, &m) != nil || m.Node == "":
		b.invalid.Add(1)
	case m.Answer != nil && channel != b.o.Channel:
		b.collect(m.Node, *m.Answer)
	case m.Ask != nil && channel == b.o.Channel:
		b.reply(m)
	case m.Hint != nil && channel == b.o.Channel && m.Hint.valid():
		if m.Node != b.o.Node { // its own receivers have heard it
			b.received.Add(1)
			b.receive(*m.Hint)
		}
	default:
		b.invalid.Add(1)
	}
}

func (b *RedisBus) decode(text string, into any) error {
	if len(text) > maxMessage {
		return errors.New("too long")
	}
	return json.Unmarshal([]byte(text), into)
}

// valid tells whether a hint of another node is about one thing only, and no longer than
// ids are.
func (h Hint) valid() bool {
	n := 0
	for _, set := range []bool{h.Session != "" || h.Grant != "", h.User != "", h.Client != "", h.Ticket != "", h.Everything} {
		if set {
			n++
		}
	}
	return n == 1 && (!h.Removed || h.Session != "") && len(h.Session)+len(h.User)+len(h.Grant)+len(h.Client)+len(h.Ticket) <= maxID
}

// receive hands a hint to the receivers' goroutine.
func (b *RedisBus) receive(h Hint) { b.dropped.Add(b.in.add(h)) }

// deliver calls the receivers with hints of other nodes until ctx ends.
func (b *RedisBus) deliver(ctx context.Context) {
	for {
		hints := b.in.take(maxBatch)
		for _, h := range hints {
			b.own.Publish(h)
		}
		if len(hints) > 0 {
			continue
		}
		select {
		case <-b.in.filled:
		case <-ctx.Done():
			return
		}
	}
}

// note writes into the log when Redis is lost, and when it is back: once each.
func (b *RedisBus) note(err error) {
	if err != nil {
		if !b.down.Swap(true) {
			b.o.Log.Warn("no connection through Redis: nodes hear of each other's changes late", "err", err)
		}
		return
	}
	if b.Connected() && b.down.Swap(false) {
		b.o.Log.Info("nodes hear of each other through Redis again")
	}
}

// sleep waits, or returns false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	// Nodes that have lost Redis together do not come back in the same moment.
	d = d/2 + rand.N(d)
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func longer(pause time.Duration) time.Duration { return min(2*pause, maxBackOff) }

// CountSockets implements Bus.
func (b *RedisBus) CountSockets(count func(sessions ...string) map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count = count
}

// reply answers a question, of this node's own, too: that shows it has gone round.
func (b *RedisBus) reply(m busMessage) {
	if m.Node == b.o.Node {
		b.collect(m.Node, answer{ID: m.Ask.ID})
		return
	}
	b.mu.Lock()
	count := b.count
	b.mu.Unlock()
	if len(m.Ask.Sessions) > maxAsked || len(m.Ask.ID)+len(m.Node) > maxID {
		b.invalid.Add(1)
		return
	}
	a := answer{ID: m.Ask.ID}
	if count != nil {
		a.Sockets = count(m.Ask.Sessions...)
	}
	r := reply{b.o.Channel + ":" + m.Node, b.encode(busMessage{Answer: &a})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.replies) >= maxReplies {
		return
	}
	b.replies = append(b.replies, r)
	b.signal()
}

// collection is the answers to one question.
type collection struct {
	sockets map[string]map[string]int // by node, so that each counts once
	heard   chan struct{}
}

// collect takes the answer of a node.
func (b *RedisBus) collect(node string, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.pending[a.ID]
	if c == nil {
		return // too late
	}
	c.sockets[node] = a.Sockets
	select {
	case c.heard <- struct{}{}:
	default:
	}
}

// SocketsElsewhere implements Bus. It asks all nodes, and waits until as many have
// answered as have heard the question, this one among them, or for 150 ms. A node that has
// died meanwhile has no sockets any more.
func (b *RedisBus) SocketsElsewhere(ctx context.Context, sessions ...string) map[string]int {
	if len(sessions) == 0 || !b.Connected() {
		return nil
	}
	sessions = sessions[:min(len(sessions), maxAsked)]
	ctx, cancel := context.WithTimeout(ctx, b.o.answersWithin)
	defer cancel()
	id := uuid.NewString()
	c := &collection{sockets: map[string]map[string]int{}, heard: make(chan struct{}, 1)}
	b.mu.Lock()
	b.pending[id] = c
	b.mu.Unlock()

	listeners := make(chan int64, 1)
	go func() {
		n, err := b.client.Publish(ctx, b.o.Channel, b.encode(busMessage{Ask: &ask{ID: id, Sessions: sessions}})).Result()
		if err != nil {
			cancel()
		}
		listeners <- n
	}()
	wanted := int64(-1)
	for wanted < 0 || b.answers(c) < wanted {
		select {
		case wanted = <-listeners:
			continue
		case <-c.heard:
			continue
		case <-ctx.Done():
		}
		break
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pending, id)
	total := map[string]int{}
	for _, sockets := range c.sockets {
		for _, session := range sessions {
			if n := sockets[session]; n > 0 {
				total[session] += n
			}
		}
	}
	return total
}

func (b *RedisBus) answers(c *collection) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(c.sockets))
}

// backlog is hints that wait, each once, in the order in which they came. When there
// are too many, one takes the place of all.
type backlog struct {
	mu      sync.Mutex
	hints   []Hint
	waiting map[Hint]bool
	filled  chan struct{}
}

func newBacklog() *backlog {
	return &backlog{waiting: map[Hint]bool{}, filled: make(chan struct{}, 1)}
}

// add returns how many hints were given up for one.
func (l *backlog) add(hints ...Hint) (dropped int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range hints {
		dropped += l.addLocked(h)
	}
	select {
	case l.filled <- struct{}{}:
	default:
	}
	return dropped
}

func (l *backlog) addLocked(h Hint) (dropped int64) {
	if l.waiting[h] {
		return 0
	}
	if len(l.hints) >= maxWaiting {
		dropped = int64(len(l.hints)) + 1
		clear(l.waiting)
		h, l.hints = Hint{Everything: true}, nil
	}
	l.waiting[h] = true
	l.hints = append(l.hints, h)
	return dropped
}

// take removes up to n hints from the front.
func (l *backlog) take(n int) []Hint {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.hints))
	taken := l.hints[:n:n]
	if l.hints = l.hints[n:]; len(l.hints) == 0 {
		l.hints = nil
	}
	for _, h := range taken {
		delete(l.waiting, h)
	}
	return taken
}

// putBack adds hints that were taken at the front again.
func (l *backlog) putBack(hints []Hint) (dropped int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.hints
	l.hints = nil
	clear(l.waiting)
	for _, h := range append(hints, rest...) {
		dropped += l.addLocked(h)
	}
	return dropped
}
