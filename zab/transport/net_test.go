package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipeNet is a network in memory, for tests with a faked clock. Each host has its
// own view of it.
type pipeNet struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	dead      map[string]bool // addresses that swallow every attempt
	dials     map[string]int
	nextPort  int
}

func newPipeNet() *pipeNet {
	return &pipeNet{listeners: map[string]*pipeListener{}, dead: map[string]bool{}, dials: map[string]int{}}
}

// host is the network as a machine with this name sees it.
func (n *pipeNet) host(name string) Net { return pipeHost{n, name} }

type pipeHost struct {
	*pipeNet
	name string
}

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

type pipeConn struct {
	net.Conn
	local, remote pipeAddr
}

func (c pipeConn) LocalAddr() net.Addr  { return c.local }
func (c pipeConn) RemoteAddr() net.Addr { return c.remote }

type pipeListener struct {
	net   *pipeNet
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

var errRefused = errors.New("connection refused")

func (h pipeHost) Listen(_ context.Context, addr string) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners[addr] != nil {
		return nil, fmt.Errorf("%s: address in use", addr)
	}
	l := &pipeListener{net: h.pipeNet, addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	h.listeners[addr] = l
	return l, nil
}

func (h pipeHost) Dial(ctx context.Context, addr string) (net.Conn, error) {
	h.mu.Lock()
	h.dials[h.name+" "+addr]++
	l, dead := h.listeners[addr], h.dead[addr]
	h.nextPort++
	local := pipeAddr(fmt.Sprintf("%s:%d", h.name, 50000+h.nextPort))
	h.mu.Unlock()
	if dead {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errRefused
	}
	a, b := net.Pipe()
	select {
	case l.conns <- pipeConn{b, pipeAddr(addr), local}:
		return pipeConn{a, local, pipeAddr(addr)}, nil
	case <-l.done:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *pipeNet) count(dialler, addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[dialler+" "+addr]
}

func (n *pipeNet) setDead(addr string, dead bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead[addr] = dead
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.addr)
		close(l.done)
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

// A logBuffer is where a test finds what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), s)
}

func TestRaceTakesTheFirstAndClosesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var others []net.Conn
		dial := func(ctx context.Context, wait time.Duration) (net.Conn, error) {
			if wait == time.Hour {
				<-ctx.Done() // made although nobody wants it any more, as may happen
			} else if time.Sleep(wait); wait == 0 {
				return nil, errRefused
			}
			a, b := net.Pipe()
			others = append(others, b)
			return a, nil
		}
		begin := time.Now()
		conn, err := race(t.Context(), []time.Duration{time.Hour, 0, time.Second}, dial)
		if err != nil || time.Since(begin) != time.Second {
			t.Fatalf("%v after %v, want a connection after 1s", err, time.Since(begin))
		}
		synctest.Wait()
		go conn.Write([]byte("x"))
		if n, err := others[0].Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("the first: %v", err)
		}
		if _, err := others[1].Read(make([]byte, 1)); err == nil {
			t.Error("the late one is open")
		}
		conn.Close()
	})
	fail := func(context.Context, int) (net.Conn, error) { return nil, errRefused }
	if _, err := race(t.Context(), []int{1, 2}, fail); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	if _, err := race(t.Context(), nil, fail); err == nil {
		t.Error("no target, no error")
	}
}
