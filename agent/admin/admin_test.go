package admin

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/znode"
)

var update = flag.Bool("update", false, "write the golden files; those of Apache only in the interop test")

// fakeSource is an agent with one of everything.
type fakeSource struct {
	mu         sync.Mutex
	notReady   []string
	registered [][]byte
}

var started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (f *fakeSource) Status() api.Status {
	return api.Status{
		Name: "host-1", Version: "1.0", PID: 1, StartedAt: started, Ready: len(f.NotReady()) == 0, NotReady: f.NotReady(),
		Zab:     &api.ZabStatus{Role: "voter", State: "standalone", ClientAddr: "127.0.0.1:2181", Zxid: "0x10", Znodes: 7},
		Session: &api.SessionStatus{ID: "0x100abc0000001", State: "connected"},
	}
}

func (f *fakeSource) NotReady() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notReady
}

func (f *fakeSource) Services() api.ServiceList {
	return api.ServiceList{AsOf: started, Services: []api.ServiceSummary{{Name: "<b>demo</b>", Instances: 2, Protocols: []string{"tri"}}}}
}

func (f *fakeSource) Service(name string, filter Filter) (api.Service, bool) {
	if name != "demo" {
		return api.Service{}, false
	}
	return api.Service{Name: name + filter.Group + filter.Version + filter.Protocol, Instances: []api.Instance{}}, true
}

func (f *fakeSource) Registrations() api.RegistrationList {
	return api.RegistrationList{Registrations: []api.Registration{{ID: "demo:1", Service: "demo", State: "registered"}}}
}

func (f *fakeSource) Register(_ context.Context, file []byte) (api.RegisterResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case strings.Contains(string(file), "disk"):
		return api.RegisterResult{}, errors.New("disk full")
	case !strings.HasPrefix(string(file), "service:"):
		return api.RegisterResult{}, &RequestError{errors.New("line 1: no service")}
	}
	f.registered = append(f.registered, file)
	return api.RegisterResult{IDs: []string{"demo:1"}}, nil
}

func (f *fakeSource) Deregister(_ context.Context, id string) (bool, error) {
	return id == "demo:1", nil
}

func (f *fakeSource) ConfigStatus() api.ConfigStatus {
	return api.ConfigStatus{Targets: []api.TargetStatus{{Name: "app", From: "/config/app", To: "/etc/app", State: "current"}}}
}

func (f *fakeSource) Metrics() []server.Metric {
	return []server.Metric{{Name: "paddock_ready", Value: 1, Help: "1 while ready"}}
}

// startZooKeeper runs a server in this process.
func startZooKeeper(t testing.TB, change func(*server.Config)) *server.Server {
	t.Helper()
	cfg := server.Config{
		Listen: "127.0.0.1:0", FourLetterWords: []string{"*"},
		Znode:   znode.Config{Digest: true},
		Storage: storage.Config{DataDir: filepath.Join(t.TempDir(), "data"), NoForceSync: true},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := server.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	if cfg.Ensemble != nil {
		return s // it waits for others
	}
	for deadline := time.Now().Add(10 * time.Second); !s.State().Serving; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the server does not serve")
		}
	}
	return s
}

// newAdmin returns an HTTP side that does not listen.
func newAdmin(zk *server.Server, src Source) *Server {
	a, err := newServer(Config{Source: src, ZooKeeper: zk, Pprof: true})
	if err != nil {
		panic(err)
	}
	return a
}

// ask sends a request from this host, unless change says otherwise.
func ask(h http.Handler, method, target, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:9"
	if change != nil {
		change(r)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// golden compares text with a file in testdata line by line.
func golden(t *testing.T, file, got string) {
	t.Helper()
	name := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, file, got, string(b))
}

func compare(t *testing.T, what, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		line := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return "(end)"
		}
		if line(g) != line(w) {
			from := max(0, i-8)
			t.Errorf("%s, line %d: got %q, want %q; it follows\n%s", what, i+1, line(g), line(w), strings.Join(g[from:min(i, len(g))], "\n"))
			return
		}
	}
}

