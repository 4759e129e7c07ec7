package web_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/providers"
)

// Logins at other servers: the real strategy github, and a server that plays GitHub.

// upstream is a server where people sign in, as GitHub does it. It checks what it is sent
// as strictly as the specifications allow.
type upstream struct {
	t        *testing.T
	http     *httptest.Server
	callback string // the one that is registered

	mu     sync.Mutex
	codes  map[string]grant
	tokens map[string]string // access token → login
	// said is what must not stand in a log: codes, tokens, states.
	said []string
	// fault answers in place of a path; nil is no fault.
	fault map[string]http.HandlerFunc
}

type grant struct{ login, challenge, redirect string }

const (
	clientID     = "client-id-of-the-tests"
	clientSecret = "client-secret-of-the-tests"
)

// people are the accounts at every upstream, as GET /user shows them.
var people = map[string]string{
	"ada": `{"id": 583231, "login": "ada", "name": "Ada L."}`,
	"ben": `{"id": 583232, "login": "ben", "name": null}`,
	"eve": `{"id": 666, "login": "eve", "name": "Eve"}`,
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t: t, codes: map[string]grant{}, tokens: map[string]string{}, said: []string{clientSecret}, fault: map[string]http.HandlerFunc{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", u.authorize)
	mux.HandleFunc("POST /token", u.token)
	mux.HandleFunc("GET /user", u.user)
	u.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if fault := u.fault[r.URL.Path]; fault != nil {
			fault(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(u.http.Close)
	return u
}

// options is the entry of providers.json.
func (u *upstream) options() string {
	return fmt.Sprintf(`{"clientID": %q, "clientSecret": %q, "authorizationURL": "%[3]s/authorize", "tokenURL": "%[3]s/token", "profileURL": "%[3]s/user"}`,
		clientID, clientSecret, u.http.URL)
}

// answer sets what a path answers instead; status 0 ends that.
func (u *upstream) answer(path string, status int, body string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if status == 0 {
		delete(u.fault, path)
		return
	}
	u.fault[path] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func (u *upstream) secret(prefix string) string {
	text := prefix + rand.Text()
	u.said = append(u.said, text)
	return text
}

// authorize is RFC 6749, 4.1.1, and RFC 7636, 4.3. Who is signed in here stands in a header.
func (u *upstream) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": clientID, "redirect_uri": u.callback, "code_challenge_method": "S256"} {
		if q.Get(name) != want || len(q[name]) != 1 {
			u.t.Errorf("authorize: %s is %q, want %q", name, q[name], want)
		}
	}
	if len(q.Get("state")) < 22 || len(q.Get("code_challenge")) != 43 || q.Has("client_secret") {
		u.t.Errorf("authorize: %s", r.URL.RawQuery)
	}
	u.said = append(u.said, q.Get("state"))
	back := url.Values{"state": {q.Get("state")}}
	if says := r.Header.Get("X-Says"); says != "" {
		back.Set("error", says)
	} else {
		code := u.secret("code-")
		u.codes[code] = grant{r.Header.Get("X-Login"), q.Get("code_challenge"), q.Get("redirect_uri")}
		back.Set("code", code)
	}
	http.Redirect(w, r, u.callback+"?"+back.Encode(), http.StatusFound)
}

// token is RFC 6749, 4.1.3, and RFC 7636, 4.5. A code is gone once it was shown. As GitHub
// it answers errors with 200.
func (u *upstream) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	refuse := func(code string) { fmt.Fprintf(w, `{"error": %q, "error_description": "refused"}`, code) }
	if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" {
		u.t.Errorf("token: %v, query %q", err, r.URL.RawQuery)
	}
	code := r.PostForm.Get("code")
	g, known := u.codes[code]
	delete(u.codes, code)
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case r.PostForm.Get("client_id") != clientID || r.PostForm.Get("client_secret") != clientSecret:
		refuse("incorrect_client_credentials")
	case r.PostForm.Get("grant_type") != "authorization_code", !known, g.redirect != r.PostForm.Get("redirect_uri"),
		g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]):
		refuse("bad_verification_code")
	default:
		token := u.secret("token-")
		u.tokens[token] = g.login
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "bearer", "scope": ""}`, token)
	}
}

func (u *upstream) user(w http.ResponseWriter, r *http.Request) {
	login, ok := u.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if !ok || r.Header.Get("User-Agent") == "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, people[login])
}

// visit opens an address of the upstream, and returns where that sends the browser back to.
func (u *upstream) visit(address, login, says string) string {
	u.t.Helper()
	if !strings.HasPrefix(address, u.http.URL+"/authorize?") {
		u.t.Fatalf("the browser is sent to %s, want %s/authorize", address, u.http.URL)
	}
	r, err := http.NewRequestWithContext(u.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	r.Header.Set("X-Login", login)
	r.Header.Set("X-Says", says)
	response, err := u.http.Client().Transport.RoundTrip(r)
	if err != nil {
		u.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusFound {
		u.t.Fatalf("authorize: %s", response.Status)
	}
	return response.Header.Get("Location")
}

// approve is somebody who is signed in there, or signs in, and says yes.
func (u *upstream) approve(address, login string) string {
	u.t.Helper()
	return u.visit(address, login, "")
}

// says is an answer with an error.
func (u *upstream) says(address, code string) string { u.t.Helper(); return u.visit(address, "", code) }

// federated starts a server with the providers of the other tests, GitHub, and Hub, which
// is another upstream of the same strategy.
func federated(t *testing.T, opts ...option) (s *server, github, hub *upstream) {
	t.Helper()
	github, hub = newUpstream(t), newUpstream(t)
	list := strings.TrimSuffix(strings.TrimSpace(testProviders), "]") + `,
		{"id": "github", "strategy": "github", "name": "GitHub", "template": "https://github.com/{username}", "options": ` + github.options() + `},
		{"id": "hub", "strategy": "github", "name": "Hub", "options": ` + hub.options() + `}]`
	s = newServer(t, append([]option{func(o *options) { o.providers = list }}, opts...)...)
	github.callback, hub.callback = s.base+"login/github/return", s.base+"login/hub/return"
	t.Cleanup(func() {
		log := s.log.String()
		for _, u := range []*upstream{github, hub} {
			for _, secret := range u.said {
				if strings.Contains(log, secret) {
					t.Errorf("%.12s… stands in the log", secret)
				}
			}
		}
	})
	return s, github, hub
}

var departLink = regexp.MustCompile(`id="depart" href="([^"]+)"`)

