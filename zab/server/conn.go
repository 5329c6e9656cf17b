package server

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/znode"
)

// A conn is one client connection. Its own goroutine (serve) reads; replies and
// events are appended to out by whoever makes them and written by flush.
//
// Lock order: Server.treeMu, then conn.mu, then Server.watchMu.
type conn struct {
	srv      *Server
	nc       net.Conn
	raw      syscall.RawConn // nil: in-process connection
	remote   netip.AddrPort
	since    time.Time
	done     chan struct{} // closed by kill
	killOnce sync.Once
	ids      atomic.Pointer[[]wire.ID] // replaced, never changed: written by serve only

	// Owned by serve.
	in         []byte // pooled; nil while idle
	start, end int    // unread bytes of in
	batch      []*request
	full       bool          // something must become less before process goes on
	drain      bool          // full: until queue is empty
	greeted    bool          // the first bytes were not a four-letter word
	sess       *sessionState // set once, before anything else can see it

	mu          sync.Mutex // guards what follows; never held during I/O
	queue       fifo       // writes under way, and reads behind them, in order of arrival
	out         []byte     // frames to write; pooled, nil while idle
	frameAt     int        // start of the frame that is being built
	unsent      int64      // packets in out
	writing     bool       // some goroutine is in flush
	lastWord    bool       // close when out is written and queue is empty
	ending      bool       // close when out is written
	closed      bool
	roomAt      int // serve waits until queue is at most this long; -1: it does not wait
	owed        int // guess of the bytes that the reads in queue will be answered with
	widest      int // bytes of the largest request since queue was empty
	watchCount  int
	hasReadOnly bool
	stats       connStats
	decoder     wire.Decoder // of the read that is being answered; here it costs no allocation

	// Owned by who has set writing.
	onWritable func(fd uintptr) bool // writeRaw
	toWrite    []byte                // what it has left

	published    atomic.Pointer[sessionState] // sess, for who only looks
	dirty        bool                         // owned by the driver: listed in Server.dirty
	room         chan struct{}                // one token: queue or out became shorter while serve waits
	writingSince atomic.Int64                 // nanos; 0: not in a write call
	away         atomic.Bool                  // serve may be waiting for something else than bytes
	unsure       atomic.Bool                  // serve waits for bytes and may have missed the end of the stream
}

// connStats is what the word cons prints. Latencies are in ms.
type connStats struct {
	received, sent          int64
	lastOp                  wire.Op
	lastXid                 int32
	lastZxid                zab.Zxid
	lastAt                  int64 // nanos
	latCount, latSum        int64
	latLast, latMin, latMax int64
}

// answered notes n requests of which the last was op; they took ms each.
func (st *connStats) answered(op wire.Op, xid int32, zxid zab.Zxid, at, ms, n int64) {
	if xid >= 0 { // not of a ping: cons shows the last real request
		st.lastXid = xid
	}
	st.lastOp, st.lastZxid, st.lastAt, st.latLast = op, zxid, at, ms
	if st.latCount == 0 || ms < st.latMin {
		st.latMin = ms
	}
	st.latMax = max(st.latMax, ms)
	st.latCount += n
	st.latSum += ms * n
}

// readSize is what one read call takes at most in the common case: some dozens
// of requests of a pipelining client.
const readSize = 32 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

func getIn() []byte { return readBuffers.Get().(*[readSize]byte)[:] }

func putIn(b []byte) {
	if cap(b) == readSize {
		readBuffers.Put((*[readSize]byte)(b[:readSize]))
	}
}

// errors that end a connection without being a fault of anybody.
var errDone = errors.New("connection is done")

// A packetError closes the connection for what the client sent.
type packetError struct {
	kind   string // the format, which is the same for all of a kind
	reason string
}

func (e *packetError) Error() string { return e.reason }

func badPacket(format string, args ...any) error {
	return &packetError{format, fmt.Sprintf(format, args...)}
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, since: time.Now(), done: make(chan struct{}), room: make(chan struct{}, 1), roomAt: -1}
	if t, ok := nc.(*net.TCPConn); ok {
		c.remote = t.RemoteAddr().(*net.TCPAddr).AddrPort()
		c.raw, _ = t.SyscallConn()
	} else {
		c.remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	c.remote = netip.AddrPortFrom(c.remote.Addr().Unmap(), c.remote.Port())
	c.onWritable = c.writeRaw
	c.ids.Store(&[]wire.ID{znode.IPID(c.remote.Addr())})
	return c
}

