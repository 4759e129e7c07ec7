package storetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"login-server/store"
)

// plain are the checks that do one thing after the other.
var plain = map[string]func(*check){
	"RoundTrip":           roundTrip,
	"Kinds":               kindsAreApart,
	"InsertTakenID":       insertTakenID,
	"Replace":             replaceComparesVersions,
	"VersionsNeverReturn": versionsNeverReturn,
	"Delete":              deleteOnce,
	"Take":                takeOnce,
	"UniqueKeys":          uniqueKeys,
	"UniqueKeysFreed":     uniqueKeysFreed,
	"FailedWritesNothing": failedWritesNothing,
	"LookupKeys":          lookupKeys,
	"Paging":              paging,
	"PageLimits":          pageLimits,
	"Count":               count,
	"Expiry":              expiry,
	"ExpiryPrecision":     expiryPrecision,
	"ExpiredIsFree":       expiredIsFree,
	"Sweep":               sweep,
	"Invalid":             invalid,
	"OddStrings":          oddStrings,
	"LargeData":           largeData,
	"ExactData":           exactData,
	"CancelledContext":    cancelledContext,
	"Close":               closed,
}

// doc is a document with nothing but an id and data.
func doc(id string) store.Doc { return store.Doc{ID: id, Data: []byte(`{"n":1}`)} }

func roundTrip(c *check) {
	for _, d := range []store.Doc{
		doc("bare"),
		{ID: "full", Data: []byte(`{"a":[1,2,3]}`), Unique: []string{"u1", "u2"}, Keys: []string{"k1", "k2"}, Expires: c.in(time.Hour)},
		{ID: "order", Data: []byte(`{}`), Unique: []string{"z", "a", "m"}, Keys: []string{"z", "a", "m"}},
		{ID: "zone", Data: []byte(`{}`), Expires: c.in(time.Hour).In(time.FixedZone("", 3*3600))},
		{ID: "far", Data: []byte(`{}`), Expires: time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)},
	} {
		d = c.insert("kind", d)
		if d.Version == 0 {
			c.Error("Insert returns version 0, which a document cannot have")
		}
		c.wantDoc("kind", d)
	}
	c.wantGone("kind", "none")
	_, err := c.GetUnique(c.Context(), "kind", "none")
	c.wantErr("GetUnique of no key", err, store.ErrNotFound)
	_, err = c.GetUnique(c.Context(), "kind", "k1")
	c.wantErr("GetUnique of a look-up key", err, store.ErrNotFound)
	c.wantIDs("Find by a unique key", c.find("kind", store.Query{Key: "u1"}))
	if err := c.Ping(c.Context()); err != nil {
		c.Errorf("Ping: %v", err)
	}
}

func kindsAreApart(c *check) {
	a := c.insert("a", store.Doc{ID: "1", Data: []byte(`"a"`), Unique: []string{"u"}, Keys: []string{"k"}})
	b := c.insert("b", store.Doc{ID: "1", Data: []byte(`"b"`), Unique: []string{"u"}, Keys: []string{"k"}})
	c.wantDoc("a", a)
	c.wantDoc("b", b)
	c.wantIDs("Find", c.find("a", store.Query{Key: "k"}), "1")
	c.wantCount("a", "k", 1)
	c.delete("a", "1")
	c.wantGone("a", "1")
	c.wantDoc("b", b)
}

func insertTakenID(c *check) {
	first := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}})
	_, err := c.Insert(c.Context(), "kind", store.Doc{ID: "1", Data: []byte(`2`), Unique: []string{"v"}})
	c.wantErr("Insert of a taken id", err, store.ErrExists)
	c.wantDoc("kind", first)
}

