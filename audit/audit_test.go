package audit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"login-server/audit"
	"login-server/clock"
	"login-server/internal/teststore"
	"login-server/store"
	"login-server/store/storetest"
)

type house struct {
	*testing.T
	*audit.Book
	clock  *clock.Fake
	engine *storetest.FaultyEngine
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	h.engine = storetest.Faulty(teststore.Open(t, h.clock.Now))
	h.Book = audit.NewBook(h.engine, h.clock.Now)
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// fill records n entries, a day apart.
func (h *house) fill(n int) {
	h.Helper()
	for i := range n {
		h.must(h.Record(h.Context(), audit.Entry{
			Actor: []string{audit.ActorCommand, "grace"}[i%2], Action: []string{"user.disable", "client.add", "user.enable"}[i%3], Target: fmt.Sprint("t", i%5),
		}))
		h.clock.Advance(24 * time.Hour)
	}
}

func id(number int) string { return fmt.Sprintf("%019d", number) }

// change alters what is stored of an entry.
func (h *house) change(number int, change func(map[string]any)) {
	h.Helper()
	doc, err := h.engine.Get(h.Context(), "audit", id(number))
	h.must(err)
	var fields map[string]any
	h.must(json.Unmarshal(doc.Data, &fields))
	change(fields)
	doc.Data, err = json.Marshal(fields)
	h.must(err)
	_, err = h.engine.Replace(h.Context(), "audit", doc)
	h.must(err)
}

// wantFaults checks what Verify finds, as "number text".
func (h *house) wantFaults(want ...string) audit.Report {
	h.Helper()
	r, err := h.Verify(h.Context())
	h.must(err)
	var got []string
	for _, f := range r.Faults {
		got = append(got, fmt.Sprintf("%d %s", f.Number, f.Text))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("faults (-want +got):\n%s", diff)
	}
	return r
}

func TestRecord(t *testing.T) {
	h := newHouse(t)
	e := audit.Entry{
		Actor: "grace", ActorName: "Grace <b>\xff\u2028", Action: "factor.reset", Target: "ada", TargetName: "Ada", Address: "192.0.2.1",
		Detail: map[string]string{"factor": "totp", "why": "lost"},
	}
	h.must(h.Record(t.Context(), e))
	h.clock.Advance(time.Second)
	h.must(h.Record(t.Context(), audit.Entry{Number: 17, At: time.Now(), Prev: "x", Actor: audit.ActorSystem, Action: "key.rotate", Detail: map[string]string{}}))
	got, err := h.List(t.Context(), audit.Query{})
	h.must(err)
	e.Number, e.At, e.ActorName = 1, h.clock.Now().Add(-time.Second), "Grace <b>\u2028"
	want := []audit.Entry{{Number: 2, At: h.clock.Now(), Actor: audit.ActorSystem, Action: "key.rotate", Prev: e.Hash()}, e}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r := h.wantFaults(); r.Entries != 2 || r.First != 1 || r.Last != 2 || r.Hash != want[0].Hash() {
		t.Errorf("report: %+v", r)
	}
	for _, bad := range []audit.Entry{{Action: "user.disable"}, {Actor: "grace"}, {}} {
		if err := h.Record(t.Context(), bad); err == nil {
			t.Errorf("%+v was recorded", bad)
		}
	}
}

// TestHashStays: entries are verified by later versions, too.
func TestHashStays(t *testing.T) {
	e := audit.Entry{Number: 1, At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Actor: "cli", ActorName: "grace", Action: "user.disable", Target: "ada"}
	if got, want := e.Hash(), "44681b75ad5e5640000320457a7eee54ce09aa7a6d722e3c9f5ac0334c567dd6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhatIsTooLong(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("ä", 5<<20)
	detail := map[string]string{long: long}
	for i := range 1000 {
		detail[fmt.Sprint(i)] = long
	}
	h.must(h.Record(t.Context(), audit.Entry{Actor: long, Action: "user.rename", Target: long, TargetName: long, Detail: detail}))
	doc, err := h.engine.Get(t.Context(), "audit", id(1))
	h.must(err)
	if len(doc.Data) > 32<<10 {
		t.Errorf("%d bytes", len(doc.Data))
	}
	h.must(h.Record(t.Context(), audit.Entry{Actor: "grace", Action: "user.rename"}))
	h.wantFaults()
	if got, err := h.List(t.Context(), audit.Query{Target: long[:500]}); len(got) != 1 || err != nil {
		t.Errorf("by what is kept of the target: %d, %v", len(got), err)
	}
}

func TestList(t *testing.T) {
	h := newHouse(t)
	h.fill(12)
	for _, tc := range []struct {
		what string
		q    audit.Query
		want []int64
	}{
		{"latest first", audit.Query{Limit: 3}, []int64{12, 11, 10}},
		{"the next page", audit.Query{Limit: 3, Before: 10}, []int64{9, 8, 7}},
		{"of one action", audit.Query{Action: "client.add"}, []int64{11, 8, 5, 2}},
		{"of a kind of actions", audit.Query{Action: "user.", Limit: 4}, []int64{12, 10, 9, 7}},
		{"no beginning of a word", audit.Query{Action: "user"}, nil},
		{"of one actor", audit.Query{Actor: "grace", Before: 5}, []int64{4, 2}},
		{"of a target", audit.Query{Target: "t0"}, []int64{11, 6, 1}},
		{"all of it", audit.Query{Target: "t0", Action: "client.add", Actor: "cli"}, []int64{11}},
		{"since", audit.Query{Since: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}, []int64{12, 11, 10}},
		{"of nobody", audit.Query{Actor: "eve"}, nil},
	} {
		entries, err := h.List(t.Context(), tc.q)
		h.must(err)
		var got []int64
		for _, e := range entries {
			got = append(got, e.Number)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.what, diff)
		}
	}
}

