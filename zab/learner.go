package zab

import (
	"cmp"
	"errors"
	"fmt"
)

// learner is the state of a server while it follows or observes (classes Learner,
// Follower and Observer).
//
// Invariants:
//
//	F1  it promises an epoch before it says what its history is, and a voter follows
//	    nobody whose epoch is below its promise (R14).
//	F2  ACK of NEWLEADER is the first of a link, and leaves when everything that
//	    came before NEWLEADER is durable here, and behind it the epoch (R3, R4).
//	F3  a proposal is acknowledged when it is durable here, in order, and none of
//	    them before NEWLEADER.
//	F4  until a snapshot is installed neither log nor tree know of it (R9).
type learner struct {
	n     *Node
	state learnerState
	link  LinkID

	heard   bool   // since the last Tick
	heardAt Millis // at the time of a Tick

	blocked bool      // the disk must do something before the next packet counts
	queue   []Message // packets that came meanwhile

	above bool // a later epoch was promised: this server must not count here
	whole bool // the log cannot be brought to the leader's history: only a snapshot will do

	snap   bool       // the history comes as a snapshot
	snapAt Zxid       // its label
	behind []Proposal // what came behind it
	agreed int        // so many of behind are committed

	newLeaderAt Zxid // the log's end when NEWLEADER came

	// Lists of servers that are in force once the leader is established: the one in
	// NEWLEADER if it is committed by then, and the newest that was committed since
	// the history began to come. Before, what the leader calls committed may be its
	// own only.
	list, agreedList *Ensemble

	acked Zxid // proposals up to here are acknowledged, or need not be
}

// learnerState is what comes next.
type learnerState uint8

const (
	dialing      learnerState = iota // a connection to the leader
	greeted                          // LEADERINFO
	agreeing                         // the own promise on the disk
	acceptable                       // DIFF, TRUNC or SNAP
	copying                          // the history, up to NEWLEADER
	adopting                         // the history and the epoch on the disk
	acknowledged                     // UPTODATE
	broadcasting                     // for as long as it lasts
)

// String says for people what the server waits for.
func (s learnerState) String() string {
	return [...]string{
		"a connection to the leader", "the leader's epoch", "the own disk to store the epoch", "the leader to begin",
		"the history", "the own disk to store the history", "the leader to be established", "nothing",
	}[s]
}

func newLearner(n *Node) *learner { return &learner{n: n, heardAt: n.now} }

// step takes a packet of the leader or what the driver reports of the link.
func (f *learner) step(m Message) {
	n := f.n
	switch {
	case m.Type == MsgLinkUp:
		if m.From != n.leader || f.state != dialing {
			n.close(m.Link, m.From, nil)
			return
		}
		f.greet(m.Link)
	case m.Type == MsgDialFailed:
		if m.From == n.leader && f.state == dialing {
			f.unreachable(errors.New("the leader cannot be reached"))
		}
	case m.Link != f.link || f.link == 0:
	case m.Type == MsgLinkDown:
		f.link = 0
		n.look(errors.New("the leader closed the connection"))
	default:
		f.heard = true
		if m.Type != MsgProgress {
			f.take(m)
		}
	}
}

// take handles a packet now, or when the disk is done.
func (f *learner) take(m Message) {
	if f.blocked {
		f.queue = append(f.queue, m)
		return
	}
	if err := f.packet(&m); err != nil && f.n.learn == f {
		f.n.look(err)
	}
}

// unblock goes on with the packets that had to wait.
func (f *learner) unblock() {
	f.blocked = false
	queue := f.queue
	f.queue = nil
	for _, m := range queue {
		if f.n.learn != f {
			return
		}
		f.take(m)
	}
}

// packet takes a packet of the leader. An error closes the link and ends the role.
func (f *learner) packet(m *Message) error {
	n := f.n
	switch m.Type {
	case MsgLeaderInfo:
		if f.state == greeted {
			return f.promise(m.Zxid)
		}
	case MsgDiff, MsgTrunc, MsgSnap:
		if f.state == acceptable {
			return f.begin(m)
		}
	case MsgProposal:
		if f.state >= copying && (n.role == Following || f.state < broadcasting) {
			return f.proposal(m.Proposal)
		}
	case MsgCommit, MsgCommitAndActivate:
		if f.state >= copying && (n.role == Following || f.state < broadcasting) {
			return f.commit(m.Zxid, m)
		}
	case MsgInform, MsgInformAndActivate:
		if f.state >= copying && n.role == Observing {
			return f.inform(m)
		}
	case MsgNewLeader:
		if f.state == copying {
			return f.newLeader(m)
		}
	case MsgUpToDate:
		if f.state == acknowledged {
			return f.upToDate()
		}
	case MsgPing:
		if f.state == broadcasting {
			n.send(Message{Type: MsgPing, Link: f.link, Zxid: m.Zxid})
		}
		return nil
	}
	return fmt.Errorf("packet of type %d while waiting for %v: %w", m.Type, f.state, ErrUnexpected)
}

