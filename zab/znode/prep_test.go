package znode

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// rig prepares requests of session 1 against a small tree, and applies them on
// demand.
type rig struct {
	t    *testing.T
	tree *Tree
	prep *Prep
	zxid zab.Zxid
	ids  []wire.ID
	txn  wire.Txn
	res  Result
}

func newRig(t *testing.T, cfg Config) *rig {
	cfg.Digest = true
	tr := New(cfg)
	g := &rig{t: t, tree: tr, prep: NewPrep(tr), ids: []wire.ID{{Scheme: "ip", ID: "127.0.0.1"}, {Scheme: "digest", ID: "u:hash"}}}
	g.must(wire.OpCreateSession, &wire.IntRecord{Value: 4000})
	return g
}

func (g *rig) request(op wire.Op, body wire.Record) *Request {
	return &Request{Session: 1, Cxid: 5, Op: op, Body: body, IDs: g.ids}
}

// prepare returns the code that the request got; the transaction is in g.txn.
func (g *rig) prepare(req *Request) wire.Code {
	g.zxid++
	g.txn = wire.Txn{}
	g.prep.Prepare(req, g.zxid, 1000*int64(g.zxid), &g.txn)
	if h := g.txn.Header; h.Zxid != g.zxid || h.Session != req.Session || h.Cxid != req.Cxid || h.TimeMs != 1000*int64(g.zxid) {
		g.t.Errorf("header %+v", h)
	}
	if g.txn.Header.Type == wire.OpFailed {
		if g.txn.Digest != (wire.Digest{}) {
			g.t.Error("a refusal carries a digest")
		}
		return wire.Code(g.txn.Body.(*wire.IntRecord).Value)
	}
	return wire.OK
}

func (g *rig) apply() {
	g.tree.Apply(&g.txn, &g.res)
	g.prep.Applied(g.zxid)
	if g.res.DigestMismatch {
		g.t.Errorf("%v: digest mismatch", g.txn.Header)
	}
}

func (g *rig) must(op wire.Op, body wire.Record) {
	g.t.Helper()
	if code := g.prepare(g.request(op, body)); code != wire.OK {
		g.t.Fatalf("%v %+v: %v", op, body, code)
	}
	g.apply()
	if g.res.Err != wire.OK {
		g.t.Fatalf("%v %+v: applied: %v", op, body, g.res.Err)
	}
}

func create(path string, mode wire.CreateMode, perms wire.Perms) *wire.CreateRequest {
	return &wire.CreateRequest{Path: path, Data: []byte("d"), ACL: []wire.ACL{{Perms: perms, ID: wire.ID{Scheme: "world", ID: "anyone"}}}, Mode: mode, TTLMs: -1}
}

func ttl(path string, mode wire.CreateMode, ttlMs int64) *wire.CreateRequest {
	r := create(path, mode, wire.PermAll)
	r.TTLMs = ttlMs
	return r
}

