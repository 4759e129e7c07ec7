package providers

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dghubble/oauth1"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"golang.org/x/oauth2"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

// mediawikiOptions: a wiki with Extension:OAuth, which speaks two protocols
// (https://www.mediawiki.org/wiki/OAuth/For_Developers). A consumer is registered for one
// of them: for OAuth 1.0a with ConsumerKey and ConsumerSecret, for OAuth 2 with ClientID
// and ClientSecret.
type mediawikiOptions struct {
	oauthOptions
	ConsumerKey    string `json:"consumerKey"`
	ConsumerSecret string `json:"consumerSecret"`
	BaseURL        string `json:"baseURL"`
	// ScriptPath is where index.php and rest.php lie below BaseURL ($wgScriptPath); nil is
	// "w", and empty right below it.
	ScriptPath *string `json:"scriptPath"`
	// Callback is "oob", the default: the wiki leads back to the URL that the consumer was
	// registered with. It accepts nothing else unless the consumer may set its callback
	// ("use as prefix"); then "url" sends ours.
	Callback string `json:"callback"`
	// Authenticate does not ask again who has agreed before; the wiki does that for
	// consumers without any grant.
	Authenticate bool `json:"authenticate"`
	// Issuer is $wgCanonicalServer, where its host is not that of BaseURL.
	Issuer string `json:"issuer"`
}

const callbackURL = "url"

func (o *mediawikiOptions) open(e *entry, p *Provider) {
	base := cmp.Or(o.BaseURL, "https://www.mediawiki.org/")
	e.serverURL("options.baseURL", base, "https://www.wikidata.org/")
	scripts := joined(base, "")
	path := "w"
	if o.ScriptPath != nil {
		path = strings.Trim(*o.ScriptPath, "/")
	}
	if path != "" {
		scripts += "/" + path
	}
	if strings.ContainsAny(path, ":?#") {
		e.problem("options.scriptPath", config.Quote(path)+" is not a path", "write the part between baseURL and /index.php, such as w")
	}

	client := *e.client
	client.Transport = contact{next: e.client.Transport, address: e.cfg.BaseURL.String()}
	first, second := o.ConsumerKey != "" || o.ConsumerSecret != "", o.ClientID != "" || o.ClientSecret != ""
	switch {
	case first && second:
		e.problem("options.consumerKey", "stands beside clientID",
			"keep consumerKey and consumerSecret if the consumer was registered for OAuth 1.0a, clientID and clientSecret if it was for OAuth 2")
	case second:
		o.openOAuth2(e, p, scripts, &client)
	default:
		o.openOAuth1(e, p, scripts, base, &client)
	}
}

const registration = "at the wiki (Special:OAuthConsumerRegistration; those of Wikimedia share https://meta.wikimedia.org)"

func (o *mediawikiOptions) openOAuth1(e *entry, p *Provider, scripts, base string, client *http.Client) {
	e.required("options.consumerKey", o.ConsumerKey, "register this server "+registration+", with the callback URL "+e.callback()+
		", and write the consumer key that you get; for OAuth 2 write clientID instead")
	e.required("options.consumerSecret", o.ConsumerSecret, "write the consumer secret that you get "+registration)
	e.foreign("OAuth 1.0a", map[string]bool{
		"authorizationURL": o.AuthorizationURL != "", "tokenURL": o.TokenURL != "", "profileURL": o.ProfileURL != "", "scope": o.Scope != nil})
	if o.Callback != "" && o.Callback != outOfBand && o.Callback != callbackURL {
		e.problem("options.callback", config.Quote(o.Callback)+" is neither oob nor url", "remove it; write url if the wiki lets the consumer set its callback")
	}
	if issuer, err := url.Parse(o.Issuer); o.Issuer != "" && (err != nil || issuer.Host == "" || issuer.Scheme != "https" && issuer.Scheme != "http") {
		e.problem("options.issuer", config.QuoteURL(o.Issuer)+" is not an http(s) URL", "write the $wgCanonicalServer of the wiki, such as https://www.wikidata.org")
	}
	page := func(name string) string { return scripts + "/index.php?title=Special:OAuth/" + name }
	authorize := "authorize"
	if o.Authenticate {
		authorize = "authenticate"
	}
	m := &mediawiki1{
		consumer: consumer{
			key: o.ConsumerKey, secret: o.ConsumerSecret, client: client, complaint: mediawikiComplaint,
			endpoint: oauth1.Endpoint{
				RequestTokenURL: page("initiate"),
				AuthorizeURL:    page(authorize) + "&oauth_consumer_key=" + url.QueryEscape(o.ConsumerKey),
				AccessTokenURL:  page("token"),
			},
		},
		identifyURL:  page("identify"),
		issuer:       o.Issuer,
		sendCallback: o.Callback == callbackURL,
		clock:        e.deps.Clock,
	}
	if u, err := url.Parse(base); err == nil {
		m.host = u.Host
	}
	p.AnswerKey = tokenParameter
	e.website(p, m, nil)
	p.Prober = reachable{page("initiate"), client}
}

