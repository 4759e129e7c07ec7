package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Production tells whether NODE_ENV is production.
func (c *Config) Production() bool { return c.Env == "production" }

// Origin is the origin of BaseURL, as browsers write it: https://login.example.org
func (c *Config) Origin() string { return c.BaseURL.Scheme + "://" + c.BaseURL.Host }

// AllowedOrigin tells whether a request with this Origin header may call the API
// with credentials. Browsers send origins in one spelling only, so that they are
// compared letter by letter.
func (c *Config) AllowedOrigin(origin string) bool {
	if c.originSet == nil {
		return slices.Contains(c.AllowedOrigins, origin)
	}
	return c.originSet[origin]
}

// ApplicationFor is the first application whose URL the referrer starts with. What
// follows must be a new part of the URL: https://app.example.org is not the beginning
// of https://app.example.org.evil.com, and /app is not the beginning of /apple.
func (c *Config) ApplicationFor(referrer string) (Application, bool) {
	u, err := strictURL(referrer)
	if err != nil {
		return Application{}, false
	}
	for _, app := range c.Applications {
		if under(u, app.URL) {
			return app, true
		}
	}
	return Application{}, false
}

// ErrRedirect is the refusal of AllowedRedirect. Its text and what is wrapped around
// it say nothing secret, but do not belong on a page without escaping.
var ErrRedirect = errors.New("this address is not allowed as the target of a redirect")

// AllowedRedirect checks where somebody wants to be sent after a login, and returns
// the absolute URL to send them to. It may lie at the origin of BaseURL, at an
// allowed origin, or under the URL of a listed application; nowhere else. A path
// (/account) is resolved against BaseURL as a browser would do it.
//
// The result is written anew from the parsed parts, because browsers and net/url
// disagree about some URLs (backslashes, tabs, dots in escapes): those are refused
// instead of guessed.
func (c *Config) AllowedRedirect(target string) (string, error) {
	if strings.HasPrefix(target, "/") {
		if strings.HasPrefix(target, "//") {
			return "", fmt.Errorf("%w: it begins with two slashes", ErrRedirect)
		}
		target = c.Origin() + target
	}
	u, err := strictURL(target)
	if err != nil {
		return "", fmt.Errorf("%w: it %w", ErrRedirect, err)
	}
	if c.AllowedOrigin(u.Scheme+"://"+u.Host) || u.Scheme+"://"+u.Host == c.Origin() {
		return u.String(), nil
	}
	for _, app := range c.Applications {
		if under(u, app.URL) {
			return u.String(), nil
		}
	}
	return "", fmt.Errorf("%w: %s is neither an allowed origin nor a listed application", ErrRedirect, u.Host)
}

const maxURL = 4096

// strictURL parses an absolute http(s) URL that every browser reads the same way,
// and normalises scheme and host. Its errors go after "it" or "the URL".
func strictURL(s string) (*url.URL, error) {
	switch {
	case s == "":
		return nil, errors.New("is empty")
	case len(s) > maxURL:
		return nil, fmt.Errorf("is longer than %d bytes", maxURL)
	case !utf8.ValidString(s):
		return nil, errors.New("is not UTF-8")
	case strings.ContainsFunc(s, isControl):
		return nil, errors.New("has control characters")
	case strings.ContainsRune(s, '\\'):
		return nil, errors.New("has a backslash")
	case strings.TrimSpace(s) != s:
		return nil, errors.New("has spaces around it")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.Scheme == "":
		return nil, errors.New("has no scheme")
	case u.User != nil:
		return nil, errors.New("contains a user name or a password")
	case u.Opaque != "":
		return nil, errors.New("is not an http(s) URL")
	}
	scheme, host, err := normalHost(u)
	if err != nil {
		return nil, err
	}
	if dots(u.EscapedPath()) {
		return nil, errors.New("has dot segments in its path")
	}
	u.Scheme, u.Host = scheme, host
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// dots finds what browsers resolve as . and .., also in escapes (%2e), and escaped
// slashes and backslashes, which some servers resolve too.
func dots(escaped string) bool {
	lower := strings.ToLower(escaped)
	if strings.Contains(lower, "%5c") || strings.Contains(lower, "%00") {
		return true
	}
	lower = strings.NewReplacer("%2e", ".", "%2f", "/").Replace(lower)
	for segment := range strings.SplitSeq(lower, "/") {
		// A server may cut parameters off: /..;x/
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return true
		}
	}
	return false
}

