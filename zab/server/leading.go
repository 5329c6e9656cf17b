package server

import (
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/wire"
)

// leading is the state of the pipeline while this server leads.
type leading struct {
	committed zab.Zxid // the last transaction that learners were told to be committed
	token     uint64   // of the last question to the quorum
	asks      bool     // the question is not asked yet
}

// A linkBarrier is an answer to a learner that must come behind the commits of
// what was proposed before its request: SYNC, or that of REVALIDATE.
type linkBarrier struct {
	zxid  zab.Zxid
	token uint64 // as in barrier
	reply []byte
}

// enlist makes a request of a learner or of a client here known to the pipeline.
// It returns false if nothing is left to prepare.
func (m *member) enlist(r *request) bool {
	s := m.s
	switch {
	case r.conn != nil:
		r.sess.pending.push(r)
		r.epoch = m.shown.epoch
	case r.origin != nil:
		l := m.links[r.origin.ID()]
		if l == nil { // its learner will submit it again, or close the connection
			s.outstanding.Add(-1)
			r.free()
			return false
		}
		if r.takeOver {
			m.revalidate(l, r)
			return false
		}
		m.lookUp(r)
	}
	switch {
	case r.op == wire.OpSync:
		m.sync(r)
		return false
	case r.takeOver && !m.alive(r.sess):
		r.code = wire.ErrSessionExpired
		s.due = append(s.due, r)
		return false
	case r.takeOver:
		r.sess.owner = zab.NoServer
	case r.op == wire.OpCreateSession && r.conn != nil:
		m.track(r.sess) // it may have begun while another server led
	}
	return true
}

// lookUp finds the session of a learner's request, and touches it. A new one is
// tracked from now on.
func (m *member) lookUp(r *request) {
	s := m.s
	now := s.nanos()
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	r.sess = s.sessions[r.prep.Session]
	if r.op == wire.OpCreateSession && r.prep.BadBody == wire.OK {
		if r.sess == nil {
			r.sess = newSession(r.prep.Session, 0)
		}
		r.sess.timeout, r.sess.owner = time.Duration(r.timeout.Value)*time.Millisecond, r.origin.Peer()
		s.trackLocked(r.sess, now)
	}
	if r.sess != nil {
		r.sess.heard.Store(now)
	}
}

// alive reports whether a session that a client here has taken up is one.
func (m *member) alive(st *sessionState) bool {
	s := m.s
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	if s.tracker.Alive(st.id) {
		s.trackLocked(st, s.nanos())
		return true
	}
	if s.sessions[st.id] == st && !s.tracker.Closing(st.id) {
		delete(s.sessions, st.id) // the handshake has entered it
	}
	return false
}

// track tracks a session whose creation is proposed.
func (m *member) track(st *sessionState) {
	m.s.sessMu.Lock()
	defer m.s.sessMu.Unlock()
	m.s.trackLocked(st, m.s.nanos())
}

// sync answers when a quorum has confirmed that this server leads, and everything
// that was proposed before is committed (rule R26). Apache's leader asks nobody, so
// that one that was paused may answer with the past.
func (m *member) sync(r *request) {
	s := m.s
	last := s.node.LastZxid()
	if n := len(s.props); n > 0 {
		last = s.props[n-1].Zxid
	}
	if !m.leading.asks {
		m.leading.asks = true
		m.leading.token = max(m.leading.token, s.confirmed) + 1
	}
	if r.conn != nil {
		s.barriers = append(s.barriers, barrier{r, last, m.leading.token})
		return
	}
	m.after(m.links[r.origin.ID()], linkBarrier{last, m.leading.token, syncPacket})
	s.outstanding.Add(-1)
	r.free()
}

// syncPacket is SYNC, which says nothing.
var syncPacket = (&wire.QuorumPacket{Type: wire.PacketSync}).Append(nil)

// askQuorum begins a round for the syncs that were taken.
func (m *member) askQuorum() error {
	if !m.leading.asks {
		return nil
	}
	m.leading.asks = false
	return m.step(zab.Message{Type: zab.MsgConfirm, Token: m.leading.token})
}

// revalidate answers a learner whose client goes on with a session: yes if it
// lives, and behind the commits of what it has under way, so that the client finds
// its writes or they never come.
func (m *member) revalidate(l *link, r *request) {
	s := m.s
	answer := wire.Revalidation{Session: r.prep.Session}
	b := linkBarrier{}
	var old *conn
	s.sessMu.Lock()
	if st := s.sessions[r.prep.Session]; st != nil && s.tracker.Alive(st.id) {
		answer.Valid = true
		st.timeout = time.Duration(r.timeout.Value) * time.Millisecond
		s.trackLocked(st, s.nanos())
		st.owner = l.Peer()
		old = st.conn.Swap(nil)
		b.zxid = st.lastZxid
	}
	s.sessMu.Unlock()
	if old != nil {
		go old.kill()
	}
	b.reply = wire.AppendRevalidation(nil, answer)
	m.after(l, b)
	s.outstanding.Add(-1)
	r.free()
}

// after sends an answer in its turn.
func (m *member) after(l *link, b linkBarrier) {
	l.barriers = append(l.barriers, b)
	m.release(l)
}

// release sends the answers that wait for nothing more.
func (m *member) release(l *link) {
	for len(l.barriers) > 0 {
		b := &l.barriers[0]
		if b.zxid > m.leading.committed && b.zxid > m.s.tree.LastZxid() || b.token > m.s.confirmed {
			return
		}
		l.answer()
	}
}

// releaseBefore sends the answers that belong before the commit of a transaction,
// which is about to be sent: its quorum has confirmed everything before it, and a
// learner of Apache must have the answer before the commit of what it has asked
// for later.
func (l *link) releaseBefore(next zab.Zxid) {
	for len(l.barriers) > 0 && l.barriers[0].zxid < next {
		l.answer()
	}
}

// answer sends the first answer.
func (l *link) answer() {
	l.Send(l.barriers[0].reply)
	l.barriers[0] = linkBarrier{}
	if l.barriers = l.barriers[1:]; len(l.barriers) == 0 {
		l.barriers = nil
	}
}

// releaseAll looks at all learners, when the commits of a step have been sent.
func (m *member) releaseAll() {
	for _, l := range m.links {
		m.release(l)
	}
}

// request takes a write or a sync of a learner's client. It is called by the
// reader of the link.
func (m *member) request(l *transport.Link, p *wire.QuorumPacket) (*request, error) {
	var f wire.ForwardedRequest
	if err := f.DecodePacket(p); err != nil {
		return nil, err
	}
	r := newRequest(nil, f.Cxid, f.Op, f.Body, m.s.nanos())
	r.origin, r.write = l, true
	r.prep.Session, r.prep.IDs = f.Session, f.Auth
	r.decode()
	return r, nil
}

// revalidation takes REVALIDATE of a learner.
func (m *member) revalidation(l *transport.Link, p *wire.QuorumPacket) (*request, error) {
	var t wire.Touch
	if err := wire.Unmarshal(p.Data, &t); err != nil {
		return nil, err
	}
	r := newRequest(nil, 0, wire.OpCreateSession, nil, m.s.nanos())
	r.origin, r.write, r.takeOver = l, true, true
	r.prep.Session, r.timeout.Value = t.Session, t.TimeoutMs
	return r, nil
}

// touched takes the sessions that a learner has heard of. It is called by the
// reader of the link.
func (m *member) touched(ts []wire.Touch) {
	s := m.s
	now := s.nanos()
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	for _, t := range ts {
		if st := s.sessions[t.Session]; st != nil {
			st.heard.Store(now)
		}
	}
}
