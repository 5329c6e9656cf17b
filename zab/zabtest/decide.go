package zabtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// What a leader has decided must follow from the transactions before it and from
// nothing else (S26): who may do what, whether a quota is full, and why a request
// was refused.

// mayDo is a second, simple reading of ACLs.
func mayDo(acl []wire.ACL, perm wire.Perms, ids []wire.ID) bool {
	return len(acl) == 0 || slices.ContainsFunc(acl, func(a wire.ACL) bool {
		return a.Perms&perm != 0 && (a.ID.Scheme == "world" || slices.Contains(ids, a.ID))
	})
}

// The two znodes of a quota.
const (
	limitsNode = "/zookeeper_limits"
	statsNode  = "/zookeeper_stats"
	quotaRoot  = "/zookeeper/quota"
)

// A refQuota is the quota of a directory: what it allows now, and what was in use
// after each transaction that changed it.
type refQuota struct {
	bytes, count int64 // -1: no limit
	used         []usage
}

type usage struct {
	zxid         zab.Zxid
	bytes, count int64
}

func (q *refQuota) at(z zab.Zxid) usage {
	for i := len(q.used) - 1; i >= 0; i-- {
		if q.used[i].zxid <= z {
			return q.used[i]
		}
	}
	return usage{}
}

// quotaOf returns the quota that counts a path.
func (f *reference) quotaOf(path string) *refQuota {
	if !strings.HasPrefix(path, "/d") {
		return nil
	}
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		path = path[:i+1]
	}
	return f.quotas[path]
}

// uses adds to what a quota counts.
func (f *reference) uses(z zab.Zxid, path string, bytes, count int64) {
	if q := f.quotaOf(path); q != nil {
		u := q.used[len(q.used)-1]
		q.used = append(q.used, usage{z, u.bytes + bytes, u.count + count})
	}
}

// limit takes what was written to a znode of a quota.
func (f *reference) limit(z zab.Zxid, path string, data []byte) {
	dir, ok := strings.CutSuffix(strings.TrimPrefix(path, quotaRoot), limitsNode)
	if !ok {
		return
	}
	q := f.quotas[dir]
	if q == nil {
		q = &refQuota{}
		f.quotas[dir] = q
		u := usage{zxid: z}
		for p := range f.nodes {
			if st := f.now(p); st != nil && (p == dir || strings.HasPrefix(p, dir+"/")) {
				u.bytes, u.count = u.bytes+int64(len(st.data)), u.count+1
			}
		}
		q.used = []usage{u}
	}
	number := func(name string) int64 {
		_, s, _ := strings.Cut(string(data), name+"=")
		s, _, _ = strings.Cut(s, ";")
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	q.bytes, q.count = number("byteHardLimit"), number("countHardLimit")
}

// permission is what a change needs of which znode.
func permission(body wire.Record) (path string, perm wire.Perms) {
	switch b := body.(type) {
	case *wire.CreateTxn:
		path, _ = splitPath(b.Path)
		return path, wire.PermCreate
	case *wire.CreateRequest:
		path, _ = splitPath(b.Path)
		return path, wire.PermCreate
	case *wire.PathRecord:
		path, _ = splitPath(b.Path)
		return path, wire.PermDelete
	case *wire.SetDataTxn:
		return b.Path, wire.PermWrite
	case *wire.SetDataRequest:
		return b.Path, wire.PermWrite
	case *wire.SetACLTxn:
		return b.Path, wire.PermAdmin
	case *wire.SetACLRequest:
		return b.Path, wire.PermAdmin
	}
	return "", 0
}

// permits checks that a change which was made was allowed. body is the
// transaction's, judged what the leader had applied then: quotas are compared with
// that.
func (f *reference) permits(z, judged zab.Zxid, body wire.Record, o *operation) bool {
	if o == nil {
		return true
	}
	f.s.checks.safe(26)
	path, perm := permission(body)
	if v, ok := body.(*wire.PathVersion); ok { // a check of a multi
		path, perm = v.Path, wire.PermRead
	}
	if st := f.now(path); perm != 0 && st != nil && !mayDo(st.acl, perm, o.req.ids) {
		f.s.fail("S26", "%v changes %s, whose ACL %v does not let %v do it", z, path, st.acl, o.req.ids)
		return false
	}
	if path, bytes, count := f.growth(body); f.overQuota(path, bytes, count, judged) {
		f.s.fail("S26", "%v writes to %s above its quota: %+v, by %v", z, path, f.quotaOf(path), judged)
		return false
	}
	return true
}

// growth is what a change adds to a quota.
func (f *reference) growth(body wire.Record) (path string, bytes, count int64) {
	switch b := body.(type) {
	case *wire.CreateTxn:
		return b.Path, int64(len(b.Data)), 1
	case *wire.CreateRequest:
		return b.Path, int64(len(b.Data)), 1
	case *wire.SetDataTxn:
		path, bytes = b.Path, int64(len(b.Data))
	case *wire.SetDataRequest:
		path, bytes = b.Path, int64(len(b.Data))
	}
	if st := f.now(path); st != nil {
		bytes -= int64(len(st.data))
	}
	return path, bytes, 0
}

// overQuota compares with the tree of z, and with the limits that it has.
func (f *reference) overQuota(path string, bytes, count int64, z zab.Zxid) bool {
	q := f.quotaOf(path)
	if q == nil || z < q.used[0].zxid || f.limitsChanged(path, z) {
		return false
	}
	u := q.at(z)
	return bytes > 0 && q.bytes >= 0 && u.bytes+bytes > q.bytes || count > 0 && q.count >= 0 && u.count+count > q.count
}

// limitsChanged reports whether the limits were others at z than now.
func (f *reference) limitsChanged(path string, z zab.Zxid) bool {
	dir := path
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		dir = path[:i+1]
	}
	st := f.now(quotaRoot + dir + limitsNode)
	return st == nil || st.mzxid > z
}

