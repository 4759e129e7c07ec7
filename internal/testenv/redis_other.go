//go:build !unix

package testenv

// Freeze and Thaw are for systems that can stop a process and let it go on.
func (s *RedisServer) Freeze() { s.t.Skip("a process cannot be frozen here") }

// Thaw has nothing to end.
func (s *RedisServer) Thaw() {}

// ended cannot be told: whoever waits asks until time is up.
func ended(int) bool { return false }
