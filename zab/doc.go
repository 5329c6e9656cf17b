// Package zab is the replication protocol of an ensemble as a pure state
// machine: no I/O, clock, goroutine or lock. Time, finished disk writes and
// messages come in as inputs; what to write, send and apply comes out.
//
// A [Node] plays one server. While it is LOOKING it elects (FastLeaderElection).
// Then it leads, follows or observes, and goes through the phases of Zab:
// Discovery, in which a quorum promises an epoch to the leader; Synchronization,
// in which the learners take over the leader's history by DIFF, TRUNC or SNAP;
// and Broadcast. The packets and their order are those of Apache ZooKeeper 3.8
// and 3.9, in both roles, so that one ensemble may have servers of both kinds.
//
// What it guarantees, if its driver does what [Ready] says: all servers apply the
// same transactions in the same order; what was committed is never lost while a
// quorum of the disks is there; nothing is applied that the own disk does not
// hold; no packet claims what the disk does not hold. It does not look into
// transactions, expire sessions or answer clients.
//
// Subpackages hold the bytes (wire), the tree (znode), sessions, watches, the
// files (storage), the connections (transport), the server that drives all of it,
// and a client. DESIGN.md says why it is so.
package zab
