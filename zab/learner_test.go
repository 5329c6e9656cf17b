package zab

import (
	"errors"
	"strings"
	"testing"
)

// joining returns the rig of server 1 that has found out that 3 leads, with the
// connection to it as link 7.
func joining(t testing.TB, cfg Config) *rig {
	t.Helper()
	if cfg.Ensemble == nil {
		cfg.Ensemble = threeVoters
	}
	cfg.ID = 1
	r := newRig(t, cfg)
	for id := ServerID(2); id <= 3; id++ {
		state := Following
		if id == 3 {
			state = Leading
		}
		r.n.Notified(Notification{From: id, To: 1, State: state, Vote: Vote{Leader: 3, Epoch: 6}, Round: 4, Version: 2})
	}
	r.expect("dial 3")
	r.step(Message{Type: MsgLinkUp, Link: 7, From: 3})
	return r
}

// follower returns server 1 with its history to 0x500000003, that has just sent
// ACKEPOCH to the leader of epoch 6.
func follower(t testing.TB, cfg Config) *rig {
	t.Helper()
	cfg.Hard, cfg.LastZxid = HardState{5, 5}, 0x500000003
	r := joining(t, cfg)
	r.ready()
	r.step(Message{Type: MsgLeaderInfo, Link: 7, Zxid: 0x600000000})
	r.expect("accepted:=6")
	r.step(Message{Type: MsgAcceptedStored, Epoch: 6})
	r.expect("7<ACKEPOCH 0x500000003 epoch 5")
	return r
}

// takes hands in packets of the leader.
func (r *rig) takes(ms ...Message) {
	r.t.Helper()
	for _, m := range ms {
		m.Link = 7
		m.Proposal.Zxid = max(m.Proposal.Zxid, 0)
		r.step(m)
	}
}

func proposal(z Zxid) Message {
	return Message{Type: MsgProposal, Zxid: z, Proposal: Proposal{Zxid: z}}
}
func commit(z Zxid) Message { return Message{Type: MsgCommit, Zxid: z} }
func inform(z Zxid) Message { return Message{Type: MsgInform, Zxid: z, Proposal: Proposal{Zxid: z}} }

var (
	newLeader6 = Message{Type: MsgNewLeader, Zxid: 0x600000000}
	upToDate   = Message{Type: MsgUpToDate, Zxid: -1}
)

// following6 brings a follower to Broadcast by an empty DIFF.
func following6(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := follower(t, cfg)
	r.takes(Message{Type: MsgDiff, Zxid: 0x500000003}, newLeader6)
	r.expect("current:=6")
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.expect("7<ACK 0x600000000")
	r.takes(upToDate)
	r.expect("7<ACK 0x600000000")
	return r
}

// TestFollowerOfAnApacheLeader goes through a synchronization as Apache's leaders do
// it while they are written to: proposals without commit before NEWLEADER, commits
// and pings between NEWLEADER and UPTODATE.
func TestFollowerOfAnApacheLeader(t *testing.T) {
	r := follower(t, Config{})
	r.takes(
		Message{Type: MsgDiff, Zxid: 0x500000005},
		proposal(0x500000004), commit(0x500000004), proposal(0x500000005), commit(0x500000005),
		proposal(0x600000001), Message{Type: MsgPing},
	)
	r.expect("log 0x500000004, log 0x500000005, log 0x600000001")
	r.takes(newLeader6, proposal(0x600000002), commit(0x600000001), Message{Type: MsgPing})
	r.expect("log 0x600000002")
	r.step(Message{Type: MsgAppended, Zxid: 0x500000005})
	r.expect("apply 0x500000004, apply 0x500000005")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001}) // all that came before NEWLEADER
	r.expect("current:=6, apply 0x600000001")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000002})
	r.expect("") // F2: not before the ACK of NEWLEADER
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.expect("7<ACK 0x600000000, 7<ACK 0x600000001, 7<ACK 0x600000002")
	if r.n.Phase() != Synchronization {
		t.Errorf("in %v before UPTODATE", r.n.Phase())
	}
	r.takes(upToDate, commit(0x600000002), proposal(0x600000003), Message{Type: MsgPing, Zxid: 0x600000003})
	r.expect("log 0x600000003, apply 0x600000002, 7<ACK 0x600000000, 7<PING 0x600000003")
	if r.n.Phase() != Broadcast {
		t.Errorf("in %v", r.n.Phase())
	}
	r.takes(commit(0x600000003))
	r.expect("") // it is not durable here
	r.step(Message{Type: MsgAppended, Zxid: 0x600000003})
	r.expect("apply 0x600000003, 7<ACK 0x600000003")
}

