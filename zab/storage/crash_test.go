package storage_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

var crashSeeds = flag.Int("crashseeds", 2, "crashes to try at each operation")

// history drives a store through a script and knows what the disk may hold at
// any moment.
type history struct {
	t    *testing.T
	disk *storagetest.Disk
	cfg  storage.Config
	rng  *rand.Rand

	s    *storage.Store
	tree *znode.Tree
	zxid zab.Zxid // last written

	digest   map[zab.Zxid]uint64 // of the tree after each transaction ever written
	allowed  map[zab.Zxid]bool   // where the history may end after a crash now
	accepted [2]zab.Epoch        // least and most that may be found
	current  [2]zab.Epoch
}

func newHistory(t *testing.T, seed uint64) *history {
	disk := storagetest.NewDisk(seed)
	h := &history{
		t: t, disk: disk, rng: rand.New(rand.NewPCG(seed, 1)),
		cfg: storage.Config{
			DataDir: "/data", LogDir: "/logs", FS: disk, PreallocBytes: 8 << 10,
			// No mark in the background: the operations come in one order.
			MarkInterval: time.Hour,
			Znode:        znode.Config{Digest: true},
		},
		digest: map[zab.Zxid]uint64{}, allowed: map[zab.Zxid]bool{0: true},
	}
	if seed%3 == 2 {
		h.cfg.MarkInterval = 1 // or as much of it as can be
	}
	return h
}

// open starts the store on what the disk holds, and checks that.
func (h *history) open() error {
	s, err := storage.Open(h.cfg)
	if err != nil {
		return err
	}
	h.s = s
	if h.tree, err = s.Recover(); err != nil {
		return err
	}
	z := h.tree.LastZxid()
	if !h.allowed[z] {
		h.t.Fatalf("recovered up to %v, allowed are %v", z, h.allowed)
	}
	if want, ok := h.digest[z]; ok && h.tree.Digest() != want {
		h.t.Fatalf("the tree at %v has digest %x, want %x", z, h.tree.Digest(), want)
	}
	h.digest[z] = h.tree.Digest()
	h.is(z)
	for _, e := range []struct {
		name string
		get  func() (zab.Epoch, error)
		want *[2]zab.Epoch
	}{{"accepted", s.AcceptedEpoch, &h.accepted}, {"current", s.CurrentEpoch, &h.current}} {
		got, err := e.get()
		if err != nil && (e.want[0] > 0 || !errors.Is(err, storage.ErrEpochUnknown)) {
			h.t.Fatalf("%s epoch: %v", e.name, err)
		}
		if most := max(e.want[1], z.Epoch()); got < e.want[0] || got > most {
			h.t.Fatalf("%s epoch %d, want %d to %d", e.name, got, e.want[0], most)
		}
		*e.want = [2]zab.Epoch{got, got}
	}
	return nil
}

// is says that the disk surely ends at z.
func (h *history) is(z zab.Zxid) {
	h.zxid = z
	h.allowed = map[zab.Zxid]bool{z: true}
}

func (h *history) batch(n int) error {
	var txn wire.Txn
	var res znode.Result
	for range n {
		data := make([]byte, h.rng.IntN(1500))
		if h.rng.IntN(2) == 0 { // zeros could be mistaken for what was never written
			for i := range data {
				data[i] = byte(h.rng.Uint32())
			}
		}
		z := h.zxid + 1
		if h.current[0] > z.Epoch() {
			z = zab.NewZxid(h.current[0], 1)
		}
		txn = wire.Txn{
			Header: wire.TxnHeader{Zxid: z, TimeMs: int64(z), Type: wire.OpCreate},
			Body: &wire.CreateTxn{Type: wire.OpCreate, Path: fmt.Sprintf("/%x", uint64(z)), ACL: wire.OpenACL(),
				Data: data, ParentCversion: int32(z)},
		}
		h.tree.Apply(&txn, &res)
		h.digest[z] = h.tree.Digest()
		h.zxid, h.allowed[z] = z, true
		if err := h.s.Append(txn.Append(nil), z); err != nil {
			return err
		}
	}
	if err := h.s.Sync(); err != nil {
		return err
	}
	h.is(h.zxid)
	return nil
}

func (h *history) close() error {
	if h.s == nil {
		return nil
	}
	s := h.s
	h.s = nil
	return s.Close()
}

func (h *history) snapshot() error {
	if err := h.s.Roll(); err != nil {
		return err
	}
	_, _, err := h.s.WriteSnapshot(h.tree.Freeze(), new(sync.RWMutex))
	return err
}

func (h *history) epoch(e zab.Epoch) error {
	h.accepted[1] = e
	if err := h.s.SetAcceptedEpoch(e); err != nil {
		return err
	}
	h.accepted[0], h.current[1] = e, e
	if err := h.s.SetCurrentEpoch(e); err != nil {
		return err
	}
	h.current[0] = e
	return nil
}

func (h *history) truncate(z zab.Zxid) (err error) {
	for x := range h.digest {
		if x >= z && x <= h.zxid {
			h.allowed[x] = true
		}
	}
	if h.tree, err = h.s.Truncate(z); err != nil {
		return err
	}
	if got := h.tree.Digest(); got != h.digest[z] {
		h.t.Fatalf("truncated to %v: digest %x, want %x", z, got, h.digest[z])
	}
	h.is(z)
	return nil
}

