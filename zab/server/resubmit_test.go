package server

import (
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// idle is a server of an ensemble that does not run: a test plays its driver.
type idle struct {
	*Server
	t  *testing.T
	st *sessionState
	c  *conn
}

func newIdle(t *testing.T) *idle {
	t.Helper()
	e := newEnsemble(t, 3, 0, nil)
	s, err := Open(Config{
		ID: 1, Ensemble: e.list, Znode: znode.Config{Digest: true},
		Storage: storage.Config{DataDir: filepath.Join(e.dir, "1"), NoForceSync: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	x := &idle{Server: s, t: t, c: newConn(s, far), st: newSession(7, time.Second)}
	x.c.sess = x.st
	x.c.published.Store(x.st)
	x.st.conn.Store(x.c)
	s.sessions[7] = x.st
	x.treeMu.Lock()
	x.tree.Apply(sessionTxn(), &x.result)
	x.treeMu.Unlock()
	s.member.shown = role{zab.Following, zab.Broadcast, 3, 1}
	return x
}

// sessionTxn begins the session.
func sessionTxn() *wire.Txn {
	h := wire.TxnHeader{Session: 7, Zxid: zab.NewZxid(1, 1), Type: wire.OpCreateSession}
	return &wire.Txn{Header: h, Body: &wire.IntRecord{Value: 1000}}
}

// ask takes requests of the client and sends them to a leader that never answers;
// a path is a create, "sync" a sync, "bad" what cannot be decoded.
func (x *idle) ask(what ...string) (rs []*request) {
	for i, w := range what {
		op, body := wire.OpCreate, createReq(int32(10+i), w, "")[8:]
		switch w {
		case "sync":
			op, body = wire.OpSync, (&wire.PathRecord{Path: "/"}).Append(nil)
		case "bad":
			body = body[:3]
		}
		x.c.write(int32(10+i), op, body, x.nanos())
	}
	rs = slices.Clone(x.c.batch)
	x.outstanding.Add(int64(len(rs)))
	x.c.batch = nil
	x.member.forward(rs)
	return rs
}

// txn is the transaction that a leader makes of the nth request.
func (x *idle) txn(n int, zxid zab.Zxid, path string) zab.Proposal {
	t := wire.Txn{
		Header: wire.TxnHeader{Session: 7, Cxid: int32(10 + n), Zxid: zxid, Type: wire.OpCreate},
		Body:   &wire.CreateTxn{Type: wire.OpCreate, Path: path, ACL: wire.OpenACL(), ParentCversion: int32(n + 1)},
	}
	return zab.Proposal{Zxid: zxid, Data: t.Append(nil)}
}

// nextRole ends the role, and begins one in the given epoch up to Broadcast: tail
// came before it and is not committed, committed came with the synchronization.
func (x *idle) nextRole(epoch zab.Epoch, committed, tail []zab.Proposal) (again []*request) {
	x.t.Helper()
	m := x.member
	m.endServing()
	m.shown = role{zab.Following, zab.Synchronization, 3, epoch}
	m.noteTail(committed)
	m.noteTail(tail)
	x.commit(committed...)
	m.shown.phase = zab.Broadcast
	return m.unanswered()
}

func (x *idle) commit(ps ...zab.Proposal) {
	x.t.Helper()
	if err := x.apply(ps); err != nil {
		x.t.Fatal(err)
	}
}

// open returns the xids that are open, and checks that the connection agrees.
func (x *idle) open() (xids []int32) {
	for _, r := range x.st.pending.buf[x.st.pending.head:] {
		xids = append(xids, r.xid)
	}
	return xids
}

func (x *idle) replies() (xids []int32) {
	for b := x.c.out; len(b) > 0; {
		d := wire.NewDecoder(b[4:])
		var h wire.ReplyHeader
		h.Decode(&d)
		xids = append(xids, h.Xid)
		n := int(b[2])<<8 | int(b[3])
		b = b[4+n:]
	}
	return xids
}

func xidsOf(rs []*request) (xids []int32) {
	for _, r := range rs {
		xids = append(xids, r.xid)
	}
	return xids
}

func TestWhatAnElectionLeavesOpen(t *testing.T) {
	z := func(e zab.Epoch, n uint32) zab.Zxid { return zab.NewZxid(e, n) }
	for _, tc := range []struct {
		name string
		ask  []string
		// Which of them, counted from 0, are committed by the next leader's beginning,
		// and which are in its log behind that.
		committed, tail []int
		epoch           zab.Epoch
		replies, again  []int32
		open            []int32
		closed          bool
	}{
		{name: "nothing arrived", ask: []string{"/a", "sync", "/b"}, epoch: 2, again: []int32{10, 11, 12}},
		{name: "the first arrived", ask: []string{"/a", "/b"}, committed: []int{0}, epoch: 2, replies: []int32{10}, again: []int32{11}},
		{name: "a sync stands before what arrived", ask: []string{"sync", "/a", "/b"}, committed: []int{1}, epoch: 2, replies: []int32{10, 11}, again: []int32{12}},
		{name: "a refused one stands before what arrived", ask: []string{"/a", "bad", "sync", "/b"}, committed: []int{0, 3}, epoch: 2, replies: []int32{10, 11, 12, 13}},
		{name: "the last is in the log", ask: []string{"/a", "sync", "/b", "sync"}, committed: []int{0}, tail: []int{2}, epoch: 2, replies: []int32{10}, open: []int32{11, 12}, again: []int32{13}},
		{name: "all are in the log", ask: []string{"/a", "/b"}, tail: []int{0, 1}, epoch: 2, open: []int32{10, 11}},
		{name: "one in between was lost", ask: []string{"/a", "/b", "/c"}, tail: []int{0, 2}, epoch: 2, closed: true},
		{name: "the same epoch", ask: []string{"/a", "/b"}, committed: []int{0}, epoch: 1, replies: []int32{10}, closed: true},
		{name: "the same epoch, but only a sync", ask: []string{"sync", "sync"}, epoch: 1, again: []int32{10, 11}},
		{name: "the same epoch, all in the log", ask: []string{"sync", "/a"}, tail: []int{1}, epoch: 1, open: []int32{10, 11}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := newIdle(t)
			x.ask(tc.ask...)
			var committed, tail []zab.Proposal
			n := uint32(1)
			for _, i := range tc.committed {
				n++
				committed = append(committed, x.txn(i, z(1, n), tc.ask[i]))
			}
			for _, i := range tc.tail {
				n++
				tail = append(tail, x.txn(i, z(1, n), tc.ask[i]))
			}
			again := x.nextRole(tc.epoch, committed, tail)
			if got := x.replies(); !slices.Equal(got, tc.replies) {
				t.Errorf("replies to %v, want %v", got, tc.replies)
			}
			if got := xidsOf(again); !slices.Equal(got, tc.again) {
				t.Errorf("submitted again %v, want %v", got, tc.again)
			}
			if got := x.open(); !slices.Equal(got, tc.open) {
				t.Errorf("open %v, want %v", got, tc.open)
			}
			x.c.mu.Lock()
			closed := x.c.closed
			x.c.mu.Unlock()
			if closed != tc.closed {
				t.Errorf("closed %v, want %v", closed, tc.closed)
			}
			// In the end everything is answered, in order.
			x.member.forward(again)
			x.commit(tail...)
			for x.st.pending.len() > 0 {
				n++
				switch r := x.st.pending.first(); {
				case r.op == wire.OpSync:
					x.member.synced()
					x.commit()
				case r.code != wire.OK:
					x.commit()
				default:
					x.commit(x.txn(int(r.xid-10), z(2, n), tc.ask[r.xid-10]))
				}
			}
			if tc.closed {
				return
			}
			want := make([]int32, len(tc.ask))
			for i := range want {
				want[i] = int32(10 + i)
			}
			if got := x.replies(); !slices.Equal(got, want) {
				t.Errorf("all replies: %v", got)
			}
			if x.outstanding.Load() != 0 || x.outstandingBytes.Load() != 0 {
				t.Errorf("%d requests of %d bytes are outstanding", x.outstanding.Load(), x.outstandingBytes.Load())
			}
		})
	}
}

// A client that has gone to another server, without a word to this one, has given
// up what it had asked for here.
func TestWhatAClientHasGoneOnFromIsNotSubmittedAgain(t *testing.T) {
	elsewhere := func(x *idle, zxid zab.Zxid) zab.Proposal { return x.txn(5, zxid, "/elsewhere") }
	refused := func(x *idle, zxid zab.Zxid) zab.Proposal {
		t := wire.Txn{
			Header: wire.TxnHeader{Session: 7, Cxid: 15, Zxid: zxid, Type: wire.OpFailed},
			Body:   &wire.IntRecord{Value: int32(wire.ErrSessionMoved)},
		}
		return zab.Proposal{Zxid: zxid, Data: t.Append(nil)}
	}
	z := zab.NewZxid(1, 2)
	for _, tc := range []struct {
		name  string
		txn   func(*idle, zab.Zxid) zab.Proposal
		when  string
		again []int32
	}{
		{"before the leader is lost", elsewhere, "before", nil},
		{"in what the next leader begins with", elsewhere, "sync", nil},
		{"in the log behind that", elsewhere, "tail", nil},
		{"but was refused there", refused, "before", []int32{10, 11}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := newIdle(t)
			x.ask("/a", "/b")
			p := []zab.Proposal{tc.txn(x, z)}
			var committed, tail []zab.Proposal
			switch tc.when {
			case "before":
				x.commit(p...)
			case "sync":
				committed = p
			case "tail":
				tail = p
			}
			again := x.nextRole(2, committed, tail)
			if got := xidsOf(again); !slices.Equal(got, tc.again) {
				t.Errorf("submitted again %v, want %v", got, tc.again)
			}
			x.c.mu.Lock()
			defer x.c.mu.Unlock()
			if want := tc.again == nil; x.c.closed != want {
				t.Errorf("closed %v, want %v", x.c.closed, want)
			}
		})
	}
}

// A disk that is cut may still hold transactions that were never applied here, and
// that are part of the history now: what the clients had asked for was done.
func TestWhatACutDiskHasDoneIsNotSubmittedAgain(t *testing.T) {
	x := newIdle(t)
	x.conns[x.c] = struct{}{}
	x.ask("/a", "/b")
	tree := znode.New(znode.Config{Digest: true})
	tree.Apply(sessionTxn(), &x.result)
	txn, err := new(storage.TxnDecoder).Decode(x.txn(0, zab.NewZxid(1, 2), "/a").Data)
	if err != nil {
		t.Fatal(err)
	}
	tree.Apply(txn, &x.result)
	x.member.replaceTree(tree, diskTruncate)
	if again := x.nextRole(2, nil, nil); again != nil {
		t.Errorf("submitted again: %v", xidsOf(again))
	}
}

// What the leader called committed while this server was brought up to date may not
// be in the tree when it begins to serve: a sync has to wait for it.
func TestASyncWaitsForWhatWasCommittedBeforeServing(t *testing.T) {
	x := newIdle(t)
	m := x.member
	m.learning.noteCommit(nil, &zab.Message{Type: zab.MsgCommit, Zxid: zab.NewZxid(1, 2)})
	m.learning.begin(x.tree.LastZxid())
	x.ask("sync")
	m.synced()
	x.commit() // answers what is due
	if got := x.replies(); got != nil {
		t.Errorf("answered %v before the tree has what was committed", got)
	}
	x.commit(x.txn(5, zab.NewZxid(1, 2), "/b"))
	if got := x.replies(); !slices.Equal(got, []int32{10}) {
		t.Errorf("answered %v, want the sync", got)
	}
}
