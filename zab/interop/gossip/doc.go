// Package gossip holds the tests that let agents find each other: processes of
// the built binary in network namespaces, which know nothing but where the
// others gossip. They need the build tag "interop", root and iproute2.
package gossip
