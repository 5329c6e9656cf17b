package zabtest

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A record is a transaction that some leader has proposed. Since a zxid is
// proposed once (S3), behind one certain other, all logs there can be are the
// paths of a tree of records: a server's log is known by its last one.
type record struct {
	zxid   zab.Zxid
	data   []byte
	txn    wire.Txn
	prev   *record
	depth  int
	by     zab.ServerID
	list   *zab.Ensemble // of a reconfiguration
	digest uint64        // of the tree after it
	judged zab.Zxid      // what its leader had applied when it made it
}

// holds reports whether a log that ends at r contains q.
func (r *record) holds(q *record) bool {
	for r.depth > q.depth {
		r = r.prev
	}
	return r == q
}

// view is what the checker knows of a server's disk and memory.
type view struct {
	appended *record // last given to the log writer
	durable  *record // last that is surely on the disk
	applied  *record // the state of the tree
	// What may be on the disk as well, because of a change of the whole directory
	// that is under way.
	also []span

	accepted, current               zab.Epoch // on the disk
	storingAccepted, storingCurrent zab.Epoch // perhaps on the disk
	served                          bool      // shows Broadcast
	epoch                           zab.Epoch
}

// span is all logs between two ends.
type span struct{ from, to *record }

func (s span) contains(r *record) bool { return r.holds(s.from) && s.to.holds(r) }

// checker holds the truth and compares everything with it.
type checker struct {
	s         *sim
	recs      map[zab.Zxid]*record
	root      *record
	committed []*record // by depth
	leaders   map[zab.Epoch]zab.ServerID
	returned  zab.Zxid // largest of the writes that clients know to be done
	ref       reference
	list      *zab.Ensemble // the servers, by the last reconfiguration that is committed
}

func newChecker(s *sim) *checker {
	root := &record{digest: znode.New(treeConfig).Digest()}
	c := &checker{s: s, recs: map[zab.Zxid]*record{0: root}, root: root, committed: []*record{root}, leaders: map[zab.Epoch]zab.ServerID{}}
	c.ref.init(s)
	return c
}

// last is the last committed transaction.
func (c *checker) last() *record { return c.committed[len(c.committed)-1] }

// before returns the last committed transaction of an epoch before e. Who leads e may
// hear only now, over a connection that lay still, that it does, while others have
// long gone on under another leader: what they have committed is none of its business.
func (c *checker) before(e zab.Epoch) *record {
	i, _ := slices.BinarySearchFunc(c.committed, e, func(r *record, e zab.Epoch) int { return cmp.Compare(r.zxid.Epoch(), e) })
	return c.committed[max(0, i-1)]
}

func (c *checker) rec(v *server, z zab.Zxid, where string) *record {
	r := c.recs[z]
	if r == nil {
		c.s.fail("S3", "server %d: %s %v, which nobody has proposed", v.id, where, z)
		return c.root
	}
	return r
}

func (c *checker) reset(v *server, r *record) {
	v.view.appended, v.view.durable, v.view.applied = r, r, r
	v.view.also = nil
}

// started compares what recovery found with what the disk must hold.
func (c *checker) started(v *server) {
	w := &v.view
	r := c.rec(v, v.tree.LastZxid(), "recovered")
	ok := v.lost || span{w.durable, w.appended}.contains(r)
	for _, a := range w.also {
		ok = ok || a.contains(r)
	}
	if !ok {
		c.s.fail("S8", "server %d recovered up to %v, which is not between %v (surely on its disk) and %v", v.id, r.zxid, w.durable.zxid, w.appended.zxid)
		return
	}
	c.s.checks.safe(8, 13)
	c.digest(v, v.tree, r, "S14")
	accepted, _ := v.store.AcceptedEpoch()
	current, _ := v.store.CurrentEpoch()
	if !v.lost && !v.damaged && (accepted < w.accepted || accepted > max(w.storingAccepted, w.accepted, current) || current < w.current || current > max(w.storingCurrent, w.current, r.zxid.Epoch())) {
		c.s.fail("S13", "server %d recovered epochs %d (accepted) and %d (current), had stored %d and %d", v.id, accepted, current, w.accepted, w.current)
		return
	}
	*w = view{accepted: accepted, current: current}
	c.reset(v, r)
	c.quorums()
}

