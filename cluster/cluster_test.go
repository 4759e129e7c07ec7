package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/store/storetest"
)

const (
	home   = "https://login.example.org/"
	secret = "the secret of the installation"
	other  = "another secret, of somebody else"
	bus    = "a redis"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// farm is a store and a clock, on which nodes live.
type farm struct {
	testing.TB
	clock  *clock.Fake
	engine store.Engine
	logged *output
	off    time.Duration // of the clocks of nodes that join from now on
}

func newFarm(t testing.TB) *farm {
	c := clock.NewFake(start)
	return &farm{TB: t, clock: c, engine: teststore.Open(t, c.Now), logged: &output{}}
}

// output is a log that several nodes write.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// take returns what was logged since the last time.
func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.text.Reset()
	return o.text.String()
}

// shifted is a clock that is off.
type shifted struct {
	*clock.Fake
	off time.Duration
}

func (s shifted) Now() time.Time { return s.Fake.Now().Add(s.off) }

func (f *farm) options(name string, secrets ...string) Options {
	if len(secrets) == 0 {
		secrets = []string{secret}
	}
	return Options{
		Name: name, Address: "10.0.0.1:3004", BaseURL: home, Secrets: secrets, Bus: bus, Version: "1.0",
		Clock: shifted{f.clock, f.off}, Log: slog.New(slog.NewTextHandler(f.logged, nil)),
	}
}

func (f *farm) join(o Options) *Node {
	f.Helper()
	n, err := Join(f.Context(), f.engine, o)
	f.must(err)
	return n
}

func (f *farm) refused(o Options) *MismatchError {
	f.Helper()
	_, err := Join(f.Context(), f.engine, o)
	e, ok := errors.AsType[*MismatchError](err)
	if !ok {
		f.Fatalf("%s: got %v, want to be refused", o.Name, err)
	}
	return e
}

func (f *farm) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// pass lets time go by, in which nodes beat.
func (f *farm) pass(d time.Duration, nodes ...*Node) {
	for ; d > 0; d -= beatEvery {
		f.clock.Advance(min(d, beatEvery))
		for _, n := range nodes {
			n.beat(f.Context())
		}
	}
}

