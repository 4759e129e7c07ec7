package providers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"login-server/config"
	"login-server/identity"
)

const (
	// skew is how far the clock of an issuer may be from ours.
	skew = time.Minute
	// oldestToken is how long before an ID Token can have been issued: it is fetched for
	// the login, and nobody takes longer to sign in.
	oldestToken = 24 * time.Hour
	// maxSubject is how long a sub may be (OpenID Connect Core, 2).
	maxSubject = 255
)

// Ways to authenticate at a token endpoint (Core, 9).
const (
	clientSecretBasic = "client_secret_basic"
	clientSecretPost  = "client_secret_post"
	noSecret          = "none"
)

// issuerOptions are those of every strategy that speaks OpenID Connect.
type issuerOptions struct {
	oauthOptions
	Issuer string `json:"issuer"`
	Prompt string `json:"prompt"`
	PKCE   *bool  `json:"pkce"`
}

// oidcOptions: any OpenID Provider that has discovery.
type oidcOptions struct {
	issuerOptions
	TokenEndpointAuthMethod  string    `json:"tokenEndpointAuthMethod"`
	ResponseMode             string    `json:"responseMode"`
	UsernameClaim            string    `json:"usernameClaim"`
	IDTokenSignedResponseAlg scopeList `json:"idTokenSignedResponseAlg"`
}

func (o *oidcOptions) open(e *entry, p *Provider) {
	rp := o.relyingParty(e, p, "at the OpenID Provider", "openid", "profile")
	rp.username = cmp.Or(o.UsernameClaim, "preferred_username")
	rp.localized = true

	usesSecret := "write client_secret_basic or client_secret_post, or remove clientSecret"
	switch rp.authMethod = o.TokenEndpointAuthMethod; rp.authMethod {
	case "", clientSecretBasic, clientSecretPost:
		if rp.authMethod != "" && o.ClientSecret == "" {
			e.problem("options.clientSecret", "is missing, and "+rp.authMethod+" needs it", `write it, or "tokenEndpointAuthMethod": "none"`)
		}
	case noSecret:
		if o.ClientSecret != "" {
			e.problem("options.tokenEndpointAuthMethod", "is none although there is a clientSecret", usesSecret)
		}
	default:
		e.problem("options.tokenEndpointAuthMethod", config.Quote(rp.authMethod)+" is not known", "write client_secret_basic, client_secret_post or none, or remove it")
	}
	if o.ClientSecret == "" && rp.withoutPKCE {
		e.problem("options.pkce", "is false although there is no clientSecret: whoever gets hold of a code could use it", "remove it, or write the clientSecret")
	}
	switch o.ResponseMode {
	case "":
	case "query", "form_post":
		p.FormPost = o.ResponseMode == "form_post"
		rp.parameters["response_mode"] = o.ResponseMode
	default:
		e.problem("options.responseMode", config.Quote(o.ResponseMode)+" is not known", "write query or form_post, or remove it")
	}
	for _, algorithm := range o.IDTokenSignedResponseAlg {
		if _, ok := keyTypes[algorithm]; !ok {
			e.problem("options.idTokenSignedResponseAlg", config.Quote(algorithm)+" is not accepted", "write RS256, or another algorithm with a key pair that the OpenID Provider is set to")
		}
	}
	rp.algorithms = o.IDTokenSignedResponseAlg
	e.website(p, rp, rp.issuer)
}