// isLocal reports whether the client is in this process.
func (c *conn) isLocal() bool { return c.remote.Port() == 0 }

// serve reads until the connection ends.
func (c *conn) serve() {
	c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.HandshakeTimeout))
	var err error
	if c.raw != nil {
		err = c.serveSocket()
	} else {
		err = c.servePipe()
	}
	var bad *packetError
	switch {
	case errors.As(err, &bad):
		c.srv.stats.BadPackets.Add(1)
		c.srv.badPacket.warn(c.srv, bad.kind, "closing connection", "peer", c.remote.String(), "session", c.sessionID(), "err", err)
		c.finish() // what was answered before still goes out
	case errors.Is(err, errDone):
		c.finish()
	}
	<-c.closeWhenDone(err)
	c.cleanup()
}

// serveSocket is serve up to the end of the stream.
//
// All of it is one RawConn.Read: only inside of it nothing is lost when the
// connection waits although the last read did not come back empty-handed. A read
// that was short has taken everything, so the empty-handed one is left out, which
// is a third of the system calls of a client that sends one request at a time.
// The poller tells of the end of the stream once, maybe together with the last
// bytes, so the sweeper looks for it then.
func (c *conn) serveSocket() error {
	var err error
	short := false
	waitErr := c.raw.Read(func(fd uintptr) (done bool) {
		c.unsure.Store(false)
		for err == nil {
			now := c.srv.nanos()
			if !c.full {
				n, readErr := readOnce(fd, c.space())
				if readErr == syscall.EAGAIN {
					c.rest()
					return false
				}
				short = n < len(c.in)-c.end
				err = c.filled(n, readErr, now)
			}
			if err = c.handle(err, now); err == nil && short && c.start == c.end && !c.full {
				c.rest()
				c.unsure.Store(true)
				return false
			}
		}
		return true
	})
	return cmp.Or(err, waitErr)
}

// servePipe is serveSocket for a client in this process.
func (c *conn) servePipe() (err error) {
	for err == nil {
		if !c.full {
			n, readErr := c.nc.Read(c.space())
			err = c.filled(n, readErr, c.srv.nanos())
		}
		err = c.handle(err, c.srv.nanos())
		if !c.full && c.start == c.end && len(c.in) > readSize {
			c.rest()
		}
	}
	return err
}

// handle does what there is to do after a read, which ended with err, and waits
// until more may be read. It returns why the connection ends.
func (c *conn) handle(err error, now int64) error {
	if err == nil {
		err = c.process(now)
	}
	c.submit()
	c.away.Store(true)
	c.flush()
	if err == nil {
		err = c.waitForRoom()
	}
	c.away.Store(false)
	return err
}

// closeWhenDone ends the connection at once unless its last replies are still to
// be written; the sweeper bounds that time.
func (c *conn) closeWhenDone(err error) <-chan struct{} {
	var bad *packetError
	if !errors.Is(err, errDone) && !errors.As(err, &bad) {
		c.kill()
	}
	return c.done
}

// finish closes the connection as soon as out is written and nothing is under
// way any more.
func (c *conn) finish() {
	c.mu.Lock()
	c.lastWord = true
	c.mu.Unlock()
	c.flush()
}

// windUp closes the connection as soon as out is written: the server stops, nothing
// that is under way will be answered.
func (c *conn) windUp() {
	c.nc.SetWriteDeadline(time.Now().Add(lastTimeout))
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	c.flush()
}

// sessionID returns the session, 0 if there is none yet; for every goroutine.
func (c *conn) sessionID() zab.SessionID {
	if sess := c.published.Load(); sess != nil {
		return sess.id
	}
	return 0
}

// kill closes the socket; serve notices and cleans up. Nobody waits for that: a
// Close returns only when serve has left its read, and it may be serve that calls.
func (c *conn) kill() {
	c.killOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		close(c.done)
		go c.nc.Close()
	})
}

func (c *conn) cleanup() {
	c.nc.Close() // if the goroutine of kill is not that far: forget tells that all is over
	putIn(c.in)
	c.in = nil
	c.srv.forget(c)
}

