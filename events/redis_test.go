package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"login-server/internal/testenv"
)

// node is a bus of a test, and what its receiver has heard.
type node struct {
	*RedisBus
	t      testing.TB
	client *redis.Client

	mu    sync.Mutex
	heard []Hint
	log   bytes.Buffer
}

func (n *node) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(p)
}

func (n *node) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

func (n *node) receive(h Hint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, h)
}

// take returns what was heard since it was called last.
func (n *node) take() []Hint {
	n.mu.Lock()
	defer n.mu.Unlock()
	heard := n.heard
	n.heard = nil
	return heard
}

// hears waits until the hint was heard, and returns all that was heard until then.
func (n *node) hears(want Hint) []Hint {
	n.t.Helper()
	var all []Hint
	await(n.t, fmt.Sprintf("hint %v at %s", want, n.o.Node), func() bool {
		all = append(all, n.take()...)
		return slices.Contains(all, want)
	})
	return all
}

func openRedis(t testing.TB, url string) *redis.Client {
	t.Helper()
	client, err := OpenRedis(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newNode starts a bus, and does not wait for it to be connected.
func newNode(t testing.TB, url, channel, name string) *node {
	t.Helper()
	n := &node{t: t, client: openRedis(t, url)}
	listening := make(gate)
	n.client.AddHook(listening)
	n.RedisBus = NewRedisBus(n.client, RedisOptions{
		Channel: channel, Node: name, Log: slog.New(slog.NewTextHandler(n, nil)),
		pingEvery: 50 * time.Millisecond, lostAfter: 500 * time.Millisecond, backOff: 5 * time.Millisecond,
		// Tests that are about it have other limits; a busy machine is no reason to fail.
		answersWithin: 20 * time.Second,
	})
	n.Subscribe(n.receive)
	close(listening)
	t.Cleanup(n.Close)
	return n
}

// gate lets a client connect once it is closed. What a bus says before somebody listens,
// that it has connected for one, nobody hears.
type gate chan struct{}

func (g gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		<-g
		return next(ctx, network, addr)
	}
}
func (g gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (g gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// startNodes starts buses that hear each other.
func startNodes(t testing.TB, url string, names ...string) []*node {
	t.Helper()
	channel := uuid.NewString()
	var nodes []*node
	for _, name := range names {
		nodes = append(nodes, newNode(t, url, channel, name))
	}
	for _, n := range nodes {
		n.connects()
		n.hears(Hint{Everything: true})
	}
	return nodes
}

func (n *node) connects() {
	n.t.Helper()
	await(n.t, n.o.Node+" to connect", n.Connected)
}

func (n *node) disconnects() {
	n.t.Helper()
	await(n.t, n.o.Node+" to notice that Redis is gone", func() bool { return !n.Connected() })
}

// await waits for a condition.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func TestRedisBus(t *testing.T) {
	nodes := startNodes(t, testenv.Redis(t), "a", "b", "c")
	a := nodes[0]
	sent := []Hint{{Session: "1"}, {User: "ada"}, {Session: "2", Removed: true}, {User: "bea"}, {Everything: true}, {Session: "last"}}
	for _, h := range sent {
		a.Publish(h)
	}
	if diff := cmp.Diff(sent, a.take()); diff != "" {
		t.Errorf("own receivers, as Publish has returned (-want +got):\n%s", diff)
	}
	for _, n := range nodes[1:] {
		if diff := cmp.Diff(sent, n.hears(Hint{Session: "last"})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", n.o.Node, diff)
		}
		if got := n.Stats(); got.Received != int64(len(sent)) || got.Dropped != 0 || got.Invalid != 0 || !got.Connected {
			t.Errorf("%s: %+v", n.o.Node, got)
		}
	}
	// What b says afterwards has a before it: its own messages have come back by then.
	nodes[1].Publish(Hint{User: "b"})
	if got := a.hears(Hint{User: "b"}); len(got) != 1 {
		t.Errorf("the sender heard %v, its own hints twice?", got)
	}
	await(t, "its hints to be counted", func() bool { return a.Stats().Published == int64(len(sent)) })
}

func TestRedisBusKeepsInstallationsApart(t *testing.T) {
	url := testenv.Redis(t)
	a, other := startNodes(t, url, "a")[0], startNodes(t, url, "b")[0]
	a.Publish(Hint{Session: "of a"})
	await(t, "the hint to be published", func() bool { return a.Stats().Published == 1 })
	other.Publish(Hint{Session: "of b"})
	b2 := newNode(t, url, other.o.Channel, "b2")
	b2.connects()
	b2.Publish(Hint{Session: "after all"})
	if got := other.hears(Hint{Session: "after all"}); slices.Contains(got, Hint{Session: "of a"}) {
		t.Errorf("another installation heard %v", got)
	}
}

// TestRedisBusSlowReceiver: a receiver that is busy with a hint from elsewhere keeps
// nobody from publishing, here or there, and hears what comes meanwhile once each, in order.
func TestRedisBusSlowReceiver(t *testing.T) {
	nodes := startNodes(t, testenv.Redis(t), "a", "b")
	a, b := nodes[0], nodes[1]
	busy, free := make(chan struct{}), make(chan struct{})
	b.Subscribe(func(h Hint) {
		if h.Session == "slow" {
			close(busy)
			<-free
		}
	})
	a.Publish(Hint{Session: "slow"})
	<-busy
	for range 3 {
		for i := range 5 {
			a.Publish(Hint{User: fmt.Sprint(i)})
		}
	}
	await(t, "b to have them all", func() bool { return b.in.len() == 5 })
	b.Publish(Hint{User: "of b"})
	a.hears(Hint{User: "of b"})
	if !b.Connected() {
		t.Error("b is lost because its receiver is slow")
	}
	// A receiver may be added, too; LocalBus must not make anybody wait for that either.
	b.Subscribe(func(Hint) {})
	b.Publish(Hint{User: "of b, too"})
	close(free)
	got := b.hears(Hint{User: "4"})
	want := []Hint{{Session: "slow"}, {User: "of b"}, {User: "of b, too"}, {User: "0"}, {User: "1"}, {User: "2"}, {User: "3"}, {User: "4"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func (l *backlog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.hints)
}

func TestBacklog(t *testing.T) {
	l := newBacklog()
	l.add(Hint{Session: "1"}, Hint{Session: "2"}, Hint{Session: "1"}, Hint{Session: "1", Removed: true})
	taken := l.take(2)
	l.add(Hint{Session: "1"}, Hint{User: "ada"}) // the first is on its way: this one is new
	l.putBack(taken)
	want := []Hint{{Session: "1"}, {Session: "2"}, {Session: "1", Removed: true}, {User: "ada"}}
	if diff := cmp.Diff(want, l.take(10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := l.take(10); len(got) != 0 {
		t.Errorf("left: %v", got)
	}

	var dropped int64
	for i := range maxWaiting + 1 {
		dropped += l.add(Hint{Session: fmt.Sprint(i)})
	}
	dropped += l.add(Hint{Session: "after"})
	if diff := cmp.Diff([]Hint{{Everything: true}, {Session: "after"}}, l.take(10)); diff != "" || dropped != maxWaiting+1 {
		t.Errorf("after too many, of which %d were dropped (-want +got):\n%s", dropped, diff)
	}

	for i := range maxWaiting {
		l.add(Hint{Session: fmt.Sprint(i)})
	}
	if l.putBack([]Hint{{User: "one too many"}}); l.len() > maxWaiting {
		t.Errorf("%d hints wait", l.len())
	}
	if all := l.take(maxWaiting); !slices.Contains(all, Hint{Everything: true}) {
		t.Error("hints were lost without a word")
	}
}

// TestRedisBusRestart: Redis crashes and comes back empty. Everybody looks at everything.
func TestRedisBusRestart(t *testing.T) {
	server := testenv.StartRedis(t)
	nodes := startNodes(t, server.URL(), "a", "b")
	a, b := nodes[0], nodes[1]
	server.Kill()
	a.disconnects()
	b.disconnects()
	a.Publish(Hint{Session: "meanwhile", Removed: true})
	a.Publish(Hint{User: "ada"})
	if got := a.take(); len(got) != 2 {
		t.Errorf("without Redis, own receivers hear %v", got)
	}
	if got := b.SocketsElsewhere(t.Context(), "s"); len(got) != 0 {
		t.Errorf("without Redis, there are sockets elsewhere: %v", got)
	}
	server.Restart()
	for _, n := range nodes {
		n.connects()
		n.hears(Hint{Everything: true})
		await(t, "the log to be complete", func() bool { return strings.Contains(n.logged(), "again") })
		if text := n.logged(); strings.Count(text, "WARN") != 1 || strings.Count(text, "INFO") != 1 {
			t.Errorf("%s: one line for each change is wanted:\n%s", n.o.Node, text)
		}
		if got := n.Stats().Interruptions; got != 1 {
			t.Errorf("%s: %d interruptions", n.o.Node, got)
		}
	}
	await(t, "what waited to be published", func() bool { return a.Stats().Published == 2 })
	b.Publish(Hint{User: "bea"})
	a.hears(Hint{User: "bea"})
}

// TestRedisBusKeepsWhatWasRefused: Redis takes nothing from a node for a while. It says
// everything afterwards, in order, to nodes that have noticed nothing; what is too much
// becomes one hint. Publishing waits for none of it.
func TestRedisBusKeepsWhatWasRefused(t *testing.T) {
	server := testenv.StartRedis(t)
	admin := openRedis(t, server.URL())
	allow := func(rule string) {
		t.Helper()
		if err := admin.Do(t.Context(), "ACL", "SETUSER", "a", "on", ">x", "~*", "&*", "+@all", rule).Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow("+publish")
	b := newNode(t, server.URL(), "c", "b")
	a := newNode(t, strings.Replace(server.URL(), "//", "//a:x@", 1), "c", "a")
	a.connects()
	b.connects()
	b.hears(Hint{Everything: true})

	allow("-publish")
	waiting := []Hint{{Session: "1", Removed: true}, {User: "ada"}, {Session: "1"}, {User: "last"}}
	for _, h := range slices.Concat(waiting, waiting) {
		a.Publish(h)
	}
	a.disconnects()
	allow("+publish")
	a.connects()
	if diff := cmp.Diff(waiting, b.hears(Hint{User: "last"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	allow("-publish")
	a.Publish(Hint{User: "refused"})
	a.disconnects()
	for i := range 3*maxWaiting + 10 {
		a.Publish(Hint{Session: fmt.Sprint(i)})
	}
	if n := a.out.len(); n > maxWaiting {
		t.Errorf("%d hints wait", n)
	}
	allow("+publish")
	a.connects()
	a.Publish(Hint{User: "very last"})
	got := b.hears(Hint{User: "very last"})
	if !slices.Contains(got, Hint{Everything: true}) || len(got) > 2*maxWaiting {
		t.Errorf("after too many, b heard %d hints: %v …", len(got), got[:min(3, len(got))])
	}
	if a.Stats().Dropped == 0 || b.Stats().Interruptions != 0 {
		t.Errorf("stats: %+v, %+v", a.Stats(), b.Stats())
	}
}

// TestRedisBusFrozen: Redis takes connections and says nothing. With the times of the
// program that is noticed within a few seconds.
func TestRedisBusFrozen(t *testing.T) {
	server := testenv.StartRedis(t)
	a := newNode(t, server.URL(), "frozen", "a")
	usual := &node{t: t, client: openRedis(t, server.URL())}
	usual.RedisBus = NewRedisBus(usual.client, RedisOptions{Channel: "frozen", Node: "usual"})
	usual.Subscribe(usual.receive)
	t.Cleanup(usual.Close)
	a.connects()
	usual.connects()
	usual.hears(Hint{Everything: true})
	server.Freeze()
	start := time.Now()
	usual.disconnects()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	a.disconnects()
	usual.Publish(Hint{User: "meanwhile"})
	server.Thaw()
	a.connects()
	usual.connects()
	a.hears(Hint{Everything: true})
	usual.hears(Hint{Everything: true})
	await(t, "what waited to be published", func() bool { return usual.Stats().Published == 1 })
}

// TestRedisBusIdle: silence alone is no loss.
func TestRedisBusIdle(t *testing.T) {
	server := testenv.StartRedis(t)
	a := newNode(t, server.URL(), "idle", "a")
	a.connects()
	pings := func() int {
		info, err := a.client.Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(info, "cmdstat_ping:calls=")
		var n int
		_, _ = fmt.Sscanf(rest, "%d", &n)
		return n
	}
	// By then lostAfter is over.
	await(t, "pings", func() bool { return pings() > int(a.o.lostAfter/a.o.pingEvery)+2 })
	if got := a.Stats(); !got.Connected || got.Interruptions != 0 {
		t.Errorf("stats: %+v", got)
	}
}

func TestRedisBusBeginsWithoutRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	server.Kill()
	a := newNode(t, server.URL(), "late", "a")
	a.Publish(Hint{User: "early"})
	await(t, "a line in the log", func() bool { return strings.Contains(a.logged(), "WARN") })
	if a.Connected() {
		t.Error("connected to nothing")
	}
	if diff := cmp.Diff([]Hint{{User: "early"}}, a.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	server.Restart()
	a.connects()
	a.hears(Hint{Everything: true})
}

func TestRedisBusCloseFlushes(t *testing.T) {
	nodes := startNodes(t, testenv.Redis(t), "a", "b")
	a, b := nodes[0], nodes[1]
	for i := range 1000 {
		a.Publish(Hint{Session: fmt.Sprint(i)})
	}
	a.Close()
	a.Close()
	if a.Connected() || a.Stats().Published != 1000 {
		t.Errorf("after Close: %+v", a.Stats())
	}
	b.hears(Hint{Session: "999"})
	a.take()
	a.Publish(Hint{User: "late"})
	if diff := cmp.Diff([]Hint{{User: "late"}}, a.take()); diff != "" {
		t.Errorf("a bus that was closed is one of a single node (-want +got):\n%s", diff)
	}
}

// TestRedisBusClosesWithoutRedis: ending the program does not wait for a server that
// is frozen.
func TestRedisBusClosesWithoutRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	a := newNode(t, server.URL(), "gone", "a")
	a.connects()
	server.Freeze()
	a.Publish(Hint{User: "nobody will hear it"})
	start := time.Now()
	a.Close()
	if took := time.Since(start); took > closeTimeout+8*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// TestRedisBusForeignMessages: what others write to the channels is ignored, or makes
// nodes look at everything, and does no other harm.
func TestRedisBusForeignMessages(t *testing.T) {
	nodes := startNodes(t, testenv.Redis(t), "a", "b")
	a := nodes[0]
	a.CountSockets(func(sessions ...string) map[string]int { return nil })
	say := func(channel, text string) {
		t.Helper()
		if err := a.client.Publish(t.Context(), channel, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	channel, replies := a.o.Channel, a.o.Channel+":a"
	long := strings.Repeat("x", maxID+1)
	var many []string
	for range maxAsked + 1 {
		many = append(many, "s")
	}
	asked, _ := json.Marshal(many)
	invalid := []string{
		"", "null", "[]", `"text"`, "\x00\xff", `{`, `{}`, `{"v":1}`, `{"v":0,"node":"x","hint":{"user":"u"}}`, `{"v":"1","node":"x","hint":{"user":"u"}}`,
		`{"v":1,"hint":{"user":"u"}}`, `{"v":1,"node":"x"}`, `{"v":1,"node":"x","hint":{}}`, `{"v":1,"node":"x","hint":{"removed":true}}`,
		`{"v":1,"node":"x","hint":{"user":"u","session":"s"}}`, `{"v":1,"node":"x","hint":{"user":"u","removed":true}}`, `{"v":1,"node":"x","hint":[]}`,
		`{"v":1,"node":"x","hint":{"user":"` + long + `"}}`, `{"v":-1,"node":"x","hint":{"everything":true}}`,
		`{"v":1e99}`, strings.Repeat("[", 100_000), `{"v":1,"node":"x","hint":{"user":"` + strings.Repeat("x", maxMessage) + `"}}`,
		`{"v":2,"pad":"` + strings.Repeat("x", maxMessage) + `"}`,
		`{"v":1,"node":"x","ask":{"id":"1","sessions":` + string(asked) + `}}`, `{"v":1,"node":"` + long + `","ask":{"id":"1"}}`,
		`{"v":1,"node":"x","answer":{"id":"1","sockets":{"s":1}}}`,
	}
	for _, text := range invalid {
		say(channel, text)
	}
	// Hints and questions do not come on the channel of replies, and answers only to questions.
	say(replies, `{"v":1,"node":"x","hint":{"everything":true}}`)
	say(replies, `{"v":1,"node":"x","ask":{"id":"1","sessions":["s"]}}`)
	say(replies, `{"v":1,"node":"x","answer":{"id":"1","sockets":{"s":1}}}`)
	say(replies, `{"v":2,"node":"x"}`)
	// A later version's question is not ours to answer.
	say(channel, `{"v":2,"node":"x","ask":{"id":"1","sessions":["s"]}}`)
	say(channel, `{"v":1,"node":"x","hint":{"user":"first"}}`)
	if diff := cmp.Diff([]Hint{{User: "first"}}, a.hears(Hint{User: "first"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := a.Stats().Invalid, int64(len(invalid)+2); got != want {
		t.Errorf("%d messages were invalid, want %d", got, want)
	}

	for _, text := range []string{`{"v":2}`, `{"v":3,"hint":"another form"}`} {
		say(channel, text)
		a.hears(Hint{Everything: true})
	}
	say(channel, `{"v":1,"node":"x","more":"fields","hint":{"user":"second","as":"well"}}`)
	a.hears(Hint{User: "second"})
	if got := a.Stats(); !got.Connected || got.Interruptions != 0 {
		t.Errorf("stats: %+v", got)
	}
}

// FuzzRedisMessage: whatever is said, receivers hear valid hints only.
func FuzzRedisMessage(f *testing.F) {
	for _, text := range []string{
		`{"v":1,"node":"x","hint":{"session":"s","removed":true}}`, `{"v":1,"node":"me","hint":{"user":"u"}}`, `{"v":2}`,
		`{"v":1,"node":"x","ask":{"id":"1","sessions":["s"]}}`, `{"v":1,"node":"x","answer":{"id":"1","sockets":{"s":-1}}}`,
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, toAll bool) {
		b := &RedisBus{o: RedisOptions{Channel: "c", Node: "me"}, in: newBacklog(), out: newBacklog(), wake: make(chan struct{}, 1), pending: map[string]*collection{}}
		channel := "c"
		if !toAll {
			channel = "c:me"
		}
		b.read(channel, text)
		for _, h := range b.in.take(10) {
			if !h.valid() {
				t.Errorf("%q: receivers hear %+v", text, h)
			}
			if !toAll {
				t.Errorf("%q: a hint among replies", text)
			}
		}
	})
}

func TestSocketsElsewhere(t *testing.T) {
	nodes := startNodes(t, testenv.Redis(t), "a", "b", "c", "d")
	a := nodes[0]
	for i, n := range nodes {
		n.CountSockets(func(sessions ...string) map[string]int {
			counts := map[string]int{}
			for _, s := range sessions {
				if s == "everywhere" || s == "here "+n.o.Node {
					counts[s] = i + 1
				}
			}
			counts["not asked about"] = 7
			return counts
		})
	}
	// d says something absurd.
	nodes[3].CountSockets(func(...string) map[string]int { return map[string]int{"everywhere": -100, "here b": -1} })
	// All have answered long before there was no more time.
	got := a.SocketsElsewhere(t.Context(), "everywhere", "here a", "here b", "nowhere")
	if diff := cmp.Diff(map[string]int{"everywhere": 2 + 3, "here b": 2}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := a.SocketsElsewhere(t.Context()); len(got) != 0 {
		t.Errorf("of no session: %v", got)
	}
	nodes[2].Close()
	if diff := cmp.Diff(map[string]int{"everywhere": 2}, a.SocketsElsewhere(t.Context(), "everywhere")); diff != "" {
		t.Errorf("after c has ended (-want +got):\n%s", diff)
	}
	var wg sync.WaitGroup
	for i, n := range nodes[:2] {
		for range 20 {
			wg.Go(func() {
				if diff := cmp.Diff(map[string]int{"everywhere": 2 - i}, n.SocketsElsewhere(t.Context(), "everywhere")); diff != "" {
					t.Errorf("many at once (-want +got):\n%s", diff)
				}
			})
		}
	}
	wg.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) != 0 {
		t.Errorf("%d questions are left", len(a.pending))
	}
}

// TestSocketsOfDeadNode: a node that hears the question and dies before it has answered
// costs some time, and the sockets of the others are counted.
func TestSocketsOfDeadNode(t *testing.T) {
	nodes := startNodes(t, testenv.Redis(t), "a", "b")
	a, b := nodes[0], nodes[1]
	a.o.answersWithin = 300 * time.Millisecond
	b.CountSockets(func(...string) map[string]int { return map[string]int{"s": 2} })
	dead := b.client.Subscribe(t.Context(), a.o.Channel)
	defer func() { _ = dead.Close() }()
	if _, err := dead.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	got := a.SocketsElsewhere(t.Context(), "s")
	if took := time.Since(start); took < a.o.answersWithin {
		t.Errorf("it waited %v for the dead one", took)
	}
	if diff := cmp.Diff(map[string]int{"s": 2}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSocketsOfFrozenRedis: the page about sessions does not wait for a Redis that is.
func TestSocketsOfFrozenRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	a := newNode(t, server.URL(), "frozen", "a")
	a.o.answersWithin = 100 * time.Millisecond
	a.connects()
	server.Freeze()
	start := time.Now()
	if got := a.SocketsElsewhere(t.Context(), "s"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// farBus is a bus with other nodes that hold sockets.
type farBus struct {
	LocalBus
	count func(...string) map[string]int
}

func (b *farBus) SocketsElsewhere(_ context.Context, sessions ...string) map[string]int {
	return map[string]int{sessions[0]: 3}
}

func (b *farBus) CountSockets(count func(...string) map[string]int) { b.count = count }

func TestHubCountsSocketsOfAllNodes(t *testing.T) {
	bus := &farBus{}
	h := NewHub(Options{}, bus)
	defer h.Close()
	h.groups["s"] = &group{handle: "s", key: "s", sockets: map[*Socket]bool{{hub: h, conn: idle{}}: true}}
	if diff := cmp.Diff(map[string]int{"s": 4}, h.Sockets(t.Context(), "s")); diff != "" {
		t.Errorf("sockets of all nodes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"s": 1}, bus.count("s", "t")); diff != "" {
		t.Errorf("what others are told (-want +got):\n%s", diff)
	}
}

const redisPassword = "pass-which-nobody-may-see"

// TestRedisPasswordStaysSecret: neither errors nor the log quote it, whatever is wrong.
func TestRedisPasswordStaysSecret(t *testing.T) {
	for _, text := range []string{
		"redis://:" + redisPassword + "@[::1", "redis://user:12/" + redisPassword + "@host", "http://:" + redisPassword + "@host",
		"redis://:#" + redisPassword + "@host:port", "redis://:" + redisPassword + "@host:port", "redis://:x?" + redisPassword + "@host", redisPassword,
		"redis://host/" + redisPassword, "redis://host?db=" + redisPassword, "unix://:" + redisPassword + "@", "redis://host?dial_timeout=" + redisPassword,
		"redis://:%zz" + redisPassword + "@host", "",
	} {
		_, err := OpenRedis(text)
		if err == nil {
			t.Errorf("%q was taken", text)
		} else if strings.Contains(err.Error(), redisPassword) {
			t.Errorf("%q: %v", text, err)
		}
	}

	server := testenv.StartRedis(t)
	admin := openRedis(t, server.URL())
	if err := admin.ConfigSet(t.Context(), "requirepass", "another").Err(); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, strings.Replace(server.URL(), "//", "//:"+redisPassword+"@", 1), "c", "n")
	n.Publish(Hint{User: "u"})
	await(t, "a line in the log", func() bool { return n.logged() != "" })
	if text := n.logged(); strings.Contains(text, redisPassword) || !strings.Contains(text, "WRONGPASS") {
		t.Errorf("log: %s", text)
	}
	if _, err := CheckRedis(t.Context(), n.client, "c"); err == nil || strings.Contains(err.Error(), redisPassword) {
		t.Errorf("CheckRedis: %v", err)
	}
	server.Kill()
	if _, err := CheckRedis(t.Context(), n.client, "c"); err == nil || strings.Contains(err.Error(), redisPassword) {
		t.Errorf("CheckRedis: %v", err)
	}
}

func TestOpenRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	admin := openRedis(t, server.URL())
	for _, args := range [][]any{
		{"ACL", "SETUSER", "server", "on", ">p@ss/word", "~*", "&*", "+@all"},
		{"ACL", "SETUSER", "mute", "on", ">x", "~*", "&other", "+@all"},
		{"ACL", "SETUSER", "plain", "on", ">x", "~*", "&*", "+@all", "-eval", "-info"},
	} {
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	as := func(user string) string { return strings.Replace(server.URL(), "//", "//"+user+"@", 1) }
	tests := []struct{ name, url, wantErr string }{
		{"tcp", server.URL(), ""},
		{"with a database", server.URL() + "/3", ""},
		{"unix", "unix://" + server.Socket(), ""},
		{"a user, escaped", as("server:" + url.QueryEscape("p@ss/word")), ""},
		{"may not publish", as("mute:x"), "publish nothing"},
		{"may run no scripts", as("plain:x"), "no scripts"},
		{"wrong password", as("server:x"), "does not answer"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := CheckRedis(t.Context(), openRedis(t, tc.url), "channel")
			if tc.wantErr == "" {
				if err != nil || got.Version == "" || got.RoundTrip <= 0 {
					t.Errorf("got %+v, %v", got, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got %v, want %q", err, tc.wantErr)
			}
		})
	}

	o := openRedis(t, "rediss://redis.example:7000?max_retries=9&read_timeout=0").Options()
	if o.TLSConfig == nil || o.TLSConfig.ServerName != "redis.example" || o.TLSConfig.InsecureSkipVerify {
		t.Errorf("rediss: TLS is %+v", o.TLSConfig)
	}
	if o.MaxRetries != 0 || o.ReadTimeout != 2*time.Second || !o.ContextTimeoutEnabled {
		t.Errorf("an attempt may be counted twice, or for ever: %d retries, %v", o.MaxRetries, o.ReadTimeout)
	}
}

// TestForgedRemoval: who can write to Redis cannot make applications believe that
// somebody has signed out.
func TestForgedRemoval(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.browser().signIn(w.person("Ada", "github"))
		c := b.connect().greeted("authenticated, loggedIn Ada, token")
		w.bus.Publish(Hint{Session: b.visit().Handle, Removed: true})
		c.want("")
		c.wantClosed(0)
		w.must(w.sessions.Remove(w.Context(), b.visit().Handle, b.visit().Session.UserID))
		c.want("loggedOut")
		c.wantClosed(ClosePolicy)
	})
}
