package templates

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template/parse"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/net/html"
)

// promised are the texts that other rooms name by their ids, with what they fill in.
var promised = map[string][]string{
	"signed_in": nil, "signed_out": nil, "linked": {"Provider"}, "already_linked": {"Provider"},
	"name_changed": nil, "name_empty": nil, "name_too_long": nil, "name_control": nil,
	"disconnected": {"Provider"}, "disconnect_last": nil, "disconnect_unknown": nil,
	"merge_conflict": {"Providers"}, "merged": nil, "merge_expired": nil,
	"merge_undone": nil, "merge_undo_expired": nil, "merge_undo_impossible": nil,
	"session_removed": nil, "sessions_removed": nil, "session_unknown": nil,
	"account_deleted": nil, "delete_name_mismatch": nil,
	"credentials_refused": nil, "credentials_reason": {"Reason"},
	"username_missing": nil, "password_missing": nil,
	"provider_answer": {"Provider"}, "provider_refused": {"Provider"}, "provider_reason": {"Provider", "Reason"},
	"login_cancelled": {"Provider"}, "link_signed_out": {"Provider"}, "link_other_user": {"Name", "Provider"},
	"provider_unavailable": {"Provider"}, "browser_on": {"Browser", "System"},
}

// forms are all texts of a message.
func forms(m *i18n.Message) []string {
	return slices.DeleteFunc([]string{m.Zero, m.One, m.Two, m.Few, m.Many, m.Other}, func(s string) bool { return s == "" })
}

// placeholders are the names that a text is filled in with, sorted.
func placeholders(text string) []string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

func TestLanguagesAreComplete(t *testing.T) {
	s := newSet(t, Options{})
	if len(s.loaded.languages) < 2 {
		t.Fatalf("languages are %v, want English and German at least", s.Languages())
	}
	english := s.loaded.messages[fallback]
	for _, l := range s.loaded.languages {
		messages := s.loaded.messages[l.Tag]
		if got, want := len(readLocale(t, l.Tag)), len(messages); got != want {
			t.Errorf("%s.json has %d entries, of which %d are texts", l.Tag, got, want)
		}
		for id := range english {
			if messages[id] == nil {
				t.Errorf("%s.json: %s is missing", l.Tag, id)
			}
		}
		for id, m := range messages {
			if english[id] == nil {
				t.Errorf("%s.json: %s is not in %s.json", l.Tag, id, fallback)
				continue
			}
			for _, form := range forms(m) {
				if got, want := placeholders(form), placeholders(english[id].Other); !slices.Equal(got, want) {
					t.Errorf("%s.json: %s fills in %v, want %v", l.Tag, id, got, want)
				}
				if strings.Count(form, "{{") != len(placeholder.FindAllString(form, -1)) {
					t.Errorf("%s.json: %s has another placeholder than {{.Name}}", l.Tag, id)
				}
			}
		}
	}
}

func TestPromisedTexts(t *testing.T) {
	s := newSet(t, Options{})
	for id, args := range promised {
		m := s.loaded.messages[fallback][id]
		if m == nil {
			t.Errorf("there is no text %q", id)
			continue
		}
		if got := placeholders(m.Other); !slices.Equal(got, args) {
			t.Errorf("%s fills in %v, want %v", id, got, args)
		}
	}
	if got, want := s.Text("en", "credentials_refused", nil), "Could not verify credentials."; got != want {
		t.Errorf("credentials_refused is %q; clients look for %q", got, want)
	}
}

