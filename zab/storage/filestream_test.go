package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
)

// directFS is a file system whose reads past the page cache go through read.
type directFS struct {
	OSFS
	read func(f File, b []byte, off int64) (int, error)
}

func (d directFS) OpenDirect(name string, _ bool) (File, error) {
	f, err := d.OpenWrite(name)
	return directTestFile{f, d.read}, err
}

type directTestFile struct {
	File
	read func(f File, b []byte, off int64) (int, error)
}

func (f directTestFile) ReadAt(b []byte, off int64) (int, error) { return f.read(f.File, b, off) }

func TestFileReader(t *testing.T) {
	text := make([]byte, 2*flushEvery+3*block+17)
	for i := range text {
		text[i] = byte(i * 31 >> 3)
	}
	for _, c := range []struct {
		name string
		read func(File, []byte, int64) (int, error)
	}{
		{"whole blocks only", func(f File, b []byte, off int64) (int, error) {
			if len(b)%block != 0 || off%block != 0 {
				t.Errorf("%d bytes at %d are not whole blocks", len(b), off)
			}
			return f.ReadAt(b, off)
		}},
		{"a disk that stops to take it", func(f File, b []byte, off int64) (int, error) {
			if off >= flushEvery {
				clear(b)
				return 0, errors.New("invalid argument")
			}
			return f.ReadAt(b, off)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(Config{DataDir: dir, FS: directFS{read: c.read}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, size := range []int{0, 1, block - 1, block, block + 1, flushEvery - 1, flushEvery, flushEvery + 1, flushEvery + block, len(text)} {
				name := filepath.Join(dir, "file")
				if err := os.WriteFile(name, text[:size], 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := s.openFile(name)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(f)
				if err != nil || !bytes.Equal(got, text[:size]) {
					t.Errorf("%d bytes, %v, want %d", len(got), err, size)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestSnapshotThatTheDiskHasOtherwise is about a disk that has not what the page cache
// has.
func TestSnapshotThatTheDiskHasOtherwise(t *testing.T) {
	dir := t.TempDir()
	w := open0(t, Config{DataDir: dir, FS: directFS{read: func(f File, b []byte, off int64) (int, error) {
		n, err := f.ReadAt(b, off)
		if n > 2*block {
			b[2*block] ^= 1
		}
		return n, err
	}}})
	defer w.close()
	w.add(createTxn(zab.NewZxid(1, 1), "/a", bytes.Repeat([]byte("x"), 5*block)))
	w.sync()
	if err := w.s.Roll(); err != nil {
		t.Fatal(err)
	}
	path, _, err := w.s.WriteSnapshot(w.tree.Freeze(), noLock{})
	if err == nil || !strings.Contains(err.Error(), "read back: ") {
		t.Errorf("WriteSnapshot: %v", err)
	}
	if path != "" {
		t.Errorf("it is %s", path)
	}
	left, err := filepath.Glob(filepath.Join(dir, "version-2", "*snapshot.*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "snapshot.0" {
		t.Errorf("left: %v, %v; want the first one only", left, err)
	}
}