// living are the names of the nodes that Nodes lists.
func (f *farm) living() []string {
	f.Helper()
	nodes, err := Nodes(f.Context(), f.engine, f.clock.Now())
	f.must(err)
	names := []string{}
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

func (f *farm) wantLiving(names ...string) {
	f.Helper()
	if diff := cmp.Diff(append([]string{}, names...), f.living()); diff != "" {
		f.Errorf("living (-want +got):\n%s", diff)
	}
}

func (f *farm) wantLog(words ...string) {
	f.Helper()
	got := f.logged.take()
	for _, word := range words {
		if !strings.Contains(got, word) {
			f.Errorf("%q was not logged, but:\n%s", word, got)
		}
	}
	if len(words) == 0 && got != "" {
		f.Errorf("logged:\n%s", got)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	f := newFarm(t)
	f.wantLiving()
	a := f.join(f.options("a"))
	b := f.join(f.options("b"))
	if a.ID == b.ID {
		t.Error("two nodes of one id")
	}
	f.wantLiving("a", "b")
	f.pass(time.Minute, a, b)
	f.wantLiving("a", "b")
	if a.Living() != 2 || b.Living() != 2 {
		t.Errorf("%d and %d live", a.Living(), b.Living())
	}
	f.must(b.Leave(t.Context()))
	f.must(b.Leave(t.Context())) // again is no error
	f.wantLiving("a")

	// c dies. Those who have seen its beats miss them after half a minute.
	c := f.join(f.options("c"))
	f.pass(beatEvery, a, c)
	f.pass(life+beatEvery, a)
	if a.Living() != 1 {
		t.Errorf("%d live, want 1", a.Living())
	}
	f.pass(life, a)
	f.wantLiving("a")
	f.wantLog()
}

func TestNodesSayWhatTheyAre(t *testing.T) {
	f := newFarm(t)
	o := f.options("web\x1b[31m-1\n"+strings.Repeat("x", 500), secret)
	n := f.join(o)
	nodes, err := Nodes(t.Context(), f.engine, f.clock.Now())
	f.must(err)
	want := Info{ID: n.ID, Name: "web[31m-1" + strings.Repeat("x", 191) + "…", Address: "10.0.0.1:3004", Version: "1.0", BaseURL: home, Started: start, Seen: start, HasBus: true}
	got, err := json.Marshal(nodes[0])
	f.must(err)
	wanted, err := json.Marshal(want)
	f.must(err)
	if diff := cmp.Diff(string(wanted), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusal(t *testing.T) {
	elsewhere := "https://elsewhere.example.org/"
	for name, tc := range map[string]struct {
		baseURL string
		secrets []string
		want    string
	}{
		"another secret": {home, []string{other}, "SESSION_SECRET is not that of the nodes on this database (a at 10.0.0.1:3004, seen 10s ago); " +
			"copy SESSION_SECRET from them; or stop them first; or use another database"},
		"two others": {home, []string{other, other + "2"}, "SESSION_SECRET is not that of"},
		"another BASE_URL": {elsewhere, []string{secret}, "BASE_URL is not that of the nodes on this database, which are at " + home + " (a at 10.0.0.1:3004, seen 10s ago); " +
			"copy BASE_URL from them; or stop them first; or use another database"},
		"both": {elsewhere, []string{other}, "BASE_URL and SESSION_SECRET are not those of the nodes on this database, which are at " + home},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t)
			a := f.join(f.options("a"))
			f.clock.Advance(10 * time.Second)
			o := f.options("b", tc.secrets...)
			o.BaseURL = tc.baseURL
			err := f.refused(o)
			if !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %s", err)
			}
			for _, s := range append(tc.secrets, secret) {
				if strings.Contains(err.Error(), s) {
					t.Errorf("it shows a secret: %s", err)
				}
			}
			if docs, err := f.engine.Find(t.Context(), "node", store.Query{}); err != nil || len(docs) != 1 {
				t.Errorf("%d nodes are kept, %v", len(docs), err)
			}
			f.wantLiving("a")
			a.beat(t.Context())
			f.wantLog()

			// Others that fit come and go; b stays out as long as anybody lives.
			c := f.join(f.options("c"))
			f.must(c.Leave(t.Context()))
			f.refused(o)
			f.must(a.Leave(t.Context()))
			b := f.join(o)
			f.wantLog("another one than before")
			f.wantLiving("b")
			f.refused(f.options("a"))
			f.pass(time.Minute, b)
			f.wantLog()
		})
	}
}

// Who was killed keeps nobody out for longer than its clock may be late.
func TestTheDeadKeepNobodyOut(t *testing.T) {
	f := newFarm(t)
	f.join(f.options("a"))
	f.clock.Advance(life - time.Millisecond)
	f.refused(f.options("b", other))
	f.clock.Advance(life + time.Millisecond) // and Leeway
	f.join(f.options("b", other))
	f.wantLog("SESSION_SECRET is another one than before", "everybody has to sign in again")
	if c := f.join(f.options("c", other)); c.Living() != 2 {
		t.Errorf("%d live, want b and c", c.Living())
	}
}

// What is kept tells nobody the secrets.
func TestSecretsAreNotKept(t *testing.T) {
	f := newFarm(t)
	f.join(f.options("a", "weak", other))
	g := newFarm(t)
	g.join(g.options("a", "weak", other))
	texts := map[*farm]string{}
	for _, farm := range []*farm{f, g} {
		for _, kind := range []string{"node", "installation"} {
			docs, err := farm.engine.Find(t.Context(), kind, store.Query{})
			f.must(err)
			for _, doc := range docs {
				texts[farm] += string(doc.Data)
			}
		}
		if strings.Contains(texts[farm], "weak") || strings.Contains(texts[farm], other) {
			t.Errorf("a secret is kept: %s", texts[farm])
		}
	}
	var a, b struct{ Secret string }
	first, err := f.engine.Get(t.Context(), "installation", theInstallation)
	f.must(err)
	second, err := g.engine.Get(t.Context(), "installation", theInstallation)
	f.must(err)
	f.must(errors.Join(json.Unmarshal(first.Data, &a), json.Unmarshal(second.Data, &b)))
	if a.Secret == "" || a.Secret == b.Secret {
		t.Error("a secret has the same id in two installations")
	}
}

