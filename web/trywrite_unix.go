//go:build unix && !linux

package web

import "syscall"

// tryWrite sends as much of data as fits into the socket's buffer now, and returns
// how much that was.
func tryWrite(raw syscall.RawConn, data []byte) (n int) {
	_ = raw.Write(func(fd uintptr) bool {
		var err error
		for {
			n, err = syscall.Write(int(fd), data) // which does not wait: Go's sockets never block
			if err != syscall.EINTR {
				return true
			}
		}
	})
	return max(n, 0)
}
