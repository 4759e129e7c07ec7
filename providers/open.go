package providers

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"login-server/clock"
	"login-server/config"
)

// strategies is the whole list, but for goth:NAME; adding one is one file and one line here.
var strategies = map[string]strategy{
	"local":    {options: func() options { return new(localOptions) }},
	"script":   {options: func() options { return new(scriptOptions) }},
	"ldapauth": {options: func() options { return new(ldapOptions) }},
	"easydb":   {options: func() options { return new(easydbOptions) }, exposes: true},
	"cbs":      {options: func() options { return new(cbsOptions) }},
	"test":     {options: func() options { return new(testOptions) }},

	"github":        {options: func() options { return new(githubOptions) }, url: "https://github.com"},
	"orcid":         {options: func() options { return new(orcidOptions) }, url: "https://orcid.org"},
	"google":        {options: func() options { return new(googleOptions) }},
	"mediawiki":     {options: func() options { return new(mediawikiOptions) }, exposes: true, url: "https://www.mediawiki.org/wiki/MediaWiki"},
	"stackexchange": {options: func() options { return new(stackExchangeOptions) }, url: "https://stackexchange.com"},
	"oidc":          {options: func() options { return new(oidcOptions) }},

	"account": {options: func() options { return new(accountOptions) }},
}

// strategyOf finds a strategy by its name.
func strategyOf(name string) (strategy, bool) {
	if name, ok := strings.CutPrefix(name, gothPrefix); ok {
		return gothStrategy(name)
	}
	st, known := strategies[name]
	return st, known
}

type strategy struct {
	options func() options
	// url is where people read about the provider, unless its entry says so.
	url string
	// exposes: the strategy can hand on what the provider gives to act there in a
	// person's name (exposeUpstreamToken).
	exposes bool
}

// options is what stands under "options" of an entry, a struct that config.Decode
// fills. open checks it and gives p its abilities; what is wrong goes to e, all of
// it, and p is thrown away then.
type options interface {
	open(e *entry, p *Provider)
}

// Deps is what providers need from the program.
type Deps struct {
	// Log hears of refusals with a cause that an operator can remove, such as a filter
	// that matches several people; nil: nobody does. Failures are returned, not logged.
	Log *slog.Logger
	// Version stands in the User-Agent of requests to other servers.
	Version string
	// Clock is the time that tokens of other servers are judged by; nil is the system's.
	Clock clock.Clock
	// Transport carries those requests; nil is one with time limits of its own.
	Transport http.RoundTripper
	// RefusalStep rounds the time of a refusal up, where another machine or a program
	// decides: see pace. 0 is 250 ms; negative turns it off, for tests.
	RefusalStep time.Duration
}

// Provider is an enabled entry of providers.json with what it can do.
type Provider struct {
	config.Provider
	// Checker is nil when people do not sign in with a password here. It refuses what
	// cannot be a username or a password before the strategy is asked, and completes
	// the profile (Provider, URI), so that no strategy has to.
	Checker Checker
	// Website is nil when people do not sign in on pages of the provider's own. It checks
	// and completes in the same way.
	Website Website
	// Account is nil unless the accounts of the provider live here. Exactly one of Checker,
	// Website and Account is set.
	Account *Account
	// AnswerKey is the parameter by which the answer of a Website names its login.
	AnswerKey string
	// FormPost: the answer of a Website may come as a form that is posted from its pages
	// (OAuth 2.0 Form Post Response Mode).
	FormPost bool
	// Callback is the redirect URI to register with a Website.
	Callback string
	// Prober is nil when there is nothing to reach.
	Prober Prober

	// discovery is nil where nothing that can grow old is known of the other side.
	discovery *discovery
	health    health
}

// Set is the enabled providers in the order of the file. It is safe for concurrent
// use, and can be filled anew while logins run.
type Set struct {
	deps     Deps
	current  atomic.Pointer[generation]
	reloaded chan struct{} // tells Run
}

type generation struct {
	list []*Provider
	byID map[string]*Provider
}

// Open opens the enabled providers of cfg. The error is a *config.Problems with
// everything that is wrong in them; warnings are lines for the log. When Load has
// already found problems Open may be called all the same, to show all at once
// (config.Join).
func Open(cfg *config.Config, deps Deps) (*Set, []string, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = clock.System{}
	}
	deps.RefusalStep = cmp.Or(deps.RefusalStep, 250*time.Millisecond)
	s := &Set{deps: deps, reloaded: make(chan struct{}, 1)}
	warnings, err := s.Reload(cfg)
	if err != nil {
		return nil, warnings, err
	}
	return s, warnings, nil
}

