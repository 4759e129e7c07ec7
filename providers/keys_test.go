package providers

import (
	"encoding/base64"
	"encoding/json"
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