// TestManyWriters: every entry gets a number of its own, and the chain holds.
func TestManyWriters(t *testing.T) {
	h := newHouse(t)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for i := range writers {
		book := audit.NewBook(h.engine, h.clock.Now) // another process
		wg.Go(func() {
			for range each {
				if err := book.Record(t.Context(), audit.Entry{Actor: fmt.Sprint("a", i), Action: "user.disable"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r := h.wantFaults(); r.Entries != writers*each || r.Last != writers*each {
		t.Errorf("report: %+v", r)
	}
	for i := range writers {
		if got, err := h.List(t.Context(), audit.Query{Actor: fmt.Sprint("a", i)}); len(got) != each || err != nil {
			t.Errorf("writer %d: %d entries, %v", i, len(got), err)
		}
	}
}

func TestTampering(t *testing.T) {
	for _, tc := range []struct {
		what   string
		change func(h *house)
		want   []string
	}{
		{"an entry is altered", func(h *house) { h.change(3, func(f map[string]any) { f["actor"] = "somebody else" }) },
			[]string{"3 was altered, or what the next entry says of it"}},
		{"a time is altered", func(h *house) { h.change(2, func(f map[string]any) { f["at"] = "2026-03-02T12:00:00.001Z" }) },
			[]string{"2 was altered, or what the next entry says of it"}},
		{"one in the middle is removed", func(h *house) { h.must(h.engine.Delete(h.Context(), "audit", id(4))) }, []string{"4 is missing"}},
		{"several are removed", func(h *house) {
			for n := 2; n < 5; n++ {
				h.must(h.engine.Delete(h.Context(), "audit", id(n)))
			}
		}, []string{"2 is missing, with all up to 4"}},
		{"the first are removed", func(h *house) {
			h.must(h.engine.Delete(h.Context(), "audit", id(1)))
			h.must(h.engine.Delete(h.Context(), "audit", id(2)))
		}, []string{"1 is missing, with all up to 2, and nothing says that its time had passed"}},
		{"one is put in the place of another", func(h *house) {
			doc, err := h.engine.Take(h.Context(), "audit", id(4))
			h.must(err)
			h.must(h.engine.Delete(h.Context(), "audit", id(3)))
			doc.ID = id(3)
			_, err = h.engine.Insert(h.Context(), "audit", doc)
			h.must(err)
		}, []string{"3 is missing", "4 is in the place of entry " + id(3)}},
		{"somebody says that the first have passed their time", func(h *house) {
			h.must(h.engine.Delete(h.Context(), "audit", id(1)))
			h.must(h.Record(h.Context(), audit.Entry{Actor: "grace", Action: "audit.prune", Detail: map[string]string{"through": "1"}}))
		}, []string{"1 is missing, and nothing says that its time had passed"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			h := newHouse(t)
			h.fill(6)
			h.wantFaults()
			tc.change(h)
			h.wantFaults(tc.want...)
		})
	}
}

func TestPrune(t *testing.T) {
	h := newHouse(t)
	if n, err := h.Prune(t.Context(), h.clock.Now()); n != 0 || err != nil {
		t.Errorf("an empty book: %d, %v", n, err)
	}
	h.fill(10)
	start := h.clock.Now().Add(-10 * 24 * time.Hour)
	// Less than a day is not worth an entry.
	if n, err := h.Prune(t.Context(), start.Add(20*time.Hour)); n != 0 || err != nil {
		t.Errorf("less than a day: %d, %v", n, err)
	}
	if n, err := h.Prune(t.Context(), start.Add(4*24*time.Hour)); n != 4 || err != nil {
		t.Errorf("got %d, %v; want 4", n, err)
	}
	if r := h.wantFaults(); r.First != 5 || r.Last != 11 || r.Entries != 7 {
		t.Errorf("report: %+v", r)
	}
	said, err := h.List(t.Context(), audit.Query{Action: "audit.prune"})
	h.must(err)
	if len(said) != 1 || said[0].Actor != audit.ActorSystem || said[0].Detail["through"] != "4" {
		t.Errorf("what is said of it: %+v", said)
	}
	// One more that is taken off the front shows, and the entries go on.
	h.must(h.engine.Delete(t.Context(), "audit", id(5)))
	h.wantFaults("1 is missing, with all up to 5, and nothing says that its time had passed")
	h.clock.Advance(100 * 24 * time.Hour)
	if n, err := h.Prune(t.Context(), h.clock.Now()); n != 6 || err != nil {
		t.Errorf("all: got %d, %v; want 6", n, err)
	}
	if r := h.wantFaults(); r.First != 12 || r.Entries != 1 {
		t.Errorf("report: %+v", r)
	}
}

// TestPruneIsCutOff: after a crash at any write there is nothing that looks like tampering.
func TestPruneIsCutOff(t *testing.T) {
	for writes := range 6 {
		h := newHouse(t)
		h.fill(5)
		before := h.clock.Now().Add(-24 * time.Hour)
		h.engine.KillAfter(writes)
		_, err := h.Prune(t.Context(), before)
		h.engine.Revive()
		if writes < 5 && err == nil {
			t.Errorf("after %d writes: no error", writes)
		}
		h.wantFaults()
		_, err = h.Prune(t.Context(), before)
		h.must(err)
		h.wantFaults()
	}
}

func TestStoreThatFails(t *testing.T) {
	h := newHouse(t)
	h.engine.KillAfter(0)
	if err := h.Record(t.Context(), audit.Entry{Actor: "grace", Action: "user.disable"}); err == nil || errors.Is(err, store.ErrExists) {
		t.Errorf("got %v", err)
	}
	h.engine.Revive()
	h.must(h.Record(t.Context(), audit.Entry{Actor: "grace", Action: "user.disable"}))
	h.wantFaults()
}