func (o *mediawikiOptions) openOAuth2(e *entry, p *Provider, scripts string, client *http.Client) {
	rest := scripts + "/rest.php/oauth2/"
	o.endpoints(e, rest+"authorize", rest+"access_token", rest+"resource/profile")
	o.checkCredentials(e, registration)
	e.foreign("OAuth 2", map[string]bool{
		"callback": o.Callback != "", "authenticate": o.Authenticate, "issuer": o.Issuer != ""})
	if e.provider.ExposeUpstreamToken {
		e.problem("exposeUpstreamToken", "is true, but a token of OAuth 2 is good for an hour only",
			"remove it, or register the consumer for OAuth 1.0a")
	}
	flow := o.flow(e, oauth2.AuthStyleInParams)
	flow.client = client
	e.website(p, &mediawiki2{flow, o.ProfileURL}, nil)
	p.Prober = reachable{o.ProfileURL, client}
}

// foreign complains about options, by name, that are given but that this protocol has not.
func (e *entry) foreign(protocol string, given map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if given[name] {
			e.problem("options."+name, "means nothing with "+protocol, "remove it")
		}
	}
}

// contact adds to the User-Agent where whoever runs this server is to be found: Wikimedia
// blocks requests that do not tell
// (https://foundation.wikimedia.org/wiki/Policy:Wikimedia_Foundation_User-Agent_Policy).
type contact struct {
	next    http.RoundTripper
	address string
}

func (c contact) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "("+c.address+")")
	return c.next.RoundTrip(r)
}

// mediawiki1 is OAuth 1.0a.
type mediawiki1 struct {
	consumer
	identifyURL string
	// issuer is what the iss of an identity has to be; if it is empty, host is what its host
	// has to be.
	issuer, host string
	sendCallback bool
	clock        clock.Clock
}

var _ Website = (*mediawiki1)(nil)

// Begin: OAuth 1.0a has no state. The request token names the login, and is bound to the
// browser as a state would be.
func (m *mediawiki1) Begin(ctx context.Context, l Login) (Departure, error) {
	callback := outOfBand
	if m.sendCallback {
		callback = l.Callback
	}
	request, err := m.requestToken(ctx, callback)
	if err != nil {
		return Departure{}, err
	}
	kept, err := json.Marshal(request)
	if err != nil {
		return Departure{}, err
	}
	page, err := (&oauth1.Config{Endpoint: m.endpoint}).AuthorizationURL(request.Token)
	if err != nil {
		return Departure{}, err
	}
	return Departure{URL: page.String(), Key: request.Token, Keep: string(kept)}, nil
}

// Finish takes the number of the central account for its id: accounts can be renamed.
//
// Who says no at the wiki stays there (Special:OAuth shows a page of its own), so an
// answer without verifier comes from somebody who has found the way back.
func (m *mediawiki1) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	var request tokenPair
	if err := json.Unmarshal([]byte(l.Kept), &request); err != nil || request.Token == "" {
		return identity.Profile{}, errors.New("no request token was kept for this login")
	}
	if subtle.ConstantTimeCompare([]byte(answer.Get(tokenParameter)), []byte(request.Token)) != 1 {
		return identity.Profile{}, errors.New("the answer has the request token of another login")
	}
	verifier := answer.Get(verifierParameter)
	if verifier == "" {
		return identity.Profile{}, fmt.Errorf("%w: the answer has no %s", ErrCancelled, verifierParameter)
	}
	access, err := m.accessToken(ctx, request, verifier)
	if err != nil {
		return identity.Profile{}, err
	}
	statement, nonce, err := m.fetch(ctx, m.identifyURL, access)
	if err != nil {
		return identity.Profile{}, err
	}
	user, err := m.identify(statement, nonce)
	if err != nil {
		return identity.Profile{}, fmt.Errorf("identity: %w", err)
	}
	profile, err := user.profile()
	if err != nil {
		return identity.Profile{}, err
	}
	// For applications that edit in a person's name; taken away again unless the operator
	// wants them to have it (complete).
	upstream, err := json.Marshal(map[string]tokenPair{"oauth": access})
	if err != nil {
		return identity.Profile{}, err
	}
	profile.Upstream = string(upstream)
	return profile, nil
}

// identitySkew is how far the wiki's clock may be from ours.
const identitySkew = time.Minute

