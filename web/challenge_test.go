package web_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"image/png"
	"math/big"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"login-server/challenge"
	"login-server/store"
	"login-server/token"
)

// formChallenge is the challenge of a form.
type formChallenge struct{ id, kind, salt, bits, count string }

var challengeParts = map[string]*regexp.Regexp{
	"id":    regexp.MustCompile(`name="challenge_id" value="([^"]*)"`),
	"kind":  regexp.MustCompile(`name="challenge_kind" value="([^"]*)"`),
	"salt":  regexp.MustCompile(`data-salt="([^"]*)"`),
	"bits":  regexp.MustCompile(`data-bits="(\d+)"`),
	"count": regexp.MustCompile(`data-count="(\d+)"`),
}

// challenge is what a page asks for; it has to.
func (a answer) challenge() formChallenge {
	a.t.Helper()
	part := func(name string) string {
		found := challengeParts[name].FindStringSubmatch(a.body)
		if found == nil {
			a.t.Fatalf("%s: there is no challenge (%s) in: %s", a.url, name, a.text())
		}
		return html.UnescapeString(found[1])
	}
	return formChallenge{part("id"), part("kind"), part("salt"), part("bits"), part("count")}
}

// fields are those of the form with an answer.
func (c formChallenge) fields(answer string) []string {
	return []string{"challenge_id", c.id, "challenge_kind", c.kind, "challenge_answer", answer}
}

// work does a proof of work.
func (c formChallenge) work(t *testing.T) string {
	t.Helper()
	bits, err := strconv.Atoi(c.bits)
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(c.count)
	if err != nil {
		t.Fatal(err)
	}
	numbers := make([]string, count)
	for i := range numbers {
		for n := 0; ; n++ {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s.%d.%d", c.salt, i, n))
			if sum[0] == 0 && new(big.Int).SetBytes(sum[:]).BitLen() <= 256-bits {
				numbers[i] = strconv.Itoa(n)
				break
			}
		}
	}
	return strings.Join(numbers, ",")
}

// reads is the answer to a picture or recording, which only who has the secret can open.
func (s *server) reads(id string) string {
	s.t.Helper()
	sealer, err := token.NewSealer(s.cfg.SessionSecrets, "challenge")
	if err != nil {
		s.t.Fatal(err)
	}
	var sealed struct {
		Answer string `json:"a"`
	}
	if err := sealer.Open(id, &sealed); err != nil || sealed.Answer == "" {
		s.t.Fatalf("%q has no answer: %v", id, err)
	}
	return sealed.Answer
}

// guess posts the form of a provider, with fields of a challenge or without, and returns the
// page that it leads to.
func (b *browser) guess(provider, username, password string, challenge ...string) answer {
	b.server.t.Helper()
	posted := b.submit("login/"+provider, append([]string{"username", username, "password", password}, challenge...)...)
	if posted.status != http.StatusFound {
		return posted
	}
	return b.follow(b.server.base+"login/"+provider, posted.location())
}

const refusedText = "Could not verify credentials."

func TestChallengeAfterThreeFailures(t *testing.T) {
	for _, name := range []string{"ada", "nobody"} { // whoever it is
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			b := s.browser()
			for range 2 {
				b.guess("alpha", name, "nope").want(200, refusedText).wantNot("challenge_id")
			}
			page := b.guess("alpha", name, "nope").want(200, refusedText)
			c := page.challenge()
			if c.kind != "work" {
				t.Errorf("it is of kind %q", c.kind)
			}
			if n := s.documents("challenge"); n != 0 {
				t.Errorf("showing it has cost %d documents", n)
			}
			// Not without it, whatever the password is.
			b.guess("alpha", name, name+"-pw").want(200, "one more check").challenge()
			// A wrong answer is told, and the password is not looked at.
			page = b.guess("alpha", name, name+"-pw", c.fields("1,2,3")...).want(200, "That was not right")
			page.wantNot(refusedText)
			// Neither is it in another browser, which the server knows nothing of.
			s.browser().guess("alpha", name, name+"-pw").want(200, "one more check").challenge()
			// The name is kept, the password is not.
			page.want(200, `value="`+name+`"`).wantNot(name + "-pw")
			next := page.challenge()
			if next.id == c.id {
				t.Fatal("the same challenge again")
			}
			done := b.submit("login/alpha", append([]string{"username", name, "password", name + "-pw"}, next.fields(next.work(t))...)...)
			if name == "nobody" {
				b.follow(s.base, done.location()).want(200, refusedText).challenge()
				return
			}
			done.leadsTo("/account")
			// It is over.
			s.browser().open("login/alpha").want(200).wantNot("challenge_id")
			s.browser().guess("alpha", name, "nope").want(200, refusedText).wantNot("challenge_id")
		})
	}
}

