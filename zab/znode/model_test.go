package znode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// model is a tree that is too simple to be wrong: a map of paths, and requests
// carried out at once, written down from the reference's tables.
type model struct {
	nodes    map[string]*mnode // the root is ""
	sessions map[zab.SessionID]bool
	extended bool
}

type mnode struct {
	data []byte
	acl  []wire.ACL
	st   wire.StatPersisted
}

func newModel(extended bool) *model {
	m := &model{nodes: map[string]*mnode{}, sessions: map[zab.SessionID]bool{}, extended: extended}
	for _, path := range []string{"", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"} {
		m.nodes[path] = &mnode{data: []byte{}, acl: wire.OpenACL()}
	}
	m.nodes["/zookeeper/config"].acl = []wire.ACL{{Perms: 1, ID: wire.ID{Scheme: "world", ID: "anyone"}}}
	m.nodes["/zookeeper/config"].st.Aversion = -1
	return m
}

func (m *model) copy() *model {
	c := &model{nodes: map[string]*mnode{}, sessions: map[zab.SessionID]bool{}, extended: m.extended}
	for path, n := range m.nodes {
		d := *n
		c.nodes[path] = &d
	}
	for id := range m.sessions {
		c.sessions[id] = true
	}
	return c
}

func (m *model) children(path string) (names []string) {
	for p := range m.nodes {
		if rest, ok := strings.CutPrefix(p, path+"/"); ok && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

func (m *model) may(n *mnode, perm wire.Perms, ids []wire.ID) bool {
	for _, a := range n.acl {
		if a.Perms&perm == 0 {
			continue
		}
		if a.ID.Scheme == "world" || slices.Contains(ids, a.ID) {
			return true
		}
	}
	return false
}

func rootName(path string) string {
	if path == "/" {
		return ""
	}
	return path
}

// do carries out one request and returns the path that it was about.
func (m *model) do(op wire.Op, body wire.Record, req *Request, zxid zab.Zxid, now int64) (string, wire.Code) {
	if op != wire.OpDeleteContainer && !m.sessions[req.Session] {
		return "", wire.ErrSessionExpired
	}
	switch b := body.(type) {
	case *wire.CreateRequest:
		i := strings.LastIndex(b.Path, "/")
		if i < 0 {
			return "", wire.ErrBadArguments
		}
		parent := m.nodes[rootName(b.Path[:i])]
		if parent == nil {
			return "", wire.ErrNoNode
		}
		if !m.may(parent, wire.PermCreate, req.IDs) {
			return "", wire.ErrNoAuth
		}
		path := b.Path
		if b.Mode.IsSequential() {
			path += fmt.Sprintf("%010d", parent.st.Cversion)
		}
		if path == "/" {
			return "", wire.ErrNodeExists
		}
		if path[i+1:] == "" || strings.Contains(path, "//") {
			return "", wire.ErrBadArguments
		}
		if m.nodes[path] != nil {
			return "", wire.ErrNodeExists
		}
		if o := parent.st.EphemeralOwner; o != 0 && o != -1<<63 && uint64(o)>>56 != 0xff {
			return "", wire.ErrNoChildrenForEphemerals
		}
		parent.st.Cversion++
		parent.st.Pzxid = zxid
		n := &mnode{data: bytes.Clone(b.Data), acl: slices.Clone(b.ACL)}
		n.st = wire.StatPersisted{Czxid: zxid, Mzxid: zxid, Pzxid: zxid, Ctime: now, Mtime: now}
		switch {
		case b.Mode == wire.Container:
			n.st.EphemeralOwner = -1 << 63
		case b.Mode.IsTTL():
			n.st.EphemeralOwner = -1<<56 + b.TTLMs
		case b.Mode.IsEphemeral():
			n.st.EphemeralOwner = int64(req.Session)
		}
		m.nodes[path] = n
		return path, wire.OK
	case *wire.PathVersion:
		n := m.nodes[rootName(b.Path)]
		if op == wire.OpCheck {
			switch {
			case n == nil:
				return "", wire.ErrNoNode
			case !m.may(n, wire.PermRead, req.IDs):
				return "", wire.ErrNoAuth
			case b.Version != -1 && b.Version != n.st.Version:
				return "", wire.ErrBadVersion
			}
			return b.Path, wire.OK
		}
		if slices.Contains([]string{"/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}, b.Path) {
			return "", wire.ErrBadArguments
		}
		parent := m.nodes[b.Path[:strings.LastIndex(b.Path, "/")]]
		switch {
		case parent == nil:
			return "", wire.ErrNoNode
		case !m.may(parent, wire.PermDelete, req.IDs):
			return "", wire.ErrNoAuth
		case n == nil:
			return "", wire.ErrNoNode
		case b.Version != -1 && b.Version != n.st.Version:
			return "", wire.ErrBadVersion
		case len(m.children(b.Path)) > 0:
			return "", wire.ErrNotEmpty
		}
		m.remove(b.Path, zxid)
		return b.Path, wire.OK
	case *wire.PathRecord: // deleteContainer
		n := m.nodes[b.Path]
		switch {
		case b.Path == "/" || b.Path == "/zookeeper":
			return "", wire.ErrBadArguments
		case n == nil:
			return "", wire.ErrNoNode
		case len(m.children(b.Path)) > 0:
			return "", wire.ErrNotEmpty
		}
		container := n.st.EphemeralOwner == -1<<63 && n.st.Cversion > 0
		ttl := uint64(n.st.EphemeralOwner)>>56 == 0xff && now-n.st.Mtime > n.st.EphemeralOwner&(1<<40-1)
		if !container && !ttl {
			return "", wire.ErrBadVersion
		}
		m.remove(b.Path, zxid)
		return b.Path, wire.OK
	case *wire.SetDataRequest:
		n := m.nodes[rootName(b.Path)]
		switch {
		case n == nil:
			return "", wire.ErrNoNode
		case !m.may(n, wire.PermWrite, req.IDs):
			return "", wire.ErrNoAuth
		case b.Version != -1 && b.Version != n.st.Version:
			return "", wire.ErrBadVersion
		}
		n.data = bytes.Clone(b.Data)
		n.st.Version++
		n.st.Mzxid, n.st.Mtime = zxid, now
		return b.Path, wire.OK
	case *wire.SetACLRequest:
		n := m.nodes[rootName(b.Path)]
		switch {
		case n == nil:
			return "", wire.ErrNoNode
		case !m.may(n, wire.PermAdmin, req.IDs):
			return "", wire.ErrNoAuth
		case b.Version != -1 && b.Version != n.st.Aversion:
			return "", wire.ErrBadVersion
		}
		n.acl = slices.Clone(b.ACL)
		n.st.Aversion++
		return b.Path, wire.OK
	}
	panic(op)
}

func (m *model) remove(path string, zxid zab.Zxid) {
	delete(m.nodes, path)
	m.nodes[path[:strings.LastIndex(path, "/")]].st.Pzxid = zxid
}

func (m *model) closeSession(id zab.SessionID, zxid zab.Zxid) {
	for path, n := range m.nodes {
		if n.st.EphemeralOwner == int64(id) {
			m.remove(path, zxid)
		}
	}
	delete(m.sessions, id)
}

// digest is written down from the definition.
func (m *model) digest() (sum uint64) {
	for path, n := range m.nodes {
		if strings.HasPrefix(path, "/zookeeper/") {
			continue
		}
		s := n.st
		b := append([]byte(path), n.data...)
		for _, v := range []int64{int64(s.Czxid), int64(s.Mzxid), int64(s.Pzxid), s.Ctime, s.Mtime} {
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		}
		for _, v := range []int32{s.Version, s.Cversion, s.Aversion} {
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		}
		b = binary.BigEndian.AppendUint64(b, uint64(s.EphemeralOwner))
		sum += uint64(crc32.ChecksumIEEE(b))
	}
	return sum
}

// dumpNode is all there is to know of a node.
type dumpNode struct {
	data string
	null bool
	acl  string
	st   wire.StatPersisted
	kids int
}

func (m *model) dump() map[string]dumpNode {
	d := map[string]dumpNode{}
	for path, n := range m.nodes {
		d[path] = dumpNode{string(n.data), n.data == nil, fmt.Sprint(n.acl), n.st, 0}
	}
	for path := range d {
		if i := strings.LastIndex(path, "/"); i >= 0 {
			p := d[path[:i]]
			p.kids++
			d[path[:i]] = p
		}
	}
	return d
}

// dump reads a tree and checks its indexes on the way.
func dump(t *testing.T, tr *Tree) map[string]dumpNode {
	t.Helper()
	d := map[string]dumpNode{}
	var size int64
	var digest uint64
	refs := map[*aclEntry]int{}
	owned := 0
	var visit func(n *node)
	visit = func(n *node) {
		path := string(n.appendPath(nil))
		if tr.lookup(path) != n {
			t.Fatalf("lookup(%q) does not find the node", path)
		}
		d[path] = dumpNode{string(n.data()), n.data() == nil, fmt.Sprint(n.acl.list), n.persisted(), int(n.numChildren())}
		size += int64(len(path) + n.dataLen())
		digest += tr.digestOf(n)
		refs[n.acl]++
		switch ownerKind(n.owner, tr.cfg.ExtendedTypes) {
		case kindEphemeral:
			if _, ok := tr.ephemerals[zab.SessionID(n.owner)][n]; !ok {
				t.Fatalf("%s is not among the ephemerals of %d", path, n.owner)
			}
			owned++
		case kindContainer:
			if _, ok := tr.containers[n]; !ok {
				t.Fatalf("%s is not among the containers", path)
			}
			owned++
		case kindTTL:
			if _, ok := tr.ttls[n]; !ok {
				t.Fatalf("%s is not among the TTL znodes", path)
			}
			owned++
		}
		if n.kids != nil {
			kids := n.kids.gather(nil)
			if len(kids) != n.kids.n || len(kids) == 0 {
				t.Fatalf("%s: %d children, counted %d", path, len(kids), n.kids.n)
			}
			for _, c := range kids {
				if c.parent != n {
					t.Fatalf("%s: child %s has another parent", path, c.name())
				}
				visit(c)
			}
		}
	}
	visit(tr.root)
	indexed := len(tr.containers) + len(tr.ttls)
	for id, set := range tr.ephemerals {
		if len(set) == 0 {
			t.Errorf("session %v has an empty set of ephemerals", id)
		}
		indexed += len(set)
	}
	if indexed != owned {
		t.Errorf("%d nodes in the indexes of owners, want %d", indexed, owned)
	}
	if tr.nodes != len(d) || tr.size != size || tr.digest != digest {
		t.Errorf("the tree counts %d nodes, %d bytes, digest %#x; want %d, %d, %#x", tr.nodes, tr.size, tr.digest, len(d), size, digest)
	}
	for e, want := range refs {
		if e.key > 0 && (e.refs != want || tr.acls.byEnc[e.enc] != e) {
			t.Errorf("ACL list %d counts %d uses, want %d", e.key, e.refs, want)
		}
	}
	for _, e := range tr.acls.byEnc {
		if refs[e] == 0 {
			t.Errorf("ACL list %d is not in use", e.key)
		}
	}
	return d
}

func diffDumps(t *testing.T, what string, got, want map[string]dumpNode) {
	t.Helper()
	for path, w := range want {
		if g, ok := got[path]; !ok || g != w {
			t.Errorf("%s: %q = %+v (found %v), want %+v", what, path, g, ok, w)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %q should not be there", what, path)
		}
	}
}

// ops makes random requests about few paths, so that they meet.
type ops struct {
	rng   *rand.Rand
	now   int64
	names int // per level
}

var testIDs = []wire.ID{{Scheme: "digest", ID: "u:aaa"}, {Scheme: "digest", ID: "v:bbb"}}

func (o *ops) path() string {
	path := ""
	for range 1 + o.rng.IntN(3) {
		path += fmt.Sprint("/", o.rng.IntN(o.names))
	}
	switch o.rng.IntN(40) {
	case 0:
		return "/"
	case 1:
		return "/zookeeper"
	case 2:
		return "/zookeeper/x"
	}
	return path
}

func (o *ops) data() []byte {
	switch n := o.rng.IntN(12); n {
	case 0:
		return nil
	default:
		return bytes.Repeat([]byte{byte('a' + n)}, n-1)
	}
}

func (o *ops) acl() []wire.ACL {
	switch o.rng.IntN(10) {
	case 0:
		return []wire.ACL{{Perms: wire.Perms(o.rng.IntN(32)), ID: testIDs[0]}, {Perms: wire.PermAll, ID: testIDs[1]}}
	case 1:
		return []wire.ACL{{Perms: wire.PermAll &^ wire.Perms(1<<o.rng.IntN(5)), ID: wire.ID{Scheme: "world", ID: "anyone"}}}
	}
	return wire.OpenACL()
}

func (o *ops) version() int32 { return int32(o.rng.IntN(6)) - 3 }

func (o *ops) single() (wire.Op, wire.Record) {
	switch o.rng.IntN(12) {
	case 0, 1, 2, 3, 4:
		r := &wire.CreateRequest{Path: o.path(), Data: o.data(), ACL: o.acl(), Mode: wire.CreateMode(o.rng.IntN(7)), TTLMs: -1}
		op := []wire.Op{wire.OpCreate, wire.OpCreate2}[o.rng.IntN(2)]
		switch {
		case r.Mode == wire.Container:
			op = wire.OpCreateContainer
		case r.Mode.IsTTL():
			op, r.TTLMs = wire.OpCreateTTL, 1+o.rng.Int64N(200)
		case r.Mode.IsSequential() && o.rng.IntN(2) == 0:
			r.Path += "/"
		}
		return op, r
	case 5, 6, 7:
		return wire.OpDelete, &wire.PathVersion{Path: o.path(), Version: min(o.version(), 0)}
	case 8, 9:
		return wire.OpSetData, &wire.SetDataRequest{Path: o.path(), Data: o.data(), Version: min(o.version(), 1)}
	case 10:
		return wire.OpCheck, &wire.PathVersion{Path: o.path(), Version: o.version()}
	}
	return wire.OpSetACL, &wire.SetACLRequest{Path: o.path(), ACL: o.acl(), Version: min(o.version(), 1)}
}

func (o *ops) request() *Request {
	req := &Request{Session: zab.SessionID(1 + o.rng.IntN(4)), Cxid: int32(o.rng.IntN(1000))}
	if o.rng.IntN(3) > 0 {
		req.IDs = testIDs[:1+o.rng.IntN(2)]
	}
	switch o.rng.IntN(30) {
	case 0:
		req.Op, req.Body = wire.OpCreateSession, &wire.IntRecord{Value: 4000}
	case 1:
		req.Op = wire.OpCloseSession
	case 2, 3:
		req.Session, req.Op, req.Body = 0, wire.OpDeleteContainer, &wire.PathRecord{Path: o.path()}
	case 4, 5, 6, 7, 8:
		multi := &wire.MultiRequest{}
		for range o.rng.IntN(5) {
			op, body := o.single()
			if op == wire.OpSetACL {
				continue // not in a multi
			}
			multi.Ops = append(multi.Ops, wire.MultiOp{Op: op, Record: body})
		}
		req.Op, req.Body = wire.OpMulti, multi
	default:
		for req.Op, req.Body = o.single(); req.Op == wire.OpCheck; {
			req.Op, req.Body = o.single()
		}
	}
	return req
}

// world is a tree with its prep, and the model beside it.
type world struct {
	t     *testing.T
	tree  *Tree
	prep  *Prep
	model *model
	ops   *ops
	zxid  zab.Zxid
	queue []*wire.Txn // prepared, not applied
}

func newWorld(t *testing.T, seed uint64) *world {
	cfg := Config{Digest: true, ExtendedTypes: true}
	tr := New(cfg)
	return &world{
		t: t, tree: tr, prep: NewPrep(tr), model: newModel(true),
		ops: &ops{rng: rand.New(rand.NewPCG(seed, 2)), now: 1_000_000, names: 4},
	}
}

// step prepares one request and checks the transaction against the model.
func (w *world) step() {
	req := w.ops.request()
	w.zxid++
	w.ops.now += int64(w.ops.rng.IntN(10))
	if w.ops.rng.IntN(50) == 0 {
		w.ops.now -= 5 // wall clocks go back
	}
	want := wire.OK
	var path string
	var multi []wire.Code
	switch req.Op {
	case wire.OpCreateSession:
		w.model.sessions[req.Session] = true
	case wire.OpCloseSession:
		w.model.closeSession(req.Session, w.zxid)
	case wire.OpMulti:
		if !w.model.sessions[req.Session] {
			want = wire.ErrSessionExpired
			break
		}
		before := w.model.copy()
		for i, op := range req.Body.(*wire.MultiRequest).Ops {
			_, code := w.model.do(op.Op, op.Record, req, w.zxid, w.ops.now)
			multi = append(multi, code)
			if code != wire.OK {
				w.model = before
				for range req.Body.(*wire.MultiRequest).Ops[i+1:] {
					multi = append(multi, wire.ErrRuntimeInconsistency)
				}
				break
			}
		}
	default:
		path, want = w.model.do(req.Op, req.Body, req, w.zxid, w.ops.now)
	}

	txn := &wire.Txn{}
	w.prep.Prepare(req, w.zxid, w.ops.now, txn)
	got := wire.OK
	if txn.Header.Type == wire.OpFailed {
		got = wire.Code(txn.Body.(*wire.IntRecord).Value)
	}
	if got != want {
		w.t.Fatalf("zxid %v: %v %+v: %v, want %v", w.zxid, req.Op, req.Body, got, want)
	}
	if c, ok := txn.Body.(*wire.CreateTxn); ok && c.Path != path {
		w.t.Fatalf("zxid %v: created %q, want %q", w.zxid, c.Path, path)
	}
	if m, ok := txn.Body.(*wire.MultiTxn); ok {
		for i, sub := range m.Txns {
			code := wire.OK
			if sub.Type == wire.OpFailed {
				code = wire.Code(sub.Body.(*wire.IntRecord).Value)
			}
			if code != multi[i] {
				w.t.Fatalf("zxid %v: operation %d of %+v: %v, want %v", w.zxid, i, req.Body, code, multi[i])
			}
		}
	}
	if txn.Header.Type != wire.OpFailed && txn.Digest.Tree != w.model.digest() {
		w.t.Fatalf("zxid %v: %v %+v: digest %#x, want %#x", w.zxid, req.Op, req.Body, txn.Digest.Tree, w.model.digest())
	}
	// As from the log: nothing may depend on memory that Prep and Apply share.
	b := txn.Append(nil)
	d := wire.NewAliasDecoder(b)
	again := &wire.Txn{}
	again.Decode(&d)
	if d.Err() != nil || d.Len() != 0 {
		w.t.Fatalf("zxid %v: %v, %d bytes left", w.zxid, d.Err(), d.Len())
	}
	if size := txnSize(txn.Body); req.Op != wire.OpMulti && (size < len(b) || size > len(b)+13+12) {
		w.t.Fatalf("zxid %v: txnSize %d, encoded %d", w.zxid, size, len(b))
	}
	w.queue = append(w.queue, again)
}

func (w *world) apply(n int) {
	var r Result
	for range min(n, len(w.queue)) {
		txn := w.queue[0]
		w.queue = w.queue[1:]
		w.tree.Apply(txn, &r)
		want := wire.OK
		if txn.Header.Type == wire.OpFailed {
			want = wire.Code(txn.Body.(*wire.IntRecord).Value)
		}
		if r.Err != want || r.DigestMismatch {
			w.t.Fatalf("%v: Apply gives %v, digest mismatch %v", txn.Header, r.Err, r.DigestMismatch)
		}
		w.prep.Applied(txn.Header.Zxid)
	}
}

func TestTreeAgainstAModel(t *testing.T) {
	for seed := range uint64(25) {
		w := newWorld(t, seed)
		ahead := 1 + w.ops.rng.IntN(30)
		for range 1500 {
			w.step()
			if len(w.queue) >= ahead {
				w.apply(1 + w.ops.rng.IntN(ahead))
			}
		}
		w.apply(len(w.queue))
		if n := w.prep.Pending(); n != 0 || len(w.prep.byPath) != 0 || len(w.prep.ephemerals) != 0 || len(w.prep.bySession) != 0 {
			t.Fatalf("seed %d: %d records pending, %d paths", seed, n, len(w.prep.byPath))
		}
		diffDumps(t, fmt.Sprint("seed ", seed), dump(t, w.tree), w.model.dump())
		for path := range w.model.nodes {
			names, st, code := w.tree.Children(path, []wire.ID{{Scheme: "super"}})
			want := w.model.children(path)
			if code != wire.OK || !slices.Equal(names, want) || int(st.NumChildren) != len(want) {
				t.Errorf("seed %d: Children(%s) = %v, %v, want %v", seed, path, names, code, want)
			}
			below := 0
			for p := range w.model.nodes {
				if strings.HasPrefix(p, path+"/") {
					below++
				}
			}
			if n, code := w.tree.AllChildrenNumber(path, []wire.ID{{Scheme: "super"}}); int(n) != below || code != wire.OK {
				t.Errorf("seed %d: AllChildrenNumber(%s) = %d, %v, want %d", seed, path, n, code, below)
			}
		}
		var sessions []zab.SessionID
		for _, s := range w.tree.Sessions() {
			sessions = append(sessions, s.ID)
			if !w.model.sessions[s.ID] {
				t.Errorf("seed %d: session %v is there", seed, s.ID)
			}
			var want []string
			for path, n := range w.model.nodes {
				if n.st.EphemeralOwner == int64(s.ID) {
					want = append(want, path)
				}
			}
			slices.Sort(want)
			if got := w.tree.Ephemerals(s.ID, ""); !reflect.DeepEqual(got, want) {
				t.Errorf("seed %d: Ephemerals(%v) = %v, want %v", seed, s.ID, got, want)
			}
		}
		if len(sessions) != len(w.model.sessions) || !slices.IsSorted(sessions) {
			t.Errorf("seed %d: sessions %v, want %v", seed, sessions, w.model.sessions)
		}
		if t.Failed() {
			return
		}
	}
}

// load builds a tree from a frozen one's parts.
func load(t *testing.T, cfg Config, f *Frozen, chunks []byte) *Tree {
	t.Helper()
	b := NewBuilder(cfg)
	for _, s := range f.Sessions {
		b.AddSession(s.ID, s.TimeoutMs)
	}
	for _, a := range f.ACLs {
		b.AddACL(a.Key, a.ACL)
	}
	d := wire.NewAliasDecoder(bytes.Clone(chunks))
	for d.Len() > 0 {
		path, data, key := d.String(), d.Buffer(), d.Long()
		var st wire.StatPersisted
		st.Decode(&d)
		if d.Err() != nil {
			t.Fatal(d.Err())
		}
		if err := b.AddNode(path, data, key, &st); err != nil {
			t.Fatal(err)
		}
	}
	if b.UnknownACLs() != 0 {
		t.Errorf("%d unknown ACL lists", b.UnknownACLs())
	}
	tr, err := b.Finish(f.Zxid)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
