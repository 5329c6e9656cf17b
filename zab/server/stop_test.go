package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
)

// A hookFS asks before each sync of a file whether that goes well.
type hookFS struct {
	storage.FS
	// log is for the transaction log, and may wait: nobody holds a lock then, so
	// that it works in a bubble. mark is for the note how far the log is safe.
	log, mark func() error
	// list is for Purge.
	list func()
}

func (h hookFS) Create(name string) (storage.File, error) {
	f, err := h.FS.Create(name)
	switch base := filepath.Base(name); {
	case err != nil:
	case h.log != nil && strings.HasPrefix(base, "log."):
		f = hookFile{f, h.log}
	case h.mark != nil && base == "paddock.mark":
		f = hookFile{f, h.mark}
	}
	return f, err
}

func (h hookFS) List(dir string) ([]storage.FileInfo, error) {
	if h.list != nil {
		h.list()
	}
	return h.FS.List(dir)
}

type hookFile struct {
	storage.File
	before func() error
}

func (h hookFile) Datasync() error { return errors.Join(h.before(), h.File.Datasync()) }

// slowDisk returns a disk whose next sync of the log takes as long as the number
// says, in nanoseconds; the one after it takes no time again.
func slowDisk() (storage.FS, *atomic.Int64) {
	next := new(atomic.Int64)
	return hookFS{FS: storagetest.NewDisk(1), log: func() error {
		time.Sleep(time.Duration(next.Swap(0)))
		return nil
	}}, next
}

// run runs a server on a disk in memory, for an hour at most, and returns it with
// the result of Run.
func run(t *testing.T, ctx context.Context, cfg Config) (*Server, <-chan error) {
	t.Helper()
	cfg.Storage.DataDir = "data"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		result <- s.Run(ctx)
	}()
	synctest.Wait()
	return s, result
}

func TestStopAnswersWhatIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, next := slowDisk()
		ctx, cancel := context.WithCancelCause(t.Context())
		s, result := run(t, ctx, Config{Storage: storage.Config{FS: disk}})
		c, idle := pipe(t, s), pipe(t, s)
		c.open()
		idle.open()
		next.Store(int64(3 * time.Second))
		c.send(createReq(1, "/n", ""))
		synctest.Wait()
		next.Store(int64(time.Second))
		c.send(setReq(2, "/n", "")) // goes into the next sync
		synctest.Wait()
		cancel(errors.New("the agent stops"))
		c.wantOK(1, 2)
		c.wantClosed()
		idle.wantClosed()
		if err := <-result; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestStopDoesNotWaitLongForClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, next := slowDisk()
		ctx, cancel := context.WithCancel(t.Context())
		s, result := run(t, ctx, Config{Storage: storage.Config{FS: disk}})
		mute, c := pipe(t, s), pipe(t, s)
		mute.open()
		mute.send(getReq(1, "/"))
		c.open()
		next.Store(int64(time.Hour))
		c.send(createReq(1, "/n", ""))
		synctest.Wait()
		began := time.Now()
		cancel()
		c.wantClosed()
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("connections closed after %v", took)
		}
		<-result // when the disk comes back
	})
}

// TestFailedSyncEndsTheServer expects no acknowledgement, an error from Run, and
// after a restart everything that was acknowledged.
func TestFailedSyncEndsTheServer(t *testing.T) {
	for _, tc := range []struct {
		name string
		want error
		// spoil makes the log fail soon.
		spoil func(disk *storagetest.Disk, fail *atomic.Bool)
	}{
		{"fsync reports an error", syscall.EIO, func(_ *storagetest.Disk, fail *atomic.Bool) { fail.Store(true) }},
		{"the disk is full", syscall.ENOSPC, func(d *storagetest.Disk, _ *atomic.Bool) { d.SetCapacity(1) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk, fail := storagetest.NewDisk(1), new(atomic.Bool)
				fs := hookFS{FS: disk, log: func() error {
					if fail.Load() {
						return syscall.EIO
					}
					return nil
				}}
				s, result := run(t, t.Context(), Config{Storage: storage.Config{FS: fs}})
				c, other := pipe(t, s), pipe(t, s)
				c.open()
				other.open()
				c.send(createReq(1, "/kept", "x"))
				c.wantOK(1)
				tc.spoil(disk, fail)
				big := strings.Repeat("x", 1_000_000)
				other.send(getReq(1, "/kept"))
				other.wantOK(1)
				go c.Write(framed(createReq(2, "/n2", big), createReq(3, "/n3", big), createReq(4, "/n4", big)))
				acked := []string{"/kept"}
				for b, err := c.tryRecv(); err == nil; b, err = c.tryRecv() {
					acked = append(acked, fmt.Sprintf("/n%d", b[3]))
				}
				if len(acked) == 4 {
					t.Error("everything was acknowledged")
				}
				other.wantClosed()
				if err := <-result; !errors.Is(err, tc.want) || !errors.Is(err, storage.ErrFailed) {
					t.Errorf("Run: %v, want %v", err, tc.want)
				}
				disk.Crash()
				disk.SetCapacity(0)
				fail.Store(false)
				ctx, cancel := context.WithCancel(t.Context())
				s, result = run(t, ctx, Config{Storage: storage.Config{FS: fs}})
				c = pipe(t, s)
				c.open()
				for _, path := range acked {
					c.send(getReq(1, path))
					c.wantOK(1)
				}
				cancel()
				<-result
			})
		})
	}
}

