package providers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"login-server/clock"
	"login-server/config"
	"login-server/identity"
)

// stackExchangeOptions: Stack Overflow and its sister sites
// (https://api.stackexchange.com/docs/authentication).
type stackExchangeOptions struct {
	oauthOptions
	// SessionKey is the key of the API; StackAppsKey is its older name.
	SessionKey   string `json:"sessionKey"`
	StackAppsKey string `json:"stackAppsKey"`
	// Site is where people's names are looked up.
	Site string `json:"site"`
	// BaseURL is that of another server, with both pages and API, for tests.
	BaseURL string `json:"baseURL"`
}

func (o *stackExchangeOptions) open(e *entry, p *Provider) {
	pages, api := "https://stackoverflow.com", "https://api.stackexchange.com"
	if o.BaseURL != "" && e.baseURL("options.baseURL", o.BaseURL, "https://stackoverflow.com") {
		pages, api = o.BaseURL, o.BaseURL
	}
	o.endpoints(e, joined(pages, "/oauth"), joined(pages, "/oauth/access_token/json"), joined(api, "/2.3/me"))
	o.checkCredentials(e, "at https://stackapps.com/apps/oauth/register")
	key := cmp.Or(o.SessionKey, o.StackAppsKey)
	e.required("options.sessionKey", key, "write the key that you get at https://stackapps.com/apps/oauth/register")
	if o.StackAppsKey != "" && o.StackAppsKey != key {
		e.problem("options.stackAppsKey", "is another key than sessionKey, and the older name of the same", "remove it")
	}
	e.alone("options.sessionKey", key)
	site := cmp.Or(o.Site, "stackoverflow")
	if strings.Trim(site, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		e.problem("options.site", config.QuoteURL(site)+" is not the name of a site", "write one such as stackoverflow or dba.stackexchange.com")
	}
	e.website(p, &stackExchange{
		codeFlow: o.flow(e, oauth2.AuthStyleInParams),
		url:      o.ProfileURL, site: site, key: key, clock: e.deps.Clock, rest: map[string]time.Time{},
	}, nil)
	p.Prober = reachable{o.ProfileURL, e.client}
}

const (
	// patientFor is how long somebody waits for a method that has to be left alone.
	patientFor = 5 * time.Second
	// maxBackoff is how long one answer can close a method.
	maxBackoff = time.Hour
)

// stackExchange gives an account of the whole network: its user ids are those of one
// site, and name different people on each.
type stackExchange struct {
	*codeFlow
	url, site, key string
	clock          clock.Clock

	mu sync.Mutex
	// rest is until when a method must not be called, by its URL
	// (https://api.stackexchange.com/docs/throttle).
	rest map[string]time.Time
}

var _ Website = (*stackExchange)(nil)

// Begin asks for no scope unless the options name one: who somebody is can be read
// without.
func (s *stackExchange) Begin(_ context.Context, l Login) (Departure, error) {
	return Departure{URL: s.authorizationURL(l)}, nil
}

// Finish asks for the account on the site; who has none there has one elsewhere.
func (s *stackExchange) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	t, err := s.exchange(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	users, err := s.call(ctx, s.url, t.AccessToken, url.Values{"site": {s.site}})
	if err == nil && len(users) == 0 {
		users, err = s.call(ctx, joined(s.url, "/associated"), t.AccessToken, url.Values{})
	}
	if err != nil {
		return identity.Profile{}, err
	}
	if len(users) == 0 {
		return identity.Profile{}, errors.New("the person has no account at any site")
	}
	var profile identity.Profile
	var named int64
	for _, u := range users {
		if !counted(u.AccountID) || u.AccountID != users[0].AccountID {
			return identity.Profile{}, errors.New("the users have no account_id that is a number, or not the same")
		}
		profile.ID = string(u.AccountID)
		if u.Name != "" && (profile.Name == "" || u.LastAccess > named) {
			// The default filter makes names safe for HTML, which is done where they are shown.
			profile.Name, named = html.UnescapeString(u.Name), u.LastAccess
		}
	}
	return profile, nil
}

type stackExchangeUser struct {
	AccountID text `json:"account_id"`
	// Name is missing among the associated users, unless a filter includes it.
	Name       string `json:"display_name"`
	LastAccess int64  `json:"last_access_date"` // seconds since 1970
}

// call calls a method of the API. It takes key and token in the query only, so neither
// the address nor what is answered is part of an error as it is.
func (s *stackExchange) call(ctx context.Context, method, token string, query url.Values) ([]stackExchangeUser, error) {
	if err := s.await(ctx, method); err != nil {
		return nil, err
	}
	query.Set("key", s.key)
	query.Set("access_token", token)
	resp, body, err := request(ctx, s.client, http.MethodGet, method+"?"+query.Encode(), "", nil, nil)
	if err != nil {
		return nil, err
	}
	// The wrapper of every answer (https://api.stackexchange.com/docs/wrapper).
	var answer struct {
		Items   []stackExchangeUser `json:"items"`
		Backoff int64               `json:"backoff"` // seconds
		ErrorID int                 `json:"error_id"`
		Name    string              `json:"error_name"`
		Message string              `json:"error_message"`
	}
	malformed := json.Unmarshal(body, &answer)
	s.leaveAlone(method, answer.Backoff)
	if answer.ErrorID != 0 {
		err := fmt.Errorf("%s: error %d %.40q %.200q", method, answer.ErrorID,
			withheld(answer.Name, token, s.key), withheld(answer.Message, token, s.key))
		switch answer.ErrorID {
		case 500, 502, 503: // internal_error, throttle_violation, temporarily_unavailable
			return nil, &UnavailableError{err}
		}
		return nil, err
	}
	if err := statusError(method, resp.StatusCode); err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: status %d", method, resp.StatusCode)
	case malformed != nil || answer.Items == nil:
		return nil, fmt.Errorf("%s: the answer is not JSON as documented", method)
	}
	return answer.Items, nil
}

// leaveAlone remembers that a method must not be called for a while.
func (s *stackExchange) leaveAlone(method string, seconds int64) {
	if seconds <= 0 {
		return
	}
	until := s.clock.Now().Add(time.Duration(min(seconds, int64(maxBackoff/time.Second))) * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if until.After(s.rest[method]) {
		s.rest[method] = until
	}
}

// await returns when a method may be called, or an error if that takes too long.
func (s *stackExchange) await(ctx context.Context, method string) error {
	for {
		s.mu.Lock()
		left := s.rest[method].Sub(s.clock.Now())
		s.mu.Unlock()
		switch {
		case left <= 0:
			return nil
		case left > patientFor:
			return &UnavailableError{fmt.Errorf("%s: wants to be left alone for another %v", method, left)}
		}
		due := make(chan struct{})
		timer := s.clock.AfterFunc(left, func() { close(due) })
		select {
		case <-due:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
