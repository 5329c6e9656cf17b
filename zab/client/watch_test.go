package client

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// getW sets a one-shot data watch, with the server's help.
func getW(t *testing.T, c *Client, conn *fakeConn, path string) <-chan Event {
	t.Helper()
	var ch <-chan Event
	got := goDo(func() (err error) {
		_, _, ch, err = c.GetW(t.Context(), path)
		return err
	})
	var req wire.PathWatch
	xid := conn.request(wire.OpGetData, &req)
	if !req.Watch {
		t.Errorf("getData %s without watch", path)
	}
	conn.reply(xid, 1, wire.OK, &wire.GetDataResponse{})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	return ch
}

func existsW(t *testing.T, c *Client, conn *fakeConn, path string, code wire.Code) <-chan Event {
	t.Helper()
	var (
		ch    <-chan Event
		found bool
	)
	got := goDo(func() (err error) {
		_, found, ch, err = c.ExistsW(t.Context(), path)
		return err
	})
	conn.reply(conn.request(wire.OpExists, nil), 1, code, &wire.Stat{})
	if err := <-got; err != nil || found != (code == wire.OK) {
		t.Fatalf("exists %s: %v, %v", path, found, err)
	}
	return ch
}

func childrenW(t *testing.T, c *Client, conn *fakeConn, path string) <-chan Event {
	t.Helper()
	var ch <-chan Event
	got := goDo(func() (err error) {
		_, _, ch, err = c.ChildrenW(t.Context(), path)
		return err
	})
	conn.reply(conn.request(wire.OpGetChildren2, nil), 1, wire.OK, &wire.GetChildren2Response{})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	return ch
}

func addWatch(t *testing.T, c *Client, conn *fakeConn, path string, mode int32) *Watch {
	t.Helper()
	var w *Watch
	got := goDo(func() (err error) {
		w, err = c.AddWatch(t.Context(), path, mode)
		return err
	})
	conn.reply(conn.request(wire.OpAddWatch, nil), 1, wire.OK, &wire.IntRecord{})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	return w
}

func TestOneShotWatchesFireOnce(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		data, exist := getW(t, c, conn, "/a"), existsW(t, c, conn, "/a", wire.OK)
		missing := existsW(t, c, conn, "/b", wire.ErrNoNode)
		child := childrenW(t, c, conn, "/a")
		second := getW(t, c, conn, "/a")

		conn.event(wire.EventNodeDataChanged, "/a", 5)
		conn.event(wire.EventNodeDataChanged, "/a", 6)
		for _, ch := range []<-chan Event{data, exist, second} {
			wantEvents(t, "data watch", ch, change(wire.EventNodeDataChanged, "/a", 5))
			wantClosed(t, "data watch", ch)
		}
		wantEvents(t, "child watch", child)
		conn.event(wire.EventNodeCreated, "/b", 7)
		wantEvents(t, "exist watch", missing, change(wire.EventNodeCreated, "/b", 7))
		conn.event(wire.EventNodeDeleted, "/a", -1) // as releases before 3.9 send it
		wantEvents(t, "child watch", child, change(wire.EventNodeDeleted, "/a", 0))
		wantClosed(t, "child watch", child)
	})
}

// The event may be in the same packet as the reply.
func TestEventRightBehindTheReplyIsSeen(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		var ch <-chan Event
		got := goDo(func() (err error) {
			_, _, ch, err = c.ChildrenW(t.Context(), "/a")
			return err
		})
		xid := conn.request(wire.OpGetChildren2, nil)
		reply := (&wire.GetChildren2Response{}).Append((&wire.ReplyHeader{Xid: xid, Zxid: 1}).Append(nil))
		event := (&wire.WatcherEvent{Type: wire.EventNodeChildrenChanged, State: wire.StateSyncConnected, Path: "/a"}).
			Append((&wire.ReplyHeader{Xid: -1, Zxid: 2}).Append(nil))
		both := append(wire.AppendInt(nil, int32(len(reply))), reply...)
		both = append(wire.AppendInt(both, int32(len(event))), event...)
		conn.Write(both)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		wantEvents(t, "watch", ch, change(wire.EventNodeChildrenChanged, "/a", 2))
	})
}

func TestFailedReadSetsNoWatch(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		got := goDo(func() error {
			_, _, ch, err := c.GetW(t.Context(), "/a")
			if ch != nil {
				t.Error("a channel in spite of an error")
			}
			return err
		})
		conn.reply(conn.request(wire.OpGetData, nil), 1, wire.ErrNoNode, nil)
		err := <-got
		var opErr *wire.OpError
		if !errors.Is(err, wire.ErrNoNode) || !errors.As(err, &opErr) || opErr.Path != "/a" {
			t.Errorf("got %v", err)
		}
		if n := len(c.watches.oneShots[dataWatches]); n != 0 {
			t.Errorf("%d watches", n)
		}
	})
}