// startFailed judges a recovery that gave up.
func (c *checker) startFailed(v *server, err error) {
	var dmg *storage.DamageError
	switch {
	case errors.As(err, &dmg):
		c.s.fail("S15", "server %d does not start: %v", v.id, err)
	case v.fullDisk:
		c.s.probe("no start: disk full")
	default:
		c.s.probe("no start")
	}
}

// stopped notes that a process has ended: its memory is gone.
func (c *checker) stopped(v *server) {
	v.view.served, v.view.epoch = false, 0
}

func (c *checker) digest(v *server, t *znode.Tree, r *record, rule string) {
	c.s.checks.safe(14, 16)
	if t.Digest() != r.digest {
		c.s.fail(rule, "server %d: the tree at %v has digest %x, must have %x", v.id, r.zxid, t.Digest(), r.digest)
	}
}

// proposing enters transactions that a leader is about to propose.
func (c *checker) proposing(v *server, ps []zab.Proposal) {
	prev := v.view.appended
	for _, p := range ps {
		if r := c.recs[p.Zxid]; r != nil {
			c.s.fail("S3", "server %d proposes %v, which server %d has proposed", v.id, p.Zxid, r.by)
			return
		}
		if !p.Zxid.Follows(prev.zxid) {
			c.s.fail("S15", "server %d proposes %v behind %v", v.id, p.Zxid, prev.zxid)
			return
		}
		r := &record{zxid: p.Zxid, data: p.Data, prev: prev, depth: prev.depth + 1, by: v.id, digest: prev.digest, list: p.Ensemble, judged: v.tree.LastZxid()}
		if err := wire.Unmarshal(p.Data, &r.txn); err != nil {
			c.s.fail("S3", "server %d proposes %v, which cannot be decoded: %v", v.id, p.Zxid, err)
			return
		}
		if r.txn.Digest.Version == wire.DigestVersion {
			r.digest = r.txn.Digest.Tree
		}
		if c.leaders[p.Zxid.Epoch()] != v.id {
			c.s.fail("S1", "server %d proposes %v, but does not lead that epoch", v.id, p.Zxid)
			return
		}
		c.recs[p.Zxid] = r
		prev = r
	}
}

// refused takes back what was proposed to a node that does not lead any more.
func (c *checker) refused(_ *server, m *zab.Message) {
	c.s.probe("proposal refused")
	for _, p := range m.Proposals {
		delete(c.recs, p.Zxid)
	}
}

func (c *checker) same(v *server, p *zab.Proposal, r *record) bool {
	if len(p.Data) == len(r.data) && (len(p.Data) == 0 || &p.Data[0] == &r.data[0] || bytes.Equal(p.Data, r.data)) {
		return true
	}
	if c.s.violation == nil && r != c.root {
		c.s.fail("S3", "server %d has other bytes for %v than its leader %d proposed", v.id, p.Zxid, r.by)
	}
	return false
}

// logged returns a transaction, after comparing what a disk holds.
func (c *checker) logged(v *server, z zab.Zxid, payload []byte) *record {
	r := c.rec(v, z, "reads from its log")
	c.same(v, &zab.Proposal{Zxid: z, Data: payload}, r)
	return r
}

// appending checks what goes to the log writer.
func (c *checker) appending(v *server, p zab.Proposal) {
	r := c.rec(v, p.Zxid, "logs")
	if !c.same(v, &p, r) {
		return
	}
	c.s.checks.safe(3, 15)
	if r.prev != v.view.appended {
		c.s.fail("S15", "server %d logs %v behind %v, where it was proposed behind %v", v.id, r.zxid, v.view.appended.zxid, r.prev.zxid)
		return
	}
	v.view.appended = r
}

// durable notes what is surely on the disk.
func (c *checker) durable(v *server, z zab.Zxid) {
	v.view.durable = c.rec(v, z, "has synced")
	c.s.event(evDurable, v, uint64(z), 0)
}

// storing and stored frame the write of an epoch.
func (c *checker) storing(v *server, e zab.Epoch, accepted bool) {
	w := &v.view
	if accepted {
		w.storingAccepted = e
		return
	}
	w.storingCurrent = e
}

