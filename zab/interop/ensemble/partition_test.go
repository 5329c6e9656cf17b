//go:build interop && linux

package ensemble

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// timeouts is longer than any that a server has for another: initLimit is 20
// ticks of 500 ms.
const timeouts = 12 * time.Second

// TestPartitions cuts, slows and pauses members. With a majority writes go on,
// without one they stop; no read after a sync is stale, and no acknowledged
// write is lost. A read through an Apache server may be stale: its leader does
// not ask the others for a sync.
func TestPartitions(t *testing.T) {
	t.Parallel() // it waits more than it works
	ensembles := []string{"paddock,paddock,paddock", "apache,paddock,paddock", "apache,apache,paddock"}
	if all := os.Getenv("INTEROP_MEMBERS"); all != "" {
		ensembles = []string{all}
	}
	for _, kinds := range ensembles {
		t.Run(kinds, func(t *testing.T) {
			t.Parallel()
			specs, err := peer.ParseSpecs(kinds)
			if err != nil {
				t.Fatal(err)
			}
			partition(t, specs)
		})
	}
}

func partition(t *testing.T, specs []peer.Spec) {
	nw := peer.NewNetwork(t, len(specs))
	e := peer.NewEnsembleAt(t, specs, nw.Places)
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
			nw.Isolate(followers[0], e)
			rest := append(followers[1:], leader)
			l.awaitProgressOf(e, of(rest...))
			awaitModes(rest, followers[0])
			l.awaitProgressOf(e, of(rest...))
		}},
		{"leader isolated", func() {
			leader, followers := split()
			nw.Isolate(leader, e)
			awaitModes(followers, leader)
			l.awaitProgressOf(e, of(followers...))
		}},
		{"leader cannot send", func() {
			leader, followers := split()
			for _, f := range followers {
				nw.Cut(leader, f)
			}
			awaitModes(followers, leader)
			l.awaitProgressOf(e, of(followers...))
		}},
		{"leader cannot receive", func() {
			leader, followers := split()
			for _, f := range followers {
				nw.Cut(f, leader)
			}
			awaitModes(followers, leader)
			l.awaitProgressOf(e, of(followers...))
		}},
		{"one follower does not hear the leader", func() {
			leader, followers := split()
			nw.Cut(leader, followers[0])
			time.Sleep(timeouts)
			l.awaitProgressOf(e, of())
		}},
		{"one follower does not reach the leader", func() {
			leader, followers := split()
			nw.Cut(followers[0], leader)
			time.Sleep(timeouts)
			l.awaitProgressOf(e, of())
		}},
		{"no majority", func() {
			leader, followers := split()
			for _, f := range followers {
				nw.Isolate(f, e)
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
			nw.Slow(leader)
			nw.Slow(followers[0])
			time.Sleep(timeouts / 2)
			l.awaitProgressOf(e, of())
			nw.Fast(leader)
			nw.Fast(followers[0])
		}},
	} {
		began := time.Now()
		reads := l.read.Load()
		c.do()
		took := time.Since(began)
		nw.Heal()
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
