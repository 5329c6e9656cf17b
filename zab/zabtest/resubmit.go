package zabtest

import (
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// What clients have asked for and no role has answered goes over to the next one,
// as in zab/server: their connections stay open for a while, and what was proposed
// or sent in an earlier epoch and is in no history is submitted again.

// A tailTxn is a transaction at the end of the log that came before the server
// served, for a session that waits here.
type tailTxn struct {
	zxid    zab.Zxid
	session zab.SessionID
	cxid    int32
	op      wire.Op
}

// noteTail remembers what came with the synchronization.
func (v *server) noteTail(ps []zab.Proposal) {
	if v.shown.phase != zab.Synchronization || v.shown.role == zab.Leading {
		return
	}
	for _, p := range ps {
		h := &v.s.check.recs[p.Zxid].txn.Header
		if slices.ContainsFunc(v.serving.pending(), func(r *request) bool { return r.session == h.Session }) {
			v.serving.tail = append(v.serving.tail, tailTxn{p.Zxid, h.Session, h.Cxid, h.Type})
		}
	}
}

// pending are the writes that are not answered.
func (g *serving) pending() []*request { return g.waiting.items[g.waiting.head:] }

// answeredBy reports whether a transaction comes from the request.
func (r *request) answeredBy(z zab.Zxid, cxid int32, op wire.Op) bool {
	switch {
	case r.epoch == 0:
		return false
	case r.zxid != 0: // proposed here
		return r.zxid == z
	case r.op == wire.OpCreateSession:
		return op == wire.OpCreateSession
	}
	return r.xid == cxid && (r.op == op || op == wire.OpFailed)
}

// match takes the request that a transaction answers off the list. If it answers
// none of its session, the client has gone on elsewhere, and what is open here comes
// too late.
func (v *server) match(rec *record) *request {
	h := &rec.txn.Header
	open := v.serving.pending()
	i := slices.IndexFunc(open, func(r *request) bool { return r.session == h.Session })
	if i < 0 {
		return nil
	}
	if r := open[i]; r.answeredBy(h.Zxid, h.Cxid, h.Type) {
		v.serving.take(func(q *request) bool { return q == r })
		return r
	}
	if b, ok := rec.txn.Body.(*wire.IntRecord); ok && h.Type == wire.OpFailed && wire.Code(b.Value) == wire.ErrSessionMoved || h.Session == 0 {
		return nil
	}
	for _, r := range open {
		if r.session == h.Session {
			v.s.probe("overtaken")
			r.overtaken = true
		}
	}
	return nil
}

// take removes writes from the list.
func (g *serving) take(which func(*request) bool) {
	kept := slices.DeleteFunc(g.pending(), which)
	g.waiting.items = g.waiting.items[:g.waiting.head+len(kept)]
}

// unanswered goes through the writes that earlier roles left open, when the server
// begins to serve, and returns those to submit again. DESIGN.md of zab/server argues
// that no request is done twice.
func (v *server) unanswered() (again []*request) {
	g := &v.serving
	applied := v.tree.LastZxid()
	tail := slices.DeleteFunc(g.tail, func(t tailTxn) bool { return t.zxid <= applied })
	g.tail = nil
	open := slices.Clone(g.pending())
	g.waiting.clear()
	bySession := map[zab.SessionID][]*request{}
	var sessions []zab.SessionID
	for _, r := range open {
		if bySession[r.session] == nil {
			sessions = append(sessions, r.session)
		}
		bySession[r.session] = append(bySession[r.session], r)
	}
	for _, id := range sessions {
		list := bySession[id]
		end := map[*clientConn]bool{}
		kept := 0 // so many stay open
		for i, r := range list {
			at := slices.IndexFunc(tail, func(t tailTxn) bool { return t.session == id && r.answeredBy(t.zxid, t.cxid, t.op) })
			switch {
			case at >= 0:
				v.s.probe("answered by the tail")
				tail = slices.Delete(tail, at, at+1)
				for _, q := range list[kept:i] {
					end[q.conn] = true
				}
				kept = i + 1
			case r.conn == nil || !r.conn.openS || r.overtaken && !v.s.mutant.overtake || r.epoch == v.shown.epoch:
				end[r.conn] = true
			}
		}
		if !v.s.mutant.overtake && slices.ContainsFunc(tail, func(t tailTxn) bool { return t.session == id }) {
			for _, r := range list[kept:] {
				end[r.conn] = true // to be overtaken by what is in the log
			}
		}
		for i, r := range list {
			switch {
			case end[r.conn]:
				if r.conn != nil {
					r.conn.drop(true)
				}
			case i < kept:
				g.waiting.push(r)
			default:
				again = append(again, r)
			}
		}
	}
	return again
}
