package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/paddockio/paddock/zab"
)

// ErrSlow says that a peer did not take bytes in time.
var ErrSlow = errors.New("peer did not take the bytes in time")

// lingerTime is how long a link that is closed for no fault may take to send what
// is queued, and then for the peer to close.
const lingerTime = 500 * time.Millisecond

// A Link is one connection of the quorum port, or to one. Methods are safe for
// concurrent use.
type Link struct {
	q       *Quorum
	id      zab.LinkID
	conn    net.Conn
	dialled bool
	peer    zab.ServerID // set before LinkUp
	since   time.Time

	in inbox // the reader's

	wake chan struct{} // 1: the queue is not empty, or the link closes
	done chan struct{} // closed by end
	sent atomic.Uint64 // bytes

	mu      sync.Mutex // guards what follows; inner to Quorum.mu; never held during I/O or a callback
	queue   queue
	closing bool  // Close(nil): send what is queued, then end
	ended   bool  // done is closed
	reason  error // why it ended

	// The writer's. vec is what is left of parts during a write.
	parts, vec net.Buffers
}

// LinkStatus is what is known of a link.
type LinkStatus struct {
	ID            zab.LinkID
	Peer          zab.ServerID // NoServer: has not said who it is
	Dialled       bool
	Remote        string
	Since         time.Time
	QueuedBytes   int
	QueuedPackets int
	SentBytes     uint64
}

func newLink(q *Quorum, id zab.LinkID, conn net.Conn, dialled bool) *Link {
	return &Link{
		q: q, id: id, conn: conn, dialled: dialled, peer: zab.NoServer, since: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// ID returns the number of the link, which no other has had.
func (l *Link) ID() zab.LinkID { return l.id }

// Peer returns the server at the other end: the one that was dialled, or the one
// that the first packet has named.
func (l *Link) Peer() zab.ServerID { return l.peer }

// Dialled reports whether Dial has made the link: this server is the learner.
func (l *Link) Dialled() bool { return l.dialled }

// RemoteAddr returns the address of the other end.
func (l *Link) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// Sent returns how many bytes the network has taken.
func (l *Link) Sent() uint64 { return l.sent.Load() }

func (l *Link) status() LinkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LinkStatus{
		ID: l.id, Peer: l.peer, Dialled: l.dialled, Remote: l.conn.RemoteAddr().String(), Since: l.since,
		QueuedBytes: l.queue.bytes, QueuedPackets: l.queue.packets, SentBytes: l.sent.Load(),
	}
}

// SendMessage queues the packet of m; see [wire.AppendMessage]. It keeps the data of
// a large proposal until it is sent, and never blocks. If the queue is full the
// link is closed; on a link that has ended nothing happens.
func (l *Link) SendMessage(m *zab.Message) {
	l.mu.Lock()
	if l.ended || l.closing {
		l.mu.Unlock()
		return
	}
	l.queue.addMessage(m)
	l.queued()
}

// Send queues one packet that package wire has encoded, and copies it; otherwise
// as SendMessage.
func (l *Link) Send(packet []byte) {
	l.mu.Lock()
	if l.ended || l.closing {
		l.mu.Unlock()
		return
	}
	l.queue.addBytes(packet)
	l.queued()
}

// queued unlocks l.mu after something was added to the queue.
func (l *Link) queued() {
	err := l.queue.full(l.q.cfg.QueueBytes, l.q.cfg.QueuePackets)
	l.mu.Unlock()
	if err != nil {
		l.end(err)
		return
	}
	wake(l.wake)
}

// Stream calls write when everything queued before has been sent, and waits until
// it has returned and its bytes are sent; what is queued meanwhile is sent after
// them. w has a buffer, and blocks while the peer does not read. If write fails
// after some bytes were sent, nothing that the peer could understand can follow, and
// the link is closed; if none was, the link goes on. The error is that of write, or
// why the link has ended. write is called once at most, by the link's writer.
func (l *Link) Stream(write func(w io.Writer) error) error {
	s := &stream{write: write, done: make(chan error, 1)}
	l.mu.Lock()
	if l.ended || l.closing {
		err := l.reason
		l.mu.Unlock()
		if err == nil {
			err = net.ErrClosed
		}
		return err
	}
	l.queue.segments = append(l.queue.segments, segment{stream: s})
	l.mu.Unlock()
	wake(l.wake)
	return <-s.done
}

// Close ends the link. With a reason it does so at once. Without one, what is queued
// is sent first, for half a second at most. LinkDown follows in both cases.
func (l *Link) Close(reason error) {
	if reason != nil {
		l.end(reason)
		return
	}
	l.mu.Lock()
	first := !l.closing && !l.ended
	l.closing = true
	l.mu.Unlock()
	if first {
		l.conn.SetDeadline(time.Now().Add(lingerTime))
		wake(l.wake)
	}
}

// end closes the connection. The first reason counts.
func (l *Link) end(reason error) {
	l.mu.Lock()
	first := !l.ended
	if first {
		l.ended, l.reason = true, reason
		if l.closing {
			l.reason = nil // that the peer has gone meanwhile is nobody's fault
		}
		close(l.done)
	}
	l.mu.Unlock()
	if first {
		l.conn.Close()
	}
}

// run reads and writes until the link ends, and reports that.
func (l *Link) run() {
	var writer sync.WaitGroup
	writer.Go(l.write)
	if !l.dialled {
		l.q.cfg.LinkUp(l)
	}
	l.end(peerError(l.read(), l.in.heard))
	writer.Wait()
	if l.reason != nil && !errors.Is(l.reason, ErrStopped) {
		l.q.faults.add(l.conn.RemoteAddr(), l.reason)
	}
	l.q.log.Debug("link ended", "server", l.peer, "peer", l.conn.RemoteAddr().String(), "err", l.reason)
	l.q.cfg.LinkDown(l, l.reason)
}

// write sends what is queued until the link ends.
func (l *Link) write() {
	var pending []segment
	var err error
	for err == nil {
		l.mu.Lock()
		l.queue.release(pending)
		pending = l.queue.take()
		closing, ended := l.closing, l.ended
		l.mu.Unlock()
		switch {
		case ended:
			err = net.ErrClosed
		case len(pending) > 0:
			err = l.writeSegments(pending)
		case closing:
			l.linger()
			err = net.ErrClosed
		default:
			select {
			case <-l.wake:
			case <-l.done:
			}
		}
	}
	l.end(err)
	l.mu.Lock()
	reason := l.reason
	pending = append(pending, l.queue.take()...)
	l.mu.Unlock()
	if reason == nil {
		reason = net.ErrClosed
	}
	for _, s := range pending {
		if s.stream != nil {
			s.stream.fail(reason)
		}
	}
}

// fail answers the caller of Stream, unless it has its answer.
func (s *stream) fail(err error) {
	select {
	case s.done <- err:
	default:
	}
}

// linger lets the peer read what was sent: closing at once would throw it away if
// the peer has sent something that was not read here.
func (l *Link) linger() {
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		t := time.NewTimer(lingerTime)
		defer t.Stop()
		select {
		case <-l.done: // the reader has met the end or its deadline
		case <-t.C:
		}
	}
}

