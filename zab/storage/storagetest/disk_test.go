package storagetest

import (
	"bytes"
	"slices"
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

// TestOutcomesAreAllThatACrashMayLeave names the states of a small disk: two
// sectors of one file, and a file whose name is not safe.
func TestOutcomesAreAllThatACrashMayLeave(t *testing.T) {
	d := NewDisk(1)
	f, err := d.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt(bytes.Repeat([]byte{'a'}, 2*sector), 0)
	f.Sync()
	d.SyncDir("/")
	f.WriteAt(bytes.Repeat([]byte{'b'}, 2*sector), 0)
	g, _ := d.Create("/g")
	g.WriteAt([]byte("g"), 0)
	g.Sync()
	describe := func(d *Disk) (s string) {
		for name, b := range d.Files() {
			s += name
			for at := 0; at < len(b); at += sector {
				s += string(b[at])
			}
		}
		return s
	}
	want := []string{"/faa", "/faa/gg", "/fab", "/fab/gg", "/fba", "/fba/gg", "/fbb", "/fbb/gg"}
	all, outcomes := d.Outcomes(8, 0)
	var got []string
	for o := range outcomes {
		got = append(got, describe(o.Disk))
	}
	slices.Sort(got)
	if !all || !slices.Equal(got, want) {
		t.Errorf("%v, all %v; want %v", got, all, want)
	}
	if s := describe(d); s != "/fbb/gg" {
		t.Errorf("the disk itself has become %s", s)
	}
	all, outcomes = d.Outcomes(4, 0)
	n := 0
	for o := range outcomes {
		if n++; !slices.Contains(want, describe(o.Disk)) {
			t.Errorf("outcome %s: %s", o.Kept, describe(o.Disk))
		}
		// What is done to an outcome is done to it alone.
		h, _ := o.Disk.OpenWrite("/f")
		h.WriteAt([]byte{'c'}, 0)
		h.Sync()
	}
	if all || n == 0 || n > 4 {
		t.Errorf("%d outcomes of 8, at most 4 were asked for; all %v", n, all)
	}
	if s := describe(d); s != "/fbb/gg" {
		t.Errorf("the disk itself has become %s", s)
	}
}
