package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"login-server/audit"
	"login-server/config"
	"login-server/oidc"
)

type clientCmd struct {
	Add    clientAddCmd    `cmd:"" help:"Add a client of the OpenID Provider."`
	List   clientListCmd   `cmd:"" help:"List clients."`
	Show   clientShowCmd   `cmd:"" help:"Show one client: its metadata, and since when its secrets are good."`
	Secret clientSecretCmd `cmd:"" help:"Give a client a new secret."`
	Revoke clientRevokeCmd `cmd:"" help:"End all tokens of a client, and take back what people have allowed it."`
	Remove clientRemoveCmd `cmd:"" help:"Remove a client, its tokens and what people have allowed it."`
	Token  clientTokenCmd  `cmd:"" help:"Tokens with which clients register themselves: add, list, remove."`
}

// Help implements kong.HelpProvider.
func (clientCmd) Help() string {
	return `Clients are applications that use this server with OpenID Connect or OAuth 2.0. Those of applications.json are changed there; these commands are for those in the database. A running server takes changes over within seconds.`
}

// registry is where clients in the database are kept.
func (p *program) registry() *oidc.Registry { return oidc.NewRegistry(p.guard, p.clock) }

// issuer is what clients are configured with.
func (p *program) issuer() string { return strings.TrimSuffix(p.cfg.BaseURL.String(), "/") }

// listedClient is the entry of applications.json with a client_id.
func (p *program) listedClient(id string) (config.Application, bool) {
	i := slices.IndexFunc(p.cfg.Applications, func(a config.Application) bool { return id != "" && a.ClientID == id })
	if i < 0 {
		return config.Application{}, false
	}
	return p.cfg.Applications[i], true
}

// noClient says that a client cannot be changed here.
func (p *program) noClient(id string, err error) error {
	if !errors.Is(err, oidc.ErrNoClient) {
		return err
	}
	if app, ok := p.listedClient(id); ok {
		return fmt.Errorf("%s is a client of %s (entry %d): change it there", config.Quote(id), app.File, app.Entry)
	}
	return fmt.Errorf("there is no client %s (see: login-server client list)", config.Quote(id))
}

type clientAddCmd struct {
	Name                  string   `help:"Name that people see; asked for if it is missing." placeholder:"NAME"`
	RedirectURI           []string `help:"Where people are sent back to; may be given several times." placeholder:"URI" sep:"none"`
	PostLogoutRedirectURI []string `help:"Where people are sent to after signing out; may be given several times." placeholder:"URI" sep:"none"`
	ID                    string   `help:"The client_id; default: a random one." placeholder:"ID"`
	URL                   string   `help:"Address of the application." placeholder:"URL"`
	Public                bool     `help:"It cannot keep a secret: a single-page, mobile or desktop application."`
	Native                bool     `help:"It runs on people's own machines: its redirect URI may be a scheme of its own, or one on this machine with any port."`
	AuthMethod            string   `help:"token_endpoint_auth_method, if not client_secret_basic." placeholder:"METHOD"`
	JWKSURI               string   `help:"Where its public keys are, for private_key_jwt." placeholder:"URL" name:"jwks-uri"`
	GrantType             []string `help:"grant_types, if not authorization_code and refresh_token; may be given several times." placeholder:"TYPE"`
	Scope                 string   `help:"Scopes that it may ask for, in quotes with spaces between; default: all." placeholder:"SCOPES"`
	Resource              []string `help:"API that it may ask tokens for; may be given several times." placeholder:"URI" sep:"none"`
	Origin                []string `help:"Origin of its pages that call this server; may be given several times." placeholder:"ORIGIN"`
	Logo                  string   `help:"Picture on the consent page." placeholder:"URL"`
	BackchannelLogoutURI  string   `help:"Where its server is told of logouts." placeholder:"URL"`
	Trusted               bool     `help:"People are not asked for consent."`
	FAPI                  bool     `help:"Hold it to the FAPI 2.0 Security Profile." name:"fapi"`
	Metadata              string   `help:"JSON file with client metadata, as in an entry of applications.json; - reads it from standard input. What is given beside it counts more." placeholder:"FILE"`
	Demo                  bool     `help:"A client for a test, and what to do with it."`
}

