package providers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"login-server/config"
	"login-server/identity"
)

// ldapOptions are written as for passport-ldapauth, which the older program used.
type ldapOptions struct {
	Server ldapServer `json:"server"`
}

type ldapServer struct {
	URL              string   `json:"url"`
	BindDN           string   `json:"bindDN"`
	BindCredentials  string   `json:"bindCredentials"`
	SearchBase       string   `json:"searchBase"`
	SearchFilter     string   `json:"searchFilter"` // with {{username}}
	SearchScope      string   `json:"searchScope"`  // sub (default), one, base
	SearchAttributes []string `json:"searchAttributes"`
	TLSOptions       ldapTLS  `json:"tlsOptions"`
	StartTLS         bool     `json:"starttls"`

	// Attributes that become the profile; uid, cn, uid by default.
	IDAttribute       string `json:"idAttribute"`
	NameAttribute     string `json:"nameAttribute"`
	UsernameAttribute string `json:"usernameAttribute"`

	// In milliseconds, as in ldapjs.
	ConnectTimeout int `json:"connectTimeout"`
	Timeout        int `json:"timeout"`

	// Of ldapjs, without a meaning here: every login has a connection of its own.
	Reconnect   json.RawMessage `json:"reconnect"`
	Cache       json.RawMessage `json:"cache"`
	IdleTimeout json.RawMessage `json:"idleTimeout"`
}

type ldapTLS struct {
	CA                 oneOrMore `json:"ca"` // PEM
	CAFile             string    `json:"caFile"`
	RejectUnauthorized *bool     `json:"rejectUnauthorized"`
	ServerName         string    `json:"servername"`
}

// oneOrMore is a text or a list of texts.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*o = make(oneOrMore, 1)
		return json.Unmarshal(data, &(*o)[0])
	}
	return json.Unmarshal(data, (*[]string)(o))
}

const usernamePlaceholder = "{{username}}"

var ldapScopes = map[string]int{"": ldap.ScopeWholeSubtree, "sub": ldap.ScopeWholeSubtree, "one": ldap.ScopeSingleLevel, "base": ldap.ScopeBaseObject}

