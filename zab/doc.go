// Package zab is the replication protocol of an ensemble as a pure state
// machine: no I/O, clock, goroutine or lock. Time, finished disk writes and
// messages come in as inputs; what to write, send and apply comes out.
//
// Subpackages hold the bytes (wire), the tree (znode), sessions, watches, the
// files (storage), the server that drives all of it, and a client.
package zab
