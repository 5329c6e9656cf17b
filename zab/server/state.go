package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/watch"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// State is a picture of the server at one moment.
type State struct {
	Mode        string // standalone, leader, follower, observer; looking while the server does not serve
	Serving     bool
	LastZxid    zab.Zxid // or the beginning of an epoch that has no transaction yet
	Znodes      int      // as Apache counts them: 5 on a fresh server
	Ephemerals  int
	DataBytes   int64
	Watches     int
	Connections int
	Sessions    int
	Outstanding int64
	Uptime      time.Duration
	Digest      uint64
}

// State returns the present picture.
func (s *Server) State() State {
	st := State{Mode: "standalone", Serving: s.ready.Load(), Outstanding: s.outstanding.Load(), Uptime: time.Since(s.start)}
	s.treeMu.RLock()
	st.Serving = st.Serving && s.serves
	st.LastZxid, st.Digest = max(s.tree.LastZxid(), s.reign), s.tree.Digest()
	st.Znodes, st.Ephemerals, st.DataBytes = s.tree.NodeCount(), s.tree.EphemeralCount(), s.tree.DataSize()
	global := s.tree.SessionCount()
	s.treeMu.RUnlock()
	s.watchMu.Lock()
	st.Watches = s.watches.Len()
	s.watchMu.Unlock()
	s.connMu.Lock()
	st.Connections = len(s.conns)
	s.connMu.Unlock()
	s.sessMu.Lock()
	st.Sessions = len(s.sessions)
	s.sessMu.Unlock()
	if s.member != nil {
		st.Mode, st.Sessions = s.member.mode(st.Serving), global
	}
	return st
}

// Config returns the configuration in force, defaults filled in.
func (s *Server) Config() Config { return s.cfg }

