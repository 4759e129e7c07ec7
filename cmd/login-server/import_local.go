package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"login-server/config"
	"login-server/identity"
	"login-server/internal/jsonedit"
	"login-server/providers"
)

// olderEntry is what is needed of an entry of the older server's providers.json.
type olderEntry struct {
	ID       string `json:"id"`
	Strategy string `json:"strategy"`
	Options  struct {
		Users []json.RawMessage `json:"users"`
	} `json:"options"`
}

// localUsers copies people of local providers, with the hashes of their passwords, from
// another providers.json into the one of this installation. Who is in there stays as they are.
func (c importCmd) localUsers(ctx context.Context, a *app, sum *importCount) error {
	text, err := os.ReadFile(c.Providers)
	if err != nil {
		return err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &raw); err != nil {
		return fmt.Errorf("%s is not a list of providers", shown(c.Providers))
	}
	file, err := a.readProviders()
	if err != nil {
		return err
	}
	var lines []importLine
	changed := false
	for i, entry := range raw {
		var old olderEntry
		if err := json.Unmarshal(entry, &old); err != nil && old.Strategy == "local" {
			return fmt.Errorf("%s: entry %d cannot be read", shown(c.Providers), i+1)
		}
		if old.Strategy != "local" {
			continue
		}
		here := slices.IndexFunc(file.entries, func(e providerEntry) bool { return e.ID == old.ID })
		known := providerEntry{ID: old.ID, Strategy: "local"}
		if here >= 0 {
			known = file.entries[here]
		}
		taken, seen := []providers.LocalUser{}, map[string]bool{}
		for n, text := range old.Options.Users {
			u, line := c.localUser(ctx, a, known, text, n)
			if seen[line.Username] {
				line.Outcome, line.Reason, line.Left = identity.Refused, "the user name comes twice", nil
			}
			seen[line.Username] = true
			if lines = append(lines, line); line.Outcome == identity.Taken {
				taken = append(taken, u)
				known.Options.Users = append(known.Options.Users, u)
			}
		}
		if here >= 0 {
			for _, u := range taken {
				if err := file.addUser(here, u); err != nil {
					return err
				}
				file.entries[here].Options.Users = append(file.entries[here].Options.Users, u)
			}
		} else if len(taken) > 0 {
			// The rest of the entry comes with them: its name, its template, whatever it says.
			added, err := jsonedit.Set(entry, taken, "options", "users")
			if err == nil {
				err = file.set(json.RawMessage(added), len(file.entries))
			}
			if err != nil {
				return err
			}
			file.entries = append(file.entries, known)
		}
		changed = changed || len(taken) > 0
	}
	if changed && !c.DryRun {
		if err := file.save(); err != nil {
			return err
		}
	}
	demo := ""
	for _, line := range lines {
		if err := c.report(a, sum, line); err != nil {
			return err
		}
		if line.Demo {
			demo = line.Provider
		}
	}
	if demo != "" && !a.json {
		_, err = fmt.Fprintf(a.stdout, "%s is a demo provider here, which does not start in production: remove the demo user and \"demo\": true before that.\n", demo)
	}
	return err
}

// localUser reads the nth user of an older entry and tells whether they can join known, the
// entry of the same id here.
func (c importCmd) localUser(ctx context.Context, a *app, known providerEntry, text json.RawMessage, n int) (providers.LocalUser, importLine) {
	line := importLine{Provider: known.ID, Username: fmt.Sprintf("(entry %d)", n+1), Outcome: identity.Refused}
	refuse := func(reason string) (providers.LocalUser, importLine) {
		line.Reason = reason
		return providers.LocalUser{}, line
	}
	var old struct {
		providers.LocalUser
		ID any `json:"id"` // also a number
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&old); err != nil {
		return refuse("is not what a user should be")
	}
	u := old.LocalUser
	switch id := old.ID.(type) {
	case nil:
	case string:
		u.ID = id
	case json.Number:
		u.ID = id.String()
	default:
		return refuse("the id is neither a text nor a number")
	}
	if u.Username == "" {
		return refuse("the user name is missing")
	}
	line.Username = u.Username
	if known.Strategy != "local" {
		return refuse("here " + known.ID + " has the strategy " + config.Quote(known.Strategy) + ", which keeps no passwords in a file")
	}
	if _, err := a.username(ctx, u.Username, true); err != nil {
		return refuse(err.Error())
	}
	for _, other := range known.Options.Users {
		switch {
		case other.Username == u.Username:
			line.Outcome = identity.Present
			return providers.LocalUser{}, line
		case other.IdentityID() == u.IdentityID():
			return refuse("the id is that of " + other.Username + " here")
		}
	}
	if err := providers.CheckHash(u.Password); err != nil {
		return refuse(err.Error())
	}
	if u.URI != "" {
		if err := config.SafeURI(u.URI); err != nil {
			line.Left, u.URI = []string{"the URI " + err.Error()}, ""
		}
	}
	line.Outcome, line.Demo = identity.Taken, known.Demo
	return u, line
}
