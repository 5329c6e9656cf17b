package zab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// rig is one node whose disk, peers and time are the test.
type rig struct {
	t   testing.TB
	n   *Node
	now Millis
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	if cfg.TickTime == 0 {
		cfg.TickTime, cfg.InitLimit, cfg.SyncLimit = 1000, 10, 5
	}
	if cfg.HistoryCount == 0 {
		cfg.HistoryCount, cfg.HistoryBytes = 1000, 1<<20
	}
	n, err := NewNode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, n: n, now: 5000}
	n.Tick(r.now)
	return r
}

func (r *rig) step(m Message) {
	r.t.Helper()
	if err := r.n.Step(m); err != nil {
		r.t.Fatalf("step of type %d: %v", m.Type, err)
	}
	if err := r.n.valid(); err != nil {
		r.t.Fatalf("behind a step of type %d: %v", m.Type, err)
	}
}

// ready returns the effects as one line, without notifications.
func (r *rig) ready() string {
	rd := r.n.Ready()
	var s []string
	add := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	if rd.StoreAccepted != 0 {
		add("accepted:=%d", rd.StoreAccepted)
	}
	if rd.StoreCurrent != 0 {
		add("current:=%d", rd.StoreCurrent)
	}
	if rd.Truncate != 0 {
		add("truncate %v", rd.Truncate)
	}
	if rd.Install != nil {
		add("install %v with %d", rd.Install.Zxid, len(rd.Install.Committed))
	}
	for _, p := range rd.Append {
		add("log %v", p.Zxid)
	}
	for _, p := range rd.Committed {
		add("apply %v", p.Zxid)
	}
	if rd.Dial != NoServer {
		add("dial %d", rd.Dial)
	}
	for i := range rd.Messages {
		add("%d<%s", rd.Messages[i].Link, describePacket(&rd.Messages[i]))
	}
	for _, l := range rd.Locate {
		add("locate %v", l.Zxid)
	}
	for _, st := range rd.Stream {
		if st.Snapshot {
			add("stream snapshot")
		} else {
			add("stream %v..%v", st.After, st.Until)
		}
	}
	for _, c := range rd.Close {
		add("close %d: %v", c.Link, c.Reason)
	}
	r.n.Advance()
	return strings.Join(s, ", ")
}

func (r *rig) expect(want string) {
	r.t.Helper()
	if got := r.ready(); got != want {
		r.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// pass lets time go by, a tick of the driver at each deadline.
func (r *rig) pass(ms Millis) {
	r.t.Helper()
	for end := r.now + ms; r.now < end; {
		r.now = min(end, max(r.now+1, r.n.Deadline()))
		r.n.Tick(r.now)
		if err := r.n.valid(); err != nil {
			r.t.Fatal(err)
		}
	}
}

var threeVoters = listOf(0, []ServerID{1, 2, 3}, nil)

// elected returns the rig of server 3 of three that has just won the election.
func elected(t testing.TB, cfg Config) *rig {
	t.Helper()
	if cfg.Ensemble == nil {
		cfg.Ensemble = threeVoters
	}
	cfg.ID = 3
	r := newRig(t, cfg)
	own := Vote{Leader: 3, Zxid: cfg.LastZxid, Epoch: max(cfg.Hard.Current, cfg.LastZxid.Epoch())}
	for id := ServerID(1); id <= 2; id++ {
		r.n.Notified(Notification{From: id, To: 3, Vote: own, Round: 1, Version: 2})
	}
	if r.n.Role() != Leading {
		t.Fatalf("server 3 is %v", r.n.Role())
	}
	r.ready()
	return r
}

// learner brings a link to where its ACKEPOCH is awaited. The leader's epoch is
// fixed by the first of them.
func (r *rig) learner(id LinkID, from ServerID, t MessageType) {
	r.t.Helper()
	r.step(Message{Type: MsgLinkUp, Link: id, From: NoServer})
	r.step(Message{Type: t, Link: id, From: from})
}

// established returns server 3 as the leader of epoch 6, with server 1 on link 1.
func established(t testing.TB) *rig {
	t.Helper()
	r := elected(t, Config{Hard: HardState{5, 5}, LastZxid: 0x500000007})
	r.learner(1, 1, MsgFollowerInfo)
	r.step(Message{Type: MsgAcceptedStored, Epoch: 6})
	r.step(Message{Type: MsgAckEpoch, Link: 1, Zxid: 0x500000007, Epoch: 5, HasEpoch: true})
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000000})
	if r.n.Phase() != Broadcast {
		t.Fatalf("server 3 is in %v", r.n.Phase())
	}
	r.ready()
	return r
}

