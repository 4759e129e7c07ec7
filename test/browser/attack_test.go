package browser

import (
	"fmt"
	"strings"
	"testing"

	"login-server/internal/testbrowser"
	"login-server/internal/testprogram"
)

// TestOtherSites is what pages of other origins can do to somebody: nothing. One is
// another site altogether; the other is on the same host, so that the browser sends
// the cookies along, but on a port that is not allowed.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			otherSite(t, start(t, options{}), host)
		})
	}
	// On a host that browsers do not trust, they send neither Sec-Fetch headers nor
	// let pages use WebCrypto.
	t.Run("plain HTTP", func(t *testing.T) {
		t.Parallel()
		port := testprogram.FreePort(t, "localhost")
		otherSite(t, start(t, options{port: port, base: fmt.Sprintf("http://login.test:%d/", port)}), "evil.test")
	})
}

func otherSite(t *testing.T, s *server, host string) {
	t.Helper()
	evil := newSite(t)
	field := func(name, value string) string {
		return fmt.Sprintf("<input type=hidden name=%q value=%q>", name, value)
	}
	form := func(path, fields string) {
		page := fmt.Sprintf("<form method=post action=%q>%s<button id=go>Win a prize</button></form>", s.to(path), fields)
		evil.page("/form/"+path, page)
		// Without a referrer, browsers write "Origin: null".
		evil.page("/quiet/"+path, "<meta name=referrer content=no-referrer>"+page)
	}
	form("login/test", field("username", bob)+field("password", bobPassword))
	form("login/local", field("username", bob)+field("password", bobPassword))
	form("logout", "")
	form("account/name", field("name", "Mallory"))
	form("disconnect/script", "")
	form("delete", field("name", "Ada Lovelace"))
	form("sessions/remove-others", "")
	evil.page("/link", fmt.Sprintf(`<a id=logout href=%q>Funny cats</a> <a id=disconnect href=%q>More cats</a>`, s.to("logout"), s.to("disconnect/script")))
	evil.page("/inside", fmt.Sprintf(`<img id=i src=%q><iframe id=f src=%q></iframe><link rel=prefetch href=%[1]q><link rel=stylesheet href=%[1]q><script src=%[1]q></script>
		<script>
		addEventListener("load", async () => {
			const results = {};
			results.image = document.getElementById("i").naturalWidth;
			for (const path of ["currentUser", "token", "account", "about"]) {
				try { results[path] = await (await fetch(%[3]q + path, { credentials: "include" })).text(); } catch { results[path] = "refused"; }
			}
			for (const path of ["logout", "sessions/remove-others", "delete"]) {
				await fetch(%[3]q + path, { method: "POST", mode: "no-cors", credentials: "include", body: "a=b" }).catch(() => {});
			}
			await fetch(%[3]q + "logout", { mode: "no-cors", credentials: "include" }).catch(() => {});
			await fetch(%[3]q + "sessions", { method: "DELETE", credentials: "include" }).catch(() => {});
			results.socket = await new Promise((done) => {
				const socket = new WebSocket(%[4]q);
				socket.onopen = () => done("open");
				socket.onerror = () => done("refused");
			});
			window.results = results;
		});
		</script>`, s.to("logout"), s.to("account"), s.Base, strings.Replace(s.Base, "http", "ws", 1)))

	// Nobody is signed in: a form elsewhere cannot change that (login CSRF).
	b := newTab(t, person{script: true})
	b.visit(s.to("login"))
	b.AllowStatus(401, 403)
	for _, kind := range []string{"/form/", "/quiet/"} {
		b.visit(evil.at(host) + kind + "login/test")
		b.follow("#go")
		b.reads("#error-code", "cross_site")
		b.follow("#error-link")
		b.At(s.to("login"))
	}

	// Somebody is.
	b.signInAt(s, "test", ada, adaPassword)
	b.visit(s.to("login/script"))
	b.signIn(ada, adaPassword)
	uri := b.text("#uri")
	for _, path := range []string{"login/test", "login/local", "logout", "account/name", "disconnect/script", "delete", "sessions/remove-others"} {
		for _, kind := range []string{"/form/", "/quiet/"} {
			b.visit(evil.at(host) + kind + path)
			b.follow("#go")
			b.reads("#error-code", "cross_site")
		}
	}
	unharmed := func() {
		t.Helper()
		b.visit(s.to("account"))
		b.At(s.to("account"))
		if got := b.text("#uri"); got != uri {
			t.Errorf("the account is %s, want %s", got, uri)
		}
		if got := b.value("#name"); got != "Ada Lovelace" {
			t.Errorf("the name is %q", got)
		}
		if !b.has(`form[action$="disconnect/script"]`) || !b.has(provider("local")) {
			t.Error("the identities are not what they were")
		}
	}
	unharmed()

	// Images, frames, scripts, fetches, sockets.
	b.visit(evil.at(host) + "/inside")
	b.UntilTrue("window.results")
	results := testbrowser.Get[map[string]any](b, "window.results")
	for what, got := range results {
		want := any("refused")
		if what == "image" {
			want = float64(0)
		}
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	framed := false
	for _, p := range b.Complaints() {
		framed = framed || strings.Contains(p.Text, "frame-ancestors") || strings.Contains(p.Text, "X-Frame-Options")
	}
	if !framed {
		t.Error("nothing tells that the frame was refused")
	}
	unharmed()

	// A link asks first.
	b.visit(evil.at(host) + "/link")
	b.follow("#disconnect")
	b.At(s.to("disconnect/script"))
	b.reads("h1", "Disconnect Script?")
	unharmed()
	b.visit(evil.at(host) + "/link")
	b.follow("#logout")
	b.At(s.to("logout"))
	b.reads("h1", "Sign out?")
	unharmed()
	b.visit(evil.at(host) + "/link")
	b.follow("#logout")
	b.follow("#logout-confirm")
	b.At(s.to("login"))
	b.visit(s.to("account"))
	b.At(s.to("login"))

	// Our own link does not ask.
	b.signInAt(s, "test", ada, adaPassword)
	b.follow(`.site-nav a[href$="logout"]`)
	b.At(s.to("login"))
	b.reads("main .message", "You are signed out.")
}

// TestAllowedOrigin may do what others may not: read the API, hear the events.
func TestAllowedOrigin(t *testing.T) {
	t.Parallel()
	app := newSite(t)
	origin := app.at("localhost")
	s := start(t, options{origins: []string{origin}})
	app.page("/", fmt.Sprintf(`<script>
		window.heard = [];
		const socket = new WebSocket(%q);
		socket.onmessage = ({ data }) => heard.push(JSON.parse(data).type);
		window.user = () => fetch(%q, { credentials: "include" }).then((r) => r.status);
		window.rename = (name) => fetch(%q, { credentials: "include" }).then((r) => r.json()).then((user) =>
			fetch(user.uri, { method: "PATCH", credentials: "include", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name }) })).then((r) => r.status);
		</script><a id=logout href=%q>Log out</a>`, strings.Replace(s.Base, "http", "ws", 1), s.to("currentUser"), s.to("currentUser"), s.to("logout?redirect_uri=")))
	b := newTab(t, person{script: true})
	b.AllowStatus(401)
	b.visit(s.to("login")) // a session that others can sign in to
	b.visit(origin)
	b.UntilTrue(`heard.includes("loggedOut")`)
	if status := testbrowser.Get[int](b, "user()"); status != 401 {
		t.Errorf("signed out, the API answers %d", status)
	}
	second := b.another()
	second.visit(s.to("login?redirect_uri=" + origin + "/"))
	second.follow(provider("test"))
	second.signIn(ada, adaPassword)
	second.At(origin + "/")
	b.UntilTrue(`heard.includes("loggedIn") && heard.includes("token")`)
	if status := testbrowser.Get[int](b, "user()"); status != 200 {
		t.Errorf("signed in, the API answers %d", status)
	}
	if status := testbrowser.Get[int](b, `rename("Countess")`); status != 200 {
		t.Errorf("PATCH answers %d", status)
	}
	b.UntilTrue(`heard.includes("updated")`)
	// Its link signs out without asking, and comes back.
	second.follow("#logout")
	b.UntilTrue(`heard.filter((type) => type === "loggedOut").length === 2`)
	if status := testbrowser.Get[int](b, "user()"); status != 401 {
		t.Errorf("signed out again, the API answers %d", status)
	}
}