func TestWatchesAreArmedAgainWithTheLastZxid(t *testing.T) {
	inBubble(t, Config{Servers: "x/app"}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		data, child := getW(t, c, conn, "/d"), childrenW(t, c, conn, "/")
		exist := existsW(t, c, conn, "/e", wire.ErrNoNode)
		set := goSet(t.Context(), c, "/d")
		conn.reply(conn.request(wire.OpSetData, nil), 0x100000009, wire.OK, &wire.Stat{})
		<-set
		conn.event(wire.EventNodeCreated, "/app/other", 0x10000000a) // does not count: reads may lag behind it
		conn.Close()

		conn = s.accept()
		if req := conn.readConnect(); req.LastZxidSeen != 0x100000009 {
			t.Errorf("last zxid %v", req.LastZxidSeen)
		}
		conn.grant(1, false)
		get := goGet(t.Context(), c, "/d")
		var sw wire.SetWatches
		if xid := conn.request(wire.OpSetWatches, &sw); xid != wire.XidSetWatches {
			t.Errorf("xid %d", xid)
		}
		if sw.RelativeZxid != 0x100000009 || fmt.Sprint(sw.Data, sw.Exist, sw.Child) != "[/app/d] [/app/e] [/app]" {
			t.Errorf("armed %+v", sw)
		}
		// The server tells at once what changed meanwhile.
		conn.event(wire.EventNodeDataChanged, "/app/d", -1)
		conn.event(wire.EventNodeChildrenChanged, "/app", -1)
		conn.reply(wire.XidSetWatches, 0x10000000b, wire.OK, nil)
		conn.reply(conn.request(wire.OpGetData, nil), 0x10000000b, wire.OK, &wire.GetDataResponse{})
		<-get
		wantEvents(t, "data watch", data, change(wire.EventNodeDataChanged, "/d", 0))
		wantEvents(t, "child watch", child, change(wire.EventNodeChildrenChanged, "/", 0))
		wantEvents(t, "exist watch", exist)
		conn.Close()

		conn = s.welcome(1)
		conn.request(wire.OpSetWatches, &sw)
		if fmt.Sprint(sw.Data, sw.Exist, sw.Child) != "[] [/app/e] []" {
			t.Errorf("armed the second time %+v", sw)
		}
	})
}

// ZOOKEEPER-706: one giant setWatches ends the connection, for ever.
func TestWatchesAreArmedInPieces(t *testing.T) {
	var table watchTable
	table.init()
	const n = 5000
	want := map[string]bool{}
	for i := range n {
		path := fmt.Sprintf("/app/%04d/%s", i, strings.Repeat("x", i%200))
		table.addOneShot(&oneShot{tableKind(i % 3), path, nil})
		w := &Watch{key: watchKey{path, int32(i % 2)}, ready: true}
		table.addHandle(w)
		want[fmt.Sprint(i%3, path)], want[fmt.Sprint(3+i%2, path)] = true, true
	}
	long := "/" + strings.Repeat("y", 2*maxSetWatches)
	table.addOneShot(&oneShot{dataWatches, long, nil})
	want[fmt.Sprint(0, long)] = true

	b, count := table.appendRearm(nil, 0x5, maxSetWatches)
	pieces := 0
	for d := wire.NewDecoder(b); d.Len() > 0; pieces++ {
		frame := d.Buffer()
		fd := wire.NewDecoder(frame)
		var h wire.RequestHeader
		h.Decode(&fd)
		sw := wire.SetWatches{HasPersistent: h.Op == wire.OpSetWatches2}
		sw.Decode(&fd)
		if fd.Err() != nil || fd.Len() != 0 || h.Xid != wire.XidSetWatches || sw.RelativeZxid != 5 {
			t.Fatalf("piece %d: %+v, %d bytes left, %v", pieces, h, fd.Len(), fd.Err())
		}
		lists := [][]string{sw.Data, sw.Exist, sw.Child, sw.Persistent, sw.PersistentRecursive}
		paths := 0
		for i, list := range lists {
			paths += len(list)
			for _, path := range list {
				if key := fmt.Sprint(i, path); !want[key] {
					t.Errorf("%s is armed twice, or never was", key)
				} else {
					delete(want, key)
				}
			}
		}
		if len(frame) > maxSetWatches && paths > 1 {
			t.Errorf("piece %d has %d bytes", pieces, len(frame))
		}
		if !sw.HasPersistent && len(sw.Persistent) > 0 {
			t.Error("setWatches has no persistent lists")
		}
	}
	if pieces != count || len(want) != 0 {
		t.Errorf("%d pieces, said %d; %d watches are missing", pieces, count, len(want))
	}
}

