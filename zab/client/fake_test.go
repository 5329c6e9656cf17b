package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A fakeServer is at the other end of Config.Dial; the test plays its part, byte
// by byte. Connections are net.Pipe: a write ends when it was read.
type fakeServer struct {
	t     *testing.T
	conns chan *fakeConn
	dials atomic.Int32
	down  atomic.Bool // dials fail
}

type fakeConn struct {
	t *testing.T
	net.Conn
	br     *bufio.Reader
	addr   string
	writes *atomic.Int32 // of the client
}

type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func (s *fakeServer) dial(ctx context.Context, addr string) (net.Conn, error) {
	s.dials.Add(1)
	if s.down.Load() {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	conn := &fakeConn{t: s.t, Conn: far, br: bufio.NewReader(far), addr: addr, writes: new(atomic.Int32)}
	select {
	case s.conns <- conn:
		return countingConn{near, conn.writes}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs a client, against a fake server, in a bubble where time is
// faked.
func inBubble(t *testing.T, cfg Config, test func(t *testing.T, c *Client, s *fakeServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		cfg.Dial = s.dial
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour) // a test that waits in vain ends
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		defer func() {
			stop()
			<-done
		}()
		test(t, c, s)
	})
}

// hour ends a test that waits in vain.
func hour(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}

func (s *fakeServer) accept() *fakeConn {
	s.t.Helper()
	select {
	case conn := <-s.conns:
		return conn
	case <-time.After(30 * time.Minute):
		s.t.Fatal("the client does not connect")
	}
	return nil
}

// welcome accepts a connection and gives it a session of 9 s: pings after 3 s,
// lost after 6 s of silence.
func (s *fakeServer) welcome(id zab.SessionID) *fakeConn {
	s.t.Helper()
	conn := s.accept()
	conn.readConnect()
	conn.grant(id, false)
	return conn
}

func (f *fakeConn) frame() []byte {
	f.t.Helper()
	b, err := f.tryFrame()
	if err != nil {
		f.t.Fatalf("server reads: %v", err)
	}
	return b
}

func (f *fakeConn) tryFrame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(f.br, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(f.br, b)
	return b, err
}

func (f *fakeConn) send(b []byte) {
	f.t.Helper()
	if _, err := f.Write(append(wire.AppendInt(nil, int32(len(b))), b...)); err != nil {
		f.t.Fatalf("server writes: %v", err)
	}
}

func (f *fakeConn) readConnect() wire.ConnectRequest {
	f.t.Helper()
	var req wire.ConnectRequest
	if err := wire.Unmarshal(f.frame(), &req); err != nil {
		f.t.Fatal(err)
	}
	return req
}

func (f *fakeConn) grant(id zab.SessionID, readOnly bool) {
	f.t.Helper()
	resp := wire.ConnectResponse{TimeoutMs: 9000, SessionID: id, Password: [16]byte{byte(id)}, HasReadOnly: true, ReadOnly: readOnly}
	f.send(resp.Append(nil))
}

func (f *fakeConn) refuse() {
	f.t.Helper()
	f.send((&wire.ConnectResponse{HasReadOnly: true}).Append(nil))
	f.Close()
}

// request reads the next request, which must be of this type.
func (f *fakeConn) request(op wire.Op, req wire.Record) (xid int32) {
	f.t.Helper()
	b := f.frame()
	d := wire.NewDecoder(b)
	var h wire.RequestHeader
	if h.Decode(&d); h.Op != op {
		f.t.Fatalf("request %v %x, want %v", h.Op, b, op)
	}
	if req != nil {
		if req.Decode(&d); d.Err() != nil {
			f.t.Fatal(d.Err())
		}
	}
	return h.Xid
}

func (f *fakeConn) reply(xid int32, zxid zab.Zxid, code wire.Code, resp wire.Record) {
	f.t.Helper()
	b := (&wire.ReplyHeader{Xid: xid, Zxid: zxid, Err: code}).Append(nil)
	if resp != nil {
		b = resp.Append(b)
	}
	f.send(b)
}

func (f *fakeConn) event(typ wire.EventType, path string, zxid zab.Zxid) {
	f.t.Helper()
	f.reply(wire.XidNotification, zxid, wire.OK, &wire.WatcherEvent{Type: typ, State: wire.StateSyncConnected, Path: path})
}

// serveReads answers every getData with its path, until the connection ends.
func (f *fakeConn) serveReads() {
	for {
		b, err := f.tryFrame()
		if err != nil {
			return
		}
		d := wire.NewDecoder(b)
		var h wire.RequestHeader
		h.Decode(&d)
		out := (&wire.ReplyHeader{Xid: h.Xid, Zxid: 1}).Append(make([]byte, 4))
		if h.Op == wire.OpGetData {
			var req wire.PathWatch
			req.Decode(&d)
			out = (&wire.GetDataResponse{Data: []byte(req.Path)}).Append(out)
		}
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := f.Write(out); err != nil {
			return
		}
	}
}

// result is what an operation in another goroutine returned.
type result struct {
	data []byte
	err  error
}

func goGet(ctx context.Context, c *Client, path string) chan result {
	ch := make(chan result, 1)
	go func() {
		data, _, err := c.Get(ctx, path)
		ch <- result{data, err}
	}()
	synctest.Wait()
	return ch
}

func goSet(ctx context.Context, c *Client, path string) chan error {
	ch := make(chan error, 1)
	go func() {
		_, err := c.Set(ctx, path, nil, -1)
		ch <- err
	}()
	synctest.Wait()
	return ch
}

// goDo runs any operation.
func goDo(op func() error) chan error {
	ch := make(chan error, 1)
	go func() { ch <- op() }()
	synctest.Wait()
	return ch
}

func wantEvents(t *testing.T, what string, ch <-chan Event, want ...Event) {
	t.Helper()
	synctest.Wait()
	var got []Event
	for len(ch) > 0 {
		got = append(got, <-ch)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func wantClosed(t *testing.T, what string, ch <-chan Event) {
	t.Helper()
	synctest.Wait()
	select {
	case e, ok := <-ch:
		if ok {
			t.Errorf("%s: got %+v, want it closed", what, e)
		}
	default:
		t.Errorf("%s is not closed", what)
	}
}

func state(s wire.KeeperState) Event { return Event{Type: wire.EventNone, State: s} }

func change(typ wire.EventType, path string, zxid zab.Zxid) Event {
	return Event{Type: typ, State: wire.StateSyncConnected, Path: path, Zxid: zxid}
}
