package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"login-server/events"
	"login-server/session"
	"login-server/store"
)

// grant is what a client may do in somebody's name, from one authorization on: its code,
// its refresh tokens, and its opaque access tokens. Its id opens nothing.
type grant struct {
	ID     string `json:"id"`
	Client string `json:"client"`
	// User is the account's id at the time, and Subject what the client knows it by, which
	// stays the same as long as the grant lives.
	User    string `json:"user"`
	Subject string `json:"subject"`
	// Session and SessionBegan name the session in which it was given. Unless Offline is
	// set, it ends with it.
	Session      string    `json:"session,omitempty"`
	SessionBegan time.Time `json:"sessionBegan,omitzero"`
	Offline      bool      `json:"offline,omitempty"`

	Scope     []string        `json:"scope"`
	Resources []string        `json:"resources,omitempty"`
	Claims    json.RawMessage `json:"claims,omitempty"` // the claims parameter
	Nonce     string          `json:"nonce,omitempty"`
	AuthTime  time.Time       `json:"authTime"`
	ACR       string          `json:"acr,omitempty"`
	AMR       []string        `json:"amr,omitempty"`
	// KeyThumbprint binds the tokens that are given next to a DPoP key (RFC 9449).
	KeyThumbprint string `json:"jkt,omitempty"`

	Code *code `json:"code,omitempty"`

	// Marks are those of the withdrawals that were known when it was given: with others it is
	// void.
	Marks marks `json:"marks,omitzero"`

	// Refresh is the refresh token in force; nil if there is none.
	Refresh *refresh `json:"refresh,omitempty"`
	// Access are opaque access tokens; Denied the ids of JWTs that were revoked. Of those
	// that were issued up to DeniedUntil all were.
	Access      []opaque  `json:"access,omitempty"`
	Denied      []denied  `json:"denied,omitempty"`
	DeniedUntil time.Time `json:"deniedUntil,omitzero"`

	Revoked bool      `json:"revoked,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Used    time.Time `json:"used,omitzero"`
	// Expires is the end of everything in it.
	Expires time.Time `json:"expires,omitzero"`
}

// refresh is a family of refresh tokens, which follow each other. They are not stored:
// each is computed from the key of this server, the seed, and its number, so that an old
// one is known for what it is however many came after it, and a client that asks twice
// gets the same successor twice.
type refresh struct {
	Seed string `json:"seed"`
	// Number of the token in force. Since is from when on it is, with the same of those
	// before it that may still be within the grace in front of it.
	Number int         `json:"number"`
	Since  []time.Time `json:"since"`
	// Idle is when it expires unless it is used.
	Idle time.Time `json:"idle"`
}

type opaque struct {
	Hash      string   `json:"hash"`
	Scope     []string `json:"scope"`
	Resources []string `json:"resources,omitempty"`
	// KeyThumbprint is the key that it was given to: later ones may be bound to another.
	KeyThumbprint string    `json:"jkt,omitempty"`
	Issued        time.Time `json:"issued"`
	Expires       time.Time `json:"expires"`
}

type denied struct {
	ID      string    `json:"id"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// maxAccess is how many opaque access tokens of a grant are in force, the latest, and how
// many of its JWTs are revoked one by one.
const maxAccess = 100

// deny makes a JWT void. A client that revokes more of them than are kept track of has
// those void as well that were issued before: none that was revoked is good again.
func (g *grant) deny(d denied) {
	g.Denied = append(g.Denied, d)
	if len(g.Denied) <= maxAccess {
		return
	}
	slices.SortFunc(g.Denied, func(a, b denied) int { return a.Issued.Compare(b.Issued) })
	half := len(g.Denied) / 2
	if last := g.Denied[half-1].Issued; last.After(g.DeniedUntil) {
		g.DeniedUntil = last
	}
	g.Denied = slices.DeleteFunc(g.Denied, func(d denied) bool { return !d.Issued.After(g.DeniedUntil) })
}

// denies tells whether a JWT was revoked. Times in JWTs are in whole seconds.
func (g *grant) denies(id string, issued int64) bool {
	return !g.DeniedUntil.IsZero() && issued <= g.DeniedUntil.Unix() ||
		slices.ContainsFunc(g.Denied, func(d denied) bool { return d.ID == id })
}

// maxRotations is how many rotations are remembered for the grace. Who rotates faster than
// that within it can use older tokens for less long.
const maxRotations = 16

// rotate puts the next refresh token in force.
func (f *refresh) rotate(now time.Time) {
	f.Since = slices.DeleteFunc(append(f.Since, now), func(t time.Time) bool { return now.Sub(t) >= grace && t != now })
	f.Since = f.Since[max(0, len(f.Since)-maxRotations):]
	f.Number++
}

// replaced is when another took the place of the token with a number; false if it is the
// one in force. It is the zero time when that is too long ago to be remembered.
func (f *refresh) replaced(number int) (time.Time, bool) {
	if number == f.Number {
		return time.Time{}, false
	}
	if i := len(f.Since) - (f.Number - number); i >= 0 {
		return f.Since[i], true
	}
	return time.Time{}, true
}

// Look-up keys of what belongs to an account, a client, a session.
func keyUser(id string) string        { return "user:" + id }
func keyClient(id string) string      { return "client:" + id }
func keySession(handle string) string { return "session:" + handle }

func (g grant) index() store.Index {
	i := store.Index{Expires: g.Expires, Keys: []string{keyClient(g.Client)}}
	if g.User != "" {
		i.Keys = append(i.Keys, keyUser(g.User))
	}
	if g.Session != "" {
		i.Keys = append(i.Keys, keySession(g.Session))
	}
	return i
}

// The id of a grant stands before what is secret in every code and token of it, so that
// the grant is found without an index.

const grantIDLength = 22 // 16 bytes, base64url

// newGrantID returns an id that nobody else has or will have. It begins with the time, so that
// grants made one after the other are next to each other in the store and its indexes, which
// makes writing them cheaper. They are not in the order of time.
func (p *Provider) newGrantID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	binary.BigEndian.PutUint32(b[:], uint32(p.o.Clock.Now().Unix()))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// newSecret returns an opaque access token, the jti of a JWT, or a code that carries nothing:
// <id>.<32 random bytes>.
func (g *grant) newSecret() string { return g.ID + "." + random() }

// grantOf is the id of the grant that a code or token says to be of.
func grantOf(token string) (string, bool) {
	id, _, ok := strings.Cut(token, ".")
	return id, ok && len(id) == grantIDLength && len(token) < 200
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func sameHash(hash, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(hashSecret(secret))) == 1
}

// refreshToken is the one with a number: <id>.<number>.<HMAC-SHA256>.
func (p *Provider) refreshToken(g *grant, number int) string {
	return refreshTokenWith(p.o.RefreshKeys[0], g, number)
}

func refreshTokenWith(key []byte, g *grant, number int) string {
	n := strconv.FormatInt(int64(number), 36)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(g.ID + "." + n + "." + g.Refresh.Seed))
	return g.ID + "." + n + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// refreshNumber is the number of a refresh token of the grant; false if it is none.
func (p *Provider) refreshNumber(g *grant, token string) (int, bool) {
	parts := strings.Split(token, ".")
	if g.Refresh == nil || len(parts) != 3 {
		return 0, false
	}
	number, err := strconv.ParseInt(parts[1], 36, 32)
	if err != nil || number < 0 || int(number) > g.Refresh.Number {
		return 0, false
	}
	match := 0
	for _, key := range p.o.RefreshKeys {
		match |= subtle.ConstantTimeCompare([]byte(token), []byte(refreshTokenWith(key, g, int(number))))
	}
	return int(number), match == 1
}

// errGone: there is no such grant, or nothing can be done with it any more.
var errGone = errors.New("the grant has ended")

// remembered returns a grant from memory if its code was redeemed, or it was used, lately.
func (p *Provider) remembered(ctx context.Context, id string) (store.Item[grant], error) {
	return p.cache.Get(ctx, id, p.grants.Get)
}

// grantByID returns a grant that is in force, from memory if it was used lately.
func (p *Provider) grantByID(ctx context.Context, id string) (grant, error) {
	item, err := p.remembered(ctx, id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return grant{}, errGone
	}
	if err != nil {
		return grant{}, err
	}
	return item.Value, p.inForce(ctx, item.Value)
}

// grantAnew is grantByID past the memory: what a grant in memory does not know may be what
// another node has given a moment ago.
func (p *Provider) grantAnew(ctx context.Context, id string) (grant, error) {
	p.cache.Forget(id)
	return p.grantByID(ctx, id)
}

// inForce tells whether a grant still stands: errGone if it does not.
func (p *Provider) inForce(ctx context.Context, g grant) error {
	if g.Revoked || !p.o.Clock.Now().Before(g.Expires) {
		return errGone
	}
	if _, err := p.clients.get(ctx, g.Client); errors.Is(err, errUnknownClient) || errors.As(err, new(*Error)) {
		return errGone // it was removed, or is not valid any more
	} else if err != nil {
		return err
	}
	if g.User == "" {
		return nil
	}
	if withdrawn, err := p.withdrawn(ctx, g); err != nil {
		return err
	} else if withdrawn {
		return errGone
	}
	// An account that was merged answers to its former ids: the grant stays, with the
	// subject that the client knows.
	account, err := p.o.Users.Get(ctx, g.User)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && account.Disabled:
		return errGone
	case err != nil:
		return err
	}
	if g.Offline {
		return nil
	}
	_, err = p.o.Sessions.Began(ctx, g.Session, g.SessionBegan)
	if errors.Is(err, session.ErrNotFound) {
		return errGone
	}
	return err
}

