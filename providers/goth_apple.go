package providers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"
	"golang.org/x/oauth2"

	"login-server/config"
	"login-server/identity"
)

// appleOptions: Sign in with Apple
// (https://developer.apple.com/documentation/signinwithapplerestapi). goth's provider for
// it redeems the code with http.DefaultClient and needs another JOSE library, so that it
// is only a namesake here.
type appleOptions struct {
	ClientID   string    `json:"clientID"`
	TeamID     string    `json:"teamID"`
	KeyID      string    `json:"keyID"`
	PrivateKey string    `json:"privateKey"` // PEM, or the path of a file with it
	Scope      scopeList `json:"scope"`
}

const (
	appleIssuer = "https://appleid.apple.com"
	appleKeys   = appleIssuer + "/auth/keys"
	// appleSecretLife is how long a client secret is good; six months are allowed.
	appleSecretLife = 5 * time.Minute
)

func (o *appleOptions) open(e *entry, p *Provider) {
	const where = "at https://developer.apple.com/account (Identifiers, Keys)"
	e.required("options.clientID", o.ClientID, "register a Services ID "+where+", with the return URL "+e.callback()+", and write its identifier")
	e.required("options.teamID", o.TeamID, "write the Team ID that you see "+where)
	e.required("options.keyID", o.KeyID, "write the Key ID of a key for Sign in with Apple, made "+where)
	e.alone("options.clientID", o.ClientID)
	e.alone("options.teamID", o.TeamID)
	e.alone("options.keyID", o.KeyID)
	a := &apple{
		codeFlow: &codeFlow{client: e.client}, teamID: o.TeamID, keyID: o.KeyID, key: e.applePrivateKey(o.PrivateKey), now: e.deps.Clock.Now,
	}
	if len(o.Scope) == 0 {
		o.Scope = scopeList{"name"}
	}
	a.config = oauth2.Config{
		ClientID: o.ClientID, RedirectURL: e.callback(), Scopes: o.Scope,
		Endpoint: oauth2.Endpoint{AuthURL: appleIssuer + "/auth/authorize", TokenURL: appleIssuer + "/auth/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	e.website(p, a, nil)
	p.FormPost = true
	p.Prober = reachable{appleKeys, e.client}
}

// applePrivateKey reads the key that client secrets are signed with. It is never shown.
func (e *entry) applePrivateKey(value string) *ecdsa.PrivateKey {
	const field, remedy = "options.privateKey", "write the contents of the AuthKey_….p8 that you downloaded, or the path of that file"
	text := value
	switch {
	case value == "":
		e.problem(field, "is missing", remedy)
		return nil
	case !strings.Contains(value, "-----BEGIN"):
		path := value
		if !filepath.IsAbs(path) {
			path = filepath.Join(e.cfg.Dir, path)
		}
		data, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist) || err != nil && len(value) > 200: // a key, but not as PEM
			e.problem(field, "is neither PEM nor a file that exists", remedy)
			return nil
		case err != nil:
			e.problem(field, "cannot be read: "+config.Reason(err), remedy)
			return nil
		}
		text = string(data)
	}
	if block, _ := pem.Decode([]byte(text)); block != nil {
		parsed, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
		if key, ok := parsed.(*ecdsa.PrivateKey); ok && key.Curve == elliptic.P256() {
			return key
		}
	}
	e.problem(field, "is not a private key for ES256 in PEM (PKCS #8)", remedy)
	return nil
}

type apple struct {
	*codeFlow
	teamID, keyID string
	key           *ecdsa.PrivateKey
	now           func() time.Time
}

var _ Website = (*apple)(nil)

// Begin asks for the answer as a form: there is no name otherwise.
func (a *apple) Begin(_ context.Context, l Login) (Departure, error) {
	address := a.authorizationURL(l, oauth2.SetAuthURLParam("nonce", l.Nonce), oauth2.SetAuthURLParam("response_mode", "form_post"))
	base, query, _ := strings.Cut(address, "?")
	// Apple does not read + as a space.
	return Departure{URL: base + "?" + strings.ReplaceAll(query, "+", "%20")}, nil
}

// Finish takes the subject of the ID Token. The name is not in it: Apple posts it through
// the browser, and only at somebody's very first sign-in.
func (a *apple) Finish(ctx context.Context, l Login, answer url.Values) (identity.Profile, error) {
	secret, err := a.clientSecret()
	if err != nil {
		return identity.Profile{}, err
	}
	flow := &codeFlow{client: a.client, config: oauth2.Config{
		ClientID: a.config.ClientID, ClientSecret: secret, RedirectURL: a.config.RedirectURL, Endpoint: a.config.Endpoint,
	}}
	t, err := flow.exchange(ctx, l, answer)
	if err != nil {
		return identity.Profile{}, err
	}
	idToken, _ := t.Extra("id_token").(string)
	if idToken == "" {
		return identity.Profile{}, errors.New("token endpoint: the answer has no id_token")
	}
	keys, err := a.keys(ctx)
	if err != nil {
		return identity.Profile{}, err
	}
	profile := identity.Profile{Name: appleName(answer.Get("user"))}
	profile.ID, err = idTokenSubject(idToken, a.config.ClientID, l.Nonce, a.now, jwt.WithKeySet(keys), jwt.WithIssuer(appleIssuer),
		jwt.WithValidator(jwt.ValidatorFunc(func(_ context.Context, t jwt.Token) jwt.ValidationError {
			nonce, _ := t.Get("nonce")
			if text, _ := nonce.(string); subtle.ConstantTimeCompare([]byte(text), []byte(l.Nonce)) != 1 {
				return jwt.NewValidationError(errors.New("the nonce is that of another login, or missing"))
			}
			return nil
		})))
	if err != nil {
		return identity.Profile{}, err
	}
	return profile, nil
}

// keys are those that Apple signs with now.
func (a *apple) keys(ctx context.Context) (jwk.Set, error) {
	var document json.RawMessage
	if err := fetch(ctx, a.client, appleKeys, "", &document); err != nil {
		return nil, err
	}
	keys, err := jwk.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("%s: the answer is not a set of keys", appleKeys)
	}
	return keys, nil
}

// clientSecret proves with the private key that we are the client.
func (a *apple) clientSecret() (string, error) {
	now := a.now().Truncate(time.Second)
	t, err := jwt.NewBuilder().Issuer(a.teamID).Subject(a.config.ClientID).Audience([]string{appleIssuer}).
		IssuedAt(now).Expiration(now.Add(appleSecretLife)).Build()
	if err != nil {
		return "", fmt.Errorf("make client secret: %w", err)
	}
	t.Options().Enable(jwt.FlattenAudience) // a text, not a list of one
	header := jws.NewHeaders()
	if err := header.Set(jws.KeyIDKey, a.keyID); err != nil {
		return "", fmt.Errorf("make client secret: %w", err)
	}
	signed, err := jwt.Sign(t, jwt.WithKey(jwa.ES256, a.key, jws.WithProtectedHeaders(header)))
	if err != nil {
		return "", fmt.Errorf("make client secret: %w", err)
	}
	return string(signed), nil
}

// appleName is the name in what Apple posts; empty if there is none.
func appleName(posted string) string {
	var user struct {
		Name struct {
			First string `json:"firstName"`
			Last  string `json:"lastName"`
		} `json:"name"`
	}
	if json.Unmarshal([]byte(posted), &user) != nil {
		return ""
	}
	return user.Name.First + " " + user.Name.Last
}
