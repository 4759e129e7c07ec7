package web

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/cors"

	"login-server/oidc"
)

// maxBody is how many bytes a request body may have. No form and no name comes near;
// what is only too long for a name is read and refused as such.
const maxBody = 128 << 10

// middleware puts around the router, outside in: client address, request id, log
// and recovery, the path of BASE_URL, general headers, CORS.
func (s *Server) middleware(next http.Handler) http.Handler {
	next = s.protect(next)
	next = s.cors(next)
	next = s.headers(next)
	next = s.mounted(next)
	next = s.observe(next)
	if len(s.Config.TrustedProxies) > 0 {
		trusted := make([]string, len(s.Config.TrustedProxies))
		for i, prefix := range s.Config.TrustedProxies {
			trusted[i] = prefix.String()
		}
		next = middleware.ClientIPFromXFF(trusted...)(next)
	}
	return next
}

// cors lets pages of allowed origins read the answers of all paths of the older API, the
// pages included: the client fetches /login and follows its redirect. go-chi/cors decides;
// to a pre-flight it names only what was asked for, where the older program named all.
// What belongs to the OpenID Provider has rules of its own.
func (s *Server) cors(next http.Handler) http.Handler {
	older := s.olderCORS(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimSuffix(r.URL.Path, "/") // as the router sees it
		methods, forClients := clientPaths[path]
		switch {
		case isAdminPath(path):
			next.ServeHTTP(w, r) // for our own pages only
		case path == oidc.PathJWKS && s.Config.AllowedOrigin(r.Header.Get("Origin")):
			older.ServeHTTP(w, r)
		case forClients:
			s.clientCORS(w, r, path, methods, next)
		case strings.HasPrefix(path, "/oauth/"):
			next.ServeHTTP(w, r) // pages of the protocol, and what only servers ask for
		default:
			older.ServeHTTP(w, r)
		}
	})
}

// clientPaths are what pages of clients may call, and how. They come with tokens and
// never with cookies; but that, as everywhere in the older API, allowed origins may hear
// events with the cookie.
var clientPaths = map[string]string{
	oidc.PathConfiguration: "GET", oidc.PathServer: "GET", oidc.PathJWKS: "GET", oidc.PathUserInfo: "GET, POST",
	oidc.PathToken: "POST", oidc.PathRevoke: "POST", oidc.PathPush: "POST", oidc.PathDevice: "POST",
	oidc.PathEvents: "GET", oidc.PathEventTicket: "POST",
}

// clientCORS lets pages of clients read the answers of a path, and those of allowed origins.
func (s *Server) clientCORS(w http.ResponseWriter, r *http.Request, path, methods string, next http.Handler) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	preflight := r.Method == http.MethodOptions && origin != "" && r.Header.Get("Access-Control-Request-Method") != ""
	own := s.Config.AllowedOrigin(origin)
	if own || s.openid.AllowsOrigin(r.Context(), origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		if own && path == oidc.PathEvents {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
		if preflight {
			h.Set("Access-Control-Allow-Methods", methods)
			h.Set("Access-Control-Allow-Headers", "Authorization, DPoP, Content-Type, Accept, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
		} else {
			h.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate")
		}
	}
	if preflight {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	next.ServeHTTP(w, r)
}

func (s *Server) olderCORS(next http.Handler) http.Handler {
	methods := []string{"GET", "PUT", "POST", "PATCH", "DELETE"}
	headers := []string{"Origin", "X-Requested-With", "Content-Type", "Accept", "Authorization"}
	shownMethods, shownHeaders := []string{strings.Join(methods, ",")}, []string{strings.Join(headers, ",")}
	return cors.Handler(cors.Options{
		AllowOriginFunc: func(_ *http.Request, origin string) bool { return s.Config.AllowedOrigin(origin) },
		// Browsers ask for no leave to send HEAD; it gets the headers of GET.
		AllowedMethods:     append(methods, "HEAD"),
		AllowedHeaders:     headers,
		ExposedHeaders:     []string{"X-Total-Count", "Link"},
		AllowCredentials:   true,
		MaxAge:             600,
		OptionsPassthrough: true,
	})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if h.Get("Access-Control-Allow-Origin") != "" {
			h["Access-Control-Allow-Methods"], h["Access-Control-Allow-Headers"] = shownMethods, shownHeaders
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" && r.Header.Get("Origin") != "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// answer notes what a handler answers, and which request it answers.
type answer struct {
	http.ResponseWriter
	status int
	boot   string
	number uint64
}

// requestID names a request in the log and on error pages.
func requestID(w http.ResponseWriter) string {
	a, ok := w.(*answer)
	if !ok {
		return ""
	}
	return a.boot + "-" + strconv.FormatUint(a.number, 36)
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// observe gives each request its id, counts it, logs what changes something or
// fails, and turns a panic into an error page.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a := &answer{ResponseWriter: w, boot: s.boot, number: s.requests.Add(1)}
		away := s.Store.Stats().Away // it may be back before the answer is written
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("panic", "request_id", requestID(a), "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				if a.status == 0 {
					s.answerError(a, r, &Error{Status: http.StatusInternalServerError, Code: "internal", Message: "Something went wrong."})
				}
			}
			s.metrics.request(a.status, time.Since(start))
			if a.status == http.StatusServiceUnavailable && (away || s.Store.Stats().Away || !s.ready.Load()) {
				return // that is logged when it begins, and when it ends
			}
			if level, ok := logLevel(r.Method, a.status); ok {
				s.Log.Log(r.Context(), level, "request", "request_id", requestID(a), "method", r.Method, "path", r.URL.Path,
					"status", a.status, "ms", time.Since(start).Milliseconds(), "client", clientAddress(r))
			}
		}()
		next.ServeHTTP(a, r)
	})
}

