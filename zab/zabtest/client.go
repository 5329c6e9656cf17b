package zabtest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A client has one session at a time and one connection at a time, to any server.
type client struct {
	s    *sim
	idx  int
	host int
	rand *rand.Rand

	conn     *clientConn
	session  zab.SessionID
	timeout  int32 // ms
	lastZxid zab.Zxid
	xid      int32
	inflight fifo[*operation]
	heard    usec
	said     usec
	thinking bool
	quiet    bool  // issues nothing more
	silent   bool  // for a while, also without pings
	order    []int // in which it tries the servers
	tries    int
	watches  []clientWatch
	lasting  []lastingWatch
	told     told
	ids      []wire.ID
	ops      int
}

// operation is a request as the client knows it.
type operation struct {
	req    *request
	path   string
	called usec
	floor  zab.Zxid // the largest zxid that any client had seen of a finished write
	fresh  zab.Zxid // of a read behind a sync: the floor of the sync
}

// reply is what a server sends to a client.
type reply struct {
	event    bool
	xid      int32
	op       wire.Op
	zxid     zab.Zxid
	err      wire.Code
	path     string
	typ      wire.EventType
	stat     wire.Stat
	data     []byte
	children []string
	multi    []wire.MultiResult
}

// clientConn is a connection of the client port.
type clientConn struct {
	c       *client
	v       *server
	boot    int
	openC   bool // as far as the client knows
	live    bool // the client was told that it has its session
	openS   bool // as far as the server knows
	session zab.SessionID
	ready   bool
	taking  bool // waits for the leader's word on its session
	gated   bool // something came for it while the server did not serve
	held    []func()
	queue   fifo[*queued]
	up      pipe // to the server
	down    pipe
}

// queued is a request at the server that was not answered.
type queued struct {
	r    *request
	rep  reply
	sent bool
	done bool
}

// pipe carries things one way, in order.
type pipe struct {
	s        *sim
	from, to int
	items    fifo[piped]
	last     usec
	armed    bool
}

type piped struct {
	at usec
	do func()
}

func (p *pipe) send(do func()) {
	at := max(p.s.now+p.s.net.delay(p.from, p.to), p.last)
	p.last = at
	p.items.push(piped{at, do})
	p.arm(at)
}

func (p *pipe) arm(at usec) {
	if p.armed || p.items.len() == 0 {
		return
	}
	p.armed = true
	p.s.at(max(at, p.items.first().at), p.arrive)
}

func (p *pipe) arrive() {
	p.armed = false
	if p.items.len() == 0 || !p.s.net.reaches(clientPort, p.from, p.to) {
		return
	}
	it := p.items.pop()
	p.arm(p.s.now)
	it.do()
}

// kick lets what waited for a cut between two hosts go on.
func (k *clientConn) kick(a, b int) {
	for _, p := range []*pipe{&k.up, &k.down} {
		if p.from == a && p.to == b {
			p.arm(p.s.now + p.s.net.delay(a, b))
		}
	}
}

// begin starts the life of a client.
func (c *client) begin() {
	c.heard = c.s.now
	c.connect()
	c.beat()
}

// beat is the client's timer: pings, and the end of a connection that is silent.
func (c *client) beat() {
	third := usec(c.timeout) * millisecond / 3
	c.s.at(c.s.now+third/2, func() {
		switch {
		case c.silent:
		case c.conn == nil:
			c.connect()
		case c.s.now-c.heard > 2*third:
			c.disconnect()
			c.connect()
		case c.s.now-c.said > third && c.conn.live:
			c.send(func(k *clientConn) { k.ping() })
		}
		c.beat()
	})
}

func (c *client) connect() {
	if c.conn != nil {
		return
	}
	if c.tries%len(c.s.servers) == 0 {
		c.order = c.rand.Perm(len(c.s.servers))
	}
	v := c.s.servers[c.order[c.tries%len(c.order)]]
	c.tries++
	if !v.up || !c.s.net.reaches(clientPort, c.host, v.idx) {
		return // refused, or nobody answers; the next beat tries another
	}
	k := &clientConn{c: c, v: v, boot: v.boot, openC: true, openS: true}
	k.up = pipe{s: c.s, from: c.host, to: v.idx}
	k.down = pipe{s: c.s, from: v.idx, to: c.host}
	c.conn, c.heard = k, c.s.now
	session, last, timeout := c.session, c.lastZxid, c.timeout
	c.send(func(k *clientConn) { k.hello(session, last, timeout) })
}

