package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// start runs a registry in the bubble until the returned function is called.
func start(t *testing.T, conn Conn, cfg Config) (r *Registry, stop func()) {
	t.Helper()
	if cfg.Advertise == "" {
		cfg.Advertise = "10.0.0.1"
	}
	if cfg.Agent == "" {
		cfg.Agent = "host-1"
	}
	r, err := New(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r, func() { cancel(); wg.Wait() }
}

// pass lets d of fake time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const settled = 50 * time.Millisecond // longer than Settle, shorter than any back-off of interest

func greeter() Registration {
	return Registration{Name: "org.demo.Greeter", Port: 20880, Version: "1.0.0"}
}

const greeterID = "org.demo.Greeter:20880:1.0.0"
const greeterDir = "/dubbo/org.demo.Greeter/providers"

func mustRegister(t *testing.T, r *Registry, reg Registration) string {
	t.Helper()
	id, err := r.Register(reg)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRegistrationBecomesAnEphemeralZnodeAndAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		id := mustRegister(t, r, greeter())
		pass(settled)
		names := tree.children(greeterDir)
		if len(names) != 1 || tree.owner(greeterDir+"/"+names[0]) != conn.id {
			t.Fatalf("children %q", names)
		}
		p, err := ParseProvider(names[0])
		if err != nil || p.Protocol != "dubbo" || p.HostPort() != "10.0.0.1:20880" || p.Params.Get("interface") != "org.demo.Greeter" ||
			p.Params.Get("side") != "provider" || p.Params.Get("version") != "1.0.0" {
			t.Errorf("provider %v, %v", p, err)
		}
		if p.Encode() != names[0] {
			t.Errorf("name %q is not as Java writes it: %q", names[0], p.Encode())
		}
		s := byID(r.List(), id)
		if id != greeterID || s.State != Registered || s.Protocol != "dubbo" || s.Address != "10.0.0.1" || s.Path != greeterDir+"/"+names[0] || s.Source != API {
			t.Errorf("status of %q: %+v", id, s)
		}
		v, ok := r.Lookup("org.demo.Greeter")
		if !ok || !v.Live || !v.AsOf.Equal(time.Now()) || len(v.Instances) != 1 || v.Instances[0].Raw != names[0] {
			t.Errorf("view %+v, %v", v, ok)
		}
		if app, ok := r.LookupApp("org.demo.Greeter"); !ok || len(app.Instances) != 1 {
			t.Errorf("app %+v, %v", app, ok)
		}

		before := r.Generation()
		if err := r.Deregister(id); err != nil {
			t.Fatal(err)
		}
		pass(settled)
		if names := tree.children(greeterDir); len(names) != 0 {
			t.Errorf("still there: %q", names)
		}
		v, ok = r.Lookup("org.demo.Greeter")
		if !ok || len(v.Instances) != 0 || r.Generation() == before {
			t.Errorf("view after deregistering %+v, %v", v, ok)
		}
		if err := r.Deregister(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("second Deregister: %v", err)
		}
	})
}

func TestConsumerIsWrittenBesideTheProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		r, stop := start(t, tree.connect(), Config{})
		defer stop()
		mustRegister(t, r, Registration{Name: "org.demo.Greeter", Category: Consumers, App: "web"})
		pass(settled)
		names := tree.children("/dubbo/org.demo.Greeter/consumers")
		if len(names) != 1 || !strings.HasPrefix(names[0], "consumer%3A%2F%2F10.0.0.1%2Forg.demo.Greeter%3Fapplication%3Dweb%26category%3Dconsumers") {
			t.Errorf("consumers %q", names)
		}
		if v, ok := r.Lookup("org.demo.Greeter"); ok {
			t.Errorf("a consumer made a service: %+v", v)
		}
	})
}

// §1.7: what somebody deletes is created again, but not in a loop at full speed.
func TestForeignDeletionIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		r, stop := start(t, tree.connect(), Config{})
		defer stop()
		id := mustRegister(t, r, greeter())
		pass(settled)
		path := byID(r.List(), id).Path
		tree.takeLog()
		tree.remove(path)
		pass(time.Millisecond)
		want := fmt.Sprint([]string{"delete " + path, "create " + path})
		if got := fmt.Sprint(tree.takeLog()); got != want {
			t.Errorf("log %s, want %s", got, want)
		}
		// A fight: at most a dozen rounds in a minute.
		for range 600 {
			if len(tree.children(greeterDir)) > 0 {
				tree.remove(path)
			}
			pass(100 * time.Millisecond)
		}
		if n := len(tree.takeLog()); n > 40 {
			t.Errorf("%d creates and deletes in a minute", n)
		}
		pass(maxPause)
		if s := byID(r.List(), id); s.State != Registered {
			t.Errorf("after the fight: %+v", s)
		}
	})
}

func TestParentsDeletedUnderARunningAgentComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		r, stop := start(t, tree.connect(), Config{})
		defer stop()
		path := byIDPath(t, r, greeter())
		for p := path; p != ""; p = p[:strings.LastIndexByte(p, '/')] {
			tree.remove(p)
			synctestSettle()
		}
		pass(time.Second)
		if len(tree.children(greeterDir)) != 1 {
			t.Errorf("not registered again: %+v", r.List())
		}
	})
}

func synctestSettle() { synctest.Wait() }

func byIDPath(t *testing.T, r *Registry, reg Registration) string {
	t.Helper()
	id := mustRegister(t, r, reg)
	pass(settled)
	s := byID(r.List(), id)
	if s.State != Registered {
		t.Fatalf("%+v", s)
	}
	return s.Path
}

func TestExpiredSessionIsRegisteredAgainInTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		path := byIDPath(t, r, greeter())
		old := conn.id
		conn.disconnect()
		tree.expire(old)
		pass(time.Second)
		if live, _ := r.Live(); live {
			t.Error("live without a connection")
		}
		conn.reconnect(true)
		pass(settled)
		if tree.owner(path) != conn.id || conn.id == old {
			t.Errorf("owner %v, session %v", tree.owner(path), conn.id)
		}
		if live, _ := r.Live(); !live {
			t.Error("not live after the reconnect")
		}
	})
}

// Decision 7: the znode of our older session is still there when the new one
// starts; it would go with that session, so it is no success.
func TestZnodeOfOurOlderSessionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		path := byIDPath(t, r, greeter())
		conn.disconnect()
		conn.reconnect(true) // the server has not removed the old ephemerals yet
		pass(settled)
		if tree.owner(path) != conn.id {
			t.Errorf("owner %v, want %v", tree.owner(path), conn.id)
		}
		stop()

		// Another process without the stored session, with a URL that is equal to the byte.
		reg := greeter()
		p, _ := ParseProvider(filepath.Base(path))
		reg.Params = map[string]string{"timestamp": p.Params.Get("timestamp")}
		conn = tree.connect()
		r, stop = start(t, conn, Config{})
		defer stop()
		if got := byIDPath(t, r, reg); got != path || tree.owner(path) != conn.id {
			t.Errorf("path %s owner %v, want %s, %v", got, tree.owner(path), path, conn.id)
		}
	})
}

func TestZnodeOfSomebodyElseIsLeftAloneUntilItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		conn := tree.connect()
		r, stop := start(t, conn, Config{})
		defer stop()
		reg := greeter()
		reg.Params = map[string]string{"timestamp": "1"}
		path := join(greeterDir, reg.node("10.0.0.1", time.Now()).Encode())
		tree.put(path, 0x77)
		id := mustRegister(t, r, reg)
		pass(10 * time.Second)
		if s := byID(r.List(), id); s.State != Pending || !strings.Contains(s.Error, "0x77") || tree.owner(path) != 0x77 {
			t.Errorf("%+v, owner %v", s, tree.owner(path))
		}
		tree.expire(0x77)
		pass(time.Millisecond)
		if s := byID(r.List(), id); s.State != Registered || s.Error != "" || tree.owner(path) != conn.id {
			t.Errorf("%+v, owner %v", s, tree.owner(path))
		}
	})
}

// Decision 8: a restart within the session is not seen by any watcher.
func TestRestartInTheSameSessionChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		dir := t.TempDir()
		conn := tree.connect()
		cfg := Config{Dir: dir, Sources: []string{"files"}, Probe: func(context.Context, Check) error { return nil }}
		r, stop := start(t, conn, cfg)
		checked := Registration{Name: "web", Protocol: "http", Port: 80, Checks: []Check{{TCP: "127.0.0.1:80"}}}
		gone := Registration{Name: "gone", Port: 1}
		if err := r.Replace("files", []Registration{checked, gone}); err != nil {
			t.Fatal(err)
		}
		mustRegister(t, r, greeter())
		pass(settled)
		if got, want := states(r.List()), "gone:1=registered "+greeterID+"=registered web:80=registered"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		stop() // kill -9 would do: nothing is written at the end that counts
		tree.takeLog()
		pass(5 * time.Second)

		probed := make(chan struct{})
		cfg.Probe = func(ctx context.Context, c Check) error { <-probed; return nil }
		r, stop = start(t, tree.resume(conn.id), cfg)
		defer stop()
		pass(time.Second)
		// What Register was told is there at once; files and checks come late.
		if got, want := states(r.List()), greeterID+"=registered"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if err := r.Replace("files", []Registration{checked}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		log := tree.takeLog()
		if len(log) != 1 || !strings.HasPrefix(log[0], "delete /dubbo/gone/") {
			t.Errorf("watchers saw %q, want the deletion of gone only", log)
		}
		if got, want := states(r.List()), greeterID+"=registered web:80=registered"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		close(probed)
		pass(time.Second)
		if log := tree.takeLog(); len(log) > 0 {
			t.Errorf("watchers saw %q", log)
		}
	})
}