// Where two faults meet, the one that is looked at first is the answer.
func TestRefusalsComeInZooKeepersOrder(t *testing.T) {
	const (
		all                                                             = wire.PermAll
		badArguments, unimplemented, noNode, noAuth, exists, badVersion = wire.ErrBadArguments, wire.ErrUnimplemented, wire.ErrNoNode, wire.ErrNoAuth, wire.ErrNodeExists, wire.ErrBadVersion
	)
	acl := func(scheme, id string) []wire.ACL {
		return []wire.ACL{{Perms: all, ID: wire.ID{Scheme: scheme, ID: id}}}
	}
	withACL := func(path string, list []wire.ACL) *wire.CreateRequest {
		return &wire.CreateRequest{Path: path, ACL: list, TTLMs: -1}
	}
	for _, tc := range []struct {
		op   wire.Op
		body wire.Record
		want wire.Code
	}{
		// create: mode, TTL switch, TTL, path, ACL, parent, permission, path, exists, ephemeral parent
		{wire.OpCreate, create("bad", 7, all), badArguments},
		{wire.OpCreate, create("/n", -1, all), badArguments},
		{wire.OpCreate, create("/n", wire.PersistentTTL, all), badArguments},
		{wire.OpCreate, create("/n", wire.Container, all), badArguments},
		{wire.OpCreate2, create("/n", wire.Container, all), badArguments},
		{wire.OpCreateContainer, create("/n", wire.Persistent, all), badArguments},
		{wire.OpCreateTTL, ttl("/n", wire.Persistent, -1), badArguments},
		{wire.OpCreateTTL, ttl("/n", wire.Persistent, 5), badArguments},
		{wire.OpCreateTTL, ttl("/n", wire.PersistentTTL, 0), badArguments},
		{wire.OpCreateTTL, ttl("/n", wire.PersistentTTL, MaxTTLMs+1), badArguments},
		{wire.OpCreateTTL, ttl("/n", wire.PersistentTTL, MaxTTLMs), wire.OK},
		{wire.OpCreateTTL, ttl("/n", wire.PersistentSequentialTTL, 1), wire.OK},
		{wire.OpCreateContainer, create("/n", wire.Container, all), wire.OK},
		{wire.OpCreate, withACL("noslash", nil), badArguments},
		{wire.OpCreate, withACL("/none/\x00", nil), badArguments},
		{wire.OpCreate, withACL("/none/x", nil), wire.ErrInvalidACL},
		{wire.OpCreate, withACL("/none/x", acl("", "")), wire.ErrInvalidACL},
		{wire.OpCreate, withACL("/none/x", acl("world", "someone")), wire.ErrInvalidACL},
		{wire.OpCreate, withACL("/none/x", acl("super", "")), wire.ErrInvalidACL},
		{wire.OpCreate, withACL("/none/x", acl("ensemble", "x")), wire.ErrInvalidACL},
		{wire.OpCreate, withACL("/none/x", acl("auth", "")), noNode},
		{wire.OpCreate, create("/none/x//", 0, all), noNode},
		{wire.OpCreate, create("/a/", 0, all), badArguments},
		{wire.OpCreate, create("/q/", 0, all), noNode},
		{wire.OpCreate, create("/a/", wire.PersistentSequential, all), wire.OK},
		{wire.OpCreate, create("/shut/..", 0, all), noAuth},
		{wire.OpCreate, create("/a/..", 0, all), badArguments},
		{wire.OpCreate, create("/a/b", 0, all), exists},
		{wire.OpCreate, create("/", 0, all), exists},
		{wire.OpCreate, create("/e/x", 0, all), wire.ErrNoChildrenForEphemerals},
		{wire.OpCreate, create("/e/.", 0, all), badArguments},
		{wire.OpCreate, create("/zookeeper/x", 0, all), wire.OK},
		{wire.OpCreate, create("/zookeeper/config/x", 0, all), noAuth},

		// delete: path, parent, permission of the parent, node, version, children
		{wire.OpDelete, &wire.PathVersion{Path: "x"}, badArguments},
		{wire.OpDelete, &wire.PathVersion{Path: "/x\x00"}, badArguments},
		{wire.OpDelete, &wire.PathVersion{Path: "/"}, badArguments},
		{wire.OpDelete, &wire.PathVersion{Path: "/zookeeper"}, badArguments},
		{wire.OpDelete, &wire.PathVersion{Path: "/zookeeper/quota"}, badArguments},
		{wire.OpDelete, &wire.PathVersion{Path: "/zookeeper/config"}, badArguments},
		{wire.OpDelete, &wire.PathVersion{Path: "/none/x"}, noNode},
		{wire.OpDelete, &wire.PathVersion{Path: "/shut/none"}, noAuth},
		{wire.OpDelete, &wire.PathVersion{Path: "/none"}, noNode},
		{wire.OpDelete, &wire.PathVersion{Path: "/a/"}, noNode},
		{wire.OpDelete, &wire.PathVersion{Path: "/a", Version: 3}, badVersion},
		{wire.OpDelete, &wire.PathVersion{Path: "/a", Version: -2}, badVersion},
		{wire.OpDelete, &wire.PathVersion{Path: "/a", Version: -1}, wire.ErrNotEmpty},
		{wire.OpDelete, &wire.PathVersion{Path: "/a", Version: 0}, wire.ErrNotEmpty},
		{wire.OpDelete, &wire.PathVersion{Path: "/a/b", Version: 0}, wire.OK},
		{wire.OpDelete, &wire.PathVersion{Path: "/zookeeper/own", Version: -1}, wire.OK},

		// setData: path, node, permission, version
		{wire.OpSetData, &wire.SetDataRequest{Path: ""}, badArguments},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/none/"}, badArguments},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/none"}, noNode},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/shut", Version: 5}, noAuth},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/a", Version: 5}, badVersion},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/a", Version: -1}, wire.OK},
		{wire.OpSetData, &wire.SetDataRequest{Path: "/", Version: -1}, wire.OK},

		// setACL: path, ACL, node, permission, version
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/none/"}, badArguments},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/none"}, wire.ErrInvalidACL},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/none", ACL: wire.OpenACL()}, noNode},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/shut", ACL: wire.OpenACL(), Version: 5}, noAuth},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/a", ACL: wire.OpenACL(), Version: 5}, badVersion},
		{wire.OpSetACL, &wire.SetACLRequest{Path: "/a", ACL: wire.OpenACL(), Version: 0}, wire.OK},

		{wire.OpDeleteContainer, &wire.PathRecord{Path: "/a"}, wire.ErrNotEmpty},
		{wire.OpDeleteContainer, &wire.PathRecord{Path: "/e"}, badVersion},
		{wire.OpDeleteContainer, &wire.PathRecord{Path: "/shut"}, badVersion},
		{wire.OpDeleteContainer, &wire.PathRecord{Path: "/none"}, noNode},
		{wire.OpCheck, &wire.PathVersion{Path: "/a", Version: -1}, unimplemented},
		{wire.OpReconfig, &wire.ReconfigRequest{}, unimplemented},
		{wire.OpGetData, &wire.PathWatch{Path: "/a"}, unimplemented},
	} {
		g := newRig(t, Config{ExtendedTypes: true})
		g.must(wire.OpCreate, create("/a", 0, all))
		g.must(wire.OpCreate, create("/a/b", 0, all))
		g.must(wire.OpCreate, create("/e", wire.Ephemeral, all))
		g.must(wire.OpCreate, create("/shut", 0, 0))
		g.must(wire.OpCreate, create("/zookeeper/own", 0, all))
		if got := g.prepare(g.request(tc.op, tc.body)); got != tc.want {
			t.Errorf("%v %+v: %v, want %v", tc.op, tc.body, got, tc.want)
		}
		g.apply()
		if g.res.Err != tc.want {
			t.Errorf("%v %+v: applied: %v, want %v", tc.op, tc.body, g.res.Err, tc.want)
		}
	}
}

