package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"login-server/identity"
)

// easydbOptions: an easydb server knows the users.
type easydbOptions struct {
	URL string `json:"url"` // …/api/v1/
}

func (o *easydbOptions) open(e *entry, p *Provider) {
	e.serverURL("options.url", o.URL, "https://easydb.example.org/api/v1/")
	db := &easydb{base: strings.TrimSuffix(o.URL, "/") + "/", client: e.client, exposes: p.ExposeUpstreamToken}
	e.checker(p, db, true)
	p.Prober = db
}

// easydb opens a session and authenticates it. The older program put the password
// into the URL, where every log on the way keeps it; here it is in the body.
type easydb struct {
	base   string
	client *http.Client
	// exposes: applications get the token of the session, which is good for the person's
	// rights at easydb until easydb ends it.
	exposes bool
}

var (
	_ Checker = (*easydb)(nil)
	_ Prober  = (*easydb)(nil)
)

func (db *easydb) session(ctx context.Context) (token string, err error) {
	status, body, err := ask(ctx, db.client, http.MethodGet, db.base+"session", "", nil, nil)
	if err != nil {
		return "", fmt.Errorf("easydb: open session: %w", err)
	}
	var answer struct {
		Token string `json:"token"`
	}
	if status != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Token == "" {
		return "", fmt.Errorf("easydb: open session: status %d, no token in %d bytes", status, len(body))
	}
	return answer.Token, nil
}

func (db *easydb) Probe(ctx context.Context) error {
	_, err := db.session(ctx)
	return err
}

func (db *easydb) Check(ctx context.Context, username, password string) (identity.Profile, error) {
	token, err := db.session(ctx)
	if err != nil {
		return identity.Profile{}, err
	}
	form := url.Values{"token": {token}, "login": {username}, "password": {password}}
	status, body, err := ask(ctx, db.client, http.MethodPost, db.base+"session/authenticate",
		"application/x-www-form-urlencoded", strings.NewReader(form.Encode()), nil)
	if err != nil {
		return identity.Profile{}, fmt.Errorf("easydb: authenticate: %w", err)
	}
	switch status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		// The token is fresh: all that can be wrong with the request is the credentials.
		return identity.Profile{}, ErrRefused
	default:
		return identity.Profile{}, fmt.Errorf("easydb: authenticate: status %d", status)
	}
	var answer struct {
		User struct {
			ID    text   `json:"_id"`
			Name  string `json:"_generated_displayname"`
			Login string `json:"login"`
			User  *struct {
				ID    text   `json:"_id"`
				Login string `json:"login"`
			} `json:"user"`
		} `json:"user"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return identity.Profile{}, errors.New("easydb: authenticate: the answer is not JSON as documented")
	}
	// easydb nests the record of the user below its display name.
	u := answer.User
	if u.User != nil {
		if u.ID == "" {
			u.ID = u.User.ID
		}
		if u.Login == "" {
			u.Login = u.User.Login
		}
	}
	if u.ID == "" {
		return identity.Profile{}, errors.New("easydb: authenticate: the answer has no user._id")
	}
	profile := identity.Profile{ID: string(u.ID), Name: u.Name, Username: u.Login}
	if db.exposes {
		upstream, err := json.Marshal(map[string]string{"token": token})
		if err != nil {
			return identity.Profile{}, err
		}
		profile.Upstream = string(upstream)
	}
	return profile, nil
}
