package zab

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Role is what a server is to the ensemble at the moment
// (QuorumPeer.ServerState).
type Role uint8

// The roles.
const (
	Looking Role = iota
	Following
	Leading
	Observing
)

// String returns ZooKeeper's name of the state.
func (r Role) String() string {
	return [...]string{"LOOKING", "FOLLOWING", "LEADING", "OBSERVING"}[r]
}

// HardState is what a server must not forget: its promises. Accepted is the
// highest epoch promised to a leader, Current the epoch of the history it
// adopted (files acceptedEpoch and currentEpoch).
type HardState struct {
	Accepted, Current Epoch
}

// Config describes the server that a Node plays.
type Config struct {
	ID ServerID

	// Ensemble is the configuration in force. Nil means a standalone server: it
	// leads without an election and goes on in the epoch of its last transaction,
	// as Apache's ZooKeeperServerMain does; only ID and LastZxid count then.
	Ensemble *Ensemble

	// LastSeen is the newest configuration that was proposed, if it is not
	// Ensemble. It counts if the log holds its proposal.
	LastSeen *Ensemble

	// Observer is the role of a server that Ensemble does not list yet (peerType). A
	// participant acknowledges like a follower from the beginning; so a
	// reconfiguration can make a voter of it at once.
	Observer bool

	// Hard and LastZxid are what recovery found on disk.
	Hard     HardState
	LastZxid Zxid

	// Lost says that the disk is empty although the ensemble has a history. Such a
	// server has forgotten what it promised and acknowledged: it has no vote until
	// an established leader has brought it up to date (rule R14).
	Lost bool

	// TickTime is the unit of the limits (zoo.cfg: tickTime). InitLimit is how many
	// ticks discovery and synchronization may take without any progress, SyncLimit
	// for how many a peer may be silent (initLimit, syncLimit).
	TickTime             Millis
	InitLimit, SyncLimit int

	// ReconfigEnabled allows that the configuration changes (reconfigEnabled).
	ReconfigEnabled bool

	// HistoryCount and HistoryBytes bound the recent transactions that are kept for
	// learners that were away for a while. Older ones are read from the log.
	HistoryCount int
	HistoryBytes int64

	// Rand, if not nil, returns a number below n. It spreads what servers would
	// otherwise do at the same moment.
	Rand func(n int64) int64
}

// Errors of Step.
var (
	// ErrNotLeading: a transaction or a MsgConfirm came although the server does not
	// lead, or not yet. It may have stopped to since the last Ready.
	ErrNotLeading = errors.New("server does not lead")
	// ErrZxidOrder: a transaction is not the next one, or a report of the disk does
	// not fit to what was asked for.
	ErrZxidOrder = errors.New("zxid out of order")
)

// Reasons for which a link is closed or a role ends; see [Closing] and
// [Ready].
var (
	ErrUnexpected = errors.New("packet not expected now")
	ErrTimeout    = errors.New("timed out")
	// ErrDiverged: the tree of this learner is not that of its leader.
	ErrDiverged = errors.New("the tree here is not that of the leader")
)

// maxEpoch is the last epoch that a peer may name: the files and packets of
// Apache hold signed numbers of 32 bits.
const maxEpoch Epoch = math.MaxInt32 - 1

// Node is the Zab state machine of one server: no I/O, no clock, no goroutine, no
// lock. Equal inputs give equal outputs. Not safe for concurrent use.
//
// The driver hands in what happens by [Node.Step], [Node.Notified], [Node.PeerUp],
// [Node.PeerDown] and [Node.Tick], performs what [Node.Ready] lists, and calls [Node.Advance].
//
// Invariants, besides those of its history:
//
//	N1  hard.Current ≤ hard.Accepted; both are on the disk, and a packet that relies
//	    on one leaves only then (R14).
//	N2  a server is LOOKING, or it leads, or it follows or observes; the state of
//	    the two other roles does not exist then.
//	N3  it takes part in an election only when all that it handed to the disk was
//	    reported: nothing of an earlier role is written later (R10).
//	N4  nobody without a vote votes, leads or follows as one who counts: a server that
//	    lost its disk gives no epoch in ACKEPOCH (R14).
//	N5  lastSeen is ensemble, or the newer one that was proposed to replace it.
type Node struct {
	cfg   Config
	now   Millis // of the last Tick
	begun bool   // there was one

	role   Role
	phase  Phase
	leader ServerID
	epoch  Epoch // of the leader, once it is known
	reason error // why the last role ended

	hard      HardState
	entered   Epoch // the current epoch as this process has stored it; recovery may have inferred hard.Current
	lost      bool
	refetched Epoch // of the last leader whose tree was fetched because this one had diverged
	observer  bool  // the role by the last list that had this server
	log       history
	disk      diskWork
	ensemble  *Ensemble // committed
	lastSeen  *Ensemble

	lead     *leader // while Leading
	learn    *learner
	election *election // nil in a standalone server
	electing bool      // it has begun
	held     []Notification
	failures int    // roles in a row that ended before Broadcast
	pauseEnd Millis // no election before

	out Ready
}

