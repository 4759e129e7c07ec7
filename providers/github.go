package providers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"login-server/config"
	"login-server/identity"
)

// githubOptions: GitHub, or GitHub Enterprise at BaseURL
// (https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps).
type githubOptions struct {
	oauthOptions
	BaseURL string `json:"baseURL"`
	// Prompt is select_account where people shall choose among their accounts each time.
	Prompt string `json:"prompt"`
}

func (o *githubOptions) open(e *entry, p *Provider) {
	base, api := "https://github.com", "https://api.github.com"
	if o.BaseURL != "" && e.baseURL("options.baseURL", o.BaseURL, "https://github.example.org") {
		base, api = githubAt(o.BaseURL)
	}
	o.endpoints(e, joined(base, "/login/oauth/authorize"), joined(base, "/login/oauth/access_token"), joined(api, "/user"))
	o.checkCredentials(e, "at GitHub (Settings, Developer settings, OAuth apps)")
	flow := o.flow(e, oauth2.AuthStyleInParams)
	switch o.Prompt {
	case "":
	case "select_account":
		flow.parameters = map[string]string{"prompt": o.Prompt}
	default:
		e.problem("options.prompt", config.Quote(o.Prompt)+" is not known to GitHub", "write select_account, or remove it")
	}
	e.website(p, &github{flow, o.ProfileURL}, nil)
	p.Prober = reachable{o.ProfileURL, e.client}
}

// githubAt is where pages and API are: a server of one's own has the API below a path,
// GitHub itself and ghe.com (Enterprise Cloud with data residency) on a host of its own.
func githubAt(baseURL string) (pages, api string) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return baseURL, baseURL // baseURL has been checked
	}
	switch host := strings.ToLower(u.Host); {
	case host == "github.com" || host == "www.github.com":
		return "https://github.com", "https://api.github.com"
	case strings.HasSuffix(host, ".ghe.com"):
		return "https://" + host, "https://api." + host
	}
	return baseURL, joined(baseURL, "/api/v3")
}

type github struct {
	*codeFlow
	profileURL string
}

var _ Website = (*github)(nil)

// Begin asks for no scope unless the options name one: who somebody is can be read
// without.
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
	resp, body, err := request(ctx, g.client, http.MethodGet, g.profileURL, "", nil, http.Header{
		"Accept":               {"application/vnd.github+json"},
		"Authorization":        {"Bearer " + t.AccessToken},
		"X-Github-Api-Version": {"2022-11-28"},
	})
	if err != nil {
		return identity.Profile{}, err
	}
	if githubLimits(resp, body) {
		return identity.Profile{}, &UnavailableError{fmt.Errorf("%s: status %d, too many requests, again after %.20q s",
			g.profileURL, resp.StatusCode, cmp.Or(resp.Header.Get("Retry-After"), "?"))}
	}
	var user struct {
		ID    text   `json:"id"`
		Name  string `json:"name"` // often null
		Login string `json:"login"`
	}
	if err := document(g.profileURL, resp.StatusCode, body, &user); err != nil {
		return identity.Profile{}, err
	}
	if !counted(user.ID) {
		return identity.Profile{}, errors.New("the profile has no id that is a number")
	}
	return identity.Profile{ID: string(user.ID), Name: user.Name, Username: user.Login}, nil
}

// githubLimits tells a rate limit from other reasons to refuse with status 403. A
// secondary limit may be told of in the message only
// (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api).
func githubLimits(resp *http.Response, body []byte) bool {
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusForbidden:
		return resp.Header.Get("Retry-After") != "" || resp.Header.Get("X-Ratelimit-Remaining") == "0" ||
			bytes.Contains(bytes.ToLower(body), []byte("rate limit"))
	}
	return false
}
