package web

import (
	"net/http"

	"login-server/identity"
)

// WhatIsNew is what a sign-in would find new about the request's browser and country.
func (s *Server) WhatIsNew(w http.ResponseWriter, r *http.Request, a identity.Account) (newBrowser, newCountry bool, err error) {
	from, err := s.rememberBrowser(w, r, a)
	return from.newBrowser, from.newCountry, err
}
