package oidc

import (
	"context"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"time"

	"login-server/identity"
	"login-server/session"
	"login-server/store"
	"login-server/token"
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
	// StepUp: who is signed in has to give a second factor as well.
	StepUp
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
	// RedirectURI is where the answer will go.
	RedirectURI string
	// MultiFactor: the client wants, or prefers, several factors.
	MultiFactor bool
}

// interaction is a request that waits for a person.
type interaction struct {
	Client  string    `json:"client"`
	Request request   `json:"request"`
	Began   time.Time `json:"began"`
	// Before is the sign-in that was there when the request came: only another one has been
	// made for it. Handle is that of its session.
	Before string `json:"before,omitempty"`
	Handle string `json:"handle,omitempty"`
	// Postponed: nobody has looked yet who is signed in.
	Postponed bool `json:"postponed,omitempty"`
	// Chosen is the session, with its beginning, whose person has chosen to go on, and
	// Allowed that whose person has consented.
	Chosen  string `json:"chosen,omitempty"`
	Allowed string `json:"allowed,omitempty"`
	// Pushed is the id of the pushed request that it is; it is spent with the answer.
	Pushed string `json:"pushed,omitempty"`
}

func (i interaction) index() store.Index { return store.Index{Expires: i.Began.Add(interactionLife)} }

// signIn names the latest sign-in of a session. It is empty for nobody.
func (w *Person) signIn() string {
	if w == nil {
		return ""
	}
	if w.Session.SignIn != "" {
		return w.Session.SignIn
	}
	// Sessions of former versions have no name for it; their secret changes with each.
	return hex.EncodeToString(w.Session.Secret[:8])
}

// mark names somebody in a session, for as long as they are signed in in it.
func (w *Person) mark() string {
	return w.Session.Handle + " " + w.Session.Created.UTC().Format(time.RFC3339Nano) + " " + w.Account.ID
}

// anew tells whether somebody has signed in since the request came: they have done what
// prompt and max_age want. A sign-in in the very moment of the request is told from the
// one before it by its name, an older one in another browser by its time. In the same
// session, or where nobody was signed in, it may be that of a node whose clock is behind.
func (i *interaction) anew(who *Person) bool {
	if who == nil || who.signIn() == i.Before {
		return false
	}
	began := i.Began
	if i.Before == "" || who.Session.Handle == i.Handle {
		began = began.Add(-token.Leeway)
	}
	return !who.Session.AuthTime.Before(began)
}

// meet notes who is signed in as the request comes.
func (i *interaction) meet(who *Person) {
	if i.Before = who.signIn(); who != nil {
		i.Handle = who.Session.Handle
	}
}

// Authorize begins an authorization request. who is nil when nobody is signed in.
func (p *Provider) Authorize(ctx context.Context, values url.Values, who *Person) (Step, error) {
	i, err := p.begin(ctx, values)
	if err != nil {
		return p.stepOf(err)
	}
	i.meet(who)
	return p.advance(ctx, "", i, who)
}

// Postpone begins an authorization request of which it is not known yet who is signed in:
// it goes on with Resume, whose question is asked there, so that Task says nothing.
func (p *Provider) Postpone(ctx context.Context, values url.Values) (Step, error) {
	i, err := p.begin(ctx, values)
	if err != nil {
		return p.stepOf(err)
	}
	i.Postponed = true
	id, err := p.wait(ctx, i)
	if err != nil {
		return Step{}, err
	}
	a := i.ask(id, SignIn)
	return Step{Ask: &a}, nil
}

// begin reads and checks a request.
func (p *Provider) begin(ctx context.Context, values url.Values) (interaction, error) {
	values, pushed, err := p.expand(ctx, values)
	if err != nil {
		return interaction{}, err
	}
	r, err := p.parse(ctx, values)
	if err != nil {
		return interaction{}, err
	}
	if pushed.KeyThumbprint != "" {
		r.KeyThumbprint = pushed.KeyThumbprint
	}
	return interaction{Client: r.client.ClientID, Request: *r, Began: p.o.Clock.Now(), Pushed: pushed.id}, nil
}

