package providers

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"time"

	"login-server/identity"
)

// ErrCancelled: the person, or somebody who may decide that, said no on the
// provider's pages.
var ErrCancelled = errors.New("cancelled at the provider")

// UnavailableError is a failure of the other server that may pass: it cannot be
// reached, takes too long, is overloaded, or says that it is broken.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "unavailable: " + e.Err.Error() }
func (e *UnavailableError) Unwrap() error { return e.Err }

// Website signs people in on pages of the provider's own: the browser is sent there
// and comes back with an answer (OAuth 2.0, OpenID Connect, OAuth 1.0a).
//
// Errors are ErrCancelled, a RefusedError, an UnavailableError; any other means that
// the answer is not what it has to be. They are for the log, except for the reason of a
// RefusedError.
type Website interface {
	// Begin tells where to send the browser.
	Begin(ctx context.Context, l Login) (Departure, error)
	// Finish turns the answer into a profile. It is called once for each login.
	Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error)
}

// Login is one login at a Website, from the click to the answer. Whoever calls keeps
// it in between, where the browser can neither read nor change it.
type Login struct {
	// State comes back with the answer (RFC 6749, 10.12), Nonce in the ID Token (OpenID
	// Connect Core, 3.1.2.1), and Verifier proves at the token endpoint that the code was
	// made for this login (RFC 7636). All three are random and used once.
	State, Nonce, Verifier string
	// Callback is the redirect URI, as registered with the provider.
	Callback string
	// Locale of the person, as BCP 47 tag, for pages that can be had in a language.
	Locale string
	// Kept is what Begin wanted to be kept.
	Kept string
}

// Departure is where a login goes on.
type Departure struct {
	// URL of the provider's page.
	URL string
	// Key is what the answer will bring instead of Login.State, if not empty: OAuth 1.0a
	// has no state, its request token names the login.
	Key string
	// Keep is handed to Finish as Login.Kept.
	Keep string
}

const (
	// stateParameter and tokenParameter are where an answer names its login.
	stateParameter = "state"
	tokenParameter = "oauth_token" // RFC 5849, 2.2

	websiteTimeout = 20 * time.Second
	// maxURLSent is how long the address of a provider's page may be.
	maxURLSent = 8 << 10
)

// site is the Website that others see: the checks that every strategy needs.
type site struct {
	website  Website
	provider *Provider
	// issuer returns what the iss of an answer has to be (RFC 9207, 2.4); nil where the
	// provider has none.
	issuer func(ctx context.Context) (string, error)
	now    func() time.Time
}

// website gives p its ability. issuer may be nil.
func (e *entry) website(p *Provider, w Website, issuer func(ctx context.Context) (string, error)) {
	p.Website = &site{website: w, provider: p, issuer: issuer, now: e.deps.Clock.Now}
	if p.AnswerKey == "" {
		p.AnswerKey = stateParameter
	}
}

func (s *site) Begin(ctx context.Context, l Login) (d Departure, err error) {
	ctx, cancel := context.WithTimeout(ctx, websiteTimeout)
	defer cancel()
	ctx, asked := watched(ctx)
	defer func() {
		// To put an address together asks nobody.
		if asked() || errors.As(err, new(*UnavailableError)) {
			s.provider.health.note(s.now(), err)
		}
	}()
	defer recovered(&err)
	if d, err = s.website.Begin(ctx, l); err != nil {
		return Departure{}, unavailable(err)
	}
	if u, parseErr := url.Parse(d.URL); parseErr != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(d.URL) > maxURLSent {
		return Departure{}, errors.New("the address to sign in at is not an http(s) URL of a sane length")
	}
	return d, nil
}

func (s *site) Finish(ctx context.Context, l Login, answer url.Values) (profile identity.Profile, err error) {
	ctx, cancel := context.WithTimeout(ctx, websiteTimeout)
	defer cancel()
	ctx, asked := watched(ctx)
	claimed := false // by the browser alone
	defer func() {
		if !claimed && (asked() || err == nil || errors.As(err, new(*UnavailableError))) {
			s.provider.health.note(s.now(), err)
		}
	}()
	defer recovered(&err)
	for name, values := range answer {
		// Two codes, or two states: RFC 6749, 3.1.
		if len(values) != 1 {
			return identity.Profile{}, fmt.Errorf("the answer has the parameter %.40q %d times", name, len(values))
		}
	}
	if iss := answer.Get("iss"); iss != "" && s.issuer != nil {
		want, err := s.issuer(ctx)
		if err != nil {
			return identity.Profile{}, unavailable(err)
		}
		if subtle.ConstantTimeCompare([]byte(iss), []byte(want)) != 1 {
			return identity.Profile{}, fmt.Errorf("the answer comes from %.200q, not from %q", iss, want)
		}
	}
	if code := answer.Get("error"); code != "" {
		claimed = true
		return identity.Profile{}, answered(code, answer.Get("error_description"))
	}
	if profile, err = s.website.Finish(ctx, l, answer); err != nil {
		return identity.Profile{}, unavailable(err)
	}
	return complete(profile, s.provider)
}

// answered is what the error of an answer means (RFC 6749, 4.1.2.1; OpenID Connect
// Core, 3.1.2.6; and what LinkedIn says instead).
func answered(code, description string) error {
	switch code {
	case "access_denied", "user_cancelled_login", "user_cancelled_authorize", "user_denied",
		"consent_required", "interaction_required", "login_required", "account_selection_required":
		return fmt.Errorf("%w: it answers %s %.200q", ErrCancelled, code, description)
	case "temporarily_unavailable", "server_error":
		return &UnavailableError{fmt.Errorf("it answers %s %.200q", code, description)}
	}
	return fmt.Errorf("it answers %.40q %.200q", code, description)
}

// unavailable makes an UnavailableError of those errors that come from the connection.
func unavailable(err error) error {
	var timeout interface{ Timeout() bool }
	var op *url.Error
	switch {
	case errors.Is(err, ErrCancelled), errors.Is(err, ErrRefused), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, new(*UnavailableError)):
		return err
	case errors.Is(err, errLongAnswer), errors.Is(err, errRedirect), errors.Is(err, errInside):
		return err // it can be reached, and says what it should not
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(), errors.As(err, &op) && op.Op != "parse":
		return &UnavailableError{err}
	}
	return err
}

// recovered turns a panic into an error: some libraries take what a provider answers
// for what it should have answered.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}
