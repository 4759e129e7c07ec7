package backoff_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/backoff"
	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
)

const (
	ada  = "ada"
	home = "192.0.2.1"
)

// gate is a book on a real store that counts what is written, with a clock that stands still.
type gate struct {
	*backoff.Book
	t      *testing.T
	clock  *clock.Fake
	engine *counting
}

// counting counts the writes that an engine is asked for.
type counting struct {
	store.Engine
	writes atomic.Int64
}

func (c *counting) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	c.writes.Add(1)
	return c.Engine.Insert(ctx, kind, doc)
}

func (c *counting) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	c.writes.Add(1)
	return c.Engine.Replace(ctx, kind, doc)
}

func (c *counting) Delete(ctx context.Context, kind, id string) error {
	c.writes.Add(1)
	return c.Engine.Delete(ctx, kind, id)
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	g.engine = &counting{Engine: teststore.Open(t, g.clock.Now)}
	g.Book = g.node()
	return g
}

// node is a book of another node on the same store.
func (g *gate) node() *backoff.Book {
	return backoff.New(backoff.Options{Store: g.engine, Clock: g.clock, Key: []byte("a key of the tests")})
}

func (g *gate) ask(account, network string, known bool) backoff.Need {
	g.t.Helper()
	need, err := g.Ask(g.t.Context(), account, network, known)
	if err != nil {
		g.t.Fatal(err)
	}
	return need
}

func (g *gate) fail(account, network string) backoff.Need {
	g.t.Helper()
	need, err := g.Failed(g.t.Context(), account, network)
	if err != nil {
		g.t.Fatal(err)
	}
	if now := g.ask(account, network, false); now != need {
		g.t.Errorf("Failed says %+v, Ask %+v", need, now)
	}
	return need
}

// expect compares what is asked of a browser that is not known.
func (g *gate) expect(account, network string, want backoff.Need) {
	g.t.Helper()
	if got := g.ask(account, network, false); got != want {
		g.t.Errorf("%s from %s: got %+v, want %+v", account, network, got, want)
	}
}

func (g *gate) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func TestPair(t *testing.T) {
	g := newGate(t)
	g.expect(ada, home, backoff.Need{})
	for i, want := range []backoff.Need{
		{}, {}, {Challenge: true}, {Challenge: true}, {Challenge: true},
		{Challenge: true, Wait: time.Minute}, {Challenge: true, Wait: 2 * time.Minute}, {Challenge: true, Wait: 4 * time.Minute},
		{Challenge: true, Wait: 8 * time.Minute}, {Challenge: true, Wait: 15 * time.Minute}, {Challenge: true, Wait: 15 * time.Minute},
	} {
		if got := g.fail(ada, home); got != want {
			t.Errorf("after failure %d: got %+v, want %+v", i+1, got, want)
		}
		if want.Wait == 0 {
			continue
		}
		g.clock.Advance(want.Wait - time.Millisecond)
		g.expect(ada, home, backoff.Need{Challenge: true, Wait: time.Millisecond})
		g.clock.Advance(time.Millisecond)
		g.expect(ada, home, backoff.Need{Challenge: true})
	}
	// Neither the account elsewhere nor somebody else there.
	g.expect(ada, "192.0.2.2", backoff.Need{})
	g.expect("bob", home, backoff.Need{})
}

func TestWaitStaysWithinBounds(t *testing.T) {
	g := newGate(t)
	for range 100 {
		g.fail(ada, home)
	}
	if need := g.fail(ada, home); need.Wait != 15*time.Minute {
		t.Errorf("after 101 failures: %v", need.Wait)
	}
}

func TestPairIsForgotten(t *testing.T) {
	g := newGate(t)
	for range 9 {
		g.fail(ada, home)
	}
	g.clock.Advance(24*time.Hour - time.Millisecond)
	g.expect(ada, home, backoff.Need{Challenge: true})
	g.clock.Advance(time.Millisecond)
	g.expect(ada, home, backoff.Need{})
	n := 0
	for _, kind := range []string{"backoff pair", "backoff level"} {
		count, err := g.engine.Count(t.Context(), kind, "")
		g.must(err)
		n += count
	}
	if n != 0 {
		t.Errorf("%d documents are left", n)
	}
}