// identify checks the statement of Special:OAuth/identify: a JWT with the claims of an ID
// Token, signed with the consumer secret and made for the request with this nonce.
func (m *mediawiki1) identify(statement []byte, nonce string) (wikiUser, error) {
	var message jws.Message
	payload, err := jws.Verify([]byte(strings.TrimSpace(string(statement))), jws.WithKey(jwa.HS256, []byte(m.secret)), jws.WithCompact(), jws.WithMessage(&message))
	if err != nil {
		return wikiUser{}, errors.New("it is not a JWT signed with the consumer secret")
	}
	// jws.Verify does not look at what the header says (RFC 8725, 3.1).
	if signatures := message.Signatures(); len(signatures) != 1 || signatures[0].ProtectedHeaders().Algorithm() != jwa.HS256 {
		return wikiUser{}, errors.New("its alg is not HS256")
	}
	var claims struct {
		wikiUser
		Issuer   string  `json:"iss"`
		Audience string  `json:"aud"`
		Expires  float64 `json:"exp"` // seconds since 1970
		IssuedAt float64 `json:"iat"`
		Nonce    string  `json:"nonce"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return wikiUser{}, errors.New("its claims are not as documented")
	}
	now, skew := float64(m.clock.Now().Unix()), identitySkew.Seconds()
	switch {
	case !m.isIssuer(claims.Issuer):
		return wikiUser{}, fmt.Errorf("its iss is %s, not %s; if that is the $wgCanonicalServer of the wiki, write it as options.issuer",
			config.QuoteURL(claims.Issuer), cmp.Or(m.issuer, m.host))
	case claims.Audience != m.key:
		return wikiUser{}, errors.New("its aud is not our consumer key")
	case claims.IssuedAt == 0 || claims.IssuedAt > now+skew:
		return wikiUser{}, fmt.Errorf("it was issued %.0f s from now: is one of the clocks wrong?", claims.IssuedAt-now)
	case claims.Expires <= now-skew:
		return wikiUser{}, fmt.Errorf("it expired %.0f s ago: is one of the clocks wrong?", now-claims.Expires)
	case subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(nonce)) != 1:
		return wikiUser{}, errors.New("its nonce is not that of our request")
	}
	return claims.wikiUser, nil
}

// isIssuer: wikis that are reached by https often have http in $wgCanonicalServer.
func (m *mediawiki1) isIssuer(iss string) bool {
	if m.issuer != "" {
		return iss == m.issuer
	}
	u, err := url.Parse(iss)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, m.host)
}

// mediawiki2 is OAuth 2.
type mediawiki2 struct {
	*codeFlow
	profileURL string
}

var _ Website = (*mediawiki2)(nil)

func (m *mediawiki2) Begin(_ context.Context, l Login) (Departure, error) {
	return Departure{URL: m.authorizationURL(l)}, nil
}

func (m *mediawiki2) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	t, err := m.exchange(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	var user wikiUser
	if err := fetch(ctx, m.client, m.profileURL, t.AccessToken, &user); err != nil {
		return identity.Profile{}, err
	}
	return user.profile()
}

// wikiUser is what both protocols tell of a person. Subject is the number of the central
// account; older versions write it as a number, newer ones as a text. Username is missing
// where an administrator has hidden the name.
type wikiUser struct {
	Subject  text   `json:"sub"`
	Username string `json:"username"`
}

var centralID = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)

// profile refuses 0 in particular, which is everybody who has no central account.
func (u wikiUser) profile() (identity.Profile, error) {
	if !centralID.MatchString(string(u.Subject)) {
		return identity.Profile{}, fmt.Errorf("the profile's sub, %.40q, is not the number of a central account", u.Subject)
	}
	return identity.Profile{ID: string(u.Subject), Name: u.Username, Username: u.Username}, nil
}

var (
	// errorCode is one of https://www.mediawiki.org/wiki/Help:OAuth/Errors.
	errorCode = regexp.MustCompile(`\bE0[0-9]{2}\b`)
	markup    = regexp.MustCompile(`(?is)<(script|style|head)\b.*?</(script|style|head)>|<[^>]*>`)
	// secretive is what may be a token or a nonce: those of MediaWiki have 32 digits or more.
	secretive = regexp.MustCompile(`[0-9A-Za-z+/_=]{20,}`)
)

// mediawikiComplaint reads the errors of Special:OAuth. Most come with status 200, as a
// text ("Error: … E004"), as JSON, or as a page.
func mediawikiComplaint(status int, answer []byte) error {
	if err := statusError("the wiki", status); err != nil {
		return err
	}
	said := strings.TrimSpace(string(answer))
	var complaint struct {
		Key     string `json:"error"`
		Message string `json:"message"`
	}
	switch {
	case strings.HasPrefix(said, "{") && json.Unmarshal([]byte(said), &complaint) == nil && complaint.Key != "":
		said = complaint.Key + ": " + complaint.Message
	case status == http.StatusOK && !strings.HasPrefix(said, "{") && !strings.HasPrefix(said, "<") && !strings.HasPrefix(said, "Error:"):
		return nil
	}
	err := fmt.Errorf("the wiki answers %d %q", status, excerpt(said))
	switch complaint.Key {
	case "mwoauth-invalid-authorization-blocked-user", "mwoauth-invalid-authorization-invalid-user":
		// The account is locked, or not known on this wiki.
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// excerpt is as much of an error as the log needs: up to its code, if it has one.
func excerpt(said string) string {
	said = secretive.ReplaceAllString(html.UnescapeString(markup.ReplaceAllString(said, " ")), "…")
	if code := errorCode.FindStringIndex(said); code != nil {
		said = said[max(0, code[1]-maxShown/2):code[1]]
	}
	return clean(said)
}
