package web

import (
	"errors"
	"net/http"
	"os"
	"testing"
	"time"
)

// stalled is the connection of a client that reads nothing: a write waits until its
// deadline has passed.
type stalled struct {
	http.ResponseWriter
	writing, expired chan struct{}
	deadlines        int
}

func (s *stalled) Header() http.Header { return http.Header{} }
func (s *stalled) WriteHeader(int)     {}
func (s *stalled) Flush()              {}

func (s *stalled) Write([]byte) (int, error) {
	close(s.writing)
	<-s.expired
	return 0, os.ErrDeadlineExceeded
}

func (s *stalled) SetReadDeadline(time.Time) error { return nil }

func (s *stalled) SetWriteDeadline(t time.Time) error {
	s.deadlines++
	if !t.IsZero() && t.Before(time.Now()) {
		close(s.expired)
	}
	return nil
}

// A stream that is dropped does not wait for who reads nothing, and is left alone once
// its request is over.
func TestStreamIsDropped(t *testing.T) {
	w := &stalled{writing: make(chan struct{}), expired: make(chan struct{})}
	c := newStreamConn(w)
	written := make(chan error)
	go func() { written <- c.Write([]byte("data: {}\n\n"), time.Now().Add(time.Hour)) }()
	<-w.writing
	c.CloseNow()
	if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write that waited: %v", err)
	}
	c.finish()
	before := w.deadlines
	c.CloseNow()
	c.Close(0, "")
	if err := c.Write([]byte("x"), time.Now()); err == nil || w.deadlines != before {
		t.Errorf("after the end: %v, %d deadlines", err, w.deadlines-before)
	}
}
