package providers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"login-server/config"
	"login-server/identity"
	"login-server/internal/testenv"
)

const (
	people = "ou=people,dc=example,dc=org"
	reader = "cn=reader,dc=example,dc=org"
)

// persons are in the directory of the tests. Odd names are what this is about.
var persons = []struct {
	uid, mail, password string
	cn                  []string
}{
	{"ada", "ada@example.org", "secret", []string{"Ada Lovelace", "Augusta Ada King"}},
	{"grace", "shared@example.org", "secret", []string{"Grace Hopper"}},
	{"hedy", "shared@example.org", "secret", []string{"Hedy Lamarr"}},
	{"annie", "three@example.org", "secret", []string{"Annie Easley"}},
	{"joan", "three@example.org", "secret", []string{"Joan Clarke"}},
	{"mary", "three@example.org", "secret", []string{"Mary Jackson"}},
	{`a*b(c)\d`, "odd@example.org", `p*s(s)\w`, []string{"Odd"}},
	{"Käthe, \"Ö'Neil\"+1", "umlaut@example.org", "pässwörd", []string{"Käthe Ö'Neil"}},
	{"#hash =", "hash@example.org", "secret", []string{"#Hash"}},
	{"nopassword", "nopassword@example.org", "", []string{"No Password"}},
}

// directory is a slapd of its own, on this machine, with data and certificates that
// are made for it.
type directory struct {
	ldap, ldaps string // URLs
	ca          string // the certificate of the authority, PEM
	caFile      string
	elsewhere   net.Listener // where its referrals lead to
}

// referrals is a part of the directory that another server has (RFC 3296).
const referrals = "ou=elsewhere," + people

// startSlapd starts an OpenLDAP server for the test.
func startSlapd(t *testing.T) *directory {
	t.Helper()
	slapd := testenv.Need(t, "slapd")
	var schemas string
	for _, dir := range []string{"/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema"} {
		if _, err := os.Stat(dir + "/inetorgperson.schema"); err == nil {
			schemas = dir
		}
	}
	if schemas == "" {
		t.Fatal("slapd is installed without its schema directory")
	}

	dir := t.TempDir()
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = elsewhere.Close() })
	d := &directory{elsewhere: elsewhere}
	cert, key := d.certificates(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	// Where the database is a module it has to be loaded; built in, that would fail.
	var module string
	for _, lib := range []string{"/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap", "/usr/libexec/openldap"} {
		if found, _ := filepath.Glob(lib + "/back_mdb*.so*"); len(found) > 0 {
			module = "modulepath " + lib + "\nmoduleload back_mdb\n"
		}
	}
	conf := write(t, dir, "slapd.conf", fmt.Sprintf(`include %[1]s/core.schema
include %[1]s/cosine.schema
include %[1]s/inetorgperson.schema
%[2]s
TLSCACertificateFile %[3]s
TLSCertificateFile %[4]s
TLSCertificateKeyFile %[5]s
database mdb
suffix "dc=example,dc=org"
directory %[6]s/db
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="%[7]s" read by anonymous auth by * none
`, schemas, module, d.caFile, cert, key, dir, reader), 0o600)
	data := write(t, dir, "data.ldif", d.ldif(), 0o600)
	if out, err := exec.CommandContext(t.Context(), slapd, "-Tadd", "-f", conf, "-l", data).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}

	// A port that was free a moment ago can be taken by another process: try again then.
	for range 5 {
		if d.start(t, slapd, conf) {
			return d
		}
	}
	t.Fatal("slapd does not start")
	return nil
}

