package znode

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab/wire"
)

// A quota on /a is two znodes: /zookeeper/quota/a/zookeeper_limits, which
// clients write, and zookeeper_stats beside it, which every server keeps for
// itself without transactions. (Classes Quotas, StatsTrack, DataTree.)
const (
	quotaRoot  = "/zookeeper/quota"
	limitsName = "zookeeper_limits"
	statsName  = "zookeeper_stats"
)

// quotaValue is the data of either znode; -1 is no limit.
type quotaValue struct{ count, bytes, countHard, bytesHard int64 }

// parseQuota reads "count=1,bytes=2=;byteHardLimit=3;countHardLimit=4".
// What is missing or no number is -1.
func parseQuota(data []byte) quotaValue {
	q := quotaValue{-1, -1, -1, -1}
	for f := range strings.FieldsFuncSeq(string(data), func(r rune) bool { return r == ',' || r == ';' }) {
		key, val, _ := strings.Cut(f, "=")
		v, err := strconv.ParseInt(strings.TrimSuffix(val, "="), 10, 64)
		if err != nil {
			continue
		}
		switch key {
		case "count":
			q.count = v
		case "bytes":
			q.bytes = v
		case "countHardLimit":
			q.countHard = v
		case "byteHardLimit":
			q.bytesHard = v
		}
	}
	return q
}

func (q quotaValue) encode() []byte {
	b := fmt.Appendf(nil, "count=%d,bytes=%d", q.count, q.bytes)
	if q.bytesHard >= 0 || q.countHard >= 0 {
		b = append(b, '=') // very old parsers need it before the first semicolon
	}
	if q.bytesHard >= 0 {
		b = fmt.Appendf(b, ";byteHardLimit=%d", q.bytesHard)
	}
	if q.countHard >= 0 {
		b = fmt.Appendf(b, ";countHardLimit=%d", q.countHard)
	}
	return b
}

// quotaFor returns the longest prefix of path that has a quota, or "".
func (t *Tree) quotaFor(path string) string {
	if len(t.quotas) == 0 {
		return ""
	}
	for path != "" {
		if _, ok := t.quotas[path]; ok {
			return path
		}
		path = path[:strings.LastIndexByte(path, '/')]
	}
	return ""
}

// quotaNode returns a znode of the quota on path, or nil.
func (t *Tree) quotaNode(path, name string) *node {
	n := t.lookup(quotaRoot)
	if n == nil {
		return nil
	}
	if n = lookupFrom(n, path); n == nil {
		return nil
	}
	return n.child(name)
}

// quotaChanged adds to the statistics of the quota that counts path.
func (t *Tree) quotaChanged(path string, bytes, count int64) {
	prefix := t.quotaFor(path)
	if prefix == "" {
		return
	}
	if n := t.quotaNode(prefix, statsName); n != nil {
		q := parseQuota(n.data())
		q.count += count
		q.bytes += bytes
		t.setStats(n, q)
	}
}

// setStats changes the data of a statistics znode but nothing of its stat.
func (t *Tree) setStats(n *node, q quotaValue) {
	t.change(n)
	t.setData(n, "", q.encode())
	t.changed(n)
}

// quotaCreated does what the creation of a znode means for quotas. A quota on
// the root does not exist.
func (t *Tree) quotaCreated(n *node, path, parentPath, name string) {
	if top, ok := strings.CutPrefix(parentPath, quotaRoot); ok && top != "" && top[0] == '/' {
		switch name {
		case limitsName:
			t.quotas[strings.Clone(top)] = struct{}{}
		case statsName:
			t.countQuota(top, n)
		}
	}
	t.quotaChanged(path, int64(n.dataLen()), 1)
}

func (t *Tree) quotaDeleted(n *node, path, parentPath, name string) {
	if top, ok := strings.CutPrefix(parentPath, quotaRoot); ok && name == limitsName {
		delete(t.quotas, top)
	}
	t.quotaChanged(path, -int64(n.dataLen()), -1)
}

// countQuota counts what is at and below top into the statistics node n.
func (t *Tree) countQuota(top string, n *node) {
	q := quotaValue{0, 0, -1, -1}
	if sub := t.lookup(top); sub != nil {
		for todo := []*node{sub}; len(todo) > 0; {
			n := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			q.count++
			q.bytes += int64(n.dataLen())
			if n.kids != nil {
				todo = n.kids.gather(todo)
			}
		}
	}
	t.setStats(n, q)
}

// loadQuotas finds the quotas of a tree that was loaded.
func (t *Tree) loadQuotas() {
	root := t.lookup(quotaRoot)
	for todo := []*node{root}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n.kids == nil {
			if n.name() == limitsName && n.parent != root && n != root {
				top := n.parent.path()[len(quotaRoot):]
				t.quotas[top] = struct{}{}
				if stats := n.parent.child(statsName); stats != nil {
					t.countQuota(top, stats)
				}
			}
			continue
		}
		todo = n.kids.gather(todo)
	}
}

// checkQuota judges a write of bytes more data and count more znodes at path:
// soft if it passes a limit that only warns, ErrQuotaExceeded if it passes a
// hard one. It looks at the tree, not at what is pending, as ZooKeeper does.
func (t *Tree) checkQuota(path string, bytes, count int64) (soft bool, code wire.Code) {
	prefix := t.quotaFor(path)
	if prefix == "" {
		return false, wire.OK
	}
	limits, stats := t.quotaNode(prefix, limitsName), t.quotaNode(prefix, statsName)
	if limits == nil || stats == nil {
		return false, wire.OK
	}
	limit, used := parseQuota(limits.data()), parseQuota(stats.data())
	over := func(diff, used, soft, hard int64) (warn, refuse bool) {
		if diff <= 0 {
			return false, false
		}
		if hard > -1 {
			return false, used+diff > hard
		}
		return soft > -1 && used+diff > soft, false
	}
	warnCount, refuseCount := over(count, used.count, limit.count, limit.countHard)
	warnBytes, refuseBytes := over(bytes, used.bytes, limit.bytes, limit.bytesHard)
	if refuseCount || refuseBytes {
		if t.cfg.EnforceQuota {
			return false, wire.ErrQuotaExceeded
		}
		return true, wire.OK
	}
	return warnCount || warnBytes, wire.OK
}