// Port returns the client port.
func (s *Server) Port() int {
	if a, ok := s.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// DataDir and LogDir return the directories above version-2.
func (s *Server) DataDir() string { return s.cfg.Storage.DataDir }

// LogDir returns the directory above the version-2 of the transaction log.
func (s *Server) LogDir() string { return cmp.Or(s.cfg.Storage.LogDir, s.cfg.Storage.DataDir) }

// DiskSizes returns the bytes of the snapshots and of the log files.
func (s *Server) DiskSizes() (data, logs int64) {
	data, logs, err := s.store.Sizes()
	if err != nil {
		s.log.Warn("size of the data directory", "err", err)
	}
	return data, logs
}

// Digests returns the recorded digests of the tree, oldest first.
func (s *Server) Digests() []znode.ZxidDigest {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	return s.tree.Digests()
}

// ConnInfo describes one client connection.
type ConnInfo struct {
	Remote         string
	Session        zab.SessionID // 0: none yet
	Timeout        time.Duration
	Interest       int // as the selector of Apache's server: 1 reading, 5 also writing
	Queued         int
	Received, Sent int64
	Since          time.Time
	LastOp         string
	LastXid        int32 // negative: none yet, or of a ping
	LastZxid       zab.Zxid
	LastReplyMs    int64 // since the server started
	LastLatencyMs  int64
	MinLatencyMs   int64
	AvgLatencyMs   int64
	MaxLatencyMs   int64
}

// Connections describes every client connection, oldest first.
func (s *Server) Connections() []ConnInfo {
	cs := s.connections()
	infos := make([]ConnInfo, len(cs))
	for i, c := range cs {
		infos[i] = c.Info()
	}
	return infos
}

// Info describes the connection.
func (c *conn) Info() ConnInfo {
	i := ConnInfo{Remote: c.remote.String(), Since: c.since, Interest: 1, LastOp: "NA"}
	c.srv.sessMu.Lock()
	if sess := c.published.Load(); sess != nil {
		i.Session, i.Timeout = sess.id, sess.timeout
	}
	c.srv.sessMu.Unlock()
	c.mu.Lock()
	st := c.stats
	i.Queued = c.queue.len()
	if c.writing {
		i.Interest = 5
	}
	if c.closed {
		i.Interest = 0
	}
	c.mu.Unlock()
	i.Received, i.Sent, i.LastXid, i.LastZxid, i.LastReplyMs = st.received, st.sent, st.lastXid, st.lastZxid, st.lastAt/1e6
	i.LastLatencyMs, i.MinLatencyMs, i.MaxLatencyMs = st.latLast, st.latMin, st.latMax
	if st.latCount > 0 {
		i.AvgLatencyMs = st.latSum / st.latCount
	}
	if tag := opTags[st.lastOp]; tag != "" {
		i.LastOp = tag
	}
	if st.latCount == 0 { // as Apache's counters begin, and begin again with crst
		i.LastXid, i.LastZxid = -1, -1
	}
	return i
}

// ResetStats sets the counters of the server back, as srst does.
func (s *Server) ResetStats() { s.stats.reset() }

// ResetConnStats sets the counters of every connection back, as crst does.
func (s *Server) ResetConnStats() {
	for _, c := range s.connections() {
		c.mu.Lock()
		c.stats = connStats{}
		c.mu.Unlock()
	}
}

// ExpirySet is the sessions that expire together unless they are heard of.
type ExpirySet struct {
	At       time.Time
	Sessions []zab.SessionID
}

// SessionsByExpiry returns the sessions, those next to expire first. A learner
// knows of none when it will: its leader does.
func (s *Server) SessionsByExpiry() []ExpirySet {
	if s.learns() {
		return nil
	}
	now := time.Now()
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	tick := s.cfg.TickTime.Milliseconds()
	byMs := map[int64][]zab.SessionID{}
	for id, st := range s.sessions {
		ms := ((st.heard.Load()/1e6+st.timeout.Milliseconds())/tick + 1) * tick
		byMs[ms] = append(byMs[ms], id)
	}
	var sets []ExpirySet
	for ms, ids := range byMs {
		slices.Sort(ids)
		sets = append(sets, ExpirySet{now.Add(time.Duration(ms)*time.Millisecond - time.Since(s.start)), ids})
	}
	slices.SortFunc(sets, func(a, b ExpirySet) int { return a.At.Compare(b.At) })
	return sets
}

// SessionTimeouts returns every session and its timeout.
func (s *Server) SessionTimeouts() map[zab.SessionID]time.Duration {
	s.sessMu.Lock()
	defer s.sessMu.Unlock()
	m := make(map[zab.SessionID]time.Duration, len(s.sessions))
	for id, st := range s.sessions {
		m[id] = st.timeout
	}
	return m
}

// Ephemerals is the ephemeral znodes of one session.
type Ephemerals struct {
	Session zab.SessionID
	Paths   []string
}

// EphemeralOwners returns the sessions that own ephemerals, in id order.
func (s *Server) EphemeralOwners() []Ephemerals {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	var owners []Ephemerals
	for _, id := range s.tree.EphemeralOwners() {
		owners = append(owners, Ephemerals{id, s.tree.Ephemerals(id, "")})
	}
	return owners
}

// WatchSummary counts watches as wchs does: those in the data table.
type WatchSummary struct{ Connections, Paths, Watches int }

// WatchSummary returns the counts.
func (s *Server) WatchSummary() WatchSummary {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	conns, paths := map[*conn]bool{}, map[string]bool{}
	n := 0
	for _, w := range s.watches.All() {
		if w.Modes&watch.Child != w.Modes { // in the data table
			conns[w.Conn], paths[w.Path] = true, true
			n++
		}
	}
	return WatchSummary{len(conns), len(paths), n}
}

// PathWatches is the sessions that watch one path.
type PathWatches struct {
	Path     string
	Sessions []zab.SessionID
}

// WatchesByPath returns the watched paths of the data table, sorted.
func (s *Server) WatchesByPath() []PathWatches {
	s.watchMu.Lock()
	list := s.watches.All()
	s.watchMu.Unlock()
	byPath := map[string][]zab.SessionID{}
	for _, w := range list {
		if sess := w.Conn.published.Load(); sess != nil && w.Modes&watch.Child != w.Modes {
			byPath[w.Path] = append(byPath[w.Path], sess.id)
		}
	}
	var all []PathWatches
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		slices.Sort(byPath[path])
		all = append(all, PathWatches{path, byPath[path]})
	}
	return all
}

// A Metric is one number, or one summary, under the name that Apache's metrics
// providers give it. The names that begin with paddock_ are ours alone.
type Metric struct {
	Name    string
	Value   float64
	Counter bool // only ever grows
	Decimal bool // Apache prints a decimal point, always
	Help    string
	Summary *Summary // if not nil, instead of Value
}

// percentiles are the prefixes of the quantiles that mntr prints.
var percentiles = map[float64]string{0.5: "p50_", 0.95: "p95_", 0.99: "p99_", 0.999: "p999_"}

