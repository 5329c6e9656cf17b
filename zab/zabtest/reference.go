package zabtest

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// reference is a second, much simpler tree, to which each committed transaction
// is applied once. It remembers every state of every znode, so that a read can be
// compared with what was true at its zxid.
type reference struct {
	s        *sim
	nodes    map[string]*refNode
	sessions map[zab.SessionID]*refSession
	issued   map[requestID]*operation
	done     map[requestID]zab.Zxid
	events   []refEvent           // in order
	quotas   map[string]*refQuota // by their directories
}

type requestID struct {
	session zab.SessionID
	xid     int32
}

type refNode struct {
	states []refState // in order of their zxids
	suffix int64      // the last sequence number given out below it
	events []int      // that its path had, as indexes of reference.events
}

// refState is what a znode was from one zxid on.
type refState struct {
	zxid                zab.Zxid
	gone                bool
	czxid, mzxid, pzxid zab.Zxid
	version, aversion   int32
	changes             int32 // of the list of children: Stat.Cversion
	owner               zab.SessionID
	data                []byte
	acl                 []wire.ACL
	children            int32
	names               uint64 // sum of the hashes of the children's names
}

type refSession struct {
	opened, closed zab.Zxid
	xid            int32 // of the last change
	owned          map[string]bool
}

var nameSeed = maphash.MakeSeed() // sums are only compared with each other

func nameHash(name string) uint64 { return maphash.String(nameSeed, name) }

func (f *reference) init(s *sim) {
	*f = reference{
		s: s, nodes: map[string]*refNode{}, sessions: map[zab.SessionID]*refSession{},
		issued: map[requestID]*operation{}, done: map[requestID]zab.Zxid{},
		quotas: map[string]*refQuota{},
	}
	f.nodes["/"] = &refNode{states: []refState{{children: 1, names: nameHash("zookeeper")}}, suffix: -1}
	f.nodes["/zookeeper"] = &refNode{states: []refState{{children: 2, names: nameHash("config") + nameHash("quota"), acl: wire.OpenACL()}}, suffix: -1}
	f.nodes[quotaRoot] = &refNode{states: []refState{{acl: wire.OpenACL()}}, suffix: -1}
}

// tell notes an event of the transaction that is being applied.
func (f *reference) tell(z zab.Zxid, typ wire.EventType, path string, acl []wire.ACL) {
	n := f.nodes[path]
	if n == nil {
		n = &refNode{suffix: -1}
		f.nodes[path] = n
	}
	n.events = append(n.events, len(f.events))
	f.events = append(f.events, refEvent{z, typ, path, acl})
}

// at returns the state of a path at a zxid; nil if there is none.
func (f *reference) at(path string, z zab.Zxid) *refState {
	n := f.nodes[path]
	if n == nil {
		return nil
	}
	i := sort.Search(len(n.states), func(i int) bool { return n.states[i].zxid > z }) - 1
	if i < 0 || n.states[i].gone {
		return nil
	}
	return &n.states[i]
}

// now returns the newest state of a path, nil if there is no such znode.
func (f *reference) now(path string) *refState {
	n := f.nodes[path]
	if n == nil || len(n.states) == 0 {
		return nil
	}
	if st := &n.states[len(n.states)-1]; !st.gone {
		return st
	}
	return nil
}

// change begins a new state of a znode, or goes on with the one of this zxid.
func (f *reference) change(path string, z zab.Zxid) *refState {
	n := f.nodes[path]
	if n == nil {
		n = &refNode{suffix: -1}
		f.nodes[path] = n
	}
	if k := len(n.states); k > 0 {
		if n.states[k-1].zxid == z {
			return &n.states[k-1]
		}
		n.states = append(n.states, n.states[k-1])
	} else {
		n.states = append(n.states, refState{})
	}
	st := &n.states[len(n.states)-1]
	st.zxid = z
	return st
}

func splitPath(path string) (parent, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 1)], path[i+1:]
}

