package storage

import (
	"fmt"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// createTxn is a transaction that makes a znode below the root.
func createTxn(z zab.Zxid, path string, data []byte) []byte {
	t := wire.Txn{
		Header: wire.TxnHeader{Session: 7, Cxid: 1, Zxid: z, TimeMs: 1_700_000_000_000, Type: wire.OpCreate},
		Body:   &wire.CreateTxn{Type: wire.OpCreate, Path: path, Data: data, ACL: wire.OpenACL(), ParentCversion: int32(z.Counter())},
	}
	return t.Append(nil)
}

// writer is a store, its tree, and what has been done to both.
type writer struct {
	t    testing.TB
	s    *Store
	tree *znode.Tree
	dec  TxnDecoder
	res  znode.Result
}

func open0(t testing.TB, cfg Config) *writer {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := s.Recover()
	if err != nil {
		s.Close()
		t.Fatal(err)
	}
	return &writer{t: t, s: s, tree: tree}
}

// add appends and applies, but does not sync.
func (w *writer) add(payload []byte) {
	w.t.Helper()
	if err := w.s.Append(payload, payloadZxid(payload)); err != nil {
		w.t.Fatal(err)
	}
	txn, err := w.dec.Decode(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tree.Apply(txn, &w.res)
}

func (w *writer) sync() {
	w.t.Helper()
	if err := w.s.Sync(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) close() {
	w.t.Helper()
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) snapshot() string {
	w.t.Helper()
	if err := w.s.Roll(); err != nil {
		w.t.Fatal(err)
	}
	path, _, err := w.s.WriteSnapshot(w.tree.Freeze(), noLock{})
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func TestStateSurvivesRestarts(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), Znode: znode.Config{Digest: true}}
	z := zab.Zxid(0)
	for round := range 4 {
		w := open0(t, cfg)
		if got := w.tree.LastZxid(); got != z {
			t.Fatalf("round %d: recovered %v, want %v", round, got, z)
		}
		if got, want := w.tree.NodeCount(), 5+int(z); got != want {
			t.Errorf("round %d: %d znodes, want %d", round, got, want)
		}
		for range 100 {
			z++
			w.add(createTxn(z, fmt.Sprintf("/n%d", z), []byte("data")))
			if z%7 == 0 {
				w.sync()
			}
		}
		if round == 1 {
			w.snapshot()
		}
		digest := w.tree.Digest()
		w.close()
		w = open0(t, cfg)
		if got := w.tree.Digest(); got != digest {
			t.Errorf("round %d: digest %x, want %x", round, got, digest)
		}
		w.close()
	}
}
