// Package attempt is logins under way at other servers: from the click on our page
// until the browser comes back. Each is a record of its own, found by what the answer
// names (its state, or the request token of OAuth 1.0a), bound to the browser in which
// it began, and good once; any number may run side by side in one browser.
//
// A record outlives the time in which it can be finished, so that whoever comes too
// late, or twice, can be led on to where the login was meant to go.
//
// Steps are logins under way here, for which a second factor is missing (step.go).
package attempt

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"login-server/clock"
	"login-server/store"
)

// Errors of Take and Stash. Unless it is ErrUnknown or ErrBrowser, the attempt comes
// with the error.
var (
	// ErrUnknown: there is no such attempt, or it began too long ago.
	ErrUnknown = errors.New("no such login attempt")
	// ErrBrowser: it was begun in another browser, or this one has lost its cookies.
	ErrBrowser = errors.New("the login attempt belongs to another browser")
	// ErrProvider: the answer came to the callback of another provider.
	ErrProvider = errors.New("the login attempt is at another provider")
	// ErrExpired: it took too long, or it was sealed with a secret that is not in use any more.
	ErrExpired = errors.New("the login attempt has expired")
	// ErrUsed: it was finished before.
	ErrUsed = errors.New("the login attempt was used before")
)

const (
	// remembered is how long a record is kept, so that who comes back the next morning
	// still gets to where the login was meant to go.
	remembered = 24 * time.Hour
	// maxCookies is how many attempts of a browser can be under way at once.
	maxCookies = 20
	// maxKey is how many bytes a key may have. A state of ours has 43; a request token is
	// as long as its provider likes.
	maxKey     = 512
	secretSize = 32
)

// Attempt is one login at a provider.
type Attempt struct {
	// Provider is the id of the provider.
	Provider string
	// User is the id of the account that was signed in when the login began, to which
	// the identity is to be linked; empty: it is to sign somebody in.
	User string
	// Fresh: whoever is signed in is to prove who they are. If it is somebody else they take
	// the place; nothing is linked.
	Fresh bool
	// Redirect and From say where the login leads to; see web.destination.
	Redirect, From string

	// State, Nonce, Verifier and Kept are those of providers.Login.
	State, Nonce, Verifier, Kept string
	// Answer is what the provider has had posted, if it does not use the query.
	Answer string
}

// New returns an attempt with fresh random values.
func New(provider string) Attempt {
	return Attempt{Provider: provider, State: random(), Nonce: random(), Verifier: random()}
}

// Verdict is what may come of a login in the browser that it has come back to.
type Verdict int

const (
	// Admit: the browser is whose it was. If nobody is signed in the identity signs somebody
	// in, otherwise it is linked to the account.
	Admit Verdict = iota
	// SignedOut: the identity was to be linked, and nobody is signed in any more. It must not
	// sign somebody in instead: that would be another account than the one that was meant.
	SignedOut
	// SomebodyElse: an account is signed in that was not when the login began. Nothing joins
	// an account that has not asked for it.
	SomebodyElse
)

// Verdict compares who is signed in now, the id of an account or nothing, with who was
// when the login began. Where that account was merged into another, the caller has
// put the other in place of User.
func (a Attempt) Verdict(now string) Verdict {
	switch {
	case now == a.User, now == "" && a.Fresh:
		return Admit
	case now == "":
		return SignedOut
	}
	return SomebodyElse
}

// random has 43 characters of the base64url alphabet, which a PKCE verifier has to have
// at least (RFC 7636, 4.1).
func random() string {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// record is an attempt as it is stored. Its id is the hash of the attempt's key, and
// what opens something is sealed: who can read the database cannot finish a login.
type record struct {
	Provider string    `json:"provider"`
	User     string    `json:"user,omitempty"`
	Fresh    bool      `json:"fresh,omitempty"`
	Redirect string    `json:"redirect,omitempty"`
	From     string    `json:"from,omitempty"`
	Sealed   string    `json:"sealed,omitempty"` // gone once it was used
	Binding  string    `json:"binding"`          // SHA-256 of the cookie's secret, in hex
	Began    time.Time `json:"began"`
	Used     bool      `json:"used,omitempty"`
}

type sealed struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Kept     string `json:"k,omitempty"`
	Answer   string `json:"a,omitempty"`
}

