package oidc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"login-server/identity"
	"login-server/picture"
	"login-server/session"
	"login-server/store"
)

// Connection is a client that somebody has let in.
type Connection struct {
	Client *Client
	// Trusted: it was let in by the operator, and asks nobody.
	Trusted bool
	// Scopes it was allowed, or has got, without openid.
	Scopes []string
	// Since is when it was first allowed in, or has first come, as far as that is known;
	// Used when it has last got tokens.
	Since, Used time.Time
}

// Connected lists the clients that have a consent of a person, or a grant that stands, the
// one used last first. ids are those of the account and of those that were merged into it.
func (p *Provider) Connected(ctx context.Context, ids ...string) ([]Connection, error) {
	found := map[string]*Connection{}
	note := func(client string, scopes []string, since, used time.Time) error {
		c, ok := found[client]
		if !ok {
			known, err := p.clients.get(ctx, client)
			if errors.Is(err, errUnknownClient) || errors.As(err, new(*Error)) {
				return nil // it was removed, or is not valid any more, and so is what it had
			}
			if err != nil {
				return err
			}
			c = &Connection{Client: known, Trusted: known.Trusted, Since: since}
			found[client] = c
		}
		for _, s := range scopes {
			if s != scopeOpenID && !slices.Contains(c.Scopes, s) {
				c.Scopes = append(c.Scopes, s)
			}
		}
		if since.Before(c.Since) {
			c.Since = since
		}
		if used.After(c.Used) {
			c.Used = used
		}
		return nil
	}
	for _, id := range ids {
		for item, err := range p.consents.All(ctx, store.Query{Key: keyUser(id)}) {
			if err != nil {
				return nil, err
			}
			if err := note(item.Value.Client, item.Value.Scopes, item.Value.Granted, item.Value.Used); err != nil {
				return nil, err
			}
		}
		for item, err := range p.grants.All(ctx, store.Query{Key: keyUser(id)}) {
			if err != nil {
				return nil, err
			}
			g := item.Value
			if err := p.inForce(ctx, g); errors.Is(err, errGone) {
				continue
			} else if err != nil {
				return nil, err
			}
			if err := note(g.Client, g.Scope, g.Created, g.Used); err != nil {
				return nil, err
			}
		}
	}
	list := make([]Connection, 0, len(found))
	for _, c := range found {
		slices.SortFunc(c.Scopes, func(a, b string) int { return slices.Index(scopes, a) - slices.Index(scopes, b) })
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Connection) int {
		if c := b.Used.Compare(a.Used); c != 0 {
			return c
		}
		return strings.Compare(a.Client.ClientID, b.Client.ClientID)
	})
	return list, nil
}

// Disconnect takes back what a person has allowed a client, and ends all it has got in
// their name. The consent goes first: a request that comes in between has to ask.
func (p *Provider) Disconnect(ctx context.Context, client string, ids ...string) error {
	for _, id := range ids {
		if err := p.consents.Delete(ctx, consentID(id, client)); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	for _, id := range ids {
		// Then the mark: a code that was given on that consent does not know it.
		err := withdraw(ctx, p.withdrawals, id, client, p.o.Clock.Now())
		p.forgetMarks(id, client)
		if err != nil {
			return err
		}
		// A device that was let in and has not asked since is told that it is not any more.
		for item, err := range p.devices.All(ctx, store.Query{Key: keyUser(id)}) {
			if err != nil {
				return err
			}
			if item.Value.Client != client {
				continue
			}
			_, err := p.devices.Update(ctx, item.ID, func(d *device) error {
				d.Denied, d.Grant = true, nil
				return nil
			})
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		for item, err := range p.grants.All(ctx, store.Query{Key: keyUser(id)}) {
			if err != nil {
				return err
			}
			if item.Value.Client != client || item.Value.Revoked {
				continue
			}
			if err := p.revoke(ctx, item.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteAccount removes an account with all that is kept about the person here: what they
// have allowed, and what clients have got by it, go first, so that nothing is left when it
// ends in between. The rest, and keep, are as session.Manager.DeleteAccount has them.
func DeleteAccount(ctx context.Context, engine store.Engine, sessions *session.Manager, users *identity.Directory, id, keep string) error {
	a, err := users.Get(ctx, id)
	if err != nil {
		return err
	}
	ids, err := users.IDs(ctx, a)
	if err != nil {
		return err
	}
	grants := store.NewCollection(engine, "grant", grant.index)
	consents := store.NewCollection(engine, "consent", consent.index)
	devices := store.NewCollection(engine, "device", device.index)
	withdrawals := store.NewCollection(engine, "withdrawal", withdrawal.index)
	for _, id := range ids {
		if err := deleteAll(ctx, devices, keyUser(id)); err != nil {
			return err
		}
		if err := deleteAll(ctx, consents, keyUser(id)); err != nil {
			return err
		}
		if err := deleteAll(ctx, grants, keyUser(id)); err != nil {
			return err
		}
	}
	// Pictures before, so that a crash leaves none that nobody owns, and after for one that has
	// been uploaded meanwhile.
	pictures := picture.NewAlbum(engine, time.Now)
	if err := pictures.DeleteOf(ctx, nil, ids...); err != nil {
		return err
	}
	if err := sessions.DeleteAccount(ctx, users, a.ID, keep); err != nil {
		return err
	}
	// Grants once more, of codes that were redeemed meanwhile. Marks were needed up to here.
	for _, id := range ids {
		if err := errors.Join(deleteAll(ctx, grants, keyUser(id)), deleteAll(ctx, withdrawals, keyUser(id))); err != nil {
			return err
		}
	}
	return pictures.DeleteOf(ctx, nil, ids...)
}

// deleteAll deletes the documents of a key.
func deleteAll[T any](ctx context.Context, c *store.Collection[T], key string) error {
	for item, err := range c.All(ctx, store.Query{Key: key}) {
		if err != nil {
			return err
		}
		if err := c.Delete(ctx, item.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}