// apply takes the next committed transaction.
func (f *reference) apply(r *record) {
	h := &r.txn.Header
	id := requestID{h.Session, h.Cxid}
	o := f.issued[id]
	if h.Cxid != 0 {
		if o == nil {
			f.s.fail("S3", "%v is a request %d of session %v, which was never made", h.Zxid, h.Cxid, h.Session)
			return
		}
		if was := f.done[id]; was != 0 {
			f.s.fail("S3", "%v is request %d of session %v, which was committed as %v already", h.Zxid, h.Cxid, h.Session, was)
			return
		}
		f.done[id] = h.Zxid
	}
	ss := f.sessions[h.Session]
	f.s.checks.safe(3, 21, 30)
	switch h.Type {
	case wire.OpFailed:
		f.refused(h.Zxid, r.judged, wire.Code(r.txn.Body.(*wire.IntRecord).Value), o)
		return
	case wire.OpCreateSession:
		if ss != nil {
			f.s.fail("S21", "%v creates session %v, which %v has created", h.Zxid, h.Session, ss.opened)
			return
		}
		f.sessions[h.Session] = &refSession{opened: h.Zxid, owned: map[string]bool{}}
		return
	case wire.OpCloseSession:
		f.closeSession(h, ss)
		return
	case wire.OpReconfig:
		f.tell(h.Zxid, wire.EventNodeDataChanged, "/zookeeper/config", nil)
		return
	}
	m, multi := r.txn.Body.(*wire.MultiTxn)
	if multi {
		if _, at := m.Failed(); at >= 0 {
			return // one that was refused, also because its session has moved or ended
		}
	}
	if h.Session != 0 && (ss == nil || ss.closed != 0) {
		f.s.fail("S21", "%v is a change by session %v, which is not open", h.Zxid, h.Session)
		return
	}
	if ss != nil {
		if h.Cxid < ss.xid {
			f.s.fail("S30", "%v (%v) is request %d of session %v, behind request %d: it came over a connection that the session has left", h.Zxid, h.Type, h.Cxid, h.Session, ss.xid)
			return
		}
		ss.xid = h.Cxid
	}
	if multi {
		f.s.checks.safe(25)
		for i, sub := range m.Txns {
			var body wire.Record
			if o != nil {
				body = o.req.body.(*wire.MultiRequest).Ops[i].Record
			}
			f.one(h, r.judged, sub.Type, sub.Body, body, o, ss)
		}
		return
	}
	var body wire.Record
	if o != nil {
		body = o.req.body
	}
	f.one(h, r.judged, h.Type, r.txn.Body, body, o, ss)
}

// one applies one change; req is what the client asked for, alone or in the multi o.
func (f *reference) one(h *wire.TxnHeader, judged zab.Zxid, op wire.Op, body, req wire.Record, o *operation, ss *refSession) {
	z := h.Zxid
	f.s.checks.safe(24)
	if !f.permits(z, judged, body, o) {
		return
	}
	switch b := body.(type) {
	case *wire.CreateTxn:
		parent, name := splitPath(b.Path)
		p := f.now(parent)
		if p == nil || f.now(b.Path) != nil || p.owner != 0 {
			f.s.fail("S24", "%v creates %s, whose parent is missing or ephemeral, or which exists", z, b.Path)
			return
		}
		if cr, ok := req.(*wire.CreateRequest); ok && cr.Mode.IsSequential() {
			f.sequence(z, parent, b.Path, cr.Path)
		}
		p = f.change(parent, z)
		p.pzxid, p.children, p.changes = z, p.children+1, p.changes+1
		p.names += nameHash(name)
		n := f.change(b.Path, z)
		*n = refState{zxid: z, czxid: z, mzxid: z, pzxid: z, data: b.Data, acl: b.ACL}
		f.tell(z, wire.EventNodeCreated, b.Path, b.ACL)
		f.tell(z, wire.EventNodeChildrenChanged, parent, f.now(parent).acl)
		f.uses(z, b.Path, int64(len(b.Data)), 1)
		f.limit(z, b.Path, b.Data)
		if b.Ephemeral {
			n.owner = h.Session
			ss.owned[b.Path] = true
		}
	case *wire.PathRecord:
		f.remove(z, b.Path)
	case *wire.SetDataTxn:
		n := f.now(b.Path)
		if n == nil {
			f.s.fail("S24", "%v writes to %s, which does not exist", z, b.Path)
			return
		}
		if b.Version != n.version+1 {
			f.s.fail("S24", "%v sets version %d of %s behind %d", z, b.Version, b.Path, n.version)
			return
		}
		f.uses(z, b.Path, int64(len(b.Data)-len(n.data)), 0)
		n = f.change(b.Path, z)
		n.version, n.mzxid, n.data = b.Version, z, b.Data
		f.tell(z, wire.EventNodeDataChanged, b.Path, n.acl)
		f.limit(z, b.Path, b.Data)
	case *wire.SetACLTxn:
		n := f.change(b.Path, z)
		n.aversion, n.acl = b.Version, b.ACL
	case *wire.PathVersion:
	default:
		f.s.fail("S3", "%v has a change of type %v that nobody asked for", z, op)
	}
}

// sequence checks that the number in a sequential name is larger than all before
// below the same znode (S24).
func (f *reference) sequence(z zab.Zxid, parent, path, asked string) {
	num, err := strconv.ParseInt(strings.TrimPrefix(path, asked), 10, 64)
	n := f.nodes[parent]
	if err != nil || num <= n.suffix {
		f.s.fail("S24", "%v makes %s from %s, the number before was %d", z, path, asked, n.suffix)
		return
	}
	n.suffix = num
}

