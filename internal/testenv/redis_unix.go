//go:build unix

package testenv

import "syscall"

// Freeze stops the server from answering; connections to it stay open, and new ones
// can be opened. Thaw lets it go on.
func (s *RedisServer) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *RedisServer) Thaw() { s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.pid, sig); err != nil {
		s.t.Fatalf("redis-server, process %d: %v", s.pid, err)
	}
}

// ended tells whether there is no such process.
func ended(pid int) bool { return syscall.Kill(pid, 0) != nil }
