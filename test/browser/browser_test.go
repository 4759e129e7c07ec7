// Package browser drives the whole program the way people do: in a real Chromium,
// by mouse and keyboard, over HTTP. Nothing in it reaches the Internet.
//
//	go test ./test/browser/                     all of it
//	SCREENSHOTS=dir go test ./test/browser/     also writes pictures of the pages there
//
// Without Chromium the tests are skipped; see internal/testenv.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"login-server/internal/testenv"
)

// patience is how long a condition may take to become true.
const patience = 15 * time.Second

// chromium is the one browser process that all tests share.
var chromium struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop []func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range chromium.stop {
		stop()
	}
	program.remove()
	os.Exit(code)
}

// sharedBrowser starts Chromium at its first call.
func sharedBrowser(t testing.TB) context.Context {
	t.Helper()
	path := testenv.NeedChromium(t)
	chromium.once.Do(func() {
		dir, err := os.MkdirTemp("", "login-server-chromium-")
		if err != nil {
			chromium.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path),
			chromedp.UserDataDir(dir),
			chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true),
			chromedp.Flag("lang", "en-GB"),
			// Sites that are not localhost, without a name server.
			chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"),
		)
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stopBrowser := chromedp.NewContext(allocator)
		chromium.ctx = ctx
		chromium.stop = []func(){stopBrowser, stopAllocator, func() { _ = os.RemoveAll(dir) }}
		chromium.err = chromedp.Do(ctx)
	})
	if chromium.err != nil {
		t.Fatalf("start %s: %v", path, chromium.err)
	}
	return chromium.ctx
}

// person is somebody with a browser of their own: cookies, language, settings.
type person struct {
	script bool   // JavaScript is on
	accept string // what the browser sends as Accept-Language
	phone  bool
}

// tab is one page of a browser.
type tab struct {
	t   testing.TB
	ctx context.Context
	who person

	mu       sync.Mutex
	loads    int      // documents that have been loaded
	problems []string // what the console complained about
	allowed  []string // parts of complaints that the test provokes
}

// newTab opens a browser with cookies of its own. When the test ends, the console
// must be empty.
func newTab(t testing.TB, who person) *tab {
	t.Helper()
	return openTab(t, sharedBrowser(t), who, chromedp.WithNewBrowserContext())
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return openTab(b.t, b.ctx, b.who)
}

func openTab(t testing.TB, parent context.Context, who person, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, who: who}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Errorf("console: %s", p)
		}
	})
	b.ctx = ctx
	b.must(chromedp.Do(ctx))
	width, height, mobile := int64(1280), int64(800), false
	if who.phone {
		width, height, mobile = 390, 844, true
	}
	b.size(width, height, mobile)
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	if !who.script {
		call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	}
	if who.accept != "" {
		call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": json.RawMessage(`"` + who.accept + `"`)}})
	}
	return b
}

// listen is called for each event of the tab.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		for _, part := range b.allowed {
			if strings.Contains(text, part) {
				return
			}
		}
		b.problems = append(b.problems, text)
	}
	switch e := event.(type) {
	case *page.EventLoadEventFired:
		b.loads++
	case *page.EventFrameNavigated:
		if e.Type == page.NavigationTypeBackForwardCacheRestore && e.Frame.ParentID == "" {
			b.loads++
		}
	case *cdplog.EventEntryAdded:
		// Who is quicker than the page has focused a field before it could: a remark of
		// the browser, and right.
		if strings.HasPrefix(e.Entry.Text, "Autofocus processing was blocked") {
			return
		}
		complain("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventExceptionThrown:
		d := e.ExceptionDetails
		text := d.Text
		if d.Exception != nil {
			text += " " + d.Exception.Description
		}
		complain("exception: %s (%s:%d)", text, d.URL, d.LineNumber)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			complain("console.%s", e.Type)
		}
	}
}

// allow lets the console say what contains part.
func (b *tab) allow(parts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, parts...)
}

// allowStatus lets a document be answered with an error.
func (b *tab) allowStatus(codes ...int) {
	for _, code := range codes {
		b.allow(fmt.Sprintf("responded with a status of %d", code))
	}
}

// complaints returns what the console has said so far, and forgets it.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.problems
	b.problems = nil
	return p
}

func (b *tab) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// call sends a command of the DevTools protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// size is how large the window is.
func (b *tab) size(width, height int64, mobile bool) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: mobile,
	})
}

// dark switches between the light and the dark colours.
func (b *tab) dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"}, // no colours half-way between two
	}})
}

// evaluate asks the page, whether its own scripts may run or not.
func evaluate[T any](b *tab, expression string) (value T, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	yes := true
	result, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, AwaitPromise: &yes})
	if err != nil {
		return value, err
	}
	if d := result.ExceptionDetails; d != nil {
		if d.Exception != nil {
			return value, errors.New(d.Exception.Description)
		}
		return value, errors.New(d.Text)
	}
	if len(result.Result.Value) == 0 {
		return value, nil
	}
	return value, json.Unmarshal(result.Result.Value, &value)
}

