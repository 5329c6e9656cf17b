package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

func TestFirstFramesAreApaches(t *testing.T) {
	inBubble(t, Config{SessionTimeout: 10 * time.Second}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.accept()
		// zookeeper.md 2.1, captured from Apache's own client.
		want := "00000000000000000000000000002710000000000000000000000010" + strings.Repeat("00", 16) + "00"
		if got := hex.EncodeToString(conn.frame()); got != want {
			t.Errorf("connect request\n got %s\nwant %s", got, want)
		}
		conn.grant(7, false)
		get := goGet(t.Context(), c, "/a")
		if got, want := hex.EncodeToString(conn.frame()), "0000000100000004000000022f6100"; got != want {
			t.Errorf("getData\n got %s\nwant %s", got, want)
		}
		conn.reply(1, 8, wire.OK, &wire.GetDataResponse{Data: []byte("x")})
		if r := <-get; r.err != nil || string(r.data) != "x" {
			t.Errorf("got %q, %v", r.data, r.err)
		}
		if got, want := c.Session(), (Session{7, [16]byte{7}, 9 * time.Second, 8}); got != want {
			t.Errorf("session %#v, want %#v", got, want)
		}
	})
}

// Requests that come up while a write is under way leave in one write.
func TestManyRequestsGoOutInOneWrite(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		const n = 100
		var gets []chan result
		for i := range n { // the first one is being written: nobody reads
			gets = append(gets, goGet(t.Context(), c, fmt.Sprintf("/%d", i)))
		}
		before := conn.writes.Load()
		go conn.serveReads()
		for i, ch := range gets {
			if r := <-ch; r.err != nil || string(r.data) != fmt.Sprintf("/%d", i) {
				t.Errorf("get %d: %q, %v", i, r.data, r.err)
			}
		}
		if got := conn.writes.Load() - before; got != 1 {
			t.Errorf("%d writes for %d waiting requests, want 1", got, n-1)
		}
	})
}

func TestOperationsWaitForAConnection(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		set := goSet(t.Context(), c, "/a")
		ctx, cancel := context.WithCancel(t.Context())
		gone := goSet(ctx, c, "/gone")
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) || errors.Is(err, wire.ErrConnectionLoss) {
			t.Errorf("canceled before it was sent: %v", err)
		}
		conn := s.welcome(1)
		var req wire.SetDataRequest
		xid := conn.request(wire.OpSetData, &req)
		if req.Path != "/a" {
			t.Errorf("set %q, want /a", req.Path)
		}
		conn.reply(xid, 1, wire.OK, &wire.Stat{})
		if err := <-set; err != nil {
			t.Error(err)
		}
	})
}

// The reply of a request that nobody waits for any more still comes, and must
// not be taken for that of the next.
func TestCanceledOperationKeepsItsPlaceInLine(t *testing.T) {
	inBubble(t, Config{MaxPending: 2}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		ctx, cancel := context.WithCancel(t.Context())
		first := goSet(ctx, c, "/a")
		xid1 := conn.request(wire.OpSetData, nil)
		cancel()
		err := <-first
		if !errors.Is(err, context.Canceled) || !errors.Is(err, wire.ErrConnectionLoss) {
			t.Errorf("a sent write was canceled: %v, want canceled and an unknown outcome", err)
		}
		second := goGet(t.Context(), c, "/b")
		xid2 := conn.request(wire.OpGetData, nil)
		conn.reply(xid1, 1, wire.OK, &wire.Stat{})
		conn.reply(xid2, 1, wire.OK, &wire.GetDataResponse{Data: []byte("b")})
		if r := <-second; string(r.data) != "b" {
			t.Errorf("got %q, %v", r.data, r.err)
		}
		synctest.Wait()
		if n := len(c.slots); n != 0 {
			t.Errorf("%d slots are still taken", n)
		}
	})
}