// Discovery.

// greet says who this server is and what it has promised.
func (f *learner) greet(id LinkID) {
	n := f.n
	f.link, f.state, f.heard = id, greeted, true
	t := MsgFollowerInfo
	if n.role == Observing {
		t = MsgObserverInfo
	}
	n.send(Message{Type: t, Link: id, From: n.cfg.ID, Zxid: NewZxid(n.hard.Accepted, 0), Version: n.ensemble.Version})
}

// promise takes LEADERINFO.
func (f *learner) promise(z Zxid) error {
	n := f.n
	e := z.Epoch()
	switch {
	case e < n.hard.Accepted && (n.isVoter(n.cfg.ID) || e < n.hard.Current):
		// The promise of one without a vote binds nobody, and a leader does not
		// make room for it. If the leader takes it for a voter, it leaves when it
		// sees the list.
		return fmt.Errorf("the leader proposes epoch %d, %d was promised", e, n.hard.Accepted)
	case e > maxEpoch || e == 0:
		return fmt.Errorf("the leader proposes epoch %d", e)
	}
	n.epoch = e
	f.above = e < n.hard.Accepted
	if e > n.hard.Accepted {
		f.whole = false // this one does not know yet what this server has, which must count
		f.state, f.blocked = agreeing, true
		n.storeAccepted(e)
		return nil
	}
	// It was promised before, perhaps to another server: the leader must not count
	// it twice.
	f.ackEpoch(false)
	return nil
}

func (f *learner) ackEpoch(counts bool) {
	n := f.n
	m := Message{Type: MsgAckEpoch, Link: f.link, Zxid: n.log.durable}
	if counts && !n.lost {
		m.Epoch, m.HasEpoch = n.currentEpoch(), true
	}
	if n.lost || f.whole {
		m.Zxid = -1 // Apache's leaders know it from a disk that was lost
	}
	n.send(m)
	f.state = acceptable
}

// stored takes the report that something is on the disk.
func (f *learner) stored(t MessageType) {
	n := f.n
	switch t {
	case MsgAcceptedStored:
		f.ackEpoch(true)
		f.unblock()
	case MsgTruncated:
		f.unblock()
	case MsgInstalled:
		f.snap = false
		f.acked = n.log.last
		for _, p := range f.behind[f.agreed:] {
			n.append(p)
		}
		f.behind = nil
		f.newLeaderAt = n.log.last
		f.adopt()
		f.unblock()
	case MsgCurrentStored:
		f.adopt()
	}
}

// Synchronization.

// begin takes the packet that says how the history comes.
func (f *learner) begin(m *Message) error {
	n := f.n
	if m.Zxid < 0 || m.Zxid.Epoch() > n.epoch {
		return fmt.Errorf("packet of type %d with %v in epoch %d", m.Type, m.Zxid, n.epoch)
	}
	f.state, n.phase = copying, Synchronization
	switch {
	case f.whole && m.Type != MsgSnap:
		return fmt.Errorf("packet of type %d for a server that needs a snapshot: %w", m.Type, ErrUnexpected)
	case m.Type == MsgSnap:
		f.snap, f.snapAt = true, m.Zxid
	case m.Type == MsgDiff || m.Zxid == n.log.last:
		// The log to its end is part of the leader's history, so it is agreed upon.
		n.log.commit(n.log.last)
	case m.Zxid > n.log.last:
		return fmt.Errorf("TRUNC to %v, the log ends at %v: %w", m.Zxid, n.log.last, ErrZxidOrder)
	case m.Zxid == 0:
		f.fetchAll(errors.New("the leader shares none of the history here"))
	default:
		f.blocked = true
		n.out.Truncate, n.disk.truncate = m.Zxid, m.Zxid
	}
	return nil
}

