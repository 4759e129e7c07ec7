package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"net/url"
	"slices"
	"strings"
	"time"

	"login-server/session"
)

// accessClaims are those of a JWT access token (RFC 9068, 2.2).
type accessClaims struct {
	Issuer    string        `json:"iss"`
	Subject   string        `json:"sub"`
	Audience  audience      `json:"aud"`
	Client    string        `json:"client_id"`
	IssuedAt  int64         `json:"iat"`
	NotBefore int64         `json:"nbf,omitempty"`
	Expires   int64         `json:"exp"`
	ID        string        `json:"jti"`
	Scope     string        `json:"scope,omitempty"`
	AuthTime  int64         `json:"auth_time,omitempty"`
	ACR       string        `json:"acr,omitempty"`
	AMR       []string      `json:"amr,omitempty"`
	SessionID string        `json:"sid,omitempty"`
	Confirm   *confirmation `json:"cnf,omitempty"`
	Actor     *actor        `json:"act,omitempty"`
}

type confirmation struct {
	Thumbprint string `json:"jkt,omitempty"`
}

// actor is the client that acts for the subject (RFC 8693, 4.1).
type actor struct {
	Subject string `json:"sub"`
	// Actor is who has acted for the subject before.
	Actor *actor `json:"act,omitempty"`
}

// audience is written as a string when it is one (RFC 7519, 4.1.3).
type audience []string

func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// accessToken makes an access token of a grant: what it is goes into g, which the caller
// writes, and then has it signed.
func (p *Provider) accessToken(c *Client, g *grant, scope, resources []string) (sign func() (string, error)) {
	now := p.o.Clock.Now()
	expires := now.Add(p.o.AccessTokenLife)
	if g.Expires.Before(expires) {
		g.Expires = expires
	}
	if c.AccessTokenFormat == tokenOpaque {
		token := g.newSecret()
		g.Access = append(g.Access, opaque{Hash: hashSecret(token), Scope: scope, Resources: resources, KeyThumbprint: g.KeyThumbprint, Issued: now, Expires: expires})
		return func() (string, error) { return token, nil }
	}
	claims := accessClaims{
		Issuer: p.o.Issuer, Subject: g.Subject, Audience: p.audienceOf(scope, resources), Client: c.ClientID,
		IssuedAt: now.Unix(), Expires: expires.Unix(), ID: g.newSecret(), Scope: strings.Join(scope, " "),
		AuthTime: unix(g.AuthTime), ACR: g.ACR, AMR: g.AMR, SessionID: g.Session,
	}
	if g.KeyThumbprint != "" {
		claims.Confirm = &confirmation{Thumbprint: g.KeyThumbprint}
	}
	return func() (string, error) { return p.signAccess(c, claims) }
}

func (p *Provider) signAccess(c *Client, claims accessClaims) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	alg := ""
	if c.FAPI {
		alg = c.IDTokenSignedResponseAlg // no RS256: FAPI 2.0 Security Profile, 5.4.1
	}
	return p.o.Tokens.SignJWT(alg, "at+jwt", payload)
}

// tokenType is how an access token is to be shown: "DPoP" if it is bound to a key.
func tokenType(thumbprint string) string {
	if thumbprint != "" {
		return "DPoP"
	}
	return "Bearer"
}

