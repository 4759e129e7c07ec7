package oidc

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"login-server/token"
)

// Demonstrating proof of possession (RFC 9449): each request comes with a JWT, signed
// for that request alone with a key that only the client has. Tokens are bound to the
// thumbprint of the key.

const (
	headerDPoP  = "DPoP"
	headerNonce = "DPoP-Nonce"

	maxProof = 8 << 10 // bytes
	// proofAge is by how much the iat of a proof may differ from our time, either way.
	proofAge = time.Minute
	// proofKept is how long a proof is remembered: as long as one can be good at the most.
	proofKept = 2*proofAge + time.Second
	// noncePeriod is after how long there is another nonce; the one before is good too.
	noncePeriod = 2 * time.Minute
	// maxProofs is how many proofs are remembered in memory in the time of proofKept, before the
	// store is asked to.
	maxProofs = 250_000
)

// proof is a DPoP proof (RFC 9449, 4.2) whose signature is that of the key in it. For
// what request it was made is still to be compared.
type proof struct {
	Algorithm  string `json:"-"`
	Thumbprint string `json:"-"` // RFC 7638, SHA-256

	ID       string   `json:"jti"`
	Method   string   `json:"htm"`
	URL      string   `json:"htu"`
	IssuedAt *float64 `json:"iat"`
	Token    string   `json:"ath"` // hash of the access token
	Nonce    *string  `json:"nonce"`
}

func badProof(text string) *Error { return fail("invalid_dpop_proof", "%s", text) }

// readProof reads a proof and checks all that can be without knowing the request.
func readProof(raw string) (*proof, error) {
	header, payload, err := readJWS(raw, maxProof)
	if err != nil {
		return nil, badProof("The DPoP proof is not a JWT.")
	}
	if !isType(header.Typ, "dpop+jwt") {
		return nil, badProof("The typ of the DPoP proof is not dpop+jwt.")
	}
	if !slices.Contains(signingAlgs, header.Alg) {
		return nil, badProof("The alg of the DPoP proof is not supported.")
	}
	key, err := jwk.ParseKey(header.JWK)
	// A private key in it fits nothing, as one that is symmetric.
	if err != nil || !fits(key, header.Alg) {
		return nil, badProof("The jwk of the DPoP proof is not a public key for its alg.")
	}
	if _, err := jws.Verify([]byte(raw), jws.WithKey(jwa.SignatureAlgorithm(header.Alg), key), jws.WithCompact()); err != nil {
		return nil, badProof("The DPoP proof is not signed with the key in it.")
	}
	p := &proof{Algorithm: header.Alg}
	if json.Unmarshal(payload, p) != nil || p.ID == "" || p.Method == "" || p.URL == "" || p.IssuedAt == nil {
		return nil, badProof("The DPoP proof has not jti, htm, htu and iat.")
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	p.Thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return p, nil
}

// proofAt reads the proof of a request to an endpoint of ours and checks that it was made
// for that, with one of the algorithms, and just now. It is nil if there is none. Whether
// it was used before is not looked at.
func (p *Provider) proofAt(r *http.Request, path string, algs []string) (*proof, error) {
	headers := r.Header.Values(headerDPoP)
	switch len(headers) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, badProof("There is more than one DPoP proof.")
	}
	given, err := readProof(headers[0])
	if err != nil {
		return nil, err
	}
	if !slices.Contains(algs, given.Algorithm) {
		return nil, badProof("The alg of the DPoP proof is not one for this client.")
	}
	// Our own address, not one that the request says to be for.
	want, ok := normalizeURL(p.o.Issuer + path)
	if got, fine := normalizeURL(given.URL); !ok || !fine || got != want {
		return nil, badProof("The htu of the DPoP proof is not the address of this endpoint.")
	}
	if given.Method != r.Method {
		return nil, badProof("The htm of the DPoP proof is not the method of the request.")
	}
	now := p.o.Clock.Now()
	if at, ok := moment(given.IssuedAt); !ok || at.Before(now.Add(-proofAge)) || at.After(now.Add(proofAge)) {
		return nil, badProof("The iat of the DPoP proof is not the present time.")
	}
	if given.Nonce != nil && !p.isNonce(*given.Nonce) {
		return nil, &nonceError{nonce: p.nonce(now), err: fail("use_dpop_nonce", "The nonce of the DPoP proof is unknown or too old.")}
	}
	return given, nil
}

