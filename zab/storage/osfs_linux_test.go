package storage_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
)

func TestLogIsTheSameWithAndWithoutThePageCache(t *testing.T) {
	logOf := func(fsys storage.FS) []byte {
		dir := t.TempDir()
		s, err := storage.Open(storage.Config{DataDir: dir, FS: fsys})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recover(); err != nil {
			t.Fatal(err)
		}
		// Batches that end inside a block, at several places, and cross many.
		for z, n := zab.Zxid(1), 0; n < 40; n++ {
			for range 1 + n*n/4 {
				if err := s.Append(txnOf(z).Append(nil), z); err != nil {
					t.Fatal(err)
				}
				z++
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "version-2", "log.1"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// The second hides OpenDirect.
	direct, cached := logOf(storage.OSFS{}), logOf(struct{ storage.FS }{storage.OSFS{}})
	if !bytes.Equal(direct, cached) {
		t.Errorf("%d bytes past the page cache, %d through it, and they differ", len(direct), len(cached))
	}
}
