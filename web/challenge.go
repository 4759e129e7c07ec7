package web

import (
	"context"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/challenge"
	"login-server/providers"
	"login-server/session"
	"login-server/templates"
)

func (s *Server) mountChallenge(r chi.Router) {
	r.Get("/challenge", s.api(s.challenge))
}

// challengePurpose is the form of what a challenge is for: "login", "signup", …
var challengePurpose = regexp.MustCompile(`^[a-z][a-z-]{0,31}$`)

// challengeKinds are what ?kind= of /challenge and ?challenge= of a page with a form ask for.
var challengeKinds = map[string]challenge.Kind{"work": challenge.Work, "image": challenge.Image, "audio": challenge.Audio}

// challengeJSON is a challenge as scripts and other programs get it.
type challengeJSON struct {
	ID      string         `json:"id"`
	Kind    challenge.Kind `json:"kind"`
	Expires time.Time      `json:"expires"`
	// Seconds are left of it: browsers' clocks are off.
	Seconds int            `json:"seconds"`
	Work    *challengeWork `json:"work,omitempty"`
	// Image and Audio are data: URLs. No address of them exists: a picture that could be asked
	// for again would come with other noise, and tell what of it is noise.
	Image string `json:"image,omitempty"`
	Audio string `json:"audio,omitempty"`
}

type challengeWork struct {
	Salt  string `json:"salt"`
	Bits  int    `json:"bits"`
	Count int    `json:"count"`
}

// challengeAnswer is what an API call has beside what it is about.
type challengeAnswer struct {
	ID     string `json:"id"`
	Answer string `json:"answer"`
}

// challenge serves GET /challenge?for=signup&kind=image.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	purpose, kind := query.Get("for"), challengeKinds[query.Get("kind")]
	if !challengePurpose.MatchString(purpose) {
		return badRequest(`Write what the challenge is for, as in for=signup.`, nil)
	}
	if kind == "" && !query.Has("kind") {
		kind = challenge.Work
	}
	if kind == "" {
		return badRequest("There is no such kind of challenge.", nil)
	}
	if err := s.limitChallenges(r); err != nil {
		return err
	}
	c, err := s.makeChallenge(r, kind, purpose)
	if err != nil {
		return err
	}
	answer := challengeJSON{
		ID: c.ID, Kind: c.Kind, Expires: c.Expires, Seconds: int(challenge.Life / time.Second),
		Image: dataURL("image/png", c.PNG), Audio: dataURL("audio/wav", c.WAV),
	}
	if kind == challenge.Work {
		answer.Work = &challengeWork{Salt: c.Work.Salt, Bits: c.Work.Bits, Count: c.Work.Count}
	}
	return writeJSON(w, answer)
}

// makeChallenge makes one, unless so many want pictures at the moment that it would take long.
func (s *Server) makeChallenge(r *http.Request, kind challenge.Kind, purpose string) (challenge.Challenge, error) {
	c, err := s.challenges.New(kind, s.language(r, ""), purpose)
	if errors.Is(err, challenge.ErrBusy) {
		err = &Error{Status: http.StatusServiceUnavailable, Code: "busy", Message: "Too many pictures are being drawn. Please try again soon.", RetryAfter: seconds(busyFor)}
	}
	return c, err
}

// limitChallenges counts what is drawn or spoken, by network: ten milliseconds each, and
// something to train a program with.
func (s *Server) limitChallenges(r *http.Request) error {
	return count(r.Context(), s.limits.departures, "challenge "+session.Network(clientAddress(r)))
}

func dataURL(mediaType string, data []byte) string {
	if data == nil {
		return ""
	}
	return "data:" + mediaType + ";base64," + base64.StdEncoding.EncodeToString(data)
}

// newChallenge is a challenge for the form of a page, for a purpose: work, unless the
// page was asked for with challenge=image or audio.
func (s *Server) newChallenge(r *http.Request, purpose string) (*templates.Challenge, error) {
	kind := challengeKinds[r.URL.Query().Get("challenge")]
	if kind == "" {
		kind = challenge.Work
	}
	if kind != challenge.Work {
		if err := s.limitChallenges(r); err != nil {
			return nil, err
		}
	}
	c, err := s.makeChallenge(r, kind, purpose)
	if err != nil {
		return nil, err
	}
	return &templates.Challenge{
		ID: c.ID, Kind: string(c.Kind), Salt: c.Work.Salt, Bits: c.Work.Bits, Count: c.Work.Count,
		Image: base64.StdEncoding.EncodeToString(c.PNG), Audio: base64.StdEncoding.EncodeToString(c.WAV),
		Source:   s.path("challenge?for=" + purpose),
		ImageURL: s.withChallenge(r, challenge.Image), AudioURL: s.withChallenge(r, challenge.Audio),
	}, nil
}