// TestLeaderServesAnApacheFollower sends what Apache's followers send, in their
// order.
func TestLeaderServesAnApacheFollower(t *testing.T) {
	r := elected(t, Config{Hard: HardState{5, 5}, LastZxid: 0x500000007})
	r.step(Message{Type: MsgLinkUp, Link: 1, From: NoServer})
	r.expect("")
	r.step(Message{Type: MsgFollowerInfo, Link: 1, From: 1, Zxid: 0x500000000})
	r.expect("accepted:=6")
	r.step(Message{Type: MsgAcceptedStored, Epoch: 6})
	r.expect("1<LEADERINFO 0x600000000")
	r.step(Message{Type: MsgAckEpoch, Link: 1, Zxid: 0x500000005, Epoch: 5, HasEpoch: true})
	r.expect("current:=6")
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.expect("locate 0x500000005")
	r.step(Message{Type: MsgLocated, Link: 1, Zxid: 0x500000005})
	r.expect("1<DIFF 0x500000007, stream 0x500000005..0x500000007")
	r.step(Message{Type: MsgProgress, Link: 1})
	r.step(Message{Type: MsgStreamed, Link: 1, Zxid: 0x500000007})
	r.expect("1<NEWLEADER 0x600000000")
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000000})
	r.expect("1<UPTODATE")
	r.step(Message{Type: MsgPropose, Proposals: props(0x600000001, 0x600000002)})
	r.expect("log 0x600000001, log 0x600000002, 1<PROPOSAL 0x600000001, 1<PROPOSAL 0x600000002")
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000000}) // of UPTODATE
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000001})
	r.expect("")
	// Its own log has one of them only: it may send COMMIT of both, and apply one.
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001})
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000002})
	r.expect("apply 0x600000001, 1<COMMIT 0x600000001")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000002})
	r.expect("apply 0x600000002, 1<COMMIT 0x600000002")
	r.pass(500)
	r.expect("1<PING 0x600000002")
	r.step(Message{Type: MsgPing, Link: 1, Zxid: 0x600000002})
	r.expect("")
}

// TestCommitNeedsAQuorumNotTheOwnDisk has two followers acknowledge while the
// leader's disk is slow (note of rule R1).
func TestCommitNeedsAQuorumNotTheOwnDisk(t *testing.T) {
	r := established(t)
	r.learner(2, 2, MsgFollowerInfo)
	r.step(Message{Type: MsgAckEpoch, Link: 2, Zxid: 0x500000007})
	r.step(Message{Type: MsgAck, Link: 2, Zxid: 0x600000000})
	r.step(Message{Type: MsgPropose, Proposals: props(0x600000001, 0x600000002, 0x600000003)})
	r.ready()
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000003})
	r.expect("")
	r.step(Message{Type: MsgAck, Link: 2, Zxid: 0x600000002})
	r.expect("1<COMMIT 0x600000001, 1<COMMIT 0x600000002, 2<COMMIT 0x600000001, 2<COMMIT 0x600000002")
	if s := r.n.Status(); s.Committed != 0x600000002 || s.Delivered != 0x500000007 {
		t.Errorf("committed %v, delivered %v", s.Committed, s.Delivered)
	}
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001})
	r.expect("apply 0x600000001")
	r.step(Message{Type: MsgAppended, Zxid: 0x600000003})
	r.expect("apply 0x600000002, apply 0x600000003, 1<COMMIT 0x600000003, 2<COMMIT 0x600000003")
}

