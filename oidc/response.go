package oidc

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
)

var responseModes = []string{"query", "fragment", "form_post", "jwt", "query.jwt", "fragment.jwt", "form_post.jwt"}

// Answer is an authorization response, on its way to the client through the browser.
type Answer struct {
	// URL is where to, with the parameters in it unless Post is set.
	URL string
	// Post: the parameters are posted by the browser (OAuth 2.0 Form Post Response Mode).
	Post bool
	// Parameters of the form, if Post is set.
	Parameters url.Values
}

// answer builds the response to a request: parameters of success, or of an error.
func (p *Provider) answer(r *request, parameters url.Values) (Answer, error) {
	if r.State != "" {
		parameters.Set("state", r.State)
	}
	mode, jarm := strings.CutSuffix(r.ResponseMode, "jwt")
	mode = strings.TrimSuffix(mode, ".")
	if mode == "" {
		mode = "query"
		if r.front() {
			mode = "fragment"
		}
	}
	if jarm {
		signed, err := p.signAnswer(r.client, parameters)
		if err != nil {
			return Answer{}, err
		}
		parameters = url.Values{"response": {signed}}
	} else {
		parameters.Set("iss", p.o.Issuer) // RFC 9207
	}
	switch mode {
	case "form_post":
		return Answer{URL: r.RedirectURI, Post: true, Parameters: parameters}, nil
	case "fragment":
		return Answer{URL: r.RedirectURI + "#" + parameters.Encode()}, nil
	}
	return Answer{URL: withQuery(r.RedirectURI, parameters.Encode())}, nil
}

// withQuery adds parameters to an address that may have some; those stay as they are.
func withQuery(address, parameters string) string {
	switch {
	case !strings.Contains(address, "?"):
		return address + "?" + parameters
	case strings.HasSuffix(address, "?"), strings.HasSuffix(address, "&"):
		return address + parameters
	}
	return address + "&" + parameters
}

// refuse is the response that tells the client of an error.
func (p *Provider) refuse(r *request, e *Error) (Answer, error) {
	parameters := url.Values{"error": {e.Code}}
	if e.Description != "" {
		parameters.Set("error_description", e.Description)
	}
	return p.answer(r, parameters)
}

// jarmLife is how long a signed response is good for (JARM, 2.1).
const jarmLife = 10 * time.Minute

// TokenLife is how long the longest-lived token is good for that the provider signs, if
// access tokens live that long: its key has to be published for as long.
func TokenLife(accessToken time.Duration) time.Duration { return max(accessToken, jarmLife) }

// signAnswer makes the JWT of a response mode that ends in jwt (JARM, 2.1).
func (p *Provider) signAnswer(c *Client, parameters url.Values) (string, error) {
	claims := map[string]any{"iss": p.o.Issuer, "aud": c.ClientID, "exp": p.o.Clock.Now().Add(jarmLife).Unix()}
	for name := range parameters {
		claims[name] = parameters.Get(name)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	alg := c.AuthorizationSignedResponseAlg
	if alg == "" {
		// JARM, 3, has RS256; FAPI 2.0 Message Signing, 5.4, does not allow that.
		alg = "RS256"
		if c.FAPI {
			alg = "PS256"
		}
		if !slices.Contains(p.o.Tokens.Algorithms(), alg) {
			alg = ""
		}
	}
	return p.o.Tokens.SignJWT(alg, "JWT", payload)
}
