package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab/server"
)

// A Source is the agent as the HTTP side sees it. Its methods are safe for
// concurrent use.
type Source interface {
	Status() api.Status
	// Members lists the hosts and servers that the agent knows.
	Members() api.MemberList
	// NotReady lists why the agent is not ready to serve, nil if it is.
	NotReady() []string
	Services() api.ServiceList
	Service(name string, f Filter) (api.Service, bool)
	Registrations() api.RegistrationList
	// Register takes a service file. A [RequestError] is the caller's fault.
	Register(ctx context.Context, file []byte) (api.RegisterResult, error)
	// Deregister reports whether the id was known.
	Deregister(ctx context.Context, id string) (bool, error)
	ConfigStatus() api.ConfigStatus
	// Metrics are the agent's own numbers, beside those of the ZooKeeper server.
	Metrics() []server.Metric
}

// Filter selects among the instances of a service; empty fields match all.
type Filter struct{ Group, Version, Protocol string }

// A RequestError is answered with status 400 and its text.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return e.Err.Error() }

// Unwrap returns the fault itself.
func (e *RequestError) Unwrap() error { return e.Err }

// Config describes the HTTP side.
type Config struct {
	// Listen is the address, default 127.0.0.1:8080. Whoever reaches it can
	// register services; so it is the loopback unless it is meant otherwise.
	Listen    string
	Source    Source
	ZooKeeper *server.Server // nil: none in this process, or one that SetZooKeeper will tell
	// CommandURL is where Apache's commands stand. Default /commands.
	CommandURL string
	// Pprof serves Go profiles under /debug/pprof/, to this host only.
	Pprof  bool
	Logger *slog.Logger
}

// Server answers HTTP.
type Server struct {
	cfg      Config
	listener net.Listener
	zk       atomic.Pointer[server.Server]
	costly   chan struct{} // holds a token while a command that reveals runs

	snapshotGate sync.Mutex // held while a snapshot is made and sent
	snapshotAt   time.Time  // when the last one was made
}

// Bounds of what one client, or all of them, can take.
const (
	maxBody       = 1 << 20 // of a service file
	maxHeader     = 32 << 10
	maxConns      = 256
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second // of a whole answer; of a piece of a snapshot
	idleTimeout   = 30 * time.Second
)

// Listen opens the port.
func Listen(cfg Config) (*Server, error) {
	a, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", cmp.Or(cfg.Listen, "127.0.0.1:8080"))
	if err != nil {
		return nil, fmt.Errorf("http port: %w", err)
	}
	a.listener = newLimited(l, maxConns)
	return a, nil
}

func newServer(cfg Config) (*Server, error) {
	cfg.CommandURL = cmp.Or(cfg.CommandURL, "/commands")
	if !strings.HasPrefix(cfg.CommandURL, "/") || strings.HasSuffix(cfg.CommandURL, "/") || strings.ContainsAny(cfg.CommandURL, "{} ") {
		return nil, fmt.Errorf("command url %q is not a path like /commands", cfg.CommandURL)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Server{cfg: cfg, costly: make(chan struct{}, 1)}
	a.zk.Store(cfg.ZooKeeper)
	return a, nil
}

// Addr returns the address that it listens on.
func (a *Server) Addr() net.Addr { return a.listener.Addr() }

// Run serves until ctx ends.
func (a *Server) Run(ctx context.Context) error {
	hs := &http.Server{
		Handler: a.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(a.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if hs.Shutdown(grace) != nil {
			hs.Close()
		}
	})
	err := hs.Serve(a.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Handler returns the routes.
func (a *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	src := a.cfg.Source
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := src.NotReady(); len(why) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "not ready: %s\n", strings.Join(why, "; "))
			return
		}
		io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		st := a.status()
		if st.Session != nil && !remoteIP(r).IsLoopback() {
			s := *st.Session
			s.ID = "" // whoever knows it can take the session over
			st.Session = &s
		}
		reply(w, st)
	})
	mux.HandleFunc("GET /v1/members", func(w http.ResponseWriter, _ *http.Request) { reply(w, src.Members()) })
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) { reply(w, src.Services()) })
	mux.HandleFunc("GET /v1/services/{name}", func(w http.ResponseWriter, r *http.Request) {
		f := Filter{Group: r.FormValue("group"), Version: r.FormValue("version"), Protocol: r.FormValue("protocol")}
		s, ok := src.Service(r.PathValue("name"), f)
		if !ok {
			refuse(w, http.StatusNotFound, fmt.Errorf("service %q is not known", r.PathValue("name")))
			return
		}
		reply(w, s)
	})
	mux.HandleFunc("GET /v1/registrations", func(w http.ResponseWriter, _ *http.Request) { reply(w, src.Registrations()) })
	mux.HandleFunc("PUT /v1/registrations", a.register)
	mux.HandleFunc("DELETE /v1/registrations/{id}", a.deregister)
	mux.HandleFunc("GET /v1/config/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, src.ConfigStatus()) })
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("%s %s is not part of the API", r.Method, r.URL.Path))
	})
	mux.HandleFunc("GET "+a.cfg.CommandURL, a.listCommands)
	mux.HandleFunc("GET "+a.cfg.CommandURL+"/{$}", a.listCommands)
	mux.HandleFunc("GET "+a.cfg.CommandURL+"/{name...}", a.runCommand)
	for _, name := range findCommand("restore").names {
		mux.HandleFunc("POST "+a.cfg.CommandURL+"/"+name, func(w http.ResponseWriter, r *http.Request) {
			r.SetPathValue("name", name)
			a.runCommand(w, r)
		})
	}
	mux.Handle("GET /metrics", a.metrics())
	if a.cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", local(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/profile", local(unhurried(pprof.Profile)))
		mux.HandleFunc("GET /debug/pprof/trace", local(unhurried(pprof.Trace)))
	}
	mux.HandleFunc("GET /{$}", a.page)
	// A page of another site must not make a browser on this host change anything.
	guard := http.NewCrossOriginProtection()
	return hostGuard(guard.Handler(http.MaxBytesHandler(mux, maxBody)))
}

