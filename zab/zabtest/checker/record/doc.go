// Package record carries workloads out on real connections and notes what goes
// over them, for package checker to judge.
//
// [Tap] is a connection that reads along: it decodes the frames of the client
// protocol in both directions and gives them to a checker.Recorder, with xids,
// zxids and the order in which they came, whatever client is in front of it. A
// request is noted before it leaves, an answer before the client sees it, so the
// interval that is noted encloses what the server did. What the connection of a
// client cannot tell, what became of requests without an answer, is in the logs of
// the servers: [Log] reads one.
package record
