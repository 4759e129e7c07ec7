package main

import (
	"context"

	"login-server/oidc"
	"login-server/token"
)

// openTokens loads the keys, of the files and of the database.
func (p *program) openTokens(ctx context.Context) (*token.Manager, error) {
	cfg := p.cfg
	sealer, err := token.NewSealer(cfg.SessionSecrets, token.KeysPurpose)
	if err != nil {
		return nil, err
	}
	return token.NewManager(ctx, p.store, token.Options{
		PrivateKeyPath: cfg.JWTPrivateKeyPath, PublicKeyPath: cfg.JWTPublicKeyPath,
		Algorithm: cfg.JWTAlgorithm, ExpiresIn: cfg.JWTExpiresIn,
		Sealer: sealer, Life: oidc.TokenLife(cfg.AccessTokenLife), PublishFor: cfg.KeyPublishFor, RotateEvery: cfg.KeyRotateEvery,
		Now: p.clock.Now, Log: p.log,
	})
}
