//go:build interop && linux

package nemesis

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
	"github.com/paddockio/paddock/zab/zabtest/checker"
	"github.com/paddockio/paddock/zab/zabtest/checker/record"
)

var seedFlag = flag.Uint64("seed", 0, "the `seed` of plan and clients; 0: a new one")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(peer.Main(m))
}

const (
	clients        = 6
	clientPause    = 10 * time.Millisecond
	sessionTimeout = 4 * time.Second
)

// patience bounds the wait until all servers serve again after a fault.
const patience = 90 * time.Second

// A nemesis is a run.
type nemesis struct {
	t     testing.TB
	seed  uint64
	e     *peer.Ensemble
	nw    *peer.Network
	disks []*disk
	pulse pulse
	door  door

	rec     *checker.Recorder
	loads   []checker.Workload
	answers int

	cancel context.CancelFunc // stops the clients
	wg     sync.WaitGroup

	story   []string // the plan with times
	end     time.Duration
	effects []effect
}

// newNemesis starts an ensemble, perhaps with more settings, and its clients.
func newNemesis(t testing.TB, seed uint64, specs []peer.Spec, settings ...string) *nemesis {
	t.Helper()
	needTools(t)
	n := &nemesis{t: t, seed: seed, nw: peer.NewNetwork(t, len(specs))}
	n.pulse.began = time.Now()
	n.e = peer.NewEnsembleAt(t, specs, n.nw.Places, append(settings, "snapCount=2000")...)
	for _, m := range n.e.Members {
		n.disks = append(n.disks, newDisk(t, m))
	}
	n.rec = checker.NewRecorder(func() checker.Time { return checker.Time(n.pulse.now()) })
	n.loads = append(checker.Workloads(clients, n.rec), pulseSetup(n.e))
	t.Cleanup(n.keep)
	t.Cleanup(n.stop)
	n.e.Start(t)
	n.play()
	return n
}

