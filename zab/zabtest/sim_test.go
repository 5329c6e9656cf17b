package zabtest

import (
	"flag"
	"os"
	"testing"
)

var playSeed = flag.Uint64("seed", 0, "print the trace of this seed")

func TestOne(t *testing.T) {
	o := Options{Seed: *playSeed, Servers: 3, Faults: None}
	if testing.Verbose() {
		o.Trace = os.Stderr
	}
	r := Run(o)
	t.Logf("%v events, %v simulated, %+v %v", r.Events, r.Simulated, r.Stats, r.Probes)
	if r.Violation != nil {
		t.Fatal(r.Violation)
	}
}

func TestMany(t *testing.T) {
	rules := map[string]int{}
	var first *Result
	var events int
	var simulated float64
	for seed := range uint64(*seeds) {
		r := Run(Options{Seed: *playSeed + seed, Faults: Level(*level)})
		events += r.Events
		simulated += r.Simulated.Seconds()
		if v := r.Violation; v != nil {
			rules[v.Rule]++
			text := v.Text
			if len(text) > 2000 {
				text = text[:2000]
			}
			if rules[v.Rule] <= 4 {
				t.Errorf("seed %d (%d faults): %s at %v: %s", r.Options.Seed, len(r.Plan), v.Rule, v.At, text)
			}
			if first == nil {
				first = &r
			}
		}
	}
	t.Logf("%d seeds, %d events, %.0f s: %v", *seeds, events, simulated, rules)
}

var (
	seeds = flag.Int("seeds", 20, "how many seeds")
	level = flag.Int("level", 2, "faults")
)

func TestTrace(t *testing.T) {
	r := Run(Options{Seed: *playSeed, Faults: Level(*level), Trace: os.Stdout})
	if r.Violation != nil {
		t.Fatal(r.Violation)
	}
}
