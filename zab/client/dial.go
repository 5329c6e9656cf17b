package client

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// dialTCP looks the name up afresh and tries its addresses in random order, so
// that one name for a whole ensemble spreads the clients, and a moved server is
// found.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	deadline, bounded := ctx.Deadline()
	for i, ip := range ips {
		var d net.Dialer
		if bounded { // an address that swallows packets must leave time for the others
			d.Timeout = max(time.Until(deadline)/time.Duration(len(ips)-i), time.Millisecond)
		}
		var nc net.Conn
		if nc, err = d.DialContext(ctx, "tcp", net.JoinHostPort(ip, port)); err == nil {
			return nc, nil
		}
	}
	return nil, err
}
