package session

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

// CookieOptions say how the cookies of an installation look.
type CookieOptions struct {
	// Installation tells the cookies of several installations on one host apart:
	// the base URL.
	Installation string
	// Secure cookies are sent over https only and carry the __Host- prefix.
	Secure bool
	// CrossSite lets pages of other sites send the cookie with their requests, as
	// browser libraries on an application's own domain need; it wants Secure.
	CrossSite bool
	// Keys authenticate the cookie's value: the first signs, all verify.
	Keys [][]byte
	// State gives browsers a second cookie that scripts can read: see StateCookie.
	State bool
}

// cookie reads and writes the session cookie. securecookie authenticates the
// value; what is in it is ours: kind, time, handle and secret.
type cookie struct {
	name     string
	options  CookieOptions
	codecs   []securecookie.Codec
	browser  []securecookie.Codec // of the cookie beside it: see Browser
	lifetime time.Duration
}

// Kinds of cookies.
const (
	kindAnonymous = 'a' // handle without a document
	kindSession   = 's' // handle and the secret that opens its document
)

const secretSize = 32

// content is what a cookie carries.
type content struct {
	kind   byte
	issued time.Time
	handle string
	secret []byte
}

func newCookie(o CookieOptions, lifetime time.Duration) cookie {
	sum := sha256.Sum256([]byte(o.Installation))
	name := "login-" + hex.EncodeToString(sum[:4])
	if o.Secure {
		name = "__Host-" + name
	}
	c := cookie{name: name, options: o, lifetime: lifetime}
	for _, key := range o.Keys {
		// Expiry is ours to judge by our clock, so securecookie's is off.
		c.codecs = append(c.codecs, securecookie.New(key, nil).SetSerializer(securecookie.NopEncoder{}).MaxAge(0))
		c.browser = append(c.browser, browserCodec(key))
	}
	return c
}

func (c cookie) encode(v content) (string, error) {
	raw := make([]byte, 0, 9+secretSize+len(v.handle))
	raw = append(raw, v.kind)
	raw = binary.BigEndian.AppendUint64(raw, uint64(v.issued.Unix()))
	raw = append(raw, v.secret...)
	raw = append(raw, v.handle...)
	return securecookie.EncodeMulti(c.name, raw, c.codecs...)
}

// decode returns false for a cookie that this installation has not made or that is too old.
func (c cookie) decode(value string, now time.Time) (content, bool) {
	var raw []byte
	if len(value) > 4096 || securecookie.DecodeMulti(c.name, value, &raw, c.codecs...) != nil || len(raw) < 9 {
		return content{}, false
	}
	v := content{kind: raw[0], issued: time.Unix(int64(binary.BigEndian.Uint64(raw[1:])), 0).UTC()}
	rest := raw[9:]
	switch v.kind {
	case kindSession:
		if len(rest) <= secretSize {
			return content{}, false
		}
		v.secret, rest = rest[:secretSize], rest[secretSize:]
	case kindAnonymous:
		if now.Sub(v.issued) > c.lifetime {
			return content{}, false
		}
	default:
		return content{}, false
	}
	v.handle = string(rest)
	return v, v.handle != ""
}

func (c cookie) set(w http.ResponseWriter, v content) error {
	value, err := c.encode(v)
	if err != nil {
		return err
	}
	sameSite := http.SameSiteLaxMode
	if c.options.CrossSite && c.options.Secure {
		sameSite = http.SameSiteNoneMode
	}
	// A response sets the cookie once (RFC 6265, 4.1.1): the latest word counts.
	w.Header()["Set-Cookie"] = slices.DeleteFunc(w.Header()["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, c.name+"=")
	})
	http.SetCookie(w, &http.Cookie{
		Name: c.name, Value: value, Path: "/", MaxAge: int(c.lifetime / time.Second),
		HttpOnly: true, Secure: c.options.Secure, SameSite: sameSite,
	})
	return nil
}

// CookieName is the name of the session cookie.
func (m *Manager) CookieName() string { return m.cookie.name }

// Visit is what a request's cookie says of the browser.
type Visit struct {
	// Handle of the session, whether or not anybody is signed in; empty without a
	// usable cookie.
	Handle string
	// Session in which somebody is signed in; nil when anonymous.
	Session *Session
	// Issued is when an anonymous cookie was made.
	Issued time.Time
	// Stale means that the cookie is ours but opens nothing any more: its session
	// has ended or has another secret by now.
	Stale bool
	// renewed: the session has got another secret just now, by a request of the same
	// browser whose answer this one has crossed.
	renewed bool

	secret []byte
}

