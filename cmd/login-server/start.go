package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"login-server/cluster"
	"login-server/config"
	"login-server/geo"
	"login-server/hashing"
	"login-server/oidc"
	"login-server/providers"
	"login-server/static"
	"login-server/store/sqlite"
	"login-server/templates"
	"login-server/token"
	"login-server/web"
)

// server is a program with what it needs to answer requests.
type server struct {
	*program
	app *app
	cfg *config.Config
	log *slog.Logger
	dev bool

	listener, metrics net.Listener // metrics is nil without METRICS_ADDR
	lock              *dataLock
	node              *cluster.Node // nil with the embedded store
	certificate       *certificate  // nil without TLS
	providers         *providers.Set
	places            *geo.Places // nil without GEOIP_DB
	tokens            *token.Manager
	files             *static.Files
	pages             *templates.Set
	web               *web.Server
	hasher            *hashing.Hasher
	inUse             stamps        // the files as they were when they were read
	keysMoved         chan struct{} // has one when keys in the store may be others
	// made lists what was created because it was missing, for the operator.
	made []made
}

// made is something that the server has created.
type made struct{ path, what string }

// start checks everything first, then makes what is missing, then opens the rooms.
// What is wrong comes as one *config.Problems; nothing has been made then. When ctx ends
// meanwhile nothing is wrong, and the error is context.Canceled.
func (a *app) start(ctx context.Context, dev bool) (_ *server, err error) {
	s := &server{app: a, dev: dev, keysMoved: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, err
		}
		return nil, config.Join(err)
	}
	return s, nil
}

// prepare finds all that keeps the server from starting. It takes the ports and,
// where there is one, the data folder: a second start must not touch what the first
// one uses.
func (s *server) prepare(ctx context.Context) error {
	a := s.app
	cfg, warnings, err := config.Load(a.dir, a.env)
	problems := []error{err}
	if !complained(err, "PORT") {
		if s.listener, err = net.Listen("tcp", fmt.Sprintf(":%d", cfg.Port)); err != nil {
			problems = append(problems, portProblem("PORT", fmt.Sprint(cfg.Port), err))
		} else if cfg.Port == 0 {
			// The system has chosen one; settings that follow from it are read again.
			a.env = append(slices.Clone(a.env), fmt.Sprintf("PORT=%d", s.listener.Addr().(*net.TCPAddr).Port))
			cfg, warnings, problems[0] = config.Load(a.dir, a.env)
		}
	}
	s.cfg, s.log = cfg, a.logger(cfg.Verbosity)
	s.inUse = s.stamps()
	if cfg.MetricsAddr != "" {
		if s.metrics, err = net.Listen("tcp", cfg.MetricsAddr); err != nil {
			problems = append(problems, portProblem("METRICS_ADDR", cfg.MetricsAddr, err))
		}
	}
	set, more, err := providers.Open(cfg, providers.Deps{Log: s.log, Version: version})
	s.providers = set
	for _, warning := range append(warnings, more...) {
		s.log.Warn(warning)
	}
	problems = append(problems, err, oidc.Check(cfg.Applications, cfg.LegacyFlows), factorProblem(cfg))

	if cfg.TLSCertPath != "" && !complained(problems[0], "TLS_CERT_PATH") && !complained(problems[0], "TLS_KEY_PATH") {
		s.certificate, err = loadCertificate(cfg)
		problems = append(problems, err)
	}
	if cfg.GeoIPPath != "" {
		s.places, err = openPlaces(cfg)
		problems = append(problems, err)
	}
	if cfg.JWTPrivateKeyPath != "" {
		_, err = checkKeyFiles(cfg)
		problems = append(problems, err)
	}
	if !complained(problems[0], "DATA_DIR") {
		_, err = readSecret(cfg)
		problems = append(problems, err, s.takeLock())
	}
	s.files = static.New(static.Options{Dir: filepath.Join(cfg.Dir, "static"), Dev: s.dev})
	s.pages, err = templates.New(templates.Options{Dir: filepath.Join(cfg.Dir, "templates"), Dev: s.dev, Asset: s.files.Asset})
	problems = append(problems, templateProblem(err))
	if s.dev && cfg.Production() {
		problems = append(problems, problem("", "--dev", "shows invented people and reads files at every request, which is not for production", "leave it out, or set NODE_ENV=development"))
	}
	err = config.Join(problems...)
	if err != nil && !cfg.Shared() && !complained(err, "DATA_DIR") {
		_, broken := sqlite.Inspect(ctx, databasePath(cfg)) // open would be the next to complain
		err = config.Join(err, databaseProblem(cfg, broken))
	}
	return err
}

