package openid

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// goClient is an application in Go: golang.org/x/oauth2 with coreos/go-oidc.
type goClient struct {
	t        testing.TB
	ctx      context.Context // with the HTTP client
	provider *oidc.Provider
	config   oauth2.Config
}

func newGoClient(t testing.TB, s *server, id string, scopes ...string) *goClient {
	t.Helper()
	transport := newTransport()
	t.Cleanup(transport.CloseIdleConnections)
	ctx := oidc.ClientContext(t.Context(), &http.Client{Transport: transport})
	provider, err := oidc.NewProvider(ctx, s.issuer)
	if err != nil {
		t.Fatalf("discovery: %v", err)
	}
	return &goClient{t: t, ctx: ctx, provider: provider, config: oauth2.Config{
		ClientID: id, ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: callback, Scopes: scopes,
	}}
}

// signIn is the whole flow for a person. The tokens are verified.
func (c *goClient) signIn(p *person, options ...oauth2.AuthCodeOption) (*oauth2.Token, *oidc.IDToken) {
	c.t.Helper()
	verifier, state, nonce := oauth2.GenerateVerifier(), oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	options = append(options, oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce))
	answer := p.authorize(c.config.AuthCodeURL(state, options...)).Query()
	if answer.Get("state") != state || answer.Get("code") == "" {
		c.t.Fatalf("the authorization response is %v", answer)
	}
	tokens, err := c.config.Exchange(c.ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		c.t.Fatal(err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	id, err := c.provider.VerifierContext(c.ctx, &oidc.Config{ClientID: c.config.ClientID}).Verify(c.ctx, raw)
	if err != nil {
		c.t.Fatalf("the ID Token: %v", err)
	}
	if err := id.VerifyAccessToken(tokens.AccessToken); err != nil {
		c.t.Errorf("at_hash: %v", err)
	}
	if id.Nonce != nonce {
		c.t.Errorf("the nonce is %q, not %q", id.Nonce, nonce)
	}
	return tokens, id
}

// TestGo is an application in Go: discovery, ID Token, userinfo, and tokens that renew
// themselves.
func TestGo(t *testing.T) {
	t.Parallel()
	s := startServer(t, []object{
		{"url": "https://client.example/", "name": "Go application", "client_id": "go", "client_secret": secret, "redirect_uris": []string{callback}},
		{"url": "https://signed.example/", "name": "Another", "client_id": "signed", "client_secret": secret, "redirect_uris": []string{callback},
			"token_endpoint_auth_method": "client_secret_post", "userinfo_signed_response_alg": "RS256", "id_token_signed_response_alg": "EdDSA", "subject_type": "pairwise"},
	})
	p := newPerson(t, s, "ada")
	client := newGoClient(t, s, "go", oidc.ScopeOpenID, "profile", "identities", oidc.ScopeOfflineAccess)
	tokens, id := client.signIn(p)

	var claims struct {
		AuthTime int64    `json:"auth_time"`
		ACR      string   `json:"acr"`
		AMR      []string `json:"amr"`
		Session  string   `json:"sid"`
		Name     string   `json:"name"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if claims.AuthTime == 0 || claims.ACR == "" || len(claims.AMR) == 0 || claims.Session == "" || claims.Name != "" {
		t.Errorf("the ID Token says %+v", claims)
	}
	user, err := client.provider.UserInfo(client.ctx, client.config.TokenSource(client.ctx, tokens))
	if err != nil {
		t.Fatal(err)
	}
	var profile struct {
		Name string `json:"name"`
	}
	if err := user.Claims(&profile); err != nil || user.Subject != id.Subject || profile.Name != "Ada" {
		t.Errorf("userinfo says %q of %s (%v), the ID Token is of %s", profile.Name, user.Subject, err, id.Subject)
	}

	// A token that has run out is renewed by the library.
	expired := *tokens
	expired.Expiry = time.Now().Add(-time.Minute)
	renewed, err := client.config.TokenSource(client.ctx, &expired).Token()
	if err != nil {
		t.Fatal(err)
	}
	if renewed.AccessToken == tokens.AccessToken || renewed.RefreshToken == tokens.RefreshToken || !renewed.Expiry.After(time.Now()) {
		t.Errorf("renewed until %v, or not at all", renewed.Expiry)
	}

	// Another client knows the same person by another name.
	other := newGoClient(t, s, "signed", oidc.ScopeOpenID, "profile")
	tokens, pairwise := other.signIn(p)
	if pairwise.Subject == id.Subject {
		t.Error("the pairwise subject is the public one")
	}
	if user, err = other.provider.UserInfo(other.ctx, oauth2.StaticTokenSource(tokens)); err != nil || user.Subject != pairwise.Subject {
		t.Errorf("signed userinfo: %+v (%v)", user, err)
	}
	// And takes no ID Token that is for somebody else.
	if _, err := other.provider.Verifier(&oidc.Config{ClientID: "go"}).Verify(other.ctx, tokens.Extra("id_token").(string)); err == nil {
		t.Error("an ID Token for another client was taken")
	}
}
