package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

const (
	// maxBatch is about how much goes out in one write.
	maxBatch = 128 << 10
	// maxSetWatches bounds one setWatches frame: the Java client's 128 KiB.
	maxSetWatches = 128 << 10
	// maxPingInterval keeps connections alive that a firewall would forget.
	maxPingInterval = 10 * time.Second
	replyHeaderSize = 16
)

// lostError says that a connection broke which had been good.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// errFullServer ends a read-only connection: a server with a quorum is there.
type errFullServer struct{ index int }

func (errFullServer) Error() string { return "found a server that is not read-only" }

// A conn is one connection after its handshake.
type conn struct {
	nc           net.Conn
	br           *bufio.Reader
	readTimeout  time.Duration // 2/3 of the session timeout: leaves a third to find another server
	pingInterval time.Duration
	maxReply     int
	readOnly     bool
	preamble     []byte // goes out first: auth, setWatches
}

func newConn(nc net.Conn, timeout time.Duration, maxReply int) *conn {
	k := &conn{
		nc:           nc,
		readTimeout:  max(timeout*2/3, time.Millisecond),
		pingInterval: max(min(timeout/3, maxPingInterval), time.Millisecond),
		maxReply:     maxReply,
	}
	k.br = bufio.NewReaderSize(k, 64<<10)
	return k
}

// Read fails after readTimeout without a byte: pings see to it that there are
// some as long as the server lives.
func (k *conn) Read(p []byte) (int, error) {
	k.nc.SetReadDeadline(time.Now().Add(k.readTimeout)) // fails on a pipe that the other side closed, as will Read
	return k.nc.Read(p)
}

func (k *conn) write(b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), 2*maxBatch)]
		k.nc.SetWriteDeadline(time.Now().Add(k.readTimeout))
		n, err := k.nc.Write(piece)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// appendFrame appends a whole request.
