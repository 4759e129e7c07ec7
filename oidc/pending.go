package oidc

// What is not there yet answers as the protocol provides for what a server does not
// support.

import (
	"context"
	"net/http"
	"net/url"
)

func (p *Provider) redeemDevice(context.Context, *Client, *http.Request, url.Values) (*tokenAnswer, error) {
	return nil, fail("unsupported_grant_type", "The grant_type is not supported.")
}

func (p *Provider) exchange(context.Context, *Client, *http.Request, url.Values) (*tokenAnswer, error) {
	return nil, fail("unsupported_grant_type", "The grant_type is not supported.")
}

func (p *Provider) extendMetadata(m map[string]any, at func(string) string) {
	p.logoutMetadata(m, at)
	m["dpop_signing_alg_values_supported"] = signingAlgs
}
