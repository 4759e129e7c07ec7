package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	twilio "github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"

	"login-server/clock"
)

// TwilioOptions are an account at Twilio and who its SMS are from.
type TwilioOptions struct {
	AccountSID, AuthToken string
	// From is a number or a name of the account; MessagingServiceSID, instead of it, a pool of
	// such.
	From, MessagingServiceSID string
	Clock                     clock.Clock
	// BaseURL is where the API is, without a path; empty: https://api.twilio.com.
	BaseURL string
}

// Twilio is an SMSSender by the Messaging API of Twilio.
type Twilio struct {
	o    TwilioOptions
	http *http.Client
}

// NewTwilio returns the sender.
func NewTwilio(o TwilioOptions) *Twilio {
	if o.BaseURL == "" {
		o.BaseURL = "https://api.twilio.com"
	}
	return &Twilio{o: o, http: plainClient()}
}

// plainClient asks servers that the operator has named, and follows them nowhere.
func plainClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = smsWorkers
	return &http.Client{
		Transport:     transport,
		Timeout:       smsTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 64 << 10

// Send implements SMSSender. Twilio knows no key that would tell it that an SMS is the same
// as before: if the connection breaks before it has answered, it may be sent twice.
func (t *Twilio) Send(ctx context.Context, _ string, m SMS) error {
	params := (&api.CreateMessageParams{}).SetTo(m.To).SetBody(m.Text)
	if t.o.MessagingServiceSID != "" {
		params.SetMessagingServiceSid(t.o.MessagingServiceSID)
	} else {
		params.SetFrom(t.o.From)
	}
	// What Twilio cannot hand on until then it does not hand on at all (1 to 36000 seconds).
	if !m.NotAfter.IsZero() {
		params.SetValidityPeriod(int(min(max(m.NotAfter.Sub(t.o.Clock.Now())/time.Second, 1), 36000)))
	}
	answer, err := t.service(ctx).CreateMessage(params)
	if err != nil {
		return err
	}
	if answer.Status != nil && slices.Contains([]string{"failed", "undelivered", "canceled"}, *answer.Status) {
		text := "the message is " + *answer.Status
		if answer.ErrorCode != nil {
			text += " (" + strconv.Itoa(*answer.ErrorCode) + ")"
		}
		return &Refusal{Text: text, Permanent: true}
	}
	return nil
}

// Check asks for the account, and tells what is wrong with it.
func (t *Twilio) Check(ctx context.Context) error {
	account, err := t.service(ctx).FetchAccount(t.o.AccountSID)
	if err == nil && account.Status != nil && *account.Status != "active" {
		return fmt.Errorf("the account is %s", *account.Status)
	}
	return err
}

// service is the API for one request.
func (t *Twilio) service(ctx context.Context) *api.ApiService {
	return api.NewApiService(&twilio.RequestHandler{Client: twilioRequest{t, ctx}})
}

// twilioRequest is what the library sends a request with, in the place of its own client:
// that one knows no context, reads answers of any length and hides Retry-After.
type twilioRequest struct {
	t   *Twilio
	ctx context.Context
}

var _ twilio.BaseClient = twilioRequest{}

// SendRequest implements client.BaseClient. An answer that is no success is a *Refusal.
func (r twilioRequest) SendRequest(method, rawURL string, data url.Values, _ map[string]any, _ ...byte) (*http.Response, error) {
	path := rawURL
	if u, err := url.Parse(rawURL); err == nil {
		path = u.EscapedPath()
	}
	request, err := http.NewRequestWithContext(r.ctx, method, r.t.o.BaseURL+path, strings.NewReader(data.Encode()))
	if err != nil {
		return nil, err
	}
	request.SetBasicAuth(r.t.o.AccountSID, r.t.o.AuthToken)
	request.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := r.t.http.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	var e twilio.TwilioRestError
	_ = json.NewDecoder(answer.Body).Decode(&e) // a proxy may have answered
	text := "Twilio: status " + strconv.Itoa(answer.StatusCode)
	if e.Code != 0 {
		text += fmt.Sprintf(", error %d: %s", e.Code, e.Message)
	}
	return nil, &Refusal{
		Text:       text,
		Permanent:  permanentAtTwilio(answer.StatusCode, e.Code),
		RetryAfter: retryAfter(answer.Header, r.t.o.Clock.Now()),
	}
}

// passing are errors of Twilio that are gone after a while (https://www.twilio.com/docs/api/errors):
// too many requests or messages, a full queue, a service that is away.
var passing = []int{14107, 20429, 20500, 20503, 21611, 30001, 30022}

// permanentAtTwilio tells whether Twilio will never take the message: its number is none
// (21211, 21614), has asked not to be written to (21610), is in a country that the account
// does not send to (21408), and so on. A wrong token is the operator's to correct meanwhile.
func permanentAtTwilio(status, code int) bool {
	switch {
	case slices.Contains(passing, code):
		return false
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status < 500
}

// AccountSid implements client.BaseClient.
func (r twilioRequest) AccountSid() string { return r.t.o.AccountSID }

// SetTimeout implements client.BaseClient; the time is in the context.
func (twilioRequest) SetTimeout(time.Duration) {}

// SetOauth implements client.BaseClient; it is not used here.
func (twilioRequest) SetOauth(twilio.OAuth) {}

// OAuth implements client.BaseClient.
func (twilioRequest) OAuth() twilio.OAuth { return nil }

// maxRetryAfter is the longest that a server is believed.
const maxRetryAfter = time.Hour

// retryAfter reads the header of that name (RFC 9110, 10.2.3); 0 where there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return min(max(time.Duration(min(seconds, 1<<20))*time.Second, 0), maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// withoutURL is an error of net/http without the address, which may hold a secret.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
