package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"login-server/audit"
	"login-server/identity"
	"login-server/oidc"
	"login-server/picture"
)

type userCmd struct {
	List    userListCmd    `cmd:"" help:"List accounts."`
	Show    userShowCmd    `cmd:"" help:"Show one account: identities, sessions, what it has absorbed."`
	Set     userSetCmd     `cmd:"" help:"Change the name of an account, and what is known of the person."`
	Invite  userInviteCmd  `cmd:"" help:"Ask somebody to create an account here."`
	Delete  userDeleteCmd  `cmd:"" help:"Delete an account with its sessions and its history."`
	Merge   userMergeCmd   `cmd:"" help:"Let one account absorb another."`
	Grant   userGrantCmd   `cmd:"" help:"Make people administrators."`
	Revoke  userRevokeCmd  `cmd:"" help:"Make administrators people like all others."`
	Factors userFactorsCmd `cmd:"" help:"List what somebody gives a second factor with, or take it away."`
}

// Help implements kong.HelpProvider.
func (userCmd) Help() string {
	return `An account is named by its id, by its URI, by an identity as provider:id (github:583231), or by the URI of an identity (https://github.com/ada).`
}

const refHelp = "Id, URI, or provider:identity-id."

// lookUp finds the account that ref names. An account that was absorbed leads to the
// one that has absorbed it.
func (p *program) lookUp(ctx context.Context, ref string) (identity.Account, error) {
	unknown := fmt.Errorf("there is no account %q: give its id, its URI, or provider:identity-id (see: login-server user list)", ref)
	if _, id, ok := cutLast(ref, "/users/"); ok && strings.Contains(ref, "://") {
		a, _, err := p.users.Locate(ctx, id)
		if err == nil && (ref == p.cfg.BaseURL.String()+"users/"+id || ref == a.URI || slices.Contains(a.Merged, ref)) {
			return a, nil
		}
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return identity.Account{}, err
		}
	}
	if provider, id, ok := strings.Cut(ref, ":"); ok {
		a, err := p.users.Owner(ctx, provider, id)
		if err == nil || !errors.Is(err, identity.ErrNotFound) {
			return a, err
		}
		found, err := p.byIdentityURI(ctx, ref)
		switch {
		case err != nil:
			return identity.Account{}, err
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return identity.Account{}, fmt.Errorf("%s have an identity with the URI %s: give an id", count(len(found), "account"), ref)
		}
		return identity.Account{}, unknown
	}
	a, _, err := p.users.Locate(ctx, ref)
	if errors.Is(err, identity.ErrNotFound) || ref == "" {
		return identity.Account{}, unknown
	}
	return a, err
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// byIdentityURI goes through all accounts: nothing but a person at a command line
// looks for one in this way.
func (p *program) byIdentityURI(ctx context.Context, uri string) ([]identity.Account, error) {
	var found []identity.Account
	for a, err := range p.accounts(ctx) {
		if err != nil {
			return nil, err
		}
		for _, i := range a.Identities {
			if i.URI == uri {
				found = append(found, a)
				break
			}
		}
	}
	return found, nil
}

// accounts goes through all accounts in the order of their ids.
func (p *program) accounts(ctx context.Context) iter.Seq2[identity.Account, error] {
	return func(yield func(identity.Account, error) bool) {
		const page = 1000
		for after := ""; ; {
			accounts, err := p.users.List(ctx, after, page)
			if err != nil {
				yield(identity.Account{}, err)
				return
			}
			for _, a := range accounts {
				if !yield(a, nil) {
					return
				}
			}
			if len(accounts) < page {
				return
			}
			after = accounts[len(accounts)-1].ID
		}
	}
}

// with opens the data for one command and closes it again.
func (a *app) with(ctx context.Context, do func(p *program) error) error {
	p, err := a.openData(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(p), p.close())
}

type userListCmd struct {
	Provider string `help:"Only accounts with an identity at this provider." placeholder:"ID"`
	Search   string `help:"Only accounts with this text in the name or an identity, whatever its case." placeholder:"TEXT"`
	Role     string `help:"Only accounts with this role: admin." placeholder:"ROLE"`
}

