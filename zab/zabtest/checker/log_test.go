package checker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// TestCommittedFindsWhatAQuorumHas puts the logs of servers together.
func TestCommittedFindsWhatAQuorumHas(t *testing.T) {
	log := func(zxids ...zab.Zxid) (list []*wire.Txn) {
		for _, z := range zxids {
			list = append(list, &wire.Txn{Header: wire.TxnHeader{Zxid: z, Type: wire.OpFailed}, Body: &wire.IntRecord{Value: int32(z)}})
		}
		return list
	}
	const e1, e2 = zab.Zxid(1 << 32), zab.Zxid(2 << 32)
	other := log(e1 + 2)
	other[0].Header.TimeMs = 9
	for _, tc := range []struct {
		name string
		logs [][]*wire.Txn
		want string
	}{
		{"all equal", [][]*wire.Txn{log(e1+1, e1+2), log(e1+1, e1+2), log(e1+1, e1+2)}, "0x100000001 0x100000002"},
		{"nothing", [][]*wire.Txn{nil, nil, nil}, ""},
		{"a tail at one server", [][]*wire.Txn{log(e1+1, e1+2), log(e1+1, e1+2), log(e1+1, e1+2, e1+3)}, "0x100000001 0x100000002"},
		{"a tail of an epoch before", [][]*wire.Txn{log(e1+1, e2+1), log(e1+1, e2+1), log(e1+1, e1+2)}, "0x100000001 0x200000001"},
		{"a log that begins late", [][]*wire.Txn{log(e1+1, e1+2, e2+1), log(e2 + 1), log(e1+1, e1+2)}, "0x100000001 0x100000002 0x200000001"},
		{"a hole where a snapshot came", [][]*wire.Txn{log(e1+1, e1+2, e1+3, e2+1), log(e1+1, e2+1), log(e1+1, e1+2, e1+3)}, "0x100000001 0x100000002 0x100000003 0x200000001"},
		{"different bytes", [][]*wire.Txn{log(e1+1, e1+2), other, nil}, "error: two logs have different transactions 0x100000002"},
		{"a wrong order", [][]*wire.Txn{log(e1+2, e1+1), nil, nil}, "error: a log has 0x100000001 behind 0x100000002"},
		{"nobody has it", [][]*wire.Txn{log(e1 + 3), log(e1 + 3), nil}, "error: no log has 0x100000002"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			txns, err := Committed(2, tc.logs...)
			for _, txn := range txns {
				got = append(got, txn.Header.Zxid.String())
			}
			if err != nil {
				got = []string{fmt.Sprint("error: ", err)}
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestARefusedMultiMayDiffer takes the one that is as it was sent.
func TestARefusedMultiMayDiffer(t *testing.T) {
	multi := func(first wire.SubTxn) []*wire.Txn {
		return []*wire.Txn{{Header: wire.TxnHeader{Zxid: 1, Type: wire.OpMulti}, Body: &wire.MultiTxn{Txns: []wire.SubTxn{
			first, {Type: wire.OpFailed, Body: &wire.IntRecord{Value: int32(wire.ErrBadVersion)}},
		}}}}
	}
	sent := multi(wire.SubTxn{Type: wire.OpSetData, Body: &wire.SetDataTxn{Path: "/bank/3", Version: 17}})
	applied := multi(wire.SubTxn{Type: wire.OpFailed, Body: &wire.IntRecord{Value: 7}})
	for _, logs := range [][][]*wire.Txn{{sent, applied, sent}, {applied, sent, sent}} {
		log, err := Committed(2, logs...)
		if err != nil || len(log) != 1 || log[0] != sent[0] {
			t.Errorf("got %v, %v", log, err)
		}
	}
	other := multi(wire.SubTxn{Type: wire.OpSetData, Body: &wire.SetDataTxn{Path: "/bank/4", Version: 17}})
	if log, err := Committed(2, sent, other); err == nil {
		t.Errorf("got %v", log)
	}
}

// TestDiffTreesNamesThePlace compares trees that differ in one thing.
func TestDiffTreesNamesThePlace(t *testing.T) {
	w := newWorld(2, 4, allWorkloads(4))
	w.run(500)
	if diff := DiffTrees(w.leader, w.servers[0].tree); diff != "" {
		t.Fatal(diff)
	}
	for i, txn := range slices.Backward(w.log) {
		if txn.Header.Type == wire.OpSetData {
			m := &mutant{log: slices.Delete(slices.Clone(w.log), i, i+1)}
			path := txn.Body.(*wire.SetDataTxn).Path
			if diff := DiffTrees(w.leader, m.treeAt(1<<62)); !strings.Contains(diff, path) {
				t.Errorf("got %q, want something about %s", diff, path)
			}
			return
		}
	}
}
