// Package server drives one ZooKeeper server: the client port, the request
// pipeline, the protocol node, the log and the tree.
//
// A connection's goroutine reads and decodes requests. Reads it answers itself,
// from the tree under a shared lock. Writes go to the driver, one goroutine that
// turns requests into transactions against pending state (prep), hands them to
// the protocol node, and applies what the node says is committed. A second
// goroutine, the log writer, appends and syncs: everything that arrived while
// one sync was under way goes into the next. See DESIGN.md.
//
// Guarantees: replies of a connection come in the order of its requests; a
// write is answered after its own log entry is durable; a watch event is queued
// on a connection before any reply that shows the change.
package server
