package znode

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// hookLock calls a function each time that the walk is about to lock.
type hookLock struct {
	before func()
	held   bool
}

func (l *hookLock) Lock() {
	if l.held {
		panic("locked twice")
	}
	l.before()
	l.held = true
}

func (l *hookLock) Unlock() { l.held = false }

// checkWalk loads what a walk wrote and compares it with the tree at the
// freeze.
func checkWalk(t *testing.T, cfg Config, f *Frozen, chunks []byte, want map[string]dumpNode) *Tree {
	t.Helper()
	tr := load(t, cfg, f, chunks)
	diffDumps(t, "loaded", dump(t, tr), want)
	if tr.Digest() != f.Digest.Tree || tr.LastZxid() != f.Zxid {
		t.Errorf("loaded: digest %#x at %v, want %#x at %v", tr.Digest(), tr.LastZxid(), f.Digest.Tree, f.Zxid)
	}
	return tr
}

func TestWalkWritesTheTreeOfTheFreezeWhileItChanges(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed)
		rng := rand.New(rand.NewPCG(seed, 3))
		w.ops.names = []int{4, 12, 40}[seed%3]
		for range 400 * int(1+seed%3) {
			w.step()
		}
		w.apply(len(w.queue))
		for round := range 3 {
			want := dump(t, w.tree)
			f := w.tree.Freeze()
			f.pieceNodes = 1 + rng.IntN(10)
			busy := rng.IntN(20)
			lock := &hookLock{before: func() {
				for range rng.IntN(1 + busy) {
					w.step()
				}
				w.apply(rng.IntN(1 + len(w.queue)))
			}}
			var chunks []byte
			if err := f.Walk(lock, func(chunk []byte) error {
				if lock.held {
					t.Error("emit is called under the lock")
				}
				chunks = append(chunks, chunk...)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if w.tree.frozen != nil {
				t.Fatal("the walk has ended but the tree is frozen")
			}
			tr := checkWalk(t, w.tree.cfg, f, chunks, want)
			if t.Failed() {
				t.Fatalf("seed %d round %d", seed, round)
			}
			if round == 2 {
				// What is loaded goes on like the tree that it came from: same
				// transactions, same tree.
				if len(w.queue) > 0 {
					w.apply(len(w.queue))
				}
				w2 := *w
				w2.tree, w2.prep = tr, NewPrep(tr)
				w2.zxid = f.Zxid
				w2.model = modelOf(tr)
				for range 300 {
					w2.step()
				}
				w2.apply(len(w2.queue))
			}
		}
	}
}

// modelOf makes a model that is as the tree is.
func modelOf(tr *Tree) *model {
	m := &model{nodes: map[string]*mnode{}, sessions: map[zab.SessionID]bool{}, extended: true}
	for _, s := range tr.Sessions() {
		m.sessions[s.ID] = true
	}
	todo := []*node{tr.root}
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		m.nodes[string(n.appendPath(nil))] = &mnode{bytes.Clone(n.data()), n.acl.list, n.persisted()}
		if n.kids != nil {
			todo = n.kids.gather(todo)
		}
	}
	return m
}

// Run with -race this also shows that a walk may run beside reads.
func TestWalkBesideReadersAndAWriter(t *testing.T) {
	w := newWorld(t, 7)
	w.ops.names = 60
	for range 3000 {
		w.step()
	}
	w.apply(len(w.queue))
	want := dump(t, w.tree)

	var mu sync.RWMutex
	mu.Lock()
	f := w.tree.Freeze()
	f.pieceNodes = 20
	mu.Unlock()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			path := fmt.Sprint("/", i%60)
			mu.RLock()
			w.tree.Get(path, nil)
			w.tree.AppendChildren(nil, path, nil)
			mu.RUnlock()
			runtime.Gosched()
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			mu.RLock()
			w.step()
			mu.RUnlock()
			mu.Lock()
			w.apply(len(w.queue))
			mu.Unlock()
		}
	})
	var chunks []byte
	err := f.Walk(mu.RLocker(), func(chunk []byte) error {
		chunks = append(chunks, chunk...)
		runtime.Gosched()
		return nil
	})
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	checkWalk(t, w.tree.cfg, f, chunks, want)
}

