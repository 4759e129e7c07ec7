package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the complaints that the program makes into testdata")

// TestComplaints loads the directories in testdata/complaints and compares every
// line that an operator would read. The comment of an archive is the process
// environment; its file "problems" is the error, "warnings" the warnings.
func TestComplaints(t *testing.T) {
	files, err := filepath.Glob("testdata/complaints/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := map[string]string{}
			for _, f := range archive.Files {
				if f.Name == "problems" || f.Name == "warnings" {
					want[f.Name] = string(f.Data)
					continue
				}
				write(t, dir, f.Name, string(f.Data))
			}
			var environ []string
			for line := range strings.SplitSeq(string(archive.Comment), "\n") {
				if strings.Contains(line, "=") && !strings.HasPrefix(line, "#") {
					environ = append(environ, line)
				}
			}
			cfg, warnings, err := Load(dir, environ)
			if cfg == nil {
				t.Fatal("no Config")
			}
			got := map[string]string{}
			if err != nil {
				got["problems"] = strings.ReplaceAll(err.Error(), dir, "$DIR") + "\n"
			}
			for _, w := range warnings {
				got["warnings"] += strings.ReplaceAll(w, dir, "$DIR") + "\n"
			}
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "problems" || f.Name == "warnings" })
				for _, name := range []string{"problems", "warnings"} {
					if got[name] != "" {
						archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(got[name])})
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("complaints (-want +got):\n%s", diff)
			}
		})
	}
}