// diskWork is what was handed to the driver and not reported yet, besides what
// is appended to the log.
type diskWork struct {
	accepted, current Epoch
	truncate          Zxid
	install           *Installation
}

// NewNode returns the node of a server that has just recovered from its disk.
func NewNode(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, hard: cfg.Hard, lost: cfg.Lost, leader: NoServer, ensemble: cfg.Ensemble, lastSeen: cfg.LastSeen}
	n.out.Dial = NoServer
	if n.lastSeen == nil || !cfg.ReconfigEnabled {
		n.lastSeen = n.ensemble
	}
	n.observer = cfg.Observer
	n.log = history{keepCount: cfg.HistoryCount, keepBytes: cfg.HistoryBytes}
	n.log.reset(cfg.LastZxid)
	if cfg.Ensemble == nil {
		n.standalone()
		return n, nil
	}
	switch {
	case cfg.Hard.Accepted < cfg.Hard.Current:
		return nil, fmt.Errorf("accepted epoch %d is below current epoch %d: a promise was lost", cfg.Hard.Accepted, cfg.Hard.Current)
	case cfg.Hard.Current < cfg.LastZxid.Epoch():
		return nil, fmt.Errorf("current epoch %d is below the epoch of the last transaction %v", cfg.Hard.Current, cfg.LastZxid)
	case cfg.Hard.Accepted > maxEpoch:
		return nil, fmt.Errorf("accepted epoch %d is above %d", cfg.Hard.Accepted, maxEpoch)
	case cfg.Lost && cfg.LastZxid != 0:
		return nil, fmt.Errorf("server %d: its disk is lost but ends at %v", cfg.ID, cfg.LastZxid)
	case cfg.TickTime <= 0 || cfg.InitLimit <= 0 || cfg.SyncLimit <= 0:
		return nil, fmt.Errorf("tick time %d, init limit %d and sync limit %d must be positive", cfg.TickTime, cfg.InitLimit, cfg.SyncLimit)
	}
	n.takeRole()
	n.forgetUnlogged()
	n.election = newElection(cfg.ID, cfg.ReconfigEnabled, cfg.Rand)
	return n, nil
}

// standalone makes a server that needs nobody.
func (n *Node) standalone() {
	n.role, n.phase, n.leader, n.epoch = Leading, Broadcast, n.cfg.ID, n.log.last.Epoch()
	n.lead = newLeader(n)
	n.lead.stage = serving
}

// Step takes one message. An error says that the driver broke the contract, or
// that the role to which the message belongs has ended ([ErrNotLeading]); the
// node is unchanged then. What a peer does wrong is no error: it closes the link.
func (n *Node) Step(m Message) error {
	switch m.Type {
	case MsgPropose:
		return n.propose(m.Proposals)
	case MsgAppended:
		return n.appended(m.Zxid)
	case MsgAcceptedStored, MsgCurrentStored, MsgTruncated, MsgInstalled:
		return n.diskDone(m)
	case MsgConfirm:
		if n.role != Leading {
			return ErrNotLeading
		}
		return n.lead.confirm(m.Token)
	case MsgDiverged:
		if n.learn != nil {
			n.learn.diverged()
		}
		return nil
	case MsgLinkUp, MsgLinkDown, MsgDialFailed, MsgProgress, MsgLocated, MsgStreamed:
	default:
		if m.Type == MsgNone || m.Type > MsgInformAndActivate {
			return fmt.Errorf("message of unknown type %d", m.Type)
		}
	}
	switch {
	case n.role == Leading:
		return n.lead.step(m)
	case n.learn != nil:
		n.learn.step(m)
	case m.Type == MsgLinkUp:
		n.close(m.Link, m.From, nil)
	}
	return nil
}

