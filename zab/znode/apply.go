package znode

import (
	"fmt"
	"slices"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Event is a change that watchers want to know of. ACL decides who may: the
// event is sent to connections with PermRead only.
type Event struct {
	Type wire.EventType
	Path string
	ACL  []wire.ACL
}

// Result is what applying a transaction came to. Apply resets it and uses its
// slices again; paths in it alias the transaction.
type Result struct {
	// Err is the code of a refused request, or why the transaction had no effect
	// on the tree. The latter happens only while the log is replayed over a
	// snapshot that holds later changes already, and is then ignored.
	Err  wire.Code
	Path string    // of the znode
	Stat wire.Stat // after the change, except for deletes

	// Multi has a result for each operation of a multi. Err is OK then.
	Multi []wire.MultiResult

	// Events are in the order in which they fire.
	Events []Event

	// DigestMismatch says that the transaction carries another digest than the
	// tree has now: this server and the leader differ.
	DigestMismatch bool
}

func (r *Result) reset() {
	*r = Result{Multi: r.Multi[:0], Events: r.Events[:0]}
}

// Apply carries out a transaction, as every server does in the order of zxids,
// and puts what it came to in r. Path and data are copied where the tree keeps
// them. (DataTree.processTxn, with its rules for replay: a transaction that is
// applied again, or over a later state, does no harm.)
func (t *Tree) Apply(txn *wire.Txn, r *Result) {
	r.reset()
	h := &txn.Header
	if multi, ok := txn.Body.(*wire.MultiTxn); ok && h.Type == wire.OpMulti {
		t.applyMulti(h, multi, r)
	} else {
		r.Err = t.apply(h, h.Type, txn.Body, r)
	}
	t.lastZxid = max(t.lastZxid, h.Zxid)
	if t.cfg.Digest && txn.Digest.Version == wire.DigestVersion {
		if r.DigestMismatch = txn.Digest.Tree != t.digest; r.DigestMismatch {
			t.mismatches++
		} else {
			t.fuzzy = false
		}
	}
	if h.Zxid%digestInterval == 0 && !t.fuzzy {
		t.recordDigest(h.Zxid)
	}
}

// ZxidDigest is the digest of a tree after a transaction.
type ZxidDigest struct {
	Zxid zab.Zxid
	Tree uint64
}

// digestInterval is how many zxids lie between two recorded digests, and
// maxDigests how many are kept (DataTree.DIGEST_LOG_INTERVAL, DIGEST_LOG_LIMIT).
const (
	digestInterval = 128
	maxDigests     = 1024
)

func (t *Tree) recordDigest(z zab.Zxid) {
	if len(t.digests) == maxDigests {
		t.digests = slices.Delete(t.digests, 0, maxDigests/4)
	}
	t.digests = append(t.digests, ZxidDigest{z, t.digest})
}

// Digests returns the digest after every 128th zxid of those that were applied
// to this tree, also by the replay of a log, oldest first. Over a snapshot that
// holds more than it says there are none before the first that fits its transaction.
func (t *Tree) Digests() []ZxidDigest { return slices.Clone(t.digests) }

func (t *Tree) applyMulti(h *wire.TxnHeader, multi *wire.MultiTxn, r *Result) {
	if _, at := multi.Failed(); at >= 0 {
		for _, sub := range multi.Txns {
			code := wire.OK
			if sub.Type == wire.OpFailed {
				code = wire.Code(sub.Body.(*wire.IntRecord).Value)
			}
			r.Multi = append(r.Multi, wire.MultiResult{Op: wire.OpFailed, Err: code})
		}
		return
	}
	for _, sub := range multi.Txns {
		code := t.apply(h, sub.Type, sub.Body, r)
		res := wire.MultiResult{Op: sub.Type, Err: code}
		switch {
		case code != wire.OK:
			res.Op = wire.OpFailed
		case sub.Type == wire.OpCreate:
			res.Record = &wire.PathRecord{Path: r.Path}
		case sub.Type == wire.OpCreate2, sub.Type == wire.OpCreateContainer, sub.Type == wire.OpCreateTTL:
			res.Op = wire.OpCreate2
			res.Record = &wire.CreateResponse{Path: r.Path, Stat: r.Stat}
		case sub.Type == wire.OpSetData:
			st := r.Stat
			res.Record = &st
		}
		r.Multi = append(r.Multi, res)
	}
}

func (t *Tree) apply(h *wire.TxnHeader, op wire.Op, body wire.Record, r *Result) wire.Code {
	switch b := body.(type) {
	case *wire.CreateTxn:
		return t.applyCreate(h, op, b, r)
	case *wire.SetDataTxn:
		return t.applySetData(h, b, r)
	case *wire.SetACLTxn:
		return t.applySetACL(b, r)
	case *wire.PathRecord:
		r.Path = b.Path
		return t.applyDelete(h.Zxid, b.Path, r)
	case *wire.PathVersion: // check: Prep has done it
		r.Path = b.Path
		return wire.OK
	case *wire.PathsRecord:
		return t.applyCloseSession(h, b.Paths, r)
	case *wire.IntRecord:
		if op == wire.OpFailed {
			return wire.Code(b.Value)
		}
		t.sessions[h.Session] = b.Value
		return wire.OK
	case nil:
		if op == wire.OpCloseSession {
			return t.applyCloseSession(h, nil, r)
		}
	}
	panic(fmt.Sprintf("znode: transaction %v: %v has body %T", h.Zxid, op, body))
}

// change is called before anything of a node that a snapshot holds is altered;
// changed after it. In between the digest of the tree is without the node.
func (t *Tree) change(n *node) {
	if t.frozen != nil {
		t.frozen.save(n)
	}
	t.digest -= t.digestOf(n)
}

func (t *Tree) changed(n *node) { t.digest += t.digestOf(n) }

func (t *Tree) applyCreate(h *wire.TxnHeader, op wire.Op, b *wire.CreateTxn, r *Result) wire.Code {
	r.Path = b.Path
	parentPath, name, ok := splitTxnPath(b.Path)
	if !ok {
		return wire.ErrBadArguments
	}
	parent := t.lookup(parentPath)
	if parent == nil {
		return wire.ErrNoNode
	}
	if n := parent.child(name); n != nil {
		// Only over a fuzzy snapshot, which may hold the child but neither its ACL
		// list nor the parent as it was with it.
		t.setACL(n, b.ACL)
		t.raiseCversion(parent, b.ParentCversion, h.Zxid)
		return wire.ErrNodeExists
	}
	cversion := b.ParentCversion
	if cversion == -1 {
		cversion = parent.cversion + 1
	}
	t.raiseCversion(parent, cversion, h.Zxid)

	n := t.newNode(parent, b.Path, name, b.Data, t.acls.intern(b.ACL))
	n.czxid, n.mzxid, n.pzxid = h.Zxid, h.Zxid, h.Zxid
	n.ctime, n.mtime = h.TimeMs, h.TimeMs
	switch {
	case op == wire.OpCreateContainer:
		n.owner = ownerContainer
	case op == wire.OpCreateTTL:
		n.owner = ttlOwner(b.TTLMs)
	case b.Ephemeral:
		n.owner = int64(h.Session)
	}
	t.link(n, b.Path)
	t.quotaCreated(n, b.Path, parentPath, name)

	n.stat(&r.Stat, t.cfg.ExtendedTypes)
	r.Events = append(r.Events,
		Event{wire.EventNodeCreated, b.Path, n.acl.list},
		Event{wire.EventNodeChildrenChanged, eventPath(parentPath), parent.acl.list})
	return wire.OK
}

// splitTxnPath is splitPath for paths that Prep has judged: "/" and "//a" are
// faults of who wrote the log.
func splitTxnPath(path string) (parent, name string, ok bool) {
	parent, name, ok = splitPath(path)
	return parent, name, ok && name != "" && parent != "/"
}

// raiseCversion never lowers: a create that is replayed over a later state must
// not take the sequence counter back. The counter wraps, hence the difference.
func (t *Tree) raiseCversion(parent *node, cversion int32, zxid zab.Zxid) {
	if cversion-parent.cversion > 0 {
		t.change(parent)
		parent.cversion, parent.pzxid = cversion, zxid
		t.changed(parent)
	}
}

func (t *Tree) applySetData(h *wire.TxnHeader, b *wire.SetDataTxn, r *Result) wire.Code {
	r.Path = b.Path
	n := t.lookup(b.Path)
	if n == nil {
		return wire.ErrNoNode
	}
	t.change(n)
	t.quotaChanged(b.Path, int64(len(b.Data)-n.dataLen()), 0)
	t.setData(n, b.Path, b.Data)
	n.version, n.mzxid, n.mtime = b.Version, h.Zxid, h.TimeMs
	t.changed(n)
	n.stat(&r.Stat, t.cfg.ExtendedTypes)
	r.Events = append(r.Events, Event{wire.EventNodeDataChanged, b.Path, n.acl.list})
	return wire.OK
}

// setData stands between change and changed.
func (t *Tree) setData(n *node, path string, data []byte) {
	t.size += int64(len(data) - n.dataLen())
	if t.cfg.Digest && n.nameLen&flagNoDigest == 0 {
		if path == "/" {
			path = "" // the digest knows the root by its other name
		}
		n.crc = prefixCRC(path, data)
	}
	n.setVal(n.name(), data)
}

func (t *Tree) applySetACL(b *wire.SetACLTxn, r *Result) wire.Code {
	r.Path = b.Path
	n := t.lookup(b.Path)
	if n == nil {
		return wire.ErrNoNode
	}
	t.change(n)
	t.setACL(n, b.ACL)
	n.aversion = b.Version
	t.changed(n)
	n.stat(&r.Stat, t.cfg.ExtendedTypes)
	return wire.OK
}

func (t *Tree) setACL(n *node, acl []wire.ACL) {
	if t.frozen != nil {
		t.frozen.save(n)
	}
	old := n.acl
	n.acl = t.acls.intern(acl) // first, or a list that stays would be dropped
	t.acls.release(old)
}

func (t *Tree) applyDelete(zxid zab.Zxid, path string, r *Result) wire.Code {
	parentPath, name, ok := splitTxnPath(path)
	if !ok {
		return wire.ErrBadArguments
	}
	parent := t.lookup(parentPath)
	if parent == nil {
		return wire.ErrNoNode
	}
	if zxid > parent.pzxid { // also if the node is missing: see the rules of replay
		t.change(parent)
		parent.pzxid = zxid
		t.changed(parent)
	}
	n := parent.child(name)
	if n == nil {
		return wire.ErrNoNode
	}
	acl := n.acl.list
	if n.kids != nil {
		t.removeBelow(n)
	}
	t.quotaDeleted(n, path, parentPath, name)
	t.remove(n, len(path))
	r.Events = append(r.Events,
		Event{wire.EventNodeDeleted, path, acl},
		Event{wire.EventNodeChildrenChanged, eventPath(parentPath), parent.acl.list})
	return wire.OK
}

// remove takes a node without children out of the tree.
func (t *Tree) remove(n *node, pathLen int) {
	t.change(n)
	n.parent.kids.remove(n)
	if n.parent.kids.n == 0 {
		n.parent.kids = nil
	}
	t.nodes--
	t.size -= int64(pathLen + n.dataLen())
	t.disown(n)
	t.acls.release(n.acl)
}

// removeBelow takes out all that is below a node. Prep refuses to delete a
// znode with children, so they can only be leftovers of a fuzzy snapshot,
// which later transactions of the log make again.
func (t *Tree) removeBelow(top *node) {
	for n := top; ; {
		if n.kids == nil {
			if n == top {
				return
			}
			parent, path := n.parent, n.path()
			parentPath, name, _ := splitPath(path)
			t.quotaDeleted(n, path, parentPath, name)
			t.remove(n, len(path))
			n = parent
			continue
		}
		d := n.kids
		for d.sub != nil {
			for _, s := range d.sub {
				if s != nil && s.n > 0 {
					d = s
					break
				}
			}
		}
		n = d.ents[len(d.ents)-1]
	}
}

func (t *Tree) applyCloseSession(h *wire.TxnHeader, paths []string, r *Result) wire.Code {
	for _, path := range paths {
		t.applyDelete(h.Zxid, path, r)
	}
	// What the leader did not list: old leaders list nothing.
	if set := t.ephemerals[h.Session]; len(set) > 0 {
		rest := make([]string, 0, len(set))
		for n := range set {
			rest = append(rest, n.path())
		}
		slices.Sort(rest)
		for _, path := range rest {
			t.applyDelete(h.Zxid, path, r)
		}
	}
	delete(t.sessions, h.Session)
	r.Path = ""
	return wire.OK
}

// SetConfig replaces the data of /zookeeper/config outside of any transaction:
// each server of an ensemble with a static configuration does so when it
// starts. The znode has no part in the digest.
func (t *Tree) SetConfig(data []byte) {
	const path = "/zookeeper/config"
	n := t.lookup(path)
	t.change(n)
	t.setData(n, path, data)
	n.version = -1
	t.changed(n)
}
