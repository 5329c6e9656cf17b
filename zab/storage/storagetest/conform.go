package storagetest

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/paddockio/paddock/zab/storage"
)

// Run checks that an implementation of storage.FS does what a store relies on.
// dir is an existing empty directory.
func Run(t *testing.T, fsys storage.FS, dir string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sub := filepath.Join(dir, "a", "b")
	must(fsys.MkdirAll(sub))
	must(fsys.MkdirAll(sub))
	if fi, err := fsys.Stat(sub); err != nil || !fi.Dir {
		t.Errorf("Stat(directory) = %+v, %v", fi, err)
	}
	name := filepath.Join(sub, "f")
	for what, err := range map[string]error{
		"Open":      second(fsys.Open(name)),
		"OpenWrite": second(fsys.OpenWrite(name)),
		"Stat":      second(fsys.Stat(name)),
		"Remove":    fsys.Remove(name),
		"Rename":    fsys.Rename(name, name+"2"),
		"List":      second(fsys.List(filepath.Join(dir, "none"))),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of what is not there: %v, want fs.ErrNotExist", what, err)
		}
	}
	f, err := fsys.Create(name)
	must(err)
	_, err = f.WriteAt([]byte("behind a hole"), 1000)
	must(err)
	must(f.Datasync())
	must(f.Sync())
	if n, err := f.Size(); n != 1013 || err != nil {
		t.Errorf("Size() = %d, %v, want 1013", n, err)
	}
	b := make([]byte, 20)
	if n, err := f.ReadAt(b, 998); n != 15 || err != io.EOF || string(b[:n]) != "\x00\x00behind a hole" {
		t.Errorf("ReadAt = %q, %v", b[:n], err)
	}
	must(f.Truncate(1006))
	must(f.Truncate(1010))
	if n, _ := f.ReadAt(b, 1000); string(b[:n]) != "behind\x00\x00\x00\x00" {
		t.Errorf("after cutting and growing: %q", b[:n])
	}
	must(f.Close())
	r, err := fsys.Open(name)
	must(err)
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a file opened for reading can be written")
	}
	must(r.Close())
	w, err := fsys.OpenWrite(name)
	must(err)
	_, err = w.WriteAt([]byte("x"), 0)
	must(err)
	must(w.Close())
	must(fsys.Rename(name, name+"2"))
	must(fsys.SyncDir(sub))
	list, err := fsys.List(sub)
	must(err)
	if len(list) != 1 || list[0] != (storage.FileInfo{Name: "f2", Size: 1010}) {
		t.Errorf("List = %+v", list)
	}
	f, err = fsys.Create(name + "2")
	must(err)
	if n, err := f.Size(); n != 0 || err != nil {
		t.Errorf("a file made again has %d bytes, %v", n, err)
	}
	must(f.Close())
	must(fsys.Remove(name + "2"))
	if _, err := fsys.Free(dir); err != nil {
		t.Error(err)
	}

	lock := filepath.Join(dir, "lock")
	l, err := fsys.Lock(lock)
	must(err)
	must(l.Held())
	var inUse *storage.InUseError
	if _, err := fsys.Lock(lock); !errors.As(err, &inUse) || inUse.PID == 0 {
		t.Errorf("second Lock: %v, want an InUseError with a pid", err)
	}
	must(fsys.Remove(lock))
	if l.Held() == nil {
		t.Error("a deleted lock file is held")
	}
	must(l.Close())
	l, err = fsys.Lock(lock)
	must(err)
	must(l.Close())
}

func second[T any](_ T, err error) error { return err }