// crossSite reports whether a browser says that a page of another site made it
// ask.
func crossSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site != "" && site != "same-origin" && site != "none"
}

// hostGuard refuses requests to this host's loopback under a name that is none of
// it: another site's name that was made to point here, so that its pages pass
// for ours.
func hostGuard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if local != nil && local.IP.IsLoopback() && !ownName(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, fmt.Errorf("host %q is not this one: use localhost or an address", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func ownName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	name, err := os.Hostname()
	return err == nil && host == strings.ToLower(name)
}

func (a *Server) register(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		status := http.StatusBadRequest
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(w, status, fmt.Errorf("request body: %w", err))
		return
	}
	result, err := a.cfg.Source.Register(r.Context(), body)
	if err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	reply(w, result)
}

func (a *Server) deregister(w http.ResponseWriter, r *http.Request) {
	known, err := a.cfg.Source.Deregister(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		refuse(w, statusOf(err), err)
	case !known:
		refuse(w, http.StatusNotFound, fmt.Errorf("registration %q is not known", r.PathValue("id")))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func statusOf(err error) int {
	var bad *RequestError
	if errors.As(err, &bad) {
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v)
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(api.Error{Error: err.Error()})
}

func remoteIP(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr)
	return ap.Addr().Unmap()
}

// local lets only this host see profiles, wherever the port listens.
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !remoteIP(r).IsLoopback() {
			http.Error(w, "profiles are for this host only", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// unhurried takes the deadline off an answer that takes as long as was asked for.
func unhurried(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Time{})
		next(w, r)
	}
}

// metrics exports Go's own numbers and those of the parts, under Apache's names.
func (a *Server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{a})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(a.cfg.Logger.Handler(), slog.LevelWarn),
		// Not OpenMetrics, which would append _total to Apache's names.
		MaxRequestsInFlight: 4,
	})
}

// collector reads the metrics when they are asked for. It describes none, which
// makes it an unchecked one: the names come from the parts.
type collector struct{ a *Server }

func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	list := c.a.cfg.Source.Metrics()
	if zk := c.a.zooKeeper(); zk != nil {
		list = append(list, zk.Metrics()...)
	}
	for _, m := range list {
		desc := prometheus.NewDesc(m.Name, m.Help, nil, nil)
		var metric prometheus.Metric
		var err error
		switch {
		case m.Summary != nil:
			quantiles := make(map[float64]float64, len(m.Summary.Quantiles))
			for _, q := range m.Summary.Quantiles {
				quantiles[q.Q] = q.Value
			}
			metric, err = prometheus.NewConstSummary(desc, uint64(m.Summary.Count), m.Summary.Sum, quantiles)
		case m.Counter:
			metric, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, m.Value)
		default:
			metric, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, m.Value)
		}
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, err)
		}
		out <- metric
	}
}
