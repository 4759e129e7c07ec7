package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"

	"login-server/internal/testbrowser"
)

func readAll(t testing.TB, response *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// typeText types where the focus is.
func (b *tab) typeText(text string) {
	b.t.Helper()
	testbrowser.Call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// tabTo presses Tab until the focus is on what fits the selector.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range 30 {
		b.press("Tab", 9)
		if testbrowser.Get[bool](b, "document.activeElement.matches("+testbrowser.Quote(selector)+")") {
			return
		}
	}
	b.t.Fatalf("Tab does not reach %s", selector)
}

// events are the types in the log of the demonstration, in their order.
func (b *tab) events() []string {
	b.t.Helper()
	return testbrowser.Get[[]string](b, `[...document.querySelectorAll("#log .type")].map((e) => e.textContent)`)
}

// hears waits for an event after those that there were before.
func (b *tab) hears(before int, kind string) {
	b.t.Helper()
	b.Until("the event "+kind, func() bool {
		for _, heard := range b.events()[min(before, len(b.events())):] {
			if heard == kind {
				return true
			}
		}
		return false
	})
}

func TestDemonstration(t *testing.T) {
	t.Parallel()
	demonstration(t, start(t, options{}))
}

// demonstration uses the page /api.
func demonstration(t *testing.T, s *server) {
	t.Helper()
	w := language(t, "en")
	b := newTab(t, person{script: true})

	// Signed out: a greeting, and a token that names nobody.
	b.visit(s.to("login"))
	b.visit(s.to("api"))
	b.UntilTrue(`document.querySelector("#socket-status").dataset.state === "good"`)
	b.hears(0, "loggedOut")
	if got, want := fmt.Sprint(b.events()[:3]), "[open about providers]"; got != want {
		t.Errorf("the greeting is %s, want %s", got, want)
	}
	b.click(`[data-get="token"]`)
	b.UntilTrue(`document.querySelector("#token-status").dataset.state === "good"`)
	b.reads("#token-status", w.say("api_valid"))
	if user := b.payload()["user"]; user != nil {
		t.Errorf("the token of nobody says %v", user)
	}
	b.click(`[data-send="ping"]`)
	b.hears(0, "pong")

	// Another tab signs in, and this one hears of it.
	second := b.another()
	heard := len(b.events())
	second.signInAt(s, "test", bob, bobPassword)
	b.hears(heard, "loggedIn")
	b.hears(heard, "token")
	b.Until("the token to name the user", func() bool { return b.payload()["user"] != nil })
	b.UntilTrue(`document.querySelector("#token-status").dataset.state === "good"`)
	if name := b.value("#patch-name"); name != "Bob" {
		t.Errorf("the name is %q", name)
	}
	heard = len(b.events())
	b.click(`[data-send="authenticate"]`)
	b.hears(heard, "authenticated")

	// A new name, through the API.
	heard = len(b.events())
	b.fill("#patch-name", "Robert")
	b.click(`#patch button`)
	b.hears(heard, "updated")
	b.UntilTrue(`document.querySelector("#answer").textContent.startsWith("200")`)
	for _, width := range []int64{320, 390, 1280} {
		b.Size(width, 800, false)
		b.fits("api")
	}
	b.Shot("real-api")
	second.reload()
	second.reads(".person", "Robert")
	heard = len(b.events())
	second.fill("#name", "Bob Again")
	second.follow(`form[action$="account/name"] button`)
	b.hears(heard, "updated")

	// The other tab signs out.
	heard = len(b.events())
	second.follow(`.site-nav a[href$="logout"]`)
	b.hears(heard, "loggedOut")
	b.AllowStatus(401)
	b.click(`#patch button`)
	b.Until("the answer", func() bool { return b.text("#answer") == w.say("api_signed_out") })

	b.click(`[data-action="clear"]`)
	if events := b.events(); len(events) > 0 {
		t.Errorf("the log is not empty: %v", events)
	}
	b.click(`[data-action="reconnect"]`)
	b.hears(0, "loggedOut")
}

// payload is the decoded token on the page.
func (b *tab) payload() map[string]any {
	b.t.Helper()
	var p map[string]any
	text := b.text("#token-payload")
	if err := json.Unmarshal([]byte(text), &p); err != nil && !strings.HasPrefix(text, "–") {
		b.t.Fatalf("the token's payload: %v\n%s", err, text)
	}
	return p
}
