package checker

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// floor is a zxid that must be seen, and the entry that makes it so.
type floor struct {
	zxid zab.Zxid
	by   *Entry
}

func (f *floor) raise(z zab.Zxid, by *Entry) {
	if z > f.zxid {
		*f = floor{z, by}
	}
}

func itoa(v int64) string { return strconv.FormatInt(v, 10) }

// zxidOf returns when an update happened, 0 if it did not.
func (r *run) zxidOf(i int) zab.Zxid {
	if at := r.txnOf[i]; at >= 0 {
		return r.txns[at].Header.Zxid
	}
	return 0
}

// order compares the order of zxids with that of time and that in which each
// session asked (rules Z1, S28, S30): what anybody had seen before an update was
// asked for has a smaller zxid than the update.
func (r *run) order() {
	es := r.h.Entries
	r.floors = map[int]floor{}
	var calls, returns []int32 // indexes of entries
	for i, e := range es {
		switch {
		case e.Kind == Request && (e.Op.IsWrite() || e.Op == wire.OpSync):
			calls = append(calls, int32(i))
		}
		if e.Known() && (e.Zxid > 0 || e.Kind == Connect && e.Session != 0) {
			returns = append(returns, int32(i))
		}
	}
	slices.SortStableFunc(calls, func(a, b int32) int {
		x, y := es[a], es[b]
		return cmp.Or(cmp.Compare(x.Call, y.Call), cmp.Compare(x.Conn, y.Conn), cmp.Compare(x.Cxid, y.Cxid))
	})
	if byReturn := func(a, b int32) int { return cmp.Compare(es[a].Return, es[b].Return) }; !slices.IsSortedFunc(returns, byReturn) {
		slices.SortStableFunc(returns, byReturn)
	}

	var known floor                      // the largest zxid that anybody had seen
	last := map[zab.SessionID]floor{}    // update that was carried out
	tried := map[int]floor{}             // by connection: update, also refused
	newest := map[zab.SessionID]*Entry{} // the connection that owns the session
	for _, ci := range calls {
		i, e := int(ci), es[ci]
		for len(returns) > 0 && es[returns[0]].Return < e.Call {
			k := es[returns[0]]
			returns = returns[1:]
			if k.Kind != Connect {
				known.raise(k.Zxid, k)
				continue
			}
			if life := r.life[k.Session]; k.Want == 0 && life != nil && life.opened >= 0 {
				known.raise(r.txns[life.opened].Header.Zxid, k)
			}
			if n := newest[k.Session]; n == nil || n.Conn < k.Conn {
				newest[k.Session] = k
			}
		}
		if e.Op == wire.OpSync {
			r.floors[i] = known
			continue
		}
		z := r.zxidOf(i)
		if z == 0 {
			continue
		}
		if z <= known.zxid {
			r.fail("Z1", z, entries(known.by, e), "the second was asked for after the first had shown %v, but it is %v", known.zxid, z)
		}
		_, refused := refusal(r.txns[r.txnOf[i]])
		if n := newest[e.Session]; !refused && n != nil && n.Conn > e.Conn {
			r.fail("S30", z, entries(n, e), "connection %d wrote for session %v after connection %d had taken it up", e.Conn, e.Session, n.Conn)
		}
		f := tried[e.Conn]
		f.raise(last[e.Session].zxid, last[e.Session].by)
		if z <= f.zxid {
			rule, why := "S28", "one session asked for the first before the second"
			if f.by.Conn != e.Conn {
				rule, why = "S30", "a session took effect on two connections at once: it asked for the first before the second"
			}
			r.fail(rule, z, entries(f.by, e), "%s, but they are %v and %v", why, f.zxid, z)
			continue
		}
		tried[e.Conn] = floor{z, e}
		if !refused {
			last[e.Session] = floor{z, e}
		}
	}
}