// Help implements kong.HelpProvider.
func (clientAddCmd) Help() string {
	return `Prints the client_id and, for clients that use one, the secret. The secret is stored hashed and cannot be shown again.

Examples:

  login-server client add --name Catalogue --redirect-uri https://app.example.org/callback
  login-server client add --name Reader --public --redirect-uri https://reader.example.org/ --origin https://reader.example.org
  login-server client add --metadata client.json --json
  login-server client add --demo`
}

const demoRedirect = "http://localhost:8080/callback"

// metadata is what the command line says of the client.
func (c clientAddCmd) metadata(ctx context.Context, a *app) (app config.Application, err error) {
	if c.Metadata != "" {
		if app, err = a.readMetadata(c.Metadata); err != nil {
			return app, err
		}
	}
	set := func(field *string, value string) { *field = cmp.Or(value, *field) }
	setList := func(field *[]string, values []string) {
		if len(values) > 0 {
			*field = values
		}
	}
	set(&app.Name, cmp.Or(c.Name, app.ClientName))
	set(&app.ClientID, c.ID)
	set(&app.URL, cmp.Or(c.URL, app.ClientURI))
	set(&app.TokenEndpointAuthMethod, c.AuthMethod)
	if c.Public {
		if c.AuthMethod != "" && c.AuthMethod != "none" {
			return app, errors.New("--public is --auth-method none: give one of them")
		}
		app.TokenEndpointAuthMethod = "none"
	}
	if c.Native {
		app.ApplicationType = "native"
	}
	set(&app.JWKSURI, c.JWKSURI)
	set(&app.Scope, c.Scope)
	set(&app.LogoURI, c.Logo)
	set(&app.BackchannelLogoutURI, c.BackchannelLogoutURI)
	setList(&app.RedirectURIs, c.RedirectURI)
	setList(&app.PostLogoutRedirectURIs, c.PostLogoutRedirectURI)
	setList(&app.GrantTypes, c.GrantType)
	setList(&app.Resources, c.Resource)
	setList(&app.Origins, c.Origin)
	app.Trusted, app.FAPI = app.Trusted || c.Trusted, app.FAPI || c.FAPI
	if c.Demo {
		set(&app.Name, cmp.Or(app.Name, "Demo"))
		if len(app.RedirectURIs) == 0 {
			app.RedirectURIs = []string{demoRedirect}
		}
	}
	if app.Name == "" {
		if app.Name, err = a.ask(ctx, "Name that people see", ""); err != nil || app.Name == "" {
			return app, missingAnswer(err, "the name is missing: give --name")
		}
	}
	if len(app.RedirectURIs) == 0 && (len(app.GrantTypes) == 0 || slices.Contains(app.GrantTypes, "authorization_code")) {
		uri, err := a.ask(ctx, "Redirect URI", "")
		if err != nil || uri == "" {
			return app, missingAnswer(err, "the redirect URI is missing: give --redirect-uri, or other grant types with --grant-type")
		}
		app.RedirectURIs = []string{uri}
	}
	return app, nil
}

func missingAnswer(err error, text string) error {
	if err == nil || errors.Is(err, errUnanswered) {
		return errors.New(text)
	}
	return err
}

// maxMetadata is how many bytes of client metadata are read.
const maxMetadata = 1 << 20

// readMetadata reads client metadata as strictly as an entry of applications.json.
func (a *app) readMetadata(path string) (app config.Application, err error) {
	var in io.Reader = a.stdin
	file := path
	if path == "-" {
		file = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return app, problem(path, "", "cannot be read ("+config.Reason(err)+")", "write the path of a JSON file")
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxMetadata))
	if err != nil {
		return app, err
	}
	if !json.Valid(raw) {
		return app, problem(file, "", "is not JSON", `write an object: { "client_name": "…", "redirect_uris": [ … ] }`)
	}
	problems := config.Decode(raw, "", &app)
	for i := range problems {
		problems[i].File = file
	}
	if len(problems) > 0 {
		return app, &config.Problems{Problems: problems}
	}
	return app, nil
}

