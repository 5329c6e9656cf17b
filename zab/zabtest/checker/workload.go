package checker

import (
	"fmt"
	"math/rand/v2"

	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/wire"
)

// A Worker is one client of a workload: it says what to do next, and is told what
// came of it. It has one operation under way at a time. Equal answers and equal
// random numbers give equal operations. It is not safe for concurrent use.
type Worker interface {
	// Next returns the next operation. false means that the worker waits for an
	// event, or for others: ask again after an event, or after a while.
	Next(rng *rand.Rand) (Args, bool)

	// Done tells the answer to the operation that Next returned last; res is nil if
	// nobody knows its outcome.
	Done(args *Args, res *Result)

	// Event tells that something changed at a path that the worker watches; also, with
	// EventNone and no path, that its watches may have missed something.
	Event(typ wire.EventType, path string)

	// Session tells the session that later operations belong to. What an earlier one
	// had made is gone, or will be. It comes before the first Next.
	Session(id zab.SessionID)
}

// A Workload is what several clients do together.
type Workload struct {
	Name string

	// Setup is done once, in order, before any worker begins. An answer that the
	// znode exists is fine.
	Setup []Args

	// Worker returns the part of client i, counted from 0.
	Worker func(i int) Worker

	// Banks are to be given to Check.
	Banks []Bank
}

// Workloads returns all workloads for a number of clients, with guards that write
// into the history of r.
func Workloads(clients int, r *Recorder) []Workload {
	return []Workload{
		Registers(3), Set(), Sequences(2), Counter(), NewBank(4, 1000), Lock(r), Election(), Barrier(clients),
		Queue(), Membership(), Follow(), Mixed(),
	}
}

// Interleaved returns a worker that does the work of several, each a piece at a
// time.
func Interleaved(workers ...Worker) Worker { return &interleaved{workers: workers} }

type interleaved struct {
	workers []Worker
	busy    int
}

func (w *interleaved) Next(rng *rand.Rand) (Args, bool) {
	at := rng.IntN(len(w.workers))
	for i := range w.workers {
		w.busy = (at + i) % len(w.workers)
		if a, ok := w.workers[w.busy].Next(rng); ok {
			return a, true
		}
	}
	return Args{}, false
}

func (w *interleaved) Done(a *Args, r *Result) { w.workers[w.busy].Done(a, r) }

func (w *interleaved) Event(typ wire.EventType, path string) {
	for _, o := range w.workers {
		o.Event(typ, path)
	}
}

func (w *interleaved) Session(id zab.SessionID) {
	for _, o := range w.workers {
		o.Session(id)
	}
}

// base is what most workers have: no interest in events, and a name for values
// that nobody else writes.
type base struct {
	client  int
	session zab.SessionID
	count   int
}

func (b *base) Event(wire.EventType, string) {}
func (b *base) Session(id zab.SessionID)     { b.session = id }

// value is different each time.
func (b *base) value() []byte {
	b.count++
	return fmt.Appendf(nil, "%d-%d", b.client, b.count)
}

func mkdir(path string) Args { return Args{Op: wire.OpCreate, Path: path} }

func create(path string, data []byte, mode wire.CreateMode) Args {
	op := wire.OpCreate2
	if mode == wire.Container {
		op = wire.OpCreateContainer
	}
	return Args{Op: op, Path: path, Data: data, Mode: mode}
}

func set(path string, data []byte, version int32) Args {
	return Args{Op: wire.OpSetData, Path: path, Data: data, Version: version}
}

func remove(path string, version int32) Args {
	return Args{Op: wire.OpDelete, Path: path, Version: version}
}

func read(path string) Args { return Args{Op: wire.OpGetData, Path: path} }

func list(path string, watch bool) Args {
	return Args{Op: wire.OpGetChildren2, Path: path, Watch: watch}
}

// Registers writes and reads few znodes, also by condition on the version that
// was read before, and reads behind a sync. It is what Linearizable is for.
func Registers(znodes int) Workload {
	return Workload{
		Name:  "registers",
		Setup: []Args{mkdir("/register")},
		Worker: func(i int) Worker {
			return &register{base: base{client: i}, znodes: znodes, versions: map[string]int32{}}
		},
	}
}

type register struct {
	base
	znodes   int
	versions map[string]int32
	fresh    string // read it: the sync is done
}

func (w *register) Next(rng *rand.Rand) (Args, bool) {
	if w.fresh != "" {
		a := read(w.fresh)
		w.fresh = ""
		return a, true
	}
	path := fmt.Sprintf("/register/%d", rng.IntN(w.znodes))
	version := int32(-1)
	if v, ok := w.versions[path]; ok && rng.IntN(3) > 0 {
		version = v
	}
	switch n := rng.IntN(10); {
	case n < 2:
		return create(path, w.value(), wire.Persistent), true
	case n < 3:
		return remove(path, version), true
	case n < 6:
		return set(path, w.value(), version), true
	case n < 8:
		w.fresh = path
		return Args{Op: wire.OpSync, Path: path}, true
	default:
		return read(path), true
	}
}

func (w *register) Done(a *Args, r *Result) {
	if r == nil || r.Err != wire.OK {
		w.fresh = "" // not behind a sync then
		delete(w.versions, a.Path)
		return
	}
	switch a.Op {
	case wire.OpCreate2, wire.OpSetData, wire.OpGetData:
		w.versions[a.Path] = r.Stat.Version
	case wire.OpDelete:
		delete(w.versions, a.Path)
	}
}

// Set makes and deletes children of one znode, each with a name that is used once,
// and lists them.
func Set() Workload {
	return Workload{
		Name:   "set",
		Setup:  []Args{mkdir("/set")},
		Worker: func(i int) Worker { return &setWorker{base: base{client: i}} },
	}
}