// sighting is the largest zxid that a session had been shown at some time.
type sighting struct {
	at Time
	floor
}

// sessionView is what a session has seen.
type sessionView struct{ seen []sighting } // rising

func (v *sessionView) before(t Time) floor {
	i, _ := slices.BinarySearchFunc(v.seen, t, func(s sighting, t Time) int { return cmp.Compare(s.at, t) })
	if i == 0 {
		return floor{}
	}
	return v.seen[i-1].floor
}

// connView is what a connection has shown.
type connView struct {
	replies floor  // shown by it, and by earlier connections of the session
	floor   floor  // of its syncs
	last    *Entry // the last reply
}

// sessions checks what each session and connection was shown, in order (rules S27,
// Z3, Z4, S21).
func (r *run) sessions() {
	views := map[zab.SessionID]*sessionView{}
	conns := map[int]*connView{}
	view := func(id zab.SessionID) *sessionView {
		v := views[id]
		if v == nil {
			v = &sessionView{}
			views[id] = v
		}
		return v
	}
	var end zab.Zxid
	if n := len(r.txns); n > 0 {
		end = r.txns[n-1].Header.Zxid
	}
	for i, e := range r.h.Entries {
		if r.full() {
			return
		}
		switch e.Kind {
		case Connect:
			r.connected(e)
			if e.Session != 0 {
				conns[e.Conn] = &connView{replies: view(e.Session).before(e.Call)}
			}
			continue
		case Request:
		default:
			continue
		}
		c := conns[e.Conn]
		if c == nil {
			c = &connView{}
			conns[e.Conn] = c
		}
		if !e.Known() {
			continue
		}
		if c.last != nil && (c.last.Call > e.Call || c.last.Call == e.Call && c.last.Cxid > e.Cxid && e.Cxid > 0) {
			r.fail("S27", e.Zxid, entries(c.last, e), "the second was asked for before the first, but answered after it")
		}
		c.last = e
		if e.Zxid <= 0 {
			continue
		}
		if e.Zxid > end && e.Zxid.Counter() != 0 { // a new leader is at counter 0
			r.fail("Z3", e.Zxid, entries(e), "the answer is of %v, the last transaction is %v", e.Zxid, end)
		}
		if e.Zxid < c.replies.zxid {
			r.fail("S27", e.Zxid, entries(c.replies.by, e), "session %v was shown %v, then %v", e.Session, c.replies.zxid, e.Zxid)
		}
		if e.Op == wire.OpSync && e.Err == wire.OK {
			r.report.Syncs++
			f := r.floors[i]
			c.floor.raise(f.zxid, f.by)
		}
		if e.Zxid < c.floor.zxid && !r.opt.StaleSync {
			r.fail("Z4", e.Zxid, entries(c.floor.by, e), "the second is a sync, or behind one, that was asked for after the first had shown %v, but it is of %v", c.floor.zxid, e.Zxid)
		}
		if e.Zxid > c.replies.zxid {
			c.replies = floor{e.Zxid, e}
			if v := view(e.Session); len(v.seen) == 0 || v.seen[len(v.seen)-1].zxid < e.Zxid {
				v.seen = append(v.seen, sighting{e.Return, c.replies})
			}
		}
	}
}

// connected checks that a session that was given or refused is what the log says.
func (r *run) connected(e *Entry) {
	switch {
	case !e.Known():
	case e.Session == 0:
		if life := r.life[e.Want]; e.Want != 0 && life != nil && life.closed < 0 {
			r.fail("S21", 0, entries(e), "session %v is said to have expired, but the log does not close it", e.Want)
		}
	default:
		if r.life[e.Session] == nil {
			r.fail("S21", 0, entries(e), "session %v was given, but the log does not open it", e.Session)
		}
		if e.Want != 0 && e.Want != e.Session {
			r.fail("S21", 0, entries(e), "session %v was asked for, and %v given", e.Want, e.Session)
		}
	}
}
