package checker

import (
	"iter"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// requestKey identifies a request in the log. A session that another process took
// up may use a cxid twice.
type requestKey struct {
	session zab.SessionID
	cxid    int32
}

// match finds the transaction of each update, and the update of each transaction
// (rule Z6).
func (r *run) match() {
	r.owner = make([]int32, len(r.txns))
	for i := range r.owner {
		r.owner[i] = -1
	}
	r.txnOf = make([]int32, len(r.h.Entries))
	for i, e := range r.h.Entries {
		r.txnOf[i] = -1
		if e.isUpdate() && e.Known() && e.Zxid > 0 {
			r.matchAnswer(i, e)
		}
	}

	// What is left of the log, by request; the first of each, and the next.
	first := map[requestKey]int32{}
	next := make([]int32, len(r.txns))
	for i := len(r.txns) - 1; i >= 0; i-- {
		if h := &r.txns[i].Header; h.Cxid != 0 && r.owner[i] < 0 {
			key := requestKey{h.Session, h.Cxid}
			if n, ok := first[key]; ok {
				next[i] = n
			} else {
				next[i] = -1
			}
			first[key] = int32(i)
		}
	}
	take := func(key requestKey) int32 {
		i, ok := first[key]
		if !ok || i < 0 {
			return -1
		}
		first[key] = next[i]
		return i
	}
	for i, e := range r.h.Entries {
		if !e.isUpdate() || r.txnOf[i] >= 0 || e.Known() && e.Zxid > 0 && !undecided(e.Err) {
			continue
		}
		at := take(requestKey{e.Session, e.Cxid})
		if !e.Known() {
			r.report.Unknown++
		}
		if at < 0 {
			continue
		}
		if !e.Known() {
			r.report.Resolved++
		} else if _, refused := refusal(r.txns[at]); !refused && e.Err != wire.OK {
			r.fail("Z5", r.txns[at].Header.Zxid, entries(e), "the answer is an error, but the change was committed as %v", r.txns[at].Header.Zxid)
		}
		r.txnOf[i], r.owner[at] = at, int32(i)
	}
	for i, txn := range r.txns {
		h := &txn.Header
		if h.Cxid != 0 && r.owner[i] < 0 && (r.opt.Foreign == nil || !r.opt.Foreign(h)) {
			r.fail("Z6", h.Zxid, r.requests(h), "%v (%v) is request %d of session %v, which was not made, or was committed already", h.Zxid, h.Type, h.Cxid, h.Session)
		}
	}
}

// undecided reports whether an error says nothing about the tree: no server may
// have looked at it.
func undecided(code wire.Code) bool {
	switch code {
	case wire.ErrSystemError, wire.ErrConnectionLoss, wire.ErrMarshalling, wire.ErrUnimplemented, wire.ErrOperationTimeout,
		wire.ErrSessionExpired, wire.ErrAuthFailed, wire.ErrSessionMoved, wire.ErrNotReadOnly, wire.ErrRequestTimeout,
		wire.ErrSessionClosedRequireSASLAuth, wire.ErrThrottledOp, wire.ErrReconfigDisabled, wire.ErrReconfigInProgress,
		wire.ErrNewConfigNoQuorum, wire.ErrEphemeralOnLocalSession:
		return true
	}
	return false
}

// matchAnswer looks up the transaction that an answer names.
func (r *run) matchAnswer(i int, e *Entry) {
	at, ok := r.byZxid[e.Zxid]
	if ok {
		if h := &r.txns[at].Header; (h.Session != e.Session || h.Cxid != e.Cxid) && h.Cxid != 0 {
			ok = false
		} else if h.Cxid == 0 && e.Cxid != 0 {
			ok = false
		}
	}
	switch {
	case ok && r.owner[at] >= 0:
		r.fail("Z6", e.Zxid, entries(r.h.Entries[r.owner[at]], e), "two requests were answered with %v", e.Zxid)
	case ok:
		r.txnOf[i], r.owner[at] = at, int32(i)
		r.report.Updates++
	case undecided(e.Err):
	default:
		r.fail("Z6", e.Zxid, entries(e), "it was answered with %v, which %s", e.Zxid, r.whatIs(e.Zxid))
	}
}

// whatIs says what a zxid is instead.
func (r *run) whatIs(z zab.Zxid) string {
	at, ok := r.byZxid[z]
	if !ok {
		return "was never committed"
	}
	h := &r.txns[at].Header
	return "is request " + itoa(int64(h.Cxid)) + " of session " + h.Session.String()
}

// requests lists what is in the history under the names of a transaction.
func (r *run) requests(h *wire.TxnHeader) []*Entry {
	var list []*Entry
	for _, e := range r.h.Entries {
		if e.isUpdate() && e.Session == h.Session && e.Cxid == h.Cxid || e.Kind == Request && e.Zxid == h.Zxid {
			list = append(list, e)
		}
	}
	return list[:min(len(list), 4)]
}

// Resolve returns the history as the log explains it: updates without an answer
// that were committed have their zxid and are marked as Resolved, the others are
// left out, and so are reads without an answer. The log may be anything that Check
// accepts.
func Resolve(h *History, log iter.Seq[*wire.Txn]) (*History, error) {
	r := &run{h: h, report: &Report{}}
	if err := r.readLog(log); err != nil {
		return nil, err
	}
	r.match()
	res := &History{}
	for i, e := range h.Entries {
		if e.Kind == Request && !e.Known() {
			at := r.txnOf[i]
			if at < 0 {
				continue
			}
			c := *e
			c.Resolved = true
			c.Result = txnResult(r.txns[at])
			e = &c
		}
		res.Entries = append(res.Entries, e)
	}
	return res, nil
}

// txnResult is what a transaction tells of the answer to its request.
func txnResult(txn *wire.Txn) Result {
	res := Result{Zxid: txn.Header.Zxid}
	switch b := txn.Body.(type) {
	case *wire.IntRecord:
		if txn.Header.Type == wire.OpFailed {
			res.Err = wire.Code(b.Value)
		}
	case *wire.CreateTxn:
		res.Created = b.Path
	case *wire.SetDataTxn:
		res.Stat.Version, res.Stat.Mzxid = b.Version, res.Zxid
	case *wire.MultiTxn:
		_, failed := b.Failed()
		for _, sub := range b.Txns {
			s := Result{}
			if c, ok := sub.Body.(*wire.CreateTxn); ok && failed < 0 {
				s.Created = c.Path
			}
			if c, ok := sub.Body.(*wire.IntRecord); ok {
				s.Err = wire.Code(c.Value)
			}
			res.Results = append(res.Results, s)
		}
	}
	return res
}
