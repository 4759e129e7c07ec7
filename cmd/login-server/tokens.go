package main

import (
	"context"
	"slices"

	"login-server/cluster"
	"login-server/config"
	"login-server/events"
	"login-server/oidc"
	"login-server/providers"
	"login-server/token"
)

// openTokens loads the keys, of the files and of the database. node is nil where there are
// no others.
func (p *program) openTokens(ctx context.Context, node *cluster.Node, set *providers.Set) (*token.Manager, error) {
	o, err := p.tokenOptions()
	if err != nil {
		return nil, err
	}
	o.Encrypts = func() bool { // providers.json may be read again
		_, ok := set.Local()
		return ok
	}
	if node != nil {
		o.Secret = node.Secret
	}
	return token.NewManager(ctx, p.guard, o)
}

// tokenOptions are what the settings say of keys and tokens.
func (p *program) tokenOptions() (token.Options, error) {
	cfg := p.cfg
	sealer, err := token.NewSealer(cfg.SessionSecrets, token.KeysPurpose)
	return token.Options{
		PrivateKeyPath: cfg.JWTPrivateKeyPath, PublicKeyPath: cfg.JWTPublicKeyPath,
		Algorithm: cfg.JWTAlgorithm, ExpiresIn: cfg.JWTExpiresIn,
		Sealer: sealer, Life: oidc.TokenLife(cfg.AccessTokenLife), PublishFor: cfg.KeyPublishFor, RotateEvery: cfg.KeyRotateEvery,
		Encrypts: func() bool {
			return slices.ContainsFunc(cfg.Providers, func(p config.Provider) bool { return p.Strategy == "account" && !p.Disabled })
		},
		Written: func() { p.bus.Publish(events.Hint{Everything: true}) },
		Now:     p.clock.Now, Log: p.log,
	}, err
}