func TestLostConnectionFailsWritesAndRepeatsReads(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		set, get := goSet(t.Context(), c, "/a"), goGet(t.Context(), c, "/a")
		conn.request(wire.OpSetData, nil)
		conn.request(wire.OpGetData, nil)
		conn.Close()
		if err := <-set; !errors.Is(err, wire.ErrConnectionLoss) {
			t.Errorf("write in flight: %v", err)
		}
		later := goSet(t.Context(), c, "/b") // not sent yet: waits
		conn = s.accept()
		if req := conn.readConnect(); req.SessionID != 1 || !bytes.Equal(req.Password, append([]byte{1}, make([]byte, 15)...)) {
			t.Errorf("session is not taken up: %+v", req)
		}
		conn.grant(1, false)
		conn.reply(conn.request(wire.OpGetData, nil), 1, wire.OK, &wire.GetDataResponse{Data: []byte("x")})
		conn.reply(conn.request(wire.OpSetData, nil), 1, wire.OK, &wire.Stat{})
		if r := <-get; r.err != nil || string(r.data) != "x" {
			t.Errorf("read: %q, %v", r.data, r.err)
		}
		if err := <-later; err != nil {
			t.Errorf("write that waited: %v", err)
		}
	})
}

// A request that ends the connection each time must not be repeated for ever.
func TestPoisonousReadGivesUp(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		get := goGet(t.Context(), c, "/poison")
		for range maxLosses {
			conn := s.welcome(1)
			conn.request(wire.OpGetData, nil)
			conn.Close()
		}
		if r := <-get; !errors.Is(r.err, wire.ErrConnectionLoss) {
			t.Errorf("got %v", r.err)
		}
	})
}

func TestReplyOutOfOrderEndsTheConnection(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		set := goSet(t.Context(), c, "/a")
		xid := conn.request(wire.OpSetData, nil)
		conn.reply(xid+1, 1, wire.OK, &wire.Stat{})
		if err := <-set; !errors.Is(err, wire.ErrConnectionLoss) {
			t.Errorf("got %v", err)
		}
		if _, err := conn.tryFrame(); err == nil {
			t.Error("the connection is still up")
		}
	})
}

func TestPingAfterAThirdOfTheTimeoutInSilence(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		began := time.Now()
		for range 3 {
			if got := hex.EncodeToString(conn.frame()); got != "fffffffe0000000b" {
				t.Fatalf("got %s, want a ping", got)
			}
			if quiet := time.Since(began); quiet != 3*time.Second {
				t.Errorf("ping after %v, want 3s", quiet)
			}
			began = time.Now()
			conn.reply(wire.XidPing, 5, wire.OK, nil)
		}
		// Another request is as good as a ping.
		time.Sleep(2 * time.Second)
		get := goGet(t.Context(), c, "/")
		conn.reply(conn.request(wire.OpGetData, nil), 6, wire.OK, &wire.GetDataResponse{})
		<-get
		began = time.Now()
		conn.request(wire.OpPing, nil)
		if quiet := time.Since(began); quiet != 3*time.Second {
			t.Errorf("ping %v after a request, want 3s", quiet)
		}
	})
}

func TestSilentServerIsLeftAfterTwoThirdsOfTheTimeout(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		began := time.Now()
		go func() { // it takes requests in but does not answer
			for {
				if _, err := conn.tryFrame(); err != nil {
					return
				}
			}
		}()
		s.welcome(1)
		if after := time.Since(began); after != 6*time.Second {
			t.Errorf("left after %v, want 6s", after)
		}
		// And one that does not even read.
		began = time.Now()
		goGet(t.Context(), c, "/")
		s.welcome(1)
		if after := time.Since(began); after != 6*time.Second {
			t.Errorf("left after %v, want 6s", after)
		}
	})
}

func TestServerThatDoesNotAnswerTheHandshakeIsLeft(t *testing.T) {
	inBubble(t, Config{SessionTimeout: 9 * time.Second, ConnectTimeout: time.Second}, func(t *testing.T, c *Client, s *fakeServer) {
		mute := s.accept()
		mute.readConnect()
		began := time.Now()
		s.welcome(1)
		if after := time.Since(began); after != 6*time.Second {
			t.Errorf("left after %v, want 6s", after)
		}
	})
}

func TestBackoffGrowsToItsLimitWithJitter(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		time.Sleep(2 * time.Second)
		s.down.Store(true)
		dials := s.dials.Load()
		conn.Close()
		synctest.Wait()
		if got := s.dials.Load() - dials; got != 1 {
			t.Errorf("%d attempts at once, want 1", got)
		}
		time.Sleep(60 * time.Second)
		if got := s.dials.Load() - dials; got < 60 || got > 130 {
			t.Errorf("%d attempts in a minute, want 60 to 120 and some", got)
		}
		s.down.Store(false)
		began := time.Now()
		s.welcome(1)
		if after := time.Since(began); after > time.Second {
			t.Errorf("back %v after the server, want 1s at most", after)
		}
	})
	for n := range 100 {
		d, limit := backoff(n, time.Second), time.Second
		if n < 5 {
			limit = firstBackoff << n
		}
		if d < limit/2 || d > limit {
			t.Errorf("pause %d is %v, want %v to %v", n, d, limit/2, limit)
		}
	}
}