// writeSegments sends segments, many at once, and waits for streams in their turn.
func (l *Link) writeSegments(all []segment) error {
	size := 0
	for i := range all {
		s := &all[i]
		if s.stream != nil {
			if err := l.flush(); err != nil {
				return err
			}
			if err := l.writeStream(s.stream); err != nil {
				return err
			}
			size = 0
			continue
		}
		for rest := s.b; len(rest) > 0; {
			part := rest[:min(len(rest), writeSize-size)]
			l.parts = append(l.parts, part)
			rest = rest[len(part):]
			if size += len(part); size == writeSize {
				if err := l.flush(); err != nil {
					return err
				}
				size = 0
			}
		}
	}
	return l.flush()
}

// flush sends parts, by one system call if the kernel takes them.
func (l *Link) flush() error {
	if len(l.parts) == 0 {
		return nil
	}
	l.deadline()
	var n int64
	var err error
	if len(l.parts) == 1 {
		var m int
		m, err = l.conn.Write(l.parts[0])
		n = int64(m)
	} else {
		l.vec = l.parts
		n, err = l.vec.WriteTo(l.conn)
	}
	clear(l.parts)
	l.parts = l.parts[:0]
	l.sent.Add(uint64(n))
	return writeError(err)
}

// deadline gives the next write its time, or, to a link that closes, none more.
func (l *Link) deadline() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing {
		l.conn.SetWriteDeadline(time.Now().Add(l.q.cfg.WriteTimeout))
	}
}

func writeError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrSlow
	}
	return err
}

// writeStream gives the writer to a stream. An error is that of the link.
func (l *Link) writeStream(s *stream) error {
	w := &streamWriter{l: l}
	buffered := bufio.NewWriterSize(w, chunkSize)
	err := s.write(buffered)
	if err == nil {
		err = buffered.Flush()
	} else if w.n == 0 {
		s.done <- err // what is in the buffer was never sent
		return nil
	}
	s.done <- err
	if err != nil {
		return fmt.Errorf("stream broken off after %d bytes: %w", w.n, err)
	}
	return nil
}

// A streamWriter sends the bytes of a stream.
type streamWriter struct {
	l *Link
	n int64
}

func (w *streamWriter) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		w.l.deadline()
		var m int
		m, err = w.l.conn.Write(p[n:min(len(p), n+writeSize)])
		n += m
		w.l.sent.Add(uint64(m))
	}
	w.n += int64(n)
	return n, writeError(err)
}
