package record

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/zabtest/checker"
	"github.com/paddockio/paddock/zab/znode"
)

// maxFrame bounds the frames that are decoded; a longer one ends the record of its
// connection, and the connection.
const maxFrame = 64 << 20

// Dial returns a dialer for client.Config whose connections are recorded. next
// makes them; nil is TCP.
func Dial(r *checker.Recorder, next func(ctx context.Context, addr string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	if next == nil {
		var d net.Dialer
		next = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := next(ctx, addr)
		if err != nil {
			return nil, err
		}
		return Tap(r, nc, addr), nil
	}
}

// Tap returns nc with everything recorded that goes over it. It must be given the
// connection before its first byte. server is a word that names the server.
func Tap(r *checker.Recorder, nc net.Conn, server string) net.Conn {
	t := &tap{Conn: nc, r: r, server: server}
	if addr, err := netip.ParseAddrPort(nc.LocalAddr().String()); err == nil {
		t.ids = []wire.ID{znode.IPID(addr.Addr())}
	}
	return t
}

type tap struct {
	net.Conn
	r      *checker.Recorder
	server string
	ids    []wire.ID

	mu       sync.Mutex // guards what follows; taken before the lock of the recorder
	conn     *checker.Conn
	ready    bool // the session is known
	up, down frames
	calls    []call // without an answer, in order
}

type call struct {
	xid int32
	e   *checker.Entry
	op  wire.Op
}

// Write notes the requests that end in p, then sends it.
func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	err := t.up.take(p, t.request)
	t.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return t.Conn.Write(p)
}

// Read notes the answers that end in what was read.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	if ferr := t.down.take(p[:n], t.answer); ferr != nil {
		return 0, ferr
	}
	return n, err
}

// Close notes the end.
func (t *tap) Close() error {
	err := t.Conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		t.conn.Close()
	}
	return err
}

// request takes a frame of the client. The frame is its own.
func (t *tap) request(b []byte) error {
	if t.conn == nil {
		var r wire.ConnectRequest
		if err := wire.Unmarshal(b, &r); err != nil {
			return err
		}
		t.conn = t.r.Connect(t.server, r.SessionID, t.ids...)
		return nil
	}
	var h wire.RequestHeader
	d := wire.NewDecoder(b)
	if h.Decode(&d); d.Err() != nil {
		return d.Err()
	}
	args := checker.Args{Op: h.Op}
	if h.Op == wire.OpAuth {
		var a wire.AuthPacket
		if a.Decode(&d); d.Err() == nil { // the secret stays out of the history
			args.IDs, _ = new(znode.Config).Authenticate(a.Scheme, a.Auth, netip.Addr{})
		}
	} else if body := requestRecord(h.Op); body != nil {
		if body.Decode(&d); d.Err() == nil {
			args = checker.ArgsOf(h.Op, body)
		}
	}
	t.calls = append(t.calls, call{h.Xid, t.conn.Call(h.Xid, args), h.Op})
	return nil
}

// requestRecord returns an empty record of the request, nil if it has none.
func requestRecord(op wire.Op) wire.Record {
	switch op {
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer:
		return &wire.CreateRequest{}
	case wire.OpCreateTTL:
		return &wire.CreateRequest{HasTTL: true}
	case wire.OpDelete, wire.OpCheck:
		return &wire.PathVersion{}
	case wire.OpSetData:
		return &wire.SetDataRequest{}
	case wire.OpSetACL:
		return &wire.SetACLRequest{}
	case wire.OpExists, wire.OpGetData, wire.OpGetChildren, wire.OpGetChildren2:
		return &wire.PathWatch{}
	case wire.OpSync, wire.OpGetACL, wire.OpGetEphemerals, wire.OpGetAllChildrenNumber:
		return &wire.PathRecord{}
	case wire.OpAddWatch, wire.OpRemoveWatches, wire.OpCheckWatches:
		return &wire.PathMode{}
	case wire.OpMulti, wire.OpMultiRead:
		return &wire.MultiRequest{}
	case wire.OpSetWatches:
		return &wire.SetWatches{}
	case wire.OpSetWatches2:
		return &wire.SetWatches{HasPersistent: true}
	}
	return nil
}

// answer takes a frame of the server.
func (t *tap) answer(b []byte) error {
	if t.conn == nil {
		return nil // nothing was asked: the client will see to it
	}
	if !t.ready {
		var r wire.ConnectResponse
		if err := wire.Unmarshal(b, &r); err != nil {
			return err
		}
		t.ready = true
		t.conn.Connected(r.SessionID)
		return nil
	}
	var h wire.ReplyHeader
	d := wire.NewDecoder(b)
	if h.Decode(&d); d.Err() != nil {
		return d.Err()
	}
	if h.Xid == wire.XidNotification {
		var e wire.WatcherEvent
		if e.Decode(&d); d.Err() != nil {
			return d.Err()
		}
		t.conn.Event(e.Type, e.Path, h.Zxid)
		return nil
	}
	for i, c := range t.calls {
		if c.xid != h.Xid {
			continue
		}
		// A reply that is not the next one is recorded too: rule S27 sees it.
		t.calls = append(t.calls[:i], t.calls[i+1:]...)
		var body wire.Record
		if h.Err == wire.OK {
			if body = checker.ReplyRecord(c.op); body != nil {
				if body.Decode(&d); d.Err() != nil {
					return d.Err()
				}
			}
		}
		t.conn.Return(c.e, checker.ResultOf(h.Zxid, h.Err, body))
		return nil
	}
	return nil // the client will see to it
}

// frames cuts a stream into frames.
type frames struct {
	size [4]byte
	have int // bytes of size
	need int // of the frame, once size is there
	buf  []byte
}

// take gives each frame that is complete to handle, which may keep it. Memory
// grows with what comes, not with what is announced.
func (f *frames) take(p []byte, handle func([]byte) error) error {
	for len(p) > 0 {
		if f.have < 4 {
			n := copy(f.size[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have < 4 {
				return nil
			}
			if f.need = int(int32(binary.BigEndian.Uint32(f.size[:]))); f.need < 0 || f.need > maxFrame {
				return fmt.Errorf("frame of %d bytes", f.need)
			}
		}
		n := min(len(p), f.need-len(f.buf))
		f.buf = append(f.buf, p[:n]...)
		p = p[n:]
		if len(f.buf) < f.need {
			return nil
		}
		b := f.buf
		f.buf, f.have = nil, 0
		if err := handle(b); err != nil {
			return err
		}
	}
	return nil
}
