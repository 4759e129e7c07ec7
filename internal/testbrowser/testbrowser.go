// Package testbrowser drives a real Chromium as tests of pages need it: one browser for all
// tests of a package, people with cookies of their own in it, and an eye on what its console
// complains about.
//
// With SCREENSHOTS=dir in the environment, pictures of pages are written there.
package testbrowser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"login-server/internal/testenv"
)

// Patience is how long a page may take for something.
const Patience = 30 * time.Second

// Browser is one Chromium, which the first tab starts.
type Browser struct {
	// Flags are of its command line, beside those that it always has; may be nil.
	Flags func(testing.TB) map[string]any

	once sync.Once
	ctx  context.Context
	err  error
	stop []func()
}

// End ends it, if it runs. It belongs at the end of TestMain.
func (b *Browser) End() {
	for _, stop := range b.stop {
		stop()
	}
}

func (b *Browser) started(t testing.TB) context.Context {
	t.Helper()
	path := testenv.NeedChromium(t)
	var flags map[string]any
	if b.Flags != nil {
		flags = b.Flags(t)
	}
	b.once.Do(func() {
		dir, err := os.MkdirTemp("", "login-server-chromium-")
		if err != nil {
			b.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.DisableGPU,
			chromedp.WSURLReadTimeout(time.Minute), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
		for name, value := range flags {
			options = append(options, chromedp.Flag(name, value))
		}
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stopBrowser := chromedp.NewContext(allocator)
		b.ctx, b.stop = ctx, []func(){stopBrowser, stopAllocator, func() { _ = os.RemoveAll(dir) }}
		b.err = chromedp.Do(ctx)
	})
	if b.err != nil {
		t.Fatalf("start %s: %v", path, b.err)
	}
	return b.ctx
}

// Options of a tab.
type Options struct {
	// Language is what it sends as Accept-Language, unless "".
	Language string
	// Minds tells which complaints of the console are a failure of the test. Without it,
	// all are.
	Minds func(Complaint) bool
	// Explain is a JavaScript expression for what to show of a page at which a test fails.
	// Without it, that is the text of the page.
	Explain string
	// Listen is called for each event of the tab, unless it is nil. It must not wait.
	Listen func(event any)
}

// Complaint is what the console says of a page.
type Complaint struct {
	// Source is "exception", "console.error", "console.warning", or where in the browser it
	// comes from: "security", "network", "javascript" and others.
	Source string
	Text   string
	URL    string // of what it is about; may be ""
}

func (c Complaint) String() string { return c.Source + ": " + c.Text + " (" + c.URL + ")" }

// Security says that a rule of a page has held something back.
func (c Complaint) Security() bool { return c.Source == string(cdplog.EntrySourceSecurity) }

// Tab is one page of a browser.
type Tab struct {
	t testing.TB
	*shared
}

// shared is what a tab has in common with itself in parts of a test.
type shared struct {
	ctx     context.Context
	options Options

	mu       sync.Mutex
	problems []Complaint
	allowed  []string // parts of complaints that the test provokes
}

// New opens a tab with cookies of its own. When the test ends, the console must have had
// nothing to complain about.
func (b *Browser) New(t testing.TB, o Options) *Tab {
	t.Helper()
	return open(t, b.started(t), o, chromedp.WithNewBrowserContext())
}

// Another opens one more tab with the same cookies.
func (b *Tab) Another(o Options) *Tab {
	b.t.Helper()
	return open(b.t, b.ctx, o)
}

// In is the tab in a part of the test.
func (b *Tab) In(t testing.TB) *Tab { return &Tab{t: t, shared: b.shared} }

func open(t testing.TB, parent context.Context, o Options, options ...chromedp.ContextOption) *Tab {
	t.Helper()
	b := &Tab{t: t, shared: &shared{options: o}}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	t.Cleanup(func() {
		cancel()
		for _, c := range b.Complaints() {
			t.Errorf("console: %s", c)
		}
	})
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	if o.Language != "" {
		Call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": json.RawMessage(Quote(o.Language))}})
	}
	return b
}

// listen is called for each event of the tab.
func (b *shared) listen(event any) {
	if b.options.Listen != nil {
		b.options.Listen(event)
	}
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		// Who is quicker than the page has focused a field before it could: a remark of
		// the browser, and right.
		if !strings.HasPrefix(e.Entry.Text, "Autofocus processing was blocked") {
			b.complain(Complaint{string(e.Entry.Source), e.Entry.Text, e.Entry.URL})
		}
	case *runtime.EventExceptionThrown:
		d := e.ExceptionDetails
		text := d.Text
		if d.Exception != nil {
			text += " " + d.Exception.Description
		}
		b.complain(Complaint{"exception", fmt.Sprintf("%s, line %d", text, d.LineNumber), d.URL})
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.complain(Complaint{Source: "console." + string(e.Type)})
		}
	}
}

