package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
// so after a crash between any two writes the next reader heals the accounts.
//
// Several may be at it at once, and one of them may be late by any time. Step 2 is
// therefore written only over what the intent names, which comes but once: for a
// merge, the version of the other document that the survivor's owner has seen; for
// an undo, the tombstone of that very merge. If the other document is neither that
// nor the outcome of step 2, nobody can carry out step 2 any more, and the intent is
// withdrawn. Steps 1 and 3 are compare-and-swap, so the slower one fails and looks
// again.
//
// The unique keys of the absorbed identities stay with the tombstone: moving them
// would need a moment in which nobody owns them, and a sign-in in that moment
// would make a third account. The survivor notes in Held who holds them.
//
// What providers gave to act in the person's name (Account.Upstream) and what they say of
// the person (Account.Given) travel in the intent, both ways, so that no tombstone keeps
// them after they were replaced or dropped. What was set here (Account.Claims) stays with
// the tombstone as well.

// Kinds of intents.
const (
	intentMerge = "merge"
	intentUndo  = "undo"
)

// mergeAttempts is how often a merge is decided anew because one of the accounts
// has changed in the middle of it.
const mergeAttempts = 10

// Merge lets the account survivor absorb the account other, whose URI the
// survivor takes over. Accounts that share a provider are left as they are:
// *SharedError. ErrBusy if others keep changing one of them.
//
// The caller has made sure that both belong to the person who asks.
func (d *Directory) Merge(ctx context.Context, survivor, other string) (Account, error) {
	for range mergeAttempts {
		into, err := d.live(ctx, survivor)
		if err != nil {
			return Account{}, err
		}
		from, err := d.live(ctx, other)
		if err != nil {
			return Account{}, err
		}
		if into.ID == from.ID {
			return into.Value, nil
		}
		if into.Value.Disabled || from.Value.Disabled {
			return Account{}, ErrDisabled
		}
		if both := shared(into.Value, from.Value); len(both) > 0 {
			return Account{}, &SharedError{Providers: both}
		}
		into.Value = into.Value.clone()
		into.Value.Intent = &Intent{Kind: intentMerge, Other: from.ID, ID: d.newID(), Version: from.Version, Upstream: from.Value.Upstream, Given: from.Value.Given}
		_, err = d.accounts.Replace(ctx, into)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, ErrNotFound) {
			continue
		}
		d.cache.Forget(into.ID)
		if err != nil {
			return Account{}, err
		}
		if err := d.settle(ctx, into.ID); err != nil {
			return Account{}, err
		}
		// Unless the intent was withdrawn, the next look finds one account.
	}
	return Account{}, ErrBusy
}