func (c *checker) stored(v *server, e zab.Epoch, accepted bool) {
	w := &v.view
	c.s.checks.safe(13)
	if accepted {
		if e < w.accepted {
			c.s.fail("S13", "server %d: accepted epoch goes back from %d to %d", v.id, w.accepted, e)
		}
		w.accepted = e
	} else {
		if e < w.current || e > w.accepted {
			c.s.fail("S13", "server %d: current epoch goes from %d to %d, accepted is %d", v.id, w.current, e, w.accepted)
		}
		w.current = e
		c.quorums()
	}
}

// truncating begins a cut of the log.
func (c *checker) truncating(v *server, z zab.Zxid) {
	c.s.checks.safe(10)
	r := c.rec(v, z, "truncates to")
	w := &v.view
	if !w.appended.holds(r) {
		c.s.fail("S10", "server %d truncates to %v, which its log that ends at %v does not hold", v.id, z, w.appended.zxid)
		return
	}
	w.also = append(w.also, span{r, w.appended})
}

// loses checks that a log that ended at old and will end at r gives up nothing
// that is committed.
func (c *checker) loses(v *server, old, r *record, how string) {
	c.s.checks.safe(10)
	for q := old; !r.holds(q); q = q.prev {
		if q.depth < len(c.committed) && c.committed[q.depth] == q {
			c.s.fail("S10", "server %d %s %v and gives up %v, which is committed", v.id, how, r.zxid, q.zxid)
			return
		}
	}
}

func (c *checker) truncated(v *server, z zab.Zxid, t *znode.Tree) {
	r := c.rec(v, z, "truncated to")
	if t.LastZxid() != z {
		c.s.fail("S14", "server %d truncated to %v, its tree is %v", v.id, z, t.LastZxid())
		return
	}
	c.digest(v, t, r, "S14")
	c.reset(v, r)
	c.quorums()
}

// installing begins the installation of a snapshot.
func (c *checker) installing(v *server, z zab.Zxid, e zab.Epoch, t *znode.Tree) {
	r := c.rec(v, z, "installs")
	c.digest(v, t, r, "S17")
	w := &v.view
	c.loses(v, w.appended, r, "installs")
	w.also = append(w.also, span{r, r})
	w.storingCurrent = max(w.storingCurrent, e)
}

func (c *checker) installed(v *server, z zab.Zxid, e zab.Epoch) {
	c.reset(v, c.rec(v, z, "installed"))
	v.view.current = max(v.view.current, e)
	c.quorums()
}

// forgotten notes that the disk was emptied.
func (c *checker) forgotten(v *server) {
	v.view = view{accepted: v.view.accepted} // a promise is a promise
	c.reset(v, c.root)
}

// wiped notes that there is another disk.
func (c *checker) wiped(v *server) {
	v.view = view{}
	c.reset(v, c.root)
}

// loaded checks a snapshot that came over a link (S17).
func (c *checker) loaded(v *server, t *znode.Tree) {
	c.s.checks.safe(17)
	c.digest(v, t, c.rec(v, t.LastZxid(), "was sent the snapshot"), "S17")
}

// snapshot checks the label of a snapshot that was written.
func (c *checker) snapshot(v *server, z zab.Zxid) {
	c.s.checks.safe(17)
	r := c.rec(v, z, "wrote the snapshot")
	if !v.view.durable.holds(r) {
		c.s.fail("S17", "server %d wrote a snapshot of %v, its log ends at %v", v.id, z, v.view.durable.zxid)
	}
}

// applyTo applies a transaction to a tree of the server.
func (c *checker) applyTo(v *server, t *znode.Tree, p zab.Proposal) *record {
	c.s.checks.safe(2, 16)
	r := c.rec(v, p.Zxid, "applies")
	if r == c.root || !c.same(v, &p, r) {
		return nil
	}
	if r.prev.zxid != t.LastZxid() {
		c.s.fail("S2", "server %d applies %v to the tree of %v, where it was proposed behind %v", v.id, r.zxid, t.LastZxid(), r.prev.zxid)
		return nil
	}
	t.Apply(&r.txn, &v.result)
	if t.Digest() != r.digest {
		c.digest(v, t, r, "S16")
		return nil
	}
	return r
}