// TestEpochNeedsPromisesThatCount: ACKEPOCH with epoch -1 is that of a server that
// has promised before, or lost its disk; observers have no say.
func TestEpochNeedsPromisesThatCount(t *testing.T) {
	r := elected(t, Config{Hard: HardState{5, 5}, LastZxid: 0x500000007})
	r.learner(9, 9, MsgObserverInfo)
	r.expect("")
	r.learner(1, 1, MsgFollowerInfo)
	r.expect("accepted:=6")
	r.step(Message{Type: MsgAcceptedStored, Epoch: 6})
	r.ready()
	r.step(Message{Type: MsgAckEpoch, Link: 9, Zxid: 0x500000007, Epoch: 5, HasEpoch: true})
	r.step(Message{Type: MsgAckEpoch, Link: 1, Zxid: 0x500000007})
	r.expect("")
	// Apache's servers without a disk send zxid -1.
	r.learner(2, 2, MsgFollowerInfo)
	r.step(Message{Type: MsgAckEpoch, Link: 2, Zxid: -1, Epoch: 0, HasEpoch: true})
	r.expect("2<LEADERINFO 0x600000000")
	// It comes again and counts; what it had said is forgotten with the link.
	r.learner(3, 2, MsgFollowerInfo)
	r.expect("")
	r.step(Message{Type: MsgLinkDown, Link: 2})
	r.expect("3<LEADERINFO 0x600000000")
	r.step(Message{Type: MsgAckEpoch, Link: 3, Zxid: 0x500000003, Epoch: 5, HasEpoch: true})
	r.expect("current:=6")
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	r.expect("9<DIFF 0x500000007, 9<NEWLEADER 0x600000000, 1<DIFF 0x500000007, 1<NEWLEADER 0x600000000, locate 0x500000003")
}

// TestPromisesOutliveTheirConnection: a promise is kept by the disk of who gave it.
func TestPromisesOutliveTheirConnection(t *testing.T) {
	r := elected(t, Config{})
	r.learner(1, 1, MsgFollowerInfo)
	r.step(Message{Type: MsgAcceptedStored, Epoch: 1})
	r.step(Message{Type: MsgLinkDown, Link: 1})
	r.learner(2, 1, MsgFollowerInfo)
	r.step(Message{Type: MsgAckEpoch, Link: 2, HasEpoch: true})
	r.step(Message{Type: MsgLinkDown, Link: 2})
	r.ready()
	r.learner(4, 1, MsgFollowerInfo)
	r.step(Message{Type: MsgAckEpoch, Link: 4}) // -1: it has promised before
	r.expect("4<LEADERINFO 0x100000000")
	r.step(Message{Type: MsgCurrentStored, Epoch: 1})
	r.expect("4<DIFF 0x0, 4<NEWLEADER 0x100000000")
}

