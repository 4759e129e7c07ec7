package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"login-server/store"
)

// The client that the OpenID part goes through its flows with.
const (
	loadClient   = "load"
	loadSecret   = "a-secret-that-is-long-enough-to-be-one"
	loadRedirect = "https://app.example.org/cb"
	loadVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

	formHeader = "Content-Type: application/x-www-form-urlencoded\r\n"
)

var basicHeader = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(loadClient+":"+loadSecret)) + "\r\n"

// relyingParty is one keep-alive connection of somebody whose browser is signed in, and of
// the client that they sign in to.
type relyingParty struct {
	conn    net.Conn
	reader  *bufio.Reader
	addr    string
	cookie  string
	request []byte // to authorize
}

func (p *process) relyingParty(cookie string) (*relyingParty, error) {
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	challenge := sha256.Sum256([]byte(loadVerifier))
	query := url.Values{
		"client_id": {loadClient}, "response_type": {"code"}, "redirect_uri": {loadRedirect}, "scope": {"openid"}, "state": {"state"}, "nonce": {"nonce"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	return &relyingParty{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10), addr: p.addr, cookie: cookie,
		request: fmt.Appendf(nil, "GET /oauth/authorize?%s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", query.Encode(), p.addr, cookie)}, nil
}

// ask sends a request and returns Location and body of the answer.
func (c *relyingParty) ask(request []byte, status string) (location string, body []byte, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return "", nil, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			break
		}
		if first && !strings.Contains(line, " "+status+" ") {
			return "", nil, fmt.Errorf("answered %q", line)
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Location":
			location = value
		case "Content-Length":
			if length, err = strconv.Atoi(value); err != nil {
				return "", nil, err
			}
		}
	}
	if length < 0 {
		return "", nil, errors.New("answer without Content-Length")
	}
	body = make([]byte, length)
	for read := 0; read < length; {
		n, err := c.reader.Read(body[read:])
		if err != nil {
			return "", nil, err
		}
		read += n
	}
	return location, body, nil
}

// code asks for a code.
func (c *relyingParty) code() (string, error) {
	location, _, err := c.ask(c.request, "302")
	if err != nil {
		return "", err
	}
	u, err := url.Parse(location)
	if err != nil || u.Query().Get("code") == "" {
		return "", fmt.Errorf("authorize leads to %q", location)
	}
	return u.Query().Get("code"), nil
}

// tokens are what the token endpoint gives.
type tokens struct {
	Access  string `json:"access_token"`
	ID      string `json:"id_token"`
	Refresh string `json:"refresh_token"`
}

func (c *relyingParty) token(form url.Values) (t tokens, err error) {
	body := form.Encode()
	_, answer, err := c.ask(fmt.Appendf(nil, "POST /oauth/token HTTP/1.1\r\nHost: %s\r\n%s%sContent-Length: %d\r\n\r\n%s", c.addr, basicHeader, formHeader, len(body), body), "200")
	if err == nil {
		err = json.Unmarshal(answer, &t)
	}
	if err == nil && (t.Access == "" || t.ID == "" || t.Refresh == "") {
		err = fmt.Errorf("the token endpoint answers %s", answer)
	}
	return t, err
}

func redemption(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {loadRedirect}, "code_verifier": {loadVerifier}}
}

// round is a whole sign-in of somebody who has a session: authorize, code, tokens.
func (c *relyingParty) round() (tokens, error) {
	code, err := c.code()
	if err != nil {
		return tokens{}, err
	}
	return c.token(redemption(code))
}

// setUpOpenID is setUp with an application that is a client.
func setUpOpenID() (string, error) {
	dir, err := setUp()
	if err != nil {
		return "", err
	}
	data, err := json.Marshal([]any{map[string]any{
		"url": "https://app.example.org/", "name": "Load", "client_id": loadClient, "client_secret": loadSecret,
		"redirect_uris": []string{loadRedirect}, "trusted": true,
	}})
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "applications.json"), data, 0o600)
}

