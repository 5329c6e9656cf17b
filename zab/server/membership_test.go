package server

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
)

// answer is what a word of four letters gets.
func (m *testMember) answer(word string) string {
	return string(m.runWord(fourLetterWord(word), nil, netip.MustParseAddr("127.0.0.1")))
}

func (m *testMember) metric(name string) (value float64, ok bool) {
	for _, x := range m.Metrics() {
		if x.Name == name {
			return x.Value, true
		}
	}
	return 0, false
}

func TestAServerOfAnEnsembleSaysWhatItKnows(t *testing.T) {
	e := newEnsemble(t, 3, 1, func(c *Config) { c.FourLetterWords = []string{"*"} })
	e.start(1)
	alone := e.servers[1]
	eventually(t, "the first server to look for others", func() bool {
		ms, ok := alone.Membership()
		return ok && ms.Role == zab.Looking && !ms.Since.IsZero() && len(ms.Election.Peers) == 3 && ms.Election.Peers[0].Err != nil
	})
	for _, word := range []string{"srvr", "mntr", "conf", "dump"} {
		if got := alone.answer(word); got != notServing {
			t.Errorf("%s of a server that looks for a leader: %q", word, got)
		}
	}
	e.start(2, 3, 4)
	leader, follower := e.leader(), e.follower()
	eventually(t, "three learners that are up to date", func() bool {
		ms, _ := leader.Membership()
		return ms.LearnerCounts() == LearnerCounts{All: 3, Followers: 2, Observers: 1}
	})
	mustCreate(t, connect(t, leader.Server, nil), "/a", "x")
	e.same()

	last, low, high := leader.ProposalSizes()
	if last < 20 || low > last || high < last {
		t.Errorf("proposal sizes %d/%d/%d", last, low, high)
	}
	if last, _, _ := follower.ProposalSizes(); last != -1 {
		t.Errorf("a follower has proposed %d bytes", last)
	}
	for name, want := range map[string]float64{
		"learners": 3, "synced_followers": 2, "synced_observers": 1, "synced_non_voting_followers": 0, "pending_syncs": 0,
		"quorum_size": 3, "paddock_peers_connected": 3, "paddock_serving": 1, "last_proposal_size": float64(last),
		"global_sessions": 1, "proposal_count": 2, "paddock_leader_id": float64(leader.cfg.ID),
	} {
		if got, ok := leader.metric(name); got != want || !ok {
			t.Errorf("leader: %s is %v, %v, want %v", name, got, ok, want)
		}
	}
	if got, ok := follower.metric("global_sessions"); got != 1 || !ok {
		t.Errorf("follower: global_sessions %v %v", got, ok)
	}
	if got, ok := follower.metric("learners"); ok {
		t.Errorf("a follower has %v learners", got)
	}

	observer := e.servers[4]
	for _, tc := range []struct {
		m          *testMember
		word, want string
	}{
		{leader, "srvr", fmt.Sprintf("Mode: leader\nNode count: 6\nProposal sizes last/min/max: %d/%d/%d\n", last, low, high)},
		{follower, "srvr", "Mode: follower\nNode count: 6\n"},
		{leader, "mntr", "zk_server_state\tleader\nzk_peer_state\tleading - broadcast\nzk_avg_latency\t"},
		{follower, "mntr", "zk_server_state\tfollower\nzk_peer_state\tfollowing - broadcast\nzk_avg_latency\t"},
		{observer, "mntr", fmt.Sprintf("zk_server_state\tobserver\nzk_peer_state\tobserving - broadcast\nzk_observer_master_id\t%d\nzk_avg_", leader.cfg.ID)},
		{leader, "dump", "SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at "},
		{follower, "dump", "SessionTracker dump:\nGlobal Sessions(1):\n0x"},
		{observer, "dump", "000ms\nephemeral nodes dump:\n"},
	} {
		if got := tc.m.answer(tc.word); !strings.Contains(got, tc.want) {
			t.Errorf("%s of server %d lacks %q:\n%s", tc.word, tc.m.cfg.ID, tc.want, got)
		}
	}
	me, _ := e.list.Member(4)
	conf := observer.answer("conf")
	want := fmt.Sprintf("clientPortListenBacklog=-1\nserverId=4\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=%d\nquorumPort=%d\npeerType=1\nmembership: \n%s",
		me.Addrs[0].ElectionPort, me.Addrs[0].QuorumPort, e.list)
	if !strings.HasSuffix(conf, want) || !strings.HasSuffix(conf, "version=0") {
		t.Errorf("conf of the observer:\n%s\nwant at its end\n%s", conf, want)
	}
}

// TestAListThatDiffersIsNamedOnce gives one server another list than the others.
func TestAListThatDiffersIsNamedOnce(t *testing.T) {
	var log lockedBuffer
	e := newEnsemble(t, 3, 0, nil)
	e.change = func(c *Config) {
		if c.ID == 1 {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			list := &zab.Ensemble{}
			for _, line := range e.list.Lines() {
				key, value, _ := strings.Cut(line, "=")
				if key == "server.2" {
					value = "127.0.0.9:1:2"
				}
				if err := list.Set(key, value); err != nil {
					t.Fatal(err)
				}
			}
			c.Ensemble = list
		}
	}
	e.start(1, 2, 3)
	e.leader()
	const named = "another server has another list of servers"
	eventually(t, "the difference in the log", func() bool { return strings.Contains(log.String(), named) })
	mustCreate(t, connect(t, e.servers[1].Server, nil), "/a", "x")
	for _, peer := range []string{" peer=2 ", " peer=3 "} {
		if n := strings.Count(log.String(), named+`"`+peer); n > 1 {
			t.Errorf("%d times:\n%s", n, log.String())
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
