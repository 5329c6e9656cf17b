// Package transport is the TCP of an ensemble: the election port (3888 by habit)
// and the quorum port (2888), in Apache ZooKeeper's bytes. It moves messages and
// decides nothing about the protocol.
//
// [Election] keeps one connection to each voter and carries notifications. Each
// peer has a mailbox with one place: a newer notification replaces one that was
// not sent yet, and the last one is sent again on a new connection (class
// QuorumCnxManager).
//
// [Quorum] opens the quorum port while the server leads and dials a leader's while
// it does not. Each connection is a [Link]: a reader, a writer and a bounded queue.
// What is slow or broken closes one link and disturbs no other. Packets of one link
// keep their order, with snapshots and long runs of the log ([Link.Stream]) among
// them.
//
// No call blocks on a peer, except Dial and Stream, whose callers wait for exactly
// that. Whatever comes in is bounded before it is understood: handshakes in number
// and time, packets and messages in size, and buffers grow only with the bytes that
// have come. Who sends what cannot be meant is named in the log once for each
// address and counted ([Fault]).
//
// Quorum SASL and quorum TLS are not supported: a peer that wants them is told
// apart (ErrSASL, ErrTLS), and anybody who reaches the ports is trusted as far as
// Apache trusts him.
package transport
