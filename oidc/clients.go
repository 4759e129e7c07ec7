package oidc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"login-server/config"
	"login-server/store"
)

// clients are those of applications.json, and those in the store.
type clients struct {
	o       Options
	listed  map[string]*Client
	stored  *store.Collection[storedClient]
	cache   *store.Cache[*Client]
	origins map[string]bool // of the listed ones
}

// storedClient is a client that was added by command line or has registered itself.
type storedClient struct {
	Name    string        `json:"name"`
	URL     string        `json:"url,omitempty"`
	Client  config.Client `json:"client"`
	Created time.Time     `json:"created"`
	// Access is the hash of its registration access token (RFC 7592); empty if it cannot
	// change itself.
	Access string `json:"access,omitempty"`
}

func newClients(apps []config.Application, o Options) (*clients, error) {
	all := &clients{
		o: o, origins: map[string]bool{},
		stored: store.NewCollection(o.Store, "client", func(storedClient) store.Index { return store.Index{} }),
		cache:  store.NewCache[*Client](10_000, 5*time.Second, o.Clock.Now),
	}
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
		if app.ClientID == "" {
			continue
		}
		m := app.Client
		if m.ClientSecretFile != "" {
			secret, err := readSecret(app.Dir, m.ClientSecretFile)
			if err != nil {
				problems = append(problems, app.Problem("client_secret_file", "cannot be read ("+config.Reason(err)+")", "write the path of a file that holds the secret"))
				continue
			}
			m.ClientSecret = secret
		}
		c, bad := newClient(app.Name, app.URL, m, legacy)
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

func readSecret(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
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
		item, err := all.stored.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		c, bad := newClient(item.Value.Name, item.Value.URL, item.Value.Client, all.o.LegacyFlows)
		if len(bad) > 0 {
			return nil, &Error{Code: "invalid_client", Description: describe(bad[0].Field + " " + bad[0].Text)}
		}
		c.Registered = true
		return c, nil
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return nil, errUnknownClient
	}
	return c, err
}