// send brings something to the server's process.
func (c *client) send(do func(*clientConn)) {
	k := c.conn
	c.said = c.s.now
	k.up.send(func() {
		if !k.v.up || k.v.boot != k.boot {
			if k.v.host { // a reset
				k.down.send(func() { k.lostBy(c) })
			}
			return
		}
		k.v.take(k.boot, func() {
			if k.openS {
				do(k)
			}
		})
	})
}

// disconnect is the end of a connection as the client sees it: what was under way
// may or may not have happened.
func (c *client) disconnect() {
	k := c.conn
	if k == nil {
		return
	}
	c.conn = nil
	k.openC = false
	c.inflight.clear()
	k.up.send(func() { k.v.take(k.boot, func() { k.gone() }) })
}

func (k *clientConn) lostBy(c *client) {
	if k.openC && c.conn == k {
		c.conn = nil
		k.openC = false
		c.inflight.clear()
	}
}

// The server's side.

// hello opens or takes up a session.
func (k *clientConn) hello(id zab.SessionID, last zab.Zxid, timeoutMs int32) {
	v := k.v
	if !v.serving.on {
		k.drop(true)
		return
	}
	v.serving.conns = append(v.serving.conns, k)
	if last > v.tree.LastZxid() && !v.s.mutant.anyZxid {
		v.s.probe("client has seen more than the server")
		k.drop(true)
		return
	}
	k.session = id
	k.open(timeoutMs)
}

// open asks the leader for a session, or whether the one of the client lives.
func (k *clientConn) open(timeoutMs int32) {
	v, id := k.v, k.session
	switch {
	case id != 0 && v.s.mutant.noAnswer:
	case id == 0:
		k.session = v.serving.ids.Next()
		v.submit(&request{conn: k, session: k.session, op: wire.OpCreateSession, body: &wire.IntRecord{Value: timeoutMs}})
	case v.shown.leads():
		k.revalidated(id, v.revalidate(id, v.id))
	default:
		k.taking = true
		if c := v.leaderConn(); c != nil {
			v.serving.revalids.push(k)
			c.link.send(c.side, packet{kind: packetRevalidate, sess: id}, 0)
		}
	}
}

func (k *clientConn) revalidated(id zab.SessionID, ok bool) {
	if !k.openS {
		return
	}
	if !ok {
		k.toC(func() { k.c.expired(k, id) })
		k.drop(true)
		return
	}
	for _, other := range slices.Clone(k.v.serving.conns) {
		if other != k && other.session == id {
			other.drop(true)
		}
	}
	k.established(id, 0)
}

func (k *clientConn) established(id zab.SessionID, _ zab.Zxid) {
	if !k.openS {
		return
	}
	k.ready, k.taking = true, false
	k.toC(func() { k.c.connected(k, id) })
}

// toC brings something to the client.
func (k *clientConn) toC(do func()) {
	if !k.v.serving.on {
		k.gated = true
		k.held = append(k.held, do)
		return
	}
	k.down.send(func() {
		if k.openC && k.c.conn == k {
			k.c.heard = k.c.s.now
			do()
		}
	})
}

// goOn is what the server does for a client when it serves again.
func (k *clientConn) goOn() {
	if !k.openS {
		return
	}
	held := k.held
	k.held, k.gated = nil, false
	for _, do := range held {
		k.toC(do)
	}
	if k.taking {
		k.open(0)
	}
	for i := k.queue.head; i < len(k.queue.items); i++ {
		if q := k.queue.items[i]; q.r.op == wire.OpSync && !q.done {
			q.sent = false
		}
	}
	k.flush()
}

func (k *clientConn) toClient(r reply) {
	if k.openS {
		k.toC(func() { k.c.receive(r) })
	}
}

// drop ends the connection at the server.
func (k *clientConn) drop(told bool) {
	if !k.openS {
		return
	}
	k.gone()
	if told {
		k.down.send(func() { k.lostBy(k.c) })
	}
}

func (k *clientConn) gone() {
	if !k.openS {
		return
	}
	k.openS = false
	g := &k.v.serving
	if i := slices.Index(g.conns, k); i >= 0 {
		g.conns = slices.Delete(g.conns, i, i+1)
	}
	if g.watches != nil {
		g.watches.RemoveConn(k)
	}
}