// Resume goes on with a request after the person has done what was asked for.
func (p *Provider) Resume(ctx context.Context, id string, who *Person) (Step, error) {
	i, err := p.interaction(ctx, id)
	if err != nil {
		return p.stepOf(err)
	}
	if i.Postponed {
		// From now on a sign-in counts as one for this request.
		i.Postponed = false
		i.meet(who)
		if err := p.keep(ctx, id, i); err != nil {
			return p.stepOf(err)
		}
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
// are (Choose), or to let the client have what it asks for (Consent). An answer to what
// is not the question any more is none: the person is asked what is.
func (p *Provider) Decide(ctx context.Context, id string, task Task, allow bool, who *Person) (Step, error) {
	i, err := p.interaction(ctx, id)
	if err != nil {
		return p.stepOf(err)
	}
	question, _, err := p.question(ctx, &i, who)
	if err != nil {
		return Step{}, err
	}
	if question == nil || question.Task != task || who == nil {
		return p.advance(ctx, id, i, who)
	}
	if !allow {
		if err := p.spend(ctx, id, i); err != nil {
			return p.stepOf(err)
		}
		return p.told(&i.Request, fail("access_denied", "The person has said no."))
	}
	switch task {
	case Choose:
		i.Chosen = who.mark()
	case Consent:
		i.Allowed = who.mark()
		p.forgetMarks(who.Account.ID, i.Client) // or older ones would void what is allowed now
		if err := p.consented(ctx, who, &i.Request); err != nil {
			return Step{}, err
		}
	}
	if err := p.keep(ctx, id, i); err != nil {
		return p.stepOf(err)
	}
	return p.advance(ctx, id, i, who)
}

// Decline ends a request in the place of signing in for it: the client is told.
func (p *Provider) Decline(ctx context.Context, id string) (Step, error) {
	i, err := p.interaction(ctx, id)
	if err != nil {
		return p.stepOf(err)
	}
	if err := p.spend(ctx, id, i); err != nil {
		return p.stepOf(err)
	}
	return p.told(&i.Request, fail("access_denied", "The person has said no."))
}

// keep writes what the person has done.
func (p *Provider) keep(ctx context.Context, id string, i interaction) error {
	_, err := p.pending.Update(ctx, id, func(stored *interaction) error {
		*stored = i
		return nil
	})
	return gone(err)
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
	if err != nil {
		return i, err
	}
	if uri, ok := i.Request.client.redirectURI(i.Request.GivenURI); !ok || uri != i.Request.RedirectURI {
		return i, &requestError{client: i.Client, err: invalidRequest("The redirect_uri is not one that this client has registered any more.")}
	}
	return i, nil
}

func (i *interaction) ask(id string, task Task) Ask {
	r := &i.Request
	a := Ask{Task: task, Interaction: id, Client: r.client, LoginHint: r.LoginHint, UILocales: r.UILocales, RedirectURI: r.RedirectURI}
	essential := r.essentialACR()
	a.MultiFactor = essential != nil && !slices.Contains(essential, acrSingle) || prefers(r.ACRValues, acrMulti)
	return a
}

// stepOf makes a step of an error.
func (p *Provider) stepOf(err error) (Step, error) {
	e, ok := errors.AsType[*requestError](err)
	switch {
	case !ok:
		return Step{}, err
	case e.to == nil:
		p.refused(PathAuthorize, e.client, e.err)
		return Step{Refuse: e.err}, nil
	}
	return p.told(e.to, e.err)
}

// told is the step that tells the client of an error.
func (p *Provider) told(r *request, e *Error) (Step, error) {
	p.refused(PathAuthorize, r.client.ClientID, e)
	a, err := p.refuse(r, e)
	return Step{Answer: &a}, err
}

// question is what the person has to be asked before the client gets its answer; nil if
// nothing is missing. With it comes the error that tells the client of it where nobody
// may be asked (prompt=none). Without a question, an error is what the client is told.
func (p *Provider) question(ctx context.Context, i *interaction, who *Person) (*Ask, *Error, error) {
	r := &i.Request
	asked := func(task Task, fresh bool, e *Error) (*Ask, *Error, error) {
		a := i.ask("", task)
		a.Fresh = fresh
		return &a, e, nil
	}
	if who == nil {
		return asked(SignIn, false, fail("login_required", "Nobody is signed in."))
	}
	anew := i.anew(who)
	if !anew && (r.prompts("login") || r.tooOld(who.Session.AuthTime, p.o.Clock.Now())) {
		return asked(SignIn, true, fail("login_required", "The person has to sign in anew."))
	}
	if r.prompts("select_account") && !anew && i.Chosen != who.mark() {
		return asked(Choose, false, fail("account_selection_required", "The person has to choose an account."))
	}
	if !r.wants(p.subject(r.client, who.Account.ID)) {
		e := fail("login_required", "Somebody else is signed in.")
		if anew {
			return nil, e, nil
		}
		return asked(SignIn, true, e)
	}
	if !who.Session.MultiFactor() {
		if essential := r.essentialACR(); essential != nil && !slices.Contains(essential, acrSingle) {
			return asked(StepUp, false, fail("login_required", "The person has to give a second factor."))
		}
		// What is only preferred is asked of those who can, where somebody may be asked.
		if prefers(r.ACRValues, acrMulti) && !r.prompts("none") && p.o.HasFactor != nil {
			able, err := p.o.HasFactor(ctx, who.Account)
			if err != nil {
				return nil, nil, err
			}
			if able {
				return asked(StepUp, false, nil)
			}
		}
	}
	missing, err := p.missingConsent(ctx, who, r)
	if err != nil {
		return nil, nil, err
	}
	// What the person has just allowed is missing if it was taken back since.
	if len(missing) > 0 || i.Allowed != who.mark() && (r.prompts("consent") || r.anybodys()) {
		a := i.ask("", Consent)
		a.Scopes = r.consentScopes()
		return &a, fail("consent_required", "The person has to consent."), nil
	}
	return nil, nil, nil
}

// advance asks for what is missing, and answers the client when nothing is.
func (p *Provider) advance(ctx context.Context, id string, i interaction, who *Person) (Step, error) {
	r := &i.Request
	// Before the consent is looked at: what is taken back after that makes the code void.
	var known marks
	if who != nil {
		var err error
		if known, err = p.marksOf(ctx, who.Account.ID, r.client.ClientID); err != nil {
			return Step{}, err
		}
	}
	ask, e, err := p.question(ctx, &i, who)
	switch {
	case err != nil:
		return Step{}, err
	case ask != nil && !r.prompts("none"):
		if ask.Interaction = id; id == "" {
			if ask.Interaction, err = p.wait(ctx, i); err != nil {
				return Step{}, err
			}
		}
		return Step{Ask: ask}, nil
	}
	// Of two answers to one request one is given.
	if err := p.spend(ctx, id, i); err != nil {
		return p.stepOf(err)
	}
	if e != nil {
		return p.told(r, e)
	}
	parameters, err := p.issue(ctx, r, who, known)
	if e, ok := errors.AsType[*Error](err); ok {
		return p.told(r, e)
	}
	if err != nil {
		return Step{}, err
	}
	a, err := p.answer(r, parameters)
	return Step{Answer: &a}, err
}

// spend ends a request, so that it can be answered: once.
func (p *Provider) spend(ctx context.Context, id string, i interaction) error {
	if i.Pushed != "" {
		if err := p.spendPushed(ctx, i.Pushed); err != nil {
			return err
		}
	}
	if id == "" {
		return nil
	}
	return gone(p.pending.Delete(ctx, id))
}

// wait keeps a request until the person has done something.
func (p *Provider) wait(ctx context.Context, i interaction) (string, error) {
	id := random()
	_, err := p.pending.Insert(ctx, id, i)
	return id, err
}

// issue gives the client what it has asked for: a grant, and its code or tokens. known are the
// marks from before it was decided that it may have that.
func (p *Provider) issue(ctx context.Context, r *request, who *Person, known marks) (url.Values, error) {
	now := p.o.Clock.Now()
	g := &grant{
		ID: p.newGrantID(), Client: r.client.ClientID, User: who.Account.ID, Subject: p.subject(r.client, who.Account.ID),
		Session: who.Session.Handle, SessionBegan: who.Session.Created,
		Offline: r.has(scopeOffline) && r.client.allows(grantRefresh) && r.hasType("code"),
		Scope:   slices.Clone(r.Scope), Resources: r.Resources, Claims: r.Claims, Nonce: r.Nonce,
		AuthTime: who.Session.AuthTime, ACR: r.acrOf(who.Session), AMR: amrOf(who.Session),
		KeyThumbprint: r.KeyThumbprint, Marks: known,
		Created: now, Used: now, Expires: now.Add(codeLife),
	}
	if !g.Offline {
		g.Scope = slices.DeleteFunc(g.Scope, func(s string) bool { return s == scopeOffline })
	}
	parameters := url.Values{}
	if r.hasType("code") {
		g.Code = &code{RedirectURI: r.GivenURI, Challenge: r.Challenge, Expires: now.Add(codeLife)}
		text, err := p.newCode(g, !r.front())
		if err != nil {
			return nil, err
		}
		parameters.Set("code", text)
	}
	if r.front() {
		if err := p.issueFront(r, g, parameters); err != nil {
			return nil, err
		}
	}
	if state := p.sessionState(r, who); state != "" {
		parameters.Set("session_state", state)
	}
	if err := p.logouts.joins(ctx, r.client, g); err != nil {
		return nil, err
	}
	if g.carried() {
		return parameters, nil
	}
	if _, err := p.grants.Insert(ctx, g.ID, *g); err != nil {
		return nil, err
	}
	if r.hasType("token") {
		p.o.Issued(r.client.label(), grantImplicit)
	}
	return parameters, nil
}