func replaceComparesVersions(c *check) {
	first := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u1", "u2"}, Keys: []string{"k1", "k2"}, Expires: c.in(time.Hour)})
	second := c.replace("kind", store.Doc{ID: "1", Version: first.Version, Data: []byte(`2`), Unique: []string{"u2", "u3"}, Keys: []string{"k2", "k3"}})
	if second.Version == first.Version {
		c.Error("Replace leaves the version as it was")
	}
	c.wantDoc("kind", second)
	c.wantIDs("Find by a key that was dropped", c.find("kind", store.Query{Key: "k1"}))

	for _, version := range []int64{first.Version, 0, second.Version + 1} {
		_, err := c.Replace(c.Context(), "kind", store.Doc{ID: "1", Version: version, Data: []byte(`3`)})
		c.wantErr("Replace of another version", err, store.ErrConflict)
	}
	c.wantDoc("kind", second)

	same := c.replace("kind", second)
	if same.Version == second.Version {
		c.Error("Replace with the same content leaves the version as it was")
	}
	_, err := c.Replace(c.Context(), "kind", store.Doc{ID: "2", Version: second.Version, Data: []byte(`3`)})
	c.wantErr("Replace of no document", err, store.ErrNotFound)
	c.wantGone("kind", "2")
}

func versionsNeverReturn(c *check) {
	seen := make(map[int64]bool)
	note := func(version int64) {
		if seen[version] {
			c.Fatalf("version %d came twice", version)
		}
		seen[version] = true
	}
	for range 20 {
		d := c.insert("kind", doc("1"))
		note(d.Version)
		d = c.replace("kind", d)
		note(d.Version)
		c.delete("kind", "1")
	}
	old := c.insert("kind", doc("1"))
	c.delete("kind", "1")
	c.insert("kind", doc("1"))
	_, err := c.Replace(c.Context(), "kind", old)
	c.wantErr("Replace of a document that was deleted and inserted again", err, store.ErrConflict)
}

func deleteOnce(c *check) {
	c.insert("kind", doc("1"))
	kept := c.insert("kind", doc("2"))
	c.delete("kind", "1")
	c.wantGone("kind", "1")
	c.wantDoc("kind", kept)
	c.wantErr("second Delete", c.Delete(c.Context(), "kind", "1"), store.ErrNotFound)
	c.insert("kind", doc("1"))
}

func takeOnce(c *check) {
	want := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}, Keys: []string{"k"}, Expires: c.in(time.Hour)})
	got, err := c.Take(c.Context(), "kind", "1")
	if err != nil {
		c.Fatalf("Take: %v", err)
	}
	c.wantSame("Take", got, want)
	c.wantGone("kind", "1")
	_, err = c.Take(c.Context(), "kind", "1")
	c.wantErr("second Take", err, store.ErrNotFound)
	c.wantErr("Delete after Take", c.Delete(c.Context(), "kind", "1"), store.ErrNotFound)
	c.wantCount("kind", "k", 0)
	c.insert("kind", want)
}

func uniqueKeys(c *check) {
	ab := c.insert("kind", store.Doc{ID: "ab", Data: []byte(`1`), Unique: []string{"a", "b"}})
	cd := c.insert("kind", store.Doc{ID: "cd", Data: []byte(`2`), Unique: []string{"c", "d"}})
	_, err := c.Insert(c.Context(), "kind", store.Doc{ID: "x", Data: []byte(`3`), Unique: []string{"x", "b"}})
	c.wantErr("Insert of a taken key", err, store.ErrExists)
	cd.Unique = []string{"c", "a"}
	_, err = c.Replace(c.Context(), "kind", cd)
	c.wantErr("Replace with a taken key", err, store.ErrExists)
	cd.Unique = []string{"c", "d"}
	c.wantDoc("kind", ab)
	c.wantDoc("kind", cd)

	// A key may be repeated, kept, and be the same as the id or a look-up key.
	ab.Unique, ab.Keys = []string{"b", "b", "ab"}, []string{"b", "b", "ab"}
	ab = c.replace("kind", ab)
	c.wantDoc("kind", ab)
	c.wantCount("kind", "b", 1)
	c.wantIDs("Find by a repeated key", c.find("kind", store.Query{Key: "b"}), "ab")
	twice := c.insert("kind", store.Doc{ID: "twice", Data: []byte(`4`), Unique: []string{"t", "t"}, Keys: []string{"t", "t"}})
	c.wantDoc("kind", twice)
	twice.Unique = []string{"t"}
	c.wantDoc("kind", c.replace("kind", twice))
}

