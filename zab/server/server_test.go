package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// start runs a server on a directory of the test and returns it with a function
// that stops it.
func start(t *testing.T, dir string, change func(*Config)) (*Server, func()) {
	t.Helper()
	cfg := Config{
		Listen: "127.0.0.1:0", MaxClientCnxns: -1,
		Znode:   znode.Config{Digest: true, ExtendedTypes: true},
		Storage: storage.Config{DataDir: dir},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// connect runs a client of s.
func connect(t *testing.T, s *Server, change func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{Servers: s.Addr().String(), SessionTimeout: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func TestServerKeepsWhatItAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, stop := start(t, dir, nil)
	c := connect(t, s, nil)
	if _, _, err := c.Create(ctx, "/a", []byte("one"), nil, wire.Persistent); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, _, err := c.Create(ctx, fmt.Sprintf("/a/n%03d", i), []byte{byte(i)}, nil, wire.Persistent); err != nil {
				t.Errorf("create %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if _, err := c.Set(ctx, "/a", []byte("two"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Set(ctx, "/a", []byte("three"), 0); !errors.Is(err, wire.ErrBadVersion) {
		t.Errorf("set with an old version: %v, want %v", err, wire.ErrBadVersion)
	}
	before, digests := s.State(), s.Digests()
	stop()

	s, _ = start(t, dir, nil)
	after := s.State()
	if got := s.Digests(); len(got) != 1 || !slices.Equal(got, digests) { // of transaction 128
		t.Errorf("digests %v, before the restart %v", got, digests)
	}
	if after.LastZxid != before.LastZxid || after.Digest != before.Digest || after.Znodes != before.Znodes {
		t.Errorf("after a restart: zxid %v digest %x, %d znodes; before: %v %x %d",
			after.LastZxid, after.Digest, after.Znodes, before.LastZxid, before.Digest, before.Znodes)
	}
	c = connect(t, s, nil)
	data, stat, err := c.Get(ctx, "/a")
	if err != nil || string(data) != "two" || stat.Version != 1 || stat.NumChildren != 200 {
		t.Errorf("get /a: %q %+v %v", data, stat, err)
	}
}

// TestSnapshotsUnderLoadAreExact takes snapshots while writes go on, and expects
// a restart to find the same tree, from the newest snapshot and the log behind it.
func TestSnapshotsUnderLoadAreExact(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	many := func(c *Config) { c.Storage.SnapCount, c.Storage.NoForceSync = 300, true }
	s, stop := start(t, dir, many)
	c := connect(t, s, nil)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 400 {
				path := fmt.Sprintf("/n%d-%d", w, i%50)
				var err error
				switch {
				case i < 50:
					_, _, err = c.Create(ctx, path, []byte(path), nil, wire.Persistent)
				case i%3 == 0:
					_, err = c.Set(ctx, path, fmt.Appendf(nil, "%d", i), -1)
				case i%3 == 1:
					_, _, err = c.Create(ctx, path+"/x", nil, nil, wire.EphemeralSequential)
				default:
					err = c.Delete(ctx, path+"/none", -1)
					if errors.Is(err, wire.ErrNoNode) {
						err = nil
					}
				}
				if err != nil {
					t.Errorf("%s: %v", path, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for s.Stats().Snapshots.Load() < 2 { // on a busy machine the first may still be under way
		if _, _, err := s.Snapshot(ctx); err != nil && !strings.Contains(err.Error(), "another snapshot") {
			t.Fatalf("snapshot: %v", err)
		}
	}
	if n := s.Stats().DigestMismatches.Load(); n != 0 {
		t.Errorf("%d digest mismatches", n)
	}
	before := s.State()
	stop()
	s, _ = start(t, dir, many)
	after := s.State()
	if after.LastZxid != before.LastZxid || after.Digest != before.Digest || after.Ephemerals != before.Ephemerals || after.Znodes != before.Znodes {
		t.Errorf("after a restart %+v, before %+v", after, before)
	}
}

// TestEpochFilesThatCannotBeRead: a server without others refuses to start and says
// what to do; one of several begins again, without a vote.
func TestEpochFilesThatCannotBeRead(t *testing.T) {
	write := func(t *testing.T, dir string, names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, "version-2", name), []byte("\x00\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name   string
		voters int // 0: a server alone
		files  []string
		want   string // "": it starts
	}{
		{"alone, current", 0, []string{"currentEpoch"}, "currentEpoch: it is no epoch"},
		{"alone, both", 0, []string{"acceptedEpoch", "currentEpoch"}, "delete the file"},
		{"the only voter", 1, []string{"currentEpoch"}, "no other server has the data"},
		{"the only voter, both", 1, []string{"acceptedEpoch", "currentEpoch"}, "delete both"},
		{"one of three, both", 3, []string{"acceptedEpoch", "currentEpoch"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s, stop := start(t, dir, nil)
			mustCreate(t, connect(t, s, nil), "/a", "x")
			stop()
			write(t, dir, tc.files...)
			cfg := Config{Listen: "127.0.0.1:0", Storage: storage.Config{DataDir: dir}}
			if tc.voters > 0 {
				cfg.ID, cfg.Ensemble = 1, newEnsemble(t, tc.voters, 0, nil).list
				cfg.TickTime = 200 * time.Millisecond
			}
			s, err := Open(cfg)
			switch {
			case tc.want != "":
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
			case err != nil:
				t.Error(err)
			case !s.store.Recovery().Lost:
				t.Error("it counts although its promises are lost")
			}
			if err == nil {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				s.Run(ctx)
			}
		})
	}
}
