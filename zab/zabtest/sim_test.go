package zabtest

import (
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	playSeed = flag.Uint64("seed", 0, "the first seed that TestSeeds plays")
	level    = flag.Int("faults", int(Default), "faults of the seeds: 0 default, 1 heavy, 2 none")
	first    = flag.Bool("first", false, "TestSeeds ends with the first seed that fails")
	trace    = flag.Bool("trace", false, "TestSeeds plays one seed and prints everything")
)

// TestMain collects garbage rarely: a run keeps little and drops much.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// seedsOf returns how many seeds to play, and for how long at most: a number for
// every commit, others by PADDOCK_SIM_SEEDS and PADDOCK_SIM_SECONDS.
func seedsOf(t *testing.T, usual int) (int, time.Time) {
	limit := time.Now().Add(time.Hour)
	number := func(name string) int {
		s := os.Getenv(name)
		if s == "" {
			return 0
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s=%q: %v", name, s, err)
		}
		return n
	}
	if n := number("PADDOCK_SIM_SEEDS"); n > 0 {
		usual = n
	}
	if n := number("PADDOCK_SIM_SECONDS"); n > 0 {
		limit = time.Now().Add(time.Duration(n) * time.Second)
		usual = 1 << 30
	}
	return usual, limit
}

// TestSeeds plays seeds. What fails is printed with its seed, and is played again
// with its trace by -seed N -trace.
func TestSeeds(t *testing.T) {
	if *trace {
		if r := Run(Options{Seed: *playSeed, Faults: Level(*level), Trace: os.Stdout}); r.Violation != nil {
			t.Fatal(r.Violation)
		}
		return
	}
	seeds, limit := seedsOf(t, 25)
	probes, faults, checks := map[string]int{}, map[FaultKind]int{}, map[string]int{}
	var simulated, elected, served time.Duration
	var events, writes, failed, played int
	begin := time.Now()
	for r := range playAll(*playSeed, seeds, limit) {
		played++
		simulated += r.Simulated
		events += r.Events
		writes += r.Stats.Writes
		elected, served = max(elected, r.Stats.Elected), max(served, r.Stats.Served)
		for k, n := range r.Stats.Faults {
			faults[k] += n
		}
		for k, n := range r.Probes {
			probes[k] += n
		}
		for k, n := range r.Checks {
			checks[k] += n
		}
		if r.Violation != nil {
			t.Errorf("seed %d, faults %d: %v", r.Options.Seed, *level, r.Violation)
			if failed++; failed == 10 || *first {
				break
			}
		}
	}
	took := time.Since(begin)
	t.Logf("%d seeds, %v simulated in %v (%.0f to 1), %d events, %d writes; longest election %v, write behind it %v",
		played, simulated.Round(time.Second), took.Round(time.Millisecond), simulated.Seconds()/took.Seconds(), events, writes, elected, served)
	t.Logf("faults: %v", counts(faults))
	t.Logf("probes: %v", counts(probes))
	t.Logf("rules: %v", counts(checks))
	never := missed(t, probes)
	for rule, n := range checks {
		if n == 0 {
			never = append(never, rule)
		}
	}
	slices.Sort(never)
	t.Logf("never hit: %q", never)
	if played >= enoughSeeds && Level(*level) == Heavy && failed == 0 && len(never) > 0 {
		t.Errorf("%d seeds with heavy faults never come to %q: what is not reached is not tested", played, never)
	}
}

// enoughSeeds is how many seeds with heavy faults must have reached every probe and
// looked at every rule.
const enoughSeeds = 700

// playAll plays seeds on all processors until limit, and yields the results in the
// order of the seeds.
func playAll(from uint64, count int, limit time.Time) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		workers := min(runtime.GOMAXPROCS(0), count)
		runs := make([]chan Result, workers)
		start := func(i int) {
			run := make(chan Result, 1)
			runs[i%workers] = run
			go func() { run <- Run(Options{Seed: from + uint64(i), Faults: Level(*level)}) }()
		}
		for i := range workers {
			start(i)
		}
		for i := range count {
			r := <-runs[i%workers]
			if more := i+workers < count && time.Now().Before(limit); more {
				start(i + workers)
			} else {
				runs[i%workers] = nil
			}
			if !yield(r) || runs[(i+1)%workers] == nil {
				return
			}
		}
	}
}

// tooRare are probes that one in a thousand seeds hits, or fewer.
var tooRare = []string{
	// A server repeats what others say it once voted, before a TRUNC and a restart.
	"old vote for itself",
	// A leader was paused and sends a ping before it reads that a follower is gone.
	"message for a link that is gone",
	// A leader's log is purged between two looks at it.
	"stream failed",
	// TRUNC to below a snapshot that was installed from a leader that never served.
	"trunc not possible",
}

var (
	probeCall = regexp.MustCompile(`probe\("([^"]+)"`)
	jobName   = regexp.MustCompile(`job\{"([^"]+)"`)
)

// missed lists the probes in the code of this package that were not hit.
func missed(t *testing.T, hit map[string]int) []string {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var probes, jobs []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range probeCall.FindAllStringSubmatch(string(b), -1) {
			probes = append(probes, m[1])
		}
		for _, m := range jobName.FindAllStringSubmatch(string(b), -1) {
			jobs = append(jobs, m[1])
		}
	}
	list := []string{}
	for _, p := range probes {
		names := []string{p}
		if strings.HasSuffix(p, " ") {
			names = nil
			for _, j := range append(jobs, "accepted epoch", "current epoch") {
				names = append(names, p+j)
			}
		}
		for _, name := range names {
			if hit[name] == 0 && !slices.Contains(list, name) && !slices.Contains(tooRare, name) {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return list
}

func counts[K comparable](m map[K]int) string {
	var list []string
	for k, n := range m {
		list = append(list, fmt.Sprintf("%v %d", k, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// TestSameSeedSameRun is the foundation of everything else: a run can be repeated.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(3) {
		o := Options{Seed: seed, Faults: Heavy, Faulty: 30 * time.Second}
		a, b := Run(o), Run(o)
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("seed %d: hash %x after %d events, then %x after %d", seed, a.Hash, a.Events, b.Hash, b.Events)
		}
		o.Seed += 1000
		if c := Run(o); c.Hash == a.Hash {
			t.Errorf("seeds %d and %d are the same run", seed, o.Seed)
		}
	}
}

// BenchmarkThreeServers says how much faster than the clock three servers are
// played, with faults and clients as the seeds draw them.
func BenchmarkThreeServers(b *testing.B) {
	seed, simulated := uint64(0), time.Duration(0)
	for b.Loop() {
		r := Run(Options{Seed: seed, Servers: 3, Observers: -1})
		if r.Violation != nil {
			b.Fatal(seed, r.Violation)
		}
		seed, simulated = seed+1, simulated+r.Simulated
	}
	b.ReportMetric(simulated.Seconds()/b.Elapsed().Seconds(), "simulated-s/s")
}
