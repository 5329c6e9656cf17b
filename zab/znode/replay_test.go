package znode

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// fuzzy writes a snapshot as Apache does: sessions and ACL lists, then node by
// node of a tree that changes meanwhile.
func fuzzy(tr *Tree, meanwhile func()) (f *Frozen, chunks []byte) {
	f = &Frozen{Zxid: tr.lastZxid, Sessions: tr.Sessions()}
	meanwhile()
	f.ACLs = tr.acls.entries()
	var visit func(path string)
	visit = func(path string) {
		n := tr.lookup(path)
		if n == nil {
			return
		}
		chunks = n.appendRecord(chunks, []byte(path))
		var names []string
		if n.kids != nil {
			for _, c := range n.kids.gather(nil) {
				names = append(names, c.name())
			}
		}
		slices.Sort(names)
		meanwhile()
		for _, name := range names {
			visit(path + "/" + name)
		}
	}
	visit("")
	return f, chunks
}

// A snapshot of Apache is of no one zxid; the log over it must give the tree
// that the log gives over the right state.
func TestLogOverAFuzzySnapshotGivesTheTree(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t, seed)
		rng := rand.New(rand.NewPCG(seed, 5))
		w.ops.names = 3 + rng.IntN(6)
		for range 300 {
			w.step()
		}
		w.apply(len(w.queue))
		var log []*wire.Txn
		f, chunks := fuzzy(w.tree, func() {
			for range rng.IntN(20) {
				w.step()
				log = append(log, w.queue...)
				w.apply(1)
			}
		})
		b := NewBuilder(w.tree.cfg)
		for _, s := range f.Sessions {
			b.AddSession(s.ID, s.TimeoutMs)
		}
		for _, a := range f.ACLs {
			b.AddACL(a.Key, a.ACL)
		}
		d := wire.NewAliasDecoder(chunks)
		for d.Len() > 0 {
			path, data, key := d.String(), d.Buffer(), d.Long()
			var st wire.StatPersisted
			st.Decode(&d)
			if err := b.AddNode(path, data, key, &st); err != nil {
				t.Fatal(err)
			}
		}
		tr, err := b.Finish(f.Zxid)
		if err != nil {
			t.Fatal(err)
		}
		var r Result
		for _, txn := range log {
			tr.Apply(txn, &r)
		}
		diffDumps(t, "replayed", dump(t, tr), dump(t, w.tree))
		if tr.Digest() != w.tree.Digest() || tr.LastZxid() != w.tree.LastZxid() || !slices.Equal(tr.Sessions(), w.tree.Sessions()) {
			t.Errorf("replayed: digest %#x, zxid %v, sessions %v; want %#x, %v, %v",
				tr.Digest(), tr.LastZxid(), tr.Sessions(), w.tree.Digest(), w.tree.LastZxid(), w.tree.Sessions())
		}
		for _, d := range tr.Digests() {
			if !slices.Contains(w.tree.Digests(), d) {
				t.Errorf("replayed: digest %#x recorded at %v; want one of %x", d.Tree, d.Zxid, w.tree.Digests())
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d, %d transactions", seed, len(log))
		}
	}
}

// A server may crash after it has applied a transaction, and before it noted so.
func TestApplyingALogAgainChangesNothing(t *testing.T) {
	w := newWorld(t, 1)
	var log []*wire.Txn
	for range 800 {
		w.step()
		log = append(log, w.queue...)
		w.apply(1)
	}
	want := dump(t, w.tree)
	var r Result
	for _, txn := range log[400:] {
		w.tree.Apply(txn, &r)
	}
	diffDumps(t, "again", dump(t, w.tree), want)
}

