package server

import (
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// fuzzOps are the operations that FuzzConnection chooses from: all of them, some
// that do not exist, and some more than once.
var fuzzOps = []wire.Op{
	wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL, wire.OpDelete, wire.OpSetData, wire.OpSetACL,
	wire.OpMulti, wire.OpMulti, wire.OpReconfig, wire.OpCloseSession, wire.OpCreateSession, wire.OpDeleteContainer, wire.OpCheck,
	wire.OpExists, wire.OpGetData, wire.OpGetACL, wire.OpGetChildren, wire.OpGetChildren2, wire.OpSync, wire.OpPing,
	wire.OpMultiRead, wire.OpAuth, wire.OpSetWatches, wire.OpSetWatches2, wire.OpAddWatch, wire.OpCheckWatches,
	wire.OpRemoveWatches, wire.OpSASL, wire.OpGetEphemerals, wire.OpGetAllChildrenNumber, wire.OpWhoAmI, 0, -1, 99,
}

// fuzzRequests cuts data into requests: a byte for the operation, one for the
// length of the record, the record. A length of 255 means four more bytes to be
// read as one.
func fuzzRequests(data []byte) (frames [][]byte) {
	for len(data) >= 2 {
		op, n := fuzzOps[int(data[0])%len(fuzzOps)], int(data[1])
		data = data[2:]
		if n == 255 && len(data) >= 4 {
			n, data = int(binary.BigEndian.Uint32(data)), data[4:]
		}
		n = max(0, min(n, len(data)))
		frames = append(frames, append(req(int32(len(frames)+1), op, nil), data[:n]...))
		data = data[n:]
	}
	return frames
}

// FuzzConnection sends what it likes to a running server: as it is, or cut into
// requests of a session. Whatever comes, replies are in order, another session
// is served, and nothing of the connection is left.
func FuzzConnection(f *testing.F) {
	s, err := Open(Config{
		Znode:   znode.Config{Digest: true, ExtendedTypes: true},
		Storage: storage.Config{DataDir: "data", FS: storagetest.NewDisk(1)},
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			f.Errorf("server: %v", err)
		}
	})
	for !s.ready.Load() {
		runtime.Gosched()
	}

	for _, r := range []struct {
		op   wire.Op
		body wire.Record
	}{
		{wire.OpCreate, &wire.CreateRequest{Path: "/f", Data: []byte("x"), ACL: wire.OpenACL()}},
		{wire.OpCreateTTL, &wire.CreateRequest{Path: "/t", ACL: wire.OpenACL(), Mode: wire.PersistentTTL, TTLMs: 5, HasTTL: true}},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/f", Version: -1}},
		{wire.OpDelete, &wire.PathVersion{Path: "/f", Version: -1}},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/f", ACL: wire.OpenACL(), Version: -1}},
		{wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{
			{Op: wire.OpCreate2, Record: &wire.CreateRequest{Path: "/f-", ACL: wire.OpenACL(), Mode: wire.EphemeralSequential}},
			{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/f", Version: -1}},
		}}},
		{wire.OpMultiRead, &wire.MultiRequest{Ops: []wire.MultiOp{{Op: wire.OpGetChildren, Record: &wire.PathWatch{Path: "/"}}}}},
		{wire.OpGetData, &wire.PathWatch{Path: "/f", Watch: true}},
		{wire.OpSetWatches2, &wire.SetWatches{Data: []string{"/f"}, Exist: []string{"/g"}, Child: []string{"/"}, Persistent: []string{"/f"}, PersistentRecursive: []string{"/"}, HasPersistent: true}},
		{wire.OpAuth, &wire.AuthPacket{Scheme: "digest", Auth: []byte("u:p")}},
		{wire.OpAddWatch, &wire.PathMode{Path: "/f", Mode: 1}},
		{wire.OpRemoveWatches, &wire.PathMode{Path: "/f", Mode: 3}},
		{wire.OpSync, &wire.PathRecord{Path: "/"}},
		{wire.OpCloseSession, nil},
	} {
		body := []byte{}
		if r.body != nil {
			body = r.body.Append(body)
		}
		var seed []byte
		for i, op := range fuzzOps {
			if op == r.op {
				seed = append([]byte{byte(i), byte(len(body))}, body...)
			}
		}
		f.Add(true, append(seed, seed...))
		f.Add(false, framed(connectFrame(0, 10000, nil), req(1, r.op, r.body)))
	}
	f.Add(false, []byte("srvr"))
	f.Add(false, []byte("stmk\x00\x00"))
	f.Add(false, []byte("GET / HTTP/1.1"))
	f.Add(false, []byte{0, 0x10, 0, 0})

	f.Fuzz(func(t *testing.T, session bool, data []byte) {
		c, good := pipe(t, s), pipe(t, s)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		good.SetDeadline(time.Now().Add(20 * time.Second))
		stream := data
		var requests [][]byte
		if session {
			c.open()
			requests = append(fuzzRequests(data), req(0, wire.OpPing, nil))
			stream = framed(requests...)
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			c.Write(stream) // the server may close before the end of it
			if !session {
				c.Close()
			}
		}()
		if !session {
			io.Copy(io.Discard, c)
		}
		for answered := 0; answered < len(requests); {
			reply, err := c.tryRecv()
			if err != nil {
				break
			}
			var h wire.ReplyHeader
			if err := wire.Unmarshal(reply, &h); err != nil {
				t.Fatalf("reply %x: %v", reply, err)
			}
			want := requests[answered]
			switch op := wire.Op(int32(binary.BigEndian.Uint32(want[4:]))); {
			case h.Xid == wire.XidNotification:
				continue
			case op == wire.OpPing && h.Xid != wire.XidPing, op != wire.OpPing && h.Xid != int32(binary.BigEndian.Uint32(want)):
				t.Fatalf("reply %+v to request %x", h, want)
			}
			answered++
		}
		c.Close()
		<-written
		good.open()
		good.send(existsReq(7, "/"), req(8, wire.OpCloseSession, nil))
		good.wantOK(7, 8)
		good.wantClosed()
		waitFor(t, "both connections to be forgotten", func() bool {
			st := s.State()
			return st.Connections == 0 && st.Watches == 0 && st.Outstanding == 0
		})
	})
}

// waitFor waits in real time, without sleeping, until ok says yes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
