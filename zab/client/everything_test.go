package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// runClient runs a client until the test ends.
func runClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return c
}

// runServer runs a server of ours until the test ends.
func runServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.Open(server.Config{
		Listen: "127.0.0.1:0", Storage: storage.Config{DataDir: t.TempDir(), PreallocBytes: 1 << 16},
		Znode: znode.Config{ExtendedTypes: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return s
}

func TestServerInProcessOverABadNetwork(t *testing.T) {
	countOverABadNetwork(t, Config{Dial: runServer(t).Dial}, 300)
}

// TestServerInProcess does every operation against our own server, through
// memory and through TCP.
func TestServerInProcess(t *testing.T) {
	for _, transport := range []string{"memory", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			s := runServer(t)
			cfg := Config{Dial: s.Dial}
			if transport == "tcp" {
				cfg = Config{Servers: s.Addr().String()}
			}
			doEverything(t, cfg, true)
		})
	}
}

// doEverything does every operation against a real server; base is the config
// of a client for it, without chroot. Servers before 3.9 tell less.
func doEverything(t *testing.T, base Config, since39 bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	next := func(what string, ch <-chan Event) Event {
		t.Helper()
		select {
		case e := <-ch:
			return e
		case <-ctx.Done():
			t.Fatalf("no event: %s", what)
		}
		return Event{}
	}

	root := runClient(t, base)
	_, _, err := root.Create(ctx, "/base", nil, nil, wire.Persistent)
	must(err)
	below := base
	below.Servers += "/base"
	below.SessionTimeout = 4 * time.Second
	c := runClient(t, below)

	// Data.
	path, stat, err := c.Create(ctx, "/a", []byte("one"), nil, wire.Persistent)
	if must(err); path != "/a" || stat.DataLength != 3 {
		t.Errorf("created %q %+v", path, stat)
	}
	if _, _, err = c.Create(ctx, "/a", nil, nil, wire.Persistent); !errors.Is(err, wire.ErrNodeExists) {
		t.Errorf("second create: %v", err)
	}
	stat, err = c.Set(ctx, "/a", []byte("two"), 0)
	if must(err); stat.Version != 1 {
		t.Errorf("version %d after a set", stat.Version)
	}
	if _, err = c.Set(ctx, "/a", nil, 0); !errors.Is(err, wire.ErrBadVersion) {
		t.Errorf("set of an old version: %v", err)
	}
	data, _, dataW, err := c.GetW(ctx, "/a")
	if must(err); string(data) != "two" {
		t.Errorf("data %q", data)
	}
	_, found, existW, err := c.ExistsW(ctx, "/later")
	if must(err); found {
		t.Error("/later exists")
	}
	// On a path of its own: see AddWatch about servers before 3.9.
	_, _, err = c.Create(ctx, "/dir", nil, nil, wire.Persistent)
	must(err)
	_, _, childW, err := c.ChildrenW(ctx, "/dir")
	must(err)
	tree, err := c.AddWatch(ctx, "/", wire.WatchPersistentRecursive)
	must(err)
	flat, err := c.AddWatch(ctx, "/a", wire.WatchPersistent)
	must(err)
	_, err = root.Set(ctx, "/base/a", []byte("three"), -1)
	must(err)
	for what, ch := range map[string]<-chan Event{"data": dataW, "recursive": tree.Events(), "persistent": flat.Events()} {
		if e := next(what, ch); e.Type != wire.EventNodeDataChanged || e.Path != "/a" || e.Zxid == 0 && since39 {
			t.Errorf("%s watch: %+v", what, e)
		}
	}
	_, _, err = root.Create(ctx, "/base/later", nil, nil, wire.Persistent)
	must(err)
	if e := next("exist", existW); e.Type != wire.EventNodeCreated {
		t.Errorf("exist watch: %+v", e)
	}
	if e := next("recursive", tree.Events()); e.Type != wire.EventNodeCreated || e.Path != "/later" {
		t.Errorf("recursive watch: %+v", e)
	}
	_, _, err = root.Create(ctx, "/base/dir/x", nil, nil, wire.Persistent)
	must(err)
	if e := next("child", childW); e.Type != wire.EventNodeChildrenChanged || e.Path != "/dir" {
		t.Errorf("child watch: %+v", e)
	}
	must(tree.Close())
	must(flat.Close())
	must(c.Sync(ctx, "/"))
	if ok, err := c.CheckWatches(ctx, "/", wire.WatcherAny); ok && since39 || err != nil {
		t.Errorf("watch of / after it was closed: %v, %v", ok, err)
	}
	_, _, removedW, err := c.GetW(ctx, "/a")
	must(err)
	must(c.RemoveWatches(ctx, "/a", wire.WatcherData))
	if e := next("removed", removedW); e.Type != wire.EventDataWatchRemoved {
		t.Errorf("removed watch: %+v", e)
	}
	if err := c.RemoveWatches(ctx, "/a", wire.WatcherAny); !errors.Is(err, wire.ErrNoWatcher) && since39 {
		t.Errorf("second removal: %v", err)
	}

	// Modes.
	path, _, err = c.Create(ctx, "/q-", nil, nil, wire.PersistentSequential)
	if must(err); path != "/q-0000000003" {
		t.Errorf("sequential path %q", path)
	}
	_, _, err = c.Create(ctx, "/e", nil, nil, wire.Ephemeral)
	must(err)
	_, _, err = c.Create(ctx, "/box", nil, nil, wire.Container)
	must(err)
	_, _, err = c.CreateTTL(ctx, "/ttl", nil, nil, wire.PersistentTTL, time.Hour)
	must(err)
	if got, err := c.Ephemerals(ctx, "/"); err != nil || !reflect.DeepEqual(got, []string{"/e"}) {
		t.Errorf("ephemerals %q, %v", got, err)
	}
	if n, err := c.AllChildrenNumber(ctx, "/"); err != nil || n != 8 {
		t.Errorf("%d descendants, %v", n, err)
	}
	names, _, err := c.Children(ctx, "/")
	if want := []string{"a", "box", "dir", "e", "later", "q-0000000003", "ttl"}; err != nil || !reflect.DeepEqual(names, want) {
		t.Errorf("children %q, %v, want %q", names, err, want)
	}

	// Rights.
	must(c.AddAuth(ctx, "digest", []byte("ann:secret")))
	if ids, err := c.WhoAmI(ctx); err != nil || !slices.Contains(ids, wire.ID{Scheme: "digest", ID: "ann"}) {
		t.Errorf("whoAmI %v, %v", ids, err)
	}
	_, err = c.SetACL(ctx, "/a", []wire.ACL{{Perms: wire.PermAll, ID: wire.ID{Scheme: "auth"}}}, -1)
	must(err)
	if acl, _, err := c.GetACL(ctx, "/a"); err != nil || len(acl) != 1 || acl[0].ID.Scheme != "digest" {
		t.Errorf("acl %v, %v", acl, err)
	}
	if _, _, err := root.Get(ctx, "/base/a"); !errors.Is(err, wire.ErrNoAuth) {
		t.Errorf("read without right: %v", err)
	}

	// Several at once.
	results, err := c.Multi(ctx, CreateOp("/m", []byte("x"), nil, wire.Persistent), SetOp("/m", []byte("y"), 0),
		CheckOp("/m", 1), DeleteOp("/m", -1))
	if must(err); len(results) != 4 || results[0].Record.(*wire.PathRecord).Path != "/m" {
		t.Errorf("multi %+v", results)
	}
	results, err = c.Multi(ctx, CreateOp("/m", nil, nil, wire.Persistent), DeleteOp("/none", -1), CheckOp("/m", -1))
	var opErr *wire.OpError
	if !errors.As(err, &opErr) || opErr.Op != wire.OpDelete || opErr.Path != "/none" || opErr.Err != wire.ErrNoNode || len(results) != 3 {
		t.Errorf("failing multi %+v, %v", results, err)
	}
	results, err = c.MultiRead(ctx, GetOp("/a"), ChildrenOp("/nope"))
	if must(err); string(results[0].Record.(*wire.GetDataResponse).Data) != "three" || results[1].Err != wire.ErrNoNode {
		t.Errorf("multiRead %+v", results)
	}
	if _, _, err := c.Reconfig(ctx, "", "", "", -1); err == nil {
		t.Error("a standalone server was reconfigured")
	}
	if err := c.Delete(ctx, "/", -1); err == nil {
		t.Error("deleted a chroot that has children")
	}

	// Every goroutine gets its own answer.
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Go(func() {
			p := fmt.Sprintf("/p%02d", g)
			if _, _, err := c.Create(ctx, p, []byte(p), nil, wire.Persistent); err != nil {
				t.Error(err)
			}
			for range 50 {
				if got, _, err := c.Get(ctx, p); err != nil || string(got) != p {
					t.Errorf("get %s: %q, %v", p, got, err)
				}
			}
		})
	}
	wg.Wait()

	// Size limit: the largest that the server takes, and one more.
	big := make([]byte, wire.MaxBuffer-8-4-len("/base/a")-4-4)
	_, err = c.Set(ctx, "/a", big, -1)
	must(err)
	if data, _, err = c.Get(ctx, "/a"); err != nil || len(data) != len(big) {
		t.Errorf("got %d of %d bytes, %v", len(data), len(big), err)
	}
	if _, err = c.Set(ctx, "/a", append(big, 0), -1); !errors.Is(err, ErrRequestTooLarge) {
		t.Errorf("oversize set: %v", err)
	}
}

