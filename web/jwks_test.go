package web_test

import (
	"encoding/json"
	"net/http"
	"testing"
)

// The key set is served from memory and says when it has changed.
func TestJWKSIsCached(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	first := b.get(".well-known/jwks.json").want(200, `"use":"sig"`).wantNot(`"d":`, `"p":`, `"k":`)
	tag := first.header.Get("ETag")
	if tag == "" || first.header.Get("Cache-Control") != "public, max-age=300" || first.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("headers %v", first.header)
	}
	again := b.send("GET", ".well-known/jwks.json", http.Header{"If-None-Match": {tag}}, "").want(304)
	if again.body != "" || again.header.Get("ETag") != tag {
		t.Errorf("304 with %q, ETag %q", again.body, again.header.Get("ETag"))
	}
	b.send("GET", ".well-known/jwks.json", http.Header{"If-None-Match": {`"another"`}}, "").want(200)

	// A key that is made is in it at once, and the tag another.
	if err := s.running.Load().Tokens.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	more := b.send("GET", ".well-known/jwks.json", http.Header{"If-None-Match": {tag}}, "").want(200, `"alg":"RS256"`, `"alg":"PS256"`, `"alg":"ES256"`, `"alg":"EdDSA"`)
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(more.body), &set); err != nil || len(set.Keys) != 4 {
		t.Errorf("%d keys, %v", len(set.Keys), err)
	}
	// What verifiers of GET /token know stays the first.
	if set.Keys[0]["alg"] != "RS256" {
		t.Errorf("the pair of the files is not the first: %v", set.Keys[0])
	}
}