// TestFuzzySnapshotOfApache: what comes behind it may be part of it already, and
// what is committed before NEWLEADER is installed with it (rule R8).
func TestFuzzySnapshotOfApache(t *testing.T) {
	r := follower(t, Config{})
	r.takes(
		Message{Type: MsgSnap, Zxid: 0x600000002},
		proposal(0x600000001), commit(0x600000001), proposal(0x600000002), proposal(0x600000003),
		commit(0x600000002), proposal(0x600000004), commit(0x600000003),
	)
	r.expect("")
	r.takes(newLeader6)
	r.expect("install 0x600000003 with 1")
	r.takes(proposal(0x600000005), commit(0x600000004))
	r.expect("")
	r.step(Message{Type: MsgInstalled, Zxid: 0x600000003})
	r.expect("log 0x600000004, log 0x600000005")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000004})
	r.expect("apply 0x600000004, 7<ACK 0x600000000, 7<ACK 0x600000004")
	r.takes(upToDate)
	r.expect("7<ACK 0x600000000")
	if s := r.n.Status(); s.Hard != (HardState{6, 6}) || s.Last != 0x600000005 {
		t.Errorf("%+v", s)
	}
}

// TestSnapshotWithAMark: Apache labels one that it sends before the first
// transaction of its epoch with (epoch, 0).
func TestSnapshotWithAMark(t *testing.T) {
	r := follower(t, Config{})
	r.takes(Message{Type: MsgSnap, Zxid: 0x600000000}, newLeader6)
	r.expect("install 0x600000000 with 0")
	r.step(Message{Type: MsgInstalled, Zxid: 0x600000000})
	r.takes(upToDate, proposal(0x600000001))
	r.expect("log 0x600000001, 7<ACK 0x600000000, 7<ACK 0x600000000")
}

func TestTruncate(t *testing.T) {
	r := follower(t, Config{})
	r.takes(Message{Type: MsgTrunc, Zxid: 0x500000002}, proposal(0x600000001), commit(0x600000001), newLeader6)
	r.expect("truncate 0x500000002")
	r.step(Message{Type: MsgTruncated, Zxid: 0x500000002})
	r.expect("log 0x600000001")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001})
	r.expect("current:=6, apply 0x600000001")

	// The log ends there already: nothing to cut.
	r = follower(t, Config{})
	r.takes(Message{Type: MsgTrunc, Zxid: 0x500000003}, newLeader6)
	r.expect("current:=6")

	// The connection breaks meanwhile: the disk goes on, and it votes behind that.
	r = follower(t, Config{})
	r.takes(Message{Type: MsgTrunc, Zxid: 0x500000002}, Message{Type: MsgLinkDown})
	r.expect("truncate 0x500000002")
	r.step(Message{Type: MsgTruncated, Zxid: 0x500000002})
	if rd := r.n.Ready(); len(rd.Notifications) == 0 || rd.Notifications[0].Vote.Zxid != 0x500000002 {
		t.Errorf("votes %v", rd.Notifications)
	}
}

