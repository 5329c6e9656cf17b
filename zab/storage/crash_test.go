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
	lost bool     // since a Forget: nothing counts until an epoch is adopted
	size int      // of the data of a znode, at most

	digest map[zab.Zxid]uint64 // of the tree after each transaction ever written
	expectation
}

// state is where a history ends.
type state struct {
	zxid   zab.Zxid
	digest uint64
	lost   bool
}

// expectation is what the disk may hold after a crash now: what was acknowledged
// last, what was written last, and what lies between.
type expectation struct {
	allowed  map[state]bool
	accepted [2]zab.Epoch // least and most that may be found
	current  [2]zab.Epoch
}

// found is what a recovery came to.
type found struct {
	state
	accepted, current           zab.Epoch
	acceptedKnown, currentKnown bool
}

// check compares what a store has recovered with the expectation.
func (e *expectation) check(s *storage.Store, tree *znode.Tree) (found, error) {
	f := found{state: state{tree.LastZxid(), tree.Digest(), s.Recovery().Lost}}
	if !e.allowed[f.state] {
		return f, fmt.Errorf("recovered %+v, allowed are %v", f.state, e.allowed)
	}
	for _, x := range []struct {
		name  string
		get   func() (zab.Epoch, error)
		want  [2]zab.Epoch
		got   *zab.Epoch
		known *bool
	}{
		{"accepted", s.AcceptedEpoch, e.accepted, &f.accepted, &f.acceptedKnown},
		{"current", s.CurrentEpoch, e.current, &f.current, &f.currentKnown},
	} {
		got, err := x.get()
		// A history that is set aside has taken its epoch with it.
		least := x.want[0]
		if f.lost && x.name == "current" {
			least = 0
		}
		if err != nil && (least > 0 || !errors.Is(err, storage.ErrEpochUnknown)) {
			return f, fmt.Errorf("%s epoch: %v", x.name, err)
		}
		if most := max(x.want[1], f.zxid.Epoch()); got < least || got > most {
			return f, fmt.Errorf("%s epoch %d, want %d to %d", x.name, got, least, most)
		}
		*x.got, *x.known = got, err == nil
	}
	return f, nil
}

func newHistory(t *testing.T, seed uint64) *history {
	disk := storagetest.NewDisk(seed)
	h := &history{
		t: t, disk: disk, rng: rand.New(rand.NewPCG(seed, 1)), size: 1500,
		cfg: storage.Config{
			DataDir: "/data", LogDir: "/logs", FS: disk, PreallocBytes: 8 << 10,
			// No mark in the background: the operations come in one order.
			MarkInterval: time.Hour,
			Znode:        znode.Config{Digest: true},
		},
		digest: map[zab.Zxid]uint64{},
	}
	h.start()
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
	f, err := h.check(s, h.tree)
	if err != nil {
		h.t.Fatal(err)
	}
	h.is(f.zxid)
	h.accepted, h.current = [2]zab.Epoch{f.accepted, f.accepted}, [2]zab.Epoch{f.current, f.current}
	return nil
}

// start says that the disk is empty.
func (h *history) start() {
	h.tree = znode.New(h.cfg.Znode)
	h.digest[0] = h.tree.Digest()
	h.is(0)
}

// is says that the disk surely ends at z.
func (h *history) is(z zab.Zxid) {
	h.zxid = z
	h.allowed = map[state]bool{h.at(z): true}
}

// at is the state of a history that was not lost.
func (h *history) at(z zab.Zxid) state { return state{zxid: z, digest: h.digest[z]} }

func (h *history) batch(n int) error {
	var txn wire.Txn
	var res znode.Result
	for range n {
		data := make([]byte, h.rng.IntN(h.size))
		if h.rng.IntN(2) == 0 { // zeros could be mistaken for what was never written
			for i := range data {
				data[i] = byte(h.rng.Uint32())
			}
		}
		z := h.zxid + 1
		if h.current[0] > z.Epoch() {
			z = zab.NewZxid(h.current[0], 1)
		}
		if h.lost && h.zxid == 0 {
			z = zab.NewZxid(h.accepted[0], 1)
		}
		txn = wire.Txn{
			Header: wire.TxnHeader{Zxid: z, TimeMs: int64(z), Type: wire.OpCreate},
			Body: &wire.CreateTxn{Type: wire.OpCreate, Path: fmt.Sprintf("/%x", uint64(z)), ACL: wire.OpenACL(),
				Data: data, ParentCversion: int32(z)},
		}
		h.tree.Apply(&txn, &res)
		h.digest[z] = h.tree.Digest()
		h.zxid = z
		if !h.lost {
			h.allowed[h.at(z)] = true
		}
		if err := h.s.Append(txn.Append(nil), z); err != nil {
			return err
		}
	}
	if err := h.s.Sync(); err != nil {
		return err
	}
	if !h.lost {
		h.is(h.zxid)
	}
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
	h.allowed[h.at(h.zxid)] = true // if it was lost
	if err := h.s.SetCurrentEpoch(e); err != nil {
		return err
	}
	h.current[0], h.lost = e, false
	h.is(h.zxid)
	return nil
}

// forget gives up the history, which counts as lost until an epoch is adopted.
func (h *history) forget() (err error) {
	lost := state{digest: h.digest[0], lost: true}
	h.allowed[lost] = true
	h.current[0] = 0
	if h.tree, err = h.s.Forget(); err != nil {
		return err
	}
	h.allowed = map[state]bool{lost: true}
	h.zxid, h.lost, h.current[1] = 0, true, 0
	return nil
}

func (h *history) truncate(z zab.Zxid) (err error) {
	for x := range h.digest {
		if x >= z && x <= h.zxid {
			h.allowed[h.at(x)] = true
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
	h.digest[z] = tree.Digest()
	h.allowed[h.at(z)] = true
	if err := h.s.Install(tree.Freeze(), new(sync.RWMutex), e); err != nil {
		return err
	}
	h.tree, h.lost = tree, false
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
