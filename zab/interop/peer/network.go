//go:build interop && linux

package peer

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// A Network is a bridge with a network namespace for each member. The test's own
// namespace reaches them all.
type Network struct {
	t      testing.TB
	Places []Place
}

// networks counts those of this process.
var networks atomic.Int32

// NewNetwork makes a network for n members until the test ends. It needs root and
// iproute2; without them the test ends as Missing says.
func NewNetwork(t testing.TB, n int) *Network {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 {
		Missing(t, "network namespaces need root and iproute2")
	}
	nw := &Network{t: t}
	// Two tests at a time must not meet, nor two runs: neither their names nor their
	// addresses.
	id := (os.Getpid() + 97*int(networks.Add(1))) % 65536
	bridge, subnet := fmt.Sprintf("pk%d", id), fmt.Sprintf("10.213.%d", id%256)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", bridge).Run() })
	nw.ip("link", "add", bridge, "type", "bridge")
	nw.ip("addr", "add", subnet+".254/24", "dev", bridge)
	nw.ip("link", "set", bridge, "up")
	for i := 1; i <= n; i++ {
		ns, veth := fmt.Sprintf("pk%d-%d", id, i), fmt.Sprintf("pk%d-%d", id, i)
		t.Cleanup(func() {
			// A namespace ends some time after its name; the link has to go now.
			_ = exec.Command("ip", "link", "del", veth).Run()
			_ = exec.Command("ip", "netns", "del", ns).Run()
		})
		nw.ip("netns", "add", ns)
		nw.ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", ns)
		nw.ip("link", "set", veth, "master", bridge)
		nw.ip("link", "set", veth, "up")
		host := fmt.Sprintf("%s.%d", subnet, i)
		nw.ip("-n", ns, "addr", "add", host+"/24", "dev", "eth0")
		nw.ip("-n", ns, "link", "set", "eth0", "up")
		nw.ip("-n", ns, "link", "set", "lo", "up")
		nw.Places = append(nw.Places, Place{Namespace: ns, Host: host})
	}
	return nw
}

func (nw *Network) ip(args ...string) {
	nw.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		nw.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Cut loses every packet from one member to another, as a broken cable does,
// without a word to either: they go to a station that is not there.
func (nw *Network) Cut(from, to *Member) {
	nw.t.Helper()
	nw.ip("-n", nw.Places[from.ID-1].Namespace, "neigh", "replace", to.Host, "lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent")
}

// Heal ends every cut.
func (nw *Network) Heal() {
	nw.t.Helper()
	for _, p := range nw.Places {
		nw.ip("-n", p.Namespace, "neigh", "flush", "dev", "eth0", "nud", "permanent")
	}
}

// Isolate cuts a member off from all others, but not from clients.
func (nw *Network) Isolate(m *Member, e *Ensemble) {
	nw.t.Helper()
	for _, o := range e.Members {
		if o != m {
			nw.Cut(m, o)
			nw.Cut(o, m)
		}
	}
}

// Slow makes a member's own packets late, or few in a second where the kernel
// has no delays.
func (nw *Network) Slow(m *Member) {
	nw.t.Helper()
	ns := nw.Places[m.ID-1].Namespace
	tc := func(args ...string) error {
		args = append([]string{"-n", ns, "qdisc", "replace", "dev", "eth0", "root"}, args...)
		out, err := exec.Command("tc", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("tc %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := tc("netem", "delay", "100ms", "20ms"); err != nil {
		if err := tc("tbf", "rate", "1mbit", "burst", "8kb", "latency", "500ms"); err != nil {
			nw.t.Fatal(err)
		}
	}
}

// Fast ends Slow.
func (nw *Network) Fast(m *Member) {
	nw.t.Helper()
	if out, err := exec.Command("tc", "-n", nw.Places[m.ID-1].Namespace, "qdisc", "del", "dev", "eth0", "root").CombinedOutput(); err != nil {
		nw.t.Fatalf("tc: %v\n%s", err, out)
	}
}