// clientLine is a client as --json shows it: its metadata, and what else is known.
type clientLine struct {
	ClientID string `json:"client_id"`
	Name     string `json:"client_name"`
	URL      string `json:"url,omitempty"`
	// Source is "applications.json", "command line" or "registration".
	Source string `json:"source,omitempty"`
	// Secret is there once, when it was made.
	Secret string `json:"client_secret,omitempty"`
	Issuer string `json:"issuer,omitempty"`
	config.Client
	Created *time.Time        `json:"created,omitempty"`
	Secrets []oidc.SecretInfo `json:"secrets,omitempty"`
}

func clientLineOf(e oidc.Entry) clientLine {
	source := "command line"
	if e.Self {
		source = "registration"
	}
	return clientLine{ClientID: e.Metadata.ClientID, Name: e.Name, URL: e.URL, Source: source, Client: withoutSecrets(e.Metadata), Created: &e.Created, Secrets: e.Secrets}
}

// withoutSecrets is metadata that can be shown.
func withoutSecrets(m config.Client) config.Client {
	m.ClientSecret, m.ClientSecretHash = "", nil
	return m
}

// Run implements the command.
func (c clientAddCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		m, err := c.metadata(ctx, a)
		if err != nil {
			return err
		}
		if app, ok := p.listedClient(m.ClientID); ok {
			return problem(c.Metadata, "client_id", config.Quote(m.ClientID)+fmt.Sprintf(" is the client_id of entry %d of %s", app.Entry, app.File), "write another one")
		}
		e, secret, err := p.registry().Add(ctx, m.Name, m.URL, m.Client, p.cfg.LegacyFlows)
		if bad, ok := errors.AsType[*oidc.MetadataError](err); ok {
			var problems []config.Problem
			for _, b := range bad.Complaints {
				problems = append(problems, config.Problem{File: c.Metadata, Field: b.Field, Text: b.Text, Remedy: b.Remedy})
			}
			return &config.Problems{Problems: problems}
		}
		if err != nil {
			return err
		}
		line := clientLineOf(e)
		line.Secret, line.Issuer = secret, p.issuer()
		entry := audit.Entry{Action: "client.add", Target: line.ClientID, TargetName: e.Name}
		switch {
		case a.json:
			return errors.Join(writeLine(a.stdout, line), p.record(ctx, a, entry))
		case c.Demo:
			return errors.Join(demo(a.stdout, line), p.record(ctx, a, entry))
		}
		shownSecret := ""
		if secret != "" {
			shownSecret = secret + " (not shown again)"
		}
		return errors.Join(details(a.stdout, [2]string{"Name", e.Name}, [2]string{"Issuer", line.Issuer}, [2]string{"Client ID", line.ClientID}, [2]string{"Client secret", shownSecret}), p.record(ctx, a, entry))
	})
}