// space returns where to read to: behind the bytes that are left.
func (c *conn) space() []byte {
	switch {
	case c.in == nil:
		c.in = getIn()
	case c.start > 0:
		c.end = copy(c.in, c.in[c.start:c.end])
		c.start = 0
	}
	if c.end == len(c.in) {
		// A frame larger than the buffer: grow with what has really arrived.
		grown := make([]byte, 2*len(c.in))
		copy(grown, c.in)
		c.in = grown
	}
	return c.in[c.end:]
}

// rest gives the buffer back if nothing is left in it, so an idle session costs no
// more than its goroutine.
func (c *conn) rest() {
	if c.start == c.end {
		putIn(c.in)
		c.in, c.start, c.end = nil, 0, 0
	}
}

// filled takes the result of a read to space.
func (c *conn) filled(n int, err error, now int64) error {
	if n <= 0 {
		return cmp.Or(err, io.EOF)
	}
	c.end += n
	c.srv.stats.BytesIn.Add(int64(n))
	if c.sess != nil {
		c.sess.heard.Store(now)
	}
	return nil
}

// readOnce returns what the socket has now, syscall.EAGAIN if that is nothing.
func readOnce(fd uintptr, b []byte) (int, error) {
	for {
		if n, err := syscall.Read(int(fd), b); err != syscall.EINTR {
			return n, err
		}
	}
}

// hasEnded reports whether the client will send nothing more, and everything that
// it has sent is read.
func (c *conn) hasEnded() bool {
	ended := false
	c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ended = n == 0 && err == nil
	})
	return ended
}

// process handles the complete frames in the buffer. It stops early, and sets
// full, when what is under way or to be written must become less first.
// Consecutive reads share one hold of the locks.
func (c *conn) process(now int64) error {
	c.full = false
	var held hold
	frames := int64(0)
	defer func() {
		c.release(&held, now)
		c.srv.stats.Received.Add(frames)
		c.mu.Lock()
		c.stats.received += frames
		c.mu.Unlock()
	}()
	for c.end-c.start >= 4 && !c.full {
		if !c.greeted {
			if done, err := c.greet(); done || err != nil {
				return err
			}
		}
		size := int(int32(binary.BigEndian.Uint32(c.in[c.start:])))
		if size < 0 || size > c.srv.cfg.MaxBuffer {
			return badPacket("frame of %d bytes, at most %d allowed", size, c.srv.cfg.MaxBuffer)
		}
		if c.end-c.start-4 < size {
			return nil
		}
		frame := c.in[c.start+4 : c.start+4+size]
		c.start += 4 + size
		frames++
		if c.sess == nil {
			if err := c.connect(frame); err != nil {
				return err
			}
			continue
		}
		if size < 8 {
			return badPacket("request of %d bytes has no header", size)
		}
		xid, op := int32(binary.BigEndian.Uint32(frame)), wire.Op(int32(binary.BigEndian.Uint32(frame[4:])))
		if held.n == maxHeldReads || c.needsDriver(op) || op == wire.OpAuth {
			c.release(&held, now)
		}
		switch {
		case c.needsDriver(op):
			c.write(xid, op, frame[8:], now)
			if op == wire.OpCloseSession {
				return errDone // nothing that comes behind it is executed
			}
		case op == wire.OpAuth:
			if err := c.auth(xid, frame[8:], now); err != nil {
				return err
			}
		case held.n == 0 && c.mustWait(xid, op, frame[8:], now):
			if !isRead(op) {
				return errDone // it closes the connection in its turn
			}
		default:
			if held.n == 0 {
				if err := c.lockForRead(); err != nil {
					return err
				}
			}
			held = hold{held.n + 1, op, xid}
			c.answerLocked(xid, op, frame[8:], *c.ids.Load())
			c.full = len(c.out) >= c.srv.maxUnsent()
			if !isRead(op) {
				return errDone
			}
		}
	}
	return nil
}

// maxHeldReads bounds how long one connection's reads keep the applier waiting.
const maxHeldReads = 64

// hold is consecutive reads under one hold of the locks.
type hold struct {
	n   int64
	op  wire.Op // the last one
	xid int32
}

// release ends a hold, if there is one.
func (c *conn) release(h *hold, arrived int64) {
	if h.n == 0 {
		return
	}
	zxid := c.srv.tree.LastZxid()
	us := (c.srv.nanos() - arrived) / 1000
	c.stats.answered(h.op, h.xid, zxid, arrived, us/1000, h.n)
	c.unlockForRead()
	c.srv.stats.answered(&c.srv.stats.ReadMicros, us, h.n)
	*h = hold{}
}