// TestFailureDuringTheLastSyncIsReported has the disk fail after the server was
// told to stop.
func TestFailureDuringTheLastSyncIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := false
		fs := hookFS{FS: storagetest.NewDisk(1), log: func() error {
			if !hang {
				return nil
			}
			time.Sleep(time.Second)
			return syscall.EIO
		}}
		ctx, cancel := context.WithCancel(t.Context())
		s, result := run(t, ctx, Config{Storage: storage.Config{FS: fs}})
		c := pipe(t, s)
		c.open()
		hang = true
		c.send(createReq(1, "/n", ""))
		synctest.Wait()
		cancel()
		c.wantClosed()
		if err := <-result; !errors.Is(err, syscall.EIO) {
			t.Errorf("Run: %v, want %v", err, syscall.EIO)
		}
	})
}

// TestIdleServerNoticesAFailedDisk lets something fail that no request waits for.
func TestIdleServerNoticesAFailedDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		fs := hookFS{FS: storagetest.NewDisk(1), mark: func() error {
			if fail.Load() {
				return syscall.EIO
			}
			return nil
		}}
		s, result := run(t, t.Context(), Config{Storage: storage.Config{FS: fs}})
		c := pipe(t, s)
		c.open()
		time.Sleep(2 * time.Second)
		fail.Store(true)
		c.send(createReq(1, "/n", ""))
		c.wantOK(1) // the log itself is well
		began := time.Now()
		c.wantClosed()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("noticed after %v, want one tick", took)
		}
		if err := <-result; !errors.Is(err, syscall.EIO) {
			t.Errorf("Run: %v, want %v", err, syscall.EIO)
		}
	})
}

func TestPurgeDoesNotHoldUpRequests(t *testing.T) {
	var slow atomic.Bool
	fs := hookFS{FS: storagetest.NewDisk(1), list: func() {
		if slow.Load() {
			time.Sleep(time.Minute)
		}
	}}
	cfg := Config{PurgeInterval: time.Second, Storage: storage.Config{DataDir: "data", FS: fs}}
	inBubbleWith(t, cfg, func(t *testing.T, s *Server) {
		c := pipe(t, s)
		c.open()
		slow.Store(true)
		time.Sleep(2 * time.Second)
		began := time.Now()
		c.send(createReq(1, "/n", ""))
		c.wantOK(1)
		if took := time.Since(began); took != 0 {
			t.Errorf("a create took %v", took)
		}
		slow.Store(false)
	})
}

// TestStopWaitsForASnapshot stops a server, by an order and by a failure, while a
// snapshot is being written.
func TestStopWaitsForASnapshot(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails=%v", fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fail atomic.Bool
				disk := storagetest.NewDisk(1)
				fs := hookFS{FS: disk, log: func() error {
					if fail.Load() {
						return syscall.EIO
					}
					return nil
				}}
				ctx, cancel := context.WithCancel(t.Context())
				s, result := run(t, ctx, Config{Storage: storage.Config{FS: slowSnapshots{fs}}})
				c := pipe(t, s)
				c.open()
				done := make(chan error, 1)
				go func() {
					_, _, err := s.Snapshot(context.Background())
					done <- err
				}()
				synctest.Wait()
				began := time.Now()
				if fails {
					fail.Store(true)
					c.send(createReq(1, "/n", ""))
				} else {
					cancel()
				}
				if err := <-result; errors.Is(err, syscall.EIO) != fails {
					t.Errorf("Run: %v", err)
				}
				if took := time.Since(began); took != 20*time.Second {
					t.Errorf("Run returned after %v, want 20s: the length of the snapshot", took)
				}
				<-done
				cancel()
			})
		})
	}
}

// slowSnapshots takes 20s to open the file of a snapshot.
type slowSnapshots struct{ hookFS }

func (s slowSnapshots) Create(name string) (storage.File, error) {
	if strings.Contains(filepath.Base(name), "snapshot.") {
		time.Sleep(20 * time.Second)
	}
	return s.hookFS.Create(name)
}

// TestStopLeavesNothing stops a server that has connections in every state.
func TestStopLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	s, stop := start(t, t.TempDir(), func(c *Config) { c.MaxInFlight = 2 })
	waitFor(t, "the server", s.ready.Load)
	for i := range 5 {
		dialRaw(t, s)                                       // says nothing
		dialRaw(t, s).Write([]byte{0, 0})                   // half a length
		dialRaw(t, s).Write([]byte("stmk"))                 // half a word
		dialRaw(t, s).Write(append([]byte{0, 0, 0, 44}, 1)) // half a frame
		pipe(t, s)                                          // in process, says nothing
		c := dialRaw(t, s)
		c.open()
		c.send(createReq(1, fmt.Sprintf("/n%d", i), strings.Repeat("x", 900_000)))
		c.wantOK(1)
		var burst [][]byte
		for xid := range int32(40) {
			burst = append(burst, getReq(xid, fmt.Sprintf("/n%d", i)))
		}
		c.send(burst...) // and does not read
		w := dialRaw(t, s)
		w.open()
		w.send(setReq(1, fmt.Sprintf("/n%d", i), ""), setReq(2, fmt.Sprintf("/n%d", i), ""), setReq(3, fmt.Sprintf("/n%d", i), ""))
	}
	stop()
	if n := len(s.conns); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if n := len(s.perIP); n != 0 {
		t.Errorf("%d addresses are left", n)
	}
	wantGoroutines(t, before)
}

// wantGoroutines fails unless there are as many goroutines as before, in a while.
func wantGoroutines(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before %d\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}
