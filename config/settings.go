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

	"github.com/caarlos0/env/v11"
	"github.com/joho/godotenv"
)

// settings is the table of all names and their defaults. Everything is text here:
// what a value means is checked one by one, so that each complaint can say what to
// write. .env.example documents them; a test compares the two.
type settings struct {
	Port           string `env:"PORT" envDefault:"3004"`
	BaseURL        string `env:"BASE_URL"`
	Title          string `env:"TITLE" envDefault:"Login Server"`
	AllowedOrigins string `env:"ALLOWED_ORIGINS"`
	NodeEnv        string `env:"NODE_ENV"`
	Env            string `env:"ENV"` // another name of NODE_ENV
	ImprintURL     string `env:"IMPRINT_URL"`
	PrivacyURL     string `env:"PRIVACY_URL"`
	SourcesURL     string `env:"SOURCES_URL"`

	DataDir           string `env:"DATA_DIR" envDefault:"./data"`
	SessionSecret     string `env:"SESSION_SECRET"`
	SessionSecretFile string `env:"SESSION_SECRET_FILE"`
	CookieMaxDays     string `env:"COOKIE_MAX_DAYS" envDefault:"30"`
	ExpiryThreshold   string `env:"SESSION_EXPIRATION_MESSAGE_THRESHOLD" envDefault:"60"`
	ExpiryInterval    string `env:"SESSION_EXPIRATION_MESSAGE_INTERVAL" envDefault:"5"`

	RateLimitWindow string `env:"RATE_LIMIT_WINDOW" envDefault:"60000"`
	RateLimitMax    string `env:"RATE_LIMIT_MAX" envDefault:"10"`
	TrustedProxies  string `env:"TRUSTED_PROXIES"`

	JWTPrivateKeyPath string `env:"JWT_PRIVATE_KEY_PATH" envDefault:"./private.key"`
	JWTPublicKeyPath  string `env:"JWT_PUBLIC_KEY_PATH" envDefault:"./public.key"`
	JWTAlgorithm      string `env:"JWT_ALGORITHM" envDefault:"RS256"`
	JWTExpiresIn      string `env:"JWT_EXPIRES_IN" envDefault:"120"`

	ProvidersPath    string `env:"PROVIDERS_PATH" envDefault:"./providers.json"`
	ApplicationsPath string `env:"APPLICATIONS_PATH" envDefault:"./applications.json"`
	Verbosity        string `env:"VERBOSITY" envDefault:"log"`

	TLSCertPath string `env:"TLS_CERT_PATH"`
	TLSKeyPath  string `env:"TLS_KEY_PATH"`

	MetricsAddr      string `env:"METRICS_ADDR"`
	MetricsToken     string `env:"METRICS_TOKEN"`
	MetricsTokenFile string `env:"METRICS_TOKEN_FILE"`

	SocketsPerSession  string `env:"SOCKETS_PER_SESSION" envDefault:"5000"`
	SocketsPerAddress  string `env:"SOCKETS_PER_ADDRESS" envDefault:"10000"`
	SocketMessageBytes string `env:"SOCKET_MESSAGE_BYTES" envDefault:"16384"`
	SocketIdleSeconds  string `env:"SOCKET_IDLE_SECONDS" envDefault:"120"`
}

// notYet are settings of the contract that this version refuses: to ignore them
// would keep people in another store than the operator believes.
var notYet = []string{"MONGO_URI", "MONGO_USER", "MONGO_PASS", "MONGO_HOST", "MONGO_PORT", "MONGO_DB", "REDIS_URL"}

const embeddedOnly = "this version keeps everything in the embedded store and its own memory"

// settingNames are the names of settings, in the order of the table.
func settingNames() []string {
	params, err := env.GetFieldParams(&settings{})
	if err != nil {
		panic(err) // the tags above are wrong; every test would see it
	}
	var names []string
	for _, p := range params {
		names = append(names, p.Key)
	}
	return names
}

// environment is the name of the process environment in problems.
const environment = "environment"

// loader collects what Load finds.
type loader struct {
	dir      string
	cfg      *Config
	sources  map[string]string // name of a setting → where its value comes from
	problems []Problem
	warnings []string
}

func (l *loader) problem(name, text, remedy string) {
	l.problems = append(l.problems, Problem{File: l.source(name), Field: name, Text: text, Remedy: remedy})
}

func (l *loader) warn(name, text, remedy string) {
	l.warnings = append(l.warnings, Problem{File: l.source(name), Field: name, Text: text, Remedy: remedy}.String())
}