func TestChallengeIsPerAccountAndProvider(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for range 3 {
		b.guess("alpha", "ada", "nope")
	}
	s.browser().guess("alpha", "  ADA ", "ada-pw").want(200, "one more check") // a spelling of the same
	s.browser().submit("login/alpha", "username", "ben", "password", "ben-pw").leadsTo("/account")
	s.browser().submit("login/beta", "username", "ada", "password", "ada-pw").leadsTo("/account")
}

func TestChallengeWithoutScript(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for range 3 {
		b.guess("alpha", "ada", "nope")
	}
	work := b.guess("alpha", "ada", "ada-pw").challenge()
	// Who has no JavaScript sends no answer, and gets a picture.
	page := b.guess("alpha", "ada", "ada-pw", work.fields("")...).want(200, "Please answer this as well.", "What does the picture say?")
	c := page.challenge()
	if c.kind != "image" {
		t.Fatalf("got kind %q", c.kind)
	}
	found := regexp.MustCompile(`src="data:image/png;base64,([^"]+)"`).FindStringSubmatch(page.body)
	if found == nil {
		t.Fatalf("there is no picture: %s", page.text())
	}
	raw, err := base64.StdEncoding.DecodeString(html.UnescapeString(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(raw)); err != nil {
		t.Error(err)
	}
	// One guess; the next is a picture again.
	page = b.guess("alpha", "ada", "ada-pw", c.fields("AAAAA")...).want(200, "That was not right")
	c = page.challenge()
	if c.kind != "image" {
		t.Fatalf("got kind %q", c.kind)
	}
	// A link leads to a recording, and keeps where the login goes to.
	page = b.follow(s.base, "login/alpha?challenge=image&redirect_uri="+url.QueryEscape(application)).want(200, "What does the picture say?")
	link := regexp.MustCompile(`href="([^"]*challenge=audio[^"]*)"`).FindStringSubmatch(page.body)
	if link == nil {
		t.Fatalf("no link to a recording: %s", page.text())
	}
	if u, err := url.Parse(html.UnescapeString(link[1])); err != nil || u.Query().Get("redirect_uri") != application {
		t.Errorf("the link forgets where the login leads to: %s", link[1])
	}
	recording := b.guess("alpha", "ada", "ada-pw", "challenge_id", "x", "challenge_kind", "audio", "challenge_answer", "123456").want(200, "has expired", "data:audio/wav;base64,").challenge()
	if recording.kind != "audio" {
		t.Errorf("got kind %q", recording.kind)
	}
	b.submit("login/alpha", append([]string{"username", "ada", "password", "ada-pw"}, c.fields(strings.ToLower(s.reads(c.id)))...)...).leadsTo("/account")
}

func TestChallengeAttacks(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for range 3 {
		b.guess("alpha", "ada", "nope")
	}
	// Another form's.
	var other struct {
		ID   string
		Work struct {
			Salt        string
			Bits, Count int
		}
	}
	b.get("challenge?for=signup&kind=work").want(200).json(&other)
	solved := formChallenge{id: other.ID, kind: "work", salt: other.Work.Salt, bits: strconv.Itoa(other.Work.Bits), count: strconv.Itoa(other.Work.Count)}
	b.guess("alpha", "ada", "ada-pw", solved.fields(solved.work(t))...).want(200, "has expired")

	c := b.guess("alpha", "ada", "ada-pw").challenge()
	right := c.work(t)
	for what, fields := range map[string][]string{
		"forged":      {"challenge_id", "AAAA" + c.id[4:], "challenge_answer", right},
		"cut":         {"challenge_id", c.id[:len(c.id)-2], "challenge_answer", right},
		"a long one":  {"challenge_id", strings.Repeat("A", 8000), "challenge_answer", right},
		"not ASCII":   {"challenge_id", "ü\u2028", "challenge_answer", right},
		"no id":       {"challenge_answer", right},
		"only spaces": {"challenge_id", " ", "challenge_answer", " "},
	} {
		t.Run(what, func(t *testing.T) { b.guess("alpha", "ada", "ada-pw", fields...).want(200).challenge() })
	}
	if n := s.documents("challenge"); n != 0 {
		t.Errorf("ids that were not made here have left %d documents", n)
	}
	// 10 MB are not read.
	if got := b.submit("login/alpha", "username", "ada", "password", "ada-pw", "challenge_id", c.id, "challenge_answer", strings.Repeat("1", 10<<20)); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("10 MB: got %d", got.status)
	}
	// Sixteen at once with one answer: one password is looked at.
	var looked atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		other := b.copyOf()
		wg.Go(func() {
			if page := other.guess("alpha", "ada", "nope", c.fields(right)...); strings.Contains(page.body, refusedText) {
				looked.Add(1)
			} else if !strings.Contains(page.text(), "has expired") {
				t.Errorf("got %s", page.text())
			}
		})
	}
	wg.Wait()
	if looked.Load() != 1 {
		t.Errorf("%d of 16 passwords were looked at for one challenge", looked.Load())
	}
	// One that is too old.
	c = b.guess("alpha", "ada", "ada-pw").challenge()
	right = c.work(t)
	s.clock.Advance(challenge.Life)
	b.guess("alpha", "ada", "ada-pw", c.fields(right)...).want(200, "has expired")
}

