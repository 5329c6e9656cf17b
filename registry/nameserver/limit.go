package nameserver

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// A limiter bounds the answers per client network. It knows 8192 slots, each
// for all networks that hash there: a flood in one slot costs its neighbours a
// round trip over TCP and nobody any memory.
type limiter struct {
	interval int64 // nanoseconds per answer; 0 means no limit
	seed     maphash.Seed
	slots    [8192]slot
}

// A slot holds the time at which it would be empty again, in nanoseconds of
// the limiter's clock: the generic cell rate algorithm, which needs one word.
type slot struct {
	empty atomic.Int64
	over  atomic.Uint32
}

type verdict int

const (
	send verdict = iota
	slip         // answer truncated and empty
	drop
)

// burst is for how long a silent network may go above the rate.
const burst = int64(time.Second)

func newLimiter(perSecond int) *limiter {
	l := &limiter{seed: maphash.MakeSeed()}
	if perSecond > 0 {
		l.interval = max(int64(time.Second)/int64(perSecond), 1)
	}
	return l
}

// check accounts for one answer to client at time now.
func (l *limiter) check(client netip.Addr, now int64) verdict {
	if l.interval == 0 || client.IsLoopback() {
		return send
	}
	s := &l.slots[l.hash(client)%uint64(len(l.slots))]
	for {
		old := s.empty.Load()
		next := max(old, now) + l.interval
		if next-now > burst {
			// Every second one: who is real learns so to use TCP, and who is
			// the victim of a forger gets half of the packets and short ones.
			if s.over.Add(1)%2 == 0 {
				return slip
			}
			return drop
		}
		if s.empty.CompareAndSwap(old, next) {
			return send
		}
	}
}

// hash takes the network of client: /24 for IPv4, /56 for IPv6.
func (l *limiter) hash(client netip.Addr) uint64 {
	raw := client.As16()
	keep := 7
	if client.Is4() || client.Is4In6() {
		keep = 15
	}
	var key [16]byte
	copy(key[:keep], raw[:keep])
	return maphash.Comparable(l.seed, [2]uint64{binary.BigEndian.Uint64(key[:]), binary.BigEndian.Uint64(key[8:])})
}
