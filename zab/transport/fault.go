package transport

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// What peers do wrong. Each is a kind of [Fault]; errors of links wrap them.
var (
	ErrUnknownServer = errors.New("server is not in the ensemble")
	ErrOwnID         = errors.New("peer has the id of this server")
	ErrDuplicateID   = zab.ErrDuplicateID
	ErrProtocol      = errors.New("peer does not speak the protocol of this port")
	ErrTLS           = errors.New("peer wants TLS (sslQuorum), which this server does not support")
	ErrSASL          = errors.New("peer wants SASL (quorum.auth), which this server does not support")
	ErrTooLarge      = errors.New("peer sent more than the limit")
	ErrHandshake     = errors.New("peer did not say in time who it is")
	ErrTooMany       = errors.New("too many connections")
	ErrNotDialled    = errors.New("peer has been told to connect, as the one with the greater id, and has not: it may not reach this server, or want SASL or TLS")
	ErrNoAnswer      = errors.New("peer closed without an answer: it may not serve this port now, want SASL or TLS, not have this server in its list, or have another one with its id")
)

// kinds are the errors by which faults are told apart, the more exact first.
var kinds = []error{
	ErrTLS, ErrSASL, ErrUnknownServer, ErrOwnID, ErrDuplicateID, ErrTooLarge, ErrHandshake, ErrTooMany, ErrProtocol,
	ErrNoAnswer,
}

// A Fault is something that the host at an address did wrong, once or often.
type Fault struct {
	Host        string // without the port
	Kind        error  // one of the errors of this package
	Detail      string // of the last time
	Count       uint64
	First, Last time.Time
}

const (
	// maxFaults bounds the list: the one that was last seen longest ago goes.
	maxFaults = 256
	// maxFaultLogs bounds the lines in a log per minute, for hosts with many addresses.
	maxFaultLogs = 20
)

type faultKey struct {
	host string
	kind error
}

// faults logs the first of each kind from each host and counts the others.
type faults struct {
	log *slog.Logger

	mu     sync.Mutex
	seen   map[faultKey]*Fault
	total  uint64
	minute time.Time // begin of the minute that logged counts in
	logged int
}

func newFaults(log *slog.Logger) *faults { return &faults{log: log, seen: map[faultKey]*Fault{}} }

// add records err if it is of one of the kinds; anything else is the network's.
func (f *faults) add(addr net.Addr, err error) {
	kind := kindOf(err)
	if kind == nil {
		return
	}
	host, now := hostOf(addr), time.Now()
	f.mu.Lock()
	f.total++
	key := faultKey{host, kind}
	fault, known := f.seen[key]
	if !known {
		if len(f.seen) >= maxFaults {
			f.forgetOldestLocked()
		}
		fault = &Fault{Host: host, Kind: kind, First: now}
		f.seen[key] = fault
	}
	fault.Count++
	fault.Last, fault.Detail = now, err.Error()
	if now.Sub(f.minute) >= time.Minute {
		f.minute, f.logged = now, 0
	}
	loud := !known && f.logged < maxFaultLogs
	if loud {
		f.logged++
	}
	f.mu.Unlock()
	if loud {
		f.log.Warn("fault of a peer; more of this kind from there are only counted", "peer", addr.String(), "err", err)
	}
}

func kindOf(err error) error {
	if i := slices.IndexFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }); i >= 0 {
		return kinds[i]
	}
	if errors.Is(err, wire.ErrPacket) {
		return ErrProtocol // found by whoever closed the link with it
	}
	return nil
}

func (f *faults) forgetOldestLocked() {
	var oldest faultKey
	var last time.Time
	for key, fault := range f.seen {
		if last.IsZero() || fault.Last.Before(last) {
			oldest, last = key, fault.Last
		}
	}
	delete(f.seen, oldest)
}

// list returns the faults, the latest first, and how many there were in all.
func (f *faults) list() ([]Fault, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Fault, 0, len(f.seen))
	for _, fault := range f.seen {
		all = append(all, *fault)
	}
	slices.SortFunc(all, func(a, b Fault) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Kind.Error(), b.Kind.Error()))
	})
	return all, f.total
}

func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

// foreign names what b, the first bytes of a peer or of a message, are if they
// belong to a protocol that an Apache server may be set to; nil if they do not.
func foreign(b []byte) error {
	switch {
	case len(b) >= 2 && (b[0] == 0x15 || b[0] == 0x16) && b[1] == 3: // alert or handshake
		return ErrTLS
	case len(b) >= 4 && binary.BigEndian.Uint32(b) == wire.QuorumAuthMagic>>32:
		return ErrSASL
	}
	return nil
}

// protocolError says that b, the first bytes of a peer or of a message, cannot be
// meant.
func protocolError(b []byte, err error) error {
	if f := foreign(b); f != nil {
		return f
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
