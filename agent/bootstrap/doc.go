// Package bootstrap finds the other hosts by gossip and makes the first ensemble
// of those that are expected, once.
//
// Gossip suggests addresses, nothing more. Each host tells all others a few
// hundred bytes about itself, its [Member]: who it is, where its server would
// listen, what it has promised. Out of such a picture, and of what it stored
// itself, [Decide] says what a host does next. It is a pure function, and the
// statements it rests on never become false again: a host that acknowledged a
// list of servers acknowledges no other one, and a host that belongs to an
// ensemble stays with it. So a picture may be old, or lack hosts, and a decision
// is still right; at worst it comes later.
//
// An ensemble is formed when every host of one list has stored that list. From
// then on nothing here changes it: voters are changed by a reconfiguration,
// which the ensemble itself commits. A host that comes later asks a server of
// the ensemble for its place on the list and becomes an observer. A host whose
// disk was wiped finds its address on the list and is told that it is Lost: it
// must not vote before it is synced.
//
// DESIGN.md says why two ensembles cannot come out of this, and what an operator
// has to do for that.
package bootstrap
