// Package admin is what administrators do to people, clients and messages. The pages and
// the JSON API of package web both call it, so that there is one set of rules; who may call it
// at all is decided there.
//
// Every action is in the audit log before it is done, and once more with how it has ended.
// What cannot be written there is not done.
//
// Nothing here acts in somebody's name, and nothing returns a secret: no hash, no code, no
// content of a message.
package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"

	"login-server/accounts"
	"login-server/audit"
	"login-server/credential"
	"login-server/identity"
	"login-server/notify"
	"login-server/oidc"
	"login-server/providers"
	"login-server/session"
)

// Actions as the audit log has them.
const (
	ActionDisable      = "user.disable"
	ActionEnable       = "user.enable"
	ActionSignOut      = "user.sign_out"
	ActionResetFactors = "user.reset_factors"
	ActionSendReset    = "user.send_reset"
	ActionRevoke       = "user.revoke"
	ActionDelete       = "user.delete"
	ActionInvite       = "user.invite"
	ActionEndSession   = "session.end"

	ActionDisableClient = "client.disable"
	ActionEnableClient  = "client.enable"
	ActionRemoveClient  = "client.remove"

	ActionRetryMessage  = "message.retry"
	ActionRemoveMessage = "message.remove"
)

// States of an action in the audit log, as the detail "state".
const (
	StateBegun  = "begun"
	StateDone   = "done"
	StateFailed = "failed"
)

// Errors, possibly wrapped, beside those of the rooms that do the work.
var (
	// ErrNotFound: there is no such person, session or message.
	ErrNotFound = identity.ErrNotFound
	// ErrLast: nobody else who can sign in would be an administrator.
	ErrLast = identity.ErrLastInRole
	// ErrName: what was typed is not the name of who is to be deleted.
	ErrName = errors.New("not the name of the account")
	// ErrNoFactors: the person has nothing of what is to be taken away.
	ErrNoFactors = errors.New("there are no factors to reset")
	// ErrNoAddress: the person has no address here that a reset could be sent to.
	ErrNoAddress = errors.New("no address to send it to")
	// ErrNoClient: there is no such client in the store.
	ErrNoClient = oidc.ErrNoClient
)

// Clients are those in the store, of a server that is running (oidc.Provider).
type Clients interface {
	Stored(context.Context) iter.Seq2[oidc.Entry, error]
	StoredClient(ctx context.Context, id string) (oidc.Entry, error)
	DisableClient(ctx context.Context, id string, disabled bool) error
	RemoveClient(ctx context.Context, id string) (consents int, err error)
	Connected(ctx context.Context, ids ...string) ([]oidc.Connection, error)
}

// Options are what an Office stands on.
type Options struct {
	Users       *identity.Directory
	Sessions    *session.Manager
	Credentials *credential.Book
	Providers   *providers.Set
	Desk        *accounts.Desk
	Clients     Clients
	Notify      *notify.Queue
	Audit       *audit.Book
	// CountClients tells how many clients are in the store.
	CountClients func(context.Context) (int, error)
	// Delete removes an account and all that is kept about the person.
	Delete func(ctx context.Context, id string) error
	// Tell writes to somebody what was done to their account.
	Tell func(ctx context.Context, a identity.Account, kind string, args map[string]any)
	Log  *slog.Logger
}

// Office is where administrators do their work. It is safe for concurrent use.
type Office struct{ o Options }

// New returns the office of an installation.
func New(o Options) *Office { return &Office{o} }

// By is who acts.
type By struct {
	Account identity.Account
	// Address is where the request comes from.
	Address string
}

// act does something that is in the audit log before and after. What it returns is for the
// second entry.
func (o *Office) act(ctx context.Context, by By, e audit.Entry, do func() (detail map[string]string, err error)) error {
	e.Actor, e.ActorName, e.Address = by.Account.ID, by.Account.Name, by.Address
	begun := maps.Clone(e.Detail)
	if begun == nil {
		begun = map[string]string{}
	}
	entry := func(state string, more map[string]string) audit.Entry {
		out := e
		out.Detail = maps.Clone(begun)
		out.Detail["state"] = state
		maps.Copy(out.Detail, more)
		return out
	}
	if err := o.o.Audit.Record(ctx, entry(StateBegun, nil)); err != nil {
		return fmt.Errorf("%s is not done: %w", e.Action, err)
	}
	detail, err := do()
	state := StateDone
	if err != nil {
		state, detail = StateFailed, map[string]string{"reason": err.Error()}
	}
	// Who has asked may have gone; what was done is written all the same.
	if failed := o.o.Audit.Record(context.WithoutCancel(ctx), entry(state, detail)); failed != nil {
		o.o.Log.ErrorContext(ctx, "the end of an action is not in the audit log", "action", e.Action, "actor", e.Actor, "target", e.Target, "state", state, "err", failed)
	}
	return err
}

func person(action string, a identity.Account) audit.Entry {
	return audit.Entry{Action: action, Target: a.ID, TargetName: a.Name}
}