// TestTruncateToNothing: Apache's leaders may ask for it. It cannot be done; the
// whole tree can be had.
func TestTruncateToNothing(t *testing.T) {
	for name, cut := range map[string]func(*rig){
		"to nothing": func(r *rig) { r.takes(Message{Type: MsgTrunc, Zxid: 0}) },
		"the files do not reach back": func(r *rig) {
			r.takes(Message{Type: MsgTrunc, Zxid: 0x500000001}, proposal(0x500000002))
			r.expect("truncate 0x500000001")
			r.step(Message{Type: MsgTruncated, Zxid: 0x500000001, Failed: true})
		},
	} {
		r := follower(t, Config{})
		cut(r)
		if got := r.ready(); !strings.HasPrefix(got, "dial 3, close 7: the l") {
			t.Errorf("%s: %s", name, got)
		}
		r.step(Message{Type: MsgLinkUp, Link: 7, From: 3})
		r.takes(Message{Type: MsgLeaderInfo, Zxid: 0x600000000})
		r.expect("7<FOLLOWERINFO 0x600000000, 7<ACKEPOCH 0xffffffffffffffff epoch -1")
		r.takes(Message{Type: MsgSnap, Zxid: 0x500000001}, newLeader6)
		r.expect("install 0x500000001 with 0")
	}
}

// TestObserver takes INFORM, acknowledges nothing but NEWLEADER and UPTODATE, and
// gets pairs of PROPOSAL and COMMIT during synchronization.
func TestObserver(t *testing.T) {
	r := follower(t, Config{Ensemble: listOf(0, []ServerID{2, 3}, []ServerID{1})})
	r.takes(Message{Type: MsgDiff, Zxid: 0x500000004}, proposal(0x500000004), commit(0x500000004), inform(0x600000001), newLeader6, inform(0x600000002))
	r.expect("log 0x500000004, log 0x600000001, log 0x600000002")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000002})
	r.expect("current:=6, apply 0x500000004, apply 0x600000001, apply 0x600000002")
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.takes(upToDate, inform(0x600000003), Message{Type: MsgPing})
	r.expect("log 0x600000003, 7<ACK 0x600000000, 7<ACK 0x600000000, 7<PING 0x0")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000003})
	r.expect("apply 0x600000003")
	if r.n.Role() != Observing {
		t.Errorf("is %v", r.n.Role())
	}
}

