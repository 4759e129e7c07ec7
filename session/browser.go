package session

import (
	"bytes"
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

// A browser keeps a cookie of which accounts it has signed in to, beside that of the
// session and for longer. The store has nothing of it. The cookie opens nothing: it tells
// whether somebody is to hear of a sign-in from a new browser, and who has copied it is
// spared a second factor at the most, never the first.

const (
	// browserPeriod is how long a browser is known to an account that it was not used
	// for. Browsers keep no cookie for longer (RFC 6265bis, 5.5).
	browserPeriod = 400 * 24 * time.Hour
	// maxAcquaintances is how many accounts a browser is known to at once; the one that it
	// was used for the longest time ago goes first. With them the cookie has 2 KB.
	maxAcquaintances = 20
	// browserFormat begins the value, and tells this layout from a later one.
	browserFormat = 1
	browserIDSize = 16
)

// Browser is what a browser's long-lived cookie says.
type Browser struct {
	// ID tells browsers apart in the history of sign-ins. It is random and opens nothing.
	ID string
	// New: it has brought no cookie. Unless it is saved it has another ID the next time.
	New bool
	// read is when the cookie was read: what it says is judged by that time.
	read  time.Time
	known []acquaintance
}

// acquaintance is an account that a browser has signed in to. Times are in Unix
// milliseconds, 0 for never.
type acquaintance struct {
	// Account is made from the account's id, which the cookie need not have.
	Account [12]byte
	// Since and Last are the first and the latest sign-in.
	Since, Last int64
	// Trusted and Until bound the time in which no second factor is asked for.
	Trusted, Until int64
}

func accountTag(id string) (tag [12]byte) {
	sum := sha256.Sum256([]byte("known browser\x00" + id))
	copy(tag[:], sum[:])
	return tag
}

// of goes through what is known of accounts and has not run out.
func (b Browser) of(accountIDs []string, found func(acquaintance) bool) bool {
	for _, a := range b.known {
		if b.read.Sub(time.UnixMilli(a.Last)) > browserPeriod {
			continue
		}
		if slices.ContainsFunc(accountIDs, func(id string) bool { return accountTag(id) == a.Account }) && found(a) {
			return true
		}
	}
	return false
}

// Known tells whether the browser has signed in to one of the accounts, which are one
// and those that it has absorbed.
func (b Browser) Known(accountIDs ...string) bool {
	return b.of(accountIDs, func(acquaintance) bool { return true })
}

// Trusted tells whether somebody has said that the browser is to be trusted with one of
// the accounts, and not too long ago. Trust given before since is void: that is the
// latest of what takes it back, such as a new password, a reset of factors or signing out
// everywhere; zero if there was nothing of the kind.
func (b Browser) Trusted(since time.Time, accountIDs ...string) bool {
	return b.of(accountIDs, func(a acquaintance) bool {
		given, until := time.UnixMilli(a.Trusted), time.UnixMilli(a.Until)
		return a.Trusted != 0 && !given.Before(since) && !b.read.Before(given) && b.read.Before(until)
	})
}

// SignedIn notes that the browser signs in to an account.
func (b *Browser) SignedIn(accountID string) { b.note(accountID) }

// Trust has the browser trusted with an account that it signs in to, for some time from
// now on.
func (b *Browser) Trust(accountID string, life time.Duration) {
	a := b.note(accountID)
	a.Trusted, a.Until = b.read.UnixMilli(), b.read.Add(life).UnixMilli()
}

// Distrust takes trust in the browser back. The browser is still known.
func (b *Browser) Distrust(accountIDs ...string) {
	for _, id := range accountIDs {
		for i := range b.known {
			if b.known[i].Account == accountTag(id) {
				b.known[i].Trusted, b.known[i].Until = 0, 0
			}
		}
	}
}

// note moves an account to the front of those that the browser is known to.
func (b *Browser) note(accountID string) *acquaintance {
	now, tag := b.read.UnixMilli(), accountTag(accountID)
	a := acquaintance{Account: tag, Since: now}
	rest := make([]acquaintance, 0, maxAcquaintances)
	for _, x := range b.known {
		if x.Account != tag {
			rest = append(rest, x)
		} else if b.read.Sub(time.UnixMilli(x.Last)) <= browserPeriod {
			a = x
		}
	}
	a.Last = now
	b.known = append([]acquaintance{a}, rest[:min(len(rest), maxAcquaintances-1)]...)
	return &b.known[0]
}

// BrowserCookie is the name of the cookie with what a browser is known for.
func (m *Manager) BrowserCookie() string { return m.cookie.name + "-bw" }

// Browser tells what a request's browser is known for.
func (m *Manager) Browser(r *http.Request) Browser {
	b := Browser{read: m.now()}
	for _, sent := range r.CookiesNamed(m.BrowserCookie()) {
		var value []byte
		if securecookie.DecodeMulti(m.BrowserCookie(), sent.Value, &value, m.cookie.browser...) == nil && b.unmarshal(value) {
			return b
		}
	}
	b.ID, b.New = base64.RawURLEncoding.EncodeToString(random(browserIDSize)), true
	return b
}

// SaveBrowser gives the browser the cookie with what it is known for from now on.
func (m *Manager) SaveBrowser(w http.ResponseWriter, b Browser) error {
	plain, err := b.marshal()
	if err != nil {
		return err
	}
	name := m.BrowserCookie()
	value, err := securecookie.EncodeMulti(name, plain, m.cookie.browser...)
	if err != nil {
		return err
	}
	w.Header()["Set-Cookie"] = slices.DeleteFunc(w.Header()["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, name+"=")
	})
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(browserPeriod / time.Second),
		HttpOnly: true, Secure: m.cookie.options.Secure, SameSite: http.SameSiteLaxMode,
	})
	return nil
}

func (b Browser) marshal() ([]byte, error) {
	id, err := base64.RawURLEncoding.DecodeString(b.ID)
	if err != nil {
		return nil, err
	}
	return binary.Append(append([]byte{browserFormat}, id...), binary.BigEndian, b.known)
}

// unmarshal returns false for a value of another layout.
func (b *Browser) unmarshal(value []byte) bool {
	const head = 1 + browserIDSize
	size := binary.Size(acquaintance{})
	if len(value) < head || value[0] != browserFormat || (len(value)-head)%size != 0 {
		return false
	}
	known := make([]acquaintance, (len(value)-head)/size)
	if err := binary.Read(bytes.NewReader(value[head:]), binary.BigEndian, known); err != nil {
		return false
	}
	b.ID, b.known = base64.RawURLEncoding.EncodeToString(value[1:head]), known
	return true
}

// browserCodec seals the cookie with keys of its own, made from one of the session cookie.
func browserCodec(key []byte) securecookie.Codec {
	authenticated, err := hkdf.Key(sha256.New, key, nil, "known browser, authenticated", 32)
	encrypted, err2 := hkdf.Key(sha256.New, key, nil, "known browser, encrypted", 32)
	if err := cmp.Or(err, err2); err != nil {
		panic(err) // only for lengths that SHA-256 cannot give
	}
	// How old it is, is judged account by account.
	return securecookie.New(authenticated, encrypted).SetSerializer(securecookie.NopEncoder{}).MaxAge(0)
}
