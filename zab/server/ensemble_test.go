package server

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/internal/testport"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// An ensemble is servers of one process that form one, over loopback.
type testEnsemble struct {
	t    testing.TB
	dir  string
	list *zab.Ensemble
	// change is applied to the configuration of every server.
	change  func(*Config)
	servers map[zab.ServerID]*testMember
}

type testMember struct {
	*Server
	stop func()
}

// newEnsemble prepares voters 1 to n, and observers behind them, and starts none.
func newEnsemble(t testing.TB, voters, observers int, change func(*Config)) *testEnsemble {
	t.Helper()
	e := &testEnsemble{t: t, dir: t.TempDir(), list: &zab.Ensemble{}, change: change, servers: map[zab.ServerID]*testMember{}}
	for i := range voters + observers {
		role := "participant"
		if i >= voters {
			role = "observer"
		}
		e.add(i+1, role)
	}
	return e
}

// add puts another server into the list.
func (e *testEnsemble) add(id int, role string) {
	e.t.Helper()
	line := fmt.Sprintf("127.0.0.1:%d:%d:%s", testport.Port(e.t), testport.Port(e.t), role)
	if err := e.list.Set(fmt.Sprintf("server.%d", id), line); err != nil {
		e.t.Fatal(err)
	}
}

func (e *testEnsemble) start(ids ...zab.ServerID) {
	e.t.Helper()
	for _, id := range ids {
		cfg := Config{
			ID: id, Ensemble: e.list, Listen: "127.0.0.1:0", MaxClientCnxns: -1,
			TickTime: 200 * time.Millisecond, MinSessionTimeout: 400 * time.Millisecond, MaxSessionTimeout: 30 * time.Second,
			ElectionGrace: 10 * time.Second,
			Znode:         znode.Config{Digest: true, ExtendedTypes: true},
			Storage:       storage.Config{DataDir: filepath.Join(e.dir, fmt.Sprint(id)), NoForceSync: true},
			Logger:        testLogger(e.t, id),
		}
		if e.change != nil {
			e.change(&cfg)
		}
		s, err := Open(cfg)
		if err != nil {
			e.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error, 1)
		go func() { result <- s.Run(ctx) }()
		m := &testMember{Server: s}
		m.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-result; err != nil {
				e.t.Errorf("server %d: %v", id, err)
			}
			delete(e.servers, id)
		})
		e.servers[id] = m
		e.t.Cleanup(m.stop)
	}
}

// testLogger shows the log of a failed test, and of all with -v.
func testLogger(t testing.TB, id zab.ServerID) *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("id", id)
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSuffix(time.Now().Format("05.000 ")+string(b), "\n"))
	return len(b), nil
}

// eventually asks until ok reports true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// leader waits until all running servers serve, and returns the one that leads.
func (e *testEnsemble) leader() *testMember {
	e.t.Helper()
	var leader *testMember
	eventually(e.t, "a leader whom all servers follow", func() bool {
		leader = nil
		for _, m := range e.servers {
			st := m.State()
			if !st.Serving {
				return false
			}
			if st.Mode == "leader" {
				leader = m
			}
		}
		return leader != nil
	})
	return leader
}

// follower returns a running server that follows.
func (e *testEnsemble) follower() *testMember {
	e.t.Helper()
	e.leader()
	for _, m := range e.servers {
		if m.State().Mode == "follower" {
			return m
		}
	}
	e.t.Fatal("there is no follower")
	return nil
}

// same waits until all running servers have the same tree.
func (e *testEnsemble) same() {
	e.t.Helper()
	leader := e.leader() // which may be behind the others: its own disk counts too
	for id, m := range e.servers {
		eventually(e.t, fmt.Sprintf("the leader's tree at server %d", id), func() bool { return m.State().LastZxid == leader.State().LastZxid })
		want := leader.State()
		if got := m.State(); got.Digest != want.Digest || got.Znodes != want.Znodes {
			e.t.Errorf("server %d: digest %x, %d znodes; the leader has %x, %d", id, got.Digest, got.Znodes, want.Digest, want.Znodes)
		}
		if n := m.Stats().DigestMismatches.Load(); n != 0 {
			e.t.Errorf("server %d: %d digest mismatches", id, n)
		}
	}
}

func mustCreate(t *testing.T, c *client.Client, path, data string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := c.Create(ctx, path, []byte(data), nil, wire.Persistent); err != nil {
		t.Fatalf("create %s: %v", path, err)
	}
}

func TestThreeServersElectForwardAndBroadcast(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	leader := e.leader()
	modes := map[string]int{}
	for _, m := range e.servers {
		modes[m.State().Mode]++
	}
	if modes["leader"] != 1 || modes["follower"] != 2 || modes["observer"] != 1 {
		t.Errorf("modes %v", modes)
	}
	for id, m := range e.servers {
		c := connect(t, m.Server, nil)
		mustCreate(t, c, fmt.Sprintf("/by%d", id), "x")
		data, _, err := c.Get(t.Context(), fmt.Sprintf("/by%d", id))
		if err != nil || string(data) != "x" {
			t.Errorf("server %d does not show its client's write: %q %v", id, data, err)
		}
	}
	e.same()
	if z := leader.State().LastZxid; z.Epoch() != 1 {
		t.Errorf("last zxid %v, want epoch 1", z)
	}
}

