package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// tokenAnswer is a successful answer of the token endpoint (RFC 6749, 5.1).
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
	// IssuedTokenType is that of a token exchange (RFC 8693, 2.2.1).
	IssuedTokenType string `json:"issued_token_type,omitempty"`
}

// Token serves the token endpoint.
func (p *Provider) Token() http.HandlerFunc {
	return p.endpoint(func(r *http.Request, form url.Values) (any, error) {
		ctx := r.Context()
		c, err := p.authenticate(ctx, r, form)
		if err != nil {
			return nil, err
		}
		grantType := form.Get("grant_type")
		redeem, known := map[string]func(context.Context, *Client, *http.Request, url.Values) (*tokenAnswer, error){
			grantCode: p.redeemCode, grantRefresh: p.refresh, grantCredentials: p.clientCredentials,
			grantDevice: p.redeemDevice, grantExchange: p.exchange,
		}[grantType]
		switch {
		case grantType == "":
			return nil, invalidRequest("The grant_type is missing.")
		case !known:
			return nil, fail("unsupported_grant_type", "The grant_type is not supported.")
		case !c.allows(grantType):
			return nil, fail("unauthorized_client", "This client is not registered for this grant_type.")
		}
		return redeem(ctx, c, r, form)
	})
}

// redeemCode exchanges a code for tokens (RFC 6749, 4.1.3; RFC 7636, 4.6).
func (p *Provider) redeemCode(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	given := form.Get("code")
	id, ok := grantOf(given)
	if given == "" {
		return nil, invalidRequest("The code is missing.")
	}
	unknown := invalidGrant("The code is unknown, has expired, or was used before.")
	if !ok {
		return nil, unknown
	}
	// The same error for all that could be wrong with a code: a client that does not own it
	// learns nothing.
	item, err := p.grants.Get(ctx, id)
	if err != nil {
		return nil, grantError(err, unknown)
	}
	g, now := item.Value, p.o.Clock.Now()
	switch {
	case g.Code == nil || !sameHash(g.Code.Hash, given) || g.Client != c.ClientID:
		return nil, unknown
	case g.Code.Used:
		// Somebody has it twice (RFC 6749, 10.5): what the first use has given is void.
		if err := p.revoke(ctx, id); err != nil {
			return nil, err
		}
		return nil, unknown
	case !now.Before(g.Code.Expires):
		return nil, unknown
	case form.Get("redirect_uri") != g.Code.RedirectURI && (g.Code.RedirectURI != "" || form.Get("redirect_uri") != ""):
		return nil, invalidGrant("The redirect_uri is not that of the authorization request.")
	}
	if err := checkVerifier(g.Code.Challenge, form.Get("code_verifier")); err != nil {
		return nil, err
	}
	if err := p.inForce(ctx, g); err != nil {
		return nil, goneOr(err, unknown)
	}
	thumbprint, err := p.proofOf(ctx, r, c, g.KeyThumbprint, "")
	if err != nil {
		return nil, err
	}
	g.KeyThumbprint = thumbprint
	g.Code.Used = true
	if c.allows(grantRefresh) {
		g.Refresh = &refresh{Seed: random(), Since: now}
	}
	return p.answerTokens(ctx, c, item.Version, &g, g.Scope, g.Resources, func(err error) error {
		// Of two at once one has won: the other is the second use of the code.
		if revokeErr := p.revoke(ctx, id); revokeErr != nil {
			return revokeErr
		}
		return unknown
	})
}

// checkVerifier is PKCE with S256 (RFC 7636, 4.6).
func checkVerifier(challenge, verifier string) error {
	if challenge == "" {
		if verifier != "" {
			// RFC 9700, 2.1.1: no downgrade.
			return invalidGrant("There is a code_verifier, but the request had no code_challenge.")
		}
		return nil
	}
	sum := sha256.Sum256([]byte(verifier))
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) != 1 {
		return invalidGrant("The code_verifier does not belong to the code_challenge.")
	}
	return nil
}