// applied checks a delivery.
func (c *checker) applied(v *server, r *record) {
	c.s.checks.safe(14, 18)
	c.s.event(evApply, v, uint64(r.zxid), r.digest)
	if v.shown.role == zab.Looking {
		c.s.fail("S18", "server %d applies %v while it is looking", v.id, r.zxid)
		return
	}
	if !v.view.durable.holds(r) {
		c.s.fail("S14", "server %d applies %v, its log is safe up to %v (rule R1)", v.id, r.zxid, v.view.durable.zxid)
		return
	}
	v.view.applied = r
	if v.shown.serves() {
		c.commit(v, r)
	}
}

// settled looks at what a server shows after a Ready.
func (c *checker) settled(v *server) {
	w, h := &v.view, &v.shown
	c.s.checks.safe(1)
	if h.role == zab.Leading && h.phase >= zab.Synchronization {
		if by, ok := c.leaders[h.epoch]; !ok {
			c.leaders[h.epoch] = v.id
		} else if by != v.id {
			c.s.fail("S1", "server %d leads epoch %d, which server %d has led", v.id, h.epoch, by)
			return
		}
	}
	serves := h.serves()
	if serves == w.served && h.epoch == w.epoch {
		return
	}
	w.served, w.epoch = serves, h.epoch
	if !serves {
		return
	}
	c.s.checks.safe(9, 13)
	if w.current != h.epoch {
		c.s.fail("S13", "server %d serves in epoch %d, its current epoch is %d", v.id, h.epoch, w.current)
		return
	}
	if h.role == zab.Leading {
		if need := c.before(h.epoch); !w.appended.holds(need) {
			c.s.fail("S9", "server %d leads epoch %d without %v, which is committed: its log ends at %v", v.id, h.epoch, need.zxid, w.appended.zxid)
			return
		}
	}
	c.commit(v, w.applied)
}

// leads checks a leader that begins to serve: it has applied all it has.
func (c *checker) leads(v *server) {
	c.s.stats.Reigns++
	c.s.checks.safe(7)
	if need := c.before(v.shown.epoch); !v.view.applied.holds(need) {
		c.s.fail("S7", "server %d leads epoch %d and has applied %v, but %v is committed", v.id, v.shown.epoch, v.view.applied.zxid, need.zxid)
	}
}

// commit notes that a transaction, and all before it, is committed.
func (c *checker) commit(v *server, r *record) {
	c.s.checks.safe(2, 4)
	if r.depth < len(c.committed) {
		if c.committed[r.depth] != r {
			c.s.fail("S2", "server %d commits %v as number %d, where %v is committed", v.id, r.zxid, r.depth, c.committed[r.depth].zxid)
		}
		return
	}
	if !r.holds(c.last()) {
		c.s.fail("S2", "server %d commits %v, whose history lacks %v, which is committed", v.id, r.zxid, c.last().zxid)
		return
	}
	from := len(c.committed)
	for q := r; q.depth >= from; q = q.prev {
		c.committed = append(c.committed, q)
	}
	for i, j := from, len(c.committed)-1; i < j; i, j = i+1, j-1 {
		c.committed[i], c.committed[j] = c.committed[j], c.committed[i]
	}
	for _, q := range c.committed[from:] {
		c.s.checks.safe(5, 6)
		if !q.zxid.Follows(q.prev.zxid) {
			c.s.fail("S5", "%v is committed behind %v", q.zxid, q.prev.zxid)
			return
		}
		if q.prev.zxid.Epoch() > q.zxid.Epoch() {
			c.s.fail("S6", "%v is committed behind %v", q.zxid, q.prev.zxid)
			return
		}
		c.ref.apply(q)
		if q.list != nil {
			c.s.probe("reconfiguration")
			c.list = q.list
		}
	}
	c.quorums()
}

