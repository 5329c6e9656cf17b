package server

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/internal/testport"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// reconfig asks a server for another list of servers.
// ask sends a reconfiguration.
func (m *testMember) ask(t *testing.T, r *wire.ReconfigRequest) *rawConn {
	t.Helper()
	c := dialRaw(t, m.Server)
	c.open()
	c.send(req(1, wire.OpReconfig, r))
	return c
}

func (m *testMember) reconfig(t *testing.T, joining, leaving, members string, version int64) (wire.GetDataResponse, wire.Code) {
	t.Helper()
	c := m.ask(t, &wire.ReconfigRequest{Joining: joining, Leaving: leaving, NewMembers: members, ConfigID: version})
	h, body := c.reply()
	var r wire.GetDataResponse
	if h.Err == wire.OK {
		if err := wire.Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
	}
	return r, h.Err
}

func (m *testMember) configText() string {
	m.treeMu.RLock()
	defer m.treeMu.RUnlock()
	data, _, _ := m.tree.Get(configPath, superuser)
	return string(data)
}

func TestReconfig(t *testing.T) {
	var mu sync.Mutex
	stored := map[zab.ServerID][]int64{}
	e := newEnsemble(t, 3, 0, nil)
	e.change = func(c *Config) {
		c.ReconfigEnabled, c.Znode.SkipACL = true, true
		id := c.ID
		c.OnEnsemble = func(e *zab.Ensemble) error {
			mu.Lock()
			defer mu.Unlock()
			stored[id] = append(stored[id], e.Version)
			return nil
		}
	}
	e.start(1, 2, 3)
	leader := e.leader()
	eventually(t, "the first version", func() bool {
		return strings.HasSuffix(leader.configText(), "version=100000000")
	})

	// A fourth one starts with the list and itself, and is added over a follower.
	four := fmt.Sprintf("server.4=127.0.0.1:%d:%d:participant;127.0.0.1:%d", testport.Port(t), testport.Port(t), testport.Port(t))
	old := e.list
	e.list = &zab.Ensemble{}
	for _, line := range append(old.Lines(), strings.Replace(four, "participant", "observer", 1)) {
		key, value, _ := strings.Cut(line, "=")
		if err := e.list.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, code := e.follower().reconfig(t, strings.Replace(four, "server.4", "server.5", 1), "1,2,3", "", -1); code != wire.ErrBadArguments && code != wire.ErrNewConfigNoQuorum {
		t.Errorf("a list of servers that are not there: %v", code)
	}
	e.start(4)
	e.same()
	r, code := e.follower().reconfig(t, four, "", "", -1)
	if code != wire.OK || !strings.Contains(string(r.Data), four) {
		t.Fatalf("reconfig: %v, %q", code, r.Data)
	}
	e.same()
	list, err := zab.ParseEnsemble(string(r.Data))
	if err != nil || !slices.Equal(list.Voters(), []zab.ServerID{1, 2, 3, 4}) || zab.Zxid(list.Version).Epoch() != 1 {
		t.Fatalf("new list %q: %v", r.Data, err)
	}
	for id, m := range e.servers {
		eventually(t, fmt.Sprintf("the new list at server %d", id), func() bool { return m.configText() == string(r.Data) })
		mu.Lock()
		if last := stored[id]; len(last) == 0 || last[len(last)-1] != list.Version || !slices.IsSorted(last) {
			t.Errorf("server %d has stored versions %x", id, last)
		}
		mu.Unlock()
	}
	if _, code := leader.reconfig(t, "", "4", "", 7); code != wire.ErrBadVersion {
		t.Errorf("reconfig with an old version: %v", code)
	}
	if _, code := leader.reconfig(t, "nonsense", "", "", -1); code != wire.ErrBadArguments {
		t.Errorf("reconfig to nonsense: %v", code)
	}

	// It votes: two of the old ones may go.
	for id, m := range e.servers {
		if id != 4 && m.State().Mode == "follower" {
			m.stop()
			break
		}
	}
	mustCreate(t, connect(t, e.servers[4].Server, nil), "/with-three", "x")

	// The leader removes itself.
	leader = e.leader()
	gone := leader.cfg.ID
	before := e.list
	if _, code := leader.reconfig(t, "", fmt.Sprint(gone), "", list.Version); code != wire.OK {
		t.Fatalf("the leader cannot remove itself: %v", code)
	}
	for id, m := range e.servers { // two of the old four could not elect
		if id != gone {
			eventually(t, fmt.Sprintf("the list without the leader at server %d", id), func() bool {
				return !strings.Contains(m.configText(), fmt.Sprintf("server.%d=", gone))
			})
		}
	}
	leader.stop()
	e.list = before
	next := e.leader()
	eventually(t, "the list without the old leader", func() bool {
		return !strings.Contains(next.configText(), fmt.Sprintf("server.%d=", gone))
	})
	mustCreate(t, connect(t, next.Server, nil), "/without", "x")
	e.same()
}

// TestReconfigMovesPorts: a server whose addresses change is reached at the new ones
// at once, and a leader hands over to another one.
func TestReconfigMovesPorts(t *testing.T) {
	e := newEnsemble(t, 3, 0, func(c *Config) { c.ReconfigEnabled, c.Znode.SkipACL = true, true })
	e.start(1, 2, 3)
	for _, m := range []*testMember{e.follower(), e.leader()} {
		id := m.cfg.ID
		old, _ := e.list.Member(id)
		election, quorum := testport.Port(t), testport.Port(t)
		line := fmt.Sprintf("server.%d=127.0.0.1:%d:%d:participant;127.0.0.1:%d", id, quorum, election, testport.Port(t))
		// The leader may hand over before the answer has come.
		e.follower().ask(t, &wire.ReconfigRequest{Joining: line, ConfigID: -1})
		open := func(port int) bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				c.Close()
			}
			return err == nil
		}
		eventually(t, "the ports to move", func() bool { return open(election) && !open(old.Addrs[0].ElectionPort) })
		eventually(t, "the ensemble to go on", func() bool {
			return strings.Contains(m.configText(), line) && m.State().Serving && e.leader() != nil
		})
		mustCreate(t, connect(t, m.Server, nil), fmt.Sprintf("/moved%d", id), "x")
	}
	// One of those that stay must be found by the others at its new address.
	e.leader().stop()
	mustCreate(t, connect(t, e.leader().Server, nil), "/after", "x")
}

func TestReconfigIsRefused(t *testing.T) {
	e := newEnsemble(t, 3, 0, nil)
	e.start(1, 2, 3)
	for _, m := range []*testMember{e.leader(), e.follower()} {
		if _, code := m.reconfig(t, "", "1", "", -1); code != wire.ErrReconfigDisabled {
			t.Errorf("without reconfigEnabled: %v", code)
		}
	}
	e = newEnsemble(t, 3, 0, func(c *Config) { c.ReconfigEnabled = true })
	e.start(1, 2, 3)
	for _, m := range []*testMember{e.leader(), e.follower()} {
		if _, code := m.reconfig(t, "", "1", "", -1); code != wire.ErrNoAuth {
			t.Errorf("by a client that may not write %s: %v", configPath, code)
		}
	}
}
