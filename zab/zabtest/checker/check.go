package checker

import (
	"fmt"
	"iter"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// Options say what Check may assume. The zero value is a run that begins with an
// empty ensemble of our servers, all of whose clients were recorded.
type Options struct {
	// Config is that of the servers' trees.
	Config znode.Config

	// Tree is the state before the first transaction, which Check changes. nil is
	// the tree of a new ensemble.
	Tree *znode.Tree

	// Foreign accepts transactions that nobody in the history asked for. Those with
	// cxid 0 are the servers' own and always accepted. nil accepts no other.
	Foreign func(*wire.TxnHeader) bool

	// StaleSync leaves out rule Z4: servers whose leader answers a sync without
	// asking a quorum.
	StaleSync bool

	// WatchBound is how long after anybody saw a change a connection may be without
	// the event of it. 0: any time, as long as no reply shows the change.
	WatchBound Time

	// End is when the run ended; connections that are still open lived so long. 0 is
	// the time of the last entry.
	End Time

	// Finals are the trees of servers after the run.
	Finals []Final

	// Banks are sums that must be the same at every zxid.
	Banks []Bank
}

// Final is the tree of a server after the run, at whatever zxid it is.
type Final struct {
	Server string
	Tree   *znode.Tree
}

// A Violation says which rule was broken and by what.
type Violation struct {
	Rule    string
	Zxid    zab.Zxid // where, if it is about one
	Entries []*Entry // the operations that do not fit together
	Text    string
}

// Error is several lines: what is wrong, then the operations.
func (v *Violation) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Rule, v.Text)
	for _, e := range v.Entries {
		b.WriteString("\n\t")
		b.WriteString(e.String())
	}
	return b.String()
}

// Violations is the error of Check.
type Violations []*Violation

// Error lists them all.
func (v Violations) Error() string {
	lines := make([]string, len(v))
	for i := range v {
		lines[i] = v[i].Error()
	}
	return strings.Join(lines, "\n")
}

// maxViolations ends a check: one cause often breaks a rule over and over.
const maxViolations = 20

// Report says how much Check looked at. A test asserts that it is enough.
type Report struct {
	Txns     int
	Sessions int // opened by transactions

	Updates  int // requests with a transaction, refused ones included
	Refused  int
	Unknown  int // updates without an answer
	Resolved int // of these, those that the log has
	Reads    int // compared with the state at their zxid
	Syncs    int
	Watches  int // registrations
	Events   int
	CatchUps int // events of setWatches

	Guarded int // writes that a Guard accepted
	Stale   int // and refused: another session held the lock as well

	// Tree is the reference after the last transaction.
	Tree *znode.Tree
}

// Check compares a history with the transactions that were committed, in the order
// of their zxids. The error is Violations, or says that the input is no log. The
// transactions must stay as they are until Check returns.
func Check(h *History, log iter.Seq[*wire.Txn], opt Options) (*Report, error) {
	r := &run{h: h, opt: opt, report: &Report{}}
	if err := r.readLog(log); err != nil {
		return r.report, err
	}
	r.match()
	r.order()
	r.sessions()
	r.replay()
	r.watches()
	r.locks()
	if len(r.found) > 0 {
		return r.report, r.found
	}
	return r.report, nil
}

// run is one call of Check.
type run struct {
	h      *History
	opt    Options
	report *Report
	found  Violations

	txns   []*wire.Txn
	byZxid map[zab.Zxid]int32
	life   map[zab.SessionID]*lifetime

	owner []int32 // of a transaction: index of its entry, or -1
	txnOf []int32 // of an entry: index of its transaction, or -1
	seen  []int32 // of an entry: index of the last transaction of the state that it shows; -1: none; unseen

	floors map[int]floor // of a sync, by index: what it must show

	feeds     map[feedKey]*[]change // the changes of what is watched
	recursive bool                  // some feed is of a recursive watch
	changes   int32                 // of the tree so far
	rearmed   map[int]rearmed       // of a setWatches, by index
	ids       map[int][]identity    // of a connection, by number
}

// lifetime is a session in the log.
type lifetime struct{ opened, closed int32 } // index of the transaction, -1: none

const unseen = -2

func (r *run) fail(rule string, z zab.Zxid, entries []*Entry, format string, args ...any) {
	if len(r.found) < maxViolations {
		r.found = append(r.found, &Violation{rule, z, entries, fmt.Sprintf(format, args...)})
	}
}

func (r *run) full() bool { return len(r.found) == maxViolations }

// readLog checks that the log is one: contiguous but for changes of the epoch.
func (r *run) readLog(log iter.Seq[*wire.Txn]) error {
	r.byZxid = map[zab.Zxid]int32{}
	r.life = map[zab.SessionID]*lifetime{}
	var last zab.Zxid
	if r.opt.Tree != nil {
		last = r.opt.Tree.LastZxid()
		for _, s := range r.opt.Tree.Sessions() {
			r.life[s.ID] = &lifetime{-1, -1}
		}
	}
	for txn := range log {
		h := &txn.Header
		if last != 0 && !h.Zxid.Follows(last) || h.Zxid <= last {
			return fmt.Errorf("log of transactions: %v does not follow %v", h.Zxid, last)
		}
		last = h.Zxid
		r.sessionTxn(int32(len(r.txns)), h)
		r.byZxid[h.Zxid] = int32(len(r.txns))
		r.txns = append(r.txns, txn)
	}
	r.report.Txns = len(r.txns)
	return nil
}

// sessionTxn follows the sessions (rule S21).
func (r *run) sessionTxn(i int32, h *wire.TxnHeader) {
	life := r.life[h.Session]
	switch h.Type {
	case wire.OpCreateSession:
		if life != nil {
			r.fail("S21", h.Zxid, nil, "%v opens session %v, which was there before", h.Zxid, h.Session)
			return
		}
		r.life[h.Session] = &lifetime{i, -1}
		r.report.Sessions++
	case wire.OpCloseSession:
		if life == nil {
			r.fail("S21", h.Zxid, nil, "%v closes session %v, which was never opened", h.Zxid, h.Session)
		} else if life.closed < 0 { // the close of a client and that of the expiry may cross
			life.closed = i
		}
	}
}

func entries(e ...*Entry) []*Entry { return e }
