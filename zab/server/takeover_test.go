package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
)

// takeUp sends the connect request for a session and other frames behind it.
func (c *rawConn) takeUp(r wire.ConnectResponse, more ...[]byte) {
	c.t.Helper()
	c.send(append([][]byte{connectFrame(r.SessionID, r.TimeoutMs, r.Password[:])}, more...)...)
}

// wantSession reads the answer to a connect request.
func (c *rawConn) wantSession(want wire.ConnectResponse) {
	c.t.Helper()
	var r wire.ConnectResponse
	if err := wire.Unmarshal(c.recv(), &r); err != nil || r.SessionID != want.SessionID {
		c.t.Fatalf("connect response %+v (%v), want session %v", r, err, want.SessionID)
	}
}

func existsReq(xid int32, path string) []byte {
	return req(xid, wire.OpExists, &wire.PathWatch{Path: path})
}

// TestTakeOverShowsWhatWasUnderWay loses a connection with a write under way. A
// client that finds its znode missing after the reconnect makes another one, so
// the znode must not come later.
func TestTakeOverShowsWhatWasUnderWay(t *testing.T) {
	disk, next := slowDisk()
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: "data", FS: disk}}, func(t *testing.T, s *Server) {
		old := pipe(t, s)
		session := old.open()
		next.Store(int64(3 * time.Second))
		old.send(createReq(1, "/mine", ""))
		synctest.Wait()
		began := time.Now()
		c := pipe(t, s)
		c.takeUp(session, existsReq(1, "/mine"), createReq(2, "/second", ""), existsReq(3, "/second"))
		c.wantSession(session)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("taken up after %v, want 3s: when the write is done", took)
		}
		c.wantOK(1, 2, 3)
		old.wantClosed()
	})
}

func TestTakeOverDoesNotWaitForOtherSessions(t *testing.T) {
	disk, next := slowDisk()
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: "data", FS: disk}}, func(t *testing.T, s *Server) {
		old, other := pipe(t, s), pipe(t, s)
		session := old.open()
		other.open()
		next.Store(int64(3 * time.Second))
		other.send(createReq(1, "/other", ""))
		synctest.Wait()
		began := time.Now()
		c := pipe(t, s)
		c.takeUp(session, existsReq(1, "/"))
		c.wantSession(session)
		c.wantOK(1)
		if took := time.Since(began); took != 0 {
			t.Errorf("taken up after %v, want at once", took)
		}
		other.wantOK(1)
	})
}

// TestLateWritesOfAnOldConnectionAreRefused plays a connection whose goroutine is
// scheduled late: what it has read already comes after the take-over.
func TestLateWritesOfAnOldConnectionAreRefused(t *testing.T) {
	for name, late := range map[string]struct {
		op   wire.Op
		body wire.Record
	}{
		"create":       {wire.OpCreate, &wire.CreateRequest{Path: "/late", ACL: wire.OpenACL()}},
		"closeSession": {wire.OpCloseSession, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
				session := pipe(t, s)
				r := session.open()
				old := s.connections()[0]
				c := pipe(t, s)
				c.takeUp(r)
				c.wantSession(r)
				synctest.Wait()
				var body []byte
				if late.body != nil {
					body = late.body.Append(nil)
				}
				old.write(1, late.op, body, 0)
				old.submit()
				synctest.Wait()
				c.send(existsReq(1, "/late"))
				if h, _ := c.reply(); h.Err != wire.ErrNoNode {
					t.Errorf("exists: %v, want %v", h.Err, wire.ErrNoNode)
				}
				c.send(createReq(2, "/mine", ""))
				c.wantOK(2)
			})
		})
	}
}

// TestTakeOverChain moves a session from connection to connection while the disk
// hangs: the last one has it, each of the others is closed.
func TestTakeOverChain(t *testing.T) {
	disk, next := slowDisk()
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: "data", FS: disk}}, func(t *testing.T, s *Server) {
		first := pipe(t, s)
		session := first.open()
		next.Store(int64(5 * time.Second))
		first.send(createReq(1, "/n", ""))
		synctest.Wait()
		var chain []*rawConn
		for i := range int32(5) {
			c := pipe(t, s)
			c.takeUp(session, setReq(i, "/n", ""))
			synctest.Wait()
			chain = append(chain, c)
		}
		for _, c := range chain[:4] {
			c.wantClosed()
		}
		chain[4].wantSession(session)
		h, b := chain[4].reply()
		var stat wire.Stat
		if err := wire.Unmarshal(b, &stat); err != nil || h.Err != wire.OK || stat.Version < 1 || stat.Version > 5 {
			t.Errorf("%+v %+v %v", h, stat, err)
		}
		if st := s.State(); st.Connections != 1 || st.Sessions != 1 {
			t.Errorf("%d connections, %d sessions left", st.Connections, st.Sessions)
		}
	})
}

// TestTakeOverOfAClosingSession comes while a closeSession is on its way to the
// disk.
func TestTakeOverOfAClosingSession(t *testing.T) {
	disk, next := slowDisk()
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: "data", FS: disk}}, func(t *testing.T, s *Server) {
		old := pipe(t, s)
		session := old.open()
		next.Store(int64(3 * time.Second))
		old.send(req(1, wire.OpCloseSession, nil))
		synctest.Wait()
		c := pipe(t, s)
		c.takeUp(session)
		c.wantSession(wire.ConnectResponse{})
		c.wantClosed()
		old.wantOK(1)
		old.wantClosed()
	})
}

// TestSessionIDsDoNotComeAgain starts a server twice at the same time, as on a
// machine whose clock begins anew with each boot.
func TestSessionIDsDoNotComeAgain(t *testing.T) {
	dir := t.TempDir()
	var first wire.ConnectResponse
	inBubble(t, dir, func(t *testing.T, s *Server) {
		first = pipe(t, s).open()
	})
	inBubble(t, dir, func(t *testing.T, s *Server) {
		if again := pipe(t, s).open(); again.SessionID == first.SessionID {
			t.Errorf("two sessions with the id %v", first.SessionID)
		}
	})
}