// Of nodes that do not fit and begin at the same moment those of one installation join.
func TestFirstNodesAtOnce(t *testing.T) {
	for name, before := range map[string]bool{"an empty store": false, "one that was used with other settings": true} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				f := newFarm(t)
				if before {
					f.must(f.join(f.options("before", "the secret of the dead")).Leave(t.Context()))
				}
				var mu sync.Mutex
				joined := map[string]int{}
				var wg sync.WaitGroup
				begin := make(chan struct{})
				for i := range 8 {
					s := fmt.Sprintf("the secret number %d", i%4)
					o := f.options(fmt.Sprintf("n%d", i), s)
					wg.Go(func() {
						<-begin
						_, err := Join(t.Context(), f.engine, o)
						mu.Lock()
						defer mu.Unlock()
						if err == nil {
							joined[s]++
						} else if _, ok := errors.AsType[*MismatchError](err); !ok {
							t.Error(err)
						}
					})
				}
				close(begin)
				wg.Wait()
				if len(joined) != 1 {
					t.Fatalf("nodes of %d installations have joined: %v", len(joined), joined)
				}
				total := 0
				for _, n := range joined {
					total += n
				}
				if got := len(f.living()); got != total {
					t.Errorf("%d live, %d have joined", got, total)
				}
			}
		})
	}
}

// A node that dies at any moment of joining neither keeps others out for good nor lets in
// one that does not fit.
func TestJoinIsCutOff(t *testing.T) {
	for n := 0; ; n++ {
		f := newFarm(t)
		faulty := storetest.Faulty(f.engine)
		faulty.KillAfter(n)
		_, err := Join(t.Context(), faulty, f.options("a"))
		if err == nil {
			if n == 0 {
				t.Fatal("it has written nothing")
			}
			return
		}
		if !errors.Is(err, storetest.ErrKilled) {
			t.Fatalf("after %d writes: %v", n, err)
		}
		f.join(f.options("b"))
		f.clock.Advance(life)
		f.refused(f.options("c", other))
		f.clock.Advance(2 * life)
		f.join(f.options("c", other))
	}
}

// SESSION_SECRET is changed node by node: first everywhere known, then everywhere first,
// then alone.
func TestSecretsRotate(t *testing.T) {
	f := newFarm(t)
	moved := map[string]int{}
	node := func(name string, secrets ...string) *Node {
		t.Helper()
		o := f.options(name, secrets...)
		o.SecretMoved = func() { moved[name]++ }
		return f.join(o)
	}
	nodes := []*Node{node("a", secret), node("b", secret), node("c", secret)}
	roll := func(secrets ...string) {
		t.Helper()
		for i, name := range []string{"a", "b", "c"} {
			f.must(nodes[i].Leave(t.Context()))
			nodes[i] = node(name, secrets...)
			f.pass(beatEvery, nodes...)
		}
		f.pass(beatEvery, nodes...)
	}
	want := func(index int) {
		t.Helper()
		for _, n := range nodes {
			if got := n.Secret(); got != index {
				t.Errorf("the common secret is number %d, want %d", got, index)
			}
		}
	}
	roll(secret, other)
	f.wantLog()
	want(0)
	f.must(nodes[0].Leave(t.Context()))
	nodes[0] = node("a", other, secret)
	if nodes[0].Secret() != 1 {
		t.Error("sealed with a secret before all nodes want it")
	}
	f.pass(beatEvery, nodes...)
	if nodes[1].Secret() != 0 {
		t.Error("the others have to stay with the old one")
	}
	roll(other, secret)
	f.wantLog()
	want(0)
	if len(moved) == 0 {
		t.Error("nobody was told that the common secret has changed")
	}
	// Who has not heard of the change is refused: it could not read what is sealed.
	f.refused(f.options("late", secret))
	roll(other)
	f.wantLog()
	want(0)
}

