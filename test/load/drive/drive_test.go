package drive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"login-server/internal/testprogram"
)

func TestMain(m *testing.M) {
	status := m.Run()
	testprogram.Remove()
	os.Exit(status)
}

// A server stands still for a second while ten operations a second are due: those that
// could not even be sent are as late as people would have seen them.
func TestRateCountsFromWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		outcomes := pace(t.Context(), Work{Workers: 1, Rate: 10}, 2*time.Second, func(context.Context, int) error {
			if first {
				first = false
				time.Sleep(time.Second)
			}
			return nil
		})
		var took []time.Duration
		for _, x := range outcomes {
			took = append(took, x.took)
		}
		var want []time.Duration
		for i := range 20 {
			want = append(want, max(0, time.Second-time.Duration(i)*100*time.Millisecond))
		}
		if !slices.Equal(took, want) {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

func TestWhatIsNotBegunIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &Operation{}
		o.from(pace(t.Context(), Work{Workers: 2, Rate: 10}, time.Second, func(context.Context, int) error {
			time.Sleep(5 * time.Second)
			return nil
		}))
		if o.Done != 2 || o.Failed[errNotBegun.Error()] != 8 {
			t.Errorf("%d done, failed %v; want 2 and 8", o.Done, o.Failed)
		}
	})
}

func TestWithoutARateWorkersAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcomes := pace(t.Context(), Work{Workers: 3}, time.Second, func(context.Context, int) error {
			time.Sleep(100 * time.Millisecond)
			return errors.New("no")
		})
		if len(outcomes) != 30 || outcomes[0].took != 100*time.Millisecond {
			t.Errorf("%d times, %v; want 30 of 100ms", len(outcomes), outcomes)
		}
	})
}

func TestLatency(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := latencyOf(times), (Latency{100, 180, 198, 200}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := latencyOf([]time.Duration{time.Second}), (Latency{1000, 1000, 1000, 1000}); got != want {
		t.Errorf("of one: got %+v, want %+v", got, want)
	}
}

func TestErrorsAreCountedByKind(t *testing.T) {
	answering := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "c", Value: "v"})
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer answering.Close()
	report, err := Run(t.Context(), Options{
		URLs: []string{answering.URL}, Users: People(1), Provider: "load",
		Tokens: Work{Workers: 1, Rate: 100}, Duration: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	token := report.Operations[0]
	// On a busy machine the last ones may not be begun in time.
	n := token.Failed["GET /token: 503 Service Unavailable"]
	if n == 0 || n+token.Failed[errNotBegun.Error()] != 5 || token.Done != 0 || token.Failures() != 5 {
		t.Errorf("%+v, want five of 503", token)
	}
	if text := report.String(); !strings.Contains(text, fmt.Sprintf("%d times: GET /token: 503 Service Unavailable", n)) {
		t.Errorf("the text does not say so:\n%s", text)
	}

	gone := httptest.NewServer(nil)
	gone.Close()
	d, err := newDriver(Options{URLs: []string{gone.URL}, Users: People(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.login(t.Context(), People(1)[0]); kind(err) != "connection refused" {
		t.Errorf("nobody listens: %q", kind(err))
	}
}

func TestRefusedOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no URL":             {Users: People(1)},
		"no base URL":        {URLs: []string{"login.example.org"}, Users: People(1)},
		"nobody":             {URLs: []string{"http://localhost"}},
		"codes of no client": {URLs: []string{"http://localhost"}, Users: People(1), Codes: Work{Workers: 1}},
		"a rate of nobody":   {URLs: []string{"http://localhost"}, Users: People(1), Logins: Work{Rate: 1}},
	} {
		if _, err := newDriver(o); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestReadUsers(t *testing.T) {
	users, err := ReadUsers(strings.NewReader("ada secret with spaces\n\nbob x\n"))
	if err != nil || !slices.Equal(users, []User{{"ada", "secret with spaces"}, {"bob", "x"}}) {
		t.Errorf("got %v, %v", users, err)
	}
	if _, err := ReadUsers(strings.NewReader("ada secret\nbob\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line without password: %v", err)
	}
}

// TestServer drives the real program with all there is; in the middle its sockets are
// closed, and come back.
func TestServer(t *testing.T) {
	providers, err := Providers("load", People(8), 4)
	if err != nil {
		t.Fatal(err)
	}
	client := Client{ID: "app", Secret: "a-secret-that-is-long-enough-to-be-one", RedirectURI: "https://app.example.org/cb"}
	s := testprogram.New(t)
	s.Start(t, testprogram.Files{
		"providers.json": json.RawMessage(providers),
		"applications.json": []any{map[string]any{
			"url": "https://app.example.org/", "name": "App", "client_id": client.ID, "client_secret": client.Secret,
			"redirect_uris": []string{client.RedirectURI}, "trusted": true,
		}},
	}, "RATE_LIMIT_MAX=1000000", "VERBOSITY=error")

	const sockets = 16
	d, err := newDriver(Options{URLs: []string{s.Base}, Provider: "load", Users: People(8)})
	if err != nil {
		t.Fatal(err)
	}
	owners, err := d.signIn(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.listen(t.Context(), owners, sockets)
	if err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	d.http.CloseIdleConnections() // a request on one of those to the old process would be lost
	for range 4 {                 // away or not, each hears of the change of its account
		if err := l.rename(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for r := l.report(); r.Heard < sockets || r.Returned < sockets; r = l.report() {
		select {
		case <-l.heard:
		case <-ctx.Done():
			t.Fatalf("after a restart of the server: %+v", r)
		}
	}
	l.close()
	if r := l.report(); r.Expected != sockets || r.Heard != sockets || len(r.Closed) == 0 {
		t.Errorf("%+v", r)
	}

	report, err := Run(t.Context(), Options{
		URLs: []string{s.Base, s.Base}, Provider: "load", Users: People(8), Client: client,
		Logins: Work{Workers: 2, Rate: 20}, Tokens: Work{Workers: 2}, Codes: Work{Workers: 2}, Sockets: sockets, Renames: 10, Duration: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range report.Operations {
		failed := o.Failures() - o.Failed[errNotBegun.Error()] // as above
		if o.Done == 0 || failed > 0 || o.Latency.P50 <= 0 || o.Latency.Max < o.Latency.P99 {
			t.Errorf("%s: %+v", o.Name, o)
		}
	}
	if r := report.Sockets; r.Open != sockets || r.Expected == 0 || r.Heard != r.Expected {
		t.Errorf("sockets: %+v", r)
	}
	if len(report.Operations) != 4 {
		t.Errorf("%d operations, want login, token, code and rename", len(report.Operations))
	}
	t.Logf("\n%s", report)
}
