package zabtest

import (
	"encoding/binary"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/session"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// serving is what a server does for clients, as leader and as learner. What does
// not outlive a role is new whenever the server serves again.
type serving struct {
	on bool
	outliving

	// Of all.
	syncs   fifo[*request] // sent to the leader
	barrier []barrier      // syncs that the leader has answered

	// Of a learner.
	touched  []zab.SessionID
	revalids fifo[*clientConn]

	// Of a leader.
	prep     *znode.Prep
	tracker  *session.Tracker
	owners   map[zab.SessionID]zab.ServerID
	heard    map[zab.SessionID]heard // of the checker (S23)
	queued   []*request              // not proposed yet
	token    uint64
	confirms fifo[confirm]
	lastLoop zab.Millis
	// sentCommit is the last commit that went out: the own disk may lag behind.
	sentCommit zab.Zxid
	ids        *session.IDs
}

// outliving is what goes over from one role to the next: clients that wait, and what
// they wait for.
type outliving struct {
	conns   []*clientConn
	watches *watch.Manager[*clientConn]
	waiting fifo[*request] // writes of this server's clients that are not applied, oldest first
	tail    []tailTxn
	shut    int // counts the ends of serving
}

// heard is when the leader last heard of a session.
type heard struct{ at, timeout int64 }

// barrier is a sync whose answer waits until this server has applied a zxid.
type barrier struct {
	zxid zab.Zxid
	req  *request
}

// confirm is a sync that waits for proof that the leader leads.
type confirm struct {
	token uint64
	conn  *peerConn // nil: of this server
	req   *request
}

// A request is a client's operation, or one of the server's own.
type request struct {
	conn    *clientConn // at the server that the client is connected to; nil: its own
	session zab.SessionID
	xid     int32
	op      wire.Op
	body    wire.Record
	ids     []wire.ID    // who the client is
	origin  zab.ServerID // the server that the client is connected to
	done    bool

	epoch     zab.Epoch // in which it was proposed, or sent to the leader, last; 0: not yet
	zxid      zab.Zxid  // of its transaction, if it was proposed here
	overtaken bool      // its session has done something over another server since
}

func (v *server) wallMs() int64 {
	return int64(v.s.now/millisecond) + v.clock.wallMs + 1_700_000_000_000
}

// startServing begins the work for clients, with a tree that holds everything
// committed that this server has.
func (v *server) startServing() {
	v.serving = serving{on: true, outliving: v.serving.outliving, ids: session.NewIDs(v.id, v.wallMs())}
	g := &v.serving
	if g.watches == nil {
		g.watches = watch.New[*clientConn]()
	}
	if v.shown.role == zab.Leading {
		v.startLeading()
	}
	for _, r := range v.unanswered() {
		v.s.probe("submitted again")
		r.zxid = 0
		v.submit(r)
	}
	for _, k := range slices.Clone(g.conns) {
		k.goOn()
	}
}

// startLeading begins the work of a leader.
func (v *server) startLeading() {
	g := &v.serving
	now := int64(v.now())
	g.prep = znode.NewPrep(v.tree)
	g.tracker = session.NewTracker(int64(v.s.p.tick))
	g.owners = map[zab.SessionID]zab.ServerID{}
	g.heard = map[zab.SessionID]heard{}
	g.lastLoop = v.now()
	for _, st := range v.tree.Sessions() {
		g.tracker.Add(st.ID, st.TimeoutMs, now)
		g.heard[st.ID] = heard{now, int64(st.TimeoutMs)}
	}
	v.s.check.leads(v)
}

// stopServing ends it. The clients wait with their connections open; after a while
// they must look for another server.
func (v *server) stopServing() {
	v.serving = serving{outliving: v.serving.outliving}
	v.serving.shut++
	n := v.serving.shut
	v.after(v.s.p.grace, func() {
		if !v.serving.on && v.serving.shut == n {
			v.s.probe("clients sent away")
			v.dropClients(true)
		}
	})
}

// misled drops the clients that were told, or would have been, what a leader began
// with that did not get a quorum for it.
func (v *server) misled() {
	for _, k := range slices.Clone(v.serving.conns) {
		if k.gated {
			v.s.probe("client of a failed synchronization")
			k.drop(true)
		}
	}
}

// dropClients ends all connections of clients; told says whether they learn it.
func (v *server) dropClients(told bool) {
	conns := v.serving.conns
	v.serving.conns = nil
	for _, c := range conns {
		c.drop(told)
	}
}

// apply delivers a committed transaction to the tree.
func (v *server) apply(p zab.Proposal) {
	rec := v.s.check.applyTo(v, v.tree, p)
	if rec == nil {
		return
	}
	v.s.check.applied(v, rec)
	g := &v.serving
	if g.prep != nil {
		g.prep.Applied(p.Zxid)
	}
	v.fire(p.Zxid)
	v.answer(rec)
	if rec.txn.Header.Type == wire.OpCloseSession {
		v.sessionClosed(rec.txn.Header.Session)
	}
	for len(g.barrier) > 0 && g.barrier[0].zxid <= p.Zxid {
		v.synced(g.barrier[0].req)
		g.barrier = g.barrier[1:]
	}
}

// fire tells watchers of what was applied.
func (v *server) fire(zxid zab.Zxid) {
	if v.serving.watches == nil {
		return
	}
	for i := range v.result.Events {
		e := &v.result.Events[i]
		for _, c := range v.serving.watches.Fire(e.Type, e.Path, nil) {
			if !v.tree.Allowed(e.ACL, wire.PermRead, c.c.ids) && !v.s.mutant.tellAll {
				v.s.probe("event withheld")
				continue
			}
			c.toClient(reply{event: true, zxid: zxid, typ: e.Type, path: e.Path})
		}
	}
}

// answer replies to the request behind a transaction, if it came from here.
func (v *server) answer(rec *record) {
	h := &rec.txn.Header
	r := v.match(rec)
	if r == nil || r.conn == nil {
		return
	}
	r.done = true
	if r.op == wire.OpCreateSession {
		r.conn.established(r.session, h.Zxid)
		return
	}
	res := &v.result
	rep := reply{xid: r.xid, op: r.op, zxid: h.Zxid, err: res.Err, stat: res.Stat, path: res.Path}
	if r.op == wire.OpMulti {
		if h.Type == wire.OpMulti {
			rep.multi = slices.Clone(res.Multi)
		} else {
			rep.err = res.Err
		}
	}
	r.conn.complete(r, rep)
}

// sessionClosed forgets a session everywhere at this server.
func (v *server) sessionClosed(id zab.SessionID) {
	g := &v.serving
	g.take(func(r *request) bool { return r.session == id })
	if g.tracker != nil {
		g.tracker.Remove(id)
		delete(g.owners, id)
		delete(g.heard, id)
	}
	for _, c := range slices.Clone(g.conns) {
		if c.session == id {
			c.drop(true)
		}
	}
}

// submit brings a write of this server's client on its way.
func (v *server) submit(r *request) {
	r.origin, r.epoch = v.id, v.shown.epoch
	v.serving.waiting.push(r)
	if v.shown.leads() {
		v.propose(r)
		return
	}
	if c := v.leaderConn(); c != nil {
		c.link.send(c.side, packet{kind: packetRequest, fwd: r}, 0)
	}
}

func (v *server) leaderConn() *peerConn {
	for _, c := range v.conns {
		if c.side == 0 && c.peer.id == v.shown.leader {
			return c
		}
	}
	return nil
}

// propose queues a request at the leader; what comes at one moment, and sometimes
// a little later, goes into one proposal of several transactions.
func (v *server) propose(r *request) {
	g := &v.serving
	g.queued = append(g.queued, r)
	if len(g.queued) > 1 {
		return
	}
	wait := usec(0)
	if v.s.p.batch > 0 {
		wait = usec(v.rand.Int64N(int64(v.s.p.batch)))
	}
	v.after(wait, func() {
		if v.shown.leads() && v.serving.on && v.serving.prep == g.prep {
			v.prepare()
		}
	})
}

func (v *server) prepare() {
	g := &v.serving
	queued := g.queued
	g.queued = nil
	if g.prep == nil {
		return
	}
	zxid := v.node.NextZxid()
	var ps []zab.Proposal
	for _, r := range queued {
		ps = append(ps, v.transaction(r, zxid))
		zxid = zxid.Next()
	}
	if len(ps) == 0 {
		return
	}
	v.s.spring(v, ps[0].Zxid)
	v.s.check.proposing(v, ps)
	v.step(zab.Message{Type: zab.MsgPropose, Proposals: ps})
}

// proposeList proposes another list of servers.
func (v *server) proposeList(list *zab.Ensemble) {
	zxid := v.node.NextZxid()
	list.Version = int64(zxid)
	txn := wire.Txn{
		Header: wire.TxnHeader{Zxid: zxid, TimeMs: v.wallMs(), Type: wire.OpReconfig},
		Body:   &wire.SetDataTxn{Path: "/zookeeper/config", Data: []byte(list.String()), Version: -1},
	}
	ps := []zab.Proposal{{Zxid: zxid, Data: txn.Append(nil), Ensemble: list}}
	v.s.check.proposing(v, ps)
	v.step(zab.Message{Type: zab.MsgPropose, Proposals: ps})
}

// transaction judges a request.
func (v *server) transaction(r *request, zxid zab.Zxid) zab.Proposal {
	g := &v.serving
	req := znode.Request{Session: r.session, Cxid: r.xid, Op: r.op, Body: r.body, IDs: r.ids}
	now := int64(v.now())
	switch r.op {
	case wire.OpCreateSession:
		timeout := r.body.(*wire.IntRecord).Value
		g.tracker.Add(r.session, timeout, now)
		g.owners[r.session] = r.origin
		g.heard[r.session] = heard{now, int64(timeout)}
	case wire.OpCloseSession:
		g.tracker.Close(r.session)
	default:
		v.touch(r.session, 0)
		if owner, ok := g.owners[r.session]; !ok || r.session == 0 {
			g.owners[r.session] = r.origin
		} else if owner != r.origin && !v.s.mutant.anyOwner {
			v.s.probe("session moved")
			req.Refuse = wire.ErrSessionMoved
		}
	}
	if r.origin == v.id {
		r.zxid = zxid
	}
	var txn wire.Txn
	g.prep.Prepare(&req, zxid, v.wallMs(), &txn)
	return zab.Proposal{Zxid: zxid, Data: txn.Append(nil)}
}

// touch notes at the leader that a session was heard of.
func (v *server) touch(id zab.SessionID, timeoutMs int64) {
	g := &v.serving
	if g.tracker == nil || !g.tracker.Touch(id, int64(v.now())) {
		return
	}
	h := g.heard[id]
	h.at = int64(v.now())
	if timeoutMs > 0 {
		h.timeout = timeoutMs
	}
	g.heard[id] = h
}

// expire closes the sessions that were not heard of in time. A leader that was
// stopped meanwhile gives all of them a new start (rule R25).
func (v *server) expire() {
	g := &v.serving
	if !v.shown.leads() || g.tracker == nil {
		return
	}
	now := v.now()
	gap := now - g.lastLoop
	g.lastLoop = now
	if gap > 2*v.s.p.tick && !v.s.mutant.ignorePause {
		v.s.probe("leader was paused")
		for _, st := range v.tree.Sessions() {
			v.touch(st.ID, 0)
		}
	}
	for _, id := range g.tracker.Expire(int64(now), nil) {
		v.s.probe("session expired")
		v.s.check.expiring(v, id)
		v.propose(&request{session: id, op: wire.OpCloseSession, origin: v.id})
	}
}

// Touches travel with the answers to pings: 8 bytes for each session.
func (v *server) touches() []byte {
	var b []byte
	for _, id := range v.serving.touched {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	v.serving.touched = v.serving.touched[:0]
	return b
}

func (v *server) touchAll(c *peerConn, b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		v.touch(zab.SessionID(binary.BigEndian.Uint64(b)), 0)
	}
}

// receiveDriver takes what the drivers say to each other.
func (v *server) receiveDriver(c *peerConn, p *packet) {
	g := &v.serving
	switch p.kind {
	case packetRequest:
		if v.shown.leads() && g.prep != nil {
			v.propose(p.fwd)
		}
	case packetRevalidate:
		ok := v.revalidate(p.sess, c.peer.id)
		c.link.send(c.side, packet{kind: packetRevalidated, sess: p.sess, ok: ok}, 0)
	case packetRevalidated:
		if g.revalids.len() > 0 {
			g.revalids.pop().revalidated(p.sess, p.ok)
		}
	case packetSync:
		v.confirm(c, p.fwd)
	case packetSynced:
		if g.syncs.len() == 0 {
			return
		}
		// The leader's commits came before, but they may wait for this disk.
		v.syncAnswered(g.syncs.pop(), c.lastCommit)
	}
}

func (v *server) revalidate(id zab.SessionID, by zab.ServerID) bool {
	g := &v.serving
	v.prepare() // what came before is judged by who had the session then
	if g.tracker == nil || !g.tracker.Alive(id) {
		return false
	}
	v.touch(id, 0)
	g.owners[id] = by
	return true
}

// sync begins a sync of this server's client.
func (v *server) sync(r *request) {
	if v.shown.leads() {
		v.confirm(nil, r)
		return
	}
	if c := v.leaderConn(); c != nil {
		v.serving.syncs.push(r)
		c.link.send(c.side, packet{kind: packetSync, fwd: r}, 0)
	}
}

// confirm asks at the leader for proof that it leads now (rule R26).
func (v *server) confirm(c *peerConn, r *request) {
	g := &v.serving
	if !v.shown.leads() || !g.on {
		return
	}
	g.token++
	g.confirms.push(confirm{g.token, c, r})
	if v.s.mutant.noConfirm {
		v.confirmed(g.token)
		return
	}
	v.step(zab.Message{Type: zab.MsgConfirm, Token: g.token})
}

func (v *server) confirmed(token uint64) {
	g := &v.serving
	for g.confirms.len() > 0 && g.confirms.first().token <= token {
		q := g.confirms.pop()
		v.s.probe("confirmed")
		if q.conn == nil {
			v.syncAnswered(q.req, max(v.tree.LastZxid(), g.sentCommit))
			continue
		}
		if v.connOf(q.conn.link.id) != nil {
			q.conn.link.send(q.conn.side, packet{kind: packetSynced, fwd: q.req}, 0)
		}
	}
}

// syncAnswered answers a sync once this server has applied zxid.
func (v *server) syncAnswered(r *request, zxid zab.Zxid) {
	if v.tree.LastZxid() >= zxid {
		v.synced(r)
		return
	}
	v.s.probe("sync waits for the disk")
	v.serving.barrier = append(v.serving.barrier, barrier{zxid, r})
}

func (v *server) synced(r *request) {
	r.done = true
	r.conn.complete(r, reply{xid: r.xid, op: r.op, zxid: v.tree.LastZxid()})
}

// forgetLink drops what waited for a link.
func (v *server) forgetLink(c *peerConn) {
	if c.side == 0 {
		v.serving.syncs.clear()
		v.serving.revalids.clear()
	}
}