// "new,old" at once: it works, and there is a warning, for cookies are signed with the new one.
func TestNewSecretBeforeAllKnowIt(t *testing.T) {
	f := newFarm(t)
	a := f.join(f.options("a", secret))
	b := f.join(f.options("b", other, secret))
	f.wantLog("b at 10.0.0.1:3004 signs cookies with a secret that a at 10.0.0.1:3004 cannot read")
	if b.Secret() != 1 {
		t.Error("the keys are sealed away from a")
	}
	f.pass(time.Minute, a, b)
	if got := strings.Count(f.logged.take(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings of a, want one", got)
	}
	nodes, err := Nodes(t.Context(), f.engine, f.clock.Now())
	f.must(err)
	if got := nodes.Problems(f.clock.Now()); len(got) != 1 || !strings.Contains(got[0], "cannot read") {
		t.Errorf("Problems: %q", got)
	}
	f.must(a.Leave(t.Context()))
	a = f.join(f.options("a", other, secret))
	f.pass(2*beatEvery, a, b)
	if a.Secret() != 0 || b.Secret() != 0 {
		t.Error("the new secret does not take over")
	}
	f.wantLog()
}

func TestBus(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b string
		want string // in the problem, empty: there is none
	}{
		"none":      {"", "", "set the same REDIS_URL for every node (missing: a at 10.0.0.1:3004, b at 10.0.0.1:3004)"},
		"one":       {bus, "", "(missing: b at 10.0.0.1:3004)"},
		"different": {bus, "another redis", "not one Redis"},
		"the same":  {bus, bus, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t)
			o := f.options("a")
			o.Bus = tc.a
			a := f.join(o)
			f.wantLog() // one node needs none
			o = f.options("b")
			o.Bus = tc.b
			b := f.join(o)
			problems := func() []string {
				nodes, err := Nodes(t.Context(), f.engine, f.clock.Now())
				f.must(err)
				return nodes.Problems(f.clock.Now())
			}
			if tc.want == "" {
				f.wantLog()
				if got := problems(); len(got) > 0 {
					t.Errorf("Problems: %q", got)
				}
				return
			}
			f.wantLog(tc.want)
			if got := problems(); len(got) != 1 || !strings.Contains(got[0], tc.want) {
				t.Errorf("Problems: %q", got)
			}
			f.pass(beatEvery, a)
			f.wantLog(tc.want) // a notices, too, and says so once
			f.pass(time.Minute, a, b)
			f.wantLog()
			f.must(b.Leave(t.Context()))
			f.pass(beatEvery, a)
			if got := problems(); len(got) > 0 {
				t.Errorf("Problems of one node: %q", got)
			}
			f.join(o)
			f.logged.take()
			f.pass(beatEvery, a)
			f.wantLog(tc.want)
		})
	}
}

func TestClocks(t *testing.T) {
	for name, tc := range map[string]struct {
		off   time.Duration
		phase time.Duration // after which the other one beats
		warns string
	}{
		"the same":                    {0, 0, ""},
		"the same, old beats":         {0, 9 * time.Second, ""},
		"two seconds ahead":           {2 * time.Second, 5 * time.Second, ""},
		"two seconds behind":          {-2 * time.Second, 5 * time.Second, ""},
		"ahead":                       {30 * time.Second, 9 * time.Second, "is ahead of this node's, by"},
		"behind":                      {-30 * time.Second, 9 * time.Second, "is behind this node's, by"},
		"behind, fresh beats":         {-30 * time.Second, 0, "is behind this node's, by"},
		"so far that it fits nowhere": {-5 * time.Minute, time.Second, "is behind this node's, by"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t)
			a := f.join(f.options("a"))
			f.off = tc.off
			f.clock.Advance(tc.phase)
			b := f.join(f.options("b"))
			f.logged.take() // what b says of a
			for range 6 {
				f.clock.Advance(beatEvery - tc.phase)
				a.beat(t.Context())
				f.clock.Advance(tc.phase)
				b.renew(t.Context())
			}
			if tc.warns == "" {
				f.wantLog()
				return
			}
			got := f.logged.take()
			if strings.Count(got, "the clock of b") != 1 || !strings.Contains(got, tc.warns) {
				t.Errorf("logged: %s", got)
			}
			if a.Living() != 2 {
				t.Errorf("%d live, want 2", a.Living())
			}
		})
	}
}

