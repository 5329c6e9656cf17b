package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

func exists(m *testMember, path string) bool {
	m.treeMu.RLock()
	defer m.treeMu.RUnlock()
	_, code := m.tree.Exists(path, superuser)
	return code == wire.OK
}

func TestTheLeaderExpiresSessionsOfFollowers(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	leader := e.leader()
	for _, m := range []*testMember{leader, e.follower(), e.servers[4]} {
		alive, dead := fmt.Sprintf("/alive%d", m.cfg.ID), fmt.Sprintf("/dead%d", m.cfg.ID)
		c := connect(t, m.Server, func(c *client.Config) { c.SessionTimeout = 500 * time.Millisecond })
		if _, _, err := c.Create(t.Context(), alive, nil, nil, wire.Ephemeral); err != nil {
			t.Fatal(err)
		}
		raw := dialRaw(t, m.Server)
		raw.send(connectFrame(0, 500, nil))
		raw.recv()
		raw.send(req(1, wire.OpCreate, &wire.CreateRequest{Path: dead, ACL: wire.OpenACL(), Mode: wire.Ephemeral}))
		if h, _ := raw.reply(); h.Err != wire.OK {
			t.Fatal(h.Err)
		}
		raw.Close()
		began := time.Now()
		for _, other := range e.servers {
			eventually(t, "the end of a session whose client has gone", func() bool { return !exists(other, dead) })
			eventually(t, "the znode of a client that only pings", func() bool { return exists(other, alive) })
		}
		if took := time.Since(began); took < 400*time.Millisecond {
			t.Errorf("server %d: session of 500ms expired after %v", m.cfg.ID, took)
		}
	}
	if n := leader.Stats().SessionsExpired.Load(); n != 3 {
		t.Errorf("%d sessions expired, want 3", n)
	}
	e.same()
}

func TestASessionMovesBetweenServers(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	leader, follower, observer := e.leader(), e.follower(), e.servers[4]
	for _, tc := range []struct{ from, to *testMember }{
		{follower, observer}, {observer, leader}, {leader, follower}, {leader, leader}, {follower, follower},
	} {
		name := fmt.Sprintf("/%d-%d-%d", tc.from.cfg.ID, tc.to.cfg.ID, time.Now().UnixNano())
		old := dialRaw(t, tc.from.Server)
		resp := old.open()
		old.send(createReq(1, name, "x"))
		old.reply()

		c := dialRaw(t, tc.to.Server)
		c.takeUp(resp)
		c.wantSession(resp)
		c.send(existsReq(1, name))
		if h, _ := c.reply(); h.Err != wire.OK {
			t.Errorf("%s is not there for the client that has made it: %v", name, h.Err)
		}
		if tc.from != tc.to {
			// What comes late over the old connection must not be done.
			old.SetReadDeadline(time.Now().Add(5 * time.Second))
			old.send(createReq(7, name+"-late", "x"))
			old.wantClosed()
		}
		c.send(createReq(2, name+"-new", "x"))
		if h, _ := c.reply(); h.Err != wire.OK {
			t.Errorf("write of a session that has moved: %v", h.Err)
		}
		if exists(leader, name+"-late") {
			t.Errorf("%s-late was made by a connection that had lost its session", name)
		}
		c.send(req(3, wire.OpCloseSession, nil))
		if h, _ := c.reply(); h.Err != wire.OK {
			t.Error(h.Err)
		}
		c.wantClosed()

		// A session that is closed is refused everywhere.
		e.same()
		for _, m := range []*testMember{leader, follower, observer} {
			gone := dialRaw(t, m.Server)
			gone.takeUp(resp)
			gone.wantSession(wire.ConnectResponse{})
			gone.wantClosed()
		}
	}
	e.same()
}

func TestSyncShowsWhatIsCommittedElsewhere(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	w := connect(t, e.leader().Server, nil)
	mustCreate(t, w, "/a", "0")
	var readers []*client.Client
	for _, m := range e.servers {
		readers = append(readers, connect(t, m.Server, nil))
	}
	for i := 1; i < 50; i++ {
		value := fmt.Sprint(i)
		if _, err := w.Set(t.Context(), "/a", []byte(value), -1); err != nil {
			t.Fatal(err)
		}
		for _, r := range readers {
			if err := r.Sync(t.Context(), "/a"); err != nil {
				t.Fatal(err)
			}
			if data, _, err := r.Get(t.Context(), "/a"); err != nil || string(data) != value {
				t.Fatalf("read behind sync: %q %v, want %s", data, err, value)
			}
		}
	}
}