func (f *reference) remove(z zab.Zxid, path string) {
	n := f.now(path)
	if n == nil || n.children > 0 {
		f.s.fail("S24", "%v deletes %s, which does not exist or has children", z, path)
		return
	}
	owner, acl := n.owner, n.acl
	f.uses(z, path, -int64(len(n.data)), -1)
	n = f.change(path, z)
	*n = refState{zxid: z, gone: true}
	f.nodes[path].suffix = -1
	if owner != 0 {
		delete(f.sessions[owner].owned, path)
	}
	parent, name := splitPath(path)
	p := f.change(parent, z)
	p.pzxid, p.children, p.changes = z, p.children-1, p.changes+1
	p.names -= nameHash(name)
	f.tell(z, wire.EventNodeDeleted, path, acl)
	f.tell(z, wire.EventNodeChildrenChanged, parent, p.acl)
}

func (f *reference) closeSession(h *wire.TxnHeader, ss *refSession) {
	if ss == nil || ss.closed != 0 {
		return // the close of a client and that of the expiry may cross
	}
	ss.closed = h.Zxid
	paths := make([]string, 0, len(ss.owned))
	for path := range ss.owned {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		f.remove(h.Zxid, path)
	}
}

// issued notes an operation of a client.
func (c *checker) issued(_ *client, o *operation) {
	if o.req.op.IsWrite() {
		c.ref.issued[requestID{o.req.session, o.req.xid}] = o
	}
}

func (c *checker) sessionOpened(cl *client, id zab.SessionID) {
	if ss := c.ref.sessions[id]; ss == nil {
		c.s.fail("S21", "client %d was given session %v, whose creation is not committed", cl.idx, id)
	}
}

func (c *checker) sessionLost(*client) { c.s.stats.SessionsLost++ }

// replied compares an answer with the truth at its zxid (S27, S28).
func (c *checker) replied(cl *client, o *operation, r *reply) {
	c.s.stats.Replies++
	c.s.checks.safe(27, 28)
	if r.zxid < cl.lastZxid {
		c.s.fail("S27", "client %d sees %v after %v", cl.idx, r.zxid, cl.lastZxid)
		return
	}
	if z := c.last().zxid; r.zxid > z {
		c.s.fail("S28", "client %d is answered at %v, committed is %v", cl.idx, r.zxid, z)
		return
	}
	if !o.req.op.IsWrite() {
		if o.req.op == wire.OpSync {
			c.s.stats.Syncs++
		}
		if r.zxid < o.fresh {
			c.s.fail("S28", "client %d reads at %v behind a sync, %v was done before the sync", cl.idx, r.zxid, o.fresh)
			return
		}
		if o.req.op != wire.OpSetWatches2 {
			c.watchOrder(cl, r.zxid)
			c.watched(cl, o, r)
		} else {
			// A znode that was made and deleted meanwhile is not told of.
			c.watched(cl, o, r)
			c.watchOrder(cl, r.zxid)
		}
		c.read(cl, o, r)
		return
	}
	c.watchOrder(cl, r.zxid)
	c.s.stats.Writes++
	rec := c.recs[r.zxid]
	if rec == nil || rec.depth >= len(c.committed) || c.committed[rec.depth] != rec ||
		rec.txn.Header.Session != o.req.session || rec.txn.Header.Cxid != o.req.xid {
		c.s.fail("S28", "client %d: request %d is answered with %v, which is not its transaction", cl.idx, o.req.xid, r.zxid)
		return
	}
	if r.zxid <= o.floor {
		c.s.fail("S28", "client %d: a write got %v, but %v was done before it was asked for", cl.idx, r.zxid, o.floor)
		return
	}
	c.returned = max(c.returned, r.zxid)
	c.written(cl, o, r, rec)
}

// written checks the result of a write.
func (c *checker) written(cl *client, o *operation, r *reply, rec *record) {
	failed := rec.txn.Header.Type == wire.OpFailed
	if failed != (r.err != wire.OK) || failed && int32(r.err) != rec.txn.Body.(*wire.IntRecord).Value {
		c.s.fail("S28", "client %d: %v is answered with %v", cl.idx, r.zxid, r.err)
		return
	}
	if failed {
		return
	}
	switch r.op {
	case wire.OpCreate, wire.OpCreate2, wire.OpSetData:
		st := c.ref.at(r.path, r.zxid)
		if st == nil {
			c.s.fail("S28", "client %d: %v %s is answered at %v, where there is no such znode", cl.idx, r.op, r.path, r.zxid)
			return
		}
		c.compare(cl, r.path, &r.stat, st, r.zxid)
	}
}

