package providers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwt"
	"github.com/markbates/goth"
	"golang.org/x/oauth2"

	"login-server/config"
	"login-server/identity"
)

// The strategies goth:NAME are the many providers that speak OAuth 2.0, each with a
// profile of its own. What goth knows of them (which requests make up the profile, how
// it is read, what is added to the authorization request) is used; how goth signs in is
// not. It has no PKCE, no nonce and no context, some of its providers redeem the code
// with http.DefaultClient, and others take the redirect URI or the code verifier from the
// parameters of the callback. Here authorization request and token request are those of
// codeFlow, as for every other strategy, and goth gets the access token and a client that
// goes where the entry says. Nothing of gothic is used.

const gothPrefix = "goth:"

// gothOptions are those of all strategies goth:NAME; which of BaseURL, Domain and Tenant
// there are depends on the provider.
type gothOptions struct {
	oauthOptions
	BaseURL string `json:"baseURL"`
	Domain  string `json:"domain"`
	Tenant  string `json:"tenant"`

	name     string
	provider gothProvider
}

// gothStrategy finds the strategy goth:NAME.
func gothStrategy(name string) (strategy, bool) {
	name = cmp.Or(gothAliases[name], name)
	if name == "apple" {
		return strategy{options: func() options { return new(appleOptions) }, url: "https://www.apple.com"}, true
	}
	provider, known := gothProviders[name]
	if !known {
		return strategy{}, false
	}
	return strategy{options: func() options { return &gothOptions{name: name, provider: provider} }, url: provider.url}, true
}

// gothNames are the names after gothPrefix, sorted.
func gothNames() []string {
	names := slices.AppendSeq([]string{"apple"}, maps.Keys(gothProviders))
	names = slices.AppendSeq(names, maps.Keys(gothAliases))
	slices.Sort(names)
	return names
}

// unknownStrategy is the complaint about a strategy that there is not.
func unknownStrategy(name string) (text, remedy string) {
	text = config.Quote(name) + " is not known"
	native, goths := slices.Sorted(maps.Keys(strategies)), gothNames()
	bare, prefixed := strings.CutPrefix(name, gothPrefix)
	if prefixed {
		if _, ok := strategies[bare]; ok {
			return text, "write " + bare + ", which is a strategy of its own"
		}
		if left, ok := gothLeftOut[bare]; ok {
			return config.Quote(name) + " is not offered: " + left.why, left.instead
		}
	} else if near, ok := config.Nearest(name, native); ok {
		return text, "did you mean " + near + "?"
	}
	if near, ok := config.Nearest(bare, goths); ok {
		return text, "did you mean " + gothPrefix + near + "?"
	}
	if prefixed {
		return text, "write " + gothPrefix + " and one of " + strings.Join(goths, ", ")
	}
	return text, "write one of " + strings.Join(native, ", ") + ", or " + gothPrefix + " and one of " + strings.Join(goths, ", ")
}

func (o *gothOptions) open(e *entry, p *Provider) {
	known := o.provider
	for _, option := range []struct {
		field, value string
		used         bool
	}{
		{"options.baseURL", o.BaseURL, known.host == hostBaseURL},
		{"options.domain", o.Domain, known.host == hostDomain},
		{"options.tenant", o.Tenant, known.host == hostTenant},
		{"options.profileURL", o.ProfileURL, known.profile != ""},
	} {
		if option.value != "" && !option.used {
			e.problem(option.field, "is of no use with "+gothPrefix+o.name, "remove it")
		}
	}

	base := known.base
	switch known.host {
	case hostBaseURL:
		if o.BaseURL != "" || base == "" {
			e.baseURL("options.baseURL", o.BaseURL, cmp.Or(base, "https://"+o.name+".example.org"))
			base = o.BaseURL
		}
	case hostDomain:
		if o.Domain == "" {
			e.problem("options.domain", "is missing", "write the domain of the tenant, such as example.eu.auth0.com")
		} else if u, err := url.Parse("https://" + o.Domain); err != nil || u.Host != o.Domain || u.Hostname() == "" {
			e.problem("options.domain", config.QuoteURL(o.Domain)+" is not a domain", "write it without https:// and without a path")
		}
		base = "https://" + o.Domain
	case hostTenant:
		tenant := cmp.Or(o.Tenant, "common")
		if strings.Trim(tenant, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" {
			e.problem("options.tenant", config.QuoteURL(tenant)+" is not a tenant", "write its id or its domain, or organizations, consumers or common")
		}
		base = joined(base, "/"+tenant)
	}
	at := func(endpoint string) string {
		if strings.HasPrefix(endpoint, "/") {
			return joined(base, endpoint)
		}
		return endpoint
	}
	o.endpoints(e, at(known.authorization), at(known.token), at(known.profile))
	o.checkCredentials(e, known.where)
	if len(e.bad) > 0 {
		return // goth is asked only about what can be used
	}

	if len(o.Scope) == 0 {
		o.Scope = known.scope
	}
	g := &gothSite{
		codeFlow: o.flow(e, known.style), known: known, now: e.deps.Clock.Now,
		settings: gothSettings{
			clientID: o.ClientID, clientSecret: o.ClientSecret, callback: e.callback(), scope: o.Scope, base: base,
			authorizationURL: o.AuthorizationURL, tokenURL: o.TokenURL, profileURL: o.ProfileURL,
			domain: o.Domain, tenant: o.Tenant,
		},
	}
	if known.commas && len(o.Scope) > 0 {
		g.config.Scopes = []string{strings.Join(o.Scope, ",")}
	}
	var err error
	if g.parameters, err = g.additions(); err != nil {
		e.problem("strategy", "cannot be used: "+err.Error(), "report this")
		return
	}
	e.website(p, g, nil)
	p.Prober = reachable{o.TokenURL, e.client}
}