// UndoMerge lets an account go again that was absorbed less than UndoPeriod ago:
// both are as they were, but for what was changed since on purpose. Identities
// that were disconnected after the merge stay disconnected.
//
// An account that was absorbed together with the one that had absorbed it before
// goes with that one; from there it can be let go in turn.
func (d *Directory) UndoMerge(ctx context.Context, survivor, other string) (Account, Account, error) {
	a, err := d.update(ctx, survivor, func(a *Account) error { return d.intendUndo(ctx, a, other) })
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

// intendUndo takes from a survivor what it has got by a merge, and notes the rest as an intent.
func (d *Directory) intendUndo(ctx context.Context, a *Account, other string) error {
	i := slices.IndexFunc(a.Absorbed, func(x Absorbed) bool { return x.ID == other })
	if i < 0 || d.undoExpired(a.Absorbed[i].At) {
		return ErrUndoExpired
	}
	item, err := d.accounts.Get(ctx, other)
	tombstone := item.Value
	switch {
	case errors.Is(err, ErrNotFound), err == nil && tombstone.MergedInto != a.ID:
		return ErrUndoExpired // somebody has just been faster
	case err != nil:
		return err
	}
	intent := &Intent{Kind: intentUndo, Other: other, ID: tombstone.MergeID}
	for _, provider := range tombstone.Providers() {
		// An identity that was disconnected and has come back by another way is not
		// part of this merge any more.
		if a.has(provider, tombstone.Identities[provider].ID) && a.Held[provider] == tombstone.holder(provider) {
			intent.Providers = append(intent.Providers, provider)
			if sealed := a.Upstream[provider]; sealed != "" {
				if intent.Upstream == nil {
					intent.Upstream = map[string]string{}
				}
				intent.Upstream[provider] = sealed
			}
			if given := a.Given[provider]; given != nil {
				if intent.Given == nil {
					intent.Given = map[string]map[string]any{}
				}
				intent.Given[provider] = given
			}
			delete(a.Identities, provider)
			delete(a.Held, provider)
			delete(a.Upstream, provider)
			delete(a.Given, provider)
		}
	}
	maps.DeleteFunc(a.Claims, func(_ string, c Claim) bool { return c.From == other })
	if len(intent.Providers) == 0 || len(a.Identities) == 0 {
		return ErrUndoImpossible
	}
	a.Merged = slices.DeleteFunc(a.Merged, func(uri string) bool {
		return uri == tombstone.URI || slices.Contains(tombstone.Merged, uri)
	})
	a.Absorbed = slices.Delete(a.Absorbed, i, i+1)
	a.Intent = intent
	return nil
}

func (d *Directory) undoExpired(mergedAt time.Time) bool {
	return d.now().Sub(mergedAt) > UndoPeriod
}

// settle finishes the intent of an account, if it has one.
func (d *Directory) settle(ctx context.Context, id string) error {
	for {
		item, err := d.accounts.Get(ctx, id)
		if errors.Is(err, ErrNotFound) || err == nil && item.Value.Intent == nil {
			d.cache.Forget(id)
			return nil
		}
		if err != nil {
			return err
		}
		switch item.Value.Intent.Kind {
		case intentMerge:
			err = d.finishMerge(ctx, item)
		case intentUndo:
			err = d.finishUndo(ctx, item)
		default:
			return fmt.Errorf("account %s: unknown intent %q", id, item.Value.Intent.Kind)
		}
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
}

// finishMerge does what is left to do of a merge, or withdraws it when the other
// account has changed before it was absorbed. ErrConflict and ErrNotFound mean:
// look again.
func (d *Directory) finishMerge(ctx context.Context, item store.Item[Account]) error {
	survivor := item.Value.clone()
	intent := survivor.Intent
	survivor.Intent = nil
	other, err := d.accounts.Get(ctx, intent.Other)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case err == nil && other.Value.MergeID == intent.ID:
		// Step 2 is done.
	case err == nil && other.Version == intent.Version:
		now := d.now()
		other.Value = other.Value.clone()
		other.Value.MergedInto, other.Value.MergedAt, other.Value.MergeID = survivor.ID, &now, intent.ID
		other.Value.Upstream, other.Value.Given = nil, nil
		_, err := d.accounts.Replace(ctx, other)
		d.cache.Forget(other.ID)
		if err != nil {
			return err
		}
	default:
		item.Value = survivor
		_, err := d.accounts.Replace(ctx, item)
		d.wrote(survivor.ID)
		return err
	}

	absorbed := other.Value
	if survivor.Held == nil {
		survivor.Held = map[string]string{}
	}
	survivor.Updated = *absorbed.MergedAt
	// Only what was known before the providers of the other counts as known here.
	survivor.fill(absorbed)
	for provider, id := range absorbed.Identities {
		survivor.Identities[provider] = id
		survivor.Held[provider] = absorbed.holder(provider)
		survivor.keepUpstream(provider, intent.Upstream[provider])
		survivor.keepGiven(provider, intent.Given[provider])
	}
	survivor.Merged = append(append(survivor.Merged, absorbed.URI), absorbed.Merged...)
	survivor.Absorbed = append(survivor.Absorbed, Absorbed{
		ID: absorbed.ID, URI: absorbed.URI, Name: absorbed.Name, Providers: absorbed.Providers(), At: *absorbed.MergedAt,
	})
	item.Value = survivor
	_, err = d.accounts.Replace(ctx, item)
	d.wrote(survivor.ID, absorbed.ID)
	return err
}

// finishUndo does what is left to do of an undone merge. Errors as finishMerge.
func (d *Directory) finishUndo(ctx context.Context, item store.Item[Account]) error {
	intent := item.Value.Intent
	other, err := d.accounts.Get(ctx, intent.Other)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && other.Value.MergedInto == item.ID && other.Value.MergeID == intent.ID {
		other.Value = other.Value.clone()
		other.Value.MergedInto, other.Value.MergedAt, other.Value.MergeID = "", nil, ""
		other.Value.Upstream, other.Value.Given = maps.Clone(intent.Upstream), maps.Clone(intent.Given)
		for _, provider := range other.Value.Providers() {
			if !slices.Contains(intent.Providers, provider) {
				delete(other.Value.Identities, provider)
				delete(other.Value.Held, provider)
			}
		}
		_, err := d.accounts.Replace(ctx, other)
		d.cache.Forget(other.ID)
		if err != nil {
			return err
		}
	}
	item.Value = item.Value.clone()
	item.Value.Intent = nil
	_, err = d.accounts.Replace(ctx, item)
	d.wrote(item.ID, intent.Other)
	return err
}

// Heal finishes what a crash has left half done, and drops what was kept for
// undoing merges that can no longer be undone, or for applications that are not to
// have it any more. Readers heal what they come across; this looks for the rest. It
// returns how many documents it has changed.
func (d *Directory) Heal(ctx context.Context) (int, error) {
	healed := 0
	for _, step := range []struct {
		key  string
		heal func(context.Context, store.Item[Account]) (bool, error)
	}{
		{keyIntent, func(ctx context.Context, item store.Item[Account]) (bool, error) {
			return true, d.settle(ctx, item.ID)
		}},
		{keyDeleted, func(ctx context.Context, item store.Item[Account]) (bool, error) {
			return true, d.remove(ctx, item.ID)
		}},
		{keyAbsorbed, d.forgetAbsorbed},
		{keyTombstone, d.reduceTombstone},
		{keyUpstream, d.forgetUpstream},
	} {
		for item, err := range d.accounts.All(ctx, store.Query{Key: step.key}) {
			if err != nil {
				return healed, err
			}
			changed, err := step.heal(ctx, item)
			if err != nil {
				return healed, err
			}
			if changed {
				healed++
			}
		}
	}
	return healed, d.nameAll(ctx)
}

// forgetAbsorbed drops what an account says of others that were merged into it
// too long ago to be undone.
func (d *Directory) forgetAbsorbed(ctx context.Context, item store.Item[Account]) (bool, error) {
	expired := func(x Absorbed) bool { return d.undoExpired(x.At) }
	if !slices.ContainsFunc(item.Value.Absorbed, expired) {
		return false, nil
	}
	_, err := d.update(ctx, item.ID, func(a *Account) error {
		a.Absorbed = slices.DeleteFunc(a.Absorbed, expired)
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// reduceTombstone leaves nothing but the keys and the URI of a tombstone that
// cannot be restored any more.
func (d *Directory) reduceTombstone(ctx context.Context, item store.Item[Account]) (bool, error) {
	a := item.Value.clone()
	// The hour is for an undo that has begun at the last moment.
	if a.Name == "" || a.MergedAt == nil || d.now().Sub(*a.MergedAt) <= UndoPeriod+time.Hour {
		return false, nil
	}
	a.Name, a.Absorbed, a.Claims, a.Notices, a.Roles = "", nil, nil, Notices{}, nil
	for provider, id := range a.Identities {
		a.Identities[provider] = Identity{ID: id.ID}
	}
	item.Value = a
	_, err := d.accounts.Replace(ctx, item)
	d.cache.Forget(item.ID)
	if errors.Is(err, store.ErrConflict) || errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
