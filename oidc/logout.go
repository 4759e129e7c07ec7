package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"

	"login-server/token"
)

// maxHint is how many bytes an id_token_hint may have.
const maxHint = 16 << 10

// hint is an ID Token of ours that comes back as a parameter. It may have expired.
type hint struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Party    string   `json:"azp"`
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	AuthTime int64    `json:"auth_time"`
	Session  string   `json:"sid"`
}

var errHint = errors.New("not an ID Token of this server")

// readHint verifies an id_token_hint. Other tokens that we sign are none: those for
// access and logout have another typ, signed responses and userinfo lack claims.
func (p *Provider) readHint(token string) (hint, error) {
	var h hint
	if len(token) > maxHint {
		return h, errHint
	}
	payload, err := p.o.Tokens.VerifyJWT(token, "JWT")
	if err != nil {
		return h, errHint
	}
	if json.Unmarshal(payload, &h) != nil || h.Issuer != p.o.Issuer || h.Subject == "" || len(h.Audience) == 0 ||
		h.IssuedAt == 0 || h.Expires == 0 || h.AuthTime == 0 {
		return hint{}, errHint
	}
	return h, nil
}

// hintedSubject is the sub of the ID Token that a client gives as a hint (OpenID Connect
// Core, 3.1.2.1).
func (p *Provider) hintedSubject(c *Client, token string) (string, error) {
	h, err := p.readHint(token)
	if err != nil || !slices.Contains(h.Audience, c.ClientID) {
		return "", errHint
	}
	return h.Subject, nil
}

// Logout is what comes of a request to sign somebody out.
type Logout struct {
	// To is where the client wants the browser to be sent, with the state; empty: nowhere,
	// and who is signed in is asked first.
	To string
}

// EndSession checks a request of OpenID Connect RP-Initiated Logout 1.0, 2. It is followed
// only if the hint is of the very session that is signed in, or nobody is, and the
// address is one that the client has registered. With anything less it says nothing, for
// everybody can send people here.
func (p *Provider) EndSession(ctx context.Context, values url.Values, who *Person) (Logout, error) {
	to := values.Get("post_logout_redirect_uri")
	if single(values) != nil || to == "" {
		return Logout{}, nil
	}
	h, err := p.readHint(values.Get("id_token_hint"))
	if err != nil {
		return Logout{}, nil
	}
	id := values.Get("client_id")
	switch {
	case id != "" && !slices.Contains(h.Audience, id):
		return Logout{}, nil
	case id == "" && h.Party != "":
		id = h.Party
	case id == "":
		id = h.Audience[0]
	}
	c, err := p.clients.get(ctx, id)
	if errors.Is(err, errUnknownClient) {
		return Logout{}, nil
	}
	if err != nil {
		return Logout{}, err
	}
	if !slices.Contains(c.PostLogoutRedirectURIs, to) {
		return Logout{}, nil
	}
	// The handle of a session lives on after signing out: the hint has to be of this
	// sign-in, and of this person. Another node may have signed it, by a clock that is late.
	if who != nil && (h.Session != who.Session.Handle || h.Subject != p.subject(c, who.Account.ID) || h.IssuedAt < who.Session.Created.Add(-token.Leeway).Unix()) {
		return Logout{}, nil
	}
	if state, ok := values["state"]; ok {
		to = withQuery(to, "state="+url.QueryEscape(state[0]))
	}
	return Logout{To: to}, nil
}
