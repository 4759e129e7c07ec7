package events

import (
	"sync"
	"time"
)

// Conn is the connection below a socket. One goroutine at a time calls Write and
// Close; CloseNow may come at any moment.
type Conn interface {
	// Write sends one text message, or fails when it is not through by the deadline.
	Write(message []byte, deadline time.Time) error
	// Close sends a close frame with the code and waits a little for the answer.
	Close(code int, reason string)
	// CloseNow drops the connection.
	CloseNow()
}

// quickConn is a Conn that can often send a message without waiting, which saves
// starting a goroutine for it.
type quickConn interface {
	// TryWrite sends a text message and tells whether it has. After a false the next
	// Write is of the same message; it may have been sent in part.
	TryWrite(message []byte) bool
}

// Close codes of RFC 6455, 7.4.1.
const (
	CloseGoingAway = 1001
	ClosePolicy    = 1008
)

const (
	// maxQueue is how many messages may wait for a socket: who reads slower is dropped.
	maxQueue = 64
	// writeTimeout is how long one message may take.
	writeTimeout = 10 * time.Second
	// maxMessages is how many messages a client may send in messagePeriod.
	maxMessages   = 100
	messagePeriod = 10 * time.Second
)

// Socket is one open connection of an application. Sending to it never blocks.
//
// An idle socket owns no goroutine of the hub: the one that writes is started
// when there is something to write and ends when that is done.
type Socket struct {
	hub     *Hub
	conn    Conn
	network string // session.Network of its address

	// origin is that of the page that has opened it; empty for a program, or a cookie.
	origin string
	// stream is nil for a socket that is none.
	stream *stream

	left bool // guarded by Hub.mu
	// access is what a client has opened it with; nil for the older protocol. It is
	// guarded by Hub.mu as well.
	access *Access

	mu sync.Mutex
	// group is the session the socket belongs to, nil while it belongs to none.
	group *group
	// shown is the state of the session that the client has last been told of.
	shown *state
	// unproven: the socket came with an anonymous cookie, which proves nothing
	// once somebody has signed in.
	unproven bool
	// pending: the socket has joined its group and not been shown anything yet; asked:
	// meanwhile the client has asked for a token.
	pending, asked bool
	// writing: a goroutine writes what is in the queue. closing: nothing more gets into it.
	writing, closing bool
	queue            [][]byte
	// farewell is the close frame to send behind the queue.
	farewell *farewell

	// Unix milliseconds of the latest message of the client, and of the first of
	// the messages counted.
	lastMessage, messagesFrom int64
	messages                  int
}

type farewell struct {
	code   int
	reason string
}

// send queues messages; a socket that does not keep up is dropped.
func (s *Socket) send(messages ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, message := range messages {
		s.sendLocked(message)
	}
}

func (s *Socket) sendLocked(message []byte) {
	if s.closing {
		return
	}
	if s.stream != nil {
		message = s.streamed(message)
	}
	if conn, ok := s.conn.(quickConn); ok && !s.writing && len(s.queue) == 0 && conn.TryWrite(message) {
		return
	}
	if len(s.queue) >= maxQueue {
		s.closing, s.queue = true, nil
		s.hub.dropped.Add(1)
		go s.conn.CloseNow()
		return
	}
	s.queue = append(s.queue, message)
	s.writeLocked()
}

// close sends what is still queued, then a close frame.
func (s *Socket) close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(code, reason)
}

func (s *Socket) closeLocked(code int, reason string) {
	if s.closing {
		return
	}
	s.closing, s.farewell = true, &farewell{code, reason}
	s.writeLocked()
}

// writeLocked sees to it that somebody writes.
func (s *Socket) writeLocked() {
	if !s.writing {
		s.writing = true
		go s.write()
	}
}

// write sends what is queued, and the close frame if there is to be one, and ends.
func (s *Socket) write() {
	for {
		s.mu.Lock()
		batch, last := s.queue, s.farewell
		s.queue = nil
		if len(batch) == 0 {
			s.writing, s.farewell = false, nil
			s.mu.Unlock()
			if last != nil {
				s.conn.Close(last.code, last.reason)
			}
			return
		}
		s.mu.Unlock()
		for _, message := range batch {
			if err := s.writeOne(message); err != nil {
				s.mu.Lock()
				s.closing, s.writing, s.queue, s.farewell = true, false, nil, nil
				s.mu.Unlock()
				s.conn.CloseNow()
				return
			}
		}
	}
}

func (s *Socket) writeOne(message []byte) error {
	return s.conn.Write(message, time.Now().Add(writeTimeout))
}

// belongs returns the group of the socket and what the client was last told of it.
func (s *Socket) belongs() (*group, *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group, s.shown
}

// count counts a message of the client at a time, and returns how many there were
// in the present period.
func (s *Socket) count(now int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastMessage = now
	if now-s.messagesFrom > messagePeriod.Milliseconds() {
		s.messagesFrom, s.messages = now, 0
	}
	s.messages++
	return s.messages
}

// heard is when the client has sent its latest message.
func (s *Socket) heard() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastMessage
}