// gothSettings is what a provider of goth is made of. One is made for each login, with a
// client that carries the context of that login.
type gothSettings struct {
	clientID, clientSecret, callback       string
	scope                                  []string
	authorizationURL, tokenURL, profileURL string
	base, domain, tenant                   string
	client                                 *http.Client
}

type gothSite struct {
	*codeFlow
	known    gothProvider
	settings gothSettings
	now      func() time.Time
}

var _ Website = (*gothSite)(nil)

// additions are the parameters that goth adds to an authorization request.
func (g *gothSite) additions() (map[string]string, error) {
	session, err := g.known.create(g.settings).BeginAuth("state")
	if err != nil {
		return nil, err
	}
	address, err := session.GetAuthURL()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	parameters := map[string]string{}
	for name := range u.Query() {
		switch name {
		case "response_type", "client_id", "redirect_uri", "scope", "state":
			// RFC 6749, 4.1.1: codeFlow has them.
		default:
			parameters[name] = u.Query().Get(name)
		}
	}
	return parameters, nil
}

func (g *gothSite) Begin(_ context.Context, l Login) (Departure, error) {
	if slices.Contains(g.settings.scope, "openid") {
		return Departure{URL: g.authorizationURL(l, oauth2.SetAuthURLParam("nonce", l.Nonce))}, nil
	}
	return Departure{URL: g.authorizationURL(l)}, nil
}

// Finish takes nothing from the answer but the code.
func (g *gothSite) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	t, err := g.exchange(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	subject := ""
	if idToken, _ := t.Extra("id_token").(string); idToken != "" {
		if subject, err = g.checkIDToken(idToken, l); err != nil {
			return identity.Profile{}, err
		}
	}
	user, err := g.fetchUser(ctx, t)
	if err != nil {
		return identity.Profile{}, err
	}
	id := user.UserID
	if g.known.id != nil {
		id = g.known.id(user)
	}
	// Where goth reads a number, 0 is what it makes of none: the same for everybody.
	if id == "" || id == "0" {
		return identity.Profile{}, errors.New("the profile has no id")
	}
	if g.known.userInfo && subject != "" && subject != id {
		return identity.Profile{}, errors.New("the profile is not of whom the id_token names (OpenID Connect Core, 5.3.2)")
	}
	profile := identity.Profile{ID: id}
	if g.known.names != nil {
		profile.Name, profile.Username = g.known.names(user)
	} else {
		profile.Name = cmp.Or(strings.TrimSpace(user.Name), strings.TrimSpace(user.FirstName+" "+user.LastName), user.NickName)
	}
	return profile, nil
}