// Reload replaces the providers by those of cfg, which is read anew by config.Load.
// After an error everything stays as it was. Logins that run are finished by the
// provider they began with.
func (s *Set) Reload(cfg *config.Config) (warnings []string, err error) {
	g := &generation{byID: map[string]*Provider{}}
	o := &opening{cfg: cfg, deps: s.deps, client: newClient(s.deps), hashing: make(slots, runtime.GOMAXPROCS(0))}
	if before := s.current.Load(); before != nil {
		o.before = before.byID
	}
	for _, cp := range cfg.Providers {
		if cp.Disabled {
			continue
		}
		if p := o.open(cp); p != nil && g.byID[p.ID] == nil {
			g.list = append(g.list, p)
			g.byID[p.ID] = p
		}
	}
	if len(o.problems) > 0 {
		return o.warnings, &config.Problems{Problems: o.problems}
	}
	s.current.Store(g)
	select {
	case s.reloaded <- struct{}{}:
	default: // Run has not seen the one before yet
	}
	return o.warnings, nil
}

// All is the enabled providers in the order of the file. The slice is shared: it
// must not be changed.
func (s *Set) All() []*Provider { return s.current.Load().list }

// Get finds an enabled provider.
func (s *Set) Get(id string) (*Provider, bool) {
	p, ok := s.current.Load().byID[id]
	return p, ok
}

// Local is the provider whose accounts live here; false if there is none.
func (s *Set) Local() (*Provider, bool) {
	list := s.All()
	if i := slices.IndexFunc(list, func(p *Provider) bool { return p.Account != nil }); i >= 0 {
		return list[i], true
	}
	return nil, false
}

// Exposes tells whether an enabled provider has what it gives to act there in people's
// names handed on to applications (exposeUpstreamToken).
func (s *Set) Exposes(id string) bool {
	p, ok := s.Get(id)
	return ok && p.ExposeUpstreamToken
}

// opening is one run over providers.json.
type opening struct {
	cfg      *config.Config
	deps     Deps
	client   *http.Client
	hashing  slots // shared by all local providers: the processors are, too
	before   map[string]*Provider
	problems []config.Problem
	warnings []string
}

// entry is one provider being opened.
type entry struct {
	*opening
	provider config.Provider
	bad      []config.Problem
}

func (o *opening) open(cp config.Provider) *Provider {
	e := &entry{opening: o, provider: cp}
	defer func() { o.problems = append(o.problems, e.bad...) }()
	st, known := strategyOf(cp.Strategy)
	switch {
	case cp.Strategy == "":
		return nil // config has said so
	case !known:
		text, remedy := unknownStrategy(cp.Strategy)
		e.problem("strategy", text, remedy)
		return nil
	}
	if cp.ExposeUpstreamToken && !st.exposes {
		e.problem("exposeUpstreamToken", "is true, but "+cp.Strategy+" has no token to hand on", "remove it")
	}
	if cp.URL == "" {
		cp.URL = st.url
	}
	opts := st.options()
	for _, bad := range config.Decode(cp.Options, "options", opts) {
		e.problem(bad.Field, bad.Text, bad.Remedy)
	}
	p := &Provider{Provider: cp, Callback: e.callback()}
	opts.open(e, p)
	if p.Checker != nil || p.Account != nil {
		p.CredentialsNecessary = true
	} else if cp.CredentialsNecessary && len(e.bad) == 0 {
		e.problem("credentialsNecessary", "is true, but "+cp.Strategy+" asks for no password here", "remove it")
	}
	return p
}

// problem adds a complaint, unless the same field has one already: a value of a wrong
// type is not missing as well.
func (e *entry) problem(field, text, remedy string) {
	p := e.provider.Problem(field, text, remedy)
	if !slices.ContainsFunc(e.bad, func(b config.Problem) bool { return b.Field == field }) {
		e.bad = append(e.bad, p)
	}
}

func (e *entry) warn(field, text, remedy string) {
	e.warnings = append(e.warnings, e.provider.Problem(field, text, remedy).String())
}

// required complains about an option that is missing.
func (e *entry) required(field, value, remedy string) {
	if value == "" {
		e.problem(field, "is missing", remedy)
	}
}

// checker gives p its ability: c, behind the checks that every strategy needs. paced: see pace.
func (e *entry) checker(p *Provider, c Checker, paced bool) {
	g := &guard{checker: c, provider: p, log: e.deps.Log, now: e.deps.Clock.Now}
	if paced {
		g.step = e.deps.RefusalStep
	}
	p.Checker = g
}

// seconds reads an option that is a number of seconds.
func (e *entry) seconds(field string, value, least, most, instead float64) time.Duration {
	if value == 0 {
		value = instead
	}
	if value < least || value > most {
		e.problem(field, fmt.Sprintf("%v is not between %v and %v seconds", value, least, most), fmt.Sprintf("write %v", instead))
		value = instead
	}
	return time.Duration(value * float64(time.Second))
}