func (o *ldapOptions) open(e *entry, p *Provider) {
	const at = "options.server."
	s := o.Server
	l := &ldapAuth{
		bindDN: s.BindDN, bindPassword: s.BindCredentials, base: s.SearchBase, filter: s.SearchFilter, startTLS: s.StartTLS,
		id: "uid", name: "cn", username: "uid",
		running: make(slots, 64),
	}
	e.ldapURL(at+"url", s, l)

	switch {
	case s.BindDN == "" && s.BindCredentials != "":
		e.problem(at+"bindDN", "is missing beside bindCredentials", "write the DN to search with, or remove both")
	case s.BindDN != "" && s.BindCredentials == "":
		// It would be an unauthenticated bind, which servers refuse or take for anonymous.
		e.problem(at+"bindCredentials", "is missing beside bindDN", "write the password of that DN, or remove both for an anonymous search")
	case s.BindDN != "":
		if _, err := ldap.ParseDN(s.BindDN); err != nil && !strings.ContainsAny(s.BindDN, `@\`) { // Active Directory knows name@domain
			e.problem(at+"bindDN", config.Quote(s.BindDN)+" is not a DN", "write one such as cn=reader,dc=example,dc=org")
		}
	}
	e.required(at+"searchBase", s.SearchBase, "write the DN below which the users are, such as ou=people,dc=example,dc=org")
	if s.SearchBase != "" {
		if _, err := ldap.ParseDN(s.SearchBase); err != nil {
			e.problem(at+"searchBase", config.Quote(s.SearchBase)+" is not a DN", "write one such as ou=people,dc=example,dc=org")
		}
	}
	switch {
	case s.SearchFilter == "":
		e.problem(at+"searchFilter", "is missing", "write one such as (uid={{username}})")
	case !strings.Contains(s.SearchFilter, usernamePlaceholder):
		e.problem(at+"searchFilter", config.Quote(s.SearchFilter)+" has no {{username}}", "write one such as (uid={{username}})")
	default:
		if _, err := ldap.CompileFilter(l.filterFor("x")); err != nil {
			e.problem(at+"searchFilter", config.Quote(s.SearchFilter)+" is not an LDAP filter", "write one such as (uid={{username}})")
		}
	}
	scope, ok := ldapScopes[s.SearchScope]
	if !ok {
		e.problem(at+"searchScope", config.Quote(s.SearchScope)+" is not known", "write sub, one or base")
	}
	l.scope = scope

	for _, a := range []struct{ given, into *string }{{&s.IDAttribute, &l.id}, {&s.NameAttribute, &l.name}, {&s.UsernameAttribute, &l.username}} {
		if *a.given != "" {
			*a.into = *a.given
		}
	}
	// Only what is needed is asked for. searchAttributes may name more, which nobody
	// reads, and may forget what the profile needs.
	l.attributes = slices.Compact(slices.Sorted(slices.Values([]string{l.id, l.name, l.username})))

	l.connectTimeout = e.milliseconds(at+"connectTimeout", s.ConnectTimeout, 5000)
	l.timeout = e.milliseconds(at+"timeout", s.Timeout, 10000)
	e.checker(p, l, true)
	p.Prober = l
}

func (e *entry) milliseconds(field string, value, instead int) time.Duration {
	if value < 0 || value > 120_000 {
		e.problem(field, fmt.Sprintf("%d is not between 1 and 120000 milliseconds", value), fmt.Sprintf("write %d", instead))
	}
	if value == 0 {
		value = instead
	}
	return time.Duration(value) * time.Millisecond
}

// ldapURL reads where the directory is and how the connection is protected.
func (e *entry) ldapURL(field string, s ldapServer, l *ldapAuth) {
	u, err := url.Parse(s.URL)
	switch {
	case s.URL == "":
		e.problem(field, "is missing", "write ldaps://ldap.example.org")
		return
	case !strings.Contains(s.URL, "://"):
		e.problem(field, config.QuoteURL(s.URL)+" has no scheme", "write ldaps://"+strings.TrimLeft(s.URL, "/"))
		return
	case err != nil || u.Hostname() == "":
		e.problem(field, config.QuoteURL(s.URL)+" is not a URL", "write ldaps://ldap.example.org")
		return
	case u.Scheme != "ldap" && u.Scheme != "ldaps":
		e.problem(field, config.QuoteURL(s.URL)+" is neither ldap:// nor ldaps://", "write ldaps://"+config.Printable(u.Host))
		return
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		e.problem(field, config.QuoteURL(s.URL)+" is more than scheme, host and port", "write the rest into bindDN, searchBase and searchFilter")
		return
	case u.Scheme == "ldaps" && s.StartTLS:
		e.problem(strings.TrimSuffix(field, "url")+"starttls", "is true although ldaps:// is encrypted from the start", "remove it, or write ldap://")
		return
	}
	l.ldaps = u.Scheme == "ldaps"
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "389", true: "636"}[l.ldaps]
	}
	l.address = net.JoinHostPort(u.Hostname(), port)
	if !l.ldaps && !l.startTLS && !config.Loopback(u.Hostname()) {
		e.warn(field, config.QuoteURL(s.URL)+" is not encrypted: passwords can be read on their way", `write ldaps://, or "starttls": true`)
	}

	at := strings.TrimSuffix(field, "url") + "tlsOptions."
	t := s.TLSOptions
	l.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if t.ServerName != "" {
		l.tls.ServerName = t.ServerName
	}
	if len(t.CA) > 0 || t.CAFile != "" {
		l.tls.RootCAs = x509.NewCertPool()
	}
	for _, pem := range t.CA {
		if !l.tls.RootCAs.AppendCertsFromPEM([]byte(pem)) {
			e.problem(at+"ca", "is not a certificate in PEM form", "write the certificate itself, or its path as caFile")
		}
	}
	if t.CAFile != "" {
		path := t.CAFile
		if !filepath.IsAbs(path) {
			path = filepath.Join(e.cfg.Dir, path)
		}
		if pem, err := os.ReadFile(path); err != nil {
			e.problem(at+"caFile", config.Quote(t.CAFile)+" cannot be read", "write a path that is absolute or relative to "+e.cfg.Dir)
		} else if !l.tls.RootCAs.AppendCertsFromPEM(pem) {
			e.problem(at+"caFile", config.Quote(t.CAFile)+" holds no certificate in PEM form", "write the path of a PEM file")
		}
	}
	if t.RejectUnauthorized != nil && !*t.RejectUnauthorized {
		e.warn(at+"rejectUnauthorized", "is false: whoever stands between can read all passwords", "write the certificate of the authority as caFile instead")
		l.tls.InsecureSkipVerify = true
	}
}

// ldapAuth finds the entry of a user and binds as that entry, on one connection that
// is made for the login and closed after it.
type ldapAuth struct {
	address  string
	ldaps    bool
	startTLS bool
	tls      *tls.Config

	bindDN, bindPassword string
	base, filter         string
	scope                int
	attributes           []string
	id, name, username   string

	connectTimeout, timeout time.Duration
	running                 slots
}

var (
	_ Checker = (*ldapAuth)(nil)
	_ Prober  = (*ldapAuth)(nil)
)

// filterFor puts a user name into the filter. It is escaped here, once, and nowhere
// else (RFC 4515, 3).
func (l *ldapAuth) filterFor(username string) string {
	return strings.ReplaceAll(l.filter, usernamePlaceholder, ldap.EscapeFilter(username))
}

// Check refuses an empty password itself, although guard does: the server would
// take it for an anonymous bind and succeed (RFC 4513, 5.1.2).
func (l *ldapAuth) Check(ctx context.Context, username, password string) (identity.Profile, error) {
	if password == "" {
		return identity.Profile{}, ErrRefused
	}
	if err := l.running.acquire(ctx); err != nil {
		return identity.Profile{}, err
	}
	defer l.running.release()
	conn, done, err := l.connect(ctx)
	if err != nil {
		return identity.Profile{}, err
	}
	defer done()

	found, err := l.find(conn, username)
	if err != nil {
		return identity.Profile{}, l.failed(ctx, "search", err)
	}
	if len(found) != 1 {
		// Nobody, or nobody in particular. The same number of round trips is made as for
		// a wrong password.
		err := conn.Bind("cn=nobody,"+l.base, password)
		if err != nil && !refusal(err) && !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
			return identity.Profile{}, l.failed(ctx, "bind as nobody", err)
		}
		if len(found) > 1 {
			return identity.Profile{}, fmt.Errorf("ldap: several entries match, the filter has to name one: %w", ErrRefused)
		}
		return identity.Profile{}, ErrRefused
	}
	entry := found[0]
	if entry.DN == "" {
		// A bind with an empty name is anonymous, whatever the password is.
		return identity.Profile{}, errors.New("ldap: the entry found has no DN")
	}
	err = conn.Bind(entry.DN, password)
	switch {
	case refusal(err):
		return identity.Profile{}, ErrRefused
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation):
		// A locked account, which some servers say without a look at the password: to
		// others it must not differ from one that does not exist.
		return identity.Profile{}, fmt.Errorf("ldap: bind as the user: %w: %w", err, ErrRefused)
	case err != nil:
		return identity.Profile{}, l.failed(ctx, "bind as the user", err)
	}
	id, err := idOf(entry, l.id)
	if err != nil {
		return identity.Profile{}, err
	}
	return identity.Profile{ID: id, Name: entry.GetEqualFoldAttributeValue(l.name), Username: entry.GetEqualFoldAttributeValue(l.username)}, nil
}

