//go:build interop

package wire_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client/apachetest"
	"github.com/paddockio/paddock/zab/wire"
)

var update = flag.Bool("update", false, "write testdata/apache.txt")

type capture struct {
	t   *testing.T
	nc  net.Conn
	xid int32
	out *bytes.Buffer
}

func (c *capture) connect(name, addr string, req *wire.ConnectRequest) wire.ConnectResponse {
	c.t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { nc.Close() })
	c.nc = nc
	c.send("connect, "+name, req.Append(nil))
	var resp wire.ConnectResponse
	if err := wire.Unmarshal(c.receive(), &resp); err != nil {
		c.t.Fatal(err)
	}
	return resp
}

func (c *capture) send(name string, frame []byte) {
	c.t.Helper()
	fmt.Fprintf(c.out, "\n%s\nC> %x\n", name, frame)
	c.nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.nc.Write(append(wire.AppendInt(nil, int32(len(frame))), frame...)); err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
}

func (c *capture) receive() []byte {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c.nc, size[:]); err != nil {
		c.t.Fatalf("%s\n%v", c.out, err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.nc, b); err != nil {
		c.t.Fatal(err)
	}
	fmt.Fprintf(c.out, "S< %x\n", b)
	return b
}

// do sends a request and takes everything in up to its reply, of which it
// returns the code and the record.
func (c *capture) do(name string, op wire.Op, req wire.Record) (wire.Code, []byte) {
	c.t.Helper()
	c.xid++
	h := wire.RequestHeader{Xid: c.xid, Op: op}
	switch op {
	case wire.OpPing:
		h.Xid = wire.XidPing
	case wire.OpAuth:
		h.Xid = wire.XidAuth
	case wire.OpSetWatches, wire.OpSetWatches2:
		h.Xid = wire.XidSetWatches
	}
	b := h.Append(nil)
	if req != nil {
		b = req.Append(b)
	}
	c.send(name, b)
	for {
		b := c.receive()
		d := wire.NewDecoder(b)
		var rh wire.ReplyHeader
		if rh.Decode(&d); rh.Xid == h.Xid {
			return rh.Err, d.Rest()
		}
	}
}

