package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (l *loader) env(s settings) string {
	name, value := "NODE_ENV", s.NodeEnv
	switch {
	case value == "" && s.Env == "":
		return "development"
	case value == "":
		name, value = "ENV", s.Env
	case s.Env != "" && s.Env != value:
		l.problem("ENV", Quote(s.Env)+" contradicts NODE_ENV, which is the same setting", "remove one of them")
	}
	return l.oneOf(name, value, environments, "development")
}

// units are what people write behind a number that has a unit already.
var units = map[string][]string{
	"a number of days":         {"d", "day", "days"},
	"a number of minutes":      {"m", "min", "minute", "minutes"},
	"a number of seconds":      {"s", "sec", "second", "seconds"},
	"a number of milliseconds": {"ms", "millisecond", "milliseconds"},
	"a number of bytes":        {"b", "byte", "bytes"},
}

// number reads a whole number in [least, most]. what is "a number of days".
func (l *loader) number(name, value, what string, least, most, instead int) int {
	value = strings.TrimSpace(value)
	n, err := strconv.Atoi(value)
	if err == nil && least <= n && n <= most {
		return n
	}
	if err == nil || errors.Is(err, strconv.ErrRange) {
		l.problem(name, fmt.Sprintf("%s is not between %d and %d", Quote(value), least, most), fmt.Sprintf("write %d", instead))
		return instead
	}
	// "30d" was meant as 30 where days are wanted; "1m" is no number of milliseconds.
	suggestion := instead
	unit := strings.TrimLeft(value, "0123456789")
	if d, err := strconv.Atoi(value[:len(value)-len(unit)]); err == nil && least <= d && d <= most &&
		slices.Contains(units[what], strings.ToLower(strings.TrimSpace(unit))) {
		suggestion = d
	}
	l.problem(name, Quote(value)+" is not "+what, fmt.Sprintf("write %d", suggestion))
	return instead
}

func (l *loader) duration(name, value, unit string, each time.Duration, least, most, instead int) time.Duration {
	return time.Duration(l.number(name, value, "a number of "+unit, least, most, instead)) * each
}

func (l *loader) oneOf(name, value string, allowed []string, instead string) string {
	value = strings.TrimSpace(value)
	if slices.Contains(allowed, value) {
		return value
	}
	for _, a := range allowed {
		if strings.EqualFold(a, value) {
			l.problem(name, Quote(value)+" is written differently", "write "+a)
			return instead
		}
	}
	l.problem(name, Quote(value)+" is not known", "write one of "+strings.Join(allowed, ", "))
	return instead
}

func (l *loader) title(value string) string {
	value = strings.TrimSpace(value)
	if len(value) > 200 || strings.ContainsFunc(value, isControl) {
		l.problem("TITLE", "is longer than 200 bytes or has control characters", "write a short name")
		return "Login Server"
	}
	return value
}

// link is a URL that the footer shows.
func (l *loader) link(name, value string, wanted bool) string {
	if value == "" {
		if wanted && l.cfg.Production() {
			l.warn(name, "is missing, and most countries require the page", "write its URL")
		}
		return ""
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		l.problem(name, QuoteURL(value)+" is not an http(s) URL", "write https://…")
		return ""
	}
	return u.String()
}

func (l *loader) baseURL(value string) {
	c := l.cfg
	c.BaseURL = &url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", strconv.Itoa(c.Port)), Path: "/"}
	if value == "" {
		if c.Production() {
			l.problem("BASE_URL", "is missing in production", "write the public URL of this server, such as https://login.example.org/")
		}
		return
	}
	value = strings.TrimSpace(value)
	shown := QuoteURL(value)
	u, err := url.Parse(value)
	switch {
	case !strings.Contains(value, "://"):
		l.problem("BASE_URL", shown+" has no scheme", "write https://"+strings.TrimLeft(value, "/"))
		return
	case err != nil:
		l.problem("BASE_URL", shown+" is not a URL", "write https://login.example.org/")
		return
	case !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		l.problem("BASE_URL", shown+" is not http or https", "write https://login.example.org/")
		return
	case u.User != nil:
		l.problem("BASE_URL", "contains a user name or a password", "remove it")
		return
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(value, "#"):
		l.problem("BASE_URL", shown+" has a query or a fragment", "write only scheme, host and path")
		return
	}
	scheme, host, err := normalHost(u)
	if err != nil {
		l.problem("BASE_URL", shown+" "+err.Error(), "write https://login.example.org/")
		return
	}
	if !plainPath(u) {
		l.problem("BASE_URL", shown+" has an unusual path", "write a plain path such as /login/")
		return
	}
	path := u.Path
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	c.BaseURL = &url.URL{Scheme: scheme, Host: host, Path: path}
	if c.Production() && scheme == "http" && !Loopback(c.BaseURL.Hostname()) {
		l.warn("BASE_URL", shown+" is not encrypted: passwords and cookies can be read on their way", "write https://…")
	}
}