// measureOpenID is the OpenID Provider: what is answered from memory against a bare
// net/http server, exchanges against the signatures and the durable write in them, whole
// rounds against what their signatures allow, and the memory that flows leave behind.
func measureOpenID(o options) ([]measured, error) {
	dir, err := setUpOpenID()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, err := start(o, dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	cookie, _, err := p.browser(context.Background(), "quick", "user0")
	if err != nil {
		return nil, err
	}
	c, err := p.relyingParty(cookie)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	t, err := c.round()
	if err != nil {
		return nil, err
	}

	var results []measured
	for _, measure := range []func() ([]measured, error){
		func() ([]measured, error) { return openIDRates(o, p, t.Access) },
		func() ([]measured, error) { return openIDExchanges(o, c) },
		func() ([]measured, error) { return openIDRounds(o, p, cookie) },
	} {
		list, err := measure()
		if err != nil {
			return nil, err
		}
		results = append(results, list...)
	}
	grown, err := openIDMemory(o)
	return append(results, grown...), err
}

// openIDRates are of what has neither a signature nor a read of the database in it.
func openIDRates(o options, p *process, access string) ([]measured, error) {
	bare, err := startBare()
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	var results []measured
	for _, m := range []struct {
		name, method, path, headers, body string
		bound                             float64
	}{
		{"discovery", "GET", "/.well-known/openid-configuration", "", "", 0.6},
		{"JWKS", "GET", "/.well-known/jwks.json", "", "", 0.6},
		{"userinfo", "GET", "/oauth/userinfo", "Authorization: Bearer " + access + "\r\n", "", 0.35},
		{"introspection", "POST", "/oauth/introspect", basicHeader + formHeader, url.Values{"token": {access}}.Encode(), 0.35},
	} {
		b, own, err := against(
			func() (float64, error) { return rate(bare.addr, "GET", "/", "", "", o.seconds/3) },
			func() (float64, error) { return rate(p.addr, m.method, m.path, m.headers, m.body, o.seconds/3) },
		)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		results = append(results, measured{Name: m.name, Value: own, Unit: "/s", Ratio: own / b, Against: "a bare net/http server", Bound: m.bound})
	}
	return results, nil
}

// openIDExchanges are one after the other, each next to two bare signatures and a durable
// write of a document of the same size: so both meet the same machine.
func openIDExchanges(o options, c *relyingParty) ([]measured, error) {
	dir, err := os.MkdirTemp("", "load-write")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	engine, err := o.servers.engine(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	doc := store.Doc{ID: "bare", Data: []byte(`"` + strings.Repeat("x", 900) + `"`), Keys: []string{"client:load", "user:0", "session:0"}, Expires: time.Now().Add(24 * time.Hour)}
	if doc.Version, err = engine.Insert(context.Background(), "bare", doc); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(doc.Data)
	sign := func() error {
		for range 2 {
			if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); err != nil {
				return err
			}
		}
		return nil
	}
	n := 0
	insert := func() error {
		n++
		other := doc
		other.ID = fmt.Sprintf("%022d", n)
		_, err := engine.Insert(context.Background(), "bare", other)
		return err
	}
	replace := func() error {
		version, err := engine.Replace(context.Background(), "bare", doc)
		doc.Version = version
		return err
	}
	// compared is the median of how long own takes, and of how long bare does just before it.
	compared := func(name string, write, prepare, own func() error) (measured, error) {
		var b, d []float64
		for deadline := time.Now().Add(o.seconds); time.Now().Before(deadline) || len(d) < 100; {
			if err := prepare(); err != nil {
				return measured{}, err
			}
			t0 := time.Now()
			if err := errors.Join(sign(), write()); err != nil {
				return measured{}, err
			}
			t1 := time.Now()
			if err := own(); err != nil {
				return measured{}, err
			}
			b, d = append(b, float64(t1.Sub(t0).Microseconds())), append(d, float64(time.Since(t1).Microseconds()))
		}
		slices.Sort(b)
		slices.Sort(d)
		return measured{Name: name, Value: d[len(d)/2], Unit: "us", Ratio: d[len(d)/2] / b[len(b)/2], Against: "two RS256 signatures and a write", Bound: 1.3, AtMost: true}, nil
	}
	code, refresh := "", ""
	redeemed, err := compared("code for tokens", insert,
		func() (err error) { code, err = c.code(); return err },
		func() error { t, err := c.token(redemption(code)); refresh = t.Refresh; return err })
	if err != nil {
		return nil, err
	}
	refreshed, err := compared("refresh", replace,
		func() error { return nil },
		func() error {
			t, err := c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
			refresh = t.Refresh
			return err
		})
	return []measured{redeemed, refreshed}, err
}

// userinfo asks who somebody is, as most applications do.
func (c *relyingParty) userinfo(access string) error {
	_, _, err := c.ask(fmt.Appendf(nil, "GET /oauth/userinfo HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", c.addr, access), "200")
	return err
}

// rounds goes through n rounds, or as many as fit into d, on some connections at once, and
// returns how many that were and how many a second. after is what is done with the tokens.
func (p *process) rounds(cookie string, n int64, d time.Duration, after func(*relyingParty, tokens) error) (int64, float64, error) {
	var done atomic.Int64
	var failed atomic.Pointer[error]
	deadline, begin := time.Now().Add(d), time.Now()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			c, err := p.relyingParty(cookie)
			if err == nil {
				defer c.conn.Close()
				for err == nil && (n == 0 && time.Now().Before(deadline) || done.Load() < n) {
					var t tokens
					if t, err = c.round(); err == nil {
						err = after(c, t)
						done.Add(1)
					}
				}
			}
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, 0, *err
	}
	return done.Load(), float64(done.Load()) / time.Since(begin).Seconds(), nil
}

