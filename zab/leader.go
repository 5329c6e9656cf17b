package zab

import (
	"errors"
	"fmt"
	"slices"
)

// leader is the state of a server while it leads: how far its reign has come, and
// a link for each learner (classes Leader and LearnerHandler).
//
// Invariants:
//
//	L1  an epoch is proposed once a quorum has said what it promised before, and is
//	    above all of that; it leaves only when it is stored here (R14).
//	L2  the history of the epoch is fixed once a quorum has promised to hear no
//	    earlier leader and none of it has more than this server.
//	L3  nothing is proposed before a quorum holds that history durably, and then
//	    in Broadcast only.
//	L4  a transaction is committed when a quorum holds it and all before it are
//	    committed. What is in a link's acked, its learner holds durably.
//	L5  what a link in state synced or above got is what this server's history has,
//	    without a hole, so every later proposal can simply be sent to it.
type leader struct {
	n     *Node
	stage stage
	since Millis // when the stage began, or the copy of a history last came forward

	proposed     Epoch // the epoch so far, until it is fixed
	connected    idSet // who has said what it promised; of these sets only voters count
	left, gone   idSet // voters that came and went before the reign was established, and look again
	promised     idSet // who has promised our epoch and has no more than this server
	adopted      idSet // who holds the history of the epoch durably
	summaryEpoch Epoch // what a learner must not exceed
	summaryZxid  Zxid

	links     []*link // in order of arrival
	byID      map[LinkID]*link
	followers []*link // those of links that said they are
	doubted   []*link // those that wait because an older one says it is the same server

	appending bool   // the log has work; since when, or when it last ended some
	appendAt  Millis // at the time of a Tick
	progress  bool   // it ended some since the last Tick

	pingAt, checkAt Millis
	asked, round    uint64 // largest token of a MsgConfirm; that of the ping round under way
	confirmed       uint64

	reconfig Zxid // the reconfiguration that is not committed yet, or 0
	retiring bool // a reconfiguration has made somebody else the leader

	acks     []Zxid // scratch
	upToDate func(ServerID) bool
}

// stage is what a leader waits for.
type stage uint8

const (
	countingPromises stage = iota // FOLLOWERINFO of a quorum
	storingEpoch                  // the own promise
	proposingEpoch                // ACKEPOCH of a quorum
	adoptingEpoch                 // the own current epoch
	syncing                       // ACK of NEWLEADER of a quorum
	serving
)

// String describes a stage for people.
func (s stage) String() string {
	return [...]string{
		"a quorum to connect", "the own disk to store the epoch", "a quorum to promise the epoch",
		"the own disk to store the epoch", "a quorum to have the history", "nothing",
	}[s]
}

func newLeader(n *Node) *leader {
	l := &leader{n: n, since: n.now, byID: map[LinkID]*link{}}
	l.upToDate = func(id ServerID) bool {
		k := l.follower(id)
		return id == n.cfg.ID || k != nil && k.state == following
	}
	return l
}

// step takes a packet of a learner or what the driver reports of its link.
func (l *leader) step(m Message) error {
	if m.Type == MsgLinkUp {
		if m.From != NoServer || l.byID[m.Link] != nil {
			l.n.close(m.Link, m.From, nil) // dialled for a role that has ended
			return nil
		}
		k := &link{id: m.Link, peer: NoServer, heardAt: l.n.now}
		l.links, l.byID[m.Link] = append(l.links, k), k
		return nil
	}
	k := l.byID[m.Link]
	if k == nil {
		return nil // closed already
	}
	k.heard, k.seenAt = true, l.n.now
	if k.state == streaming || k.state == synced {
		l.since = l.n.now
	}
	switch m.Type {
	case MsgLinkDown:
		l.remove(k)
	case MsgProgress:
	case MsgLocated:
		return l.located(k, m)
	case MsgStreamed:
		return l.streamed(k, m)
	default:
		if err := l.packet(k, &m); err != nil && l.n.lead == l {
			l.drop(k, err)
		}
	}
	if l.n.lead == l {
		l.judge()
	}
	return nil
}