// departing is where the page that explains leads on to.
func departing(t *testing.T, page answer) string {
	t.Helper()
	found := departLink.FindStringSubmatch(page.want(200).body)
	if found == nil {
		t.Fatalf("%s: nothing leads on: %s", page.url, page.text())
	}
	return html.UnescapeString(found[1])
}

// setOut goes by a link on the page from, and by what the page there leads on to, and
// returns the address at the provider.
func (b *browser) setOut(from, path string) string {
	b.server.t.Helper()
	return b.follow(b.server.base+"login", departing(b.server.t, b.follow(from, path))).want(302).location()
}

// back returns from a provider.
func (b *browser) back(u *upstream, callback string) answer {
	b.server.t.Helper()
	return b.follow(u.http.URL+"/", callback)
}

// signInAt signs in at GitHub, or links, from a link on the page from.
func (b *browser) signInAt(u *upstream, from, path, login string) answer {
	b.server.t.Helper()
	return b.back(u, u.approve(b.setOut(from, path), login))
}

// query is a path with a query of names and values.
func query(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	return path + "?" + q.Encode()
}

func moves(page answer) bool { return strings.Contains(page.body, `http-equiv="refresh"`) }

const errorCode = `<code id="error-code">`

// wantError fails the test unless a is an error page with a code.
func (a answer) wantError(status int, code string) answer {
	a.t.Helper()
	return a.want(status, errorCode+code+"<")
}

func TestFederatedSignIn(t *testing.T) {
	s, github, _ := federated(t)
	target := appOrigin + "/work?x=1&y=%20#z"
	b := s.browser()
	page := b.follow(appOrigin, query("login", "redirect_uri", target)).want(200)
	page = b.follow(s.base+"login", link(t, page, "login/github")).want(200, "Sign in with GitHub", "to continue to The App")
	if !moves(page) {
		t.Error("the page does not move on by itself")
	}
	callback := github.approve(b.follow(s.base+"login/github", departing(t, page)).want(302).location(), "ada")
	b.back(github, callback).leadsTo(target)
	first := b.user()
	if own := first.Identities["github"]; first.Name != "Ada L." || own.ID != "583231" || own.Username != "ada" || own.URI != "https://github.com/ada" {
		t.Errorf("a new account: %+v", first)
	}
	b.open("sessions").want(200, "The App")

	// Known by the id, whatever has become of the names.
	github.answer("/user", 200, `{"id": 583231, "login": "countess", "name": "Ada King"}`)
	phone := s.browser()
	phone.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	phone.open("account").want(200, "Ada L.")
	if u := phone.user(); u.ID != first.ID || u.Identities["github"].Username != "countess" {
		t.Errorf("the account of before: %+v", u)
	}
	// And the name alone is worth nothing.
	github.answer("/user", 200, `{"id": 1, "login": "ada", "name": "Ada L."}`)
	other := s.browser()
	other.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	if other.user().ID == first.ID {
		t.Error("somebody else with the same name is signed in to the account")
	}

	// The page that explains may be skipped.
	github.answer("/user", 0, "")
	b = s.browser()
	callback = github.approve(b.follow(appOrigin, query("login/github/auth", "redirect_uri", target)).want(302).location(), "ben")
	b.back(github, callback).leadsTo(target)
	if u := b.user(); u.Name != "ben@github" {
		t.Errorf("without a name: %+v", u)
	}

	// The application is remembered where nothing but the page that was left tells it.
	b = s.browser()
	b.signInAt(github, appOrigin+"/", "login/github", "eve").leadsTo("/account")
	b.open("sessions").want(200, "The App")
}

func TestFederatedProviderList(t *testing.T) {
	s, github, _ := federated(t)
	list := s.browser().get("providers").want(200, `"id":"github"`, `"loginURL":"`+s.base+`login/github"`)
	list.wantNot(clientID, clientSecret, github.http.URL, "options", "template", "callback")
	var providers []struct {
		ID                   string
		CredentialsNecessary bool
	}
	list.json(&providers)
	for _, p := range providers {
		if remote := p.ID == "github" || p.ID == "hub"; p.CredentialsNecessary == remote {
			t.Errorf("%s: credentialsNecessary is %v", p.ID, p.CredentialsNecessary)
		}
	}
}