func TestPersistentWatchTellsOfGaps(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		w := addWatch(t, c, conn, "/a", wire.WatchPersistent)
		exist := existsW(t, c, conn, "/a", wire.ErrNoNode)
		conn.event(wire.EventNodeChildrenChanged, "/a", 5)
		conn.Close()
		wantEvents(t, "watch", w.Events(), change(wire.EventNodeChildrenChanged, "/a", 5), state(wire.StateDisconnected))
		conn = s.welcome(1)
		sw := wire.SetWatches{HasPersistent: true}
		conn.request(wire.OpSetWatches2, &sw)
		if fmt.Sprint(sw.Persistent, sw.Exist) != "[/a] [/a]" {
			t.Errorf("armed %+v", sw)
		}
		// What the server tells the exist watch is old news, and covered by the
		// reading that must follow.
		conn.event(wire.EventNodeCreated, "/a", -1)
		wantEvents(t, "exist watch", exist, change(wire.EventNodeCreated, "/a", 0))
		wantEvents(t, "watch", w.Events())
		conn.reply(wire.XidSetWatches, 9, wire.OK, nil)
		conn.event(wire.EventNodeDeleted, "/a", 10)
		wantEvents(t, "watch", w.Events(), state(wire.StateSyncConnected), change(wire.EventNodeDeleted, "/a", 10))
	})
}

func TestRecursiveWatchSeesTheWholeSubtree(t *testing.T) {
	inBubble(t, Config{Servers: "x/app"}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		w, root := addWatch(t, c, conn, "/a", wire.WatchPersistentRecursive), addWatch(t, c, conn, "/", wire.WatchPersistentRecursive)
		flat := addWatch(t, c, conn, "/a/b", wire.WatchPersistent)
		conn.event(wire.EventNodeCreated, "/app/a/b/c", 5)
		conn.event(wire.EventNodeDataChanged, "/app/a", 6)
		conn.event(wire.EventNodeDeleted, "/app/ab", 7)
		conn.event(wire.EventNodeChildrenChanged, "/app/a/b", 8)
		wantEvents(t, "/a", w.Events(), change(wire.EventNodeCreated, "/a/b/c", 5), change(wire.EventNodeDataChanged, "/a", 6))
		wantEvents(t, "/", root.Events(), change(wire.EventNodeCreated, "/a/b/c", 5), change(wire.EventNodeDataChanged, "/a", 6),
			change(wire.EventNodeDeleted, "/ab", 7))
		wantEvents(t, "/a/b", flat.Events(), change(wire.EventNodeChildrenChanged, "/a/b", 8))
	})
}

func TestFullWatchQueueBecomesAGap(t *testing.T) {
	inBubble(t, Config{WatchQueue: 4}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		w := addWatch(t, c, conn, "/", wire.WatchPersistentRecursive)
		for i := range 5 {
			conn.event(wire.EventNodeCreated, fmt.Sprintf("/%d", i), zab.Zxid(i+1))
		}
		wantEvents(t, "watch", w.Events(), state(wire.StateSyncConnected))
		for i := range 4 {
			conn.event(wire.EventNodeCreated, fmt.Sprintf("/%d", i), zab.Zxid(i+1))
		}
		conn.Close()
		wantEvents(t, "watch", w.Events(), state(wire.StateDisconnected))
	})
}

func TestWatchIsRemovedWithItsLastHandle(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		one, two := addWatch(t, c, conn, "/a", wire.WatchPersistent), addWatch(t, c, conn, "/a", wire.WatchPersistent)
		one.Close()
		wantClosed(t, "closed watch", one.Events())
		conn.event(wire.EventNodeDeleted, "/a", 5)
		wantEvents(t, "other watch", two.Events(), change(wire.EventNodeDeleted, "/a", 5))
		two.Close()
		two.Close()
		var req wire.PathMode
		xid := conn.request(wire.OpRemoveWatches, &req)
		if req.Path != "/a" || req.Mode != wire.WatcherPersistent {
			t.Errorf("removed %+v", req)
		}
		// A third one whose addWatch is on its way keeps the registration.
		third := goDo(func() error {
			_, err := c.AddWatch(t.Context(), "/a", wire.WatchPersistent)
			return err
		})
		conn.reply(xid, 6, wire.OK, nil)
		conn.reply(conn.request(wire.OpAddWatch, nil), 6, wire.OK, &wire.IntRecord{})
		if err := <-third; err != nil {
			t.Error(err)
		}
		conn.Close()
		conn = s.welcome(1)
		sw := wire.SetWatches{HasPersistent: true}
		if conn.request(wire.OpSetWatches2, &sw); len(sw.Persistent) != 1 {
			t.Errorf("armed %+v", sw)
		}
	})
}