// factorProblem finds applications that want a second factor where nobody can have one.
func factorProblem(cfg *config.Config) error {
	if slices.ContainsFunc(cfg.Providers, func(p config.Provider) bool { return p.Strategy == "account" && !p.Disabled }) {
		return nil
	}
	var problems []config.Problem
	for _, app := range cfg.Applications {
		if app.RequireMFA {
			problems = append(problems, app.Problem("require_mfa", "is true, but nobody can have a second factor here", `add a provider with the strategy "account", or remove it`))
		}
	}
	if problems == nil {
		return nil
	}
	return &config.Problems{Problems: problems}
}

// takeLock takes the data folder, if there is one. Of servers on a shared store several
// may have one folder, for nothing is in it but the secret.
func (s *server) takeLock() error {
	if s.lock != nil || s.cfg.Shared() {
		return nil
	}
	var err error
	s.lock, err = lockData(s.cfg.DataDir, s.cfg.BaseURL.String())
	switch {
	case errors.Is(err, fs.ErrNotExist), lacksFolder(err):
		return nil
	case errors.Is(err, errLocked):
		holder := strings.TrimPrefix(err.Error(), errLocked.Error())
		return problem("", "DATA_DIR", config.Quote(shown(s.cfg.DataDir))+" is used by another server"+holder, "stop that one, or give this one a folder of its own")
	case err != nil:
		return problem("", "DATA_DIR", config.Quote(shown(s.cfg.DataDir))+" cannot be locked ("+config.Reason(err)+")", "give this program's user the folder and what is in it (chown)")
	}
	return nil
}

// open makes what is missing and opens the rooms.
func (s *server) open(ctx context.Context) error {
	cfg := s.cfg
	contents := "database and secret"
	if cfg.Shared() {
		contents = "secret; other nodes need the same"
	}
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, fs.ErrNotExist) && !(cfg.Shared() && len(cfg.SessionSecrets) > 0) {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return problem("", "DATA_DIR", config.Quote(shown(cfg.DataDir))+" cannot be made ("+config.Reason(err)+")", "make its parent writable, or write another path")
		}
		s.made = append(s.made, made{shown(cfg.DataDir) + string(filepath.Separator), contents})
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	newSecret := len(cfg.SessionSecrets) == 0
	if newSecret {
		if err := makeSecret(cfg); err != nil {
			return problem(shown(secretPath(cfg)), "", "cannot be written ("+config.Reason(err)+")", "make "+shown(cfg.DataDir)+" writable, or set SESSION_SECRET")
		}
		s.made = append(s.made, made{shown(secretPath(cfg)), "SESSION_SECRET; who has it can read cookies"})
	}
	if err := s.ensureKeys(); err != nil {
		return err
	}
	sealer, err := token.NewSealer(cfg.SessionSecrets, "upstream tokens")
	if err != nil {
		return err
	}
	if s.program, err = openProgram(ctx, cfg, s.log, upstream{sealer, s.providers.Exposes}); err != nil {
		return databaseProblem(cfg, err)
	}
	if newSecret {
		err = s.newcomer(ctx)
	}
	if err == nil {
		err = s.join(ctx)
	}
	if err != nil {
		if newSecret {
			_ = os.Remove(secretPath(cfg)) // the others have theirs
		}
		return err
	}
	if err := s.adopt(ctx); err != nil {
		return databaseProblem(cfg, err)
	}
	if err := s.warnOfFactors(ctx); err != nil {
		return databaseProblem(cfg, err)
	}
	if s.tokens, err = s.openTokens(ctx, s.node, s.providers); err != nil {
		return keyProblem(cfg, err)
	}
	tickets, err := token.NewTickets(s.guard, cfg.SessionSecrets, s.clock.Now)
	if err != nil {
		return err
	}
	s.hasher = s.newHasher()
	s.web, err = web.New(web.Deps{
		Hasher: s.hasher,
		Config: cfg, Store: s.guard, Users: s.users, Sessions: s.sessions, Credentials: s.credentials, Tokens: s.tokens, Tickets: tickets,
		Providers: s.providers, Bus: s.bus, Heard: s.otherNodes(), Nodes: s.living(), Redis: s.redis, RedisName: installation(cfg), Logouts: s.logouts, Places: s.places, Audit: s.audit, Notify: s.notify, Templates: s.pages, Static: s.files, Clock: s.clock, Log: s.log, Version: version, Dev: s.dev,
	})
	return err
}

