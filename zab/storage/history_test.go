package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

func TestAppendRefusesGaps(t *testing.T) {
	s := start(t, storage.Config{DataDir: "/data", FS: storagetest.NewDisk(1)})
	log(t, s, 1, 3)
	for _, z := range []zab.Zxid{3, 5, 2, zab.NewZxid(1, 2)} {
		if err := s.Append(txnOf(z).Append(nil), z); err == nil {
			t.Errorf("%v appended behind 3", z)
		}
	}
	if err := s.Append(txnOf(5).Append(nil), 4); err == nil {
		t.Error("a transaction appended under another zxid")
	}
	if err := s.Append(make([]byte, 10), 4); err == nil {
		t.Error("10 bytes appended as a transaction")
	}
	e := zab.NewZxid(1, 1)
	log(t, s, 4, 4)
	log(t, s, e, e)
	if s.LastSynced() != e || s.LastAppended() != e {
		t.Errorf("synced %v, appended %v, want %v", s.LastSynced(), s.LastAppended(), e)
	}
}

// zxids collects the entries behind after.
func zxids(s *storage.Store, after zab.Zxid) (list []zab.Zxid, err error) {
	for e, err := range s.Entries(after) {
		if err != nil {
			return list, err
		}
		if txn, err := e.Txn(); err != nil || txn.Header.Zxid != e.Zxid {
			return list, fmt.Errorf("entry %+v: %w", e, err)
		}
		list = append(list, e.Zxid)
	}
	return list, nil
}

func TestEntries(t *testing.T) {
	disk := storagetest.NewDisk(1)
	s := start(t, storage.Config{DataDir: "/data", FS: disk})
	e := zab.NewZxid(2, 1)
	log(t, s, 1, 3)
	if err := s.Roll(); err != nil {
		t.Fatal(err)
	}
	log(t, s, 4, 6)
	log(t, s, e, e+2)
	if err := s.Append(txnOf(e+3).Append(nil), e+3); err != nil { // not synced
		t.Fatal(err)
	}
	all := []zab.Zxid{1, 2, 3, 4, 5, 6, e, e + 1, e + 2}
	for i := range all {
		after := zab.Zxid(0)
		if i > 0 {
			after = all[i-1]
		}
		if got, err := zxids(s, after); !slices.Equal(got, all[i:]) || err != nil {
			t.Errorf("behind %v: %v, %v; want %v", after, got, err, all[i:])
		}
	}
	if got, err := zxids(s, e+2); len(got) != 0 || err != nil {
		t.Errorf("behind the last: %v, %v", got, err)
	}
	// Not elements of the history.
	for _, after := range []zab.Zxid{7, 100, zab.NewZxid(1, 5), e + 9} {
		if got, err := zxids(s, after); len(got) != 0 || !errors.Is(err, storage.ErrNoHistory) {
			t.Errorf("behind %v: %v, %v; want ErrNoHistory", after, got, err)
		}
	}
	disk.RemoveFile(version2 + "log.1")
	if got, err := zxids(s, 2); len(got) != 0 || !errors.Is(err, storage.ErrNoHistory) {
		t.Errorf("behind 2 without its log: %v, %v; want ErrNoHistory", got, err)
	}
	if got, err := zxids(s, 3); len(got) != 6 || err != nil {
		t.Errorf("behind 3, where the logs begin: %v, %v", got, err)
	}
	for range s.Entries(3) {
		break // a reader may stop
	}
}

