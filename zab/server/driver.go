package server

import (
	"context"
	"fmt"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A logBatch is what one sync makes durable.
type logBatch struct {
	entries []zab.Proposal
	roll    bool // begin a new file first: a snapshot covers the old one
}

type logDone struct {
	last     zab.Zxid
	snapshot bool // enough was logged since the last one
	err      error
}

// writeLog is the log writer: the only goroutine that touches the txn log.
func (s *Server) writeLog() {
	for b := range s.logIn {
		began := time.Now()
		err := s.append(b)
		took := time.Since(began)
		s.stats.Syncs.Add(1)
		s.stats.SyncNanos.Add(int64(took))
		s.stats.Batched.Add(int64(len(b.entries)))
		if took > fsyncWarning {
			s.stats.SlowSyncs.Add(1)
			s.log.Warn("slow sync of the transaction log", "took", took, "entries", len(b.entries))
		}
		s.logOut <- logDone{b.entries[len(b.entries)-1].Zxid, s.store.ShouldSnapshot(), err}
	}
}

func (s *Server) append(b logBatch) error {
	if b.roll {
		if err := s.store.Roll(); err != nil {
			return err
		}
	}
	for _, p := range b.entries {
		if err := s.store.Append(p.Data, p.Zxid); err != nil {
			return err
		}
	}
	return s.store.Sync()
}

// drive owns the node, the pending state and the order of everything. It returns
// when ctx ends or the disk fails; a failed sync is final, since nobody can say
// what of it is on the disk.
func (s *Server) drive(ctx context.Context) error {
	defer close(s.driven)
	defer close(s.logIn)
	tick := time.NewTicker(max(time.Millisecond, s.cfg.TickTime/4))
	defer tick.Stop()
	containers := time.NewTicker(s.cfg.ContainerInterval)
	defer containers.Stop()
	s.lastLoop, s.lastWall = s.nanos(), time.Now().UnixNano()
	s.closeOrphans()
	if err := s.take(); err != nil {
		return err
	}
	var purge <-chan time.Time
	if s.cfg.PurgeInterval > 0 {
		t := time.NewTicker(s.cfg.PurgeInterval)
		defer t.Stop()
		purge = t.C
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return s.drain()
		case <-s.wake:
			err = s.take()
		case d := <-s.logOut:
			err = s.logged(d)
		case <-tick.C:
			s.noticePause()
			s.expireSessions()
			if err = s.store.Err(); err == nil { // what it noticed beside the syncs
				err = s.take()
			}
		case <-containers.C:
			s.expireZnodes()
			err = s.take()
		case err := <-s.snapshotEnd:
			s.snapshotDone(err)
		case <-purge:
			if !s.purging.Swap(true) {
				s.background.Go(func() {
					defer s.purging.Store(false)
					s.purge()
				})
			}
		case do := <-s.control:
			do()
		}
		if err != nil {
			return err
		}
	}
}

// drain waits for the sync that is under way, and for what is proposed already:
// that will be durable, so it may as well be applied and answered.
func (s *Server) drain() error {
	s.draining = true
	for s.logBusy {
		if err := s.logged(<-s.logOut); err != nil {
			return err
		}
	}
	return nil
}

// noticePause gives every session a new timeout after the process was stopped
// (rule R25). While the whole machine sleeps only the wall clock goes on; that it
// is set forward now and then does no harm here.
func (s *Server) noticePause() {
	now, wall := s.nanos(), time.Now().UnixNano()
	gap := max(now-s.lastLoop, wall-s.lastWall)
	s.lastLoop, s.lastWall = now, wall
	if gap <= int64(s.cfg.MinSessionTimeout)/2 {
		return
	}
	s.log.Warn("this process was stopped for a while: sessions start their timeout again", "took", time.Duration(gap))
	s.sessMu.Lock()
	s.resumedAt = now
	s.sessMu.Unlock()
}

// maxOwn is how many of the server's own requests are in the pipeline at once:
// when thousands of sessions expire together, writes of clients go in between.
const maxOwn = 256

// take prepares everything that waits in the inbox and proposes it.
func (s *Server) take() error {
	s.inMu.Lock()
	batch := s.inbox
	s.inbox, s.freeInbox = s.freeInbox, nil
	s.inMu.Unlock()
	own := min(s.own.len(), maxOwn-s.ownUnderWay)
	if len(batch) == 0 && own == 0 {
		return nil
	}
	timeMs := time.Now().UnixMilli()
	zxid := s.node.NextZxid()
	s.props = s.props[:0]
	s.ownUnderWay += own
	s.outstanding.Add(int64(own))
	for range own {
		zxid = s.prepare(s.own.pop(), zxid, timeMs)
	}
	for _, r := range batch {
		zxid = s.prepare(r, zxid, timeMs)
	}
	clear(batch)
	s.inMu.Lock()
	s.freeInbox = batch[:0]
	s.inMu.Unlock()
	if err := s.node.Step(zab.Message{Type: zab.MsgPropose, Proposals: s.props}); err != nil {
		return err
	}
	return s.perform()
}

