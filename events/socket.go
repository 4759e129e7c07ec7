package events

import (
	"context"
	"sync"
	"time"
)

// Conn is the connection below a socket. Write and Close are called by one
// goroutine at a time each, possibly both at once.
type Conn interface {
	// Write sends one text message.
	Write(ctx context.Context, message []byte) error
	// Close sends a close frame with the code and waits a little for the answer.
	Close(code int, reason string)
	// CloseNow drops the connection.
	CloseNow()
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

	mu sync.Mutex
	// group is the session the socket belongs to, nil while it belongs to none.
	group *group
	// shown is the state of the session that the client has last been told of.
	shown *state
	// unproven: the socket came with an anonymous cookie, which proves nothing
	// once somebody has signed in.
	unproven bool
	queue    [][]byte
	writing  bool
	closing  bool

	lastMessage  time.Time
	messages     int
	messagesFrom time.Time
}

// send queues a message; a socket that does not keep up is dropped.
func (s *Socket) send(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(message)
}

func (s *Socket) sendLocked(message []byte) {
	if s.closing {
		return
	}
	if len(s.queue) >= maxQueue {
		s.closing = true
		s.queue = nil
		s.hub.dropped.Add(1)
		go s.conn.CloseNow()
		return
	}
	s.queue = append(s.queue, message)
	if !s.writing {
		s.writing = true
		go s.write()
	}
}

// write sends what is queued and ends.
func (s *Socket) write() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.queue, s.writing = nil, false
			s.mu.Unlock()
			return
		}
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, message := range batch {
			ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
			err := s.conn.Write(ctx, message)
			cancel()
			if err != nil {
				s.mu.Lock()
				s.closing, s.queue, s.writing = true, nil, false
				s.mu.Unlock()
				s.conn.CloseNow()
				return
			}
		}
	}
}

// close sends what is still queued, then a close frame.
func (s *Socket) close(code int, reason string) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.closing = true
	rest := s.queue
	s.queue = nil
	s.mu.Unlock()
	go func() {
		for _, message := range rest {
			ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
			err := s.conn.Write(ctx, message)
			cancel()
			if err != nil {
				break
			}
		}
		s.conn.Close(code, reason)
	}()
}

// allow counts a message of the client; false means that it sends too many.
func (s *Socket) allow(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastMessage = now
	if now.Sub(s.messagesFrom) > messagePeriod {
		s.messagesFrom, s.messages = now, 0
	}
	s.messages++
	return s.messages <= maxMessages
}
