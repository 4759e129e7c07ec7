package providers

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"login-server/identity"
)

var adaAtOP = identity.Profile{Provider: "p", ID: "248289761001", URI: "https://example.org/248289761001", Name: "Ada Lovelace", Username: "ada"}

func TestOIDC(t *testing.T) {
	o := newOpenIDProvider(t)
	p := openOIDC(t, "oidc", o, nil)
	if o.count(wellKnown) != 0 {
		t.Error("opening asks the provider")
	}
	if p.Checker != nil || p.FormPost || p.AnswerKey != "state" || p.Callback != "https://login.example.org/login/p/return" {
		t.Errorf("%+v", p)
	}
	if diff := cmp.Diff(adaAtOP, entered(t, p, o)); diff != "" {
		t.Error(diff)
	}
	want := url.Values{
		"response_type": {"code"}, "client_id": {rpID}, "scope": {"openid profile"}, "redirect_uri": {p.Callback},
		"state": o.authURL["state"], "nonce": o.authURL["nonce"], "ui_locales": {"de"},
		"code_challenge": o.authURL["code_challenge"], "code_challenge_method": {"S256"},
	}
	if diff := cmp.Diff(want, o.authURL); diff != "" {
		t.Error(diff)
	}
	entered(t, p, o)
	for path, want := range map[string]int{wellKnown: 1, keysPath: 1, tokenPath: 2, userPath: 0} {
		if got := o.count(path); got != want {
			t.Errorf("%s was asked %d times, want %d", path, got, want)
		}
	}
	if h := p.Health(); !h.Up || !h.Known {
		t.Errorf("health %+v", h)
	}
	if err := p.Prober.Probe(t.Context()); err != nil || o.count(keysPath) != 2 {
		t.Errorf("Probe: %v", err)
	}
}

