package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/znode"
)

// A member is what the server of an ensemble has besides that of a server alone:
// connections to the others, and a role that changes. Owned by the driver unless
// it says otherwise.
type member struct {
	s        *Server
	log      *slog.Logger
	election *transport.Election
	quorum   *transport.Quorum

	// Guarded by Server.inMu.
	events, freeEvents []event
	eventBytes         int        // of packets among them
	ended              bool       // the driver takes no more
	taken              *sync.Cond // events were taken, or ended

	shown    role          // what the node said last
	since    int64         // nanos: when that began
	ensemble *zab.Ensemble // in force
	lastSeen *zab.Ensemble // proposed last, or the same
	lists    atomic.Pointer[lists]
	status   atomic.Pointer[zab.Status]
	sizes    proposalSizes
	said     map[string]bool // what was logged of other servers
	links    map[zab.LinkID]*link
	stopDial context.CancelFunc // nil: none is under way
	heldBack []*conn            // have replies that are not to be written yet

	// The tree was that of the leader after some transaction, since it came from a
	// disk or from a leader; and it was not after the last one. See compare.
	agreed, diverged bool

	leading  leading
	learning learning
}

// A role is what the server is to the ensemble.
type role struct {
	role   zab.Role
	phase  zab.Phase
	leader zab.ServerID
	epoch  zab.Epoch
}

func (r role) serves() bool { return r.role != zab.Looking && r.phase == zab.Broadcast }

// lists are the configurations that goroutines of the transport look at.
type lists struct{ inForce, lastSeen *zab.Ensemble }

// A link is a connection of the quorum port that the node has not given up.
type link struct {
	*transport.Link
	barriers []linkBarrier // of a learner, in the order of its requests
	snapshot bool          // a SNAP has come
}

// join makes the node of a recovered server of an ensemble, and its ports.
func (s *Server) join() error {
	cfg := &s.cfg
	me, ok := cfg.Ensemble.Member(cfg.ID)
	if !ok && !cfg.ReconfigEnabled {
		return fmt.Errorf("server %d is not in the list of servers", cfg.ID)
	}
	accepted, current, err := s.epochs()
	if err != nil {
		return err
	}
	m := &member{s: s, log: s.log, links: map[zab.LinkID]*link{}, said: map[string]bool{}, shown: role{leader: zab.NoServer}, agreed: true}
	m.taken = sync.NewCond(&s.inMu)
	s.member = m
	s.held.Store(true)
	s.impatient = true
	inForce, lastSeen := cfg.Ensemble, s.loggedEnsemble()
	if !cfg.ReconfigEnabled || lastSeen == nil || lastSeen.Version <= inForce.Version {
		lastSeen = inForce
	}
	s.node, err = zab.NewNode(zab.Config{
		ID: cfg.ID, Ensemble: inForce, LastSeen: lastSeen, Hard: zab.HardState{Accepted: accepted, Current: current},
		LastZxid: s.tree.LastZxid(), Lost: s.store.Recovery().Lost,
		TickTime: zab.Millis(cfg.TickTime.Milliseconds()), InitLimit: cfg.InitLimit, SyncLimit: cfg.SyncLimit,
		ReconfigEnabled: cfg.ReconfigEnabled, HistoryCount: cfg.HistoryCount, HistoryBytes: cfg.HistoryBytes, Rand: rand.Int64N,
	})
	if err != nil {
		return err
	}
	m.open(me)
	m.configure(inForce, lastSeen)
	return nil
}

