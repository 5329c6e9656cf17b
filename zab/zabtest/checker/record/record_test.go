package record

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/server"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/zabtest/checker"
	"github.com/paddockio/paddock/zab/znode"
)

// TestARealServerIsAccepted lets all workloads run against a server in this
// process, with connections that break, and checks everything.
func TestARealServerIsAccepted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := server.Open(server.Config{
		MaxClientCnxns: -1, TickTime: 200 * time.Millisecond, Znode: znode.Config{Digest: true},
		Storage: storage.Config{DataDir: dir, NoForceSync: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(ctx) }()
	end := sync.OnceFunc(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	play(t, "s1:1", s.Dial, end, filepath.Join(dir, "version-2"))
}

// TestServersElsewhereAreAccepted does the same with an ensemble that was started
// for it and is empty, of any kind of servers, until the history has
// PADDOCK_CHECKER_ENTRIES entries. Servers write each transaction to the log before
// they answer, so there is no need to stop them.
func TestServersElsewhereAreAccepted(t *testing.T) {
	servers, logs := os.Getenv("PADDOCK_CHECKER_SERVERS"), os.Getenv("PADDOCK_CHECKER_LOGS")
	if servers == "" {
		t.Skip("PADDOCK_CHECKER_SERVERS is not set to a list of servers, nor PADDOCK_CHECKER_LOGS to the directories of their logs")
	}
	var d net.Dialer
	play(t, servers, func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) },
		func() {}, filepath.SplitList(logs)...)
}

// play lets all workloads run until there is enough to look at, and checks it. end
// stops the servers.
func play(t *testing.T, servers string, dial func(context.Context, string) (net.Conn, error), end func(), dirs ...string) {
	t.Helper()
	began := time.Now()
	rec := checker.NewRecorder(func() checker.Time { return checker.Time(time.Since(began)) })
	config := client.Config{Servers: servers, SessionTimeout: 4 * time.Second, MaxBackoff: 50 * time.Millisecond}
	config.Dial = Dial(rec, func(ctx context.Context, addr string) (net.Conn, error) {
		nc, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &fragile{Conn: nc, left: 10 + rand.IntN(60)}, nil
	})
	const clients = 6
	loads := checker.Workloads(clients, rec)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := Run(ctx, config, loads, clients, 1); err != nil || n < 1000 {
			t.Errorf("%d operations, %v", n, err)
		}
	})
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	enough := 3000
	if text := os.Getenv("PADDOCK_CHECKER_ENTRIES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		enough = n
	}
	for rec.Len() < enough && ctx.Err() == nil {
		<-look.C
	}
	cancel()
	wg.Wait()
	end()

	var logs [][]*wire.Txn
	for _, dir := range dirs {
		log, err := Log(dir)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, log)
	}
	log, err := checker.Committed(len(logs)/2+1, logs...)
	if err != nil {
		t.Fatal(err)
	}
	opt := checker.Options{Config: znode.Config{Digest: true}}
	for _, l := range loads {
		opt.Banks = append(opt.Banks, l.Banks...)
	}
	h := rec.History()
	rep, err := checker.Check(h, slices.Values(log), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *rep)
	if rep.Updates < 100 || rep.Reads < 50 || rep.Events == 0 || rep.Unknown == 0 || rep.CatchUps == 0 {
		t.Errorf("too little was looked at: %+v", *rep)
	}
	if h, err = checker.Resolve(h, slices.Values(log)); err != nil {
		t.Fatal(err)
	}
	lin, err := checker.Linearizable(h, checker.LinearOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", lin)
}

// fragile breaks right behind a request, whose outcome nobody learns then.
type fragile struct {
	net.Conn
	left   int // writes until then
	broken atomic.Bool
}

func (c *fragile) Write(p []byte) (int, error) {
	c.left--
	c.broken.Store(c.left <= 0)
	n, err := c.Conn.Write(p)
	if c.left <= 0 {
		c.Conn.Close()
	}
	return n, err
}

func (c *fragile) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.broken.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

