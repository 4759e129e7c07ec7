package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"login-server/internal/testbrowser"
	"login-server/internal/testprogram"
)

var (
	jsExamples = regexp.MustCompile("(?s)```js\n(.*?)```")
	mailLink   = regexp.MustCompile(`href="/(dev/mail/[^"]+)"`)
	mailCode   = regexp.MustCompile(`\b\d{6}\b`)
)

// clientOfDocs is the client in docs/api.md, for a server.
func clientOfDocs(t testing.TB, base string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, example := range jsExamples.FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(example[1], "async function encrypt(") {
			return strings.Replace(example[1], "http://localhost:3004/", base, 1)
		}
	}
	t.Fatal("docs/api.md has no client")
	return ""
}

// mailedCode waits for a mail that the server has caught, after those that there were before,
// and returns its code.
func (s *server) mailedCode(t testing.TB, before int) string {
	t.Helper()
	for deadline := time.Now().Add(testbrowser.Patience); ; time.Sleep(10 * time.Millisecond) { // it is sent by the program
		mails := mailLink.FindAllStringSubmatch(s.read(t, "dev/mail"), -1)
		if len(mails) > before {
			if code := mailCode.FindString(s.read(t, mails[0][1])); code != "" {
				return code
			}
			t.Fatal("a mail without a code")
		}
		if time.Now().After(deadline) {
			t.Fatal("no mail came")
		}
	}
}

func (s *server) read(t testing.TB, path string) string {
	t.Helper()
	response, err := http.Get(s.to(path))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return readAll(t, response)
}

// TestClientOfDocs: the client in docs/api.md, on a page of an application, signs somebody up
// and in, hears of it, and keeps the password from whoever reads along.
func TestClientOfDocs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	origin := "http://localhost:" + port
	s := &server{testprogram.New(t)}
	files := settings(t, nil)
	files["providers.json"] = append(files["providers.json"].([]map[string]any), map[string]any{
		"id": "account", "strategy": "account", "name": "Account", "options": map[string]any{"hashing": map[string]any{"memoryKiB": 8192}},
	})
	s.Env = append(s.Env, "ALLOWED_ORIGINS="+origin)
	s.Start(t, files)
	client := clientOfDocs(t, s.Base)
	app := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, "<!doctype html><link rel=icon href=data:,><title>The application</title><script>%s</script>", client)
	})}}
	app.Start()
	t.Cleanup(app.Close)

	b := newTab(t, person{script: true})
	b.AllowStatus(http.StatusUnauthorized)
	b.visit(origin + "/")
	// What leaves the page is noted there.
	testbrowser.Get[any](b, `(() => { const own = fetch; window.sent = ""; window.fetch = (to, o) => { sent += o?.body ?? ""; return own(to, o) } })()`)
	pending := testbrowser.Get[string](b, `signUp("ada@example.org", "engines weave algebra 7", "Ada")`)
	code := s.mailedCode(t, 0)
	if name := testbrowser.Get[string](b, fmt.Sprintf(`verify(%s, %s).then((session) => session.user.name)`, testbrowser.Quote(pending), testbrowser.Quote(code))); name != "Ada" {
		t.Errorf("signed up is %q", name)
	}
	// The socket of a page hears of a sign-out and a sign-in by calls.
	testbrowser.Get[any](b, `(async () => { window.heard = []; await listen((event) => heard.push(event.type)) })()`)
	b.UntilTrue(`heard.includes("authenticated") || heard.includes("loggedIn")`)
	testbrowser.Get[any](b, `signOut()`)
	b.UntilTrue(`heard.includes("loggedOut")`)
	if refused := testbrowser.Get[string](b, `signIn("ada@example.org", "not hers at all").catch((error) => error.code)`); refused != "refused" {
		t.Errorf("a wrong password: %q", refused)
	}
	if name := testbrowser.Get[string](b, `signIn("ada@example.org", "engines weave algebra 7").then((session) => session.user.name)`); name != "Ada" {
		t.Errorf("signed in is %q", name)
	}
	if sent := testbrowser.Get[string](b, `sent`); !strings.Contains(sent, `{"jwe":"ey`) || strings.Contains(sent, "engines") || strings.Contains(sent, "not hers") {
		t.Errorf("what was sent can be read: %.200s", sent)
	}
	// The pages know her as well.
	b.visit(s.to("account"))
	b.Reads("h1", "Account")
}
