package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"login-server/clock"
	"login-server/identity"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/store/storetest"
)

// people are the accounts that the operations of this file work on: Ada and Bob
// share no provider, Cid has absorbed Dot.
type people struct{ ada, bob, cid, dot identity.Account }

// settle makes the people of an operation, whose identities end in suffix.
func (h *house) people(suffix string) people {
	h.Helper()
	key := func(provider string) string { return provider + "/" + suffix }
	p := people{
		ada: h.person(key("github"), key("ldap")),
		bob: h.person(key("orcid"), key("google")),
		cid: h.person(key("cbs")),
		dot: h.person(key("script"), key("local")),
	}
	p.cid = h.merge(p.cid, p.dot)
	return p
}

func (p people) accounts() []identity.Account {
	return []identity.Account{p.ada, p.bob, p.cid, p.dot}
}

// operation is one of those that write more than one document, or meet others that do.
type operation struct {
	name    string
	prepare func(h *house, p people)
	run     func(ctx context.Context, d *identity.Directory, p people, suffix string) error
	// frees are the providers whose identities may be free afterwards.
	frees []string
	// disturbs are those worth to come second between the steps of another one, alone
	// those not even worth to come first.
	disturbs, alone bool
}

var operations = []operation{
	{name: "first sign-in", alone: true, run: func(ctx context.Context, d *identity.Directory, p people, suffix string) error {
		_, _, err := d.SignIn(ctx, profile("easydb/"+suffix))
		return err
	}},
	{name: "sign-in with an absorbed identity", run: func(ctx context.Context, d *identity.Directory, p people, suffix string) error {
		_, _, err := d.SignIn(ctx, profile("script/"+suffix))
		return err
	}},
	{name: "link", alone: true, run: func(ctx context.Context, d *identity.Directory, p people, suffix string) error {
		_, err := d.Link(ctx, p.ada.ID, profile("easydb/"+suffix))
		return err
	}},
	{name: "merge", run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, err := d.Merge(ctx, p.ada.ID, p.bob.ID)
		return err
	}},
	{name: "merge the other way", disturbs: true, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, err := d.Merge(ctx, p.bob.ID, p.ada.ID)
		return err
	}},
	{name: "merge of one that has absorbed", run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, err := d.Merge(ctx, p.ada.ID, p.cid.ID)
		return err
	}},
	{name: "undo", disturbs: true, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, _, err := d.UndoMerge(ctx, p.cid.ID, p.dot.ID)
		return err
	}},
	{name: "undo of a chain",
		prepare: func(h *house, p people) { h.merge(p.ada, p.cid) },
		run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
			_, _, err := d.UndoMerge(ctx, p.ada.ID, p.cid.ID)
			return err
		}},
	{name: "undo and merge again", alone: true, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		if _, _, err := d.UndoMerge(ctx, p.cid.ID, p.dot.ID); err != nil {
			return err
		}
		_, err := d.Merge(ctx, p.cid.ID, p.dot.ID)
		return err
	}},
	{name: "disconnect", alone: true, frees: []string{"orcid"}, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, err := d.Disconnect(ctx, p.bob.ID, "orcid")
		return err
	}},
	{name: "disconnect of an absorbed identity", frees: []string{"script"}, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, err := d.Disconnect(ctx, p.cid.ID, "script")
		return err
	}},
	{name: "delete", frees: []string{"orcid", "google"}, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		return d.Delete(ctx, p.bob.ID)
	}},
	{name: "delete of one that has absorbed", frees: []string{"cbs", "script", "local"}, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		return d.Delete(ctx, p.cid.ID)
	}},
	{name: "rename", alone: true, run: func(ctx context.Context, d *identity.Directory, p people, _ string) error {
		_, err := d.Rename(ctx, p.bob.ID, "Robert")
		return err
	}},
}

var providers = []string{"github", "ldap", "orcid", "google", "cbs", "script", "local", "easydb"}