// packet takes a packet of a learner. An error closes its link.
func (l *leader) packet(k *link, m *Message) error {
	switch {
	case m.Type == MsgAck && k.state > synced:
		return l.ack(k, m.Zxid)
	case m.Type == MsgPing && k.state == following:
		if k.answers++; k.answers > k.pings {
			return fmt.Errorf("PING without a question: %w", ErrUnexpected)
		}
		return nil
	case (m.Type == MsgFollowerInfo || m.Type == MsgObserverInfo) && k.state == greeting:
		return l.learnerInfo(k, m)
	case m.Type == MsgAckEpoch && k.state == promising:
		return l.ackEpoch(k, m)
	case m.Type == MsgAck && k.state == synced:
		return l.ackNewLeader(k, m.Zxid)
	}
	return fmt.Errorf("packet of type %d from a learner that is %v: %w", m.Type, k.state, ErrUnexpected)
}

// Discovery: the epoch.

// discover begins the reign: this server says to itself what it has promised.
func (l *leader) discover() {
	n := l.n
	l.proposed = n.hard.Accepted + 1
	l.summaryEpoch, l.summaryZxid = n.currentEpoch(), n.log.last
	l.connected.add(n.cfg.ID)
	l.chooseEpoch()
}

// learnerInfo takes FOLLOWERINFO or OBSERVERINFO.
func (l *leader) learnerInfo(k *link, m *Message) error {
	n := l.n
	k.peer, k.observer, k.info = m.From, m.Type == MsgObserverInfo, *m
	switch {
	case m.From == n.cfg.ID || m.From < 0:
		return fmt.Errorf("a learner says that it is server %d", m.From)
	case m.Zxid.Epoch() > maxEpoch:
		return fmt.Errorf("epoch %d cannot be", m.Zxid.Epoch())
	}
	if old := l.older(k); old != nil {
		l.doubt(k, old)
		return nil
	}
	return l.join(k)
}

// join lets a learner take part, by what it has said in FOLLOWERINFO.
func (l *leader) join(k *link) error {
	n := l.n
	accepted := k.info.Zxid.Epoch()
	if v := k.info.Version; v > n.lastSeen.Version {
		err := fmt.Errorf("its list of servers has version %x, ours %x", v, n.lastSeen.Version)
		if n.cfg.ReconfigEnabled && l.stage < serving {
			n.look(err) // to learn of it by the notifications of those that have it
		}
		return err
	}
	if !k.observer {
		l.followers = append(l.followers, k)
	}
	// Who counts is said by the lists, not by what a learner takes itself for: a
	// reconfiguration that makes voters of observers is completed by their promises
	// and by what they adopt, before they have heard of it.
	counts := n.isVoter(k.peer)
	l.left.remove(k.peer)
	l.gone.remove(k.peer)
	if l.stage == countingPromises {
		k.state = waiting
		l.proposed = max(l.proposed, accepted+1)
		l.connected.add(k.peer)
		l.chooseEpoch()
		return nil
	}
	if counts && accepted > l.proposed {
		// It cannot join before there is a later epoch. Only a quorum brings a
		// promise about, so this is rare and no single server can do it over and
		// over.
		err := fmt.Errorf("server %d has promised epoch %d, above %d", k.peer, accepted, l.proposed)
		n.look(err)
		return err
	}
	k.state = waiting
	if l.stage > storingEpoch {
		l.leaderInfo(k)
	}
	return nil
}

// looks notes that a voter was heard to look for a leader.
func (l *leader) looks(id ServerID) {
	if l.left.has(id) {
		l.gone.add(id)
	}
}

