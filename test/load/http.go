package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"

	"login-server/clock"
	"login-server/providers"
	"login-server/store/sqlite"
	"login-server/token"
)

// connections is how many keep-alive connections ask at once.
const connections = 16

// rate tells how many requests a second a server answers, all of them with 200
// or 302. The client does as little as it can: it writes the same bytes again and
// reads a head and a body of known length.
func rate(addr, method, path, headers, body string, d time.Duration) (float64, error) {
	request := []byte(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", method, path, addr, headers, len(body), body))
	var done atomic.Int64
	var failed atomic.Pointer[error]
	deadline := time.Now().Add(d)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				defer conn.Close()
				r := bufio.NewReaderSize(conn, 8192)
				for err == nil && time.Now().Before(deadline) {
					if _, err = conn.Write(request); err == nil {
						if err = readAnswer(r); err == nil {
							done.Add(1)
						}
					}
				}
			}
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	start := time.Now()
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

var contentLength = []byte("Content-Length: ")

func readAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) && !bytes.Contains(line, []byte(" 302 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if bytes.HasPrefix(line, contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if length < 0 {
		return errors.New("answer without Content-Length")
	}
	_, err := r.Discard(length)
	return err
}

// against measures two rates in turn, three times, and returns the medians.
func against(bare, own func() (float64, error)) (b, o float64, err error) {
	medians, err := inTurn(bare, own)
	if err != nil {
		return 0, 0, err
	}
	return medians[0], medians[1], nil
}

// inTurn measures rates in turn, three times, so that all meet the same machine, and returns
// the medians.
func inTurn(rates ...func() (float64, error)) ([]float64, error) {
	found := make([][]float64, len(rates))
	for range 3 {
		for i, rate := range rates {
			value, err := rate()
			if err != nil {
				return nil, err
			}
			found[i] = append(found[i], value)
		}
	}
	medians := make([]float64, len(rates))
	for i, values := range found {
		slices.Sort(values)
		medians[i] = values[1]
	}
	return medians, nil
}

func measureHTTP(o options) ([]measured, error) {
	bare, err := startBare()
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	p, err := start(o, "")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	cookie, _, err := p.browser(context.Background(), "quick", "user0")
	if err != nil {
		return nil, err
	}
	var results []measured
	for _, m := range []struct {
		path, headers string
		bound         float64
	}{
		{"/about", "", 0.6},
		{"/providers", "", 0.6},
		{"/token", "Cookie: " + cookie + "\r\n", 0.4},
		{"/currentUser", "Cookie: " + cookie + "\r\n", 0.4},
		{"/login", "Accept-Language: en\r\n", 0.25},
	} {
		b, own, err := against(
			func() (float64, error) { return rate(bare.addr, "GET", "/", "", "", o.seconds/3) },
			func() (float64, error) { return rate(p.addr, "GET", m.path, m.headers, "", o.seconds/3) },
		)
		if err != nil {
			return nil, err
		}
		results = append(results, measured{Name: "GET " + m.path, Value: own, Unit: "/s", Ratio: own / b, Against: "a bare net/http server", Bound: m.bound})
	}
	return results, nil
}

// measureSigning compares a token with the signature in it.
func measureSigning(options) ([]measured, error) {
	dir, err := os.MkdirTemp("", "load-sign")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := token.EnsureKeys(dir+"/private.key", dir+"/public.key", "RS256"); err != nil {
		return nil, err
	}
	engine, err := sqlite.Open(context.Background(), dir+"/db", sqlite.Options{})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	manager, err := token.NewManager(context.Background(), engine, token.Options{
		PrivateKeyPath: dir + "/private.key", PublicKeyPath: dir + "/public.key",
		Algorithm: "RS256", ExpiresIn: 2 * time.Minute, Now: clock.System{}.Now,
	})
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	user := map[string]any{"_id": "c0c1914a", "name": "Ada", "identities": map[string]any{"github": map[string]string{"id": "1"}}}
	digest := sha256.Sum256([]byte("payload"))
	times := func(f func() error) (float64, error) {
		const n = 300
		start := time.Now()
		for range n {
			if err := f(); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(start).Microseconds()) / n, nil
	}
	b, own, err := against(
		func() (float64, error) {
			return times(func() error { _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); return err })
		},
		func() (float64, error) {
			return times(func() error { _, err := manager.Sign(user, "ticket"); return err })
		},
	)
	if err != nil {
		return nil, err
	}
	return []measured{{Name: "signing a token", Value: own, Unit: "us", Ratio: own / b, Against: "a bare RS256 signature", Bound: 1.15, AtMost: true}}, nil
}

// measureLogins compares full logins with the rate of the password hash alone.
func measureLogins(o options) ([]measured, error) {
	p, err := start(o, "")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	slow, err := bcrypt.GenerateFromPassword([]byte("password"), slowCost)
	if err != nil {
		return nil, err
	}
	argon, err := providers.HashPassword("password")
	if err != nil {
		return nil, err
	}
	var results []measured
	for _, m := range []struct {
		name  string
		check func() bool
	}{
		{"bcrypt", func() bool { return bcrypt.CompareHashAndPassword(slow, []byte("password")) == nil }},
		{"argon2id", func() bool {
			same, err := argon2id.ComparePasswordAndHash("password", argon)
			return same && err == nil
		}},
	} {
		form := url.Values{"username": {m.name}, "password": {"password"}}.Encode()
		b, own, err := against(
			func() (float64, error) { return onAllCores(m.check, o.seconds) },
			func() (float64, error) {
				return rate(p.addr, "POST", "/login/slow", "Content-Type: application/x-www-form-urlencoded\r\n", form, o.seconds)
			},
		)
		if err != nil {
			return nil, err
		}
		results = append(results, measured{Name: "full logins (" + m.name + ")", Value: own, Unit: "/s", Ratio: own / b, Against: m.name + " on all cores", Bound: 0.9})
	}
	return results, nil
}

// onAllCores tells how often a second something succeeds that runs on all cores.
func onAllCores(do func() bool, d time.Duration) (float64, error) {
	var done, failed atomic.Int64
	deadline, start := time.Now().Add(d), time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Now().Before(deadline) {
				if do() {
					done.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		return 0, errors.New("a right password was refused")
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// measureStart is the time from the start of the process to its first answer, with
// keys and data in place.
func measureStart(o options) ([]measured, error) {
	dir, err := setUp()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var times []float64
	for range 8 {
		begin := time.Now()
		p, err := start(o, dir)
		if err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(begin).Microseconds())/1000)
		p.stop()
	}
	times = times[1:] // the first one made keys and data
	slices.Sort(times)
	return []measured{{Name: "start to first answer (median of 7)", Value: times[len(times)/2], Unit: "ms", Bound: 60, AtMost: true}}, nil
}