func (b *shared) complain(c Complaint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.options.Minds != nil && !b.options.Minds(c) {
		return
	}
	for _, part := range b.allowed {
		if strings.Contains(c.Text, part) {
			return
		}
	}
	b.problems = append(b.problems, c)
}

// Allow lets the console say what contains a part; "" is a part of everything.
func (b *shared) Allow(parts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, parts...)
}

// AllowStatus lets what a page asks for be answered with errors.
func (b *shared) AllowStatus(codes ...int) {
	for _, code := range codes {
		b.Allow(fmt.Sprintf("responded with a status of %d", code))
	}
}

// Complaints is what the console has said so far. The tab forgets it.
func (b *shared) Complaints() []Complaint {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.problems
	b.problems = nil
	return c
}

// Do carries out steps; if one fails, it shows the page and ends the test.
func (b *Tab) Do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, Patience)
	defer stop()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.Fail(what, err)
	}
}

// Fail shows the page and ends the test.
func (b *Tab) Fail(what string, err error) {
	b.t.Helper()
	explain := b.options.Explain
	if explain == "" {
		explain = `document.body?.innerText ?? ""`
	}
	shown, _ := Evaluate[string](b, explain)
	b.t.Fatalf("%s: %v\nat %s\n%s\n%v", what, err, b.Location(), shown, b.Complaints())
}

// Visit opens an address.
func (b *Tab) Visit(address string) {
	b.t.Helper()
	b.Do("open "+address, chromedp.Navigate(address))
}

// Location is the address of the page.
func (b *Tab) Location() string {
	ctx, stop := context.WithTimeout(b.ctx, Patience)
	defer stop()
	where, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return where
}

// At checks the address, without the query unless there is one in want.
func (b *Tab) At(want string) {
	b.t.Helper()
	got := b.Location()
	if u, err := url.Parse(got); err == nil && !strings.Contains(want, "?") {
		u.RawQuery, u.Fragment = "", ""
		got = u.String()
	}
	if got != want {
		b.Fail("the address", fmt.Errorf("is not %s", want))
	}
}

// See waits for something to be there, on a page that a click has led to, and returns its
// text.
func (b *Tab) See(selector string) string {
	b.t.Helper()
	return Wait[string](b, `(() => {
		const wanted = document.querySelector(`+Quote(selector)+`)
		return !window.left && wanted?.getClientRects().length ? wanted.innerText : null
	})()`)
}

// Reads waits for an element and checks its text.
func (b *Tab) Reads(selector, want string) {
	b.t.Helper()
	if got := b.See(selector); !strings.Contains(got, want) {
		b.t.Errorf("at %s: %s says %q, not %q", b.Location(), selector, got, want)
	}
}

// Click presses what leads to another page, as soon as it is there.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	b.See(selector)
	b.Leave(`void 0`)
	b.Do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// Leave has a script lead to another page.
func (b *Tab) Leave(script string) {
	b.t.Helper()
	Get[bool](b, `(`+script+`, window.left = true)`)
}