type setWorker struct {
	base
	mine []string
}

func (w *setWorker) Next(rng *rand.Rand) (Args, bool) {
	switch n := rng.IntN(10); {
	case n < 4 || len(w.mine) == 0:
		return create("/set/"+string(w.value()), nil, wire.Persistent), true
	case n < 7:
		at := rng.IntN(len(w.mine))
		path := w.mine[at]
		w.mine[at] = w.mine[len(w.mine)-1]
		w.mine = w.mine[:len(w.mine)-1]
		return remove(path, -1), true
	case n < 8:
		return Args{Op: wire.OpGetAllChildrenNumber, Path: "/set"}, true
	default:
		return list("/set", false), true
	}
}

func (w *setWorker) Done(a *Args, r *Result) {
	if a.Op == wire.OpCreate2 && (r == nil || r.Err == wire.OK) {
		w.mine = append(w.mine, a.Path)
	}
}

// Sequences makes znodes with numbers below few parents, and deletes some, also
// the latest.
func Sequences(parents int) Workload {
	w := Workload{Name: "sequences", Setup: []Args{mkdir("/seq")}}
	for i := range parents {
		w.Setup = append(w.Setup, mkdir(fmt.Sprintf("/seq/%d", i)))
	}
	w.Worker = func(i int) Worker { return &sequence{base: base{client: i}, parents: parents} }
	return w
}

type sequence struct {
	base
	parents int
	mine    []string
}

func (w *sequence) Next(rng *rand.Rand) (Args, bool) {
	if len(w.mine) > 0 && (rng.IntN(3) == 0 || len(w.mine) > 10) {
		path := w.mine[len(w.mine)-1]
		w.mine = w.mine[:len(w.mine)-1]
		return remove(path, -1), true
	}
	mode := wire.PersistentSequential
	if rng.IntN(3) == 0 {
		mode = wire.EphemeralSequential
	}
	return create(fmt.Sprintf("/seq/%d/n-", rng.IntN(w.parents)), w.value(), mode), true
}

func (w *sequence) Done(a *Args, r *Result) {
	if a.Op == wire.OpCreate2 && r != nil && r.Err == wire.OK {
		w.mine = append(w.mine, r.Created)
	}
}

// Counter adds to a number in a znode, by condition on its version.
func Counter() Workload {
	return Workload{
		Name:   "counter",
		Setup:  []Args{mkdir("/counter"), create("/counter/n", []byte("0"), wire.Persistent)},
		Worker: func(i int) Worker { return &counter{} },
	}
}

type counter struct {
	base
	value   int
	version int32
	known   bool
}

func (w *counter) Next(*rand.Rand) (Args, bool) {
	if !w.known {
		return read("/counter/n"), true
	}
	w.known = false
	return set("/counter/n", fmt.Appendf(nil, "%d", w.value+1), w.version), true
}

func (w *counter) Done(a *Args, r *Result) {
	if a.Op == wire.OpGetData && r != nil && r.Err == wire.OK {
		_, err := fmt.Sscan(string(r.Value), &w.value)
		w.version, w.known = r.Stat.Version, err == nil
	}
}

// NewBank moves amounts between accounts, which hold total together.
func NewBank(accounts int, total int64) Workload {
	w := Workload{Name: "bank", Setup: []Args{mkdir("/bank")}}
	b := Bank{Total: total}
	for i := range accounts {
		path := fmt.Sprintf("/bank/%d", i)
		amount := total / int64(accounts)
		if i == 0 {
			amount += total % int64(accounts)
		}
		b.Accounts = append(b.Accounts, path)
		w.Setup = append(w.Setup, create(path, fmt.Appendf(nil, "%d", amount), wire.Persistent))
	}
	w.Banks = []Bank{b}
	w.Worker = func(i int) Worker { return &teller{accounts: b.Accounts} }
	return w
}

type teller struct {
	base
	accounts []string
	from, to int
	amounts  [2]int64
	versions [2]int32
	known    bool
}

func (w *teller) Next(rng *rand.Rand) (Args, bool) {
	if !w.known {
		w.from = rng.IntN(len(w.accounts))
		w.to = (w.from + 1 + rng.IntN(len(w.accounts)-1)) % len(w.accounts)
		if rng.IntN(4) == 0 { // look at all
			a := Args{Op: wire.OpMultiRead}
			for _, path := range w.accounts {
				a.Sub = append(a.Sub, read(path))
			}
			return a, true
		}
		return Args{Op: wire.OpMultiRead, Sub: []Args{read(w.accounts[w.from]), read(w.accounts[w.to])}}, true
	}
	w.known = false
	amount := rng.Int64N(50) + 1
	sub := []Args{
		set(w.accounts[w.from], fmt.Appendf(nil, "%d", w.amounts[0]-amount), w.versions[0]),
		set(w.accounts[w.to], fmt.Appendf(nil, "%d", w.amounts[1]+amount), w.versions[1]),
	}
	if rng.IntN(4) == 0 {
		sub = append(sub, Args{Op: wire.OpCheck, Path: "/bank", Version: 0})
	}
	return Args{Op: wire.OpMulti, Sub: sub}, true
}

func (w *teller) Done(a *Args, r *Result) {
	if a.Op != wire.OpMultiRead || r == nil || r.Err != wire.OK || len(r.Results) != 2 {
		return
	}
	for i := range r.Results {
		if r.Results[i].Err != wire.OK {
			return
		}
		if _, err := fmt.Sscan(string(r.Results[i].Value), &w.amounts[i]); err != nil {
			return
		}
		w.versions[i] = r.Results[i].Stat.Version
	}
	w.known = true
}
