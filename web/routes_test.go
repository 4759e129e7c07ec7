package web

import "github.com/go-chi/chi/v5"

// Routes is the whole routing table, for tests that walk it.
func (s *Server) Routes() chi.Routes { return s.routes() }
