package checker

import (
	"slices"
	"testing"
	"time"
)

func allWorkloads(clients int) func(*Recorder) []Workload {
	return func(r *Recorder) []Workload { return Workloads(clients, r) }
}

func (w *world) options() Options {
	opt := Options{Banks: w.banks, WatchBound: 0}
	opt.Config.Digest = true
	for _, s := range w.servers {
		opt.Finals = append(opt.Finals, Final{s.name, s.tree})
	}
	return opt
}

// TestWhatIsRightIsAccepted runs every workload together and alone.
func TestWhatIsRightIsAccepted(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(seed, 6, allWorkloads(6))
		w.run(3000)
		h := w.rec.History()
		rep, err := Check(h, slices.Values(w.log), w.options())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		t.Logf("seed %d: %+v", seed, *rep)
	}
}

// TestChecksAreFast holds Check to a hundred thousand operations in well under a
// second.
func TestChecksAreFast(t *testing.T) {
	w := newWorld(1, 20, allWorkloads(20))
	w.run(100000)
	h := w.rec.History()
	began := time.Now()
	rep, err := Check(h, slices.Values(w.log), w.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries in %v: %+v", len(h.Entries), time.Since(began), *rep)
}
