package checker

import (
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A story is a run that is told step by step: one server, which carries out what
// it is asked at once.
type story struct {
	t   *testing.T
	now Time
	rec *Recorder
	w   *world
	opt Options
}

func tell(t *testing.T) *story {
	s := &story{t: t, w: &world{leader: znode.New(znode.Config{})}}
	s.w.prep = znode.NewPrep(s.w.leader)
	s.rec = NewRecorder(func() Time { return s.now })
	return s
}

// open opens a session.
func (s *story) open(id zab.SessionID, ids ...wire.ID) *Conn {
	c := s.rec.Connect("s1", 0, ids...)
	s.now += 10
	s.w.propose(&znode.Request{Session: id, Op: wire.OpCreateSession, Body: &wire.IntRecord{Value: 4000}})
	c.Connected(id)
	s.now += 10
	return c
}

// again connects once more with a session.
func (s *story) again(id zab.SessionID) *Conn {
	c := s.rec.Connect("s2", id)
	s.now += 10
	c.Connected(id)
	s.now += 10
	return c
}

// commit carries out an update without an answer.
func (s *story) commit(c *Conn, cxid int32, a Args) *Entry {
	e := c.Call(cxid, a)
	s.now += 10
	s.w.now = s.now
	s.w.propose(&znode.Request{Session: c.session, Cxid: cxid, Op: a.Op, Body: a.Request(), IDs: c.ids()})
	return e
}

// ids of the connection, for the reference.
func (c *Conn) ids() []wire.ID {
	for _, e := range c.r.entries {
		if e.Kind == Connect && e.Conn == c.num {
			return e.IDs
		}
	}
	return nil
}

// do carries out an update and answers it.
func (s *story) do(c *Conn, cxid int32, a Args) *Entry {
	e := s.commit(c, cxid, a)
	s.answer(c, e)
	return e
}

// answer answers the update that was committed last.
func (s *story) answer(c *Conn, e *Entry) {
	r := Result{Zxid: s.w.leader.LastZxid(), Err: s.w.res.Err, Stat: s.w.res.Stat}
	if e.Op == wire.OpCreate2 && r.Err == wire.OK {
		r.Created = s.w.res.Path
	}
	if r.Err != wire.OK || e.Op == wire.OpDelete {
		r.Stat = wire.Stat{}
	}
	c.Return(e, r)
	s.now += 10
}

// read carries out a read.
func (s *story) read(c *Conn, cxid int32, a Args) *Entry {
	e := c.Call(cxid, a)
	s.now += 10
	p := &worldClient{server: &worldServer{tree: s.w.leader}, session: c.session, ids: c.ids()}
	r := p.readOne(&a)
	r.Zxid = s.w.leader.LastZxid()
	c.Return(e, r)
	s.now += 10
	return e
}

// event is an event of the last transaction.
func (s *story) event(c *Conn, typ wire.EventType, path string) {
	c.Event(typ, path, s.w.leader.LastZxid())
	s.now += 10
}

// accept checks the run so far.
func (s *story) accept() {
	s.t.Helper()
	if _, err := Check(s.rec.History(), slices.Values(s.w.log), s.opt); err != nil {
		s.t.Error(err)
	}
}

// reject wants a complaint that has all of the texts.
func (s *story) reject(texts ...string) {
	s.t.Helper()
	_, err := Check(s.rec.History(), slices.Values(s.w.log), s.opt)
	if err == nil {
		s.t.Fatalf("accepted, want %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			s.t.Errorf("got %v\nwant %q", err, text)
		}
	}
}

func get(path string, watch bool) Args {
	return Args{Op: wire.OpGetData, Path: path, Watch: watch}
}

// TestOnlyTheNewestConnectionOfASessionWrites holds a paused client to what a
// session that moved may do (S30).
func TestOnlyTheNewestConnectionOfASessionWrites(t *testing.T) {
	s := tell(t)
	old := s.open(1)
	s.do(old, 1, create("/a", nil, wire.Persistent))
	moved := s.again(1)
	s.do(moved, 2, set("/a", nil, -1))
	s.accept()
	s.do(old, 3, set("/a", nil, -1))
	s.reject("S30", "connection 1 wrote for session 0x1 after connection 2 had taken it up", "setData xid=3")
}

// TestALateWriteOfAnOldConnection was on its way when the session moved, and is
// carried out behind a write of the new connection.
func TestALateWriteOfAnOldConnection(t *testing.T) {
	s := tell(t)
	old := s.open(1)
	s.do(old, 1, create("/a", nil, wire.Persistent))
	late := old.Call(2, set("/a", []byte("late"), -1))
	s.now += 10
	old.Close()
	moved := s.again(1)
	s.do(moved, 3, set("/a", nil, -1))
	s.w.propose(&znode.Request{Session: 1, Cxid: 2, Op: late.Op, Body: late.Request()})
	s.reject("S30", "setData xid=2", "setData xid=3")
}

// TestARefusedLateWriteIsFine has no effect.
func TestARefusedLateWriteIsFine(t *testing.T) {
	s := tell(t)
	old := s.open(1)
	s.do(old, 1, create("/a", nil, wire.Persistent))
	late := old.Call(2, set("/a", []byte("late"), -1))
	s.now += 10
	old.Close()
	moved := s.again(1)
	s.do(moved, 3, set("/a", nil, -1))
	s.w.propose(&znode.Request{Session: 1, Cxid: 2, Op: late.Op, Body: late.Request(), Refuse: wire.ErrSessionMoved})
	s.accept()

	again := moved.Call(4, Args{Op: wire.OpMulti, Sub: []Args{set("/a", nil, -1)}})
	moved.Close()
	s.now += 10
	last := s.again(1)
	s.do(last, 5, set("/a", nil, -1))
	s.w.propose(&znode.Request{Session: 1, Cxid: 4, Op: again.Op, Body: again.Request()})
	multi := s.w.log[len(s.w.log)-1].Body.(*wire.MultiTxn) // Apache's refuse the first operation
	multi.Txns[0] = wire.SubTxn{Type: wire.OpFailed, Body: &wire.IntRecord{Value: int32(wire.ErrSessionMoved)}}
	s.accept()
}

// TestUpdatesOfASessionKeepTheirOrder sends two at once.
func TestUpdatesOfASessionKeepTheirOrder(t *testing.T) {
	s := tell(t)
	c := s.open(1)
	s.do(c, 1, create("/a", nil, wire.Persistent))
	first := c.Call(2, set("/a", []byte("1"), -1))
	s.now++
	second := s.commit(c, 3, set("/a", []byte("2"), -1))
	c.Return(second, Result{Zxid: s.w.leader.LastZxid(), Stat: s.w.res.Stat})
	s.w.propose(&znode.Request{Session: 1, Cxid: 2, Op: first.Op, Body: first.Request()})
	c.Return(first, Result{Zxid: s.w.leader.LastZxid(), Stat: s.w.res.Stat})
	s.reject("S28", "one session asked for the first before the second", "xid=2", "xid=3", "S27")
}

func TestAnEventThatNeverComes(t *testing.T) {
	s := tell(t)
	s.opt.WatchBound = 1000
	a, b := s.open(1), s.open(2)
	s.do(a, 1, create("/a", nil, wire.Persistent))
	s.read(b, 1, get("/a", true))
	s.do(a, 2, set("/a", nil, -1))
	s.now += 900
	s.read(a, 3, get("/a", false))
	s.accept()
	s.now += 900
	s.read(a, 4, get("/a", false))
	s.reject("W-d", "no event NodeDataChanged on /a", "getData xid=1", "setData xid=2")
}

func TestAnEventThatComesLate(t *testing.T) {
	s := tell(t)
	s.opt.WatchBound = 1000
	a, b := s.open(1), s.open(2)
	s.do(a, 1, create("/a", nil, wire.Persistent))
	s.read(b, 1, get("/a", true))
	s.do(a, 2, set("/a", nil, -1))
	s.now += 5000
	s.event(b, wire.EventNodeDataChanged, "/a")
	s.reject("W-d", "event type=NodeDataChanged path=/a what=3")
}

// TestEventsOfWhatMayNotBeRead uses up the watch and tells nobody.
func TestEventsOfWhatMayNotBeRead(t *testing.T) {
	run := func(told bool) *story {
		s := tell(t)
		a, b := s.open(1, super...), s.open(2)
		s.do(a, 1, create("/a", nil, wire.Persistent))
		s.read(b, 1, get("/a", true))
		s.do(a, 2, Args{Op: wire.OpSetACL, Path: "/a", Version: -1, ACL: []wire.ACL{{Perms: wire.PermAll &^ wire.PermRead, ID: wire.ID{Scheme: "world", ID: "anyone"}}}})
		s.do(a, 3, set("/a", []byte("secret"), -1))
		if told {
			s.event(b, wire.EventNodeDataChanged, "/a")
		}
		s.read(b, 2, get("/a", true))
		s.do(a, 4, set("/a", []byte("secret"), -1))
		s.read(b, 3, get("/", false))
		return s
	}
	run(false).accept()
	run(true).reject("W-h", "event type=NodeDataChanged path=/a what=3", "getData xid=1")
}

// TestWatchesOfAllKinds tells one connection of a deletion with all kinds of
// watches, once for each path.
func TestWatchesOfAllKinds(t *testing.T) {
	begin := func() (*story, *Conn, *Conn) {
		s := tell(t)
		a, b := s.open(1), s.open(2)
		s.do(a, 1, create("/d", nil, wire.Persistent))
		s.do(a, 2, create("/d/x", nil, wire.Persistent))
		s.read(b, 1, get("/d/x", true))
		s.read(b, 2, list("/d/x", true))
		s.read(b, 3, list("/d", true))
		s.read(b, 4, Args{Op: wire.OpAddWatch, Path: "/d", What: wire.WatchPersistentRecursive})
		s.read(b, 5, Args{Op: wire.OpAddWatch, Path: "/d/x", What: wire.WatchPersistent})
		s.do(a, 3, remove("/d/x", -1))
		return s, a, b
	}
	s, a, b := begin()
	s.event(b, wire.EventNodeDeleted, "/d/x")
	s.event(b, wire.EventNodeChildrenChanged, "/d")
	s.read(b, 6, get("/d", false))
	s.do(a, 4, create("/d/x", nil, wire.Persistent)) // the persistent ones are left
	s.event(b, wire.EventNodeCreated, "/d/x")
	s.read(b, 7, get("/d", false))
	s.accept()
	s.event(b, wire.EventNodeChildrenChanged, "/d") // not for the recursive one
	s.reject("W-c", "event type=NodeChildrenChanged path=/d what=4")

	s, _, b = begin()
	s.event(b, wire.EventNodeDeleted, "/d/x")
	s.event(b, wire.EventNodeDeleted, "/d/x")
	s.reject("W-", "event type=NodeDeleted path=/d/x what=2")

	// Within one transaction the order is free, but all must come.
	s, _, b = begin()
	s.event(b, wire.EventNodeChildrenChanged, "/d")
	s.event(b, wire.EventNodeDeleted, "/d/x")
	s.read(b, 6, get("/d", false))
	s.accept()
	s, _, b = begin()
	s.event(b, wire.EventNodeDeleted, "/d/x")
	s.read(b, 6, get("/d", false))
	s.reject("W-b", "NodeChildrenChanged on /d", "getData xid=6")
}

// TestRemovalTakesOnlyWhatItNames leaves the other kinds.
func TestRemovalTakesOnlyWhatItNames(t *testing.T) {
	run := func(events ...wire.EventType) *story {
		s := tell(t)
		a, b := s.open(1), s.open(2)
		s.do(a, 1, create("/a", nil, wire.Persistent))
		s.read(b, 1, get("/a", true))
		s.read(b, 2, list("/a", true))
		s.read(b, 3, Args{Op: wire.OpRemoveWatches, Path: "/a", What: wire.WatcherData})
		s.do(a, 2, set("/a", nil, -1))
		if len(events) > 1 {
			s.event(b, events[0], "/a")
		}
		s.do(a, 3, remove("/a", -1))
		if n := len(events); n > 0 {
			s.event(b, events[n-1], "/a")
		}
		s.read(b, 4, get("/", false))
		return s
	}
	run(wire.EventNodeDeleted).accept()
	run().reject("W-b", "NodeDeleted on /a", "getChildren2 xid=2")
	run(wire.EventNodeDataChanged, wire.EventNodeDeleted).reject("event type=NodeDataChanged path=/a what=3")
}

// TestEventsWithoutAZxid come from servers before 3.9.
func TestEventsWithoutAZxid(t *testing.T) {
	s := tell(t)
	a, b := s.open(1), s.open(2)
	s.do(a, 1, create("/a", nil, wire.Persistent))
	s.read(b, 1, get("/a", true))
	s.do(a, 2, set("/a", nil, -1))
	b.Event(wire.EventNodeDataChanged, "/a", -1)
	s.read(b, 2, get("/a", true))
	s.accept()
	b.Event(wire.EventNodeDataChanged, "/a", -1)
	s.reject("W-c")
}

// TestANewLeaderAnswersBeforeItsFirstTransaction with counter 0 of its epoch.
func TestANewLeaderAnswersBeforeItsFirstTransaction(t *testing.T) {
	s := tell(t)
	c := s.open(1)
	s.do(c, 1, create("/a", nil, wire.Persistent))
	e := s.read(c, 2, get("/a", false))
	e.Zxid = zab.NewZxid(2, 0)
	s.accept()
	e.Value = []byte("x")
	s.reject("Z3", "getData xid=2")
}

// TestWritesOfOthersAreForeign accepts what the caller knows of.
func TestWritesOfOthersAreForeign(t *testing.T) {
	s := tell(t)
	s.do(s.open(1), 1, create("/a", nil, wire.Persistent))
	s.w.propose(&znode.Request{Session: 7, Op: wire.OpCreateSession, Body: &wire.IntRecord{Value: 4000}})
	a := set("/a", nil, -1)
	s.w.propose(&znode.Request{Session: 7, Cxid: 1, Op: a.Op, Body: a.Request()})
	s.reject("Z6", "request 1 of session 0x7")
	s.opt.Foreign = func(h *wire.TxnHeader) bool { return h.Session == 7 }
	s.accept()
}

// TestACxidIsUsedAgain by a process that took up the session of another.
func TestACxidIsUsedAgain(t *testing.T) {
	s := tell(t)
	c := s.open(1)
	s.do(c, 1, create("/a", nil, wire.Persistent))
	s.commit(c, 2, set("/a", []byte("lost"), -1))
	c.Close()
	c = s.again(1)
	s.do(c, 2, set("/a", []byte("2"), -1))
	s.do(c, 1, set("/a", []byte("1"), -1))
	s.accept()
	h, err := Resolve(s.rec.History(), slices.Values(s.w.log))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range h.Entries {
		if e.Resolved {
			if string(e.Data) != "lost" || e.Zxid != epoch+3 || e.Stat.Version != 1 {
				t.Errorf("resolved to %v", e)
			}
			return
		}
	}
	t.Error("nothing was resolved")
}

// TestAReadBehindTheChangesOfOthersIsFine without a sync.
func TestAReadBehindTheChangesOfOthersIsFine(t *testing.T) {
	s := tell(t)
	a, b := s.open(1), s.open(2)
	s.do(a, 1, create("/a", nil, wire.Persistent))
	old := s.read(b, 1, get("/a", false))
	s.do(a, 2, set("/a", []byte("x"), -1))
	stale := s.read(b, 2, get("/a", false))
	stale.Result = old.Result
	s.accept()

	sync := b.Call(3, Args{Op: wire.OpSync, Path: "/a"})
	s.now += 10
	b.Return(sync, Result{Zxid: old.Zxid})
	s.reject("Z4", "setData xid=2", "sync xid=3")
	s.opt.StaleSync = true
	s.accept()
}

// TestALogWithAHoleIsNoLog
func TestALogWithAHoleIsNoLog(t *testing.T) {
	s := tell(t)
	c := s.open(1)
	s.do(c, 1, create("/a", nil, wire.Persistent))
	s.do(c, 2, set("/a", nil, -1))
	log := []*wire.Txn{s.w.log[0], s.w.log[2]}
	if _, err := Check(s.rec.History(), slices.Values(log), s.opt); err == nil || !strings.Contains(err.Error(), "0x100000003 does not follow 0x100000001") {
		t.Errorf("got %v", err)
	}
}
