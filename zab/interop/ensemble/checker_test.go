package ensemble

import (
	"maps"
	"slices"
	"testing"
)

// goodHistory is what two workers could have seen.
func goodHistory() ([]write, map[string]found) {
	return []write{
			{path: "/load/a", version: 0, call: 0, ret: 10, acked: true, zxid: 0x1_0000_0001},
			{path: "/load/r", version: 0, call: 5, ret: 12, acked: true, zxid: 0x1_0000_0002},
			{path: "/load/r", version: 1, call: 13, ret: 20, acked: true, zxid: 0x1_0000_0003},
			{path: "/load/e", version: 0, owner: 7, call: 21, ret: 30, acked: true, zxid: 0x1_0000_0004},
			{path: "/load/e", version: deleted, owner: 7, call: 31, ret: 35, acked: true},
			{path: "/load/s-1", id: "1/1", version: 0, call: 36, ret: 40, acked: true, zxid: 0x2_0000_0001},
			{id: "1/2", version: 0, call: 36},
			{path: "/load/m", version: 0, call: 41, ret: 50, acked: true, zxid: 0x2_0000_0003},
			{path: "/load/r", version: 2, call: 41, ret: 50, acked: true, zxid: 0x2_0000_0003},
			{path: "/load/u", version: 0, call: 51},
		}, map[string]found{
			"/load/a":   {czxid: 0x1_0000_0001, mzxid: 0x1_0000_0001},
			"/load/r":   {version: 2, czxid: 0x1_0000_0002, mzxid: 0x2_0000_0003},
			"/load/s-1": {id: "1/1", czxid: 0x2_0000_0001, mzxid: 0x2_0000_0001},
			"/load/s-2": {id: "1/2", czxid: 0x2_0000_0002, mzxid: 0x2_0000_0002},
			"/load/m":   {czxid: 0x2_0000_0003, mzxid: 0x2_0000_0003},
			"/other":    {},
		}
}

// TestCheckersFindFaults holds that what a broken ensemble could show is found.
func TestCheckersFindFaults(t *testing.T) {
	writes, tree := goodHistory()
	if errs := append(checkOrder(writes), checkTree(writes, "/load", tree)...); len(errs) != 0 {
		t.Fatalf("a good history is refused: %v", errs)
	}
	tree["/load/u"] = found{czxid: 5, mzxid: 5}
	if errs := checkTree(writes, "/load", tree); len(errs) != 0 {
		t.Fatalf("a write of unknown outcome may be there: %v", errs)
	}
	for name, breakIt := range map[string]func(w []write, tree map[string]found){
		"an acknowledged create is lost":        func(_ []write, tree map[string]found) { delete(tree, "/load/a") },
		"an acknowledged set is lost":           func(_ []write, tree map[string]found) { tree["/load/r"] = found{version: 1} },
		"half a multi is lost":                  func(_ []write, tree map[string]found) { delete(tree, "/load/m") },
		"a deleted znode is back":               func(_ []write, tree map[string]found) { tree["/load/e"] = found{owner: 7} },
		"created twice":                         func(_ []write, tree map[string]found) { tree["/load/a"] = found{czxid: 9, mzxid: 9} },
		"written by somebody else":              func(_ []write, tree map[string]found) { tree["/load/x"] = found{} },
		"a sequential create was done twice":    func(_ []write, tree map[string]found) { tree["/load/s-3"] = found{id: "1/2"} },
		"an ephemeral has a wrong owner":        func(w []write, tree map[string]found) { w[0].owner = 8 },
		"a later write has the smaller zxid":    func(w []write, _ map[string]found) { w[2].zxid, w[3].zxid = w[3].zxid, w[2].zxid },
		"two writes have the same zxid":         func(w []write, _ map[string]found) { w[1].zxid = w[0].zxid },
		"an answered write was ordered too low": func(w []write, _ map[string]found) { w[5].zxid = 1 },
	} {
		writes, tree := goodHistory()
		writes, tree = slices.Clone(writes), maps.Clone(tree)
		breakIt(writes, tree)
		if errs := append(checkOrder(writes), checkTree(writes, "/load", tree)...); len(errs) == 0 {
			t.Errorf("not found: %s", name)
		}
	}
}