// TestTextsExist finds the ids that templates and other rooms use, and the texts
// that nobody does.
func TestTextsExist(t *testing.T) {
	s := newSet(t, Options{})
	english := s.loaded.messages[fallback]
	used := make(map[string]bool)
	literals := literalsInCode(t)
	for id := range promised {
		// Some are put together: name + "_missing".
		used[id] = slices.ContainsFunc(literals, func(s string) bool { return s == id || strings.HasPrefix(s, "_") && strings.HasSuffix(id, s) })
	}
	funcs := map[string]any{}
	for name := range (&binder{}).funcs() {
		funcs[name] = true
	}
	builtins := map[string]any{"and": true, "or": true, "not": true, "eq": true, "ne": true, "gt": true, "len": true, "index": true, "print": true}
	files, err := fs.Glob(embedded, "*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		trees, err := parse.Parse(name, string(text), "", "", funcs, builtins)
		if err != nil {
			t.Fatal(err)
		}
		for _, tree := range trees {
			for _, id := range calls.FindAllStringSubmatch(tree.Root.String(), -1) {
				used[id[1]] = true
				if english[id[1]] == nil {
					t.Errorf("%s: there is no text %q", name, id[1])
				}
			}
		}
	}
	for _, id := range idsInCode(t) {
		used[id] = true
		if english[id] == nil {
			t.Errorf("the web room uses the text %q, which there is not", id)
		}
	}
	for id := range english {
		// A whole id in the code is one that is chosen from a table.
		if used[id] || slices.Contains(literals, id) || id == "language_name" || id == "date" || strings.HasPrefix(id, "month_") || strings.HasPrefix(id, "error_") || strings.HasPrefix(id, "scope_") ||
			strings.HasPrefix(id, "mail_") || id == "sms_code" { // see mail_test.go
			continue
		}
		t.Errorf("nothing uses the text %q", id)
	}
	for i := range 12 {
		if english["month_"+strconv.Itoa(i+1)] == nil {
			t.Errorf("month %d has no name", i+1)
		}
	}
	for id := range english {
		code, ok := strings.CutPrefix(id, "error_")
		if code, title := strings.CutSuffix(code, "_title"); ok && title {
			for _, part := range []string{"_text", "_action"} {
				if english["error_"+code+part] == nil {
					t.Errorf("error %s has no%s", code, part)
				}
			}
		}
	}
}

var calls = regexp.MustCompile(`\bT "([^"]+)"`)

// idsInCode are the ids that the web room names as constants: in the ID of a
// templates.Message, and as second argument of its function note.
func idsInCode(t *testing.T) []string {
	t.Helper()
	var ids []string
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		id, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, file := range webFiles(t) {
		for n := range ast.Preorder(file) {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "note" && len(n.Args) > 1 {
					add(n.Args[1])
				}
			case *ast.KeyValueExpr:
				// Only messages have an ID that is a constant.
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "ID" {
					add(n.Value)
				}
			}
		}
	}
	return ids
}

// literalsInCode are all texts in quotes of the web room.
func literalsInCode(t *testing.T) []string {
	t.Helper()
	var literals []string
	for _, file := range webFiles(t) {
		for n := range ast.Preorder(file) {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				literals = append(literals, text)
			}
		}
	}
	return literals
}

// webFiles is the code of the web room, without its tests.
func webFiles(t *testing.T) []*ast.File {
	t.Helper()
	names, err := filepath.Glob("../web/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // which is reported by its own build
		}
		files = append(files, file)
	}
	return files
}

// TestNothingIsUntranslated looks for letters in templates that do not come from a text.
func TestNothingIsUntranslated(t *testing.T) {
	// What is the same in every language.
	same := regexp.MustCompile(`^(GET /\w+|PATCH|UTC|SMS|URI|applications\.json)$`)
	actions := regexp.MustCompile(`(?s){{.*?}}|</?noscript>`)
	letters := regexp.MustCompile(`\pL`)
	files, err := fs.Glob(embedded, "*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		z := html.NewTokenizer(strings.NewReader(actions.ReplaceAllString(string(text), "")))
		for {
			typ := z.Next()
			if typ == html.ErrorToken {
				break
			}
			tok := z.Token()
			if typ == html.StartTagToken && tok.Data == "style" { // of a mail
				z.Next()
				continue
			}
			var texts []string
			switch typ {
			case html.TextToken:
				texts = strings.Fields(tok.Data)
				texts = []string{strings.Join(texts, " ")}
			case html.StartTagToken, html.SelfClosingTagToken:
				for _, a := range tok.Attr {
					switch a.Key {
					case "alt", "title", "placeholder", "aria-label", "aria-description":
						texts = append(texts, a.Val)
					}
				}
			}
			for _, s := range texts {
				if letters.MatchString(s) && !same.MatchString(s) && !widths[s] {
					t.Errorf("%s: %q is not translated", name, s)
				}
			}
		}
	}
}

