package legacy

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/identity"
)

func raw(t *testing.T, doc any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	oid, err := bson.ObjectIDFromHex("5b8d1e2f9c3a4d0011223344")
	if err != nil {
		t.Fatal(err)
	}
	one := func(id any) bson.M { return bson.M{"p": bson.M{"id": id}} }
	want := func(id string) map[string]identity.Identity { return map[string]identity.Identity{"p": {ID: id}} }
	for _, tc := range []struct {
		name     string
		doc      bson.M
		want     identity.Person
		unusable bool
		left     int
	}{
		{name: "as the server writes it", doc: bson.M{
			"_id": "c0c1914a-0000-4000-8000-000000000001", "uri": "https://example.org/users/c0c1914a-0000-4000-8000-000000000001", "name": "Ada",
			"identities": bson.M{"github": bson.M{"id": "583231", "uri": "https://github.com/ada", "name": "Ada L.", "username": "ada", "_json": bson.M{"id": 583231, "email": "ada@example.org"}, "provider": "github"}},
			"merged":     bson.A{"https://example.org/users/2"}, "__v": int32(0),
		}, want: identity.Person{
			ID: "c0c1914a-0000-4000-8000-000000000001", URI: "https://example.org/users/c0c1914a-0000-4000-8000-000000000001", Name: "Ada",
			Identities: map[string]identity.Identity{"github": {ID: "583231", URI: "https://github.com/ada", Name: "Ada L.", Username: "ada"}},
			Merged:     []string{"https://example.org/users/2"},
		}},
		{name: "hardly anything", doc: bson.M{"_id": "a", "identities": bson.M{}}, want: identity.Person{ID: "a"}},
		{name: "of another program", doc: bson.M{"_id": "a", "name": "Ada", "email": "ada@example.org"}, want: identity.Person{ID: "a"}, unusable: true},
		{name: "nulls", doc: bson.M{"_id": "a", "uri": nil, "name": nil, "identities": bson.M{"p": nil, "q": bson.Undefined{}}, "merged": bson.A{nil}}, want: identity.Person{ID: "a"}},
		{name: "ObjectId", doc: bson.M{"_id": oid, "identities": bson.M{}}, want: identity.Person{ID: "5b8d1e2f9c3a4d0011223344", Created: oid.Timestamp().UTC()}},
		{name: "other _id", doc: bson.M{"_id": int32(7), "name": "x"}, want: identity.Person{ID: `{"$numberInt":"7"}`}, unusable: true},
		{name: "document as _id", doc: bson.M{"_id": bson.M{"$gt": ""}}, want: identity.Person{ID: `{"$gt": ""}`}, unusable: true},
		{name: "long _id", doc: bson.M{"_id": bson.M{"x": strings.Repeat("é", 1000)}}, want: identity.Person{ID: `{"x": "` + strings.Repeat("é", 96)}, unusable: true},
		{name: "huge", doc: bson.M{"_id": "a", "identities": one("1"), "merged": bson.A{strings.Repeat("x", 1<<20)}}, want: identity.Person{ID: `"a"`}, unusable: true},

		{name: "int32", doc: bson.M{"_id": "a", "identities": one(int32(583231))}, want: identity.Person{ID: "a", Identities: want("583231")}},
		{name: "int64", doc: bson.M{"_id": "a", "identities": one(int64(9007199254740993))}, want: identity.Person{ID: "a", Identities: want("9007199254740993")}},
		{name: "double", doc: bson.M{"_id": "a", "identities": one(float64(12345678901))}, want: identity.Person{ID: "a", Identities: want("12345678901")}},
		{name: "fraction", doc: bson.M{"_id": "a", "identities": one(1.5)}, want: identity.Person{ID: "a"}, left: 1},
		{name: "double that may be another number", doc: bson.M{"_id": "a", "identities": one(float64(1 << 53))}, want: identity.Person{ID: "a"}, left: 1},
		{name: "infinite", doc: bson.M{"_id": "a", "identities": one(math.Inf(1))}, want: identity.Person{ID: "a"}, left: 1},
		{name: "no number", doc: bson.M{"_id": "a", "identities": one(math.NaN())}, want: identity.Person{ID: "a"}, left: 1},
		{name: "empty id", doc: bson.M{"_id": "a", "identities": one("")}, want: identity.Person{ID: "a"}, left: 1},
		{name: "id is an object", doc: bson.M{"_id": "a", "identities": one(bson.M{"$ne": nil})}, want: identity.Person{ID: "a"}, left: 1},
		{name: "no id", doc: bson.M{"_id": "a", "identities": bson.M{"p": bson.M{}, "q": bson.M{"id": "1"}}}, want: identity.Person{ID: "a", Identities: map[string]identity.Identity{"q": {ID: "1"}}}, left: 1},
		{name: "identity is a text", doc: bson.M{"_id": "a", "identities": bson.M{"p": "1"}}, want: identity.Person{ID: "a"}, left: 1},
		{name: "identities are a list", doc: bson.M{"_id": "a", "identities": bson.A{}}, want: identity.Person{ID: "a"}, left: 1},
		{name: "names are numbers", doc: bson.M{"_id": "a", "name": 1, "identities": bson.M{"p": bson.M{"id": "1", "name": 2, "username": true}}}, want: identity.Person{ID: "a", Identities: want("1")}, left: 3},

		{name: "dangerous URIs", doc: bson.M{"_id": "a", "uri": "javascript:alert(1)", "identities": bson.M{"p": bson.M{"id": "1", "uri": "data:text/html,x"}}, "merged": bson.A{"javascript:1", 5, "https://example.org/users/b"}},
			want: identity.Person{ID: "a", Identities: want("1"), Merged: []string{"https://example.org/users/b"}}, left: 4},
		{name: "merged is a text", doc: bson.M{"_id": "a", "identities": bson.M{}, "merged": "https://example.org/users/b"}, want: identity.Person{ID: "a"}, left: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := parse(raw(t, tc.doc))
			if diff := cmp.Diff(tc.want, p.Person); diff != "" {
				t.Error(diff)
			}
			if (p.unusable != "") != tc.unusable || len(p.left) != tc.left {
				t.Errorf("unusable: %q, left: %q", p.unusable, p.left)
			}
		})
	}
}