// thumbprintAt is that of the key by whose proof a request to an endpoint of ours comes,
// "" if there is none. The proof is spent.
func (p *Provider) thumbprintAt(r *http.Request, path string) (string, error) {
	return p.proven(r, path, signingAlgs)
}

func (p *Provider) proven(r *http.Request, path string, algs []string) (string, error) {
	given, err := p.proofAt(r, path, algs)
	if given == nil || err != nil {
		return "", err
	}
	first, err := p.remember(r.Context(), "proof", given.Thumbprint, given.ID, p.o.Clock.Now().Add(proofKept))
	switch {
	case err != nil:
		return "", err
	case !first:
		return "", badProof("The DPoP proof was used before.")
	}
	return given.Thumbprint, nil
}

// proofOf returns the thumbprint of the key that tokens of the token endpoint are to be
// bound to, "" for none. bound is the key that it has to be, if any; held is one that was
// used before, and whose place another may take, but not none. It spends the proof, and so
// is called once for a request.
func (p *Provider) proofOf(_ context.Context, r *http.Request, c *Client, bound, held string) (string, error) {
	thumbprint, err := p.proven(r, PathToken, c.proofAlgs())
	switch {
	case err != nil:
		return "", err
	case thumbprint == "" && (bound != "" || held != "" || c.DPoPBoundAccessTokens):
		return "", badProof("The DPoP proof is missing.")
	case bound != "" && thumbprint != bound:
		return "", invalidGrant("The DPoP proof is of another key than this was given to.")
	}
	return thumbprint, nil
}

// proofAlgs are the algorithms of proofs of a client.
func (c *Client) proofAlgs() []string {
	if c.FAPI {
		return fapiAlgs
	}
	return signingAlgs
}

// provesPossession checks that whoever brings an access token has the key that it is
// bound to (RFC 9449, 7). dpop tells whether it came with that scheme.
// lasting tells that what it opens lasts longer than the answer.
func (p *Provider) provesPossession(r *http.Request, a *access, token string, dpop, lasting bool) error {
	if a.Confirm == nil {
		if dpop {
			// Who brings a proof with it thinks it bound, which it is not (7.2).
			return refusedToken("The access token is not bound to a key.")
		}
		return nil
	}
	if !dpop {
		return refusedToken("The access token is bound to a key, and comes without a proof of it.")
	}
	algs := signingAlgs
	if c, err := p.clients.get(r.Context(), a.Client); err == nil {
		algs = c.proofAlgs()
	}
	given, err := p.proofAt(r, r.URL.Path, algs)
	if err != nil {
		return unauthorized(err)
	}
	switch {
	case given == nil:
		return unauthorized(badProof("The DPoP proof is missing."))
	case subtle.ConstantTimeCompare([]byte(given.Token), []byte(hashSecret(token))) != 1:
		return unauthorized(badProof("The ath of the DPoP proof is not the hash of the access token."))
	case given.Thumbprint != a.Confirm.Thumbprint:
		return refusedToken("The access token is bound to another key.")
	}
	// In memory, for a write with each request would be the dearest part of it. Who brings a
	// proof again after a restart, or to another node, needs the token as well, and gets the
	// same answer once more. Where they would get something that lasts the store decides.
	first, spill := p.proofs.first(given.Thumbprint + "\x00" + given.ID)
	if spill || first && lasting {
		if first, err = p.remember(r.Context(), "proof", given.Thumbprint, given.ID, p.o.Clock.Now().Add(proofKept)); err != nil {
			return err
		}
	}
	if !first {
		return unauthorized(badProof("The DPoP proof was used before."))
	}
	return nil
}

func refusedToken(text string) *Error {
	return &Error{Code: "invalid_token", Description: text, Status: http.StatusUnauthorized}
}

// unauthorized makes an error of the token endpoint one of a resource.
func unauthorized(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Status == 0 {
		e.Status = http.StatusUnauthorized
	}
	return err
}

