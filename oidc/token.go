package oidc

import (
	"context"
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
	grants := map[string]func(context.Context, *Client, *http.Request, url.Values) (*tokenAnswer, error){
		grantCode: p.redeemCode, grantRefresh: p.refresh, grantCredentials: p.clientCredentials,
		grantDevice: p.redeemDevice, grantExchange: p.exchange,
	}
	return p.endpoint(http.StatusOK, func(ctx context.Context, c *Client, r *http.Request, form url.Values) (any, error) {
		grantType := form.Get("grant_type")
		redeem, known := grants[grantType]
		switch {
		case grantType == "":
			return nil, invalidRequest("The grant_type is missing.")
		case !known:
			return nil, fail("unsupported_grant_type", "The grant_type is not supported.")
		case !c.allows(grantType):
			return nil, fail("unauthorized_client", "This client is not registered for this grant_type.")
		}
		answer, err := redeem(ctx, c, r, form)
		if err != nil {
			return nil, err
		}
		p.o.Issued(c.label(), grantType)
		return answer, nil
	})
}

// narrowed are the resources of one access token: those of the grant, or those of them
// that the request names (RFC 8707, 2.2).
func narrowed(granted, asked []string) ([]string, error) {
	if len(asked) == 0 {
		return granted, nil
	}
	for _, resource := range asked {
		if !slices.Contains(granted, resource) {
			return nil, fail("invalid_target", "A resource is not among those that were granted.")
		}
	}
	return intersect(granted, asked), nil
}

// narrowedScope is the same for scopes (RFC 6749, 6). The grant keeps what it has.
func narrowedScope(granted []string, asked string) ([]string, error) {
	if asked == "" {
		return granted, nil
	}
	names := strings.Fields(asked)
	for _, name := range names {
		if !slices.Contains(granted, name) {
			return nil, fail("invalid_scope", "The scope is wider than what was granted.")
		}
	}
	return intersect(granted, names), nil
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
		scope, err := narrowedScope(g.Scope, form.Get("scope"))
		if err != nil {
			return nil, err
		}
		resources, err := narrowed(g.Resources, form["resource"])
		if err != nil {
			return nil, err
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
		successor := number + 1
		switch replaced, ok := g.Refresh.replaced(number); {
		case !ok && c.FAPI:
			successor = number // no rotation: FAPI 2.0 Security Profile, 5.3.2.1
		case !ok:
			g.Refresh.rotate(now)
		case now.Sub(replaced) < grace:
			// The answer was lost, or another tab was faster: the same successor once more.
		default:
			p.o.Log.Warn("a refresh token was used after its successor", "client", c.ClientID, "grant", g.ID)
			if err := p.revoke(ctx, id); err != nil {
				return nil, err
			}
			return nil, unknown
		}
		answer, err := p.answerTokens(ctx, c, &g, scope, resources, p.replacing(ctx, item.Version, &g))
		if isConflict(err) {
			continue
		}
		if err == nil {
			answer.RefreshToken = p.refreshToken(&g, successor)
		}
		return answer, err
	}
}

// answerTokens makes the tokens of a grant, which save writes. It is written before
// anything is signed: who is beaten to it has cost no signature, and a signature that
// fails costs a new sign-in, where the other order would let a code be used again.
func (p *Provider) answerTokens(ctx context.Context, c *Client, g *grant, scope, resources []string, save func() error) (*tokenAnswer, error) {
	now := p.o.Clock.Now()
	g.Used = now
	g.tidy(now)
	g.Expires = now.Add(minRemembered)
	a := &tokenAnswer{TokenType: tokenType(g.KeyThumbprint), ExpiresIn: int64(p.o.AccessTokenLife / time.Second), Scope: strings.Join(scope, " ")}
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
	sign := p.accessToken(c, g, scope, resources)
	if err := save(); err != nil {
		return nil, err
	}
	var err error
	if a.AccessToken, err = sign(); err != nil {
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
	var scope []string
	for _, s := range strings.Fields(form.Get("scope")) {
		// Scopes about people make no sense without one.
		if slices.Contains(scopes, s) || !c.mayAsk(s) || c.Scope == "" {
			return nil, fail("invalid_scope", "The scope %.60s is not available here.", s)
		}
		if !slices.Contains(scope, s) {
			scope = append(scope, s)
		}
	}
	resources, err := c.mayTarget(form["resource"])
	if err != nil {
		return nil, err
	}
	thumbprint, err := p.proofOf(ctx, r, c, "", "")
	if err != nil {
		return nil, err
	}
	g := &grant{ID: p.newGrantID(), Client: c.ClientID, Subject: c.ClientID, Scope: scope, Resources: resources,
		KeyThumbprint: thumbprint, Created: p.o.Clock.Now()}
	return p.answerTokens(ctx, c, g, scope, resources, p.inserting(ctx, g))
}

// mayTarget checks resources that are asked for against those of the client, and drops
// what is there twice.
func (c *Client) mayTarget(asked []string) ([]string, error) {
	for _, resource := range asked {
		if !slices.Contains(c.Resources, resource) {
			return nil, fail("invalid_target", "A resource is not one that this client may use.")
		}
	}
	return intersect(c.Resources, asked), nil
}