// play starts the clients.
func (n *nemesis) play() {
	n.t.Helper()
	cfg := client.Config{
		Servers: peer.Servers(n.e.Members...), Dial: record.Dial(n.rec, n.door.dial),
		SessionTimeout: sessionTimeout, ConnectTimeout: time.Second, MaxBackoff: 100 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	setup, done := context.WithTimeout(ctx, peer.Patience)
	defer done()
	if err := record.Setup(setup, cfg, n.loads); err != nil {
		n.t.Fatal(err)
	}
	var mu sync.Mutex // guards n.answers
	for i := range clients {
		var workers []checker.Worker
		for _, l := range n.loads {
			if l.Worker != nil {
				workers = append(workers, l.Worker(i))
			}
		}
		d := &record.Driver{
			Config: cfg, Worker: checker.Interleaved(workers...), Rand: rand.New(rand.NewPCG(n.seed, uint64(i))), Pause: clientPause,
		}
		n.wg.Go(func() {
			answers, err := d.Run(ctx)
			if err != nil {
				n.t.Errorf("client %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			n.answers += answers
		})
	}
	for _, m := range n.e.Members {
		n.wg.Go(func() { n.pulse.run(ctx, n.t, m, cfg) })
		asking := cfg
		asking.Dial = record.Dial(n.rec, tcp)
		n.wg.Go(func() { n.pulse.ask(ctx, n.t, m, n.e, asking) })
	}
}

// stop ends the clients.
func (n *nemesis) stop() {
	if n.cancel != nil {
		n.cancel()
		n.wg.Wait()
	}
}

// wait lets time pass.
func (n *nemesis) wait(d time.Duration) { time.Sleep(d) }

// waitEnd waits until a member has ended by itself, which it reports.
func (n *nemesis) waitEnd(m *peer.Member, limit time.Duration) bool {
	select {
	case <-m.Done():
		return true
	case <-time.After(limit):
		return false
	}
}

// healed is the moment from which on nothing more is broken.
func (n *nemesis) healed() { n.end = n.pulse.now() }

func (n *nemesis) tell(format string, args ...any) {
	n.story = append(n.story, fmt.Sprintf("%8.3fs ", n.pulse.now().Seconds())+fmt.Sprintf(format, args...))
}

// inflict carries out one step of the plan, and waits until all servers serve.
func (n *nemesis) inflict(f fault, s step) {
	n.t.Helper()
	rng := rand.New(rand.NewPCG(s.seed, 0))
	aim := f.aim(n, rng)
	if len(aim) == 0 {
		n.tell("%s: there is nobody", f.name)
		return
	}
	var ids []string
	for _, m := range aim {
		ids = append(ids, strconv.Itoa(m.ID))
	}
	n.tell("%s: servers %s for %v", f.name, strings.Join(ids, " "), s.hold.Round(time.Millisecond))
	begin := n.pulse.forget()
	came := f.strike(n, aim, s.hold, rng)
	eff := effect{kind: f.name, held: n.end - begin}
	for deadline := time.Now().Add(patience); ; time.Sleep(pulseEvery) {
		ok := false
		n.pulse.look(func(acks []ack) {
			if eff.back, ok = firstAll(acks, len(n.e.Members), n.end); ok {
				eff.none = outage(acks, begin)
			}
		})
		if ok {
			break
		}
		for _, m := range n.e.Members {
			if n.waitEnd(m, 0) {
				n.e.Fatalf(n.t, "%v has ended by itself", m)
			}
		}
		if time.Now().After(deadline) {
			n.e.Fatalf(n.t, "%s: not all servers serve %v after its end", f.name, patience)
		}
	}
	n.tell("%s: no write anywhere for %.2fs; all servers serve %.2fs after its end", f.name, eff.none.Seconds(), eff.back.Seconds())
	if !came {
		n.tell("%s did not come to pass", f.name)
		return
	}
	n.effects = append(n.effects, eff)
}

// settle ends the clients and their sessions, compares the trees of all servers,
// ends these, and returns what there is to be judged.
func (n *nemesis) settle() (*verdict, []*peer.State) {
	n.t.Helper()
	n.stop()
	leader := n.e.AwaitLeader(n.t)
	for deadline := time.Now().Add(peer.Patience); len(leader.Sessions(n.t)) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.e.Fatalf(n.t, "sessions without clients do not end: %v", leader.Sessions(n.t))
		}
	}
	// The leader deletes containers that have become empty: twice a second it looks.
	for last, since, deadline := leader.Zxid(n.t), time.Now(), time.Now().Add(peer.Patience); time.Since(since) < 2*time.Second; time.Sleep(100 * time.Millisecond) {
		if z := leader.Zxid(n.t); z != last {
			last, since = z, time.Now()
		}
		if time.Now().After(deadline) {
			n.e.Fatalf(n.t, "there are writes without clients, up to %v", last)
		}
	}
	states := n.e.States(n.t)
	for _, m := range n.e.Members {
		m.Kill()
	}
	v := &verdict{history: n.rec.History()}
	for _, l := range n.loads {
		v.banks = append(v.banks, l.Banks...)
	}
	for _, m := range n.e.Members {
		v.stale = v.stale || m.Kind != peer.KindPaddock
	}
	if err := v.read(n.e); err != nil {
		n.t.Fatal(err)
	}
	return v, states
}

// keep leaves what a failed run has.
func (n *nemesis) keep() {
	if !n.t.Failed() {
		return
	}
	n.t.Logf("seed %d, what happened:\n%s", n.seed, strings.Join(n.story, "\n"))
	dir := os.Getenv("PADDOCK_NEMESIS_LOGS")
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "nemesis")
	} else {
		dir = filepath.Join(dir, strings.NewReplacer("/", "-", ",", "-").Replace(n.t.Name()))
		err = os.MkdirAll(dir, 0o755)
	}
	write := func(name string, b []byte) {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	write("story", []byte(fmt.Sprintf("seed %d\n%s\n", n.seed, strings.Join(n.story, "\n"))))
	write("history", n.rec.History().Bytes())
	for _, m := range n.e.Members {
		m.End()
		if b, rerr := os.ReadFile(filepath.Join(m.Dir, "server.log")); rerr == nil {
			write(fmt.Sprintf("server-%d.log", m.ID), b)
		}
		if log, rerr := record.Log(filepath.Join(m.Data(), "version-2")); rerr == nil {
			write(fmt.Sprintf("txns-%d", m.ID), checker.LogBytes(log))
		}
	}
	n.t.Logf("history, logs of the servers and their transactions are in %s (%v)", dir, err)
}

func setting(name, otherwise string) string {
	if text := os.Getenv(name); text != "" {
		return text
	}
	return otherwise
}

