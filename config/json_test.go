package config

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestSyntax(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"fine", "[1]\n", ""},
		{"empty", " \n", "line 1, column 1: the file is empty; write [] for an empty list"},
		{"comma before the end", "[\n  {\"a\": 1,}\n]", `line 2, column 11: a comma stands before "}"; remove the comma`},
		{"comma missing", "[\n  {\"a\": 1}\n  {\"b\": 2}\n]", `line 3, column 3: a comma is missing before {; write the comma`},
		{"comment", "[\n  // here\n  {}\n]", "line 2, column 3: JSON has no comments; remove it"},
		{"single quotes", "[{'a': 1}]", `line 1, column 3: JSON has no single quotes; write "`},
		{"open text", "[\"ab\n\"]", `line 1, column 5: a text does not end on its line; close it with "`},
		{"ends early", "[\n  {\"a\": [1, 2]", "line 2, column 15: the file ends in the middle; close every quote, { and ["},
		{"more", "[]\n[]", "line 2, column 1: something stands after the end of the list; remove it"},
		{"word", "[nothing]", "line 1, column 3: is no JSON (invalid character 'o' in literal null (expecting 'u')); correct it"},
		{"columns are characters", "[\"äöü\" x]", "line 1, column 8: is no JSON (invalid character 'x' after array element); correct it"},
		{"not UTF-8", "[\"a\",\n \"\xff\"]", "line 2, column 3: is not UTF-8; save the file as UTF-8"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p, bad := checkSyntax([]byte(tc.text))
			if got := p.String(); got != tc.want || bad != (tc.want != "") {
				t.Errorf("got %s (%v), want %s", got, bad, tc.want)
			}
		})
	}
}

// FuzzPosition: what checkSyntax complains about is what encoding/json refuses, and a
// place leads back to the byte it came from.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "[", "[1,]", "[\n\n{\"ä\":\r\n'", "[]\n]", "\xff\n", "nul", "[\"a\nb\"]", "[1]\n\n\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, offset int) {
		if _, bad := checkSyntax(data); bad == (json.Valid(data) && utf8.Valid(data)) {
			t.Fatalf("complaint: %v, valid: %v", bad, json.Valid(data))
		}
		if offset < 0 || offset > len(data) || !utf8.Valid(data) || offset < len(data) && !utf8.RuneStart(data[offset]) {
			return
		}
		line, column := position(data, offset)
		// Walk there as a reader does: line by line, then character by character.
		at := 0
		for range line - 1 {
			i := bytes.IndexByte(data[at:], '\n')
			if i < 0 {
				t.Fatalf("line %d is behind the end", line)
			}
			at += i + 1
		}
		for range column - 1 {
			_, size := utf8.DecodeRune(data[at:])
			at += size
		}
		if at != offset {
			t.Errorf("line %d, column %d is byte %d, want %d", line, column, at, offset)
		}
	})
}

func TestDecode(t *testing.T) {
	type inner struct {
		URL   string   `json:"url"`
		Names []string `json:"names"`
	}
	type outer struct {
		Server  inner   `json:"server"`
		List    []inner `json:"list"`
		Timeout float64 `json:"timeout"`
		On      bool    `json:"on"`
		Maybe   *bool   `json:"maybe"`
		Hidden  string  `json:"-"`
	}
	tests := []struct {
		name, text string
		want       []string
	}{
		{"fine", `{"server": {"url": "x", "names": ["a"]}, "list": [{}, {"url": "y"}], "timeout": 1.5, "on": true, "maybe": false}`, nil},
		{"null is left out", `{"server": null, "list": null, "on": null}`, nil},
		{"nothing", ``, nil},
		{"misspelt", `{"server": {"URL": "x", "nmaes": []}, "server2": 1, "other": 2}`, []string{
			"options.server.URL: is not known here; did you mean url?",
			"options.server.nmaes: is not known here; did you mean names?",
			"options.server2: is not known here; did you mean server?",
			"options.other: is not known here; remove it (known: list, maybe, on, server, timeout)"}},
		{"types", `{"server": [], "list": {}, "timeout": "10", "on": "true", "maybe": 1}`, []string{
			"options.server: is a list; write an object: { … }",
			"options.list: is an object; write a list: [ … ]",
			"options.timeout: is a text; write a number, without quotes",
			"options.on: is a text; write true or false, without quotes",
			"options.maybe: is a number; write true or false, without quotes"}},
		{"types below", `{"server": {"url": 5}, "list": [{}, {"url": true}, 7, {"names": [1]}]}`, []string{
			`options.server.url: is a number; write a text in quotes: "…"`,
			`options.list (entry 2).url: is true; write a text in quotes: "…"`,
			"options.list (entry 3): is a number; write an object: { … }",
			`options.list (entry 4).names (entry 1): is a number; write a text in quotes: "…"`}},
		{"twice", `{"on": true, "on": false}`, []string{"options.on: is given twice; remove one of them"}},
		{"hidden", `{"-": "x", "Hidden": "y"}`, []string{
			"options.-: is not known here; remove it (known: list, maybe, on, server, timeout)",
			"options.Hidden: is not known here; remove it (known: list, maybe, on, server, timeout)"}},
		{"no object", `"secret"`, []string{"options: is a text; write an object: { … }"}},
		{"control characters", "{\"\\u001b[2J\": 1}", []string{`options.\u001b[2J: is not known here; remove it (known: list, maybe, on, server, timeout)`}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var o outer
			var got []string
			for _, p := range Decode(json.RawMessage(tc.text), "options", &o) {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[2Jb":                   `"a\u001b[2Jb"`,
		"a\u202eb":                    `"a\u202eb"`,
		strings.Repeat("ä", 90):       `"` + strings.Repeat("ä", 80) + `…"`,
		"\xff":                        `"�"`,
		"https://ada:pw@example.org/": `"https://…@example.org/"`,
		"ada:pw@example.org":          `"…@example.org"`,
	} {
		if got := QuoteURL(in); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