// epochs returns the promises on the disk. A directory that a server alone has
// written has none: the epoch of its last transaction stands for both, as Apache
// has it.
func (s *Server) epochs() (accepted, current zab.Epoch, err error) {
	accepted, aerr := s.store.AcceptedEpoch()
	current, cerr := s.store.CurrentEpoch()
	if aerr == nil && cerr == nil || s.store.Recovery().Lost {
		return accepted, current, nil
	}
	damaged := errors.Join(aerr, cerr)
	if aerr == nil || cerr == nil || errors.Is(damaged, storage.ErrEpochDamaged) {
		// One of the two is lost: what this server has promised or acknowledged is not
		// known, so it begins again.
		if len(s.cfg.Ensemble.Voters()) < 2 {
			return 0, 0, fmt.Errorf("%w: no other server has the data: check the disk, then delete both epoch files if there are two; this server goes on in the epoch of its last transaction, %v", damaged, s.tree.LastZxid())
		}
		s.log.Warn("epoch files are damaged: the history is set aside, the leader's will be copied", "err", damaged)
		if s.tree, err = s.store.Forget(); err != nil {
			return 0, 0, err
		}
		accepted, _ = s.store.AcceptedEpoch()
		return accepted, 0, nil
	}
	s.log.Warn("no epoch files: that of the last transaction is taken", "epoch", current, "zxid", s.tree.LastZxid())
	if err = s.store.SetAcceptedEpoch(accepted); err == nil {
		err = s.store.SetCurrentEpoch(current)
	}
	return accepted, current, err
}

// ports are the addresses where this server is to be reached by others.
func (m *member) ports(me zab.Member) (elections, quorums []string) {
	for _, a := range me.Addrs {
		host := a.Host
		if m.s.cfg.QuorumListenOnAllIPs {
			host = ""
		}
		elections = append(elections, net.JoinHostPort(host, strconv.Itoa(a.ElectionPort)))
		quorums = append(quorums, net.JoinHostPort(host, strconv.Itoa(a.QuorumPort)))
	}
	return elections, quorums
}

// open makes the ports; they open in Run.
func (m *member) open(me zab.Member) {
	s := m.s
	cfg := &s.cfg
	elections, quorums := m.ports(me)
	m.election = transport.NewElection(transport.ElectionConfig{
		ID: cfg.ID, Listen: elections, AllowUnknown: cfg.ReconfigEnabled,
		Received: func(n zab.Notification) { m.post(event{note: &n}) },
		PeerUp: func(id zab.ServerID) {
			m.post(event{do: func() error { s.node.PeerUp(id); return nil }})
		},
		PeerDown: func(id zab.ServerID) {
			m.post(event{do: func() error { s.node.PeerDown(id); return nil }})
		},
		Net: cfg.PeerNet, Logger: s.log,
	})
	m.quorum = transport.NewQuorum(transport.QuorumConfig{
		Listen: quorums, Admit: m.admit,
		LinkUp: m.linkUp, Received: m.received, Snapshot: m.readSnapshot, LinkDown: m.linkDown,
		MaxPacket: max(2*cfg.MaxBuffer, 1<<20), Net: cfg.PeerNet, Logger: s.log,
	})
}

// perform starts what the node wants done.
func (m *member) perform(rd *zab.Ready) error {
	s := m.s
	now := role{rd.Role, rd.Phase, rd.Leader, rd.Epoch}
	old := m.shown
	if now != old {
		m.change(now, rd.Reason)
	}
	m.noteTail(rd.Append)
	s.enqueue(rd)
	s.startDisk()
	// What goes to others first: they need not wait for our tree.
	m.send(rd)
	s.confirmed = max(s.confirmed, rd.Confirmed)
	if n := len(rd.Committed); n > 0 {
		m.leading.committed = max(m.leading.committed, rd.Committed[n-1].Zxid)
	}
	m.releaseAll()
	if err := s.apply(rd.Committed); err != nil {
		return err
	}
	if len(rd.Committed) > 0 {
		m.compare()
	}
	if rd.Ensemble != m.ensemble || rd.LastSeen != m.lastSeen {
		if err := m.reconfigured(rd.Ensemble, rd.LastSeen); err != nil {
			return err
		}
	}
	m.startHistory(rd)
	for i := range rd.Close {
		m.close(&rd.Close[i])
	}
	s.node.Advance()
	if now != old {
		m.publish()
		if now.serves() && !s.serves {
			return m.beginServing()
		}
	}
	if m.diverged && now.serves() {
		return m.fetchTree()
	}
	return nil
}

