// Package storage keeps a server's history on disk: transaction logs, snapshots
// and epoch files, in the formats of Apache ZooKeeper 3.9, which can start on
// them and whose directories this package can start on.
//
// [Open] takes the directories, [Store.Recover] rebuilds the tree. Then one
// goroutine logs: [Store.Append] many times, [Store.Sync] once per batch. What
// Sync has returned nil for survives a crash; an error of it is final. Another
// goroutine may write snapshots of a frozen tree and purge what they replace.
//
// Recovery drops an unfinished write at the end of the newest log, and nothing
// else: whatever else is not as it was written is a [*DamageError] that names
// the file, the place and the last good zxid, and leaves the files alone. zxids
// are contiguous from the snapshot to the end of the log, or recovery fails.
//
// Append, Sync, Roll, ShouldSnapshot, Recover, Truncate, Install, Forget and Close
// belong to one goroutine. WriteSnapshot, Purge, Entries, Files and the epochs
// are safe at any time between Recover and Close.
//
// DESIGN.md says why it is so, FORMAT.md what the bytes are.
package storage
