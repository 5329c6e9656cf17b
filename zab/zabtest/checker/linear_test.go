package checker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paddockio/paddock/zab/wire"
)

// registers is a run of the workloads that Linearizable is for.
func registers(t *testing.T, seed uint64, entries int) *History {
	t.Helper()
	w := newWorld(seed, 5, func(*Recorder) []Workload { return []Workload{Registers(3), Sequences(2)} })
	w.run(entries)
	h, err := Resolve(w.rec.History(), slices.Values(w.log))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestLinearizableHistoriesAreAccepted(t *testing.T) {
	for seed := range uint64(5) {
		rep, err := Linearizable(registers(t, seed, 1500), LinearOptions{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if rep.Registers != 3 || rep.Sequences != 2 || rep.Operations < 700 {
			t.Errorf("seed %d: too little was looked at: %+v", seed, rep)
		}
	}
}

// TestUnknownOutcomesMayBeAnywhere searches without the help of the log.
func TestUnknownOutcomesMayBeAnywhere(t *testing.T) {
	w := newWorld(3, 5, func(*Recorder) []Workload { return []Workload{Registers(3)} })
	w.run(800)
	rep, err := Linearizable(w.rec.History(), LinearOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Unknown == 0 {
		t.Errorf("there were no unknown outcomes: %+v", rep)
	}
}

// TestNonlinearizableHistoriesAreRejected changes answers of good histories.
func TestNonlinearizableHistoriesAreRejected(t *testing.T) {
	for _, tc := range []struct {
		name   string
		mutate func(h *History) []*Entry
	}{
		{"two answers are swapped", func(h *History) []*Entry {
			a := pick(h, func(e *Entry) bool { return e.Op == wire.OpSetData && e.Err == wire.OK && e.Known() })
			b := pick(h, func(e *Entry) bool {
				return e.Op == wire.OpSetData && e.Err == wire.OK && e.Known() && e.Path == a.Path && e.Stat.Version != a.Stat.Version && e.Call > a.Return
			})
			a.Result, b.Result = b.Result, a.Result
			return []*Entry{a, b}
		}},
		{"a write is dropped", func(h *History) []*Entry {
			// Its value is read, or its version is the condition of the next.
			a := pick(h, func(e *Entry) bool {
				return e.Op == wire.OpSetData && e.Err == wire.OK && e.Known() && pick(h, func(o *Entry) bool {
					return o.Op == wire.OpSetData && o.Path == e.Path && o.Err == wire.OK && o.Known() && o.Stat.Version == e.Stat.Version+1 && o.Stat.Czxid == e.Stat.Czxid
				}) != nil
			})
			h.Entries = slices.DeleteFunc(h.Entries, func(e *Entry) bool { return e == a })
			return samePath(h, a)
		}},
		{"an old value is read", func(h *History) []*Entry {
			fresh := freshReads(h)
			for i, a := range fresh {
				for _, b := range fresh[i+1:] {
					if a.Path == b.Path && a.Err == wire.OK && b.Err == wire.OK && a.Stat.Mzxid < b.Stat.Mzxid && a.Return < b.Call-50000 {
						b.Value, b.Stat.Version = a.Value, a.Stat.Version
						return samePath(h, b)
					}
				}
			}
			return nil
		}},
		{"a condition that failed is said to hold", func(h *History) []*Entry {
			a := pick(h, func(e *Entry) bool { return e.Op == wire.OpSetData && e.Err == wire.ErrBadVersion && e.Known() })
			a.Err, a.Stat.Version = wire.OK, a.Version+1
			return samePath(h, a)
		}},
		{"a znode is made twice", func(h *History) []*Entry {
			a := pick(h, func(e *Entry) bool { return e.Op == wire.OpCreate2 && e.Err == wire.ErrNodeExists && e.Known() })
			a.Err = wire.OK
			return samePath(h, a)
		}},
		{"a number is given again", func(h *History) []*Entry {
			a := pick(h, func(e *Entry) bool { return e.Mode.IsSequential() && e.Err == wire.OK && e.Known() })
			b := pick(h, func(e *Entry) bool {
				return e.Mode.IsSequential() && e.Err == wire.OK && e.Known() && e.Path == a.Path && e.Call > a.Return+100000
			})
			b.Created = a.Created
			return samePath(h, b)
		}},
		{"a number is smaller than one before", func(h *History) []*Entry {
			numbered := func(e *Entry) bool { return e.Mode.IsSequential() && e.Err == wire.OK && e.Known() }
			a := pick(h, numbered)
			b := pick(h, func(e *Entry) bool { return numbered(e) && e.Path == a.Path && e.Call > a.Return+100000 })
			a.Created, b.Created = b.Created, a.Created
			return samePath(h, b)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := registers(t, 1, 1500)
			names := tc.mutate(h)
			if len(names) == 0 {
				t.Fatal("the history has nothing to change")
			}
			_, err := Linearizable(h, LinearOptions{})
			if err == nil {
				t.Fatalf("accepted; changed was %v", names[0])
			}
			if !namesOne(err, names) {
				t.Errorf("%v\ndoes not name any of %v", err, names[0])
			}
		})
	}
}

// TestNumbersNeedNoSearch has 16 clients get their numbers from last to first, again
// and again: a search would try all orders of each 16.
func TestNumbersNeedNoSearch(t *testing.T) {
	h := &History{}
	for i := range 20_000 {
		h.Entries = append(h.Entries, &Entry{
			Kind: Request, Seq: i + 1, Conn: i % 16, Call: Time(i), Return: Time(i/16*16 + 16),
			Args: create("/q/n", nil, wire.PersistentSequential), Result: Result{Created: fmt.Sprintf("/q/n%010d", i^15)},
		})
	}
	rep, err := Linearizable(h, LinearOptions{Limit: 100 * time.Millisecond})
	if err != nil || rep.Sequences != 1 || rep.Operations != 20_000 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestASearchThatEndsAtItsLimitIsNoPass gives it too many unknown outcomes.
func TestASearchThatEndsAtItsLimitIsNoPass(t *testing.T) {
	h := &History{}
	add := func(e Entry) {
		e.Seq = len(h.Entries) + 1
		e.Kind, e.Conn = Request, e.Seq
		h.Entries = append(h.Entries, &e)
	}
	add(Entry{Call: 0, Return: 10, Args: create("/r", nil, wire.Persistent)})
	for i := range 60 {
		add(Entry{Call: 20, Return: Never, Args: set("/r", []byte{byte(i)}, -1)})
	}
	add(Entry{Call: 30, Return: 40, Args: set("/r", nil, -1), Result: Result{Stat: wire.Stat{Version: 99}}})
	_, err := Linearizable(h, LinearOptions{Limit: 20 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "undecided: /r") {
		t.Errorf("got %v", err)
	}
}

// pick returns the first entry that fits, nil if there is none.
func pick(h *History, fits func(*Entry) bool) *Entry {
	for _, e := range h.Entries {
		if e.Kind == Request && fits(e) {
			return e
		}
	}
	return nil
}

func samePath(h *History, e *Entry) []*Entry {
	var list []*Entry
	for _, o := range h.Entries {
		if o.Kind == Request && o.Path == e.Path {
			list = append(list, o)
		}
	}
	return list
}

func freshReads(h *History) []*Entry {
	var list []*Entry
	last := map[int]*Entry{}
	for _, e := range h.Entries {
		if e.Kind != Request || !e.Known() {
			continue
		}
		if l := last[e.Conn]; e.Op == wire.OpGetData && l != nil && l.Op == wire.OpSync {
			list = append(list, e)
		}
		last[e.Conn] = e
	}
	return list
}
