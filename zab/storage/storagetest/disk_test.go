package storagetest

import (
	"bytes"
	"testing"

	"github.com/paddockio/paddock/zab/storage"
)

func TestFileSystemsConform(t *testing.T) {
	t.Run("memory", func(t *testing.T) { Run(t, NewDisk(1), "/") })
	t.Run("real", func(t *testing.T) { Run(t, storage.OSFS{}, t.TempDir()) })
}

func TestCrashForgetsOnlyWhatWasNotSynced(t *testing.T) {
	old, new := bytes.Repeat([]byte{1}, 3*sector), bytes.Repeat([]byte{2}, 3*sector)
	seen := map[string]int{}
	for seed := range uint64(200) {
		d := NewDisk(seed)
		f, err := d.Create("/f")
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(old, 0)
		f.Sync()
		d.SyncDir("/")
		f.WriteAt(new, 0)
		g, _ := d.Create("/g")
		g.WriteAt(new, 0)
		g.Sync() // but not its name
		d.Crash()
		if _, err := f.WriteAt(new, 0); err != ErrCrashed {
			t.Fatalf("a file opened before the crash can be written: %v", err)
		}
		b, err := d.ReadFile("/f")
		if err != nil || len(b) != len(old) {
			t.Fatalf("seed %d: %d bytes, %v", seed, len(b), err)
		}
		for i := range b {
			if b[i] != b[i/sector*sector] {
				t.Fatalf("seed %d: half a sector was written", seed)
			}
		}
		switch {
		case bytes.Equal(b, old):
			seen["lost"]++
		case bytes.Equal(b, new):
			seen["kept"]++
		default:
			seen["torn"]++
		}
		if b, err := d.ReadFile("/g"); err != nil {
			seen["no name"]++
		} else if !bytes.Equal(b, new) {
			t.Fatalf("seed %d: a synced file lost its bytes", seed)
		} else {
			seen["name"]++
		}
	}
	for _, what := range []string{"lost", "kept", "torn", "name", "no name"} {
		if seen[what] < 20 {
			t.Errorf("%q happened %d times in 200 crashes: %v", what, seen[what], seen)
		}
	}
}

func TestFailedSyncIsNotMadeUpFor(t *testing.T) {
	lost := false
	for seed := range uint64(50) {
		d := NewDisk(seed)
		f, _ := d.Create("/f")
		d.SyncDir("/")
		f.WriteAt([]byte("data"), 0)
		d.FailAt(1, bytes.ErrTooLarge)
		if err := f.Sync(); err != bytes.ErrTooLarge {
			t.Fatalf("Sync = %v", err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		d.Crash()
		b, _ := d.ReadFile("/f")
		lost = lost || len(b) == 0
	}
	if !lost {
		t.Error("a second sync always saved what the first could not")
	}
}
