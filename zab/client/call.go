package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/paddockio/paddock/zab/wire"
)

var (
	// ErrClosed says that Run has returned or CloseSession was called.
	ErrClosed = errors.New("client is closed")
	// ErrRequestTooLarge says that a request was not sent, because servers close
	// the connection on one above jute.maxbuffer ([Config.MaxRequest]).
	ErrRequestTooLarge = errors.New("request is larger than jute.maxbuffer")
	// ErrReplyTooLarge says that a reply was above [Config.MaxReply].
	ErrReplyTooLarge = errors.New("reply is too large")
)

// maxLosses bounds how often one operation is sent again: a request whose
// answer ends the connection each time must not keep all others from theirs.
const maxLosses = 16

type callState uint8

const (
	callQueued callState = iota // in Client.queue
	callSent                    // in Client.sent or Client.sentAuth
	callTaken                   // with the one who will finish it
)

// A call is one operation under way. Its fields belong to the goroutine that
// made it until it is queued and again after done; in between, those below
// state are guarded by Client.mu, and the result is the reader's.
type call struct {
	op    wire.Op
	path  string // for errors, as the caller named it
	frame []byte // length, header and record; the xid is put in when it is sent
	retry bool   // may be sent again after a loss
	keep  bool   // resp keeps parts of the reply
	resp  wire.Record
	watch *oneShot // to be registered by the reply
	pers  *Watch   // to be armed by the reply
	kind  int32    // removeWatches
	full  string   // removeWatches
	auth  Auth     // auth

	state     callState
	abandoned bool // nobody waits for done
	slotted   bool // holds one of Client.slots
	losses    int
	xid       int32

	code wire.Code
	err  error
	done chan struct{} // receives one value
}

// newCall encodes a request.
func (c *Client) newCall(op wire.Op, path string, req, resp wire.Record) *call {
	k, ok := c.calls.Get().(*call)
	if !ok {
		k = &call{done: make(chan struct{}, 1)}
	}
	*k = call{op: op, path: path, frame: k.frame, resp: resp, done: k.done}
	b := binary.BigEndian.AppendUint64(k.frame[:0], 0)
	b = wire.AppendInt(b, int32(op))
	if req != nil {
		b = req.Append(b)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	k.frame = b
	return k
}

func (c *Client) recycle(k *call) {
	if cap(k.frame) <= 64<<10 {
		*k = call{frame: k.frame[:0], done: k.done}
		c.calls.Put(k)
	}
}

func (k *call) opError(err error) error { return &wire.OpError{Op: k.op, Path: k.path, Err: err} }

// finish hands k back; k is callTaken. Nothing of k may be touched afterwards.
func (c *Client) finish(k *call, code wire.Code, err error) {
	k.code, k.err = code, err
	if !k.abandoned {
		k.done <- struct{}{}
	} else if k.slotted {
		<-c.slots
	}
}

// do carries k out and returns its code and the error for it. The caller reads
// k.resp and no other field.
func (c *Client) do(ctx context.Context, k *call) (wire.Code, error) {
	if n := len(k.frame) - 4; n > c.cfg.MaxRequest {
		return 0, k.opError(fmt.Errorf("%w: %d bytes, limit %d", ErrRequestTooLarge, n, c.cfg.MaxRequest))
	}
	if ctx.Err() != nil {
		return 0, k.opError(context.Cause(ctx))
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, k.opError(context.Cause(ctx))
	case <-c.ended:
		return 0, k.opError(ErrClosed)
	}
	k.slotted = true
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		<-c.slots
		return 0, k.opError(ErrClosed)
	}
	c.closing = k.op == wire.OpCloseSession
	if k.pers != nil {
		c.watches.addHandle(k.pers)
	}
	c.queue.push(k)
	c.mu.Unlock()
	c.wakeWriter()

	select {
	case <-k.done:
	case <-ctx.Done():
		if sent, ok := c.abandon(k); ok {
			err := context.Cause(ctx)
			if sent && !k.retry {
				err = fmt.Errorf("%w after the request was sent: %w", err, wire.ErrConnectionLoss)
			}
			return 0, &wire.OpError{Op: k.op, Path: k.path, Err: err}
		}
		<-k.done
	}
	<-c.slots
	code, err := k.code, k.err
	if err == nil {
		err = code.Err()
	}
	if err != nil {
		err = k.opError(err)
	}
	c.recycle(k)
	return code, err
}

// abandon gives k up: false if it is being finished, and then done will come
// at once. A request that was sent keeps its place in line, since its reply
// will come. (op, path and retry of an abandoned call do not change any more.)
func (c *Client) abandon(k *call) (sent, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch k.state {
	case callTaken:
		return false, false
	case callQueued:
		c.queue.remove(k)
		<-c.slots
	case callSent:
		k.abandoned, sent = true, true
	}
	if k.pers != nil && c.watches.dropHandle(k.pers) && sent {
		c.sendRemoveLocked(k.pers)
	}
	return sent, true
}

func (c *Client) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// A callQueue is a FIFO that reuses its memory.
type callQueue struct {
	calls []*call
	head  int
}

func (q *callQueue) len() int { return len(q.calls) - q.head }

func (q *callQueue) push(k *call) {
	if q.head > len(q.calls)/2 && len(q.calls) == cap(q.calls) {
		n := copy(q.calls, q.calls[q.head:])
		clear(q.calls[n:])
		q.calls, q.head = q.calls[:n], 0
	}
	q.calls = append(q.calls, k)
}

// front returns the oldest call, or nil.
func (q *callQueue) front() *call {
	if q.head == len(q.calls) {
		return nil
	}
	return q.calls[q.head]
}

// pop removes the oldest call.
func (q *callQueue) pop() {
	q.calls[q.head] = nil
	if q.head++; q.head == len(q.calls) {
		q.calls, q.head = q.calls[:0], 0
	}
}

func (q *callQueue) remove(k *call) {
	if i := slices.Index(q.calls[q.head:], k); i >= 0 {
		q.calls = slices.Delete(q.calls, q.head+i, q.head+i+1)
	}
}

// takeAll empties the queue.
func (q *callQueue) takeAll() []*call {
	all := q.calls[q.head:]
	*q = callQueue{}
	return all
}