func TestOIDCOptions(t *testing.T) {
	for _, tc := range []struct {
		name    string
		op      func(*openIDProvider)
		options object
		want    url.Values // in the authorization request
	}{
		{"secret in the body", func(o *openIDProvider) { o.method = clientSecretPost }, nil, nil},
		{"no methods named", func(o *openIDProvider) {
			o.metadata = func(m object) { m["token_endpoint_auth_methods_supported"] = nil }
		}, nil, nil},
		{"method against the metadata", func(o *openIDProvider) {
			o.method = clientSecretPost
			o.metadata = func(m object) { m["token_endpoint_auth_methods_supported"] = nil }
		}, object{"tokenEndpointAuthMethod": clientSecretPost}, nil},
		{"public client", func(o *openIDProvider) { o.method = noSecret }, object{"clientSecret": nil}, nil},
		{"public client, said so", func(o *openIDProvider) { o.method = noSecret }, object{"clientSecret": nil, "tokenEndpointAuthMethod": "none"}, nil},
		{"scopes", nil, object{"scope": "profile email"}, url.Values{"scope": {"openid profile email"}}},
		{"scopes as a list", nil, object{"scope": []string{"email", "openid"}}, url.Values{"scope": {"email openid"}}},
		{"prompt", nil, object{"prompt": "login consent"}, url.Values{"prompt": {"login consent"}}},
		{"form", nil, object{"responseMode": "form_post"}, url.Values{"response_mode": {"form_post"}}},
		{"without PKCE", nil, object{"pkce": false}, url.Values{"code_challenge": nil, "code_challenge_method": nil}},
		{"other endpoints", func(o *openIDProvider) {
			o.metadata = func(m object) { m["token_endpoint"], m["authorization_endpoint"] = nil, "https://elsewhere.example/" }
		}, object{"tokenURL": "ISSUER/token", "authorizationURL": "ISSUER/authorize?a=b"}, url.Values{"a": {"b"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOpenIDProvider(t)
			if tc.op != nil {
				tc.op(o)
			}
			for name, value := range tc.options {
				if s, ok := value.(string); ok {
					tc.options[name] = strings.ReplaceAll(s, "ISSUER", o.issuer)
				}
			}
			p := openOIDC(t, "oidc", o, tc.options)
			if got := entered(t, p, o); got != adaAtOP {
				t.Errorf("%+v", got)
			}
			for name, want := range tc.want {
				if diff := cmp.Diff(want, o.authURL[name]); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
			if p.FormPost != (tc.options["responseMode"] == "form_post") {
				t.Error("FormPost")
			}
		})
	}
}

func TestOIDCAlgorithms(t *testing.T) {
	for algorithm := range keyTypes {
		t.Run(algorithm, func(t *testing.T) {
			o := newOpenIDProvider(t)
			o.algorithm = algorithm
			o.keys = []object{
				{"kty": "unknown", "kid": "a"}, {"kty": "oct", "kid": "a", "k": "c2VjcmV0"}, {"kty": "RSA", "kid": "a", "n": 5},
				published(testKeys()["other"], object{"kid": "a", "use": "enc"}),
				published(testKeys()["other"], object{"kid": "a", "key_ops": []string{"encrypt"}}),
				published(testKeys()[algorithm], object{"kid": "a"}),
			}
			p := openOIDC(t, "oidc", o, nil)
			entered(t, p, o)
			o.claims = func(c object) { c["at_hash"] = atHash(algorithm, "another access token") }
			keptOut(t, p, o, "at_hash")
			o.claims = func(c object) { c["at_hash"] = nil }
			entered(t, p, o)
		})
	}
}

// TestFits: a key that does not say what it is for serves only its own kind.
func TestFits(t *testing.T) {
	for _, kind := range []string{"RS256", "ES256", "ES384", "ES512", "EdDSA"} {
		key, err := jwk.FromRaw(testKeys()[kind].Public())
		if err != nil {
			t.Fatal(err)
		}
		for algorithm := range keyTypes {
			want := algorithm == kind || kind == "RS256" && strings.Contains("RS PS", algorithm[:2])
			if got := fits(key, algorithm); got != want {
				t.Errorf("a key for %s fits %s: %v", kind, algorithm, got)
			}
		}
		for _, algorithm := range []string{"none", "HS256", "", "RSA1_5"} {
			if fits(key, algorithm) {
				t.Errorf("a key for %s fits %q", kind, algorithm)
			}
		}
	}
}

// TestIDTokens: what is wrong with an ID Token keeps people out.
func TestIDTokens(t *testing.T) {
	claim := func(name string, value any) func(*openIDProvider) {
		return func(o *openIDProvider) { o.claims = func(c object) { c[name] = value } }
	}
	token := func(f func(claims object) string) func(*openIDProvider) {
		return func(o *openIDProvider) { o.idToken = f }
	}
	unsigned := func(header, c object) string {
		h, _ := json.Marshal(header)
		p, _ := json.Marshal(c)
		return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(p) + "."
	}
	publicPEM := func() []byte {
		der, _ := x509.MarshalPKIXPublicKey(testKeys()["RS256"].Public())
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	at := func(d time.Duration) int64 { return testTime.Add(d).Unix() }
	for _, tc := range []struct {
		name string
		op   func(*openIDProvider)
		want string // empty: signs in
	}{
		{"none missing", token(func(object) string { return "" }), "no ID Token"},
		{"a number", func(o *openIDProvider) { o.tokenAnswer = func(a object) { a["id_token"] = 5 } }, "no ID Token"},
		{"garbage", token(func(object) string { return "garbage" }), "malformed"},
		{"alg none", token(func(c object) string { return unsigned(object{"alg": "none"}, c) }), "unexpected signature algorithm"},
		{"alg None", token(func(c object) string { return unsigned(object{"alg": "None", "kid": "a"}, c) }), "unexpected signature algorithm"},
		{"no alg", token(func(c object) string { return unsigned(object{"kid": "a"}, c) }), "ID Token"},
		{"no signature", token(func(c object) string { return unsigned(object{"alg": "RS256", "kid": "a"}, c) }), "none of the issuer's keys"},
		{"HS256 with the public key", token(func(c object) string { return signedJWT(c, "HS256", publicPEM(), object{"kid": "a"}) }), "unexpected signature algorithm"},
		{"HS256 with the client secret", token(func(c object) string { return signedJWT(c, "HS256", []byte(rpSecret), object{"kid": "a"}) }), "unexpected signature algorithm"},
		{"RS512 where RS256 was named", token(func(c object) string { return signedJWT(c, "RS512", testKeys()["RS256"], object{"kid": "a"}) }), "unexpected signature algorithm"},
		{"PS256 named, key for RS256", func(o *openIDProvider) {
			o.metadata = func(m object) { m["id_token_signing_alg_values_supported"] = []string{"RS256", "PS256"} }
			o.idToken = func(c object) string { return signedJWT(c, "PS256", testKeys()["RS256"], object{"kid": "a"}) }
		}, "none of the issuer's keys"},
		{"key of another type", func(o *openIDProvider) {
			o.metadata = func(m object) { m["id_token_signing_alg_values_supported"] = []string{"RS256", "ES256"} }
			o.idToken = func(c object) string { return signedJWT(c, "ES256", testKeys()["ES256"], object{"kid": "a"}) }
		}, "none of the issuer's keys"},
		{"foreign key", token(func(c object) string { return signedJWT(c, "RS256", testKeys()["other"], object{"kid": "a"}) }), "none of the issuer's keys"},
		{"foreign key without kid", token(func(c object) string { return signedJWT(c, "RS256", testKeys()["other"], nil) }), "none of the issuer's keys"},
		{"foreign key in the header", token(func(c object) string {
			key, _ := jwk.FromRaw(testKeys()["other"].Public())
			return signedJWT(c, "RS256", testKeys()["other"], object{"kid": "a", "jwk": key})
		}), "none of the issuer's keys"},
		{"unknown kid", token(func(c object) string { return signedJWT(c, "RS256", testKeys()["RS256"], object{"kid": "b"}) }), "none of the issuer's keys"},
		{"unknown and critical", token(func(c object) string {
			return signedJWT(c, "RS256", testKeys()["RS256"], object{"kid": "a", "crit": []string{"exp"}, "exp": 1})
		}), "critical"},
		{"key for encryption", func(o *openIDProvider) {
			o.keys = append(o.keys, published(testKeys()["other"], object{"kid": "b", "use": "enc"}))
			o.idToken = func(c object) string { return signedJWT(c, "RS256", testKeys()["other"], object{"kid": "b"}) }
		}, "none of the issuer's keys"},
		{"key for other operations", func(o *openIDProvider) {
			o.keys = append(o.keys, published(testKeys()["other"], object{"kid": "b", "key_ops": []string{"wrapKey"}}))
			o.idToken = func(c object) string { return signedJWT(c, "RS256", testKeys()["other"], object{"kid": "b"}) }
		}, "none of the issuer's keys"},
		{"weak key", func(o *openIDProvider) {
			o.keys = append(o.keys, published(testKeys()["small"], object{"kid": "small"}))
			o.idToken = func(c object) string { return signedJWT(c, "RS256", testKeys()["small"], object{"kid": "small"}) }
		}, "none of the issuer's keys"},
		{"as JSON", token(func(c object) string {
			parts := strings.Split(signedJWT(c, "RS256", testKeys()["RS256"], object{"kid": "a"}), ".")
			data, _ := json.Marshal(object{"payload": parts[1], "protected": parts[0], "signature": parts[2]})
			return string(data)
		}), "not a compact JWS"},
		{"without kid", token(func(c object) string { return signedJWT(c, "RS256", testKeys()["RS256"], nil) }), ""},

		{"wrong iss", claim("iss", "https://evil.example"), "issued by a different provider"},
		{"no iss", claim("iss", nil), "issued by a different provider"},
		{"iss of Google without a scheme", claim("iss", "accounts.google.com"), "issued by a different provider"},
		{"iss with a slash", func(o *openIDProvider) { o.claims = func(c object) { c["iss"] = o.issuer + "/" } }, "issued by a different provider"},
		{"wrong aud", claim("aud", "somebody-else"), "expected audience"},
		{"no aud", claim("aud", nil), "expected audience"},
		{"a list with us", claim("aud", []string{rpID}), ""},
		{"several aud without azp", claim("aud", []string{"somebody-else", rpID}), "several audiences"},
		{"several aud, azp of another", func(o *openIDProvider) {
			o.claims = func(c object) { c["aud"], c["azp"] = []string{"somebody-else", rpID}, "somebody-else" }
		}, "azp"},
		{"several aud, azp of ours", func(o *openIDProvider) {
			o.claims = func(c object) { c["aud"], c["azp"] = []string{"somebody-else", rpID}, rpID }
		}, ""},
		{"azp of another", claim("azp", "somebody-else"), "azp"},
		{"azp no text", claim("azp", []string{rpID}), "azp"},
		{"expired", claim("exp", at(-61*time.Second)), "expired"},
		{"expired by no more than clocks differ", claim("exp", at(-59*time.Second)), ""},
		{"no exp", claim("exp", nil), "expired"},
		{"exp no number", claim("exp", "never"), "claims"},
		{"no iat", claim("iat", nil), "iat is missing"},
		{"iat in the future", claim("iat", at(61*time.Second)), "in the future"},
		{"iat in the future by no more than clocks differ", claim("iat", at(59*time.Second)), ""},
		{"iat long ago", claim("iat", at(-25*time.Hour)), "long ago"},
		{"nbf in the future", claim("nbf", at(time.Hour)), "not before"},
		{"no nonce", claim("nonce", nil), "another login"},
		{"wrong nonce", claim("nonce", "of another login"), "another login"},
		{"nonce no text", claim("nonce", []string{"a"}), "claims"},
		{"no sub", claim("sub", nil), "sub is missing"},
		{"empty sub", claim("sub", ""), "sub is missing"},
		{"sub no text", claim("sub", 248289761001), "claims"},
		{"long sub", claim("sub", strings.Repeat("a", 256)), "sub is missing"},
		{"second sub", claim("Sub", "1"), "can be taken for"},
		{"second sub, with a long s", claim("ſub", "1"), "can be taken for"},
		{"second iss", claim("ISS", "https://evil.example"), ""}, // either reason will do; see below
		{"wrong at_hash", claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), "at_hash"},
		{"at_hash no text", claim("at_hash", 5), "claims"},
		{"unknown claims", claim("groups", object{"a": []int{1}}), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOpenIDProvider(t)
			tc.op(o)
			p := openOIDC(t, "oidc", o, nil)
			switch profile, err := goThrough(t, p, o); {
			case tc.name == "second iss":
				if err == nil {
					t.Error("signed in")
				}
			case tc.want == "":
				if err != nil || profile != adaAtOP {
					t.Errorf("%+v, %v", profile, err)
				}
			case err == nil || !strings.Contains(err.Error(), tc.want):
				t.Errorf("%+v, got error %v, want %q in it", profile, err, tc.want)
			case errors.As(err, new(*UnavailableError)), errors.Is(err, ErrCancelled), errors.Is(err, ErrRefused):
				t.Errorf("a bad answer is taken for something else: %v", err)
			}
		})
	}
	t.Run("algorithms", func(t *testing.T) {
		for _, tc := range []struct {
			named   any
			options object
			want    string
		}{
			{nil, nil, ""}, // RS256
			{[]string{"ES256"}, nil, "unexpected signature algorithm"},
			{[]string{"none", "HS256"}, nil, "signs with nothing that is accepted"},
			{[]string{"RS256"}, object{"idTokenSignedResponseAlg": "ES256"}, "unexpected signature algorithm"},
			{[]string{"ES256"}, object{"idTokenSignedResponseAlg": []string{"PS256", "RS256"}}, ""},
		} {
			o := newOpenIDProvider(t)
			o.metadata = func(m object) { m["id_token_signing_alg_values_supported"] = tc.named }
			p := openOIDC(t, "oidc", o, tc.options)
			if tc.want == "" {
				entered(t, p, o)
			} else {
				keptOut(t, p, o, tc.want)
			}
		}
	})
	t.Run("a login without a nonce", func(t *testing.T) {
		o := newOpenIDProvider(t)
		o.claims = func(c object) { c["nonce"] = nil }
		p := openOIDC(t, "oidc", o, nil)
		l := newLogin(p)
		l.Nonce = ""
		answer, err := depart(t, p, o, l)
		if err != nil {
			t.Fatal(err)
		}
		if profile, err := p.Website.Finish(t.Context(), l, answer); err == nil {
			t.Errorf("signed in: %+v", profile)
		}
	})
}

// TestOIDCAnswers: what the browser brings.
func TestOIDCAnswers(t *testing.T) {
	required := func(m object) { m["authorization_response_iss_parameter_supported"] = true }
	for _, tc := range []struct {
		name     string
		metadata func(object)
		change   func(url.Values)
		want     string
		exchange bool // the code may get to the token endpoint
	}{
		{"fine", nil, func(url.Values) {}, "", true},
		{"iss missing", nil, func(v url.Values) { v.Del("iss") }, "", true},
		{"iss missing where it is always there", required, func(v url.Values) { v.Del("iss") }, "does not name the issuer", false},
		{"iss empty where it is always there", required, func(v url.Values) { v.Set("iss", "") }, "does not name the issuer", false},
		{"iss there where it is always there", required, func(url.Values) {}, "", true},
		{"iss of another", nil, func(v url.Values) { v.Set("iss", "https://evil.example") }, "not from", false},
		{"iss twice", nil, func(v url.Values) { v.Add("iss", v.Get("iss")) }, `"iss" 2 times`, false},
		{"no code", nil, func(v url.Values) { v.Del("code") }, "no code", false},
		{"two codes", nil, func(v url.Values) { v.Add("code", "another") }, `"code" 2 times`, false},
		{"another code", nil, func(v url.Values) { v.Set("code", "made-up") }, "invalid_grant", true},
		{"no", nil, func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, "cancelled", false},
		{"no, from another issuer", nil, func(v url.Values) { v.Set("error", "access_denied"); v.Set("iss", "https://evil.example") }, "not from", false},
		{"broken", nil, func(v url.Values) { v.Set("error", "server_error"); v.Set("error_description", "out of order") }, "out of order", false},
		{"wrong", nil, func(v url.Values) { v.Set("error", "invalid_scope") }, "invalid_scope", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOpenIDProvider(t)
			o.metadata = tc.metadata
			p := openOIDC(t, "oidc", o, nil)
			l := newLogin(p)
			answer, err := depart(t, p, o, l)
			if err != nil {
				t.Fatal(err)
			}
			tc.change(answer)
			profile, err := p.Website.Finish(t.Context(), l, answer)
			holdsNoSecret(t, o, err)
			if tc.want == "" && (err != nil || profile != adaAtOP) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%+v, %v, want %q", profile, err, tc.want)
			}
			if errors.Is(err, ErrCancelled) != (tc.name == "no") || errors.As(err, new(*UnavailableError)) != (tc.name == "broken") {
				t.Errorf("%T %v", err, err)
			}
			if got := o.count(tokenPath) > 0; got != tc.exchange {
				t.Errorf("the token endpoint was asked: %v", got)
			}
		})
	}
	t.Run("replayed", func(t *testing.T) {
		o := newOpenIDProvider(t)
		p := openOIDC(t, "oidc", o, nil)
		l := newLogin(p)
		answer, err := depart(t, p, o, l)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Website.Finish(t.Context(), l, answer); err != nil {
			t.Fatal(err)
		}
		_, err = p.Website.Finish(t.Context(), l, answer)
		holdsNoSecret(t, o, err)
		if err == nil || !strings.Contains(err.Error(), "invalid_grant") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("code of another login", func(t *testing.T) {
		// Somebody injects a code that was made for them: PKCE and the nonce are against it.
		for _, pkce := range []bool{true, false} {
			o := newOpenIDProvider(t)
			p := openOIDC(t, "oidc", o, object{"pkce": pkce})
			theirs, err := depart(t, p, o, newLogin(p))
			if err != nil {
				t.Fatal(err)
			}
			profile, err := p.Website.Finish(t.Context(), newLogin(p), theirs)
			holdsNoSecret(t, o, err)
			if want := map[bool]string{true: "invalid_grant", false: "another login"}[pkce]; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v, %v, want %q", profile, err, want)
			}
		}
	})
}

