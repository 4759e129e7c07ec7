package templates

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

func newSet(t testing.TB, o Options) *Set {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func render(t testing.TB, s *Set, page any) string {
	t.Helper()
	var b strings.Builder
	if err := s.Render(&b, page); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// walk calls f for every node of a page.
func walk(t testing.TB, page string, f func(*html.Node)) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		f(n)
	}
}

func attr(n *html.Node, key string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

func TestGalleryHasEveryPage(t *testing.T) {
	s := newSet(t, Options{})
	seen := make(map[reflect.Type]bool)
	names := make(map[string]bool)
	codes := make(map[string]bool)
	for _, e := range Gallery() {
		if names[e.Name] {
			t.Errorf("two examples are called %s", e.Name)
		}
		names[e.Name] = true
		seen[reflect.TypeOf(e.Page).Elem()] = true
		if p, ok := e.Page.(*ErrorPage); ok {
			codes[p.Code] = true
		}
		t.Run(e.Name, func(t *testing.T) { checkPage(t, render(t, s, e.Page), e.Page.(common).Common()) })
	}
	for typ := range pageFiles {
		if !seen[typ] {
			t.Errorf("%s is not in the gallery", typ)
		}
	}
	for id := range s.loaded.messages[fallback] {
		if code, ok := strings.CutPrefix(id, "error_"); ok {
			if code, ok = strings.CutSuffix(code, "_title"); ok && !codes[code] {
				t.Errorf("error %s is not in the gallery", code)
			}
		}
	}
}

// checkPage looks for what every page has to keep: the language, one main
// heading, unique ids and labels that lead to them, no inline code or style,
// and nothing loaded from elsewhere.
func checkPage(t *testing.T, page string, l *Layout) {
	t.Helper()
	ids := make(map[string]bool)
	var refs []string
	headings := 0
	walk(t, page, func(n *html.Node) {
		if n.Type != html.ElementNode {
			return
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "id":
				if ids[a.Val] {
					t.Errorf("id %q is used twice", a.Val)
				}
				ids[a.Val] = true
			case a.Key == "for", a.Key == "aria-labelledby", a.Key == "aria-describedby":
				refs = append(refs, strings.Fields(a.Val)...)
			case a.Key == "style", strings.HasPrefix(a.Key, "on"):
				t.Errorf("<%s> has %s=%q, which the content security policy forbids", n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "html":
			if lang, _ := attr(n, "lang"); lang != l.Lang {
				t.Errorf("lang is %q, want %q", lang, l.Lang)
			}
		case "h1":
			headings++
		case "style":
			t.Error("there is a style element")
		case "script", "link":
			if src, _ := attr(n, "src"); n.Data == "script" && !strings.HasPrefix(src, l.Base+"static/") {
				t.Errorf("script from %q", src)
			}
			rel, _ := attr(n, "rel")
			if nonce, _ := attr(n, "nonce"); rel != "icon" && nonce != l.Nonce {
				t.Errorf("<%s> has nonce %q, want %q", n.Data, nonce, l.Nonce)
			}
		case "form":
			action, ok := attr(n, "action")
			// The answer to a client is the one thing that is posted to somebody else.
			id, _ := attr(n, "id")
			toClient := id == "form-post"
			// Lists of administrators are searched and limited by their address.
			method, _ := attr(n, "method")
			search := method == "get" && strings.HasPrefix(action, l.Base+"admin/")
			if ok && !toClient && (method != "post" && !search || !strings.HasPrefix(action, l.Base)) {
				t.Errorf("form is sent to %q by %q", action, method)
			}
		case "img":
			if _, ok := attr(n, "alt"); !ok {
				t.Error("img has no alt")
			}
		}
	})
	if headings != 1 {
		t.Errorf("%d main headings, want 1", headings)
	}
	for _, ref := range refs {
		if !ids[ref] {
			t.Errorf("nothing has the id %q that is referred to", ref)
		}
	}
	for _, sign := range []string{"ZgotmplZ", "<no value>", "{{", "%!"} {
		if strings.Contains(page, sign) {
			t.Errorf("page contains %q", sign)
		}
	}
}

// TestHostileValues puts markup and script addresses into every string of every
// page and looks at what a browser would make of it: no element and no attribute
// that the templates do not have, no further script, no address that runs.
func TestHostileValues(t *testing.T) {
	s := newSet(t, Options{})
	known := make(map[string]bool)
	for _, e := range Gallery() {
		for name := range shape(t, render(t, s, e.Page)) {
			known[name] = true
		}
	}
	for _, hostile := range []string{
		`"><script>alert(1)</script>`,
		`'><img src=x onerror=alert(1)>`,
		`x onfocus=alert(1) autofocus`,
		`javascript:alert(1)`,
		`JaVaScRiPt:alert(1)//https://example.org/`,
		" \tjavascript:alert(1)",
		`data:text/html,<script>alert(1)</script>`,
		`</title></textarea><script>alert(1)</script>`,
		`{{.Layout.Nonce}}`,
		`//evil.example/`,
		`\\evil.example/`,
		"\x00\xff\u2028",
	} {
		for _, e := range Gallery() {
			scripts := shape(t, render(t, s, e.Page))["script"]
			l := e.Page.(common).Common()
			lang, base, nonce := l.Lang, l.Base, l.Nonce
			poison(reflect.ValueOf(e.Page), hostile)
			l.Lang, l.Base, l.Nonce = lang, base, nonce // these the server makes itself
			page := render(t, s, e.Page)
			got := shape(t, page)
			for name := range got {
				if !known[name] {
					t.Errorf("%s with %q: there is %s", e.Name, hostile, name)
				}
			}
			if got["script"] != scripts {
				t.Errorf("%s with %q: %d scripts, want %d", e.Name, hostile, got["script"], scripts)
			}
			walk(t, page, func(n *html.Node) {
				for _, a := range n.Attr {
					if (n.Data == "img" && strings.HasPrefix(a.Val, "data:image/png;base64,")) || (n.Data == "audio" && strings.HasPrefix(a.Val, "data:audio/wav;base64,")) {
						continue // a challenge: whatever it is, it is shown or heard
					}
					if (a.Key == "href" || a.Key == "src" || a.Key == "action") && runs(a.Val) {
						t.Errorf("%s with %q: <%s %s=%q>", e.Name, hostile, n.Data, a.Key, a.Val)
					}
				}
			})
		}
	}
}

// runs tells that an address is a program or a page of its own.
func runs(address string) bool {
	scheme, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(address)), ":")
	return scheme == "javascript" || scheme == "data" || scheme == "vbscript"
}

