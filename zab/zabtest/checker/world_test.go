package checker

import (
	"math/rand/v2"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A world is an ensemble without protocol: a log that grows at the leader, and
// servers that apply it at their own pace. All that clients may see of a real
// ensemble happens in it: stale reads, lost connections, unknown outcomes, expired
// sessions. What it records is right, so the checkers must accept it.
type world struct {
	rng     *rand.Rand
	now     Time
	rec     *Recorder
	log     []*wire.Txn
	leader  *znode.Tree
	prep    *znode.Prep
	res     znode.Result
	servers []*worldServer
	clients []*worldClient
	banks   []Bank
	nextID  zab.SessionID
	calm    bool // no connection is lost, and no session expires
}

type worldServer struct {
	w       *world
	name    string
	tree    *znode.Tree
	applied int
	res     znode.Result
	watches *watch.Manager[*worldClient]
}

type worldClient struct {
	w      *world
	num    int
	worker Worker
	ids    []wire.ID

	server  *worldServer
	conn    *Conn
	session zab.SessionID
	xid     int32
	shown   zab.Zxid
	watched map[feedKey]bool // as the client knows; exists of what was missing is Data
	missing map[string]bool  // Data watches of what did not exist

	call   *Entry
	commit int // place in the log behind the own transaction, or that a sync waits for; 0: not there yet
}

const epoch = 1 << 32

func newWorld(seed uint64, clients int, workloads func(*Recorder) []Workload) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), leader: znode.New(znode.Config{Digest: true}), nextID: 0x100}
	w.prep = znode.NewPrep(w.leader)
	w.rec = NewRecorder(func() Time { return w.now })
	for _, name := range []string{"s1", "s2", "s3"} {
		w.servers = append(w.servers, &worldServer{w: w, name: name, tree: znode.New(znode.Config{}), watches: watch.New[*worldClient]()})
	}
	loads := workloads(w.rec)
	admin := &worldClient{w: w}
	w.clients = []*worldClient{admin}
	admin.connect()
	for _, l := range loads {
		w.banks = append(w.banks, l.Banks...)
		for _, a := range l.Setup {
			admin.issue(a)
			for admin.call != nil {
				w.now += 10
				admin.progress()
			}
		}
	}
	admin.drop()
	w.clients = nil
	for i := range clients {
		var workers []Worker
		for _, l := range loads {
			workers = append(workers, l.Worker(i))
		}
		c := &worldClient{w: w, num: i, worker: Interleaved(workers...)}
		if i == 0 {
			c.ids = super
		}
		w.clients = append(w.clients, c)
	}
	return w
}

// run goes on until the history has a number of entries, then lets all finish.
func (w *world) run(entries int) {
	for w.rec.Len() < entries {
		w.step()
	}
	for _, c := range w.clients {
		for c.conn != nil && c.call != nil {
			w.now += 100
			c.progress()
		}
	}
	for _, s := range w.servers {
		s.catchUp(len(w.log))
	}
}

func (w *world) step() {
	w.now += Time(1 + w.rng.IntN(1000))
	if s := w.servers[w.rng.IntN(len(w.servers))]; w.rng.IntN(3) == 0 && s.applied < len(w.log) {
		s.apply()
		return
	}
	if w.rng.IntN(200) == 0 {
		for _, path := range w.leader.Expired(w.timeMs(), 1) {
			w.propose(&znode.Request{Op: wire.OpDeleteContainer, Body: &wire.PathRecord{Path: path}})
		}
	}
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch n := w.rng.IntN(150); {
	case c.conn == nil:
		c.connect()
	case n == 0 && !w.calm:
		c.drop()
	case n == 1 && !w.calm && w.rng.IntN(3) == 0:
		id := c.session
		c.drop()
		if life := w.leader; life != nil {
			if _, open := life.SessionTimeout(id); open {
				w.propose(&znode.Request{Session: id, Op: wire.OpCloseSession})
			}
		}
	case c.call != nil:
		c.progress()
	default:
		if a, ok := c.worker.Next(w.rng); ok {
			c.issue(a)
		}
	}
}

func (w *world) timeMs() int64 { return int64(w.now) / 1000 }

// propose appends to the log and returns the place behind it.
func (w *world) propose(req *znode.Request) int {
	txn := &wire.Txn{}
	w.prep.Prepare(req, zab.Zxid(epoch+len(w.log)+1), w.timeMs(), txn)
	w.leader.Apply(txn, &w.res)
	w.prep.Applied(txn.Header.Zxid)
	w.log = append(w.log, txn)
	return len(w.log)
}