// send hands packets and notifications to the transport.
func (m *member) send(rd *zab.Ready) {
	if rd.Dial != zab.NoServer {
		m.dial(rd.Dial)
	}
	for i := range rd.Messages {
		msg := &rd.Messages[i]
		l := m.links[msg.Link]
		if l == nil {
			continue
		}
		switch msg.Type {
		case zab.MsgPing:
			if m.shown.role != zab.Leading {
				msg.Data = m.touches()
			}
		case zab.MsgDiff, zab.MsgTrunc:
			m.s.stats.Diffs.Add(1)
		case zab.MsgCommit, zab.MsgInform, zab.MsgCommitAndActivate, zab.MsgInformAndActivate:
			l.releaseBefore(msg.Zxid)
			m.leading.committed = max(m.leading.committed, msg.Zxid)
		}
		l.SendMessage(msg)
	}
	for i := range rd.Notifications {
		m.election.Send(rd.Notifications[i])
	}
}

// close ends a link on behalf of the node.
func (m *member) close(c *zab.Closing) {
	l := m.links[c.Link]
	if l == nil {
		return
	}
	if c.Reason != nil && !errors.Is(c.Reason, zab.ErrDuplicateID) { // which the transport says once
		m.log.Info("connection to another server closed", "peer", c.Peer, "err", c.Reason)
	}
	m.forgetLink(c.Link)
	l.Close(c.Reason)
}

// dial connects to a leader until InitLimit has passed.
func (m *member) dial(to zab.ServerID) {
	m.hangUp()
	l := m.lists.Load()
	peer, ok := l.inForce.Member(to)
	if !ok {
		peer, ok = l.lastSeen.Member(to)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(m.s.cfg.InitLimit)*m.s.cfg.TickTime)
	m.stopDial = cancel
	m.s.background.Go(func() {
		defer cancel()
		err := errors.New("it is not in the list of servers")
		if ok {
			err = m.quorum.Dial(ctx, peer)
		}
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			m.log.Warn("leader cannot be reached", "peer", to, "err", err)
			m.post(event{msg: zab.Message{Type: zab.MsgDialFailed, From: to}})
		}
	})
}

// hangUp ends the dialling that is under way.
func (m *member) hangUp() {
	if m.stopDial != nil {
		m.stopDial()
		m.stopDial = nil
	}
}

// change takes note of another role, or another phase of it.
func (m *member) change(now role, reason error) {
	s := m.s
	old := m.shown
	m.shown, m.since = now, s.nanos()
	if old.serves() && (!now.serves() || now.epoch != old.epoch || now.role != old.role) {
		m.endServing()
	}
	if now.role == zab.Looking {
		m.hangUp()
		m.dropHeldBack()
		m.learning.tail = nil
	}
	if leads := now.role == zab.Leading; leads != (old.role == zab.Leading) {
		if leads {
			m.quorum.Open()
		} else {
			m.quorum.Close()
		}
	}
	switch {
	case now.role == zab.Looking:
		s.stats.Elections.Add(1)
		m.log.Info("looking for a leader", "zxid", s.node.LastZxid(), "err", reason)
	case old.role == zab.Looking:
		m.log.Info("leader elected", "role", now.role.String(), "leader", now.leader, "zxid", s.node.LastZxid())
	case now.serves():
		m.log.Info("ensemble serves", "role", now.role.String(), "leader", now.leader, "epoch", now.epoch, "zxid", s.node.LastZxid())
	}
}

// endServing ends the work for clients in a role. What they have asked for and
// was not answered stays; see beginServing.
func (m *member) endServing() {
	s := m.s
	s.shut()
	s.sessMu.Lock()
	var closed []*sessionState // with requests that nobody would find any more
	note := func(r *request) {
		if st := r.sess; s.sessions[st.id] != st && st.pending.len() > 0 && !slices.Contains(closed, st) {
			closed = append(closed, st)
		}
	}
	for _, b := range s.barriers {
		note(b.r)
	}
	for _, r := range s.inflight.buf[s.inflight.head:] {
		if r.conn != nil {
			note(r)
		}
	}
	s.sessMu.Unlock()
	for s.inflight.len() > 0 {
		r := s.inflight.pop()
		if r.conn != nil {
			continue // it is pending
		}
		if r.origin == nil {
			s.ownUnderWay--
		}
		s.outstanding.Add(-1)
		r.free()
	}
	for s.own.len() > 0 {
		s.own.pop().free() // the next leader will find the same
	}
	s.barriers = nil
	s.prep = nil
	for _, st := range closed {
		for st.pending.len() > 0 {
			s.abandon(st.pending.pop())
		}
	}
	m.leading = leading{}
	m.learning.reset()
}

