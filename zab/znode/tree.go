package znode

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Config says how a tree behaves. The zero value is ZooKeeper's default but for
// Digest.
type Config struct {
	// SkipACL lets everybody do everything. zoo.cfg: skipACL.
	SkipACL bool

	// ExtendedTypes allows znodes with a TTL. It must be the same on all servers,
	// and must stay on once there are such znodes: without it their owner reads as
	// a session id. zoo.cfg: extendedTypesEnabled.
	ExtendedTypes bool

	// EnforceQuota refuses writes above a hard quota. zoo.cfg: enforceQuota.
	EnforceQuota bool

	// SuperDigest is the id of scheme digest that makes a connection super:
	// "super:" and a hash (see DigestID). Empty: nobody is. zoo.cfg:
	// DigestAuthenticationProvider.superDigest.
	SuperDigest string

	// NoDigestAuth refuses the scheme digest in authentication and in ACLs. zoo.cfg:
	// DigestAuthenticationProvider.enabled=false.
	NoDigestAuth bool

	// KeyAuth adds the scheme key: any number that the number in the znode /key
	// divides, and anything while there is no such znode. It is Apache's sample of a
	// provider that reads the tree. zoo.cfg: authProvider.N=…KeyAuthenticationProvider.
	KeyAuth bool

	// Digest keeps a digest of the whole tree and compares it with the one that
	// each transaction carries. zoo.cfg: digest.enabled.
	Digest bool

	// LocalSessions lets sessions that the tree does not know write, but not make
	// ephemeral znodes. zoo.cfg: localSessionsEnabled.
	LocalSessions bool

	// ContainerMaxNeverUsedMs is the age in ms at which a container that never had
	// a child is removed; 0: never. zoo.cfg: znode.container.maxNeverUsedIntervalMs.
	ContainerMaxNeverUsedMs int64

	// MaxTxnBytes bounds an encoded transaction: what every learner can read.
	// Default 2097150, twice jute.maxbuffer.
	MaxTxnBytes int
}

const defaultMaxTxnBytes = 2 * wire.MaxBuffer

// Tree is the tree of znodes with the sessions. See the package comment for
// what may run at the same time.
type Tree struct {
	cfg  Config
	root *node

	sessions   map[zab.SessionID]int32 // timeout in ms
	ephemerals map[zab.SessionID]map[*node]struct{}
	containers map[*node]struct{}
	ttls       map[*node]struct{}
	quotas     map[string]struct{} // paths with a limits node

	acls           *aclCache
	lastZxid       zab.Zxid
	digest         uint64
	mismatches     uint64
	digests        []ZxidDigest
	fuzzy          bool // may hold more than lastZxid says: no digest of a transaction has agreed yet
	nodes          int
	size           int64
	ephemeralCount int

	frozen  *Frozen
	lastGen uint32
	sum     digester
	scratch []byte
}

// New returns the tree of a new ensemble: the root and the znodes below
// /zookeeper that servers need.
func New(cfg Config) *Tree {
	t := newTree(cfg)
	t.addSpecial()
	return t
}

func newTree(cfg Config) *Tree {
	if cfg.MaxTxnBytes == 0 {
		cfg.MaxTxnBytes = defaultMaxTxnBytes
	}
	t := &Tree{
		cfg:        cfg,
		sessions:   map[zab.SessionID]int32{},
		ephemerals: map[zab.SessionID]map[*node]struct{}{},
		containers: map[*node]struct{}{},
		ttls:       map[*node]struct{}{},
		quotas:     map[string]struct{}{},
		acls:       newACLCache(),
	}
	t.root = &node{acl: &t.acls.open}
	t.root.setVal("", []byte{})
	t.nodes = 1
	t.digest += t.digestOf(t.root)
	return t
}

// addSpecial adds what is missing of the znodes that every server has. (A
// snapshot of an old release has no /zookeeper/config.)
func (t *Tree) addSpecial() {
	open, config := &t.acls.open, []wire.ACL{{Perms: wire.PermRead, ID: wire.ID{Scheme: "world", ID: "anyone"}}}
	add := func(path string, acl *aclEntry, aversion int32) {
		if t.lookup(path) != nil {
			return
		}
		parent, name, _ := splitPath(path)
		n := t.newNode(t.lookup(parent), path, name, []byte{}, acl)
		n.aversion = aversion
		t.link(n, path)
	}
	add("/zookeeper", open, 0)
	add("/zookeeper/quota", open, 0)
	if t.lookup("/zookeeper/config") == nil {
		add("/zookeeper/config", t.acls.intern(config), -1)
	}
}

