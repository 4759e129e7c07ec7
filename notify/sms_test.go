package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/clock"
)

const account = "AC0123456789abcdef0123456789abcdef"

// twilioServer behaves as the Messaging API is documented
// (https://www.twilio.com/docs/messaging/api/message-resource).
type twilioServer struct {
	*httptest.Server
	mu     sync.Mutex
	forms  []url.Values
	answer func(w http.ResponseWriter) bool // false: as usual
}

func newTwilioServer(t *testing.T) *twilioServer {
	s := &twilioServer{}
	problem := func(w http.ResponseWriter, status, code int, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"code": %d, "message": %q, "more_info": "https://www.twilio.com/docs/errors/%d", "status": %d}`, code, message, code, status)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if user, password, ok := r.BasicAuth(); !ok || user != account || password != "token" {
			problem(w, 401, 20003, "Authenticate")
			return
		}
		if r.Method == http.MethodGet && r.URL.Path == "/2010-04-01/Accounts/"+account+".json" {
			fmt.Fprintf(w, `{"sid": %q, "status": "active"}`, account)
			return
		}
		if r.Method != http.MethodPost || r.URL.Path != "/2010-04-01/Accounts/"+account+"/Messages.json" || r.URL.RawQuery != "" {
			problem(w, 404, 20404, "The requested resource "+r.URL.Path+" was not found")
			return
		}
		if s.answer != nil && s.answer(w) {
			return
		}
		_ = r.ParseForm()
		form := r.PostForm
		switch {
		case (form.Get("From") == "") == (form.Get("MessagingServiceSid") == ""):
			problem(w, 400, 21603, "A 'From' phone number is required.")
		case form.Get("Body") == "":
			problem(w, 400, 21602, "Message body is required.")
		case strings.HasSuffix(form.Get("To"), "0000"):
			problem(w, 400, 21211, "The 'To' number "+form.Get("To")+" is not a valid phone number.")
		case strings.HasSuffix(form.Get("To"), "1111"):
			problem(w, 400, 21610, "Attempt to send to unsubscribed recipient")
		default:
			s.forms = append(s.forms, form)
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"sid": "SM%032d", "account_sid": %q, "status": "queued", "to": %q, "error_code": null}`, len(s.forms), account, form.Get("To"))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *twilioServer) sender(c clock.Clock) *Twilio {
	return NewTwilio(TwilioOptions{AccountSID: account, AuthToken: "token", From: "+491510000001", Clock: c, BaseURL: s.URL})
}