// TestTwoServersWithOneID: the older one stays for as long as it answers. Were the
// later one to take its place, the two would throw each other off for ever.
func TestTwoServersWithOneID(t *testing.T) {
	r := established(t)
	r.learner(2, 1, MsgFollowerInfo)
	r.expect("1<PING 0x500000007")
	r.step(Message{Type: MsgPropose, Proposals: props(0x600000001)})
	r.expect("log 0x600000001, 1<PROPOSAL 0x600000001") // the later one gets nothing
	// What the older one has sent before it may have fallen silent proves nothing.
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000001})
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001})
	r.expect("apply 0x600000001, 1<COMMIT 0x600000001")
	r.learner(3, 1, MsgObserverInfo)
	r.expect("1<PING 0x600000001")
	r.step(Message{Type: MsgPing, Link: 1, Zxid: 0x500000007})
	rd := r.n.Ready()
	if len(rd.Close) != 1 || rd.Close[0].Link != 2 || rd.Close[0].Peer != 1 || !errors.Is(rd.Close[0].Reason, ErrDuplicateID) {
		t.Errorf("closed: %v", rd.Close)
	}
	r.n.Advance()
	r.step(Message{Type: MsgPing, Link: 1, Zxid: 0x600000001})
	r.expect("close 3: server 1 is connected already and answers there: two servers use one id")
	if l := r.n.Status().Learners; len(l) != 1 || l[0].Link != 1 || !l[0].UpToDate || r.n.Role() != Leading {
		t.Errorf("%v with learners %+v", r.n.Role(), l)
	}
}

// TestWhoComesBackTakesThePlaceOfItsOldLink: by its end, or once it is silent, which
// is all that is seen of a server whose power was cut.
func TestWhoComesBackTakesThePlaceOfItsOldLink(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(r *rig)
		want string
	}{
		{"its end", func(r *rig) { r.step(Message{Type: MsgLinkDown, Link: 1}) }, "1<PING 0x500000007, 2<LEADERINFO 0x600000000"},
		{"silence", func(r *rig) { r.pass(1000) },
			"1<PING 0x500000007, 1<PING 0x500000007, 5<PING 0x500000007, 2<LEADERINFO 0x600000000, 5<PING 0x500000007, close 1: silent, and the same server has connected again"},
	} {
		r := established(t)
		r.learner(5, 2, MsgFollowerInfo)
		r.step(Message{Type: MsgAckEpoch, Link: 5, Zxid: 0x500000007})
		r.step(Message{Type: MsgAck, Link: 5, Zxid: 0x600000000})
		r.ready()
		r.learner(2, 1, MsgFollowerInfo)
		tc.do(r)
		if got := r.ready(); got != tc.want {
			t.Errorf("%s: got  %s\nwant %s", tc.name, got, tc.want)
		}
	}
	// One that is not up to date yet does not answer: it may copy for longer.
	r := established(t)
	r.learner(2, 2, MsgFollowerInfo)
	r.ready()
	r.learner(4, 2, MsgFollowerInfo)
	alive := func() {
		r.pass(500)
		r.step(Message{Type: MsgPing, Link: 1})
	}
	for range 4 {
		alive()
	}
	r.step(Message{Type: MsgProgress, Link: 2})
	for range 9 {
		alive()
	}
	if got := r.ready(); strings.Contains(got, "close") || strings.Contains(got, "4<") {
		t.Errorf("before syncLimit: %s", got)
	}
	alive()
	if got := r.ready(); !strings.Contains(got, "4<LEADERINFO") || !strings.Contains(got, "close 2: silent") {
		t.Errorf("behind syncLimit: %s", got)
	}
}