func TestTTLNeedsExtendedTypes(t *testing.T) {
	g := newRig(t, Config{})
	for _, op := range []wire.Op{wire.OpCreateTTL, wire.OpCreate} {
		if got := g.prepare(g.request(op, ttl("bad", wire.PersistentTTL, -7))); got != wire.ErrUnimplemented {
			t.Errorf("%v: %v, want %v", op, got, wire.ErrUnimplemented)
		}
	}
}

func TestSessionDecidesBeforeThePath(t *testing.T) {
	g := newRig(t, Config{})
	req := g.request(wire.OpDelete, &wire.PathVersion{Path: "bad"})
	req.Session = 99
	if got := g.prepare(req); got != wire.ErrSessionExpired {
		t.Errorf("unknown session: %v", got)
	}
	req.Refuse = wire.ErrSessionMoved
	if got := g.prepare(req); got != wire.ErrSessionMoved {
		t.Errorf("moved session: %v", got)
	}
	// The mode of a create comes before the session.
	req = g.request(wire.OpCreate, create("/x", 9, 31))
	req.Refuse = wire.ErrSessionMoved
	if got := g.prepare(req); got != wire.ErrBadArguments {
		t.Errorf("bad mode of a moved session: %v", got)
	}
	if got := g.prepare(&Request{Session: 1, Op: wire.OpDelete, BadBody: wire.ErrMarshalling}); got != wire.ErrMarshalling {
		t.Errorf("undecodable: %v", got)
	}
	req = g.request(wire.OpReconfig, nil)
	req.Refuse = wire.ErrReconfigDisabled
	if got := g.prepare(req); got != wire.ErrReconfigDisabled {
		t.Errorf("reconfig: %v", got)
	}

	// A session that a transaction on its way opens may write, one that such a
	// transaction closes may not, not even with a multi.
	g.prepare(&Request{Session: 2, Op: wire.OpCreateSession, Body: &wire.IntRecord{Value: 1}})
	req = g.request(wire.OpCreate, create("/e", wire.Ephemeral, 31))
	req.Session = 2
	if got := g.prepare(req); got != wire.OK {
		t.Errorf("session on its way: %v", got)
	}
	g.prepare(&Request{Session: 2, Op: wire.OpCloseSession})
	if got := g.txn.Body.(*wire.PathsRecord).Paths; len(got) != 1 || got[0] != "/e" {
		t.Errorf("closeSession lists %q", got)
	}
	if got := g.prepare(req); got != wire.ErrSessionExpired {
		t.Errorf("closing session: %v", got)
	}
	req.Op, req.Body = wire.OpMulti, &wire.MultiRequest{}
	if got := g.prepare(req); got != wire.ErrSessionExpired {
		t.Errorf("closing session, multi: %v", got)
	}
}