// A server that greets and hangs up must not be called in a busy loop.
func TestFlappingServerIsNotHammered(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		began := time.Now()
		for range 20 {
			s.welcome(1).Close()
		}
		if took := time.Since(began); took < 5*time.Second {
			t.Errorf("20 connections in %v", took)
		}
	})
}

func TestExpiredSessionIsReplaced(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		events, stop := c.SessionEvents()
		defer stop()
		conn := s.welcome(1)
		var oneShot <-chan Event
		got := goDo(func() (err error) {
			_, _, oneShot, err = c.GetW(t.Context(), "/a")
			return err
		})
		conn.reply(conn.request(wire.OpGetData, nil), 0x100000005, wire.OK, &wire.GetDataResponse{})
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		var watch *Watch
		got = goDo(func() (err error) {
			watch, err = c.AddWatch(t.Context(), "/", wire.WatchPersistentRecursive)
			return err
		})
		conn.reply(conn.request(wire.OpAddWatch, nil), 0x100000005, wire.OK, &wire.IntRecord{})
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		conn.Close()
		synctest.Wait()
		set, get := goSet(t.Context(), c, "/a"), goGet(t.Context(), c, "/a")

		conn = s.accept()
		if req := conn.readConnect(); req.SessionID != 1 {
			t.Errorf("asked for session %v", req.SessionID)
		}
		conn.refuse()
		if err := <-set; !errors.Is(err, wire.ErrSessionExpired) {
			t.Errorf("write that waited: %v", err)
		}
		wantEvents(t, "one-shot watch", oneShot, state(wire.StateExpired))
		wantClosed(t, "one-shot watch", oneShot)

		conn = s.accept()
		req := conn.readConnect()
		if req.SessionID != 0 || !bytes.Equal(req.Password, make([]byte, 16)) || req.LastZxidSeen != 0x100000005 {
			t.Errorf("new session: %+v, want id 0 and the last zxid", req)
		}
		conn.grant(2, false)
		var sw wire.SetWatches
		sw.HasPersistent = true
		conn.request(wire.OpSetWatches2, &sw)
		if len(sw.Data) != 0 || fmt.Sprint(sw.PersistentRecursive) != "[/]" {
			t.Errorf("armed %+v", sw)
		}
		conn.reply(wire.XidSetWatches, 0x100000006, wire.OK, nil)
		conn.reply(conn.request(wire.OpGetData, nil), 0x100000006, wire.OK, &wire.GetDataResponse{Data: []byte("x")})
		if r := <-get; r.err != nil || string(r.data) != "x" {
			t.Errorf("read that waited: %q, %v", r.data, r.err)
		}
		wantEvents(t, "watch", watch.Events(), state(wire.StateDisconnected), state(wire.StateExpired), state(wire.StateSyncConnected))
		wantEvents(t, "session", events, state(wire.StateSyncConnected), state(wire.StateDisconnected),
			state(wire.StateExpired), state(wire.StateSyncConnected))
		if id := c.Session().ID; id != 2 {
			t.Errorf("session %v", id)
		}
	})
}

func TestExitOnExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, err := New(Config{Dial: s.dial, ExitOnExpiry: true, Session: &Session{ID: 9}})
		if err != nil {
			t.Fatal(err)
		}
		ran := goDo(func() error { return c.Run(hour(t)) })
		get := goGet(t.Context(), c, "/")
		conn := s.accept()
		conn.readConnect()
		conn.refuse()
		if err := <-ran; !errors.Is(err, wire.ErrSessionExpired) {
			t.Errorf("Run: %v", err)
		}
		if r := <-get; !errors.Is(r.err, ErrClosed) {
			t.Errorf("operation: %v", r.err)
		}
		if err := c.Run(hour(t)); err == nil {
			t.Error("a second Run is possible")
		}
	})
}

