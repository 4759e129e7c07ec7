package upstream

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"

	"login-server/internal/testbrowser"
	"login-server/internal/testenv"
	"login-server/internal/testprogram"
)

// chromium is the one browser that all tests share.
var chromium testbrowser.Browser

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.End()
	testprogram.Remove()
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

// tab is one page of a browser.
type tab struct {
	*testbrowser.Tab
	t        testing.TB
	server   *loginServer
	language string
	held     chan fetch.RequestID // requests that wait: see holding
}

// newTab opens a browser with cookies of its own, where people read a language first. When
// the test ends, our pages must have had nothing to complain about.
func newTab(t testing.TB, server *loginServer, language string) *tab {
	t.Helper()
	b := &tab{t: t, server: server, language: language, held: make(chan fetch.RequestID, 8)}
	b.Tab = chromium.New(t, b.options())
	// Our /currentUser says 401 to nobody, which the browser remarks on.
	b.AllowStatus(http.StatusUnauthorized)
	return b
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	other := &tab{t: b.t, server: b.server, language: b.language, held: make(chan fetch.RequestID, 8)}
	other.Tab = b.Another(other.options())
	return other
}

// in is the tab in a part of the test.
func (b *tab) in(t testing.TB) *tab {
	return &tab{Tab: b.In(t), t: t, server: b.server, language: b.language, held: b.held}
}

func (b *tab) options() testbrowser.Options {
	return testbrowser.Options{
		Language: b.language,
		// What a page of the provider does is not ours to judge, except that it may be held
		// back by a rule of ours.
		Minds: func(c testbrowser.Complaint) bool { return c.Security() || strings.HasPrefix(c.URL, b.server.Base) },
		Listen: func(event any) {
			if e, ok := event.(*fetch.EventRequestPaused); ok {
				b.held <- e.RequestID
			}
		},
	}
}

// visit opens a page of ours.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.Visit(b.server.Base + path)
}

// holding holds the request for an address back that something leads to, for as long as
// something else happens.
func (b *tab) holding(address string, lead, meanwhile func()) {
	b.t.Helper()
	testbrowser.Call(b, fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: address + "*"}}})
	lead()
	select {
	case id := <-b.held:
		meanwhile()
		testbrowser.Call(b, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: id})
	case <-time.After(testprogram.Patience):
		b.t.Fatalf("no request for %s, at %s", address, b.Location())
	}
	testbrowser.Call(b, fetch.Disable, cdp.Empty{})
}