func TestLocalSessionsMakeNoEphemerals(t *testing.T) {
	g := newRig(t, Config{LocalSessions: true})
	for mode, want := range map[wire.CreateMode]wire.Code{wire.Persistent: wire.OK, wire.Ephemeral: wire.ErrSessionExpired} {
		req := g.request(wire.OpCreate, create("/x", mode, 31))
		req.Session = 77
		if got := g.prepare(req); got != want {
			t.Errorf("mode %d: %v, want %v", mode, got, want)
		}
	}
}

func TestFailedMultiLeavesNoTrace(t *testing.T) {
	g := newRig(t, Config{})
	g.must(wire.OpCreate, create("/q", 0, 31))
	// Pending, not applied: the multi must put this very record back.
	if got := g.prepare(g.request(wire.OpCreate, create("/q/s", wire.PersistentSequential, 31))); got != wire.OK {
		t.Fatal(got)
	}
	first := g.txn
	multi := &wire.MultiRequest{Ops: []wire.MultiOp{
		{Op: wire.OpCreate, Record: create("/q/s", wire.PersistentSequential, 31)},
		{Op: wire.OpCreate2, Record: create("/q/s", wire.PersistentSequential, 31)},
		{Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: "/q", Version: -1}},
		{Op: wire.OpDelete, Record: &wire.PathVersion{Path: "/none"}},
		{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/q", Version: -1}},
	}}
	if got := g.prepare(g.request(wire.OpMulti, multi)); got != wire.OK {
		t.Fatal(got)
	}
	second := g.txn
	if code, at := second.Body.(*wire.MultiTxn).Failed(); code != wire.ErrNoNode || at != 3 {
		t.Errorf("failed with %v at %d", code, at)
	}
	if second.Digest != first.Digest {
		t.Errorf("digest %+v, want that of before, %+v", second.Digest, first.Digest)
	}
	if got := g.prepare(g.request(wire.OpCreate, create("/q/s", wire.PersistentSequential, 31))); got != wire.OK {
		t.Fatal(got)
	}
	third := g.txn
	if got := third.Body.(*wire.CreateTxn).Path; got != "/q/s0000000001" {
		t.Errorf("next name %q, want /q/s0000000001: the multi used up numbers", got)
	}
	for _, txn := range []*wire.Txn{&first, &second, &third} {
		g.tree.Apply(txn, &g.res)
		if g.res.DigestMismatch {
			t.Errorf("%v: digest mismatch", txn.Header)
		}
		if txn == &second {
			want := []wire.MultiResult{{Op: -1}, {Op: -1}, {Op: -1}, {Op: -1, Err: wire.ErrNoNode}, {Op: -1, Err: wire.ErrRuntimeInconsistency}}
			if fmt.Sprint(g.res.Multi) != fmt.Sprint(want) || g.res.Err != wire.OK || len(g.res.Events) != 0 {
				t.Errorf("results %v, %v, events %v", g.res.Multi, g.res.Err, g.res.Events)
			}
		}
	}
}

