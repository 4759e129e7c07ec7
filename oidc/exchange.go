package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Token exchange (RFC 8693) is delegation between the server's own clients: a client that
// was shown an access token, or has one, gets another for a service behind it, which says
// for whom it is and who acts. It is of the same grant, and ends with it.

// typeAccessToken is the only type of token that is exchanged (RFC 8693, 3).
const typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"

// maxActors is how many clients may act for each other in a row.
const maxActors = 5

// exchange gives a client an access token for another audience. Nothing is written: the
// grant is there, and outlives the token.
func (p *Provider) exchange(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	if c.public() {
		return nil, fail("unauthorized_client", "A client that cannot prove who it is exchanges no tokens.")
	}
	requested := form.Get("requested_token_type")
	switch {
	case form.Get("subject_token") == "":
		return nil, invalidRequest("The subject_token is missing.")
	case form.Get("subject_token_type") != typeAccessToken:
		return nil, invalidRequest("The subject_token_type is not that of an access token.")
	case requested != "" && requested != typeAccessToken:
		return nil, invalidRequest("The requested_token_type is not that of an access token.")
	case form.Has("actor_token") || form.Has("actor_token_type"):
		// Who acts is the client, which has proved who it is.
		return nil, invalidRequest("An actor_token is not supported.")
	}
	target, service, err := p.target(ctx, c, slices.Concat(form["audience"], form["resource"]))
	if err != nil {
		return nil, err
	}
	a, err := p.inspect(ctx, form.Get("subject_token"))
	if errors.Is(err, errNoToken) || err == nil && a.Client != c.ClientID && !slices.ContainsFunc(a.Audience, c.is) {
		return nil, invalidRequest("The subject_token is not in force, or not for this client.") // RFC 8693, 2.2.2
	}
	if err != nil {
		return nil, err
	}
	// These two mean something here only, where the new token is not for.
	granted := slices.DeleteFunc(slices.Clone(a.Scopes), func(s string) bool { return s == scopeOffline || s == scopeSessionEvents })
	scope, err := narrowedScope(granted, form.Get("scope"))
	if err != nil {
		return nil, err
	}
	acting := &actor{Subject: c.ClientID, Actor: a.Actor}
	if acting.depth() > maxActors {
		return nil, invalidRequest("Too many clients act for each other.")
	}
	subject := a.Subject
	if service != nil && a.grant.User != "" {
		// What the audience knows the person by: another one, if it has pairwise subjects.
		subject = p.subject(service, a.grant.User)
	}
	bound := ""
	if a.Confirm != nil {
		bound = a.Confirm.Thumbprint
	}
	thumbprint, err := p.proofOf(ctx, r, c, bound, "")
	if err != nil {
		return nil, err
	}
	now := p.o.Clock.Now().Unix()
	claims := accessClaims{
		Issuer: p.o.Issuer, Subject: subject, Audience: audience{target}, Client: c.ClientID, Scope: strings.Join(scope, " "),
		IssuedAt: now, Expires: min(now+int64(p.o.AccessTokenLife/time.Second), a.Expires), ID: a.grant.newSecret(),
		AuthTime: a.AuthTime, ACR: a.ACR, AMR: a.AMR, Actor: acting,
	}
	if thumbprint != "" {
		claims.Confirm = &confirmation{Thumbprint: thumbprint}
	}
	signed, err := p.signAccess(c, claims)
	if err != nil {
		return nil, err
	}
	return &tokenAnswer{
		AccessToken: signed, IssuedTokenType: typeAccessToken, TokenType: tokenType(thumbprint),
		ExpiresIn: claims.Expires - now, Scope: claims.Scope,
	}, nil
}

// target checks the one audience that is asked for: a resource of the client, or the
// client_id of the application whose resource that is. service is that application, nil
// if it is no client.
func (p *Provider) target(ctx context.Context, c *Client, asked []string) (aud string, service *Client, err error) {
	if len(asked) == 0 {
		return "", nil, invalidRequest("The audience or resource is missing.")
	}
	refused := fail("invalid_target", "This is not one audience that this client may use.")
	if len(asked) > 1 {
		return "", nil, refused
	}
	if slices.Contains(c.Resources, asked[0]) {
		return asked[0], p.clients.at(asked[0]), nil
	}
	service, err = p.clients.get(ctx, asked[0])
	if errors.Is(err, errUnknownClient) || err == nil && !slices.ContainsFunc(c.Resources, service.is) {
		return "", nil, refused
	}
	return asked[0], service, err
}

// at is the application that a resource belongs to, by its address; nil if it is none.
func (all *clients) at(resource string) *Client {
	var found *Client
	for _, c := range all.listed {
		if c.is(resource) && (found == nil || len(c.URL) > len(found.URL) || c.URL == found.URL && c.ClientID < found.ClientID) {
			found = c
		}
	}
	return found
}

func (a *actor) depth() int {
	n := 0
	for ; a != nil; a = a.Actor {
		n++
	}
	return n
}