var pathSegments = regexp.MustCompile(`^(/[A-Za-z0-9_~.-]*[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)*/?$`)

// plainPath tells whether every program on the way reads the path alike: no escapes,
// no empty and no dot segments.
func plainPath(u *url.URL) bool { return pathSegments.MatchString(u.EscapedPath()) }

// Loopback tells whether what is sent to a host stays on this machine.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (l *loader) origins(value string) {
	c := l.cfg
	c.AllowedOrigins = []string{c.Origin()}
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		origin, text, remedy := parseOrigin(item)
		if text != "" {
			l.problem("ALLOWED_ORIGINS", text, remedy)
			continue
		}
		if !slices.Contains(c.AllowedOrigins, origin) {
			c.AllowedOrigins = append(c.AllowedOrigins, origin)
		}
	}
}

// secretWords are what people leave standing; the first is the constant of the
// older program.
var secretWords = []string{"keyboard cat", "keyboardcat", "changeme", "change-me", "change_me", "secretsecret", "your-secret", "your_secret",
	"yoursecret", "mysecret", "my-secret", "supersecret", "super-secret", "session-secret", "session_secret", "sessionsecret", "password", "12345678", "example", "default", "topsecret"}

const minSecret = 16

func (l *loader) secrets(s settings) {
	c := l.cfg
	value, name := l.secret("SESSION_SECRET", s.SessionSecret, "SESSION_SECRET_FILE", s.SessionSecretFile)
	value = strings.NewReplacer("\r", ",", "\n", ",").Replace(value)
	number := 0
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		number++
		which := "the secret"
		if strings.Contains(strings.Trim(value, ", "), ",") {
			which = fmt.Sprintf("secret %d", number)
		}
		switch {
		case len(item) < minSecret:
			l.problem(name, fmt.Sprintf("%s is shorter than %d characters", which, minSecret), "write a random one, as `openssl rand -hex 32` prints it, or remove it: one is generated")
			continue
		case common(item) && c.Production():
			l.problem(name, which+" is easy to guess", "write a random one, as `openssl rand -hex 32` prints it, or remove it: one is generated")
			continue
		case common(item):
			l.warn(name, which+" is easy to guess and would not do in production", "write a random one, as `openssl rand -hex 32` prints it")
		case slices.Contains(c.SessionSecrets, item):
			l.warn(name, which+" is given twice", "remove one of them")
			continue
		}
		c.SessionSecrets = append(c.SessionSecrets, item)
	}
	if name == "SESSION_SECRET_FILE" && number == 0 && s.SessionSecretFile != "" && !l.complained(name) {
		l.problem(name, "the file is empty", "write a secret into it, as `openssl rand -hex 32` prints it")
	}
}

func (l *loader) complained(name string) bool {
	return slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Field == name })
}

// common tells whether a secret is one of the usual ones or has hardly any
// different characters.
func common(secret string) bool {
	lower := strings.ToLower(secret)
	for _, word := range secretWords {
		if strings.Contains(lower, word) {
			return true
		}
	}
	different := map[rune]bool{}
	for _, r := range secret {
		different[r] = true
	}
	return len(different) < 6
}

// secret reads a setting that can also stand in a file of its own, and says under
// which name it was given.
func (l *loader) secret(name, value, fileName, path string) (secret, from string) {
	switch {
	case path == "":
		return value, name
	case value != "":
		l.problem(fileName, "is given together with "+name, "remove one of them")
		return value, name
	}
	data, err := os.ReadFile(l.resolve(path))
	switch {
	case err != nil:
		l.problem(fileName, Quote(path)+" cannot be read ("+Reason(err)+")", "write the path of a file that this program may read")
		return "", fileName
	case len(data) > 64<<10:
		l.problem(fileName, Quote(path)+" is larger than 64 KiB", "write the path of a file with nothing but the secret")
		return "", fileName
	}
	return strings.TrimSpace(string(data)), fileName
}

