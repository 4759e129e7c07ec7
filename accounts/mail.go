package accounts

import (
	"context"
	"errors"
	"net/url"
	"time"

	"login-server/credential"
	"login-server/identity"
	"login-server/notify"
	"login-server/templates"
)

// lives is how long what waits for a mail is good, by its kind.
var lives = map[string]time.Duration{
	credential.PendingSignUp: SignUpLife,
	credential.PendingReset:  ResetLife,
	credential.PendingEmail:  EmailLife,
	credential.PendingUnlock: UnlockLife,
}

// letter is a mail to be queued.
type letter struct {
	kind, to string
	// name of the recipient; may be empty.
	name string
	// language is that of the page; to who is known mail is written in theirs.
	language string
	account  identity.Account
	args     map[string]any
	code     string
	// page and key are the link: a page below BASE_URL, and the secret in its query. link is
	// the whole of it.
	page, key, link string
	expires         time.Time
	decoy           bool
}

// send queues a mail.
func (d *Desk) send(ctx context.Context, l letter) error {
	m := templates.Mail{
		Lang: l.language, Title: d.o.Title, URL: d.o.BaseURL, Kind: l.kind, Args: l.args, Code: l.code,
	}
	if own := l.account.Language(); own != "" {
		m.Lang = d.o.Templates.Language(own, l.language)
	}
	m.Link = l.link
	if l.page != "" {
		m.Link = d.o.BaseURL + l.page
		if l.key != "" {
			m.Link += "?" + url.Values{"key": {l.key}}.Encode()
		}
	}
	subject, text, html, err := d.o.Templates.Mail(m)
	if err != nil {
		return err
	}
	return d.o.Notify.Mail(ctx, notify.Mail{
		To: l.to, Name: l.name, Subject: subject, Text: text, HTML: html, Kind: l.kind, NotAfter: l.expires, Decoy: l.decoy,
	})
}

// tell queues a mail about something that has happened already: that it cannot be sent does
// not undo that.
func (d *Desk) tell(ctx context.Context, l letter) {
	if l.to == "" {
		return
	}
	if err := d.send(ctx, l); err != nil && !errors.Is(err, notify.ErrNoSender) {
		d.o.Log.WarnContext(ctx, "mail could not be queued", "kind", l.kind, "err", err)
	}
}

// Tell writes to the owner of an account what has changed about how they sign in, in their
// language, with a link to the page where they see it. Who has no address that is known to
// be theirs gets no mail. The change has happened by then: that nobody could be told is
// logged, and does not undo it.
func (d *Desk) Tell(ctx context.Context, a identity.Account, kind string, args map[string]any) {
	to, err := d.Address(ctx, a)
	if err != nil {
		d.o.Log.WarnContext(ctx, "somebody was not told of a change", "user", a.ID, "kind", kind, "err", err)
		return
	}
	d.tell(ctx, letter{kind: kind, to: to, account: a, args: args, page: "security"})
}

// Address is where mail to the owner of an account goes: the primary address of their
// credential, else one that another provider has verified. Empty if there is none.
func (d *Desk) Address(ctx context.Context, a identity.Account) (string, error) {
	_, c, _, err := d.Credential(ctx, a)
	return addressOf(a, c), err
}

func addressOf(a identity.Account, c credential.Credential) string {
	if to := c.Primary(); to != "" {
		return to
	}
	known := a.Known()
	if verified, _ := known["email_verified"].Value.(bool); !verified {
		return ""
	}
	to, _ := known["email"].Value.(string)
	return to
}

// post is a mail that somebody asks for: what is in it waits for an answer.
type post struct {
	credential.Issued
	// holder and owner are who has the address, empty if it is nobody's; asking is who is
	// signed in and wants it to be theirs.
	holder credential.Credential
	owner  identity.Account
	asking identity.Account
}

// begin has what somebody asks for wait, and writes the mail. Too many of a kind for an
// address become decoys.
func (d *Desk) begin(ctx context.Context, p post, waits credential.Pending, payload any) (post, error) {
	life := lives[waits.Kind]
	crowded, err := d.crowded(ctx, waits.Kind, waits.Email, life)
	if err != nil {
		return p, err
	}
	waits.Decoy = waits.Decoy || crowded
	if p.Issued, err = d.o.Credentials.Begin(ctx, waits, payload, life); err != nil {
		return p, err
	}
	return p, d.deliver(ctx, p)
}

// again makes another code and link of what waits, and writes the mail once more.
func (d *Desk) again(ctx context.Context, kind, id string, asking identity.Account) (credential.Pending, error) {
	local, err := d.mailing()
	if err != nil {
		return credential.Pending{}, err
	}
	p := post{asking: asking}
	if p.Issued, err = d.o.Credentials.Resend(ctx, kind, id); err != nil {
		return credential.Pending{}, err
	}
	counted := kind + " again"
	if p.Decoy { // which use up nothing of what goes out
		counted = kind + " decoy"
	}
	crowded, err := d.crowded(ctx, counted, p.Email, lives[kind])
	if err != nil {
		return credential.Pending{}, err
	}
	if p.holder, p.owner, err = d.holder(ctx, local.ID, p.Email); err != nil {
		return credential.Pending{}, err
	}
	// The address of a way back may be another's by now, or nobody's.
	p.Decoy = p.Decoy || crowded || kind == credential.PendingReset && p.holder.ID != p.Credential
	return p.Pending, d.deliver(ctx, p)
}

// deliver writes the mail of what waits. To whoever has an address already goes another
// than to who wants it to be theirs, in the spelling that they have verified.
func (d *Desk) deliver(ctx context.Context, p post) error {
	if p.holder.ID != "" && (p.Kind == credential.PendingSignUp || p.Kind == credential.PendingEmail) {
		return d.send(ctx, letter{
			kind: "exists", to: spelling(p.holder, p.Email), language: p.Language, account: p.owner, page: "login", expires: p.Expires, decoy: p.Decoy,
		})
	}
	l := letter{
		to: p.Email, account: p.owner, language: p.Language, code: p.Code, key: p.Secret, expires: p.Expires, decoy: p.Decoy,
		args: map[string]any{"Minutes": int(lives[p.Kind] / time.Minute)},
	}
	if p.holder.ID != "" {
		l.to = spelling(p.holder, p.Email)
	}
	switch p.Kind {
	case credential.PendingSignUp:
		l.kind, l.page = "verify", "signup/confirm"
	case credential.PendingReset:
		l.kind, l.page = "reset", "reset/new"
	case credential.PendingEmail:
		l.kind, l.page, l.account = "email_change_new", "security/emails/confirm", p.asking
	case credential.PendingUnlock: // whose page asks for no code
		l.kind, l.page, l.code = "unlock", "unlock/confirm", ""
	}
	return d.send(ctx, l)
}

// spelling is an address as its owner has verified it.
func spelling(c credential.Credential, address string) string {
	for _, e := range c.Emails {
		if credential.Fold(e.Address) == credential.Fold(address) {
			return e.Address
		}
	}
	return address
}

// crowded counts a mail, and tells whether so many of a kind went to an address that this
// one does not; life is how long what is in it is good.
func (d *Desk) crowded(ctx context.Context, kind, address string, life time.Duration) (bool, error) {
	room, err := d.o.Credentials.CountMail(ctx, kind, address, mostMails, life)
	return !room, err
}