// picture is everything that can be seen of people from outside: who they are and
// where their old URLs and their identities lead.
func picture(t *testing.T, d *identity.Directory, p people, suffix string) string {
	t.Helper()
	names := map[string]string{"": "nobody"}
	for i, a := range p.accounts() {
		names[a.ID] = []string{"Ada", "Bob", "Cid", "Dot"}[i]
	}
	name := func(a identity.Account, err error) string {
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Fatalf("picture: %v", err)
		}
		if name := names[a.ID]; name != "" {
			return name
		}
		return "somebody new"
	}
	var b strings.Builder
	for _, provider := range providers {
		fmt.Fprintf(&b, "%s belongs to %s\n", provider, name(d.Owner(t.Context(), provider, suffix)))
	}
	for _, a := range p.accounts() {
		now, _, err := d.Locate(t.Context(), a.ID)
		fmt.Fprintf(&b, "%s is now %s", names[a.ID], name(now, err))
		if now.ID == a.ID {
			var merged []string
			for _, uri := range now.Merged {
				merged = append(merged, names[uri[strings.LastIndex(uri, "/")+1:]])
			}
			fmt.Fprintf(&b, " with %v, was %v, called %q", now.Providers(), merged, now.Name)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// TestCrash kills the store between any two writes of every operation. After the
// restart the operation has either happened or not, whether the first to come by
// is a reader or Heal.
func TestCrash(t *testing.T) {
	for _, op := range operations {
		for _, first := range []string{"reader", "Heal"} {
			t.Run(op.name+", then "+first, func(t *testing.T) {
				t.Parallel()
				c := clock.NewFake(start)
				faulty := storetest.Faulty(teststore.Open(t, c.Now))
				h := &house{T: t, Directory: newDirectory(faulty, c.Now), engine: faulty, clock: c}
				for n := 0; ; n++ {
					suffix := fmt.Sprint(n)
					p := h.people(suffix)
					if op.prepare != nil {
						op.prepare(h, p)
					}
					before := picture(t, h.Directory, p, suffix)

					faulty.KillAfter(n)
					err := op.run(t.Context(), h.Directory, p, suffix)
					survived := !errors.Is(faulty.Ping(t.Context()), storetest.ErrKilled)
					faulty.Revive()
					h.Directory = newDirectory(faulty, c.Now)
					if err != nil && !errors.Is(err, storetest.ErrKilled) {
						t.Fatalf("killed after %d writes: %v", n, err)
					}
					if first == "Heal" {
						if _, err := h.Heal(t.Context()); err != nil {
							t.Fatalf("Heal: %v", err)
						}
					}
					_ = picture(t, h.Directory, p, suffix) // the first reader heals what it meets
					after := picture(t, h.Directory, p, suffix)
					wantSound(t, h.Directory)
					if _, err := h.Heal(t.Context()); err != nil {
						t.Fatalf("Heal: %v", err)
					}
					if diff := cmp.Diff(after, picture(t, h.Directory, p, suffix)); diff != "" {
						t.Errorf("killed after %d writes: Heal shows another picture than readers saw (-before +after):\n%s", n, diff)
					}
					if n, err := h.Heal(t.Context()); n != 0 || err != nil {
						t.Errorf("Heal finds work after Heal: %d, %v", n, err)
					}
					if after == before && err == nil && op.name != "undo and merge again" && !strings.HasPrefix(op.name, "sign-in") {
						t.Errorf("killed after %d writes: reported as done, but nothing has happened", n)
					}
					if after != before && err != nil {
						// It was decided before the crash: once repeated, or not, it must look the same as if nothing had come between.
						fresh := h.people("fresh" + suffix)
						if op.prepare != nil {
							op.prepare(h, fresh)
						}
						if op.name != "undo and merge again" {
							if err := op.run(t.Context(), h.Directory, fresh, "fresh"+suffix); err != nil {
								t.Fatal(err)
							}
							want := strings.ReplaceAll(picture(t, h.Directory, fresh, "fresh"+suffix), "fresh", "")
							if diff := cmp.Diff(want, after); diff != "" {
								t.Errorf("killed after %d writes: neither happened nor not (-happened +got):\n%s", n, diff)
							}
						}
					}
					if survived {
						return
					}
				}
			})
		}
	}
}

// wantSound checks that no identity is on two accounts, that each leads to the
// account which lists it, and that what its provider gave has come along.
func wantSound(t *testing.T, d *identity.Directory) {
	t.Helper()
	seen := map[string]string{}
	for after := ""; ; {
		page, err := d.List(t.Context(), after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return
		}
		after = page[len(page)-1].ID
		for _, a := range page {
			if len(a.Identities) == 0 {
				t.Errorf("nobody can sign in to %s any more", a.ID)
			}
			wantUpstream(t, d, a)
			for provider, i := range a.Identities {
				key := provider + "/" + i.ID
				if other := seen[key]; other != "" {
					t.Errorf("%s is on two accounts, %s and %s", key, other, a.ID)
				}
				seen[key] = a.ID
				owner, err := d.Owner(t.Context(), provider, i.ID)
				if err != nil || owner.ID != a.ID {
					t.Errorf("%s is listed by %s but leads to %q, %v", key, a.ID, owner.ID, err)
				}
			}
		}
	}
}

// wantUpstream checks that an account hands on what came with its identities, of each
// what came with that one, and keeps nothing else.
func wantUpstream(t *testing.T, d *identity.Directory, a identity.Account) {
	t.Helper()
	claims, err := d.Claims(a)
	if err != nil {
		t.Fatalf("Claims: %v", err)
	}
	var user struct {
		Identities map[string]struct{ ID, Token string }
	}
	if err := json.Unmarshal(claims, &user); err != nil {
		t.Fatalf("claims of %s: %v in %s", a.ID, err, claims)
	}
	for provider, own := range user.Identities {
		if want := "token of " + provider + "/" + own.ID; own.Token != want {
			t.Errorf("at %s applications get %q, want %q", provider, own.Token, want)
		}
	}
	if len(user.Identities) != len(a.Identities) || len(a.Upstream) != len(a.Identities) {
		t.Errorf("of %d identities, %d are in tokens, and %d tokens are kept", len(a.Identities), len(user.Identities), len(a.Upstream))
	}
}

// memory is a store that is fast enough to try every order of events in. It has
// only what a Directory needs.
type memory struct {
	store.Engine
	mu      sync.Mutex
	docs    map[string]store.Doc
	version int64
}

func (m *memory) find(match func(store.Doc) bool) []store.Doc {
	var found []store.Doc
	for _, doc := range m.docs {
		if match(doc) {
			found = append(found, doc)
		}
	}
	slices.SortFunc(found, func(a, b store.Doc) int { return strings.Compare(a.ID, b.ID) })
	return found
}

func (m *memory) write(doc store.Doc) (int64, error) {
	for _, other := range m.docs {
		if other.ID != doc.ID && slices.ContainsFunc(other.Unique, func(key string) bool { return slices.Contains(doc.Unique, key) }) {
			return 0, store.ErrExists
		}
	}
	m.version++
	doc.Version = m.version
	m.docs[doc.ID] = doc
	return doc.Version, nil
}

func (m *memory) Get(_ context.Context, _, id string) (store.Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, ok := m.docs[id]
	if !ok {
		return doc, store.ErrNotFound
	}
	return doc, nil
}

func (m *memory) GetUnique(_ context.Context, _, key string) (store.Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, doc := range m.docs {
		if slices.Contains(doc.Unique, key) {
			return doc, nil
		}
	}
	return store.Doc{}, store.ErrNotFound
}

func (m *memory) Find(_ context.Context, _ string, q store.Query) ([]store.Doc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(func(doc store.Doc) bool { return doc.ID > q.After && slices.Contains(doc.Keys, q.Key) }), nil
}

func (m *memory) Insert(_ context.Context, _ string, doc store.Doc) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.docs[doc.ID]; ok {
		return 0, store.ErrExists
	}
	return m.write(doc)
}

func (m *memory) Replace(_ context.Context, _ string, doc store.Doc) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch old, ok := m.docs[doc.ID]; {
	case !ok:
		return 0, store.ErrNotFound
	case old.Version != doc.Version:
		return 0, store.ErrConflict
	}
	return m.write(doc)
}