// logLevel says whether a request is worth a line: reads that succeed are counted
// in the metrics only. Queries are never logged; they may hold what is not ours.
func logLevel(method string, status int) (slog.Level, bool) {
	switch {
	case status >= 500:
		return slog.LevelError, true
	case status >= 400 && status != http.StatusUnauthorized && status != http.StatusNotFound:
		return slog.LevelWarn, true
	case method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions:
		return slog.LevelInfo, true
	}
	return 0, false
}

// clientAddress is the address a request comes from, seen through trusted proxies.
func clientAddress(r *http.Request) string {
	if ip := middleware.GetClientIP(r.Context()); ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// Values of headers that never change.
var (
	nosniff  = []string{"nosniff"}
	deny     = []string{"DENY"}
	referrer = []string{"same-origin"}
	hsts     = []string{"max-age=31536000"}
)

// headers sets what every answer has, and limits the body of the request.
func (s *Server) headers(next http.Handler) http.Handler {
	secure := s.Config.BaseURL.Scheme == "https"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Content-Type-Options"] = nosniff
		h["X-Frame-Options"] = deny
		h["Referrer-Policy"] = referrer
		if secure {
			h["Strict-Transport-Security"] = hsts
		}
		if r.Body != nil && r.Body != http.NoBody {
			most := int64(maxBody)
			if r.Method == http.MethodPost && r.URL.Path == picturePath {
				most = maxPictureForm
			}
			r.Body = http.MaxBytesReader(w, r.Body, most)
		}
		next.ServeHTTP(w, r)
	})
}

// protect refuses requests that change something and come from another site. The
// API takes them from allowed origins, pages from their own origin only, or a form
// elsewhere could sign people in to, or merge them with, an account of its author.
func (s *Server) protect(next http.Handler) http.Handler {
	pages := http.NewCrossOriginProtection()
	calls := http.NewCrossOriginProtection()
	for _, origin := range s.Config.AllowedOrigins {
		if err := calls.AddTrustedOrigin(origin); err != nil {
			s.Log.Warn("origin cannot be trusted", "origin", origin, "err", err)
		}
	}
	// Behind a proxy the Host may be another than that of BASE_URL.
	if err := pages.AddTrustedOrigin(s.Config.Origin()); err != nil {
		s.Log.Warn("origin cannot be trusted", "origin", s.Config.Origin(), "err", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
		case http.MethodPost:
			from := pages
			if isCallPath(r.URL.Path) && !isAdminPath(r.URL.Path) {
				from = calls
			}
			if from.Check(r) != nil && !isAnswerPath(r.URL.Path) && !isProtocolPath(r.URL.Path) && !isTicketPath(r.URL.Path) {
				s.answerError(w, r, errCrossSite)
				return
			}
		default:
			from := calls
			if isAdminPath(r.URL.Path) {
				from = pages
			}
			if from.Check(r) != nil {
				s.answerError(w, r, errCrossSite)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// navigation tells how a GET that changes something was brought about
// (Fetch Metadata, https://www.w3.org/TR/fetch-metadata/).
type navigation int

const (
	navigationNone navigation = iota // not a navigation at all: an image, a frame, a fetch
	navigationAsk                    // somebody followed a link, but not one of ours
	navigationOwn                    // a link on our pages or on those of an allowed application
)

func (s *Server) navigation(r *http.Request) navigation {
	if r.Method != http.MethodGet || !isDocument(r) || r.Header.Get("Sec-Fetch-Mode") != "" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return navigationNone
	}
	// Without Fetch Metadata (pages that are not encrypted, older browsers) what is
	// accepted tells a page from a picture.
	if accept := r.Header.Get("Accept"); r.Header.Get("Sec-Fetch-Dest") == "" && accept != "" && !strings.Contains(accept, "text/html") {
		return navigationNone
	}
	if isPrefetch(r) {
		return navigationAsk
	}
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return navigationOwn
	}
	// The referrer names the page that was left; it cannot be forged by a page.
	if from := r.Referer(); from != "" {
		if _, err := s.Config.AllowedRedirect(from); err == nil {
			return navigationOwn
		}
	}
	return navigationAsk
}

// isPrefetch tells that the browser asks for a page that nobody has opened yet.
func isPrefetch(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Sec-Purpose")+r.Header.Get("Purpose"), "prefetch")
}

// isDocument tells a page view from a fetch by a script: only the former sees, and
// thereby uses up, the messages that wait for the person. A script on a page of
// another origin is told by its Origin where browsers do not send Fetch Metadata.
func isDocument(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return r.Method == http.MethodGet && (dest == "document" || dest == "" && r.Header.Get("Origin") == "")
}

// pathValue is a part of the path, unescaped: chi matches the path as it was sent.
func pathValue(r *http.Request, name string) string {
	value := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return value
	}
	plain, err := url.PathUnescape(value)
	if err != nil {
		return value
	}
	return plain
}

func routeOf(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil {
		return c.RoutePattern()
	}
	return ""
}

// form reads the fields of a posted form. Fields in the query string do not count.
func form(r *http.Request) (map[string]string, error) {
	if err := r.ParseForm(); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, badRequest("The form could not be read.", err)
	}
	fields := make(map[string]string, len(r.PostForm))
	for name, values := range r.PostForm {
		if !validText(values[0]) {
			return nil, badRequest("The form is not valid UTF-8.", nil)
		}
		fields[name] = values[0]
	}
	return fields, nil
}