func (l *loader) proxies(value string) {
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(item); err == nil {
				ip = ip.Unmap().WithZone("")
				prefix = netip.PrefixFrom(ip, ip.BitLen())
			}
		}
		switch {
		case err != nil:
			l.problem("TRUSTED_PROXIES", Quote(item)+" is neither an address nor a network", "write 10.0.0.5 or 10.0.0.0/8")
			continue
		case prefix.Bits() == 0:
			l.problem("TRUSTED_PROXIES", Quote(item)+" is everybody, who could then pretend any address", "write the address of the proxy")
			continue
		}
		l.cfg.TrustedProxies = append(l.cfg.TrustedProxies, prefix.Masked())
	}
}

var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"}

// dataDir checks now, together with everything else, what would otherwise be the
// second complaint: whether the directory can be written, or made.
func (l *loader) dataDir(value string, needed bool) string {
	dir := l.resolve(value)
	if !needed {
		return dir
	}
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		l.problem("DATA_DIR", Quote(value)+" is a file", "write the path of a directory")
	case err == nil && !writable(dir):
		l.problem("DATA_DIR", Quote(value)+" cannot be written by this program", "give its user the directory (chown), or write another path")
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(dir)
		for parent != filepath.Dir(parent) {
			if _, err := os.Stat(parent); err == nil {
				break
			}
			parent = filepath.Dir(parent)
		}
		if info, err := os.Stat(parent); err == nil && !info.IsDir() {
			l.problem("DATA_DIR", Quote(value)+" lies below a file", "write the path of a directory")
		} else if !writable(parent) {
			l.problem("DATA_DIR", Quote(value)+" does not exist and cannot be made by this program", "make it and give it to its user (mkdir, chown), or write another path")
		}
	case err != nil:
		l.problem("DATA_DIR", Quote(value)+" cannot be used ("+Reason(err)+")", "write the path of a directory")
	}
	return dir
}

func (l *loader) tls(s settings) {
	switch {
	case s.TLSCertPath == "" && s.TLSKeyPath == "":
		return
	case s.TLSKeyPath == "":
		l.problem("TLS_KEY_PATH", "is missing beside TLS_CERT_PATH", "write the path of the private key, or remove both")
		return
	case s.TLSCertPath == "":
		l.problem("TLS_CERT_PATH", "is missing beside TLS_KEY_PATH", "write the path of the certificate, or remove both")
		return
	}
	cert, key := l.resolve(s.TLSCertPath), l.resolve(s.TLSKeyPath)
	readable := true
	for _, file := range []struct{ name, written, path string }{{"TLS_CERT_PATH", s.TLSCertPath, cert}, {"TLS_KEY_PATH", s.TLSKeyPath, key}} {
		f, err := os.Open(file.path)
		if err != nil {
			l.problem(file.name, Quote(file.written)+" cannot be read ("+Reason(err)+")", "write the path of a PEM file that this program may read")
			readable = false
			continue
		}
		f.Close()
	}
	if readable {
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			l.problem("TLS_CERT_PATH", strings.TrimPrefix(err.Error(), "tls: "), "write a PEM certificate and the private key that belongs to it")
		}
	}
	l.cfg.TLSCertPath, l.cfg.TLSKeyPath = cert, key
}

func (l *loader) metrics(s settings) {
	c := l.cfg
	if s.MetricsAddr != "" {
		_, port, err := net.SplitHostPort(s.MetricsAddr)
		n, errPort := strconv.ParseUint(port, 10, 16)
		switch {
		case err != nil || errPort != nil:
			l.problem("METRICS_ADDR", Quote(s.MetricsAddr)+" is not an address with a port", "write 127.0.0.1:9464")
		case int(n) == c.Port && n != 0:
			l.problem("METRICS_ADDR", Quote(s.MetricsAddr)+" has the port of the server itself", "write 127.0.0.1:9464")
		default:
			c.MetricsAddr = s.MetricsAddr
		}
	}
	token, name := l.secret("METRICS_TOKEN", s.MetricsToken, "METRICS_TOKEN_FILE", s.MetricsTokenFile)
	if token != "" && len(token) < minSecret {
		l.problem(name, fmt.Sprintf("is shorter than %d characters", minSecret), "write a random one, as `openssl rand -hex 32` prints it")
		return
	}
	c.MetricsToken = token
}
