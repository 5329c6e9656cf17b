//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
)

// super is the password of the super user, and the zoo.cfg line that allows it.
const (
	super     = "super:test"
	superLine = "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="
)

// connect runs a client of ours until the test ends or stop is called, which
// leaves the session alive.
func connect(t *testing.T, s *server, cfg client.Config) (c *client.Client, stop func()) {
	t.Helper()
	cfg.Servers = s.addr()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Errorf("client: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return c, stop
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A znode is all that a client can see of one.
type znode struct {
	data []byte
	null bool // no data, which is not empty data
	stat wire.Stat
	acl  []wire.ACL
}

func (z znode) String() string {
	data := fmt.Sprintf("%q", z.data)
	if z.null {
		data = "null"
	}
	return fmt.Sprintf("%s %+v %v", data, z.stat, z.acl)
}

// dumpTree reads every znode of a server, as the super user.
func dumpTree(t *testing.T, s *server) map[string]znode {
	t.Helper()
	c, stop := connect(t, s, client.Config{Auth: []client.Auth{{Scheme: "digest", Data: []byte(super)}}})
	defer stop()
	ctx := timeout(t)
	defer c.CloseSession(ctx)
	tree := map[string]znode{}
	var (
		mu   sync.Mutex // guards tree and err
		errs []error
		wg   sync.WaitGroup
		walk func(path string)
	)
	slots := make(chan struct{}, 32)
	walk = func(path string) {
		defer wg.Done()
		slots <- struct{}{}
		data, stat, err := c.Get(ctx, path)
		acl, _, aerr := c.GetACL(ctx, path)
		names, _, cerr := c.Children(ctx, path)
		<-slots
		mu.Lock()
		defer mu.Unlock()
		if err := errors.Join(err, aerr, cerr); err != nil {
			errs = append(errs, err)
			return
		}
		tree[path] = znode{data, data == nil, stat, acl}
		for _, name := range names {
			child := path + "/" + name
			if path == "/" {
				child = "/" + name
			}
			wg.Add(1)
			go walk(child)
		}
	}
	wg.Add(1)
	go walk("/")
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("reading the tree of %s: %v", s.kind, err)
	}
	return tree
}

// compareTrees reports every difference, up to a few.
func compareTrees(t *testing.T, got, want map[string]znode) {
	t.Helper()
	paths := map[string]bool{}
	for p := range got {
		paths[p] = true
	}
	for p := range want {
		paths[p] = true
	}
	differences := 0
	for p := range paths {
		g, inGot := got[p]
		w, inWant := want[p]
		if inGot == inWant && bytes.Equal(g.data, w.data) && g.null == w.null && g.stat == w.stat && slices.Equal(g.acl, w.acl) {
			continue
		}
		if differences++; differences <= 10 {
			t.Errorf("%s: got %v %v\nwant %v %v", p, inGot, g, inWant, w)
		}
	}
	if differences > 0 {
		t.Errorf("%d of %d znodes differ", differences, len(paths))
	}
}

// A load writes to a server at random, with operations of all kinds. Its
// sessions stay when it is done, with their ephemerals.
type load struct {
	sessions []client.Session
}

// run works until each worker has asked for n operations.
func (l *load) run(t *testing.T, s *server, seed uint64, n int) {
	t.Helper()
	ctx := timeout(t)
	auth := []client.Auth{{Scheme: "digest", Data: []byte(super)}}
	first, stopFirst := connect(t, s, client.Config{Auth: auth})
	defer stopFirst()
	// A quota, as the shell sets it, whose counts the server has to keep.
	for _, node := range []struct{ path, data string }{
		{"/load", ""}, {"/load/0", ""}, {"/zookeeper/quota/load", ""}, {"/zookeeper/quota/load/0", ""},
		{"/zookeeper/quota/load/0/zookeeper_limits", "count=100000,bytes=-1=;byteHardLimit=-1;countHardLimit=-1"},
		{"/zookeeper/quota/load/0/zookeeper_stats", "count=0,bytes=0"},
	} {
		if _, _, err := first.Create(ctx, node.path, []byte(node.data), nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		c, stop := connect(t, s, client.Config{SessionTimeout: 40 * time.Second, Auth: auth})
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(worker)))
			counts := map[string]int{}
			for i := range n {
				if i%200 == 100 { // a session that comes and goes
					if err := briefSession(ctx, t, s, rng); err != nil {
						t.Error(err)
						return
					}
				}
				err := randomOp(ctx, c, rng)
				var code wire.Code
				switch {
				case err == nil:
					counts["done"]++
				case errors.As(err, &code) && code != wire.ErrConnectionLoss && code != wire.ErrSessionExpired:
					counts[code.Error()]++
				default:
					t.Errorf("worker %d, operation %d: %v", worker, i, err)
					return
				}
			}
			if worker == 0 {
				t.Logf("worker 0: %v", counts)
			}
		})
		defer func() {
			stop()
			l.sessions = append(l.sessions, c.Session())
		}()
	}
	wg.Wait()
	if err := first.CloseSession(ctx); err != nil {
		t.Error(err)
	}
}