// TestLearnersThatAreSentAway goes through what a learner may say and do wrong.
func TestLearnersThatAreSentAway(t *testing.T) {
	info := func(m Message) []Message { return []Message{{Type: MsgLinkUp, From: NoServer}, m} }
	ackEpoch := func(m Message) []Message {
		return append(info(Message{Type: MsgFollowerInfo, From: 2}), m)
	}
	newLeader := func(ms ...Message) []Message {
		return append(ackEpoch(Message{Type: MsgAckEpoch, Zxid: 0x500000007}), ms...)
	}
	upToDate := func(ms ...Message) []Message {
		return append(newLeader(Message{Type: MsgAck, Zxid: 0x600000000}), ms...)
	}
	for _, tc := range []struct {
		name  string
		do    []Message
		why   string // "" if it is kept
		leads bool
	}{
		{"another packet first", info(Message{Type: MsgAckEpoch}), "not expected now", true},
		{"our own id", info(Message{Type: MsgFollowerInfo, From: 3}), "server 3", true},
		{"no id", info(Message{Type: MsgFollowerInfo, From: -2}), "server -2", true},
		{"an epoch that cannot be", info(Message{Type: MsgObserverInfo, From: 9, Zxid: -1 << 32}), "cannot be", true},
		{"a later list of servers", info(Message{Type: MsgFollowerInfo, From: 2, Version: 0x100000001}), "list of servers", true},
		{"a later promise of one without a vote", info(Message{Type: MsgFollowerInfo, From: 8, Zxid: 0x900000000}), "", true},
		{"a later promise", info(Message{Type: MsgFollowerInfo, From: 2, Zxid: 0x900000000}), "", false},
		{"a history of a later epoch", ackEpoch(Message{Type: MsgAckEpoch, Zxid: 0x700000001}), "its history", true},
		{"a later current epoch", ackEpoch(Message{Type: MsgAckEpoch, Epoch: 7, HasEpoch: true}), "its history", true},
		{"more of our epoch than there is", ackEpoch(Message{Type: MsgAckEpoch, Zxid: 0x600000001}), "its history", true},
		{"a negative zxid", ackEpoch(Message{Type: MsgAckEpoch, Zxid: -2}), "its history", true},
		{"a longer history of an earlier epoch: it is cut", ackEpoch(Message{Type: MsgAckEpoch, Zxid: 0x500000009, Epoch: 5, HasEpoch: true}), "", true},
		{"the mark of our epoch", ackEpoch(Message{Type: MsgAckEpoch, Zxid: 0x600000000}), "", true},
		{"ACK of something else first (ZOOKEEPER-4685)", newLeader(Message{Type: MsgAck, Zxid: 0x500000007}), "instead of NEWLEADER", true},
		{"PING before UPTODATE", newLeader(Message{Type: MsgPing}), "not expected now", true},
		{"ACK of what was not proposed", upToDate(Message{Type: MsgAck, Zxid: 0x600000001}), "ACK of", true},
		{"ACK of another epoch", upToDate(Message{Type: MsgAck, Zxid: 0x500000007}), "ACK of", true},
		{"ACK of UPTODATE", upToDate(Message{Type: MsgAck, Zxid: 0x600000000}), "", true},
		{"PING without a question", upToDate(Message{Type: MsgPing}), "without a question", true},
		{"FOLLOWERINFO again", upToDate(Message{Type: MsgFollowerInfo, From: 2}), "not expected now", true},
		{"a packet of leaders", upToDate(Message{Type: MsgCommit}), "not expected now", true},
	} {
		r := established(t)
		for _, m := range tc.do {
			m.Link = 2
			r.step(m)
		}
		why := ""
		for _, c := range r.n.Ready().Close {
			if c.Link == 2 && c.Reason != nil {
				why = c.Reason.Error()
			}
		}
		if !strings.Contains(why, tc.why) || tc.why == "" && why != "" {
			t.Errorf("%s: closed because of %q, want %q", tc.name, why, tc.why)
		}
		if leads := r.n.Role() == Leading; leads != tc.leads {
			t.Errorf("%s: still leads: %v, want %v", tc.name, leads, tc.leads)
		}
	}
}

// TestWhoHasMoreShouldLead: during discovery a learner that is more recent is sent
// away; the mark of an epoch is nothing more (rule R1).
func TestWhoHasMoreShouldLead(t *testing.T) {
	for _, tc := range []struct {
		epoch Epoch
		zxid  Zxid
		more  bool
	}{
		{5, 0x500000007, false}, {5, 0x500000008, true}, {4, 0x500000009, false}, {6, 0x500000001, true},
		{5, 0x600000000, false}, {5, 0x300000001, false}, {6, 0x600000000, true},
	} {
		r := elected(t, Config{Hard: HardState{6, 5}, LastZxid: 0x500000007})
		r.learner(1, 1, MsgFollowerInfo)
		r.step(Message{Type: MsgAcceptedStored, Epoch: 7})
		r.ready()
		r.step(Message{Type: MsgAckEpoch, Link: 1, Zxid: tc.zxid, Epoch: tc.epoch, HasEpoch: true})
		if got := strings.Contains(r.ready(), "it should lead"); got != tc.more {
			t.Errorf("epoch %d, %v: sent away: %v, want %v", tc.epoch, tc.zxid, got, tc.more)
		}
	}
}

