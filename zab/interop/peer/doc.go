// Package peer runs server processes for the interop tests of the packages
// beside it: the built paddock binary, and Apache ZooKeeper fetched by Maven.
// All of it needs the build tag "interop".
package peer