// TestLeadersThatAreLeft goes through what a leader may do wrong.
func TestLeadersThatAreLeft(t *testing.T) {
	start := func(t testing.TB) *rig {
		r := joining(t, Config{Hard: HardState{5, 5}, LastZxid: 0x500000003})
		r.ready()
		return r
	}
	acked := func(t testing.TB) *rig { return follower(t, Config{}) }
	diff := Message{Type: MsgDiff, Zxid: 0x500000003}
	broadcast := func(t testing.TB) *rig { return following6(t, Config{}) }
	observing := func(t testing.TB) *rig {
		return following6(t, Config{Ensemble: listOf(0, []ServerID{2, 3}, []ServerID{1})})
	}
	for _, tc := range []struct {
		name string
		from func(testing.TB) *rig
		do   []Message
		left bool
	}{
		{"an epoch below the promise", start, []Message{{Type: MsgLeaderInfo, Zxid: 0x400000000}}, true},
		{"no epoch", start, []Message{{Type: MsgLeaderInfo}}, true},
		{"an epoch that cannot be", start, []Message{{Type: MsgLeaderInfo, Zxid: -1 << 32}}, true},
		{"another packet first", start, []Message{diff}, true},
		{"a packet of learners", start, []Message{{Type: MsgFollowerInfo}}, true},
		{"PING at any time", start, []Message{{Type: MsgPing}}, false},
		{"NEWLEADER without history", acked, []Message{newLeader6}, true},
		{"TRUNC above the log", acked, []Message{{Type: MsgTrunc, Zxid: 0x500000004}}, true},
		{"SNAP of a later epoch", acked, []Message{{Type: MsgSnap, Zxid: 0x700000001}}, true},
		{"two histories", acked, []Message{diff, diff}, true},
		{"a gap behind DIFF", acked, []Message{diff, proposal(0x500000005)}, true},
		{"a gap behind SNAP", acked, []Message{{Type: MsgSnap, Zxid: 0x500000005}, proposal(0x500000007)}, true},
		{"a proposal of a later epoch", acked, []Message{diff, proposal(0x700000001)}, true},
		{"a transaction twice", acked, []Message{diff, proposal(0x500000004), proposal(0x500000004)}, true},
		{"COMMIT without its proposal", acked, []Message{diff, commit(0x500000004)}, true},
		{"COMMIT of the second", acked, []Message{diff, proposal(0x500000004), proposal(0x500000005), commit(0x500000005)}, true},
		{"COMMIT of the second behind SNAP", acked, []Message{{Type: MsgSnap, Zxid: 0x500000005}, proposal(0x500000006), proposal(0x500000007), commit(0x500000007)}, true},
		{"COMMIT again during synchronization", acked, []Message{diff, proposal(0x500000004), commit(0x500000004), commit(0x500000004)}, false},
		{"NEWLEADER of another epoch", acked, []Message{diff, {Type: MsgNewLeader, Zxid: 0x500000000}}, true},
		{"NEWLEADER with a zxid", acked, []Message{diff, {Type: MsgNewLeader, Zxid: 0x600000001}}, true},
		{"UPTODATE before NEWLEADER", acked, []Message{diff, upToDate}, true},
		{"UPTODATE before our ACK", acked, []Message{diff, newLeader6, upToDate}, true},
		{"INFORM for a follower", acked, []Message{diff, inform(0x500000004)}, true},
		{"a gap", broadcast, []Message{proposal(0x600000002)}, true},
		{"an older transaction", broadcast, []Message{proposal(0x500000003)}, true},
		{"COMMIT without proposal", broadcast, []Message{commit(0x600000001)}, true},
		{"COMMIT again", broadcast, []Message{proposal(0x600000001), commit(0x600000001), commit(0x600000001)}, true},
		{"COMMIT of the second", broadcast, []Message{proposal(0x600000001), proposal(0x600000002), commit(0x600000002)}, true},
		{"UPTODATE again", broadcast, []Message{upToDate}, true},
		{"DIFF again", broadcast, []Message{diff}, true},
		{"all in order", broadcast, []Message{proposal(0x600000001), commit(0x600000001), {Type: MsgPing}}, false},
		{"a gap in INFORM", observing, []Message{inform(0x600000002)}, true},
		{"PROPOSAL for an observer", observing, []Message{proposal(0x600000001)}, true},
		{"COMMIT for an observer", observing, []Message{commit(0x600000001)}, true},
	} {
		r := tc.from(t)
		r.takes(tc.do...)
		rd := r.n.Ready()
		closed := len(rd.Close) == 1 && rd.Close[0].Link == 7 && rd.Close[0].Reason != nil
		if left := rd.Role == Looking; left != tc.left || left != closed || left && rd.Reason == nil {
			t.Errorf("%s: left %v, want %v; closed %v, reason %v", tc.name, left, tc.left, rd.Close, rd.Reason)
		}
	}
}

// TestPromisedBefore: an epoch that was promised already is not promised again.
func TestPromisedBefore(t *testing.T) {
	r := joining(t, Config{Hard: HardState{6, 5}, LastZxid: 0x500000003})
	r.expect("7<FOLLOWERINFO 0x600000000")
	r.takes(Message{Type: MsgLeaderInfo, Zxid: 0x600000000})
	r.expect("7<ACKEPOCH 0x500000003 epoch -1")
	// The promise of one without a vote binds nobody.
	r = joining(t, Config{Ensemble: listOf(0, []ServerID{2, 3}, []ServerID{1}), Hard: HardState{9, 5}, LastZxid: 0x500000003})
	r.expect("7<OBSERVERINFO 0x900000000")
	r.takes(Message{Type: MsgLeaderInfo, Zxid: 0x600000000})
	r.expect("7<ACKEPOCH 0x500000003 epoch -1")
}

// TestLostDiskIsNotCounted (rule R14).
func TestLostDiskIsNotCounted(t *testing.T) {
	r := joining(t, Config{Lost: true})
	r.expect("7<FOLLOWERINFO 0x0")
	r.takes(Message{Type: MsgLeaderInfo, Zxid: 0x600000000})
	r.expect("accepted:=6")
	r.step(Message{Type: MsgAcceptedStored, Epoch: 6})
	r.expect("7<ACKEPOCH 0xffffffffffffffff epoch -1")
	if !r.n.Status().Lost {
		t.Error("counts again already")
	}
	r.takes(Message{Type: MsgSnap, Zxid: 0x500000003}, newLeader6)
	r.ready()
	r.step(Message{Type: MsgInstalled, Zxid: 0x500000003})
	r.expect("7<ACK 0x600000000")
	if r.n.Status().Lost {
		t.Error("does not count although a leader has brought it up to date")
	}
}