// relyingParty checks the options that all strategies share and makes what they stand
// on. where tells where credentials are to be had; scopes are those without the option.
func (o *issuerOptions) relyingParty(e *entry, p *Provider, where string, scopes ...string) *relyingParty {
	e.required("options.clientID", o.ClientID, "register this server "+where+", with the callback URL "+e.callback()+", and write the client ID that you get")
	e.alone("options.clientID", o.ClientID)
	e.alone("options.clientSecret", o.ClientSecret)
	e.baseURL("options.issuer", o.Issuer, "https://login.example.org/realms/main")
	for _, endpoint := range []struct{ field, value string }{
		{"options.authorizationURL", o.AuthorizationURL}, {"options.tokenURL", o.TokenURL}, {"options.profileURL", o.ProfileURL},
	} {
		if endpoint.value != "" {
			e.serverURL(endpoint.field, endpoint.value, "https://login.example.org/…")
		}
	}
	parameters := map[string]string{}
	if prompts := strings.Fields(o.Prompt); len(prompts) > 0 {
		for _, prompt := range prompts {
			if !slices.Contains([]string{"login", "consent", "select_account", "create"}, prompt) {
				e.problem("options.prompt", config.Quote(prompt)+" is not known", "write login, consent, select_account or create, or remove it")
			}
		}
		parameters["prompt"] = strings.Join(prompts, " ")
	}
	if len(o.Scope) > 0 {
		scopes = o.Scope
	}
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	d := e.discovery(place{o.Issuer, o.AuthorizationURL, o.TokenURL, o.ProfileURL})
	p.discovery, p.Prober = d, d
	return &relyingParty{
		discovery: d, clientID: o.ClientID, clientSecret: o.ClientSecret, callback: e.callback(), scopes: scopes,
		withoutPKCE: o.PKCE != nil && !*o.PKCE, parameters: parameters, now: e.deps.Clock.Now,
	}
}

// relyingParty is an OpenID Connect client with the authorization code flow (Core, 3.1).
type relyingParty struct {
	discovery              *discovery
	clientID, clientSecret string
	callback               string
	scopes                 []string
	// authMethod at the token endpoint; empty: one that the issuer offers.
	authMethod string
	// algorithms an ID Token may be signed with; empty: those that the issuer names.
	algorithms  []string
	withoutPKCE bool
	// parameters are added to the authorization request, and with localized the language.
	parameters map[string]string
	localized  bool
	// username is the claim that is shown as such; empty: there is none.
	username string
	now      func() time.Time
}

var _ Website = (*relyingParty)(nil)

// issuer is what the iss of an answer has to be.
func (rp *relyingParty) issuer(ctx context.Context) (string, error) {
	known, err := rp.discovery.get(ctx)
	if err != nil {
		return "", err
	}
	return known.Issuer, nil
}

// Begin implements Website.
func (rp *relyingParty) Begin(ctx context.Context, l Login) (Departure, error) {
	known, err := rp.discovery.get(ctx)
	if err != nil {
		return Departure{}, err
	}
	flow, err := rp.flow(known)
	if err != nil {
		return Departure{}, err
	}
	parameters := []oauth2.AuthCodeOption{oidc.Nonce(l.Nonce)}
	if rp.localized && l.Locale != "" {
		parameters = append(parameters, oauth2.SetAuthURLParam("ui_locales", l.Locale))
	}
	return Departure{URL: flow.authorizationURL(l, parameters...)}, nil
}

// Finish implements Website.
func (rp *relyingParty) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	a, err := rp.authenticate(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	return rp.profile(ctx, a)
}

func (rp *relyingParty) flow(known *discovered) (*codeFlow, error) {
	method := rp.authMethod
	switch {
	case method != "":
	case rp.clientSecret == "":
		method = noSecret
	default:
		var err error
		if method, err = known.authMethod(); err != nil {
			return nil, err
		}
	}
	style := oauth2.AuthStyleInParams // without a secret too: the client ID alone
	if method == clientSecretBasic {
		style = oauth2.AuthStyleInHeader
	}
	return &codeFlow{
		client: rp.discovery.client, withoutPKCE: rp.withoutPKCE, parameters: rp.parameters,
		config: oauth2.Config{
			ClientID: rp.clientID, ClientSecret: rp.clientSecret, RedirectURL: rp.callback, Scopes: rp.scopes,
			Endpoint: oauth2.Endpoint{AuthURL: known.AuthorizationEndpoint, TokenURL: known.TokenEndpoint, AuthStyle: style},
		},
	}, nil
}