func TestFederatedLink(t *testing.T) {
	s, github, hub := federated(t)
	b := s.browser()
	b.login("alpha", "ada")
	id := b.user().ID

	// From the account page it moves on by itself.
	page := b.open("account").want(200)
	page = b.follow(s.base+"account", link(t, page, "login/github")).want(200, "Connect GitHub", "This adds another way to sign in to your account Ada.", "Back to your account")
	if !moves(page) {
		t.Error("it asks although the person comes from the account page")
	}
	b.back(github, github.approve(b.follow(s.base+"login/github", departing(t, page)).want(302).location(), "ada")).leadsTo("/account")
	b.open("account").want(200, "GitHub is now connected to your account.")
	if u := b.user(); u.ID != id || u.Identities["github"].ID != "583231" || u.Name != "Ada" {
		t.Errorf("after linking: %+v", u)
	}

	b.follow(s.base+"account", "login/github").leadsTo("/account")
	b.open("account").want(200, "GitHub is already connected to your account.")
	b.follow(s.base+"account", "login/github/auth").leadsTo("/login/github")

	// From elsewhere it asks first, and keeps where it was to lead to.
	target := appOrigin + "/work"
	for _, from := range []string{appOrigin + "/", evilOrigin + "/", "", s.base + "login", s.base + "login/alpha", s.base + "accounts", s.base + "account/data"} {
		if page := b.follow(from, "login/hub").want(200, "Connect Hub"); moves(page) {
			t.Errorf("from %q it moves on without a click", from)
		}
	}
	page = b.follow(appOrigin, query("login/hub", "redirect_uri", target))
	b.back(hub, hub.approve(b.follow(s.base+"login/hub", departing(t, page)).want(302).location(), "ben")).leadsTo(target)
	if u := b.user(); u.Identities["hub"].ID != "583232" {
		t.Errorf("after linking: %+v", u)
	}
	// Somebody else's at GitHub does not take the place of the first.
	other := s.browser()
	other.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	if got := other.user().ID; got != id {
		t.Errorf("the linked identity leads to %s, want %s", got, id)
	}
}

func TestFederatedMerge(t *testing.T) {
	s, github, _ := federated(t)
	b, other := s.browser(), s.browser()
	other.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	former := other.user()
	b.login("alpha", "ada")
	id, target := b.user().ID, appOrigin+"/work"
	asked := b.signInAt(github, s.base+"account", query("login/github", "redirect_uri", target), "ada").want(302)
	if !strings.HasPrefix(asked.location(), "/merge?proof=") {
		t.Fatalf("leads to %s, want the question whether to merge", asked.location())
	}
	if got := b.user(); len(got.Identities) != 1 {
		t.Errorf("merged without being asked: %+v", got)
	}
	b.submit("merge", "proof", b.proofOn(asked.location())).leadsTo(target)
	if got := other.user(); got.ID != id || len(got.Merged) != 1 || got.Merged[0] != former.URI {
		t.Errorf("after the merge: %+v", got)
	}
	// The proof of a merge is none of a departure, though one key seals both.
	third := s.browser()
	third.login("beta", "ben")
	asked = third.signInAt(github, s.base+"account", "login/github", "ada").want(302)
	proof := third.proofOn(asked.location())
	third.follow(evilOrigin, query("login/github/auth", "proof", proof)).leadsTo("/login/github")
}

// Two tabs, both begun signed out, both with the same identity.
func TestFederatedTwoTabs(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	one, two := b.setOut(s.base+"login", query("login/github", "redirect_uri", appOrigin+"/1")), b.setOut(s.base+"login", query("login/github", "redirect_uri", appOrigin+"/2"))
	b.back(github, github.approve(two, "ada")).leadsTo(appOrigin + "/2")
	id := b.user().ID
	b.back(github, github.approve(one, "ada")).leadsTo(appOrigin + "/1")
	if got := b.user(); got.ID != id || s.documents("user") != 1 || s.documents("session") != 1 {
		t.Errorf("%+v, %d accounts, %d sessions", got, s.documents("user"), s.documents("session"))
	}
}

func TestFederatedInParallel(t *testing.T) {
	target := func(i int) string { return fmt.Sprintf("%s/tab/%d", appOrigin, i) }
	t.Run("finished in any order", func(t *testing.T) {
		s, github, hub := federated(t)
		b := s.browser()
		b.open("login")
		callbacks := make([]string, 10)
		for i := range callbacks {
			u, id := github, "github"
			if i%2 == 1 {
				u, id = hub, "hub"
			}
			callbacks[i] = u.approve(b.setOut(s.base+"login", query("login/"+id, "redirect_uri", target(i))), "ada")
		}
		b.back(github, callbacks[6]).leadsTo(target(6)) // and is signed in
		for _, i := range []int{2, 8, 0, 4} {
			b.back(github, callbacks[i]).leadsTo(target(i))
		}
		// The other provider was not asked to join the account.
		for _, i := range []int{9, 1, 5, 3, 7} {
			b.back(hub, callbacks[i]).leadsTo("/account")
			b.open("account").want(200, "so nothing was connected")
		}
		if n := s.documents("user"); n != 1 || len(b.user().Identities) != 1 {
			t.Errorf("%d accounts, %+v", n, b.user())
		}
	})
	t.Run("begun and finished at once in a browser without cookies", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		departures := make([]answer, 12)
		var begun, done sync.WaitGroup
		for i := range departures {
			begun.Go(func() { departures[i] = b.open(query("login/github/auth", "redirect_uri", target(i))) })
		}
		begun.Wait()
		answers := make([]answer, len(departures))
		for i, a := range departures {
			callback := github.approve(a.want(302).location(), "ada")
			done.Go(func() { answers[i] = b.back(github, callback) })
		}
		done.Wait()
		for i, a := range answers {
			a.leadsTo(target(i))
		}
		b.get("currentUser").want(200)
		if n := s.documents("user"); n != 1 {
			t.Errorf("%d accounts", n)
		}
	})
	t.Run("one answer, many requests", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
		var wins, others int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				a := b.back(github, callback)
				mu.Lock()
				defer mu.Unlock()
				if a.status == http.StatusFound {
					wins++ // the one that signs in, and those that come when it has
				} else if a.status == http.StatusBadRequest {
					others++
				}
			})
		}
		wg.Wait()
		if wins == 0 || wins+others != 8 || s.documents("session") != 1 || s.documents("signin") != 1 {
			t.Errorf("%d and %d, %d sessions, %d sign-ins", wins, others, s.documents("session"), s.documents("signin"))
		}
	})
}

