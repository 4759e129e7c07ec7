package oidc

// What is not there yet answers as the protocol provides for what a server does not
// support.

import (
	"context"
	"net/http"
	"net/url"
)

// expand replaces a request object or a request_uri by the parameters in it.
func (p *Provider) expand(_ context.Context, values url.Values) (url.Values, string, error) {
	return values, "", nil
}

func (p *Provider) spendPushed(context.Context, string) error { return nil }

// proofOf returns the thumbprint of the key that tokens are bound to; see dpop.go.
func (p *Provider) proofOf(_ context.Context, _ *http.Request, _ *Client, bound, _ string) (string, error) {
	return bound, nil
}

func (p *Provider) provesPossession(*http.Request, *access, string, bool) error { return nil }

func (p *Provider) asserted(context.Context, url.Values) (*Client, error) {
	return nil, invalidClient("Client assertions are not supported.")
}

func (p *Provider) redeemDevice(context.Context, *Client, *http.Request, url.Values) (*tokenAnswer, error) {
	return nil, fail("unsupported_grant_type", "The grant_type is not supported.")
}

func (p *Provider) exchange(context.Context, *Client, *http.Request, url.Values) (*tokenAnswer, error) {
	return nil, fail("unsupported_grant_type", "The grant_type is not supported.")
}

func (p *Provider) extendMetadata(m map[string]any, at func(string) string) {
	p.logoutMetadata(m, at)
}
