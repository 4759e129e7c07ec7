package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/uuid"

	"login-server/clock"
	"login-server/credential"
	"login-server/identity"
)

const (
	// stormFor is how long the storm lasts, and stormTimes how many sign-ins are asked in it for
	// each password that the machine could hash if it did nothing else.
	stormFor   = 20 * time.Second
	stormTimes = 5
	// calmFor is how long the same is measured without it.
	calmFor = 20 * time.Second
	// steadyRate is how often a second somebody who is signed in asks for each of steadyPaths.
	steadyRate = 50
	// settleFor is when after the storm memory is looked at again.
	settleFor = 5 * time.Second
	// stormPeople is how many accounts there are.
	stormPeople = 1000
	// stranger: of so many sign-ins one is with an address that nobody has.
	stranger = 4
)

var steadyPaths = []string{"/token", "/about"}

// usualHash is what a hash of a password costs where providers.json says nothing of it. If
// it were not, each sign-in would renew the hash, and the figures would be half of what they are.
var usualHash = argon2id.Params{Memory: 64 << 10, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// setUpAccounts is a folder with accounts that live in it: person0@example.org, …, all with
// the password "password". The server believes us where requests come from.
func setUpAccounts(ctx context.Context, o options) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "load-accounts"); err != nil {
		return "", err
	}
	data, err := json.Marshal([]any{map[string]any{"id": "account", "strategy": "account", "name": "Account"}})
	if err != nil {
		return dir, err
	}
	hash, err := argon2id.CreateHash("password", &usualHash)
	err = errors.Join(err,
		os.WriteFile(filepath.Join(dir, "providers.json"), data, 0o600),
		os.WriteFile(filepath.Join(dir, ".env"), []byte("TRUSTED_PROXIES=127.0.0.1\n"), 0o600))
	if err != nil {
		return dir, err
	}
	engine, err := o.servers.engine(ctx, dir)
	if err != nil {
		return dir, err
	}
	now := clock.System{}.Now
	book, err := credential.NewBook(credential.Options{Store: engine, Clock: clock.System{}, NewID: uuid.NewString})
	if err != nil {
		return dir, errors.Join(err, engine.Close())
	}
	people := identity.NewDirectory(engine, identity.Options{BaseURL: "http://localhost/", Now: now, NewID: uuid.NewString})
	for i := range stormPeople {
		c, err := book.Create(ctx, func(c *credential.Credential) {
			c.Emails = []credential.Email{{Address: personAt(i), Primary: true, Verified: now()}}
			c.Password = &credential.Password{Hash: hash, Set: now()}
		})
		if err == nil {
			_, _, err = people.SignIn(ctx, identity.Profile{Provider: "account", ID: c.ID, Name: fmt.Sprintf("Person %d", i)})
		}
		if err != nil {
			return dir, errors.Join(err, engine.Close())
		}
	}
	return dir, engine.Close()
}

func personAt(i int) string { return fmt.Sprintf("person%d@example.org", i) }

// storm is a crowd that signs in, and somebody signed in who goes on working meanwhile.
type storm struct {
	p      *process
	cookie string
	// client keeps its connections: what is measured is the server, not handshakes.
	client *http.Client
	// highest resident memory that was seen, in bytes.
	highest int64
}

