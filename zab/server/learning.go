package server

import (
	"slices"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// learning is the state of the pipeline while this server follows or observes.
type learning struct {
	link      *link    // to the leader; nil: none
	committed zab.Zxid // the last transaction that the leader called committed

	// What the leader has not answered, in order: it answers in this order. One that
	// was given up is nil.
	syncs     []*request
	takeOvers []asked

	tail     []tailTxn // proposals that came before NEWLEADER, as far as clients here may be waiting for them
	snapshot arrived   // that came and is not installed yet
	touchAt  int64     // nanos: when the leader was last told who is alive
	out      []byte    // scratch
}

// A tailTxn is a transaction at the end of the log that is not committed yet.
type tailTxn struct {
	zxid    zab.Zxid
	session zab.SessionID
	cxid    int32
	op      wire.Op
}

// asked is a session that the leader is to confirm.
type asked struct {
	session zab.SessionID
	r       *request
}

// arrived is a tree that the leader has sent.
type arrived struct {
	link zab.LinkID
	tree *znode.Tree
}

// reset forgets what belonged to a role. Requests are pending still.
func (l *learning) reset() { *l = learning{link: l.link, out: l.out, snapshot: l.snapshot} }

// noteCommit keeps track of how far the leader has said that the history is
// committed.
func (l *learning) noteCommit(from *link, msg *zab.Message) {
	if from != l.link {
		return
	}
	switch msg.Type {
	case zab.MsgCommit, zab.MsgCommitAndActivate:
		l.committed = max(l.committed, msg.Zxid)
	case zab.MsgInform, zab.MsgInformAndActivate:
		l.committed = max(l.committed, msg.Proposal.Zxid)
	}
}

// maxForward is how much is handed to the transport at once.
const maxForward = 60 << 10

// forward sends requests of this server's clients to the leader.
func (m *member) forward(batch []*request) {
	s, g := m.s, &m.learning
	out := g.out[:0]
	for _, r := range batch {
		if r.conn == nil { // of a learner, when this server led
			s.outstanding.Add(-1)
			r.free()
			continue
		}
		r.sess.pending.push(r)
		r.epoch = m.shown.epoch
		switch {
		case r.takeOver:
			g.takeOvers = append(g.takeOvers, asked{r.sess.id, r})
			out = wire.AppendRevalidate(out, wire.Touch{Session: r.sess.id, TimeoutMs: r.timeout.Value})
		case r.op == wire.OpSync:
			g.syncs = append(g.syncs, r)
			out = appendForwarded(out, r)
		default:
			if r.code = m.refuse(r); r.code == wire.OK {
				out = appendForwarded(out, r)
			} else if r.sess.pending.first() == r {
				s.due = append(s.due, r)
			}
		}
		if len(out) > maxForward {
			m.sendToLeader(out)
			out = out[:0]
		}
	}
	m.sendToLeader(out)
	if cap(out) > 4*maxForward {
		out = nil
	}
	g.out = out
}

func (m *member) sendToLeader(out []byte) {
	if l := m.learning.link; l != nil && len(out) > 0 {
		l.Send(out)
	}
}

func appendForwarded(b []byte, r *request) []byte {
	f := wire.ForwardedRequest{Session: r.sess.id, Cxid: r.xid, Op: r.op, Body: r.frame, Auth: r.prep.IDs}
	if r.op == wire.OpCreateSession {
		f.Body, f.Auth = r.timeout.Append(nil), nil
	}
	return f.AppendPacket(b)
}

// refuse says why a request is not sent to the leader. What cannot be decoded would
// stop an ensemble that Apache's server leads, and so would some kinds of create.
func (m *member) refuse(r *request) wire.Code {
	if c := r.sess.conn.Load(); c != nil && c != r.conn && r.op != wire.OpCreateSession {
		return wire.ErrSessionMoved
	}
	if r.prep.BadBody != wire.OK {
		return r.prep.BadBody
	}
	if r.prep.Refuse != wire.OK {
		return r.prep.Refuse
	}
	if c, ok := r.prep.Body.(*wire.CreateRequest); ok && !createFits(r.op, c) {
		return wire.ErrBadArguments
	}
	if multi, ok := r.prep.Body.(*wire.MultiRequest); ok {
		for i := range multi.Ops {
			if c, ok := multi.Ops[i].Record.(*wire.CreateRequest); ok && !createFits(multi.Ops[i].Op, c) {
				return wire.ErrMarshalling
			}
		}
	}
	return wire.OK
}

// createFits reports whether the mode is one that the operation can have.
func createFits(op wire.Op, c *wire.CreateRequest) bool {
	return c.Mode.Valid() && (op == wire.OpCreateTTL) == c.Mode.IsTTL() && (op == wire.OpCreateContainer) == (c.Mode == wire.Container)
}

// synced takes SYNC: the answer to the oldest sync. What the leader had committed
// until then has come before it over the same link.
func (m *member) synced() {
	g := &m.learning
	if len(g.syncs) == 0 {
		return
	}
	r := g.syncs[0]
	g.syncs = g.syncs[1:]
	m.answerAt(r, g.committed)
}

// revalidated takes the leader's answer to the oldest REVALIDATE.
func (m *member) revalidated(a wire.Revalidation) {
	g := &m.learning
	for len(g.takeOvers) > 0 {
		q := g.takeOvers[0]
		g.takeOvers = g.takeOvers[1:]
		if q.r != nil && (q.session != a.Session || !a.Valid) {
			q.r.code = wire.ErrSessionExpired
		}
		m.answerAt(q.r, g.committed)
		if q.session == a.Session {
			return
		}
	}
}

// answerAt answers a request when the tree has z.
func (m *member) answerAt(r *request, z zab.Zxid) {
	if r != nil {
		m.s.barriers = append(m.s.barriers, barrier{r: r, zxid: z})
	}
}

// touches tells the leader which sessions were heard of since the last time, and
// forgets those that have neither a connection nor a request left.
func (m *member) touches() []byte {
	s := m.s
	since, now := m.learning.touchAt, s.nanos()
	m.learning.touchAt = now
	b := []byte{} // an empty list is not null
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	for id, st := range s.sessions {
		if st.conn.Load() == nil && st.pending.len() == 0 {
			delete(s.sessions, id)
			continue
		}
		if s.lastHeardLocked(id) >= since/1e6 {
			t := wire.Touch{Session: id, TimeoutMs: int32(st.timeout.Milliseconds())}
			b = t.Append(b)
		}
	}
	return b
}

// match finds the request of a client here that a transaction, which was not
// prepared here in this role, answers: the first one of the session that is open.
// Servers of Apache know it by session and xid too.
func (s *Server) match(h *wire.TxnHeader) *request {
	if s.member == nil {
		return nil
	}
	s.sessMu.Lock()
	st := s.sessions[h.Session]
	s.sessMu.Unlock()
	if st == nil || st.pending.len() == 0 {
		return nil
	}
	if r := st.pending.first(); r.answeredBy(h.Zxid, h.Cxid, h.Type) {
		return r
	}
	return nil
}

// answeredBy reports whether a transaction comes from the request.
func (r *request) answeredBy(z zab.Zxid, cxid int32, op wire.Op) bool {
	switch {
	case r.takeOver, r.op == wire.OpSync, r.code != wire.OK, r.epoch == 0:
		return false
	case r.txn.Header.Zxid != 0: // it was proposed here
		return r.txn.Header.Zxid == z
	}
	return r.xid == cxid && (r.op == op || op == wire.OpFailed)
}

// strike takes a request that is being answered off the list of its session. What
// stands before it was lost by the leader.
func (m *member) strike(r *request) {
	st := r.sess
	for st.pending.len() > 0 {
		first := st.pending.pop()
		if first == r {
			break
		}
		m.log.Warn("the leader has not answered a request: connection closed", "session", st.id, "op", int32(first.op))
		m.giveUp(first)
	}
	m.answerRefused(st)
}

// answerRefused lets the next request of a session be answered if that needs no
// transaction.
func (m *member) answerRefused(st *sessionState) {
	if st.pending.len() == 0 {
		return
	}
	if r := st.pending.first(); r.code != wire.OK && !r.takeOver {
		m.s.due = append(m.s.due, r)
	}
}

// abandonPending gives up what a session has open that was closed; r is the
// request to close it, which is answered.
func (m *member) abandonPending(st *sessionState, r *request) {
	var keep *request
	for st.pending.len() > 0 {
		q := st.pending.pop()
		if q == r {
			keep = q
			continue
		}
		m.giveUp(q)
	}
	if keep != nil {
		st.pending.push(keep)
	}
}

// giveUp ends a request that the leader will not answer, or for nobody.
func (m *member) giveUp(r *request) {
	s, g := m.s, &m.learning
	if i := slices.Index(g.syncs, r); i >= 0 {
		g.syncs[i] = nil
	}
	for i := range g.takeOvers {
		if g.takeOvers[i].r == r {
			g.takeOvers[i].r = nil
		}
	}
	s.barriers = slices.DeleteFunc(s.barriers, func(b barrier) bool { return b.r == r })
	for i := range s.due {
		if s.due[i] == r {
			s.due[i] = nil
		}
	}
	s.abandon(r)
}

// noteTail remembers proposals that came while the history is brought up to date:
// those that are not committed before the server serves may be what its clients
// wait for.
func (m *member) noteTail(appended []zab.Proposal) {
	if m.shown.phase != zab.Synchronization || m.shown.role == zab.Leading || len(appended) == 0 {
		return
	}
	m.s.sessMu.Lock()
	defer m.s.sessMu.Unlock()
	for _, p := range appended {
		var h wire.TxnHeader
		d := wire.NewAliasDecoder(p.Data)
		h.Decode(&d)
		if st := m.s.sessions[h.Session]; d.Err() == nil && st != nil && st.pending.len() > 0 {
			m.learning.tail = append(m.learning.tail, tailTxn{p.Zxid, h.Session, h.Cxid, h.Type})
		}
	}
}

// unanswered takes stock of the requests that earlier roles left open, when the
// server begins to serve, and returns those that are to be submitted again.
//
// Everything that the leader of this epoch has begun with was delivered by now,
// and answered what it matched. A request that is still open is in the log behind
// that, and will be answered when it is committed; or it is in no history that this
// epoch can have, if it was proposed or sent in an earlier epoch. One that was sent
// in this epoch already, over a connection that broke, may still be on its way to
// the leader: its client has to find out.
func (m *member) unanswered() []*request {
	s, g := m.s, &m.learning
	tail := g.tail
	g.tail = nil
	s.sessMu.Lock()
	var open []*sessionState
	for _, st := range s.sessions {
		if st.pending.len() > 0 {
			open = append(open, st)
		}
	}
	s.sessMu.Unlock()
	var again []*request
	for _, st := range open {
		pending := st.pending
		st.pending = fifo{}
		kept, end := map[*request]bool{}, map[*conn]bool{}
		for _, r := range pending.buf[pending.head:] {
			i := slices.IndexFunc(tail, func(t tailTxn) bool {
				return t.zxid > s.tree.LastZxid() && t.session == st.id && r.answeredBy(t.zxid, t.cxid, t.op)
			})
			switch {
			case i >= 0:
				tail = slices.Delete(tail, i, i+1)
				kept[r] = true
			case r.isAbandoned() || r.epoch == m.shown.epoch && !r.repeatable():
				end[r.conn] = true
			}
		}
		for pending.len() > 0 {
			switch r := pending.pop(); {
			case end[r.conn]:
				s.abandon(r)
			case kept[r]:
				st.pending.push(r)
			default:
				r.renew()
				again = append(again, r)
			}
		}
	}
	return again
}

// repeatable reports whether it does no harm to submit a request twice.
func (r *request) repeatable() bool { return r.takeOver || r.op == wire.OpSync || r.code != wire.OK }

// renew makes a request as it was before it was judged.
func (r *request) renew() {
	r.code, r.txn = wire.OK, wire.Txn{}
	if r.prep.BadBody == wire.ErrSessionMoved {
		r.prep.BadBody = wire.OK
	}
	if r.op == wire.OpReconfig {
		r.prep.BadBody = wire.OK
		r.decode()
	}
}

// isAbandoned reports whether nobody waits for the answer any more.
func (r *request) isAbandoned() bool {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	return r.conn.closed
}

// A batch is what comes out of one call of received.
type batch struct {
	events   []event
	requests []*request
	bytes    int
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// maxPooledBatch keeps the memory of unusually large ones from staying.
const maxPooledBatch = 1024

// received takes packets of a link, in its reader: it decodes and sorts them, and
// posts them to the driver together.
func (m *member) received(l *transport.Link, packets []wire.QuorumPacket) {
	b := batches.Get().(*batch)
	for i := range packets {
		if err := m.sort(l, &packets[i], b); err != nil {
			l.Close(err)
			break
		}
	}
	m.s.outstanding.Add(int64(len(b.requests)))
	m.postBatch(b)
	if cap(b.events) > maxPooledBatch || cap(b.requests) > maxPooledBatch {
		return
	}
	clear(b.events)
	clear(b.requests)
	*b = batch{events: b.events[:0], requests: b.requests[:0]}
	batches.Put(b)
}

// sort adds a packet to a batch as what it is.
func (m *member) sort(l *transport.Link, p *wire.QuorumPacket, b *batch) error {
	b.bytes += len(p.Data)
	switch {
	case p.Type == wire.PacketRequest && !l.Dialled():
		r, err := m.request(l, p)
		if err != nil {
			return err
		}
		b.requests = append(b.requests, r)
	case p.Type == wire.PacketRevalidate && !l.Dialled():
		r, err := m.revalidation(l, p)
		if err != nil {
			return err
		}
		b.requests = append(b.requests, r)
	case p.Type == wire.PacketRevalidate:
		var a wire.Revalidation
		if err := wire.Unmarshal(p.Data, &a); err != nil {
			return err
		}
		b.events = append(b.events, event{do: m.ifLeader(l, func() { m.revalidated(a) })})
	case p.Type == wire.PacketSync && l.Dialled():
		b.events = append(b.events, event{do: m.ifLeader(l, m.synced)})
	default:
		e, err := m.packet(l, p)
		if err != nil {
			return err
		}
		b.events = appendEvent(b.events, e)
	}
	return nil
}

// ifLeader makes an event of do for as long as l is the link to the leader.
func (m *member) ifLeader(l *transport.Link, do func()) func() error {
	return func() error {
		if m.learning.link != nil && m.learning.link.Link == l {
			do()
		}
		return nil
	}
}

// packet makes an event of a packet for the node.
func (m *member) packet(l *transport.Link, p *wire.QuorumPacket) (event, error) {
	if p.Type == wire.PacketPing && !l.Dialled() {
		ts, err := wire.DecodeTouches(nil, p)
		if err != nil {
			return event{}, err
		}
		m.touched(ts)
	}
	msg, err := p.Message()
	if err != nil {
		return event{}, err
	}
	switch msg.Type {
	case zab.MsgProposal, zab.MsgInform, zab.MsgInformAndActivate:
		text, ok, err := wire.ReconfigText(msg.Proposal.Data)
		if err != nil {
			return event{}, err
		}
		if ok {
			if msg.Proposal.Ensemble, err = zab.ParseEnsemble(string(text)); err != nil {
				return event{}, err
			}
		}
	}
	return event{link: l, msg: msg}, nil
}

// appendEvent appends an event. An ACK stands for those before it, so of many in a
// row the last is enough; the first one of a link has no counter.
func appendEvent(events []event, e event) []event {
	if n := len(events); n > 0 && e.msg.Type == zab.MsgAck && e.msg.Zxid.Counter() > 0 {
		last := &events[n-1].msg
		if last.Type == zab.MsgAck && last.Zxid.Counter() > 0 && last.Zxid < e.msg.Zxid && last.Zxid.Epoch() == e.msg.Zxid.Epoch() {
			*last = e.msg
			return events
		}
	}
	return append(events, e)
}

func (m *member) linkUp(l *transport.Link) {
	from := zab.NoServer
	if l.Dialled() {
		from = l.Peer()
	}
	m.post(event{link: l, msg: zab.Message{Type: zab.MsgLinkUp, From: from}})
}

func (m *member) linkDown(l *transport.Link, _ error) {
	m.post(event{link: l, msg: zab.Message{Type: zab.MsgLinkDown}})
}
