package credential

import (
	"encoding/base64"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Unique keys of credentials.
func keyEmail(address string) string { return "email:" + Fold(address) }
func keyPhone(number string) string  { return "phone:" + number }
func keyPasskey(id []byte) string    { return "passkey:" + base64.RawURLEncoding.EncodeToString(id) }

// Fold is the form in which addresses are compared. Nobody but the server of a domain knows
// what of a local part it ignores (RFC 5321, 2.3.11); in practice none tells letters of
// different case apart, and none gives look-alikes in another normal form to somebody else.
func Fold(address string) string {
	local, domain, ok := cutLast(strings.TrimSpace(address), "@")
	if !ok {
		return cases.Fold().String(norm.NFKC.String(address))
	}
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		domain = ascii
	}
	return cases.Fold().String(norm.NFKC.String(local)) + "@" + strings.ToLower(strings.TrimSuffix(domain, "."))
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