// Help implements kong.HelpProvider.
func (userListCmd) Help() string {
	return `Examples:

  login-server user list --provider github
  login-server user list --search lovelace
  login-server user list --role admin
  login-server user list --json | jq -r ._id`
}

// Run implements the command.
func (c userListCmd) Run(ctx context.Context, a *app) error {
	if c.Role != "" && !slices.Contains(identity.Roles, c.Role) {
		return errRole(c.Role)
	}
	return a.with(ctx, func(p *program) error {
		matching := func(yield func(identity.UserWithUsage, error) bool) {
			for account, err := range p.accounts(ctx) {
				if (err != nil || c.matches(account)) && !yield(account.UserWithUsage(), err) {
					return
				}
			}
		}
		return list(a, matching, "No accounts.", []string{"ID", "NAME", "IDENTITIES", "CREATED", "LAST USED"}, func(u identity.UserWithUsage) []string {
			return []string{u.ID, u.Name, strings.Join(identityRefs(u.User), " "), when(u.Usage.Created), when(u.Usage.LastUsed)}
		})
	})
}

func (c userListCmd) matches(a identity.Account) bool {
	if c.Role != "" && !a.Has(c.Role) {
		return false
	}
	if c.Provider != "" {
		if _, ok := a.Identities[c.Provider]; !ok {
			return false
		}
	}
	if c.Search == "" {
		return true
	}
	texts := []string{a.ID, a.Name}
	for _, i := range a.Identities {
		texts = append(texts, i.ID, i.Name, i.Username, i.URI)
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(strings.ToLower(text), strings.ToLower(c.Search))
	})
}

// identityRefs are the identities of an account as a command line takes them.
func identityRefs(u identity.User) []string {
	refs := make([]string, 0, len(u.Identities))
	for provider, i := range u.Identities {
		refs = append(refs, provider+":"+i.ID)
	}
	slices.Sort(refs)
	return refs
}

type userShowCmd struct {
	Ref string `arg:"" help:"${ref}"`
}

// Help implements kong.HelpProvider.
func (userShowCmd) Help() string {
	return `Examples:

  login-server user show local:ada
  login-server user show https://login.example.org/users/c0c1914a-29b5-4c3e-a0a9-3a1b6d5a1b9e`
}

// userDetails is an account as "user show" answers it.
type userDetails struct {
	identity.UserWithUsage
	Sessions int                 `json:"sessions"`
	Absorbed []identity.Absorbed `json:"absorbed"`
	// Claims are what is known of the person, each with its source.
	Claims map[string]identity.Claim `json:"claims"`
	// Notices are what they want to be written of.
	Notices identity.Notices `json:"notices,omitzero"`
	// Disabled: nobody can sign in to it.
	Disabled bool `json:"disabled,omitempty"`
	// Roles are what they may do beside their own account.
	Roles []string `json:"roles,omitempty"`
}

// Run implements the command.
func (c userShowCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		account, err := p.lookUp(ctx, c.Ref)
		if err != nil {
			return err
		}
		return p.show(ctx, a, account)
	})
}

