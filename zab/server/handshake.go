package server

import (
	"strings"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/session"
	"github.com/paddockio/paddock/zab/wire"
)

// greet looks at the first bytes of a connection, which may be a four-letter
// word instead of a frame. It reports done when more bytes must come first.
func (c *conn) greet() (done bool, err error) {
	first := c.in[c.start:c.end]
	word := fourLetterWord(string(first[:4]))
	if word == nil {
		if c.looksLikeHTTP(first) {
			return false, badPacket("an HTTP request came on the client port")
		}
		c.greeted = true
		return false, nil
	}
	args, from := first[4:], c.remote.Addr()
	if len(args) < word.argBytes && c.srv.mayRun(word, from) {
		return true, nil // a refusal does not wait for them
	}
	c.start = c.end
	text := c.srv.runWord(word, args[:min(len(args), word.argBytes)], from)
	c.mu.Lock()
	c.out = append(c.out, text...)
	c.mu.Unlock()
	return false, errDone
}

func (c *conn) looksLikeHTTP(b []byte) bool {
	for _, verb := range []string{"GET ", "POST", "HEAD", "PUT "} {
		if strings.HasPrefix(string(b[:4]), verb) {
			return true
		}
	}
	return false
}

// connect handles the first frame: it opens a session or takes one up
// (ZooKeeperServer.processConnectRequest).
func (c *conn) connect(frame []byte) error {
	var r wire.ConnectRequest
	if err := wire.Unmarshal(frame, &r); err != nil {
		return badPacket("connect request: %v", err)
	}
	s := c.srv
	last, err := s.servedZxid(c)
	if err != nil {
		return err
	}
	if r.LastZxidSeen > last {
		// The client knows more than this server: it must not see the past (R21).
		s.log.Info("refusing client that has seen a later zxid", "peer", c.remote.String(), "zxid", r.LastZxidSeen, "last", last)
		return errDone
	}
	c.hasReadOnly = r.HasReadOnly
	timeout := min(max(time.Duration(r.TimeoutMs)*time.Millisecond, s.cfg.MinSessionTimeout), s.cfg.MaxSessionTimeout)
	c.nc.SetReadDeadline(time.Time{})
	if r.SessionID == 0 {
		c.sess = s.openSession(c, timeout)
	} else if c.sess = s.reattach(c, r.SessionID, r.Password, timeout); c.sess == nil {
		s.log.Info("refusing unknown or expired session", "peer", c.remote.String(), "session", r.SessionID)
		c.mu.Lock()
		c.connectReplyLocked(0, 0)
		c.mu.Unlock()
		return errDone
	}
	c.published.Store(c.sess)
	// The answer comes from the driver: when the session is created, or after what
	// its old connection left under way. Every request that the client sends
	// meanwhile waits for it.
	q := newRequest(c, 0, wire.OpCreateSession, nil, s.nanos())
	q.write, q.takeOver = true, r.SessionID != 0
	q.prep.Session, q.prep.Op = c.sess.id, wire.OpCreateSession
	q.timeout.Value = int32(timeout / time.Millisecond)
	q.prep.Body = &q.timeout
	c.mu.Lock()
	c.pushLocked(q)
	c.mu.Unlock()
	c.batch = append(c.batch, q)
	return nil
}

// servedZxid returns the zxid of what clients see here; while there is nothing to
// be seen it waits. Apache's servers show the beginning of an epoch as a zxid,
// which their clients bring along before the first transaction of it.
func (s *Server) servedZxid(c *conn) (zab.Zxid, error) {
	for {
		s.treeMu.RLock()
		last, serves := max(s.tree.LastZxid(), s.reign), s.serves
		s.treeMu.RUnlock()
		if serves {
			return last, nil
		}
		if err := c.waitToServe(); err != nil {
			return 0, err
		}
	}
}

// connectReplyLocked appends the answer to the connect request; id 0 refuses.
func (c *conn) connectReplyLocked(id zab.SessionID, timeout time.Duration) {
	r := wire.ConnectResponse{TimeoutMs: int32(timeout / time.Millisecond), SessionID: id, HasReadOnly: c.hasReadOnly}
	if id != 0 {
		r.Password = session.Password(id)
	}
	c.beginLocked()
	c.out = r.Append(c.out)
	c.endLocked()
}
