package server

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
)

func getReq(xid int32, path string) []byte {
	return req(xid, wire.OpGetData, &wire.PathWatch{Path: path})
}

func setReq(xid int32, path, data string) []byte {
	return req(xid, wire.OpSetData, &wire.SetDataRequest{Path: path, Data: []byte(data), Version: -1})
}

// wantOK reads replies with the given xids.
func (c *rawConn) wantOK(xids ...int32) {
	c.t.Helper()
	for _, xid := range xids {
		if h, _ := c.reply(); h.Xid != xid || h.Err != wire.OK {
			c.t.Fatalf("reply %+v, want xid %d without an error", h, xid)
		}
	}
}

// TestLongRepliesReachAClientThatReads asks in one burst for far more than may
// wait for a client.
func TestLongRepliesReachAClientThatReads(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.MaxReplyBytes = 2 << 20 })
	data := strings.Repeat("x", 500_000)
	for _, tc := range []struct {
		name  string
		first []byte
	}{
		{"behind nothing", getReq(0, "/big")},
		{"behind a short write", setReq(0, "/small", "")},
		{"behind a long write to an empty znode", setReq(0, "/grows", data)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dialRaw(t, s)
			c.open()
			c.send(createReq(1, "/big", data), createReq(2, "/small", ""), createReq(3, "/grows", ""))
			for range 3 {
				c.reply()
			}
			path := "/big"
			if strings.Contains(tc.name, "grows") || strings.Contains(tc.name, "empty") {
				path = "/grows"
			}
			burst, xids := [][]byte{tc.first}, []int32{0}
			for xid := range int32(60) {
				burst, xids = append(burst, getReq(xid+1, path)), append(xids, xid+1)
			}
			c.send(burst...)
			c.wantOK(xids...)
			c.send(req(1, wire.OpDelete, &wire.PathVersion{Path: "/grows", Version: -1}))
			c.wantOK(1)
		})
	}
	if n := s.Stats().SlowClients.Load(); n != 0 {
		t.Errorf("%d clients counted as slow", n)
	}
}

func TestReplyOverTheBoundIsRefused(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.MaxReplyBytes = 16 << 10 })
	c := dialRaw(t, s)
	c.open()
	c.send(createReq(1, "/big", strings.Repeat("x", 10_000)), createReq(2, "/huge", strings.Repeat("x", 17_000)), createReq(3, "/dir", ""))
	c.wantOK(1, 2, 3)
	for i := range 40 {
		c.send(createReq(4, fmt.Sprintf("/dir/%0500d", i), ""))
		c.wantOK(4)
	}
	reads := func(op wire.Op, path string, n int) (m wire.MultiRequest) {
		for range n {
			m.Ops = append(m.Ops, wire.MultiOp{Op: op, Record: &wire.PathWatch{Path: path}})
		}
		return m
	}
	one, many, lists := reads(wire.OpGetData, "/big", 1), reads(wire.OpGetData, "/big", 20_000), reads(wire.OpGetChildren, "/", 20_000)
	for _, tc := range []struct {
		name  string
		frame []byte
		want  wire.Code
	}{
		{"a long value", getReq(7, "/big"), wire.OK},
		{"too long a value", getReq(7, "/huge"), wire.ErrMarshalling},
		{"too long a list of children", req(7, wire.OpGetChildren, &wire.PathWatch{Path: "/dir", Watch: true}), wire.ErrMarshalling},
		{"the same with a stat", req(7, wire.OpGetChildren2, &wire.PathWatch{Path: "/dir"}), wire.ErrMarshalling},
		{"a multiRead", req(7, wire.OpMultiRead, &one), wire.OK},
		{"a multiRead of 200 MB", req(7, wire.OpMultiRead, &many), wire.ErrMarshalling},
		{"a multiRead of many lists", req(7, wire.OpMultiRead, &lists), wire.ErrMarshalling},
		{"the connection lives", getReq(7, "/"), wire.OK},
	} {
		c.send(tc.frame)
		if h, b := c.reply(); h.Xid != 7 || h.Err != tc.want || tc.want != wire.OK && len(b) > 0 {
			t.Errorf("%s: %+v and %d bytes, want %v", tc.name, h, len(b), tc.want)
		}
	}
}

func TestNothingBehindACloseSessionIsExecuted(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	c.open()
	before := s.State().LastZxid
	c.send(req(1, wire.OpCloseSession, nil), createReq(2, "/late", ""), getReq(3, "/"))
	c.wantOK(1)
	c.wantClosed()
	if got := s.State().LastZxid; got != before+1 {
		t.Errorf("last zxid %v, want that of the closeSession, %v", got, before+1)
	}
}

