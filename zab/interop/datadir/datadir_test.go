//go:build interop

package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

func TestMain(m *testing.M) { os.Exit(peer.Main(m)) }

// everySnapshot makes snapshots and logs frequent. Apache takes one at random
// between half the number of transactions and all of it.
const everySnapshot = "snapCount=400"

// handOvers are what the directory of one server goes through before the other
// kind starts on a copy of it.
var handOvers = []struct {
	name     string
	from, to string
	settings []string
	suffix   string // of the snapshots
	end      func(t *testing.T, s *peer.Server)
}{
	{"paddock stopped", peer.KindPaddock, peer.KindApache, nil, "", term},
	{"paddock killed", peer.KindPaddock, peer.KindApache, nil, "", kill},
	{"paddock with gz", peer.KindPaddock, peer.KindApache, []string{"snapshot.compression.method=gz"}, ".gz", term},
	{"Apache stopped", peer.KindApache, peer.KindPaddock, nil, "", term},
	{"Apache killed", peer.KindApache, peer.KindPaddock, nil, "", kill},
	{"Apache with gz", peer.KindApache, peer.KindPaddock, []string{"-Dzookeeper.snapshot.compression.method=gz"}, ".gz", kill},
	{"Apache with snappy", peer.KindApache, peer.KindPaddock, []string{"-Dzookeeper.snapshot.compression.method=snappy"}, ".snappy", kill},
}

// operations is how many random operations each session does:
// PADDOCK_DATADIR_OPERATIONS, or 300.
func operations(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PADDOCK_DATADIR_OPERATIONS")
	if text == "" {
		return 300
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("PADDOCK_DATADIR_OPERATIONS: %v", err)
	}
	return n
}

func term(t *testing.T, s *peer.Server) { s.Term(t) }
func kill(t *testing.T, s *peer.Server) { s.Kill() }

// TestHandOver lets one server work, and starts the other kind on a copy of its
// directory: it must have every znode, stat, ACL and session.
func TestHandOver(t *testing.T) {
	peer.Apache(t)
	for _, h := range handOvers {
		t.Run(h.name, func(t *testing.T) {
			s := peer.Start(t, h.from, t.TempDir(), append(h.settings, everySnapshot)...)
			l := newLoad(t)
			l.run(t, s, operations(t))
			l.report(t)
			last := quiet(t, s)
			want := read(t, s)
			if want.Zxid != last {
				t.Fatalf("zxid %v, then %v, without anybody writing", last, want.Zxid)
			}
			last = quiet(t, s) // the reader's session
			checkLog(t, s)
			h.end(t, s)
			checkFiles(t, s.Data(), last, h.suffix)

			next := peer.Start(t, h.to, copyOf(t, s), everySnapshot)
			if z := next.Zxid(t); z != last {
				t.Errorf("%s starts at %v, %s ended at %v", h.to, z, h.from, last)
			}
			got := read(t, next)
			compare(t, fmt.Sprintf("%s, then %s", h.from, h.to), got, want)
			checkDigests(t, next.Data(), last)
			checkLog(t, next)
			takeUp(t, next, l, got)
			next.Kill()

			// An older snapshot and more transactions must lead to the same.
			dir := copyOf(t, s)
			from := forgetSnapshots(t, filepath.Join(dir, "data"), l.seed)
			next = peer.Start(t, h.to, dir, everySnapshot)
			compare(t, fmt.Sprintf("%s, then %s from %s", h.from, h.to, from), read(t, next), want)
			checkLog(t, next)
		})
	}
}

// TestKilledAtWork kills a server under load. Then nobody knows what it had, but
// both kinds must make the same of what it left.
func TestKilledAtWork(t *testing.T) {
	peer.Apache(t)
	for _, kind := range []string{peer.KindPaddock, peer.KindApache} {
		t.Run(kind, func(t *testing.T) {
			// No container or TTL znode goes, and so no zxid depends on the time.
			calm := []string{everySnapshot, "znode.container.checkIntervalMs=3600000", "-Dznode.container.checkIntervalMs=3600000"}
			s := peer.Start(t, kind, t.TempDir(), calm...)
			l := newLoad(t)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(2*time.Second, func() { cancel(); s.Kill() })
			l.start(t, ctx, s, func(w *worker) {
				for ctx.Err() == nil {
					w.random()
				}
			})
			<-s.Done()
			apache := peer.Start(t, peer.KindApache, copyOf(t, s), calm...)
			paddock := peer.Start(t, peer.KindPaddock, copyOf(t, s), calm...)
			if a, p := apache.Zxid(t), paddock.Zxid(t); a != p {
				t.Errorf("after %s was killed Apache starts at %v, paddock at %v", kind, a, p)
			}
			got := read(t, paddock)
			compare(t, "paddock and Apache after "+kind, got, read(t, apache))
			checkLog(t, apache)
			checkLog(t, paddock)
			takeUp(t, paddock, l, got)
		})
	}
}

