//go:build interop && linux

package ensemble

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// A network is a bridge with a network namespace for each member. The test's own
// namespace reaches them all.
type network struct {
	t      testing.TB
	places []peer.Place
}

// newNetwork needs root and iproute2.
func newNetwork(t testing.TB, n int) *network {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Getuid() != 0 {
		peer.Missing(t, "network namespaces need root and iproute2")
	}
	nw := &network{t: t}
	// Two runs at a time must not meet: neither their names nor their addresses.
	id := os.Getpid() % 65536
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
		nw.places = append(nw.places, peer.Place{Namespace: ns, Host: host})
	}
	return nw
}

func (nw *network) ip(args ...string) {
	nw.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		nw.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// cut loses every packet from one member to another, as a broken cable does,
// without a word to either: they go to a station that is not there.
func (nw *network) cut(from, to *peer.Member) {
	nw.t.Helper()
	nw.ip("-n", nw.places[from.ID-1].Namespace, "neigh", "replace", to.Host, "lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent")
}

// heal ends every cut.
func (nw *network) heal() {
	nw.t.Helper()
	for _, p := range nw.places {
		nw.ip("-n", p.Namespace, "neigh", "flush", "dev", "eth0", "nud", "permanent")
	}
}

// isolate cuts a member off from all others, but not from clients.
func (nw *network) isolate(m *peer.Member, e *peer.Ensemble) {
	nw.t.Helper()
	for _, o := range e.Members {
		if o != m {
			nw.cut(m, o)
			nw.cut(o, m)
		}
	}
}

// slow makes a member's own packets late, or few in a second where the kernel
// has no delays.
func (nw *network) slow(m *peer.Member) {
	nw.t.Helper()
	ns := nw.places[m.ID-1].Namespace
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

// fast ends slow.
func (nw *network) fast(m *peer.Member) {
	nw.t.Helper()
	if out, err := exec.Command("tc", "-n", nw.places[m.ID-1].Namespace, "qdisc", "del", "dev", "eth0", "root").CombinedOutput(); err != nil {
		nw.t.Fatalf("tc: %v\n%s", err, out)
	}
}

// timeouts is longer than any that a server has for another: initLimit is 20
// ticks of 500 ms.
const timeouts = 12 * time.Second

// TestPartitions cuts, slows and pauses members. With a majority writes go on,
// without one they stop; no read after a sync is stale, and no acknowledged
// write is lost. A read through an Apache server may be stale: its leader does
// not ask the others for a sync.
func TestPartitions(t *testing.T) {
	specs := members(t, "paddock,paddock,paddock")
	nw := newNetwork(t, len(specs))
	e := peer.NewEnsembleAt(t, specs, nw.places)
	e.Start(t)
	// For each member a client that writes and one that reads, and two that go
	// where they can.
	all := peer.Servers(e.Members...)
	p := plan{pace: 10 * time.Millisecond, writers: []string{all, all}}
	for _, m := range e.Members {
		p.writers, p.readers = append(p.writers, m.Addr()), append(p.readers, m.Addr())
		p.stale = p.stale || m.Kind != peer.KindPaddock
	}
	l := startLoad(t, p)
	// of are the workers of some members, and those that go where they can.
	of := func(ms ...*peer.Member) []*worker {
		ws := slices.Clone(l.workers[:2])
		for _, m := range ms {
			ws = append(ws, l.workers[1+m.ID])
		}
		return ws
	}
	split := func() (leader *peer.Member, followers []*peer.Member) {
		leader = e.AwaitLeader(t)
		return leader, slices.DeleteFunc(e.Voters(), func(m *peer.Member) bool { return m == leader })
	}
	// awaitModes waits until the members serve, or not.
	awaitModes := func(serving []*peer.Member, not ...*peer.Member) {
		t.Helper()
		for _, m := range not {
			e.AwaitNoLeader(t, m)
		}
		if len(serving) > 0 {
			e.AwaitLeaderOf(t, serving...)
		}
	}

	for _, c := range []struct {
		name string
		do   func()
	}{
		{"follower isolated", func() {
			leader, followers := split()
			nw.isolate(followers[0], e)
			rest := append(followers[1:], leader)
			l.awaitProgressOf(e, of(rest...))
			awaitModes(rest, followers[0])
			l.awaitProgressOf(e, of(rest...))
		}},
		{"leader isolated", func() {
			leader, followers := split()
			nw.isolate(leader, e)
			awaitModes(followers, leader)
			l.awaitProgressOf(e, of(followers...))
		}},
		{"leader cannot send", func() {
			leader, followers := split()
			for _, f := range followers {
				nw.cut(leader, f)
			}
			awaitModes(followers, leader)
			l.awaitProgressOf(e, of(followers...))
		}},
		{"leader cannot receive", func() {
			leader, followers := split()
			for _, f := range followers {
				nw.cut(f, leader)
			}
			awaitModes(followers, leader)
			l.awaitProgressOf(e, of(followers...))
		}},
		{"one follower does not hear the leader", func() {
			leader, followers := split()
			nw.cut(leader, followers[0])
			time.Sleep(timeouts)
			l.awaitProgressOf(e, of())
		}},
		{"one follower does not reach the leader", func() {
			leader, followers := split()
			nw.cut(followers[0], leader)
			time.Sleep(timeouts)
			l.awaitProgressOf(e, of())
		}},
		{"no majority", func() {
			leader, followers := split()
			for _, f := range followers {
				nw.isolate(f, e)
			}
			awaitModes(nil, append(followers, leader)...)
			before := l.acked()
			time.Sleep(3 * time.Second)
			if n := l.acked() - before; n != 0 {
				t.Errorf("%d writes were acknowledged without a majority", n)
			}
		}},
		{"follower paused", func() {
			leader, followers := split()
			followers[0].Pause(t)
			time.Sleep(timeouts)
			l.awaitProgressOf(e, of(append(followers[1:], leader)...))
			followers[0].Resume(t)
		}},
		{"leader paused", func() {
			leader, followers := split()
			leader.Pause(t)
			awaitModes(followers)
			l.awaitProgressOf(e, of(followers...))
			time.Sleep(timeouts / 2)
			leader.Resume(t)
		}},
		{"slow links", func() {
			leader, followers := split()
			nw.slow(leader)
			nw.slow(followers[0])
			time.Sleep(timeouts / 2)
			l.awaitProgressOf(e, of())
			nw.fast(leader)
			nw.fast(followers[0])
		}},
	} {
		began := time.Now()
		reads := l.read.Load()
		c.do()
		took := time.Since(began)
		nw.heal()
		leader := e.AwaitLeader(t)
		l.awaitProgress(e)
		t.Logf("%s for %.1fs, all well after %.1fs: %v leads; %d reads after a sync", c.name, took.Seconds(), time.Since(began).Seconds(), leader, l.read.Load()-reads)
		if t.Failed() {
			t.Log(e.Tails())
			break
		}
	}
	l.stop()
	l.check(e.States(t))
}
