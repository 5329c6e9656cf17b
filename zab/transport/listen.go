package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Pauses between attempts to bind a port, or to accept when descriptors are short.
const (
	minBindPause = 20 * time.Millisecond
	maxBindPause = time.Second
)

// A listener accepts connections at one address, and binds it again for ever: the
// address may not be there yet, or be taken by what is about to end.
type listener struct {
	net    Net
	addr   string
	log    *slog.Logger
	handle func(net.Conn) // takes the connection over; runs on its own goroutine
	stop   func()         // ends run

	mu  sync.Mutex
	err error // why the port is not open; nil while it is
}

// adjust ends those of some listeners that are at none of the addresses, and begins
// those that are missing. Connections that were accepted stay.
func adjust(have []*listener, addrs []string, begin func(addr string) *listener) []*listener {
	var now []*listener
	for _, addr := range addrs {
		if slices.ContainsFunc(now, func(l *listener) bool { return l.addr == addr }) {
			continue
		}
		if i := slices.IndexFunc(have, func(l *listener) bool { return l.addr == addr }); i >= 0 {
			now = append(now, have[i])
		} else {
			now = append(now, begin(addr))
		}
	}
	for _, l := range have {
		if !slices.Contains(now, l) {
			l.stop()
		}
	}
	return now
}

// run accepts until ctx ends and all connections are handled.
func (l *listener) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for pause := minBindPause; ; {
		ln, err := l.net.Listen(ctx, l.addr)
		if err == nil {
			l.setErr(nil)
			l.log.Info("port is open", "peer", ln.Addr().String())
			pause = minBindPause
			stop := context.AfterFunc(ctx, func() { ln.Close() })
			err = l.accept(ctx, ln, &wg)
			stop()
			ln.Close()
		}
		if ctx.Err() != nil {
			return
		}
		if l.setErr(err) {
			l.log.Error("port cannot be opened, trying again", "peer", l.addr, "err", err)
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, maxBindPause)
	}
}

func (l *listener) accept(ctx context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	for pause := minBindPause; ; {
		conn, err := ln.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = minBindPause
			wg.Go(func() { l.handle(conn) })
		case errors.As(err, &temporary) && temporary.Temporary() && ctx.Err() == nil:
			// Out of descriptors, or the peer has gone: the port stays open.
			l.setErr(err)
			if !sleep(ctx, pause) {
				return err
			}
			pause = min(2*pause, maxBindPause)
		default:
			return err
		}
	}
}

// setErr reports whether err is news.
func (l *listener) setErr(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := err != nil && (l.err == nil || l.err.Error() != err.Error())
	l.err = err
	return news
}

// status returns why the port is not open.
func (l *listener) status() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// sleep waits for d or until ctx ends, and reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// handshakes bounds the connections that have not said who they are. When there
// are too many the oldest is closed: whoever means it is done in milliseconds.
type handshakes struct {
	max int

	mu    sync.Mutex
	conns []net.Conn // oldest first
}

// begin adds conn; the result says that the handshake is over, and reports whether
// conn was closed in favour of a later one.
func (h *handshakes) begin(conn net.Conn) (end func() (evicted bool)) {
	h.mu.Lock()
	h.conns = append(h.conns, conn)
	var oldest net.Conn
	if len(h.conns) > h.max {
		oldest = h.conns[0]
		h.conns = slices.Delete(h.conns, 0, 1)
	}
	h.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		i := slices.Index(h.conns, conn)
		if i < 0 {
			return true
		}
		h.conns = slices.Delete(h.conns, i, i+1)
		return false
	}
}

// closeAll ends all handshakes under way.
func (h *handshakes) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, conn := range h.conns {
		conn.Close()
	}
}
