package web

import (
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"login-server/challenge"
	"login-server/templates"
)

// mountGallery serves every page in every state, in development only.
func (s *Server) mountGallery(r chi.Router) {
	r.Get("/dev/gallery", s.page(s.gallery))
	r.Get("/dev/gallery/{name}", s.page(s.galleryPage))
}

var galleryIndex = template.Must(template.New("gallery").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Gallery</title>
<link rel="stylesheet" href="{{.Style}}"><body class="wide"><main><h1>Gallery</h1>
<p>Every page in every state, with invented people. Add <code>?lang=de</code> for German.</p>
<ul class="plain">{{range .Examples}}<li><a href="{{$.Path}}/{{.Name}}">{{.Title}}</a></li>{{end}}</ul></main></html>
`))

// gallery serves GET /dev/gallery.
func (s *Server) gallery(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'")
	return galleryIndex.Execute(w, map[string]any{
		"Style": s.path(s.Static.Asset("app.css")), "Path": s.path("dev/gallery"), "Examples": templates.Gallery(),
	})
}

// galleryPage serves GET /dev/gallery/{name}.
func (s *Server) galleryPage(w http.ResponseWriter, r *http.Request) error {
	for _, example := range templates.Gallery() {
		if example.Name != pathValue(r, "name") {
			continue
		}
		page, ok := example.Page.(interface{ Common() *templates.Layout })
		if !ok {
			break
		}
		common := page.Common()
		common.Base, common.Nonce, common.Path = s.base(), newNonce(), pathBelow(r)
		if demo, ok := example.Page.(*templates.APIPage); ok { // it is alive
			demo.BaseURL = s.Config.BaseURL.String()
			demo.WebSocketURL = strings.Replace(demo.BaseURL, "http", "ws", 1)
		}
		// Clients have their logo here.
		logo := s.Config.BaseURL.String() + s.Static.Asset("oidc.svg")
		switch page := example.Page.(type) {
		case *templates.LoginPage:
			if page.Client != nil && page.Client.Logo != "" {
				page.Client.Logo = logo
			}
		case *templates.CredentialsPage:
			if page.Client != nil {
				page.Client.Logo = logo
			}
			if err := s.exampleChallenge(page.Challenge); err != nil {
				return err
			}
		case *templates.SignInPage:
			if page.Client != nil {
				page.Client.Logo = logo
			}
		case *templates.FactorPage:
			if page.Client != nil {
				page.Client.Logo = logo
			}
		case *templates.DevicePage:
			if page.Client != nil {
				page.Client.Logo = logo
			}
		case *templates.ConsentPage:
			page.Client.Logo = logo
		case *templates.ChoosePage:
			page.Client.Logo = logo
		case *templates.LogoutPage:
			page.Frames = nil // nobody is told of a gallery
		case *templates.AccountPage:
			for i, c := range page.Connected {
				if c.Client.Logo != "" {
					page.Connected[i].Client.Logo = logo
				}
			}
		}
		if r.URL.Query().Has("lang") {
			common.Lang = s.language(r, "")
		}
		s.render(w, http.StatusOK, common.Nonce, example.Page)
		return nil
	}
	return errNotFound
}

// exampleChallenge puts a picture or a recording into an example.
func (s *Server) exampleChallenge(c *templates.Challenge) error {
	if c == nil || c.Kind == "work" {
		return nil
	}
	made, err := s.challenges.New(challenge.Kind(c.Kind), "en", "gallery")
	c.Image, c.Audio = base64.StdEncoding.EncodeToString(made.PNG), base64.StdEncoding.EncodeToString(made.WAV)
	return err
}
