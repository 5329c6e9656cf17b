package nameserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A connTable bounds the open TCP connections and can close them all.
type connTable struct {
	max, maxPerClient int

	mu        sync.Mutex // guards what follows
	closed    bool
	conns     map[net.Conn]netip.Addr
	perClient map[netip.Addr]int
}

// add takes c in unless there are too many.
func (t *connTable) add(c net.Conn, client netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.conns) >= t.max {
		return false
	}
	if t.perClient[client] >= t.maxPerClient && !client.IsLoopback() {
		return false
	}
	if t.conns == nil {
		t.conns = make(map[net.Conn]netip.Addr)
		t.perClient = make(map[netip.Addr]int)
	}
	t.conns[c] = client
	t.perClient[client]++
	return true
}

func (t *connTable) remove(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	client := t.conns[c]
	delete(t.conns, c)
	if t.perClient[client]--; t.perClient[client] <= 0 {
		delete(t.perClient, client)
	}
}

func (t *connTable) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

func (t *connTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.conns {
		c.Close()
	}
}

func (s *Server) serveTCP(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := 0
	for {
		c, err := s.tcp.AcceptTCP()
		if err != nil {
			if failed++; ctx.Err() != nil {
				return nil
			}
			if failed == maxReadErrors || errors.Is(err, net.ErrClosed) {
				return err
			}
			// Most likely no descriptor is free: one gets free when a
			// connection ends, and until then trying is all one can do.
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		failed = 0
		client := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		if !s.conns.add(c, client.Addr().Unmap()) {
			s.count.tcpRefused.Add(1)
			c.Close()
			continue
		}
		wg.Go(func() {
			defer s.conns.remove(c)
			defer c.Close()
			s.serveConn(c, client)
		})
	}
}

// maxTCPQuery bounds a query. Its question takes 259 octets and its options
// little more, even padded.
const maxTCPQuery = 4096

// serveConn answers the queries of one connection in their order until the
// client is done, silent for too long, or sends nonsense. Replies to queries
// that came together leave together.
func (s *Server) serveConn(c net.Conn, client netip.AddrPort) {
	w := s.newWorker()
	in := bufio.NewReaderSize(c, 2+maxTCPQuery)
	var out []byte
	for {
		// One deadline for a whole query: who sends it octet by octet does
		// not get more time.
		c.SetDeadline(time.Now().Add(s.cfg.TCPIdle))
		head, err := in.Peek(2)
		if err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(head))
		if size > maxTCPQuery {
			return
		}
		msg, err := in.Peek(2 + size)
		if err != nil {
			return
		}
		start := len(out)
		out = w.reply(append(out, 0, 0), msg[2:], client, overTCP)
		in.Discard(2 + size)
		last := len(out) == start+2 // nothing to say to this
		if last {
			out = out[:start]
		} else {
			binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
			if wholeQuery(in) && len(out) < maxTCP {
				continue
			}
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				s.count.writeErrors.Add(1)
				return
			}
		}
		if last {
			return
		}
		if out = out[:0]; cap(out) > maxTCP { // after a burst
			out = nil
		}
	}
}

// wholeQuery tells whether the next query has come already.
func wholeQuery(in *bufio.Reader) bool {
	if in.Buffered() < 2 {
		return false
	}
	head, _ := in.Peek(2)
	return in.Buffered() >= 2+int(binary.BigEndian.Uint16(head))
}
