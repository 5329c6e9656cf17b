package nameserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// serve runs the server until the test ends.
func serve(t testing.TB, s *Server) netip.AddrPort {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s.Addr()
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestServesUDPAndTCP(t *testing.T) {
	s := newTest(t, sample(t), func(c *Config) { c.Listen, c.Advertise = "127.0.0.1:0", nil })
	addr := serve(t, s).String()
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Conn{Conn: dial(t, network, addr)}
		for _, name := range []string{"demoservice.service.paddock.", "web.service.paddock."} {
			m := new(dns.Msg).SetQuestion(name, dns.TypeA)
			if err := c.WriteMsg(m); err != nil {
				t.Fatal(err)
			}
			r, err := c.ReadMsg()
			if err != nil || r.Id != m.Id || len(r.Answer) == 0 {
				t.Errorf("%s %s: %v, %v", network, name, r, err)
			}
		}
	}
	// The server advertises the address it listens on.
	if m := ask(t, s, "ns.paddock.", "A"); len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "127.0.0.1") {
		t.Errorf("ns: %v", m)
	}
}

// TestRepliesComeFromTheAddressAsked: a connected socket takes packets from no
// other.
func TestRepliesComeFromTheAddressAsked(t *testing.T) {
	for _, tc := range []struct{ listen, ask string }{
		{"0.0.0.0:0", "127.0.0.2"},
		{"[::]:0", "127.0.0.2"},
		{"[::]:0", "::1"},
	} {
		s := newTest(t, sample(t), func(c *Config) { c.Listen = tc.listen })
		if err := s.Listen(); err != nil {
			t.Skip("no such address family here: ", err)
		}
		port := serve(t, s).Port()
		c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(tc.ask), port).String())
		c.Write(packQuery(t, "demoservice.service.paddock.", dns.TypeA))
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		if err != nil || n < headerLen || buf[7] != 2 {
			t.Errorf("listen %s, ask %s: %x, %v", tc.listen, tc.ask, buf[:n], err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	s := newTest(t, newFake(), func(c *Config) { c.Listen = "127.0.0.1:0" })
	addr := serve(t, s)
	again := newTest(t, newFake(), func(c *Config) { c.Listen = addr.String() })
	if err := again.Listen(); err == nil || !strings.Contains(err.Error(), addr.String()) {
		t.Errorf("second server on %v: %v", addr, err)
	}
	if err := again.Run(t.Context()); err == nil {
		t.Error("Run without the port returned nil")
	}
}

func TestBadConfig(t *testing.T) {
	for _, tc := range []struct {
		want   string
		change func(*Config)
	}{
		{"directory: missing", func(c *Config) { c.Directory = nil }},
		{`listen "localhost:53"`, func(c *Config) { c.Listen = "localhost:53" }},
		{"multicast", func(c *Config) { c.Domain = "svc.local" }},
		{"root cannot", func(c *Config) { c.Domain = "." }},
		{"not a domain name", func(c *Config) { c.AltDomains = []string{"a..b"} }},
		{"longer than 64", func(c *Config) { c.Domain = strings.Repeat("long.", 20) }},
		{"ttl 1ms", func(c *Config) { c.TTL = time.Millisecond }},
		{"negative ttl -1s", func(c *Config) { c.NegativeTTL = -time.Second }},
		{"udp size 100", func(c *Config) { c.UDPSize = 100 }},
		{"reverse 10.0.0.0/9", func(c *Config) { c.Reverse = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/9")} }},
		{"reverse 10.0.0.1/8", func(c *Config) { c.Reverse = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} }},
		{"tcp connections -1", func(c *Config) { c.TCPConns = -1 }},
	} {
		cfg := Config{Directory: newFake()}
		tc.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want one with %q", err, tc.want)
		}
	}
	if err := (Config{Directory: newFake()}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func frame(msgs ...[]byte) []byte {
	var b []byte
	for _, m := range msgs {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// readReplies reads framed replies until the connection ends.
func readReplies(t *testing.T, c net.Conn) (replies [][]byte, took time.Duration) {
	t.Helper()
	start := time.Now()
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil {
			return replies, time.Since(start)
		}
		msg := make([]byte, binary.BigEndian.Uint16(head))
		if _, err := io.ReadFull(c, msg); err != nil {
			t.Fatal(err)
		}
		replies = append(replies, msg)
	}
}

// TestTCPConnection runs one connection on fake time.
func TestTCPConnection(t *testing.T) {
	good := packQuery(t, "demoservice.service.paddock.", dns.TypeA)
	for _, tc := range []struct {
		why     string
		send    []byte
		every   time.Duration // between octets; 0: all at once
		replies int
		took    time.Duration
	}{
		{"silent client", nil, 0, 0, 10 * time.Second},
		{"one query, then silence", frame(good), 0, 1, 10 * time.Second},
		{"pipelined queries", frame(good, good, good), 0, 3, 10 * time.Second},
		{"a query and half of one", frame(good, good)[:3*len(good)/2], 0, 1, 10 * time.Second},
		{"octet by octet gets no more time", frame(good, good), time.Second, 0, 10 * time.Second},
		{"a query that is too long", []byte{0xff, 0xff}, 0, 0, 0},
		{"an empty query", []byte{0, 0}, 0, 0, 0},
		{"a reply", frame(good, append([]byte{1, 2, 0x80}, good[3:]...)), 0, 1, 0},
	} {
		t.Run(tc.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTest(t, sample(t))
				ours, theirs := net.Pipe()
				var wg sync.WaitGroup
				wg.Go(func() {
					defer ours.Close()
					s.serveConn(ours, testClient)
				})
				wg.Go(func() {
					if tc.every == 0 {
						theirs.Write(tc.send)
						return
					}
					for i := range tc.send {
						if _, err := theirs.Write(tc.send[i : i+1]); err != nil {
							return
						}
						time.Sleep(tc.every)
					}
				})
				replies, took := readReplies(t, theirs)
				if len(replies) != tc.replies || took != tc.took {
					t.Errorf("%d replies in %v, want %d in %v", len(replies), took, tc.replies, tc.took)
				}
				for _, r := range replies {
					if !bytes.Equal(r[:2], good[:2]) {
						t.Errorf("reply %x to id %x", r[:2], good[:2])
					}
				}
				theirs.Close()
				wg.Wait()
			})
		})
	}
}

// TestSlowReaderIsCutOff: who asks and does not read holds a connection only
// until the write times out.
func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest(t, sample(t))
		ours, theirs := net.Pipe()
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.serveConn(ours, testClient)
		}()
		theirs.Write(frame(packQuery(t, "demoservice.service.paddock.", dns.TypeA)))
		<-done
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("connection held for %v, want 10s", took)
		}
		if got := s.Stats().WriteErrors; got != 1 {
			t.Errorf("%d write errors, want 1", got)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	table := connTable{max: 4, maxPerClient: 2}
	a, b, local := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("127.0.0.1")
	add := func(client netip.Addr) net.Conn {
		c, other := net.Pipe()
		t.Cleanup(func() { c.Close(); other.Close() })
		if !table.add(c, client) {
			return nil
		}
		return c
	}
	first := add(a)
	if add(a) == nil || add(a) != nil {
		t.Error("want two connections of one client")
	}
	table.remove(first)
	if add(a) == nil {
		t.Error("a freed place was not given")
	}
	for range 2 {
		if add(local) == nil {
			t.Error("loopback has no limit of its own")
		}
	}
	if add(b) != nil {
		t.Error("want four connections in all")
	}
	table.closeAll()
	table.max = 100
	if add(b) != nil {
		t.Error("connection taken after the end")
	}
}

// TestTooManyConnections hits the limit on a real listener.
func TestTooManyConnections(t *testing.T) {
	s := newTest(t, sample(t), func(c *Config) { c.Listen, c.TCPConns = "127.0.0.1:0", 2 })
	addr := serve(t, s).String()
	q := frame(packQuery(t, "demoservice.service.paddock.", dns.TypeA))
	for range 2 {
		c := dial(t, "tcp", addr)
		c.Write(q)
		if _, err := io.ReadFull(c, make([]byte, headerLen)); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, "tcp", addr)
	c.Write(q)
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("third connection: %v, want it closed", err)
	}
	if got := s.Stats(); got.TCPRefused != 1 || got.TCPOpen != 2 {
		t.Errorf("%+v", got)
	}
}

// TestSlippedAnswerIsEmptyAndTruncated is what a client over its rate sees.
func TestSlippedAnswerIsEmptyAndTruncated(t *testing.T) {
	s := newTest(t, sample(t))
	m, _ := exchange(t, s, packQuery(t, "demoservice.service.paddock.", dns.TypeA, edns(1232)), overUDPSlip)
	if !m.Truncated || len(m.Answer) != 0 || len(m.Ns) != 0 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("got %v", m)
	}
}
