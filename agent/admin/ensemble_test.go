package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/transport"
)

const fourServers = `server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181
server.2=10.0.0.2:2888:3888:participant
server.3=10.0.0.3:2888:3888:participant
server.4=10.0.0.4:2888:3888|10.9.0.4:2889:3889:observer
version=100000004`

var (
	now     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	refused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
)

// picture is server 1 of four, in a role, with all others connected.
func picture(t *testing.T, role zab.Role, phase zab.Phase) *server.Membership {
	t.Helper()
	list, err := zab.ParseEnsemble(fourServers)
	if err != nil {
		t.Fatal(err)
	}
	ms := &server.Membership{Since: now.Add(-12 * time.Second), Ensemble: list, LastSeen: list}
	ms.ID, ms.Role, ms.Phase, ms.Leader = 1, role, phase, zab.NoServer
	for id := zab.ServerID(1); id <= 4; id++ {
		ms.Ballots = append(ms.Ballots, zab.Ballot{Server: id, Heard: true, State: zab.Looking})
		if id > 1 {
			ms.Election.Peers = append(ms.Election.Peers, transport.PeerStatus{ID: id, Listed: true, Connected: true, Since: now.Add(-time.Hour)})
		}
	}
	return ms
}

// disconnect takes the connection to a server away.
func disconnect(ms *server.Membership, id zab.ServerID, err error, since time.Time) {
	for i := range ms.Election.Peers {
		if p := &ms.Election.Peers[i]; p.ID == id {
			p.Connected, p.Err, p.Since = false, err, since
		}
	}
}

func TestTheEnsembleInWords(t *testing.T) {
	for _, tc := range []struct {
		name          string
		role          zab.Role
		phase         zab.Phase
		change        func(ms *server.Membership)
		why, problems []string
	}{
		{"a follower that serves", zab.Following, zab.Broadcast, func(ms *server.Membership) { ms.Leader = 3 }, nil, nil},
		{"a follower that misses one", zab.Following, zab.Broadcast, func(ms *server.Membership) {
			ms.Leader = 3
			disconnect(ms, 2, refused, now.Add(-12*time.Second))
			disconnect(ms, 4, nil, time.Time{}) // an observer need not be connected
		}, nil, []string{"server 2 (10.0.0.2:3888) cannot be reached: connection refused, since 12 s"}},
		{"looking, nobody there", zab.Looking, zab.Election, func(ms *server.Membership) {
			ms.Waiting = "a quorum that agrees on a leader"
			disconnect(ms, 2, &net.DNSError{Err: "no such host", Name: "h2"}, time.Time{})
			disconnect(ms, 3, os.ErrDeadlineExceeded, now.Add(-90*time.Second))
			disconnect(ms, 4, nil, time.Time{})
		}, []string{"looking for a leader, since 12 s: waits for a quorum that agrees on a leader", "1 of 3 voters are here, which is no quorum"},
			[]string{"server 2 (10.0.0.2:3888) cannot be reached: name h2: no such host",
				"server 3 (10.0.0.3:3888) cannot be reached: no answer in time, since 1m30s"}},
		{"looking, behind a lost role", zab.Looking, zab.Election, func(ms *server.Membership) {
			ms.Lost, ms.Reason = true, errors.New("no quorum of followers")
			disconnect(ms, 3, nil, time.Time{})
		}, []string{"looking for a leader, since 12 s", "the disk of this server was lost: it has no vote until a leader has brought it up to date",
			"the last role ended: no quorum of followers"}, []string{"server 3 (10.0.0.3:3888) is not connected yet"}},
		{"not on the list", zab.Observing, zab.Synchronization, func(ms *server.Membership) {
			ms.ID, ms.Leader = 9, 3
			ms.Election.Peers = append(ms.Election.Peers, transport.PeerStatus{ID: 1, Connected: true})
		},
			[]string{"server 3 is the leader, this one joins it, since 12 s", "server 9, this one, is not on the list of servers"}, nil},
		{"a leader without a quorum yet", zab.Leading, zab.Discovery, func(ms *server.Membership) { ms.Waiting = "a quorum to connect" },
			[]string{"elected as the leader, since 12 s: waits for a quorum to connect"}, nil},
		{"a leader and its followers", zab.Leading, zab.Broadcast, func(ms *server.Membership) {
			ms.Leader, ms.Last = 1, 0x500002000
			ms.Learners = []zab.LearnerStatus{
				{ID: 2, Voter: true, State: "copying"}, {ID: 3, Voter: true, UpToDate: true, State: "up to date", Acked: 0x500000010},
				{ID: 4, Observer: true, UpToDate: true, State: "up to date"},
			}
		}, nil, []string{"server 2 (10.0.0.2:3888) is not up to date: copying", "server 3 (10.0.0.3:3888) is 8176 transactions behind"}},
		{"a leader whom some do not follow", zab.Leading, zab.Broadcast, func(ms *server.Membership) {
			ms.Leader = 1
			ms.Ballots[2].State = zab.Leading
			disconnect(ms, 4, refused, time.Time{})
		}, nil, []string{"server 2 (10.0.0.2:3888) does not follow this leader: it is looking for a leader",
			"server 3 (10.0.0.3:3888) does not follow this leader: it is a leader elsewhere",
			"server 4 (10.0.0.4:3888|10.9.0.4:3889) cannot be reached: connection refused"}},
		{"lists, strangers and ports", zab.Following, zab.Broadcast, func(ms *server.Membership) {
			ms.Leader = 3
			ms.Ballots[1].Differs = []string{"-server.4=h4", "+server.5=h5"}
			ms.Ballots[2].Refused = 7
			ms.Strangers = []zab.Stranger{{ID: 8, From: 8, Count: 3}, {ID: 9, From: 2, Count: 1}}
			ms.Election.Listen = []error{nil, errors.New("address in use")}
			ms.Quorum.Faults = []transport.Fault{{Host: "10.7.7.7", Kind: transport.ErrTLS, Detail: "hello", Count: 2, Last: now.Add(-time.Second)}}
		}, nil, []string{"server 2 has another list of servers: it lacks server.4=h4", "server 2 has another list of servers: it has server.5=h5",
			"7 votes of server 3 made no sense and were not counted", "server 8 is not on the list, and sends votes (3)",
			"server 2 votes for server 9, which is no voter on the list (1 votes)", "the election port is not open: address in use",
			"quorum port: 10.7.7.7: " + transport.ErrTLS.Error() + " (hello), 2 times, last 1 s ago"}},
	} {
		ms := picture(t, tc.role, tc.phase)
		tc.change(ms)
		e := describeEnsemble(ms, now)
		if !slices.Equal(e.Why, tc.why) || e.Serving != (tc.why == nil) {
			t.Errorf("%s: serving %v, why %q, want %q", tc.name, e.Serving, e.Why, tc.why)
		}
		if !slices.Equal(e.Problems, tc.problems) {
			t.Errorf("%s: problems\n%s\nwant\n%s", tc.name, strings.Join(e.Problems, "\n"), strings.Join(tc.problems, "\n"))
		}
	}
}