// newNode makes a node that is not in the tree yet. The caller sets the stat,
// then calls link.
func (t *Tree) newNode(parent *node, path, name string, data []byte, acl *aclEntry) *node {
	n := &node{parent: parent, acl: acl}
	if noDigest(path) {
		n.nameLen = flagNoDigest
	} else if t.cfg.Digest {
		n.crc = prefixCRC(path, data)
	}
	n.setVal(name, data)
	if t.frozen != nil {
		n.mark = t.frozen.gen // not in the snapshot that is being written
	}
	return n
}

// link enters a node into the tree and all indexes.
func (t *Tree) link(n *node, path string) {
	if n.parent.kids == nil {
		n.parent.kids = &dir{}
	}
	n.parent.kids.add(n)
	t.nodes++
	t.size += int64(len(path) + n.dataLen())
	t.digest += t.digestOf(n)
	t.own(n)
}

// own enters a node into the index of what ends its life.
func (t *Tree) own(n *node) {
	switch ownerKind(n.owner, t.cfg.ExtendedTypes) {
	case kindEphemeral:
		id := zab.SessionID(n.owner)
		set := t.ephemerals[id]
		if set == nil {
			set = map[*node]struct{}{}
			t.ephemerals[id] = set
		}
		set[n] = struct{}{}
		t.ephemeralCount++
	case kindContainer:
		t.containers[n] = struct{}{}
	case kindTTL:
		t.ttls[n] = struct{}{}
	}
}

func (t *Tree) disown(n *node) {
	switch ownerKind(n.owner, t.cfg.ExtendedTypes) {
	case kindEphemeral:
		id := zab.SessionID(n.owner)
		set := t.ephemerals[id]
		delete(set, n)
		if len(set) == 0 {
			delete(t.ephemerals, id)
		}
		t.ephemeralCount--
	case kindContainer:
		delete(t.containers, n)
	case kindTTL:
		delete(t.ttls, n)
	}
}

func (t *Tree) digestOf(n *node) uint64 {
	if !t.cfg.Digest || n.nameLen&flagNoDigest != 0 {
		return 0
	}
	s := n.persisted()
	return t.sum.sum(n.crc, &s)
}

// lookup finds a node; "" and "/" are the root. It allocates nothing.
func (t *Tree) lookup(path string) *node {
	if path == "" || path == "/" {
		return t.root
	}
	return lookupFrom(t.root, path)
}

// lookupFrom finds a node by its path below n; path begins with a slash.
func lookupFrom(n *node, path string) *node {
	for n != nil && path != "" {
		if path[0] != '/' {
			return nil
		}
		path = path[1:]
		name := path
		if i := strings.IndexByte(path, '/'); i >= 0 {
			name, path = path[:i], path[i:]
		} else {
			path = ""
		}
		n = n.child(name)
	}
	return n
}

// LastZxid returns the zxid of the last transaction applied.
func (t *Tree) LastZxid() zab.Zxid { return t.lastZxid }

// Digest returns the digest of the tree, 0 if the tree keeps none.
func (t *Tree) Digest() uint64 { return t.digest }

// DigestMismatches counts the transactions whose digest was not that of the
// tree after them.
func (t *Tree) DigestMismatches() uint64 { return t.mismatches }

// NodeCount returns the number of znodes as ZooKeeper counts them: the root
// twice, so a new tree has 5.
func (t *Tree) NodeCount() int { return t.nodes + 1 }

// DataSize returns the bytes of all paths and data, which is an approximation
// of what a snapshot takes.
func (t *Tree) DataSize() int64 { return t.size + 1 }

// EphemeralCount returns the number of ephemeral znodes.
func (t *Tree) EphemeralCount() int { return t.ephemeralCount }

// SessionTimeout is a session and its timeout in ms.
type SessionTimeout struct {
	ID        zab.SessionID
	TimeoutMs int32
}

// ACLEntry is an ACL list and the key that stands for it in a snapshot.
type ACLEntry struct {
	Key int64
	ACL []wire.ACL
}