// TestNemesis breaks ensembles for a while. What is asked of the least traffic is
// far below what is usual: it is there so that a run without traffic fails.
func TestNemesis(t *testing.T) {
	seconds, err := strconv.Atoi(setting("PADDOCK_NEMESIS_SECONDS", "60"))
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := regexp.Compile(os.Getenv("PADDOCK_NEMESIS_FAULTS"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !wanted.MatchString(f.name) })
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for members := range strings.FieldsSeq(setting("PADDOCK_NEMESIS_MEMBERS", "paddock,paddock,paddock paddock,paddock,apache")) {
		specs, err := peer.ParseSpecs(members)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(members, func(t *testing.T) {
			t.Logf("seed %d", seed)
			run(t, seed, specs, kinds, time.Duration(seconds)*time.Second)
		})
	}
}

func run(t *testing.T, seed uint64, specs []peer.Spec, kinds []fault, limit time.Duration) {
	var holds []span
	for _, f := range kinds {
		holds = append(holds, f.hold)
	}
	n := newNemesis(t, seed, specs)
	began := time.Now()
	for p := newPlan(seed, holds); time.Since(began) < limit && !t.Failed(); {
		s := p.next()
		n.inflict(kinds[s.kind], s)
	}
	took := time.Since(began)
	v, states := n.settle()
	t.Logf("%d faults in %.0fs\n%s", len(n.effects), took.Seconds(), table(n.effects))

	rep, err := v.check()
	if err != nil {
		t.Fatalf("the checker says:\n%.20000v", err)
	}
	compareTree(t, rep.Tree, states[0])
	lin, err := v.linearizable()
	if err != nil {
		t.Errorf("the checker says:\n%.20000v", err)
	}
	tree := rep.Tree
	rep.Tree = nil
	t.Logf("%d entries, %d operations answered, %+v, %+v, tree of %d znodes", len(v.history.Entries), n.answers, *rep, lin, tree.NodeCount())

	// The same run with something broken in it must not pass.
	if worse := v.lost(); worse == nil {
		t.Error("there is no acknowledged write to be lost")
	} else if _, err := worse.check(); !breaks(err, "Z6") {
		t.Errorf("of a run without its last acknowledged write the checker says %v", err)
	}
	if v.stale {
		// It must not be looked for.
	} else if worse := v.staled(); worse == nil {
		t.Error("there is no read behind a sync that could be stale")
	} else if _, err := worse.check(); !breaks(err, "Z4") {
		t.Errorf("of a run with a stale read the checker says %v", err)
	}

	acked := rep.Updates - rep.Unknown - rep.Refused
	if floor := int(took.Seconds()) * 20; acked < floor {
		t.Errorf("%d writes were acknowledged, want %d or more", acked, floor)
	}
	if floor := int(took.Seconds()) / 2; rep.Syncs < floor {
		t.Errorf("%d syncs were answered, want %d or more", rep.Syncs, floor)
	}
	if floor := int(took.Seconds()) / 40; len(n.effects) < floor {
		t.Errorf("%d faults came to pass, want %d or more", len(n.effects), floor)
	}
	if int(took.Seconds()) < 40*len(kinds) {
		return // too short for every kind
	}
	for _, f := range kinds {
		if !slices.ContainsFunc(n.effects, func(e effect) bool { return e.kind == f.name }) {
			t.Errorf("%q never came to pass", f.name)
		}
	}
}

// TestUnsyncedWritesAreMissed runs servers that are told not to sync, and cuts the
// power of all. What was acknowledged is lost, and the checkers must say so: if
// they do not, the power cuts of TestNemesis are none.
func TestUnsyncedWritesAreMissed(t *testing.T) {
	specs, err := peer.ParseSpecs("paddock,paddock,paddock")
	if err != nil {
		t.Fatal(err)
	}
	n := newNemesis(t, 1, specs, "forceSync=no")
	enough := func() (is bool) {
		n.pulse.look(func(acks []ack) { is = len(acks) > 300 })
		return is
	}
	for deadline := time.Now().Add(patience); !enough(); time.Sleep(pulseEvery) {
		if time.Now().After(deadline) {
			n.e.Fatalf(t, "no writes")
		}
	}
	cutPower(n, n.e.Members, 0, nil)
	// Servers that know less refuse clients that have seen more: these need not come
	// back.
	v, _ := n.settle()
	if _, err = v.check(); !breaks(err, "Z6") {
		t.Fatalf("the checker says %v", err)
	}
	kept := map[zab.Zxid]bool{}
	for _, txn := range v.log {
		kept[txn.Header.Zxid] = true
	}
	lost := 0
	for _, e := range v.history.Entries {
		if e.Kind == checker.Request && e.Op == wire.OpSetData && e.Known() && e.Err == wire.OK && !kept[e.Zxid] {
			lost++
		}
	}
	t.Logf("of the acknowledged writes to znodes %d are in no log", lost)
}