// TestInstalledSnapshotLeavesAGap has logs on both sides of an installed snapshot
// which follow each other by their zxids.
func TestInstalledSnapshotLeavesAGap(t *testing.T) {
	disk := storagetest.NewDisk(1)
	cfg := storage.Config{DataDir: "/data", FS: disk}
	s := start(t, cfg)
	log(t, s, 1, 3)
	x := zab.Zxid(7) // 4 to 7 were never logged here
	tree := znode.New(znode.Config{})
	tree.Apply(txnOf(x), new(znode.Result))
	if err := s.SetAcceptedEpoch(1); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(tree.Freeze(), new(sync.Mutex), 1); err != nil {
		t.Fatal(err)
	}
	e := zab.NewZxid(1, 1)
	log(t, s, e, e+1)
	for _, after := range []zab.Zxid{0, 2, 3} {
		if got, err := zxids(s, after); !errors.Is(err, storage.ErrNoHistory) {
			t.Errorf("behind %v: %v, %v; want ErrNoHistory", after, got, err)
		}
	}
	if at, err := s.Locate(5); err != nil || at != 3 {
		t.Errorf("5 is at %v, %v; want 3, behind which Entries proves nothing", at, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Without the snapshot the older one must not stand in for it.
	if err := disk.WriteFile("/data/version-2/snapshot.7", []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var dmg *storage.DamageError
	if tree, err := s.Recover(); !errors.As(err, &dmg) {
		t.Errorf("recovered up to %v over the gap, %v", tree.LastZxid(), err)
	}
}

func TestPurgeKeepsWhatIsNeeded(t *testing.T) {
	w := newDamaged(t)
	s, tree := open2(t, w.cfg)
	var res znode.Result
	for z := zab.Zxid(21); z <= 60; z++ {
		txn := txnOf(z)
		tree.Apply(txn, &res)
		log(t, s, z, z)
		if z%10 == 0 {
			if err := s.Roll(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.WriteSnapshot(tree.Freeze(), noLock{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// snapshots 0 a 1e 28 32 3c; logs 1 b 15 1f 29 33
	w.change("snapshot.32", flip(500))
	removed, err := s.Purge(3)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"snapshot.0", "snapshot.a", "log.1", "log.b", "log.15"}; !slices.Equal(removed, want) {
		t.Errorf("removed %v, want %v", removed, want)
	}
	if removed, err := s.Purge(0); err != nil || !slices.Equal(removed, []string{"snapshot.1e", "log.1f"}) {
		t.Errorf("removed %v, %v; want all but the last two that can be read", removed, err)
	}
	s.Close()
	s, tree = open2(t, w.cfg)
	if tree.LastZxid() != 60 {
		t.Errorf("recovered up to %v", tree.LastZxid())
	}
	s.Close()
	w.rm("snapshot.3c")
	if _, tree = open2(t, w.cfg); tree.LastZxid() != 60 {
		t.Errorf("recovered up to %v from the older snapshot", tree.LastZxid())
	}
}

func open2(t *testing.T, cfg storage.Config) (*storage.Store, *znode.Tree) {
	t.Helper()
	s, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	tree, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	return s, tree
}

func TestTruncate(t *testing.T) {
	for _, z := range []zab.Zxid{20, 19, 11, 10, 9, 1} {
		w := newDamaged(t)
		s, _ := open2(t, w.cfg)
		tree, err := s.Truncate(z)
		if err != nil {
			t.Fatalf("to %v: %v", z, err)
		}
		if tree.LastZxid() != z || tree.NodeCount() != 5+int(z) || s.LastSynced() != z {
			t.Errorf("to %v: tree at %v with %d znodes, synced %v", z, tree.LastZxid(), tree.NodeCount(), s.LastSynced())
		}
		e := zab.NewZxid(1, 1)
		log(t, s, e, e)
		s.Close()
		if _, tree := open2(t, w.cfg); tree.LastZxid() != e || tree.NodeCount() != 6+int(z) {
			t.Errorf("to %v, later: tree at %v with %d znodes", z, tree.LastZxid(), tree.NodeCount())
		}
	}
}

func TestTruncateRefusesWhatIsNotInTheLog(t *testing.T) {
	w := newDamaged(t)
	s, _ := open2(t, w.cfg)
	before := w.dir()
	for _, z := range []zab.Zxid{0, 25, zab.NewZxid(1, 1)} {
		if _, err := s.Truncate(z); !errors.Is(err, storage.ErrNoHistory) {
			t.Errorf("to %v: %v, want ErrNoHistory", z, err)
		}
	}
	if after := w.dir(); after != before {
		t.Errorf("files changed from %s to %s", before, after)
	}
	log(t, s, 21, 21) // it goes on
}

func TestRecoverAgainForgetsWhatWasNotSynced(t *testing.T) {
	w := newDamaged(t)
	s, _ := open2(t, w.cfg)
	log(t, s, 21, 22)
	if err := s.Append(txnOf(23).Append(nil), 23); err != nil {
		t.Fatal(err)
	}
	tree, err := s.Recover()
	if err != nil || tree.LastZxid() != 22 || s.LastAppended() != 22 {
		t.Errorf("tree at %v, %v, want 22", tree.LastZxid(), err)
	}
	log(t, s, 23, 25)
}

func TestSnapshotThresholds(t *testing.T) {
	var least, most int64 = 1 << 60, 0
	for i := range 40 {
		s := start(t, storage.Config{DataDir: "/data", FS: storagetest.NewDisk(uint64(i)), SnapCount: 100})
		n := zab.Zxid(0)
		for !s.ShouldSnapshot() {
			n++
			log(t, s, n, n)
		}
		least, most = min(least, int64(n)), max(most, int64(n))
		if err := s.Roll(); err != nil {
			t.Fatal(err)
		}
		if s.ShouldSnapshot() {
			t.Error("another snapshot is due right after the roll")
		}
	}
	if least < 51 || most > 101 || most-least < 10 {
		t.Errorf("due after %d to %d transactions, want some from 51 to 101", least, most)
	}
	s := start(t, storage.Config{DataDir: "/data", FS: storagetest.NewDisk(1), SnapSizeBytes: 1000})
	log(t, s, 1, 2)
	if s.ShouldSnapshot() {
		t.Errorf("due with a log of %d bytes", s.LogSize())
	}
	log(t, s, 3, 5)
	if !s.ShouldSnapshot() {
		t.Errorf("not due with a log of %d bytes", s.LogSize())
	}
}

// A snapshot is of one zxid, whatever is written meanwhile.
func TestSnapshotsWhileWriting(t *testing.T) {
	for _, form := range []storage.Compression{storage.Plain, storage.Gzip} {
		dir := t.TempDir()
		s, err := storage.Open(storage.Config{DataDir: dir, Compression: form, Znode: znode.Config{Digest: true}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tree, err := s.Recover()
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.RWMutex
		var res znode.Result
		digest := map[zab.Zxid]uint64{}
		var wg sync.WaitGroup
		z := zab.Zxid(0)
		write := func() {
			z++
			txn := txnOf(z)
			if z > 50 {
				txn.Header.Type = wire.OpSetData
				txn.Body = &wire.SetDataTxn{Path: fmt.Sprintf("/%x", uint64(1+z%50)), Data: []byte(z.String()), Version: int32(z)}
			}
			mu.Lock()
			tree.Apply(txn, &res)
			digest[z] = tree.Digest()
			mu.Unlock()
			if err := errors.Join(s.Append(txn.Append(nil), z), s.Sync()); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			for range 60 {
				write()
			}
			if err := s.Roll(); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			f := tree.Freeze()
			mu.Unlock()
			wg.Go(func() {
				if _, _, err := s.WriteSnapshot(f, mu.RLocker()); err != nil {
					t.Error(err)
				}
			})
			for range 20 {
				write()
			}
			wg.Wait()
		}
		s.Close()
		list, _ := filepath.Glob(filepath.Join(dir, "version-2", "snapshot.*"))
		for _, path := range list[1:] {
			info, err := storage.ReadSnapshot(path, nil)
			if err != nil || info.Digest.Tree != digest[info.Zxid] || info.DigestZxid != info.Zxid || info.LastZxid != info.Zxid {
				t.Errorf("%s: %+v, %v; want digest %x", path, info, err, digest[info.Zxid])
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		if len(list) != 6 {
			t.Errorf("snapshots %v, want 6", list)
		}
	}
}

func TestVerifyAndCut(t *testing.T) {
	w := newDamaged(t)
	rep, err := storage.Verify(w.cfg)
	if err != nil || rep.Err != nil || rep.LastZxid != 20 || rep.Znodes != 25 || len(rep.Files) != 4 {
		t.Fatalf("%+v, %v", rep, err)
	}
	for i, want := range []string{"snapshot.0 0x0 0x0 0 <nil>", "snapshot.a 0xa 0xa 0 <nil>", "log.1 0x1 0xa 10 <nil>", "log.b 0xb 0x14 10 <nil>"} {
		f := rep.Files[i]
		if got := fmt.Sprintln(f.Name, f.First, f.Last, f.Entries, f.Err); strings.TrimSpace(got) != want {
			t.Errorf("file %d: %s, want %s", i, got, want)
		}
	}
	if _, _, err := storage.Cut(w.cfg); err == nil {
		t.Error("a good directory was cut")
	}
	w.change("log.b", flip(w.at(15)+100))
	w.put("log.15", nil)
	before := w.dir()
	rep, err = storage.Verify(w.cfg)
	var dmg *storage.DamageError
	if err != nil || !errors.As(rep.Err, &dmg) || rep.LastZxid != 14 || !errors.As(rep.Files[3].Err, &dmg) || dmg.Last != 14 {
		t.Errorf("%+v, %v", rep, err)
	}
	if after := w.dir(); after != before {
		t.Errorf("Verify changed the files from %s to %s", before, after)
	}
	last, kept, err := storage.Cut(w.cfg)
	if err != nil || last != 14 || len(kept) != 2 {
		t.Fatalf("Cut: %v, %v, %v", last, kept, err)
	}
	if b, err := w.ReadFile(version2 + "paddock.aside.log.b"); err != nil || len(b) < w.at(14) {
		t.Errorf("the damaged log was not kept: %d bytes, %v", len(b), err)
	}
	s, tree := open2(t, w.cfg)
	if tree.LastZxid() != 14 {
		t.Errorf("recovered up to %v, want 14", tree.LastZxid())
	}
	log(t, s, 15, 16)
}

func TestLogEntriesTellsWhereItStops(t *testing.T) {
	src, err := os.ReadFile("testdata/apache/plain/version-2/log.1")
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) (n int, err error) {
		path := filepath.Join(t.TempDir(), "log.1")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, err := range storage.LogEntries(path) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	if n, err := read(src); n != 50 || err != nil {
		t.Errorf("%d entries, %v; want 50", n, err)
	}
	src[1000] ^= 1
	n, err := read(src)
	var dmg *storage.DamageError
	if !errors.As(err, &dmg) || dmg.Offset > 1000 || dmg.Offset < 700 || int(dmg.Last) != n {
		t.Errorf("%d entries, %v", n, err)
	}
	if n, err := read(nil); n != 0 || err != nil {
		t.Errorf("empty file: %d entries, %v", n, err)
	}
	if n, err := read([]byte("not a log of transactions")); n != 0 || !errors.As(err, &dmg) {
		t.Errorf("another file: %d entries, %v", n, err)
	}
}

func TestSnapshotWaitsForALogOfSomeSize(t *testing.T) {
	s := start(t, storage.Config{DataDir: "/data", FS: storagetest.NewDisk(1), SnapCount: 250})
	log(t, s, 1, 1000)
	tree, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Roll(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.WriteSnapshot(tree.Freeze(), new(sync.Mutex)); err != nil {
		t.Fatal(err)
	}
	z := zab.Zxid(1000)
	for !s.ShouldSnapshot() {
		z++
		log(t, s, z, z)
	}
	// A log as long as a snapshot of 1000 znodes has about as many transactions like
	// theirs, which is more than SnapCount and less than ten times as many.
	if n := z - 1000; n < 800 || n > 1100 {
		t.Errorf("due after %d transactions behind a snapshot of 1000", n)
	}
}