// proposal takes the next transaction. In the history that comes behind a
// snapshot of Apache the first ones may be part of the snapshot already.
func (f *learner) proposal(p Proposal) error {
	n := f.n
	last := n.log.last
	if f.snap {
		if p.Zxid <= f.snapAt {
			return nil
		}
		last = f.behindLast()
	}
	if !p.Zxid.Follows(last) || p.Zxid.Epoch() > n.epoch {
		return fmt.Errorf("proposal %v behind %v in epoch %d: %w", p.Zxid, last, n.epoch, ErrZxidOrder)
	}
	if f.snap {
		f.behind = append(f.behind, p)
		return nil
	}
	n.append(p)
	return nil
}

// fetchAll connects to the leader again to get its tree as a whole. Log and tree
// stay as they are until that is installed, and what this server has promised and
// told of its history holds: had it emptied its disk instead, two servers might do
// so at once and leave the only copy to a leader that dies.
func (f *learner) fetchAll(reason error) {
	n := f.n
	n.close(f.link, n.leader, reason)
	*f = learner{n: n, heardAt: n.now, whole: true}
	n.phase, n.out.Dial = Discovery, n.leader
}

// diverged takes the report that the tree is not the leader's. That is fetched, once
// for each epoch: if the two differ again, it is not this server's memory or disk
// that is at fault, and to copy without end would help nobody.
func (f *learner) diverged() {
	n := f.n
	if f.state == broadcasting && n.refetched < n.epoch {
		n.refetched = n.epoch
		f.fetchAll(ErrDiverged)
	}
}

func (f *learner) behindLast() Zxid {
	if i := len(f.behind); i > 0 {
		return f.behind[i-1].Zxid
	}
	return f.snapAt
}

// commit takes COMMIT or COMMITANDACTIVATE, which must be of the first transaction
// that is not committed.
func (f *learner) commit(z Zxid, m *Message) error {
	n := f.n
	if f.snap {
		switch {
		case z <= f.snapAt:
		case f.agreed < len(f.behind) && f.behind[f.agreed].Zxid == z:
			f.agreedList = cmp.Or(f.behind[f.agreed].Ensemble, f.agreedList)
			f.agreed++
		default:
			return fmt.Errorf("commit of %v is not of the next behind %v: %w", z, f.snapAt, ErrZxidOrder)
		}
		return nil
	}
	p := n.log.next()
	if p == nil || p.Zxid != z {
		if z <= n.log.committed && f.state < broadcasting {
			return nil
		}
		return fmt.Errorf("commit of %v, the last one was %v: %w", z, n.log.committed, ErrZxidOrder)
	}
	n.log.commit(z)
	if f.state < broadcasting {
		f.agreedList = cmp.Or(p.Ensemble, f.agreedList)
		return nil
	}
	if p.Ensemble != nil {
		n.activate(p.Ensemble)
		n.election.configure(n.ensemble, n.lastSeen) // who is looking asks for the list, and who was a stranger is none now
	}
	if m.Type == MsgCommitAndActivate {
		return f.reconfigured(m.Leader)
	}
	return nil
}

// inform takes a transaction that is committed already.
func (f *learner) inform(m *Message) error {
	n := f.n
	z := m.Proposal.Zxid
	known := f.snap && f.agreed < len(f.behind) && f.behind[f.agreed].Zxid == z
	if p := n.log.next(); !f.snap && p != nil && p.Zxid == z {
		known = true
	}
	if !known {
		if err := f.proposal(m.Proposal); err != nil {
			return err
		}
	}
	if err := f.commit(z, m); err != nil || m.Type != MsgInformAndActivate || f.state < broadcasting {
		return err
	}
	return f.reconfigured(m.Leader)
}

// reconfigured leaves a leader that is not one in the new configuration, or
// whose learner this server is not any more in the same way.
func (f *learner) reconfigured(designated ServerID) error {
	if !f.n.cfg.ReconfigEnabled {
		return nil
	}
	if designated != f.n.leader {
		return fmt.Errorf("server %d is to lead the new configuration", designated)
	}
	return f.sameRole()
}

// sameRole checks that the list of servers has not changed this one's role.
func (f *learner) sameRole() error {
	if n := f.n; n.observer != (n.role == Observing) {
		return errors.New("the new configuration gives this server another role")
	}
	return nil
}

