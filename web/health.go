package web

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"login-server/events"
	"login-server/notify"
	"login-server/oidc"
	"login-server/providers"
)

func (s *Server) mountHealth(r chi.Router) {
	r.Get("/healthz", s.api(s.healthz))
	r.Get("/readyz", s.api(s.readyz))
	if s.Config.MetricsToken != "" {
		r.Get("/metrics", s.api(s.guardedMetrics))
	}
}

// healthz serves GET /healthz: the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, map[string]string{"status": "ok"})
}

// errStopping is meant for balancers, and nothing that anybody has to look at.
var errStopping = &Error{Status: http.StatusServiceUnavailable, Code: "stopping", Message: "The server is stopping.", RetryAfter: 5}

// readyz serves GET /readyz: the database answers, and the server is not stopping.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if !s.ready.Load() {
		return errStopping
	}
	if err := s.Store.Ping(r.Context()); err != nil {
		return &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", Message: "The database does not answer.", RetryAfter: 5, Cause: err}
	}
	return writeJSON(w, map[string]string{"status": "ready"})
}

// metrics are the numbers for Prometheus.
type metrics struct {
	handler  http.Handler
	requests [len(classes)]prometheus.Counter // by class of status
	duration prometheus.Histogram
	logins   *prometheus.CounterVec
	tokens   *prometheus.CounterVec // of the OpenID Provider, and its errors
	refusals *prometheus.CounterVec
}