// bytes notes that the client was heard of.
func (k *clientConn) bytes() {
	v := k.v
	if v.shown.leads() {
		v.touch(k.session, 0)
	} else if !slices.Contains(v.serving.touched, k.session) {
		v.serving.touched = append(v.serving.touched, k.session)
	}
}

func (k *clientConn) ping() {
	k.bytes()
	k.toC(func() {})
}

// request takes an operation of the client.
func (k *clientConn) request(r *request) {
	if !k.ready {
		return
	}
	k.bytes()
	r.conn = k
	k.queue.push(&queued{r: r})
	k.forward()
	k.flush()
}

// forward brings requests on their way, up to a sync that is not answered: the
// writes behind it must not be done before it, or their replies would be older
// than what the client has seen meanwhile.
func (k *clientConn) forward() {
	for i := k.queue.head; i < len(k.queue.items) && k.openS && k.v.serving.on; i++ {
		q := k.queue.items[i]
		if q == nil {
			continue // answered meanwhile
		}
		if !q.sent {
			q.sent = true
			switch {
			case q.r.op.IsWrite():
				k.v.submit(q.r)
			case q.r.op == wire.OpSync:
				k.v.sync(q.r)
			}
		}
		if q.r.op == wire.OpSync && !q.done {
			return
		}
	}
}

func (k *clientConn) complete(r *request, rep reply) {
	if !k.openS {
		return
	}
	for i := k.queue.head; i < len(k.queue.items); i++ {
		if q := k.queue.items[i]; q.r == r {
			q.rep, q.done = rep, true
			k.gated = k.gated || !k.v.serving.on
			break
		}
	}
	k.answer(true)
}

// flush answers what is done, in order.
func (k *clientConn) flush() { k.answer(k.v.serving.on) }

// answer does it, with the reads too if reads is set: those behind a write show the
// state right after it, also while the server does not serve and the answers wait.
func (k *clientConn) answer(reads bool) {
	for k.openS && k.queue.len() > 0 {
		q := *k.queue.first()
		if !q.done {
			if q.r.op.IsWrite() || q.r.op == wire.OpSync || !reads {
				return
			}
			q.rep = k.read(q.r)
		} else if q.r.op == wire.OpSync {
			q.rep.zxid = k.v.tree.LastZxid() // writes before it may have been slower
		}
		k.queue.pop()
		k.toClient(q.rep)
	}
	k.forward()
}

// read answers from the tree, and registers the watch in one step with it.
func (k *clientConn) read(r *request) reply {
	v := k.v
	rep := reply{xid: r.xid, op: r.op, zxid: v.tree.LastZxid()}
	switch b := r.body.(type) {
	case *wire.PathWatch:
		rep.path = b.Path
		mode := watch.Data
		switch r.op {
		case wire.OpExists:
			rep.stat, rep.err = v.tree.Exists(b.Path, k.c.ids)
		case wire.OpGetData:
			rep.data, rep.stat, rep.err = v.tree.Get(b.Path, k.c.ids)
		default:
			mode = watch.Child
			rep.children, rep.stat, rep.err = v.tree.Children(b.Path, k.c.ids)
		}
		if b.Watch && (rep.err == wire.OK || r.op == wire.OpExists && rep.err == wire.ErrNoNode) {
			v.serving.watches.Add(k, b.Path, mode)
		}
	case *wire.SetWatches:
		k.setWatches(b)
	case *wire.PathMode:
		if r.op == wire.OpAddWatch {
			v.serving.watches.Add(k, b.Path, lastingModes[b.Mode])
			break
		}
		if modes, _ := watch.ModeOf(b.Mode); !v.serving.watches.Remove(k, b.Path, modes) {
			rep.err = wire.ErrNoWatcher
		}
	}
	return rep
}

// setWatches arms again what the client had elsewhere, or tells it what it missed.
func (k *clientConn) setWatches(b *wire.SetWatches) {
	v := k.v
	v.s.probe("setWatches")
	for _, w := range []struct {
		kind  znode.CatchUpKind
		paths []string
	}{{znode.CatchUpData, b.Data}, {znode.CatchUpExist, b.Exist}, {znode.CatchUpChild, b.Child}} {
		for _, path := range w.paths {
			typ := v.tree.CatchUp(b.RelativeZxid, path, w.kind)
			switch {
			case typ != wire.EventNone:
				v.s.probe("missed event")
				k.toClient(reply{event: true, zxid: v.tree.LastZxid(), typ: typ, path: path})
			case w.kind == znode.CatchUpChild:
				v.serving.watches.Add(k, path, watch.Child)
			default:
				v.serving.watches.Add(k, path, watch.Data)
			}
		}
	}
	for _, path := range b.Persistent {
		v.serving.watches.Add(k, path, watch.Persistent)
	}
	for _, path := range b.PersistentRecursive {
		v.serving.watches.Add(k, path, watch.Recursive)
	}
}