// closeSessions takes the load's sessions up, on the same or another server,
// and closes them.
func (l *load) closeSessions(t *testing.T, s *server) {
	t.Helper()
	ctx := timeout(t)
	for _, session := range l.sessions {
		id := session.ID
		c, stop := connect(t, s, client.Config{SessionTimeout: session.Timeout, Session: &session})
		if _, _, err := c.Exists(ctx, "/"); err != nil {
			t.Fatal(err)
		}
		if got := c.Session().ID; got != id {
			t.Errorf("%s took session %v for %v: its password was not known", s.kind, id, got)
		}
		if err := c.CloseSession(ctx); err != nil {
			t.Error(err)
		}
		stop()
	}
	l.sessions = nil
}

func briefSession(ctx context.Context, t *testing.T, s *server, rng *rand.Rand) error {
	c, stop := connect(t, s, client.Config{})
	defer stop()
	for range 3 {
		_, _, err := c.Create(ctx, fmt.Sprintf("/load/%d/brief-", rng.IntN(4)), nil, nil, wire.EphemeralSequential)
		if err != nil && !errors.Is(err, wire.ErrNoNode) && !errors.Is(err, wire.ErrNoAuth) && !errors.Is(err, wire.ErrNoChildrenForEphemerals) {
			return err
		}
	}
	return c.CloseSession(ctx)
}

func randomPath(rng *rand.Rand) string {
	path := fmt.Sprintf("/load/%d", rng.IntN(4))
	for range rng.IntN(3) {
		path += fmt.Sprintf("/%c", 'a'+rng.IntN(12))
	}
	return path
}