// TestLeaderTimeouts lets the leader wait for things that do not come.
func TestLeaderTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func() *rig
		at   Millis // it leads until shortly before, not any more shortly after
		why  string
	}{
		{"nobody comes", func() *rig { return elected(t, Config{}) }, 10_000, "no quorum has joined"},
		{"its disk does not store the epoch", func() *rig {
			r := elected(t, Config{})
			r.learner(1, 1, MsgFollowerInfo)
			return r
		}, 10_000, "no quorum has joined"},
		{"nobody promises", func() *rig {
			r := elected(t, Config{})
			r.learner(1, 1, MsgFollowerInfo)
			r.pass(8000)
			r.step(Message{Type: MsgAcceptedStored, Epoch: 1})
			return r
		}, 10_000, "no quorum has joined"},
		{"nobody adopts, but a copy is under way for a while", func() *rig {
			r := elected(t, Config{LastZxid: 0x100000001, Hard: HardState{1, 1}})
			r.learner(1, 1, MsgFollowerInfo)
			r.step(Message{Type: MsgAcceptedStored, Epoch: 2})
			r.step(Message{Type: MsgAckEpoch, Link: 1, HasEpoch: true})
			r.step(Message{Type: MsgCurrentStored, Epoch: 2})
			for range 5 {
				r.pass(8000)
				r.step(Message{Type: MsgProgress, Link: 1})
			}
			return r
		}, 10_000, "no quorum has joined"},
		{"its followers are gone", func() *rig {
			r := established(t)
			r.step(Message{Type: MsgLinkDown, Link: 1})
			return r
		}, 1000, "no quorum follows"},
		{"its follower is silent", func() *rig { return established(t) }, 5500, "no quorum follows"},
	} {
		r := tc.make()
		r.pass(tc.at - 600)
		if r.n.Role() != Leading {
			t.Errorf("%s: %v too early: %v", tc.name, r.n.Role(), r.n.Ready().Reason)
			continue
		}
		r.pass(1300)
		if why := r.n.Ready().Reason; r.n.Role() == Leading || why == nil || !strings.Contains(why.Error(), tc.why) {
			t.Errorf("%s: %v, %v; want %q", tc.name, r.n.Role(), why, tc.why)
		}
	}
}

// answer plays a follower that answers pings on link 1, for a while.
func (r *rig) answer(ms Millis) (closed string) {
	for end := r.now + ms; r.now < end; {
		r.now = min(end, max(r.now+1, r.n.Deadline()))
		r.n.Tick(r.now)
		pings := 0
		for _, m := range r.n.Ready().Messages {
			if m.Type == MsgPing && m.Link == 1 {
				pings++
			}
		}
		closed += r.ready()
		for range pings {
			r.step(Message{Type: MsgPing, Link: 1})
		}
	}
	return closed
}