func (d *directory) start(t *testing.T, slapd, conf string) bool {
	d.ldap, d.ldaps = "ldap://"+freeAddress(t), "ldaps://"+freeAddress(t)
	cmd := exec.Command(slapd, "-f", conf, "-h", d.ldap+" "+d.ldaps, "-d", "0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop := sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-ended })
	t.Cleanup(stop)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.ldaps, "ldaps://"))
		if err == nil {
			_ = conn.Close()
			return true
		}
		select {
		case <-ended:
			t.Logf("slapd: %s", &out)
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop()
	t.Logf("slapd: %s", &out)
	return false
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ldif is the directory as text; every value is in base64, so that odd ones survive.
func (d *directory) ldif() string {
	var b strings.Builder
	entry := func(dn string, pairs ...string) {
		fmt.Fprintf(&b, "dn:: %s\n", base64.StdEncoding.EncodeToString([]byte(dn)))
		for i := 0; i < len(pairs); i += 2 {
			fmt.Fprintf(&b, "%s:: %s\n", pairs[i], base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
		}
		b.WriteString("\n")
	}
	entry("dc=example,dc=org", "objectClass", "dcObject", "objectClass", "organization", "o", "Example", "dc", "example")
	entry(people, "objectClass", "organizationalUnit", "ou", "people")
	entry(reader, "objectClass", "organizationalRole", "objectClass", "simpleSecurityObject", "cn", "reader", "userPassword", "reads all")
	for _, p := range persons {
		pairs := []string{"objectClass", "inetOrgPerson", "uid", p.uid, "mail", p.mail, "sn", "x"}
		for _, cn := range p.cn {
			pairs = append(pairs, "cn", cn)
		}
		if p.password != "" {
			pairs = append(pairs, "userPassword", p.password)
		}
		entry("uid="+ldap.EscapeDN(p.uid)+","+people, pairs...)
	}
	entry(referrals, "objectClass", "referral", "objectClass", "extensibleObject", "ou", "elsewhere", "ref", "ldap://"+d.elsewhere.Addr().String()+"/"+people)
	return b.String()
}

// certificates makes an authority, and a certificate of it for 127.0.0.1.
func (d *directory) certificates(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, string) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = own
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &own.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return own, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, ca := make(authority, authority, nil)
	serverKey, server := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "slapd"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"ldap.test"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, authority, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	d.ca, d.caFile = ca, write(t, dir, "ca.pem", ca, 0o600)
	return write(t, dir, "server.pem", server, 0o600),
		write(t, dir, "server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
}

// server is the option "server" for the directory, with changes.
func (d *directory) server(changes object) object {
	s := object{"url": d.ldap, "bindDN": reader, "bindCredentials": "reads all", "searchBase": people, "searchFilter": "(uid={{username}})"}
	maps.Copy(s, changes)
	return object{"server": s}
}

func (d *directory) open(t *testing.T, changes object) *Provider {
	t.Helper()
	return open(t, "ldapauth", d.server(changes))
}

func TestLDAP(t *testing.T) {
	d := startSlapd(t)

	t.Run("everybody", func(t *testing.T) {
		p := d.open(t, nil)
		for _, person := range persons {
			if person.password == "" {
				continue
			}
			want := identity.Profile{Provider: "p", ID: person.uid, Name: person.cn[0], Username: person.uid}
			if got := accepted(t, p, person.uid, person.password); got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			refused(t, p, person.uid, person.password+"x")
			refused(t, p, person.uid, "")
			refused(t, p, person.uid, strings.ToUpper(person.password))
		}
		if got := accepted(t, p, "ADA", "secret"); got.ID != "ada" {
			t.Errorf("the id is what was typed: %+v", got)
		}
	})

	t.Run("nobody", func(t *testing.T) {
		p := d.open(t, nil)
		for _, name := range []string{"nobody", "*", "a*", "ad?", "ada)(uid=*", "*)(objectClass=*", "ada\\", "ada\\2a", "(", ")", "&", "|(uid=ada)", "ada@example.org", "ä", "uid=ada," + people, "nopassword"} {
			refused(t, p, name, "secret")
		}
	})

	t.Run("unescaped by guard", func(t *testing.T) {
		// Even what guard keeps away does no harm in the filter.
		l := d.open(t, nil).Checker.(*guard).checker
		for _, name := range []string{"ada\x00", "\x00", "", "ada\n", "\xff\xfe"} {
			if _, err := l.Check(t.Context(), name, "secret"); !errors.Is(err, ErrRefused) {
				t.Errorf("%q: %v", name, err)
			}
		}
	})

	t.Run("several matches", func(t *testing.T) {
		p := d.open(t, object{"searchFilter": "(|(uid={{username}})(mail={{username}}))"})
		accepted(t, p, "ada@example.org", "secret")
		accepted(t, p, "grace", "secret")
		for _, name := range []string{"shared@example.org", "three@example.org"} {
			if err := refused(t, p, name, "secret"); !strings.Contains(err.Error(), "several entries match") {
				t.Errorf("the log would not tell why: %v", err)
			}
		}
	})

	t.Run("scopes", func(t *testing.T) {
		accepted(t, d.open(t, object{"searchScope": "one"}), "ada", "secret")
		accepted(t, d.open(t, object{"searchScope": "sub", "searchBase": "dc=example,dc=org"}), "ada", "secret")
		refused(t, d.open(t, object{"searchScope": "one", "searchBase": "dc=example,dc=org"}), "ada", "secret")
		accepted(t, d.open(t, object{"searchScope": "base", "searchBase": "uid=ada," + people}), "ada", "secret")
		refused(t, d.open(t, object{"searchScope": "base"}), "ada", "secret")
	})

	t.Run("referrals are not followed", func(t *testing.T) {
		// Whoever answers there would be given the name that was typed, and vouch for it.
		var reached atomic.Int32
		go func() {
			for {
				conn, err := d.elsewhere.Accept()
				if err != nil {
					return
				}
				reached.Add(1)
				_ = conn.Close()
			}
		}()
		p := d.open(t, nil) // its searches come across the referral
		accepted(t, p, "ada", "secret")
		refused(t, p, "nobody", "secret")
		for _, base := range []string{referrals, "ou=below," + referrals} {
			failing(t, d.open(t, object{"searchBase": base}), t.Context(), "ada", "secret", "ldap: search: LDAP Result Code 10 ")
		}
		// This connection is made after any other, and accepted after it.
		before := reached.Load()
		conn, err := net.Dial("tcp", d.elsewhere.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if n := reached.Load(); before != 0 || n != 1 {
			t.Errorf("the server that a referral names was asked %d times", n-1)
		}
	})

	t.Run("attributes", func(t *testing.T) {
		p := d.open(t, object{"idAttribute": "entryUUID", "nameAttribute": "MAIL", "usernameAttribute": "cn", "searchAttributes": []string{"dn"}})
		got := accepted(t, p, "ada", "secret")
		if !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(got.ID) || got.Name != "ada@example.org" || got.Username != "Ada Lovelace" {
			t.Errorf("got %+v", got)
		}
		failing(t, d.open(t, object{"idAttribute": "employeeNumber"}), t.Context(), "ada", "secret", "has no employeeNumber")
	})

	t.Run("TLS", func(t *testing.T) {
		for name, changes := range map[string]object{
			"ldaps, ca":            {"url": d.ldaps, "tlsOptions": object{"ca": d.ca}},
			"ldaps, list of ca":    {"url": d.ldaps, "tlsOptions": object{"ca": []string{d.ca}}},
			"ldaps, caFile":        {"url": d.ldaps, "tlsOptions": object{"caFile": d.caFile}},
			"ldaps, name":          {"url": d.ldaps, "tlsOptions": object{"ca": d.ca, "servername": "ldap.test"}},
			"StartTLS":             {"starttls": true, "tlsOptions": object{"ca": d.ca}},
			"StartTLS, verify yes": {"starttls": true, "tlsOptions": object{"ca": d.ca, "rejectUnauthorized": true}},
		} {
			t.Run(name, func(t *testing.T) {
				p := d.open(t, changes)
				accepted(t, p, "ada", "secret")
				refused(t, p, "ada", "wrong")
				if err := p.Prober.Probe(t.Context()); err != nil {
					t.Errorf("Probe: %v", err)
				}
			})
		}
		for name, changes := range map[string]object{
			"ldaps, unknown authority":    {"url": d.ldaps},
			"StartTLS, unknown authority": {"starttls": true},
			"ldaps, another name":         {"url": d.ldaps, "tlsOptions": object{"ca": d.ca, "servername": "other.test"}},
			"StartTLS, another name":      {"starttls": true, "tlsOptions": object{"ca": d.ca, "servername": "other.test"}},
		} {
			t.Run(name, func(t *testing.T) {
				failing(t, d.open(t, changes), t.Context(), "ada", "secret", "x509: ")
			})
		}
		t.Run("not verified", func(t *testing.T) {
			p, warnings := openWith(t, testDeps(), config.Provider{ID: "p", Strategy: "ldapauth", Name: "P"},
				d.server(object{"url": d.ldaps, "tlsOptions": object{"rejectUnauthorized": false}}))
			if len(warnings) != 1 || !strings.Contains(warnings[0], "rejectUnauthorized") {
				t.Errorf("warnings %q", warnings)
			}
			accepted(t, p, "ada", "secret")
		})
		t.Run("plain port", func(t *testing.T) {
			failing(t, d.open(t, object{"url": strings.Replace(d.ldap, "ldap:", "ldaps:", 1)}), t.Context(), "ada", "secret", "ldap: TLS")
		})
	})

	t.Run("wrong settings are no refusal", func(t *testing.T) {
		for want, changes := range map[string]object{
			"bind as bindDN": {"bindCredentials": "wrong"},
			"search":         {"searchBase": "ou=nowhere,dc=example,dc=org"},
		} {
			p := d.open(t, changes)
			failing(t, p, t.Context(), "ada", "secret", want)
			if err := p.Prober.Probe(t.Context()); err == nil {
				t.Errorf("%s: Probe is content", want)
			}
		}
		// Without a bind this directory shows nothing to anybody.
		s := d.server(nil)
		delete(s["server"].(object), "bindDN")
		delete(s["server"].(object), "bindCredentials")
		if _, err := open(t, "ldapauth", s).Checker.Check(t.Context(), "ada", "secret"); err == nil {
			t.Error("found without being allowed to")
		}
	})

	t.Run("at once", func(t *testing.T) {
		p := d.open(t, nil)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				person, password := persons[i%6], "secret"
				if i%2 == 1 {
					password = "wrong"
				}
				got, err := p.Checker.Check(t.Context(), person.uid, password)
				if i%2 == 0 && (err != nil || got.ID != person.uid) || i%2 == 1 && !errors.Is(err, ErrRefused) {
					t.Errorf("%s, %s: %+v, %v", person.uid, password, got, err)
				}
			})
		}
		wg.Wait()
	})

	t.Run("no connection is left open", func(t *testing.T) {
		// slapd closes its end only after ours: with all of them ended the counts agree.
		fds := func() int { entries, _ := os.ReadDir("/proc/self/fd"); return len(entries) }
		p := d.open(t, nil)
		before := fds()
		for range 20 {
			accepted(t, p, "ada", "secret")
			refused(t, p, "nobody", "secret")
		}
		if after := fds(); after > before+5 {
			t.Errorf("%d files open, %d before", after, before)
		}
	})
}