// Sealer encrypts what nobody may read in the database; see token.Sealer.
type Sealer interface {
	Seal(value any) (string, error)
	Open(sealed string, value any) error
}

// Options are what a Book needs.
type Options struct {
	Store  store.Engine
	Clock  clock.Clock
	Sealer Sealer
	// Life is how long people have to sign in at the provider.
	Life time.Duration
	// Cookie is what the names of the cookies begin with, and Secure whether they are sent
	// over https only.
	Cookie string
	Secure bool
}

// Book keeps the attempts. It is safe for concurrent use.
type Book struct {
	o       Options
	records *store.Collection[record]
	steps   *store.Collection[stepRecord]
}

// NewBook returns the book of an installation.
func NewBook(o Options) *Book {
	b := &Book{o: o}
	b.records = store.NewCollection(o.Store, "attempt", func(r record) store.Index {
		return store.Index{Expires: r.Began.Add(b.kept())}
	})
	b.steps = store.NewCollection(o.Store, "step", func(s stepRecord) store.Index {
		return store.Index{Expires: s.Began.Add(StepLife)}
	})
	return b
}

// Keep writes down an attempt that is about to leave for the provider, under the key
// that the answer will name it by, and binds it to the browser of the request.
func (b *Book) Keep(ctx context.Context, w http.ResponseWriter, r *http.Request, key string, a Attempt) error {
	if !validKey(key) {
		return fmt.Errorf("keep login attempt: its key has %d bytes, not 1 to %d", len(key), maxKey)
	}
	text, err := b.seal(a)
	if err != nil {
		return err
	}
	secret := random()
	_, err = b.records.Insert(ctx, digest(key), record{
		Provider: a.Provider, User: a.User, Fresh: a.Fresh, Redirect: a.Redirect, From: a.From,
		Sealed: text, Binding: digest(secret), Began: b.o.Clock.Now(),
	})
	if err != nil {
		return fmt.Errorf("keep login attempt: %w", err)
	}
	b.bind(w, r, key, secret)
	return nil
}

