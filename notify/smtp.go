package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
	"golang.org/x/net/idna"

	"login-server/clock"
)

// How the connection to a mail server is protected.
const (
	STARTTLS    = "starttls" // asked for after the greeting, and required
	ImplicitTLS = "tls"      // from the first byte on
	NoTLS       = "none"
)

// SMTPOptions say which server takes mails, and from whom they are.
type SMTPOptions struct {
	Host string
	Port int
	// User and Pass authenticate; both empty: the server takes mails without.
	User, Pass string
	// TLS is STARTTLS, ImplicitTLS or NoTLS.
	TLS           string
	From, ReplyTo mail.Address // ReplyTo may be empty
	Clock         clock.Clock
	// RootCAs are who is trusted with certificates; nil: as the system does.
	RootCAs *x509.CertPool
}

// SMTP is a MailSender.
type SMTP struct{ o SMTPOptions }

// NewSMTP returns the sender.
func NewSMTP(o SMTPOptions) *SMTP { return &SMTP{o} }

// goodbye is how long a server may take to answer QUIT.
const goodbye = 3 * time.Second

// mechanisms are how to authenticate, the best first. Those that hand out the password are
// used with TLS, or on this machine.
var mechanisms = []gomail.SMTPAuthType{gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthCramMD5}

// Connect implements MailSender. The connection is greeted, encrypted and authenticated.
func (s *SMTP) Connect(ctx context.Context) (MailConnection, error) {
	c := &smtpConnection{o: s.o}
	config := &tls.Config{ServerName: s.o.Host, RootCAs: s.o.RootCAs, MinVersion: tls.VersionTLS12}
	options := []gomail.Option{
		gomail.WithPort(s.o.Port),
		gomail.WithTLSConfig(config),
		// Deadlines of the library: those of the contexts come first.
		gomail.WithTimeout(connectTimeout + mailTimeout),
		gomail.WithoutNoop(),
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c.keep(raw)
			if s.o.TLS != ImplicitTLS {
				return raw, nil
			}
			encrypted := tls.Client(raw, config)
			return encrypted, encrypted.HandshakeContext(ctx)
		}),
	}
	switch s.o.TLS {
	case STARTTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case ImplicitTLS: // the library only has to find out that it is
		options = append(options, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	case NoTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, fmt.Errorf("notify: %q is no way to protect a connection", s.o.TLS)
	}
	if s.o.User != "" {
		options = append(options, gomail.WithUsername(s.o.User), gomail.WithPassword(s.o.Pass), gomail.WithOpportunisticSMTPAuth(mechanisms...))
	}
	var err error
	if c.client, err = gomail.NewClient(s.o.Host, options...); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, c.cut)
	c.conn, err = c.client.DialToSMTPClientWithContext(ctx)
	if stop(); err != nil {
		c.cut() // the library leaves it open
		return nil, cause(ctx, err)
	}
	return c, nil
}

// Check connects as for a mail, and sends none.
func (s *SMTP) Check(ctx context.Context) error {
	c, err := s.Connect(ctx)
	if err == nil {
		c.Close()
	}
	return err
}

// smtpConnection is one connection. Only cut may be called by others meanwhile.
type smtpConnection struct {
	o      SMTPOptions
	client *gomail.Client
	conn   *smtp.Client

	mu  sync.Mutex
	raw net.Conn
	end bool
}

// keep notes the connection below all others, for cut.
func (c *smtpConnection) keep(raw net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raw = raw; c.end {
		_ = raw.Close()
	}
}

// cut ends the connection, whoever waits for it. The library knows deadlines, and no
// contexts.
func (c *smtpConnection) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end = true; c.raw != nil {
		_ = c.raw.Close()
	}
}

// Send implements MailConnection.
func (c *smtpConnection) Send(ctx context.Context, id string, m Mail) error {
	msg, err := c.compose(id, m)
	if err != nil {
		return &Refusal{Text: err.Error(), Permanent: true}
	}
	stop := context.AfterFunc(ctx, c.cut)
	defer stop()
	err = c.client.SendWithSMTPClient(c.conn, msg)
	if msg.IsDelivered() { // what comes after that is about the next one
		return nil
	}
	var e *gomail.SendError
	if !errors.As(err, &e) { // it is wrapped by errors.Join
		return cause(ctx, err)
	}
	switch code := e.ErrorCode(); {
	case code == 421: // the server goes away (RFC 5321, 3.8)
		return err
	case code >= 500:
		return &Refusal{Text: said(e), Permanent: true}
	case code >= 400:
		return &Refusal{Text: said(e)}
	}
	return cause(ctx, err)
}

// Close implements MailConnection.
func (c *smtpConnection) Close() {
	timer := time.AfterFunc(goodbye, c.cut) // of the network, not of our clock
	_ = c.client.CloseWithSMTPClient(c.conn)
	timer.Stop()
	c.cut()
}

// said is what a server has answered, without what the library knows of the mail.
func said(e *gomail.SendError) string {
	text, _, _ := strings.Cut(e.Error(), ", affected ")
	return text
}

// cause is the reason why a connection was cut, if it was.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return err
}

// compose makes a message of a mail. The addresses are checked before anything is queued,
// and the library checks and encodes them again.
func (c *smtpConnection) compose(id string, m Mail) (*gomail.Msg, error) {
	to, err := asciiDomain(m.To)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(&c.o.From)
	msg.ToMailAddress(&mail.Address{Name: m.Name, Address: to})
	if c.o.ReplyTo.Address != "" {
		msg.ReplyToMailAddress(&c.o.ReplyTo)
	}
	msg.Subject(m.Subject)
	msg.SetDateWithValue(c.o.Clock.Now())
	_, domain, _ := strings.Cut(c.o.From.Address, "@")
	msg.SetMessageIDWithValue(id + "@" + domain) // the same at each attempt
	// Nobody's out-of-office reply has to come back (RFC 3834, 5).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// asciiDomain writes the domain of an address as servers without SMTPUTF8 know it.
func asciiDomain(address string) (string, error) {
	local, domain, _ := strings.Cut(address, "@")
	if strings.HasPrefix(domain, "[") {
		return "", ErrAddress
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", fmt.Errorf("%w: its domain is none", ErrAddress)
	}
	return local + "@" + ascii, nil
}