func TestLDAPServerDown(t *testing.T) {
	d := &directory{ldap: "ldap://" + freeAddress(t)}
	failing(t, d.open(t, nil), t.Context(), "ada", scriptPassword, "connection refused")
	// An empty password is refused without looking for the server.
	if _, err := d.open(t, nil).Checker.(*guard).checker.Check(t.Context(), "ada", ""); !errors.Is(err, ErrRefused) {
		t.Errorf("empty password: %v", err)
	}
}

// TestLDAPServerSilent: a server that takes the connection and says nothing.
func TestLDAPServerSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // after the parallel tests below
	address := l.Addr().String()
	for name, changes := range map[string]object{
		"bind":      {"url": "ldap://" + address},
		"anonymous": {"url": "ldap://" + address, "bindDN": "", "bindCredentials": ""},
		"StartTLS":  {"url": "ldap://" + address, "starttls": true},
		"TLS":       {"url": "ldaps://" + address},
	} {
		t.Run("ctx ends, "+name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			failing(t, new(directory).open(t, changes), ctx, "ada", scriptPassword, context.DeadlineExceeded.Error())
		})
		t.Run("own time limit, "+name, func(t *testing.T) {
			t.Parallel()
			limited := maps.Clone(changes)
			limited["timeout"], limited["connectTimeout"] = 100, 100
			failing(t, new(directory).open(t, limited), t.Context(), "ada", scriptPassword, "ldap: ")
		})
	}
}