// demo writes what is needed to go through a login by hand.
func demo(w io.Writer, line clientLine) error {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	verifier := base64.RawURLEncoding.EncodeToString(b)
	challenge := sha256.Sum256([]byte(verifier))
	settings := map[string]string{"issuer": line.Issuer, "client_id": line.ClientID, "redirect_uri": line.RedirectURIs[0], "scope": "openid profile"}
	authentication := "-d client_id=" + line.ClientID
	if line.Secret != "" {
		settings["client_secret"] = line.Secret
		authentication = "-u " + line.ClientID + ":" + line.Secret
	}
	text, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return err
	}
	request := url.Values{
		"client_id": {line.ClientID}, "response_type": {"code"}, "redirect_uri": {line.RedirectURIs[0]}, "scope": {"openid profile"}, "state": {"demo"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	_, err = fmt.Fprintf(w, `Settings of a client library; the secret is not shown again:

%s

By hand:

1. Open this address and sign in. Nothing has to answer at %s: the
   code is in the address that the browser ends at.

   %s

2. Within a minute, with that code in the place of CODE:

   curl %s %s -d grant_type=authorization_code -d code=CODE \
     --data-urlencode redirect_uri=%s -d code_verifier=%s

3. With the access_token of the answer in the place of TOKEN:

   curl -H "Authorization: Bearer TOKEN" %s

Remove the client with: login-server client remove %s
`, text, line.RedirectURIs[0], line.Issuer+oidc.PathAuthorize+"?"+request.Encode(),
		authentication, line.Issuer+oidc.PathToken, line.RedirectURIs[0], verifier, line.Issuer+oidc.PathUserInfo, line.ClientID)
	return err
}

type clientListCmd struct{}

// Help implements kong.HelpProvider.
func (clientListCmd) Help() string {
	return `Those of applications.json come first.

Examples:

  login-server client list
  login-server client list --json | jq -r 'select(.source == "registration") | .client_id'`
}

// Run implements the command.
func (clientListCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		all := func(yield func(clientLine, error) bool) {
			for _, app := range p.cfg.Applications {
				if app.ClientID != "" && !yield(listedLine(app), nil) {
					return
				}
			}
			for e, err := range p.registry().All(ctx) {
				if !yield(clientLineOf(e), err) {
					return
				}
			}
		}
		return list(a, all, "No clients.", []string{"CLIENT ID", "NAME", "FROM", "AUTHENTICATION", "CREATED"}, func(l clientLine) []string {
			made := ""
			if l.Created != nil {
				made = when(*l.Created)
			}
			return []string{l.ClientID, l.Name, l.Source, l.TokenEndpointAuthMethod, made}
		})
	})
}

func listedLine(app config.Application) clientLine {
	return clientLine{ClientID: app.ClientID, Name: app.Name, URL: app.URL, Source: app.File, Client: withoutSecrets(oidc.Completed(app.Client))}
}

type clientShowCmd struct {
	ClientID string `arg:"" help:"The client, as \"client list\" names it."`
}

// Help implements kong.HelpProvider.
func (clientShowCmd) Help() string {
	return `Examples:

  login-server client show jV7dYcQyTr2hQ0mG5bYt9g
  login-server client show jV7dYcQyTr2hQ0mG5bYt9g --json | jq .redirect_uris`
}

// Run implements the command.
func (c clientShowCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		var line clientLine
		if app, ok := p.listedClient(c.ClientID); ok {
			line = listedLine(app)
		} else {
			e, err := p.registry().Get(ctx, c.ClientID)
			if err != nil {
				return p.noClient(c.ClientID, err)
			}
			line = clientLineOf(e)
		}
		if a.json {
			return writeLine(a.stdout, line)
		}
		pairs := [][2]string{{"Client ID", line.ClientID}, {"Name", line.Name}, {"URL", line.URL}, {"From", line.Source}}
		if line.Created != nil {
			pairs = append(pairs, [2]string{"Created", when(*line.Created)})
		}
		for _, s := range line.Secrets {
			text := "since " + when(s.Created)
			if !s.Expires.IsZero() {
				text += ", until " + when(s.Expires)
			}
			pairs = append(pairs, [2]string{"Secret", text})
		}
		if err := details(a.stdout, pairs...); err != nil {
			return err
		}
		m := line.Client
		m.ClientID = ""
		text, err := json.MarshalIndent(m, "", "  ")
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", text)
		}
		return err
	})
}

type clientSecretCmd struct {
	ClientID string `arg:"" help:"The client, as \"client list\" names it."`
	KeepOld  int    `help:"How long the secrets before it stay good, in hours." default:"0" placeholder:"HOURS"`
}

// Help implements kong.HelpProvider.
func (clientSecretCmd) Help() string {
	return `Prints the new secret, which is stored hashed and cannot be shown again. Without --keep-old those before it are worth nothing from now on. Tokens stay good.

Example:

  login-server client secret jV7dYcQyTr2hQ0mG5bYt9g --keep-old 24`
}

