package notify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"login-server/clock"
)

// mailServer is a real SMTP server on this machine.
type mailServer struct {
	address string
	roots   *x509.CertPool

	mu       sync.Mutex
	envelope []string // "from → to"
	messages []string
	sessions int
	rcpt     func(to string) error
	data     func(n int) error // n counts from 1; before the message is taken
	n        int
}

// certificateFor makes a certificate of 127.0.0.1, and who trusts it.
func certificateFor(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// newMailServer starts one that is protected in a way.
func newMailServer(t *testing.T, how string) *mailServer {
	t.Helper()
	m := &mailServer{}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sessions++
		return &mailSession{server: m}, nil
	}))
	server.Domain, server.ErrorLog = "mail.test", log.New(io.Discard, "", 0)
	var certificate tls.Certificate
	certificate, m.roots = certificateFor(t)
	if how != NoTLS {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	} else {
		server.AllowInsecureAuth = true
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = listener.Addr().String()
	if how == ImplicitTLS {
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return m
}

// options are those of a sender that uses the server.
func (m *mailServer) options(how string) SMTPOptions {
	_, port, _ := net.SplitHostPort(m.address)
	o := SMTPOptions{Host: "127.0.0.1", TLS: how, From: mail.Address{Name: "Test Login", Address: "login@example.org"}, Clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)), RootCAs: m.roots}
	_, _ = fmt.Sscan(port, &o.Port)
	return o
}

func (m *mailServer) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.messages)
}

type mailSession struct {
	server   *mailServer
	from, to string
	known    bool
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "login" || password != "pässword" {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "credentials of login are invalid"}
		}
		s.known = true
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error { s.from = from; return nil }

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.rcpt != nil {
		return s.server.rcpt(to)
	}
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.n++
	if s.server.data != nil {
		if err := s.server.data(s.server.n); err != nil {
			return err
		}
	}
	s.server.envelope = append(s.server.envelope, s.from+" → "+s.to)
	s.server.messages = append(s.server.messages, string(text))
	return nil
}

func (s *mailSession) Reset()        { s.from, s.to = "", "" }
func (s *mailSession) Logout() error { return nil }

var letter = Mail{To: "ada@bücher.example", Name: "Ada Lövelace, <b@x>", Subject: "Grüße: your code", Text: "Hallo,\n123456\n.\nEnde mit Ä", HTML: "<p>123456 Ä</p>", Kind: "verify"}

// A mail arrives as it was meant, whichever way the connection is protected.
func TestSMTP(t *testing.T) {
	for _, how := range []string{STARTTLS, ImplicitTLS, NoTLS} {
		t.Run(how, func(t *testing.T) {
			m := newMailServer(t, how)
			o := m.options(how)
			o.User, o.Pass, o.ReplyTo = "login", "pässword", mail.Address{Address: "help@example.org"}
			conn, err := NewSMTP(o).Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"id-1", "id-2"} {
				if err := conn.Send(t.Context(), id, letter); err != nil {
					t.Fatal(err)
				}
			}
			conn.Close()
			if got := m.got(); len(got) != 2 || m.sessions > 2 { // STARTTLS begins a session anew
				t.Fatalf("%d mails in %d sessions", len(got), m.sessions)
			}
			if m.envelope[0] != "login@example.org → ada@xn--bcher-kva.example" {
				t.Errorf("envelope %s", m.envelope[0])
			}
			checkLetter(t, m.got()[0])
		})
	}
}