func TestReplayRules(t *testing.T) {
	acl := []wire.ACL{{Perms: wire.PermRead, ID: wire.ID{Scheme: "world", ID: "anyone"}}}
	make := func() *Tree {
		tr := New(Config{Digest: true})
		apply(tr, 5, wire.OpCreate, &wire.CreateTxn{Type: wire.OpCreate, Path: "/p", ACL: wire.OpenACL(), ParentCversion: 1})
		apply(tr, 6, wire.OpCreate, &wire.CreateTxn{Type: wire.OpCreate, Path: "/p/c", ACL: wire.OpenACL(), ParentCversion: 4})
		return tr
	}
	for _, tc := range []struct {
		name      string
		zxid      zab.Zxid
		op        wire.Op
		body      wire.Record
		code      wire.Code
		cversion  int32 // of /p as stored
		pzxid     zab.Zxid
		lastOrder zab.Zxid
	}{
		{"create of what exists raises the parent", 9, wire.OpCreate, &wire.CreateTxn{Path: "/p/c", ACL: acl, ParentCversion: 7}, wire.ErrNodeExists, 7, 9, 9},
		{"create of what exists does not lower the parent", 9, wire.OpCreate, &wire.CreateTxn{Path: "/p/c", ACL: acl, ParentCversion: 3}, wire.ErrNodeExists, 4, 6, 9},
		{"create of an old log counts on", 9, wire.OpCreate, &wire.CreateTxn{Path: "/p/d", ACL: acl, ParentCversion: -1}, wire.OK, 5, 9, 9},
		{"create does not lower the parent", 9, wire.OpCreate2, &wire.CreateTxn{Path: "/p/d", ACL: acl, ParentCversion: 2}, wire.OK, 4, 6, 9},
		{"create without a parent", 9, wire.OpCreate, &wire.CreateTxn{Path: "/q/d", ACL: acl, ParentCversion: 2}, wire.ErrNoNode, 4, 6, 9},
		{"create of a path without a slash", 9, wire.OpCreate, &wire.CreateTxn{Path: "d", ACL: acl}, wire.ErrBadArguments, 4, 6, 9},
		{"create of the root", 9, wire.OpCreate, &wire.CreateTxn{Path: "/", ACL: acl}, wire.ErrBadArguments, 4, 6, 9},
		{"delete of what is missing raises the parent", 9, wire.OpDelete, &wire.PathRecord{Path: "/p/d"}, wire.ErrNoNode, 4, 9, 9},
		{"delete of what is missing does not lower it", 4, wire.OpDelete, &wire.PathRecord{Path: "/p/d"}, wire.ErrNoNode, 4, 6, 6},
		{"delete without a parent", 9, wire.OpDelete, &wire.PathRecord{Path: "/q/d"}, wire.ErrNoNode, 4, 6, 9},
		{"setData of what is missing", 9, wire.OpSetData, &wire.SetDataTxn{Path: "/q", Version: 1}, wire.ErrNoNode, 4, 6, 9},
		{"setACL of what is missing", 9, wire.OpSetACL, &wire.SetACLTxn{Path: "/q", ACL: acl}, wire.ErrNoNode, 4, 6, 9},
		{"closeSession of what is missing", 9, wire.OpCloseSession, &wire.PathsRecord{Paths: []string{"/q", "/p/x"}}, wire.OK, 4, 9, 9},
		{"closeSession without a list", 9, wire.OpCloseSession, nil, wire.OK, 4, 6, 9},
		{"error", 9, wire.OpFailed, &wire.IntRecord{Value: int32(wire.ErrNotEmpty)}, wire.ErrNotEmpty, 4, 6, 9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := make()
			r := apply(tr, tc.zxid, tc.op, tc.body)
			p := tr.lookup("/p").persisted()
			if r.Err != tc.code || p.Cversion != tc.cversion || p.Pzxid != tc.pzxid || tr.LastZxid() != tc.lastOrder {
				t.Errorf("%v, parent's cversion %d, pzxid %v, last zxid %v; want %v, %d, %v, %v",
					r.Err, p.Cversion, p.Pzxid, tr.LastZxid(), tc.code, tc.cversion, tc.pzxid, tc.lastOrder)
			}
			if tc.code == wire.ErrNodeExists {
				if got := fmt.Sprint(tr.lookup("/p/c").acl.list); got != fmt.Sprint(acl) {
					t.Errorf("ACL %s, want that of the transaction", got)
				}
			}
			dump(t, tr)
		})
	}
}

func apply(tr *Tree, zxid zab.Zxid, op wire.Op, body wire.Record) *Result {
	var r Result
	tr.Apply(&wire.Txn{Header: wire.TxnHeader{Zxid: zxid, Type: op, Session: 7, TimeMs: int64(zxid) * 1000}, Body: body}, &r)
	return &r
}