// TestLearnerTimeouts lets a learner wait for things that do not come.
func TestLearnerTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func() *rig
		at   Millis // it follows until shortly before, not any more shortly after
		why  string
	}{
		{"no LEADERINFO", func() *rig { return joining(t, Config{}) }, 10_000, "waited"},
		{"no history", func() *rig { return follower(t, Config{}) }, 10_000, "waited"},
		{"the snapshot comes slowly, then not at all", func() *rig {
			r := follower(t, Config{})
			for range 5 {
				r.pass(8000)
				r.takes(Message{Type: MsgProgress})
			}
			return r
		}, 10_000, "waited"},
		{"the own disk takes its time", func() *rig {
			r := follower(t, Config{})
			r.takes(Message{Type: MsgTrunc, Zxid: 0x500000002})
			r.pass(60_000)
			r.step(Message{Type: MsgTruncated, Zxid: 0x500000002})
			return r
		}, 10_000, "waited"},
		{"no UPTODATE", func() *rig {
			r := follower(t, Config{})
			r.takes(Message{Type: MsgDiff}, newLeader6)
			r.step(Message{Type: MsgCurrentStored, Epoch: 6})
			return r
		}, 10_000, "waited"},
		{"silence in Broadcast", func() *rig { return following6(t, Config{}) }, 5000, "silent"},
		{"pings, then silence", func() *rig {
			r := following6(t, Config{})
			for range 5 {
				r.pass(4000)
				r.takes(Message{Type: MsgPing})
			}
			return r
		}, 5000, "silent"},
	} {
		r := tc.make()
		r.pass(tc.at - 600)
		if r.n.Role() != Following {
			t.Errorf("%s: %v too early: %v", tc.name, r.n.Role(), r.n.Ready().Reason)
			continue
		}
		r.pass(1300)
		if why := r.n.Ready().Reason; r.n.Role() != Looking || !errors.Is(why, ErrTimeout) || !strings.Contains(why.Error(), tc.why) {
			t.Errorf("%s: %v, %v; want %q", tc.name, r.n.Role(), why, tc.why)
		}
	}
	// A connection that is not made: it prefers others for a while.
	r := newRig(t, Config{ID: 1, Ensemble: threeVoters})
	for id := ServerID(2); id <= 3; id++ {
		r.n.Notified(Notification{From: id, To: 1, Vote: Vote{Leader: 3}, Round: 1, Version: 2})
	}
	r.expect("dial 3")
	r.step(Message{Type: MsgDialFailed, From: 2})
	r.step(Message{Type: MsgDialFailed, From: 3})
	if rd := r.n.Ready(); rd.Role != Looking || rd.Reason == nil {
		t.Errorf("%v, %v", rd.Role, rd.Reason)
	}
}

// TestStaleReports: what the driver reports of links and dials of an earlier role
// changes nothing; links nobody asked for are closed.
func TestStaleReports(t *testing.T) {
	r := following6(t, Config{})
	r.step(Message{Type: MsgDialFailed, From: 3})
	r.step(Message{Type: MsgLinkDown, Link: 6})
	r.step(Message{Type: MsgProposal, Link: 6, Proposal: Proposal{Zxid: 9}})
	r.expect("")
	r.step(Message{Type: MsgLinkUp, Link: 8, From: 3})
	r.step(Message{Type: MsgLinkUp, Link: 9, From: NoServer})
	r.expect("close 8: <nil>, close 9: <nil>")
	r.step(Message{Type: MsgLinkDown, Link: 7})
	r.ready()
	r.step(Message{Type: MsgLinkUp, Link: 10, From: NoServer})
	r.step(Message{Type: MsgCommit, Link: 7})
	r.expect("close 10: <nil>")
	for _, m := range []Message{
		{Type: MsgAcceptedStored, Epoch: 6}, {Type: MsgCurrentStored, Epoch: 6}, {Type: MsgTruncated, Zxid: 1},
		{Type: MsgInstalled, Zxid: 1}, {Type: MsgNone}, {Type: 20}, {Type: 99}, {Type: MsgConfirm, Token: 1}, {Type: MsgPropose},
	} {
		if err := r.n.Step(m); err == nil {
			t.Errorf("a message of type %d that nobody waits for is taken", m.Type)
		}
	}
}