func TestMultiSeesItsOwnEffects(t *testing.T) {
	g := newRig(t, Config{})
	g.must(wire.OpMulti, &wire.MultiRequest{Ops: []wire.MultiOp{
		{Op: wire.OpCreate, Record: create("/m", 0, 31)},
		{Op: wire.OpCreate2, Record: create("/m/s", wire.PersistentSequential, 31)},
		{Op: wire.OpCreateContainer, Record: create("/m/c", wire.Container, 31)},
		{Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: "/m", Data: []byte("xy"), Version: 0}},
		{Op: wire.OpCheck, Record: &wire.PathVersion{Path: "/m", Version: 1}},
		{Op: wire.OpDelete, Record: &wire.PathVersion{Path: "/m/s0000000000", Version: -1}},
	}})
	m := g.res.Multi
	if len(m) != 6 || m[0].Record.(*wire.PathRecord).Path != "/m" ||
		m[1].Op != wire.OpCreate2 || m[1].Record.(*wire.CreateResponse).Path != "/m/s0000000000" ||
		m[2].Op != wire.OpCreate2 || m[2].Record.(*wire.CreateResponse).Stat.EphemeralOwner != 0 ||
		m[3].Record.(*wire.Stat).Version != 1 || m[3].Record.(*wire.Stat).DataLength != 2 ||
		m[4] != (wire.MultiResult{Op: wire.OpCheck}) || m[5] != (wire.MultiResult{Op: wire.OpDelete}) {
		t.Errorf("results %+v", m)
	}
	var got []string
	for _, e := range g.res.Events {
		got = append(got, e.Type.String()+" "+e.Path)
	}
	want := "NodeCreated /m, NodeChildrenChanged /, NodeCreated /m/s0000000000, NodeChildrenChanged /m, NodeCreated /m/c, " +
		"NodeChildrenChanged /m, NodeDataChanged /m, NodeDeleted /m/s0000000000, NodeChildrenChanged /m"
	if strings.Join(got, ", ") != want {
		t.Errorf("events %s\nwant   %s", strings.Join(got, ", "), want)
	}

	bad := &wire.MultiRequest{Ops: []wire.MultiOp{{Op: wire.OpCreate, Record: create("/y", 9, 31)}}}
	if got := g.prepare(g.request(wire.OpMulti, bad)); got != wire.ErrMarshalling {
		t.Errorf("multi with a bad mode: %v, want %v", got, wire.ErrMarshalling)
	}
	if got := g.prepare(g.request(wire.OpMulti, &wire.MultiRequest{})); got != wire.OK {
		t.Errorf("empty multi: %v", got)
	}
}

func TestStatsAreThoseOfTheReference(t *testing.T) {
	g := newRig(t, Config{ExtendedTypes: true})
	stat := func(path string) wire.Stat {
		t.Helper()
		st, code := g.tree.Exists(path, g.ids)
		if code != wire.OK {
			t.Fatal(path, code)
		}
		return st
	}
	g.must(wire.OpCreate, create("/a", 0, 31)) // zxid 2
	a := wire.Stat{Czxid: 2, Mzxid: 2, Pzxid: 2, Ctime: 2000, Mtime: 2000, DataLength: 1}
	if got := stat("/a"); got != a || g.res.Stat != a {
		t.Errorf("after create %+v, result %+v, want %+v", got, g.res.Stat, a)
	}
	g.must(wire.OpCreate, create("/a/e", wire.Ephemeral, 31)) // 3
	a.Cversion, a.NumChildren, a.Pzxid = 1, 1, 3
	if got := stat("/a"); got != a {
		t.Errorf("after create of a child %+v, want %+v", got, a)
	}
	if got := stat("/a/e").EphemeralOwner; got != 1 {
		t.Errorf("owner of an ephemeral %v", got)
	}
	g.must(wire.OpDelete, &wire.PathVersion{Path: "/a/e", Version: -1}) // 4
	a.Cversion, a.NumChildren, a.Pzxid = 2, 0, 4
	if got := stat("/a"); got != a {
		t.Errorf("after delete of the child %+v, want %+v", got, a)
	}
	g.must(wire.OpSetData, &wire.SetDataRequest{Path: "/a", Version: 0}) // 5
	a.Version, a.Mzxid, a.Mtime, a.DataLength = 1, 5, 5000, 0
	if got := stat("/a"); got != a || g.res.Stat != a {
		t.Errorf("after setData %+v, want %+v", got, a)
	}
	g.must(wire.OpSetACL, &wire.SetACLRequest{Path: "/a", ACL: wire.OpenACL(), Version: 0}) // 6
	a.Aversion = 1
	if got := stat("/a"); got != a || g.res.Stat != a || len(g.res.Events) != 0 {
		t.Errorf("after setACL %+v, want %+v; events %v", got, a, g.res.Events)
	}
	g.must(wire.OpCreateContainer, create("/a/c", wire.Container, 31))
	g.must(wire.OpCreateTTL, ttl("/a/t", wire.PersistentTTL, 77))
	for _, path := range []string{"/a/c", "/a/t"} {
		if got := stat(path).EphemeralOwner; got != 0 {
			t.Errorf("%s shows owner %v", path, got)
		}
	}
	if got := uint64(g.tree.lookup("/a/t").owner); got != 0xff0000000000004d {
		t.Errorf("TTL 77 is stored as %#x", got)
	}
	if got := uint64(g.tree.lookup("/a/c").owner); got != 1<<63 {
		t.Errorf("a container is stored as %#x", got)
	}
	if stat("/") != stat("") {
		t.Error("the root has two names")
	}
}