func uniqueKeysFreed(c *check) {
	inserted := 0
	take := func(how string) store.Doc {
		c.Helper()
		inserted++
		d := store.Doc{ID: fmt.Sprint(inserted), Data: []byte(`1`), Unique: []string{"u"}}
		version, err := c.Insert(c.Context(), "kind", d)
		if err != nil {
			c.Fatalf("Insert with a unique key after its holder %s: %v", how, err)
		}
		d.Version = version
		c.wantDoc("kind", d)
		return d
	}
	d := take("did not exist")
	c.delete("kind", d.ID)
	d = take("was deleted")
	if _, err := c.Take(c.Context(), "kind", d.ID); err != nil {
		c.Fatal(err)
	}
	d = take("was taken")
	d.Unique = []string{"other"}
	d = c.replace("kind", d)
	take("gave it up")
	c.wantDoc("kind", d)
	d.Unique = []string{"u"}
	_, err := c.Replace(c.Context(), "kind", d)
	c.wantErr("Replace with a key given up", err, store.ErrExists)
}

func failedWritesNothing(c *check) {
	c.insert("kind", store.Doc{ID: "holder", Data: []byte(`1`), Unique: []string{"taken"}})
	_, err := c.Insert(c.Context(), "kind", store.Doc{ID: "1", Data: []byte(`2`), Unique: []string{"free", "taken"}, Keys: []string{"k"}})
	c.wantErr("Insert", err, store.ErrExists)
	c.wantGone("kind", "1")
	c.wantCount("kind", "k", 0)
	c.wantCount("kind", "", 1)
	d := c.insert("kind", store.Doc{ID: "1", Data: []byte(`3`), Unique: []string{"free"}, Keys: []string{"k"}})

	broken := d
	broken.Unique, broken.Keys = []string{"new", "taken"}, []string{"k2"}
	_, err = c.Replace(c.Context(), "kind", broken)
	c.wantErr("Replace", err, store.ErrExists)
	c.wantDoc("kind", d)
	c.wantCount("kind", "k2", 0)
	c.insert("kind", store.Doc{ID: "2", Data: []byte(`4`), Unique: []string{"new"}})
}

func lookupKeys(c *check) {
	for i := range 6 {
		c.insert("kind", store.Doc{ID: fmt.Sprint(i), Data: []byte(`1`), Keys: []string{"all", fmt.Sprint("mod", i%2)}})
	}
	c.wantIDs("Find", c.find("kind", store.Query{Key: "mod1"}), "1", "3", "5")
	c.wantIDs("Find of no key", c.find("kind", store.Query{Key: "none"}))
	c.wantIDs("Find of another kind", c.find("other", store.Query{Key: "mod1"}))
	d, err := c.Get(c.Context(), "kind", "3")
	if err != nil {
		c.Fatal(err)
	}
	d.Keys = []string{"all", "mod0"}
	c.replace("kind", d)
	c.delete("kind", "2")
	c.wantIDs("Find", c.find("kind", store.Query{Key: "mod0"}), "0", "3", "4")
	c.wantIDs("Find", c.find("kind", store.Query{Key: "mod1"}), "1", "5")
	c.wantCount("kind", "mod0", 3)
	c.wantCount("kind", "all", 5)
}

