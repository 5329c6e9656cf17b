package server

import (
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/session"
	"github.com/paddockio/paddock/zab/wire"
)

// sessionState is a client's session as this server tracks it. Whether it lives
// is decided by when its connection last received bytes, not by what was
// processed since: an overloaded server must not expire its clients.
type sessionState struct {
	id    zab.SessionID
	heard atomic.Int64 // nanos

	// Guarded by Server.sessMu; conn may be looked at without it.
	timeout time.Duration
	conn    atomic.Pointer[conn] // that has the session, if any
	closing bool                 // a closeSession is in the pipeline

	// Owned by the driver.
	lastZxid zab.Zxid // of the last transaction that this server proposed for it
	// owner is the learner that the session is connected to, as this leader knows it:
	// NoServer if it is this server or nobody has claimed it yet.
	owner zab.ServerID
	// pending are its requests from connections of this server that are not answered,
	// in their order; not used in a server alone.
	pending fifo
}

func newSession(id zab.SessionID, timeout time.Duration) *sessionState {
	return &sessionState{id: id, timeout: timeout, owner: zab.NoServer}
}

// trackSessions takes over the sessions of the tree, each with its full timeout
// from now (rule R20). Nobody else expires them: this server leads.
func (s *Server) trackSessions() {
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	s.tracker = session.NewTracker(s.cfg.TickTime.Milliseconds())
	now := s.nanos()
	for _, t := range s.tree.Sessions() {
		st := s.sessions[t.ID]
		if st == nil {
			st = newSession(t.ID, time.Duration(t.TimeoutMs)*time.Millisecond)
		}
		s.trackLocked(st, now)
	}
	for id, st := range s.sessions {
		st.closing, st.owner = false, zab.NoServer
		if !s.tracker.Alive(id) && st.conn.Load() == nil && st.pending.len() == 0 {
			delete(s.sessions, id)
		}
	}
}

// untrackSessions forgets the sessions of others: their leader knows them.
func (s *Server) untrackSessions() {
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	s.tracker = nil
	for id, st := range s.sessions {
		if st.conn.Load() == nil && st.pending.len() == 0 {
			delete(s.sessions, id)
		}
	}
}

// trackLocked enters a session. A learner tracks none: it tells its leader whom it
// has heard of.
func (s *Server) trackLocked(st *sessionState, now int64) {
	st.heard.Store(now)
	s.sessions[st.id] = st
	if s.tracker != nil {
		s.tracker.Add(st.id, int32(st.timeout.Milliseconds()), now/1e6)
	}
}

// closeOrphans proposes to close the sessions that own ephemerals and do not
// exist, which only a broken snapshot of another server can hold: their znodes
// go by a transaction, the same on every server.
func (s *Server) closeOrphans() {
	for _, id := range s.tree.Orphans() {
		s.log.Warn("ephemeral znodes of a session that does not exist are removed", "session", id)
		s.proposeClose(newSession(id, 0))
	}
}

// proposeClose queues a closeSession of the server's own.
func (s *Server) proposeClose(st *sessionState) {
	r := newRequest(nil, 0, wire.OpCloseSession, nil, s.nanos())
	r.write, r.sess = true, st
	r.prep.Session, r.prep.Op = st.id, wire.OpCloseSession
	s.own.push(r)
}

// openSession begins a session for c; its creation still has to be committed.
func (s *Server) openSession(c *conn, timeout time.Duration) *sessionState {
	st := newSession(0, timeout)
	st.conn.Store(c)
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	// The clock may have gone back since the sessions of an earlier run began.
	for st.id == 0 || s.sessions[st.id] != nil {
		st.id = s.sessionIDs.Next()
	}
	s.trackLocked(st, s.nanos())
	s.stats.SessionsCreated.Add(1)
	return st
}