// install takes over the state of a leader that is ahead or elsewhere.
func (h *history) install(z zab.Zxid, e zab.Epoch) error {
	h.accepted[1] = e
	if err := h.s.SetAcceptedEpoch(e); err != nil {
		return err
	}
	h.accepted[0], h.current[1] = e, e
	tree := znode.New(h.cfg.Znode)
	txn := wire.Txn{
		Header: wire.TxnHeader{Zxid: z, TimeMs: 5, Type: wire.OpCreate},
		Body:   &wire.CreateTxn{Type: wire.OpCreate, Path: fmt.Sprintf("/leader%x", uint64(z)), ACL: wire.OpenACL(), ParentCversion: 1},
	}
	var res znode.Result
	tree.Apply(&txn, &res)
	h.digest[z], h.allowed[z] = tree.Digest(), true
	if err := h.s.Install(tree.Freeze(), new(sync.RWMutex), e); err != nil {
		return err
	}
	h.tree = tree
	h.current[0] = e
	h.is(z)
	return nil
}

// script is a life with everything in it. It returns the first error.
func (h *history) script() error {
	var mid zab.Zxid
	steps := []func() error{
		h.open,
		func() error { return h.batch(1) },
		func() error { return h.batch(7) },
		func() error { return h.epoch(1) },
		func() error { return h.batch(3) },
		h.snapshot,
		func() error { return h.batch(12) },
		func() error { return h.batch(2) },
		func() error { mid = h.zxid; return h.batch(2) },
		h.snapshot,
		func() error { return h.batch(5) },
		func() error { return h.truncate(mid) },
		func() error { return h.epoch(2) },
		func() error { return h.batch(4) },
		h.snapshot,
		func() error { _, err := h.s.Purge(2); return err },
		func() error { return h.batch(9) },
		func() error { return h.install(zab.NewZxid(3, 7), 4) },
		func() error { return h.batch(3) },
		h.close,
		h.open,
		func() error { return h.batch(3) },
		h.close,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// goOn checks that a recovered store works.
func (h *history) goOn() {
	h.t.Helper()
	for range 2 {
		if err := h.open(); err != nil {
			h.t.Fatal(err)
		}
		if err := h.batch(3); err != nil {
			h.t.Fatal(err)
		}
		if err := h.close(); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestCrashAtEveryOperation(t *testing.T) {
	ops := func() int {
		h := newHistory(t, 0)
		if err := h.script(); err != nil {
			t.Fatal(err)
		}
		return h.disk.Ops()
	}()
	seeds := *crashSeeds
	t.Logf("%d operations, %d crashes each", ops, seeds)
	for n := 1; n <= ops; n++ {
		for seed := range seeds {
			ok := t.Run(fmt.Sprintf("op%d/seed%d", n, seed), func(t *testing.T) {
				h := newHistory(t, uint64(n*1000+seed))
				h.disk.CrashAt(n)
				err := h.script()
				if err == nil {
					return // the background did less this time
				}
				if !errors.Is(err, storagetest.ErrCrashed) {
					t.Fatalf("the script ended with %v", err)
				}
				h.close() // of the dead process: its goroutine ends
				h.disk.Crash()
				// Every other time the recovery is cut off too.
				if seed%2 == 1 {
					h.disk.CrashAt(1 + h.rng.IntN(8))
					if err := h.open(); err != nil && !errors.Is(err, storagetest.ErrCrashed) {
						t.Fatal(err)
					}
					h.close()
					h.disk.Crash()
				}
				h.goOn()
			})
			if !ok {
				return
			}
		}
	}
}

func TestFailureAtEveryOperationIsFinalOrHarmless(t *testing.T) {
	h := newHistory(t, 0)
	if err := h.script(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= h.disk.Ops(); n++ {
		ok := t.Run(fmt.Sprintf("op%d", n), func(t *testing.T) {
			h := newHistory(t, uint64(n))
			h.disk.FailAt(n, syscall.EIO)
			err := h.script()
			if err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatalf("the script ended with %v", err)
			}
			if err != nil && h.s != nil {
				if again := h.s.Sync(); h.s.Err() != nil && !errors.Is(again, storage.ErrFailed) {
					t.Errorf("Sync after the failure: %v", again)
				}
			}
			h.close()
			h.disk.Crash()
			h.goOn()
		})
		if !ok {
			return
		}
	}
}

// TestWhatWasRecoveredIsSafe ends the process at every operation, or lets the
// operation fail, while the system lives on and shows the next process what may
// not be on the disk. What that process has said it found must survive a power cut.
func TestWhatWasRecoveredIsSafe(t *testing.T) {
	h := newHistory(t, 0)
	if err := h.script(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= h.disk.Ops(); n++ {
		for seed := range 4 {
			ok := t.Run(fmt.Sprintf("op%d/seed%d", n, seed), func(t *testing.T) {
				h := newHistory(t, uint64(n*10+seed))
				if seed%2 == 0 {
					h.disk.FailAt(n, syscall.EIO)
				} else {
					h.disk.CrashAt(n)
				}
				h.script()
				h.close()
				h.disk.Kill()
				if err := h.open(); err != nil {
					t.Fatal(err)
				}
				h.disk.Crash()
				h.close()
				h.goOn() // open allows nothing else than before
			})
			if !ok {
				return
			}
		}
	}
}