func TestContainersAndTTLsFallDue(t *testing.T) {
	g := newRig(t, Config{ExtendedTypes: true, ContainerMaxNeverUsedMs: 50_000})
	g.must(wire.OpCreateContainer, create("/new", wire.Container, 31)) // 2
	g.must(wire.OpCreateContainer, create("/used", wire.Container, 31))
	g.must(wire.OpCreate, create("/used/x", 0, 31))
	g.must(wire.OpCreateContainer, create("/full", wire.Container, 31))
	g.must(wire.OpCreate, create("/full/x", 0, 31))
	g.must(wire.OpCreateTTL, ttl("/t", wire.PersistentTTL, 10_000)) // 7
	g.must(wire.OpCreateTTL, ttl("/tfull", wire.PersistentTTL, 1))
	g.must(wire.OpCreate, create("/tfull/x", 0, 31))
	g.must(wire.OpDelete, &wire.PathVersion{Path: "/used/x"}) // 10
	for _, tc := range []struct {
		now  int64
		max  int
		want string
	}{
		{10_000, 10, "[/used]"},
		{17_000, 10, "[/used]"},
		{17_001, 10, "[/t /used]"},
		{52_000, 10, "[/t /used]"},
		{52_001, 10, "[/new /t /used]"},
		{52_001, 2, "[/new /t]"},
	} {
		if got := fmt.Sprint(g.tree.Expired(tc.now, tc.max)); got != tc.want {
			t.Errorf("Expired(%d, %d) = %s, want %s", tc.now, tc.max, got, tc.want)
		}
	}
	due := func(path string, want wire.Code) {
		t.Helper()
		if got := g.prepare(&Request{Op: wire.OpDeleteContainer, Body: &wire.PathRecord{Path: path}}); got != want {
			t.Errorf("deleteContainer %s: %v, want %v", path, got, want)
		}
		g.apply()
	}
	due("/used", wire.OK)
	if len(g.res.Events) != 2 || g.res.Events[0].Type != wire.EventNodeDeleted {
		t.Errorf("events %v", g.res.Events)
	}
	due("/full", wire.ErrNotEmpty)
	due("/new", wire.ErrBadVersion)
	g.zxid = 20
	g.must(wire.OpSetData, &wire.SetDataRequest{Path: "/t", Version: -1})
	due("/t", wire.ErrBadVersion) // written to after it was found due
}

func TestTransactionsStayBelowTheLimit(t *testing.T) {
	g := newRig(t, Config{MaxTxnBytes: 2000})
	big := create("/big", 0, 31)
	big.Data = bytes.Repeat([]byte{1}, 2000)
	digest := g.prep.digest
	if got := g.prepare(g.request(wire.OpCreate, big)); got != wire.ErrBadArguments {
		t.Errorf("a large create: %v", got)
	}
	if g.prep.Pending() != 0 || g.prep.digest != digest {
		t.Error("a large create leaves a trace")
	}
	multi := &wire.MultiRequest{}
	for i := range 40 {
		multi.Ops = append(multi.Ops, wire.MultiOp{Op: wire.OpCreate, Record: create(fmt.Sprint("/n", i), 0, 31)})
	}
	if got := g.prepare(g.request(wire.OpMulti, multi)); got != wire.ErrBadArguments || g.prep.Pending() != 0 {
		t.Errorf("a large multi: %v", got)
	}
	// A session may own more than one transaction can list: then it lists nothing.
	for i := range 100 {
		g.must(wire.OpCreate, create(fmt.Sprint("/ephemeral-node-", i), wire.Ephemeral, 31))
	}
	if got := g.prepare(&Request{Session: 1, Op: wire.OpCloseSession}); got != wire.OK || g.txn.Body != nil || g.txn.Digest.Version != 0 {
		t.Errorf("closeSession: %v, body %v, digest %v", got, g.txn.Body, g.txn.Digest)
	}
	after := g.prep.digest
	g.apply()
	if g.tree.EphemeralCount() != 0 || len(g.res.Events) != 200 || g.tree.Digest() != after || g.tree.SessionCount() != 0 {
		t.Errorf("%d ephemerals left, %d events, digest %#x, want %#x", g.tree.EphemeralCount(), len(g.res.Events), g.tree.Digest(), after)
	}
}