// change alters a grant as the store has it now.
func (p *Provider) change(ctx context.Context, id string, change func(*grant) error) (grant, error) {
	item, err := p.grants.Update(ctx, id, change)
	p.cache.Forget(id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return grant{}, errGone
	}
	return item.Value, err
}

// revoke ends a grant and with it all tokens of it. It stays for a while, so that who
// comes with one of them is recognized.
func (p *Provider) revoke(ctx context.Context, id string) error {
	g, err := p.change(ctx, id, (*grant).revoke)
	if errors.Is(err, errGone) {
		return nil
	}
	if err == nil {
		p.o.Changed(events.Hint{Grant: id, Session: g.Session})
	}
	return err
}

func (g *grant) revoke() error {
	g.Revoked, g.Access, g.Denied = true, nil, nil
	return nil
}

// tidy drops what has run out.
func (g *grant) tidy(now time.Time) {
	g.Access = slices.DeleteFunc(g.Access, func(o opaque) bool { return !now.Before(o.Expires) })
	g.Access = g.Access[max(0, len(g.Access)-maxAccess):]
	g.Denied = slices.DeleteFunc(g.Denied, func(d denied) bool { return !now.Before(d.Expires) })
}

// replacing writes a grant over the version that was read of it.
func (p *Provider) replacing(ctx context.Context, version int64, g *grant) func() error {
	return func() error {
		_, err := p.grants.Replace(ctx, store.Item[grant]{ID: g.ID, Version: version, Value: *g})
		p.cache.Forget(g.ID)
		return err
	}
}

// inserting writes a new grant.
func (p *Provider) inserting(ctx context.Context, g *grant) func() error {
	return func() error {
		_, err := p.grants.Insert(ctx, g.ID, *g)
		return err
	}
}

func isConflict(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound)
}

// grantError is what an error of reading a grant means for the client.
func grantError(err error, unknown *Error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return unknown
	}
	return err
}

func goneOr(err error, unknown *Error) error {
	if errors.Is(err, errGone) {
		return unknown
	}
	return err
}
