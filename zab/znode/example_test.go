package znode_test

import (
	"fmt"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A request becomes a transaction, the transaction a change of the tree. In
// between a server writes it to its log.
func Example() {
	tree := znode.New(znode.Config{Digest: true})
	prep := znode.NewPrep(tree)
	var txn wire.Txn
	var res znode.Result
	zxid := zab.NewZxid(1, 0)
	do := func(op wire.Op, body wire.Record) {
		zxid++
		prep.Prepare(&znode.Request{Session: 0x10, Op: op, Body: body}, zxid, 1_000, &txn)
		tree.Apply(&txn, &res)
		prep.Applied(zxid)
	}

	do(wire.OpCreateSession, &wire.IntRecord{Value: 30_000})
	do(wire.OpCreate, &wire.CreateRequest{Path: "/task-", Data: []byte("wash"), ACL: wire.OpenACL(), Mode: wire.EphemeralSequential})
	for _, e := range res.Events {
		fmt.Println(e.Type, e.Path)
	}
	do(wire.OpDelete, &wire.PathVersion{Path: "/none", Version: -1})
	fmt.Println(zxid, res.Err)

	data, stat, _ := tree.Get("/task-0000000000", nil)
	fmt.Printf("%s, made by %v for session %v\n", data, stat.Czxid, stat.EphemeralOwner)
	// Output:
	// NodeCreated /task-0000000000
	// NodeChildrenChanged /
	// 0x100000003 no such znode
	// wash, made by 0x100000002 for session 0x10
}
