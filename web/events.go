package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5"

	"login-server/events"
)

func (s *Server) mountEvents(r chi.Router) { r.Get("/", s.page(s.root)) }

// root serves GET /: the WebSocket at the base URL, and for browsers the way to
// the account or the login page.
func (s *Server) root(w http.ResponseWriter, r *http.Request) error {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return s.socket(w, r)
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	// Mounted below /login/ and behind a proxy that strips it, BASE_URL/login/ is the
	// root as well: what was asked of the login page goes on to it.
	if query := r.URL.Query(); query.Has("redirect_uri") {
		return redirect(w, s.path("login?"+query.Encode()))
	}
	if v.account != nil {
		return redirect(w, s.path("account"))
	}
	return redirect(w, s.path("login"))
}

// socket opens a WebSocket. Browsers name the origin of the page that asks; only
// allowed ones may, for the browser sends the person's cookie along. From pages of
// clients that counts for nothing: they have to bring a ticket, or send an access token.
func (s *Server) socket(w http.ResponseWriter, r *http.Request) error {
	refuse := func(e *Error) error {
		s.errorJSON(w, e)
		return nil
	}
	e, err := s.entry(r)
	if err != nil {
		return refuse(s.publicError(w, r, err))
	}
	// The origin has been checked above, by the rules of the settings.
	taken := &smallBuffers{ResponseWriter: w}
	c, err := websocket.Accept(taken, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return nil // Accept has answered
	}
	c.SetReadLimit(s.Config.MaxSocketMessage)
	conn := &socketConn{c, taken.conn}
	socket, err := s.hub.Enter(context.WithoutCancel(r.Context()), conn, e)
	if err != nil {
		reason := "please try again later"
		if errors.Is(err, events.ErrTooMany) {
			reason = "too many sockets"
		}
		conn.Close(int(websocket.StatusTryAgainLater), reason)
		return nil
	}
	// The goroutine of the request, and all that hangs on it, ends here: most sockets
	// are idle for most of their lives and should cost little.
	go s.listen(c, socket)
	return nil
}

// listen passes on what the client sends until the connection ends.
func (s *Server) listen(c *websocket.Conn, socket *events.Socket) {
	defer s.hub.Leave(socket)
	defer func() { _ = c.CloseNow() }()
	// Nobody else does, as for a request: one message must not end the program.
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("panic", "at", "socket", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	ctx := context.Background()
	for {
		kind, message, err := c.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			message = nil // which the hub cannot understand either, and says so
		}
		if !s.hub.Receive(ctx, socket, message) {
			return
		}
	}
}

// socketConn is a WebSocket as the hub sees it.
//
// Messages are framed here (RFC 6455, 5.2) and handed to the connection in one piece.
// Control frames are all that the library writes. A context for each message and the
// library's own way would take half as long again, which counts when 2,000 sockets of
// a session hear the same.
type socketConn struct {
	c    *websocket.Conn
	conn *frameConn
}

// appendFrame appends a text message as one frame.
func appendFrame(b, message []byte) []byte {
	const finalText = 0x81
	switch n := len(message); {
	case n < 126:
		b = append(b, finalText, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, finalText, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, finalText, 127), uint64(n))
	}
	return append(b, message...)
}

// frames are buffers to make frames in.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// TryWrite implements what the hub asks for before Write.
func (s *socketConn) TryWrite(message []byte) bool {
	b := frames.Get().(*[]byte)
	defer frames.Put(b)
	*b = appendFrame((*b)[:0], message)
	return s.conn.tryFrame(*b)
}

// Write implements events.Conn.
func (s *socketConn) Write(message []byte, deadline time.Time) error {
	b := frames.Get().(*[]byte)
	defer frames.Put(b)
	*b = appendFrame((*b)[:0], message)
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if err := s.conn.writeFrame(*b); err != nil {
		return err
	}
	return s.conn.SetWriteDeadline(time.Time{})
}

func (s *socketConn) Close(code int, reason string) {
	_ = s.c.Close(websocket.StatusCode(code), reason)
}

func (s *socketConn) CloseNow() { _ = s.c.CloseNow() }

// smallBuffers hands out hijacked connections with buffers that fit what clients
// send: net/http's own take 8 KiB, which is most of what an idle socket would cost.
type smallBuffers struct {
	http.ResponseWriter
	conn *frameConn // once it is taken over
}

// Most messages of clients are pings; what is larger goes around the buffer. The
// library writes control frames only, which have up to 127 bytes.
const (
	readBuffer  = 256
	writeBuffer = 128
)

// Hijack implements http.Hijacker.
func (b *smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(b.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// What the client has sent already is in the large buffer.
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	b.conn = newFrameConn(conn, bytes.Clone(early))
	return b.conn, bufio.NewReadWriter(bufio.NewReaderSize(b.conn, readBuffer), bufio.NewWriterSize(b.conn, writeBuffer)), nil
}

// frameConn is a connection to which frames are written by the hub and by the
// WebSocket library: each as a whole, also when it takes more than one attempt.
type frameConn struct {
	net.Conn
	early []byte // what had arrived before the connection was taken over; it is read first
	// raw is the connection's socket, nil over TLS.
	raw syscall.RawConn

	mu sync.Mutex // held while something is written
	// begun: tryFrame has sent the beginning of a frame; rest is what follows, until
	// somebody has sent it.
	begun bool
	rest  []byte
	// ended: nothing may follow, for a frame was sent in part or the close frame was.
	ended error
}

func newFrameConn(conn net.Conn, early []byte) *frameConn {
	c := &frameConn{Conn: conn, early: early}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c
}

// Read implements net.Conn.
func (c *frameConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn, for the library's frames.
func (c *frameConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const finalClose = 0x88
	if err := c.finishLocked(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if c.ended = err; err == nil && len(p) > 0 && p[0] == finalClose {
		c.ended = net.ErrClosed
	}
	return n, err
}

// finishLocked sends the rest of a frame that was begun, and tells whether another
// one may follow.
func (c *frameConn) finishLocked() error {
	if c.ended == nil && c.rest != nil {
		_, c.ended = c.Conn.Write(c.rest)
	}
	c.rest = nil
	return c.ended
}

// tryFrame sends a frame if that does not need waiting, and tells whether it has.
// After a false it may have been begun; the next writeFrame is of the same frame.
// Over TLS, and where the system has no such call, nothing is sent.
func (c *frameConn) tryFrame(frame []byte) bool {
	if c.raw == nil || !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if c.ended != nil {
		return false
	}
	n := tryWrite(c.raw, frame)
	if n > 0 && n < len(frame) {
		c.begun, c.rest = true, bytes.Clone(frame[n:])
	}
	return n == len(frame)
}

// writeFrame sends a frame, or what is left to send of it.
func (c *frameConn) writeFrame(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.finishLocked(); err != nil || c.begun {
		c.begun = false
		return err
	}
	_, c.ended = c.Conn.Write(frame)
	return c.ended
}
