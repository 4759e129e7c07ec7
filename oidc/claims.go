package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"login-server/identity"
)

// claimsRequest is the claims parameter (OpenID Connect Core, 5.5).
type claimsRequest struct {
	UserInfo map[string]*claimRequest `json:"userinfo"`
	IDToken  map[string]*claimRequest `json:"id_token"`
}

type claimRequest struct {
	Essential bool  `json:"essential"`
	Value     any   `json:"value"`
	Values    []any `json:"values"`
}

func parseClaims(raw json.RawMessage) (claimsRequest, error) {
	var c claimsRequest
	if len(raw) == 0 {
		return c, nil
	}
	if raw[0] != '{' || len(raw) > 16<<10 {
		return c, errors.New("not an object")
	}
	return c, json.Unmarshal(raw, &c)
}

// scopeClaims are the claims that a scope stands for (OpenID Connect Core, 5.4), and with
// the profile a biography, which is no standard claim.
var scopeClaims = map[string][]string{
	scopeProfile: {"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
		"website", "gender", "birthdate", "zoneinfo", "locale", identity.Biography, "updated_at"},
	scopeEmail:      {"email", "email_verified"},
	scopePhone:      {"phone_number", "phone_number_verified"},
	scopeAddress:    {"address"},
	scopeIdentities: {"identities"},
}

// claimNames are all claims about people, for the metadata.
func claimNames() []string {
	names := []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "sid"}
	for _, scope := range scopes {
		names = append(names, scopeClaims[scope]...)
	}
	return names
}

// linked is an identity as the claim identities has it.
type linked struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
	URI      string `json:"uri,omitempty"`
	Username string `json:"username,omitempty"`
	Name     string `json:"name,omitempty"`
}

// standing are the claims of an account. None of them is null or empty.
func standing(a identity.Account) map[string]any {
	known := a.Known()
	claims := make(map[string]any, len(known)+1)
	for name, claim := range known {
		claims[name] = claim.Value
	}
	var identities []linked
	for _, provider := range a.Providers() {
		i := a.Identities[provider]
		identities = append(identities, linked{provider, i.ID, i.URI, i.Username, i.Name})
	}
	if identities != nil {
		claims["identities"] = identities
	}
	return claims
}

// account is that of a grant.
func (p *Provider) account(ctx context.Context, g *grant) (identity.Account, error) {
	return p.o.Users.Get(ctx, g.User)
}

// addIDTokenClaims adds what the request wants in the ID Token. alone: there is no
// access token to ask for more with, so what the scopes stand for is in it too (OpenID
// Connect Core, 5.4).
func (p *Provider) addIDTokenClaims(ctx context.Context, g *grant, alone bool, claims map[string]any) error {
	asked, err := parseClaims(g.Claims)
	if err != nil {
		return fmt.Errorf("claims of grant: %w", err)
	}
	var names []string
	for name := range asked.IDToken {
		names = append(names, name)
	}
	if alone {
		for _, scope := range g.Scope {
			names = append(names, scopeClaims[scope]...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	a, err := p.account(ctx, g)
	if err != nil {
		return err
	}
	known := standing(a)
	for _, name := range names {
		// What the token has of its own nobody replaces.
		if _, own := claims[name]; own {
			continue
		}
		if value, ok := known[name]; ok {
			claims[name] = value
		}
	}
	return nil
}

// userinfo are the claims about the person of a grant that an access token opens.
func (p *Provider) userinfo(ctx context.Context, g *grant, scope []string) (map[string]any, error) {
	a, err := p.account(ctx, g)
	if err != nil {
		return nil, err
	}
	asked, err := parseClaims(g.Claims)
	if err != nil {
		return nil, fmt.Errorf("claims of grant: %w", err)
	}
	claims, known := map[string]any{"sub": g.Subject}, standing(a)
	add := func(name string) {
		if value, ok := known[name]; ok && name != "sub" {
			claims[name] = value
		}
	}
	for _, s := range scope {
		for _, name := range scopeClaims[s] {
			add(name)
		}
	}
	for name := range asked.UserInfo {
		add(name)
	}
	return claims, nil
}

func seconds(d time.Duration) string { return fmt.Sprint(int64(d / time.Second)) }

// intersect is what both lists have, in the order of the first.
func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}
