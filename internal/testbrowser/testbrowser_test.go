package testbrowser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

var chromium Browser

func TestMain(m *testing.M) {
	code := m.Run()
	chromium.End()
	os.Exit(code)
}

// TestTab goes from a form to the page that answers it, with cookies.
func TestTab(t *testing.T) {
	t.Parallel()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.FormValue("name")
		if name != "" {
			http.SetCookie(w, &http.Cookie{Name: "name", Value: name})
		} else if c, err := r.Cookie("name"); err == nil {
			name = c.Value
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><link rel=icon href="data:,"><form action=/hello><input name=name><button>Go</button></form><h1>Hello %s, %s</h1>`,
			name, r.Header.Get("Accept-Language"))
		if r.URL.Path == "/bad" {
			fmt.Fprint(w, `<script>console.error("oh")</script><script>throw new Error("no")</script>`)
		}
	}))
	t.Cleanup(site.Close)

	b := chromium.New(t, Options{Language: "de-AT"})
	b.Visit(site.URL + "/")
	b.Fill("input", "Ada")
	b.Click("button")
	b.Reads("h1", "Hello Ada, de-AT")
	b.At(site.URL + "/hello")
	b.At(site.URL + "/hello?name=Ada")
	another := b.Another(Options{})
	another.Visit(site.URL + "/")
	another.Reads("h1", "Hello Ada,")
	stranger := chromium.New(t, Options{})
	stranger.Visit(site.URL + "/")
	stranger.Reads("h1", "Hello ,")
	b.Forget()
	b.Visit(site.URL + "/")
	b.Reads("h1", "Hello ,")

	if _, err := Evaluate[int](b, `Promise.reject(new Error("never"))`); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("a promise that is broken: %v", err)
	}
	if got := Get[*string](b, `undefined`); got != nil {
		t.Errorf("undefined is %q", *got)
	}

	b.Visit(site.URL + "/bad")
	var found []string
	b.Until("two complaints", func() bool {
		for _, c := range b.Complaints() {
			found = append(found, c.Source)
		}
		return len(found) >= 2
	})
	if got := strings.Join(found, " "); got != "console.error exception" {
		t.Errorf("the console complained about: %s", got)
	}
	minds := chromium.New(t, Options{Minds: func(c Complaint) bool { return c.Source == "exception" }})
	minds.Allow("no")
	minds.Visit(site.URL + "/bad")
	if c := minds.Complaints(); len(c) != 0 {
		t.Errorf("what nobody minds, and what is allowed, is a complaint: %v", c)
	}
}
