package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCrowdIsToldToComeAgain: far more people sign in than can be hashed. Who would have to
// wait too long is told at once when to come again, on the page as in the API; who has gone
// meanwhile is not hashed for; and whoever comes after the crowd is served.
func TestCrowdIsToldToComeAgain(t *testing.T) {
	// One at a time, of which each takes some tenths of a second.
	s := newServer(t, func(o *options) {
		o.providers = `[{"id": "account", "strategy": "account", "name": "Account",
			"options": {"hashing": {"memoryKiB": 8192, "iterations": 64, "parallelism": 1, "atOnce": 1}}}]`
	})
	s.browser().localLogin("first@example.org", goodWords).leadsTo("/login/account") // from now on it is known how long one takes
	client := &http.Client{Transport: s.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	const people = 100
	type told struct {
		api           bool
		status        int
		after, answer string
	}
	answers := make(chan told, people)
	var wg sync.WaitGroup
	for i := range people {
		api := i%2 == 1
		email := fmt.Sprintf("person%d@example.org", i)
		path, kind, body := "login/account", "application/x-www-form-urlencoded", url.Values{"username": {email}, "password": {goodWords}}.Encode()
		if api {
			path, kind, body = "api/v1/session", "application/json", fmt.Sprintf(`{"email": %q, "password": %q}`, email, goodWords)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		wg.Go(func() {
			res, err := client.Do(r)
			if err != nil {
				return // has gone
			}
			defer res.Body.Close()
			text, _ := io.ReadAll(res.Body)
			answers <- told{api, res.StatusCode, res.Header.Get("Retry-After"), string(text)}
		})
	}
	refused := map[bool]int{}
	for deadline := time.After(20 * time.Second); refused[true] == 0 || refused[false] == 0; {
		select {
		case a := <-answers:
			if a.status != http.StatusServiceUnavailable {
				continue // was looked at
			}
			refused[a.api]++
			if a.after != "5" || a.api != strings.Contains(a.answer, `"code":"busy"`) {
				t.Fatalf("Retry-After %q: %s", a.after, a.answer)
			}
		case <-deadline:
			t.Fatalf("refused until now: %v", refused)
		}
	}
	leave()
	wg.Wait()
	desk := s.running.Load().Desk()
	for deadline := time.Now().Add(20 * time.Second); desk.HashesWaiting() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait although nobody is there any more", desk.HashesWaiting())
		}
	}
	if made := desk.Hashes(); made > people/2 {
		t.Errorf("%d were hashed", made)
	}
	s.browser().localLogin("late@example.org", goodWords).leadsTo("/login/account")
	if strings.Contains(s.log.String(), "request failed") {
		t.Error("a crowd fills the log with what is meant to happen")
	}
	numbers := s.numbers()
	for _, line := range []string{
		fmt.Sprintf("login_server_password_hashes_total %d", desk.Hashes()),
		fmt.Sprintf("login_server_password_hashes_refused_total %d", desk.HashesRefused()),
		"login_server_password_hashes_waiting 0",
	} {
		if !strings.Contains(numbers, line+"\n") {
			t.Errorf("the numbers lack %q", line)
		}
	}
}