func TestAPI(t *testing.T) {
	src := &fakeSource{}
	h := newAdmin(nil, src).Handler()
	for _, tc := range []struct {
		method, target, body string
		status               int
		contentType, want    string // want: the body, or with … at its end how it begins
	}{
		{"GET", "/livez", "", 200, "text/plain; charset=utf-8", "ok\n"},
		{"GET", "/readyz", "", 200, "text/plain; charset=utf-8", "ok\n"},
		{"GET", "/v1/status", "", 200, "application/json", "{\n  \"name\": \"host-1\",…"},
		{"GET", "/v1/services", "", 200, "application/json", "{\n  \"services\": [\n…"},
		{"GET", "/v1/services/demo?group=a&version=b&protocol=c", "", 200, "application/json", "{\n  \"name\": \"demoabc\",…"},
		{"GET", "/v1/services/none", "", 404, "application/json", "{\"error\":\"service \\\"none\\\" is not known\"}\n"},
		{"GET", "/v1/registrations", "", 200, "application/json", "{\n  \"registrations\": [\n…"},
		{"PUT", "/v1/registrations", "service: {}", 200, "application/json", "{\n  \"ids\": [\n    \"demo:1\"\n  ]\n}\n"},
		{"PUT", "/v1/registrations", "nonsense", 400, "application/json", "{\"error\":\"line 1: no service\"}\n"},
		{"PUT", "/v1/registrations", "disk", 500, "application/json", "{\"error\":\"disk full\"}\n"},
		{"PUT", "/v1/registrations", strings.Repeat("x", maxBody+1), 413, "application/json", "{\"error\":\"request body: …"},
		{"POST", "/v1/registrations", "service: {}", 404, "application/json", "…"},
		{"DELETE", "/v1/registrations/demo:1", "", 204, "", ""},
		{"DELETE", "/v1/registrations/demo%2F1", "", 404, "application/json", "{\"error\":\"registration \\\"demo/1\\\" is not known\"}\n"},
		{"GET", "/v1/config/status", "", 200, "application/json", "{\n  \"targets\": [\n…"},
		{"GET", "/v1/other", "", 404, "application/json", "{\"error\":\"GET /v1/other is not part of the API\"}\n"},
		{"TRACE", "/v1/status", "", 404, "application/json", "…"},
		{"GET", "/nowhere", "", 404, "text/plain; charset=utf-8", "404 page not found\n"},
		{"GET", "/commands/srvr", "", 200, "application/json", "{\n  \"command\" : \"srvr\",\n  \"error\" : \"This ZooKeeper instance is not currently serving requests\"\n}"},
		{"GET", "/commands/snapshot", "", 200, "application/json", "{\n  \"command\" : \"snapshot\",\n  \"error\" : \"This ZooKeeper instance is not currently serving requests\"\n}"},
	} {
		rec := ask(h, tc.method, tc.target, tc.body, nil)
		got := rec.Body.String()
		begin, open := strings.CutSuffix(tc.want, "…")
		if rec.Code != tc.status || got != tc.want && !(open && strings.HasPrefix(got, begin)) {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.target, rec.Code, got, tc.status, tc.want)
		}
		if ct := rec.Header().Get("Content-Type"); tc.contentType != "" && ct != tc.contentType {
			t.Errorf("%s %s: type %q, want %q", tc.method, tc.target, ct, tc.contentType)
		}
	}
	src.notReady = []string{"no session", "registry is behind"}
	if rec := ask(h, "GET", "/readyz", "", nil); rec.Code != 503 || rec.Body.String() != "not ready: no session; registry is behind\n" {
		t.Errorf("/readyz: %d %q", rec.Code, rec.Body)
	}
	if n := len(src.registered); n != 1 {
		t.Errorf("%d registrations came through, want 1", n)
	}
}

func TestPage(t *testing.T) {
	rec := ask(newAdmin(nil, &fakeSource{notReady: []string{"no <i>session</i>"}}).Handler(), "GET", "/", "", nil)
	body := rec.Body.String()
	for _, want := range []string{"host-1", "not ready", "no &lt;i&gt;session", "&lt;b&gt;demo", "demo:1", "/config/app", "0x10"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not have %q:\n%s", want, body)
		}
	}
	if csp := rec.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("policy %q", csp)
	}
}

func TestPageIsBounded(t *testing.T) {
	body := ask(newAdmin(nil, manyServices{}).Handler(), "GET", "/", "", nil).Body.String()
	if n := strings.Count(body, "<td><code>s</code>"); n != maxRows || !strings.Contains(body, "and <a href=\"/v1/services\">7 more</a>") {
		t.Errorf("%d services are shown:\n%s", n, body[len(body)-2000:])
	}
}

type manyServices struct{ *fakeSource }

func (manyServices) Status() api.Status                  { return api.Status{} }
func (manyServices) Registrations() api.RegistrationList { return api.RegistrationList{} }
func (manyServices) ConfigStatus() api.ConfigStatus      { return api.ConfigStatus{} }
func (manyServices) Services() api.ServiceList {
	return api.ServiceList{Services: slices.Repeat([]api.ServiceSummary{{Name: "s"}}, maxRows+7)}
}

func TestCommandURL(t *testing.T) {
	for _, url := range []string{"commands", "/commands/", "/", "/a{b}", "/a b"} {
		if _, err := newServer(Config{CommandURL: url, Source: &fakeSource{}}); err == nil {
			t.Errorf("command url %q was taken", url)
		}
	}
	a, err := newServer(Config{CommandURL: "/zk/admin", Source: &fakeSource{}})
	if err != nil {
		t.Fatal(err)
	}
	if rec := ask(a.Handler(), "GET", "/zk/admin", "", nil); !strings.Contains(rec.Body.String(), `<a href="/zk/admin/srvr">srvr</a>`) {
		t.Errorf("list of commands: %d %s", rec.Code, rec.Body)
	}
	for _, path := range []string{"/zk/admin/", "/zk/admin/ruok"} {
		if rec := ask(a.Handler(), "GET", path, "", nil); rec.Code != 200 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}
