package zabtest

import (
	"fmt"

	"github.com/paddockio/paddock/zab"
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
		c.issue(wire.OpSetACL, path, &wire.SetACLRequest{Path: path, ACL: wire.OpenACL(), Version: -1})
	case n < 70:
		c.multi(dir, path)
	case n < 78:
		c.issue(wire.OpGetData, path, &wire.PathWatch{Path: path, Watch: watched})
	case n < 86:
		c.issue(wire.OpExists, path, &wire.PathWatch{Path: path, Watch: watched})
	case n < 90:
		c.issue(wire.OpGetChildren2, dir, &wire.PathWatch{Path: dir, Watch: watched})
	case n < 98:
		c.syncedRead(path)
	case n < 99:
		c.cleanUp(dir)
	default:
		if r.IntN(4) == 0 {
			c.issue(wire.OpCloseSession, "", nil)
		}
	}
}

func create(path string, data []byte, mode wire.CreateMode) *wire.CreateRequest {
	return &wire.CreateRequest{Path: path, Data: data, ACL: wire.OpenACL(), Mode: mode, TTLMs: -1}
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

var _ zab.Zxid
