package browser

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"login-server/internal/testbrowser"
)

// words are the texts of the pages in one language.
type words map[string]any

func language(t testing.TB, tag string) words {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "templates", "locales", tag+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var w words
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	return w
}

// say is one text, with pairs of names and values filled in.
func (w words) say(id string, filled ...string) string {
	text, _ := w[id].(string)
	if text == "" {
		panic("no text " + id)
	}
	for i := 0; i+1 < len(filled); i += 2 {
		text = strings.ReplaceAll(text, "{{."+filled[i]+"}}", filled[i+1])
	}
	return text
}

// signIn sends the form of a provider; the page is shown already.
func (b *tab) signIn(username, password string) {
	b.t.Helper()
	b.fill("#username", username)
	b.fill("#password", password)
	b.follow("#login-submit")
}

// signInAt goes to a provider's form and sends it.
func (b *tab) signInAt(s *server, provider, username, password string) {
	b.t.Helper()
	b.visit(s.to("login/" + provider))
	b.signIn(username, password)
	b.At(s.to("account"))
}

// provider is the link or form of a provider on the pages.
func provider(id string) string { return `a.provider[href*="/login/` + id + `"]` }

func TestMainFlow(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	mainFlow(t, s, person{script: true}, "en", "desktop")
}

func TestMainFlowOnAPhoneInGerman(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	mainFlow(t, s, person{script: true, accept: "de-AT, en;q=0.5", phone: true}, "de", "phone")
}

func TestMainFlowWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	mainFlow(t, s, person{}, "en", "")
	b := newTab(t, person{})
	b.visit(s.to("api"))
	b.reads("", language(t, "en").say("api_noscript"))
}

// TestBelowAPath has a reverse proxy in front of a server whose BASE_URL has a path.
func TestBelowAPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		strip bool
	}{{"proxy strips it", true}, {"proxy keeps it", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := proxied(t, tc.strip, options{})
			mainFlow(t, s, person{script: true}, "en", "")
			demonstration(t, s)
			b := newTab(t, person{script: true})
			b.AllowStatus(404)
			b.visit(s.to("no/such/page"))
			b.reads("#error-code", "not_found")
			b.follow("#error-link")
			b.At(s.to("login"))
			for _, asset := range testbrowser.Get[[]string](b, `[...document.querySelectorAll("link[href], script[src], img[src]")].map((e) => e.href || e.src)`) {
				if !strings.HasPrefix(asset, s.to("static/")) && !strings.HasPrefix(asset, s.to("login?")) {
					t.Errorf("asset %s is not below %s", asset, s.Base)
				}
			}
			if shown := testbrowser.Get[bool](b, `[...document.images].every((i) => i.naturalWidth > 0)`); !shown {
				t.Error("not all pictures are shown")
			}
		})
	}
}

