package server

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what the server did since it started. Only packets and latencies
// start again with srst, as Apache's do. All fields are safe for concurrent use.
type Stats struct {
	Received, Sent    atomic.Int64 // packets of clients; set back by srst
	BytesIn, BytesOut atomic.Int64

	// What clients waited for each answered request, in microseconds.
	ReadMicros, UpdateMicros   Distribution
	latencyMax                 atomic.Int64 // since srst
	latencyMin                 atomic.Int64 // since srst, plus 1; 0: none yet
	latencyCount0, latencySum0 atomic.Int64 // of both at srst

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
	SyncNanos          Distribution // one value for each sync
	Batched            Distribution // transactions in each sync
	SlowSyncs          atomic.Int64 // over fsyncWarning
	Snapshots          atomic.Int64
	SnapshotNanos      Distribution
	SnapshotErrors     atomic.Int64
	DigestMismatches   atomic.Int64
	Elections          atomic.Int64 // that this server has taken part in
	Diffs              atomic.Int64 // learners that were sent what they lacked, or told what they have too much
	SnapshotsSent      atomic.Int64 // learners that were sent the whole tree
}

// fsyncWarning is Apache's fsync.warningthresholdms.
const fsyncWarning = time.Second

// answered records n requests that took us microseconds each, in ReadMicros or
// UpdateMicros.
func (s *Stats) answered(in *Distribution, us, n int64) {
	in.Record(us, n)
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
	n, us := s.waited()
	if n -= s.latencyCount0.Load(); n > 0 {
		mean = float64(max(0, us-s.latencySum0.Load())) / float64(n) / 1000
	}
	return max(0, s.latencyMin.Load()-1) / 1000, mean, s.latencyMax.Load() / 1000
}

// waited returns the number of requests and the sum of their latencies.
func (s *Stats) waited() (n, us int64) {
	return s.ReadMicros.Count() + s.UpdateMicros.Count(), s.ReadMicros.Load() + s.UpdateMicros.Load()
}

func (s *Stats) reset() {
	n, us := s.waited()
	s.latencyCount0.Store(n)
	s.latencySum0.Store(us)
	for _, c := range []*atomic.Int64{&s.Received, &s.Sent, &s.latencyMax, &s.latencyMin} {
		c.Store(0)
	}
}

// A Distribution counts values, none below zero, in buckets an eighth of a power
// of two wide: what is read from it is at most 12.5 % off. Recording costs two
// atomic additions, whatever the number of equal values. The zero value is
// empty.
type Distribution struct {
	sum     atomic.Int64
	buckets [distributionBuckets]atomic.Int64

	mu     sync.Mutex // guards recent and before
	recent *counts    // the buckets a while ago
	before *counts    // and a while before that
}

// counts is a copy of the buckets.
type counts struct {
	at      time.Time
	buckets [distributionBuckets]int64
}

const (
	// Values below 8 have buckets of their own; then each power of two has eight.
	distributionBuckets = 8 * (64 - 3)
	// quantileWindow is how far back quantiles look at least: Apache's Prometheus
	// provider forgets in the same time.
	quantileWindow = time.Minute
)

func bucketOf(v int64) int {
	if v < 8 {
		return int(max(0, v))
	}
	e := bits.Len64(uint64(v)) - 4 // v>>e is 8 to 15
	return 8*e + int(v>>e)
}

// bucketLow is the smallest value of a bucket.
func bucketLow(i int) int64 {
	if i < 16 {
		return int64(i)
	}
	return int64(8+i%8) << (i/8 - 1)
}

// Add records one value.
func (d *Distribution) Add(v int64) { d.Record(v, 1) }

// Record records n values of v.
func (d *Distribution) Record(v, n int64) {
	d.sum.Add(v * n)
	d.buckets[bucketOf(v)].Add(n)
}

// Load returns the sum of the values.
func (d *Distribution) Load() int64 { return d.sum.Load() }

// Count returns the number of values.
func (d *Distribution) Count() int64 {
	n := int64(0)
	for i := range d.buckets {
		n += d.buckets[i].Load()
	}
	return n
}

// A Summary is what a [Distribution] looks like at one moment, in the unit of its
// metric. Count and Sum only ever grow.
type Summary struct {
	Count, Sum float64
	Min, Max   float64 // since the start; 0 without values
	// Quantiles are of the last minute or two; NaN without values.
	Quantiles []Quantile
}

// A Quantile is the value that a share Q of all values does not exceed.
type Quantile struct{ Q, Value float64 }

// Summary returns the present picture, its values multiplied with unit.
func (d *Distribution) Summary(now time.Time, unit float64, quantiles ...float64) Summary {
	cur := &counts{at: now}
	s := Summary{Sum: float64(d.Load()) * unit}
	for i := range d.buckets {
		n := d.buckets[i].Load()
		cur.buckets[i] = n
		if n > 0 {
			if s.Count == 0 {
				s.Min = float64(bucketLow(i)) * unit
			}
			s.Count += float64(n)
			s.Max = float64(bucketLow(i+1)-1) * unit
		}
	}
	recent := cur.buckets
	for i, n := range d.window(cur).buckets {
		recent[i] -= n
	}
	for _, q := range quantiles {
		s.Quantiles = append(s.Quantiles, Quantile{q, quantile(&recent, q) * unit})
	}
	return s
}

// window returns the counts that the quantiles of cur leave out. It keeps two
// older copies, a window apart, whoever asks how often.
func (d *Distribution) window(cur *counts) *counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.recent == nil:
		d.recent, d.before = cur, &counts{} // so far: since the start
	case cur.at.Sub(d.recent.at) >= quantileWindow:
		d.recent, d.before = cur, d.recent
	}
	return d.before
}

func quantile(buckets *[distributionBuckets]int64, q float64) float64 {
	total := int64(0)
	for _, n := range buckets {
		total += n
	}
	rank := int64(math.Ceil(q * float64(total)))
	for i, n := range buckets {
		if rank -= n; n > 0 && rank <= 0 {
			// The middle of the bucket.
			return float64(bucketLow(i)+bucketLow(i+1)-1) / 2
		}
	}
	return math.NaN()
}
