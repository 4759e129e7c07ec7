package token

import (
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jws"
)

// Algorithms are those that SignJWT can sign with, the one of the settings first.
func (m *Manager) Algorithms() []string { return []string{m.options.Algorithm} }

// SignJWT signs claims, which are JSON, with an algorithm out of Algorithms; empty is the
// one of the settings. typ goes into the header.
func (m *Manager) SignJWT(alg, typ string, claims []byte) (string, error) {
	keys := m.keys.Load()
	header := jws.NewHeaders()
	for name, value := range map[string]string{jws.TypeKey: typ, jws.KeyIDKey: keys.pair.public.KeyID()} {
		if err := header.Set(name, value); err != nil {
			return "", fmt.Errorf("token header: %w", err)
		}
	}
	signed, err := jws.Sign(claims, jws.WithKey(keys.algorithm, keys.pair.signer, jws.WithProtectedHeaders(header)))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return string(signed), nil
}

// VerifyJWT returns the claims of a token that SignJWT has made with that typ. Whether it
// has expired is not looked at. The error is ErrInvalid.
func (m *Manager) VerifyJWT(signed, typ string) ([]byte, error) {
	if strings.Contains(signed, "{") {
		return nil, fmt.Errorf("%w: not in the compact form", ErrInvalid)
	}
	message, err := jws.Parse([]byte(signed))
	if err != nil || len(message.Signatures()) != 1 || message.Signatures()[0].ProtectedHeaders().Type() != typ {
		return nil, fmt.Errorf("%w: not a %s", ErrInvalid, typ)
	}
	payload, err := jws.Verify([]byte(signed), jws.WithKeySet(m.keys.Load().at(m.options.Now()).set, jws.WithRequireKid(true)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return payload, nil
}
