package providers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"testing"
)

// TestKeysThatCost: whoever publishes keys decides how long it takes to verify with them.
func TestKeysThatCost(t *testing.T) {
	rsaKey := func(bits uint) json.RawMessage {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		raw, err := json.Marshal(object{"kty": "RSA", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(n.SetBit(n, 0, 1).Bytes())})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for bits, want := range map[uint]int{2047: 0, 2048: 1, 8192: 1, 8193: 0, 1_000_000: 0} {
		if got := len(jwks{Keys: []json.RawMessage{rsaKey(bits)}}.usable()); got != want {
			t.Errorf("%d bits: %d usable keys, want %d", bits, got, want)
		}
	}
	many := make([]json.RawMessage, 2500)
	for i := range many {
		many[i] = rsaKey(2048)
	}
	if got := len(jwks{Keys: many}.usable()); got != maxKeys {
		t.Errorf("%d of %d keys are usable, want %d", got, len(many), maxKeys)
	}
}

// TestKeysOfAnotherLength: one that cannot be used takes nothing from the others.
func TestKeysOfAnotherLength(t *testing.T) {
	for length, want := range map[int]int{0: 0, 31: 0, 32: 1, 33: 0, 1000: 0} {
		x := base64.RawURLEncoding.EncodeToString(make([]byte, length))
		keys := jwks{Keys: []json.RawMessage{json.RawMessage(`{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}`)}}.usable()
		if len(keys) != want {
			t.Errorf("%d bytes: %d usable keys, want %d", length, len(keys), want)
		}
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA"}`))
		signature := base64.RawURLEncoding.EncodeToString(make([]byte, 64))
		if _, err := keys.verify(header + ".e30." + signature); !errors.Is(err, errNoKey) {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}