// TestThousandsOfRequestsInFlight sends far more than the bounds allow to be
// under way, in pieces of any size, and expects every reply in order.
func TestThousandsOfRequestsInFlight(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"defaults":               func(*Config) {},
		"one at a time":          func(c *Config) { c.MaxInFlight = 1 },
		"seven at a time":        func(c *Config) { c.MaxInFlight = 7 },
		"one byte under way":     func(c *Config) { c.MaxOutstandingBytes = 1 },
		"hardly room for output": func(c *Config) { c.MaxReplyBytes = 4 << 10 },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := start(t, t.TempDir(), func(c *Config) {
				c.Storage.NoForceSync = true
				change(c)
			})
			c := dialRaw(t, s)
			c.open()
			c.send(createReq(1, "/n", ""))
			c.wantOK(1)
			const n = 3000
			rng := rand.New(rand.NewPCG(1, 2))
			var stream []byte
			xids := make([]int32, n)
			for i := range xids {
				xids[i] = int32(i + 1)
				frame := getReq(xids[i], "/n")
				switch rng.IntN(6) {
				case 0, 1:
					frame = setReq(xids[i], "/n", strings.Repeat("x", rng.IntN(500)))
				case 2:
					frame = req(xids[i], wire.OpAuth, &wire.AuthPacket{Scheme: "digest", Auth: []byte("u:p")})
				case 3:
					frame = req(xids[i], wire.OpExists, &wire.PathWatch{Path: "/"})
				}
				stream = append(stream, framed(frame)...)
			}
			go func() {
				for len(stream) > 0 {
					k := min(len(stream), 1+rng.IntN(5000))
					if _, err := c.Write(stream[:k]); err != nil {
						return
					}
					stream = stream[k:]
				}
			}()
			c.wantOK(xids...)
			if n := s.outstandingBytes.Load(); n != 0 {
				t.Errorf("%d bytes are still counted as under way", n)
			}
		})
	}
}

func TestLargestRequest(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	frameOf := func(size int) []byte {
		frame := createReq(1, "/max", "")
		return createReq(1, "/max", strings.Repeat("x", size-len(frame)))
	}
	c := dialRaw(t, s)
	c.open()
	c.send(frameOf(1048575), getReq(2, "/max"))
	c.wantOK(1, 2)
	c = dialRaw(t, s)
	c.open()
	c.Write(binary.BigEndian.AppendUint32(nil, 1048576))
	c.wantClosed()
}

func TestLargestRequestMayBeLarger(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.MaxBuffer = 4 << 20 })
	c := dialRaw(t, s)
	c.open()
	c.send(createReq(1, "/large", strings.Repeat("x", 4<<20-100)), getReq(2, "/large"))
	c.wantOK(1, 2)
}

func TestFramesMayComeByteByByte(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	c.Conn.(*net.TCPConn).SetNoDelay(true)
	stream := framed(connectFrame(0, 10000, nil), createReq(1, "/b", "data"), getReq(2, "/b"))
	for i := range stream {
		if _, err := c.Write(stream[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	c.recv()
	c.wantOK(1, 2)
}

// TestSlowClientIsNotAStalledOne takes a long reply at 10 KB/s. The pings that the
// client sends meanwhile may not be read before its end.
func TestSlowClientIsNotAStalledOne(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		c.send(createReq(1, "/big", strings.Repeat("x", 1_000_000)))
		c.wantOK(1)
		c.send(getReq(2, "/big"))
		go func() {
			for err := error(nil); err == nil; time.Sleep(3 * time.Second) {
				_, err = c.Write(framed(req(-2, wire.OpPing, nil)))
			}
		}()
		left := 4 + 16 + 4 + 1_000_000 + 68
		buf := make([]byte, 20_000)
		for left > 0 {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("%d bytes before the end: %v", left, err)
			}
			left -= n
			time.Sleep(2 * time.Second) // the server closes who takes nothing for 30s
		}
		c.wantOK(wire.XidPing)
		c.Close()
		time.Sleep(10 * time.Second) // the pinger ends
	})
}

// TestClientThatTakesNothingLosesItsSession is the other side of it.
func TestClientThatTakesNothingLosesItsSession(t *testing.T) {
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		c.send(createReq(1, "/big", strings.Repeat("x", 1_000_000)))
		c.wantOK(1)
		c.send(getReq(2, "/big"))
		time.Sleep(13 * time.Second)
		if st := s.State(); st.Sessions != 0 || st.Connections != 0 {
			t.Errorf("%d sessions and %d connections are left", st.Sessions, st.Connections)
		}
	})
}