func TestHardQuotaRefusesAndSoftQuotaCounts(t *testing.T) {
	g := newRig(t, Config{EnforceQuota: true})
	set := func(path string, n int) wire.Code {
		code := g.prepare(g.request(wire.OpSetData, &wire.SetDataRequest{Path: path, Data: make([]byte, n), Version: -1}))
		g.apply()
		return code
	}
	mk := func(path, data string) wire.Code {
		r := create(path, 0, 31)
		r.Data = []byte(data)
		code := g.prepare(g.request(wire.OpCreate, r))
		g.apply()
		return code
	}
	stats := func(want string) {
		t.Helper()
		if data, st, code := g.tree.Get("/zookeeper/quota/a/b/zookeeper_stats", g.ids); string(data) != want || st.Version != 0 || int(st.DataLength) != len(want) {
			t.Errorf("stats %q, %v, want %q, version 0", data, code, want)
		}
	}
	for _, path := range []string{"/a", "/a/b", "/a/b/c", "/zookeeper/quota/a", "/zookeeper/quota/a/b"} {
		if code := mk(path, "xyz"); code != wire.OK {
			t.Fatal(path, code)
		}
	}
	mk("/zookeeper/quota/a/b/zookeeper_limits", "count=3,bytes=8=;byteHardLimit=20;countHardLimit=4")
	mk("/zookeeper/quota/a/b/zookeeper_stats", "whatever")
	stats("count=2,bytes=6")
	if code := mk("/a/b/d", "12345678901234"); code != wire.OK {
		t.Error(code)
	}
	stats("count=3,bytes=20")
	if code := mk("/a/b/e", "1"); code != wire.ErrQuotaExceeded {
		t.Errorf("above the hard limit of bytes: %v", code)
	}
	if code := mk("/a/b/e", ""); code != wire.OK {
		t.Error(code)
	}
	if code := mk("/a/b/f", ""); code != wire.ErrQuotaExceeded {
		t.Errorf("above the hard limit of znodes: %v", code)
	}
	stats("count=4,bytes=20")
	if code := set("/a/b/d", 15); code != wire.ErrQuotaExceeded {
		t.Errorf("setData above the hard limit: %v", code)
	}
	if code := set("/a/b/d", 2); code != wire.OK {
		t.Error(code)
	}
	stats("count=4,bytes=8")
	g.must(wire.OpDelete, &wire.PathVersion{Path: "/a/b/e"})
	stats("count=3,bytes=8")
	if n := g.prep.SoftQuotaExceeded(); n != 0 {
		t.Errorf("%d warnings: a hard limit takes the place of the soft one", n)
	}
	g.must(wire.OpSetData, &wire.SetDataRequest{Path: "/zookeeper/quota/a/b/zookeeper_limits", Data: []byte("count=3,bytes=-1"), Version: -1})
	if mk("/a/b/g", "") != wire.OK || g.prep.SoftQuotaExceeded() != 1 {
		t.Errorf("%d warnings, want 1", g.prep.SoftQuotaExceeded())
	}
	if set("/a/b/g", 100) != wire.OK || g.prep.SoftQuotaExceeded() != 1 {
		t.Error("no limit of bytes is left")
	}
	dump(t, g.tree)
	g.must(wire.OpDelete, &wire.PathVersion{Path: "/zookeeper/quota/a/b/zookeeper_limits", Version: -1})
	mk("/a/b/h", "")
	stats("count=4,bytes=108")
	if len(g.tree.quotas) != 0 {
		t.Errorf("quotas %v", g.tree.quotas)
	}
}

