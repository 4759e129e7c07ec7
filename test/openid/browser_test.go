package openid

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"login-server/internal/testenv"
)

// chromium is the one browser that all tests share.
var chromium browser

type browser struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop []func()
}

func (b *browser) end() {
	for _, stop := range b.stop {
		stop()
	}
}

// started is the running browser. It trusts the certificate of the test by its key.
func (b *browser) started(t testing.TB) context.Context {
	t.Helper()
	path := testenv.NeedChromium(t)
	prepare(t)
	b.once.Do(func() {
		dir, err := os.MkdirTemp("", "login-server-chromium-")
		if err != nil {
			b.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.DisableGPU,
			chromedp.WSURLReadTimeout(time.Minute), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("ignore-certificate-errors-spki-list", shared.pin))
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

// tab is one page of a browser.
type tab struct {
	t      testing.TB
	ctx    context.Context
	server *server

	mu       sync.Mutex
	problems []string // what was held back by a security rule
	expected bool     // to have some of them
}

// newTab opens a browser with cookies of its own.
func newTab(t testing.TB, s *server) *tab {
	t.Helper()
	return openTab(t, chromium.started(t), s, chromedp.WithNewBrowserContext())
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return openTab(b.t, b.ctx, b.server)
}

func openTab(t testing.TB, parent context.Context, s *server, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, server: s}
	ctx, cancel := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.expected {
			return
		}
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

// listen is called for each event of the tab. What a policy or CORS holds back is said in
// the console, and nowhere else.
func (b *tab) listen(event any) {
	e, ok := event.(*cdplog.EventEntryAdded)
	if !ok || e.Entry.Source != cdplog.EntrySourceSecurity && !strings.Contains(e.Entry.Text, "CORS") {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, string(e.Entry.Source)+": "+e.Entry.Text+" ("+e.Entry.URL+")")
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
	text, _ := evaluate[string](b, `document.body.innerText + (window.app ? "\n" + JSON.stringify([app.error, app.heard]) : "")`)
	b.t.Fatalf("%s: %v\nat %s\n%s", what, err, b.location(), text)
}

func (b *tab) visit(address string) {
	b.t.Helper()
	b.do("open "+address, chromedp.Navigate(address))
}

// see waits for something to be there, on a page that a click has led to, and returns its
// text.
func (b *tab) see(selector string) string {
	b.t.Helper()
	return until[string](b, `(() => {
		const wanted = document.querySelector(`+quote(selector)+`)
		return !window.left && wanted?.getClientRects().length ? wanted.innerText : null
	})()`)
}

// until waits for an expression to be something else than null, whatever page is there by
// then.
func until[T any](b *tab, expression string) T {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		value, err := evaluate[*T](b, expression)
		switch {
		case err == nil && value != nil:
			return *value
		case time.Now().After(deadline): // errors are those of pages that go away
			b.fail("wait for "+expression, err)
		}
	}
}

// click presses what leads to another page, as soon as it is there.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.see(selector)
	b.leave(`void 0`)
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// leave has a script lead to another page.
func (b *tab) leave(script string) {
	b.t.Helper()
	if _, err := evaluate[bool](b, `(`+script+`, window.left = true)`); err != nil {
		b.fail(script, err)
	}
}

func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.see(selector)
	b.do("fill "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// signIn goes on from the login page, to where it leads.
func (b *tab) signIn(name string) {
	b.t.Helper()
	b.click(`a.provider[href*="login/test"]`)
	b.fill("#username", name)
	b.fill("#password", name+"-pass")
	b.click("#login-submit")
}

// signOut signs out on the account page.
func (b *tab) signOut() {
	b.t.Helper()
	b.visit(b.server.url("account"))
	b.click(`header a[href$="logout"]`)
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
		b.fail(expression, err)
	}
	return value
}

// quote is s as a JavaScript string.
func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}
