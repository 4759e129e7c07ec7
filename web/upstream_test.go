package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// What a provider gives to act there in a person's name (exposeUpstreamToken): it is in
// the JWTs, for applications that need it, and nowhere else.

// upstreamToken is what all tokens of the easydb of the tests begin with.
const upstreamToken = "easydb-secret-session-"

// easydb is another server where ada has an account. Every session has another token.
func easydb(t *testing.T) (url string, sessions *atomic.Int64) {
	sessions = new(atomic.Int64)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/session", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"token": upstreamToken + string(rune('0'+sessions.Add(1)))})
	})
	mux.HandleFunc("POST /api/v1/session/authenticate", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.PostFormValue("token"), upstreamToken) || r.PostFormValue("password") != r.PostFormValue("login")+"-pw" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"user": {"_id": 7, "login": "ada", "_generated_displayname": "Ada in easydb"}}`)
	})
	other := httptest.NewServer(mux)
	t.Cleanup(other.Close)
	return other.URL + "/api/v1/", sessions
}

// easydbProviders is a providers.json with that easydb.
func easydbProviders(url string, exposed string) string {
	return strings.TrimSuffix(strings.TrimSpace(testProviders), "]") + `,
		{"id": "easydb", "strategy": "easydb", "name": "easydb", ` + exposed + `"options": {"url": "` + url + `"}}]`
}

const exposed = `"exposeUpstreamToken": true, `

// upstreamIn is what a JWT says of the person's identity at easydb under "token".
func (s *server) upstreamIn(signed string) string {
	s.t.Helper()
	s.verify(signed)
	part, err := jwt.NewParser().DecodeSegment(strings.Split(signed, ".")[1])
	if err != nil {
		s.t.Fatal(err)
	}
	var c struct {
		User struct {
			ID         string `json:"_id"`
			Identities map[string]struct{ ID, Username, Token string }
		}
	}
	if err := json.Unmarshal(part, &c); err != nil {
		s.t.Fatal(err)
	}
	if own := c.User.Identities["easydb"]; c.User.ID == "" || own.ID != "7" || own.Username != "ada" {
		s.t.Errorf("the token carries %s", part)
	}
	return c.User.Identities["easydb"].Token
}

// upstream is what an application finds in the token it asks for.
func (b *browser) upstream() string {
	b.server.t.Helper()
	var a tokenAnswer
	b.fetch(appOrigin, "GET", "token", "").want(200).json(&a)
	return b.server.upstreamIn(a.Token)
}

// configure changes providers.json and has it read.
func (s *server) configure(providers string) {
	s.t.Helper()
	s.write(filepath.Dir(s.cfg.ProvidersPath), filepath.Base(s.cfg.ProvidersPath), providers, 0o600)
	if err := s.reload(); err != nil {
		s.t.Fatal(err)
	}
}

func TestUpstreamToken(t *testing.T) {
	url, _ := easydb(t)
	s := newServer(t, func(o *options) { o.providers = easydbProviders(url, exposed) })
	b := s.browser()
	anonymous := b.socket(appOrigin)
	anonymous.greeting("loggedOut")
	b.login("easydb", "ada")
	if got := b.upstream(); got != upstreamToken+"1" {
		t.Errorf("the token carries %q of easydb", got)
	}
	x := b.socket(appOrigin)
	greeted := x.greeting("loggedIn", "token")
	if got := s.upstreamIn(greeted.Data.Token); got != upstreamToken+"1" {
		t.Errorf("the token of a socket carries %q of easydb", got)
	}

	// Another sign-in brings another one; nothing else has changed.
	s.browser().login("easydb", "ada")
	if got := s.upstreamIn(x.expect("token").Data.Token); got != upstreamToken+"2" {
		t.Errorf("after the next sign-in the socket is sent %q", got)
	}
	if got := b.upstream(); got != upstreamToken+"2" {
		t.Errorf("after the next sign-in the token carries %q", got)
	}
	x.send(`{"type":"token"}`)
	if got := s.upstreamIn(x.expect("token").Data.Token); got != upstreamToken+"2" {
		t.Errorf("a socket that asks is sent %q", got)
	}

	// After a restart it is still there, for it is in the account.
	s.start()
	if got := b.upstream(); got != upstreamToken+"2" {
		t.Errorf("after a restart the token carries %q", got)
	}
}

// TestUpstreamTokenIsNowhereElse looks for it in everything that the server says and
// writes while somebody does all that can be done with an account.
func TestUpstreamTokenIsNowhereElse(t *testing.T) {
	url, _ := easydb(t)
	s := newServer(t, func(o *options) { o.providers = easydbProviders(url, exposed) })
	b := s.browser()
	b.login("easydb", "ada")
	if !strings.HasPrefix(b.upstream(), upstreamToken) {
		t.Fatal("there is nothing to look for")
	}
	user := b.user()
	account, err := s.users.Get(t.Context(), user.ID)
	if err != nil || account.Upstream["easydb"] == "" {
		t.Fatalf("nothing is sealed: %+v, %v", account, err)
	}
	secrets := []string{upstreamToken, account.Upstream["easydb"]}
	x := b.socket(appOrigin)

	var seen []answer
	note := func(a answer) answer { seen = append(seen, a); return a }
	for _, path := range []string{"account", "account/data", "sessions", "help", "api", "about", "providers", "currentUser", "users/" + user.ID,
		"users", "login", "login/easydb", "delete", "logout", "disconnect/easydb", "token"} {
		note(b.open(path))
	}
	note(b.fetch(appOrigin, "PATCH", "users/"+user.ID, `{"name":"Countess"}`)).want(200)
	note(b.submit("login/beta", "username", "ada", "password", "ada-pw")).want(302)
	note(b.open("account"))
	note(b.submit("login/easydb", "username", "ada", "password", "wrong"))
	note(b.submit("login/easydb", "username", "ada", "password", "ada-pw"))
	if account, err = s.users.Get(t.Context(), user.ID); err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, account.Upstream["easydb"])

	// Somebody else's account absorbs this one, and lets it go again.
	other := s.browser()
	other.login("gamma", "ben")
	asked := note(other.submit("login/easydb", "username", "ada", "password", "ada-pw")).want(302)
	note(other.follow(s.base+"login/easydb", asked.location())).want(200)
	note(other.submit("merge", "proof", other.proofOn(asked.location()))).want(302)
	for _, path := range []string{"account", "account/data", "currentUser"} {
		note(other.open(path)).want(200)
	}
	note(other.submit("account/undo-merge", "merge", user.ID)).want(302)
	note(other.open("account/data")).want(200)
	note(b.submit("disconnect/easydb")).want(302)

	for _, a := range seen {
		text := a.body
		for _, values := range a.header {
			text += "\n" + strings.Join(values, "\n")
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows it: %s", a.url, text)
			}
		}
	}
	for {
		x.send(`{"type":"ping"}`)
		e, err := x.read()
		if err != nil || e.Type == "pong" {
			break
		}
		for _, secret := range secrets {
			if strings.Contains(e.raw, secret) {
				t.Errorf("the event %s shows it: %s", e.Type, e.raw)
			}
		}
	}
	for _, secret := range secrets {
		if strings.Contains(s.log.String(), secret) {
			t.Error("it is in the log")
		}
	}
	found := false // what was sealed
	for _, doc := range s.store.everWritten() {
		text := fmt.Sprintf("%s %q %q %s", doc.ID, doc.Unique, doc.Keys, doc.Data)
		if strings.Contains(text, upstreamToken) {
			t.Errorf("the store is given it as it is: %s", text)
		}
		found = found || strings.Contains(text, secrets[1])
	}
	if !found {
		t.Error("what was sealed is in none of the documents: they are not what was to be looked at")
	}
}

func TestUpstreamTokenOnTheAccountPage(t *testing.T) {
	const sentence = "Applications that you use get an access token for easydb, with which they can act there in your name."
	url, _ := easydb(t)
	s := newServer(t, func(o *options) { o.providers = easydbProviders(url, "") })
	b := s.browser()
	b.login("easydb", "ada")
	b.open("account").want(200, "easydb").wantNot(sentence)
	b.get("account/data").want(200).wantNot("upstreamTokens")
	if got := b.upstream(); got != "" {
		t.Errorf("it is handed on although nobody wants that: %q", got)
	}

	// What came before nobody has kept.
	s.configure(easydbProviders(url, exposed))
	b.open("account").wantNot(sentence)
	if got := b.upstream(); got != "" {
		t.Errorf("it was kept although nobody wanted that: %q", got)
	}
	b.submit("login/easydb", "username", "ada", "password", "ada-pw").leadsTo("/account")
	b.open("account").want(200, sentence)
	b.header.Set("Accept-Language", "de")
	b.open("account").want(200, "Anwendungen, die Sie benutzen, erhalten ein Zugriffstoken für easydb")
	var data struct {
		Account struct{ UpstreamTokens []string }
	}
	b.get("account/data").want(200).json(&data)
	if len(data.Account.UpstreamTokens) != 1 || data.Account.UpstreamTokens[0] != "easydb" {
		t.Errorf("the download says %v", data.Account.UpstreamTokens)
	}
}

func TestUpstreamTokenIsSwitchedOff(t *testing.T) {
	url, _ := easydb(t)
	s := newServer(t, func(o *options) { o.providers = easydbProviders(url, exposed) })
	b := s.browser()
	b.login("easydb", "ada")
	x := b.socket(appOrigin)
	x.greeting("loggedIn", "token")
	if got := b.upstream(); got != upstreamToken+"1" {
		t.Fatalf("the token carries %q", got)
	}

	s.configure(easydbProviders(url, ""))
	if got := b.upstream(); got != "" {
		t.Errorf("the token still carries %q", got)
	}
	if got := s.upstreamIn(x.expect("token").Data.Token); got != "" {
		t.Errorf("the socket is sent %q", got)
	}
	b.open("account").wantNot("access token")

	// The next sign-in drops what was kept, so that switching it on again brings nothing back.
	s.browser().login("easydb", "ada")
	s.configure(easydbProviders(url, exposed))
	if got := b.upstream(); got != "" {
		t.Errorf("%q was kept", got)
	}
}

func TestUpstreamTokenOfADisabledProvider(t *testing.T) {
	url, _ := easydb(t)
	s := newServer(t, func(o *options) { o.providers = easydbProviders(url, exposed) })
	b := s.browser()
	b.login("easydb", "ada")
	s.configure(easydbProviders(url, exposed+`"disabled": true, `))
	if got := b.upstream(); got != "" {
		t.Errorf("the token still carries %q", got)
	}
}