// TestLDAPStartTLSRefused: somebody in between can answer that there is no TLS. No password
// may follow in the clear.
func TestLDAPStartTLSRefused(t *testing.T) {
	for _, code := range []byte{ldap.LDAPResultProtocolError, ldap.LDAPResultUnavailable, ldap.LDAPResultUnwillingToPerform} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		heard := make(chan string, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				heard <- err.Error()
				return
			}
			defer conn.Close()
			request := make([]byte, 4096)
			n, _ := conn.Read(request)
			_, _ = conn.Write([]byte{0x30, 12, 2, 1, 1, 0x78, 7, 10, 1, code, 4, 0, 4, 0})
			rest, _ := io.ReadAll(conn)
			heard <- string(request[:n]) + string(rest)
		}()
		p := new(directory).open(t, object{"url": "ldap://" + l.Addr().String(), "starttls": true})
		failing(t, p, t.Context(), "ada", scriptPassword, "ldap: StartTLS")
		got := <-heard
		if !strings.Contains(got, "1.3.6.1.4.1.1466.20037") {
			t.Errorf("code %d: StartTLS was not asked for: %q", code, got)
		}
		for _, secret := range []string{"reads all", scriptPassword} {
			if strings.Contains(got, secret) {
				t.Errorf("code %d: %q was sent in the clear", code, secret)
			}
		}
	}
}