// show writes all that is known of an account.
func (p *program) show(ctx context.Context, a *app, account identity.Account) error {
	ids, err := p.users.IDs(ctx, account)
	if err != nil {
		return err
	}
	sessions, err := p.sessions.Of(ctx, ids...)
	if err != nil {
		return err
	}
	d := userDetails{UserWithUsage: account.UserWithUsage(), Sessions: len(sessions), Absorbed: account.Absorbed, Claims: account.Known(), Notices: account.Notices, Disabled: account.Disabled, Roles: account.Roles}
	if d.Absorbed == nil {
		d.Absorbed = []identity.Absorbed{}
	}
	if a.json {
		return writeLine(a.stdout, d)
	}
	pairs := [][2]string{
		{"Name", account.Name}, {"Id", account.ID}, {"URI", account.URI},
		{"Created", when(account.Created)}, {"Last used", when(account.LastUsed)},
		{"Sessions", fmt.Sprint(len(sessions))},
	}
	if account.Disabled {
		pairs = append(pairs, [2]string{"Disabled", "yes; nobody can sign in"})
	}
	if own, ok, err := p.credentialOf(ctx, account); err != nil {
		return err
	} else if ok {
		pairs = append(pairs, [2]string{"Second factors", viewFactors(own).words()})
	}
	if len(account.Roles) > 0 {
		pairs = append(pairs, [2]string{"Roles", strings.Join(account.Roles, ", ")})
	}
	if account.Notices.SignInsOff {
		pairs = append(pairs, [2]string{"Notices", "no mail of new sign-ins"})
	}
	for _, provider := range account.Providers() {
		i := account.Identities[provider]
		text := provider + ":" + i.ID
		for _, more := range []string{i.Name, i.Username, i.URI} {
			if more != "" && more != i.ID {
				text += ", " + more
			}
		}
		pairs = append(pairs, [2]string{"Identity", text})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Claims)) {
		claim := d.Claims[name]
		if name == "name" || name == "updated_at" {
			continue
		}
		value, err := json.Marshal(claim.Value)
		if err != nil {
			return err
		}
		text := string(value)
		if s, ok := claim.Value.(string); ok && !strings.Contains(s, "\n") {
			text = s
		}
		from := "from " + claim.Provider
		switch claim.Source {
		case identity.SourceYou:
			from = "set by the person"
		case identity.SourceOperator:
			from = "set by an operator"
		}
		pairs = append(pairs, [2]string{"Claim", name + ": " + text + " (" + from + ")"})
	}
	for _, uri := range account.Merged {
		pairs = append(pairs, [2]string{"Was also", uri})
	}
	for _, x := range account.Absorbed {
		pairs = append(pairs, [2]string{"Absorbed", fmt.Sprintf("%s on %s; its owner can undo this until %s", x.Name, when(x.At), when(x.At.Add(identity.UndoPeriod)))})
	}
	return details(a.stdout, pairs...)
}

type userSetCmd struct {
	Ref     string   `arg:"" help:"${ref}"`
	Disable bool     `help:"Nobody signs in to the account any more, and whoever is signed in is signed out." xor:"disable"`
	Enable  bool     `help:"The account is as it was before." xor:"disable"`
	Name    string   `help:"The new name, 1 to 200 characters." placeholder:"NAME"`
	Claim   []string `sep:"none" help:"A standard claim, or the biography; may be given several times." placeholder:"NAME=VALUE"`
	Picture string   `type:"existingfile" help:"A picture of the person: JPEG, PNG, GIF or WebP, up to 5 MB." placeholder:"FILE"`
	Mails   string   `name:"sign-in-mails" enum:"on,off," default:"" help:"Whether the person is written of sign-ins from new browsers and countries: on or off." placeholder:"on|off"`
}

// Help implements kong.HelpProvider.
func (userSetCmd) Help() string {
	return `Applications hear of it at once, as if the person had done it.

Claims are those of OpenID Connect and a biography: ` + strings.Join(identity.ClaimNames(), ", ") + `. A value is text or JSON; null takes back what was set. What is set here counts more than what providers say. Whether an e-mail address or telephone number has been verified counts for the one that is known now.

Examples:

  login-server user set local:ada --name "Ada Lovelace"
  login-server user set github:583231 --disable
  login-server user set local:ada --claim email=ada@example.org --claim email_verified=true
  login-server user set local:ada --picture ada.jpg --claim locale=de --claim zoneinfo=Europe/Berlin
  login-server user set local:ada --claim 'address={"locality":"London","country":"United Kingdom"}'`
}

