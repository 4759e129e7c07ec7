// Package providers is how people prove who they are: one file per strategy,
// each turning a login into an identity.Profile.
//
// A strategy is a type of options that decodes from providers.json, checks itself
// and opens a provider. What a provider can do is a small interface of its own
// (Checker: a username and a password), asserted where the strategy is defined.
//
// The room stands above config, whose problems it adds to, and above identity.
package providers

import (
	"context"
	"errors"

	"login-server/identity"
)

// ErrRefused: unknown user, wrong password, or empty password. Nothing tells which.
var ErrRefused = errors.New("credentials refused")

// RefusedError is a refusal for which the provider gave a reason that may be
// shown to the person, in plain text. It matches ErrRefused.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string        { return "credentials refused: " + e.Reason }
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Checker proves a username and a password (local, script, ldapauth, easydb, cbs,
// test). An unknown user and a wrong password are both ErrRefused, after the same
// time; any other error means that the provider could not be asked, is for the log
// and never shown.
type Checker interface {
	Check(ctx context.Context, username, password string) (identity.Profile, error)
}

// Prober tells whether a provider can be reached, for the doctor command.
type Prober interface {
	Probe(ctx context.Context) error
}