// quorums checks that what is committed survives whatever happens (S8): no set of
// servers can form a quorum in which the one who wins the election lacks it.
func (c *checker) quorums() {
	last := c.last()
	if last == c.root {
		return
	}
	c.s.checks.safe(8)
	for _, v := range c.s.servers {
		if !c.list.IsVoter(v.id) || c.list.Weight(v.id) == 0 || v.lost || v.wiped || v.damaged || v.view.durable.holds(last) {
			continue
		}
		// Those who would vote for v.
		behind := c.list.IsQuorum(func(id zab.ServerID) bool {
			u := c.s.byID(id)
			return u != nil && !u.lost && !u.wiped && !u.view.beats(u.id, &v.view, v.id)
		})
		if behind {
			c.s.fail("S8", "%v is committed, but server %d (epoch %d, %v) lacks it and a quorum is not ahead of it", last.zxid, v.id, v.view.current, v.view.durable.zxid)
			return
		}
	}
}

// votes is the epoch that a server votes with: a log with a transaction of an epoch
// holds all that its leader began with.
func (a *view) votes() zab.Epoch { return max(a.current, a.durable.zxid.Epoch()) }

// beats reports whether the vote for a is better than that for b.
func (a *view) beats(ida zab.ServerID, b *view, idb zab.ServerID) bool {
	if a.votes() != b.votes() {
		return a.votes() > b.votes()
	}
	if a.durable.zxid != b.durable.zxid {
		return a.durable.zxid > b.durable.zxid
	}
	return ida > idb
}

// sending checks a message of the node before it leaves.
func (c *checker) sending(v *server, conn *peerConn, m *zab.Message) {
	if conn == nil {
		c.s.probe("message for a link that is gone") // it was paused, and learns of time first
		return
	}
	w := &v.view
	c.s.checks.safe(19)
	switch m.Type {
	case zab.MsgAck:
		c.acking(v, conn, m)
	case zab.MsgAckEpoch:
		// The promise of an observer binds nobody.
		if w.accepted < v.shown.epoch || w.accepted > v.shown.epoch && v.config.IsVoter(v.id) {
			c.s.fail("S13", "server %d acknowledges epoch %d, its disk holds a promise to %d", v.id, v.shown.epoch, w.accepted)
		}
		if m.HasEpoch && m.Epoch != w.votes() {
			c.s.fail("S13", "server %d says that its current epoch is %d, its disk says %d", v.id, m.Epoch, w.current)
		}
		if m.Zxid != -1 || m.HasEpoch { // it may say that it has nothing of use, if it is not counted
			c.claims(v, m.Zxid, "ACKEPOCH")
		}
	case zab.MsgFollowerInfo, zab.MsgObserverInfo:
		if e := m.Zxid.Epoch(); e != w.accepted {
			c.s.fail("S13", "server %d says that it has accepted epoch %d, its disk says %d", v.id, e, w.accepted)
		}
	case zab.MsgLeaderInfo:
		if e := m.Zxid.Epoch(); e != w.accepted {
			c.s.fail("S13", "leader %d begins epoch %d, its disk holds a promise to %d", v.id, e, w.accepted)
		}
	case zab.MsgNewLeader:
		if e := m.Zxid.Epoch(); e != w.current {
			c.s.fail("S13", "leader %d sends NEWLEADER of epoch %d, its current epoch is %d", v.id, e, w.current)
		}
	case zab.MsgUpToDate:
		if !v.shown.leads() {
			c.s.fail("S18", "server %d sends UPTODATE before it serves", v.id)
		}
	case zab.MsgProposal:
		c.same(v, &m.Proposal, c.rec(v, m.Proposal.Zxid, "sends"))
	case zab.MsgInform, zab.MsgInformAndActivate:
		r := c.rec(v, m.Proposal.Zxid, "informs of")
		if c.same(v, &m.Proposal, r) && v.shown.leads() {
			c.commit(v, r)
		}
	case zab.MsgCommit, zab.MsgCommitAndActivate:
		if r := c.rec(v, m.Zxid, "commits"); v.shown.leads() {
			c.commit(v, r)
		}
	case zab.MsgTrunc:
		// What is not committed now may be by the time the learner cuts it off; it is
		// sent again, and those who acknowledged it have it.
		c.loses(v, conn.peer.view.durable, c.rec(v, m.Zxid, "has its learner truncate to"), "has its learner truncate to")
	case zab.MsgPing, zab.MsgDiff:
	default:
		c.s.fail("S19", "server %d sends a message of type %d", v.id, m.Type)
	}
	fromLeader := m.Type != zab.MsgAck && m.Type != zab.MsgAckEpoch && m.Type != zab.MsgFollowerInfo && m.Type != zab.MsgObserverInfo
	if m.Type != zab.MsgPing && fromLeader != (conn.side == 1) {
		c.s.fail("S19", "server %d sends a message of type %d in the wrong direction", v.id, m.Type)
	}
}