func randomData(rng *rand.Rand) []byte {
	switch rng.IntN(10) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	data := make([]byte, rng.IntN(400))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

func randomACL(rng *rand.Rand) []wire.ACL {
	lists := [][]wire.ACL{
		wire.OpenACL(),
		{{Perms: wire.PermRead, ID: wire.ID{Scheme: "world", ID: "anyone"}}},
		{{Perms: wire.PermAll, ID: wire.ID{Scheme: "digest", ID: "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM="}}},
		{
			{Perms: wire.Perms(1 + rng.IntN(31)), ID: wire.ID{Scheme: "digest", ID: "bob:GVrJsMoLDI2obHYRSuYhEAXB1Yw="}},
			{Perms: wire.Perms(1 + rng.IntN(31)), ID: wire.ID{Scheme: "ip", ID: "127.0.0.1/8"}},
		},
	}
	return lists[rng.IntN(len(lists))]
}

// randomOp asks for one operation, which may well be refused.
func randomOp(ctx context.Context, c *client.Client, rng *rand.Rand) error {
	path, version := randomPath(rng), int32(-1)
	if rng.IntN(4) == 0 {
		version = rng.Int32N(3)
	}
	switch rng.IntN(20) {
	default:
		_, _, err := c.Create(ctx, path, randomData(rng), randomACL(rng), wire.Persistent)
		return err
	case 0:
		_, _, err := c.Create(ctx, path, randomData(rng), nil, wire.Ephemeral)
		return err
	case 1:
		_, _, err := c.Create(ctx, path+"/s-", randomData(rng), nil, wire.PersistentSequential)
		return err
	case 2:
		_, _, err := c.Create(ctx, path+"/e-", randomData(rng), nil, wire.EphemeralSequential)
		return err
	case 3:
		_, _, err := c.Create(ctx, path, randomData(rng), nil, wire.Container)
		return err
	case 4:
		_, _, err := c.CreateTTL(ctx, path, randomData(rng), nil, wire.PersistentTTL, time.Hour)
		return err
	case 5:
		_, _, err := c.CreateTTL(ctx, path+"/t-", randomData(rng), nil, wire.PersistentSequentialTTL, time.Duration(1+rng.IntN(1000))*time.Minute)
		return err
	case 6, 7, 8, 9:
		_, err := c.Set(ctx, path, randomData(rng), version)
		return err
	case 10, 11, 12:
		return c.Delete(ctx, path, version)
	case 13, 14:
		_, err := c.SetACL(ctx, path, randomACL(rng), version)
		return err
	case 15, 16:
		var ops []wire.MultiOp
		for range 1 + rng.IntN(5) {
			path := randomPath(rng)
			switch rng.IntN(6) {
			case 0, 1:
				ops = append(ops, client.CreateOp(path, randomData(rng), nil, wire.Persistent))
			case 2:
				ops = append(ops, client.CreateOp(path+"/m-", randomData(rng), randomACL(rng), wire.EphemeralSequential))
			case 3:
				ops = append(ops, client.SetOp(path, randomData(rng), -1))
			case 4:
				ops = append(ops, client.DeleteOp(path, -1))
			case 5:
				ops = append(ops, client.CheckOp(path, -1))
			}
		}
		_, err := c.Multi(ctx, ops...)
		return err
	case 17:
		return c.Sync(ctx, path)
	}
}

// TestDataDirectories hands one data directory from server to server of either
// kind. After each change of hands every znode, with its data, stat and ACL, is
// what it was, and the sessions can be taken up.
func TestDataDirectories(t *testing.T) {
	t.Parallel() // it waits more than it works
	need(t, "java")
	for i, tc := range []struct {
		name  string
		first string
		crash bool // kill -9 instead of SIGTERM
		cfg   []string
	}{
		{"paddock, stopped", paddock, false, []string{"snapCount=3000"}},
		{"paddock, killed", paddock, true, []string{"snapCount=1000"}},
		{"Apache, plain snapshots", apache, true, []string{"snapCount=1000"}},
		{"Apache, gz snapshots", apache, false, []string{"snapCount=1000", "snapshot.compression.method=gz"}},
		{"Apache, snappy snapshots", apache, true, []string{"snapCount=1000", "snapshot.compression.method=snappy"}},
		{"Apache, log only", apache, true, nil},
	} {
		if *peer == apache && tc.first == paddock {
			continue
		}
		run(t, "Apache's server on our data directory and ours on Apache's", apacheVersion, tc.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := append([]string{superLine, "preAllocSize=1024"}, tc.cfg...)
			other := map[string]string{paddock: apache, apache: *peer}
			end := func(s *server) {
				if tc.crash {
					s.kill()
				} else {
					s.stop(t)
				}
			}
			var l load
			kind := tc.first
			s := startServer(t, kind, dir, cfg...)
			for phase := range 3 {
				l.run(t, s, uint64(10*i+phase), 600)
				want := dumpTree(t, s)
				ephemerals := 0
				for _, z := range want {
					if z.stat.EphemeralOwner != 0 {
						ephemerals++
					}
				}
				if len(want) < 300 || ephemerals < 5 {
					t.Fatalf("the load left %d znodes, %d ephemeral: too few to compare", len(want), ephemerals)
				}
				end(s)
				kind = other[kind]
				s = startServer(t, kind, dir, cfg...)
				compareTrees(t, dumpTree(t, s), want)
				t.Logf("%d znodes handed to %s", len(want), kind)
				l.closeSessions(t, s)
				if t.Failed() {
					t.Fatalf("phase %d, now %s\n%s", phase, kind, s.log())
				}
			}
			s.stop(t)
		})
	}
}
