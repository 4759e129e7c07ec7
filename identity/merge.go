package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"login-server/store"
)

// A merge spans two documents, the survivor and the absorbed account, in three writes:
//
//	1  survivor: Intent{merge, other}     from now on nobody changes the survivor otherwise
//	2  other:    MergedInto = survivor    the decision: its identities lead to the survivor
//	3  survivor: + identities, + URI, no Intent
//
// Undoing it takes three as well:
//
//	1  survivor: - identities, - URI, Intent{undo, other}
//	2  other:    MergedInto = ""          with the identities named in the intent
//	3  survivor: no Intent
//
// Whoever comes across an intent finishes it (settle) before doing anything else,
// so after a crash between any two writes the next reader heals the accounts. All
// writes are compare-and-swap on what the decision was made from, so two who
// settle at once decide alike, and the slower one fails and looks again.
//
// The unique keys of the absorbed identities stay with the tombstone: moving them
// would need a moment in which nobody owns them, and a sign-in in that moment
// would make a third account. The survivor notes in Held who holds them.

// Merge lets the account survivor absorb the account other, whose URI the
// survivor takes over. Accounts that share a provider are left as they are:
// *SharedError. ErrBusy if somebody is merging one of them elsewhere.
//
// The caller has made sure that both belong to the person who asks.
func (d *Directory) Merge(ctx context.Context, survivor, other string) (Account, error) {
	absorbed, err := d.Get(ctx, other)
	if err != nil {
		return Account{}, err
	}
	var into Account
	a, err := d.update(ctx, survivor, func(a *Account) error {
		into = *a
		if a.ID == absorbed.ID {
			return nil
		}
		if both := shared(*a, absorbed); len(both) > 0 {
			return &SharedError{Providers: both}
		}
		a.Intent = &Intent{Kind: "merge", Other: absorbed.ID}
		return nil
	})
	if err != nil || into.ID == absorbed.ID {
		return a, err
	}
	if err := d.settle(ctx, a.ID); err != nil {
		return Account{}, err
	}
	a, err = d.Get(ctx, a.ID)
	if err != nil {
		return Account{}, err
	}
	if !slices.Contains(a.Merged, absorbed.URI) {
		// The intent was withdrawn: the other account has changed in between.
		if absorbed, err = d.Get(ctx, absorbed.ID); err == nil {
			if both := shared(a, absorbed); len(both) > 0 {
				return Account{}, &SharedError{Providers: both}
			}
		}
		return Account{}, ErrBusy
	}
	return a, nil
}

// UndoMerge lets an account go again that was absorbed less than UndoPeriod ago:
// both are as they were, but for what was changed since on purpose. Identities
// that were disconnected after the merge stay disconnected.
func (d *Directory) UndoMerge(ctx context.Context, survivor, other string) (Account, Account, error) {
	a, err := d.update(ctx, survivor, func(a *Account) error {
		i := slices.IndexFunc(a.Absorbed, func(x Absorbed) bool { return x.ID == other })
		if i < 0 || d.now().Sub(a.Absorbed[i].At) > UndoPeriod {
			return ErrUndoExpired
		}
		tombstone, err := d.accounts.Get(ctx, other)
		if errors.Is(err, ErrNotFound) {
			return ErrUndoExpired
		}
		if err != nil {
			return err
		}
		intent := &Intent{Kind: "undo", Other: other}
		for provider, id := range tombstone.Value.Identities {
			if a.has(provider, id.ID) && a.Held[provider] != "" {
				intent.Providers = append(intent.Providers, provider)
				delete(a.Identities, provider)
				delete(a.Held, provider)
			}
		}
		if len(intent.Providers) == 0 || len(a.Identities) == 0 {
			return ErrUndoImpossible
		}
		a.Merged = slices.DeleteFunc(a.Merged, func(uri string) bool {
			return uri == tombstone.Value.URI || slices.Contains(tombstone.Value.Merged, uri)
		})
		a.Absorbed = slices.Delete(a.Absorbed, i, i+1)
		a.Intent = intent
		return nil
	})
	if err != nil {
		return Account{}, Account{}, err
	}
	if err := d.settle(ctx, a.ID); err != nil {
		return Account{}, Account{}, err
	}
	if a, err = d.Get(ctx, a.ID); err != nil {
		return Account{}, Account{}, err
	}
	restored, err := d.Get(ctx, other)
	return a, restored, err
}