func (m *memory) Delete(_ context.Context, _, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.docs[id]; !ok {
		return store.ErrNotFound
	}
	delete(m.docs, id)
	return nil
}

// late is the engine of a process that is held up before one of its calls, while
// others go on.
type late struct {
	store.Engine
	calls  int // until it is held up
	others func()
}

func (l *late) step() {
	if l.calls--; l.calls == 0 {
		l.others()
	}
}

func (l *late) Get(ctx context.Context, kind, id string) (store.Doc, error) {
	l.step()
	return l.Engine.Get(ctx, kind, id)
}

func (l *late) GetUnique(ctx context.Context, kind, key string) (store.Doc, error) {
	l.step()
	return l.Engine.GetUnique(ctx, kind, key)
}

func (l *late) Find(ctx context.Context, kind string, q store.Query) ([]store.Doc, error) {
	l.step()
	return l.Engine.Find(ctx, kind, q)
}

func (l *late) Insert(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	l.step()
	return l.Engine.Insert(ctx, kind, doc)
}

func (l *late) Replace(ctx context.Context, kind string, doc store.Doc) (int64, error) {
	l.step()
	return l.Engine.Replace(ctx, kind, doc)
}

func (l *late) Delete(ctx context.Context, kind, id string) error {
	l.step()
	return l.Engine.Delete(ctx, kind, id)
}