func appendFrame(b []byte, xid int32, op wire.Op, req wire.Record) []byte {
	at := len(b)
	b = wire.AppendInt(b, 0)
	b = (&wire.RequestHeader{Xid: xid, Op: op}).Append(b)
	b = req.Append(b)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// handshake asks for a session, the known one if there is one.
func (c *Client) handshake(nc net.Conn) (*wire.ConnectResponse, error) {
	c.mu.Lock()
	s, known := c.session, c.fullSeen
	c.mu.Unlock()
	req := wire.ConnectRequest{
		LastZxidSeen: s.LastZxid, TimeoutMs: int32(c.cfg.SessionTimeout.Milliseconds()),
		Password: make([]byte, 16), ReadOnly: c.cfg.ReadOnly, HasReadOnly: true,
	}
	if known { // a session of a read-only server is unknown elsewhere
		req.SessionID, req.Password = s.ID, s.Password[:]
	}
	// The reply waits for a quorum to log the session.
	if err := nc.SetDeadline(time.Now().Add(max(c.cfg.SessionTimeout*2/3, c.cfg.ConnectTimeout))); err != nil {
		return nil, err
	}
	b := req.Append(make([]byte, 4))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := nc.Write(b); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(nc, size[:]); err != nil {
		if err == io.EOF {
			return nil, fmt.Errorf("closed without an answer: it is not serving, or it has not seen zxid %v yet", s.LastZxid)
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1024 {
		return nil, fmt.Errorf("answer of %d bytes: this is not a ZooKeeper server", n)
	}
	b = make([]byte, n)
	if _, err := io.ReadFull(nc, b); err != nil {
		return nil, err
	}
	if n == replyHeaderSize { // how a read-only server refuses to make a session
		var h wire.ReplyHeader
		if err := wire.Unmarshal(b, &h); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("no session: %w", h.Err)
	}
	var resp wire.ConnectResponse
	if err := wire.Unmarshal(b, &resp); err != nil {
		return nil, fmt.Errorf("connect response: %w", err)
	}
	return &resp, nil
}

// serve moves requests and replies until the connection breaks.
func (c *Client) serve(ctx context.Context, k *conn, addr string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		cancel(c.writeLoop(ctx, k))
		k.nc.Close() // wakes the reader
	})
	if k.readOnly && len(c.addrs) > 1 {
		wg.Go(func() {
			if i, ok := c.findFullServer(ctx, addr); ok {
				cancel(errFullServer{i})
			}
		})
	}
	cancel(c.readLoop(k))
	k.nc.Close() // wakes the writer
	err := context.Cause(ctx)
	var full errFullServer
	if errors.Is(err, errSessionClosed) || errors.Is(err, wire.ErrAuthFailed) || errors.As(err, &full) {
		return err
	}
	return &lostError{err}
}

// writeLoop sends what is queued, and pings when nothing was.
func (c *Client) writeLoop(ctx context.Context, k *conn) error {
	out := k.preamble
	k.preamble = nil
	lastSent := time.Now()
	idle := time.NewTimer(k.pingInterval)
	defer idle.Stop()
	for {
		if out = c.takeQueued(out); len(out) > 0 {
			if err := k.write(out); err != nil {
				return err
			}
			lastSent = time.Now()
			if out = out[:0]; cap(out) > 2*maxBatch {
				out = nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
			// Replies come in batches, and those who waited for them ask again: let
			// them all do so, for one write.
			runtime.Gosched()
		case <-idle.C:
			quiet := time.Since(lastSent)
			if quiet >= k.pingInterval {
				quiet = 0
				out = wire.AppendInt(out, 8)
				out = (&wire.RequestHeader{Xid: wire.XidPing, Op: wire.OpPing}).Append(out)
			}
			idle.Reset(k.pingInterval - quiet)
		}
	}
}

// takeQueued moves requests from the queue to those that are sent, about
// maxBatch bytes of them, and appends their frames to out.
func (c *Client) takeQueued(out []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(out) < maxBatch {
		k := c.queue.front()
		if k == nil {
			break
		}
		c.queue.pop()
		k.state = callSent
		if k.op == wire.OpAuth {
			k.xid = wire.XidAuth
			c.sentAuth.push(k)
		} else {
			k.xid = c.nextXidLocked()
			c.sent.push(k)
		}
		binary.BigEndian.PutUint32(k.frame[4:], uint32(k.xid))
		out = append(out, k.frame...)
	}
	return out
}

// readLoop takes replies and events in until the connection breaks.
func (c *Client) readLoop(k *conn) error {
	for {
		size, err := k.br.Peek(4)
		if err != nil {
			return err
		}
		n := int(int32(binary.BigEndian.Uint32(size)))
		if n < replyHeaderSize {
			return fmt.Errorf("frame of %d bytes", n)
		}
		k.br.Discard(4)
		if n <= k.br.Size() {
			frame, err := k.br.Peek(n)
			if err != nil {
				return err
			}
			if err := c.receive(frame, false, nil); err != nil {
				return err
			}
			k.br.Discard(n)
			continue
		}
		var tooLarge error
		if n > k.maxReply {
			tooLarge = fmt.Errorf("%w: %d bytes, limit %d", ErrReplyTooLarge, n, k.maxReply)
		}
		frame, err := k.readLarge(n)
		if err != nil {
			return err
		}
		if err := c.receive(frame, true, tooLarge); err != nil {
			return err
		}
	}
}

// readLarge reads a frame that does not fit into the buffer. Memory grows with
// what arrives. Of one that is too large only the header is returned.
func (k *conn) readLarge(n int) ([]byte, error) {
	if n > k.maxReply {
		frame := make([]byte, replyHeaderSize)
		if _, err := io.ReadFull(k.br, frame); err != nil {
			return nil, err
		}
		if _, err := k.br.Discard(n - replyHeaderSize); err != nil {
			return nil, err
		}
		return frame, nil
	}
	frame := make([]byte, 0, min(n, 1<<20))
	for {
		at := len(frame)
		frame = frame[:min(n, cap(frame))]
		if _, err := io.ReadFull(k.br, frame[at:]); err != nil {
			return nil, err
		}
		if len(frame) == n {
			return frame, nil
		}
		frame = append(make([]byte, 0, min(n, 2*len(frame))), frame...)
	}
}

// receive handles one frame, of which there is only the header if err is not
// nil. It may keep parts of the frame only if owned.
func (c *Client) receive(frame []byte, owned bool, err error) error {
	var h wire.ReplyHeader
	d := wire.NewDecoder(frame)
	h.Decode(&d)
	switch h.Xid {
	case wire.XidNotification:
		var e wire.WatcherEvent
		if e.Decode(&d); d.Err() != nil {
			return fmt.Errorf("watch event: %w", d.Err())
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fireLocked(e, max(h.Zxid, 0))
		return nil
	case wire.XidPing:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.noteZxidLocked(h.Zxid)
		return nil
	case wire.XidAuth:
		return c.receiveAuth(h.Err)
	case wire.XidSetWatches:
		return c.receiveSetWatches(h)
	}
	c.mu.Lock()
	c.noteZxidLocked(h.Zxid)
	k := c.sent.front()
	if k == nil || k.xid != h.Xid {
		c.mu.Unlock()
		return fmt.Errorf("reply with xid %d out of order", h.Xid)
	}
	c.sent.pop()
	k.state = callTaken
	c.mu.Unlock()

	if err == nil {
		err = k.decode(h.Err, d.Rest(), owned)
	}
	closed := k.op == wire.OpCloseSession && h.Err == wire.OK
	if k.watch != nil || k.pers != nil || k.op == wire.OpRemoveWatches || closed {
		code := h.Err
		if err != nil {
			code = wire.ErrMarshalling
		}
		c.settle(k, code)
	}
	c.finish(k, h.Err, err)
	if closed {
		return errSessionClosed
	}
	return nil
}

func (k *call) decode(code wire.Code, body []byte, owned bool) error {
	if code != wire.OK || k.resp == nil || k.abandoned {
		return nil
	}
	if k.keep && !owned {
		body = bytes.Clone(body)
	}
	if err := wire.Unmarshal(body, k.resp); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	return nil
}

// settle does what must be done before the next frame is read, since that may
// be the event that a watch waits for.
func (c *Client) settle(k *call, code wire.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case k.op == wire.OpCloseSession:
		c.session = Session{LastZxid: c.session.LastZxid}
		c.fullSeen = false
	case k.op == wire.OpRemoveWatches:
		if code == wire.OK || code == wire.ErrNoWatcher {
			c.watches.remove(k.full, k.kind, c.strip)
		}
	case k.pers != nil:
		if code == wire.OK {
			k.pers.ready = true
		} else {
			c.watches.dropHandle(k.pers)
		}
	case k.abandoned:
	case code == wire.OK:
		c.watches.addOneShot(k.watch)
	case code == wire.ErrNoNode && k.op == wire.OpExists:
		k.watch.table = existWatches
		c.watches.addOneShot(k.watch)
	}
}

func (c *Client) receiveAuth(code wire.Code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.sentAuth.front()
	if k == nil {
		return errors.New("answer to auth out of order")
	}
	c.sentAuth.pop()
	k.state = callTaken
	stored := k.frame == nil
	if code == wire.OK && !stored {
		c.keepAuthLocked(k.auth)
	}
	c.finish(k, code, nil)
	if code != wire.OK && stored {
		return fmt.Errorf("scheme %s: %w", k.path, code)
	}
	return nil // after a refusal the server closes the connection
}

func (c *Client) keepAuthLocked(auth Auth) {
	for _, a := range c.auths {
		if a.Scheme == auth.Scheme && bytes.Equal(a.Data, auth.Data) {
			return
		}
	}
	c.auths = append(c.auths, auth)
}

func (c *Client) receiveSetWatches(h wire.ReplyHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteZxidLocked(h.Zxid)
	switch c.rearming--; {
	case h.Err != wire.OK:
		return fmt.Errorf("watches cannot be armed again: %w", h.Err)
	case c.rearming < 0:
		return errors.New("answer to setWatches out of order")
	case c.rearming == 0:
		c.watches.armed()
	}
	return nil
}

// findFullServer asks the other servers, at growing intervals, until one is not
// read-only.
func (c *Client) findFullServer(ctx context.Context, current string) (int, bool) {
	for pause := 100 * time.Millisecond; sleep(ctx, pause); pause = min(2*pause, time.Minute) {
		for i, addr := range c.addrs {
			if addr != current && c.isFull(ctx, addr) {
				return i, true
			}
		}
	}
	return 0, false
}

// isFull sends the four-letter word isro.
func (c *Client) isFull(ctx context.Context, addr string) bool {
	nc, err := c.dial(ctx, addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	nc.SetDeadline(time.Now().Add(c.cfg.ConnectTimeout))
	if _, err := nc.Write([]byte("isro")); err != nil {
		return false
	}
	answer := make([]byte, 2)
	_, err = io.ReadFull(nc, answer)
	return err == nil && string(answer) == "rw"
}
