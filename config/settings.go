package config

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
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

	MongoURI      string `env:"MONGO_URI"`
	MongoURIFile  string `env:"MONGO_URI_FILE"`
	MongoUser     string `env:"MONGO_USER"`
	MongoPass     string `env:"MONGO_PASS"`
	MongoPassFile string `env:"MONGO_PASS_FILE"`
	MongoHost     string `env:"MONGO_HOST"`
	MongoPort     string `env:"MONGO_PORT"`
	MongoDB       string `env:"MONGO_DB"`
	RedisURL      string `env:"REDIS_URL"`
	RedisURLFile  string `env:"REDIS_URL_FILE"`

	DataDir           string `env:"DATA_DIR" envDefault:"./data"`
	SessionSecret     string `env:"SESSION_SECRET"`
	SessionSecretFile string `env:"SESSION_SECRET_FILE"`
	CookieMaxDays     string `env:"COOKIE_MAX_DAYS" envDefault:"30"`
	ExpiryThreshold   string `env:"SESSION_EXPIRATION_MESSAGE_THRESHOLD" envDefault:"60"`
	ExpiryInterval    string `env:"SESSION_EXPIRATION_MESSAGE_INTERVAL" envDefault:"5"`

	RateLimitWindow string `env:"RATE_LIMIT_WINDOW" envDefault:"60000"`
	RateLimitMax    string `env:"RATE_LIMIT_MAX" envDefault:"10"`
	LoginAttempt    string `env:"LOGIN_ATTEMPT_MINUTES" envDefault:"60"`
	ChallengeBits   string `env:"CHALLENGE_BITS" envDefault:"14"`
	TrustedProxies  string `env:"TRUSTED_PROXIES"`

	JWTPrivateKeyPath string `env:"JWT_PRIVATE_KEY_PATH" envDefault:"./private.key"`
	JWTPublicKeyPath  string `env:"JWT_PUBLIC_KEY_PATH" envDefault:"./public.key"`
	JWTAlgorithm      string `env:"JWT_ALGORITHM" envDefault:"RS256"`
	JWTExpiresIn      string `env:"JWT_EXPIRES_IN" envDefault:"120"`

	AccessTokenSeconds string `env:"ACCESS_TOKEN_SECONDS" envDefault:"600"`
	RefreshIdleDays    string `env:"REFRESH_TOKEN_IDLE_DAYS" envDefault:"14"`
	RefreshMaxDays     string `env:"REFRESH_TOKEN_MAX_DAYS" envDefault:"90"`
	LegacyFlows        string `env:"OIDC_LEGACY_FLOWS" envDefault:"false"`
	Registration       string `env:"CLIENT_REGISTRATION" envDefault:"off"`
	RegistrationLimit  string `env:"CLIENT_REGISTRATION_LIMIT" envDefault:"10000"`
	KeyPublishMinutes  string `env:"KEY_PUBLISH_MINUTES" envDefault:"60"`
	KeyRotationDays    string `env:"KEY_ROTATION_DAYS" envDefault:"90"`

	SMTPHost     string `env:"SMTP_HOST"`
	SMTPPort     string `env:"SMTP_PORT"`
	SMTPUser     string `env:"SMTP_USER"`
	SMTPPass     string `env:"SMTP_PASS"`
	SMTPPassFile string `env:"SMTP_PASS_FILE"`
	SMTPTLS      string `env:"SMTP_TLS"`
	MailFrom     string `env:"MAIL_FROM"`
	MailReplyTo  string `env:"MAIL_REPLY_TO"`

	TwilioAccountSID     string `env:"TWILIO_ACCOUNT_SID"`
	TwilioAuthToken      string `env:"TWILIO_AUTH_TOKEN"`
	TwilioAuthTokenFile  string `env:"TWILIO_AUTH_TOKEN_FILE"`
	TwilioFrom           string `env:"TWILIO_FROM"`
	TwilioService        string `env:"TWILIO_MESSAGING_SERVICE_SID"`
	SMSWebhookURL        string `env:"SMS_WEBHOOK_URL"`
	SMSWebhookSecret     string `env:"SMS_WEBHOOK_SECRET"`
	SMSWebhookSecretFile string `env:"SMS_WEBHOOK_SECRET_FILE"`
	SMSPrefixes          string `env:"SMS_PREFIXES"`
	SMSPerDay            string `env:"SMS_PER_DAY" envDefault:"200"`

	ProvidersPath    string `env:"PROVIDERS_PATH" envDefault:"./providers.json"`
	ApplicationsPath string `env:"APPLICATIONS_PATH" envDefault:"./applications.json"`
	Verbosity        string `env:"VERBOSITY" envDefault:"log"`

	StopDelaySeconds string `env:"STOP_DELAY_SECONDS" envDefault:"0"`

	TLSCertPath string `env:"TLS_CERT_PATH"`
	TLSKeyPath  string `env:"TLS_KEY_PATH"`

	MetricsAddr      string `env:"METRICS_ADDR"`
	MetricsToken     string `env:"METRICS_TOKEN"`
	MetricsTokenFile string `env:"METRICS_TOKEN_FILE"`

	SocketsPerSession  string `env:"SOCKETS_PER_SESSION" envDefault:"5000"`
	SocketsPerAddress  string `env:"SOCKETS_PER_ADDRESS" envDefault:"10000"`
	SocketMessageBytes string `env:"SOCKET_MESSAGE_BYTES" envDefault:"16384"`
	SocketIdleSeconds  string `env:"SOCKET_IDLE_SECONDS" envDefault:"120"`

	GeoIPDB   string `env:"GEOIP_DB"`
	AuditDays string `env:"AUDIT_DAYS" envDefault:"0"`
}

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
	known := settingNames()
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
			if near, ok := Nearest(name, known); ok && distance(name, near) == 1 {
				l.warnings = append(l.warnings, Problem{File: environment, Field: name, Text: "is not known", Remedy: "did you mean " + near + "?"}.String())
			}
		}
	}
	var s settings
	// Only texts: this cannot fail for what an operator writes.
	if err := env.ParseWithOptions(&s, env.Options{Environment: values}); err != nil {
		panic(err)
	}
	return s
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

	l.mongo(s)
	l.redis(s)
	// With a shared store and a secret nothing is kept in it.
	c.DataDir = l.dataDir(s.DataDir, !c.Shared() || s.SessionSecret == "" && s.SessionSecretFile == "")
	l.secrets(s)
	c.CookieMaxDays = l.number("COOKIE_MAX_DAYS", s.CookieMaxDays, "a number of days", 1, 3650, 30)
	c.ExpiryWarningThreshold = l.duration("SESSION_EXPIRATION_MESSAGE_THRESHOLD", s.ExpiryThreshold, "minutes", time.Minute, 1, 60*24*365, 60)
	c.ExpiryWarningInterval = l.duration("SESSION_EXPIRATION_MESSAGE_INTERVAL", s.ExpiryInterval, "minutes", time.Minute, 1, 60*24, 5)

	c.RateLimitWindow = l.duration("RATE_LIMIT_WINDOW", s.RateLimitWindow, "milliseconds", time.Millisecond, 1, 24*60*60*1000, 60000)
	c.RateLimitMax = l.number("RATE_LIMIT_MAX", s.RateLimitMax, "a number of attempts", 1, 1_000_000, 10)
	c.LoginAttemptLife = l.duration("LOGIN_ATTEMPT_MINUTES", s.LoginAttempt, "minutes", time.Minute, 5, 60*24, 60)
	c.ChallengeBits = l.number("CHALLENGE_BITS", s.ChallengeBits, "a number of bits", 4, 20, 14)
	l.proxies(s.TrustedProxies)

	c.JWTPrivateKeyPath, c.JWTPublicKeyPath = l.keyFiles(s.JWTPrivateKeyPath, s.JWTPublicKeyPath)
	c.JWTAlgorithm = l.oneOf("JWT_ALGORITHM", s.JWTAlgorithm, algorithms, "RS256")
	c.JWTExpiresIn = l.duration("JWT_EXPIRES_IN", s.JWTExpiresIn, "seconds", time.Second, 0, 60*60*24*365, 120)
	c.AccessTokenLife = l.duration("ACCESS_TOKEN_SECONDS", s.AccessTokenSeconds, "seconds", time.Second, 30, 60*60*24, 600)
	c.RefreshIdle = l.duration("REFRESH_TOKEN_IDLE_DAYS", s.RefreshIdleDays, "days", 24*time.Hour, 1, 3650, 14)
	c.RefreshLife = l.duration("REFRESH_TOKEN_MAX_DAYS", s.RefreshMaxDays, "days", 24*time.Hour, 1, 3650, 90)
	c.LegacyFlows = l.oneOf("OIDC_LEGACY_FLOWS", s.LegacyFlows, []string{"true", "false"}, "false") == "true"
	c.ClientRegistration = l.oneOf("CLIENT_REGISTRATION", s.Registration, []string{"off", "token", "open"}, "off")
	c.ClientRegistrationLimit = l.number("CLIENT_REGISTRATION_LIMIT", s.RegistrationLimit, "a number of clients", 1, 1_000_000, 10_000)
	// Less than five minutes would be of no use: for so long the JWKS is cached.
	c.KeyPublishFor = l.duration("KEY_PUBLISH_MINUTES", s.KeyPublishMinutes, "minutes", time.Minute, 5, 60*24, 60)
	c.KeyRotateEvery = l.duration("KEY_ROTATION_DAYS", s.KeyRotationDays, "days", 24*time.Hour, 0, 3650, 90)
	if c.JWTExpiresIn < 10*time.Second {
		l.warn("JWT_EXPIRES_IN", "less than 10 seconds is too short to use a token, 10 is taken", "write 10 or more")
		c.JWTExpiresIn = 10 * time.Second
	}

	c.ProvidersPath = l.resolve(s.ProvidersPath)
	c.ApplicationsPath = l.resolve(s.ApplicationsPath)
	c.Verbosity = l.oneOf("VERBOSITY", s.Verbosity, []string{"log", "warn", "error"}, "log")
	c.StopDelay = l.duration("STOP_DELAY_SECONDS", s.StopDelaySeconds, "seconds", time.Second, 0, 300, 5)
	l.tls(s)
	l.smtp(s)
	l.sms(s)
	l.metrics(s)

	c.MaxSocketsPerSession = l.number("SOCKETS_PER_SESSION", s.SocketsPerSession, "a number of sockets", 1, 10_000_000, 5000)
	c.MaxSocketsPerAddress = l.number("SOCKETS_PER_ADDRESS", s.SocketsPerAddress, "a number of sockets", 1, 10_000_000, 10000)
	c.MaxSocketMessage = int64(l.number("SOCKET_MESSAGE_BYTES", s.SocketMessageBytes, "a number of bytes", 1024, 16<<20, 16384))
	c.GeoIPPath = l.resolve(s.GeoIPDB)
	c.AuditPeriod = l.duration("AUDIT_DAYS", s.AuditDays, "days", 24*time.Hour, 0, 36500, 0)
	c.SocketIdleTimeout = l.duration("SOCKET_IDLE_SECONDS", s.SocketIdleSeconds, "seconds", time.Second, 1, 60*60*24, 120)
}