// TestATapSeesFramesInAnyPieces sends a session's bytes one by one.
func TestATapSeesFramesInAnyPieces(t *testing.T) {
	for _, piece := range []int{1, 3, 1000} {
		rec := checker.NewRecorder(func() checker.Time { return 1 })
		a, b := net.Pipe()
		tap := Tap(rec, a, "s1")
		up := slices.Concat(
			frame(&wire.ConnectRequest{TimeoutMs: 4000, Password: make([]byte, 16)}),
			frame(&wire.RequestHeader{Xid: 1, Op: wire.OpGetData}, &wire.PathWatch{Path: "/a", Watch: true}),
			frame(&wire.RequestHeader{Xid: wire.XidAuth, Op: wire.OpAuth}, &wire.AuthPacket{Scheme: "digest", Auth: []byte("me:secret")}),
			frame(&wire.RequestHeader{Xid: 2, Op: wire.OpSetData}, &wire.SetDataRequest{Path: "/a", Version: -1}),
		)
		down := slices.Concat(
			frame(&wire.ConnectResponse{TimeoutMs: 4000, SessionID: 7}),
			frame(&wire.ReplyHeader{Xid: 1, Zxid: 5}, &wire.GetDataResponse{Data: []byte("x"), Stat: wire.Stat{Czxid: 3}}),
			frame(&wire.ReplyHeader{Xid: wire.XidAuth, Zxid: 5}),
			frame(&wire.ReplyHeader{Xid: wire.XidNotification, Zxid: 6}, &wire.WatcherEvent{Type: wire.EventNodeDataChanged, State: wire.StateSyncConnected, Path: "/a"}),
		)
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, len(up))
			for got := 0; got < len(up); {
				n, err := b.Read(buf)
				if err != nil {
					t.Error(err)
					return
				}
				got += n
			}
			for p := range slices.Chunk(down, piece) {
				b.Write(p)
			}
		})
		for p := range slices.Chunk(up, piece) {
			if _, err := tap.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, len(down))
		for got := 0; got < len(down); {
			n, err := tap.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		wg.Wait()
		tap.Close()
		want := "history 1\n" +
			"1 1 c1 connect server=s1 -> session=0x7\n" +
			"1 1 c1 getData xid=1 path=/a watch=1 -> zxid=0x5 stat=0x3,0x0,0x0,0x0,0,0,0,0,0,0,0 value=\"x\"\n" +
			"1 1 c1 auth xid=-4 id=digest:" + znode.DigestID("me:secret") + " -> zxid=0x5\n" +
			"1 1 c1 event type=NodeDataChanged path=/a what=3 -> zxid=0x6\n" +
			"1 - c1 setData xid=2 path=/a version=-1\n" +
			"1 1 c1 disconnect\n"
		if got := string(rec.History().Bytes()); got != want {
			t.Errorf("pieces of %d:\n%s\nwant\n%s", piece, got, want)
		}
	}
}

func frame(records ...wire.Record) []byte {
	b := make([]byte, 4)
	for _, r := range records {
		b = r.Append(b)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// TestAFrameThatIsTooLongEndsTheConnection in both directions.
func TestAFrameThatIsTooLongEndsTheConnection(t *testing.T) {
	var f frames
	if err := f.take([]byte{0x7f, 0xff, 0xff, 0xff, 1}, func([]byte) error { return nil }); err == nil {
		t.Error("accepted")
	}
}

// FuzzTap gives any bytes to a tap, in both directions.
func FuzzTap(f *testing.F) {
	f.Add(frame(&wire.RequestHeader{Xid: 1, Op: wire.OpGetData}, &wire.PathWatch{Path: "/a"}), frame(&wire.ReplyHeader{Xid: 1, Zxid: 5}, &wire.GetDataResponse{Data: []byte("x")}))
	f.Add(frame(&wire.RequestHeader{Xid: 1, Op: wire.OpMulti}, &wire.MultiRequest{}), frame(&wire.ReplyHeader{Xid: 1, Zxid: 5}, &wire.MultiResponse{}))
	f.Fuzz(func(t *testing.T, up, down []byte) {
		rec := checker.NewRecorder(func() checker.Time { return 1 })
		tap := &tap{r: rec, server: "s1"}
		if err := tap.up.take(frame(&wire.ConnectRequest{Password: make([]byte, 16)}), tap.request); err != nil {
			t.Fatal(err)
		}
		if err := tap.down.take(frame(&wire.ConnectResponse{SessionID: 1}), tap.answer); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(tap.up.take(up, tap.request), tap.down.take(down, tap.answer))
		tap.conn.Close()
		h := rec.History()
		if err == nil && len(h.Entries) < 2 {
			t.Errorf("%d entries", len(h.Entries))
		}
		if _, err := checker.Parse(h.Bytes()); err != nil {
			t.Errorf("%s: %v", h.Bytes(), err)
		}
	})
}

// TestLogReadsAllFiles of a server that has begun several.
func TestLogReadsAllFiles(t *testing.T) {
	dir := t.TempDir()
	st, err := storage.Open(storage.Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recover(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		txn := wire.Txn{Header: wire.TxnHeader{Zxid: zab.Zxid(i + 1), Type: wire.OpFailed}, Body: &wire.IntRecord{Value: -101}}
		if err := st.Append(txn.Append(nil), txn.Header.Zxid); err != nil {
			t.Fatal(err)
		}
		if err := st.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := st.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := Log(filepath.Join(dir, "version-2"))
	if err != nil || len(log) != 5 || log[4].Header.Zxid != 5 {
		t.Errorf("%d transactions, %v", len(log), err)
	}
}