// TestLateProcess holds a process up before each of its calls to the store, lets
// another do everything that could come in its way, first one operation and then
// a second one, and lets the late one go on.
func TestLateProcess(t *testing.T) {
	c := clock.NewFake(start)
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			begin := &memory{docs: map[string]store.Doc{}}
			h := &house{T: t, Directory: newDirectory(begin, c.Now), engine: begin, clock: c}
			p := h.people("x")
			if op.prepare != nil {
				op.prepare(h, p)
			}
			for _, one := range operations {
				for _, two := range operations {
					if one.alone || !two.disturbs {
						continue
					}
					for call := 1; ; call++ {
						engine := &memory{docs: maps.Clone(begin.docs), version: begin.version}
						held := false
						slow := &late{Engine: engine, calls: call, others: func() {
							held = true
							// Refusals are fine: what counts is what is there at the end.
							for _, other := range []operation{one, two} {
								if err := other.run(t.Context(), newDirectory(engine, c.Now), p, "x"); err != nil && !refused(err) {
									t.Errorf("%s: %v", other.name, err)
								}
							}
						}}
						if err := op.run(t.Context(), newDirectory(slow, c.Now), p, "x"); err != nil && !refused(err) {
							t.Errorf("%s: %v", op.name, err)
						}
						h.Directory = newDirectory(engine, c.Now)
						h.wantKept(p, "x", slices.Concat(op.frees, one.frees, two.frees), slices.ContainsFunc([]operation{op, one, two}, operation.deletes))
						if t.Failed() {
							t.Fatalf("held up before call %d by %s and %s", call, one.name, two.name)
						}
						if !held {
							break
						}
					}
				}
			}
		})
	}
}

func (o operation) deletes() bool { return strings.HasPrefix(o.name, "delete") }

// wantKept checks that no identity is on two accounts, that each leads to the one
// which lists it, and that every identity and every URL of people leads to an
// account, but for the identities that may have become free. With a deletion among
// the operations more may be gone, namely what was merged before.
func (h *house) wantKept(p people, suffix string, free []string, deletion bool) {
	h.Helper()
	owners := map[string]string{}
	for _, provider := range providers {
		owners[provider] = h.ownerOf(provider + "/" + suffix)
	}
	accounts, err := h.List(h.Context(), "", 100)
	if err != nil {
		h.Fatal(err)
	}
	listed := map[string]string{}
	for _, a := range accounts {
		for provider := range a.Identities {
			if listed[provider] != "" {
				h.Errorf("the identity at %s is on two accounts", provider)
			}
			listed[provider] = a.ID
		}
		wantUpstream(h.T, h.Directory, a)
	}
	for _, provider := range providers {
		if owners[provider] != listed[provider] {
			h.Errorf("the identity at %s leads to %q, and %q lists it", provider, owners[provider], listed[provider])
		}
	}
	for _, a := range p.accounts() {
		kept := map[string]bool{} // where its identities lead
		for provider := range a.Identities {
			if slices.Contains(free, provider) {
				continue
			}
			kept[owners[provider]] = true
			if owners[provider] == "" && !deletion {
				h.Errorf("the identity at %s is lost", provider)
			}
		}
		now, _, err := h.Locate(h.Context(), a.ID)
		if err != nil && !deletion {
			h.Errorf("the URL of %s leads nowhere: %v", a.Name, err)
		}
		if a.ID != p.cid.ID && len(kept) > 0 && !kept[now.ID] {
			h.Errorf("the URL of %s leads to %q, but its identities to %v", a.Name, now.ID, kept)
		}
	}
}

