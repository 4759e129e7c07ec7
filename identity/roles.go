package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"login-server/store"
)

// RoleAdmin is that of people who look after all accounts of the installation.
const RoleAdmin = "admin"

// Roles are all that there are.
var Roles = []string{RoleAdmin}

var (
	// ErrRole: there is no such role.
	ErrRole = errors.New("there is no such role")
	// ErrLastInRole: nobody else who can sign in has the role.
	ErrLastInRole = errors.New("nobody else has this role")
)

func keyRole(role string) string { return "role:" + role }

// Has tells whether the account has a role. It may be disabled all the same.
func (a Account) Has(role string) bool { return slices.Contains(a.Roles, role) }

// Grant gives an account a role. It appears in no token, event or answer about the person.
// ErrRole, ErrNotFound.
func (d *Directory) Grant(ctx context.Context, id, role string) (Account, error) {
	if !slices.Contains(Roles, role) {
		return Account{}, ErrRole
	}
	return d.update(ctx, id, func(a *Account) error {
		if !a.Has(role) {
			a.Roles = append(slices.Clone(a.Roles), role)
		}
		return nil
	})
}

// Revoke takes a role away, whoever is left with it; see StepDown. Accounts that were absorbed
// lose it as well, or an undo would bring it back. ErrNotFound.
func (d *Directory) Revoke(ctx context.Context, id, role string) (Account, error) {
	without := func(a *Account) error {
		a.Roles = slices.DeleteFunc(slices.Clone(a.Roles), func(r string) bool { return r == role })
		return nil
	}
	live, err := d.live(ctx, id)
	if err != nil {
		return Account{}, err
	}
	former, err := d.Former(ctx, live.ID)
	if err != nil {
		return Account{}, err
	}
	for _, a := range former {
		if !a.Has(role) {
			continue
		}
		_, err := d.accounts.Update(ctx, a.ID, without)
		d.wrote(a.ID) // it may have been let go meanwhile
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Account{}, err
		}
	}
	return d.update(ctx, id, without)
}

// InRole returns the accounts that have a role, those that are disabled among them.
func (d *Directory) InRole(ctx context.Context, role string) ([]Account, error) {
	var all []Account
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyRole(role)}) {
		if err != nil {
			return nil, err
		}
		all = append(all, item.Value)
	}
	return all, nil
}

// leavingFor is how long somebody counts as about to lose a role. No write of theirs can take
// so long: whoever has not lost it by then was not meant to, or the server has crashed.
const leavingFor = time.Minute

// roster tells who is about to lose a role. There is one document for each role, so that of
// two people who take it from each other at the same moment one is seen by the other.
type roster struct {
	Leaving []leaving `json:"leaving"`
}

type leaving struct {
	Account string `json:"account"` // its id
	// Change tells two of one account apart.
	Change string    `json:"change"`
	At     time.Time `json:"at"`
}

// StepDown does what takes a role, or the use of it, from an account: revoking it, disabling
// or deleting the account. Unless somebody else who can sign in keeps the role nothing is done:
// ErrLastInRole. An account without the role is none that this is about.
func (d *Directory) StepDown(ctx context.Context, id, role string, do func() error) error {
	item, err := d.live(ctx, id)
	if err != nil {
		return err
	}
	if a := item.Value; !a.Has(role) || a.Disabled {
		return do()
	}
	change := d.newID()
	isOurs := func(x leaving) bool { return x.Change == change }
	if err := d.changeRoster(ctx, role, func(r *roster) error {
		r.Leaving = append(r.Leaving, leaving{Account: item.ID, Change: change, At: d.now()})
		all, err := d.InRole(ctx, role)
		if err != nil {
			return err
		}
		for _, a := range all {
			if !a.Disabled && !slices.ContainsFunc(r.Leaving, func(x leaving) bool { return x.Account == a.ID }) {
				return nil
			}
		}
		return ErrLastInRole
	}); err != nil {
		return err
	}
	done := do()
	// Who has lost the role is in no list of those who have it; the entry has served.
	err = d.changeRoster(ctx, role, func(r *roster) error {
		r.Leaving = slices.DeleteFunc(r.Leaving, isOurs)
		return nil
	})
	return errors.Join(done, err)
}

// changeRoster changes who is about to lose a role. change may run several times; of several
// changes at once each sees those before it.
func (d *Directory) changeRoster(ctx context.Context, role string, change func(*roster) error) error {
	for {
		item, err := d.rosters.Get(ctx, role)
		fresh := errors.Is(err, store.ErrNotFound)
		if err != nil && !fresh {
			return fmt.Errorf("roster of %s: %w", role, err)
		}
		now := d.now()
		item.Value.Leaving = slices.DeleteFunc(slices.Clone(item.Value.Leaving), func(x leaving) bool { return now.Sub(x.At) > leavingFor })
		if err := change(&item.Value); err != nil {
			return err
		}
		if fresh {
			_, err = d.rosters.Insert(ctx, role, item.Value)
		} else {
			_, err = d.rosters.Replace(ctx, item)
		}
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) {
			continue
		}
		return err
	}
}
