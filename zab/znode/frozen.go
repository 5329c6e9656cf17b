package znode

import (
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Frozen is the tree as it was at one zxid. While it exists, Apply saves the
// state of each node that Walk has not written yet before changing it.
type Frozen struct {
	Zxid     zab.Zxid
	Digest   wire.Digest // version 0 if the tree keeps none
	Sessions []SessionTimeout
	ACLs     []ACLEntry

	t    *Tree
	gen  uint32 // nodes with this mark are written, or newer than the snapshot
	side []byte // records that Apply saved since the walk took them last

	pieceNodes, pieceBytes int // the constants, but in tests
}

// A piece of the walk under the lock ends after this many nodes or bytes: about
// a tenth of a millisecond.
const (
	pieceNodes = 256
	pieceBytes = 64 << 10
)

// Freeze marks the state of now as the one that Walk of the result writes. It
// costs what the lists of sessions and ACLs cost. There must not be another
// Frozen whose Walk or Discard has not ended.
func (t *Tree) Freeze() *Frozen {
	if t.frozen != nil {
		panic("znode: the tree is frozen already")
	}
	t.lastGen++
	f := &Frozen{
		Zxid: t.lastZxid, Sessions: t.Sessions(), ACLs: t.acls.entries(),
		t: t, gen: t.lastGen, pieceNodes: pieceNodes, pieceBytes: pieceBytes,
	}
	if t.cfg.Digest {
		f.Digest = wire.Digest{Version: wire.DigestVersion, Tree: t.digest}
	}
	t.frozen = f
	return f
}

// Discard ends a freeze that is not walked. lock is as for Walk.
func (f *Frozen) Discard(lock sync.Locker) {
	lock.Lock()
	defer lock.Unlock()
	f.end()
}

// end needs shared access only: nobody but Apply and Freeze, which have
// exclusive access, looks at what it writes.
func (f *Frozen) end() {
	f.t.frozen = nil
	f.side = nil
}

// save writes a node that is about to change to the side buffer, parents first.
func (f *Frozen) save(n *node) {
	if n.mark == f.gen {
		return
	}
	var chain []*node
	for p := n.parent; p != nil && p.mark != f.gen; p = p.parent {
		chain = append(chain, p)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		f.saveOne(chain[i])
	}
	f.saveOne(n)
}

func (f *Frozen) saveOne(n *node) {
	n.mark = f.gen
	f.t.scratch = n.appendPath(f.t.scratch[:0])
	f.side = n.appendRecord(f.side, f.t.scratch)
}

// frame is a node whose children the walk is visiting.
type frame struct {
	n       *node
	pathLen int
	todo    []*node // of the current part of the children
	next    uint64  // where the next part begins; 0: there is none
}

// Walk gives all nodes to emit, the root first and parents before children, as
// records of a snapshot: ustring path, buffer data, long key of the ACL,
// StatPersisted. A chunk is whole records and is the caller's only until emit
// returns. lock is the shared half of the tree's lock: Walk holds it for short
// pieces of work and never during emit. Walk ends the freeze, also when it
// returns an error of emit.
func (f *Frozen) Walk(lock sync.Locker, emit func(chunk []byte) error) error {
	w := walk{f: f}
	var side []byte
	for done := false; !done; {
		lock.Lock()
		// What Apply saved comes before what this piece finds: ancestors of the
		// latter may be in it.
		side, f.side = f.side, side[:0]
		done = w.piece()
		if done {
			f.end()
		}
		lock.Unlock()
		for _, chunk := range [2][]byte{side, w.chunk} {
			if len(chunk) == 0 {
				continue
			}
			if err := emit(chunk); err != nil {
				if !done {
					f.Discard(lock)
				}
				return err
			}
		}
	}
	return nil
}

type walk struct {
	f       *Frozen
	started bool
	frames  []frame // from the root down to the node whose children are visited
	path    []byte
	chunk   []byte
}

// piece visits some nodes and reports whether all are visited.
func (w *walk) piece() (done bool) {
	w.chunk = w.chunk[:0]
	if !w.started {
		w.started = true
		w.enter(w.f.t.root)
	}
	for range w.f.pieceNodes {
		if len(w.chunk) >= w.f.pieceBytes {
			return false
		}
		if len(w.frames) == 0 {
			return true
		}
		w.step()
	}
	return false
}

// step visits one node, or turns to another part of the children, or goes up.
func (w *walk) step() {
	fr := &w.frames[len(w.frames)-1]
	if len(fr.todo) == 0 {
		if fr.next == 0 {
			*fr = frame{}
			w.frames = w.frames[:len(w.frames)-1]
			return
		}
		fr.load()
		return
	}
	c := fr.todo[len(fr.todo)-1]
	fr.todo = fr.todo[:len(fr.todo)-1]
	w.path = append(append(w.path[:fr.pathLen], '/'), c.name()...)
	w.enter(c)
}

// enter visits a node, whose path is w.path, and turns to its children.
func (w *walk) enter(n *node) {
	if n.mark != w.f.gen {
		n.mark = w.f.gen
		w.chunk = n.appendRecord(w.chunk, w.path)
	}
	if n.kids != nil {
		w.frames = append(w.frames, frame{n: n, pathLen: len(w.path)})
		w.frames[len(w.frames)-1].load()
	}
}

// load takes the next part of the children. They may be deleted before they are
// visited, but are saved and marked then.
func (fr *frame) load() {
	if fr.n.kids == nil {
		fr.next = 0
		return
	}
	var ents []*node
	ents, fr.next = fr.n.kids.part(fr.next)
	fr.todo = append(fr.todo[:0], ents...)
}
