package accounts

import (
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"login-server/credential"
)

// ParseAddress returns the address that somebody has typed in the form in which it is kept
// and written to, or an *InvalidError. The domain is in ASCII and lower case, so that no two
// programs can read it as two domains. Quoted local parts, comments, address literals and
// domains without a dot are not taken: hardly anybody has such an address, and programs
// differ in how they read them.
func ParseAddress(typed string) (string, error) {
	invalid := &InvalidError{FieldEmail, "email_invalid"}
	typed = strings.TrimSpace(typed)
	at := strings.LastIndex(typed, "@")
	if at <= 0 || len(typed) > 254 || !utf8.ValidString(typed) { // RFC 5321, 4.5.3.1
		return "", invalid
	}
	local, domain := typed[:at], typed[at+1:]
	domain, err := idna.Lookup.ToASCII(domain)
	domain = strings.ToLower(domain)
	switch {
	case err != nil, !strings.Contains(domain, "."), strings.HasSuffix(domain, "."), strings.HasPrefix(domain, "."):
		return "", invalid
	case !strings.ContainsFunc(domain[strings.LastIndex(domain, ".")+1:], unicode.IsLetter): // an IP address
		return "", invalid
	case len(local) > 64, strings.HasPrefix(local, "-"), norm.NFKC.String(local) != local:
		return "", invalid
	case strings.ContainsFunc(local, func(r rune) bool {
		return strings.ContainsRune("\"\\()<>,;:@[]%!|` ", r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}):
		return "", invalid
	}
	address := local + "@" + domain
	if parsed, err := mail.ParseAddress(address); err != nil || parsed.Name != "" || parsed.Address != address || len(address) > 254 {
		return "", invalid
	}
	return address, nil
}

// domainAllowed tells whether an address, of ParseAddress, is in one of the domains, if
// there are any. A domain below one of them is another.
func domainAllowed(address string, domains []string) bool {
	if len(domains) == 0 {
		return true
	}
	_, domain, _ := strings.Cut(credential.Fold(address), "@")
	return slices.Contains(domains, domain)
}
