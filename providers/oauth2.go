package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
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

// checkCredentials complains about credentials that are missing or wrong. where tells where
// they are to be had.
func (o *oauthOptions) checkCredentials(e *entry, where string) {
	e.required("options.clientID", o.ClientID, "register this server "+where+", with the callback URL "+e.callback()+", and write the client ID that you get")
	e.required("options.clientSecret", o.ClientSecret, "write the client secret that you get "+where)
	e.alone("options.clientID", o.ClientID)
	e.alone("options.clientSecret", o.ClientSecret)
}

// alone complains about a credential that was pasted together with space around it.
func (e *entry) alone(field, value string) {
	if strings.TrimSpace(value) != value {
		e.problem(field, "has spaces or line breaks around it", "write it alone")
	}
}

// endpoints checks those endpoints that the options name, and fills in the others.
func (o *oauthOptions) endpoints(e *entry, authorization, token, profile string) {
	for _, endpoint := range []struct {
		field      string
		value      *string
		otherwise  string
		checkValue func(field, value, example string) bool
	}{
		{"options.authorizationURL", &o.AuthorizationURL, authorization, e.serverURL},
		{"options.tokenURL", &o.TokenURL, token, e.serverURL},
		{"options.profileURL", &o.ProfileURL, profile, e.baseURL},
	} {
		if *endpoint.value == "" {
			*endpoint.value = endpoint.otherwise
		} else {
			endpoint.checkValue(endpoint.field, *endpoint.value, endpoint.otherwise)
		}
	}
}

// codeFlow is the authorization code grant (RFC 6749, 4.1) with PKCE (RFC 7636).
type codeFlow struct {
	config oauth2.Config
	client *http.Client
	// withoutPKCE is for servers that fail on parameters they do not know.
	withoutPKCE bool
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
	parameters := slices.Clone(more)
	if !f.withoutPKCE {
		parameters = append(parameters, oauth2.S256ChallengeOption(l.Verifier))
	}
	for name, value := range f.parameters {
		parameters = append(parameters, oauth2.SetAuthURLParam(name, value))
	}
	return f.config.AuthCodeURL(l.State, parameters...)
}

// exchange redeems the code of an answer (RFC 6749, 4.1.3).
func (f *codeFlow) exchange(ctx context.Context, l Login, answer url.Values) (*oauth2.Token, error) {
	code := answer.Get("code")
	if code == "" {
		return nil, errors.New("the answer has no code")
	}
	client := *f.client
	client.Transport = tokenTransport{client.Transport}
	var parameters []oauth2.AuthCodeOption
	if !f.withoutPKCE {
		parameters = append(parameters, oauth2.VerifierOption(l.Verifier))
	}
	t, err := f.config.Exchange(context.WithValue(ctx, oauth2.HTTPClient, &client), code, parameters...)
	if err != nil {
		return nil, tokenError(err, code, l.Verifier, f.config.ClientSecret)
	}
	return t, nil
}

// tokenTransport prepares answers of a token endpoint for x/oauth2, which asks for no
// format, believes the Content-Type, and forgets the cause of a body that breaks off.
type tokenTransport struct{ next http.RoundTripper }

func (t tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json") // GitHub answers with a form otherwise
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	switch start := bytes.TrimSpace(body); {
	case bytes.HasPrefix(start, []byte("{")):
		resp.Header.Set("Content-Type", "application/json")
	case bytes.HasPrefix(start, []byte("access_token=")), bytes.HasPrefix(start, []byte("error=")):
		resp.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return resp, nil
}

// tokenError keeps of an error of the token endpoint what the log may hold: neither its
// body, which can hold a token, nor any of the secrets that were sent.
func tokenError(err error, secrets ...string) error {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("token endpoint: %w", unqueried(err))
	}
	answered, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || answered.Response == nil {
		return errors.New("token endpoint: the answer is not as documented, or has no access_token")
	}
	status := answered.Response.StatusCode
	if err := statusError("token endpoint", status); err != nil {
		return err
	}
	code, description := answered.ErrorCode, answered.ErrorDescription
	if code == "" {
		// As Facebook has it, and who followed it: an object.
		var body struct {
			Error struct{ Type, Message string }
		}
		if json.Unmarshal(answered.Body, &body) == nil {
			code, description = body.Error.Type, body.Error.Message
		}
	}
	return fmt.Errorf("token endpoint: status %d, error %.40q %.200q", status, withheld(code, secrets...), withheld(description, secrets...))
}

// withheld is a text of another server without the secrets that it may repeat.
func withheld(text string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
			text = strings.ReplaceAll(text, url.QueryEscape(secret), "…")
		}
	}
	return text
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
	return document(address, status, body, value)
}

// document reads the JSON document that was asked for.
func document(address string, status int, body []byte, value any) error {
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

// counted tells whether an id is a number that its provider has counted up: digits and
// nothing else, so that no two texts are the same account.
func counted(id text) bool {
	return id != "" && id[0] != '0' && strings.Trim(string(id), "0123456789") == ""
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
