package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/session"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A rawConn speaks frames.
type rawConn struct {
	t *testing.T
	net.Conn
}

func dialRaw(t *testing.T, s *Server) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { nc.Close() })
	return &rawConn{t, nc}
}

// framed puts the lengths before payloads.
func framed(payloads ...[]byte) (b []byte) {
	for _, p := range payloads {
		b = append(wire.AppendInt(b, int32(len(p))), p...)
	}
	return b
}

// send writes frames in one call, so that the server reads them together.
func (c *rawConn) send(payloads ...[]byte) {
	c.t.Helper()
	if _, err := c.Write(framed(payloads...)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *rawConn) recv() []byte {
	c.t.Helper()
	frame, err := c.tryRecv()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return frame
}

func (c *rawConn) tryRecv() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(c, frame)
	return frame, err
}

// reply reads one reply or notification.
func (c *rawConn) reply() (wire.ReplyHeader, []byte) {
	c.t.Helper()
	var h wire.ReplyHeader
	b := c.recv()
	if err := wire.Unmarshal(b, &h); err != nil {
		c.t.Fatal(err)
	}
	return h, b[16:]
}

// wantClosed fails unless the server closes the connection without more bytes.
func (c *rawConn) wantClosed() {
	c.t.Helper()
	if b, err := c.tryRecv(); err == nil {
		c.t.Errorf("got frame %x, want the connection closed", b)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Errorf("the connection stayed open")
	}
}

func connectFrame(id zab.SessionID, timeoutMs int32, password []byte) []byte {
	return (&wire.ConnectRequest{TimeoutMs: timeoutMs, SessionID: id, Password: password, HasReadOnly: true}).Append(nil)
}