// chooseEpoch fixes the epoch once a quorum has said what it promised.
func (l *leader) chooseEpoch() {
	if !l.n.quorum(l.connected.has) {
		return
	}
	if l.proposed > maxEpoch {
		l.n.look(errors.New("no epoch is left"))
		return
	}
	l.enter(storingEpoch)
	l.n.storeAccepted(l.proposed)
}

// enter begins a stage.
func (l *leader) enter(s stage) { l.stage, l.since = s, l.n.now }

// stored takes the report that an epoch is on the disk.
func (l *leader) stored(t MessageType) {
	switch {
	case t == MsgAcceptedStored && l.stage == storingEpoch:
		l.enter(proposingEpoch)
		l.n.epoch = l.proposed
		for _, k := range l.links {
			if k.state == waiting {
				l.leaderInfo(k)
			}
		}
		l.promised.add(l.n.cfg.ID)
		l.fixHistory()
	case t == MsgCurrentStored && l.stage == adoptingEpoch:
		l.adopt()
	}
}

func (l *leader) leaderInfo(k *link) {
	k.state, k.heard = promising, true
	l.n.send(Message{Type: MsgLeaderInfo, Link: k.id, Zxid: NewZxid(l.n.epoch, 0)})
}

// ackEpoch takes ACKEPOCH.
func (l *leader) ackEpoch(k *link, m *Message) error {
	n := l.n
	last := m.Zxid
	beyond := last.Epoch() > n.epoch || last.Epoch() == n.epoch && last.Counter() != 0 && last > n.log.last
	if last != -1 && (last < 0 || beyond) || m.HasEpoch && m.Epoch > n.epoch {
		return fmt.Errorf("its history ends at %v in epoch %d, and ours at %v in epoch %d", m.Zxid, m.Epoch, n.log.last, n.epoch)
	}
	if l.stage == proposingEpoch && m.HasEpoch && last >= 0 {
		if l.exceeded(m.Epoch, last) {
			return fmt.Errorf("its history ends at %v in epoch %d, ours at %v in epoch %d: it should lead", m.Zxid, m.Epoch, l.summaryZxid, l.summaryEpoch)
		}
		l.promised.add(k.peer)
	}
	k.state, k.last = ready, last
	if l.stage >= syncing {
		l.sync(k)
	} else {
		l.fixHistory()
	}
	return nil
}

// exceeded reports whether a learner has more than this server began with. A
// zxid without a counter says that its owner has what the leader of an epoch
// began with, which this server has too if it has come as far (rule R1).
func (l *leader) exceeded(current Epoch, last Zxid) bool {
	if current != l.summaryEpoch {
		return current > l.summaryEpoch
	}
	return last > l.summaryZxid && last.Counter() != 0
}

// fixHistory ends discovery once a quorum has promised the epoch: what this
// server's log holds, to its end, is what the epoch begins with.
func (l *leader) fixHistory() {
	n := l.n
	if l.stage != proposingEpoch || !n.quorum(l.promised.has) {
		return
	}
	l.enter(adoptingEpoch)
	n.log.commit(n.log.last)
	n.storeCurrent(n.epoch)
}

// Synchronization: the history.

// adopt begins to bring the learners to the history of the epoch.
func (l *leader) adopt() {
	n := l.n
	l.enter(syncing)
	n.phase = Synchronization
	if n.cfg.ReconfigEnabled && n.ensemble.Version == 0 && n.lastSeen == n.ensemble {
		// A list that was established goes before one that a server was merely
		// started with.
		e := *n.ensemble
		e.Version = int64(NewZxid(n.epoch, 0))
		n.lastSeen = &e
	}
	for _, k := range slices.Clone(l.links) {
		if k.state == ready {
			l.sync(k)
		}
	}
	l.adopted.add(n.cfg.ID)
	l.establish()
}