// addChallenges adds what schemes there are to a refusal at a resource, the error with the
// one that the request came with (RFC 6750, 3; RFC 9449, 7.1).
func addChallenges(h http.Header, r *http.Request, err error) {
	e := asError(err)
	told := ""
	if e.Code != "" {
		told = `, error="` + e.Code + `", error_description="` + e.Description + `"`
	}
	bearer, dpop := `Bearer realm="login-server"`, `DPoP realm="login-server"`
	algs := `, algs="` + strings.Join(signingAlgs, " ") + `"`
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, headerDPoP):
		h.Add("WWW-Authenticate", dpop+told+algs)
	case e.status() == http.StatusUnauthorized:
		h.Add("WWW-Authenticate", bearer+told)
		h.Add("WWW-Authenticate", dpop+algs)
	default:
		h.Add("WWW-Authenticate", bearer+told)
	}
}

// nonceError asks for a proof with a nonce of ours (RFC 9449, 8).
type nonceError struct {
	err   *Error
	nonce string
}

func (e *nonceError) Error() string { return e.err.Error() }
func (e *nonceError) Unwrap() error { return e.err }

// announceNonce puts the nonce that an error asks for into the answer.
func announceNonce(h http.Header, err error) {
	if e, ok := errors.AsType[*nonceError](err); ok {
		h.Set(headerNonce, e.nonce)
	}
}

// nonce is that of a time. Nothing is stored: it is computed from the time and a secret
// of the installation.
func (p *Provider) nonce(at time.Time) string {
	derive := hmac.New(sha256.New, p.salt)
	derive.Write([]byte("DPoP nonce"))
	mac := hmac.New(sha256.New, derive.Sum(nil))
	mac.Write([]byte(strconv.FormatInt(at.Unix()/int64(noncePeriod/time.Second), 10)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (p *Provider) isNonce(given string) bool {
	now := p.o.Clock.Now()
	for _, at := range []time.Time{now, now.Add(-noncePeriod), now.Add(token.Leeway)} { // of a node whose clock is ahead
		if hmac.Equal([]byte(given), []byte(p.nonce(at))) {
			return true
		}
	}
	return false
}

// normalizeURL writes an http or https URL in the one way that htu is compared in: without
// query and fragment, scheme and host in lower case, without the port that goes without
// saying, escapes only where they are needed (RFC 9449, 4.3; RFC 3986, 6.2.2 and 6.2.3).
// Dots in the path stay: no endpoint has any.
func normalizeURL(raw string) (string, bool) {
	if len(raw) > 2048 || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return "", false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Contains(u.Host, "%") {
		return "", false
	}
	host := bracket(strings.ToLower(u.Hostname()))
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host += ":" + port
	}
	path := unescapeUnreserved(u.EscapedPath())
	if path == "" {
		path = "/"
	}
	return u.Scheme + "://" + host + path, true
}

// unescapeUnreserved undoes escapes of characters that need none, and writes the others
// in upper case.
func unescapeUnreserved(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		n, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
		c := byte(n)
		switch {
		case err != nil:
			b.WriteByte('%')
			continue
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

// usedProofs remembers what was used lately, each for as long as a proof can be good at
// least, and no more than room in that time.
type usedProofs struct {
	now  func() time.Time
	room int

	mu             sync.Mutex
	began          time.Time // of recent
	recent, before map[[16]byte]struct{}
	spilled        time.Time // when the store was asked last, for want of room
}

// first tells whether a value is new; spill that the store has to be asked, for there is
// no room, or there was none a moment ago.
func (u *usedProofs) first(value string) (first, spill bool) {
	sum := sha256.Sum256([]byte(value))
	key := [16]byte(sum[:16])
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	if u.recent == nil || now.Sub(u.began) >= proofKept {
		u.before, u.recent, u.began = u.recent, map[[16]byte]struct{}{}, now
	}
	if _, ok := u.recent[key]; ok {
		return false, false
	}
	if _, ok := u.before[key]; ok {
		return false, false
	}
	if len(u.recent) >= u.room {
		u.spilled = now
	}
	if !u.spilled.IsZero() && now.Sub(u.spilled) < proofKept {
		return false, true
	}
	u.recent[key] = struct{}{}
	return true, false
}