// withChallenge is the page of a request with a challenge of a kind.
func (s *Server) withChallenge(r *http.Request, kind challenge.Kind) string {
	u, err := url.Parse(pathBelow(r))
	if err != nil {
		return s.path("login") // a path that net/http has parsed
	}
	query := u.Query()
	query.Set("challenge", string(kind))
	u.RawQuery = query.Encode()
	return s.path(u.String())
}

// passChallenge takes the answer to the challenge of a form. What is wrong with it is to
// stand beside the form's next challenge; fields are those of the part "challenge".
func (s *Server) passChallenge(ctx context.Context, purpose string, fields map[string]string) (*templates.FieldError, error) {
	problem := func(id string) (*templates.FieldError, error) {
		return &templates.FieldError{Field: "challenge", Message: templates.Message{Kind: "error", ID: id}}, nil
	}
	switch {
	case fields["challenge_id"] == "":
		return problem("challenge_needed")
	case fields["challenge_answer"] == "":
		return problem("challenge_missing")
	}
	err := s.challenges.Spend(ctx, purpose, fields["challenge_id"], fields["challenge_answer"])
	switch {
	case errors.Is(err, challenge.ErrWrong):
		return problem("challenge_wrong")
	case errors.Is(err, challenge.ErrExpired), errors.Is(err, challenge.ErrSpent):
		return problem("challenge_expired")
	}
	return nil, err
}

// nextChallenge is the kind of challenge that a form that was sent is to have next: the
// kind that it had, and a picture where nobody has done the work; empty for work. It goes
// into the query of the page.
func nextChallenge(fields map[string]string) string {
	switch kind := fields["challenge_kind"]; {
	case kind == "image", kind == "audio":
		return kind
	case kind == "work" && fields["challenge_answer"] == "":
		return "image"
	}
	return ""
}

// spendChallenge is passChallenge for API calls: the error is an *Error that says to get
// a new challenge, if it is not the store's.
func (s *Server) spendChallenge(ctx context.Context, purpose string, a challengeAnswer) error {
	err := s.challenges.Spend(ctx, purpose, a.ID, a.Answer)
	switch {
	case a.ID == "":
		return &Error{Status: http.StatusForbidden, Code: "challenge_needed", Message: "A challenge has to be answered: GET /challenge?for=" + purpose + "."}
	case errors.Is(err, challenge.ErrWrong):
		return &Error{Status: http.StatusForbidden, Code: "challenge_wrong", Message: "The answer to the challenge is wrong. Get another one."}
	case errors.Is(err, challenge.ErrExpired), errors.Is(err, challenge.ErrSpent):
		return &Error{Status: http.StatusForbidden, Code: "challenge_expired", Message: "The challenge has expired or was answered before. Get another one."}
	}
	return err
}

// guessed is the name under which failed attempts at an account are counted: what was
// typed, at which provider or other place. It is empty while nothing was typed.
func guessed(place, name string) string {
	if name == "" {
		return ""
	}
	return place + "\x00" + spelling(name)
}

// mayTry tells whether an attempt at an account (see guessed) is to be looked at: whether
// nobody has to wait, and the challenge that may be asked for is answered. If not, what
// it returns is to be shown with the form. known as in backoff.Book.Ask.
func (s *Server) mayTry(r *http.Request, account string, known bool, purpose string, fields map[string]string) (*templates.FieldError, error) {
	need, err := s.backoff.Ask(r.Context(), account, session.Network(clientAddress(r)), known)
	switch {
	case err != nil:
		return nil, err
	case need.Wait > 0:
		minutes := int(math.Ceil(need.Wait.Minutes()))
		return &templates.FieldError{Message: templates.Message{Kind: "error", ID: "attempts_wait", Args: map[string]any{"Minutes": minutes}}}, nil
	case need.Challenge:
		return s.passChallenge(r.Context(), purpose, fields)
	}
	return nil, nil
}

// askedFor is the challenge that the form for an account has to have; nil: none. What was
// wrong with the answer to the one before stands beside it. Who comes by a link for another
// kind has typed no name that would tell; there is one then in any case.
func (s *Server) askedFor(r *http.Request, account string, known bool, purpose string, before *templates.FieldError) (*templates.Challenge, error) {
	need, err := s.backoff.Ask(r.Context(), account, session.Network(clientAddress(r)), known)
	if err != nil || !need.Challenge && challengeKinds[r.URL.Query().Get("challenge")] == "" {
		return nil, err
	}
	c, err := s.newChallenge(r, purpose)
	if err == nil && before != nil && before.Field == "challenge" {
		c.Error = before
	}
	return c, err
}

// tried counts what came of an attempt: nil forgets the ones that failed before, a refusal
// is one more, and any other error says nothing of who it was.
func (s *Server) tried(r *http.Request, account string, err error) error {
	network := session.Network(clientAddress(r))
	switch {
	case err == nil:
		return s.backoff.Passed(r.Context(), account, network)
	case errors.Is(err, providers.ErrRefused):
		_, err := s.backoff.Failed(r.Context(), account, network)
		return err
	}
	return nil
}
