package transport

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

const (
	// firstBuffer is for a peer that has not said who it is, readBuffer for others.
	firstBuffer = 1 << 10
	readBuffer  = 64 << 10
	// keepLarge is after how many reads without a packet that is larger than
	// readBuffer the buffer shrinks to it.
	keepLarge = 64
	// maxBatch is how many packets Received gets at most.
	maxBatch = 512
	// firstPacket bounds the data of the packet by which a learner says who it is.
	firstPacket = 256
)

// An inbox turns what comes over a link into packets.
type inbox struct {
	buf   []byte
	r, w  int // buf[r:w] has come and is not understood yet
	batch []wire.QuorumPacket
	heard bool // something has come
	large int  // how often to fill before a buffer that is larger than usual is given up
}

func (in *inbox) unread() []byte { return in.buf[in.r:in.w] }

// fill reads until need bytes are there, which more can be said of. The buffer
// grows only as it fills.
func (in *inbox) fill(src io.Reader, need int) error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	switch in.large--; {
	case need > readBuffer:
		in.large = keepLarge
	case in.w == 0 && in.large < 0 && len(in.buf) > readBuffer:
		in.buf = make([]byte, readBuffer)
	}
	for in.w < need {
		size := readBuffer
		if !in.heard {
			size = firstBuffer
		}
		switch {
		case len(in.buf) < size:
			in.buf = append(in.buf, make([]byte, size-len(in.buf))...)
		case in.w == len(in.buf):
			in.buf = append(in.buf, make([]byte, min(need-in.w, in.w))...)
		}
		n, err := src.Read(in.buf[in.w:])
		in.w += n
		in.heard = in.heard || n > 0
		if err != nil && in.w < need {
			return err
		}
	}
	return nil
}

// next decodes the packets that are there, into batch. It stops behind a SNAP, which
// is not a packet's end but a stream's begin. need is how many bytes it
// takes to go on.
func (in *inbox) next(limit int) (need int, err error) {
	in.batch = in.batch[:0]
	bytes := 0
	for len(in.batch) < maxBatch {
		if need, err = wire.QuorumPacketSize(in.unread(), limit); err != nil {
			err = protocolError(in.unread(), err)
			break
		}
		if need > in.w-in.r {
			break
		}
		var p wire.QuorumPacket
		d := wire.NewDecoder(in.buf[in.r : in.r+need])
		if p.Decode(&d); d.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrProtocol, d.Err())
			break
		}
		in.r += need
		bytes += len(p.Data)
		in.batch = append(in.batch, p)
		if p.Type == wire.PacketSnap {
			break
		}
	}
	if bytes > 0 {
		// The buffer is used again, but what it held may be kept: one piece of memory
		// for all of the batch, whose packets live and die together.
		kept := make([]byte, 0, bytes)
		for i := range in.batch {
			if data := in.batch[i].Data; len(data) > 0 {
				at := len(kept)
				kept = append(kept, data...)
				in.batch[i].Data = kept[at:len(kept):len(kept)]
			}
		}
	}
	return need, err
}

// introduce reads until the first packet is there, by which a learner says who it
// is.
func (l *Link) introduce() error {
	for {
		need, err := wire.QuorumPacketSize(l.in.unread(), firstPacket)
		if err != nil {
			return protocolError(l.in.unread(), err)
		}
		if need <= l.in.w {
			break
		}
		if err := l.in.fill(l.conn, need); err != nil {
			switch f := foreign(l.in.unread()); {
			case f != nil:
				return f
			case !l.in.heard && !errors.Is(err, os.ErrDeadlineExceeded):
				return err // somebody looked whether the port is open
			}
			return fmt.Errorf("%d bytes, then %w: %w", l.in.w, err, ErrHandshake)
		}
	}
	var p wire.QuorumPacket
	d := wire.NewDecoder(l.in.unread())
	p.Decode(&d)
	if d.Err() != nil || p.Type != wire.PacketFollowerInfo && p.Type != wire.PacketObserverInfo {
		return fmt.Errorf("%v is not how a learner begins: %w", p.Type, ErrProtocol)
	}
	m, err := p.Message()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	l.setPeer(m.From)
	if admit := l.q.cfg.Admit; admit != nil {
		if err := admit(m.From, l.RemoteAddr()); err != nil {
			return fmt.Errorf("server %d: %w: %w", m.From, ErrUnknownServer, err)
		}
	}
	return nil
}

// read delivers what comes until the link ends.
func (l *Link) read() error {
	for {
		need, err := l.in.next(l.q.cfg.MaxPacket)
		if l.isClosing() {
			// Nobody wants it any more; only the end of the connection is waited for.
			_, err := io.Copy(io.Discard, l.conn)
			return cmp.Or(err, io.EOF)
		}
		if err := l.deliver(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		if len(l.in.batch) > 0 {
			continue // there may be more in the buffer
		}
		if err := l.in.fill(l.conn, need); err != nil {
			if err == io.EOF && l.in.w > l.in.r {
				err = io.ErrUnexpectedEOF
			}
			if f := foreign(l.in.unread()); f != nil {
				err = f
			}
			return err
		}
	}
}

// deliver hands out the batch, the last of which may be SNAP.
func (l *Link) deliver() error {
	packets := l.in.batch
	n := len(packets)
	snap := n > 0 && packets[n-1].Type == wire.PacketSnap
	if snap {
		packets = packets[:n-1]
	}
	if len(packets) > 0 {
		l.q.cfg.Received(l, packets)
	}
	switch {
	case snap && !l.dialled:
		return fmt.Errorf("SNAP from a learner: %w", ErrProtocol)
	case snap:
		return l.q.cfg.Snapshot(l, l.in.batch[n-1], &SnapshotReader{l: l})
	}
	return nil
}

func (l *Link) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

func (l *Link) setPeer(id zab.ServerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peer = id
}

// A SnapshotReader reads the stream behind a SNAP packet. Nothing marks the end of
// the stream but its contents.
type SnapshotReader struct{ l *Link }

// Read implements io.Reader. At the end of the connection it returns an error, but
// never io.EOF: no stream ends there.
func (r *SnapshotReader) Read(p []byte) (int, error) {
	in := &r.l.in
	if in.r < in.w {
		n := copy(p, in.unread())
		in.r += n
		return n, nil
	}
	n, err := r.l.conn.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Unread gives back bytes that were read last and do not belong to the stream: the
// packets behind it begin with them.
func (r *SnapshotReader) Unread(p []byte) {
	in := &r.l.in
	if in.r >= len(p) {
		in.r -= copy(in.buf[in.r-len(p):], p)
		return
	}
	rest := in.unread()
	buf := make([]byte, max(readBuffer, len(p)+len(rest)))
	in.r, in.w = 0, copy(buf, p)
	in.w += copy(buf[in.w:], rest)
	in.buf = buf
}