func TestPassed(t *testing.T) {
	g := newGate(t)
	g.must(g.Passed(t.Context(), ada, home))
	if n := g.engine.writes.Load(); n != 0 {
		t.Errorf("a success without failures has cost %d writes", n)
	}
	for range 7 {
		g.fail(ada, home)
	}
	for range 4 {
		g.fail(ada, "192.0.2.2")
	}
	g.must(g.Passed(t.Context(), ada, home))
	g.expect(ada, home, backoff.Need{})
	g.expect(ada, "192.0.2.2", backoff.Need{Challenge: true}) // that was another
}

// Somebody guesses one password from many networks. Nobody has to wait for that.
func TestAccountFromManyNetworks(t *testing.T) {
	g := newGate(t)
	for i := range 20 {
		g.fail(ada, fmt.Sprintf("198.51.100.%d", i))
	}
	g.expect(ada, home, backoff.Need{})
	for i := range 200 {
		g.fail(ada, fmt.Sprintf("203.0.113.%d", i))
	}
	g.expect(ada, home, backoff.Need{Challenge: true})
	if got := g.ask(ada, home, true); got != (backoff.Need{}) {
		t.Errorf("of a known browser: %+v", got)
	}
	g.expect("bob", home, backoff.Need{})
	// A success elsewhere does not tell that whoever guesses has ended.
	g.must(g.Passed(t.Context(), ada, home))
	g.expect(ada, home, backoff.Need{Challenge: true})
	g.clock.Advance(time.Hour)
	g.expect(ada, home, backoff.Need{})
}

// One password on many accounts, from one network.
func TestSpraying(t *testing.T) {
	g := newGate(t)
	for i := range 30 {
		g.fail(fmt.Sprintf("person %d", i), home)
	}
	g.expect(ada, home, backoff.Need{})
	g.fail("person 30", home)
	g.expect(ada, home, backoff.Need{Challenge: true})
	g.expect("", home, backoff.Need{Challenge: true}) // before a name is typed
	for i := range 69 {
		g.fail(fmt.Sprintf("person %d", 31+i), home)
	}
	g.expect(ada, home, backoff.Need{Challenge: true})
	g.fail("person 100", home)
	g.expect(ada, home, backoff.Need{Challenge: true, Wait: 36 * time.Second})
	if got := g.ask(ada, home, true); got != (backoff.Need{}) {
		t.Errorf("of a browser that ada was signed in with: %+v", got)
	}
	g.expect(ada, "192.0.2.2", backoff.Need{})
	// Who has an account there as well does not get rid of it by signing in.
	g.must(g.Passed(t.Context(), "person 100", home))
	g.expect(ada, home, backoff.Need{Challenge: true, Wait: 36 * time.Second})
	g.clock.Advance(36 * time.Second)
	g.expect(ada, home, backoff.Need{Challenge: true})
	// At once, as many as there can be.
	for i := range 200 {
		g.fail(fmt.Sprintf("more %d", i), home)
	}
	if need := g.ask(ada, home, false); need.Wait < 14*time.Minute || need.Wait > 15*time.Minute {
		t.Errorf("the network waits %v", need.Wait)
	}
	g.clock.Advance(15*time.Minute + time.Hour)
	g.expect(ada, home, backoff.Need{})
}

// A person at home who has forgotten the password does not keep the others there out.
func TestOnePersonIsNotSpraying(t *testing.T) {
	g := newGate(t)
	for range 200 {
		g.fail(ada, home)
	}
	g.expect("bob", home, backoff.Need{})
}