// settle finishes the intent of an account, if it has one.
func (d *Directory) settle(ctx context.Context, id string) error {
	for {
		item, err := d.accounts.Get(ctx, id)
		if errors.Is(err, ErrNotFound) {
			d.cache.Forget(id)
			return nil
		}
		if err != nil {
			return err
		}
		if item.Value.Intent == nil {
			d.cache.Forget(id)
			return nil
		}
		switch item.Value.Intent.Kind {
		case "merge":
			err = d.finishMerge(ctx, item)
		case "undo":
			err = d.finishUndo(ctx, item)
		default:
			return fmt.Errorf("account %s: unknown intent %q", id, item.Value.Intent.Kind)
		}
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// finishMerge does what is left to do of a merge, or withdraws it when the other
// account cannot be absorbed any more. ErrConflict means: look again.
func (d *Directory) finishMerge(ctx context.Context, item store.Item[Account]) error {
	survivor := item.Value.clone()
	other, err := d.accounts.Get(ctx, survivor.Intent.Other)
	switch {
	case errors.Is(err, ErrNotFound):
		return d.withdraw(ctx, item)
	case err != nil:
		return err
	case other.Value.MergedInto == survivor.ID:
		// The decision has been made before.
	case other.Value.MergedInto != "", other.Value.Deleted, other.Value.Intent != nil, len(shared(survivor, other.Value)) > 0:
		return d.withdraw(ctx, item)
	default:
		now := d.now()
		other.Value = other.Value.clone()
		other.Value.MergedInto, other.Value.MergedAt = survivor.ID, &now
		if other, err = d.accounts.Replace(ctx, other); err != nil {
			return err
		}
		d.cache.Forget(other.ID)
	}

	absorbed := other.Value
	if survivor.Held == nil {
		survivor.Held = map[string]string{}
	}
	for provider, id := range absorbed.Identities {
		survivor.Identities[provider] = id
		survivor.Held[provider] = absorbed.ID
		if holder := absorbed.Held[provider]; holder != "" {
			survivor.Held[provider] = holder
		}
	}
	survivor.Merged = append(append(survivor.Merged, absorbed.URI), absorbed.Merged...)
	survivor.Absorbed = append(survivor.Absorbed, Absorbed{
		ID: absorbed.ID, URI: absorbed.URI, Name: absorbed.Name, Providers: absorbed.Providers(), At: *absorbed.MergedAt,
	})
	survivor.Intent = nil
	item.Value = survivor
	if _, err := d.accounts.Replace(ctx, item); err != nil {
		return err
	}
	d.wrote(survivor.ID, absorbed.ID)
	return nil
}

// finishUndo does what is left to do of an undone merge.
func (d *Directory) finishUndo(ctx context.Context, item store.Item[Account]) error {
	intent := item.Value.Intent
	other, err := d.accounts.Get(ctx, intent.Other)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case other.Value.MergedInto == item.ID:
		other.Value = other.Value.clone()
		other.Value.MergedInto, other.Value.MergedAt = "", nil
		for _, provider := range other.Value.Providers() {
			if !slices.Contains(intent.Providers, provider) {
				delete(other.Value.Identities, provider)
				delete(other.Value.Held, provider)
			}
		}
		if _, err := d.accounts.Replace(ctx, other); err != nil {
			return err
		}
	}
	if err := d.withdraw(ctx, item); err != nil {
		return err
	}
	d.wrote(intent.Other)
	return nil
}

// withdraw removes an intent.
func (d *Directory) withdraw(ctx context.Context, item store.Item[Account]) error {
	item.Value = item.Value.clone()
	item.Value.Intent = nil
	_, err := d.accounts.Replace(ctx, item)
	if err == nil {
		d.wrote(item.ID)
	}
	return err
}

// restoreOrphan brings an absorbed account back to life whose survivor neither
// lists it nor is about to: the merge was withdrawn by one process while another
// one, slower, still carried out the middle of it. It tells whether it did, or
// whether the account should be looked at again.
func (d *Directory) restoreOrphan(ctx context.Context, item store.Item[Account]) (bool, error) {
	survivor, err := d.accounts.Get(ctx, item.Value.MergedInto)
	if err != nil || survivor.Value.Deleted {
		return false, err
	}
	if survivor.Value.Intent != nil {
		return true, d.settle(ctx, survivor.ID)
	}
	if slices.Contains(survivor.Value.Merged, item.Value.URI) {
		return false, nil
	}
	item.Value = item.Value.clone()
	item.Value.MergedInto, item.Value.MergedAt = "", nil
	_, err = d.accounts.Replace(ctx, item)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, ErrNotFound) {
		d.cache.Forget(item.ID)
		return true, nil
	}
	if err == nil {
		d.wrote(item.ID)
	}
	return true, err
}

// Heal finishes what a crash has left half done and drops personal data of
// tombstones that can no longer be restored. Readers heal what they come across;
// this looks for the rest. It returns how many documents it has changed.
func (d *Directory) Heal(ctx context.Context) (int, error) {
	healed := 0
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyIntent}) {
		if err != nil {
			return healed, err
		}
		if err := d.settle(ctx, item.ID); err != nil {
			return healed, err
		}
		healed++
	}
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyDeleted}) {
		if err != nil {
			return healed, err
		}
		if err := d.remove(ctx, item.ID); err != nil {
			return healed, err
		}
		healed++
	}
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyTombstone}) {
		if err != nil {
			return healed, err
		}
		changed, err := d.healTombstone(ctx, item)
		if err != nil {
			return healed, err
		}
		if changed {
			healed++
		}
	}
	return healed, nil
}

// healTombstone restores an orphan, removes what belongs to a deleted account, and
// reduces a tombstone to its keys and its URI once it cannot be restored.
func (d *Directory) healTombstone(ctx context.Context, item store.Item[Account]) (bool, error) {
	restored, err := d.restoreOrphan(ctx, item)
	if errors.Is(err, ErrNotFound) {
		return true, d.remove(ctx, item.ID)
	}
	if err != nil || restored {
		return restored, err
	}
	if item.Value.Name == "" || item.Value.MergedAt == nil || d.now().Sub(*item.Value.MergedAt) <= UndoPeriod {
		return false, nil
	}
	item.Value = item.Value.clone()
	item.Value.Name = ""
	for provider, id := range item.Value.Identities {
		item.Value.Identities[provider] = Identity{ID: id.ID}
	}
	_, err = d.accounts.Replace(ctx, item)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err == nil {
		d.cache.Forget(item.ID)
	}
	return err == nil, err
}
