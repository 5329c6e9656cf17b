package server

import (
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// What clients have asked for and no role has answered goes over to the next one.
// DESIGN.md argues that no request is done twice.

// A tailTxn is a transaction at the end of the log that is not committed yet.
type tailTxn struct {
	zxid    zab.Zxid
	session zab.SessionID
	cxid    int32
	op      wire.Op
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
// the leader: its client has to find out. And if the client has gone on over
// another server meanwhile, what it had asked for here must not be done behind that;
// its old connection may look alive for long.
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
		list := pending.buf[pending.head:]
		end := map[*conn]bool{}
		kept := 0 // so many stay open
		for i, r := range list {
			at := slices.IndexFunc(tail, func(t tailTxn) bool {
				return t.zxid > s.tree.LastZxid() && t.session == st.id && r.answeredBy(t.zxid, t.cxid, t.op)
			})
			switch {
			case at >= 0:
				tail = slices.Delete(tail, at, at+1)
				for _, q := range list[kept:i] {
					// What is no transaction is answered together with this one.
					end[q.conn] = end[q.conn] || q.isTransaction()
				}
				kept = i + 1
			case r.isAbandoned() || r.overtaken || r.isTransaction() && r.epoch == m.shown.epoch:
				end[r.conn] = true
			}
		}
		if slices.ContainsFunc(tail, func(t tailTxn) bool { return t.session == st.id && t.zxid > s.tree.LastZxid() }) {
			for _, r := range list[kept:] {
				end[r.conn] = true // to be overtaken by what is in the log
			}
		}
		for i, r := range list {
			switch {
			case end[r.conn]:
				s.abandon(r)
			case i < kept:
				st.pending.push(r)
			default:
				r.renew()
				again = append(again, r)
			}
		}
	}
	return again
}

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

// dropAbandoned gives up requests that wait since the server does not serve, and
// whose clients have gone meanwhile: they have asked elsewhere by now.
func (m *member) dropAbandoned() {
	s := m.s
	s.inMu.Lock()
	waiting := s.inbox
	s.inbox = nil
	s.inMu.Unlock()
	waiting = slices.DeleteFunc(waiting, func(r *request) bool {
		if r.conn == nil || !r.isAbandoned() {
			return false
		}
		s.abandon(r)
		return true
	})
	if len(waiting) > 0 {
		s.putBack(waiting)
	}
}
