package mongo

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/store"
)

func mustEncode(t testing.TB, doc store.Doc) bson.Raw {
	t.Helper()
	raw, err := encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// extended is the form in which MongoDB's tools show a document.
func extended(t *testing.T, raw bson.Raw) string {
	t.Helper()
	text, err := bson.MarshalExtJSON(raw, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocumentsAreNatural(t *testing.T) {
	doc := store.Doc{
		ID: "c0c1914a", Version: 7,
		Data:    []byte(`{"_id":"c0c1914a","uri":"https://example.org/users/c0c1914a","name":"Ada \u003cA\u003e","merged":[],"identities":{"github":{"id":"583231","n":3,"big":5000000000,"f":1.5,"t":true,"none":null}}}`),
		Unique:  []string{"github/583231"},
		Expires: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
	}
	want := `{"_id":"c0c1914a","uri":"https://example.org/users/c0c1914a","name":"Ada <A>","merged":[],"identities":{"github":{"id":"583231","n":3,"big":5000000000,"f":1.5,"t":true,"none":null}},` +
		`"_meta":{"v":7,"u":["github/583231"],"e":{"$date":"2026-01-02T03:04:05.678Z"},"i":0}}`
	if diff := cmp.Diff(want, extended(t, mustEncode(t, doc))); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// naturally tells in which of the two forms a document is stored.
func naturally(raw bson.Raw) bool {
	_, err := raw.LookupErr(fieldJSON)
	return err != nil
}

func wantBack(t testing.TB, doc store.Doc, raw bson.Raw) {
	t.Helper()
	got, err := decode(raw)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	if !bytes.Equal(got.Data, doc.Data) {
		t.Errorf("decoded: got %d bytes %.500q, want %d bytes %.500q", len(got.Data), got.Data, len(doc.Data), doc.Data)
	}
	got.Data, doc.Data = nil, nil
	if diff := cmp.Diff(doc, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if err := raw.Validate(); err != nil {
		t.Errorf("no valid BSON: %v", err)
	}
}

func TestFormOfDocuments(t *testing.T) {
	many := make([]string, 30)
	for i := range many {
		many[i] = strconv.Quote(strconv.Itoa(i)) + ":0"
	}
	for data, natural := range map[string]bool{
		`{}`:                     true,
		`{"a":1,"_id":"1"}`:      true,
		`{"_id":"1"}`:            true,
		`{"b":1,"a":{"c":[{}]}}`: true,
		`{"a":-1,"b":2147483648,"c":-9223372036854775808,"d":0.1,"e":1e+100}`: true,
		`{"a":"\u0000\u2028\"\\é😀"}`:                                          true,
		`{` + strings.Join(many, ",") + `}`:                                   true,
		`{` + strings.Join(many, ",") + `,"7":0}`:                             false,
		`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`:     true,
		`{"a":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`:     false,

		``: false, `null`: false, `[]`: false, `"a"`: false, `1`: false, `{`: false, `{}x`: false, `{"a"}`: false, `{"a":}`: false,
		`{ }`: false, "{}\n": false, `{"a" :1}`: false, `{"a":1,}`: false,
		`{"_id":"2"}`: false, `{"_id":1}`: false, `{"_id":"1","_id":"1"}`: false,
		`{"a":1,"a":1}`: false, `{"a":{"b":1,"b":2}}`: false,
		`{"_meta":{}}`: false, `{"_json":"x"}`: false,
		`{"$set":{}}`: false, `{"a":{"$ne":1}}`: false, `{"a.b":1}`: false, `{"a":{"b.c":1}}`: false, `{"":1}`: false, `{"a\u0000":1}`: false,
		`{"a":9223372036854775808}`: false, `{"a":1.0}`: false, `{"a":-0}`: false, `{"a":1E5}`: false, `{"a":+1}`: false, `{"a":01}`: false,
		`{"a":NaN}`: false, `{"a":1e999}`: false, `{"a":9007199254740993.0}`: false,
		`{"a":"\u00e9"}`: false, `{"a":"\/"}`: false, `{"a":"<"}`: false, `{"a":"\ud800"}`: false, "{\"a\":\"\xff\"}": false, "{\"a\":\"\n\"}": false,
		"\x00\xff": false,
	} {
		doc := store.Doc{ID: "1", Version: 1, Data: []byte(data)}
		raw := mustEncode(t, doc)
		wantBack(t, doc, raw)
		if got := naturally(raw); got != natural {
			t.Errorf("%.60q is stored as %.200s", data, extended(t, raw))
		}
	}
}

// What takes seven times its space in BSON must still be stored, as text.
func TestLargeDocuments(t *testing.T) {
	numbers := `{"a":[` + strings.Repeat("1,", store.MaxData/2-10) + `1]}`
	for _, data := range []string{numbers, `{"a":[` + strings.Repeat("[],", 300_000) + `[]]}`, `"` + strings.Repeat("x", store.MaxData-2) + `"`} {
		doc := store.Doc{ID: "1", Version: 1, Data: []byte(data)}
		raw := mustEncode(t, doc)
		wantBack(t, doc, raw)
		if len(raw) > maxDocument {
			t.Errorf("%d bytes of JSON make a document of %d", len(data), len(raw))
		}
	}
}

func TestOrderOfFields(t *testing.T) {
	for _, data := range []string{`{"_id":"1","b":1,"a":2}`, `{"b":1,"_id":"1","a":2}`, `{"b":1,"a":2,"_id":"1"}`, `{"b":1,"a":2}`} {
		doc := store.Doc{ID: "1", Version: 1, Data: []byte(data)}
		raw := mustEncode(t, doc)
		if !naturally(raw) || strings.Count(extended(t, raw), `"_id"`) != 1 {
			t.Errorf("%s is stored as %s", data, extended(t, raw))
		}
		wantBack(t, doc, raw)
	}
}

// An operator has changed a document in a shell, with the types that it gives to values.
func TestEditedDocuments(t *testing.T) {
	id, err := bson.ObjectIDFromHex("0123456789abcdef01234567")
	if err != nil {
		t.Fatal(err)
	}
	fields := bson.D{
		{Key: "_id", Value: "1"}, {Key: "n", Value: 5.0}, {Key: "f", Value: 5.5}, {Key: "when", Value: bson.DateTime(1767323045678)},
		{Key: "o", Value: id}, {Key: "a.b", Value: 1},
		{Key: "_meta", Value: bson.D{{Key: "v", Value: 7.0}, {Key: "i", Value: 40}}},
	}
	raw, err := bson.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := decode(raw)
	want := `{"n":5,"f":5.5,"when":"2026-01-02T03:04:05.678Z","o":"0123456789abcdef01234567","a.b":1,"_id":"1"}`
	if err != nil || doc.Version != 7 || string(doc.Data) != want {
		t.Errorf("got version %d, %s, %v; want %s", doc.Version, doc.Data, err, want)
	}
	for name, spoilt := range map[string]bson.D{
		"keys":   {{Key: "_id", Value: "1"}, {Key: "_meta", Value: bson.D{{Key: "v", Value: 1}, {Key: "u", Value: "text"}}}},
		"expiry": {{Key: "_id", Value: "1"}, {Key: "_meta", Value: bson.D{{Key: "v", Value: 1}, {Key: "e", Value: "soon"}}}},
		"type":   {{Key: "_id", Value: "1"}, {Key: "r", Value: bson.Regex{Pattern: "x"}}, {Key: "_meta", Value: bson.D{{Key: "v", Value: 1}}}},
		"text":   {{Key: "_id", Value: "1"}, {Key: "_json", Value: 1}, {Key: "_meta", Value: bson.D{{Key: "v", Value: 1}}}},
	} {
		raw, err := bson.Marshal(spoilt)
		if err != nil {
			t.Fatal(err)
		}
		if doc, err := decode(raw); err == nil || unavailable(err) {
			t.Errorf("%s: got %+v, %v; want an error that is about the document", name, doc, err)
		}
	}
	for name, foreign := range map[string]bson.D{
		"no meta":    {{Key: "_id", Value: "1"}, {Key: "name", Value: "Ada"}},
		"no version": {{Key: "_id", Value: "1"}, {Key: "_meta", Value: bson.D{}}},
		"own _meta":  {{Key: "_id", Value: "1"}, {Key: "_meta", Value: "text"}},
		"version":    {{Key: "_id", Value: "1"}, {Key: "_meta", Value: bson.D{{Key: "v", Value: "1"}}}},
		"id":         {{Key: "_id", Value: 1}, {Key: "_meta", Value: bson.D{{Key: "v", Value: 1}}}},
	} {
		raw, err := bson.Marshal(foreign)
		if err != nil {
			t.Fatal(err)
		}
		if doc, err := decode(raw); err != errForeign {
			t.Errorf("%s: got %+v, %v; want %v", name, doc, err, errForeign)
		}
	}
}

// Whatever the data and the id are, they come back, and what is stored naturally is JSON.
func FuzzDocument(f *testing.F) {
	for _, data := range []string{`{"a":[1,2.5,"x",null,true,{"b":{}}],"_id":"1"}`, `{"_id":"1"}`, `{"a":"\u2028\u003c"}`, `{"$a":-0}`, `[`, "{\"\xff\":1}"} {
		f.Add("1", []byte(data))
	}
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		if store.CheckKeys(id) != nil {
			return
		}
		doc := store.Doc{ID: id, Version: 1, Data: data}
		raw := mustEncode(t, doc)
		got, err := decode(raw)
		if err != nil || got.ID != id || !bytes.Equal(got.Data, data) {
			t.Fatalf("%q, %q: got %q, %q, %v", id, data, got.ID, got.Data, err)
		}
		if naturally(raw) && !json.Valid(data) {
			t.Errorf("%q is no JSON and was read as such", data)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	doc := store.Doc{ID: "c0c1914a", Version: 1, Data: []byte(`{"_id":"c0c1914a","uri":"https://example.org/users/c0c1914a","name":"Ada","merged":[],"identities":{"github":{"id":"583231","uri":"https://github.com/ada","name":"Ada L.","username":"ada"}},"created":"2026-01-02T03:04:05Z"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if raw := mustEncode(b, doc); !naturally(raw) {
			b.Fatal("is stored as text")
		}
	}
}
