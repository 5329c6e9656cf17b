package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/paddockio/paddock/agent"
	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/command"
	"github.com/paddockio/paddock/agent/services"
	"github.com/paddockio/paddock/internal/testport"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"paddock": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		p := command.Program{Run: agent.Run, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		code := p.Main(ctx, os.Args[1:])
		stop()
		os.Exit(code)
	}})
}

// TestScripts runs the commands end to end: against a fake API, against a plain
// server that `server start` runs, against a whole agent.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			fake := httptest.NewServer(fakeAPI())
			e.Defer(fake.Close)
			for _, file := range []string{"data/zookeeper_server.pid", "second.pid"} {
				e.Defer(func() { killServer(t, filepath.Join(e.WorkDir, file)) })
			}
			e.Setenv("FAKE", fake.URL)
			e.Setenv("TZ", "UTC")
			for _, name := range []string{"ZK", "HTTP", "DNS", "DEAD", "SECOND"} {
				port := strconv.Itoa(testport.Port(t))
				e.Setenv(name, "127.0.0.1:"+port)
				e.Setenv(name+"PORT", port)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"expand": expand, "scrub": scrub, "keys": keys, "fetch": fetch,
		},
	})
}

// killServer ends the server that a failed script left behind: start puts it into
// a session of its own, so nobody else would.
func killServer(t *testing.T, pidFile string) {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return // the script stopped it
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil || pid <= 1 {
		return // the script made the file up
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d of %s: %v", pid, pidFile, err)
	}
}

// expand FILE... replaces $VARIABLES in files of the script.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// scrub FROM TO copies a text (stdout, stderr, a file) with what differs from run
// to run replaced: dates, session ids, addresses.
func scrub(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, r := range []struct{ pattern, with string }{
		{`(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d \w+ (2\d\d\d)`, "DATE"},
		{`2\d\d\d-\d\d-\d\dT[0-9:.]+Z`, "DATE"},
		{`0x[0-9a-f]{13,16}`, "SESSION"},
		{`127\.0\.0\.1:\d+`, "ADDR"},
		{`"took_ms": \d+`, `"took_ms": N`},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

// fetch URL prints what a server answers.
func fetch(ts *testscript.TestScript, _ bool, args []string) {
	r, err := http.Get(os.Expand(args[0], ts.Getenv))
	ts.Check(err)
	defer r.Body.Close()
	_, err = io.Copy(ts.Stdout(), r.Body)
	ts.Check(err)
}

// keys FILE puts what keys send in place of their names.
func keys(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.NewReplacer("<TAB>", "\t", "<BACK>", "\x7f", "<UP>", "\x1b[A", "\n", "\r").Replace(ts.ReadFile(args[0]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// fakeAPI answers like an agent with one service.
func fakeAPI() http.Handler {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answer := func(w http.ResponseWriter, status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // a test's client reads it whole
	}
	mux := http.NewServeMux()
	get := func(path string, v any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, v) })
	}
	get("/v1/status", api.Status{
		Name: "host-1", Version: "v1", PID: 7, StartedAt: at, UptimeMs: 61_000, Ready: true,
		Zab: &api.ZabStatus{Role: "voter", State: "standalone", ID: 1, ClientAddr: "0.0.0.0:2181", Zxid: "0x5", Epoch: 1,
			Znodes: 1, Sessions: 2, Connections: 3},
		Session:  &api.SessionStatus{ID: "0x10000", State: "connected", TimeoutMs: 10_000, Resumed: true},
		Registry: &api.RegistryStatus{Root: "/dubbo", Services: 1, Instances: 2, Registrations: 3, Passing: 2, AsOf: at, FileErrors: []string{"a.yaml:1: no"}},
		DNS:      &api.DNSStatus{Listen: "127.0.0.1:8600", Domain: "paddock.", Queries: 4}, ConfigSync: &api.ConfigSyncStatus{Targets: 1, Failing: 1},
	})
	get("/notready/v1/status", api.Status{Name: "host-1", NotReady: []string{"no quorum"}})
	get("/leads/v1/status", api.Status{Name: "host-3", Ready: true, Version: "v1", Zab: &api.ZabStatus{Role: "voter", State: "leader", ID: 3, LeaderID: 3,
		ClientAddr: "10.0.0.3:2181", Zxid: "0x500000007", Epoch: 5, Ensemble: &api.EnsembleStatus{Serving: true, Changing: true,
			Members: []api.MemberStatus{{ID: 2, Role: "participant"}, {ID: 3, Role: "participant"}, {ID: 4, Role: "observer"}}}}})
	get("/looks/v1/status", api.Status{Name: "host-1", NotReady: []string{"the ZooKeeper server does not serve"}, Version: "v1",
		Zab: &api.ZabStatus{Role: "voter", State: "looking", ID: 1, ClientAddr: "10.0.0.1:2181", Zxid: "0x0", Ensemble: &api.EnsembleStatus{
			Members:  []api.MemberStatus{{ID: 1, Role: "participant"}, {ID: 3, Role: "participant"}},
			Why:      []string{"looking for a leader, since 12 s: waits for a quorum that agrees on a leader", "1 of 2 voters are here, which is no quorum"},
			Problems: []string{"server 3 (10.0.0.3:3888) cannot be reached: connection refused, since 12 s"}}}})
	get("/v1/services", api.ServiceList{AsOf: at, Services: []api.ServiceSummary{
		{Name: "org.apache.demo.Greeter", Instances: 2, Protocols: []string{"dubbo", "tri"}, Versions: []string{"1.0.0"}}}})
	mux.HandleFunc("GET /v1/services/{name}", func(w http.ResponseWriter, r *http.Request) {
		s := api.Service{Name: r.PathValue("name"), Live: true}
		switch r.PathValue("name") {
		case "a/b":
			answer(w, 200, s)
		case "greeter":
			s.Instances = []api.Instance{
				{Host: "10.0.0.1", Port: 20880, Protocol: "dubbo", Group: r.FormValue("group"), Weight: 100, Enabled: true, App: "demo"},
				{Host: "::1", Port: 80, Protocol: "http", Version: "1.0.0"}}
			answer(w, 200, s)
		default:
			answer(w, 404, api.Error{Error: "service " + r.PathValue("name") + " is not known"})
		}
	})
	get("/v1/registrations", api.RegistrationList{Registrations: []api.Registration{
		{ID: "g:1", Service: "g", Protocol: "dubbo", Host: "10.0.0.1", Port: 1, Source: "g.yaml", State: "critical",
			Checks: []api.Check{{Name: "tcp a:1", Status: "critical", Output: "refused"}}}}})
	mux.HandleFunc("PUT /v1/registrations", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		regs, err := services.Parse("body", body)
		if err != nil {
			answer(w, 400, api.Error{Error: err.Error()})
			return
		}
		res := api.RegisterResult{}
		for _, g := range regs {
			res.IDs = append(res.IDs, g.Name+":1")
		}
		answer(w, 200, res)
	})
	mux.HandleFunc("DELETE /v1/registrations/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.PathValue("id"), "g:") {
			answer(w, 404, api.Error{Error: "no registration " + r.PathValue("id")})
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	get("/v1/config/status", api.ConfigStatus{Targets: []api.TargetStatus{
		{Name: "app", From: "/config/app", To: "/etc/app", State: "current", Zxid: "0x9", Files: 2, Bytes: 10, WrittenAt: at},
		{Name: "web", From: "/config/web", To: "/etc/web", State: "failing", Error: "check: exit status 1"}}})
	mux.HandleFunc("GET /other/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	return mux
}
