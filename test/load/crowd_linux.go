package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// crowd watches many sockets from one thread, with epoll, so that what hears a
// message on all of them takes little of the processors that it shares with the
// server. Nothing else may read the sockets from then on.
type crowd struct {
	epoll int
	size  int // of it; its connections end with the program
}

func watch(sockets []*socket) (*crowd, error) {
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return nil, err
	}
	c := &crowd{epoll: epoll}
	for _, s := range sockets {
		// The copy is the crowd's: Go's own poller, which forgets the socket when it is
		// closed, would be woken by each message too.
		raw, err := s.conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			return nil, err
		}
		fd := -1
		var dupErr error
		err = raw.Control(func(own uintptr) { fd, dupErr = syscall.Dup(int(own)) })
		if err := errors.Join(err, dupErr, s.conn.Close()); err != nil {
			return nil, err
		}
		c.size++
		// Edge-triggered: a socket is named once for what has arrived.
		event := syscall.EpollEvent{Events: syscall.EPOLLIN | -syscall.EPOLLET, Fd: int32(fd)}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// pause is between two looks at the sockets, so a message seems to arrive up to
// that much later than it does.
const pause = 250 * time.Microsecond

// hear returns when the last of the sockets has got a message. Each is then read, and
// the message has to contain a word. Reading comes afterwards because a crowd has
// processors of its own, which here would be taken from the server.
func (c *crowd) hear(word []byte) (last time.Time, err error) {
	heard := map[int32]bool{}
	events := make([]syscall.EpollEvent, 2048)
	deadline := time.Now().Add(10 * time.Second)
	for len(heard) < c.size {
		// Not waiting in the call lets messages gather: to be woken for each of them
		// would cost more than hearing of it.
		time.Sleep(pause)
		n, err := syscall.EpollWait(c.epoll, events, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || time.Now().After(deadline) {
			return last, fmt.Errorf("%d of %d sockets have heard anything: %w", len(heard), c.size, err)
		}
		for _, event := range events[:n] {
			heard[event.Fd] = true
		}
	}
	last = time.Now()
	buffer := make([]byte, 64<<10)
	for fd := range heard {
		// A message comes in one piece, as short ones do over loopback.
		n, err := syscall.Read(int(fd), buffer)
		if err != nil || !bytes.Contains(buffer[:max(n, 0)], word) {
			return last, fmt.Errorf("a socket has heard %q, not %q: %w", buffer[:max(n, 0)], word, err)
		}
	}
	return last, nil
}