func TestUserInfo(t *testing.T) {
	nameless := func(c object) { c["name"], c["preferred_username"] = nil, nil }
	for _, tc := range []struct {
		name    string
		op      func(*openIDProvider)
		options object
		want    identity.Profile
		err     string
		asked   bool
	}{
		{"has it all", func(o *openIDProvider) { o.claims = nameless }, nil, identity.Profile{Name: "From UserInfo", Username: "userinfo"}, "", true},
		{"has what is missing", func(o *openIDProvider) { o.claims = func(c object) { c["name"] = nil } }, nil, identity.Profile{Name: "From UserInfo", Username: "ada"}, "", true},
		{"has nothing", func(o *openIDProvider) { o.claims = nameless; o.userInfo = object{"sub": "248289761001"} }, nil, identity.Profile{}, "", true},
		{"is not there", func(o *openIDProvider) {
			o.claims = nameless
			o.metadata = func(m object) { m["userinfo_endpoint"] = nil }
		}, nil, identity.Profile{}, "", false},
		{"parts of a name", func(o *openIDProvider) {
			o.claims = func(c object) { c["name"], c["given_name"], c["family_name"] = nil, "Augusta Ada", "King" }
		}, nil, identity.Profile{Name: "Augusta Ada King", Username: "ada", Claims: `{"family_name":"King","given_name":"Augusta Ada"}`}, "", false},
		{"another claim", func(o *openIDProvider) { o.claims = func(c object) { c["nickname"] = "countess" } }, object{"usernameClaim": "nickname"},
			identity.Profile{Name: "Ada Lovelace", Username: "countess", Claims: `{"nickname":"countess"}`}, "", false},
		{"standard claims", func(o *openIDProvider) {
			o.claims = func(c object) {
				c["picture"], c["email"], c["email_verified"], c["locale"] = "https://op.example/a.png", "ada@op.example", true, nil
			}
			o.userInfo["email"] = "other@op.example"
		}, nil, identity.Profile{Name: "Ada Lovelace", Username: "ada", Claims: `{"email":"ada@op.example","email_verified":true,"picture":"https://op.example/a.png"}`}, "", false},
		{"an address of UserInfo", func(o *openIDProvider) {
			// The ID Token's verdict is not about it.
			o.claims = func(c object) { c["email_verified"] = true }
			o.userInfo["email"] = "ada@op.example"
		}, object{"scope": "openid profile email"}, identity.Profile{Name: "Ada Lovelace", Username: "ada", Claims: `{"email":"ada@op.example"}`}, "", true},
		{"claims of odd types", func(o *openIDProvider) {
			o.claims = func(c object) { c["name"] = 5 }
			o.userInfo = object{"sub": "248289761001", "name": []string{"a"}}
		}, nil, identity.Profile{Username: "ada"}, "", true},
		{"of somebody else", func(o *openIDProvider) { o.claims = nameless; o.userInfo["sub"] = "1" }, nil, identity.Profile{}, "about somebody else", true},
		{"without sub", func(o *openIDProvider) { o.claims = nameless; delete(o.userInfo, "sub") }, nil, identity.Profile{}, "about somebody else", true},
		{"sub in other letters", func(o *openIDProvider) { o.claims = nameless; o.userInfo = object{"SUB": "248289761001"} }, nil, identity.Profile{}, "about somebody else", true},
		{"signed", func(o *openIDProvider) {
			o.claims = nameless
			o.instead[userPath] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/jwt")
				_, _ = io.WriteString(w, signedJWT(object{"sub": "248289761001"}, "RS256", testKeys()["RS256"], nil))
			}
		}, nil, identity.Profile{}, "userinfo_signed_response_alg", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOpenIDProvider(t)
			tc.op(o)
			p := openOIDC(t, "oidc", o, tc.options)
			if tc.err != "" {
				keptOut(t, p, o, tc.err)
			} else {
				tc.want.Provider, tc.want.ID, tc.want.URI = adaAtOP.Provider, adaAtOP.ID, adaAtOP.URI
				if diff := cmp.Diff(tc.want, entered(t, p, o)); diff != "" {
					t.Error(diff)
				}
			}
			if got := o.count(userPath) > 0; got != tc.asked {
				t.Errorf("asked: %v", got)
			}
		})
	}
}