// Probe connects and binds as a login does, and looks for the search base.
func (l *ldapAuth) Probe(ctx context.Context) error {
	conn, done, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = conn.Search(ldap.NewSearchRequest(l.base, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, l.limit(), false, "(objectClass=*)", []string{"1.1"}, nil))
	if err != nil {
		return l.failed(ctx, "look for searchBase", err)
	}
	return nil
}

// connect makes a connection on which the search may run. It ends with ctx.
func (l *ldapAuth) connect(ctx context.Context) (conn *ldap.Conn, done func(), err error) {
	dial, cancel := context.WithTimeout(ctx, l.connectTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(dial, "tcp", l.address)
	if err != nil {
		return nil, nil, fmt.Errorf("ldap: connect: %w", err)
	}
	closeRaw := func() { _ = raw.Close() }
	if l.ldaps {
		secured := tls.Client(raw, l.tls)
		if err := secured.HandshakeContext(dial); err != nil {
			closeRaw()
			return nil, nil, fmt.Errorf("ldap: TLS: %w", err)
		}
		conn = ldap.NewConn(secured, true)
	} else {
		conn = ldap.NewConn(raw, false)
	}
	// go-ldap knows no context: whatever waits on the connection fails when it closes.
	stop := context.AfterFunc(ctx, closeRaw)
	done = func() { stop(); closeRaw(); _ = conn.Close() }
	conn.SetTimeout(l.timeout)
	conn.Start()

	if l.startTLS {
		if err := conn.StartTLS(l.tls); err != nil {
			done()
			return nil, nil, l.failed(ctx, "StartTLS", err)
		}
	}
	if l.bindDN != "" {
		// A refusal here is about our own account, and nothing that the person did.
		if err := conn.Bind(l.bindDN, l.bindPassword); err != nil {
			done()
			return nil, nil, l.failed(ctx, "bind as bindDN", err)
		}
	}
	return conn, done, nil
}

func (l *ldapAuth) limit() int { return max(1, int(l.timeout/time.Second)) }

// find returns at most two entries. Referrals are not followed: they would take
// the credentials to a server that the operator has not named.
func (l *ldapAuth) find(conn *ldap.Conn, username string) ([]*ldap.Entry, error) {
	result, err := conn.Search(ldap.NewSearchRequest(l.base, l.scope, ldap.NeverDerefAliases, 2, l.limit(), false, l.filterFor(username), l.attributes, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return make([]*ldap.Entry, 2), nil // more than two
	case err != nil:
		return nil, err
	}
	return result.Entries, nil
}

// failed names the step, and says so when it was ctx that ended it.
func (l *ldapAuth) failed(ctx context.Context, step string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("ldap: %s: %w", step, err)
}

// refusal tells whether a bind failed because of the credentials. An entry without a
// password is inappropriateAuthentication.
func refusal(err error) bool {
	return ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultNoSuchObject)
}

// idOf is the first value of the attribute. objectGUID of Active Directory is binary
// and is written as its tools do.
func idOf(entry *ldap.Entry, attribute string) (string, error) {
	raw := entry.GetEqualFoldRawAttributeValue(attribute)
	switch {
	case len(raw) == 0:
		return "", fmt.Errorf("ldap: the entry of the user has no %s", attribute)
	case strings.EqualFold(attribute, "objectGUID") && len(raw) == 16:
		return fmt.Sprintf("%08x-%04x-%04x-%x-%x", uint32(raw[3])<<24|uint32(raw[2])<<16|uint32(raw[1])<<8|uint32(raw[0]),
			uint16(raw[5])<<8|uint16(raw[4]), uint16(raw[7])<<8|uint16(raw[6]), raw[8:10], raw[10:16]), nil
	case !utf8.Valid(raw):
		return "", fmt.Errorf("ldap: %s is binary, name another idAttribute", attribute)
	}
	return string(raw), nil
}