// Notified takes a message of the election port.
func (n *Node) Notified(v Notification) {
	if n.election == nil {
		return
	}
	if n.role == Looking && !n.electing {
		n.hold(v)
		return
	}
	n.election.step(n.now, &v)
	n.decide()
	if n.role == Leading && v.State == Looking {
		n.lead.looks(v.From)
	}
}

// PeerUp says that a connection of the election port to a server was opened.
func (n *Node) PeerUp(id ServerID) {
	if n.electing || n.election != nil && n.role != Looking {
		n.election.peerUp(id)
		n.decide()
	}
}

// PeerDown says that the connection of the election port to a server has ended
// and there is no other.
func (n *Node) PeerDown(id ServerID) {
	if n.election != nil && n.begun {
		n.election.peerDown(n.now, id)
		n.decide()
	}
}

// Tick says what time it is. The driver calls it whenever Deadline has come, and
// before it hands in what came meanwhile.
func (n *Node) Tick(now Millis) {
	n.now = max(n.now, now)
	if n.election == nil {
		return
	}
	if !n.begun {
		n.begun, n.now = true, now
	}
	n.elect()
	n.election.tick(n.now)
	n.decide()
	switch {
	case n.role == Leading:
		n.lead.tick()
	case n.learn != nil:
		n.learn.tick()
	}
}

// Deadline returns when Tick is to be called at the latest.
func (n *Node) Deadline() Millis {
	if n.election == nil {
		return math.MaxInt64
	}
	d := n.now + n.cfg.TickTime/2
	if !n.begun {
		return n.now
	}
	if n.electing || n.role != Looking {
		d = min(d, n.election.deadline())
	} else if n.pauseEnd > n.now {
		d = min(d, n.pauseEnd)
	}
	if n.role == Leading {
		d = min(d, n.lead.deadline())
	}
	return max(d, n.now)
}

// Ready returns what is to be done; it is valid until Advance.
func (n *Node) Ready() *Ready {
	if n.role == Leading {
		n.lead.flush()
	}
	if n.role != Looking {
		n.out.Committed = n.log.deliver(n.out.Committed)
	}
	n.out.Role, n.out.Phase, n.out.Leader, n.out.Epoch, n.out.Reason = n.role, n.phase, n.leader, n.epoch, n.reason
	n.out.Ensemble, n.out.LastSeen = n.ensemble, n.lastSeen
	return &n.out
}

// Empty reports whether there is nothing to do. What the server is may have
// changed all the same.
func (r *Ready) Empty() bool {
	return r.StoreAccepted == 0 && r.StoreCurrent == 0 && r.Truncate == 0 && r.Install == nil &&
		len(r.Append) == 0 && len(r.Committed) == 0 && r.Confirmed == 0 && r.Dial == NoServer &&
		len(r.Messages) == 0 && len(r.Notifications) == 0 && len(r.Locate) == 0 && len(r.Stream) == 0 && len(r.Close) == 0
}

// Advance says that everything in Ready was taken over. Disk writes among it may
// still be under way: their end is a message.
func (n *Node) Advance() {
	o := &n.out
	clear(o.Append) // the slices are used again; let go of the data
	clear(o.Committed)
	clear(o.Messages)
	clear(o.Notifications)
	*o = Ready{
		Dial: NoServer, Append: o.Append[:0], Committed: o.Committed[:0], Messages: o.Messages[:0],
		Notifications: o.Notifications[:0], Locate: o.Locate[:0], Stream: o.Stream[:0], Close: o.Close[:0],
	}
}

// Role returns the present role.
func (n *Node) Role() Role { return n.role }

// Phase returns how far the server has come in its role.
func (n *Node) Phase() Phase { return n.phase }

// LastZxid returns the zxid of the last transaction that was given to the log.
func (n *Node) LastZxid() Zxid { return n.log.last }

