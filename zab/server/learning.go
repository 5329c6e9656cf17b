package server

import (
	"slices"

	"github.com/paddockio/paddock/zab"
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

// begin begins the work for clients on a tree that ends at applied. It may be behind
// what the leader has called committed while the history was brought up to date.
func (l *learning) begin(applied zab.Zxid) { l.committed = max(l.committed, applied) }

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
// prepared here in this role, answers: the first one of the session that becomes a
// transaction. Servers of Apache know it by session and xid too. What stands
// before it is answered now: a leader has worked on it before, and led when this
// transaction was committed. If it answers none, the client has gone on elsewhere
// and this server has not noticed: what is open here comes too late.
func (s *Server) match(txn *wire.Txn) *request {
	if s.member == nil {
		return nil
	}
	h := &txn.Header
	s.sessMu.Lock()
	st := s.sessions[h.Session]
	s.sessMu.Unlock()
	if st == nil || st.pending.len() == 0 {
		return nil
	}
	open := st.pending.buf[st.pending.head:]
	i := slices.IndexFunc(open, (*request).isTransaction)
	if i < 0 || !open[i].answeredBy(h.Zxid, h.Cxid, h.Type) {
		// What a take-over waits for is from before it; and what was refused for its
		// server was not done.
		if refused := isRefusal(txn, wire.ErrSessionMoved); !refused && !open[0].takeOver {
			for _, r := range open {
				r.overtaken = true
			}
		}
		return nil
	}
	r := open[i]
	for st.pending.first() != r {
		q := st.pending.first()
		s.member.unlist(q)
		s.complete(q)
	}
	return r
}

// isRefusal reports whether a transaction only says that a request was refused
// with this code.
func isRefusal(txn *wire.Txn, code wire.Code) bool {
	body, ok := txn.Body.(*wire.IntRecord)
	return ok && txn.Header.Type == wire.OpFailed && wire.Code(body.Value) == code
}

// isTransaction reports whether a request becomes a transaction.
func (r *request) isTransaction() bool {
	return !r.takeOver && r.op != wire.OpSync && r.code == wire.OK
}

// answeredBy reports whether a transaction comes from the request.
func (r *request) answeredBy(z zab.Zxid, cxid int32, op wire.Op) bool {
	switch {
	case !r.isTransaction(), r.epoch == 0:
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
	m.unlist(r)
	m.s.abandon(r)
}

// unlist takes a request out of the lists of those that wait for something else
// than a transaction.
func (m *member) unlist(r *request) {
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
}
