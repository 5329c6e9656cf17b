package znode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// Request is a write that waits for its transaction. Op says what Body is:
//
//	create, create2, createContainer, createTTL   *wire.CreateRequest
//	delete, check (in a multi)                    *wire.PathVersion
//	deleteContainer                               *wire.PathRecord
//	setData                                       *wire.SetDataRequest
//	setACL                                        *wire.SetACLRequest
//	multi                                         *wire.MultiRequest
//	createSession                                 *wire.IntRecord (timeout in ms)
//	reconfig                                      *wire.SetDataTxn: the new list of servers
//	closeSession                                  not looked at
type Request struct {
	Session zab.SessionID // 0: the server itself
	Cxid    int32
	Op      wire.Op
	Body    wire.Record
	IDs     []wire.ID // identities of the connection

	// BadBody is why there is no Body, ErrMarshalling as a rule: such a request
	// takes a zxid as well and is answered in its turn.
	BadBody wire.Code

	// Refuse is a refusal for reasons that the tree does not know, in the place of
	// the check of the session: ErrSessionMoved, ErrEphemeralOnLocalSession,
	// ErrReconfigDisabled and the like.
	Refuse wire.Code
}

// Prep turns requests into transactions (class PrepRequestProcessor). A request
// is judged long before it is applied, so Prep remembers what the transactions
// that are on their way will have done: as if each had been applied before the
// next request was looked at.
type Prep struct {
	t *Tree

	pending    fifo[*record]
	byPath     map[string]*record // the newest of each path
	ephemerals map[zab.SessionID]map[*record]struct{}
	free       []*record

	sessions  fifo[sessionChange]
	bySession map[zab.SessionID]sessionChange // the newest of each session

	digest   uint64   // of the tree after all that is pending
	zxid     zab.Zxid // of the last transaction made
	softOver uint64

	undo    []undo
	sum     digester
	scratch []byte
}

// state is what Prep needs to know of a znode.
type state struct {
	stat     wire.StatPersisted
	children int32
	dataLen  int32
	acl      []wire.ACL
	crc      uint32 // see node.crc
	noDigest bool
}

// record is the state of a znode after the transaction zxid.
type record struct {
	state
	zxid zab.Zxid
	path string
	gone bool
}

type undo struct {
	path string
	prev *record
}

type sessionChange struct {
	zxid   zab.Zxid
	id     zab.SessionID
	closed bool
}

// NewPrep returns a Prep with nothing pending.
func NewPrep(t *Tree) *Prep {
	return &Prep{
		t: t, byPath: map[string]*record{}, ephemerals: map[zab.SessionID]map[*record]struct{}{},
		bySession: map[zab.SessionID]sessionChange{}, digest: t.digest, zxid: t.lastZxid,
	}
}

// SoftQuotaExceeded counts the writes that passed a limit of a quota which only
// warns.
func (p *Prep) SoftQuotaExceeded() uint64 { return p.softOver }

// Pending returns the number of transactions' effects that are not dropped yet;
// 0 when everything prepared was applied.
func (p *Prep) Pending() int { return p.pending.len() + p.sessions.len() }

// Applied drops what is pending up to and including zxid: the tree has it now.
func (p *Prep) Applied(zxid zab.Zxid) {
	for p.pending.len() > 0 && p.pending.first().zxid <= zxid {
		r := p.pending.pop()
		if p.byPath[r.path] == r {
			delete(p.byPath, r.path)
		}
		p.drop(r)
	}
	for p.sessions.len() > 0 && p.sessions.first().zxid <= zxid {
		s := p.sessions.pop()
		if p.bySession[s.id] == s {
			delete(p.bySession, s.id)
		}
	}
}

// drop forgets a record that is in no queue and not byPath.
func (p *Prep) drop(r *record) {
	if owner, ok := p.ephemeralOwner(&r.state); ok && !r.gone {
		set := p.ephemerals[owner]
		if delete(set, r); len(set) == 0 {
			delete(p.ephemerals, owner)
		}
	}
	*r = record{}
	p.free = append(p.free, r)
}

func (p *Prep) ephemeralOwner(s *state) (zab.SessionID, bool) {
	return zab.SessionID(s.stat.EphemeralOwner), ownerKind(s.stat.EphemeralOwner, p.t.cfg.ExtendedTypes) == kindEphemeral
}

