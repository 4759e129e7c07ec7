package openid

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"login-server/internal/testbrowser"
	"login-server/internal/testenv"
)

type appSettings struct {
	Issuer string `json:"issuer"`
	// Monitor: the application watches the session in a frame of the server.
	Monitor bool `json:"monitor"`
}

// startApp serves the application in app/ with its library, at an origin of its own: another
// site than the server's. What settings point at may be filled in later.
func startApp(t testing.TB, settings *appSettings) *httptest.Server {
	mux := http.NewServeMux()
	serve := func(path, file string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	}
	serve("/{$}", "app/index.html")
	serve("/bye", "app/index.html")
	serve("/silent", "app/index.html")
	serve("/app.js", "app/app.js")
	serve("/oidc-client-ts.js", "node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js")
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /settings.json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(settings)
	})
	return startTLS(t, mux)
}

// startTLS serves at https://127.0.0.1, with the certificate of the test.
func startTLS(t testing.TB, handler http.Handler) *httptest.Server {
	t.Helper()
	prepare(t)
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{shared.certificate}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// heard is a message that the application got from the events of its session.
type heard struct {
	Type    string          `json:"type"`
	Content json.RawMessage `json:"content"`
	At      int64           `json:"at"` // ms since 1970
}

func (h heard) time() time.Time { return time.UnixMilli(h.At) }

// hear waits for the application to hear something, by the socket or the stream.
func (b *tab) hear(by, kind string) heard {
	b.t.Helper()
	return testbrowser.Wait[heard](b, `app.heard.find(m => m.by === `+testbrowser.Quote(by)+` && m.type === `+testbrowser.Quote(kind)+`) ?? null`)
}

// signInTo has the application sign somebody in, through the pages of the server.
func (b *tab) signInTo(app, name string, consent bool) {
	b.t.Helper()
	b.Visit(app + "/")
	testbrowser.Wait[bool](b, `window.app ? true : null`)
	b.Leave(`app.manager.signinRedirect({ state: "kept" })`)
	b.signIn(name)
	if consent {
		b.Click("#consent-allow")
	}
	testbrowser.Wait[bool](b, `window.app && !window.left && location.pathname === "/" ? true : null`)
	if problem := testbrowser.Get[*string](b, `app.error`); problem != nil {
		b.t.Fatalf("the application says: %s", *problem)
	}
}

// TestBrowserApplication is an application without a server, on another site, with
// oidc-client-ts: a public client that has no cookies of ours.
func TestBrowserApplication(t *testing.T) {
	t.Parallel()
	testenv.NeedChromium(t)
	testenv.NeedPackages(t, ".", "oidc-client-ts")
	settings := &appSettings{}
	app := startApp(t, settings)
	s := startServer(t, []object{{
		"url": app.URL + "/", "name": "Browser application", "client_id": "spa", "token_endpoint_auth_method": "none",
		"redirect_uris": []string{app.URL + "/"}, "post_logout_redirect_uris": []string{app.URL + "/bye"}, "origins": []string{app.URL},
	}})
	settings.Issuer = s.issuer
	page := newTab(t, s)

	signIn := func(consent bool) {
		t.Helper()
		page.signInTo(app.URL, "ada", consent)
	}
	signIn(true)

	type user struct {
		Profile struct {
			Sub, Name, Sid string
		} `json:"profile"`
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		State        string `json:"state"`
		Scope        string `json:"scope"`
	}
	const current = `JSON.parse(app.user.toStorageString())`
	first := testbrowser.Get[user](page, current)
	if first.Profile.Name != "Ada" || first.Profile.Sub == "" || first.Profile.Sid == "" {
		t.Errorf("userinfo by CORS has given %+v", first.Profile)
	}
	if state := testbrowser.Get[string](page, `app.user.state`); state != "kept" {
		t.Errorf("the application's state is %q", state)
	}

	// Renewed by the refresh token: without a frame, and without cookies of another site.
	renewed := testbrowser.Get[user](page, `app.manager.signinSilent().then(user => (app.user = user, `+current+`))`)
	if renewed.AccessToken == first.AccessToken || renewed.RefreshToken == first.RefreshToken || renewed.Profile.Sub != first.Profile.Sub {
		t.Errorf("renewed: the tokens are the old ones, or somebody else's: %+v", renewed.Profile)
	}

	// The events of the session, with the access token.
	testbrowser.Get[any](page, `void app.listen()`)
	testbrowser.Get[any](page, `app.stream()`)
	for _, by := range []string{"socket", "stream"} {
		var told struct {
			User struct{ Sub, Name string }
			Sid  string
		}
		if err := json.Unmarshal(page.hear(by, "loggedIn").Content, &told); err != nil || told.User.Sub != first.Profile.Sub || told.User.Name != "Ada" || told.Sid != first.Profile.Sid {
			t.Errorf("%s: loggedIn says %+v (%v), the ID Token %+v", by, told, err, first.Profile)
		}
		var next struct{ Token string }
		if err := json.Unmarshal(page.hear(by, "token").Content, &next); err != nil {
			t.Fatal(err)
		}
		if status := testbrowser.Get[int](page, `app.userinfo(`+testbrowser.Quote(next.Token)+`)`); status != http.StatusOK {
			t.Errorf("%s: userinfo says %d to the token", by, status)
		}
	}
	person := page.another()
	person.Visit(s.url("account"))
	person.See("header a[href$=logout]")
	testbrowser.Get[any](page, `void (app.heard.length = 0)`) // before it was somebody's, the socket was told that nobody is signed in
	before := time.Now()
	person.Click("header a[href$=logout]")
	for _, by := range []string{"socket", "stream"} {
		if took := page.hear(by, "loggedOut").time().Sub(before); took > promptly {
			t.Errorf("%s: the application heard of signing out after %v", by, took)
		}
	}
	if code := string(page.hear("socket", "closed").Content); code != "1008" {
		t.Errorf("the socket was closed with %s", code)
	}
	if outcome := testbrowser.Get[string](page, `app.manager.signinSilent().then(() => "renewed", e => e.error)`); outcome != "invalid_grant" {
		t.Errorf("refreshing after signing out: %s", outcome)
	}
	if status := testbrowser.Get[int](page, `app.userinfo(app.user.access_token)`); status != http.StatusUnauthorized {
		t.Errorf("userinfo after signing out: %d", status)
	}

	// The application gives its access token back, and then signs out itself.
	signIn(false)
	if status := testbrowser.Get[int](page, `app.manager.revokeTokens(["access_token"]).then(() => app.userinfo(app.user.access_token))`); status != http.StatusUnauthorized {
		t.Errorf("userinfo after revocation: %d", status)
	}
	page.Leave(`app.manager.signoutRedirect({ state: "goodbye" })`)
	testbrowser.Wait[bool](page, `window.app && !window.left && location.pathname === "/bye" ? true : null`)
	if got, _ := url.Parse(page.Location()); got.Query().Get("state") == "" || len(got.Query()) != 1 {
		t.Errorf("signed out, the browser is at %s", got)
	}
	if kept := testbrowser.Get[*string](page, `app.signedOut?.userState ?? app.error`); kept == nil || *kept != "goodbye" {
		t.Errorf("signing out has come back with %v", kept)
	}
	page.Visit(s.url("account"))
	page.See(`a.provider[href*="login/test"]`)

	// The pages of another origin get nothing, even with a good token.
	t.Run("another origin", func(t *testing.T) {
		signIn(false)
		token := testbrowser.Get[string](page, `app.user.access_token`)
		elsewhere := newTab(t, s)
		elsewhere.Allow("") // to be held back
		elsewhere.Visit(startApp(t, settings).URL + "/settings.json")
		status := testbrowser.Get[string](elsewhere, `fetch(`+testbrowser.Quote(s.url("oauth/userinfo"))+`, {headers: {authorization: "Bearer `+token+`"}}).then(r => String(r.status), e => e.name)`)
		if status != "TypeError" {
			t.Errorf("userinfo: %s", status)
		}
		socket := testbrowser.Get[string](elsewhere, `new Promise(done => {
			const socket = new WebSocket(`+testbrowser.Quote("wss"+s.issuer[len("https"):]+"/")+`)
			socket.onmessage = ({ data }) => done(data)
			socket.onclose = () => done("closed")
		})`)
		if socket != "closed" {
			t.Errorf("socket: %s", socket)
		}
	})
}

// TestSessionManagement (rule 40) is the same application on the site of the server, where a
// frame of the server's has its cookies: it watches the session there, and looks after it
// with prompt=none.
func TestSessionManagement(t *testing.T) {
	t.Parallel()
	testenv.NeedChromium(t)
	testenv.NeedPackages(t, ".", "oidc-client-ts")
	settings := &appSettings{Monitor: true}
	app := strings.Replace(startApp(t, settings).URL, "127.0.0.1", "localhost", 1)
	s := startServer(t, []object{{
		"url": app + "/", "name": "Browser application", "client_id": "spa", "token_endpoint_auth_method": "none", "trusted": true,
		"redirect_uris": []string{app + "/", app + "/silent"}, "origins": []string{app}, "grant_types": []string{"authorization_code"},
	}})
	settings.Issuer = s.issuer
	page := newTab(t, s)
	page.signInTo(app, "cleo", false)

	// Without a refresh token the library asks in a frame.
	const profile = `JSON.stringify([app.user.profile.sub, app.user.profile.sid, app.user.profile.auth_time])`
	first := testbrowser.Get[string](page, profile)
	if again := testbrowser.Get[string](page, `app.manager.signinSilent().then(user => (app.user = user, `+profile+`))`); again != first {
		t.Errorf("renewed in a frame, the ID Token says %s, and said %s", again, first)
	}
	if n := testbrowser.Get[int](page, `app.heard.length`); n != 0 {
		t.Error("the application was told that the person has signed out, before they did")
	}
	page.another().signOut()
	page.hear("frame", "signedOut")
}