// Run implements the command.
func (c userSetCmd) Run(ctx context.Context, a *app) error {
	if c.Name == "" && len(c.Claim) == 0 && c.Picture == "" && c.Mails == "" && !c.Disable && !c.Enable {
		return errors.New("there is nothing to set: give --name, --claim, --picture, --sign-in-mails, --disable or --enable")
	}
	changes := map[string]any{}
	for _, setting := range c.Claim {
		name, value, err := identity.ParseClaim(setting)
		if err != nil {
			return err
		}
		if _, twice := changes[name]; twice {
			return fmt.Errorf("the claim %s is given twice", name)
		}
		changes[name] = value
	}
	if _, twice := changes["picture"]; twice && c.Picture != "" {
		return errors.New("the picture is given twice: give --picture, or --claim picture=…")
	}
	if c.Name != "" {
		name, err := identity.CheckName(c.Name)
		if err != nil {
			return err
		}
		if _, twice := changes["name"]; twice {
			return errors.New("the name is given twice: give --name, or --claim name=…")
		}
		changes["name"] = name
	}
	return a.with(ctx, func(p *program) error {
		account, err := p.lookUp(ctx, c.Ref)
		if err != nil {
			return err
		}
		if c.Disable || c.Enable {
			if account, err = p.setDisabled(ctx, account, c.Disable); err != nil {
				return err
			}
			action := "user.enable"
			if c.Disable {
				action = "user.disable"
			}
			if err := p.record(ctx, a, audit.Entry{Action: action, Target: account.ID, TargetName: account.Name}); err != nil {
				return err
			}
		}
		if c.Mails != "" {
			if account, err = p.users.SetNotices(ctx, account.ID, identity.Notices{SignInsOff: c.Mails == "off"}); err != nil {
				return err
			}
		}
		if c.Picture != "" {
			if account, err = p.setPicture(ctx, account, c.Picture); err != nil {
				return err
			}
		}
		if len(changes) == 0 {
			return errors.Join(p.show(ctx, a, account), c.record(ctx, a, p, account, changes))
		}
		old, shown := account.Name, account.Picture()
		if account, err = p.users.SetClaims(ctx, account.ID, identity.SourceOperator, changes); err != nil {
			return err
		}
		if account.Picture() != shown {
			if err := p.dropPicture(ctx, account, shown); err != nil {
				return err
			}
		}
		if err := c.record(ctx, a, p, account, changes); err != nil {
			return err
		}
		if len(c.Claim) == 0 && c.Picture == "" && c.Mails == "" {
			return a.done(account.UserWithUsage(), "Renamed %s from %q to %q.", account.ID, old, account.Name)
		}
		return p.show(ctx, a, account)
	})
}

// setPicture gives a person the picture in a file.
func (p *program) setPicture(ctx context.Context, account identity.Account, path string) (identity.Account, error) {
	file, err := os.Open(path)
	if err != nil {
		return account, err
	}
	defer file.Close()
	made, err := picture.NewMaker().Make(ctx, file)
	if err != nil {
		return account, fmt.Errorf("%s: %w", path, err)
	}
	id, err := p.pictures().Keep(ctx, account.ID, made)
	if err != nil {
		return account, err
	}
	account, before, err := p.users.SetPicture(ctx, account.ID, identity.SourceOperator, picture.Address(p.cfg.BaseURL.String(), id))
	if err != nil {
		return account, err
	}
	return account, p.dropPicture(ctx, account, before)
}

// dropPicture deletes the picture at an address that an account has named until now, if it
// is one of its own.
func (p *program) dropPicture(ctx context.Context, account identity.Account, before string) error {
	id := picture.ID(p.cfg.BaseURL.String(), before)
	if id == "" {
		return nil
	}
	return p.pictures().Delete(ctx, account.ID, id)
}

func (p *program) pictures() *picture.Album { return picture.NewAlbum(p.guard, p.clock.Now) }

// record tells the audit log what was changed, and not to what: that is personal.
func (c userSetCmd) record(ctx context.Context, a *app, p *program, account identity.Account, claims map[string]any) error {
	changed := slices.Sorted(maps.Keys(claims))
	if c.Mails != "" {
		changed = append(changed, "notices")
	}
	if c.Picture != "" {
		changed = append(changed, "picture")
	}
	if changed == nil {
		return nil // --disable and --enable have an entry of their own
	}
	return p.record(ctx, a, audit.Entry{
		Action: "user.update", Target: account.ID, TargetName: account.Name,
		Detail: map[string]string{"changed": strings.Join(changed, " ")},
	})
}