// answers has the server answer so, with what follows it in the header.
func (s *twilioServer) answers(status int, body string, header ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(w http.ResponseWriter) bool {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func TestTwilio(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := newTwilioServer(t)
	m := SMS{To: "+491511234567", Text: "123456 & Ä\n\n@login.example.org #123456", NotAfter: c.Now().Add(5 * time.Minute)}
	if err := s.sender(c).Send(t.Context(), "id", m); err != nil {
		t.Fatal(err)
	}
	form := s.forms[0]
	if form.Get("To") != m.To || form.Get("Body") != m.Text || form.Get("From") != "+491510000001" || form.Get("ValidityPeriod") != "300" {
		t.Errorf("got %v", form)
	}
	if err := s.sender(c).Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	wrong := NewTwilio(TwilioOptions{AccountSID: account, AuthToken: "Tr0ub4dor", From: "x", Clock: c, BaseURL: s.URL})
	if err := wrong.Check(t.Context()); err == nil || strings.Contains(err.Error(), "Tr0ub4dor") {
		t.Errorf("Check with a wrong token: %v", err)
	}
	service := NewTwilio(TwilioOptions{AccountSID: account, AuthToken: "token", MessagingServiceSID: "MG1", Clock: c, BaseURL: s.URL})
	if err := service.Send(t.Context(), "id", m); err != nil || s.forms[1].Get("MessagingServiceSid") != "MG1" {
		t.Errorf("by a service: %v, %v", err, s.forms[1:])
	}
}

func TestTwilioErrors(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	s := newTwilioServer(t)
	send := func() (*Refusal, error) {
		err := s.sender(c).Send(t.Context(), "id", SMS{To: "+491511234567", Text: "x"})
		refusal, _ := errors.AsType[*Refusal](err)
		return refusal, err
	}
	for _, tc := range []struct {
		status    int
		body      string
		retry     string
		permanent bool
		wait      time.Duration
	}{
		{429, `{"code": 20429, "message": "Too Many Requests", "status": 429}`, "7", false, 7 * time.Second},
		{429, `not JSON`, c.Now().Add(time.Minute).Format(http.TimeFormat), false, time.Minute},
		{429, ``, "-5", false, 0},
		{503, `{"code": 20503}`, "999999999999", false, time.Hour},
		{503, ``, "1000000", false, time.Hour},
		{500, strings.Repeat("x", 1<<20), "", false, 0},
		{400, `{"code": 21611, "message": "queue full"}`, "", false, 0},
		{400, `{"code": 21211}`, "", true, 0},
		{400, `{"code": 21610}`, "", true, 0},
		{400, `{"code": 21614}`, "", true, 0},
		{400, `{"code": 21408}`, "", true, 0},
		{400, ``, "", true, 0},
		{401, `{"code": 20003}`, "", false, 0},
		{302, ``, "", false, 0},
		{201, `{"status": "failed", "error_code": 30006}`, "", true, 0},
	} {
		s.answers(tc.status, tc.body, "Retry-After", tc.retry, "Location", "http://127.0.0.1:1/")
		refusal, err := send()
		if refusal == nil || refusal.Permanent != tc.permanent || refusal.RetryAfter != tc.wait {
			t.Errorf("%d %.40s %s: %#v, %v", tc.status, tc.body, tc.retry, refusal, err)
		}
	}
	// What is no answer is no refusal.
	s.answers(201, "{")
	if refusal, err := send(); refusal != nil || err == nil {
		t.Errorf("half an answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.sender(c).Send(ctx, "id", SMS{To: "+491511234567", Text: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// The whole way: Twilio has too many requests first, then takes it; a number that has
// unsubscribed is given up at once, and named nowhere but to the operator.
func TestQueueByTwilio(t *testing.T) {
	w := newWorld(t)
	s := newTwilioServer(t)
	s.answers(429, `{"code": 20429, "message": "Too Many Requests"}`, "Retry-After", "30")
	q := w.open(func(o *Options) { o.SMS = s.sender(w.clock) })
	w.run(q)
	if err := q.SMS(t.Context(), SMS{To: "+491511234567", Text: "123456", Kind: "code"}); err != nil {
		t.Fatal(err)
	}
	var item Item
	w.wait("it was tried", func() bool {
		items := w.list(q, Filter{})
		if len(items) == 1 {
			item = items[0]
		}
		return item.Problem != ""
	})
	if wait := item.Next.Sub(w.clock.Now()); wait != 30*time.Second {
		t.Errorf("tried again in %v, want 30s", wait)
	}
	s.mu.Lock()
	s.answer = nil
	s.mu.Unlock()
	w.wait("it is sent", func() bool { w.pass(q, 30*time.Second); return w.documents() == 0 })
	if err := q.SMS(t.Context(), SMS{To: "+491512340000", Text: "123456", Kind: "code"}); err != nil {
		t.Fatal(err)
	}
	w.wait("it is given up", func() bool { return len(w.list(q, Filter{State: Failed, Channel: ChannelSMS})) == 1 })
	item = w.list(q, Filter{})[0]
	if item.Attempts != 1 || item.To != "+491512340000" || strings.Contains(item.Problem, "1512340000") || strings.Contains(w.log.String(), "1512340000") {
		t.Errorf("got %+v\n%s", item, w.log)
	}
}

func TestWebhook(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	status, header := http.StatusAccepted, ""
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Retry-After", header)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	hook := NewWebhook(WebhookOptions{URL: s.URL + "/send?key=Tr0ub4dor", Secret: "the webhook's secret", Clock: c})
	send := func() error {
		return hook.Send(t.Context(), "id-1", SMS{To: "+491511234567", Text: "123456 <Ä>", Kind: "code"})
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	var said map[string]string
	if err := json.Unmarshal(body, &said); err != nil || said["to"] != "+491511234567" || said["text"] != "123456 <Ä>" || said["kind"] != "code" || said["id"] != "id-1" || len(said) != 4 {
		t.Errorf("%s, %v", body, err)
	}
	mac := hmac.New(sha256.New, []byte("the webhook's secret"))
	fmt.Fprintf(mac, "%d.%s", c.Now().Unix(), body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.Header.Get("Login-Server-Signature") != want {
		t.Errorf("signature %q, want %q", got.Header.Get("Login-Server-Signature"), want)
	}
	if got.Method != http.MethodPost || got.Header.Get("Idempotency-Key") != "id-1" || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Login-Server-Timestamp") != "1772366400" {
		t.Errorf("%s %v", got.Method, got.Header)
	}
	for code, permanent := range map[int]bool{400: true, 404: true, 422: true, 408: false, 425: false, 429: false, 500: false, 503: false, 302: false} {
		status, header = code, "9"
		refusal, ok := errors.AsType[*Refusal](send())
		if !ok || refusal.Permanent != permanent || refusal.RetryAfter != 9*time.Second || got.URL.Path != "/send" {
			t.Errorf("%d: %#v at %s", code, refusal, got.URL.Path)
		}
	}
	s.Close()
	if err := send(); err == nil || strings.Contains(err.Error(), "Tr0ub4dor") {
		t.Errorf("nobody is there: %v", err)
	}
}
