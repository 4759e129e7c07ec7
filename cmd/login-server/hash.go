package main

import "login-server/hashing"

// hashCmd is a process that hashes passwords beside the server (package hashing).
type hashCmd struct{}

// Run implements the command.
func (hashCmd) Run(a *app) error { return hashing.Work(a.stdin, a.stdout) }

// hasher starts such processes of this program.
func (s *server) hasher() *hashing.Hasher {
	if s.app.self == "" {
		return hashing.New(nil, s.log)
	}
	return hashing.New([]string{s.app.self, "hash-passwords"}, s.log)
}