func paging(c *check) {
	var all, odd []string
	for i := range 25 {
		id := fmt.Sprintf("%02d", i)
		all = append(all, id)
		d := store.Doc{ID: id, Data: []byte(`1`), Keys: []string{"all"}}
		if i%2 == 1 {
			odd = append(odd, id)
			d.Keys = []string{"odd", "all"}
		}
		c.insert("kind", d)
		c.insert("other", d)
	}
	for _, tc := range []struct {
		key  string
		want []string
	}{{"", all}, {"all", all}, {"odd", odd}} {
		for _, descending := range []bool{false, true} {
			want := slices.Clone(tc.want)
			if descending {
				slices.Reverse(want)
			}
			for _, limit := range []int{1, 5, 12, 13, 24, 25, 26, 0} {
				q := store.Query{Key: tc.key, Descending: descending, Limit: limit}
				var got []string
				for page := c.find("kind", q); len(page) > 0; page = c.find("kind", q) {
					if got = append(got, page...); limit > 0 && len(page) > limit || len(got) > len(want) {
						c.Fatalf("Find %+v returns %q", q, page)
					}
					q.After = page[len(page)-1]
				}
				c.wantIDs(fmt.Sprintf("pages of %+v", q), got, want...)
			}
		}
	}
	// After need not be there, nor have the key.
	c.wantIDs("Find after 095", c.find("kind", store.Query{After: "095", Limit: 2}), "10", "11")
	c.wantIDs("Find before 095", c.find("kind", store.Query{After: "095", Limit: 2, Descending: true}), "09", "08")
	c.wantIDs("Find odd after 10", c.find("kind", store.Query{Key: "odd", After: "10", Limit: 2}), "11", "13")
	c.wantIDs("Find odd before 10", c.find("kind", store.Query{Key: "odd", After: "10", Limit: 2, Descending: true}), "09", "07")
	c.wantIDs("Find after the last", c.find("kind", store.Query{After: "24"}))
}

func pageLimits(c *check) {
	const n = 1050
	together(50, func(i int) {
		for j := i; j < n; j += 50 {
			if _, err := c.Insert(c.Context(), "kind", store.Doc{ID: fmt.Sprintf("%04d", j), Data: []byte(`1`), Keys: []string{"k"}}); err != nil {
				c.Error(err)
			}
		}
	})
	for limit, want := range map[int]int{0: 100, 999: 999, 1000: 1000, 1001: 1000, 1 << 40: 1000} {
		for _, key := range []string{"", "k"} {
			if got := len(c.find("kind", store.Query{Key: key, Limit: limit})); got != want {
				c.Errorf("Find with limit %d returns %d documents, want %d", limit, got, want)
			}
		}
	}
	c.wantCount("kind", "", n)
	c.wantCount("kind", "k", n)
}

func count(c *check) {
	c.wantCount("kind", "", 0)
	c.wantCount("kind", "k", 0)
	c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Keys: []string{"k", "l"}})
	c.insert("kind", store.Doc{ID: "2", Data: []byte(`1`), Keys: []string{"k"}, Expires: c.in(time.Second)})
	c.insert("kind", store.Doc{ID: "3", Data: []byte(`1`), Expires: c.in(time.Minute)})
	c.insert("other", doc("1"))
	c.wantCount("kind", "", 3)
	c.wantCount("kind", "k", 2)
	c.wantCount("kind", "l", 1)
	c.clock.Advance(time.Second)
	c.wantCount("kind", "", 2)
	c.wantCount("kind", "k", 1)
}

