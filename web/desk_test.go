package web

import "login-server/accounts"

// Desk is for tests that count hashes, and invite.
func (s *Server) Desk() *accounts.Desk { return s.desk }
