package providers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"login-server/clock"
)

const (
	// freshFor is how long metadata and keys are used before they are asked for again.
	freshFor = 15 * time.Minute
	// keysEvery is how often keys are asked for at most because one is missing.
	keysEvery = 10 * time.Second
	// fetchTimeout is for the metadata and the keys together.
	fetchTimeout = 15 * time.Second
)

// metadata is what an OpenID Provider says of itself (OpenID Connect Discovery 1.0, 3;
// RFC 9207, 3).
type metadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	UserInfoEndpoint      string   `json:"userinfo_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	SigningAlgorithms     []string `json:"id_token_signing_alg_values_supported"`
	TokenAuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	// IssInAnswers: every answer names the issuer, so that one without is not its own.
	IssInAnswers bool `json:"authorization_response_iss_parameter_supported"`
}

// discovered is what is known of an OpenID Provider at one time. It never changes.
type discovered struct {
	metadata
	keys keySet
}

// place is where an OpenID Provider is: the issuer, and those endpoints for which the
// operator knows better than its metadata.
type place struct {
	issuer, authorization, token, userInfo string
}

// discovery keeps what is known of an OpenID Provider. Nothing is asked before it is
// needed, and what was known stays in use while the provider cannot be reached.
type discovery struct {
	place
	provider string // id, for the log
	client   *http.Client
	reach    *reach
	clock    clock.Clock
	log      *slog.Logger

	mu     sync.Mutex
	latest *discovered // nil: nothing yet
	asking *asking     // nil: nobody is
	asked  time.Time   // when it was last begun
	failed error       // of the latest attempt, which was logged
}

// asking is one request for metadata and keys, for all who wait for it.
type asking struct {
	done chan struct{}
	err  error // once done
}

// discovery returns what is known of the OpenID Provider of this entry: what the
// provider of the same id knew before providers.json was read anew, if it is at the same
// place.
func (e *entry) discovery(at place) *discovery {
	if p := e.before[e.provider.ID]; p != nil && p.discovery != nil && p.discovery.place == at {
		return p.discovery
	}
	g := newReach(e.deps, at.issuer, at.authorization, at.token, at.userInfo)
	return &discovery{
		place: at, provider: e.provider.ID, reach: g, client: clientOver(g, e.deps.Version),
		clock: e.deps.Clock, log: e.deps.Log,
	}
}

// get returns what is known, and asks only if that is nothing.
func (d *discovery) get(ctx context.Context) (*discovered, error) {
	if known := d.known(); known != nil {
		return known, nil
	}
	if err := d.refresh(ctx); err != nil {
		return nil, err
	}
	return d.known(), nil
}

func (d *discovery) known() *discovered {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.latest
}

// newer returns something newer than what has turned out to lack a key, or nil. Whoever
// can make up keys must not make us ask all the time.
func (d *discovery) newer(ctx context.Context, than *discovered) *discovered {
	d.mu.Lock()
	latest, early := d.latest, d.asking == nil && d.clock.Now().Sub(d.asked) < keysEvery
	d.mu.Unlock()
	if latest != than {
		return latest
	}
	if early || d.refresh(ctx) != nil {
		return nil // the log has why
	}
	return d.known()
}

// refresh asks now, or waits for whoever is asking already. ctx ends the wait only:
// others may need the answer.
func (d *discovery) refresh(ctx context.Context) error {
	d.mu.Lock()
	a := d.asking
	if a == nil {
		a = &asking{done: make(chan struct{})}
		d.asking, d.asked = a, d.clock.Now()
		go d.ask(context.WithoutCancel(ctx), a)
	}
	d.mu.Unlock()
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *discovery) ask(ctx context.Context, a *asking) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	found, err := d.fetch(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && (d.failed == nil || err.Error() != d.failed.Error()): // each cause once
		d.log.WarnContext(ctx, "OpenID Provider is not available", "provider", d.provider, "issuer", d.issuer, "err", err)
	case err == nil && d.failed != nil:
		d.log.InfoContext(ctx, "OpenID Provider is available again", "provider", d.provider, "issuer", d.issuer)
	}
	d.failed = err
	if err == nil {
		d.latest = found
	}
	a.err, d.asking = err, nil
	close(a.done)
}

// fetch reads metadata and keys.
func (d *discovery) fetch(ctx context.Context) (found *discovered, err error) {
	defer recovered(&err)
	found = new(discovered)
	address := strings.TrimSuffix(d.issuer, "/") + "/.well-known/openid-configuration" // Discovery, 4.1
	here, located := d.reach.locating(ctx, address)
	if err := fetch(here, d.client, address, "", &found.metadata); err != nil {
		return nil, unavailable(err)
	}
	if err := d.check(&found.metadata); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	located()
	var set jwks
	if err := fetch(ctx, d.client, found.JWKSURI, "", &set); err != nil {
		return nil, unavailable(err)
	}
	if found.keys = set.usable(); len(found.keys) == 0 {
		return nil, fmt.Errorf("%s: there is no key to verify signatures with", withoutQuery(found.JWKSURI))
	}
	return found, nil
}

// check checks metadata and puts the operator's endpoints in. The issuer has to be the
// one that was asked (Discovery, 4.3), but for a slash at its end that people leave out
// or add; what then counts everywhere is what the provider writes.
func (d *discovery) check(m *metadata) error {
	if m.Issuer == "" {
		return errors.New("the metadata has no issuer")
	}
	if m.Issuer != d.issuer && m.Issuer != d.issuer+"/" && m.Issuer+"/" != d.issuer {
		return fmt.Errorf("the metadata is that of another issuer, %.200q; if that is the one you mean, write it as options.issuer", m.Issuer)
	}
	encrypted := strings.HasPrefix(d.issuer, "https:")
	for _, endpoint := range []struct {
		name     string
		value    *string
		operator string
		optional bool
	}{
		{"authorization_endpoint", &m.AuthorizationEndpoint, d.authorization, false},
		{"token_endpoint", &m.TokenEndpoint, d.token, false},
		{"userinfo_endpoint", &m.UserInfoEndpoint, d.userInfo, true},
		{"jwks_uri", &m.JWKSURI, "", false},
	} {
		if endpoint.operator != "" {
			*endpoint.value = endpoint.operator
			continue
		}
		if *endpoint.value == "" && endpoint.optional {
			continue
		}
		u, err := url.Parse(*endpoint.value)
		if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" ||
			u.Scheme != "https" && (encrypted || u.Scheme != "http") {
			return fmt.Errorf("the metadata has no usable %s: %.200q", endpoint.name, *endpoint.value)
		}
	}
	return nil
}

// Probe implements Prober.
func (d *discovery) Probe(ctx context.Context) error { return d.refresh(ctx) }

// authMethod is how a client with a secret is to authenticate at the token endpoint. It
// is never found out by trying: a code is good once.
func (m *metadata) authMethod() (string, error) {
	if len(m.TokenAuthMethods) == 0 {
		return clientSecretBasic, nil // Discovery, 3
	}
	for _, method := range []string{clientSecretBasic, clientSecretPost} {
		for _, offered := range m.TokenAuthMethods {
			if offered == method {
				return method, nil
			}
		}
	}
	return "", fmt.Errorf("the token endpoint takes a secret in no way known here, only %.200q", m.TokenAuthMethods)
}

// signingAlgorithms are those asymmetric ones that ID Tokens may be signed with. Never
// "none", and never with a secret that others share (RFC 8725, 3.1, 3.2).
func (m *metadata) signingAlgorithms() []string {
	if len(m.SigningAlgorithms) == 0 {
		return []string{"RS256"} // Core, 3.1.3.7 (7)
	}
	var algorithms []string
	for _, offered := range m.SigningAlgorithms {
		if _, ok := keyTypes[offered]; ok {
			algorithms = append(algorithms, offered)
		}
	}
	return algorithms
}

// latestAttempt is when the provider was last asked, and how that went; ok is false as
// long as it never was.
func (d *discovery) latestAttempt() (at time.Time, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked, d.latest != nil || d.failed != nil, d.failed
}
