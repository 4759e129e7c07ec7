package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The browser state tells a page of ours, which clients have in a frame, whether who is
// signed in is still the same (OpenID Connect Session Management 1.0, 3.2). It opens
// nothing, and names nobody: scripts may read its cookie.

// signedOutState is the browser state after signing out. A browser without any state is
// another thing: there the page cannot tell, for it is not shown its cookie.
const signedOutState = "none"

// BrowserState is that of a browser with this session. It stays the same from a sign-in
// until the session ends, also when the same person proves anew who they are.
func (m *Manager) BrowserState(s Session) string {
	mac := hmac.New(sha256.New, m.cookie.options.Keys[0])
	mac.Write([]byte("browser state\x00" + s.Handle + "\x00" + s.Created.UTC().Format(time.RFC3339Nano)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// StateCookie is the name of the cookie with the browser state; empty if there is none.
func (m *Manager) StateCookie() string {
	if !m.cookie.options.State {
		return ""
	}
	return m.cookie.name + "-st"
}

// setState gives the browser its state. The pages of clients are on other sites, so the
// cookie has to be sent there wherever that is possible, which is over https.
func (m *Manager) setState(w http.ResponseWriter, state string) {
	name := m.StateCookie()
	if name == "" {
		return
	}
	sameSite := http.SameSiteLaxMode
	if m.cookie.options.Secure {
		sameSite = http.SameSiteNoneMode
	}
	w.Header()["Set-Cookie"] = slices.DeleteFunc(w.Header()["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, name+"=")
	})
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: state, Path: "/", MaxAge: int(m.cookie.lifetime / time.Second),
		Secure: m.cookie.options.Secure, SameSite: sameSite,
	})
}
