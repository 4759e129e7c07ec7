package jsonedit

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const file = `[
  { "id": "one", "unknown": [1,  2], "options": {} },
  {
    "id": "two",
    "note": "a \" quote, [brackets] {braces}",
    "options": {
      "users": [
        {
          "username": "ada"
        },
        {
          "username": "bob"
        }
      ]
    }
  }
]
`

func TestSet(t *testing.T) {
	user := map[string]string{"username": "<eve>"}
	for _, tc := range []struct {
		name, data string
		value      any
		path       []any
		want       string
	}{
		{"replace", `[ 1 , 2 ,3]`, "x", []any{1}, `[ 1 , "x" ,3]`},
		{"replace the whole", " 1\n", 2, nil, " 2\n"},
		{"first of an empty list", `[]`, 1, []any{0}, "[\n  1\n]"},
		{"first of an empty object", "{\n\t\"a\": {}\n}", 1, []any{"a", "b"}, "{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}"},
		{"in line", `{"a": 1, "b": [1, 2]}`, user, []any{"b", 2}, `{"a": 1, "b": [1, 2, {"username":"<eve>"}]}`},
		{"member in line", `{"a": 1}`, true, []any{"b"}, `{"a": 1, "b": true}`},
		{"own lines", "[\n    {\n        \"a\": 1\n    }\n]\n", user, []any{1}, "[\n    {\n        \"a\": 1\n    },\n    {\n        \"username\": \"<eve>\"\n    }\n]\n"},
		{"lines of Windows", "[\r\n  1\r\n]\r\n", user, []any{1}, "[\r\n  1,\r\n  {\r\n    \"username\": \"<eve>\"\r\n  }\r\n]\r\n"},
		{"the last of two members", `{"a":1,"a":2}`, 3, []any{"a"}, `{"a":1,"a":3}`},
		{"odd names", `{"a\"b\\":1}`, 2, []any{`a"b\`}, `{"a\"b\\":2}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Set([]byte(tc.data), tc.value, tc.path...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		path       []any
		want       string
	}{
		{"first", `[ 1 , 2 ,3]`, []any{0}, `[ 2 ,3]`},
		{"middle", "[\n  1,\n  2,\n  3\n]", []any{1}, "[\n  1,\n  3\n]"},
		{"last", "[\n  1,\n  2\n]", []any{1}, "[\n  1\n]"},
		{"only", "{\n  \"a\": 1\n}", []any{"a"}, "{}"},
		{"member", `{"a": 1, "b": 2}`, []any{"b"}, `{"a": 1}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Remove([]byte(tc.data), tc.path...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestThereAndBack(t *testing.T) {
	for _, path := range [][]any{{2}, {0, "options", "users"}, {1, "options", "users", 2}, {1, "disabled"}} {
		added, err := Set([]byte(file), "new", path...)
		if err != nil {
			t.Fatalf("%v: %v", path, err)
		}
		if text, err := Get(added, path...); err != nil || string(text) != `"new"` {
			t.Errorf("%v: got %s, %v", path, text, err)
		}
		back, err := Remove(added, path...)
		if err != nil {
			t.Fatalf("%v: %v", path, err)
		}
		if diff := cmp.Diff(file, string(back)); diff != "" {
			t.Errorf("%v: want -, got +:\n%s", path, diff)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		data string
		path []any
		want error
	}{
		{`[1]`, []any{2}, ErrNotFound},
		{`[1]`, []any{-1}, ErrNotFound},
		{`[1]`, []any{"a"}, nil},
		{`{"a":1}`, []any{0}, ErrNotFound},
		{`{"a":1}`, []any{"b", "c"}, ErrNotFound},
		{`{"a":1}`, []any{"a", "c"}, nil},
		{`{"a":1`, []any{"a"}, nil},
	} {
		_, err := Set([]byte(tc.data), 1, tc.path...)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s %v: got %v, want %v", tc.data, tc.path, err, tc.want)
		}
	}
}

// FuzzEdit: what is added can be read and taken out again, and all else means the
// same as before.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(file), "name", 1)
	f.Add([]byte(`{"a\\":{"b":[]}}`), "a\\", 0)
	f.Add([]byte(" [ ] "), "", 0)
	f.Fuzz(func(t *testing.T, data []byte, name string, item int) {
		var before any
		if json.Unmarshal(data, &before) != nil {
			return
		}
		var path []any
		switch v := before.(type) {
		case map[string]any:
			if _, there := v[name]; there || !json.Valid(data) {
				return
			}
			path = []any{name}
		case []any:
			path = []any{len(v)}
		default:
			return
		}
		added, err := Set(data, map[string]any{"n": item}, path...)
		if err != nil {
			t.Fatal(err)
		}
		text, err := Get(added, path...)
		if name != string([]rune(name)) {
			return // invalid UTF-8 is replaced on its way
		}
		if err != nil || !json.Valid(text) {
			t.Fatalf("got %s, %v in\n%s", text, err, added)
		}
		removed, err := Remove(added, path...)
		if err != nil {
			t.Fatal(err)
		}
		var after any
		if err := json.Unmarshal(removed, &after); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	})
}
