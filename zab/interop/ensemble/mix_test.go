//go:build interop

package ensemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// someMixes have each kind in each role, and go through DIFF, TRUNC and SNAP in
// both directions. The last voter leads at first, and loses its tail to the one
// before it.
var someMixes = []string{
	"paddock,paddock,paddock",
	"apache,apache,paddock,apache:observer,paddock:observer",
	"paddock,paddock,apache,paddock:observer",
	"apache-3.8,paddock,apache-3.8",
	"paddock,apache-3.8,paddock",
	"apache,paddock",
}

// mixes are those that INTEROP_MIXES asks for, in full, and those of which the
// first half will do.
func mixes(t testing.TB) (full, half []string) {
	t.Helper()
	if all := os.Getenv("INTEROP_MEMBERS"); all != "" {
		return []string{all}, nil
	}
	switch text := os.Getenv("INTEROP_MIXES"); text {
	case "":
		return someMixes, slices.DeleteFunc(compositions(), func(mix string) bool { return slices.Contains(someMixes, mix) })
	case "all":
		return allMixes(), nil
	default:
		return strings.Fields(text), nil
	}
}

// compositions are 1 to 3 servers of one of Apache's versions with 1 to 3 of ours,
// led by either in turns.
func compositions() []string {
	var all []string
	for _, theirs := range []string{peer.KindApache, peer.KindDebian} {
		for a := 1; a <= 3; a++ {
			for p := 1; p <= 3; p++ {
				ours, apaches := orders(theirs, a, p)
				if len(all)%2 == 0 {
					all = append(all, ours)
				} else {
					all = append(all, apaches)
				}
			}
		}
	}
	return all
}

// orders are the two of a composition in which the other kind leads second: the
// first led by ours, the second by theirs.
func orders(theirs string, a, p int) (byOurs, byTheirs string) {
	apaches := slices.Repeat([]string{theirs}, a)
	ours := slices.Repeat([]string{peer.KindPaddock}, p)
	// The one before the last leads second.
	return strings.Join(slices.Concat(ours[1:], apaches, ours[:1]), ","),
		strings.Join(slices.Concat(apaches[1:], ours, apaches[:1]), ",")
}