func expiry(c *check) {
	stays := c.insert("kind", store.Doc{ID: "stays", Data: []byte(`1`), Unique: []string{"us"}, Keys: []string{"k"}})
	c.insert("kind", store.Doc{ID: "goes", Data: []byte(`1`), Unique: []string{"ug"}, Keys: []string{"k"}, Expires: c.in(time.Minute)})
	longer := c.insert("kind", store.Doc{ID: "longer", Data: []byte(`1`), Keys: []string{"k"}, Expires: c.in(time.Minute)})
	longer.Expires = c.in(time.Hour)
	longer = c.replace("kind", longer)
	forever := c.insert("kind", store.Doc{ID: "forever", Data: []byte(`1`), Keys: []string{"k"}, Expires: c.in(time.Minute)})
	forever.Expires = time.Time{}
	forever = c.replace("kind", forever)
	sooner := c.insert("kind", store.Doc{ID: "sooner", Data: []byte(`1`), Keys: []string{"k"}, Expires: c.in(time.Hour)})
	sooner.Expires = c.in(time.Minute)
	goes := c.replace("kind", sooner)

	c.clock.Advance(time.Minute)
	c.wantDoc("kind", stays)
	c.wantDoc("kind", longer)
	c.wantDoc("kind", forever)
	c.wantGone("kind", "goes")
	c.wantGone("kind", "sooner")
	_, err := c.GetUnique(c.Context(), "kind", "ug")
	c.wantErr("GetUnique of an expired document", err, store.ErrNotFound)
	c.wantIDs("Find", c.find("kind", store.Query{}), "forever", "longer", "stays")
	c.wantIDs("Find downwards", c.find("kind", store.Query{Descending: true}), "stays", "longer", "forever")
	c.wantIDs("Find by key", c.find("kind", store.Query{Key: "k", Limit: 2}), "forever", "longer")
	c.wantIDs("Find by key downwards", c.find("kind", store.Query{Key: "k", Descending: true, Limit: 2}), "stays", "longer")
	c.wantCount("kind", "", 3)
	c.wantCount("kind", "k", 3)

	goes.Expires = c.in(time.Hour)
	_, err = c.Replace(c.Context(), "kind", goes)
	c.wantErr("Replace of an expired document", err, store.ErrNotFound)
	c.wantErr("Delete of an expired document", c.Delete(c.Context(), "kind", "goes"), store.ErrNotFound)
	_, err = c.Take(c.Context(), "kind", "sooner")
	c.wantErr("Take of an expired document", err, store.ErrNotFound)

	c.insert("kind", store.Doc{ID: "stillborn", Data: []byte(`1`), Expires: c.in(-time.Minute)})
	c.wantGone("kind", "stillborn")
	c.insert("kind", doc("stillborn"))
}

func expiryPrecision(c *check) {
	c.clock.Advance(123 * time.Millisecond)
	d := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Expires: c.in(5*time.Millisecond + 999*time.Microsecond)})
	c.wantDoc("kind", d) // which truncates to milliseconds
	c.clock.Advance(4*time.Millisecond + 999*time.Microsecond)
	c.wantDoc("kind", d)
	c.clock.Advance(time.Microsecond)
	c.wantGone("kind", "1")
}

func expiredIsFree(c *check) {
	old := func(id string, unique ...string) {
		c.insert("kind", store.Doc{ID: id, Data: []byte(`"old"`), Unique: unique, Keys: []string{"k"}, Expires: c.in(time.Second)})
	}
	old("id", "u1")
	old("key", "u2", "u3")
	old("byReplace", "u4")
	old("both", "u5")
	old("both2", "u6")
	mover := c.insert("kind", store.Doc{ID: "mover", Data: []byte(`1`), Unique: []string{"m"}})
	c.clock.Advance(time.Second)

	c.wantDoc("kind", c.insert("kind", store.Doc{ID: "id", Data: []byte(`"new"`)}))
	c.wantDoc("kind", c.insert("kind", store.Doc{ID: "new", Data: []byte(`"new"`), Unique: []string{"u1", "u2"}}))
	c.wantGone("kind", "key")
	c.wantDoc("kind", c.insert("kind", store.Doc{ID: "new2", Data: []byte(`"new"`), Unique: []string{"u3"}}))
	mover.Unique = []string{"u4"}
	c.wantDoc("kind", c.replace("kind", mover))
	c.wantDoc("kind", c.insert("kind", store.Doc{ID: "both", Data: []byte(`"new"`), Unique: []string{"u6", "u5"}}))
	c.wantCount("kind", "k", 0)
	c.wantCount("kind", "", 5)

	// What was swept away must not take the keys of the living along.
	if _, err := c.Sweep(c.Context()); err != nil {
		c.Fatal(err)
	}
	for key, id := range map[string]string{"u1": "new", "u2": "new", "u3": "new2", "u4": "mover", "u5": "both", "u6": "both"} {
		if d, err := c.GetUnique(c.Context(), "kind", key); err != nil || d.ID != id {
			c.Errorf("GetUnique %s: got %q, %v; want %q", key, d.ID, err, id)
		}
	}
}

