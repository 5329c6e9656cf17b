package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A stressor is one client of TestStress: it opens, takes up, breaks and closes
// sessions and sends bursts of random requests.
type stressor struct {
	s    *Server
	rng  *rand.Rand
	pool *sessionPool
	nc   net.Conn
	sess wire.ConnectResponse
	last zab.Zxid
}

// sessionPool is the sessions that any stressor may take up.
type sessionPool struct {
	mu   sync.Mutex
	open []wire.ConnectResponse
}

func (p *sessionPool) put(r wire.ConnectResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, r)
}

// pick returns one of the sessions, of which another stressor may have the
// connection.
func (p *sessionPool) pick(rng *rand.Rand) (r wire.ConnectResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) > 0 {
		r = p.open[rng.IntN(len(p.open))]
	}
	return r
}

// connect opens a session or takes one up. It reports whether there is one now.
func (x *stressor) connect() (bool, error) {
	x.hangUp()
	var err error
	if x.rng.IntN(2) == 0 {
		x.nc, err = x.s.Dial(context.Background(), "")
	} else {
		x.nc, err = net.Dial("tcp", x.s.Addr().String())
	}
	if err != nil {
		return false, err
	}
	x.nc.SetDeadline(time.Now().Add(20 * time.Second))
	var want wire.ConnectResponse
	if x.rng.IntN(3) > 0 {
		want = x.pool.pick(x.rng)
	}
	password := want.Password
	if x.rng.IntN(20) == 0 {
		password[0]++
	}
	go x.nc.Write(framed(connectFrame(want.SessionID, int32(x.rng.IntN(300)), password[:])))
	frame, err := (&rawConn{Conn: x.nc}).tryRecv()
	if err != nil {
		return false, nil // another one took it over at once
	}
	if err := wire.Unmarshal(frame, &x.sess); err != nil {
		return false, err
	}
	if x.sess.SessionID == 0 {
		return false, nil
	}
	if want.SessionID == 0 {
		x.pool.put(x.sess)
	} else if x.sess.SessionID != want.SessionID {
		return false, fmt.Errorf("session %v instead of %v", x.sess.SessionID, want.SessionID)
	}
	x.last = 0
	return true, nil
}

func (x *stressor) hangUp() {
	if x.nc != nil {
		x.nc.Close()
	}
}

func (x *stressor) request(xid int32) []byte {
	path := fmt.Sprintf("/s%d", x.rng.IntN(12))
	if x.rng.IntN(3) == 0 {
		path = fmt.Sprintf("%s/c%d", path, x.rng.IntN(4))
	}
	data := make([]byte, x.rng.IntN(200))
	if x.rng.IntN(50) == 0 {
		data = make([]byte, 100_000)
	}
	create := &wire.CreateRequest{Path: path, Data: data, ACL: wire.OpenACL(), Mode: wire.CreateMode(x.rng.IntN(4))}
	switch x.rng.IntN(20) {
	case 0, 1, 2:
		return req(xid, wire.OpCreate, create)
	case 3:
		return req(xid, wire.OpCreate2, create)
	case 4, 5, 6:
		return req(xid, wire.OpSetData, &wire.SetDataRequest{Path: path, Data: data, Version: -1})
	case 7:
		return req(xid, wire.OpDelete, &wire.PathVersion{Path: path, Version: -1})
	case 8:
		return req(xid, wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{
			{Op: wire.OpCreate, Record: create}, {Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: path, Version: -1}},
		}})
	case 9, 10:
		return req(xid, wire.OpGetData, &wire.PathWatch{Path: path, Watch: x.rng.IntN(2) == 0})
	case 11:
		return req(xid, wire.OpExists, &wire.PathWatch{Path: path, Watch: true})
	case 12:
		return req(xid, wire.OpGetChildren2, &wire.PathWatch{Path: "/", Watch: true})
	case 13:
		return req(xid, wire.OpAddWatch, &wire.PathMode{Path: path, Mode: int32(x.rng.IntN(2))})
	case 14:
		return req(xid, wire.OpRemoveWatches, &wire.PathMode{Path: path, Mode: int32(1 + x.rng.IntN(5))})
	case 15:
		return req(xid, wire.OpSetWatches2, &wire.SetWatches{Data: []string{path}, Child: []string{"/"}, Exist: []string{path}, Persistent: []string{path}, HasPersistent: true})
	case 16:
		return req(xid, wire.OpAuth, &wire.AuthPacket{Scheme: "digest", Auth: []byte("u:p")})
	case 17:
		return req(xid, wire.OpGetEphemerals, &wire.PathRecord{Path: "/"})
	case 18:
		return createReq(xid, path, "")[:12] // cut off
	}
	return req(xid, wire.OpSync, &wire.PathRecord{Path: path})
}

