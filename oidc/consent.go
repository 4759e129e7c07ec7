package oidc

import (
	"context"
	"errors"
	"slices"
	"time"

	"login-server/store"
)

// consent is what somebody has allowed a client, once and until they take it back.
type consent struct {
	User    string    `json:"user"`
	Client  string    `json:"client"`
	Scopes  []string  `json:"scopes"`
	Granted time.Time `json:"granted"`
	Used    time.Time `json:"used"`
}

func (c consent) index() store.Index {
	return store.Index{Keys: []string{keyUser(c.User), keyClient(c.Client)}}
}

func consentID(user, client string) string { return user + " " + client }

// consentScopes are what somebody is asked about: the scopes of a request, and those that
// the names in its claims parameter stand for.
func (r *request) consentScopes() []string {
	asked := slices.DeleteFunc(slices.Clone(r.Scope), func(s string) bool { return s == scopeOpenID })
	claims, err := parseClaims(r.Claims)
	if err != nil {
		return asked // it was read when the request came
	}
	for _, list := range []map[string]*claimRequest{claims.UserInfo, claims.IDToken} {
		for name := range list {
			if scope := scopeOf(name); scope != "" && !slices.Contains(asked, scope) {
				asked = append(asked, scope)
			}
		}
	}
	slices.SortFunc(asked, func(a, b string) int { return slices.Index(scopes, a) - slices.Index(scopes, b) })
	return asked
}

// missingConsent lists the scopes of a request that the person has not allowed yet. An
// application that asks for nothing but who somebody is asks for consent all the same,
// once: openid stands for that.
func (p *Provider) missingConsent(ctx context.Context, who *Person, r *request) ([]string, error) {
	if r.client.Trusted {
		return nil, nil
	}
	item, err := p.consents.Get(ctx, consentID(who.Account.ID, r.client.ClientID))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	asked := append([]string{scopeOpenID}, r.consentScopes()...)
	return slices.DeleteFunc(asked, func(s string) bool { return slices.Contains(item.Value.Scopes, s) }), nil
}

// consented remembers what the person has allowed.
func (p *Provider) consented(ctx context.Context, who *Person, r *request) error {
	now, id := p.o.Clock.Now(), consentID(who.Account.ID, r.client.ClientID)
	_, err := p.consents.Upsert(ctx, id, func(c *consent) error {
		if c.User == "" {
			*c = consent{User: who.Account.ID, Client: r.client.ClientID, Granted: now}
		}
		for _, s := range append([]string{scopeOpenID}, r.consentScopes()...) {
			if !slices.Contains(c.Scopes, s) {
				c.Scopes = append(c.Scopes, s)
			}
		}
		c.Used = now
		return nil
	})
	return err
}
