package static

import (
	"encoding/xml"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, f *Files, target string, header ...string) *http.Response {
	t.Helper()
	// Not parsed by NewRequest: a path that leads out of the folder has to arrive.
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestServe(t *testing.T) {
	f := New(Options{Dir: filepath.Join(t.TempDir(), "missing")})
	for name, contentType := range map[string]string{
		"app.css":     "text/css; charset=utf-8",
		"app.js":      "text/javascript; charset=utf-8",
		"favicon.svg": "image/svg+xml",
	} {
		path, query, _ := strings.Cut(f.Asset(name), "?")
		if path != "static/"+name || !regexp.MustCompile(`^v=[\w-]{12}$`).MatchString(query) {
			t.Errorf("asset of %s is %q", name, f.Asset(name))
		}
		hashed := get(t, f, name+"?"+query)
		if hashed.StatusCode != http.StatusOK || len(body(t, hashed)) == 0 {
			t.Errorf("%s: status %d", name, hashed.StatusCode)
		}
		for key, want := range map[string]string{
			"Content-Type":           contentType,
			"X-Content-Type-Options": "nosniff",
			"Cache-Control":          "public, max-age=31536000, immutable",
		} {
			if got := hashed.Header.Get(key); got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		for _, query := range []string{"", "?v=", "?v=old"} {
			if got := get(t, f, name+query).Header.Get("Cache-Control"); got != "no-cache" {
				t.Errorf("%s%s: Cache-Control is %q, want no-cache", name, query, got)
			}
		}
		again := get(t, f, name, "If-None-Match", hashed.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || body(t, again) != "" {
			t.Errorf("%s: status %d for a known ETag, want 304", name, again.StatusCode)
		}
	}
	if got := get(t, f, "favicon.svg").Header.Get("Content-Security-Policy"); !strings.Contains(got, "sandbox") {
		t.Errorf("a picture opened as a page has the policy %q", got)
	}
}

func TestMethods(t *testing.T) {
	f := New(Options{})
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "DELETE": 405} {
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, httptest.NewRequest(method, "/app.css", nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", method, w.Code, want)
		}
		if method == "HEAD" && w.Body.Len() > 0 {
			t.Error("HEAD has a body")
		}
	}
}

func TestOnlyFilesOfTheFolder(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "static")
	write(t, top, "secret.txt", "secret")
	write(t, dir, "ok.txt", "ok")
	write(t, dir, "sub/ok.txt", "ok")
	write(t, dir, ".env", "secret")
	write(t, dir, "sub/.git/config", "secret")
	if err := os.Symlink(filepath.Join(top, "secret.txt"), filepath.Join(dir, "link.txt")); err != nil {
		t.Skip(err)
	}
	f := New(Options{Dir: dir})
	for _, name := range []string{"ok.txt", "sub/ok.txt"} {
		if got := body(t, get(t, f, name)); got != "ok" || !f.Has(name) {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, name := range []string{
		"", "/", ".", "..", "../secret.txt", "sub/../../secret.txt", "/../secret.txt", "..\\secret.txt", filepath.Join(top, "secret.txt"),
		"//etc/passwd", "sub", "sub/", "sub/..", ".env", "sub/.git/config", "link.txt", "ok.txt/", "ok.txt\x00.svg", "static.go", "nothing.svg",
		strings.Repeat("x", 5000),
	} {
		r := get(t, f, name)
		if got := body(t, r); r.StatusCode != http.StatusNotFound || strings.Contains(got, "secret\n") || got == "secret" {
			t.Errorf("%.40q: status %d", name, r.StatusCode)
		}
		if f.Has(name) {
			t.Errorf("there is %.40q", name)
		}
		if got := f.Asset(name); strings.Contains(got, "?") {
			t.Errorf("asset of %.40q is %q", name, got)
		}
	}
}

func TestOverrides(t *testing.T) {
	dir := t.TempDir()
	builtin := New(Options{}).Asset("app.css")
	write(t, dir, "app.css", "one")
	kept, dev := New(Options{Dir: dir}), New(Options{Dir: dir, Dev: true})
	for _, f := range []*Files{kept, dev} {
		if got := body(t, get(t, f, "app.css")); got != "one" {
			t.Errorf("app.css is %q", got)
		}
		if f.Asset("app.css") == builtin {
			t.Error("the hash is that of the embedded file")
		}
		if f.Has("my-ldap.png") {
			t.Error("a logo is there before it was put there")
		}
	}
	write(t, dir, "app.css", "two")
	write(t, dir, "my-ldap.png", "png")
	for f, want := range map[*Files]string{kept: "one", dev: "two"} {
		if got := body(t, get(t, f, "app.css")); got != want {
			t.Errorf("app.css is %q, want %q", got, want)
		}
		if got := get(t, f, "my-ldap.png").Header.Get("Content-Type"); got != "image/png" {
			t.Errorf("a new logo has the type %q", got)
		}
	}
}

// TestPictures makes sure that pictures are nothing but that.
func TestPictures(t *testing.T) {
	names, err := fs.Glob(embedded, "*.svg")
	if err != nil || len(names) < 12 {
		t.Fatalf("%d pictures, %v", len(names), err)
	}
	for _, name := range names {
		text, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(string(text)))
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			el, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			for _, a := range el.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("%s: <%s %s>", name, el.Name.Local, a.Name.Local)
				}
			}
			if el.Name.Local == "script" || el.Name.Local == "image" || el.Name.Local == "style" {
				t.Errorf("%s: <%s>", name, el.Name.Local)
			}
		}
	}
}

// TestContrast measures the colours of the style sheet, in both schemes.
func TestContrast(t *testing.T) {
	css, err := embedded.ReadFile("app.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there are no colours for a dark scheme")
	}
	dark, _, _ = strings.Cut(dark, "/* Foundations */")
	for scheme, text := range map[string]string{"light": light, "dark": dark} {
		colors := make(map[string][3]float64)
		for _, m := range regexp.MustCompile(`--([\w-]+): #(\w{2})(\w{2})(\w{2});`).FindAllStringSubmatch(text, -1) {
			colors[m[1]] = [3]float64{channel(m[2]), channel(m[3]), channel(m[4])}
		}
		for _, tc := range []struct {
			front, back string
			want        float64
		}{
			{"ink", "background", 7}, {"ink", "surface", 7}, {"ink", "sunken", 7},
			{"ink", "good-soft", 7}, {"ink", "bad-soft", 7}, {"ink", "warning-soft", 7}, {"ink", "accent-soft", 7},
			{"muted", "background", 4.5}, {"muted", "surface", 4.5}, {"muted", "sunken", 4.5},
			{"accent", "background", 4.5}, {"accent", "surface", 4.5}, {"accent", "sunken", 4.5}, {"accent", "accent-soft", 4.5},
			{"on-action", "action", 7}, {"on-action", "action-hover", 7}, {"on-bad", "bad", 4.5}, {"on-bad", "bad-hover", 4.5},
			{"bad", "surface", 4.5}, {"bad", "sunken", 4.5}, {"bad", "background", 4.5},
			{"good", "good-soft", 4.5}, {"bad", "bad-soft", 4.5}, {"warning", "warning-soft", 4.5},
			{"edge", "background", 3}, {"edge", "surface", 3},
		} {
			front, ok1 := colors[tc.front]
			back, ok2 := colors[tc.back]
			if !ok1 || !ok2 {
				t.Errorf("%s: no colour %s or %s", scheme, tc.front, tc.back)
				continue
			}
			if got := contrast(front, back); got < tc.want {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", scheme, tc.front, tc.back, got, tc.want)
			}
		}
	}
}
