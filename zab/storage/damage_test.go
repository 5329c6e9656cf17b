package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
	"github.com/paddockio/paddock/zab/storage/storagetest"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// damaged is a directory with snapshot.0, log.1 (1 to 10), snapshot.a and log.b
// (11 to 20), whose server was killed, for a test to spoil.
type damaged struct {
	*storagetest.Disk
	t   *testing.T
	cfg storage.Config
}

const version2 = "/data/version-2/"

func newDamaged(t *testing.T) *damaged {
	d := &damaged{Disk: storagetest.NewDisk(1), t: t}
	d.cfg = storage.Config{DataDir: "/data", FS: d.Disk, PreallocBytes: 16 << 10, MarkInterval: time.Hour, Znode: znode.Config{Digest: true}}
	s, err := storage.Open(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	var res znode.Result
	for z := zab.Zxid(1); z <= 20; z++ {
		txn := txnOf(z)
		tree.Apply(txn, &res)
		err := s.Append(txn.Append(nil), z)
		if err == nil {
			err = s.Sync()
		}
		if err == nil && z == 10 {
			err = s.Roll()
			if err == nil {
				_, _, err = s.WriteSnapshot(tree.Freeze(), new(sync.RWMutex))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d.Kill()
	s.Close()
	return d
}

// txnOf is a transaction whose entry takes about 250 bytes, so that entries
// cross sectors.
func txnOf(z zab.Zxid) *wire.Txn {
	return &wire.Txn{
		Header: wire.TxnHeader{Zxid: z, TimeMs: int64(z), Type: wire.OpCreate},
		Body: &wire.CreateTxn{Type: wire.OpCreate, Path: fmt.Sprintf("/%x", uint64(z)), ACL: wire.OpenACL(),
			Data: bytes.Repeat([]byte{byte(z) | 1}, 150), ParentCversion: int32(z)},
	}
}

func entryOf(z zab.Zxid) []byte { return storage.AppendEntry(nil, txnOf(z).Append(nil)) }

// change rewrites a file of version-2.
func (d *damaged) change(name string, f func(b []byte) []byte) {
	d.t.Helper()
	b, err := d.ReadFile(version2 + name)
	if err == nil {
		err = d.WriteFile(version2+name, f(b))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *damaged) put(name string, b []byte) {
	d.t.Helper()
	if err := d.WriteFile(version2+name, b); err != nil {
		d.t.Fatal(err)
	}
}

func (d *damaged) rm(names ...string) {
	d.t.Helper()
	for _, name := range names {
		if err := d.RemoveFile(version2 + name); err != nil {
			d.t.Fatal(err)
		}
	}
}

// at returns where the entry of z begins in its log.
func (d *damaged) at(z zab.Zxid) int {
	d.t.Helper()
	for _, name := range []string{"log.1", "log.b"} {
		b, err := d.ReadFile(version2 + name)
		if err != nil {
			continue
		}
		if i := bytes.Index(b, entryOf(z)); i >= 0 {
			return i
		}
	}
	d.t.Fatalf("no entry of %v", z)
	return 0
}

// end returns where the last entry of log.b ends.
func (d *damaged) end() int { return d.at(20) + len(entryOf(20)) }

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x10; return b }
}

func cut(at int) func([]byte) []byte { return func(b []byte) []byte { return b[:at] } }

func zero(from, to int) func([]byte) []byte {
	return func(b []byte) []byte { clear(b[from:to]); return b }
}

func write(at int, data []byte) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], data); return b }
}