// warnOfFactors tells an operator who has turned the accounts off that live here, or given them
// another id, what that means: second factors are asked of nobody, or identities are nobody's.
func (s *server) warnOfFactors(ctx context.Context) error {
	kept, err := s.credentials.Count(ctx)
	if err != nil || kept == 0 {
		return err
	}
	local, ok := s.providers.Local()
	if !ok {
		s.log.Warn("no provider has the strategy account: nobody is asked for a second factor", "credentials", kept)
		return nil
	}
	linked, err := s.users.Count(ctx, local.ID)
	if err == nil && linked == 0 {
		s.log.Warn("nobody has an identity at the provider of accounts that live here: did it have another id?", "provider", local.ID, "credentials", kept)
	}
	return err
}

// ensureKeys makes the key pair where it is to be in files that are missing.
func (s *server) ensureKeys() error {
	cfg := s.cfg
	if cfg.JWTPrivateKeyPath == "" {
		return nil
	}
	fresh, err := token.EnsureKeys(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, cfg.JWTAlgorithm)
	if err != nil {
		return keyProblem(cfg, err)
	}
	if fresh {
		s.inUse = s.stamps()
		s.made = append(s.made, made{shown(cfg.JWTPrivateKeyPath), "signs tokens"}, made{shown(cfg.JWTPublicKeyPath), "verifies them"})
	}
	return nil
}

// close gives back what prepare and open have taken.
func (s *server) close() {
	for _, l := range []net.Listener{s.listener, s.metrics} {
		if l != nil {
			_ = l.Close() // closed already, if it has served
		}
	}
	if s.hasher != nil {
		s.hasher.Close()
	}
	if s.node != nil {
		wait, cancel := context.WithTimeout(context.Background(), farewell)
		if err := s.node.Leave(wait); err != nil {
			s.log.Warn("the other nodes miss this one for a minute", "err", err)
		}
		cancel()
	}
	if s.program != nil {
		if err := s.program.close(); err != nil {
			s.log.Error("close database", "err", err)
		}
	}
	if s.lock != nil {
		_ = s.lock.release()
	}
}

// announce says what was made, where the server is, and how to get in.
func (s *server) announce() {
	w := s.app.stderr
	if s.app.json {
		for _, m := range s.made {
			s.log.Info("made", "path", m.path, "what", m.what)
		}
		s.log.Info("ready", "version", version, "url", s.cfg.BaseURL.String())
		return
	}
	for _, m := range s.made {
		fmt.Fprintf(w, "Made %s (%s)\n", m.path, m.what)
	}
	fmt.Fprintf(w, "Login Server %s is ready at %s\n", version, s.cfg.BaseURL)
	if hint := demoHint(s.cfg); hint != "" {
		fmt.Fprintln(w, hint)
	}
}

