// Package admin is the agent's HTTP side: health, the JSON API under /v1,
// Prometheus metrics, ZooKeeper's /commands, profiles, and a page for people.
//
// It holds no state: what it shows comes from the parts of the agent through a
// [Source], and from the ZooKeeper server in this process. It can change little
// (register, deregister, reset counters, set the trace mask, write a snapshot),
// and refuses that when a browser of another site asks for it. See DESIGN.md.
package admin
