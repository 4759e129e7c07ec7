package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"login-server/notify"
	"login-server/store"
)

type mailCmd struct {
	List   mailListCmd   `cmd:"" help:"List mails and SMS that wait, and those that could not be sent."`
	Retry  mailRetryCmd  `cmd:"" help:"Send messages now, also those that were given up."`
	Remove mailRemoveCmd `cmd:"" help:"Take messages off the queue unsent."`
}

// messages is the queue of a command.
func (p *program) messages() (*notify.Queue, error) {
	if p.notify == nil {
		return nil, errors.New("there is no secret yet that messages could be read with: the server makes it when it is started")
	}
	return p.notify, nil
}

type mailListCmd struct {
	Failed bool `help:"Only those that were given up."`
}

// Help implements kong.HelpProvider.
func (mailListCmd) Help() string {
	return `What was sent is not kept. What could not be sent is, for seven days. Nothing of what messages say is shown.

Examples:

  login-server mail list
  login-server mail list --failed --json | jq .problem`
}

// Run implements the command.
func (c mailListCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		queue, err := p.messages()
		if err != nil {
			return err
		}
		filter := notify.Filter{}
		if c.Failed {
			filter.State = notify.Failed
		}
		titles := []string{"ID", "CHANNEL", "KIND", "TO", "STATE", "QUEUED", "NEXT OR GIVEN UP", "ATTEMPTS", "PROBLEM"}
		return list(a, queue.All(ctx, filter), "Nothing waits, and nothing has failed.", titles, func(m notify.Item) []string {
			return []string{m.ID, m.Channel, m.Kind, m.To, m.State, when(m.Queued), when(m.Next), strconv.Itoa(m.Attempts), m.Problem}
		})
	})
}

type mailRetryCmd struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Messages, as \"mail list\" names them."`
	All bool     `help:"All of them."`
}

// Help implements kong.HelpProvider.
func (mailRetryCmd) Help() string {
	return `A running server sends them within about a second (with MongoDB: a minute); otherwise the next start does. What is too late, such as a code that has expired, is not sent any more.

Examples:

  login-server mail retry 019a8c2f1b0-k3vq7m2hbn5xw4ta
  login-server mail retry --all`
}

// Run implements the command.
func (c mailRetryCmd) Run(ctx context.Context, a *app) error {
	if c.All == (len(c.IDs) > 0) {
		return errors.New("name messages, or write --all")
	}
	return a.with(ctx, func(p *program) error {
		queue, err := p.messages()
		if err != nil {
			return err
		}
		n := len(c.IDs)
		if c.All {
			n, err = queue.RetryAll(ctx)
		} else {
			err = notThere(queue.Retry(ctx, c.IDs...))
		}
		if err != nil {
			return err
		}
		return a.done(map[string]int{"retried": n}, "%s to be sent now.", count(n, "message"))
	})
}

type mailRemoveCmd struct {
	IDs []string `arg:"" name:"id" help:"Messages, as \"mail list\" names them."`
}

// Run implements the command.
func (c mailRemoveCmd) Run(ctx context.Context, a *app) error {
	return a.with(ctx, func(p *program) error {
		queue, err := p.messages()
		if err != nil {
			return err
		}
		for _, id := range c.IDs {
			if err := queue.Remove(ctx, id); err != nil {
				return notThere(fmt.Errorf("message %s: %w", id, err))
			}
		}
		return a.done(map[string]int{"removed": len(c.IDs)}, "Removed %s.", count(len(c.IDs), "message"))
	})
}

// notThere says in words for people that a message is not there.
func notThere(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w; it was sent or removed meanwhile, or never there", err)
	}
	return err
}