// mainFlow is what people do, from the first sign-in to the deletion of the account.
// With a view, pictures are named after it, and axe-core inspects every page on the way.
func mainFlow(t *testing.T, s *server, who person, tag, view string) {
	w := language(t, tag)
	b := newTab(t, who)
	inspect := func(name string) {
		b.fits(name)
		if view == "" {
			return
		}
		b.Shot("real-" + name + "-" + view)
		if haveAxe() {
			b.accessible()
		}
	}

	// The login page, and a wrong password.
	b.visit(s.Base)
	b.At(s.to("login"))
	b.reads("h1", w.say("sign_in"))
	inspect("login")
	b.follow(provider("test"))
	b.At(s.to("login/test"))
	b.signIn(ada, "wrong")
	b.At(s.to("login/test"))
	b.reads("#form-error", w.say("credentials_refused"))
	if got := b.value("#username"); got != ada {
		t.Errorf("after a wrong password the username is %q", got)
	}
	if got := b.value("#password"); got != "" {
		t.Errorf("after a wrong password the password is %q", got)
	}
	if focused := testbrowser.Get[string](b, "document.activeElement.id"); focused != "password" {
		t.Errorf("after a wrong password the focus is on %q", focused)
	}
	inspect("credentials-refused")
	if who.script {
		b.fill("#password", "x")
		b.click("[data-reveal]")
		if kind := testbrowser.Get[string](b, "document.querySelector('#password').type"); kind != "text" {
			t.Errorf("the password is not shown: %s", kind)
		}
		b.click("[data-reveal]")
	} else if testbrowser.Get[bool](b, "document.querySelector('[data-reveal]').getClientRects().length > 0") {
		t.Error("a button is shown that needs JavaScript")
	}

	// The right one; another provider joins.
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
	b.reads("main .message", w.say("signed_in"))
	b.reads("#uri", s.to("users/"))
	b.reads("", w.say("only_identity"))
	if name := b.value("#name"); name != "Ada Lovelace" {
		t.Errorf("the name is %q", name)
	}
	inspect("account-one")
	b.follow(provider("script"))
	b.reads("", w.say("back_to_account"))
	inspect("credentials-linking")
	b.signIn(ada, adaPassword)
	b.At(s.to("account"))
	b.reads("main .message", w.say("linked", "Provider", "Script"))
	uri := b.text("#uri")

	// Another account, made in another browser, merges into this one.
	other := newTab(t, who)
	other.signInAt(s, "local", ada, adaPassword)
	otherURI := other.text("#uri")
	b.follow(provider("local"))
	b.signIn(ada, adaPassword)
	b.At(s.to("merge"))
	b.reads("h1", w.say("merge_title"))
	b.reads("", "Ada Lovelace", "Ada at the Library", uri, otherURI)
	inspect("merge")
	b.follow("#merge-cancel")
	b.At(s.to("account"))
	if !b.has(provider("local")) {
		t.Fatal("the accounts merged although the person said no")
	}
	b.follow(provider("local"))
	b.signIn(ada, adaPassword)
	b.follow("#merge-submit")
	b.At(s.to("account"))
	b.reads("main .message", w.say("merged"))
	b.reads("", otherURI)
	if b.has(provider("local")) {
		t.Fatal("the accounts did not merge")
	}
	inspect("account-merged")
	b.visit(otherURI)
	b.At(uri)
	other.reload()
	if got := other.text("#uri"); got != uri {
		t.Errorf("the other browser is at account %s, want %s", got, uri)
	}

	// And back.
	b.visit(s.to("account"))
	b.follow(`form[action$="account/undo-merge"] button`)
	b.reads("main .message", w.say("merge_undone"))
	other.reload()
	if got := other.text("#uri"); got != otherURI {
		t.Errorf("after the merge was undone the other browser is at account %s, want %s", got, otherURI)
	}

	// A name that cannot be, and one that can.
	b.fill("#name", "   ")
	b.follow(`form[action$="account/name"] button`)
	b.At(s.to("account"))
	b.reads("#name-error", w.say("name_empty"))
	if described := testbrowser.Get[string](b, "document.querySelector('#name').getAttribute('aria-describedby')"); !strings.Contains(described, "name-error") {
		t.Errorf("the field is described by %q", described)
	}
	inspect("account-name")
	b.fill("#name", "Ada <b>King</b>")
	b.follow(`form[action$="account/name"] button`)
	b.reads("main .message", w.say("name_changed"))
	b.reads(".person", "Ada <b>King</b>")

	// Sessions: sign in elsewhere, and end that.
	other.Forget()
	other.signInAt(s, "test", ada, adaPassword)
	b.follow(`.site-nav a[href$="security"]`)
	b.At(s.to("security"))
	inspect("security")
	b.visit(s.to("sessions"))
	if n := testbrowser.Get[int](b, "document.querySelectorAll('#sessions > li').length"); n != 2 {
		t.Fatalf("there are %d sessions, want 2", n)
	}
	b.reads("#sessions .current", w.say("this_session"), w.say("browser_on", "Browser", "Headless Chrome", "System", "Linux"))
	inspect("sessions")
	b.follow(`#sessions form[action$="sessions/remove"] button`)
	b.reads("main .message", w.say("session_removed"))
	if n := testbrowser.Get[int](b, "document.querySelectorAll('#sessions > li').length"); n != 1 {
		t.Errorf("there are %d sessions, want 1", n)
	}
	other.reload()
	other.At(s.to("login"))

	// Disconnect; the last identity stays.
	b.visit(s.to("account"))
	b.follow(`form[action$="disconnect/script"] button`)
	b.At(s.to("account"))
	b.reads("main .message", w.say("disconnected", "Provider", "Script"))
	if b.has(`form[action*="disconnect/"]`) {
		t.Error("the last identity can be disconnected")
	}

	// Out, in again, and away.
	b.follow(`.site-nav a[href$="logout"]`)
	b.At(s.to("login"))
	b.reads("main .message", w.say("signed_out"))
	b.visit(s.to("account"))
	b.At(s.to("login"))
	b.follow(provider("test"))
	b.signIn(ada, adaPassword)
	if got := b.text("#uri"); got != uri {
		t.Errorf("the account is %s, want %s", got, uri)
	}
	b.visit(s.to("help"))
	b.reads("h1", w.say("help_title"))
	inspect("help")
	b.visit(s.to("delete"))
	b.reads("", w.say("delete_title"), "Ada <b>King</b>")
	inspect("delete")
	b.follow("#delete-confirm")
	b.At(s.to("login"))
	b.reads("main .message", w.say("account_deleted"))
	b.follow(provider("test"))
	b.signIn(ada, adaPassword)
	if got := b.text("#uri"); got == uri {
		t.Error("the deleted account is still there")
	}
}

// TestLanguageSwitch keeps page and query.
func TestLanguageSwitch(t *testing.T) {
	t.Parallel()
	app := newSite(t)
	s := start(t, options{apps: map[string]string{app.at("localhost") + "/": "Cocoda"}})
	de, en := language(t, "de"), language(t, "en")
	b := newTab(t, person{script: true})
	query := "?redirect_uri=" + strings.ReplaceAll(app.at("localhost"), ":", "%3A") + "/"
	b.visit(s.to("login/test" + query))
	b.reads("h1", en.say("sign_in_with", "Provider", "Test"))
	b.follow(`a[hreflang="de"]`)
	b.reads("h1", de.say("sign_in_with", "Provider", "Test"))
	if lang := testbrowser.Get[string](b, "document.documentElement.lang"); lang != "de" {
		t.Errorf("the page says that it is in %q", lang)
	}
	b.signIn(ada, "wrong")
	b.reads("", de.say("credentials_refused"), "Cocoda")
	b.signIn(ada, adaPassword)
	b.At(app.at("localhost") + "/")
	b.visit(s.to("sessions"))
	b.reads("h1", de.say("sessions"))
	b.follow(`a[hreflang="en"]`)
	b.At(s.to("sessions"))
	b.reads("h1", en.say("sessions"))
}