// Each calls emit for every line of the metric as Apache's default provider
// prints it in mntr: a summary becomes avg_, min_, max_, cnt_, sum_ and, if it
// has more than the median, the percentiles p50_ and so on. Only means have
// digits behind the point.
func (m Metric) Each(emit func(name, value string)) {
	whole := func(prefix string, v float64) {
		if math.IsNaN(v) {
			v = 0
		}
		emit(prefix+m.Name, strconv.FormatFloat(math.Round(v), 'f', -1, 64))
	}
	s := m.Summary
	switch {
	case s != nil:
		emit("avg_"+m.Name, decimal(s.Sum/max(1, s.Count)))
		whole("min_", s.Min)
		whole("max_", s.Max)
		whole("cnt_", s.Count)
		whole("sum_", s.Sum)
		for _, q := range s.Quantiles {
			if prefix := percentiles[q.Q]; prefix != "" && len(s.Quantiles) > 1 {
				whole(prefix, q.Value)
			}
		}
	case m.Decimal:
		emit(m.Name, decimal(m.Value))
	default:
		whole("", m.Value)
	}
}

// The units of what is recorded in these and shown in ms.
const (
	msFromMicros = 1e-3
	msFromNanos  = 1e-6
)

// Metrics returns what mntr prints and /metrics exports. Apache's numbers about
// parts that this server does not have (commit processor, response cache, TLS)
// are left out, not zero.
func (s *Server) Metrics() []Metric {
	now := time.Now()
	st := s.State()
	low, mean, high := s.stats.Latency()
	data, logs := s.DiskSizes()
	c := &s.stats
	open, limit := descriptors()
	gauge := func(name string, v int64, help string) Metric {
		return Metric{Name: name, Value: float64(v), Help: help}
	}
	count := func(name string, v int64, help string) Metric {
		return Metric{Name: name, Value: float64(v), Counter: true, Help: help}
	}
	ratio := func(name string, v float64, help string) Metric {
		return Metric{Name: name, Value: v, Decimal: true, Help: help}
	}
	summary := func(name string, d *Distribution, unit float64, help string, quantiles ...float64) Metric {
		sum := d.Summary(now, unit, quantiles...)
		return Metric{Name: name, Summary: &sum, Help: help}
	}
	list := []Metric{
		ratio("avg_latency", mean, "mean request latency in ms, since srst"),
		gauge("max_latency", high, "longest request latency in ms, since srst"),
		gauge("min_latency", low, "shortest request latency in ms, since srst"),
		gauge("packets_received", c.Received.Load(), "packets from clients, since srst"),
		gauge("packets_sent", c.Sent.Load(), "packets to clients, since srst"),
		gauge("num_alive_connections", int64(st.Connections), "client connections"),
		gauge("outstanding_requests", st.Outstanding, "writes under way"),
		gauge("znode_count", int64(st.Znodes), "znodes"),
		gauge("watch_count", int64(st.Watches), "watches: pairs of a connection and a znode"),
		gauge("ephemerals_count", int64(st.Ephemerals), "ephemeral znodes"),
		gauge("approximate_data_size", st.DataBytes, "bytes of the paths and data of all znodes"),
		gauge("open_file_descriptor_count", int64(open), "open file descriptors"),
		gauge("max_file_descriptor_count", int64(limit), "limit of open file descriptors"),
		gauge("uptime", st.Uptime.Milliseconds(), "ms since the server started"),
		gauge("global_sessions", int64(st.Sessions), "sessions"),
		gauge("local_sessions", 0, "local sessions: this server has none"),
		ratio("connection_drop_probability", 0, "share of connections that a throttle drops: this server has none"),
		gauge("auth_failed_count", c.AuthFailed.Load(), "failed authentications"),
		gauge("non_mtls_remote_conn_count", 0, "connections without mutual TLS although it is asked for, from other hosts"),
		gauge("non_mtls_local_conn_count", 0, "connections without mutual TLS although it is asked for, from this host"),
		count("bytes_received_count", c.BytesIn.Load(), "bytes from clients"),
		count("response_bytes", c.BytesOut.Load(), "bytes to clients"),
		count("connection_request_count", c.SessionsCreated.Load()+c.SessionsReattached.Load(), "connect requests that were granted"),
		count("connection_rejected", c.Refused.Load(), "connections refused by a limit"),
		count("connection_revalidate_count", c.SessionsReattached.Load(), "sessions taken up again"),
		count("stale_sessions_expired", c.SessionsExpired.Load(), "sessions expired"),
		count("large_requests_rejected", c.BadPackets.Load(), "connections closed for an oversized or malformed packet"),
		count("snapshot_error_count", c.SnapshotErrors.Load(), "snapshots that failed"),
		count("digest_mismatches_count", c.DigestMismatches.Load(), "transactions after which the tree was not as on the leader"),
		count("unrecoverable_error_count", 0, "errors that ended the server"),
		summary("readlatency", &c.ReadMicros, msFromMicros, "ms from receiving a read to its reply", 0.5, 0.9, 0.95, 0.99, 0.999),
		summary("updatelatency", &c.UpdateMicros, msFromMicros, "ms from receiving a write to its reply", 0.5, 0.9, 0.95, 0.99, 0.999),
		summary("snapshottime", &c.SnapshotNanos, msFromNanos, "ms that a snapshot took", 0.5),
		summary("fsynctime", &c.SyncNanos, msFromNanos, "ms that a sync of the transaction log took", 0.5),
		summary("sync_processor_batch_size", &c.Batched, 1, "transactions in one sync of the log", 0.5),
		count("paddock_connections_accepted_total", c.Accepted.Load(), "connections accepted"),
		count("paddock_sessions_created_total", c.SessionsCreated.Load(), "sessions opened"),
		count("paddock_slow_clients_total", c.SlowClients.Load(), "connections closed because the client did not read"),
		count("paddock_watch_events_total", c.WatchEvents.Load(), "watch events queued"),
		count("paddock_watch_events_filtered_total", c.EventsFiltered.Load(), "watch events not sent for want of the permission to read"),
		count("paddock_fsync_slow_total", c.SlowSyncs.Load(), "syncs of the log that took more than one second"),
		count("paddock_snapshots_written_total", c.Snapshots.Load(), "snapshots written"),
		gauge("paddock_snapshot_bytes", data, "bytes of the snapshots"),
		gauge("paddock_log_bytes", logs, "bytes of the transaction logs"),
		gauge("paddock_last_zxid", int64(st.LastZxid), "zxid applied last"),
	}
	if ms, ok := s.Membership(); ok {
		list = append(list, ms.metrics(s)...)
	}
	return list
}