// reattach moves a session to c and closes the connection that had it, whose
// writes are refused from here on. It returns nil if the session is not known,
// closing, or the password is wrong.
// (Apache closes the old connection before it looks at the password, which lets
// anybody disturb a session whose id he knows.)
func (s *Server) reattach(c *conn, id zab.SessionID, password []byte, timeout time.Duration) *sessionState {
	if !session.CheckPassword(id, password) {
		return nil
	}
	s.sessMu.Lock()
	st := s.sessions[id]
	if st == nil && s.member != nil {
		// The leader knows; the answer will say. That may be this server itself, but not
		// before the driver gets to it.
		st = newSession(id, timeout)
		s.sessions[id] = st
	} else if st == nil || st.closing {
		s.sessMu.Unlock()
		return nil
	}
	old := st.conn.Swap(c)
	st.timeout = timeout
	now := s.nanos()
	st.heard.Store(now)
	if s.tracker != nil && s.tracker.Alive(id) {
		s.tracker.Add(id, int32(timeout.Milliseconds()), now/1e6)
	}
	s.sessMu.Unlock()
	s.stats.SessionsReattached.Add(1)
	if old != nil {
		old.kill()
	}
	return st
}

// expireSessions closes the sessions that were not heard of in time. It runs in
// the driver.
func (s *Server) expireSessions() {
	if s.prep == nil {
		return // not the leader
	}
	now := s.nanos()
	var due []*sessionState
	s.sessMu.Lock()
	for _, id := range s.tracker.Expire(now/1e6, s.lastHeardLocked) {
		if st := s.sessions[id]; st != nil && !st.closing {
			st.closing = true
			due = append(due, st)
		}
	}
	s.sessMu.Unlock()
	for _, st := range due {
		if len(due) <= 10 {
			s.log.Info("session expired", "session", st.id, "timeout", st.timeout)
		}
		s.stats.SessionsExpired.Add(1)
		s.proposeClose(st)
	}
	if len(due) > 10 {
		s.log.Info("sessions expired", "count", len(due))
	}
}

// lastHeardLocked tells the tracker when a session was last heard of, in ms.
func (s *Server) lastHeardLocked(id zab.SessionID) int64 {
	st := s.sessions[id]
	if st == nil {
		return 0
	}
	// After this process was stopped for a while the bytes of the clients may
	// still wait in their sockets: everybody gets a full timeout (rule R25).
	heard := max(st.heard.Load(), s.resumedAt)
	if c := st.conn.Load(); c != nil && c.away.Load() {
		// The same if the server does not read at the moment, because of what the
		// client has under way; or as long as it takes replies.
		if at := c.writingSince.Load(); at != 0 {
			heard = max(heard, at)
		} else {
			heard = s.nanos()
		}
	}
	return heard / 1e6
}

// dropSession forgets a session whose closeSession was applied. The connection
// that asked for it, by r, gets its reply first; any other is closed now.
func (s *Server) dropSession(id zab.SessionID, r *request) {
	s.sessMu.Lock()
	st := s.sessions[id]
	var c *conn
	if st != nil {
		c = st.conn.Load()
		delete(s.sessions, id)
		if s.tracker != nil {
			s.tracker.Remove(id)
		}
	}
	s.sessMu.Unlock()
	if c != nil && (r == nil || r.conn != c) {
		go c.kill() // takes c.mu, which the caller may hold for another connection
	}
	if st != nil && s.prep == nil {
		s.member.abandonPending(st, r)
	}
}

// movedAway reports whether the session of a request has another connection now:
// what comes late over the old one must not be done after what came over the new
// one (rule R21). At a leader the connection may be that of a learner.
func (s *Server) movedAway(r *request) bool {
	st := r.sess
	if st == nil || r.op == wire.OpCreateSession || r.conn == nil && r.origin == nil {
		return false
	}
	c := st.conn.Load()
	switch {
	case r.conn != nil:
		return c != r.conn && (c != nil || st.owner != zab.NoServer)
	case c != nil:
		return true
	case st.owner == zab.NoServer:
		st.owner = r.origin.Peer()
	}
	return st.owner != r.origin.Peer()
}

// noteClosing marks the session of a closeSession: from here on it cannot be
// taken up or expire. Prep refuses what it still sends.
func (s *Server) noteClosing(st *sessionState) {
	s.sessMu.Lock()
	st.closing = true
	if s.tracker != nil {
		s.tracker.Close(st.id)
	}
	s.sessMu.Unlock()
}