func TestWaiting(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for range 6 {
		page := b.open("login/alpha")
		if strings.Contains(page.body, "challenge_id") {
			t.Fatal("who has typed no name is asked")
		}
		if page = b.guess("alpha", "ada", "nope"); strings.Contains(page.body, "one more check") {
			c := page.challenge()
			page = b.guess("alpha", "ada", "nope", c.fields(c.work(t))...)
		}
		page.want(200, refusedText)
	}
	// The right password waits as well, and so does a solved challenge.
	page := b.guess("alpha", "ada", "ada-pw").want(200, "There were too many failed attempts. Please wait 1 minute.")
	c := page.challenge()
	s.clock.Advance(time.Minute - time.Millisecond)
	b.guess("alpha", "ada", "ada-pw", c.fields(c.work(t))...).want(200, "Please wait 1 minute.")
	if n := s.documents("challenge"); n != 3 {
		t.Errorf("%d challenges were spent, want the three that were looked at", n)
	}
	// Others are not kept out: somebody else here, and ada elsewhere.
	s.browser().submit("login/alpha", "username", "ben", "password", "ben-pw").leadsTo("/account")
	s.clock.Advance(time.Millisecond)
	b.submit("login/alpha", append([]string{"username", "ada", "password", "ada-pw"}, c.fields(c.work(t))...)...).leadsTo("/account")
}

func TestChallengeEndpoint(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	for path, want := range map[string]int{
		"challenge?for=signup": 200, "challenge?for=signup&kind=work": 200, "challenge?for=signup&kind=image": 200, "challenge?for=signup&kind=audio": 200,
		"challenge": 400, "challenge?for=": 400, "challenge?for=Sign%20up": 400, "challenge?for=" + strings.Repeat("a", 33): 400,
		"challenge?for=signup&kind=": 400, "challenge?for=signup&kind=riddle": 400,
	} {
		got := b.get(path)
		if got.status != want || got.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: got %d, %v", path, got.status, got.header)
		}
	}
	if n := s.documents("challenge"); n != 0 {
		t.Errorf("giving them out has left %d documents", n)
	}
}

func TestChallengesAreLimited(t *testing.T) {
	s := newServer(t, env("RATE_LIMIT_MAX", "2"))
	b := s.browser()
	for range 12 {
		b.get("challenge?for=signup&kind=image").want(200)
	}
	if got := b.get("challenge?for=signup&kind=image"); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
		t.Errorf("got %d, %v", got.status, got.header)
	}
}

func TestBackoffWhenTheStoreFails(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	s.store.fail(broken("backoff pair"))
	if got := b.submit("login/alpha", "username", "ada", "password", "ada-pw"); got.status != http.StatusInternalServerError {
		t.Errorf("got %d: nobody gets in uncounted", got.status)
	}
}

// A name that was typed may be a password.
func TestBackoffKeepsNoNames(t *testing.T) {
	s := newServer(t)
	const typed = "correct-horse-battery"
	s.browser().guess("alpha", typed, "nope").want(200, refusedText)
	for _, kind := range []string{"backoff pair", "backoff level"} {
		docs, err := s.store.Find(context.Background(), kind, store.Query{})
		if err != nil || len(docs) == 0 {
			t.Fatalf("%s: %v, %v", kind, docs, err)
		}
		for _, doc := range docs {
			if strings.Contains(doc.ID+string(doc.Data), "horse") {
				t.Errorf("%s %s: %s", kind, doc.ID, doc.Data)
			}
		}
	}
}