// open opens a session.
func (c *rawConn) open() wire.ConnectResponse {
	c.t.Helper()
	c.send(connectFrame(0, 10000, make([]byte, 16)))
	var r wire.ConnectResponse
	if err := wire.Unmarshal(c.recv(), &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

func req(xid int32, op wire.Op, body wire.Record) []byte {
	b := (&wire.RequestHeader{Xid: xid, Op: op}).Append(nil)
	if body != nil {
		b = body.Append(b)
	}
	return b
}

func createReq(xid int32, path, data string) []byte {
	return req(xid, wire.OpCreate, &wire.CreateRequest{Path: path, Data: []byte(data), ACL: wire.OpenACL()})
}

func TestHandshake(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	other := dialRaw(t, s).open()

	t.Run("a new session", func(t *testing.T) {
		r := dialRaw(t, s).open()
		if r.SessionID == 0 || r.TimeoutMs != 10000 || r.Password != session.Password(r.SessionID) || !r.HasReadOnly {
			t.Errorf("response %+v", r)
		}
	})
	t.Run("a client without the read-only byte gets an answer without it", func(t *testing.T) {
		c := dialRaw(t, s)
		c.send((&wire.ConnectRequest{TimeoutMs: 10000, Password: make([]byte, 16)}).Append(nil))
		if b := c.recv(); len(b) != 36 {
			t.Errorf("response of %d bytes, want 36", len(b))
		}
	})
	for _, tc := range []struct{ ask, want int32 }{{0, 4000}, {-5, 4000}, {100, 4000}, {5000, 5000}, {1 << 30, 40000}} {
		c := dialRaw(t, s)
		c.send(connectFrame(0, tc.ask, nil))
		var r wire.ConnectResponse
		if err := wire.Unmarshal(c.recv(), &r); err != nil || r.TimeoutMs != tc.want {
			t.Errorf("timeout %d: got %d (%v), want %d", tc.ask, r.TimeoutMs, err, tc.want)
		}
	}
	refused := "0000000000000000000000000000000000000010" + strings.Repeat("00", 16) + "00"
	t.Run("an unknown session", func(t *testing.T) {
		c := dialRaw(t, s)
		c.send(connectFrame(0x123, 10000, make([]byte, 16)))
		if got := hex.EncodeToString(c.recv()); got != refused {
			t.Errorf("got %s, want %s", got, refused)
		}
		c.wantClosed()
	})
	t.Run("a wrong password, which leaves the session's connection alone", func(t *testing.T) {
		good := dialRaw(t, s)
		r := good.open()
		c := dialRaw(t, s)
		c.send(connectFrame(r.SessionID, 10000, make([]byte, 16)))
		if got := hex.EncodeToString(c.recv()); got != refused {
			t.Errorf("got %s, want %s", got, refused)
		}
		c.wantClosed()
		good.send(req(1, wire.OpPing, nil))
		if h, _ := good.reply(); h.Xid != wire.XidPing {
			t.Errorf("ping on the good connection: %+v", h)
		}
	})
	t.Run("take-over closes the connection before", func(t *testing.T) {
		old := dialRaw(t, s)
		r := old.open()
		c := dialRaw(t, s)
		c.send(connectFrame(r.SessionID, 6000, r.Password[:]))
		var again wire.ConnectResponse
		if err := wire.Unmarshal(c.recv(), &again); err != nil || again.SessionID != r.SessionID || again.TimeoutMs != 6000 {
			t.Errorf("response %+v %v", again, err)
		}
		old.wantClosed()
	})
	t.Run("a client that has seen the future", func(t *testing.T) {
		c := dialRaw(t, s)
		c.send((&wire.ConnectRequest{LastZxidSeen: 1 << 40, TimeoutMs: 10000}).Append(nil))
		c.wantClosed()
	})
	if other.SessionID == 0 {
		t.Errorf("session 0")
	}
}

func TestBadInputEndsOnlyItsOwnConnection(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	good := dialRaw(t, s)
	good.open()
	for _, tc := range []struct {
		name    string
		session bool
		bytes   []byte
	}{
		{"HTTP", false, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"random text", false, []byte("hello, world")},
		{"negative length", false, []byte{0xff, 0xff, 0xff, 0xf0}},
		{"oversized length", false, []byte{0x00, 0x10, 0x00, 0x00}},
		{"empty connect request", false, []byte{0, 0, 0, 0}},
		{"truncated connect request", false, []byte{0, 0, 0, 4, 0, 0, 0, 0}},
		{"password of a gigabyte", false, append([]byte{0, 0, 0, 28}, append(make([]byte, 24), 0x40, 0, 0, 0)...)},
		{"empty request", true, []byte{0, 0, 0, 0}},
		{"request without a header", true, []byte{0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0}},
		{"request over the limit", true, []byte{0x7f, 0xff, 0xff, 0xff}},
	} {
		c := dialRaw(t, s)
		if tc.session {
			c.open()
		}
		before := s.Stats().BadPackets.Load()
		c.Write(tc.bytes)
		c.wantClosed()
		if s.Stats().BadPackets.Load() == before {
			t.Errorf("%s: not counted", tc.name)
		}
		good.send(req(7, wire.OpGetData, &wire.PathWatch{Path: "/"}))
		if h, _ := good.reply(); h.Xid != 7 || h.Err != wire.OK {
			t.Errorf("%s: another session got %+v", tc.name, h)
		}
	}
}

// TestRequestsThatAreRefused holds what a client gets for requests that make no
// sense: the code, and whether the connection lives on.
func TestRequestsThatAreRefused(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	cut := func(b []byte, n int) []byte { return b[:len(b)-n] }
	for _, tc := range []struct {
		name   string
		frame  []byte
		code   wire.Code
		closed bool
	}{
		{"unknown opcode", req(1, 99, nil), wire.ErrUnimplemented, true},
		{"check outside a multi", req(1, wire.OpCheck, &wire.PathVersion{Path: "/"}), wire.ErrUnimplemented, true},
		{"createSession", req(1, wire.OpCreateSession, &wire.IntRecord{Value: 1}), wire.ErrUnimplemented, true},
		{"deleteContainer", req(1, wire.OpDeleteContainer, &wire.PathRecord{Path: "/x"}), wire.ErrUnimplemented, true},
		{"opcode 0", req(1, 0, nil), wire.ErrUnimplemented, true},
		{"opcode -1", req(1, -1, nil), wire.ErrUnimplemented, true},
		{"unknown auth scheme", req(-4, wire.OpAuth, &wire.AuthPacket{Scheme: "nope"}), wire.ErrAuthFailed, true},
		{"truncated create", cut(createReq(1, "/x", "data"), 5), wire.ErrMarshalling, false},
		{"truncated getData", cut(req(1, wire.OpGetData, &wire.PathWatch{Path: "/"}), 1), wire.ErrMarshalling, false},
		{"create with a vector of 2^31-1 ACLs", append(createReq(1, "/x", "")[:8+4+2+4], 0x7f, 0xff, 0xff, 0xff), wire.ErrMarshalling, false},
		{"multi with an unknown type", append(req(1, wire.OpMulti, nil), 0, 0, 0, 77, 0, 0, 0, 0, 0), wire.ErrMarshalling, false},
		{"multiRead with a write", req(1, wire.OpMultiRead, &wire.MultiRequest{Ops: []wire.MultiOp{{Op: wire.OpDelete, Record: &wire.PathVersion{Path: "/x"}}}}), wire.ErrMarshalling, false},
		{"multi with a read", req(1, wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{{Op: wire.OpGetData, Record: &wire.PathWatch{Path: "/"}}}}), wire.ErrMarshalling, false},
		{"addWatch of an unknown mode", req(1, wire.OpAddWatch, &wire.PathMode{Path: "/", Mode: 9}), wire.ErrMarshalling, false},
		{"removeWatches of an unknown kind", req(1, wire.OpRemoveWatches, &wire.PathMode{Path: "/", Mode: 9}), wire.ErrMarshalling, false},
		{"removeWatches without a watch", req(1, wire.OpRemoveWatches, &wire.PathMode{Path: "/", Mode: 3}), wire.ErrNoWatcher, false},
		{"path with a dot", createReq(1, "/a/../b", ""), wire.ErrNoNode, false},
		{"relative path", createReq(1, "x", ""), wire.ErrBadArguments, false},
		{"reconfig alone", req(1, wire.OpReconfig, &wire.ReconfigRequest{}), wire.ErrReconfigDisabled, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dialRaw(t, s)
			c.open()
			c.send(tc.frame)
			h, body := c.reply()
			if h.Err != tc.code || len(body) != 0 {
				t.Errorf("got %+v and %d bytes, want %d", h, len(body), tc.code)
			}
			if tc.closed {
				c.wantClosed()
				return
			}
			c.send(req(-2, wire.OpPing, nil))
			if h, _ := c.reply(); h.Xid != wire.XidPing {
				t.Errorf("ping afterwards: %+v", h)
			}
		})
	}
}