func (l *loader) source(name string) string {
	if s, ok := l.sources[name]; ok {
		return s
	}
	return ".env"
}

// resolve makes a path of a setting one that works from any working directory.
func (l *loader) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.dir, path)
}

// read merges .env below the process environment and checks the names in it.
func (l *loader) read(environ []string) settings {
	names := settingNames()
	known := slices.Concat(names, notYet)
	values := map[string]string{}

	for name, value := range l.readDotEnv(known) {
		if value != "" && slices.Contains(known, name) {
			values[name], l.sources[name] = value, ".env"
		}
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case slices.Contains(known, name):
			// An empty variable is one that is not set (docker compose passes those).
			if value == "" {
				continue
			}
			// Shells use ENV for a file of their own.
			if name == "ENV" && !slices.Contains(environments, value) {
				continue
			}
			values[name], l.sources[name] = value, environment
		case len(name) >= 8:
			// The environment is full of names of other programs: only a slip in a
			// long name is likely to be meant for us, and it is not certain.
			if near, ok := Nearest(name, names); ok && distance(name, near) == 1 {
				l.warnings = append(l.warnings, Problem{File: environment, Field: name, Text: "is not known", Remedy: "did you mean " + near + "?"}.String())
			}
		}
	}
	for _, name := range notYet {
		if _, ok := values[name]; ok {
			l.problem(name, embeddedOnly, "remove it")
		}
	}

	var s settings
	// Only texts: this cannot fail for what an operator writes.
	if err := env.ParseWithOptions(&s, env.Options{Environment: values}); err != nil {
		panic(err)
	}
	return s
}

const maxSettingsFile = 256 << 10

