//go:build interop && linux

package nemesis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/zabtest/checker"
)

// A pulse writes through each server by itself, again and again, to tell when the
// ensemble serves.
type pulse struct {
	began time.Time

	mu   sync.Mutex
	acks []ack // of the present fault
}

const pulseEvery = 10 * time.Millisecond

func pulsePath(m *peer.Member) string { return fmt.Sprintf("/pulse-%d", m.ID) }

// pulseSetup makes the znodes.
func pulseSetup(e *peer.Ensemble) checker.Workload {
	w := checker.Workload{Name: "pulse"}
	for _, m := range e.Members {
		w.Setup = append(w.Setup, checker.Args{Op: wire.OpCreate2, Path: pulsePath(m)})
	}
	return w
}

// run writes through one member until ctx ends.
func (p *pulse) run(ctx context.Context, t testing.TB, m *peer.Member, cfg client.Config) {
	cfg.Servers = m.Addr()
	c, err := client.New(cfg)
	if err != nil {
		t.Error(err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.Run(ctx) })
	beat := time.NewTicker(pulseEvery)
	defer beat.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		call := p.now()
		_, err := c.Set(ctx, pulsePath(m), []byte(strconv.Itoa(n)), -1)
		switch {
		case err == nil:
			p.mu.Lock()
			p.acks = append(p.acks, ack{m.ID, call, p.now()})
			p.mu.Unlock()
		case ctx.Err() != nil, errors.Is(err, wire.ErrConnectionLoss), errors.Is(err, wire.ErrSessionExpired), errors.Is(err, wire.ErrSessionMoved):
		default:
			t.Errorf("pulse of %v: %v", m, err)
			return
		}
	}
}

const (
	askEvery = 20 * time.Millisecond
	askMost  = 500 // under way at a time
	// A question must still be in the connection when a paused server goes on.
	askSession = 20 * time.Second
)

// ask reads behind a sync through one member until ctx ends. It does not wait for
// the answers before it asks again: a leader that was paused finds questions that
// are younger than what another leader has acknowledged meanwhile, and must not
// answer them from its own tree.
func (p *pulse) ask(ctx context.Context, t testing.TB, m *peer.Member, e *peer.Ensemble, cfg client.Config) {
	cfg.Servers, cfg.SessionTimeout = m.Addr(), askSession
	c, err := client.New(cfg)
	if err != nil {
		t.Error(err)
		return
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg, asking sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { c.Run(running) })
	slots := make(chan struct{}, askMost)
	beat := time.NewTicker(askEvery)
	defer beat.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		path := pulsePath(e.Members[n%len(e.Members)])
		select {
		case slots <- struct{}{}:
			asking.Go(func() {
				defer func() { <-slots }()
				if c.Sync(ctx, path) == nil {
					c.Get(ctx, path)
				}
			})
		default: // all of them wait for a server that is down
		}
		select {
		case <-ctx.Done():
		case <-beat.C:
		}
	}
	asking.Wait()
	// So that nobody has to wait for the end of its session.
	closing, cancel := context.WithTimeout(running, time.Second)
	defer cancel()
	if err := c.CloseSession(closing); err != nil {
		t.Logf("asking %v ends: %v", m, err)
	}
}

func (p *pulse) now() time.Duration { return time.Since(p.began) }

// forget drops what came before a fault, and is the time of that.
func (p *pulse) forget() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acks = nil
	return p.now()
}

// look calls f with the acks so far.
func (p *pulse) look(f func([]ack)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.acks)
}

// A door makes the connections of clients that write, below the recorder, and can
// keep them out of one server.
type door struct {
	mu     sync.Mutex
	closed string // address
	open   map[net.Conn]string
}

func (d *door) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := tcp(ctx, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if addr == d.closed {
		c.Close()
		return nil, errors.New("the door is closed")
	}
	if d.open == nil {
		d.open = map[net.Conn]string{}
	}
	d.open[c] = addr
	return &inside{c, d}, nil
}

// close breaks the connections to a server and lets nobody in; "" opens again.
func (d *door) close(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = addr
	for c, to := range d.open {
		if to == addr {
			c.Close()
		}
	}
}

type inside struct {
	net.Conn
	d *door
}

func (c *inside) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	delete(c.d.open, c.Conn)
	return c.Conn.Close()
}

func tcp(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
