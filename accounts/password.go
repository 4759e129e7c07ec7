package accounts

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"golang.org/x/text/secure/precis"
)

const (
	// MinPassword is how many characters a new password has at least.
	MinPassword = 10
	// maxPassword is how many bytes it has at most: nobody types more.
	maxPassword = 1024
	// looked is how many characters of a password are looked at to judge it: the time it takes
	// grows with more than the square.
	looked = 64
	// distinct is how many different characters it has at least: one key held down is not in
	// any list.
	distinct = 4
	// minScore is that of zxcvbn, from 0 to 4: 2 is out of reach of who tries online.
	minScore = 2
)

// enforced is a password in the form in which it is hashed, so that it does not depend on
// how a keyboard puts letters together (RFC 8265, 4.2.2, OpaqueString), or an error.
func enforced(password string) (string, error) { return precis.OpaqueString.String(password) }

// checkPassword returns a new password in the form in which it is hashed, or an *InvalidError. personal is
// what others know of the person: addresses, name. There are no rules of composition: they make
// passwords alike (NIST SP 800-63B, 5.1.1.2).
func (d *Desk) checkPassword(password string, personal ...string) (string, error) {
	wrong := func(reason string) (string, error) { return "", &InvalidError{FieldPassword, reason} }
	switch {
	case password == "":
		return wrong("password_missing")
	case len(password) > maxPassword:
		return wrong("password_long")
	}
	password, err := enforced(password)
	switch {
	case err != nil:
		return wrong("password_characters")
	case utf8.RuneCountInString(password) < MinPassword:
		return wrong("password_short")
	}
	runes := []rune(password)
	if different(runes) < distinct {
		return wrong("password_common")
	}
	start := string(runes[:min(len(runes), looked)])
	own := words(append(personal, d.o.Title, hostOf(d.o.BaseURL))...)
	if zxcvbn.PasswordStrength(start, own).Score >= minScore {
		return password, nil
	}
	if zxcvbn.PasswordStrength(start, nil).Score >= minScore {
		return wrong("password_personal")
	}
	return wrong("password_common")
}

func different(runes []rune) int {
	seen := map[rune]bool{}
	for _, r := range runes {
		seen[r] = true
	}
	return len(seen)
}

// words are texts and what they are made of, in lower case. One or two letters say nothing.
func words(texts ...string) []string {
	var all []string
	for _, text := range texts {
		text = strings.ToLower(text)
		parts := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" .@-_+,:/'", r) })
		for _, word := range append(parts, text, strings.Join(parts, "")) {
			if utf8.RuneCountInString(word) > 2 {
				all = append(all, word)
			}
		}
	}
	return all[:min(len(all), 100)]
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