// TestLeaderMindsItsDisk steps down when its own log stands still (rule R16), and
// not as long as it comes forward.
func TestLeaderMindsItsDisk(t *testing.T) {
	r := established(t)
	r.step(Message{Type: MsgPropose, Proposals: props(0x600000001, 0x600000002)})
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000002})
	r.answer(4000)
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001})
	r.answer(4000)
	if r.n.Role() != Leading {
		t.Fatalf("%v: %v", r.n.Role(), r.n.Ready().Reason)
	}
	r.answer(2000)
	if why := r.n.Ready().Reason; r.n.Role() == Leading || !errors.Is(why, ErrTimeout) || !strings.Contains(why.Error(), "own log") {
		t.Errorf("%v: %v", r.n.Role(), why)
	}
	// It does not vote before the disk is done.
	r.n.Notified(Notification{From: 1, To: 3, Vote: Vote{Leader: 1}, Round: 9, Version: 2})
	r.pass(5000)
	if rd := r.n.Ready(); len(rd.Notifications) > 0 || r.n.electing {
		t.Errorf("votes while its disk has work: %v", rd.Notifications)
	}
	r.n.Advance()
	r.step(Message{Type: MsgAppended, Zxid: 0x600000002})
	if rd := r.n.Ready(); len(rd.Notifications) == 0 || rd.Notifications[0].Vote.Zxid != 0x600000002 {
		t.Errorf("does not vote when its disk is done: %v", rd.Notifications)
	}
}

// TestSlowFollowerIsDropped: it answers pings and acknowledges nothing.
func TestSlowFollowerIsDropped(t *testing.T) {
	r := established(t)
	r.step(Message{Type: MsgPropose, Proposals: props(0x600000001)})
	r.step(Message{Type: MsgAppended, Zxid: 0x600000001})
	if got := r.answer(7000); !strings.Contains(got, "close 1: has not acknowledged 0x600000001") {
		t.Errorf("got %s", got)
	}
	r = established(t)
	for z := Zxid(0x600000001); z < 0x600000010; z++ {
		r.step(Message{Type: MsgPropose, Proposals: props(z)})
		r.step(Message{Type: MsgAppended, Zxid: z})
		r.answer(1000)
		if z > 0x600000003 {
			r.step(Message{Type: MsgAck, Link: 1, Zxid: z - 3}) // three seconds late, again and again
		}
	}
	if r.n.Role() != Leading || len(r.n.Status().Learners) != 1 {
		t.Errorf("%v, %v", r.n.Role(), r.n.Ready().Reason)
	}
}