// sync decides how a learner is brought to our history.
func (l *leader) sync(k *link) {
	k.heard = true
	p := syncPlan{kind: syncSnap} // it has nothing, or nothing of use
	if k.last >= 0 {
		p = l.n.log.plan(k.last)
	}
	if p.kind == syncLocate {
		k.state = locating
		l.n.out.Locate = append(l.n.out.Locate, Lookup{k.id, k.last})
		return
	}
	l.begin(k, p)
}

// located takes what the log files say of the learner's last transaction.
func (l *leader) located(k *link, m Message) error {
	if k.state != locating || !m.Failed && m.Zxid > k.last {
		return fmt.Errorf("located %v for a learner that is %v and ends at %v: %w", m.Zxid, k.state, k.last, ErrZxidOrder)
	}
	p := syncPlan{kind: syncSnap}
	if !m.Failed {
		p = planAt(k.last, m.Zxid)
	}
	l.begin(k, p)
	return nil
}

// begin sends what the plan says first.
func (l *leader) begin(k *link, p syncPlan) {
	k.sent = p.from
	switch p.kind {
	case syncSnap:
		k.state = streaming
		l.n.out.Stream = append(l.n.out.Stream, Stream{Link: k.id, Snapshot: true})
		return
	case syncTrunc:
		l.n.send(Message{Type: MsgTrunc, Link: k.id, Zxid: p.from})
	default:
		l.n.send(Message{Type: MsgDiff, Link: k.id, Zxid: l.n.log.committed})
	}
	l.feed(k)
}

// streamed takes the report that the driver wrote history from the disk.
func (l *leader) streamed(k *link, m Message) error {
	switch {
	case k.state != streaming || !m.Failed && (m.Zxid < k.sent || m.Zxid > l.n.log.committed):
		return fmt.Errorf("streamed up to %v to a learner that is %v, between %v and %v: %w", m.Zxid, k.state, k.sent, l.n.log.committed, ErrZxidOrder)
	case m.Failed:
		l.drop(k, errors.New("its part of the history is no longer in the log"))
		return nil
	}
	k.sent = m.Zxid
	l.feed(k)
	return nil
}

// feed sends what the learner still lacks, NEWLEADER behind it, and from then on
// everything that is proposed.
func (l *leader) feed(k *link) {
	n := l.n
	if k.sent < n.log.base {
		k.state = streaming
		n.out.Stream = append(n.out.Stream, Stream{Link: k.id, After: k.sent, Until: min(n.log.committed, n.log.durable)})
		return
	}
	for _, p := range n.log.after(k.sent) {
		switch {
		case p.Zxid <= n.log.committed:
			n.send(Message{Type: MsgProposal, Link: k.id, Zxid: p.Zxid, Proposal: p})
			n.send(Message{Type: MsgCommit, Link: k.id, Zxid: p.Zxid})
			k.sent = p.Zxid
		case !k.observer:
			n.send(Message{Type: MsgProposal, Link: k.id, Zxid: p.Zxid, Proposal: p})
		}
	}
	// One that joins an established reign learns of a reconfiguration under way by
	// its proposal. ZooKeeper's servers put the list in NEWLEADER into force.
	list := n.lastSeen
	if n.phase == Broadcast {
		list = n.ensemble
	}
	n.send(Message{Type: MsgNewLeader, Link: k.id, Zxid: NewZxid(n.epoch, 0), Data: []byte(list.String())})
	k.state, k.heard = synced, true
}

// ackNewLeader takes the first ACK of a link: its learner holds everything that
// was sent before NEWLEADER and has entered the epoch.
func (l *leader) ackNewLeader(k *link, z Zxid) error {
	if z != NewZxid(l.n.epoch, 0) {
		return fmt.Errorf("ACK of %v instead of NEWLEADER of epoch %d: %w", z, l.n.epoch, ErrUnexpected)
	}
	k.state, k.acked = adopted, k.sent
	if l.stage == serving {
		l.welcome(k)
		return nil
	}
	l.adopted.add(k.peer)
	l.establish()
	return nil
}