func TestStoredSessionIsTakenUp(t *testing.T) {
	stored := Session{ID: 0x1000abc, Password: [16]byte{1, 2, 3}, Timeout: 9 * time.Second, LastZxid: 0x200000001}
	inBubble(t, Config{Session: &stored}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.accept()
		req := conn.readConnect()
		if req.SessionID != stored.ID || !bytes.Equal(req.Password, stored.Password[:]) || req.LastZxidSeen != stored.LastZxid {
			t.Errorf("asked for %+v", req)
		}
		conn.grant(stored.ID, false)
		events, stop := c.SessionEvents()
		defer stop()
		wantEvents(t, "session", events, state(wire.StateSyncConnected))
	})
}

func TestCloseSessionEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, _ := New(Config{Dial: s.dial})
		ran := goDo(func() error { return c.Run(hour(t)) })
		events, _ := c.SessionEvents()
		conn := s.welcome(1)
		set := goSet(t.Context(), c, "/a")
		closed := goDo(func() error { return c.CloseSession(t.Context()) })
		if err := c.Delete(t.Context(), "/a", -1); !errors.Is(err, ErrClosed) {
			t.Errorf("operation after CloseSession: %v", err)
		}
		conn.reply(conn.request(wire.OpSetData, nil), 1, wire.OK, &wire.Stat{})
		conn.request(wire.OpCloseSession, nil)
		// The connection breaks instead of an answer: the request is repeated.
		conn.Close()
		conn = s.welcome(1)
		conn.reply(conn.request(wire.OpCloseSession, nil), 2, wire.OK, nil)
		if err := errors.Join(<-set, <-closed, <-ran); err != nil {
			t.Error(err)
		}
		if got := c.Session(); got.ID != 0 || got.LastZxid != 2 {
			t.Errorf("session %#v after it was closed", got)
		}
		wantEvents(t, "session", events, state(wire.StateSyncConnected), state(wire.StateDisconnected),
			state(wire.StateSyncConnected), state(wire.StateClosed))
		if err := c.CloseSession(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("second CloseSession: %v", err)
		}
	})
}

// The server ended the session, but its answer is lost: the next one knows no
// such session, which is no expiry.
func TestCloseSessionWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, _ := New(Config{Dial: s.dial, ExitOnExpiry: true})
		ran := goDo(func() error { return c.Run(hour(t)) })
		events, _ := c.SessionEvents()
		conn := s.welcome(1)
		closed := goDo(func() error { return c.CloseSession(t.Context()) })
		conn.request(wire.OpCloseSession, nil)
		conn.Close()
		conn = s.accept()
		conn.readConnect()
		conn.refuse()
		if err := errors.Join(<-closed, <-ran); err != nil {
			t.Error(err)
		}
		if got := c.Session(); got.ID != 0 {
			t.Errorf("session %#v after it was closed", got)
		}
		wantEvents(t, "session", events, state(wire.StateSyncConnected), state(wire.StateDisconnected), state(wire.StateClosed))
	})
}

func TestCloseSessionWithoutSession(t *testing.T) {
	for _, tc := range []struct {
		name    string
		session *Session
		play    func(*fakeServer)
	}{
		{"no server was ever there", nil, func(s *fakeServer) { s.down.Store(true) }},
		{"it is expired", &Session{ID: 5}, func(s *fakeServer) {
			conn := s.accept()
			conn.readConnect()
			conn.refuse()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &fakeServer{t: t, conns: make(chan *fakeConn)}
				c, _ := New(Config{Dial: s.dial, Session: tc.session})
				closed := goDo(func() error { return c.CloseSession(t.Context()) })
				go tc.play(s)
				if err := c.Run(hour(t)); err != nil {
					t.Errorf("Run: %v", err)
				}
				if err := <-closed; err != nil {
					t.Errorf("CloseSession: %v", err)
				}
			})
		})
	}
}

func TestCloseSessionThatTakesTooLongEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, _ := New(Config{Dial: s.dial})
		ran := goDo(func() error { return c.Run(hour(t)) })
		conn := s.welcome(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		closed := goDo(func() error { return c.CloseSession(ctx) })
		conn.request(wire.OpCloseSession, nil)
		if err := <-closed; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("CloseSession: %v", err)
		}
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// The end of Run's ctx is no end of the session.
func TestCanceledRunKeepsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, _ := New(Config{Dial: s.dial})
		ctx, stop := context.WithCancel(t.Context())
		ran := goDo(func() error { return c.Run(ctx) })
		conn := s.welcome(1)
		set := goSet(t.Context(), c, "/a")
		conn.request(wire.OpSetData, nil)
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := <-set; !errors.Is(err, wire.ErrConnectionLoss) {
			t.Errorf("write in flight: %v", err)
		}
		if b, err := conn.tryFrame(); err == nil {
			t.Errorf("the server got %x", b)
		}
		if c.Session().ID != 1 {
			t.Errorf("session %v is forgotten", c.Session())
		}
		if _, _, err := c.Get(t.Context(), "/"); !errors.Is(err, ErrClosed) {
			t.Errorf("operation after Run: %v", err)
		}
	})
}

