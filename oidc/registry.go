package oidc

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"login-server/clock"
	"login-server/config"
	"login-server/events"
	"login-server/store"
)

// Registry keeps the clients that are in the store: those that were added by command
// line, and those that have registered themselves (RFC 7591).
type Registry struct {
	clock       clock.Clock
	stored      *store.Collection[storedClient]
	initial     *store.Collection[initialToken]
	grants      *store.Collection[grant]
	consents    *store.Collection[consent]
	withdrawals *store.Collection[withdrawal]
	// changed is as in Options; nil where nobody hears events.
	changed func(events.Hint)
}

// NewRegistry returns the registry of a store.
func NewRegistry(engine store.Engine, c clock.Clock) *Registry {
	return &Registry{
		clock:       c,
		stored:      store.NewCollection(engine, "client", storedClient.index),
		initial:     store.NewCollection(engine, "initial access token", initialToken.index),
		grants:      store.NewCollection(engine, "grant", grant.index),
		consents:    store.NewCollection(engine, "consent", consent.index),
		withdrawals: store.NewCollection(engine, "withdrawal", withdrawal.index),
	}
}

// storedClient is a client in the store. Its metadata has no secret of any kind in it.
type storedClient struct {
	Name    string         `json:"name,omitempty"`
	URL     string         `json:"url,omitempty"`
	Client  config.Client  `json:"client"`
	Secrets []storedSecret `json:"secrets,omitempty"` // the newest last
	Created time.Time      `json:"created"`
	// Self: it has registered itself.
	Self bool `json:"self,omitempty"`
	// Disabled: an administrator has shut it out.
	Disabled bool `json:"disabled,omitempty"`
	// Access is the hash of its registration access token (RFC 7592); empty if it cannot
	// change itself.
	Access string `json:"access,omitempty"`
}

