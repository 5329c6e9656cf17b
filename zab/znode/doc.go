// Package znode is the tree of znodes: what a server knows.
//
// [Prep] turns a request into a transaction, judged against the tree and all
// transactions that are prepared but not applied yet. [Tree.Apply] carries a
// transaction out, the same way on every server, and tells the watch events it
// causes. The other methods of [Tree] are reads. [Tree.Freeze] takes a
// snapshot of one zxid while writes go on, [Builder] loads one.
//
// A tree has no lock, clock or goroutine of its own. Apply, Freeze and the
// methods of Prep belong to one goroutine, the writer; Apply and Freeze need
// exclusive access. Everything else needs shared access only, Prepare too: a
// read-write lock around the tree is enough.
//
// Paths and data are bytes as clients sent them. Time comes in with the
// requests. Behaviour is that of Apache ZooKeeper 3.9.5 (classes DataTree,
// PrepRequestProcessor); DESIGN.md lists where and why it differs.
package znode