// NextZxid returns the zxid of the next proposal of a leader. At the end of a
// counter a standalone server goes on with the next epoch; the leader of an
// ensemble steps down long before.
func (n *Node) NextZxid() Zxid {
	if n.log.last.Epoch() < n.epoch {
		return NewZxid(n.epoch, 1)
	}
	return n.log.last.Next()
}

// QuorumSynced reports whether this leader and the voters that are connected and
// up to date are a quorum of e. A reconfiguration to anything else would not be
// committed soon.
func (n *Node) QuorumSynced(e *Ensemble) bool {
	return n.role == Leading && e.IsQuorum(func(id ServerID) bool {
		m, ok := n.ensemble.Member(id)
		return n.lead.upToDate(id) && !(ok && m.Observer) // one that is made an observer will go and come back as that
	})
}

// propose takes new transactions from the leader's driver.
func (n *Node) propose(ps []Proposal) error {
	if n.role != Leading || n.phase != Broadcast {
		return ErrNotLeading
	}
	want := n.NextZxid()
	for i := range ps {
		p := &ps[i]
		if p.Zxid != want || n.election != nil && p.Zxid.Epoch() != n.epoch {
			return fmt.Errorf("proposal %v, %v expected: %w", p.Zxid, want, ErrZxidOrder)
		}
		if e := p.Ensemble; e != nil && (!n.cfg.ReconfigEnabled || n.lastSeen != n.ensemble || e.Version != int64(p.Zxid) || i != len(ps)-1) {
			return fmt.Errorf("proposal %v: a reconfiguration is not allowed now or here, or has version %x", p.Zxid, e.Version)
		}
		want = want.Next()
	}
	if len(ps) > 0 {
		n.log.appendAll(ps)
		n.out.Append = append(n.out.Append, ps...)
		n.seen(ps[len(ps)-1].Ensemble)
		n.lead.propose(ps)
	}
	return nil
}

// append hands the next transaction to the log. The caller has checked its zxid.
func (n *Node) append(p Proposal) {
	if err := n.log.append(p); err != nil {
		panic("zab: " + err.Error())
	}
	n.out.Append = append(n.out.Append, p)
	n.seen(p.Ensemble)
}

// appended takes the report that the log is durable up to z.
func (n *Node) appended(z Zxid) error {
	if z < n.log.durable || z > n.log.last {
		return fmt.Errorf("log durable up to %v, between %v and %v expected: %w", z, n.log.durable, n.log.last, ErrZxidOrder)
	}
	n.log.durable = z
	switch {
	case n.role == Leading:
		n.lead.appended()
	case n.learn != nil:
		n.learn.appended()
	default:
		n.elect()
	}
	return nil
}

// diskDone takes the report that something else than the log is done.
func (n *Node) diskDone(m Message) error {
	switch m.Type {
	case MsgAcceptedStored:
		if m.Epoch != n.disk.accepted || m.Epoch == 0 {
			return fmt.Errorf("accepted epoch %d was not to be stored: %w", m.Epoch, ErrZxidOrder)
		}
		n.hard.Accepted, n.disk.accepted = m.Epoch, 0
	case MsgCurrentStored:
		if m.Epoch != n.disk.current || m.Epoch == 0 {
			return fmt.Errorf("current epoch %d was not to be stored: %w", m.Epoch, ErrZxidOrder)
		}
		n.hard.Current, n.entered, n.disk.current = m.Epoch, m.Epoch, 0
		n.lost = false
	case MsgTruncated:
		if n.disk.truncate == 0 || !m.Failed && m.Zxid != n.disk.truncate {
			return fmt.Errorf("truncation to %v was not asked for: %w", m.Zxid, ErrZxidOrder)
		}
		n.disk.truncate = 0
		if m.Failed {
			if n.learn != nil {
				n.learn.fetchAll(errors.New("the log does not reach back to where the leader wants it cut"))
				return nil
			}
			break
		}
		n.log.truncate(m.Zxid)
		n.forgetUnlogged()
	case MsgInstalled:
		if n.disk.install == nil || m.Zxid != n.disk.install.Zxid {
			return fmt.Errorf("snapshot %v was not to be installed: %w", m.Zxid, ErrZxidOrder)
		}
		n.installed(n.disk.install)
		n.disk.install = nil
	}
	switch {
	case n.role == Leading:
		n.lead.stored(m.Type)
	case n.learn != nil:
		n.learn.stored(m.Type)
	default:
		n.elect()
	}
	return nil
}

