package server

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
)

// wantEmpty fails if the server still knows of a connection or of what it had.
func wantEmpty(t *testing.T, s *Server) {
	t.Helper()
	synctest.Wait()
	if st := s.State(); st.Connections != 0 || st.Watches != 0 || st.Outstanding != 0 || st.Sessions != 0 || st.Ephemerals != 0 {
		t.Errorf("left: %+v", st)
	}
	if len(s.perIP) != 0 || s.outstandingBytes.Load() != 0 {
		t.Errorf("left: %v, %d bytes", s.perIP, s.outstandingBytes.Load())
	}
}

func TestBytesOneByOneDoNotKeepAConnectionWithoutASession(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		c := pipe(t, s)
		began := time.Now()
		for _, b := range framed(connectFrame(0, 10000, make([]byte, 16))) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("closed after %v, want 10s", took)
		}
		wantEmpty(t, s)
	})
}

// TestClientThatTakesNoLastWord asks for more than it reads and then for the end
// of the connection.
func TestClientThatTakesNoLastWord(t *testing.T) {
	for name, end := range map[string][]byte{
		"closeSession":   req(3, wire.OpCloseSession, nil),
		"unknown":        req(3, 99, nil),
		"failed auth":    req(3, wire.OpAuth, &wire.AuthPacket{Scheme: "nope"}),
		"not a request":  {},
		"nothing at all": req(3, wire.OpPing, nil),
	} {
		for _, behind := range []bool{false, true} { // the last word comes from the driver then
			t.Run(name, func(t *testing.T) {
				inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
					c := pipe(t, s)
					c.open()
					c.send(createReq(1, "/big", strings.Repeat("x", 100_000)))
					c.wantOK(1)
					frames := [][]byte{getReq(2, "/big"), end}
					if behind {
						frames = append([][]byte{setReq(1, "/big", strings.Repeat("x", 100_000))}, frames...)
					}
					c.send(frames...)
					time.Sleep(45 * time.Second)
					wantEmpty(t, s)
				})
			})
		}
	}
}

// TestConnectionThatDiesBeforeItsSessionIsDurable leaves a session that nobody
// knows of, which expires.
func TestConnectionThatDiesBeforeItsSessionIsDurable(t *testing.T) {
	disk, next := slowDisk()
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: "data", FS: disk}}, func(t *testing.T, s *Server) {
		first := pipe(t, s)
		first.open()
		next.Store(int64(5 * time.Second))
		c := pipe(t, s)
		c.send(connectFrame(0, 10000, nil), createReq(1, "/n", ""))
		synctest.Wait()
		c.Close()
		first.Close()
		time.Sleep(25 * time.Second)
		wantEmpty(t, s)
	})
}

func TestArgumentsOfAWordMayComeLater(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		s.cfg.LoopbackWords = []string{"stmk"}
		c := pipe(t, s)
		for _, piece := range []string{"st", "mk", "\x00\x00\x00", "\x00\x00\x00\x00\x05"} {
			io.WriteString(c, piece)
			synctest.Wait()
		}
		if b, err := io.ReadAll(c); string(b) != "5" || err != nil {
			t.Errorf("%q %v", b, err)
		}
		wantEmpty(t, s)
	})
}

// TestExpiringSessionCannotBeTakenUp tries it while the closeSession is on its
// way to the disk.
func TestExpiringSessionCannotBeTakenUp(t *testing.T) {
	disk, next := slowDisk()
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: "data", FS: disk}}, func(t *testing.T, s *Server) {
		old := pipe(t, s)
		session := old.open()
		old.send(req(1, wire.OpCreate, &wire.CreateRequest{Path: "/e", ACL: wire.OpenACL(), Mode: wire.Ephemeral}), req(2, wire.OpExists, &wire.PathWatch{Path: "/", Watch: true}))
		old.wantOK(1, 2)
		next.Store(int64(time.Minute))
		time.Sleep(13 * time.Second)
		if n := s.Stats().SessionsExpired.Load(); n != 1 {
			t.Fatalf("%d sessions expired", n)
		}
		c := pipe(t, s)
		c.takeUp(session)
		c.wantSession(wire.ConnectResponse{})
		c.wantClosed()
		old.wantClosed() // once it is durable
		wantEmpty(t, s)
	})
}

// TestEndOfStreamBehindARequest has the last request and the end of the stream
// come together while the server is at the request before: the poller tells of
// them once.
func TestEndOfStreamBehindARequest(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(cfg *Config) { cfg.StallTimeout = 100 * time.Millisecond })
	c := dialRaw(t, s)
	c.open()
	had := s.stats.BytesIn.Load()
	s.treeMu.Lock()
	c.send(getReq(1, "/"))
	for s.stats.BytesIn.Load() == had {
		runtime.Gosched()
	}
	c.send(getReq(2, "/"))
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.treeMu.Unlock()
	c.wantOK(1, 2)
	c.wantClosed()
}
