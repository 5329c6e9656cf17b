package server

import (
	"encoding/binary"
	"sync"
	"syscall"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// outSize is the size of a pooled output buffer. Larger ones come and go with
// large replies.
const outSize = 16 << 10

var outBuffers = sync.Pool{New: func() any { return new([outSize]byte) }}

func getOut() []byte { return outBuffers.Get().(*[outSize]byte)[:0] }

func putOut(b []byte) {
	if cap(b) == outSize {
		outBuffers.Put((*[outSize]byte)(b[:outSize]))
	}
}

// beginLocked starts a frame in out, endLocked completes it. In between the
// caller appends to c.out.
func (c *conn) beginLocked() {
	if c.out == nil {
		c.out = getOut()
	}
	c.frameAt = len(c.out)
	c.out = append(c.out, 0, 0, 0, 0)
}

func (c *conn) endLocked() {
	binary.BigEndian.PutUint32(c.out[c.frameAt:], uint32(len(c.out)-c.frameAt-4))
	c.stats.sent++
	c.unsent++
	if len(c.out) > c.srv.cfg.MaxReplyBytes && c.frameAt > c.srv.cfg.MaxReplyBytes/2 && !c.closed {
		// Half of the bound was there before this frame: the client does not read.
		c.closed = true
		go c.killSlow(len(c.out))
	}
}

// killSlow closes a connection whose client does not take its replies.
func (c *conn) killSlow(unsent int) {
	c.srv.stats.SlowClients.Add(1)
	c.srv.slowClient.warn(c.srv, "", "closing connection that does not read", "peer", c.remote.String(), "session", c.sessionID(), "bytes", unsent)
	c.kill()
}

// replyLocked appends a reply of a header and at most one record.
func (c *conn) replyLocked(xid int32, zxid zab.Zxid, code wire.Code, body wire.Record) {
	c.beginLocked()
	h := wire.ReplyHeader{Xid: xid, Zxid: zxid, Err: code}
	c.out = h.Append(c.out)
	if code == wire.OK && body != nil {
		c.out = body.Append(c.out)
	}
	c.endLocked()
}

// flush writes out, unless another goroutine is at it, which then goes on with
// what was added. It blocks while the client does not read.
func (c *conn) flush() {
	c.mu.Lock()
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.flushLocked()
}

// heldLocked reports whether output has to wait until the server serves: what is
// in it may come from transactions that are not committed after all. Who has no
// session yet gets answers to words only.
func (c *conn) heldLocked() bool {
	return c.srv.held.Load() && !c.closed && c.published.Load() != nil
}

// flushLocked is flush for who has set writing. It unlocks c.mu.
func (c *conn) flushLocked() {
	for len(c.out) > 0 && !c.closed && !c.heldLocked() {
		buf, packets := c.out, c.unsent
		c.out, c.unsent = nil, 0
		waiting := c.roomAt >= 0
		c.mu.Unlock()
		if waiting {
			c.gotRoom()
		}
		err := c.writeAll(c.writeNow(buf))
		c.srv.stats.BytesOut.Add(int64(len(buf)))
		c.srv.stats.Sent.Add(packets)
		putOut(buf)
		if err != nil {
			c.kill()
		}
		c.mu.Lock()
	}
	c.writing = false
	last := c.closed || (c.ending || c.lastWord && c.queue.len() == 0) && !(len(c.out) > 0 && c.heldLocked())
	c.mu.Unlock()
	if last {
		c.kill()
	}
}

// tryFlush writes out if the socket takes it at once, and leaves what is left, and
// whatever is not the common case, to a goroutine: it never blocks.
func (c *conn) tryFlush() {
	c.mu.Lock()
	if c.writing {
		c.mu.Unlock()
		return // who writes goes on with it
	}
	special := c.raw == nil || c.closed || c.srv.held.Load() || c.ending || c.lastWord || c.roomAt >= 0
	if special || len(c.out) > writeChunk {
		c.mu.Unlock()
		go c.flush()
		return
	}
	c.writing = true
	buf, packets := c.out, c.unsent
	c.out, c.unsent = nil, 0
	c.mu.Unlock()
	rest := c.writeNow(buf)
	c.srv.stats.BytesOut.Add(int64(len(buf)))
	c.srv.stats.Sent.Add(packets)
	c.mu.Lock()
	if len(rest) == 0 && len(c.out) == 0 && !c.closed && !c.ending && !c.lastWord {
		c.writing = false
		c.mu.Unlock()
		putOut(buf)
		return
	}
	c.mu.Unlock()
	go func() {
		if err := c.writeAll(rest); err != nil {
			c.kill()
		}
		putOut(buf)
		c.mu.Lock()
		c.flushLocked()
	}()
}

// writeNow writes what the socket takes at once and returns the rest; of what fails
// that is everything, and it will fail again.
func (c *conn) writeNow(b []byte) (rest []byte) {
	if c.raw == nil {
		return b
	}
	c.toWrite = b
	_ = c.raw.Write(c.onWritable)
	rest, c.toWrite = c.toWrite, nil
	return rest
}

// writeRaw writes once what it can of toWrite.
func (c *conn) writeRaw(fd uintptr) bool {
	if n, err := syscall.Write(int(fd), c.toWrite); err == nil {
		c.toWrite = c.toWrite[n:]
	}
	return true
}

// writeChunk is what a client must take within StallTimeout, and within the
// timeout of its session.
const writeChunk = 64 << 10

// writeAll waits until the client takes b.
func (c *conn) writeAll(b []byte) (err error) {
	if len(b) == 0 {
		return nil
	}
	for len(b) > 0 && err == nil {
		n := min(len(b), writeChunk)
		c.writingSince.Store(c.srv.nanos())
		_, err = c.nc.Write(b[:n])
		b = b[n:]
	}
	c.writingSince.Store(0)
	return err
}
