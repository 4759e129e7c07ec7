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
	for len(heard) < c.size {
		// Not waiting in the call lets messages gather: to be woken for each of them
		// would cost more than reading it.
		time.Sleep(pause)
		n, err := syscall.EpollWait(c.epoll, events, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || time.Now().After(deadline) {
			return fmt.Errorf("%d of %d sockets have heard %q: %w", len(heard), c.size, word, err)
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
