package oidc

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// fuzzGrant is a grant of the client app for itself, which needs nobody signed in. With it
// come all kinds of tokens of it.
func fuzzGrant(f *testing.F, p *Provider) (g *grant, jwt, opaque, refreshToken, idToken string) {
	f.Helper()
	c := p.clients.listed["app"]
	g = &grant{ID: p.newGrantID(), Client: "app", Subject: "app", Scope: []string{scopeOpenID}, AuthTime: start, Created: start, Expires: start.Add(time.Hour),
		Refresh: &refresh{Seed: random(), Number: 3, Since: []time.Time{start}, Idle: start.Add(time.Hour)}}
	var err error
	if jwt, err = p.accessToken(c, g, g.Scope, nil)(); err != nil {
		f.Fatal(err)
	}
	handle := *c
	handle.AccessTokenFormat = tokenOpaque
	if opaque, err = p.accessToken(&handle, g, g.Scope, nil)(); err != nil {
		f.Fatal(err)
	}
	if idToken, err = p.idToken(f.Context(), c, g, "nonce", "", "code", ""); err != nil {
		f.Fatal(err)
	}
	if _, err := p.grants.Insert(f.Context(), g.ID, *g); err != nil {
		f.Fatal(err)
	}
	return g, jwt, opaque, p.refreshToken(g, 3), idToken
}