// The rows of reliability.md 5.1, and what telling a torn tail from damage (5.2)
// comes to.
func TestStorageFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(d *damaged)
		last  zab.Zxid // where recovery ends; -1: it refuses
		// Of a refusal: the file, and words of the reason.
		file, reason string
		good         zab.Zxid // the last good zxid that the error names
		// Of a recovery.
		dropped bool
		skipped string
	}{
		{name: "nothing", spoil: func(d *damaged) {}, last: 20},

		// The newest log.
		{name: "unfinished entry behind the last, up to a sector", last: 20, dropped: true, spoil: func(d *damaged) {
			n := 512 - d.end()%512
			d.change("log.b", write(d.end(), entryOf(21)[:min(n, 200)]))
			if n > 200 {
				d.change("log.b", write(d.end(), storage.AppendEntry(nil, make([]byte, 1000))[:n]))
			}
		}},
		{name: "file ends inside an entry", last: 20, dropped: true, spoil: func(d *damaged) {
			d.change("log.b", func(b []byte) []byte { return append(b[:d.end()], entryOf(21)[:100]...) })
		}},
		{name: "file ends inside the length", last: 20, dropped: true, spoil: func(d *damaged) {
			d.change("log.b", func(b []byte) []byte { return append(b[:d.end()], entryOf(21)[:10]...) })
		}},
		{name: "file ends with the last entry", last: 20, spoil: func(d *damaged) { d.change("log.b", cut(d.end())) }},
		{name: "batch of several entries whose first sector was not written", last: 20, dropped: true, spoil: func(d *damaged) {
			var batch []byte
			for z := zab.Zxid(21); z < 40; z++ {
				batch = storage.AppendEntry(batch, txnOf(z).Append(nil))
			}
			n := 512 - d.end()%512
			clear(batch[:n])
			d.change("log.b", write(d.end(), batch))
		}},
		{name: "batch of several entries with a hole", last: 22, dropped: true, spoil: func(d *damaged) {
			var batch []byte
			for z := zab.Zxid(21); z < 40; z++ {
				batch = storage.AppendEntry(batch, txnOf(z).Append(nil))
			}
			n := 1024 - d.end()%512
			clear(batch[n : n+512])
			d.change("log.b", write(d.end(), batch))
		}},
		{name: "whole entries that were never acknowledged", last: 21, spoil: func(d *damaged) {
			d.change("log.b", write(d.end(), entryOf(21)))
		}},
		{name: "bit flipped in the last entry", last: -1, file: "log.b", reason: "checksum", good: 19,
			spoil: func(d *damaged) { d.change("log.b", flip(d.at(20)+100)) }},
		{name: "bit flipped in the middle", last: -1, file: "log.b", reason: "checksum", good: 14,
			spoil: func(d *damaged) { d.change("log.b", flip(d.at(15)+100)) }},
		{name: "bit flipped in the middle, no mark", last: -1, file: "log.b", reason: "a whole entry follows", good: 14,
			spoil: func(d *damaged) { d.rm("paddock.mark"); d.change("log.b", flip(d.at(15)+100)) }},
		{name: "length of the last entry changed, no mark", last: -1, file: "log.b", reason: "not an unfinished write", good: 19,
			spoil: func(d *damaged) { d.rm("paddock.mark"); d.change("log.b", flip(d.at(20)+8)) }},
		{name: "end byte of the last entry changed, no mark", last: -1, file: "log.b", reason: "ends in 0x52", good: 19,
			spoil: func(d *damaged) { d.rm("paddock.mark"); d.change("log.b", flip(d.end()-1)) }},
		{name: "end byte in the middle changed", last: -1, file: "log.b", reason: "ends in 0x52", good: 14,
			spoil: func(d *damaged) { d.change("log.b", flip(d.at(16)-1)) }},
		{name: "last entries overwritten with zeros", last: -1, file: "log.b", reason: "had been synced", good: 14,
			spoil: func(d *damaged) { d.change("log.b", zero(d.at(15), d.end())) }},
		{name: "last entries cut off", last: -1, file: "log.b", reason: "had been synced", good: 16,
			spoil: func(d *damaged) { d.change("log.b", cut(d.at(17))) }},
		{name: "last entries cut off, no mark", last: 16, // nothing can tell
			spoil: func(d *damaged) { d.rm("paddock.mark"); d.change("log.b", cut(d.at(17))) }},
		{name: "mark of another epoch: a follower's log was cut since", last: 16, spoil: func(d *damaged) {
			d.put("currentEpoch", []byte("0"))
			d.put("acceptedEpoch", []byte("1"))
			d.put("currentEpoch", []byte("1"))
			d.change("log.b", cut(d.at(17)))
		}},
		{name: "sector of zeros in the middle, no mark", last: -1, file: "log.b", reason: "a whole entry follows", good: 12, spoil: func(d *damaged) {
			d.rm("paddock.mark")
			d.change("log.b", zero(512, 1024))
		}},
		{name: "newest log deleted", last: -1, file: "log.b", reason: "had been synced", good: 10, spoil: func(d *damaged) { d.rm("log.b") }},
		{name: "next log is empty", last: 20, spoil: func(d *damaged) { d.put("log.15", nil) }},
		{name: "next log is zeros", last: 20, spoil: func(d *damaged) { d.put("log.15", make([]byte, 9000)) }},
		{name: "next log has a part of its header", last: 20, spoil: func(d *damaged) { d.put("log.15", []byte("ZKLG\x00\x00")) }},
		{name: "next log has a header only", last: 20, spoil: func(d *damaged) {
			d.put("log.15", append([]byte("ZKLG\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00"), make([]byte, 5000)...))
		}},
		{name: "header damaged, entries behind it", last: -1, file: "log.b", reason: "header", good: 10,
			spoil: func(d *damaged) { d.change("log.b", flip(2)) }},
		{name: "header zeroed, entries behind it", last: -1, file: "log.b", reason: "header", good: 10,
			spoil: func(d *damaged) { d.change("log.b", zero(0, 16)) }},
		{name: "empty log that is not the newest", last: -1, file: "log.b", reason: "header", good: 10, spoil: func(d *damaged) {
			b, _ := d.ReadFile(version2 + "log.b")
			d.put("log.c", b)
			d.put("log.b", nil)
		}},
		{name: "gap inside the log", last: -1, file: "log.b", reason: "does not follow 0xe", good: 14,
			spoil: func(d *damaged) { d.change("log.b", write(d.at(15), entryOf(99))) }},
		{name: "zxid goes back", last: -1, file: "log.b", reason: "does not follow 0xe", good: 14, spoil: func(d *damaged) {
			other := txnOf(13)
			other.Header.TimeMs++
			d.change("log.b", write(d.at(15), storage.AppendEntry(nil, other.Append(nil))))
		}},
		{name: "entry twice, as Apache's followers write it", last: 20, spoil: func(d *damaged) {
			at, all := d.at(15), []byte(nil)
			d.change("log.b", func(b []byte) []byte {
				all = bytes.Clone(b)
				return append(append(b[:at:at], entryOf(13)...), all[at:]...)
			})
		}},
		{name: "log cannot be read", last: -1, file: "log.b", reason: "input/output error", spoil: func(d *damaged) { d.FailReads("log.b", syscall.EIO) }},
		{name: "garbage that is no transaction", last: -1, file: "log.b", reason: "unknown type", good: 20, spoil: func(d *damaged) {
			txn := txnOf(21)
			b := txn.Append(nil)
			b[31] = 99
			d.change("log.b", write(d.end(), storage.AppendEntry(nil, b)))
		}},

		// Other logs.
		{name: "old log damaged, not needed", last: 20, spoil: func(d *damaged) { d.change("log.1", flip(100)) }},
		{name: "old log damaged, needed", last: -1, file: "log.1", reason: "a later log follows", good: 4, skipped: "snapshot.a",
			spoil: func(d *damaged) { d.rm("snapshot.a"); d.change("log.1", flip(d.at(5)+100)) }},
		{name: "old log ends early, needed", last: -1, file: "log.b", reason: "does not follow 0x4", good: 4,
			spoil: func(d *damaged) { d.rm("snapshot.a"); d.change("log.1", cut(d.at(5))) }},
		{name: "old log gone, needed", last: -1, file: "log.b", reason: "does not follow", spoil: func(d *damaged) { d.rm("snapshot.a", "log.1") }},

		// Snapshots.
		{name: "newest snapshot empty", last: 20, skipped: "snapshot.a", spoil: func(d *damaged) { d.put("snapshot.a", nil) }},
		{name: "newest snapshot cut", last: 20, skipped: "snapshot.a", spoil: func(d *damaged) { d.change("snapshot.a", cut(900)) }},
		{name: "newest snapshot has a flipped bit", last: 20, skipped: "snapshot.a", spoil: func(d *damaged) { d.change("snapshot.a", flip(900)) }},
		{name: "newest snapshot cannot be read", last: 20, skipped: "snapshot.a", spoil: func(d *damaged) { d.FailReads("snapshot.a", syscall.EIO) }},
		{name: "newest snapshot gone", last: 20, spoil: func(d *damaged) { d.rm("snapshot.a") }},
		{name: "all snapshots gone, all logs there", last: 20, spoil: func(d *damaged) { d.rm("snapshot.a", "snapshot.0") }},
		{name: "all snapshots damaged, all logs there", last: 20, skipped: "snapshot.0", spoil: func(d *damaged) {
			d.change("snapshot.a", cut(900))
			d.change("snapshot.0", cut(100))
		}},
		{name: "all snapshots gone, first log too", last: -1, reason: "all snapshots are missing", spoil: func(d *damaged) { d.rm("snapshot.a", "snapshot.0", "log.1") }},
		{name: "all snapshots damaged, first log gone", last: -1, reason: "no snapshot can be read", spoil: func(d *damaged) {
			d.rm("log.1")
			d.change("snapshot.a", cut(900))
			d.change("snapshot.0", cut(100))
		}},
		{name: "newest snapshot damaged, logs behind it gone", last: -1, reason: "the logs end before its zxid 0xa", good: 0,
			spoil: func(d *damaged) { d.rm("log.b", "log.1", "paddock.mark"); d.change("snapshot.a", cut(900)) }},
		{name: "everything gone but the mark", last: -1, reason: "had been synced", spoil: func(d *damaged) {
			d.rm("snapshot.0", "snapshot.a", "log.1", "log.b")
		}},
		{name: "mark torn", last: 20, spoil: func(d *damaged) { d.change("paddock.mark", zero(0, 1024)) }},
		{name: "newer slot of the mark torn", last: 20, spoil: func(d *damaged) { d.change("paddock.mark", zero(0, 512)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDamaged(t)
			tc.spoil(d)
			before := d.dir()
			s, err := storage.Open(d.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tree, err := s.Recover()
			if tc.last < 0 {
				if err == nil {
					t.Fatalf("recovered up to %v, want a refusal", tree.LastZxid())
				}
				t.Log(err)
				var dmg *storage.DamageError
				if errors.As(err, &dmg) {
					if dmg.Hint == "" || path.Base(dmg.File) != tc.file && tc.file != "" || dmg.Last != tc.good {
						t.Errorf("%+v: want file %s and last good zxid %v", dmg, tc.file, tc.good)
					}
				} else if !errors.Is(err, syscall.EIO) {
					t.Errorf("not a DamageError: %v", err)
				}
				if !strings.Contains(err.Error(), tc.reason) {
					t.Errorf("reason: want %q", tc.reason)
				}
				if after := d.dir(); before != after {
					t.Errorf("the refusal changed files: before %s, after %s", before, after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			rec := s.Recovery()
			if got := tree.LastZxid(); got != tc.last || (rec.DroppedBytes > 0) != tc.dropped {
				t.Errorf("recovered up to %v, %d bytes dropped; want %v, %v", got, rec.DroppedBytes, tc.last, tc.dropped)
			}
			if tc.skipped != "" && !strings.Contains(fmt.Sprint(rec.Skipped), tc.skipped) {
				t.Errorf("skipped %v, want %s", rec.Skipped, tc.skipped)
			}
			if rec.DigestMismatch != 0 {
				t.Errorf("digest differs from %v on", rec.DigestMismatch)
			}
			next := tc.last + 1
			if err := errors.Join(s.Append(txnOf(next).Append(nil), next), s.Sync(), s.Close()); err != nil {
				t.Fatal(err)
			}
			d.FailReads("log.b", nil)
			s, err = storage.Open(d.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if tree, err := s.Recover(); err != nil || tree.LastZxid() != next {
				t.Errorf("after going on: %v", err)
			}
		})
	}
}

// dir sums up the files, to see that nothing was changed; but the mark, which Open
// makes.
func (d *damaged) dir() string {
	var b strings.Builder
	list, _ := d.List("/data/version-2")
	for _, fi := range list {
		if fi.Name == "paddock.mark" {
			continue
		}
		data, _ := d.ReadFile(version2 + fi.Name)
		fmt.Fprintf(&b, "%s:%d:%x ", fi.Name, len(data), sum(data))
	}
	return b.String()
}

func sum(b []byte) (h uint32) {
	for _, c := range b {
		h = h*31 + uint32(c)
	}
	return h
}

// Whatever happens to bytes that were acknowledged: recovery gives all of them or
// refuses, never fewer or others.
func TestRandomDamageIsNeverSilent(t *testing.T) {
	whole := newDamaged(t)
	files := map[string][]byte{}
	for _, name := range []string{"snapshot.0", "snapshot.a", "log.1", "log.b", "paddock.mark"} {
		b, err := whole.ReadFile(version2 + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	end := map[string]int{"log.b": whole.end(), "log.1": len(files["log.1"]), "snapshot.a": len(files["snapshot.a"])}
	first, tree := open2(t, whole.cfg)
	digest := tree.Digest()
	first.Close()
	refused := 0
	const rounds = 1500
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 3))
		for name, b := range files {
			whole.put(name, b)
		}
		list, _ := whole.List("/data/version-2")
		for _, fi := range list {
			if files[fi.Name] == nil {
				whole.rm(fi.Name)
			}
		}
		name := []string{"log.b", "log.b", "log.b", "log.1", "snapshot.a"}[rng.IntN(5)]
		if name != "log.b" && rng.IntN(2) == 0 { // make the older ones needed
			whole.change("snapshot.a", cut(100))
		}
		b, n := bytes.Clone(files[name]), end[name]
		from, size := rng.IntN(n), 1+rng.IntN(600)
		to := min(n, from+size)
		what := rng.IntN(6)
		switch what {
		case 0:
			b[from] ^= 1 << rng.IntN(8)
		case 1:
			b = b[:from]
		case 2:
			clear(b[from:to])
		case 3: // twice
			b = slices.Concat(b[:to], b[from:to], b[to:])
		case 4: // gone
			b = slices.Concat(b[:from], b[to:])
		case 5: // from elsewhere
			copy(b[from:to], b[rng.IntN(n-(to-from)+1):n])
		}
		whole.put(name, b)
		s, err := storage.Open(whole.cfg)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := s.Recover()
		switch {
		case err != nil:
			refused++
		case tree.LastZxid() != 20 || tree.Digest() != digest:
			t.Errorf("seed %d: damage %d of %s at %d to %d: recovered up to %v", seed, what, name, from, to, tree.LastZxid())
		}
		s.Close()
		whole.Kill()
	}
	if refused < rounds/3 || refused > rounds*9/10 {
		t.Errorf("%d of %d refused: the damage does not do what it should", refused, rounds)
	}
	t.Logf("%d of %d refused", refused, rounds)
}