// demoHint tells how to sign in for the first time, where a demo provider is enabled.
func demoHint(cfg *config.Config) string {
	for _, p := range cfg.Providers {
		if p.Disabled || !p.Demo || p.Strategy != "local" {
			continue
		}
		var options struct {
			Users []providers.LocalUser `json:"users"`
		}
		if json.Unmarshal(p.Options, &options) == nil && slices.ContainsFunc(options.Users, func(u providers.LocalUser) bool { return u.Username == "demo" }) {
			return "Sign in with demo / demo; add people with: login-server provider local add"
		}
	}
	return ""
}

// problem is a single complaint as an error.
func problem(file, field, text, remedy string) error {
	return &config.Problems{Problems: []config.Problem{{File: file, Field: field, Text: text, Remedy: remedy}}}
}

// complained tells whether a setting is among what is wrong.
func complained(err error, field string) bool {
	problems, ok := errors.AsType[*config.Problems](err)
	return ok && slices.ContainsFunc(problems.Problems, func(p config.Problem) bool { return p.Field == field })
}

func portProblem(field, value string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return problem("", field, value+" is in use by another program", "stop that one, or write another port")
	case errors.Is(err, syscall.EACCES):
		return problem("", field, value+" is only for the system's own services", "write a port from 1024 on, or allow it (setcap cap_net_bind_service=+ep on this program)")
	}
	return problem("", field, value+" cannot be used ("+err.Error()+")", "write another one")
}

// checkKeyFiles looks at the pair that is to be in files. Only a server by itself makes one:
// of several nodes each would make another, and sign what no other verifies.
func checkKeyFiles(cfg *config.Config) (token.KeyInfo, error) {
	info, err := token.CheckKeys(cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, cfg.JWTAlgorithm)
	if err == nil && info.Missing && cfg.Shared() {
		return info, problem("", "JWT_PRIVATE_KEY_PATH", config.Quote(shown(cfg.JWTPrivateKeyPath))+" does not exist, and each node would make a pair of its own",
			"give all nodes the same two files, or set this and JWT_PUBLIC_KEY_PATH to nothing: the pair is then in the database")
	}
	return info, keyProblem(cfg, err)
}

// keyProblem says what is wrong with the key files in the form of all problems.
func keyProblem(cfg *config.Config, err error) error {
	e, ok := errors.AsType[*token.KeyError](err)
	if !ok {
		return err // nil, or an algorithm that config has complained about
	}
	var pairs []string
	for _, path := range []string{cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath, filepath.Dir(cfg.JWTPrivateKeyPath), filepath.Dir(cfg.JWTPublicKeyPath)} {
		pairs = append(pairs, path, shown(path))
	}
	short := strings.NewReplacer(pairs...)
	return problem(shown(e.File), "", short.Replace(e.Text), short.Replace(e.Remedy))
}

// openPlaces opens the database of places.
func openPlaces(cfg *config.Config) (*geo.Places, error) {
	p, err := geo.Open(cfg.GeoIPPath)
	return p, placesProblem(cfg, err)
}

// placesProblem says what is wrong with the database of places.
func placesProblem(cfg *config.Config, err error) error {
	const remedy = "write the path of a City or Country database in MaxMind's format (GeoLite2-City.mmdb), or leave it out"
	switch name := config.Quote(shown(cfg.GeoIPPath)); {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return problem("", "GEOIP_DB", name+" does not exist", remedy)
	case errors.Is(err, geo.ErrFormat):
		return problem("", "GEOIP_DB", name+" "+err.Error(), remedy)
	default:
		return problem("", "GEOIP_DB", name+" cannot be read ("+config.Reason(err)+")", "let this program read it, or leave it out")
	}
}

// placed is how html/template names a place: login.html:3:14: …
var placed = regexp.MustCompile(`^([^:\s]+):(\d+)(?::\d+)?: (.*)$`)

// templateProblem says what is wrong with a page of the operator.
func templateProblem(err error) error {
	if err == nil {
		return nil
	}
	const remedy = "correct the file, or remove it to have the built-in one"
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "templates: "), "template: ")
	if m := placed.FindStringSubmatch(text); m != nil {
		return problem("templates/"+m[1], "line "+m[2], m[3], remedy)
	}
	return problem("templates", "", text, remedy)
}
