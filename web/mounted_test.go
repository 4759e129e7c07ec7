package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Below a path, behind a proxy that strips it and behind one that does not.
func TestMounted(t *testing.T) {
	strip := func(prefix string) option {
		return func(o *options) {
			o.outside = func(h http.Handler) http.Handler { return http.StripPrefix(prefix, h) }
		}
	}
	for _, base := range []string{"/login/", "/auth/", "/sso/login/"} {
		for name, proxy := range map[string]option{
			"stripped":     strip(strings.TrimSuffix(base, "/")),
			"not stripped": func(*options) {},
		} {
			t.Run(base+" "+name, func(t *testing.T) {
				s := newServer(t, env("BASE_URL", "http://localhost"+base), proxy)
				mainFlow(t, s)
			})
		}
	}
	t.Run("/", func(t *testing.T) { mainFlow(t, newServer(t)) })
}

// mainFlow is what people and applications do, at any BASE_URL.
func mainFlow(t *testing.T, s *server) {
	base := s.cfg.BaseURL.Path
	b := s.browser()

	b.open("").leadsTo(base + "login")
	b.open("login/").status302or200(t)
	page := b.open("login").want(200, `href="`+base+`login/alpha"`, `href="`+base+`static/app.css?v=`)
	for _, path := range []string{"static/app.css", "static/app.js", "static/local.svg"} {
		b.get(path).want(200)
	}
	b.get(link(t, page, "static/app.css")).want(200)
	b.get("favicon.ico").want(302)
	b.get("about").want(200, `"baseUrl":"`+s.base+`"`)
	b.get("providers").want(200, `"loginURL":"`+s.base+`login/alpha"`, `"image":"`+s.base+`static/local.svg"`)
	b.get("healthz").want(200)
	b.get("nothing").want(404, `href="`+base+`"`)

	query := "?" + url.Values{"redirect_uri": {appOrigin + "/work"}}.Encode()
	page = b.follow(appOrigin, "login/"+query)
	if page.status == http.StatusFound { // the root, if a proxy has stripped /login
		page = b.follow(appOrigin, page.location())
	}
	page.want(200, "Sign in to continue to The App")
	page = b.follow(s.base+"login", link(t, page, "login/alpha")).want(200)
	action := link(t, page, "login/alpha?")
	b.submit(action, "username", "ada", "password", "wrong").leadsTo(action)
	b.follow(s.base, action).want(200, "Could not verify credentials.")
	b.submit(action, "username", "ada", "password", "ada-pw").leadsTo(appOrigin + "/work")

	u := b.user()
	if u.URI != s.base+"users/"+u.ID {
		t.Errorf("the URI is %s", u.URI)
	}
	b.get(u.URI).want(200)
	b.socket(appOrigin).greeting("loggedIn", "token")
	b.open("").leadsTo(base + "account")
	page = b.open("account").want(200, u.URI)
	for _, path := range []string{"sessions", "account/data", "delete", "help", "api", "login/beta"} {
		b.follow(s.base+"account", link(t, page, path)).want(200)
	}
	b.submit(link(t, page, "account/name"), "name", "Ada King").leadsTo(base + "account")
	b.follow(s.base+"account", link(t, page, "lang=de")).want(200, `<html lang="de">`, "Ada King")
	b.follow(s.base+"account", "account?lang=en")

	other := s.browser()
	other.submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo(base + "account")
	former := other.user()
	b.submit("merge", "proof", b.prove("beta", "ada")).leadsTo(base + "account")
	b.get(former.URI).leadsTo(base + "users/" + u.ID)
	b.submit("account/undo-merge", "merge", former.ID).leadsTo(base + "account")
	b.submit("login/gamma", "username", "ada", "password", "ada-pw").leadsTo(base + "account")
	b.follow(s.base+"account", "disconnect/gamma").leadsTo(base + "account")
	b.fetch(appOrigin, "PATCH", "users/"+u.ID, `{"name": "Ada"}`).want(200)
	other.fetch(appOrigin, "DELETE", "sessions", "").want(204)
	b.follow(appOrigin, "logout/").leadsTo(base + "login")
	b.open("sessions").leadsTo(base + "login")
	b.login("alpha", "ada")
	b.submit("delete").leadsTo(base + "login")
	b.get("currentUser").want(401)
}

// status302or200 is the answer to BASE_URL + "login/": below /login/ and behind a proxy
// that strips it, nothing tells it from BASE_URL itself.
func (a answer) status302or200(t *testing.T) {
	t.Helper()
	if a.status != http.StatusOK && a.status != http.StatusFound {
		t.Errorf("%s: got %d", a.url, a.status)
	}
}

// An id that would make a path ambiguous below /login/ is refused when the server starts.
func TestReservedIDs(t *testing.T) {
	list := strings.Replace(testProviders, `"id": "gamma"`, `"id": "help"`, 1)
	reserved := func(o *options) { o.providers = list }
	s := newServer(t, reserved, env("BASE_URL", "http://localhost/sso/login/"))
	s.browser().open("login/help").want(200, "Sign in with Gamma")

	s = newServer(t, env("BASE_URL", "http://localhost/login/"))
	s.write(s.cfg.Dir, "providers.json", list, 0o600)
	if err := s.reload(); err == nil || !strings.Contains(err.Error(), `help (entry 3): id: "help" is also a page of the server`) {
		t.Errorf("got %v", err)
	}
	// What was in use stays in use.
	s.browser().open("login/gamma").want(200, "Sign in with Gamma")
}