// TestReconfigurationEndsTheRole of those that it gives another one, behind the
// commit; others go on.
func TestReconfigurationEndsTheRole(t *testing.T) {
	reconfig := func(voters, observers []ServerID, leader ServerID) []Message {
		p := proposal(0x600000001)
		p.Proposal.Ensemble = listOf(0x600000001, voters, observers)
		return []Message{p, {Type: MsgCommitAndActivate, Zxid: 0x600000001, Leader: leader}}
	}
	for _, tc := range []struct {
		name string
		do   []Message
		left bool
	}{
		{"a server is added", reconfig([]ServerID{1, 2, 3, 4}, nil, 3), false},
		{"this server is not in the list", reconfig([]ServerID{2, 3}, nil, 3), false},
		{"this server becomes an observer", reconfig([]ServerID{2, 3}, []ServerID{1}, 3), true},
		{"another leader", reconfig([]ServerID{1, 2}, nil, 2), true},
	} {
		r := following6(t, Config{ReconfigEnabled: true})
		r.n.Notified(Notification{From: 4, To: 1, State: Looking, Vote: Vote{Leader: 4}, Round: 1, Version: 2})
		if s := r.n.Status().Strangers; len(s) != 1 || s[0].ID != 4 {
			t.Fatalf("%s: strangers %v", tc.name, s)
		}
		r.takes(tc.do[0])
		if rd := r.n.Ready(); rd.LastSeen != tc.do[0].Proposal.Ensemble || rd.Ensemble == rd.LastSeen {
			t.Errorf("%s: not seen", tc.name)
		}
		r.takes(tc.do[1])
		rd := r.n.Ready()
		if left := rd.Role == Looking; left != tc.left || rd.Ensemble != tc.do[0].Proposal.Ensemble {
			t.Errorf("%s: left %v, want %v; in force %x", tc.name, left, tc.left, rd.Ensemble.Version)
		}
		if _, listed := rd.Ensemble.Member(4); listed == (len(r.n.Status().Strangers) > 0) {
			t.Errorf("%s: strangers %v", tc.name, r.n.Status().Strangers)
		}
	}
}

// TestTruncatedReconfiguration: a list whose proposal is cut off is not one of the
// two that count any more; the list in NEWLEADER is put into force by UPTODATE.
func TestTruncatedReconfiguration(t *testing.T) {
	seen := listOf(0x500000003, []ServerID{1, 2}, nil)
	r := follower(t, Config{ReconfigEnabled: true, LastSeen: seen})
	if r.n.Ready().LastSeen != seen {
		t.Fatal("not seen")
	}
	r.takes(Message{Type: MsgTrunc, Zxid: 0x500000002})
	r.ready()
	r.step(Message{Type: MsgTruncated, Zxid: 0x500000002})
	if rd := r.n.Ready(); rd.LastSeen != rd.Ensemble {
		t.Errorf("last seen %x", rd.LastSeen.Version)
	}
	next := listOf(0x600000000, []ServerID{1, 2, 3}, nil)
	r.takes(Message{Type: MsgNewLeader, Zxid: 0x600000000, Data: []byte(next.String())})
	if rd := r.n.Ready(); rd.LastSeen.Version != 0x600000000 || rd.Ensemble.Version != 0 {
		t.Errorf("last seen %x, in force %x", rd.LastSeen.Version, rd.Ensemble.Version)
	}
	r.ready()
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.takes(upToDate)
	if rd := r.n.Ready(); rd.Ensemble.Version != 0x600000000 {
		t.Errorf("in force %x", rd.Ensemble.Version)
	}
	// A list that cannot be read.
	r = follower(t, Config{ReconfigEnabled: true})
	r.takes(Message{Type: MsgDiff}, Message{Type: MsgNewLeader, Zxid: 0x600000000, Data: []byte("server.1=here")})
	if r.n.Role() != Looking {
		t.Error("stays")
	}
}