func TestRepliesKeepTheOrderOfRequests(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	c.open()
	get := func(xid int32) []byte { return req(xid, wire.OpGetData, &wire.PathWatch{Path: "/q"}) }
	set := func(xid int32, v string) []byte {
		return req(xid, wire.OpSetData, &wire.SetDataRequest{Path: "/q", Data: []byte(v), Version: -1})
	}
	c.send(createReq(1, "/q", "v0"), get(2), set(3, "v1"), get(4), req(-4, wire.OpAuth, &wire.AuthPacket{Scheme: "digest", Auth: []byte("u:p")}),
		req(5, wire.OpWhoAmI, nil), set(6, "v2"), req(-2, wire.OpPing, nil), get(7))
	want := []struct {
		xid  int32
		data string
	}{{1, ""}, {2, "v0"}, {3, ""}, {4, "v1"}, {-4, ""}, {5, ""}, {6, ""}, {-2, ""}, {7, "v2"}}
	last := zab.Zxid(0)
	for _, w := range want {
		h, body := c.reply()
		if h.Xid != w.xid || h.Err != wire.OK {
			t.Fatalf("reply %+v, want xid %d", h, w.xid)
		}
		if w.data != "" {
			var r wire.GetDataResponse
			if err := wire.Unmarshal(body, &r); err != nil || string(r.Data) != w.data {
				t.Errorf("xid %d: read %q (%v), want %q", w.xid, r.Data, err, w.data)
			}
		}
		if h.Xid == -4 {
			if h.Zxid != 0 {
				t.Errorf("auth reply carries zxid %v", h.Zxid)
			}
			continue
		}
		if h.Zxid < last {
			t.Errorf("xid %d: zxid %v after %v", h.Xid, h.Zxid, last)
		}
		last = h.Zxid
	}
}

