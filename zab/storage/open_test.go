package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
)

// start opens and recovers, and closes again at the end of the test.
func start(t *testing.T, cfg storage.Config) *storage.Store {
	t.Helper()
	s, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	return s
}

func log(t *testing.T, s *storage.Store, from, to zab.Zxid) {
	t.Helper()
	for z := from; z <= to; z++ {
		if err := s.Append(txnOf(z).Append(nil), z); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesWithTheReason(t *testing.T) {
	for _, tc := range []struct {
		name string
		prep func(t *testing.T, dir string, cfg *storage.Config)
		want string
	}{
		{"missing", func(t *testing.T, dir string, cfg *storage.Config) {
			cfg.DataDir, cfg.MustExist = filepath.Join(dir, "gone"), true
		}, "does not exist: is its disk mounted?"},
		{"mount point without its disk", func(t *testing.T, dir string, cfg *storage.Config) { cfg.MustExist = true }, "version-2 does not exist"},
		{"a file", func(t *testing.T, dir string, cfg *storage.Config) {
			cfg.DataDir = filepath.Join(dir, "f")
			os.WriteFile(cfg.DataDir, nil, 0o600)
		}, "not a directory"},
		{"read-only", func(t *testing.T, dir string, cfg *storage.Config) {
			if os.Getuid() == 0 {
				t.Skip("root may write everywhere")
			}
			os.Chmod(dir, 0o500)
		}, "permission denied"},
		{"in use", func(t *testing.T, dir string, cfg *storage.Config) { start(t, *cfg) }, ": stop that process, or set another dataDir"},
		{"log directory in use", func(t *testing.T, dir string, cfg *storage.Config) {
			cfg.LogDir = filepath.Join(dir, "logs")
			other := *cfg
			other.DataDir = filepath.Join(dir, "other")
			start(t, other)
		}, "in use by pid "},
		{"full", func(t *testing.T, dir string, cfg *storage.Config) {
			disk := storagetest.NewDisk(1)
			disk.SetCapacity(1 << 20)
			cfg.FS = disk
		}, "bytes are free"},
		{"another server's myid", func(t *testing.T, dir string, cfg *storage.Config) {
			os.WriteFile(filepath.Join(dir, "myid"), []byte("2\n"), 0o600)
			cfg.ServerID = 3
		}, "myid: the directory belongs to server 2, this is server 3: give each server its own dataDir, or set the id of this one to 2"},
		{"another server's directory", func(t *testing.T, dir string, cfg *storage.Config) {
			cfg.ServerID = 2
			start(t, *cfg).Close()
			cfg.ServerID = 3
		}, "if the directory is a copy that this server is to begin with, delete the file"},
		{"paddock.id is garbage, for a server alone", func(t *testing.T, dir string, cfg *storage.Config) {
			os.WriteFile(filepath.Join(dir, "paddock.id"), []byte("\x00\x00"), 0o600)
		}, `paddock.id: "\x00\x00" is not a server id`},
		{"myid is garbage", func(t *testing.T, dir string, cfg *storage.Config) {
			os.WriteFile(filepath.Join(dir, "myid"), []byte("one\n"), 0o600)
			cfg.ServerID = 1
		}, `"one" is not a server id`},
		{"bad configuration", func(t *testing.T, dir string, cfg *storage.Config) {
			*cfg = storage.Config{Compression: "zip", SnapCount: -1}
		},
			"DataDir is empty\nSnapCount -1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := storage.Config{DataDir: t.TempDir()}
			tc.prep(t, cfg.DataDir, &cfg)
			s, err := storage.Open(cfg)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want %q in it", err, tc.want)
			}
		})
	}
}

