//go:build interop && linux

package nemesis

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/paddockio/paddock/zab/interop/peer"
)

// A fault is a way to break an ensemble.
type fault struct {
	name string
	hold span
	aim  func(n *nemesis, rng *rand.Rand) []*peer.Member

	// strike breaks something, for the time hold, and returns when it is whole again:
	// it calls n.healed at the beginning of that. It reports whether the fault came
	// to pass.
	strike func(n *nemesis, ms []*peer.Member, hold time.Duration, rng *rand.Rand) bool
}

// timeouts is longer than any that a server has for another: initLimit is 20 ticks
// of 500 ms. Sessions have a shorter one.
const timeouts = 12 * time.Second

var (
	moment = span{0, 3 * time.Second}
	short  = span{100 * time.Millisecond, 1500 * time.Millisecond}
	some   = span{2 * time.Second, 8 * time.Second}
	lead   = span{2200 * time.Millisecond, 4 * time.Second} // syncLimit is 2 s
	long   = span{timeouts, timeouts + 2*time.Second}
	full   = span{20 * time.Second, 20 * time.Second} // at most: until the server notices
)

// faults are the kinds of fault, in the order that seeds refer to.
var faults = []fault{
	{"kill -9, leader", moment, leader, kill},
	{"kill -9, follower", moment, follower, kill},
	{"kill -9, all", moment, everybody, kill},
	{"kill -9, one after the other", some, everybody, killInARow},
	{"pause, leader, short", short, leader, pause},
	{"pause, follower, short", short, follower, pause},
	{"pause, leader, until another leads", lead, leader, pause},
	{"pause, leader, isolated when it goes on", lead, leader, pauseIsolated},
	{"pause, leader, beyond all timeouts", long, leader, pause},
	{"pause, follower, beyond all timeouts", long, follower, pause},
	{"leader isolated", some, leader, isolate},
	{"follower isolated", some, follower, isolate},
	{"leader cannot send", some, leader, cutFrom},
	{"leader cannot receive", some, leader, cutTo},
	{"follower cannot send", some, follower, cutFrom},
	{"follower cannot receive", some, follower, cutTo},
	{"two do not hear each other", some, everybody, cutPair},
	{"no majority", some, everybody, isolate},
	{"slow links, leader", some, leader, slowLinks},
	{"power cut, leader", moment, ourLeader, cutPower},
	{"power cut, follower", moment, ourFollower, cutPower},
	{"power cut, all", moment, everybody, cutPower},
	{"disk full, leader", full, ourLeader, fillDisk},
	{"disk full, follower", full, ourFollower, fillDisk},
	{"disk fails, leader", some, ourLeader, failDisk("error=EIO")},
	{"disk fails, follower", some, ourFollower, failDisk("error=EIO")},
	{"disk fails once per thread, leader", some, ourLeader, failDisk("error=EIO:when=1")},
	{"disk fails once per thread, follower", some, ourFollower, failDisk("error=EIO:when=1")},
	{"disk slow, leader", some, leader, slowDisk},
	{"disk slow, follower", some, follower, slowDisk},
}

func leader(n *nemesis, _ *rand.Rand) []*peer.Member {
	return []*peer.Member{n.e.AwaitLeader(n.t)}
}

func follower(n *nemesis, rng *rand.Rand) []*peer.Member {
	l := n.e.AwaitLeader(n.t)
	others := slices.DeleteFunc(n.e.Voters(), func(m *peer.Member) bool { return m == l })
	return []*peer.Member{others[rng.IntN(len(others))]}
}

// ourLeader is the leader, once that is one of ours: what failing disks and power
// cuts do to Apache's servers is in DESIGN.md. If it does not come to that, it is nobody.
func ourLeader(n *nemesis, _ *rand.Rand) []*peer.Member {
	l := n.e.AwaitLeader(n.t)
	for range 3 {
		if l.Kind == peer.KindPaddock {
			return []*peer.Member{l}
		}
		l.Kill()
		next := n.e.AwaitLeader(n.t)
		l.Launch(n.t)
		n.e.AwaitLeader(n.t)
		l = next
	}
	return nil
}

// ourFollower is a follower of ours, or nobody.
func ourFollower(n *nemesis, rng *rand.Rand) []*peer.Member {
	l := n.e.AwaitLeader(n.t)
	ours := slices.DeleteFunc(n.e.Voters(), func(m *peer.Member) bool { return m == l || m.Kind != peer.KindPaddock })
	if len(ours) == 0 {
		return nil
	}
	return []*peer.Member{ours[rng.IntN(len(ours))]}
}

// everybody is all members in any order.
func everybody(n *nemesis, rng *rand.Rand) []*peer.Member {
	ms := slices.Clone(n.e.Members)
	rng.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	return ms
}

