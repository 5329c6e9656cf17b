package checker

import (
	"slices"
	"testing"
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

// TestWhatIsRightIsAccepted runs every workload together and alone, and asks that
// enough was looked at.
func TestWhatIsRightIsAccepted(t *testing.T) {
	check := func(t *testing.T, seed uint64, workloads func(*Recorder) []Workload) *Report {
		t.Helper()
		w := newWorld(seed, 6, workloads)
		w.run(1500)
		rep, err := Check(w.rec.History(), slices.Values(w.log), w.options())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if rep.Tree.LastZxid() != w.leader.LastZxid() {
			t.Errorf("seed %d: the reference is at %v, want %v", seed, rep.Tree.LastZxid(), w.leader.LastZxid())
		}
		return rep
	}
	var sum Report
	for seed := range uint64(6) {
		rep := check(t, seed, allWorkloads(6))
		sum.Updates += rep.Updates
		sum.Refused += rep.Refused
		sum.Resolved += rep.Resolved
		sum.Unknown += rep.Unknown
		sum.Reads += rep.Reads
		sum.Syncs += rep.Syncs
		sum.Events += rep.Events
		sum.CatchUps += rep.CatchUps
		sum.Guarded += rep.Guarded
	}
	if sum.Updates < 3000 || sum.Refused < 500 || sum.Resolved == 0 || sum.Unknown <= sum.Resolved || sum.Reads < 3000 ||
		sum.Syncs < 50 || sum.Events < 500 || sum.CatchUps == 0 || sum.Guarded == 0 {
		t.Errorf("too little was looked at: %+v", sum)
	}
	for i, l := range Workloads(6, NewRecorder(nil)) {
		t.Run(l.Name, func(t *testing.T) {
			rep := check(t, 7, func(r *Recorder) []Workload { return Workloads(6, r)[i : i+1] })
			if rep.Updates < 100 {
				t.Errorf("only %d updates", rep.Updates)
			}
		})
	}
}

// TestEventsInTimeAreAccepted bounds the time until an event comes.
func TestEventsInTimeAreAccepted(t *testing.T) {
	w := newWorld(9, 4, allWorkloads(4))
	w.run(1500)
	opt := w.options()
	opt.WatchBound = Time(1e6) // the servers of the world are never further apart
	if _, err := Check(w.rec.History(), slices.Values(w.log), opt); err != nil {
		t.Error(err)
	}
	opt.WatchBound = 1
	if _, err := Check(w.rec.History(), slices.Values(w.log), opt); err == nil {
		t.Error("accepted with a bound that nobody can keep")
	}
}

// TestFollowersMirrorTheTree lets a mirror by one-shot watches end with what the
// tree holds.
func TestFollowersMirrorTheTree(t *testing.T) {
	w := newWorld(5, 4, func(*Recorder) []Workload { return []Workload{Follow()} })
	w.run(3000)
	for _, c := range w.clients {
		f, ok := c.worker.(*interleaved).workers[0].(*Follower)
		if !ok {
			continue
		}
		if c.conn == nil {
			c.connect()
		}
		if c.conn == nil {
			continue
		}
		c.server.catchUp(len(w.log))
		for a, ok := f.Next(w.rng); ok; a, ok = f.Next(w.rng) {
			c.issue(a)
			for c.call != nil {
				c.progress()
			}
		}
		if f.Fault != "" {
			t.Error(f.Fault)
		}
		names, _, _ := w.leader.Children("/follow", nil)
		for _, name := range names {
			data, st, _ := w.leader.Get("/follow/"+name, nil)
			if got, want := f.Mirror["/follow/"+name], (Mirrored{st.Mzxid, string(data)}); got != want {
				t.Errorf("client %d: /follow/%s is %v, want %v", c.num, name, got, want)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	w := newWorld(1, 20, allWorkloads(20))
	w.run(100000)
	h, opt := w.rec.History(), w.options()
	opt.Finals = nil
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Check(h, slices.Values(w.log), opt); err != nil {
			b.Fatal(err)
		}
	}
}