// prepare turns a request into a transaction and returns the next zxid.
func (s *Server) prepare(r *request, zxid zab.Zxid, timeMs int64) zab.Zxid {
	switch {
	case r.takeOver:
		if r.sess.underWay == 0 {
			s.takenOver = append(s.takenOver, r)
		} else {
			s.inflight.push(r)
		}
		return zxid
	case r.movedAway():
		r.prep.BadBody = wire.ErrSessionMoved
	case r.op == wire.OpCloseSession:
		s.noteClosing(r.sess)
	}
	if r.sess != nil {
		r.sess.underWay++
	}
	s.prep.Prepare(&r.prep, zxid, timeMs, &r.txn)
	at := len(s.encode)
	s.encode = r.txn.Append(s.encode)
	s.props = append(s.props, zab.Proposal{Zxid: zxid, Data: s.encode[at:len(s.encode):len(s.encode)]})
	s.inflight.push(r)
	return zxid.Next()
}

// perform starts what the node wants done.
func (s *Server) perform() error {
	rd := s.node.Ready()
	s.toLog = append(s.toLog, rd.Append...)
	s.startLog()
	s.apply(rd.Committed)
	s.node.Advance()
	return nil
}

// maxIdleBatch bounds the buffer that is kept after an unusually large batch.
const maxIdleBatch = 4 << 20

// startLog gives the collected entries to the log writer if it is idle.
func (s *Server) startLog() {
	if s.logBusy || len(s.toLog) == 0 {
		return
	}
	b := logBatch{entries: s.toLog, roll: s.roll}
	s.roll = false
	s.logBusy = true
	s.logIn <- b
	// The two buffers change places: the writer reads the one while the next batch
	// is encoded into the other.
	s.toLog, s.toLogOld = s.toLogOld[:0], s.toLog
	s.encode, s.encodeOld = s.encodeOld[:0], s.encode
	if cap(s.encode) > maxIdleBatch {
		s.encode = nil
	}
}

// logged takes the end of a sync.
func (s *Server) logged(d logDone) error {
	s.logBusy = false
	if d.err != nil {
		return fmt.Errorf("transaction log: %w", d.err)
	}
	if err := s.node.Step(zab.Message{Type: zab.MsgAppended, Zxid: d.last}); err != nil {
		return err
	}
	if d.snapshot && !s.snapshots && !s.draining {
		s.beginSnapshot(nil)
	}
	// Start the next sync before the replies of this one are made.
	s.startLog()
	return s.perform()
}

// maxHeldTxns bounds how long readers wait for the applier.
const maxHeldTxns = 64

// apply delivers committed transactions to the tree and answers their requests.
func (s *Server) apply(committed []zab.Proposal) {
	for len(committed) > 0 || len(s.takenOver) > 0 {
		n := min(len(committed), maxHeldTxns)
		s.applyAt = s.nanos()
		s.treeMu.Lock()
		s.answerTakeOvers()
		for _, p := range committed[:n] {
			r := s.inflight.pop()
			if r.txn.Header.Zxid != p.Zxid {
				panic(fmt.Sprintf("zab/server: committed %v, but %v is next in the pipeline", p.Zxid, r.txn.Header.Zxid))
			}
			s.tree.Apply(&r.txn, &s.result)
			s.prep.Applied(p.Zxid)
			s.recordDigest(p.Zxid)
			s.fire(p.Zxid)
			s.complete(r)
			for s.inflight.len() > 0 && s.inflight.first().takeOver {
				s.takenOver = append(s.takenOver, s.inflight.pop())
			}
			s.answerTakeOvers()
		}
		s.treeMu.Unlock()
		if s.differsAt != 0 {
			s.digestDiffers.warn(s, "tree digest differs from the transaction's", "zxid", s.differsAt)
			s.differsAt = 0
		}
		committed = committed[n:]
		s.flushDirty()
	}
}

// flushSelf is to how many connections the driver writes itself.
const flushSelf = 16