func write(t testing.TB, dir, name, data string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// load fails the test when there is a problem.
func load(t testing.TB, dir string, environ ...string) (*Config, []string) {
	t.Helper()
	cfg, warnings, err := Load(dir, environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, warnings
}

func TestDefaults(t *testing.T) {
	dir := t.TempDir()
	cfg, warnings := load(t, dir)
	if cfg.BaseURL.String() != "http://localhost:3004/" || cfg.Origin() != "http://localhost:3004" {
		t.Errorf("BaseURL %s, origin %s", cfg.BaseURL, cfg.Origin())
	}
	cfg.BaseURL, cfg.originSet = nil, nil
	want := &Config{
		Port: 3004, Title: "Login Server", AllowedOrigins: []string{"http://localhost:3004"}, Env: "development",
		DataDir: filepath.Join(dir, "data"), CookieMaxDays: 30,
		ExpiryWarningThreshold: time.Hour, ExpiryWarningInterval: 5 * time.Minute,
		RateLimitWindow: time.Minute, RateLimitMax: 10, LoginAttemptLife: time.Hour, ChallengeBits: 14,
		AccessTokenLife: 10 * time.Minute, RefreshIdle: 14 * 24 * time.Hour, RefreshLife: 90 * 24 * time.Hour,
		ClientRegistration: "off", ClientRegistrationLimit: 10_000,
		KeyPublishFor: time.Hour, KeyRotateEvery: 90 * 24 * time.Hour,
		SMS:               SMS{PerDay: 200},
		JWTPrivateKeyPath: filepath.Join(dir, "private.key"), JWTPublicKeyPath: filepath.Join(dir, "public.key"),
		JWTAlgorithm: "RS256", JWTExpiresIn: 2 * time.Minute,
		ProvidersPath: filepath.Join(dir, "providers.json"), ApplicationsPath: filepath.Join(dir, "applications.json"),
		Verbosity:            "log",
		MaxSocketsPerSession: 5000, MaxSocketsPerAddress: 10000, MaxSocketMessage: 16384, SocketIdleTimeout: 2 * time.Minute,
		Dir: dir,
	}
	if diff := cmp.Diff(want, cfg, cmp.AllowUnexported(Config{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "nobody could sign in") {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestEverySetting(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "secret", "a first secret of the file\na second secret of the file\n")
	write(t, dir, ".env", `
PORT=8000
BASE_URL=HTTPS://Login.Example.ORG:443/login
TITLE="Our login" # a comment
export ALLOWED_ORIGINS=https://App.example.org/, http://localhost:8080,https://app.example.org:443 , https://bücher.example
ENV=test
IMPRINT_URL=https://example.org/imprint
DATA_DIR=/var/empty
SESSION_SECRET_FILE=secret
TRUSTED_PROXIES=10.1.2.3, 10.9.9.9/8,::1,::ffff:192.0.2.1
JWT_ALGORITHM=EdDSA
JWT_EXPIRES_IN=600
METRICS_ADDR=127.0.0.1:9464
METRICS_TOKEN=0123456789abcdef
RATE_LIMIT_MAX=
`)
	cfg, _ := load(t, dir, "PORT=9000", "TITLE=", "RATE_LIMIT_WINDOW=1000", "DATA_DIR="+dir)
	got := map[string]any{
		"port": cfg.Port, "base": cfg.BaseURL.String(), "title": cfg.Title, "origins": cfg.AllowedOrigins, "env": cfg.Env,
		"imprint": cfg.ImprintURL, "data": cfg.DataDir, "secrets": cfg.SessionSecrets, "window": cfg.RateLimitWindow, "max": cfg.RateLimitMax,
		"algorithm": cfg.JWTAlgorithm, "expires": cfg.JWTExpiresIn, "addr": cfg.MetricsAddr, "token": cfg.MetricsToken,
	}
	want := map[string]any{
		"port": 9000, "base": "https://login.example.org/login/", "title": "Our login",
		"origins": []string{"https://login.example.org", "https://app.example.org", "http://localhost:8080", "https://xn--bcher-kva.example"},
		"env":     "test", "imprint": "https://example.org/imprint", "data": dir,
		"secrets": []string{"a first secret of the file", "a second secret of the file"},
		"window":  time.Second, "max": 10, "algorithm": "EdDSA", "expires": 10 * time.Minute, "addr": "127.0.0.1:9464", "token": "0123456789abcdef",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.1/32")}
	if !slices.Equal(cfg.TrustedProxies, proxies) {
		t.Errorf("proxies %v, want %v", cfg.TrustedProxies, proxies)
	}
	if _, set := os.LookupEnv("JWT_ALGORITHM"); set {
		t.Error("reading .env changed the process environment")
	}
}

// TestSecretsAreNotShown writes secrets into every place that has one, each in a way
// that is complained about.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "hunter2"
	for _, dotEnv := range []string{
		"SESSION_SECRET=" + secret,
		"METRICS_TOKEN=" + secret,
		"MONGO_PASS=" + secret,
		"MONGO_PASS=" + secret + "\nMONGO_USER=me\nMONGO_HOST=me:" + secret + "@localhost",
		"MONGO_URI=http://user:" + secret + "@localhost/db",
		"MONGO_URI=mongodb://user:" + secret + "/@localhost/db",
		"MONGO_URI=mongodb://user:" + secret + "@localhost/a%zz",
		"MONGO_URI=mongodb://user:" + secret + "@localhost/\nMONGO_USER=me",
		"REDIS_URL=http://:" + secret + "@localhost",
		"REDIS_URL=redis://:" + secret + "%zz@localhost",
		"BASE_URL=https://user:" + secret + "@example.org/",
		"BASE_URL=https://user:" + secret + "@exa mple.org/",
		"ALLOWED_ORIGINS=https://user:" + secret + "@example.org",
		"IMPRINT_URL=ftp://user:" + secret + "@example.org",
		"SESSION-SECRET=" + secret,
		"SESSION_SECRET='" + secret,
		"# fine\nTITLE=x\n!\nSESSION_SECRET=" + secret,
	} {
		dir := t.TempDir()
		write(t, dir, ".env", dotEnv)
		_, warnings, err := Load(dir, nil)
		if err == nil {
			t.Errorf("%s: no complaint", dotEnv)
			continue
		}
		if text := err.Error() + strings.Join(warnings, "\n"); strings.Contains(text, secret) {
			t.Errorf("%s: the complaint shows the secret: %s", dotEnv, text)
		}
	}
}

func TestUnwritableDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can write everywhere")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o500); err != nil {
		t.Fatal(err)
	}
	_, _, err := Load(dir, nil)
	if err == nil || !strings.Contains(err.Error(), `DATA_DIR: "./data" cannot be written by this program; give its user the directory (chown), or write another path`) {
		t.Errorf("got %v", err)
	}
}

// TestShippedFiles: the files of a fresh clone start in development without a
// complaint, and .env.example names every setting with its default.
func TestShippedFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"providers.json", "applications.json"} {
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, string(data))
	}
	if cfg, warnings := load(t, dir); len(warnings) > 0 || len(cfg.Providers) < 5 || len(cfg.Applications) < 1 {
		t.Errorf("warnings %q, %d providers, %d applications", warnings, len(cfg.Providers), len(cfg.Applications))
	}
	_, _, err := Load(dir, []string{"NODE_ENV=production", "BASE_URL=https://login.example.org/"})
	if err == nil || strings.Count(err.Error(), "demo:") != 2 {
		t.Errorf("the demo providers start in production: %v", err)
	}

	example, err := os.ReadFile("../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# ([A-Z_]+)=(.*)$`).FindAllStringSubmatch(string(example), -1) {
		documented[m[1]] = m[2]
	}
	params, err := env.GetFieldParams(&settings{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, p := range params {
		want[p.Key] = p.DefaultValue
	}
	delete(want, "ENV")
	want["NODE_ENV"] = "development"
	if diff := cmp.Diff(want, documented); diff != "" {
		t.Errorf(".env.example (-settings +documented):\n%s", diff)
	}
	if cfg, _ := loadText(t, regexp.MustCompile(`(?m)^# ([A-Z_]+=.+)$`).ReplaceAllString(string(example), "$1")); cfg.Port != 3004 {
		t.Error("the uncommented example is not the default")
	}
}

func loadText(t testing.TB, dotEnv string) (*Config, []string) {
	dir := t.TempDir()
	write(t, dir, ".env", dotEnv)
	return load(t, dir)
}

func TestJoin(t *testing.T) {
	if err := Join(nil, nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	err := Join(nil, &Problems{[]Problem{{File: "a", Text: "is wrong", Remedy: "write b"}}}, os.ErrClosed, &Problems{[]Problem{{Text: "c"}}})
	const want = "login-server: 3 problems, not started\n  a: is wrong; write b\n  file already closed\n  c"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNearest(t *testing.T) {
	names := settingNames()
	for name, want := range map[string]string{
		"ALLOWED_ORIGIN": "ALLOWED_ORIGINS", "allowedOrigins": "ALLOWED_ORIGINS", "COOKIE_MAX_DAY": "COOKIE_MAX_DAYS", "BASEURL": "BASE_URL",
		"PROT": "PORT", "JWT_EXPRIES_IN": "JWT_EXPIRES_IN", "HOST": "", "FOO": "", "TLS_CERT": "TLS_CERT_PATH", "SESSION": "", "SOMETHING_ELSE_ENTIRELY": "", "": "",
	} {
		if got, _ := Nearest(name, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
