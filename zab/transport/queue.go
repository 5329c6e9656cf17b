package transport

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// ErrQueueFull says that a peer takes less than is sent to it.
var ErrQueueFull = errors.New("queue of the link is full")

const (
	// chunkSize is up to which length packets are put behind each other.
	chunkSize = 64 << 10
	// largeData is from which length the data of a proposal is sent from where it
	// lies: a copy for each link would cost more than a second entry of a vector.
	largeData = 8 << 10
	// writeSize is about how much is written, and has to be taken, at once.
	writeSize = 256 << 10
)

// A segment is a part of what is to be sent: bytes, or a stream.
type segment struct {
	b       []byte
	chunk   *[]byte // where b lies; nil: b belongs to others
	packets int     // that begin in b
	stream  *stream
}

// chunks are not in use. All links share them: what one needs for a burst, the next
// one takes over, and the collector frees what nobody needs.
var chunks = sync.Pool{New: func() any { return new([]byte) }}

// A stream waits for its turn among the packets.
type stream struct {
	write func(io.Writer) error
	done  chan error // 1
}

// A queue holds what a link is to send, in order. Its owner locks it.
type queue struct {
	segments []segment
	spare    []segment // the slice that segments was before
	bytes    int       // in segments and with the writer
	packets  int
}

// grow returns the chunk to which size bytes are to be appended.
func (q *queue) grow(size int) *segment {
	if n := len(q.segments); n > 0 {
		if s := &q.segments[n-1]; s.chunk != nil && len(s.b)+size <= chunkSize {
			return s
		}
	}
	chunk := chunks.Get().(*[]byte)
	q.segments = append(q.segments, segment{b: *chunk, chunk: chunk})
	return &q.segments[len(q.segments)-1]
}

func (q *queue) addBytes(packet []byte) {
	s := q.grow(len(packet))
	s.b = append(s.b, packet...)
	q.count(s, len(packet))
}

func (q *queue) count(s *segment, bytes int) {
	s.packets++
	q.packets++
	q.bytes += bytes
}

// packetHead is at least what a packet has besides its data.
const packetHead = 64

func (q *queue) addMessage(m *zab.Message) {
	data := m.Proposal.Data
	if len(data) >= largeData && (m.Type == zab.MsgProposal || m.Type == zab.MsgInform) {
		s := q.grow(packetHead)
		had := len(s.b)
		s.b = wire.AppendPacketHead(s.b, wire.PacketType(m.Type), m.Proposal.Zxid, len(data))
		q.count(s, len(s.b)-had+len(data))
		q.segments = append(q.segments, segment{b: data})
		s = q.grow(packetHead)
		s.b = wire.AppendInt(s.b, -1)
		q.bytes += 4
		return
	}
	s := q.grow(packetHead + len(data) + len(m.Data))
	had := len(s.b)
	s.b = wire.AppendMessage(s.b, m)
	q.count(s, len(s.b)-had)
}

// take returns everything and leaves the queue empty. It counts until release.
func (q *queue) take() []segment {
	all := q.segments
	q.segments, q.spare = q.spare[:0], all
	return all
}

// release takes back what has been sent.
func (q *queue) release(sent []segment) {
	for i := range sent {
		s := &sent[i]
		q.bytes -= len(s.b)
		q.packets -= s.packets
		if s.chunk != nil && cap(s.b) <= 2*chunkSize {
			*s.chunk = s.b[:0]
			chunks.Put(s.chunk)
		}
		*s = segment{}
	}
}

// full says whether the queue is beyond its bounds; one packet never is.
func (q *queue) full(maxBytes, maxPackets int) error {
	if q.packets > 1 && (q.bytes > maxBytes || q.packets > maxPackets) {
		return fmt.Errorf("%d packets of %d bytes wait: %w", q.packets, q.bytes, ErrQueueFull)
	}
	return nil
}
