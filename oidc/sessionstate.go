package oidc

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// Session management (OpenID Connect Session Management 1.0): a page of the client asks a
// page of ours, in a frame, whether who is signed in has changed. The page finds out from
// a cookie. Browsers that show pages in frames no cookies of another site make it answer
// "error", so that no client takes that for the end of a session.

// sessionState is the session_state of an authorization response, which the page computes
// likewise (Session Management, 3.2). Empty where no page could.
func (p *Provider) sessionState(r *request, who *Person) string {
	origin := originOf(r.RedirectURI)
	if who == nil || origin == "" || !r.has(scopeOpenID) || p.o.Sessions.StateCookie() == "" {
		return ""
	}
	return stateHash(r.client.ClientID, origin, p.o.Sessions.BrowserState(who.Session), randomName(16))
}

func stateHash(client, origin, browser, salt string) string {
	sum := sha256.Sum256([]byte(client + " " + origin + " " + browser + " " + salt))
	return base64.RawURLEncoding.EncodeToString(sum[:]) + "." + salt
}

// originOf is the origin of a web address as browsers write it (RFC 6454, 6.2); empty for
// other addresses.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return ""
	}
	return scheme + "://" + host
}

// checkSessionPage answers messages "client_id session_state" with "unchanged",
// "changed", or "error" when it cannot tell (Session Management, 3.2). crypto.subtle is
// there in secure contexts only.
var checkSessionPage = template.Must(template.New("check session").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Session</title>
<script nonce="{{.Nonce}}">
const name = {{.Cookie}} + "=";
async function check(message, origin) {
  const at = message.lastIndexOf(" "), state = message.slice(at + 1), dot = state.indexOf(".");
  const cookie = document.cookie.split("; ").find(c => c.startsWith(name));
  if (at < 1 || dot < 1 || dot === state.length - 1 || !cookie || !crypto.subtle) return "error";
  const text = [message.slice(0, at), origin, cookie.slice(name.length), state.slice(dot + 1)].join(" ");
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const hash = btoa(String.fromCharCode(...sum)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return hash === state.slice(0, dot) ? "unchanged" : "changed";
}
addEventListener("message", async e => {
  if (!e.source || e.source === window || e.origin === "null" || typeof e.data !== "string" || e.data.length > 1000) return;
  const answer = await check(e.data, e.origin);
  e.source.postMessage(answer, e.origin);
});
</script></html>
`))

// CheckSession serves the page for frames of clients. It shows nothing, and does nothing
// but answer: everybody may frame it.
func (p *Provider) CheckSession() http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		nonce := randomName(16)
		h := w.Header()
		h.Del("X-Frame-Options")
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors *")
		if err := checkSessionPage.Execute(w, struct{ Nonce, Cookie string }{nonce, p.o.Sessions.StateCookie()}); err != nil {
			p.o.Log.Warn("check session page", "err", err)
		}
	}
}
