//go:build interop

package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client/apachetest"
	"github.com/paddockio/paddock/zab/wire"
)

// TestApache talks to an ensemble of three Apache servers as one that is in no
// list.
func TestApache(t *testing.T) {
	servers := apachetest.StartEnsemble(t, 27040, 3)
	all := &zab.Ensemble{}
	var leader zab.Member
	for i, s := range servers {
		m := zab.Member{ID: zab.ServerID(i + 1), Addrs: []zab.MemberAddr{{Host: "127.0.0.1", QuorumPort: 27051 + i, ElectionPort: 27061 + i}}}
		all.Members = append(all.Members, m)
		if strings.Contains(s.Ask("srvr"), "Mode: leader") {
			leader = m
		}
	}
	for _, id := range []zab.ServerID{9, 0} {
		t.Run(fmt.Sprintf("election as server %d", id), func(t *testing.T) { electWithApache(t, id, all, leader.ID) })
	}
	t.Run("learner", func(t *testing.T) { learnFromApache(t, leader, servers[0].Addr) })
}

// electWithApache asks who leads. As server 9 it makes the connections, as server
// 0 it is dialled back.
func electWithApache(t *testing.T, id zab.ServerID, all *zab.Ensemble, leader zab.ServerID) {
	heard := make(chan zab.Notification, 100)
	addr := fmt.Sprintf("127.0.0.1:%d", 27090+id)
	e := NewElection(ElectionConfig{
		ID: id, Listen: []string{addr}, Advertise: []string{addr}, Received: func(n zab.Notification) { heard <- n },
	})
	e.SetPeers(all)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	defer running.Wait()
	defer stop()
	for _, m := range all.Members {
		e.Send(zab.Notification{To: m.ID, Vote: zab.Vote{Leader: id}, Round: 1})
	}
	answers := map[zab.ServerID]bool{}
	for len(answers) < len(all.Members) {
		n := within(t, heard)
		want := zab.Following
		if n.From == leader {
			want = zab.Leading
		}
		if n.State != want || n.Vote.Leader != leader || n.Version != 2 {
			t.Errorf("%+v", n)
		}
		answers[n.From] = true
	}
	if s := e.Status(); s.Faulty != 0 || !s.Peers[0].Connected {
		t.Errorf("%+v", s)
	}
}

// learnFromApache joins, reads the snapshot, and follows until the session of a
// client comes by.
func learnFromApache(t *testing.T, leader zab.Member, client string) {
	got := make(chan wire.QuorumPacket, 100)
	links := make(chan *Link, 1)
	q := NewQuorum(QuorumConfig{
		LinkUp: func(l *Link) { links <- l },
		Received: func(_ *Link, packets []wire.QuorumPacket) {
			for _, p := range packets {
				got <- p
			}
		},
		Snapshot: func(_ *Link, p wire.QuorumPacket, r *SnapshotReader) error {
			got <- p
			var all []byte
			for b := make([]byte, 4096); ; {
				n, err := r.Read(b)
				if err != nil {
					return err
				}
				all = append(all, b[:n]...)
				if _, rest, ok := bytes.Cut(all, []byte("BenWasHere")); ok {
					r.Unread(rest)
					return nil
				}
			}
		},
		LinkDown: func(_ *Link, err error) {
			if !errors.Is(err, ErrStopped) {
				t.Error(err)
			}
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { q.Run(ctx) })
	defer running.Wait()
	defer stop()
	if err := q.Dial(t.Context(), leader); err != nil {
		t.Fatal(err)
	}
	l := within(t, links)
	expect := func(want wire.PacketType) zab.Message {
		t.Helper()
		for {
			p := within(t, got)
			m, err := p.Message()
			switch {
			case err != nil:
				t.Fatal(err)
			case p.Type == want:
				return m
			case p.Type == wire.PacketPing:
				l.SendMessage(&zab.Message{Type: zab.MsgPing, Zxid: p.Zxid, Data: []byte{}})
			default:
				t.Fatalf("got %v, want %v", p.Type, want)
			}
		}
	}
	l.SendMessage(&zab.Message{Type: zab.MsgFollowerInfo, From: 9})
	info := expect(wire.PacketLeaderInfo)
	l.SendMessage(&zab.Message{Type: zab.MsgAckEpoch, HasEpoch: true})
	expect(wire.PacketSnap)
	if m := expect(wire.PacketNewLeader); m.Zxid != info.Zxid {
		t.Errorf("NEWLEADER %v, LEADERINFO %v", m.Zxid, info.Zxid)
	}
	l.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: info.Zxid})
	expect(wire.PacketUpToDate)
	l.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: info.Zxid})
	expect(wire.PacketPing)

	nc, err := net.Dial("tcp", client)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := (&wire.ConnectRequest{TimeoutMs: 10000, Password: make([]byte, 16)}).Append(make([]byte, 4))
	wire.AppendInt(b[:0], int32(len(b)-4))
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
	m := expect(wire.PacketProposal)
	var txn wire.Txn
	if err := wire.Unmarshal(m.Proposal.Data, &txn); err != nil || txn.Header.Type != wire.OpCreateSession {
		t.Errorf("%+v, %v", txn, err)
	}
	l.SendMessage(&zab.Message{Type: zab.MsgAck, Zxid: m.Proposal.Zxid})
	if c := expect(wire.PacketCommit); c.Zxid != m.Proposal.Zxid {
		t.Errorf("COMMIT %v", c.Zxid)
	}
}