func TestRecoverRefusesMixedDirectories(t *testing.T) {
	for file, want := range map[string]string{
		"data/version-2/log.1":      "a transaction log in the snapshot directory",
		"logs/version-2/snapshot.1": "a snapshot in the log directory",
	} {
		dir := t.TempDir()
		cfg := storage.Config{DataDir: filepath.Join(dir, "data"), LogDir: filepath.Join(dir, "logs")}
		start(t, cfg).Close()
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := storage.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Recover(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

func TestSeparateLogDirectory(t *testing.T) {
	dir := t.TempDir()
	cfg := storage.Config{DataDir: filepath.Join(dir, "data"), LogDir: filepath.Join(dir, "logs")}
	s := start(t, cfg)
	log(t, s, 1, 5)
	s.Close()
	if s := start(t, cfg); s.LastSynced() != 5 {
		t.Errorf("recovered up to %v, want 5", s.LastSynced())
	}
	for _, name := range []string{"data/version-2/snapshot.0", "logs/version-2/log.1"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestFilesAreTheOwnersOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s := start(t, storage.Config{DataDir: dir, ServerID: 4})
	log(t, s, 1, 1)
	if err := errors.Join(s.SetAcceptedEpoch(1), s.SetCurrentEpoch(1)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v", path, fi.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryThatVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk(1)
		s := start(t, storage.Config{DataDir: "/data", FS: disk})
		log(t, s, 1, 3)
		if err := disk.RemoveFile("/data/paddock.lock"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		s.Append(txnOf(4).Append(nil), 4)
		s.Sync() // wakes the keeper, which looks
		synctest.Wait()
		err := s.Append(txnOf(5).Append(nil), 5)
		if !errors.Is(err, storage.ErrFailed) || s.Err() == nil {
			t.Errorf("Append after the directory is gone: %v", err)
		}
	})
}

func TestFullDisk(t *testing.T) {
	disk := storagetest.NewDisk(1)
	cfg := storage.Config{DataDir: "/data", FS: disk, PreallocBytes: -1}
	s := start(t, cfg)
	log(t, s, 1, 3)
	disk.SetCapacity(1)
	if err := s.Append(txnOf(4).Append(nil), 4); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, storage.ErrFailed) {
		t.Errorf("Sync on a full disk: %v", err)
	}
	disk.SetCapacity(0)
	if err := s.Sync(); !errors.Is(err, storage.ErrFailed) {
		t.Errorf("Sync again: %v, want the first failure", err)
	}
	s.Close()
	if s := start(t, cfg); s.LastSynced() != 3 {
		t.Errorf("recovered up to %v, want 3", s.LastSynced())
	}
}

func TestFullDiskFailsASnapshotOnly(t *testing.T) {
	disk := storagetest.NewDisk(1)
	cfg := storage.Config{DataDir: "/data", FS: disk}
	s, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tree, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	log(t, s, 1, 3)
	disk.SetCapacity(1)
	if _, _, err := s.WriteSnapshot(tree.Freeze(), noLock{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("WriteSnapshot on a full disk: %v", err)
	}
	disk.SetCapacity(0)
	log(t, s, 4, 4)
	if _, _, err := s.WriteSnapshot(tree.Freeze(), noLock{}); err != nil {
		t.Error(err)
	}
	list, _ := disk.List("/data/version-2")
	for _, fi := range list {
		if strings.HasPrefix(fi.Name, "paddock.tmp.") {
			t.Errorf("%s was left", fi.Name)
		}
	}
}

type noLock struct{}

func (noLock) Lock()   {}
func (noLock) Unlock() {}

func TestEmptyDirectoryOfAKnownServer(t *testing.T) {
	dir := t.TempDir()
	cfg := storage.Config{DataDir: dir, NoAutoCreate: true}
	s := start(t, cfg)
	if !s.Recovery().Lost {
		t.Error("an empty directory without the file initialize is not lost")
	}
	if _, err := s.AcceptedEpoch(); !errors.Is(err, storage.ErrEpochUnknown) {
		t.Errorf("accepted epoch: %v, want unknown", err)
	}
	s.Close()
	marker := filepath.Join(dir, "initialize")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	if s.Recovery().Lost {
		t.Error("lost in spite of the file initialize")
	}
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file initialize is left: %v", err)
	}
	if e, err := s.AcceptedEpoch(); e != 0 || err != nil {
		t.Errorf("accepted epoch %d, %v, want 0", e, err)
	}
}

func TestEpochFiles(t *testing.T) {
	type row struct{ accepted, acceptedTmp, current string }
	for _, tc := range []struct {
		name           string
		row            row
		last           zab.Zxid
		accepted       zab.Epoch
		acceptedKnown  bool
		current        zab.Epoch
		currentUnknown bool
	}{
		{"as written", row{"7", "", "6"}, 1, 7, true, 6, false},
		{"with a line end", row{"7\n", "", "6\n"}, 1, 7, true, 6, false},
		{"interrupted write is a promise", row{"7", "8", "6"}, 1, 8, true, 6, false},
		{"interrupted first write", row{"", "8", "6"}, 1, 8, true, 6, false},
		{"torn temporary file", row{"7", "\x00", "6"}, 1, 7, true, 6, false},
		{"missing", row{"", "", "6"}, 1, 6, false, 6, false},
		{"garbage", row{"x", "", "6"}, 1, 6, false, 6, false},
		{"accepted below current", row{"5", "", "6"}, 1, 6, false, 6, false},
		{"history above current", row{"9", "", "6"}, zab.NewZxid(8, 1), 9, true, 8, false},
		{"both missing", row{}, zab.NewZxid(8, 1), 8, false, 8, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			disk := storagetest.NewDisk(1)
			cfg := storage.Config{DataDir: "/data", FS: disk}
			s := start(t, cfg)
			log(t, s, tc.last, tc.last)
			s.Close()
			for name, b := range map[string]string{"acceptedEpoch": tc.row.accepted, "acceptedEpoch.tmp": tc.row.acceptedTmp, "currentEpoch": tc.row.current} {
				if b != "" {
					disk.WriteFile(version2+name, []byte(b))
				}
			}
			s = start(t, cfg)
			got, err := s.AcceptedEpoch()
			if got != tc.accepted || (err == nil) != tc.acceptedKnown {
				t.Errorf("accepted epoch %d, %v, want %d, known %v", got, err, tc.accepted, tc.acceptedKnown)
			}
			got, err = s.CurrentEpoch()
			if got != tc.current || (err != nil) != tc.currentUnknown {
				t.Errorf("current epoch %d, %v, want %d, unknown %v", got, err, tc.current, tc.currentUnknown)
			}
		})
	}
}

func TestEpochsOnlyRise(t *testing.T) {
	disk := storagetest.NewDisk(1)
	s := start(t, storage.Config{DataDir: "/data", FS: disk})
	if err := s.SetCurrentEpoch(1); err == nil {
		t.Error("current epoch above the accepted one")
	}
	if err := errors.Join(s.SetAcceptedEpoch(5), s.SetCurrentEpoch(4), s.SetAcceptedEpoch(5)); err != nil {
		t.Error(err)
	}
	if s.SetAcceptedEpoch(4) == nil || s.SetCurrentEpoch(3) == nil {
		t.Error("an epoch went back")
	}
	for name, want := range map[string]string{"acceptedEpoch": "5", "currentEpoch": "4"} {
		if b, err := disk.ReadFile(version2 + name); string(b) != want {
			t.Errorf("%s holds %q, %v, want %q", name, b, err, want)
		}
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}