// TestOIDCBadServers: each endpoint fails in every way, and none of it takes long, is
// followed somewhere, or shows a secret.
func TestOIDCBadServers(t *testing.T) {
	for _, bad := range badServers {
		for _, path := range []string{wellKnown, keysPath, tokenPath, userPath} {
			t.Run(bad.name+" at "+path, func(t *testing.T) {
				t.Parallel()
				o := newOpenIDProvider(t)
				o.claims = func(c object) { c["name"] = nil }
				ctx, handle := t.Context(), bad.handle
				if bad.want == "deadline exceeded" {
					ctx, handle = runsOut(t, handle)
				}
				p := openOIDC(t, "oidc", o, nil)
				l := newLogin(p)
				var answer url.Values
				if path == tokenPath || path == userPath {
					var err error
					if answer, err = depart(t, p, o, l); err != nil {
						t.Fatal(err)
					}
				}
				o.set(func() {
					o.instead[path] = func(w http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						handle(w, r)
					}
				})
				var err error
				if answer == nil {
					_, err = p.Website.Begin(ctx, l)
				} else {
					_, err = p.Website.Finish(ctx, l, answer)
				}
				if err == nil {
					t.Fatal("no error")
				}
				holdsNoSecret(t, o, err)
				switch bad.name {
				case "500", "503 with HTML", "hangs up", "never answers", "never ends its answer":
					if !errors.As(err, new(*UnavailableError)) {
						t.Errorf("not taken for a failure that may pass: %v", err)
					}
				default:
					if errors.As(err, new(*UnavailableError)) || errors.Is(err, ErrRefused) || errors.Is(err, ErrCancelled) {
						t.Errorf("%T %v", err, err)
					}
				}
			})
		}
	}
}

