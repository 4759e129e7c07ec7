// Package config turns .env, providers.json and applications.json into one
// checked Config. Every complaint names the file, the entry, the field, what was
// found (never a secret) and what to write instead, and all of them come at once.
package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"
)

// Config is everything an operator can set, checked and with defaults filled in.
// Paths are resolved: relative ones in the files start from Dir.
type Config struct {
	Port    int
	BaseURL *url.URL // with trailing slash; its path is "/" or "/login/" …
	Title   string
	// AllowedOrigins may call the API with credentials and open the WebSocket;
	// the origin of BaseURL is the first of them. Each is scheme://host[:port] in lower case.
	AllowedOrigins                     []string
	Env                                string // "production", "development" or "test"
	ImprintURL, PrivacyURL, SourcesURL string

	// MongoURI is the connection string of the shared store, with the password, and
	// MongoDatabase the database there; empty: the embedded store. RedisURL is where nodes
	// tell each other what has changed, and count attempts together; empty: within the process.
	MongoURI, MongoDatabase, RedisURL string

	// DataDir holds the embedded database and the generated secret (DATA_DIR, default ./data).
	DataDir string
	// SessionSecrets: the first signs, all verify. Empty: one is to be generated and
	// kept in DataDir.
	SessionSecrets         []string
	CookieMaxDays          int
	ExpiryWarningThreshold time.Duration // SESSION_EXPIRATION_MESSAGE_THRESHOLD, minutes in the file
	ExpiryWarningInterval  time.Duration // SESSION_EXPIRATION_MESSAGE_INTERVAL, minutes in the file

	RateLimitWindow time.Duration
	RateLimitMax    int
	// LoginAttemptLife is how long people have to sign in on a provider's pages.
	LoginAttemptLife time.Duration
	// ChallengeBits is how hard a browser works for an answer to a challenge; each bit more
	// doubles that.
	ChallengeBits int
	// TrustedProxies are the networks whose X-Forwarded-For is believed (TRUSTED_PROXIES).
	TrustedProxies []netip.Prefix

	// JWTPrivateKeyPath and JWTPublicKeyPath are both empty when the pair is in the shared
	// store: nobody has set a path, and there are no files where they would be.
	JWTPrivateKeyPath, JWTPublicKeyPath string
	JWTAlgorithm                        string
	JWTExpiresIn                        time.Duration

	// AccessTokenLife is how long access tokens and ID Tokens of the OpenID Provider live;
	// RefreshIdle and RefreshLife how long its refresh tokens do, unused and at all.
	AccessTokenLife, RefreshIdle, RefreshLife time.Duration
	// LegacyFlows allows response types beside code.
	LegacyFlows bool
	// ClientRegistration is who may register clients: "off" (nobody), "token" (with an
	// initial access token) or "open"; ClientRegistrationLimit how many may have done so.
	ClientRegistration      string
	ClientRegistrationLimit int
	// KeyPublishFor is how long a signing key in the database is published before it signs,
	// and KeyRotateEvery how long it signs; 0 is for good.
	KeyPublishFor, KeyRotateEvery time.Duration

	// SMTP is nil where no mails can be sent.
	SMTP *SMTP
	SMS  SMS

	ProvidersPath, ApplicationsPath string
	Providers                       []Provider
	Applications                    []Application

	Verbosity string // "log", "warn" or "error"

	// StopDelay is for how long the server goes on answering after it was asked to stop, so
	// that a balancer which asks /readyz sends nobody any more when it does stop.
	StopDelay time.Duration

	// TLSCertPath and TLSKeyPath: both set means that the program serves TLS itself.
	TLSCertPath, TLSKeyPath string
	// MetricsAddr is the address of its own on which /metrics is served (METRICS_ADDR,
	// such as 127.0.0.1:9464); MetricsToken guards /metrics on the main port (METRICS_TOKEN).
	// Both empty: no metrics.
	MetricsAddr, MetricsToken string

	// GeoIPPath is the database of places (GEOIP_DB); empty: places are unknown.
	GeoIPPath string
	// AuditPeriod is how long the audit log is kept (AUDIT_DAYS, days in the file); 0: for good.
	AuditPeriod time.Duration

	// Limits of the WebSocket.
	MaxSocketsPerSession int           // SOCKETS_PER_SESSION, default 5000
	MaxSocketsPerAddress int           // SOCKETS_PER_ADDRESS, default 10000
	MaxSocketMessage     int64         // SOCKET_MESSAGE_BYTES, default 16384
	SocketIdleTimeout    time.Duration // SOCKET_IDLE_SECONDS, default 120: a socket of no session that says nothing

	// Dir is the working directory: where templates/ and static/ may override the
	// built-in files, and what relative paths in the files are relative to.
	Dir string

	originSet map[string]bool // AllowedOrigins; nil in a Config made by hand
}

