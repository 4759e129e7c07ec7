package web

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestFramesAreReadAsTheyWereSent lets the library read what is framed here, of every
// length at which the head of a frame changes.
func TestFramesAreReadAsTheyWereSent(t *testing.T) {
	lengths := []int{0, 1, 125, 126, 127, 65535, 65536, 300_000}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		taken := &smallBuffers{ResponseWriter: w}
		c, err := websocket.Accept(taken, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		conn := &socketConn{c, taken.conn}
		for i, n := range lengths {
			message := bytes.Repeat([]byte{byte('a' + i)}, n)
			// As the hub does it: at once if that is possible, else with a deadline.
			if !conn.TryWrite(message) {
				if err := conn.Write(message, time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		}
		conn.Close(int(websocket.StatusNormalClosure), "that is all")
	}))
	defer server.Close()

	c, _, err := websocket.Dial(t.Context(), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	for i, n := range lengths {
		kind, got, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.Repeat([]byte{byte('a' + i)}, n); kind != websocket.MessageText || !bytes.Equal(got, want) {
			t.Errorf("message of %d bytes came as %v of %d", n, kind, len(got))
		}
	}
	if _, _, err := c.Read(context.Background()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("after the last message: %v", err)
	}
}

// TestMessageThatDoesNotFit sends more than the connection takes without waiting: the
// rest follows, once, and a client that takes nothing ends in an error.
func TestMessageThatDoesNotFit(t *testing.T) {
	conn, _ := tcpPair(t)
	message := bytes.Repeat([]byte("0123456789"), 2_000_000)
	s := &socketConn{conn: newFrameConn(conn, nil)}
	if s.TryWrite(message) {
		t.Fatal("20 MB were sent without waiting")
	}
	if err := s.Write(message, time.Now().Add(-time.Second)); err == nil {
		t.Error("a write past its deadline succeeded")
	}

	conn, peer := tcpPair(t)
	s = &socketConn{conn: newFrameConn(conn, nil)}
	received := make(chan []byte)
	if s.TryWrite(message) {
		t.Fatal("20 MB were sent without waiting")
	}
	go func() {
		all, err := io.ReadAll(peer)
		if err != nil {
			t.Error(err)
		}
		received <- all
	}()
	// A control frame of the library does not get into the middle of the message.
	if _, err := s.conn.Write([]byte("control")); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(message, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.Write([]byte("next"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if want := appendFrame(append(appendFrame(nil, message), "control"...), []byte("next")); !bytes.Equal(<-received, want) {
		t.Error("the messages were not received as they were sent")
	}
}

// TestNothingFollowsATornFrame: the client would take it for the rest of that frame.
func TestNothingFollowsATornFrame(t *testing.T) {
	message := bytes.Repeat([]byte("0123456789"), 2_000_000)
	soon := func() time.Time { return time.Now().Add(50 * time.Millisecond) }
	for what, tear := range map[string]func(s *socketConn) error{
		"the rest, sent before a control frame": func(s *socketConn) error {
			if s.TryWrite(message) {
				t.Error("20 MB were sent without waiting")
			}
			if err := s.conn.SetWriteDeadline(soon()); err != nil {
				return nil
			}
			_, err := s.conn.Write([]byte("control"))
			return err
		},
		"a message": func(s *socketConn) error { return s.Write(message, soon()) },
		"a control frame": func(s *socketConn) error {
			if err := s.conn.SetWriteDeadline(soon()); err != nil {
				return nil
			}
			_, err := s.conn.Write(message)
			return err
		},
	} {
		conn, peer := tcpPair(t)
		s := &socketConn{conn: newFrameConn(conn, nil)}
		if tear(s) == nil {
			t.Fatalf("%s: 20 MB went to a client that does not read", what)
		}
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		time.Sleep(50 * time.Millisecond) // there is room again
		if err := s.conn.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if s.TryWrite([]byte("next")) {
			t.Errorf("%s: the next message was sent at once", what)
		}
		if s.Write([]byte("next"), time.Now().Add(time.Minute)) == nil {
			t.Errorf("%s: the next message was sent", what)
		}
		if _, err := s.conn.Write([]byte("next")); err == nil {
			t.Errorf("%s: a control frame was sent", what)
		}
	}
}

// TestNoMessageAfterTheCloseFrame: RFC 6455, 5.5.1.
func TestNoMessageAfterTheCloseFrame(t *testing.T) {
	conn, _ := tcpPair(t)
	s := &socketConn{conn: newFrameConn(conn, nil)}
	if _, err := s.conn.Write([]byte{0x88, 0}); err != nil {
		t.Fatal(err)
	}
	if s.TryWrite([]byte("late")) || s.Write([]byte("late"), time.Now().Add(time.Minute)) == nil {
		t.Error("a message followed the close frame")
	}
}

// tcpPair is two ends of one connection.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}