// installed takes over that disk and tree are what a leader has sent.
func (n *Node) installed(in *Installation) {
	n.log.reset(in.Zxid)
	n.hard.Current, n.entered = in.Epoch, in.Epoch
	n.lost = false
	n.lastSeen = n.ensemble // the proposal may not be in this history
	n.seen(in.Ensemble)
	for i := range in.Committed {
		n.seen(in.Committed[i].Ensemble)
	}
}

func (n *Node) storeAccepted(e Epoch) { n.out.StoreAccepted, n.disk.accepted = e, e }
func (n *Node) storeCurrent(e Epoch)  { n.out.StoreCurrent, n.disk.current = e, e }

// idle reports whether the disk has done everything.
func (n *Node) idle() bool { return n.disk == diskWork{} && n.log.durable == n.log.last }

// currentEpoch is the epoch of the history that the log holds. A log with a
// transaction of an epoch holds what the leader of it began with, also if the
// connection broke before the file could say so.
func (n *Node) currentEpoch() Epoch { return max(n.hard.Current, n.log.durable.Epoch()) }

// activate puts a committed configuration into force.
func (n *Node) activate(e *Ensemble) {
	if e == nil || !n.cfg.ReconfigEnabled || e.Version <= n.ensemble.Version {
		return
	}
	n.ensemble = e
	if n.lastSeen.Version <= e.Version {
		n.lastSeen = e
	}
	n.takeRole()
}

// takeRole notes whether the list has this server as an observer. One that is not
// in it stays what it was, without a vote.
func (n *Node) takeRole() {
	if m, ok := n.ensemble.Member(n.cfg.ID); ok {
		n.observer = m.Observer
	}
}

// seen takes a list of servers, nil if there was none, for the newest.
func (n *Node) seen(e *Ensemble) {
	if e != nil && n.cfg.ReconfigEnabled && e.Version > n.lastSeen.Version {
		n.lastSeen = e
	}
}

// forgetUnlogged gives up a list whose proposal this log does not hold. It counts
// from its proposal on, as every other transaction: one that is committed is in the
// log of some voter in each quorum of the list before it. Were it to count here, a
// server that was told of it and did not get it could wait for servers that will
// never come.
func (n *Node) forgetUnlogged() {
	if v := n.lastSeen.Version; v <= n.ensemble.Version || Zxid(v) > n.log.last {
		n.lastSeen = n.ensemble
	}
}

// quorum reports whether those for whom acks is true are a quorum of the
// configuration in force and of the one that is to replace it.
func (n *Node) quorum(acks func(ServerID) bool) bool {
	if n.ensemble == nil {
		return acks(n.cfg.ID)
	}
	return n.ensemble.IsQuorum(acks) && (n.lastSeen == n.ensemble || n.lastSeen.IsQuorum(acks))
}

// isVoter reports whether a server votes in the configuration in force or in the
// one that is to replace it.
func (n *Node) isVoter(id ServerID) bool {
	return n.ensemble.IsVoter(id) || n.lastSeen != n.ensemble && n.lastSeen.IsVoter(id)
}

// look ends the present role and begins to look for a leader, once the disk is
// done with what the role gave it.
func (n *Node) look(reason error) {
	switch {
	case n.lead != nil:
		for _, l := range n.lead.links {
			n.close(l.id, l.peer, nil)
		}
	case n.learn != nil && n.learn.link != 0:
		n.close(n.learn.link, n.leader, reason)
	}
	if n.failures++; n.phase == Broadcast {
		n.failures = 0
	}
	n.pauseEnd = n.now + n.pause()
	n.role, n.phase, n.leader, n.epoch, n.reason = Looking, Election, NoServer, 0, reason
	n.lead, n.learn, n.electing = nil, nil, false
	n.out.Dial = NoServer
	n.elect()
}

// pause is how long this server waits before the next election: at first not at
// all, then longer and longer, so that servers which cannot come together for a
// reason that stays do not keep each other and the network busy.
func (n *Node) pause() Millis {
	if n.failures < 2 {
		return 0
	}
	p := min(n.cfg.TickTime, n.cfg.TickTime/64<<min(n.failures, 8))
	if n.cfg.Rand != nil && p > 1 {
		p = p/2 + Millis(n.cfg.Rand(int64(p)/2))
	}
	return p
}