// fill writes n znodes below a new one.
func fill(t *testing.T, c *client.Client, path string, n int) {
	t.Helper()
	mustCreate(t, c, path, "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, _, err := c.Create(ctx, fmt.Sprintf("%s/%04d", path, i), []byte("data"), nil, wire.Persistent); err != nil {
				t.Errorf("create %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// oldestLog returns the zxid with which the oldest log of a server begins.
func oldestLog(t *testing.T, m *testMember) zab.Zxid {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(m.cfg.Storage.DataDir, "version-2", "log.*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("logs %v: %v", names, err)
	}
	oldest := zab.Zxid(math.MaxInt64)
	for _, name := range names {
		z, err := strconv.ParseInt(strings.TrimPrefix(filepath.Ext(name), "."), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		oldest = min(oldest, zab.Zxid(z))
	}
	return oldest
}

func TestALearnerThatWasAwayGetsWhatItLacks(t *testing.T) {
	for _, tc := range []struct {
		name      string
		change    func(*Config)
		snapshots bool
	}{
		{"from memory", nil, false},
		{"from the log", func(c *Config) { c.HistoryCount = 5 }, false},
		{"as a snapshot", func(c *Config) {
			c.HistoryCount, c.SnapRetain, c.Storage.SnapCount = 5, 3, 20
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnsemble(t, 3, 1, tc.change)
			e.start(1, 2, 3, 4)
			leader := e.leader()
			follower := e.follower()
			c := connect(t, leader.Server, nil)
			mustCreate(t, c, "/before", "x")
			e.same()
			had := leader.State().LastZxid
			follower.stop()
			e.servers[4].stop()
			for i := 0; i < 4 || tc.snapshots && oldestLog(t, leader) <= had; i++ {
				fill(t, c, fmt.Sprintf("/n%d", i), 40) // old logs go in the background, once there are new snapshots
			}
			diffs, snapshots := leader.Stats().Diffs.Load(), leader.Stats().SnapshotsSent.Load()
			e.start(follower.cfg.ID, 4)
			e.same()
			diffs, snapshots = leader.Stats().Diffs.Load()-diffs, leader.Stats().SnapshotsSent.Load()-snapshots
			if snapshots > 0 != tc.snapshots || diffs+snapshots < 2 {
				t.Errorf("%d learners got a snapshot and %d what they lacked", snapshots, diffs)
			}
			mustCreate(t, connect(t, e.servers[4].Server, nil), "/after", "x")
			e.same()
		})
	}
}

func TestAServerWithAnEmptyDiskJoins(t *testing.T) {
	e := newEnsemble(t, 3, 0, func(c *Config) { c.HistoryCount, c.Storage.SnapCount = 5, 30 })
	e.start(1, 2)
	c := connect(t, e.leader().Server, nil)
	fill(t, c, "/n", 200)
	e.start(3)
	e.same()
	e.leader().stop()
	e.same()
}

// TestALearnerThatDivergesFetchesTheTree damages trees in memory (rule R23).
func TestALearnerThatDivergesFetchesTheTree(t *testing.T) {
	e := newEnsemble(t, 3, 1, nil)
	e.start(1, 2, 3, 4)
	leader, follower := e.leader(), e.follower()
	c := connect(t, leader.Server, nil)
	mustCreate(t, c, "/before", "x")
	e.same()
	snapshots := leader.Stats().SnapshotsSent.Load()
	for _, m := range []*testMember{follower, e.servers[4]} {
		if err := m.inDriver(t.Context(), func() {
			txn := wire.Txn{Header: wire.TxnHeader{Type: wire.OpCreate}, Body: &wire.CreateTxn{Type: wire.OpCreate, Path: "/damage", ACL: wire.OpenACL()}}
			m.treeMu.Lock()
			defer m.treeMu.Unlock()
			m.tree.Apply(&txn, new(znode.Result))
		}); err != nil {
			t.Fatal(err)
		}
		if !exists(m, "/damage") {
			t.Fatal("the tree is not damaged")
		}
	}
	mustCreate(t, c, "/after", "x")
	for _, m := range []*testMember{follower, e.servers[4]} {
		eventually(t, "the leader's tree", func() bool {
			return m.State().Serving && m.State().Digest == leader.State().Digest && !exists(m, "/damage")
		})
		if n := m.Stats().DigestMismatches.Load(); n != 1 {
			t.Errorf("server %d: %d digest mismatches, want one", m.cfg.ID, n)
		}
	}
	if n := leader.Stats().SnapshotsSent.Load() - snapshots; n != 2 {
		t.Errorf("%d snapshots were sent, want 2", n)
	}
	mustCreate(t, connect(t, follower.Server, nil), "/by-follower", "x")
}

// TestADeposedLeaderForgetsItsTail lets a leader log what nobody acknowledges.
func TestADeposedLeaderForgetsItsTail(t *testing.T) {
	e := newEnsemble(t, 3, 0, nil)
	e.start(1, 2, 3)
	leader := e.leader()
	mustCreate(t, connect(t, leader.Server, nil), "/a", "x")
	e.same()
	id := leader.cfg.ID
	var others []zab.ServerID
	for other, m := range e.servers {
		if other != id {
			others = append(others, other)
			m.stop()
		}
	}
	// No longer than a tick: then it notices that it is alone.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	c := connect(t, leader.Server, nil)
	for i := range 3 {
		go c.Create(ctx, fmt.Sprintf("/lost%d", i), nil, nil, wire.Persistent)
	}
	<-ctx.Done()
	cancel()
	leader.stop()
	if z := leader.node.LastZxid(); z <= zab.NewZxid(1, 2) {
		t.Fatalf("the leader has logged nothing behind %v", z)
	}
	e.start(others...)
	fill(t, connect(t, e.leader().Server, nil), "/kept", 3)
	e.start(id)
	e.same()
	for id, m := range e.servers {
		if exists(m, "/lost0") {
			t.Errorf("server %d shows what was never committed", id)
		}
	}
}
