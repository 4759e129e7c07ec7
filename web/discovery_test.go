package web_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Rule 33: the metadata is below the issuer, and in the form of RFC 8414 with the path of
// the issuer behind, whether or not a proxy takes the path away; always the same, from
// memory.
func TestDiscoveryPaths(t *testing.T) {
	for _, base := range []string{"http://localhost/", "http://localhost/login/", "http://localhost/sso/login/"} {
		s := newServer(t, env("BASE_URL", base), applications(oauthApplications))
		b, path := s.browser(), strings.TrimSuffix(s.cfg.BaseURL.Path, "/")
		var first answer
		for _, address := range []string{
			path + "/.well-known/openid-configuration", path + "/.well-known/oauth-authorization-server",
			"/.well-known/openid-configuration" + path, "/.well-known/oauth-authorization-server" + path,
			"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server",
		} {
			got := b.get(address).want(200)
			var metadata struct{ Issuer string }
			if err := json.Unmarshal([]byte(got.body), &metadata); err != nil || metadata.Issuer != strings.TrimSuffix(s.base, "/") {
				t.Errorf("%s: issuer %q, %v", address, metadata.Issuer, err)
			}
			tag := got.header.Get("ETag")
			if first.body == "" {
				first = got
			}
			if got.body != first.body || tag != first.header.Get("ETag") || tag == "" || got.header.Get("Cache-Control") != "public, max-age=300" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %v", address, got.header)
			}
			again := b.send("GET", address, http.Header{"If-None-Match": {tag}}, "").want(304)
			if again.body != "" || again.header.Get("ETag") != tag {
				t.Errorf("%s: 304 with %q, %v", address, again.body, again.header)
			}
			b.send("GET", address, http.Header{"If-None-Match": {`"another"`}}, "").want(200)
		}
		// The paths of others, and of what is no metadata, lead nowhere.
		for _, address := range []string{"/.well-known/oauth-authorization-server/other", "/.well-known/jwks.json/sso", "/.well-known" + "/x"} {
			b.get(address).want(404)
		}
	}
}

// Rule 33: pages of clients can read it wherever it is.
func TestDiscoveryCORS(t *testing.T) {
	s := newServer(t, env("BASE_URL", "http://localhost/login/"), applications(strings.Replace(oauthApplications, `"client_id": "app",`, `"client_id": "app", "origins": ["https://app.example.org"],`, 1)))
	for _, address := range []string{"/login/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/login"} {
		for origin, want := range map[string]string{"https://app.example.org": "https://app.example.org", "https://evil.example": ""} {
			got := s.browser().send("GET", address, http.Header{"Origin": {origin}}, "").want(200)
			if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != want || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s from %s: %v", address, origin, got.header)
			}
		}
	}
}
