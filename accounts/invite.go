package accounts

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"login-server/audit"
	"login-server/credential"
	"login-server/providers"
)

// Invitation asks somebody to sign up.
type Invitation struct {
	Email string
	// Name of the person, to be filled in; may be empty.
	Name string
	// Role is what they become with it; empty for most.
	Role string
	// By is who invites, as the mail says it.
	By string
	// Language of the mail.
	Language string
}

// invited is what waits in an invitation.
type invited struct {
	Name string `json:"name,omitempty"`
	Role string `json:"role,omitempty"`
}

// Invite writes an invitation, which is good once, for InvitationLife and that address
// alone, and replaces one before. It returns its link, for who invites can hand it on where no mail is
// sent: then the error is ErrNoMail beside it. Whoever has the link is taken for the
// owner of the address. *InvalidError, ErrTaken if the address has an account, ErrOff, ErrClosed.
func (d *Desk) Invite(ctx context.Context, inv Invitation) (link string, err error) {
	p, a, err := d.local()
	if err != nil {
		return "", err
	}
	if !a.Password && !a.Passkeys {
		return "", ErrOff // nobody could accept it
	}
	if a.Registration == providers.RegistrationClosed {
		return "", ErrClosed
	}
	address, err := ParseAddress(inv.Email)
	if err != nil {
		return "", err
	}
	known, _, err := d.holder(ctx, p.ID, address)
	if err != nil {
		return "", err
	}
	if known.ID != "" {
		return "", credential.ErrTaken
	}
	// An invitation has no credential: it is found by the address in its place.
	mark := "invited:" + credential.Fold(address)
	if err := d.o.Credentials.Withdraw(ctx, credential.PendingInvitation, mark); err != nil {
		return "", err
	}
	i, err := d.o.Credentials.Begin(ctx, credential.Pending{
		Kind: credential.PendingInvitation, Credential: mark, Email: address, Language: inv.Language,
	}, invited{inv.Name, inv.Role}, InvitationLife)
	if err != nil {
		return "", err
	}
	link = d.o.BaseURL + "signup?" + url.Values{"invitation": {i.Secret}}.Encode()
	return link, d.send(ctx, letter{
		kind: "invitation", to: address, name: inv.Name, language: inv.Language,
		args: map[string]any{"Name": inv.By, "Days": int(InvitationLife / (24 * time.Hour))}, link: link, expires: i.Expires,
	})
}

// invitation is what a key stands for. ErrNotFound, ErrClosed.
func (d *Desk) invitation(ctx context.Context, key string) (credential.Pending, invited, error) {
	var inv invited
	_, a, err := d.local()
	if err != nil {
		return credential.Pending{}, inv, err
	}
	if a.Registration == providers.RegistrationClosed {
		return credential.Pending{}, inv, ErrClosed
	}
	p, err := d.ByLink(ctx, credential.PendingInvitation, key)
	if err != nil {
		return p, inv, err
	}
	return p, inv, d.o.Credentials.Payload(p, &inv)
}

// Invited returns whom an invitation is for, and the name to fill in. It changes nothing.
// ErrNotFound, ErrOff, ErrClosed.
func (d *Desk) Invited(ctx context.Context, key string) (email, name string, err error) {
	p, inv, err := d.invitation(ctx, key)
	return p.Email, inv.Name, err
}

// SignUpInvited makes the credential of who was invited: the link has been to the address
// and proves it. s.Email does not matter. It is good once. ErrNotFound, *InvalidError, ErrTaken,
// ErrBusy, ErrOff, ErrClosed.
func (d *Desk) SignUpInvited(ctx context.Context, key string, s SignUp) (Proof, error) {
	_, a, err := d.withPassword()
	if err != nil {
		return Proof{}, err
	}
	p, inv, err := d.invitation(ctx, key)
	if err != nil {
		return Proof{}, err
	}
	waiting, err := d.checkNewcomer(ctx, a, p.Email, s)
	if err != nil {
		return Proof{}, err
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return Proof{}, err
	}
	p.Continue = s.Continue
	return d.register(ctx, p, waiting, inv.Role)
}

// Accept spends an invitation, before anything is made, and gives its address and role to c,
// which is to become the credential of who was invited and has shown something else than a
// password. ErrNotFound, ErrAddressTaken, ErrOff, ErrClosed.
func (d *Desk) Accept(ctx context.Context, key string, c *credential.Credential) error {
	p, inv, err := d.invitation(ctx, key)
	if err != nil {
		return err
	}
	local, _, err := d.local()
	if err != nil {
		return err
	}
	known, _, err := d.holder(ctx, local.ID, p.Email)
	if err != nil {
		return err
	}
	if known.ID != "" {
		return ErrAddressTaken
	}
	if err := d.o.Credentials.End(ctx, p); err != nil {
		return err
	}
	c.Emails = []credential.Email{{Address: p.Email, Primary: true, Verified: d.o.Clock.Now()}}
	c.Role = inv.Role
	return nil
}

// appointed gives somebody what their invitation has made of them, before they are let in. It
// stands in the credential until the account has it: what is cut short is made up for when they
// sign in next.
func (d *Desk) appointed(ctx context.Context, shown Proof) (Proof, error) {
	role := shown.Credential.Role
	if role == "" {
		return shown, nil
	}
	a, _, err := d.o.Users.SignIn(ctx, shown.Profile)
	if err != nil {
		return Proof{}, err
	}
	if _, err := d.o.Users.Grant(ctx, a.ID, role); err != nil {
		return Proof{}, fmt.Errorf("give the role of an invitation: %w", err)
	}
	if err := d.o.Audit.Record(ctx, audit.Entry{
		Actor: audit.ActorSystem, Action: "user.grant", Target: a.ID, TargetName: a.Name, Detail: map[string]string{"role": role, "by": "invitation"},
	}); err != nil {
		return Proof{}, err
	}
	shown.Credential, err = d.o.Credentials.Update(ctx, shown.Credential.ID, func(c *credential.Credential) error {
		c.Role = ""
		return nil
	})
	return shown, err
}