// audienceOf is who an access token is for: the resources that were asked for, and this
// server if its scopes are for userinfo or events, or if nothing was asked for. Without
// those scopes a resource that is shown the token can do nothing with it here.
func (p *Provider) audienceOf(scope, resources []string) audience {
	a := audience(slices.Clone(resources))
	if len(a) == 0 || slices.Contains(scope, scopeOpenID) || slices.Contains(scope, scopeSessionEvents) {
		a = append(a, p.o.Issuer)
	}
	return a
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// idToken makes an ID Token (OpenID Connect Core, 2). accessToken, code and state are
// those that it comes with; empty if it does not.
func (p *Provider) idToken(ctx context.Context, c *Client, g *grant, nonce, accessToken, code, state string) (string, error) {
	now := p.o.Clock.Now()
	claims := map[string]any{
		"iss": p.o.Issuer, "sub": g.Subject, "aud": c.ClientID, "iat": now.Unix(), "exp": now.Add(p.o.AccessTokenLife).Unix(),
		"auth_time": g.AuthTime.Unix(),
	}
	set := func(name, value string) {
		if value != "" {
			claims[name] = value
		}
	}
	set("nonce", nonce)
	set("sid", g.Session)
	set("acr", g.ACR)
	if len(g.AMR) > 0 {
		claims["amr"] = g.AMR
	}
	alg := c.IDTokenSignedResponseAlg
	if alg == "" {
		alg = p.o.Tokens.Algorithms()[0]
	}
	set("at_hash", halfHash(alg, accessToken))
	set("c_hash", halfHash(alg, code))
	set("s_hash", halfHash(alg, state))
	if err := p.addIDTokenClaims(ctx, g, accessToken == "" && code == "", claims); err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return p.o.Tokens.SignJWT(c.IDTokenSignedResponseAlg, "JWT", payload)
}

// halfHash is the left half of the hash that belongs to an algorithm, base64url (OpenID
// Connect Core, 3.1.3.6); for EdDSA with Ed25519 that is SHA-512.
func halfHash(alg, value string) string {
	if value == "" {
		return ""
	}
	var h hash.Hash
	switch {
	case strings.HasSuffix(alg, "384"):
		h = sha512.New384()
	case strings.HasSuffix(alg, "512"), alg == "EdDSA":
		h = sha512.New()
	default:
		h = sha256.New()
	}
	h.Write([]byte(value))
	sum := h.Sum(nil)
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// issueFront adds tokens to the response of the authorization endpoint (OpenID Connect
// Core, 3.2 and 3.3).
func (p *Provider) issueFront(r *request, g *grant, parameters url.Values) error {
	token := ""
	if r.hasType("token") {
		var err error
		if token, err = p.accessToken(r.client, g, g.Scope, g.Resources)(); err != nil {
			return err
		}
		parameters.Set("access_token", token)
		parameters.Set("token_type", tokenType(g.KeyThumbprint))
		parameters.Set("expires_in", seconds(p.o.AccessTokenLife))
		parameters.Set("scope", strings.Join(g.Scope, " "))
	}
	if r.hasType("id_token") {
		id, err := p.idToken(context.Background(), r.client, g, r.Nonce, token, parameters.Get("code"), r.State)
		if err != nil {
			return err
		}
		parameters.Set("id_token", id)
	}
	return nil
}

// subject is what a client knows somebody by (OpenID Connect Core, 8).
func (p *Provider) subject(c *Client, user string) string {
	if c.SubjectType != subjectPairwise {
		return user
	}
	mac := hmac.New(sha256.New, p.salt)
	mac.Write([]byte(c.sector() + "\x00" + user))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Authentication context classes: one factor, wherever it was checked, or several.
const (
	acrSingle = "1"
	acrMulti  = "2"
)

// acrValues are the authentication context classes that a sign-in can reach.
func (p *Provider) acrValues() []string {
	if p.o.HasFactor == nil {
		return []string{acrSingle}
	}
	return []string{acrSingle, acrMulti}
}

// acrOf is the class of a session. Where only some will do it is one of those, if the
// session reaches it: several factors are one as well.
func acrOf(s session.Session, wanted []string) string {
	if s.MultiFactor() && (wanted == nil || slices.Contains(wanted, acrMulti)) {
		return acrMulti
	}
	return acrSingle
}

func (r *request) acrOf(s session.Session) string { return acrOf(s, r.essentialACR()) }

// prefers tells whether the first of the classes that we know is the one.
func prefers(values []string, class string) bool {
	i := slices.IndexFunc(values, func(v string) bool { return v == acrSingle || v == acrMulti })
	return i >= 0 && values[i] == class
}

// amrOf is how somebody has signed in (RFC 8176).
func amrOf(s session.Session) []string { return s.Methods }