func TestWhatANetworkSaysIsBounded(t *testing.T) {
	ms := picture(t, zab.Following, zab.Broadcast)
	for i := range 10_000 {
		ms.Strangers = append(ms.Strangers, zab.Stranger{ID: zab.ServerID(100 + i), From: 2})
	}
	if e := describeEnsemble(ms, now); len(e.Problems) != maxProblems {
		t.Errorf("%d problems", len(e.Problems))
	}
}

func TestTheMembersOfTheStatus(t *testing.T) {
	ms := picture(t, zab.Leading, zab.Broadcast)
	ms.Leader, ms.Epoch, ms.Last = 1, 5, 0x500000020
	ms.Learners = []zab.LearnerStatus{{ID: 2, Voter: true, UpToDate: true, State: "up to date", Acked: 0x50000001e}, {ID: 3, Voter: true, State: "copying", Acked: 0x400000009}}
	disconnect(ms, 4, refused, now)
	e := describeEnsemble(ms, now)
	at := now.Add(-time.Hour)
	want := []api.MemberStatus{
		{ID: 1, Self: true, Role: "participant", State: "leader", Address: "10.0.0.1:3888", Client: "0.0.0.0:2181", Connected: true},
		{ID: 2, Role: "participant", State: "follower", Address: "10.0.0.2:3888", Connected: true, Since: at, Acked: "0x50000001e", Behind: 2, Doing: "up to date"},
		{ID: 3, Role: "participant", State: "looking", Address: "10.0.0.3:3888", Connected: true, Since: at, Acked: "0x400000009", Behind: -1, Doing: "copying"},
		{ID: 4, Role: "observer", Address: "10.0.0.4:3888|10.9.0.4:3889", Since: now, Error: "connection refused"},
	}
	if !slices.Equal(e.Members, want) {
		t.Errorf("got\n%+v\nwant\n%+v", e.Members, want)
	}
	if e.Phase != "broadcast" || e.ListVersion != "0x100000004" || e.Changing || !e.Since.Equal(ms.Since) {
		t.Errorf("%+v", e)
	}
}

// TestStatusOfAMember asks a real server for the page, the API and the metrics.
func TestStatusOfAMember(t *testing.T) {
	p, _ := startMember(t, quorumList(t), 1)
	waitFor(t, "the errors of the others", func() bool {
		_, body := p.get(t, "GET", "/v1/status", "")
		return strings.Count(body, "cannot be reached: connection refused") == 2 && strings.Contains(body, "1 of 3 voters are here, which is no quorum")
	})
	_, body := p.get(t, "GET", "/", "")
	for _, want := range []string{"looking for a leader, since ", "server 2 (127.0.0.1:", "<td>participant"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
	_, body = p.get(t, "GET", "/metrics", "")
	for _, want := range []string{"quorum_size 3\n", "paddock_serving 0\n", "paddock_leader_id 0\n"} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	if resp, _ := p.get(t, "GET", "/livez", ""); resp.StatusCode != 200 {
		t.Errorf("livez: %s", resp.Status)
	}
	if text := fmt.Sprint(short(refused), ", ", short(errors.New("x"))); text != "connection refused, x" {
		t.Error(text)
	}
}