// claims checks the last zxid that a server says it has.
func (c *checker) claims(v *server, z zab.Zxid, where string) {
	d := v.view.durable.zxid
	if z == d || z.Counter() == 0 && (z.Epoch() == v.view.current && d < z || v.lost) {
		return
	}
	c.s.fail("S12", "server %d claims %v in %s, its log is safe up to %v", v.id, z, where, d)
}

// acking checks an acknowledgement (S11, S12).
func (c *checker) acking(v *server, conn *peerConn, m *zab.Message) {
	w := &v.view
	c.s.checks.safe(12)
	if m.Zxid.Counter() != 0 {
		r := c.rec(v, m.Zxid, "acknowledges")
		if !w.durable.holds(r) {
			c.s.fail("S12", "server %d acknowledges %v, its log is safe up to %v", v.id, m.Zxid, w.durable.zxid)
		}
		if !conn.acked {
			c.s.fail("S19", "server %d acknowledges %v before NEWLEADER (rule R4)", v.id, m.Zxid)
		}
		return
	}
	c.s.checks.safe(11)
	conn.acked = true
	v.lost, v.wiped = false, false // it holds what the leader's epoch began with
	if w.current != m.Zxid.Epoch() {
		c.s.fail("S12", "server %d acknowledges NEWLEADER of epoch %d, its current epoch is %d", v.id, m.Zxid.Epoch(), w.current)
	}
	if r := c.rec(v, conn.sync, "was sent"); !w.durable.holds(r) {
		c.s.fail("S12", "server %d acknowledges NEWLEADER, its log is safe up to %v, in front of it came %v", v.id, w.durable.zxid, r.zxid)
	}
	if p := conn.peer; p.up && p.shown.role == zab.Leading && p.shown.epoch == m.Zxid.Epoch() && !p.view.appended.holds(w.durable) {
		c.s.fail("S11", "server %d acknowledges NEWLEADER with a log that ends at %v, its leader's ends at %v", v.id, w.durable.zxid, p.view.appended.zxid)
	}
}

// voting checks a notification before it leaves.
func (c *checker) voting(v *server, n *zab.Notification) {
	if n.State != zab.Looking || n.NoVote || n.Vote.Leader != v.id {
		return
	}
	c.s.checks.safe(20)
	if v.observer && !c.s.p.reconfig || v.lost {
		c.s.fail("S19", "server %d has no vote and votes", v.id)
	}
	if v.view.durable != v.view.appended {
		c.s.fail("S20", "server %d votes while its log is being written (rule R10)", v.id)
	}
	if n.Vote.Epoch != v.view.votes() || n.Vote.Zxid != v.view.durable.zxid {
		// Others repeat what it once said, and it may have been cut back since. ACKEPOCH
		// finds out.
		c.s.probe("old vote for itself")
	}
}

// closed counts why links end. All servers here are correct: none has reason to
// blame another for a packet (S19).
func (c *checker) closed(v *server, cl zab.Closing) {
	if errors.Is(cl.Reason, zab.ErrZxidOrder) || errors.Is(cl.Reason, zab.ErrUnexpected) {
		c.s.fail("S19", "server %d blames server %d: %v", v.id, cl.Peer, cl.Reason)
	}
	if cl.Reason != nil {
		c.s.stats.Closed[cl.Reason.Error()]++
	}
}

// expiring checks that a session has had its time (S23).
func (c *checker) expiring(v *server, id zab.SessionID) {
	c.s.checks.safe(23)
	h, ok := v.serving.heard[id]
	if !ok {
		c.s.fail("S23", "leader %d expires session %v, which it does not know", v.id, id)
		return
	}
	if silent := int64(v.now()) - h.at; silent < h.timeout {
		c.s.fail("S23", "leader %d expires session %v, which was heard of %d ms ago and has %d", v.id, id, silent, h.timeout)
	}
}