// TestReconfigurationIsChecked: one at a time, with its zxid as version, as the last
// of what is proposed at once.
func TestReconfigurationIsChecked(t *testing.T) {
	r := elected(t, Config{ReconfigEnabled: true, Hard: HardState{5, 5}, LastZxid: 0x500000007})
	r.learner(1, 1, MsgFollowerInfo)
	r.step(Message{Type: MsgAcceptedStored, Epoch: 6})
	r.step(Message{Type: MsgAckEpoch, Link: 1, Zxid: 0x500000007, HasEpoch: true})
	r.step(Message{Type: MsgCurrentStored, Epoch: 6})
	if rd := r.n.Ready(); rd.LastSeen.Version != 0x600000000 || rd.Ensemble.Version != 0 {
		t.Errorf("version %x, last seen %x: a list that is established gets a version", rd.Ensemble.Version, rd.LastSeen.Version)
	}
	r.step(Message{Type: MsgAck, Link: 1, Zxid: 0x600000000})
	if rd := r.n.Ready(); rd.LastSeen != rd.Ensemble || rd.Ensemble.Version != 0x600000000 {
		t.Errorf("version %x, last seen %x", rd.Ensemble.Version, rd.LastSeen.Version)
	}
	r.n.Advance()
	two := func(z Zxid) Proposal { return Proposal{Zxid: z, Ensemble: listOf(z, []ServerID{1, 3}, nil)} }
	for name, ps := range map[string][]Proposal{
		"another version":          {{Zxid: 0x600000001, Ensemble: listOf(1, []ServerID{1, 3}, nil)}},
		"something else behind":    {two(0x600000001), {Zxid: 0x600000002}},
		"a gap in front":           {two(0x600000002)},
		"one of the next epoch":    {{Zxid: 0x700000001}},
		"one that is not the next": {{Zxid: 0x600000001}, {Zxid: 0x600000003}},
	} {
		if err := r.n.Step(Message{Type: MsgPropose, Proposals: ps}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	r.step(Message{Type: MsgPropose, Proposals: []Proposal{two(0x600000001)}})
	if err := r.n.Step(Message{Type: MsgPropose, Proposals: []Proposal{two(0x600000002)}}); err == nil {
		t.Error("a second one is taken before the first is committed")
	}
	if !r.n.QuorumSynced(listOf(0, []ServerID{1, 3, 7}, nil)) || r.n.QuorumSynced(listOf(0, []ServerID{1, 2, 3, 7}, nil)) {
		t.Error("QuorumSynced counts 1 and 3, no others")
	}
}

// TestBroadcastDoesNotAllocate: thousands of proposals and acknowledgements go
// through a leader in the slices that are there.
func TestBroadcastDoesNotAllocate(t *testing.T) {
	r := established(t)
	r.learner(2, 2, MsgFollowerInfo)
	r.step(Message{Type: MsgAckEpoch, Link: 2, Zxid: 0x500000007})
	r.step(Message{Type: MsgAck, Link: 2, Zxid: 0x600000000})
	ps := make([]Proposal, 100)
	round := func() {
		z := r.n.NextZxid()
		for i := range ps {
			ps[i].Zxid = z + Zxid(i)
		}
		broadcast(t, r.n, ps)
	}
	for range 30 {
		round() // the slices grow to what they need
	}
	if n := testing.AllocsPerRun(100, round); n > 0.5 {
		t.Errorf("%v allocations for %d proposals", n, len(ps))
	}
}

// broadcast takes proposals through a leader with followers on links 1 and 2.
func broadcast(t testing.TB, n *Node, ps []Proposal) {
	last := ps[len(ps)-1].Zxid
	must := func(m Message) {
		if err := n.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	must(Message{Type: MsgPropose, Proposals: ps})
	n.Ready()
	n.Advance()
	for i := range ps {
		must(Message{Type: MsgAck, Link: 1, Zxid: ps[i].Zxid})
		must(Message{Type: MsgAck, Link: 2, Zxid: ps[i].Zxid})
	}
	n.Ready()
	n.Advance()
	must(Message{Type: MsgAppended, Zxid: last})
	if rd := n.Ready(); len(rd.Committed) != len(ps) {
		t.Fatalf("%d of %d are committed", len(rd.Committed), len(ps))
	}
	n.Advance()
}

func BenchmarkBroadcast(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r := established(b)
			r.learner(2, 2, MsgFollowerInfo)
			r.step(Message{Type: MsgAckEpoch, Link: 2, Zxid: 0x500000007})
			r.step(Message{Type: MsgAck, Link: 2, Zxid: 0x600000000})
			ps := make([]Proposal, size)
			b.ReportAllocs()
			for b.Loop() {
				z := r.n.NextZxid()
				for i := range ps {
					ps[i].Zxid = z + Zxid(i)
				}
				broadcast(b, r.n, ps)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/txn")
		})
	}
}

// BenchmarkAlone is a standalone server: no learner, no history to keep.
func BenchmarkAlone(b *testing.B) {
	n, err := NewNode(Config{ID: 1})
	if err != nil {
		b.Fatal(err)
	}
	ps := make([]Proposal, 16)
	b.ReportAllocs()
	for b.Loop() {
		z := n.NextZxid()
		for i := range ps {
			ps[i].Zxid = z + Zxid(i)
		}
		if err := n.Step(Message{Type: MsgPropose, Proposals: ps}); err != nil {
			b.Fatal(err)
		}
		n.Ready()
		n.Advance()
		if err := n.Step(Message{Type: MsgAppended, Zxid: z + 15}); err != nil {
			b.Fatal(err)
		}
		if rd := n.Ready(); len(rd.Committed) != len(ps) {
			b.Fatalf("%d are committed", len(rd.Committed))
		}
		n.Advance()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ps)), "ns/txn")
}
