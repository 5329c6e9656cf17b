// Package admin is the agent's HTTP side: health, the JSON API under /v1,
// Prometheus metrics, ZooKeeper's /commands, profiles, and a page for people.
//
// It holds no state: what it shows comes from the parts of the agent through a
// [Source], and from the ZooKeeper server in this process. Changes (register,
// deregister, set_trace_mask, snapshot) are the exception, and are refused when
// a browser of another site asks for them.
package admin
