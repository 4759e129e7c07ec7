package oidc

import (
	"context"
	"iter"
)

// What administrators do to clients. Those of applications.json are the operator's: they are
// shown, and changed in the file.

// Stored goes through the clients in the store, without secrets, in the order of their ids.
func (p *Provider) Stored(ctx context.Context) iter.Seq2[Entry, error] {
	return p.clients.registry.All(ctx)
}

// StoredClient returns a client in the store, or ErrNoClient.
func (p *Provider) StoredClient(ctx context.Context, id string) (Entry, error) {
	return p.clients.registry.Get(ctx, id)
}

// DisableClient shuts a client in the store out, or lets it in again. As long as it is
// disabled it is unknown to everybody, and none of its tokens are good; but it is told of the
// ends of sessions, so that people are signed out there as well. ErrNoClient.
func (p *Provider) DisableClient(ctx context.Context, id string, disabled bool) error {
	defer p.clientChanged(id) // a write that has failed may have happened
	return p.clients.registry.SetDisabled(ctx, id, disabled)
}

// RemoveClient is Registry.Remove of a server that is running.
func (p *Provider) RemoveClient(ctx context.Context, id string) (consents int, err error) {
	defer p.clientChanged(id)
	return p.clients.registry.Remove(ctx, id)
}