// storedSecret is one secret of a client. While it is replaced there are several.
type storedSecret struct {
	Hash string `json:"hash"`
	// Seed is what the secret was computed from, with a key of the server, where it has to
	// be known in plain text (client_secret_jwt); empty otherwise.
	Seed    string    `json:"seed,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

const selfRegistered = "self-registered"

func (s storedClient) index() store.Index {
	var i store.Index
	if s.Self {
		i.Keys = append(i.Keys, selfRegistered)
	}
	if s.Disabled {
		return i
	}
	for _, origin := range s.Client.Origins {
		i.Keys = append(i.Keys, keyOrigin(origin))
	}
	return i
}

// inForce are the secrets that are good now.
func (s storedClient) inForce(now time.Time) []storedSecret {
	return slices.DeleteFunc(slices.Clone(s.Secrets), func(x storedSecret) bool { return !x.Expires.IsZero() && !now.Before(x.Expires) })
}

// client makes the client of what is stored. keys are what secrets were computed with.
func (s storedClient) client(now time.Time, keys [][]byte, legacy bool) (*Client, []Complaint) {
	m, secrets := s.Client, s.inForce(now)
	var plain []string
	for i := len(secrets) - 1; i >= 0; i-- {
		x := secrets[i]
		if m.TokenEndpointAuthMethod != authSecretJWT {
			m.ClientSecretHash = append(m.ClientSecretHash, x.Hash)
			continue
		}
		for _, key := range keys {
			if secret := computedSecret(key, m.ClientID, x.Seed); x.Seed != "" && hashClientSecret(secret) == x.Hash {
				plain = append(plain, secret)
			}
		}
	}
	if len(plain) > 0 {
		m.ClientSecret = plain[0]
	}
	c, bad := newClient(s.Name, s.URL, m, legacy)
	if len(plain) > 1 {
		c.more = plain[1:]
	}
	c.Registered, c.self = true, s.Self
	return c, bad
}

// computedSecret is a secret that the server can tell again: 64 bytes, base64url, which is
// enough for HS512.
func computedSecret(key []byte, client, seed string) string {
	mac := hmac.New(sha512.New, key)
	mac.Write([]byte("client secret\x00" + client + "\x00" + seed))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// newSecret gives the client a secret. key is nil if it is not to be told again.
func (s *storedClient) newSecret(now time.Time, key []byte) string {
	secret, seed := random(), ""
	if key != nil {
		seed = random()
		secret = computedSecret(key, s.Client.ClientID, seed)
	}
	s.Secrets = append(s.Secrets, storedSecret{Hash: hashClientSecret(secret), Seed: seed, Created: now})
	return secret
}

// usesSecret tells whether clients prove who they are with a secret in a method.
func usesSecret(method string) bool {
	return method == authBasic || method == authPost || method == authSecretJWT
}

// newClientID is a name for a client that has none: nothing that it opens, but nobody
// else's, now or later.
func newClientID() string { return randomName(16) }

// MetadataError is metadata that makes no client.
type MetadataError struct{ Complaints []Complaint }

func (e *MetadataError) Error() string {
	var lines []string
	for _, c := range e.Complaints {
		lines = append(lines, c.Field+": "+c.Text+"; "+c.Remedy)
	}
	return strings.Join(lines, "\n")
}

// ErrNoClient: there is no such client in the store.
var ErrNoClient = errors.New("there is no such client")

// Entry is a client in the store, as an operator sees it.
type Entry struct {
	Name, URL string
	// Metadata is complete but for secrets.
	Metadata config.Client
	Secrets  []SecretInfo
	Created  time.Time
	// Self: it has registered itself. Disabled: an administrator has shut it out.
	Self, Disabled bool
}

// SecretInfo tells of a secret without showing it.
type SecretInfo struct {
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

func (r *Registry) entry(s storedClient) Entry {
	c := &Client{Client: s.Client, Name: s.Name}
	c.complete()
	e := Entry{Name: c.Name, URL: s.URL, Metadata: c.Client, Created: s.Created, Self: s.Self, Disabled: s.Disabled}
	for _, x := range s.inForce(r.clock.Now()) {
		e.Secrets = append(e.Secrets, SecretInfo{x.Created, x.Expires})
	}
	return e
}

// Completed is metadata with the defaults of what it leaves out.
func Completed(m config.Client) config.Client {
	c := &Client{Client: m}
	c.complete()
	return c.Client
}

// Add adds a client. A client_id and a secret are made where metadata has none and the
// client wants one; the secret is returned, for it is not stored.
func (r *Registry) Add(ctx context.Context, name, address string, m config.Client, legacy bool) (Entry, string, error) {
	now := r.clock.Now()
	secret := m.ClientSecret
	m.ClientID = cmp.Or(m.ClientID, newClientID())
	var bad []Complaint
	if len(m.ClientSecretHash) > 0 || m.ClientSecretFile != "" {
		bad = append(bad, Complaint{"client_secret_hash", "and client_secret_file are for applications.json", "write client_secret, or let one be made"})
	}
	m.ClientSecret, m.ClientSecretHash, m.ClientSecretFile = "", nil, ""
	s := storedClient{Name: name, URL: address, Client: m, Created: now}
	c := &Client{Client: m}
	c.complete()
	switch method := c.TokenEndpointAuthMethod; {
	case method == authSecretJWT:
		return Entry{}, "", &MetadataError{append(bad, Complaint{"token_endpoint_auth_method", "client_secret_jwt needs the secret in plain text, and here it is stored hashed", "write private_key_jwt, or put the client into applications.json"})}
	case secret != "":
		given := m
		given.ClientSecret = secret
		_, complaints := newClient(name, address, given, legacy)
		bad = append(bad, complaints...)
		s.Secrets = []storedSecret{{Hash: hashClientSecret(secret), Created: now}}
	default:
		if usesSecret(method) {
			secret = s.newSecret(now, nil)
		}
		_, complaints := s.client(now, nil, legacy)
		bad = append(bad, complaints...)
	}
	if bad != nil {
		return Entry{}, "", &MetadataError{bad}
	}
	if _, err := r.stored.Insert(ctx, m.ClientID, s); errors.Is(err, store.ErrExists) {
		return Entry{}, "", &MetadataError{[]Complaint{{"client_id", config.Quote(m.ClientID) + " is the client_id of another client", "write another one"}}}
	} else if err != nil {
		return Entry{}, "", err
	}
	return r.entry(s), secret, nil
}

// Get returns a client, or ErrNoClient.
func (r *Registry) Get(ctx context.Context, id string) (Entry, error) {
	item, err := r.stored.Get(ctx, id)
	if err != nil {
		return Entry{}, noClient(err)
	}
	return r.entry(item.Value), nil
}

func noClient(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return ErrNoClient
	}
	return err
}

// All goes through the clients in the order of their ids.
func (r *Registry) All(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for item, err := range r.stored.All(ctx, store.Query{}) {
			if !yield(r.entry(item.Value), err) || err != nil {
				return
			}
		}
	}
}

// maxSecrets is how many secrets of a client are good at once.
const maxSecrets = 5

// ErrNoSecret: the client proves who it is in another way than with a secret that is
// stored hashed. ErrManySecrets: so many are good already that it is no rotation.
var (
	ErrNoSecret    = errors.New("the client has no secret that could be replaced")
	ErrManySecrets = errors.New("too many secrets of the client are still good")
)

// NewSecret gives a client another secret and returns it. Those before it stay good for
// keep.
func (r *Registry) NewSecret(ctx context.Context, id string, keep time.Duration) (secret string, err error) {
	_, err = r.stored.Update(ctx, id, func(s *storedClient) error {
		c := &Client{Client: s.Client}
		c.complete()
		if !usesSecret(c.TokenEndpointAuthMethod) || c.TokenEndpointAuthMethod == authSecretJWT {
			return ErrNoSecret
		}
		now := r.clock.Now()
		end := now.Add(keep)
		for i, x := range s.Secrets {
			if x.Expires.IsZero() || x.Expires.After(end) {
				s.Secrets[i].Expires = end
			}
		}
		if s.Secrets = s.inForce(now); len(s.Secrets) >= maxSecrets {
			return ErrManySecrets
		}
		secret = s.newSecret(now, nil)
		return nil
	})
	return secret, noClient(err)
}

// SetDisabled shuts a client out, or lets it in again: see Provider.DisableClient.
// ErrNoClient.
func (r *Registry) SetDisabled(ctx context.Context, id string, disabled bool) error {
	_, err := r.stored.Update(ctx, id, func(s *storedClient) error {
		s.Disabled = disabled
		return nil
	})
	return noClient(err)
}

// Remove removes a client, and with it what people have given it: grants, whose tokens
// end with them, and consents. It returns how many people had consented.
func (r *Registry) Remove(ctx context.Context, id string) (consents int, err error) {
	// The client first: from now on nothing new is given to it, and nothing it has is
	// taken from it. What is left after a crash is worth nothing.
	removed, err := r.stored.Take(ctx, id)
	if err != nil {
		return 0, noClient(err)
	}
	if _, consents, err = r.Revoke(ctx, id); err != nil || !removed.Value.Self {
		return consents, err
	}
	// Its id was random and does not come back. That of another may, and the mark stays.
	return consents, deleteAll(ctx, r.withdrawals, keyClient(id))
}

// Revoke ends all that people have given a client, of the store or of applications.json:
// grants, whose tokens end with them, and consents, so that it has to ask again. It returns
// how many there were.
func (r *Registry) Revoke(ctx context.Context, id string) (grants, consents int, err error) {
	// Consents first: what was allowed to a device, and not yet fetched, is worth nothing
	// without.
	for item, err := range r.consents.All(ctx, store.Query{Key: keyClient(id)}) {
		if err != nil {
			return grants, consents, err
		}
		if err := r.consents.Delete(ctx, item.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return grants, consents, err
		}
		consents++
	}
	// Then the mark: a code that was given on a consent does not know it.
	if err := withdraw(ctx, r.withdrawals, everybody, id, r.clock.Now()); err != nil {
		return grants, consents, err
	}
	if r.changed != nil {
		r.changed(events.Hint{Client: id})
	}
	for item, err := range r.grants.All(ctx, store.Query{Key: keyClient(id)}) {
		if err != nil {
			return grants, consents, err
		}
		if item.Value.Revoked {
			continue
		}
		if _, err := r.grants.Update(ctx, item.ID, (*grant).revoke); errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return grants, consents, err
		}
		grants++
		if r.changed != nil {
			r.changed(events.Hint{Grant: item.ID, Session: item.Value.Session})
		}
	}
	return grants, consents, nil
}

// initialToken lets somebody register clients (RFC 7591, 3).
type initialToken struct {
	Hash    string    `json:"hash"`
	Uses    int       `json:"uses"` // left
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

func (t initialToken) index() store.Index { return store.Index{Expires: t.Expires} }

// InitialToken is an initial access token, as an operator sees it. ID opens nothing.
type InitialToken struct {
	ID      string    `json:"id"`
	Uses    int       `json:"uses"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// AddToken makes a token with which uses clients can be registered. It is returned once:
// <id>.<32 random bytes>, of which the hash is stored.
func (r *Registry) AddToken(ctx context.Context, uses int, life time.Duration) (InitialToken, string, error) {
	id, now := randomName(6), r.clock.Now()
	token := id + "." + random()
	t := initialToken{Hash: hashSecret(token), Uses: uses, Created: now, Expires: now.Add(life)}
	if _, err := r.initial.Insert(ctx, id, t); err != nil {
		return InitialToken{}, "", err
	}
	return InitialToken{id, t.Uses, t.Created, t.Expires}, token, nil
}

// Tokens goes through the tokens that have not expired.
func (r *Registry) Tokens(ctx context.Context) iter.Seq2[InitialToken, error] {
	return func(yield func(InitialToken, error) bool) {
		for item, err := range r.initial.All(ctx, store.Query{}) {
			t := item.Value
			if !yield(InitialToken{item.ID, t.Uses, t.Created, t.Expires}, err) || err != nil {
				return
			}
		}
	}
}

// ErrNoToken: there is no such initial access token.
var ErrNoToken = errors.New("there is no such initial access token")

// RemoveToken makes a token worthless.
func (r *Registry) RemoveToken(ctx context.Context, id string) error {
	err := r.initial.Delete(ctx, id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return ErrNoToken
	}
	return err
}

// spend uses a token up by one if it is to count, and otherwise only looks at it. Of any
// number at once as many succeed as it has uses.
func (r *Registry) spend(ctx context.Context, token string, count bool) error {
	id, _, ok := strings.Cut(token, ".")
	if !ok || len(token) > 200 {
		return ErrNoToken
	}
	good := func(t *initialToken) error {
		if t.Uses <= 0 || !sameHash(t.Hash, token) {
			return ErrNoToken
		}
		t.Uses--
		return nil
	}
	item, err := r.initial.Get(ctx, id)
	if err == nil {
		if err = good(&item.Value); err == nil && count {
			_, err = r.initial.Update(ctx, id, good)
		}
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return ErrNoToken
	}
	return err
}
