package web

import (
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/config"
	"login-server/notify"
)

// mountMessages shows what would have been sent, where it is only caught: in development.
// Codes and links are in it, so only who is at this machine sees it.
func (s *Server) mountMessages(r chi.Router) {
	if s.Config.Production() || s.Notify == nil || s.Notify.Catcher() == nil {
		return
	}
	r.Get("/dev/mail", s.page(s.atThisMachine(s.devMails)))
	r.Get("/dev/mail/{id}", s.page(s.atThisMachine(s.devMail)))
	r.Get("/dev/sms", s.page(s.atThisMachine(s.devSMS)))
	s.Log.Info("what is sent to people is only caught", "mail", s.Config.BaseURL.String()+"dev/mail", "sms", s.Config.BaseURL.String()+"dev/sms")
}

// atThisMachine answers a browser that runs on this machine and shows a page of this server.
// To all others there is nothing: to other machines, to scripts of other sites, of allowed
// origins too, and to sites whose name somebody has let point here.
func (s *Server) atThisMachine(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		address, err := netip.ParseAddr(clientAddress(r))
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		own := strings.EqualFold(host, s.Config.BaseURL.Hostname()) || config.Loopback(strings.Trim(host, "[]"))
		site := r.Header.Get("Sec-Fetch-Site")
		read := site != "" && site != "none" && site != "same-origin" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
		if err != nil || !address.Unmap().IsLoopback() || !own || read || r.Header.Get("Origin") != "" {
			return errNotFound
		}
		header := w.Header()
		header.Del("Access-Control-Allow-Origin")
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Cache-Control", "no-store")
		// Styles of mails are in them. What a mail says is in a frame that may do nothing.
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		return h(w, r)
	}
}

var messagesPage = template.Must(template.New("messages").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}}</title>
<link rel="stylesheet" href="{{.Style}}"><body class="wide"><main><h1>{{.Title}}</h1>
{{with .Note}}<p class="lead">{{.}}</p>{{end}}
<nav class="tabs"><a href="{{.Base}}dev/mail">Mail</a> <a href="{{.Base}}dev/sms">SMS</a></nav>
{{range .Messages}}<article class="card">{{if ne .Subject $.Title}}<h2>{{if .Link}}<a href="{{.Link}}">{{.Subject}}</a>{{else}}{{.Subject}}{{end}}</h2>{{end}}
<p class="muted uri">To {{.To}} at {{.At}}, kind {{.Kind}}</p>
{{with .Links}}<ul>{{range .}}<li class="uri"><a href="{{.}}">{{.}}</a></li>{{end}}</ul>{{end}}
{{with .Text}}<pre class="code wrap">{{.}}</pre>{{end}}
{{with .HTML}}<iframe sandbox="" title="The mail as HTML" srcdoc="{{.}}" style="width:100%;height:720px;border:1px solid var(--line)"></iframe>{{end}}
</article>{{else}}<p class="empty">Nothing was sent yet. What people would get appears here.</p>{{end}}</main></html>
`))

// shownMessage is a message on messagesPage.
type shownMessage struct {
	Subject, To, Kind, At, Link, Text, HTML string
	Links                                   []string // to pages of this server
}

func (s *Server) showMessages(w http.ResponseWriter, title, note string, messages []shownMessage) error {
	return messagesPage.Execute(w, map[string]any{"Title": title, "Note": note, "Style": s.path(s.Static.Asset("app.css")), "Base": s.base(), "Messages": messages})
}

const caughtNote = "No server is set that would send it, so it is kept here until the next start: the last hundred."

// devMails serves GET /dev/mail.
func (s *Server) devMails(w http.ResponseWriter, _ *http.Request) error {
	var shown []shownMessage
	for _, m := range s.Notify.Catcher().Mails() {
		shown = append(shown, shownMessage{Subject: m.Subject, To: recipient(m.Mail), Kind: m.Kind, At: m.At.Format(time.TimeOnly), Link: s.path("dev/mail/" + m.ID)})
	}
	return s.showMessages(w, "Mail", caughtNote, shown)
}

func recipient(m notify.Mail) string {
	if m.Name == "" {
		return m.To
	}
	return fmt.Sprintf("%s <%s>", m.Name, m.To)
}

// devMail serves GET /dev/mail/{id}.
func (s *Server) devMail(w http.ResponseWriter, r *http.Request) error {
	for _, m := range s.Notify.Catcher().Mails() {
		if m.ID == pathValue(r, "id") {
			return s.showMessages(w, m.Subject, "", []shownMessage{{Subject: m.Subject, To: recipient(m.Mail), Kind: m.Kind, At: m.At.Format(time.TimeOnly), Links: s.ownLinks(m.Text), Text: m.Text, HTML: m.HTML}})
		}
	}
	return errNotFound
}

// devSMS serves GET /dev/sms.
func (s *Server) devSMS(w http.ResponseWriter, _ *http.Request) error {
	var shown []shownMessage
	for _, m := range s.Notify.Catcher().SMS() {
		shown = append(shown, shownMessage{Subject: m.To, To: m.To, Kind: m.Kind, At: m.At.Format(time.TimeOnly), Text: m.Text})
	}
	return s.showMessages(w, "SMS", caughtNote, shown)
}

var anyLink = regexp.MustCompile(`https?://\S+`)

// ownLinks are the links in a text that lead to this server.
func (s *Server) ownLinks(text string) []string {
	var own []string
	for _, link := range anyLink.FindAllString(text, -1) {
		if strings.HasPrefix(link, s.Config.BaseURL.String()) {
			own = append(own, link)
		}
	}
	return own
}