// countOverABadNetwork counts in znodes from many goroutines while connections
// break all the time: no set is lost, none is done twice, nobody hangs, and
// watches see the last state.
func countOverABadNetwork(t *testing.T, cfg Config, rounds int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := cfg.Dial
	cfg.SessionTimeout, cfg.MaxBackoff = 10*time.Second, 50*time.Millisecond
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := dial(ctx, addr)
		if err == nil { // the connection breaks at any byte
			time.AfterFunc(rand.N(100*time.Millisecond), func() { nc.Close() })
		}
		return nc, err
	}
	c := runClient(t, cfg)
	all, err := c.AddWatch(ctx, "/", wire.WatchPersistentRecursive)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const workers = 16
	var losses, late atomic.Int32
	for g := range workers {
		wg.Go(func() {
			path := fmt.Sprintf("/n%d", g)
			for {
				_, _, err := c.Create(ctx, path, nil, nil, wire.Ephemeral)
				if err == nil || errors.Is(err, wire.ErrNodeExists) {
					break
				}
				if !errors.Is(err, wire.ErrConnectionLoss) {
					t.Errorf("create: %v", err)
					return
				}
			}
			lost := false // a set to the next version whose outcome we do not know
			for version := int32(0); version < rounds; {
				_, stat, fired, err := c.GetW(ctx, path)
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				if stat.Version != version && stat.Version != version+1 {
					t.Errorf("%s: version %d, want %d or one more", path, stat.Version, version)
					return
				}
				if stat.Version == version+1 {
					if !lost {
						t.Errorf("%s: version %d was set by nobody", path, stat.Version)
						return
					}
					version, lost = version+1, false
					continue
				}
				_, err = c.Set(ctx, path, nil, version)
				switch {
				case err == nil:
					version, lost = version+1, false
					select {
					case e := <-fired:
						if e.Type != wire.EventNodeDataChanged {
							t.Errorf("%s: event %+v", path, e)
						}
					case <-ctx.Done():
						t.Errorf("%s: no event after the set to version %d", path, version)
						return
					}
				case errors.Is(err, wire.ErrConnectionLoss):
					losses.Add(1)
					lost = true
				case errors.Is(err, wire.ErrBadVersion) && lost:
					late.Add(1) // it was done after our read
				default:
					t.Errorf("set: %v", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	events, gaps := 0, 0
	for waiting := true; waiting; {
		select {
		case e := <-all.Events():
			if events++; e.Type == wire.EventNone && e.State == wire.StateSyncConnected {
				gaps++
			}
		case <-done:
			waiting = false
		}
	}
	if losses.Load() == 0 || gaps == 0 {
		t.Errorf("%d lost sets, %d gaps: the network was too good", losses.Load(), gaps)
	}
	t.Logf("%d lost sets, %d of them done late, %d events, %d gaps", losses.Load(), late.Load(), events, gaps)
	if n := len(c.slots); n != 0 {
		t.Errorf("%d slots are still taken", n)
	}
}