// lockForRead takes the locks that a reply is made under, when the server serves.
// Nothing is locked if it returns an error.
func (c *conn) lockForRead() error {
	for {
		c.srv.treeMu.RLock()
		if c.srv.serves {
			c.mu.Lock()
			return nil
		}
		c.srv.treeMu.RUnlock()
		if err := c.waitToServe(); err != nil {
			return err
		}
	}
}

func (c *conn) unlockForRead() {
	c.mu.Unlock()
	c.srv.treeMu.RUnlock()
}

// mustWait puts a read behind the writes of the connection that are under way, if
// there are any; the driver answers it in its turn. The driver cannot stop until
// the client has taken long replies, so serve stops before there are too many.
func (c *conn) mustWait(xid int32, op wire.Op, body []byte, now int64) bool {
	c.mu.Lock()
	idle := c.queue.len() == 0
	c.mu.Unlock()
	if idle {
		return false // and stays so: only serve adds to the queue
	}
	r := newRequest(c, xid, op, body, now)
	r.prep.IDs = *c.ids.Load()
	r.size = c.srv.replySize(op, body, r.prep.IDs)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue.len() == 0 { // meanwhile
		r.free()
		return false
	}
	if op == wire.OpGetData {
		r.size = max(r.size, c.widest) // what is under way may be what it will read
	}
	c.pushLocked(r)
	if c.owed += r.size; c.owed > c.srv.cfg.MaxReplyBytes/4 {
		c.full, c.drain = true, true
	}
	return true
}

// write takes a request that the driver has to answer.
func (c *conn) write(xid int32, op wire.Op, body []byte, now int64) {
	r := newRequest(c, xid, op, body, now)
	r.write = true
	r.prep.Session = c.sess.id
	r.decode()
	if op == wire.OpReconfig && !c.srv.cfg.ReconfigEnabled {
		r.prep.Refuse = wire.ErrReconfigDisabled
	}
	r.prep.IDs = *c.ids.Load()
	c.mu.Lock()
	c.pushLocked(r)
	c.widest = max(c.widest, len(r.frame))
	c.mu.Unlock()
	c.batch = append(c.batch, r)
}

// pushLocked adds a request to the queue.
func (c *conn) pushLocked(r *request) {
	if c.queue.len() == 0 {
		c.owed, c.widest = 0, 0
	}
	c.queue.push(r)
	c.srv.outstandingBytes.Add(int64(len(r.frame)))
	c.full = c.queue.len() >= c.srv.cfg.MaxInFlight
}

// submit hands the writes of the last read call to the driver together.
func (c *conn) submit() {
	if len(c.batch) > 0 {
		c.srv.submit(c.batch)
		clear(c.batch)
		c.batch = c.batch[:0]
	}
}

// waitForRoom stops reading from a client that has too much under way, or that
// does not take its replies.
func (c *conn) waitForRoom() error {
	limit := c.srv.cfg.MaxInFlight - 1
	if c.drain {
		c.drain, limit = false, 0
	}
	for {
		if c.srv.outstandingBytes.Load() > c.srv.cfg.MaxOutstandingBytes {
			limit = 0
		}
		c.mu.Lock()
		room := c.queue.len() <= limit && len(c.out) < c.srv.maxUnsent()
		limit = min(limit, c.srv.cfg.MaxInFlight/2)
		c.roomAt = limit
		if room {
			c.roomAt = -1
		}
		c.mu.Unlock()
		if room {
			return nil
		}
		select {
		case <-c.room:
		case <-c.done:
			return net.ErrClosed
		}
	}
}

// gotRoom wakes serve.
func (c *conn) gotRoom() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// needsDriver reports whether the reader cannot answer a request: a write, and in
// an ensemble a sync, which asks the leader.
func (c *conn) needsDriver(op wire.Op) bool {
	return isWrite(op) || op == wire.OpSync && c.srv.member != nil
}

// isWrite reports whether a client's request of this type becomes a transaction.
// deleteContainer and createSession are not for clients, check only exists inside
// a multi.
func isWrite(op wire.Op) bool {
	switch op {
	case wire.OpDeleteContainer, wire.OpCreateSession, wire.OpCheck:
		return false
	}
	return op.IsWrite()
}
