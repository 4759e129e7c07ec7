package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"login-server/store"
)

// code is what a grant says of its authorization code (RFC 6749, 4.1.2). The code itself is
// <id of the grant>.<sealed grant>, and nothing is stored before it is redeemed: that the id
// is taken then makes it good once. For those that carry nothing see newCode.
type code struct {
	Hash        string    `json:"hash,omitempty"`        // of a code that carries nothing
	RedirectURI string    `json:"redirectUri,omitempty"` // as given; empty if it was not
	Challenge   string    `json:"challenge,omitempty"`   // S256
	Expires     time.Time `json:"expires"`
	Used        bool      `json:"used,omitempty"`
}

// maxCode is how many characters a code has at most. Most have less than 1,000; with more, and
// with what else the client has in it, the address that brings it would be too long for some
// servers, which take 2,048.
const maxCode = 1200

// newCode gives g a code. It carries nothing if carry is not set, or if it would be too long,
// because of a claims parameter or a long nonce: such a grant has to be stored at once, with
// the hash of the code.
func (p *Provider) newCode(g *grant, carry bool) (string, error) {
	if carry {
		sealed := *g
		sealed.Created, sealed.Used, sealed.Expires = time.Time{}, time.Time{}, time.Time{} // openCode has them from Code.Expires
		text, err := p.o.Codes.Seal(sealed)
		if err != nil {
			return "", err
		}
		if text = g.ID + "." + text; len(text) <= maxCode {
			return text, nil
		}
	}
	text := g.newSecret()
	g.Code.Hash = hashSecret(text)
	return text, nil
}

// carried tells whether the code of g carries it.
func (g *grant) carried() bool { return g.Code != nil && g.Code.Hash == "" }

// openCode returns the grant that a code carries; false if it carries none.
func (p *Provider) openCode(text string) (grant, bool) {
	id, sealed, ok := strings.Cut(text, ".")
	if !ok || len(text) > maxCode {
		return grant{}, false
	}
	var g grant
	if err := p.o.Codes.Open(sealed, &g); err != nil || g.ID != id || !g.carried() {
		return grant{}, false
	}
	g.Expires = g.Code.Expires
	g.Created = g.Expires.Add(-codeLife)
	g.Used = g.Created
	return g, true
}

// unknownCode is the same error for all that could be wrong with a code: a client that does
// not own it learns nothing.
func unknownCode() *Error {
	return invalidGrant("The code is unknown, has expired, or was used before.")
}

// redeemCode exchanges a code for tokens (RFC 6749, 4.1.3; RFC 7636, 4.6).
func (p *Provider) redeemCode(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	given := form.Get("code")
	if given == "" {
		return nil, invalidRequest("The code is missing.")
	}
	if g, ok := p.openCode(given); ok {
		return p.redeemCarried(ctx, c, r, form, g)
	}
	id, ok := grantOf(given)
	if !ok {
		return nil, unknownCode()
	}
	return p.redeemStored(ctx, c, r, form, id)
}

// redeemCarried redeems a code that carries its grant, which is stored by that.
func (p *Provider) redeemCarried(ctx context.Context, c *Client, r *http.Request, form url.Values, g grant) (*tokenAnswer, error) {
	if g.Client != c.ClientID {
		return nil, unknownCode()
	}
	resources, err := p.checkCode(ctx, g, form)
	if err == nil {
		g.KeyThumbprint, err = p.proofOf(ctx, r, c, g.KeyThumbprint, "")
	}
	if err == nil {
		p.useCode(c, &g)
		var answer *tokenAnswer
		answer, err = p.answerTokens(ctx, c, &g, g.Scope, resources, func() error { return p.insertAndKeep(ctx, g) })
		if !errors.Is(err, store.ErrExists) {
			return answer, err
		}
		err = unknownCode()
	}
	// If it was used before, what else is wrong with it does not matter.
	item, missing := p.grants.Get(ctx, g.ID)
	switch {
	case errors.Is(missing, store.ErrNotFound):
		return nil, err
	case missing != nil:
		return nil, missing
	}
	return nil, p.usedAgain(ctx, item.Value)
}

// redeemStored redeems the code of a grant that is stored.
func (p *Provider) redeemStored(ctx context.Context, c *Client, r *http.Request, form url.Values, id string) (*tokenAnswer, error) {
	thumbprint, proven := "", false
	for {
		item, err := p.grants.Get(ctx, id)
		if err != nil {
			return nil, grantError(err, unknownCode())
		}
		g := item.Value
		switch {
		case g.Code == nil || !sameHash(g.Code.Hash, form.Get("code")) || g.Client != c.ClientID:
			return nil, unknownCode()
		case g.Code.Used:
			return nil, p.usedAgain(ctx, g)
		}
		resources, err := p.checkCode(ctx, g, form)
		if err != nil {
			return nil, err
		}
		// A proof is good once: whoever comes here again, because the grant was changed
		// meanwhile, has shown theirs.
		if !proven {
			if thumbprint, err = p.proofOf(ctx, r, c, g.KeyThumbprint, ""); err != nil {
				return nil, err
			}
			proven = true
		}
		g.KeyThumbprint = thumbprint
		p.useCode(c, &g)
		answer, err := p.answerTokens(ctx, c, &g, g.Scope, resources, p.replacing(ctx, item.Version, &g))
		if !isConflict(err) {
			return answer, err
		}
	}
}

// checkCode tells whether a request may redeem the code of g, and for which resources.
func (p *Provider) checkCode(ctx context.Context, g grant, form url.Values) (resources []string, err error) {
	if !p.o.Clock.Now().Before(g.Code.Expires) {
		return nil, unknownCode()
	}
	if form.Get("redirect_uri") != g.Code.RedirectURI {
		return nil, invalidGrant("The redirect_uri is not that of the authorization request.")
	}
	if err := checkVerifier(g.Code.Challenge, form.Get("code_verifier")); err != nil {
		return nil, err
	}
	g.Offline = false // a code ends with the session, also where what it gives does not
	if err := p.inForce(ctx, g); err != nil {
		return nil, goneOr(err, unknownCode())
	}
	return narrowed(g.Resources, form["resource"])
}

// useCode marks a code as used, and begins what comes of it.
func (p *Provider) useCode(c *Client, g *grant) {
	g.Code.Used = true
	if c.allows(grantRefresh) {
		g.Refresh = &refresh{Seed: random(), Since: []time.Time{p.o.Clock.Now()}}
	}
}

// usedAgain ends the grant of a code that somebody has twice, and with it what the first use
// has given (RFC 6749, 10.5). Of two at once one has won, and the other is the second. It
// returns what the client is told.
func (p *Provider) usedAgain(ctx context.Context, g grant) error {
	if !g.Revoked {
		if err := p.revoke(ctx, g.ID); err != nil {
			return err
		}
	}
	return unknownCode()
}

// insertAndKeep writes a new grant that is asked for again in a moment, for userinfo. It goes
// through the cache, which keeps it unless somebody changes it in the very moment in which it
// is written. store.ErrExists if it is there already.
func (p *Provider) insertAndKeep(ctx context.Context, g grant) error {
	inserted := false
	_, err := p.cache.Get(ctx, g.ID, func(ctx context.Context, id string) (store.Item[grant], error) {
		inserted = true
		return p.grants.Insert(ctx, id, g)
	})
	if err == nil && !inserted {
		return store.ErrExists
	}
	return err
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