func sweep(c *check) {
	const n = 250 // more than an engine may want to remove at once
	together(25, func(i int) {
		for j := i; j < n; j += 25 {
			d := store.Doc{ID: fmt.Sprint(j), Data: []byte(`1`), Unique: []string{fmt.Sprint("u", j)}, Keys: []string{"k"}, Expires: c.in(time.Minute)}
			if _, err := c.Insert(c.Context(), fmt.Sprint("kind", j%2), d); err != nil {
				c.Error(err)
			}
		}
	})
	stays := c.insert("kind0", store.Doc{ID: "stays", Data: []byte(`1`), Unique: []string{"u"}, Keys: []string{"k"}})
	later := c.insert("kind1", store.Doc{ID: "later", Data: []byte(`1`), Keys: []string{"k"}, Expires: c.in(time.Hour)})
	for _, want := range []int{0, n, 0} {
		got, err := c.Sweep(c.Context())
		if err != nil || got != want {
			c.Errorf("Sweep: got %d, %v; want %d", got, err, want)
		}
		c.clock.Advance(time.Minute)
	}
	c.wantDoc("kind0", stays)
	c.wantDoc("kind1", later)
	c.wantCount("kind0", "", 1)
	c.wantCount("kind1", "k", 1)
}

func invalid(c *check) {
	ctx := c.Context()
	longest := strings.Repeat("x", store.MaxKey)
	bad := map[string]string{
		"empty":          "",
		"too long":       longest + "x",
		"not UTF-8":      "a\xffb",
		"half a rune":    "\xe2\x82",
		"a surrogate":    "\xed\xa0\x80",
		"too long runes": strings.Repeat("é", store.MaxKey/2) + "é",
	}
	good := c.insert(longest, store.Doc{ID: longest, Data: []byte(`1`), Unique: []string{longest}, Keys: []string{longest}})
	c.wantDoc(longest, good)
	_, taken := c.Insert(ctx, longest, store.Doc{ID: "other", Data: []byte(`1`), Unique: []string{longest}})
	c.wantErr("Insert of a taken key of the greatest length", taken, store.ErrExists)

	for name, s := range bad {
		docs := map[string]store.Doc{
			"id":          {ID: s, Version: good.Version, Data: []byte(`1`)},
			"unique key":  {ID: longest, Version: good.Version, Data: []byte(`1`), Unique: []string{"fine", s}},
			"look-up key": {ID: longest, Version: good.Version, Data: []byte(`1`), Keys: []string{"fine", s}},
		}
		for field, d := range docs {
			_, err := c.Replace(ctx, longest, d)
			c.wantErr(fmt.Sprintf("Replace, %s %s", field, name), err, store.ErrInvalid)
			if d.ID != "" && d.ID == longest {
				d.ID = "new"
			}
			_, err = c.Insert(ctx, longest, d)
			c.wantErr(fmt.Sprintf("Insert, %s %s", field, name), err, store.ErrInvalid)
		}
		for field, args := range map[string][2]string{"kind": {s, "1"}, "id or key": {"kind", s}} {
			calls := map[string]func(kind, id string) error{
				"Get":       func(kind, id string) error { _, err := c.Get(ctx, kind, id); return err },
				"GetUnique": func(kind, id string) error { _, err := c.GetUnique(ctx, kind, id); return err },
				"Delete":    func(kind, id string) error { return c.Delete(ctx, kind, id) },
				"Take":      func(kind, id string) error { _, err := c.Take(ctx, kind, id); return err },
				"Insert":    func(kind, id string) error { _, err := c.Insert(ctx, kind, doc(id)); return err },
				"Replace":   func(kind, id string) error { _, err := c.Replace(ctx, kind, doc(id)); return err },
			}
			if args[1] != "" { // an empty one has a meaning for these
				calls["Find"] = func(kind, key string) error { _, err := c.Find(ctx, kind, store.Query{Key: key}); return err }
				calls["Find after"] = func(kind, id string) error { _, err := c.Find(ctx, kind, store.Query{After: id}); return err }
				calls["Count"] = func(kind, key string) error { _, err := c.Count(ctx, kind, key); return err }
			}
			for call, f := range calls {
				c.wantErr(fmt.Sprintf("%s, %s %s", call, field, name), f(args[0], args[1]), store.ErrInvalid)
			}
		}
	}
	tooMuch := store.Doc{ID: "big", Data: bytes.Repeat([]byte("1"), store.MaxData+1)}
	_, err := c.Insert(ctx, "kind", tooMuch)
	c.wantErr("Insert of too much data", err, store.ErrInvalid)
	_, err = c.Replace(ctx, "kind", tooMuch)
	c.wantErr("Replace with too much data", err, store.ErrInvalid)
	c.wantDoc(longest, good)
	c.wantCount(longest, "", 1)
}