func kill(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	for _, m := range ms {
		m.Kill()
	}
	n.wait(hold)
	n.healed()
	for _, m := range ms {
		m.Launch(n.t)
	}
	return true
}

// cutPower kills servers; the disks of ours keep what was synced and nothing else.
func cutPower(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	for _, m := range ms {
		if m.Kind == peer.KindPaddock {
			n.disks[m.ID-1].cutPower(n.t)
		}
	}
	for _, m := range ms {
		m.Kill()
		if m.Kind == peer.KindPaddock {
			n.disks[m.ID-1].restorePower(n.t)
		}
	}
	n.wait(hold)
	n.healed()
	for _, m := range ms {
		m.Launch(n.t)
	}
	return true
}

// killInARow kills one after the other and starts each again after a moment, which
// now and then is long enough for all to be down.
func killInARow(n *nemesis, ms []*peer.Member, hold time.Duration, rng *rand.Rand) bool {
	for end := time.Now().Add(hold); time.Now().Before(end); {
		m := ms[rng.IntN(len(ms))]
		m.End()
		n.wait(time.Duration(rng.Int64N(int64(500 * time.Millisecond))))
		if rng.IntN(3) > 0 {
			m.Launch(n.t)
		}
	}
	n.healed()
	for _, m := range ms {
		if !m.Up() {
			m.Launch(n.t)
		}
	}
	return true
}

func pause(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	for _, m := range ms {
		m.Pause(n.t)
	}
	n.wait(hold)
	n.healed()
	for _, m := range ms {
		m.Resume(n.t)
	}
	return true
}

// cut makes a fault of cuts.
func cut(n *nemesis, hold time.Duration, cuts func()) bool {
	cuts()
	n.wait(hold)
	n.healed()
	n.nw.Heal()
	return true
}

// pauseIsolated lets a paused leader go on without any news from the others: it
// still believes that it leads, finds questions of clients, and must not answer
// before it has asked. Nobody writes to it meanwhile: a sync waits for the writes
// before it, which would hide that it asks nobody.
func pauseIsolated(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	n.door.close(ms[0].Addr())
	n.wait(100 * time.Millisecond) // what is under way is committed
	n.nw.Isolate(ms[0], n.e)
	ms[0].Pause(n.t)
	n.wait(hold)
	ms[0].Resume(n.t)
	n.wait(time.Second)
	n.healed()
	n.nw.Heal()
	n.door.close("")
	return true
}

func isolate(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	return cut(n, hold, func() {
		for _, m := range ms {
			n.nw.Isolate(m, n.e)
		}
	})
}

func cutFrom(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	return cut(n, hold, func() {
		for _, o := range n.e.Members {
			if o != ms[0] {
				n.nw.Cut(ms[0], o)
			}
		}
	})
}

func cutTo(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	return cut(n, hold, func() {
		for _, o := range n.e.Members {
			if o != ms[0] {
				n.nw.Cut(o, ms[0])
			}
		}
	})
}

// cutPair leaves a member that both can talk to.
func cutPair(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	return cut(n, hold, func() {
		n.nw.Cut(ms[0], ms[1])
		n.nw.Cut(ms[1], ms[0])
	})
}

func slowLinks(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	n.nw.Slow(ms[0])
	n.wait(hold)
	n.healed()
	n.nw.Fast(ms[0])
	return true
}

// fillDisk expects the server to end when it needs space that is not there.
func fillDisk(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	m := ms[0]
	d := n.disks[m.ID-1]
	d.fill(n.t)
	ended := n.waitEnd(m, hold)
	n.healed()
	d.empty(n.t)
	if ended {
		m.Launch(n.t)
	}
	return ended
}

// failDisk lets every disk call fail, as strace is told. A server that was told of
// a failed write must not go on, whatever later calls say.
func failDisk(how string) func(*nemesis, []*peer.Member, time.Duration, *rand.Rand) bool {
	return func(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
		m := ms[0]
		tr := trace(n.t, m, how)
		ended := n.waitEnd(m, hold)
		n.healed()
		tr.stop()
		if failed := tr.changed(); failed > 0 && !ended {
			n.t.Errorf("%v goes on after %d disk calls failed", m, failed)
		}
		m.End()
		m.Launch(n.t)
		return tr.changed() > 0
	}
}

// slowDisk makes every disk call take 100 ms longer.
func slowDisk(n *nemesis, ms []*peer.Member, hold time.Duration, _ *rand.Rand) bool {
	tr := trace(n.t, ms[0], "delay_enter=100000")
	n.wait(hold)
	n.healed()
	tr.stop()
	return tr.changed() > 0
}
