package web

import (
	"context"
	"errors"

	"login-server/identity"
	"login-server/notify"
	"login-server/templates"
)

// noticePage is where the link of a mail about a change leads.
const noticePage = "security"

// tellOwner writes to somebody what has changed about how they sign in. Who has no address
// that is known to be theirs gets no mail. The change has happened by then: that nobody could
// be told of it is logged, and does not undo it.
func (s *Server) tellOwner(ctx context.Context, a identity.Account, kind string, args map[string]any) {
	s.mailOwner(ctx, a, templates.Mail{Kind: kind, Args: args, Link: s.Config.BaseURL.String() + noticePage})
}

// mailOwner sends a mail to the address of an account, in the person's language.
func (s *Server) mailOwner(ctx context.Context, a identity.Account, m templates.Mail) {
	to, err := s.addressOf(ctx, a)
	if err == nil && to != "" {
		m.Lang, m.Title, m.URL = s.Templates.Language(a.Language(), ""), s.Config.Title, s.Config.BaseURL.String()
		mail := notify.Mail{To: to, Kind: m.Kind}
		if mail.Subject, mail.Text, mail.HTML, err = s.Templates.Mail(m); err == nil {
			err = s.Notify.Mail(ctx, mail)
		}
	}
	if err != nil && !errors.Is(err, notify.ErrNoSender) {
		s.Log.Warn("somebody was not told of a change", "user", a.ID, "kind", m.Kind, "err", err)
	}
}

// addressOf is the address that mail to somebody goes to: that of their credential, else one
// that another provider has verified. Empty if there is none.
func (s *Server) addressOf(ctx context.Context, a identity.Account) (string, error) {
	_, c, _, err := s.credentialOf(ctx, a)
	if err != nil {
		return "", err
	}
	if to := c.Primary(); to != "" {
		return to, nil
	}
	known := a.Known()
	if verified, _ := known["email_verified"].Value.(bool); !verified {
		return "", nil
	}
	to, _ := known["email"].Value.(string)
	return to, nil
}