// TestLDAPLocked: some servers refuse to bind as a locked user whatever the password
// is. Nobody may learn from it that the user exists.
func TestLDAPLocked(t *testing.T) {
	for _, code := range []byte{ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			result := func(id, operation, code byte) string {
				return string([]byte{0x30, 12, 2, 1, id, operation, 7, 10, 1, code, 4, 0, 4, 0})
			}
			for _, answer := range []string{
				result(1, 0x61, 0), // bindDN
				"0\x0d\x02\x01\x02d\x08\x04\x04cn=x0\x00" + result(2, 0x65, 0), // its entry
				result(3, 0x61, code),
			} {
				if _, err := conn.Read(make([]byte, 4096)); err != nil {
					return
				}
				_, _ = conn.Write([]byte(answer))
			}
			_, _ = conn.Read(make([]byte, 4096))
		}()
		p := new(directory).open(t, object{"url": "ldap://" + l.Addr().String()})
		if _, err := p.Checker.Check(t.Context(), "ada", "wrong"); !errors.Is(err, ErrRefused) {
			t.Errorf("code %d: got %v, want a refusal", code, err)
		}
	}
}

func TestLDAPGarbage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	failing(t, new(directory).open(t, object{"url": "ldap://" + l.Addr().String()}), t.Context(), "ada", scriptPassword, "ldap: bind as bindDN")
}

func TestIDOf(t *testing.T) {
	guid := []byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	entry := &ldap.Entry{Attributes: []*ldap.EntryAttribute{
		{Name: "objectGUID", ByteValues: [][]byte{guid}},
		{Name: "jpegPhoto", ByteValues: [][]byte{{0xff, 0xd8}}},
		{Name: "uid", ByteValues: [][]byte{[]byte("ada"), []byte("lovelace")}},
	}}
	for attribute, want := range map[string]string{"objectguid": "00112233-4455-6677-8899-aabbccddeeff", "UID": "ada", "jpegPhoto": "", "mail": ""} {
		got, err := idOf(entry, attribute)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", attribute, got, err, want)
		}
	}
}

// FuzzFilter: whatever somebody types, the filter asks for exactly this name and for
// nothing else.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"ada", "*", ")(uid=*", "\\", "\\2a", "\x00", "ä", "{{username}}", "(", "a&b|c!d", "\xff"} {
		f.Add(s)
	}
	l := &ldapAuth{filter: "(&(objectClass=person)(uid={{username}}))"}
	f.Fuzz(func(t *testing.T, name string) {
		if !utf8.ValidString(name) {
			return
		}
		packet, err := ldap.CompileFilter(l.filterFor(name))
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if packet.Tag != ldap.FilterAnd || len(packet.Children) != 2 || name != "" && packet.Children[1].Tag != ldap.FilterEqualityMatch {
			t.Fatalf("%q makes another filter: %s", name, l.filterFor(name))
		}
		if got := packet.Children[1].Children[1].Data.String(); name != "" && got != name {
			t.Errorf("%q is asked for as %q", name, got)
		}
	})
}
