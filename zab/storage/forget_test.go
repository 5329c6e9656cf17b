package storage_test

import (
	"errors"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
)

// TestForgetStartsEmptyAndStaysLost forgets a history, and crashes at every step
// of it: the server must be as before, or empty and lost until it has adopted an
// epoch again, and it keeps its promise.
func TestForgetStartsEmptyAndStaysLost(t *testing.T) {
	for step := 1; ; step++ {
		disk := storagetest.NewDisk(uint64(step))
		cfg := storage.Config{DataDir: "/data", FS: disk, PreallocBytes: -1}
		st := start(t, cfg)
		adopt := func(e zab.Epoch) {
			t.Helper()
			if err := errors.Join(st.SetAcceptedEpoch(e), st.SetCurrentEpoch(e)); err != nil {
				t.Fatal(err)
			}
		}
		adopt(2)
		if err := st.SetAcceptedEpoch(3); err != nil {
			t.Fatal(err)
		}
		last := zab.NewZxid(2, 5)
		log(t, st, zab.NewZxid(2, 1), last)
		disk.CrashAt(step)
		tree, err := st.Forget()
		crashed := errors.Is(err, storagetest.ErrCrashed)
		switch {
		case err != nil && !crashed:
			t.Fatalf("step %d: %v", step, err)
		case !crashed && (tree.LastZxid() != 0 || st.LastSynced() != 0 || !st.Recovery().Lost):
			t.Errorf("forgotten up to %v, synced up to %v, lost %v", tree.LastZxid(), st.LastSynced(), st.Recovery().Lost)
		}
		disk.Crash()
		st.Close()

		st = start(t, cfg)
		lost := st.Recovery().Lost
		if z := st.LastSynced(); lost && z != 0 || !lost && z != last || !crashed && !lost {
			t.Errorf("step %d: after the crash the history ends at %v, lost %v", step, z, lost)
		}
		if e, err := st.AcceptedEpoch(); e != 3 || err != nil {
			t.Errorf("step %d: accepted epoch %d, %v", step, e, err)
		}
		if lost {
			first := zab.NewZxid(4, 1)
			log(t, st, first, first)
			adopt(4)
			st.Close()
			st = start(t, cfg)
			if st.Recovery().Lost || st.LastSynced() != first {
				t.Errorf("step %d: after an epoch was adopted: lost %v, history ends at %v", step, st.Recovery().Lost, st.LastSynced())
			}
		}
		st.Close()
		if !crashed {
			if _, err := disk.Stat("/data/version-2/paddock.aside.1.log.200000001"); err != nil {
				t.Errorf("the log was not kept: %v", err)
			}
			return
		}
	}
}
