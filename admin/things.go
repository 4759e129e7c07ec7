package admin

import (
	"context"

	"login-server/audit"
	"login-server/identity"
	"login-server/notify"
	"login-server/oidc"
)

// Clients goes through the clients in the store.
func (o *Office) Clients(ctx context.Context) ([]oidc.Entry, error) {
	var all []oidc.Entry
	for e, err := range o.o.Clients.Stored(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// Client returns a client in the store, or ErrNoClient.
func (o *Office) Client(ctx context.Context, id string) (oidc.Entry, error) {
	if !usable(id) {
		return oidc.Entry{}, ErrNoClient
	}
	return o.o.Clients.StoredClient(ctx, id)
}

// DisableClient shuts a client in the store out, or lets it in again. ErrNoClient.
func (o *Office) DisableClient(ctx context.Context, by By, id string, disabled bool) error {
	e, err := o.Client(ctx, id)
	if err != nil {
		return err
	}
	action := ActionEnableClient
	if disabled {
		action = ActionDisableClient
	}
	return o.act(ctx, by, audit.Entry{Action: action, Target: id, TargetName: e.Name}, func() (map[string]string, error) {
		return nil, o.o.Clients.DisableClient(ctx, id, disabled)
	})
}

// RemoveClient removes a client from the store, with all that people have given it. ErrNoClient.
func (o *Office) RemoveClient(ctx context.Context, by By, id string) error {
	e, err := o.Client(ctx, id)
	if err != nil {
		return err
	}
	return o.act(ctx, by, audit.Entry{Action: ActionRemoveClient, Target: id, TargetName: e.Name}, func() (map[string]string, error) {
		_, err := o.o.Clients.RemoveClient(ctx, id)
		return nil, err
	})
}

// Messages returns a page of the queue, the oldest first, and the id to go on behind.
func (o *Office) Messages(ctx context.Context, f notify.Filter) (page []notify.Item, next string, err error) {
	limit := f.Limit
	f.Limit++
	if f.After != "" && !usable(f.After) {
		return nil, "", nil
	}
	page, err = o.o.Notify.List(ctx, f)
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next, err
}

// RetryMessage has a message sent now. ErrNotFound, notify.ErrLate.
func (o *Office) RetryMessage(ctx context.Context, by By, id string) error {
	if !usable(id) {
		return ErrNotFound
	}
	return o.act(ctx, by, audit.Entry{Action: ActionRetryMessage, Target: id}, func() (map[string]string, error) {
		return nil, o.o.Notify.Retry(ctx, id)
	})
}

// RemoveMessage takes a message off the queue unsent. ErrNotFound.
func (o *Office) RemoveMessage(ctx context.Context, by By, id string) error {
	if !usable(id) {
		return ErrNotFound
	}
	return o.act(ctx, by, audit.Entry{Action: ActionRemoveMessage, Target: id}, func() (map[string]string, error) {
		return nil, o.o.Notify.Remove(ctx, id)
	})
}

// Overview is the installation in numbers.
type Overview struct {
	People, Admins, Sessions int
	// Clients are those in the store.
	Clients                    int
	MessagesWaiting, Failed    int
	ProvidersDown, ProvidersUp int
}

// Overview counts.
func (o *Office) Overview(ctx context.Context) (v Overview, err error) {
	if v.People, err = o.o.Users.Count(ctx, ""); err != nil {
		return v, err
	}
	admins, err := o.o.Users.InRole(ctx, identity.RoleAdmin)
	if err != nil {
		return v, err
	}
	v.Admins = len(admins)
	if v.Sessions, err = o.o.Sessions.Count(ctx); err != nil {
		return v, err
	}
	if v.Clients, err = o.o.CountClients(ctx); err != nil {
		return v, err
	}
	for _, channel := range []string{notify.ChannelMail, notify.ChannelSMS} {
		stats, err := o.o.Notify.Stats(ctx, channel)
		if err != nil {
			return v, err
		}
		v.MessagesWaiting += stats.Waiting
		v.Failed += stats.Failed
	}
	for _, p := range o.o.Providers.All() {
		if h := p.Health(); h.Known && h.Up {
			v.ProvidersUp++
		} else if h.Known {
			v.ProvidersDown++
		}
	}
	return v, nil
}
