package token_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/store"
	"login-server/store/storetest"
	"login-server/token"
)

// options are those of a node without key files, whose clock is off.
func (h *house) options(algorithm string, off time.Duration) token.Options {
	return token.Options{
		Algorithm: algorithm, ExpiresIn: 2 * time.Minute, Now: func() time.Time { return h.clock.Now().Add(off) },
		Sealer: h.sealer, Life: h.life, PublishFor: time.Hour, RotateEvery: 90 * day, Log: h.log(),
	}
}

// node is a server without key files.
func (h *house) node(algorithm string) *token.Manager {
	h.Helper()
	return h.nodeOf(h.options(algorithm, 0))
}

func (h *house) nodeOf(o token.Options) *token.Manager {
	h.Helper()
	m, err := token.NewManager(h.Context(), h.engine, o)
	h.must(err)
	return m
}

// Every algorithm that JWT_ALGORITHM can name works without files, and all nodes have one key.
func TestMainKeyInTheStore(t *testing.T) {
	for _, algorithm := range []string{"RS256", "RS512", "PS384", "ES256", "ES384", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			a := h.node(algorithm)
			b := h.node(algorithm)
			if a.KeyID() == "" || a.KeyID() != b.KeyID() || a.PublicPEM() != b.PublicPEM() || a.InFiles() || a.Kind() == "" {
				t.Fatalf("keys %q (%s) and %q", a.KeyID(), a.Kind(), b.KeyID())
			}
			signed, err := a.Sign(map[string]string{"name": "Ada"}, "opaque")
			h.must(err)
			if _, err := h.verify(b, signed.Token); err != nil {
				t.Error(err)
			}
			if id, err := b.SessionID(signed.Token); id != "opaque" || err != nil {
				t.Errorf("SessionID: %q, %v", id, err)
			}
			if got := h.jwksOf(a); len(got) != 1 || got[0] != a.KeyID() {
				t.Errorf("JWKS: %v", got)
			}
			if got := h.header(h.sign(a, algorithm, "JWT"))["kid"]; got != a.KeyID() {
				t.Error("the OpenID Provider signs with another key")
			}
			h.tend(a, b)
			if len(h.ring(algorithm)) != 1 || len(h.jwksOf(b)) != len(b.Algorithms()) {
				t.Errorf("%d keys; JWKS: %v", len(h.ring(algorithm)), h.jwksOf(b))
			}
			if files, err := filepath.Glob(filepath.Join(filepath.Dir(h.private), "*.key")); err != nil || len(files) > 0 {
				t.Errorf("files were written: %v, %v", files, err)
			}
		})
	}
}

func TestNeitherFilesNorSecret(t *testing.T) {
	h := newHouse(t)
	o := h.options("ES256", 0)
	o.Sealer = nil
	if _, err := token.NewManager(t.Context(), h.engine, o); err == nil {
		t.Error("a key was made that nobody could keep")
	}
}

// Many nodes begin at once on an empty store.
func TestFirstStartOfManyNodes(t *testing.T) {
	h := newHouse(t)
	kids := make([]string, 6)
	var wg sync.WaitGroup
	for i := range kids {
		o := h.options("RS256", time.Duration(i-3)*10*time.Second)
		o.Log = nil
		wg.Go(func() {
			m, err := token.NewManager(t.Context(), h.engine, o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := m.Tend(t.Context()); err != nil {
				t.Error(err)
			}
			kids[i] = m.KeyID()
		})
	}
	wg.Wait()
	for _, kid := range kids {
		if kid == "" || kid != kids[0] {
			t.Fatalf("kids: %v", kids)
		}
	}
	for _, algorithm := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		if got := len(h.ring(algorithm)); got != 1 {
			t.Errorf("%d keys of %s", got, algorithm)
		}
	}
}

// A node that dies while the first key is made leaves nothing that others stumble over.
func TestFirstStartIsCutOff(t *testing.T) {
	h := newHouse(t)
	faulty := storetest.Faulty(h.engine)
	faulty.KillAfter(0)
	if _, err := token.NewManager(t.Context(), faulty, h.options("ES256", 0)); !errors.Is(err, storetest.ErrKilled) {
		t.Fatalf("got %v", err)
	}
	if a, b := h.node("ES256"), h.node("ES256"); a.KeyID() != b.KeyID() {
		t.Error("two keys")
	}
}

