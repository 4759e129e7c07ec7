package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// crowd watches many sockets from one thread, with epoll, so that what hears a
// message on all of them takes little of the processors that it shares with the
// server. Nothing else may read the sockets from then on.
type crowd struct {
	epoll int
	files []*os.File // the connections; they are closed when nobody has them any more
}

func watch(sockets []*socket) (*crowd, error) {
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return nil, err
	}
	c := &crowd{epoll: epoll}
	for _, s := range sockets {
		// The copy is the crowd's; the runtime is not to be woken for it as well.
		f, err := s.conn.(*net.TCPConn).File()
		if err != nil {
			return nil, err
		}
		fd := int(f.Fd())
		if err := errors.Join(s.conn.Close(), syscall.SetNonblock(fd, true)); err != nil {
			return nil, err
		}
		c.files = append(c.files, f)
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// pause is between two looks at the sockets, so a message seems to arrive up to
// that much later than it does.
const pause = 500 * time.Microsecond

// hear returns once each of the sockets has heard a message that contains a word.
// It takes a message to come in one piece, as short ones do over loopback.
func (c *crowd) hear(word []byte) error {
	heard := map[int32]bool{}
	events := make([]syscall.EpollEvent, 2048)
	deadline := time.Now().Add(10 * time.Second)
	buffer := make([]byte, 64<<10)
	for len(heard) < len(c.files) {
		// Not waiting in the call lets messages gather: to be woken for each of them
		// would cost more than reading it.
		time.Sleep(pause)
		n, err := syscall.EpollWait(c.epoll, events, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || time.Now().After(deadline) {
			return fmt.Errorf("%d of %d sockets have heard %q: %w", len(heard), len(c.files), word, err)
		}
		for _, event := range events[:n] {
			n, err := syscall.Read(int(event.Fd), buffer)
			if err != nil || n == 0 {
				return fmt.Errorf("read socket: %d bytes, %w", n, err)
			}
			if bytes.Contains(buffer[:n], word) {
				heard[event.Fd] = true
			}
		}
	}
	return nil
}
