// Package checker judges what clients saw.
//
// A [Recorder] notes every request, reply, watch event and connection of a run, in
// a simulator or in front of real servers, and gives a [History]. [Check] compares
// the history with the transactions that the ensemble committed: it replays them
// in a reference tree and asks of each reply whether it is what the tree says at
// the zxid that the reply carries. That is linear in the length of the history,
// and stronger than a search for an explanation, because zxids tell the order.
// [Linearizable] is such a search, for the few operations that promise it without
// a look at zxids, so that a fault in the zxids themselves does not hide.
//
// The package does no I/O and reads no clock. Workloads say what clients do next,
// not how it is carried out; package record beside this one carries it out on
// real connections.
//
// Rules are named as in the reliability reference: S21 to S30 for invariants, W-a
// to W-h for the rules of watches, Z1 to Z6 for the points of the comparison by
// zxid. DESIGN.md says what is checked, what is not, and why one may believe the
// checks.
package checker