func TestIdentitiesComeBeforeAnythingElse(t *testing.T) {
	cfg := Config{Auth: []Auth{{"digest", []byte("a:1")}}}
	inBubble(t, cfg, func(t *testing.T, c *Client, s *fakeServer) {
		get := goGet(t.Context(), c, "/x")
		conn := s.welcome(1)
		want := func(conn *fakeConn, data string) {
			t.Helper()
			var req wire.AuthPacket
			if xid := conn.request(wire.OpAuth, &req); xid != wire.XidAuth || string(req.Auth) != data {
				t.Errorf("auth xid %d %+v, want %s", xid, req, data)
			}
		}
		want(conn, "a:1")
		xid := conn.request(wire.OpGetData, nil)
		conn.reply(wire.XidAuth, 0, wire.OK, nil)
		conn.reply(xid, 1, wire.OK, &wire.GetDataResponse{})
		<-get
		add := goDo(func() error { return c.AddAuth(t.Context(), "digest", []byte("b:2")) })
		get = goGet(t.Context(), c, "/x")
		want(conn, "b:2")
		xid = conn.request(wire.OpGetData, nil)
		conn.reply(xid, 1, wire.OK, &wire.GetDataResponse{}) // Apache's auth answers come out of order
		conn.reply(wire.XidAuth, 0, wire.OK, nil)
		if err := <-add; err != nil {
			t.Error(err)
		}
		<-get
		bad := goDo(func() error { return c.AddAuth(t.Context(), "nonsense", nil) })
		conn.request(wire.OpAuth, nil)
		conn.reply(wire.XidAuth, 0, wire.ErrAuthFailed, nil)
		conn.Close()
		if err := <-bad; !errors.Is(err, wire.ErrAuthFailed) {
			t.Errorf("refused identity: %v", err)
		}
		conn = s.welcome(1)
		goGet(t.Context(), c, "/x")
		want(conn, "a:1")
		want(conn, "b:2")
		conn.request(wire.OpGetData, nil)
		conn.Close()
		s.down.Store(true)
	})
}

func TestRefusedStoredIdentityEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, _ := New(Config{Dial: s.dial, Auth: []Auth{{"digest", []byte("a:1")}}})
		events, _ := c.SessionEvents()
		ran := goDo(func() error { return c.Run(hour(t)) })
		conn := s.welcome(1)
		conn.request(wire.OpAuth, nil)
		conn.reply(wire.XidAuth, 0, wire.ErrAuthFailed, nil)
		if err := <-ran; !errors.Is(err, wire.ErrAuthFailed) {
			t.Errorf("Run: %v", err)
		}
		wantEvents(t, "session", events, state(wire.StateSyncConnected), state(wire.StateDisconnected),
			state(wire.StateAuthFailed), state(wire.StateClosed))
	})
}

func TestOversizeRequestIsRefusedBeforeItIsSent(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		_, err := c.Set(t.Context(), "/a", make([]byte, wire.MaxBuffer), -1)
		if !errors.Is(err, ErrRequestTooLarge) {
			t.Errorf("got %v", err)
		}
		get := goGet(t.Context(), c, "/a")
		conn.reply(conn.request(wire.OpGetData, nil), 1, wire.OK, &wire.GetDataResponse{})
		<-get
	})
}

func TestOversizeReplyFailsItsOperationOnly(t *testing.T) {
	inBubble(t, Config{MaxReply: 200_000}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		for _, tc := range []struct {
			size int
			want error
		}{{300_000, ErrReplyTooLarge}, {190_000, nil}, {10, nil}} {
			get := goGet(t.Context(), c, "/a")
			data := bytes.Repeat([]byte("x"), tc.size)
			conn.reply(conn.request(wire.OpGetData, nil), 1, wire.OK, &wire.GetDataResponse{Data: data})
			r := <-get
			if !errors.Is(r.err, tc.want) || tc.want == nil && !bytes.Equal(r.data, data) {
				t.Errorf("reply of %d bytes: %d bytes, %v", tc.size, len(r.data), r.err)
			}
		}
	})
}

