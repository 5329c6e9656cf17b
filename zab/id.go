package zab

import (
	"fmt"
	"log/slog"
)

// A Zxid orders all state changes of an ensemble: epoch in the high 32 bits,
// a counter that restarts with each epoch in the low 32 (class ZxidUtils).
// The zero Zxid means an empty history.
type Zxid int64

// NewZxid joins an epoch and a counter.
func NewZxid(e Epoch, counter uint32) Zxid { return Zxid(uint64(e)<<32 | uint64(counter)) }

// Epoch returns the epoch of the leader that proposed the transaction.
func (z Zxid) Epoch() Epoch { return Epoch(uint64(z) >> 32) }

// Counter returns the place of the transaction within its epoch, from 1.
func (z Zxid) Counter() uint32 { return uint32(z) }

// Follows reports whether z may stand directly behind prev in a history: the
// next counter of the same epoch, or the first of a later one (rule R5).
func (z Zxid) Follows(prev Zxid) bool {
	return z == prev+1 && z.Epoch() == prev.Epoch() || z.Epoch() > prev.Epoch() && z.Counter() == 1
}

// Next returns the zxid behind z: the next counter, or the first of the next
// epoch when the counter is used up.
func (z Zxid) Next() Zxid {
	if z.Counter() == ^uint32(0) {
		return NewZxid(z.Epoch()+1, 1)
	}
	return z + 1
}

// String prints the zxid as ZooKeeper does: 0x100000002.
func (z Zxid) String() string { return fmt.Sprintf("0x%x", uint64(z)) }

// LogValue formats only if the record is enabled.
func (z Zxid) LogValue() slog.Value { return slog.StringValue(z.String()) }

// An Epoch numbers the reigns of leaders.
type Epoch uint32

// A ServerID is the myid of an ensemble member, 1 to 254 with extended
// ephemeral types, 0 to 255 otherwise.
type ServerID int64

// A SessionID names a client's session: server id in the high byte, clock
// bits, counter (class SessionTrackerImpl). 0 is no session.
type SessionID int64

// String prints the id as ZooKeeper does: 0x100000e2ae70000.
func (s SessionID) String() string { return fmt.Sprintf("0x%x", uint64(s)) }

// LogValue formats only if the record is enabled.
func (s SessionID) LogValue() slog.Value { return slog.StringValue(s.String()) }