func TestDeleteOverAFuzzySnapshotTakesTheSubtree(t *testing.T) {
	tr := New(Config{Digest: true, ExtendedTypes: true})
	want := dump(t, tr)
	apply(tr, 1, wire.OpCreate, &wire.CreateTxn{Path: "/p", ParentCversion: 1})
	for i := range 1000 {
		apply(tr, zab.Zxid(2+i), wire.OpCreate, &wire.CreateTxn{Path: fmt.Sprint("/p/", i), ParentCversion: -1, Ephemeral: i%2 == 0})
	}
	apply(tr, 2000, wire.OpCreate, &wire.CreateTxn{Path: "/p/1/x", ParentCversion: 1})
	apply(tr, 2001, wire.OpCreateTTL, &wire.CreateTxn{Path: "/p/1/x/y", ParentCversion: 1, TTLMs: 5})
	if r := apply(tr, 2002, wire.OpDelete, &wire.PathRecord{Path: "/p"}); r.Err != wire.OK {
		t.Error(r.Err)
	}
	root := want[""]
	root.st.Cversion, root.st.Pzxid = 1, 2002
	want[""] = root
	diffDumps(t, "after", dump(t, tr), want)
	if tr.EphemeralCount() != 0 {
		t.Errorf("%d ephemerals", tr.EphemeralCount())
	}
}

func TestSequenceCounterWraps(t *testing.T) {
	w := newWorld(t, 0)
	w.tree.root.cversion = 1<<31 - 2
	w.tree.digest = 0
	w.tree.digest = digestAll(w.tree)
	w.prep = NewPrep(w.tree)
	apply(w.tree, 1, wire.OpCreateSession, &wire.IntRecord{Value: 1})
	for i, want := range []string{"/s2147483646", "/s2147483647", "/s-2147483648", "/s-2147483647"} {
		var txn wire.Txn
		w.prep.Prepare(&Request{Session: 7, Op: wire.OpCreate, Body: &wire.CreateRequest{Path: "/s", ACL: wire.OpenACL(), Mode: wire.PersistentSequential}}, zab.Zxid(2+i), 1, &txn)
		var r Result
		w.tree.Apply(&txn, &r)
		if r.Path != want || r.DigestMismatch {
			t.Errorf("created %q, want %q; digest mismatch %v", r.Path, want, r.DigestMismatch)
		}
	}
}

func digestAll(tr *Tree) (sum uint64) {
	for todo := []*node{tr.root}; len(todo) > 0; todo = todo[1:] {
		sum += tr.digestOf(todo[0])
		if todo[0].kids != nil {
			todo = todo[0].kids.gather(todo)
		}
	}
	return sum
}

func TestBuilderRefusesWhatIsNoTree(t *testing.T) {
	var st wire.StatPersisted
	b := NewBuilder(Config{})
	if _, err := b.Finish(1); err == nil {
		t.Error("a tree without a root")
	}
	for _, path := range []string{"a", "/", "/a/b", "//", "//a", "/a/"} {
		b := NewBuilder(Config{})
		if err := b.AddNode("", nil, -1, &st); err != nil {
			t.Fatal(err)
		}
		if err := b.AddNode(path, nil, -1, &st); err == nil {
			t.Errorf("%q is taken", path)
		}
		for _, again := range []string{"", "/x"} {
			b.AddNode("/x", nil, -1, &st)
			if err := b.AddNode(again, nil, -1, &st); err == nil {
				t.Errorf("%q is taken twice", again)
			}
		}
	}
}

func TestMissingACLListDeniesUntilTheLogBringsIt(t *testing.T) {
	var st wire.StatPersisted
	b := NewBuilder(Config{})
	b.AddNode("", bytes.Clone([]byte("x")), -1, &st)
	b.AddNode("/a", nil, 33, &st)
	tr, err := b.Finish(4)
	if err != nil || b.UnknownACLs() != 1 {
		t.Fatal(err, b.UnknownACLs())
	}
	if _, _, code := tr.Get("/a", nil); code != wire.ErrNoAuth {
		t.Errorf("Get = %v, want %v", code, wire.ErrNoAuth)
	}
	apply(tr, 5, wire.OpCreate, &wire.CreateTxn{Path: "/a", ACL: wire.OpenACL(), ParentCversion: 1})
	if data, _, code := tr.Get("/a", nil); code != wire.OK || data != nil {
		t.Errorf("Get = %q, %v", data, code)
	}
}
