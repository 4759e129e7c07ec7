package main

import (
	"os"

	"login-server/hashing"
)

// running is the program of a process, on Linux (proc_pid_exe(5)).
const running = "/proc/self/exe"

// hashCmd is a process that hashes passwords beside the server (package hashing).
type hashCmd struct{}

// Run implements the command.
func (hashCmd) Run(a *app) error { return hashing.Work(a.stdin, a.stdout) }

// newHasher starts such processes of this program.
func (s *server) newHasher() *hashing.Hasher {
	if s.app.self == nil {
		return hashing.New(nil, s.log)
	}
	self, err := s.app.self()
	if err != nil {
		s.log.Warn("passwords are hashed in the process of the server", "err", err)
		return hashing.New(nil, s.log)
	}
	// This very program, even when another version has taken its place meanwhile.
	if _, err := os.Stat(running); err == nil {
		self = running
	}
	return hashing.New([]string{self, "hash-passwords"}, s.log)
}