// burst sends some requests and reads the replies, which must come in order and
// with zxids that do not go back. It returns io.EOF when the server closed the
// connection.
func (x *stressor) burst() error {
	n := int32(1 + x.rng.IntN(30))
	var frames [][]byte
	for xid := range n {
		frames = append(frames, x.request(xid+1))
	}
	closes := x.rng.IntN(30) == 0
	if closes {
		frames = append(frames, req(n+1, wire.OpCloseSession, nil))
		n++
	}
	go x.nc.Write(framed(frames...))
	abandon := x.rng.IntN(10) == 0
	for xid := int32(1); xid <= n; {
		if abandon && x.rng.IntN(5) == 0 {
			return io.EOF
		}
		frame, err := (&rawConn{Conn: x.nc}).tryRecv()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return fmt.Errorf("no reply %d of %d: %w", xid, n, err)
			}
			return io.EOF
		}
		var h wire.ReplyHeader
		if err := wire.Unmarshal(frame, &h); err != nil {
			return err
		}
		if h.Zxid > 0 {
			if h.Zxid < x.last {
				return fmt.Errorf("zxid %v after %v", h.Zxid, x.last)
			}
			x.last = h.Zxid
		}
		if h.Xid == wire.XidNotification {
			continue
		}
		if h.Xid != xid {
			return fmt.Errorf("reply %+v, want xid %d", h, xid)
		}
		xid++
	}
	if closes {
		return io.EOF
	}
	return nil
}

// TestStress has many clients do everything at once, with sessions that expire
// and snapshots under way, and expects order in every connection, nothing left
// at the end, and the same tree after a restart.
func TestStress(t *testing.T) {
	bursts := 40
	if testing.Short() {
		bursts = 15
	}
	before := runtime.NumGoroutine()
	dir := filepath.Join(t.TempDir(), "data")
	quick := func(c *Config) {
		c.TickTime, c.MaxSessionTimeout = 50*time.Millisecond, 400*time.Millisecond
		c.MaxInFlight, c.MaxOutstandingBytes, c.MaxReplyBytes = 20, 200_000, 300_000
		c.Storage.NoForceSync, c.Storage.SnapCount = true, 500
	}
	s, stop := start(t, dir, quick)
	waitFor(t, "the server", s.ready.Load)
	var wg sync.WaitGroup
	pool := &sessionPool{}
	for i := range uint64(16) {
		x := &stressor{s: s, rng: rand.New(rand.NewPCG(i, 1)), pool: pool}
		wg.Go(func() {
			defer x.hangUp()
			connected := false
			for range bursts {
				var err error
				if !connected {
					connected, err = x.connect()
				} else if err = x.burst(); err == io.EOF {
					connected, err = false, nil
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, "connections and sessions to end", func() bool {
		st := s.State()
		return st.Connections == 0 && st.Sessions == 0 && st.Outstanding == 0 && st.Ephemerals == 0 && st.Watches == 0
	})
	if n := s.outstandingBytes.Load(); n != 0 {
		t.Errorf("%d bytes are still counted as under way", n)
	}
	if n := s.Stats().DigestMismatches.Load(); n != 0 {
		t.Errorf("%d digest mismatches", n)
	}
	was := s.State()
	stop()
	wantGoroutines(t, before)
	s, stop = start(t, dir, quick)
	if now := s.State(); now.Digest != was.Digest || now.LastZxid != was.LastZxid || now.Znodes != was.Znodes {
		t.Errorf("after a restart %+v, before %+v", now, was)
	}
	stop()
}