// TestBackAndForth hands one directory to and fro, with writes on each side.
func TestBackAndForth(t *testing.T) {
	peer.Apache(t)
	dir, l := t.TempDir(), newLoad(t)
	var want *state
	var last zab.Zxid
	for i, kind := range []string{peer.KindPaddock, peer.KindApache, peer.KindPaddock, peer.KindApache, peer.KindPaddock} {
		s := peer.Start(t, kind, dir, everySnapshot)
		if i > 0 {
			if z := s.Zxid(t); z != last {
				t.Errorf("%s starts at %v, the one before it ended at %v", kind, z, last)
			}
			compare(t, fmt.Sprintf("hand-over %d, to %s", i, kind), read(t, s), want)
			checkDigests(t, s.Data(), last)
			if z := s.Zxid(t); z != last+2 { // the reader's session came and went
				t.Errorf("%s is at %v, want %v", kind, z, last+2)
			}
		}
		l.run(t, s, operations(t)/2)
		quiet(t, s)
		want = read(t, s)
		last = quiet(t, s)
		checkLog(t, s)
		if i%2 == 0 {
			s.Kill()
		} else {
			s.Term(t)
		}
		os.Remove(filepath.Join(dir, "server.log"))
	}
	l.report(t)
	checkFiles(t, filepath.Join(dir, "data"), last, "")
}

// checkDigests checks that the first transactions of a server, the coming and
// going of a session, have the digest of the last one of the server before it.
// Sessions are no part of the tree.
func checkDigests(t *testing.T, data string, last zab.Zxid) {
	t.Helper()
	found := map[zab.Zxid]wire.Digest{}
	logs, err := filepath.Glob(filepath.Join(data, "version-2", "log.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs {
		for e, err := range storage.LogEntries(log) {
			if err != nil {
				break // the end of a log that is being written
			}
			if e.Zxid < last || e.Zxid > last+2 {
				continue
			}
			txn, err := e.Txn()
			if err != nil {
				t.Errorf("%s: %v", log, err)
				continue
			}
			found[e.Zxid] = txn.Digest
		}
	}
	want := found[last]
	if want.Tree == 0 || found[last+1] != want || found[last+2] != want {
		t.Errorf("digests from %v on: %v", last, found)
	}
}

// takeUp takes up the sessions of the load, each with its password, and closes
// them: the ephemerals go.
func takeUp(t *testing.T, s *peer.Server, l *load, st *state) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	for _, session := range l.sessions {
		if session.ID == 0 {
			continue
		}
		owned := st.ephemerals(session.ID)
		c, _ := peer.Connect(t, client.Config{Servers: s.Addr(), Session: session, SessionTimeout: session.Timeout, ExitOnExpiry: true})
		got, err := c.Ephemerals(ctx, "/")
		if err != nil || !slices.Equal(got, owned) {
			t.Errorf("session %v taken up: ephemerals %q, %v, want %q", session.ID, got, err, owned)
		}
		if id := c.Session().ID; id != session.ID {
			t.Errorf("session %v taken up as %v", session.ID, id)
		}
		if err := c.CloseSession(ctx); err != nil {
			t.Errorf("closing session %v: %v", session.ID, err)
		}
	}
	quiet(t, s)
	for path, z := range read(t, s).Znodes {
		if owner := z.Stat.EphemeralOwner; slices.ContainsFunc(l.sessions[:], func(s *client.Session) bool { return s.ID == owner && owner != 0 }) {
			t.Errorf("%s is still there: its session %v was closed", path, owner)
		}
	}
}

// copyOf copies a server's data directory into a directory for another server.
func copyOf(t *testing.T, s *peer.Server) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS(s.Data())); err != nil {
		t.Fatal(err)
	}
	return dir
}

// forgetSnapshots deletes all snapshots but some of the older ones, and returns
// the newest that is left.
func forgetSnapshots(t *testing.T, data string, seed uint64) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "version-2", "snapshot.*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b string) int { return int(snapshotZxid(t, a) - snapshotZxid(t, b)) })
	keep := int(seed%uint64(len(files)-1)) + 1
	for _, file := range files[keep:] {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Base(files[keep-1])
}

func snapshotZxid(t *testing.T, file string) int64 {
	t.Helper()
	text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), "snapshot."), ".")
	z, err := strconv.ParseInt(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// checkFiles checks that there are several snapshots, of the wanted form, and
// several logs, and that our own tool finds no fault with any of them.
func checkFiles(t *testing.T, data string, last zab.Zxid, suffix string) {
	t.Helper()
	snapshots, logs := 0, 0
	err := filepath.WalkDir(filepath.Join(data, "version-2"), func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case strings.HasPrefix(name, "log."):
			logs++
		case strings.HasPrefix(name, "snapshot.") && filepath.Ext(name) == suffix,
			suffix == "" && strings.HasPrefix(name, "snapshot.") && strings.Count(name, ".") == 1:
			snapshots++
		}
		return err
	})
	if err != nil || snapshots < 2 || logs < 2 {
		t.Errorf("%d snapshots, %d logs, %v", snapshots, logs, err)
	}
	report, err := storage.Verify(storage.Config{DataDir: data, Znode: znode.Config{Digest: true, ExtendedTypes: true}})
	if err != nil || report.Err != nil {
		t.Fatalf("verify: %v", errors.Join(err, report.Err))
	}
	for _, f := range report.Files {
		if f.Err != nil {
			t.Errorf("verify: %s: %v", f.Name, f.Err)
		}
	}
	if report.LastZxid != last {
		t.Errorf("the files end at %v, the server did at %v", report.LastZxid, last)
	}
	if out, err := exec.Command(peer.Paddock(), "data", "verify", data).CombinedOutput(); err != nil {
		t.Errorf("paddock data verify: %v\n%s", err, out)
	}
	t.Logf("%d snapshots, %d logs, up to %v", snapshots, logs, last)
}
