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

// code is an authorization code (RFC 6749, 4.1.2). It carries its grant, sealed, and nothing
// is stored before it is redeemed: <id of the grant>.<sealed grant>. That the id is taken then
// is what makes it good once.
type code struct {
	// Hash is of the code, if it carries nothing: see newCode.
	Hash        string    `json:"hash,omitempty"`
	RedirectURI string    `json:"redirectUri,omitempty"` // as given; empty if it was not
	Challenge   string    `json:"challenge,omitempty"`   // S256
	Expires     time.Time `json:"expires"`
	Used        bool      `json:"used,omitempty"`
	// Withdrawals are those that were known when it was given.
	Withdrawals [2]string `json:"withdrawals,omitzero"`
}

// maxCode is how many characters a code has at most. With more, the address that brings it to
// the client would be too long for some servers.
const maxCode = 2000

// newCode returns a code of g, and whether it carries the grant. One that would be too long,
// because of claims that were asked for one by one or a long nonce, does not, and that of a
// grant of which tokens are given right away (Hybrid Flow) need not: those are stored.
func (p *Provider) newCode(ctx context.Context, g *grant, carry bool) (text string, carried bool, err error) {
	if carry {
		if g.Code.Withdrawals, err = p.withdrawals(ctx, g); err != nil {
			return "", false, err
		}
		sealed := *g
		sealed.Created, sealed.Used, sealed.Expires = time.Time{}, time.Time{}, time.Time{} // Code.Expires tells
		if text, err = p.o.Codes.Seal(sealed); err != nil {
			return "", false, err
		}
		if text = g.ID + "." + text; len(text) <= maxCode {
			return text, true, nil
		}
	}
	text = g.newSecret()
	g.Code.Hash = hashSecret(text)
	return text, false, nil
}

// openCode returns the grant that a code carries; false if it carries none.
func (p *Provider) openCode(text string) (grant, bool) {
	id, sealed, ok := strings.Cut(text, ".")
	if !ok || len(text) > maxCode {
		return grant{}, false
	}
	var g grant
	if err := p.o.Codes.Open(sealed, &g); err != nil || g.ID != id || g.Code == nil {
		return grant{}, false
	}
	g.Expires = g.Code.Expires
	g.Created = g.Expires.Add(-codeLife)
	g.Used = g.Created
	return g, true
}

// redeemCode exchanges a code for tokens (RFC 6749, 4.1.3; RFC 7636, 4.6).
func (p *Provider) redeemCode(ctx context.Context, c *Client, r *http.Request, form url.Values) (*tokenAnswer, error) {
	given := form.Get("code")
	if given == "" {
		return nil, invalidRequest("The code is missing.")
	}
	// The same error for all that could be wrong with a code: a client that does not own it
	// learns nothing.
	unknown := invalidGrant("The code is unknown, has expired, or was used before.")
	carried, isCarried := p.openCode(given)
	id, ok := grantOf(given)
	read := p.grants.Get
	switch {
	case isCarried:
		id = carried.ID
		read = func(context.Context, string) (store.Item[grant], error) {
			return store.Item[grant]{ID: id, Value: carried}, nil
		}
	case !ok:
		return nil, unknown
	}
	thumbprint, proven := "", false
	for missing := error(unknown); ; read = p.grants.Get {
		item, err := read(ctx, id)
		if err != nil {
			return nil, grantError(err, missing)
		}
		g, isStored := item.Value.clone(), item.Version != 0
		switch {
		case g.Code == nil || !isCarried && !sameHash(g.Code.Hash, given) || g.Client != c.ClientID:
			return nil, unknown
		case g.Code.Used:
			// Somebody has it twice (RFC 6749, 10.5): what the first use has given is void. Of two
			// at once one has won, and the other is the second.
			if !g.Revoked {
				if err := p.revoke(ctx, id); err != nil {
					return nil, err
				}
			}
			return nil, unknown
		}
		resources, err := p.checkCode(ctx, g, form, unknown)
		// A proof is good once: whoever comes here again has shown theirs.
		if err == nil && !proven {
			thumbprint, err = p.proofOf(ctx, r, c, g.KeyThumbprint, "")
			proven = err == nil
		}
		if err != nil && !isStored {
			// If it was used before, what is wrong with it now does not matter.
			missing = err
			continue
		}
		if err != nil {
			return nil, err
		}
		g.KeyThumbprint = thumbprint
		g.Code.Used = true
		if c.allows(grantRefresh) {
			g.Refresh = &refresh{Seed: random(), Since: []time.Time{p.o.Clock.Now()}}
		}
		save := p.replacing(ctx, item.Version, &g)
		if !isStored {
			save = func() error { return p.addRedeemed(ctx, g, unknown) }
		}
		answer, err := p.answerTokens(ctx, c, &g, g.Scope, resources, save)
		if !isConflict(err) {
			return answer, err
		}
	}
}

