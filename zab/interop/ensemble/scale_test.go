//go:build interop

package ensemble

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/client"
	"github.com/paddockio/paddock/zab/interop/peer"
	"github.com/paddockio/paddock/zab/wire"
)

// number is that of an environment variable, or another one.
func number(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number", variable, text)
	}
	return n
}

// A prober writes at a steady pace and notes how long each write took. A write that
// takes long delays none of the others.
type prober struct {
	began time.Time
	stop  func()

	mu     sync.Mutex
	took   []probe
	failed int
}

type probe struct{ at, took time.Duration }

// startProber sets one znode for each server every pace.
func startProber(t testing.TB, pace time.Duration, servers ...*peer.Member) *prober {
	t.Helper()
	p := &prober{began: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, m := range servers {
		c, _ := peer.Connect(t, client.Config{Servers: m.Addr(), SessionTimeout: sessionTimeout})
		path := fmt.Sprintf("/probe-%d-%d", m.ID, loads.Add(1))
		if _, _, err := c.Create(ctx, path, nil, nil, wire.Persistent); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			ticks := time.NewTicker(pace)
			defer ticks.Stop()
			for began, n := p.now(), time.Duration(0); ; {
				select {
				case <-ctx.Done():
					return
				case <-ticks.C:
				}
				// A processor that is busy swallows ticks.
				for ; n < (p.now()-began)/pace; n++ {
					wg.Go(func() {
						at := p.now()
						_, err := c.Set(ctx, path, make([]byte, 100), -1)
						p.note(probe{at, p.now() - at}, err)
					})
				}
			}
		})
	}
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(p.stop)
	return p
}

func (p *prober) note(w probe, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.took = append(p.took, w)
	} else if !errors.Is(err, context.Canceled) {
		p.failed++
	}
}

// now is the time by the clock of the probes.
func (p *prober) now() time.Duration { return time.Since(p.began) }

// A spread is how long writes have taken.
type spread struct {
	n                 int
	median, p99, most time.Duration
}

func (s spread) String() string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%d writes, median %.1f ms, p99 %.1f ms, most %.1f ms", s.n, ms(s.median), ms(s.p99), ms(s.most))
}

// between tells of the writes that were asked for between two moments.
func (p *prober) between(from, to time.Duration) (s spread) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var took []time.Duration
	for _, w := range p.took {
		if w.at >= from && w.at < to {
			took = append(took, w.took)
		}
	}
	slices.Sort(took)
	if s.n = len(took); s.n > 0 {
		s.median, s.p99, s.most = took[s.n/2], took[s.n*99/100], took[s.n-1]
	}
	return s
}

// bulkFanout is how many children a znode of bulk has.
const bulkFanout = 10_000

