package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"login-server/config"
	"login-server/session"
)

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
	for _, p := range list {
		if p.ExposeUpstreamToken {
			e.warn(about, fmt.Sprintf("%s (%s) lets every application that gets a person's token act there in the person's name (exposeUpstreamToken)", p.ID, p.Strategy),
				"remove exposeUpstreamToken, unless an application needs it and all of ALLOWED_ORIGINS may have it")
		}
	}
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
	for i, answer := range answers {
		answer()
		if p := list[i]; p.Website != nil {
			e.info(about, "%s: the redirect URI to register there is %s", p.ID, p.Callback)
		}
	}
}

// services says what is on.
func (e *examination) services() {
	if e.broken {
		return
	}
	cfg := e.cfg
	e.info("services", "%s", e.shared())
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