// Sessions lists the sessions in the order of their ids.
func (t *Tree) Sessions() []SessionTimeout {
	list := make([]SessionTimeout, 0, len(t.sessions))
	for id, timeout := range t.sessions {
		list = append(list, SessionTimeout{id, timeout})
	}
	slices.SortFunc(list, func(a, b SessionTimeout) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// SessionCount returns the number of sessions.
func (t *Tree) SessionCount() int { return len(t.sessions) }

// SessionTimeout returns the timeout of a session in ms.
func (t *Tree) SessionTimeout(id zab.SessionID) (timeoutMs int32, ok bool) {
	timeoutMs, ok = t.sessions[id]
	return timeoutMs, ok
}

// Allowed is the function Allowed under the Config of the tree.
func (t *Tree) Allowed(acl []wire.ACL, perm wire.Perms, ids []wire.ID) bool {
	return t.cfg.SkipACL || Allowed(acl, perm, ids)
}

// Authenticate is the method of the Config of the tree, and knows the scheme key,
// which reads the tree.
func (t *Tree) Authenticate(scheme string, auth []byte, remote netip.Addr) ([]wire.ID, wire.Code) {
	if scheme == "key" && t.cfg.KeyAuth {
		return t.authenticateKey(string(auth))
	}
	return t.cfg.Authenticate(scheme, auth, remote)
}

// authenticateKey follows class KeyAuthenticationProvider. There is one identity
// for everybody who has a key. Without a key in the tree everybody has, so that it
// can be written.
func (t *Tree) authenticateKey(auth string) ([]wire.ID, wire.Code) {
	if n := t.lookup("/key"); n != nil {
		key, err := strconv.ParseInt(string(n.data()), 10, 32)
		a, err2 := strconv.ParseInt(auth, 10, 32)
		if err != nil || err2 != nil || key != 0 && a%key != 0 {
			return nil, wire.ErrAuthFailed
		}
	}
	return []wire.ID{{Scheme: "key"}}, wire.OK
}

func (t *Tree) find(path string, perm wire.Perms, ids []wire.ID) (*node, wire.Code) {
	n := t.lookup(path)
	if n == nil {
		return nil, wire.ErrNoNode
	}
	if perm != 0 && !t.Allowed(n.acl.list, perm, ids) {
		return nil, wire.ErrNoAuth
	}
	return n, wire.OK
}

// Get returns the data of a znode; it must not be modified, but may be kept.
func (t *Tree) Get(path string, ids []wire.ID) (data []byte, st wire.Stat, code wire.Code) {
	n, code := t.find(path, wire.PermRead, ids)
	if code != wire.OK {
		return nil, st, code
	}
	n.stat(&st, t.cfg.ExtendedTypes)
	return n.data(), st, wire.OK
}

// Exists returns the stat of a znode. A path with U+0000 is ErrBadArguments.
func (t *Tree) Exists(path string, ids []wire.ID) (st wire.Stat, code wire.Code) {
	if hasNUL(path) {
		return st, wire.ErrBadArguments
	}
	n, code := t.find(path, wire.PermRead, ids)
	if code != wire.OK {
		return st, code
	}
	n.stat(&st, t.cfg.ExtendedTypes)
	return st, wire.OK
}

// GetACL returns the ACL of a znode, with the hashes of scheme digest hidden
// from who may not change it. It must not be modified.
func (t *Tree) GetACL(path string, ids []wire.ID) (acl []wire.ACL, st wire.Stat, code wire.Code) {
	n, code := t.find(path, wire.PermRead|wire.PermAdmin, ids)
	if code != wire.OK {
		return nil, st, code
	}
	n.stat(&st, t.cfg.ExtendedTypes)
	acl = n.acl.list
	if !t.Allowed(acl, wire.PermAdmin, ids) {
		acl = maskACL(acl)
	}
	return acl, st, wire.OK
}

// AppendChildren appends the names of the children as a jute vector, in no
// order. b is returned as it was if the code is not OK.
func (t *Tree) AppendChildren(b []byte, path string, ids []wire.ID) ([]byte, wire.Stat, wire.Code) {
	var st wire.Stat
	n, code := t.find(path, wire.PermRead, ids)
	if code != wire.OK {
		return b, st, code
	}
	n.stat(&st, t.cfg.ExtendedTypes)
	b = wire.AppendInt(b, st.NumChildren)
	if n.kids != nil {
		b = n.kids.appendNames(b)
	}
	return b, st, wire.OK
}

func (d *dir) appendNames(b []byte) []byte {
	for _, c := range d.ents {
		b = wire.AppendString(b, c.name())
	}
	if d.sub != nil {
		for _, s := range d.sub {
			if s != nil {
				b = s.appendNames(b)
			}
		}
	}
	return b
}

// Children returns the names of the children in byte order.
func (t *Tree) Children(path string, ids []wire.ID) ([]string, wire.Stat, wire.Code) {
	var st wire.Stat
	n, code := t.find(path, wire.PermRead, ids)
	if code != wire.OK {
		return nil, st, code
	}
	n.stat(&st, t.cfg.ExtendedTypes)
	names := make([]string, 0, st.NumChildren)
	if n.kids != nil {
		for _, c := range n.kids.gather(nil) {
			names = append(names, strings.Clone(c.name()))
		}
	}
	slices.Sort(names)
	return names, st, wire.OK
}

// AllChildrenNumber counts all znodes below path.
func (t *Tree) AllChildrenNumber(path string, ids []wire.ID) (int32, wire.Code) {
	n, code := t.find(path, wire.PermRead, ids)
	if code != wire.OK {
		return 0, code
	}
	if n == t.root {
		return int32(t.nodes - 1), wire.OK
	}
	count := int32(0)
	for todo := []*node{n}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		count += n.numChildren()
		if n.kids != nil {
			todo = n.kids.gatherParents(todo)
		}
	}
	return count, wire.OK
}

// gatherParents appends the children that have children.
func (d *dir) gatherParents(to []*node) []*node {
	for _, c := range d.ents {
		if c.kids != nil {
			to = append(to, c)
		}
	}
	if d.sub != nil {
		for _, s := range d.sub {
			if s != nil {
				to = s.gatherParents(to)
			}
		}
	}
	return to
}

// Ephemerals lists the ephemeral znodes of a session whose path begins with
// prefix, in byte order; a blank prefix or "/" is all of them.
func (t *Tree) Ephemerals(session zab.SessionID, prefix string) []string {
	set := t.ephemerals[session]
	if strings.TrimSpace(prefix) == "" {
		prefix = "/"
	}
	var paths []string
	for n := range set {
		if p := n.path(); strings.HasPrefix(p, prefix) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// EphemeralOwners lists the sessions that have ephemeral znodes, in the order
// of their ids.
func (t *Tree) EphemeralOwners() []zab.SessionID {
	return slices.Sorted(maps.Keys(t.ephemerals))
}

// Orphans lists the owners of ephemeral znodes that are not sessions. There are
// none unless a snapshot of another server is broken; the leader closes them, by
// transactions. Znodes with a TTL are not among them even while ExtendedTypes is
// off by mistake, and they look like ephemeral ones.
func (t *Tree) Orphans() []zab.SessionID {
	var ids []zab.SessionID
	for id := range t.ephemerals {
		if _, ok := t.sessions[id]; !ok && uint64(id)>>56 != 0xff {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// CatchUpKind is the list of setWatches that a path comes from.
type CatchUpKind uint8

// The lists whose watches may have missed an event. Persistent watches get none.
const (
	CatchUpData CatchUpKind = iota
	CatchUpExist
	CatchUpChild
)

// CatchUp returns the event that a watch set before the zxid relative has
// missed, or EventNone if the watch is to be armed again.
func (t *Tree) CatchUp(relative zab.Zxid, path string, kind CatchUpKind) wire.EventType {
	n := t.lookup(path)
	switch {
	case kind == CatchUpExist && n != nil:
		return wire.EventNodeCreated
	case kind == CatchUpExist:
		return wire.EventNone
	case n == nil:
		return wire.EventNodeDeleted
	case kind == CatchUpData && n.mzxid > relative:
		return wire.EventNodeDataChanged
	case kind == CatchUpChild && n.pzxid > relative:
		return wire.EventNodeChildrenChanged
	}
	return wire.EventNone
}

// Expired lists up to max containers and TTL znodes that are due for
// deleteContainer at nowMs, in byte order (class ContainerManager). It looks at
// all containers and TTL znodes.
func (t *Tree) Expired(nowMs int64, max int) []string {
	var paths []string
	for n := range t.containers {
		if t.isDue(n.owner, n.cversion, n.numChildren(), n.mtime, nowMs) {
			paths = append(paths, n.path())
		}
	}
	for n := range t.ttls {
		if t.isDue(n.owner, n.cversion, n.numChildren(), n.mtime, nowMs) {
			paths = append(paths, n.path())
		}
	}
	slices.Sort(paths)
	return paths[:min(len(paths), max)]
}

func (t *Tree) isDue(owner int64, cversion, children int32, mtimeMs, nowMs int64) bool {
	if children > 0 {
		return false
	}
	switch ownerKind(owner, t.cfg.ExtendedTypes) {
	case kindContainer:
		// One without a past was just made to get its first child.
		return cversion > 0 || t.cfg.ContainerMaxNeverUsedMs > 0 && nowMs-mtimeMs > t.cfg.ContainerMaxNeverUsedMs
	case kindTTL:
		ttl := ttlOf(owner)
		return ttl > 0 && nowMs-mtimeMs > ttl
	}
	return false
}