// widths are class names: each page defines one as a template of its own.
var widths = map[string]bool{"narrow": true, "wide": true}

func TestText(t *testing.T) {
	s := newSet(t, Options{})
	for _, tc := range []struct {
		lang, id string
		args     map[string]any
		want     string
	}{
		{"en", "sign_in", nil, "Sign in"},
		{"de", "sign_in", nil, "Anmelden"},
		{"xx", "sign_in", nil, "Sign in"},
		{"", "sign_in", nil, "Sign in"},
		{"en", "no_such_text", nil, "no_such_text"},
		{"en", "linked", map[string]any{"Provider": "GitHub"}, "GitHub is now connected to your account."},
		{"en", "linked", nil, "… is now connected to your account."},
		{"en", "linked", map[string]any{"Provider": "{{.Title}}"}, "{{.Title}} is now connected to your account."},
		{"en", "wait_seconds", map[string]any{"Seconds": 1}, "Please wait 1 second."},
		{"en", "wait_seconds", map[string]any{"Seconds": 2}, "Please wait 2 seconds."},
		{"de", "wait_seconds", map[string]any{"Seconds": 1.0}, "Bitte warten Sie 1 Sekunde."},
		{"de", "wait_seconds", map[string]any{"Seconds": 30.0}, "Bitte warten Sie 30 Sekunden."},
	} {
		if got := s.Text(tc.lang, tc.id, tc.args); got != tc.want {
			t.Errorf("Text(%q, %q, %v) = %q, want %q", tc.lang, tc.id, tc.args, got, tc.want)
		}
	}
}

func TestLanguage(t *testing.T) {
	s := newSet(t, Options{})
	long := "de," + strings.Repeat("fr;q=0.1,", 1000)
	for _, tc := range []struct{ choice, header, want string }{
		{"", "", "en"},
		{"de", "en", "de"},
		{"en", "de", "en"},
		{"xx", "de", "de"},
		{"", "de-AT,de;q=0.9,en;q=0.8", "de"},
		{"", "fr,de;q=0.5", "de"},
		{"", "fr", "en"},
		{"", "en-US,de;q=0.9", "en"},
		{"", "*", "en"},
		{"", "\x00;;;q=,,", "en"},
		{"", long, "de"},
		{strings.Repeat("x", 10_000), "de", "de"},
	} {
		if got := s.Language(tc.choice, tc.header); got != tc.want {
			t.Errorf("Language(%.20q, %.20q) = %q, want %q", tc.choice, tc.header, got, tc.want)
		}
	}
}

func TestLanguageCacheStaysSmall(t *testing.T) {
	s := newSet(t, Options{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range mostMatches {
				s.Language("", "de;q=0."+strconv.Itoa(g*mostMatches+i))
			}
		})
	}
	wg.Wait()
	if got := len(s.match.best); got > mostMatches {
		t.Errorf("%d answers are kept, want at most %d", got, mostMatches)
	}
}

// TestBinding makes sure that texts are bound when templates are parsed.
func TestBinding(t *testing.T) {
	s := newSet(t, Options{})
	pages, err := s.loaded.get(variant{lang: "de", base: "/login/"})
	if err != nil {
		t.Fatal(err)
	}
	login, err := pages.get(reflect.TypeFor[LoginPage]())
	if err != nil {
		t.Fatal(err)
	}
	for _, tmpl := range login.Templates() {
		if tmpl.Tree == nil {
			continue
		}
		if text := tmpl.Tree.Root.String(); calls.MatchString(text) || strings.Contains(text, "{{asset") || strings.Contains(text, "{{base") {
			t.Errorf("%s still looks up: %s", tmpl.Name(), calls.FindString(text))
		}
	}
}
