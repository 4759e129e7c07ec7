package oidc

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"

	"login-server/store"
)

// UserInfo serves the userinfo endpoint (OpenID Connect Core, 5.3), by GET and POST.
func (p *Provider) UserInfo() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := p.bearer(r, false)
		if err != nil {
			p.refuseBearer(w, r, err)
			return
		}
		if a.grant.User == "" || !slices.Contains(a.Scopes, scopeOpenID) {
			p.refuseBearer(w, r, &Error{Code: "insufficient_scope", Description: "The token has not the scope openid.", Status: http.StatusForbidden})
			return
		}
		claims, err := p.userinfo(r.Context(), &a.grant, a.Scopes)
		if errors.Is(err, store.ErrNotFound) {
			err = invalidToken() // the account was deleted a moment ago
		}
		if err != nil {
			p.refuseBearer(w, r, err)
			return
		}
		c, err := p.clients.get(r.Context(), a.Client)
		if errors.Is(err, errUnknownClient) || errors.As(err, new(*Error)) {
			err = invalidToken() // it was removed, or is not valid any more
		}
		if err != nil {
			p.refuseBearer(w, r, err)
			return
		}
		if c.UserinfoSignedResponseAlg == "" {
			writeJSON(w, http.StatusOK, claims)
			return
		}
		claims["iss"], claims["aud"] = p.o.Issuer, c.ClientID
		payload, err := json.Marshal(claims)
		var signed string
		if err == nil {
			signed, err = p.o.Tokens.SignJWT(c.UserinfoSignedResponseAlg, "JWT", payload)
		}
		if err != nil {
			p.refuseBearer(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/jwt")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(signed))
	}
}

func invalidToken() *Error {
	return &Error{Code: "invalid_token", Description: "The access token is unknown, has expired, or was revoked.", Status: http.StatusUnauthorized}
}

// bearer returns the access token of a request to a resource of ours (RFC 6750, 2): in
// the header, or in the body of a form. Tokens in the query are refused.
// lasting is as in provesPossession.
func (p *Provider) bearer(r *http.Request, lasting bool) (*access, error) {
	var token string
	if len(r.Header.Values("Authorization")) > 1 {
		return nil, invalidRequest("There is more than one Authorization header.")
	}
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	bound := strings.EqualFold(scheme, "DPoP")
	if bound || strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(value)
	}
	if r.URL.Query().Has("access_token") {
		return nil, invalidRequest("Access tokens are not accepted in the query.")
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method == http.MethodPost && kind == formType {
		form, err := readForm(r)
		if err != nil {
			return nil, err
		}
		if posted := form.Get("access_token"); posted != "" {
			if token != "" {
				return nil, invalidRequest("The access token is given more than once.")
			}
			token = posted
		}
	}
	if token == "" {
		return nil, &Error{Status: http.StatusUnauthorized} // RFC 6750, 3.1: no code for who brought none
	}
	a, err := p.inspect(r.Context(), token)
	if errors.Is(err, errNoToken) {
		return nil, invalidToken()
	}
	if err != nil {
		return nil, err
	}
	// A token for somebody else is not for us (RFC 9068, 4).
	if !slices.Contains(a.Audience, p.o.Issuer) {
		return nil, invalidToken()
	}
	return a, p.provesPossession(r, a, token, bound, lasting)
}

// refuseBearer answers who comes with no token, or a bad one (RFC 6750, 3; RFC 9449, 7.1).
func (p *Provider) refuseBearer(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	if e.status() >= 500 {
		p.fail(w, r, err)
		return
	}
	p.refused(endpointOf(r), "", e)
	addChallenges(w.Header(), r, err)
	announceNonce(w.Header(), err)
	if e.Code == "" {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(e.status())
		return
	}
	writeJSON(w, e.status(), map[string]string{"error": e.Code, "error_description": e.Description})
}
