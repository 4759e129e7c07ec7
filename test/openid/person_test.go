package openid

import (
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// person uses the server's pages as a browser without JavaScript does: with cookies, links
// and forms.
type person struct {
	t      testing.TB
	name   string
	server *server
	client *http.Client
}

func newPerson(t testing.TB, s *server, name string) *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := newTransport()
	t.Cleanup(transport.CloseIdleConnections)
	return &person{t: t, name: name, server: s, client: &http.Client{
		Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// page is what the server has answered.
type page struct {
	at   *url.URL
	body string
}

var (
	providerLink = regexp.MustCompile(`<a class="provider" href="([^"]*login/test[^"]*)"`)
	formTag      = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenInput  = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// visit opens an address and follows redirects up to one that leads away from the server,
// which is returned instead of a page.
func (p *person) visit(address string) (*url.URL, page) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.follow(r)
}

func (p *person) follow(r *http.Request) (*url.URL, page) {
	p.t.Helper()
	for range 10 {
		answer, err := p.client.Do(r)
		if err != nil {
			p.t.Fatal(err)
		}
		if to := answer.Header.Get("Location"); to != "" {
			_ = answer.Body.Close()
			next, err := r.URL.Parse(to)
			if err != nil {
				p.t.Fatal(err)
			}
			if !strings.HasPrefix(next.String(), p.server.issuer+"/") {
				return next, page{}
			}
			if r, err = http.NewRequestWithContext(p.t.Context(), http.MethodGet, next.String(), nil); err != nil {
				p.t.Fatal(err)
			}
			continue
		}
		return nil, page{r.URL, read(p.t, answer, nil)}
	}
	p.t.Fatalf("too many redirects, at %s", r.URL)
	return nil, page{}
}

// submit posts the form of a page whose action ends in something, as a browser does, with
// these fields beside the hidden ones.
func (p *person) submit(on page, action string, fields url.Values) (*url.URL, page) {
	p.t.Helper()
	for _, form := range formTag.FindAllStringSubmatch(on.body, -1) {
		to, err := on.at.Parse(html.UnescapeString(form[1]))
		if err != nil {
			p.t.Fatal(err)
		}
		if !strings.HasSuffix(to.Path, action) {
			continue
		}
		values := url.Values{}
		for _, input := range hiddenInput.FindAllStringSubmatch(form[2], -1) {
			values.Set(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
		}
		for name := range fields {
			values.Set(name, fields.Get(name))
		}
		r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, to.String(), strings.NewReader(values.Encode()))
		if err != nil {
			p.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", p.server.issuer)
		return p.follow(r)
	}
	p.t.Fatalf("no form for %s at %s:\n%s", action, on.at, on.body)
	return nil, page{}
}

// authorize opens an authorization request, signs in and consents where that is asked for,
// and returns where the browser is sent to then.
func (p *person) authorize(address string) *url.URL {
	p.t.Helper()
	to, on := p.visit(address)
	for range 5 {
		switch {
		case to != nil:
			return to
		case strings.Contains(on.body, `id="consent-allow"`):
			to, on = p.submit(on, "/oauth/continue", url.Values{"decision": {"allow"}})
		default:
			to, on = p.credentials(on)
		}
	}
	p.t.Fatalf("%s leads nowhere, but to %s", address, on.at)
	return nil
}

// credentials goes on from a login page.
func (p *person) credentials(on page) (*url.URL, page) {
	p.t.Helper()
	if link := providerLink.FindStringSubmatch(on.body); link != nil {
		next, err := on.at.Parse(html.UnescapeString(link[1]))
		if err != nil {
			p.t.Fatal(err)
		}
		_, on = p.visit(next.String())
	}
	return p.submit(on, "/login/test", url.Values{"username": {p.name}, "password": {p.name + "-pass"}})
}

// signIn signs in without any client.
func (p *person) signIn() {
	p.t.Helper()
	_, on := p.visit(p.server.url("login"))
	if _, on = p.credentials(on); on.at.Path != "/account" {
		p.t.Fatalf("signing in led to %s:\n%s", on.at, on.body)
	}
}
