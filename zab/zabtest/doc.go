// Package zabtest plays whole ensembles in one goroutine, from one number.
//
// [Run] builds servers, clients, a network and disks that exist in memory only,
// lets them work in simulated time while everything fails that may fail, and
// checks after each event that what was promised holds. Equal [Options] give
// equal runs, to the last event.
//
// A simulated server is the production code wherever there is some: a zab.Node,
// a storage.Store on a disk that loses power, a znode.Tree with its Prep, a
// session.Tracker and a watch.Manager. Only what ties them together, which in
// production needs goroutines and sockets, is written again here (server.go,
// serve.go).
//
// The rules that are checked carry the numbers of the reliability reference: S1
// to S30 for what must never happen, L1 to L10 for what must happen in time.
// DESIGN.md says what is modelled, what is not, and how to add a fault.
package zabtest
