package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"login-server/identity"
)

// cbsOptions: the authentication service of a CBS (cataloguing system of libraries).
type cbsOptions struct {
	URL    string `json:"url"`
	APIKey string `json:"apiKey"`
}

func (o *cbsOptions) open(e *entry, p *Provider) {
	e.serverURL("options.url", o.URL, "https://cbs.example.org/ext/api/colirich/")
	e.required("options.apiKey", o.APIKey, "write the key that the service has given you")
	for _, r := range o.APIKey {
		if r <= ' ' || r > '~' {
			e.problem("options.apiKey", "has characters that cannot be in a header", "write the key alone")
		}
	}
	c := &cbs{url: o.URL, key: o.APIKey, client: e.client}
	e.checker(p, c, true)
	p.Prober = c
}

type cbs struct {
	url, key string
	client   *http.Client
}

var (
	_ Checker = (*cbs)(nil)
	_ Prober  = (*cbs)(nil)
)

// Probe is content with any answer: the service has no question without credentials.
func (c *cbs) Probe(ctx context.Context) error {
	status, _, err := ask(ctx, c.client, http.MethodGet, c.url, "", nil, nil)
	switch {
	case err != nil:
		return fmt.Errorf("cbs: %w", err)
	case status >= 500:
		return fmt.Errorf("cbs: status %d", status)
	}
	return nil
}

// noPermission is shown to people whose password was right.
const noPermission = "This user does not have the required permission to use the CBS login."

func (c *cbs) Check(ctx context.Context, username, password string) (identity.Profile, error) {
	body, err := json.Marshal(map[string]string{"userKey": username, "password": password})
	if err != nil {
		return identity.Profile{}, err
	}
	status, body, err := ask(ctx, c.client, http.MethodPost, c.url, "application/json", bytes.NewReader(body),
		http.Header{"Authorization": {"apikey " + c.key}})
	if err != nil {
		return identity.Profile{}, fmt.Errorf("cbs: %w", err)
	}
	var answer struct {
		Data *struct {
			UserKey     text   `json:"userKey"`
			Name        string `json:"name"`
			Cataloguing bool   `json:"hasCataloguingPermissions"`
		} `json:"data"`
		Errors []struct {
			Title string `json:"title"`
		} `json:"errors"`
	}
	bad := json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusUnauthorized:
		// A body that cannot be read does not make a refusal anything else.
		if bad == nil && len(answer.Errors) > 0 {
			if reason := clean(answer.Errors[0].Title); reason != "" {
				return identity.Profile{}, &RefusedError{Reason: reason}
			}
		}
		return identity.Profile{}, ErrRefused
	case status != http.StatusOK:
		return identity.Profile{}, fmt.Errorf("cbs: status %d", status)
	case bad != nil:
		return identity.Profile{}, errors.New("cbs: the answer is not JSON as documented")
	case answer.Data == nil || answer.Data.UserKey == "":
		return identity.Profile{}, errors.New("cbs: the answer has no data.userKey")
	case !answer.Data.Cataloguing:
		return identity.Profile{}, &RefusedError{Reason: noPermission}
	}
	return identity.Profile{ID: string(answer.Data.UserKey), Name: answer.Data.Name}, nil
}
