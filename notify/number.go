package notify

import (
	"fmt"
	"slices"
	"strings"
)

// Number reads a telephone number as people write it and returns it as of E.164: + and 8 to
// 15 digits. defaultPrefix ("+49") is the country of numbers that begin with a single 0; where
// it is empty they cannot be read. ErrAddress if it is no number.
//
// Spaces, points, hyphens, slashes and brackets are left out, and so is the "(0)" that
// many write behind the prefix of the country.
func Number(text, defaultPrefix string) (string, error) {
	if len(text) > 64 {
		return "", fmt.Errorf("%w: too long for a number", ErrAddress)
	}
	text = strings.TrimSpace(text)
	international := strings.HasPrefix(text, "+") || strings.HasPrefix(text, "00")
	if international {
		text = strings.Replace(text, "(0)", "", 1)
	}
	digits := strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\u00a0', '\u202f', '.', '-', '\u2010', '\u2011', '\u2013', '/', '(', ')':
			return -1
		}
		return r
	}, text)
	switch {
	case strings.HasPrefix(digits, "+"):
		digits = digits[1:]
	case strings.HasPrefix(digits, "00"):
		digits = digits[2:]
	case strings.HasPrefix(digits, "0") && defaultPrefix != "":
		digits = strings.TrimPrefix(defaultPrefix, "+") + digits[1:]
	default:
		return "", fmt.Errorf("%w: a number begins with + and the prefix of its country", ErrAddress)
	}
	number := "+" + digits
	if !isNumber(number) {
		return "", fmt.Errorf("%w: not a telephone number", ErrAddress)
	}
	return number, nil
}

// isNumber tells whether text is a number as of E.164.
func isNumber(text string) bool {
	digits, plus := strings.CutPrefix(text, "+")
	if !plus || len(digits) < 8 || len(digits) > 15 || digits[0] == '0' {
		return false
	}
	return !strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
}

// dear are beginnings of numbers that cost more than others, or that belong to no country:
// services at premium rates and at shared cost, personal numbers, satellites. The list cannot
// be complete; the prefixes that the operator allows and the limits are what protects.
var dear = []string{
	"+800", "+808", "+870", "+878", "+881", "+882", "+883", "+888", "+979",
	"+1900", "+1976", "+31900", "+31906", "+31909", "+3287", "+3290", "+3381", "+3382", "+3389",
	"+34803", "+34806", "+34807", "+39144", "+39166", "+39199", "+39899", "+41900", "+41901", "+41906",
	"+43810", "+43820", "+43821", "+43828", "+43900", "+43901", "+43930", "+43931", "+43939",
	"+4470", "+4484", "+4487", "+449", "+45901", "+45909", "+46900", "+46939", "+46944", "+47820", "+47829",
	"+48300", "+48400", "+48700", "+49137", "+49138", "+49180", "+4932", "+49700", "+49900",
}

// Reachable tells whether SMS are sent to a number at all; ErrAddress says why not.
func (q *Queue) Reachable(number string) error {
	switch {
	case !isNumber(number):
		return fmt.Errorf("%w: not a telephone number", ErrAddress)
	case hasPrefix(number, dear):
		return fmt.Errorf("%w: the number costs more than others", ErrAddress)
	case !hasPrefix(number, q.o.Prefixes) && !(q.o.Dev && len(q.o.Prefixes) == 0):
		return fmt.Errorf("%w: no SMS are sent to the country of this number", ErrAddress)
	}
	return nil
}

func hasPrefix(number string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(number, p) })
}
