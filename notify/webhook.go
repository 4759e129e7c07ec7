package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"login-server/clock"
)

// WebhookOptions are a server of the operator that sends SMS.
type WebhookOptions struct {
	URL    string
	Secret string
	Clock  clock.Clock
}

// Webhook is an SMSSender that hands SMS to a server of the operator:
//
//	POST {URL}
//	Content-Type: application/json
//	Idempotency-Key: {id}
//	Login-Server-Timestamp: {seconds since 1970}
//	Login-Server-Signature: sha256={hex}
//
//	{"id": "…", "to": "+49…", "text": "…", "kind": "…"}
//
// The signature is the HMAC-SHA256 with the secret over the timestamp, a point and the body,
// byte for byte. The id is the same when an SMS is sent again because no answer came. An
// answer of 2xx means that it was taken, 4xx that it never will be but for 408, 425 and 429, and
// everything else that it is to be sent again, after Retry-After if that says so.
type Webhook struct {
	o    WebhookOptions
	http *http.Client
}

// NewWebhook returns the sender.
func NewWebhook(o WebhookOptions) *Webhook { return &Webhook{o: o, http: plainClient()} }

// Send implements SMSSender.
func (w *Webhook) Send(ctx context.Context, id string, m SMS) error {
	body, err := json.Marshal(map[string]string{"id": id, "to": m.To, "text": m.Text, "kind": m.Kind})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.o.URL, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	timestamp := strconv.FormatInt(w.o.Clock.Now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", id)
	request.Header.Set("Login-Server-Timestamp", timestamp)
	request.Header.Set("Login-Server-Signature", "sha256="+sign(w.o.Secret, timestamp, body))
	answer, err := w.http.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer) // so that the connection can be used again
	status := answer.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	passes := status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests
	return &Refusal{
		Text:       "the webhook has answered with status " + strconv.Itoa(status),
		Permanent:  status >= 400 && status < 500 && !passes,
		RetryAfter: retryAfter(answer.Header, w.o.Clock.Now()),
	}
}

// sign is the signature of a body at a time.
func sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
