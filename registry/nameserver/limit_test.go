package nameserver

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := newLimiter(10)
	a, neighbour, far := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("198.51.100.1")
	if l.hash(a) != l.hash(neighbour) || l.hash(netip.MustParseAddr("::ffff:192.0.2.1")) != l.hash(a) {
		t.Error("addresses of one network hash apart")
	}
	if l.hash(netip.MustParseAddr("2001:db8:0:1200::1")) != l.hash(netip.MustParseAddr("2001:db8:0:12ff::2")) ||
		l.hash(netip.MustParseAddr("2001:db8:0:1200::1")) == l.hash(netip.MustParseAddr("2001:db8:0:1300::1")) {
		t.Error("IPv6 networks are not /56")
	}
	count := func(client netip.Addr, n int, now time.Duration) (c [3]int) {
		for range n {
			c[l.check(client, int64(now))]++
		}
		return c
	}
	if got := count(a, 10, 0); got != [3]int{10, 0, 0} {
		t.Errorf("within the burst: %v", got)
	}
	if got := count(neighbour, 20, 0); got != [3]int{0, 10, 10} {
		t.Errorf("above it: send, slip, drop %v, want 0 10 10", got)
	}
	if got := count(a, 5, 200*time.Millisecond); got[send] != 2 {
		t.Errorf("200ms later: %v, want 2 sent", got)
	}
	if got := count(a, 20, time.Hour); got[send] != 10 {
		t.Errorf("an hour later: %v, want 10 sent", got)
	}
	if l.hash(far)%uint64(len(l.slots)) != l.hash(a)%uint64(len(l.slots)) {
		if got := count(far, 10, 0); got[send] != 10 {
			t.Errorf("another network: %v", got)
		}
	}
	if got := count(netip.MustParseAddr("127.0.0.1"), 1000, 0); got[send] != 1000 {
		t.Errorf("loopback: %v", got)
	}
	if got := newLimiter(-1).check(a, 0); got != send {
		t.Errorf("no limit: %v", got)
	}
}