// checkLetter reads a mail with other code than it was written with.
func checkLetter(t *testing.T, text string) {
	t.Helper()
	msg, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	h := msg.Header
	for name, want := range map[string]string{
		"Message-Id": "<id-1@example.org>", "Auto-Submitted": "auto-generated", "Date": "Sun, 01 Mar 2026 12:00:00 +0000", "Mime-Version": "1.0",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject")); err != nil || subject != letter.Subject {
		t.Errorf("Subject: %q, %v", subject, err)
	}
	for name, want := range map[string]mail.Address{
		"To": {Name: letter.Name, Address: "ada@xn--bcher-kva.example"}, "From": {Name: "Test Login", Address: "login@example.org"}, "Reply-To": {Address: "help@example.org"},
	} {
		if list, err := h.AddressList(name); err != nil || len(list) != 1 || *list[0] != want {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if len(h["Bcc"])+len(h["Cc"])+len(h["User-Agent"])+len(h["X-Mailer"]) > 0 {
		t.Errorf("other headers: %v", h)
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("Content-Type: %s, %v", kind, err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for _, want := range []struct{ kind, text string }{{"text/plain", letter.Text}, {"text/html", letter.HTML}} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		got := strings.TrimRight(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n")
		if err != nil || got != want.text || !strings.HasPrefix(part.Header.Get("Content-Type"), want.kind+"; charset=UTF-8") {
			t.Errorf("%s: %q, %v", part.Header.Get("Content-Type"), got, err)
		}
	}
	if _, err := parts.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("there is more: %v", err)
	}
}

// A connection that is not what it should be is not used, and no password is sent on it.
func TestSMTPRefusesToConnect(t *testing.T) {
	plain, encrypted := newMailServer(t, NoTLS), newMailServer(t, STARTTLS)
	for what, o := range map[string]SMTPOptions{
		"no STARTTLS":        plain.options(STARTTLS),
		"nobody is trusted":  func() SMTPOptions { o := encrypted.options(STARTTLS); o.RootCAs = x509.NewCertPool(); return o }(),
		"another name":       func() SMTPOptions { o := encrypted.options(STARTTLS); o.Host = "localhost"; return o }(),
		"a wrong password":   func() SMTPOptions { o := encrypted.options(STARTTLS); o.User, o.Pass = "login", "Tr0ub4dor"; return o }(),
		"TLS from the start": encrypted.options(ImplicitTLS),
		"nobody is there":    func() SMTPOptions { o := plain.options(NoTLS); o.Port = 1; return o }(),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := NewSMTP(o).Check(ctx)
		cancel()
		if err == nil {
			t.Errorf("%s: connected", what)
		} else if strings.Contains(err.Error(), "Tr0ub4dor") {
			t.Errorf("%s: the error has the password: %v", what, err)
		}
	}
	if err := NewSMTP(encrypted.options(STARTTLS)).Check(t.Context()); err != nil {
		t.Errorf("in order: %v", err)
	}
}

// What a server answers decides what becomes of a mail; the connection goes on.
func TestSMTPAnswers(t *testing.T) {
	m := newMailServer(t, STARTTLS)
	conn, err := NewSMTP(m.options(STARTTLS)).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, tc := range []struct {
		code           int
		atData         bool
		permanent, any bool
	}{
		{550, false, true, true}, {451, false, false, true}, {552, true, true, true}, {450, true, false, true}, {421, true, false, false},
	} {
		answer := &smtp.SMTPError{Code: tc.code, EnhancedCode: smtp.NoEnhancedCode, Message: "no, ada@xn--bcher-kva.example"}
		m.mu.Lock()
		m.rcpt, m.data = func(string) error { return answer }, nil
		if tc.atData {
			m.rcpt, m.data = nil, func(int) error { return answer }
		}
		m.mu.Unlock()
		err := conn.Send(t.Context(), "id", letter)
		refusal, answered := errors.AsType[*Refusal](err)
		if err == nil || answered != tc.any || answered && refusal.Permanent != tc.permanent {
			t.Errorf("%d: %#v", tc.code, err)
		}
	}
	m.mu.Lock()
	m.rcpt, m.data = nil, nil
	m.mu.Unlock()
	if err := conn.Send(t.Context(), "id", letter); err != nil || len(m.got()) != 1 {
		t.Errorf("afterwards: %v, %d mails", err, len(m.got()))
	}
}

// silence is a server that says some lines and then nothing any more.
func silence(t *testing.T, lines string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, lines)
				_, _ = io.Copy(io.Discard, c) // until the other end goes
			}()
		}
	}()
	return listener
}

// A server that hangs, or goes away, is not waited for longer than the context says, in any
// phase.
func TestSMTPHangs(t *testing.T) {
	for what, lines := range map[string]string{
		"no greeting":     "",
		"after greeting":  "220 mail.test\r\n",
		"after EHLO":      "220 mail.test\r\n250 mail.test\r\n",
		"after MAIL":      "220 mail.test\r\n250 mail.test\r\n250 ok\r\n",
		"after DATA":      "220 mail.test\r\n250 mail.test\r\n250 ok\r\n250 ok\r\n354 go on\r\n",
		"goes on forever": "220 mail.test\r\n" + strings.Repeat("250-x\r\n", 1000),
	} {
		t.Run(what, func(t *testing.T) {
			listener := silence(t, lines)
			o := SMTPOptions{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, TLS: NoTLS, From: mail.Address{Address: "a@example.org"}, Clock: clock.System{}}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // of the network, not of our clock
			defer cancel()
			begin := time.Now()
			conn, err := NewSMTP(o).Connect(ctx)
			if err == nil {
				err = conn.Send(ctx, "id", letter)
			}
			if _, answered := errors.AsType[*Refusal](err); err == nil || answered || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// The whole way, through a server that is busy first and then breaks off: each mail arrives
// once.
func TestQueueBySMTP(t *testing.T) {
	m := newMailServer(t, STARTTLS)
	m.data = func(n int) error {
		switch n {
		case 1:
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.NoEnhancedCode, Message: "busy"}
		case 3:
			return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.NoEnhancedCode, Message: "closing"}
		}
		return nil
	}
	w := newWorld(t)
	q := w.open(func(o *Options) { o.Mail = NewSMTP(m.options(STARTTLS)) })
	w.run(q)
	w.queue(q, "one", "two", "three", "four", "five", "six")
	w.wait("all is sent", func() bool { w.pass(q, 5*time.Second); return w.documents() == 0 })
	var subjects []string
	for _, text := range m.got() {
		msg, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, msg.Header.Get("Subject"))
	}
	if slices.Sort(subjects); !slices.Equal(subjects, []string{"five", "four", "one", "six", "three", "two"}) {
		t.Errorf("got %q", subjects)
	}
}