func TestEventComesBeforeTheReplyThatShowsTheChange(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	c.open()
	c.send(createReq(1, "/w", "0"), req(2, wire.OpGetData, &wire.PathWatch{Path: "/w", Watch: true}),
		req(3, wire.OpSetData, &wire.SetDataRequest{Path: "/w", Data: []byte("1"), Version: -1}))
	var order []int32
	for range 4 {
		h, body := c.reply()
		order = append(order, h.Xid)
		if h.Xid == wire.XidNotification {
			var e wire.WatcherEvent
			if err := wire.Unmarshal(body, &e); err != nil || e != (wire.WatcherEvent{Type: wire.EventNodeDataChanged, State: wire.StateSyncConnected, Path: "/w"}) {
				t.Errorf("event %+v %v", e, err)
			}
		}
	}
	if want := []int32{1, 2, -1, 3}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestSetWatchesCatchesUpBeforeItsReply(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	c.open()
	c.send(createReq(1, "/a", "x"))
	c.reply()
	c.send(req(-8, wire.OpSetWatches2, &wire.SetWatches{Data: []string{"/a", "/gone"}, Exist: []string{"/later"}, Child: []string{"/"}, HasPersistent: true}))
	var got []string
	for range 3 {
		h, body := c.reply()
		var e wire.WatcherEvent
		if err := wire.Unmarshal(body, &e); err != nil || h.Xid != -1 || h.Zxid != -1 {
			t.Fatalf("%+v %+v %v", h, e, err)
		}
		got = append(got, e.Type.String()+" "+e.Path)
	}
	if want := []string{"NodeDataChanged /a", "NodeDeleted /gone", "NodeChildrenChanged /"}; !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if h, body := c.reply(); h.Xid != -8 || h.Err != wire.OK || len(body) != 0 {
		t.Errorf("reply %+v with %d bytes", h, len(body))
	}
	c.send(createReq(2, "/later", ""))
	if h, _ := c.reply(); h.Xid != -1 {
		t.Errorf("the exist watch was not armed: %+v", h)
	}
}

func TestCloseSessionIsAnsweredThenClosed(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	r := c.open()
	c.send(req(1, wire.OpCreate, &wire.CreateRequest{Path: "/e", ACL: wire.OpenACL(), Mode: wire.Ephemeral}), req(2, wire.OpCloseSession, nil), createReq(3, "/late", ""))
	c.reply()
	if h, _ := c.reply(); h.Xid != 2 || h.Err != wire.OK {
		t.Errorf("close: %+v", h)
	}
	if h, err := c.tryRecv(); err == nil && !bytes.HasPrefix(h, []byte{0, 0, 0, 3}) {
		t.Errorf("unexpected frame %x", h)
	}
	if st := s.State(); st.Ephemerals != 0 || st.Sessions != 0 {
		t.Errorf("%d ephemerals, %d sessions left", st.Ephemerals, st.Sessions)
	}
	c = dialRaw(t, s)
	c.send(connectFrame(r.SessionID, 10000, r.Password[:]))
	var again wire.ConnectResponse
	if err := wire.Unmarshal(c.recv(), &again); err != nil || again.SessionID != 0 {
		t.Errorf("the closed session was taken up: %+v %v", again, err)
	}
}

func TestFourLetterWords(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.FourLetterWords = []string{"srvr", "stmk", "gtmk", "cons", "wchs"} })
	watcher := dialRaw(t, s)
	watcher.open()
	watcher.send(req(1, wire.OpExists, &wire.PathWatch{Path: "/x", Watch: true}))
	watcher.reply()
	ask := func(word string) string {
		c := dialRaw(t, s)
		io.WriteString(c, word)
		b, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("%s: %v", word, err)
		}
		return string(b)
	}
	for _, tc := range []struct{ word, want string }{
		{"ruok", "imok"}, {"isro", "rw"}, {"gtmk", "306"}, {"stmk\x00\x00\x00\x00\x00\x00\x00\x07", "7"},
		{"wchs", "1 connections watching 1 paths\nTotal watches:1\n"},
		{"dump", "dump is not executed because it is not in the whitelist.\n"},
		{telnetClose, ""},
	} {
		if got := ask(tc.word); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.word, got, tc.want)
		}
	}
	srvr := ask("srvr\n")
	for _, line := range []string{"Zookeeper version: 3.9.5-", "Latency min/avg/max: ", "Received: ", "Zxid: 0x1\n", "Mode: standalone\n", "Node count: 5\n"} {
		if !strings.Contains(srvr, line) {
			t.Errorf("srvr lacks %q:\n%s", line, srvr)
		}
	}
	if cons := ask("cons"); !strings.Contains(cons, "lop=EXIS") || !strings.Contains(cons, "to=10000") {
		t.Errorf("cons: %s", cons)
	}
}

func TestConnectionsPerAddressAreBounded(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.MaxClientCnxns = 2 })
	a, b := dialRaw(t, s), dialRaw(t, s)
	a.open()
	b.open()
	dialRaw(t, s).wantClosed()
	a.Close()
	for { // the server notices a moment later
		c := dialRaw(t, s)
		c.send(connectFrame(0, 10000, nil))
		if _, err := c.tryRecv(); err == nil {
			return
		}
	}
}

func TestClientThatDoesNotReadIsClosed(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.MaxReplyBytes = 64 << 10 })
	slow, busy := dialRaw(t, s), dialRaw(t, s)
	slow.open()
	busy.open()
	slow.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	path := "/" + strings.Repeat("n", 10000)
	slow.send(req(1, wire.OpAddWatch, &wire.PathMode{Path: path}))
	slow.reply()
	busy.send(createReq(1, path, ""))
	busy.reply()
	for xid := int32(2); s.Stats().SlowClients.Load() == 0; xid++ {
		busy.send(req(xid, wire.OpSetData, &wire.SetDataRequest{Path: path, Version: -1}))
		if h, _ := busy.reply(); h.Err != wire.OK {
			t.Fatalf("set: %+v", h)
		}
		if xid > 20000 {
			t.Fatal("the connection that does not read is still there")
		}
	}
}

