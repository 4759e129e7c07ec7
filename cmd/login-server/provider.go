package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"login-server/audit"
	"login-server/config"
	"login-server/providers"
)

type providerCmd struct {
	Local localCmd `cmd:"" help:"People of a provider with the strategy local, whose passwords are in providers.json."`
}

type localCmd struct {
	Add    localAddCmd    `cmd:"" help:"Add somebody; make the provider if there is none."`
	Remove localRemoveCmd `cmd:"" help:"Remove somebody."`
	Passwd localPasswdCmd `cmd:"" help:"Change a password."`
	List   localListCmd   `cmd:"" help:"List people."`
}

// Help implements kong.HelpProvider.
func (localCmd) Help() string {
	return `Edits providers.json in place: the rest of the file stays as it is. What the command line does not say is asked. A running server takes the change over within seconds.`
}

// localFlags are those of all commands about people of a local provider.
type localFlags struct {
	Provider string `short:"p" help:"Which local provider; needed only when there are several." placeholder:"ID"`
}

// takenOver is what follows each change.
const takenOver = "A running server takes it over within seconds."

// localLine is somebody as these commands answer them: without the hash.
type localLine struct {
	Provider    string `json:"provider"`
	Username    string `json:"username"`
	DisplayName string `json:"displayName,omitempty"`
	URI         string `json:"uri,omitempty"`
	ID          string `json:"id,omitempty"`
	Hash        string `json:"hash,omitempty"` // its kind
	Demo        bool   `json:"demo,omitempty"`
}

func lineOf(provider string, u providers.LocalUser) localLine {
	return localLine{Provider: provider, Username: u.Username, DisplayName: u.DisplayName, URI: u.URI, ID: u.ID}
}

type localAddCmd struct {
	localFlags
	Username      string `arg:"" optional:"" help:"The name to sign in with."`
	Name          string `help:"The name that others see." placeholder:"NAME"`
	URI           string `help:"URI of the identity, in the place of the provider's template." placeholder:"URI"`
	ID            string `help:"Id of the identity, if it should not be the user name." placeholder:"ID"`
	PasswordStdin bool   `help:"Read the password from standard input, one line, and ask for nothing."`
	ProviderName  string `help:"Name of the provider on the login page, if it is made." default:"Local account" placeholder:"NAME"`
}

// Help implements kong.HelpProvider.
func (localAddCmd) Help() string {
	return `The password needs 8 characters at least. It is asked twice without being shown, or read from standard input; it is never an argument, which others on this machine could see.

Examples:

  login-server provider local add
  login-server provider local add ada --name "Ada Lovelace"
  pwgen 20 1 | login-server provider local add bot --password-stdin
  login-server provider local add eve --provider guests --provider-name "Guests"`
}

// Run implements the command.
func (c localAddCmd) Run(ctx context.Context, a *app) error {
	file, err := a.readProviders()
	if err != nil {
		return err
	}
	entry, provider, err := a.chooseLocal(ctx, file, c.Provider, c.PasswordStdin)
	if err != nil {
		return err
	}
	asked := c.Username == ""
	username, err := a.username(ctx, c.Username, c.PasswordStdin)
	if err != nil {
		return err
	}
	if file.user(entry, username) >= 0 {
		return fmt.Errorf("%s is in %s already; for another password: login-server provider local passwd %s", username, provider, username)
	}
	u := providers.LocalUser{Username: username, DisplayName: c.Name, URI: c.URI, ID: c.ID}
	if asked && u.DisplayName == "" {
		if u.DisplayName, err = a.ask(ctx, "Name that others see (may be empty)", ""); err != nil {
			return err
		}
	}
	if u.Password, err = a.hashedPassword(ctx, c.PasswordStdin); err != nil {
		return err
	}
	demo := false
	if entry < 0 {
		entry = len(file.entries)
		err = file.set(newLocal(provider, c.ProviderName, u), entry)
	} else {
		demo = file.entries[entry].Demo
		err = file.addUser(entry, u)
	}
	if err != nil {
		return err
	}
	if err := file.save(); err != nil {
		return err
	}
	a.recordApart(ctx, localEntry("provider.person.add", provider, u))
	line := lineOf(provider, u)
	line.Demo = demo
	text := fmt.Sprintf("Added %s to %s in %s. %s", username, provider, shown(file.path), takenOver)
	if demo {
		text += fmt.Sprintf("\n%s is a demo provider, which does not start in production: remove the demo user and \"demo\": true before that.", provider)
	}
	return a.done(line, "%s", text)
}

