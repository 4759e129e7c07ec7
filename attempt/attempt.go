// Package attempt is logins under way at other servers: from the click on our page
// until the browser comes back. Each is a record of its own, found by what the answer
// names (its state, or the request token of OAuth 1.0a), bound to the browser in which
// it began, and good once; any number may run side by side in one browser.
//
// A record outlives the time in which it can be finished, so that whoever comes too
// late, or twice, can be led on to where the login was meant to go.
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
	// ErrExpired: it took too long.
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
	secretSize = 32
)

// Attempt is one login at a provider.
type Attempt struct {
	// Provider is the id of the provider.
	Provider string
	// User is the id of the account that was signed in when the login began, to which
	// the identity is to be linked; empty: it is to sign somebody in.
	User string
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
	Redirect string    `json:"redirect,omitempty"`
	From     string    `json:"from,omitempty"`
	Sealed   string    `json:"sealed"`
	Binding  string    `json:"binding"` // SHA-256 of the cookie's secret, in hex
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
}

// NewBook returns the book of an installation.
func NewBook(o Options) *Book {
	b := &Book{o: o}
	b.records = store.NewCollection(o.Store, "attempt", func(r record) store.Index {
		return store.Index{Expires: r.Began.Add(b.kept())}
	})
	return b
}

// Keep writes down an attempt that is about to leave for the provider, under the key
// that the answer will name it by, and binds it to the browser of the request.
func (b *Book) Keep(ctx context.Context, w http.ResponseWriter, r *http.Request, key string, a Attempt) error {
	text, err := b.o.Sealer.Seal(sealed{State: a.State, Nonce: a.Nonce, Verifier: a.Verifier, Kept: a.Kept})
	if err != nil {
		return fmt.Errorf("seal login attempt: %w", err)
	}
	_, err = b.records.Insert(ctx, digest(key), record{
		Provider: a.Provider, User: a.User, Redirect: a.Redirect, From: a.From,
		Sealed: text, Binding: digest(b.bind(w, r, key)), Began: b.o.Clock.Now(),
	})
	if err != nil {
		return fmt.Errorf("keep login attempt: %w", err)
	}
	return nil
}

// Take finishes the attempt that an answer at the callback of provider names: of any
// number of calls one gets it. An answer in another browser changes nothing.
func (b *Book) Take(ctx context.Context, r *http.Request, provider, key string) (Attempt, error) {
	item, err := b.find(ctx, key)
	if err != nil {
		return Attempt{}, err
	}
	if secret := b.secret(r, key); secret == "" || subtle.ConstantTimeCompare([]byte(digest(secret)), []byte(item.Value.Binding)) != 1 {
		return Attempt{}, ErrBrowser
	}
	a, err := b.attempt(item.Value)
	if err != nil {
		return a, err
	}
	if item.Value.Used {
		return a, ErrUsed
	}
	item.Value.Used = true
	switch _, err := b.records.Replace(ctx, item); {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		return a, ErrUsed
	case err != nil:
		return a, fmt.Errorf("use login attempt: %w", err)
	}
	switch {
	case item.Value.Provider != provider:
		return a, ErrProvider
	case b.o.Clock.Now().Sub(item.Value.Began) > b.o.Life:
		return a, ErrExpired
	}
	return a, nil
}

// Stash adds the answer that a provider has had posted to its attempt. Browsers do not
// send our cookie with a form from another site, so nothing is known of the browser
// here: Take will ask for it.
func (b *Book) Stash(ctx context.Context, provider, key, answer string) error {
	item, err := b.find(ctx, key)
	if err != nil {
		return err
	}
	a, err := b.attempt(item.Value)
	switch {
	case err != nil:
		return err
	case item.Value.Provider != provider:
		return ErrProvider
	case item.Value.Used || a.Answer != "":
		return ErrUsed
	}
	item.Value.Sealed, err = b.o.Sealer.Seal(sealed{State: a.State, Nonce: a.Nonce, Verifier: a.Verifier, Kept: a.Kept, Answer: answer})
	if err != nil {
		return fmt.Errorf("seal login attempt: %w", err)
	}
	_, err = b.records.Replace(ctx, item)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return ErrUsed
	}
	return err
}

func (b *Book) find(ctx context.Context, key string) (store.Item[record], error) {
	if key == "" || len(key) > 512 {
		return store.Item[record]{}, ErrUnknown
	}
	item, err := b.records.Get(ctx, digest(key))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return item, ErrUnknown
	case err != nil:
		return item, fmt.Errorf("find login attempt: %w", err)
	}
	return item, nil
}

// attempt opens a record. What was sealed with a secret that is not in use any more is
// as if it had expired.
func (b *Book) attempt(r record) (Attempt, error) {
	a := Attempt{Provider: r.Provider, User: r.User, Redirect: r.Redirect, From: r.From}
	var s sealed
	if err := b.o.Sealer.Open(r.Sealed, &s); err != nil {
		return a, ErrExpired
	}
	a.State, a.Nonce, a.Verifier, a.Kept, a.Answer = s.State, s.Nonce, s.Verifier, s.Kept, s.Answer
	return a, nil
}

// digest is what is stored of a secret with 256 bits, and of a key that a provider has made.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// A cookie for each attempt, not one for the browser: ten that begin at the same moment
// in a browser without cookies would each set it, and all but one would be lost. Its
// name tells which attempt, its value is the time and the secret.

func (b *Book) cookieName(key string) string { return b.o.Cookie + "-" + digest(key)[:16] }

// secret is what the attempt is bound to in the request's browser; empty if there is nothing.
func (b *Book) secret(r *http.Request, key string) string {
	c, err := r.Cookie(b.cookieName(key))
	if err != nil {
		return ""
	}
	_, secret, _ := strings.Cut(c.Value, ".")
	if len(secret) != base64.RawURLEncoding.EncodedLen(secretSize) {
		return ""
	}
	return secret
}

// bind gives the browser the secret of an attempt, and takes from it those of the oldest
// attempts when there are many.
func (b *Book) bind(w http.ResponseWriter, r *http.Request, key string) (secret string) {
	began := func(c *http.Cookie) int64 {
		text, _, _ := strings.Cut(c.Value, ".")
		at, _ := strconv.ParseInt(text, 36, 64)
		return at
	}
	var others []*http.Cookie
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, b.o.Cookie+"-") {
			others = append(others, c)
		}
	}
	slices.SortFunc(others, func(x, y *http.Cookie) int { return cmp.Compare(began(y), began(x)) })
	for i := maxCookies - 1; i < len(others); i++ {
		b.setCookie(w, others[i].Name, "", -1)
	}
	secret = random()
	b.setCookie(w, b.cookieName(key), strconv.FormatInt(b.o.Clock.Now().Unix(), 36)+"."+secret, int(b.kept()/time.Second))
	return secret
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
