package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// health is what the checks of a registration, or one of them, say.
type health int

const (
	unknown health = iota // no result yet
	passing
	failing
)

// A counter turns results into health: Rise passes in a row make it passing,
// Fall failures failing; the first result of all counts at once. Pure.
type counter struct {
	rise, fall int
	state      health
	streak     int // results in a row that contradict state
}

// add takes a result and reports whether the state changed.
func (c *counter) add(ok bool) bool {
	got, need := failing, c.fall
	if ok {
		got, need = passing, c.rise
	}
	if got == c.state {
		c.streak = 0
		return false
	}
	c.streak++
	if c.state != unknown && c.streak < need {
		return false
	}
	c.state, c.streak = got, 0
	return true
}

// runCheck probes until ctx ends and reports each result. The first probe is at
// once, since a registration waits for it; the second after a random part of
// the interval, so that the checks of an agent do not stay in step.
func runCheck(ctx context.Context, c Check, probe func(context.Context, Check) error, report func(error)) {
	interval := time.Duration(c.Interval)
	wait := time.Duration(rand.Int64N(int64(interval))) + 1
	for {
		start := time.Now()
		pctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
		err := probe(pctx, c)
		cancel()
		if ctx.Err() != nil {
			return
		}
		report(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait-time.Since(start), 0)):
		}
		wait = interval
	}
}

// maxBody is how much of an answer is read; nobody looks at the rest.
const maxBody = 4096

// Probe runs a check once. nil means that it passed.
func Probe(ctx context.Context, c Check) error {
	if c.TCP != "" {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", c.TCP)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	method := c.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, c.HTTP, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "paddock health check")
	for k, v := range c.Header {
		if http.CanonicalHeaderKey(k) == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	// No proxy and no connection kept: the check is of this host, and a service
	// that takes no new connections is down.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: c.SkipVerify},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // only so that a service can finish its answer
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%s %s: status %s", method, c.HTTP, resp.Status)
	}
	return nil
}
