package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"login-server/token"
)

// Streams are sockets that only listen: Server-Sent Events (HTML, 9.2). They are told the
// same as other sockets, in the same order. Each event has an id that tells, sealed, what
// the client has been shown by then; a client that comes back with the id of the last one
// is told what differs from that, and nothing else.

// MarksPurpose is what the Sealer of Options.Marks is for.
const MarksPurpose = "event stream"

// resumable is how long after an event its id is good for.
const resumable = time.Hour

// stream is what a socket has beside others when it is one.
type stream struct {
	mark mark // what the client has been shown
	// resumed is what it had been shown when it came back, until that was compared with
	// the present state.
	resumed *mark
}

// mark is what a client has been shown, in fingerprints.
type mark struct {
	// Group is the group of sockets that the stream belongs to; empty for none.
	Group string `json:"g,omitempty"`
	// Access and Ticket: the stream was opened with a ticket, and what that has opened.
	Access *Access `json:"a,omitempty"`
	Ticket string  `json:"t,omitempty"`
	// At is when the event was sent (Unix milliseconds).
	At int64 `json:"at"`

	Key       string `json:"k,omitempty"` // of the latest about
	Providers string `json:"p,omitempty"`
	LoggedOut bool   `json:"o,omitempty"`
	Session   string `json:"s,omitempty"`
	User      string `json:"u,omitempty"`
	// Signed is what the latest token says, and Expires its end (Unix milliseconds).
	Signed  string `json:"j,omitempty"`
	Expires int64  `json:"e,omitempty"`
}

func fingerprint(parts ...[]byte) string {
	sum := sha256.Sum256(bytes.Join(parts, []byte{0}))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func ticketName(ticket string) string { return fingerprint([]byte(ticket)) }

// session names the session of a state, and the group that is shown it.
func (st *state) session() string {
	return fingerprint([]byte(st.handle), []byte(st.began.UTC().Format(time.RFC3339Nano)))
}

// signs is what a token for the state says, and with which key.
func (st *state) signs(keyID string) string { return fingerprint(st.claims, []byte(keyID)) }

// readMark opens the id of an event.
func (h *Hub) readMark(id string) (mark, bool) {
	var m mark
	if id == "" || len(id) > 8<<10 || h.o.Marks == nil || h.o.Marks.Open(id, &m) != nil {
		return mark{}, false
	}
	return m, h.o.Clock.Now().UnixMilli()-m.At < resumable.Milliseconds()
}

// newStream is the stream of somebody who has heard the event with an id before, if it is
// not empty and was of the same group.
func (h *Hub) newStream(e Entry, group string) *stream {
	if !e.Stream {
		return nil
	}
	s := &stream{}
	if group != "" {
		group = fingerprint([]byte(group))
		if m, ok := h.readMark(e.LastEventID); ok && m.Group == group && m.Ticket == e.Ticket {
			s.mark, s.resumed = m, &m
		}
	}
	s.mark.Group, s.mark.Ticket = group, e.Ticket
	if e.Ticket != "" {
		s.mark.Access = e.Access
	}
	return s
}

// returnedTo tells whether the client of a stream has come back to what it knows: it has
// been told of the sign-in of a state.
func (s *Socket) returnedTo(st *state) bool {
	return s.stream != nil && s.stream.resumed != nil && s.stream.resumed.Session == st.session()
}

// lacksToken tells whether the socket needs a token before it can be shown a state. If it
// has come back with one, until tells when that has to be followed by the next.
func (s *Socket) lacksToken(st *state, keyID string, now time.Time) (lacks bool, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown.sameSession(st) {
		return false, until
	}
	return s.lacksTokenLocked(st, keyID, now)
}

func (s *Socket) lacksTokenLocked(st *state, keyID string, now time.Time) (lacks bool, until time.Time) {
	if !s.returnedTo(st) || s.stream.resumed.Signed != st.signs(keyID) {
		return true, until
	}
	until = time.UnixMilli(s.stream.resumed.Expires).Add(-renewBefore)
	return !now.Before(until), until
}

// framed is what frame has put together.
type framed struct {
	Type string          `json:"type"`
	Date time.Time       `json:"date"`
	Data json.RawMessage `json:"data"`
}

func read(message []byte) framed {
	var m framed
	if err := json.Unmarshal(message, &m); err != nil {
		panic(err) // it is ours
	}
	return m
}

// streamed makes an event of a message (HTML, 9.2.6). The mutex is held, and shown is what
// the client will have been shown.
func (s *Socket) streamed(message []byte) []byte {
	m := read(message)
	k, now := &s.stream.mark, s.hub.o.Clock.Now()
	keyID := s.hub.o.Tokens.KeyID()
	switch m.Type {
	case TypeAbout:
		k.Key = fingerprint([]byte(keyID))
	case TypeProviders:
		k.Providers = fingerprint(m.Data)
	case TypeLoggedOut:
		k.LoggedOut, k.Session, k.User, k.Signed, k.Expires = true, "", "", "", 0
	case TypeLoggedIn, TypeUpdated:
		k.LoggedOut, k.Session, k.User = false, s.shown.session(), fingerprint(s.shown.encoded)
	case TypeToken:
		var t token.Token
		if err := json.Unmarshal(m.Data, &t); err != nil {
			panic(err)
		}
		k.Signed, k.Expires = s.shown.signs(keyID), m.Date.Add(time.Duration(t.ExpiresIn)*time.Second).UnixMilli()
	}
	k.At = now.UnixMilli()
	var b bytes.Buffer
	if id, err := s.hub.o.Marks.Seal(k); err == nil {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + m.Type + "\ndata: ")
	b.Write(message) // JSON of one line
	b.WriteString("\n\n")
	return b.Bytes()
}