func TestDates(t *testing.T) {
	day := time.Date(2019, 5, 6, 7, 8, 9, 123_000_000, time.UTC)
	for _, tc := range []struct {
		value any
		want  time.Time
	}{
		{"2019-05-06T07:08:09.123Z", day},
		{"2019-05-06T09:08:09.123+02:00", day},
		{"2019-05-06", day.Truncate(24 * time.Hour)},
		{day, day},
		{day.UnixMilli(), day},
		{float64(day.UnixMilli()), day},
		{nil, time.Time{}},
		{"yesterday", time.Time{}},
		{"", time.Time{}},
		{int64(math.MaxInt64), time.Time{}},
		{int64(0), time.Time{}},
		{math.NaN(), time.Time{}},
		{math.Inf(-1), time.Time{}},
		{true, time.Time{}},
		{bson.M{}, time.Time{}},
	} {
		var p person
		p.use(raw(t, bson.M{"_id": "a", "lastUsed": tc.value}))
		if !p.LastUsed.Equal(tc.want) || !p.Created.IsZero() {
			t.Errorf("%v: got %v, want %v", tc.value, p.LastUsed, tc.want)
		}
		if told := len(p.left) > 0; told != (tc.value != nil && tc.want.IsZero()) {
			t.Errorf("%v: left %q", tc.value, p.left)
		}
	}
}

// TestWithout: whatever the driver says, the password is not in it, however it was written.
func TestWithout(t *testing.T) {
	for _, tc := range []struct{ text, password string }{
		{"auth failed: u:p@ss/w:rd@host", "p@ss/w:rd"},
		{"auth failed: u:p%40ss%2Fw%3Ard@host", "p@ss/w:rd"},
		{"auth failed: u:a+b@host", "a b"},
		{"auth failed: u:a%20b@host", "a b"},
	} {
		if got := without(tc.text, tc.password); got != "auth failed: u:…@host" {
			t.Errorf("got %q", got)
		}
	}
	if got := without("nothing to hide", ""); got != "nothing to hide" {
		t.Errorf("got %q", got)
	}
}