// establish begins the broadcast once a quorum holds the history of the epoch.
func (l *leader) establish() {
	n := l.n
	if l.stage != syncing || !n.quorum(l.adopted.has) {
		return
	}
	l.enter(serving)
	n.phase = Broadcast
	if n.lastSeen != n.ensemble {
		// Every member of both quorums has seen it: it is committed.
		n.activate(n.lastSeen)
		l.retiring = !n.ensemble.IsVoter(n.cfg.ID)
	}
	vote := n.election.vote
	vote.Epoch = n.epoch
	n.election.configure(n.ensemble, n.lastSeen)
	n.election.settle(Leading, vote)
	n.decide()
	l.appendAt, l.pingAt, l.checkAt = n.now, n.now+n.cfg.TickTime/2, n.now+n.cfg.TickTime
	for _, k := range l.links {
		if k.state == adopted {
			l.welcome(k)
		}
	}
}

// welcome tells a learner that it may serve clients.
func (l *leader) welcome(k *link) {
	k.state, k.heard = following, true
	k.late, k.lateAt = 0, 0
	if !k.observer && l.n.log.last > k.acked {
		k.late = l.n.log.last
	}
	l.n.send(Message{Type: MsgUpToDate, Link: k.id, Zxid: -1})
	if l.round != 0 {
		l.ping(k)
		k.mark = k.pings
	}
}

// Broadcast.

// propose sends new transactions to the followers.
func (l *leader) propose(ps []Proposal) {
	if e := ps[len(ps)-1].Ensemble; e != nil {
		l.reconfig = ps[len(ps)-1].Zxid
	}
	l.appending = true
	for _, k := range l.followers {
		if k.state < synced {
			continue
		}
		if k.late == 0 {
			k.late, k.lateAt = ps[0].Zxid, 0
		}
		for i := range ps {
			l.n.send(Message{Type: MsgProposal, Link: k.id, Zxid: ps[i].Zxid, Proposal: ps[i]})
		}
	}
}

// appended takes note that the own log came forward.
func (l *leader) appended() {
	l.progress = true
	l.appending = l.n.log.durable != l.n.log.last
}

// ack takes an acknowledgement behind that of NEWLEADER. A learner acknowledges in
// order, so one stands for all before it.
func (l *leader) ack(k *link, z Zxid) error {
	switch {
	case z == NewZxid(l.n.epoch, 0):
		return nil // of UPTODATE
	case z.Epoch() != l.n.epoch || z > l.n.log.last:
		return fmt.Errorf("ACK of %v in epoch %d, last proposal %v: %w", z, l.n.epoch, l.n.log.last, ErrUnexpected)
	case z <= k.acked || k.observer:
		return nil // of what was committed before it came
	}
	k.acked = z
	if k.late != 0 && z >= k.late {
		k.late, k.lateAt = 0, 0
		if z < l.n.log.last {
			k.late = l.n.log.last
		}
	}
	return nil
}

// flush draws the conclusions from everything that came since the last Ready.
func (l *leader) flush() {
	if l.stage == serving {
		l.commit()
		l.confirmRound()
	}
}

// commit commits what quorums hold, in order.
func (l *leader) commit() {
	n := l.n
	for !l.retiring {
		upTo := l.agreed(n.ensemble)
		reconfig := l.reconfig != 0 && l.reconfig <= upTo
		if reconfig {
			upTo = l.reconfig - 1 // the one before, if there is one that is not committed
		}
		ps := n.log.uncommitted(upTo)
		if len(ps) > 0 {
			l.announce(ps)
			n.log.commit(ps[len(ps)-1].Zxid)
		}
		if !reconfig || !l.commitReconfig(n.log.next()) {
			return
		}
		// What comes behind it needs a quorum of the new list only.
	}
}