// refused checks why a request was refused, by what was true in front of it.
func (f *reference) refused(z, judged zab.Zxid, code wire.Code, o *operation) {
	if o == nil {
		return
	}
	f.s.checks.safe(26)
	path, perm := permission(o.req.body)
	version, target := int32(-1), path
	switch b := o.req.body.(type) {
	case *wire.PathVersion: // a delete
		target, version = b.Path, b.Version
		path, _ = splitPath(b.Path)
		perm = wire.PermDelete
	case *wire.CreateRequest:
		target = b.Path
	case *wire.SetDataRequest:
		version = b.Version
	case *wire.MultiRequest:
		return
	}
	holder, st := f.now(path), f.now(target)
	right := true
	switch code {
	case wire.ErrNoAuth:
		f.s.probe("refused by an ACL")
		right = holder != nil && !mayDo(holder.acl, perm, o.req.ids)
	case wire.ErrNoNode:
		right = st == nil && o.req.op != wire.OpCreate && o.req.op != wire.OpCreate2 || holder == nil
	case wire.ErrNodeExists:
		right = st != nil
	case wire.ErrBadVersion:
		right = st != nil && version != -1 && version != st.version
	case wire.ErrNotEmpty:
		right = st != nil && st.children > 0
	case wire.ErrNoChildrenForEphemerals:
		right = holder != nil && holder.owner != 0
	case wire.ErrQuotaExceeded:
		f.s.probe("refused by a quota")
		p, bytes, count := f.growth(o.req.body)
		right = f.limitsChanged(p, judged) || f.overQuota(p, bytes, count, judged)
	}
	if !right {
		f.s.fail("S26", "%v refuses %v %s with %v: its znode is %+v, that of the permission %+v", z, o.req.op, target, code, st, holder)
	}
}

// secondOpinion compares the ACLs and the counts of quotas of a server's tree with
// the reference at the tree's zxid.
func (c *checker) secondOpinion(v *server, t *znode.Tree, path string, st *refState) bool {
	acl, _, code := t.GetACL(path, super)
	if code != wire.OK || !slices.Equal(acl, st.acl) && path != "/" {
		c.s.fail("S26", "server %d: the ACL of %s at %v is %v, must be %v", v.id, path, t.LastZxid(), acl, st.acl)
		return false
	}
	dir, ok := strings.CutSuffix(strings.TrimPrefix(path, quotaRoot), statsNode)
	if q := c.ref.quotas[dir]; ok && q != nil {
		u := q.at(t.LastZxid())
		data, _, _ := t.Get(path, super)
		want := "count=" + itoa(u.count) + ",bytes=" + itoa(u.bytes)
		if string(data) != want {
			c.s.fail("S26", "server %d: %s at %v is %s, must be %s", v.id, path, t.LastZxid(), data, want)
			return false
		}
	}
	return true
}

var super = []wire.ID{{Scheme: "super"}}