// TestSessionSurvivesADiskThatHangs lets a client have so much under way that the
// server does not read its pings for longer than its timeout.
func TestSessionSurvivesADiskThatHangs(t *testing.T) {
	disk, next := slowDisk()
	cfg := Config{MaxInFlight: 2, Storage: storage.Config{DataDir: "data", FS: disk}}
	inBubbleWith(t, cfg, func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		c.send(createReq(1, "/n", ""))
		c.wantOK(1)
		next.Store(int64(60 * time.Second))
		go c.Write(framed(setReq(2, "/n", ""), setReq(3, "/n", ""), setReq(4, "/n", ""), req(-2, wire.OpPing, nil)))
		c.SetReadDeadline(time.Now().Add(2 * time.Minute))
		c.wantOK(2, 3, 4, wire.XidPing)
		if n := s.Stats().SessionsExpired.Load(); n != 0 {
			t.Errorf("%d sessions expired", n)
		}
	})
}

func TestIdentitiesAreBounded(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	auth := func(user string) []byte {
		return req(wire.XidAuth, wire.OpAuth, &wire.AuthPacket{Scheme: "digest", Auth: []byte(user)})
	}
	c := dialRaw(t, s)
	c.open()
	for i := range maxIdentities - 1 { // it has one from the start
		c.send(auth(fmt.Sprint("user", i)), auth("user0"))
		c.wantOK(wire.XidAuth, wire.XidAuth)
	}
	c.send(auth("one too many"), getReq(1, "/"))
	if h, _ := c.reply(); h.Err != wire.ErrAuthFailed {
		t.Errorf("one identity too many: %v", h.Err)
	}
	c.wantClosed()
	c = dialRaw(t, s)
	c.open()
	c.send(auth(strings.Repeat("x", maxCredential)))
	c.wantOK(wire.XidAuth)
	c.send(auth(strings.Repeat("x", maxCredential+1)))
	if h, _ := c.reply(); h.Err != wire.ErrAuthFailed {
		t.Errorf("credential that is too long: %v", h.Err)
	}
	c.wantClosed()
}

func TestClientsInTheProcessDoNotCount(t *testing.T) {
	s, _ := start(t, t.TempDir(), func(c *Config) { c.MaxClientCnxns = 2 })
	dialRaw(t, s).open()
	for range 2 {
		pipe(t, s).open()
	}
	dialRaw(t, s).open()
	dialRaw(t, s).wantClosed()
}

func TestSettingsThatCannotWork(t *testing.T) {
	for _, cfg := range []Config{
		{MaxInFlight: -1}, {StallTimeout: -1}, {HandshakeTimeout: -1}, {ContainerInterval: -1}, {MaxOutstandingBytes: -1},
		{MaxReplyBytes: 1}, {MaxBuffer: 1 << 30}, {TickTime: 100 * 24 * time.Hour}, {MinSessionTimeout: -1}, {SnapRetain: 1},
	} {
		if err := cfg.Validate(); err == nil {
			t.Errorf("accepted: %+v", cfg)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// TestManySessionsExpireInPieces lets a thousand sessions expire together: writes
// of clients must find their way in between.
func TestManySessionsExpireInPieces(t *testing.T) {
	const n = 1000
	inBubble(t, t.TempDir(), func(t *testing.T, s *Server) {
		for i := range n {
			c := pipe(t, s)
			c.open()
			c.send(req(1, wire.OpCreate, &wire.CreateRequest{Path: fmt.Sprint("/e", i), ACL: wire.OpenACL(), Mode: wire.Ephemeral}))
			c.wantOK(1)
			c.Close()
		}
		before := s.Stats().Syncs.Load()
		time.Sleep(13 * time.Second)
		if st := s.State(); st.Sessions != 0 || st.Ephemerals != 0 || st.Outstanding != 0 || st.Connections != 0 {
			t.Errorf("left: %+v", st)
		}
		if syncs := s.Stats().Syncs.Load() - before; syncs < n/maxOwn {
			t.Errorf("%d sessions closed with %d syncs, at least %d wanted", n, syncs, n/maxOwn)
		}
	})
}

func TestBuffersOfABurstAreGivenBack(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	c := dialRaw(t, s)
	c.open()
	big := strings.Repeat("x", 1_000_000)
	var burst [][]byte
	for i := range int32(20) {
		burst = append(burst, createReq(i, fmt.Sprint("/n", i), big))
	}
	c.send(burst...)
	for i := range int32(20) {
		c.wantOK(i)
	}
	for range 4 {
		c.send(setReq(1, "/n0", ""))
		c.wantOK(1)
	}
	kept := 0
	if err := s.inDriver(t.Context(), func() { kept = cap(s.encode) + cap(s.encodeOld) }); err != nil {
		t.Fatal(err)
	}
	if kept > 2*maxIdleBatch {
		t.Errorf("%d bytes are kept", kept)
	}
}
