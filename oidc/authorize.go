package oidc

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"time"

	"login-server/identity"
	"login-server/session"
	"login-server/store"
)

// Person is who is signed in in the browser that a request comes from.
type Person struct {
	Session session.Session
	Account identity.Account
}

// Step is what has to happen next with an authorization request. One of the fields is set.
type Step struct {
	// Answer goes to the client.
	Answer *Answer
	// Ask is something that the person has to do first; Resume goes on after it.
	Ask *Ask
	// Refuse is an error that is shown to the person, for it is not known, or not safe,
	// where else it could go.
	Refuse *Error
}

// What a person can be asked for.
type Task int

const (
	// SignIn: somebody has to sign in, although or because somebody is signed in already
	// (Ask.Fresh).
	SignIn Task = iota
	// Choose: whether to go on as who is signed in.
	Choose
	// Consent: whether the client may have what it asks for.
	Consent
)

// Ask is a question to the person.
type Ask struct {
	Task Task
	// Interaction names the request that waits; it goes into the address to come back to.
	Interaction string
	Client      *Client
	// Fresh: a session is not enough, somebody has to prove again who they are.
	Fresh bool
	// Scopes are those to consent to, without openid.
	Scopes               []string
	LoginHint, UILocales string
	ACRValues            []string
}

// interaction is a request that waits for a person.
type interaction struct {
	Client  string    `json:"client"`
	Request request   `json:"request"`
	Began   time.Time `json:"began"`
	// Chosen is the session, with its beginning, whose person has chosen to go on, and
	// Allowed that whose person has consented.
	Chosen  string `json:"chosen,omitempty"`
	Allowed string `json:"allowed,omitempty"`
	// Pushed is the request_uri that the request came by; it is spent with the answer.
	Pushed string `json:"pushed,omitempty"`
}

func (i interaction) index() store.Index { return store.Index{Expires: i.Began.Add(interactionLife)} }

// mark names a session of a person for as long as that person is signed in in it.
func (w *Person) mark() string {
	return w.Session.Handle + " " + w.Session.Created.UTC().Format(time.RFC3339Nano)
}

// Authorize begins an authorization request. who is nil when nobody is signed in.
func (p *Provider) Authorize(ctx context.Context, values url.Values, who *Person) (Step, error) {
	values, pushed, err := p.expand(ctx, values)
	if err != nil {
		return p.stepOf(err)
	}
	r, err := p.parse(ctx, values)
	if err != nil {
		return p.stepOf(err)
	}
	return p.advance(ctx, "", interaction{Client: r.client.ClientID, Request: *r, Began: p.o.Clock.Now(), Pushed: pushed}, who)
}

// Resume goes on with a request after the person has done what was asked for.
func (p *Provider) Resume(ctx context.Context, id string, who *Person) (Step, error) {
	i, err := p.interaction(ctx, id)
	if err != nil {
		return p.stepOf(err)
	}
	return p.advance(ctx, id, i, who)
}

// Waiting tells what a request that waits is about, for the pages on the way; false if
// there is none any more.
func (p *Provider) Waiting(ctx context.Context, id string) (Ask, bool, error) {
	i, err := p.interaction(ctx, id)
	if errors.As(err, new(*requestError)) {
		return Ask{}, false, nil
	}
	if err != nil {
		return Ask{}, false, err
	}
	return i.ask(id, SignIn), true, nil
}

// Decide takes the answer of the person to what they were asked: to go on as who they
// are (Choose), or to let the client have what it asks for (Consent).
func (p *Provider) Decide(ctx context.Context, id string, task Task, allow bool, who *Person) (Step, error) {
	i, err := p.interaction(ctx, id)
	if err != nil {
		return p.stepOf(err)
	}
	switch {
	case !allow:
		p.forget(ctx, id, i)
		return p.told(&i.Request, fail("access_denied", "The person has said no."))
	case who == nil:
	case task == Choose:
		i.Chosen = who.mark()
	case task == Consent:
		i.Allowed = who.mark()
		if err := p.consented(ctx, who, &i.Request); err != nil {
			return Step{}, err
		}
	}
	item, err := p.pending.Get(ctx, id)
	if err != nil {
		return p.stepOf(gone(err))
	}
	item.Value = i
	if _, err := p.pending.Replace(ctx, item); err != nil && !errors.Is(err, store.ErrConflict) {
		return p.stepOf(gone(err))
	}
	return p.advance(ctx, id, i, who)
}

func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return &requestError{err: fail("invalid_request", "This request has ended, or has taken too long.")}
	}
	return err
}

func (p *Provider) interaction(ctx context.Context, id string) (interaction, error) {
	item, err := p.pending.Get(ctx, id)
	if err != nil {
		return interaction{}, gone(err)
	}
	i := item.Value
	if i.Request.client, err = p.clients.get(ctx, i.Client); errors.Is(err, errUnknownClient) {
		return i, &requestError{err: fail("invalid_client", "This client does not exist any more.")}
	}
	return i, err
}

func (i *interaction) ask(id string, task Task) Ask {
	r := &i.Request
	return Ask{Task: task, Interaction: id, Client: r.client, LoginHint: r.LoginHint, UILocales: r.UILocales, ACRValues: r.ACRValues}
}

// stepOf makes a step of an error.
func (p *Provider) stepOf(err error) (Step, error) {
	e, ok := errors.AsType[*requestError](err)
	switch {
	case !ok:
		return Step{}, err
	case e.to == nil:
		return Step{Refuse: e.err}, nil
	}
	return p.told(e.to, e.err)
}

