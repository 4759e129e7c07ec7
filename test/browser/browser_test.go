// Package browser drives the whole program the way people do: in a real Chromium,
// by mouse and keyboard, over HTTP. Nothing in it reaches the Internet.
//
//	go test ./test/browser/                     all of it
//	SCREENSHOTS=dir go test ./test/browser/     also writes pictures of the pages there
//
// Without Chromium the tests are skipped; see internal/testenv.
package browser

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"

	"login-server/internal/testbrowser"
	"login-server/internal/testprogram"
)

// chromium is the one browser that all tests share.
var chromium = testbrowser.Browser{Flags: func(testing.TB) map[string]any {
	return map[string]any{
		"lang": "en-GB",
		// Sites that are not localhost, without a name server.
		"host-resolver-rules": "MAP *.test 127.0.0.1",
	}
}}

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.End()
	testprogram.Remove()
	os.Exit(code)
}

// person is somebody with a browser of their own: cookies, language, settings.
type person struct {
	script bool   // JavaScript is on
	accept string // what the browser sends as Accept-Language
	phone  bool
}

// tab is one page of a browser.
type tab struct {
	*testbrowser.Tab
	t     testing.TB
	who   person
	loads atomic.Int64 // documents that have been loaded
}

// newTab opens a browser with cookies of its own. When the test ends, the console
// must be empty.
func newTab(t testing.TB, who person) *tab {
	t.Helper()
	b := &tab{t: t, who: who}
	b.Tab = chromium.New(t, b.options())
	return b.ready()
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	other := &tab{t: b.t, who: b.who}
	other.Tab = b.Another(other.options())
	return other.ready()
}

func (b *tab) options() testbrowser.Options {
	return testbrowser.Options{Language: b.who.accept, Listen: func(event any) {
		switch e := event.(type) {
		case *page.EventLoadEventFired:
			b.loads.Add(1)
		case *page.EventFrameNavigated:
			if e.Type == page.NavigationTypeBackForwardCacheRestore && e.Frame.ParentID == "" {
				b.loads.Add(1)
			}
		}
	}}
}

// ready makes a new tab what its person has.
func (b *tab) ready() *tab {
	b.t.Helper()
	if b.who.phone {
		b.Size(390, 844, true)
	} else {
		b.Size(1280, 800, false)
	}
	testbrowser.Call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	if !b.who.script {
		testbrowser.Call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	}
	return b
}

// leading does something that leads to another page, and waits until it has loaded.
func (b *tab) leading(do func()) {
	b.t.Helper()
	before := b.loads.Load()
	do()
	b.Until("a page to load", func() bool { return b.loads.Load() > before })
}

// visit opens an address.
func (b *tab) visit(address string) {
	b.t.Helper()
	b.leading(func() {
		if result := testbrowser.Call(b, page.Navigate, page.NavigateParams{URL: address}); result.ErrorText != "" {
			b.t.Fatalf("open %s: %s", address, result.ErrorText)
		}
	})
}

// reload opens the same address again.
func (b *tab) reload() {
	b.t.Helper()
	b.leading(func() { testbrowser.Call(b, page.Reload, page.ReloadParams{}) })
}

// back is the back button of the browser.
func (b *tab) back() {
	b.t.Helper()
	history := testbrowser.Call(b, page.GetNavigationHistory, cdp.Empty{})
	entry := history.Entries[history.CurrentIndex-1]
	b.leading(func() {
		testbrowser.Call(b, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: entry.ID})
	})
}

// click presses the mouse on the first visible element that fits the selector.
func (b *tab) click(selector string) {
	b.t.Helper()
	testbrowser.Call(b, page.BringToFront, cdp.Empty{})
	at := testbrowser.Get[struct {
		X, Y float64
		Hit  string
	}](b, `(() => {
		const wanted = [...document.querySelectorAll(`+testbrowser.Quote(selector)+`)].find((e) => e.getClientRects().length);
		if (!wanted) throw new Error("nothing to click");
		wanted.scrollIntoView({ block: "center", behavior: "instant" });
		const r = wanted.getClientRects()[0];
		const x = r.left + r.width / 2, y = r.top + r.height / 2;
		const hit = document.elementFromPoint(x, y);
		return { X: x, Y: y, Hit: wanted === hit || wanted.contains(hit) ? "" : [hit?.outerHTML, x, y, innerWidth, innerHeight, scrollY].join() };
	})()`)
	if at.Hit != "" {
		b.t.Fatalf("at %s: %s is covered by %s", b.Location(), selector, at.Hit)
	}
	for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		testbrowser.Call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at.X, Y: at.Y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1})
	}
}

// follow clicks what leads to another page.
func (b *tab) follow(selector string) {
	b.t.Helper()
	b.leading(func() { b.click(selector) })
}

// fill types into a field, in place of what is in it.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.click(selector)
	testbrowser.Get[any](b, `document.querySelector(`+testbrowser.Quote(selector)+`).select()`)
	if text == "" {
		b.press("Backspace", 8)
		return
	}
	testbrowser.Call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// press presses a key that writes nothing.
func (b *tab) press(key string, code int64) {
	b.t.Helper()
	text := ""
	if key == "Enter" {
		text = "\r"
	}
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		testbrowser.Call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key, Code: key, WindowsVirtualKeyCode: code, Text: text})
		text = ""
	}
}

// has tells whether there is such an element.
func (b *tab) has(selector string) bool {
	b.t.Helper()
	return testbrowser.Get[bool](b, "document.querySelector("+testbrowser.Quote(selector)+") !== null")
}

// text is what can be read, in one element or, with "", on the page.
func (b *tab) text(selector string) string {
	b.t.Helper()
	if selector == "" {
		selector = "body"
	}
	return testbrowser.Get[string](b, "document.querySelector("+testbrowser.Quote(selector)+")?.innerText ?? ''")
}

// value is what stands in a field.
func (b *tab) value(selector string) string {
	b.t.Helper()
	return testbrowser.Get[string](b, "document.querySelector("+testbrowser.Quote(selector)+").value")
}

// reads checks that an element, or with "" the page, contains all texts.
func (b *tab) reads(selector string, texts ...string) {
	b.t.Helper()
	shown := b.text(selector)
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			b.t.Fatalf("at %s: %q does not say %q:\n%s", b.Location(), selector, text, shown)
		}
	}
}