// fifo is a queue whose items move rarely.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) first() T { return q.items[q.head] }

func (q *fifo[T]) push(v T) {
	if q.head > len(q.items)/2 { // make room for no more than what is there
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *fifo[T]) pop() T {
	var none T
	v := q.items[q.head]
	q.items[q.head] = none
	q.head++
	return v
}

func (q *fifo[T]) popLast() T {
	var none T
	last := len(q.items) - 1
	v := q.items[last]
	q.items[last] = none
	q.items = q.items[:last]
	return v
}

// Prepare makes the transaction of a request. It has the given zxid and time,
// and carries results, not wishes: the new version, the name with its sequence
// number. A refused request becomes a transaction of type OpFailed with the
// code, which takes its place in the log like any other; a refused multi stays
// a multi. txn aliases the request; what is pending does not.
func (p *Prep) Prepare(req *Request, zxid zab.Zxid, timeMs int64, txn *wire.Txn) {
	if p.zxid <= p.t.lastZxid {
		p.digest = p.t.digest // nothing is pending: start from what is
	}
	p.zxid = zxid
	p.undo = p.undo[:0]
	*txn = wire.Txn{Header: wire.TxnHeader{Session: req.Session, Cxid: req.Cxid, Zxid: zxid, TimeMs: timeMs, Type: req.Op}}

	digest := p.digest
	c := prepCall{p: p, req: req, h: &txn.Header}
	var code wire.Code
	if txn.Body, code = c.body(); code == wire.OK && txnSize(txn.Body) > p.t.cfg.MaxTxnBytes {
		code = wire.ErrBadArguments
	}
	if code != wire.OK {
		p.rollback(0, digest)
		txn.Header.Type = wire.OpFailed
		txn.Body = &wire.IntRecord{Value: int32(code)}
		return
	}
	if c.soft {
		p.softOver++
	}
	if p.t.cfg.Digest && txn.Body != nil {
		// Without a body the digest would be read as one.
		txn.Digest = wire.Digest{Version: wire.DigestVersion, Tree: p.digest}
	}
}

// prepCall is one call of Prepare.
type prepCall struct {
	p    *Prep
	req  *Request
	h    *wire.TxnHeader
	soft bool // a soft quota was passed
}

func (c *prepCall) body() (wire.Record, wire.Code) {
	if c.req.BadBody != wire.OK {
		return nil, c.req.BadBody
	}
	switch c.req.Op {
	case wire.OpMulti:
		return c.multi()
	case wire.OpCreateSession:
		timeout := c.req.Body.(*wire.IntRecord).Value
		c.p.putSession(sessionChange{zxid: c.h.Zxid, id: c.h.Session})
		return &wire.IntRecord{Value: timeout}, wire.OK
	case wire.OpCloseSession:
		return c.closeSession(), wire.OK
	case wire.OpReconfig:
		return c.reconfig()
	case wire.OpCheck: // means nothing alone
		return nil, wire.ErrUnimplemented
	}
	return c.one(c.req.Op, c.req.Body)
}

// one prepares an operation that may be part of a multi.
func (c *prepCall) one(op wire.Op, body wire.Record) (wire.Record, wire.Code) {
	switch op {
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		return c.create(op, body.(*wire.CreateRequest))
	case wire.OpDelete:
		return c.delete(body.(*wire.PathVersion))
	case wire.OpDeleteContainer:
		return c.deleteContainer(body.(*wire.PathRecord))
	case wire.OpSetData:
		return c.setData(body.(*wire.SetDataRequest))
	case wire.OpSetACL:
		return c.setACL(body.(*wire.SetACLRequest))
	case wire.OpCheck:
		return c.check(body.(*wire.PathVersion))
	}
	return nil, wire.ErrUnimplemented
}

// multi prepares all operations against each other's effects. If one is refused
// the others before it keep their type in the transaction, the later ones get
// ErrRuntimeInconsistency, and none has an effect.
func (c *prepCall) multi() (wire.Record, wire.Code) {
	ops := c.req.Body.(*wire.MultiRequest).Ops
	for i := range ops {
		// Apache decodes the mode with the record.
		if cr, ok := ops[i].Record.(*wire.CreateRequest); ok && !cr.Mode.Valid() {
			return nil, wire.ErrMarshalling
		}
	}
	if code := c.session(false); code != wire.OK {
		return nil, code
	}
	digest, mark := c.p.digest, len(c.p.undo)
	txn := &wire.MultiTxn{Txns: make([]wire.SubTxn, 0, len(ops))}
	failed := wire.OK
	for i := range ops {
		code := wire.ErrRuntimeInconsistency
		if failed == wire.OK {
			var body wire.Record
			if body, code = c.one(ops[i].Op, ops[i].Record); code == wire.OK {
				txn.Txns = append(txn.Txns, wire.SubTxn{Type: ops[i].Op, Body: body})
				continue
			}
			failed = code
			c.p.rollback(mark, digest)
		}
		txn.Txns = append(txn.Txns, wire.SubTxn{Type: wire.OpFailed, Body: &wire.IntRecord{Value: int32(code)}})
	}
	return txn, wire.OK
}

// session checks that the session may write.
func (c *prepCall) session(ephemeral bool) wire.Code {
	if c.req.Refuse != wire.OK {
		return c.req.Refuse
	}
	id := c.req.Session
	if id == 0 {
		return wire.OK
	}
	_, known := c.p.t.sessions[id]
	closing := false
	if s, ok := c.p.bySession[id]; ok {
		known, closing = !s.closed, s.closed
	}
	if closing || !known && (ephemeral || !c.p.t.cfg.LocalSessions) {
		return wire.ErrSessionExpired
	}
	return wire.OK
}

func (c *prepCall) create(op wire.Op, r *wire.CreateRequest) (wire.Record, wire.Code) {
	p := c.p
	ttl := r.TTLMs
	if op != wire.OpCreateTTL {
		ttl = -1
	}
	switch {
	case !r.Mode.Valid():
		return nil, wire.ErrBadArguments
	case r.Mode.IsTTL() && !p.t.cfg.ExtendedTypes:
		return nil, wire.ErrUnimplemented
	case r.Mode.IsTTL() && (ttl < 1 || ttl > MaxTTLMs), !r.Mode.IsTTL() && ttl >= 0:
		return nil, wire.ErrBadArguments
	case (op == wire.OpCreateTTL) != r.Mode.IsTTL(), (op == wire.OpCreateContainer) != (r.Mode == wire.Container):
		// Apache lets these pass, and one of them stops its servers for good.
		return nil, wire.ErrBadArguments
	}
	if code := c.session(r.Mode.IsEphemeral()); code != wire.OK {
		return nil, code
	}
	parentPath, _, ok := splitPath(r.Path)
	if !ok || hasNUL(r.Path) {
		return nil, wire.ErrBadArguments
	}
	acl, code := c.p.t.cfg.fixACL(r.ACL, c.req.IDs)
	if code != wire.OK {
		return nil, code
	}
	var parent state
	if !p.lookup(parentPath, &parent) {
		return nil, wire.ErrNoNode
	}
	if !p.t.Allowed(parent.acl, wire.PermCreate, c.req.IDs) {
		return nil, wire.ErrNoAuth
	}
	path := r.Path
	if r.Mode.IsSequential() {
		path = fmt.Sprintf("%s%010d", path, parent.stat.Cversion)
	}
	if !ValidPath(path) {
		return nil, wire.ErrBadArguments
	}
	var n state
	if p.lookup(path, &n) {
		return nil, wire.ErrNodeExists
	}
	if ownerKind(parent.stat.EphemeralOwner, p.t.cfg.ExtendedTypes) == kindEphemeral {
		return nil, wire.ErrNoChildrenForEphemerals
	}
	if code := c.quota(path, int64(len(r.Data)), 1); code != wire.OK {
		return nil, code
	}

	old := parent
	parent.stat.Cversion++
	parent.stat.Pzxid = c.h.Zxid
	parent.children++
	n = state{
		stat: wire.StatPersisted{
			Czxid: c.h.Zxid, Mzxid: c.h.Zxid, Pzxid: c.h.Zxid, Ctime: c.h.TimeMs, Mtime: c.h.TimeMs,
		},
		dataLen:  int32(len(r.Data)),
		acl:      p.keepACL(acl),
		noDigest: noDigest(path),
	}
	switch {
	case op == wire.OpCreateContainer:
		n.stat.EphemeralOwner = ownerContainer
	case op == wire.OpCreateTTL:
		n.stat.EphemeralOwner = ttlOwner(ttl)
	case r.Mode.IsEphemeral():
		n.stat.EphemeralOwner = int64(c.h.Session)
	}
	if p.t.cfg.Digest && !n.noDigest {
		n.crc = prefixCRC(path, r.Data)
	}
	kept := strings.Clone(path)
	p.put(kept[:len(parentPath)], c.h.Zxid, &old, &parent)
	p.put(kept, c.h.Zxid, nil, &n)
	return &wire.CreateTxn{
		Type: op, Path: path, Data: r.Data, ACL: acl,
		Ephemeral: r.Mode.IsEphemeral(), ParentCversion: parent.stat.Cversion, TTLMs: max(ttl, 0),
	}, wire.OK
}

func (c *prepCall) quota(path string, bytes, count int64) wire.Code {
	soft, code := c.p.t.checkQuota(path, bytes, count)
	c.soft = c.soft || soft
	return code
}

func (c *prepCall) delete(r *wire.PathVersion) (wire.Record, wire.Code) {
	p := c.p
	if code := c.session(false); code != wire.OK {
		return nil, code
	}
	parentPath, _, ok := splitPath(r.Path)
	if !ok || hasNUL(r.Path) || isSpecial(r.Path) {
		return nil, wire.ErrBadArguments
	}
	var parent, n state
	if !p.lookup(parentPath, &parent) {
		return nil, wire.ErrNoNode
	}
	if !p.t.Allowed(parent.acl, wire.PermDelete, c.req.IDs) {
		return nil, wire.ErrNoAuth
	}
	if !p.lookup(r.Path, &n) {
		return nil, wire.ErrNoNode
	}
	if r.Version != -1 && r.Version != n.stat.Version {
		return nil, wire.ErrBadVersion
	}
	if n.children > 0 {
		return nil, wire.ErrNotEmpty
	}
	p.putDelete(r.Path, c.h.Zxid)
	return &wire.PathRecord{Path: r.Path}, wire.OK
}

// deleteContainer removes a container or a TTL znode that is due. Apache checks
// less: it removes what has been written to after it was found due.
func (c *prepCall) deleteContainer(r *wire.PathRecord) (wire.Record, wire.Code) {
	p := c.p
	_, _, ok := splitPath(r.Path)
	if !ok || hasNUL(r.Path) || isSpecial(r.Path) {
		return nil, wire.ErrBadArguments
	}
	var n state
	if !p.lookup(r.Path, &n) {
		return nil, wire.ErrNoNode
	}
	if n.children > 0 {
		return nil, wire.ErrNotEmpty
	}
	if !p.t.isDue(n.stat.EphemeralOwner, n.stat.Cversion, n.children, n.stat.Mtime, c.h.TimeMs) {
		return nil, wire.ErrBadVersion
	}
	p.putDelete(r.Path, c.h.Zxid)
	return &wire.PathRecord{Path: r.Path}, wire.OK
}

func (c *prepCall) setData(r *wire.SetDataRequest) (wire.Record, wire.Code) {
	p := c.p
	if code := c.session(false); code != wire.OK {
		return nil, code
	}
	if !ValidPath(r.Path) {
		return nil, wire.ErrBadArguments
	}
	var n state
	if !p.lookup(r.Path, &n) {
		return nil, wire.ErrNoNode
	}
	if !p.t.Allowed(n.acl, wire.PermWrite, c.req.IDs) {
		return nil, wire.ErrNoAuth
	}
	if code := c.quota(r.Path, int64(len(r.Data))-int64(n.dataLen), 0); code != wire.OK {
		return nil, code
	}
	if r.Version != -1 && r.Version != n.stat.Version {
		return nil, wire.ErrBadVersion
	}
	old := n
	n.stat.Version++
	n.stat.Mzxid, n.stat.Mtime = c.h.Zxid, c.h.TimeMs
	n.dataLen = int32(len(r.Data))
	if p.t.cfg.Digest && !n.noDigest {
		n.crc = prefixCRC(rootPath(r.Path), r.Data)
	}
	p.put(strings.Clone(rootPath(r.Path)), c.h.Zxid, &old, &n)
	return &wire.SetDataTxn{Path: r.Path, Data: r.Data, Version: n.stat.Version}, wire.OK
}

func (c *prepCall) setACL(r *wire.SetACLRequest) (wire.Record, wire.Code) {
	p := c.p
	if code := c.session(false); code != wire.OK {
		return nil, code
	}
	if !ValidPath(r.Path) {
		return nil, wire.ErrBadArguments
	}
	acl, code := c.p.t.cfg.fixACL(r.ACL, c.req.IDs)
	if code != wire.OK {
		return nil, code
	}
	var n state
	if !p.lookup(r.Path, &n) {
		return nil, wire.ErrNoNode
	}
	if !p.t.Allowed(n.acl, wire.PermAdmin, c.req.IDs) {
		return nil, wire.ErrNoAuth
	}
	if r.Version != -1 && r.Version != n.stat.Aversion {
		return nil, wire.ErrBadVersion
	}
	old := n
	n.stat.Aversion++
	n.acl = p.keepACL(acl)
	p.put(strings.Clone(rootPath(r.Path)), c.h.Zxid, &old, &n)
	return &wire.SetACLTxn{Path: r.Path, ACL: acl, Version: n.stat.Aversion}, wire.OK
}

func (c *prepCall) check(r *wire.PathVersion) (wire.Record, wire.Code) {
	p := c.p
	if code := c.session(false); code != wire.OK {
		return nil, code
	}
	if !ValidPath(r.Path) {
		return nil, wire.ErrBadArguments
	}
	var n state
	if !p.lookup(r.Path, &n) {
		return nil, wire.ErrNoNode
	}
	if !p.t.Allowed(n.acl, wire.PermRead, c.req.IDs) {
		return nil, wire.ErrNoAuth
	}
	if r.Version != -1 && r.Version != n.stat.Version {
		return nil, wire.ErrBadVersion
	}
	return &wire.PathVersion{Path: r.Path, Version: n.stat.Version + 1}, wire.OK
}

// reconfig writes the list of servers to its znode. Whether the list may be had is
// for the caller to know.
func (c *prepCall) reconfig() (wire.Record, wire.Code) {
	p := c.p
	if code := c.session(false); code != wire.OK {
		return nil, code
	}
	txn, ok := c.req.Body.(*wire.SetDataTxn)
	if !ok {
		return nil, wire.ErrUnimplemented
	}
	var n state
	if !p.lookup(txn.Path, &n) {
		return nil, wire.ErrNoNode
	}
	if !p.t.Allowed(n.acl, wire.PermWrite, c.req.IDs) {
		return nil, wire.ErrNoAuth
	}
	old := n
	n.stat.Version = txn.Version
	n.stat.Mzxid, n.stat.Mtime = c.h.Zxid, c.h.TimeMs
	n.dataLen = int32(len(txn.Data))
	p.put(txn.Path, c.h.Zxid, &old, &n)
	return txn, wire.OK
}

// closeSession lists the ephemeral znodes that go with the session, as they
// will be when the transaction is applied. A list that learners could not read
// is left out: they then remove what their trees hold, which is the same.
func (c *prepCall) closeSession() wire.Record {
	p, id := c.p, c.h.Session
	var paths []string
	for n := range p.t.ephemerals[id] {
		if path := n.path(); p.byPath[path] == nil {
			paths = append(paths, path)
		}
	}
	for r := range p.ephemerals[id] {
		if p.byPath[r.path] == r {
			paths = append(paths, r.path)
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		p.putDelete(path, c.h.Zxid)
	}
	p.putSession(sessionChange{zxid: c.h.Zxid, id: id, closed: true})
	body := &wire.PathsRecord{Paths: paths}
	if txnSize(body) > p.t.cfg.MaxTxnBytes {
		return nil
	}
	return body
}

// lookup reads a znode: what is pending first, then the tree.
func (p *Prep) lookup(path string, s *state) bool {
	if len(p.byPath) > 0 {
		if r := p.byPath[rootPath(path)]; r != nil {
			*s = r.state
			return !r.gone
		}
	}
	n := p.t.lookup(path)
	if n == nil {
		return false
	}
	*s = state{
		stat: n.persisted(), children: n.numChildren(), dataLen: int32(n.dataLen()), acl: n.acl.list,
		crc: n.crc, noDigest: n.nameLen&flagNoDigest != 0,
	}
	return true
}

// rootPath makes one of the two names of the root, "" and "/".
func rootPath(path string) string {
	if path == "/" {
		return ""
	}
	return path
}

// put remembers a state; old is the one before, nil if there was none, s nil if
// the znode is gone. path is kept.
func (p *Prep) put(path string, zxid zab.Zxid, old, s *state) {
	if p.t.cfg.Digest {
		if old != nil && !old.noDigest {
			p.digest -= p.sum.sum(old.crc, &old.stat)
		}
		if s != nil && !s.noDigest {
			p.digest += p.sum.sum(s.crc, &s.stat)
		}
	}
	var r *record
	if k := len(p.free); k > 0 {
		r, p.free = p.free[k-1], p.free[:k-1]
	} else {
		r = &record{}
	}
	r.path, r.zxid = path, zxid
	if s == nil {
		r.gone = true
	} else {
		r.state = *s
		if owner, ok := p.ephemeralOwner(s); ok {
			set := p.ephemerals[owner]
			if set == nil {
				set = map[*record]struct{}{}
				p.ephemerals[owner] = set
			}
			set[r] = struct{}{}
		}
	}
	p.undo = append(p.undo, undo{path, p.byPath[path]})
	p.byPath[path] = r
	p.pending.push(r)
}

func (p *Prep) putSession(s sessionChange) {
	p.sessions.push(s)
	p.bySession[s.id] = s
}

// putDelete remembers that a znode is gone, which exists.
func (p *Prep) putDelete(path string, zxid zab.Zxid) {
	var parent, n state
	parentPath, _, _ := splitPath(path)
	p.lookup(parentPath, &parent)
	p.lookup(path, &n)
	old := parent
	parent.children--
	parent.stat.Pzxid = max(parent.stat.Pzxid, zxid)
	kept := strings.Clone(path)
	p.put(kept[:len(parentPath)], zxid, &old, &parent)
	p.put(kept, zxid, &n, nil)
}

// rollback takes back what this call of Prepare remembered since mark, of nodes
// and of their parents alike: else a failed multi would use up sequence numbers.
func (p *Prep) rollback(mark int, digest uint64) {
	for len(p.undo) > mark {
		u := p.undo[len(p.undo)-1]
		p.undo = p.undo[:len(p.undo)-1]
		if u.prev == nil {
			delete(p.byPath, u.path)
		} else {
			p.byPath[u.path] = u.prev
		}
		p.drop(p.pending.popLast())
	}
	p.digest = digest
}

// keepACL returns a copy of a list that does not alias the request.
func (p *Prep) keepACL(acl []wire.ACL) []wire.ACL {
	var shared []wire.ACL
	if shared, p.scratch = p.t.acls.lookup(acl, p.scratch); shared == nil {
		shared = newACLEntry(0, p.scratch).list
	}
	return shared
}

// txnSize returns the encoded length of a transaction with the given body.
func txnSize(body wire.Record) int {
	const frame = 32 + 12 // header and digest
	switch b := body.(type) {
	case *wire.CreateTxn:
		return frame + 4 + len(b.Path) + 4 + len(b.Data) + aclSize(b.ACL) + 13
	case *wire.SetDataTxn:
		return frame + 4 + len(b.Path) + 4 + len(b.Data) + 4
	case *wire.SetACLTxn:
		return frame + 4 + len(b.Path) + aclSize(b.ACL) + 4
	case *wire.PathRecord:
		return frame + 4 + len(b.Path)
	case *wire.PathVersion:
		return frame + 8 + len(b.Path)
	case *wire.PathsRecord:
		size := frame + 4
		for _, path := range b.Paths {
			size += 4 + len(path)
		}
		return size
	case *wire.MultiTxn:
		size := frame + 4
		for _, sub := range b.Txns {
			size += 8 + txnSize(sub.Body) - frame
		}
		return size
	}
	return frame + 4
}

func aclSize(acl []wire.ACL) int {
	size := 4
	for i := range acl {
		size += 12 + len(acl[i].ID.Scheme) + len(acl[i].ID.ID)
	}
	return size
}