// Visit tells whose browser a request comes from. An error means that the store
// could not be asked.
func (m *Manager) Visit(r *http.Request) (Visit, error) {
	c, ok := m.sent(r)
	if !ok {
		return Visit{}, nil
	}
	if c.kind == kindAnonymous {
		return Visit{Handle: c.handle, Issued: c.issued}, nil
	}
	s, err := m.Get(r.Context(), c.handle)
	if err == nil && !s.opensWith(c.secret) {
		// Another node may have given it the secret that this cookie has, a moment ago.
		s, err = m.GetAnew(r.Context(), c.handle)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return Visit{Stale: true}, nil
	case err == nil && !s.opensWith(c.secret):
		return Visit{Stale: true, renewed: m.now().Sub(s.AuthTime) < touchInterval}, nil
	case err != nil:
		return Visit{}, err
	}
	return Visit{Handle: c.handle, Session: &s, secret: c.secret}, nil
}

// sent returns the content of the request's cookie. Without the __Host- prefix
// others on the same host may have set one of the same name: ours is the one that
// can be read.
func (m *Manager) sent(r *http.Request) (content, bool) {
	for _, sent := range r.CookiesNamed(m.cookie.name) {
		if c, ok := m.cookie.decode(sent.Value, m.now()); ok {
			return c, true
		}
	}
	return content{}, false
}

// Welcome makes sure that the browser has a cookie of this installation, and that
// it lives on: it rolls the expiry of a session, and gives a signed cookie without
// a document to whoever has none. It returns the visit as the next request will see it.
func (m *Manager) Welcome(ctx context.Context, w http.ResponseWriter, v Visit) (Visit, error) {
	now := m.now()
	if v.Session != nil {
		return v, m.Roll(ctx, w, v)
	}
	if v.renewed || v.Handle != "" && now.Sub(v.Issued) < touchInterval {
		// A cookie set now could take the place of the one that was set elsewhere.
		return v, nil
	}
	stale := v.Stale
	if v.Handle == "" {
		v = Visit{Handle: NewHandle()}
	}
	if stale {
		m.setState(w, signedOutState)
	}
	v.Issued = now
	return v, m.cookie.set(w, content{kind: kindAnonymous, issued: now, handle: v.Handle})
}

// Roll moves the expiry of the visit's session on, at most once a minute, and the
// cookie's with it. It does nothing for an anonymous visit.
func (m *Manager) Roll(ctx context.Context, w http.ResponseWriter, v Visit) error {
	if v.Session == nil || m.now().Sub(v.Session.LastSeen) < touchInterval {
		return nil
	}
	rolled, err := m.touch(ctx, v.Handle, v.secret)
	if err != nil || !rolled {
		return err
	}
	m.setState(w, m.BrowserState(*v.Session))
	return m.cookie.set(w, content{kind: kindSession, issued: m.now(), handle: v.Handle, secret: v.secret})
}

// SignIn binds the browser to a user. An anonymous session keeps its handle and
// gets a document; one in which somebody is signed in already gets a new secret.
// No cookie that was planted before is worth anything afterwards.
func (m *Manager) SignIn(ctx context.Context, w http.ResponseWriter, v Visit, l Login) (Session, error) {
	// The history first: when this fails the sockets of the session have not heard
	// of a sign-in whose cookie the browser never got.
	handle := cmp.Or(v.Handle, NewHandle())
	entry, err := m.noteSuccess(ctx, handle, l)
	if err != nil {
		return Session{}, err
	}
	var s Session
	var secret []byte
	err = ErrNotFound
	if v.Session != nil {
		s, secret, err = m.renew(ctx, v, l)
	}
	if errors.Is(err, ErrNotFound) {
		s, secret, err = m.begin(ctx, handle, entry, l)
	}
	if err != nil {
		return Session{}, err
	}
	m.setState(w, m.BrowserState(s))
	return s, m.cookie.set(w, content{kind: kindSession, issued: m.now(), handle: s.Handle, secret: secret})
}

// SignOut ends the visit's session. The browser keeps its handle, so that sockets
// of the session hear of it and of the next sign-in.
func (m *Manager) SignOut(ctx context.Context, w http.ResponseWriter, v Visit) error {
	if v.Session == nil {
		return nil
	}
	// Somebody else may have ended it a moment ago, with the same result.
	if err := m.sessions.Delete(ctx, v.Handle); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := m.cookie.set(w, content{kind: kindAnonymous, issued: m.now(), handle: v.Handle}); err != nil {
		return err
	}
	m.setState(w, signedOutState)
	m.wrote(v.Handle, false)
	m.ended(ctx, *v.Session)
	return nil
}