// The client's side.

func (c *client) connected(k *clientConn, id zab.SessionID) {
	k.live = true
	moved := c.session == id
	c.s.event(evClient, nil, uint64(c.idx), uint64(id))
	if c.s.trace != nil {
		c.s.log(k.v, fmt.Sprintf("client %d has", c.idx), id)
	}
	if !moved {
		c.forget()
		c.session = id
		c.s.check.sessionOpened(c, id)
	} else {
		c.s.probe("session taken up")
		if len(c.watches)+len(c.lasting) > 0 {
			c.rewatch()
		}
	}
	c.think()
}

// expired learns that the session has ended.
func (c *client) expired(k *clientConn, id zab.SessionID) {
	c.s.probe("client learns of expiry")
	if c.session == id {
		c.s.check.sessionLost(c)
		c.forget()
	}
	c.lostConn(k)
}

// forget is the end of the session for the client.
func (c *client) forget() { c.session, c.lastZxid, c.watches, c.lasting = 0, 0, nil, nil }

func (c *client) lostConn(k *clientConn) { k.lostBy(c) }

// think plans the next operation.
func (c *client) think() {
	if c.thinking || c.quiet {
		return
	}
	c.thinking = true
	c.s.at(c.s.now+usec(c.rand.ExpFloat64()*float64(c.s.p.think)), func() {
		c.thinking = false
		if c.conn == nil || !c.conn.live || c.quiet || c.silent || c.s.opt.Ops > 0 && c.ops >= c.s.opt.Ops {
			return // connected goes on
		}
		if c.inflight.len() < c.s.p.depth {
			c.act()
		}
		c.think()
	})
}

// issue sends an operation.
func (c *client) issue(op wire.Op, path string, body wire.Record) *operation {
	if c.conn == nil {
		return nil
	}
	c.xid++
	r := &request{session: c.session, xid: c.xid, op: op, body: body, ids: c.ids}
	o := &operation{req: r, path: path, called: c.s.now, floor: c.s.check.returned}
	c.inflight.push(o)
	c.ops++
	c.s.check.issued(c, o)
	c.send(func(k *clientConn) { k.request(r) })
	return o
}

func (c *client) receive(r reply) {
	c.s.event(evReply, nil, uint64(c.idx)<<32|uint64(uint32(r.xid)), uint64(r.zxid))
	if r.event {
		c.s.check.watchEvent(c, &r)
		return
	}
	if c.inflight.len() == 0 || (*c.inflight.first()).req.xid != r.xid {
		c.s.fail("S27", "client %d: reply to %d out of order", c.idx, r.xid)
		return
	}
	o := c.inflight.pop()
	if c.s.trace != nil {
		c.s.log(c.conn.v, fmt.Sprintf("client %d: %v %s", c.idx, r.op, o.path), &r)
	}
	c.s.check.replied(c, o, &r)
	c.lastZxid = max(c.lastZxid, r.zxid)
	switch {
	case r.op == wire.OpCloseSession && r.err == wire.OK:
		c.forget()
		c.disconnect()
	case r.err == wire.ErrSessionExpired:
		c.s.check.sessionLost(c)
		c.forget()
		c.disconnect()
	case r.err == wire.ErrSessionMoved:
		c.disconnect()
	}
}

// rewatch tells a new server of the watches.
func (c *client) rewatch() {
	c.s.check.withheld(c)
	b := &wire.SetWatches{RelativeZxid: c.lastZxid, HasPersistent: true}
	for _, w := range c.watches {
		switch w.kind {
		case watchData:
			b.Data = append(b.Data, w.path)
		case watchExist:
			b.Exist = append(b.Exist, w.path)
		case watchChild:
			b.Child = append(b.Child, w.path)
		}
	}
	for i := range c.lasting {
		w := &c.lasting[i]
		w.resting = true // what happens before the server knows of it is not told
		if w.recursive {
			b.PersistentRecursive = append(b.PersistentRecursive, w.path)
		} else {
			b.Persistent = append(b.Persistent, w.path)
		}
	}
	c.issue(wire.OpSetWatches2, "", b)
}
