// Package wire holds the bytes of ZooKeeper's client protocol and of its
// transactions: jute, the records of zookeeper.jute, operation and error codes.
//
// A record appends itself to a slice and decodes itself from a [Decoder];
// nothing here reflects, keeps state or does I/O. Where several records of
// Apache have the same shape there is one type here, and the types say which
// requests use it. Decoders are bounded: an allocation is never larger than
// the bytes that are left to read justify.
//
// Numbers and shapes follow Apache ZooKeeper 3.9.5.
package wire