// Run implements the command.
func (c clientSecretCmd) Run(ctx context.Context, a *app) error {
	const most = 24 * 365
	if c.KeepOld < 0 || c.KeepOld > most {
		return fmt.Errorf("--keep-old %d is not between 0 and %d hours", c.KeepOld, most)
	}
	return a.with(ctx, func(p *program) error {
		keep := time.Duration(c.KeepOld) * time.Hour
		secret, err := p.registry().NewSecret(ctx, c.ClientID, keep)
		switch {
		case errors.Is(err, oidc.ErrNoSecret):
			return fmt.Errorf("%s has no secret that could be replaced (see: login-server client show)", config.Quote(c.ClientID))
		case errors.Is(err, oidc.ErrManySecrets):
			return errors.New("too many of its secrets are still good: leave --keep-old out, or wait until one of them has expired")
		case err != nil:
			return p.noClient(c.ClientID, err)
		}
		old := "Those before it are worth nothing any more."
		if c.KeepOld > 0 {
			old = "Those before it stay good for " + count(c.KeepOld, "hour") + "."
		}
		return errors.Join(
			a.done(map[string]string{"client_id": c.ClientID, "client_secret": secret}, "%s\nThe new secret of %s, not shown again. %s", secret, config.Printable(c.ClientID), old),
			p.record(ctx, a, audit.Entry{Action: "client.secret", Target: c.ClientID, Detail: map[string]string{"keep_old_hours": fmt.Sprint(c.KeepOld)}}))
	})
}

type clientRevokeCmd struct {
	ClientID string `arg:"" help:"The client, as \"client list\" names it."`
	Yes      bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (clientRevokeCmd) Help() string {
	return `For a client whose tokens or secret have got into other hands, also one of applications.json. The client stays: give it another secret first, or it goes on with the old one. People sign in to it anew, and are asked again where they had been asked.

Example:

  login-server client revoke catalogue`
}

// Run implements the command.
func (c clientRevokeCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		app, ok := p.listedClient(c.ClientID)
		name := cmp.Or(app.Name, app.ClientName)
		if !ok {
			e, err := p.registry().Get(ctx, c.ClientID)
			if err != nil {
				return p.noClient(c.ClientID, err)
			}
			name = e.Name
		}
		if err := a.confirm(ctx, c.Yes, fmt.Sprintf("End all tokens of %s (%s)? This cannot be undone", config.Quote(name), config.Printable(c.ClientID))); err != nil {
			return err
		}
		grants, consents, err := p.registry().Revoke(ctx, c.ClientID)
		if err != nil {
			return err
		}
		return errors.Join(
			a.done(map[string]any{"revoked": c.ClientID, "grants": grants, "consents": consents},
				"Ended %s of %s, and %s.", count(grants, "grant"), config.Quote(name), count(consents, "consent")),
			p.record(ctx, a, audit.Entry{
				Action: "client.revoke", Target: c.ClientID, TargetName: name,
				Detail: map[string]string{"grants": fmt.Sprint(grants), "consents": fmt.Sprint(consents)},
			}))
	})
}

type clientRemoveCmd struct {
	ClientID string `arg:"" help:"The client, as \"client list\" names it."`
	Yes      bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (clientRemoveCmd) Help() string {
	return `Its tokens are worth nothing from then on. This cannot be undone.

Example:

  login-server client remove jV7dYcQyTr2hQ0mG5bYt9g`
}

// Run implements the command.
func (c clientRemoveCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		e, err := p.registry().Get(ctx, c.ClientID)
		if err != nil {
			return p.noClient(c.ClientID, err)
		}
		if err := a.confirm(ctx, c.Yes, fmt.Sprintf("Remove %s (%s)? This cannot be undone", config.Quote(e.Name), config.Printable(c.ClientID))); err != nil {
			return err
		}
		people, err := p.registry().Remove(ctx, c.ClientID)
		if err != nil {
			return p.noClient(c.ClientID, err)
		}
		return errors.Join(
			a.done(map[string]any{"removed": c.ClientID, "consents": people}, "Removed %s, with %s.", config.Quote(e.Name), count(people, "consent")),
			p.record(ctx, a, audit.Entry{Action: "client.remove", Target: c.ClientID, TargetName: e.Name}))
	})
}