// Load reads .env in dir, the process environment (environ, as os.Environ gives it),
// and the lists of providers and applications that they name.
//
// The error is a *Problems with everything that is wrong, and the Config is there
// nevertheless, with defaults in the place of what could not be read: so that
// providers.Open can be asked too, and Join puts all problems before the operator at
// once. Warnings are lines of the same form that do not stop the start. What the
// options of a strategy mean is not known here: providers checks them.
func Load(dir string, environ []string) (*Config, []string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	l := &loader{dir: abs, cfg: &Config{Dir: abs}, sources: map[string]string{}}
	l.apply(l.read(environ))
	l.providers()
	// The file of the default may be missing; one that somebody has named may not.
	l.applications(l.cfg.ApplicationsPath != l.resolve("./applications.json"))

	l.cfg.originSet = map[string]bool{}
	for _, origin := range l.cfg.AllowedOrigins {
		l.cfg.originSet[origin] = true
	}
	return l.cfg, l.warnings, problemsOrNil(l.problems)
}

// Provider is one entry of providers.json.
type Provider struct {
	ID       string `json:"id"`
	Strategy string `json:"strategy"`
	Name     string `json:"name"`
	// Template builds an identity's URI from its profile: https://github.com/{username}
	Template             string          `json:"template,omitempty"`
	CredentialsNecessary bool            `json:"credentialsNecessary,omitempty"`
	Options              json.RawMessage `json:"options,omitempty"`
	Image                string          `json:"image,omitempty"`
	URL                  string          `json:"url,omitempty"`
	Disabled             bool            `json:"disabled,omitempty"`
	// ExposeUpstreamToken hands what the provider gives to act there in a person's name to
	// every application that gets a token of the person.
	ExposeUpstreamToken bool `json:"exposeUpstreamToken,omitempty"`
	// Demo marks an entry with credentials that everybody knows: it makes a first
	// login possible in development and does not start in production.
	Demo bool `json:"demo,omitempty"`

	// File and Entry (from 1) are where it stands, for messages.
	File  string `json:"-"`
	Entry int    `json:"-"`
}

// Application is one entry of applications.json, most specific URL first.
//
// With a client_id it is a client of the OpenID Provider too.
type Application struct {
	URL  string `json:"url"`
	Name string `json:"name"`
	// ClientName is another name of Name, that of RFC 7591.
	ClientName string `json:"client_name,omitempty"`
	Client

	// File and Entry (from 1) are where it stands, for messages, and Dir what paths in it
	// are relative to.
	File  string `json:"-"`
	Entry int    `json:"-"`
	Dir   string `json:"-"`
}

// Problem is a complaint about this entry.
func (a Application) Problem(field, text, remedy string) Problem {
	entry := fmt.Sprintf("entry %d", a.Entry)
	if a.Name != "" {
		entry = fmt.Sprintf("%s (entry %d)", Printable(a.Name), a.Entry)
	}
	return Problem{File: a.File, Entry: entry, Field: field, Text: text, Remedy: remedy}
}