// inBubble runs a server without ports under synthetic time.
func inBubble(t *testing.T, dir string, do func(t *testing.T, s *Server)) {
	inBubbleWith(t, Config{Storage: storage.Config{DataDir: dir}}, do)
}

func inBubbleWith(t *testing.T, cfg Config, do func(t *testing.T, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Znode = znode.Config{Digest: true, ExtendedTypes: true}
		cfg.Storage.NoForceSync = cfg.Storage.FS == nil
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Errorf("server: %v", err)
			}
		})
		defer wg.Wait()
		defer cancel()
		synctest.Wait()
		do(t, s)
	})
}

func pipe(t *testing.T, s *Server) *rawConn {
	nc, err := s.Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(10 * time.Minute)) // synthetic ones, as a rule
	t.Cleanup(func() { nc.Close() })
	return &rawConn{t, nc}
}

func TestSessionExpiresBetweenItsTimeoutAndOneTickLater(t *testing.T) {
	dir := t.TempDir()
	inBubble(t, dir, func(t *testing.T, s *Server) {
		silent, alive := pipe(t, s), pipe(t, s)
		silent.open()
		alive.open()
		silent.send(req(1, wire.OpCreate, &wire.CreateRequest{Path: "/e", ACL: wire.OpenACL(), Mode: wire.Ephemeral}))
		silent.reply()
		began := time.Now()
		for s.State().Ephemerals == 1 {
			time.Sleep(500 * time.Millisecond)
			alive.send(req(-2, wire.OpPing, nil))
			alive.reply()
			if time.Since(began) > time.Minute {
				t.Fatal("the session does not expire")
			}
		}
		if took := time.Since(began); took < 10*time.Second || took > 13*time.Second {
			t.Errorf("expired after %v, want 10s to 12s", took)
		}
		silent.wantClosed()
		if st := s.State(); st.Sessions != 1 {
			t.Errorf("%d sessions, want the one that pings", st.Sessions)
		}
	})
}

func TestSilentConnectionIsClosedBeforeItHasASession(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		began := time.Now()
		pipe(t, s).wantClosed()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("closed after %v, want 10s", took)
		}
	})
}

func TestSessionSurvivesARestartWithItsEphemerals(t *testing.T) {
	dir := t.TempDir()
	var kept wire.ConnectResponse
	inBubble(t, dir, func(t *testing.T, s *Server) {
		c := pipe(t, s)
		kept = c.open()
		c.send(req(1, wire.OpCreate, &wire.CreateRequest{Path: "/e", ACL: wire.OpenACL(), Mode: wire.Ephemeral}))
		c.reply()
	})
	inBubble(t, dir, func(t *testing.T, s *Server) {
		time.Sleep(9 * time.Second) // it has its full timeout from the start
		c := pipe(t, s)
		c.send(connectFrame(kept.SessionID, 10000, kept.Password[:]))
		var r wire.ConnectResponse
		if err := wire.Unmarshal(c.recv(), &r); err != nil || r.SessionID != kept.SessionID {
			t.Fatalf("response %+v %v", r, err)
		}
		if st := s.State(); st.Ephemerals != 1 {
			t.Errorf("%d ephemerals, want 1", st.Ephemerals)
		}
	})
}

func TestContainersAndTTLZnodesGo(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		c.send(req(1, wire.OpCreateContainer, &wire.CreateRequest{Path: "/box", ACL: wire.OpenACL(), Mode: wire.Container}),
			createReq(2, "/box/x", ""), req(3, wire.OpDelete, &wire.PathVersion{Path: "/box/x", Version: -1}),
			req(4, wire.OpCreateTTL, &wire.CreateRequest{Path: "/ttl", ACL: wire.OpenACL(), Mode: wire.PersistentTTL, TTLMs: 5000, HasTTL: true}))
		for range 4 {
			if h, _ := c.reply(); h.Err != wire.OK {
				t.Fatalf("%+v", h)
			}
		}
		go func() {
			for range 20 {
				time.Sleep(4 * time.Second)
				c.send(req(-2, wire.OpPing, nil))
				c.reply()
			}
		}()
		time.Sleep(70 * time.Second)
		if n := s.State().Znodes; n != 5 {
			t.Errorf("%d znodes after a minute, want 5", n)
		}
		time.Sleep(20 * time.Second)
	})
}