// shape counts the elements of a page, and the attributes as "element attribute".
func shape(t *testing.T, page string) map[string]int {
	t.Helper()
	count := make(map[string]int)
	walk(t, page, func(n *html.Node) {
		if n.Type == html.ElementNode {
			count[n.Data]++
			for _, a := range n.Attr {
				count[n.Data+" "+a.Key]++
			}
		}
	})
	return count
}

// poison sets every string that v leads to.
func poison(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			poison(v.Elem(), s)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			poison(v.Field(i), s)
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), s)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			v.SetMapIndex(k, reflect.ValueOf(s))
		}
	case reflect.String:
		v.SetString(s)
	}
}

func TestOnlyWebAddressesBecomeLinks(t *testing.T) {
	s := newSet(t, Options{})
	const evil = "javascript:alert(1)"
	for _, page := range []any{
		AccountPage{Layout: Layout{ImprintURL: evil, PrivacyURL: evil, SourcesURL: evil}, Identities: []Identity{{URI: evil, Provider: Provider{Image: evil}}}},
		HelpPage{Applications: []Application{{Name: "x", URL: evil}}},
	} {
		walk(t, render(t, s, page), func(n *html.Node) {
			for _, key := range []string{"href", "src"} {
				if v, ok := attr(n, key); ok && (strings.Contains(v, "alert") || strings.Contains(v, "ZgotmplZ")) {
					t.Errorf("%T: <%s %s=%q>", page, n.Data, key, v)
				}
			}
		})
	}
}

