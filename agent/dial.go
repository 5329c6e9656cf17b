package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/server"
)

// A dialer connects the agent's own client: to the server in this process and,
// while that does not serve, to the others of its ensemble in turn.
type dialer struct {
	local func() *server.Server // nil: it is not there yet
	why   func() string         // it is not there
	list  func() *zab.Ensemble
	log   *slog.Logger

	mu   sync.Mutex // guards what is below; a leaf
	turn int        // attempts since the local server last served
	to   string     // what was connected last
}

// inProcess is what people are told instead of an address.
const inProcess = "in process"

// dial fits the configuration of a client.
func (d *dialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	local := d.local()
	if local == nil {
		return nil, errors.New(d.why())
	}
	to := ""
	if !local.State().Serving {
		// The local one first: it keeps a connection waiting for the end of a short
		// election, and refuses it after a long one.
		others := others(d.list(), local.Config().ID)
		d.mu.Lock()
		if i := d.turn % (1 + len(others)); i > 0 {
			to = others[i-1]
		}
		d.turn++
		d.mu.Unlock()
	}
	if to == "" {
		nc, err := local.Dial(ctx, "")
		d.connected(inProcess, err)
		return nc, err
	}
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	d.connected(to, err)
	if err != nil {
		return nil, err
	}
	d.log.Info("the server of this agent does not serve, another one is used", "peer", to)
	return comeHome(nc, func() bool { return local.State().Serving }), nil
}

// connected takes note of the outcome of an attempt.
func (d *dialer) connected(to string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.to = to
	}
}

// peer is where the client went last.
func (d *dialer) peer() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to
}

// others are the addresses for clients of all servers of a list but one, beginning
// behind it, so that the agents of an ensemble do not all go to the same.
func others(list *zab.Ensemble, id zab.ServerID) []string {
	if list == nil {
		return nil
	}
	var after, before []string
	for _, m := range list.Members {
		addr := clientAddr(m)
		switch {
		case addr == "" || m.ID == id:
		case m.ID > id:
			after = append(after, addr)
		default:
			before = append(before, addr)
		}
	}
	return slices.Concat(after, before)
}

// clientAddr is where clients reach a server, "" if its line does not say.
func clientAddr(m zab.Member) string {
	host, port, err := net.SplitHostPort(m.ClientAddr)
	if err != nil || len(m.Addrs) == 0 {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = m.Addrs[0].Host
	}
	return net.JoinHostPort(host, port)
}

// homeAfter is how long the local server must have served before a connection
// to another one is given up for it: each change of the server costs the session
// a moment.
const homeAfter = 3 * time.Second

// A visit is a connection to the server of another host.
type visit struct {
	net.Conn
	end context.CancelFunc
}

// Close implements net.Conn.
func (v *visit) Close() error {
	v.end()
	return v.Conn.Close()
}

// comeHome closes a connection when the local server has served for a while. The
// watch over that ends with the connection.
func comeHome(nc net.Conn, serves func() bool) net.Conn {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visit{nc, cancel}
	go func() {
		tick := time.NewTicker(homeAfter / 10)
		defer tick.Stop()
		for n := 0; n < 10; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !serves() {
				n = -1
			}
		}
		_ = v.Close() // the reader sees that
	}()
	return v
}

// waiting says why there is no server yet.
func (a *Agent) waiting() string {
	if a.bootstrap != nil {
		if why := a.bootstrap.Status().Reason; why != "" {
			return fmt.Sprintf("no ensemble yet: %s", why)
		}
	}
	return "the ZooKeeper server is starting"
}
