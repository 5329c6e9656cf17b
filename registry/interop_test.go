package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// These tests run against a real server, Apache's or ours:
//
//	PADDOCK_ZOOKEEPER=127.0.0.1:2181 go test -run Real ./registry
func realServer(t *testing.T) string {
	addr := os.Getenv("PADDOCK_ZOOKEEPER")
	if addr == "" {
		t.Skip("PADDOCK_ZOOKEEPER does not name a server")
	}
	return addr
}

// dial runs a client until the test ends or drop is called, which leaves the
// session as kill -9 would.
func dial(t *testing.T, addr string, session *client.Session) (c *client.Client, drop func()) {
	t.Helper()
	c, err := client.New(client.Config{Servers: addr, SessionTimeout: 10 * time.Second, Session: session})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	drop = func() { cancel(); wg.Wait() }
	t.Cleanup(drop)
	return c, drop
}

// until waits for a condition, with a deadline.
func until(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("timeout: %s", what)
		}
		<-tick.C
	}
	return time.Since(start)
}

func runReal(t *testing.T, conn Conn, cfg Config) (*Registry, func()) {
	t.Helper()
	r, stop := start(t, conn, cfg)
	once := sync.OnceFunc(stop)
	t.Cleanup(once)
	return r, once
}

func TestRealRestartIsNotSeenByWatchers(t *testing.T) {
	addr := realServer(t)
	root := fmt.Sprintf("/registry-test-%d", time.Now().UnixNano())
	admin, _ := dial(t, addr, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	c, drop := dial(t, addr, nil)
	cfg := Config{Root: root, Dir: t.TempDir()}
	r, stop := runReal(t, Over(c), cfg)
	id := mustRegister(t, r, greeter())
	t.Logf("registered after %v", until(t, "registered", func() bool { return byID(r.List(), id).State == Registered }))
	until(t, "in the view", func() bool { v, _ := r.Lookup("org.demo.Greeter"); return v.Live && len(v.Instances) == 1 })

	w, err := admin.AddWatch(ctx, root, wire.WatchPersistentRecursive)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	session := c.Session()
	stop()
	drop()
	c, _ = dial(t, addr, &session)
	r, _ = runReal(t, Over(c), cfg)
	until(t, "registered after the restart", func() bool { return byID(r.List(), id).State == Registered })
	if c.Session().ID != session.ID {
		t.Fatalf("session %v, want %v", c.Session().ID, session.ID)
	}

	// The deletion is the first event that the watcher sees.
	znode := byID(r.List(), id).Path
	if err := admin.Delete(ctx, znode, -1); err != nil {
		t.Fatal(err)
	}
	for _, want := range []wire.EventType{wire.EventNodeDeleted, wire.EventNodeCreated} {
		select {
		case ev := <-w.Events():
			if ev.Type != want || ev.Path != znode {
				t.Errorf("event %v %s, want %v of %s", ev.Type, ev.Path, want, znode)
			}
		case <-ctx.Done():
			t.Fatal("no event")
		}
	}
	if err := c.CloseSession(ctx); err != nil {
		t.Fatal(err)
	}
	if _, found, err := admin.Exists(ctx, znode); found || err != nil {
		t.Errorf("after the session: %v, %v", found, err)
	}
}

func TestRealTenThousandProviders(t *testing.T) {
	addr := realServer(t)
	root := fmt.Sprintf("/registry-test-%d", time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, _ := dial(t, addr, nil)
	r, _ := runReal(t, Over(c), Config{Root: root})
	until(t, "live", func() bool { live, _ := r.Live(); return live })

	admin, _ := dial(t, addr, nil)
	const n = 10000
	dir := root + "/pkg.Big/providers"
	for i := 1; i <= len(dir); i++ {
		if i == len(dir) || dir[i] == '/' {
			if _, _, err := admin.Create(ctx, dir[:i], nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
				t.Fatal(err)
			}
		}
	}
	begin := time.Now()
	if err := parallel(n, 64, func(i int) error {
		name := escape("dubbo://10.1." + strconv.Itoa(i/250) + "." + strconv.Itoa(i%250) + ":20880/pkg.Big?application=big&dubbo=2.0.2&dynamic=true&interface=pkg.Big&methods=" + strings.Repeat("m,", 100) + "&side=provider")
		_, _, err := admin.Create(ctx, path.Join(dir, name), nil, nil, wire.Ephemeral)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	created := time.Since(begin)
	late := until(t, "all in the view", func() bool { v, _ := r.Lookup("pkg.Big"); return len(v.Instances) == n })
	t.Logf("%d providers created in %v, view complete %v later", n, created, late)

	c2, _ := dial(t, addr, nil)
	r2, _ := runReal(t, Over(c2), Config{Root: root})
	t.Logf("a new agent has them after %v", until(t, "second agent", func() bool { v, _ := r2.Lookup("pkg.Big"); return v.Live && len(v.Instances) == n }))
	if err := admin.CloseSession(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("gone from the view %v after the end of their session", until(t, "empty", func() bool { v, _ := r.Lookup("pkg.Big"); return len(v.Instances) == 0 }))
}