// authentication is what an answer has turned out to be worth.
type authentication struct {
	subject string
	claims  claims // of the ID Token
	token   *oauth2.Token
	known   *discovered
}

// authenticate redeems the code of an answer and verifies the ID Token.
func (rp *relyingParty) authenticate(ctx context.Context, l Login, answer url.Values) (*authentication, error) {
	known, err := rp.discovery.get(ctx)
	if err != nil {
		return nil, err
	}
	if known.IssInAnswers && answer.Get("iss") == "" {
		return nil, errors.New("the answer does not name the issuer, which this one always does") // RFC 9207, 2.4
	}
	flow, err := rp.flow(known)
	if err != nil {
		return nil, err
	}
	token, err := flow.exchange(ctx, l, answer)
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, errors.New("token endpoint: the answer has no ID Token")
	}
	a := &authentication{token: token, known: known}
	if a.claims, err = rp.verify(ctx, known, l, raw, token.AccessToken); err != nil {
		// What the libraries quote of a token has no bounds.
		return nil, fmt.Errorf("ID Token: %s", clean(err.Error()))
	}
	a.subject = a.claims.text("sub")
	return a, nil
}

// verify checks an ID Token (Core, 3.1.3.7) and returns its claims. go-oidc checks alg, the
// signature with our keys, iss, aud, exp and nbf; the rest follows here.
func (rp *relyingParty) verify(ctx context.Context, known *discovered, l Login, raw, accessToken string) (claims, error) {
	algorithms := rp.algorithms
	if len(algorithms) == 0 {
		algorithms = known.signingAlgorithms()
	}
	if len(algorithms) == 0 { // go-oidc would take that for RS256
		return nil, fmt.Errorf("the issuer signs with nothing that is accepted, only %.200q", known.SigningAlgorithms)
	}
	now := rp.now()
	token, err := oidc.NewVerifier(known.Issuer, rp.discovery, &oidc.Config{
		ClientID:             rp.clientID,
		SupportedSigningAlgs: algorithms,
		Now:                  func() time.Time { return now.Add(-skew) },
	}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return nil, errors.New("it is not an object")
	}
	if err := c.unambiguous(); err != nil {
		return nil, err
	}
	switch subject, nonce := c.text("sub"), c.text("nonce"); {
	case l.Nonce == "" || subtle.ConstantTimeCompare([]byte(nonce), []byte(l.Nonce)) != 1:
		return nil, errors.New("it was made for another login: nonce is missing or differs")
	case subject == "" || len(subject) > maxSubject:
		return nil, errors.New("sub is missing, or no text of a sane length")
	case c.has("azp") && c.text("azp") != rp.clientID:
		return nil, fmt.Errorf("it was issued to %.100q (azp)", c.text("azp"))
	case len(token.Audience) > 1 && !c.has("azp"):
		return nil, errors.New("it has several audiences, and azp does not say whom it was issued to")
	case !c.has("exp"):
		return nil, errors.New("exp is missing")
	case !c.has("iat"):
		return nil, errors.New("iat is missing")
	case token.IssuedAt.After(now.Add(skew)):
		return nil, fmt.Errorf("it was issued in the future, at %s: one of the clocks is wrong", token.IssuedAt.UTC().Format(time.RFC3339))
	case token.IssuedAt.Before(now.Add(-oldestToken - skew)):
		return nil, fmt.Errorf("it was issued long ago, at %s", token.IssuedAt.UTC().Format(time.RFC3339))
	case c.has("at_hash") && token.VerifyAccessToken(accessToken) != nil:
		return nil, errors.New("at_hash is not that of the access token")
	}
	return c, nil
}