// refresh exchanges a refresh token for the next tokens (RFC 6749, 6).
func (p *Provider) refresh(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	given := form.Get("refresh_token")
	if given == "" {
		return nil, invalidRequest("The refresh_token is missing.")
	}
	unknown := invalidGrant("The refresh token is unknown, has expired, or was revoked.")
	id, ok := grantOf(given)
	if !ok {
		return nil, unknown
	}
	thumbprint, proven := "", false
	for {
		item, err := p.grants.Get(ctx, id)
		if err != nil {
			return nil, grantError(err, unknown)
		}
		g, now := item.Value, p.o.Clock.Now()
		number, ok := p.refreshNumber(&g, given)
		if !ok || g.Client != c.ClientID {
			return nil, unknown
		}
		if err := p.inForce(ctx, g); err != nil {
			return nil, goneOr(err, unknown)
		}
		if !now.Before(g.Refresh.Idle) {
			return nil, unknown
		}
		scope, resources := g.Scope, g.Resources
		if text := form.Get("scope"); text != "" {
			asked := strings.Fields(text)
			if scope = intersect(g.Scope, asked); len(scope) != len(slices.Compact(slices.Sorted(slices.Values(asked)))) {
				return nil, fail("invalid_scope", "The scope is wider than what was granted.")
			}
		}
		if list := form["resource"]; len(list) > 0 {
			if resources = intersect(g.Resources, list); len(resources) != len(list) {
				return nil, fail("invalid_target", "A resource is not among those that were granted.")
			}
		}
		// A client that has proved who it is may change its key, but not do without one; a
		// public one is held to it (RFC 9449, 5). A proof is good once: whoever comes here again,
		// because another request was faster, has shown theirs.
		if !proven {
			bound, held := "", g.KeyThumbprint
			if c.public() {
				bound, held = held, ""
			}
			if thumbprint, err = p.proofOf(ctx, r, c, bound, held); err != nil {
				return nil, err
			}
			proven = true
		}
		g.KeyThumbprint = thumbprint
		latest := g.Refresh.Number
		switch {
		case c.FAPI && number == latest: // no rotation: FAPI 2.0 Security Profile, 5.3.2.1
		case number == latest:
			g.Refresh.Number, g.Refresh.Since = latest+1, now
		case number == latest-1 && now.Sub(g.Refresh.Since) < grace:
			// The answer was lost, or another tab was faster: the same successor once more.
		default:
			p.o.Log.Warn("a refresh token was used after its successor", "client", c.ClientID, "grant", g.ID)
			if err := p.revoke(ctx, id); err != nil {
				return nil, err
			}
			return nil, unknown
		}
		again := false
		answer, err := p.answerTokens(ctx, c, item.Version, &g, scope, resources, func(error) error { again = true; return nil })
		if !again {
			return answer, err
		}
	}
}

// answerTokens makes the tokens of a grant and writes it. beaten is asked what to do when
// somebody else has changed it meanwhile.
func (p *Provider) answerTokens(ctx context.Context, c *Client, version int64, g *grant, scope, resources []string, beaten func(error) error) (*tokenAnswer, error) {
	now := p.o.Clock.Now()
	g.Used = now
	g.tidy(now)
	g.Expires = now.Add(minRemembered)
	a := &tokenAnswer{TokenType: "Bearer", ExpiresIn: int64(p.o.AccessTokenLife / time.Second), Scope: strings.Join(scope, " ")}
	if g.KeyThumbprint != "" {
		a.TokenType = "DPoP"
	}
	if g.Refresh != nil {
		g.Refresh.Idle = now.Add(p.o.RefreshIdle)
		if end := g.Created.Add(p.o.RefreshLife); end.Before(g.Refresh.Idle) {
			g.Refresh.Idle = end
		}
		if g.Refresh.Idle.After(g.Expires) {
			g.Expires = g.Refresh.Idle
		}
		a.RefreshToken = p.refreshToken(g, g.Refresh.Number)
	}
	var err error
	if a.AccessToken, err = p.accessToken(c, g, scope, resources); err != nil {
		return nil, err
	}
	if err := p.write(ctx, version, g); err != nil {
		if isConflict(err) {
			return nil, beaten(err)
		}
		return nil, err
	}
	if slices.Contains(scope, scopeOpenID) {
		if a.IDToken, err = p.idToken(ctx, c, g, g.Nonce, a.AccessToken, "", ""); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// minRemembered is how long a grant is kept after its last use at least, so that a code
// that comes again is recognized.
const minRemembered = 24 * time.Hour

// clientCredentials gives a client a token of its own (RFC 6749, 4.4).
func (p *Provider) clientCredentials(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	if c.public() {
		return nil, fail("unauthorized_client", "A client that cannot prove who it is gets no token of its own.")
	}
	thumbprint, err := p.proofOf(ctx, r, c, "", "")
	if err != nil {
		return nil, err
	}
	var scope []string
	for _, s := range strings.Fields(form.Get("scope")) {
		// Scopes about people make no sense without one.
		if slices.Contains(scopes, s) || !c.mayAsk(s) || c.Scope == "" {
			return nil, fail("invalid_scope", "The scope %.60s is not available here.", s)
		}
		scope = append(scope, s)
	}
	for _, resource := range form["resource"] {
		if !slices.Contains(c.Resources, resource) {
			return nil, fail("invalid_target", "A resource is not one that this client may use.")
		}
	}
	g := &grant{ID: newGrantID(), Client: c.ClientID, Subject: c.ClientID, Scope: scope, Resources: form["resource"],
		KeyThumbprint: thumbprint, Created: p.o.Clock.Now()}
	a := &tokenAnswer{TokenType: "Bearer", ExpiresIn: int64(p.o.AccessTokenLife / time.Second), Scope: strings.Join(scope, " ")}
	if thumbprint != "" {
		a.TokenType = "DPoP"
	}
	if a.AccessToken, err = p.accessToken(c, g, scope, g.Resources); err != nil {
		return nil, err
	}
	g.Used = g.Created
	_, err = p.grants.Insert(ctx, g.ID, *g)
	return a, err
}
