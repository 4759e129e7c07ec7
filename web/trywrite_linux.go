package web

import (
	"syscall"
	"unsafe"
)

// tryWrite sends as much of data as fits into the socket's buffer now, and returns
// how much that was. Go's sockets never block, so the call returns in microseconds,
// and the scheduler need not be told of it: for thousands of sockets in a row, being
// told costs more than what it is for.
func tryWrite(raw syscall.RawConn, data []byte) (n int) {
	if len(data) == 0 {
		return 0
	}
	_ = raw.Write(func(fd uintptr) bool {
		for {
			written, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
			if errno == 0 {
				n = int(written)
			}
			if errno != syscall.EINTR {
				return true
			}
		}
	})
	return n
}
