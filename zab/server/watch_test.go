package server

import (
	"fmt"
	"testing"

	"github.com/paddockio/paddock/zab/wire"
)

// TestWatchesOutliveTheRequestsThatFireThem mixes watches that end and watches
// that stay on one path: what stays must not be kept under bytes of a request,
// which are used again for another.
func TestWatchesOutliveTheRequestsThatFireThem(t *testing.T) {
	s, _ := start(t, t.TempDir(), nil)
	watcher, writer := dialRaw(t, s), dialRaw(t, s)
	watcher.open()
	writer.open()
	ok := func(c *rawConn, frame []byte) {
		t.Helper()
		c.send(frame)
		if h, _ := c.reply(); h.Err != wire.OK {
			t.Fatalf("%+v", h)
		}
	}
	set := func(path string) []byte {
		return req(1, wire.OpSetData, &wire.SetDataRequest{Path: path, Version: -1})
	}
	for i := range 10 {
		ok(writer, createReq(1, fmt.Sprintf("/fired-%d", i), ""))
		ok(writer, createReq(1, fmt.Sprintf("/other-%d", i), ""))
	}
	for i := range 10 {
		path := fmt.Sprintf("/fired-%d", i)
		ok(watcher, req(1, wire.OpAddWatch, &wire.PathMode{Path: path}))
		ok(watcher, req(1, wire.OpExists, &wire.PathWatch{Path: path, Watch: true}))
		if i%2 == 0 {
			ok(writer, set(path))
			if h, _ := watcher.reply(); h.Xid != wire.XidNotification {
				t.Fatalf("%+v, want an event", h)
			}
		} else {
			ok(watcher, req(1, wire.OpRemoveWatches, &wire.PathMode{Path: path, Mode: wire.WatcherData}))
		}
		for j := range 10 {
			ok(writer, set(fmt.Sprintf("/other-%d", j)))
			ok(watcher, req(1, wire.OpExists, &wire.PathWatch{Path: fmt.Sprintf("/other-%d", j)}))
		}
	}
	for i := range 10 {
		path := fmt.Sprintf("/fired-%d", i)
		watcher.send(req(2, wire.OpCheckWatches, &wire.PathMode{Path: path, Mode: wire.WatcherPersistent}))
		if h, _ := watcher.reply(); h.Err != wire.OK {
			t.Errorf("persistent watch of %s: %v", path, h.Err)
		}
	}
	watcher.Close() // takes its watches along
	ok(writer, set("/fired-0"))
	for s.State().Connections > 1 {
		ok(writer, req(-2, wire.OpPing, nil))
	}
	if n := s.State().Watches; n != 0 {
		t.Errorf("%d watches are left", n)
	}
}
