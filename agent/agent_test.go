package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/paddockio/paddock/agent/config"
	"github.com/paddockio/paddock/configsync"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// world is the directories of one host.
type world struct{ dir, services, files string }

func newWorld(t *testing.T) world {
	dir := t.TempDir()
	w := world{dir, filepath.Join(dir, "services.d"), filepath.Join(dir, "files")}
	if err := os.Mkdir(w.services, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w world) config() config.Config {
	c := config.Default()
	c.Name, c.DataDir = "host-1", filepath.Join(w.dir, "data")
	c.Zab.Role, c.Zab.Server.Listen = config.RoleVoter, "127.0.0.1:0"
	c.Registry.Services.Dir, c.Registry.Advertise = w.services, "127.0.0.1"
	c.DNS.Listen, c.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	c.ConfigSync = []configsync.Target{{Name: "app", From: "/config/app", To: w.files + "/", Tree: true}}
	return c
}

// run starts an agent and returns it with a function that stops it.
func run(t *testing.T, cfg config.Config) (*Agent, func()) {
	t.Helper()
	a, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	t.Cleanup(stop)
	return a, stop
}

func connect(t *testing.T, a *Agent) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Servers: a.zookeeper.Load().Addr().String(), SessionTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// await tries until it succeeds or ten seconds have passed: the parts are real.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (w world) writeService(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.services, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func children(ctx context.Context, c *client.Client, path string, want int) func() error {
	return func() error {
		names, _, err := c.Children(ctx, path)
		if errors.Is(err, wire.ErrNoNode) && want == 0 {
			return nil
		}
		if err == nil && len(names) != want {
			err = fmt.Errorf("%d children, want %d", len(names), want)
		}
		return err
	}
}

func TestServiceFileIsRegisteredAndAnswered(t *testing.T) {
	w := newWorld(t)
	a, _ := run(t, w.config())
	ctx, c := t.Context(), connect(t, a)
	w.writeService(t, "shop.yaml", "service: {name: org.demo.Shop, protocol: dubbo, port: 20880}\n")
	await(t, "registration", children(ctx, c, "/dubbo/org.demo.Shop/providers", 1))

	await(t, "DNS", func() error {
		q := new(dns.Msg).SetQuestion("org.demo.shop.service.paddock.", dns.TypeSRV)
		r, err := dns.Exchange(q, a.names.Addr().String())
		if err != nil {
			return err
		}
		if len(r.Answer) != 1 || r.Answer[0].(*dns.SRV).Port != 20880 {
			return fmt.Errorf("answer %v", r)
		}
		return nil
	})

	// A bad file takes nothing away and is reported.
	w.writeService(t, "bad.yaml", "service: {name: org.demo.Bad, prot: 1}\n")
	await(t, "report of the bad file", func() error {
		if errs := a.Status().Registry.FileErrors; len(errs) != 1 || !strings.Contains(errs[0], "bad.yaml") {
			return fmt.Errorf("file errors %q", errs)
		}
		return nil
	})
	if err := children(ctx, c, "/dubbo/org.demo.Shop/providers", 1)(); err != nil {
		t.Errorf("after a bad file: %v", err)
	}

	if err := os.Remove(filepath.Join(w.services, "shop.yaml")); err != nil {
		t.Fatal(err)
	}
	await(t, "deregistration", children(ctx, c, "/dubbo/org.demo.Shop/providers", 0))
}

