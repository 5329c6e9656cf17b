package server

import (
	"context"
	"fmt"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// drive owns the node, the pending state and the order of everything. It returns
// when ctx ends or the disk fails; a failed sync is final, since nobody can say
// what of it is on the disk.
func (s *Server) drive(ctx context.Context) error {
	defer close(s.driven)
	defer close(s.diskIn)
	tick := time.NewTicker(s.tick())
	defer tick.Stop()
	s.lastLoop, s.lastWall = s.nanos(), time.Now().UnixNano()
	s.expireAt, s.purgeAt = s.lastLoop+int64(s.cfg.ContainerInterval), s.lastLoop+int64(s.cfg.PurgeInterval)
	alarm := time.AfterFunc(0, s.wakeUp) // of the node
	defer alarm.Stop()
	if s.member != nil {
		defer s.member.end()
	} else {
		s.closeOrphans()
	}
	err := s.take()
	for err == nil {
		s.arm(alarm)
		// Each timer here would be started and stopped in every round, so what is
		// rare shares one.
		var patience <-chan time.Time
		if s.impatient {
			patience = s.patience.C
		}
		select {
		case <-ctx.Done():
			return s.drain()
		case <-s.wake:
			err = s.take()
		case d := <-s.diskOut:
			err = s.written(d)
		case <-tick.C:
			err = s.ticked()
		case done := <-s.frozen:
			s.thawed(done)
		case <-patience:
			s.sendAway()
		case do := <-s.control:
			do()
		}
	}
	return err
}

// tick is how often the driver looks for what is due.
func (s *Server) tick() time.Duration {
	return max(time.Millisecond, min(s.cfg.TickTime/4, s.cfg.ContainerInterval))
}

// ticked does what is due.
func (s *Server) ticked() error {
	s.noticePause()
	s.expireSessions()
	if s.member != nil {
		s.member.publish()
	}
	if s.isDue(&s.expireAt, s.cfg.ContainerInterval) {
		s.expireZnodes()
	}
	if s.cfg.PurgeInterval > 0 && s.isDue(&s.purgeAt, s.cfg.PurgeInterval) && !s.purging.Swap(true) {
		s.background.Go(func() {
			defer s.purging.Store(false)
			s.purge()
		})
	}
	if err := s.store.Err(); err != nil { // what it noticed beside the syncs
		return err
	}
	return s.take()
}

// isDue reports whether it is at, give or take half a tick, and sets it to the next
// time then.
func (s *Server) isDue(at *int64, every time.Duration) bool {
	if s.lastLoop < *at-int64(s.tick()/2) {
		return false
	}
	*at = s.lastLoop + int64(every)
	return true
}

// arm sets the timer to when the node must be told the time again; take tells it.
func (s *Server) arm(alarm *time.Timer) {
	if s.member == nil {
		return
	}
	if at, now := s.node.Deadline(), s.millis(); at != s.alarmAt || at <= now {
		s.alarmAt = at
		alarm.Reset(time.Duration(at-now) * time.Millisecond)
	}
}

// drain waits for the job of the disk that is under way, and for what is proposed
// already: that will be durable, so it may as well be applied and answered.
func (s *Server) drain() error {
	s.draining = true
	for s.diskBusy {
		if err := s.written(<-s.diskOut); err != nil {
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

// take works on everything that has come: in an ensemble first on what peers have
// sent, then on requests, which wait while the server does not serve.
func (s *Server) take() error {
	if s.member != nil {
		if err := s.member.takeEvents(); err != nil || !s.serves {
			return err
		}
	}
	s.inMu.Lock()
	batch := s.inbox
	s.inbox, s.freeInbox = s.freeInbox, nil
	s.inMu.Unlock()
	own := min(s.own.len(), maxOwn-s.ownUnderWay)
	if len(batch) == 0 && own == 0 {
		return nil
	}
	var err error
	if s.prep != nil {
		err = s.propose(own, batch)
	} else {
		s.member.forward(batch)
		err = s.perform()
	}
	clear(batch)
	s.inMu.Lock()
	s.freeInbox = batch[:0]
	s.inMu.Unlock()
	return err
}

// propose prepares requests, own ones first, and hands the transactions to the
// node.
func (s *Server) propose(own int, batch []*request) error {
	timeMs := time.Now().UnixMilli()
	zxid := s.node.NextZxid()
	s.props = s.props[:0]
	s.ownUnderWay += own
	s.outstanding.Add(int64(own))
	for range own {
		zxid = s.prepare(s.own.pop(), zxid, timeMs)
	}
	for i, r := range batch {
		if r.op == wire.OpReconfig && s.member != nil {
			if again, err := s.member.proposeReconfig(r, timeMs); err != nil || !again {
				s.putBack(batch[i+1:])
				return err
			}
			zxid = s.node.NextZxid()
			continue
		}
		zxid = s.prepare(r, zxid, timeMs)
	}
	return s.submitProposals()
}

// submitProposals gives what was prepared to the node.
func (s *Server) submitProposals() error {
	if len(s.props) > 0 {
		if err := s.node.Step(zab.Message{Type: zab.MsgPropose, Proposals: s.props}); err != nil {
			return err
		}
		s.props = s.props[:0]
	}
	if s.member != nil {
		if err := s.member.askQuorum(); err != nil {
			return err
		}
	}
	return s.perform()
}

// putBack returns requests to the inbox, in front of what has come since.
func (s *Server) putBack(rs []*request) {
	s.inMu.Lock()
	s.inbox = append(append([]*request(nil), rs...), s.inbox...)
	s.inMu.Unlock()
	s.wakeUp()
}

// prepare turns a request into a transaction and returns the next zxid.
func (s *Server) prepare(r *request, zxid zab.Zxid, timeMs int64) zab.Zxid {
	if s.member != nil && !s.member.enlist(r) {
		return zxid
	}
	switch {
	case r.takeOver:
		s.takeOver(r)
		return zxid
	case s.movedAway(r):
		r.prep.BadBody = wire.ErrSessionMoved
	case r.op == wire.OpCloseSession && r.sess != nil:
		s.noteClosing(r.sess)
	}
	if r.sess != nil {
		r.sess.lastZxid = zxid
	}
	s.prep.Prepare(&r.prep, zxid, timeMs, &r.txn)
	data := s.encodeTxn(r)
	if s.member != nil {
		s.member.sizes.record(len(data))
	}
	s.props = append(s.props, zab.Proposal{Zxid: zxid, Data: data})
	s.inflight.push(r)
	return zxid.Next()
}

// historyChunk is the size of the pieces of memory that hold the transactions
// which a leader keeps for its learners.
const historyChunk = 64 << 10

// encodeTxn appends the transaction to the batch that is being collected. In an
// ensemble the bytes stay where they are; a server alone uses them again.
func (s *Server) encodeTxn(r *request) []byte {
	if need := len(r.frame) + 512; s.member != nil && cap(s.encode)-len(s.encode) < need {
		s.encode = make([]byte, 0, max(historyChunk, need))
	}
	at := len(s.encode)
	s.encode = r.txn.Append(s.encode)
	return s.encode[at:len(s.encode):len(s.encode)]
}

// takeOver answers a connection that took up a session once the writes that the
// session left under way are applied.
func (s *Server) takeOver(r *request) {
	if z := r.sess.lastZxid; z > s.tree.LastZxid() {
		s.barriers = append(s.barriers, barrier{r: r, zxid: z})
	} else {
		s.due = append(s.due, r)
	}
}

// perform starts what the node wants done.
func (s *Server) perform() error {
	rd := s.node.Ready()
	if s.member != nil {
		return s.member.perform(rd)
	}
	s.toLog = append(s.toLog, rd.Append...)
	s.startDisk()
	err := s.apply(rd.Committed)
	s.node.Advance()
	return err
}

// expireZnodes proposes the removal of unused containers and TTL znodes.
func (s *Server) expireZnodes() {
	if s.prep == nil {
		return // the leader does
	}
	limit := int(float64(s.cfg.MaxContainersPerMinute) * s.cfg.ContainerInterval.Minutes())
	for _, path := range s.tree.Expired(time.Now().UnixMilli(), max(1, limit)) {
		r := newRequest(nil, 0, wire.OpDeleteContainer, nil, s.nanos())
		r.write = true
		r.prep = znode.Request{Op: wire.OpDeleteContainer, Body: &wire.PathRecord{Path: path}}
		s.own.push(r)
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