// profile makes a profile of what the ID Token says. The UserInfo endpoint is asked when
// that lacks something, and never has a say in who somebody is.
func (rp *relyingParty) profile(ctx context.Context, a *authentication) (identity.Profile, error) {
	p := identity.Profile{ID: a.subject, Name: a.claims.name(), Username: a.claims.text(rp.username)}
	said := []claims{a.claims}
	lacks := p.Name == "" || p.Username == "" && rp.username != "" || slices.Contains(rp.scopes, oidc.ScopeEmail) && !a.claims.has("email")
	if lacks && a.known.UserInfoEndpoint != "" {
		info, err := rp.userInfo(ctx, a)
		if err != nil {
			return identity.Profile{}, err
		}
		p.Name, p.Username = cmp.Or(p.Name, info.name()), cmp.Or(p.Username, info.text(rp.username))
		said = append(said, info)
	}
	p.Claims = standardClaims(said...)
	return p, nil
}

// handedOn are the claims that a person's account here takes over. The others, name and
// preferred_username, are in the profile already.
var handedOn = []string{"given_name", "family_name", "middle_name", "nickname", "profile", "picture", "website", "gender", "birthdate",
	"zoneinfo", "locale", "email", "phone_number", "address"}

// standardClaims is what is said of a person, as Profile.Claims; what is said first counts.
// Whether an address or number was verified is taken from who says the address.
func standardClaims(said ...claims) string {
	all := claims{}
	for _, c := range said {
		for _, name := range handedOn {
			if all.has(name) || !c.has(name) {
				continue
			}
			all[name] = c[name]
			if verdict := name + "_verified"; c.has(verdict) {
				all[verdict] = c[verdict]
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	text, err := json.Marshal(all)
	if err != nil {
		return "" // they were read from JSON
	}
	return string(text)
}

// userInfo asks the UserInfo endpoint (Core, 5.3).
func (rp *relyingParty) userInfo(ctx context.Context, a *authentication) (claims, error) {
	address := a.known.UserInfoEndpoint
	header := http.Header{"Authorization": {"Bearer " + a.token.AccessToken}}
	status, body, err := ask(ctx, rp.discovery.client, http.MethodGet, address, "", nil, header)
	if err != nil {
		return nil, err
	}
	if status == http.StatusOK && bytes.HasPrefix(body, []byte("ey")) {
		return nil, fmt.Errorf("%s: the answer is signed or encrypted, which is not supported; set the client's userinfo_signed_response_alg to none", withoutQuery(address))
	}
	var c claims
	if err := document(address, status, body, &c); err != nil {
		return nil, err
	}
	// Core, 5.3.2: otherwise somebody's token could be exchanged for another's.
	if err := c.unambiguous(); err != nil || subtle.ConstantTimeCompare([]byte(c.text("sub")), []byte(a.subject)) != 1 {
		return nil, fmt.Errorf("%s: the answer is about somebody else than the ID Token: sub is missing or differs", withoutQuery(address))
	}
	return c, nil
}

// claims are those of an ID Token or of UserInfo, by their exact names: encoding/json
// would put "Sub", which may be an attribute that people can edit, into a field for "sub".
type claims map[string]json.RawMessage

// has tells whether a claim is there. null is the same as leaving it out (Core, 5.3.2).
func (c claims) has(name string) bool {
	value, ok := c[name]
	return ok && string(value) != "null"
}

// text is a claim that is a text; empty if it is not there, is something else, or has no name.
func (c claims) text(name string) string {
	var text string
	if name == "" || json.Unmarshal(c[name], &text) != nil {
		return ""
	}
	return text
}

// name is the full name, or what there is of it.
func (c claims) name() string {
	return cmp.Or(c.text("name"), strings.TrimSpace(c.text("given_name")+" "+c.text("family_name")))
}

// decisive is the claims that decide who is signed in, and where.
var decisive = []string{"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash"}

// unambiguous refuses claims that libraries which do not tell upper from lower case
// would take for another.
func (c claims) unambiguous() error {
	for name := range c {
		for _, d := range decisive {
			if name != d && strings.EqualFold(name, d) {
				return fmt.Errorf("the claim %.40q can be taken for %q", name, d)
			}
		}
	}
	return nil
}