func TestRenderTakesStructsAndPointers(t *testing.T) {
	s := newSet(t, Options{})
	p := LoginPage{Layout: Layout{Lang: "de", Title: "Haus", Base: "/login/"}}
	if a, b := render(t, s, p), render(t, s, &p); a != b {
		t.Error("a struct and a pointer to it are rendered differently")
	}
	if got := render(t, s, p); !strings.Contains(got, "<title>Anmelden · Haus</title>") {
		t.Errorf("no German title in\n%s", got)
	}
	p.Lang = "xx"
	if got := render(t, s, p); !strings.Contains(got, `<html lang="en">`) {
		t.Error("an unknown language is not shown in English")
	}
	if err := s.Render(io.Discard, "login"); err == nil {
		t.Error("a string was rendered")
	}
}

func TestNothingIsWrittenOnError(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "help.html"), `{{define "title"}}x{{end}}{{define "width"}}x{{end}}{{define "content"}}<p>half a page</p>{{index .Applications 7}}{{end}}`)
	s := newSet(t, Options{Dir: dir})
	var b bytes.Buffer
	if err := s.Render(&b, HelpPage{}); err == nil {
		t.Error("no error")
	}
	if b.Len() > 0 {
		t.Errorf("wrote %q", b.String())
	}
	failed := errors.New("connection is gone")
	if err := s.Render(failing{failed}, LoginPage{}); !errors.Is(err, failed) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOverrides(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "locales", "fr.json"), `{"language_name": "Français", "sign_in": "Se connecter"}`)
	write(t, filepath.Join(dir, "locales", "en.json"), `{"no_providers": "Ask your library."}`)
	write(t, filepath.Join(dir, "logout.html"), `{{define "title"}}Bye{{end}}{{define "width"}}narrow{{end}}{{define "content"}}<h1>Bye</h1>{{end}}`)
	for _, dev := range []bool{false, true} {
		s := newSet(t, Options{Dir: dir, Dev: dev})
		if got := render(t, s, LogoutPage{}); !strings.Contains(got, "<h1>Bye</h1>") {
			t.Error("logout.html is not the one of the folder")
		}
		if got := render(t, s, LoginPage{}); !strings.Contains(got, "Ask your library.") || !strings.Contains(got, "<h1>Sign in</h1>") {
			t.Error("a single English text is not replaced")
		}
		french := render(t, s, LoginPage{Layout: Layout{Lang: "fr"}})
		if !strings.Contains(french, "<h1>Se connecter</h1>") || !strings.Contains(french, `<html lang="fr">`) {
			t.Error("French was not added")
		}
		if !strings.Contains(french, "The operator of this server") {
			t.Error("a text that is missing in French is not shown in English")
		}
		if got := s.Language("", "fr-CA, en;q=0.5"); got != "fr" {
			t.Errorf("language is %q, want fr", got)
		}
		want := []Language{{"en", "English"}, {"de", "Deutsch"}, {"fr", "Français"}}
		if got := s.Languages(); !reflect.DeepEqual(got, want) {
			t.Errorf("languages are %v, want %v", got, want)
		}
	}
}

func TestDevReadsAgain(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "locales", "en.json")
	for _, dev := range []bool{false, true} {
		write(t, name, `{"sign_in": "Before"}`)
		s := newSet(t, Options{Dir: dir, Dev: dev})
		write(t, name, `{"sign_in": "After"}`)
		want := "Before"
		if dev {
			want = "After"
		}
		if got := s.Text("en", "sign_in", nil); got != want {
			t.Errorf("dev %v: text is %q, want %q", dev, got, want)
		}
		if got := render(t, s, LoginPage{}); !strings.Contains(got, "<h1>"+want) {
			t.Errorf("dev %v: page has another heading than %q", dev, want)
		}
	}
}

func TestBrokenOverridesAreNamed(t *testing.T) {
	for file, text := range map[string]string{
		"login.html":      `{{define "content"}}{{`,
		"help.html":       `{{define "content"}}{{T "no such text"}}{{end}}`,
		"error.html":      `{{define "content"}}{{T "sign_in_with"}}{{end}}`,
		"logout.html":     `{{define "title"}}x{{end}}{{define "width"}}x{{end}}{{define "content"}}<p {{if .Done}}title="{{end}}>{{end}}`,
		"locales/fr.json": `{"sign_in": `,
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, file), text)
		if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got error %v, want one that names the file", file, err)
		}
	}
}

