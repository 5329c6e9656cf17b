//go:build interop

package datadir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// writer is a store at work on a disk that is going to lose its power.
type writer struct {
	t    *testing.T
	s    *storage.Store
	tree *znode.Tree
	zxid zab.Zxid
}

func (w *writer) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) open(cfg storage.Config) {
	var err error
	w.s, err = storage.Open(cfg)
	w.must(err)
	w.tree, err = w.s.Recover()
	w.must(err)
	w.zxid = w.tree.LastZxid()
}

// batch logs n new znodes of so many bytes, and makes them safe.
func (w *writer) batch(n, size int) {
	for i := range n {
		w.zxid++
		txn := &wire.Txn{
			Header: wire.TxnHeader{Zxid: w.zxid, TimeMs: int64(w.zxid), Type: wire.OpCreate},
			Body: &wire.CreateTxn{Type: wire.OpCreate, Path: fmt.Sprintf("/%x", uint64(w.zxid)), ACL: wire.OpenACL(),
				Data: bytes.Repeat([]byte{byte('a' + i)}, size), ParentCversion: int32(w.zxid.Counter())},
		}
		w.tree.Apply(txn, new(znode.Result))
		w.must(w.s.Append(txn.Append(nil), w.zxid))
	}
	w.must(w.s.Sync())
}

func (w *writer) snapshot() {
	w.must(w.s.Roll())
	_, _, err := w.s.WriteSnapshot(w.tree.Freeze(), new(sync.Mutex))
	w.must(err)
}

func (w *writer) epoch(e zab.Epoch) {
	w.must(w.s.SetAcceptedEpoch(e))
	w.must(w.s.SetCurrentEpoch(e))
	w.zxid = zab.NewZxid(e, 0)
}

// life does everything that changes the files, a few times. It says what it is
// doing.
func (w *writer) life(cfg storage.Config, now *string) {
	*now = "start"
	w.open(cfg)
	w.epoch(1)
	*now = "append"
	w.batch(1, 50)
	w.batch(3, 50)
	w.batch(3, 1500)
	*now = "snapshot"
	w.snapshot()
	*now = "append"
	w.batch(2, 700)
	w.batch(4, 50)
	*now = "snapshot"
	w.snapshot()
	*now = "append"
	w.batch(2, 50)
	*now = "truncate"
	var err error
	w.tree, err = w.s.Truncate(w.zxid - 3)
	w.must(err)
	*now = "append"
	w.epoch(2)
	w.batch(3, 50)
	*now = "snapshot"
	w.snapshot()
	*now = "purge"
	_, err = w.s.Purge(2)
	w.must(err)
	*now = "append"
	w.batch(2, 1500)
	*now = "restart"
	w.must(w.s.Close())
	w.open(cfg)
	w.batch(2, 50)
	*now = "install"
	// A snapshot that lies behind what is to be given up.
	tree := znode.New(cfg.Znode)
	tree.Apply(&wire.Txn{
		Header: wire.TxnHeader{Zxid: w.zxid - 1, TimeMs: 5, Type: wire.OpCreate},
		Body:   &wire.CreateTxn{Type: wire.OpCreate, Path: "/leader", ACL: wire.OpenACL(), ParentCversion: 1},
	}, new(znode.Result))
	w.must(w.s.SetAcceptedEpoch(3))
	w.must(w.s.Install(tree.Freeze(), new(sync.Mutex), 3))
	w.tree = tree
	*now = "append"
	w.zxid = zab.NewZxid(3, 0)
	w.batch(2, 50)
	*now = "forget"
	w.tree, err = w.s.Forget()
	w.must(err)
	*now = "append, lost"
	w.zxid = zab.NewZxid(4, 0)
	w.batch(2, 50)
	*now = "adopt"
	w.must(w.s.SetAcceptedEpoch(4))
	w.must(w.s.SetCurrentEpoch(4))
	*now = "append"
	w.batch(2, 50)
	w.must(w.s.Close())
}

// crashed is a disk after a power cut, what we make of it, and what Apache's server
// must make of it.
type crashed struct {
	what    string // how it came about
	dir     string
	want    string // the answer of LoadAll, or the beginning of its error
	because string // of an answer that is not ours
}

// The notes of ours that change what a directory says. Apache's server does not
// read them.
const (
	installNote = "/data/version-2/paddock.install"
	lostNote    = "/data/version-2/paddock.lost"
)