// The key changes at its time on every node, without a write.
func TestMainKeyRotates(t *testing.T) {
	h := newHouse(t)
	a, b := h.node("ES256"), h.node("ES256")
	h.tend(a, b)
	first, pem := a.KeyID(), a.PublicPEM()
	old, err := a.Sign(nil, "before")
	h.must(err)

	// Everybody wants it at once, and one does it.
	var made atomic.Int32
	var wg sync.WaitGroup
	for _, m := range []*token.Manager{a, b, h.node("ES256"), h.node("ES256")} {
		wg.Go(func() {
			done, err := m.RotateKey(t.Context(), "ES256")
			if err != nil {
				t.Error(err)
			}
			if done {
				made.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || len(h.ring("ES256")) != 2 {
		t.Fatalf("%d have rotated, %d keys", made.Load(), len(h.ring("ES256")))
	}
	h.tend(a, b)
	if diff := cmp.Diff([]string{"signing", "next"}, states(b, "ES256")); diff != "" {
		t.Error(diff)
	}
	h.clock.Advance(hour - time.Millisecond)
	if a.KeyID() != first || b.KeyID() != first {
		t.Error("before its time")
	}
	h.clock.Advance(time.Millisecond)
	if a.KeyID() == first || a.KeyID() != b.KeyID() || a.PublicPEM() == pem || a.PublicPEM() != b.PublicPEM() {
		t.Error("the next key does not sign, or not everywhere")
	}
	fresh, err := b.Sign(nil, "after")
	h.must(err)
	if _, err := h.verify(a, fresh.Token); err != nil {
		t.Errorf("with the PEM: %v", err)
	}
	for _, signed := range []string{h.sign(a, "", "JWT"), fresh.Token} {
		if err := h.relying(a, signed); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.SessionID(old.Token); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("expired an hour ago: %v", err)
	}

	// And by itself.
	h.clock.Advance(90*day - hour)
	h.tend(a, b)
	if diff := cmp.Diff([]string{"signing", "next"}, states(b, "ES256")); diff != "" {
		t.Errorf("after 90 days, and the first one forgotten: %s", diff)
	}
}

// A clock that is half a minute ahead or behind is no reason to refuse anything, or to make
// another key.
func TestClocksApart(t *testing.T) {
	secrets := []string{"the secret of the installation"}
	for name, off := range map[string]time.Duration{"ahead": token.Leeway, "behind": -token.Leeway} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			other := h.nodeOf(h.options("ES256", off))
			here := h.node("ES256")
			h.tend(other, here)
			if here.KeyID() != other.KeyID() || len(h.ring("ES256")) != 1 {
				t.Fatal("two first keys")
			}
			at := func(off time.Duration) func() time.Time {
				return func() time.Time { return h.clock.Now().Add(off) }
			}
			ticket := func(tickets func(store.Engine, []string, func() time.Time) (*token.Tickets, error), from, to time.Duration) error {
				maker, err := tickets(h.engine, secrets, at(from))
				h.must(err)
				redeemer, err := tickets(h.engine, secrets, at(to))
				h.must(err)
				sealed, err := maker.Mint("handle", "binding")
				h.must(err)
				return redeem(t.Context(), redeemer, sealed)
			}
			short := func(off time.Duration) *token.Manager {
				o := h.options("ES256", off)
				o.ExpiresIn = 10 * time.Second // the shortest that JWT_EXPIRES_IN can be
				return h.nodeOf(o)
			}
			checks := map[string]func(from, to *token.Manager, fromOff, toOff time.Duration) error{
				"a token of ten seconds": func(_, to *token.Manager, from, _ time.Duration) error {
					signed, err := short(from).Sign(nil, "x")
					h.must(err)
					_, err = to.SessionID(signed.Token)
					return err
				},
				"an ID Token": func(from, to *token.Manager, _, _ time.Duration) error {
					_, err := to.VerifyJWT(h.sign(from, "EdDSA", "JWT"), "JWT")
					return err
				},
				"an access token": func(from, to *token.Manager, _, _ time.Duration) error {
					_, err := to.VerifyJWT(h.sign(from, "", "at+jwt"), "at+jwt")
					return err
				},
				"a session ticket": func(_, _ *token.Manager, from, to time.Duration) error {
					return ticket(token.NewTickets, from, to)
				},
				"an event ticket": func(_, _ *token.Manager, from, to time.Duration) error {
					return ticket(token.NewEventTickets, from, to)
				},
			}
			for what, check := range checks {
				if err := check(here, other, 0, off); err != nil {
					t.Errorf("%s from here: %v", what, err)
				}
				if err := check(other, here, off, 0); err != nil {
					t.Errorf("%s from there: %v", what, err)
				}
			}

			// Rotated while the first key is younger than the clocks are apart.
			if done, err := other.RotateKey(t.Context(), "ES256"); err != nil || !done {
				t.Fatalf("RotateKey: %v, %v", done, err)
			}
			h.tend(here, other)
			if got := len(h.ring("ES256")); got != 2 || here.KeyID() != other.KeyID() {
				t.Errorf("%d keys, want 2; %s and %s sign", got, here.KeyID(), other.KeyID())
			}
			// Each begins to sign with the next key by its own clock.
			apart := false
			h.clock.Advance(hour - 2*token.Leeway)
			for range 12 {
				for what, check := range checks {
					if err := errors.Join(check(here, other, 0, off), check(other, here, off, 0)); err != nil {
						t.Errorf("%s while the key changes: %v", what, err)
					}
				}
				h.tend(here, other)
				apart = apart || here.KeyID() != other.KeyID()
				h.clock.Advance(token.Leeway / 3)
			}
			if !apart {
				t.Error("the test has missed the moment")
			}
			if here.KeyID() != other.KeyID() || len(h.ring("ES256")) != 2 {
				t.Error("they did not come together")
			}
		})
	}
}

func redeem(ctx context.Context, tickets *token.Tickets, sealed string) error {
	ticket, err := tickets.Peek(sealed)
	if err != nil {
		return err
	}
	return tickets.Spend(ctx, ticket)
}

// A ticket that was spent on one node is spent on the other, for as long as a clock that is
// late believes in it.
func TestTicketIsSpentOnceByClocksApart(t *testing.T) {
	h := newHouse(t)
	secrets := []string{"the secret of the installation"}
	tickets := func(off time.Duration) *token.Tickets { // as after a restart: nothing is in memory
		made, err := token.NewTickets(h.engine, secrets, func() time.Time { return h.clock.Now().Add(off) })
		h.must(err)
		return made
	}
	sealed, err := tickets(0).Mint("handle", "binding")
	h.must(err)
	h.must(redeem(t.Context(), tickets(0), sealed))
	for h.clock.Now().Before(start.Add(5 * time.Minute)) {
		if err := redeem(t.Context(), tickets(-token.Leeway), sealed); !errors.Is(err, token.ErrInvalid) {
			t.Fatalf("after %s: %v", h.clock.Now().Sub(start), err)
		}
		h.clock.Advance(5 * time.Second)
	}
}

// An installation had key files, and has them no longer: what they have signed is good until
// it expires, and after that known for what it was.
func TestFromFilesToTheStore(t *testing.T) {
	for _, files := range []string{"RS256", "ES256"} {
		t.Run(files, func(t *testing.T) {
			h := newHouse(t)
			m := h.manager(files)
			h.tend(m)
			old, err := m.Sign(nil, "before")
			h.must(err)
			id := h.sign(m, files, "JWT")
			kid := m.KeyID()
			h.must(os.Remove(h.private))
			h.must(os.Remove(h.public))

			m = h.node("ES256")
			if m.KeyID() == kid {
				t.Fatal("the key of the files signs without the files")
			}
			h.tend(m)
			if _, err := m.SessionID(old.Token); err != nil {
				t.Error(err)
			}
			if err := h.relying(m, old.Token); err != nil {
				t.Error(err)
			}
			h.clock.Advance(7*time.Minute - time.Millisecond)
			if err := h.relying(m, id); err != nil {
				t.Errorf("before the last token has expired: %v", err)
			}
			h.clock.Advance(time.Millisecond)
			if err := h.relying(m, id); err == nil {
				t.Error("the key of the files stays published")
			}
			if _, err := m.VerifyJWT(id, "JWT"); err != nil {
				t.Errorf("a hint: %v", err)
			}
		})
	}
}

// And back: the keys of the store give way, and lose their private halves.
func TestFromTheStoreToFiles(t *testing.T) {
	for _, algorithm := range []string{"RS256", "ES384"} { // the latter is not offered otherwise
		t.Run(algorithm, func(t *testing.T) {
			h := newHouse(t)
			m := h.node(algorithm)
			kid := m.KeyID()
			signed := h.sign(m, algorithm, "JWT")
			m = h.manager(algorithm)
			if m.KeyID() == kid {
				t.Fatal("the files do not count")
			}
			h.tend(m)
			if err := h.relying(m, signed); err != nil {
				t.Error(err)
			}
			if _, err := m.RotateKey(t.Context(), algorithm); err == nil {
				t.Error("a key of the store was rotated in the place of the files")
			}
			h.clock.Advance(7 * time.Minute)
			h.tend(m)
			if err := h.relying(m, signed); err == nil {
				t.Error("the key of the store stays published")
			}
			var sealed struct{ Private []byte }
			h.must(h.sealer.Open(h.ring(algorithm)[0]["sealed"].(string), &sealed))
			if len(sealed.Private) > 0 {
				t.Error("its private half is kept")
			}
			h.clock.Advance(31 * day)
			h.tend(m)
			if got := len(h.ring(algorithm)); got != 0 {
				t.Errorf("%d keys are never forgotten", got)
			}
		})
	}
}

// While nodes are changed over one by one, each knows what the others sign; and they do not
// answer each other's writes with new keys.
func TestNodesWithAndWithoutFiles(t *testing.T) {
	h := newHouse(t)
	files := h.manager("ES256")
	h.tend(files)
	ring := h.node("ES256")
	for range 30 {
		h.tend(ring, files)
		for _, pair := range [][2]*token.Manager{{ring, files}, {files, ring}} {
			if err := h.relying(pair[1], h.sign(pair[0], "ES256", "JWT")); err != nil {
				t.Fatalf("after %s: %v", h.clock.Now().Sub(start), err)
			}
		}
		h.clock.Advance(10 * time.Minute)
	}
	if got := len(h.ring("ES256")); got != 1 {
		t.Errorf("%d keys", got)
	}
	// A node with files that is started again takes over once.
	files, err := h.load("ES256")
	h.must(err)
	for range 30 {
		h.tend(files, ring)
		h.clock.Advance(10 * time.Minute)
		if err := h.relying(files, h.sign(ring, "ES256", "JWT")); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(h.ring("ES256")); got != 2 {
		t.Errorf("%d keys after another start", got)
	}
}

// A command looks, and writes nothing but what it is told to.
func TestLook(t *testing.T) {
	h := newHouse(t)
	look := h.options("ES256", 0)
	look.Look = true
	faulty := storetest.Faulty(h.engine)
	h.engine = faulty
	faulty.KillAfter(0)
	m := h.nodeOf(look)
	if m.KeyID() != "" || m.PublicPEM() != "" || len(m.Keys()) != 0 {
		t.Error("there is a key")
	}
	faulty.Revive()
	server := h.node("ES256")
	faulty.KillAfter(0)
	if m = h.nodeOf(look); m.KeyID() != server.KeyID() {
		t.Error("not the key of the server")
	}
	look.PrivateKeyPath, look.PublicKeyPath = h.private, h.public
	_, err := token.EnsureKeys(h.private, h.public, "ES256")
	h.must(err)
	if h.nodeOf(look).KeyID() == server.KeyID() {
		t.Error("not the key of the files")
	}
	faulty.Revive()

	h.secrets("another secret")
	look = h.options("ES256", 0)
	look.Look = true
	m = h.nodeOf(look)
	if done, err := m.RotateKey(t.Context(), "ES256"); err == nil {
		t.Errorf("rotated with another secret: %v", done)
	}
	if got := len(h.ring("ES256")); got != 1 {
		t.Errorf("%d keys", got)
	}
}

// SESSION_SECRET is changed node by node: nobody seals the keys away from the others.
func TestSecretsRotateNodeByNode(t *testing.T) {
	h := newHouse(t)
	const old, fresh = "the secret of the installation", "a new secret"
	common := 1 // of those who have both, the one that all nodes know
	node := func(secrets ...string) *token.Manager {
		h.secrets(secrets...)
		o := h.options("ES256", 0)
		o.Secret = func() int { return min(common, len(secrets)-1) }
		o.PublishFor = 2 * time.Hour
		return h.nodeOf(o)
	}
	a, b := node(old), node(old)
	kid := a.KeyID()
	a = node(fresh, old)
	h.tend(a, b)
	if done, err := a.RotateKey(t.Context(), "ES256"); err != nil || !done {
		t.Fatal(done, err)
	}
	h.tend(b, a)
	if diff := cmp.Diff([]string{"signing", "next"}, states(b, "ES256")); diff != "" {
		t.Errorf("what the other node can read (-want +got):\n%s", diff)
	}
	b = node(fresh, old)
	common = 0
	h.tend(a, b)
	b = node(fresh)
	h.tend(b, a)
	if b.KeyID() != kid || a.KeyID() != kid || len(h.ring("ES256")) != 2 {
		t.Errorf("%d keys, want 2; %s and %s sign, not %s", len(h.ring("ES256")), a.KeyID(), b.KeyID(), kid)
	}
	if h.logged.Len() > 0 {
		t.Errorf("logged: %s", &h.logged)
	}
}

// countingEngine counts what is read from a store.
type countingEngine struct {
	store.Engine
	reads atomic.Int32
}

func (e *countingEngine) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	e.reads.Add(1)
	return e.Engine.Get(ctx, kind, id)
}

// Another node has made a key of which nobody has told: its tokens are good at once. Who
// sends kids that do not exist makes the server look once a second.
func TestKeyOfWhichNobodyHasTold(t *testing.T) {
	h := newHouse(t)
	engine := &countingEngine{Engine: h.engine}
	h.engine = engine
	a, b := h.node("ES256"), h.node("ES256")
	if _, err := b.VerifyJWT(h.sign(a, "EdDSA", "at+jwt"), "at+jwt"); err != nil {
		t.Errorf("its first token: %v", err)
	}
	stranger := newHouse(t)
	forged := stranger.sign(stranger.node("ES256"), "EdDSA", "at+jwt")
	h.clock.Advance(time.Second)
	before := engine.reads.Load()
	_, _ = b.VerifyJWT(forged, "at+jwt")
	once := engine.reads.Load() - before
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := b.VerifyJWT(forged, "at+jwt"); !errors.Is(err, token.ErrInvalid) {
					t.Errorf("a key of a stranger: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := engine.reads.Load() - before; once == 0 || got != once {
		t.Errorf("%d reads, want those of one look: %d", got, once)
	}
}

// Who keeps the keys in the store tells the other nodes when it has written, and may be
// asked something by whom it tells.
func TestWritten(t *testing.T) {
	h := newHouse(t)
	var m *token.Manager
	told := 0
	o := h.options("ES256", 0)
	o.Written = func() {
		told++
		if m != nil {
			h.must(m.Refresh(t.Context()))
		}
	}
	m = h.nodeOf(o)
	if told != 1 {
		t.Errorf("told %d times of the first key", told)
	}
	h.tend(m)
	if told != 2 {
		t.Errorf("told %d times after the others were made", told)
	}
	h.tend(m)
	if _, err := m.RotateKey(t.Context(), "ES256"); err != nil || told != 3 {
		t.Errorf("told %d times after a rotation: %v", told, err)
	}
}
