package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// replayConn is a server that sends fixed bytes.
type replayConn struct {
	net.Conn
	*bytes.Reader
}

func (c replayConn) Read(b []byte) (int, error)     { return c.Reader.Read(b) }
func (replayConn) SetReadDeadline(time.Time) error  { return nil }
func (replayConn) Write(b []byte) (int, error)      { return len(b), nil }
func (replayConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzReplies gives a client with one request of each kind under way whatever
// bytes a server may send: it must neither panic nor hang nor leave anyone
// waiting.
func FuzzReplies(f *testing.F) {
	frame := func(b []byte) []byte {
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		return b
	}
	header := func(xid int32, code wire.Code) []byte {
		return (&wire.ReplyHeader{Xid: xid, Zxid: 5, Err: code}).Append(make([]byte, 4))
	}
	var seed []byte
	seed = append(seed, frame((&wire.GetDataResponse{Data: []byte("x")}).Append(header(1, 0)))...)
	seed = append(seed, frame((&wire.GetChildren2Response{Children: []string{"a"}}).Append(header(2, 0)))...)
	seed = append(seed, frame(header(3, wire.ErrNoNode))...)
	seed = append(seed, frame(header(4, 0))...)
	seed = append(seed, frame(header(5, 0))...)
	seed = append(seed, frame((&wire.MultiResponse{}).Append(header(6, 0)))...)
	seed = append(seed, frame((&wire.WatcherEvent{Type: 3, State: 3, Path: "/a"}).Append(header(-1, 0)))...)
	seed = append(seed, frame(header(-2, 0))...)
	seed = append(seed, frame(header(-4, 0))...)
	seed = append(seed, frame(header(-8, 0))...)
	f.Add(seed)
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := New(Config{Servers: "x", MaxReply: 1 << 20, Auth: []Auth{{"digest", []byte("a:b")}}})
		if err != nil {
			t.Fatal(err)
		}
		k, err := c.established(replayConn{Reader: bytes.NewReader(b)}, &wire.ConnectResponse{SessionID: 1, TimeoutMs: 4000})
		if err != nil {
			t.Fatal(err)
		}
		path := &wire.PathWatch{Path: "/a", Watch: true}
		calls := []*call{
			c.newCall(wire.OpGetData, "/a", path, &wire.GetDataResponse{}),
			c.newCall(wire.OpGetChildren2, "/a", path, &wire.GetChildren2Response{}),
			c.newCall(wire.OpExists, "/a", path, &wire.Stat{}),
			c.newCall(wire.OpAddWatch, "/a", &wire.PathMode{Path: "/a", Mode: 1}, nil),
			c.newCall(wire.OpRemoveWatches, "/a", &wire.PathMode{Path: "/a", Mode: 3}, nil),
			c.newCall(wire.OpMultiRead, "", &wire.MultiRequest{}, &wire.MultiResponse{}),
		}
		calls[0].keep = true
		calls[0].watch = &oneShot{dataWatches, "/a", make(chan Event, 1)}
		calls[1].watch = &oneShot{childWatches, "/a", make(chan Event, 1)}
		calls[2].watch = &oneShot{dataWatches, "/a", make(chan Event, 1)}
		calls[3].pers = &Watch{c: c, key: watchKey{"/a", 1}, events: make(chan Event, 2)}
		calls[4].full, calls[4].kind = "/a", 3
		c.watches.addHandle(calls[3].pers)
		c.rearming = 1
		for _, k := range calls {
			c.queue.push(k)
		}
		c.takeQueued(nil)
		err = c.readLoop(k)
		if err == nil {
			t.Error("the end of the connection is no error")
		}
		c.lost()
		for i, k := range calls {
			select {
			case <-k.done:
			default:
				t.Errorf("call %d waits for ever after %v", i, err)
			}
		}
		c.shutdown()
	})
}

// FuzzHandshake: whatever answers on the port, it is an error or a session.
func FuzzHandshake(f *testing.F) {
	f.Add(append([]byte{0, 0, 0, 37}, (&wire.ConnectResponse{TimeoutMs: 4000, SessionID: 1, HasReadOnly: true}).Append(nil)...))
	f.Add(append([]byte{0, 0, 0, 16}, (&wire.ReplyHeader{Err: wire.ErrNotReadOnly}).Append(nil)...))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			far.Read(make([]byte, 64))
			far.Write(b)
			far.Close()
		}()
		c, err := New(Config{Servers: "x", Dial: func(context.Context, string) (net.Conn, error) { return near, nil }})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.handshake(near)
		if err != nil {
			return
		}
		if _, err := c.established(near, resp); err == nil && c.Session().ID == 0 {
			t.Errorf("no session after %x", b)
		} else if errors.Is(err, wire.ErrSessionExpired) {
			t.Errorf("a session that never was is expired after %x", b)
		}
	})
}
