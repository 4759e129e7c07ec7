package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"login-server/config"
)

// oauthOptions are those of every strategy that speaks OAuth 2.0. The endpoints have
// defaults; with them a server of one's own, a sandbox or a test takes the place of the
// public host.
type oauthOptions struct {
	ClientID         string    `json:"clientID"`
	ClientSecret     string    `json:"clientSecret"`
	AuthorizationURL string    `json:"authorizationURL"`
	TokenURL         string    `json:"tokenURL"`
	ProfileURL       string    `json:"profileURL"`
	Scope            scopeList `json:"scope"`
}

// scopeList is a list of scopes, or one text with spaces between them, as files of the
// older program have either.
type scopeList []string

func (s *scopeList) UnmarshalJSON(data []byte) error {
	var list []string
	if err := json.Unmarshal(data, &list); err == nil {
		*s = list
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return errors.New("neither a list of texts nor a text")
	}
	*s = strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	return nil
}

// check complains about what is missing or wrong, after the endpoints have got their
// defaults. where tells where credentials are to be had.
func (o *oauthOptions) check(e *entry, where string) {
	e.required("options.clientID", o.ClientID, "register this server "+where+", with the callback URL "+e.callback()+", and write the client ID that you get")
	e.required("options.clientSecret", o.ClientSecret, "write the client secret that you get "+where)
	e.serverURL("options.authorizationURL", o.AuthorizationURL, "https://example.org/oauth/authorize")
	e.serverURL("options.tokenURL", o.TokenURL, "https://example.org/oauth/token")
	e.serverURL("options.profileURL", o.ProfileURL, "https://example.org/api/user")
}

// codeFlow is the authorization code grant (RFC 6749, 4.1) with PKCE (RFC 7636).
type codeFlow struct {
	config oauth2.Config
	client *http.Client
	// parameters are added to the authorization request.
	parameters map[string]string
}

func (o *oauthOptions) flow(e *entry, style oauth2.AuthStyle) *codeFlow {
	return &codeFlow{
		client: e.client,
		config: oauth2.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: e.callback(), Scopes: o.Scope,
			Endpoint: oauth2.Endpoint{AuthURL: o.AuthorizationURL, TokenURL: o.TokenURL, AuthStyle: style},
		},
	}
}

// authorizationURL is the authorization request of a login.
func (f *codeFlow) authorizationURL(l Login, more ...oauth2.AuthCodeOption) string {
	parameters := append([]oauth2.AuthCodeOption{oauth2.S256ChallengeOption(l.Verifier)}, more...)
	for name, value := range f.parameters {
		parameters = append(parameters, oauth2.SetAuthURLParam(name, value))
	}
	return f.config.AuthCodeURL(l.State, parameters...)
}

// exchange redeems the code of an answer.
func (f *codeFlow) exchange(ctx context.Context, l Login, answer url.Values) (*oauth2.Token, error) {
	code := answer.Get("code")
	if code == "" {
		return nil, errors.New("the answer has no code")
	}
	t, err := f.config.Exchange(context.WithValue(ctx, oauth2.HTTPClient, f.client), code, oauth2.VerifierOption(l.Verifier))
	if err != nil {
		return nil, tokenError(err)
	}
	return t, nil
}

// tokenError keeps of an error of the token endpoint what the log may hold: its body can
// hold the code, or a token.
func tokenError(err error) error {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) || answered.Response == nil {
		return fmt.Errorf("token endpoint: %w", err)
	}
	status := answered.Response.StatusCode
	if err := statusError("token endpoint", status); err != nil {
		return err
	}
	return fmt.Errorf("token endpoint: status %d, error %.40q %.200q", status, answered.ErrorCode, answered.ErrorDescription)
}

// statusError is what the status of an answer means when it is none that the protocol
// provides for; nil for those that it does.
func statusError(where string, status int) error {
	switch {
	case status >= 500, status == http.StatusTooManyRequests:
		return &UnavailableError{fmt.Errorf("%s: status %d", where, status)}
	case status >= 300 && status < 400:
		return fmt.Errorf("%s: %w", where, errRedirect)
	}
	return nil
}

// fetch asks for a JSON document with a bearer token (RFC 6750).
func fetch(ctx context.Context, client *http.Client, address, bearer string, value any) error {
	header := http.Header{}
	if bearer != "" {
		header.Set("Authorization", "Bearer "+bearer)
	}
	status, body, err := ask(ctx, client, http.MethodGet, address, "", nil, header)
	if err != nil {
		return err
	}
	if err := statusError(withoutQuery(address), status); err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s: status %d", withoutQuery(address), status)
	}
	if err := json.Unmarshal(body, value); err != nil {
		return fmt.Errorf("%s: the answer is not JSON as documented", withoutQuery(address))
	}
	return nil
}

// withoutQuery is an address for the log: queries may hold keys and tokens.
func withoutQuery(address string) string {
	base, _, _ := strings.Cut(address, "?")
	return base
}

// joined is a URL below the base that an operator has given, with or without a slash at
// its end.
func joined(base, path string) string { return strings.TrimRight(base, "/") + path }

// callback is where the provider sends the browser back to.
func (e *entry) callback() string {
	return e.cfg.BaseURL.String() + "login/" + e.provider.ID + "/return"
}

// reachable is the Prober of a website: any answer but a failure of the server will do.
type reachable struct {
	address string
	client  *http.Client
}

func (r reachable) Probe(ctx context.Context) error {
	status, _, err := ask(ctx, r.client, http.MethodGet, r.address, "", nil, nil)
	if err == nil && status >= 500 {
		err = fmt.Errorf("%s: status %d", config.Printable(withoutQuery(r.address)), status)
	}
	return err
}