// localEntry is what the audit log has of a change to somebody of a local provider.
func localEntry(action, provider string, u providers.LocalUser) audit.Entry {
	return audit.Entry{Action: action, Target: provider + ":" + u.IdentityID(), TargetName: u.Username}
}

// newLocal is the entry of a new provider, in the order in which people write it.
func newLocal(id, name string, u providers.LocalUser) any {
	type options struct {
		Users []providers.LocalUser `json:"users"`
	}
	return struct {
		ID                   string  `json:"id"`
		Strategy             string  `json:"strategy"`
		Name                 string  `json:"name"`
		CredentialsNecessary bool    `json:"credentialsNecessary"`
		Options              options `json:"options"`
	}{id, "local", name, true, options{[]providers.LocalUser{u}}}
}

type localRemoveCmd struct {
	localFlags
	Username string `arg:"" optional:"" help:"Who to remove."`
	Yes      bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (localRemoveCmd) Help() string {
	return `They cannot sign in here any more. Their account stays, and so do sessions that are open: see "user delete" and "session remove".

Example:

  login-server provider local remove ada`
}

// Run implements the command.
func (c localRemoveCmd) Run(ctx context.Context, a *app) error {
	file, entry, provider, user, err := a.findLocal(ctx, c.localFlags, c.Username, false)
	if err != nil {
		return err
	}
	u := file.entries[entry].Options.Users[user]
	if err := a.confirm(ctx, c.Yes, fmt.Sprintf("Remove %s from %s?", u.Username, provider)); err != nil {
		return err
	}
	if err := file.remove(entry, "options", "users", user); err != nil {
		return err
	}
	if err := file.save(); err != nil {
		return err
	}
	a.recordApart(ctx, localEntry("provider.person.remove", provider, u))
	return a.done(lineOf(provider, u), "Removed %s from %s in %s. %s\nThe account and its sessions stay; to delete them: login-server user delete %s:%s",
		u.Username, provider, shown(file.path), takenOver, provider, u.IdentityID())
}

type localPasswdCmd struct {
	localFlags
	Username      string `arg:"" optional:"" help:"Whose password to change."`
	PasswordStdin bool   `help:"Read the password from standard input, one line, and ask for nothing."`
}

// Help implements kong.HelpProvider.
func (localPasswdCmd) Help() string {
	return `The password needs 8 characters at least. Sessions that are open stay open: see "session remove".

Examples:

  login-server provider local passwd ada
  login-server provider local passwd ada --password-stdin < password.txt`
}

// Run implements the command.
func (c localPasswdCmd) Run(ctx context.Context, a *app) error {
	file, entry, provider, user, err := a.findLocal(ctx, c.localFlags, c.Username, c.PasswordStdin)
	if err != nil {
		return err
	}
	u := file.entries[entry].Options.Users[user]
	hash, err := a.hashedPassword(ctx, c.PasswordStdin)
	if err != nil {
		return err
	}
	if err := file.set(hash, entry, "options", "users", user, "password"); err != nil {
		return err
	}
	if err := file.save(); err != nil {
		return err
	}
	a.recordApart(ctx, localEntry("provider.person.password", provider, u))
	return a.done(lineOf(provider, u), "Changed the password of %s in %s. %s\nSessions that are open stay open; to end them: login-server session remove --user %s:%s",
		u.Username, shown(file.path), takenOver, provider, u.IdentityID())
}

type localListCmd struct {
	localFlags
}

// Help implements kong.HelpProvider.
func (localListCmd) Help() string {
	return `Examples:

  login-server provider local list
  login-server provider local list --provider guests --json`
}

// Run implements the command.
func (c localListCmd) Run(a *app) error {
	file, err := a.readProviders()
	if err != nil {
		return err
	}
	if c.Provider != "" {
		i, _, err := file.local(c.Provider)
		if err != nil {
			return err
		}
		if i < 0 {
			return fmt.Errorf("there is no provider %q in %s", c.Provider, shown(file.path))
		}
	}
	lines := func(yield func(localLine, error) bool) {
		for _, e := range file.entries {
			if e.Strategy != "local" || c.Provider != "" && e.ID != c.Provider {
				continue
			}
			for _, u := range e.Options.Users {
				line := lineOf(e.ID, u)
				line.Demo, line.Hash = e.Demo, hashKind(u.Password)
				if !yield(line, nil) {
					return
				}
			}
		}
	}
	titles := []string{"PROVIDER", "USER NAME", "NAME", "ID", "URI", "PASSWORD"}
	return list(a, lines, "Nobody is in a local provider; add somebody with: login-server provider local add", titles, func(l localLine) []string {
		return []string{l.Provider, l.Username, l.DisplayName, l.ID, l.URI, l.Hash}
	})
}

// hashKind tells how a password is kept, which is all that may be seen of it.
func hashKind(hash string) string {
	switch {
	case strings.HasPrefix(hash, "$argon2id$"):
		return "argon2id"
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		return "bcrypt"
	case hash == "":
		return "missing"
	}
	return "unusable"
}

// chooseLocal finds the local provider, asking when there are several.
func (a *app) chooseLocal(ctx context.Context, file *providerFile, id string, silent bool) (entry int, provider string, err error) {
	entry, provider, err = file.local(id)
	if several, ok := errors.AsType[*severalError](err); ok && !silent {
		if id, err = a.ask(ctx, "Provider, one of "+joinWords(several.ids), several.ids[0]); err != nil {
			return 0, "", several
		}
		return file.local(id)
	}
	return entry, provider, err
}

// findLocal finds somebody who is in a local provider, asking for what is missing.
func (a *app) findLocal(ctx context.Context, flags localFlags, username string, silent bool) (file *providerFile, entry int, provider string, user int, err error) {
	if file, err = a.readProviders(); err != nil {
		return nil, 0, "", 0, err
	}
	if entry, provider, err = a.chooseLocal(ctx, file, flags.Provider, silent); err != nil {
		return nil, 0, "", 0, err
	}
	if entry < 0 {
		return nil, 0, "", 0, fmt.Errorf("there is no local provider %q in %s", provider, shown(file.path))
	}
	if username, err = a.username(ctx, username, silent); err != nil {
		return nil, 0, "", 0, err
	}
	if user = file.user(entry, username); user < 0 {
		return nil, 0, "", 0, fmt.Errorf("%s is not in %s (see: login-server provider local list)", config.Printable(username), provider)
	}
	return file, entry, provider, user, nil
}

// username is the one given, or the one that is answered.
func (a *app) username(ctx context.Context, given string, silent bool) (string, error) {
	if given == "" && silent {
		return "", errors.New("the user name is missing: with --password-stdin nothing is asked, so give it as an argument")
	}
	if given == "" {
		var err error
		given, err = a.ask(ctx, "User name", "")
		if err != nil || given == "" {
			return "", errors.New("the user name is missing: give it as an argument, or answer the question")
		}
	}
	switch {
	case len(given) > providers.MaxUsername:
		return "", fmt.Errorf("the user name is longer than %d bytes", providers.MaxUsername)
	case strings.TrimSpace(given) != given, strings.Join(strings.Fields(given), " ") != given,
		strings.ToValidUTF8(given, "") != given, strings.ContainsFunc(given, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("the user name %s has unusual spaces or characters that cannot be seen", config.Quote(given))
	}
	return given, nil
}

// hashedPassword reads a password and returns what the file keeps of it.
func (a *app) hashedPassword(ctx context.Context, fromStdin bool) (string, error) {
	password, err := a.newPassword(ctx, fromStdin)
	if errors.Is(err, errUnanswered) {
		return "", errors.New("the password is missing: type it, or give --password-stdin and write it there")
	}
	if err != nil {
		return "", err
	}
	return providers.HashPassword(password)
}

// joinWords is "a, b and c".
func joinWords(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
