package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// A Net makes connections. The default is TCP; tests give their own.
type Net interface {
	Listen(ctx context.Context, addr string) (net.Listener, error)
	// Dial resolves the host at each call, and tries all of its addresses at once.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// TCP is the Net of the operating system.
type TCP struct {
	// UserTimeout is how long sent bytes may stay without an acknowledgement before
	// the connection counts as broken, on Linux. Default 20s.
	UserTimeout time.Duration
}

// keepAlive notices a peer whose machine is gone and to which nothing is sent.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 4}

func (t TCP) userTimeout() time.Duration {
	if t.UserTimeout > 0 {
		return t.UserTimeout
	}
	return 20 * time.Second
}

// Listen implements Net.
func (t TCP) Listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: controlTimeout(t.userTimeout())}
	return lc.Listen(ctx, "tcp", addr)
}

// Dial implements Net.
func (t TCP) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive, Control: controlTimeout(t.userTimeout())}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	return race(ctx, ips, func(ctx context.Context, ip netip.Addr) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(ip.Unmap().String(), port))
	})
}

// dialAny dials all addresses at once and returns the first connection.
func dialAny(ctx context.Context, n Net, addrs []string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return race(ctx, addrs, n.Dial)
}

// race calls dial for each target at once, takes the first connection and closes
// the others, for which it does not wait.
func race[T any](ctx context.Context, targets []T, dial func(context.Context, T) (net.Conn, error)) (net.Conn, error) {
	if len(targets) == 0 {
		return nil, errors.New("no address")
	}
	if len(targets) == 1 {
		return dial(ctx, targets[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(targets)) // so that nobody waits for a reader
	for _, target := range targets {
		go func() {
			conn, err := dial(ctx, target)
			results <- result{conn, err}
		}()
	}
	var errs []error
	for i := range targets {
		r := <-results
		if r.err == nil {
			late := len(targets) - i - 1
			go func() {
				for range late {
					if r := <-results; r.conn != nil {
						r.conn.Close()
					}
				}
			}()
			return r.conn, nil
		}
		errs = append(errs, r.err)
	}
	return nil, errors.Join(errs...)
}

// peerError names what the end of a connection means to the reader of a log. heard
// says that the peer had said something.
func peerError(err error, heard bool) error {
	switch {
	case errors.Is(err, io.EOF) && !heard:
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("closed by the peer: %w", err)
	}
	return err
}