func TestLanguageSwitch(t *testing.T) {
	for _, tc := range []struct{ base, path, want string }{
		{"/", "", "/?lang=de"},
		{"/", "account", "/account?lang=de"},
		{"/login/", "sessions", "/login/sessions?lang=de"},
		{"/", "login?redirect_uri=https%3A%2F%2Fa.example%2F%3Flang%3Dx&lang=en", "/login?redirect_uri=https%3A%2F%2Fa.example%2F%3Flang%3Dx&lang=de"},
		{"/", "login?lang=en&a=b", "/login?a=b&lang=de"},
		{"/", "//evil.example", "/evil.example?lang=de"},
		{"/", `\/evil.example`, "/evil.example?lang=de"},
		{"/", "\t/evil.example", "/?lang=de"},
		{"/", "a\\b", "/?lang=de"},
	} {
		b := binder{variant: variant{base: tc.base}}
		if got := b.inLanguage(tc.path, "de"); got != tc.want {
			t.Errorf("inLanguage(%q, %q) = %q, want %q", tc.base, tc.path, got, tc.want)
		}
	}
}

func TestIcon(t *testing.T) {
	b := binder{variant: variant{base: "/x/"}, path: func(name string) string { return "static/" + name }}
	for _, tc := range []struct {
		provider Provider
		want     string
	}{
		{Provider{Strategy: "github"}, "/x/static/github.svg"},
		{Provider{Strategy: "ldapauth"}, "/x/static/ldap.svg"},
		{Provider{Strategy: "new"}, "/x/static/default.svg"},
		{Provider{Strategy: "goth:gitlab"}, "/x/static/gitlab.svg"},
		{Provider{Strategy: "goth:azureadv2"}, "/x/static/microsoft.svg"},
		{Provider{Strategy: "goth:new"}, "/x/static/default.svg"},
		{Provider{Strategy: "goth:"}, "/x/static/default.svg"},
		{Provider{ID: "wikidata", Strategy: "mediawiki"}, "/x/static/wikidata.svg"},
		{Provider{Image: "https://a.example/logo.png"}, "https://a.example/logo.png"},
		{Provider{Image: "static/my-ldap.svg"}, "/x/static/my-ldap.svg"},
		{Provider{Image: "javascript:alert(1)", Strategy: "local"}, "/x/static/local.svg"},
	} {
		if got := b.icon(tc.provider); got != tc.want {
			t.Errorf("icon of %+v is %q, want %q", tc.provider, got, tc.want)
		}
	}
}

func TestTimesAreReadable(t *testing.T) {
	s := newSet(t, Options{})
	at := time.Date(2026, time.March, 5, 23, 4, 0, 0, time.FixedZone("", 3600))
	for lang, want := range map[string]string{
		"en": `<time datetime="2026-03-05T22:04:00Z">5 March 2026, 22:04 UTC</time>`,
		"de": `<time datetime="2026-03-05T22:04:00Z">5. März 2026, 22:04 UTC</time>`,
	} {
		if got := s.loaded.timeElement(lang, at); got != want {
			t.Errorf("%s: got %s, want %s", lang, got, want)
		}
	}
}

// fivePage is the login page that people see most.
func fivePage() *LoginPage {
	for _, e := range Gallery() {
		if e.Name == "login-application" {
			return e.Page.(*LoginPage)
		}
	}
	panic("no login page in the gallery")
}

func BenchmarkLoginPage(b *testing.B) {
	s := newSet(b, Options{})
	page := fivePage()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Render(io.Discard, page); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newSet(b, Options{})
	}
}

func BenchmarkLanguage(b *testing.B) {
	s := newSet(b, Options{})
	for b.Loop() {
		s.Language("", "de-AT,de;q=0.9,en;q=0.8")
	}
}

func readLocale(t *testing.T, lang string) map[string]any {
	t.Helper()
	text, err := embedded.ReadFile("locales/" + lang + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
