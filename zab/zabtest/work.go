package zabtest

import (
	"fmt"

	"github.com/paddockio/paddock/zab/wire"
)

// act issues something, by chance: changes of few znodes, so that clients meet.
func (c *client) act() {
	r := c.rand
	dir := fmt.Sprintf("/d%d", r.IntN(c.s.p.dirs))
	path := fmt.Sprintf("%s/n%d", dir, r.IntN(c.s.p.names))
	watched := r.IntN(3) == 0 && len(c.watches) < 8
	switch n := r.IntN(100); {
	case n < 4:
		c.issue(wire.OpCreate, dir, create(dir, nil, wire.Persistent))
	case n < 16:
		c.issue(wire.OpCreate2, path, create(path, c.data(), wire.Persistent))
	case n < 26:
		c.issue(wire.OpCreate, path, create(path, c.data(), wire.Ephemeral))
	case n < 34:
		mode := wire.PersistentSequential
		if r.IntN(2) == 0 {
			mode = wire.EphemeralSequential
		}
		c.issue(wire.OpCreate2, dir, create(dir+"/s", c.data(), mode))
	case n < 50:
		c.issue(wire.OpSetData, path, &wire.SetDataRequest{Path: path, Data: c.data(), Version: c.version()})
	case n < 60:
		c.issue(wire.OpDelete, path, &wire.PathVersion{Path: path, Version: c.version()})
	case n < 63:
		c.issue(wire.OpSetACL, path, &wire.SetACLRequest{Path: path, ACL: c.acl(), Version: -1})
	case n < 70:
		c.multi(dir, path)
	case n < 78:
		c.issue(wire.OpGetData, path, &wire.PathWatch{Path: path, Watch: watched})
	case n < 86:
		c.issue(wire.OpExists, path, &wire.PathWatch{Path: path, Watch: watched})
	case n < 90:
		c.issue(wire.OpGetChildren2, dir, &wire.PathWatch{Path: dir, Watch: watched})
	case n < 92:
		c.lastingWatch(dir, path)
	case n < 93:
		c.dropWatch()
	case n < 98:
		c.syncedRead(path)
	case n < 99:
		c.cleanUp(dir)
	default:
		switch r.IntN(4) {
		case 0:
			c.issue(wire.OpCloseSession, "", nil)
		case 1:
			c.quota(dir)
		case 2:
			c.issue(wire.OpSetACL, dir, &wire.SetACLRequest{Path: dir, ACL: c.acl(), Version: -1})
		}
	}
}

func create(path string, data []byte, mode wire.CreateMode) *wire.CreateRequest {
	return &wire.CreateRequest{Path: path, Data: data, ACL: wire.OpenACL(), Mode: mode, TTLMs: -1}
}

// users are who the clients are; two of them share a znode with all, or do not.
var users = [...]wire.ID{{Scheme: "digest", ID: "a:x"}, {Scheme: "digest", ID: "b:x"}}

// acl is open as a rule; otherwise it keeps somebody out of something.
func (c *client) acl() []wire.ACL {
	everybody := wire.ID{Scheme: "world", ID: "anyone"}
	switch c.rand.IntN(8) {
	case 0:
		return []wire.ACL{{Perms: wire.PermAll, ID: users[c.rand.IntN(len(users))]}}
	case 1:
		return []wire.ACL{{Perms: wire.PermRead | wire.PermAdmin, ID: everybody}, {Perms: wire.PermAll, ID: users[0]}}
	case 2:
		return []wire.ACL{{Perms: wire.PermAll, ID: wire.ID{Scheme: "auth"}}, {Perms: wire.PermRead, ID: everybody}}
	}
	return wire.OpenACL()
}

// quota limits a directory, or another number of znodes or bytes is allowed. The
// first request of a multi fails where there is a quota already.
func (c *client) quota(dir string) {
	top := "/zookeeper/quota" + dir
	limits := fmt.Appendf(nil, "count=-1,bytes=-1=;byteHardLimit=%d;countHardLimit=%d", 100+c.rand.IntN(2000), 1+c.rand.IntN(2*c.s.p.names+10))
	if c.s.check.ref.now(top) == nil {
		c.issue(wire.OpMulti, top, &wire.MultiRequest{Ops: []wire.MultiOp{
			{Op: wire.OpCreate, Record: create(top, nil, wire.Persistent)},
			{Op: wire.OpCreate, Record: create(top+limitsNode, limits, wire.Persistent)},
			{Op: wire.OpCreate, Record: create(top+statsNode, []byte("count=0,bytes=0"), wire.Persistent)},
		}})
		return
	}
	c.issue(wire.OpSetData, top+limitsNode, &wire.SetDataRequest{Path: top + limitsNode, Data: limits, Version: -1})
}