// tampered are tokens made of one: what attackers try first.
func tampered(token string) []string {
	parts := strings.Split(token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	embedded := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"at+jwt","kid":"../../etc/passwd","jwk":{"kty":"oct","k":"AA"}}`))
	middle := parts[min(1, len(parts)-1)]
	return []string{token, token + ".", "." + token, token + "=", token + "\n", strings.ToUpper(token), token[:len(token)-1], strings.ReplaceAll(token, ".", ".."),
		none + "." + middle + ".", embedded + "." + middle + "." + parts[len(parts)-1], parts[0] + "." + parts[len(parts)-1], ".", "..", "ey.", ""}
}

// FuzzInspect: of whatever is shown as an access token only those are in force that were
// given out, letter by letter.
func FuzzInspect(f *testing.F) {
	p := fuzzProvider(f)
	_, jwt, opaque, refreshed, id := fuzzGrant(f, p)
	for _, token := range []string{jwt, opaque, refreshed, id} {
		for _, t := range tampered(token) {
			f.Add(t)
		}
	}
	for _, token := range []string{jwt, opaque} {
		if a, err := p.inspect(f.Context(), token); err != nil || a.Subject != "app" {
			f.Fatalf("%s is %+v, %v", token, a, err)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		switch a, err := p.inspect(t.Context(), token); {
		case err == nil && token != jwt && token != opaque:
			t.Errorf("%q is %+v", token, a)
		case err != nil && !errors.Is(err, errNoToken):
			t.Errorf("%q: %v", token, err)
		}
	})
}

// FuzzRefreshToken: a refresh token is one of those up to the number in force, in one way of
// writing it.
func FuzzRefreshToken(f *testing.F) {
	p := fuzzProvider(f)
	g, _, _, refreshed, _ := fuzzGrant(f, p)
	for _, t := range tampered(refreshed) {
		f.Add(t)
	}
	for _, number := range []string{"+3", "03", "-1", "4", "zzzzzzzzzzzz", "3 "} {
		parts := strings.Split(refreshed, ".")
		f.Add(parts[0] + "." + number + "." + parts[2])
	}
	f.Add(p.refreshToken(g, 0))
	f.Add(p.refreshToken(g, 4))
	good := []string{p.refreshToken(g, 0), p.refreshToken(g, 1), p.refreshToken(g, 2), p.refreshToken(g, 3)}
	f.Fuzz(func(t *testing.T, token string) {
		number, ok := p.refreshNumber(g, token)
		if want := slices.Index(good, token); ok != (want >= 0) || ok && number != want {
			t.Errorf("%q is %d, %v", token, number, ok)
		}
		if id, ok := grantOf(token); ok && (len(id) != grantIDLength || !strings.HasPrefix(token, id+".")) {
			t.Errorf("%q is of %q", token, id)
		}
	})
}

// FuzzClientAuthentication: whatever stands in the header and the body, only who has the
// secret is taken for the client, and by one way alone.
func FuzzClientAuthentication(f *testing.F) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, header := range []string{basic("app:" + secret), basic("app:" + url.QueryEscape(secret)), basic("app:"), basic(":"), basic("app:%zz"), basic("\xff:\x00"),
		"basic " + basic("app:" + secret)[6:], "Basic", "Basic  ", "Basic %%%", "Bearer x", "", basic("app:" + secret + ":" + secret)} {
		f.Add(header, "grant_type=x")
		f.Add(header, "client_id=app&client_secret="+secret)
		f.Add(header, "client_id=app&client_assertion=a.b.c&client_assertion_type="+assertionType)
	}
	f.Add("", "client_assertion_type="+assertionType+"&client_assertion=e30.e30.")
	f.Add("", "client_id=app&client_id=app")
	p := fuzzProvider(f)
	f.Fuzz(func(t *testing.T, header, body string) {
		r := httptest.NewRequest(http.MethodPost, PathToken, strings.NewReader(body))
		r.Header.Set("Content-Type", formType)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		form, err := readForm(r)
		if err != nil {
			return
		}
		c, err := p.authenticate(t.Context(), r, form)
		if err != nil {
			e := asError(err)
			if e.status() >= 500 || e.Description != describe(e.Description) {
				t.Errorf("%q, %q: %v", header, body, err)
			}
			return
		}
		// The client app is registered for Basic.
		_, encoded, _ := strings.Cut(header, " ")
		raw, _ := base64.StdEncoding.DecodeString(encoded)
		id, password, _ := strings.Cut(string(raw), ":")
		id, _ = url.QueryUnescape(id)
		password, _ = url.QueryUnescape(password)
		if c.ClientID != "app" || id != "app" || password != secret || form.Has("client_secret") || form.Has("client_assertion") {
			t.Errorf("%q, %q is taken for %s", header, body, c.ClientID)
		}
	})
}

// FuzzForm: a form that is read has each parameter once, as text, and is the same when it is
// written and read again.
func FuzzForm(f *testing.F) {
	for _, body := range []string{"a=b", "a=b&a=c", "resource=a&resource=b&audience=c&audience=d", "a;b=c", "%zz=1", "a=%ff", "%ff=a", "a=%00", "=", "&&&", "a", strings.Repeat("a=b&", 20_000)} {
		f.Add(formType, body)
	}
	f.Add("application/json", `{"a": "b"}`)
	f.Add(formType+"; charset=utf-8", "a=b")
	f.Add("application/x-www-form-urlencoded;;;", "a=b")
	read := func(kind, body string) (url.Values, error) {
		r := httptest.NewRequest(http.MethodPost, PathToken, strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		return readForm(r)
	}
	f.Fuzz(func(t *testing.T, kind, body string) {
		form, err := read(kind, body)
		if err != nil {
			if e := asError(err); e.Code != "invalid_request" || e.Description != describe(e.Description) {
				t.Errorf("%q, %q: %v", kind, body, err)
			}
			return
		}
		if len(body) > maxForm {
			t.Errorf("%d bytes were read", len(body))
		}
		for name, values := range form {
			if len(values) != 1 && name != "resource" && name != "audience" {
				t.Errorf("%q: %q comes %d times", body, name, len(values))
			}
			for _, value := range values {
				if !utf8.ValidString(name) || !utf8.ValidString(value) {
					t.Errorf("%q: %q is %q", body, name, value)
				}
			}
		}
		if written := form.Encode(); len(written) <= maxForm {
			if again, err := read(formType, written); err != nil || again.Encode() != written {
				t.Errorf("%q became %q, %v", body, written, err)
			}
		}
	})
}

// FuzzEndSession: people are sent on only with an ID Token of ours, to an address that its
// client has registered, with the state added and nothing else.
func FuzzEndSession(f *testing.F) {
	const bye = "https://app.example.org/bye?from=app"
	p := fuzzProvider(f)
	p.clients.listed["app"].PostLogoutRedirectURIs = []string{bye}
	_, jwt, _, _, id := fuzzGrant(f, p)
	for _, hint := range append(tampered(id), jwt) {
		f.Add(form("id_token_hint", hint, "post_logout_redirect_uri", bye, "state", "s").Encode())
	}
	f.Add(form("id_token_hint", id, "post_logout_redirect_uri", bye+"&x=y").Encode())
	f.Add(form("id_token_hint", id, "post_logout_redirect_uri", bye, "state", "&a=b#c\r\n").Encode())
	f.Add(form("id_token_hint", id, "post_logout_redirect_uri", bye, "client_id", "other").Encode())
	f.Add(form("id_token_hint", id, "id_token_hint", id, "post_logout_redirect_uri", bye).Encode())
	if l, err := p.EndSession(f.Context(), form("id_token_hint", id, "post_logout_redirect_uri", bye), nil); err != nil || l.To != bye {
		f.Fatalf("leads to %q, %v", l.To, err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		l, err := p.EndSession(t.Context(), values, nil)
		if err != nil {
			t.Fatalf("%q: %v", query, err)
		}
		if l.To == "" {
			return
		}
		want := bye
		if values.Has("state") {
			want += "&state=" + url.QueryEscape(values.Get("state"))
		}
		if l.To != want || values.Get("id_token_hint") != id || values.Get("post_logout_redirect_uri") != bye {
			t.Errorf("%q leads to %q", query, l.To)
		}
	})
}

// FuzzRemoteKeys: of what a client's jwks_uri gives, what is used are public keys that are
// long enough.
func FuzzRemoteKeys(f *testing.F) {
	rsaJWK := jwkOf(f, rsaKey().Public(), object{"kid": "a"})
	for _, keys := range [][]any{
		{jwkOf(f, ecKeys()[0].Public(), nil)}, {rsaJWK, rsaJWK}, {jwkOf(f, rsaKey(), nil)}, {jwkOf(f, weakKey().Public(), nil)},
		{object{"kty": "oct", "k": "AAAA"}}, {object{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}, {object{"kty": "new"}, rsaJWK}, {},
	} {
		f.Add([]byte(jsonOf(object{"keys": keys})))
	}
	f.Add([]byte(`{"keys": null}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(jsonOf(rsaJWK)))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := readJWKS(body)
		if err != nil {
			return
		}
		for i := range keys.Len() {
			key, _ := keys.Key(i)
			switch k := key.(type) {
			case jwk.RSAPublicKey:
				if len(k.N()) < minRSA/8 {
					t.Errorf("an RSA key of %d bytes in %q", len(k.N()), body)
				}
			case jwk.ECDSAPublicKey, jwk.OKPPublicKey:
			default:
				t.Errorf("%T in %q", key, body)
			}
		}
	})
}
