package browser

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"login-server/internal/testprogram"
)

// People who can sign in, at each provider with the same name and password.
const (
	ada, adaPassword = "ada", "correct horse"
	bob, bobPassword = "bob", "battery staple"
)

// server is the program.
type server struct{ *testprogram.Server }

// options say how a server differs from the usual one.
type options struct {
	base    string   // BASE_URL, when there is a proxy in front
	port    int      // chosen when 0
	origins []string // ALLOWED_ORIGINS
	apps    map[string]string
	env     []string
	dev     bool
}

// start runs a server until the test ends.
func start(t testing.TB, o options) *server {
	t.Helper()
	s := &server{testprogram.New(t)}
	if o.port != 0 {
		s.Port, s.Base = o.port, fmt.Sprintf("http://localhost:%d/", o.port)
	}
	if o.base != "" {
		s.Base = o.base
	}
	if o.dev {
		s.Args = append(s.Args, "--dev")
	}
	s.Env = append(s.Env, "ALLOWED_ORIGINS="+strings.Join(o.origins, ","),
		"IMPRINT_URL=https://example.org/imprint", "PRIVACY_URL=https://example.org/privacy")
	s.Start(t, settings(t, o.apps), o.env...)
	return s
}

// settings are providers.json and applications.json.
func settings(t testing.TB, apps map[string]string) testprogram.Files {
	t.Helper()
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	script := "#!/bin/sh\ncase \"$USERNAME/$PASSWORD\" in\n" +
		"'" + ada + "/" + adaPassword + `') echo '{"id":"s-ada","name":"Ada of the Script","username":"ada"}';;` + "\n" +
		"'" + bob + "/" + bobPassword + `') echo '{"id":"s-bob","name":"Bob of the Script","username":"bob"}';;` + "\n" +
		`*) echo '{"message":"The script does not know you."}';;` + "\nesac\n"
	type user struct {
		Username    string `json:"username"`
		Password    string `json:"password"`
		DisplayName string `json:"displayName,omitempty"`
	}
	type object = map[string]any
	list := []object{}
	for address, name := range apps {
		list = append(list, object{"url": address, "name": name})
	}
	return testprogram.Files{"who.sh": script, "applications.json": list, "providers.json": []object{
		{"id": "test", "strategy": "test", "name": "Test", "credentialsNecessary": true, "template": "https://example.org/{username}",
			"options": object{"users": []user{{ada, adaPassword, "Ada Lovelace"}, {bob, bobPassword, "Bob"}}}},
		{"id": "local", "strategy": "local", "name": "Library", "credentialsNecessary": true,
			"options": object{"users": []user{{ada, hash(adaPassword), "Ada at the Library"}, {bob, hash(bobPassword), ""}}}},
		{"id": "script", "strategy": "script", "name": "Script", "credentialsNecessary": true,
			"options": object{"script": "./who.sh"}},
	}}
}

// to is the address of a page.
func (s *server) to(path string) string { return s.Base + path }

// proxied starts a server below /login/ with a reverse proxy in front, which may
// strip that path, as nginx does with a slash behind proxy_pass, or leave it.
func proxied(t testing.TB, strip bool, o options) *server {
	t.Helper()
	o.port = testprogram.FreePort(t, "localhost")
	target, err := url.Parse(fmt.Sprintf("http://localhost:%d", o.port))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetXForwarded()
		r.SetURL(target)
		if strip {
			return // the Host is that of the server behind
		}
		r.Out.Host = r.In.Host
	}}
	var handler http.Handler = proxy
	if strip {
		handler = http.StripPrefix("/login", proxy)
	}
	mux := http.NewServeMux()
	mux.Handle("/login/", handler)
	mux.HandleFunc("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	o.base = strings.Replace(front.URL, "127.0.0.1", "localhost", 1) + "/login/"
	o.env = append(o.env, "TRUSTED_PROXIES=127.0.0.1,::1")
	return start(t, o)
}

// site serves pages that are not ours: an application, or an attacker's website.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]string // by path; one that begins with http redirects there
	seen  []string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{pages: map[string]string{"/": "<h1>Application</h1>"}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.URL.RequestURI())
		body, ok := s.pages[r.URL.Path]
		s.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if strings.HasPrefix(body, "http") {
			http.Redirect(w, r, body, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		out := bufio.NewWriter(w)
		defer out.Flush()
		fmt.Fprintf(out, "<!doctype html><html lang=en><link rel=icon href='data:,'><title>Page</title><body>%s", body)
	}))
	t.Cleanup(s.Close)
	return s
}

// at is the origin of the site under another host name.
func (s *site) at(host string) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	return "http://" + host + ":" + port
}

// page adds one to the site.
func (s *site) page(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = body
}
