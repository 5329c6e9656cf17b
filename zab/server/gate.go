package server

import (
	"net"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
)

// A gate keeps clients of an ensemble's server waiting, with their connections
// open, while it has no leader or is one that is not established. It is open all
// the time in a server alone.
//
// Whether reads are answered is Server.serves, under treeMu, which the driver
// changes together with the gate; the gate is for who must wait.
type gate struct {
	mu       sync.Mutex // a leaf
	open     bool
	refusing bool          // it was shut for so long that clients are sent away
	changed  chan struct{} // closed when one of the two changes
}

func newGate(open bool) *gate { return &gate{open: open, changed: make(chan struct{})} }

func (g *gate) set(open, refusing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == open && g.refusing == refusing {
		return
	}
	g.open, g.refusing = open, refusing
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait returns when the gate is open, or why the connection has to end.
func (g *gate) wait(ended <-chan struct{}) error {
	for {
		g.mu.Lock()
		open, refusing, changed := g.open, g.refusing, g.changed
		g.mu.Unlock()
		switch {
		case open:
			return nil
		case refusing:
			return errDone
		}
		select {
		case <-changed:
		case <-ended:
			return net.ErrClosed
		}
	}
}

// waitToServe waits at the gate. Nothing is read from the client meanwhile, and
// that is not its fault.
func (c *conn) waitToServe() error {
	c.away.Store(true)
	defer c.away.Store(false)
	return c.srv.gate.wait(c.done)
}

// shut stops reads and the writing of replies. It runs in the driver.
func (s *Server) shut() {
	s.treeMu.Lock()
	s.serves = false
	s.treeMu.Unlock()
	s.held.Store(true)
	s.gate.set(false, false)
	s.patience.Reset(s.cfg.ElectionGrace)
	s.impatient = true
}

// unshut lets reads and replies go on, in the epoch of a leader.
func (s *Server) unshut(e zab.Epoch) {
	s.patience.Stop()
	s.impatient = false
	s.treeMu.Lock()
	s.serves, s.reign = true, zab.NewZxid(e, 0)
	s.treeMu.Unlock()
	s.held.Store(false)
	s.gate.set(true, false)
	for _, c := range s.connections() {
		c.mu.Lock()
		has := len(c.out) > 0
		c.mu.Unlock()
		if has {
			go c.flush()
		}
	}
}

// sendAway closes the connections of all clients, and new ones when they come,
// until the server serves again: another server may be reachable for them.
func (s *Server) sendAway() {
	s.impatient = false
	s.gate.set(false, true)
	if n := s.closeClients(); n > 0 {
		s.log.Info("no leader for too long: connections of clients closed", "count", n, "took", s.cfg.ElectionGrace)
	}
}

// closeClients closes every connection that has a session. What they have asked for
// counts as abandoned from now on.
func (s *Server) closeClients() (n int) {
	for _, c := range s.connections() {
		if c.published.Load() != nil {
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
			go c.kill()
			n++
		}
	}
	return n
}

// minElectionGrace is enough for an election and the synchronization of a small
// difference.
const minElectionGrace = 500 * time.Millisecond