// A clock that was set is believed again.
func TestClockWasSet(t *testing.T) {
	var o offset
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	o.first(at(30), at(1))
	o.narrow(at(40), at(1), at(11))
	if !strings.Contains(o.problem(), "by 29s or more") {
		t.Errorf("%+v: %s", o, o.problem())
	}
	o.narrow(at(20), at(11), at(21))
	if o.problem() != "" {
		t.Errorf("%+v: %s", o, o.problem())
	}
}

// A node that was frozen for a minute is one again when it wakes up, unless others have
// taken its place.
func TestFrozen(t *testing.T) {
	f := newFarm(t)
	a, b := f.join(f.options("a")), f.join(f.options("b"))
	f.pass(time.Minute, b)
	f.clock.Advance(time.Second)
	b.beat(t.Context())
	f.wantLiving("b")
	a.beat(t.Context())
	f.wantLiving("a", "b")
	// It has asked whether it may: of one that does not fit and begins just now one wins.
	record, err := a.installation.Get(t.Context(), theInstallation)
	if err != nil || record.Value.By != a.ID {
		t.Errorf("it did not join again: %+v, %v", record.Value, err)
	}
	f.clock.Advance(kept) // its document is gone
	a.beat(t.Context())
	f.wantLiving("a")
	f.wantLog()

	f.clock.Advance(time.Minute)
	c := f.join(f.options("c", other))
	f.logged.take()
	a.beat(t.Context())
	f.wantLog("level=ERROR", "does not fit")
	f.pass(time.Minute, a, c)
	f.wantLog() // once
	f.wantLiving("c")
	f.must(c.Leave(t.Context()))
	a.beat(t.Context())
	f.wantLog("another one than before", "again")
	f.wantLiving("a")
}

// The installation's document is what counts, also for a node that has never missed a beat.
func TestInstallationReplaced(t *testing.T) {
	f := newFarm(t)
	a := f.join(f.options("a"))
	c := f.join(f.options("c", other, secret))
	f.must(f.engine.Delete(t.Context(), "installation", theInstallation))
	f.pass(beatEvery, a, c) // makes it anew
	f.logged.take()
	if _, err := f.engine.Get(t.Context(), "installation", theInstallation); err != nil {
		t.Error(err)
	}
	f.pass(2*beatEvery, a, c)
	f.wantLog()
	f.wantLiving("a", "c")
}

// A store that is away costs a warning, and nothing else.
func TestStoreAway(t *testing.T) {
	f := newFarm(t)
	faulty := storetest.Faulty(f.engine)
	o := f.options("a")
	n, err := Join(t.Context(), faulty, o)
	f.must(err)
	faulty.KillAfter(0)
	f.pass(time.Minute, n)
	if got := f.logged.take(); strings.Count(got, "level=") != 1 || !strings.Contains(got, "level=WARN") {
		t.Errorf("logged: %s", got)
	}
	faulty.Revive()
	f.pass(beatEvery, n)
	f.wantLog("again")
	f.wantLiving("a")
}

func TestRun(t *testing.T) {
	f := newFarm(t)
	n := f.join(f.options("a"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	seen := func() time.Time {
		nodes, err := Nodes(t.Context(), f.engine, f.clock.Now())
		f.must(err)
		if len(nodes) != 1 {
			t.Fatalf("%d nodes", len(nodes))
		}
		return nodes[0].Seen
	}
	for deadline := time.Now().Add(20 * time.Second); seen().Sub(start) < time.Minute; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not beat")
		}
		if f.clock.Now().Sub(seen()) < life {
			f.clock.Advance(time.Second)
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Run does not end")
	}
	f.wantLog()
}