// normalHost is scheme and host[:port] as a browser writes them in an origin: lower
// case, without the scheme's own port, international names in their ASCII form. Names
// that only become ASCII by folding (fullwidth letters, ℀) are refused.
func normalHost(u *url.URL) (scheme, host string, err error) {
	scheme = strings.ToLower(u.Scheme)
	if scheme != "http" && scheme != "https" {
		return "", "", errors.New("is not an http(s) URL")
	}
	name, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case name == "":
		return "", "", errors.New("has no host")
	case strings.Contains(u.Host, "["):
		ip, err := netip.ParseAddr(name)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", "", errors.New("has an unusual host")
		}
		name = "[" + ip.String() + "]"
	default:
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil || !hostName(ascii) {
			return "", "", errors.New("has an unusual host")
		}
		// Folded letters come back different from what was written.
		if back, err := idna.Lookup.ToUnicode(ascii); err != nil || (name != ascii && back != name) {
			return "", "", errors.New("has an unusual host")
		}
		name = ascii
	}
	if strings.HasSuffix(u.Host, ":") {
		return "", "", errors.New("has a colon without a port")
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", "", errors.New("has an impossible port")
		}
		port = strconv.FormatUint(n, 10)
		if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
			port = ""
		}
	}
	if port != "" {
		name += ":" + port
	}
	return scheme, name, nil
}

// hostName tells whether a browser would take name as it stands: labels of letters,
// digits, dashes and underscores. A last label that is a number makes browsers read
// the whole as an IPv4 address, in any of its odd spellings (127.1, 0x7f000001), so
// that it must be one in its plain spelling.
func hostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	var last string
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
		last = label
	}
	if last[0] >= '0' && last[0] <= '9' {
		ip, err := netip.ParseAddr(name)
		return err == nil && ip.Is4()
	}
	return true
}

// under tells whether u lies under the URL of an application: same origin, and its
// path starts with that path at the end of a segment.
func under(u *url.URL, application string) bool {
	app, err := strictURL(application)
	if err != nil || app.Scheme != u.Scheme || app.Host != u.Host {
		return false
	}
	base, path := app.EscapedPath(), u.EscapedPath()
	rest, ok := strings.CutPrefix(path, base)
	return ok && (rest == "" || strings.HasSuffix(base, "/") || rest[0] == '/')
}

// parseOrigin reads one entry of ALLOWED_ORIGINS; text is empty when it is good.
func parseOrigin(item string) (origin, text, remedy string) {
	switch {
	case item == "*":
		return "", `"*" would let every page on the net act for its visitors`, "write the origins of your applications"
	case item == "null":
		return "", `"null" is the origin of every sandboxed page`, "write the origins of your applications"
	case !strings.Contains(item, "://"):
		return "", QuoteURL(item) + " has no scheme", "write https://" + strings.TrimLeft(item, "/")
	}
	u, err := strictURL(item)
	if err != nil {
		return "", QuoteURL(item) + " " + err.Error(), "write an origin such as https://app.example.org"
	}
	origin = u.Scheme + "://" + u.Host
	if u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", QuoteURL(item) + " is more than an origin", "write " + origin
	}
	return origin, "", ""
}

// CheckOrigin reads an origin that somebody has written, and says what is wrong with it.
func CheckOrigin(item string) (origin, text, remedy string) { return parseOrigin(item) }