func TestUnlock(t *testing.T) {
	g := newGate(t)
	for i := range 50 {
		g.fail(ada, fmt.Sprintf("198.51.100.%d", i))
	}
	for i := range 110 {
		g.fail(fmt.Sprintf("person %d", i), home)
	}
	for range 6 {
		g.fail(ada, home)
	}
	g.must(g.Unlock(t.Context(), ada, home))
	g.expect(ada, home, backoff.Need{})
	if need := g.ask(ada, "192.0.2.2", false); !need.Challenge {
		t.Error("it was unlocked for other networks, too")
	}
	if need := g.ask("bob", home, false); need.Wait == 0 {
		t.Error("others in the network were unlocked, too")
	}
	g.fail(ada, home)
	g.fail(ada, home)
	g.expect(ada, home, backoff.Need{})
	if need := g.fail(ada, home); !need.Challenge {
		t.Errorf("after three failures: %+v", need)
	}
	// It ends with time.
	g.must(g.Unlock(t.Context(), ada, home))
	g.fail(ada, "192.0.2.3")
	for i := range 50 {
		g.fail(ada, fmt.Sprintf("203.0.113.%d", i))
	}
	g.clock.Advance(time.Hour - time.Millisecond)
	g.expect(ada, home, backoff.Need{})
	for i := range 50 {
		g.fail(ada, fmt.Sprintf("203.0.113.%d", i))
	}
	g.clock.Advance(time.Millisecond)
	g.expect(ada, home, backoff.Need{Challenge: true})
}

// Counts are not to be lost by failing at once, from whichever node.
func TestNoFailureIsLost(t *testing.T) {
	g := newGate(t)
	nodes := []*backoff.Book{g.Book, g.node()}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if _, err := nodes[i%2].Failed(t.Context(), ada, home); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	g.expect(ada, home, backoff.Need{Challenge: true, Wait: time.Minute})
	for i := range 15 {
		wg.Go(func() {
			if _, err := nodes[i%2].Failed(t.Context(), ada, fmt.Sprintf("198.51.100.%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	g.expect(ada, "192.0.2.2", backoff.Need{Challenge: true}) // 21 of the account
	for i := range 28 {
		wg.Go(func() {
			if _, err := nodes[i%2].Failed(t.Context(), fmt.Sprintf("person %d", i), home); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	g.expect("bob", home, backoff.Need{Challenge: true}) // 31 of the network: 3 of ada, 28
}

// A node whose clock is behind neither takes time back nor makes anybody wait longer.
func TestClocksThatDiffer(t *testing.T) {
	g := newGate(t)
	behind := backoff.New(backoff.Options{Store: g.engine, Clock: clock.NewFake(g.clock.Now().Add(-20 * time.Second)), Key: []byte("a key of the tests")})
	for range 6 {
		g.fail(ada, home)
	}
	if _, err := behind.Failed(t.Context(), ada, home); err != nil {
		t.Fatal(err)
	}
	g.expect(ada, home, backoff.Need{Challenge: true, Wait: 2 * time.Minute})
}

func TestWritesAreBounded(t *testing.T) {
	g := newGate(t)
	g.fail(ada, home)
	if n := g.engine.writes.Load(); n != 3 {
		t.Errorf("a first failure has cost %d writes, want 3", n)
	}
	for range 300 {
		g.fail(ada, home)
	}
	// The account and the network are full: what is left is the pair.
	g.engine.writes.Store(0)
	g.fail(ada, home)
	if n := g.engine.writes.Load(); n != 1 {
		t.Errorf("one of many failures has cost %d writes, want 1", n)
	}
	g.engine.writes.Store(0)
	g.ask(ada, home, false)
	if n := g.engine.writes.Load(); n != 0 {
		t.Errorf("asking has cost %d writes", n)
	}
}

// Names are what people have typed: of any length, and a password now and then.
func TestNamesAreNotStored(t *testing.T) {
	g := newGate(t)
	names := []string{"correct horse battery staple", strings.Repeat("x", 10<<20), "with\x00zero", "\xff\xfe", ""}
	for _, name := range names {
		g.fail(name, home)
	}
	for _, kind := range []string{"backoff pair", "backoff level"} {
		docs, err := g.engine.Find(t.Context(), kind, store.Query{})
		g.must(err)
		if len(docs) == 0 {
			t.Errorf("no %s", kind)
		}
		for _, doc := range docs {
			if text := doc.ID + string(doc.Data); len(text) > 300 || strings.Contains(text, "horse") || strings.Contains(text, home) || !json.Valid(doc.Data) {
				t.Errorf("%s: %.300s", kind, text)
			}
		}
	}
}

func TestNamesDoNotMix(t *testing.T) {
	g := newGate(t)
	for range 3 {
		g.fail("bc", "a")
	}
	g.expect("c", "ab", backoff.Need{})
	g.expect("", "a", backoff.Need{})
}