func TestFederatedBackButton(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	target := appOrigin + "/work"
	callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
	b.back(github, callback).leadsTo(target)
	b.back(github, callback).leadsTo(target)
	b.open(callback).leadsTo(target)
	if n := s.documents("signin"); n != 1 {
		t.Errorf("%d sign-ins in the history", n)
	}
	b.submit("logout")
	page := b.open(callback).wantError(400, "expired")
	page.want(400, html.EscapeString(query("/login", "redirect_uri", target)))
	b.get("currentUser").want(401)
	// Without a destination it is the account page, and a message that waits stays.
	b = s.browser()
	callback = github.approve(b.setOut(s.base+"login", "login/github"), "ada")
	b.back(github, callback).leadsTo("/account")
	b.open(callback).leadsTo("/account")
	b.open("account").want(200, "You are signed in")
}

// Who needs longer than LOGIN_ATTEMPT_MINUTES is sent to the provider once more, where
// they are signed in by then, and ends where the login was meant to lead to.
func TestFederatedSlowPerson(t *testing.T) {
	target := appOrigin + "/work"
	later := func(t *testing.T, after time.Duration) {
		s, github, _ := federated(t)
		b := s.browser()
		b.follow(appOrigin, query("login", "redirect_uri", target)).want(200)
		callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
		s.clock.Advance(after)
		s.start() // a restart in between, too
		again := b.back(github, callback).want(302).location()
		b.get("currentUser").want(401)
		b.back(github, github.approve(again, "ada")).leadsTo(target)
		b.get("currentUser").want(200)
		b.back(github, callback).leadsTo(target)
	}
	t.Run("an hour and a minute", func(t *testing.T) { later(t, 61*time.Minute) })
	t.Run("the next morning", func(t *testing.T) { later(t, 15*time.Hour) })
	t.Run("not yet too late", func(t *testing.T) {
		s, github, _ := federated(t, env("LOGIN_ATTEMPT_MINUTES", "30"))
		b := s.browser()
		one, two := b.setOut(s.base+"login", "login/github"), b.setOut(s.base+"login", "login/github")
		s.clock.Advance(29 * time.Minute)
		b.back(github, github.approve(one, "ada")).leadsTo("/account")
		b.submit("logout")
		s.clock.Advance(2 * time.Minute)
		b.back(github, github.approve(b.back(github, github.approve(two, "ada")).want(302).location(), "ada")).leadsTo("/account")
	})
	t.Run("days", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
		s.clock.Advance(25 * time.Hour)
		if page := b.back(github, callback).wantError(400, "expired"); link(t, page, "login") != "/login" {
			t.Error("no way on")
		}
	})
	t.Run("signed in meanwhile", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
		s.clock.Advance(2 * time.Hour)
		b.login("alpha", "ben")
		b.back(github, callback).leadsTo(target)
		if got := b.user().Identities; len(got) != 1 {
			t.Errorf("identities: %v", got)
		}
	})
	t.Run("linking", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		b.login("alpha", "ada")
		callback := github.approve(b.setOut(s.base+"account", "login/github"), "ada")
		s.clock.Advance(2 * time.Hour)
		b.back(github, github.approve(b.back(github, callback).want(302).location(), "ada")).leadsTo("/account")
		b.open("account").want(200, "GitHub is now connected to your account.")
	})
	t.Run("linking, signed out meanwhile", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		b.login("alpha", "ada")
		callback := github.approve(b.setOut(s.base+"account", "login/github"), "ada")
		s.clock.Advance(2 * time.Hour)
		b.submit("logout")
		b.back(github, callback).leadsTo("/login")
		b.open("login").want(200, "You were signed out in the meantime, so GitHub was not connected.")
	})
	t.Run("who said no is not asked again", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.says(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "access_denied")
		s.clock.Advance(2 * time.Hour)
		b.back(github, callback).wantError(400, "expired").want(400, html.EscapeString(query("/login", "redirect_uri", target)))
	})
	t.Run("with a secret that is not in use any more", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
		s.cfg.SessionSecrets = []string{"quite another secret than before"}
		s.start()
		b.back(github, github.approve(b.back(github, callback).want(302).location(), "ada")).leadsTo(target)
	})
}

func TestFederatedRestart(t *testing.T) {
	s, github, _ := federated(t)
	target := appOrigin + "/work"
	b := s.browser()
	page := b.follow(s.base+"login", query("login/github", "redirect_uri", target))
	s.start()
	address := b.follow(s.base+"login/github", departing(t, page)).want(302).location()
	s.start()
	callback := github.approve(address, "ada")
	s.start()
	b.back(github, callback).leadsTo(target)
	b.get("currentUser").want(200)
}

func TestFederatedCookiesCleared(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	target := appOrigin + "/private"
	callback := github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada")
	page := s.browser().back(github, callback).wantError(400, "other_browser").wantNot("private")
	if link(t, page, "login") != "/login" {
		t.Error("no way on")
	}
	b.back(github, callback).leadsTo(target) // that has changed nothing
}