// measureAccounts asks a server for several times as many sign-ins with a password as the
// machine could hash. They begin at their times, whether those before were answered or not,
// each in a new browser and from another address. All have to be answered in the order in
// which they have come, or refused with a time to come again; memory has to be
// bounded; and whoever is signed in already must notice little.
func measureAccounts(o options) ([]measured, error) {
	ctx := context.Background()
	hash, err := argon2id.CreateHash("password", &usualHash)
	if err != nil {
		return nil, err
	}
	bare, err := onAllCores(func() bool {
		same, err := argon2id.ComparePasswordAndHash("password", hash)
		return same && err == nil
	}, o.seconds)
	if err != nil {
		return nil, err
	}
	dir, err := setUpAccounts(ctx, o)
	defer os.RemoveAll(dir)
	if err != nil {
		return nil, err
	}
	p, err := start(o, dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	s := &storm{p: p, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 10_000},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}}
	defer s.client.CloseIdleConnections()
	if s.cookie, _, err = p.browser(ctx, "account", personAt(0)); err != nil {
		return nil, err
	}
	if _, err := s.steady(ctx, time.Second); err != nil { // connections are open, caches are full
		return nil, err
	}
	before, err := p.resident()
	if err != nil {
		return nil, err
	}
	calm, err := s.steady(ctx, calmFor)
	if err != nil {
		return nil, err
	}
	var meanwhile map[string][]time.Duration
	var asked []signIn
	var steadyErr error
	var wg sync.WaitGroup
	watching, watched := context.WithCancel(ctx)
	wg.Go(func() { s.watch(watching) })
	wg.Go(func() { meanwhile, steadyErr = s.steady(ctx, stormFor) })
	asked = s.signIns(ctx, stormTimes*bare, stormFor)
	watched()
	wg.Wait()
	if steadyErr != nil {
		return nil, fmt.Errorf("during the storm: %w", steadyErr)
	}
	time.Sleep(settleFor)
	after, err := p.resident()
	if err != nil {
		return nil, err
	}

	results := judge(asked, bare)
	for _, path := range steadyPaths {
		for _, percent := range []int{50, 99} {
			without, with := percentile(calm[path], percent), percentile(meanwhile[path], percent)
			m := measured{Name: fmt.Sprintf("GET %s meanwhile, %d %% within", path, percent), Value: milliseconds(with), Unit: "ms",
				Ratio: float64(with) / float64(without), Against: fmt.Sprintf("%.2f ms without sign-ins", milliseconds(without))}
			if percent == 99 {
				m.Bound, m.AtMost = 3, true
			}
			results = append(results, m)
		}
	}
	mib := func(bytes int64) float64 { return float64(bytes) / (1 << 20) }
	return append(results,
		measured{Name: "resident memory before", Value: mib(before), Unit: "MiB"},
		measured{Name: "the same, the most of it", Value: mib(s.highest), Unit: "MiB", Bound: 512, AtMost: true},
		measured{Name: fmt.Sprintf("the same, %v after the last answer", settleFor), Value: mib(after), Unit: "MiB"},
	), nil
}

// watch notes the highest resident memory until ctx ends.
func (s *storm) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if now, err := s.p.resident(); err == nil {
			s.highest = max(s.highest, now)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// every calls do at a steady rate for a time, each in a goroutine of its own, and waits for
// all of them.
func every(rate float64, d time.Duration, do func(i int)) {
	var wg sync.WaitGroup
	begin := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(float64(i) / rate * float64(time.Second))
		if due >= d {
			break
		}
		time.Sleep(time.Until(begin.Add(due)))
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// steady asks for the steady paths for a time and returns how long each answer took, from
// when its request was sent. An error if one was not answered as it should be.
func (s *storm) steady(ctx context.Context, d time.Duration) (map[string][]time.Duration, error) {
	var mu sync.Mutex
	times, failed := map[string][]time.Duration{}, error(nil)
	every(steadyRate*float64(len(steadyPaths)), d, func(i int) {
		path := steadyPaths[i%len(steadyPaths)]
		took, err := s.get(ctx, path)
		mu.Lock()
		defer mu.Unlock()
		times[path] = append(times[path], took)
		failed = errors.Join(failed, err)
	})
	return times, failed
}

// get asks for a path as who is signed in, and tells how long the answer took.
func (s *storm) get(ctx context.Context, path string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.p.addr+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Cookie", s.cookie)
	begin := time.Now()
	res, err := s.do(req)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, res.Status)
	}
	return time.Since(begin), err
}