// TestLongAnswers: no more is read than anybody has to say, whatever is announced.
func TestLongAnswers(t *testing.T) {
	const gigabyte = 1 << 30
	for _, path := range []string{wellKnown, keysPath, tokenPath, userPath} {
		t.Run(path, func(t *testing.T) {
			o := newOpenIDProvider(t)
			o.claims = func(c object) { c["name"] = nil }
			sent := make(chan int, 1)
			o.instead[path] = func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Length", fmt.Sprint(gigabyte))
				chunk, total := []byte(strings.Repeat(" ", 64<<10)), 0
				for total < gigabyte {
					n, err := w.Write(chunk)
					if total += n; err != nil {
						break
					}
				}
				sent <- total
			}
			p := openOIDC(t, "oidc", o, nil)
			keptOut(t, p, o, "longer than 1048576 bytes")
			if n := <-sent; n > gigabyte/4 {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

func TestRedirectAtTokenEndpoint(t *testing.T) {
	reached := false
	inside := serve(t, func(http.ResponseWriter, *http.Request) { reached = true })
	for _, status := range []int{301, 302, 303, 307, 308} {
		o := newOpenIDProvider(t)
		o.instead[tokenPath] = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL, status) }
		keptOut(t, openOIDC(t, "oidc", o, nil), o, "redirect")
	}
	if reached {
		t.Error("the redirect was followed")
	}
}