func (p *Provider) told(r *request, e *Error) (Step, error) {
	a, err := p.refuse(r, e)
	return Step{Answer: &a}, err
}

// advance finds out what is missing, and answers the client when nothing is.
func (p *Provider) advance(ctx context.Context, id string, i interaction, who *Person) (Step, error) {
	r, now := &i.Request, p.o.Clock.Now()
	ask := func(a Ask, e *Error) (Step, error) {
		if r.prompts("none") {
			return p.told(r, e)
		}
		var err error
		if id == "" {
			if id, err = p.wait(ctx, i); err != nil {
				return Step{}, err
			}
		}
		a.Interaction = id
		return Step{Ask: &a}, nil
	}
	// Whoever has signed in for this very request has done what prompt wants.
	anew := who != nil && who.Session.AuthTime.After(i.Began)
	chosen := who != nil && i.Chosen == who.mark()
	loginRequired := fail("login_required", "Nobody is signed in.")
	switch {
	case who == nil:
		return ask(i.ask(id, SignIn), loginRequired)
	case r.prompts("login") && !anew, r.tooOld(who.Session.AuthTime, now) && !anew:
		a := i.ask(id, SignIn)
		a.Fresh = true
		return ask(a, loginRequired)
	case r.prompts("select_account") && !anew && !chosen:
		return ask(i.ask(id, Choose), fail("account_selection_required", "The person has to choose an account."))
	}
	subject := p.subject(r.client, who.Account.ID)
	if want := r.wantedSubject(); want != "" && want != subject {
		return p.told(r, fail("login_required", "Somebody else is signed in."))
	}
	if r.IDTokenHint != "" {
		if hinted, err := p.hintedSubject(r.client, r.IDTokenHint); err != nil || hinted != subject {
			if r.prompts("none") || anew || err != nil {
				return p.told(r, fail("login_required", "Somebody else is signed in."))
			}
			a := i.ask(id, SignIn)
			a.Fresh = true
			return ask(a, loginRequired)
		}
	}
	missing, err := p.missingConsent(ctx, who, r)
	if err != nil {
		return Step{}, err
	}
	if i.Allowed != who.mark() && (len(missing) > 0 || r.prompts("consent")) {
		a := i.ask(id, Consent)
		a.Scopes = r.consentScopes()
		return ask(a, fail("consent_required", "The person has to consent."))
	}
	// Of two answers to one request one gets the code.
	if id != "" {
		if err := p.pending.Delete(ctx, id); err != nil {
			return p.stepOf(gone(err))
		}
	}
	if i.Pushed != "" {
		if err := p.spendPushed(ctx, i.Pushed); err != nil {
			return p.stepOf(err)
		}
	}
	parameters, err := p.issue(ctx, r, who, subject)
	if e, ok := errors.AsType[*Error](err); ok {
		return p.told(r, e)
	}
	if err != nil {
		return Step{}, err
	}
	a, err := p.answer(r, parameters)
	return Step{Answer: &a}, err
}

// wait keeps a request until the person has done something.
func (p *Provider) wait(ctx context.Context, i interaction) (string, error) {
	id := random()
	_, err := p.pending.Insert(ctx, id, i)
	return id, err
}

func (p *Provider) forget(ctx context.Context, id string, i interaction) {
	if err := p.pending.Delete(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		p.o.Log.Warn("authorization request stays until it expires", "err", err)
	}
	if i.Pushed != "" {
		_ = p.spendPushed(ctx, i.Pushed)
	}
}

// issue gives the client what it has asked for: a grant, and its code or tokens.
func (p *Provider) issue(ctx context.Context, r *request, who *Person, subject string) (url.Values, error) {
	now := p.o.Clock.Now()
	g := &grant{
		ID: newGrantID(), Client: r.client.ClientID, User: who.Account.ID, Subject: subject,
		Session: who.Session.Handle, SessionBegan: who.Session.Created,
		Offline: r.has(scopeOffline) && r.client.allows(grantRefresh) && r.hasType("code"),
		Scope:   slices.Clone(r.Scope), Resources: r.Resources, Claims: r.Claims, Nonce: r.Nonce,
		AuthTime: who.Session.AuthTime, ACR: acrOf(who.Session), AMR: amrOf(who.Session),
		RequireAuthTime: r.MaxAge != nil || r.client.RequireAuthTime, KeyThumbprint: r.KeyThumbprint,
		Created: now, Used: now, Expires: now.Add(codeLife),
	}
	if !g.Offline {
		g.Scope = slices.DeleteFunc(g.Scope, func(s string) bool { return s == scopeOffline })
	}
	parameters := url.Values{}
	if r.hasType("code") {
		secret := g.newSecret()
		g.Code = &code{Hash: hashSecret(secret), RedirectURI: r.GivenURI, Challenge: r.Challenge, Expires: now.Add(codeLife)}
		parameters.Set("code", secret)
	}
	if r.front() {
		if err := p.issueFront(r, g, parameters); err != nil {
			return nil, err
		}
	}
	if state := p.sessionState(r, who); state != "" {
		parameters.Set("session_state", state)
	}
	if _, err := p.grants.Insert(ctx, g.ID, *g); err != nil {
		return nil, err
	}
	return parameters, nil
}

func newGrantID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
