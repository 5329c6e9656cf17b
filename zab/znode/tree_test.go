package znode

import (
	"testing"
	"unsafe"

	"github.com/paddockio/paddock/zab/wire"
)

func TestNodeFillsItsSizeClass(t *testing.T) {
	if got := unsafe.Sizeof(node{}); got != 112 {
		t.Errorf("a node takes %d bytes, want 112: the next size class costs 16 bytes per znode", got)
	}
}

// The facts are those of a fresh Apache ZooKeeper 3.9.5.
func TestFreshTreeIsThatOfApache(t *testing.T) {
	tr := New(Config{Digest: true})
	if got := tr.Digest(); got != 0x51c6d660 {
		t.Errorf("digest %#x, want 0x51c6d660", got)
	}
	if got := tr.NodeCount(); got != 5 {
		t.Errorf("node count %d, want 5", got)
	}
	if got := tr.DataSize(); got != 44 {
		t.Errorf("data size %d, want 44", got)
	}
	for path, want := range map[string]wire.Stat{
		"/":                 {Cversion: -1, NumChildren: 1},
		"":                  {Cversion: -1, NumChildren: 1},
		"/zookeeper":        {Cversion: -2, NumChildren: 2},
		"/zookeeper/quota":  {},
		"/zookeeper/config": {Aversion: -1},
	} {
		data, st, code := tr.Get(path, nil)
		if code != wire.OK || st != want || data == nil || len(data) != 0 {
			t.Errorf("Get(%q) = %q, %+v, %v; want empty data and %+v", path, data, st, code, want)
		}
	}
}