func TestFederatedRefusals(t *testing.T) {
	target := appOrigin + "/work"
	for _, tc := range []struct{ name, says, want, linking string }{
		{"cancelled", "access_denied", "The sign-in with GitHub was cancelled.", "because you cancelled it there"},
		{"broken there", "server_error", "GitHub does not answer at the moment.", "because it does not answer at the moment"},
		{"overloaded there", "temporarily_unavailable", "GitHub does not answer at the moment.", "because it does not answer at the moment"},
		{"registered wrongly", "redirect_uri_mismatch", "The answer of GitHub could not be used", "because its answer could not be used"},
		{"nonsense", "<script>alert(1)</script>", "The answer of GitHub could not be used", "because its answer could not be used"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, github, _ := federated(t)
			b := s.browser()
			login := query("/login", "redirect_uri", target)
			b.back(github, github.says(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), tc.says)).leadsTo(login)
			b.follow(s.base, login).want(200, tc.want).wantNot("<script>alert")
			if !strings.Contains(s.log.String(), "provider=github") || !strings.Contains(s.log.String(), "it answers") {
				t.Error("the log does not say why")
			}
			b.get("currentUser").want(401)
			b.login("alpha", "ada")
			b.back(github, github.says(b.setOut(s.base+"account", "login/github"), tc.says)).leadsTo("/account")
			b.open("account").want(200, "GitHub was not connected, "+tc.linking).wantNot("choose another way")
			if got := b.user().Identities; len(got) != 1 {
				t.Errorf("identities: %v", got)
			}
		})
	}
}

// Whatever the provider answers: a page that says so, with other ways to sign in.
func TestFederatedProviderFails(t *testing.T) {
	const away, unusable = "GitHub does not answer at the moment.", "The answer of GitHub could not be used"
	for _, tc := range []struct {
		name, path string
		status     int
		body, want string
	}{
		{"token endpoint is down", "/token", 503, "", away},
		{"token endpoint has too much to do", "/token", 429, "", away},
		{"token endpoint refuses", "/token", 400, `{"error": "invalid_grant"}`, unusable},
		{"token endpoint shows a page", "/token", 200, "<html>Sign in</html>", unusable},
		{"no token", "/token", 200, `{}`, unusable},
		{"token is no text", "/token", 200, `{"access_token": {"a": 1}}`, unusable},
		{"token endpoint redirects", "/token", 302, "", unusable},
		{"profile is down", "/user", 500, "", away},
		{"profile is refused", "/user", 403, `{}`, unusable},
		{"profile is a page", "/user", 200, "<html>Sign in</html>", unusable},
		{"profile is a list", "/user", 200, `[]`, unusable},
		{"profile is null", "/user", 200, `null`, unusable},
		{"profile is empty", "/user", 200, ``, unusable},
		{"no id", "/user", 200, `{"login": "ada", "name": "Ada"}`, unusable},
		{"empty id", "/user", 200, `{"id": "", "login": "ada"}`, unusable},
		{"id is null", "/user", 200, `{"id": null, "login": "ada"}`, unusable},
		{"id is an object", "/user", 200, `{"id": {}, "login": "ada"}`, unusable},
		{"id with control characters", "/user", 200, `{"id": "1\u0000"}`, unusable},
		{"id without end", "/user", 200, `{"id": "` + strings.Repeat("1", 100_000) + `"}`, unusable},
		{"answer without end", "/user", 200, `{"id": 1, "x": "` + strings.Repeat("x", 2<<20) + `"}`, unusable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, github, _ := federated(t)
			github.answer(tc.path, tc.status, tc.body)
			b := s.browser()
			b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/login")
			b.open("login").want(200, tc.want, "login/alpha")
			b.get("currentUser").want(401)
			if n := s.documents("user"); n != 0 {
				t.Errorf("%d accounts", n)
			}
			github.answer(tc.path, 0, "")
			b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
		})
	}
	t.Run("gone", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
		github.http.Close()
		b.back(github, callback).leadsTo("/login")
		b.open("login").want(200, away)
	})
	t.Run("names that nobody may have", func(t *testing.T) {
		s, github, _ := federated(t)
		github.answer("/user", 200, `{"id": 1, "login": "\u202eadmin\n", "name": " \u0000\n"}`)
		b := s.browser()
		b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
		if u := b.user(); u.Name != "admin@github" {
			t.Errorf("%+v", u)
		}
		github.answer("/user", 200, `{"id": 2}`)
		b = s.browser()
		b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
		if u := b.user(); u.Name != "2@github" {
			t.Errorf("%+v", u)
		}
	})
	// What a provider has to ask before it can send the browser anywhere.
	t.Run("at the start", func(t *testing.T) {
		for _, tc := range []struct {
			err  error
			want string
		}{{&providers.UnavailableError{Err: errors.New("connection refused")}, away}, {errors.New("nonsense"), unusable}} {
			s, _, _ := federated(t)
			p, _ := s.providers.Get("github")
			p.Website = failing{p.Website, tc.err}
			b := s.browser()
			login := query("/login", "redirect_uri", appOrigin+"/")
			b.open(query("login/github/auth", "redirect_uri", appOrigin+"/")).leadsTo(login)
			b.open(login).want(200, tc.want)
			b.login("alpha", "ada")
			b.follow(s.base+"login/github", departing(t, b.follow(s.base+"account", "login/github"))).leadsTo("/account")
			b.open("account").want(200, "GitHub was not connected, because")
			if n := s.documents("attempt"); n != 0 {
				t.Errorf("%d attempts", n)
			}
		}
	})
	t.Run("the store", func(t *testing.T) {
		s, github, _ := federated(t)
		b := s.browser()
		callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
		s.store.fail(func(string) error { return errInternal })
		b.back(github, callback).want(503).wantNot("sqlite")
		s.store.fail(func(string) error { return nil })
		b.back(github, callback).leadsTo("/account") // nothing was used up
	})
}