func (s *worldServer) catchUp(n int) {
	for s.applied < n {
		s.apply()
	}
}

// apply takes one transaction: events first, then answers.
func (s *worldServer) apply() {
	txn := s.w.log[s.applied]
	s.tree.Apply(txn, &s.res)
	s.applied++
	for _, e := range s.res.Events {
		for _, c := range s.watches.Fire(e.Type, e.Path, nil) {
			if znode.Allowed(e.ACL, wire.PermRead, c.ids) {
				c.event(e.Type, e.Path, txn.Header.Zxid)
			}
		}
	}
	for _, c := range append([]*worldClient{}, s.w.clients...) {
		if c.server == s && c.call != nil && c.commit == s.applied && c.call.Op != wire.OpSync {
			c.answer(txn)
		}
	}
}

func (c *worldClient) connect() {
	w := c.w
	s := w.servers[w.rng.IntN(len(w.servers))]
	if s.tree.LastZxid() < c.shown {
		return // it refuses: the client has seen more
	}
	conn := w.rec.Connect(s.name, c.session, c.ids...)
	w.now += 50
	if c.session != 0 {
		if _, open := w.leader.SessionTimeout(c.session); !open {
			conn.Connected(0)
			conn.Close()
			c.session, c.shown, c.watched, c.missing = 0, 0, nil, nil
			return
		}
	} else {
		w.nextID++
		c.session = w.nextID
		n := w.propose(&znode.Request{Session: c.session, Op: wire.OpCreateSession, Body: &wire.IntRecord{Value: 4000}})
		s.catchUp(n)
		c.watched, c.missing = map[feedKey]bool{}, map[string]bool{}
		if c.worker != nil {
			c.worker.Session(c.session)
		}
	}
	s.catchUp(w.rng.IntN(len(w.log)-s.applied+1) + s.applied)
	conn.Connected(c.session)
	c.server, c.conn = s, conn
	if len(c.watched) > 0 {
		c.rearm()
	}
}

// rearm is setWatches.
func (c *worldClient) rearm() {
	r := &wire.SetWatches{RelativeZxid: c.shown, HasPersistent: true}
	keys := make([]feedKey, 0, len(c.watched))
	for key := range c.watched {
		keys = append(keys, key)
	}
	sortKeys(keys)
	for _, key := range keys {
		switch {
		case key.mode == watch.Data && c.missing[key.path]:
			r.Exist = append(r.Exist, key.path)
		case key.mode == watch.Data:
			r.Data = append(r.Data, key.path)
		case key.mode == watch.Child:
			r.Child = append(r.Child, key.path)
		case key.mode == watch.Persistent:
			r.Persistent = append(r.Persistent, key.path)
		default:
			r.PersistentRecursive = append(r.PersistentRecursive, key.path)
		}
	}
	e := c.conn.Call(wire.XidSetWatches, Args{Op: wire.OpSetWatches2, Rearm: r})
	c.w.now += 20
	for _, l := range rearmLists(r) {
		for _, path := range l.paths {
			typ := wire.EventNone
			if l.kind != noCatchUp {
				typ = c.server.tree.CatchUp(r.RelativeZxid, path, l.kind)
			}
			if typ == wire.EventNone {
				c.server.watches.Add(c, path, l.mode)
			} else {
				c.event(typ, path, -1)
			}
		}
	}
	c.shown = c.server.tree.LastZxid()
	c.conn.Return(e, Result{Zxid: c.shown})
	if c.worker != nil {
		c.worker.Event(wire.EventNone, "")
	}
}