// newLeader takes NEWLEADER: the history that the epoch began with is complete.
func (f *learner) newLeader(m *Message) error {
	n := f.n
	if m.Zxid != NewZxid(n.epoch, 0) {
		return fmt.Errorf("NEWLEADER of %v in epoch %d: %w", m.Zxid, n.epoch, ErrUnexpected)
	}
	if len(m.Data) > 1 {
		var err error
		if f.list, err = ParseEnsemble(string(m.Data)); err != nil {
			return fmt.Errorf("list of servers in NEWLEADER: %w", err)
		}
		if f.above && f.list.IsVoter(n.cfg.ID) {
			return fmt.Errorf("a voter by the leader's list, and epoch %d was promised", n.hard.Accepted)
		}
	}
	f.state = adopting
	if f.snap {
		f.blocked = true
		in := &Installation{Link: f.link, Committed: f.behind[:f.agreed], Zxid: f.snapAt, Epoch: n.epoch, Ensemble: f.list}
		if f.agreed > 0 {
			in.Zxid = f.behind[f.agreed-1].Zxid
		}
		n.out.Install, n.disk.install = in, in
		return nil
	}
	n.seen(f.list)
	f.newLeaderAt, f.acked = n.log.last, n.log.committed
	f.adopt()
	return nil
}

// adopt acknowledges NEWLEADER, once the history is on the disk and behind it the
// epoch.
func (f *learner) adopt() {
	n := f.n
	switch {
	case f.state != adopting || n.log.durable < f.newLeaderAt || n.disk.current != 0:
	case n.entered < n.epoch:
		n.storeCurrent(n.epoch)
	default:
		n.lost = false
		f.state, f.heard = acknowledged, true
		n.send(Message{Type: MsgAck, Link: f.link, Zxid: NewZxid(n.epoch, 0)})
		f.ack()
	}
}

// upToDate takes UPTODATE: the leader is established.
func (f *learner) upToDate() error {
	n := f.n
	f.state, n.phase = broadcasting, Broadcast
	n.send(Message{Type: MsgAck, Link: f.link, Zxid: NewZxid(n.epoch, 0)})
	n.activate(f.agreedList)
	for _, e := range []*Ensemble{f.list, n.lastSeen} {
		if e != nil && (Zxid(e.Version) <= n.log.committed || Zxid(e.Version).Counter() == 0) {
			n.activate(e)
		}
	}
	vote := n.election.vote
	vote.Epoch = n.epoch
	n.election.configure(n.ensemble, n.lastSeen)
	n.election.settle(n.role, vote)
	n.decide()
	return f.sameRole()
}

// Broadcast.

// appended takes note that the log came forward.
func (f *learner) appended() {
	if f.state < broadcasting {
		f.heard = true // it is not the leader who keeps us waiting
	}
	if f.state == adopting {
		f.adopt()
	} else {
		f.ack()
	}
}

// ack acknowledges what has become durable, each transaction for itself, as
// Apache's leaders want it.
func (f *learner) ack() {
	n := f.n
	if f.state < acknowledged || n.role != Following {
		return
	}
	for _, p := range n.log.after(f.acked) {
		if p.Zxid > n.log.durable {
			break
		}
		n.send(Message{Type: MsgAck, Link: f.link, Zxid: p.Zxid})
		f.acked = p.Zxid
	}
}

// Time.

// tick leaves a leader that is silent, or does not bring this server to serve.
func (f *learner) tick() {
	n := f.n
	if f.heard || n.disk != (diskWork{}) {
		f.heard, f.heardAt = false, n.now
	}
	limit := n.ticks(n.cfg.InitLimit)
	if f.state == broadcasting {
		limit = n.ticks(n.cfg.SyncLimit)
	}
	switch {
	case n.now >= f.heardAt+limit && f.state == dialing:
		f.unreachable(fmt.Errorf("the leader cannot be reached: %w", ErrTimeout))
	case f.state == dialing && n.election.leaderLooked(f.heardAt+n.cfg.TickTime):
		// It hears nobody: it would have noticed long ago that it is elected.
		f.unreachable(errors.New("the leader that was elected still looks for one"))
	case n.now >= f.heardAt+limit && f.state == broadcasting:
		n.look(fmt.Errorf("the leader was silent for %d ms: %w", n.now-f.heardAt, ErrTimeout))
	case n.now >= f.heardAt+limit:
		n.look(fmt.Errorf("waited %d ms for %v: %w", n.now-f.heardAt, f.state, ErrTimeout))
	case f.state < broadcasting && n.election.leaderGone():
		n.look(errors.New("the leader has given up"))
	}
}

// unreachable ends the role and prefers another leader for a while.
func (f *learner) unreachable(reason error) {
	n := f.n
	n.election.shun(n.now, n.leader)
	n.look(reason)
}
