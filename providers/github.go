package providers

import (
	"cmp"
	"context"
	"errors"
	"net/url"

	"golang.org/x/oauth2"

	"login-server/identity"
)

// githubOptions: GitHub, or GitHub Enterprise at BaseURL
// (https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps).
type githubOptions struct {
	oauthOptions
	BaseURL string `json:"baseURL"`
}

func (o *githubOptions) open(e *entry, p *Provider) {
	api := "https://api.github.com"
	if o.BaseURL != "" {
		e.serverURL("options.baseURL", o.BaseURL, "https://github.example.org")
		api = joined(o.BaseURL, "/api/v3")
	}
	base := cmp.Or(o.BaseURL, "https://github.com")
	o.AuthorizationURL = cmp.Or(o.AuthorizationURL, joined(base, "/login/oauth/authorize"))
	o.TokenURL = cmp.Or(o.TokenURL, joined(base, "/login/oauth/access_token"))
	o.ProfileURL = cmp.Or(o.ProfileURL, api+"/user")
	o.check(e, "at GitHub (Settings, Developer settings, OAuth apps)")
	e.website(p, &github{o.flow(e, oauth2.AuthStyleInParams), o.ProfileURL}, nil)
	p.Prober = reachable{o.ProfileURL, e.client}
}

type github struct {
	*codeFlow
	profileURL string
}

var _ Website = (*github)(nil)

// Begin asks for no scope: who somebody is can be read without.
func (g *github) Begin(_ context.Context, l Login) (Departure, error) {
	return Departure{URL: g.authorizationURL(l)}, nil
}

// Finish takes the number of the account for its id: the login can be renamed, and
// registered by somebody else then.
func (g *github) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	t, err := g.exchange(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	var user struct {
		ID    text   `json:"id"`
		Name  string `json:"name"`
		Login string `json:"login"`
	}
	if err := fetch(ctx, g.client, g.profileURL, t.AccessToken, &user); err != nil {
		return identity.Profile{}, err
	}
	if user.ID == "" {
		return identity.Profile{}, errors.New("the profile has no id")
	}
	return identity.Profile{ID: string(user.ID), Name: user.Name, Username: user.Login}, nil
}