func TestWalkOfALargeDirectoryWhoseChildrenComeAndGo(t *testing.T) {
	tr := New(Config{Digest: true})
	zxid := zab.Zxid(0)
	var r Result
	apply := func(op wire.Op, body wire.Record) {
		zxid++
		tr.Apply(&wire.Txn{Header: wire.TxnHeader{Zxid: zxid, Type: op}, Body: body}, &r)
	}
	create := func(i int) {
		apply(wire.OpCreate, &wire.CreateTxn{Type: wire.OpCreate, Path: fmt.Sprint("/d/", i), ACL: wire.OpenACL(), ParentCversion: -1})
	}
	remove := func(i int) { apply(wire.OpDelete, &wire.PathRecord{Path: fmt.Sprint("/d/", i)}) }
	apply(wire.OpCreate, &wire.CreateTxn{Type: wire.OpCreate, Path: "/d", ParentCversion: -1})
	for i := range 3000 {
		create(i)
	}
	want := dump(t, tr)
	f := tr.Freeze()
	f.pieceNodes = 50
	rng := rand.New(rand.NewPCG(1, 1))
	pieces := 0
	lock := &hookLock{before: func() {
		// First it shrinks to one leaf, then it grows again.
		pieces++
		for range 200 {
			if pieces < 20 {
				remove(rng.IntN(3000))
			} else {
				create(rng.IntN(10000))
			}
		}
	}}
	var chunks []byte
	if err := f.Walk(lock, func(chunk []byte) error { chunks = append(chunks, chunk...); return nil }); err != nil {
		t.Fatal(err)
	}
	checkWalk(t, tr.cfg, f, chunks, want)
	dump(t, tr)
}

func TestWalkEndsTheFreezeOnAnError(t *testing.T) {
	tr := New(Config{})
	full := errors.New("disk full")
	var mu sync.RWMutex
	for range 2 {
		if err := tr.Freeze().Walk(mu.RLocker(), func([]byte) error { return full }); err != full {
			t.Errorf("Walk = %v, want %v", err, full)
		}
	}
	tr.Freeze().Discard(&mu)
	tr.Freeze().Discard(&mu)
	tr.Freeze()
	defer func() {
		if recover() == nil {
			t.Error("a second Freeze goes on")
		}
	}()
	tr.Freeze()
}

func TestFreshSnapshotIsThatOfApache(t *testing.T) {
	tr := New(Config{Digest: true})
	f := tr.Freeze()
	var mu sync.Mutex
	nodes := map[string][]byte{}
	if err := f.Walk(&mu, func(chunk []byte) error {
		d := wire.NewDecoder(bytes.Clone(chunk))
		for d.Len() > 0 {
			from := d.Offset()
			path := d.String()
			d.Buffer()
			d.Long()
			(&wire.StatPersisted{}).Decode(&d)
			nodes[path] = bytes.Clone(chunk[from:d.Offset()])
		}
		return d.Err()
	}); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 60)
	config := bytes.Clone(zero)
	for i := 40; i < 44; i++ {
		config[i] = 0xff // aversion -1
	}
	for path, want := range map[string][]byte{
		"":                  append([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), zero...),
		"/zookeeper":        append([]byte("\x00\x00\x00\x0a/zookeeper\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), zero...),
		"/zookeeper/quota":  append([]byte("\x00\x00\x00\x10/zookeeper/quota\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), zero...),
		"/zookeeper/config": append([]byte("\x00\x00\x00\x11/zookeeper/config\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), config...),
	} {
		if !bytes.Equal(nodes[path], want) {
			t.Errorf("%q: %x, want %x", path, nodes[path], want)
		}
	}
	if len(f.ACLs) != 1 || f.ACLs[0].Key != 1 || len(f.Sessions) != 0 {
		t.Errorf("ACLs %v, sessions %v", f.ACLs, f.Sessions)
	}
}