type clientTokenCmd struct {
	Add    clientTokenAddCmd    `cmd:"" help:"Make an initial access token."`
	List   clientTokenListCmd   `cmd:"" help:"List tokens that have not expired."`
	Remove clientTokenRemoveCmd `cmd:"" help:"Make a token worthless."`
}

type clientTokenAddCmd struct {
	Uses int `help:"How many clients can be registered with it." default:"1" placeholder:"N"`
	Days int `help:"How long it is good." default:"7" placeholder:"D"`
}

// Help implements kong.HelpProvider.
func (clientTokenAddCmd) Help() string {
	return `Prints a token with which a client registers itself at /oauth/register, where CLIENT_REGISTRATION is "token". It is stored hashed and cannot be shown again.

Example:

  login-server client token add --uses 5 --days 1`
}

// Run implements the command.
func (c clientTokenAddCmd) Run(ctx context.Context, a *app) error {
	if c.Uses < 1 || c.Uses > 1_000_000 {
		return fmt.Errorf("--uses %d is not between 1 and 1000000", c.Uses)
	}
	if c.Days < 1 || c.Days > 3650 {
		return fmt.Errorf("--days %d is not between 1 and 3650", c.Days)
	}
	return a.with(ctx, func(p *program) error {
		t, token, err := p.registry().AddToken(ctx, c.Uses, time.Duration(c.Days)*24*time.Hour)
		if err != nil {
			return err
		}
		if p.cfg.ClientRegistration != oidc.RegistrationToken {
			fmt.Fprintf(a.stderr, "CLIENT_REGISTRATION is %s: the token is of use when it is \"token\".\n", p.cfg.ClientRegistration)
		}
		answer := struct {
			oidc.InitialToken
			Token string `json:"token"`
		}{t, token}
		return errors.Join(
			a.done(answer, "%s\nGood for %s until %s, and not shown again.", token, count(t.Uses, "client"), when(t.Expires)),
			p.record(ctx, a, audit.Entry{Action: "client.token.add", Target: t.ID, Detail: map[string]string{"uses": fmt.Sprint(t.Uses)}}))
	})
}

type clientTokenListCmd struct{}

// Help implements kong.HelpProvider.
func (clientTokenListCmd) Help() string {
	return `An id names a token and opens nothing.

Example:

  login-server client token list`
}

// Run implements the command.
func (clientTokenListCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		return list(a, p.registry().Tokens(ctx), "No tokens.", []string{"ID", "CLIENTS LEFT", "CREATED", "EXPIRES"}, func(t oidc.InitialToken) []string {
			return []string{t.ID, fmt.Sprint(t.Uses), when(t.Created), when(t.Expires)}
		})
	})
}

type clientTokenRemoveCmd struct {
	ID string `arg:"" help:"The token, as \"client token list\" names it."`
}

// Help implements kong.HelpProvider.
func (clientTokenRemoveCmd) Help() string {
	return `Clients that were registered with it stay.

Example:

  login-server client token remove Qx3_T0bW`
}

// Run implements the command.
func (c clientTokenRemoveCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		err := p.registry().RemoveToken(ctx, c.ID)
		if errors.Is(err, oidc.ErrNoToken) {
			return fmt.Errorf("there is no token %s (see: login-server client token list)", config.Quote(c.ID))
		}
		if err != nil {
			return err
		}
		return errors.Join(
			a.done(map[string]string{"removed": c.ID}, "Removed %s.", config.Printable(c.ID)),
			p.record(ctx, a, audit.Entry{Action: "client.token.remove", Target: c.ID}))
	})
}