// openIDRounds compares whole rounds, two signatures each, with how many pairs of
// signatures the processors can make, and with how many rounds a bare net/http server does
// that makes them and the durable write. What drives a server takes part of the same
// processors, and a processor may wait for the disk, so the last line says what the server
// itself has used of them.
func openIDRounds(o options, p *process, cookie string) ([]measured, error) {
	dir, err := os.MkdirTemp("", "load-bare")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bare, err := startBareRounds(o.servers, dir)
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("payload"))
	pair := func() bool {
		_, err1 := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		_, err2 := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		return err1 == nil && err2 == nil
	}
	rounds := func(p *process) func() (float64, error) {
		return func() (float64, error) {
			_, rate, err := p.rounds(cookie, 0, o.seconds, func(*relyingParty, tokens) error { return nil })
			return rate, err
		}
	}
	var times, pairTimes []time.Duration
	timed := func(times *[]time.Duration, pid int, do func() (float64, error)) func() (float64, error) {
		return func() (float64, error) {
			rate, each, err := spent(pid, do)
			*times = append(*times, each)
			return rate, err
		}
	}
	rates, err := inTurn(
		timed(&pairTimes, os.Getpid(), func() (float64, error) { return onAllCores(pair, o.seconds) }),
		rounds(bare),
		timed(&times, p.cmd.Process.Pid, rounds(p)),
	)
	if err != nil {
		return nil, err
	}
	pairs, bareRate, own := rates[0], rates[1], rates[2]
	slices.Sort(times)
	slices.Sort(pairTimes)
	used, pairTime := times[len(times)/2], pairTimes[len(pairTimes)/2]
	name := fmt.Sprintf("authorize, code, tokens (%d cores)", runtime.GOMAXPROCS(0))
	return []measured{
		{Name: name, Value: own, Unit: "/s", Ratio: own / bareRate, Against: "the rounds of a bare server", Bound: 0.85},
		{Name: "the bare server: signatures and a write alone", Value: bareRate, Unit: "/s", Ratio: bareRate / pairs, Against: "two RS256 signatures on all cores"},
		{Name: name, Value: own, Unit: "/s", Ratio: own / pairs, Against: "two RS256 signatures on all cores", Bound: 0.85},
		// What is left to the signatures if 85 % of the time is theirs.
		{Name: "the same: processor time of the server", Value: float64(used.Microseconds()), Unit: "us",
			Ratio: float64(used) / float64(pairTime), Against: "two RS256 signatures", Bound: 1 / 0.85, AtMost: true},
	}, nil
}

// openIDMemory is by how much the memory of a new server has grown after many rounds, each
// with a look at userinfo, which fills its caches.
func openIDMemory(o options) ([]measured, error) {
	dir, err := setUpOpenID()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, err := start(o, dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	cookie, _, err := p.browser(context.Background(), "quick", "user0")
	if err != nil {
		return nil, err
	}
	before, err := p.resident()
	if err != nil {
		return nil, err
	}
	n, _, err := p.rounds(cookie, int64(o.flows), 0, func(c *relyingParty, t tokens) error { return c.userinfo(t.Access) })
	if err != nil {
		return nil, err
	}
	after, err := p.resident()
	return []measured{{Name: fmt.Sprintf("resident memory after %d rounds and userinfo, above the start", n), Value: float64(after-before) / (1 << 20), Unit: "MiB", Bound: 60, AtMost: true}}, err
}