// beginServing begins the work for clients. Requests that an earlier role left
// open were either matched while the history was brought up to date, or can never
// be committed any more, and are submitted again: see resubmit.
func (m *member) beginServing() error {
	s := m.s
	if m.shown.role == zab.Leading {
		m.sizes.reset()
		s.prep = znode.NewPrep(s.tree)
		s.trackSessions()
		s.closeOrphans()
	} else {
		s.untrackSessions()
		m.learning.begin(s.tree.LastZxid())
	}
	again := m.unanswered()
	m.dropAbandoned()
	m.heldBack = nil
	s.unshut(m.shown.epoch)
	if s.prep != nil {
		if err := s.propose(0, again); err != nil {
			return err
		}
	} else {
		m.forward(again)
	}
	s.wakeUp() // for what waits in the inbox
	return s.perform()
}

// holdBack remembers a connection that got replies or events before the server
// serves.
func (m *member) holdBack(c *conn) { m.heldBack = append(m.heldBack, c) }

// dropHeldBack closes those connections when the synchronization has failed:
// nobody knows whether what they were to be told will come true.
func (m *member) dropHeldBack() {
	for _, c := range m.heldBack {
		go c.kill()
	}
	m.heldBack = nil
}

// compare looks at what the last transaction has said of the tree's digest (rule
// R23). Apache's leaders write a snapshot while they go on, so one that has come from
// them may hold more than it says: until it has agreed once, a difference means
// nothing.
func (m *member) compare() {
	if !m.s.result.DigestMismatch {
		m.agreed, m.diverged = true, false
	} else if m.agreed && m.shown.role != zab.Leading {
		m.diverged = true
	}
}

// fetchTree has the node fetch the leader's tree in place of the one here. What
// clients here would read meanwhile cannot be trusted: they wait, as in an election.
func (m *member) fetchTree() error {
	s := m.s
	m.diverged = false
	if err := m.step(zab.Message{Type: zab.MsgDiverged}); err != nil {
		return err
	}
	if s.node.Phase() != zab.Broadcast {
		m.log.Error("the tree here is not that of the leader: it is fetched anew", "leader", m.shown.leader, "zxid", s.tree.LastZxid())
	}
	return s.perform()
}

// replaceTree takes over what the disk holds after a truncation, or the
// installation of a snapshot.
func (m *member) replaceTree(tree *znode.Tree, why diskKind) {
	s := m.s
	tree.SetConfig([]byte(m.ensemble.String()))
	s.treeMu.Lock()
	jumped := tree.LastZxid() != s.tree.LastZxid()
	s.tree = tree
	s.treeMu.Unlock()
	if why == diskInstall {
		m.agreed, m.diverged = false, false
		s.lastSnapshot.Store(&SnapshotTime{tree.LastZxid(), time.Now()})
	}
	if why == diskInstall || jumped { // a disk that was cut may hold more than was applied
		// Nobody knows which requests are in it, nor which watches would have fired.
		if n := s.closeClients(); n > 0 {
			m.log.Info("the history was replaced: connections of clients closed", "zxid", tree.LastZxid(), "count", n)
		}
	}
}

// mode is ZooKeeper's word for the role. It is for any goroutine.
func (m *member) mode(serving bool) string {
	st := m.status.Load()
	if !serving || st == nil {
		return "looking"
	}
	switch st.Role {
	case zab.Leading:
		return "leader"
	case zab.Following:
		return "follower"
	case zab.Observing:
		return "observer"
	}
	return "looking"
}