// bulk creates n znodes of 100 bytes below a new one.
func bulk(t testing.TB, at *peer.Member, n int) {
	t.Helper()
	c, stop := peer.Connect(t, client.Config{Servers: at.Addr(), SessionTimeout: sessionTimeout})
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	root := fmt.Sprintf("/bulk-%d", loads.Add(1))
	create := func(path string) {
		if _, _, err := c.Create(ctx, path, nil, nil, wire.Persistent); err != nil {
			t.Fatalf("create %s: %v", path, err)
		}
	}
	create(root)
	for i := range (n + bulkFanout - 1) / bulkFanout {
		create(fmt.Sprintf("%s/%d", root, i))
	}
	data := []byte(strings.Repeat("x", 100))
	const inFlight = 256
	var wg sync.WaitGroup
	for w := range inFlight {
		wg.Go(func() {
			for i := w; i < n; i += inFlight {
				if _, _, err := c.Create(ctx, fmt.Sprintf("%s/%d/%d", root, i/bulkFanout, i), data, nil, wire.Persistent); err != nil {
					t.Errorf("create znode %d: %v", i, err)
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
}

// awaitServing waits until a member serves, and returns how long that took.
func awaitServing(t testing.TB, e *peer.Ensemble, m *peer.Member) time.Duration {
	t.Helper()
	began := time.Now()
	for m.Mode() == "" {
		if time.Since(began) > 10*time.Minute {
			e.Fatalf(t, "%v does not serve", m)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// tooSlow is what no write may take while another server joins, however slow the
// machine; the figures are logged.
const tooSlow = 5 * time.Second

// TestEmptyDiskRejoins measures writes while a follower that has lost its disk gets
// INTEROP_ZNODES znodes as a snapshot. As a control, the same tree is loaded by a
// server that has nothing to do with the ensemble: what that costs, the machine
// costs.
func TestEmptyDiskRejoins(t *testing.T) {
	znodes := number(t, "INTEROP_ZNODES", 50_000)
	// So many snapshots that the logs do not reach back to the beginning.
	e := peer.NewEnsemble(t, members(t, "paddock,paddock,paddock"), fmt.Sprintf("snapCount=%d", max(1000, znodes/10)))
	leader := e.Start(t)
	began := time.Now()
	bulk(t, leader, znodes)
	t.Logf("%d znodes created in %v", znodes, time.Since(began).Round(time.Millisecond))
	e.Settle(t)
	var lost *peer.Member
	var stay []*peer.Member
	for _, m := range e.Members {
		if m != leader && lost == nil {
			lost = m
		} else {
			stay = append(stay, m)
		}
	}
	lost.Kill()
	alone := &peer.Member{Server: &peer.Server{Kind: lost.Kind, Host: lost.Host, Dir: filepath.Join(t.TempDir(), "alone")}}
	if err := os.CopyFS(filepath.Join(alone.Dir, "data", "version-2"), os.DirFS(filepath.Join(lost.Data(), "version-2"))); err != nil {
		t.Fatal(err)
	}
	syscall.Sync() // what was copied is not to be on its way to the disk any more
	p := startProber(t, 5*time.Millisecond, stay...)
	time.Sleep(10 * time.Second)
	before := p.between(time.Second, p.now())
	t.Logf("before: %v", before)

	from := p.now()
	control := peer.Start(t, lost.Kind, alone.Dir)
	time.Sleep(time.Second)
	t.Logf("control, an unrelated server loads the same tree in %v: %v", control.Started.Round(time.Millisecond), p.between(from, p.now()))
	control.Kill()

	snapshots := leader.Metric(t, "snap_count")
	lost.Wipe(t)
	time.Sleep(2 * time.Second)
	from = p.now()
	lost.Launch(t)
	took := awaitServing(t, e, lost)
	during := p.between(from, p.now())
	t.Logf("serves after %v: %v; p99 is %.1f × that before", took.Round(time.Millisecond), during, float64(during.p99)/float64(before.p99))
	time.Sleep(5 * time.Second)
	t.Logf("behind that: %v", p.between(from+took, p.now()))
	p.stop()
	if n := leader.Metric(t, "snap_count") - snapshots; n != 1 {
		t.Errorf("%v snapshots were sent", n)
	}
	if during.n == 0 || during.most > tooSlow || p.failed > 0 {
		t.Errorf("writes stood still: %v, %d failed", during, p.failed)
	}
	e.Settle(t)
	var counts []float64
	for _, m := range e.Members {
		counts = append(counts, m.Metric(t, "znode_count"))
	}
	if slices.Min(counts) != slices.Max(counts) || counts[0] < float64(znodes) {
		t.Errorf("znodes of the servers: %v", counts)
	}
}

// TestFarBehindRejoins lets a follower miss INTEROP_BEHIND transactions: more than
// the leader keeps in memory. It gets them from the log, while writes go on.
func TestFarBehindRejoins(t *testing.T) {
	behind := number(t, "INTEROP_BEHIND", 20_000)
	// The file of the log that they begin in stays: no snapshot comes between.
	e := peer.NewEnsemble(t, members(t, "paddock,paddock,paddock"), "snapCount=10000000")
	leader := e.Start(t)
	bulk(t, leader, 100)
	e.Settle(t)
	var away *peer.Member
	var stay []*peer.Member
	for _, m := range e.Members {
		if m != leader && away == nil {
			away = m
		} else {
			stay = append(stay, m)
		}
	}
	away.Kill()
	last := leader.Zxid(t)
	c, _ := peer.Connect(t, client.Config{Servers: leader.Addr(), SessionTimeout: sessionTimeout})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if _, _, err := c.Create(ctx, "/behind", nil, nil, wire.Persistent); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 100 {
		wg.Go(func() {
			for i := w; i < behind; i += 100 {
				if _, err := c.Set(ctx, "/behind", make([]byte, 100), -1); err != nil {
					t.Errorf("set: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d transactions behind", leader.Zxid(t)-last)
	p := startProber(t, 5*time.Millisecond, stay...)
	time.Sleep(5 * time.Second)
	before := p.between(time.Second, p.now())
	diffs, snapshots := leader.Metric(t, "diff_count"), leader.Metric(t, "snap_count")
	from := p.now()
	away.Launch(t)
	took := awaitServing(t, e, away)
	during := p.between(from, p.now())
	p.stop()
	t.Logf("before: %v", before)
	t.Logf("serves after %v: %v", took.Round(time.Millisecond), during)
	diffs, snapshots = leader.Metric(t, "diff_count")-diffs, leader.Metric(t, "snap_count")-snapshots
	if diffs != 1 || snapshots != 0 {
		t.Errorf("%v DIFF and %v SNAP were sent, want one DIFF", diffs, snapshots)
	}
	if during.n == 0 || during.most > tooSlow || p.failed > 0 {
		t.Errorf("writes stood still: %v, %d failed", during, p.failed)
	}
	e.Settle(t)
}

// cpuTime is what a process has used of the processors.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// residentBytes is the memory of a process.
func residentBytes(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestObserversKeepUp lets INTEROP_OBSERVERS observers follow INTEROP_RATE writes a
// second for INTEROP_SECONDS: no queue of the leader grows, and nobody falls behind.
func TestObserversKeepUp(t *testing.T) {
	observers, rate := number(t, "INTEROP_OBSERVERS", 10), number(t, "INTEROP_RATE", 200)
	length := time.Duration(number(t, "INTEROP_SECONDS", 10)) * time.Second
	specs := "paddock,paddock,paddock" + strings.Repeat(",paddock:observer", observers)
	parsed, err := peer.ParseSpecs(specs)
	if err != nil {
		t.Fatal(err)
	}
	e := peer.NewEnsemble(t, parsed, "initLimit=120")
	began := time.Now()
	e.StartOnly(t, e.Voters()...)
	for _, m := range e.Members[3:] {
		m.Launch(t)
	}
	for _, m := range e.Members[3:] {
		awaitServing(t, e, m)
	}
	leader := e.AwaitLeaderOf(t, e.Voters()...)
	t.Logf("%d servers serve after %v", len(e.Members), time.Since(began).Round(time.Millisecond))

	var cpu []time.Duration
	for _, m := range e.Members {
		cpu = append(cpu, cpuTime(t, m.PID()))
	}
	const probers = 3
	p := startProber(t, probers*time.Second/time.Duration(rate), e.Voters()...)
	type sample struct{ queued, packets, behind float64 }
	var samples []sample
	for next := length / 10; next <= length; next += length / 10 {
		time.Sleep(next - p.now())
		s := sample{queued: leader.Metric(t, "paddock_learner_queue_bytes"), packets: leader.Metric(t, "paddock_learner_queue_packets")}
		at := leader.Zxid(t)
		for _, m := range e.Members[3:] {
			s.behind = max(s.behind, float64(max(0, at-m.Zxid(t))))
		}
		samples = append(samples, s)
		t.Logf("after %v: the leader has %.0f B in %.0f packets queued for the slowest learner; the observer that is furthest behind lacks %.0f transactions", p.now().Round(time.Millisecond), s.queued, s.packets, s.behind)
	}
	end := p.now()
	writes := p.between(0, end)
	t.Logf("%.0f writes a second: %v", float64(writes.n)/end.Seconds(), writes)
	var all time.Duration
	memory := 0
	for i, m := range e.Members {
		used := cpuTime(t, m.PID()) - cpu[i]
		if m == leader {
			t.Logf("the leader has used %.0f %% of one processor", 100*used.Seconds()/end.Seconds())
		} else if m.Observer {
			all += used
			memory += residentBytes(t, m.PID())
		}
	}
	t.Logf("the observers have used %.2f %% each, and %d MiB each", 100*all.Seconds()/end.Seconds()/float64(observers), memory/observers>>20)
	p.stop()
	// They were at rest before; what grows is more in the last samples than it was
	// before, and does not become nothing.
	e.Settle(t)
	last := samples[len(samples)-3:]
	if least := slices.MinFunc(last, func(a, b sample) int { return int(a.packets - b.packets) }); least.packets > float64(rate) {
		t.Errorf("%.0f packets, more than a second's, wait for a learner to the end", least.packets)
	}
	if least := slices.MinFunc(last, func(a, b sample) int { return int(a.behind - b.behind) }); least.behind > 2*float64(rate) {
		t.Errorf("an observer is %.0f transactions behind to the end", least.behind)
	}
}
