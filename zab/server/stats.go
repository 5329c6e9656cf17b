package server

import (
	"sync/atomic"
	"time"
)

// Stats counts what the server did since it started or since srst. All fields
// are safe for concurrent use.
type Stats struct {
	Received, Sent         atomic.Int64 // packets of clients
	BytesIn, BytesOut      atomic.Int64
	Reads, Writes          atomic.Int64 // requests answered
	latencyCount           atomic.Int64
	latencySum, latencyMax atomic.Int64 // microseconds
	latencyMin             atomic.Int64 // microseconds + 1; 0: none yet

	Accepted, Refused  atomic.Int64 // connections
	BadPackets         atomic.Int64 // frames that closed their connection
	SlowClients        atomic.Int64 // connections closed because they did not read
	SessionsCreated    atomic.Int64
	SessionsExpired    atomic.Int64
	SessionsReattached atomic.Int64
	AuthFailed         atomic.Int64
	WatchEvents        atomic.Int64
	EventsFiltered     atomic.Int64 // not sent: the connection may not read the znode
	Syncs              atomic.Int64 // of the log
	SyncNanos          atomic.Int64
	Batched            atomic.Int64 // transactions in those syncs
	SlowSyncs          atomic.Int64 // over fsyncWarning
	Snapshots          atomic.Int64
	SnapshotErrors     atomic.Int64
	DigestMismatches   atomic.Int64
}

// fsyncWarning is Apache's fsync.warningthresholdms.
const fsyncWarning = time.Second

// latency records requests that took us microseconds each.
func (s *Stats) latency(us, n int64) {
	s.latencyCount.Add(n)
	s.latencySum.Add(us * n)
	if us > s.latencyMax.Load() {
		s.latencyMax.Store(us)
	}
	if m := s.latencyMin.Load(); m == 0 || us+1 < m {
		s.latencyMin.Store(us + 1)
	}
}

// Latency returns the shortest, mean and longest time from receiving a request
// to queueing its reply, in milliseconds.
func (s *Stats) Latency() (low int64, mean float64, high int64) {
	if n := s.latencyCount.Load(); n > 0 {
		mean = float64(s.latencySum.Load()) / float64(n) / 1000
	}
	return max(0, s.latencyMin.Load()-1) / 1000, mean, s.latencyMax.Load() / 1000
}

func (s *Stats) reset() {
	for _, c := range []*atomic.Int64{&s.Received, &s.Sent, &s.latencyCount, &s.latencySum, &s.latencyMax, &s.latencyMin} {
		c.Store(0)
	}
}
