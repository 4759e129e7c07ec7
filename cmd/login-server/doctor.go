package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"login-server/config"
	"login-server/providers"
	"login-server/session"
	"login-server/static"
	"login-server/store/sqlite"
	"login-server/templates"
	"login-server/token"
)

type doctorCmd struct {
	Timeout time.Duration `help:"How long each provider, and the server itself, may take to answer." default:"5s"`
	Offline bool          `help:"Ask no provider and no server, only look at files."`
}

// Help implements kong.HelpProvider.
func (doctorCmd) Help() string {
	return `Looks and changes nothing, beside a running server or without one. Each line is "ok", "info", "warning" or "problem"; the last two say what to do. The exit status is 1 if there is a problem, 0 otherwise.

Examples:

  login-server doctor
  login-server doctor --json | jq 'select(.level == "problem")'`
}

// Levels of findings.
const (
	levelOK      = "ok"
	levelInfo    = "info"
	levelWarning = "warning"
	levelProblem = "problem"
)

// finding is one thing that the doctor has to say.
type finding struct {
	Level  string `json:"level"`
	About  string `json:"about"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// examination is one run of the doctor.
type examination struct {
	doctorCmd
	app    *app
	cfg    *config.Config
	set    *providers.Set // nil when providers.json is not in order
	counts map[string]int
	start  time.Time // with the monotonic clock
	wall   time.Time // without

	// written is when the database was last written to.
	written time.Time
	// broken: the settings are not what the operator wants, so what follows from
	// them is not worth a word.
	broken bool
}

// say reports a finding at once: some of the checks wait for other machines.
func (e *examination) say(level, about, text, remedy string) {
	e.counts[level]++
	if e.app.json {
		_ = writeLine(e.app.stdout, finding{level, about, text, remedy})
		return
	}
	fmt.Fprintf(e.app.stdout, "%-8s %-14s %s\n", level, about, text)
	if remedy != "" {
		fmt.Fprintf(e.app.stdout, "%-8s %-14s → %s\n", "", "", remedy)
	}
}

func (e *examination) ok(about, format string, args ...any) {
	e.say(levelOK, about, fmt.Sprintf(format, args...), "")
}

func (e *examination) info(about, format string, args ...any) {
	e.say(levelInfo, about, fmt.Sprintf(format, args...), "")
}

func (e *examination) warn(about, text, remedy string) { e.say(levelWarning, about, text, remedy) }

func (e *examination) problem(about, text, remedy string) { e.say(levelProblem, about, text, remedy) }

// problems reports what a room has found wrong, in its words.
func (e *examination) problems(about string, err error) {
	list, ok := errors.AsType[*config.Problems](config.Join(err))
	if !ok {
		return
	}
	for _, p := range list.Problems {
		remedy := p.Remedy
		p.Remedy = ""
		e.problem(about, p.String(), remedy)
	}
}

// Run implements the command.
func (c doctorCmd) Run(ctx context.Context, a *app) error {
	now := time.Now()
	e := &examination{doctorCmd: c, app: a, counts: map[string]int{}, start: now, wall: now.Round(0)}
	e.configuration()
	e.overrides()
	e.store(ctx)
	e.keys()
	e.secret()
	e.certificate()
	e.clock()
	e.cookies()
	e.proxy()
	e.port(ctx)
	e.providers(ctx)
	e.services()
	e.steadyClock()
	if !a.json {
		e.conclude()
	}
	if e.counts[levelProblem] > 0 {
		return errSilent
	}
	return nil
}

func (e *examination) conclude() {
	switch p, w := e.counts[levelProblem], e.counts[levelWarning]; {
	case p+w == 0:
		fmt.Fprintln(e.app.stdout, "\nEverything is in order.")
	case p == 0:
		fmt.Fprintf(e.app.stdout, "\nNothing is wrong, %s.\n", count(w, "warning"))
	default:
		fmt.Fprintf(e.app.stdout, "\n%s, %s.\n", count(p, "problem"), count(w, "warning"))
	}
}

// configuration checks the three files, as the start of the server does.
func (e *examination) configuration() {
	const about = "configuration"
	cfg, warnings, err := config.Load(e.app.dir, e.app.env)
	e.cfg, e.broken = cfg, err != nil
	set, more, openErr := providers.Open(cfg, providers.Deps{Version: version})
	e.set = set
	e.problems(about, config.Join(err, openErr))
	for _, warning := range append(warnings, more...) {
		text, remedy, _ := cutLast(warning, "; ")
		e.warn(about, text, remedy)
	}
	if err != nil || openErr != nil {
		return
	}
	enabled := len(set.All())
	e.ok(about, "NODE_ENV=%s, BASE_URL=%s, %s enabled of %d, %s", cfg.Env, cfg.BaseURL, count(enabled, "provider"), len(cfg.Providers), count(len(cfg.Applications), "application"))
	for _, p := range cfg.Providers {
		if p.Demo && !p.Disabled {
			e.info(about, "%s is a demo provider: everybody knows how to sign in, and it does not start in production", p.ID)
		}
	}
	secrets := len(cfg.SessionSecrets) > 0
	for path, private := range map[string]bool{filepath.Join(cfg.Dir, ".env"): secrets, cfg.ProvidersPath: cfg.Production()} {
		if private && e.openTo(path, 0o004) {
			e.warn(about, shown(path)+" holds secrets and can be read by every user of this machine", "chmod o= "+shown(path))
		}
	}
}

// openTo tells whether a file has any of the permissions in mask.
func (e *examination) openTo(path string, mask fs.FileMode) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&mask != 0 && os.PathSeparator == '/'
}

// private complains about a file that others can read. That its group can may be
// meant so: it is how a file of root is given to a service.
func (e *examination) private(about, path, consequence string) {
	switch {
	case e.openTo(path, 0o007):
		e.problem(about, shown(path)+" is open to every user of this machine: "+consequence, "chmod 600 "+shown(path))
	case e.openTo(path, 0o070):
		e.warn(about, shown(path)+" is open to its group: "+consequence, "chmod 600 "+shown(path)+", unless the group is that of the server alone")
	}
}

// overrides tells which built-in files the operator has replaced.
func (e *examination) overrides() {
	for _, folder := range []string{"templates", "static"} {
		var files []string
		root := filepath.Join(e.cfg.Dir, folder)
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				rel, _ := filepath.Rel(root, path)
				files = append(files, rel)
			}
			return nil
		})
		if isSource(root) || len(files) == 0 {
			continue
		}
		e.info(folder, "%s in %s: %s", count(len(files), "own file"), shown(root), strings.Join(files[:min(len(files), 10)], ", "))
	}
	asset := static.New(static.Options{Dir: filepath.Join(e.cfg.Dir, "static")}).Asset
	if _, err := templates.New(templates.Options{Dir: filepath.Join(e.cfg.Dir, "templates"), Asset: asset}); err != nil {
		e.problems("templates", templateProblem(err))
	}
}

// isSource tells the folder of this program's source, whose files are the built-in
// ones, from one of an operator.
func isSource(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, filepath.Base(folder)+".go"))
	return err == nil
}

const (
	scarce = 512 << 20 // bytes left on the disk from which the doctor worries
	none   = 32 << 20  // and from which writes are about to fail
)

func (e *examination) store(ctx context.Context) {
	const about = "store"
	if e.openTo(e.cfg.DataDir, 0o077) {
		e.warn(about, shown(e.cfg.DataDir)+" is open to other users of this machine", "chmod 700 "+shown(e.cfg.DataDir))
	}
	path := databasePath(e.cfg)
	report, err := sqlite.Inspect(ctx, path)
	e.written = report.Written
	switch {
	case lacksFolder(err): // said with DATA_DIR
	case err != nil:
		e.problems(about, databaseProblem(e.cfg, err))
	case report.Missing:
		e.info(about, "%s is made when the server starts", shown(path))
	case report.Damage != nil:
		e.problem(about, shown(path)+" is damaged: "+strings.Join(report.Damage, "; "), "stop the server and restore a backup")
	default:
		e.ok(about, "%s is sound: %s, schema version %d, last written %s", shown(path), size(report.Bytes), report.Schema, when(report.Written))
		if report.Schema < report.Known {
			e.info(about, "the next start brings it up to schema version %d; make a backup before", report.Known)
		}
	}
	e.private(about, path, "they see who has an account")
	folder := e.cfg.DataDir
	for folder != filepath.Dir(folder) {
		if _, err := os.Stat(folder); err == nil {
			break
		}
		folder = filepath.Dir(folder)
	}
	switch free, known := freeSpace(folder); {
	case !known:
	case free < none:
		e.problem(about, "only "+size(free)+" are free where the database is: writes are about to fail", "make room")
	case free < scarce:
		e.warn(about, "only "+size(free)+" are free where the database is", "make room")
	default:
		e.ok(about, "%s are free on the disk", size(free))
	}
}

func (e *examination) keys() {
	const about = "keys"
	cfg := e.cfg
	info, err := token.CheckKeys(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, cfg.JWTAlgorithm)
	switch {
	case err != nil:
		e.problems(about, keyProblem(cfg, err))
	case info.Missing:
		e.info(about, "%s and %s are made when the server starts", shown(cfg.JWTPrivateKeyPath), shown(cfg.JWTPublicKeyPath))
	default:
		e.ok(about, "%s with %s, which belong together; kid %s", cfg.JWTAlgorithm, info.Kind, info.KeyID)
	}
	e.private(about, cfg.JWTPrivateKeyPath, "they can sign tokens")
}

func (e *examination) secret() {
	const about = "secret"
	cfg, path := e.cfg, secretPath(e.cfg)
	if n := len(cfg.SessionSecrets); n > 0 {
		text := "SESSION_SECRET is set"
		if n > 1 {
			text = fmt.Sprintf("SESSION_SECRET has %d secrets: the first signs, all verify", n)
		}
		e.ok(about, "%s", text)
		return
	}
	missing, err := readSecret(cfg)
	switch {
	case e.broken && missing:
	case err != nil:
		e.problems(about, err)
	case missing:
		e.info(about, "SESSION_SECRET is generated when the server starts, and kept in %s", shown(path))
	default:
		e.ok(about, "SESSION_SECRET was generated and is in %s", shown(path))
	}
	e.private(about, path, "they can make cookies")
}

// certificate checks what the start of the server does not mind: names and dates.
func (e *examination) certificate() {
	const about = "certificate"
	cfg := e.cfg
	if cfg.TLSCertPath == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCertPath, cfg.TLSKeyPath)
	if err != nil {
		return // said with the configuration
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return
	}
	left := leaf.NotAfter.Sub(e.wall)
	switch {
	case left < 0:
		e.problem(about, "expired on "+when(leaf.NotAfter), "renew "+shown(cfg.TLSCertPath))
	case e.wall.Before(leaf.NotBefore):
		e.problem(about, "is not valid before "+when(leaf.NotBefore), "check the clock of this machine")
	case left < 14*24*time.Hour:
		e.warn(about, "expires on "+when(leaf.NotAfter), "renew "+shown(cfg.TLSCertPath)+"; the server takes the new one over by itself")
	default:
		e.ok(about, "valid until %s", when(leaf.NotAfter))
	}
	if err := leaf.VerifyHostname(cfg.BaseURL.Hostname()); err != nil && cfg.BaseURL.Scheme == "https" {
		e.warn(about, "is not for "+cfg.BaseURL.Hostname()+", the host of BASE_URL", "have it issued for that name too")
	}
	e.private(about, cfg.TLSKeyPath, "they can pretend to be this server")
}

// tolerance is how far two clocks may differ without a word.
const tolerance = 2 * time.Second

// clock checks that time has not gone back: sessions and tokens go by it.
func (e *examination) clock() {
	const about = "clock"
	const remedy = "set the clock, and keep it right with NTP (timedatectl set-ntp true)"
	if built := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC); e.wall.Before(built) {
		e.problem(about, "shows "+when(e.wall)+", before this program was written", remedy)
		return
	}
	future := false
	for _, file := range []struct {
		what string
		at   time.Time
	}{
		{"the database was last written to", e.written},
		{"the private key was made", modified(e.cfg.JWTPrivateKeyPath)},
		{"the session secret was made", modified(secretPath(e.cfg))},
	} {
		if ahead := file.at.Sub(e.wall); ahead > tolerance {
			future = true
			e.problem(about, fmt.Sprintf("%s at %s, which is %s from now: the clock has gone back", file.what, when(file.at), ahead.Round(time.Second)), remedy)
		}
	}
	if !future {
		e.ok(about, "%s, later than all files", e.wall.UTC().Format(time.RFC3339))
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// steadyClock compares, at the end of the run, the clock on the wall with the one
// that nobody can set.
func (e *examination) steadyClock() {
	now := time.Now()
	step := now.Round(0).Sub(e.wall) - now.Sub(e.start)
	if step.Abs() > tolerance {
		e.warn("clock", fmt.Sprintf("was set by %s while this ran", step.Round(time.Millisecond)), "find out what sets it; let only NTP do it, in small steps")
	}
}

// cookies says in words what browsers do with the session's cookie.
func (e *examination) cookies() {
	const about = "cookies"
	if e.broken {
		return
	}
	cfg := e.cfg
	options := cookieOptions(cfg)
	name := session.NewManager(nil, session.Options{Cookie: options, Now: time.Now}).CookieName()
	others := crossSites(cfg)
	switch {
	case !options.Secure && len(others) > 0:
		e.warn(about, fmt.Sprintf("%s: without https browsers do not send it with requests of other sites, and %s", name, others[0]+" is one"),
			"write an https BASE_URL, or run the application on the same site")
	case !options.Secure:
		e.info(about, "%s: without encryption, for http (SameSite=Lax)", name)
	case len(others) > 0:
		e.ok(about, "%s: over https only; with requests of other sites too (SameSite=None), because %s is allowed", name, others[0])
		e.info(about, "some browsers block cookies of other sites whatever the server says; applications on the same site are not affected")
	default:
		e.ok(about, "%s: over https only; not with requests of other sites (SameSite=Lax)", name)
	}
}

// proxy compares how the server is reached with what it serves.
func (e *examination) proxy() {
	const about = "proxy"
	if e.broken {
		return
	}
	cfg := e.cfg
	scheme, port := "http", fmt.Sprint(cfg.Port)
	if cfg.TLSCertPath != "" {
		scheme = "https"
	}
	public := cfg.BaseURL.Port()
	if public == "" {
		public = map[string]string{"http": "80", "https": "443"}[cfg.BaseURL.Scheme]
	}
	behind := scheme != cfg.BaseURL.Scheme || port != public && cfg.Port != 0
	switch {
	case behind && len(cfg.TrustedProxies) == 0:
		e.warn(about, fmt.Sprintf("BASE_URL is %s, and this server answers %s on port %s: with a proxy between, everybody seems to come from its address and shares one limit", cfg.BaseURL, scheme, port),
			"write the proxy's address into TRUSTED_PROXIES (127.0.0.1,::1 for one on this machine)")
	case behind:
		e.ok(about, "X-Forwarded-For is believed from %s", prefixes(cfg))
	case len(cfg.TrustedProxies) > 0:
		e.info(about, "X-Forwarded-For is believed from %s, though BASE_URL leads here directly", prefixes(cfg))
	default:
		e.ok(about, "none is needed: BASE_URL leads here directly")
	}
}

func prefixes(cfg *config.Config) string {
	var list []string
	for _, p := range cfg.TrustedProxies {
		list = append(list, p.String())
	}
	return strings.Join(list, ", ")
}

// aboutServer is what a running server says of itself.
type aboutServer struct {
	Version string `json:"version"`
	BaseURL string `json:"baseUrl"`
	OK      *int   `json:"ok"`
}

// port finds out whether the server runs, and whether BASE_URL leads to it.
func (e *examination) port(ctx context.Context) {
	const about = "port"
	cfg := e.cfg
	if e.broken || e.Offline {
		return
	}
	holder, running := lockHolder(cfg.DataDir)
	if running {
		e.ok("server", "runs (%s)", holder)
	}
	if cfg.Port == 0 {
		e.info(about, "is chosen by the system at each start")
		return
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", cfg.Port))
	switch {
	case err == nil && running:
		l.Close()
		e.warn(about, fmt.Sprintf("%d is free, although the server runs", cfg.Port), "restart it, if PORT was changed")
		return
	case err == nil:
		l.Close()
		e.info(about, "%d is free: no server is running", cfg.Port)
		return
	case !errors.Is(err, syscall.EADDRINUSE):
		e.problems(about, portProblem("PORT", fmt.Sprint(cfg.Port), err))
		return
	}
	scheme := "http"
	if cfg.TLSCertPath != "" {
		scheme = "https"
	}
	// Whose certificate this is does not matter here: it is asked on this machine.
	found, err := e.ask(ctx, fmt.Sprintf("%s://localhost:%d/about", scheme, cfg.Port), true)
	if err != nil || found.Version == "" {
		e.problem(about, fmt.Sprintf("%d is in use by another program", cfg.Port), "stop that one, or write another PORT")
		return
	}
	if found.BaseURL != cfg.BaseURL.String() {
		e.warn(about, fmt.Sprintf("%d is answered by a server whose BASE_URL is %s", cfg.Port, config.Quote(found.BaseURL)), "restart it if BASE_URL was changed, or write another PORT if it is somebody else's")
		return
	}
	e.ok(about, "%d is answered by login-server %s", cfg.Port, config.Printable(found.Version))
	if found.Version != version {
		e.warn("server", fmt.Sprintf("runs version %s, this is %s", config.Printable(found.Version), version), "restart it")
	}
	if found.OK != nil && *found.OK == 0 {
		e.problem("server", "says that its database does not answer", "look into its log")
	}
	if through, err := e.ask(ctx, cfg.BaseURL.String()+"about", false); err != nil {
		e.warn(about, fmt.Sprintf("BASE_URL does not lead to it from here: %v", err), "check name, proxy and firewall; the path of BASE_URL may be stripped or kept")
	} else if through.BaseURL != found.BaseURL {
		e.warn(about, "BASE_URL leads to another server", "check the proxy")
	} else {
		e.ok(about, "BASE_URL leads to it")
	}
}

// ask asks a server what it is.
func (e *examination) ask(ctx context.Context, url string, anyCertificate bool) (aboutServer, error) {
	var found aboutServer
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return found, err
	}
	client := &http.Client{Transport: &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: anyCertificate},
	}}
	response, err := client.Do(request)
	if err != nil {
		return found, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return found, fmt.Errorf("GET %s answers %s", url, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&found); err != nil {
		return found, fmt.Errorf("GET %s answers something else", url)
	}
	return found, nil
}

// providers asks all providers at once whether they can be reached.
func (e *examination) providers(ctx context.Context) {
	const about = "providers"
	if e.set == nil {
		return
	}
	var disabled []string
	for _, p := range e.cfg.Providers {
		if p.Disabled {
			disabled = append(disabled, p.ID)
		}
	}
	if len(disabled) > 0 {
		e.info(about, "disabled: %s", strings.Join(disabled, ", "))
	}
	list := e.set.All()
	answers := make([]func(), len(list))
	var wg sync.WaitGroup
	for i, p := range list {
		if p.Prober == nil || e.Offline {
			answers[i] = func() { e.ok(about, "%s (%s) is open", p.ID, p.Strategy) }
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, e.Timeout)
			defer cancel()
			began := time.Now()
			err := p.Prober.Probe(ctx)
			took := time.Since(began).Round(time.Millisecond)
			answers[i] = func() {
				if err != nil {
					e.problem(about, fmt.Sprintf("%s (%s) cannot be reached: %v", p.ID, p.Strategy, err), "check its options, the network and the firewall, or disable it")
					return
				}
				e.ok(about, "%s (%s) can be reached (%s)", p.ID, p.Strategy, max(took, time.Millisecond))
			}
		})
	}
	wg.Wait()
	for _, answer := range answers {
		answer()
	}
}

// services says what is on.
func (e *examination) services() {
	if e.broken {
		return
	}
	cfg := e.cfg
	e.info("services", "store: embedded (SQLite), for one server; events: within the process; limits: in memory, %d attempts in %s", cfg.RateLimitMax, cfg.RateLimitWindow)
	var metrics []string
	if cfg.MetricsAddr != "" {
		metrics = append(metrics, "on "+cfg.MetricsAddr)
	}
	if cfg.MetricsToken != "" {
		metrics = append(metrics, "at /metrics with METRICS_TOKEN")
	}
	if metrics == nil {
		metrics = []string{"off"}
	}
	encryption := "off, plain http"
	if cfg.TLSCertPath != "" {
		encryption = "on, 1.2 and 1.3"
	}
	e.info("services", "metrics: %s; TLS: %s", strings.Join(metrics, " and "), encryption)
	if slices.Contains([]string{"development", "test"}, cfg.Env) && cfg.BaseURL.Scheme == "https" {
		e.warn("services", "NODE_ENV is "+cfg.Env+", although BASE_URL is https: what is only fit for trying out is allowed", "set NODE_ENV=production")
	}
}
