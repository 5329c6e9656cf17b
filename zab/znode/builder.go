package znode

import (
	"errors"
	"fmt"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Builder makes a tree from what a snapshot holds: sessions and ACL lists, then
// nodes, parents before children.
type Builder struct {
	t        *Tree
	acls     map[int64]*aclEntry
	hasRoot  bool
	unknown  int
	lastPath string // of lastDir
	lastDir  *node  // parent of the node added last: its siblings come next
}

// NewBuilder returns a builder of a tree that behaves as cfg says.
func NewBuilder(cfg Config) *Builder {
	t := newTree(cfg)
	t.fuzzy = true
	return &Builder{t: t, acls: map[int64]*aclEntry{}}
}

// AddSession adds a session and its timeout in ms.
func (b *Builder) AddSession(id zab.SessionID, timeoutMs int32) { b.t.sessions[id] = timeoutMs }

// AddACL adds the list that key stands for. It copies acl.
func (b *Builder) AddACL(key int64, acl []wire.ACL) {
	if key == aclKeyOpen {
		return
	}
	// Uses are counted when nodes are added; Finish drops what has none.
	e := b.t.acls.intern(acl)
	e.refs--
	b.acls[key] = e
}

// AddNode adds a znode; the path of the root is "". It copies path and data. An
// unknown aclKey is counted, not refused: snapshots of ZooKeeper itself may lack
// a list, which the log then brings; until then nobody may do anything.
func (b *Builder) AddNode(path string, data []byte, aclKey int64, stat *wire.StatPersisted) error {
	acl := b.acl(aclKey)
	t := b.t
	if path == "" {
		if b.hasRoot {
			return errors.New("the root is there twice")
		}
		if stat.EphemeralOwner != 0 {
			return fmt.Errorf("the root has owner %#x", uint64(stat.EphemeralOwner))
		}
		b.hasRoot = true
		t.digest -= t.digestOf(t.root)
		t.root.acl = acl
		t.setData(t.root, "", data)
		t.root.setPersisted(stat)
		t.digest += t.digestOf(t.root)
		return nil
	}
	parentPath, name, ok := splitTxnPath(path)
	if !ok {
		return fmt.Errorf("znode %.100q: bad path", path)
	}
	if b.lastDir == nil || parentPath != b.lastPath {
		b.lastDir = t.lookup(parentPath)
		if b.lastDir == nil {
			return fmt.Errorf("znode %.100q: no parent", path)
		}
		b.lastPath = strings.Clone(parentPath)
	}
	if b.lastDir.child(name) != nil {
		return fmt.Errorf("znode %.100q is there twice", path)
	}
	n := t.newNode(b.lastDir, path, name, data, acl)
	n.setPersisted(stat)
	t.link(n, path)
	return nil
}

func (b *Builder) acl(key int64) *aclEntry {
	if key == aclKeyOpen {
		return &b.t.acls.open
	}
	e := b.acls[key]
	if e == nil {
		b.unknown++
		e = &b.t.acls.unknown
	}
	e.refs++
	return e
}

// UnknownACLs counts the nodes whose ACL list was missing.
func (b *Builder) UnknownACLs() int { return b.unknown }

// Finish returns the tree as of zxid. The builder must not be used any more.
func (b *Builder) Finish(zxid zab.Zxid) (*Tree, error) {
	t := b.t
	if !b.hasRoot {
		return nil, errors.New("the root is missing")
	}
	for _, e := range b.acls {
		if e.refs == 0 && e.key >= 0 {
			delete(t.acls.byEnc, e.enc)
		}
	}
	t.addSpecial()
	t.loadQuotas()
	t.lastZxid = zxid
	b.t = nil
	return t, nil
}

func (n *node) setPersisted(s *wire.StatPersisted) {
	n.czxid, n.mzxid, n.pzxid = s.Czxid, s.Mzxid, s.Pzxid
	n.ctime, n.mtime = s.Ctime, s.Mtime
	n.version, n.cversion, n.aversion = s.Version, s.Cversion, s.Aversion
	n.owner = s.EphemeralOwner
}