func sortKeys(keys []feedKey) {
	for i := range keys {
		for j := i; j > 0 && (keys[j].path < keys[j-1].path || keys[j].path == keys[j-1].path && keys[j].mode < keys[j-1].mode); j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
}

// drop loses the connection; a write under way may be committed all the same.
func (c *worldClient) drop() {
	if c.conn == nil {
		return
	}
	if c.call != nil {
		if c.call.Op.IsWrite() && c.commit == 0 && c.w.rng.IntN(2) == 0 {
			c.request()
		}
		if c.worker != nil {
			c.worker.Done(&c.call.Args, nil)
		}
		c.call = nil
	}
	c.conn.Close()
	c.server.watches.RemoveConn(c)
	c.conn, c.server = nil, nil
}

func (c *worldClient) issue(a Args) {
	c.xid++
	c.call, c.commit = c.conn.Call(c.xid, a), 0
}

// request brings the write to the leader.
func (c *worldClient) request() {
	c.commit = c.w.propose(&znode.Request{Session: c.session, Cxid: c.call.Cxid, Op: c.call.Op, Body: c.call.Request(), IDs: c.ids})
}

// progress brings the operation under way one step further.
func (c *worldClient) progress() {
	switch a := &c.call.Args; {
	case a.Op.IsWrite() && c.commit == 0:
		c.request()
	case a.Op.IsWrite():
		c.server.apply()
	case a.Op == wire.OpSync && c.commit == 0:
		c.commit = len(c.w.log)
	case a.Op == wire.OpSync && c.server.applied < c.commit:
		c.server.apply()
	default:
		c.read(a)
	}
}

// answer is the reply to a write.
func (c *worldClient) answer(txn *wire.Txn) {
	r := &c.server.res
	body := wire.Record(nil)
	code := r.Err
	switch c.call.Op {
	case wire.OpCreate:
		body = &wire.PathRecord{Path: r.Path}
	case wire.OpCreate2, wire.OpCreateContainer:
		body = &wire.CreateResponse{Path: r.Path, Stat: r.Stat}
	case wire.OpSetData, wire.OpSetACL:
		body = &r.Stat
	case wire.OpMulti:
		body = &wire.MultiResponse{Results: append([]wire.MultiResult{}, r.Multi...)}
	}
	if code != wire.OK {
		body = nil
	}
	closed := c.call.Op == wire.OpCloseSession
	c.reply(ResultOf(txn.Header.Zxid, code, body))
	if closed {
		c.drop()
		c.session, c.shown, c.watched, c.missing = 0, 0, nil, nil
	}
}

func (c *worldClient) reply(r Result) {
	e := c.call
	c.call = nil
	c.shown = max(c.shown, r.Zxid)
	c.conn.Return(e, r)
	if c.worker != nil {
		c.worker.Done(&e.Args, &e.Result)
	}
}

// read answers from the server's tree.
func (c *worldClient) read(a *Args) {
	t := c.server.tree
	r := c.readOne(a)
	r.Zxid = t.LastZxid()
	add := func(path string, mode watch.Mode) {
		c.server.watches.Add(c, path, mode)
		c.watched[feedKey{path, mode}] = true
		if mode == watch.Data {
			c.missing[path] = r.Err == wire.ErrNoNode
		}
	}
	e := *c.call
	e.Return, e.Result = c.w.now, r
	registered(&e, add)
	if a.Op == wire.OpRemoveWatches {
		modes, _ := watch.ModeOf(a.What)
		if !c.server.watches.Remove(c, a.Path, modes) {
			r.Err = wire.ErrNoWatcher
		} else {
			for _, mode := range []watch.Mode{watch.Data, watch.Child, watch.Persistent, watch.Recursive} {
				if modes&mode != 0 {
					delete(c.watched, feedKey{a.Path, mode})
				}
			}
		}
	}
	c.reply(r)
}

func (c *worldClient) readOne(a *Args) (r Result) {
	t := c.server.tree
	switch a.Op {
	case wire.OpExists:
		r.Stat, r.Err = t.Exists(a.Path, c.ids)
	case wire.OpGetData:
		r.Value, r.Stat, r.Err = t.Get(a.Path, c.ids)
	case wire.OpGetACL:
		r.List, r.Stat, r.Err = t.GetACL(a.Path, c.ids)
	case wire.OpGetChildren:
		r.Children, _, r.Err = t.Children(a.Path, c.ids)
	case wire.OpGetChildren2:
		r.Children, r.Stat, r.Err = t.Children(a.Path, c.ids)
	case wire.OpGetAllChildrenNumber:
		r.Count, r.Err = t.AllChildrenNumber(a.Path, c.ids)
	case wire.OpGetEphemerals:
		r.Children = t.Ephemerals(c.session, a.Path)
	case wire.OpMultiRead:
		for i := range a.Sub {
			sub := c.readOne(&a.Sub[i])
			r.Results = append(r.Results, sub)
		}
	}
	r.Value = slices.Clone(r.Value)
	return r
}

func (c *worldClient) event(typ wire.EventType, path string, z zab.Zxid) {
	switch typ {
	case wire.EventNodeCreated, wire.EventNodeDataChanged:
		delete(c.watched, feedKey{path, watch.Data})
	case wire.EventNodeDeleted:
		delete(c.watched, feedKey{path, watch.Data})
		delete(c.watched, feedKey{path, watch.Child})
	case wire.EventNodeChildrenChanged:
		delete(c.watched, feedKey{path, watch.Child})
	}
	c.conn.Event(typ, path, z)
	if c.worker != nil {
		c.worker.Event(typ, path)
	}
}
