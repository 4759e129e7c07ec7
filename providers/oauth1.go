package providers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/dghubble/oauth1"
)

const (
	// outOfBand is the oauth_callback of a consumer whose callback URL was agreed on
	// when it was registered (RFC 5849, 2.1).
	outOfBand         = "oob"
	verifierParameter = "oauth_verifier" // RFC 5849, 2.2

	maxTokenPart = 1 << 10
)

// consumer speaks OAuth 1.0a with HMAC-SHA1 (RFC 5849).
type consumer struct {
	key, secret string
	endpoint    oauth1.Endpoint
	client      *http.Client
	// complaint is the error that an answer means, whatever its status; nil if it is what
	// was asked for. It may repeat neither a token nor a secret.
	complaint func(status int, answer []byte) error
}

// tokenPair is a token and the secret that requests with it are signed with: temporary
// ones, which name a login, or those of a person. It is kept, and handed on to
// applications, as this JSON.
type tokenPair struct {
	Token  string `json:"token"`
	Secret string `json:"token_secret"`
}

func newTokenPair(token, secret string) (tokenPair, error) {
	if len(token) > maxTokenPart || len(secret) > maxTokenPart {
		return tokenPair{}, fmt.Errorf("a token or its secret is longer than %d bytes", maxTokenPart)
	}
	return tokenPair{Token: token, Secret: secret}, nil
}

// requestToken begins a login (RFC 5849, 2.1).
func (c *consumer) requestToken(ctx context.Context, callback string) (tokenPair, error) {
	call := c.call(ctx)
	call.config.CallbackURL = callback
	token, secret, err := call.config.RequestToken()
	if err != nil {
		return tokenPair{}, call.failure("request token")
	}
	return newTokenPair(token, secret)
}

// accessToken ends it (RFC 5849, 2.3).
func (c *consumer) accessToken(ctx context.Context, request tokenPair, verifier string) (tokenPair, error) {
	call := c.call(ctx)
	token, secret, err := call.config.AccessToken(request.Token, request.Secret, verifier)
	if err != nil {
		return tokenPair{}, call.failure("access token")
	}
	return newTokenPair(token, secret)
}

// fetch asks in the name of a person (RFC 5849, 3). nonce is the oauth_nonce of the
// request.
func (c *consumer) fetch(ctx context.Context, address string, access tokenPair) (answer []byte, nonce string, err error) {
	call := c.call(ctx)
	signing := call.config.Client(context.WithValue(ctx, oauth1.HTTPClient, call.config.HTTPClient), oauth1.NewToken(access.Token, access.Secret))
	_, answer, err = ask(ctx, signing, http.MethodPost, address, "", nil, nil)
	if err != nil {
		return nil, "", call.failure("profile")
	}
	return answer, call.nonce, nil
}

// call prepares one request: its nonce is used once.
func (c *consumer) call(ctx context.Context) *signedCall {
	call := &signedCall{ctx: ctx, consumer: c, nonce: rand.Text()}
	call.config = &oauth1.Config{
		ConsumerKey: c.key, ConsumerSecret: c.secret, Endpoint: c.endpoint,
		Noncer:     call,
		HTTPClient: &http.Client{Transport: call},
	}
	return call
}

// signedCall is one request that the library makes. The library knows no context and
// repeats whole answers in its errors, so it is given a transport that asks with our
// client and lets only answers through that are what was asked for.
type signedCall struct {
	ctx      context.Context
	consumer *consumer
	config   *oauth1.Config
	nonce    string
	err      error
}

// Nonce implements oauth1.Noncer.
func (s *signedCall) Nonce() string { return s.nonce }

// RoundTrip implements http.RoundTripper.
func (s *signedCall) RoundTrip(r *http.Request) (*http.Response, error) {
	status, answer, err := ask(s.ctx, s.consumer.client, r.Method, r.URL.String(), "", nil, r.Header)
	if err == nil {
		err = s.consumer.complaint(status, answer)
	}
	if err != nil {
		s.err = err
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(answer)), Request: r}, nil
}

// failure is why the call failed: what RoundTrip has seen or, if that was fine, that the
// library could not read it. What the library says is left out, for it may quote the
// answer.
func (s *signedCall) failure(what string) error {
	if s.err != nil {
		return fmt.Errorf("%s: %w", what, s.err)
	}
	return fmt.Errorf("%s: %w", what, errNotOAuth1)
}

var errNotOAuth1 = errors.New("the answer is not what OAuth 1.0a provides for (oauth_token, oauth_token_secret, oauth_callback_confirmed)")