func TestClosedWatchNeedsNoConnection(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		one, two := addWatch(t, c, conn, "/a", wire.WatchPersistent), addWatch(t, c, conn, "/b", wire.WatchPersistentRecursive)
		one.Close() // not sent, or not answered, when the connection breaks
		conn.Close()
		synctest.Wait()
		two.Close()
		conn = s.welcome(1)
		get := goGet(t.Context(), c, "/")
		conn.reply(conn.request(wire.OpGetData, nil), 1, wire.OK, &wire.GetDataResponse{})
		<-get
		if n := len(c.slots); n != 0 || c.watches.recursive != 0 || len(c.watches.handles) != 0 {
			t.Errorf("%d slots taken, watches %+v", n, c.watches)
		}
	})
}

func TestRemoveWatchesEndsTheirChannels(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Client, s *fakeServer) {
		conn := s.welcome(1)
		remove := func(kind int32, code wire.Code) error {
			got := goDo(func() error { return c.RemoveWatches(t.Context(), "/a", kind) })
			conn.reply(conn.request(wire.OpRemoveWatches, nil), 1, code, nil)
			return <-got
		}
		data, child := getW(t, c, conn, "/a"), childrenW(t, c, conn, "/a")
		flat, deep := addWatch(t, c, conn, "/a", wire.WatchPersistent), addWatch(t, c, conn, "/a", wire.WatchPersistentRecursive)
		removed := func(typ wire.EventType) Event { return change(typ, "/a", 0) }
		if err := remove(wire.WatcherData, wire.OK); err != nil {
			t.Error(err)
		}
		wantEvents(t, "data", data, removed(wire.EventDataWatchRemoved))
		wantClosed(t, "data", data)
		wantEvents(t, "child", child)
		if err := remove(wire.WatcherPersistent, wire.OK); err != nil {
			t.Error(err)
		}
		wantEvents(t, "persistent", flat.Events(), removed(wire.EventPersistentWatchRemoved))
		wantClosed(t, "persistent", flat.Events())
		wantEvents(t, "recursive", deep.Events())
		if err := remove(wire.WatcherAny, wire.OK); err != nil {
			t.Error(err)
		}
		wantEvents(t, "child", child, removed(wire.EventChildWatchRemoved))
		wantEvents(t, "recursive", deep.Events(), removed(wire.EventPersistentWatchRemoved))
		if err := remove(wire.WatcherAny, wire.ErrNoWatcher); !errors.Is(err, wire.ErrNoWatcher) {
			t.Errorf("got %v", err)
		}
		deep.Close() // has nothing left to do
	})
}

func TestEndOfRunEndsAllWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{t: t, conns: make(chan *fakeConn)}
		c, _ := New(Config{Dial: s.dial})
		ran := goDo(func() error { return c.Run(hour(t)) })
		conn := s.welcome(1)
		data, w := getW(t, c, conn, "/a"), addWatch(t, c, conn, "/a", wire.WatchPersistent)
		closed := goDo(func() error { return c.CloseSession(t.Context()) })
		conn.reply(conn.request(wire.OpCloseSession, nil), 5, wire.OK, nil)
		if err := errors.Join(<-closed, <-ran); err != nil {
			t.Error(err)
		}
		wantEvents(t, "one-shot", data, state(wire.StateClosed))
		wantClosed(t, "one-shot", data)
		wantEvents(t, "persistent", w.Events(), state(wire.StateClosed))
		wantClosed(t, "persistent", w.Events())
		w.Close()
	})
}

func TestParentOfAnythingEnds(t *testing.T) {
	for _, tc := range [][]string{{"/a/b", "/a", "/", ""}, {"/", ""}, {"", ""}, {"no", ""}, {"a/b", "a", ""}, {"//", "/", ""}} {
		for i, path := range tc[:len(tc)-1] {
			if got := parent(path); got != tc[i+1] {
				t.Errorf("parent(%q) = %q, want %q", path, got, tc[i+1])
			}
		}
	}
}
