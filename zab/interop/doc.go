// Package interop holds the tests that run the built binary against other
// people's programs: Apache's published JUnit classes, its shell and client
// libraries, Curator, kazoo, the public Go client, Debian's C client, Dubbo in
// Java and in Go, and Apache's server on our data directory and ours on its.
//
// Nothing here is built or run without the tag "interop". See README.md for
// how to run it, what it needs, and what ran.
package interop
