package znode

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"unsafe"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// node is one znode: 112 bytes, and one more allocation for its name and data
// together. It does not know its path, only its parent. A deleted node keeps
// its parent and val, so that a walk that still holds it can name it.
type node struct {
	parent *node
	kids   *dir      // nil while there are no children
	acl    *aclEntry // never nil
	val    string    // name, then data; replaced as a whole, never written to

	czxid, mzxid, pzxid zab.Zxid
	ctime, mtime        int64
	owner               int64 // as stored: see owner.go
	version             int32
	cversion            int32 // creates below this node; also the sequence counter
	aversion            int32
	crc                 uint32 // CRC-32 of path and data: the digest but for the stat
	nameLen             uint32 // and the flags below
	mark                uint32 // last snapshot that holds this node, or must not
}

// Flags in nameLen. A name is shorter than a frame, which is far below 2^30.
const (
	flagNullData = 1 << 31
	flagNoDigest = 1 << 30
	maskNameLen  = flagNoDigest - 1
)

func (n *node) name() string { return n.val[:n.nameLen&maskNameLen] }

func (n *node) dataLen() int { return len(n.val) - int(n.nameLen&maskNameLen) }

// data aliases val: the caller must not write to it, but may keep it, since
// setData makes a new val.
func (n *node) data() []byte {
	if n.nameLen&flagNullData != 0 {
		return nil
	}
	s := n.val[n.nameLen&maskNameLen:]
	if len(s) == 0 {
		return []byte{}
	}
	return stringBytes(s)
}

// setVal copies name and data into one new allocation.
func (n *node) setVal(name string, data []byte) {
	b := make([]byte, len(name)+len(data))
	copy(b[copy(b, name):], data)
	n.val = unsafe.String(unsafe.SliceData(b), len(b))
	n.nameLen = n.nameLen&flagNoDigest | uint32(len(name))
	if data == nil {
		n.nameLen |= flagNullData
	}
}

func (n *node) numChildren() int32 {
	if n.kids == nil {
		return 0
	}
	return int32(n.kids.n)
}

// child returns nil if there is none of that name.
func (n *node) child(name string) *node {
	if n.kids == nil {
		return nil
	}
	return n.kids.get(name)
}

// stat is what clients see: cversion counts creates and deletes, and container
// and TTL markers are hidden.
func (n *node) stat(st *wire.Stat, extended bool) {
	children := n.numChildren()
	*st = wire.Stat{
		Czxid: n.czxid, Mzxid: n.mzxid, Ctime: n.ctime, Mtime: n.mtime,
		Version: n.version, Cversion: n.cversion*2 - children, Aversion: n.aversion,
		DataLength: int32(n.dataLen()), NumChildren: children, Pzxid: n.pzxid,
	}
	if ownerKind(n.owner, extended) == kindEphemeral {
		st.EphemeralOwner = zab.SessionID(n.owner)
	}
}

func (n *node) persisted() wire.StatPersisted {
	return wire.StatPersisted{
		Czxid: n.czxid, Mzxid: n.mzxid, Ctime: n.ctime, Mtime: n.mtime,
		Version: n.version, Cversion: n.cversion, Aversion: n.aversion,
		EphemeralOwner: n.owner, Pzxid: n.pzxid,
	}
}

// pathLen returns the length of the path; 0 for the root.
func (n *node) pathLen() int {
	l := 0
	for ; n.parent != nil; n = n.parent {
		l += 1 + int(n.nameLen&maskNameLen)
	}
	return l
}

// appendPath appends the path as snapshots write it: the root is "".
func (n *node) appendPath(b []byte) []byte {
	l := n.pathLen()
	at := len(b) + l
	b = append(b, make([]byte, l)...)
	for ; n.parent != nil; n = n.parent {
		at -= copy(b[at-int(n.nameLen&maskNameLen):], n.name())
		at--
		b[at] = '/'
	}
	return b
}

// path is for callers outside: the root is "/".
func (n *node) path() string {
	if n.parent == nil {
		return "/"
	}
	b := n.appendPath(nil)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// appendRecord appends the node as snapshots hold it: path, data, key of the
// ACL, stat. path must be the node's.
func (n *node) appendRecord(b, path []byte) []byte {
	b = append(wire.AppendInt(b, int32(len(path))), path...)
	b = wire.AppendBuffer(b, n.data())
	b = wire.AppendLong(b, n.acl.key)
	st := n.persisted()
	return st.Append(b)
}

// splitPath cuts a path at the last slash; the parent of "/a" is "".
func splitPath(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

// eventPath is the path of a parent in an event.
func eventPath(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// noDigest reports whether the digest of the node is 0 (class
// DigestCalculator): servers keep their own data below /zookeeper.
func noDigest(path string) bool { return strings.HasPrefix(path, "/zookeeper/") }

// prefixCRC is the part of a node's digest that a change of its stat leaves
// alone.
func prefixCRC(path string, data []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(stringBytes(path)), crc32.IEEETable, data)
}

// digester computes digests of nodes. It exists for its scratch space: what is
// given to hash/crc32 escapes.
type digester struct{ buf [60]byte }

// sum finishes the digest of a node: the CRC-32 of path, data and stat. (Class
// DigestCalculator; the order of the fields is not that of the records.)
func (d *digester) sum(crc uint32, s *wire.StatPersisted) uint64 {
	be := binary.BigEndian
	be.PutUint64(d.buf[0:], uint64(s.Czxid))
	be.PutUint64(d.buf[8:], uint64(s.Mzxid))
	be.PutUint64(d.buf[16:], uint64(s.Pzxid))
	be.PutUint64(d.buf[24:], uint64(s.Ctime))
	be.PutUint64(d.buf[32:], uint64(s.Mtime))
	be.PutUint32(d.buf[40:], uint32(s.Version))
	be.PutUint32(d.buf[44:], uint32(s.Cversion))
	be.PutUint32(d.buf[48:], uint32(s.Aversion))
	be.PutUint64(d.buf[52:], uint64(s.EphemeralOwner))
	return uint64(crc32.Update(crc, crc32.IEEETable, d.buf[:]))
}