// TestCapture records an exchange of every operation with Apache's server. With
// -update it writes testdata/apache.txt, from which TestBytesAreApaches reads;
// without, it only checks that everything is answered as expected.
func TestCapture(t *testing.T) {
	zk := apachetest.Start(t, 23310)
	c := &capture{t: t, out: new(bytes.Buffer)}
	fmt.Fprintf(c.out, "# Frames, without their length, between a client (C>) and a server (S<) of Apache ZooKeeper %s.\n"+
		"# Made by: go test -tags interop -run TestCapture ./zab/wire -update\n", apachetest.Version)
	expect := func(want wire.Code) func(wire.Code, []byte) []byte {
		t.Helper()
		return func(code wire.Code, body []byte) []byte {
			t.Helper()
			if code != want {
				t.Errorf("got %v, want %v; capture ends in\n%s", code, want, c.out.Bytes()[max(0, c.out.Len()-1000):])
			}
			return body
		}
	}
	ok, none := expect(wire.OK), expect(wire.ErrNoNode)
	open := wire.OpenACL()
	session := c.connect("new session", zk.Addr, &wire.ConnectRequest{TimeoutMs: 10000, Password: make([]byte, 16), HasReadOnly: true})

	ok(c.do("create", wire.OpCreate, &wire.CreateRequest{Path: "/a", Data: []byte("hi"), ACL: open}))
	ok(c.do("create without data", wire.OpCreate, &wire.CreateRequest{Path: "/null", ACL: open}))
	expect(wire.ErrNodeExists)(c.do("create, znode exists", wire.OpCreate, &wire.CreateRequest{Path: "/a", Data: []byte{}, ACL: open}))
	expect(wire.ErrInvalidACL)(c.do("create, empty acl", wire.OpCreate, &wire.CreateRequest{Path: "/x", Data: []byte{}}))
	ok(c.do("create ephemeral", wire.OpCreate, &wire.CreateRequest{Path: "/e", ACL: open, Mode: wire.Ephemeral}))
	ok(c.do("create2 sequential", wire.OpCreate2, &wire.CreateRequest{Path: "/s-", Data: []byte{}, ACL: open, Mode: wire.PersistentSequential}))
	ok(c.do("create2 ephemeral sequential", wire.OpCreate2, &wire.CreateRequest{Path: "/es-", ACL: open, Mode: wire.EphemeralSequential}))
	ok(c.do("createContainer", wire.OpCreateContainer, &wire.CreateRequest{Path: "/box", ACL: open, Mode: wire.Container}))
	ok(c.do("createTTL", wire.OpCreateTTL, &wire.CreateRequest{Path: "/ttl", ACL: open, Mode: wire.PersistentTTL, TTLMs: 3600000, HasTTL: true}))
	ok(c.do("createTTL sequential", wire.OpCreateTTL, &wire.CreateRequest{Path: "/ttl-", ACL: open, Mode: wire.PersistentSequentialTTL, TTLMs: 1, HasTTL: true}))
	ok(c.do("exists", wire.OpExists, &wire.PathWatch{Path: "/a", Watch: true}))
	ok(c.do("exists, ephemeral", wire.OpExists, &wire.PathWatch{Path: "/e"}))
	none(c.do("exists, no znode", wire.OpExists, &wire.PathWatch{Path: "/later", Watch: true}))
	ok(c.do("getData", wire.OpGetData, &wire.PathWatch{Path: "/a", Watch: true}))
	ok(c.do("getData of null", wire.OpGetData, &wire.PathWatch{Path: "/null"}))
	none(c.do("getData, no znode", wire.OpGetData, &wire.PathWatch{Path: "/none"}))
	ok(c.do("getData of the root by its other name", wire.OpGetData, &wire.PathWatch{}))
	ok(c.do("setData, with an event", wire.OpSetData, &wire.SetDataRequest{Path: "/a", Data: []byte("ho"), Version: 0}))
	expect(wire.ErrBadVersion)(c.do("setData, bad version", wire.OpSetData, &wire.SetDataRequest{Path: "/a", Data: nil, Version: 0}))
	ok(c.do("getChildren", wire.OpGetChildren, &wire.PathWatch{Path: "/"}))
	ok(c.do("getChildren, none", wire.OpGetChildren, &wire.PathWatch{Path: "/a"}))
	ok(c.do("getChildren2", wire.OpGetChildren2, &wire.PathWatch{Path: "/", Watch: true}))
	ok(c.do("addWatch", wire.OpAddWatch, &wire.PathMode{Path: "/a", Mode: wire.WatchPersistent}))
	ok(c.do("addWatch recursive", wire.OpAddWatch, &wire.PathMode{Path: "/", Mode: wire.WatchPersistentRecursive}))
	expect(wire.ErrMarshalling)(c.do("addWatch, bad mode", wire.OpAddWatch, &wire.PathMode{Path: "/", Mode: 9}))
	ok(c.do("create, with events", wire.OpCreate, &wire.CreateRequest{Path: "/later", ACL: open}))
	ok(c.do("delete, with events", wire.OpDelete, &wire.PathVersion{Path: "/later", Version: -1}))
	expect(wire.ErrBadArguments)(c.do("delete of the root", wire.OpDelete, &wire.PathVersion{Path: "/", Version: -1}))
	ok(c.do("checkWatches", wire.OpCheckWatches, &wire.PathMode{Path: "/a", Mode: wire.WatcherPersistent}))
	ok(c.do("removeWatches", wire.OpRemoveWatches, &wire.PathMode{Path: "/a", Mode: wire.WatcherPersistent}))
	expect(wire.ErrNoWatcher)(c.do("removeWatches, none", wire.OpRemoveWatches, &wire.PathMode{Path: "/a", Mode: wire.WatcherAny}))
	ok(c.do("removeWatches recursive", wire.OpRemoveWatches, &wire.PathMode{Path: "/", Mode: wire.WatcherPersistentRecursive}))
	ok(c.do("auth", wire.OpAuth, &wire.AuthPacket{Scheme: "digest", Auth: []byte("u:p")}))
	ok(c.do("whoAmI", wire.OpWhoAmI, nil))
	ok(c.do("setACL", wire.OpSetACL, &wire.SetACLRequest{Path: "/a", Version: 0, ACL: []wire.ACL{
		{Perms: wire.PermAll, ID: wire.ID{Scheme: "auth"}}, {Perms: wire.PermRead, ID: wire.ID{Scheme: "ip", ID: "127.0.0.1"}}}}))
	ok(c.do("getACL", wire.OpGetACL, &wire.PathRecord{Path: "/a"}))
	ok(c.do("sync", wire.OpSync, &wire.PathRecord{Path: "/a"}))
	ok(c.do("getEphemerals", wire.OpGetEphemerals, &wire.PathRecord{Path: "/"}))
	ok(c.do("getAllChildrenNumber", wire.OpGetAllChildrenNumber, &wire.PathRecord{Path: "/"}))
	ok(c.do("ping", wire.OpPing, nil))
	ok(c.do("multi", wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{
		{Op: wire.OpCreate, Record: &wire.CreateRequest{Path: "/m", Data: []byte("x"), ACL: open}},
		{Op: wire.OpCreate2, Record: &wire.CreateRequest{Path: "/m/2", ACL: open}},
		{Op: wire.OpCreateContainer, Record: &wire.CreateRequest{Path: "/m/c", ACL: open, Mode: wire.Container}},
		{Op: wire.OpCreateTTL, Record: &wire.CreateRequest{Path: "/m/t", ACL: open, Mode: wire.PersistentTTL, TTLMs: 1000, HasTTL: true}},
		{Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: "/m", Data: []byte("y"), Version: 0}},
		{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/m", Version: 1}},
		{Op: wire.OpDelete, Record: &wire.PathVersion{Path: "/m/2", Version: -1}},
	}}))
	ok(c.do("multi that fails", wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{
		{Op: wire.OpCreate, Record: &wire.CreateRequest{Path: "/n", Data: []byte("x"), ACL: open}},
		{Op: wire.OpDelete, Record: &wire.PathVersion{Path: "/none", Version: -1}},
		{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/n", Version: 1}},
	}}))
	ok(c.do("multi of nothing", wire.OpMulti, &wire.MultiRequest{}))
	ok(c.do("multiRead", wire.OpMultiRead, &wire.MultiRequest{Ops: []wire.MultiOp{
		{Op: wire.OpGetData, Record: &wire.PathWatch{Path: "/m"}},
		{Op: wire.OpGetChildren, Record: &wire.PathWatch{Path: "/m"}},
		{Op: wire.OpGetChildren, Record: &wire.PathWatch{Path: "/none"}},
	}}))
	ok(c.do("setWatches, with events", wire.OpSetWatches, &wire.SetWatches{
		RelativeZxid: 1, Data: []string{"/a", "/gone"}, Exist: []string{"/e", "/later"}, Child: []string{"/", "/m/c"}}))
	ok(c.do("setWatches2", wire.OpSetWatches2, &wire.SetWatches{HasPersistent: true,
		RelativeZxid: 1 << 40, Data: []string{"/a"}, Persistent: []string{"/p"}, PersistentRecursive: []string{"/", "/r"}}))
	expect(wire.ErrReconfigDisabled)(c.do("reconfig of a standalone server", wire.OpReconfig, &wire.ReconfigRequest{
		Joining: "server.2=127.0.0.1:1:2;3", ConfigID: -1}))

	// The session goes to another connection, and one that knows it wrongly is refused.
	known := wire.ConnectRequest{LastZxidSeen: 5, TimeoutMs: 10000, SessionID: session.SessionID, Password: session.Password[:], HasReadOnly: true}
	if again := c.connect("known session", zk.Addr, &known); again != session {
		t.Errorf("taken up %+v, want %+v", again, session)
	}
	ok(c.do("closeSession", wire.OpCloseSession, nil))
	if refused := c.connect("closed session", zk.Addr, &known); refused.TimeoutMs != 0 || refused.SessionID != 0 {
		t.Errorf("session lives on: %+v", refused)
	}
	c.connect("client without the read-only flag", zk.Addr, &wire.ConnectRequest{TimeoutMs: 1, Password: make([]byte, 16)})
	expect(wire.ErrUnimplemented)(c.do("check outside of multi", wire.OpCheck, &wire.PathVersion{Path: "/a", Version: -1}))

	if *update {
		if err := os.WriteFile("testdata/apache.txt", c.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