// ask is evaluate for what must succeed.
func ask[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := evaluate[T](b, expression)
	if err != nil {
		b.t.Fatalf("at %s: %s: %v", b.location(), expression, err)
	}
	return value
}

// quote is s as a JavaScript string.
func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func (b *tab) location() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	where, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return where
}

// until waits for a condition.
func (b *tab) until(what string, condition func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			text, _ := evaluate[string](b, "document.body ? document.body.innerText : ''")
			b.t.Fatalf("waited in vain for %s at %s\n%s\n%s", what, b.location(), text, strings.Join(b.complaints(), "\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// untilTrue waits for a JavaScript expression to hold; pages may change meanwhile.
func (b *tab) untilTrue(expression string) {
	b.t.Helper()
	b.until(expression, func() bool {
		ok, err := evaluate[bool](b, "!!("+expression+")")
		return err == nil && ok
	})
}

// leading does something that leads to another page, and waits until it has loaded.
func (b *tab) leading(do func()) {
	b.t.Helper()
	count := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.loads
	}
	before := count()
	do()
	b.until("a page to load", func() bool { return count() > before })
}

// visit opens an address.
func (b *tab) visit(address string) {
	b.t.Helper()
	b.leading(func() {
		if result := call(b, page.Navigate, page.NavigateParams{URL: address}); result.ErrorText != "" {
			b.t.Fatalf("open %s: %s", address, result.ErrorText)
		}
	})
}

// reload opens the same address again.
func (b *tab) reload() {
	b.t.Helper()
	b.leading(func() { call(b, page.Reload, page.ReloadParams{}) })
}

// back is the back button of the browser.
func (b *tab) back() {
	b.t.Helper()
	history := call(b, page.GetNavigationHistory, cdp.Empty{})
	entry := history.Entries[history.CurrentIndex-1]
	b.leading(func() {
		call(b, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: entry.ID})
	})
}

// click presses the mouse on the first visible element that fits the selector.
func (b *tab) click(selector string) {
	b.t.Helper()
	call(b, page.BringToFront, cdp.Empty{})
	at := ask[struct {
		X, Y float64
		Hit  string
	}](b, `(() => {
		const wanted = [...document.querySelectorAll(`+quote(selector)+`)].find((e) => e.getClientRects().length);
		if (!wanted) throw new Error("nothing to click");
		wanted.scrollIntoView({ block: "center", behavior: "instant" });
		const r = wanted.getClientRects()[0];
		const x = r.left + r.width / 2, y = r.top + r.height / 2;
		const hit = document.elementFromPoint(x, y);
		return { X: x, Y: y, Hit: wanted === hit || wanted.contains(hit) ? "" : [hit?.outerHTML, x, y, innerWidth, innerHeight, scrollY].join() };
	})()`)
	if at.Hit != "" {
		b.t.Fatalf("at %s: %s is covered by %s", b.location(), selector, at.Hit)
	}
	for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at.X, Y: at.Y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1})
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
	ask[any](b, `document.querySelector(`+quote(selector)+`).select()`)
	if text == "" {
		b.press("Backspace", 8)
		return
	}
	call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// press presses a key that writes nothing.
func (b *tab) press(key string, code int64) {
	b.t.Helper()
	text := ""
	if key == "Enter" {
		text = "\r"
	}
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key, Code: key, WindowsVirtualKeyCode: code, Text: text})
		text = ""
	}
}

// has tells whether there is such an element.
func (b *tab) has(selector string) bool {
	b.t.Helper()
	return ask[bool](b, "document.querySelector("+quote(selector)+") !== null")
}

// text is what can be read, in one element or, with "", on the page.
func (b *tab) text(selector string) string {
	b.t.Helper()
	if selector == "" {
		selector = "body"
	}
	return ask[string](b, "document.querySelector("+quote(selector)+")?.innerText ?? ''")
}

// value is what stands in a field.
func (b *tab) value(selector string) string {
	b.t.Helper()
	return ask[string](b, "document.querySelector("+quote(selector)+").value")
}

// reads checks that an element, or with "" the page, contains all texts.
func (b *tab) reads(selector string, texts ...string) {
	b.t.Helper()
	shown := b.text(selector)
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			b.t.Fatalf("at %s: %q does not say %q:\n%s", b.location(), selector, text, shown)
		}
	}
}

// at checks the address, without the query unless there is one in want.
func (b *tab) at(want string) {
	b.t.Helper()
	got := b.location()
	if u, err := url.Parse(got); err == nil && !strings.Contains(want, "?") {
		u.RawQuery, u.Fragment = "", ""
		got = u.String()
	}
	if got != want {
		b.t.Fatalf("the address is %s, want %s:\n%s", b.location(), want, b.text(""))
	}
}

// forget clears the cookies of this browser.
func (b *tab) forget() {
	b.t.Helper()
	call(b, network.ClearBrowserCookies, cdp.Empty{})
}