// TestContention has two processes with several goroutines each do everything at
// once on the same few accounts.
func TestContention(t *testing.T) {
	for _, mode := range []struct {
		name                   string
		disconnects, deletions bool
	}{
		{"nothing may get lost", false, false},
		{"with disconnects", true, false},
		{"with disconnects and deletions", true, true},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s, seed %d", mode.name, seed), func(t *testing.T) {
				t.Parallel()
				c := clock.NewFake(start)
				engine := teststore.Open(t, c.Now)
				h := &house{T: t, Directory: newDirectory(engine, c.Now), engine: engine, clock: c}
				var accounts []identity.Account
				for i := range 5 {
					accounts = append(accounts, h.person(fmt.Sprintf("p%d/x", 2*i), fmt.Sprintf("p%d/x", 2*i+1)))
				}

				var mu sync.Mutex
				freed := map[string]bool{} // identities that were disconnected on purpose
				var wg sync.WaitGroup
				for process := range 2 {
					d := newDirectory(engine, c.Now)
					for worker := range 4 {
						random := rand.New(rand.NewPCG(seed, uint64(10*process+worker)))
						wg.Go(func() {
							for range 25 {
								a, b := accounts[random.IntN(5)].ID, accounts[random.IntN(5)].ID
								provider := fmt.Sprintf("p%d", random.IntN(12))
								var err error
								switch n := random.IntN(20); {
								case n < 8:
									_, err = d.Merge(t.Context(), a, b)
								case n < 12:
									_, _, err = d.UndoMerge(t.Context(), a, b)
								case n < 14:
									_, _, err = d.SignIn(t.Context(), profile(provider+"/x"))
								case n < 16:
									_, err = d.Link(t.Context(), a, profile(provider+"/x"))
								case n < 17:
									_, err = d.Rename(t.Context(), a, "Renamed")
								case n < 19 && mode.disconnects:
									mu.Lock()
									freed[provider] = true
									mu.Unlock()
									_, err = d.Disconnect(t.Context(), a, provider)
								case mode.deletions:
									err = d.Delete(t.Context(), a)
								}
								if err != nil && !refused(err) {
									t.Errorf("unexpected error: %v", err)
								}
							}
						})
					}
				}
				wg.Wait()

				h.Directory = newDirectory(engine, c.Now)
				for _, a := range accounts {
					for provider := range a.Identities {
						if !mode.deletions && !freed[provider] && h.ownerOf(provider+"/x") == "" {
							t.Errorf("the identity at %s is lost", provider)
						}
					}
					if _, _, err := h.Locate(t.Context(), a.ID); err != nil && !mode.deletions {
						t.Errorf("the URL of %s leads nowhere: %v", a.Name, err)
					}
				}
				wantSound(t, h.Directory)
				if _, err := h.Heal(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantSound(t, h.Directory)
			})
		}
	}
}

// refused tells whether an error is one that the rules allow for.
func refused(err error) bool {
	_, owned := errors.AsType[*identity.OwnedError](err)
	_, shared := errors.AsType[*identity.SharedError](err)
	return owned || shared || slices.ContainsFunc([]error{
		identity.ErrNotFound, identity.ErrBusy, identity.ErrLastIdentity, identity.ErrNotLinked,
		identity.ErrUndoExpired, identity.ErrUndoImpossible,
	}, func(allowed error) bool { return errors.Is(err, allowed) })
}
