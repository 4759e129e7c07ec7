package oidc

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"login-server/config"
	"login-server/store"
)

// clients are those of applications.json, and those in the store.
type clients struct {
	o        Options
	listed   map[string]*Client
	registry *Registry
	cache    *store.Cache[*Client]
	origins  map[string]bool // of the listed ones
}

func newClients(apps []config.Application, o Options) (*clients, error) {
	all := &clients{
		o: o, origins: map[string]bool{},
		registry: NewRegistry(o.Store, o.Clock),
		cache:    store.NewCache[*Client](10_000, 5*time.Second, o.Clock.Now),
	}
	all.registry.changed = o.Changed
	var err error
	all.listed, err = listed(apps, o.LegacyFlows)
	for _, c := range all.listed {
		for _, origin := range c.Origins {
			all.origins[origin] = true
		}
	}
	return all, err
}

// listed checks the entries of applications.json that have a client_id.
func listed(apps []config.Application, legacy bool) (map[string]*Client, error) {
	found := map[string]*Client{}
	var problems []config.Problem
	for _, app := range apps {
		m := app.Client
		if m.ClientID == "" {
			m.RequireMFA = false // the way through our login asks for it
			if given := givenFields(m); len(given) > 0 {
				problems = append(problems, app.Problem("client_id", "is missing, but there is "+strings.Join(given, ", ")+", which is for clients", "write a client_id, or remove the rest"))
			}
			continue
		}
		var more []string
		if m.ClientSecretFile != "" {
			if m.ClientSecret != "" {
				problems = append(problems, app.Problem("client_secret_file", "is given together with client_secret", "remove one of them"))
			}
			secrets, err := readSecrets(app.Dir, m.ClientSecretFile)
			if err != nil {
				problems = append(problems, app.Problem("client_secret_file", config.Quote(m.ClientSecretFile)+" cannot be used ("+config.Reason(err)+")", "write the path of a file that holds the secret, or several while it is replaced, one a line"))
				continue
			}
			m.ClientSecret, more = secrets[0], secrets[1:]
		}
		c, bad := newClient(app.Name, app.URL, m, legacy)
		c.more = more
		for _, s := range more {
			if len(s) < 16 {
				bad = append(bad, Complaint{"client_secret_file", "has a line of less than 16 characters", "write each secret on a line of its own"})
			}
		}
		for _, b := range bad {
			problems = append(problems, app.Problem(b.Field, b.Text, b.Remedy))
		}
		if found[c.ClientID] != nil {
			problems = append(problems, app.Problem("client_id", config.Quote(c.ClientID)+" is the client_id of another entry too", "write another one"))
		}
		found[c.ClientID] = c
	}
	if problems != nil {
		return nil, &config.Problems{Problems: problems}
	}
	return found, nil
}

// givenFields are the names of what is set in metadata.
func givenFields(m config.Client) []string {
	var given []string
	v := reflect.ValueOf(m)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			given = append(given, name)
		}
	}
	return given
}

const maxSecretFile = 64 << 10 // bytes

// readSecrets reads the lines of a file that are not empty: one at least.
func readSecrets(dir, path string) ([]string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecretFile {
		return nil, errors.New("it is larger than 64 KiB")
	}
	var secrets []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" {
			secrets = append(secrets, line)
		}
	}
	if secrets == nil {
		return nil, errors.New("it is empty")
	}
	return secrets, nil
}

var errUnknownClient = errors.New("unknown client")

// get finds a client; errUnknownClient if there is none.
func (all *clients) get(ctx context.Context, id string) (*Client, error) {
	if c := all.listed[id]; c != nil {
		return c, nil
	}
	if id == "" || len(id) > 200 {
		return nil, errUnknownClient
	}
	c, err := all.cache.Get(ctx, id, func(ctx context.Context, id string) (*Client, error) {
		item, err := all.registry.stored.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if item.Value.Disabled {
			return nil, errUnknownClient
		}
		// What a setting has switched off since is refused where it is asked for, and does
		// not make the client unknown.
		c, bad := item.Value.client(all.o.Clock.Now(), all.o.RefreshKeys, true)
		if len(bad) > 0 {
			return nil, &Error{Code: "invalid_client", Description: describe(bad[0].Field + " " + bad[0].Text)}
		}
		return c, nil
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return nil, errUnknownClient
	}
	return c, err
}

// told is get for what a client is told: also one that an administrator has shut out.
func (all *clients) told(ctx context.Context, id string) (*Client, error) {
	c, err := all.get(ctx, id)
	if !errors.Is(err, errUnknownClient) {
		return c, err
	}
	item, err := all.registry.stored.Get(ctx, id)
	if errors.Is(noClient(err), ErrNoClient) {
		return nil, errUnknownClient
	}
	if err != nil {
		return nil, err
	}
	c, _ = item.Value.client(all.o.Clock.Now(), all.o.RefreshKeys, true)
	return c, nil
}

// getAnew is get past the memory.
func (all *clients) getAnew(ctx context.Context, id string) (*Client, error) {
	all.cache.Forget(id)
	return all.get(ctx, id)
}