// commitReconfig commits a reconfiguration if a quorum of its list has it as well.
func (l *leader) commitReconfig(p *Proposal) bool {
	n := l.n
	if l.agreed(p.Ensemble) < p.Zxid {
		return false
	}
	designated := l.designate(p)
	l.reconfig = 0
	n.log.commit(p.Zxid)
	n.activate(p.Ensemble)
	n.election.configure(n.ensemble, n.lastSeen)
	for _, k := range l.links {
		switch {
		case k.state < synced:
		case k.observer:
			n.send(Message{Type: MsgInformAndActivate, Link: k.id, Zxid: p.Zxid, Proposal: *p, Leader: designated})
		default:
			n.send(Message{Type: MsgCommitAndActivate, Link: k.id, Zxid: p.Zxid, Leader: designated})
		}
	}
	if designated != n.cfg.ID {
		// The learners leave by themselves: so a quorum gets to know of it.
		l.retiring, l.checkAt = true, n.now+n.cfg.TickTime
	}
	return true
}

// agreed returns the last transaction that a quorum of e holds durably.
func (l *leader) agreed(e *Ensemble) Zxid {
	n := l.n
	if e == nil {
		return n.log.durable
	}
	l.acks = append(l.acks[:0], n.log.durable)
	for _, k := range l.followers {
		l.acks = append(l.acks, k.acked)
	}
	slices.Sort(l.acks)
	for _, z := range slices.Backward(l.acks) {
		if z <= n.log.committed {
			break
		}
		if e.IsQuorum(func(id ServerID) bool {
			if id == n.cfg.ID {
				return n.log.durable >= z
			}
			k := l.follower(id)
			return k != nil && k.acked >= z
		}) {
			return z
		}
	}
	return n.log.committed
}

// announce tells the learners that transactions are committed.
func (l *leader) announce(ps []Proposal) {
	for _, k := range l.links {
		if k.state < synced {
			continue
		}
		for i := range ps {
			if k.observer {
				l.n.send(Message{Type: MsgInform, Link: k.id, Zxid: ps[i].Zxid, Proposal: ps[i]})
			} else {
				l.n.send(Message{Type: MsgCommit, Link: k.id, Zxid: ps[i].Zxid})
			}
		}
	}
}

// designate says who leads behind a reconfiguration: this server if it is a voter
// at the same place still, else the one with the longest log.
func (l *leader) designate(p *Proposal) ServerID {
	n := l.n
	now, ok := p.Ensemble.Member(n.cfg.ID)
	before, _ := n.ensemble.Member(n.cfg.ID)
	if ok && !now.Observer && slices.Equal(now.Addrs, before.Addrs) {
		return n.cfg.ID
	}
	best, acked := NoServer, Zxid(0)
	for _, k := range l.followers {
		if p.Ensemble.IsVoter(k.peer) && k.peer != n.cfg.ID && k.acked >= p.Zxid && k.acked > acked {
			best, acked = k.peer, k.acked
		}
	}
	return best
}

// confirm notes that somebody wants to know whether this server leads.
func (l *leader) confirm(token uint64) error {
	switch {
	case l.stage != serving:
		return ErrNotLeading
	case token <= l.asked:
		return fmt.Errorf("token %d behind %d: %w", token, l.asked, ErrZxidOrder)
	}
	l.asked = token
	return nil
}

// confirmRound finds out whether a quorum still follows: each of it has answered
// a ping that was sent after the question (rule R26). Whoever had joined another
// leader before would have left this one first.
func (l *leader) confirmRound() {
	n := l.n
	for !l.retiring {
		if l.round == 0 {
			if l.asked == l.confirmed {
				return
			}
			l.round = l.asked
			if !n.quorum(func(id ServerID) bool { return id == n.cfg.ID }) {
				for _, k := range l.followers {
					if k.state == following {
						l.ping(k)
						k.mark = k.pings
					}
				}
			}
		}
		if !n.quorum(func(id ServerID) bool {
			k := l.follower(id)
			return id == n.cfg.ID || k != nil && k.state == following && k.answers >= k.mark
		}) {
			return
		}
		l.confirmed, n.out.Confirmed = l.round, l.round
		l.round = 0
	}
}

