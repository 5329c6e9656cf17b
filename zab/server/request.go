package server

import (
	"sync"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/transport"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A request waits for its turn on a connection: a write for its transaction, a
// read for the writes before it. Requests are pooled; body and path of a decoded
// record alias frame.
type request struct {
	conn   *conn           // nil: made by the server itself, or by a learner's client
	origin *transport.Link // of the learner
	sess   *sessionState   // nil: made by a learner's client and not looked up yet, or not known
	xid    int32
	op     wire.Op
	write  bool
	// takeOver: not a transaction, but the answer to a connection that took up a
	// session, given after the writes of the session that were under way.
	takeOver bool
	code     wire.Code // decided without a transaction; of an auth request when it came
	size     int       // of a read that waits: bytes of its reply, as a guess
	frame    []byte    // the record, copied from the connection's buffer
	nanos    int64     // arrival, on the server's monotonic clock

	prep  znode.Request
	txn   wire.Txn
	epoch zab.Epoch // in which it was proposed, or sent to the leader, last; 0: not yet
	// overtaken: its session has done something over another server since.
	overtaken bool

	// What the most frequent writes are decoded with and into: no allocation.
	decoder wire.Decoder
	create  wire.CreateRequest
	set     wire.SetDataRequest
	path    wire.PathVersion
	timeout wire.IntRecord // ms; of createSession
}

var requests = sync.Pool{New: func() any { return new(request) }}

// maxPooledFrame keeps a few giant values from staying in the pool.
const maxPooledFrame = 16 << 10

func newRequest(c *conn, xid int32, op wire.Op, body []byte, nanos int64) *request {
	r := requests.Get().(*request)
	r.conn, r.xid, r.op, r.nanos = c, xid, op, nanos
	if c != nil {
		r.sess = c.sess
	}
	r.frame = append(r.frame[:0], body...)
	return r
}

func (r *request) free() {
	frame := r.frame
	if cap(frame) > maxPooledFrame {
		frame = nil
	}
	*r = request{frame: frame[:0]}
	requests.Put(r)
}

// decode fills r.prep but for session and identities. A record that cannot be decoded becomes an error
// transaction under a zxid of its own, so that nothing later waits behind it.
func (r *request) decode() {
	r.decoder = wire.NewAliasDecoder(r.frame)
	r.prep.Cxid, r.prep.Op = r.xid, r.op
	var body wire.Record
	switch r.op {
	case wire.OpCreate, wire.OpCreate2, wire.OpCreateContainer, wire.OpCreateTTL:
		r.create = wire.CreateRequest{HasTTL: r.op == wire.OpCreateTTL}
		body = &r.create
	case wire.OpSetData:
		body = &r.set
	case wire.OpDelete:
		body = &r.path
	case wire.OpSetACL:
		body = &wire.SetACLRequest{}
	case wire.OpMulti:
		body = &wire.MultiRequest{}
	case wire.OpReconfig:
		body = &wire.ReconfigRequest{}
	case wire.OpCreateSession:
		body = &r.timeout
	case wire.OpDeleteContainer:
		body = &wire.PathRecord{}
	case wire.OpCloseSession, wire.OpSync:
		return
	default: // of a learner only
		r.prep.BadBody = wire.ErrUnimplemented
		return
	}
	body.Decode(&r.decoder)
	m, multi := body.(*wire.MultiRequest)
	if r.decoder.Err() != nil || multi && m.IsRead() {
		r.prep.BadBody = wire.ErrMarshalling
		return
	}
	r.prep.Body = body
}

// fifo is a queue of requests that keeps its memory.
type fifo struct {
	buf  []*request
	head int
}

func (q *fifo) len() int { return len(q.buf) - q.head }

func (q *fifo) push(r *request) {
	if q.head > 0 && q.head*2 >= len(q.buf) {
		n := copy(q.buf, q.buf[q.head:])
		clear(q.buf[n:])
		q.buf, q.head = q.buf[:n], 0
	}
	q.buf = append(q.buf, r)
}

func (q *fifo) first() *request { return q.buf[q.head] }

func (q *fifo) pop() *request {
	r := q.buf[q.head]
	q.buf[q.head] = nil
	q.head++
	if q.head == len(q.buf) {
		q.head = 0
		if cap(q.buf) > 1024 {
			q.buf = nil // idle connections hold no memory of a burst
		} else {
			q.buf = q.buf[:0]
		}
	}
	return r
}