func TestFederatedReload(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	b.open("login").want(200, "login/github")
	callback := github.approve(b.setOut(s.base+"login", "login/github"), "ada")
	before, err := os.ReadFile(filepath.Join(s.cfg.Dir, "providers.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(s.cfg.Dir, "providers.json", testProviders, 0o600)
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	b.open("login").want(200).wantNot("login/github")
	for _, path := range []string{callback, "login/github", "login/github/auth", "login/github/return"} {
		if page := b.open(path).wantError(404, "not_found"); link(t, page, "login") != "/login" {
			t.Errorf("%s: no way on", path)
		}
	}
	s.write(s.cfg.Dir, "providers.json", string(before), 0o600)
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	b.back(github, callback).leadsTo("/account")

	// An identity of a provider that is not offered any more stays.
	s.write(s.cfg.Dir, "providers.json", testProviders, 0o600)
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	b.open("account").want(200, "github")
}

func TestFederatedRateLimit(t *testing.T) {
	s, github, _ := federated(t, env("RATE_LIMIT_MAX", "2"), env("TRUSTED_PROXIES", "127.0.0.1"))
	b := s.browser()
	b.header.Set("X-Forwarded-For", "192.0.2.1")
	address := b.setOut(s.base+"login", query("login/github", "redirect_uri", appOrigin+"/"))
	for range 11 {
		b.open("login/github").want(200) // which costs nothing
		b.open("login/github/auth").want(302)
	}
	limited := b.open(query("login/github/auth", "redirect_uri", appOrigin+"/")).wantError(429, "rate_limited")
	if n, err := strconv.Atoi(limited.header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
		t.Errorf("Retry-After is %q", limited.header.Get("Retry-After"))
	}
	limited.want(429, html.EscapeString(query("/login/github", "redirect_uri", appOrigin+"/")))
	// Who has set out comes home.
	b.back(github, github.approve(address, "ada")).leadsTo(appOrigin + "/")
	b.header.Set("X-Forwarded-For", "192.0.2.2")
	s.browser().open("login/github/auth").want(302)
	if n := s.documents("attempt"); n != 13 {
		t.Errorf("%d attempts, want 13", n)
	}
}

// What is not somebody who opens a page begins nothing and uses up nothing.
func TestFederatedNoNavigation(t *testing.T) {
	s, github, _ := federated(t)
	b := s.browser()
	callback := strings.TrimPrefix(github.approve(b.setOut(s.base+"login", "login/github"), "ada"), s.base)
	sent := map[string]func(path string) answer{
		"HEAD": func(path string) answer { return b.send("HEAD", path, headers("Sec-Fetch-Dest", "document"), "") },
		"image": func(path string) answer {
			return b.send("GET", path, headers("Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Site", "cross-site"), "")
		},
		"frame": func(path string) answer {
			return b.send("GET", path, headers("Sec-Fetch-Dest", "iframe", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site", "Accept", "text/html"), "")
		},
		"fetch":       func(path string) answer { return b.fetch(appOrigin, "GET", path, "") },
		"own fetch":   func(path string) answer { return b.fetch(s.cfg.Origin(), "GET", path, "") },
		"older fetch": func(path string) answer { return b.send("GET", path, headers("Origin", evilOrigin), "") },
		"older image": func(path string) answer { return b.send("GET", path, headers("Accept", "image/webp,*/*"), "") },
		"prefetch": func(path string) answer {
			return b.send("GET", path, headers("Sec-Purpose", "prefetch", "Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Accept", "text/html"), "")
		},
		"prerender": func(path string) answer {
			return b.send("GET", path, headers("Sec-Purpose", "prefetch;prerender", "Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate", "Accept", "text/html"), "")
		},
		"older prefetch": func(path string) answer {
			return b.send("GET", path, headers("Purpose", "prefetch", "Accept", "text/html"), "")
		},
	}
	for name, send := range sent {
		send("login/github/auth").leadsTo("/login/github")
		if a := send(callback); a.status != 400 {
			t.Errorf("%s: the callback answers %d to %q", name, a.status, a.location())
		}
		for _, line := range send(callback).header["Set-Cookie"] {
			t.Errorf("%s: %s", name, line)
		}
	}
	if n := s.documents("attempt"); n != 1 {
		t.Errorf("%d attempts, want the one of before", n)
	}
	b.get("currentUser").want(401)
	b.back(github, s.base+callback).leadsTo("/account")
}

func TestFederatedEvents(t *testing.T) {
	s, github, hub := federated(t)
	b := s.browser()
	b.open("login")
	c := b.socket(appOrigin)
	c.expect("open", "about", "providers", "authenticated", "loggedOut")
	b.signInAt(github, s.base+"login", "login/github", "ada").leadsTo("/account")
	if e := c.expect("loggedIn"); e.Data.User == nil || e.Data.User.Name != "Ada L." {
		t.Errorf("loggedIn: %s", e.raw)
	}
	c.expect("token")
	b.signInAt(hub, s.base+"account", "login/hub", "ada").leadsTo("/account")
	if e := c.expect("updated"); len(e.Data.User.Identities) != 2 {
		t.Errorf("updated: %s", e.raw)
	}
	b.submit("logout")
	c.expect("loggedOut")

	// A browser that comes to the provider's link first has a cookie by the time it sets out.
	b = s.browser()
	address := b.open("login/github/auth").want(302).location()
	c = b.socket(appOrigin)
	c.expect("open", "about", "providers", "authenticated", "loggedOut")
	b.back(github, github.approve(address, "ada")).leadsTo("/account")
	c.expect("loggedIn", "token")
}

// Below a path, behind a proxy that strips it and behind one that does not: what is
// registered with the provider is below BASE_URL.
func TestFederatedMounted(t *testing.T) {
	for _, base := range []string{"/login/", "/auth/", "/sso/login/"} {
		for _, stripped := range []bool{true, false} {
			t.Run(fmt.Sprint(base, " stripped ", stripped), func(t *testing.T) {
				s, github, hub := federated(t, env("BASE_URL", "http://localhost"+base), func(o *options) {
					if stripped {
						o.outside = func(h http.Handler) http.Handler { return http.StripPrefix(strings.TrimSuffix(base, "/"), h) }
					}
				})
				b := s.browser()
				target := appOrigin + "/work"
				page := b.follow(appOrigin, query("login/github", "redirect_uri", target))
				if stripped && base == "/login/" {
					// The root, for all that can be told.
					page = b.follow(appOrigin, query("login/github", "redirect_uri", target))
				}
				address := b.follow(s.base+"login/github", departing(t, page)).want(302).location()
				if u, err := url.Parse(address); err != nil || u.Query().Get("redirect_uri") != "http://localhost"+base+"login/github/return" {
					t.Errorf("the callback in %s", address)
				}
				b.back(github, github.approve(address, "ada")).leadsTo(target)
				page = b.open("account").want(200)
				page = b.follow(s.base+"account", link(t, page, "login/hub"))
				if !moves(page) {
					t.Error("from the account page it asks")
				}
				b.back(hub, hub.approve(b.follow(s.base+"login/hub", departing(t, page)).want(302).location(), "ada")).leadsTo(base + "account")
				if got := b.user().Identities; len(got) != 2 {
					t.Errorf("identities: %v", got)
				}
			})
		}
	}
}

func TestFederatedRoutes(t *testing.T) {
	s, _, _ := federated(t)
	b := s.browser()
	for _, path := range []string{"login/github", "login/github/return", "login/alpha/return", "login/nobody/return"} {
		a := b.submit(path, "username", "ada", "password", "ada-pw", "state", "x", "code", "y").wantError(405, "method_not_allowed")
		if a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow is %q", path, a.header.Get("Allow"))
		}
	}
	// Nothing but what is wrong, and a way on.
	for _, path := range []string{"login/github/return", "login/github/return?code=x", "login/github/return?error=access_denied", "login/github/return/", "login/github/return?state="} {
		if page := b.open(path).wantError(400, "expired"); link(t, page, "login") != "/login" {
			t.Errorf("%s: no way on", path)
		}
	}
	for _, path := range []string{"login/alpha/auth", "login/alpha/return", "login/off/auth", "login/nobody/return", "login//return", "login/github%2freturn", "login/github/return/x"} {
		b.open(path).want(404)
	}
	b.open(query("login/github", "redirect_uri", evilOrigin)).wantError(400, "redirect_refused")
	b.open(query("login/github/auth", "redirect_uri", evilOrigin)).wantError(400, "redirect_refused")
	if n := s.documents("attempt") + s.documents("session"); n != 0 {
		t.Errorf("%d documents", n)
	}
	s.run("over https", func(t *testing.T) {
		secure, github, _ := federated(t, env("BASE_URL", "https://login.example.org/"))
		r := rawRequest(t, secure, "GET /login/github/auth HTTP/1.1\r\nHost: login.example.org\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
		found := false
		for _, c := range r.Cookies() {
			if strings.Contains(c.Name, "-at-") {
				found = strings.HasPrefix(c.Name, "__Host-login-") && c.Secure && c.HttpOnly && c.SameSite == http.SameSiteLaxMode && c.Path == "/" && c.Domain == ""
			}
		}
		if !found {
			t.Errorf("cookies: %v", r.Cookies())
		}
		if to := r.Header.Get("Location"); !strings.HasPrefix(to, github.http.URL) || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("leads to %s", to)
		}
	})
}

// posting lets a provider post its answers.
func (s *server) posting(provider string) {
	s.t.Helper()
	p, ok := s.providers.Get(provider)
	if !ok {
		s.t.Fatalf("no provider %s", provider)
	}
	p.FormPost = true
}

// post is the form that a provider's page sends: from another site, and so without our
// cookies, which are SameSite=Lax.
func (b *browser) post(u *upstream, path string, fields ...string) answer {
	b.server.t.Helper()
	bare := b.server.browser()
	return bare.submitFrom(u.http.URL+"/", path, fields...)
}

// fieldsOf are the parameters of an answer.
func fieldsOf(t *testing.T, callback string) (fields []string, state string) {
	t.Helper()
	u, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range u.Query() {
		fields = append(fields, name, values[0])
	}
	return fields, u.Query().Get("state")
}

func TestFederatedFormPost(t *testing.T) {
	for _, base := range []string{"/", "/sso/login/"} {
		for _, stripped := range []bool{true, false} {
			t.Run(fmt.Sprint(base, " stripped ", stripped), func(t *testing.T) {
				s, github, _ := federated(t, env("BASE_URL", "http://localhost"+base), func(o *options) {
					if stripped {
						o.outside = func(h http.Handler) http.Handler { return http.StripPrefix(strings.TrimSuffix(base, "/"), h) }
					}
				})
				s.posting("github")
				b := s.browser()
				target := appOrigin + "/work"
				fields, state := fieldsOf(t, github.approve(b.setOut(s.base+"login", query("login/github", "redirect_uri", target)), "ada"))
				posted := b.post(github, "login/github/return", fields...).want(303)
				if want := base + "login/github/return?state=" + state; posted.location() != want || len(posted.header["Set-Cookie"]) != 0 || posted.header.Get("Cache-Control") != "no-store" {
					t.Fatalf("leads to %s with %v, want %s and no cookie", posted.location(), posted.header, want)
				}
				// The code is not in the address, and worth nothing elsewhere.
				s.browser().follow(github.http.URL+"/", posted.location()).wantError(400, "other_browser")
				b.post(github, "login/github/return", "state", state, "code", "another").want(303)
				b.follow(github.http.URL+"/", posted.location()).leadsTo(target)
				b.get("currentUser").want(200)
				b.follow(github.http.URL+"/", posted.location()).leadsTo(target)
				b.post(github, "login/github/return", fields...).want(303)
				if n := s.documents("signin"); n != 1 {
					t.Errorf("%d sign-ins", n)
				}

				// Nothing else takes a form from there.
				for _, path := range []string{
					"login/github", "login/alpha", "login/github/auth", "login/github/return/x", "login/github/returns", "login/github/noreturn", "login/github/x/return", "login/return", "logout", "delete", "account/name", "merge",
					"disconnect/alpha", "account/return", "sessions/remove", "login/alpha/../../delete", "login/github/return/../../alpha", "",
				} {
					b.submitFrom(github.http.URL+"/", path, fields...).wantError(403, "cross_site")
				}
				b.submitFrom(github.http.URL+"/", "login/hub/return", fields...).want(405)
				b.submitFrom(github.http.URL+"/", "login/alpha/return", "username", "ada", "password", "ada-pw").want(405)
				b.submitFrom(github.http.URL+"/", "login/github%2freturn", "username", "ada", "password", "ada-pw").want(404)
				b.get("currentUser").want(200)
			})
		}
	}
	t.Run("cancelled", func(t *testing.T) {
		s, github, _ := federated(t)
		s.posting("github")
		b := s.browser()
		fields, _ := fieldsOf(t, github.says(b.setOut(s.base+"login", "login/github"), "access_denied"))
		b.follow(github.http.URL+"/", b.post(github, "login/github/return", fields...).want(303).location()).leadsTo("/login")
		b.open("login").want(200, "cancelled")
	})
	t.Run("too late", func(t *testing.T) {
		s, github, _ := federated(t)
		s.posting("github")
		b := s.browser()
		said, _ := fieldsOf(t, github.says(b.setOut(s.base+"login", "login/github"), "access_denied"))
		fields, _ := fieldsOf(t, github.approve(b.setOut(s.base+"login", "login/github"), "ada"))
		s.clock.Advance(2 * time.Hour)
		b.follow(github.http.URL+"/", b.post(github, "login/github/return", said...).want(303).location()).wantError(400, "expired")
		again := b.follow(github.http.URL+"/", b.post(github, "login/github/return", fields...).want(303).location()).want(302).location()
		fields, _ = fieldsOf(t, github.approve(again, "ada"))
		b.follow(github.http.URL+"/", b.post(github, "login/github/return", fields...).want(303).location()).leadsTo("/account")
	})
	t.Run("broken", func(t *testing.T) {
		s, github, _ := federated(t)
		s.posting("github")
		b := s.browser()
		_, state := fieldsOf(t, github.approve(b.setOut(s.base+"login", "login/github"), "ada"))
		h := headers("Origin", github.http.URL, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site")
		for _, code := range []string{strings.Repeat("x", 200<<10), strings.Repeat("x", 8<<10), strings.Repeat("!", 4<<10)} { // the last is longer when kept
			b.send("POST", "login/github/return", h, "state="+state+"&code="+code).wantError(413, "too_large")
		}
		b.send("POST", "login/github/return", h, "state="+state+"&code=%ff").wantError(400, "bad_request")
		b.send("POST", "login/github/return", h, "state="+state+"&code=%").wantError(400, "bad_request")
		b.send("POST", "login/github/return", h, "").want(303)
		for _, unknown := range []string{"x", strings.Repeat("x", 8000), "\r\nX-Injected: y"} {
			// What names no attempt is not repeated.
			if a := b.post(github, "login/github/return", "state", unknown, "code", "x").want(303); a.location() != "/login/github/return" {
				t.Errorf("leads to %.100s", a.location())
			}
		}
		for _, kind := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x", ""} {
			b.send("POST", "login/github/return", headers("Origin", github.http.URL, "Content-Type", kind, "Sec-Fetch-Site", "cross-site"), "state="+state+"&code=x").want(303)
		}
		// In the query it is no form.
		b.send("POST", query("login/github/return", "state", state, "code", "x"), h, "").want(303)
		b.open(query("login/github/return", "state", state)).leadsTo("/login")
		b.open("login").want(200, "could not be used") // there was no code: none of these was taken
	})
}

// failing is a Website that cannot begin.
type failing struct {
	providers.Website
	err error
}

func (f failing) Begin(context.Context, providers.Login) (providers.Departure, error) {
	return providers.Departure{}, f.err
}