// descriptors returns how many file descriptors are open and may be.
func descriptors() (open, limit int) {
	if dir, err := os.ReadDir("/proc/self/fd"); err == nil {
		open = len(dir)
	}
	return open, descriptorLimit()
}

// Snapshot writes a snapshot now and returns its file. One at a time: while the
// periodic one is being written it is an error.
func (s *Server) Snapshot(ctx context.Context) (file string, zxid zab.Zxid, err error) {
	type outcome struct {
		file string
		err  error
	}
	result := make(chan outcome, 1)
	err = s.inDriver(ctx, func() {
		if !s.serves {
			result <- outcome{err: errors.New("the server does not serve: nobody knows which of its transactions will stay")}
			return
		}
		if s.freezing {
			result <- outcome{err: fmt.Errorf("another snapshot is being written")}
			return
		}
		zxid = s.tree.LastZxid()
		s.beginSnapshot(func(file string, err error) { result <- outcome{file, err} })
	})
	if err != nil {
		return "", 0, err
	}
	select {
	case o := <-result:
		return o.file, zxid, o.err
	case <-ctx.Done():
		return "", 0, context.Cause(ctx)
	}
}

// SnapshotTime says when a snapshot was written, and of which state.
type SnapshotTime struct {
	Zxid zab.Zxid
	Time time.Time
}

// LastSnapshot returns the newest snapshot: the one that recovery loaded, or one
// written since. ok is false if there was none.
func (s *Server) LastSnapshot() (last SnapshotTime, ok bool) {
	if p := s.lastSnapshot.Load(); p != nil {
		return *p, true
	}
	return last, false
}

// TraceMask and SetTraceMask keep the number of gtmk and stmk.
func (s *Server) TraceMask() int64 { return s.traceMask.Load() }

// SetTraceMask sets it.
func (s *Server) SetTraceMask(mask int64) { s.traceMask.Store(mask) }

// Authorize reports whether credentials may do everything with the root, as
// Apache's AdminServer asks before it gives out a snapshot.
func (s *Server) Authorize(scheme string, credentials []byte, from netip.Addr) wire.Code {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	ids, code := s.tree.Authenticate(scheme, credentials, from)
	if code != wire.OK {
		return wire.ErrAuthFailed
	}
	acl, _, code := s.tree.GetACL("/", []wire.ID{{Scheme: "super"}})
	if code == wire.OK && !s.tree.Allowed(acl, wire.PermAll, ids) {
		code = wire.ErrNoAuth
	}
	return code
}
