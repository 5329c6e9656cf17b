// Package datadir holds the tests that exchange data directories with Apache's
// server: after random load of all kinds of operations, Apache starts on our
// directory and we start on Apache's, with every znode, stat and ACL equal.
//
// PADDOCK_DATADIR_OPERATIONS is how many random operations each of the sessions
// does, by default 300.
package datadir
