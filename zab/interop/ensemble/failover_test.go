//go:build interop

package ensemble

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/interop/peer"
)

// bound is what no fail-over may take, however slow the machine; the figures are
// logged.
const bound = 20 * time.Second

// TestFailOver measures how long no write is acknowledged when a leader is
// killed or stopped, and what the others notice when a follower goes and comes. What
// they notice when nothing happens, and when a server starts that has nothing to do
// with them, is the machine's part of it.
func TestFailOver(t *testing.T) {
	kills := 20
	if text := os.Getenv("INTEROP_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("INTEROP_KILLS=%q: want a number", text)
		}
	}
	e := peer.NewEnsemble(t, members(t, "paddock,paddock,paddock"))
	e.Start(t)
	all := peer.Servers(e.Members...)
	servers := []string{all, all, all}
	for _, m := range e.Members {
		servers = append(servers, m.Addr()) // workers that stay where they are
	}
	l := startLoad(t, plan{pace: 10 * time.Millisecond, writers: servers})
	l.awaitProgress(e)

	type event struct {
		at    time.Duration
		epoch zab.Epoch // of the last transaction before it
		stays []int     // workers at servers that stay
	}
	mark := func(gone *peer.Member) event {
		ev := event{epoch: e.Running()[0].Zxid(t).Epoch()}
		for i, m := range e.Members {
			if m != gone {
				ev.stays = append(ev.stays, len(servers)-len(e.Members)+i)
			}
		}
		ev.at = time.Since(l.began)
		return ev
	}
	quiet := func() { time.Sleep(500 * time.Millisecond) } // so that one event is over before the next
	var killed, stopped, crashed, returned, nothing, unrelated []event
	for i := range kills {
		m := e.AwaitLeader(t)
		l.awaitProgress(e)
		killed = append(killed, mark(m))
		m.Kill()
		e.AwaitLeader(t)
		quiet()
		m.Launch(t)
		e.AwaitLeader(t)
		if i%4 != 0 {
			continue
		}

		l.awaitProgress(e)
		m = e.AwaitLeader(t)
		stopped = append(stopped, mark(m))
		m.Term(t)
		e.AwaitLeader(t)
		quiet()
		m.Launch(t)
		leader := e.AwaitLeader(t)

		l.awaitProgress(e)
		for _, m := range e.Members {
			if m == leader {
				continue
			}
			quiet()
			crashed = append(crashed, mark(m))
			m.Kill()
			quiet()
			returned = append(returned, mark(m))
			m.Launch(t)
			e.AwaitLeader(t)

			quiet()
			nothing = append(nothing, mark(m))
			quiet()
			unrelated = append(unrelated, mark(m))
			peer.Start(t, m.Kind, t.TempDir()).Kill()
			quiet()
		}
	}
	l.awaitProgress(e)
	l.stop()

	var acks []write
	for _, w := range l.workers {
		for _, a := range w.writes {
			if a.acked {
				acks = append(acks, a)
			}
		}
	}
	slices.SortFunc(acks, func(a, b write) int { return cmp.Compare(a.ret, b.ret) })
	// next is the time to the first write that a new leader acknowledges.
	next := func(ev event) time.Duration {
		for _, a := range acks {
			if a.ret > ev.at && a.zxid.Epoch() > ev.epoch {
				return a.ret - ev.at
			}
		}
		t.Errorf("no write is acknowledged after %v", ev.at)
		return bound
	}
	// slowest is the longest write of a client whose server stays.
	slowest := func(ev event) (longest time.Duration) {
		for _, i := range ev.stays {
			for _, w := range l.workers[i].writes {
				if w.acked && w.ret > ev.at && w.call < ev.at+500*time.Millisecond {
					longest = max(longest, w.ret-w.call)
				}
			}
		}
		return longest
	}
	for _, f := range []struct {
		what   string
		events []event
		took   func(event) time.Duration
	}{
		{"leader killed, next acknowledged write", killed, next},
		{"leader stopped, next acknowledged write", stopped, next},
		{"follower killed, slowest write of others", crashed, slowest},
		{"follower comes back, slowest write of others", returned, slowest},
		{"nothing happens, slowest write of the same", nothing, slowest},
		{"another server starts, slowest write of the same", unrelated, slowest},
	} {
		var took []time.Duration
		for _, ev := range f.events {
			took = append(took, f.took(ev))
		}
		slices.Sort(took)
		worst := took[len(took)-1]
		t.Logf("%s: median %v, worst %v of %d", f.what, took[len(took)/2].Round(time.Millisecond), worst.Round(time.Millisecond), len(took))
		if worst > bound {
			t.Errorf("%s: %v is too long", f.what, worst)
		}
	}
	l.check(e.States(t))
}