// elect begins an election if nothing is in its way.
func (n *Node) elect() {
	if !n.begun || n.electing || n.role != Looking || !n.idle() || n.now < n.pauseEnd {
		return
	}
	n.electing = true
	n.forgetUnlogged()
	own := Vote{Leader: n.cfg.ID, Zxid: n.log.durable, Epoch: n.currentEpoch()}
	n.election.start(n.now, own, n.lost, n.ensemble, n.lastSeen)
	n.decide()
	held := n.held
	n.held = nil
	for i := range held {
		n.election.step(n.now, &held[i])
		n.decide()
	}
}

// hold keeps the newest notification of each server until the election begins.
func (n *Node) hold(v Notification) {
	i := slices.IndexFunc(n.held, func(h Notification) bool { return h.From == v.From })
	switch {
	case i >= 0:
		n.held[i] = v
	case len(n.held) < maxMembers:
		n.held = append(n.held, v)
	}
}

// decide takes over what the election says: what to send, which list of servers
// is newer than ours, and who leads.
func (n *Node) decide() {
	e := n.election
	if e.adopt != nil {
		list := e.adopt
		e.adopt = nil
		same := list.Equal(n.ensemble)
		n.activate(list)
		if same {
			e.configure(n.ensemble, n.lastSeen)
		} else if n.electing {
			n.electing = false
			n.elect()
			return
		}
	}
	n.out.Notifications = append(n.out.Notifications, e.out...)
	clear(e.out)
	e.out = e.out[:0]
	if !e.decided || !n.electing {
		return
	}
	e.decided, n.electing = false, false
	n.phase, n.leader = Discovery, e.vote.Leader
	if n.leader == n.cfg.ID {
		n.role = Leading
		n.lead = newLeader(n)
		n.lead.discover()
		return
	}
	n.role = Following
	if n.observer {
		n.role = Observing
	}
	n.learn = newLearner(n)
	n.out.Dial = n.leader
}

func (n *Node) send(m Message) { n.out.Messages = append(n.out.Messages, m) }

func (n *Node) close(id LinkID, peer ServerID, reason error) {
	n.out.Close = append(n.out.Close, Closing{id, peer, reason})
}

// ticks returns the length of some ticks.
func (n *Node) ticks(count int) Millis { return Millis(count) * n.cfg.TickTime }

// idSet is a small set of servers, sorted.
type idSet []ServerID

func (s *idSet) add(id ServerID) {
	if i, ok := slices.BinarySearchFunc(*s, id, cmp.Compare); !ok {
		*s = slices.Insert(*s, i, id)
	}
}

func (s *idSet) remove(id ServerID) {
	if i, ok := slices.BinarySearch(*s, id); ok {
		*s = slices.Delete(*s, i, i+1)
	}
}

func (s idSet) has(id ServerID) bool {
	_, ok := slices.BinarySearch(s, id)
	return ok
}

// valid checks the invariants.
func (n *Node) valid() error {
	if err := n.log.valid(); err != nil {
		return err
	}
	if n.hard.Current > n.hard.Accepted {
		return fmt.Errorf("N1: current epoch %d above accepted epoch %d", n.hard.Current, n.hard.Accepted)
	}
	if (n.lead != nil) != (n.role == Leading) || (n.learn != nil) != (n.role == Following || n.role == Observing) {
		return fmt.Errorf("N2: %v with lead %v, learn %v", n.role, n.lead != nil, n.learn != nil)
	}
	if n.electing && (n.role != Looking || !n.idle()) {
		return fmt.Errorf("N3: %v votes while the disk has work", n.role)
	}
	if n.role == Leading && n.election != nil && n.lost {
		return errors.New("N4: a server without its disk leads")
	}
	if n.lastSeen != n.ensemble && n.lastSeen.Version <= n.ensemble.Version {
		return fmt.Errorf("N5: last seen version %x, in force %x", n.lastSeen.Version, n.ensemble.Version)
	}
	if n.lead != nil {
		return n.lead.valid()
	}
	return nil
}
