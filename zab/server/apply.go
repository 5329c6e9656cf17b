package server

import (
	"fmt"
	"slices"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A barrier is a request that is not a transaction, and is answered when the tree
// has one: a connection that took up a session, or a sync.
type barrier struct {
	r    *request
	zxid zab.Zxid
	// token, unless 0, asks for proof that this server leads after r came: a round of
	// the quorum, or a later transaction that was committed.
	token uint64
}

// maxHeldTxns bounds how long readers wait for the applier.
const maxHeldTxns = 64

// apply delivers committed transactions to the tree and answers the requests of
// this server's clients.
func (s *Server) apply(committed []zab.Proposal) error {
	for len(committed) > 0 || len(s.due) > 0 || s.barrierIsDown(0) {
		n := min(len(committed), maxHeldTxns)
		s.applyAt = s.nanos()
		s.treeMu.Lock()
		s.answerDue(0)
		for _, p := range committed[:n] {
			if err := s.applyOne(p); err != nil {
				s.treeMu.Unlock()
				return err
			}
		}
		s.treeMu.Unlock()
		if s.differsAt != 0 {
			s.digestDiffers.warn(s, "", "tree digest differs from the transaction's", "zxid", s.differsAt)
			s.differsAt = 0
		}
		committed = committed[n:]
		s.flushDirty()
	}
	return nil
}

// applyOne applies one transaction: that of the next request in the pipeline, or
// one that came from elsewhere.
func (s *Server) applyOne(p zab.Proposal) error {
	if s.member != nil {
		s.answerDue(p.Zxid) // before match looks at what is first
	}
	var r *request
	var txn *wire.Txn
	if s.inflight.len() > 0 && s.inflight.first().txn.Header.Zxid <= p.Zxid {
		r = s.inflight.pop()
		if r.txn.Header.Zxid != p.Zxid {
			panic(fmt.Sprintf("zab/server: committed %v, but %v is next in the pipeline", p.Zxid, r.txn.Header.Zxid))
		}
		txn = &r.txn
	} else {
		var err error
		if txn, err = s.decoder.Decode(p.Data); err != nil {
			return fmt.Errorf("committed transaction %v: %w", p.Zxid, err)
		}
		if r = s.match(txn); r != nil {
			r.txn = *txn
		}
	}
	s.tree.Apply(txn, &s.result)
	if s.prep != nil {
		s.prep.Applied(p.Zxid)
	}
	s.fire(p.Zxid)
	if txn.Header.Type == wire.OpCloseSession && s.result.Err == wire.OK {
		s.dropSession(txn.Header.Session, r)
	}
	if r != nil {
		s.complete(r)
	}
	s.answerDue(0)
	return nil
}

// barrierIsDown reports whether the first barrier can be answered; next is the
// transaction that is about to be applied, or 0.
func (s *Server) barrierIsDown(next zab.Zxid) bool {
	if len(s.barriers) == 0 {
		return false
	}
	b := &s.barriers[0]
	return b.zxid <= s.tree.LastZxid() && (b.token <= s.confirmed || b.zxid < next)
}

// answerDue answers what waits for nothing any more. The caller holds treeMu.
func (s *Server) answerDue(next zab.Zxid) {
	for s.barrierIsDown(next) {
		s.due = append(s.due, s.barriers[0].r)
		s.barriers[0] = barrier{}
		if s.barriers = s.barriers[1:]; len(s.barriers) == 0 {
			s.barriers = nil
		}
	}
	for i := 0; i < len(s.due); i++ { // it may grow meanwhile
		if r := s.due[i]; r != nil { // not given up
			s.due[i] = nil
			s.complete(r)
		}
	}
	s.due = s.due[:0]
}

// flushAtOnce is to how many connections one goroutine writes.
const flushAtOnce = 16

// flushDirty writes what was made for the clients. With little to do the driver
// does that itself. It does not while requests wait, which could go into the next
// sync meanwhile; then goroutines do, each for some connections, since to start one
// for each costs about as much again as to write.
func (s *Server) flushDirty() {
	if s.held.Load() {
		for _, c := range s.dirty {
			s.member.holdBack(c)
		}
	} else {
		s.inMu.Lock()
		self := len(s.inbox) == 0 && len(s.dirty) <= flushAtOnce
		s.inMu.Unlock()
		if self {
			tryFlush(s.dirty)
		} else {
			for some := range slices.Chunk(s.dirty, flushAtOnce) {
				go tryFlush(slices.Clone(some))
			}
		}
	}
	for _, c := range s.dirty {
		c.dirty = false // only the driver looks at it
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
}

// tryFlush writes what the sockets of some connections take.
func tryFlush(conns []*conn) {
	for _, c := range conns {
		c.tryFlush()
	}
}

// fire queues the watch events of the transaction that was just applied.
func (s *Server) fire(zxid zab.Zxid) {
	if s.result.DigestMismatch {
		s.stats.DigestMismatches.Add(1)
		s.differsAt = zxid
	}
	for i := range s.result.Events {
		e := &s.result.Events[i]
		s.watchMu.Lock()
		s.fired = s.watches.Fire(e.Type, e.Path, s.fired[:0])
		s.watchMu.Unlock()
		if len(s.fired) == 0 {
			continue
		}
		we := wire.WatcherEvent{Type: e.Type, State: wire.StateSyncConnected, Path: e.Path}
		for _, c := range s.fired {
			if !s.tree.Allowed(e.ACL, wire.PermRead, *c.ids.Load()) {
				s.stats.EventsFiltered.Add(1)
				continue
			}
			c.mu.Lock()
			if !c.closed {
				c.eventLocked(&we, zxid)
				s.touchLocked(c)
			}
			c.mu.Unlock()
		}
		clear(s.fired)
	}
}

// touchLocked remembers that c has output. A goroutine that is in flush already
// takes it along, unless output is held back.
func (s *Server) touchLocked(c *conn) {
	if !c.dirty && (!c.writing || s.held.Load()) {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// complete answers a request, and the reads of the same connection that waited
// behind it. The caller holds treeMu.
func (s *Server) complete(r *request) {
	s.outstanding.Add(-1)
	c := r.conn
	if c == nil {
		if r.origin == nil {
			if s.ownUnderWay--; s.own.len() > 0 {
				s.wakeUp()
			}
		}
		r.free()
		return
	}
	if s.member != nil {
		s.member.strike(r)
	}
	c.mu.Lock()
	s.answerLocked(c, r)
	bytes := s.answerBehindLocked(c, r)
	s.touchLocked(c)
	wake := c.queue.len() <= c.roomAt
	c.mu.Unlock()
	s.outstandingBytes.Add(-int64(bytes))
	if wake {
		c.gotRoom()
	}
	r.free()
}

// abandon gives up a request of which nobody knows whether it was done: its client
// learns that by the end of the connection.
func (s *Server) abandon(r *request) {
	s.outstanding.Add(-1)
	c := r.conn
	c.mu.Lock()
	c.closed = true
	bytes := s.answerBehindLocked(c, r)
	c.mu.Unlock()
	s.outstandingBytes.Add(-int64(bytes))
	go c.kill()
	r.free()
}

// answerBehindLocked takes r, the first request in the queue, out of it, and
// answers the reads behind it. It returns the bytes of the requests that are done.
func (s *Server) answerBehindLocked(c *conn, r *request) (bytes int) {
	if head := c.queue.pop(); head != r {
		panic("zab/server: replies out of order")
	}
	bytes = len(r.frame)
	for c.queue.len() > 0 && !c.queue.first().write {
		d := c.queue.pop()
		if !c.closed {
			if d.op == wire.OpAuth {
				c.replyLocked(d.xid, 0, d.code, nil)
			} else {
				c.answerLocked(d.xid, d.op, d.frame, d.prep.IDs)
			}
			s.accountLocked(c, d)
		}
		c.owed -= d.size
		bytes += len(d.frame)
		d.free()
	}
	return bytes
}

// answerLocked appends the reply to a request that the driver answers.
func (s *Server) answerLocked(c *conn, r *request) {
	switch {
	case c.closed:
	case r.takeOver && r.code != wire.OK:
		s.log.Info("refusing unknown or expired session", "peer", c.remote.String(), "session", r.sess.id)
		c.connectReplyLocked(0, 0)
		c.ending = true
	case r.code == wire.ErrSessionMoved:
		s.hangUpLocked(c)
	case r.code != wire.OK:
		c.replyLocked(r.xid, s.tree.LastZxid(), r.code, nil)
		s.accountLocked(c, r)
	case r.op == wire.OpSync:
		c.answerLocked(r.xid, r.op, r.frame, r.prep.IDs)
		s.accountLocked(c, r)
	default:
		s.answerWriteLocked(c, r)
	}
}

// hangUpLocked closes a connection whose session has another one, at another
// server: no reply could help its client (ZOOKEEPER-710).
func (s *Server) hangUpLocked(c *conn) {
	c.closed = true
	go c.kill()
}

// answerWriteLocked appends the reply to a write.
func (s *Server) answerWriteLocked(c *conn, r *request) {
	res, zxid := &s.result, r.txn.Header.Zxid
	if !r.takeOver && s.sessionMoved() {
		s.hangUpLocked(c)
		return
	}
	switch r.op {
	case wire.OpCreateSession:
		if !r.takeOver && res.Err != wire.OK {
			c.connectReplyLocked(0, 0)
			c.ending = true
			return
		}
		c.connectReplyLocked(c.sess.id, time.Duration(r.prep.Body.(*wire.IntRecord).Value)*time.Millisecond)
		return
	case wire.OpCloseSession:
		c.replyLocked(r.xid, zxid, res.Err, nil)
		c.lastWord = true
	case wire.OpCreate:
		c.replyLocked(r.xid, zxid, res.Err, &wire.PathRecord{Path: res.Path})
	case wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		c.replyLocked(r.xid, zxid, res.Err, &wire.CreateResponse{Path: res.Path, Stat: res.Stat})
	case wire.OpReconfig:
		c.replyLocked(r.xid, zxid, res.Err, s.configReply())
	case wire.OpSetData, wire.OpSetACL:
		c.replyLocked(r.xid, zxid, res.Err, &res.Stat)
	case wire.OpMulti:
		if r.txn.Header.Type != wire.OpMulti {
			c.replyLocked(r.xid, zxid, res.Err, nil) // not even a multi: undecodable, or the session is gone
			break
		}
		c.beginLocked()
		h := wire.ReplyHeader{Xid: r.xid, Zxid: zxid}
		c.out = h.Append(c.out)
		for _, m := range res.Multi {
			c.out = wire.AppendMultiResult(c.out, m)
		}
		c.out = wire.AppendMultiEnd(c.out)
		c.endLocked()
	default:
		c.replyLocked(r.xid, zxid, res.Err, nil)
	}
	s.accountLocked(c, r)
}

// sessionMoved reports whether the transaction that was just applied says that its
// session has another connection.
func (s *Server) sessionMoved() bool {
	if s.result.Err == wire.ErrSessionMoved {
		return true
	}
	for i := range s.result.Multi {
		if s.result.Multi[i].Err == wire.ErrSessionMoved {
			return true
		}
	}
	return false
}

// accountLocked notes a request that the driver answered.
func (s *Server) accountLocked(c *conn, r *request) {
	us := max(0, s.applyAt-r.nanos) / 1000
	c.stats.answered(r.op, r.xid, s.tree.LastZxid(), r.nanos, us/1000, 1)
	if r.write {
		s.stats.answered(&s.stats.UpdateMicros, us, 1)
	} else {
		s.stats.answered(&s.stats.ReadMicros, us, 1)
	}
}