// Take finishes the attempt that an answer at the callback of provider names: of any
// number of calls one gets it. An answer in another browser changes nothing; one at the
// callback of another provider does, because its state is known there now.
func (b *Book) Take(ctx context.Context, r *http.Request, provider, key string) (Attempt, error) {
	if !validKey(key) {
		return Attempt{}, ErrUnknown
	}
	var taken record
	_, err := b.records.Update(ctx, digest(key), func(current *record) error {
		taken = *current
		switch {
		case !b.bound(r, key, current.Binding):
			return ErrBrowser
		case current.Used:
			return ErrUsed
		}
		// What is left tells where the login was meant to lead to, and opens nothing.
		current.Used, current.Sealed = true, ""
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Attempt{}, ErrUnknown
	case errors.Is(err, ErrBrowser):
		return Attempt{}, ErrBrowser
	case errors.Is(err, ErrUsed):
		return taken.outside(), ErrUsed
	case err != nil:
		return Attempt{}, fmt.Errorf("use login attempt: %w", err)
	}
	a, err := b.open(taken)
	switch {
	case taken.Provider != provider:
		return a, ErrProvider
	case b.o.Clock.Now().Sub(taken.Began) > b.o.Life:
		return a, ErrExpired
	}
	return a, err
}

// Stash adds the answer that a provider has had posted to its attempt, once. Browsers
// do not send our cookie with a form from another site, so nothing is known of the
// browser here: Take will ask for it.
func (b *Book) Stash(ctx context.Context, provider, key, answer string) error {
	if !validKey(key) {
		return ErrUnknown
	}
	_, err := b.records.Update(ctx, digest(key), func(current *record) error {
		switch {
		case current.Provider != provider:
			return ErrProvider
		case current.Used:
			return ErrUsed
		}
		a, err := b.open(*current)
		switch {
		case err != nil:
			return err
		case a.Answer != "":
			return ErrUsed
		}
		a.Answer = answer
		current.Sealed, err = b.seal(a)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return ErrUnknown
	}
	return err
}

func validKey(key string) bool { return key != "" && len(key) <= maxKey }

// seal encrypts what of an attempt opens something.
func (b *Book) seal(a Attempt) (string, error) {
	text, err := b.o.Sealer.Seal(sealed{State: a.State, Nonce: a.Nonce, Verifier: a.Verifier, Kept: a.Kept, Answer: a.Answer})
	if err != nil {
		return "", fmt.Errorf("seal login attempt: %w", err)
	}
	return text, nil
}

// open is the attempt of a record that was not used.
func (b *Book) open(r record) (Attempt, error) {
	a := r.outside()
	var s sealed
	if err := b.o.Sealer.Open(r.Sealed, &s); err != nil {
		return a, ErrExpired
	}
	a.State, a.Nonce, a.Verifier, a.Kept, a.Answer = s.State, s.Nonce, s.Verifier, s.Kept, s.Answer
	return a, nil
}

// outside is what stands outside of the seal.
func (r record) outside() Attempt {
	return Attempt{Provider: r.Provider, User: r.User, Fresh: r.Fresh, Redirect: r.Redirect, From: r.From}
}

// digest is what is stored of a secret with 256 bits, and of a key that a provider has made.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// A cookie for each attempt, not one for the browser: ten that begin at the same moment
// in a browser without cookies would each set it, and all but one would be lost. Its
// name tells which attempt, its value is the time and the secret. It stays when the attempt
// is finished: the back button leads to the answer once more.

func (b *Book) cookieName(key string) string { return b.o.Cookie + "-" + digest(key)[:16] }

// bound tells whether the request comes from the browser that an attempt is bound to.
// Where cookies have no __Host- prefix others on the same host may have set one of the
// same name beside it.
func (b *Book) bound(r *http.Request, key, binding string) bool {
	for _, c := range r.CookiesNamed(b.cookieName(key)) {
		_, secret, _ := strings.Cut(c.Value, ".")
		if subtle.ConstantTimeCompare([]byte(digest(secret)), []byte(binding)) == 1 {
			return true
		}
	}
	return false
}

// bind gives the browser the secret of an attempt, and takes from it those of the oldest
// attempts when there are many.
func (b *Book) bind(w http.ResponseWriter, r *http.Request, key, secret string) {
	var others []*http.Cookie // browsers send the oldest first (RFC 6265, 5.4)
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, b.o.Cookie+"-") && c.Name != b.cookieName(key) {
			others = append(others, c)
		}
	}
	slices.SortStableFunc(others, func(x, y *http.Cookie) int { return cmp.Compare(began(x), began(y)) })
	for _, c := range others[:max(0, len(others)-(maxCookies-1))] {
		b.setCookie(w, c.Name, "", -1)
	}
	b.setCookie(w, b.cookieName(key), strconv.FormatInt(b.o.Clock.Now().UnixMilli(), 36)+"."+secret, int(b.kept()/time.Second))
}

// began is when the attempt of a cookie began, in milliseconds since 1970; 0 if it does
// not say so.
func began(c *http.Cookie) int64 {
	text, _, _ := strings.Cut(c.Value, ".")
	at, _ := strconv.ParseInt(text, 36, 64)
	return at
}

func (b *Book) setCookie(w http.ResponseWriter, name, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		// Lax: it comes along when the provider sends the browser back.
		HttpOnly: true, Secure: b.o.Secure, SameSite: http.SameSiteLaxMode,
	})
}

// kept is how long a record exists.
func (b *Book) kept() time.Duration { return max(remembered, b.o.Life) }