// Time.

// rollover is the counter at which a leader makes room for a new epoch. It is far
// enough from the end for whatever a driver proposes at once.
const rollover = ^uint32(0) - 1<<24

func (l *leader) deadline() Millis {
	if l.stage == serving {
		return min(l.pingAt, l.checkAt)
	}
	return never
}

// tick looks after learners that fell silent and after this server's own right to
// lead.
func (l *leader) tick() {
	n := l.n
	for _, k := range slices.Clone(l.links) {
		if err := l.overdue(k); err != nil {
			l.drop(k, err)
		}
	}
	if l.judge(); n.lead != l {
		return
	}
	switch {
	case l.stage != serving:
		if n.now >= l.since+n.ticks(n.cfg.InitLimit) {
			n.look(fmt.Errorf("no quorum has joined: %w", ErrTimeout))
		} else if !n.election.supported(l.linked) ||
			!n.quorum(func(id ServerID) bool { return !l.gone.has(id) }) {
			// Who looks again comes back only if it hears of a quorum that stays.
			n.look(errors.New("a quorum looks for another leader"))
		}
		return
	case n.log.last.Epoch() == n.epoch && n.log.last.Counter() >= rollover:
		n.look(fmt.Errorf("the counter of epoch %d is nearly used up", n.epoch))
		return
	}
	if !l.appending || l.progress {
		l.appendAt, l.progress = n.now, false
	}
	if n.now >= l.appendAt+n.ticks(n.cfg.SyncLimit) {
		n.look(fmt.Errorf("the own log does not come forward behind %v: %w", n.log.durable, ErrTimeout))
		return
	}
	if n.now >= l.checkAt {
		l.checkAt = n.now + n.cfg.TickTime
		if l.retiring {
			n.look(errors.New("the configuration has another leader"))
			return
		}
		if !n.quorum(l.upToDate) {
			n.look(errors.New("no quorum follows any more"))
			return
		}
	}
	if n.now >= l.pingAt {
		l.pingAt = n.now + n.cfg.TickTime/2
		for _, k := range l.links {
			if k.state == following {
				l.ping(k)
			}
		}
	}
}

// valid checks what the invariants say of one server.
func (l *leader) valid() error {
	n := l.n
	switch {
	case n.election == nil:
		return nil
	case l.stage > storingEpoch && (n.epoch != n.hard.Accepted || l.stage < serving && !n.quorum(l.connected.has)):
		return fmt.Errorf("L1: epoch %d, accepted %d, connected %v", n.epoch, n.hard.Accepted, l.connected)
	case l.stage > proposingEpoch && l.stage < serving && (n.log.committed != n.log.last || n.log.last.Epoch() >= n.epoch || !n.quorum(l.promised.has)):
		return fmt.Errorf("L2: promised by %v, committed %v, last %v", l.promised, n.log.committed, n.log.last)
	case (l.stage == serving) != (n.phase == Broadcast) || l.stage == serving && n.hard.Current != n.epoch:
		return fmt.Errorf("L3: stage %d in %v, current epoch %d", l.stage, n.phase, n.hard.Current)
	case (l.reconfig != 0) != (n.lastSeen != n.ensemble) && l.stage == serving:
		return fmt.Errorf("L4: reconfiguration %v, last seen %x, in force %x", l.reconfig, n.lastSeen.Version, n.ensemble.Version)
	}
	for _, k := range l.links {
		if k.acked > n.log.last || k.state >= synced && k.sent > n.log.committed {
			return fmt.Errorf("L5: link %d of server %d: sent %v, acked %v, history %v to %v", k.id, k.peer, k.sent, k.acked, n.log.base, n.log.last)
		}
	}
	return nil
}