// allMixes are 1 to 3 servers of one of Apache's versions with 1 to 3 of ours, led
// by either, followed by the other.
func allMixes() []string {
	all := slices.Clone(someMixes)
	for _, theirs := range []string{peer.KindApache, peer.KindDebian} {
		for a := 1; a <= 3; a++ {
			for p := 1; p <= 3; p++ {
				byOurs, byTheirs := orders(theirs, a, p)
				all = append(all, byOurs, byTheirs)
			}
		}
		all = append(all, theirs+","+theirs+",paddock,paddock:observer,"+theirs+":observer",
			"paddock,paddock,"+theirs+",paddock:observer,"+theirs+":observer")
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestMixes holds for each mix of servers what holds for an ensemble of Apache's.
func TestMixes(t *testing.T) {
	t.Parallel()
	slots := make(chan struct{}, 2) // each is up to six processes, most of them JVMs
	full, half := mixes(t)
	for i, mix := range slices.Concat(full, half) {
		t.Run(mix, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			specs, err := peer.ParseSpecs(mix)
			if err != nil {
				t.Fatal(err)
			}
			runMix(t, specs, i < len(full))
		})
	}
}

// runMix elects, writes through every member, and kills each of them; in full, it
// also goes through what a member can miss.
func runMix(t *testing.T, specs []peer.Spec, full bool) {
	e := peer.NewEnsemble(t, specs)
	began := time.Now()
	step := func(format string, args ...any) {
		t.Helper()
		t.Logf("%5.1fs "+format, append([]any{time.Since(began).Seconds()}, args...)...)
	}
	leader := e.Start(t)
	voters := e.Voters()
	if want := voters[len(voters)-1]; leader != want {
		e.Fatalf(t, "%v leads, want %v", leader, want)
	}
	step("%v leads", leader)
	for _, m := range e.Members {
		writeAll(t, e, m)
	}
	step("every member has written everything")

	all := peer.Servers(e.Members...)
	l := startLoad(t, plan{pace: 20 * time.Millisecond, writers: []string{all, all, all}})
	for _, m := range e.Members {
		l.awaitProgress(e)
		m.Kill()
		if len(runningVoters(e)) >= e.Quorum() {
			leader = e.AwaitLeader(t)
			l.awaitProgress(e)
			step("%v killed, %v leads", m, leader)
		} else {
			e.AwaitNoLeader(t, e.Running()[0])
			step("%v killed, nobody leads", m)
		}
		m.Launch(t)
		leader = e.AwaitLeader(t)
		step("%v is back, %v leads", m, leader)
	}
	l.awaitProgress(e)
	l.stop()
	l.check(e.States(t))
	step("equal")

	if !full || len(voters) < 3 {
		return // of two voters: without the other nothing is written, and there are no tails
	}
	catchUp(t, e, step)
	loseTail(t, e, step)
	catchUp(t, e, step)
	writeSome(t, e, 300) // enough for digests in every server's memory
	l.check(e.States(t))
	step("equal")
}

func runningVoters(e *peer.Ensemble) []*peer.Member {
	return slices.DeleteFunc(e.Running(), func(m *peer.Member) bool { return m.Observer })
}

// writeAll writes in every way through one member and reads it through all.
func writeAll(t *testing.T, e *peer.Ensemble, m *peer.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	c, stop := peer.Connect(t, client.Config{Servers: m.Addr(), SessionTimeout: sessionTimeout})
	defer stop()
	must := func(err error) {
		t.Helper()
		if err != nil {
			e.Fatalf(t, "on %v: %v", m, err)
		}
	}
	home := fmt.Sprintf("/member-%d", m.ID)
	_, created, err := c.Create(ctx, home, []byte("1"), nil, wire.Persistent)
	must(err)
	if created.Czxid.Epoch() == 0 {
		t.Errorf("%v: %v has no epoch", m, created.Czxid)
	}
	must(c.Sync(ctx, home))
	set, err := c.Set(ctx, home, []byte("2"), 0)
	must(err)
	_, eph, err := c.Create(ctx, home+"/eph", nil, nil, wire.Ephemeral)
	must(err)
	name, _, err := c.Create(ctx, home+"/seq-", nil, nil, wire.PersistentSequential)
	must(err)
	if name != home+"/seq-0000000001" {
		t.Errorf("%v names %s", m, name)
	}
	_, err = c.Multi(ctx, client.CheckOp(home, 1), createOp(home+"/multi", "m", wire.Persistent),
		createOp(home+"/multi/eph", "", wire.EphemeralSequential), client.SetOp(home, []byte("3"), 1), client.DeleteOp(name, 0))
	must(err)
	_, err = c.Multi(ctx, client.SetOp(home, []byte("4"), 2), client.CheckOp(home, 7))
	if !errors.Is(err, wire.ErrBadVersion) {
		e.Fatalf(t, "%v: a multi with a wrong check: %v", m, err)
	}
	_, _, err = c.Create(ctx, home, nil, nil, wire.Persistent)
	if !errors.Is(err, wire.ErrNodeExists) {
		e.Fatalf(t, "%v: a second create: %v", m, err)
	}
	for _, other := range e.Members {
		r, stopReader := peer.Connect(t, client.Config{Servers: other.Addr(), SessionTimeout: sessionTimeout})
		must(r.Sync(ctx, home))
		data, st, err := r.Get(ctx, home)
		must(err)
		if string(data) != "3" || st.Czxid != created.Czxid || st.Mzxid <= set.Mzxid || st.Version != 2 || st.Cversion != 4 || st.NumChildren != 2 {
			t.Errorf("%v: %v wrote, read %q %+v", other, m, data, st)
		}
		if st, found, err := r.Exists(ctx, home+"/eph"); err != nil || !found || st.EphemeralOwner != eph.EphemeralOwner {
			t.Errorf("%v: %v made an ephemeral, found %v %+v, %v", other, m, found, st, err)
		}
		// A write through another member fires the watch of this one.
		if other == e.Members[len(e.Members)-1] {
			_, _, events, err := r.GetW(ctx, home)
			must(err)
			_, err = c.Set(ctx, home, []byte("5"), -1)
			must(err)
			select {
			case ev := <-events:
				if ev.Type != wire.EventNodeDataChanged {
					t.Errorf("%v: event %+v", other, ev)
				}
			case <-ctx.Done():
				e.Fatalf(t, "%v: no event", other)
			}
		}
		must(r.CloseSession(ctx))
		stopReader()
	}
	must(c.CloseSession(ctx))
}

// writeSome does a number of writes, many at a time; one in five makes a znode.
func writeSome(t *testing.T, e *peer.Ensemble, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	c, stop := peer.Connect(t, client.Config{Servers: peer.Servers(e.Running()...), SessionTimeout: sessionTimeout, MaxBackoff: 50 * time.Millisecond})
	defer stop()
	if _, _, err := c.Create(ctx, "/some", nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
		e.Fatalf(t, "%v", err)
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range errs {
		if i%5 == 0 {
			wg.Go(func() { _, _, errs[i] = c.Create(ctx, "/some/n-", []byte("some"), nil, wire.PersistentSequential) })
		} else {
			wg.Go(func() { _, errs[i] = c.Set(ctx, "/some", []byte(strconv.Itoa(i)), -1) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		e.Fatalf(t, "%.1000v", err)
	}
	if err := c.CloseSession(ctx); err != nil {
		e.Fatalf(t, "%v", err)
	}
}

// catchUp lets a learner of each kind miss a little, miss more than the leader
// keeps in memory, and lose its disk.
func catchUp(t *testing.T, e *peer.Ensemble, step func(string, ...any)) {
	t.Helper()
	leader := e.AwaitLeader(t)
	done := map[peer.Spec]bool{}
	for _, m := range e.Members {
		spec := peer.Spec{Kind: m.Kind, Observer: m.Observer}
		if m == leader || done[spec] {
			continue
		}
		done[spec] = true
		for _, miss := range []struct {
			what   string
			writes int
			wipe   bool
		}{{"short absence", 50, false}, {"long absence", 800, false}, {"empty disk", 50, true}} {
			m.Kill()
			if miss.wipe {
				m.Wipe(t)
			}
			writeSome(t, e, miss.writes)
			m.Launch(t)
			if l := e.AwaitLeader(t); l != leader {
				t.Errorf("after a %s %v leads, %v did", miss.what, l, leader)
			}
			step("%s of %v under %v: %v", miss.what, m, leader, syncs(leader))
		}
	}
}

// syncs tells how a leader has synchronized its learners, as far as it counts.
func syncs(leader *peer.Member) string {
	answer, err := leader.Word("mntr")
	if err != nil {
		return err.Error()
	}
	var counts []string
	for line := range strings.Lines(answer) {
		if f := strings.Fields(line); len(f) == 2 && (f[0] == "zk_diff_count" || f[0] == "zk_snap_count") {
			counts = append(counts, f[0][3:]+" "+f[1])
		}
	}
	return strings.Join(counts, ", ")
}

// loseTail lets the leader log what no other server gets, and lose it: the others
// go on without it, and it must cut its log when it comes back (TRUNC).
func loseTail(t *testing.T, e *peer.Ensemble, step func(string, ...any)) {
	t.Helper()
	old := e.AwaitLeader(t)
	c, stop := peer.Connect(t, client.Config{Servers: old.Addr(), SessionTimeout: sessionTimeout})
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	if _, _, err := c.Create(ctx, "/tails", nil, nil, wire.Persistent); err != nil && !errors.Is(err, wire.ErrNodeExists) {
		e.Fatalf(t, "%v", err)
	}
	e.Settle(t)
	for _, m := range e.Members {
		if m != old {
			m.Pause(t)
		}
	}
	tail := fmt.Sprintf("private tail of server %d", old.ID)
	for i := range 5 {
		go func() {
			_, _, _ = c.Create(ctx, fmt.Sprintf("/tails/%d-%d", old.ID, i), []byte(tail), nil, wire.Persistent)
		}()
	}
	awaitLogged(t, e, old, tail, 5)
	// What is in the sockets of the others must not be read.
	for _, m := range e.Members {
		if m != old {
			m.Kill()
		}
	}
	old.Kill()
	stop()
	for _, m := range e.Members {
		if m != old {
			m.Launch(t)
		}
	}
	leader := e.AwaitLeader(t)
	writeSome(t, e, 20)
	old.Launch(t)
	if l := e.AwaitLeader(t); l != leader {
		e.Fatalf(t, "%v leads, %v did", l, leader)
	}
	for _, st := range e.States(t) {
		for path := range st.Znodes {
			if strings.HasPrefix(path, "/tails/") {
				t.Errorf("%s is there, which never had a quorum", path)
			}
		}
	}
	step("%v has lost its tail to %v", old, leader)
}

// awaitLogged waits until a member has a text in its transaction logs so often.
func awaitLogged(t *testing.T, e *peer.Ensemble, m *peer.Member, text string, times int) {
	t.Helper()
	for deadline := time.Now().Add(peer.Patience); ; time.Sleep(5 * time.Millisecond) {
		logs, err := filepath.Glob(filepath.Join(m.Data(), "version-2", "log.*"))
		n := 0
		for _, name := range logs {
			b, rerr := os.ReadFile(name)
			err = errors.Join(err, rerr)
			n += bytes.Count(b, []byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		if n >= times {
			return
		}
		if time.Now().After(deadline) {
			e.Fatalf(t, "%v has logged %d of %d writes", m, n, times)
		}
	}
}