type userDeleteCmd struct {
	Ref string `arg:"" help:"${ref}"`
	Yes bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (userDeleteCmd) Help() string {
	return `Removes the account, those it has absorbed, all its sessions and its history of sign-ins. Whoever signs in with one of its identities afterwards gets a new, empty account. This cannot be undone.

Examples:

  login-server user delete local:ada
  login-server user delete c0c1914a-29b5-4c3e-a0a9-3a1b6d5a1b9e --yes`
}

// Run implements the command.
func (c userDeleteCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		account, err := p.lookUp(ctx, c.Ref)
		if err != nil {
			return err
		}
		if err := a.confirm(ctx, c.Yes, fmt.Sprintf("Delete %s? This cannot be undone", summary(account))); err != nil {
			return err
		}
		if err := oidc.DeleteAccount(ctx, p.guard, p.sessions, p.users, account.ID, ""); err != nil {
			return err
		}
		return errors.Join(
			a.done(map[string]string{"deleted": account.ID}, "Deleted %s.", summary(account)),
			p.record(ctx, a, audit.Entry{
				Action: "user.delete", Target: account.ID, TargetName: account.Name,
				Detail: map[string]string{"identities": strings.Join(identityRefs(account.User()), " ")},
			}))
	})
}

// summary names an account in a sentence.
func summary(a identity.Account) string {
	return fmt.Sprintf("%q (%s; %s)", a.Name, a.ID, strings.Join(identityRefs(a.User()), ", "))
}

// setDisabled shuts an account, or opens it again. Sessions end after it is shut, so that
// nobody gets in between.
func (p *program) setDisabled(ctx context.Context, account identity.Account, disabled bool) (identity.Account, error) {
	account, err := p.users.SetDisabled(ctx, account.ID, disabled)
	if err != nil || !disabled {
		return account, err
	}
	ids, err := p.users.IDs(ctx, account)
	if err != nil {
		return account, err
	}
	_, err = p.sessions.RemoveAll(ctx, "", ids...)
	return account, err
}

type userMergeCmd struct {
	Survivor string `arg:"" help:"The account that stays: id, URI, or provider:identity-id."`
	Other    string `arg:"" help:"The account that it absorbs."`
	Yes      bool   `short:"y" help:"Do not ask."`
}

// Help implements kong.HelpProvider.
func (userMergeCmd) Help() string {
	return `The first account gets all identities of the second, and keeps its own name. The old URI of the second leads to the first from then on. Accounts that both have an identity at the same provider cannot be merged. Make sure that both belong to the same person: whoever signs in with either is in both.

Within 7 days the person can undo the merge on the account page.

Example:

  login-server user merge github:583231 orcid:0000-0002-1825-0097`
}

// Run implements the command.
func (c userMergeCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		survivor, err := p.lookUp(ctx, c.Survivor)
		if err != nil {
			return err
		}
		other, err := p.lookUp(ctx, c.Other)
		if err != nil {
			return err
		}
		if survivor.ID == other.ID {
			return fmt.Errorf("both name the same account, %s", summary(survivor))
		}
		if !c.Yes {
			for _, side := range []struct {
				what    string
				account identity.Account
			}{{"Stays", survivor}, {"Is absorbed", other}} {
				fmt.Fprintf(a.stderr, "%s: %s, created %s, last used %s\n", side.what, summary(side.account), when(side.account.Created), when(side.account.LastUsed))
			}
		}
		if err := a.confirm(ctx, c.Yes, "Merge them?"); err != nil {
			return err
		}
		merged, err := p.users.Merge(ctx, survivor.ID, other.ID)
		if shared, ok := errors.AsType[*identity.SharedError](err); ok {
			return fmt.Errorf("they cannot be merged: both have an identity at %s; one of them has to be disconnected first", strings.Join(shared.Providers, ", "))
		}
		if err != nil {
			return err
		}
		return errors.Join(
			a.done(merged.UserWithUsage(), "Merged. %s has: %s", merged.ID, strings.Join(identityRefs(merged.User()), ", ")),
			p.record(ctx, a, audit.Entry{
				Action: "user.merge", Target: merged.ID, TargetName: merged.Name,
				Detail: map[string]string{"absorbed": other.ID, "absorbed_name": other.Name},
			}))
	})
}