// assignment is the beginning of a line that sets a name, as godotenv reads it.
var assignment = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.]+)[ \t]*[=:][ \t]*(.*)$`)

// expanded is what godotenv takes for a variable outside of single quotes.
var expanded = regexp.MustCompile(`(?:^|[^\\])\$\{?[A-Z0-9_]`)

// readDotEnv reads .env without touching the process environment. No file is no
// problem: everything has a default or can come from the environment.
func (l *loader) readDotEnv(known []string) map[string]string {
	const file = ".env"
	add := func(field, text, remedy string) {
		l.problems = append(l.problems, Problem{File: file, Field: field, Text: text, Remedy: remedy})
	}
	data, err := os.ReadFile(filepath.Join(l.dir, file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		add("", "cannot be read ("+reason(err)+")", "correct it")
		return nil
	case len(data) > maxSettingsFile:
		add("", "is larger than 256 KiB", "keep only settings in it")
		return nil
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	values, err := godotenv.Unmarshal(text)
	if err != nil {
		// The error of godotenv quotes the rest of the file, secrets included.
		add(fmt.Sprintf("line %d", brokenLine(text)), "is not NAME=value", "correct it, or put # before a comment")
		return nil
	}

	seen := map[string]bool{}
	for _, m := range assignment.FindAllStringSubmatch(text, -1) {
		name, value := m[1], m[2]
		if _, ok := values[name]; !ok {
			continue // a line within a quoted value
		}
		if seen[name] {
			l.warnings = append(l.warnings, Problem{File: file, Field: name, Text: "is given twice, the last one counts", Remedy: "remove one of them"}.String())
		}
		seen[name] = true
		if !strings.HasPrefix(value, "'") && slices.Contains(known, name) && expanded.MatchString(value) {
			l.warnings = append(l.warnings, Problem{File: file, Field: name, Text: "$ begins the name of a variable and is replaced", Remedy: "put the value in single quotes to keep it"}.String())
		}
	}
	for _, name := range sortedKeys(values) {
		if slices.Contains(known, name) {
			continue
		}
		if near, ok := Nearest(name, known); ok && slices.Contains(notYet, near) {
			add(Printable(name), embeddedOnly, "remove it")
			continue
		} else if ok {
			add(Printable(name), "is not known", "did you mean "+near+"?")
			continue
		}
		l.warnings = append(l.warnings, Problem{File: file, Field: Printable(name), Text: "is not known and has no effect", Remedy: "remove it"}.String())
	}
	return values
}

// brokenLine is the first line at which text stops being readable: the line after
// the longest run of whole lines that godotenv reads.
func brokenLine(text string) int {
	lines := strings.SplitAfter(text, "\n")
	for n := len(lines) - 1; n > 0; n-- {
		if _, err := godotenv.Unmarshal(strings.Join(lines[:n], "")); err == nil {
			return n + 1
		}
	}
	return 1
}

var environments = []string{"production", "development", "test"}

// apply checks each setting and fills in the Config.
func (l *loader) apply(s settings) {
	c := l.cfg
	c.Env = l.env(s)
	c.Port = l.number("PORT", s.Port, "a port", 0, 65535, 3004)
	c.Title = l.title(s.Title)
	l.baseURL(s.BaseURL)
	l.origins(s.AllowedOrigins)
	c.ImprintURL = l.link("IMPRINT_URL", s.ImprintURL, true)
	c.PrivacyURL = l.link("PRIVACY_URL", s.PrivacyURL, true)
	c.SourcesURL = l.link("SOURCES_URL", s.SourcesURL, false)

	c.DataDir = l.dataDir(s.DataDir)
	l.secrets(s)
	c.CookieMaxDays = l.number("COOKIE_MAX_DAYS", s.CookieMaxDays, "a number of days", 1, 3650, 30)
	c.ExpiryWarningThreshold = l.duration("SESSION_EXPIRATION_MESSAGE_THRESHOLD", s.ExpiryThreshold, "minutes", time.Minute, 1, 60*24*365, 60)
	c.ExpiryWarningInterval = l.duration("SESSION_EXPIRATION_MESSAGE_INTERVAL", s.ExpiryInterval, "minutes", time.Minute, 1, 60*24, 5)

	c.RateLimitWindow = l.duration("RATE_LIMIT_WINDOW", s.RateLimitWindow, "milliseconds", time.Millisecond, 1, 24*60*60*1000, 60000)
	c.RateLimitMax = l.number("RATE_LIMIT_MAX", s.RateLimitMax, "a number of attempts", 1, 1_000_000, 10)
	l.proxies(s.TrustedProxies)

	c.JWTPrivateKeyPath = l.resolve(s.JWTPrivateKeyPath)
	c.JWTPublicKeyPath = l.resolve(s.JWTPublicKeyPath)
	c.JWTAlgorithm = l.oneOf("JWT_ALGORITHM", s.JWTAlgorithm, algorithms, "RS256")
	c.JWTExpiresIn = l.duration("JWT_EXPIRES_IN", s.JWTExpiresIn, "seconds", time.Second, 0, 60*60*24*365, 120)
	if c.JWTExpiresIn < 10*time.Second {
		l.warn("JWT_EXPIRES_IN", "less than 10 seconds is too short to use a token, 10 is taken", "write 10 or more")
		c.JWTExpiresIn = 10 * time.Second
	}

	c.ProvidersPath = l.resolve(s.ProvidersPath)
	c.ApplicationsPath = l.resolve(s.ApplicationsPath)
	c.Verbosity = l.oneOf("VERBOSITY", s.Verbosity, []string{"log", "warn", "error"}, "log")
	l.tls(s)
	l.metrics(s)

	c.MaxSocketsPerSession = l.number("SOCKETS_PER_SESSION", s.SocketsPerSession, "a number of sockets", 1, 10_000_000, 5000)
	c.MaxSocketsPerAddress = l.number("SOCKETS_PER_ADDRESS", s.SocketsPerAddress, "a number of sockets", 1, 10_000_000, 10000)
	c.MaxSocketMessage = int64(l.number("SOCKET_MESSAGE_BYTES", s.SocketMessageBytes, "a number of bytes", 1024, 16<<20, 16384))
	c.SocketIdleTimeout = l.duration("SOCKET_IDLE_SECONDS", s.SocketIdleSeconds, "seconds", time.Second, 1, 60*60*24, 120)
}

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
	if c.Production() && scheme == "http" && !loopback(c.BaseURL.Hostname()) {
		l.warn("BASE_URL", shown+" is not encrypted: passwords and cookies can be read on their way", "write https://…")
	}
}

// plainPath tells whether every program on the way reads the path alike: no escapes,
// no empty and no dot segments.
var pathSegments = regexp.MustCompile(`^(/[A-Za-z0-9_~.-]*[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)*/?$`)

func plainPath(u *url.URL) bool { return pathSegments.MatchString(u.EscapedPath()) }

func loopback(host string) bool {
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
		l.problem(fileName, Quote(path)+" cannot be read ("+reason(err)+")", "write the path of a file that this program may read")
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
func (l *loader) dataDir(value string) string {
	dir := l.resolve(value)
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
		l.problem("DATA_DIR", Quote(value)+" cannot be used ("+reason(err)+")", "write the path of a directory")
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
			l.problem(file.name, Quote(file.written)+" cannot be read ("+reason(err)+")", "write the path of a PEM file that this program may read")
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

// reason is what the system says, without the path that the message has already.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f || 0x80 <= r && r < 0xa0 }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