// Fill types into a field, as soon as it is there.
func (b *Tab) Fill(selector, text string) {
	b.t.Helper()
	b.See(selector)
	b.Do("fill "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Forget takes the cookies away.
func (b *Tab) Forget() {
	b.t.Helper()
	Call(b, network.ClearBrowserCookies, cdp.Empty{})
}

// Until waits for a condition.
func (b *Tab) Until(what string, condition func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(Patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fail("wait for "+what, context.DeadlineExceeded)
		}
	}
}

// UntilTrue waits for a JavaScript expression to hold; pages may change meanwhile.
func (b *Tab) UntilTrue(expression string) {
	b.t.Helper()
	b.Until(expression, func() bool {
		ok, err := Evaluate[bool](b, "!!("+expression+")")
		return err == nil && ok
	})
}

// Size is how large the window is.
func (b *Tab) Size(width, height int64, mobile bool) {
	b.t.Helper()
	Call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: mobile,
	})
}

// Dark switches between the light and the dark colours.
func (b *Tab) Dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	Call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"}, // no colours half-way between two
	}})
}

// Shot writes a picture of the whole page as it is now, if pictures are wanted.
func (b *Tab) Shot(name string) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	size := Call(b, page.GetLayoutMetrics, cdp.Empty{}).CSSContentSize
	beyond := true
	picture := Call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{
		CaptureBeyondViewport: &beyond,
		Clip:                  &page.Viewport{Width: size.Width, Height: size.Height, Scale: 1},
	})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture.Data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// Shots writes pictures of the page, as on a desk and on a phone, light and dark, if
// pictures are wanted.
func (b *Tab) Shots(name string) {
	b.t.Helper()
	if os.Getenv("SCREENSHOTS") == "" {
		return
	}
	for _, view := range []struct {
		name  string
		width int64
	}{{"phone", 390}, {"desk", 1280}} {
		b.Size(view.width, 800, view.name == "phone")
		b.Dark(true)
		b.Shot(name + "-" + view.name + "-dark")
		b.Dark(false)
		b.Shot(name + "-" + view.name + "-light")
	}
}

// On is a Tab, or what has one embedded.
type On interface{ tab() *Tab }

func (b *Tab) tab() *Tab { return b }

// Evaluate asks the page, whether its own scripts may run or not; the answer may be a
// promise.
func Evaluate[T any](on On, expression string) (value T, err error) {
	ctx, stop := context.WithTimeout(on.tab().ctx, Patience)
	defer stop()
	yes := true
	result, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, AwaitPromise: &yes})
	if err != nil {
		return value, err
	}
	if d := result.ExceptionDetails; d != nil {
		if d.Exception != nil && d.Exception.Description != "" {
			return value, errors.New(d.Exception.Description)
		}
		return value, errors.New(d.Text)
	}
	if len(result.Result.Value) == 0 { // undefined
		return value, nil
	}
	return value, json.Unmarshal(result.Result.Value, &value)
}

// Get is Evaluate for what must succeed.
func Get[T any](on On, expression string) T {
	b := on.tab()
	b.t.Helper()
	value, err := Evaluate[T](b, expression)
	if err != nil {
		b.Fail(expression, err)
	}
	return value
}

// Wait waits for an expression to be something else than null, whatever page is there by
// then.
func Wait[T any](on On, expression string) T {
	b := on.tab()
	b.t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(5 * time.Millisecond) {
		value, err := Evaluate[*T](b, expression)
		switch {
		case err == nil && value != nil:
			return *value
		case time.Now().After(deadline): // errors are those of pages that go away
			b.Fail("wait for "+expression, err)
		}
	}
}

// Call sends a command of the DevTools protocol.
func Call[P, R any](on On, command cdp.Command[P, R], params P) R {
	b := on.tab()
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, Patience)
	defer stop()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// Quote is s as a JavaScript string.
func Quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}