// fetchUser has goth read the profile. Its errors are not shown: they can quote URLs with
// tokens in them, and answers.
func (g *gothSite) fetchUser(ctx context.Context, t *oauth2.Token) (goth.User, error) {
	// What goth's sessions call the access token, at Dropbox and Microsoft too.
	fields := map[string]string{"AccessToken": t.AccessToken, "Token": t.AccessToken, "at": t.AccessToken}
	if g.known.session != nil {
		more, err := g.known.session(t, g.settings)
		if err != nil {
			return goth.User{}, err
		}
		maps.Copy(fields, more)
	}
	marshalled, err := json.Marshal(fields)
	if err != nil {
		return goth.User{}, err
	}

	ctx, cancel := context.WithTimeout(ctx, clientTimeout) // for all requests of the profile
	defer cancel()
	way := &gothTransport{ctx: ctx, next: g.client.Transport}
	if g.known.profile != "" {
		if way.profile, err = url.Parse(g.settings.profileURL); err != nil {
			return goth.User{}, errors.New("the URL of the profile is none")
		}
	}
	settings := g.settings
	settings.client = &http.Client{Transport: way, CheckRedirect: g.client.CheckRedirect}
	provider := g.known.create(settings)
	session, err := provider.UnmarshalSession(string(marshalled))
	if err != nil {
		return goth.User{}, errors.New("goth does not take the session")
	}
	user, err := provider.FetchUser(session)
	switch {
	case way.failure != nil:
		return goth.User{}, way.failure
	case err != nil:
		return goth.User{}, errors.New("the profile is not as documented")
	}
	return user, nil
}

// checkIDToken returns the subject of an ID Token that came with the token answer. It
// came from the token endpoint itself, over TLS, which is worth as much as its signature
// (OpenID Connect Core, 3.1.3.7, 6); the signature is not looked at.
func (g *gothSite) checkIDToken(idToken string, l Login) (subject string, err error) {
	return idTokenSubject(idToken, g.config.ClientID, l.Nonce, g.now, jwt.WithVerify(false))
}

// idTokenSubject checks audience, time and nonce of an ID Token, and what more says of
// its signature. A nonce is compared where there is one: providers that do not know
// OpenID Connect's ignore the parameter.
func idTokenSubject(idToken, clientID, nonce string, now func() time.Time, more ...jwt.ParseOption) (string, error) {
	t, err := jwt.Parse([]byte(idToken), append(more,
		jwt.WithAudience(clientID), jwt.WithRequiredClaim(jwt.ExpirationKey),
		jwt.WithClock(jwt.ClockFunc(now)), jwt.WithAcceptableSkew(time.Minute))...)
	switch {
	case jwt.IsValidationError(err):
		return "", fmt.Errorf("id_token: %w", err)
	case err != nil:
		return "", errors.New("id_token: not a JWT, or not signed with a key of the provider")
	case t.Subject() == "":
		return "", errors.New("id_token: no subject")
	}
	if got, ok := t.Get("nonce"); ok && got != nonce {
		return "", errors.New("id_token: the nonce is that of another login")
	}
	return t.Subject(), nil
}

// gothTransport is the way of the requests that goth makes for a profile, during one
// login. goth has no context, and hides what went wrong or quotes too much of it.
type gothTransport struct {
	ctx  context.Context
	next http.RoundTripper
	// profile is where to ask instead of where goth does; nil: there.
	profile *url.URL
	// failure is the first thing that went wrong.
	failure error
}

func (t *gothTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(t.ctx)
	query := r.URL.Query()
	// RFC 6750, 2.3: a token in a URL ends in logs.
	if token := query.Get("access_token"); token != "" {
		query.Del("access_token")
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if t.profile != nil {
		own := *t.profile
		r.URL, r.Host = &own, own.Host
		maps.Copy(query, own.Query())
	}
	r.URL.RawQuery = query.Encode()
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}

	where := withoutQuery(r.URL.Redacted())
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, t.fail(&url.Error{Op: r.Method, URL: where, Err: err})
	}
	if err := statusError(where, resp.StatusCode); err != nil {
		_ = t.fail(err)
	} else if resp.StatusCode != http.StatusOK {
		_ = t.fail(fmt.Errorf("%s: status %d", where, resp.StatusCode))
	}
	resp.Body = &gothBody{resp.Body, where, t}
	return resp, nil
}

func (t *gothTransport) fail(err error) error {
	if t.failure == nil {
		t.failure = err
	}
	return err
}

// gothBody notes when an answer breaks off.
type gothBody struct {
	io.ReadCloser
	where string
	way   *gothTransport
}

func (b *gothBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		_ = b.way.fail(&url.Error{Op: "read answer of", URL: b.where, Err: err})
	}
	return n, err
}
