package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"login-server/config"
	"login-server/oidc"
	"login-server/providers"
	"login-server/static"
	"login-server/store/sqlite"
	"login-server/templates"
)

// configuration checks the three files, as the start of the server does.
func (e *examination) configuration() {
	const about = "configuration"
	cfg, warnings, err := config.Load(e.app.dir, e.app.env)
	e.cfg, e.broken = cfg, err != nil
	set, more, openErr := providers.Open(cfg, providers.Deps{Version: version})
	e.set = set
	clientsErr := oidc.Check(cfg.Applications, cfg.LegacyFlows)
	e.problems(about, config.Join(err, openErr, clientsErr))
	for _, warning := range append(warnings, more...) {
		text, remedy, _ := cutLast(warning, "; ")
		e.warn(about, text, remedy)
	}
	if err != nil || openErr != nil || clientsErr != nil {
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
	if e.cfg.Shared() {
		e.sharedStore(ctx)
		return
	}
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
	if cfg.JWTPrivateKeyPath == "" {
		e.ok(about, "are in the database, encrypted with SESSION_SECRET, for all nodes")
		return
	}
	info, err := checkKeyFiles(cfg)
	switch {
	case err != nil:
		e.problems(about, err)
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

// places says what the database of places is.
func (e *examination) places() {
	const about = "places"
	if e.cfg.GeoIPPath == "" {
		e.info(about, "are unknown: GEOIP_DB names no database")
		return
	}
	p, err := openPlaces(e.cfg)
	if err != nil {
		e.problems(about, err)
		return
	}
	info := p.Info()
	if age := e.wall.Sub(info.Built); age > 180*24*time.Hour {
		e.warn(about, fmt.Sprintf("%s is %s of %s: addresses have moved since", shown(e.cfg.GeoIPPath), info.Type, when(info.Built)), "fetch a newer one (geoipupdate)")
		return
	}
	e.ok(about, "%s is %s of %s", shown(e.cfg.GeoIPPath), info.Type, when(info.Built))
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
