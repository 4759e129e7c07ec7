package web

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

func (s *Server) mountStatic(r chi.Router) {
	files := http.StripPrefix("/static/", s.Static.Handler())
	r.Get("/static/*", files.ServeHTTP)
	r.Head("/static/*", files.ServeHTTP)
	r.Get("/favicon.ico", s.page(func(w http.ResponseWriter, _ *http.Request) error {
		return redirect(w, s.path(s.Static.Asset("favicon.svg")))
	}))
}
