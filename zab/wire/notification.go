package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/paddockio/paddock/zab"
)

// MaxNotification is the largest message of the election port, and
// MaxInitialAddress the longest address in an initial message, in bytes
// (class QuorumCnxManager).
const (
	MaxNotification   = 512 << 10
	MaxInitialAddress = 2048
)

// Versions of an initial message. Servers before 3.5 send their id alone.
const (
	initialV1 = -65536
	initialV2 = -65535 // several addresses; only if multiAddress.enabled
)

// AnonymousObserver is the id in the initial message of an observer that has none.
const AnonymousObserver = zab.ServerID(math.MaxInt64)

// ErrInitial says that a connection to the election port does not begin as one.
var ErrInitial = errors.New("bad initial message")

// ErrNotification says that a message of the election port cannot be meant.
var ErrNotification = errors.New("bad notification")

// An InitialMessage begins every connection to an election port. Apache reads it
// with one read call: it must be written with one write.
type InitialMessage struct {
	Server zab.ServerID
	// Addrs are the host:port where the sender's election port is reached. There
	// are none in the form of servers before 3.5, one for version 1; Append writes
	// version 2 only if there are more.
	Addrs []string
}

// initialHead is the size of what precedes the address.
const initialHead = 8 + 8 + 4

// Append implements Record.
func (m *InitialMessage) Append(b []byte) []byte {
	switch len(m.Addrs) {
	case 0:
		return AppendLong(b, int64(m.Server))
	case 1:
		b = AppendLong(b, initialV1)
	default:
		b = AppendLong(b, initialV2)
	}
	return AppendString(AppendLong(b, int64(m.Server)), strings.Join(m.Addrs, "|"))
}

// InitialMessageSize returns the size of the message that begins at b if it is
// whole, which is so if the size is not above len(b). Otherwise the size is the
// least that the message can have. An error wraps ErrInitial.
func InitialMessageSize(b []byte) (int, error) {
	if len(b) < 8 {
		return 8, nil
	}
	switch v := int64(binary.BigEndian.Uint64(b)); {
	case v >= 0:
		return 8, nil
	case v != initialV1 && v != initialV2:
		return 0, fmt.Errorf("version %#x: %w", uint64(v), ErrInitial)
	case len(b) < initialHead:
		return initialHead, nil
	}
	n := int32(binary.BigEndian.Uint32(b[16:]))
	if n <= 0 || n > MaxInitialAddress {
		return 0, fmt.Errorf("address of %d bytes: %w", n, ErrInitial)
	}
	return initialHead + int(n), nil
}

// Decode implements Record.
func (m *InitialMessage) Decode(d *Decoder) {
	*m = InitialMessage{}
	size, err := InitialMessageSize(d.Rest())
	switch {
	case err != nil:
		d.Fail(err)
		return
	case size > d.Len():
		d.Fail(ErrTruncated)
		return
	case size == 8:
		m.Server = zab.ServerID(d.Long())
		return
	}
	d.Long()
	m.Server = zab.ServerID(d.Long())
	m.Addrs = strings.Split(string(d.Buffer()), "|")
	for _, a := range m.Addrs {
		if !validAddr(a) {
			d.Fail(fmt.Errorf("address %q: %w", a, ErrInitial))
		}
	}
	if m.Server < 0 {
		d.Fail(fmt.Errorf("server %d: %w", m.Server, ErrInitial))
	}
}

// validAddr reports whether a is host:port.
func validAddr(a string) bool {
	i := strings.LastIndexByte(a, ':')
	if i < 1 {
		return false
	}
	host, port := a[:i], a[i+1:]
	if len(host) > 2 && host[0] == '[' && host[i-1] == ']' {
		host = host[1 : i-1]
	} else if strings.ContainsAny(host, ":[]") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && utf8.ValidString(host) &&
		!strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// noVote is in each field of the vote of a server that has none.
const noVote = math.MinInt64

// Sizes of the forms of a notification: without the epoch of the vote, with it but
// with a version that does not count, and with the list of servers.
const (
	notification28 = 4 + 8 + 8 + 8
	notification40 = notification28 + 8 + 4
)

// AppendNotification appends n without its frame, in the newest version, 2.
func AppendNotification(b []byte, n *zab.Notification) []byte {
	leader, zxid, epoch := int64(n.Vote.Leader), int64(n.Vote.Zxid), int64(n.Vote.Epoch)
	if n.NoVote {
		leader, zxid, epoch = noVote, noVote, noVote
	}
	b = AppendLong(AppendInt(b, int32(n.State)), leader)
	b = AppendLong(AppendLong(b, zxid), n.Round)
	b = AppendInt(AppendLong(b, epoch), 2)
	return append(AppendInt(b, int32(len(n.Ensemble))), n.Ensemble...)
}

// DecodeNotification reads a notification without its frame, in any version; From
// and To are the caller's. Ensemble aliases b. A vote without a leader or with the
// epoch of a server that has lost its disk (-1) is NoVote. An error wraps
// ErrNotification.
func DecodeNotification(b []byte) (n zab.Notification, err error) {
	if len(b) < notification28 || len(b) > notification28 && len(b) < notification40 {
		return n, fmt.Errorf("%d bytes: %w", len(b), ErrNotification)
	}
	d := NewDecoder(b)
	state := d.Int()
	leader, zxid := d.Long(), zab.Zxid(d.Long())
	n.Round = d.Long()
	epoch := int64(zxid.Epoch())
	if leader == noVote {
		epoch = noVote
	}
	if len(b) > notification28 {
		epoch = d.Long()
	}
	if len(b) > notification40 {
		if n.Version = d.Int(); n.Version > 1 {
			n.Ensemble = d.Buffer()
		}
	}
	switch {
	case state < 0 || state > int32(zab.Observing):
		return n, fmt.Errorf("state %d: %w", state, ErrNotification)
	case d.Err() != nil:
		return n, fmt.Errorf("list of servers: %w", ErrNotification)
	case epoch > math.MaxUint32 || epoch < -1 && leader != noVote:
		return n, fmt.Errorf("epoch %d: %w", epoch, ErrNotification)
	}
	n.State = zab.Role(state)
	if n.NoVote = leader == noVote || epoch < 0; !n.NoVote {
		n.Vote = zab.Vote{Leader: zab.ServerID(leader), Zxid: zxid, Epoch: zab.Epoch(epoch)}
	}
	return n, nil
}