func TestConfigZnodeBecomesAFile(t *testing.T) {
	w := newWorld(t)
	a, _ := run(t, w.config())
	ctx, c := t.Context(), connect(t, a)
	for _, p := range []string{"/config", "/config/app"} {
		if _, _, err := c.Create(ctx, p, nil, nil, wire.Persistent); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Create(ctx, "/config/app/app.properties", []byte("a=1\n"), nil, wire.Persistent); err != nil {
		t.Fatal(err)
	}
	content := func(want string) func() error {
		return func() error {
			b, err := os.ReadFile(filepath.Join(w.files, "app.properties"))
			if err == nil && string(b) != want {
				err = fmt.Errorf("content %q, want %q", b, want)
			}
			return err
		}
	}
	await(t, "first file", content("a=1\n"))
	if _, err := c.Set(ctx, "/config/app/app.properties", []byte("a=2\n"), -1); err != nil {
		t.Fatal(err)
	}
	await(t, "changed file", content("a=2\n"))
}

// TestRestartIsInvisible holds that an agent which starts again within its
// session timeout changes nothing for who watches the services.
func TestRestartIsInvisible(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	w.writeService(t, "shop.yaml", "service: {name: org.demo.Shop, protocol: dubbo, port: 20880}\n")
	a, stop := run(t, cfg)
	c := connect(t, a)
	await(t, "registration", children(t.Context(), c, "/dubbo/org.demo.Shop/providers", 1))
	names, before, err := c.Children(t.Context(), "/dubbo/org.demo.Shop/providers")
	if err != nil {
		t.Fatal(err)
	}
	_, node, err := c.Get(t.Context(), "/dubbo/org.demo.Shop/providers/"+names[0])
	if err != nil {
		t.Fatal(err)
	}
	stop()

	a, _ = run(t, cfg)
	c = connect(t, a)
	await(t, "the agent is ready again", func() error {
		if why := a.NotReady(); len(why) > 0 {
			return errors.New(strings.Join(why, "; "))
		}
		for _, r := range a.Registrations().Registrations {
			if r.State != "registered" {
				return fmt.Errorf("%s is %s", r.ID, r.State)
			}
		}
		if n := len(a.Registrations().Registrations); n != 1 {
			return fmt.Errorf("%d registrations", n)
		}
		return nil
	})
	_, after, err := c.Children(t.Context(), "/dubbo/org.demo.Shop/providers")
	if err != nil {
		t.Fatal(err)
	}
	_, same, err := c.Get(t.Context(), "/dubbo/org.demo.Shop/providers/"+names[0])
	if err != nil {
		t.Fatal(err)
	}
	if before != after || node != same {
		t.Errorf("the restart changed the znodes: %+v %+v, before %+v %+v", after, same, before, node)
	}
	if !a.Status().Session.Resumed {
		t.Errorf("the session was not taken up")
	}
}

func TestHTTP(t *testing.T) {
	w := newWorld(t)
	a, _ := run(t, w.config())
	await(t, "ready", func() error {
		if why := a.NotReady(); len(why) > 0 {
			return errors.New(strings.Join(why, "; "))
		}
		return nil
	})
	ask := func(method, path, body string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:9"
		rec := httptest.NewRecorder()
		a.admin.Handler().ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		contains           string
	}{
		{"GET", "/livez", "", 200, "ok"},
		{"GET", "/readyz", "", 200, "ok"},
		{"GET", "/v1/status", "", 200, `"state": "standalone"`},
		{"GET", "/v1/services/none", "", 404, "not known"},
		{"PUT", "/v1/registrations", "service: {name: a, protocol: http, prot: 1}", 400, "prot"},
		{"PUT", "/v1/registrations", "service: {name: api, protocol: http, port: 9000}", 200, "api:9000"},
		{"DELETE", "/v1/registrations/nobody", "", 404, "not known"},
		{"GET", "/v1/registrations", "", 200, `"source": "api"`},
		{"DELETE", "/v1/registrations/api:9000", "", 204, ""},
		{"GET", "/v1/config/status", "", 200, `"name": "app"`},
		{"GET", "/v1/other", "", 404, "not part of the API"},
		{"GET", "/commands", "", 200, `<a href="/commands/srvr">srvr</a>`},
		{"GET", "/commands/srvr", "", 200, "\"command\" : \"server_stats\",\n  \"error\" : null\n}"},
		{"GET", "/commands/nonsense", "", 200, "Unknown command: nonsense"},
		{"GET", "/commands/zabstate", "", 200, `"voting" : false`},
		{"GET", "/commands/snapshot", "", 401, "Auth info is missing"},
		{"GET", "/metrics", "", 200, "znode_count "},
		{"GET", "/", "", 200, "host-1"},
		{"TRACE", "/commands", "", 405, ""},
	} {
		status, body := ask(tc.method, tc.path, tc.body)
		if status != tc.status || !strings.Contains(body, tc.contains) {
			t.Errorf("%s %s: status %d, %s; want %d with %q", tc.method, tc.path, status, body, tc.status, tc.contains)
		}
	}
	for _, c := range []string{"conf", "cons", "dirs", "dump", "envi", "gtmk", "hash", "icfg", "isro", "lsnp", "lead", "mntr", "obsr", "ruok", "stat", "sysp", "voting_view", "wchs", "wchc", "wchp"} {
		if status, body := ask("GET", "/commands/"+c, ""); status != 200 || !strings.Contains(body, `"command" : "`) {
			t.Errorf("/commands/%s: %d %s", c, status, body)
		}
	}

	r := httptest.NewRequest("PUT", "/v1/registrations", strings.NewReader("service: {name: evil, protocol: http, port: 1}"))
	r.Header.Set("Origin", "http://elsewhere.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	rec := httptest.NewRecorder()
	a.admin.Handler().ServeHTTP(rec, r)
	if rec.Code != http.StatusForbidden {
		t.Errorf("a page of another site could register a service: %d", rec.Code)
	}
}

func TestAServerOfAnEnsembleMustKnowItsNumber(t *testing.T) {
	c := newWorld(t).config()
	c.Zab.Servers = []string{"server.1=127.0.0.1:2888:3888", "server.2=127.0.0.2:2888:3888", "server.3=127.0.0.3:2888:3888"}
	if _, err := New(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "set zab.id, or write its number to ") {
		t.Errorf("error %v", err)
	}
}

func TestATakenPortNamesItsSetting(t *testing.T) {
	w := newWorld(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		set  func(*config.Config, string)
		want string
	}{
		{func(c *config.Config, addr string) { c.Zab.Server.Listen = addr }, "address already in use by another process: change zab.client_listen in the file, or -zab.client_listen"},
		{func(c *config.Config, addr string) { c.DNS.Listen = addr }, "address already in use by another process: change dns.listen in the file, or -dns.listen"},
		{func(c *config.Config, addr string) { c.Admin.Listen = addr }, ""}, // runs without
	} {
		c := w.config()
		tc.set(&c, taken.Addr().String())
		a, err := New(c, slog.New(slog.DiscardHandler))
		if tc.want == "" && err == nil {
			if a.admin != nil {
				t.Errorf("HTTP at %v, which is taken", a.admin.Addr())
			}
			if err := a.close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.HasSuffix(err.Error(), tc.want) || tc.want == "" {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

func TestOneAgentForADataDirectory(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Zab.Role, cfg.Zab.Client.Servers, cfg.DNS.Listen = config.RoleClient, "127.0.0.1:1", ""
	run(t, cfg)
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("error %v", err)
	}
}

func TestTheDevBannerCanBePasted(t *testing.T) {
	cfg, err := config.Load(config.Options{Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err = prepareDev(cfg, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	cfg.Zab.Server.Listen, cfg.DNS.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	a, _ := run(t, cfg)
	var out strings.Builder
	if err := a.serveDev(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf(" cli -server 127.0.0.1:%d ls -R /dubbo\n", a.zookeeper.Load().Port()),
		fmt.Sprintf("dig @127.0.0.1 -p %d SRV org.apache.demo.greeter.service.paddock +short\n", a.names.Addr().Port()),
		"curl http://" + a.admin.Addr().String() + "/v1/services\n",
		" set /config/app/app.properties greeting=hi && sleep 1 && cat " + cfg.ConfigSync[0].To + "app.properties\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for arg0, want := range map[string]string{
		"/tmp/go-build12/b001/exe/paddock": "go run .", "/root/.cache/go-build/ab/cd-d/paddock": "go run .",
		"./paddock": "./paddock", "/usr/bin/paddock": "/usr/bin/paddock", "paddock": "paddock",
	} {
		if got := selfCommand(arg0); got != want {
			t.Errorf("selfCommand(%s) = %s, want %s", arg0, got, want)
		}
	}
}