// compare checks a stat.
func (c *checker) compare(cl *client, path string, got *wire.Stat, st *refState, z zab.Zxid) {
	if got.Czxid != st.czxid || got.Mzxid != st.mzxid || got.Pzxid != st.pzxid || got.Version != st.version || got.Aversion != st.aversion ||
		got.Cversion != st.changes || got.EphemeralOwner != st.owner || int(got.DataLength) != len(st.data) || got.NumChildren != st.children {
		c.s.fail("S28", "client %d: %s at %v is %+v, must be %+v", cl.idx, path, z, *got, *st)
	}
}

// read checks the result of a read.
func (c *checker) read(cl *client, o *operation, r *reply) {
	b, ok := o.req.body.(*wire.PathWatch)
	if !ok {
		return
	}
	c.s.stats.Reads++
	st := c.ref.at(b.Path, r.zxid)
	if st != nil && !mayDo(st.acl, wire.PermRead, cl.ids) {
		c.s.checks.safe(26)
		c.s.probe("read refused by an ACL")
		if r.err != wire.ErrNoAuth {
			c.s.fail("S26", "client %d: %v %s at %v is answered with %v, its ACL is %v", cl.idx, r.op, b.Path, r.zxid, r.err, st.acl)
		}
		return
	}
	if (st == nil) != (r.err == wire.ErrNoNode) || st != nil && r.err != wire.OK {
		c.s.fail("S28", "client %d: %v %s at %v is answered with %v", cl.idx, r.op, b.Path, r.zxid, r.err)
		return
	}
	if st != nil {
		if b.Path != "/" {
			c.compare(cl, b.Path, &r.stat, st, r.zxid)
		}
		if r.op == wire.OpGetData && !bytes.Equal(r.data, st.data) {
			c.s.fail("S28", "client %d: %s at %v has other data", cl.idx, b.Path, r.zxid)
		}
		if r.op == wire.OpGetChildren2 {
			sum := uint64(0)
			for _, name := range r.children {
				sum += nameHash(name)
			}
			if sum != st.names || int32(len(r.children)) != st.children {
				c.s.fail("S28", "client %d: %s at %v has children %v, must be %d", cl.idx, b.Path, r.zxid, r.children, st.children)
			}
		}
	}
	if b.Watch {
		kind := watchData
		switch {
		case r.op == wire.OpGetChildren2:
			kind = watchChild
		case r.op == wire.OpExists && st == nil:
			kind = watchExist
		}
		had := slices.ContainsFunc(cl.watches, func(w clientWatch) bool { return w.path == b.Path && w.kind == kind })
		if !had && (st != nil || r.op == wire.OpExists) {
			c.s.stats.Watches++
			cl.watches = append(cl.watches, clientWatch{b.Path, kind, r.zxid})
		}
	}
}

// whole compares a tree with the reference at the tree's zxid.
func (c *checker) whole(v *server, t *znode.Tree) {
	z := t.LastZxid()
	c.s.checks.safe(14, 22, 26)
	count := 0
	for _, path := range slices.Sorted(keys(c.ref.nodes)) {
		if len(c.ref.nodes[path].states) == 0 {
			continue // known for its events only
		}
		st := c.ref.at(path, z)
		got, code := t.Exists(path, super)
		if (st == nil) != (code == wire.ErrNoNode) {
			c.s.fail("S22", "server %d: %s at %v: %v, by the transactions it is %+v", v.id, path, z, code, st)
			return
		}
		if st == nil {
			continue
		}
		count++
		if !c.secondOpinion(v, t, path, st) {
			return
		}
		if path != "/" && path != "/zookeeper" && (got.Version != st.version || got.Czxid != st.czxid || got.Mzxid != st.mzxid || got.Pzxid != st.pzxid || got.EphemeralOwner != st.owner || got.NumChildren != st.children) {
			c.s.fail("S14", "server %d: %s at %v is %+v, must be %+v", v.id, path, z, got, *st)
			return
		}
	}
	if n := t.NodeCount() - 2; n != count { // the root counts twice, and there is /zookeeper/config
		c.s.fail("S14", "server %d: %d znodes at %v, must be %d", v.id, n, z, count)
		return
	}
	open := 0
	for id, ss := range c.ref.sessions {
		if ss.opened <= z && (ss.closed == 0 || ss.closed > z) {
			if open++; t.SessionCount() < open {
				break
			}
			if _, ok := t.SessionTimeout(id); !ok {
				c.s.fail("S21", "server %d: session %v is missing at %v", v.id, id, z)
				return
			}
		}
	}
	if n := t.SessionCount(); n != open {
		c.s.fail("S21", "server %d: %d sessions at %v, must be %d", v.id, n, z, open)
	}
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