func TestUndecodableReplyFailsItsOperationOnly(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		get := goGet(t.Context(), c, "/a")
		conn.reply(conn.request(wire.OpGetData, nil), 1, wire.OK, &wire.IntRecord{Value: 1 << 30})
		if r := <-get; !errors.Is(r.err, wire.ErrTruncated) {
			t.Errorf("got %v", r.err)
		}
		get = goGet(t.Context(), c, "/a")
		conn.reply(conn.request(wire.OpGetData, nil), 1, wire.OK, &wire.GetDataResponse{})
		if r := <-get; r.err != nil {
			t.Error(r.err)
		}
	})
}

// A read-only server is left as soon as another one has a quorum, and its
// session is not shown to that.
func TestReadOnlyClientLooksForAFullServer(t *testing.T) {
	cfg := Config{Servers: "one,two", ReadOnly: true}
	inBubble(t, cfg, func(t *testing.T, c *Client, s *fakeServer) {
		events, stop := c.SessionEvents()
		defer stop()
		conn := s.accept()
		if req := conn.readConnect(); !req.ReadOnly {
			t.Error("the client does not say that it takes a read-only server")
		}
		conn.grant(1, true)
		readOnly := conn.addr
		for _, answer := range []string{"ro", "rw"} {
			probe := s.accept()
			word := make([]byte, 4)
			if _, err := probe.br.Read(word); err != nil || string(word) != "isro" || probe.addr == readOnly {
				t.Fatalf("probe of %s: %q, %v", probe.addr, word, err)
			}
			probe.Write([]byte(answer))
			probe.Close()
		}
		conn = s.accept()
		if req := conn.readConnect(); conn.addr == readOnly || req.SessionID != 0 {
			t.Errorf("next connection to %s: %+v", conn.addr, req)
		}
		conn.grant(2, false)
		wantEvents(t, "session", events, state(wire.StateConnectedReadOnly), state(wire.StateDisconnected), state(wire.StateSyncConnected))
	})
}

// How a read-only server without local sessions answers.
func TestBareHeaderInsteadOfASession(t *testing.T) {
	inBubble(t, Config{ReadOnly: true}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.accept()
		conn.readConnect()
		conn.reply(0, 1, wire.ErrNotReadOnly, nil)
		conn.Close()
		s.welcome(1)
	})
}

func TestServersTakeTurns(t *testing.T) {
	inBubble(t, Config{Servers: "a:1,b:2,c:3"}, func(t *testing.T, c *Client, s *fakeServer) {
		seen := map[string]int{}
		for range 6 {
			conn := s.accept()
			seen[conn.addr]++
			conn.Close()
		}
		if len(seen) != 3 || seen["a:1"] != 2 || seen["b:2"] != 2 {
			t.Errorf("attempts %v, want two at each", seen)
		}
	})
}

func TestSlowSessionReaderKeepsTheLastStates(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		events, stop := c.SessionEvents()
		for range 30 {
			conn := s.welcome(1)
			synctest.Wait()
			conn.Close()
		}
		s.welcome(1)
		synctest.Wait()
		var last Event
		for len(events) > 0 {
			last = <-events
		}
		if last != state(wire.StateSyncConnected) {
			t.Errorf("last state %+v", last)
		}
		stop()
		stop()
		wantClosed(t, "events", events)
	})
}

func TestXidsStayPositive(t *testing.T) {
	c := &Client{xid: 1<<31 - 2}
	for _, want := range []int32{1<<31 - 1, 1, 2} {
		if got := c.nextXidLocked(); got != want {
			t.Errorf("xid %d, want %d", got, want)
		}
	}
}

func TestPendingOperationsAreBounded(t *testing.T) {
	inBubble(t, Config{MaxPending: 2}, func(t *testing.T, c *Client, s *fakeServer) {
		one, two, three := goGet(t.Context(), c, "/1"), goGet(t.Context(), c, "/2"), goGet(t.Context(), c, "/3")
		c.mu.Lock()
		if n := c.queue.len(); n != 2 {
			t.Errorf("%d in the queue, want 2", n)
		}
		c.mu.Unlock()
		go s.welcome(1).serveReads()
		for _, ch := range []chan result{one, two, three} {
			if r := <-ch; r.err != nil {
				t.Error(r.err)
			}
		}
	})
}