// keep writes the files of a disk into a directory and recovers what is on the
// disk.
func keep(t *testing.T, o storagetest.Outcome, cfg storage.Config, dir, what string) *crashed {
	t.Helper()
	c := &crashed{what: what, dir: dir}
	for _, sub := range []string{"data/version-2", "logs/version-2"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	snapshots := 0
	var logs []string
	for name, b := range o.Disk.Files() {
		if b == nil {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		switch base := filepath.Base(name); {
		case strings.HasPrefix(base, "snapshot."):
			snapshots++
		case strings.HasPrefix(base, "log."): // few enough: their names are in order
			logs = append(logs, path)
		}
	}
	withoutNotes := o.Disk.Clone()
	ours, err := recoverOn(o.Disk, cfg)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	c.want = ours
	if snapshots == 0 && len(logs) > 0 { // whatever is in them
		c.want, c.because = "error java.io.IOException: No snapshot found, but there are log entries", "a history half set aside"
		return c
	}
	if reason, because := refusal(t, logs); reason != "" {
		c.want, c.because = "error java.io.IOException: "+reason, because
		return c
	}
	for _, note := range []string{installNote, lostNote} {
		// An error says that there is no directory yet.
		if err := withoutNotes.RemoveFile(note); err != nil {
			break
		}
	}
	if c.want, err = recoverOn(withoutNotes, cfg); err != nil {
		t.Fatalf("%s, without notes: %v", what, err)
	}
	if c.want != ours {
		c.because = "a note of ours"
	}
	return c
}

// recoverOn answers as LoadAll does.
func recoverOn(disk *storagetest.Disk, cfg storage.Config) (string, error) {
	cfg.FS = disk
	s, err := storage.Open(cfg)
	if err != nil {
		return "", err
	}
	defer s.Close()
	tree, err := s.Recover()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok %d %d", int64(tree.LastZxid()), int64(tree.Digest())), nil
}

// refusal tells of an unfinished write at which Apache's server does not start,
// and why that is.
func refusal(t *testing.T, logs []string) (reason, because string) {
	t.Helper()
	if len(logs) == 0 {
		return "", ""
	}
	log := logs[len(logs)-1]
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= 16 && bytes.Equal(b[:4], make([]byte, 4)) {
		return fmt.Sprintf("Transaction log: %s has invalid magic number 0 ", log), "zeros came before the header"
	}
	var dmg *storage.DamageError
	for _, err := range storage.LogEntries(log) {
		errors.As(err, &dmg)
	}
	if dmg == nil || int(dmg.Offset)+12 > len(b) {
		return "", ""
	}
	// It looks at the byte behind the entry first, and takes a wrong one for the
	// end of the log.
	end := dmg.Offset + 12 + int64(binary.BigEndian.Uint32(b[dmg.Offset+8:]))
	if end == dmg.Offset+12 || end >= int64(len(b)) || b[end] != 'B' {
		return "", ""
	}
	return "CRC check failed", "an entry has its end, but not all of its middle"
}

// TestApacheAfterACrash has Apache's server load what power cuts leave of a
// directory of ours: the same history and tree as we recover, but for what
// DESIGN.md of package storage lists.
func TestApacheAfterACrash(t *testing.T) {
	java := peer.Java(t, filepath.Join("testdata", "LoadAll.java"))
	cfg := storage.Config{DataDir: "/data", LogDir: "/logs", PreallocBytes: 16 << 10, Foreground: true, Znode: znode.Config{Digest: true}}
	disk := storagetest.NewDisk(1)
	var during string
	var list []*crashed
	top := t.TempDir()
	seen := map[uint64]bool{}
	disk.Observe(func(d *storagetest.Disk) {
		_, outcomes := d.Outcomes(16, uint64(d.Ops()))
		for o := range outcomes {
			if !seen[o.Disk.Sum()] {
				seen[o.Disk.Sum()] = true
				what := fmt.Sprintf("%s, operation %d, outcome %q", during, d.Ops(), o.Kept)
				list = append(list, keep(t, o, cfg, filepath.Join(top, fmt.Sprint(len(list))), what))
			}
		}
	})
	run := cfg
	run.FS = disk
	(&writer{t: t}).life(run, &during)

	var in strings.Builder
	for _, c := range list {
		fmt.Fprintln(&in, c.dir)
	}
	java.Stdin = strings.NewReader(in.String())
	b, err := java.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	var results []string
	for line := range strings.Lines(string(b)) {
		if r, ok := strings.CutPrefix(line, "result "); ok {
			results = append(results, strings.TrimSpace(r))
		}
	}
	if len(results) != len(list) {
		t.Fatalf("%d results for %d directories", len(results), len(list))
	}
	count := map[string]int{}
	for i, c := range list {
		if results[i] != c.want && !(strings.HasPrefix(c.want, "error ") && strings.HasPrefix(results[i], c.want)) {
			t.Errorf("%s: Apache: %s; want %s (%s)", c.what, results[i], c.want, c.because)
		}
		count[c.because]++
	}
	for _, because := range []string{"", "a history half set aside", "zeros came before the header",
		"an entry has its end, but not all of its middle", "a note of ours"} {
		if count[because] == 0 {
			t.Errorf("no directory tests %q", because)
		}
	}
	t.Logf("%d directories, as we recover them %d, otherwise because of: %v", len(list), count[""], count)
}