// TestSyncsAndWritesOfOneConnectionKeepTheirOrder sends everything at once.
func TestSyncsAndWritesOfOneConnectionKeepTheirOrder(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	e.leader()
	for _, m := range e.servers {
		c := dialRaw(t, m.Server)
		c.open()
		path := fmt.Sprintf("/n%d", m.cfg.ID)
		var all [][]byte
		for i := range int32(100) {
			switch i % 4 {
			case 0:
				all = append(all, createReq(i, fmt.Sprintf("%s-%d", path, i), "x"))
			case 1:
				all = append(all, req(i, wire.OpSync, &wire.PathRecord{Path: "/"}))
			case 2:
				all = append(all, existsReq(i, fmt.Sprintf("%s-%d", path, i-2)))
			case 3:
				all = append(all, req(i, wire.OpCreate, &wire.PathRecord{Path: "/"})) // cannot be decoded
			}
		}
		c.send(all...)
		for i := range int32(100) {
			h, _ := c.reply()
			want := wire.OK
			if i%4 == 3 {
				want = wire.ErrMarshalling
			}
			if h.Xid != i || h.Err != want {
				t.Fatalf("server %d: reply %d has xid %d and code %v", m.cfg.ID, i, h.Xid, h.Err)
			}
		}
	}
	e.same()
}

// TestAnElectionCostsNoConnectionAndNoWrite stops the leader under load, politely
// and again and again: clients of the others see a delay, and no write is done
// twice.
func TestAnElectionCostsNoConnectionAndNoWrite(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	e.leader()
	observer := e.servers[4]
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[string]bool{}
	var c [8]*client.Client
	for i := range c {
		c[i] = connect(t, observer.Server, nil)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				path := fmt.Sprintf("/c%d-%d", i, n)
				_, _, err := c[i].Create(t.Context(), path, nil, nil, wire.Persistent)
				if errors.Is(err, wire.ErrConnectionLoss) {
					continue // nobody knows
				}
				if err != nil {
					t.Errorf("create %s: %v", path, err)
					return
				}
				mu.Lock()
				acked[path] = true
				mu.Unlock()
			}
		})
	}
	for range 3 {
		leader := e.leader()
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(acked)
		}
		before := count()
		eventually(t, "writes", func() bool { return count() > before+50 })
		id := leader.cfg.ID
		leader.stop()
		e.leader()
		e.start(id)
	}
	cancel()
	wg.Wait()
	if n := observer.Stats().SessionsReattached.Load(); n != 0 {
		t.Errorf("%d clients of the observer had to connect again", n)
	}
	e.same()
	for path := range acked {
		if !exists(e.leader(), path) {
			t.Errorf("%s was acknowledged and is gone", path)
		}
	}
}

// TestClientsAreSentAwayFromAServerWithoutALeader begins with the patience of a
// server, and then ends it.
func TestClientsAreSentAwayFromAServerWithoutALeader(t *testing.T) {
	e := newEnsemble(t, 3, 0, func(c *Config) { c.ElectionGrace = 400 * time.Millisecond })
	e.start(1, 2)
	m := e.follower()
	connected := dialRaw(t, m.Server)
	connected.open()
	for id, other := range e.servers {
		if other != m {
			defer e.start(id)
			other.stop()
		}
	}
	eventually(t, "the loss of the leader", func() bool { return !m.State().Serving })
	began := time.Now()
	waiting := dialRaw(t, m.Server)
	waiting.send(connectFrame(0, 10000, nil))
	connected.send(existsReq(1, "/"))
	connected.wantClosed()
	waiting.wantClosed()
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("connections closed after %v", took)
	}
	late := dialRaw(t, m.Server)
	late.send(connectFrame(0, 10000, nil))
	late.wantClosed()
	word := dialRaw(t, m.Server)
	word.Write([]byte("ruok"))
	b := make([]byte, 16)
	if n, _ := word.Read(b); string(b[:n]) != "imok" {
		t.Errorf("ruok: %q", b[:n])
	}
}

// A leader that sends a second SNAP, which the node refuses, must not change what it
// has already decided to install.
func TestTheFirstSnapshotOfALinkIsInstalled(t *testing.T) {
	m := &member{links: map[zab.LinkID]*link{7: {}}}
	first, second := znode.New(znode.Config{}), znode.New(znode.Config{})
	m.keepSnapshot(7, first)
	m.keepSnapshot(7, second)
	m.keepSnapshot(8, second) // of a link that was given up
	if got := m.takeSnapshot(7); got != first {
		t.Error("the second SNAP is installed")
	}
}
