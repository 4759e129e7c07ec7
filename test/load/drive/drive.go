// Package drive puts a load on running servers: people who sign in, applications that ask
// for tokens and go through code flows, and sockets that listen. It goes by the API that
// everybody uses, to one or several base URLs in turn and so without sticky sessions.
//
// It is for finding out what an installation can do, and what it does to people when a
// node is stopped or a database is away. Accounts that it signs in to are renamed: give it
// some that were made for it (see Providers).
package drive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of Run.
type Options struct {
	// URLs are the base URLs. Each request goes to the next of them, whoever sends it.
	URLs []string
	// Provider is the id of the one that people sign in with by name and password, and
	// Users are who they are.
	Provider string
	Users    []User
	// Client is what code flows are gone through with; it has to be trusted, so that nobody
	// is asked for consent.
	Client Client

	// Logins are sign-ins in a new browser each; Tokens GET /token and Codes whole code flows
	// (authorize, code, tokens) of people who are signed in.
	Logins, Tokens, Codes Work

	// Sockets is how many sockets listen. Renames is how many accounts a second are renamed,
	// in turn, which the sockets of each have to hear of.
	Sockets int
	Renames float64

	// Duration is how long work begins; what has begun is waited for.
	Duration time.Duration
	// Timeout is how long an answer may take; 0 is 30 seconds.
	Timeout time.Duration
}

// User is somebody who signs in.
type User struct{ Name, Password string }

// Client is a client of the OpenID Provider that authenticates by client_secret_basic.
type Client struct{ ID, Secret, RedirectURI string }

// Work is how much of an operation there is. The zero value is none.
type Work struct {
	// Workers is how many are under way at once, at the most.
	Workers int
	// Rate is how many begin in a second; 0 is as many as the workers can.
	Rate float64
}

// sessions is how many browsers are signed in for sockets at the most; then they share them.
const sessions = 1000

// Run signs in whom it needs, lets its sockets connect, and then drives the servers for
// the time that it is given, or until ctx ends. An error means that it could not begin:
// what fails later is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	d, err := newDriver(o)
	if err != nil {
		return nil, err
	}
	defer d.http.CloseIdleConnections()

	// Whoever is signed in is so before the clock starts.
	browsers, err := d.signIn(ctx, max(o.Tokens.Workers, o.Codes.Workers))
	if err != nil {
		return nil, err
	}
	var listeners *listeners
	if o.Sockets > 0 {
		owners, err := d.signIn(ctx, min(o.Sockets, len(o.Users), sessions))
		if err != nil {
			return nil, err
		}
		if listeners, err = d.listen(ctx, owners, o.Sockets); err != nil {
			return nil, err
		}
		defer listeners.close()
	}

	begin := time.Now()
	report := &Report{}
	var wg sync.WaitGroup
	for _, operation := range []struct {
		name string
		work Work
		do   func(ctx context.Context, worker int) error
	}{
		{"login", o.Logins, func(ctx context.Context, _ int) error { _, err := d.login(ctx, d.user()); return err }},
		{"token", o.Tokens, func(ctx context.Context, worker int) error { return d.token(ctx, browsers[worker]) }},
		{"code", o.Codes, func(ctx context.Context, worker int) error { return d.code(ctx, browsers[worker]) }},
	} {
		if operation.work.Workers == 0 {
			continue
		}
		measured := &Operation{Name: operation.name}
		report.Operations = append(report.Operations, measured)
		wg.Go(func() { measured.from(pace(ctx, operation.work, o.Duration, operation.do)) })
	}
	if listeners != nil {
		if o.Renames > 0 {
			wg.Go(func() {
				measured := &Operation{Name: "rename"}
				measured.from(pace(ctx, Work{Workers: 1, Rate: o.Renames}, o.Duration, listeners.rename))
				report.renames = measured
			})
		} else if len(report.Operations) == 0 {
			wg.Go(func() { sleep(ctx, o.Duration) })
		}
	}
	wg.Wait()
	if report.renames != nil {
		report.Operations = append(report.Operations, report.renames)
	}
	report.Seconds = time.Since(begin).Seconds()
	for _, operation := range report.Operations {
		operation.PerSecond = float64(operation.Done) / report.Seconds
	}
	if listeners != nil {
		listeners.settle(ctx)
		report.Sockets = listeners.report()
	}
	return report, nil
}

// driver is what all operations share.
type driver struct {
	o      Options
	http   *http.Client
	turn   atomic.Uint64 // of base URLs
	people atomic.Uint64 // of users
}

func newDriver(o Options) (*driver, error) {
	if len(o.URLs) == 0 {
		return nil, errors.New("there is no URL to drive")
	}
	o.URLs = append([]string(nil), o.URLs...)
	for i, address := range o.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%q is not the base URL of a server", address)
		}
		o.URLs[i] = strings.TrimSuffix(address, "/")
	}
	if len(o.Users) == 0 {
		return nil, errors.New("there is nobody who could sign in")
	}
	if o.Codes.Workers > 0 && (o.Client.ID == "" || o.Client.RedirectURI == "") {
		return nil, errors.New("code flows need a client and its redirect URI")
	}
	for _, work := range []Work{o.Logins, o.Tokens, o.Codes} {
		if work.Workers == 0 && work.Rate > 0 {
			return nil, errors.New("work with a rate needs workers")
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// As many connections as there are workers, all of them kept.
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1<<16
	return &driver{o: o, http: &http.Client{
		Transport: transport, Timeout: o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// base is the base URL of the next request.
func (d *driver) base() string { return d.o.URLs[(d.turn.Add(1)-1)%uint64(len(d.o.URLs))] }

// user is who signs in next.
func (d *driver) user() User { return d.o.Users[(d.people.Add(1)-1)%uint64(len(d.o.Users))] }

// signIn signs in n people, some at a time.
func (d *driver) signIn(ctx context.Context, n int) ([]*browser, error) {
	browsers := make([]*browser, n)
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, 16) {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				browsers[i], errs[i] = d.login(ctx, d.o.Users[i%len(d.o.Users)])
			}
		})
	}
	wg.Wait()
	return browsers, errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
