// Package client speaks ZooKeeper's client protocol to Apache's servers and to
// ours, over TCP or over any connection that [Config.Dial] returns.
//
// [Client.Run] owns one connection at a time and every goroutine. Operations
// are methods that any number of goroutines may call: what is asked for while a
// write is under way goes out together with the next one, in one system call,
// and replies are matched in the order of the requests. An operation waits
// until there is a connection, so that callers need no state machine of their
// own; its ctx is the only time limit.
//
// What happens to an operation whose connection breaks:
//
//   - not sent yet: it waits for the next connection, of the same session;
//   - sent, and reading or repeatable (reads, sync, watches, auth, closing the
//     session): it is sent again;
//   - sent, and writing: it fails with [wire.ErrConnectionLoss], since nobody
//     knows whether it was carried out.
//
// Only a server's word ends a session. Until then the client connects again, to
// one server after the other, takes the session up, repeats the identities of
// AddAuth and arms all watches. When a session is expired, waiting writes fail
// with [wire.ErrSessionExpired], one-shot watches end, and a new session
// begins.
//
// The package does no SASL and no TLS; Config.Dial may return a TLS connection.
package client