// odd are strings that databases have been known to change, cut off or confuse.
var odd = []string{
	"a", "A", "b", "a ", " a", "a  ", "a\t", "a\n", "a\x00", "a\x00b", "\x00", "\x00\x00", "\x01", "\x7f",
	"'", "''", `"`, "`", `\`, `\\`, `\'`, "%", "a%", "_", "a_", "*", "?", "?1", ":a", "@a", "$a", "$", "$gt", "a.b", ".", "{}", `{"$ne":""}`, "[", "]", "--", "/*", ";", "a;b",
	"NULL", "null", "0", "00", "1", "1.0", "1e0", "+1", "-1", "0x1", "true", "9223372036854775808",
	"é", "e\u0301", "É", "ß", "ss", "ẞ", "ı", "I", "i", "İ", "ﬁ", "fi", "Å", "\u212b", "Ω", "\u2126",
	"\u00a0", "\u200b", "a\u200b", "\u200d", "\u202ea", "\ufeff", "\ufeffa", "\ufffd", "\uffff", "\U0010ffff", "\u2028",
	"😀", "👩‍👩‍👧", "🇩🇪", "日本", "\ue000", "\U00010000", "ab", "a/b", "../a", "<a>", "&amp;", "a&b",
}

func oddStrings(c *check) {
	docs := make([]store.Doc, len(odd))
	together(len(odd), func(i int) {
		d := store.Doc{ID: odd[i], Data: fmt.Appendf(nil, "%d", i), Unique: []string{odd[i]}, Keys: []string{odd[i]}}
		var err error
		if d.Version, err = c.Insert(c.Context(), "kind", d); err != nil {
			c.Errorf("Insert %q: %v", d.ID, err)
		}
		docs[i] = d
	})
	for _, d := range docs {
		c.wantDoc("kind", d)
		c.wantIDs(fmt.Sprintf("Find %q", d.ID), c.find("kind", store.Query{Key: d.ID}), d.ID)
		c.wantCount("kind", d.ID, 1)
	}
	sorted := slices.Sorted(slices.Values(odd)) // bytewise
	c.wantIDs("Find", c.find("kind", store.Query{Limit: 1000}), sorted...)
	for i, id := range sorted {
		c.wantIDs(fmt.Sprintf("Find after %q", id), c.find("kind", store.Query{After: id, Limit: 1}), sorted[i+1:min(i+2, len(sorted))]...)
	}
	for i, d := range docs {
		if i%2 == 0 {
			c.delete("kind", d.ID)
		}
	}
	for i, d := range docs {
		if i%2 == 1 {
			c.wantDoc("kind", d)
			continue
		}
		c.wantGone("kind", d.ID)
	}
	for i, kind := range odd {
		c.insert(kind, store.Doc{ID: "1", Data: fmt.Appendf(nil, "%d", i)})
	}
	for i, kind := range odd {
		if d, err := c.Get(c.Context(), kind, "1"); err != nil || string(d.Data) != fmt.Sprint(i) {
			c.Errorf("Get from kind %q: got %s, %v; want %d", kind, d.Data, err, i)
		}
	}
}