func (s *Server) newMetrics() metrics {
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "login_server_http_requests_total", Help: "Requests answered, by class of status.",
	}, []string{"status"})
	m := metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "login_server_http_request_seconds", Help: "Time to answer a request.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "login_server_logins_total", Help: "Attempts to sign in, by provider and result: ok, refused or failed.",
		}, []string{"provider", "result"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "login_server_tokens_total", Help: "Answers with an access token, by client and grant type; implicit are those of the authorization endpoint.",
		}, []string{"client", "grant_type"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "login_server_oauth_errors_total", Help: "Errors that clients were answered with, by endpoint and code.",
		}, []string{"endpoint", "error"}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "login_server_" + name, Help: help}, value)
	}
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		requests, m.duration, m.logins, m.tokens, m.refusals,
		gauge("sockets", "Open WebSockets.", func() float64 { return float64(s.hub.Stats().Sockets) }),
		gauge("socket_sessions", "Sessions with open WebSockets.", func() float64 { return float64(s.hub.Stats().Sessions) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "login_server_sockets_dropped_total", Help: "WebSockets dropped because they did not keep up."},
			func() float64 { return float64(s.hub.Stats().Dropped) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "login_server_password_hashes_total", Help: "Passwords of accounts that live here that were hashed or compared."},
			func() float64 { return float64(s.desk.Hashes()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "login_server_password_hashes_refused_total", Help: "Passwords that were not, because too many waited: whoever sent them was asked to come again."},
			func() float64 { return float64(s.desk.HashesRefused()) }),
		gauge("password_hashes_waiting", "Passwords that wait for their turn.", func() float64 { return float64(s.desk.HashesWaiting()) }),
		providerHealth{s.Providers},
		logouts{s.openid.Logouts()},
		messages{s.Notify},
		gauge("database_up", "0 while the database does not answer.", func() float64 { return number(!s.Store.Stats().Away) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "login_server_database_failures_total", Help: "Calls of the database that failed because it did not answer."},
			func() float64 { return float64(s.Store.Stats().Failed) }),
	)
	if bus, ok := s.Bus.(*events.RedisBus); ok {
		registry.MustRegister(busNumbers{bus})
	}
	if s.Nodes != nil {
		registry.MustRegister(gauge("nodes", "Nodes that live on this store, this one included, as of its last look.", func() float64 { return float64(s.Nodes()) }))
	}
	if shared := s.limits.shared; shared != nil {
		registry.MustRegister(gauge("limits_in_memory", "1 while each node counts rate limits for itself, because Redis does not answer.", func() float64 {
			return number(shared.inMemory())
		}))
	}
	for i, class := range classes {
		m.requests[i] = requests.WithLabelValues(class)
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

// logouts is how the telling of clients of ends of sessions goes.
type logouts struct{ of *oidc.Logouts }

var (
	logoutsTold = prometheus.NewDesc("login_server_logout_tokens_total",
		"Logout tokens sent to clients, by result: delivered, refused (the client could not use it), failed (sent again later) or dropped (given up after a day).", []string{"result"}, nil)
	logoutsWaiting = prometheus.NewDesc("login_server_logout_tokens_waiting",
		"Clients that have not been told yet of the end of a session.", nil, nil)
)

func (l logouts) Describe(c chan<- *prometheus.Desc) {
	c <- logoutsTold
	c <- logoutsWaiting
}

func (l logouts) Collect(c chan<- prometheus.Metric) {
	stats := l.of.Stats()
	for result, n := range map[string]uint64{"delivered": stats.Delivered, "refused": stats.Refused, "failed": stats.Failed, "dropped": stats.Dropped} {
		c <- prometheus.MustNewConstMetric(logoutsTold, prometheus.CounterValue, float64(n), result)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if n, err := l.of.Waiting(ctx); err == nil {
		c <- prometheus.MustNewConstMetric(logoutsWaiting, prometheus.GaugeValue, float64(n))
	}
}

// messages is how mails and SMS are sent.
type messages struct{ queue *notify.Queue }

var (
	messagesTotal = prometheus.NewDesc("login_server_messages_total",
		"Mails and SMS by what became of them: sent, failed (tried again later), refused or late (given up), limited (too many: not queued) or decoy (never meant to be sent).", []string{"channel", "kind", "result"}, nil)
	messagesWaiting = prometheus.NewDesc("login_server_messages_waiting", "Mails and SMS that wait to be sent.", []string{"channel"}, nil)
	messagesFailed  = prometheus.NewDesc("login_server_messages_failed", "Mails and SMS that were given up in the last seven days.", []string{"channel"}, nil)
	messagesOldest  = prometheus.NewDesc("login_server_messages_oldest_seconds", "How long the oldest mail or SMS that waits has waited.", []string{"channel"}, nil)
)

func (m messages) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{messagesTotal, messagesWaiting, messagesFailed, messagesOldest} {
		c <- d
	}
}

func (m messages) Collect(c chan<- prometheus.Metric) {
	for r, n := range m.queue.Counts() {
		c <- prometheus.MustNewConstMetric(messagesTotal, prometheus.CounterValue, float64(n), r.Channel, r.Kind, r.Result)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, channel := range []string{notify.ChannelMail, notify.ChannelSMS} {
		stats, err := m.queue.Stats(ctx, channel)
		if err != nil {
			return
		}
		c <- prometheus.MustNewConstMetric(messagesWaiting, prometheus.GaugeValue, float64(stats.Waiting), channel)
		c <- prometheus.MustNewConstMetric(messagesFailed, prometheus.GaugeValue, float64(stats.Failed), channel)
		c <- prometheus.MustNewConstMetric(messagesOldest, prometheus.GaugeValue, stats.Oldest.Seconds(), channel)
	}
}

// busNumbers is how nodes hear of each other.
type busNumbers struct{ bus *events.RedisBus }

var (
	busConnected = prometheus.NewDesc("login_server_bus_connected",
		"1 while this node hears the others through Redis, and they hear it.", nil, nil)
	busInterruptions = prometheus.NewDesc("login_server_bus_interruptions_total",
		"How often the connection to Redis was lost.", nil, nil)
	busHints = prometheus.NewDesc("login_server_bus_hints_total",
		"Hints of changes: published by this node, received of others, dropped (too many were waiting: everything is looked at instead) or invalid (somebody else writes to the channel).", []string{"result"}, nil)
)

func (n busNumbers) Describe(c chan<- *prometheus.Desc) {
	c <- busConnected
	c <- busInterruptions
	c <- busHints
}

func (n busNumbers) Collect(c chan<- prometheus.Metric) {
	stats := n.bus.Stats()
	c <- prometheus.MustNewConstMetric(busConnected, prometheus.GaugeValue, number(stats.Connected))
	c <- prometheus.MustNewConstMetric(busInterruptions, prometheus.CounterValue, float64(stats.Interruptions))
	for result, n := range map[string]int64{"published": stats.Published, "received": stats.Received, "dropped": stats.Dropped, "invalid": stats.Invalid} {
		c <- prometheus.MustNewConstMetric(busHints, prometheus.CounterValue, float64(n), result)
	}
}

// number is 1 for true.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// providerHealth is what is known of the providers that have been asked since they were
// opened. One that nobody has asked is in no number.
type providerHealth struct{ providers *providers.Set }

var (
	providerUp = prometheus.NewDesc("login_server_provider_up",
		"1 when the provider answered the last time that it was asked, 0 when it could not be asked.", []string{"provider"}, nil)
	providerAsked = prometheus.NewDesc("login_server_provider_asked_timestamp_seconds",
		"When the provider was asked the last time, in seconds since 1970.", []string{"provider"}, nil)
)

func (p providerHealth) Describe(c chan<- *prometheus.Desc) {
	c <- providerUp
	c <- providerAsked
}

func (p providerHealth) Collect(c chan<- prometheus.Metric) {
	for _, provider := range p.providers.All() {
		h := provider.Health()
		if !h.Known {
			continue
		}
		c <- prometheus.MustNewConstMetric(providerUp, prometheus.GaugeValue, number(h.Up), provider.ID)
		c <- prometheus.MustNewConstMetric(providerAsked, prometheus.GaugeValue, float64(h.At.UnixMilli())/1000, provider.ID)
	}
}

// classes are the label values of statuses.
var classes = [...]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (m metrics) request(status int, took time.Duration) {
	class := status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	m.requests[class].Inc()
	m.duration.Observe(took.Seconds())
}

func (m metrics) login(provider string, err error) {
	result := "ok"
	switch {
	case errors.Is(err, providers.ErrRefused), errors.Is(err, providers.ErrCancelled):
		result = "refused"
	case err != nil:
		result = "failed"
	}
	m.logins.WithLabelValues(provider, result).Inc()
}

// Metrics serves the numbers for Prometheus, unguarded: for an address of its own.
func (s *Server) Metrics() http.Handler { return s.metrics.handler }

// guardedMetrics serves GET /metrics to who knows METRICS_TOKEN.
func (s *Server) guardedMetrics(w http.ResponseWriter, r *http.Request) error {
	want := "Bearer " + s.Config.MetricsToken
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return errUnauthorized
	}
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}