// flushDirty writes what was made for the clients. With little to do the driver
// does that itself: to start a goroutine for each costs about as much again. It
// does not while requests wait, which could go into the next sync meanwhile.
func (s *Server) flushDirty() {
	s.inMu.Lock()
	self := len(s.inbox) == 0 && len(s.dirty) <= flushSelf
	s.inMu.Unlock()
	for _, c := range s.dirty {
		c.dirty = false // only the driver looks at it
		if self {
			c.tryFlush()
		} else {
			go c.flush()
		}
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
}

// answerTakeOvers answers connections whose session has nothing under way from
// before them.
func (s *Server) answerTakeOvers() {
	for i, r := range s.takenOver {
		s.complete(r)
		s.takenOver[i] = nil
	}
	s.takenOver = s.takenOver[:0]
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
// takes it along.
func (s *Server) touchLocked(c *conn) {
	if !c.writing && !c.dirty {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// complete answers a request whose transaction was applied, and the reads of the
// same connection that waited behind it. The caller holds treeMu.
func (s *Server) complete(r *request) {
	s.outstanding.Add(-1)
	c := r.conn
	if r.sess != nil && !r.takeOver {
		r.sess.underWay--
	}
	if r.op == wire.OpCloseSession && s.result.Err == wire.OK {
		s.dropSession(r.prep.Session, c)
	}
	if c == nil {
		r.free()
		if s.ownUnderWay--; s.own.len() > 0 {
			s.wakeUp()
		}
		return
	}
	c.mu.Lock()
	if head := c.queue.pop(); head != r {
		panic("zab/server: replies out of order")
	}
	bytes := len(r.frame)
	s.answerWriteLocked(c, r)
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
	s.touchLocked(c)
	wake := c.queue.len() <= c.roomAt
	c.mu.Unlock()
	s.outstandingBytes.Add(-int64(bytes))
	if wake {
		c.gotRoom()
	}
	r.free()
}

// answerWriteLocked appends the reply to a write.
func (s *Server) answerWriteLocked(c *conn, r *request) {
	if c.closed {
		return
	}
	res, zxid := &s.result, r.txn.Header.Zxid
	switch r.op {
	case wire.OpCreateSession:
		c.connectReplyLocked(c.sess.id, time.Duration(r.prep.Body.(*wire.IntRecord).Value)*time.Millisecond)
		return
	case wire.OpCloseSession:
		c.replyLocked(r.xid, zxid, res.Err, nil)
		c.lastWord = true
	case wire.OpCreate:
		c.replyLocked(r.xid, zxid, res.Err, &wire.PathRecord{Path: res.Path})
	case wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		c.replyLocked(r.xid, zxid, res.Err, &wire.CreateResponse{Path: res.Path, Stat: res.Stat})
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

// expireZnodes proposes the removal of unused containers and TTL znodes.
func (s *Server) expireZnodes() {
	limit := int(float64(s.cfg.MaxContainersPerMinute) * s.cfg.ContainerInterval.Minutes())
	for _, path := range s.tree.Expired(time.Now().UnixMilli(), max(1, limit)) {
		r := newRequest(nil, 0, wire.OpDeleteContainer, nil, s.nanos())
		r.write = true
		r.prep = znode.Request{Op: wire.OpDeleteContainer, Body: &wire.PathRecord{Path: path}}
		s.own.push(r)
	}
}

// beginSnapshot freezes the tree at the last applied transaction and writes it
// from a goroutine of its own, which calls then, if not nil. It runs in the
// driver.
func (s *Server) beginSnapshot(then func(file string, err error)) {
	s.snapshots, s.roll = true, true
	s.treeMu.Lock()
	frozen := s.tree.Freeze()
	s.treeMu.Unlock()
	s.background.Go(func() {
		began := time.Now()
		path, size, err := s.store.WriteSnapshot(frozen, s.treeMu.RLocker())
		if err == nil {
			s.lastSnapshot.Store(&SnapshotTime{frozen.Zxid, began})
			s.stats.SnapshotNanos.Add(int64(time.Since(began)))
			s.log.Info("snapshot written", "file", path, "bytes", size, "zxid", frozen.Zxid, "took", time.Since(began))
			if s.cfg.PurgeInterval == 0 {
				s.purge()
			}
		}
		s.snapshotEnd <- err
		if then != nil {
			then(path, err)
		}
	})
}

// snapshotDone takes the end of a snapshot. A failure is not fatal: the log has
// everything.
func (s *Server) snapshotDone(err error) {
	s.snapshots = false
	if err != nil {
		s.stats.SnapshotErrors.Add(1)
		s.log.Error("snapshot not written: recovery will take longer, old logs are kept", "err", err)
		return
	}
	s.stats.Snapshots.Add(1)
}

func (s *Server) purge() {
	gone, err := s.store.Purge(s.cfg.SnapRetain)
	if err != nil {
		s.log.Warn("purge", "err", err)
	} else if len(gone) > 0 {
		s.log.Info("old files removed", "count", len(gone))
	}
}

// inDriver runs do in the driver and waits for it.
func (s *Server) inDriver(ctx context.Context, do func()) error {
	finished := make(chan struct{})
	select {
	case s.control <- func() { do(); close(finished) }:
		<-finished
		return nil
	case <-s.done:
		return fmt.Errorf("server does not serve")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
