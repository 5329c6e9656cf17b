package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// The directories in testdata/apache were written by Apache ZooKeeper 3.9.5
// (standalone, extended types on) for a client that did one of everything:
// sessions, every kind of create, ephemerals of three sessions of which one
// was closed, setData, setACL, delete, a multi, a failed multi, failed requests.
// Only the zeros behind the entries were cut short. Every transaction carries
// the digest of Apache's tree, so that a replay compares itself with Apache.

// copyDir makes a data directory of testdata.
func copyDir(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "apache", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

var apacheTree = znode.Config{Digest: true, ExtendedTypes: true}

func recoverDir(t *testing.T, dir string) (*storage.Store, *znode.Tree) {
	t.Helper()
	s, err := storage.Open(storage.Config{DataDir: dir, Znode: apacheTree})
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

func TestRecoverWhatApacheWrote(t *testing.T) {
	for _, tc := range []struct {
		dir, snapshot string
		forget        string // a file to leave out
		replayed      int
	}{
		{"plain", "snapshot.32", "", 3},
		{"plain", "snapshot.0", "snapshot.32", 53},
		{"gz", "snapshot.32.gz", "", 3},
		{"snappy", "snapshot.32.snappy", "", 3},
	} {
		t.Run(tc.snapshot, func(t *testing.T) {
			dir := copyDir(t, tc.dir)
			if tc.forget != "" {
				if err := os.Remove(filepath.Join(dir, "version-2", tc.forget)); err != nil {
					t.Fatal(err)
				}
			}
			s, tree := recoverDir(t, dir)
			rec := s.Recovery()
			if rec.Snapshot != tc.snapshot || rec.Replayed != tc.replayed || rec.LastZxid != 0x35 {
				t.Errorf("recovery %+v, want %d transactions from %s up to 0x35", rec, tc.replayed, tc.snapshot)
			}
			if n := tree.DigestMismatches(); n != 0 {
				t.Errorf("%d digests differ from Apache's", n)
			}
			// As Apache's mntr said.
			if n, e := tree.NodeCount(), tree.EphemeralCount(); n != 32 || e != 1 {
				t.Errorf("%d znodes, %d ephemerals, want 32, 1", n, e)
			}
			data, st, code := tree.Get("/a", nil)
			if string(data) != "three" || st.Version != 1 || st.Cversion != 36 || st.NumChildren != 18 || st.Pzxid != 0x32 || code != wire.OK {
				t.Errorf("/a is %q, %+v, %v", data, st, code)
			}
			if _, st, _ := tree.Get("/ttl", nil); st.EphemeralOwner != 0 && st.EphemeralOwner>>56&0xff != 0xff {
				t.Errorf("/ttl has owner %v", st.EphemeralOwner)
			}
		})
	}
}

// A snapshot of Apache may hold transactions behind the zxid in its name, up to
// when it was finished. Replay must come out right from each.
func TestReplayOverLaterStates(t *testing.T) {
	src := copyDir(t, "plain")
	var txns []*wire.Txn
	for e, err := range storage.LogEntries(filepath.Join(src, "version-2", "log.1")) {
		if err != nil {
			t.Fatal(err)
		}
		txn, err := e.Txn()
		if err != nil {
			t.Fatal(err)
		}
		txns = append(txns, txn)
	}
	_, want := recoverDir(t, src)
	digest := want.Digest()
	for label := zab.Zxid(0); label < 50; label += 3 {
		for _, later := range []zab.Zxid{1, 2, 4, 9, 20} {
			tree := znode.New(apacheTree)
			var res znode.Result
			for _, txn := range txns[:min(int(label+later), len(txns))] {
				tree.Apply(txn, &res)
			}
			f := tree.Freeze()
			dir := t.TempDir()
			v2 := filepath.Join(dir, "version-2")
			if err := os.Mkdir(v2, 0o700); err != nil {
				t.Fatal(err)
			}
			out, err := os.Create(filepath.Join(v2, fmt.Sprintf("snapshot.%x", int64(label))))
			if err != nil {
				t.Fatal(err)
			}
			if err := storage.EncodeSnapshot(out, f, new(sync.RWMutex)); err != nil {
				t.Fatal(err)
			}
			out.Close()
			for _, log := range []string{"log.1", "log.33"} {
				if err := os.Link(filepath.Join(src, "version-2", log), filepath.Join(v2, log)); err != nil {
					t.Fatal(err)
				}
			}
			s, got := recoverDir(t, dir)
			if got.Digest() != digest || got.NodeCount() != want.NodeCount() || s.Recovery().DigestMismatch != 0 {
				t.Errorf("label %v with the state of %v: digest %x, want %x; %d znodes, want %d",
					label, f.Zxid, got.Digest(), digest, got.NodeCount(), want.NodeCount())
			}
			s.Close()
		}
	}
}

// counter is a SnapshotHandler.
type counter struct {
	sessions, acls int
	paths          []string
}

func (c *counter) AddSession(zab.SessionID, int32) { c.sessions++ }
func (c *counter) AddACL(int64, []wire.ACL)        { c.acls++ }
func (c *counter) AddNode(path string, _ []byte, _ int64, _ *wire.StatPersisted) error {
	c.paths = append(c.paths, strings.Clone(path))
	return nil
}

func TestReadSnapshotsOfApache(t *testing.T) {
	for name, want := range map[string]storage.Compression{
		"plain/version-2/snapshot.32":         storage.Plain,
		"gz/version-2/snapshot.32.gz":         storage.Gzip,
		"snappy/version-2/snapshot.32.snappy": storage.Snappy,
	} {
		var c counter
		info, err := storage.ReadSnapshot(filepath.Join("testdata", "apache", name), &c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info.Compression != want || info.Zxid != 0x32 || info.Nodes != 30 || !info.HasDigest || info.DigestZxid != 0x32 ||
			info.Digest.Version != 2 || !info.HasLastZxid || info.LastZxid != 0x32 || info.Bytes != 3091 && want == storage.Plain {
			t.Errorf("%s: %+v", name, info)
		}
		if len(c.paths) != info.Nodes || c.paths[0] != "" || c.sessions != info.Sessions || c.acls != info.ACLs || c.sessions == 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	fresh, err := os.ReadFile("testdata/apache/plain/version-2/snapshot.0")
	if err != nil {
		t.Fatal(err)
	}
	// What we write for a new server differs in nothing.
	dir := t.TempDir()
	s, err := storage.Open(storage.Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile(filepath.Join(dir, "version-2", "snapshot.0"))
	if err != nil {
		t.Fatal(err)
	}
	if string(ours) != string(fresh) {
		t.Errorf("our snapshot.0 is not Apache's:\n%x\n%x", ours, fresh)
	}
}