// lastingWatch asks for all changes of a znode, or of a directory and all in it.
func (c *client) lastingWatch(dir, path string) {
	switch {
	case len(c.lasting) >= 4:
	case c.rand.IntN(2) == 0:
		c.issue(wire.OpAddWatch, path, &wire.PathMode{Path: path, Mode: wire.WatchPersistent})
	case c.rand.IntN(4) == 0:
		c.issue(wire.OpAddWatch, "/", &wire.PathMode{Path: "/", Mode: wire.WatchPersistentRecursive})
	default:
		c.issue(wire.OpAddWatch, dir, &wire.PathMode{Path: dir, Mode: wire.WatchPersistentRecursive})
	}
}

// dropWatch gives a watch back, of one kind or of all.
func (c *client) dropWatch() {
	var b wire.PathMode
	switch n := c.rand.IntN(len(c.watches) + len(c.lasting) + 1); {
	case n < len(c.watches):
		b = wire.PathMode{Path: c.watches[n].path, Mode: wire.WatcherData}
		if c.watches[n].kind == watchChild {
			b.Mode = wire.WatcherChildren
		}
	case n < len(c.watches)+len(c.lasting):
		w := c.lasting[n-len(c.watches)]
		b = wire.PathMode{Path: w.path, Mode: wire.WatcherPersistent}
		if w.recursive {
			b.Mode = wire.WatcherPersistentRecursive
		}
	default:
		return
	}
	if c.rand.IntN(4) == 0 {
		b.Mode = wire.WatcherAny
	}
	c.issue(wire.OpRemoveWatches, b.Path, &b)
}

// data is different each time, and sometimes long.
func (c *client) data() []byte {
	b := fmt.Appendf(nil, "%d-%d-", c.idx, c.xid)
	n := c.rand.IntN(40)
	if c.rand.IntN(50) == 0 {
		n = c.rand.IntN(3000)
	}
	for range n {
		b = append(b, byte(n))
	}
	return b
}

func (c *client) version() int32 {
	if c.rand.IntN(2) == 0 {
		return -1
	}
	return int32(c.rand.IntN(4))
}

// multi changes several znodes or none.
func (c *client) multi(dir, path string) {
	other := fmt.Sprintf("%s/n%d", dir, c.rand.IntN(c.s.p.names))
	ops := []wire.MultiOp{
		{Op: wire.OpCreate, Record: create(path, c.data(), wire.Persistent)},
		{Op: wire.OpSetData, Record: &wire.SetDataRequest{Path: other, Data: c.data(), Version: -1}},
		{Op: wire.OpCheck, Record: &wire.PathVersion{Path: dir, Version: -1}},
		{Op: wire.OpCreate, Record: create(dir+"/m", nil, wire.EphemeralSequential)},
	}
	c.rand.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	c.issue(wire.OpMulti, path, &wire.MultiRequest{Ops: ops[:1+c.rand.IntN(len(ops))]})
}

// syncedRead reads what was true when the sync was asked for, or later.
func (c *client) syncedRead(path string) {
	s := c.issue(wire.OpSync, path, &wire.PathRecord{Path: path})
	if s == nil {
		return
	}
	if o := c.issue(wire.OpGetData, path, &wire.PathWatch{Path: path}); o != nil {
		o.fresh = s.floor
	}
}

// cleanUp deletes what sequential creates have left, so that the tree stays small.
func (c *client) cleanUp(dir string) {
	n := c.s.check.ref.nodes[dir]
	if n == nil || n.suffix < 0 {
		return
	}
	for i := max(0, n.suffix-20); i <= n.suffix; i++ {
		path := fmt.Sprintf("%s/s%010d", dir, i)
		if c.inflight.len() < 64 && c.s.check.ref.now(path) != nil {
			c.issue(wire.OpDelete, path, &wire.PathVersion{Path: path, Version: -1})
		}
	}
}