// do sends a request and reads the answer to its end.
func (s *storm) do(req *http.Request) (*http.Response, error) {
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}

// signIn is one that was asked, and what came of it.
type signIn struct {
	// begun and ended are times since the storm began.
	begun, ended time.Duration
	became       outcome
}

type outcome int

const (
	lost    outcome = iota // no answer, or none that may be given
	done                   // the password was looked at
	refused                // with a time to come again
)

// signIns asks for sign-ins at a rate.
func (s *storm) signIns(ctx context.Context, rate float64, d time.Duration) []signIn {
	var mu sync.Mutex
	var all []signIn
	begin := time.Now()
	every(rate, d, func(i int) {
		one := signIn{begun: time.Since(begin)}
		one.became = s.signIn(ctx, i)
		one.ended = time.Since(begin)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, one)
	})
	return all
}

// signIn asks for the i-th sign-in.
func (s *storm) signIn(ctx context.Context, i int) outcome {
	email, back := personAt(i%stormPeople), false
	if i%stranger == 0 {
		email, back = fmt.Sprintf("nobody%d@example.org", i), true
	}
	form := url.Values{"username": {email}, "password": {"password"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.p.addr+"/login/account", strings.NewReader(form))
	if err != nil {
		return lost
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", i>>8&0xff, i&0xff)) // RFC 2544, C.2.2
	res, err := s.do(req)
	if err != nil {
		return lost
	}
	switch location := res.Header.Get("Location"); res.StatusCode {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if res.Header.Get("Retry-After") != "" {
			return refused
		}
	case http.StatusFound:
		if strings.HasSuffix(location, "/login/account") == back {
			return done
		}
	}
	return lost
}

// judge is what came of the sign-ins, beside the hashes a second of the bare machine.
func judge(asked []signIn, bare float64) []measured {
	slices.SortFunc(asked, func(a, b signIn) int { return int(a.begun - b.begun) })
	var served []signIn
	var waits, refusals []time.Duration
	var end time.Duration
	for _, one := range asked {
		switch one.became {
		case done:
			served = append(served, one)
			waits = append(waits, one.ended-one.begun)
			end = max(end, one.ended)
		case refused:
			refusals = append(refusals, one.ended-one.begun)
		}
	}
	// By how many that had begun later one was overtaken.
	overtaken := 0
	for i, one := range served {
		later := 0
		for _, other := range served[i+1:] {
			if other.ended < one.ended {
				later++
			}
		}
		overtaken = max(overtaken, later)
	}
	answered := float64(len(served) + len(refusals))
	perSecond := float64(len(served)) / end.Seconds()
	// The server leaves one processor to everybody else.
	cores := runtime.GOMAXPROCS(0)
	hashing := max(1, cores-1)
	return []measured{
		{Name: "sign-ins asked", Value: float64(len(asked)) / stormFor.Seconds(), Unit: "/s", Ratio: float64(len(asked)) / stormFor.Seconds() / bare, Against: "argon2id on all cores"},
		{Name: "sign-ins served", Value: perSecond, Unit: "/s", Ratio: perSecond / bare, Against: "argon2id on all cores", Bound: 0.8 * float64(hashing) / float64(cores)},
		{Name: "served, or refused with Retry-After", Value: answered, Unit: "", Ratio: answered / float64(len(asked)), Against: "those asked", Bound: 1},
		{Name: "served after, 99 % within", Value: percentile(waits, 99).Seconds(), Unit: "s", Bound: 10, AtMost: true},
		{Name: "refused after, 99 % within", Value: milliseconds(percentile(refusals, 99)), Unit: "ms", Bound: 100, AtMost: true},
		{Name: "overtaken by later ones, the most", Value: float64(overtaken), Unit: "", Bound: 8, AtMost: true},
	}
}

// percentile is that of some times by nearest rank: one of them.
func percentile(times []time.Duration, percent int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