func TestChangedRegistrationIsThereBeforeTheOldOneGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		r, stop := start(t, tree.connect(), Config{})
		defer stop()
		reg := greeter()
		old := byIDPath(t, r, reg)
		tree.takeLog()
		reg.Params = map[string]string{"weight": "5"}
		path := byIDPath(t, r, reg)
		if got, want := fmt.Sprint(tree.takeLog()), fmt.Sprint([]string{"create " + path, "delete " + old}); got != want {
			t.Errorf("log %s\nwant %s", got, want)
		}
		// Only the checks change: the znode stays.
		reg.Checks = []Check{{TCP: "127.0.0.1:1", Interval: Duration(time.Hour)}}
		r.regs.cfg.Probe = func(context.Context, Check) error { return nil }
		mustRegister(t, r, reg)
		pass(settled)
		if log := tree.takeLog(); len(log) > 0 {
			t.Errorf("log %q", log)
		}
	})
}

func TestChecksDecideWhetherAServiceStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		var mu sync.Mutex
		up := false
		set := func(v bool) { mu.Lock(); up = v; mu.Unlock() }
		r, stop := start(t, tree.connect(), Config{Probe: func(context.Context, Check) error {
			mu.Lock()
			defer mu.Unlock()
			if !up {
				return errors.New("connection refused")
			}
			return nil
		}})
		defer stop()
		reg := greeter()
		reg.Checks = []Check{{TCP: "127.0.0.1:20880", Interval: Duration(time.Second), Rise: 2, Fall: 3}}
		id := mustRegister(t, r, reg)
		expect := func(when string, want State) {
			t.Helper()
			s := byID(r.List(), id)
			if s.State != want || (len(tree.children(greeterDir)) > 0) != (want == Registered) {
				t.Errorf("%s: %+v", when, s)
			}
		}
		pass(settled)
		expect("first probe failed", Critical)
		if res := byID(r.List(), id).Results; len(res) != 1 || res[0].State != "failing" || res[0].Output != "connection refused" {
			t.Errorf("results %+v", res)
		}
		pass(time.Second) // past the random phase
		set(true)
		pass(time.Second)
		expect("one success, two needed", Critical)
		pass(time.Second)
		expect("two successes", Registered)
		first := byID(r.List(), id).Path
		set(false)
		pass(2 * time.Second)
		expect("two failures, three needed", Registered)
		pass(time.Second)
		expect("three failures", Critical)
		set(true)
		pass(2 * time.Second)
		expect("healthy again", Registered)
		if byID(r.List(), id).Path == first {
			t.Error("the timestamp of the first start, consumers would not warm up again")
		}
	})
}

func TestHealthBeforeTheFirstResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		r, stop := start(t, tree.connect(), Config{Probe: func(ctx context.Context, c Check) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		defer stop()
		slow := Check{TCP: "127.0.0.1:1", Interval: Duration(10 * time.Second), Timeout: Duration(5 * time.Second)}
		mustRegister(t, r, Registration{ID: "careful", Name: "a", Port: 1, Checks: []Check{slow}})
		mustRegister(t, r, Registration{ID: "hopeful", Name: "b", Port: 1, Checks: []Check{slow}, Passing: true})
		pass(time.Second)
		if got, want := states(r.List()), "careful=pending hopeful=registered"; got != want {
			t.Errorf("before the timeout: %s, want %s", got, want)
		}
		pass(5 * time.Second)
		if got, want := states(r.List()), "careful=critical hopeful=critical"; got != want {
			t.Errorf("after the timeout: %s, want %s", got, want)
		}
	})
}

func TestOfflineIsKeptOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		cfg := Config{Dir: t.TempDir()}
		r, stop := start(t, tree.connect(), cfg)
		id := mustRegister(t, r, greeter())
		if err := r.SetOffline("nobody", true); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown id: %v", err)
		}
		if err := r.SetOffline(id, true); err != nil {
			t.Fatal(err)
		}
		pass(settled)
		stop()
		r, stop = start(t, tree.connect(), cfg)
		defer stop()
		pass(settled)
		if s := byID(r.List(), id); s.State != Offline || len(tree.children(greeterDir)) != 0 {
			t.Errorf("%+v", s)
		}
		if err := r.SetOffline(id, false); err != nil {
			t.Fatal(err)
		}
		pass(settled)
		if s := byID(r.List(), id); s.State != Registered {
			t.Errorf("%+v", s)
		}
	})
}

func TestReplace(t *testing.T) {
	r, err := New(newFakeTree().connect(), Config{Advertise: "10.0.0.1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a := Registration{ID: "a", Name: "x.A", Port: 1}
	b := Registration{ID: "b", Name: "x.A", Port: 2}
	mustRegister(t, r, Registration{ID: "c", Name: "x.C", Port: 3})
	if err := r.Replace("files", []Registration{a, b}); err != nil {
		t.Fatal(err)
	}
	// Ports change hands: no duplicate in between.
	a.Port, b.Port = 2, 1
	if err := r.Replace("files", []Registration{a, b}); err != nil {
		t.Errorf("swap: %v", err)
	}
	for _, tc := range []struct {
		name string
		regs []Registration
		want error
		ids  string
	}{
		{"same URL twice", []Registration{a, {ID: "d", Name: "x.A", Port: 2}}, ErrDuplicate, "a c"},
		{"URL of another source", []Registration{a, {ID: "d", Name: "x.C", Port: 3}}, ErrDuplicate, "a c"},
		{"a file displaces what Register made", []Registration{a, {ID: "c", Name: "x.C", Port: 4}}, nil, "a c"},
		{"nothing", nil, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := r.Replace("files", tc.regs)
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			var ids []string
			for _, s := range r.List() {
				ids = append(ids, s.ID)
			}
			if got := strings.Join(ids, " "); got != tc.ids {
				t.Errorf("ids %q, want %q", got, tc.ids)
			}
		})
	}
	if err := r.Replace("files", []Registration{a}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Register(a); !errors.Is(err, ErrOtherSource) {
		t.Errorf("Register of a file's id: %v", err)
	}
	if err := r.Deregister("a"); !errors.Is(err, ErrOtherSource) {
		t.Errorf("Deregister of a file's id: %v", err)
	}
}

func TestDamagedRegistrationsFileStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, registrationsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(newFakeTree().connect(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), registrationsFile) {
		t.Errorf("error %v", err)
	}
}

func TestValidateNamesEveryField(t *testing.T) {
	err := Registration{
		Name: "a b", Port: 70000, Protocol: "x y", Address: "0.0.0.0", Category: "routers", Group: "a&b",
		Params: map[string]string{"empty": "", "dynamic": "false", "group": "c"},
		Checks: []Check{{}, {TCP: "x", Interval: 1}, {HTTP: "ftp://x"}, {TCP: "h:1", HTTP: "http://h"}},
	}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"name: ", "port: ", "protocol: ", "address: ", "category: ", "group: ", "params.empty: ", "params.dynamic: ", "params.group: ",
		"checks[0].tcp: ", "checks[1].tcp: ", "checks[1].interval: ", "checks[2].http: ", "checks[3].http: ",
	} {
		if !strings.Contains(err.Error(), "\n"+want) && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	if err := (Registration{Name: "x", Port: 1}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (Registration{Name: "x"}).Validate(); err == nil || err.Error() != "port: is missing" {
		t.Errorf("without port: %v", err)
	}
}

func TestLostCreateIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := newFakeTree()
		conn := &lossyConn{fakeConn: tree.connect()}
		r, stop := start(t, conn, Config{})
		defer stop()
		id := mustRegister(t, r, greeter())
		pass(time.Second)
		if s := byID(r.List(), id); s.State != Registered || len(tree.children(greeterDir)) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// lossyConn carries out the first creation of a leaf and says that it does not know.
type lossyConn struct {
	*fakeConn
	once sync.Once
}

func (c *lossyConn) Create(ctx context.Context, path string, data []byte, acl []wire.ACL, mode wire.CreateMode) (p string, s wire.Stat, err error) {
	p, s, err = c.fakeConn.Create(ctx, path, data, acl, mode)
	if err == nil && mode == wire.Ephemeral {
		c.once.Do(func() { err = fail(wire.OpCreate2, path, wire.ErrConnectionLoss) })
	}
	return p, s, err
}
