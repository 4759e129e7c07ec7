package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"login-server/internal/testenv"
)

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
	if program.dir != "" {
		_ = os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// needAll skips the test unless everything is there that it takes.
func needAll(t testing.TB) {
	t.Helper()
	testenv.NeedChromium(t)
	testenv.NeedNode(t, 20)
	testenv.NeedPackages(t, ".", "oidc-provider")
	testenv.NeedPackages(t, ".", "oauth2-mock-server")
}

func sharedBrowser(t testing.TB) context.Context {
	t.Helper()
	path := testenv.NeedChromium(t)
	chromium.once.Do(func() {
		dir, err := os.MkdirTemp("", "login-server-chromium-")
		if err != nil {
			chromium.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.DisableGPU,
			chromedp.WSURLReadTimeout(time.Minute), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
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

// tab is one page of a browser.
type tab struct {
	t      testing.TB
	ctx    context.Context
	server *loginServer

	held chan fetch.RequestID // requests that wait: see holding

	mu       sync.Mutex
	problems []string // what the console complained about on our pages
	allowed  []string // parts of complaints that the test provokes
}

// newTab opens a browser with cookies of its own, where people read a language first. When
// the test ends, our pages must have had nothing to complain about.
func newTab(t testing.TB, server *loginServer, language string) *tab {
	t.Helper()
	b := openTab(t, sharedBrowser(t), server, chromedp.WithNewBrowserContext())
	// Our /currentUser says 401 to nobody, which the browser remarks on.
	b.allowStatus(http.StatusUnauthorized)
	send(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": json.RawMessage(`"` + language + `"`)}})
	return b
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return openTab(b.t, b.ctx, b.server)
}

// in is the tab in a part of the test.
func (b *tab) in(t testing.TB) *tab {
	return &tab{t: t, ctx: b.ctx, server: b.server, held: b.held}
}

// forget takes the cookies away.
func (b *tab) forget() {
	b.t.Helper()
	send(b, network.ClearBrowserCookies, cdp.Empty{})
}

func openTab(t testing.TB, parent context.Context, server *loginServer, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, server: server, held: make(chan fetch.RequestID, 8)}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, problem := range b.problems {
			t.Errorf("console: %s", problem)
		}
	})
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return b
}

// listen is called for each event of the tab.
func (b *tab) listen(event any) {
	switch e := event.(type) {
	case *fetch.EventRequestPaused:
		b.held <- e.RequestID
	case *cdplog.EventEntryAdded:
		// What a page of the provider does is not ours to judge, except that it may be held
		// back by a rule of ours.
		if !strings.HasPrefix(e.Entry.URL, b.server.base) && e.Entry.Source != cdplog.EntrySourceSecurity {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !slices.ContainsFunc(b.allowed, func(part string) bool { return strings.Contains(e.Entry.Text, part) }) {
			b.problems = append(b.problems, string(e.Entry.Source)+": "+e.Entry.Text+" ("+e.Entry.URL+")")
		}
	}
}

// allowStatus lets documents be answered with errors.
func (b *tab) allowStatus(codes ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, code := range codes {
		b.allowed = append(b.allowed, fmt.Sprintf("responded with a status of %d", code))
	}
}

// holding holds the request for an address back that something leads to, for as long as
// something else happens.
func (b *tab) holding(address string, lead, meanwhile func()) {
	b.t.Helper()
	send(b, fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: address + "*"}}})
	lead()
	select {
	case id := <-b.held:
		meanwhile()
		send(b, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: id})
	case <-time.After(patience):
		b.t.Fatalf("no request for %s, at %s", address, b.location())
	}
	send(b, fetch.Disable, cdp.Empty{})
}

// do carries out steps; if one fails, it shows the page and ends the test.
func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.fail(what, err)
	}
}

func (b *tab) fail(what string, err error) {
	b.t.Helper()
	text, _ := evaluate[string](b, `document.body.innerText`)
	b.t.Fatalf("%s: %v\nat %s\n%s", what, err, b.location(), text)
}

func (b *tab) visit(path string) {
	b.t.Helper()
	b.do("open "+path, chromedp.Navigate(b.server.base+path))
}

// see waits for something to be there, on a page that a click has led to, and returns its
// text.
func (b *tab) see(selector string) string {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		text, err := evaluate[*string](b, `(() => {
			const wanted = document.querySelector(`+quote(selector)+`)
			return !window.left && wanted?.getClientRects().length ? wanted.innerText : null
		})()`)
		switch {
		case err == nil && text != nil:
			return *text
		case time.Now().After(deadline): // errors are those of pages that go away
			b.fail("see "+selector, err)
		}
	}
}

// click presses what leads to another page, as soon as it is there.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.see(selector)
	get[bool](b, `window.left = true`)
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.see(selector)
	b.do("fill "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// reads waits for an element and checks its text.
func (b *tab) reads(selector, want string) {
	b.t.Helper()
	if got := b.see(selector); !strings.Contains(got, want) {
		b.t.Errorf("at %s: %s says %q, not %q", b.location(), selector, got, want)
	}
}

// at checks the address without its query.
func (b *tab) at(want string) {
	b.t.Helper()
	if got, _, _ := strings.Cut(b.location(), "?"); got != want {
		b.t.Fatalf("the address is %s, want %s", b.location(), want)
	}
}

func (b *tab) location() string {
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	where, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return where
}

// evaluate asks the page; the answer may be a promise.
func evaluate[T any](b *tab, expression string) (T, error) {
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// get is evaluate for what must succeed.
func get[T any](b *tab, expression string) T {
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

// send is a command of the DevTools protocol that answers nothing of interest.
func send[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
}

// shot writes pictures of the page, as on a desk and on a phone, light and dark, if
// pictures are wanted.
func (b *tab) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	for kind, width := range map[string]int64{"desk": 1280, "phone": 390} {
		send(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: kind == "phone"})
		for _, scheme := range []string{"light", "dark"} {
			send(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme},
				{Name: "prefers-reduced-motion", Value: "reduce"}, // no colours half-way between two
			}})
			ctx, stop := context.WithTimeout(b.ctx, patience)
			picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			stop()
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name+"-"+kind+"-"+scheme+".png"), picture, 0o644)
			}
			if err != nil {
				b.t.Fatal(err)
			}
		}
	}
}