func largeData(c *check) {
	for _, size := range []int{4095, 4096, 4097, 1 << 20, 3<<20 + 1, store.MaxData} {
		d := c.insert("kind", store.Doc{ID: fmt.Sprint(size), Data: text(size, 'a'), Unique: []string{fmt.Sprint(size)}})
		got, err := c.Get(c.Context(), "kind", d.ID)
		if err != nil || !bytes.Equal(got.Data, d.Data) {
			c.Errorf("Get of %d bytes: got %d, %v", size, len(got.Data), err)
		}
		d.Data = text(size-1, 'b')
		c.replace("kind", d)
		got, err = c.Take(c.Context(), "kind", d.ID)
		if err != nil || !bytes.Equal(got.Data, d.Data) {
			c.Errorf("Take of %d bytes: got %d, %v", size-1, len(got.Data), err)
		}
	}
}

// text is a JSON string of n bytes.
func text(n int, letter byte) []byte {
	data := bytes.Repeat([]byte{letter}, n)
	data[0], data[n-1] = '"', '"'
	return data
}

func exactData(c *check) {
	for i, data := range []string{
		`null`, `0`, `""`, `[]`, `{}`, "  {\n\t\"b\" : 1,\r\n \"a\" : 2 }  ",
		`{"a":1,"a":2}`, `{"n":9007199254740993,"f":1.10,"e":1E+2,"z":-0}`, `{"s":"\u0000\u00e9é\/\ud83d\ude00😀"}`,
		`{"$set":1,"a.b":2,"":3,"_id":4}`, `"2026-01-02T03:04:05.678901234Z"`,
	} {
		d := c.insert("kind", store.Doc{ID: fmt.Sprint(i), Data: []byte(data)})
		c.wantDoc("kind", d)
		got, err := c.Get(c.Context(), "kind", d.ID)
		if err != nil {
			c.Fatal(err)
		}
		clear(got.Data)
		clear(d.Data) // neither of them is the engine's own
		d.Data = []byte(data)
		c.wantDoc("kind", d)
	}
}

func cancelledContext(c *check) {
	d := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}, Keys: []string{"k"}})
	expired := c.insert("kind", store.Doc{ID: "expired", Data: []byte(`1`), Expires: c.in(time.Second)})
	c.clock.Advance(time.Second)
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	for name, err := range allCalls(ctx, c.Engine, d) {
		c.wantErr(name+" with a cancelled context", err, context.Canceled)
	}
	c.wantDoc("kind", d)
	c.wantCount("kind", "", 1)
	if n, err := c.Sweep(c.Context()); n != 1 || err != nil {
		c.Errorf("Sweep: got %d, %v; want %q still to be there", n, err, expired.ID)
	}
}

// closed closes the engine, and so comes last for it.
func closed(c *check) {
	d := c.insert("kind", store.Doc{ID: "1", Data: []byte(`1`), Unique: []string{"u"}, Keys: []string{"k"}})
	if err := c.Close(); err != nil {
		c.Fatalf("Close: %v", err)
	}
	for name, err := range allCalls(c.Context(), c.Engine, d) {
		if err == nil {
			c.Errorf("%s after Close succeeds", name)
		}
	}
	if err := c.Close(); err != nil {
		c.Errorf("second Close: %v", err)
	}
}

// allCalls calls every method that takes a context, with d to read and write.
func allCalls(ctx context.Context, e store.Engine, d store.Doc) map[string]error {
	errs := make(map[string]error)
	_, errs["Get"] = e.Get(ctx, "kind", d.ID)
	_, errs["GetUnique"] = e.GetUnique(ctx, "kind", d.Unique[0])
	_, errs["Find"] = e.Find(ctx, "kind", store.Query{Key: d.Keys[0]})
	_, errs["Count"] = e.Count(ctx, "kind", d.Keys[0])
	_, errs["Insert"] = e.Insert(ctx, "kind", doc("new"))
	_, errs["Replace"] = e.Replace(ctx, "kind", d)
	errs["Delete"] = e.Delete(ctx, "kind", d.ID)
	_, errs["Take"] = e.Take(ctx, "kind", d.ID)
	_, errs["Sweep"] = e.Sweep(ctx)
	errs["Ping"] = e.Ping(ctx)
	return errs
}