func TestQuotasAreFoundAgainAfterALoad(t *testing.T) {
	g := newRig(t, Config{})
	for _, path := range []string{"/a", "/a/b", "/zookeeper/quota/a", "/zookeeper/quota/a/zookeeper_limits", "/zookeeper/quota/a/zookeeper_stats", "/zookeeper/quota/zookeeper_limits"} {
		g.must(wire.OpCreate, create(path, 0, 31))
	}
	var chunks []byte
	f := g.tree.Freeze()
	if err := f.Walk(&hookLock{before: func() {}}, func(b []byte) error { chunks = append(chunks, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	tr := load(t, g.tree.cfg, f, chunks)
	if len(tr.quotas) != 1 || tr.quotaFor("/a/b/c") != "/a" || tr.quotaFor("/b") != "" || tr.quotaFor("/") != "" {
		t.Errorf("quotas %v", tr.quotas)
	}
	if data, _, _ := tr.Get("/zookeeper/quota/a/zookeeper_stats", nil); string(data) != "count=2,bytes=2" {
		t.Errorf("stats %q", data)
	}
	diffDumps(t, "loaded", dump(t, tr), dump(t, g.tree))
}

func TestQuotaFormat(t *testing.T) {
	for in, want := range map[string]quotaValue{
		"":                 {-1, -1, -1, -1},
		"count=5,bytes=10": {5, 10, -1, -1},
		"count=5,bytes=10=;byteHardLimit=7;countHardLimit=8": {5, 10, 8, 7},
		"bytes=10,,;;count=5":                                {5, 10, -1, -1},
		"count=,bytes":                                       {-1, -1, -1, -1},
		"count=x,bytes=3,z=4":                                {-1, 3, -1, -1},
		"count=-1,bytes=-1":                                  {-1, -1, -1, -1},
		"countHardLimit=3=;a=b":                              {-1, -1, 3, -1},
	} {
		if got := parseQuota([]byte(in)); got != want {
			t.Errorf("parseQuota(%q) = %+v, want %+v", in, got, want)
		}
	}
	for want, q := range map[string]quotaValue{
		"count=5,bytes=10": {5, 10, -1, -1},
		"count=5,bytes=10=;byteHardLimit=7;countHardLimit=8": {5, 10, 8, 7},
		"count=5,bytes=10=;countHardLimit=8":                 {5, 10, 8, -1},
	} {
		if got := string(q.encode()); got != want {
			t.Errorf("%+v is written as %q, want %q", q, got, want)
		}
	}
}

func TestCatchUp(t *testing.T) {
	g := newRig(t, Config{})
	g.must(wire.OpCreate, create("/a", 0, 31))                            // 2
	g.must(wire.OpCreate, create("/a/b", 0, 31))                          // 3
	g.must(wire.OpSetData, &wire.SetDataRequest{Path: "/a", Version: -1}) // 4
	for _, tc := range []struct {
		relative zab.Zxid
		path     string
		kind     CatchUpKind
		want     wire.EventType
	}{
		{0, "/none", CatchUpData, wire.EventNodeDeleted},
		{3, "/a", CatchUpData, wire.EventNodeDataChanged},
		{4, "/a", CatchUpData, wire.EventNone},
		{9, "/a", CatchUpExist, wire.EventNodeCreated},
		{0, "/none", CatchUpExist, wire.EventNone},
		{0, "/none", CatchUpChild, wire.EventNodeDeleted},
		{2, "/a", CatchUpChild, wire.EventNodeChildrenChanged},
		{3, "/a", CatchUpChild, wire.EventNone},
	} {
		if got := g.tree.CatchUp(tc.relative, tc.path, tc.kind); got != tc.want {
			t.Errorf("CatchUp(%v, %s, %d) = %v, want %v", tc.relative, tc.path, tc.kind, got, tc.want)
		}
	}
}

func BenchmarkMassExpiry(b *testing.B) {
	const sessions, each = 10_000, 10
	for b.Loop() {
		b.StopTimer()
		tr := New(Config{Digest: true})
		zxid := zab.Zxid(0)
		var r Result
		for s := range zab.SessionID(sessions) {
			zxid++
			tr.Apply(&wire.Txn{Header: wire.TxnHeader{Session: 1 + s, Zxid: zxid, Type: wire.OpCreateSession}, Body: &wire.IntRecord{Value: 1}}, &r)
			for i := range each {
				zxid++
				tr.Apply(&wire.Txn{
					Header: wire.TxnHeader{Session: 1 + s, Zxid: zxid, Type: wire.OpCreate},
					Body:   &wire.CreateTxn{Path: fmt.Sprint("/e-", s, "-", i), Ephemeral: true, ACL: wire.OpenACL(), ParentCversion: -1},
				}, &r)
			}
		}
		p := NewPrep(tr)
		txns := make([]wire.Txn, sessions)
		b.StartTimer()
		first := zxid
		for s := range txns {
			zxid++
			p.Prepare(&Request{Session: zab.SessionID(1 + s), Op: wire.OpCloseSession}, zxid, 1, &txns[s])
		}
		for s := range txns {
			tr.Apply(&txns[s], &r)
			p.Applied(first + 1 + zab.Zxid(s))
		}
		if tr.EphemeralCount() != 0 || r.DigestMismatch || p.Pending() != 0 {
			b.Fatal(tr.EphemeralCount(), r.DigestMismatch, p.Pending())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/sessions, "µs/session")
}