// checkCode tells whether a request may redeem the code of g, and for which resources.
func (p *Provider) checkCode(ctx context.Context, g grant, form url.Values, unknown *Error) (resources []string, err error) {
	if !p.o.Clock.Now().Before(g.Code.Expires) {
		return nil, unknown
	}
	if form.Get("redirect_uri") != g.Code.RedirectURI {
		return nil, invalidGrant("The redirect_uri is not that of the authorization request.")
	}
	if err := checkVerifier(g.Code.Challenge, form.Get("code_verifier")); err != nil {
		return nil, err
	}
	// A code ends with the session, also where what it gives does not.
	g.Offline = false
	if err := p.inForce(ctx, g); err != nil {
		return nil, goneOr(err, unknown)
	}
	return narrowed(g.Resources, form["resource"])
}

// addRedeemed writes the grant that a code has carried, which is then in memory for userinfo:
// store.ErrExists if it was redeemed already. What was taken back before is not given, and
// what is taken back from now on is found.
func (p *Provider) addRedeemed(ctx context.Context, g grant, unknown *Error) error {
	added := false
	_, err := p.cache.Get(ctx, g.ID, func(ctx context.Context, id string) (store.Item[grant], error) {
		added = true
		return p.grants.Insert(ctx, id, g)
	})
	if err != nil {
		return err
	}
	if !added {
		return store.ErrExists
	}
	known, err := p.withdrawals(ctx, &g)
	if err != nil {
		return err
	}
	for i, w := range known {
		if w != "" && w != g.Code.Withdrawals[i] {
			if err := p.revoke(ctx, g.ID); err != nil {
				return err
			}
			return unknown
		}
	}
	return nil
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

// withdrawal says that what a client was allowed has been taken back, by one person or for
// everybody: the codes that it was given before are void, although nothing is stored of them.
type withdrawal struct {
	User string `json:"user,omitempty"` // empty: of everybody
	// Name is another one each time, so that no clocks have to be compared.
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}

func (w withdrawal) index() store.Index {
	i := store.Index{Expires: w.Until}
	if w.User != everybody {
		i.Keys = []string{keyUser(w.User)}
	}
	return i
}

// withdrawalMemory is for how long withdrawals are known: longer than a code lives, and
// clocks of nodes differ.
const withdrawalMemory = 10 * time.Minute

// everybody stands in place of an account's id where what all have allowed is taken back.
const everybody = ""

func withdraw(ctx context.Context, all *store.Collection[withdrawal], user, client string, now time.Time) error {
	_, err := all.Upsert(ctx, consentID(user, client), func(w *withdrawal) error {
		*w = withdrawal{User: user, Name: randomName(8), Until: now.Add(withdrawalMemory)}
		return nil
	})
	return err
}

// withdrawals are the names of the latest ones that concern a grant: of its person, and of
// everybody. They are empty where there were none lately.
func (p *Provider) withdrawals(ctx context.Context, g *grant) (names [2]string, err error) {
	for i, user := range []string{g.User, everybody} {
		names[i], err = p.withdrawnLately.Get(ctx, consentID(user, g.Client), func(ctx context.Context, id string) (string, error) {
			item, err := p.withdrawn.Get(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				return "", nil
			}
			return item.Value.Name, err
		})
		if err != nil {
			return names, err
		}
	}
	return names, nil
}
