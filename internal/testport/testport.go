// Package testport finds ports for servers that tests start, stop and start again.
//
// A port that the kernel chooses is from the range that it gives to outgoing
// connections as well, those of tests beside this one among them, and may be taken by
// one of these while no server listens. So ports are chosen here, below that range.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// First and last port that are given. Linux begins its own at 32768, the interop
// suites use 24700 to 28999, and services of a developer's machine are mostly below
// 10000.
const (
	first = 12000
	last  = 23999
)

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Ports returns n ports of 127.0.0.1 that are free for TCP and UDP. No port is given
// twice in a process; another process gets the same with a chance of 1 in 12,000.
// It may be called from any goroutine of the test.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		if tries > 1000+n {
			t.Fatalf("no free port between %d and %d", first, last)
		}
		port := first + rand.IntN(last-first+1)
		if given[port] {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		p.Close()
		given[port] = true
		ports = append(ports, port)
	}
	return ports
}

// Port returns one port, as Ports does.
func Port(t testing.TB) int {
	t.Helper()
	return Ports(t, 1)[0]
}
